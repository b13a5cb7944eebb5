"""What a corpus holds, and which of its recordings deserve a look."""

import hashlib
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.audio import lengths
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data import confounds
from light_sernet_kd.reporting.tables import Table, numbers, say, words
from light_sernet_kd.runner import SILENT, STEADY, level_dbfs, unheard

if TYPE_CHECKING:
    from rich.console import Console

SHORT_BELOW_SECONDS = 0.3
# Of a student's input, where none is named: the default, and the other that is common.
INPUT_SECONDS: tuple[float, ...] = (3.0, 7.0)
CLIPPED_SHARE = 0.001
CLIPPED_RUN_SAMPLES = 3
SPEECH_WITHIN_SECONDS = 10
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
    source: confounds.RecordingFacts


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
    unreadable: dict[str, str] = {}
    facts: list[_Facts] = []
    readable: list[Utterance] = []
    names = _names([utterance.path for utterance in utterances])
    tasks = zip(utterances, names, strict=True)
    examined = audio.in_order(lambda task: _examine(*task), tasks, jobs=jobs)
    for done, (utterance, name, result) in enumerate(zip(utterances, names, examined, strict=True), start=1):
        if isinstance(result, audio.AudioError):
            unreadable[name] = str(result)
        else:
            facts.append(result)
            readable.append(utterance)
        if progress:
            progress(done, len(utterances))
    seconds = [each.seconds for each in facts]
    groups = _identical(facts)
    transcripts = [utterance.transcript for utterance in utterances if utterance.transcript]
    findings = confounds.merge_findings(
        confounds.class_findings(utterances),
        confounds.Findings(_loso_warnings(utterances), []),
        confounds.fact_findings(readable, [each.source for each in facts]),
    )
    return Report(
        corpus=corpus.name,
        synthetic=corpus.synthetic,
        recordings=len(utterances),
        counts=_counts(corpus),
        total_seconds=sum(seconds),
        shortest_seconds=min(seconds, default=0.0),
        median_seconds=statistics.median(seconds) if seconds else 0.0,
        longest_seconds=max(seconds, default=0.0),
        sample_rates=_tally(each.sample_rate for each in facts),
        channels=_tally(each.channels for each in facts),
        encodings=_tally(each.encoding for each in facts),
        transcripts=len(transcripts),
        texts=len(set(transcripts)),
        soft_labels=sum(bool(utterance.soft_label) for utterance in utterances),
        left_out=dict(corpus.left_out),
        unreadable=unreadable,
        read_with_note={each.name: "; ".join(each.notes) for each in facts if each.notes},
        silent=tuple(each.name for each in facts if each.unheard),
        silent_dbfs=tuple(each.level for each in facts if each.unheard),
        clipped=tuple(each.name for each in facts if each.is_clipped),
        short=tuple(each.name for each in facts if each.seconds < SHORT_BELOW_SECONDS),
        identical=tuple(_names_of(group) for group in groups),
        conflicting=tuple(_names_of(group) for group in groups if len({each.label for each in group}) > 1),
        skipped=dict(corpus.skipped),
        corpus_notes=corpus.notes,
        warnings=tuple(findings.warnings),
        notes=tuple(findings.notes),
        cuts=tuple(lengths.cut(seconds, each) for each in input_seconds),
    )


def _loso_warnings(utterances: Sequence[Utterance]) -> list[str]:
    return confounds.fold_findings(confounds.loso_classes(utterances), protocol="loso").warnings


def _counts(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Speaker → emotion → number of utterances."""
    counts = {speaker: dict.fromkeys(corpus.classes, 0) for speaker in corpus.speakers}
    for utterance in corpus.utterances:
        counts[utterance.speaker][utterance.emotion] += 1
    return counts


def _identical(facts: Iterable[_Facts]) -> list[list[_Facts]]:
    """Groups of recordings, no digital silence, with the same rate and the same samples."""
    same: dict[str, list[_Facts]] = {}
    for each in facts:
        if each.unheard != SILENT:
            same.setdefault(each.fingerprint, []).append(each)
    return [group for group in same.values() if len(group) > 1]


def _names_of(group: Iterable[_Facts]) -> tuple[str, ...]:
    return tuple(each.name for each in group)


def source_warnings(corpus: Corpus, *, jobs: int | None = None) -> list[str]:
    """Which sample rates, channels and encodings are tied to a class: what a conversion hides."""
    unknown = float("nan")

    def facts_of(utterance: Utterance) -> tuple[Utterance, confounds.RecordingFacts] | None:
        try:
            return utterance, confounds.RecordingFacts(
                *audio.header(utterance.path), unknown, unknown, unknown
            )
        except audio.AudioError:
            return None

    readable = [each for each in audio.in_order(facts_of, corpus.utterances, jobs=jobs) if each]
    utterances, facts = zip(*readable, strict=True) if readable else ((), ())
    return confounds.fact_findings(utterances, facts).warnings


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
    made = " (made, not recorded)" if report.synthetic else ""
    say(console, f"{report.corpus}{made}: utterances per speaker and emotion")
    _counts_table(report).show(console)
    for line in _properties(report):
        say(console, line)
    for note in report.corpus_notes:
        say(console, note, style="yellow")
    doubtful = {title: entries for title, entries in _doubtful(report).items() if entries}
    for title, entries in doubtful.items():
        say(console, f"{title}: {len(entries)}", style="bold yellow")
        for entry in entries[:most]:
            say(console, f"  {entry}")
        if len(entries) > most:
            say(console, f"  and {len(entries) - most} more")
    if not doubtful:
        good = "no unreadable, silent, clipped, very short or identical recording"
        say(console, good, style="green")
    confounds.show(confounds.Findings(list(report.warnings), list(report.notes)), console)


def _counts_table(report: Report) -> Table:
    emotions = sorted({emotion for row in report.counts.values() for emotion in row})
    totals = [sum(row[emotion] for row in report.counts.values()) for emotion in emotions]
    columns = [
        *words("speaker"),
        *numbers(*emotions, form=lambda count: str(count or "·")),
        *numbers("all"),
    ]
    rows = [
        [speaker, *(row[emotion] for emotion in emotions), sum(row.values())]
        for speaker, row in report.counts.items()
    ]
    return Table(columns, rows, footer=["all", *totals, sum(totals)])


def _properties(report: Report) -> list[str]:
    """How long the recordings are, how they are stored, and what is known of them, a line each."""
    if readable := report.recordings - len(report.unreadable):
        unread = f" ({readable} of them readable)" if report.unreadable else ""
        lines = [
            f"{report.recordings} recordings{unread}, {report.total_seconds / 60:.1f} min; shortest "
            f"{report.shortest_seconds:.2f} s, median {report.median_seconds:.2f} s, "
            f"longest {report.longest_seconds:.2f} s"
        ]
        for each in report.cuts:
            lines.append(f"an input of {each.input_seconds:g} s (-id): {lengths.sentence(each.as_dict())}")
    else:
        lines = [f"{report.recordings} recordings, none of them readable"]
    lines += [
        "sample rate: " + _with_counts({f"{rate} Hz": count for rate, count in report.sample_rates.items()}),
        "channels: " + _with_counts(report.channels),
        "encoding: " + _with_counts(report.encodings),
        f"transcripts: {report.transcripts} of {report.recordings}, {report.texts} different; "
        f"soft labels: {report.soft_labels} of {report.recordings}",
    ]
    if report.left_out:
        lines.append("left out by the corpus's own rules: " + _with_counts(report.left_out))
    return lines


def _doubtful(report: Report) -> dict[str, list[str]]:
    """What is wrong → the files."""
    conflicting = set(report.conflicting)
    return {
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
        source=confounds.facts_of(waveform, recording.sample_rate, samples.shape[1], recording.encoding),
    )


def _unheard(samples: np.ndarray, sample_rate: int) -> str:
    """As `runner.unheard`, where no channel of `(samples, channels)` has speech in any part; else empty."""
    # In an hour, a minute of speech would be too little to be seen.
    parts = np.array_split(samples, -(-len(samples) // (SPEECH_WITHIN_SECONDS * sample_rate)))
    reasons = {unheard(channel, sample_rate) for part in parts for channel in part.T}
    if not reasons <= {SILENT, STEADY}:
        return ""
    return SILENT if reasons == {SILENT} else STEADY


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


def _names(paths: list[Path]) -> list[str]:
    """The paths relative to the folder that holds them all."""
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
    return [Path(path).relative_to(common).as_posix() for path in absolute]


def _tally(values: Iterable[Any]) -> dict[Any, int]:
    """Value → how often, the most frequent first."""
    return dict(Counter(values).most_common())


def _with_counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{value} ({count})" for value, count in counts.items()) or "none"
