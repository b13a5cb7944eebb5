"""UA against how many recordings of the speaker are known."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke

from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import PALE, POINT_COLORS, QUIET


def enrolled(
    scores: Mapping[str, Any], path: str | os.PathLike[str], *, title: str, stamps: Sequence[str] = ()
) -> list[Path]:
    """UA with its interval, and that where the first recordings of the speaker are known.

    Args:
        scores: as `evaluation.enrolled_scores` gives it.
        path, title, stamps: as for `confusion_matrix`.

    Returns:
        The files written.
    """
    notes = [f"Protocol {scores['protocol']}: not to be compared with strict scores."]
    with page.style():
        figure = page.figure_below_head(title, stamps, notes, width_inches=5.6, body_inches=3.2)
        axes = figure.add_subplot()
        curve = scores["curve"]
        at = np.array([row["clips"] for row in curve], float)
        # Where the first counts stand close together, not each has room for its number.
        width = max(float(at.max()), 1.0)
        ticks = [at[0]]
        for each in at[1:]:
            if each - ticks[-1] >= 0.04 * width:
                ticks.append(each)
        ua = [100 * row["ua"] for row in curve]
        # The intervals are of the same speakers: a difference is surer than they look.
        if all("ci95" in row for row in curve):
            low, high = zip(*(row["ci95"] for row in curve), strict=True)
            axes.fill_between(
                at, 100 * np.array(low), 100 * np.array(high), color=PALE, alpha=0.5, linewidth=0
            )
        axes.axhline(ua[0], color=QUIET, linewidth=0.9, linestyle=":")
        axes.plot(at, ua, "o-", color=POINT_COLORS[0], label="drawn at random", zorder=3)
        first = [100 * row["ua"] for row in scores["first"]]
        axes.plot(at[1:], first[1:], "D--", color=POINT_COLORS[3], label="the speaker's first ones", zorder=2)
        for x, value in zip(at, ua, strict=True):
            if x not in ticks:
                continue
            edge = [withStroke(linewidth=3, foreground="white")]
            look: dict[str, Any] = {"ha": "center", "size": 8, "path_effects": edge, "zorder": 4}
            axes.annotate(f"{value:.1f}", (x, value), (0, 7), textcoords="offset points", **look)
        axes.set_xticks(ticks, [f"{each:.0f}" for each in ticks])
        axes.set_xlim(-0.04 * width, 1.04 * width)
        axes.set_xlabel("known recordings of the speaker, without labels")
        axes.set_ylabel("UA (%)")
        axes.grid(axis="y", color=PALE, linewidth=0.5, alpha=0.6)
        axes.legend(loc="lower right", frameon=False)
        return page.save(figure, path)
