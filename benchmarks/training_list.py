"""How often a file's list of training recordings misses a copy, and how often it takes another for one.

    python benchmarks/training_list.py --data DIR

Each copy is compared with its own original by what it sounds like alone; the hash of the file is set apart.
Then every pair of different recordings is compared. DIR holds EMO-DB.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(REPOSITORY))

import numpy as np
import soundfile
from numpy.typing import NDArray

from light_sernet_kd import audio
from light_sernet_kd.data import signatures, training_list

RATE = 16_000
NOBODY = np.zeros(0, np.uint32)
Sound = NDArray[np.float32]


def coded(sound: Sound, rate: int = RATE, **how) -> Sound:
    """The sound written at a rate in a format, and read again."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.resample(sound, RATE, rate), rate, **how)
    buffer.seek(0)
    read, rate = soundfile.read(buffer, dtype="float32")
    return audio.resample(read, rate, RATE)


def with_silence(sound: Sound) -> Sound:
    return np.concatenate(
        [np.zeros(int(0.4 * RATE), np.float32), sound, np.zeros(int(0.2 * RATE), np.float32)]
    )


COPIES: dict[str, Callable[[Sound], Sound]] = {
    "20 dB quieter": lambda sound: 0.1 * sound,
    "clipped (+6 dB)": lambda sound: np.clip(2 * sound, -1, 1),
    "16 bits": lambda sound: coded(sound, format="WAV", subtype="PCM_16"),
    "8 bits": lambda sound: coded(sound, format="WAV", subtype="PCM_U8"),
    "8 kHz": lambda sound: coded(sound, 8_000, format="WAV", subtype="PCM_16"),
    "44.1 kHz": lambda sound: coded(sound, 44_100, format="WAV", subtype="PCM_16"),
    "MP3": lambda sound: coded(sound, format="MP3"),
    "MP3, lowest quality": lambda sound: coded(sound, format="MP3", compression_level=0.95),
    "Ogg Vorbis": lambda sound: coded(sound, format="OGG", subtype="VORBIS"),
    "Ogg Opus": lambda sound: coded(sound, 48_000, format="OGG", subtype="OPUS"),
    "silence around": with_silence,
    "50 ms cut off both ends": lambda sound: sound[RATE // 20 : -RATE // 20],
    "middle 3 s": lambda sound: audio.fit(sound, min(len(sound), 3 * RATE)),
}


def rows_of(sounds: list[Sound], first: int) -> np.ndarray:
    """Their rows in a list, with made-up hashes from `first` on."""
    vectors, lengths = zip(*map(signatures.signature, sounds), strict=True)
    hashes = [f"{first + i:08x}" for i in range(len(sounds))]
    return training_list.rows_of(hashes, np.stack(vectors), np.array(lengths))


def known(trained: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Which of the tested rows the list of the trained ones knows."""
    lists = [training_list.TrainingList(rows, NOBODY) for rows in (trained, tested)]
    return training_list.shared(*lists)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("LIGHT_SERNET_KD_DATA", "data")
    parser.add_argument("--data", type=Path, default=Path(default), help="holds EMO-DB/")
    data = parser.parse_args().data
    sounds = [audio.read(path) for path in sorted((data / "EMO-DB" / "wav").glob("*.wav"))]
    if not sounds:
        raise SystemExit(f"no recordings in {data / 'EMO-DB' / 'wav'}: name the folder that holds EMO-DB.")
    own = rows_of(sounds, 0)
    print(f"| copy of {len(sounds)} recordings | not found % |\n|:--|--:|")
    for name, copy in COPIES.items():
        copies = rows_of([copy(sound) for sound in sounds], 10**6)
        found = [known(own[i : i + 1], copies[i : i + 1])[0] for i in range(len(sounds))]
        print(f"| {name} | {100 * (1 - np.mean(found)):.1f} |")
    others = rows_of(sounds, 2 * 10**6)
    mistaken = sum(int(known(own[i : i + 1], others[i + 1 :]).sum()) for i in range(len(sounds) - 1))
    print(f"\nTaken for one another: {mistaken} of {len(sounds) * (len(sounds) - 1) // 2:,} pairs")


if __name__ == "__main__":
    main()
