"""What a network is trained on and for how long, and what training leaves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd.data.batches import Augmenter

if TYPE_CHECKING:
    import keras

# Called after each epoch with (epoch counted from 1, epochs, what the epoch's row of the history holds).
Progress = Callable[[int, int, Mapping[str, float]], None]


class DivergenceError(ArithmeticError):
    """Training left the finite numbers; its weights are worth nothing."""


@dataclass(frozen=True)
class Examples:
    """A corpus as a network sees it.

    Attributes:
        rows: features `(utterances, frames, features, 1)`, indexed by an array of utterances; for a network
            of several inputs an object that returns a dictionary of such arrays.
        labels: class indices `(utterances,)` int32.
        soft_labels: share of the annotators `(utterances, classes)`, where those are trained on.
    """

    rows: Any
    labels: np.ndarray
    classes: tuple[str, ...]
    soft_labels: np.ndarray | None = None


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs for every utterance.

    Attributes:
        logits: `(utterances, classes)`.
        embedding: `(utterances, width)`; None where no loss compares with it.
        states: text states `(utterances, tokens, width)`, likewise; indexed by an array of utterances.
    """

    logits: np.ndarray
    embedding: np.ndarray | None = None
    states: Any = None


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training of a `Network`: the data, the seed, and where it is continued from.

    Attributes:
        train, validation: utterance indices. Without validation the last epoch counts.
        seed: decides the new weights, the order of the batches and the dropout masks.
        checkpoint: written after every epoch. The caller removes it when it has stored the outcome.
        epochs: None takes the schedule's.
        initial_weights: returns the weights to begin with; None begins with new ones.
        initial_projections: weights of the linear layers to the teacher's widths, one list per layer.
        calibration: for a network of int8, the utterances that its exported file is calibrated with. Other
            clips mean other roundings.
        teacher_outputs: only what the losses compare with is read.
        augmenter: changes the training batches; validation sees the clean features.
        class_weights: `(classes,)`, which multiply an example's loss.
        patience: stop after this many epochs without a better one; 0 never stops.
    """

    examples: Examples
    train: Sequence[int]
    validation: Sequence[int]
    seed: int
    checkpoint: Path
    epochs: int | None = None
    initial_weights: Callable[[], Sequence[np.ndarray]] | None = None
    initial_projections: Sequence[Sequence[np.ndarray]] = ()
    calibration: Sequence[int] = ()
    teacher_outputs: TeacherOutputs | None = None
    augmenter: Augmenter | None = None
    class_weights: np.ndarray | None = None
    patience: int = 0
    progress: Progress | None = None
    callbacks: Sequence["keras.callbacks.Callback"] = ()


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
