"""Claim: a training step of Light-SERNet takes at most 1/1.8 of the time of plain Keras 3.

The peer is the network of the same Keras layers, compiled with Adam and cross entropy and trained the
ordinary way. Ours is the Distiller on the accelerated twin, with Adam, in float32 and, where the processor
has it in hardware, in bfloat16. All take the same features from memory and run in turn in this one process,
in blocks of a few steps, so that other work on the machine slows all alike.

    python benchmarks/training_step.py --steps 60 --batch 32
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import tensorflow as tf

from light_sernet_kd import students
from light_sernet_kd.distillation.distiller import Distiller
from light_sernet_kd.training.accelerate import accelerated, has_bfloat16

SHAPE, CLASSES = (184, 40, 1), 7
BLOCK = 5
PLAIN = "plain Keras"


def networks():
    student = students.build("light_sernet", SHAPE, CLASSES)
    plain = keras.models.clone_model(student)
    plain.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    compiled = {PLAIN: plain}
    for arithmetic in ("float32", "bfloat16"):
        distiller = Distiller(accelerated(student, arithmetic=arithmetic))
        # As training.Network does.
        distiller.compile("adam", jit_compile=False)
        compiled[f"twin, {arithmetic}"] = distiller
    return compiled


def fit(model, batch, steps):
    """Seconds of CPU and of the clock that each of `steps` steps took."""

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds, self.cpu_seconds = [], []

        def on_train_batch_begin(self, batch, logs=None):
            self.started = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, batch, logs=None):
            self.seconds.append(time.perf_counter() - self.started[0])
            self.cpu_seconds.append(time.process_time() - self.started[1])

    clock = Clock()
    model.fit(batch.take(steps), callbacks=[clock], shuffle=False, verbose=0)
    return clock.seconds, clock.cpu_seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="timed steps of each (60)")
    parser.add_argument("--batch", type=int, default=32, help="examples in a batch (32)")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    features = tf.constant(rng.standard_normal((options.batch, *SHAPE)), tf.float32)
    labels = tf.constant(rng.integers(0, CLASSES, options.batch), tf.int32)
    batch = tf.data.Dataset.from_tensors((features, labels)).repeat()
    models = networks()
    seconds = {name: [] for name in models}
    cpu_seconds = {name: [] for name in models}
    for model in models.values():
        fit(model, batch, 3)  # traces the graph
    for _ in range(-(-options.steps // BLOCK)):
        for name, model in models.items():
            clock, cpu = fit(model, batch, BLOCK)
            # The first step of each block waits for the iterator.
            seconds[name] += clock[1:]
            cpu_seconds[name] += cpu[1:]

    hardware = "in hardware" if has_bfloat16() else "emulated: not what `auto` takes on this machine"
    print(f"batch {options.batch}, {len(seconds[PLAIN])} steps of each in turn; bfloat16 {hardware}")
    for name in models:
        wall, cpu = statistics.median(seconds[name]), statistics.median(cpu_seconds[name])
        ratio = statistics.median(seconds[PLAIN]) / wall
        cpu_ratio = statistics.median(cpu_seconds[PLAIN]) / cpu
        print(
            f"{name}: {1e3 * wall:.0f} ms per step, {1e3 * cpu:.0f} ms of CPU; "
            f"ratio {ratio:.2f} times by the clock, {cpu_ratio:.2f} by CPU time"
        )
    print("(claim: at least 1.8 times)")


if __name__ == "__main__":
    main()
