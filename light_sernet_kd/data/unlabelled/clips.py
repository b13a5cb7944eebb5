"""The waveforms of unlabelled clips, read again when an encoder asks for them."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.data.unlabelled.surveys import Survey
from light_sernet_kd.data.unlabelled.windows import content_of, windows
from light_sernet_kd.errors import UserError

# Waveforms that are held, encoded and, if the run is killed, lost at once.
BLOCK_BYTES = 2**28
# A recording of more windows is read one window after another; those of fewer on several threads.
_MOST_AT_ONCE = 16

Window = tuple[str, np.ndarray]
Encoded = tuple[Sequence[str], Sequence[np.ndarray], int]
Elsewhere = Callable[[Any, Iterable["Part"]], Iterator[Encoded]]


@dataclass(frozen=True)
class Part:
    """Some clips as they lie in their recordings: all that is needed to read them, here or elsewhere.

    Attributes:
        samples: of a window.
        names: of recordings, relative to the folder.
        rows: of `surveys.CLIP`, whose recordings are places in `names`; sorted by recording and window.
    """

    folder: Path
    samples: int
    names: Sequence[str]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def windows(self) -> Iterator[Window]:
        """The clips with their waveforms, in their order.

        Raises:
            UserError: a recording has changed since it was surveyed.
        """
        starts = np.flatnonzero(np.diff(self.rows["recording"].astype(np.int64), prepend=-1))
        wanted = np.split(self.rows, starts[1:]) if len(self.rows) else []
        for is_long, some in itertools.groupby(wanted, lambda rows: rows["window"][-1] >= _MOST_AT_ONCE):
            if is_long:
                for rows in some:
                    yield from self._of_recording(rows)
            else:
                for held in audio.in_order(lambda rows: list(self._of_recording(rows)), some):
                    yield from held

    def _of_recording(self, rows: np.ndarray) -> Iterator[Window]:
        path = self.folder / self.names[rows["recording"][0]]
        left = iter(zip(rows["window"].tolist(), rows["content"], strict=True))
        number, content = next(left)
        try:
            for each, window in enumerate(windows(audio.blocks(path), self.samples)):
                if each == number:
                    if content_of(window) != content.tobytes():
                        break
                    yield content.tobytes().hex(), window
                    number, content = next(left, (None, content))
                if number is None:
                    return
        except audio.AudioError as error:
            raise UserError(f"{error}: it could be read before. Give the same command again.") from None
        raise UserError(f"{path} changed while it was read: give the same command again.")

    def cut(self, size: int) -> Iterator["Part"]:
        """The same in parts of `size` clips, each with the names of its own recordings alone."""
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size].copy()
            numbers, rows["recording"] = np.unique(rows["recording"], return_inverse=True)
            yield Part(self.folder, self.samples, [self.names[number] for number in numbers], rows)


class Clips:
    """The clips of a survey, as `embedding_cache.embed_by_key` takes them.

    Attributes:
        keys: of the clips' contents, in their order.
        elsewhere: given an encoder and parts, yields what the encoder says of each: keys, an array for each,
            and how many there are. It makes other machines do that; None where this one does.
    """

    def __init__(self, survey: Survey, elsewhere: Elsewhere | None = None):
        self.survey, self.elsewhere = survey, elsewhere

    def __len__(self) -> int:
        return len(self.survey)

    @cached_property
    def keys(self) -> list[str]:
        return [content.tobytes().hex() for content in self.survey.clips["content"]]

    def path_of(self, key: str) -> Path:
        """The recording that holds the clip of this key."""
        row = self.survey.clips[self.keys.index(key)]
        return self.survey.folder / self.survey.names[row["recording"]]

    def blocks(self, keys: Sequence[str]) -> Iterator[tuple[list[str], list[np.ndarray], int]]:
        """These clips with their waveforms, each at most as long as a window, some hundred at a time.

        Raises:
            UserError: a recording has changed since it was surveyed.
        """
        windows_of_clips = self._part(keys).windows()
        while block := list(itertools.islice(windows_of_clips, self._block)):
            yield [key for key, _ in block], [waveform for _, waveform in block], len(block)

    def parts(self, keys: Sequence[str]) -> Iterator[Part]:
        """These clips, a part for each of `blocks`."""
        return self._part(keys).cut(self._block)

    @property
    def _block(self) -> int:
        return max(1, BLOCK_BYTES // (4 * self.survey.samples))

    def _part(self, keys: Sequence[str]) -> Part:
        row_of = {key: row for row, key in enumerate(self.keys)}
        chosen = self.survey.clips[[row_of[key] for key in keys]]
        # As they lie in their recordings, so that each is read once.
        chosen = chosen[np.lexsort((chosen["window"], chosen["recording"]))]
        return Part(self.survey.folder, self.survey.samples, self.survey.names, chosen)
