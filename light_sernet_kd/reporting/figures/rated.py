"""A student's values of arousal, valence and dominance against the listeners' ratings."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import INK, PALE, QUIET

_DOTS = "#0072b2"


def ratings(
    answers: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    path: str | os.PathLike[str],
    *,
    ends: tuple[float, float],
    ccc: Mapping[str, float | None],
    title: str,
    stamps: Sequence[str] = (),
) -> list[Path]:
    """A dot per test utterance that listeners rated, a panel per dimension.

    Args:
        answers: dimension → the student's values and the ratings, `(N,)` each on the corpus's scale.
        path: without suffix: `.png`, `.svg` and `.pdf` are written.
        ends: of the scale. Values beyond it widen the panel.
        ccc: dimension → concordance, which stands above its panel.
        stamps: what the reader must know of the result; shown below the title.

    Returns:
        The files written.
    """
    known = {name: np.isfinite(true) for name, (_, true) in answers.items()}
    most = max(int(each.sum()) for each in known.values())
    notes = ["a dot: a test utterance; dashed: where both are the same"]
    with page.style():
        width = max(3.2 * len(answers), 4.6)
        figure = page.figure_below_head(title, stamps, notes, width_inches=width, body_inches=3.4)
        for axes, (name, (given, true)) in zip(
            figure.subplots(1, len(answers), squeeze=False).flat, answers.items(), strict=True
        ):
            rows = known[name]
            low = float(np.min([ends[0], *given[rows], *true[rows]]))
            high = float(np.max([ends[1], *given[rows], *true[rows]]))
            margin = 0.04 * (high - low)
            axes.plot(ends, ends, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            axes.plot(
                *(true[rows], given[rows]),
                "o",
                color=_DOTS,
                markersize=3,
                markeredgewidth=0,
                alpha=float(np.clip(6 / np.sqrt(max(most, 1)), 0.12, 0.7)),
                zorder=2,
            )
            axes.set_xlim(low - margin, high + margin)
            axes.set_ylim(low - margin, high + margin)
            axes.set_aspect("equal")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            shown = "unknown" if ccc[name] is None else f"{ccc[name]:z.2f}"
            axes.set_title(f"{name}: CCC {shown}", loc="left", size=10, color=INK)
            axes.set_xlabel("listeners' rating")
            axes.set_ylabel("student's answer")
            axes.grid(color=PALE, linewidth=0.5, alpha=0.6)
            axes.set_axisbelow(True)
        return page.save(figure, path)
