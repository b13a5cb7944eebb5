"""What tells the class without the voice: gaps in the classes, and facts of recordings tied to a class.

A fold whose training set lacks a class cannot get it right, and a class that one speaker alone has is never
tested on another voice. A class that comes from another source is told by its sample rate, codec, level or
length, and a score then says how well the source is recognised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.runner import LEAST_DBFS

if TYPE_CHECKING:
    from rich.console import Console

FEW_RECORDINGS = 5

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

# Below this level, 16-bit rounding hides where the frequencies end.
_QUIET_DBFS = -60.0
# How far the spectrum falls within 500 Hz for good. In EMO-DB, whose recordings were never converted, it is
# at most 20 dB; in copies at 8, 11 or 12 kHz or as MP3 it is more than 26. In between it is not known.
_CUT_DB, _NOT_CUT_DB = 20.0, 12.0
_WINDOW_SAMPLES = 512
_LOWEST_CUT_HZ, _CUT_WIDTH_HZ = 2500, 500
_MOST_WINDOWS = 2000
# Between where recordings of 8, 11.025, 12 and 16 kHz and MP3s of low and usual quality end.
_CUT_EDGES_HZ = (4100, 4700, 5600, 6500, 7500)
# Few, to learn a rule for every class from; more, to part one class from the others.
_BINS, _FINE_BINS = 10, 20
_MOST_FOLDS = 10
_MOST_VALUES = 64
_LEAST_COUNT = 3
_MOST_LINES = 3
_MOST_NAMES = 8


class RecordingFacts(NamedTuple):
    """What is known of a recording before anyone listens.

    Attributes:
        sample_rate: as stored, in Hz; so are `channels` and `encoding` (container and sample type).
        seconds: NaN where it is not known, as is `level_dbfs`.
        level_dbfs: root mean square about the mean, from `LEAST_DBFS` on.
        cut_hz: the frequency above which there is nothing, below 8 kHz; 0 where there is none, NaN where
            that cannot be told.
    """

    sample_rate: int
    channels: int
    encoding: str
    seconds: float
    level_dbfs: float
    cut_hz: float


class Findings(NamedTuple):
    """Sentences about the classes: warnings say that scores mean less than they seem to, notes do not."""

    warnings: list[str]
    notes: list[str]


def facts_of(waveform: np.ndarray, sample_rate: int, channels: int, encoding: str) -> RecordingFacts:
    """The facts of a recording: of its waveform `(samples,)` at 16 kHz, and of what `audio.header` gives."""
    level_dbfs, cut_hz = level_and_cut(waveform)
    seconds = len(waveform) / SAMPLE_RATE
    return RecordingFacts(sample_rate, channels, encoding, seconds, level_dbfs, cut_hz)


def level_and_cut(waveform: np.ndarray) -> tuple[float, float]:
    """`level_dbfs` and `cut_hz` of `RecordingFacts`, of a waveform `(samples,)` at 16 kHz."""
    if not len(waveform):
        return LEAST_DBFS, float("nan")
    centred = waveform - float(waveform.mean(dtype=np.float64))
    power = float(np.mean(centred * centred, dtype=np.float64))
    level = max(LEAST_DBFS, 10 * np.log10(power)) if power > 0 else LEAST_DBFS
    if level < _QUIET_DBFS:
        return level, float("nan")
    padded = np.pad(centred, (0, max(0, _WINDOW_SAMPLES - len(centred))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[:: _WINDOW_SAMPLES // 2]
    windows = windows[:: -(-len(windows) // _MOST_WINDOWS)]
    spectrum = (np.abs(np.fft.rfft(windows * np.hanning(_WINDOW_SAMPLES))) ** 2).mean(axis=0)
    decibels = 10 * np.log10(spectrum + 1e-12 * spectrum.max())
    smooth = np.convolve(np.pad(decibels, 4, mode="edge"), np.full(9, 1 / 9), mode="valid")
    # A fall is one only where nothing above comes back.
    above = np.maximum.accumulate(smooth[::-1])[::-1]
    bin_hz = SAMPLE_RATE / _WINDOW_SAMPLES
    first, width = int(_LOWEST_CUT_HZ / bin_hz), int(_CUT_WIDTH_HZ / bin_hz)
    falls = smooth[first:-width] - above[first + width :]
    steepest = int(falls.argmax())
    if falls[steepest] < _CUT_DB:
        return level, 0.0 if falls[steepest] < _NOT_CUT_DB else float("nan")
    return level, (first + steepest + width / 2) * bin_hz


# Classes and folds


@dataclass(frozen=True)
class FoldClasses:
    """Classes that the sets of one fold lack, or hardly have.

    Attributes:
        untrained: classes without a training recording.
        untrained_tests: number of test recordings of these.
        one_speaker: classes of several speakers that only one of the training speakers has.
        few: class → number of training recordings, where there are 1 to 4.
        untested: classes without a test recording; the fold's UA is the mean over the others.
        classes: number of all classes.
    """

    fold: str
    untrained: tuple[str, ...]
    untrained_tests: int
    one_speaker: tuple[str, ...]
    few: Mapping[str, int]
    untested: tuple[str, ...]
    classes: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON's types, with what is to be said of the fold."""
        value = asdict(self)
        del value["classes"]
        # The fold's own name needs no mention here.
        said = {
            kind: [text.removeprefix(f"fold {self.fold}: ") for text in texts]
            for kind, texts in fold_findings([self])._asdict().items()
        }
        return value | said


def fold_classes(folds: Sequence[Fold], utterances: Sequence[Utterance]) -> list[FoldClasses]:
    """Which of the utterances' classes the training and the test set of each fold lack or hardly have."""
    classes, labels = _codes([each.emotion for each in utterances])
    names, speakers = _codes([each.speaker for each in utterances])

    def table(indices: Sequence[int]) -> np.ndarray:
        rows = np.asarray(indices, int)
        cells = labels[rows] * len(names) + speakers[rows]
        return np.bincount(cells, minlength=len(classes) * len(names)).reshape(len(classes), len(names))

    everyone = table(range(len(utterances)))
    return [
        _classes_of_fold(fold.name, classes, everyone, table(fold.train), table(fold.test).sum(axis=1))
        for fold in folds
    ]


def loso_classes(utterances: Sequence[Utterance]) -> list[FoldClasses]:
    """`fold_classes` of the protocol `loso`, without its folds, which of many speakers would fill the memory.

    Folds that have every class are left out, and there is none for fewer than three speakers.
    """
    classes, labels = _codes([each.emotion for each in utterances])
    names, speakers = _codes([each.speaker for each in utterances])
    if len(names) < 3:
        return []
    everyone = np.zeros((len(classes), len(names)), int)
    np.add.at(everyone, (labels, speakers), 1)
    counts, voices = everyone.sum(axis=1), (everyone > 0).sum(axis=1)
    found = []
    for test, name in enumerate(names):
        apart = [test, (test + 1) % len(names)]
        left = counts - everyone[:, apart].sum(axis=1)
        voices_left = voices - (everyone[:, apart] > 0).sum(axis=1)
        if (left < FEW_RECORDINGS).any() or (voices_left < 2).any() or not everyone[:, test].all():
            train = everyone.copy()
            train[:, apart] = 0
            found.append(_classes_of_fold(name, classes, everyone, train, everyone[:, test]))
    return found


def _classes_of_fold(
    name: str, classes: Sequence[str], everyone: np.ndarray, train: np.ndarray, test: np.ndarray
) -> FoldClasses:
    """Of the numbers of recordings `(classes, speakers)`, of `test` `(classes,)`."""
    trained, voices = train.sum(axis=1), (train > 0).sum(axis=1)
    speakers = np.count_nonzero(train.any(axis=0))
    lonely = (voices == 1) & (speakers > 1) & ((everyone > 0).sum(axis=1) > 1)

    def those(which: np.ndarray) -> tuple[str, ...]:
        return tuple(name for name, is_one in zip(classes, which, strict=True) if is_one)

    return FoldClasses(
        fold=name,
        untrained=those(trained == 0),
        untrained_tests=int(test[trained == 0].sum()),
        one_speaker=those(lonely),
        few={c: int(trained[classes.index(c)]) for c in those((trained > 0) & (trained < FEW_RECORDINGS))},
        untested=those(test == 0),
        classes=len(classes),
    )


def class_findings(utterances: Sequence[Utterance]) -> Findings:
    """Which classes one speaker alone has, or speakers of one sex alone."""
    speakers: dict[str, set[str]] = {}
    sexes: dict[str, set[str | None]] = {}
    for each in utterances:
        speakers.setdefault(each.emotion, set()).add(each.speaker)
        sexes.setdefault(each.emotion, set()).add(each.sex)
    several = len({each.speaker for each in utterances}) > 1
    alone = {c: min(names) for c, names in sorted(speakers.items()) if several and len(names) == 1}
    known = {sex for found in sexes.values() for sex in found if sex}
    one_sex = {
        c: str(min(map(str, found)))
        for c, found in sorted(sexes.items())
        if len(known) > 1 and len(found) == 1 and None not in found and c not in alone
    }
    found = []
    if alone:
        named = _listed([f"{c} ({speaker})" for c, speaker in alone.items()])
        them = "it" if len(alone) == 1 else "them"
        found.append(f"one speaker alone has {named}: no other speaker can be tested on {them}")
    for c, sex in one_sex.items():
        found.append(f"all recordings of {c} are of {sex} speakers")
    return Findings(found, [])


def fold_findings(found: Sequence[FoldClasses], *, protocol: str = "") -> Findings:
    """Sentences about the classes of the folds, folds alike in one; warnings first.

    Args:
        protocol: of the folds, where the reader cannot know it.
    """
    of = f" of {protocol}" if protocol else ""

    def where(group: Sequence[FoldClasses]) -> str:
        names = [each.fold for each in group]
        if len(names) == 1:
            return f"fold {names[0]}{of}"
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"{len(names)} folds{of} ({', '.join(names[:5])}{more})"

    def lines(attribute: str, text: str) -> list[str]:
        groups: dict[tuple[str, ...], list[FoldClasses]] = {}
        for each in found:
            if lacking := tuple(getattr(each, attribute)):
                groups.setdefault(lacking, []).append(each)

        def weight(item: tuple[tuple[str, ...], list[FoldClasses]]) -> tuple[int, int]:
            return sum(each.untrained_tests for each in item[1]), len(item[1])

        said = sorted(groups.items(), key=weight, reverse=True)
        if len(said) > _MOST_LINES:
            rest = [each for _, group in said[_MOST_LINES - 1 :] for each in group]
            said = [*said[: _MOST_LINES - 1], (("some other classes",), rest)]
        sentences = []
        for names, group in said:
            tests = sum(each.untrained_tests for each in group) if attribute == "untrained" else 0
            consequence = f"; {_count(tests, 'test recording')} cannot be right" if tests else ""
            sentences.append(f"{where(group)}: {text.format(_listed(names))}{consequence}")
        return sentences

    warnings = [
        *lines("untrained", "training has none of {}"),
        *lines("one_speaker", "training has {} from one speaker only"),
    ]
    notes = [
        *lines("few", f"training has fewer than {FEW_RECORDINGS} recordings of {{}}"),
        *lines("untested", "the test set has none of {}, so UA is the mean over the other classes"),
    ]
    return Findings(warnings, notes)


# Facts of recordings


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
    classes, labels = _codes([each.emotion for each in utterances])
    if len(classes) < 2:
        return Findings([], [])
    sample = _Sample(classes, labels, _codes([each.speaker for each in utterances])[1])
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
        "channels": [_count(each.channels, "channel") for each in facts],
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
        for v in tied[:_MOST_LINES]
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
    named = _listed(sorted(classes[c] for c in some))
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
    names = _listed([name for name, is_in in zip(sample.classes, group, strict=True) if is_in])
    medians = [np.median(values[side[sample.labels]]) for side in (group, ~group)]
    return (
        f"{what} is tied to the class: it alone tells {names} from the rest with a balanced accuracy of "
        f"{100 * accuracy[top]:.0f} % (medians {medians[0]:.1f} and {medians[1]:.1f} {unit})"
    )


# A run


def findings(
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    facts: Sequence[RecordingFacts] | None = None,
    *,
    tests_apart: bool = False,
) -> Findings:
    """What makes the scores of a run say less than they seem to, though nothing leaks; and what is near it.

    Args:
        facts: of each recording; None leaves out what is tied to them.
        tests_apart: the test recordings may be of another source than the training recordings, so that each
            are looked at by themselves.
    """
    return joined(
        fold_findings(fold_classes(folds, utterances)),
        corpus_findings(folds, utterances, facts, tests_apart=tests_apart),
    )


def corpus_findings(
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    facts: Sequence[RecordingFacts] | None = None,
    *,
    tests_apart: bool = False,
) -> Findings:
    """Those `findings` that are of no single fold."""
    tested = {utterances[i].emotion for fold in folds for i in fold.test}
    classes = {each.emotion for each in utterances}
    found = class_findings(utterances)
    if missing := sorted(classes - tested):
        over = f"{len(tested)} of {len(classes)} classes"
        text = f"no test recording is of {_listed(missing, 'or')}: UA is the mean over {over}"
        found = joined(Findings([text], []), found)
    if facts is None:
        return found
    if not tests_apart:
        return joined(found, fact_findings(utterances, facts))
    for name in ("training", "test"):
        rows = sorted({i for fold in folds for i in _part(fold, name)})
        part = fact_findings([utterances[i] for i in rows], [facts[i] for i in rows])
        said = ([f"{name} recordings: {text}" for text in texts] for texts in part)
        found = joined(found, Findings(*said))
    return found


def joined(*found: Findings) -> Findings:
    return Findings(
        [text for each in found for text in each.warnings], [t for each in found for t in each.notes]
    )


def show(found: Findings, console: "Console") -> None:
    """Print a line per sentence."""
    from rich.text import Text

    for text in found.warnings:
        console.print(Text(f"warning: {text}", style="bold yellow"), soft_wrap=True)
    for text in found.notes:
        console.print(Text(f"note: {text}"), soft_wrap=True)


def _part(fold: Fold, name: str) -> Sequence[int]:
    return fold.test if name == "test" else (*fold.train, *fold.validation)


def _codes(names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different names, sorted, and each one's place among them."""
    different = sorted(set(names))
    places = {name: place for place, name in enumerate(different)}
    return different, np.fromiter((places[name] for name in names), int, len(names))


def _listed(names: Sequence[str], word: str = "and") -> str:
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} more"]
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
