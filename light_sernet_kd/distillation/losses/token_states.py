"""The distillation loss on a text encoder's states, one per token."""

from keras import ops

from light_sernet_kd.distillation.losses._math import at_least_float32


def states(labels, teacher, student):
    """Mean squared error to the teacher's states of the tokens.

    The mean is over the width and the teacher's real tokens: rows of zeros are padding and do not count, and
    a text of nothing else has loss 0. As published, but for the padding: there every batch is one text. A
    token that only the teacher has a row for is compared with zeros.

    Args:
        labels: not used.
        teacher: states `(batch, tokens, W)`.
        student: `(batch, tokens, W)`; where the student's own states have another width, after a linear
            layer to the teacher's, which the Distiller owns: it trains with the student, and is neither saved
            nor exported.

    Returns:
        `(batch,)`, and 0.

    Source: DistilSER (ICTC 2024), the third term of its loss.

    The second token is padding; of the first the mean of 0² and 2².

    >>> per_example, _ = states(None, [[[1.0, 2.0], [0.0, 0.0]]], [[[1.0, 4.0], [9.0, 9.0]]])
    >>> float(per_example[0])
    2.0
    """
    teacher, student = at_least_float32(teacher), at_least_float32(student)
    tokens = ops.shape(teacher)[1]
    student = ops.pad(student, [[0, 0], [0, tokens], [0, 0]])[:, :tokens]
    is_token = ops.any(teacher != 0, axis=-1)
    errors = ops.mean(ops.square(ops.where(is_token[..., None], student - teacher, 0.0)), axis=-1)
    count = ops.sum(ops.cast(is_token, errors.dtype), axis=-1)
    per_example = ops.sum(errors, axis=-1) / ops.maximum(count, 1.0)
    return per_example, ops.zeros((), dtype=per_example.dtype)
