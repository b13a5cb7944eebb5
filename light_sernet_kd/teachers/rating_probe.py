"""Values of arousal, valence and dominance by linear probes on embeddings: ridge regression per fold."""

from collections.abc import Callable, Sequence

import numpy as np

from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.teachers.probe import PARTS, held_out_parts

# Strengths of the penalty for standardised embeddings, relative to how many rows there are: half decades.
STRENGTHS = tuple((10.0 ** np.arange(-3, 3.1, 0.5)).tolist())
FEWEST_RATINGS = 2


def rating_values(
    embeddings: np.ndarray, ratings: np.ndarray, speakers: Sequence[str], folds: Sequence[Fold]
) -> np.ndarray:
    """What a probe per fold, fitted on that fold's training utterances alone, says of every utterance.

    The penalty is the one with the smallest squared error on the fold's validation set; where that is empty,
    tests too or has no ratings, on training speakers held out in turn. An utterance in training gets its
    value from a probe that was fitted without its speaker, as `probe.probe_teacher` has it for the emotions.

    Args:
        embeddings: `(utterances, width)`, finite.
        ratings: `(utterances, dimensions)`, NaN where there is none.
        speakers: of each utterance.

    Returns:
        `(folds, utterances, dimensions)` float32; NaN in a fold that trains on fewer than two ratings.

    The embeddings are the ratings, of which a weak penalty leaves nearly all.

    >>> embeddings = np.arange(12.0)[:, None]
    >>> fold = Fold("d", tuple(range(8)), (8, 9), (10, 11))
    >>> made = rating_values(embeddings, embeddings / 10, [*"aabbccddeeff"], [fold])
    >>> [round(float(value), 1) for value in made[0, 10:, 0]]
    [1.0, 1.1]
    """
    import threadpoolctl

    values, names = np.asarray(embeddings, np.float64), np.asarray(speakers)
    made = np.full((len(folds), *ratings.shape), np.nan, np.float32)
    with threadpoolctl.threadpool_limits(1):  # sums in the same order on any machine
        for number, fold in enumerate(folds):
            for dimension, true in enumerate(np.asarray(ratings, np.float64).T):
                if np.isfinite(true[list(fold.train)]).sum() >= FEWEST_RATINGS:
                    made[number, :, dimension] = _of_fold(values, true, names, fold)
    return made


def _of_fold(values: np.ndarray, true: np.ndarray, speakers: np.ndarray, fold: Fold) -> np.ndarray:
    """Values `(utterances,)` of one dimension."""
    train = np.array(fold.train)
    known = np.isfinite(true)
    whole = _Ridge(values[train[known[train]]], true[train[known[train]]])
    masks = held_out_parts(speakers[train], PARTS)
    parts = []
    for mask in masks:
        others = train[~mask][known[train[~mask]]]
        if len(others) >= FEWEST_RATINGS:
            parts.append((train[mask], _Ridge(values[others], true[others])))
    judged = [(np.array(fold.selection_indices, int), whole)]
    if not known[judged[0][0]].any():
        judged = parts or [(train, whole)]
    strength = _best(judged, values, true)
    answers = whole.at(strength)(values)
    for rows, others in parts:
        answers[rows] = others.at(strength)(values[rows])
    return answers


def _best(judged: Sequence[tuple[np.ndarray, "_Ridge"]], values: np.ndarray, true: np.ndarray) -> float:
    """The strength with the smallest squared error on the rows beside each probe."""

    def error(strength: float) -> float:
        return sum(
            float(np.nansum((probe.at(strength)(values[rows]) - true[rows]) ** 2)) for rows, probe in judged
        )

    return min(STRENGTHS, key=error)


class _Ridge:
    """Rows as ridge regressions of any strength are fitted on them, by one singular value decomposition."""

    def __init__(self, rows: np.ndarray, true: np.ndarray):
        self.mean, self.offset, self.count = rows.mean(axis=0), float(true.mean()), len(rows)
        deviations = rows.std(axis=0)
        self.scale = np.where(deviations > 0, deviations, 1.0)  # a column of one value says nothing
        left, self.lengths, self.axes = np.linalg.svd((rows - self.mean) / self.scale, full_matrices=False)
        self.along = left.T @ (true - self.offset)

    def at(self, strength: float) -> Callable[[np.ndarray], np.ndarray]:
        """Values of embeddings, by the penalty `strength` times the number of rows."""
        shrunk = self.along * self.lengths / (self.lengths**2 + strength * self.count)
        weights = shrunk @ self.axes

        return lambda rows: (rows - self.mean) / self.scale @ weights + self.offset
