"""Protocols: which utterances train, choose the epoch, and test; and the checks that nothing leaks."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from light_sernet_kd.config import PROTOCOL_NAMES, UserError, choose
from light_sernet_kd.corpora import Utterance

STAMP_EPOCH = "optimistic: the epoch was chosen on the test fold"
STAMP_SPEAKERS = "optimistic: test speakers are also in training"


@dataclass(frozen=True)
class Fold:
    """One split; each set is a tuple of indices into the utterances, in their order."""

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Protocol:
    """A way to split a corpus.

    Attributes:
        stamps: what makes its scores optimistic; shown on every result.
        tests_on_validation: the test fold chooses the epoch, as the papers did.
        mixes_speakers: train and test share speakers, and so perhaps recordings.
    """

    description: str
    folds: Callable[[Sequence[Utterance], int], list[Fold]]
    stamps: tuple[str, ...] = ()
    tests_on_validation: bool = False
    mixes_speakers: bool = False


def _by_speaker(utterances: Sequence[Utterance]) -> dict[str, tuple[int, ...]]:
    speakers = sorted({utterance.speaker for utterance in utterances})
    return {
        speaker: tuple(i for i, utterance in enumerate(utterances) if utterance.speaker == speaker)
        for speaker in speakers
    }


def _rest(count: int, *taken: tuple[int, ...]) -> tuple[int, ...]:
    used = set().union(*taken)
    return tuple(i for i in range(count) if i not in used)


def _leave_one_speaker_out(utterances: Sequence[Utterance], seed: int) -> list[Fold]:
    groups = _by_speaker(utterances)
    if len(groups) < 3:
        raise UserError(
            f"leaving one speaker out needs at least 3 speakers (one tests, one validates, the rest train); "
            f"found {len(groups)}: {', '.join(groups)}."
        )
    speakers = list(groups)
    folds = []
    for speaker, following in zip(speakers, speakers[1:] + speakers[:1], strict=True):
        test, validation = groups[speaker], groups[following]
        folds.append(Fold(speaker, _rest(len(utterances), test, validation), validation, test))
    return folds


def _speaker_folds_as_published(utterances: Sequence[Utterance], seed: int) -> list[Fold]:
    groups = _by_speaker(utterances)
    if len(groups) < 2:
        raise UserError(f"folds by speaker need at least 2 speakers; found {', '.join(groups)}.")
    return [Fold(name, _rest(len(utterances), test), test, test) for name, test in groups.items()]


def _random_splits(utterances: Sequence[Utterance], seed: int) -> list[Fold]:
    from sklearn.model_selection import ShuffleSplit

    if len(utterances) < 5:
        raise UserError(f"80/20 splits need at least 5 utterances; found {len(utterances)}.")
    splits = ShuffleSplit(n_splits=10, test_size=0.2, random_state=seed).split(np.arange(len(utterances)))
    folds = []
    for number, (train, test) in enumerate(splits, start=1):
        held_out = tuple(sorted(test.tolist()))
        folds.append(Fold(f"{number:02d}", tuple(sorted(train.tolist())), held_out, held_out))
    return folds


PROTOCOLS: dict[str, Protocol] = {
    "loso": Protocol(
        "leave one speaker out: each speaker tests once, the next speaker validates and chooses the epoch, "
        "the rest train",
        _leave_one_speaker_out,
    ),
    "published": Protocol(
        "speaker folds as published: each speaker tests once, the rest train, the best epoch on the test "
        "fold counts",
        _speaker_folds_as_published,
        stamps=(STAMP_EPOCH,),
        tests_on_validation=True,
    ),
    "random": Protocol(
        "ten random 80/20 splits as published: speakers mixed, the best epoch on the test part counts",
        _random_splits,
        stamps=(STAMP_SPEAKERS, STAMP_EPOCH),
        tests_on_validation=True,
        mixes_speakers=True,
    ),
}


def fold_seed(seed: int, name: str) -> int:
    """A seed for one fold, the same whichever other folds run."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def select(folds: Sequence[Fold], names: Sequence[str]) -> list[Fold]:
    """The folds named, in the protocol's order; all of them when none is named.

    `#3` names the third fold.
    """
    valid = [fold.name for fold in folds]
    wanted = set()
    for name in names:
        if name.startswith("#") and name not in valid:
            number = name.removeprefix("#")
            if not number.isdecimal() or not 1 <= int(number) <= len(folds):
                raise UserError(f"there is no fold number {number}; there are folds 1 to {len(folds)}.")
            wanted.add(valid[int(number) - 1])
        else:
            wanted.add(choose("fold", name, valid))
    return [fold for fold in folds if not wanted or fold.name in wanted]


def make_folds(
    protocol: str, utterances: Sequence[Utterance], fingerprints: Mapping[str, str], *, seed: int
) -> list[Fold]:
    """The folds of `protocol`, checked for leaks.

    Args:
        fingerprints: utterance id → hash of the recording's content.
        seed: draws the `random` splits; the others do not depend on it.

    Raises:
        UserError: sets share an utterance, or they share a speaker or an identical recording and the
            protocol's name does not say so.
    """
    entry = PROTOCOLS[choose("protocol", protocol, PROTOCOL_NAMES)]
    folds = entry.folds(utterances, seed)
    for fold in folds:
        refuse_leaks(fold, utterances, fingerprints, entry)
    return folds


def refuse_leaks(
    fold: Fold, utterances: Sequence[Utterance], fingerprints: Mapping[str, str], protocol: Protocol
) -> None:
    """Raise a `UserError` if the sets of `fold` share what `protocol` does not say they share."""
    pairs = [("train", fold.train, "test", fold.test)]
    if not protocol.tests_on_validation or fold.validation != fold.test:
        pairs += [
            ("train", fold.train, "validation", fold.validation),
            ("validation", fold.validation, "test", fold.test),
        ]
    for first_name, first, second_name, second in pairs:
        if not first or not second:
            raise UserError(f"fold {fold.name}: its {first_name if not first else second_name} set is empty.")
        where = f"fold {fold.name}: {first_name} and {second_name}"
        if shared := sorted(set(first) & set(second)):
            raise UserError(f"{where} share {len(shared)} utterances, e.g. {utterances[shared[0]].id}.")
        if protocol.mixes_speakers:
            continue
        speakers = {utterances[i].speaker for i in first} & {utterances[i].speaker for i in second}
        if speakers:
            raise UserError(f"{where} share the speakers {', '.join(sorted(speakers))}.")
        recordings = {fingerprints[utterances[i].id]: utterances[i] for i in first}
        twins = [
            (recordings[fingerprints[utterances[i].id]].path, utterances[i].path)
            for i in second
            if fingerprints[utterances[i].id] in recordings
        ]
        if twins:
            raise UserError(
                f"{where} share {len(twins)} identical recordings, e.g. {twins[0][0]} and {twins[0][1]}: "
                f"keep one of each, or give both the same speaker."
            )


def shared_recordings(
    folds: Sequence[Fold], utterances: Sequence[Utterance], fingerprints: Mapping[str, str]
) -> int:
    """How many test recordings, over all folds, also occur in training under another id."""
    count = 0
    for fold in folds:
        train = {fingerprints[utterances[i].id] for i in fold.train}
        count += sum(fingerprints[utterances[i].id] in train for i in fold.test)
    return count
