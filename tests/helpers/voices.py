"""Voicing, pitch and energy as the front end `robust_voice` should have them, in NumPy."""

import numpy as np
import scipy.signal

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.registries.front_ends import VOICE_CHANNELS

LENGTH, STEP = 1024, 256
HANN = scipy.signal.get_window("hann", LENGTH)


def frames_of(clip):
    return np.lib.stride_tricks.sliding_window_view(clip.astype(np.float64), LENGTH)[::STEP]


def in_band(frames):
    """Windowed frames whose power has the weight of the band of voices; bins are zeroed and attenuated."""
    hertz = np.fft.rfftfreq(LENGTH, 1 / SAMPLE_RATE)
    amplitude = np.where((hertz >= 40) & (hertz < 1500), np.cos(np.pi / 2 * hertz / 1500), 0)
    return np.fft.irfft(np.fft.rfft(frames * HANN) * amplitude)


def hann_correlation(lags):
    """Boersma 1993, equation 8: of a Hann window of length T, at lag τ."""
    share = np.asarray(lags) / LENGTH
    return (1 - share) * (2 + np.cos(2 * np.pi * share)) / 3 + np.sin(2 * np.pi * share) / (2 * np.pi)


def voice_reference(clip):
    """`(frames, 3)` in float64: of each frame times itself, shifted by each period."""
    frames = frames_of(clip / np.abs(clip).max())
    sounding = np.flatnonzero(frames.any(axis=1))
    recorded = slice(sounding[0], sounding[-1] + 1)
    filtered = in_band(frames)
    periods = SAMPLE_RATE / np.geomspace(400, 65, 64)
    turn = np.exp(-2j * np.pi * np.outer(periods, np.arange(LENGTH // 2 + 1)) / LENGTH)
    shifted = np.fft.irfft(np.fft.rfft(filtered)[:, None] * turn)
    whole = (filtered**2).sum(axis=1)
    correlation = (filtered[:, None] * shifted).sum(axis=-1) / hann_correlation(periods)
    correlation /= (whole + 1e-4 * whole.max())[:, None]
    voicing = np.clip((correlation.max(axis=1) - 0.4) / 0.6, 0, 1)
    octaves = np.log2(SAMPLE_RATE / periods)
    share = np.exp(60 * (correlation - 0.1 * np.log2(periods / periods[0])))
    f0 = share @ octaves / share.sum(axis=1)
    hertz = np.fft.rfftfreq(LENGTH, 1 / SAMPLE_RATE)
    power = np.abs(np.fft.rfft(frames * HANN)) ** 2 @ ((hertz >= 250) & (hertz <= 3600))
    energy = np.log(np.maximum(power / power.max(), 1e-4))
    channels = np.zeros((len(frames), 3))
    pitch = voicing * (f0 - voicing @ f0 / max(voicing.sum(), 1e-3))
    channels[recorded] = np.stack([voicing, pitch, energy - energy[recorded].mean()], axis=1)[recorded]
    return channels * list(VOICE_CHANNELS.values())
