"""The layers of an exported front end: the Fourier transform as matrix products."""

import math

import numpy as np
from keras import ops

from light_sernet_kd.features.filterbanks import mel_blocks, mel_matrix
from light_sernet_kd.features.frames import frame_count
from light_sernet_kd.features.layers import FROM_POWER, LogMel, LogMelPatches, Spectrogram
from light_sernet_kd.features.voice import MFCCAndVoice, Voice
from light_sernet_kd.registries.front_ends import SpectrumSettings


class SpectrogramByProducts(Spectrogram):
    """`Spectrogram` as matrix products, which a device computes in less than half the time of its RFFT.

    XNNPACK takes them and leaves the RFFT alone. A frame is a table of `n1` rows of `n2` samples, sample
    `n2 * row + column`, and its transform is, as in the algorithm of Cooley and Tukey (1965): the transform
    of each column, turned by `column * k1` steps, and transformed over the columns. Samples are real, so that
    half of the first transform, `k1` up to `n1 / 2`, tells all.

    Attributes:
        bins: the Fourier bin of each of the numbers per frame, `(n,)`. Those up to 34 after 34 are 33
            neighbouring bins in some order: the first of a bin counts, a repetition is to be left out.

    Raises:
        ValueError: the FFT's length or the frame step is no multiple of `columns`.
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
        return FROM_POWER[settings.power](power)


def of_products(matrix: np.ndarray, settings: SpectrumSettings) -> np.ndarray:
    """A matrix of one row per Fourier bin in the order of `SpectrogramByProducts`, `(n, columns)`.

    A bin's repetitions have rows of zeros.
    """
    bins = SpectrogramByProducts(settings).bins
    matrix = matrix[bins]
    repeated = np.ones(len(bins), bool)
    repeated[np.unique(bins, return_index=True)[1]] = False
    matrix[repeated] = 0.0
    return matrix


class LogMelOfProducts(LogMel):
    """`LogMel` of what `SpectrogramByProducts` gives."""

    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        # More and so smaller blocks: a file would store the zeros.
        self.blocks = mel_blocks(of_products(mel_matrix(settings), settings), blocks=8)


class VoiceOfProducts(Voice):
    """`Voice` of what `SpectrogramByProducts` gives."""

    def in_order_of_spectrum(self, matrix):
        return of_products(matrix, self.settings)


class MFCCAndVoiceOfProducts(MFCCAndVoice):
    log_mel_layer, voice_layer = LogMelOfProducts, VoiceOfProducts


class LogMelPatchesByProducts(LogMelPatches):
    def __init__(self, settings: SpectrumSettings, **kwargs):
        super().__init__(settings, **kwargs)
        self.spectrogram, self.log_mel = SpectrogramByProducts(settings), LogMelOfProducts(settings)
