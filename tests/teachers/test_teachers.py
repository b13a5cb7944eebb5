"""Teacher files: joined by id and class name; refused if they do not fit, doubted if they do not say."""

import dataclasses
import io
import json
import math
import os
import pickle
import unicodedata
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from light_sernet_kd import evaluation, teachers
from light_sernet_kd.corpora import Utterance, registry
from light_sernet_kd.data import protocols
from light_sernet_kd.data.protocols import ALL_SPEAKERS
from light_sernet_kd.errors import UserError
from light_sernet_kd.teachers import STAMP_SEEN, STAMP_UNKNOWN, Teacher, files
from light_sernet_kd.teachers.ensemble import confidence_weights

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
        teachers.aligned(PER_FOLD, UTTERANCES, CLASSES, ALL_SPEAKERS)


@pytest.mark.parametrize(
    ("classes", "remedy"),
    [
        (("anger", "fear"), " The corpus lacks joy: leave these columns out."),
        (
            ("anger", "fear", "joy", "sadness"),
            " The teacher lacks sadness: --emotions anger,fear,joy keeps the others.",
        ),
        (("a", "b", "c"), ""),
    ],
)
def test_other_classes_are_refused_with_both_lists_and_the_remedy(classes, remedy):
    with pytest.raises(UserError) as caught:
        teachers.aligned(FLAT, UTTERANCES, classes, "a")
    assert str(caught.value) == (
        f"the teacher names other classes: anger, fear, joy; the corpus has {', '.join(classes)}.{remedy}"
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


def test_a_logit_that_float32_cannot_hold_is_refused_without_a_warning(tmp_path):
    logits = LOGITS[0].astype(np.float64)
    logits[2, 0] = 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher = teachers.read(saved(tmp_path, logits=logits))
    with pytest.raises(UserError, match=r"the teacher's logits of u2 are not finite\."):
        teachers.aligned(teacher, UTTERANCES, CLASSES, "a")


def test_names_stored_as_bytes_are_names(tmp_path):
    card = np.array(json.dumps({"made_by": "x"}).encode())
    found = teachers.read(
        saved(tmp_path, ids=np.char.encode(IDS, "utf-8"), classes=np.char.encode(CLASSES, "utf-8"), card=card)
    )
    assert (found.ids, found.classes, found.made_by) == (IDS, CLASSES, "x")


def test_ids_with_a_suffix_and_classes_in_capitals_are_recognised():
    suffixed = dataclasses.replace(FLAT, ids=tuple(f"{name}.wav" for name in IDS))
    with pytest.raises(
        UserError, match=r"without the suffix, such as u0 for u0\.wav: then 4 of 4 utterances"
    ):
        teachers.aligned(suffixed, UTTERANCES, CLASSES, "a")
    capitals = dataclasses.replace(FLAT, classes=tuple(name.upper() for name in FLAT.classes))
    with pytest.raises(UserError, match="They differ in capitals only"):
        teachers.aligned(capitals, UTTERANCES, CLASSES, "a")


SPELLINGS = {
    "wav/{}.wav": "without folder and suffix, such as u0 for wav/u0.wav",
    "wav/{}": "without the folder, such as u0 for wav/u0",
    "C:\\data\\{}": "without the folder, such as u0 for C:\\data\\u0",
    " {} ": "without outer spaces, such as u0 for  u0 ",
    "IEMOCAP_{}": "without 'IEMOCAP_' before them, such as u0 for IEMOCAP_u0",
    "x-{}-y": "without 'x-' before and '-y' behind them, such as u0 for x-u0-y",
}


@pytest.mark.parametrize("form", SPELLINGS)
def test_a_teacher_that_fits_no_utterance_shows_both_sides_ids_and_how_they_would_fit(form):
    ids = tuple(form.format(name) for name in IDS)
    with pytest.raises(UserError) as caught:
        teachers.aligned(dataclasses.replace(FLAT, ids=ids), UTTERANCES, CLASSES, "a")
    assert str(caught.value) == (
        f"the teacher fits none of 4 utterances. Its ids are {', '.join(ids[:3])}, …; the corpus's are u0, "
        f"u1, u2, …. Write its ids {SPELLINGS[form]}: then 4 of 4 utterances fit."
    )
    # The other way round, the corpus has what the teacher lacks.
    utterances = [dataclasses.replace(each, id=form.format(each.id)) for each in UTTERANCES]
    with pytest.raises(
        UserError, match=r"Write its ids with .* them, such as .*: then 4 of 4 utterances fit"
    ):
        teachers.aligned(FLAT, utterances, CLASSES, "a")


def test_ids_in_another_case_are_recognised_and_in_another_unicode_form_they_are_the_same():
    names = ("ä0", "ä1")
    utterances = [Utterance(name, Path("x.wav"), "fear", "s") for name in names]
    upper = Teacher(tuple(map(str.upper, names)), CLASSES, LOGITS[:1, :2])
    with pytest.raises(UserError, match=r"in small letters.* then 2 of 2 utterances fit"):
        teachers.aligned(upper, utterances, CLASSES, "a")
    composed = Teacher(names, CLASSES, LOGITS[:1, :2])
    apart = tuple(unicodedata.normalize("NFD", name) for name in names)
    np.testing.assert_array_equal(
        teachers.aligned(Teacher(apart, CLASSES, LOGITS[:1, :2]), utterances, CLASSES, "a"),
        teachers.aligned(composed, utterances, CLASSES, "a"),
    )


def test_ids_of_another_corpus_are_shown_without_a_false_remedy():
    other = dataclasses.replace(FLAT, ids=("k1", "k2", "k3", "k4"))
    with pytest.raises(UserError) as caught:
        teachers.aligned(other, UTTERANCES, CLASSES, "a")
    assert str(caught.value).endswith(
        "Was the teacher made for another corpus? Write the corpus's ids into its file."
    )


def test_a_remedy_that_would_make_two_ids_one_is_not_named():
    ids = ("a/u0", "b/u0", "a/u1", "b/u1")
    with pytest.raises(UserError, match="fits none of 4 utterances") as caught:
        teachers.aligned(dataclasses.replace(FLAT, ids=ids), UTTERANCES, CLASSES, "a")
    assert "without the folder" not in str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "ours", "hint"),
    [
        (("ang", "hap", "neu", "sad"), ("anger", "happiness", "neutral", "sadness"),
         " If ang=anger, hap=happiness, neu=neutral, sad=sadness is meant, write these names into the "
         "teacher's file (`classes`, or the header of a CSV)."),
        (("Angry", "fear"), ("anger", "fear"), " If Angry=anger is meant, write"),
        (("exc", "hap"), ("happiness", "anger"), " The corpus lacks exc: leave these columns out. The "
         "teacher lacks anger: --emotions happiness keeps the others."),
        (("happy", "hap"), ("happiness", "anger"), "Several are happiness: add up their probabilities"),
        (("x", "y"), ("anger", "fear"), "the corpus has anger, fear."),
    ],
)  # fmt: skip
def test_usual_short_names_of_classes_are_offered(theirs, ours, hint):
    teacher = Teacher(IDS, theirs, np.zeros((1, 4, len(theirs)), np.float32))
    with pytest.raises(UserError) as caught:
        teachers.aligned(teacher, UTTERANCES, ours, "a")
    assert hint in str(caught.value)
    assert ("=" in str(caught.value)) is (theirs != ("x", "y"))


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
    absent = tmp_path / "absent.npz"
    assert refusal(absent).startswith(f"no teacher file {absent}. `light-sernet-kd teach` makes one")
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
    assert "is not a teacher file: it is no archive of arrays. " in message
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
    message = refusal(path)
    assert "is not a teacher file: it is damaged, locked or holds Python objects" in message
    assert "allow_pickle" not in message
    assert not (tmp_path / "executed").exists()
    np.load(path, allow_pickle=True)[name]
    assert (tmp_path / "executed").exists(), "the file was harmless, the test says nothing"


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    path = tmp_path / "teacher.npz"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    assert "is not a teacher file: it is no archive of arrays. " in refusal(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("logit", "why"), [(-7.5e30, r"beyond ±1e\+12: make its file anew"), (np.inf, "not finite")]
)
def test_logits_that_no_network_gives_are_refused_where_they_are_used(tmp_path, logit, why):
    logits = LOGITS[0].copy()
    logits[1, 0] = logit
    teacher = teachers.read(saved(tmp_path, logits=logits))
    with pytest.raises(UserError, match=why):
        teachers.aligned(teacher, UTTERANCES, CLASSES, "a")
    logits[1, 0] = -1e9  # a class that is masked
    teachers.aligned(teachers.read(saved(tmp_path, logits=logits)), UTTERANCES, CLASSES, "a")


def test_more_names_than_any_corpus_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_IDS", 3)
    assert "names 4 ids; at most 3 are read." in refusal(saved(tmp_path))


def test_numbers_of_a_csv_that_overflow_are_one_error_and_no_warning(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,anger,fear\nu0,1e308,1e308\nu1,-1e308,1\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher = teachers.read(path)
        with pytest.raises(UserError, match="the teacher's logits of u0, u1 are not finite"):
            teachers.aligned(
                teacher,
                [Utterance(name, Path(name), "fear", "s") for name in ("u0", "u1")],
                ("anger", "fear"),
                "",
            )


def test_a_csv_of_one_endless_line_or_of_silly_size_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,anger,fear\nu0," + "1," * 600_000)
    assert "line 2 has more than 1,000,000 characters" in refusal(path)
    path.write_text("id,anger,\u2028fear\x0b\r" + "u0,1,1\r\n" + "1," * 600_000)
    assert "line 3 has more than 1,000,000 characters" in refusal(path)
    path.write_text("a," * 600_000)
    assert "line 1 has more than 1,000,000 characters" in refusal(path)
    with open(path, "wb") as file:
        file.truncate(10**12)
    assert "it has 1,000,000,000,000 bytes, of at most 200,000,000 for a CSV" in refusal(path)


# Embeddings

EMBEDDINGS = np.random.default_rng(1).normal(size=(2, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("count", [1, 2])
def test_embeddings_that_are_written_are_read_in_their_own_precision(tmp_path, dtype, count):
    stored = EMBEDDINGS[:count].astype(dtype)
    teachers.write(tmp_path / "t.npz", dataclasses.replace(PER_FOLD, embeddings=stored))
    found = teachers.read(tmp_path / "t.npz").embeddings
    assert found is not None
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, stored)


def test_embeddings_are_joined_by_id_and_fold():
    teacher = dataclasses.replace(PER_FOLD, embeddings=EMBEDDINGS)
    found = teachers.aligned_embeddings(teacher, UTTERANCES[2:0:-1], "b")
    np.testing.assert_array_equal(found, EMBEDDINGS[1, [2, 1]])
    assert found.dtype == np.float32
    shared = dataclasses.replace(PER_FOLD, embeddings=EMBEDDINGS[:1].astype(np.float16))
    for fold in FOLDS:
        found = teachers.aligned_embeddings(shared, UTTERANCES, fold)
        np.testing.assert_array_equal(found, EMBEDDINGS[0].astype(np.float16))
        assert found.dtype == np.float32


def test_a_file_by_others_may_hold_embeddings_of_each_shape(tmp_path):
    for folds, stored in (((), EMBEDDINGS[0]), (FOLDS, EMBEDDINGS[0]), (FOLDS, EMBEDDINGS)):
        logits = LOGITS if folds else LOGITS[0]
        path = saved(
            tmp_path, folds=np.array(folds, dtype=str), logits=logits, embeddings=stored.astype(float)
        )
        found = teachers.read(path).embeddings
        assert found is not None
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, stored if stored.ndim == 3 else stored[None])


def test_what_lacks_embeddings_says_so():
    with pytest.raises(UserError, match=r"the teacher \(WavLM\) has no embeddings to learn from"):
        teachers.aligned_embeddings(PER_FOLD, UTTERANCES, "a")


def test_embeddings_that_do_not_serve_are_refused():
    teacher = dataclasses.replace(PER_FOLD, embeddings=EMBEDDINGS.copy())
    with pytest.raises(UserError, match="no outputs for fold c; it has a, b"):
        teachers.aligned_embeddings(teacher, UTTERANCES, "c")
    with pytest.raises(UserError, match=r"fits none of 1 utterances\. Its ids are .*; the corpus's are x\."):
        teachers.aligned_embeddings(teacher, [Utterance("x", Path("x"), "joy", "s")], "a")
    teacher.embeddings[1, 3, 2] = np.inf
    with pytest.raises(UserError, match="the teacher's embeddings of ü3 are not finite"):
        teachers.aligned_embeddings(teacher, UTTERANCES, "b")


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (EMBEDDINGS[0, :3], "float32 (3, 5)"),
        (EMBEDDINGS[0, :, 0], "float32 (4,)"),
        (np.float32(1), "float32 ()"),
        (EMBEDDINGS[0, :, :0], "float32 (4, 0)"),
        (EMBEDDINGS[0] > 0, "bool (4, 5)"),
        (EMBEDDINGS, "float32 (2, 4, 5)"),
    ],
)
def test_embeddings_of_another_shape_or_type_are_refused(tmp_path, stored, found):
    message = refusal(saved(tmp_path, embeddings=np.asarray(stored)))
    assert message.endswith(f"embeddings are {found}; expected numbers (4, E).")


def test_embeddings_that_do_not_fit_the_folds_are_refused(tmp_path):
    three = np.concatenate([EMBEDDINGS, EMBEDDINGS[:1]])
    path = saved(tmp_path, folds=np.array(FOLDS), logits=LOGITS, embeddings=three)
    assert "expected numbers (4, E) or (2, 4, E)." in refusal(path)


# CSV


def table(folder: Path, text: str) -> Path:
    path = folder / "teacher.CSV"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_of_logits_is_a_teacher_for_every_fold(tmp_path):
    text = "\ufefffear,id,joy\n1.5,u1,-2\n\n 0,ü0 ,3e2\n"
    found = teachers.read(table(tmp_path, text))
    assert (found.ids, found.classes, found.folds, found.card) == (("u1", "ü0"), ("fear", "joy"), (), {})
    np.testing.assert_array_equal(found.logits, np.float32([[[1.5, -2], [0, 300]]]))
    assert found.embeddings is None


@pytest.mark.parametrize(
    "text",
    ["id;joy\nu0;1\n", "id\tjoy\nu0\t1\n", "id|joy\nu0|1\n", "sep=;\nid;joy\nu0;1\n", "id,\tjoy\t\nu0,\t1\n"],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_table_of_a_spreadsheet_is_a_teacher_whatever_its_delimiter(tmp_path, text, encoding):
    path = tmp_path / "teacher.csv"
    path.write_text(text, encoding=encoding)
    teacher = teachers.read(path)
    assert (teacher.ids, teacher.classes, teacher.logits.tolist()) == (("u0",), ("joy",), [[[1]]])


def test_a_csv_of_probabilities_gives_logits_whose_softmax_they_are(tmp_path):
    text = "id,anger,fear,joy\nu0,0.2,0.3,0.5\nu1,0.33,0.33,0.33\nu2,1,0,0\n"
    logits = teachers.read(table(tmp_path, text)).logits[0].astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, [[0.2, 0.3, 0.5], [1 / 3] * 3, [1, 0, 0]], atol=1e-6)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("folds", [(), FOLDS])
def test_probabilities_in_an_archive_are_read_as_in_a_csv_and_the_card_says_so(tmp_path, dtype, folds):
    logits = 2 * LOGITS.astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    stored = (shares if folds else shares[0]).astype(dtype)
    found = teachers.read(saved(tmp_path, logits=stored, folds=np.array(folds) if folds else None))
    again = np.exp(found.logits) / np.exp(found.logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(again, shares if folds else shares[:1], atol=2e-3)
    assert "probabilities" in found.card["converted"]
    csv = "id,anger,fear,joy\n" + "".join(
        f"{name},{','.join(f'{share:.9f}' for share in row)}\n"
        for name, row in zip(IDS, shares[0], strict=True)
    )
    as_csv = teachers.read(table(tmp_path, csv))
    np.testing.assert_allclose(as_csv.logits[0], found.logits[0], atol=1e-2)
    assert as_csv.card["converted"] == found.card["converted"]
    # What is written once more is logits, and is read as such.
    teachers.write(tmp_path / "again.npz", found)
    np.testing.assert_array_equal(teachers.read(tmp_path / "again.npz").logits, found.logits)


def test_a_row_that_is_not_finite_leaves_the_others_probabilities(tmp_path):
    shares = np.array([[0.9, 0.06, 0.04], [0.2, 0.5, 0.3], [np.nan, 0.5, 0.5], [np.inf, 0, 0]])
    found = teachers.read(saved(tmp_path, logits=shares))
    np.testing.assert_allclose(found.logits[0, :2], np.log(shares[:2]), rtol=1e-5)
    assert "probabilities" in found.card["converted"]
    assert not np.isfinite(found.logits[0, 2:]).all(axis=1).any()
    odd = np.where(np.arange(3) == 0, 0.3, shares)
    assert "probabilities must sum to 1" in refusal(saved(tmp_path, logits=np.vstack([shares[:3], odd[:1]])))


def test_logits_in_an_archive_stay_and_a_row_that_is_no_distribution_among_such_is_named(tmp_path):
    assert "converted" not in teachers.read(saved(tmp_path)).card
    positive = np.abs(LOGITS[0])
    np.testing.assert_array_equal(teachers.read(saved(tmp_path, logits=positive)).logits[0], positive)
    odd = np.full((4, 3), 1 / 3)
    odd[2] = 0.4
    assert f"{IDS[2]}: probabilities must sum to 1, these sum to 1.2" in refusal(saved(tmp_path, logits=odd))
    # Of one class, each row is as good as its neighbour.
    one = teachers.read(saved(tmp_path, classes=np.array(["joy"]), logits=np.ones((4, 1))))
    np.testing.assert_array_equal(one.logits, np.ones((1, 4, 1)))


def test_rows_that_mostly_do_not_sum_to_one_are_logits(tmp_path):
    text = "id,anger,fear\nu0,0.2,0.8\nu1,0.1,0.2\nu2,0.5,0.9\n"
    np.testing.assert_array_equal(
        teachers.read(table(tmp_path, text)).logits[0], np.float32([[0.2, 0.8], [0.1, 0.2], [0.5, 0.9]])
    )
    text = "id,anger,fear\nu0,-1,2\nu1,0.5,0.5\nu2,3,-2\n"
    np.testing.assert_array_equal(
        teachers.read(table(tmp_path, text)).logits[0], np.float32([[-1, 2], [0.5, 0.5], [3, -2]])
    )


def test_a_csv_with_folds_has_outputs_for_each(tmp_path):
    text = "fold,id,joy,fear\nb,u0,1,2\nb,u1,3,4\na,u1,7,8\na,u0,5,6\n"
    found = teachers.read(table(tmp_path, text))
    assert (found.ids, found.folds) == (("u0", "u1"), ("b", "a"))
    np.testing.assert_array_equal(found.logits, np.float32([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]))
    utterances = [Utterance(name, Path(name), "joy", "s") for name in ("u1", "u0")]
    np.testing.assert_array_equal(
        teachers.aligned(found, utterances, ("fear", "joy"), "a"), np.float32([[8, 7], [6, 5]])
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: expected id, a column per class and perhaps fold; found nothing."),
        ("name,joy\nu0,1\n", "line 1: expected id, a column per class and perhaps fold"),
        ("id joy fear\nu0 1 2\n", "and perhaps fold; found id joy fear."),
        ("id;joy\nu0;0,5\n", "line 2: expected a number for joy, found '0,5'."),
        ("id,fold\nu0,a\n", "line 1: expected id, a column per class"),
        ("id,joy,\nu0,1,2\n", "line 1: expected id, a column per class"),
        ("id,joy,joy\nu0,1,2\n", "line 1 names joy twice."),
        ("id,joy\n", "holds a header but no rows."),
        ("id,joy\nu0,1,2\n", "line 2: 3 values for 2 columns."),
        ("id,joy\nu0\n", "line 2: 1 values for 2 columns."),
        ("id,joy,fear\nu0,1,2\nu1,1,\n", "line 3: expected a number for fear, found ''."),
        ("id,joy\nu0,high\n", "line 2: expected a number for joy, found 'high'."),
        ("id,joy\nu0,nan\n", "line 2: expected a number for joy, found 'nan'."),
        ("id,joy\nu0,-inf\n", "line 2: expected a number for joy, found '-inf'."),
        ("id,joy\n,1\n", "line 2: no id."),
        ("id,fold,joy\nu0,,1\n", "line 2: no fold."),
        ("id,joy\nu0,1\n\nu0,2\n", "line 4: u0 stands in line 2 too."),
        ("id,fold,joy\nu0,a,1\nu0,b,1\nu0,a,2\n", "line 4: u0 of fold a stands in line 2 too."),
        ("id,fold,joy\nu0,a,1\nu1,a,1\nu0,b,2\n", "fold b lacks 1 of 2 utterances, e.g. u1"),
        ("id,a,b\nu0,0.5,0.5\nu1,0.5,0.9\nu2,0,1\n", "line 3: probabilities must sum to 1, these sum to 1.4"),
        ('id,joy\n"u0,1\n', 'line 2: a cell opens a quote (") that is not closed.'),
    ],
)  # fmt: skip
def test_a_csv_that_cannot_be_used_is_refused_with_its_line(tmp_path, text, expected):
    assert expected in refusal(table(tmp_path, text))


def test_a_csv_that_is_no_text_or_not_there_is_refused(tmp_path):
    path = tmp_path / "teacher.csv"
    assert refusal(path).startswith(f"no teacher file {path}.")
    path.write_bytes(b"id,joy\n\xff\xfe,1\n")
    assert "is not UTF-8 text (invalid start byte at byte 7): save it as such." in refusal(path)


# Ensembles


def softmax(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return values / values.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1, 4])
def test_an_ensemble_is_the_geometric_mean_at_every_temperature(temperature):
    members = [PER_FOLD, dataclasses.replace(PER_FOLD, logits=LOGITS[::-1] * 3), FLAT]
    found = teachers.ensemble(members)
    for number, fold in enumerate(FOLDS):
        product = np.ones((4, 3))
        for member in members:
            logits = teachers.aligned(member, UTTERANCES, CLASSES, fold).astype(np.float64)
            product *= softmax(logits / temperature) ** (1 / 3)
        expected = product / product.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(softmax(found.logits[number] / temperature), expected, atol=1e-6)


def test_teachers_weigh_by_how_near_they_are_to_the_label_as_zhang_writes_it():
    """CA-MKD: w_k = (1 - exp(L_k) / Σ_j exp(L_j)) / (K - 1)."""
    members = [PER_FOLD, dataclasses.replace(PER_FOLD, logits=LOGITS[::-1] * 3), FLAT]
    labels, own = np.array([[2, 0, -1, 1], [-1, 1, 2, -1]]), [1.0, 2.0, 0.5]
    found = teachers.ensemble(members, own, labels=labels)
    for number, fold in enumerate(FOLDS):
        logits = [teachers.aligned(each, UTTERANCES, CLASSES, fold).astype(float) for each in members]
        for row, label in enumerate(labels[number]):
            counted = list(own)
            if label >= 0:
                losses = [-math.log(softmax(each[row])[label]) for each in logits]
                total = sum(math.exp(loss) for loss in losses)
                counted = [u * (1 - math.exp(loss) / total) / 2 for u, loss in zip(own, losses, strict=True)]
            expected = sum(w * each[row] for w, each in zip(counted, logits, strict=True)) / sum(counted)
            np.testing.assert_allclose(found.logits[number, row], expected, rtol=1e-5, atol=1e-6)
    assert found.card["mixing"] == "confidence"
    untold = teachers.ensemble(members, own, labels=np.full_like(labels, -1))
    np.testing.assert_array_equal(untold.logits, teachers.ensemble(members, own).logits)


def test_confidence_stays_finite_where_teachers_are_certain():
    logits = np.float32([[[500, -500]], [[-500, 500]], [[0, 0]]])
    np.testing.assert_allclose(confidence_weights(logits, np.array([0]))[:, 0], [0.5, 0, 0.5], atol=1e-12)


def test_an_ensemble_of_one_has_the_logits_of_that_one():
    for one in (PER_FOLD, FLAT):
        found = teachers.ensemble([one])
        np.testing.assert_array_equal(found.logits, one.logits)
        assert (found.ids, found.classes, found.folds) == (one.ids, one.classes, one.folds)
    assert PER_FOLD.made_by in teachers.ensemble([PER_FOLD]).made_by


def test_members_are_joined_by_id_class_and_fold():
    rows, columns = [3, 1, 0, 2], [1, 2, 0]
    shuffled = Teacher(
        tuple(IDS[i] for i in rows),
        tuple(CLASSES[i] for i in columns),
        LOGITS[::-1][:, rows][:, :, columns],
        ("b", "a"),
        embeddings=EMBEDDINGS[::-1][:, rows],
    )
    plain = dataclasses.replace(PER_FOLD, embeddings=EMBEDDINGS)
    found = teachers.ensemble([plain, shuffled])
    np.testing.assert_array_equal(found.logits, LOGITS)
    np.testing.assert_array_equal(found.embeddings, np.concatenate([EMBEDDINGS, EMBEDDINGS], axis=2))
    shared = dataclasses.replace(FLAT, embeddings=EMBEDDINGS[:1, :, :2].astype(np.float16))
    both = teachers.ensemble([plain, shared]).embeddings
    np.testing.assert_array_equal(both[1, :, :5], EMBEDDINGS[1])
    np.testing.assert_allclose(both[1, :, 5:], EMBEDDINGS[0, :, :2], atol=2e-3)
    assert teachers.ensemble([plain, FLAT]).embeddings is None


def test_an_ensemble_has_seen_whom_any_member_has_seen():
    one, two = told({"train_speakers": {"a": ["s1"], "b": ["s2"]}}), told({"train_speakers": {"a": ["s3"]}})
    found = teachers.ensemble([one, two])
    assert found.card["train_speakers"] == {"a": ["s1", "s3"]}
    assert teachers.stamps(found, [fold("a", 1)], UTTERANCES) == (STAMP_SEEN,)
    assert teachers.stamps(found, [fold("a", 0)], UTTERANCES) == ()
    assert teachers.stamps(found, [fold("b", 0)], UTTERANCES) == (STAMP_UNKNOWN,)
    for_all = told({"train_speakers": {ALL_SPEAKERS: ["s0"]}}, ())
    assert teachers.stamps(teachers.ensemble([one, for_all]), [fold("b", 0)], UTTERANCES) == (STAMP_SEEN,)
    assert teachers.stamps(teachers.ensemble([one, FLAT]), [fold("b", 0)], UTTERANCES) == (STAMP_UNKNOWN,)


def test_an_ensemble_survives_its_file(tmp_path):
    found = teachers.ensemble([PER_FOLD, FLAT])
    teachers.write(tmp_path / "t.npz", found)
    assert teachers.read(tmp_path / "t.npz").card == found.card


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (Teacher(IDS[:3], CLASSES, LOGITS[:, :3], FOLDS), "utterances.*e.g. ü3"),
        (Teacher(IDS, ("anger", "fear", "calm"), LOGITS, FOLDS), "classes.*differ in 2, e.g. calm"),
        (Teacher(IDS, CLASSES, LOGITS, ("a", "c")), "folds.*e.g. b"),
    ],
)
def test_members_that_differ_are_refused(other, what):
    with pytest.raises(UserError, match=f"must have the same {what}"):
        teachers.ensemble([PER_FOLD, other])


def test_an_ensemble_of_none_is_refused():
    with pytest.raises(UserError, match="at least one"):
        teachers.ensemble([])


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
    card = {"train_speakers": {ALL_SPEAKERS: ["s1"]}}
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
