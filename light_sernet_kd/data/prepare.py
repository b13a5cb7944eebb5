"""Looking over a corpus before training, and making one: converted, cut, or out of videos."""

import contextlib
import csv
import glob
import hashlib
import math
import os
import re
import shutil
import statistics
import wave
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import audio, files
from light_sernet_kd.audio import lengths
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data import ties
from light_sernet_kd.errors import UserError, choose, install_line
from light_sernet_kd.runner import SILENT, STEADY, level_dbfs, unheard

if TYPE_CHECKING:
    from rich.console import Console

SEGMENTS = ("centre", "all")
VIDEO_SUFFIXES = audio.PYAV_SUFFIXES

SHORT_BELOW_SECONDS = 0.3
# Of a student's input, where none is named: the default, and the other that is common.
INPUT_SECONDS: tuple[float, ...] = (3.0, 7.0)
CLIPPED_SHARE = 0.001
HIGHEST_SAMPLE_RATE = 384_000
LONGEST_SEGMENT_SECONDS = 3600
CLIPPED_RUN_SAMPLES = 3
SPEECH_WITHIN_SECONDS = 10

_MANIFEST, _LEFT_OUT, _WAV_FOLDER = "manifest.csv", "left_out.csv", "wav"
# Ends the name of a former result while the next one takes its place.
_REPLACED = ".replaced"
_MANIFEST_COLUMNS = ("path", "emotion", "speaker", "id", "session", "dialog", "transcript", "split", "sex")
# The largest value of each sample type, where 1 is full scale; of all others it is 1.
_LARGEST = {
    "PCM_S8": 1 - 2**-7,
    "PCM_U8": 1 - 2**-7,
    "PCM_16": 1 - 2**-15,
    "PCM_24": 1 - 2**-23,
    "ULAW": 32124 / 32768,
    "ALAW": 32256 / 32768,
}


@dataclass(frozen=True)
class Report:
    """What a corpus holds, and which of its recordings deserve a look.

    Files are named relative to the folder that holds them all.

    Attributes:
        counts: speaker → emotion → number of utterances.
        total_seconds, shortest_seconds, median_seconds, longest_seconds: of the
            readable recordings; 0 if there is none.
        sample_rates, channels, encodings: value → number of recordings, as stored.
        transcripts: number of recordings with one.
        texts: number of different transcripts.
        soft_labels: number of recordings with shares of annotators.
        left_out: reason → number of recordings that the corpus's own rules left out.
        unreadable: file → what is wrong.
        read_with_note: file → what the user should know of a recording that is read all the same.
        silent: files without speech, by the rule of `runner.unheard`: digital silence, and what is as steady
            as noise, however loud it is.
        silent_dbfs: the level of each of these, about the mean, in the loudest channel.
        clipped: files with three samples in a row, or a thousandth of all (and three), at full scale of
            one sign in one channel.
        short: files below 0.3 s.
        identical: groups of files, no digital silence, with the same rate and the same samples.
        conflicting: those of `identical` whose labels, emotion or speaker, differ.
        skipped: what `--skip-bad` left out in reading the corpus → the reason.
        corpus_notes: what must be known of the corpus, a line each.
        warnings: what tells the class without the voice, and classes that a fold of `loso` cannot train.
        notes: what level and length tell of the class by nature.
        cuts: what inputs of some lengths would cut away of the readable recordings.
    """

    corpus: str
    synthetic: bool
    recordings: int
    counts: Mapping[str, Mapping[str, int]]
    total_seconds: float
    shortest_seconds: float
    median_seconds: float
    longest_seconds: float
    sample_rates: Mapping[int, int]
    channels: Mapping[int, int]
    encodings: Mapping[str, int]
    transcripts: int
    texts: int
    soft_labels: int
    left_out: Mapping[str, int]
    unreadable: Mapping[str, str]
    read_with_note: Mapping[str, str]
    silent: tuple[str, ...]
    silent_dbfs: tuple[float, ...]
    clipped: tuple[str, ...]
    short: tuple[str, ...]
    identical: tuple[tuple[str, ...], ...]
    conflicting: tuple[tuple[str, ...], ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    corpus_notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cuts: tuple[lengths.Cut, ...] = ()


@dataclass(frozen=True)
class _Facts:
    name: str
    label: tuple[str, str]
    seconds: float
    sample_rate: int
    channels: int
    encoding: str
    unheard: str
    level: float
    is_clipped: bool
    fingerprint: str
    notes: tuple[str, ...]
    source: ties.RecordingFacts


def inspect(
    corpus: Corpus,
    *,
    input_seconds: Iterable[float] = INPUT_SECONDS,
    jobs: int | None = None,
    progress: audio.Progress | None = None,
) -> Report:
    """Read every recording of the corpus once and report what was found.

    Args:
        input_seconds: lengths of a student's input, for `Report.cuts`.
        progress: called with (done, all) after each recording.
    """
    utterances = corpus.utterances
    names = _names([utterance.path for utterance in utterances])
    counts: dict[str, dict[str, int]] = {
        speaker: dict.fromkeys(corpus.classes, 0) for speaker in corpus.speakers
    }
    unreadable: dict[str, str] = {}
    facts: list[_Facts] = []
    readable: list[Utterance] = []
    same: dict[str, list[_Facts]] = {}
    tasks = zip(utterances, names, strict=True)
    examined = audio.in_order(lambda task: _examine(*task), tasks, jobs=jobs)
    for done, (utterance, name, found) in enumerate(zip(utterances, names, examined, strict=True), start=1):
        counts[utterance.speaker][utterance.emotion] += 1
        if isinstance(found, audio.AudioError):
            unreadable[name] = str(found)
        else:
            facts.append(found)
            readable.append(utterance)
            if found.unheard != SILENT:
                same.setdefault(found.fingerprint, []).append(found)
        if progress:
            progress(done, len(utterances))
    seconds = [found.seconds for found in facts]
    groups = [group for group in same.values() if len(group) > 1]
    transcripts = [utterance.transcript for utterance in utterances if utterance.transcript]
    loso = ties.fold_findings(ties.loso_classes(utterances), protocol="loso").warnings
    findings = ties.joined(
        ties.class_findings(utterances),
        ties.Findings(loso, []),
        ties.fact_findings(readable, [found.source for found in facts]),
    )
    return Report(
        corpus=corpus.name,
        synthetic=corpus.synthetic,
        recordings=len(utterances),
        counts=counts,
        total_seconds=sum(seconds),
        shortest_seconds=min(seconds, default=0.0),
        median_seconds=statistics.median(seconds) if seconds else 0.0,
        longest_seconds=max(seconds, default=0.0),
        sample_rates=_tally(found.sample_rate for found in facts),
        channels=_tally(found.channels for found in facts),
        encodings=_tally(found.encoding for found in facts),
        transcripts=len(transcripts),
        texts=len(set(transcripts)),
        soft_labels=sum(bool(utterance.soft_label) for utterance in utterances),
        left_out=dict(corpus.left_out),
        unreadable=unreadable,
        read_with_note={found.name: "; ".join(found.notes) for found in facts if found.notes},
        silent=tuple(found.name for found in facts if found.unheard),
        silent_dbfs=tuple(found.level for found in facts if found.unheard),
        clipped=tuple(found.name for found in facts if found.is_clipped),
        short=tuple(found.name for found in facts if found.seconds < SHORT_BELOW_SECONDS),
        identical=tuple(tuple(found.name for found in group) for group in groups),
        conflicting=tuple(
            tuple(found.name for found in group)
            for group in groups
            if len({found.label for found in group}) > 1
        ),
        skipped=dict(corpus.skipped),
        corpus_notes=corpus.notes,
        warnings=tuple(findings.warnings),
        notes=tuple(findings.notes),
        cuts=tuple(lengths.cut(seconds, each) for each in input_seconds),
    )


def source_warnings(corpus: Corpus, *, jobs: int | None = None) -> list[str]:
    """Which sample rates, channels and encodings are tied to a class: what a conversion hides."""
    unknown = float("nan")

    def facts_of(utterance: Utterance) -> tuple[Utterance, ties.RecordingFacts] | None:
        try:
            return utterance, ties.RecordingFacts(*audio.header(utterance.path), unknown, unknown, unknown)
        except audio.AudioError:
            return None

    found = [each for each in audio.in_order(facts_of, corpus.utterances, jobs=jobs) if each]
    return ties.fact_findings([utterance for utterance, _ in found], [facts for _, facts in found]).warnings


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON's types."""
    value = asdict(report)
    for name in ("sample_rates", "channels"):
        value[name] = {str(key): count for key, count in value[name].items()}
    for name in ("silent", "silent_dbfs", "clipped", "short", "corpus_notes", "warnings", "notes"):
        value[name] = list(value[name])
    for name in ("identical", "conflicting"):
        value[name] = [list(group) for group in value[name]]
    value["cuts"] = [each.as_dict() for each in report.cuts]
    return value


def show(report: Report, console: "Console", *, most: int = 10) -> None:
    """Print the report: utterances per speaker and emotion, the recordings' properties, the findings.

    Args:
        most: how many files each finding names; the others are counted.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def line(text: str, style: str = "") -> None:
        # Text, because a file name may look like rich's markup; soft_wrap keeps a name on one line.
        console.print(Text(text, style=style), soft_wrap=True)

    emotions = sorted({emotion for row in report.counts.values() for emotion in row})
    made = " (made, not recorded)" if report.synthetic else ""
    line(f"{report.corpus}{made}: utterances per speaker and emotion")
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True)
    totals = [sum(row[emotion] for row in report.counts.values()) for emotion in emotions]
    table.add_column("speaker", footer="all")
    for emotion, total in zip(emotions, totals, strict=True):
        table.add_column(Text(emotion, overflow="fold"), footer=str(total), justify="right")
    table.add_column("all", footer=str(sum(totals)), justify="right")
    for speaker, row in report.counts.items():
        cells = [str(row[emotion]) if row[emotion] else "·" for emotion in emotions]
        table.add_row(Text(speaker), *cells, str(sum(row.values())))
    console.print(table)

    if readable := report.recordings - len(report.unreadable):
        unread = f" ({readable} of them readable)" if report.unreadable else ""
        line(
            f"{report.recordings} recordings{unread}, {report.total_seconds / 60:.1f} min; shortest "
            f"{report.shortest_seconds:.2f} s, median {report.median_seconds:.2f} s, "
            f"longest {report.longest_seconds:.2f} s"
        )
        for each in report.cuts:
            line(f"an input of {each.input_seconds:g} s (-id): {lengths.sentence(each.as_dict())}")
    else:
        line(f"{report.recordings} recordings, none of them readable")
    line("sample rate: " + _counted({f"{rate} Hz": count for rate, count in report.sample_rates.items()}))
    line("channels: " + _counted(report.channels))
    line("encoding: " + _counted(report.encodings))
    line(
        f"transcripts: {report.transcripts} of {report.recordings}, {report.texts} different; "
        f"soft labels: {report.soft_labels} of {report.recordings}"
    )
    if report.left_out:
        line("left out by the corpus's own rules: " + _counted(report.left_out))
    for note in report.corpus_notes:
        line(note, style="yellow")

    conflicting = set(report.conflicting)
    findings = {
        "left out by --skip-bad": list(report.skipped.values()),
        "unreadable": list(report.unreadable.values()),
        "read with a note": [f"{name}: {note}" for name, note in report.read_with_note.items()],
        "no speech (silent, or as steady as noise)": [
            f"{name} ({level:.0f} dBFS)"
            for name, level in zip(report.silent, report.silent_dbfs, strict=True)
        ],
        "clipped": list(report.clipped),
        f"shorter than {SHORT_BELOW_SECONDS} s": list(report.short),
        "groups of identical recordings": [
            " = ".join(group) + (" (labels differ)" if group in conflicting else "")
            for group in report.identical
        ],
    }
    for title, entries in findings.items():
        if entries:
            line(f"{title}: {len(entries)}", style="bold yellow")
            for entry in entries[:most]:
                line(f"  {entry}")
            if len(entries) > most:
                line(f"  and {len(entries) - most} more")
    if not any(findings.values()):
        line("no unreadable, silent, clipped, very short or identical recording", style="green")
    ties.show(ties.Findings(list(report.warnings), list(report.notes)), console)


def convert(
    corpus: Corpus,
    target: str | os.PathLike[str],
    *,
    sample_rate: int = SAMPLE_RATE,
    segment_seconds: float | None = None,
    segments: str = "centre",
    min_share: float = 0.5,
    overwrite: bool = False,
    skip_bad: bool = False,
    jobs: int | None = None,
    progress: audio.Progress | None = None,
) -> Path:
    """Write the corpus as 16-bit mono WAV files with a manifest, into a folder that is whole or absent.

    With `segment_seconds`, `centre` keeps one segment from the middle of each recording under its own id.
    `all` keeps consecutive segments from the start, with the ids `<id>-000`, `<id>-001` and so on; what
    remains at the end is kept, zero-padded, if it is at least `min_share` of a segment, and a recording
    shorter than one segment is always kept. Zeros go equally to both ends. A transcript is dropped where
    its recording becomes several segments, since nobody knows which words are in which; segments of one
    recording share its speaker, so a speaker-independent protocol keeps them together.

    A 16-bit mono recording already at `sample_rate` keeps its samples; one that would exceed full scale is
    scaled down to fit.

    Args:
        target: the folder to make. It may be an empty one or, with `overwrite`, an earlier result of this.
        skip_bad: leave unreadable recordings out and list them in `left_out.csv`, rather than refuse.
        progress: called with (done, all) after each recording.

    Returns:
        The path of `manifest.csv` in `target`.

    Raises:
        UserError: nothing to convert, a setting is out of range, or the folder cannot be replaced.
        AudioError: recordings cannot be read; names all of them.
    """
    choose("segments", segments, SEGMENTS)
    _check_rate(sample_rate)
    if segment_seconds is None and segments == "all":
        raise UserError("cutting into all segments needs their length in seconds")
    if segment_seconds is not None and not 1 / sample_rate <= segment_seconds <= LONGEST_SEGMENT_SECONDS:
        raise UserError(
            f"a segment must last longer than 0 s and at most {LONGEST_SEGMENT_SECONDS} s, "
            f"not {segment_seconds} s"
        )
    if not 0 < min_share <= 1:
        raise UserError(f"the smallest share of a segment worth keeping lies in (0, 1], not {min_share}")
    if not corpus.utterances:
        raise UserError(f"{corpus.name} has no recording to convert")
    target = Path(target)
    if any(utterance.path.resolve().is_relative_to(target.resolve()) for utterance in corpus.utterances):
        raise UserError(f"{target} holds the recordings of {corpus.name} itself: name another folder")

    utterances = corpus.utterances
    bad: dict[str, str] = {}
    written: list[Utterance] = []
    with _whole_folder(target, overwrite=overwrite) as folder:
        (folder / _WAV_FOLDER).mkdir()
        write = partial(
            _write_segments,
            folder=folder,
            sample_rate=sample_rate,
            segment_samples=None if segment_seconds is None else round(segment_seconds * sample_rate),
            segments=segments,
            min_share=min_share,
        )
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
        _write_manifest(folder / _MANIFEST, written)
        bad = {**corpus.skipped, **bad}
        if bad:
            _write_csv(folder / _LEFT_OUT, ("id", "reason"), bad.items())
    return target / _MANIFEST


def audio_of_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    sample_rate: int = SAMPLE_RATE,
    overwrite: bool = False,
) -> list[Path]:
    """Write the first sound track of each video as a 16-bit mono WAV file.

    Recordings that need PyAV, such as M4A, are taken for videos too.

    Args:
        source: a video, or a folder searched with its subfolders for names ending in `VIDEO_SUFFIXES`.
        target: a folder; `source`'s subfolders are repeated in it.

    Returns:
        The WAV files, in the order of the videos' names.

    Raises:
        UserError: PyAV is missing, the rate is out of range, there is no video, two would get the same name,
            or a WAV exists already and `overwrite` is off: nothing is written. Or videos have no sound or
            cannot be decoded: names them all, and those that can be are written.
    """
    _check_rate(sample_rate)
    try:
        import av  # noqa: F401
    except ImportError:
        raise UserError(f"reading videos needs PyAV: {install_line('video')}") from None
    source, target = Path(source), Path(target)
    if source.is_dir():
        videos = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith(".")
        )
        wavs = [target / video.relative_to(source).with_suffix(".wav") for video in videos]
    elif source.is_file():
        videos, wavs = [source], [target / f"{source.stem}.wav"]
    else:
        raise UserError(f"no such video or folder: {source}")
    if not videos:
        raise UserError(f"no video in {source}: expected {', '.join(VIDEO_SUFFIXES)}")
    if clash := [str(wav) for wav, count in Counter(wavs).items() if count > 1]:
        raise UserError(
            f"several videos would be written to {', '.join(clash)}: rename them or go one by one"
        )
    existing = [str(wav) for wav in wavs if wav.exists()]
    if existing and not overwrite:
        raise UserError(f"{existing[0]} exists already: name another folder or allow overwriting")
    problems = {}
    for video, wav in zip(videos, wavs, strict=True):
        try:
            _extract(video, wav, sample_rate=sample_rate)
        except audio.AudioError as error:
            problems[str(video)] = str(error)
    if problems:
        raise UserError(audio.listing(problems, len(videos)))
    return wavs


def _check_rate(sample_rate: int) -> None:
    lowest, highest = audio.LOWEST_SAMPLE_RATE, HIGHEST_SAMPLE_RATE
    if not lowest <= sample_rate <= highest:
        raise UserError(f"the sample rate must be from {lowest} to {highest} Hz, not {sample_rate} Hz")


def _examine(utterance: Utterance, name: str) -> _Facts | audio.AudioError:
    try:
        recording = audio.decode(utterance.path)
    except audio.AudioError as error:
        return error
    samples = recording.samples
    why = _unheard(samples, recording.sample_rate)
    digest = hashlib.sha256(f"{recording.sample_rate} {samples.shape[1]} ".encode())
    digest.update(np.ascontiguousarray(samples).data)
    waveform = audio.resample(audio.mono(samples), recording.sample_rate, SAMPLE_RATE)
    return _Facts(
        name=name,
        label=(utterance.emotion, utterance.speaker),
        seconds=len(samples) / recording.sample_rate,
        sample_rate=recording.sample_rate,
        channels=samples.shape[1],
        encoding=recording.encoding,
        unheard=why,
        level=max(level_dbfs(channel) for channel in samples.T) if why else math.nan,
        is_clipped=_is_clipped(samples, full_scale=_LARGEST.get(recording.encoding.split()[-1], 1.0)),
        fingerprint=digest.hexdigest(),
        notes=recording.notes,
        source=ties.facts_of(waveform, recording.sample_rate, samples.shape[1], recording.encoding),
    )


def _unheard(samples: np.ndarray, sample_rate: int) -> str:
    """As `runner.unheard`, where no channel of `(samples, channels)` has speech in any part; else empty."""
    # In an hour, a minute of speech would be too little to be seen.
    parts = np.array_split(samples, -(-len(samples) // (SPEECH_WITHIN_SECONDS * sample_rate)))
    found = {unheard(channel, sample_rate) for part in parts for channel in part.T}
    if not found <= {SILENT, STEADY}:
        return ""
    return SILENT if found == {SILENT} else STEADY


def _is_clipped(samples: np.ndarray, *, full_scale: float) -> bool:
    """Whether some channel of `(samples, channels)` stays at full scale, or is often there."""
    for channel in samples.T:
        for at_limit in (channel >= full_scale, channel <= -full_scale):
            positions = np.flatnonzero(at_limit)
            if len(positions) >= max(CLIPPED_RUN_SAMPLES, CLIPPED_SHARE * len(channel)):
                return True
            span = CLIPPED_RUN_SAMPLES - 1
            if np.any(positions[span:] - positions[:-span] == span):
                return True
    return False


def _write_segments(
    utterance: Utterance,
    stem: str,
    *,
    folder: Path,
    sample_rate: int,
    segment_samples: int | None,
    segments: str,
    min_share: float,
) -> list[Utterance] | audio.AudioError:
    """Write one recording's WAV files; their utterances' paths are relative to `folder`."""
    try:
        waveform = audio.read(utterance.path, sample_rate=sample_rate)
    except audio.AudioError as error:
        return error
    # A float file may exceed full scale, and so may a full-scale one when resampled. Scaling keeps its
    # shape, clipping would not; both front ends divide the level out.
    waveform = _as_int16(waveform / max(1.0, float(np.abs(waveform).max())))
    if segment_samples is None:
        pieces = {"": waveform}
    elif segments == "centre":
        pieces = {"": audio.fit(waveform, segment_samples)}
    else:
        whole, rest_samples = divmod(len(waveform), segment_samples)
        count = max(1, whole + (rest_samples >= min_share * segment_samples))
        pieces = {
            f"-{index:03d}": audio.fit(
                waveform[index * segment_samples : (index + 1) * segment_samples], segment_samples
            )
            for index in range(count)
        }
    written = []
    for suffix, piece in pieces.items():
        path = Path(_WAV_FOLDER) / f"{stem}{suffix}.wav"
        _write_wav(folder / path, [piece], sample_rate)
        transcript = utterance.transcript if len(pieces) == 1 else None
        written.append(replace(utterance, id=utterance.id + suffix, path=path, transcript=transcript))
    return written


def _write_wav(path: Path, pieces: Iterable[np.ndarray], sample_rate: int) -> int:
    """Write waveforms one after another as a 16-bit mono WAV file; returns how many samples it has."""
    # not soundfile, whose errors do not tell a full disk
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", "not compressed"))
        for piece in pieces:
            file.writeframesraw(piece.tobytes())
        return file.tell()


def _as_int16(waveform: np.ndarray) -> np.ndarray:
    # By 32768, and not 32767, a 16-bit recording comes out as it went in.
    return np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)


def _write_manifest(path: Path, utterances: list[Utterance]) -> None:
    soft_emotions = sorted({emotion for utterance in utterances for emotion in utterance.soft_label or ()})
    rows = []
    for utterance in utterances:
        facts = {
            **{name: getattr(utterance, name) for name in _MANIFEST_COLUMNS},
            "path": utterance.path.as_posix(),
        }
        rows.append([*facts.values(), *((utterance.soft_label or {}).get(name) for name in soft_emotions)])
    # A column that nothing fills is left out.
    header = [*_MANIFEST_COLUMNS, *soft_emotions]
    used = [column for column in range(len(header)) if any(row[column] is not None for row in rows)]
    _write_csv(path, [header[column] for column in used], ([row[column] for column in used] for row in rows))


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


@contextlib.contextmanager
def _whole_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder beside `target`; on success it takes that name, else it vanishes.

    Raises:
        UserError: `target` is a file, or holds something and may not or must not be replaced.
    """
    target = target.resolve()  # a link to a folder stays a link
    _restore(target)
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file: name a folder to write to")
    held = set(os.listdir(target)) if target.is_dir() else set()
    if held and not overwrite:
        raise UserError(f"{target} is not empty: name another folder or allow overwriting")
    if held and not (_MANIFEST in held and held <= {_MANIFEST, _LEFT_OUT, _WAV_FOLDER}):
        raise UserError(f"{target} holds more than an earlier conversion: name another folder or empty it")
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            building = stack.enter_context(files.workshop(target))
        except OSError as error:
            raise UserError(f"cannot write to {target}: {error.strerror}") from None
        replaced = Path(f"{building}{_REPLACED}")
        stack.callback(shutil.rmtree, replaced, ignore_errors=True)
        try:
            yield building
            files.make_public(building)
            if target.exists():
                target.rename(replaced)
            try:
                building.rename(target)
            except OSError:
                if replaced.exists():
                    replaced.rename(target)
                raise
        except OSError as error:
            # what was being written is hidden, and gone by now
            raise OSError(error.errno, error.strerror, str(target)) from error


def _restore(target: Path) -> None:
    """Give `target` its content back where a process was killed between taking it away and putting the next.

    Where one was killed just after, the former content has been replaced and is removed.
    """
    for replaced in target.parent.glob(f".{glob.escape(target.name)}.*{_REPLACED}"):
        building = Path(str(replaced).removesuffix(_REPLACED))
        if building.exists() and not files.is_left(building):
            continue  # between the two at this moment
        with contextlib.suppress(OSError):
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            if target.exists():
                shutil.rmtree(replaced)
            else:
                replaced.rename(target)


def _extract(video: Path, wav: Path, *, sample_rate: int) -> None:
    try:
        with files.atomic(wav) as temporary:
            # piece by piece, since a film does not fit into memory
            _write_wav(temporary, map(_as_int16, audio.blocks(video, sample_rate=sample_rate)), sample_rate)
    except audio.AudioError as error:
        problem = str(error).removeprefix(f"{video} ")
        if problem.startswith("is "):
            raise audio.AudioError(f"{video} cannot be decoded: it {problem}") from None
        raise


def _names(paths: list[Path]) -> list[str]:
    """The paths relative to the folder that holds them all."""
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
    return [Path(path).relative_to(common).as_posix() for path in absolute]


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


def _tally(values: Iterable[Any]) -> dict[Any, int]:
    """Value → how often, the most frequent first."""
    return dict(Counter(values).most_common())


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{value} ({count})" for value, count in counts.items()) or "none"
