"""A recording and the answers to it, over time."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import INK, PALE, QUIET


@dataclass(frozen=True)
class Timeline:
    """The answers to a recording, for `timeline`.

    Attributes:
        envelope: `(stretches, 2)`, the lowest and highest sample of equal stretches of `stretch_seconds`.
        shares: `(windows, classes)` from 0 to 1; a row of NaN is a gap. With `scale`, values on that.
        borders: `(windows + 1,)` in seconds: the time that each window speaks for, to the sound's end.
        segments: start, end in seconds, label and, where it is none of `classes`, why.
        classes: their names, or with `scale` those of the dimensions that are drawn in place of classes.
        scale: ends of the dimensions' scale, beyond which they are drawn at its end; None of classes.
    """

    envelope: ArrayLike
    stretch_seconds: float
    shares: ArrayLike
    borders: ArrayLike
    segments: Sequence[tuple[float, float, str, str]]
    classes: Sequence[str]
    scale: tuple[float, float] | None = None

    @property
    def looks(self) -> dict[str, tuple[str, str]]:
        """Colour and marker of each class."""
        return page.class_looks(self.classes)


def timeline(
    answers: Timeline,
    path: str | os.PathLike[str],
    *,
    unsure_below: float,
    title: str,
    stamps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Path]:
    """A recording's waveform, above it its segments, below it the file's answers over time.

    Args:
        unsure_below: drawn as a line, but for dimensions.
        title: names the recording, and so says nothing of what the student was trained on.
        stamps: what the reader must know of the student; shown below the title.
        path: as for `curves`.

    Returns:
        The files written.

    Raises:
        ValueError: the answers do not fit the borders and classes.
    """
    shares, borders, envelope = (
        np.asarray(array, float) for array in (answers.shares, answers.borders, answers.envelope)
    )
    classes, (low, high) = answers.classes, answers.scale or (0.0, 1.0)
    shares = np.clip(shares, low, high)
    if shares.shape != (len(borders) - 1, len(classes)):
        raise ValueError(f"{shares.shape} probabilities for {len(borders)} borders, {len(classes)} classes")
    end = borders[-1]
    width = float(np.clip(0.12 * end + 6, 7, 12))
    with page.style():
        figure = page.figure_below_head(
            title, stamps, notes, width_inches=width, body_inches=4.4, synthetic=False
        )
        grid = figure.add_gridspec(3, 2, height_ratios=[0.35, 1.3, 2.4], width_ratios=[width, 0.01])
        strip, wave, lines = (figure.add_subplot(grid[row, 0]) for row in range(3))
        # The axes' width is what the legend and the ticks leave.
        room = (width - 1.1 - max(page.text_inches(name, 9) for name in (*classes, "unsure below"))) / end
        _draw_segments(strip, answers, inches_per_second=room)
        times = np.arange(len(envelope)) * answers.stretch_seconds
        wave.fill_between(times, envelope[:, 0], envelope[:, 1], step="post", color=QUIET, linewidth=0.4)
        top = 1.05 * max(float(np.abs(envelope).max(initial=0.0)), 1e-3)
        wave.set_ylim(-top, top)
        wave.set_ylabel("amplitude")
        middles, handles = (borders[1:] + borders[:-1]) / 2, []
        for i, (name, (color, marker)) in enumerate(answers.looks.items()):
            lines.stairs(shares[:, i], borders, label=name, color=color, linewidth=1.6, baseline=None)
            # Not all at the same windows, where they would cover one another.
            step = max(1, len(middles) // 8)
            marked = slice(i % step, None, step)
            edge: dict[str, Any] = {"color": color, "marker": marker, "markeredgecolor": "white"}
            lines.plot(middles[marked], shares[marked, i], linestyle="none", markersize=7, **edge)
            handles.append(Line2D([], [], label=name, markersize=7, **edge))
        if answers.scale is None:
            look: dict[str, Any] = {"color": QUIET, "linewidth": 0.9, "linestyle": ":"}
            handles.append(lines.axhline(unsure_below, label="unsure below", **look))
        margin = 0.02 * (high - low)
        lines.set_ylim(low if answers.scale is None else low - margin, high + margin)
        lines.set_ylabel("smoothed probability" if answers.scale is None else "smoothed, on the scale")
        lines.grid(color=PALE, linewidth=0.5, alpha=0.6)
        lines.legend(
            handles=handles,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            frameon=False,
            borderaxespad=0,
        )
        for axes in (strip, wave, lines):
            axes.set_xlim(0, end)
            axes.tick_params(axis="x", labelbottom=axes is lines, length=3 if axes is lines else 0)
        if end > 120:
            lines.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 1.5, 3, 6, 10]))
            lines.xaxis.set_major_formatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02}")
        lines.set_xlabel("time (min:s)" if end > 120 else "time (s)")
        return page.save(figure, path)


def _draw_segments(axes, answers: Timeline, *, inches_per_second: float) -> None:
    """A strip of the segments, each with its name where there is room for it."""
    for label, why in dict.fromkeys((label, why) for _, _, label, why in answers.segments):
        spans = [(start, stop) for start, stop, *what in answers.segments if what == [label, why]]
        color = PALE if why else answers.looks.get(label, (QUIET, ""))[0]
        look: dict[str, Any] = {"facecolor": "white" if why else color, "linewidth": 0.8}
        look |= {"edgecolor": color if why else "white", "hatch": "////" if why == "not sure" else None}
        axes.broken_barh([(start, stop - start) for start, stop in spans], (0, 1), **look)
        names = [f"unsure: {why}", why] if why else [page.tick(label)]
        needed = [page.text_inches(name, 8) + 0.08 for name in names]
        look = {"color": INK if why else page.text_color(to_rgba(color)), "ha": "center", "va": "center"}
        look |= {"path_effects": [withStroke(linewidth=3, foreground="white")] if why else []}
        for start, stop in spans:
            fitting = [i for i, inches in enumerate(needed) if inches < (stop - start) * inches_per_second]
            if fitting:
                axes.text((start + stop) / 2, 0.5, names[fitting[0]], size=8, **look)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
