"""Distillation losses that put another divergence between class distributions in the place of KD's."""

from keras import ops

from light_sernet_kd.distillation.losses._math import at_least_float32


def wttm(label_loss, labels, teacher, student, *, label_weight=1.0, teacher_weight=4.0, temperature=5.0):
    """Weighted transformed teacher matching: the temperature is the teacher's alone.

    `label_weight label_loss + teacher_weight U KL(softmax(t / T) ‖ softmax(s))` with p the teacher's
    probabilities at temperature 1 and `U = Σ_c p_c^(1 / T)`. A student without a temperature of its own is
    kept from certainty: beside KD the loss has a Rényi entropy of the student. U lies between 1, of a
    certain teacher, and `classes^(1 - 1 / T)`, of one that finds all classes alike: what the teacher says
    counts the more, the smoother it is.

    Args:
        label_loss: `(batch,)`.
        labels: not used.
        teacher, student: logits `(batch, classes)`.
        label_weight: of the label loss.
        teacher_weight: of the teacher (the paper's β).
        temperature: T, divides the teacher's logits; positive. Its inverse is the paper's exponent γ.

    Returns:
        `(batch,)`, and 0. It is not 0 where the student equals the teacher, unless T is 1.

    Source: Zheng and Yang 2024, arXiv:2402.11148, sections 3 and 4; weights of the example in the
    authors' code, where CRD stands beside it.

    Two classes alike for the teacher, so U is 2^(4 / 5), and a student with log-odds of log 3: KL of
    (1/2, 1/2) from (3/4, 1/4) is log(2 / √3).

    >>> per_example, _ = wttm(ops.zeros(1), [0], [[0.0, 0.0]], [[1.0986123, 0.0]], teacher_weight=1.0)
    >>> round(float(per_example[0]), 4)
    0.2504
    """
    teacher, student = at_least_float32(teacher), at_least_float32(student)
    log_p = ops.log_softmax(teacher) / temperature
    log_powers = ops.logsumexp(log_p, axis=-1)
    target = log_p - log_powers[:, None]
    divergence = ops.sum(ops.exp(target) * (target - ops.log_softmax(student)), axis=-1)
    per_example = label_weight * label_loss + teacher_weight * ops.exp(log_powers) * divergence
    return per_example, ops.zeros((), dtype=per_example.dtype)


def abkd(  # noqa: PLR0913 (the weights of the paper)
    label_loss, labels, teacher, student, *, label_weight=1.0, teacher_weight=2.0, alpha=0.8, beta=0.3,
    temperature=4.0,
):  # fmt: skip
    """KD by the α-β-divergence, of which both Kullback-Leibler divergences are limits.

    `label_weight label_loss + teacher_weight T² D(p, q)` with p and q the softened class probabilities of
    teacher and student and

        D(p, q) = -1/(α β) Σ_c (p^α q^β - α/(α + β) p^(α + β) - β/(α + β) q^(α + β))

    As β tends to 0 and α to 1, D tends to the divergence of KD, which is content with a student that
    spreads over all that the teacher holds possible. As α tends to 0 and β to 1, it tends to the reverse
    one, which lets the student settle on one class.

    Args:
        label_loss: `(batch,)`.
        labels: not used.
        teacher, student: logits `(batch, classes)`.
        label_weight: of the label loss.
        teacher_weight: of the teacher. The authors' code has no T²: its 32 at a temperature of 4 is 2 here.
        alpha: exponent of the teacher's probabilities, above 0: how much large errors count.
        beta: exponent of the student's, above 0: how much the classes count that the student prefers.
        temperature: T, divides the logits; positive, larger is softer.

    Returns:
        `(batch,)`, and 0.

    Source: Wang et al. 2025, arXiv:2505.04560; weights of the example in the authors' code, ResNet-56 to
    ResNet-20, at the temperature that is the default of the code it builds on.

    With both exponents 1 it is half the squared distance: of (3/4, 1/4) from (1/2, 1/2), 1/16.

    >>> weights = {"teacher_weight": 1.0, "alpha": 1.0, "beta": 1.0, "temperature": 1.0}
    >>> per_example, _ = abkd(ops.zeros(1), [0], [[1.0986123, 0.0]], [[0.0, 0.0]], **weights)
    >>> round(float(per_example[0]), 4)
    0.0625
    """
    both = alpha + beta
    log_p = both * ops.log_softmax(at_least_float32(teacher) / temperature)
    log_q = both * ops.log_softmax(at_least_float32(student) / temperature)
    # With λ = α/(α + β), P = p^(α + β) and Q = q^(α + β) the sum is one of gaps λP + (1 - λ)Q - P^λ Q^(1-λ).
    # Each is taken from the larger of P and Q, so that no power overflows and it is 0 where they are equal.
    gap = -ops.abs(log_p - log_q)
    share = (alpha + (beta - alpha) * ops.cast(log_p > log_q, log_p.dtype)) / both
    gaps = ops.exp(ops.maximum(log_p, log_q)) * (share * ops.expm1(gap) - ops.expm1(share * gap))
    divergence = ops.sum(gaps, axis=-1) / (alpha * beta)
    per_example = label_weight * label_loss + teacher_weight * temperature**2 * divergence
    return per_example, ops.zeros((), dtype=per_example.dtype)
