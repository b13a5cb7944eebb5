"""Speech-emotion corpora: where the recordings are, who speaks, and which emotion is meant."""

import codecs
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.config.dimensions import are_ratings_alone, to_unit_scale
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import read_bytes
from light_sernet_kd.registries.corpora import CORPORA

CANONICAL_EMOTIONS = (
    "anger", "boredom", "calm", "disgust", "excitement", "fear",
    "frustration", "happiness", "neutral", "sadness", "surprise",
)  # fmt: skip

_MOST_SHOWN = 5  # of the reasons of what was skipped; the report has them all


@dataclass(frozen=True)
class Utterance:
    """One labelled recording.

    Attributes:
        id: unique in the corpus; teacher files and predictions are joined by it.
        path: the audio file. It may be given as text, and is a `Path` when it is asked for.
        emotion: a canonical English word (`CANONICAL_EMOTIONS`), or any word a manifest uses.
        speaker: who speaks; unique in the corpus.
        dialog: the conversation or scene that the recording is cut from.
        soft_label: share of annotators per emotion, where the corpus has it.
        sex: the speaker's, `female` or `male`, or what else a manifest says; None where nothing tells.
        dimensions: name of `registries.dimensions` → the listeners' mean rating, on the corpus's own scale;
            None where nobody rated it.

    >>> utterance = Utterance("03a01Fa", "wav/03a01Fa.wav", emotion="happiness", speaker="03")
    >>> utterance.path.name, utterance.transcript
    ('03a01Fa.wav', None)
    """

    id: str
    path: Path
    emotion: str
    speaker: str
    session: str | None = None
    dialog: str | None = None
    transcript: str | None = None
    split: str | None = None
    soft_label: Mapping[str, float] | None = None
    sex: str | None = None
    dimensions: Mapping[str, float] | None = None


class _PathOnDemand:
    """Makes a `Path` of text when it is first asked for: a million at once would take seconds."""

    def __get__(self, utterance: Utterance | None, owner: type) -> Any:
        if utterance is None:
            return self
        path = utterance.__dict__["path"]
        if isinstance(path, str):
            path = utterance.__dict__["path"] = Path(path)
        return path

    def __set__(self, utterance: Utterance, path: str | Path) -> None:
        utterance.__dict__["path"] = path


Utterance.path = _PathOnDemand()  # type: ignore[assignment]


@dataclass(frozen=True)
class Corpus:
    """The utterances of a corpus, sorted by id, and what its own rules left out.

    Attributes:
        left_out: reason → number of recordings, for the report.
        merged: emotion → the emotion it was counted as.
        skipped: what `--skip-bad` left out in reading the corpus, by id, file or line → the reason.
        notes: what the user must know of the corpus, a line each: what was mended, what is incomplete.
        synthetic: the recordings are made, not recorded; every report says so.
        dimension_range: the ends of the scale of its utterances' dimensions; None where there are none.

    >>> angry = Utterance("clip-1", "clip-1.wav", emotion="anger", speaker="bob")
    >>> afraid = Utterance("clip-2", "clip-2.wav", emotion="fear", speaker="ann")
    >>> corpus = Corpus("mine", (angry, afraid), left_out={"no label": 3})
    >>> corpus.classes, corpus.speakers
    (('anger', 'fear'), ('ann', 'bob'))
    >>> corpus.reported()
    ['left out: no label: 3']
    """

    name: str
    utterances: tuple[Utterance, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    merged: Mapping[str, str] = field(default_factory=dict)
    synthetic: bool = False
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    dimension_range: tuple[float, float] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The emotions that occur, in alphabetical order: the order of every logit column."""
        return tuple(sorted({utterance.emotion for utterance in self.utterances}))

    def reported(self) -> list[str]:
        """A line for each kind of recordings left out, for each emotion merged, and each note."""
        lines = [f"left out: {reason}: {count}" for reason, count in self.left_out.items()]
        lines += [f"{name} is counted as {other}" for name, other in self.merged.items()]
        lines += [f"left out by --skip-bad: {reason}" for reason in list(self.skipped.values())[:_MOST_SHOWN]]
        if len(self.skipped) > _MOST_SHOWN:
            lines.append(f"left out by --skip-bad: and {len(self.skipped) - _MOST_SHOWN:,} more")
        return [*lines, *self.notes]

    @property
    def speakers(self) -> tuple[str, ...]:
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))


@dataclass(frozen=True)
class Origin:
    """Where a corpus comes from, and what its folder holds.

    Attributes:
        page: the corpus's own page, or where to apply for it.
        layout: the files expected below the corpus's folder.
        archive: address of a ZIP that anyone may download; None where there is none.
        archive_hash: of the archive, as `md5:…` or `sha256:…`.
        content_hash: where no hash of the archive is published: `recordings_digest` of the WAV files.
        steps: how to get it by hand.
    """

    licence: str
    page: str
    layout: str
    archive: str | None = None
    archive_hash: str | None = None
    content_hash: str | None = None
    steps: str = ""


@dataclass(frozen=True)
class Published:
    """What a corpus holds as it is published; only what its authors or its own files tell is named.

    Attributes:
        recordings: in all, with those that its own rules leave out where `with_left_out`.
        speakers, sessions: their names here.
        emotions: emotion → recordings.
    """

    recordings: int | None = None
    speakers: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    emotions: Mapping[str, int] = field(default_factory=dict)
    with_left_out: bool = False

    def compared(self, corpus: Corpus) -> list[str]:
        """What the corpus has less, or more, than is published: a line for the user, or none."""
        differs = []
        count = len(corpus.utterances) + (sum(corpus.left_out.values()) if self.with_left_out else 0)
        if self.recordings not in (None, count):
            differs.append(f"{count:,} of {self.recordings:,} recordings")
        for what, known in (("speaker", self.speakers), ("session", self.sessions)):
            there = {getattr(each, what) for each in corpus.utterances}
            if absent := [name for name in known if name not in there]:
                more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
                differs.append(
                    f"{len(known) - len(absent)} of {len(known)} {what}s (not {', '.join(absent[:5])}{more})"
                )
        counts = Counter(each.emotion for each in corpus.utterances)
        # of a part, most counts are lower: those of whole classes tell more
        odd = [name for name in self.emotions if not counts[name]]
        if self.recordings == count:
            odd = [name for name, known in self.emotions.items() if counts[name] != known]
        if odd:
            listed = ", ".join(f"{counts[name]:,} of {self.emotions[name]:,} of {name}" for name in odd[:5])
            differs.append(listed)
        if not differs:
            return []
        whole = self.recordings is not None and count > self.recordings
        state = "MORE than is published" if whole else "INCOMPLETE"
        return [f"{state}: found {', '.join(differs)} of {corpus.name} as it is published"]


SEXES = {"f": "female", "m": "male"}


def name_parts(path: Path, name: re.Pattern[str], corpus: str, expected: str) -> tuple[str, ...]:
    """The groups of the pattern of a corpus's names, in that of a recording without its suffix.

    Raises:
        UserError: it is not named so; says what is expected.
    """
    match = name.fullmatch(path.stem)
    if match is None:
        raise UserError(f"{path} is not named as {corpus} names its recordings: expected {expected}.")
    return match.groups()


def visible(folder: Path, pattern: str) -> list[Path]:
    """What matches the pattern, without hidden files and folders."""
    return [
        path
        for path in folder.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def read_text(path: Path, *encodings: str) -> str:
    """The text of a corpus's label or transcript file, in the first of the encodings that fits.

    Raises:
        UserError: it is missing, or not text in these encodings.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing. The corpus has it (see data/README.md): copy it anew.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    for encoding in encodings:
        # without its mark, UTF-16 would fit any text
        if encoding == "utf-16" and not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            continue
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    names = " or ".join(encoding.removesuffix("-sig").upper() for encoding in encodings)
    raise UserError(f"{path} is not {names} text. Copy it as the corpus has it, in its own encoding.")


def vote_shares(votes: Iterable[Sequence[str | None]]) -> dict[str, float] | None:
    """Soft label from what each annotator heard.

    One who names several emotions shares one vote among them. None stands for an emotion without a name
    here; the shares of the others sum to 1. The result is None where nothing was named.
    """
    weights: dict[str, float] = {}
    for heard in votes:
        for emotion in heard:
            if emotion is not None:
                weights[emotion] = weights.get(emotion, 0.0) + 1 / len(heard)
    total = sum(weights.values())
    return {emotion: weights[emotion] / total for emotion in sorted(weights)} or None


def shares_among(
    shares: Mapping[str, float] | None, kept: Iterable[str], merged: Mapping[str, str]
) -> dict[str, float] | None:
    """What a soft label says of the emotions kept, raised to a sum of 1; None where it says nothing of them.

    Args:
        merged: emotion → the emotion it is counted as.

    Raises:
        UserError: a share is negative or not finite.
    """
    sums = dict.fromkeys(sorted(kept), 0.0)
    # Votes may be counted in any unit: relative to the largest, no sum is beyond what a float holds.
    largest = max((shares or {}).values(), default=0.0)
    for name, share in (shares or {}).items():
        if not 0 <= share < math.inf:
            raise UserError(f"the share of {name} must be a number from 0 on, found {share}.")
        target = merged.get(name, name)
        if target in sums and share:
            sums[target] += share / largest
    total = sum(sums.values())
    return {name: share / total for name, share in sums.items() if share} or None


_ACROSS = " → "


def across(train: Corpus, test: Corpus) -> Corpus:
    """Two corpora as one whose `split` says which trains and which tests.

    Only emotions that both have are kept, in soft labels too; what is left out is counted. Names of
    utterances, speakers, sessions and dialogs begin with their corpus's name, so that none of the one is
    taken for another's. Dimensions are on the scale of the one that trains.

    Raises:
        UserError: fewer than two emotions are in both.
    """
    shared = sorted(set(train.classes) & set(test.classes))
    if len(shared) < 2 and not are_ratings_alone(shared):
        raise UserError(
            f"{train.name} has {', '.join(train.classes)}, {test.name} has {', '.join(test.classes)}: at "
            "least two emotions must be in both. Merge some with --emotions, such as excitement=happiness."
        )
    utterances: list[Utterance] = []
    left_out: dict[str, int] = {}
    scale = train.dimension_range or test.dimension_range
    # Two manifests may have one name.
    names = (train.name, test.name if test.name != train.name else f"{test.name}-2")
    parts = tuple(zip(names, (train, test), strict=True))
    for (name, corpus), split in zip(parts, ("train", "test"), strict=True):
        prefix = f"{name}/"
        left_out |= {f"{name}: {reason}": count for reason, count in corpus.left_out.items()}
        for utterance in corpus.utterances:
            if utterance.emotion not in shared:
                reason = f"{name}: {utterance.emotion}, which the other corpus lacks"
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            named: dict[str, Any] = {
                fact: f"{prefix}{value}"
                for fact in ("id", "speaker", "session", "dialog")
                if (value := getattr(utterance, fact)) is not None
            }
            soft_label = shares_among(utterance.soft_label, shared, {})
            named["dimensions"] = on_scale(utterance.dimensions, corpus.dimension_range, scale)
            utterances.append(replace(utterance, split=split, soft_label=soft_label, **named))
    return Corpus(
        _ACROSS.join(names),
        tuple(sorted(utterances, key=lambda utterance: utterance.id)),
        left_out,
        {**train.merged, **test.merged},
        train.synthetic or test.synthetic,
        {f"{name}: {what}": why for name, each in parts for what, why in each.skipped.items()},
        tuple(f"{name}: {note}" for name, each in parts for note in each.notes),
        scale,
    )


def training_corpus(name: str) -> str:
    """Of two corpora as `across` joins them, the name of the one that trains; another name as it is.

    >>> training_corpus("EMO-DB → RAVDESS"), training_corpus("TESS")
    ('EMO-DB', 'TESS')
    """
    return name.partition(_ACROSS)[0]


def own_name(name: str, corpus: str) -> str:
    """A speaker's name as their own corpus has it, without what `across` puts before it.

    Args:
        corpus: name of the corpus that the speaker is in, which may be one of two.
    """
    trains, arrow, tests = corpus.partition(_ACROSS)
    for part in (trains, tests) if arrow else ():
        if name.startswith(f"{part}/"):
            return name.removeprefix(f"{part}/")
    return name


def name_key(name: str) -> str:
    """What two spellings of one name share: Unicode form, case, space and a number's leading zeros go."""
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return plain.lstrip("0") or "0" if plain.isdecimal() else plain


def same_names(corpus: Corpus) -> tuple[str, ...]:
    """Names of speakers that both of two corpora have, as the one that tests spells them; else empty."""
    names: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    if _ACROSS in corpus.name:
        for utterance in corpus.utterances:
            name = own_name(utterance.speaker, corpus.name)
            names[str(utterance.split)][name_key(name)] = name
    return tuple(sorted(name for key, name in names["test"].items() if key in names["train"]))


def class_indices(utterances: Sequence[Utterance], classes: Sequence[str]) -> NDArray[np.int64]:
    """The label of each utterance, `(utterances,)`: where `classes` has its emotion."""
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[utterance.emotion] for utterance in utterances], np.int64)


def soft_labels(utterances: Sequence[Utterance], classes: Sequence[str]) -> NDArray[np.float32]:
    """The share of annotators per class, `(utterances, classes)`; each row sums to 1.

    Votes for emotions that are no class do not count. Where an utterance has no other votes, or none at all,
    its label has the whole share.

    Raises:
        UserError: no utterance has a soft label.
    """
    if not any(utterance.soft_label for utterance in utterances):
        having = [f"{name} ({each.soft_labels})" for name, each in CORPORA.items() if each.soft_labels]
        raise UserError(
            f"these recordings have no soft labels. {', '.join(having)} and manifests with a column per "
            "emotion have them."
        )
    index = {name: number for number, name in enumerate(classes)}
    rows = np.zeros((len(utterances), len(classes)), np.float32)
    for row, utterance in zip(rows, utterances, strict=True):
        shares = shares_among(utterance.soft_label, classes, {}) or {utterance.emotion: 1.0}
        for name, share in shares.items():
            row[index[name]] = share
    return rows


def on_scale(
    values: Mapping[str, float] | None, range_: tuple[float, float] | None, other: tuple[float, float] | None
) -> Mapping[str, float] | None:
    """Values of a scale with these ends on another one: both ends meet, and between them it is linear.

    >>> on_scale({"arousal": 4.0}, (1, 5), (0, 1))
    {'arousal': 0.75}
    """
    if values is None or range_ is None or other is None or range_ == other:
        return values
    (low, high), (bottom, top) = range_, other
    return {name: bottom + (value - low) * (top - bottom) / (high - low) for name, value in values.items()}


def rated(utterances: Sequence[Utterance], names: Sequence[str]) -> NDArray[np.float64]:
    """The ratings of the dimensions `(utterances, names)` on the corpus's scale, NaN where there is none."""
    rows = [[(each.dimensions or {}).get(name, math.nan) for name in names] for each in utterances]
    return np.array(rows, np.float64).reshape(len(rows), len(names))


def dimension_values(
    utterances: Sequence[Utterance], names: Sequence[str], range_: tuple[float, float]
) -> NDArray[np.float32]:
    """The values of the dimensions, `(utterances, names)`, NaN where nobody rated one.

    The ends of the scale are -1 and 1, and between them it is linear. A value beyond an end, which published
    corpora have too, is beyond it here.

    >>> calm = Utterance("clip-1", "clip-1.wav", "neutral", "ann", dimensions={"arousal": 2.0})
    >>> dimension_values([calm], ["arousal", "valence"], (1, 5)).tolist()
    [[-0.5, nan]]
    """
    values: NDArray[np.float64] = to_unit_scale(rated(utterances, names), range_)
    return values.astype(np.float32)


def repeated(values: Sequence[str]) -> list[str]:
    """The values that occur more than once, in order."""
    return [value for value, count in Counter(values).items() if count > 1]
