"""A training's state after each epoch, and the file from which an interrupted training continues."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.arrays import ArrayError, Expected, open_arrays, say_anew
from light_sernet_kd.config.dimensions import are_ratings_alone
from light_sernet_kd.config.settings import BEST, MEAN
from light_sernet_kd.data.batches import Examples
from light_sernet_kd.distillation.batch_keys import DIMENSIONS, LOGITS
from light_sernet_kd.files import parse_json, write_arrays
from light_sernet_kd.training.job import DivergenceError, TrainingJob

if TYPE_CHECKING:
    from light_sernet_kd.training.network import Network


@dataclass
class TrainingRecord:
    """How a training went so far: what each epoch gave, and which one was the best.

    Attributes:
        epoch: how many are done.
        stopped: whether there was no better one for as long as the job has patience.
        history: column → a value per epoch.
        best_rank: of the best epoch's weights; the greater one is better.
        seconds: that the epochs took.

    >>> course = TrainingRecord()
    >>> [course.add_epoch({"loss": 1.0, "val_ua": ua, "val_loss": 1.0}, patience=1) for ua in (0.5, 0.4)]
    [1.0, 0.0]
    >>> course.best_epoch, course.stopped
    (1, True)
    """

    epoch: int = 0
    stopped: bool = False
    history: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    best_rank: tuple[float, float] = (-math.inf, -math.inf)
    seconds: float = 0.0

    def add_epoch(
        self,
        row: Mapping[str, float],
        *,
        finite: bool = True,
        patience: int = 0,
        keep: str = BEST,
        epochs: int = 0,
    ) -> float:
        """Add the row of the epoch that has ended.

        Args:
            row: what the history gets. With `val_ua` and `val_loss` these rank it, with `val_ccc` alone that;
                else the last is the best.
            finite: whether all weights are.
            keep: as of `TrainingJob`.
            epochs: of the whole training, where the mean is kept.

        Returns:
            The share of the epoch's weights in those that are kept from now on: 1 where they take their
            place, 0 where the others stay.

        Raises:
            DivergenceError: they are not, or a value of the row is not.
        """
        self.epoch += 1
        if not (finite and all(map(math.isfinite, row.values()))):
            raise DivergenceError(f"training diverged at epoch {self.epoch} (loss {row['loss']:g})")
        rank = (float(self.epoch), 0.0)
        if "val_ua" in row and keep == BEST:
            # Small validation sets tie often: the smaller loss then decides, and between those the earlier.
            rank = (row["val_ua"], -row["val_loss"])
        elif "val_ccc" in row and keep == BEST:
            rank = (row["val_ccc"], 0.0)
        is_best = rank > self.best_rank
        if is_best:
            self.best_rank, self.best_epoch = rank, self.epoch
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        self.stopped = bool(patience) and self.epoch - self.best_epoch >= patience
        if keep != MEAN:
            return float(is_best)
        return 1.0 / max(1, self.epoch - (epochs - averaged_epochs(epochs)))

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "TrainingRecord":
        """The course that `asdict` made this of."""
        return cls(**{**stored, "best_rank": tuple(stored["best_rank"])})


def averaged_epochs(epochs: int) -> int:
    """How many of a training's last epochs the mean of the weights is taken over: a quarter of them.

    >>> averaged_epochs(60), averaged_epochs(1)
    (15, 1)
    """
    return max(1, epochs // 4)


def validation_scores(
    examples: Examples, validation: Sequence[int], logits: np.ndarray, dimensions: np.ndarray | None = None
) -> dict[str, float]:
    """What the history says of logits `(len(validation), classes)`, and of values of dimensions.

    `val_ccc` is the mean concordance of the dimensions that can be scored; 0 where none can. Where ratings
    alone are learnt, it stands alone.
    """
    labels = examples.labels[list(validation)]
    scores = evaluation.scores(labels, logits.argmax(axis=1), examples.classes)
    row = {
        "val_loss": evaluation.log_loss(labels, logits.astype(np.float64)),
        "val_ua": scores.ua,
        "val_wa": scores.wa,
    }
    if dimensions is not None and examples.dimensions is not None:
        rated = evaluation.dimension_scores(examples.dimensions[list(validation)], dimensions)
        known = [each.ccc for each in rated if each.ccc is not None]
        row["val_ccc"] = float(np.mean(known)) if known else 0.0
        if are_ratings_alone(examples.classes):
            return {"val_ccc": row["val_ccc"]}
    return row


class EpochState(keras.callbacks.Callback):
    """After each epoch: validate, remember the best weights, write the checkpoint."""

    def __init__(self, network: "Network", job: TrainingJob):
        super().__init__()
        self.network, self.job = network, job
        self.course = TrainingRecord()
        self.best: list[np.ndarray] = []
        self.last: list[np.ndarray] = []
        self.started = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        row = {"loss": float(logs["loss"])}
        if not are_ratings_alone(self.job.examples.classes):
            row |= {"label_loss": float(logs["label_loss"]), "train_wa": float(logs["accuracy"])}
        row["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
        if "dimensions_loss" in logs:
            row["dimensions_loss"] = float(logs["dimensions_loss"])
        self.last = self.network.twin.get_weights()
        self.network.calibrate(self.job.examples.rows, self.job.calibration)
        if self.job.validation:
            row |= self._validate()
        logs.update(row)  # for the callbacks that come after this one
        finite = all(np.isfinite(weight).all() for weight in self.last)
        share = self.course.add_epoch(
            row,
            finite=finite,
            patience=self.job.patience,
            keep=self.job.keep,
            epochs=self.network.epochs_of(self.job),
        )
        if share == 1.0:
            self.best = self.last
        elif share:
            self.best = [
                kept + np.float32(share) * (now - kept)
                for kept, now in zip(self.best, self.last, strict=True)
            ]
        if self.course.stopped:
            self.model.stop_training = True
        self.course.seconds += time.perf_counter() - self.started
        self._save()
        if self.job.progress:
            self.job.progress(self.course.epoch, self.network.epochs_of(self.job), row)

    def _validate(self) -> dict[str, float]:
        examples, validation = self.job.examples, self.job.validation
        answers = self.network.validation_answers(self.last, examples.rows, validation)
        return validation_scores(examples, validation, answers[LOGITS], answers.get(DIMENSIONS))

    def _save(self) -> None:
        # Copied one by one as they are written: all at once would be three times the network.
        write_checkpoint(self.job.checkpoint, self.course, self.network.state_variables, self.best)

    def restore(self) -> bool:
        """Continue from the checkpoint, if there is one that is whole and of this network.

        Returns:
            False where it could be read in part only: the network is then neither as it was nor as stored.
        """
        state = self.network.state_variables
        untouched = True
        try:
            # The content is compared with its hash before the first variable is assigned.
            with opened_checkpoint(self.job.checkpoint, state, self.network.twin.weights) as stored:
                # All are read once before the first is assigned, and then again: at once they would be three
                # times the network.
                for number in range(len(state)):
                    stored.state(number)
                best = stored.best()
                untouched = False
                for number, variable in enumerate(state):
                    variable.assign(stored.state(number))
        except (FileNotFoundError, NotADirectoryError):
            return untouched
        except ArrayError as error:
            say_anew(error, "the training begins anew")
            return untouched
        self.course, self.best = stored.course, best
        self.last = self.network.twin.get_weights()
        return True


def write_checkpoint(
    path: Path, course: TrainingRecord, state: Sequence[Any], best: Sequence[np.ndarray]
) -> None:
    """Write all that a training needs to go on.

    Args:
        state: values of `Network.state_variables`.
        best: the weights of the best epoch.
    """
    arrays: dict[str, Any] = {f"state_{i}": variable for i, variable in enumerate(state)}
    arrays |= {f"best_{i}": weight for i, weight in enumerate(best)}
    write_arrays(path, {"facts": np.array(json.dumps(asdict(course))), **arrays})


@dataclass(frozen=True)
class StoredCheckpoint:
    """An open checkpoint, whose arrays are read when they are asked for."""

    course: TrainingRecord
    arrays: Mapping[str, np.ndarray]
    weights: int

    def state(self, number: int) -> np.ndarray:
        return self.arrays[f"state_{number}"]

    def best(self) -> list[np.ndarray]:
        return [self.arrays[f"best_{i}"] for i in range(self.weights)]


@contextlib.contextmanager
def opened_checkpoint(path: Path, state: Sequence[Any], weights: Sequence[Any]) -> Iterator[StoredCheckpoint]:
    """The checkpoint of a network with variables of these shapes.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        ArrayError: it is damaged, or of another network.
    """
    shapes = {f"state_{i}": each.shape for i, each in enumerate(state)}
    shapes |= {f"best_{i}": each.shape for i, each in enumerate(weights)}
    expected = {name: Expected(tuple(shape), "fiub") for name, shape in shapes.items()}
    with open_arrays(path, expected={"facts": Expected((), "U"), **expected}, sealed=True) as stored:
        yield StoredCheckpoint(TrainingRecord.of(_facts(path, stored["facts"])), stored, len(weights))


def _facts(checkpoint: Path, text: np.ndarray) -> dict[str, Any]:
    try:
        facts = parse_json(str(text))
    except ValueError as error:
        raise ArrayError(checkpoint, f"is damaged ({error})") from None
    if not isinstance(facts, dict) or set(facts) != {each.name for each in fields(TrainingRecord)}:
        raise ArrayError(checkpoint, "is of another release")
    return facts
