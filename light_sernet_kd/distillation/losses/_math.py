"""What several losses compute with."""

from keras import backend, ops

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


def gram(rows):
    return ops.matmul(rows, ops.swapaxes(rows, -1, -2))


def over_length(rows, reduce):
    """Rows over the root of the sum or mean of their squares; one as good as 0 is 0, without slope."""
    squares = reduce(ops.square(rows), axis=-1, keepdims=True)
    some = squares > COINCIDENT_SQUARED
    return ops.where(some, rows / ops.sqrt(ops.where(some, squares, 1.0)), 0.0)
