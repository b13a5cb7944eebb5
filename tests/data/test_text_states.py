"""A teacher's text states are kept without padding, and damage is told."""

import numpy as np
import pytest

from light_sernet_kd.data.text_states import TEACHER_STATES, read_text_states, write_text_states
from light_sernet_kd.errors import UserError

RANDOM = np.random.default_rng(0)


def test_text_states_are_kept_without_padding(tmp_path):
    states = RANDOM.normal(size=(3, 4, 5)).astype(np.float16)
    lengths = (4, 1, 2)
    for rows, length in zip(states, lengths, strict=True):
        rows[length:] = 0
    write_text_states(tmp_path, [states[:2], states[2:]])
    for kept, rows, length in zip(read_text_states(tmp_path), states, lengths, strict=True):
        np.testing.assert_array_equal(kept, rows[:length])
    (tmp_path / TEACHER_STATES).write_bytes(b"PK")
    with pytest.raises(UserError, match="damaged: remove it, and the teacher's text states are not"):
        read_text_states(tmp_path)
