"""Microphones: gentle filters, and the small box that a microphone sits in."""

import math

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE


def microphone(waveform, rng, *, chance=0.5, most_db=6.0, peaks=3, device=0.3):
    """The waveform `(samples,)` as another microphone records it, as loud as it was.

    The filter is drawn: a high-pass of 20 to 200 Hz, a tilt of up to `most_db` either way between the lowest
    and the highest frequencies, and `peaks` bells or dips of up to `most_db`, 0.5 to 2 octaves wide. With the
    probability `device` the microphone sits in a device: resonances of 1 to 6 kHz that ring for a
    millisecond or two, and an echo from the case or the table within 2 ms.

    Source: random filters as in Schmid et al. 2022 (DCASE task 1, device impulse responses) and Chiang et al.
    2020, where measured responses are taken; the filters are those of Bristow-Johnson's Audio EQ Cookbook.
    """
    if rng.random() >= chance or not len(waveform):
        return waveform
    from scipy import signal

    heard = signal.sosfilt(sections(rng, most_db=most_db, peaks=peaks), waveform)
    if rng.random() < device:
        heard = signal.fftconvolve(heard, device_response(rng))[: len(waveform)]
    before, after = (np.mean(np.square(each, dtype=np.float64)) for each in (waveform, heard))
    return (heard * (math.sqrt(before / after) if after else 1.0)).astype(np.float32)


def sections(rng: np.random.Generator, *, most_db: float, peaks: int) -> np.ndarray:
    """Second-order sections `(2 + peaks, 6)` of a drawn microphone, as SciPy has them."""
    corner = math.exp(rng.uniform(math.log(20), math.log(200)))
    made = [_highpass(corner), shelf(1000.0, rng.uniform(-most_db, most_db))]
    for _ in range(peaks):
        hz = math.exp(rng.uniform(math.log(100), math.log(7000)))
        made.append(bell(hz, rng.uniform(-most_db, most_db), octaves=rng.uniform(0.5, 2.0)))
    return np.stack(made)


def _highpass(hz: float) -> np.ndarray:
    """Of first order: -3 dB at `hz`, 6 dB per octave below, as a small capsule has."""
    k = math.tan(math.pi * hz / SAMPLE_RATE)
    return np.array([1 / (1 + k), -1 / (1 + k), 0, 1, (k - 1) / (k + 1), 0])


def bell(hz: float, db: float, *, octaves: float) -> np.ndarray:
    """A section of gain `db` at `hz` and 0 dB at 0 Hz and at half the sampling rate.

    `octaves` is its width between the frequencies of half of its gain in dB.
    """
    w = 2 * math.pi * hz / SAMPLE_RATE
    amplitude = 10 ** (db / 40)
    alpha = math.sin(w) * math.sinh(math.log(2) / 2 * octaves * w / math.sin(w))
    b = np.array([1 + alpha * amplitude, -2 * math.cos(w), 1 - alpha * amplitude])
    a = np.array([1 + alpha / amplitude, -2 * math.cos(w), 1 - alpha / amplitude])
    return np.concatenate([b, a]) / a[0]


def shelf(hz: float, db: float) -> np.ndarray:
    """A section of first order that rises evenly by `db` about `hz`: half of it below, half above."""
    k, root = math.tan(math.pi * hz / SAMPLE_RATE), 10 ** (db / 80)
    # The analogue (s root + 1 / root) / (s / root + root) at s = (1 - z⁻¹) / (k (1 + z⁻¹)).
    b = np.array([root / k + 1 / root, 1 / root - root / k, 0])
    a = np.array([1 / (root * k) + root, root - 1 / (root * k), 0])
    return np.concatenate([b, a]) / a[0]


def device_response(rng: np.random.Generator) -> np.ndarray:
    """An impulse response of 4 ms, float64 `(64,)`: the impulse, its echo, and what resonates."""
    time = np.arange(64) / SAMPLE_RATE
    response = np.zeros(64)
    response[0] = 1.0
    response[int(rng.integers(2, 32))] += rng.uniform(-0.5, 0.5)
    for _ in range(3):
        hz, ring = math.exp(rng.uniform(math.log(1000), math.log(6000))), rng.uniform(0.0003, 0.001)
        response += rng.uniform(-0.3, 0.3) * np.exp(-time / ring) * np.sin(2 * np.pi * hz * time)
    return response
