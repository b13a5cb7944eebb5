"""What a network is trained on and for how long, and what training leaves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from light_sernet_kd.config.settings import BEST
from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.batches import Examples, TeacherOutputs

if TYPE_CHECKING:
    import keras

# Called after each epoch with (epoch counted from 1, epochs, what the epoch's row of the history holds).
Progress = Callable[[int, int, Mapping[str, float]], None]


class DivergenceError(ArithmeticError):
    """Training left the finite numbers; its weights are worth nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training of a `Network`: the data, the seed, and where it is continued from.

    Attributes:
        train, validation: utterance indices. Without validation the last epoch counts.
        seed: decides the new weights, the order of the batches and the dropout masks.
        checkpoint: written after every epoch, or, where networks are trained together, once a minute. The
            caller removes it when it has stored the outcome.
        epochs: None takes the schedule's.
        initial_weights: returns the weights to begin with; None begins with new ones.
        initial_projections: weights of the linear layers to the teacher's widths, one list per layer.
        calibration: for a network of int8, the utterances that its exported file is calibrated with. Other
            clips mean other roundings.
        teacher_outputs: only what the losses compare with is read.
        augmenter: changes the training batches; validation sees the clean features.
        class_weights: `(classes,)`, which multiply an example's loss.
        keep: which weights `TrainingResult.selected` has: those of the `best` epoch on the validation
            utterances, of the `last` one, or the `mean` over the last quarter of the epochs, batch norm's
            statistics with them (Izmailov et al. 2018, arXiv:1803.05407).
        patience: stop after this many epochs without a better one; 0 never stops.

    >>> labels = np.array([0, 1, 0, 1], np.int32)
    >>> examples = Examples(np.zeros((4, 60, 40, 1), np.float32), labels, ("anger", "fear"))
    >>> job = TrainingJob(
    ...     examples=examples, train=(0, 1), validation=(2, 3), seed=0, checkpoint=Path("fold.npz")
    ... )
    >>> job.epochs is None, job.patience
    (True, 0)
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
    keep: str = BEST
    patience: int = 0
    progress: Progress | None = None
    callbacks: Sequence["keras.callbacks.Callback"] = ()


@dataclass(frozen=True)
class TrainingResult:
    """What training left.

    Attributes:
        selected: weights as `TrainingJob.keep` says; of the last epoch where that is the best one and nothing
            validates.
        last: weights of the last epoch.
        history: column → one value per epoch.
        best_epoch: of `selected`, counted from 1; the last one of the mean.

    The second of three epochs was the best.

    >>> history = {"val_ua": [0.4, 0.6, 0.5]}
    >>> trained = TrainingResult(selected=[], last=[], history=history, best_epoch=2, seconds=12.5)
    >>> trained.history["val_ua"][trained.best_epoch - 1]
    0.6
    """

    selected: list[np.ndarray]
    last: list[np.ndarray]
    history: dict[str, list[float]]
    best_epoch: int
    seconds: float
