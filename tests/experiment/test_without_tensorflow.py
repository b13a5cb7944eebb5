"""A machine that has JAX and neither TensorFlow nor LiteRT: all but the exported files."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import HELPERS, ON_JAX, REPOSITORY
from small_runs import error_of, train

from light_sernet_kd import cli

PROGRAM = """
import no_tensorflow

import pkgutil
import sys
from pathlib import Path

import light_sernet_kd
from light_sernet_kd import cli

_OF_TENSORFLOW = (
    "__main__", "export.flatbuffer", "export.parts", "export.tflite", "training.quantisation"
)
manifest, result = map(Path, sys.argv[1:])
# Before Keras is imported, so that what it computes with is chosen.
assert cli.main(["teach", "-dn", str(manifest), "-id", "1.2"]) == 2
assert cli.main(["train", "-dn", str(manifest), "-id", "1.2", "--engine", "tf"]) == 2
assert cli.main(["train", "-dn", str(manifest), "-id", "1.2", "--qat", "2"]) == 2
assert not any(name.partition(".")[0] in ("keras", "jax") for name in sys.modules)
from light_sernet_kd.cli.console import heavy_imports
from light_sernet_kd.config import Settings
from light_sernet_kd.config.engine import engine_of

heavy_imports(engine_of(Settings()))
for module in pkgutil.walk_packages(light_sernet_kd.__path__, "light_sernet_kd."):
    if not module.name.endswith(_OF_TENSORFLOW):
        __import__(module.name)

import numpy as np
from small_runs import rendered, shallow_light_sernet, train

from light_sernet_kd import teachers
from light_sernet_kd.experiment import run as experiment
from light_sernet_kd.experiment.sweeps import grid as grid_of
from light_sernet_kd.experiment.sweeps import together
from light_sernet_kd.training.vectorised import together as engine


def at_once(count):
    # as on a GPU; 1 is as on a processor
    grid_of.MOST_NETWORKS, engine.trains_several = 300, lambda: count > 1
    together.trains_several, together.most_together = engine.trains_several, lambda network: count


forecasts, forecast_of = [], experiment.forecast_of
experiment.forecast_of = lambda run: forecasts.append(forecast_of(run)) or forecasts[-1]
once = ["--epochs", "1", "--no-export", "--run"]
with shallow_light_sernet(), rendered("curves"):
    at_once(2)
    assert train(manifest, result, *once, "pure") == 0
    assert train(manifest, result, *once, "pure", "--engine", "jax") == 0  # only reads
    at_once(1)
    assert train(manifest, result, "--epochs", "1", "--folds", "s1", "--run", "files") == 0
    at_once(2)  # the programs of "pure", for the teachers, and two that "taught" has again
    assert train(manifest, result, *once, "distilled", "-kd", "KD") == 0
    assert cli.main(["export", str(result / "files")]) == 2
    # A teacher file of this machine is read on this machine.
    folds = ("s1", "s2", "s3")
    parts = [teachers.read(result / "distilled" / f"fold-{fold}" / "teacher.npz") for fold in folds]
    logits = np.concatenate([part.logits for part in parts])
    whole = teachers.Teacher(parts[0].ids, parts[0].classes, logits, folds, parts[0].card)
    teachers.write(result / "teacher.npz", whole)
    arguments = ["-kd", "KD", "--teacher", str(result / "teacher.npz")]
    assert train(manifest, result, *once, "taught", *arguments) == 0
    runs = [str(result / name) for name in ("pure", "distilled")]
    assert cli.main(["compare", *runs, "--out", str(result / "compared")]) == 0
    grid = [str(result / "seeds.toml"), "--result", str(result), "-v", "0"]
    assert cli.main(["grid", *grid, "--dry-run"]) == 0
    assert cli.main(["grid", *grid]) == 0
assert cli.main(["explain", str(result / "pure"), "--worst", "1"]) == 2
# Each run ended with nothing left to train, whether it trained its networks together or in turn.
assert {each.at(1.0) for each in forecasts} == {0}
assert no_tensorflow.imported() == []
"""


def run_without(program: str, *arguments: object) -> subprocess.CompletedProcess:
    places = os.pathsep.join([str(REPOSITORY), str(HELPERS)])
    environment = os.environ | ON_JAX | {"PYTHONPATH": places}
    environment.pop("KERAS_BACKEND", None)
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


GRID = """
[settings]
corpus = "{corpus}"
folds = ["s1"]
input_seconds = 1.2
width = 0.15
learning_rate = 3e-3
batch_norm_momentum = 0.8
epochs = 1
batch_size = 8
export = false
[[runs]]
seed = [0, 1]
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory, manifest) -> Path:
    """The results folder of runs on such a machine."""
    folder = tmp_path_factory.mktemp("result")
    (folder / "seeds.toml").write_text(GRID.format(corpus=manifest), encoding="utf-8")
    done = run_without(PROGRAM, manifest, folder)
    assert done.returncode == 0, done.stderr
    (folder / "stderr.txt").write_text(done.stderr, encoding="utf-8")
    return folder


def test_runs_are_scored_reported_and_compared_without_tensorflow(result):
    for name in ("pure", "distilled", "taught"):
        metrics = json.loads((result / name / "metrics.json").read_text())
        assert metrics["pooled"]["count"] == 27
        assert {"report.md", "confusion_matrix.png", "curves.png", "embeddings.png"} <= {
            path.name for path in (result / name).iterdir()
        }
    compared = json.loads((result / "compared" / "compare.json").read_text())
    assert [row["run"] for row in compared["rows"]] == ["pure", "distilled"]


def test_a_fold_does_not_depend_on_what_is_trained_beside_it(result):
    """`pure` trains two folds at once and then one, and `files` one."""
    folds = [result / name / "fold-s1" / "test_logits.npz" for name in ("pure", "files")]
    together, alone = (np.load(fold)["selected"] for fold in folds)
    np.testing.assert_allclose(together, alone, atol=1e-3)
    other = np.load(result / "pure" / "fold-s2" / "test_logits.npz")["selected"]
    assert np.abs(other[: len(alone)] - alone[: len(other)]).max() > 0.01


def test_a_grid_has_its_scores_without_tensorflow(result):
    (row,) = json.loads((result / "seeds" / "scores.json").read_text())["rows"]
    assert (row["seeds"], row["folds"]) == (2, 1)


def test_what_needs_tensorflow_says_so_in_a_line(result):
    lines = (result / "stderr.txt").read_text().splitlines()
    said = [line.removeprefix("light-sernet-kd: ") for line in lines if line.startswith("light-sernet-kd: ")]
    whats = ["this command", "training with --engine tf", "training with --qat", *["this command"] * 2]
    assert [line.partition(" needs TensorFlow, which is not installed: ")[0] for line in said] == whats
    assert all(line.endswith('-m pip install "light-sernet-kd[train]"') for line in said)


def test_a_run_that_began_on_jax_is_refused_on_tensorflow_with_what_to_give(result, manifest, capsys):
    folder = result / "pure"
    assert json.loads((folder / "config.json").read_text())["resolved"]["engine"] == "jax"
    assert "engine jax" in (folder / "report.md").read_text()
    assert train(manifest, result, "--epochs", "1", "--no-export", "--run", "pure") == 2
    assert error_of(capsys) == (
        f"light-sernet-kd: {folder} began with engine jax and would go on with tf: give --engine jax, or "
        "name another --run."
    )


@pytest.fixture
def small(monkeypatch, shallow_here):
    from light_sernet_kd.export import tflite

    monkeypatch.setattr(tflite, "PRECISIONS", ("float32",))


@pytest.mark.usefixtures("small")
def test_a_student_trained_on_jax_is_converted_on_tensorflow(result, tmp_path):
    folder = tmp_path / "files"
    shutil.copytree(result / "files", folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    note = "The final student is trained on all speakers and not converted: light-sernet-kd export"
    assert [each.startswith(note) for each in metrics["notes"]] == [True]
    assert note in (folder / "report.md").read_text()
    assert "export" not in metrics
    student = (folder / "fold-all-speakers" / "student.keras").read_bytes()
    assert cli.main(["export", str(folder)]) == 0
    assert (folder / "fold-all-speakers" / "student.keras").read_bytes() == student
    after = json.loads((folder / "metrics.json").read_text())
    assert (after["notes"], after["pooled"]) == ([], metrics["pooled"])
    # Files of a student that answers as it did on JAX.
    (row,) = after["export"]["rows"]
    assert row["probability_change"]["max"] < 1e-4
    assert (folder / row["file"]).is_file()
    assert json.loads((folder / "config.json").read_text())["resolved"]["engine"] == "jax"


@pytest.mark.usefixtures("small")
def test_a_final_student_that_another_engine_trained_than_the_folds_is_told(result, tmp_path):
    shutil.copytree(result / "seeds" / "seed0", tmp_path / "seed0")
    assert cli.main(["export", str(tmp_path / "seed0")]) == 0
    (note,) = json.loads((tmp_path / "seed0" / "metrics.json").read_text())["notes"]
    assert note == "The folds' students were trained with engine jax, the final one with tf."


def test_config_json_has_the_versions_of_what_is_installed(result):
    versions = json.loads((result / "pure" / "config.json").read_text())["versions"]
    assert {"light-sernet-kd", "keras", "numpy", "jax"} <= versions.keys()


def test_features_on_jax_are_those_on_tensorflow(result, manifest):
    from light_sernet_kd.corpora import manifest as tables
    from light_sernet_kd.data import feature_cache
    from light_sernet_kd.features import front_end_model

    (stored,) = (result / ".cache").glob("lsn-mfcc-*.npy")
    corpus = tables.utterances(manifest)
    clips = feature_cache.waveforms(corpus.utterances, samples=19200, front_end="lsn")
    expected = front_end_model("lsn", "mfcc", 19200).predict_on_batch(clips)
    np.testing.assert_allclose(np.load(stored), expected, atol=2e-3)


def test_the_pins_of_such_a_machine_are_those_that_the_tests_run_with():
    def pins(name: str) -> set[str]:
        lines = (REPOSITORY / name).read_text().splitlines()
        return {line for line in lines if line and not line.lstrip().startswith("#")}

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked_for = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    needed = {re.split("[<>=]", line)[0] for line in asked_for} | {"jax"}
    ours = pins("requirements-jax.txt")
    assert ours <= pins("requirements-test.txt")
    assert needed - {line.partition("==")[0] for line in ours} == {"tensorflow", "ai-edge-litert"}
