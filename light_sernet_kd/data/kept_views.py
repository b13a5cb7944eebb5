"""Features of augmented waveforms that are kept for some epochs, since to make them costs more than to train.

A clip is made anew every `every` epochs: in epoch e the utterances u for which e + u is a multiple of it, so
that each epoch makes as many. What is kept is what the epoch of its making drew. An epoch e therefore follows
from the seed, e and the utterance, and `renew` makes what an interrupted run had kept.

Where a teacher was asked on a bank of views, the epochs draw from those, and all of them are kept.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np


@dataclass(frozen=True)
class Bank:
    """Views of each utterance that are drawn once, as (seed, number of the view, utterance) draw them.

    Attributes:
        seed: of all folds, so that these share what is the same in them.
        views: how many there are of each utterance.

    >>> [Bank(seed=0, views=3).view(epoch) for epoch in range(5)]
    [0, 1, 2, 0, 1]
    """

    seed: int
    views: int

    def view(self, epoch: int) -> int:
        """The number of the view that every utterance has in this epoch."""
        return epoch % self.views


# Features `(batch, frames, features, 1)` of the utterances, as (seed, epoch) draw them.
Made = Callable[[np.ndarray, int, int], np.ndarray]


class KeptViews:
    """The features that each utterance has until it is made anew.

    Args:
        made: makes features.
        every: epochs for which they are kept.
        shape: of the features of all utterances.
        folder: for a file without a name where they take more than `memory_limit` bytes.

    >>> views = KeptViews(lambda batch, seed, epoch: np.full((len(batch), 1), epoch), 3, (6, 1))
    >>> views.features(np.arange(6), 0, 0).ravel().tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    >>> views.features(np.arange(6), 0, 1).ravel().tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """

    def __init__(
        self,
        made: Made,
        every: int,
        shape: tuple[int, ...],
        *,
        memory_limit: float = math.inf,
        folder: Path = Path(),
    ):
        self.made, self.every = made, every
        in_memory = math.prod(shape) * 4 <= memory_limit
        self.rows: _Array | _File = _Array(shape) if in_memory else _File(shape, folder)

    def renewed(self, batch: np.ndarray, epoch: int) -> np.ndarray:
        """Those of the utterances that this epoch makes anew."""
        return batch if epoch == 0 else batch[(epoch + batch) % self.every == 0]

    def renew(self, batch: np.ndarray, seed: int, epoch: int) -> None:
        stale = self.renewed(batch, epoch)
        if len(stale):
            self.rows.write(stale, self.made(stale, seed, epoch))

    def features(self, batch: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Features of the utterances in this epoch; what they were before must have been made by this one."""
        self.renew(batch, seed, epoch)
        return self.rows.read(batch)

    def epochs_before(self, epoch: int) -> range:
        """The epochs whose views may still be kept in this one."""
        return range(max(0, epoch - self.every + 1), epoch)


class BankedViews(KeptViews):
    """The features of a bank of views: an epoch has its view of every utterance, made when it is first met.

    Args:
        shape: of the features of all utterances in one view. The others are those of `KeptViews`.

    >>> made = lambda batch, seed, view: 10.0 * view + batch[:, None]
    >>> views = BankedViews(made, Bank(seed=7, views=2), (3, 1))
    >>> [views.features(np.arange(3), 0, epoch).ravel().tolist() for epoch in (0, 1, 2)]
    [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0], [0.0, 1.0, 2.0]]
    """

    def __init__(self, made: Made, bank: Bank, shape: tuple[int, ...], **place: Any):
        super().__init__(made, bank.views, (bank.views * shape[0], *shape[1:]), **place)
        self.bank, self.utterances = bank, shape[0]

    def renewed(self, batch: np.ndarray, epoch: int) -> np.ndarray:
        return batch if epoch < self.bank.views else batch[:0]

    def renew(self, batch: np.ndarray, seed: int, epoch: int) -> None:
        fresh = self.renewed(batch, epoch)
        if len(fresh):
            self.rows.write(self._places(fresh, epoch), self.made(fresh, self.bank.seed, epoch))

    def features(self, batch: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        self.renew(batch, seed, epoch)
        return self.rows.read(self._places(batch, epoch))

    def epochs_before(self, epoch: int) -> range:
        return range(min(epoch, self.bank.views))

    def _places(self, batch: np.ndarray, epoch: int) -> np.ndarray:
        return self.bank.view(epoch) * self.utterances + batch


class _Array:
    def __init__(self, shape: tuple[int, ...]):
        self.values = np.empty(shape, np.float32)

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        self.values[rows] = values

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]


class _File:
    """Read and written, not mapped: a full disk is then an error and kills nobody."""

    def __init__(self, shape: tuple[int, ...], folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.shape, self.bytes = shape[1:], math.prod(shape[1:]) * 4
        # It has no name, or loses it with the process.
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        for row, value in zip(rows, values, strict=True):
            self.file.seek(int(row) * self.bytes)
            self.file.write(np.ascontiguousarray(value, np.float32).data)

    def read(self, rows: np.ndarray) -> np.ndarray:
        views = np.empty((len(rows), *self.shape), np.float32)
        for row, into in zip(rows, views, strict=True):
            self.file.seek(int(row) * self.bytes)
            into[...] = np.frombuffer(self.file.read(self.bytes), np.float32).reshape(self.shape)
        return views
