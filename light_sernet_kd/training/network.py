"""Training: one network on one fold, continuing after an interruption from its last finished epoch."""

import csv
import functools
import gc
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.arrays import ArrayError, Expected, check_archive, open_arrays, say_anew
from light_sernet_kd.data import batches as pipeline
from light_sernet_kd.data.feature_cache import BATCH
from light_sernet_kd.distillation.batch_keys import EMBEDDING, LOGITS
from light_sernet_kd.distillation.distiller import Distiller, embedding_of
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import atomic, parse_json, write_arrays
from light_sernet_kd.registries.losses import NO_TEACHER
from light_sernet_kd.registries.schedules import Schedule
from light_sernet_kd.training.accelerate import accelerated
from light_sernet_kd.training.accelerate import arithmetic as resolved_arithmetic
from light_sernet_kd.training.quantisation import Simulation

# Called after each epoch with (epoch counted from 1, epochs, what the epoch's row of the history holds).
Progress = Callable[[int, int, Mapping[str, float]], None]


class DivergenceError(ArithmeticError):
    """A training that left the numbers; its weights are worth nothing."""


@dataclass(frozen=True)
class Examples:
    """A corpus as a network sees it.

    Attributes:
        rows: features `(utterances, frames, features, 1)`, indexed by an array of utterances; for a network
            of several inputs what gives a dictionary of such arrays.
        labels: class indices `(utterances,)` int32.
        soft_labels: share of the annotators `(utterances, classes)`, where those are trained on.
    """

    rows: Any
    labels: np.ndarray
    classes: tuple[str, ...]
    soft_labels: np.ndarray | None = None


@dataclass(frozen=True)
class Teaching:
    """What a teacher says of every utterance.

    Attributes:
        logits: `(utterances, classes)`.
        embedding: `(utterances, width)`; None where no loss compares with it.
        states: text states `(utterances, tokens, width)`, likewise; indexed by an array of utterances.
    """

    logits: np.ndarray
    embedding: np.ndarray | None = None
    states: Any = None


@dataclass(frozen=True)
class Trained:
    """What training left.

    Attributes:
        selected: weights of the epoch that validation chose; of the last epoch where nothing validates.
        last: weights of the last epoch.
        history: column → one value per epoch.
        best_epoch: of `selected`, counted from 1.
    """

    selected: list[np.ndarray]
    last: list[np.ndarray]
    history: dict[str, list[float]]
    best_epoch: int
    seconds: float


class Network:
    """One architecture with its losses, compiled once and trained from new weights for every fold.

    Compiling anew for each fold would cost seconds each time, for the same graph.
    """

    def __init__(
        self,
        build: Callable[[], keras.Model],
        *,
        schedule: Schedule,
        label_loss: str,
        label_settings: Mapping[str, Any],
        distillation: str = NO_TEACHER,
        distillation_settings: Mapping[str, Any] | None = None,
        standardise_logits: bool = False,
        teacher_embedding_width: int | None = None,
        teacher_state_width: int | None = None,
        arithmetic: str = "auto",
        accelerate: bool = True,
        int8: bool = False,
    ):
        """`build` makes the network with new weights; without `accelerate` it is trained as it is.

        With `int8` it is trained, and validated, with the roundings of its int8 file, in float32.
        """
        self.schedule = schedule
        self._build = build
        # Scores are always those of plain float32 layers, which are what is saved and exported.
        self.student = self.twin = build()
        self.simulation = Simulation(self.student) if int8 else None
        if self.simulation:
            self.twin = self.simulation.twin
        elif accelerate:
            self.twin = accelerated(
                self.student,
                arithmetic=resolved_arithmetic(arithmetic),
                batch_norm_momentum=schedule.batch_norm_momentum,
            )
        self.distiller = Distiller(
            self.twin,
            label_loss=label_loss,
            label_settings=label_settings,
            distillation=distillation,
            distillation_settings=distillation_settings,
            standardise_logits=standardise_logits,
            teacher_embedding_width=teacher_embedding_width,
            teacher_state_width=teacher_state_width,
            # AdamW decays the weights itself
            weight_decay=0.0 if schedule.optimizer == "adamw" else schedule.weight_decay,
        )
        # XLA's convolutions are slower than oneDNN's on CPU.
        self.distiller.compile(_optimizer(schedule), jit_compile=False)
        self.distiller.optimizer.build(self.distiller.trainable_variables)

    @property
    def parameters(self) -> int:
        return self.student.count_params()

    def start_anew(self, seed: int, initial: Sequence[np.ndarray] | None = None) -> None:
        """New (or `initial`) weights, a new optimiser state and new dropout masks, decided by `seed`."""
        keras.utils.set_random_seed(seed)
        self.twin.set_weights(self._build().get_weights() if initial is None else initial)
        for number, state in enumerate(_random_states(self.twin)):
            state.assign(np.array([seed % 2**32, number], np.uint32))
        self.distiller.start_projection_anew(seed)
        for variable in self.distiller.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    def logits(self, weights: list[np.ndarray], rows: Any, indices: Sequence[int]) -> np.ndarray:
        """Logits `(len(indices), classes)` of the student with these weights."""
        self.student.set_weights(weights)
        return _logits(self.student, rows, indices)

    def calibrate(self, rows: Any, indices: Sequence[int]) -> None:
        """For a network of int8, find its ranges with the twin's weights on clips of these utterances."""
        if self.simulation:
            chosen, size = np.asarray(indices), BATCH
            self.simulation.calibrate(
                rows[chosen[start : start + size]] for start in range(0, len(chosen), size)
            )

    def outputs(self, weights: list[np.ndarray], rows: Any, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """`logits` `(len(indices), classes)` and `embedding` `(len(indices), width)` with these weights."""
        self.student.set_weights(weights)
        both = self._both
        chosen = np.asarray(indices)
        size = BATCH
        found = [
            both.predict_on_batch(rows[chosen[start : start + size]]) for start in range(0, len(chosen), size)
        ]
        return {name: np.concatenate([each[name] for each in found]) for name in (LOGITS, EMBEDDING)}

    @functools.cached_property
    def _both(self) -> keras.Model:
        several = len(self.student.inputs) > 1
        return keras.Model(
            self.student.input if several else self.student.inputs,
            {LOGITS: self.student.outputs[0], EMBEDDING: embedding_of(self.student)},
        )

    @property
    def embedding_width(self) -> int:
        return embedding_of(self.student).shape[-1]

    def train(
        self,
        examples: Examples,
        *,
        train: Sequence[int],
        validation: Sequence[int],
        seed: int,
        checkpoint: Path,
        epochs: int | None = None,
        initial: Callable[[], Sequence[np.ndarray]] | None = None,
        initial_projections: Sequence[Sequence[np.ndarray]] = (),
        calibration: Sequence[int] = (),
        teaching: Teaching | None = None,
        augmenter: pipeline.Augmenter | None = None,
        class_weights: np.ndarray | None = None,
        patience: int = 0,
        progress: Progress | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> Trained:
        """Train from new weights, or continue where `checkpoint` stands.

        Args:
            train, validation: utterance indices; without validation the last epoch counts.
            checkpoint: written after every epoch. The caller removes it when it has stored the outcome.
            epochs: by default the schedule's.
            initial: gives the weights to begin with instead of new ones.
            initial_projections: likewise those of the linear layers to the teacher's widths.
            calibration: for a network of int8, the utterances that its file is calibrated with too: where
                steps are coarse, other clips mean other roundings.
            teaching: what the teacher says; only what the losses compare with is read.
            augmenter: changes the training batches; validation sees the clean features.
            patience: stop after this many epochs without a better one; 0 never does.

        Raises:
            DivergenceError: a loss or a weight is no finite number any more.
        """
        epochs = epochs or self.schedule.epochs

        def begin_anew() -> None:
            self.start_anew(seed, None if initial is None else initial())
            if initial is not None:
                # The network that had these weights is a cycle, and could stay in memory for all of the
                # training.
                gc.collect()
            for layer, weights in zip(self.distiller.projections, initial_projections, strict=False):
                layer.set_weights(weights)

        begin_anew()
        state = _EpochState(self, examples, calibration, validation, checkpoint, epochs, patience, progress)
        if not state.restore():
            begin_anew()
        # The ranges follow from the weights, so that no checkpoint holds them.
        self.calibrate(examples.rows, calibration)
        if state.epoch < epochs and not state.stopped:
            steps = math.ceil(len(train) / self.schedule.batch_size)
            needs = self.distiller.distillation
            batches = pipeline.batches(
                pipeline.Examples(examples.rows, examples.labels, examples.classes, examples.soft_labels),
                train,
                batch_size=self.schedule.batch_size,
                seed=seed,
                first_epoch=state.epoch,
                teacher=pipeline.TeacherOutputs(
                    logits=teaching.logits if teaching and needs.needs_logits else None,
                    embedding=teaching.embedding if teaching and needs.needs_embeddings else None,
                    states=teaching.states if teaching and needs.needs_states else None,
                ),
                augmenter=augmenter,
                class_weights=class_weights,
            )
            self.distiller.fit(
                batches,
                initial_epoch=state.epoch,
                epochs=epochs,
                steps_per_epoch=steps,
                callbacks=[_LearningRate(self.schedule, steps), state, *callbacks],
                shuffle=False,  # the batches come in their epoch's order
                verbose=0,
            )
        return Trained(state.best, state.last, state.history, state.best_epoch, state.seconds)


def _logits(model: keras.Model, rows: Any, indices: Sequence[int]) -> np.ndarray:
    chosen = np.asarray(indices)
    size = BATCH
    batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    return np.concatenate([np.asarray(model.predict_on_batch(rows[batch])) for batch in batches])


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
            self._set(batch)


# What a checkpoint says beside its arrays.
_FACTS = {"epoch", "stopped", "history", "best_epoch", "best_rank", "seconds"}


class _EpochState(keras.callbacks.Callback):
    """After each epoch: validate, remember the best weights, write the checkpoint."""

    def __init__(
        self,
        network: Network,
        examples: Examples,
        calibration: Sequence[int],
        validation: Sequence[int],
        checkpoint: Path,
        epochs: int,
        patience: int,
        progress: Progress | None,
    ):
        super().__init__()
        self.network, self.examples = network, examples
        self.calibration, self.validation = calibration, validation
        self.checkpoint, self.epochs, self.patience, self.progress = checkpoint, epochs, patience, progress
        self.epoch = 0
        self.stopped = False
        self.history: dict[str, list[float]] = {}
        self.best: list[np.ndarray] = []
        self.last: list[np.ndarray] = []
        self.best_epoch = 0
        self.best_rank = (-math.inf, -math.inf)
        self.seconds = 0.0
        self.started = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch = epoch + 1
        logs = logs or {}
        row = {
            "loss": float(logs["loss"]),
            "label_loss": float(logs["label_loss"]),
            "train_wa": float(logs["accuracy"]),
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
        }
        self.last = self.network.twin.get_weights()
        self.network.calibrate(self.examples.rows, self.calibration)
        rank = (float(epoch), 0.0)
        if self.validation:
            row |= self._validate()
            # Small validation sets tie often: the smaller loss then decides, and between those the earlier.
            rank = (row["val_ua"], -row["val_loss"])
        weights_are_finite = all(np.isfinite(weight).all() for weight in self.last)
        if not (all(map(math.isfinite, row.values())) and weights_are_finite):
            raise DivergenceError(f"training diverged at epoch {self.epoch} (loss {row['loss']:g})")
        if rank > self.best_rank:
            self.best, self.best_rank, self.best_epoch = self.last, rank, self.epoch
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        if self.patience and self.epoch - self.best_epoch >= self.patience:
            self.stopped = self.model.stop_training = True
        self.seconds += time.perf_counter() - self.started
        self._save()
        if self.progress:
            self.progress(self.epoch, self.epochs, row)

    def _validate(self) -> dict[str, float]:
        rows = self.examples.rows
        if self.network.simulation:
            logits = _logits(self.network.twin, rows, self.validation)
        else:
            logits = self.network.logits(self.last, rows, self.validation)
        labels = self.examples.labels[list(self.validation)]
        scores = evaluation.scores(labels, logits.argmax(axis=1), self.examples.classes)
        return {
            "val_loss": evaluation.log_loss(labels, logits.astype(np.float64)),
            "val_ua": scores.ua,
            "val_wa": scores.wa,
        }

    def _variables(self) -> list[Any]:
        twin, distiller = self.network.twin, self.network.distiller
        projections = [weight for layer in distiller.projections for weight in layer.weights]
        return [*twin.weights, *_random_states(twin), *projections, *distiller.optimizer.variables]

    def _save(self) -> None:
        facts = {
            "epoch": self.epoch,
            "stopped": self.stopped,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_rank": self.best_rank,
            "seconds": self.seconds,
        }
        # Copied one by one as they are written: all at once would be three times the network.
        arrays: dict[str, Any] = {f"state_{i}": variable for i, variable in enumerate(self._variables())}
        arrays |= {f"best_{i}": weight for i, weight in enumerate(self.best)}
        write_arrays(self.checkpoint, {"facts": np.array(json.dumps(facts)), **arrays})

    def restore(self) -> bool:
        """Continue from the checkpoint, if there is one that is whole and of this network.

        Returns:
            False where it could be read in part only: the network is then neither as it was nor as stored.
        """
        state = {f"state_{i}": variable for i, variable in enumerate(self._variables())}
        bests = {f"best_{i}": weight for i, weight in enumerate(self.network.twin.weights)}
        expected = {name: Expected(tuple(each.shape), "fiub") for name, each in (state | bests).items()}
        untouched = True
        try:
            # The content is compared with its hash before the first variable is assigned.
            with open_arrays(
                self.checkpoint, expected={"facts": Expected((), "U"), **expected}, sealed=True
            ) as stored:
                facts = _facts(self.checkpoint, stored["facts"])
                # All are read once before the first is assigned, and then again: at once they would be three
                # times the network.
                for name in state:
                    stored[name]
                best = [stored[name] for name in bests]
                untouched = False
                for name, variable in state.items():
                    variable.assign(stored[name])
        except (FileNotFoundError, NotADirectoryError):
            return untouched
        except ArrayError as error:
            say_anew(error, "the training begins anew")
            return untouched
        self.epoch, self.stopped = facts["epoch"], facts["stopped"]
        self.history, self.seconds = facts["history"], facts["seconds"]
        self.best, self.best_epoch, self.best_rank = best, facts["best_epoch"], tuple(facts["best_rank"])
        self.last = self.network.twin.get_weights()
        return True


def _facts(checkpoint: Path, text: np.ndarray) -> dict[str, Any]:
    try:
        facts = parse_json(str(text))
    except ValueError as error:
        raise ArrayError(checkpoint, f"is damaged ({error})") from None
    if not isinstance(facts, dict) or not _FACTS.issubset(facts):
        raise ArrayError(checkpoint, "is of another release")
    return facts


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
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} is no network that Keras can load ({words}).") from None


def write_history(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """One row per epoch, counted from 1."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *history])
        for epoch, values in enumerate(zip(*history.values(), strict=True), start=1):
            writer.writerow([epoch, *(f"{value:.6g}" for value in values)])


def read_history(path: Path, epochs: int | None = None) -> dict[str, list[float]]:
    """What `write_history` wrote: column → one value per epoch.

    Args:
        epochs: how many there must be, where that is known.

    Raises:
        ValueError: a row or a part of one is missing.
    """
    text = path.read_text(encoding="utf-8")
    header, *rows = list(csv.reader(text.splitlines())) or [[]]
    if not text.endswith("\n"):
        raise ValueError(f"{path} ends inside a row")
    if header[:1] != ["epoch"] or len(header) < 2 or len(rows) != (epochs or len(rows)) or not rows:
        raise ValueError(f"{path} has {len(rows)} epochs under {', '.join(header)}; expected {epochs}")
    for number, row in enumerate(rows, start=1):
        if row[:1] != [str(number)] or len(row) != len(header):
            raise ValueError(f"{path}: row {number} has {len(row)} values for {len(header)} columns")
    return {name: [float(row[place]) for row in rows] for place, name in enumerate(header) if place}
