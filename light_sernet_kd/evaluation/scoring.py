"""How well a student does: UA, WA, F1 and recall, how sure we are of them, and predictions.csv.

Every score is computed from a confusion matrix, so that a bootstrap is a sum of matrices. The definitions
are scikit-learn's (`balanced_accuracy_score`, `accuracy_score`, `f1_score`); the tests compare the two.

Also how far its probabilities can be believed: temperature scaling, ECE, NLL, Brier score, reliability.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd.errors import UserError
from light_sernet_kd.files import atomic, open_regular

SUMMARIES = ("ua", "wa", "macro_f1", "weighted_f1")
FEWEST_SPEAKERS = 3
CI_METHOD = (
    "percentile bootstrap over test speakers: whole speakers are drawn with replacement; "
    f"none is given for fewer than {FEWEST_SPEAKERS} speakers"
)

# Temperatures are looked for between these: students trained with MSE need about 0.1, sharp ones 1 to 5.
TEMPERATURE_BOUNDS = (0.01, 100.0)
# From fewer validation predictions none is fitted: on drawn logits, T of 10 made the NLL worse on average.
FEWEST_TO_CALIBRATE = 20
ECE_BINS = 15
# Chow's rule (1970) for a wrong answer that costs twice an unsure one. Only calibration gives it a meaning:
# below it, an answer is more likely wrong than right; a threshold fitted to a corpus's few validation clips
# would follow how easy that corpus is instead.
UNSURE_BELOW = 0.5

# Mean confidences this far apart are those of students that no longer resemble one another.
FAR_APART = 0.15

# A class may be called anything, "id" and "label" too; with the prefix no class hides another column.
PROBABILITY_PREFIX = "p_"
PREDICTION_COLUMNS = ("id", "fold", "label", "predicted")


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


@dataclass(frozen=True)
class Predictions:
    """What a student said about N utterances, in the order of `ids`.

    Attributes:
        labels, predicted: `(N,)` indices into `classes`. `predicted` is kept beside the probabilities
            because two logits that differ can round to one probability.
        probabilities: `(N, classes)` float32.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    folds: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.ids)
        lengths = {len(self.folds), len(self.labels), len(self.predicted), len(self.probabilities)}
        if lengths != {count} or self.probabilities.shape != (count, len(self.classes)):
            raise ValueError(
                f"{count} ids with {len(self.folds)} folds, {len(self.labels)} labels, {len(self.predicted)} "
                f"predictions and probabilities {self.probabilities.shape}; expected {count} of each and "
                f"{len(self.classes)} probabilities per id"
            )
        # Refuses an index without a class; -1 would otherwise be written as the last class's name.
        confusion(self.labels, self.predicted, self.classes)


def softmax(logits: ArrayLike) -> NDArray[Any]:
    """Probabilities over the last axis; finite for any finite logits, in the logits' float type."""
    logits = np.asarray(logits)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean over `(utterances,)` labels of minus the log probability that `logits` give them, in nats."""
    top = logits.max(axis=1)
    partition = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((partition - logits[np.arange(len(labels)), labels]).mean())


def _labelled(labels: ArrayLike, values: ArrayLike, what: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Both as arrays `(N,)` and float64 `(N, classes)` that fit together, N at least 1."""
    rows, truth = np.asarray(values, np.float64), np.asarray(labels)
    if rows.ndim != 2 or not rows.size or truth.shape != rows.shape[:1]:
        raise ValueError(
            f"{what} {rows.shape} with labels {truth.shape}; expected (N, classes) and (N,), N at least 1"
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"{what} that are not finite")
    _matrices(truth, truth, 0, 1, rows.shape[1])  # refuses what is no index of a class
    return truth.astype(np.int64), rows


def fit_temperature(logits: ArrayLike, labels: ArrayLike, *, doubt: float = 0.2) -> float:
    """The T > 0 for which softmax(logits / T) gives the labels the greatest likelihood.

    The negative log likelihood is convex in 1 / T, so there is one minimum, found by bisection of its slope.
    Where a student is right every time that is T = 0, and it would be certain of everything: therefore
    `doubt` utterances' worth of the labels count as spread over all classes, as Platt spreads them. With T of
    20 to 50 logits drawn as of a student that is right in 88 %, others had a lower NLL by 0.2 than by 0, 0.5
    and 1. T also stays within 0.01 and 100 (`TEMPERATURE_BOUNDS`), e.g. where the labels contradict the
    logits; where all logits of every row are equal, it is 1. A class without a label does no harm.

    Labels that chose the weights, as a validation set's chose the epoch, make T a little too small. Never fit
    it on what is to be scored.

    Args:
        logits: `(N, classes)`, N at least 1.
        labels: `(N,)` class indices.
        doubt: in utterances; 0 gives the plain maximum of the likelihood.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2; Platt 1999, Probabilistic outputs for support
    vector machines, section 2.2, for the spread labels.
    """
    truth, rows = _labelled(labels, logits, "logits")
    rows = rows - rows.max(axis=1, keepdims=True)
    count, classes = rows.shape
    share = doubt / (count + doubt)
    targets = (1 - share) * np.eye(classes)[truth] + share / classes
    given = (targets * rows).sum(axis=1)

    def slope(log_temperature: float) -> float:
        """Of the negative log likelihood in 1 / T."""
        powers = np.exp(rows / np.exp(log_temperature))
        return float(((powers * rows).sum(axis=1) / powers.sum(axis=1) - given).mean())

    low, high = np.log(TEMPERATURE_BOUNDS)
    if not rows.any():
        return 1.0
    # The slope falls with T.
    if slope(low) <= 0:
        return TEMPERATURE_BOUNDS[0]
    if slope(high) >= 0:
        return TEMPERATURE_BOUNDS[1]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def mean_margin(logits: ArrayLike) -> float:
    """Mean over `(N, classes)` rows of the largest logit less the second, N at least 1.

    It grows with the logits as a temperature does, and says how sharp they are.
    """
    largest = np.sort(np.asarray(logits, np.float64), axis=1)
    return float((largest[:, -1] - largest[:, -2]).mean()) if largest.shape[1] > 1 else 0.0


def temperature_per_margin(
    held_out: Sequence[ArrayLike], labels: Sequence[ArrayLike], heard: Sequence[ArrayLike]
) -> float:
    """What to multiply a student's `mean_margin` on its own training utterances by for its temperature.

    Two students of one recipe differ in how sharp their logits are: a few epochs in, twofold from one epoch
    to the next. The temperature of one then makes the other sure of everything, or of nothing. Divided by
    their margins they are alike, and one factor, fitted on what each has not heard, serves a student for
    whom no utterance is held out.

    Args:
        held_out: per student its logits `(N, classes)` on utterances that it was not trained on.
        labels: theirs, `(N,)` per student.
        heard: per student its logits on utterances that it was trained on.
    """
    scaled = [
        np.asarray(a, np.float64) / (mean_margin(b) or 1.0) for a, b in zip(held_out, heard, strict=True)
    ]
    return fit_temperature(np.concatenate(scaled), np.concatenate([np.asarray(each) for each in labels]))


def temperature_for(per_margin: float, heard: ArrayLike) -> float:
    """The temperature of the student with logits `heard` on its training utterances.

    Args:
        per_margin: as `temperature_per_margin` gives it.
    """
    return float(np.clip(per_margin * (mean_margin(heard) or 1.0), *TEMPERATURE_BOUNDS))


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

    Training utterances are compared with training utterances: any student is surer of what it has heard.

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


def _binned(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> tuple[NDArray[Any], ...]:
    """Confidence, whether right, and which bin, `(N,)` each, and the edges of the bins."""
    truth, shares = _labelled(labels, probabilities, "probabilities")
    if (shares < 0).any() or np.abs(shares.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("probabilities that are negative or do not sum to 1")
    confidence, edges = shares.max(axis=1), np.linspace(0, 1, bins + 1)
    return confidence, shares.argmax(axis=1) == truth, np.digitize(confidence, edges[1:-1], right=True), edges


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = ECE_BINS) -> float:
    """ECE: mean over predictions of |accuracy - confidence| of their bin, from 0 to 1.

    Confidence is the largest probability; the bins split 0 to 1 into equal widths, each without its lower and
    with its upper edge. Of few predictions even true probabilities have an ECE well above 0, by chance:
    `calibration` gives it as `ece_by_chance`.

    Args:
        probabilities: `(N, classes)`, N at least 1.
        labels: `(N,)` class indices.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    confidence, right, place, _ = _binned(probabilities, labels, bins)
    gaps = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(place))


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
    found = []
    for number in np.unique(place):
        own = place == number
        count, mean = int(own.sum()), float(confidence[own].mean())
        low, high = np.percentile(mean + drawn[:, number] / count, [2.5, 97.5])
        found.append(
            ReliabilityBin(
                float(edges[number]),
                float(edges[number + 1]),
                count,
                mean,
                float(right[own].mean()),
                (float(low), float(high)),
            )
        )
    return found


def _drawn(
    confidence: NDArray[Any], place: NDArray[Any], bins: int, draws: int, seed: int
) -> NDArray[np.float64]:
    """Per draw and bin, by how much more predictions are right than promised, if the promises are true."""
    random, members = np.random.default_rng(seed), np.eye(bins)[place]
    return np.stack([((random.random(len(place)) < confidence) - confidence) @ members for _ in range(draws)])


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
    """
    truth, rows = _labelled(labels, logits, "logits")
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


def _matrices(
    labels: ArrayLike, predicted: ArrayLike, group: NDArray[np.intp] | int, groups: int, classes: int
) -> NDArray[np.int64]:
    """One confusion matrix per group: `(groups, classes, classes)`."""
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


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> NDArray[np.int64]:
    """Utterances by label (row) and prediction (column): `(classes, classes)`.

    Args:
        labels, predicted: `(N,)` indices into `classes`.
    """
    return _matrices(labels, predicted, 0, 1, len(classes))[0]


def _summaries(matrices: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
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


def scores(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> Scores:
    """The scores of one set of utterances.

    Args:
        labels, predicted: `(N,)` indices into `classes`, N at least 1.
    """
    matrix = confusion(labels, predicted, classes)
    if not matrix.any():
        raise ValueError("no utterance to score")
    summary = {name: float(value) for name, value in _summaries(matrix).items()}
    recall = {
        name: float(row[index] / row.sum()) if row.any() else None
        for index, (name, row) in enumerate(zip(classes, matrix, strict=True))
    }
    counts = dict(zip(classes, matrix.sum(axis=1).tolist(), strict=True))
    return Scores(**summary, recall_per_class=recall, count=int(matrix.sum()), count_per_class=counts)


def answer_warnings(predictions: Predictions) -> list[str]:
    """What the answers alone show: one class given every time, and tested classes that are never given.

    Either is no leak, and so no stamp: UA and WA are true, and the student is of little use all the same. A
    fold whose test utterances all have one label is left out of account.

    Returns:
        Sentences without a full stop, the worst first; none where every class is given in every fold that
        tests more than one.
    """
    classes = predictions.classes
    found = confusion(predictions.labels, predictions.predicted, classes)
    tested = [
        f"{name} ({count:,} test utterance{'' if count == 1 else 's'})"
        for name, count, given in zip(classes, found.sum(axis=1), found.sum(axis=0), strict=True)
        if count and not given
    ]
    constant: dict[str, list[str]] = {}
    folds = np.array(predictions.folds)
    for fold in dict.fromkeys(predictions.folds):
        labels, given = predictions.labels[folds == fold], set(predictions.predicted[folds == fold].tolist())
        if len(given) == 1 and len(set(labels.tolist())) > 1:
            constant.setdefault(classes[given.pop()], []).append(fold)
    warnings = []
    for name, same in constant.items():
        which = f"in fold {', '.join(same)}" if len(same) < len(set(predictions.folds)) else "in every fold"
        warnings.append(f"the student answers {name} to every test utterance {which}")
    if tested:
        warnings.append(f"never predicted: {', '.join(tested)}")
    return warnings


def bootstrap_ci(
    labels: ArrayLike,
    predicted: ArrayLike,
    groups: ArrayLike,
    classes: Sequence[str],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]] | None:
    """Percentile bootstrap intervals `(low, high)` of UA, WA and both F1 over speakers.

    A speaker's utterances are alike, so it is speakers that are drawn with replacement, each with all of
    their utterances. In a resample without any utterance of a class, UA is the mean over the others. The
    intervals say how the score varies with who is tested; not with the seed, nor with who is trained on.

    Args:
        labels, predicted: `(N,)` indices into `classes`.
        groups: `(N,)` speaker of each utterance.
        level: share of the resamples that lie inside.

    Returns:
        An interval per score; None for fewer than 3 speakers, whose resamples are too few to rank.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3; Ferrer and Riera,
    Confidence Intervals for evaluation in machine learning, for the resampling of whole speakers.
    """
    per_speaker = _by_speaker(labels, predicted, groups, classes)
    if len(per_speaker) < FEWEST_SPEAKERS:
        return None
    draws = _speaker_draws(len(per_speaker), resamples, seed)
    return _intervals(_summaries(np.tensordot(draws, per_speaker, axes=1)), level)


def bootstrap_difference_ci(
    labels: ArrayLike,
    first: ArrayLike,
    other: ArrayLike,
    groups: ArrayLike,
    classes: Sequence[str],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]] | None:
    """As `bootstrap_ci`, of the scores of `other` less those of `first`, two predictions of each utterance.

    Both are scored on the same drawn speakers, so what makes a speaker hard for both cancels out.

    Source: as `bootstrap_ci`.
    """
    pair = [_by_speaker(labels, predicted, groups, classes) for predicted in (first, other)]
    if len(pair[0]) < FEWEST_SPEAKERS:
        return None
    draws = _speaker_draws(len(pair[0]), resamples, seed)
    before, after = (_summaries(np.tensordot(draws, each, axes=1)) for each in pair)
    return _intervals({name: after[name] - before[name] for name in before}, level)


def _by_speaker(
    labels: ArrayLike, predicted: ArrayLike, groups: ArrayLike, classes: Sequence[str]
) -> NDArray[np.int64]:
    """A confusion matrix per speaker, in the order of their names."""
    names, speaker = np.unique(np.asarray(groups), return_inverse=True)
    if speaker.shape != np.shape(labels):
        raise ValueError(f"{speaker.size} groups for {np.size(labels)} labels; expected one per utterance")
    return _matrices(labels, predicted, speaker, len(names), len(classes))


def _speaker_draws(speakers: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each speaker is drawn in each resample, which is all that a resample is."""
    random = np.random.default_rng(seed)
    return random.multinomial(speakers, np.full(speakers, 1 / speakers), size=resamples)


def _intervals(summaries: dict[str, NDArray[np.float64]], level: float) -> dict[str, tuple[float, float]]:
    tail = 50 * (1 - level)
    return {
        name: (float(low), float(high))
        for name, values in summaries.items()
        for low, high in [np.percentile(values, [tail, 100 - tail])]
    }


def write_predictions(path: str | os.PathLike[str], predictions: Predictions) -> None:
    """Write a CSV file with columns id, fold, label, predicted, then `p_<class>` per class.

    `label` and `predicted` are class names. The file is whole or absent.
    """
    classes = predictions.classes
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*PREDICTION_COLUMNS, *(PROBABILITY_PREFIX + name for name in classes)])
        for identity, fold, label, guess, shares in zip(
            predictions.ids,
            predictions.folds,
            predictions.labels,
            predictions.predicted,
            predictions.probabilities.tolist(),
            strict=True,
        ):
            # Nine significant digits identify any float32.
            writer.writerow([identity, fold, classes[label], classes[guess], *(f"{p:.9g}" for p in shares)])


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read what `write_predictions` wrote: the same values, bit for bit.

    Raises:
        UserError: the file is absent, or a column or value is not what was written.
    """
    try:
        # utf-8-sig: a spreadsheet that saved the file again puts a byte order mark in front.
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
    except OSError as error:
        raise UserError(
            f"cannot read predictions: {path}: {error.strerror}. Evaluate the run first."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8 ({error}); evaluate the run again.") from error
    header = lines[0] if lines else []
    fixed, rest = header[: len(PREDICTION_COLUMNS)], header[len(PREDICTION_COLUMNS) :]
    classes = tuple(name.removeprefix(PROBABILITY_PREFIX) for name in rest)
    if (
        tuple(fixed) != PREDICTION_COLUMNS
        or not all(name.startswith(PROBABILITY_PREFIX) for name in rest)
        or not classes
        or len(set(classes)) < len(classes)
    ):
        raise UserError(
            f"{path} begins with columns {', '.join(header) or 'none'}; expected "
            f"{', '.join(PREDICTION_COLUMNS)}, then {PROBABILITY_PREFIX}<class> once per class."
        )
    index = {name: number for number, name in enumerate(classes)}
    ids, folds, labels, predicted, probabilities = [], [], [], [], []
    for number, line in enumerate(lines[1:], start=1):
        try:
            identity, fold, label, guess, *shares = line
            if len(shares) != len(classes):
                raise ValueError(f"{len(shares)} probabilities for {len(classes)} classes")
            labels.append(index[label])
            predicted.append(index[guess])
            probabilities.append([float(share) for share in shares])
        except KeyError as error:
            raise UserError(
                f"{path}, row {number}: class {error} has no column; the classes are {', '.join(classes)}."
            ) from error
        except ValueError as error:
            raise UserError(f"{path}, row {number}: {error}; evaluate the run again.") from error
        ids.append(identity)
        folds.append(fold)
    return Predictions(
        classes=classes,
        ids=tuple(ids),
        folds=tuple(folds),
        labels=np.array(labels, np.int64),
        predicted=np.array(predicted, np.int64),
        probabilities=np.array(probabilities, np.float32).reshape(len(ids), len(classes)),
    )
