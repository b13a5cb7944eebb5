"""Windows and segments as lines for a terminal and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.text import Text

from light_sernet_kd.device.timeline import Segment
from light_sernet_kd.runner import SILENT, UNSURE, Window

_BAR_LETTERS = 20


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
        return dict(zip(labels, map(number_or_none, shares.tolist()), strict=True))

    return {
        "start": window.start,
        "end": window.end,
        "label": window.label,
        "why": window.why or None,
        "level_dbfs": number_or_none(window.level),
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


def number_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
