"""Losses on values of arousal, valence and dominance, whose scale ends at -1 and 1.

A value that is NaN is not known: it has no part in the loss. Values and outputs are `(batch, dimensions)`.
"""

from keras import ops

from light_sernet_kd.distillation.losses._math import at_least_float32

# A batch whose values and outputs are all alike has a concordance of 0 / 0.
_SMALL = 1e-8


def ccc(values, outputs):
    """1 less the concordance correlation coefficient of the outputs with the values, over the batch.

    `ρ_c = 2 cov(x, y) / (var x + var y + (mean x - mean y)²)` for each dimension, with the moments of the
    known values and of the outputs beside them, and the mean of the dimensions. A dimension of which fewer
    than two values of the batch are known has no part in it.

    Args:
        values: `(batch, dimensions)`, NaN where one is not known.
        outputs: `(batch, dimensions)`.

    Returns:
        A scalar from 0 to 2; 0 where no dimension has a part.

    Source: Lin 1989, A concordance correlation coefficient to evaluate reproducibility, Biometrics 45,
    with the biased variances of that paper.

    The outputs have the values' order and mean, and half of their range: ρ_c is 2 · 0.5 / (1 + 0.25).

    >>> round(float(ccc([[-1.0], [1.0]], [[-0.5], [0.5]])), 4)
    0.2
    """
    values, outputs, known = _known(values, outputs)
    count = ops.sum(known, axis=0)
    some = ops.maximum(count, 1.0)
    mean, mean_out = ops.sum(values, axis=0) / some, ops.sum(outputs, axis=0) / some
    apart, apart_out = known * (values - mean), known * (outputs - mean_out)
    covariance = ops.sum(apart * apart_out, axis=0) / some
    spread = (ops.sum(ops.square(apart), axis=0) + ops.sum(ops.square(apart_out), axis=0)) / some
    concordance = 2 * covariance / (spread + ops.square(mean - mean_out) + _SMALL)
    has_part = ops.cast(count >= 2, concordance.dtype)
    return ops.sum(has_part * (1 - concordance)) / ops.maximum(ops.sum(has_part), 1.0)


def squared_error(values, outputs):
    """Mean squared error of the outputs, over all known values of the batch.

    Args:
        values: `(batch, dimensions)`, NaN where one is not known.
        outputs: `(batch, dimensions)`.

    Returns:
        A scalar; 0 where nothing is known.

    >>> float(squared_error([[1.0], [float("nan")]], [[0.5], [0.5]]))
    0.25
    """
    values, outputs, known = _known(values, outputs)
    return ops.sum(ops.square(values - outputs)) / ops.maximum(ops.sum(known), 1.0)


def values(labels, teacher, student):
    """Mean squared error of the student's dimensions to the teacher's values, as `squared_error` has it.

    Args:
        labels: class indices `(batch,)`, which it does not read.
        teacher, student: `(batch, dimensions)`, the teacher's NaN where it says nothing.

    Returns:
        Zeros `(batch,)`, and the error.

    >>> per_example, error = values([0], [[1.0]], [[0.5]])
    >>> float(error)
    0.25
    """
    return _of_examples(student), squared_error(teacher, student)


def concordance(labels, teacher, student):
    """1 less the concordance of the student's dimensions with the teacher's values, as `ccc` has it.

    Args:
        labels: class indices `(batch,)`, which it does not read.
        teacher, student: `(batch, dimensions)`, the teacher's NaN where it says nothing.

    Returns:
        Zeros `(batch,)`, and the loss.

    >>> per_example, loss = concordance([0, 0], [[-1.0], [1.0]], [[-0.5], [0.5]])
    >>> round(float(loss), 4)
    0.2
    """
    return _of_examples(student), ccc(teacher, student)


def _of_examples(student):
    """What belongs to single examples: nothing."""
    return ops.zeros_like(at_least_float32(student)[:, 0])


def _known(values, outputs):
    """Values and outputs, 0 where the value is not known, and 1 where it is."""
    values, outputs = at_least_float32(values), at_least_float32(outputs)
    is_known = ops.isfinite(values)
    zeros = ops.zeros_like(outputs)
    known = ops.cast(is_known, outputs.dtype)
    return ops.where(is_known, values, zeros), ops.where(is_known, outputs, zeros), known
