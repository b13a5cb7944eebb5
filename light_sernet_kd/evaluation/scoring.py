"""How well a student does: UA, WA, F1 and recall.

Every score is computed from a confusion matrix, so that a bootstrap is a sum of matrices. The definitions
are scikit-learn's (`balanced_accuracy_score`, `accuracy_score`, `f1_score`); the tests compare the two.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SUMMARIES = ("ua", "wa", "macro_f1", "weighted_f1")


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1 over `count` utterances.

    Attributes:
        ua: unweighted accuracy: the mean recall over the classes that occur in the labels.
        wa: weighted accuracy: the share of utterances that are right.
        macro_f1: mean F1 over the classes that occur in the labels or the predictions.
        weighted_f1: mean F1 over classes, weighted by how many utterances have that label.
        recall_per_class: None for a class without a test utterance.
        count_per_class: how many of the utterances have that label.

    A class without a test utterance has no recall. UA leaves it out.

    >>> result = scores([0, 0, 1], [0, 0, 0], ["anger", "fear", "neutral"])
    >>> result.recall_per_class, result.ua
    ({'anger': 1.0, 'fear': 0.0, 'neutral': None}, 0.5)
    """

    ua: float
    wa: float
    macro_f1: float
    weighted_f1: float
    recall_per_class: dict[str, float | None]
    count: int
    count_per_class: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def scores(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> Scores:
    """The scores of one set of utterances.

    Args:
        labels, predicted: `(N,)` indices into `classes`, N at least 1.

    Raises:
        ValueError: there is no utterance, or as `confusion`.

    Half of anger and all of fear is right, 2 of 3 utterances.

    >>> result = scores([0, 0, 1], [0, 1, 1], ["anger", "fear"])
    >>> result.ua, round(result.wa, 4)
    (0.75, 0.6667)
    """
    matrix = confusion(labels, predicted, classes)
    if not matrix.any():
        raise ValueError("no utterance to score")
    summary = {name: float(value) for name, value in summaries(matrix).items()}
    recall = {
        name: float(row[index] / row.sum()) if row.any() else None
        for index, (name, row) in enumerate(zip(classes, matrix, strict=True))
    }
    counts = dict(zip(classes, matrix.sum(axis=1).tolist(), strict=True))
    return Scores(**summary, recall_per_class=recall, count=int(matrix.sum()), count_per_class=counts)


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> NDArray[np.int64]:
    """Utterances by label (row) and prediction (column): `(classes, classes)`.

    Args:
        labels, predicted: `(N,)` indices into `classes`.

    Raises:
        ValueError: as `confusion_matrices`.

    >>> confusion([0, 0, 1], [0, 1, 1], ["anger", "fear"]).tolist()
    [[1, 1], [0, 1]]
    """
    return confusion_matrices(labels, predicted, 0, 1, len(classes))[0]


def confusion_matrices(
    labels: ArrayLike, predicted: ArrayLike, group: NDArray[np.intp] | int, groups: int, classes: int
) -> NDArray[np.int64]:
    """One confusion matrix per group: `(groups, classes, classes)`.

    Raises:
        ValueError: labels or predictions are no row of integers below `classes`, or their lengths differ.
    """
    indices = []
    for name, values in (("labels", np.asarray(labels)), ("predictions", np.asarray(predicted))):
        if values.ndim != 1 or not (values.size == 0 or np.issubdtype(values.dtype, np.integer)):
            raise ValueError(f"{name} are {values.dtype} of shape {values.shape}; expected a row of integers")
        # np.bincount would count an index out of range into a neighbouring row without complaint.
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(
                f"{name} run from {values.min()} to {values.max()}; expected 0 to {classes - 1} "
                f"for {classes} classes"
            )
        indices.append(values.astype(np.int64))
    truth, guess = indices
    if truth.shape != guess.shape:
        raise ValueError(
            f"{truth.size} labels but {guess.size} predictions; expected one of each per utterance"
        )
    cells = (group * classes + truth) * classes + guess
    return np.bincount(cells, minlength=groups * classes**2).reshape(groups, classes, classes)


def summaries(matrices: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """`SUMMARIES` of each of `(..., classes, classes)` confusion matrices: `(...,)` each."""
    right = np.diagonal(matrices, axis1=-2, axis2=-1)
    labelled = matrices.sum(axis=-1)
    guessed = matrices.sum(axis=-2)
    total = labelled.sum(axis=-1)
    # Where a class is absent its numerator is 0 as well, so a denominator of 1 leaves a harmless 0.
    recall = right / np.maximum(labelled, 1)
    f1 = 2 * right / np.maximum(labelled + guessed, 1)
    return {
        "ua": recall.sum(axis=-1) / (labelled > 0).sum(axis=-1),
        "wa": right.sum(axis=-1) / total,
        "macro_f1": f1.sum(axis=-1) / (labelled + guessed > 0).sum(axis=-1),
        "weighted_f1": (f1 * labelled).sum(axis=-1) / total,
    }
