"""What a folder of recordings holds: each is read once, and what was found is kept in parts.

A part is an `.npz` with what is known of some recordings: name, size and time of change of each, what is
wrong with it or how it sounds, and the windows of it that have speech. A survey that was killed goes on
behind its last part, and of a folder that has changed only what changed is read again.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import audio
from light_sernet_kd.arrays import ArrayError, Expected, read_arrays, say_anew
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora.reading import recordings_below
from light_sernet_kd.data import training_list
from light_sernet_kd.data.signatures import SIGNATURE_VERSION, signature
from light_sernet_kd.data.unlabelled.windows import CONTENT_BYTES, content_of, windows
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import write_arrays
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.runner import too_short, unheard

# Raised when the same recordings give another survey: old parts are then not used.
SURVEY_VERSION = 1
# Recordings that are surveyed at once, and lost at once if the survey is killed.
PART = 256
# How a longer recording sounds as a whole is not found out: it would have to be held.
MOST_COMPARED_SECONDS = 60

CLIP = np.dtype([("content", "u1", (CONTENT_BYTES,)), ("recording", "<u4"), ("window", "<u4")])
NO_SPEECH, SHORT, TESTED = "no speech", "too short", "a test or validation recording"
_WORDS = {
    "broken": "unreadable", "silent": "without speech", "short": "too short",
    "tested": "that test or validate",
}  # fmt: skip
_CLIP_BYTES, _ROW_BYTES = CLIP.itemsize, training_list.ROW.itemsize


@dataclass(frozen=True)
class Survey:
    """What of a folder can be trained on.

    Attributes:
        samples: of a window.
        names: of the recordings, relative to the folder, sorted.
        files: SHA-256 of each recording's bytes, its first 16, uint8 `(recordings, 16)`.
        sounds: how each sounds, a row of `training_list.ROW`; of `frames` 0 where that is not known.
        clips: a row of `CLIP` for each window with speech: its content, its recording and which window of it.
            No content is there twice, and they are in the order of their contents, so that names have no part
            in it.
        clips_with_duplicates: the same with those of equal content.
        left_out: name → why a recording gives no clip.
        duplicates, silent_windows: how many windows were left out because of equal content, or of a recording
            with speech because they have none.
    """

    folder: Path
    samples: int
    names: Sequence[str]
    files: NDArray[np.uint8]
    sounds: NDArray[Any]
    clips: NDArray[Any]
    clips_with_duplicates: NDArray[Any]
    left_out: Mapping[str, str]
    duplicates: int
    silent_windows: int

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the clips' contents: equal for equal sound, whatever it is called."""
        digest = hashlib.sha256(f"{self.samples} ".encode())
        digest.update(np.ascontiguousarray(self.clips["content"]).data)
        return digest.hexdigest()

    @cached_property
    def recordings(self) -> NDArray[np.int64]:
        """Which recordings have clips, ascending."""
        return np.unique(self.clips["recording"]).astype(np.int64)

    def without_tested(self, names: Collection[str]) -> "Survey":
        """The same without what is in the recordings of these names, which test or validate.

        A clip of another recording that has the same content is left out too.

        Raises:
            UserError: nothing is left.
        """
        numbers = [number for number, name in enumerate(self.names) if name in names]
        theirs = np.isin(self.clips_with_duplicates["recording"], numbers)
        tested = {content.tobytes() for content in self.clips_with_duplicates["content"][theirs]}
        kept = self.clips[[content.tobytes() not in tested for content in self.clips["content"]]]
        left_out = {**self.left_out, **dict.fromkeys(names, TESTED)}
        if not len(kept):
            raise UserError(f"nothing else to learn from in {self.folder}: every recording is {TESTED}.")
        return replace(
            self, clips=kept, clips_with_duplicates=self.clips_with_duplicates[~theirs], left_out=left_out
        )

    def _of_reason(self, reason: str | None) -> list[str]:
        """Names of the recordings that were left out for this reason; for None, of those it is told why."""
        known = (NO_SPEECH, SHORT, TESTED)
        wanted = (lambda why: why not in known) if reason is None else (lambda why: why == reason)
        return [name for name, why in self.left_out.items() if wanted(why)]

    def facts(self, most: int = 20) -> dict[str, Any]:
        """What a run records of it; of names at most so many."""
        reasons = {"broken": None, "silent": NO_SPEECH, "short": SHORT, "tested": TESTED}
        named = {key: self._of_reason(reason) for key, reason in reasons.items()}
        return {
            "folder": str(self.folder),
            "recordings": len(self.recordings),
            "clips": len(self.clips),
            "clip_seconds": self.samples / SAMPLE_RATE,
            "duplicates": self.duplicates,
            "silent_windows": self.silent_windows,
            **{key: {"count": len(names), "names": names[:most]} for key, names in named.items()},
        }


def sentence(facts: Mapping[str, Any], most: int = 3) -> str:
    """What `Survey.facts` tells, in one line."""
    hours = facts["clips"] * facts["clip_seconds"] / 3600
    give = "gives" if facts["recordings"] == 1 else "give"
    text = (
        f"{pluralise(facts['recordings'], 'recording')} in {facts['folder']} {give} "
        f"{pluralise(facts['clips'], 'clip')} of up to {facts['clip_seconds']:g} s ({hours:.1f} h)"
    )
    out = []
    for key, what in _WORDS.items():
        if count := facts[key]["count"]:
            names = ", ".join(facts[key]["names"][:most]) + (", …" if count > most else "")
            out.append(f"{count:,} {what} ({names})")
    if count := facts["duplicates"]:
        out.append(f"{pluralise(count, 'clip')} of equal content")
    if count := facts["silent_windows"]:
        out.append(f"{pluralise(count, 'part')} without speech")
    return f"{text}; left out: {', '.join(out)}" if out else text


def recording_names(folder: Path) -> list[str]:
    """The recordings in a folder and its subfolders, relative to it, sorted; hidden ones are left out.

    Raises:
        UserError: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: --unlabelled names a folder of recordings.")
    return recordings_below(folder)


def survey(
    folder: Path, samples: int, cache: Path | None = None, *, progress: audio.Progress | None = None
) -> Survey:
    """Read what of a folder is not known yet, and gather all of it.

    Args:
        samples: of a window.
        cache: keeps the parts; None keeps nothing.
        progress: called with (done, all) after each part.

    Raises:
        UserError: there is no folder, no recording, or none with speech.

    The folder has two recordings, one of silence. Both seconds of the other one are the same.

    >>> import soundfile
    >>> time = np.arange(32_000) / 16_000
    >>> sound = 0.3 * np.sin(2 * np.pi * 200 * time) * np.sin(2 * np.pi * 2 * time) ** 2
    >>> Path("speech").mkdir()
    >>> soundfile.write("speech/voice.wav", sound, 16_000)
    >>> soundfile.write("speech/silence.wav", 0 * sound, 16_000)
    >>> found = survey(Path("speech"), 16_000)
    >>> len(found), found.duplicates, dict(found.left_out)
    (1, 1, {'silence.wav': 'no speech'})
    """
    names = recording_names(folder)
    stamps = np.array([_stamp(folder / name) for name in names], np.int64)
    place = _place(folder, samples, cache) if cache else None
    known: dict[int, tuple[int, int]] = {}  # recording → its part, and its row there
    parts: list[_Part] = []
    number_of = {name: number for number, name in enumerate(names)}
    for part in _stored_parts(place):
        parts.append(part)
        for row, name in enumerate(part.names):
            number = number_of.get(name)
            # What could not be read is tried again: a decoder may have been installed.
            settled = str(part.problems[row]) in ("", NO_SPEECH, SHORT)
            if number is not None and settled and (part.stamps[row] == stamps[number]).all():
                known[number] = (len(parts) - 1, row)
    missing = [number for number in range(len(names)) if number not in known]
    for start in range(0, len(missing), PART):
        chosen = missing[start : start + PART]
        part = _examined(folder, [names[number] for number in chosen], stamps[chosen], samples)
        if place:
            part.write(place)
        parts.append(part)
        known |= {number: (len(parts) - 1, row) for row, number in enumerate(chosen)}
        if progress:
            progress(len(known), len(names))
    return _gathered(folder, samples, names, [known[number] for number in range(len(names))], parts)


@dataclass(frozen=True)
class _Part:
    """What is known of some recordings.

    Attributes:
        stamps: size and time of change, `(recordings, 2)`.
        problems: why each gives no clip; empty where it does.
        sounds: `training_list.ROW` as bytes.
        clips: `CLIP` as bytes, the recording counted in this part.
        silent: windows of each that have no speech.
    """

    names: NDArray[Any]
    stamps: NDArray[np.int64]
    problems: NDArray[Any]
    files: NDArray[np.uint8]
    sounds: NDArray[np.uint8]
    clips: NDArray[np.uint8]
    silent: NDArray[np.int64]

    def write(self, place: Path) -> None:
        key = hashlib.sha256("\n".join(self.names.tolist()).encode(errors="surrogatepass"))
        key.update(self.stamps.data)
        write_arrays(place / f"{key.hexdigest()[:32]}.npz", vars(self))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a link to nowhere is told when it is read
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _place(folder: Path, samples: int, cache: Path) -> Path:
    """Where the parts of a folder's survey lie."""
    decides = f"{SURVEY_VERSION} {SIGNATURE_VERSION} {samples} {folder.resolve()}"
    return cache / f"survey-{hashlib.sha256(decides.encode(errors='surrogatepass')).hexdigest()[:32]}"


def _stored_parts(place: Path | None) -> Iterator[_Part]:
    for path in sorted(place.glob("*.npz")) if place else ():
        try:
            names = {"names": Expected((None,), "U"), "problems": Expected((None,), "U")}
            stored = read_arrays(path, expected=names, sealed=True)
            yield _Part(**stored)
        except FileNotFoundError:
            continue
        except (ArrayError, TypeError) as error:
            if isinstance(error, ArrayError):
                say_anew(error)
            path.unlink(missing_ok=True)


def _examined(folder: Path, names: Sequence[str], stamps: NDArray[np.int64], samples: int) -> _Part:
    problems, files, sounds, clips, silent = [], [], [], [], []
    results = audio.in_order(lambda name: _recording(folder / name, samples), names)
    for number, (content, sound, contents, problem, without_speech) in enumerate(results):
        problems.append(problem)
        files.append(content)
        sounds.append(sound)
        silent.append(without_speech)
        rows = np.zeros(len(contents), CLIP)
        for row, (window, digest) in zip(rows, contents, strict=True):
            row["content"], row["window"], row["recording"] = np.frombuffer(digest, np.uint8), window, number
        clips.append(rows)
    return _Part(
        np.array(names),
        stamps,
        np.array(problems),
        np.frombuffer(b"".join(files), np.uint8).reshape(-1, CONTENT_BYTES),
        np.concatenate(sounds).view(np.uint8).reshape(-1, _ROW_BYTES),
        np.concatenate(clips).view(np.uint8).reshape(-1, _CLIP_BYTES),
        np.array(silent, np.int64),
    )


class _Whole:
    """A recording's blocks on their way, held while they may be compared as a whole."""

    def __init__(self) -> None:
        self.count = 0
        self.blocks: list[np.ndarray] | None = []

    def noted(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.count += len(block)
            if self.count > MOST_COMPARED_SECONDS * SAMPLE_RATE:
                self.blocks = None
            if self.blocks is not None:
                self.blocks.append(block)
            yield block


def _recording(path: Path, samples: int) -> tuple[bytes, NDArray[Any], list[tuple[int, bytes]], str, int]:
    """SHA-256 of the bytes, how it sounds, windows with speech, why there are none, how many have none."""
    content, sound = bytes(CONTENT_BYTES), np.zeros(1, training_list.ROW)
    contents: list[tuple[int, bytes]] = []
    whole, silent = _Whole(), 0
    try:
        digest = audio.fingerprint(path)
        content = bytes.fromhex(digest)[:CONTENT_BYTES]
        for number, window in enumerate(windows(whole.noted(audio.blocks(path)), samples)):
            if unheard(window, SAMPLE_RATE):
                silent += 1
            else:
                contents.append((number, content_of(window)))
    except audio.AudioError as error:
        return content, sound, [], " ".join(str(error).split()) or "unreadable", 0
    if too_short(whole.count, SAMPLE_RATE):
        return content, sound, [], SHORT, 0
    if not contents:
        return content, sound, [], NO_SPEECH, 0
    if whole.blocks is None:
        sound["content"] = int(digest[:8], 16)
    else:
        vector, length = signature(np.concatenate(whole.blocks))
        sound = training_list.rows_of([digest], vector[None], np.array([length]))
    return content, sound, contents, "", silent


def _gathered(
    folder: Path,
    samples: int,
    names: Sequence[str],
    places: Sequence[tuple[int, int]],
    parts: Sequence[_Part],
) -> Survey:
    """All that is known of these recordings, each of a row of a part."""
    files = np.zeros((len(names), CONTENT_BYTES), np.uint8)
    sounds = np.zeros(len(names), training_list.ROW)
    left_out: dict[str, str] = {}
    silent = 0
    # In each part, the recording that a row is; of rows that are out of date none.
    numbers = [np.full(len(part.names), -1, np.int64) for part in parts]
    for number, (at, row) in enumerate(places):
        part = parts[at]
        numbers[at][row] = number
        files[number] = part.files[row]
        sounds[number] = np.ascontiguousarray(part.sounds[row]).view(training_list.ROW)[0]
        silent += int(part.silent[row])
        if problem := str(part.problems[row]):
            left_out[names[number]] = problem
    clips = []
    for part, of_part in zip(parts, numbers, strict=True):
        rows = np.ascontiguousarray(part.clips).reshape(-1).view(CLIP).copy()
        recording = of_part[rows["recording"]]
        rows["recording"] = np.maximum(recording, 0)
        clips.append(rows[recording >= 0])
    every = np.concatenate(clips) if clips else np.zeros(0, CLIP)
    # By content, and of equal ones the first recording's: which one does not depend on the parts.
    order = np.lexsort((every["window"], every["recording"], *every["content"].T[::-1]))
    every = every[order]
    again = (every["content"][1:] == every["content"][:-1]).all(axis=1)
    kept = every[np.concatenate([[True], ~again])] if len(every) else every
    duplicates = len(every) - len(kept)
    made = Survey(folder, samples, names, files, sounds, kept, every, left_out, duplicates, silent)
    if not len(kept):
        raise UserError(f"nothing to learn from in {folder}: {sentence(made.facts())}.")
    return made
