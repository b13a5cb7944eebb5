"""What is heard beside a voice: noise, hum, music, other voices."""

import math

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE


def noise(waveform, rng, *, chance=0.5, snr_low=5.0, snr_high=20.0, pink=0.5, hum=0.0, music=0.0):
    """The waveform `(samples,)` with noise at an SNR drawn evenly, in dB, from `snr_low` to `snr_high`.

    The ratio is that of the powers over the whole recording. The noise is, with the probabilities `pink`,
    `hum` and `music`, pink (power falling as 1/f, flat per octave, as much of the noise of rooms does), the
    mains' hum or a few bars of chords, else white (flat per Hz). Silence stays silence, since no noise has a
    ratio to it.

    Source: the range is a usual one; x-vectors (Snyder et al. 2018, ICASSP) take 0 to 15 dB, and 5 to 15 of
    music.
    """
    if rng.random() >= chance:
        return waveform
    snr_db, kind = rng.uniform(snr_low, snr_high), rng.random()
    if kind < pink:
        added = pink_noise(len(waveform), rng)
    elif kind < pink + hum:
        added = mains_hum(len(waveform), rng)
    elif kind < pink + hum + music:
        added = chords(len(waveform), rng)
    else:
        added = white_noise(len(waveform), rng)
    return with_added(waveform, added, snr_db)


def babble(waveform, rng, others, *, chance=0.5, snr_low=5.0, snr_high=20.0, voices_low=3, voices_high=7):
    """The waveform `(samples,)` with other people talking at an SNR drawn as that of `noise`.

    From `voices_low` to `voices_high` recordings, each as loud as the others, each repeated from a place that
    is drawn.

    Args:
        others: recordings `(n,)` of other speakers of the training set, indexed by a number.

    Source: Snyder et al. 2018, "X-vectors: robust DNN embeddings for speaker recognition", ICASSP: three to
    seven speakers, there at 13 to 20 dB.
    """
    if rng.random() >= chance:
        return waveform
    snr_db = rng.uniform(snr_low, snr_high)
    mixed = np.zeros(len(waveform), np.float32)
    for _ in range(rng.integers(voices_low, voices_high, endpoint=True)):
        voice = others[int(rng.integers(len(others)))]
        power = _power(voice)
        if power:
            voice = np.roll(voice, -int(rng.integers(len(voice))))
            mixed += np.resize(voice, len(mixed)) / np.float32(math.sqrt(power))
    return with_added(waveform, mixed, snr_db)


def with_added(waveform: np.ndarray, added: np.ndarray, snr_db: float) -> np.ndarray:
    """The waveform `(samples,)` with as much of `added` `(samples,)` as gives this ratio of their powers."""
    ratio, power = 10.0 ** (snr_db / 10.0), _power(added)
    if not power:  # babble of silent recordings
        return waveform
    scale = math.sqrt(_power(waveform) / (ratio * power + 1e-300))
    return waveform + np.float32(scale) * added


def _power(waveform: np.ndarray) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0


def white_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 `(samples,)`: normal, with a power spectrum that is flat per Hz; root mean square about 1."""
    return rng.standard_normal(samples, dtype=np.float32)


def pink_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """The same with a power spectrum that falls as 1/f, of whatever level comes out."""
    # Whole octaves are cheap to transform, and a part of pink noise is pink.
    count = 2 ** max(1, math.ceil(math.log2(samples)))
    # Single precision halves the time; the real and the imaginary part are two draws.
    spectrum = rng.standard_normal(count + 2, dtype=np.float32).view(np.complex64)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum), dtype=np.float32))
    spectrum[0] = 0.0
    return np.fft.irfft(spectrum, count)[:samples]


def mains_hum(samples: int, rng: np.random.Generator) -> np.ndarray:
    """The hum of the mains: 50 or 60 Hz and its first multiples, each of a level of its own.

    Their amplitudes fall as one over the multiple, and each varies about that by a factor of e.
    """
    base = rng.choice([50.0, 60.0]) * rng.uniform(0.998, 1.002)
    multiples = np.arange(1, 17)
    amplitudes = np.exp(rng.normal(0.0, 1.0, len(multiples))) / multiples
    amplitudes = amplitudes * np.exp(1j * rng.uniform(0, 2 * np.pi, len(multiples)))
    turn = np.remainder(2 * np.pi * base / SAMPLE_RATE * np.arange(samples), 2 * np.pi).astype(np.float32)
    once = np.exp(1j * turn)
    hum = np.full(samples, amplitudes[-1], np.complex64)
    for amplitude in amplitudes[-2::-1].astype(np.complex64):  # Horner's rule
        hum = hum * once + amplitude
    return (hum * once).imag


# Semitones above a chord's lowest note.
_CHORDS = ((0, 4, 7, 12), (0, 3, 7, 12), (0, 4, 7, 10), (0, 5, 7, 12))
_HARMONICS = 6


def chords(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Something like music: chords of decaying tones with harmonics, one after the other in a steady beat.

    It has what music has and noise has not: pitches, a spectrum of lines, onsets and a rhythm.
    """
    beat = int(rng.uniform(0.25, 0.7) * SAMPLE_RATE)
    lowest_hz = 110.0 * 2.0 ** rng.uniform(0, 1)
    fall = rng.uniform(0.8, 2.0)  # of the harmonics' amplitudes
    decay = np.exp(-np.arange(beat) / (rng.uniform(0.1, 0.6) * SAMPLE_RATE)).astype(np.float32)
    decay[:80] *= np.linspace(0, 1, 80, dtype=np.float32)  # 5 ms, or it would click
    radians = 2 * np.pi / SAMPLE_RATE * np.arange(beat)
    played = np.zeros(-(-samples // beat) * beat, np.float32)
    for start in range(0, samples, beat):
        root_hz = lowest_hz * 2.0 ** (rng.choice([0, 2, 5, 7, 9]) / 12)
        for semitones in _CHORDS[rng.integers(len(_CHORDS))]:
            turn = np.remainder(root_hz * 2.0 ** (semitones / 12) * radians, 2 * np.pi).astype(np.float32)
            before, now, twice = np.float32(0), np.sin(turn), 2 * np.cos(turn)
            tone = now.copy()
            for harmonic in range(2, _HARMONICS + 1):
                # sin((n+1)x) = 2 cos(x) sin(nx) - sin((n-1)x) spares a sine per harmonic.
                before, now = now, twice * now - before
                tone += now * np.float32(harmonic**-fall)
            played[start : start + beat] += decay * tone
    return played[:samples]
