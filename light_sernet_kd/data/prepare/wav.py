"""16-bit mono WAV files."""

import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.errors import UserError

HIGHEST_SAMPLE_RATE = 384_000


def check_rate(sample_rate: int) -> None:
    """Refuse a rate that no recording has.

    Raises:
        UserError: it is below `audio.LOWEST_SAMPLE_RATE` or above `HIGHEST_SAMPLE_RATE`.
    """
    lowest, highest = audio.LOWEST_SAMPLE_RATE, HIGHEST_SAMPLE_RATE
    if not lowest <= sample_rate <= highest:
        raise UserError(f"the sample rate must be from {lowest} to {highest} Hz, not {sample_rate} Hz")


def write_wav(path: Path, pieces: Iterable[np.ndarray], sample_rate: int) -> int:
    """Write waveforms one after another as a 16-bit mono WAV file; returns how many samples it has."""
    # not soundfile, whose errors do not tell a full disk
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", "not compressed"))
        for piece in pieces:
            file.writeframesraw(piece.tobytes())
        return file.tell()


def as_int16(waveform: np.ndarray) -> np.ndarray:
    """Samples from -1 to 1 as 16-bit numbers.

    >>> as_int16(np.array([-1.0, 0.5, 1.0])).tolist()
    [-32768, 16384, 32767]
    """
    # By 32768, and not 32767, a 16-bit recording comes out as it went in.
    return np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
