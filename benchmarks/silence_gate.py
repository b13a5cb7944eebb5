"""How much of speech and of noise the silence gate calls speech: by the former rule and by the present one.

    python benchmarks/silence_gate.py --data DIR

The former rule is a level of at least -50 dBFS and frames of 25 ms whose level moves by at least 4 dB; the
present one is `runner.unheard`. Its values were chosen on EMO-DB and the made-up sounds; RAVDESS, where DIR
holds it, only checks them. A recording is taken as it is and as its loudest 2 s, at each gain in
floating-point samples and rounded to 16 bits once more; starts are what lies before the speech, repeated.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(REPOSITORY))

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.audio import augment
from light_sernet_kd.runner import level_dbfs, unheard

RATE = 16_000
GAINS_DB = (0, -10, -20, -30, -40)
LEVELS_DBFS = (-90, -60, -30, -10)
CORPORA = {"EMO-DB": "wav/*.wav", "RAVDESS": "**/*.flac"}


def formerly(sound: np.ndarray) -> bool:
    """Whether the former rule calls `(n,)` speech."""
    frames = sound[: len(sound) // 400 * 400].reshape(-1, 400)
    levels = np.sort(10 * np.log10(np.maximum(np.var(frames, axis=1, dtype=np.float64), 1e-12)))
    last = len(levels) - 1
    return level_dbfs(sound) >= -50 and (last < 7 or levels[int(0.95 * last)] - levels[int(0.2 * last)] >= 4)


def presently(sound: np.ndarray) -> bool:
    return unheard(sound, RATE) == ""


def sixteen_bits(sound: np.ndarray) -> np.ndarray:
    return (np.clip(np.round(sound * 32768), -32768, 32767) / 32768).astype(np.float32)


def loudest(sound: np.ndarray, samples: int) -> np.ndarray:
    """The `samples` samples of most energy."""
    energy = np.cumsum(np.r_[0, sound.astype(np.float64) ** 2])
    if len(sound) <= samples:
        return sound
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    return sound[start : start + samples]


def in_noise(
    sound: np.ndarray,
    noise: Callable[[int, np.random.Generator], np.ndarray],
    snr_db: float,
    random: np.random.Generator,
) -> np.ndarray:
    made = noise(len(sound), random)
    return (sound + made * sound.std() / made.std() * 10 ** (-snr_db / 20)).astype(np.float32)


def babble(speech: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    chosen = [speech[k] for k in random.choice(len(speech), 8, replace=False)]
    return np.float32(sum(np.resize(each, 3 * RATE) / each.std() for each in chosen)) * np.float32(0.01)


def coloured(samples: int, random: np.random.Generator, exponent: float) -> np.ndarray:
    """Noise whose power falls with frequency to the `exponent`, from 20 Hz on."""
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    gains = np.where(frequencies > 20, np.maximum(frequencies, 20) ** (-exponent / 2), 0)
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(samples)) * gains, samples)
    return noise / noise.std()


def hum(samples: int, random: np.random.Generator, mains: float) -> np.ndarray:
    at = np.arange(samples) / RATE
    parts = [np.sin(2 * np.pi * (mains * k * at + random.random())) / k for k in range(1, 16)]
    return np.sum(parts, axis=0) + 0.01 * random.standard_normal(samples)


def fan(samples: int, random: np.random.Generator) -> np.ndarray:
    """Coloured noise and hum, whose level wanders within 6 dB."""
    points = random.uniform(-3, 3, 5)
    drift = np.interp(np.linspace(0, 4, samples), np.arange(5), points * random.random())
    noise = coloured(samples, random, random.uniform(1, 2)) + random.random() * hum(samples, random, 50) / 3
    return noise * 10 ** (drift / 20)


def clicks(samples: int, random: np.random.Generator, per_second: float) -> np.ndarray:
    """Bursts of 3 ms, 40 dB above a room's noise."""
    sound = 0.01 * coloured(samples, random, 1.2)
    for at in random.integers(0, samples - 500, random.poisson(per_second * samples / RATE)):
        sound[at : at + 500] += random.standard_normal(500) * np.exp(-np.arange(500) / 50)
    return sound


MADE: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "white noise": lambda samples, random: random.standard_normal(samples),
    "pink noise": lambda samples, random: coloured(samples, random, 1),
    "brown noise": lambda samples, random: coloured(samples, random, 2),
    "hum, 50 Hz": lambda samples, random: hum(samples, random, 50),
    "hum, 60 Hz": lambda samples, random: hum(samples, random, 60),
    "fan, within 6 dB": fan,
    "2 clicks a second in a room": lambda samples, random: clicks(samples, random, 2),
    "8 clicks a second in a room": lambda samples, random: clicks(samples, random, 8),
    "white noise with zeros in it": lambda samples, random: (
        random.standard_normal(samples) * (np.arange(samples) % 12_000 < 8_000)
    ),
}


def made_sounds(random: np.random.Generator, draws: int) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Names of what is no speech, and clips of 1.2, 2 and 3 s at four levels; half of them in 16 bits."""
    lengths = [round(seconds * RATE) for seconds in (1.2, 2, 3)]
    yield "digital silence", [np.zeros(length, np.float32) for length in lengths]
    dither = [np.float32(random.integers(-1, 2, length) / 32768) for length in lengths * draws]
    yield "dither of one step", dither
    for name, make in MADE.items():
        clips = []
        for draw in range(draws):
            for length in lengths:
                for dbfs in LEVELS_DBFS:
                    sound = make(length, random)
                    sound = (sound / sound.std() * 10 ** (dbfs / 20)).astype(np.float32)
                    clips.append(sixteen_bits(sound) if draw % 2 else sound)
        yield f"{name}, -90 to -10 dBFS", clips


def before_speech(sound: np.ndarray, most_seconds: float) -> np.ndarray:
    """What lies before the first 25 ms that come within 40 dB of the loudest, less 50 ms before these."""
    levels = sound[: len(sound) // 400 * 400].reshape(-1, 400).std(axis=1)
    first = int(np.argmax(levels > levels.max() / 100))
    return sound[: min(max(0, first - 2) * 400, round(most_seconds * RATE))]


def sets(data: Path, draws: int, limit: int | None) -> Iterator[tuple[str, list[np.ndarray]]]:
    random = np.random.default_rng(0)
    for corpus, pattern in CORPORA.items():
        paths = sorted((data / corpus).glob(pattern))[:limit]
        if not paths:
            continue
        speech = [each for each in audio.read_all(paths) if isinstance(each, np.ndarray)]
        for gain in GAINS_DB:
            quiet = [(10 ** (gain / 20) * each).astype(np.float32) for each in speech]
            yield f"{corpus}, {gain} dB", quiet
            yield f"{corpus}, {gain} dB, 16 bits", [sixteen_bits(each) for each in quiet]
        for gain in (0, -40):
            parts = [10 ** (gain / 20) * loudest(each, 2 * RATE) for each in speech]
            yield f"{corpus}, loudest 2 s, {gain} dB", parts
        yield f"{corpus}, loudest 0.5 s", [loudest(each, RATE // 2) for each in speech]
        heard = [loudest(each, 3 * RATE) for each in speech]
        for name, noise in (("white", augment.white_noise), ("pink", augment.pink_noise)):
            for snr in (20, 10, 0):
                yield f"{corpus}, {name} {snr} dB", [in_noise(each, noise, snr, random) for each in heard]
        yield f"{corpus}, babble of 8, 3 s", [babble(speech, random) for _ in range(100)]
        starts = [before_speech(each, 0.5) for each in speech]
        repeated = [np.resize(each, 3 * RATE) for each in starts if len(each) >= 1600]
        yield f"{corpus}, starts before speech", repeated
        yield (
            f"{corpus}, starts before speech, +40 dB",
            [np.clip(100 * each, -1, 1) for each in repeated if each.any()],
        )
    yield from made_sounds(random, draws)


def table(rows: Iterable[tuple[str, list[np.ndarray]]]) -> None:
    print("| Sound | Clips | Former rule: speech | Present rule: speech |\n| --- | ---: | ---: | ---: |")
    for name, clips in rows:
        if clips:
            shares = [
                f"{100 * np.mean([rule(clip) for clip in clips]):.1f} %" for rule in (formerly, presently)
            ]
            print(f"| {name} | {len(clips)} | {' | '.join(shares)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data")))
    parser.add_argument("--draws", type=int, default=8, help="of each made-up sound, length and level")
    parser.add_argument("--limit", type=int, help="how many recordings of each corpus")
    arguments = parser.parse_args()
    table(sets(arguments.data, arguments.draws, arguments.limit))


if __name__ == "__main__":
    main()
