"""Large arrays, made of blocks: in memory, or in a file that is mapped into it."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd import arrays
from light_sernet_kd.files import atomic, sweep

MEMORY_LIMIT = 2**30

# Half-written files this young are left alone: another process may be about to lock them.
YOUNG_SECONDS = 60


def key_of(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def cached_rows(
    blocks: Callable[[], Iterable[np.ndarray]],
    shape: tuple[int, ...],
    dtype: np.dtype,
    path: Path,
    memory_limit: float,
) -> np.ndarray:
    """The rows of all blocks: in memory up to `memory_limit` bytes, else in the file `path`, read-only.

    A file that is there already is used, and the blocks are not made. One that is damaged is made anew.
    """
    if math.prod(shape) * dtype.itemsize <= memory_limit:
        return in_memory(blocks(), shape, dtype)
    try:
        return arrays.open_mapped(path, shape=shape, dtype=dtype)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except arrays.ArrayError as error:
        arrays.say_anew(error)
    write_blocks(path, blocks(), shape, dtype)
    return arrays.open_mapped(path, shape=shape, dtype=dtype)


def in_memory(blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    rows, start = np.empty(shape, dtype), 0
    for block in blocks:
        rows[start : start + len(block)] = block
        start += len(block)
    return rows


def write_blocks(path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> None:
    """One `.npy` file, written block after block; it has its name only once it is whole.

    `arrays.open_mapped` reads it.
    """
    sweep(path.parent, older_than=YOUNG_SECONDS)
    # Written and not mapped: a full disk is then an error, where a mapped page that finds no room kills the
    # process, and what was written need not stay in memory.
    with atomic(path) as temporary, open(temporary, "w+b") as file:
        arrays.write_blocks(file, blocks, shape, dtype)
