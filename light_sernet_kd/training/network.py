"""Training: one network on one fold, continuing after an interruption from its last finished epoch."""

import functools
import gc
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import numpy as np

from light_sernet_kd.arrays import check_archive
from light_sernet_kd.config import distillation_spec
from light_sernet_kd.data.batches import TeacherOutputs, batches
from light_sernet_kd.data.feature_cache import BATCH, full_precision
from light_sernet_kd.data.host_batches import host_batches
from light_sernet_kd.distillation.batch_keys import DIMENSIONS, EMBEDDING, LOGITS
from light_sernet_kd.distillation.distiller import Distiller, TeacherWidths, embedding_of
from light_sernet_kd.distillation.loss_ramps import RampWatch
from light_sernet_kd.errors import UserError, first_line
from light_sernet_kd.registries.lazy import Lazy
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES, NO_TEACHER
from light_sernet_kd.registries.schedules import Schedule
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.training import devices
from light_sernet_kd.training.accelerate import accelerated
from light_sernet_kd.training.accelerate import arithmetic as resolved_arithmetic
from light_sernet_kd.training.checkpoint import EpochState
from light_sernet_kd.training.job import TrainingJob, TrainingResult

# It is written for TensorFlow, which other trainings do without.
_SIMULATION = Lazy("training.quantisation:Simulation")


@dataclass(frozen=True)
class NetworkSpec:
    """What is trained, and on which losses.

    Attributes:
        build: makes the network with new weights.
        label_loss, label_settings, distillation, distillation_settings, standardise_logits, teacher_widths:
            as of `Distiller`.
        dimensions_loss, dimensions_weight: as of `Distiller.learn_dimensions`, of a network of two outputs.
        arithmetic: `float32`, `bfloat16`, or `auto` for what is faster here.
        accelerate: train a faster twin of the network; otherwise the network as it is.
        int8: train and validate with the roundings of the network's int8 file, in float32.
        devices: how many share each batch, on JAX; the batch size is a multiple.

    >>> from light_sernet_kd import students
    >>> from light_sernet_kd.registries.schedules import SCHEDULES
    >>> build = functools.partial(students.build, "light_sernet", (60, 40, 1), 2)
    >>> spec = NetworkSpec(build, SCHEDULES["light_sernet"], "focal", {"gamma": 2.0}, distillation="KD")
    >>> spec.schedule.epochs, spec.distillation_settings
    (300, None)
    """

    build: Callable[[], keras.Model]
    schedule: Schedule
    label_loss: str
    label_settings: Mapping[str, Any]
    distillation: str = NO_TEACHER
    distillation_settings: Mapping[str, Any] | None = None
    standardise_logits: bool = False
    teacher_widths: TeacherWidths = field(default_factory=TeacherWidths)
    dimensions_loss: str | None = None
    dimensions_weight: float = 1.0
    arithmetic: str = "auto"
    accelerate: bool = True
    int8: bool = False
    devices: int = 1

    @property
    def key(self) -> Hashable | None:
        """Equal for specs of equal networks; None where that cannot be told, as of a `build` of one's own."""
        build = self.build
        # A method's object, such as encoders, would be kept in memory and never be met again.
        if not isinstance(build, functools.partial) or not isinstance(build.func, FunctionType):
            return None
        facts = {each.name: getattr(self, each.name) for each in fields(self)}
        facts["build"] = (build.func, build.args, build.keywords)
        # An entry may be replaced, as in a notebook.
        names = [*filter(lambda each: isinstance(each, str), build.args), self.label_loss]
        names += [term.name for term in distillation_spec.parse(self.distillation).terms]
        facts["entries"] = [
            id(registry.get(name)) for registry in (STUDENTS, LABEL_LOSSES, DISTILLATIONS) for name in names
        ]
        key = tuple(map(_hashable, facts.values()))
        try:
            hash(key)
        except TypeError:
            return None
        return key


def _hashable(value: Any) -> Any:
    """The value with tuples in the place of lists and mappings."""
    if isinstance(value, Mapping):
        return tuple((name, _hashable(each)) for name, each in sorted(value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


class Network:
    """One architecture with its losses, compiled once and trained from new weights for every fold.

    Compiling anew for each fold would cost seconds each time, for the same graph.

    >>> from light_sernet_kd import students
    >>> from light_sernet_kd.data.batches import Examples
    >>> from light_sernet_kd.registries.schedules import SCHEDULES
    >>> build = functools.partial(students.build, "light_sernet", (60, 40, 1), 2, width=0.1)
    >>> network = Network(NetworkSpec(build, SCHEDULES["light_sernet"], "cross_entropy", {}))
    >>> features, labels = np.zeros((6, 60, 40, 1), np.float32), np.array([0, 1] * 3, np.int32)
    >>> examples = Examples(features, labels, ("anger", "fear"))
    >>> job = TrainingJob(examples=examples, train=range(4), validation=(4, 5), seed=0,
    ...                   checkpoint=Path("fold.npz"), epochs=2)
    >>> len(network.train(job).history["val_ua"])
    2
    """

    def __init__(self, spec: NetworkSpec):
        self.spec = spec
        # Of several such networks, compiled for JAX: see `training.vectorised`.
        self.programs: dict[Hashable, Any] = {}
        self.schedule = spec.schedule
        self._build = spec.build
        with devices.weights_on(spec.devices):
            self._make(spec)

    def _make(self, spec: NetworkSpec) -> None:
        schedule = spec.schedule
        # Scores are always those of plain float32 layers, which are what is saved and exported.
        self.student = self.twin = spec.build()
        self.simulation = _SIMULATION(self.student) if spec.int8 else None
        if self.simulation:
            self.twin = self.simulation.twin
        elif spec.accelerate:
            self.twin = accelerated(
                self.student,
                arithmetic=resolved_arithmetic(spec.arithmetic),
                batch_norm_momentum=schedule.batch_norm_momentum,
            )
        self.distiller = Distiller(
            self.twin,
            label_loss=spec.label_loss,
            label_settings=spec.label_settings,
            distillation=spec.distillation,
            distillation_settings=spec.distillation_settings,
            standardise_logits=spec.standardise_logits,
            teacher_widths=spec.teacher_widths,
            # AdamW decays the weights itself
            weight_decay=0.0 if schedule.optimizer == "adamw" else schedule.weight_decay,
        )
        if spec.dimensions_loss:
            self.distiller.learn_dimensions(spec.dimensions_loss, weight=spec.dimensions_weight)
        # On TensorFlow, XLA's convolutions are slower than oneDNN's on CPU.
        self.distiller.compile(_optimizer(schedule), jit_compile=_on_jax())
        self.distiller.optimizer.build(self.distiller.trainable_variables)
        if _on_jax():
            self.distiller.build()  # else Keras would take the first batch to do so
        if spec.devices > 1:
            # Here, where it learns that all it changes is on every device.
            self.distiller.make_train_function()

    @property
    def parameters(self) -> int:
        return self.student.count_params()

    @property
    def nbytes(self) -> int:
        """About what its variables take: nearly all are float32."""
        return 4 * sum(math.prod(variable.shape) for variable in self.state_variables)

    def start_anew(self, seed: int, initial: Sequence[np.ndarray] | None = None) -> None:
        """New (or `initial`) weights, a new optimiser state and new dropout masks, decided by `seed`."""
        keras.utils.set_random_seed(seed)
        self.twin.set_weights(self._build().get_weights() if initial is None else initial)
        for number, state in enumerate(_random_states(self.twin)):
            state.assign(np.array([seed % 2**32, number], np.uint32))
        self.distiller.start_projection_anew(seed)
        for variable in self.distiller.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    @property
    def state_variables(self) -> list[Any]:
        """All that a training changes and a checkpoint holds."""
        projections = [weight for layer in self.distiller.projections for weight in layer.weights]
        optimizer = self.distiller.optimizer.variables
        return [*self.twin.weights, *_random_states(self.twin), *projections, *optimizer]

    def logits(self, weights: list[np.ndarray], rows: Any, indices: Sequence[int]) -> np.ndarray:
        """Logits `(len(indices), classes)` of the student with these weights."""
        return self.answers(weights, rows, indices)[LOGITS]

    def answers(self, weights: list[np.ndarray], rows: Any, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """`logits` `(len(indices), classes)` and, where it has them, `dimensions` with these weights."""
        self.student.set_weights(weights)
        return self._answers(self.student, rows, indices)

    def validation_answers(
        self, weights: list[np.ndarray], rows: Any, indices: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """The same, but of a network of int8 those of its twin, which has the current weights."""
        if self.simulation:
            return self._answers(self.twin, rows, indices)
        return self.answers(weights, rows, indices)

    def calibrate(self, rows: Any, indices: Sequence[int]) -> None:
        """For a network of int8, find its ranges with the twin's weights on clips of these utterances."""
        if self.simulation:
            self.simulation.calibrate(rows[batch] for batch in _batches_of(indices))

    def outputs(self, weights: list[np.ndarray], rows: Any, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """`logits` `(len(indices), classes)`, `embedding` `(len(indices), width)` and, where the network has
        them, `dimensions` with these weights.
        """
        return _joined(self.output_blocks(weights, rows, indices))

    def output_blocks(
        self, weights: list[np.ndarray], rows: Any, indices: Sequence[int]
    ) -> Iterator[dict[str, np.ndarray]]:
        """What `outputs` gives, a block of utterances after another."""
        self.student.set_weights(weights)
        yield from self._predicted(self._logits_and_embedding, rows, indices)

    def _answers(self, model: keras.Model, rows: Any, indices: Sequence[int]) -> dict[str, np.ndarray]:
        return _joined(self._predicted(model, rows, indices))

    def _predicted(
        self, model: keras.Model, rows: Any, indices: Sequence[int]
    ) -> Iterator[dict[str, np.ndarray]]:
        """The model's outputs by name, one block of utterances after another; of the student itself they are
        logits and perhaps dimensions.
        """
        predict = full_precision(model.predict_on_batch)
        for batch in _batches_of(indices):
            # On JAX one size of batch, since it compiles anew for each.
            filled = np.resize(batch, BATCH) if _on_jax() else batch
            made = predict(devices.split(rows[filled], self.spec.devices))
            if not isinstance(made, Mapping):
                several = made if isinstance(made, list | tuple) else [made]
                made = dict(zip((LOGITS, DIMENSIONS), several, strict=False))
            yield {name: np.asarray(values)[: len(batch)] for name, values in made.items()}

    @functools.cached_property
    def scorer(self) -> keras.Model:
        """A float32 twin for the scores of many networks at once."""
        return accelerated(self.student, arithmetic="float32")

    @functools.cached_property
    def _logits_and_embedding(self) -> keras.Model:
        several = len(self.student.inputs) > 1
        return keras.Model(
            self.student.input if several else self.student.inputs,
            {
                **dict(zip((LOGITS, DIMENSIONS), self.student.outputs, strict=False)),
                EMBEDDING: embedding_of(self.student),
            },
        )

    @property
    def architecture(self) -> Hashable:
        """Equal for networks that can be trained together: their steps differ in numbers and losses alone."""
        build, schedule = self._build, self.schedule
        if not isinstance(build, functools.partial) or self.spec.key is None or self.distiller.projections:
            return id(self)  # what it has beside the student belongs to it alone
        steps = (
            schedule.batch_size, schedule.optimizer, schedule.weight_decay, schedule.accumulation,
            schedule.batch_norm_momentum,
        )  # fmt: skip
        spec, embeds = self.spec, self.distiller.distillation.needs_embeddings
        facts = build.func, build.args, _hashable(build.keywords), spec.arithmetic, spec.accelerate
        return (*facts, *steps, spec.teacher_widths.embedding if embeds else None)

    @property
    def losses(self) -> Hashable:
        """Equal for networks whose losses differ in numbers alone."""
        spec, distiller = self.spec, self.distiller
        facts = [
            {name: None if isinstance(value, float) else _hashable(value) for name, value in settings.items()}
            for settings in (distiller.label_settings, *(settings for _, settings in distiller.terms))
        ]
        names = [term.name for term, _ in distiller.terms]
        return spec.label_loss, tuple(names), spec.standardise_logits, _hashable(facts)

    @property
    def embedding_width(self) -> int:
        return embedding_of(self.student).shape[-1]

    def epochs_of(self, job: TrainingJob) -> int:
        return job.epochs or self.schedule.epochs

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train from new weights, or continue where the job's checkpoint stands.

        Raises:
            DivergenceError: a loss or a weight is no finite number any more.
        """
        self.begin(job)
        state = EpochState(self, job)
        if not state.restore():
            self.begin(job)
        # The ranges follow from the weights, so that no checkpoint holds them.
        self.calibrate(job.examples.rows, job.calibration)
        epochs, course = self.epochs_of(job), state.course
        if course.epoch < epochs and not course.stopped:
            steps = math.ceil(len(job.train) / self.schedule.batch_size)
            with devices.precision(self.spec.arithmetic):
                self.distiller.fit(
                    self._training_batches(job, first_epoch=course.epoch),
                    initial_epoch=course.epoch,
                    epochs=epochs,
                    steps_per_epoch=steps,
                    callbacks=[
                        _LearningRate(self.schedule, steps),
                        # Over the schedule's epochs, as the learning rate, where the job has fewer too.
                        RampWatch(self.schedule.epochs),
                        state,
                        *job.callbacks,
                    ],
                    shuffle=False,  # the batches come in their epoch's order
                    verbose=0,
                )
        course = state.course
        return TrainingResult(state.best, state.last, course.history, course.best_epoch, course.seconds)

    def begin(self, job: TrainingJob) -> None:
        """Give the network the weights that the job begins with."""
        initial = job.initial_weights
        self.start_anew(job.seed, None if initial is None else initial())
        if initial is not None:
            # The network that had these weights is a cycle, and could stay in memory for all of the training.
            gc.collect()
        for layer, weights in zip(self.distiller.projections, job.initial_projections, strict=False):
            layer.set_weights(weights)

    def _training_batches(self, job: TrainingJob, *, first_epoch: int):
        needs, outputs = self.distiller.distillation, job.teacher_outputs
        teacher = TeacherOutputs(
            logits=outputs.logits if outputs and needs.needs_logits else None,
            embedding=outputs.embedding if outputs and needs.needs_embeddings else None,
            states=outputs.states if outputs and needs.needs_states else None,
            unlabelled=outputs.unlabelled if outputs else None,
            batch_teacher=outputs.batch_teacher if outputs else None,
            views=outputs.views if outputs else None,
            dimensions=outputs.dimensions if outputs and needs.needs_dimensions else None,
        )
        made = (host_batches if _on_jax() else batches)(
            job.examples,
            job.train,
            batch_size=self.schedule.batch_size,
            seed=job.seed,
            first_epoch=first_epoch,
            teacher=teacher,
            augmenter=job.augmenter,
            class_weights=job.class_weights,
        )
        return (devices.split(batch, self.spec.devices) for batch in made) if _on_jax() else made


def _joined(blocks: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Outputs by name, of one block of utterances after another."""
    made = list(blocks)
    return {name: np.concatenate([block[name] for block in made]) for name in made[0]}


def _batches_of(indices: Sequence[int]) -> list[np.ndarray]:
    """The indices in blocks that are computed at once."""
    array = np.asarray(indices)
    return [array[start : start + BATCH] for start in range(0, len(array), BATCH)]


def _on_jax() -> bool:
    return keras.backend.backend() == "jax"


def _optimizer(schedule: Schedule) -> keras.optimizers.Optimizer:
    made: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
        "adam": keras.optimizers.Adam,
        "adamw": functools.partial(keras.optimizers.AdamW, weight_decay=schedule.weight_decay),
        "sgd": functools.partial(keras.optimizers.SGD, momentum=0.9),
    }
    steps = schedule.accumulation if schedule.accumulation > 1 else None  # Keras refuses 1
    return made[schedule.optimizer](schedule.learning_rate, gradient_accumulation_steps=steps)


def _random_states(model: keras.Model) -> list[Any]:
    """The dropout layers' seed generator states: what `variables` has beyond the weights."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


class _LearningRate(keras.callbacks.Callback):
    def __init__(self, schedule: Schedule, steps_per_epoch: int):
        super().__init__()
        self.schedule, self.steps_per_epoch = schedule, steps_per_epoch
        self.epoch = 0

    def _set(self, step_of_epoch: int) -> None:
        step = self.epoch * self.steps_per_epoch + step_of_epoch
        self.model.optimizer.learning_rate = self.schedule.learning_rate_at(epoch=self.epoch, step=step)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self._set(0)

    def on_train_batch_begin(self, batch, logs=None):
        if self.schedule.decay_unit == "steps":
            if _on_jax():
                self.model.jax_state_sync()  # within an epoch, what is set beside its state is lost
            self._set(batch)


def load_student(path: Path) -> keras.Model:
    """The network that a run stored as `.keras`.

    Raises:
        FileNotFoundError: there is no such file; NotADirectoryError: nor its folder.
        UserError: it is damaged, or no network of this package.
    """
    check_archive(path)  # Keras reads weights in a way that compares no CRC
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:  # a network that Keras cannot build fails in a dozen ways
        raise UserError(f"{path} is no network that Keras can load ({first_line(error, 200)}).") from None
