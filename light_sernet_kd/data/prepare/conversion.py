"""A corpus as 16-bit mono WAV files with a manifest, whole or cut into segments."""

import contextlib
import csv
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data.prepare.folder import LEFT_OUT, MANIFEST, WAV_FOLDER, whole_folder
from light_sernet_kd.data.prepare.wav import as_int16, check_rate, write_wav
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.dimensions import DIMENSIONS

SEGMENTS = ("centre", "all")
LONGEST_SEGMENT_SECONDS = 3600
_MANIFEST_COLUMNS = ("path", "emotion", "speaker", "id", "session", "dialog", "transcript", "split", "sex")


@dataclass(frozen=True)
class Conversion:
    """What becomes of a recording.

    Attributes:
        sample_rate: of the files, in Hz.
        segment_seconds: length of the segments that a recording is cut into; None leaves it whole.
        segments: `centre` keeps one segment from the middle of each recording under its own id. `all` keeps
            consecutive segments from the start, with the ids `<id>-000`, `<id>-001` and so on.
        min_share: what remains at the end is kept, zero-padded, if it is at least this share of a segment. A
            recording shorter than one segment is always kept. Zeros go equally to both ends.

    Raises:
        UserError: a setting is out of range.

    >>> Conversion(segment_seconds=0.5).segment_samples
    8000
    """

    sample_rate: int = SAMPLE_RATE
    segment_seconds: float | None = None
    segments: str = "centre"
    min_share: float = 0.5

    def __post_init__(self) -> None:
        choose("segments", self.segments, SEGMENTS)
        check_rate(self.sample_rate)
        seconds = self.segment_seconds
        if seconds is None and self.segments == "all":
            raise UserError("cutting into all segments needs their length in seconds")
        if seconds is not None and not 1 / self.sample_rate <= seconds <= LONGEST_SEGMENT_SECONDS:
            raise UserError(
                f"a segment must last longer than 0 s and at most {LONGEST_SEGMENT_SECONDS} s, "
                f"not {seconds} s"
            )
        if not 0 < self.min_share <= 1:
            raise UserError(
                f"the smallest share of a segment worth keeping lies in (0, 1], not {self.min_share}"
            )

    @property
    def segment_samples(self) -> int | None:
        return None if self.segment_seconds is None else round(self.segment_seconds * self.sample_rate)

    def pieces(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """What follows a recording's id in a segment's → the segment's samples."""
        length = self.segment_samples
        if length is None:
            return {"": waveform}
        if self.segments == "centre":
            return {"": audio.fit(waveform, length)}
        whole, rest = divmod(len(waveform), length)
        count = max(1, whole + (rest >= self.min_share * length))
        starts = (index * length for index in range(count))
        return {
            f"-{index:03d}": audio.fit(waveform[start : start + length], length)
            for index, start in enumerate(starts)
        }


def convert(
    corpus: Corpus,
    target: str | os.PathLike[str],
    conversion: Conversion | None = None,
    *,
    overwrite: bool = False,
    skip_bad: bool = False,
    jobs: int | None = None,
    progress: audio.Progress | None = None,
) -> Path:
    """Write the corpus as 16-bit mono WAV files with a manifest, into a folder that is whole or absent.

    A transcript is dropped where its recording becomes several segments, since nobody knows which words are
    in which; segments of one recording share its speaker, so a speaker-independent protocol keeps them
    together. A 16-bit mono recording already at the sample rate keeps its samples; one that would exceed
    full scale is scaled down to fit. Listeners' ratings of arousal, valence and dominance stay on the
    corpus's scale; means beyond an end become that end, since a manifest's ratings lie within its scale.

    Args:
        target: the folder to make. It may be an empty one or, with `overwrite`, an earlier result of this.
        conversion: by default whole recordings at 16 kHz.
        skip_bad: leave unreadable recordings out and list them in `left_out.csv`, rather than refuse.
        progress: called with (done, all) after each recording.

    Returns:
        The path of `manifest.csv` in `target`.

    Raises:
        UserError: nothing to convert, or the folder cannot be replaced.
        AudioError: recordings cannot be read; names all of them.
    """
    if not corpus.utterances:
        raise UserError(f"{corpus.name} has no recording to convert")
    target = Path(target)
    if any(utterance.path.resolve().is_relative_to(target.resolve()) for utterance in corpus.utterances):
        raise UserError(f"{target} holds the recordings of {corpus.name} itself: name another folder")
    utterances = corpus.utterances
    bad: dict[str, str] = {}
    written: list[Utterance] = []
    with whole_folder(target, overwrite=overwrite) as folder:
        (folder / WAV_FOLDER).mkdir()
        write = partial(_write_segments, folder=folder, conversion=conversion or Conversion())
        tasks = zip(utterances, _stems([utterance.id for utterance in utterances]), strict=True)
        # Closed, so that no thread writes any more when an interrupted conversion is cleared away.
        with contextlib.closing(audio.in_order(lambda task: write(*task), tasks, jobs=jobs)) as results:
            for done, (utterance, result) in enumerate(zip(utterances, results, strict=True), start=1):
                if isinstance(result, audio.AudioError):
                    bad[utterance.id] = str(result)
                else:
                    written.extend(result)
                if progress:
                    progress(done, len(utterances))
        if bad and (not skip_bad or not written):
            remedy = "" if skip_bad else "\n  Mend or remove them, or leave them out with --skip-bad."
            raise audio.AudioError(audio.listing(bad, len(utterances)) + remedy)
        _write_manifest(folder / MANIFEST, written, corpus.dimension_range)
        bad = {**corpus.skipped, **bad}
        if bad:
            _write_csv(folder / LEFT_OUT, ("id", "reason"), bad.items())
    return target / MANIFEST


def _write_segments(
    utterance: Utterance, stem: str, *, folder: Path, conversion: Conversion
) -> list[Utterance] | audio.AudioError:
    """Write one recording's WAV files; their utterances' paths are relative to `folder`."""
    try:
        waveform = audio.read(utterance.path, sample_rate=conversion.sample_rate)
    except audio.AudioError as error:
        return error
    # A float file may exceed full scale, and so may a full-scale one when resampled. Scaling keeps its
    # shape, clipping would not; every front end of a student divides the level out.
    waveform = as_int16(waveform / max(1.0, float(np.abs(waveform).max())))
    pieces = conversion.pieces(waveform)
    written = []
    for suffix, piece in pieces.items():
        path = Path(WAV_FOLDER) / f"{stem}{suffix}.wav"
        write_wav(folder / path, [piece], conversion.sample_rate)
        transcript = utterance.transcript if len(pieces) == 1 else None
        written.append(replace(utterance, id=utterance.id + suffix, path=path, transcript=transcript))
    return written


def _write_manifest(path: Path, utterances: list[Utterance], scale: tuple[float, float] | None) -> None:
    soft_emotions = sorted({emotion for utterance in utterances for emotion in utterance.soft_label or ()})
    rows = []
    for utterance in utterances:
        facts = {
            **{name: getattr(utterance, name) for name in _MANIFEST_COLUMNS},
            "path": utterance.path.as_posix(),
        }
        shares = ((utterance.soft_label or {}).get(name) for name in soft_emotions)
        rows.append([*facts.values(), *shares, *_ratings(utterance, scale)])
    # A column that nothing fills is left out.
    header = [*_MANIFEST_COLUMNS, *soft_emotions, *DIMENSIONS]
    used = [column for column in range(len(header)) if any(row[column] is not None for row in rows)]
    _write_csv(path, [header[column] for column in used], ([row[column] for column in used] for row in rows))


def _ratings(utterance: Utterance, scale: tuple[float, float] | None) -> list[float | None]:
    """One per dimension, within the scale; None where nobody rated it."""
    if scale is None or utterance.dimensions is None:
        return [None] * len(DIMENSIONS)
    given = [utterance.dimensions.get(name) for name in DIMENSIONS]
    return [None if rating is None else min(max(rating, scale[0]), scale[1]) for rating in given]


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _stems(ids: list[str]) -> list[str]:
    """A file name per id: valid on every system, and distinct where capitals do not count."""
    taken: set[str] = set()
    stems = []
    for utterance_id in ids:
        plain = re.sub(r"[^\w.-]", "_", utterance_id).lstrip(".") or "_"
        base = stem = plain.encode()[:200].decode(errors="ignore")
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{base}~{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems
