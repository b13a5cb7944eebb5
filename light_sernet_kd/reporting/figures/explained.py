"""Pictures of one utterance and what a network makes of it; and of how alike utterances are."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.figures.page import ALARM, INK, PALE, QUIET, TRAIN, VALIDATION

# Orange, white and blue are told apart with every common colour vision.
UNLIKE_TO_ALIKE = LinearSegmentedColormap.from_list("unlike to alike", ["#ff8a1f", "#ffffff", "#12497f"])


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
    with page.style():
        figure = page.figure_below_head(
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
        return page.save(figure, path)


@dataclass(frozen=True)
class Clip:
    """What a network is given of a recording, for `grad_cam`.

    Attributes:
        waveform: `(samples,)`.
        features: `(frames, bands)`, drawn in grey between their 1st and 99th percentile.
        recorded: seconds where the recording begins and ends; the rest is padding.
        frame_seconds: `(frames,)` of the frames' middles.
        band_ticks: (band, text) at the side.
    """

    waveform: ArrayLike
    features: ArrayLike
    sample_rate: int
    recorded: tuple[float, float]
    frame_seconds: ArrayLike
    band_label: str
    band_ticks: Sequence[tuple[float, str]]


def grad_cam(
    clip: Clip,
    maps: Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    *,
    title: str,
    stamps: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> list[Path]:
    """A clip's waveform, its features, and over them what speaks for a class.

    Args:
        maps: class → `(frames, bands)`, at least 0; all on one scale.
        path: as for `curves`, and so for `stamps`.

    Returns:
        The files written.
    """
    waveform, features = np.asarray(clip.waveform, float), np.asarray(clip.features, float)
    middles = np.asarray(clip.frame_seconds, float)
    length = len(waveform) / clip.sample_rate
    half = (middles[1] - middles[0]) / 2 if len(middles) > 1 else 0.5 * length
    box = (middles[0] - half, middles[-1] + half, -0.5, features.shape[1] - 0.5)
    largest = max((float(np.max(weights)) for weights in maps.values()), default=0.0)
    dark, light = np.percentile(features, [99, 1])
    orange = to_rgba(VALIDATION)
    panels = [("features", None), *((f"Grad-CAM for {name}", weights) for name, weights in maps.items())]
    with page.style():
        figure = page.figure_below_head(
            title, stamps, notes, width_inches=6.4, body_inches=1.4 + 1.75 * len(panels)
        )
        first, *others = figure.subplots(
            1 + len(panels), 1, sharex=True, height_ratios=[0.65, *[1.0] * len(panels)]
        )
        first.plot(np.arange(len(waveform)) / clip.sample_rate, waveform, color=TRAIN, linewidth=0.4)
        loudest = float(np.abs(waveform).max(initial=0.0)) or 1.0
        first.set_ylim(-1.08 * loudest, 1.08 * loudest)
        first.set_title("waveform", loc="left", size=10)
        first.locator_params(axis="y", nbins=3)
        for begin, end in ((0.0, clip.recorded[0]), (clip.recorded[1], length)):
            if end > begin:
                first.axvspan(begin, end, color=PALE, alpha=0.6, linewidth=0)
        for axes, (name, weights) in zip(others, panels, strict=True):
            look: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": box}
            # paler where colour lies over them
            darkest = dark if weights is None else dark + 0.8 * (dark - light)
            axes.imshow(features.T, cmap="Greys", vmin=light, vmax=max(darkest, light + 1e-9), **look)
            if weights is not None:
                over = np.empty((*features.T.shape, 4))
                over[:] = orange
                over[..., 3] = 0.75 * np.asarray(weights, float).T / (largest or 1.0)
                axes.imshow(over, **look)
            axes.set_title(name, loc="left", size=10)
            axes.set_yticks([place for place, _ in clip.band_ticks], [text for _, text in clip.band_ticks])
            axes.set_ylabel(clip.band_label)
        others[-1].set_xlabel("time (s)")
        first.set_xlim(0, length)
        return page.save(figure, path)


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

    Raises:
        ValueError: the utterances are not sorted by class.
    """
    labels = np.asarray(labels)
    if (np.diff(labels) < 0).any():
        raise ValueError("utterances are not sorted by class")
    shown, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    names = [page.tick(classes[label]) for label in shown]
    with page.style():
        longest = max(page.text_inches(name, 8) for name in names)
        figure = page.figure_below_head(
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
            look: dict[str, Any] = {"vmin": -1, "vmax": 1, "interpolation": "nearest"}
            image = axes.imshow(np.asarray(matrix), cmap=UNLIKE_TO_ALIKE, **look)
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
        return page.save(figure, path)


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

    Raises:
        ValueError: there are not as many names as values.
    """
    values = np.asarray(values, float)
    if values.shape != (len(names),):
        raise ValueError(f"similarities of shape {values.shape} for {len(names)} names")
    known = values[~np.isnan(values)]
    width = float(np.clip(0.24 * len(names) + 1.2, 4.6, 12))
    places = page.thinned(len(names), most=int((width - 0.9) / 0.16))
    texts = [page.tick(names[i]) for i in places]
    with page.style():
        longest = max((page.text_inches(text, 8) for text in texts), default=0.0)
        if known.size:
            notes = [*notes, f"line: mean, {known.mean():.3f}"]
        figure = page.figure_below_head(title, stamps, notes, width_inches=width, body_inches=2.6 + longest)
        axes = figure.subplots()
        axes.bar(np.arange(len(values)), values, 0.8, color=TRAIN)
        if known.size:
            axes.axhline(known.mean(), color=VALIDATION, linewidth=1.4)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.set_xticks(places, texts, rotation=90, size=8)
        axes.set_xlim(-0.6, len(values) - 0.4)
        axes.set_ylim(min(0.0, 1.05 * float(known.min(initial=0.0))), 1.02)
        axes.set_ylabel("\n".join(textwrap.wrap(label, 32)))
        return page.save(figure, path)


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

    Raises:
        ValueError: there are not as many names as rows or columns.
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
    places = [page.thinned(len(names), most=int(side / 0.15)) for names in (queries, keys)]
    texts = [[page.tick(names[i]) for i in at] for names, at in zip((queries, keys), places, strict=True)]
    with page.style():
        left, below = (max(page.text_inches(text, 8) for text in of) for of in texts)
        small = [side * 0.5] * columns
        body = side + below + 0.9
        figure = page.figure_below_head(
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
        return page.save(figure, path)
