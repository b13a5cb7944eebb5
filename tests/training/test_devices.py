"""Devices that share a network's batches, in a process on JAX with two of them: see `devices_on_jax`."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import REPOSITORY

from light_sernet_kd.training import devices


def run_on_jax(which: str, **environment: str) -> None:
    pytest.importorskip("jax")
    tests = Path(__file__).with_name("devices_on_jax.py")
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        # Else most of the time goes into optimising what runs a few times.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
        **environment,
    }
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", which, "-p", "no:cacheprovider",
               "-p", "no_tensorflow", tests]  # fmt: skip
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=600
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


def test_batches_are_shared_by_as_many_devices_as_divide_them():
    assert [devices.sharing(32, most=most) for most in (1, 2, 3, 4, 5)] == [1, 2, 2, 4, 4]
    assert devices.sharing(7, most=2) == 1
    assert devices.sharing(2, most=8) == 2
