"""The same student, computed faster while it trains.

A student is written, saved and exported with plain Keras layers. For training it gets a twin with the same
weights. On TensorFlow the twin's convolutions may run in bfloat16 and its batch norm is one fused operation:
Keras 3 composes batch norm of about ten operations, each of which passes through memory once more. On JAX it
has the layers of `vectorised.twins`.
"""

import os
import re
from pathlib import Path
from typing import Any

import keras
from keras import ops

from light_sernet_kd.config.cores import core_count

PACKAGE = "light_sernet_kd"

# Slower in bfloat16 on a processor that has it (TensorFlow 2.21, forward and backward): a 5×5 depthwise
# convolution 2.8 times, with stride 2 48 times, swish and its like twice, the average over a clip 1.3 times.
# Convolutions gain 1.1 to 1.4 times.
SLOW_IN_BFLOAT16 = (
    keras.layers.DepthwiseConv2D,
    keras.layers.Activation,
    keras.layers.GlobalAveragePooling2D,
)


def has_bfloat16(cpu_info: str | None = None) -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere it is emulated and slow.

    Args:
        cpu_info: the text of `/proc/cpuinfo`; None reads this machine's, and means no where there is none.

    >>> has_bfloat16("flags: fpu avx512f avx512_bf16"), has_bfloat16("flags: fpu avx2")
    (True, False)
    """
    if cpu_info is None:
        try:
            cpu_info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        except OSError:
            return False
    return re.search(r"\b(avx512_bf16|amx_bf16)\b", cpu_info) is not None


def arithmetic(wanted: str, *, gains: bool = True) -> str:
    """`bfloat16` or `float32` for a setting that may also be `auto`.

    Args:
        gains: whether this student is faster in bfloat16 where the processor has it.

    >>> arithmetic("bfloat16"), arithmetic("auto", gains=False)
    ('bfloat16', 'float32')
    """
    if wanted != "auto":
        return wanted
    if keras.backend.backend() == "jax":
        import jax

        return "bfloat16" if jax.default_backend() == "gpu" else "float32"
    return "bfloat16" if gains and keras.backend.backend() == "tensorflow" and has_bfloat16() else "float32"


def threads() -> int:
    """How many threads an operation is spread over; another number sums in another order, to other bits."""
    cores = core_count()
    if keras.backend.backend() != "tensorflow":
        return cores
    import tensorflow as tf

    setting = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return (
        tf.config.threading.get_intra_op_parallelism_threads()
        or (int(setting) if setting.isdigit() else 0)
        or cores
    )


@keras.saving.register_keras_serializable(PACKAGE)
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch norm; in training on TensorFlow one fused operation, else as in Keras.

    Fused is what students have: `(batch, height, width, channels)` in and out, with scale and offset.
    """

    def call(self, inputs, training=None, mask=None):
        over_channels = len(inputs.shape) == 4 and self.axis in (-1, 3)
        common = not self.renorm and not self.synchronized and mask is None
        fused = self.scale and self.center and over_channels and common
        if not (training and self.trainable and fused and keras.backend.backend() == "tensorflow"):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(self.gamma),
            offset=ops.convert_to_tensor(self.beta),
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=self.epsilon,
            is_training=True,
        )
        # Keras keeps the biased variance of the batch, this operation returns the unbiased one.
        count = ops.cast(ops.size(inputs) // inputs.shape[-1], "float32")
        variance = variance * (count - 1.0) / count
        for moving, current in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + current * (1.0 - self.momentum))
        return outputs


def accelerated(
    student: keras.Model, *, arithmetic: str, batch_norm_momentum: float | None = None
) -> keras.Model:
    """A twin of `student` for training, with the same weights in the same order.

    Args:
        arithmetic: `bfloat16` computes the hidden layers in it but for `SLOW_IN_BFLOAT16` (weights, logits
            and losses stay float32); `float32` only fuses batch norm.
        batch_norm_momentum: how slowly the statistics used in evaluation follow those of the batches; None
            keeps each layer's own.
    """
    policy = {"bfloat16": "mixed_bfloat16", "float32": "float32"}[arithmetic]
    slow: tuple[type, ...] = SLOW_IN_BFLOAT16
    faster: dict[type, type] = {keras.layers.BatchNormalization: FusedBatchNormalization}
    if keras.backend.backend() == "jax":
        from light_sernet_kd.training.vectorised.twins import LAYERS

        slow, faster = (), LAYERS

    def twin(layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation without weights, such as `+`
        config = layer.get_config()
        if layer.name not in exact:
            config["dtype"] = "float32" if isinstance(layer, slow) else policy
        if type(layer) is keras.layers.BatchNormalization and batch_norm_momentum is not None:
            config["momentum"] = batch_norm_momentum
        kind: Any = faster.get(type(layer), type(layer))
        return kind.from_config(config)

    # The outputs stay as they are: a softmax over rounded logits would be no probability.
    exact = {student.layers[-1].name, *(student.output_names if len(student.outputs) > 1 else ())}
    copy = keras.models.clone_model(student, clone_function=twin)
    copy.set_weights(student.get_weights())
    return copy
