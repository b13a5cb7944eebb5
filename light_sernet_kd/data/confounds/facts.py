"""What is known of a recording before anyone listens."""

from typing import NamedTuple

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.runner import LEAST_DBFS

# Below this level, 16-bit rounding hides where the frequencies end.
_QUIET_DBFS = -60.0
# How far the spectrum falls within 500 Hz for good. In EMO-DB, whose recordings were never converted, it is
# at most 20 dB; in copies at 8, 11 or 12 kHz or as MP3 it is more than 26. In between it is not known.
_CUT_DB, _NOT_CUT_DB = 20.0, 12.0
_WINDOW_SAMPLES = 512
_LOWEST_CUT_HZ, _CUT_WIDTH_HZ = 2500, 500
_MOST_WINDOWS = 2000


class RecordingFacts(NamedTuple):
    """What is known of a recording before anyone listens.

    Attributes:
        sample_rate: as stored, in Hz; so are `channels` and `encoding` (container and sample type).
        seconds: NaN where it is not known, as is `level_dbfs`.
        level_dbfs: root mean square about the mean, from `LEAST_DBFS` on.
        cut_hz: the frequency above which there is nothing, below 8 kHz; 0 where there is none, NaN where
            that cannot be told.
    """

    sample_rate: int
    channels: int
    encoding: str
    seconds: float
    level_dbfs: float
    cut_hz: float


def facts_of(waveform: np.ndarray, sample_rate: int, channels: int, encoding: str) -> RecordingFacts:
    """The facts of a recording: of its waveform `(samples,)` at 16 kHz, and of what `audio.header` gives."""
    level_dbfs, cut_hz = level_and_cut(waveform)
    seconds = len(waveform) / SAMPLE_RATE
    return RecordingFacts(sample_rate, channels, encoding, seconds, level_dbfs, cut_hz)


def level_and_cut(waveform: np.ndarray) -> tuple[float, float]:
    """`level_dbfs` and `cut_hz` of `RecordingFacts`, of a waveform `(samples,)` at 16 kHz."""
    if not len(waveform):
        return LEAST_DBFS, float("nan")
    centred = waveform - float(waveform.mean(dtype=np.float64))
    power = float(np.mean(centred * centred, dtype=np.float64))
    level = max(LEAST_DBFS, 10 * np.log10(power)) if power > 0 else LEAST_DBFS
    if level < _QUIET_DBFS:
        return level, float("nan")
    padded = np.pad(centred, (0, max(0, _WINDOW_SAMPLES - len(centred))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[:: _WINDOW_SAMPLES // 2]
    windows = windows[:: -(-len(windows) // _MOST_WINDOWS)]
    spectrum = (np.abs(np.fft.rfft(windows * np.hanning(_WINDOW_SAMPLES))) ** 2).mean(axis=0)
    decibels = 10 * np.log10(spectrum + 1e-12 * spectrum.max())
    smooth = np.convolve(np.pad(decibels, 4, mode="edge"), np.full(9, 1 / 9), mode="valid")
    # A fall is one only where nothing above comes back.
    above = np.maximum.accumulate(smooth[::-1])[::-1]
    bin_hz = SAMPLE_RATE / _WINDOW_SAMPLES
    first, width = int(_LOWEST_CUT_HZ / bin_hz), int(_CUT_WIDTH_HZ / bin_hz)
    falls = smooth[first:-width] - above[first + width :]
    steepest = int(falls.argmax())
    if falls[steepest] < _CUT_DB:
        return level, 0.0 if falls[steepest] < _NOT_CUT_DB else float("nan")
    return level, (first + steepest + width / 2) * bin_hz
