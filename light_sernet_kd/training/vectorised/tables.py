"""Which utterances each of several networks meets in which step of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from light_sernet_kd.data.batches import epoch_order


@dataclass(frozen=True)
class EpochTable:
    """An epoch's batches of M networks, whose training sets may differ in size.

    All batches of the common size come first, and then those that are left over, in one step: so each
    network has its own batches in its own order, and only the last step has examples that are padding.

    Attributes:
        whole: utterances `(steps, M, batch)`.
        has_whole: whether a network has a batch in a step, `(steps, M)`.
        rest: utterances `(M, largest rest)`; where a network has fewer, its first one fills up.
        rests: how many of these each network has.
    """

    whole: np.ndarray
    has_whole: np.ndarray
    rest: np.ndarray
    rests: tuple[int, ...]


def epoch_table(
    training: Sequence[Sequence[int]], batch_size: int, *, seeds: Sequence[int], epochs: Sequence[int]
) -> EpochTable:
    """The epoch's table of networks of these training sets.

    Args:
        seeds, epochs: of each network; they decide its order as those of `data.batches.batches`.

    >>> table = epoch_table([range(5), range(3)], 2, seeds=[0, 1], epochs=[0, 0])
    >>> table.whole.shape, table.has_whole.tolist(), table.rests
    ((2, 2, 2), [[True, True], [True, False]], (1, 1))
    """
    steps = max(len(each) // batch_size for each in training)
    rests = tuple(len(each) % batch_size for each in training)
    whole = np.zeros((steps, len(training), batch_size), np.int32)
    has_whole = np.zeros((steps, len(training)), bool)
    rest = np.zeros((len(training), max(rests)), np.int32)
    for network, (indices, seed, epoch) in enumerate(zip(training, seeds, epochs, strict=True)):
        utterances = np.asarray(indices, np.int32)
        order = utterances[epoch_order(len(utterances), seed=seed, epoch=epoch)]
        count = len(order) // batch_size
        whole[:count, network] = np.sort(order[: count * batch_size].reshape(count, batch_size), axis=1)
        has_whole[:count, network] = True
        left = np.sort(order[count * batch_size :])
        rest[network] = order[0]
        rest[network, : len(left)] = left
    return EpochTable(whole, has_whole, rest, rests)
