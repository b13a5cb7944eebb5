"""The training batches of `batches` as NumPy arrays, for a network that is not fed by tf.data."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.batches import Examples, Source, TeacherOutputs


def host_batches(
    examples: Examples,
    indices: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    teacher: TeacherOutputs | None = None,
    augmenter: Augmenter | None = None,
    class_weights: np.ndarray | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Endless batches in the order of `batches`, whose arguments these are; TensorFlow is not needed.

    >>> features, labels = np.zeros((5, 60, 40, 1), np.float32), np.array([0, 1, 0, 1, 0], np.int32)
    >>> examples = Examples(features, labels, ("anger", "fear"))
    >>> import itertools
    >>> endless = host_batches(examples, range(5), batch_size=4, seed=0)
    >>> [inputs["features"].shape for inputs, _ in itertools.islice(endless, 3)]
    [(4, 60, 40, 1), (1, 60, 40, 1), (4, 60, 40, 1)]
    """
    source = Source.of(
        examples, indices, teacher=teacher, augmenter=augmenter, weights=class_weights, seed=seed
    )
    return source.endless(batch_size, first_epoch)
