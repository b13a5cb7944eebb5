"""Scores where some recordings of the test speaker are known, without their labels.

They are no strict scores and have a protocol name of their own, `loso_enrolled` beside `loso`.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.evaluation.bootstrap import bootstrap_ci, bootstrap_difference_ci
from light_sernet_kd.evaluation.scoring import scores

SUFFIX = "_enrolled"
# How many recordings of the test speaker are known.
CLIPS = (1, 3, 5, 10, 20)
# The number of known recordings that tables and cards report.
REPORTED_CLIPS = 10
# Of a speaker's recordings at most this share is known, so that something is left to score.
_MOST_SHARE = 0.5
DRAWS = 10
_MOST = CLIPS[-1]


@dataclass(frozen=True)
class FoldAnswers:
    """What is asked of a fold's student; arrays are of its test recordings, in their order.

    Attributes:
        labels: `(N,)` class indices.
        speakers: `(N,)` names.
        strict: `(N,)`, its answers where nothing is known of the speaker.
        embeddings: `(N, E)`.
        logits: `EnrolledHead.logits`.
        others: `(others, E)`, mean embeddings of recordings of other speakers.
    """

    labels: NDArray[Any]
    speakers: NDArray[Any]
    strict: NDArray[Any]
    embeddings: NDArray[Any]
    logits: Callable[[Any, Any, Any], NDArray[Any]]
    others: NDArray[Any]


def known_and_scored(
    speakers: Sequence[str], draw: int | None, seed: int = 0
) -> dict[str, tuple[NDArray, NDArray]]:
    """Speaker → indices of the recordings that may be known, in an order, and of those that are scored.

    At most 20 may be known, and at most half; all that are not are scored, however many are known.

    Args:
        draw: number of the random draw; None takes the first recordings in the corpus' order.

    >>> known, scored = known_and_scored(["ann"] * 5, None)["ann"]
    >>> known.tolist(), scored.tolist()
    ([0, 1], [2, 3, 4])
    """
    names, parts = np.asarray(speakers), {}
    for name in np.unique(names):
        indices = np.flatnonzero(names == name)
        if draw is not None:
            indices = np.random.default_rng([seed, draw, zlib.crc32(str(name).encode())]).permutation(indices)
        known = min(_MOST, int(_MOST_SHARE * len(indices)))
        parts[str(name)] = (indices[:known], np.sort(indices[known:]))
    return parts


def enrolled_scores(
    folds: Sequence[FoldAnswers], classes: Sequence[str], protocol: str, clips: Sequence[int] = CLIPS
) -> dict[str, Any]:
    """UA and WA against how many recordings of the test speaker are known, as shares.

    Each of 10 draws scores the same recordings for every number of known ones, which are never among them.
    Where a speaker has fewer, all that may be known are.

    Args:
        protocol: of the folds.
        clips: numbers of known recordings.

    Returns:
        `protocol`; `recordings` scored per draw; `draws`; `curve`, a row per number of `clips`, of which the
        first, 0, has the strict answers; `first`, likewise where the known recordings are a speaker's first;
        `other_speaker`, where 10 recordings of another speaker are taken for the test speaker's. A row has
        `ua`, `wa` and, where there are 3 speakers, `ci95` and `difference_ci95` to the strict answers.
    """
    drawn = [_Draw(folds, number) for number in range(DRAWS)]
    first = [_Draw(folds, None)]
    return {
        "protocol": protocol + SUFFIX,
        "draws": DRAWS,
        "recordings": len(drawn[0].labels),
        "speakers": len({*drawn[0].speakers}),
        "curve": [_row(drawn, known, classes) for known in (0, *clips)],
        "first": [_row(first, known, classes) for known in (0, *clips)],
        "other_speaker": _row(drawn, None, classes),
    }


class _Draw:
    """The scored recordings of all folds in one draw."""

    def __init__(self, folds: Sequence[FoldAnswers], number: int | None):
        self.folds, self.number = folds, number
        parts = list(self._parts())
        self.labels = np.concatenate([fold.labels[scored] for fold, _, scored in parts])
        self.speakers = np.concatenate([fold.speakers[scored] for fold, _, scored in parts])

    def _parts(self) -> Iterator[tuple[FoldAnswers, NDArray, NDArray]]:
        for fold in self.folds:
            for known, scored in known_and_scored(list(fold.speakers), self.number).values():
                yield fold, known, scored

    def predicted(self, clips: int | None) -> NDArray[np.int64]:
        """With so many recordings known; None with those of another speaker."""
        return np.concatenate(
            [
                fold.strict[scored] if clips == 0 else self._answers(fold, known, scored, clips)
                for fold, known, scored in self._parts()
            ]
        )

    def _answers(self, fold: FoldAnswers, known: NDArray, scored: NDArray, clips: int | None) -> NDArray:
        if clips is None:
            mean, count = fold.others[(self.number or 0) % len(fold.others)], REPORTED_CLIPS
        else:
            count = min(clips, len(known))
            mean = fold.embeddings[known[:count]].mean(axis=0) if count else fold.embeddings[0]
        embeddings = fold.embeddings[scored]
        logits = fold.logits(embeddings, np.tile(mean, (len(embeddings), 1)), np.full(len(embeddings), count))
        return logits.argmax(axis=1)


def _row(draws: Sequence[_Draw], clips: int | None, classes: Sequence[str]) -> dict[str, Any]:
    labels, speakers = (
        np.concatenate([getattr(each, name) for each in draws]) for name in ("labels", "speakers")
    )
    strict, predicted = (np.concatenate([each.predicted(k) for each in draws]) for k in (0, clips))
    result = scores(labels, predicted, classes)
    row: dict[str, Any] = {
        "clips": REPORTED_CLIPS if clips is None else clips,
        "ua": result.ua,
        "wa": result.wa,
    }
    # Whole speakers are drawn with all of their draws, so that these do not count as more evidence.
    if interval := bootstrap_ci(labels, predicted, speakers, classes):
        row["ci95"] = [*interval["ua"]]
    if clips != 0 and (interval := bootstrap_difference_ci(labels, strict, predicted, speakers, classes)):
        row["difference_ci95"] = [*interval["ua"]]
    return row
