"""A stream's windows as a timeline: segments of one label, a summary, and the envelope of the sound."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from light_sernet_kd.runner import NOT_FINITE, NOT_SURE, SILENT, STEADY, TOO_SHORT, Window

# Reasons of windows that hold no speech; one that is `not sure` does.
WITHOUT_SPEECH = (SILENT, STEADY, NOT_FINITE, TOO_SHORT)


@dataclass(frozen=True)
class Segment:
    """A run of windows with one label.

    Attributes:
        start, end: in seconds. A window speaks for the time about its middle: segments meet halfway between
            the middles of two windows, the first begins and the last ends with the sound.
        label, why: as a window's.
        probability: mean smoothed probability of the label; None where it is `unsure`, or none.
        level: mean of the windows' levels in dBFS; None where a sample was not finite.
        windows: how many.
        dimensions: float64 `(K,)`, the mean of the windows' smoothed ones; K is 0 where the file gives none.
    """

    start: float
    end: float
    label: str
    why: str
    probability: float | None
    level: float | None
    windows: int
    dimensions: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False)


def segments(windows: Iterable[Window], labels: Sequence[str]) -> Iterator[Segment]:
    """The runs of equal label and reason, each as soon as it ends; holds one run's sums only."""
    start, before = 0.0, None
    levels = shares = count = 0.0
    dimensions: Any = 0.0

    def ended(end: float, last: Window) -> Segment:
        level = None if math.isnan(levels) else levels / count
        share = shares / count if last.label in labels else None
        return Segment(start, end, last.label, last.why, share, level, int(count), dimensions / count)

    for window in windows:
        if before is not None and (window.label, window.why) != (before.label, before.why):
            border = (before.start + before.end + window.start + window.end) / 4
            yield ended(border, before)
            start, levels, shares, count, dimensions = border, 0.0, 0.0, 0.0, 0.0
        count += 1
        levels += window.level
        dimensions = dimensions + window.smoothed_dimensions.astype(np.float64)
        shares += float(window.smoothed[labels.index(window.label)]) if window.label in labels else 0.0
        before = window
    if before is not None:
        yield ended(before.end, before)


@dataclass(frozen=True, eq=False)
class Summary:
    """A whole recording's answer, made of its windows.

    Attributes:
        label: the class with the largest of `probabilities`; None without classes.
        why: empty; or `not sure` where that is below the threshold; or, where no window holds speech, the
            reason of most of the time.
        probabilities: float64 `(classes,)`: the mean over the windows that hold speech of what the file gives
            for each alone; over all windows where none does. NaN where no window is finite.
        seconds: of the recording, to the end of the last window.
        windows: how many.
        time_shares: class → share of the time that its label stands for, as in `segments`.
        unsure_shares: reason → share of the time that is unsure for it. All shares sum to 1, but without
            classes, where the rest is speech.
        dimensions: float64 `(K,)`, as `probabilities` of the windows' dimensions.
    """

    label: str | None
    why: str
    probabilities: np.ndarray
    seconds: float
    windows: int
    time_shares: dict[str, float]
    unsure_shares: dict[str, float]
    dimensions: np.ndarray


def summary(windows: Iterable[Window], labels: Sequence[str], *, unsure_below: float) -> Summary:
    """Sum the windows of one recording up, of which there is at least one; holds sums only."""
    sums = {"speech": np.zeros(len(labels)), "other": np.zeros(len(labels))}
    values: dict[str, Any] = {"speech": 0.0, "other": 0.0}
    counts = {"speech": 0, "other": 0, "all": 0, "dimensions": 0}

    def counted(window: Window) -> Window:
        counts["all"] += 1
        counts["dimensions"] = len(window.dimensions)
        if window.why != NOT_FINITE:
            kind = "other" if window.why in WITHOUT_SPEECH else "speech"
            sums[kind] += window.probabilities
            values[kind] = values[kind] + window.dimensions.astype(np.float64)
            counts[kind] += 1
        return window

    time_seconds = dict.fromkeys(labels, 0.0)
    unsure_seconds: dict[str, float] = {}
    seconds = 0.0
    for segment in segments(map(counted, windows), labels):
        seconds = segment.end
        kind = unsure_seconds if segment.why else time_seconds
        if name := segment.why or segment.label:
            kind[name] = kind.get(name, 0.0) + segment.end - segment.start
    source = "speech" if counts["speech"] else "other"
    mean = sums[source] / counts[source] if counts[source] else np.full(len(labels), math.nan)
    # Where no window is finite there is a mean of none of them.
    no_values = np.full(counts["dimensions"], math.nan)
    dimensions = values[source] / counts[source] if counts[source] else no_values
    why = NOT_SURE if labels and not mean.max() >= unsure_below else ""
    if source == "other":
        why = max(unsure_seconds, key=lambda reason: unsure_seconds[reason])
    return Summary(
        labels[int(mean.argmax())] if labels else None,
        why,
        mean,
        seconds,
        counts["all"],
        {name: each / seconds for name, each in time_seconds.items()},
        {name: each / seconds for name, each in sorted(unsure_seconds.items())},
        dimensions,
    )


class Envelope:
    """The lowest and the highest sample of equal stretches: what a picture shows of a waveform of any length.

    Holds at most 4000 stretches, which double in length when there are more.
    """

    MOST = 4000

    def __init__(self, sample_rate: int):
        self._rate, self._stretch = sample_rate, 32
        self._pairs: list[tuple[float, float]] = []
        self._rest = np.empty(0, np.float32)
        self.samples = 0

    def passed(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks `(n,)` as they are, taken into account."""
        for block in blocks:
            self.samples += len(block)
            self._rest = np.concatenate([self._rest, block])
            self._take(len(self._rest) // self._stretch * self._stretch)
            while len(self._pairs) > self.MOST:
                self._halve()
            yield block

    def pairs(self) -> np.ndarray:
        """`(stretches, 2)`, the last one shorter where the sound is."""
        rest = [(float(self._rest.min()), float(self._rest.max()))] if len(self._rest) else []
        return np.array(self._pairs + rest).reshape(-1, 2)

    @property
    def stretch_seconds(self) -> float:
        return self._stretch / self._rate

    def _take(self, samples: int) -> None:
        whole, self._rest = np.split(self._rest, [samples])
        rows = whole.reshape(-1, self._stretch)
        self._pairs += zip(rows.min(axis=1).tolist(), rows.max(axis=1).tolist(), strict=True)

    def _halve(self) -> None:
        pairs, self._stretch = self._pairs, 2 * self._stretch
        joined = zip(pairs[::2], pairs[1::2], strict=False)
        self._pairs = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in joined]
        if len(pairs) % 2:
            # Its second half is still to come: it goes back to the samples, as its two extremes.
            half = np.resize(np.array(pairs[-1], np.float32), self._stretch // 2)
            self._rest = np.concatenate([half, self._rest])
