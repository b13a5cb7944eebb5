"""The scores of many runs."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import PALE, POINT_COLORS, QUIET

# Of a picture's rows; more would not fit a page, and the table has them all.
MOST_ROWS = 40
_LETTERS = 34


def grid_scores(
    groups: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str,
    stamps: Sequence[str] = (),
) -> list[Path]:
    """Each group's UA, a point per run and a line at their mean; beside it the difference to its baseline.

    Args:
        groups: `group` (its name), `runs` (name → UA), `ua` (their mean) and `compared` (`with`,
            `difference` and `interval`, which may be None; or None); shares from 0 to 1. Of more than 40
            the first are drawn.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    drawn = groups[:MOST_ROWS]
    names = [textwrap.fill(row["group"], _LETTERS, break_on_hyphens=True) for row in drawn]
    compared = [(place, row["compared"]) for place, row in enumerate(drawn) if row["compared"]]
    notes = ["small points: runs; lines: their means"]
    if any(pair["interval"] for _, pair in compared):
        notes.append("bars: 95 % interval of the mean difference, over folds and seeds")
    if len(groups) > len(drawn):
        notes.append(f"the first {len(drawn)} of {len(groups)}; the table has all")
    row_inches = 0.16 + 0.15 * max(name.count("\n") + 1 for name in names)
    with page.style():
        left = 0.4 + max(page.text_inches(name, 9) for name in names)
        panels = [3.0, *([3.0] if compared else [])]
        gap, bottom, top = 0.25, 0.6, 0.1
        width = left + sum(panels) + gap * (len(panels) - 1) + 0.15
        head = page.head_lines(title, stamps, notes, width_inches=width)
        body = row_inches * len(drawn)
        height = page.head_inches(head) + top + body + bottom
        figure = Figure((width, height))
        page.draw_head(figure, head)

        def panel(x: float, wide: float):
            axes = figure.add_axes((x / width, bottom / height, wide / width, body / height))
            axes.set_ylim(len(drawn) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x", color=PALE, linewidth=0.5, alpha=0.6)
            axes.set_axisbelow(True)
            axes.spines["left"].set_visible(False)
            return axes

        axes = panel(left, panels[0])
        _draw_scores(axes, drawn)
        axes.set_yticks(range(len(names)), names)
        if compared:
            axes = panel(left + panels[0] + gap, panels[1])
            _draw_differences(axes, compared)
            axes.set_yticks([])
        return page.save(figure, path)


def _draw_scores(axes, groups: Sequence[Mapping[str, Any]]) -> None:
    for place, row in enumerate(groups):
        scores = [100 * ua for ua in row["runs"].values()]
        axes.plot([100 * row["ua"]] * 2, [place - 0.3, place + 0.3], color=POINT_COLORS[0], linewidth=2)
        axes.plot(scores, [place] * len(scores), "o", color=POINT_COLORS[0], markersize=4,
                  markeredgecolor="white", markeredgewidth=0.5, zorder=3)  # fmt: skip
    axes.set_xlabel("UA (%)")


def _draw_differences(axes, compared: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    axes.axvline(0, color=QUIET, linewidth=0.9)
    color = POINT_COLORS[1]
    for place, pair in compared:
        if pair["interval"]:
            ends = [100 * end for end in pair["interval"]]
            axes.plot(ends, [place] * 2, color=color, linewidth=1.5, solid_capstyle="butt")
        axes.plot(100 * pair["difference"], place, "s", color=color, markersize=6,
                  markeredgecolor="white", markeredgewidth=0.6, zorder=3)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(6))
    # Two points at least, so that a tenth of a point does not look like a cliff.
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -1), max(high, 1))
    baselines = {pair["with"] for _, pair in compared}
    name = next(iter(baselines)) if len(baselines) == 1 else "the baseline"
    axes.set_xlabel(textwrap.fill(f"UA, difference to {name} (points)", 44))
