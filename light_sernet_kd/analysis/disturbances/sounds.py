"""Coughs, sneezes, music and surroundings beside a voice: synthesised, or a user's own recordings.

No recording comes with this package. What is synthesised stands in for recordings: it has the phases and
the spectrum of the real sound, and it is drawn anew for every utterance. None of it shares code or draws with
the augmentation.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import signal

from light_sernet_kd.analysis.degradations import DegradationContext, active, power_dbfs, with_noise
from light_sernet_kd.config import SAMPLE_RATE


def with_event(waveform: np.ndarray, context: DegradationContext, *, kind: str, snr_db: float) -> np.ndarray:
    """The waveform with one cough or sneeze at a place that is drawn.

    The ratio is that of the power of the recording's active part to the event's, over its own length.

    Args:
        kind: of `EVENTS`.
    """
    rng = context.rng(kind)
    event = _recording(kind, rng, context)
    if event is None:
        event = EVENTS[kind](rng)
    heard, level = active(waveform), power_dbfs(active(event))
    if not len(heard) or power_dbfs(heard) == -math.inf or level == -math.inf:
        return waveform
    gain = 10 ** ((power_dbfs(heard) - snr_db - level) / 20)
    event = (active(event)[: len(waveform)] * gain).astype(np.float32)
    start = int(rng.integers(len(waveform) - len(event) + 1))
    changed = waveform.copy()
    changed[start : start + len(event)] += event
    return changed


def with_background(
    waveform: np.ndarray, context: DegradationContext, *, kind: str, snr_db: float
) -> np.ndarray:
    """The waveform with music or surroundings all along, at a ratio of powers over its active part.

    Args:
        kind: of `BACKGROUNDS`.
    """
    rng = context.rng(kind)
    recorded = _recording(kind, rng, context)
    if recorded is None:
        background = BACKGROUNDS[kind](len(waveform), rng)
    else:
        start = int(rng.integers(len(recorded)))
        background = np.resize(np.roll(recorded, -start), len(waveform))
    return with_noise(waveform, background, snr_db=snr_db)


def _recording(kind: str, rng: np.random.Generator, context: DegradationContext) -> np.ndarray | None:
    """One of the user's recordings of a kind; None where there are none."""
    given = context.noises.get(kind, ())
    return given[int(rng.integers(len(given)))] if given else None


def _seconds(rng: np.random.Generator, low: float, high: float) -> int:
    """A drawn duration, in samples."""
    return round(rng.uniform(low, high) * SAMPLE_RATE)


def _resonant(noise: np.ndarray, formants: list[tuple[float, float]]) -> np.ndarray:
    """Noise through resonances (centre and bandwidth in Hz), beside a tenth of what it was."""
    shaped = 0.1 * noise
    for hz, width in formants:
        radius = math.exp(-math.pi * width / SAMPLE_RATE)
        poles = [1, -2 * radius * math.cos(2 * math.pi * hz / SAMPLE_RATE), radius**2]
        shaped += (1 - radius) * signal.lfilter([1.0], poles, noise)
    return shaped


def _harmonics(samples: int, f0_hz: np.ndarray, *, highest_hz: float, fall: float) -> np.ndarray:
    """A voiced sound whose pitch `(samples,)` moves: harmonics with amplitudes of 1 / number^fall."""
    turn = 2 * np.pi * np.cumsum(f0_hz) / SAMPLE_RATE
    count = max(1, int(highest_hz / float(f0_hz.max())))
    return np.sum([np.sin(k * turn) / k**fall for k in range(1, count + 1)], axis=0)[:samples]


def cough(rng: np.random.Generator) -> np.ndarray:
    """One cough, float32 `(samples,)`: an explosion, a weaker noise, and in two of three a voiced end.

    Source: the phases and their order: Korpáš, Sadloňová and Vrabec 1996, Analysis of the cough sound: an
    overview, Pulmonary Pharmacology 9(5-6). Durations and resonances are ours, of the usual order.
    """
    formants = [
        (rng.uniform(350, 600), 200.0),
        (rng.uniform(900, 1400), 250.0),
        (rng.uniform(2200, 3200), 500),
    ]
    burst, weaker = _seconds(rng, 0.03, 0.06), _seconds(rng, 0.12, 0.25)
    noise = _resonant(rng.standard_normal(burst + weaker), formants)
    noise /= np.sqrt(np.mean(noise**2))
    envelope = np.concatenate(
        [np.minimum(1, np.arange(burst) / 48), 0.35 * np.exp(-2.5 * np.arange(weaker) / weaker)]
    )
    phases = [noise * envelope]
    if rng.random() < 2 / 3:
        voiced = _seconds(rng, 0.05, 0.15)
        f0_hz = rng.uniform(120, 350) * np.linspace(1, 0.8, voiced)
        voice = _harmonics(voiced, f0_hz, highest_hz=4000, fall=1.0)
        phases.append(0.3 * voice / np.sqrt(np.mean(voice**2)) * np.hanning(voiced))
    return np.concatenate(phases).astype(np.float32)


def sneeze(rng: np.random.Generator) -> np.ndarray:
    """One sneeze, float32 `(samples,)`: a breath in, a short voiced start, and a long hissing burst.

    The hiss has most of its power above 2 kHz, where a cough has little.
    """
    breath, voiced, hiss = _seconds(rng, 0.2, 0.4), _seconds(rng, 0.04, 0.1), _seconds(rng, 0.15, 0.35)
    inhaled = _resonant(rng.standard_normal(breath), [(rng.uniform(800, 1600), 600.0)])
    inhaled *= 0.05 / np.sqrt(np.mean(inhaled**2)) * np.linspace(0, 1, breath)
    f0_hz = rng.uniform(180, 400) * np.linspace(1, 1.4, voiced)
    voice = _harmonics(voiced, f0_hz, highest_hz=3000, fall=1.0)
    voice *= 0.4 / np.sqrt(np.mean(voice**2)) * np.linspace(0.3, 1, voiced)
    band = signal.butter(
        2, (rng.uniform(1800, 2600), rng.uniform(6000, 7500)), "band", fs=SAMPLE_RATE, output="sos"
    )
    burst = signal.sosfilt(band, rng.standard_normal(hiss))
    burst *= np.minimum(1, np.arange(hiss) / 80) * np.exp(-3 * np.arange(hiss) / hiss)
    burst /= np.abs(burst).max()
    return np.concatenate([inhaled, voice, burst]).astype(np.float32)


# Steps of a chord's root above the key, and the chord's notes above its root, in semitones.
_PROGRESSIONS = (
    ((0, (0, 4, 7)), (9, (0, 3, 7)), (5, (0, 4, 7)), (7, (0, 4, 7))),
    ((0, (0, 3, 7)), (8, (0, 4, 7)), (3, (0, 4, 7)), (10, (0, 4, 7))),
    ((0, (0, 4, 7)), (7, (0, 4, 7)), (9, (0, 3, 7)), (5, (0, 4, 7))),
)


def music(samples: int, rng: np.random.Generator) -> np.ndarray:
    """A band's few bars, float32 `(samples,)`: a chord progression, a bass, a melody and a beat of drums.

    All notes are of equal temperament about A = 440 Hz. The music begins anywhere in its bars.
    """
    beat = _seconds(rng, 60 / 140, 60 / 80)
    key = 45 + int(rng.integers(12))  # MIDI number of the lowest root, A2 to G#3
    progression = _PROGRESSIONS[int(rng.integers(len(_PROGRESSIONS)))]
    whole = np.zeros(samples + 5 * beat)
    for number, start in enumerate(range(0, samples + beat, beat)):
        root, chord = progression[number // 4 % 4]
        _play(whole, start, [key + root - 12], beat, amplitude=1.0, decay=0.4)
        if number % 4 == 0:
            _play(whole, start, [key + root + note for note in chord], 4 * beat, amplitude=0.5, decay=1.5)
        melody = key + 12 + root + chord[int(rng.integers(3))]
        _play(whole, start + beat // 2 * int(rng.integers(2)), [melody], beat, amplitude=0.8, decay=0.3)
        _drum(whole, start, rng, is_kick=number % 2 == 0)
    offset = int(rng.integers(beat))
    return whole[offset : offset + samples].astype(np.float32)


def _play(
    whole: np.ndarray, start: int, notes: list[int], samples: int, *, amplitude: float, decay: float
) -> None:
    """Add notes (MIDI numbers), each of five harmonics that decay in so many seconds."""
    place = whole[start : start + samples]
    seconds = np.arange(len(place)) / SAMPLE_RATE
    for note in notes:
        hz = 440 * 2 ** ((note - 69) / 12)
        tone = np.sum([np.sin(2 * np.pi * hz * k * seconds) / k**1.5 for k in range(1, 6)], axis=0)
        place += amplitude * tone * np.exp(-seconds / decay) * np.minimum(1, seconds / 0.01)


def _drum(whole: np.ndarray, start: int, rng: np.random.Generator, *, is_kick: bool) -> None:
    """Add a kick, a low falling tone, or a snare, a burst of noise; and a hi-hat."""
    place = whole[start : start + round(0.2 * SAMPLE_RATE)]
    seconds = np.arange(len(place)) / SAMPLE_RATE
    if is_kick:
        place += (
            1.5
            * np.sin(2 * np.pi * (50 * seconds + 3 * (1 - np.exp(-seconds / 0.03))))
            * np.exp(-seconds / 0.06)
        )
    else:
        place += 0.5 * rng.standard_normal(len(place)) * np.exp(-seconds / 0.04)
    hiss = np.diff(rng.standard_normal(len(place) + 1))
    place += 0.15 * hiss * np.exp(-seconds / 0.02)


def environment(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Rain, wind or traffic, float32 `(samples,)`, one of the three at random."""
    return (rain, wind, traffic)[int(rng.integers(3))](samples, rng)


def rain(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Drops at random moments, each a click that rings for a millisecond or two, over their far hiss."""
    strikes = np.zeros(samples)
    count = rng.poisson(rng.uniform(100, 400) * samples / SAMPLE_RATE)
    # Few drops are near and loud: sizes have a long tail.
    np.add.at(
        strikes, rng.integers(samples, size=count), rng.lognormal(0, 1, count) * rng.choice([-1, 1], count)
    )
    hz = rng.uniform(2500, 5000)
    drops = _resonant(strikes, [(hz, 400.0), (0.5 * hz, 300.0)])
    hiss = signal.lfilter([1, -0.6], [1], rng.standard_normal(samples))
    return (drops / (np.std(drops) + 1e-12) + 0.7 * hiss / (np.std(hiss) + 1e-12)).astype(np.float32)


def wind(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Low noise in gusts: its power falls by 12 dB per octave above 200 Hz and swells in seconds."""
    turbulence = signal.sosfilt(
        signal.butter(2, rng.uniform(100, 300), fs=SAMPLE_RATE, output="sos"), rng.standard_normal(samples)
    )
    gusts = np.exp(_slow(samples, rng, hz=1.0))
    return (turbulence * gusts).astype(np.float32)


def traffic(samples: int, rng: np.random.Generator) -> np.ndarray:
    """The rumble of a road, tyres that come and go, and one engine's harmonics."""
    noise = rng.standard_normal((2, samples))
    rumble = signal.sosfilt(signal.butter(1, 150.0, fs=SAMPLE_RATE, output="sos"), noise[0])
    tyres = signal.sosfilt(signal.butter(1, (500.0, 1500.0), "band", fs=SAMPLE_RATE, output="sos"), noise[1])
    passing = np.exp(1.5 * _slow(samples, rng, hz=0.5))
    engine = _harmonics(samples, rng.uniform(40, 90) * (1 + 0.02 * _slow(samples, rng, hz=0.5)),
                        highest_hz=800, fall=0.8)  # fmt: skip
    parts = [(rumble, 1.0), (tyres * passing, 0.5), (engine * passing, rng.uniform(0.1, 0.5))]
    return sum(share * part / (np.std(part) + 1e-12) for part, share in parts).astype(np.float32)


def _slow(samples: int, rng: np.random.Generator, *, hz: float) -> np.ndarray:
    """A curve about 0 with a deviation near 1 that moves about `hz` times in a second."""
    count = max(4, math.ceil(samples / SAMPLE_RATE * 2 * hz) + 3)
    points = rng.standard_normal(count)
    places = np.linspace(0, count - 1, samples)
    return np.interp(places, np.arange(count), points)


EVENTS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {"cough": cough, "sneeze": sneeze}
BACKGROUNDS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "music": music,
    "environment": environment,
}
