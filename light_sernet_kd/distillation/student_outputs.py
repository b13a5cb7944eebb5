"""What distillation losses compare of a student: the symbolic tensors within it."""

import itertools

import keras

from light_sernet_kd.distillation.batch_keys import EMBEDDING, STATES
from light_sernet_kd.errors import UserError

TEXT_ENCODER = "text_encoder"


def embedding_of(student: keras.Model):
    """The symbolic tensor `(batch, Es)` that losses on embeddings compare.

    The output of the student's layer `embedding`; without one the input of its last layer, before Dropout.

    Raises:
        UserError: there is no one vector per example there.

    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    >>> embedding_of(student).shape
    (None, 8)
    """
    named = [layer for layer in student.layers if layer.name == EMBEDDING]
    last = student.layers[-1]
    # The input of a model within the student is not one of the student's tensors.
    tensor = _output_in(student, named[0]) if named else None if _is_model(last) else last.input
    before = {
        id(each.output): each.input for each in student.layers if isinstance(each, keras.layers.Dropout)
    }
    while not named and id(tensor) in before:
        tensor = before[id(tensor)]
    if not isinstance(tensor, keras.KerasTensor) or len(tensor.shape) != 2:
        within = ", not within another of its layers" if any(map(_is_model, student.layers)) else ""
        raise UserError(
            f"the student {student.name} has no embedding: name its layer of that output, "
            f"one vector per example, {EMBEDDING!r}{within}."
        )
    return tensor


def dimensions_of(student: keras.Model):
    """The symbolic tensor `(batch, dimensions)` that losses on ratings compare: the second output.

    Raises:
        UserError: the student has none.
    """
    if len(student.outputs) < 2:
        raise UserError(
            f"the student {student.name} has no second output for dimensions: make it with "
            "students.build(…, dimensions=2)."
        )
    return student.outputs[1]


def text_states_of(student: keras.Model):
    """The symbolic tensor `(batch, tokens, Ws)` that losses on token states compare.

    The output of the student's layer `text_states`, or else of its `text_encoder`, which may be a model.

    Raises:
        UserError: the student has neither, or their output is not one vector per token.
    """
    layers = {layer.name: layer for layer in student.layers}
    layer = layers.get(STATES) or layers.get(TEXT_ENCODER)
    tensor = _output_in(student, layer) if layer else None
    if tensor is None or len(tensor.shape) != 3:
        raise UserError(
            f"the student {student.name} has no text states to compare with a teacher's: it needs a layer "
            f"{STATES!r} or {TEXT_ENCODER!r} that gives one vector per token. "
            "Choose a student that reads text, or a distillation without states."
        )
    return tensor


def _output_in(student: keras.Model, layer: keras.layers.Layer):
    """What `layer` gives within `student`: of a nested model, `output` is that of its own graph instead."""
    graph = getattr(student, "_functional", student)  # which a Sequential wraps
    nodes = itertools.chain.from_iterable(graph._nodes_by_depth.values())
    return next(node.output_tensors[0] for node in nodes if node.operation is layer)


def _is_model(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Model)
