"""The head of 3M-SER and DistilSER, and speech and text encoders put together with any head.

3M-SER: Tran et al., "Multi-modal Speech Emotion Recognition using Multi-head Attention Fusion of
Multi-feature Embeddings", EAI INISCOM 2023. DistilSER: ICTC 2024.
"""

from typing import Any

import keras
from keras import layers, ops

from light_sernet_kd.config.settings import POOLINGS
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.students.attention import (
    AUDIO_STATES,
    EMBEDDING,
    EPSILON,
    TEXT_STATES,
    Shape,
    attend,
    heads_that_divide,
    max_of_real,
    mean_of_real,
    real_rows_of,
)

HIDDEN = 64
# PyTorch's; Keras has 0.3.
LEAK = 0.01


def fusion_head(
    text_shape: Shape,
    audio_shape: Shape,
    classes: int,
    *,
    pooling: str = "first",
    dropout: float = 0.5,
) -> keras.Model:
    """3M-SER's head: `text_states` and `audio_states` to logits `(batch, classes)`.

    The text attends to itself and is brought to the audio's width; text and audio, one after the other in
    time, attend to themselves; one vector of that, as wide as the audio, is the layer `embedding`.
    2,552,644 parameters for 4 classes at the published widths, 768 of the text and 128 of the audio.

    Args:
        text_shape: `(tokens, width)`; a width that 8 does not divide gets fewer heads.
        audio_shape: `(patches, width)`. Either length may be None, for any.
        pooling: which vector: of the `first` position, BERT's [CLS]; the `mean` or `max` over what is real.
        dropout: of the embedding and, as in the release, of both attentions' weights.

    Raises:
        UserError: unknown pooling.

    Source: Tran et al. 2023 and its release (tpnam0901/3m-ser), which runs utterance by utterance and masks
    nothing; here padding is masked.

    >>> fusion_head((100, 768), (4, 128), 4).count_params()
    2552644
    """
    choose("pooling", pooling, POOLINGS)
    text = keras.Input(text_shape, name=TEXT_STATES)
    audio = keras.Input(audio_shape, name=AUDIO_STATES)
    text_rows, audio_rows = real_rows_of(text), real_rows_of(audio)
    width = audio_shape[1]

    def self_attended(states, rows, name):
        heads = heads_that_divide(states.shape[-1])
        states = attend(states, states, rows, heads=heads, name=f"{name}_attention", dropout=dropout)
        states = layers.Dense(width, name=f"{name}_dense")(states)
        return layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm")(states)

    spoken = layers.LayerNormalization(epsilon=EPSILON, name="audio_norm")(audio)
    text_and_audio = layers.Concatenate(axis=1)([self_attended(text, text_rows, "text"), spoken])
    rows = ops.concatenate([text_rows, audio_rows], axis=1)
    fused = self_attended(text_and_audio, rows, "fusion")
    if pooling == "first":
        vector = fused[:, 0]
    else:
        vector = (mean_of_real if pooling == "mean" else max_of_real)(fused, rows)
    vector = layers.Identity(name=EMBEDDING)(vector)
    hidden = layers.Dense(HIDDEN, name="hidden")(layers.Dropout(dropout)(vector))
    hidden = layers.LeakyReLU(negative_slope=LEAK)(hidden)
    logits = layers.Dense(classes, name="logits", dtype="float32")(hidden)
    return keras.Model({TEXT_STATES: text, AUDIO_STATES: audio}, logits, name="fusion_head")


def speech_and_text(
    text_encoder: keras.Model | None, audio_encoder: keras.Model | None, head: keras.Model
) -> keras.Model:
    """Encoders and a head as one model, on the same weights: to train all of it, and to ship it.

    Inputs are the text encoder's (`token_ids`, `text_mask`) and the audio encoder's one, here `features`;
    the output is the head's. Its layers are the models `text_encoder` and `audio_encoder`; `text_states`,
    `audio_states` and `embedding`, whose outputs `tensor_of` gives; and the head in two models, `body` up to
    the embedding and `classifier` from there, which `head_of` puts together again.

    Args:
        text_encoder: to text states `(batch, tokens, width)`, or None if the head reads no text.
        audio_encoder: from one input to audio states `(batch, rows, width)`, or None if it reads no audio.
        head: of `fusion_head`, `cross_attention` or `head_of`.

    Raises:
        UserError: an encoder is missing, not read, or of another width than the head reads.
    """
    read = {tensor.name: tensor.shape[-1] for tensor in head.inputs}
    inputs: dict[str, Any] = {}
    states: dict[str, Any] = {}
    for name, encoder in ((TEXT_STATES, text_encoder), (AUDIO_STATES, audio_encoder)):
        what = name.removesuffix("_states")
        if (encoder is None) != (name not in read):
            remedy = f"pass the {what} encoder" if encoder is None else f"pass None as the {what} encoder"
            raise UserError(f"{head.name} reads {' and '.join(sorted(read))}: {remedy}.")
        if encoder is None:
            continue
        if encoder.output.shape[-1] != read[name]:
            raise UserError(
                f"the {what} encoder's states are {encoder.output.shape[-1]} wide, {head.name} reads "
                f"{read[name]}: take the {what} encoder that the head was trained with."
            )
        if encoder.name != f"{what}_encoder":
            encoder = keras.Model(encoder.input, encoder.output, name=f"{what}_encoder")
        encoder_inputs = _inputs_like(encoder.input, name="features" if name == AUDIO_STATES else None)
        inputs |= {tensor.name: tensor for tensor in keras.tree.flatten(encoder_inputs)}
        states[name] = layers.Identity(name=name)(encoder(encoder_inputs))
    return _model(inputs, _from_states(*_parts_of(head), states), f"speech_and_text_{head.name}")


def head_of(model: keras.Model) -> keras.Model:
    """The head of a model of `speech_and_text`, on the same weights; a head is its own.

    Its weights come in the order in which the head that was given has them, so `get_weights` and
    `set_weights` carry them from one to the other.
    """
    if not _is_in_parts(model):
        return model
    body, classifier = _parts_of(model)
    states = {tensor.name: tensor for tensor in keras.tree.flatten(_inputs_like(body.input))}
    return _model(states, _from_states(body, classifier, states), "head")


def tensor_of(model: keras.Model, name: str):
    """The symbolic tensor `embedding`, `text_states` or `audio_states` of a head, or of a model with one.

    Raises:
        UserError: the model has none, as a head of one modality has no states of the other.
    """
    if name not in (layer.name for layer in model.layers):
        inputs = ", ".join(tensor.name for tensor in model.inputs)
        raise UserError(f"{model.name} has no {name}: it reads {inputs}.")
    return model.get_layer(name).output


def _is_in_parts(model: keras.Model) -> bool:
    return any(layer.name == "body" for layer in model.layers)


def _parts_of(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """A head's `body`, states to embedding, and its `classifier`, embedding to logits."""
    if _is_in_parts(model):
        return model.get_layer("body"), model.get_layer("classifier")
    split = tensor_of(model, EMBEDDING)
    return keras.Model(model.input, split, name="body"), keras.Model(split, model.output, name="classifier")


def _from_states(body: keras.Model, classifier: keras.Model, states):
    vector = body(keras.tree.map_structure(lambda tensor: states[tensor.name], body.input))
    return classifier(layers.Identity(name=EMBEDDING)(vector))


def _inputs_like(tensors, *, name: str | None = None):
    """New inputs in the structure of `tensors`, of their names or of one name."""
    return keras.tree.map_structure(
        lambda tensor: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name or tensor.name), tensors
    )


def _model(inputs, output, name):
    """A model of named inputs; a single one is passed as it is."""
    return keras.Model(inputs if len(inputs) > 1 else next(iter(inputs.values())), output, name=name)
