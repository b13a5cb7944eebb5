"""The layers of a front end, for training and as the reference of those for a device."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import ops

from light_sernet_kd.features.filterbanks import dct_matrix, mel_blocks, mel_matrix, window_of
from light_sernet_kd.features.frames import patch_count, patch_ends
from light_sernet_kd.registries.front_ends import SpectrumSettings

PACKAGE = "light_sernet_kd"

# What a recording in ±1 never reaches; it keeps powers finite in float32.
_LARGEST_LEVEL = 1e6

# What lies before a clip's first and after its last non-zero sample is the padding that made it fit the
# input, and must not move its statistics: a short clip is normalised exactly as it would be without padding.


def _recorded_samples(waveform):
    """How many samples lie from the first to the last that is not zero, float32 `(batch, 1)`.

    All of them where there is none.
    """
    # Looking for the blocks first takes a device a tenth of the time: the rest is done on a block's samples.
    rows, loudest = _blocks(ops.abs(waveform))
    block, blocks = rows.shape[-1], loudest.shape[-1]
    first_row = blocks * ops.arange(ops.shape(waveform)[0], dtype="int32")

    def silent_samples(flipped):
        """Zeros before the first sample that is none, or with `flipped` behind the last."""

        def zeros(numbers):
            sounding = ops.cast(ops.not_equal(numbers, 0.0), "int32")
            return ops.argmax(ops.flip(sounding, -1) if flipped else sounding, axis=-1)

        silent_blocks = ops.cast(zeros(loudest), "int32")
        row = first_row + (blocks - 1 - silent_blocks if flipped else silent_blocks)
        return block * silent_blocks + ops.cast(zeros(ops.take(rows, row, axis=0)), "int32")

    count = blocks * block - silent_samples(False) - silent_samples(True)
    return ops.cast(ops.minimum(count, waveform.shape[-1]), "float32")[:, None]


def _recorded_span(waveform):
    """Mask of the samples from the first to the last that is not zero, float32 `(batch, samples)`."""
    sounding = ops.not_equal(waveform, 0.0)
    # A running count, and no comparison with positions: a row of positions would be stored in the exported
    # file, as large as the clip. Up to 2^24 samples float32 counts exactly.
    so_far = ops.cumsum(ops.cast(sounding, "float32"), axis=-1)
    not_after = ops.logical_or(so_far < so_far[:, -1:], sounding)
    return ops.cast(ops.logical_and(so_far > 0.0, not_after), "float32")


def _blocks(magnitude, *, block: int = 32):
    """Non-negative numbers `(batch, n)` in rows `(batch * blocks, block)`, and the largest of each row.

    The largest are `(batch, blocks)`; zeros fill the last row.
    """
    blocks = -(-magnitude.shape[-1] // block)
    padded = ops.pad(magnitude, [[0, 0], [0, blocks * block - magnitude.shape[-1]]])
    rows = ops.reshape(padded, (-1, block))
    return rows, ops.reshape(ops.max(rows, axis=-1), (-1, blocks))


def _largest(magnitude, count: int):
    """The `count` largest of each row of non-negative numbers, `(batch, count)`, the largest first.

    They lie in the `count` blocks with the largest maxima. Sorting these alone takes a quarter of the time.
    """
    rows, loudest = _blocks(magnitude)
    blocks = loudest.shape[-1]
    if blocks <= count:
        return ops.top_k(magnitude, k=count)[0]
    _, chosen = ops.top_k(loudest, k=count)
    first_row = blocks * ops.arange(ops.shape(magnitude)[0], dtype=chosen.dtype)
    candidates = ops.take(rows, chosen + first_row[:, None], axis=0)
    return ops.top_k(ops.reshape(candidates, (-1, count * rows.shape[-1])), k=count)[0]


@keras.saving.register_keras_serializable(PACKAGE)
class NormaliseByPercentile(keras.layers.Layer):
    """Divide by the 99.9th percentile of |x| over the recorded span, clip to ±1.

    Shape `(batch, samples)` in and out. The percentile lies between two order statistics, as NumPy's does by
    default. A silent clip stays zero.
    """

    percentile = 99.9

    def call(self, waveform):
        magnitude = ops.abs(waveform)
        share_above = 1.0 - self.percentile / 100.0
        samples = waveform.shape[-1]
        count = _recorded_samples(waveform)
        # Only the loudest thousandth can be at or above the percentile: sorting that much is enough.
        largest = _largest(magnitude, min(samples, int(share_above * (samples - 1)) + 2))
        rank = share_above * (count - 1.0)
        # |rank - k| < 1 for the two neighbours: their hat functions are the interpolation weights.
        weights = ops.maximum(0.0, 1.0 - ops.abs(rank - ops.arange(largest.shape[-1], dtype="float32")))
        scale = ops.sum(weights * largest, axis=-1, keepdims=True)
        return ops.clip(waveform / ops.maximum(scale, 1e-9), -1.0, 1.0)


@keras.saving.register_keras_serializable(PACKAGE)
class NormaliseByVariance(keras.layers.Layer):
    """Zero mean and unit variance over the recorded span; padding stays zero.

    Shape `(batch, samples)` in and out.
    """

    def call(self, waveform):
        inside, count = _recorded_span(waveform), _recorded_samples(waveform)
        mean = ops.sum(waveform, axis=-1, keepdims=True) / count
        centred = (waveform - mean) * inside
        variance = ops.sum(ops.square(centred), axis=-1, keepdims=True) / count
        return centred * ops.rsqrt(ops.maximum(variance, 1e-14))


@keras.saving.register_keras_serializable(PACKAGE)
class NormaliseByPeak(keras.layers.Layer):
    """Divide by the largest |x|. Shape `(batch, samples)` in and out; a silent clip stays zero."""

    def call(self, waveform):
        return waveform / ops.maximum(ops.max(ops.abs(waveform), axis=-1, keepdims=True), 1e-30)


# Exponent → from the power of a bin to what is kept of it.
FROM_POWER: Mapping[int, Callable[[Any], Any]] = {1: ops.sqrt, 2: lambda power: power}


class SpectrumLayer(keras.layers.Layer):
    """A layer decided by `SpectrumSettings`, which it saves with itself."""

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(**kwargs)
        self.settings = settings

    def get_config(self):
        return {**super().get_config(), "settings": asdict(self.settings)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "settings": SpectrumSettings(**config["settings"])})


@keras.saving.register_keras_serializable(PACKAGE)
class Spectrogram(SpectrumLayer):
    """Short-time magnitude or power: `(batch, samples)` to `(batch, frames, fft_length // 2 + 1)`."""

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        self.window = window_of(settings)

    def call(self, waveform):
        settings = self.settings
        # Centred frames begin half an FFT early; the others by the zeros in front of their window.
        early = settings.fft_length if settings.centred else settings.fft_length - settings.frame_length
        if early:
            waveform = ops.pad(waveform, [[0, 0], [early // 2, early - early // 2]])
        frames = ops.extract_sequences(waveform, settings.fft_length, settings.frame_step)
        real, imaginary = ops.rfft(frames * self.window, fft_length=settings.fft_length)
        power = ops.square(real) + ops.square(imaginary)
        return FROM_POWER[settings.power](power)


def _decibels(mel):
    return (10.0 / math.log(10.0)) * ops.log(ops.maximum(mel, 1e-10))


def _loudest(decibels):
    """The maximum of each clip, never of the batch."""
    return ops.max(decibels, axis=(1, 2), keepdims=True)


def _log(mel, settings: SpectrumSettings):
    return ops.log(mel + settings.log_offset)


def _decibels_below_loudest(mel, settings: SpectrumSettings):
    decibels = _decibels(mel)
    return ops.maximum(decibels - _loudest(decibels), -80.0)


def _decibels_floored(mel, settings: SpectrumSettings):
    decibels = _decibels(mel)
    return ops.maximum(decibels, _loudest(decibels) - 80.0)


def _relative(mel, settings: SpectrumSettings):
    """Logarithms above a floor under the clip's loudest band, each band about its mean over the recording."""
    loudest = ops.maximum(ops.max(mel, axis=(1, 2), keepdims=True), 1e-20)
    floor = 10.0 ** (-settings.floor_db * settings.power / 20.0)
    logarithm = ops.log(ops.maximum(mel / loudest, floor))
    if settings.centre == "none":
        return logarithm
    inside = recorded_frames(mel)
    count = ops.maximum(ops.sum(inside, axis=1, keepdims=True), 1.0)
    centred = (logarithm - ops.sum(logarithm * inside, axis=1, keepdims=True) / count) * inside
    if settings.centre == "mean":
        return centred
    variance = ops.sum(ops.square(centred), axis=(1, 2), keepdims=True) / (count * settings.mel_bands)
    return centred * ops.rsqrt(ops.maximum(variance, 1e-6))


def recorded_frames(mel):
    """Mask of the frames from the first to the last with sound, float32 `(batch, frames, 1)`."""
    return _recorded_span(ops.max(mel, axis=-1))[..., None]


_COMPRESSIONS: Mapping[str, Callable[[Any, SpectrumSettings], Any]] = {
    "log": _log,
    "db_to_max": _decibels_below_loudest,
    "db": _decibels_floored,
    "relative": _relative,
}


@keras.saving.register_keras_serializable(PACKAGE)
class LogMel(SpectrumLayer):
    """Compressed mel bands: `(batch, frames, bins)` to `(batch, frames, mel_bands)`."""

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        self.blocks = mel_blocks(mel_matrix(settings))

    def bands(self, spectrum):
        """The mel bands before they are compressed."""
        return ops.concatenate(
            [ops.matmul(spectrum[..., low : low + len(block)], block) for low, block in self.blocks], axis=-1
        )

    def compressed(self, mel):
        return _COMPRESSIONS[self.settings.compression](mel, self.settings)

    def call(self, spectrum):
        return self.compressed(self.bands(spectrum))


@keras.saving.register_keras_serializable(PACKAGE)
class MFCC(SpectrumLayer):
    """Cepstral coefficients: `(batch, frames, mel_bands)` to `(batch, frames, coefficients)`."""

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        self.matrix = dct_matrix(settings.mel_bands, settings.coefficients)
        if settings.compression != "log":
            self.matrix[:, 0] /= math.sqrt(2.0)

    def call(self, log_mel):
        cepstrum = ops.matmul(log_mel, self.matrix)
        return ops.clip(cepstrum, -10.0, 10.0) if self.settings.compression == "log" else cepstrum


@keras.saving.register_keras_serializable(PACKAGE)
class LogMelPatches(SpectrumLayer):
    """Compressed mel bands in patches: `(batch, samples)` to `(batch, patches, patch_frames, mel_bands)`.

    A patch that does not lie wholly within the recording, which ends with its last sample that is not 0, is
    all zeros. The first is always there: silence fills it.
    """

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        self.spectrogram, self.log_mel = Spectrogram(settings), LogMel(settings)

    def build(self, waveform_shape):
        # They have no weights: unless it is told, Keras warns that a saved file lacks theirs.
        self.spectrogram.built = self.log_mel.built = True

    def unmasked(self, waveform):
        """The patches as if the recording reached the end of `waveform`, and zeros behind that."""
        settings, samples = self.settings, waveform.shape[-1]
        patches = patch_count(samples, settings)
        used = int(patch_ends(patches, settings)[-1])
        waveform = ops.clip(waveform[:, :used], -_LARGEST_LEVEL, _LARGEST_LEVEL)
        waveform = ops.pad(waveform, [[0, 0], [0, max(0, used - samples)]])
        frames = self.log_mel(self.spectrogram(waveform))
        return ops.reshape(frames, (-1, patches, settings.patch_frames, settings.mel_bands))

    def call(self, waveform):
        patches = self.unmasked(waveform)
        sounding = ops.cast(ops.not_equal(waveform, 0.0), "int32")
        after = ops.argmax(ops.flip(sounding, -1), axis=-1, keepdims=True)
        recorded = waveform.shape[-1] - ops.cast(after, "int32")
        # A silent clip has no last sample: `recorded` is its whole length.
        recorded = recorded * ops.max(sounding, axis=-1, keepdims=True)
        needed = patch_ends(patches.shape[1], self.settings).astype(np.int32)
        needed[0] = 0
        return ops.where((recorded >= needed)[:, :, None, None], patches, 0.0)
