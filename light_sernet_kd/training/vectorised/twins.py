"""Layers that stay fast when many networks are computed at once.

`jax.vmap` makes of a convolution with other weights per network a grouped convolution, which XLA computes
slowly on processors and which GPUs have no good kernels for. As a product of patches with weights it becomes
a batched matrix product, which is what they are best at.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops


@dataclass(frozen=True)
class Tracing:
    """What holds while networks are traced.

    Attributes:
        mask: `(batch,)`, the examples of each network that are no padding; None where there is none.
        networks: how many are computed at once.
    """

    mask: Any = None
    networks: int = 1


_tracing = [Tracing()]


@contextlib.contextmanager
def traced(mask: Any = None, networks: int = 1) -> Iterator[None]:
    """Within, layers are those of so many networks, and batch norm's statistics leave padding out.

    >>> import numpy as np
    >>> layer = BatchNormalizationOfMany(momentum=0.0)
    >>> with traced(np.array([True, True, False])):
    ...     outputs = layer(np.array([1.0, 3.0, 100.0]).reshape(3, 1, 1, 1), training=True)
    >>> round(float(layer.moving_mean[0]), 4)
    2.0
    """
    _tracing.append(Tracing(mask, networks))
    try:
        yield
    finally:
        _tracing.pop()


class BatchNormalizationOfMany(keras.layers.BatchNormalization):
    """As in Keras; on JAX with a gradient of a third of the passes through memory, and without padding."""

    def call(self, inputs, training=None, mask=None):
        padding = _tracing[-1].mask
        if training and padding is not None:
            mask = ops.reshape(padding, (-1, *[1] * (len(inputs.shape) - 2)))
        plain = not (self.renorm or self.synchronized)
        over_last = self.axis in (-1, len(inputs.shape) - 1) and self.scale and self.center
        on_jax = keras.backend.backend() == "jax"
        if not (training and self.trainable and plain and over_last and on_jax):
            return super().call(inputs, training=training, mask=mask)
        counted = None if mask is None else ops.cast(ops.expand_dims(mask, -1), "float32")
        gamma, beta = (ops.convert_to_tensor(each.value) for each in (self.gamma, self.beta))
        outputs, mean, variance = _normaliser(self.epsilon)(inputs, gamma, beta, counted)
        for moving, current in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + current * (1.0 - self.momentum))
        return outputs


@functools.lru_cache
def _normaliser(epsilon: float) -> Any:
    """`(inputs, gamma, beta, counted)` to outputs, mean and biased variance, all statistics in float32.

    `counted`, of the inputs' rank, is 1 where a value counts and else 0; None counts all.
    """
    import jax
    import jax.numpy as jnp

    def sums(values):
        return jnp.sum(values, tuple(range(values.ndim - 1)))

    def weighed(values, counted):
        return values if counted is None else values * counted

    def number_of(inputs, counted):
        size = inputs.size // inputs.shape[-1]
        # A batch without any example is thrown away, and must only be finite.
        return size if counted is None else jnp.maximum(1.0, jnp.mean(counted) * size)

    def forward(inputs, gamma, beta, counted):
        values, number = inputs.astype(jnp.float32), number_of(inputs, counted)
        mean = sums(weighed(values, counted)) / number
        variance = sums(weighed(jnp.square(values - mean), counted)) / number
        inverse = jax.lax.rsqrt(variance + epsilon)
        scale = inverse * gamma
        outputs = (values * scale + (beta - mean * scale)).astype(inputs.dtype)
        return (outputs, mean, variance), (inputs, mean, inverse, gamma, counted)

    def backward(kept, gradients):
        inputs, mean, inverse, gamma, counted = kept
        values, gradient = inputs.astype(jnp.float32), gradients[0].astype(jnp.float32)
        number = number_of(inputs, counted)
        of_beta = sums(gradient)
        of_gamma = (sums(gradient * values) - mean * of_beta) * inverse
        # The gradient less what of it the batch's mean and variance take up.
        scale = gamma * inverse
        slope = -scale * inverse * of_gamma / number
        level = -scale * of_beta / number - mean * slope
        of_inputs = gradient * scale + weighed(values * slope + level, counted)
        none = None if counted is None else jnp.zeros_like(counted)
        return of_inputs.astype(inputs.dtype), of_gamma, of_beta, none

    normalised = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
    normalised.defvjp(forward, backward)
    return normalised


class ConvolutionByPatches(keras.layers.Conv2D):
    """As in Keras, as one product of all patches of the input with the weights."""

    def call(self, inputs):
        if self.groups != 1 or max(self.dilation_rate) > 1 or self.data_format != "channels_last":
            return super().call(inputs)
        if _tracing[-1].networks == 1 and inputs.shape[-1] > 1 and _on_cpu():
            return super().call(inputs)  # there a product of patches takes twice as long
        patches = _patches(inputs, self.kernel_size, self.strides, self.padding)
        kernel = ops.reshape(ops.convert_to_tensor(self.kernel), (-1, self.filters))
        outputs = ops.matmul(patches, kernel)
        if self.use_bias:
            outputs = ops.add(outputs, ops.convert_to_tensor(self.bias))
        return self.activation(outputs)


class AveragePoolingByParts(keras.layers.AveragePooling2D):
    """As in Keras where windows do not overlap: as a mean over parts of the axes."""

    def call(self, inputs):
        if self.strides != self.pool_size or self.data_format != "channels_last":
            return super().call(inputs)
        (height, width), (down, right) = inputs.shape[1:3], self.pool_size
        if self.padding == "valid":
            height, width = height // down * down, width // right * right
            inputs = inputs[:, :height, :width]
        above, left = -height % down, -width % right
        # Keras pads the end with the larger half, and counts only what is no padding.
        pads = [(above // 2, above - above // 2), (left // 2, left - left // 2)]
        padded = ops.pad(inputs, [(0, 0), *pads, (0, 0)]) if above or left else inputs
        rows, columns, channels = (height + above) // down, (width + left) // right, inputs.shape[-1]
        totals = ops.sum(ops.reshape(padded, (-1, rows, down, columns, right, channels)), axis=(2, 4))
        counts = [
            _counts(size, part, before)
            for size, part, (before, _) in ((height, down, pads[0]), (width, right, pads[1]))
        ]
        scale = [[1.0 / (row * column) for column in counts[1]] for row in counts[0]]
        return totals * ops.convert_to_tensor(scale, dtype=totals.dtype)[:, :, None]


# What `accelerated` replaces on JAX.
LAYERS: dict[type, type] = {
    keras.layers.BatchNormalization: BatchNormalizationOfMany,
    keras.layers.Conv2D: ConvolutionByPatches,
    keras.layers.AveragePooling2D: AveragePoolingByParts,
}


def _on_cpu() -> bool:
    if keras.backend.backend() != "jax":
        return True
    import jax

    return jax.default_backend() == "cpu"


def _patches(inputs, kernel: tuple[int, int], strides: tuple[int, int], padding: str):
    """`(batch, rows, columns, kernel rows × kernel columns × channels)`, in the order of a kernel's axes."""
    sizes, pads = [], []
    for size, length, stride in zip(inputs.shape[1:3], kernel, strides, strict=True):
        if padding == "same":
            count = -(-size // stride)
            missing = max(0, (count - 1) * stride + length - size)
            pads.append((missing // 2, missing - missing // 2))
        else:
            count = (size - length) // stride + 1
            pads.append((0, 0))
        sizes.append(count)
    if any(map(any, pads)):
        inputs = ops.pad(inputs, [(0, 0), *pads, (0, 0)])
    (rows, columns), (down, right) = sizes, strides
    parts = [
        inputs[:, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * right + 1 : right]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)


def _counts(size: int, part: int, before: int) -> list[int]:
    """How many of each part's positions are no padding, along an axis of `size` that begins at `before`."""
    parts = -(-size // part)
    return [min((i + 1) * part, before + size) - max(i * part, before) for i in range(parts)]
