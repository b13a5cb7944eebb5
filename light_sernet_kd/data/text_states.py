"""A teacher's text states of a fold's test utterances, in the fold's folder."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from light_sernet_kd.arrays import ArrayError, Expected, read_arrays
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import write_arrays

# In a fold's folder: its teacher's text states of its test utterances.
TEACHER_STATES = "test_teacher_states.npz"


def write_text_states(fold_folder: Path, batches: Iterable[np.ndarray]) -> None:
    """Keep a teacher's text states of a fold's test utterances, `(batch, tokens, width)` at a time; padding,
    rows of zeros, is left out.
    """
    states = [rows[rows.any(axis=-1)] for batch in batches for rows in batch]
    arrays = {"states": np.concatenate(states), "tokens": np.array([len(rows) for rows in states])}
    write_arrays(fold_folder / TEACHER_STATES, arrays)


def read_text_states(fold_folder: Path) -> list[np.ndarray]:
    """What `write_text_states` kept: `(tokens, width)` of each utterance.

    Raises:
        UserError: the file is damaged.
    """
    path = fold_folder / TEACHER_STATES
    expected = {"states": Expected((None, None)), "tokens": Expected((None,), "iu")}
    try:
        stored = read_arrays(path, expected=expected)
    except (FileNotFoundError, NotADirectoryError, ArrayError):
        stored = {}
    if not stored or stored["tokens"].sum() != len(stored["states"]) or (stored["tokens"] < 0).any():
        raise UserError(f"{path} is damaged: remove it, and the teacher's text states are not compared.")
    return np.split(stored["states"], np.cumsum(stored["tokens"])[:-1])
