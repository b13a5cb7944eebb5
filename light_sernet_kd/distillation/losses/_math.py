"""What several losses compute with."""

import numpy as np
from keras import backend, ops

from light_sernet_kd.distillation.label_checks import check_class_indices, check_label_shape

# Stands for a logit of minus infinity, but a difference of two of them is 0 and not NaN.
MASKED_LOGIT = -1e30

# Logits nearer than 1e-6 coincide: below that float32 rounding decides the direction between them, and the
# gradient of the distance, of size 1 / distance, would be noise.
COINCIDENT_SQUARED = 1e-12

# Keeps the quotients and logarithms of WSLD and PKT finite, as in their authors' code.
SMALL = 1e-7


def at_least_float32(x):
    x = ops.convert_to_tensor(x)
    return ops.cast(x, backend.result_type(x.dtype, "float32"))


def one_hot_of(labels, classes: int, dtype="bool"):
    """Where each example's label is, `(batch, classes)`.

    Raises:
        UserError: labels that are no class indices `(batch,)`, by their shape, or by their values where no
            graph is traced.
    """
    try:
        known = np.asarray(labels)
    except (NotImplementedError, TypeError, ValueError):
        known = None  # within a graph nobody knows them: one_hot has no class there
    labels = ops.convert_to_tensor(labels)
    if known is None:
        check_label_shape("the labels", labels.shape, classes)
    else:
        check_class_indices("the labels", known, classes, since=f", as there are logits of {classes} classes")
    return ops.one_hot(ops.reshape(labels, (-1,)), classes, dtype=dtype)


def gram(rows):
    return ops.matmul(rows, ops.swapaxes(rows, -1, -2))


def over_length(rows, reduce):
    """Rows over the root of the sum or mean of their squares; one as good as 0 is 0, without slope."""
    squares = reduce(ops.square(rows), axis=-1, keepdims=True)
    some = squares > COINCIDENT_SQUARED
    return ops.where(some, rows / ops.sqrt(ops.where(some, squares, 1.0)), 0.0)
