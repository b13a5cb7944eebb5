"""Losses on labels, on a teacher's logits, embeddings and token states, as pure functions of `keras.ops`.

A label loss gives one value per example. Its labels are class indices `(batch,)` or soft labels
`(batch, classes)`: each class's share of the target, such as that of the annotators who heard it.

    label_loss(labels, logits (batch, classes), **settings) -> (batch,)

A distillation loss takes that vector wherever its definition has a cross entropy, so that each goes with
cross entropy and with focal loss alike, and gives two parts:

    distillation(label_loss (batch,), labels (batch,), teacher (batch, classes), student (batch, classes),
                 **settings) -> (per_example (batch,), relational ())

What is trained on is `mean(per_example) + relational`. Sample weights apply to the first part; the second
compares examples with one another and belongs to no single one. A loss on embeddings or on token states
gives the same two parts, and brings no label loss along:

    embedding_distillation(labels (batch,), teacher (batch, Et), student (batch, Es), **settings)
        -> (per_example (batch,), relational ())
    state_distillation(labels (batch,), teacher (batch, tokens, W), student (batch, tokens, W), **settings)
        -> (per_example (batch,), relational ())

Unless it is said otherwise `teacher` and `student` are logits. Every weight is a keyword whose default is
the published one; `settings_of` lists them. Half-precision inputs are computed with in float32. All is in
log space, with finite values and gradients at logits of ±500.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from keras import backend, ops

from light_sernet_kd.config import distillation_spec
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES, PUBLISHED, Loss

KL_MEANS = ("batch", "elements")

# Stands for a logit of minus infinity, but a difference of two of them is 0 and not NaN.
MASKED_LOGIT = -1e30

# Logits nearer than 1e-6 coincide: below that float32 rounding decides the direction between them, and the
# gradient of the distance, of size 1 / distance, would be noise.
COINCIDENT_SQUARED = 1e-12

# Keeps the quotients and logarithms of WSLD and PKT finite, as in their authors' code.
SMALL = 1e-7


# Labels


def cross_entropy(labels, logits, *, label_smoothing=0.0):
    """Negative log-likelihood of the label; of a soft label, the cross entropy `-Σ_c q_c log p_c`.

    Args:
        labels: class indices `(batch,)` or soft labels `(batch, classes)`.
        logits: `(batch, classes)`.
        label_smoothing: share of the target, 0 to 1, that is spread evenly over all classes.

    Returns:
        `(batch,)`, in nats.

    Raises:
        UserError: soft labels of another number of classes than there are logits.

    Two classes that are alike have a probability of 1/2 each: log 2.

    >>> round(float(cross_entropy([0], [[0.0, 0.0]])[0]), 4)
    0.6931
    """
    logits = _at_least_float32(logits)
    return -ops.sum(_targets(labels, logits, label_smoothing) * ops.log_softmax(logits), axis=-1)


def focal(labels, logits, *, gamma=2.0, alpha=None, label_smoothing=0.0):
    """Cross entropy in which a class already well predicted counts less.

    `-Σ_c alpha_c q_c (1 - p_c)^gamma log p_c` with p the softmax and q the target. Without smoothing q is
    1 at the label, and this is equation 5 of the paper. With it, or with soft labels, every class is a
    target with its share of q, and is focused by its own p and weighted by its own alpha.

    Args:
        labels: class indices `(batch,)` or soft labels `(batch, classes)`.
        logits: `(batch, classes)`.
        gamma: focusing exponent, 0 or more; 0 is cross entropy.
        alpha: one weight per class, in the order of the logits; None weighs all by 1.
        label_smoothing: share of the target, 0 to 1, that is spread evenly over all classes.

    Returns:
        `(batch,)`, in nats where alpha is None.

    Raises:
        UserError: `alpha`, or a soft label, has another length than there are classes.

    Source: Lin et al. 2017, arXiv:1708.02002, sections 3.1 and 3.2.

    Two classes that are alike: (1 - 1/2)² log 2.

    >>> round(float(focal([0], [[0.0, 0.0]])[0]), 4)
    0.1733
    """
    logits = _at_least_float32(logits)
    targets = _targets(labels, logits, label_smoothing)
    if alpha is not None:
        if len(alpha) != logits.shape[-1]:
            raise UserError(
                f"focal loss has {len(alpha)} class weights (alpha) for {logits.shape[-1]} classes."
                " Give one weight per class."
            )
        targets = targets * ops.convert_to_tensor(alpha, dtype=logits.dtype)
    # log(1 - p_c) as the share of all other classes: 1 - p itself rounds to 0 at a confident p, and its
    # power has no finite gradient there for gamma below 1.
    itself = ops.eye(logits.shape[-1], dtype="bool")
    all_others = ops.logsumexp(ops.where(itself, MASKED_LOGIT, logits[:, None, :]), axis=-1)
    log_rest = all_others - ops.logsumexp(logits, axis=-1, keepdims=True)
    return -ops.sum(targets * ops.exp(gamma * log_rest) * ops.log_softmax(logits), axis=-1)


def mse(labels, logits, *, label_smoothing=0.0):
    """Mean squared error of the outputs to the target, `mean_c (logit_c - q_c)²`.

    As published, the outputs are taken as they are, without softmax or sigmoid, and the mean is over the
    examples and the classes. They so become estimates of the shares themselves, between 0 and 1: the highest
    is the class, but their softmax is far from sure of it (with 7 classes at most 0.31 for a perfect answer).

    Args:
        labels: class indices `(batch,)` or soft labels `(batch, classes)`, as published.
        logits: `(batch, classes)`.
        label_smoothing: share of the target, 0 to 1, that is spread evenly over all classes; 0 as published.

    Returns:
        `(batch,)`, without unit.

    Raises:
        UserError: soft labels of another number of classes than there are logits.

    Source: Multi-Still (ETRI 2023), the training of its teacher and of its students.

    The target is (1, 0): the mean of 0² and 2².

    >>> float(mse([0], [[1.0, 2.0]])[0])
    2.0
    """
    logits = _at_least_float32(logits)
    return ops.mean(ops.square(logits - _targets(labels, logits, label_smoothing)), axis=-1)


def hard_labels(labels, soft_labels):
    """The class with the largest share, for losses that need one class as the label.

    Args:
        labels: class indices `(batch,)`, which decide where several shares are the largest.
        soft_labels: `(batch, classes)`.

    Returns:
        Class indices `(batch,)`.

    >>> [int(label) for label in hard_labels([0, 1], [[0.2, 0.8], [0.5, 0.5]])]
    [1, 1]
    """
    labels, soft_labels = ops.convert_to_tensor(labels), ops.convert_to_tensor(soft_labels)
    own = ops.sum(
        ops.where(ops.one_hot(labels, soft_labels.shape[-1], dtype="bool"), soft_labels, 0), axis=-1
    )
    largest = ops.cast(ops.argmax(soft_labels, axis=-1), labels.dtype)
    return ops.where(own >= ops.max(soft_labels, axis=-1), labels, largest)


def _targets(labels, logits, label_smoothing):
    classes = logits.shape[-1]
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == 1:
        exact = ops.one_hot(labels, classes, dtype=logits.dtype)
    elif labels.shape[-1] == classes:
        exact = ops.cast(labels, logits.dtype)
    else:
        raise UserError(
            f"soft labels have shares of {labels.shape[-1]} classes, but there are logits of {classes}."
            " Give one share per class."
        )
    return (1 - label_smoothing) * exact + label_smoothing / classes


# Logits


def pure(label_loss, labels, teacher, student):
    """The label loss alone: the student without a teacher, which may be None.

    >>> per_example, relational = pure(ops.array([0.5]), [0], None, None)
    >>> float(per_example[0]), float(relational)
    (0.5, 0.0)
    """
    return label_loss, ops.zeros((), dtype=label_loss.dtype)


def kd(label_loss, labels, teacher, student, *, temperature=1.2, alpha=0.7, kl_mean="batch"):
    """Divergence of the student's softened class distribution from the teacher's.

    `(1 - alpha) label_loss + alpha T² KL(softmax(t / T) ‖ softmax(s / T))`; with T² the size of the gradient
    hardly depends on the temperature.

    Args:
        label_loss: `(batch,)`.
        labels: not used.
        teacher, student: logits `(batch, classes)`.
        temperature: T, positive; larger is softer.
        alpha: weight of the teacher, 0 to 1; the label has the rest.
        kl_mean: "batch" is the divergence per example. "elements" divides it by the number of classes
            too, as PyTorch's `reduction="mean"` does, with which Cubic KD was released.

    Returns:
        `(batch,)`, and 0.

    Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2; weights from Cubic KD.

    Equal logits leave `1 - alpha` of the label loss, which is 1 here.

    >>> logits = [[2.0, 0.0]]
    >>> per_example, _ = kd(ops.array([1.0]), [0], logits, logits, alpha=0.75)
    >>> float(per_example[0])
    0.25
    """
    divergence = _divergence_over_temperatures(teacher, student, (temperature,), kl_mean)
    per_example = (1 - alpha) * label_loss + alpha * divergence
    return per_example, ops.zeros((), dtype=per_example.dtype)


def rkd(
    label_loss, labels, teacher, student, *, label_weight=0.5, relation_weight=0.5, distance=0.3, angle=0.7
):
    """Relations between the examples of a batch: how far apart they lie, and at which angles.

    The smooth L1 loss (Huber, threshold 1) between teacher and student of
    - the Euclidean distance of each two examples, over the mean of all that are not 0;
    - the cosine of the angle that each two examples make at each third.

    Means go over all batch² pairs and batch³ triplets, those that repeat an example included, which count
    0: so does the authors' code, for which the weights were chosen. Examples that coincide have distance
    0, direction 0 and no gradient.

    Args:
        label_loss: `(batch,)`.
        labels: not used.
        teacher, student: logits `(batch, classes)`.
        label_weight: of the label loss.
        relation_weight: of both relations together.
        distance, angle: of each relation.

    Returns:
        `(batch,)`, the weighted label loss, and the weighted relations, a scalar.

    Source: Park et al. 2019, arXiv:1904.05068, sections 3.2.1 and 3.2.2; weights from Cubic KD.

    Examples twice as far apart have the same relations.

    >>> teacher, student = [[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [6.0, 8.0]]
    >>> per_example, relational = rkd(ops.zeros(2), [0, 1], teacher, student)
    >>> float(relational)
    0.0
    """
    teacher_distances, teacher_cosines = _distances_and_cosines(_at_least_float32(teacher))
    student_distances, student_cosines = _distances_and_cosines(_at_least_float32(student))
    relations = distance * _mean_smooth_l1(teacher_distances - student_distances)
    relations += angle * _mean_smooth_l1(teacher_cosines - student_cosines)
    return label_weight * label_loss, relation_weight * relations


def dkd(
    label_loss, labels, teacher, student, *, alpha=1.0, beta=0.25, temperature=1.0, label_weight=0.0,
    kl_mean="batch",
):  # fmt: skip
    """KD taken apart: label against rest (TCKD), and the other classes among themselves (NCKD).

    `label_weight label_loss + T² (alpha TCKD + beta NCKD)`. With p the teacher's probability of the label,
    `KD = TCKD + (1 - p) NCKD`: there NCKD, what the teacher knows beyond the label, fades as the teacher
    grows certain, and here it keeps its weight.

    Args:
        label_loss: `(batch,)`.
        labels: class indices `(batch,)`.
        teacher, student: logits `(batch, classes)`.
        alpha: weight of TCKD.
        beta: weight of NCKD.
        temperature: T, divides the logits; positive, larger is softer.
        label_weight: of the label loss; 0 as Cubic KD was released, 1 in the paper.
        kl_mean: "batch" or "elements", as in `kd`.

    Returns:
        `(batch,)`, and 0.

    Source: Zhao et al. 2022, arXiv:2203.08679, section 3, equations 5 to 7; weights from Cubic KD.

    Equal logits have no divergence, whatever the label loss, which is 1 here.

    >>> logits = [[2.0, 1.0, 0.0]]
    >>> per_example, _ = dkd(ops.array([1.0]), [0], logits, logits, label_weight=0.5)
    >>> float(per_example[0])
    0.5
    """
    teacher, student = _at_least_float32(teacher), _at_least_float32(student)
    is_label = ops.one_hot(labels, student.shape[-1], dtype="bool")
    teacher_label, teacher_rest, teacher_others = _label_rest_others(teacher / temperature, is_label)
    student_label, student_rest, student_others = _label_rest_others(student / temperature, is_label)
    target = ops.exp(teacher_label) * (teacher_label - student_label)
    target += ops.exp(teacher_rest) * (teacher_rest - student_rest)
    gaps = ops.where(is_label, 0.0, teacher_others - student_others)
    non_target = ops.sum(ops.exp(teacher_others) * gaps, axis=-1)
    divergence = temperature**2 * (alpha * target + beta * non_target)
    if choose("kl_mean", kl_mean, KL_MEANS) == "elements":
        divergence = divergence / student.shape[-1]
    per_example = label_weight * label_loss + divergence
    return per_example, ops.zeros((), dtype=per_example.dtype)


def ckd(
    label_loss, labels, teacher, student, *, alpha=0.7, temperatures=(1.0, 2.0, 3.0, 4.0, 5.0),
    absolute=2.5e-4, squared=2.5e-4, lambda1=0.006, lambda2=0.015, kl_mean="batch",
):  # fmt: skip
    """Cubic KD: KD at several temperatures at once, and all products of two probabilities therein.

    The cube `Q[k, b, c]` holds the probability of class c in example b at temperature k. With D all
    differences `Q_t[i] Q_t[j] - Q_s[i] Q_s[j]` between any two of its N cells, the loss is

        Σ_k kd(temperature=k) + absolute Σ|D| + squared Σ D²
        + lambda1 Σ_k ‖Q_t[k] Q_t[k]ᵀ - Q_s[k] Q_s[k]ᵀ‖²_F    between instances, batch × batch
        + lambda2 Σ_k ‖Q_t[k]ᵀ Q_t[k] - Q_s[k]ᵀ Q_s[k]‖²_F    between classes, classes × classes

    The last four are sums, so their weight grows with the batch. The label loss enters once per temperature.

    Args:
        label_loss: `(batch,)`.
        labels: not used.
        teacher, student: logits `(batch, classes)`.
        alpha: weight of the teacher in each KD, 0 to 1; the label has the rest.
        temperatures: k, positive.
        absolute, squared: weights of Σ|D| and Σ D².
        lambda1, lambda2: weights between instances and between classes. Published: 0.006 and 0.015 for
            EMO-DB (the defaults), 0.001 and 0.015 for IEMOCAP.
        kl_mean: "batch" or "elements", as in `kd`.

    Returns:
        `(batch,)`, the KD terms, and the other four, a scalar. No matrix over pairs of cells is made: the
        largest holds temperatures × batch² numbers.

    Source: Cubic KD (2023).

    Equal logits leave `1 - alpha` of the label loss, which is 1 here, at each of five temperatures.

    >>> logits = [[2.0, 1.0, 0.0]]
    >>> per_example, relational = ckd(ops.array([1.0]), [0], logits, logits, alpha=0.75)
    >>> float(per_example[0]), float(relational)
    (1.25, 0.0)
    """
    divergence = _divergence_over_temperatures(teacher, student, temperatures, kl_mean)
    per_example = len(temperatures) * (1 - alpha) * label_loss + alpha * divergence

    log_t, log_s = _log_cube(teacher, temperatures), _log_cube(student, temperatures)
    q_t, q_s = ops.exp(log_t), ops.exp(log_s)
    relational = lambda1 * _gram_gap(q_t, q_s) + lambda2 * _gram_gap(
        ops.swapaxes(q_t, 1, 2), ops.swapaxes(q_s, 1, 2)
    )
    # With d = q_t - q_s and e = q_t + q_s, multiplying out shows D = ½ (d eᵀ + e dᵀ). Therefore
    # Σ D² = ½ (|d|² |e|² + (d·e)²): no N × N matrix, and nothing cancels as the student nears the teacher.
    d, e = ops.reshape(q_t - q_s, (-1,)), ops.reshape(q_t + q_s, (-1,))
    relational += squared * 0.5 * (ops.sum(d * d) * ops.sum(e * e) + ops.square(ops.sum(d * e)))
    relational += absolute * _sum_of_absolute_gaps(d, e, ops.reshape(log_t - log_s, (-1,)))
    return per_example, relational


def dist(label_loss, labels, teacher, student, *, label_weight=1.0, beta=2.0, gamma=2.0, temperature=1.0):
    """DIST: correlation in place of divergence, which asks less of a student far weaker than its teacher.

    `label_weight label_loss + T² (beta mean_b d(p_b, q_b) + gamma mean_c d(p_c, q_c))` with p and q the
    softened class probabilities of teacher and student: p_b those of an example (inter-class), p_c those of
    a class over the batch (intra-class), and d one minus Pearson's correlation. What does not vary, such as
    a class in a batch of one, correlates with nothing: there d is 1, without gradient.

    Args:
        label_loss: `(batch,)`.
        labels: not used.
        teacher, student: logits `(batch, classes)`.
        label_weight: of the label loss (the paper's α).
        beta, gamma: weights between and within classes.
        temperature: T, divides the logits; positive. Published: 1 for ImageNet, 4 for CIFAR-100.

    Returns:
        `(batch,)`, the label loss and the part between classes, and the part within classes, a scalar.

    Source: Huang et al. 2022, arXiv:2205.10536, section 3; T² as the authors' code has it.

    Of two classes the student prefers the other one: correlations of -1, so d is 2 in both places.

    >>> teacher, student = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]
    >>> per_example, relational = dist(ops.zeros(2), [0, 1], teacher, student, beta=1.0, gamma=2.0)
    >>> round(float(per_example[0]), 4), round(float(relational), 4)
    (2.0, 4.0)
    """
    p = ops.exp(_log_cube(teacher, (temperature,))[0])
    q = ops.exp(_log_cube(student, (temperature,))[0])
    per_example = label_weight * label_loss + temperature**2 * beta * (1 - _correlations(p, q))
    within = 1 - _correlations(ops.transpose(p), ops.transpose(q))
    return per_example, temperature**2 * gamma * ops.mean(within)


def nkd(label_loss, labels, teacher, student, *, label_weight=1.0, gamma=1.5, temperature=1.0):
    """NKD: the label and the other classes apart, the others normalised to sum to 1 for both networks.

    `label_weight label_loss - p_y log q_y - gamma T² Σ_(c≠y) N(p)_c log N(q)_c` with p and q the
    probabilities of teacher and student, y the label, and N those of the other classes at temperature T over
    their sum. Both terms are cross entropies: the first has its minimum where the student is certain of the
    label, the second, above 0, where it sees the others as the teacher does.

    Args:
        label_loss: `(batch,)`.
        labels: class indices `(batch,)`.
        teacher, student: logits `(batch, classes)`.
        label_weight: of the label loss.
        gamma: weight of the other classes. The target term has weight 1.
        temperature: T (the paper's λ), divides the logits of the other classes only; positive.

    Returns:
        `(batch,)`, and 0.

    Source: Yang et al. 2023, arXiv:2303.13005, section 3.

    Two classes that are alike for both: -1/2 log 1/2, and the only other class has all of the rest.

    >>> per_example, _ = nkd(ops.zeros(1), [0], [[0.0, 0.0]], [[0.0, 0.0]])
    >>> round(float(per_example[0]), 4)
    0.3466
    """
    teacher, student = _at_least_float32(teacher), _at_least_float32(student)
    is_label = ops.one_hot(labels, student.shape[-1], dtype="bool")
    teacher_label, _, _ = _label_rest_others(teacher, is_label)
    student_label, _, _ = _label_rest_others(student, is_label)
    _, _, teacher_others = _label_rest_others(teacher / temperature, is_label)
    _, _, student_others = _label_rest_others(student / temperature, is_label)
    non_target = ops.sum(ops.exp(teacher_others) * ops.where(is_label, 0.0, student_others), axis=-1)
    per_example = label_weight * label_loss - ops.exp(teacher_label) * student_label
    per_example = per_example - gamma * temperature**2 * non_target
    return per_example, ops.zeros((), dtype=per_example.dtype)


def wsld(label_loss, labels, teacher, student, *, label_weight=1.0, alpha=2.5, temperature=2.0):
    """Weighted soft labels: KD counts less for examples that the student knows better than the teacher.

    `label_weight label_loss + alpha w T² H(p, q)` with H the cross entropy between the class probabilities
    p, q of teacher and student at temperature T, and `w = 1 - exp(-s / t)`, where s and t are the cross
    entropies of student and teacher with the label, both at temperature 1. No gradient flows through w.

    Args:
        label_loss: `(batch,)`.
        labels: class indices `(batch,)`.
        teacher, student: logits `(batch, classes)`.
        label_weight: of the label loss.
        alpha: weight of the teacher.
        temperature: T, divides the logits; positive, larger is softer.

    Returns:
        `(batch,)`, and 0.

    Source: Zhou et al. 2021, arXiv:2102.00650, section 4; weights as for ImageNet.

    A student that is certain and right learns nothing from its teacher.

    >>> per_example, _ = wsld(ops.zeros(1), [0], [[3.0, 0.0]], [[500.0, -500.0]])
    >>> float(per_example[0])
    0.0
    """
    teacher, student = _at_least_float32(teacher), _at_least_float32(student)
    is_label = ops.one_hot(labels, student.shape[-1], dtype="bool")

    def cross_entropy_to_the_last_digit(logits):
        label = ops.sum(ops.where(is_label, logits, 0.0), axis=-1)
        return ops.softplus(ops.logsumexp(ops.where(is_label, MASKED_LOGIT, logits), axis=-1) - label)

    # A quotient of two numbers near 0 where both are certain: log_softmax would have rounded them.
    ratio = cross_entropy_to_the_last_digit(student) / (cross_entropy_to_the_last_digit(teacher) + SMALL)
    weight = ops.stop_gradient(-ops.expm1(-ratio))
    p = ops.softmax(teacher / temperature)
    soft = -ops.sum(p * ops.log_softmax(student / temperature), axis=-1)
    per_example = label_weight * label_loss + alpha * temperature**2 * weight * soft
    return per_example, ops.zeros((), dtype=per_example.dtype)


def logit_mse(label_loss, labels, teacher, student, *, label_weight=1.0, teacher_weight=1.0):
    """Mean squared error to the teacher's outputs.

    `label_weight label_loss + teacher_weight mean_c (s_c - t_c)²`. As published, the outputs are compared as
    they are, without softmax, both weights are 1, and the label loss is `mse` to soft labels: both networks
    then estimate shares. A teacher trained with another label loss has logits of another size, which this
    makes the student's too.

    Args:
        label_loss: `(batch,)`.
        labels: not used.
        teacher, student: logits `(batch, classes)`.
        label_weight: of the label loss.
        teacher_weight: of the error to the teacher.

    Returns:
        `(batch,)`, and 0.

    Source: Multi-Still (ETRI 2023), the training of its students.

    The label loss is 1, and the mean of 0² and 2² is 2.

    >>> per_example, _ = logit_mse(ops.array([1.0]), [0], [[1.0, 2.0]], [[1.0, 4.0]])
    >>> float(per_example[0])
    3.0
    """
    gaps = _at_least_float32(student) - _at_least_float32(teacher)
    per_example = label_weight * label_loss + teacher_weight * ops.mean(ops.square(gaps), axis=-1)
    return per_example, ops.zeros((), dtype=per_example.dtype)


def standardised(logits):
    """Each example's logits with mean 0 and standard deviation 1; 0 where all are alike.

    A distillation loss on standardised logits compares which classes lie above which, and how far relative
    to one another: a student need not reproduce the size of its teacher's logits. The temperature then
    alone decides how soft the probabilities are. No logit of C classes exceeds √(C - 1), so a temperature of
    1 already softens a confident teacher, and higher ones flatten; the paper uses 2, and a weight of 9 for
    KD. The label loss keeps the logits as they are.

    Args:
        logits: `(batch, classes)`.

    Returns:
        `(batch, classes)`.

    Source: Sun et al. 2024, arXiv:2403.01427, section 4; the standard deviation is over all classes.

    >>> [round(float(logit), 4) for logit in standardised([[1.0, 3.0]])[0]]
    [-1.0, 1.0]
    """
    logits = _at_least_float32(logits)
    # From the highest: the mean of equal large numbers would not quite be that number.
    logits = logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    centred = logits - ops.mean(logits, axis=-1, keepdims=True)
    return _over_length(centred, ops.mean)


def _log_cube(logits, temperatures):
    """Log-probabilities `(temperatures, batch, classes)`."""
    logits = _at_least_float32(logits)
    divisors = ops.convert_to_tensor(temperatures, dtype=logits.dtype)
    return ops.log_softmax(logits[None] / divisors[:, None, None])


def _divergence_over_temperatures(teacher, student, temperatures, kl_mean):
    """Σ_k k² KL(softmax(t / k) ‖ softmax(s / k)), `(batch,)`."""
    log_t, log_s = _log_cube(teacher, temperatures), _log_cube(student, temperatures)
    divergences = ops.sum(ops.exp(log_t) * (log_t - log_s), axis=-1)
    squares = ops.convert_to_tensor([k * k for k in temperatures], dtype=log_s.dtype)
    total = ops.sum(squares[:, None] * divergences, axis=0)
    return total / log_s.shape[-1] if choose("kl_mean", kl_mean, KL_MEANS) == "elements" else total


def _label_rest_others(logits, is_label):
    """Log-probability of the label, of all else, and of each other class given that it is not the label.

    The last, `(batch, classes)`, is of no meaning at the label, where its `exp` is 0.
    """
    everything = ops.logsumexp(logits, axis=-1)
    label = ops.sum(ops.where(is_label, logits, 0.0), axis=-1)
    others = ops.where(is_label, MASKED_LOGIT, logits)
    return label - everything, ops.logsumexp(others, axis=-1) - everything, ops.log_softmax(others)


def _distances_and_cosines(points):
    """Distances `(batch, batch)` over their mean, and cosines `(batch, batch, batch)`, vertex first."""
    offsets = points[None, :, :] - points[:, None, :]
    squares = ops.sum(ops.square(offsets), axis=-1)
    apart = squares > COINCIDENT_SQUARED
    # The root is taken of 1 where points coincide, since its slope at 0 is infinite.
    roots = ops.sqrt(ops.where(apart, squares, 1.0))
    distances = ops.where(apart, roots, 0.0)
    pairs_apart = ops.sum(ops.cast(apart, points.dtype))
    mean_distance = ops.sum(distances) / ops.maximum(pairs_apart, 1.0)
    distances = distances / ops.where(pairs_apart > 0, mean_distance, 1.0)
    directions = ops.where(apart[:, :, None], offsets / roots[:, :, None], 0.0)
    return distances, ops.matmul(directions, ops.swapaxes(directions, 1, 2))


def _mean_smooth_l1(differences):
    sizes = ops.abs(differences)
    return ops.mean(ops.where(sizes < 1, 0.5 * ops.square(differences), sizes - 0.5))


def _sum_of_absolute_gaps(d, e, r):
    """Σ|D| of D = ½ (d eᵀ + e dᵀ) = t tᵀ - s sᵀ, from d = t - s, e = t + s and r = log t - log s, all `(N,)`.

    The sign of D[i, j] is that of log(t[i] t[j]) - log(s[i] s[j]) = r[i] + r[j]. Signs are symmetric, so
    Σ|D| = Σ_i d[i] w[i] with w[i] = Σ_j sign(r[i] + r[j]) e[j]: in order of r, the sum of e over all j above
    -r[i] less the sum over all j below. Signs are constant but where D is 0, and count 0 there, so what
    autodiff finds is the gradient of |D|, and 0 where D is 0.
    """
    r = ops.stop_gradient(r)
    order = ops.argsort(r)
    d, e, r = ops.take(d, order), ops.take(e, order), ops.take(r, order)
    sum_before = ops.pad(ops.cumsum(e), (1, 0))
    below = ops.take(sum_before, ops.searchsorted(r, -r, side="left"))
    not_above = ops.take(sum_before, ops.searchsorted(r, -r, side="right"))
    return ops.sum(d * (sum_before[-1] - not_above - below))


def _gram_gap(teacher, student):
    """Σ_k ‖T_k T_kᵀ - S_k S_kᵀ‖²_F over the first axis."""
    return ops.sum(ops.square(_gram(teacher) - _gram(student)))


def _correlations(a, b):
    """Pearson's, of each row of `a` with that of `b`."""
    a, b = (_over_length(each - ops.mean(each, axis=-1, keepdims=True), ops.sum) for each in (a, b))
    return ops.sum(a * b, axis=-1)


# Embeddings


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
    gaps = _at_least_float32(student) - _at_least_float32(teacher)
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
    similarities = [_over_length(_gram(_at_least_float32(each)), ops.sum) for each in (teacher, student)]
    gaps = similarities[0] - similarities[1]
    return ops.zeros_like(gaps[:, 0]), ops.mean(ops.square(gaps))


def _log_neighbours(embeddings):
    """Log p(column | row) from cosine kernels, `(batch, batch)`; next to nothing on the diagonal."""
    cosines = _gram(_over_length(_at_least_float32(embeddings), ops.sum))
    # Rounding may leave a cosine a little below -1.
    kernel = ops.log(ops.maximum(0.5 * (1 + cosines), 0.0) + SMALL)
    itself = ops.eye(ops.shape(kernel)[0], dtype="bool")
    return ops.log_softmax(ops.where(itself, MASKED_LOGIT, kernel))


# Token states


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
    teacher, student = _at_least_float32(teacher), _at_least_float32(student)
    tokens = ops.shape(teacher)[1]
    student = ops.pad(student, [[0, 0], [0, tokens], [0, 0]])[:, :tokens]
    is_token = ops.any(teacher != 0, axis=-1)
    errors = ops.mean(ops.square(ops.where(is_token[..., None], student - teacher, 0.0)), axis=-1)
    count = ops.sum(ops.cast(is_token, errors.dtype), axis=-1)
    per_example = ops.sum(errors, axis=-1) / ops.maximum(count, 1.0)
    return per_example, ops.zeros((), dtype=per_example.dtype)


# Settings


def settings_of(name: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings of a label or distillation loss: its published defaults, and over them `overrides`.

    A weighted sum, `KD:0.5+RKD:0.5`, has the settings of all its losses, under `KD.alpha` and so on. So has a
    published sum, such as `DistilSER`, whose defaults are its own.

    Raises:
        UserError: no such loss or setting, or a value that the setting cannot have.

    >>> settings_of("KD", {"alpha": 0.5})
    {'temperature': 1.2, 'alpha': 0.5, 'kl_mean': 'batch'}
    """
    is_sum = "+" in name or ":" in name
    title = name if is_sum else choose("loss", name, [*LABEL_LOSSES, *DISTILLATIONS, *PUBLISHED])
    entries: dict[str, Loss]
    published: Mapping[str, Any]
    if title in LABEL_LOSSES:
        entries, published = {title: LABEL_LOSSES[title]}, {}
    else:
        distillation = distillation_spec.parse(title)
        entries = {term.name: term.entry for term in distillation.terms}
        title, published = str(distillation), distillation.settings
    settings: dict[str, Any] = {}
    owners: dict[str, tuple[str, Loss, str]] = {}
    for loss, entry in entries.items():
        for each in inspect.signature(entry.loss.load()).parameters.values():
            if each.kind is each.KEYWORD_ONLY:
                key = each.name if len(entries) == 1 else f"{loss}.{each.name}"
                settings[key], owners[key] = each.default, (loss, entry, each.name)
    for key, value in [*published.items(), *(overrides or {}).items()]:
        if not settings:
            raise UserError(f"the loss {title} has no settings, but {key!r} is given. Leave it out.")
        key = choose(f"setting of {title}", key, settings)
        settings[key] = _checked(*owners[key], settings[key], value)
    return settings


def terms_of(
    distillation: distillation_spec.DistillationSum, overrides: Mapping[str, Any] | None = None
) -> list[tuple[distillation_spec.Term, dict[str, Any]]]:
    """Each loss of a sum with its own settings, by their plain names. Raises as `settings_of`.

    >>> [(str(term), settings) for term, settings in terms_of(mixtures.parse("MSE:0.5+SP:3000"))]
    [('MSE:0.5', {'label_weight': 1.0, 'teacher_weight': 1.0}), ('SP:3000', {})]
    """
    settings = settings_of(str(distillation), overrides)
    if len(distillation.terms) == 1:
        return [(distillation.terms[0], settings)]
    split: dict[str, dict[str, Any]] = {term.name: {} for term in distillation.terms}
    for key, value in settings.items():
        name, _, setting = key.partition(".")
        split[name][setting] = value
    return [(term, split[term.name]) for term in distillation.terms]


def _checked(loss: str, entry: Loss, setting: str, default: Any, value: Any) -> Any:
    """`value` in the type of `default`, where None stands for a sequence that may be left out."""
    what = f"{setting} of {loss}"
    if isinstance(default, str):
        return choose(what, str(value), KL_MEANS)
    if default is None and value is None:
        return None
    wants_several = default is None or isinstance(default, tuple)
    numbers = value if wants_several and isinstance(value, list | tuple) and value else [value]
    if wants_several and numbers is not value:
        raise UserError(f"{what} is {value!r}, but must be a list of numbers, such as [1.0, 2.0].")
    is_share, divides = setting in entry.shares, setting in entry.above_zero
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise UserError(f"{what} is {value!r}, but {number!r} is no finite number.")
        if number < 0 or (number == 0 and divides) or (number > 1 and is_share):
            must = "more than 0" if divides else "0 to 1" if is_share else "0 or more"
            raise UserError(f"{what} is {value!r}, but must be {must}.")
    return tuple(map(float, numbers)) if wants_several else float(value)


# What several of these compute with


def _at_least_float32(x):
    x = ops.convert_to_tensor(x)
    return ops.cast(x, backend.result_type(x.dtype, "float32"))


def _gram(rows):
    return ops.matmul(rows, ops.swapaxes(rows, -1, -2))


def _over_length(rows, reduce):
    """Rows over the root of the sum or mean of their squares; one as good as 0 is 0, without slope."""
    squares = reduce(ops.square(rows), axis=-1, keepdims=True)
    some = squares > COINCIDENT_SQUARED
    return ops.where(some, rows / ops.sqrt(ops.where(some, squares, 1.0)), 0.0)
