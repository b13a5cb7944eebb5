"""What teachers say of unlabelled clips: in files that are mapped, beside a teacher file or in a run."""

import json
import shutil

import numpy as np
import pytest

from light_sernet_kd import teachers
from light_sernet_kd.errors import UserError
from light_sernet_kd.teachers import Teacher
from light_sernet_kd.teachers.unlabelled import (
    CARD_KEY,
    Answers,
    UnlabelledTask,
    combine_answers,
    folder_beside,
    read_beside,
    read_of,
    write,
    write_beside,
)

CLASSES, FOLDS, CLIPS, WIDTH = ("anger", "fear", "neutral"), ("03", "all/speakers"), 5, 2
rng = np.random.default_rng(0)
CONTENTS = np.sort(rng.integers(0, 256, (CLIPS, 16), np.uint8), axis=0)
LOGITS = {fold: rng.normal(size=(CLIPS, len(CLASSES))).astype("float32") for fold in FOLDS}
EMBEDDING = {fold: rng.normal(size=(CLIPS, WIDTH)).astype("float32") for fold in FOLDS}
EVERY = np.arange(CLIPS)


def made(path, *, shared=False, card=True):
    answers = [(fold, Answers(LOGITS[fold], EMBEDDING[FOLDS[0] if shared else fold])) for fold in FOLDS]
    beside = write_beside(path, CONTENTS, CLASSES, answers, shared=shared)
    logits = np.zeros((len(FOLDS), 1, len(CLASSES)), np.float32)
    facts = {"made_by": "m", **({CARD_KEY: beside} if card else {})}
    teachers.write(path, Teacher(("u",), CLASSES, logits, FOLDS, facts))
    return teachers.read(path)


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_written_comes_back_for_some_clips_and_classes_in_another_order(tmp_path, shared):
    path = tmp_path / "t.npz"
    teacher = made(path, shared=shared)
    chosen, order = [3, 0, 4], ("neutral", "anger", "fear")
    for fold in FOLDS:
        found = read_beside(path, teacher, CONTENTS[chosen], order, fold)
        assert found.logits.shape == (3, 3)
        which = np.array([2, 0])
        expected = LOGITS[fold][[4, 3]][:, [2, 0, 1]]
        np.testing.assert_array_equal(found.logits[which], expected)
        source = EMBEDDING[FOLDS[0] if shared else fold]
        np.testing.assert_array_equal(found.embedding[which], source[[4, 3]])
    assert (folder_beside(path) / "embedding.npy").exists() == shared


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("card", "says nothing of unlabelled recordings: make it with"),
        ("clips", "lacks 1 of 6 unlabelled clips"),
        ("fold", "says nothing of unlabelled recordings in fold 08"),
        ("folder", "is damaged or not whole"),
        ("file", "is damaged or not whole"),
        ("truncated", "is damaged or not whole"),
        ("other", "belongs to another teacher file"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(tmp_path, harm, words):
    path, contents, fold = tmp_path / "t.npz", CONTENTS, FOLDS[0]
    teacher = made(path, card=harm != "card")
    folder = folder_beside(path)
    if harm == "clips":
        contents = np.concatenate([contents, np.full((1, 16), 7, np.uint8)])
    elif harm == "fold":
        fold = "08"
    elif harm == "folder":
        shutil.rmtree(folder)
    elif harm == "file":
        (folder / "03.npy").unlink()
    elif harm == "truncated":
        (folder / "03.npy").write_bytes((folder / "03.npy").read_bytes()[:-1])
    elif harm == "other":
        index = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps({**index, "classes": ["x"]}))
    with pytest.raises(UserError, match=words) as caught:
        read_beside(path, teacher, contents, CLASSES, fold)
    assert "\n" not in str(caught.value)


def test_a_file_written_anew_has_nothing_of_the_one_before(tmp_path):
    path, folder = tmp_path / "t.npz", folder_beside(tmp_path / "t.npz")
    made(path)  # embeddings of each fold
    teacher = made(path, shared=True)
    assert not list(folder.glob("*.embedding.npy"))
    for fold in FOLDS:
        found = read_beside(path, teacher, CONTENTS, CLASSES, fold)
        np.testing.assert_array_equal(found.embedding[EVERY], EMBEDDING[FOLDS[0]])
    # What no index lists is not read, wherever it comes from; what it lists is that very file.
    write(folder / "03.embedding.npy", [EMBEDDING["03"] + 1], CLIPS, WIDTH)
    found = read_beside(path, teacher, CONTENTS, CLASSES, "03")
    np.testing.assert_array_equal(found.embedding[EVERY], EMBEDDING[FOLDS[0]])
    write(folder / "03.npy", [LOGITS["03"] + 1], CLIPS, len(CLASSES))
    with pytest.raises(UserError, match=r"03\.npy is not the file that index\.json lists"):
        read_beside(path, teacher, CONTENTS, CLASSES, "03")


def test_a_task_that_is_cleared_has_nothing_of_another_source(tmp_path):
    task = UnlabelledTask([None] * CLIPS, tmp_path / "unlabelled")
    task.clear()  # nothing is there yet
    for each in (task, task.of_member(0)):
        each.write_embeddings([EMBEDDING["03"]], WIDTH)
    task.write("03", [LOGITS["03"]], len(CLASSES))
    task.clear()
    assert not list(task.folder.iterdir())


def test_several_teachers_speak_as_an_ensemble_does():
    one, two = (Answers(LOGITS[fold], EMBEDDING[fold]) for fold in FOLDS)
    both = combine_answers([one, two])
    some = np.array([4, 1])
    np.testing.assert_allclose(both.logits[some], (LOGITS[FOLDS[0]][some] + LOGITS[FOLDS[1]][some]) / 2)
    np.testing.assert_array_equal(
        both.embedding[some], np.hstack([EMBEDDING[FOLDS[0]][some], EMBEDDING[FOLDS[1]][some]])
    )
    assert (both.logits.shape, both.embedding.shape) == ((CLIPS, 3), (CLIPS, 2 * WIDTH))
    assert combine_answers([one]) is one
    assert combine_answers([one, Answers(LOGITS[FOLDS[0]])]).embedding is None


def test_numbers_that_are_not_finite_are_refused_and_leave_no_file(tmp_path):
    with pytest.raises(UserError, match="not finite"):
        write(tmp_path / "a.npy", [np.array([[1.0, np.nan]])], 1, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_source_writes_a_fold_and_embeddings_only_where_they_are_wanted(tmp_path):
    for wanted in (True, False):
        folder = tmp_path / str(wanted)
        task = UnlabelledTask([None] * CLIPS, folder, embeddings=wanted)
        task.write("03", [LOGITS["03"][:2], LOGITS["03"][2:]], len(CLASSES))
        task.write_embeddings([EMBEDDING["03"]], WIDTH, "03")
        found = read_of(folder, "03", CLIPS, len(CLASSES))
        np.testing.assert_array_equal(found.logits, LOGITS["03"])
        assert (found.embedding is not None) == wanted
