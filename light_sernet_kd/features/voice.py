"""Voicing, pitch and energy of each frame, of products of matrices, a maximum and a softmax."""

import keras
import numpy as np
from keras import ops

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.features.filterbanks import mel_blocks, window_of
from light_sernet_kd.features.layers import MFCC, PACKAGE, LogMel, SpectrumLayer, recorded_frames
from light_sernet_kd.registries.front_ends import VOICE_CHANNELS, SpectrumSettings

LOWEST_F0_HZ, HIGHEST_F0_HZ, CANDIDATES = 65.0, 400.0, 64
# Formants above blur the period, and so few bins keep the matrix at 25 kB of an exported file. Below is an
# offset, which the window leaks into two bins, and what a hand does to a microphone.
_BAND_HZ = (40.0, 1500.0)
# What white noise reaches, since the largest of 64 counts; most frames of a voice have more than 0.9.
UNVOICED = 0.4
# Less per octave of the period: Boersma's octave cost against multiples of the period, but ten times as much.
# The softmax leaves exp(-6) of its weight to the double period of a perfect tone.
_OCTAVE_COST, _SHARPNESS = 0.1, 60.0
_SMALLEST_POWER = 1e-20


def candidate_lags() -> np.ndarray:
    """Periods in samples, evenly spaced in log F0, the shortest first; float64 `(64,)`.

    >>> [round(16_000 / lag) for lag in candidate_lags()[[0, 63]]]
    [400, 65]
    """
    return np.geomspace(SAMPLE_RATE / HIGHEST_F0_HZ, SAMPLE_RATE / LOWEST_F0_HZ, CANDIDATES)


def correlation_matrix(settings: SpectrumSettings, lags: np.ndarray) -> np.ndarray:
    """From a frame's power to its autocorrelation in the band of voices, float32 `(bins, lags)`.

    The band rises at once and falls as a squared cosine to 1500 Hz: without an edge above, a peak is wide
    enough for the candidates at long periods, which lie furthest apart.

    Args:
        lags: in samples; they may be fractions.
    """
    bins = np.arange(settings.fft_length // 2 + 1)
    hertz = bins * SAMPLE_RATE / settings.fft_length
    lowest, highest = _BAND_HZ
    weight = np.where((hertz >= lowest) & (hertz < highest), np.cos(0.5 * np.pi * hertz / highest) ** 2, 0.0)
    cosines = np.cos(2.0 * np.pi * np.outer(bins, lags) / settings.fft_length)
    return (2.0 / settings.fft_length * weight[:, None] * cosines).astype(np.float32)


def window_correlation(settings: SpectrumSettings, lags: np.ndarray) -> np.ndarray:
    """Autocorrelation of the window, 1 at lag 0; float64 `(lags,)`. Lags may be fractions of samples."""
    length = 2 * settings.fft_length
    power = np.abs(np.fft.fft(window_of(settings).astype(np.float64), length)) ** 2
    frequency = np.fft.fftfreq(length)
    return np.cos(2.0 * np.pi * np.outer(lags, frequency)) @ power / power.sum()


@keras.saving.register_keras_serializable(PACKAGE)
class Voice(SpectrumLayer):
    """Voicing, pitch and energy: spectrum `(batch, frames, bins)` to `(batch, frames, 3)`.

    Takes also which frames are recorded, 1 or 0, `(batch, frames, 1)`.

    - voicing: the largest autocorrelation over the candidate periods, of 1; 0 up to what noise reaches.
    - pitch: log2 of F0 about its mean over the clip, in octaves, times voicing; voicing weights the mean too.
    - energy: log of the power from `lowest_hz` to `highest_hz` over the loudest frame's, from `floor_db`
      below it, about its mean over the recording.

    Each is multiplied by its constant in `VOICE_CHANNELS`. Where nothing is recorded they are 0. Voicing
    fades in frames whose level is near the floor.

    Source: Boersma 1993, Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
    ratio of a sampled sound, IFA Proceedings 17: autocorrelation over that of the window, octave cost. A
    softmax stands for its peaks and its path.
    """

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        lags = candidate_lags()
        correlation = correlation_matrix(settings, np.concatenate([[0.0], lags]))
        correlation[:, 1:] /= window_correlation(settings, lags)
        hertz = np.arange(len(correlation)) * SAMPLE_RATE / settings.fft_length
        band = (hertz >= settings.lowest_hz) & (hertz <= settings.highest_hz)
        # Of all bins a block keeps those that it uses.
        (self.correlation,) = self._block(correlation)
        (self.band,) = self._block(band[:, None].astype(np.float32))
        octaves = np.log2(lags / lags[0])
        self.cost = (_OCTAVE_COST * octaves).astype(np.float32)
        # About the middle of the range, which float32 resolves better than octaves above 1 Hz.
        self.octaves = (octaves.mean() - octaves)[:, None].astype(np.float32)
        self.floor = 10.0 ** (-settings.floor_db / 10.0)
        self.scales = np.array([*VOICE_CHANNELS.values()], np.float32)

    def _block(self, matrix):
        return mel_blocks(self.in_order_of_spectrum(matrix), blocks=1)

    def in_order_of_spectrum(self, matrix):
        """A matrix of one row per Fourier bin, its rows as the spectrum's bins come."""
        return matrix

    def call(self, spectrum, inside):
        power = ops.square(spectrum) if self.settings.power == 1 else spectrum
        voicing, octaves = self.voicing_and_octaves(power)
        voicing = voicing * inside
        values = ops.concatenate([octaves, self._energy(power)], axis=-1)
        weights = ops.concatenate([voicing, inside], axis=-1)
        count = ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1e-3)
        about_means = weights * (values - ops.sum(weights * values, axis=1, keepdims=True) / count)
        return ops.concatenate([voicing, about_means], axis=-1) * self.scales

    def voicing_and_octaves(self, power):
        """Voicing in 0..1 and F0 in octaves about the middle of the candidates, `(batch, frames, 1)` each."""
        sums = _product(power, self.correlation)
        whole, correlation = sums[..., :1], sums[..., 1:]
        floor = self.floor * ops.max(whole, axis=1, keepdims=True) + _SMALLEST_POWER
        correlation = correlation / (whole + floor)
        voicing = (ops.max(correlation, axis=-1, keepdims=True) - UNVOICED) / (1.0 - UNVOICED)
        share = ops.softmax(_SHARPNESS * (correlation - self.cost), axis=-1)
        return ops.clip(voicing, 0.0, 1.0), ops.matmul(share, self.octaves)

    def _energy(self, power):
        energy = _product(power, self.band)
        loudest = ops.maximum(ops.max(energy, axis=1, keepdims=True), _SMALLEST_POWER)
        return ops.log(ops.maximum(energy / loudest, self.floor))


def _product(power, block):
    """With the rows of a matrix that are not 0: (first row, rows)."""
    first, rows = block
    return ops.matmul(power[..., first : first + len(rows)], rows)


@keras.saving.register_keras_serializable(PACKAGE)
class MFCCAndVoice(SpectrumLayer):
    """MFCC, and `Voice` behind them: `(batch, frames, bins)` to `(batch, frames, coefficients + 3)`."""

    log_mel_layer, voice_layer = LogMel, Voice

    def __init__(self, settings: SpectrumSettings, **kwargs):
        # An exported file repeats the names for every tensor: those that Keras would give take 5 kB.
        super().__init__(settings, **{"name": "voice", **kwargs})
        self.log_mel = self.log_mel_layer(settings, name="mel")
        self.mfcc = MFCC(settings, name="mfcc")
        self.voice = self.voice_layer(settings, name="v")

    def build(self, spectrum_shape):
        # They have no weights: unless it is told, Keras warns that a saved file lacks theirs.
        self.log_mel.built = self.mfcc.built = self.voice.built = True

    def call(self, spectrum):
        mel = self.log_mel.bands(spectrum)
        voice = self.voice(spectrum, recorded_frames(mel))
        return ops.concatenate([self.mfcc(self.log_mel.compressed(mel)), voice], axis=-1)
