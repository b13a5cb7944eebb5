"""Distillation losses on the logits of teacher and student."""

from keras import ops

from light_sernet_kd.distillation.losses._math import (
    COINCIDENT_SQUARED,
    MASKED_LOGIT,
    SMALL,
    at_least_float32,
    gram,
    one_hot_of,
    over_length,
)
from light_sernet_kd.errors import choose

KL_MEANS = ("batch", "elements")


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

    Raises:
        UserError: unknown `kl_mean`.

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
    teacher_distances, teacher_cosines = _distances_and_cosines(at_least_float32(teacher))
    student_distances, student_cosines = _distances_and_cosines(at_least_float32(student))
    relations = distance * _mean_smooth_l1(teacher_distances - student_distances)
    relations += angle * _mean_smooth_l1(teacher_cosines - student_cosines)
    return label_weight * label_loss, relation_weight * relations


def dkd(  # noqa: PLR0913 (the weights of the paper)
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

    Raises:
        UserError: unknown `kl_mean`.

    Source: Zhao et al. 2022, arXiv:2203.08679, section 3, equations 5 to 7; weights from Cubic KD.

    Equal logits have no divergence, whatever the label loss, which is 1 here.

    >>> logits = [[2.0, 1.0, 0.0]]
    >>> per_example, _ = dkd(ops.array([1.0]), [0], logits, logits, label_weight=0.5)
    >>> float(per_example[0])
    0.5
    """
    teacher, student = at_least_float32(teacher), at_least_float32(student)
    is_label = one_hot_of(labels, student.shape[-1])
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


def ckd(  # noqa: PLR0913 (the weights of the paper)
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

    Raises:
        UserError: unknown `kl_mean`.

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
    teacher, student = at_least_float32(teacher), at_least_float32(student)
    is_label = one_hot_of(labels, student.shape[-1])
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
    teacher, student = at_least_float32(teacher), at_least_float32(student)
    is_label = one_hot_of(labels, student.shape[-1])

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
    gaps = at_least_float32(student) - at_least_float32(teacher)
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
    logits = at_least_float32(logits)
    # From the highest: the mean of equal large numbers would not quite be that number.
    logits = logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    centred = logits - ops.mean(logits, axis=-1, keepdims=True)
    return over_length(centred, ops.mean)


def _log_cube(logits, temperatures):
    """Log-probabilities `(temperatures, batch, classes)`."""
    logits = at_least_float32(logits)
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
    return ops.sum(ops.square(gram(teacher) - gram(student)))


def _correlations(a, b):
    """Pearson's, of each row of `a` with that of `b`."""
    a, b = (over_length(each - ops.mean(each, axis=-1, keepdims=True), ops.sum) for each in (a, b))
    return ops.sum(a * b, axis=-1)
