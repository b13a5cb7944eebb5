"""A second output beside a student's logits: values of arousal, valence and dominance."""

import keras
from keras import layers

from light_sernet_kd.errors import UserError

DIMENSIONS = "dimensions"


def with_dimensions(student: keras.Model, dimensions: int) -> keras.Model:
    """The student with a linear layer `dimensions` on what its logits are computed of.

    Args:
        dimensions: how many values it gives, on a scale from -1 to 1; they are not clipped.

    Returns:
        A model of two outputs, logits and dimensions `(batch, dimensions)`, of the student's own layers.

    Raises:
        UserError: the logits are not computed of one vector per example.

    >>> student = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(3, name="logits")])
    >>> with_dimensions(student, 2).output_names
    ['logits', 'dimensions']
    """
    logits = student.outputs[0]
    features = logits._keras_history.operation.input
    if not isinstance(features, keras.KerasTensor) or len(features.shape) != 2:
        raise UserError(
            f"the student {student.name} takes no dimensions: its logits are not computed of one vector per "
            "example."
        )
    values = layers.Dense(dimensions, name=DIMENSIONS, dtype="float32")(features)
    inputs = student.inputs[0] if len(student.inputs) == 1 else student.input
    return keras.Model(inputs, [logits, values], name=student.name)
