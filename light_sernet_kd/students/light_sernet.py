"""Light-SERNet (Aftab et al. 2021, arXiv:2110.03435) and Light-SERNet+ (Cubic KD, 2023).

Every tensor is `(batch, frames, features, channels)`: time comes first. Cubic KD's code has frequency first;
its kernels and pools are written here with their axes exchanged, which changes no weight count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import layers


@dataclass(frozen=True)
class Architecture:
    """A network as the papers' tables give it.

    Attributes:
        branches: (filters, kernel) of the parallel convolutions on the input, each pooled 2×2.
        body: (filters, kernel, pool) of the convolutions after them; pool None where there is none.
    """

    branches: Sequence[tuple[int, tuple[int, int]]]
    body: Sequence[tuple[int, tuple[int, int], tuple[int, int] | None]]
    dropout: float = 0.3
    l2: float = 1e-6


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


def _scaled(filters: int, width: float) -> int:
    return max(1, round(filters * width))


def _normalised(tensor):
    return layers.ReLU()(layers.BatchNormalization()(tensor))


def _network(
    name: str, architecture: Architecture, input_shape: tuple[int, int, int], classes: int, width: float
) -> keras.Model:
    features = keras.Input(input_shape, name="features")
    branches = []
    for filters, kernel in architecture.branches:
        branch = layers.Conv2D(_scaled(filters, width), kernel, padding="same")(features)
        branches.append(layers.AveragePooling2D(2, padding="same")(_normalised(branch)))
    tensor = layers.Concatenate()(branches)
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
            tensor = layers.AveragePooling2D(pool, padding="same")(tensor)
    tensor = layers.GlobalAveragePooling2D(name="embedding")(tensor)
    tensor = layers.Dropout(architecture.dropout)(tensor)
    logits = layers.Dense(classes, name="logits", dtype="float32")(tensor)
    return keras.Model(features, logits, name=name)


def light_sernet(input_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> keras.Model:
    """Light-SERNet: `(batch, frames, features, 1)` to logits `(batch, classes)`.

    463,431 parameters with batch-norm statistics for 7 classes, 462,468 for 4, at width 1.

    >>> light_sernet((184, 40, 1), 7).count_params()
    463431
    """
    return _network("light_sernet", LIGHT_SERNET, input_shape, classes, width)


def light_sernet_plus(input_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> keras.Model:
    """Light-SERNet+: `(batch, frames, features, 1)` to logits `(batch, classes)`.

    611,959 parameters with batch-norm statistics for 7 classes, 610,996 for 4, at width 1.

    >>> light_sernet_plus((157, 40, 1), 7).count_params()
    611959
    """
    return _network("light_sernet_plus", LIGHT_SERNET_PLUS, input_shape, classes, width)
