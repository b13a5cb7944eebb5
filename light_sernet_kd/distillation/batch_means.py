"""Means over a batch, of which examples may lack a label or weigh less."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from light_sernet_kd.distillation.batch_keys import IS_LABELLED


def factors_of_labelled(batch: Mapping[str, Any], dtype):
    """Factors `(batch,)` with which a mean over the batch is one over its labelled examples; None for all."""
    if batch.get(IS_LABELLED) is None:
        return None
    is_labelled = ops.cast(ops.reshape(batch[IS_LABELLED], (-1,)), dtype)
    examples = ops.cast(ops.shape(is_labelled)[0], dtype)
    return is_labelled * examples / ops.maximum(ops.sum(is_labelled), 1.0)


def weights_of_labelled(batch: Mapping[str, Any], weights):
    """The examples' weights for a metric, which counts the labelled ones alone."""
    if batch.get(IS_LABELLED) is None:
        return weights
    is_labelled = ops.cast(ops.reshape(batch[IS_LABELLED], (-1,)), "float32")
    return is_labelled if weights is None else is_labelled * ops.cast(ops.reshape(weights, (-1,)), "float32")


def weighted_mean(values, weights):
    """Mean of `values * weights` over the batch, as Keras' losses reduce."""
    if weights is not None:
        values = values * ops.cast(ops.reshape(weights, (-1,)), values.dtype)
    return ops.mean(values)
