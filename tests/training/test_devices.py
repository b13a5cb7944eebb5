"""Devices that share a network's batches, in a process on JAX with two of them: see `devices_on_jax`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import HELPERS, ON_JAX, REPOSITORY
from small_runs import error_of, train

from light_sernet_kd import cli
from light_sernet_kd.training import devices

ON_TWO = ON_JAX | {
    "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {ON_JAX['XLA_FLAGS']}",
    "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(HELPERS)]),
}


def run_on_jax(which: str, **environment: str) -> None:
    pytest.importorskip("jax")
    tests = Path(__file__).with_name("devices_on_jax.py")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", which, "-p", "no:cacheprovider",
               "-p", "no_tensorflow", tests]  # fmt: skip
    done = subprocess.run(
        command,
        env={**os.environ, **ON_TWO, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_two_devices_train_a_network_on_jax():
    run_on_jax("not every")


@pytest.mark.every
def test_networks_of_either_kind_are_on_jax_what_they_are_on_tensorflow(tmp_path):
    from device_cases import CASES, job_of, network_of

    for name, case in CASES.items():
        network = network_of(case)
        keras.utils.set_random_seed(0)
        initial = case.build().get_weights()
        trained = network.train(job_of(case, tmp_path, initial))
        (tmp_path / "checkpoint.npz").unlink()
        arrays = {f"initial_{i}": weight for i, weight in enumerate(initial)}
        arrays |= {f"last_{i}": weight for i, weight in enumerate(trained.last)}
        arrays |= {f"history_{column}": values for column, values in trained.history.items()}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    run_on_jax("every", DEVICE_CASES=str(tmp_path))


PROGRAM = """
import no_tensorflow

import sys
from pathlib import Path

from light_sernet_kd import cli
from light_sernet_kd.cli.console import heavy_imports

heavy_imports("jax")
from light_sernet_kd.encoders import vggish

vggish.LAYERS = tuple((name, width if name == "fc2" else width // 16) for name, width in vggish.LAYERS)
manifest, result = sys.argv[1:]
student = ["--student", "picobert_vggish", "--tune_epochs", "1", "--folds", "#1", "-id", "2", "-lr", "0.01",
           "--epochs", "1", "--text_tokens", "12", "--text_encoder", "random:width=16,layers=2,heads=2",
           "--audio_encoder", "vggish=random", "--result", result, "-v", "0"]

def train(run, *arguments):
    return cli.main(["train", "-dn", manifest, *student, "--run", run, *arguments])

assert train("many", "-bt", "4", "--devices", "3") == 2
assert train("odd", "-bt", "5", "--devices", "2") == 2
assert train("one", "-bt", "4", "--devices", "1", "--no-export") == 0
assert train("two", "-bt", "4") == 0
assert no_tensorflow.imported() == []
"""


@pytest.mark.every
def test_a_network_of_speech_and_text_is_trained_without_tensorflow_and_exported_later(tmp_path, monkeypatch):
    from device_cases import narrow_vggish

    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "encoders")
    from test_multimodal import written

    manifest = written(tmp_path / "corpus")
    environment = os.environ | ON_TWO
    command = [sys.executable, "-c", PROGRAM, str(manifest), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("light-sernet-kd: ")]
    assert said == [
        "light-sernet-kd: --devices 3, but JAX has 2 devices here: give fewer.",
        "light-sernet-kd: --devices 2 divides each batch evenly, and the student's have 5 examples: give "
        "--batch_size 4, or other --devices.",
    ]
    one, two = (np.load(tmp_path / run / "fold-s1" / "test_logits.npz")["selected"] for run in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=1e-3)
    resolved = [
        json.loads((tmp_path / run / "config.json").read_text())["resolved"] for run in ("one", "two")
    ]
    assert [each.get("devices") for each in resolved] == [None, {"student": 2}]
    with narrow_vggish(16):
        assert cli.main(["export", str(tmp_path / "two")]) == 0
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    rows = {row["precision"]: row for row in metrics["export"]["rows"]}
    assert rows["float32"]["probability_change"]["max"] < 1e-3
    assert (tmp_path / "two" / rows["float32"]["file"]).is_file()


def test_devices_are_for_jax(manifest, tmp_path, capsys):
    assert train(manifest, tmp_path, "--devices", "2") == 2
    assert error_of(capsys) == "light-sernet-kd: --devices is for --engine jax: leave it out."


def test_batches_are_shared_by_as_many_devices_as_divide_them():
    assert [devices.sharing(32, most=most) for most in (1, 2, 3, 4, 5)] == [1, 2, 2, 4, 4]
    assert devices.sharing(7, most=2) == 1
    assert devices.sharing(2, most=8) == 2
