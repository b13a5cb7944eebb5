"""Windows, mel bands and the cosine transform as matrices."""

import math

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.errors import choose
from light_sernet_kd.registries.front_ends import SpectrumSettings

# Window → what it is raised by and how far it swings.
_RAISED = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46)}


def window_of(settings: SpectrumSettings) -> np.ndarray:
    """Periodic window, centred in the FFT's length, float32 `(fft_length,)`."""
    phase = 2.0 * math.pi * np.arange(settings.frame_length) / settings.frame_length
    raised = _RAISED[settings.window]
    window = raised[0] - raised[1] * np.cos(phase)
    left = (settings.fft_length - settings.frame_length) // 2
    return np.pad(window, (left, settings.fft_length - settings.frame_length - left)).astype(np.float32)


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
    """Mel of a frequency in Hz: `htk` 2595 log10(1 + f/700); `slaney` linear to 1 kHz, then logarithmic.

    Raises:
        UserError: unknown scale.
    """
    return _MEL_SCALES[choose("mel scale", scale, _MEL_SCALES)][0](np.asarray(hz, np.float64))


def mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    """Frequency in Hz of a mel; the inverse of `hz_to_mel`.

    Raises:
        UserError: unknown scale.
    """
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


def mel_blocks(matrix: np.ndarray, *, blocks: int = 4) -> list[tuple[int, np.ndarray]]:
    """A mel matrix as blocks of neighbouring bands: (first bin, matrix `(bins, bands)`), in order.

    A block keeps only the bins its bands use. The whole matrix is mostly zeros, which an exported file would
    store and a device multiply: a quarter of the values is left.
    """
    parts = []
    for part in np.array_split(matrix, blocks, axis=1):
        used = np.flatnonzero(part.any(axis=1))
        parts.append((int(used[0]), part[used[0] : used[-1] + 1]))
    return parts


def dct_matrix(bands: int, coefficients: int) -> np.ndarray:
    """Orthonormal-style DCT-II as a matrix, float32 `(bands, coefficients)`, scaled like TensorFlow's MFCC.

    TensorFlow scales every coefficient by sqrt(2 / bands), the first one too, where the orthonormal
    transform (librosa) has sqrt(1 / bands) for the first: `cubic` divides that column by sqrt(2).
    """
    # A matrix, not tf.signal's DCT: that one slices a complex tensor, which TFLite lacks.
    band, coefficient = np.arange(bands)[:, None], np.arange(coefficients)[None, :]
    return (math.sqrt(2.0 / bands) * np.cos(math.pi / bands * (band + 0.5) * coefficient)).astype(np.float32)
