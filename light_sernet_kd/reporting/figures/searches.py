"""The students of a search."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import ALARM, INK, PALE, POINT_COLORS, POINT_MARKERS, QUIET

# Of the legend; more would not fit, and the table has them all.
MOST_NAMED = 12


def pareto(
    front: Sequence[Mapping[str, Any]],
    scored: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str,
    most_ms: float | None = None,
    stamps: Sequence[str] = (),
) -> list[Path]:
    """UA on inner folds over the time of an answer: all students that were scored, and those of the front.

    Args:
        front, scored: `trial`, `ms`, `kb` and `inner_ua` (a share from 0 to 1) of each student; the line
            joins those that no other beats in UA and ms, whatever their size.
        path: as for `curves`, and so for `stamps`.
        most_ms: the budget; a line where it lies within the picture.

    Returns:
        The files written.
    """
    labels = [
        f"trial {row['trial']}: {100 * row['inner_ua']:.1f} %, {row['kb']:,.0f} kB, {row['ms']:.2f} ms"
        for row in front
    ]
    notes = [
        "coloured: no other student is better in UA, ms and kB; grey: the others that were scored",
        "line: the best UA within a time, whatever the size",
    ]
    if len(front) > MOST_NAMED:
        notes.append(f"named: the first {MOST_NAMED} of {len(front)}; the table has all")
    with page.style():
        legend_inches = 0.7 + max(page.text_inches(label, 9) for label in labels)
        figure = page.figure_below_head(
            title, stamps, notes, width_inches=4.8 + legend_inches, body_inches=max(3.2, 0.26 * len(labels))
        )
        axes = figure.subplots()
        others = [row for row in scored if row["trial"] not in {each["trial"] for each in front}]
        axes.plot(
            [row["ms"] for row in others],
            [100 * row["inner_ua"] for row in others],
            *("o",),
            color=PALE,
            markersize=5,
            zorder=2,
        )
        steps = _steps(front)
        axes.plot(*zip(*steps, strict=True), color=QUIET, linewidth=1, drawstyle="steps-post", zorder=1)
        for place, (row, label) in enumerate(zip(front, labels, strict=True)):
            named = place < MOST_NAMED
            axes.plot(
                row["ms"],
                100 * row["inner_ua"],
                color=POINT_COLORS[place % 6] if named else INK,
                marker=POINT_MARKERS[(place + place // 6) % 6] if named else ".",
                linestyle="none",
                markersize=8,
                markeredgecolor="white",
                zorder=3,
                label=label if named else None,
            )
        times = [row["ms"] for row in scored]
        if most_ms is not None and most_ms <= 1.5 * max(times):
            axes.axvline(most_ms, color=ALARM, linewidth=0.9, linestyle="--", label="budget")
            times.append(most_ms)
        room = max(0.08 * (max(times) - min(times)), 0.04 * max(times))
        axes.set_xlim(min(times) - room, max(times) + room)
        axes.set_xlabel("processor time of one answer, one thread (ms)")
        axes.set_ylabel("UA on inner folds (%)")
        axes.grid(color=PALE, linewidth=0.5, alpha=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=0.7)
        return page.save(figure, path)


def _steps(front: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """The points of the front that no faster one beats in UA, from fast to slow."""
    steps: list[tuple[float, float]] = []
    for row in sorted(front, key=lambda row: (row["ms"], -row["inner_ua"])):
        if not steps or 100 * row["inner_ua"] > steps[-1][1]:
            steps.append((row["ms"], 100 * row["inner_ua"]))
    return steps
