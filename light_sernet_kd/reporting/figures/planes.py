"""Embeddings of utterances on planes."""

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import INK, PALE, QUIET

# Groups that `Panel` names most often.
RIGHT, WRONG = "right", "wrong"


@dataclass(frozen=True)
class Panel:
    """Utterances on a plane, for `embeddings`.

    Attributes:
        points: `(utterances, 2)`.
        labels: class indices `(utterances,)`, shown by colour and marker.
        groups: a name for each utterance, such as right or wrong. Of two, the second one's marks are
            hollow; those of `WRONG` are in any case.
        axes: what the two directions are.
        mark: the utterance that gets a ring.
    """

    title: str
    points: NDArray[Any]
    labels: NDArray[Any]
    groups: Sequence[str]
    axes: tuple[str, str]
    mark: int | None = None


def embeddings(
    panels: Sequence[Panel],
    classes: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str,
    stamps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Path]:
    """Embeddings on planes: colour and marker are the emotion, whose name stands at the middle of its points.

    Args:
        panels: each with axes of its own, two in a row. More than two groups are not told apart.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    groups = sorted({group for panel in panels for group in panel.groups})
    hollow = groups[1:] if len(groups) == 2 else [name for name in groups if name == WRONG]
    if len(groups) > 2:
        notes = [*notes, f"{len(groups)} groups are more than two: they look alike"]
    present = sorted({int(label) for panel in panels for label in panel.labels})
    looks = [*page.class_looks(classes).values()]

    def look(label: int, group: str = "") -> dict[str, Any]:
        color, marker = looks[label]
        return {
            "marker": marker,
            "markerfacecolor": "white" if group in hollow else color,
            "markeredgecolor": color if group in hollow else "white",
            "markeredgewidth": 1.3 if group in hollow else 0.5,
            "linestyle": "none",
        }

    entries = [
        Line2D([], [], markersize=1.1 * _points(look(i)["marker"]), label=classes[i], **look(i))
        for i in present
    ]
    for name in groups if hollow else ():
        face = "white" if name in hollow else QUIET
        gray: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": QUIET, "linestyle": "none"}
        entries.append(Line2D([], [], marker="o", markersize=7, label=name, **gray))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with page.style():
        for entry in entries:
            entry.set_label(textwrap.fill(str(entry.get_label()), 24))
        legend_inches = 0.55 + max(page.text_inches(str(entry.get_label()), 9) for entry in entries)
        lines = sum(str(entry.get_label()).count("\n") + 1.35 for entry in entries)
        figure = page.figure_below_head(
            title,
            stamps,
            notes,
            width_inches=3.5 * columns + legend_inches + 0.2,
            body_inches=max(3.3 * rows, 0.5 + 0.15 * lines),
        )
        grid = figure.add_gridspec(rows, columns + 1, width_ratios=[*[3.5] * columns, legend_inches])
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(grid[number // columns, number % columns])
            _draw_panel(axes, panel, classes, look)
        side = figure.add_subplot(grid[:, -1])
        side.set_axis_off()
        side.legend(handles=entries, loc="center left", frameon=False, borderaxespad=0, borderpad=0)
        return page.save(figure, path)


def _points(marker: str) -> float:
    """The size of a mark: a star and a cross have less ink than the others at the same size."""
    return {"*": 10.0, "P": 7.5, "X": 7.5}.get(marker, 6.0)


def _draw_panel(axes, panel: Panel, classes: Sequence[str], look) -> None:
    groups = np.array(panel.groups)
    points, labels = np.asarray(panel.points, float), np.asarray(panel.labels)
    for label in np.unique(labels):
        for group in np.unique(groups[labels == label]):
            x, y = points[(labels == label) & (groups == group)].T
            style = look(int(label), group)
            axes.plot(x, y, markersize=_points(style["marker"]), alpha=0.9, **style)
    if panel.mark is not None:
        ring = {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.8, "zorder": 5}
        axes.plot(*points[panel.mark], "o", markersize=14, **ring)
    shown = np.unique(labels)
    # the median: a few strays do not pull the name away from the crowd
    middles = np.array([np.median(points[labels == label], axis=0) for label in shown])
    span = np.ptp(points, axis=0)
    span = np.where(span > 0, span, 1.0)
    # a name over a point or two would hide them
    few = np.array([(labels == label).sum() < 3 for label in shown])
    middles[:, 1] += np.where(few, 0.17 / 2.6 * span[1], 0)
    names = [page.tick(classes[label]) for label in shown]
    # at the sides they stay within the axes
    half = np.array([page.text_inches(name, 9) for name in names]) / 2 / 2.6 * span[0]
    left, right = points[:, 0].min() - 0.08 * span[0] + half, points[:, 0].max() + 0.08 * span[0] - half
    middles[:, 0] = np.clip(middles[:, 0], left, np.maximum(left, right))
    for at, name in zip(_apart(middles, names, span), names, strict=True):
        halo = [withStroke(linewidth=2, foreground="white", alpha=0.8)]
        look_of_name: dict[str, Any] = {"size": 8, "weight": "bold", "color": INK, "path_effects": halo}
        axes.text(*at, name, ha="center", va="center", zorder=4, **look_of_name)
    axes.set_title(panel.title, loc="left", size=10)
    axes.set_xlabel(panel.axes[0])
    axes.set_ylabel(panel.axes[1])
    axes.margins(0.08)
    axes.locator_params(nbins=5)
    axes.grid(color=PALE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)


def _apart(middles: NDArray[Any], names: Sequence[str], span: NDArray[Any]) -> NDArray[Any]:
    """Where the names stand: at `middles` `(names, 2)`, moved up where they would cover one another.

    The axes, `span` of the data wide and high, are taken to be 2.6 inches each way.
    """
    placed: list[int] = []
    places = middles.copy()
    widths = [page.text_inches(name, 9) for name in names]
    for i in np.argsort(middles[:, 1], kind="stable").tolist():
        for j in placed:
            across, up = np.abs(places[i] - places[j]) / span * 2.6
            if across < (widths[i] + widths[j]) / 2 + 0.08 and up < 0.15:
                places[i, 1] = places[j, 1] + 0.15 / 2.6 * span[1]
        placed.append(i)
        placed.sort(key=lambda each: places[each, 1])
    return places
