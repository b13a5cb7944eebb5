"""How well values of arousal, valence and dominance agree with listeners' ratings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd.evaluation.bootstrap import FEWEST_SPEAKERS, speaker_draws

FEWEST_RATINGS = 2
# Variances below this are what rounding leaves of none.
_NO_SPREAD = 1e-12
DIMENSION_METHOD = "concordance correlation coefficient (Lin 1989), with the biased variances of that paper"


@dataclass(frozen=True)
class DimensionScores:
    """Scores of one dimension; those of fewer than two ratings, or of ratings without spread, are None.

    Attributes:
        count: ratings that are known.
        ccc: concordance correlation coefficient, from -1 to 1.
        pearson: correlation coefficient.
        rmse: root of the mean squared error, in the unit of the ratings.
        mean, mean_true: of the answers and of the ratings beside them.
    """

    count: int
    ccc: float | None = None
    pearson: float | None = None
    rmse: float | None = None
    mean: float | None = None
    mean_true: float | None = None


def dimension_scores(true: ArrayLike, predicted: ArrayLike) -> list[DimensionScores]:
    """Scores of each dimension, over the ratings that are known.

    Args:
        true: ratings `(N, dimensions)`, NaN where there is none.
        predicted: `(N, dimensions)`.

    Source: Lin 1989, A concordance correlation coefficient to evaluate reproducibility, Biometrics 45.

    The answers have the order and the mean of the ratings, and half of their range: 2 · 0.5 / (1 + 0.25).

    >>> [arousal] = dimension_scores([[1.0], [5.0], [float("nan")]], [[2.0], [4.0], [9.0]])
    >>> arousal.count, round(arousal.ccc, 3), round(arousal.pearson, 3), arousal.rmse
    (2, 0.8, 1.0, 1.0)
    """
    sums, middle = _sums(true, predicted, np.zeros(len(np.asarray(true)), np.int64), 1)
    return [_scores(row, float(shift)) for row, shift in zip(sums[0], middle, strict=True)]


def dimension_intervals(
    true: ArrayLike,
    predicted: ArrayLike,
    groups: Sequence[str],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[dict[str, tuple[float, float]] | None]:
    """Percentile bootstrap intervals `(low, high)` of `ccc` and `rmse` over speakers, one per dimension.

    Args:
        true, predicted: as of `dimension_scores`.
        groups: `(N,)` speaker of each utterance. Who has no rating of a dimension has no part in it.
        level: share of the resamples that lie inside.

    Returns:
        None for a dimension that fewer than 3 speakers have ratings of, or of whose resamples some cannot be
        scored.

    Source: as `bootstrap_ci`, whole speakers being drawn with replacement.

    >>> ratings = [[1.0], [5.0], [2.0], [4.0], [1.0], [3.0]]
    >>> dimension_intervals(ratings, ratings, ["a", "a", "b", "b", "c", "c"])[0]["ccc"]
    (1.0, 1.0)
    """
    names, speaker = np.unique(np.asarray(groups), return_inverse=True)
    sums, _ = _sums(true, predicted, speaker, len(names))
    return [
        _interval(sums[sums[:, dimension, 0] > 0, dimension], resamples, level, seed)
        for dimension in range(sums.shape[1])
    ]


def _interval(
    per_speaker: NDArray[np.float64], resamples: int, level: float, seed: int
) -> dict[str, tuple[float, float]] | None:
    """Of one dimension's sums `(speakers, 6)`."""
    if len(per_speaker) < FEWEST_SPEAKERS:
        return None
    drawn = _Moments(speaker_draws(len(per_speaker), resamples, seed) @ per_speaker)
    ccc, rmse = drawn.ccc(), drawn.rmse()
    if not (np.isfinite(ccc).all() and np.isfinite(rmse).all()):
        return None
    tail = 50 * (1 - level)
    return {
        name: (float(low), float(high))
        for name, values in (("ccc", ccc), ("rmse", rmse))
        for low, high in [np.percentile(values, [tail, 100 - tail])]
    }


def _scores(sums: NDArray[np.float64], shift: float) -> DimensionScores:
    moments = _Moments(sums)
    count = int(sums[0])
    if count < FEWEST_RATINGS:
        return DimensionScores(count)
    known = {"ccc": moments.ccc(), "pearson": moments.pearson(), "rmse": moments.rmse()}
    means = {"mean": moments.mean_predicted + shift, "mean_true": moments.mean_true + shift}
    finite = {name: float(value) for name, value in {**known, **means}.items() if np.isfinite(value)}
    return DimensionScores(count, **finite)


class _Moments:
    """Means, biased variances and the covariance of what `_sums` counts, of any number of sums."""

    def __init__(self, sums: NDArray[np.float64]):
        count, true, predicted, *squares = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            self.mean_true, self.mean_predicted = true / count, predicted / count
            of_true, of_predicted, of_both = (each / count for each in squares)
        self.squared_error = np.maximum(of_true + of_predicted - 2 * of_both, 0)
        self.variance_true = np.maximum(of_true - self.mean_true**2, 0)
        self.variance_predicted = np.maximum(of_predicted - self.mean_predicted**2, 0)
        self.covariance = of_both - self.mean_true * self.mean_predicted

    def ccc(self) -> NDArray[np.float64]:
        apart = (self.mean_true - self.mean_predicted) ** 2
        return _quotient(2 * self.covariance, self.variance_true + self.variance_predicted + apart)

    def pearson(self) -> NDArray[np.float64]:
        return _quotient(self.covariance, np.sqrt(self.variance_true * self.variance_predicted))

    def rmse(self) -> NDArray[np.float64]:
        return np.asarray(np.sqrt(self.squared_error))


def _quotient(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Above over below, at most 1 either way; NaN where there is as good as no spread."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > _NO_SPREAD, np.clip(above / below, -1, 1), np.nan)


def _sums(
    true: ArrayLike, predicted: ArrayLike, groups: NDArray[np.int64], n_groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per group and dimension count, Σx, Σy, Σx², Σy² and Σxy, `(groups, dimensions, 6)`; what x and y lack.

    The mean rating is taken from both, since squares of numbers far from 0 would hide their spread.
    """
    x, y = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if x.shape != y.shape or x.ndim != 2 or len(x) != len(groups):
        raise ValueError(f"ratings {x.shape} and answers {y.shape} of {len(groups)} utterances")
    known = np.isfinite(x)
    shift = np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    x, y = np.where(known, x - shift, 0), np.where(known, y - shift, 0)
    parts = np.stack([known.astype(np.float64), x, y, x * x, y * y, x * y], axis=-1)
    sums = np.zeros((n_groups, *parts.shape[1:]))
    np.add.at(sums, groups, parts)
    return sums, shift
