"""Classes that the sets of a fold lack or hardly have, and classes of one speaker or one sex."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from light_sernet_kd.corpora import Utterance
from light_sernet_kd.corpora.names import alike
from light_sernet_kd.data.confounds.wording import MOST_LINES, Findings, count_of, enumerated
from light_sernet_kd.data.protocols import Fold

FEW_RECORDINGS = 5


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
    classes, labels = codes([each.emotion for each in utterances])
    names, speakers = codes([each.speaker for each in utterances])

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
    classes, labels = codes([each.emotion for each in utterances])
    names, speakers = codes([each.speaker for each in utterances])
    if len(names) < 3:
        return []
    everyone = np.zeros((len(classes), len(names)), int)
    np.add.at(everyone, (labels, speakers), 1)
    counts, voices = everyone.sum(axis=1), (everyone > 0).sum(axis=1)
    lacking = []
    for test, name in enumerate(names):
        apart = [test, (test + 1) % len(names)]
        left = counts - everyone[:, apart].sum(axis=1)
        voices_left = voices - (everyone[:, apart] > 0).sum(axis=1)
        if (left < FEW_RECORDINGS).any() or (voices_left < 2).any() or not everyone[:, test].all():
            train = everyone.copy()
            train[:, apart] = 0
            lacking.append(_classes_of_fold(name, classes, everyone, train, everyone[:, test]))
    return lacking


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
    """Which classes one speaker alone has, or speakers of one sex alone.

    >>> from pathlib import Path
    >>> clips = [("anger", "a"), ("anger", "b"), ("fear", "b")]
    >>> class_findings([Utterance("", Path(), emotion, speaker) for emotion, speaker in clips]).warnings
    ['one speaker alone has fear (b): no other speaker can be tested on it']
    """
    speakers: dict[str, set[str]] = {}
    sexes: dict[str, set[str | None]] = {}
    for each in utterances:
        speakers.setdefault(each.emotion, set()).add(each.speaker)
        sexes.setdefault(each.emotion, set()).add(each.sex)
    several = len({each.speaker for each in utterances}) > 1
    one_speaker = {c: min(names) for c, names in sorted(speakers.items()) if several and len(names) == 1}
    known = {sex for of_class in sexes.values() for sex in of_class if sex}
    one_sex = {
        c: str(min(map(str, of_class)))
        for c, of_class in sorted(sexes.items())
        if len(known) > 1 and len(of_class) == 1 and None not in of_class and c not in one_speaker
    }
    warnings = []
    if one_speaker:
        named = enumerated([f"{c} ({speaker})" for c, speaker in one_speaker.items()])
        them = "it" if len(one_speaker) == 1 else "them"
        warnings.append(f"one speaker alone has {named}: no other speaker can be tested on {them}")
    for c, sex in one_sex.items():
        warnings.append(f"all recordings of {c} are of {sex} speakers")
    return Findings(warnings, [])


def speaker_findings(utterances: Sequence[Utterance]) -> Findings:
    """Speakers whose names differ in case or spaces only: most often one person, spelled in two ways.

    >>> from pathlib import Path
    >>> speaker_findings([Utterance("", Path(), "anger", name) for name in ("Anna", "anna", "Bob")]).warnings
    ['speaker names differ in case or spaces only: Anna/anna; if one person has both, write them alike']
    """
    groups = alike({each.speaker for each in utterances})
    if not groups:
        return Findings([], [])
    named = enumerated(["/".join(group) for group in groups])
    notice = f"speaker names differ in case or spaces only: {named}; if one person has both, write them alike"
    return Findings([notice], [])


def fold_findings(folds: Sequence[FoldClasses], *, protocol: str = "") -> Findings:
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
        for each in folds:
            if lacking := tuple(getattr(each, attribute)):
                groups.setdefault(lacking, []).append(each)

        def weight(item: tuple[tuple[str, ...], list[FoldClasses]]) -> tuple[int, int]:
            return sum(each.untrained_tests for each in item[1]), len(item[1])

        said = sorted(groups.items(), key=weight, reverse=True)
        if len(said) > MOST_LINES:
            rest = [each for _, group in said[MOST_LINES - 1 :] for each in group]
            said = [*said[: MOST_LINES - 1], (("some other classes",), rest)]
        sentences = []
        for names, group in said:
            tests = sum(each.untrained_tests for each in group) if attribute == "untrained" else 0
            consequence = f"; {count_of(tests, 'test recording')} cannot be right" if tests else ""
            sentences.append(f"{where(group)}: {text.format(enumerated(names))}{consequence}")
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


def codes(names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different names, sorted, and each one's place among them."""
    different = sorted(set(names))
    places = {name: place for place, name in enumerate(different)}
    return different, np.fromiter((places[name] for name in names), int, len(names))
