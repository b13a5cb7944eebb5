"""`export RUN`: the files of a run that was trained without them, here or on JAX."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from small_runs import SPEAKERS, error_of, same_weights, train

from light_sernet_kd import cli
from light_sernet_kd.config import RunOptions, make_settings
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.experiment.exported import final
from light_sernet_kd.experiment.run import opened
from light_sernet_kd.reporting.display import Display

ONCE = ["--epochs", "1", "--folds", SPEAKERS[0]]
FINAL = Path("fold-all-speakers")
NOTE = "The final student is trained on all speakers and not converted: light-sernet-kd export"


@pytest.fixture(scope="module", autouse=True)
def small(shallow) -> Iterator[None]:
    """Two files of a small student, of which int8 has all that there is to convert."""
    from light_sernet_kd.export import tflite

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "PRECISIONS", ("float32", "int8"))
        yield


def export(folder: Path) -> int:
    return cli.main(["export", str(folder)])


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("student_*.tflite")}


def told(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def trained(manifest, tmp_path_factory, small) -> Path:
    """A run without files."""
    result = tmp_path_factory.mktemp("result")
    assert train(manifest, result, *ONCE, "--no-export", "--run", "later") == 0
    return result / "later"


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Path:
    """The same run with files that were made later."""
    folder = tmp_path_factory.mktemp("exported") / "later"
    shutil.copytree(trained, folder)
    assert export(folder) == 0
    return folder


def test_files_made_later_are_those_that_the_run_would_have_made(manifest, trained, exported, tmp_path):
    assert train(manifest, tmp_path, *ONCE, "--run", "whole") == 0
    whole = tmp_path / "whole"
    assert files(whole).keys() == {"student_float32.tflite", "student_int8.tflite"}
    assert files(exported) == files(whole)
    assert same_weights(whole / FINAL / "student.keras", exported / FINAL / "student.keras")
    for name in ("export", "calibration", "notes", "pooled"):
        assert told(exported)[name] == told(whole)[name]
    assert "export" not in told(trained)


def test_the_runs_own_command_then_only_reads(manifest, trained, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "later")
    assert (exported / "config.json").read_bytes() == (trained / "config.json").read_bytes()
    written = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "later").rglob("*")
        if path.suffix in (".tflite", ".keras", ".npz") or path.name in ("fold.json", "final.json")
    }
    assert train(manifest, tmp_path, *ONCE, "--no-export", "--run", "later") == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert told(tmp_path / "later") == told(exported)
    # Files that a user removed are not missed by a run that wanted none.
    (tmp_path / "later" / "student_int8.tflite").unlink()
    assert train(manifest, tmp_path, *ONCE, "--no-export", "--run", "later") == 0
    assert files(tmp_path / "later").keys() == {"student_float32.tflite"}
    assert "export" not in told(tmp_path / "later")
    assert export(tmp_path / "later") == 0
    assert files(tmp_path / "later") == files(exported)


def test_an_interrupted_export_goes_on_where_it_was(
    manifest, trained, exported, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "later"
    shutil.copytree(trained, folder)
    kept = {}

    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    # As the student is saved, as it is converted, and as that is written down.
    for name, left in {"save_student": False, "convert": True, "sha256": True}.items():
        with monkeypatch.context() as patch:
            patch.setattr(final, name, interrupt)
            assert export(folder) == 130
            assert "the same command continues" in error_of(capsys)
        done = folder / FINAL / "final.json"
        assert done.exists() == left
        if left:
            kept.setdefault("student", (folder / FINAL / "student.keras").stat().st_mtime_ns)
            assert "rows" not in json.loads(done.read_text())
    # The run's own command reads, and says what is left to do.
    assert train(manifest, tmp_path, *ONCE, "--no-export", "--run", "later") == 0
    assert [note.startswith(NOTE) for note in told(folder)["notes"]] == [True]
    assert NOTE in (folder / "report.md").read_text()
    assert export(folder) == 0
    assert (folder / FINAL / "student.keras").stat().st_mtime_ns == kept["student"]
    assert files(folder) == files(exported)
    assert told(folder)["notes"] == []


def test_what_cannot_be_exported_is_a_line(trained, tmp_path, capsys, monkeypatch):
    assert export(tmp_path) == 2
    assert f"no run in {tmp_path}: it has no config.json. Name a run's folder." in error_of(capsys)
    folder = tmp_path / "later"
    shutil.copytree(trained, folder)
    (folder / f"fold-{SPEAKERS[0]}" / "fold.json").unlink()
    assert export(folder) == 2
    assert error_of(capsys).endswith(
        f"{folder} is not trained on fold {SPEAKERS[0]}: the command that began the run continues it."
    )
    (folder / "config.json").write_text("{}")
    assert export(folder) == 2
    assert "config.json is damaged" in error_of(capsys)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert export(folder) == 2
    assert "this command needs KERAS_BACKEND=tensorflow, found jax" in error_of(capsys)


def card_of(folder: Path, precision: str) -> dict:
    with zipfile.ZipFile(folder / f"student_{precision}.tflite") as archive:
        return json.loads(archive.read("card.json"))


VERDICT = {"source": "thresholds", "corpus": "x", "passed": 2, "failed": ["phone: ΔUAR"], "not_run": 1}


def test_an_export_puts_the_verdict_of_these_students_into_the_card(exported, tmp_path, capsys):
    folder = tmp_path / "later"
    shutil.copytree(exported, folder)
    assert "certificate" not in card_of(folder, "int8")
    before = files(folder)
    RunFolder(folder).write_certificate({"precisions": {"int8": {"passed": 2, "short": VERDICT}}})
    assert export(folder) == 0
    assert card_of(folder, "int8")["certificate"] == VERDICT
    assert "certificate" not in card_of(folder, "float32"), "of a precision that nobody certified"
    after = files(folder)
    assert after["student_float32.tflite"] == before["student_float32.tflite"]
    final_json = json.loads((folder / FINAL / "final.json").read_text())
    sums = {row["file"]: row["sha256"] for row in final_json["rows"]}
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in after.items()}
    times = {path: path.stat().st_mtime_ns for path in folder.glob("student_*.tflite")}
    assert export(folder) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times, "the verdict is there already"
    # Of students that were trained before these it says nothing.
    found = json.loads((folder / "certificate.json").read_text())
    found["students"] = dict.fromkeys(found["students"], "0" * 64)
    (folder / "certificate.json").write_text(json.dumps(found))
    assert RunFolder(folder).certificates([SPEAKERS[0]]) == {}
    (folder / "certificate.json").write_text("{")
    capsys.readouterr()
    assert export(folder) == 2
    assert "certificate.json" in (line := error_of(capsys))
    assert "certify the run anew" in line


@pytest.mark.every  # converts a fold's student, and plays 24 conditions
def test_certify_leaves_a_certificate_that_the_next_export_takes(exported, tmp_path, capsys):
    folder = tmp_path / "later"
    shutil.copytree(exported, folder)
    assert cli.main(["stress", str(folder), "--certify", "--limit", "1"]) in (0, 1)
    assert "it is not kept in the run's folder" in capsys.readouterr().err
    assert not (folder / "certificate.json").exists()
    code = cli.main(["stress", str(folder), "--certify", "--precision", "int8,float32"])
    said = capsys.readouterr()
    assert "light-sernet-kd export" in said.err
    found = json.loads((folder / "certificate.json").read_text())
    assert found["precisions"].keys() == {"int8", "float32"}
    assert code == int(any(each["failed"] for each in found["precisions"].values()))
    page = (folder / "certificate.md").read_text()
    for precision, each in found["precisions"].items():
        decided = each["passed"] + each["failed"]
        assert f"later {precision}: {each['passed']} of {decided} tests passed" in said.out
        assert f"later {precision}: {each['passed']} of {decided} tests passed" in page
    assert export(folder) == 0
    for precision, each in found["precisions"].items():
        card = card_of(folder, precision)["certificate"]
        assert card["passed"] == each["passed"]
        assert len(card["failed"]) == each["failed"]
        assert card["sounds"]["cough"] == "synthesised"


@pytest.mark.usefixtures("eager", "shallow")
def test_the_final_student_has_the_weights_that_the_folds_students_are_scored_with(
    manifest, tmp_path, monkeypatch
):
    settings = make_settings(
        corpus=str(manifest), protocol="loso", input_seconds=1.2, width=0.15, batch_size=8, epochs=8,
        learning_rate=3e-3, keep="mean",
    )  # fmt: skip
    trainings, train_network = [], final.train_network

    def kept(*arguments, **named):
        trainings.append(train_network(*arguments, **named))
        return trainings[-1]

    monkeypatch.setattr(final, "train_network", kept)
    with opened(settings, RunOptions(result=tmp_path, run="mean"), Display(verbose=0)) as run:
        final.train_final(run, [{"best_epochs": [8]}])
        student = run.step(run.selection.final_fold).student
    (trained,) = trainings
    saved = keras.saving.load_model(student, compile=False).get_weights()
    for weight, mean in zip(saved, trained.selected, strict=True):
        np.testing.assert_array_equal(weight, mean)
    assert any(not np.array_equal(mean, last) for mean, last in zip(saved, trained.last, strict=True))
