"""The front end: 16 kHz audio to MFCC, mel or spectrogram tensors, as Keras layers.

The same layers run in the data pipeline and inside an exported model. They use operations that TFLite
has as builtins, and every clip is worked on alone: its features do not depend on its batch mates.

The families and their numbers are in `registries.front_ends`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import ops

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.front_ends import FRONT_ENDS, INPUT_TYPES, SpectrumSettings

PACKAGE = "light_sernet_kd"


# What a recording in ±1 never reaches; it keeps powers finite in float32.
_LARGEST_LEVEL = 1e6


def frame_count(samples: int, settings: SpectrumSettings) -> int:
    """Frames of a clip of `samples` samples; a `UserError` if it is shorter than one frame."""
    if settings.centred:
        return 1 + samples // settings.frame_step
    if samples < settings.frame_length:
        raise UserError(
            f"{samples} samples are shorter than one frame of {settings.frame_length} samples: "
            f"use a longer input (-id {settings.frame_length / SAMPLE_RATE:.3f} or more)."
        )
    return 1 + (samples - settings.frame_length) // settings.frame_step


def patch_ends(patches: int, settings: SpectrumSettings) -> np.ndarray:
    """How many samples a recording must have for its 1st, 2nd, … patch to lie within it, `(patches,)`."""
    last_frame = np.arange(1, patches + 1) * (settings.patch_frames or 1) - 1
    return last_frame * settings.frame_step + settings.frame_length


def patch_count(samples: int, settings: SpectrumSettings) -> int:
    """Patches that lie within a recording of `samples` samples; at least 1, since silence fills the first."""
    first, second = patch_ends(2, settings)
    return max(1, 1 + (samples - int(first)) // int(second - first))


def _htk_of_hz(hz: np.ndarray) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def _slaney_of_hz(hz: np.ndarray) -> np.ndarray:
    logarithmic = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / math.log(6.4)
    return np.where(hz < 1000.0, hz * 3.0 / 200.0, logarithmic)


def _hz_of_htk(mel: np.ndarray) -> np.ndarray:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _hz_of_slaney(mel: np.ndarray) -> np.ndarray:
    logarithmic = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * math.log(6.4) / 27.0)
    return np.where(mel < 15.0, mel * 200.0 / 3.0, logarithmic)


# Scale → to mel and back.
_MEL_SCALES = {"htk": (_htk_of_hz, _hz_of_htk), "slaney": (_slaney_of_hz, _hz_of_slaney)}


def hz_to_mel(hz: np.ndarray | float, scale: str) -> np.ndarray:
    """Mel of a frequency in Hz: `htk` 2595 log10(1 + f/700); `slaney` linear to 1 kHz, then logarithmic."""
    return _MEL_SCALES[choose("mel scale", scale, _MEL_SCALES)][0](np.asarray(hz, np.float64))


def mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    return _MEL_SCALES[choose("mel scale", scale, _MEL_SCALES)][1](np.asarray(mel, np.float64))


def mel_matrix(settings: SpectrumSettings, *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Triangular mel bands, float32 `(fft_length // 2 + 1, mel_bands)`.

    `htk` draws the triangles on the mel axis with peak 1, as TensorFlow's `linear_to_mel_weight_matrix`;
    `slaney` draws them on the frequency axis with equal areas, as librosa.
    """
    bins_hz = np.linspace(0.0, sample_rate / 2, settings.fft_length // 2 + 1)
    ends = hz_to_mel(np.array([settings.lowest_hz, settings.highest_hz]), settings.mel_scale)
    edges = np.linspace(ends[0], ends[1], settings.mel_bands + 2)
    axis = hz_to_mel(bins_hz, "htk") if settings.mel_scale == "htk" else bins_hz
    if settings.mel_scale == "slaney":
        edges = mel_to_hz(edges, "slaney")
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (axis[:, None] - lower) / (centre - lower)
    falling = (upper - axis[:, None]) / (upper - centre)
    matrix = np.maximum(0.0, np.minimum(rising, falling))
    if settings.mel_scale == "slaney":
        matrix *= 2.0 / (upper - lower)
    return matrix.astype(np.float32)


def dct_matrix(bands: int, coefficients: int) -> np.ndarray:
    """Orthonormal-style DCT-II as a matrix, float32 `(bands, coefficients)`, scaled like TensorFlow's MFCC.

    TensorFlow scales every coefficient by sqrt(2 / bands), the first one too, where the orthonormal
    transform (librosa) has sqrt(1 / bands) for the first: `cubic` divides that column by sqrt(2).
    """
    # A matrix, not tf.signal's DCT: that one slices a complex tensor, which TFLite lacks.
    band, coefficient = np.arange(bands)[:, None], np.arange(coefficients)[None, :]
    return (math.sqrt(2.0 / bands) * np.cos(math.pi / bands * (band + 0.5) * coefficient)).astype(np.float32)


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


# Name → what makes the layer; None for a level that stays as it is.
_NORMALISERS: Mapping[str, Callable[[], keras.layers.Layer] | None] = {
    "percentile": NormaliseByPercentile,
    "variance": NormaliseByVariance,
    "none": None,
}
# Window → what it is raised by and how far it swings.
_RAISED = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46)}
# Exponent → from the power of a bin to what is kept of it.
_OF_POWER: Mapping[int, Callable[[Any], Any]] = {1: ops.sqrt, 2: lambda power: power}


def _window(settings: SpectrumSettings) -> np.ndarray:
    """Periodic window, centred in the FFT's length, float32 `(fft_length,)`."""
    phase = 2.0 * math.pi * np.arange(settings.frame_length) / settings.frame_length
    raised = _RAISED[settings.window]
    window = raised[0] - raised[1] * np.cos(phase)
    left = (settings.fft_length - settings.frame_length) // 2
    return np.pad(window, (left, settings.fft_length - settings.frame_length - left)).astype(np.float32)


class _Settled(keras.layers.Layer):
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
class Spectrogram(_Settled):
    """Short-time magnitude or power: `(batch, samples)` to `(batch, frames, fft_length // 2 + 1)`."""

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        self.window = _window(settings)

    def call(self, waveform):
        settings = self.settings
        # Centred frames begin half an FFT early; the others by the zeros in front of their window.
        early = settings.fft_length if settings.centred else settings.fft_length - settings.frame_length
        if early:
            waveform = ops.pad(waveform, [[0, 0], [early // 2, early - early // 2]])
        frames = ops.extract_sequences(waveform, settings.fft_length, settings.frame_step)
        real, imaginary = ops.rfft(frames * self.window, fft_length=settings.fft_length)
        power = ops.square(real) + ops.square(imaginary)
        return _OF_POWER[settings.power](power)


def _mel_blocks(matrix: np.ndarray, *, blocks: int = 4) -> list[tuple[int, np.ndarray]]:
    """A mel matrix as blocks of neighbouring bands: (first bin, matrix `(bins, bands)`), in order.

    A block keeps only the bins its bands use. The whole matrix is mostly zeros, which an exported file would
    store and a device multiply: a quarter of the values is left.
    """
    parts = []
    for part in np.array_split(matrix, blocks, axis=1):
        used = np.flatnonzero(part.any(axis=1))
        parts.append((int(used[0]), part[used[0] : used[-1] + 1]))
    return parts


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


_COMPRESSIONS: Mapping[str, Callable[[Any, SpectrumSettings], Any]] = {
    "log": _log,
    "db_to_max": _decibels_below_loudest,
    "db": _decibels_floored,
}


@keras.saving.register_keras_serializable(PACKAGE)
class LogMel(_Settled):
    """Compressed mel bands: `(batch, frames, bins)` to `(batch, frames, mel_bands)`."""

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        self.blocks = _mel_blocks(mel_matrix(settings))

    def call(self, spectrum):
        mel = ops.concatenate(
            [ops.matmul(spectrum[..., low : low + len(block)], block) for low, block in self.blocks], axis=-1
        )
        return _COMPRESSIONS[self.settings.compression](mel, self.settings)


class SpectrogramByProducts(Spectrogram):
    """`Spectrogram` as matrix products, which a device computes in less than half the time of its RFFT.

    XNNPACK takes them and leaves the RFFT alone. A frame is a table of `n1` rows of `n2` samples, sample
    `n2 * row + column`, and its transform is, as in the algorithm of Cooley and Tukey (1965): the transform
    of each column, turned by `column * k1` steps, and transformed over the columns. Samples are real, so that
    half of the first transform, `k1` up to `n1 / 2`, tells all.

    Attributes:
        bins: the Fourier bin of each of the numbers per frame, `(n,)`. Those up to 34 after 34 are 33
            neighbouring bins in some order: the first of a bin counts, a repetition is to be left out.
    """

    columns = 32

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        fft_length, n2 = settings.fft_length, self.columns
        n1 = fft_length // n2
        if fft_length % n2 or settings.frame_step % n2:
            raise ValueError(
                f"frames of {fft_length} every {settings.frame_step} are no rows of {n2} samples"
            )
        table = self.window.reshape(n1, n2)
        used = np.flatnonzero(table.any(axis=1))
        # Rows where a short window is zero are left out.
        self.first_row, rows = int(used[0]), used[-1] + 1 - used[0]
        row = np.arange(self.first_row, self.first_row + rows)
        self.table = table[row]
        k1, column = np.arange(n1 // 2 + 1), np.arange(n2)
        turn = 2.0 * math.pi * np.outer(k1, row) / n1
        self.of_rows = np.concatenate([np.cos(turn), -np.sin(turn)]).astype(np.float32)
        turn = 2.0 * math.pi * np.outer(k1, column) / fft_length
        self.cosine, self.sine = np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)
        # k = k1 + n1 * k2, and above half of the length its mirror: taken in pairs, k2 gives neighbours.
        k2 = np.stack([np.arange(n2 // 2), n2 - 1 - np.arange(n2 // 2)], axis=1).reshape(-1)
        turn = 2.0 * math.pi * np.outer(column, k2) / n2
        cosine, sine = np.cos(turn), np.sin(turn)
        self.real = np.concatenate([cosine, sine]).astype(np.float32)
        self.imaginary = np.concatenate([-sine, cosine]).astype(np.float32)
        k = (k1 + n1 * k2[:, None]).reshape(-1)
        self.bins = np.minimum(k, fft_length - k)

    def call(self, waveform):
        settings, n2 = self.settings, self.columns
        frames = frame_count(waveform.shape[-1], settings)
        early = (
            settings.fft_length if settings.centred else settings.fft_length - settings.frame_length
        ) // 2
        before = early - self.first_row * n2
        # A step is so many rows, and a frame so many steps, of which the last may be cut.
        step_rows, rows = settings.frame_step // n2, len(self.table)
        steps = -(-rows // step_rows)
        samples = (frames + steps - 1) * settings.frame_step
        if before < 0:
            waveform, before = waveform[:, -before:], 0
        waveform = waveform[:, : max(0, samples - before)]
        behind = samples - before - waveform.shape[-1]
        if before or behind:
            waveform = ops.pad(waveform, [[0, 0], [before, behind]])
        stepped = ops.reshape(waveform, (-1, frames + steps - 1, step_rows, n2))
        parts = [
            stepped[:, step : step + frames, : min(step_rows, rows - step * step_rows)]
            for step in range(steps)
        ]
        table = (ops.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]) * self.table
        transformed = ops.matmul(self.of_rows, table)  # (batch, frames, real and imaginary, columns)
        half = len(self.cosine)
        real, imaginary = transformed[:, :, :half], transformed[:, :, half:]
        turned = ops.concatenate(
            [
                real * self.cosine + imaginary * self.sine,
                imaginary * self.cosine - real * self.sine,
            ],
            axis=-1,
        )
        power = ops.square(ops.matmul(turned, self.real)) + ops.square(ops.matmul(turned, self.imaginary))
        power = ops.reshape(ops.transpose(power, (0, 1, 3, 2)), (-1, frames, len(self.bins)))
        return _OF_POWER[settings.power](power)


class LogMelOfProducts(LogMel):
    """`LogMel` of what `SpectrogramByProducts` gives."""

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        bins = SpectrogramByProducts(settings).bins
        matrix = mel_matrix(settings)[bins]
        repeated = np.ones(len(bins), bool)
        repeated[np.unique(bins, return_index=True)[1]] = False
        matrix[repeated] = 0.0
        # More and so smaller blocks: a file would store the zeros.
        self.blocks = _mel_blocks(matrix, blocks=8)


@keras.saving.register_keras_serializable(PACKAGE)
class MFCC(_Settled):
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
class LogMelPatches(_Settled):
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


class LogMelPatchesByProducts(LogMelPatches):
    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        self.spectrogram, self.log_mel = SpectrogramByProducts(settings), LogMelOfProducts(settings)


def settings_of(front_end: str, input_type: str) -> SpectrumSettings:
    """The published settings of a front end (`lsn`, `cubic`, `vggish`) for an input type."""
    known = FRONT_ENDS[choose("front end", front_end, FRONT_ENDS)].spectra
    if input_type in INPUT_TYPES and input_type not in known:
        raise UserError(f"the front end {front_end} has no {input_type}; it has {', '.join(known)}.")
    return known[choose("input type", input_type, known)]


def front_end_layers(front_end: str, input_type: str, *, on_device: bool = False) -> list[keras.layers.Layer]:
    """The layers from `(batch, samples)` audio to `(batch, *feature_shape)`.

    Args:
        on_device: those for an exported file, which differ by float32's rounding alone.
    """
    spectrum = settings_of(front_end, input_type)
    return FRONT_ENDS[front_end].layers(spectrum, input_type, on_device=on_device)


def spectral_layers(
    settings: SpectrumSettings, input_type: str, *, on_device: bool = False
) -> list[keras.layers.Layer]:
    """The layers of a front end that is a spectrum and what follows from it, as `FrontEnd.layers`."""
    # A spectrogram is wanted with its bins in order.
    products = on_device and input_type != "spectrogram"
    normaliser = _NORMALISERS[settings.normalise]
    layers: list[keras.layers.Layer] = [normaliser()] if normaliser else []
    if settings.patch_frames:
        return [*layers, (LogMelPatchesByProducts if products else LogMelPatches)(settings)]
    layers.append((SpectrogramByProducts if products else Spectrogram)(settings))
    if input_type != "spectrogram":
        layers.append((LogMelOfProducts if products else LogMel)(settings))
    if input_type == "mfcc":
        layers.append(MFCC(settings))
    return [*layers, keras.layers.Reshape((-1, _width(settings, input_type), 1))]


def _width(settings: SpectrumSettings, input_type: str) -> int:
    widths = {
        "mfcc": settings.coefficients,
        "mel_spectrogram": settings.mel_bands,
        "spectrogram": settings.fft_length // 2 + 1,
    }
    return widths[input_type]


def feature_shape(front_end: str, input_type: str, samples: int) -> tuple[int, int, int]:
    """Of a clip of `samples` samples: `(frames, features, 1)`, or `(patches, 96, 64)` of `vggish`."""
    settings = settings_of(front_end, input_type)
    if settings.patch_frames:
        return patch_count(samples, settings), settings.patch_frames, settings.mel_bands
    return frame_count(samples, settings), _width(settings, input_type), 1


def front_end_model(front_end: str, input_type: str, samples: int, *, on_device: bool = False) -> keras.Model:
    """A model from `(batch, samples)` float32 audio at 16 kHz to `(batch, *feature_shape)`.

    Args:
        on_device: that for an exported file, which differs by float32's rounding alone.
    """
    frames, _, _ = feature_shape(front_end, input_type, samples)  # refuses a clip shorter than a frame
    audio = keras.Input((samples,), name="audio", dtype="float32")
    tensor = audio
    for layer in front_end_layers(front_end, input_type, on_device=on_device):
        tensor = layer(tensor)
    model = keras.Model(audio, tensor, name=f"{front_end}_{input_type}")
    if model.output_shape[1] != frames:
        raise AssertionError(f"{model.output_shape} frames where {frames} were expected")
    return model
