"""Runs whose students get a second head, and what they leave."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from small_runs import SPEAKERS, error_of, same_weights, train

from light_sernet_kd import cli, evaluation
from light_sernet_kd.arrays import read_arrays
from light_sernet_kd.training.enrolled import embedder
from light_sernet_kd.training.network import load_student

RENDERED = ("enrolled.png",)
ONCE = ["--epochs", "1", "--folds", SPEAKERS[0]]


@pytest.fixture(scope="module", autouse=True)
def small(shallow) -> Iterator[None]:
    from light_sernet_kd.export import tflite

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "PRECISIONS", ("float32", "int8"))
        yield


def told(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def plain(manifest, tmp_path_factory, small) -> Path:
    result = tmp_path_factory.mktemp("plain")
    assert train(manifest, result, *ONCE, "--run", "it") == 0
    return result / "it"


@pytest.fixture(scope="module")
def enrolled(manifest, plain, tmp_path_factory) -> Path:
    """The finished run, of which second heads were asked for later."""
    result = tmp_path_factory.mktemp("enrolled")
    shutil.copytree(plain, result / "it")
    assert train(manifest, result, *ONCE, "--run", "it", "--enrolment") == 0
    return result / "it"


def test_a_finished_run_gets_heads_and_its_scores_stay(plain, enrolled):
    before, after = told(plain), told(enrolled)
    assert "enrolled" not in before
    for name in ("pooled", "folds", "ci95", "calibration"):
        assert after[name] == before[name]
    assert after["enrolled"]["protocol"] == "loso_enrolled"
    assert after["enrolled"]["recordings"] == 5  # of 9, of which 4 may be known
    for fold in (f"fold-{SPEAKERS[0]}", "fold-all-speakers"):
        assert same_weights(plain / fold / "student.keras", enrolled / fold / "student.keras")
    report = (enrolled / "report.md").read_text()
    assert "Protocol **loso_enrolled**" in report
    assert "no strict scores" in report
    assert (enrolled / "enrolled.png").stat().st_size > 5000
    assert json.loads((enrolled / "config.json").read_text())["settings"]["enrolment"] is True


def test_the_fold_is_scored_by_its_own_students_embeddings(enrolled):
    step = enrolled / f"fold-{SPEAKERS[0]}"
    stored, head = read_arrays(step / "enrolled_embeddings.npz"), read_arrays(step / "enrolled_head.npz")
    probabilities = read_arrays(step / "test_logits.npz")["selected"]
    labels = np.array(
        [row.split(",")[2] for row in (enrolled / "predictions.csv").read_text().splitlines()[1:]]
    )
    names = sorted({*told(enrolled)["classes"]})
    truth = np.array([names.index(label) for label in labels])
    right = [0, 0]
    for draw in range(10):
        ((known, scored),) = evaluation.known_and_scored([SPEAKERS[0]] * 9, draw).values()
        share = 3 / (3 + head["prior_clips"][0])
        centre = head["mean"] + share * (stored["test"][known[:3]].mean(axis=0) - head["mean"])
        answers = ((stored["test"][scored] - centre) @ head["weights"] + head["bias"]).argmax(axis=1)
        right[0] += np.sum(probabilities[scored].argmax(axis=1) == truth[scored])
        right[1] += np.sum(answers == truth[scored])
    rows = told(enrolled)["enrolled"]["curve"]
    assert rows[0]["wa"] == pytest.approx(right[0] / 50)
    assert next(row for row in rows if row["clips"] == 3)["wa"] == pytest.approx(right[1] / 50)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_files_have_the_head_of_the_final_student(plain, enrolled, precision):
    plain_name, name = f"student_{precision}.tflite", f"student_{precision}_enrolled.tflite"
    clip = np.random.default_rng(0).normal(0, 0.1, (1, 19200)).astype(np.float32)
    answers = []
    assert (plain / plain_name).read_bytes() == (enrolled / plain_name).read_bytes()
    assert not (plain / name).exists()
    for path in (plain / plain_name, enrolled / name):
        interpreter = Interpreter(model_path=str(path))
        assert ("enrolled" in interpreter.get_signature_list()) == (path.name == name)
        answers.append(interpreter.get_signature_runner("serving_default")(audio=clip)["probabilities"])
    assert np.array_equal(*answers)
    head = read_arrays(enrolled / "fold-all-speakers" / "enrolled_head.npz")
    speaker = head["mean"][None] + 1
    signature = interpreter.get_signature_runner("enrolled")
    found = signature(audio=clip, speaker=speaker, clips=np.array([[6.0]], np.float32))
    share = 6 / (6 + head["prior_clips"][0])
    logits = (found["embedding"] - head["mean"] - share) @ head["weights"] + head["bias"]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(found["probabilities"], expected, atol=0.005)
    with zipfile.ZipFile(enrolled / name) as archive:
        card = json.loads(archive.read("card.json"))
    assert card["enrolled_scores"]["protocol"] == "loso_enrolled"
    assert card["enrolled_scores"]["clips"] == 10
    assert card["enrolled"]["width"] == len(head["mean"])


def test_the_final_head_is_of_all_speakers_embeddings(enrolled):
    step = enrolled / "fold-all-speakers"
    student = load_student(step / "student.keras")
    head = read_arrays(step / "enrolled_head.npz")
    assert embedder(student).output_shape == (None, len(head["mean"]))
    fold = read_arrays(enrolled / f"fold-{SPEAKERS[0]}" / "enrolled_head.npz")
    assert head["temperature"] == pytest.approx(fold["temperature"])


def test_the_same_command_makes_nothing_twice_and_export_keeps_the_head(manifest, enrolled, tmp_path):
    shutil.copytree(enrolled, tmp_path / "it")

    def written():
        return {
            path: path.stat().st_mtime_ns
            for path in (tmp_path / "it").rglob("*")
            if path.suffix in (".tflite", ".keras", ".npz")
        }

    before = written()
    assert train(manifest, tmp_path, *ONCE, "--run", "it", "--enrolment") == 0
    assert cli.main(["export", str(tmp_path / "it")]) == 0
    assert written() == before
    name = "student_int8_enrolled.tflite"
    (tmp_path / "it" / name).write_bytes(b"damaged")
    assert cli.main(["export", str(tmp_path / "it")]) == 0
    assert (tmp_path / "it" / name).read_bytes() == (enrolled / name).read_bytes()


def test_a_damaged_head_is_named(manifest, enrolled, tmp_path, capsys):
    shutil.copytree(enrolled, tmp_path / "it")
    head = tmp_path / "it" / f"fold-{SPEAKERS[0]}" / "enrolled_head.npz"
    head.write_bytes(head.read_bytes()[:-40])
    assert train(manifest, tmp_path, *ONCE, "--run", "it", "--enrolment") == 2
    assert f"{head} is damaged: remove {head}" in error_of(capsys)
    head.unlink()
    assert train(manifest, tmp_path, *ONCE, "--run", "it", "--enrolment") == 0
    assert told(tmp_path / "it")["enrolled"] == told(enrolled)["enrolled"]


def test_files_of_features_have_no_second_signature(manifest, plain, tmp_path):
    shutil.copytree(plain, tmp_path / "it")
    assert train(manifest, tmp_path, *ONCE, "--run", "features", "--enrolment", "-m", "false") == 0
    interpreter = Interpreter(model_path=str(tmp_path / "features" / "student_float32.tflite"))
    assert [*interpreter.get_signature_list()] == ["serving_default"]
    metrics = told(tmp_path / "features")
    assert metrics["enrolled"]["protocol"] == "loso_enrolled"
    assert [note for note in metrics["notes"] if note.startswith("No exported file is for known speakers")]
    assert not [*(tmp_path / "features").glob("*_enrolled.tflite")]


def test_students_of_text_have_no_second_head(manifest, tmp_path, capsys):
    assert train(manifest, tmp_path, "--student", "bert_vggish", "--enrolment") == 2
    assert "--enrolment is for audio-only students" in error_of(capsys)
