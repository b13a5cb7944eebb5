"""A whole experiment: every fold of a protocol, the results folder, and the exported student.

Each step leaves its outcome in the run's folder and is not done again: the same command continues a run
that was interrupted at any moment, and ends with the same files. They are the same bit for bit where the
processor and the number of threads are: others sum in another order.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import __version__, evaluation, students, teachers
from light_sernet_kd.analysis import audit, explain, training_list
from light_sernet_kd.analysis.compare import read_run
from light_sernet_kd.arrays import open_mapped, read_arrays
from light_sernet_kd.audio import augment, lengths
from light_sernet_kd.config import (
    CALIBRATION_CLIPS,
    PRECISIONS,
    SAMPLE_RATE,
    RunOptions,
    Settings,
    corpus_name,
    distillation_spec,
    make_settings,
)
from light_sernet_kd.corpora import same_names
from light_sernet_kd.corpora.registry import CORPORA, origin
from light_sernet_kd.data import batches, ties
from light_sernet_kd.data.protocols import ALL_SPEAKERS, PROTOCOLS, Fold, fold_seed, select, stamps_of
from light_sernet_kd.data.selection import Selection, representative, selected
from light_sernet_kd.distillation.batch_keys import EMBEDDING, FEATURES, LOGITS
from light_sernet_kd.distillation.distiller import TeacherWidths, text_states_of
from light_sernet_kd.distillation.losses import settings_of
from light_sernet_kd.errors import UserError, install_line
from light_sernet_kd.features import feature_shape
from light_sernet_kd.files import (
    LOCK,
    JsonError,
    atomic,
    locked,
    nothing_but,
    path_part,
    read_json,
    sha256,
    sweep,
    write_arrays,
    write_json,
    write_text,
)
from light_sernet_kd.registries.losses import LABEL_LOSSES, NO_TEACHER
from light_sernet_kd.registries.schedules import SCHEDULES, Schedule
from light_sernet_kd.registries.students import STUDENTS, is_multimodal
from light_sernet_kd.registries.teachers import teacher_source
from light_sernet_kd.reporting import figures
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.reporting.report import CALIBRATED, counted, report
from light_sernet_kd.runner import NO_TEXT
from light_sernet_kd.teachers.probe import PARTS, held_out_parts
from light_sernet_kd.teachers.sources import Workplace, teacher_of
from light_sernet_kd.training.accelerate import arithmetic as resolved_arithmetic
from light_sernet_kd.training.accelerate import threads
from light_sernet_kd.training.history import read_history, write_history
from light_sernet_kd.training.job import DivergenceError, Examples, TeacherOutputs, Trained, TrainingJob
from light_sernet_kd.training.network import Network, NetworkSpec, load_student

if TYPE_CHECKING:
    from light_sernet_kd.encoders.multimodal import SpeechAndText


def default_run_name(settings: Settings) -> str:
    """A name that says what a run is, and differs when a setting differs."""
    corpus = corpus_name(settings.corpus)
    length = f"{settings.samples / SAMPLE_RATE:g}s"
    parts = [corpus, settings.student, settings.input_type, length, settings.distillation, settings.protocol]
    return path_part("-".join([*parts, settings.digest()]))


# What a fold's training leaves beside fold.json, which vouches for their content, and what follows from them.
_FOLD_FILES = (
    "history.csv",
    "student.keras",
    "test_embeddings.npz",
    "test_logits.npz",
    "tflite_probabilities.npz",
    "training_logits.npz",
    "validation_logits.npz",
)
# Training utterances that tell how sharp a fold's student is; more do not change its mean margin.
MOST_HEARD = 1000

# What a start that failed leaves.
_LEFTOVERS = (LOCK, "config.json")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder, so that two processes never train the same run; sweep what a killed one left."""
    with locked(folder, _LEFTOVERS):
        sweep(folder)
        sweep(folder.parent / ".cache", older_than=60)  # other runs may be writing there
        yield


def train(settings: Settings, options: RunOptions, display: Display, *, command: str = "") -> Path:
    """Run the experiment that `settings` describe; returns its folder.

    Raises:
        UserError: what the user can mend, before any training begins.
    """
    folder = options.result / path_part(options.run or default_run_name(settings))
    with _locked(folder):
        run = _Run(settings, options, folder, display, command)
        for text in run.data_warnings:
            display.say(f"  Warning: {text}")
        outcomes = [run.fold(fold) for fold in run.folds]
        exported = run.export(outcomes) if settings.export else None
        run.write_results(outcomes, exported)
    return folder


def teach(settings: Settings, options: RunOptions, display: Display, *, out: Path | None = None) -> Path:
    """Train the teacher of every fold, and one on all speakers; returns the teacher file."""
    settings = dataclasses.replace(
        settings, distillation="KD", teacher=settings.teacher or "auto", export=True
    )
    name = options.run or f"teacher-{default_run_name(settings)}"
    folder = options.result / path_part(name)
    with _locked(folder):
        run = _Run(settings, options, folder, display, "")
        for text in ties.findings(run.folds, run.utterances).warnings:
            display.say(f"  Warning: {text}")
        folds = [*run.folds, run.selection.final_fold]
        made = [run.own_teacher(fold) for fold in run.folds]
        made.append(run.own_teacher(folds[-1], epochs=run.final_teacher_epochs()))
        path = out or folder / "teacher.npz"
        teachers.write(
            path,
            teachers.Teacher(
                ids=tuple(utterance.id for utterance in run.utterances),
                classes=run.classes,
                logits=np.concatenate([teacher.logits for teacher in made]),
                folds=tuple(fold.name for fold in folds),
                card={
                    "made_by": run.teacher_name(),
                    "corpus": run.corpus.name,
                    "protocol": settings.protocol,
                    "seed": settings.seed,
                    "train_speakers": teachers.train_speakers(folds, run.utterances),
                },
                embeddings=np.concatenate([np.asarray(teacher.embeddings) for teacher in made]),
            ),
        )
    return path


def teach_from(
    source: str,
    settings: Settings,
    options: RunOptions,
    display: Display,
    *,
    fine_tune: bool = False,
    out: Path | None = None,
) -> Path:
    """Make the teacher that `source` names (see `registries.teachers`); returns the teacher file."""
    decides = [settings.digest(), source, fine_tune]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:8]
    corpus = corpus_name(settings.corpus)
    name = options.run or f"teacher-{corpus}-{Path(source).name}-{settings.protocol}-{digest}"
    folder = options.result / path_part(name)
    with _locked(folder):
        selection = selected(settings, options.data)
        display.say(f"{selection.corpus.name}: {len(selection.utterances)} utterances, {source}. In {folder}")
        for line in selection.corpus.reported():
            display.say(f"  {line}")
        for text in ties.findings(selection.folds, selection.utterances).warnings:
            display.say(f"  Warning: {text}")
        with display.counted("embeddings") as shown:
            cache = options.result / ".cache" / "embeddings"
            workplace = Workplace(options.data, cache, folder, fine_tune=fine_tune, progress=shown)
            teacher = teacher_of(source, selection, settings, workplace, option="--from")
        path = out or folder / "teacher.npz"
        teachers.write(path, teacher)
    for fold in selection.folds:
        logits = teachers.aligned(teacher, selection.utterances, selection.classes, fold.name)
        rows = list(fold.test)
        scores = evaluation.scores(selection.labels[rows], logits[rows].argmax(axis=1), selection.classes)
        display.say(f"fold {fold.name}: teacher UA {100 * scores.ua:.1f} %, WA {100 * scores.wa:.1f} %")
    return path


def fold_files(
    folder: Path, to: Path, *, data: Path, precisions: Sequence[str], folds: Sequence[str] = ()
) -> tuple[Selection, list[tuple[Fold, dict[str, Path]]]]:
    """The students of a finished run's folds as exported files that take audio, written below `to`.

    Returns:
        What the run works on, and per fold its files by precision.

    Args:
        folds: names of some; by default all that the run has.

    Raises:
        UserError: the run is not finished, its students do not hear alone, or its corpus has changed.
    """
    run = read_run(folder)
    settings = make_settings(**run.settings)
    if is_multimodal(settings.student):
        raise UserError(
            f"{folder} has students of {settings.student}, which read or hear through encoders: expected "
            "students that hear alone."
        )
    # What it learned from is of no matter here, and need not be there any more.
    alone = dataclasses.replace(
        settings, distillation=NO_TEACHER, distillation_weights={}, teacher=None, merge_tflite=True
    )
    options = RunOptions(data=data, result=to, cache="none")
    again = _Run(alone, options, to, Display(verbose=0), "")
    if (
        again.config["corpus_sha256"]
        != read_json(folder / "config.json", {"corpus_sha256": str})["corpus_sha256"]
    ):
        raise UserError(
            f"{again.corpus.name} is not as it was when {folder} was trained: expected the same recordings "
            "and labels."
        )
    # Each fold's own temperature, which saw no test label: what is unsure must be as calibrated as can be.
    fitted = run.metrics.get("calibration", {}).get("folds", [])
    temperatures = {each["name"]: each["temperature"] or 1.0 for each in fitted}
    made = []
    for fold in select(again.folds, folds):
        path = folder / again.fold_folder(fold).name / "student.keras"
        if not path.exists():
            raise UserError(f"{path} is missing: the run's folder lacks the student of fold {fold.name}.")
        target = to / again.fold_folder(fold).name
        temperature = temperatures.get(fold.name, 1.0)
        try:
            student = load_student(path)
        except UserError as error:
            raise UserError(
                f"{error} Remove {path.with_name('fold.json')}, and the run's command does that fold anew."
            ) from None
        again._convert(fold, target, student, precisions=precisions, temperature=temperature)
        made.append((fold, {name: target / f"student_{name}.tflite" for name in precisions}))
    return again.selection, made


@dataclass(frozen=True)
class _Phase:
    """One stage of a network's training.

    Attributes:
        initial: makes the weights it begins with of those that the phase before selected.
        int8: whether it is trained and validated with the roundings of the int8 file.
    """

    build: Callable[[], keras.Model]
    rows: Any
    schedule: Schedule
    mixture: distillation_spec.DistillationSum
    accelerate: bool = True
    initial: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None
    int8: bool = False


@dataclass(frozen=True)
class _Outcome:
    """What the phases of a training left; the weights and epochs of the last one count.

    Attributes:
        best_epochs: of each phase, counted from 1 in each.
        epochs: of each phase, as many as were trained.
        checkpoints: to be removed once all is stored.
    """

    selected: list[np.ndarray]
    last: list[np.ndarray]
    best_epochs: list[int]
    epochs: list[int]
    seconds: float
    checkpoints: list[Path]

    @property
    def best_epoch(self) -> int:
        """Of the last phase, counted from the first one's beginning."""
        return sum(self.epochs[:-1]) + self.best_epochs[-1]

    def done(self) -> None:
        for checkpoint in self.checkpoints:
            checkpoint.unlink(missing_ok=True)


class _Run:
    """What the steps of one run share: its corpus, features, folds, teacher and networks."""

    def __init__(self, settings: Settings, options: RunOptions, folder: Path, display: Display, command: str):
        self.options, self.folder, self.display = options, folder, display
        entry = STUDENTS[settings.student]
        self.front_end: str = settings.front_end or entry.front_end
        self.settings = settings = dataclasses.replace(
            settings, front_end=self.front_end, schedule=settings.schedule or entry.schedule
        )
        self.protocol = PROTOCOLS[settings.protocol]
        fields = LABEL_LOSSES[settings.label_loss].fields
        self.label_settings = {name: getattr(settings, field) for name, field in fields.items()}
        self.distillation_settings = settings_of(settings.distillation, settings.distillation_weights)

        self.augmentations = augment.parse(settings.augmentation) if settings.augmentation else ()
        self.mixture = distillation_spec.parse(settings.distillation)
        if self.mixture.needs_teacher:
            augment.check_teacher(self.augmentations)

        self.selection = selection = selected(settings, options.data)
        self.corpus, self.utterances = selection.corpus, selection.utterances
        self.classes, self.folds = selection.classes, selection.folds
        if options.tensorboard:
            _require_tensorboard()
        if settings.qat and keras.backend.backend() != "tensorflow":
            raise UserError(
                f"--qat needs Keras on TensorFlow, found {keras.backend.backend()}: "
                "set KERAS_BACKEND=tensorflow."
            )
        self.soft_labels = selection.soft_labels if settings.soft_labels else None
        self.teacher = self._read_teacher()
        self._multimodal = {
            role: self._speech_and_text(role)
            for role, name in self._architectures().items()
            if is_multimodal(name)
        }
        self._check_encoders()
        self._check_config(command)
        self.teacher = self.teacher or self._made_teacher()
        self._networks: dict[tuple[str, int], Network] = {}
        self._phases: dict[str, list[_Phase]] = {}
        self._rows: dict[str, Any] = {}
        synthetic = ", SYNTHETIC recordings" if self.corpus.synthetic else ""
        speakers = selection.speakers(range(len(self.utterances)))
        display.say(
            f"{self.corpus.name}{synthetic}: {len(self.utterances)} utterances, "
            f"{len(self.classes)} emotions, {len(speakers)} speakers. "
            f"Protocol {settings.protocol}: {counted(len(self.folds), 'fold')}. Results: {folder}"
        )
        for line in self.corpus.reported():
            display.say(f"  {line}")

    @property
    def cache_folder(self) -> Path:
        return self.options.result / ".cache"

    def features(self, front_end: str) -> Any:
        """Features of every utterance, indexed by an array of utterances."""
        if front_end not in self._rows:
            self._rows[front_end] = batches.features(
                self.utterances,
                self.selection.fingerprints,
                front_end=front_end,
                # which is all that VGGish's front end makes
                input_type="mel_spectrogram" if front_end == "vggish" else self.settings.input_type,
                samples=self.settings.samples,
                cache=self.options.cache,
                cache_folder=self.cache_folder,
                memory_limit=self.options.memory_bytes,
                **self._reader(),
            )
        return self._rows[front_end]

    def _architectures(self) -> dict[str, str]:
        """Role → the name of its network, for the networks that are trained in this run."""
        own = self.settings.trained_teacher
        return {"student": self.settings.student} | ({"teacher": own} if own else {})

    def _speech_and_text(self, role: str) -> "SpeechAndText":
        from light_sernet_kd.encoders.multimodal import SpeechAndText

        return SpeechAndText(
            self._architectures()[role],
            self.settings,
            self.selection,
            is_teacher=role == "teacher",
            data=self.options.data,
            cache=self.cache_folder / "embeddings",
            features=functools.partial(self.features, "vggish"),
        )

    def _check_encoders(self) -> None:
        """Whether the encoders can be trained where they are to be, and text states compared likewise."""
        for role, both in self._multimodal.items():
            if self._schedule(role).tune_epochs and not both.is_whole:
                raise UserError(both.frozen_only)
        if not self.mixture.needs_states:
            return
        text = [self._multimodal[role].text for role in ("student", "teacher") if role in self._multimodal]
        if len(text) < 2 or text[0] is None or text[1] is None:
            raise UserError(
                f"{self.settings.distillation} compares the text states of student and teacher: it takes a "
                "student and a teacher such as --student picobert_vggish --teacher bert_vggish."
            )
        if self.settings.teacher_count > 1:
            raise UserError(
                f"{self.settings.distillation} compares text states, of which each of several teachers has "
                "its own: leave out --teacher_count."
            )
        if not self._schedule("student").tune_epochs:
            raise UserError(
                f"{self.settings.distillation} compares text states, which only change while the encoders "
                "are trained: give --tune_epochs."
            )
        if text[0].tokeniser.vocabulary != text[1].tokeniser.vocabulary:
            raise UserError(
                f"{self.settings.distillation} compares text states token by token, but the encoders of "
                "student and teacher have different vocabularies."
            )

    def _reader(self) -> dict[str, Any]:
        if self.settings.reader == "soundfile":
            return {}
        from light_sernet_kd.data import tfio_reader

        return {"reader": self.settings.reader, "read": tfio_reader.waveform_blocks}

    @functools.cached_property
    def augmenter(self) -> batches.Augmenter | None:
        return batches.augmenter(
            self.augmentations,
            self.utterances,
            self.selection.fingerprints,
            front_end=self.front_end,
            input_type=self.settings.input_type,
            samples=self.settings.samples,
            cache_folder=self.cache_folder,
            memory_limit=self.options.memory_bytes,
        )

    # What is checked before anything is trained.

    def _teacher_of_kind(self, kind: str) -> str | None:
        """What `--teacher` names, where that is of this kind of source."""
        source = self.settings.teacher
        if source is None or teacher_source(source)[0].kind != kind:
            return None
        return source

    def _workplace(self) -> Workplace:
        return Workplace(self.options.data, self.cache_folder / "embeddings", self.folder)

    def _read_teacher(self) -> teachers.Teacher | None:
        """The teacher of a file; None for one that is made in this run, or where none is needed."""
        source = self._teacher_of_kind("read")
        if source is None:
            return None
        teacher = teacher_of(source, self.selection, self.settings, self._workplace())
        needed = [fold.name for fold in self.folds] + ([ALL_SPEAKERS] if self.settings.export else [])
        for name in needed:
            teachers.aligned(teacher, self.utterances, self.classes, name)
            if self.mixture.needs_embeddings:
                teachers.aligned_embeddings(teacher, self.utterances, name)
        return teacher

    def _made_teacher(self) -> teachers.Teacher | None:
        """The teacher that is made for all folds at once and kept in the run's folder; None for others."""
        source = self._teacher_of_kind("made")
        if source is None:
            return None
        path = self.folder / "teacher.npz"
        if not path.exists():
            self.display.say(f"Teacher: a probe per fold on the embeddings of {source} ...")
            teachers.write(path, teacher_of(source, self.selection, self.settings, self._workplace()))
        return _stored(path, teachers.read, remove=path)

    def _teacher_digest(self) -> str | None:
        """Hash of the file that the teacher is, or is read by."""
        source = self.settings.teacher
        if source is None or self.settings.trained_teacher:
            return None
        entry, argument = teacher_source(source)
        return entry.digest(argument, self.options.data) if entry.digest else None

    def _check_config(self, command: str) -> None:
        """Write config.json, or see that the one there is of this very run."""
        digest = hashlib.sha256()
        for utterance in self.utterances:
            digest.update(f"{utterance.id} {utterance.emotion} {utterance.speaker} ".encode())
            digest.update(self.selection.fingerprints[utterance.id].encode())
        decides = {
            "settings": self.settings.as_dict(),
            "corpus_sha256": digest.hexdigest(),
            "teacher_sha256": self._teacher_digest(),
            "encoders_sha256": {role: both.digest() for role, both in self._multimodal.items()},
        }
        path = self.folder / "config.json"
        if path.exists() and not nothing_but(self.folder, _LEFTOVERS):
            self.config = self._stored_config(path, decides)
            # A run goes on as it began, also on a machine that would choose otherwise.
            self.arithmetic = self.config["resolved"]["arithmetic"]
            began = self.config["resolved"]["threads"]
            if began != threads() and not (self.folder / "metrics.json").exists():
                self.display.say(
                    f"This run began on {counted(began, 'thread')} and goes on on {threads()}: sums have "
                    "another order, so its numbers are not bit for bit those of a run on either."
                )
            return
        gains = STUDENTS[self.settings.student].gains_from_bfloat16
        self.arithmetic = resolved_arithmetic(self.settings.arithmetic, gains=gains)
        packages = ("tensorflow", "keras", "numpy", "ai-edge-litert")
        self.config = {
            **decides,
            "resolved": {"arithmetic": self.arithmetic, "threads": threads(), **self._resolved()},
            "versions": {"light-sernet-kd": __version__}
            | {name: importlib.metadata.version(name) for name in packages},
            "command": command,
        }
        write_json(path, self.config)

    def _resolved(self) -> dict[str, Any]:
        """What follows from the settings, for config.json."""
        own_teacher = None
        if self.settings.trained_teacher:
            own_teacher = {**dataclasses.asdict(self._schedule("teacher")), "parts": self._teacher_parts()}
        return {
            "samples": self.settings.samples,
            "schedule": dataclasses.asdict(self.settings.training_schedule),
            "own_teacher": own_teacher,
            "label_loss": {"name": self.settings.label_loss, **self.label_settings},
            "distillation": {"name": self.settings.distillation, **self.distillation_settings},
        }

    def _stored_config(self, path: Path, decides: dict[str, Any]) -> dict[str, Any]:
        """The config.json of this very run, or an error."""
        resolved = json.loads(json.dumps(self._resolved()))
        try:
            stored = _read_json(path)
            before, found = {name: stored[name] for name in decides}, stored["resolved"]
            if before == decides and {name: found[name] for name in resolved} != resolved:
                raise ValueError(f"{path} tells of values that its settings do not have")
            if found["arithmetic"] not in ("bfloat16", "float32") or type(found["threads"]) is not int:
                raise ValueError(f"{path} does not tell how the run computes")
        except (OSError, JsonError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path} is damaged; remove {self.folder} or name another --run.") from None
        if before != decides:
            raise UserError(
                f"{self.folder} holds another run: {_difference(before, decides)}. "
                "Name another --run, or remove that folder."
            )
        return stored

    # Networks and one fold.

    def _schedule(self, role: str) -> Schedule:
        """How the role's network is trained: the teacher like the student, unless it is of another kind."""
        settings = self.settings
        if role == "student":
            return settings.training_schedule
        name = self._architectures()["teacher"]
        schedule = settings.training_schedule
        if STUDENTS[name].schedule != STUDENTS[settings.student].schedule:
            schedule = SCHEDULES[STUDENTS[name].schedule]
        return schedule.changed(
            epochs=settings.teacher_epochs,
            batch_size=settings.teacher_batch_size,
            learning_rate=settings.teacher_learning_rate,
            tune_epochs=settings.tune_epochs,
        )

    def _qat_schedule(self) -> Schedule:
        """The learning rate stays as it is: so few epochs with one that falls would end before they learn."""
        schedule = self._schedule("student")
        rate = self.settings.qat_learning_rate or schedule.learning_rate / 10
        return dataclasses.replace(schedule, epochs=self.settings.qat, learning_rate=rate, decay=1.0)

    def phases(self, role: str) -> list[_Phase]:
        """The stages of the role's training; the last one's network is what is scored."""
        if role not in self._phases:
            self._phases[role] = self._made_phases(role)
        return self._phases[role]

    def _made_phases(self, role: str) -> list[_Phase]:
        settings, name, schedule = self.settings, self._architectures()[role], self._schedule(role)
        mixture = self.mixture if role == "student" else distillation_spec.parse(NO_TEACHER)
        if role in self._multimodal:
            both = self._multimodal[role]
            frozen = _Phase(
                functools.partial(both.head, any_length=True),
                both.short_states.rows,
                schedule,
                mixture.without_states(),
                accelerate=False,
            )
            if not schedule.tune_epochs:
                return [frozen]
            return [
                frozen,
                _Phase(
                    both.whole,
                    both.inputs.rows,
                    dataclasses.replace(schedule, epochs=schedule.tune_epochs),
                    mixture,
                    accelerate=False,
                    initial=lambda selected: both.whole(selected).get_weights(),
                ),
            ]
        width = settings.width
        if role == "teacher":
            width = settings.width * settings.teacher_width if settings.teacher == "auto" else 1.0
        front_end = self.front_end if name == settings.student else STUDENTS[name].front_end
        shape = feature_shape(front_end, settings.input_type, settings.samples)
        build = functools.partial(students.build, name, shape, len(self.classes), width=width)
        first = _Phase(build, self.features(front_end), schedule, mixture)
        if role == "teacher" or not settings.qat:
            return [first]
        return [
            first,
            dataclasses.replace(first, schedule=self._qat_schedule(), initial=list, int8=True),
        ]

    def network(self, role: str, phase: int = -1) -> Network:
        """The role's network in a phase (the last), compiled when it is first asked for."""
        phases = self.phases(role)
        key = (role, range(len(phases))[phase])
        if key not in self._networks:
            settings, stage = self.settings, phases[phase]
            is_student = role == "student"
            needs_states = stage.mixture.needs_states
            spec = NetworkSpec(
                stage.build,
                stage.schedule,
                label_loss=settings.label_loss,
                label_settings=self.label_settings,
                distillation=str(stage.mixture),
                distillation_settings=self._settings_of(stage.mixture) if is_student else {},
                standardise_logits=is_student and settings.standardise_logits and stage.mixture.needs_logits,
                teacher_widths=TeacherWidths(
                    embedding=self._teacher_embedding_width() if is_student else None,
                    states=self._multimodal["teacher"].text_states.shape[-1] if needs_states else None,
                ),
                arithmetic=self.arithmetic,
                accelerate=stage.accelerate,
                int8=stage.int8,
            )
            self._networks[key] = Network(spec)
        return self._networks[key]

    def _teacher_embedding_width(self) -> int | None:
        if not self.mixture.needs_embeddings:
            return None
        if self.teacher:
            return np.asarray(self.teacher.embeddings).shape[-1]
        return self.network("teacher").embedding_width * self.settings.teacher_count

    def _settings_of(self, mixture: distillation_spec.DistillationSum) -> dict[str, Any]:
        """The distillation's settings for a phase that trains on a part of it."""
        if mixture == self.mixture:
            return self.distillation_settings
        first = self.mixture.terms[0].name
        named = {
            name if "." in name else f"{first}.{name}": value
            for name, value in self.distillation_settings.items()
        }
        kept = [term.name for term in mixture.terms]
        own = {name: value for name, value in named.items() if name.partition(".")[0] in kept}
        return own if len(kept) > 1 else {name.partition(".")[2]: value for name, value in own.items()}

    def model_of(self, role: str, weights: list[np.ndarray]) -> keras.Model:
        """What is saved and exported: the role's network with these weights of its last phase.

        Its encoders are in it wherever they are Keras models.
        """
        if role in self._multimodal and len(self.phases(role)) == 1:
            both = self._multimodal[role]
            if both.is_whole:
                return both.whole(weights)
            model = both.head()
        else:
            model = self.network(role).student
        model.set_weights(weights)
        return model

    def fold_folder(self, fold: Fold) -> Path:
        return self.folder / f"fold-{path_part(fold.name)}"

    def _train(
        self,
        role: str,
        fold: Fold,
        teaching: TeacherOutputs | None = None,
        epochs: Sequence[int] | None = None,
    ) -> _Outcome:
        """Train a network on a fold, phase after phase; `epochs` are those of each phase, else its own."""
        folder = self.fold_folder(fold)
        folder.mkdir(exist_ok=True)
        kind = "student" if role == "student" else "teacher"
        train = self._trained_on(fold)
        weights: list[np.ndarray] = []
        made: list[Trained] = []
        checkpoints = []
        phases = self.phases(kind)
        for number, phase in enumerate(phases):
            title = f"fold {fold.name}, {role}" + (f", phase {number + 1}" if len(phases) > 1 else "")
            part = "" if number == 0 else f"-{number + 1}"
            checkpoints.append(folder / f"{role}-checkpoint{part}.npz")
            with self.display.network(title) as shown:
                job = TrainingJob(
                    examples=Examples(phase.rows, self.selection.labels, self.classes, self.soft_labels),
                    train=train,
                    validation=fold.validation,
                    seed=fold_seed(self.settings.seed, f"{role}{part} {fold.name}"),
                    checkpoint=checkpoints[-1],
                    epochs=epochs[number] if epochs else None,
                    initial_weights=functools.partial(phase.initial, weights) if phase.initial else None,
                    initial_projections=self._projections(kind, number - 1) if phase.int8 else (),
                    calibration=self._representative(fold) if phase.int8 else (),
                    teacher_outputs=teaching,
                    augmenter=self.augmenter if kind == "student" else None,
                    class_weights=self._class_weights(train),
                    patience=self.settings.patience,
                    progress=shown.epoch,
                    callbacks=self._tensorboard(folder / "tensorboard" / f"{role}{part}"),
                )
                try:
                    trained = self.network(kind, number).train(job)
                except DivergenceError as error:
                    # going on from it would end the same way
                    checkpoints[-1].unlink(missing_ok=True)
                    option = "--learning_rate" if kind == "student" else "--teacher_learning_rate"
                    raise UserError(f"{title}: {error}; lower {option}.") from None
            weights = trained.selected
            made.append(trained)
        name = "history.csv" if role == "student" else f"{role}_history.csv"
        history = {key: [value for each in made for value in each.history[key]] for key in made[0].history}
        write_history(folder / name, history)
        return _Outcome(
            made[-1].selected,
            made[-1].last,
            [each.best_epoch for each in made],
            [len(each.history["loss"]) for each in made],
            sum(each.seconds for each in made),
            checkpoints,
        )

    def _trained_on(self, fold: Fold) -> Sequence[int]:
        """The fold's training utterances, less those above `--most_per_emotion`."""
        most, seed = self.settings.most_per_emotion, self.settings.seed
        return batches.capped(fold.train, self.selection.labels, most, seed=seed)

    def _projections(self, kind: str, number: int) -> list[list[np.ndarray]]:
        """Of a phase that was just trained or restored: what `hint` compares through belongs to it."""
        return [layer.get_weights() for layer in self.network(kind, number).distiller.projections]

    def _class_weights(self, train: Sequence[int]) -> np.ndarray | None:
        if self.settings.class_weights == "none":
            return None
        counts = np.bincount(self.selection.labels[list(train)], minlength=len(self.classes))
        return len(train) / (len(counts) * np.maximum(1, counts))

    def _tensorboard(self, folder: Path) -> list[Any]:
        if not self.options.tensorboard:
            return []
        import keras

        return [keras.callbacks.TensorBoard(folder, write_graph=False)]

    def teacher_name(self) -> str:
        if self.teacher:
            return self.teacher.made_by
        name = self._architectures()["teacher"]
        if "teacher" in self._multimodal:
            # Not facts(), which hashes every weight; this is asked for each of a fold's networks.
            return f"{name} on {' and '.join(self._multimodal['teacher'].state_encoders().values())}"
        auto = self.settings.teacher == "auto"
        return f"{name}, width {self.settings.width * self.settings.teacher_width if auto else 1:g}"

    def teaching(self, fold: Fold, epochs: Sequence[int] | None = None) -> TeacherOutputs | None:
        """What the fold's teacher says of every utterance; None where there is no teacher."""
        if self.settings.teacher is None:
            return None
        teacher = self.teacher or self.own_teacher(fold, epochs=epochs)
        logits = teachers.aligned(teacher, self.utterances, self.classes, fold.name)
        embedding = states = None
        if self.mixture.needs_embeddings:
            embedding = teachers.aligned_embeddings(teacher, self.utterances, fold.name)
        if self.mixture.needs_states:
            states = self._teacher_states(fold)
        return TeacherOutputs(logits, embedding, states)

    def _teacher_states(self, fold: Fold) -> Any:
        """Text states `(utterances, tokens, width)` of the fold's teacher, indexed by utterances."""
        if len(self.phases("teacher")) == 1:
            return self._multimodal["teacher"].text_states
        return _stored(
            self._member_path(fold, "teacher-states", "npy"),
            functools.partial(
                open_mapped,
                shape=(len(self.utterances), self.settings.text_tokens, None),
                dtype=np.dtype(np.float16),
            ),
            remove=self.fold_folder(fold) / "teacher.npz",
        )

    def own_teacher(self, fold: Fold, epochs: Sequence[int] | None = None) -> teachers.Teacher:
        """The fold's own teacher: networks trained on its training set, and the mean of them.

        With `teacher_parts` a training utterance's logits are of networks that were trained without its
        speaker, for as many epochs as the fold's own was: a teacher is surer of what it was trained on than
        it is of anything that it will be asked.
        """
        path = self.fold_folder(fold) / "teacher.npz"
        if path.exists():
            _clear(path.parent, "teacher*-checkpoint*.npz", "*-member.npz")
        else:
            members, best_epochs = [], []
            for number in range(self.settings.teacher_count):
                role = "teacher" if number == 0 else f"teacher-{number + 1}"
                member = self._own_teacher(role, fold, epochs)
                best = member.card["best_epochs"]
                members.append(self._with_held_out(member, role, fold, best))
                best_epochs.append(best)
            teacher = members[0] if len(members) == 1 else teachers.ensemble(members)
            card = {**teacher.card, "best_epochs": _medians(best_epochs), "parts": self._teacher_parts()}
            teachers.write(path, dataclasses.replace(teacher, card=card))
            _clear(path.parent, "*-member.npz")
            if fold.test:
                logits = teachers.aligned(teacher, self.utterances, self.classes, fold.name)
                ua = self._scores(fold, logits[list(fold.test)])["ua"]
                self.display.say(f"fold {fold.name}: teacher UA {100 * ua:.1f} %")
        return _stored(path, teachers.read, remove=path)

    def _teacher_parts(self) -> int:
        parts = self.settings.teacher_parts
        if parts is None:
            parts = PARTS if "teacher" in self._multimodal else 0
        return parts

    def _with_held_out(
        self, teacher: teachers.Teacher, role: str, fold: Fold, epochs: Sequence[int]
    ) -> teachers.Teacher:
        """`teacher` with a training utterance's logits from networks that never met its speaker."""
        if not self._teacher_parts():
            return teacher
        train = np.array(fold.train)
        speakers = np.array([self.utterances[i].speaker for i in fold.train])
        logits = teacher.logits.copy()
        for number, part in enumerate(held_out_parts(speakers, self._teacher_parts()), start=1):
            others = dataclasses.replace(fold, train=tuple(train[~part].tolist()), validation=())
            asked = train[part].tolist()
            member = self._own_teacher(f"{role}-without-{number}", others, epochs, asked)
            logits[0][asked] = member.logits[0]
        return dataclasses.replace(teacher, logits=logits)

    def _member_path(self, fold: Fold, role: str, suffix: str = "npz") -> Path:
        return self.fold_folder(fold) / f"{role}-member.{suffix}"

    def _own_teacher(
        self, role: str, fold: Fold, epochs: Sequence[int] | None, asked: Sequence[int] | None = None
    ) -> teachers.Teacher:
        """What one network of the fold's teacher says of the utterances `asked`, or of all.

        Its card has the epochs it was selected at.
        """
        path = self._member_path(fold, role)
        if path.exists():
            _clear(path.parent, f"{role}-checkpoint*.npz")
        else:
            outcome = self._train(role, fold, epochs=epochs)
            asked = range(len(self.utterances)) if asked is None else asked
            network, rows = self.network("teacher"), self.phases("teacher")[-1].rows
            outputs = network.outputs(outcome.selected, rows, asked)
            if role == "teacher" and len(self.phases("teacher")) > 1:
                self._write_teacher_states(fold, outcome.selected)
            card = {
                "made_by": self.teacher_name(),
                "corpus": self.corpus.name,
                "protocol": self.settings.protocol,
                "best_epochs": outcome.best_epochs,
                "train_speakers": {fold.name: self.selection.speakers(fold.train)},
            }
            ids = tuple(self.utterances[i].id for i in asked)
            embeddings = outputs[EMBEDDING][None]
            teachers.write(
                path,
                teachers.Teacher(ids, self.classes, outputs[LOGITS][None], (fold.name,), card, embeddings),
            )
            outcome.done()
        return _stored(path, teachers.read, remove=path)

    def _write_teacher_states(self, fold: Fold, weights: list[np.ndarray]) -> None:
        """The text states of a teacher whose encoder was trained, float16: of the test utterances, which
        `explain` reads, and of all, for as long as a loss compares them, in a file that is mapped.
        """
        texts = [both.text for both in self._multimodal.values() if both.text]
        if len(texts) < 2 or texts[0].tokeniser.vocabulary != texts[1].tokeniser.vocabulary:
            return  # there is nothing to compare, token by token
        student, rows = self.network("teacher").student, self.phases("teacher")[-1].rows
        student.set_weights(weights)
        model = keras.Model(student.input, text_states_of(student))

        def states(indices: Sequence[int]) -> Iterator[np.ndarray]:
            for start in range(0, len(indices), batches.BATCH):
                batch = np.asarray(indices[start : start + batches.BATCH])
                yield model.predict_on_batch(rows[batch]).astype(np.float16)

        if fold.test:
            explain.write_text_states(self.fold_folder(fold), states(fold.test))
        if self.mixture.needs_states:
            everything = range(len(self.utterances))
            batches.write_blocks(
                self._member_path(fold, "teacher-states", "npy"),
                states(everything),
                (len(everything), self.settings.text_tokens, model.output_shape[-1]),
                np.dtype(np.float16),
            )

    def _remove_teacher_states(self, fold: Fold) -> None:
        """Of a fold that is done: at BERT's width they take a gigabyte for 5,500 utterances."""
        # Windows removes no file that is still mapped; the command given again does.
        with contextlib.suppress(PermissionError):
            self._member_path(fold, "teacher-states", "npy").unlink(missing_ok=True)

    def final_teacher_epochs(self) -> list[int]:
        """The medians of the epochs that the folds' teachers were selected at, for each phase."""
        return _medians([self.own_teacher(fold).card["best_epochs"] for fold in self.folds])

    def fold(self, fold: Fold) -> dict[str, Any]:
        """Train and test the student on one fold, unless that was done; returns the fold's outcome."""
        folder = self.fold_folder(fold)
        done = folder / "fold.json"
        if done.exists():
            _clear(folder, "student-checkpoint*.npz")
        else:
            _clear(folder, *_FOLD_FILES)  # of a student that is made anew
            teaching = self.teaching(fold)
            trained = self._train("student", fold, teaching)
            network, rows = self.network("student"), self.phases("student")[-1].rows
            logits = {
                name: network.logits(weights, rows, fold.test)
                for name, weights in (("selected", trained.selected), ("last", trained.last))
            }
            if teaching is not None:
                logits["teacher"] = teaching.logits[list(fold.test)]
            write_arrays(folder / "test_logits.npz", logits)
            if fold.judges:
                judged = network.logits(trained.selected, rows, fold.judges)
                write_arrays(folder / "validation_logits.npz", {"selected": judged})
            if self.settings.export:
                heard = network.logits(trained.selected, rows, self._some_heard(fold))
                write_arrays(folder / "training_logits.npz", {"selected": heard})
            if fold in self._pictured_folds:
                self._write_test_embeddings(fold, trained.selected)
            self._save_student(trained.selected, folder / "student.keras")
            outcome = {
                "name": fold.name,
                "test_speakers": self.selection.speakers(fold.test),
                "validation_speakers": self.selection.speakers(fold.validation),
                "best_epoch": trained.best_epoch,
                "best_epochs": trained.best_epochs,
                "epochs": sum(trained.epochs),
                "seconds": round(trained.seconds, 2),
                **self._scores(fold, logits["selected"]),
                "last_epoch": self._scores(fold, logits["last"]),
                "files": {name: sha256(folder / name) for name in _FOLD_FILES if (folder / name).exists()},
            }
            write_json(done, outcome)
            trained.done()
        self._remove_teacher_states(fold)
        outcome = _stored(done, _read_outcome, remove=done)
        outcome.pop("files", None)
        logits = self._test_logits(fold)
        # What the logits tell is taken from them; fold.json has it for people.
        outcome |= self._scores(fold, logits["selected"])
        outcome["last_epoch"] = self._scores(fold, logits["last"])
        self.display.say(
            f"fold {fold.name}: UA {100 * outcome['ua']:.1f} %, WA {100 * outcome['wa']:.1f} % "
            f"(epoch {outcome['best_epoch']} of {outcome['epochs']}; {outcome['seconds']:.0f} s)"
        )
        return {**outcome, "logits": logits}

    def _vouched(self, folder: Path, done: str = "fold.json") -> dict[str, str]:
        """SHA-256 by name of the files that a step left beside `done`."""
        return _stored(folder / done, _read_step, remove=folder / done)["files"]

    def _left(
        self,
        fold: Fold,
        name: str,
        read: Callable[[Path], Any],
        *,
        done: str = "fold.json",
        remove: str | None = None,
    ) -> Any:
        """What a finished step left in the fold's file `name`: the very content that it wrote.

        Args:
            read: raises ValueError where the content does not fit.
            remove: without it the step is done anew; by default the step's `done`.
        """
        folder = self.fold_folder(fold)
        vouched = self._vouched(folder, done)

        def checked(path: Path) -> Any:
            if sha256(path) != vouched.get(name):
                raise ValueError(f"{path} is not what was written")
            return read(path)

        return _stored(folder / name, checked, remove=folder / (remove or done))

    def _test_logits(self, fold: Fold) -> dict[str, np.ndarray]:
        """`selected`, `last` and perhaps `teacher`, `(len(fold.test), classes)` each."""
        names = ("selected", "last")
        read = functools.partial(_read_rows, rows=len(fold.test), width=len(self.classes), names=names)
        return self._left(fold, "test_logits.npz", read)

    def _some_heard(self, fold: Fold) -> Sequence[int]:
        """Training utterances of the fold that tell how sharp its student's logits are."""
        heard = self._trained_on(fold)
        return heard[:: -(-len(heard) // MOST_HEARD)]

    @property
    def _pictured_folds(self) -> list[Fold]:
        return self.folds[: explain.MOST_FOLDS]

    def _write_test_embeddings(self, fold: Fold, weights: list[np.ndarray]) -> None:
        """What the student's picture shows; nothing of a student that has no embedding of one vector."""
        network, rows = self.network("student"), self.phases("student")[-1].rows
        with contextlib.suppress(UserError):
            embedding = network.outputs(weights, rows, fold.test)[EMBEDDING]
            write_arrays(self.fold_folder(fold) / "test_embeddings.npz", {"selected": embedding})

    def _test_embeddings(self) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Per fold its name, embeddings, labels and predictions; none where a student has no embedding."""
        found = []
        for fold in self._pictured_folds:
            if "test_embeddings.npz" in self._vouched(self.fold_folder(fold)):
                read = functools.partial(_read_rows, rows=len(fold.test))
                embedding = self._left(fold, "test_embeddings.npz", read)["selected"]
                labels = self.selection.labels[list(fold.test)]
                predicted = self._test_logits(fold)["selected"].argmax(axis=1)
                found.append((fold.name, embedding, labels, predicted))
        return found

    def _scores(self, fold: Fold, logits: np.ndarray) -> dict[str, Any]:
        labels = self.selection.labels[list(fold.test)]
        return evaluation.scores(labels, logits.argmax(axis=1), self.classes).as_dict()

    # Calibration: no temperature sees a test label that it is scored on.

    def _logits_of(
        self, fold: Fold, name: str, indices: Sequence[int], done: str = "fold.json"
    ) -> np.ndarray:
        """Of the fold's saved student, `(len(indices), classes)`, as its step stored them in `name`.

        They are made anew where there are none: users remove damaged ones.
        """
        path = self.fold_folder(fold) / name
        if not path.exists():
            student = self._left(fold, "student.keras", load_student, done=done)
            # its inputs as a list, however it nests them
            model = keras.Model(student.inputs, student.outputs[0])
            logits = []
            for start in range(0, len(indices), batches.BATCH):
                given = self._file_inputs(indices[start : start + batches.BATCH], merge=False)
                logits.append(model.predict_on_batch([given[tensor.name] for tensor in student.inputs]))
            write_arrays(path, {"selected": np.concatenate(logits)})
            _vouch(path, done)
            which = name.partition("_")[0]
            self.display.say(f"fold {fold.name}: {which} predictions made anew of its student")
        read = functools.partial(_read_rows, rows=len(indices), width=len(self.classes))
        return self._left(fold, name, read, done=done, remove=name)["selected"]

    def _validation_logits(self, fold: Fold) -> np.ndarray:
        """Of the fold's selected student, `(len(fold.judges), classes)`."""
        return self._logits_of(fold, "validation_logits.npz", fold.judges)

    def _training_logits(self, fold: Fold) -> np.ndarray:
        """Of the fold's selected student on `_some_heard`."""
        return self._logits_of(fold, "training_logits.npz", self._some_heard(fold))

    def _final_logits(self) -> np.ndarray:
        """Of the exported student on every utterance that it was trained on."""
        final = self.selection.final_fold
        return self._logits_of(final, "training_logits.npz", self._trained_on(final), "final.json")

    def _temperature(self, fold: Fold) -> float | None:
        """For the fold's test predictions; None where its validation set tests too or is too small."""
        if len(fold.judges) < evaluation.FEWEST_TO_CALIBRATE:
            return None
        labels = self.selection.labels[list(fold.judges)]
        return evaluation.fit_temperature(self._validation_logits(fold), labels)

    def temperature_per_margin(self, outcomes: Sequence[dict[str, Any]]) -> float | None:
        """For the exported student, from all folds' students and their validation sets; None if too few.

        It was trained on these speakers, so none is held out of it: the folds' students, which heard fewer,
        stand in for it, each in units of how sharp its logits are. Where a fold's validation set is its test
        set, that serves: the exported student has no score of its own that could profit.
        """
        folds = [(fold, fold.judges or fold.validation) for fold in self.folds]
        labels = [self.selection.labels[list(judges)] for _, judges in folds]
        if sum(map(len, labels)) < evaluation.FEWEST_TO_CALIBRATE:
            return None
        logits = [
            self._validation_logits(fold) if fold.judges else outcome["logits"]["selected"]
            for (fold, _), outcome in zip(folds, outcomes, strict=True)
        ]
        heard = [self._training_logits(fold) for fold in self.folds]
        return evaluation.temperature_per_margin(logits, labels, heard)

    def _files_confidence(self, outcomes: Sequence[dict[str, Any]], temperature: float) -> dict[str, Any]:
        """How sure the exported student is, beside the folds' students with temperatures of the same rule."""
        per_margin = self.temperature_per_margin(outcomes)
        heard = [self._training_logits(fold) for fold in self.folds]
        by = [1.0 if per_margin is None else evaluation.temperature_for(per_margin, each) for each in heard]
        test = [outcome["logits"]["selected"] / each for outcome, each in zip(outcomes, by, strict=True)]
        return {
            "per_margin": per_margin,
            "folds_test": evaluation.confidence(np.concatenate(test)),
            "folds_training": evaluation.confidence(
                np.concatenate([logits / each for logits, each in zip(heard, by, strict=True)])
            ),
            "final_training": evaluation.confidence(self._final_logits() / temperature),
        }

    def calibration(
        self, outcomes: Sequence[dict[str, Any]], exported: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """How far the test probabilities can be believed, before and after each fold's temperature; and how
        sure the exported student is.
        """
        files = self._files_confidence(outcomes, exported["temperature"]) if exported else None
        labels = self._test_labels()
        temperatures = [self._temperature(fold) for fold in self.folds]
        # In float64 no division makes two logits equal, and so the answers stay what they are.
        before = [outcome["logits"]["selected"].astype(np.float64) for outcome in outcomes]
        after = [logits / (by or 1.0) for logits, by in zip(before, temperatures, strict=True)]
        return {
            "bins": evaluation.ECE_BINS,
            "before": evaluation.calibration(labels, np.concatenate(before)),
            "after": evaluation.calibration(labels, np.concatenate(after)) if any(temperatures) else None,
            "temperature": (
                exported["temperature"] if exported and files and files["per_margin"] is not None else None
            ),
            "files": files,
            "folds": [
                {
                    "name": fold.name,
                    "temperature": temperature,
                    "validation_predictions": len(fold.judges),
                }
                for fold, temperature in zip(self.folds, temperatures, strict=True)
            ],
            "fewest_validation_predictions": evaluation.FEWEST_TO_CALIBRATE,
            "tests_on_validation": self.protocol.tests_on_validation,
            "unsure_below": evaluation.UNSURE_BELOW,
        }

    def _save_student(self, weights: list[np.ndarray], path: Path) -> None:
        with atomic(path) as temporary:
            self.model_of("student", weights).save(temporary)

    # The exported student.

    def export(self, outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Train the final student on all speakers and export it; score every precision over the folds."""
        epochs = _medians([outcome["best_epochs"] for outcome in outcomes])
        final = self.selection.final_fold
        folder = self.fold_folder(final)
        done = folder / "final.json"
        scores = self._precision_scores()
        if done.exists():
            _clear(folder, "student-checkpoint*.npz")
        else:
            _clear(folder, *_FOLD_FILES)
            teacher_epochs = self.final_teacher_epochs() if self.settings.trained_teacher else None
            teaching = self.teaching(final, epochs=teacher_epochs)
            trained = self._train("student", final, teaching, epochs=epochs)
            self._save_student(trained.last, folder / "student.keras")
            rows = self.phases("student")[-1].rows
            heard = self.network("student").logits(trained.last, rows, self._trained_on(final))
            write_arrays(folder / "training_logits.npz", {"selected": heard})
            temperature = self._final_temperature(outcomes, heard)
            student = self.model_of("student", trained.last)
            left = {name: sha256(folder / name) for name in _FOLD_FILES if (folder / name).exists()}
            files = self._convert_final(student, temperature, scores)
            write_json(done, {"final_epochs": sum(epochs), **files, "files": left})
            trained.done()
        self._remove_teacher_states(final)
        exported = _stored(done, _read_exported, remove=done)
        temperature = self._final_temperature(outcomes, self._final_logits())
        if not self._is_current(exported, temperature, scores):
            student = self._left(final, "student.keras", load_student, done="final.json")
            exported |= self._convert_final(student, temperature, scores)
            write_json(done, {**exported, "files": self._vouched(folder, "final.json")})
            self.display.say("The final student was exported anew: its files were missing, damaged or older.")
        changes = self._probability_changes(outcomes)
        told = (f"{name} {at['mean']:.1e}/{at['p95']:.1e}/{at['max']:.1e}" for name, at in changes.items())
        self.display.say(
            "Change of a probability by conversion, mean/95th percentile/largest over "
            f"{counted(len(self._test_indices()), 'test utterance')} of the folds: {', '.join(told)}"
        )
        exported = {name: exported[name] for name in ("final_epochs", "temperature", "rows")}
        for row in exported["rows"]:
            # Which was of a few clips of the final student, to see that the conversion is true.
            row.pop("max_probability_difference", None)
            row |= scores[row["precision"]]
            row["probability_change"] = changes[row["precision"]]
        best = next(row["ua"] for row in exported["rows"] if row["precision"] == "float32")
        for row in exported["rows"]:
            row["ua_cost_points"] = 100 * (best - row["ua"])
        return {
            **exported,
            "samples": self.settings.samples,
            "sample_rate": SAMPLE_RATE,
            "takes": self._taken(),
            "note": self._scored + self._qat_note(),
        }

    def _qat_note(self) -> str:
        if not self.settings.qat:
            return ""
        return (
            f" After its training the student was fine-tuned for {counted(self.settings.qat, 'epoch')} with "
            "simulated int8 arithmetic; all precisions have these weights."
        )

    def _convert_final(
        self,
        student: keras.Model,
        temperature: float,
        scores: Mapping[str, Mapping[str, float]],
    ) -> dict[str, Any]:
        rows = self._convert(
            self.selection.final_fold, self.folder, student, scores=scores, temperature=temperature
        )
        for row in rows:
            row["sha256"] = sha256(self.folder / row["file"])
        count = len(self._trained_on(self.selection.final_fold))
        return {
            "rows": rows,
            "temperature": temperature,
            "scores": scores,
            "training_recordings": count,
        }

    def _final_temperature(self, outcomes: Sequence[dict[str, Any]], heard: np.ndarray) -> float:
        """Of the exported student, which has the logits `heard` on its training utterances; 1 if unfitted."""
        per_margin = self.temperature_per_margin(outcomes)
        return 1.0 if per_margin is None else evaluation.temperature_for(per_margin, heard)

    def _is_current(
        self, exported: Mapping[str, Any], temperature: float, scores: Mapping[str, Mapping[str, float]]
    ) -> bool:
        """Whether the files are there, as they were written, and with the run's temperature and scores."""
        if not np.isclose(exported["temperature"], temperature, rtol=1e-6):
            return False
        if exported["scores"] != scores or {row["precision"] for row in exported["rows"]} != {*scores}:
            return False
        files = [(self.folder / row["file"], row) for row in exported["rows"]]
        return all(
            path.is_file() and path.stat().st_size == row["bytes"] and row["sha256"] == sha256(path)
            for path, row in files
        )

    def _probability_changes(self, outcomes: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Precision → how far the folds' files are from their students, over all test utterances."""
        trained = evaluation.softmax(np.concatenate([outcome["logits"]["selected"] for outcome in outcomes]))
        converted = [self._precision_probabilities(fold) for fold in self.folds]
        return {
            precision: evaluation.probability_change(
                trained, np.concatenate([each[precision] for each in converted])
            )
            for precision in converted[0]
        }

    def _precision_scores(self) -> dict[str, dict[str, float]]:
        """Precision → UA, its interval where there is one, and WA over all folds."""
        probabilities = [self._precision_probabilities(fold) for fold in self.folds]
        labels, speakers, found = self._test_labels(), self._test_speakers(), {}
        for precision in probabilities[0]:
            predicted = np.concatenate([each[precision].argmax(axis=1) for each in probabilities])
            scores = evaluation.scores(labels, predicted, self.classes)
            interval = evaluation.bootstrap_ci(labels, predicted, speakers, self.classes)
            found[precision] = {"ua": scores.ua, "wa": scores.wa}
            found[precision] |= (
                {"ua_low": interval["ua"][0], "ua_high": interval["ua"][1]} if interval else {}
            )
        return found

    @property
    def _scored(self) -> str:
        """Whose scores those of the exported files are."""
        return (
            "UA and WA are those of each fold's student, converted and scored on its own test fold; "
            "the files hold a student trained on "
            + ("all recordings but the test ones." if self.selection.tests_apart else "all speakers.")
        )

    def _card(self, *, final: bool) -> dict[str, Any]:
        """What an exported file says of the run it comes from, and the final student's how good it may be."""
        sources = [CORPORA.get(str(name)) for name in (self.settings.corpus, self.settings.test_on)]
        licences = {source.origin.licence for source in sources if source and source.origin}
        card: dict[str, Any] = {
            "student": self.settings.student,
            "corpus": self.corpus.name,
            "synthetic": self.corpus.synthetic,
            "distillation": self.settings.distillation,
            "protocol": self.settings.protocol,
            "light_sernet_kd": __version__,
        }
        if licences:
            card["corpus_licence"] = "; ".join(sorted(licences))
        if final:
            # The day of its training: files may be made anew much later.
            saved = (self.fold_folder(self.selection.final_fold) / "student.keras").stat().st_mtime
            day = datetime.datetime.fromtimestamp(saved, datetime.UTC).date()
            card["folds"] = [fold.name for fold in self.folds]
            card |= {"stamps": self.stamps, "scored": self._scored, "trained": day.isoformat()}
        return card

    def _taken(self) -> list[str]:
        """What an exported file takes, in words."""
        both, samples = self._multimodal.get("student"), self.settings.samples
        if both and not both.is_whole:
            return [f"{name} made by {encoder}" for name, encoder in both.state_encoders().items()]
        features = "" if self.settings.merge_tflite else "features of "
        heard = f"{features}{samples:,} samples at {SAMPLE_RATE:,} Hz ({samples / SAMPLE_RATE:g} s)"
        read = f"{self.settings.text_tokens} tokens of text"
        return [heard] * (both is None or both.hearing is not None) + [read] * bool(both and both.text)

    def _representative(self, fold: Fold) -> list[int]:
        """Training utterances that an int8 file is calibrated with."""
        speakers = [self.utterances[i].speaker for i in fold.train]
        chosen = representative(self.selection.labels[list(fold.train)], speakers, CALIBRATION_CLIPS)
        return [fold.train[i] for i in chosen]

    def _convert(
        self,
        fold: Fold,
        folder: Path,
        student: keras.Model,
        *,
        scores: Mapping[str, Mapping[str, float]] | None = None,
        temperature: float = 1.0,
        precisions: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Export `student`; with scores by precision it is the run's final one, whose card tells them."""
        from light_sernet_kd.export.tflite import ExportError, export

        settings = self.settings
        try:
            made = export(
                student,
                classes=self.classes,
                front_end=self.front_end,
                input_type=settings.input_type,
                samples=settings.samples,
                representative=self._file_inputs(self._representative(fold), merge=True),
                folder=folder,
                **self._text_and_encoders(),
                precisions=precisions,
                card=self._card(final=scores is not None),
                precision_cards=scores,
                merge=settings.merge_tflite,
                temperature=temperature,
                training=self._training_list() if scores is not None else None,
            )
        except ExportError as error:
            raise UserError(
                f"fold {fold.name}: its student cannot be exported: {error}. Train it otherwise, e.g. with a "
                "lower --learning_rate, or take --no-export."
            ) from None
        return [
            {
                "precision": each.precision,
                "file": each.path.name,
                "bytes": each.bytes,
                "max_probability_difference": each.max_probability_difference,
            }
            for each in made
        ]

    def _precision_probabilities(self, fold: Fold) -> dict[str, np.ndarray]:
        """Test probabilities of the fold's student in each precision, from converted files.

        They are not calibrated: only which is largest counts, and that no temperature changes.
        """
        folder = self.fold_folder(fold)
        path = folder / "tflite_probabilities.npz"
        if not path.exists():
            from light_sernet_kd.runner import invoke, open_file

            student = self._left(fold, "student.keras", load_student)
            inputs = self._file_inputs(fold.test, merge=self.settings.merge_tflite)
            probabilities = {}
            with tempfile.TemporaryDirectory() as temporary:
                for row in self._convert(fold, Path(temporary), student):
                    interpreter, _, _ = open_file(Path(temporary) / row["file"], threads=2)
                    probabilities[row["precision"]] = np.stack(
                        [
                            invoke(interpreter, {name: values[i] for name, values in inputs.items()})
                            for i in range(len(fold.test))
                        ]
                    )
            write_arrays(path, probabilities)
            _vouch(path, "fold.json")
            self.display.say(f"fold {fold.name}: converted and scored in {len(probabilities)} precisions")
        read = functools.partial(
            _read_rows, rows=len(fold.test), width=len(self.classes), names=("float32",), shares=True
        )
        return self._left(fold, path.name, read, remove=path.name)

    def _file_inputs(self, indices: Sequence[int], *, merge: bool) -> dict[str, np.ndarray]:
        """What an exported file takes of these utterances, by name: fitted audio (features, where the front
        end is left out of the file), token ids and masks, or states of encoders that cannot be in it.
        """
        chosen = np.asarray(indices)
        both = self._multimodal.get("student")
        given = {FEATURES: self.phases("student")[-1].rows[chosen]} if both is None else {}
        if both:
            given = both.inputs[chosen] if both.is_whole else both.states[chosen]
        if merge and given.pop(FEATURES, None) is not None:
            given["audio"] = self._waveforms(indices)
        return given

    def _text_and_encoders(self) -> dict[str, Any]:
        """What `export` must know of a student of speech and text."""
        both = self._multimodal.get("student")
        if both is None:
            return {}
        if not both.is_whole:
            return {"encoders": both.state_encoders()}
        return {"text": both.text_input()}

    def _waveforms(self, indices: Sequence[int]) -> np.ndarray:
        utterances = [self.utterances[i] for i in indices]
        return batches.waveforms(utterances, samples=self.settings.samples, front_end=self.front_end)

    # The results folder.

    def _test_indices(self) -> list[int]:
        return [i for fold in self.folds for i in fold.test]

    def _test_labels(self) -> np.ndarray:
        return self.selection.labels[self._test_indices()]

    def _test_speakers(self) -> list[str]:
        return [self.utterances[i].speaker for i in self._test_indices()]

    @functools.cached_property
    def _measured(self) -> audit.Measured:
        """What was read of every recording: its signature, and the facts of its file."""
        cache = self.options.result / ".cache" if self.options.cache == "disk" else None
        return audit.measure(self.utterances, self.selection.fingerprints, cache)

    @functools.cached_property
    def data_warnings(self) -> list[str]:
        """What the corpus and its folds show before anything is trained."""
        facts, apart = self._measured.facts, self.selection.tests_apart
        return ties.findings(self.folds, self.utterances, facts, tests_apart=apart).warnings

    def _training_list(self) -> bytes:
        """The recordings that the final student was trained on, for its files."""
        rows = list(self._trained_on(self.selection.final_fold))
        measured = self._measured
        return training_list.packed(
            training_list.of_training(
                [self.utterances[i] for i in rows],
                self.selection.fingerprints,
                measured.vectors[rows],
                measured.lengths[rows],
                corpus=self.corpus.name,
                origin=origin(self.settings.corpus),
            )
        )

    def _named_alike(self) -> tuple[str, ...]:
        """Names of speakers in both of two corpora, unless the user says that they are different people."""
        settings = self.settings
        if settings.different_speakers or settings.test_on is None:
            return ()
        return audit.named_alike(self.corpus, settings.corpus, settings.test_on)

    def _notes(self) -> list[str]:
        """What else the report says of the run."""
        notes = [note for both in self._multimodal.values() for note in both.notes]
        if self.settings.different_speakers and (names := same_names(self.corpus)):
            notes.append(
                f"{counted(len(names), 'speaker name')} in both corpora: different people, by "
                "--different-speakers."
            )
        if self.teacher and (converted := self.teacher.card.get("converted")):
            notes.append(f"Of the teacher file: {converted}.")
        return notes

    @functools.cached_property
    def stamps(self) -> list[str]:
        """What a reader must know before believing the scores."""
        pairs = audit.alike(self._measured.vectors, self._measured.lengths)
        audits = audit.audit(
            self.folds, self.utterances, self.selection.fingerprints, pairs, named_alike=self._named_alike()
        )
        return [
            *stamps_of(self.protocol, self.folds, self.utterances),
            *audit.stamps(audits),
            *self._shared_texts(),
            *self.teacher_stamps(),
        ]

    def _shared_texts(self) -> list[str]:
        """For a student that reads: how much of what it is tested on it has read in training."""
        both = self._multimodal.get("student")
        if both is None or both.text is None:
            return []
        # As it reads them: two spellings may be one text to it, and NULL stands for none.
        texts = [ids.tobytes() for ids in both.tokens.token_ids]
        none = both.text.tokeniser([NO_TEXT]).token_ids.tobytes()
        known = 0
        for fold in self.folds:
            read = {texts[i] for i in fold.train} - {none}
            known += sum(texts[i] in read for i in fold.test)
        return [f"{known} of {len(self._test_indices())} test texts occur in training"] if known else []

    def teacher_stamps(self) -> list[str]:
        return list(teachers.stamps(self.teacher, self.folds, self.utterances)) if self.teacher else []

    def _predictions(self, outcomes: Sequence[dict[str, Any]]) -> evaluation.Predictions:
        """Of every fold's selected student, in the order of the folds."""
        logits = np.concatenate([outcome["logits"]["selected"] for outcome in outcomes])
        return evaluation.Predictions(
            classes=self.classes,
            ids=tuple(self.utterances[i].id for i in self._test_indices()),
            folds=tuple(fold.name for fold in self.folds for _ in fold.test),
            labels=self._test_labels().astype(np.int64),
            predicted=logits.argmax(axis=1),
            probabilities=evaluation.softmax(logits),
        )

    def warnings(self, outcomes: Sequence[dict[str, Any]], calibration: Mapping[str, Any]) -> list[str]:
        """What makes a true score worth less than it looks; a stamp says that a score is too high.

        Sentences without a full stop. The report and the run's last line show them, and no score is called
        honest without a word beside any of them.
        """
        return [
            *self.data_warnings,
            *evaluation.answer_warnings(self._predictions(outcomes)),
            *evaluation.confidence_warnings(calibration["files"]),
        ]

    def metrics(
        self, outcomes: Sequence[dict[str, Any]], exported: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        classes, labels = self.classes, self._test_labels()

        def pooled(which: str) -> np.ndarray:
            return np.concatenate([outcome["logits"][which] for outcome in outcomes])

        def scores(which: str) -> dict[str, Any]:
            return evaluation.scores(labels, pooled(which).argmax(axis=1), classes).as_dict()

        teacher = None
        if self.settings.teacher:
            agreement = scores("teacher")
            teacher = {
                "name": Path(self.settings.teacher).name if self.teacher else self.settings.teacher,
                "made_by": self.teacher_name(),
                "agreement": {name: agreement[name] for name in ("wa", "ua")},
                "stamps": self.teacher_stamps(),
            }
        counts = np.bincount(self.selection.labels, minlength=len(classes))
        calibration = self.calibration(outcomes, exported)
        return {
            "protocol": self.settings.protocol,
            "protocol_description": self.protocol.description,
            "stamps": self.stamps,
            "warnings": self.warnings(outcomes, calibration),
            "corpus": self.corpus.name,
            "synthetic": self.corpus.synthetic,
            "classes": list(classes),
            "counts": dict(zip(classes, counts.tolist(), strict=True)),
            "speakers": sorted({utterance.speaker for utterance in self.utterances}),
            "left_out": dict(self.corpus.left_out),
            "merged": dict(self.corpus.merged),
            "corpus_notes": list(self.corpus.notes),
            "skipped": self.selection.skipped,
            "cut": self._cut(),
            "pooled": scores("selected"),
            "pooled_last_epoch": scores("last"),
            "ci95": evaluation.bootstrap_ci(
                labels, pooled("selected").argmax(axis=1), self._test_speakers(), classes
            ),
            "ci95_method": evaluation.CI_METHOD,
            "calibration": calibration,
            "mean_over_folds": {
                name: [
                    float(np.mean([outcome[name] for outcome in outcomes])),
                    float(np.std([outcome[name] for outcome in outcomes])),
                ]
                for name in evaluation.SUMMARIES
            },
            "folds": [
                {name: value for name, value in outcome.items() if name != "logits"} for outcome in outcomes
            ],
            "student": {
                "name": self.settings.student,
                **self._parameters("student"),
                "width": None if is_multimodal(self.settings.student) else self.settings.width,
                "encoders": self._multimodal["student"].facts() if "student" in self._multimodal else {},
            },
            "notes": self._notes(),
            "teacher": teacher,
            "seed": self.settings.seed,
            "command": self.config["command"],
        }

    def _cut(self) -> dict[str, Any] | None:
        """How many recordings the input length cuts, and how much; None for a student that hears none."""
        both = self._multimodal.get("student")
        if both is not None and both.hearing is None:
            return None
        return lengths.cut_of(self.utterances, self.settings.samples / SAMPLE_RATE).as_dict()

    def _parameters(self, role: str) -> dict[str, int]:
        """How many there are, with those of the encoders and, of the text encoder, without its embeddings."""
        from light_sernet_kd.export.tflite import parameter_counts

        if role not in self._multimodal:
            return {"parameters": self.network(role).parameters}
        return parameter_counts(self.model_of(role, self.network(role).student.get_weights()))

    def _history(self, fold: Fold, epochs: int) -> dict[str, list[float]]:
        return self._left(fold, "history.csv", functools.partial(read_history, epochs=epochs))

    def write_results(self, outcomes: Sequence[dict[str, Any]], exported: dict[str, Any] | None) -> None:
        """Write metrics.json, predictions.csv, the pictures and the report."""
        metrics = self.metrics(outcomes, exported)
        predictions = self._predictions(outcomes)
        evaluation.write_predictions(self.folder / "predictions.csv", predictions)
        synthetic = " (synthetic)" if self.corpus.synthetic else ""
        settings, stamps = self.settings, metrics["stamps"]
        length = f"{settings.samples / SAMPLE_RATE:g}\u00a0s"
        title = (
            f"{settings.student} on {self.corpus.name}{synthetic}, {settings.distillation}, "
            f"{settings.input_type} of {length}, protocol {settings.protocol}"
        )
        if letters := figures.letters_without_font([title, *self.classes]):
            self.display.say(f"No font here has {letters}: the pictures show boxes. Noto Sans has them all.")
        figures.confusion_matrix(
            evaluation.confusion(predictions.labels, predictions.predicted, self.classes),
            self.classes,
            self.folder / "confusion_matrix",
            title=title,
            stamps=stamps,
        )
        figures.curves(
            {
                fold.name: self._history(fold, outcome["epochs"])
                for fold, outcome in zip(self.folds, outcomes, strict=True)
            },
            self.folder / "curves.png",
            selected_epochs={outcome["name"]: outcome["best_epoch"] for outcome in outcomes},
            title=title,
            stamps=stamps,
        )
        told = metrics["calibration"]
        figures.reliability(
            {name: told[when] for when, name in CALIBRATED.items() if told[when]},
            self.folder / "reliability.png",
            title=title,
            stamps=stamps,
        )
        if tested := self._test_embeddings():
            panels, notes = explain.fold_panels(tested, len(self.folds))
            head: dict[str, Any] = {"title": title, "stamps": stamps, "notes": notes}
            figures.embeddings(panels, self.classes, self.folder / "embeddings.png", **head)
        if exported:
            rows = [{**row, "name": row["precision"]} for row in exported["rows"]]
            figures.size_against_ua(rows, self.folder / "precision_costs.png", title=title, stamps=stamps)
            metrics["export"] = exported
        write_text(
            self.folder / "report.md", report(metrics, self.config, export=exported, embeddings=bool(tested))
        )
        # last, because its presence says that the run is finished
        write_json(self.folder / "metrics.json", metrics)


def _require_tensorboard() -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise UserError(f"TensorBoard is not installed: {install_line('tensorboard')}") from None


def _clear(folder: Path, *patterns: str) -> None:
    """Remove what a step that is done, or begins anew, has no use for."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, dict)


def _read_step(path: Path) -> dict[str, Any]:
    """A fold.json or final.json, with the SHA-256 of the files that its step left."""
    return read_json(path, {"files": {str: str}})


_SCORES: dict[str, Any] = {
    **dict.fromkeys(evaluation.SUMMARIES, float),
    "recall_per_class": {str: (float, None)},
    "count": int,
}
_OUTCOME = {
    "name": str,
    "test_speakers": [str],
    "validation_speakers": [str],
    "best_epoch": int,
    "best_epochs": [int],
    "epochs": int,
    "seconds": float,
    **_SCORES,
    "last_epoch": _SCORES,
    "files": {str: str},
}
_EXPORTED = {
    "rows": [
        {"precision": str, "file": str, "bytes": int, "sha256": str, "max_probability_difference": float}
    ],
    "temperature": float,
    "scores": {str: {str: float}},
    "final_epochs": int,
    "files": {str: str},
}


def _read_outcome(path: Path) -> dict[str, Any]:
    """A fold.json, with what a run goes on from."""
    found = read_json(path, _OUTCOME)
    best = found["best_epochs"]
    if not (best and all(_is_count(each, found["epochs"]) for each in best)):
        raise ValueError(f"{path} names epochs that were not trained")
    if not _is_count(found["best_epoch"], found["epochs"]) or not isinstance(found["seconds"], int | float):
        raise ValueError(f"{path} has no numbers where they should be")
    return found


def _is_count(number: Any, most: Any) -> bool:
    return type(number) is int and type(most) is int and 1 <= number <= most


def _read_exported(path: Path) -> dict[str, Any]:
    """A final.json, with what its files are."""
    exported = read_json(path, _EXPORTED)
    if odd := [row["precision"] for row in exported["rows"] if row["precision"] not in PRECISIONS]:
        raise JsonError(path, f"is damaged (precision {odd[0][:20]!r})")
    if "float32" not in [row["precision"] for row in exported["rows"]]:
        raise JsonError(path, "is damaged (it lacks the row of float32)")
    return exported


def _read_rows(
    path: Path,
    *,
    rows: int,
    width: int | None = None,
    names: Sequence[str] = ("selected",),
    shares: bool = False,
) -> dict[str, np.ndarray]:
    """Arrays of numbers `(rows, width)`; those that are there beside `names` likewise.

    Args:
        width: None for any.
        shares: whether they are probabilities.
    """
    found = _read_arrays(path)
    for name, values in {**found, **{name: found[name] for name in names}}.items():
        if values.ndim != 2 or len(values) != rows or values.shape[1] != (width or values.shape[1]):
            raise ValueError(f"{path}: {name} is {values.shape}; expected {rows} rows of {width}")
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} holds what is no number")
        # An int8 file's probabilities are multiples of 1 / 256.
        if shares and (values.min() < 0 or np.abs(values.sum(axis=1) - 1).max() > 0.1):
            raise ValueError(f"{path}: {name} are no probabilities")
    return found


def _vouch(path: Path, done: str) -> None:
    """Note in the step's `done` beside `path` what was written there after the step."""
    step = path.with_name(done)
    told = _stored(step, _read_step, remove=step)
    write_json(step, {**told, "files": {**told["files"], path.name: sha256(path)}})


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    return read_arrays(path)


def _stored(path: Path, read: Callable[[Path], Any], *, remove: Path) -> Any:
    """What a finished step left in `path`; the step is done anew once `remove` is gone."""
    try:
        return read(path)
    except (UserError, OSError, ValueError, KeyError):
        state = "damaged" if path.exists() else "missing"
        raise UserError(
            f"{path} is {state}: remove {remove}, and the same command does that step anew."
        ) from None


def _medians(epochs: Sequence[Sequence[int]]) -> list[int]:
    """The median over folds of each phase's epochs."""
    return [max(1, round(statistics.median(phase))) for phase in zip(*epochs, strict=True)]


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    if before["settings"] != now["settings"]:
        changed = [
            f"{name} was {before['settings'].get(name)!r}, is {value!r}"
            for name, value in now["settings"].items()
            if before["settings"].get(name) != value
        ]
        return "; ".join(changed[:4])
    if before["corpus_sha256"] != now["corpus_sha256"]:
        return "the corpus has other recordings or labels now"
    if before["teacher_sha256"] != now["teacher_sha256"]:
        return "the teacher file has another content now"
    return "the transcripts, or the encoders of speech or text, are others now"


def summary(metrics: dict[str, Any]) -> str:
    """A run's outcome in one line, with what must be known to believe it."""
    pooled, interval = metrics["pooled"], metrics["ci95"]
    between = f" [{100 * interval['ua'][0]:.1f}, {100 * interval['ua'][1]:.1f}]" if interval else ""
    synthetic = " (SYNTHETIC)" if metrics["synthetic"] else ""
    stamps = f" Stamps: {'; '.join(metrics['stamps'])}." if metrics["stamps"] else ""
    warnings = f" Warnings: {'; '.join(metrics['warnings'])}." if metrics.get("warnings") else ""
    return (
        f"{metrics['corpus']}{synthetic}, {metrics['protocol']}: UA {100 * pooled['ua']:.1f} %{between}, "
        f"WA {100 * pooled['wa']:.1f} %.{stamps}{warnings}"
    )
