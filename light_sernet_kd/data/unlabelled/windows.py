"""A recording cut into windows of a student's input."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np


def windows(blocks: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Windows of `samples` samples, one behind the other; only one is held at a time.

    A recording that is shorter is one window, as long as it is. Of a longer one the rest behind the last
    whole window is a window too where it is at least half as long: padding would be most of a shorter one.

    Args:
        blocks: the samples of a recording, as `audio.blocks` gives them.

    >>> [len(window) for window in windows([np.zeros(7), np.zeros(5)], 5)]
    [5, 5]
    >>> [len(window) for window in windows([np.zeros(7), np.zeros(6)], 5)]
    [5, 5, 3]
    """
    held, whole = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block]) if len(held) else block
        while len(held) >= samples:
            # a view would hold the block
            yield held[:samples].copy()
            held, whole = held[samples:], whole + 1
    if len(held) and (not whole or 2 * len(held) >= samples):
        yield held.copy()


def content_of(window: np.ndarray) -> bytes:
    """16 bytes that tell a window's samples from any others."""
    return hashlib.sha256(np.ascontiguousarray(window, np.float32).data).digest()[:CONTENT_BYTES]


CONTENT_BYTES = 16
