"""How sure we are of a score: intervals over the speakers that are tested."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd.evaluation.scoring import confusion_matrices, summaries

FEWEST_SPEAKERS = 3
CI_METHOD = (
    "percentile bootstrap over test speakers: whole speakers are drawn with replacement; "
    f"none is given for fewer than {FEWEST_SPEAKERS} speakers"
)


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

    Of three speakers one has half of the answers right, which is UA 0.5 where nobody else is drawn.

    >>> labels, predicted = [0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 0]
    >>> speakers = ["a", "a", "b", "b", "c", "c"]
    >>> interval = bootstrap_ci(labels, predicted, speakers, ["anger", "fear"])
    >>> interval["ua"]
    (0.5, 1.0)
    """
    per_speaker = _by_speaker(labels, predicted, groups, classes)
    if len(per_speaker) < FEWEST_SPEAKERS:
        return None
    draws = speaker_draws(len(per_speaker), resamples, seed)
    return _intervals(summaries(np.tensordot(draws, per_speaker, axes=1)), level)


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

    The other student is right where the first is, so the difference is 0 in every resample.

    >>> labels, predicted, speakers = [0, 1, 0, 1], [0, 1, 1, 1], ["a", "b", "c", "c"]
    >>> interval = bootstrap_difference_ci(labels, predicted, predicted, speakers, ["anger", "fear"])
    >>> interval["wa"]
    (0.0, 0.0)
    """
    pair = [_by_speaker(labels, predicted, groups, classes) for predicted in (first, other)]
    if len(pair[0]) < FEWEST_SPEAKERS:
        return None
    draws = speaker_draws(len(pair[0]), resamples, seed)
    before, after = (summaries(np.tensordot(draws, each, axes=1)) for each in pair)
    return _intervals({name: after[name] - before[name] for name in before}, level)


def _by_speaker(
    labels: ArrayLike, predicted: ArrayLike, groups: ArrayLike, classes: Sequence[str]
) -> NDArray[np.int64]:
    """A confusion matrix per speaker, in the order of their names."""
    names, speaker = np.unique(np.asarray(groups), return_inverse=True)
    if speaker.shape != np.shape(labels):
        raise ValueError(f"{speaker.size} groups for {np.size(labels)} labels; expected one per utterance")
    return confusion_matrices(labels, predicted, speaker, len(names), len(classes))


def speaker_draws(speakers: int, resamples: int, seed: int) -> NDArray[np.int64]:
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
