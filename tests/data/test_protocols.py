"""Protocols: who trains, who validates, who tests, and that nothing leaks unsaid."""

import dataclasses
from pathlib import Path

import pytest

from light_sernet_kd.corpora import Utterance, registry
from light_sernet_kd.data import protocols
from light_sernet_kd.data.protocols import Fold, fold_seed, make_folds, refuse_leaks, select
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.protocols import (
    PROTOCOLS,
    STAMP_EPOCH,
    STAMP_SPEAKERS,
    STAMP_TWO_SPEAKERS,
)


def speech(*speakers: str) -> list[Utterance]:
    """One utterance per entry; the ids count, so that they do not tell the speaker."""
    return [Utterance(f"u{n:02d}", Path(f"u{n:02d}.wav"), "fear", s) for n, s in enumerate(speakers)]


def distinct(utterances) -> dict[str, str]:
    return {utterance.id: f"hash of {utterance.id}" for utterance in utterances}


def speakers_of(utterances, indices) -> set[str]:
    return {utterances[i].speaker for i in indices}


# Each speaker is a session of her own; d tests in the corpus's own split.
FOUR = [
    dataclasses.replace(u, session=f"of {u.speaker}", split="test" if u.speaker == "d" else "train")
    for u in speech("b", "a", "c", "a", "d", "b", "c", "d", "a")
]


def test_a_protocol_that_mixes_speakers_or_tests_on_validation_is_stamped_and_no_other():
    for protocol in PROTOCOLS.values():
        assert (STAMP_SPEAKERS in protocol.stamps) == protocol.mixes_speakers
        assert (STAMP_EPOCH in protocol.stamps) == protocol.tests_on_validation


def test_an_unknown_protocol_is_refused():
    with pytest.raises(UserError, match=r"unknown protocol 'los'\. Did you mean loso\?"):
        make_folds("los", FOUR, distinct(FOUR), seed=0)


def of_protocol(protocol: str) -> list[Utterance]:
    """Utterances that a protocol has folds of."""
    return [each for each in FOUR if each.speaker in "ab"] if protocol == "two_speakers" else FOUR


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_fold_uses_every_utterance_once_in_training_or_out_of_it(protocol):
    utterances = of_protocol(protocol)
    for fold in make_folds(protocol, utterances, distinct(FOUR), seed=3, n_folds=4):
        held_out = {*fold.validation, *fold.test}
        assert sorted([*fold.train, *held_out]) == list(range(len(utterances)))
        for part in (fold.train, fold.validation, fold.test):
            assert part
            assert list(part) == sorted(set(part))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fold_names_are_unique(protocol):
    utterances = of_protocol(protocol)
    names = [fold.name for fold in make_folds(protocol, utterances, distinct(FOUR), seed=0, n_folds=3)]
    assert len(set(names)) == len(names)


# two_speakers


def two(count: int = 40, **facts) -> list[Utterance]:
    """Two speakers who each say `count` recordings: ten sentences, each in four emotions."""
    return [
        Utterance(
            f"{s}{n:03}", Path(f"{s}{n}.wav"), "abcd"[n % 4], s, transcript=f"sentence {n // 4}", **facts
        )
        for s in ("x", "y")
        for n in range(count)
    ]


def test_of_two_speakers_each_tests_once_and_held_out_sentences_of_the_other_choose_the_epoch():
    utterances = two()
    folds = make_folds("two_speakers", utterances, distinct(utterances), seed=0)
    assert [fold.name for fold in folds] == ["x", "y"]
    for fold, other in zip(folds, ("y", "x"), strict=True):
        assert speakers_of(utterances, fold.test) == {fold.name}
        assert speakers_of(utterances, fold.train) == speakers_of(utterances, fold.validation) == {other}
        sentences = [{utterances[i].transcript for i in part} for part in (fold.train, fold.validation)]
        assert not set.intersection(*sentences)
        assert len(fold.validation) == 4  # one sentence is a tenth
        assert {utterances[i].emotion for i in fold.validation} == set("abcd")
    assert PROTOCOLS["two_speakers"].stamps == (STAMP_TWO_SPEAKERS,)


@pytest.mark.parametrize("texts", [None, "all the same"])
def test_without_sentences_recordings_are_held_out_of_each_emotion(texts):
    utterances = [dataclasses.replace(each, transcript=texts) for each in two()]
    for fold in make_folds("two_speakers", utterances, distinct(utterances), seed=0):
        assert {utterances[i].emotion for i in fold.validation} == set("abcd")
        assert 4 <= len(fold.validation) <= 8


def test_two_speakers_is_for_two_and_what_else_runs_is_told():
    with pytest.raises(UserError, match=r"found 3: a, b, c\. Take --protocol loso\."):
        make_folds("two_speakers", speech("a", "b", "c"), {}, seed=0)
    with pytest.raises(UserError) as caught:
        make_folds("two_speakers", speech("a", "a"), {}, seed=0)
    for way in ("--test-on CORPUS", "--protocol random", "split_mixed"):
        assert way in str(caught.value)
    with pytest.raises(UserError, match="x has 1 recording: a speaker who trains alone needs 2"):
        make_folds("two_speakers", speech("x", "y", "y"), {}, seed=0)


@pytest.mark.parametrize("protocol", ["loso", "group_kfold"])
@pytest.mark.parametrize(("speakers", "way"), [("ab", "--protocol two_speakers"), ("a", "--protocol random")])
def test_where_speakers_are_too_few_what_runs_is_told(protocol, speakers, way):
    with pytest.raises(UserError) as caught:
        make_folds(protocol, speech(*speakers, *speakers), {}, seed=0)
    assert way in str(caught.value)
    assert "--test-on CORPUS" in str(caught.value)


# loso


def test_loso_of_three_speakers_worked_by_hand():
    utterances = speech("b", "a", "c", "a")
    assert make_folds("loso", utterances, distinct(utterances), seed=0) == [
        Fold("a", train=(2,), validation=(0,), test=(1, 3)),
        Fold("b", train=(1, 3), validation=(2,), test=(0,)),
        Fold("c", train=(0,), validation=(1, 3), test=(2,)),
    ]


def test_under_loso_every_utterance_tests_once_and_validates_once():
    folds = make_folds("loso", FOUR, distinct(FOUR), seed=0)
    assert sorted(i for fold in folds for i in fold.test) == list(range(len(FOUR)))
    assert sorted(i for fold in folds for i in fold.validation) == list(range(len(FOUR)))


def test_under_loso_no_two_sets_share_a_speaker():
    for fold in make_folds("loso", FOUR, distinct(FOUR), seed=0):
        sets = [speakers_of(FOUR, part) for part in (fold.train, fold.validation, fold.test)]
        assert sum(map(len, sets)) == len(set().union(*sets)) == 4
        assert sets[2] == {fold.name}


def test_the_speaker_who_validates_is_the_next_one():
    folds = make_folds("loso", FOUR, distinct(FOUR), seed=0)
    validating = {fold.name: speakers_of(FOUR, fold.validation) for fold in folds}
    assert validating == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"a"}}


def test_loso_and_published_do_not_depend_on_the_seed():
    for protocol in ("loso", "published"):
        assert make_folds(protocol, FOUR, distinct(FOUR), seed=0) == make_folds(
            protocol, FOUR, distinct(FOUR), seed=9
        )


def test_loso_of_emo_db_has_ten_folds_named_after_its_speakers(shared_data):
    utterances = registry.load("EMO-DB", shared_data).utterances
    folds = make_folds("loso", utterances, distinct(utterances), seed=0)
    assert [fold.name for fold in folds] == ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]
    assert [len(fold.test) for fold in folds] == [49, 58, 43, 38, 55, 35, 61, 69, 56, 71]
    assert [len(fold.train) for fold in folds][:2] == [535 - 49 - 58, 535 - 58 - 43]


# session


def in_sessions(*pairs: str) -> list[Utterance]:
    """Utterances from texts such as "1a": session and speaker."""
    return [dataclasses.replace(u, session=u.speaker[0]) for u in speech(*pairs)]


def test_session_folds_of_six_speakers_in_three_sessions_worked_by_hand():
    utterances = in_sessions("1a", "1b", "2c", "3e", "2d", "3f")
    assert make_folds("session", utterances, distinct(utterances), seed=0) == [
        Fold("1", train=(3, 5), validation=(2, 4), test=(0, 1)),
        Fold("2", train=(0, 1), validation=(3, 5), test=(2, 4)),
        Fold("3", train=(2, 4), validation=(0, 1), test=(3, 5)),
    ]


def test_session_folds_need_every_session():
    utterances = [*in_sessions("1a", "2b", "3c"), Utterance("lost", Path("lost.wav"), "fear", "4d")]
    with pytest.raises(UserError, match=r"1 have none, e\.g\. lost\. Take --protocol loso\."):
        make_folds("session", utterances, distinct(utterances), seed=0)


def test_a_speaker_in_two_sessions_is_refused():
    utterances = [dataclasses.replace(u, session=s) for u, s in zip(speech(*"aba"), "123", strict=True)]
    with pytest.raises(UserError, match="share the speakers a"):
        make_folds("session", utterances, distinct(utterances), seed=0)


# group_kfold


def test_group_folds_hold_whole_speakers_and_are_alike_in_size():
    utterances = speech(*("a" * 6 + "b" * 5 + "c" * 4 + "d" * 3 + "e" * 2 + "f"))
    folds = make_folds("group_kfold", utterances, distinct(utterances), seed=0, n_folds=3)
    assert [fold.name for fold in folds] == ["01", "02", "03"]
    # 21 utterances: 6 + 1, 5 + 2, 4 + 3.
    assert [len(fold.test) for fold in folds] == [7, 7, 7]
    assert sorted(i for fold in folds for i in fold.test) == list(range(21))
    for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
        assert fold.validation == following.test


@pytest.mark.parametrize("n_folds", [2, 5])
def test_a_number_of_groups_that_cannot_be_is_refused(n_folds):
    with pytest.raises(UserError, match=r"at least 3 are needed .* no more than there are speakers, 4"):
        make_folds("group_kfold", FOUR, distinct(FOUR), seed=0, n_folds=n_folds)


# split and cross_corpus


def split(*marks: str) -> list[Utterance]:
    """Utterances from texts such as "a:train": speaker and split."""
    pairs = [mark.split(":") for mark in marks]
    named = speech(*(speaker for speaker, _ in pairs))
    return [dataclasses.replace(u, split=s) for u, (_, s) in zip(named, pairs, strict=True)]


@pytest.mark.parametrize("word", ["validation", "dev", "VAL", "evaluation"])
def test_the_split_column_names_the_sets(word):
    utterances = split("a:train", f"b:{word}", "c:test", "a:training")
    folds = make_folds("split", utterances, distinct(utterances), seed=0)
    assert folds == [Fold("split", train=(0, 3), validation=(1,), test=(2,))]


def test_without_a_validation_set_whole_training_speakers_validate():
    # 20 utterances train, so the tenth is 2: speaker a alone has 1, a and b have 3.
    utterances = split("a:train", "b:train", "b:train", *["c:train"] * 9, *["d:train"] * 8, "e:test")
    (fold,) = make_folds("split", utterances, distinct(utterances), seed=0)
    assert fold == Fold("split", train=tuple(range(3, 20)), validation=(0, 1, 2), test=(20,))


def test_the_last_training_speaker_is_never_taken_for_validation():
    utterances = split("a:train", *["b:train"] * 30, "c:test")
    (fold,) = make_folds("split", utterances, distinct(utterances), seed=0)
    assert speakers_of(utterances, fold.validation) == {"a"}


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        (("a:train", "b:", "c:test"), "u01: its split is empty; expected one of train, validation, test"),
        (("a:train", "b:tset"), "u01: its split is tset; expected"),
        (("a:train", "b:dev"), "names no recording for test; it has train 1, validation 1"),
        (("a:train", "b:test"), "a has 1 recording: a speaker who trains alone needs 2"),
        (("a:train", "b:dev", "a:test"), "train and test share the speakers a"),
    ],
)
def test_an_unusable_split_is_refused(marks, message):
    utterances = split(*marks)
    with pytest.raises(UserError, match=message):
        make_folds("split", utterances, distinct(utterances), seed=0)


@pytest.mark.parametrize("marks", [("a:train",) * 9, (*("a:train",) * 8, "a:dev")])
def test_a_single_training_speaker_validates_on_other_recordings_and_that_is_a_stamp(marks):
    """Marked by the user or not: messages that refused both would leave two speakers no split."""
    utterances = split(*marks, "b:test")
    (fold,) = folds = make_folds("split", utterances, distinct(utterances), seed=0)
    assert fold.test == (9,)
    assert len(fold.validation) == 1
    assert sorted((*fold.train, *fold.validation)) == list(range(9))
    assert protocols.stamps_of(PROTOCOLS["split"], folds, utterances) == (protocols.STAMP_ONE_TRAINS,)
    more = split("a:train", "c:train", "a:dev", "b:test")
    with pytest.raises(UserError, match="train and validation share the speakers a"):
        make_folds("split", more, distinct(more), seed=0)


def test_no_other_protocol_has_the_stamp_of_a_single_training_speaker():
    for name, protocol in PROTOCOLS.items():
        utterances = of_protocol(name)
        if name not in ("split", "cross_corpus", "split_mixed"):
            folds = protocols.propose_folds(name, utterances, seed=0, n_folds=3)
            assert protocols.stamps_of(protocol, folds, utterances) == protocol.stamps


def test_a_split_that_shares_speakers_has_a_protocol_that_says_so():
    utterances = split("a:train", "b:dev", "a:test")
    (fold,) = make_folds("split_mixed", utterances, distinct(utterances), seed=0)
    assert fold == Fold("split", train=(0,), validation=(1,), test=(2,))
    assert PROTOCOLS["split_mixed"].stamps == (STAMP_SPEAKERS,)


# published


def test_published_leaves_sessions_out_where_there_are_any():
    utterances = in_sessions("1a", "1b", "2c", "2d")
    folds = make_folds("published", utterances, distinct(utterances), seed=0)
    assert folds == [Fold("1", (2, 3), (0, 1), (0, 1)), Fold("2", (0, 1), (2, 3), (2, 3))]


def test_published_chooses_the_epoch_on_the_test_fold_and_says_so():
    utterances = speech(*(utterance.speaker for utterance in FOUR))
    folds = make_folds("published", utterances, distinct(utterances), seed=0)
    assert [fold.name for fold in folds] == ["a", "b", "c", "d"]
    assert sorted(i for fold in folds for i in fold.test) == list(range(len(FOUR)))
    for fold in folds:
        assert fold.validation == fold.test
        assert speakers_of(FOUR, fold.test) == {fold.name}
        assert fold.name not in speakers_of(FOUR, fold.train)
    assert PROTOCOLS["published"].stamps == ("optimistic: the epoch was chosen on the test fold",)


# random


def test_random_is_ten_splits_of_80_to_20_that_mix_speakers_and_says_so():
    utterances = speech(*"abcde" * 20)
    folds = make_folds("random", utterances, distinct(utterances), seed=0)
    assert [fold.name for fold in folds] == [f"{n:02d}" for n in range(1, 11)]
    assert len({fold.test for fold in folds}) == 10
    for fold in folds:
        assert (len(fold.train), len(fold.test)) == (80, 20)
        assert fold.validation == fold.test
    assert any(speakers_of(utterances, f.train) & speakers_of(utterances, f.test) for f in folds)
    assert PROTOCOLS["random"].stamps == (
        "optimistic: test speakers are also in training",
        "optimistic: the epoch was chosen on the test fold",
    )


def test_random_splits_are_decided_by_the_seed():
    utterances = speech(*"abcde" * 20)
    first, again, other = (make_folds("random", utterances, distinct(utterances), seed=s) for s in (1, 1, 2))
    assert first == again
    assert all(one.test != two.test for one, two in zip(first, other, strict=True))


# Too little to split


@pytest.mark.parametrize(
    ("protocol", "speakers", "message"),
    [
        ("loso", "aabb", "leaving one speaker out needs at least 3 speakers .*; found 2: a, b."),
        ("published", "aaaaa", "folds by speaker need at least 2 speakers; found a."),
        ("random", "abcd", "80/20 splits need at least 5 utterances; found 4."),
    ],
)
def test_too_few_to_split_is_refused_with_what_was_found(protocol, speakers, message):
    utterances = speech(*speakers)
    with pytest.raises(UserError, match=message):
        make_folds(protocol, utterances, distinct(utterances), seed=0)


def test_the_fewest_that_can_be_split():
    for protocol, speakers, folds in (("loso", "abc", 3), ("published", "ab", 2), ("random", "aaaaa", 10)):
        utterances = speech(*speakers)
        assert len(make_folds(protocol, utterances, distinct(utterances), seed=0)) == folds


# Leaks


def twins(*pair: int) -> dict[str, str]:
    return distinct(FOUR) | {FOUR[i].id: "the same recording" for i in pair}


@pytest.mark.parametrize("protocol", ["loso", "published"])
def test_one_recording_under_two_speakers_is_refused_with_both_files(protocol):
    with pytest.raises(UserError) as caught:
        make_folds(protocol, FOUR, twins(0, 2), seed=0)
    message = str(caught.value)
    assert "share 1 identical recordings, e.g. " in message
    assert "u00.wav" in message
    assert "u02.wav" in message
    assert message.endswith("or a file was copied. Listen, and remove the wrong one.")
    # To call both one person would hide the fault, and the rest of either person's recordings with it.
    assert "same speaker" not in message


@pytest.mark.parametrize("name", ["all-speakers", "All-Speakers"])
def test_no_speaker_may_have_the_name_of_the_final_students_fold(name):
    utterances = speech("a", "b", name)
    with pytest.raises(UserError, match=f"{name} is the name of the final student's fold"):
        make_folds("loso", utterances, distinct(utterances), seed=0)
    make_folds("random", speech("a", "b", name, "c", "d"), distinct(speech(*"abcde")), seed=0)


def test_one_recording_twice_of_one_speaker_is_no_leak_under_loso():
    assert len(make_folds("loso", FOUR, twins(1, 3), seed=0)) == 4


def test_identical_recordings_are_allowed_under_random():
    assert len(make_folds("random", FOUR, twins(0, 2), seed=0)) == 10


# FOUR is b a c a d b c d a: a 1 3 8, b 0 5, c 2 6, d 4 7.
SOUND = Fold("a", train=(2, 4, 6, 7), validation=(0, 5), test=(1, 3, 8))


def test_a_sound_fold_made_by_hand_is_accepted():
    refuse_leaks(SOUND, FOUR, distinct(FOUR), PROTOCOLS["loso"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": (0, 2, 4)}, "fold a: train and validation share 1 utterance, e.g. u00"),
        ({"train": (1, 2, 4)}, "fold a: train and test share 1 utterance, e.g. u01"),
        ({"validation": (1, 3, 8)}, "fold a: validation and test share 3 utterances, e.g. u01"),
        ({"test": (1, 3), "train": (2, 4, 8)}, "fold a: train and test share the speakers a"),
        ({"validation": (0,), "train": (2, 5)}, "fold a: train and validation share the speakers b"),
        ({"validation": (0, 8), "test": (1, 3)}, "fold a: validation and test share the speakers a"),
        ({"test": ()}, "fold a: its test set is empty"),
        ({"train": ()}, "fold a: its train set is empty"),
        ({"validation": ()}, "fold a: its validation set is empty"),
    ],
)
def test_a_leaking_fold_made_by_hand_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        refuse_leaks(dataclasses.replace(SOUND, **change), FOUR, distinct(FOUR), PROTOCOLS["loso"])


@pytest.mark.parametrize(("first", "second"), [(2, 0), (2, 1), (0, 1)])
def test_a_recording_shared_between_any_two_sets_is_refused(first, second):
    with pytest.raises(UserError, match="share 1 identical recordings"):
        refuse_leaks(SOUND, FOUR, twins(first, second), PROTOCOLS["loso"])


def test_published_permits_only_that_validation_is_the_test_set():
    same = Fold("a", train=(2, 4, 6, 7), validation=(1, 3, 8), test=(1, 3, 8))
    refuse_leaks(same, FOUR, distinct(FOUR), PROTOCOLS["published"])
    refuse_leaks(SOUND, FOUR, distinct(FOUR), PROTOCOLS["published"])
    for validation, message in (((2,), "train and validation share"), ((1,), "validation and test share")):
        with pytest.raises(UserError, match=message):
            refuse_leaks(
                dataclasses.replace(same, validation=validation), FOUR, distinct(FOUR), PROTOCOLS["published"]
            )


def test_random_permits_shared_speakers_but_no_utterance_on_both_sides():
    mixed = Fold("01", train=(0, 1, 2), validation=(3, 5), test=(3, 5))
    refuse_leaks(mixed, FOUR, distinct(FOUR), PROTOCOLS["random"])
    leaking = dataclasses.replace(mixed, train=(0, 1, 5))
    with pytest.raises(UserError, match="fold 01: train and test share 1 utterance"):
        refuse_leaks(leaking, FOUR, distinct(FOUR), PROTOCOLS["random"])


def test_make_folds_checks_the_folds_of_a_protocol(monkeypatch):
    leaking = dataclasses.replace(SOUND, validation=SOUND.test)
    entry = dataclasses.replace(PROTOCOLS["loso"], folds=lambda *_: [SOUND, leaking])
    monkeypatch.setitem(PROTOCOLS, "loso", entry)
    with pytest.raises(UserError, match="validation and test share 3 utterances"):
        make_folds("loso", FOUR, distinct(FOUR), seed=0)


# select and fold_seed


FOLDS = [Fold(name, (), (), ()) for name in ("03", "08", "Ses01")]


def test_all_folds_run_when_none_is_named():
    assert select(FOLDS, ()) == FOLDS


def test_named_folds_run_in_the_protocols_order_and_once():
    assert select(FOLDS, ["Ses01", "03", "03"]) == [FOLDS[0], FOLDS[2]]
    assert select(FOLDS, ["ses01"]) == [FOLDS[2]]


def test_a_fold_has_a_number_from_1():
    assert select(FOLDS, ["#3"]) == [FOLDS[2]]
    assert select(FOLDS, ["#1", "08"]) == FOLDS[:2]
    assert select(FOLDS, ["#2", "08"]) == [FOLDS[1]]


@pytest.mark.parametrize("number", ["0", "4", "-1", "x", "1.0", ""])
def test_a_number_that_no_fold_has_is_refused(number):
    with pytest.raises(UserError, match=f"there is no fold number {number}; there are folds 1 to 3"):
        select(FOLDS, [f"#{number}"])


def test_a_speaker_may_be_called_as_a_number_is_written():
    folds = [*FOLDS, Fold("#1", (), (), ())]
    assert select(folds, ["#1"]) == [folds[3]]


def test_a_typo_in_a_fold_gets_the_nearest():
    with pytest.raises(UserError, match=r"unknown fold '033'\. Did you mean 03\? Valid: 03, 08, Ses01\."):
        select(FOLDS, ["033"])


def test_a_number_needs_no_zeros_before_it():
    assert [fold.name for fold in select(FOLDS, ["8", "3"])] == ["03", "08"]


def test_the_seed_of_a_fold_is_decided_by_seed_and_name_alone():
    # Stored, because a run that continues on another machine must draw the same numbers.
    assert fold_seed(0, "03") == 2122449735
    names = [fold.name for fold in FOLDS]
    assert len({fold_seed(seed, name) for seed in range(5) for name in names}) == 15
    assert all(0 <= fold_seed(seed, name) < 2**32 for seed in (0, 2**32 - 1) for name in names)
