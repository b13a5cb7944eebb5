"""Facts of recordings that are tied to the class."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.confounds.classes import codes
from light_sernet_kd.data.confounds.facts import RecordingFacts
from light_sernet_kd.data.confounds.wording import MOST_LINES, Findings, count_of, enumerated

# A value of a fact is tied to a class where the share of the class's recordings that have it differs from
# the mean share of the other classes by this much, and three standard errors nearer by a quarter of it.
SHARE_DIFFERENCE = 0.2
# The largest probability, over all classes and values of a fact, that labels dealt at random differ so.
CHANCE = 0.001
# Level and length are tied to emotions by nature. How well they alone tell a class, or the quietest or
# shortest classes, from the others (balanced accuracy of a rule learned on other speakers) is at most 0.78
# in EMO-DB and RAVDESS; of their choices of 5, 4, 3 and 2 classes, in those that differ most, 0.86, 0.88,
# 0.91 and 0.93. What surely (two standard errors) exceeds these, by number of classes, is warned of:
UNNATURAL = {2: 0.97, 3: 0.95, 4: 0.93}
UNNATURAL_OF_MANY = 0.9
# From this share of the way from chance to certainty on, what level or length tells is mentioned.
MENTIONED = 0.1
# Between where recordings of 8, 11.025, 12 and 16 kHz and MP3s of low and usual quality end.
_CUT_EDGES_HZ = (4100, 4700, 5600, 6500, 7500)
# Few, to learn a rule for every class from; more, to part one class from the others.
_BINS, _FINE_BINS = 10, 20
_MOST_FOLDS = 10
_MOST_VALUES = 64
_LEAST_COUNT = 3


class _Sample(NamedTuple):
    """Per recording the place of its class among `classes`, and of its speaker among all."""

    classes: Sequence[str]
    labels: np.ndarray
    speakers: np.ndarray


def fact_findings(utterances: Sequence[Utterance], facts: Sequence[RecordingFacts]) -> Findings:
    """Which facts of the recordings are tied to the class.

    A value (a sample rate, an encoding, a sex) is tied where a class's share of it differs starkly from the
    other classes': by `SHARE_DIFFERENCE`, whoever the speakers are, and by more than labels dealt at random
    to the recordings would. Level and length are tied where they alone tell classes apart better than in
    natural speech, by a rule learned on other speakers.

    Returns:
        Warnings, then notes of what level and length tell by nature.

    Source: Hoeffding 1963, theorem 4, for the bound on labels dealt at random; Efron and Tibshirani 1993,
    An Introduction to the Bootstrap, chapter 11, for the standard error (a jackknife over speakers).
    """
    classes, labels = codes([each.emotion for each in utterances])
    if len(classes) < 2:
        return Findings([], [])
    sample = _Sample(classes, labels, codes([each.speaker for each in utterances])[1])
    warnings: list[str] = []
    notes: list[str] = []
    tied: set[str] = set()
    for what, values in _values(utterances, facts).items():
        if what == "cut-off" and tied & {"sample rate", "encoding"}:
            continue  # these say it already
        if texts := _tied_values(sample, what, values):
            warnings += texts
            tied.add(what)
    # Finer differences than these steps are of no source, and no student could use them.
    numbers = {
        "level": ([each.level_dbfs for each in facts], 1.0, "dBFS"),
        "length": ([each.seconds for each in facts], 0.05, "s"),
    }
    for what, (numeric, step, unit) in numbers.items():
        numeric_values = np.round(np.asarray(numeric, float) / step) * step
        if what in tied or np.isnan(numeric_values).any() or sample.speakers.max() == 0:
            continue
        if text := _unnatural(sample, what, numeric_values, unit):
            warnings.append(text)
        elif text := _natural(sample, what, numeric_values):
            notes.append(text)
    return Findings(warnings, notes)


def _values(utterances: Sequence[Utterance], facts: Sequence[RecordingFacts]) -> dict[str, list[str | None]]:
    """Fact → its value per recording in words, None where it is not known."""

    def cut(hz: float) -> str | None:
        if np.isnan(hz):
            return None
        edge = next((edge for edge in _CUT_EDGES_HZ if hz < edge), SAMPLE_RATE // 2)
        return f"nothing above {edge / 1000:g} kHz" if hz else "sound up to 8 kHz"

    sexes: dict[str, set[str | None]] = {}
    for each in utterances:
        sexes.setdefault(each.emotion, set()).add(each.sex)
    return {
        "sample rate": [f"{each.sample_rate} Hz" for each in facts],
        "channels": [count_of(each.channels, "channel") for each in facts],
        "encoding": [each.encoding for each in facts],
        "cut-off": [cut(each.cut_hz) for each in facts],
        "length": [None if np.isnan(each.seconds) else f"{each.seconds:.3f} s" for each in facts],
        # Classes of one sex are named as such.
        "sex": [each.sex if len(sexes[each.emotion]) > 1 else None for each in utterances],
    }


def _tied_values(sample: _Sample, what: str, values: Sequence[str | None]) -> list[str]:
    """A sentence for each value that is tied to classes, the starkest first."""
    known = np.array([value is not None for value in values])
    names, codes = np.unique([str(value) for value in values if value is not None], return_inverse=True)
    if len(names) < 2:
        return []
    # Values that hardly occur count as one, whose place is 0.
    counts = np.bincount(codes)
    kept = [v for v in np.argsort(-counts, kind="stable")[:_MOST_VALUES] if counts[v] >= _LEAST_COUNT]
    places = np.zeros(len(names), int)
    places[kept] = np.arange(1, len(kept) + 1)
    speakers = np.unique(sample.speakers[known], return_inverse=True)[1]
    table = np.zeros((speakers.max() + 1, len(sample.classes), len(kept) + 1))
    np.add.at(table, (speakers, sample.labels[known], places[codes]), 1)

    total = table.sum(axis=0)
    difference = _difference(total)
    # About what all speakers give, not about the mean: of two speakers who differ, each alone gives 0.
    away = (_difference(total - table) - difference) ** 2
    error = np.sqrt(np.nansum(away, axis=0) * (1 - 1 / len(table)))
    with np.errstate(invalid="ignore"):
        stark = np.abs(difference) >= SHARE_DIFFERENCE
        stark &= np.abs(difference) - 3 * error >= SHARE_DIFFERENCE / 4
    stark &= _surprise(total) >= np.log(total.size / CHANCE)
    stark[:, 0] = False
    tied = np.flatnonzero(stark.any(axis=0))
    # The value of most recordings needs no mention where another says the same.
    usual = total.sum(axis=0).argmax()
    tied = tied[tied != usual] if len(tied) > 1 else tied
    tied = (
        tied[np.argsort(-np.nanmax(np.abs(difference[:, tied]), axis=0), kind="stable")]
        if len(tied)
        else tied
    )
    return [
        f"{what} is tied to the class: {_in_shares(sample.classes, names[kept[v - 1]], total, v)}"
        for v in tied[:MOST_LINES]
    ]


def _difference(counts: np.ndarray) -> np.ndarray:
    """Share of each class that has a value, less the mean share of the others: `(…, classes, values)`.

    NaN for a class without recordings, which counts among no others.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(axis=-1, keepdims=True)
        exists = np.isfinite(shares[..., :1])
        others = np.nansum(shares, axis=-2, keepdims=True) - np.nan_to_num(shares)
        return shares - others / (exists.sum(axis=-2, keepdims=True) - exists)


def _surprise(counts: np.ndarray) -> np.ndarray:
    """Of counts `(classes, values)`: -log of the bound on how likely random labels give one so extreme."""
    sizes = counts.sum(axis=1, keepdims=True)
    expected = counts.sum(axis=0) / counts.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / sizes
        with_it = np.where(shares > 0, shares * np.log(shares / expected), 0)
        without = np.where(shares < 1, (1 - shares) * np.log((1 - shares) / (1 - expected)), 0)
    return np.nan_to_num(sizes * (with_it + without))


def _in_shares(classes: Sequence[str], value: str, total: np.ndarray, column: int) -> str:
    """How many recordings have a value, on either side of the widest gap between the classes' shares."""
    here, sizes = total[:, column].astype(int), total.sum(axis=1).astype(int)
    ordered = sorted((c for c in range(len(classes)) if sizes[c]), key=lambda c: -here[c] / sizes[c])
    shares = here[ordered] / sizes[ordered]
    first = int(np.argmax(shares[:-1] - shares[1:])) + 1
    some, others = sorted((ordered[:first], ordered[first:]), key=len)
    named = enumerated(sorted(classes[c] for c in some))
    rest = "the rest" if len(others) > 1 else classes[others[0]]
    shares_of = [f"{here[side].sum()} of {sizes[side].sum()}" for side in (some, others)]
    return f"{value} in {shares_of[0]} recordings of {named}, in {shares_of[1]} of {rest}"


def _binned(sample: _Sample, values: np.ndarray, bins: int) -> np.ndarray:
    """Recordings per group of speakers, class and quantile of the values: `(groups, classes, bins)`."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    table = np.zeros((min(int(sample.speakers.max()) + 1, _MOST_FOLDS), len(sample.classes), len(edges) + 1))
    np.add.at(table, (sample.speakers % len(table), sample.labels, np.searchsorted(edges, values)), 1)
    return table


def _likelihood(table: np.ndarray) -> np.ndarray:
    """How often each class has a value in the other groups of speakers: `(groups, classes, bins)`."""
    learned = table.sum(axis=0) - table
    return (learned + 1) / (learned.sum(axis=2, keepdims=True) + learned.shape[2])


def _natural(sample: _Sample, what: str, values: np.ndarray) -> str | None:
    """How well a number alone tells the class, if that is worth a word."""
    table = _binned(sample, values, _BINS)
    likelihood, sizes = _likelihood(table), table.sum(axis=(0, 2))
    # Classes that are as likely share the answer: what tells nothing is at chance.
    best = likelihood >= likelihood.max(axis=1, keepdims=True) - 1e-12
    recall = (table * best / best.sum(axis=1, keepdims=True)).sum(axis=(0, 2)) / sizes
    ua, chance = float(recall.mean()), 1 / len(sizes)
    error = float(np.sqrt((recall * (1 - recall) / sizes).sum())) / len(sizes)
    if ua - chance < max(MENTIONED * (1 - chance), 3 * error):
        return None
    return f"{what} alone tells the class with UA {100 * ua:.0f} % (chance {100 * chance:.0f} %)"


def _unnatural(sample: _Sample, what: str, values: np.ndarray, unit: str) -> str | None:
    """The class, or the lowest classes, that a number tells better from the others than in natural speech."""
    table = _binned(sample, values, _FINE_BINS)
    count, sizes = len(sample.classes), table.sum(axis=(0, 2))
    ranks = np.array([np.median(values[sample.labels == c]) for c in range(count)]).argsort().argsort()
    groups = np.array([*np.eye(count), *(ranks < n for n in range(2, count - 1))], bool)
    inside = groups / groups.sum(axis=1, keepdims=True)
    outside = ~groups / (~groups).sum(axis=1, keepdims=True)
    evidence = np.einsum("gc,fcv->fgv", inside - outside, _likelihood(table))
    # 1 where a group is more likely, ½ where nothing tells.
    answers = np.heaviside(evidence.round(12), 0.5)
    rates = np.einsum("fgv,fcv->gc", answers, table) / sizes
    accuracy = ((inside * rates).sum(axis=1) + 1 - (outside * rates).sum(axis=1)) / 2
    top = int(accuracy.argmax())
    group, hits = groups[top], rates[top] * sizes
    # Of few recordings, the best of all rules may be so good by chance.
    sides = np.array([[hits[group].sum(), sizes[group].sum()], [hits[~group].sum(), sizes[~group].sum()]])
    likely = (sides[:, 0] + 1) / (sides[:, 1] + 2)
    error = np.sqrt((likely * (1 - likely) / (sides[:, 1] + 2)).sum()) / 2
    if accuracy[top] - 2 * error < UNNATURAL.get(count, UNNATURAL_OF_MANY):
        return None
    names = enumerated([name for name, is_in in zip(sample.classes, group, strict=True) if is_in])
    medians = [np.median(values[side[sample.labels]]) for side in (group, ~group)]
    return (
        f"{what} is tied to the class: it alone tells {names} from the rest with a balanced accuracy of "
        f"{100 * accuracy[top]:.0f} % (medians {medians[0]:.1f} and {medians[1]:.1f} {unit})"
    )
