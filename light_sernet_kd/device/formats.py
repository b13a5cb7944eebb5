"""Windows and segments as lines for a terminal and as JSON."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.text import Text

from light_sernet_kd.config import Dimensions
from light_sernet_kd.device.timeline import WITHOUT_SPEECH, Segment
from light_sernet_kd.runner import DIMENSIONS, SILENT, UNSURE, Runner, Window

_BAR_LETTERS = 20
# What lines have in a label's place where a file gives no classes.
SPEECH = "speech"


def clock(seconds: float) -> str:
    """`m:ss.s`, or `h:mm:ss.s` from an hour on."""
    tenths = round(10 * seconds)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"


def number(value: float) -> str:
    """With one decimal where it is not whole."""
    return f"{value:.1f}".removesuffix(".0")


def clips(count: float) -> str:
    """`1 clip`, `2.5 clips`."""
    return f"{number(count)} clip{'' if number(count) == '1' else 's'}"


def dimensions_of(runner: Runner) -> Dimensions | None:
    """The dimensions that a file gives, beside its classes or alone; None for none."""
    return Dimensions(runner.dimension_names, runner.dimension_range) if runner.dimension_names else None


def dimension_number(value: float, dimensions: Dimensions) -> str:
    """A value as shown, which is within the scale."""
    low, high = dimensions.range
    return "-" if math.isnan(value) else f"{min(max(value, low), high):.{1 if high - low > 2 else 2}f}"


def dimensions_line(values: Iterable[float], dimensions: Dimensions) -> str:
    """Values in one line.

    >>> dimensions_line([4.23, 0.6], Dimensions(("arousal", "valence"), (1, 5)))
    'arousal 4.2, valence 1.0'
    """
    pairs = zip(dimensions.names, values, strict=True)
    return ", ".join(f"{name} {dimension_number(value, dimensions)}" for name, value in pairs)


def decibels(level: float | None) -> str:
    return "not finite" if level is None or math.isnan(level) else f"{level:.0f} dBFS"


def segment_line(
    segment: Segment,
    labels: Sequence[str],
    *,
    dimensions: Dimensions | None = None,
    ascii_only: bool = False,
) -> Text:
    line = _segment_begun(segment, labels, ascii_only=ascii_only)
    if dimensions is None or segment.why in WITHOUT_SPEECH:
        return line
    return line.append(f"  {dimensions_line(segment.dimensions, dimensions)}")


def label_or_speech(label: str) -> str:
    """A window's or a segment's label in a line."""
    return label or SPEECH


def _label_width(labels: Sequence[str]) -> int:
    return max(map(len, (UNSURE, *labels)))


def _segment_begun(segment: Segment, labels: Sequence[str], *, ascii_only: bool) -> Text:
    width = _label_width(labels)
    line = Text(f"{clock(segment.start):>9} - {clock(segment.end):>9}  ")
    if segment.probability is None and not segment.why:
        return line.append(f"{label_or_speech(segment.label):<{width}}", style="bold")
    if segment.probability is None:
        detail = f"{segment.why}, {decibels(segment.level)}" if segment.why == SILENT else segment.why
        return line.append(f"{UNSURE:<{width}}  {detail}", style="dim")
    bar = ("#" if ascii_only else "█") * round(_BAR_LETTERS * segment.probability)
    line.append(f"{segment.label:<{width}}", style="bold")
    return line.append(f"  {100 * segment.probability:3.0f} %  ").append(bar, style="cyan")


def window_line(window: Window, labels: Sequence[str], dimensions: Dimensions | None = None) -> Text:
    width = _label_width(labels)
    level = "-" if math.isnan(window.level) else f"{window.level:.1f}"
    line = Text(f"{clock(window.start):>9} - {clock(window.end):>9}  {level:>6}  ")
    line.append(f"{label_or_speech(window.label):<{width}}", style="dim" if window.why else "bold")
    for name, share in zip(labels, window.smoothed, strict=True):
        line.append(f"  {'-' if math.isnan(share) else f'{100 * share:.0f}':>{max(4, len(name))}}")
    if dimensions:
        for name, value in zip(dimensions.names, window.smoothed_dimensions, strict=True):
            line.append(f"  {dimension_number(value, dimensions):>{len(name)}}")
    return line.append(f"  {window.why}" if window.why else "", style="dim")


def heading_line(labels: Sequence[str], dimensions: Dimensions | None = None) -> Text:
    """What stands above the lines of windows; probabilities are smoothed, in per cent."""
    columns = [*labels, *(dimensions.names if dimensions else ())]
    width = _label_width(labels)
    line = f"{'start':>9}   {'end':>9}  {'dBFS':>6}  {'label' if labels else 'heard':<{width}}"
    return Text(line + "".join(f"  {name:>{max(4, len(name))}}" for name in columns), style="dim")


def window_dict(
    window: Window, labels: Sequence[str], dimensions: Dimensions | None = None
) -> dict[str, Any]:
    """A window for JSON: what is not finite is null, and so is a label of a file without classes."""
    line = {
        "start": window.start,
        "end": window.end,
        "label": window.label or None,
        "why": window.why or None,
        "level_dbfs": number_or_none(window.level),
        "probabilities": _by_name(labels, window.probabilities),
        "smoothed": _by_name(labels, window.smoothed),
    }
    if dimensions:
        line[DIMENSIONS] = _by_name(dimensions.names, window.dimensions)
        line["smoothed_dimensions"] = _by_name(dimensions.names, window.smoothed_dimensions)
    return line


def _by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    return dict(zip(names, map(number_or_none, values.tolist()), strict=True))


def segment_dict(segment: Segment, dimensions: Dimensions | None = None) -> dict[str, Any]:
    line = {
        "start": segment.start,
        "end": segment.end,
        "label": segment.label or None,
        "why": segment.why or None,
        "probability": segment.probability,
        "level_dbfs": segment.level,
        "windows": segment.windows,
    }
    return {**line, DIMENSIONS: _by_name(dimensions.names, segment.dimensions)} if dimensions else line


def number_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
