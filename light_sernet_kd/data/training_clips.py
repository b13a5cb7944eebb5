"""Recordings of a fold's training set, for augmentations that are made of other recordings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Clips:
    """Some recordings, indexed by a number from 0; read when they are asked for.

    Attributes:
        rows: which of `recordings`; those from `first` to before `last` are left out.
    """

    recordings: np.ndarray
    rows: np.ndarray
    first: int = 0
    last: int = 0

    def __len__(self) -> int:
        return len(self.rows) - (self.last - self.first)

    def __getitem__(self, number: int) -> np.ndarray:
        if not 0 <= number < len(self):
            raise IndexError(number)
        recording = self.recordings[self.row(number)]
        return recording["samples"][: recording["length"]]

    def row(self, number: int) -> int:
        return int(self.rows[number if number < self.first else number + self.last - self.first])


class TrainingClips:
    """What augmentations of a fold may take from other recordings: those of its training set alone.

    Args:
        recordings: of the corpus, as `feature_cache.recordings` has them.
        speakers: who speaks, `(utterances,)` numbers.
        labels: class indices `(utterances,)`; a negative one is unknown.
        training: the fold's training utterances.

    >>> recorded = np.zeros(4, [("length", np.int32), ("samples", np.float32, (8,))])
    >>> clips = TrainingClips(recorded, np.array([0, 0, 1, 2]), np.array([1, 1, 1, 0]), [0, 1, 2])
    >>> len(clips.others(0)), clips.others(0).row(0), len(clips.twins(0)), clips.twins(0).row(0)
    (1, 2, 1, 1)
    """

    def __init__(
        self,
        recordings: np.ndarray,
        speakers: np.ndarray,
        labels: np.ndarray,
        training: Sequence[int] | np.ndarray,
    ):
        self.recordings, self.speakers, self.labels = recordings, speakers, labels
        rows = np.unique(np.asarray(training))
        # By speaker, then by class: what belongs together is one stretch.
        self.rows = rows[np.lexsort((labels[rows], speakers[rows]))]
        self._speakers = speakers[self.rows]

    def others(self, utterance: int) -> Clips:
        """The recordings of other speakers."""
        first, last = self._stretch(self._speakers, self.speakers[utterance])
        return Clips(self.recordings, self.rows, first, last)

    def twins(self, utterance: int) -> Clips:
        """The other recordings of the utterance's speaker and class; none where its class is unknown."""
        speaker, label = self.speakers[utterance], self.labels[utterance]
        first, last = self._stretch(self._speakers, speaker)
        rows = self.rows[first:last]
        first, last = self._stretch(self.labels[rows], label) if label >= 0 else (0, 0)
        rows = rows[first:last]
        return Clips(self.recordings, rows[rows != utterance])

    @staticmethod
    def _stretch(ordered: np.ndarray, value: int) -> tuple[int, int]:
        first, last = np.searchsorted(ordered, [value, value + 1])
        return int(first), int(last)

    def single_speaker(self) -> bool:
        return len(np.unique(self._speakers)) < 2


# What `needs` of an augmentation may name and a fold has.
OF_FOLD: Mapping[str, Callable[[TrainingClips, int], Any]] = {
    "others": TrainingClips.others,
    "twins": TrainingClips.twins,
}
