"""The voice: its pitch apart from its speed, and two recordings of one speaker after another."""

import numpy as np

from light_sernet_kd.audio import resample

# 32 ms, two periods of a deep voice, and a quarter of that from one frame to the next.
_FRAME, _HOP = 512, 128


def copypaste(waveform, rng, twins, *, chance=0.2):
    """The waveform `(samples,)` and another recording of its speaker and class, in a drawn order.

    Args:
        twins: recordings `(n,)` of the same speaker and class in the training set, indexed by a number; where
            there is none, the waveform stays.

    Source: Pappagari et al. 2021, "CopyPaste: an augmentation method for speech emotion recognition", ICASSP,
    same-emotion CopyPaste; there of any speaker, which would put a change of speaker into the clip.
    """
    if rng.random() >= chance or not len(twins):
        return waveform
    pair = [waveform, twins[int(rng.integers(len(twins)))]]
    return np.concatenate(pair[::-1] if rng.random() < 0.5 else pair)


def pitch(waveform, rng, *, chance=0.2, low=-2.0, high=2.0):
    """The waveform `(samples,)` moved by a number of semitones drawn evenly from `low` to `high`.

    Its length and speed stay; its formants move with its pitch. It is stretched by a phase vocoder and then
    resampled to its length.

    Source: Salamon and Bello 2017, "Deep convolutional neural networks and data augmentation for
    environmental sound classification", IEEE Signal Processing Letters 24(3), whose first range is ±2.
    """
    if rng.random() >= chance or len(waveform) < _FRAME:
        return waveform
    factor = 2 ** (rng.uniform(low, high) / 12)
    moved = resample(stretched(waveform, factor), factor, 1)[: len(waveform)]
    return np.pad(moved, (0, len(waveform) - len(moved)))


def stretched(waveform: np.ndarray, factor: float) -> np.ndarray:
    """The waveform `(samples,)` `factor` times as long, float32, at the same pitch.

    Source: Laroche and Dolson 1999, Improved phase vocoder time-scale modification of audio, IEEE
    Transactions on Speech and Audio Processing 7(3): identity phase locking.
    """
    from scipy import fft

    samples = round(len(waveform) * factor)
    window = np.sin(np.pi * (np.arange(_FRAME) + 0.5) / _FRAME).astype(np.float32)
    padded = np.pad(waveform, (_FRAME, 2 * _FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    spectra = fft.rfft(frames * window, axis=1)
    times = np.arange(0, len(spectra) - 1, 1 / factor)
    before = times.astype(int)
    between = (times - before).astype(np.float32)[:, None]
    sizes, turns = np.abs(spectra), np.angle(spectra)
    size = (1 - between) * sizes[before] + between * sizes[before + 1]
    # Of a bin's middle in a hop; what a partial turns more or less than that is measured.
    expected = 2 * np.pi * _HOP / _FRAME * np.arange(spectra.shape[1], dtype=np.float32)
    surplus = np.diff(turns, axis=0) - expected
    advance = expected + surplus - 2 * np.pi * np.rint(surplus / (2 * np.pi))
    phase = _locked(size, turns[before], advance[np.maximum(before - 1, 0)])
    made = fft.irfft(size * (np.cos(phase) + 1j * np.sin(phase)), _FRAME, axis=1) * window
    # Frames overlap by three quarters, where the squared windows sum to 2.
    blocks = np.zeros((len(made) + _FRAME // _HOP - 1, _HOP), np.float32)
    for part in range(_FRAME // _HOP):
        blocks[part : part + len(made)] += made[:, part * _HOP : (part + 1) * _HOP] / 2
    heard = blocks.reshape(-1)
    start = round(_FRAME * factor)
    return np.pad(heard, (0, max(0, start + samples - len(heard))))[start : start + samples]


def _locked(sizes: np.ndarray, turns: np.ndarray, advance: np.ndarray) -> np.ndarray:
    """Phases `(frames, bins)` that advance at the peaks of `sizes`, about which the others stay as they were.

    Args:
        sizes: of the frames to be made.
        turns: phases of the frames that they are made of.
        advance: of the phases from one hop to the next.
    """
    frames, count = sizes.shape
    bins = np.arange(count, dtype=np.int32)
    beside = np.pad(sizes, ((0, 0), (1, 1)), constant_values=-1.0)
    is_peak = (sizes >= beside[:, :-2]) & (sizes > beside[:, 2:])
    is_peak[:, 0] |= ~is_peak.any(axis=1)  # of silence
    # The nearest peak at or below each bin, and at or above.
    below = np.maximum.accumulate(np.where(is_peak, bins, -count), axis=1)
    above = np.minimum.accumulate(np.where(is_peak, bins, 2 * count)[:, ::-1], axis=1)[:, ::-1]
    peak = np.where(bins - below <= above - bins, below, above).astype(np.intp)
    of_peak = (advance - turns).ravel()[peak + count * np.arange(frames)[:, None]]
    # In double precision, since the sum grows over all of the clip.
    phases = (of_peak + turns).astype(np.float64)
    phases[0] = turns[0]
    for frame in range(1, frames):
        phases[frame] += phases[frame - 1].take(peak[frame])
    return (phases - 2 * np.pi * np.rint(phases / (2 * np.pi))).astype(np.float32)
