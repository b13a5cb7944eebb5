"""Changes that hardly anyone hears, and a tilt of the spectrum; what is drawn is drawn per utterance.

Source: audEERING's ser-tests, robustness small changes and spectral tilt.
"""

import math

import numpy as np
from scipy import signal

from light_sernet_kd.analysis.degradations import (
    DegradationContext,
    active,
    at_level,
    overloaded,
    power_dbfs,
    with_noise,
)
from light_sernet_kd.audio import augment
from light_sernet_kd.config import SAMPLE_RATE

SAMPLES = (100, 500, 1000)
TONE_HZ, TONE_DB = (5000.0, 7000.0), (40, 45, 50)
CLIPPED_PERCENT = (0.1, 0.2, 0.3)
GAINS_DB = (-2, -1, 1, 2)
CORNERS_HZ = {"highpass": (50, 100, 150), "lowpass": (7500, 7000, 6500)}
NOISE_DB = (35, 40, 45)


def with_tone(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """With a sine of 5 to 7 kHz whose peak is 40, 45 or 50 dB below the recording's."""
    rng = context.rng("tone")
    hz, below_db = rng.uniform(*TONE_HZ), int(rng.choice(TONE_DB))
    peak = float(np.abs(waveform).max()) * 10 ** (-below_db / 20)
    turn = 2 * np.pi * hz / SAMPLE_RATE * np.arange(len(waveform))
    return waveform + (peak * np.sin(turn)).astype(np.float32)


def with_zeros(waveform: np.ndarray, context: DegradationContext, *, before: bool) -> np.ndarray:
    """With 100, 500 or 1000 zeros before it or behind it."""
    zeros = np.zeros(_samples(context, "zeros"), np.float32)
    return np.concatenate([zeros, waveform] if before else [waveform, zeros])


def cropped(waveform: np.ndarray, context: DegradationContext, *, before: bool) -> np.ndarray:
    """Without its first or last 100, 500 or 1000 samples, but for one at least."""
    samples = min(_samples(context, "crop"), len(waveform) - 1)
    return waveform[samples:] if before else waveform[: len(waveform) - samples]


def _samples(context: DegradationContext, stream: str) -> int:
    return int(context.rng(stream).choice(SAMPLES))


def clipped(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """The largest 0.1, 0.2 or 0.3 % of the samples cut."""
    share = float(context.rng("clip").choice(CLIPPED_PERCENT))
    return overloaded(waveform, context, percentile=100 - share)


def with_gain(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """1 or 2 dB louder or quieter, cut at full scale."""
    db = float(context.rng("small gain").choice(GAINS_DB))
    return augment.gain(waveform, context.rng("gain"), low_db=db, high_db=db)


def filtered(waveform: np.ndarray, context: DegradationContext, *, kind: str) -> np.ndarray:
    """Through a Butterworth filter of first order with a corner that is drawn from `CORNERS_HZ[kind]`."""
    corner = float(context.rng(kind).choice(CORNERS_HZ[kind]))
    sections = signal.butter(1, corner, kind, fs=SAMPLE_RATE, output="sos")
    return signal.sosfilt(sections, waveform).astype(np.float32)


def with_faint_noise(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """With white noise at a ratio of 35, 40 or 45 dB."""
    rng = context.rng("faint noise")
    snr_db = int(rng.choice(NOISE_DB))
    return with_noise(waveform, augment.white_noise(len(waveform), rng), snr_db=snr_db)


def tilted(waveform: np.ndarray, context: DegradationContext, *, db: float) -> np.ndarray:
    """With a gain in dB that rises evenly per Hz, by `db` from 0 to 8 kHz; without phase, at its level."""
    count = 2 ** math.ceil(math.log2(len(waveform) + SAMPLE_RATE // 10))
    hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    response = 10 ** (db * (2 * hz / SAMPLE_RATE - 0.5) / 20)
    heard = np.fft.irfft(np.fft.rfft(waveform, count) * response, count)[: len(waveform)]
    # The transform's rounding must not become sound.
    level = power_dbfs(active(waveform))
    return waveform if level == -math.inf else at_level(heard.astype(np.float32), level)
