"""`demo`: a made corpus, so that every command can be tried without a licence or a download.

Its voices are those of `corpora.synthetic`. A score on it shows that a program runs and learns, nothing more.
"""

import csv
import itertools
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora.synthetic import EMOTIONS, SENTENCES, SPEAKERS, synthesise
from light_sernet_kd.corpora.types import Corpus, Published, Utterance
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import staging_folder

ORIGIN = None  # it is made here
PUBLISHED = Published()

# Raise it with every change that moves a sample: clips of another version are refused, not mixed in.
VERSION = 1


def make(root: Path, *, seed: int = 0) -> None:
    """Write the corpus: 420 WAV files (16 kHz, mono, 16 bit), `manifest.csv`, `README.txt` and `version`.

    The folder appears whole or not at all.

    Raises:
        UserError: `root` exists and is not an empty folder.
    """
    if root.exists() and not _is_empty_folder(root):
        raise UserError(f"{root} exists already: delete it, or choose another place for the demo corpus.")
    root.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(root) as place:
        folder = place / root.name
        folder.mkdir()
        rows = [("path", "emotion", "speaker", "id", "transcript")]
        for name, speaker, sentence, emotion in _clips():
            clip = synthesise(speaker, sentence, emotion, seed=seed)
            _write_wav(folder / f"{name}.wav", clip)
            rows.append((f"{name}.wav", emotion, speaker, name, SENTENCES[sentence].transcript))
        with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        (folder / "README.txt").write_text(_README.format(version=VERSION, seed=seed), encoding="utf-8")
        (folder / "version").write_text(f"{VERSION}\n", encoding="utf-8")
        try:
            if root.exists():
                root.rmdir()  # on Windows a rename does not replace even an empty folder
            folder.rename(root)
        except OSError:
            # Another process that makes the same corpus may have been first; its folder serves as well.
            if not (root / "version").is_file():
                raise


def utterances(root: Path, *, skip_bad: bool = False) -> Corpus:
    """The corpus in `root`, which is made (in about ten seconds) where there is none.

    Clips of another version are refused rather than replaced: cached features and finished runs came from
    them, and a folder is not ours to delete.

    Args:
        skip_bad: of no matter, since clips that are damaged are made anew.

    Raises:
        UserError: `root` holds another version, or something else, or clips are missing or cut short.
    """
    if not root.exists() or _is_empty_folder(root):
        make(root)
    remedy = "Delete the folder, and the demo corpus is made anew."
    marker = root / "version"
    if not marker.is_file():
        raise UserError(f"{root} is not a demo corpus: it has no file 'version'. Name a folder that is free.")
    version = marker.read_text(encoding="utf-8", errors="replace").strip()
    if version != str(VERSION):
        raise UserError(f"{root} holds version {version!r} of the demo corpus, this is {VERSION}. {remedy}")

    clips = [
        Utterance(
            id=name,
            path=root / f"{name}.wav",
            emotion=emotion,
            speaker=speaker,
            transcript=SENTENCES[sentence].transcript,
        )
        for name, speaker, sentence, emotion in _clips()
    ]
    damaged = [clip.path.name for clip in clips if not _is_whole(clip.path)]
    if damaged:
        raise UserError(
            f"{root} is damaged: {len(damaged)} of its {len(clips)} clips are missing or cut short, "
            f"first {damaged[0]}. {remedy}"
        )
    return Corpus(name="demo", utterances=tuple(clips), synthetic=True)


_README = """\
The demo corpus of Light-SERNet KD: synthetic, not recordings.

Every clip was computed by light_sernet_kd/corpora/demo.py (version {version}, seed {seed}). Nobody
speaks, nobody feels anything: emotions are rules for pitch, rate, level and voice quality. A score on
these clips shows that a program runs and learns. It says nothing about real speech.

manifest.csv names each clip's emotion, speaker, id and transcript. The folder can be deleted at any
time; it is made anew when it is next asked for.
"""


def _clips() -> Iterator[tuple[str, str, str, str]]:
    """(id, speaker, sentence, emotion) of every clip, sorted by id."""
    for speaker, sentence, emotion in itertools.product(SPEAKERS, SENTENCES, EMOTIONS):
        yield f"demo-{speaker}-{sentence}-{emotion}", speaker, sentence, emotion


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None


def _is_whole(path: Path) -> bool:
    """Whether the WAV file at `path` holds as many samples as its header says."""
    try:
        with wave.open(str(path), "rb") as file:
            return len(file.readframes(file.getnframes())) == 2 * file.getnframes() > 0
    except (OSError, EOFError, wave.Error):
        return False


def _write_wav(path: Path, clip: NDArray[np.float32]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(clip * 32767).astype("<i2").tobytes())
