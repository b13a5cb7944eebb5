"""Protocols: which utterances train, choose the epoch, and test; and the checks that nothing leaks."""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from light_sernet_kd.corpora import Utterance
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.protocols import PROTOCOLS, Protocol
from light_sernet_kd.reporting.text import pluralise

STAMP_ONE_TRAINS = "the epoch was chosen on other recordings of the only training speaker"


@dataclass(frozen=True)
class Fold:
    """One split; each set is a tuple of indices into the utterances, in their order.

    >>> fold = Fold("ann", train=(0, 1, 2), validation=(3,), test=(4, 5))
    >>> fold.selection_indices
    (3,)
    """

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    @property
    def selection_indices(self) -> tuple[int, ...]:
        """What may choose an epoch or a penalty: the validation set, unless it tests too."""
        return () if set(self.validation) & set(self.test) else self.validation


# The name of the student, and of the teacher, that every speaker trains.
ALL_SPEAKERS = "all-speakers"
# The words a `split` column may use; `evaluation` validates in ESD.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development", "evaluation"),
    "test": ("test", "testing"),
}
# Of the training utterances, where a split names no validation set: whole speakers up to at least this share.
HELD_OUT_SHARE = 0.1


def _groups(utterances: Sequence[Utterance], key: Callable[[Utterance], str]) -> dict[str, tuple[int, ...]]:
    """Indices of the utterances by what `key` says of them, in alphabetical order."""
    indices_by_key: dict[str, list[int]] = {}
    for index, utterance in enumerate(utterances):
        indices_by_key.setdefault(key(utterance), []).append(index)
    return {name: tuple(indices_by_key[name]) for name in sorted(indices_by_key)}


def _speaker(utterance: Utterance) -> str:
    return utterance.speaker


def _by_session(utterances: Sequence[Utterance]) -> dict[str, tuple[int, ...]]:
    if without := [utterance.id for utterance in utterances if not utterance.session]:
        raise UserError(
            f"folds by session need the session of every recording; {len(without)} have none, e.g. "
            f"{without[0]}. Take --protocol loso."
        )
    return _groups(utterances, lambda utterance: str(utterance.session))


def _rest(count: int, *taken: tuple[int, ...]) -> tuple[int, ...]:
    used = set().union(*taken)
    return tuple(i for i in range(count) if i not in used)


def _leave_one_out(groups: Mapping[str, tuple[int, ...]], what: str, count: int) -> list[Fold]:
    """Each group tests once, the next one validates, the rest of the `count` utterances train."""
    names = list(groups)
    if len(names) < 3:
        raise UserError(
            f"leaving one {what} out needs at least 3 {what}s (one tests, one validates, the rest train); "
            f"found {len(names)}: {', '.join(names)}. {_what_works(len(names), what)}"
        )
    folds = []
    for name, following in zip(names, names[1:] + names[:1], strict=True):
        test, validation = groups[name], groups[following]
        folds.append(Fold(name, _rest(count, test, validation), validation, test))
    return folds


def _what_works(count: int, what: str = "speaker") -> str:
    """Which protocols run where there are one or two speakers (or other groups)."""
    if what != "speaker":
        return "Take --protocol loso, which needs 3 speakers, or two_speakers."
    others = (
        "--protocol split, where a column `split` says train and test, and --test-on CORPUS, which tests on "
        "another corpus's speakers"
    )
    if count == 2:
        return f"With two, these run: --protocol two_speakers (each tests once, the other trains), {others}."
    return (
        "With one, no score on this corpus is of a new speaker: --test-on CORPUS tests on another corpus's; "
        "--protocol random and, with a column `split`, split_mixed test on the speaker they trained on, and "
        "their scores are stamped."
    )


def leave_one_speaker_out(utterances: Sequence[Utterance], seed: int, n_folds: int) -> list[Fold]:
    """A fold per speaker, who tests; the next one validates.

    Raises:
        UserError: there are fewer than 3 speakers.
    """
    return _leave_one_out(_groups(utterances, _speaker), "speaker", len(utterances))


def leave_one_session_out(utterances: Sequence[Utterance], seed: int, n_folds: int) -> list[Fold]:
    """A fold per session, which tests; the next one validates.

    Raises:
        UserError: a recording has no session, or there are fewer than 3 sessions.
    """
    return _leave_one_out(_by_session(utterances), "session", len(utterances))


def two_speakers(utterances: Sequence[Utterance], seed: int, n_folds: int) -> list[Fold]:
    """A fold per speaker, who tests; some sentences of the other one validate.

    Raises:
        UserError: there are not two speakers, or one has a single recording.
    """
    groups = _groups(utterances, _speaker)
    if len(groups) != 2:
        remedy = "Take --protocol loso." if len(groups) > 2 else _what_works(len(groups))
        raise UserError(
            f"two_speakers is for two speakers; found {len(groups)}: {', '.join(list(groups)[:10])}. {remedy}"
        )
    folds = []
    for name, other in zip(groups, reversed(groups), strict=True):
        held_out = _held_out_sentences(utterances, groups[other])
        taken = set(held_out)
        folds.append(Fold(name, tuple(i for i in groups[other] if i not in taken), held_out, groups[name]))
    return folds


def _held_out_sentences(utterances: Sequence[Utterance], indices: tuple[int, ...]) -> tuple[int, ...]:
    """Whole sentences of a speaker, a tenth of the recordings or a little more, to validate on.

    Where transcripts do not tell sentences apart, single recordings. Each emotion of which there are two is
    on both sides, if sentences allow it.
    """
    sentences = _groups([utterances[i] for i in indices], lambda each: each.transcript or each.id)
    if len(sentences) < 2:
        sentences = _groups([utterances[i] for i in indices], lambda each: each.id)
    if len(sentences) < 2:
        raise UserError(
            f"{utterances[indices[0]].speaker} has {len(indices)} recording: a speaker who trains alone "
            "needs 2, one to train and one to validate."
        )
    # By a hash, since in the order of names neighbours are alike; always the same.
    order = sorted(sentences, key=lambda text: (zlib.crc32(text.encode(errors="surrogatepass")), text))
    emotions = {text: Counter(utterances[indices[at]].emotion for at in sentences[text]) for text in order}
    left = sum(emotions.values(), Counter())
    held: Counter[str] = Counter()
    taken: list[int] = []
    wanted = {emotion for emotion, count in left.items() if count > 1}
    for text in order:
        enough = len(taken) >= HELD_OUT_SHARE * len(indices)
        brings = any(emotion in wanted and not held[emotion] for emotion in emotions[text])
        empties = any(left[emotion] <= count for emotion, count in emotions[text].items())
        if (enough and not brings) or empties:
            continue
        taken += [indices[at] for at in sentences[text]]
        held += emotions[text]
        left = left - emotions[text]
    return tuple(sorted(taken or [indices[at] for at in sentences[order[0]]]))


def folds_of_speakers(utterances: Sequence[Utterance], seed: int, n_folds: int) -> list[Fold]:
    """`n_folds` groups of speakers of about equal size; one tests, the next one validates.

    Raises:
        UserError: `n_folds` is below 3 or above the number of speakers.
    """
    from sklearn.model_selection import GroupKFold

    speakers = [utterance.speaker for utterance in utterances]
    if not 3 <= n_folds <= len(set(speakers)):
        raise UserError(
            f"{n_folds} folds of speakers: at least 3 are needed (one tests, one validates, the rest train), "
            f"and no more than there are speakers, {len(set(speakers))}."
            + (f" {_what_works(len(set(speakers)))}" if len(set(speakers)) < 3 else "")
        )
    splits = GroupKFold(n_splits=n_folds).split(speakers, groups=speakers)
    groups = {f"{n:02d}": tuple(test.tolist()) for n, (_, test) in enumerate(splits, start=1)}
    return _leave_one_out(groups, "group", len(utterances))


def by_split_column(utterances: Sequence[Utterance], seed: int, n_folds: int) -> list[Fold]:
    """One fold, of the sets that the utterances name; without a validation set, of some training speakers.

    Raises:
        UserError: an utterance names no set of `SPLITS`, training or test has none, or the
            only training speaker has a single recording.
    """
    set_of = {word: name for name, words in SPLITS.items() for word in words}
    for utterance in utterances:
        if (utterance.split or "").lower() not in set_of:
            raise UserError(
                f"{utterance.id}: its split is {utterance.split or 'empty'}; expected one of "
                f"{', '.join(SPLITS)} (or {', '.join(word for word in set_of if word not in SPLITS)})."
            )
    sets = _groups(utterances, lambda utterance: set_of[str(utterance.split).lower()])
    train, test = sets.get("train", ()), sets.get("test", ())
    if not train or not test:
        raise UserError(
            f"the split names no recording for {'train' if not train else 'test'}; it has "
            f"{', '.join(f'{name} {len(indices)}' for name, indices in sets.items())}."
        )
    validation = sets.get("validation") or _some_speakers(utterances, train)
    return [Fold("split", tuple(i for i in train if i not in set(validation)), validation, test)]


def _some_speakers(utterances: Sequence[Utterance], train: tuple[int, ...]) -> tuple[int, ...]:
    """Whole speakers taken from the training set, to validate on; of a single speaker some sentences."""
    groups = _groups([utterances[i] for i in train], _speaker)
    if len(groups) < 2:
        return _held_out_sentences(utterances, train)
    taken: list[int] = []
    for positions in list(groups.values())[:-1]:
        if len(taken) >= HELD_OUT_SHARE * len(train):
            break
        taken += [train[position] for position in positions]
    return tuple(sorted(taken))


def folds_as_published(utterances: Sequence[Utterance], seed: int, n_folds: int) -> list[Fold]:
    """A fold per session, or per speaker where a recording has no session; the test set validates too.

    Raises:
        UserError: there are fewer than 2 sessions, or without sessions fewer than 2 speakers.
    """
    by_session = all(utterance.session for utterance in utterances)
    groups = _by_session(utterances) if by_session else _groups(utterances, _speaker)
    if len(groups) < 2:
        what = "session" if by_session else "speaker"
        raise UserError(f"folds by {what} need at least 2 {what}s; found {', '.join(groups)}.")
    return [Fold(name, _rest(len(utterances), test), test, test) for name, test in groups.items()]


def random_splits(utterances: Sequence[Utterance], seed: int, n_folds: int) -> list[Fold]:
    """Ten random splits into 80 % for training and 20 % for test; the test set validates too.

    Raises:
        UserError: there are fewer than 5 utterances.
    """
    from sklearn.model_selection import ShuffleSplit

    if len(utterances) < 5:
        raise UserError(f"80/20 splits need at least 5 utterances; found {len(utterances)}.")
    splits = ShuffleSplit(n_splits=10, test_size=0.2, random_state=seed).split(np.arange(len(utterances)))
    folds = []
    for number, (train, test) in enumerate(splits, start=1):
        held_out = tuple(sorted(test.tolist()))
        folds.append(Fold(f"{number:02d}", tuple(sorted(train.tolist())), held_out, held_out))
    return folds


def fold_seed(seed: int, name: str) -> int:
    """A seed for one fold, the same whichever other folds run."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def select(folds: Sequence[Fold], names: Sequence[str]) -> list[Fold]:
    """The folds named, in the protocol's order; all of them when none is named.

    `#3` names the third fold.

    Raises:
        UserError: a name is no fold.
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
    protocol: str,
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    *,
    seed: int,
    n_folds: int = 5,
) -> list[Fold]:
    """The folds of `protocol`, checked for leaks.

    Args:
        fingerprints: utterance id → hash of the recording's content.
        seed: draws the `random` splits; the others do not depend on it.
        n_folds: how many folds `group_kfold` makes; the others have as many as their groups.

    Raises:
        UserError: a group has the final fold's name, sets share an utterance, or they share a speaker or an
            identical recording and the protocol's name does not say so.

    Each of three speakers tests once.

    >>> names = ["ann-1", "ann-2", "bob-1", "bob-2", "eve-1", "eve-2"]
    >>> clips = [Utterance(name, f"{name}.wav", emotion="fear", speaker=name[:3]) for name in names]
    >>> hashes = {clip.id: f"hash of {clip.id}" for clip in clips}  # `audio.fingerprints` makes real ones
    >>> [(fold.name, fold.test) for fold in make_folds("loso", clips, hashes, seed=0)]
    [('ann', (0, 1)), ('bob', (2, 3)), ('eve', (4, 5))]
    """
    protocol = choose("protocol", protocol, PROTOCOLS)
    folds = propose_folds(protocol, utterances, seed=seed, n_folds=n_folds)
    for fold in folds:
        if fold.name.casefold() == ALL_SPEAKERS:
            raise UserError(f"{fold.name} is the name of the final student's fold: rename that speaker.")
        refuse_leaks(fold, utterances, fingerprints, PROTOCOLS[protocol])
    return folds


def propose_folds(
    protocol: str, utterances: Sequence[Utterance], *, seed: int, n_folds: int = 5
) -> list[Fold]:
    """`make_folds` without its checks.

    Raises:
        UserError: unknown protocol, or as its function.
    """
    return PROTOCOLS[choose("protocol", protocol, PROTOCOLS)].folds(utterances, seed, n_folds)


def _trains_alone(fold: Fold, utterances: Sequence[Utterance]) -> bool:
    """Whether one speaker trains and validates: nobody else is left who does not test."""
    return len({utterances[i].speaker for i in (*fold.train, *fold.validation)}) == 1


def stamps_of(protocol: Protocol, folds: Sequence[Fold], utterances: Sequence[Utterance]) -> tuple[str, ...]:
    """The protocol's stamps, and what these folds add: of a split with one training speaker."""
    known = protocol.stamps or any(set(fold.validation) & set(fold.test) for fold in folds)
    one_speaker_trains = not known and any(_trains_alone(fold, utterances) for fold in folds)
    return (*protocol.stamps, *([STAMP_ONE_TRAINS] if one_speaker_trains else []))


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
            raise UserError(
                f"{where} share {pluralise(len(shared), 'utterance')}, e.g. {utterances[shared[0]].id}."
            )
        if protocol.mixes_speakers:
            continue
        speakers = {utterances[i].speaker for i in first} & {utterances[i].speaker for i in second}
        may_share = protocol.validates_on_training_speakers or _trains_alone(fold, utterances)
        if speakers and not (may_share and second_name == "validation"):
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
                "either one of the two names the wrong speaker, or a file was copied. Listen, and remove the "
                "wrong one."
            )
