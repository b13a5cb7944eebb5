"""A stream's windows as a timeline: segments of one label, lines for a terminal, JSON and a picture."""

import contextlib
import json
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from light_sernet_kd import audio
from light_sernet_kd.errors import UserError
from light_sernet_kd.runner import (
    NOT_FINITE,
    NOT_SURE,
    SILENT,
    STEADY,
    TOO_SHORT,
    UNSURE,
    Runner,
    RunnerError,
    Stream,
    Window,
    caveats,
)

# The settings of a stream that have another name on the command line.
OPTIONS = {
    "hop_seconds": "--hop",
    "unsure_below": "--threshold",
    "silence_dbfs": "--silence",
    "steady_db": "--steady",
    "smoothing_seconds": "--smoothing",
}
_BAR_LETTERS = 20
# Reasons of windows that hold no speech; one that is `not sure` does.
WITHOUT_SPEECH = (SILENT, STEADY, NOT_FINITE, TOO_SHORT)


@dataclass(frozen=True)
class Segment:
    """A run of windows with one label.

    Attributes:
        start, end: in seconds. A window speaks for the time about its middle: segments meet halfway between
            the middles of two windows, the first begins and the last ends with the sound.
        label, why: as a window's.
        probability: mean smoothed probability of the label; None where it is `unsure`.
        level: mean of the windows' levels in dBFS; None where a sample was not finite.
        windows: how many.
    """

    start: float
    end: float
    label: str
    why: str
    probability: float | None
    level: float | None
    windows: int


def segments(windows: Iterable[Window], labels: Sequence[str]) -> Iterator[Segment]:
    """The runs of equal label and reason, each as soon as it ends; holds one run's sums only."""
    start, before = 0.0, None
    levels = shares = count = 0.0

    def ended(end: float, last: Window) -> Segment:
        level = None if math.isnan(levels) else levels / count
        share = None if last.why else shares / count
        return Segment(start, end, last.label, last.why, share, level, int(count))

    for window in windows:
        if before is not None and (window.label, window.why) != (before.label, before.why):
            border = (before.start + before.end + window.start + window.end) / 4
            yield ended(border, before)
            start, levels, shares, count = border, 0.0, 0.0, 0.0
        count += 1
        levels += window.level
        shares += 0.0 if window.why else float(window.smoothed[labels.index(window.label)])
        before = window
    if before is not None:
        yield ended(before.end, before)


@dataclass(frozen=True, eq=False)
class Summary:
    """A whole recording's answer, made of its windows.

    Attributes:
        label: the class with the largest of `probabilities`.
        why: empty; or `not sure` where that is below the threshold; or, where no window holds speech, the
            reason of most of the time.
        probabilities: float64 `(classes,)`: the mean over the windows that hold speech of what the file gives
            for each alone; over all windows where none does. NaN where no window is finite.
        seconds: of the recording, to the end of the last window.
        windows: how many.
        time_shares: class → share of the time that its label stands for, as in `segments`.
        unsure_shares: reason → share of the time that is unsure for it. All shares sum to 1.
    """

    label: str
    why: str
    probabilities: np.ndarray
    seconds: float
    windows: int
    time_shares: dict[str, float]
    unsure_shares: dict[str, float]


def summary(windows: Iterable[Window], labels: Sequence[str], *, unsure_below: float) -> Summary:
    """Sum the windows of one recording up, of which there is at least one; holds sums only."""
    sums = {"speech": np.zeros(len(labels)), "other": np.zeros(len(labels))}
    counts = {"speech": 0, "other": 0, "all": 0}

    def counted(window: Window) -> Window:
        counts["all"] += 1
        if window.why != NOT_FINITE:
            kind = "other" if window.why in WITHOUT_SPEECH else "speech"
            sums[kind] += window.probabilities
            counts[kind] += 1
        return window

    time_seconds = dict.fromkeys(labels, 0.0)
    unsure_seconds: dict[str, float] = {}
    seconds = 0.0
    for segment in segments(map(counted, windows), labels):
        seconds = segment.end
        kind = unsure_seconds if segment.why else time_seconds
        name = segment.why or segment.label
        kind[name] = kind.get(name, 0.0) + segment.end - segment.start
    source = "speech" if counts["speech"] else "other"
    mean = sums[source] / counts[source] if counts[source] else np.full(len(labels), math.nan)
    why = "" if mean.max() >= unsure_below else NOT_SURE
    if source == "other":
        why = max(unsure_seconds, key=lambda reason: unsure_seconds[reason])
    return Summary(
        labels[int(mean.argmax())],
        why,
        mean,
        seconds,
        counts["all"],
        {name: each / seconds for name, each in time_seconds.items()},
        {name: each / seconds for name, each in sorted(unsure_seconds.items())},
    )


class Envelope:
    """The lowest and the highest sample of equal stretches: what a picture shows of a waveform of any length.

    Holds at most 4000 stretches, which double in length when there are more.
    """

    MOST = 4000

    def __init__(self, sample_rate: int):
        self._rate, self._stretch = sample_rate, 32
        self._pairs: list[tuple[float, float]] = []
        self._rest = np.empty(0, np.float32)
        self.samples = 0

    def passed(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks `(n,)` as they are, taken into account."""
        for block in blocks:
            self.samples += len(block)
            self._rest = np.concatenate([self._rest, block])
            self._take(len(self._rest) // self._stretch * self._stretch)
            while len(self._pairs) > self.MOST:
                self._halve()
            yield block

    def pairs(self) -> np.ndarray:
        """`(stretches, 2)`, the last one shorter where the sound is."""
        rest = [(float(self._rest.min()), float(self._rest.max()))] if len(self._rest) else []
        return np.array(self._pairs + rest).reshape(-1, 2)

    @property
    def stretch_seconds(self) -> float:
        return self._stretch / self._rate

    def _take(self, samples: int) -> None:
        whole, self._rest = np.split(self._rest, [samples])
        rows = whole.reshape(-1, self._stretch)
        self._pairs += zip(rows.min(axis=1).tolist(), rows.max(axis=1).tolist(), strict=True)

    def _halve(self) -> None:
        pairs, self._stretch = self._pairs, 2 * self._stretch
        joined = zip(pairs[::2], pairs[1::2], strict=False)
        self._pairs = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in joined]
        if len(pairs) % 2:
            # Its second half is still to come: it goes back to the samples, as its two extremes.
            half = np.resize(np.array(pairs[-1], np.float32), self._stretch // 2)
            self._rest = np.concatenate([half, self._rest])


def clock(seconds: float) -> str:
    """`m:ss.s`, or `h:mm:ss.s` from an hour on."""
    tenths = round(10 * seconds)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"


def decibels(level: float | None) -> str:
    return "not finite" if level is None or math.isnan(level) else f"{level:.0f} dBFS"


def segment_line(segment: Segment, labels: Sequence[str], *, ascii_only: bool = False) -> Text:
    width = max(len(UNSURE), *map(len, labels))
    line = Text(f"{clock(segment.start):>9} - {clock(segment.end):>9}  ")
    if segment.probability is None:
        detail = f"{segment.why}, {decibels(segment.level)}" if segment.why == SILENT else segment.why
        return line.append(f"{UNSURE:<{width}}  {detail}", style="dim")
    bar = ("#" if ascii_only else "█") * round(_BAR_LETTERS * segment.probability)
    line.append(f"{segment.label:<{width}}", style="bold")
    return line.append(f"  {100 * segment.probability:3.0f} %  ").append(bar, style="cyan")


def window_line(window: Window, labels: Sequence[str]) -> Text:
    width = max(len(UNSURE), *map(len, labels))
    level = "-" if math.isnan(window.level) else f"{window.level:.1f}"
    line = Text(f"{clock(window.start):>9} - {clock(window.end):>9}  {level:>6}  ")
    line.append(f"{window.label:<{width}}", style="dim" if window.why else "bold")
    for name, share in zip(labels, window.smoothed, strict=True):
        line.append(f"  {'-' if math.isnan(share) else f'{100 * share:.0f}':>{max(4, len(name))}}")
    return line.append(f"  {window.why}" if window.why else "", style="dim")


def heading_line(labels: Sequence[str]) -> Text:
    """What stands above the lines of windows; probabilities are smoothed, in per cent."""
    width = max(len(UNSURE), *map(len, labels))
    line = f"{'start':>9}   {'end':>9}  {'dBFS':>6}  {'label':<{width}}"
    return Text(line + "".join(f"  {name:>{max(4, len(name))}}" for name in labels), style="dim")


def window_dict(window: Window, labels: Sequence[str]) -> dict[str, Any]:
    """A window for JSON: what is not finite is null."""

    def by_name(shares: np.ndarray) -> dict[str, float | None]:
        return dict(zip(labels, map(_number, shares.tolist()), strict=True))

    return {
        "start": window.start,
        "end": window.end,
        "label": window.label,
        "why": window.why or None,
        "level_dbfs": _number(window.level),
        "probabilities": by_name(window.probabilities),
        "smoothed": by_name(window.smoothed),
    }


def segment_dict(segment: Segment) -> dict[str, Any]:
    return {
        "start": segment.start,
        "end": segment.end,
        "label": segment.label,
        "why": segment.why or None,
        "probability": segment.probability,
        "level_dbfs": segment.level,
        "windows": segment.windows,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def stream_of(runner: Runner, settings: Mapping[str, Any]) -> Stream:
    """A stream with settings of the command line.

    Raises:
        UserError: the student cannot be streamed, or a setting is out of range: by its option's name.
    """
    try:
        return Stream(runner, **settings)
    except RunnerError as error:
        message = str(error)
        for name, option in OPTIONS.items():
            message = message.replace(name, option)
        raise UserError(message) from None


def predict(
    runner: Runner,
    recordings: Sequence[str],
    *,
    settings: Mapping[str, Any],
    console: Console,
    as_json: bool = False,
    every_window: bool = False,
    picture: Path | None = None,
) -> int:
    """Print the timeline of each recording; returns how many could not be read to their end.

    Samples are read in blocks. What grows with a recording is a record per segment, and for JSON and a
    picture one per window.

    Args:
        settings: of `Stream`.
        picture: `.png` or `.pdf`; with one recording.

    Raises:
        UserError: as `stream_of`; or of the picture's name.
    """
    if picture is not None and (len(recordings) != 1 or picture.suffix not in (".png", ".pdf")):
        raise UserError(
            f"--picture is for one recording and ends in .png or .pdf: found {len(recordings)} and {picture}."
        )
    if gap := gap_between_windows(runner, stream_of(runner, settings)):
        tell(gap)
    failed = 0
    with answer_list([{"file": str(path)} for path in recordings], wanted=as_json) as answers:
        for path in recordings:
            followed = _Followed(path, runner, settings, keep=as_json or picture is not None)
            try:
                with noted(path) as notes:
                    if as_json:
                        found = list(segments(followed.windows(), runner.labels))
                    else:
                        console.print(Text(f"{path}:"), soft_wrap=True)
                        found = list(_printed(followed.windows(), runner.labels, console, every_window))
            except (audio.AudioError, RunnerError) as error:
                answers.append({"file": str(path), "error": failure(error)})
                failed += 1
                continue
            if as_json:
                about = {"warnings": [*notes, *([gap] if gap else [])], "student": student_dict(runner)}
                answers.append(followed.as_dict(found) | about)
            if picture is not None:
                followed.draw(found, picture)
    return failed


def gap_between_windows(runner: Runner, stream: Stream) -> str:
    """That a stream's windows leave sound out between them, in a sentence; empty where they do not."""
    if stream.hop_samples <= runner.samples:
        return ""
    return (
        f"the hop of {stream.hop_samples / runner.sample_rate:g} s is longer than a window of "
        f"{runner.samples / runner.sample_rate:g} s: the sound between windows is not heard."
    )


@contextlib.contextmanager
def answer_list(asked: Sequence[Mapping[str, Any]], *, wanted: bool = True) -> Iterator[list[dict[str, Any]]]:
    """A list to append the answers to, printed as JSON at the end, whatever ends the command.

    What was not reached by then has an entry with the reason as its `error`.

    Args:
        asked: the beginning of each entry, in order: what names its recording or text.
        wanted: if false, nothing is printed.
    """
    answers: list[dict[str, Any]] = []
    reason = "interrupted"
    try:
        yield answers
    except Exception as error:
        reason = f"not reached: {error}"
        raise
    finally:
        if wanted:
            answers += [{**each, "error": reason} for each in asked[len(answers) :]]
            print(json.dumps(answers, indent=2, ensure_ascii=False, allow_nan=False))


@contextlib.contextmanager
def noted(what: str) -> Iterator[dict[str, type[Warning]]]:
    """What users are warned of within, with its kind: filled at its end and told on stderr, a line each.

    Args:
        what: the recording's or text's name, put before a warning that lacks it.
    """
    notes: dict[str, type[Warning]] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield notes
        finally:
            for each in caught:
                if issubclass(each.category, UserWarning):
                    notes[" ".join(str(each.message).split())] = each.category
    for note in notes:
        tell(note if what in note else f"{what}: {note}")
    for each in caught:
        if not issubclass(each.category, UserWarning):
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)


def failure(error: Exception) -> str:
    """An error's text as one line, which is also told on stderr."""
    text = " ".join(str(error).split())
    tell(text)
    return text


def student_dict(runner: Runner) -> dict[str, Any]:
    """What a JSON answer says of the student that gave it."""
    card = runner.card
    return {
        "corpus": card.get("corpus"),
        "synthetic": card.get("synthetic"),
        "stamps": [*card.get("stamps", ())],
    }


def tell_caveats(runner: Runner) -> None:
    """Say in one line what to know of a student before its answers are believed."""
    if found := caveats(runner.card):
        tell(f"this student: {'; '.join(found)}.")


def tell(text: str) -> None:
    """A line on stderr."""
    print(f"light-sernet-kd: {text}", file=sys.stderr)


def _printed(
    windows: Iterable[Window], labels: Sequence[str], console: Console, every_window: bool
) -> Iterator[Segment]:
    """The segments, each printed as soon as it ends, or after the lines of all windows."""

    def with_line(window: Window) -> Window:
        console.print(window_line(window, labels), soft_wrap=True)
        return window

    found: Iterable[Segment] = segments(windows, labels)
    if every_window:
        console.print(heading_line(labels), soft_wrap=True)
        found = list(segments(map(with_line, windows), labels))
        console.print()
    for segment in found:
        line = segment_line(segment, labels, ascii_only=console.options.ascii_only)
        console.print(line, soft_wrap=True)
        yield segment


class _Followed:
    """A recording's windows as they come, and what is kept of them for JSON and a picture."""

    def __init__(self, path: str, runner: Runner, settings: Mapping[str, Any], *, keep: bool):
        self._path, self._runner, self._keep = path, runner, keep
        self._stream = Stream(runner, **settings)
        self._envelope = Envelope(runner.sample_rate)
        self._kept: list[Window] = []

    def windows(self) -> Iterator[Window]:
        blocks = audio.blocks(self._path, sample_rate=self._runner.sample_rate)
        for block in self._envelope.passed(blocks) if self._keep else blocks:
            yield from self._passed(self._stream.feed(block))
        yield from self._passed(self._stream.finish())

    def _passed(self, windows: list[Window]) -> list[Window]:
        if self._keep:
            self._kept += windows
        return windows

    def as_dict(self, found: Sequence[Segment]) -> dict[str, Any]:
        rate, labels = self._runner.sample_rate, self._runner.labels
        return {
            "file": str(self._path),
            "seconds": self._stream.received / rate,
            "sample_rate": rate,
            "window_seconds": self._runner.samples / rate,
            "hop_seconds": self._stream.hop_samples / rate,
            "unsure_below": self._stream.unsure_below,
            "silence_dbfs": _number(self._stream.silence_dbfs),
            "windows": [window_dict(window, labels) for window in self._kept],
            "segments": [segment_dict(segment) for segment in found],
        }

    def draw(self, found: Sequence[Segment], picture: Path) -> None:
        from light_sernet_kd.reporting import figures

        middles = np.array([(window.start + window.end) / 2 for window in self._kept])
        heard = np.array([window.why not in WITHOUT_SPEECH for window in self._kept])
        shares = np.array([window.smoothed for window in self._kept])
        rate = self._runner.sample_rate
        window_seconds, hop_seconds = self._runner.samples / rate, self._stream.hop_samples / rate
        timeline = figures.Timeline(
            envelope=self._envelope.pairs(),
            stretch_seconds=self._envelope.stretch_seconds,
            shares=np.where(heard[:, None], shares, np.nan),
            borders=np.array([0.0, *(middles[1:] + middles[:-1]) / 2, self._kept[-1].end]),
            segments=[(each.start, each.end, each.label, each.why) for each in found],
            classes=self._runner.labels,
        )
        figures.timeline(
            timeline,
            picture,
            unsure_below=self._stream.unsure_below,
            title=Path(self._path).name,
            notes=[f"windows of {window_seconds:g} s every {hop_seconds:g} s, each drawn about its middle"],
        )
