"""Distillation losses on the embeddings of teacher and student, of any two widths but for `hint`."""

from keras import ops

from light_sernet_kd.distillation.losses._math import MASKED_LOGIT, SMALL, at_least_float32, gram, over_length


def hint(labels, teacher, student):
    """Mean squared error to the teacher's embedding.

    Args:
        labels: not used.
        teacher: embeddings `(batch, Et)`.
        student: `(batch, Et)`, the student's embedding after a linear layer to the teacher's width, which
            the Distiller owns: it trains with the student, and is neither saved nor exported.

    Returns:
        `(batch,)`, the mean over the width, and 0.

    Source: Romero et al. 2015, arXiv:1412.6550, equation 3, which has half the sum.

    The mean of 0² and 2².

    >>> per_example, _ = hint([0], [[1.0, 2.0]], [[1.0, 4.0]])
    >>> float(per_example[0])
    2.0
    """
    gaps = at_least_float32(student) - at_least_float32(teacher)
    per_example = ops.mean(ops.square(gaps), axis=-1)
    return per_example, ops.zeros((), dtype=per_example.dtype)


def pkt(labels, teacher, student):
    """Probabilistic knowledge transfer: which examples are each other's neighbours.

    With the kernel `K(a, b) = (1 + cos(a, b)) / 2`, an example i finds j as neighbour with probability
    `p(j | i) = K(i, j) / Σ_(k≠i) K(i, k)`. The loss is `mean_i Σ_(j≠i) p(j | i) log(p(j | i) / q(j | i))`,
    p of the teacher and q of the student.

    Divergences of cosines are small, of the order of 0.001: a useful weight is in the hundreds. The paper
    sums over the examples; the benchmark of CRD, whose weight is 30000, divides by batch² and has j = i too.

    Args:
        labels: not used.
        teacher, student: embeddings `(batch, Et)` and `(batch, Es)`. One that is 0 has cosine 0 with all.

    Returns:
        `(batch,)` zeros, and the mean divergence in nats, a scalar; 0 for a batch of one.

    Source: Passalis and Tefas 2018, arXiv:1803.10837, section 3.

    Embeddings of twice the length have the same cosines.

    >>> teacher, student = [[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]], [[2.0, 0.0], [0.0, 2.0], [6.0, 8.0]]
    >>> _, divergence = pkt(None, teacher, student)
    >>> round(float(divergence), 6)
    0.0
    """
    log_p, log_q = _log_neighbours(teacher), _log_neighbours(student)
    itself = ops.eye(ops.shape(log_q)[0], dtype="bool")
    gaps = ops.where(itself, 0.0, log_p - log_q)
    divergence = ops.mean(ops.sum(ops.exp(log_p) * gaps, axis=-1))
    return ops.zeros_like(log_q[:, 0]), divergence


def sp(labels, teacher, student):
    """Similarity preserving: examples that excite the teacher alike excite the student alike.

    `‖G_t - G_s‖²_F / batch²` with G the products of every two embeddings, each row divided by its length.
    Published weight: 3000, as in `KD+SP:3000`.

    Args:
        labels: not used.
        teacher, student: embeddings `(batch, Et)` and `(batch, Es)`. The row of one that is 0 is 0.

    Returns:
        `(batch,)` zeros, and the loss, a scalar.

    Source: Tung and Mori 2019, arXiv:1907.09682, section 3.

    The teacher's rows are (1, 0) and (0, 1), the student's (1, 1) / √2: the mean of (1 - 1/√2)² and 1/2.

    >>> _, loss = sp(None, [[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]])
    >>> round(float(loss), 4)
    0.2929
    """
    similarities = [over_length(gram(at_least_float32(each)), ops.sum) for each in (teacher, student)]
    gaps = similarities[0] - similarities[1]
    return ops.zeros_like(gaps[:, 0]), ops.mean(ops.square(gaps))


def _log_neighbours(embeddings):
    """Log p(column | row) from cosine kernels, `(batch, batch)`; next to nothing on the diagonal."""
    cosines = gram(over_length(at_least_float32(embeddings), ops.sum))
    # Rounding may leave a cosine a little below -1.
    kernel = ops.log(ops.maximum(0.5 * (1 + cosines), 0.0) + SMALL)
    itself = ops.eye(ops.shape(kernel)[0], dtype="bool")
    return ops.log_softmax(ops.where(itself, MASKED_LOGIT, kernel))
