"""A machine that has JAX and neither TensorFlow nor LiteRT: all but the training and the exported files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY

# What a run needs beside its training, for which a network stays as it was made.
PROGRAM = """
import no_tensorflow

import contextlib
import pkgutil
import sys
from pathlib import Path

import numpy as np

import light_sernet_kd

manifest, result = map(Path, sys.argv[1:])
for module in pkgutil.walk_packages(light_sernet_kd.__path__, "light_sernet_kd."):
    if not module.name.endswith(("__main__", "export.flatbuffer", "export.tflite", "training.quantisation")):
        __import__(module.name)

from small_runs import rendered, shallow_light_sernet

from light_sernet_kd import cli, experiment, teachers
from light_sernet_kd.config import RunOptions, make_settings
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.training.job import Trained
from light_sernet_kd.training.network import Network


def untrained(network, job):
    network.start_anew(job.seed)
    weights = network.twin.get_weights()
    columns = ("loss", "label_loss", "train_wa", "learning_rate", "val_loss", "val_ua", "val_wa")
    return Trained(weights, weights, {name: [0.5] for name in columns}, 1, 0.0)


Network.train = untrained

display = Display(verbose=0)
quick = {"corpus": str(manifest), "input_seconds": 1.2, "width": 0.15, "epochs": 1, "export": False}


def train(run, **settings):
    options = RunOptions(result=result, run=run, verbose=0)
    return experiment.train(make_settings(**quick, **settings), options, display)


stack = contextlib.ExitStack()
stack.enter_context(shallow_light_sernet())
stack.enter_context(rendered("curves"))
pure = train("pure")
train("distilled", distillation="KD")
train("pure")  # only reads
parts = [teachers.read(result / "distilled" / f"fold-{fold}" / "teacher.npz") for fold in ("s1", "s2", "s3")]
whole = teachers.Teacher(
    parts[0].ids, parts[0].classes, np.concatenate([part.logits for part in parts]), ("s1", "s2", "s3"),
    parts[0].card,
)
teachers.write(result / "teacher.npz", whole)
train("taught", distillation="KD", teacher=str(result / "teacher.npz"))

assert cli.main(["compare", str(pure), str(result / "distilled"), "--out", str(result / "compared")]) == 0
assert no_tensorflow.imported() == []
"""


def run_without(program: str, *arguments: object) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
    }
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory, manifest) -> Path:
    """The results folder of runs on such a machine."""
    folder = tmp_path_factory.mktemp("result")
    done = run_without(PROGRAM, manifest, folder)
    assert done.returncode == 0, done.stderr
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
