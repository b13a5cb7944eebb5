"""What the certificate measures of a student's answers: shares from 0 to 1, and where the worst one is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import evaluation
from light_sernet_kd.registries.certificate import CertificateTest
from light_sernet_kd.registries.degradations import CLEAN

# Speakers with fewer recordings have no shares to speak of.
FEWEST_OF_SPEAKER = 10
FEWEST_RANKED = 3


class NotApplicableError(Exception):
    """The recordings do not have what a test needs; says what."""


@dataclass(frozen=True)
class AnswersByCondition:
    """What a student answered.

    Attributes:
        labels: `(rows,)` indices into `classes`.
        predicted: condition → the same of the answers.
        speakers: of each row.
        groups: `sex` and `pitch` → the group of each row; empty where it is not known.
    """

    classes: Sequence[str]
    labels: NDArray[np.int64]
    predicted: Mapping[str, NDArray[np.int64]]
    speakers: NDArray[np.str_]
    groups: Mapping[str, NDArray[np.str_]]


Measurement = tuple[float, str]


def recalls(
    answers: AnswersByCondition, condition: str = CLEAN, rows: NDArray | slice = slice(None)
) -> dict[str, float]:
    """Class → the share of its recordings that are answered right; of classes with a recording."""
    return _rates(answers, condition, rows, axis=1)


def precisions(
    answers: AnswersByCondition, condition: str = CLEAN, rows: NDArray | slice = slice(None)
) -> dict[str, float]:
    """Class → the share of its answers that are right, 0 without an answer; of classes with a recording."""
    return _rates(answers, condition, rows, axis=0)


def _rates(
    answers: AnswersByCondition, condition: str, rows: NDArray | slice, *, axis: int
) -> dict[str, float]:
    labels, predicted = answers.labels[rows], answers.predicted[condition][rows]
    matrix = evaluation.confusion(labels, predicted, answers.classes)
    counts = matrix.sum(axis=axis)
    return {
        name: float(matrix[place, place] / max(1, counts[place]))
        for place, name in enumerate(answers.classes)
        if matrix[place].any()
    }


def _mean(rates: Mapping[str, float]) -> float:
    return float(np.mean([*rates.values()]))


def uar(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    return _mean(recalls(answers)), ""


def uap(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    return _mean(precisions(answers)), ""


def lowest_recall(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    return _lowest(recalls(answers))


def lowest_precision(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    return _lowest(precisions(answers))


def share_error(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    """The largest difference of a class's share of the answers to its share of the labels."""
    errors = np.abs(_shares(answers, answers.predicted[CLEAN]) - _shares(answers, answers.labels))
    return _largest(dict(zip(answers.classes, errors.tolist(), strict=True)))


def speaker_share_error(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    """Of each class the mean, over speakers, of the same difference among the speaker's recordings."""
    true, answered = _speaker_shares(answers, fewest=1)
    errors = np.abs(answered - true).mean(axis=0)
    return _largest(dict(zip(answers.classes, errors.tolist(), strict=True)))


def speaker_rank(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    """Of each class Spearman's rank correlation, over speakers, of its two shares; the lowest.

    A class that all speakers have as often has no ranks. One that is answered as often for all has no rank
    right: 0.

    Raises:
        NotApplicableError: every speaker has each class as often.
    """
    from scipy import stats

    true, answered = _speaker_shares(answers, fewest=FEWEST_RANKED)
    ranks = {}
    for place, name in enumerate(answers.classes):
        if np.ptp(true[:, place]) > 1e-9:
            varies = np.ptp(answered[:, place]) > 1e-9
            ranks[name] = float(stats.spearmanr(true[:, place], answered[:, place])[0]) if varies else 0.0
    if not ranks:
        raise NotApplicableError("every speaker has each class as often")
    return _lowest(ranks)


def _shares(answers: AnswersByCondition, of: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.bincount(of, minlength=len(answers.classes)) / len(of)


def _speaker_shares(
    answers: AnswersByCondition, *, fewest: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(speakers, classes)` shares of the labels and of the answers."""
    names, counts = np.unique(answers.speakers, return_counts=True)
    rows = [answers.speakers == name for name in names[counts >= FEWEST_OF_SPEAKER]]
    if len(rows) < fewest:
        raise NotApplicableError(f"fewer than {fewest} speakers with {FEWEST_OF_SPEAKER} recordings")
    both = answers.labels, answers.predicted[CLEAN]
    true, answered = (np.array([_shares(answers, each[row]) for row in rows]) for each in both)
    return true, answered


def uar_gap(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    """The largest difference of a group's UAR to that of all groups together."""
    groups, everyone = _groups(answers, test)
    whole = _mean(recalls(answers, rows=everyone))
    return _largest({name: abs(_mean(recalls(answers, rows=each)) - whole) for name, each in groups.items()})


def uap_gap(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    groups, everyone = _groups(answers, test)
    whole = _mean(precisions(answers, rows=everyone))
    return _largest(
        {name: abs(_mean(precisions(answers, rows=each)) - whole) for name, each in groups.items()}
    )


def recall_gap(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    """The largest difference of a group's recall of a class to that of all groups together."""
    groups, everyone = _groups(answers, test)
    whole = recalls(answers, rows=everyone)
    return _largest({
        f"{name}, {label}": abs(recall - whole[label])
        for name, each in groups.items()
        for label, recall in recalls(answers, rows=each).items()
    })  # fmt: skip


def precision_gap(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    """The same of precision, where a group has that answer at all.

    Raises:
        NotApplicableError: no group has an answer of its own classes.
    """
    groups, everyone = _groups(answers, test)
    whole = precisions(answers, rows=everyone)
    answered_classes = {name: {*answers.predicted[CLEAN][each].tolist()} for name, each in groups.items()}
    gaps = {
        f"{name}, {label}": abs(precision - whole[label])
        for name, each in groups.items()
        for label, precision in precisions(answers, rows=each).items()
        if answers.classes.index(label) in answered_classes[name]
    }
    if not gaps:
        raise NotApplicableError("no group has an answer of its own classes")
    return _largest(gaps)


def _groups(answers: AnswersByCondition, test: CertificateTest) -> tuple[dict[str, NDArray], NDArray]:
    """Rows by group, and the rows of them all."""
    of = answers.groups[test.grouped_by]
    names = sorted({*of.tolist()} - {""})
    if len(names) < 2:
        known = f"only {names[0]}" if names else "not known"
        raise NotApplicableError(f"the speakers' {test.grouped_by}: {known}")
    return {name: of == name for name in names}, of != ""


def uar_change(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    return _mean(recalls(answers, test.condition)) - _mean(recalls(answers, test.against)), ""


def uap_change(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    return _mean(precisions(answers, test.condition)) - _mean(precisions(answers, test.against)), ""


def unchanged(answers: AnswersByCondition, test: CertificateTest) -> Measurement:
    """The share of recordings with the same answer under both conditions."""
    same = answers.predicted[test.condition] == answers.predicted[test.against]
    return float(same.mean()), ""


def _lowest(rates: Mapping[str, float]) -> Measurement:
    name = min(rates, key=rates.__getitem__)
    return rates[name], name


def _largest(rates: Mapping[str, float]) -> Measurement:
    name = max(rates, key=rates.__getitem__)
    return rates[name], name
