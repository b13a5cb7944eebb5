"""Teacher files: joined by id and class name; refused if they do not fit, doubted if they do not say."""

import dataclasses
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from light_sernet_kd import evaluation, protocols, teachers
from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Utterance, registry
from light_sernet_kd.teachers import STAMP_SEEN, STAMP_UNKNOWN, Teacher

IDS, CLASSES, FOLDS = ("u0", "u1", "u2", "ü3"), ("anger", "fear", "joy"), ("a", "b")
UTTERANCES = [
    Utterance(name, Path(f"{name}.wav"), CLASSES[n % 3], f"s{n}") for n, name in enumerate(sorted(IDS))
]
LOGITS = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
PER_FOLD = Teacher(IDS, CLASSES, LOGITS, FOLDS, {"made_by": "WavLM", "train_speakers": {"a": ["s1"]}})
FLAT = Teacher(IDS, CLASSES, LOGITS[:1])


def saved(folder: Path, **changes) -> Path:
    """A valid flat teacher file but for `changes`; a change to None leaves the array out."""
    arrays = {"ids": np.array(IDS), "classes": np.array(CLASSES), "logits": LOGITS[0]} | changes
    path = folder / "teacher.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        teachers.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# Round trip


@pytest.mark.parametrize("teacher", [PER_FOLD, FLAT], ids=["per fold", "flat"])
def test_what_is_written_is_read(tmp_path, teacher):
    teachers.write(tmp_path / "t.npz", teacher)
    found = teachers.read(tmp_path / "t.npz")
    assert dataclasses.replace(found, logits=0) == dataclasses.replace(teacher, logits=0)
    assert found.logits.dtype == np.float32
    np.testing.assert_array_equal(found.logits, teacher.logits)


def test_the_arrays_in_a_file_are_those_that_the_module_names(tmp_path):
    for teacher, shape, folds in ((PER_FOLD, (2, 4, 3), ["a", "b"]), (FLAT, (4, 3), [])):
        teachers.write(tmp_path / "t.npz", teacher)
        with np.load(tmp_path / "t.npz", allow_pickle=False) as stored:
            assert stored["logits"].shape == shape
            assert stored["folds"].tolist() == folds
            assert stored["ids"].tolist() == list(IDS)
            assert stored["classes"].tolist() == list(CLASSES)
            assert json.loads(str(stored["card"])) == teacher.card


def test_ids_classes_and_logits_are_enough(tmp_path):
    found = teachers.read(saved(tmp_path, logits=LOGITS[0].astype(np.float64)))
    assert (found.folds, found.card, found.made_by) == ((), {}, "unknown")
    np.testing.assert_array_equal(found.logits, LOGITS[:1])


def test_a_file_of_one_fold_is_not_a_file_for_all(tmp_path):
    one = Teacher(IDS, CLASSES, LOGITS[:1], ("a",))
    teachers.write(tmp_path / "t.npz", one)
    with pytest.raises(UserError, match="no outputs for fold b; it has a"):
        teachers.aligned(teachers.read(tmp_path / "t.npz"), UTTERANCES, CLASSES, "b")


# aligned


def test_rows_are_joined_by_id_and_not_by_position():
    order = [2, 0, 3, 1]
    shuffled = dataclasses.replace(FLAT, ids=tuple(IDS[i] for i in order), logits=LOGITS[:1][:, order])
    np.testing.assert_array_equal(teachers.aligned(shuffled, UTTERANCES, CLASSES, "a"), LOGITS[0])
    np.testing.assert_array_equal(teachers.aligned(FLAT, UTTERANCES[2:0:-1], CLASSES, "a"), LOGITS[0, [2, 1]])


def test_columns_are_joined_by_class_name_and_not_by_position():
    order = [2, 0, 1]
    permuted = dataclasses.replace(
        FLAT, classes=tuple(CLASSES[i] for i in order), logits=LOGITS[:1][:, :, order]
    )
    np.testing.assert_array_equal(teachers.aligned(permuted, UTTERANCES, CLASSES, "a"), LOGITS[0])
    np.testing.assert_array_equal(
        teachers.aligned(FLAT, UTTERANCES, [CLASSES[i] for i in order], "a"), LOGITS[0][:, order]
    )


def test_each_fold_has_its_own_logits_and_a_flat_file_serves_all():
    np.testing.assert_array_equal(teachers.aligned(PER_FOLD, UTTERANCES, CLASSES, "a"), LOGITS[0])
    np.testing.assert_array_equal(teachers.aligned(PER_FOLD, UTTERANCES, CLASSES, "b"), LOGITS[1])
    np.testing.assert_array_equal(teachers.aligned(FLAT, UTTERANCES, CLASSES, "any"), LOGITS[0])


def test_utterances_that_only_the_teacher_knows_do_no_harm():
    np.testing.assert_array_equal(teachers.aligned(FLAT, UTTERANCES[1:3], CLASSES, "a"), LOGITS[0, 1:3])


def test_an_absent_fold_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"no outputs for fold all-speakers; it has a, b\. Make them with"):
        teachers.aligned(PER_FOLD, UTTERANCES, CLASSES, teachers.ALL_SPEAKERS)


@pytest.mark.parametrize("classes", [("anger", "fear"), ("anger", "fear", "joy", "sadness"), ("a", "b", "c")])
def test_other_classes_are_refused_with_both_lists(classes):
    with pytest.raises(UserError) as caught:
        teachers.aligned(FLAT, UTTERANCES, classes, "a")
    assert str(caught.value) == (
        f"the teacher names other classes: anger, fear, joy; the corpus has {', '.join(classes)}."
    )


def test_missing_utterances_are_counted_and_named():
    absent = [Utterance(f"x{n}", Path("x.wav"), "fear", "s") for n in range(7)]
    with pytest.raises(UserError) as caught:
        teachers.aligned(FLAT, [*UTTERANCES, *absent], CLASSES, "a")
    assert str(caught.value) == "the teacher lacks 7 of 11 utterances: x0, x1, x2, x3, x4 and 2 more."
    with pytest.raises(UserError, match=r"lacks 1 of 5 utterances: x0\.$"):
        teachers.aligned(FLAT, [*UTTERANCES, absent[0]], CLASSES, "a")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused_where_it_is_used(value):
    logits = LOGITS.copy()
    logits[1, 2, 0] = value
    teacher = dataclasses.replace(PER_FOLD, logits=logits)
    with pytest.raises(UserError, match=r"the teacher's logits of u2 are not finite\."):
        teachers.aligned(teacher, UTTERANCES, CLASSES, "b")
    teachers.aligned(teacher, UTTERANCES, CLASSES, "a")


# Files that are no teacher's


@pytest.mark.parametrize("name", ["ids", "classes", "logits"])
def test_a_missing_array_is_named_with_those_there_are(tmp_path, name):
    held = [each for each in ("ids", "classes", "logits") if each != name]
    assert f"lacks {name}; it holds {', '.join(held)}." in refusal(saved(tmp_path, **{name: None}))


@pytest.mark.parametrize(
    ("logits", "found"),
    [
        (LOGITS[0, :3], "float32 (3, 3)"),
        (LOGITS[0, :, :2], "float32 (4, 2)"),
        (LOGITS[0].T, "float32 (3, 4)"),
        (LOGITS, "float32 (2, 4, 3)"),
        (LOGITS[0] > 0, "bool (4, 3)"),
        (LOGITS[0].astype(str), "<U32 (4, 3)"),
        (LOGITS[0] * 1j, "complex64 (4, 3)"),
    ],
)
def test_logits_of_another_shape_or_type_are_refused(tmp_path, logits, found):
    message = refusal(saved(tmp_path, logits=logits))
    assert f"logits are {found}; expected numbers (4, 3) for 4 ids and 3 classes." in message


def test_logits_that_do_not_fit_the_folds_are_refused(tmp_path):
    path = saved(tmp_path, folds=np.array(["a", "b", "c"]), logits=LOGITS)
    assert "logits are float32 (2, 4, 3); expected numbers (3, 4, 3)" in refusal(path)


@pytest.mark.parametrize(
    ("changes", "twice"),
    [
        ({"ids": np.array(["u0", "u1", "u1", "u0"])}, "u0, u1"),
        ({"classes": np.array(["fear", "joy", "fear"])}, "fear"),
        ({"folds": np.array(["a", "a"]), "logits": LOGITS}, "a"),
    ],
)
def test_a_name_that_stands_twice_is_refused(tmp_path, changes, twice):
    assert refusal(saved(tmp_path, **changes)).endswith(f"names {twice} twice.")


@pytest.mark.parametrize("card", ["{", "[1, 2]", '"text"', ""])
def test_a_card_that_is_no_json_object_is_refused(tmp_path, card):
    assert refusal(saved(tmp_path, card=np.array(card))).endswith("its card is not a JSON object.")


def test_no_file_and_a_folder_are_refused(tmp_path):
    assert refusal(tmp_path / "absent.npz") == f"no teacher file {tmp_path / 'absent.npz'}."
    assert "is not a teacher file" in refusal(tmp_path)


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, LOGITS[0])
    return file.getvalue()


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"ids,classes,logits\n", b"\x93NUMPY", b"PK\x03\x04 cut short", npy()],
    ids=["empty", "text", "half an npy", "half a zip", "one array"],
)
def test_what_is_not_an_npz_is_refused(tmp_path, content):
    path = tmp_path / "teacher.npz"
    path.write_bytes(content)
    message = refusal(path)
    assert "is not a teacher file: " in message
    assert "Expected an .npz with ids, classes, logits; `light-sernet-kd teach` makes one." in message


def test_an_archive_of_other_things_is_refused(tmp_path):
    path = tmp_path / "teacher.npz"
    path.write_bytes(archive(**{"config.json": b"{}", "model.weights.h5": b"x"}))
    assert "lacks ids, classes, logits; it holds config.json, model.weights.h5." in refusal(path)
    path.write_bytes(archive(ids=b"u0", classes=b"fear", logits=b"1"))
    assert "logits are |S1 (); expected numbers (1, 1)" in refusal(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_refused(tmp_path, save):
    path = tmp_path / "teacher.npz"
    save(path, ids=np.array(IDS), classes=np.array(CLASSES), logits=LOGITS[0])
    whole = path.read_bytes()
    start = whole.index(b"logits.npy") + len("logits.npy")
    for damaged in (whole[: len(whole) // 2], whole[:start] + bytes(40) + whole[start + 40 :]):
        path.write_bytes(damaged)
        assert "is not a teacher file: " in refusal(path)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["ids", "classes", "logits", "folds", "card"])
def test_pickled_objects_in_a_file_are_refused_and_not_executed(tmp_path, name):
    bomb = np.array([Bomb(tmp_path / "executed")], dtype=object)
    path = saved(tmp_path, **{name: bomb})
    assert "is not a teacher file: Object arrays cannot be loaded" in refusal(path)
    assert not (tmp_path / "executed").exists()
    np.load(path, allow_pickle=True)[name]
    assert (tmp_path / "executed").exists(), "the file was harmless, the test says nothing"


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    path = tmp_path / "teacher.npz"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    assert "is not a teacher file" in refusal(path)
    assert not (tmp_path / "executed").exists()


# Stamps


def fold(name: str, *test: int) -> protocols.Fold:
    return protocols.Fold(name, (), (), test)


def told(card: dict, folds=FOLDS) -> Teacher:
    return Teacher(IDS, CLASSES, LOGITS[: len(folds) or 1], folds, card)


def test_a_teacher_that_says_nothing_may_have_seen_test_speakers():
    assert STAMP_UNKNOWN == "teacher may have seen test speakers"
    for card in ({}, {"made_by": "WavLM"}, {"train_speakers": None}, {"train_speakers": ["s0"]}):
        assert teachers.stamps(told(card), [fold("a", 0)], UTTERANCES) == (STAMP_UNKNOWN,)


def test_a_teacher_that_trained_on_a_test_speaker_says_so():
    assert STAMP_SEEN == "teacher was trained on test speakers"
    teacher = told({"train_speakers": {"a": ["s1", "s2"], "b": ["s0", "s3"]}})
    assert teachers.stamps(teacher, [fold("a", 0, 1)], UTTERANCES) == (STAMP_SEEN,)
    assert teachers.stamps(teacher, [fold("a", 0), fold("b", 3)], UTTERANCES) == (STAMP_SEEN,)


def test_a_teacher_that_saw_no_test_speaker_has_no_stamp():
    teacher = told({"train_speakers": {"a": ["s1", "s2"], "b": ["s0", "s3"]}})
    assert teachers.stamps(teacher, [fold("a", 0, 3), fold("b", 1, 2)], UTTERANCES) == ()


def test_a_flat_file_is_judged_by_the_speakers_of_the_teacher_for_all():
    card = {"train_speakers": {teachers.ALL_SPEAKERS: ["s1"]}}
    assert teachers.stamps(told(card, ()), [fold("a", 0), fold("b", 2)], UTTERANCES) == ()
    assert teachers.stamps(told(card, ()), [fold("a", 0), fold("b", 1)], UTTERANCES) == (STAMP_SEEN,)
    by_fold = {"train_speakers": {"a": ["s1"]}}
    assert teachers.stamps(told(by_fold, ()), [fold("a", 0)], UTTERANCES) == (STAMP_UNKNOWN,)


def test_one_fold_without_its_speakers_is_enough_for_doubt():
    teacher = told({"train_speakers": {"a": ["s1"]}})
    assert teachers.stamps(teacher, [fold("a", 0), fold("b", 1)], UTTERANCES) == (STAMP_UNKNOWN,)


def test_what_is_certain_is_said_before_what_is_doubtful():
    teacher = told({"train_speakers": {"b": ["s1"]}})
    assert teachers.stamps(teacher, [fold("a", 0), fold("b", 1)], UTTERANCES) == (STAMP_SEEN,)


@pytest.mark.parametrize("speakers", ["s0", [0, 1], {"s1": 3}, 7])
def test_speakers_that_are_no_list_of_names_are_doubtful(speakers):
    teacher = told({"train_speakers": {"a": speakers}})
    assert teachers.stamps(teacher, [fold("a", 0)], UTTERANCES) == (STAMP_UNKNOWN,)


# The published teacher of EMO-DB


def test_the_published_teacher_of_emo_db_agrees_as_published_and_is_doubted(shared_data):
    utterances = registry.load("EMO-DB", shared_data).utterances
    classes = registry.load("EMO-DB", shared_data).classes
    teacher = teachers.read(shared_data / "teachers" / "emodb_wavlm_base_plus_logits.npz")
    assert teacher.logits.shape == (1, 535, 7)
    assert teacher.classes != classes, "else the test does not show that columns are mapped by name"
    logits = teachers.aligned(teacher, utterances, classes, "03")
    labels = np.array([classes.index(utterance.emotion) for utterance in utterances])
    agreement = evaluation.scores(labels, logits.argmax(axis=1), classes)
    assert round(100 * agreement.wa, 1) == 96.3
    assert round(100 * agreement.ua, 1) == 95.8
    fingerprints = {utterance.id: utterance.id for utterance in utterances}
    folds = protocols.make_folds("loso", utterances, fingerprints, seed=0)
    assert teachers.stamps(teacher, folds, utterances) == (STAMP_UNKNOWN,)
