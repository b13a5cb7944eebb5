"""What the steps of one run share, and what is checked before anything is trained."""

import copy
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.audio import augment
from light_sernet_kd.config import Dimensions, RunOptions, Settings, distillation_spec, user_callbacks
from light_sernet_kd.config.checks import check_source
from light_sernet_kd.config.engine import engine_here
from light_sernet_kd.data import signatures
from light_sernet_kd.data.augmenter import Augmenter, augmenter
from light_sernet_kd.data.protocols import PROTOCOLS, Fold
from light_sernet_kd.data.run_folder import RunFolder, Step
from light_sernet_kd.data.selection import selected
from light_sernet_kd.distillation.losses import settings_of
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment import config_file, start
from light_sernet_kd.experiment.alone import settings_alone
from light_sernet_kd.experiment.networks import forecast, inputs, phases
from light_sernet_kd.experiment.results import evidence
from light_sernet_kd.experiment.teachers import teacher, unlabelled
from light_sernet_kd.registries.engines import ENGINES, TRAINS_ALL
from light_sernet_kd.registries.losses import LABEL_LOSSES
from light_sernet_kd.registries.recipes import RECIPES
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.reporting.text import pluralise

if TYPE_CHECKING:
    from light_sernet_kd.data.unlabelled import Clips
    from light_sernet_kd.training.job import DivergenceError, TrainingResult
    from light_sernet_kd.training.network import Network
    from light_sernet_kd.training.teacher_networks import TeacherNetworks


class Experiment:
    """What the steps of one run share: its corpus, features, folds, teacher and networks.

    Attributes:
        settings: with the student's front end and schedule where none was named.
        folder: the run's.
        selection: the utterances and folds; `corpus`, `utterances`, `classes` and `folds` are its own.
        label_settings, distillation_settings: of the losses.
        teacher: the teacher of a file, or one that is made for all folds at once; None where the run trains
            its own per fold, or has none.
        unlabelled: the clips without labels that train too; None where there are none.
        start: the run that its students begin from; None where they begin anew.
        multimodal: role → encoders, of the networks of speech and text.
        config: what config.json holds.
        arithmetic: `float32` or `bfloat16`.
        ahead: (role, fold's name) → what the training left of a network that was trained with others.
        engine: its name: what trains, or trained, its folds.
        factories: of the user's callbacks.
        no_babble_in: a fold that trains on one speaker, where the recipe's babble is left out for it.
    """

    def __init__(
        self,
        settings: Settings,
        options: RunOptions,
        folder: Path,
        display: Display,
        command: str = "",
        engine: str | None = None,
        *,
        teaches: bool = False,
    ):
        """With `teaches`, no student learns: unlabelled recordings may be those that test."""
        self.options, self.display, self.folder = options, display, RunFolder(folder)
        entry = STUDENTS[settings.student]
        self.front_end: str = settings.front_end or entry.front_end
        self.settings = settings = dataclasses.replace(
            settings, front_end=self.front_end, schedule=settings.schedule or entry.schedule
        )
        self.protocol = PROTOCOLS[settings.protocol]
        if settings.teacher is not None:
            check_source(settings.teacher, settings)
        self._read_methods()
        self.engine = engine or engine_here(settings, keras.backend.backend())
        self._check_packages()
        self.factories = tuple(map(user_callbacks.load, options.callbacks))
        self.selection = selection = selected(settings, options.data)
        self.corpus, self.utterances = selection.corpus, selection.utterances
        self.classes, self.folds = selection.classes, selection.folds
        self._leave_babble_out()
        self.soft_labels = selection.soft_labels if settings.soft_labels else None
        self.unlabelled: Clips | None = unlabelled.surveyed(self, may_leak=teaches)
        self.start: start.Start | None = start.start_of(self)
        self.forecast: forecast.Forecast | None = None  # where it is known what is to be trained
        # Made when they are first asked for.
        self.networks: dict[tuple[str, int], Network] = {}
        self.ahead: dict[tuple[str, str], TrainingResult | DivergenceError] = {}
        self.phases: dict[str, list[phases.Phase]] = {}
        self.feature_rows: dict[str, Any] = {}
        self.clip_rows: dict[str, Any] = {}
        self.batch_teachers: dict[str, TeacherNetworks] = {}
        self.teacher = teacher.read_teacher(self)
        self.multimodal = inputs.multimodal_networks(self)
        phases.check_encoders(self)
        phases.check_devices(self)
        self.config = config_file.begun(self, command)
        self.arithmetic: str = self.config["resolved"]["arithmetic"]
        self.teacher = self.teacher or teacher.made_teacher(self)
        self._say_what_runs()

    def _read_methods(self) -> None:
        settings = self.settings
        fields = LABEL_LOSSES[settings.label_loss].fields
        self.label_settings = {name: getattr(settings, field) for name, field in fields.items()}
        self.distillation_settings = settings_of(settings.distillation, settings.distillation_weights)
        self.augmentations = augment.parse(settings.augmentation) if settings.augmentation else ()
        self.distillation = distillation_spec.parse(settings.distillation)
        if self.distillation.needs_teacher:
            augment.check_teacher(self.augmentations)

    def _leave_babble_out(self) -> None:
        """Leave the recipe's babble out, which is made of other speakers, where a fold trains on one alone.

        Babble that the user asked for stays, and is refused.
        """
        self.no_babble_in: str | None = None
        recipe = RECIPES[self.settings.recipe].settings
        if self.settings.augmentation != recipe.get("augmentation"):
            return
        rest = tuple(each for each in self.augmentations if each.kind.needs != "others")
        lone = [fold.name for fold in self.folds if len(self.selection.speakers(fold.train)) == 1]
        if lone and len(rest) < len(self.augmentations):
            self.augmentations, self.no_babble_in = rest, lone[0]

    def _check_packages(self) -> None:
        augment.check_installed(self.augmentations)
        if self.options.tensorboard and not ENGINES[self.engine].takes_callbacks:
            raise UserError(f"--engine {self.engine} writes no logs of TensorBoard: leave out --tensorboard.")
        if self.options.callbacks and not ENGINES[self.engine].takes_callbacks:
            raise UserError(
                f"--engine {self.engine} calls no callbacks: give --engine {TRAINS_ALL}, or leave out "
                f"{user_callbacks.OPTION}."
            )

    def _say_what_runs(self) -> None:
        synthetic = ", SYNTHETIC recordings" if self.corpus.synthetic else ""
        speakers = self.selection.speakers(range(len(self.utterances)))
        self.display.say(
            f"{self.corpus.name}{synthetic}: {len(self.utterances)} utterances, "
            f"{self.learns}, {pluralise(len(speakers), 'speaker')}. Protocol {self.settings.protocol}: "
            f"{pluralise(len(self.folds), 'fold')}. Results: {self.folder.path}"
        )
        for line in self.corpus.reported():
            self.display.say(f"  {line}")
        if babble := self.babble_note:
            self.display.say(f"  {babble}")
        for role, count in phases.shared_roles(self).items():
            self.display.say(f"  {count} devices share each batch of the {role}.")

    @property
    def has_classes(self) -> bool:
        """Whether the students tell emotions apart, and do not give ratings alone."""
        return not self.settings.dimensions_only

    @property
    def learns(self) -> str:
        """What the students are to give, in words."""
        if self.has_classes:
            return f"{len(self.classes)} emotions"
        return f"ratings of {' and '.join(self.settings.dimensions)}"

    @property
    def babble_note(self) -> str:
        """That the recipe's babble is left out, for the user; empty where it is not."""
        if self.no_babble_in is None:
            return ""
        return (
            f"Babble, of the recipe {self.settings.recipe}, is left out: it is made of other speakers, and "
            f"fold {self.no_babble_in} trains on one alone."
        )

    def without_teacher(self, folder: Path) -> "Experiment":
        """The same run with `folder` as its own and the student alone, for a training on the side.

        Both read the same features; neither has the other's networks.
        """
        _ = self.augmenter  # made once for both
        alone = copy.copy(self)
        alone.folder, alone.settings = RunFolder(folder), settings_alone(self.settings)
        alone.options = dataclasses.replace(self.options, tensorboard=False)
        alone.factories = ()
        alone.teacher, alone.unlabelled, alone.forecast = None, None, None
        alone.networks, alone.phases, alone.ahead = {}, {}, {}
        alone._read_methods()
        alone._leave_babble_out()
        return alone

    def step(self, fold: Fold) -> Step:
        """The folder of a fold's student, or of the final one."""
        return self.folder.fold(fold.name)

    def scores(self, fold: Fold, logits: np.ndarray) -> dict[str, Any]:
        """Scores of logits `(len(fold.test), classes)` on the fold's test set; none without classes."""
        if not self.has_classes:
            return {}
        labels = self.selection.labels[list(fold.test)]
        return evaluation.scores(labels, logits.argmax(axis=1), self.classes).as_dict()

    @property
    def cache_folder(self) -> Path:
        return self.options.result / ".cache"

    @property
    def corpus_digest(self) -> str:
        return self.selection.digest

    @functools.cached_property
    def augmenter(self) -> Augmenter | None:
        made = augmenter(
            self.augmentations,
            self.utterances,
            self.selection.fingerprints,
            front_end=self.front_end,
            input_type=self.settings.input_type,
            samples=self.settings.samples,
            cache_folder=self.cache_folder,
            memory_limit=self.options.memory_bytes,
        )
        return made and dataclasses.replace(made, every=self.settings.augment_every)

    @functools.cached_property
    def measured(self) -> signatures.Measured:
        """What was read of every recording: its signature, and the facts of its file."""
        cache = self.cache_folder if self.options.cache == "disk" else None
        return signatures.measure(self.utterances, self.selection.fingerprints, cache)

    @functools.cached_property
    def data_warnings(self) -> list[str]:
        """What the corpus and its folds show before anything is trained."""
        return evidence.data_warnings(self)

    @functools.cached_property
    def stamps(self) -> list[str]:
        """What a reader must know before believing the scores."""
        return evidence.stamps(self)

    @functools.cached_property
    def test_rows(self) -> list[int]:
        """The utterances that are tested, fold after fold."""
        return [row for fold in self.folds for row in fold.test]

    @property
    def dimensions(self) -> Dimensions | None:
        """The ratings that are learned, and the ends of the corpus's scale; None where none are."""
        ends = self.corpus.dimension_range
        return Dimensions(self.settings.dimensions, ends) if self.settings.dimensions and ends else None

    @property
    def test_labels(self) -> np.ndarray:
        return self.selection.labels[self.test_rows]

    @property
    def test_speakers(self) -> list[str]:
        return [self.utterances[row].speaker for row in self.test_rows]
