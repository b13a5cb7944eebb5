"""Claim: a training step as `--arithmetic auto` computes it is not slower than plain Keras 3's.

By how much it is faster depends on the network: wide convolutions gain from bfloat16 and fused batch norm,
depthwise ones and swish from neither, so there auto takes float32.

The peer is the student itself, compiled with Adam and cross entropy and trained the ordinary way. Ours is the
Distiller on the accelerated twin in float32 and, where the processor has it in hardware, in bfloat16. All
take Cubic KD's features of EMO-DB (5 s of MFCC, batches of 16) from memory and run in turn in this one
process, in blocks of a few steps, so that other work on the machine slows all alike.

    python benchmarks/students.py --steps 24 --students resnet18,efficientnet_b0
"""

import argparse
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import tensorflow as tf
from training_step import BLOCK, PLAIN, fit

from light_sernet_kd import students
from light_sernet_kd.distillation.distiller import Distiller
from light_sernet_kd.registries.students import FEATURE_STUDENTS, STUDENTS
from light_sernet_kd.training.accelerate import accelerated, has_bfloat16
from light_sernet_kd.training.accelerate import arithmetic as resolved_arithmetic

SHAPE, CLASSES, BATCH = (157, 40, 1), 7, 16


def networks(name, arithmetics):
    student = students.build(name, SHAPE, CLASSES)
    plain = keras.models.clone_model(student)
    plain.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    compiled = {PLAIN: plain}
    for arithmetic in arithmetics:
        distiller = Distiller(accelerated(student, arithmetic=arithmetic))
        # As training.Network does.
        distiller.compile("adam", jit_compile=False)
        compiled[arithmetic] = distiller
    return compiled


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=24, help="timed steps of each (24)")
    parser.add_argument(
        "--students",
        default=",".join(FEATURE_STUDENTS),
        help="names, by comma (all)",
    )
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    features = tf.constant(rng.standard_normal((BATCH, *SHAPE)), tf.float32)
    labels = tf.constant(rng.integers(0, CLASSES, BATCH), tf.int32)
    batch = tf.data.Dataset.from_tensors((features, labels)).repeat()
    arithmetics = ("float32", "bfloat16") if has_bfloat16() else ("float32",)
    print(
        f"batch {BATCH} of {SHAPE}, medians of {options.steps} steps in turn; ratios by the clock and by CPU"
    )
    for name in options.students.split(","):
        models = networks(name, arithmetics)
        seconds = {name: [] for name in models}
        cpu_seconds = {name: [] for name in models}
        for model in models.values():
            fit(model, batch, 3)  # traces the graph
        # The first step of each block waits for the iterator.
        for _ in range(-(-options.steps // (BLOCK - 1))):
            for each, model in models.items():
                clock, cpu = fit(model, batch, BLOCK)
                seconds[each] += clock[1:]
                cpu_seconds[each] += cpu[1:]
        wall, cpu = (
            {each: statistics.median(values) for each, values in column.items()}
            for column in (seconds, cpu_seconds)
        )
        ratios = "; ".join(
            f"{each} {wall[PLAIN] / wall[each]:.2f} ({cpu[PLAIN] / cpu[each]:.2f})" for each in arithmetics
        )
        auto = resolved_arithmetic("auto", gains=STUDENTS[name].gains_from_bfloat16)
        print(
            f"{name}, auto is {auto}: {PLAIN} {1e3 * wall[PLAIN]:.0f} ms; times faster: {ratios}", flush=True
        )
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
