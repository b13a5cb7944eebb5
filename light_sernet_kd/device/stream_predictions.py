"""Timelines of whole recordings: printed, as JSON, or drawn as a picture."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from light_sernet_kd import audio
from light_sernet_kd.device import site
from light_sernet_kd.device.answers import (
    TEXT,
    answer_list,
    failure,
    model_facts,
    note_narrow_band,
    noted,
    tell,
)
from light_sernet_kd.device.enroll import known_clips
from light_sernet_kd.device.formats import (
    clips,
    dimensions_of,
    heading_line,
    label_or_speech,
    number_or_none,
    segment_dict,
    segment_line,
    window_dict,
    window_line,
)
from light_sernet_kd.device.stream_options import gap_between_windows, stream_of
from light_sernet_kd.device.timeline import WITHOUT_SPEECH, Envelope, Segment, segments
from light_sernet_kd.errors import UserError
from light_sernet_kd.runner import Runner, RunnerError, Window


def predict(
    runner: Runner,
    recordings: Sequence[str],
    *,
    model: str | Path,
    settings: Mapping[str, Any],
    console: Console,
    form: str = TEXT,
    every_window: bool = False,
    picture: Path | None = None,
) -> int:
    """Print the timeline of each recording; returns how many could not be read to their end.

    Samples are read in blocks. What grows with a recording is a record per segment, and for JSON and a
    picture one per window.

    Args:
        model: the file that the runner runs.
        settings: of `Stream`.
        form: `text`, `json` or `jsonl`.
        every_window: print these too; without classes they are printed at any rate.
        picture: `.png`, `.svg` or `.pdf`; with one recording.

    Raises:
        UserError: as `stream_of`; or of the picture's name.
    """
    if picture is not None and (len(recordings) != 1 or picture.suffix not in (".png", ".svg", ".pdf")):
        raise UserError(
            "--picture is for one recording and ends in .png, .svg or .pdf: found "
            f"{len(recordings)} and {picture}."
        )
    if gap := gap_between_windows(runner, stream_of(runner, settings)):
        tell(gap)
    failed, as_json = 0, form != TEXT
    with answer_list([{"file": str(path)} for path in recordings], form) as answers:
        for path in recordings:
            followed = _Followed(path, runner, settings, keep=as_json or picture is not None)
            try:
                with noted(path) as notes:
                    note_narrow_band(path)
                    if as_json:
                        recording_segments = list(segments(followed.windows(), runner.labels))
                    else:
                        known = known_clips(runner)
                        speaker = f" ({clips(known)} of the speaker)" if known else ""
                        console.print(Text(f"{path}{speaker}:"), soft_wrap=True)
                        recording_segments = list(_printed(followed.windows(), runner, console, every_window))
            except (audio.AudioError, RunnerError) as error:
                answers.append({"file": str(path), "error": failure(error)})
                failed += 1
                continue
            if as_json:
                about = {"warnings": [*notes, *([gap] if gap else [])], **model_facts(runner, model)}
                answers.append(followed.as_dict(recording_segments) | about)
            if picture is not None:
                followed.draw(recording_segments, picture)
    return failed


def _printed(
    windows: Iterable[Window], runner: Runner, console: Console, every_window: bool
) -> Iterator[Segment]:
    """The segments, each printed as soon as it ends, or after the lines of all windows."""
    labels, dimensions = runner.labels, dimensions_of(runner)

    def with_line(window: Window) -> Window:
        console.print(window_line(window, labels, dimensions), soft_wrap=True)
        return window

    recording_segments: Iterable[Segment] = segments(windows, labels)
    # Without classes nothing stays the same from one window to the next.
    if every_window or not labels:
        console.print(heading_line(labels, dimensions), soft_wrap=True)
        recording_segments = list(segments(map(with_line, windows), labels))
        console.print()
    for segment in recording_segments:
        ascii_only = console.options.ascii_only
        line = segment_line(segment, labels, dimensions=dimensions, ascii_only=ascii_only)
        console.print(line, soft_wrap=True)
        yield segment


class _Followed:
    """A recording's windows as they come, and what is kept of them for JSON and a picture."""

    def __init__(self, path: str, runner: Runner, settings: Mapping[str, Any], *, keep: bool):
        self._path, self._runner, self._keep = path, runner, keep
        self._stream = stream_of(runner, settings)
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

    def as_dict(self, recording_segments: Sequence[Segment]) -> dict[str, Any]:
        rate, labels = self._runner.sample_rate, self._runner.labels
        dimensions = dimensions_of(self._runner)
        return {
            "file": str(self._path),
            "seconds": self._stream.received / rate,
            "sample_rate": rate,
            "window_seconds": self._runner.samples / rate,
            "hop_seconds": self._stream.hop_samples / rate,
            "unsure_below": self._stream.unsure_below if labels else None,
            "silence_dbfs": number_or_none(self._stream.silence_dbfs),
            "speaker_clips": known_clips(self._runner),
            **({"dimension_range": [*dimensions.range]} if dimensions else {}),
            "windows": [window_dict(window, labels, dimensions) for window in self._kept],
            "segments": [segment_dict(segment, dimensions) for segment in recording_segments],
        }

    def draw(self, recording_segments: Sequence[Segment], picture: Path) -> None:
        from light_sernet_kd.reporting import figures

        middles = np.array([(window.start + window.end) / 2 for window in self._kept])
        heard = np.array([window.why not in WITHOUT_SPEECH for window in self._kept])
        labels, names = self._runner.labels, self._runner.dimension_names
        drawn = np.array([each.smoothed if labels else each.smoothed_dimensions for each in self._kept])
        rate = self._runner.sample_rate
        window_seconds, hop_seconds = self._runner.samples / rate, self._stream.hop_samples / rate
        timeline = figures.Timeline(
            envelope=self._envelope.pairs(),
            stretch_seconds=self._envelope.stretch_seconds,
            shares=np.where(heard[:, None], drawn, np.nan),
            borders=np.array([0.0, *(middles[1:] + middles[:-1]) / 2, self._kept[-1].end]),
            segments=[
                (each.start, each.end, label_or_speech(each.label), each.why) for each in recording_segments
            ],
            classes=labels or names,
            scale=None if labels else self._runner.dimension_range,
        )
        figures.timeline(
            timeline,
            picture,
            unsure_below=self._stream.unsure_below,
            title=Path(self._path).name,
            stamps=site.of_model(self._runner.card),
            notes=[f"windows of {window_seconds:g} s every {hop_seconds:g} s, each drawn about its middle"],
        )
