"""What a training step of Light-SERNet on a processor consists of, and what a faster one could still save.

The step is timed as training takes it, then without the batch norm of the first stage, then without any: what
fusing batch norm with its neighbours could save at most. Beside them are the step's convolutions alone, each
forward and both ways backward, and a product of matrices of the largest one's size. In processor time, since
other work on the machine counts less in it; the steps run in turn.

    TF_NUM_INTRAOP_THREADS=1 python benchmarks/step_parts.py
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import tensorflow as tf
from training_step import CLASSES, SHAPE, fit

from light_sernet_kd import students
from light_sernet_kd.distillation.distiller import Distiller
from light_sernet_kd.training.accelerate import accelerated, has_bfloat16

BLOCK, FIRST_STAGE = 5, 3


class Nothing(keras.layers.Layer):
    def call(self, inputs, mask=None):
        return inputs


def without(twin: keras.Model, names: list[str]) -> keras.Model:
    """The same network whose layers of these names do nothing."""

    def kept(layer):
        if layer.name in names:
            return Nothing(name=f"no_{layer.name}", dtype=layer.dtype_policy)
        return type(layer).from_config(layer.get_config())

    return keras.models.clone_model(twin, clone_function=kept)


def timed_steps(networks: dict[str, keras.Model], batch: int, steps: int) -> dict[str, float]:
    """Milliseconds of processor time per step, the median."""
    rng = np.random.default_rng(0)
    features = tf.constant(rng.standard_normal((batch, *SHAPE)), tf.float32)
    labels = tf.constant(rng.integers(0, CLASSES, batch), tf.int32)
    examples = tf.data.Dataset.from_tensors((features, labels)).repeat()
    distillers = {name: Distiller(network) for name, network in networks.items()}
    for distiller in distillers.values():
        distiller.compile("adam", jit_compile=False)
        fit(distiller, examples, 3)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(-(-steps // BLOCK)):
        for name, distiller in distillers.items():
            seconds[name] += fit(distiller, examples, BLOCK)[1][1:]
    return {name: 1e3 * statistics.median(each) for name, each in seconds.items()}


def milliseconds(compute, repeats: int = 12) -> float:
    call = tf.function(compute)
    call()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return 1e3 * statistics.median(found)


def convolution(layer: keras.layers.Conv2D, batch: int, dtype: tf.DType) -> tuple[float, float]:
    """Milliseconds of a layer's convolution, forward and backward, and the gigaflops of these."""
    height, width, channels = layer.input.shape[1:]
    kernel = (*layer.kernel_size, channels, layer.filters)
    inputs = tf.cast(tf.random.normal((batch, height, width, channels)), dtype)
    filters = tf.cast(tf.random.normal(kernel), dtype)
    gradient = tf.cast(tf.random.normal((batch, height, width, layer.filters)), dtype)
    given = {"strides": [1] * 4, "padding": "SAME", "out_backprop": gradient}
    ways = [
        lambda: tf.nn.conv2d(inputs, filters, 1, "SAME"),
        lambda: tf.raw_ops.Conv2DBackpropFilter(input=inputs, filter_sizes=kernel, **given),
    ]
    if channels > 1:  # the features themselves have no gradient
        sizes = inputs.shape
        ways.append(lambda: tf.raw_ops.Conv2DBackpropInput(input_sizes=sizes, filter=filters, **given))
    each = 2 * batch * height * width * int(np.prod(kernel)) / 1e9
    return sum(map(milliseconds, ways)), each * len(ways)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="timed steps of each (40)")
    parser.add_argument("--batch", type=int, default=32, help="examples in a batch (32)")
    options = parser.parse_args()
    arithmetic = "bfloat16" if has_bfloat16() else "float32"
    dtype = tf.as_dtype(arithmetic)
    student = students.build("light_sernet", SHAPE, CLASSES)
    twin = accelerated(student, arithmetic=arithmetic)
    norms = [each.name for each in twin.layers if isinstance(each, keras.layers.BatchNormalization)]
    networks = {
        "the step": twin,
        "without batch norm in the first stage": without(twin, norms[:FIRST_STAGE]),
        "without any batch norm": without(twin, norms),
    }
    print(f"{arithmetic}, batch {options.batch}; processor time")
    for name, found in timed_steps(networks, options.batch, options.steps).items():
        print(f"{name}: {found:.0f} ms")
    layers = [each for each in student.layers if isinstance(each, keras.layers.Conv2D)]
    parts = [convolution(layer, options.batch, dtype) for layer in layers]
    largest = max(range(len(parts)), key=lambda number: parts[number][1])
    total = sum(each for each, _ in parts)
    print(f"its {len(layers)} convolutions alone, forward and backward: {total:.0f} ms")
    layer, (spent, flops) = layers[largest], parts[largest]
    print(f"the largest, {layer.filters} filters of {layer.kernel_size}: {1e3 * flops / spent:.0f} GFLOP/s")
    height, width, channels = layer.input.shape[1:]
    rows, depth = options.batch * height * width, int(np.prod(layer.kernel_size)) * channels
    first = tf.cast(tf.random.normal((rows, depth)), dtype)
    second = tf.cast(tf.random.normal((depth, layer.filters)), dtype)
    spent = milliseconds(lambda: tf.matmul(first, second))
    print(f"a product of its size: {2e-6 * rows * depth * layer.filters / spent:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
