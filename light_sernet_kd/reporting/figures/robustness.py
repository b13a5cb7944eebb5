"""What degraded recordings cost."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import PALE, POINT_COLORS, POINT_MARKERS, QUIET


def stress(
    students: Sequence[Mapping[str, Any]],
    conditions: Sequence[tuple[str, str]],
    path: str | os.PathLike[str],
    *,
    title: str,
    stamps: Sequence[str] = (),
) -> list[Path]:
    """What each condition costs, with intervals, and beside it each student's recall per class.

    Args:
        students: name, classes, ua (of the first condition), changes (per condition a difference of UA to
            the first and its interval or None) and recalls (`(conditions, classes)`, None for a class that is
            not there); shares from 0 to 1.
        conditions: name and kind; the first is what the others are compared with.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    several = len(students) > 1
    names, kinds = [name for name, _ in conditions], [kind for _, kind in conditions]
    notes = [
        f"UA on {names[0]} recordings: " + ", ".join(f"{s['name']} {100 * s['ua']:.1f} %" for s in students)
    ]
    if any(change["interval"] for student in students for change in student["changes"]):
        notes.append("bars: 95 % interval of the paired difference, over speakers")
    row_inches, cell = 0.3 if len(students) < 3 else 0.1 * len(students), 0.46
    with page.style():
        left = 0.35 + max(page.text_inches(name, 9) for name in names)
        maps = [cell * len(student["classes"]) for student in students]
        longest = max(page.text_inches(name, 8) for student in students for name in student["classes"])
        heads = [
            textwrap.wrap(f"recall (%), {s['name']}", max(12, int(m / 0.075)))
            for s, m in zip(students, maps, strict=True)
        ]
        top = 0.12 + 0.75 * longest + 0.16 * max(map(len, heads))
        drop, gap, bottom = 3.4, 0.25, 0.85 if several else 0.6
        width = left + drop + sum(gap + each for each in maps) + 0.75 * longest + 0.1
        head = page.head_lines(title, stamps, notes, width_inches=width)
        body = row_inches * len(names)
        height = page.head_inches(head) + top + body + bottom
        figure = Figure((width, height))
        page.draw_head(figure, head)

        def panel(x: float, wide: float, **edge: Any):
            axes = figure.add_axes((x / width, bottom / height, wide / width, body / height))
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            for row in range(1, len(kinds)):
                if kinds[row] != kinds[row - 1]:
                    axes.axhline(row - 0.5, **edge)
            return axes

        _draw_changes(panel(left, drop, color=PALE, linewidth=0.8), students, names)
        if several:
            figure.legend(
                loc="lower left",
                bbox_to_anchor=(0.1 / width, 0.06 / height),
                frameon=False,
                ncols=len(students),
                borderpad=0,
                handletextpad=0.2,
            )
        x = left + drop
        for student, wide, lines in zip(students, maps, heads, strict=True):
            x += gap
            _draw_recalls(panel(x, wide, color="white", linewidth=3), student)
            at = (bottom + body + 0.12 + 0.75 * longest) / height
            figure.text(x / width, at, "\n".join(lines), size=9, va="bottom", linespacing=1.25)
            x += wide
        return page.save(figure, path)


def _draw_changes(axes, students: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Each condition's difference of UA to the first one, with its interval."""
    axes.axvline(0, color=QUIET, linewidth=0.9)
    for number, student in enumerate(students):
        color, marker = POINT_COLORS[number % 6], POINT_MARKERS[(number + number // 6) % 6]
        aside = (number - (len(students) - 1) / 2) * 0.72 / len(students)
        # the first row is what the others are compared with
        for row, change in list(enumerate(student["changes"]))[1:]:
            if change["interval"]:
                ends = [100 * end for end in change["interval"]]
                axes.plot(ends, [row + aside] * 2, color=color, linewidth=1.3, solid_capstyle="butt")
            axes.plot(
                100 * change["difference"],
                row + aside,
                marker,
                color=color,
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                zorder=3,
                label=student["name"] if row == 1 else None,
            )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(f"UA, difference to {names[0]} (points)")
    axes.grid(axis="x", color=PALE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def _draw_recalls(axes, student: Mapping[str, Any]) -> None:
    """A student's recall per condition and class, as numbers on colour."""
    shares, colors = np.array(student["recalls"], float), matplotlib.colormaps["Blues"]
    axes.imshow(shares, cmap=colors, vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        known = np.isfinite(share)
        color = page.text_color(colors(share)) if known else QUIET
        text = f"{100 * share:.0f}" if known else "–"
        axes.text(column, row, text, size=7.5, color=color, ha="center", va="center")
    axes.set_yticks([])
    axes.set_xticks(range(len(student["classes"])), student["classes"], size=8)
    axes.xaxis.tick_top()
    for label in axes.get_xticklabels():
        label.set(rotation=45, ha="left", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
