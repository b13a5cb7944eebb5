"""Networks trained together: their batches, and, in a process on JAX, what `vectorised_on_jax` tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import HELPERS, ON_JAX, REPOSITORY
from small_runs import EMOTIONS

from light_sernet_kd.data.batches import Examples, batches
from light_sernet_kd.training.vectorised.tables import epoch_table


@pytest.mark.parametrize("which", ["not every", pytest.param("every", marks=pytest.mark.every)])
def test_networks_are_trained_together_on_jax(which):
    pytest.importorskip("jax")
    environment = os.environ | ON_JAX
    tests = Path(__file__).with_name("vectorised_on_jax.py")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", which, "-p", "no:cacheprovider", tests]
    if which != "every":  # whose reference is fed by tf.data
        environment["PYTHONPATH"] = str(HELPERS)
        command += ["-p", "no_tensorflow"]
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_what_measures_a_grid_on_a_gpu_runs_on_a_processor(manifest, tmp_path):
    pytest.importorskip("jax")
    ids = sorted(path.stem for path in manifest.parent.glob("*.wav"))
    logits = np.random.default_rng(0).normal(size=(len(ids), len(EMOTIONS))).astype(np.float32)
    teacher = tmp_path / "teacher.npz"
    np.savez(teacher, ids=ids, classes=EMOTIONS, logits=logits)
    corpus = ["--corpus", manifest, "--seconds", "1.2", "--width", "0.1", "--teacher", teacher]
    command = [sys.executable, "benchmarks/gpu_grid.py", *corpus, "--networks", "2", "--measured", "2"]
    done = subprocess.run(
        command, env=os.environ | ON_JAX, cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "(cpu), JAX" in done.stdout
    assert re.search(r"^ +2 networks: first epoch .* s per network-epoch .* peak .* GB$", done.stdout, re.M)


def test_a_table_has_the_batches_of_tf_data():
    training = [list(range(0, 25)), list(range(8, 40)), list(range(3, 20))]
    # Features that say which utterance it is.
    rows = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None, None], (40, 2, 2, 1))
    told = Examples(rows, np.zeros(40, np.int32), ("anger", "fear"))
    table = epoch_table(training, 8, seeds=[10, 11, 12], epochs=[2, 2, 0])
    for i, (indices, seed, epoch) in enumerate(zip(training, (10, 11, 12), (2, 2, 0), strict=True)):
        steps = -(-len(indices) // 8)
        made = batches(told, indices, batch_size=8, seed=seed, first_epoch=epoch).take(steps)
        expected = [inputs["features"].numpy()[:, 0, 0, 0].astype(int).tolist() for inputs, _ in made]
        ours = [table.whole[step, i].tolist() for step in range(len(table.whole)) if table.has_whole[step, i]]
        if table.rests[i]:
            ours.append(table.rest[i, : table.rests[i]].tolist())
        assert ours == expected
