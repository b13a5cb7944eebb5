"""The cross-modal transformers of Multi-Still (ETRI 2023), on those of Tsai et al. 2019, arXiv:1906.00295."""

import functools
import math

import keras
import numpy as np
from keras import layers, ops

from light_sernet_kd.config.settings import MODALITIES
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.students.attention import (
    AUDIO_STATES,
    EMBEDDING,
    EPSILON,
    TEXT_STATES,
    Shape,
    attend,
    mean_of_real,
    real_rows_of,
)

HIDDEN = 512
DROPOUT = 0.1
LONGEST_WAVE = 10_000


def cross_attention(
    text_shape: Shape,
    audio_shape: Shape,
    classes: int,
    *,
    layers: int = 1,
    width: int = 768,
    heads: int = 8,
    modality: str = "both",
) -> keras.Model:
    """Multi-Still's network: `text_states` and `audio_states`, or one of them, to logits `(batch, classes)`.

    One transformer has the audio's frames ask the text and is averaged over the frames, the other has the
    text's tokens ask the audio and is read at the first token; side by side they are the layer `embedding`.
    Of one modality, one transformer attends to itself: text is averaged, audio read at its first frame.

    Parameters for 7 classes, audio 1024 and text 768 wide, each as published: 44,107,271 of the teacher's 3
    layers (44.1 M), 15,755,783 of 1 layer (15.8 M), 8,273,159 of 1 layer on audio (8.27 M). 1 layer on text
    has 7,486,727: the published 8.27 M count the 786,432 of the audio's projection, which text never meets.

    Args:
        text_shape: `(tokens, width)`, published with 128 tokens; projected only if its width is another.
        audio_shape: `(frames, width)`, published with 512 frames. Either length may be None, for any.
            That of a modality left out is not read.
        layers: of each transformer; 3 of the published teacher, 1 of its students.
        width: of the transformers; a multiple of 2 and of `heads`.

    Raises:
        UserError: a width or number of layers that cannot be, or an unknown modality.

    Source: the release (SeolRoh/Multi-Still_ETRI), and for its transformers, of which it has compiled
    modules only, Tsai et al. 2019, sections 3.1 and 3.2, with their release's one norm for queries and keys.
    Every layer's keys are the transformer's inputs, also where it attends to itself. The release attends
    to the padding and averages it; here it is masked.

    >>> cross_attention((128, 768), (512, 1024), 7).count_params()
    15755783
    """
    choose("modality", modality, MODALITIES)
    if layers < 1:
        raise UserError(f"a transformer needs at least 1 layer, found {layers}.")
    if width < 4 or width % 2 or width % heads:
        raise UserError(f"the width must be even, at least 4 and a multiple of {heads} heads, found {width}.")
    shapes = {TEXT_STATES: text_shape, AUDIO_STATES: audio_shape}
    read = [name for name in shapes if modality in ("both", name.removesuffix("_states"))]
    inputs = {name: keras.Input(shapes[name], name=name) for name in read}
    rows = {name: real_rows_of(states) for name, states in inputs.items()}
    placed = {name: _placed(states, name, width) for name, states in inputs.items()}

    def attended_over(name, other):
        label = f"{name.removesuffix('_states')}_over_{other.removesuffix('_states')}"
        return _transformer(placed[name], placed[other], rows[other], layers=layers, heads=heads, name=label)

    if modality == "both":
        averaged = mean_of_real(attended_over(AUDIO_STATES, TEXT_STATES), rows[AUDIO_STATES])
        vector = ops.concatenate([averaged, attended_over(TEXT_STATES, AUDIO_STATES)[:, 0]], axis=-1)
    elif modality == "text":
        vector = mean_of_real(attended_over(TEXT_STATES, TEXT_STATES), rows[TEXT_STATES])
    else:
        vector = attended_over(AUDIO_STATES, AUDIO_STATES)[:, 0]
    logits = _classifier(vector, classes)
    return keras.Model(inputs if len(inputs) > 1 else inputs[read[0]], logits, name="cross_attention")


# The published teacher.
cross_attention_teacher = functools.partial(cross_attention, layers=3)


def _placed(states, name, width):
    """States projected to `width`, scaled, and with their places: what a transformer takes.

    Places count from 1, as in fairseq, from which Tsai et al. have them.
    """
    # Made of the states: Keras would write a constant of this size into the file as text.
    places = ops.cumsum(ops.ones_like(states[..., :1], dtype="float32"), axis=1)
    half = width // 2
    rates = np.exp(np.arange(half) * (-math.log(LONGEST_WAVE) / (half - 1))).astype("float32")
    angles = places * rates
    waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
    if name == AUDIO_STATES or states.shape[-1] != width:
        # A convolution of one frame. Without bias, so that padding stays zeros.
        projection = f"{name.removesuffix('_states')}_projection"
        states = layers.Dense(width, use_bias=False, name=projection)(states)
    return states * math.sqrt(width) + waves


def _transformer(queries, source, source_rows, *, layers: int, heads: int, name: str):
    """Pre-norm layers whose queries are the layer before, and whose keys are always `source`."""
    for number in range(1, layers + 1):
        queries = _layer(queries, source, source_rows, heads, f"{name}_{number}")
    return _norm(f"{name}_norm")(queries)


def _layer(queries, source, source_rows, heads, name):
    width = queries.shape[-1]
    norm = _norm(f"{name}_attention_norm")  # one for queries and keys
    attended = attend(norm(queries), norm(source), source_rows, heads=heads, name=f"{name}_attention")
    states = layers.Add()([queries, attended])
    hidden = layers.Dense(4 * width, "relu", name=f"{name}_wide")(_norm(f"{name}_wide_norm")(states))
    return layers.Add()([states, layers.Dense(width, name=f"{name}_narrow")(hidden)])


def _norm(name):
    return layers.LayerNormalization(epsilon=EPSILON, name=name)


def _classifier(vector, classes):
    vector = layers.Identity(name=EMBEDDING)(vector)
    hidden = layers.Dense(HIDDEN, "gelu", name="hidden")(layers.Dropout(DROPOUT)(vector))
    return layers.Dense(classes, name="logits", dtype="float32")(layers.Dropout(DROPOUT)(hidden))
