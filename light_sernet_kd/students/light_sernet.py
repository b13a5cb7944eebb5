"""Light-SERNet (Aftab et al. 2021, arXiv:2110.03435) and Light-SERNet+ (Cubic KD, 2023).

Every tensor is `(batch, frames, features, channels)`: time comes first. Cubic KD's code has frequency first;
its kernels and pools are written here with their axes exchanged, which changes no weight count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras
from keras import layers

from light_sernet_kd.errors import UserError


@dataclass(frozen=True)
class Architecture:
    """A network as the papers' tables give it.

    Attributes:
        branches: (filters, kernel) of the parallel convolutions on the input, each pooled 2×2.
        body: (filters, kernel, pool) of the convolutions after them; pool None where there is none.
        local_pooling: `average` or `max`, of every pool before the global one.
    """

    branches: Sequence[tuple[int, tuple[int, int]]]
    body: Sequence[tuple[int, tuple[int, int], tuple[int, int] | None]]
    dropout: float = 0.3
    l2: float = 1e-6
    local_pooling: str = "average"


LIGHT_SERNET = Architecture(
    branches=((32, (11, 1)), (32, (1, 9)), (32, (3, 3))),
    body=(
        (64, (3, 3), (2, 2)),
        (96, (3, 3), (2, 2)),
        (128, (3, 3), (2, 1)),
        (160, (3, 3), (2, 1)),
        (320, (1, 1), None),
    ),
)

LIGHT_SERNET_PLUS = Architecture(
    branches=((32, (1, 13)), (32, (11, 1)), (16, (3, 3)), (16, (6, 6))),
    body=(
        (64, (3, 3), (2, 2)),
        (96, (3, 3), (2, 2)),
        (128, (3, 3), None),
        (128, (3, 3), (1, 2)),
        (160, (3, 3), (1, 2)),
        (320, (1, 1), None),
    ),
    l2=0.0,  # weight decay is the optimiser's there
)


_POOLS = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D}


def parse_kernel(text: str) -> tuple[int, int]:
    """`11x1`, frames by features, as a kernel.

    Raises:
        UserError: it is no kernel.

    >>> parse_kernel("11x1")
    (11, 1)
    """
    frames, _, features = text.lower().partition("x")
    if not (frames.isdecimal() and features.isdecimal() and int(frames) and int(features)):
        raise UserError(f"a kernel is frames x features, such as 11x1, found {text!r}.")
    return int(frames), int(features)


def shaped(
    architecture: Architecture, depth: int | None, kernels: Sequence[str], local_pooling: str
) -> Architecture:
    """The published network with fewer convolutions in its body, other branches or other pools.

    Args:
        depth: convolutions of the body before the last, 1×1 one, which stays; None is all of them.
        kernels: of the branches, each with as many filters as the first published one; none is as published.

    Raises:
        UserError: there is no such depth, or a kernel is none.

    >>> small = shaped(LIGHT_SERNET, 2, ["3x3"], "max")
    >>> small.branches, [filters for filters, _, _ in small.body]
    (((32, (3, 3)),), [64, 96, 320])
    """
    most = len(architecture.body) - 1
    if depth is not None and not 1 <= depth <= most:
        raise UserError(f"the depth must be from 1 to {most}, found {depth}.")
    body = (*architecture.body[:-1][:depth], architecture.body[-1])
    filters = architecture.branches[0][0]
    branches = tuple((filters, parse_kernel(kernel)) for kernel in kernels) or architecture.branches
    return replace(architecture, branches=branches, body=body, local_pooling=local_pooling)


def _scaled(filters: int, width: float) -> int:
    return max(1, round(filters * width))


def _normalised(tensor):
    return layers.ReLU()(layers.BatchNormalization()(tensor))


def _network(
    name: str, architecture: Architecture, input_shape: tuple[int, int, int], classes: int, width: float
) -> keras.Model:
    pooling = _POOLS[architecture.local_pooling]
    features = keras.Input(input_shape, name="features")
    branches = []
    for filters, kernel in architecture.branches:
        branch = layers.Conv2D(_scaled(filters, width), kernel, padding="same")(features)
        branches.append(pooling(2, padding="same")(_normalised(branch)))
    tensor = layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
    for filters, kernel, pool in architecture.body:
        tensor = layers.Conv2D(
            _scaled(filters, width),
            kernel,
            padding="same",
            use_bias=False,
            kernel_regularizer=keras.regularizers.L2(architecture.l2) if architecture.l2 else None,
        )(tensor)
        tensor = _normalised(tensor)
        if pool:
            tensor = pooling(pool, padding="same")(tensor)
    tensor = layers.GlobalAveragePooling2D(name="embedding")(tensor)
    tensor = layers.Dropout(architecture.dropout)(tensor)
    logits = layers.Dense(classes, name="logits", dtype="float32")(tensor)
    return keras.Model(features, logits, name=name)


def light_sernet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    depth: int | None = None,
    kernels: Sequence[str] = (),
    local_pooling: str = "average",
) -> keras.Model:
    """Light-SERNet: `(batch, frames, features, 1)` to logits `(batch, classes)`.

    463,431 parameters with batch-norm statistics for 7 classes, 462,468 for 4, at width 1. `depth`, `kernels`
    and `local_pooling` as of `shaped`.

    >>> light_sernet((184, 40, 1), 7).count_params()
    463431
    """
    architecture = shaped(LIGHT_SERNET, depth, kernels, local_pooling)
    return _network("light_sernet", architecture, input_shape, classes, width)


def light_sernet_plus(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    depth: int | None = None,
    kernels: Sequence[str] = (),
    local_pooling: str = "average",
) -> keras.Model:
    """Light-SERNet+: `(batch, frames, features, 1)` to logits `(batch, classes)`.

    611,959 parameters with batch-norm statistics for 7 classes, 610,996 for 4, at width 1. `depth`, `kernels`
    and `local_pooling` as of `shaped`.

    >>> light_sernet_plus((157, 40, 1), 7).count_params()
    611959
    """
    architecture = shaped(LIGHT_SERNET_PLUS, depth, kernels, local_pooling)
    return _network("light_sernet_plus", architecture, input_shape, classes, width)
