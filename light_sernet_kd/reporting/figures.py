"""Pictures of a run: the confusion matrix, how training went, size against UA; and of what a network sees.

Same inputs, same bytes: no time stamps, no settings of the user's matplotlib, no global state (pyplot).
"""

import os
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd.files import atomic

INK, QUIET, PALE, ALARM = "#1a1a1a", "#5f6368", "#c3c8ce", "#b00020"
# Okabe and Ito's colours, told apart with every common colour vision; the markers differ as well.
TRAIN, VALIDATION, MARK = "#0072B2", "#D55E00", "#000000"
POINT_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
POINT_MARKERS = "osD^vP"
# All eight of Okabe and Ito; the yellow is darker than theirs, to be seen on white.
CLASS_COLORS = (*POINT_COLORS, "#A89B00", "#000000")
GROUP_MARKERS = "oXsD^vP*<>ph"
PANELS = (
    ("loss", "training loss", TRAIN),
    ("val_loss", "validation loss", VALIDATION),
    ("val_ua", "validation UA (%)", VALIDATION),
    ("test_ua", "test UA (%)", INK),
)
# Comes with matplotlib, so every machine draws the same; the others give the letters it lacks.
FONT = "DejaVu Sans"
FURTHER_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Noto Sans Devanagari", "Noto Sans Bengali",
    "Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Ethiopic", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "NanumGothic", "IPAGothic", "Droid Sans Fallback", "Microsoft YaHei", "Malgun Gothic", "Yu Gothic",
    "Nirmala UI", "Leelawadee UI", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS",
)  # fmt: skip
STYLE = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,  # a class or file may have "$" in its name
    "pdf.fonttype": 42,  # journals refuse Type 3 fonts
    "savefig.dpi": 160,
}


@cache
def _fonts() -> list[str]:
    return [FONT, *(name for name in FURTHER_FONTS if name in fontManager.get_font_names())]


def letters_without_font(texts: Iterable[str]) -> str:
    """The letters that pictures show as boxes, because no font here has them."""
    known = set().union(*(get_font(findfont(name)).get_charmap() for name in _fonts()))
    return "".join(sorted({letter for letter in "".join(texts) if ord(letter) not in known}))


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.family": _fonts(), **STYLE})
        # `letters_without_font` says it once, and not for every letter and picture
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def _save(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Write `<path>.png` and `<path>.pdf`, or, where `path` ends in one of the two, that file alone."""
    path = Path(path)
    both = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf")]
    targets = [path] if path.suffix in (".png", ".pdf") else both
    unnamed: dict[str, dict[str, Any]] = {
        ".png": {"Software": None},
        ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    }
    for target in targets:
        with atomic(target) as temporary:
            figure.savefig(temporary, metadata=unnamed[target.suffix])
    return targets


def _head_lines(
    title: str, stamps: Sequence[str], notes: Sequence[str], *, width_inches: float
) -> list[tuple[str, int, str, str]]:
    """The wrapped lines above a picture, as (text, points, weight, colour)."""

    def wrap(text: str, points: int, weight: str, color: str) -> list[tuple[str, int, str, str]]:
        # Mean letter widths of DejaVu Sans. The no-break space keeps a number and its % together.
        letter_inches = points * (0.0091 if weight == "bold" else 0.0081)
        lines = textwrap.wrap(text.replace(" %", "\u00a0%"), int((width_inches - 0.24) / letter_inches))
        return [(line, points, weight, color) for line in lines]

    head = wrap("SYNTHETIC RECORDINGS", 9, "bold", ALARM) if "synthetic" in title.lower() else []
    head += wrap(title, 12, "bold", INK)
    head += [line for stamp in stamps for line in wrap(stamp, 9, "normal", ALARM)]
    return head + [line for note in notes for line in wrap(note, 9, "normal", INK)]


def _line_inches(points: int) -> float:
    return points * 1.45 / 72


def _head_inches(lines: Sequence[tuple[str, int, str, str]]) -> float:
    return 0.2 + sum(_line_inches(points) for _, points, _, _ in lines)


def _draw_head(figure: Figure, lines: Sequence[tuple[str, int, str, str]]) -> None:
    width, height = figure.get_size_inches()
    inches = 0.1
    for text, points, weight, color in lines:
        at = (0.12 / width, 1 - inches / height)
        figure.text(*at, text, size=points, weight=weight, color=color, va="top")
        inches += _line_inches(points)


def _figure_below_head(
    title: str, stamps: Sequence[str], notes: Sequence[str], *, width_inches: float, body_inches: float
) -> Figure:
    """A figure with its head drawn, whose axes are kept below it."""
    head = _head_lines(title, stamps, notes, width_inches=width_inches)
    height = _head_inches(head) + body_inches
    below = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, body_inches / height - 0.01), wspace=0.05)
    figure = Figure((width_inches, height), layout=below)
    _draw_head(figure, head)
    return figure


def _text_inches(text: str, points: float) -> float:
    """Width of the longest of `text`'s lines."""
    return max(TextPath((0, 0), line, size=points).get_extents().width for line in text.split("\n")) / 72


def _luminance(color: Sequence[float]) -> float:
    """Relative luminance of `(red, green, blue, …)` in 0..1. Source: WCAG 2.1."""
    channels = np.asarray(color[:3], float)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _text_color(background: Sequence[float]) -> str:
    """White or ink, whichever has the greater WCAG contrast ratio to the background."""
    behind, ink = _luminance(background) + 0.05, _luminance(to_rgb(INK)) + 0.05
    return "white" if 1.05 / behind > behind / ink else INK


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
        path: without suffix: `.png` and `.pdf` are written.
        title: one that contains "synthetic" is marked as such in red.
        stamps: what the reader must know of the result; shown below the title.

    Returns:
        The files written.
    """
    counts = np.asarray(matrix)
    size = len(classes)
    if counts.shape != (size, size):
        raise ValueError(f"confusion matrix of shape {counts.shape} for {size} classes")
    labelled = counts.sum(axis=1)
    shares = counts / np.maximum(labelled, 1)[:, None]
    cell = 0.62 if size > 4 else 0.9  # inches
    with _style():
        names = [textwrap.fill(name, 18, break_long_words=False) for name in classes]
        longest = max(_text_inches(name, 9) for name in names)
        slanted = longest > cell - 0.08
        left, right = 0.48 + longest, 0.85
        lines = max(name.count("\n") + 1 for name in names)
        bottom = 0.36 + 0.16 * lines + (longest * np.sqrt(0.5) if slanted else 0)
        width = max(left + cell * size + right, 4.6)
        head = _head_lines(title, stamps, (), width_inches=width)
        height = _head_inches(head) + 0.3 + cell * size + bottom
        figure = Figure((width, height))
        _draw_head(figure, head)
        box = (left / width, bottom / height, cell * size / width, cell * size / height)
        axes = figure.add_axes(box, frame_on=False)
        colors = matplotlib.colormaps["Blues"]
        axes.imshow(shares, cmap=colors, vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            share = float(shares[row, column])
            axes.text(
                column,
                row,
                f"{count}\n{100 * share:.0f} %" if labelled[row] else f"{count}\n–",
                size=8 if size > 4 else 10,
                color=_text_color(colors(share)),
                weight="bold" if row == column else "normal",
                ha="center",
                va="center",
                linespacing=1.25,
            )
        side = size - 0.5 + 0.1 / cell
        axes.text(side, -0.5 - 0.06 / cell, "recall", size=9, color=QUIET)
        for row, total in enumerate(labelled):
            recall = f"{100 * shares[row, row]:.1f} %" if total else "–"
            axes.text(side, row, f"{recall}\nof {total}", va="center", size=8, linespacing=1.25)
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
        return _save(figure, path)


def _mean_over_folds(lines: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean per epoch, as far as every fold got: past a fold's end it would jump with who is left."""
    return np.mean([line[: min(map(len, lines))] for line in lines], axis=0)


def curves(
    histories: Mapping[str, Mapping[str, Sequence[float | None]]],
    path: str | os.PathLike[str],
    *,
    selected_epochs: Mapping[str, int | None],
    title: str = "Training, fold by fold",
    stamps: Sequence[str] = (),
) -> list[Path]:
    """Training loss, validation loss, validation UA and test UA by epoch; a panel for each that was recorded.

    Args:
        histories: fold → column → value per epoch. UA is a share from 0 to 1; None is a gap.
        path: without suffix: `.png` and `.pdf` are written.
        selected_epochs: fold → the epoch whose weights were kept; the first epoch is 1.
        stamps: what the reader must know of the result; shown below the title.

    Returns:
        The files written.
    """
    panels = [panel for panel in PANELS if any(panel[0] in history for history in histories.values())]
    if not panels:
        raise ValueError(f"histories have none of the columns {', '.join(name for name, *_ in PANELS)}")
    columns = 2 if len(panels) == 4 else len(panels)
    rows = -(-len(panels) // columns)
    width = max(3.5 * columns, 4.6)
    several = len(histories) > 1
    notes = ["dot: the epoch whose weights were kept"]
    if several:
        notes.insert(0, f"thin: each of {len(histories)} folds; bold: their mean, as far as all of them got")
    with _style():
        figure = _figure_below_head(title, stamps, notes, width_inches=width, body_inches=2.6 * rows)
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
                epoch = selected_epochs.get(fold)
                if epoch is not None and 1 <= epoch <= len(line):
                    kept = {"color": MARK, "markersize": 4, "markeredgecolor": "white", "zorder": 4}
                    axes.plot(epoch, line[epoch - 1], "o", **kept)
            if several:
                mean = _mean_over_folds(list(lines.values()))
                axes.plot(np.arange(1, len(mean) + 1), mean, color=color, linewidth=2.2, zorder=3)
            axes.set_xlim(0, max(map(len, lines.values())) + 1)
            axes.set_title(label, loc="left", size=10)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(color=PALE, linewidth=0.5, alpha=0.6)
            axes.set_axisbelow(True)
        return _save(figure, path)


def _aside(sizes: Sequence[int]) -> list[float]:
    """By how many points each mark moves to the side, so that files of about the same size are all seen.

    The axis is taken to be so long that the largest size lies 260 points from its start.
    """
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    groups: list[list[int]] = []
    for i in order:
        if groups and sizes[i] - sizes[groups[-1][-1]] < 0.015 * max(sizes):
            groups[-1].append(i)
        else:
            groups.append([i])
    moved = [0.0] * len(sizes)
    for group in groups:
        first = max(-4.5 * (len(group) - 1), 9 - 260 * sizes[group[0]] / max(sizes))
        for place, i in enumerate(group if len(group) > 1 else ()):
            moved[i] = first + 9 * place
    return moved


def size_against_ua(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str,
    stamps: Sequence[str] = (),
    size_label: str = "size of the .tflite file (kB)",
) -> list[Path]:
    """UA against file size, one point per precision or run.

    Args:
        rows: name (str), bytes (int), ua, and ua_low, ua_high (shares from 0 to 1, or None where there is no
            interval).
        path: without suffix: `.png` and `.pdf` are written.
        stamps: what the reader must know of the results; shown below the title.

    Returns:
        The files written.
    """
    intervals = any(row.get("ua_low") is not None for row in rows)
    notes = ["bars: 95 % interval over test speakers"] if intervals else []
    largest, aside = max(row["bytes"] for row in rows), _aside([row["bytes"] for row in rows])
    if any(aside):
        notes.append("files of about the same size stand side by side")
    labels = [
        f"{textwrap.fill(row['name'], 34)}\n{row['bytes'] / 1000:,.0f} kB, {100 * row['ua']:.1f} %"
        for row in rows
    ]
    with _style():
        legend_inches = 0.7 + max(_text_inches(label, 9) for label in labels)
        lines = sum(label.count("\n") + 1.8 for label in labels)
        figure = _figure_below_head(
            title, stamps, notes, width_inches=4.8 + legend_inches, body_inches=max(3.1, 0.5 + 0.16 * lines)
        )
        axes = figure.subplots()
        ends = []
        for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
            color, marker = POINT_COLORS[number % 6], POINT_MARKERS[(number + number // 6) % 6]
            ua, kilobytes = 100 * row["ua"], row["bytes"] / 1000
            beside = axes.transData + ScaledTranslation(aside[number] / 72, 0, figure.dpi_scale_trans)
            ends.append(ua)
            if row.get("ua_low") is not None and row.get("ua_high") is not None:
                interval = [100 * row["ua_low"], 100 * row["ua_high"]]
                bar: dict[str, Any] = {"color": color, "marker": "_", "markersize": 8, "linewidth": 1.2}
                axes.plot([kilobytes] * 2, interval, transform=beside, **bar)
                ends += interval
            axes.plot(
                kilobytes,
                ua,
                color=color,
                marker=marker,
                linestyle="none",
                markersize=8,
                markeredgecolor="white",
                zorder=3,
                label=label,
                transform=beside,
            )
        # Five points at least, so that a tenth of a point does not look like a cliff.
        middle, half = (min(ends) + max(ends)) / 2, max((max(ends) - min(ends)) * 0.55, 2.5)
        axes.set_ylim(max(middle - half, -1), min(middle + half, 101))
        room = max(
            1.12, *(row["bytes"] / largest + (move + 9) / 260 for row, move in zip(rows, aside, strict=True))
        )
        axes.set_xlim(0, room * largest / 1000)
        axes.set_xlabel(size_label)
        axes.set_ylabel("UA (%)")
        axes.grid(color=PALE, linewidth=0.5, alpha=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=0.9)
        return _save(figure, path)


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
    most = max(each["count"] for told in panels.values() for each in told["reliability"])
    with _style():
        width = max(3.6 * len(panels), 5.4)
        figure = _figure_below_head(title, stamps, notes, width_inches=width, body_inches=5.1)
        axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1])
        for (above, below), (name, told) in zip(axes.T, panels.items(), strict=True):
            above.plot([0, 100], [0, 100], color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
            for each in told["reliability"]:
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
            told_in_numbers = (
                f"ECE {100 * told['ece']:.1f} % (by chance {100 * told['ece_by_chance']:.1f} %), "
                f"NLL {told['nll']:.3f}\n"
                f"mean confidence {100 * told['confidence']:.1f} %, right {100 * told['accuracy']:.1f} %"
            )
            above.annotate(
                told_in_numbers, (0, 1), (0, 4), "axes fraction", "offset points", va="bottom", size=8
            )
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
        return _save(figure, path)


def probabilities(
    shares: Mapping[str, ArrayLike],
    classes: Sequence[str],
    path: str | os.PathLike[str],
    *,
    label: int,
    title: str,
    stamps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Path]:
    """Bars of the classes' probabilities for one utterance, one bar per network.

    Args:
        shares: network → `(classes,)` from 0 to 1; at most three.
        label: index of the true class, which is named so.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    count, places = len(shares), np.arange(len(classes))
    names = [textwrap.fill(name, 24) + (" (label)" if i == label else "") for i, name in enumerate(classes)]
    height = 0.8 / count
    with _style():
        figure = _figure_below_head(
            title, stamps, notes, width_inches=5.6, body_inches=0.8 + (0.16 + 0.17 * count) * len(classes)
        )
        axes = figure.subplots()
        colors = (TRAIN, VALIDATION, QUIET)
        for number, ((network, values), color) in enumerate(zip(shares.items(), colors, strict=False)):
            percent = 100 * np.asarray(values, float)
            at = places + (number - (count - 1) / 2) * height
            axes.barh(at, percent, height * 0.92, color=color, label=network)
            for place, value in zip(at, percent, strict=True):
                axes.text(value + 1, place, f"{value:.1f} %", va="center", size=8)
        axes.set_yticks(places, names)
        axes.get_yticklabels()[label].set_fontweight("bold")
        axes.set_ylim(len(classes) - 0.45, -0.55)
        axes.set_xlim(0, 116)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("probability (%)")
        axes.tick_params(axis="y", length=0)
        if count > 1:
            axes.legend(loc="lower right", frameon=False, bbox_to_anchor=(1, 1), ncols=count, borderpad=0)
        return _save(figure, path)


def grad_cam(
    waveform: ArrayLike,
    features: ArrayLike,
    maps: Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    *,
    sample_rate: int,
    recorded: tuple[float, float],
    frame_seconds: ArrayLike,
    band_label: str,
    band_ticks: Sequence[tuple[float, str]],
    title: str,
    stamps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Path]:
    """A clip's waveform, its features, and over them what speaks for a class.

    Args:
        waveform: `(samples,)`; features: `(frames, bands)`, drawn in grey between their 1st and 99th
            percentile.
        maps: class → `(frames, bands)`, at least 0; all on one scale.
        recorded: seconds where the recording begins and ends; the rest is padding.
        frame_seconds: `(frames,)` of the frames' middles.
        band_ticks: (band, text) at the side.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    waveform, features = np.asarray(waveform, float), np.asarray(features, float)
    middles = np.asarray(frame_seconds, float)
    half = (middles[1] - middles[0]) / 2 if len(middles) > 1 else 0.5 * len(waveform) / sample_rate
    box = (middles[0] - half, middles[-1] + half, -0.5, features.shape[1] - 0.5)
    length = len(waveform) / sample_rate
    largest = max((float(np.max(found)) for found in maps.values()), default=0.0)
    dark, light = np.percentile(features, [99, 1])
    orange = to_rgba(VALIDATION)
    panels = [("features", None), *((f"Grad-CAM for {name}", found) for name, found in maps.items())]
    with _style():
        figure = _figure_below_head(
            title, stamps, notes, width_inches=6.4, body_inches=1.4 + 1.75 * len(panels)
        )
        first, *others = figure.subplots(
            1 + len(panels), 1, sharex=True, height_ratios=[0.65, *[1.0] * len(panels)]
        )
        first.plot(np.arange(len(waveform)) / sample_rate, waveform, color=TRAIN, linewidth=0.4)
        loudest = float(np.abs(waveform).max(initial=0.0)) or 1.0
        first.set_ylim(-1.08 * loudest, 1.08 * loudest)
        first.set_title("waveform", loc="left", size=10)
        first.locator_params(axis="y", nbins=3)
        for begin, end in ((0.0, recorded[0]), (recorded[1], length)):
            if end > begin:
                first.axvspan(begin, end, color=PALE, alpha=0.6, linewidth=0)
        for axes, (name, found) in zip(others, panels, strict=True):
            look: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": box}
            # paler where colour lies over them
            darkest = dark if found is None else dark + 0.8 * (dark - light)
            axes.imshow(features.T, cmap="Greys", vmin=light, vmax=max(darkest, light + 1e-9), **look)
            if found is not None:
                over = np.empty((*features.T.shape, 4))
                over[:] = orange
                over[..., 3] = 0.75 * np.asarray(found, float).T / (largest or 1.0)
                axes.imshow(over, **look)
            axes.set_title(name, loc="left", size=10)
            axes.set_yticks([place for place, _ in band_ticks], [text for _, text in band_ticks])
            axes.set_ylabel(band_label)
        others[-1].set_xlabel("time (s)")
        first.set_xlim(0, length)
        return _save(figure, path)


@dataclass(frozen=True)
class Panel:
    """Utterances on a plane, for `embeddings`.

    Attributes:
        points: `(utterances, 2)`.
        labels: class indices `(utterances,)`, shown by colour.
        groups: a name for each utterance, shown by the marker: right or wrong, or the speaker.
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
    """Embeddings on planes: colour is the emotion, whose name stands at the middle of its utterances.

    Args:
        panels: each with axes of its own, two in a row. Up to 12 groups have markers; more have none.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    groups = sorted({group for panel in panels for group in panel.groups})
    markers = dict(zip(groups, GROUP_MARKERS, strict=False))
    if len(groups) > len(GROUP_MARKERS):
        notes = [*notes, f"{len(groups)} groups are more than there are markers: all are circles"]
        markers = dict.fromkeys(groups, "o")
    present = sorted({int(label) for panel in panels for label in panel.labels})

    def look(label: int) -> dict[str, Any]:
        color = CLASS_COLORS[label % len(CLASS_COLORS)]
        hollow = label >= len(CLASS_COLORS)
        return {
            "markerfacecolor": "white" if hollow else color,
            "markeredgecolor": color if hollow else "white",
            "markeredgewidth": 1.2 if hollow else 0.5,
            "linestyle": "none",
        }

    entries = [Line2D([], [], marker="o", markersize=7, label=classes[i], **look(i)) for i in present]
    if len(set(markers.values())) > 1:
        gray: dict[str, Any] = {"color": QUIET, "linestyle": "none", "markeredgecolor": "white"}
        entries += [Line2D([], [], marker=markers[name], markersize=7, label=name, **gray) for name in groups]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with _style():
        for entry in entries:
            entry.set_label(textwrap.fill(str(entry.get_label()), 24))
        legend_inches = 0.55 + max(_text_inches(str(entry.get_label()), 9) for entry in entries)
        lines = sum(str(entry.get_label()).count("\n") + 1.35 for entry in entries)
        figure = _figure_below_head(
            title,
            stamps,
            notes,
            width_inches=3.5 * columns + legend_inches + 0.2,
            body_inches=max(3.3 * rows, 0.5 + 0.15 * lines),
        )
        grid = figure.add_gridspec(rows, columns + 1, width_ratios=[*[3.5] * columns, legend_inches])
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(grid[number // columns, number % columns])
            _draw_panel(axes, panel, classes, markers, look)
        side = figure.add_subplot(grid[:, -1])
        side.set_axis_off()
        side.legend(handles=entries, loc="center left", frameon=False, borderaxespad=0, borderpad=0)
        return _save(figure, path)


def _draw_panel(axes, panel: Panel, classes: Sequence[str], markers: Mapping[str, str], look) -> None:
    groups = np.array(panel.groups)
    points, labels = np.asarray(panel.points, float), np.asarray(panel.labels)
    for label in np.unique(labels):
        for group in np.unique(groups[labels == label]):
            x, y = points[(labels == label) & (groups == group)].T
            axes.plot(x, y, marker=markers[group], markersize=6, alpha=0.85, **look(int(label)))
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
    names = [_tick(classes[label]) for label in shown]
    # at the sides they stay within the axes
    half = np.array([_text_inches(name, 9) for name in names]) / 2 / 2.6 * span[0]
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
    widths = [_text_inches(name, 9) for name in names]
    for i in np.argsort(middles[:, 1], kind="stable").tolist():
        for j in placed:
            across, up = np.abs(places[i] - places[j]) / span * 2.6
            if across < (widths[i] + widths[j]) / 2 and up < 0.15:
                places[i, 1] = places[j, 1] + 0.15 / 2.6 * span[1]
        placed.append(i)
        placed.sort(key=lambda each: places[each, 1])
    return places


def similarity(
    matrices: Mapping[str, ArrayLike],
    labels: ArrayLike,
    classes: Sequence[str],
    path: str | os.PathLike[str],
    *,
    mark: int | None = None,
    title: str,
    stamps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Path]:
    """Cosine similarity of every utterance with every other, one square per network.

    Args:
        matrices: network → `(utterances, utterances)` from -1 to 1, sorted by class.
        labels: class indices `(utterances,)` in ascending order.
        mark: the utterance that gets a triangle at the side.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    labels = np.asarray(labels)
    if (np.diff(labels) < 0).any():
        raise ValueError("utterances are not sorted by class")
    shown, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    names = [_tick(classes[label]) for label in shown]
    with _style():
        longest = max(_text_inches(name, 8) for name in names)
        figure = _figure_below_head(
            title,
            stamps,
            notes,
            width_inches=3.2 * len(matrices) + longest + 1.0,
            body_inches=3.4 + 0.75 * longest,
        )
        # slanted names reach further down than the layout knows
        layout, raised = figure.get_layout_engine(), 0.12 / figure.get_figheight()
        if isinstance(layout, ConstrainedLayoutEngine):
            left, bottom, wide, high = layout.get()["rect"]
            layout.set(rect=(left, bottom + raised, wide, high - raised))
        panels = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
        for axes, (network, matrix) in zip(panels, matrices.items(), strict=True):
            # blue, white and orange are told apart with every common colour vision
            image = axes.imshow(np.asarray(matrix), cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest")
            axes.set_title(network, loc="left", size=10)
            for start in starts[1:]:
                axes.axhline(start - 0.5, color=INK, linewidth=0.5)
                axes.axvline(start - 0.5, color=INK, linewidth=0.5)
            middles = starts + (counts - 1) / 2
            axes.set_xticks(middles, names, rotation=45, ha="right", rotation_mode="anchor", size=8)
            axes.set_yticks(middles, names, size=8)
            axes.tick_params(length=0)
            if mark is not None:
                at = {"clip_on": False, "color": ALARM, "markersize": 7}
                axes.plot(len(labels) - 0.5, mark, marker="<", **at)
                axes.plot(mark, -0.5, marker="v", **at)
            axes.set_xlim(-0.5, len(labels) - 0.5)
            axes.set_ylim(len(labels) - 0.5, -0.5)
        bar = figure.colorbar(image, ax=panels.tolist(), shrink=0.7, pad=0.03)
        bar.set_label("cosine similarity")
        bar.outline.set_visible(False)
        return _save(figure, path)


def state_similarity(
    values: ArrayLike,
    names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    label: str = "cosine similarity of student's and teacher's states",
    title: str,
    stamps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Path]:
    """A bar per token, patch or utterance, from -1 to 1; the mean is a line.

    Args:
        values: `(entries,)`; NaN, which padding has, is left without a bar.
        names: `(entries,)`; written as far as there is room.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    values = np.asarray(values, float)
    if values.shape != (len(names),):
        raise ValueError(f"similarities of shape {values.shape} for {len(names)} names")
    known = values[~np.isnan(values)]
    width = float(np.clip(0.24 * len(names) + 1.2, 4.6, 12))
    places = _thinned(len(names), most=int((width - 0.9) / 0.16))
    texts = [_tick(names[i]) for i in places]
    with _style():
        longest = max((_text_inches(text, 8) for text in texts), default=0.0)
        if known.size:
            notes = [*notes, f"line: mean, {known.mean():.3f}"]
        figure = _figure_below_head(title, stamps, notes, width_inches=width, body_inches=2.6 + longest)
        axes = figure.subplots()
        axes.bar(np.arange(len(values)), values, 0.8, color=TRAIN)
        if known.size:
            axes.axhline(known.mean(), color=VALIDATION, linewidth=1.4)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.set_xticks(places, texts, rotation=90, size=8)
        axes.set_xlim(-0.6, len(values) - 0.4)
        axes.set_ylim(min(0.0, 1.05 * float(known.min(initial=0.0))), 1.02)
        axes.set_ylabel("\n".join(textwrap.wrap(label, 32)))
        return _save(figure, path)


def _tick(name: str) -> str:
    """A name that fits beside a tick; a space that is a token is seen."""
    return (name if len(name) <= 18 else f"{name[:17]}…") if name.strip() else "␣"


def _thinned(count: int, *, most: int) -> list[int]:
    """Evenly spaced places, at most `most` of them."""
    return list(range(0, count, max(1, -(-count // max(1, most)))))


def attention(
    weights: ArrayLike,
    path: str | os.PathLike[str],
    *,
    queries: Sequence[str],
    keys: Sequence[str],
    title: str,
    stamps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Path]:
    """Attention of one layer for one utterance: the mean over its heads, and beside it each head.

    The heads share a scale; that of the mean, which is flatter, stands beside it.

    Args:
        weights: `(heads, queries, keys)`, padding left out; each row sums to 1 where nothing was masked.
        queries, keys: what the rows and the columns are: tokens, or patches in seconds
            (`explain.attention_labels`); written as far as there is room.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    weights = np.asarray(weights, float)
    if weights.ndim != 3 or weights.shape[1:] != (len(queries), len(keys)):
        raise ValueError(
            f"attention of shape {weights.shape} for {len(queries)} queries and {len(keys)} keys"
        )
    heads = len(weights)
    side = float(np.clip(0.17 * max(len(queries), len(keys)), 2.6, 5.5))  # inches of the mean's longer side
    columns = 2 if heads > 1 else 0
    most, mean_weights = float(weights.max()), weights.mean(axis=0)
    if columns:
        notes = [*notes, f"the heads on one scale from 0 to {most:.2f}"]
    places = [_thinned(len(names), most=int(side / 0.15)) for names in (queries, keys)]
    texts = [[_tick(names[i]) for i in at] for names, at in zip((queries, keys), places, strict=True)]
    with _style():
        left, below = (max(_text_inches(text, 8) for text in of) for of in texts)
        small = [side * 0.5] * columns
        body = side + below + 0.9
        figure = _figure_below_head(
            title,
            stamps,
            notes,
            width_inches=side + left + sum(small) + 1.6 + 0.2 * columns,
            body_inches=max(body, 1.1 * -(-heads // 2) if columns else 0),
        )
        rows = max(1, -(-heads // 2))
        grid = figure.add_gridspec(rows, 1 + columns, width_ratios=[side + left, *small])
        look: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "aspect": "auto", "interpolation": "nearest"}
        mean = figure.add_subplot(grid[:, 0])
        image = mean.imshow(mean_weights, vmax=mean_weights.max() or 1.0, **look)
        mean.set_title(f"mean of {heads} heads" if heads > 1 else "the one head", loc="left", size=10)
        for axis, at, of in zip((mean.yaxis, mean.xaxis), places, texts, strict=True):
            axis.set_ticks(at, of, size=8)
        mean.tick_params(axis="x", rotation=90)
        mean.set_xlabel("attended to")
        mean.set_ylabel("from")
        others = [mean]
        for head in range(heads if columns else 0):
            axes = figure.add_subplot(grid[head // 2, 1 + head % 2])
            axes.imshow(weights[head], vmax=most or 1.0, **look)
            axes.set_title(f"head {head + 1}", loc="left", size=8)
            axes.set_xticks([])
            axes.set_yticks([])
            others.append(axes)
        for axes in others:
            axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=mean, fraction=0.05, pad=0.02)
        bar.set_label("mean attention")
        bar.outline.set_visible(False)
        return _save(figure, path)


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
    names, kinds = [name for name, _ in conditions], [kind for _, kind in conditions]
    edges = [row - 0.5 for row in range(1, len(kinds)) if kinds[row] != kinds[row - 1]]
    several = len(students) > 1
    notes = [
        f"UA on {names[0]} recordings: " + ", ".join(f"{s['name']} {100 * s['ua']:.1f} %" for s in students)
    ]
    if any(change["interval"] for student in students for change in student["changes"]):
        notes.append("bars: 95 % interval of the paired difference, over speakers")
    row_inches, cell = 0.3 if len(students) < 3 else 0.1 * len(students), 0.46
    with _style():
        left = 0.35 + max(_text_inches(name, 9) for name in names)
        maps = [cell * len(student["classes"]) for student in students]
        longest = max(_text_inches(name, 8) for student in students for name in student["classes"])
        heads = [
            textwrap.wrap(f"recall (%), {s['name']}", max(12, int(m / 0.075)))
            for s, m in zip(students, maps, strict=True)
        ]
        top = 0.12 + 0.75 * longest + 0.16 * max(map(len, heads))
        drop, gap, bottom = 3.4, 0.25, 0.85 if several else 0.6
        width = left + drop + sum(gap + each for each in maps) + 0.75 * longest + 0.1
        head = _head_lines(title, stamps, notes, width_inches=width)
        body = row_inches * len(names)
        height = _head_inches(head) + top + body + bottom
        figure = Figure((width, height))
        _draw_head(figure, head)

        def panel(x: float, wide: float):
            axes = figure.add_axes((x / width, bottom / height, wide / width, body / height))
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            for edge in edges:
                axes.axhline(edge, color=PALE if x == left else "white", linewidth=0.8 if x == left else 3)
            return axes

        axes = panel(left, drop)
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
        colors = matplotlib.colormaps["Blues"]
        for student, wide, lines in zip(students, maps, heads, strict=True):
            x += gap
            shares = np.array(student["recalls"], float)
            axes = panel(x, wide)
            axes.imshow(shares, cmap=colors, vmin=0, vmax=1, aspect="auto")
            for (row, column), share in np.ndenumerate(shares):
                known = np.isfinite(share)
                color = _text_color(colors(share)) if known else QUIET
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
            at = (bottom + body + 0.12 + 0.75 * longest) / height
            figure.text(x / width, at, "\n".join(lines), size=9, va="bottom", linespacing=1.25)
            x += wide
        return _save(figure, path)


def timeline(
    envelope: ArrayLike,
    shares: ArrayLike,
    borders: ArrayLike,
    segments: Sequence[tuple[float, float, str, str]],
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str],
    stretch_seconds: float,
    unsure_below: float,
    title: str,
    notes: Sequence[str] = (),
) -> list[Path]:
    """A recording's waveform, above it what was heard in it, below it the probabilities over time.

    Args:
        envelope: `(stretches, 2)`, the lowest and highest sample of equal stretches of `stretch_seconds`.
        shares: `(windows, classes)` from 0 to 1; a row of NaN is a gap.
        borders: `(windows + 1,)` in seconds: the time that each window speaks for, to the sound's end.
        segments: start, end in seconds, label and, where it is none of `classes`, why.
        unsure_below: drawn as a line.
        path: as for `curves`.

    Returns:
        The files written.
    """
    shares, borders, envelope = (np.asarray(array, float) for array in (shares, borders, envelope))
    if shares.shape != (len(borders) - 1, len(classes)):
        raise ValueError(f"{shares.shape} probabilities for {len(borders)} borders, {len(classes)} classes")
    end = borders[-1]
    colors = {name: CLASS_COLORS[i % len(CLASS_COLORS)] for i, name in enumerate(classes)}
    dashes = {name: "-" if i < len(CLASS_COLORS) else "--" for i, name in enumerate(classes)}
    width = float(np.clip(0.12 * end + 6, 7, 12))
    with _style():
        figure = _figure_below_head(title, (), notes, width_inches=width, body_inches=4.4)
        grid = figure.add_gridspec(3, 2, height_ratios=[0.35, 1.3, 2.4], width_ratios=[width, 0.01])
        strip, wave, lines = (figure.add_subplot(grid[row, 0]) for row in range(3))
        # The axes' width is what the legend and the ticks leave.
        room = (width - 1.1 - max(_text_inches(name, 9) for name in (*classes, "unsure below"))) / end
        for label, why in dict.fromkeys((label, why) for _, _, label, why in segments):
            spans = [(start, stop) for start, stop, *what in segments if what == [label, why]]
            color = PALE if why else colors[label]
            look: dict[str, Any] = {"facecolor": "white" if why else color, "linewidth": 0.8}
            look |= {"edgecolor": color if why else "white", "hatch": "////" if why == "not sure" else None}
            strip.broken_barh([(start, stop - start) for start, stop in spans], (0, 1), **look)
            names = [f"unsure: {why}", why] if why else [_tick(label)]
            needed = [_text_inches(name, 8) + 0.08 for name in names]
            look = {"color": INK if why else _text_color(to_rgba(color)), "ha": "center", "va": "center"}
            look |= {"path_effects": [withStroke(linewidth=3, foreground="white")] if why else []}
            for start, stop in spans:
                fitting = [i for i, inches in enumerate(needed) if inches < (stop - start) * room]
                if fitting:
                    strip.text((start + stop) / 2, 0.5, names[fitting[0]], size=8, **look)
        strip.set_ylim(0, 1)
        strip.set_yticks([])
        strip.spines[:].set_visible(False)
        times = np.arange(len(envelope)) * stretch_seconds
        wave.fill_between(times, envelope[:, 0], envelope[:, 1], step="post", color=QUIET, linewidth=0.4)
        top = 1.05 * max(float(np.abs(envelope).max(initial=0.0)), 1e-3)
        wave.set_ylim(-top, top)
        wave.set_ylabel("amplitude")
        for i, name in enumerate(classes):
            look = {"color": colors[name], "linestyle": dashes[name], "linewidth": 1.6, "baseline": None}
            lines.stairs(shares[:, i], borders, label=name, **look)
        lines.axhline(unsure_below, color=QUIET, linewidth=0.9, linestyle=":", label="unsure below")
        lines.set_ylim(0, 1.02)
        lines.set_ylabel("smoothed probability")
        lines.grid(color=PALE, linewidth=0.5, alpha=0.6)
        lines.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, borderaxespad=0)
        for axes in (strip, wave, lines):
            axes.set_xlim(0, end)
            axes.tick_params(axis="x", labelbottom=axes is lines, length=3 if axes is lines else 0)
        if end > 120:
            lines.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 1.5, 3, 6, 10]))
            lines.xaxis.set_major_formatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02}")
        lines.set_xlabel("time (min:s)" if end > 120 else "time (s)")
        return _save(figure, path)
