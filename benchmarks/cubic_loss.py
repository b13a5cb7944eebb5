"""Claim: Cubic KD's loss, forward and backward, is at least 10,000 times as fast as its loops.

The loops are those of the definition, over temperatures, two examples and two classes, with a TensorFlow
scalar in every cell and a gradient tape around them. They are spared what could be held against them:
cells are cut out of the tensor once and not at every use, and only the two Frobenius forms are looped
over, while the package computes the whole loss.

    python benchmarks/cubic_loss.py --batch 32 --reference-batch 8 --classes 7

With `--beside-kd` it compares the loss with KD's instead, forward and backward, at several batch sizes:
what a step's loss costs, and how much the relations weigh beside the divergences.

    python benchmarks/cubic_loss.py --beside-kd 16 32
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
REPOSITORY = Path(__file__).resolve().parent.parent
# Run as a script, only benchmarks/ is on the path.
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import numpy as np
import reference_losses
import tensorflow as tf

from light_sernet_kd.distillation import losses

TEMPERATURES = losses.settings_of("CKD")["temperatures"]
LAMBDAS = {key: losses.settings_of("CKD")[key] for key in ("lambda1", "lambda2")}


def logits_and_labels(batch, classes):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(0, 2, (2, batch, classes)).astype("float32")
    return tf.constant(rng.integers(0, classes, batch)), tf.constant(teacher), tf.constant(student)


def value_and_gradient(loss):
    """A compiled function of labels, teacher and student."""

    @tf.function(autograph=False)
    def computed(labels, teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            label_loss = losses.cross_entropy(labels, student)
            per_example, relational = loss(label_loss, labels, teacher, student)
            whole = tf.reduce_mean(per_example) + relational
        return whole, tape.gradient(whole, student)

    return computed


def median_seconds(computed, given, repeats):
    """Of one call, after a first that compiles."""
    computed(*given)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        # .numpy() waits for the result.
        computed(*given)[1].numpy()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def beside_kd(batches, classes, repeats):
    """Print what CKD costs and what its relations weigh at each batch size."""
    for batch in batches:
        given = labels, teacher, student = logits_and_labels(batch, classes)
        ckd, kd = (
            median_seconds(value_and_gradient(loss), given, repeats) for loss in (losses.ckd, losses.kd)
        )
        per_example, relational = losses.ckd(tf.zeros(batch), labels, teacher, student)
        print(
            f"batch {batch}: CKD {1e3 * ckd:.2f} ms, KD {1e3 * kd:.2f} ms (medians of {repeats}), "
            f"{ckd / kd:.1f} times; relations {float(relational):.2f} beside divergences of "
            f"{float(tf.reduce_mean(per_example)):.2f}"
        )


def frobenius_forms(labels, teacher, student):
    """Value and gradient of what the loops compute, from the package."""
    with tf.GradientTape() as tape:
        tape.watch(student)
        nothing = tf.zeros(student.shape[0])
        _, loss = losses.ckd(nothing, labels, teacher, student, absolute=0.0, squared=0.0)
    return loss, tape.gradient(loss, student)


def loops(teacher, student):
    """Value and gradient of the two Frobenius forms, scalar by scalar."""

    def cells(logits):
        cube = tf.stack([tf.nn.softmax(logits / k) for k in TEMPERATURES], axis=-1)
        return [[tf.unstack(row) for row in tf.unstack(example)] for example in tf.unstack(cube)]

    with tf.GradientTape() as tape:
        tape.watch(student)
        instances, classes = reference_losses.between_instances_and_classes(cells(teacher), cells(student))
        loss = LAMBDAS["lambda1"] * instances + LAMBDAS["lambda2"] * classes
    return loss, tape.gradient(loss, student)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="examples in the batch compared at (32)")
    parser.add_argument(
        "--reference-batch", type=int, default=8, help="examples the loops are timed at, then scaled (8)"
    )
    parser.add_argument("--classes", type=int, default=7, help="classes (7)")
    parser.add_argument("--repeats", type=int, default=200, help="timed runs of the closed form (200)")
    parser.add_argument(
        "--beside-kd", type=int, nargs="+", metavar="N", help="compare with KD at these batch sizes instead"
    )
    options = parser.parse_args()
    if options.beside_kd:
        beside_kd(options.beside_kd, options.classes, options.repeats)
        return

    given = logits_and_labels(options.batch, options.classes)
    closed_seconds = median_seconds(value_and_gradient(losses.ckd), given, options.repeats)

    labels, teacher, student = logits_and_labels(options.reference_batch, options.classes)
    loops(teacher[:1], student[:1])
    start = time.perf_counter()
    loss, gradient = loops(teacher, student)
    loop_seconds = time.perf_counter() - start
    for ours, theirs in zip(frobenius_forms(labels, teacher, student), (loss, gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)

    # The body runs temperatures × batch² × classes² times.
    scale = (options.batch / options.reference_batch) ** 2
    print(f"closed form, batch {options.batch}: {1e3 * closed_seconds:.2f} ms (median of {options.repeats})")
    print(f"loops, batch {options.reference_batch}: {loop_seconds:.1f} s, same value and gradient")
    if scale != 1:
        extrapolated = f"{loop_seconds * scale:.1f} s, extrapolated with the square of the batch"
        print(f"loops, batch {options.batch}: {extrapolated}")
    print(f"ratio: {loop_seconds * scale / closed_seconds:,.0f} times (claim: at least 10,000)")


if __name__ == "__main__":
    main()
