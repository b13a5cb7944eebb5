"""Layers that stay fast when many networks are computed at once.

`jax.vmap` makes of a convolution with other weights per network a grouped convolution, which XLA computes
slowly on processors and which GPUs have no good kernels for. As a product of patches with weights it becomes
a batched matrix product, which is what they are best at.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

# What is true of the examples that the networks are being traced on: see `masked_examples`.
_masks: list[Any] = []


@contextlib.contextmanager
def masked_examples(mask: Any) -> Iterator[None]:
    """Within, batch norm's statistics are those of the examples where `mask` `(batch,)` is true.

    The others fill a batch up to a common size. None counts all.

    >>> import numpy as np
    >>> layer = MaskableBatchNormalization(momentum=0.0)
    >>> with masked_examples(np.array([True, True, False])):
    ...     outputs = layer(np.array([1.0, 3.0, 100.0]).reshape(3, 1, 1, 1), training=True)
    >>> round(float(layer.moving_mean[0]), 4)
    2.0
    """
    _masks.append(mask)
    try:
        yield
    finally:
        _masks.pop()


class MaskableBatchNormalization(keras.layers.BatchNormalization):
    """As in Keras, but that `masked_examples` leaves out examples."""

    def call(self, inputs, training=None, mask=None):
        if training and _masks and _masks[-1] is not None:
            mask = ops.reshape(_masks[-1], (-1, *[1] * (len(inputs.shape) - 2)))
        return super().call(inputs, training=training, mask=mask)


class ConvolutionByPatches(keras.layers.Conv2D):
    """As in Keras, as one product of all patches of the input with the weights."""

    def call(self, inputs):
        if self.groups != 1 or max(self.dilation_rate) > 1 or self.data_format != "channels_last":
            return super().call(inputs)
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
    keras.layers.BatchNormalization: MaskableBatchNormalization,
    keras.layers.Conv2D: ConvolutionByPatches,
    keras.layers.AveragePooling2D: AveragePoolingByParts,
}


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
