"""How high a voice is: the fundamental frequency of recordings, and speakers grouped by it."""

import math
from collections.abc import Mapping

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE

LOWEST_HZ, HIGHEST_HZ = 75.0, 500.0
_WINDOW = round(3 / LOWEST_HZ * SAMPLE_RATE)  # three periods of the lowest voice
_HOP = SAMPLE_RATE // 100
_VOICED, _OCTAVE_COST, _SOFTEST = 0.6, 0.01, 0.03

# A recording whose mean lies outside was measured wrongly or is no speech, and does not count.
PLAUSIBLE_HZ = (50.0, 350.0)
LOW, MEDIUM, HIGH = "low", "medium", "high"
_MOST_HZ = {LOW: 145.0, MEDIUM: 190.0, HIGH: math.inf}
FEWEST_RECORDINGS = 26


def mean_f0(waveform: np.ndarray) -> float | None:
    """Mean fundamental frequency in Hz over the voiced frames of `(samples,)`; None where there are none.

    Every 10 ms the largest autocorrelation of a Hann window, divided by the window's own, from 75 to 500 Hz;
    0.01 less per octave below the highest, against its multiples. A frame is voiced above 0.6; the source's
    0.45 lets consonants in where no path is searched for.

    Source: Boersma 1993, Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
    ratio of a sampled sound, IFA Proceedings 17; its steps 1 to 3, without the search for a path.

    >>> tone = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    >>> round(mean_f0(tone))
    200
    """
    if len(waveform) < _WINDOW:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), _WINDOW)[::_HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    peaks = np.abs(frames).max(axis=1)
    frames = frames[peaks > _SOFTEST * max(peaks.max(), 1e-9)]
    if not len(frames):
        return None
    window = np.hanning(_WINDOW)
    first, last = math.floor(SAMPLE_RATE / HIGHEST_HZ), math.ceil(SAMPLE_RATE / LOWEST_HZ)
    correlation = _autocorrelation(frames * window, last + 2) / _autocorrelation(window[None], last + 2)
    lags = np.arange(first, last + 1)
    strength = correlation[:, lags] - _OCTAVE_COST * np.log2(lags / first)
    best = lags[strength.argmax(axis=1)]
    rows = np.arange(len(best))
    before, at, after = (correlation[rows, best + shift] for shift in (-1, 0, 1))
    voiced = (at > _VOICED) & (best > first) & (best < last)
    if not voiced.any():
        return None
    bend = before - 2 * at + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0)
    return float(np.mean(SAMPLE_RATE / (best + shift)[voiced]))


def _autocorrelation(frames: np.ndarray, lags: int) -> np.ndarray:
    """Of each row, `(rows, lags)`, 1 at lag 0."""
    count = 2 ** math.ceil(math.log2(2 * _WINDOW))
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, count)) ** 2, count)[:, :lags]
    return correlation / np.maximum(correlation[:, :1], 1e-300)


def groups(f0_of: Mapping[str, float | None], speaker_of: Mapping[str, str]) -> dict[str, str]:
    """Speaker → `low`, `medium` or `high`, by the mean over the speaker's recordings.

    Only speakers with more than 25 recordings of a plausible F0 are there. Up to 145 Hz are low, up to 190 Hz
    medium.

    Args:
        f0_of, speaker_of: by utterance id.

    Source: the groups of audEERING's ser-tests, fairness pitch.
    """
    f0_by_speaker: dict[str, list[float]] = {}
    for utterance, f0_hz in f0_of.items():
        if f0_hz is not None and PLAUSIBLE_HZ[0] <= f0_hz <= PLAUSIBLE_HZ[1]:
            f0_by_speaker.setdefault(speaker_of[utterance], []).append(f0_hz)
    return {
        speaker: next(name for name, most in _MOST_HZ.items() if np.mean(each) <= most)
        for speaker, each in sorted(f0_by_speaker.items())
        if len(each) >= FEWEST_RECORDINGS
    }
