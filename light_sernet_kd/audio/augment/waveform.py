"""The voice and the level: what changes a recording's waveform without adding to it."""

import numpy as np

from light_sernet_kd.audio import resample


def speed(waveform, rng, *, chance=1.0, low=0.9, high=1.1):
    """The waveform `(samples,)` played faster or slower by a factor drawn evenly from `low` to `high`.

    It is resampled, so pitch and formants move by the same factor (1.1 is 1.65 semitones) and the length by
    its inverse.

    Source: Ko et al. 2015, "Audio augmentation for speech recognition", Interspeech, whose factors
    0.9, 1 and 1.1 are the ends and the middle here.
    """
    if rng.random() >= chance:
        return waveform
    return resample(waveform, rng.uniform(low, high), 1)


def gain(waveform, rng, *, chance=1.0, low_db=-10.0, high_db=10.0):
    """The waveform `(samples,)` times a gain drawn evenly, in dB, and cut at full scale (±1).

    The front ends of audio-only students take a clip's level out again (`lsn` divides by the 99.9th
    percentile, `cubic` by the standard deviation, `robust` by the peak), so a student never sees the gain
    itself. What it sees is the overload of a clip that reaches full scale: this trains for recordings that
    clip, and changes nothing in quiet ones.

    Source: none published; ±10 dB is about the spread between a close and a distant talker.
    """
    if rng.random() >= chance:
        return waveform
    # A float file may exceed full scale: at 0 dB it stays as it is.
    full_scale = max(1.0, float(np.max(np.abs(waveform), initial=0.0)))
    factor = 10.0 ** (rng.uniform(low_db, high_db) / 20.0)
    return np.clip(waveform * factor, -full_scale, full_scale).astype(np.float32)


def clipping(waveform, rng, *, chance=0.2, most=0.1):
    """The waveform `(samples,)` cut where its largest samples begin, whatever its level.

    Which share of the samples is cut is drawn evenly from 0 to `most`. A `gain` overloads recordings that
    come near to full scale; this one overloads all of them.

    Source: none published; 10 % is plainly audible and leaves speech intelligible.
    """
    if rng.random() >= chance or not len(waveform):
        return waveform
    cut = np.quantile(np.abs(waveform), 1 - rng.uniform(0, most))
    return np.clip(waveform, -cut, cut) if cut else waveform
