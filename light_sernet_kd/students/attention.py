"""What the students of speech and text share: masks of padding, attention and means under them.

States are `(batch, rows, width)`, one row per token, patch or frame. A row of zeros is padding: nothing
attends to it and no mean counts it, so an utterance scores the same alone or in any padded batch.
"""

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

# PyTorch's, with which the published heads were trained; Keras has 1e-3.
EPSILON = 1e-5

TEXT_STATES, AUDIO_STATES, EMBEDDING = "text_states", "audio_states", "embedding"
# Rows, None for any number of them, and their width.
Shape = tuple[int | None, int]


def real_rows_of(states):
    """Which rows `(batch, rows)` are no padding, of states `(batch, rows, width)`."""
    return ops.any(ops.not_equal(states, 0), axis=-1)


def heads_that_divide(width: int, most: int = 8) -> int:
    """The largest number of heads up to `most` that divides `width`."""
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


def attend(queries, source, real_rows, *, heads: int, name: str, dropout: float = 0.0):
    """Attention of every query over the source's real rows, as wide as the queries.

    Args:
        queries: `(batch, queries, width)`; `width` is a multiple of `heads`.
        source: `(batch, rows, width)`, keys and values.
        real_rows: `(batch, rows)`, false at padding. Where none is real, nothing is attended to: what is
            left is the bias of the output's projection.
        dropout: share of the attention weights, in training.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2, with biases as
    `torch.nn.MultiheadAttention` has them.
    """
    layer = layers.MultiHeadAttention(heads, queries.shape[-1] // heads, dropout=dropout, name=name)
    # Asked for its weights, Keras gives padding none even if all is padding. Its fused path then shares the
    # attention out over the padding, and a score depends on how much of that a batch brings.
    attended, _ = layer(
        queries, source, attention_mask=ops.expand_dims(real_rows, 1), return_attention_scores=True
    )
    return attended


def mean_of_real(states, real_rows):
    """Mean `(batch, width)` of the rows that are real, in float32; zeros where none is."""
    weights = ops.expand_dims(ops.cast(real_rows, "float32"), -1)  # bfloat16 cannot count to 257
    return ops.sum(ops.cast(states, "float32") * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)


def max_of_real(states, real_rows):
    """Maximum `(batch, width)` over the rows that are real; zeros where none is."""
    mask = ops.expand_dims(real_rows, -1)
    # float16 has no lower number, and no normalised state comes near it.
    highest = ops.max(ops.where(mask, states, -65504.0), axis=1)
    return ops.where(ops.any(mask, axis=1), highest, 0.0)


def attention_maps(model: keras.Model, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The weights of every attention layer of a head, or of encoders with a head.

    Args:
        model: of `fusion_head`, `cross_attention` or `speech_and_text`, or loaded from its file. The
            encoders' own attention is left out.
        inputs: the model's inputs by name.

    Returns:
        By the layer's name `(batch, heads, queries, rows)`, as in inference: over the real rows the weights
        of a query sum to 1, at padding they are 0. Queries that are padding have weights too, without
        meaning.
    """
    names = [layer.name for layer in model.layers]
    if "body" in names:
        body = model.get_layer("body")
        states = {tensor.name: model.get_layer(tensor.name).output for tensor in body.inputs}
        inputs = keras.Model(model.input, states)(_as_declared(model, inputs), training=False)
        model = body
    tensors = {
        layer.name: layer.output[1] for layer in model.layers if isinstance(layer, layers.MultiHeadAttention)
    }
    weights = keras.Model(model.input, tensors)(_as_declared(model, inputs), training=False)
    return {name: ops.convert_to_numpy(each) for name, each in weights.items()}


def attention_between(layer: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of a layer that `attention_maps` names: whose rows ask, and whose are asked, in their order.

    Returns:
        Each `text_states`, `audio_states` or both, one after the other.
    """
    if match := re.match("(text|audio)_over_(text|audio)_", layer):
        return (f"{match[1]}_states",), (f"{match[2]}_states",)
    rows = (TEXT_STATES,) if layer == "text_attention" else (TEXT_STATES, AUDIO_STATES)
    return rows, rows


def _as_declared(model: keras.Model, inputs: Mapping[str, Any]):
    return keras.tree.map_structure(lambda tensor: ops.convert_to_tensor(inputs[tensor.name]), model.input)
