"""A call over a bad mobile phone: compressor, AMR narrow band, noise above 3 kHz."""

import math

import numpy as np
from scipy import signal

from light_sernet_kd.analysis.degradations import DegradationContext, active, at_level, power_dbfs
from light_sernet_kd.audio import augment
from light_sernet_kd.audio.augment import lines
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.errors import UserError

THRESHOLD_DB, SLOPE = -20.0, 0.8
ATTACK_SECONDS, RELEASE_SECONDS = 0.01, 0.02
KILOBITS = 7.4
NOISE_PEAK_DB, NOISE_ABOVE_HZ = -25.0, 3000.0
# Softer sounds are no speech, and the logarithm of a compressor has an end.
_SOFTEST_DB = -120.0


def phone(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """The waveform after the phone chain of ser-tests, of the same length and level, without delay.

    Peak at full scale, `compressed`, AMR narrow band at 7.4 kbit/s, peak at full scale again; then pink noise
    with its peak at -25 dB through a high-pass of second order at 3 kHz.

    Source: audEERING's ser-tests, robustness low quality phone.
    """
    level = power_dbfs(active(waveform))
    if level == -math.inf:
        return waveform
    line = lines.coded(compressed(_at_peak(waveform)), "amr", KILOBITS)
    noise = _at_peak(augment.pink_noise(len(waveform), context.rng("phone"))) * 10 ** (NOISE_PEAK_DB / 20)
    above = signal.butter(2, NOISE_ABOVE_HZ, "highpass", fs=SAMPLE_RATE, output="sos")
    return at_level((_at_peak(line) + signal.sosfilt(above, noise)).astype(np.float32), level)


def unavailable_reason() -> str:
    """Why this machine has no phone, or nothing where it has one."""
    try:
        lines.check_codec(mp3=0, opus=0, gsm=0, amr=1)
    except UserError as error:
        return str(error)
    return ""


def _at_peak(waveform: np.ndarray) -> np.ndarray:
    peak = float(np.abs(waveform).max()) if len(waveform) else 0.0
    return (waveform / np.float64(peak)).astype(np.float32) if peak else waveform


def compressed(waveform: np.ndarray, *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """A compressor: above -20 dB the output rises by 0.8 dB per dB, and full scale stays full scale.

    What is softer is 4 dB louder. The level follows the samples' magnitude, upwards with a time constant
    of 10 ms and downwards with one of 20 ms. What exceeds full scale is cut.

    Source: the characteristic that SoX's `compand` has through the points (-20, -16) and (0, 0), with which
    ser-tests makes it; without SoX's rounded knee.
    """
    attack, release = (1 - math.exp(-1 / (sample_rate * each)) for each in (ATTACK_SECONDS, RELEASE_SECONDS))
    envelope, levels = 0.0, []
    # The coefficient depends on the sign of the change, so no linear filter does it.
    for magnitude in np.abs(waveform.astype(np.float64)).tolist():
        change = magnitude - envelope
        envelope += change * (attack if change > 0 else release)
        levels.append(envelope)
    decibels = 20 * np.log10(np.maximum(levels, 10 ** (_SOFTEST_DB / 20)))
    gain_db = (SLOPE - 1) * np.maximum(decibels, THRESHOLD_DB)
    return np.clip(waveform * 10 ** (gain_db / 20), -1, 1).astype(np.float32)
