"""How far a student's probabilities can be believed: ECE, NLL, Brier score, reliability."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd.evaluation.scoring import confusion_matrices

ECE_BINS = 15

# Chow's rule (1970) for a wrong answer that costs twice an unsure one. Only calibration gives it a meaning:
# below it, an answer is more likely wrong than right; a threshold fitted to a corpus's few validation clips
# would follow how easy that corpus is instead.
UNSURE_BELOW = 0.5

# Mean confidences this far apart are those of students that no longer resemble one another.
FAR_APART = 0.15


def softmax(logits: ArrayLike) -> NDArray[Any]:
    """Probabilities over the last axis; finite for any finite logits, in the logits' float type.

    >>> softmax([1000.0, 1000.0]).tolist()
    [0.5, 0.5]
    """
    logits = np.asarray(logits)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean over `(utterances,)` labels of minus the log probability that `logits` give them, in nats.

    Two classes that are alike have a probability of 1/2 each: log 2.

    >>> round(log_loss(np.array([0]), np.array([[1.0, 1.0]])), 4)
    0.6931
    """
    top = logits.max(axis=1)
    partition = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((partition - logits[np.arange(len(labels)), labels]).mean())


def labelled_rows(labels: ArrayLike, values: ArrayLike, what: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Both as arrays `(N,)` and float64 `(N, classes)` that fit together, N at least 1.

    Raises:
        ValueError: they do not fit together, or a value is not finite.
    """
    rows, truth = np.asarray(values, np.float64), np.asarray(labels)
    if rows.ndim != 2 or not rows.size or truth.shape != rows.shape[:1]:
        raise ValueError(
            f"{what} {rows.shape} with labels {truth.shape}; expected (N, classes) and (N,), N at least 1"
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"{what} that are not finite")
    confusion_matrices(truth, truth, 0, 1, rows.shape[1])  # refuses what is no index of a class
    return truth.astype(np.int64), rows


def calibration(labels: ArrayLike, logits: ArrayLike, bins: int = ECE_BINS) -> dict[str, Any]:
    """How far softmax(logits) can be believed; divide the logits by a temperature before.

    Args:
        labels: `(N,)` class indices.
        logits: `(N, classes)`, N at least 1.

    Returns:
        `ece`; `ece_by_chance`, which probabilities that are true would have with so many predictions;
        `nll` in nats; `brier`, the squared distance to the one-hot label, 0 to 2; mean `confidence` and
        `accuracy`; `sure`, the share of predictions at or above `UNSURE_BELOW`, and `sure_accuracy`, the
        share of those that is right (None where there are none); `reliability`, the bins.

    >>> result = calibration([0, 1], [[0.0, 0.0], [0.0, 0.0]])
    >>> round(result["nll"], 4), result["brier"], result["confidence"], result["accuracy"]
    (0.6931, 0.5, 0.5, 0.5)
    """
    truth, rows = labelled_rows(labels, logits, "logits")
    shares = softmax(rows)
    confidence, right, place, _ = _binned(shares, truth, bins)
    sure = confidence >= UNSURE_BELOW
    chance = np.abs(_drawn(confidence, place, bins, 1000, 0)).sum(axis=1).mean() / len(truth)
    return {
        "ece": expected_calibration_error(shares, truth, bins),
        "ece_by_chance": float(chance),
        "nll": log_loss(truth, rows),
        "brier": float(((shares - np.eye(shares.shape[1])[truth]) ** 2).sum(axis=1).mean()),
        "confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "sure": float(sure.mean()),
        "sure_accuracy": float(right[sure].mean()) if sure.any() else None,
        "reliability": [asdict(each) for each in reliability(shares, truth, bins)],
    }


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> float:
    """ECE: mean over predictions of |accuracy - confidence| of their bin, from 0 to 1.

    Confidence is the largest probability; the bins split 0 to 1 into equal widths, each without its lower and
    with its upper edge. Of few predictions even true probabilities have an ECE well above 0, by chance:
    `calibration` gives it as `ece_by_chance`.

    Args:
        probabilities: `(N, classes)`, N at least 1.
        labels: `(N,)` class indices.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.

    A student that is 75 % sure twice and right once.

    >>> expected_calibration_error([[0.75, 0.25], [0.75, 0.25]], [0, 1])
    0.25
    """
    confidence, right, place, _ = _binned(probabilities, labels, bins)
    gaps = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(place))


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose confidence, the largest probability, is above `low` and at most `high`.

    Attributes:
        confidence: their mean confidence.
        accuracy: the share of them that is right.
        expected: where `accuracy` would be in 95 of 100 draws if the probabilities were true.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    expected: tuple[float, float]


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS, *, draws: int = 1000, seed: int = 0
) -> list[ReliabilityBin]:
    """The bins of `expected_calibration_error` that hold a prediction, from low confidence to high.

    Args:
        draws: of right and wrong by the confidences, for `expected`.

    Source: Bröcker and Smith 2007, Increasing the reliability of reliability diagrams, for `expected`.
    """
    confidence, right, place, edges = _binned(probabilities, labels, bins)
    drawn = _drawn(confidence, place, bins, draws, seed)
    reliability_bins = []
    for number in np.unique(place):
        inside = place == number
        count, mean = int(inside.sum()), float(confidence[inside].mean())
        low, high = np.percentile(mean + drawn[:, number] / count, [2.5, 97.5])
        reliability_bins.append(
            ReliabilityBin(
                float(edges[number]),
                float(edges[number + 1]),
                count,
                mean,
                float(right[inside].mean()),
                (float(low), float(high)),
            )
        )
    return reliability_bins


def _binned(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> tuple[NDArray[Any], ...]:
    """Confidence, whether right, and which bin, `(N,)` each, and the edges of the bins."""
    truth, shares = labelled_rows(labels, probabilities, "probabilities")
    if (shares < 0).any() or np.abs(shares.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("probabilities that are negative or do not sum to 1")
    confidence, edges = shares.max(axis=1), np.linspace(0, 1, bins + 1)
    return confidence, shares.argmax(axis=1) == truth, np.digitize(confidence, edges[1:-1], right=True), edges


def _drawn(
    confidence: NDArray[Any], place: NDArray[Any], bins: int, draws: int, seed: int
) -> NDArray[np.float64]:
    """Per draw and bin, by how much more predictions are right than promised, if the promises are true."""
    random, members = np.random.default_rng(seed), np.eye(bins)[place]
    return np.stack([((random.random(len(place)) < confidence) - confidence) @ members for _ in range(draws)])


def confidence(logits: ArrayLike) -> dict[str, Any]:
    """How sure softmax(logits) is of `count` rows: mean `confidence`, share `sure` from `UNSURE_BELOW` on.

    Args:
        logits: `(N, classes)`, N at least 1, divided by their temperature.
    """
    largest = softmax(np.asarray(logits, np.float64)).max(axis=1)
    return {
        "count": len(largest),
        "confidence": float(largest.mean()),
        "sure": float((largest >= UNSURE_BELOW).mean()),
    }


def confidence_warnings(files: Mapping[str, Any] | None) -> list[str]:
    """What a reader must know where the exported student is far more or less sure than the folds' students.

    Training utterances are compared with training utterances: any student is surer of what it was trained on.

    Args:
        files: `folds_test`, `folds_training` and `final_training`, each as `confidence` gives it; None where
            nothing was exported.

    Returns:
        A sentence without a full stop, or none.
    """
    if not files:
        return []
    shares = [files[name]["confidence"] for name in ("final_training", "folds_training", "folds_test")]
    if abs(shares[0] - shares[1]) <= FAR_APART:
        return []
    final, folds, test = (f"{100 * share:.0f} %" for share in shares)
    return [
        f"the exported student's probabilities are not those of the scored ones: its mean confidence in its "
        f"training utterances is {final}, that of the folds' students in theirs {folds} and in their test "
        f"utterances {test}"
    ]


def probability_change(reference: ArrayLike, other: ArrayLike) -> dict[str, Any]:
    """How far probabilities `(N, classes)` are from others of the same utterances, N at least 1.

    Returns:
        Of each utterance's largest change of a class: `mean`, `p95` (the 95th percentile) and `max`; and the
        `count` of utterances.
    """
    change = np.abs(np.asarray(other, np.float64) - np.asarray(reference, np.float64)).max(axis=1)
    return {
        "mean": float(change.mean()),
        "p95": float(np.percentile(change, 95)),
        "max": float(change.max()),
        "count": len(change),
    }
