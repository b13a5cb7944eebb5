"""Pictures of scores: the confusion matrix, how training went, size against UA, reliability."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd.config.settings.choices import BEST, MEAN
from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import (
    INK,
    MARK,
    PALE,
    POINT_COLORS,
    POINT_MARKERS,
    QUIET,
    TRAIN,
    VALIDATION,
)

PANELS = (
    ("loss", "training loss", TRAIN),
    ("val_loss", "validation loss", VALIDATION),
    ("val_ua", "validation UA (%)", VALIDATION),
    ("val_ccc", "validation CCC", VALIDATION),
    ("test_ua", "test UA (%)", INK),
)


def confusion_matrix(
    matrix: ArrayLike,
    classes: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str,
    stamps: Sequence[str] = (),
) -> list[Path]:
    """Counts and shares of each row; true classes are rows, recall stands at the side.

    Args:
        matrix: `(classes, classes)` counts; rows are labels.
        path: without suffix: `.png`, `.svg` and `.pdf` are written.
        title: one that contains "(synthetic)" is marked as such in red.
        stamps: what the reader must know of the result; shown below the title.

    Returns:
        The files written.

    Raises:
        ValueError: the matrix does not fit the classes.
    """
    counts = np.asarray(matrix)
    size = len(classes)
    if counts.shape != (size, size):
        raise ValueError(f"confusion matrix of shape {counts.shape} for {size} classes")
    cell = 0.62 if size > 4 else 0.9  # inches
    with page.style():
        names = [textwrap.fill(name, 18, break_long_words=False) for name in classes]
        longest = max(page.text_inches(name, 9) for name in names)
        slanted = longest > cell - 0.08
        left, right = 0.48 + longest, 0.85
        lines = max(name.count("\n") + 1 for name in names)
        bottom = 0.36 + 0.16 * lines + (longest * np.sqrt(0.5) if slanted else 0)
        width = max(left + cell * size + right, 4.6)
        head = page.head_lines(title, stamps, (), width_inches=width)
        height = page.head_inches(head) + 0.3 + cell * size + bottom
        figure = Figure((width, height))
        page.draw_head(figure, head)
        box = (left / width, bottom / height, cell * size / width, cell * size / height)
        axes = figure.add_axes(box, frame_on=False)
        _draw_cells(axes, counts, cell_inches=cell)
        axes.set_xticks(range(size), names)
        if slanted:
            for label in axes.get_xticklabels():
                label.set(rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), names)
        axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="both", length=0)
        middle = (left + cell * size / 2) / width, (bottom + cell * size / 2) / height
        figure.text(middle[0], 0.12 / height, "predicted class", ha="center", color=QUIET)
        figure.text(0.12 / width, middle[1], "true class", rotation=90, va="center", color=QUIET)
        return page.save(figure, path)


def _draw_cells(axes, counts: NDArray[Any], *, cell_inches: float) -> None:
    """The squares with counts and shares of their row, and each row's recall beside them."""
    size, labelled = len(counts), counts.sum(axis=1)
    shares = counts / np.maximum(labelled, 1)[:, None]
    colors = matplotlib.colormaps["Blues"]
    axes.imshow(shares, cmap=colors, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = float(shares[row, column])
        axes.text(
            column,
            row,
            f"{count}\n{100 * share:.0f} %" if labelled[row] else f"{count}\n–",
            size=8 if size > 4 else 10,
            color=page.text_color(colors(share)),
            weight="bold" if row == column else "normal",
            ha="center",
            va="center",
            linespacing=1.25,
        )
    side = size - 0.5 + 0.1 / cell_inches
    axes.text(side, -0.5 - 0.06 / cell_inches, "recall", size=9, color=QUIET)
    for row, total in enumerate(labelled):
        recall = f"{100 * shares[row, row]:.1f} %" if total else "–"
        axes.text(side, row, f"{recall}\nof {total}", va="center", size=8, linespacing=1.25)


def _mean_over_folds(lines: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean per epoch, as far as every fold got: past a fold's end it would jump with who is left."""
    return np.mean([line[: min(map(len, lines))] for line in lines], axis=0)


def curves(
    histories: Mapping[str, Mapping[str, Sequence[float | None]]],
    path: str | os.PathLike[str],
    *,
    selected_epochs: Mapping[str, int | None],
    keep: str = BEST,
    title: str = "Training, fold by fold",
    stamps: Sequence[str] = (),
    chance: float | None = None,
) -> list[Path]:
    """Training loss, validation loss, validation UA and test UA by epoch; a panel for each that was recorded.

    Args:
        histories: fold → column → value per epoch. UA is a share from 0 to 1; None is a gap.
        path: without suffix: `.png`, `.svg` and `.pdf` are written.
        selected_epochs: fold → the epoch whose weights were kept; the first epoch is 1.
        keep: which weights the training ended with, as `--keep` names them; a mean is of no one epoch, and no
            dot is drawn.
        stamps: what the reader must know of the result; shown below the title.
        chance: the UA of guessing, from 0 to 1; a line in the panels of UA.

    Returns:
        The files written.

    Raises:
        ValueError: the histories have no column that is drawn.
    """
    panels = [panel for panel in PANELS if any(panel[0] in history for history in histories.values())]
    if not panels:
        raise ValueError(f"histories have none of the columns {', '.join(name for name, *_ in PANELS)}")
    columns = 2 if len(panels) == 4 else len(panels)
    rows = -(-len(panels) // columns)
    width = max(3.5 * columns, 4.6)
    several = len(histories) > 1
    averaged = keep == MEAN
    notes = ["dot: the epoch whose weights were kept"]
    if averaged:
        notes = ["kept: the mean of the weights over the last quarter of the epochs"]
    if several:
        notes.insert(0, f"thin: each of {len(histories)} folds; bold: their mean, as far as all of them got")
    with page.style():
        figure = page.figure_below_head(title, stamps, notes, width_inches=width, body_inches=2.6 * rows)
        for axes, (column, label, color) in zip(
            figure.subplots(rows, columns, squeeze=False).flat, panels, strict=True
        ):
            scale = 100 if column.endswith("_ua") else 1
            lines = {
                fold: scale * np.array(history[column], float)
                for fold, history in histories.items()
                if column in history
            }
            for fold, line in lines.items():
                axes.plot(
                    np.arange(1, len(line) + 1),
                    line,
                    marker="o" if len(line) == 1 else None,  # a line through one point is invisible
                    color=color,
                    alpha=(0.3 if len(histories) > 4 else 0.5) if several else 1,
                    linewidth=0.8 if several else 1.8,
                )
                epoch = None if averaged else selected_epochs.get(fold)
                if epoch is not None and 1 <= epoch <= len(line):
                    kept = {"color": MARK, "markersize": 4, "markeredgecolor": "white", "zorder": 4}
                    axes.plot(epoch, line[epoch - 1], "o", **kept)
            if several:
                mean = _mean_over_folds(list(lines.values()))
                axes.plot(np.arange(1, len(mean) + 1), mean, color=color, linewidth=2.2, zorder=3)
            if chance is not None and column.endswith("_ua"):
                _draw_chance(axes, 100 * chance)
            _epochs(axes, max(map(len, lines.values())))
            axes.set_title(label, loc="left", size=10)
            axes.set_xlabel("epoch")
            axes.grid(color=PALE, linewidth=0.5, alpha=0.6)
            axes.set_axisbelow(True)
        return page.save(figure, path)


def _draw_chance(axes, percent: float) -> None:
    """A line at the UA of guessing, with its name; the axes reach down to it."""
    axes.axhline(percent, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    look: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate("chance", (1, percent), (-2, 3), ha="right", size=8, color=QUIET, **look)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, percent - 3), high)


def _epochs(axes, count: int) -> None:
    """The axis of epochs: from the first, which is 1, to the last."""
    axes.set_xlim((0.5, 1.5) if count == 1 else (1 - 0.03 * (count - 1), count + 0.03 * (count - 1)))
    ticks = MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]).tick_values(1, count)
    inner = [int(tick) for tick in ticks if 1 < tick <= count]
    # A tick right beside the first would hide its number.
    axes.set_xticks([1, *(tick for tick in inner if tick - 1 >= 0.08 * count)])


# So many marks of about the same size stay apart as rings in one another.
_MOST_NESTED = 3


def _neighbours(sizes: Sequence[int]) -> list[list[int]]:
    """The places of sizes that lie within 1.5 % of the largest from one to the next."""
    groups: list[list[int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        if groups and sizes[i] - sizes[groups[-1][-1]] < 0.015 * max(sizes):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def size_against_ua(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str,
    stamps: Sequence[str] = (),
    size_label: str = "size of the .tflite file (kB)",
) -> list[Path]:
    """UA against file size, one point per precision or run.

    Where many are of about the same size, that axis would say nothing: then each has a row of its own.

    Args:
        rows: name (str), bytes (int), ua, and ua_low, ua_high (shares from 0 to 1, or None where there is no
            interval).
        path: without suffix: `.png`, `.svg` and `.pdf` are written.
        stamps: what the reader must know of the results; shown below the title.

    Returns:
        The files written.
    """
    intervals = any(row.get("ua_low") is not None for row in rows)
    notes = ["bars: 95 % interval over test speakers"] if intervals else []
    groups = _neighbours([row["bytes"] for row in rows])
    draw = _draw_sizes if max(map(len, groups)) <= _MOST_NESTED else _draw_size_rows
    return draw(rows, path, head=(title, stamps, notes), size_label=size_label, groups=groups)


def _percents(row: Mapping[str, Any]) -> tuple[float, list[float]]:
    """A row's UA and the ends of its interval, of which there may be none."""
    low, high = row.get("ua_low"), row.get("ua_high")
    return 100 * row["ua"], [] if low is None or high is None else [100 * low, 100 * high]


def _ua_range(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The axis of UA: five points at least, so that a tenth of a point does not look like a cliff."""
    ends = [value for row in rows for ua, interval in [_percents(row)] for value in (ua, *interval)]
    middle, half = (min(ends) + max(ends)) / 2, max((max(ends) - min(ends)) * 0.55, 2.5)
    return max(middle - half, -1), min(middle + half, 101)


def _draw_sizes(rows, path, *, head, size_label: str, groups: Sequence[Sequence[int]]) -> list[Path]:
    """Points at their sizes; of those of about the same size each one is smaller than the one behind it."""
    depth = {i: k for group in groups for k, i in enumerate(group)}
    labels = [
        f"{textwrap.fill(row['name'], 34)}\n{row['bytes'] / 1000:,.0f} kB, {100 * row['ua']:.1f} %"
        for row in rows
    ]
    with page.style():
        legend_inches = 0.7 + max(page.text_inches(label, 9) for label in labels)
        lines = sum(label.count("\n") + 1.8 for label in labels)
        figure = page.figure_below_head(
            *head, width_inches=4.8 + legend_inches, body_inches=max(3.1, 0.5 + 0.16 * lines)
        )
        axes = figure.subplots()
        for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
            color, marker = POINT_COLORS[number % 6], POINT_MARKERS[(number + number // 6) % 6]
            kilobytes, (ua, interval) = row["bytes"] / 1000, _percents(row)
            nested = depth[number]
            if interval:
                bar: dict[str, Any] = {"marker": "_", "markersize": 9 - 2 * nested}
                bar |= {"linewidth": 2.4 - 0.7 * nested, "zorder": 2 + 0.1 * nested}
                axes.plot([kilobytes] * 2, interval, color=color, solid_capstyle="butt", **bar)
            look: dict[str, Any] = {"markersize": 10 - 2.5 * nested, "markeredgecolor": "white"}
            axes.plot(
                kilobytes,
                ua,
                color=color,
                marker=marker,
                linestyle="none",
                zorder=3 + nested,
                label=label,
                **look,
            )
        axes.set_ylim(*_ua_range(rows))
        axes.set_xlim(0, 1.12 * max(row["bytes"] for row in rows) / 1000)
        axes.set_xlabel(size_label)
        axes.set_ylabel("UA (%)")
        axes.grid(color=PALE, linewidth=0.5, alpha=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=0.9)
        return page.save(figure, path)


def _draw_size_rows(rows, path, *, head, size_label: str, groups: Sequence[Sequence[int]]) -> list[Path]:
    """A row per point, the smallest size first; the sizes stand beside the names."""
    order = [i for group in groups for i in sorted(group)]
    names = [
        f"{textwrap.fill(row['name'], 34)}\n{row['bytes'] / 1000:,.0f} kB, {100 * row['ua']:.1f} %"
        for row in (rows[i] for i in order)
    ]
    title, stamps, notes = head
    with page.style():
        left = 0.5 + max(page.text_inches(name, 9) for name in names)
        body = 0.7 + sum(0.16 * name.count("\n") + 0.24 for name in names)
        notes = [*notes, f"kB: {size_label.partition(' (kB)')[0]}"]
        figure = page.figure_below_head(title, stamps, notes, width_inches=left + 4, body_inches=body)
        axes = figure.subplots()
        for place, i in enumerate(order):
            ua, interval = _percents(rows[i])
            if interval:
                axes.plot(interval, [place] * 2, color=PALE, linewidth=3, solid_capstyle="butt")
            axes.plot(ua, place, "o", color=POINT_COLORS[0], markersize=7, markeredgecolor="white", zorder=3)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(*_ua_range(rows))
        axes.set_xlabel("UA (%)")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=PALE, linewidth=0.5, alpha=0.6)
        axes.set_axisbelow(True)
        return page.save(figure, path)


def reliability(
    panels: Mapping[str, Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str,
    stamps: Sequence[str] = (),
) -> list[Path]:
    """Accuracy against confidence, a panel each, and below how many predictions are how confident.

    Args:
        panels: name → what `evaluation.calibration` gives.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    notes = [
        "dot: a bin's predictions, larger for more; on the diagonal, probabilities are true",
        "grey: where 95 % of the dots would lie if they were, with so few predictions",
    ]
    most = max(each["count"] for calibration in panels.values() for each in calibration["reliability"])
    with page.style():
        width = max(3.6 * len(panels), 5.4)
        figure = page.figure_below_head(title, stamps, notes, width_inches=width, body_inches=5.1)
        axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1])
        for (above, below), (name, calibration) in zip(axes.T, panels.items(), strict=True):
            above.plot([0, 100], [0, 100], color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
            for each in calibration["reliability"]:
                confidence, accuracy = 100 * each["confidence"], 100 * each["accuracy"]
                low, high = (100 * end for end in each["expected"])
                above.plot(
                    [confidence] * 2, [low, high], color=PALE, linewidth=6, solid_capstyle="butt", zorder=0
                )
                above.plot(
                    [confidence] * 2, [confidence, accuracy], color=VALIDATION, linewidth=1.4, zorder=2
                )
                dot = {"color": TRAIN, "markeredgecolor": "white", "zorder": 3, "clip_on": False}
                size = 3.5 + 5.5 * np.sqrt(each["count"] / most)
                above.plot(confidence, accuracy, "o", markersize=size, **dot)
                middle, wide = 50 * (each["low"] + each["high"]), 92 * (each["high"] - each["low"])
                right = each["count"] * each["accuracy"]
                below.bar(middle, right, wide, color=TRAIN)
                below.bar(middle, each["count"] - right, wide, bottom=right, color=VALIDATION)
                below.text(middle, each["count"] + 0.03 * most, each["count"], ha="center", size=6.5)
            # Above the axes: a dot may lie anywhere inside.
            above.set_title(name, loc="left", size=10, weight="bold", pad=30)
            numbers = (
                f"ECE {100 * calibration['ece']:.1f} % "
                f"(by chance {100 * calibration['ece_by_chance']:.1f} %), NLL {calibration['nll']:.3f}\n"
                f"mean confidence {100 * calibration['confidence']:.1f} %, "
                f"right {100 * calibration['accuracy']:.1f} %"
            )
            above.annotate(numbers, (0, 1), (0, 4), "axes fraction", "offset points", va="bottom", size=8)
            above.set_xlim(0, 100)
            above.set_ylim(0, 100)
            above.set_xticks(range(0, 101, 20))
            above.grid(color=PALE, linewidth=0.5, alpha=0.6)
            above.set_axisbelow(True)
            below.set_ylim(0, 1.22 * most)
            below.set_xlabel("confidence: the largest probability (%)")
            below.yaxis.get_major_locator().set_params(integer=True, nbins=3)
        axes[0, 0].set_ylabel("right (%)")
        axes[1, 0].set_ylabel("predictions")
        marks = [Line2D([], [], color=color, marker="s", linestyle="none") for color in (TRAIN, VALIDATION)]
        beside = {"loc": "lower left", "bbox_to_anchor": (-0.04, 0.95), "ncols": 2, "columnspacing": 1.0}
        axes[1, 0].legend(marks, ["right", "wrong"], frameon=False, handletextpad=0.2, **beside)
        return page.save(figure, path)
