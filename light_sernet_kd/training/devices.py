"""Several devices that train one network: `keras.distribution.DataParallel`, on JAX.

The weights are on every device and each batch is split among them. What is computed is what one device
computes: XLA sums over the whole batch, so that batch norm and relations between examples see all of it.
"""

import contextlib
import functools
from typing import Any

import keras
import numpy as np


def available() -> int:
    """How many devices there are: GPUs, or without one what XLA calls the processor."""
    return len(keras.distribution.list_devices()) if keras.backend.backend() == "jax" else 1


def sharing(batch_size: int, *, most: int) -> int:
    """The largest number of devices, at most `most`, among which a batch is split evenly.

    >>> sharing(32, most=3), sharing(15, most=2)
    (2, 1)
    """
    return next(count for count in range(min(most, batch_size), 0, -1) if batch_size % count == 0)


@functools.cache
def _data_parallel(count: int) -> keras.distribution.DataParallel:
    return keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:count])


def weights_on(count: int) -> contextlib.AbstractContextManager[Any]:
    """Within, variables are made on each of the first `count` devices."""
    return contextlib.nullcontext() if count == 1 else _data_parallel(count).scope()


def precision(arithmetic: str) -> contextlib.AbstractContextManager[Any]:
    """Within, a GPU under JAX computes in float32 where that is asked for, and not in TensorFloat-32."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("highest" if arithmetic == "float32" else "default")


def split(batch: Any, count: int) -> Any:
    """A batch's arrays, divided among the first `count` devices.

    What is left over at the end of an epoch may not divide evenly. Each device then computes all of it: that
    is one step of an epoch, and padding would change batch norm and relations between examples.
    """
    if count == 1:
        return batch
    distribution = _data_parallel(count)

    def placed(values: Any) -> Any:
        shape = np.shape(values)
        layout = distribution.get_data_layout(shape)
        if shape[0] % count:
            layout = keras.distribution.TensorLayout([None] * len(shape), distribution.device_mesh)
        return keras.distribution.distribute_tensor(values, layout)

    return keras.tree.map_structure(placed, batch)
