"""Networks of a run: built, trained phase after phase, and put together for saving."""

import contextlib
import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import teachers
from light_sernet_kd.config import CALIBRATION_CLIPS
from light_sernet_kd.config.engine import engine_on
from light_sernet_kd.config.settings import SAME
from light_sernet_kd.data import batches
from light_sernet_kd.data.batches import Examples, TeacherOutputs
from light_sernet_kd.data.protocols import Fold, fold_seed
from light_sernet_kd.data.selection import representative
from light_sernet_kd.distillation.distiller import TeacherWidths
from light_sernet_kd.distillation.losses import at_their_last
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.networks.callbacks import callbacks_of
from light_sernet_kd.experiment.networks.forecast import FirstSteps, ends
from light_sernet_kd.experiment.networks.phases import (
    dimensions_of,
    is_trained_with_others,
    phases_of,
    settings_for,
)
from light_sernet_kd.registries.engines import ENGINES
from light_sernet_kd.training.history import write_history
from light_sernet_kd.training.job import DivergenceError, TrainingJob, TrainingResult
from light_sernet_kd.training.network import Network, NetworkSpec

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


# Networks that earlier runs of the process left, the last used at the end: to trace a graph costs seconds,
# and `paper` asks for few shapes again and again.
_KEPT: dict[Hashable, Network] = {}
_MOST_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Outcome:
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

    def remove_checkpoints(self) -> None:
        for checkpoint in self.checkpoints:
            checkpoint.unlink(missing_ok=True)


def network_of(run: "Experiment", role: str, phase: int = -1, *, later: bool = False) -> Network:
    """The role's network in a phase (the last), compiled when it is first asked for.

    Args:
        later: it is trained by a student like it, as those after the first generation are. It differs in
            what its losses compare embeddings through.
    """
    phases = phases_of(run, role)
    later = later and run.distillation.needs_embeddings and not run.settings.teacher_components
    key = (f"{role}-later" if later else role, range(len(phases))[phase])
    if key not in run.networks:
        settings, stage = run.settings, phases[phase]
        is_student = role == "student"
        needs_states = stage.distillation.needs_states
        losses = settings_for(run, stage.distillation) if is_student else {}
        if key[1]:
            losses = at_their_last(losses)
        spec = NetworkSpec(
            stage.build,
            stage.schedule,
            label_loss=settings.label_loss,
            label_settings=run.label_settings,
            distillation=str(stage.distillation),
            distillation_settings=losses,
            standardise_logits=is_student and settings.standardise_logits and stage.distillation.needs_logits,
            teacher_widths=TeacherWidths(
                embedding=teacher_embedding_width(run, later=later) if is_student else None,
                states=run.multimodal["teacher"].text_states.shape[-1] if needs_states else None,
            ),
            dimensions_loss=settings.dimensions_loss if dimensions_of(run, role) else None,
            dimensions_weight=settings.dimensions_weight,
            arithmetic=run.arithmetic,
            accelerate=stage.accelerate,
            int8=stage.int8,
            devices=stage.devices,
        )
        # Two networks of one run are never the same: one's projections are asked for after the other trained.
        kept = key, spec.key
        run.networks[key] = _KEPT.pop(kept) if kept in _KEPT else Network(spec)
    return run.networks[key]


def keep_networks(run: "Experiment") -> None:
    """Leave the run's compiled networks to later runs of this process.

    What this run trained leaves no trace in them, as a fold's does not: each training begins anew.
    """
    for role, network in run.networks.items():
        if network.spec.key is not None:
            _KEPT[role, network.spec.key] = network
    run.networks.clear()
    while sum(network.nbytes for network in _KEPT.values()) > _MOST_BYTES:
        del _KEPT[next(iter(_KEPT))]


def teacher_embedding_width(run: "Experiment", *, later: bool = False) -> int | None:
    """Of what losses on embeddings compare with; `later` as of `network_of`."""
    if not run.distillation.needs_embeddings:
        return None
    if run.settings.teacher_components:
        return run.settings.teacher_components
    if later:
        return network_of(run, "student").embedding_width
    width = 0
    if run.teacher:
        width = teachers.aligned_embeddings(run.teacher, run.utterances, run.folds[0].name).shape[-1]
    if run.settings.trained_teacher:  # beside those of what it is mixed with
        width += network_of(run, "teacher").embedding_width * run.settings.teacher_count
    return width


def model_of(run: "Experiment", role: str, weights: list[np.ndarray]) -> keras.Model:
    """What is saved and exported: the role's network with these weights of its last phase.

    Its encoders are in it wherever they are Keras models.
    """
    if role in run.multimodal and len(phases_of(run, role)) == 1:
        encoders = run.multimodal[role]
        if encoders.is_whole:
            return encoders.whole(weights)
        model = encoders.head()
    else:
        model = network_of(run, role).student
    model.set_weights(weights)
    return model


def train_network(
    run: "Experiment",
    role: str,
    fold: Fold,
    outputs: TeacherOutputs | None = None,
    epochs: Sequence[int] | None = None,
) -> Outcome:
    """Train a network on a fold, phase after phase.

    Args:
        outputs: of the fold's teacher.
        epochs: of each phase; by default its own.
    """
    step = run.step(fold)
    step.make()
    kind, training = kind_of(role), Training(run, role, fold, outputs, epochs)
    weights: list[np.ndarray] = []
    made: list[TrainingResult] = []
    checkpoints = []
    phases = phases_of(run, kind)
    for number in range(len(phases)):
        title = f"fold {fold.name}, {_spoken(run, role)}" + (
            f", phase {number + 1}" if len(phases) > 1 else ""
        )
        job = job_of(training, number, weights)
        checkpoints.append(job.checkpoint)
        try:
            trained = _trained(training, number, job, title)
        except DivergenceError as error:
            # going on from it would end the same way
            job.checkpoint.unlink(missing_ok=True)
            option = "--learning_rate" if kind == "student" else "--teacher_learning_rate"
            raise UserError(f"{title}: {error}; lower {option}.") from None
        weights = trained.selected
        made.append(trained)
    history = {key: [value for each in made for value in each.history[key]] for key in made[0].history}
    write_history(step.history(role), history)
    return Outcome(
        made[-1].selected,
        made[-1].last,
        [each.best_epoch for each in made],
        [len(each.history["loss"]) for each in made],
        sum(each.seconds for each in made),
        checkpoints,
    )


def _place(run: "Experiment", fold: Fold) -> str:
    """Which of the folds this is, and what ends at the time that is told next."""
    names = [each.name for each in run.folds]
    is_one = len(names) > 1 and fold.name in names
    return f"fold {names.index(fold.name) + 1} of {len(names)}, run" if is_one else "run"


@dataclass(frozen=True)
class Training:
    """A network that is to be trained on a fold; the arguments are those of `train_network`."""

    run: "Experiment"
    role: str
    fold: Fold
    outputs: TeacherOutputs | None = None
    epochs: Sequence[int] | None = None

    @property
    def network(self) -> Network:
        """Of its first phase."""
        return self.network_in(0)

    def network_in(self, phase: int) -> Network:
        return network_of(self.run, kind_of(self.role), phase, later=self.generation > 1)

    @property
    def generation(self) -> int:
        """Of a student, counted from 1; 0 of a teacher."""
        return generation_of(self.run, self.role)

    def seed(self, phase: int) -> int:
        """Of a phase; it is the same however many generations follow."""
        named = {0: self.role, 1: "student"}
        role = named.get(self.generation, f"student, generation {self.generation}")
        part = "" if phase == 0 else f"-{phase + 1}"
        return fold_seed(self.run.settings.seed, f"{role}{part} {self.fold.name}")


def is_augmented(run: "Experiment", kind: str) -> bool:
    """A teacher learns from clean clips, unless it will be asked of what the student hears."""
    return kind == "student" or run.settings.teacher_view == SAME


def kind_of(role: str) -> str:
    """`student` for each generation of students, or `teacher` for each of a fold's teachers."""
    return "teacher" if role.startswith("teacher") else "student"


def teacher_roles(run: "Experiment") -> list[str]:
    """The role of each network of a fold's teacher: `teacher`, `teacher-2` and so on."""
    return ["teacher", *(f"teacher-{number + 1}" for number in range(1, run.settings.teacher_count))]


def generation_role(run: "Experiment", number: int) -> str:
    """The role of the students of a generation, counted from 1: `student` of the last one."""
    return "student" if number == run.settings.generations else f"generation-{number}"


def generation_of(run: "Experiment", role: str) -> int:
    """The generation of a student's role, counted from 1; 0 of a teacher."""
    if kind_of(role) == "teacher":
        return 0
    return run.settings.generations if role == "student" else int(role.removeprefix("generation-"))


def _spoken(run: "Experiment", role: str) -> str:
    """A role in words."""
    if kind_of(role) == "teacher" or run.settings.generations == 1:
        return role
    return f"student of generation {generation_of(run, role)} of {run.settings.generations}"


def job_of(training: Training, number: int = 0, weights: Sequence[np.ndarray] = ()) -> TrainingJob:
    """The job of a training's phase.

    Args:
        weights: that the phase before selected.
    """
    run, role, fold = training.run, training.role, training.fold
    kind = kind_of(role)
    phase, step, train = phases_of(run, kind)[number], run.step(fold), trained_on(run, fold)
    part = "" if number == 0 else f"-{number + 1}"
    seed = training.seed(number)
    initial = functools.partial(phase.initial, list(weights)) if phase.initial else None
    if run.start and kind == "student" and number == 0:
        initial = functools.partial(run.start.weights, fold.name, phase.build, seed)
    return TrainingJob(
        examples=Examples(
            phase.rows,
            run.selection.labels,
            run.classes,
            run.soft_labels,
            run.selection.dimensions if dimensions_of(run, kind) else None,
        ),
        train=train,
        validation=fold.validation,
        seed=seed,
        checkpoint=step.checkpoint(role, number),
        epochs=training.epochs[number] if training.epochs else None,
        initial_weights=initial,
        initial_projections=projections_of(training.network_in(number - 1)) if phase.int8 else (),
        calibration=calibration_clips(run, fold) if phase.int8 else (),
        teacher_outputs=training.outputs,
        augmenter=run.augmenter if is_augmented(run, kind) else None,
        class_weights=class_weights_of(run, train),
        keep=run.settings.keep,
        patience=run.settings.patience,
        callbacks=[
            *tensorboard_callbacks(run, step.path / "tensorboard" / f"{role}{part}"),
            *callbacks_of(run, fold, role, number),
        ],
    )


def _trained(training: Training, number: int, job: TrainingJob, title: str) -> TrainingResult:
    """What the phase's training left: it may have been trained with others already."""
    run, role, key = training.run, training.role, (training.role, training.fold.name)
    trained = run.ahead.get(key)
    if isinstance(trained, DivergenceError):
        raise trained  # and stays, so that it is not trained again
    if trained is not None:
        del run.ahead[key]
        return trained
    network, kind = training.network_in(number), kind_of(role)
    untimed: contextlib.nullcontext[None] = contextlib.nullcontext()
    rows, epochs = len(job.train), network.epochs_of(job)
    if run.forecast:  # some train for as many epochs as another one was selected at
        run.forecast.skip((kind, number), rows, network.schedule.epochs - epochs)
    timing = run.forecast and run.forecast.network((kind, number), rows, epochs)
    place = _place(run, training.fold)
    with run.display.network(title) as shown, timing or untimed as timed:

        def progress(epoch: int, epochs: int, row: Mapping[str, float]) -> None:
            shown.epoch(epoch, epochs, row, f"{place} {ends(timed(epoch))}" if timed else "")

        # Not the run's engine: a final student may be trained where the folds' were not.
        engine = ENGINES[engine_on(keras.backend.backend())]
        if not engine.trains_together or not is_trained_with_others(run, kind):
            callbacks = [*job.callbacks]
            if run.forecast and run.forecast.knows_nothing:
                callbacks.append(FirstSteps(run.forecast, network.schedule.batch_size, run.display.say))
            return network.train(dataclasses.replace(job, progress=progress, callbacks=callbacks))
        from light_sernet_kd.training.vectorised.together import train_together

        [trained] = train_together([(network, job)], progress=progress)
    if isinstance(trained, DivergenceError):
        raise trained
    return trained


def trained_on(run: "Experiment", fold: Fold) -> Sequence[int]:
    """The fold's training utterances, less those above `--most_per_emotion`."""
    most, seed = run.settings.most_per_emotion, run.settings.seed
    return batches.cap_per_class(fold.train, run.selection.labels, most, seed=seed)


def projections_of(network: Network) -> list[list[np.ndarray]]:
    """Of a phase that was just trained or restored: what `hint` compares through belongs to it."""
    return [layer.get_weights() for layer in network.distiller.projections]


def class_weights_of(run: "Experiment", train: Sequence[int]) -> np.ndarray | None:
    if run.settings.class_weights == "none":
        return None
    counts = np.bincount(run.selection.labels[list(train)], minlength=len(run.classes))
    return len(train) / (len(counts) * np.maximum(1, counts))


def tensorboard_callbacks(run: "Experiment", folder: Path) -> list[Any]:
    if not run.options.tensorboard:
        return []
    return [keras.callbacks.TensorBoard(folder, write_graph=False)]


def calibration_clips(run: "Experiment", fold: Fold) -> list[int]:
    """Training utterances that an int8 file is calibrated with."""
    speakers = [run.utterances[i].speaker for i in fold.train]
    chosen = representative(run.selection.labels[list(fold.train)], speakers, CALIBRATION_CLIPS)
    return [fold.train[i] for i in chosen]
