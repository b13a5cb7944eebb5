"""The distillation losses as their papers write them: sums over examples, classes and pairs, one loop each.

Slow on purpose and free of tricks: the tests hold the package's losses against these in float64, and
`benchmarks/cubic_loss.py` times `between_instances_and_classes`.
"""

import math

import numpy as np


def softmax(logits, temperature=1.0):
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def divergence(p, q):
    return sum(p[c] * math.log(p[c] / q[c]) for c in range(len(p)))


def cross_entropy(labels, logits):
    return np.array([-math.log(softmax(row)[label]) for label, row in zip(labels, logits, strict=True)])


def soft_cross_entropy(shares, logits):
    values = []
    for target, row in zip(shares, logits, strict=True):
        p = softmax(row)
        values.append(-sum(target[c] * math.log(p[c]) for c in range(len(p))))
    return np.array(values)


def squared_error(target, outputs):
    """Per example: mean over whatever an example is a vector of."""
    return np.array([
        sum((t - x) ** 2 for t, x in zip(*rows, strict=True)) / len(rows[0])
        for rows in zip(target, outputs, strict=True)
    ])  # fmt: skip


def states(teacher, student):
    """DistilSER's third term, per example: over the tokens whose state is not all zeros, and the width."""
    values = []
    for ours, theirs in zip(student, teacher, strict=True):
        squares = [
            (s - t) ** 2
            for our_token, their_token in zip(ours, theirs, strict=True) if any(their_token)
            for s, t in zip(our_token, their_token, strict=True)
        ]  # fmt: skip
        values.append(sum(squares) / len(squares) if squares else 0.0)
    return np.array(values)


def kd(label_loss, teacher, student, temperature, alpha):
    """Hinton et al. 2015, section 2, per example."""
    values = []
    for b in range(len(teacher)):
        p, q = softmax(teacher[b], temperature), softmax(student[b], temperature)
        values.append((1 - alpha) * label_loss[b] + alpha * temperature**2 * divergence(p, q))
    return np.array(values)


def dkd(labels, teacher, student, alpha, beta, temperature):
    """Zhao et al. 2022, equations 1 to 7, per example: TCKD and NCKD between renormalised probabilities."""
    values = []
    for b, label in enumerate(labels):
        p, q = softmax(teacher[b], temperature), softmax(student[b], temperature)
        target = divergence([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        others = [c for c in range(len(p)) if c != label]
        non_target = divergence(
            [p[c] / (1 - p[label]) for c in others], [q[c] / (1 - q[label]) for c in others]
        )
        values.append(temperature**2 * (alpha * target + beta * non_target))
    return np.array(values)


def smooth_l1(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def distance_relation(teacher, student):
    """Park et al. 2019, section 3.2.1: mean over all ordered pairs, of distances over their mean."""
    examples = range(len(teacher))

    def distances(points):
        raw = [[math.dist(points[i], points[j]) for j in examples] for i in examples]
        positive = [d for row in raw for d in row if d > 0]
        return [[d / (sum(positive) / len(positive)) for d in row] for row in raw]

    t, s = distances(teacher), distances(student)
    return np.mean([smooth_l1(t[i][j] - s[i][j]) for i in examples for j in examples])


def angle_relation(teacher, student):
    """Park et al. 2019, section 3.2.2: mean over all ordered triplets, of the cosine at the middle one."""
    examples = range(len(teacher))

    def cosine(points, i, j, k):
        to_i, to_k = points[i] - points[j], points[k] - points[j]
        lengths = math.hypot(*to_i) * math.hypot(*to_k)
        return float(np.dot(to_i, to_k)) / lengths if lengths else 0.0

    return np.mean([
        smooth_l1(cosine(teacher, i, j, k) - cosine(student, i, j, k))
        for i in examples for j in examples for k in examples
    ])  # fmt: skip


def correlation(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    together = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return together / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def dist(teacher, student, temperature):
    """Huang et al. 2022: one minus Pearson's correlation, per example between classes, and the mean over
    the classes of that within each."""
    p = [softmax(row, temperature) for row in teacher]
    q = [softmax(row, temperature) for row in student]
    between = [1 - correlation(p[b], q[b]) for b in range(len(p))]
    within = [1 - correlation([row[c] for row in p], [row[c] for row in q]) for c in range(len(p[0]))]
    return np.array(between), sum(within) / len(within)


def nkd(labels, teacher, student, gamma, temperature):
    """Yang et al. 2023, per example: the label's probability as it is, all others over their sum."""
    values = []
    for b, label in enumerate(labels):
        value = -softmax(teacher[b])[label] * math.log(softmax(student[b])[label])
        p, q = softmax(teacher[b], temperature), softmax(student[b], temperature)
        for c in range(len(p)):
            if c != label:
                value -= gamma * temperature**2 * p[c] / (1 - p[label]) * math.log(q[c] / (1 - q[label]))
        values.append(value)
    return np.array(values)


def wsld_weights(labels, teacher, student):
    """Zhou et al. 2021, per example: how far the student's regular loss is above none, by the teacher's."""
    ratios = cross_entropy(labels, student) / cross_entropy(labels, teacher)
    return np.array([1 - math.exp(-ratio) for ratio in ratios])


def wsld(labels, teacher, student, temperature):
    """Zhou et al. 2021, per example: the weighted cross entropy with the soft labels."""
    values = []
    for b, weight in enumerate(wsld_weights(labels, teacher, student)):
        p, q = softmax(teacher[b], temperature), softmax(student[b], temperature)
        soft = -sum(p[c] * math.log(q[c]) for c in range(len(p)))
        values.append(weight * temperature**2 * soft)
    return np.array(values)


def wttm(teacher, student, temperature):
    """Zheng and Yang 2024, section 4, per example: the power transform of the teacher's probabilities."""
    values = []
    for b in range(len(teacher)):
        powers = [p ** (1 / temperature) for p in softmax(teacher[b])]
        transformed = [power / sum(powers) for power in powers]
        values.append(sum(powers) * divergence(transformed, softmax(student[b])))
    return np.array(values)


def alpha_beta(teacher, student, alpha, beta, temperature):
    """Wang et al. 2025, definition of the α-β-divergence, per example."""
    values = []
    for b in range(len(teacher)):
        p, q = softmax(teacher[b], temperature), softmax(student[b], temperature)
        total = 0.0
        for c in range(len(p)):
            total += p[c] ** alpha * q[c] ** beta
            total -= alpha / (alpha + beta) * p[c] ** (alpha + beta)
            total -= beta / (alpha + beta) * q[c] ** (alpha + beta)
        values.append(-total / (alpha * beta))
    return np.array(values)


def standardised(logits):
    """Sun et al. 2024, per example: less the mean, over the root of the mean of squares."""
    rows = []
    for row in logits:
        mean = sum(row) / len(row)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / len(row))
        rows.append([(x - mean) / deviation for x in row])
    return np.array(rows)


def pkt(teacher, student):
    """Passalis and Tefas 2018: cosine kernels between examples as probabilities of the others, given one."""
    examples = range(len(teacher))

    def conditional(points):
        def kernel(a, b):
            return (float(np.dot(a, b)) / (math.hypot(*a) * math.hypot(*b)) + 1) / 2

        raw = [[kernel(points[i], points[j]) for j in examples] for i in examples]
        return [[raw[i][j] / sum(raw[i][k] for k in examples if k != i) for j in examples] for i in examples]

    p, q = conditional(teacher), conditional(student)
    total = sum(p[i][j] * math.log(p[i][j] / q[i][j]) for i in examples for j in examples if i != j)
    return total / len(examples)


def sp(teacher, student):
    """Tung and Mori 2019: batch by batch products, rows normalised, mean of the squared differences."""
    examples = range(len(teacher))

    def similarity(points):
        rows = [[float(np.dot(points[i], points[j])) for j in examples] for i in examples]
        return [[x / math.hypot(*row) for x in row] for row in rows]

    g_t, g_s = similarity(teacher), similarity(student)
    return sum((g_t[i][j] - g_s[i][j]) ** 2 for i in examples for j in examples) / len(examples) ** 2


def cube(logits, temperatures):
    """Q[b, c, k]: the probability of class c in example b at temperature k."""
    return np.array([np.transpose([softmax(row, k) for k in temperatures]) for row in logits])


def sums_over_cell_pairs(cube_t, cube_s):
    """Σ|D| and Σ D² over every two cells of the flattened cubes."""
    cells_t, cells_s = cube_t.ravel(), cube_s.ravel()
    absolute = squared = 0.0
    for i in range(len(cells_t)):
        for j in range(len(cells_t)):
            gap = cells_t[i] * cells_t[j] - cells_s[i] * cells_s[j]
            absolute += abs(gap)
            squared += gap * gap
    return absolute, squared


def between_instances_and_classes(cube_t, cube_s):
    """Σ_k ‖T_k T_kᵀ - S_k S_kᵀ‖²_F and Σ_k ‖T_kᵀ T_k - S_kᵀ S_k‖²_F, each square multiplied out: five loops.

    Takes anything that is indexed [b][c][k] and holds numbers, those of an automatic differentiator included.
    """
    instances, classes, temperatures = len(cube_t), len(cube_t[0]), len(cube_t[0][0])
    between_instances = between_classes = 0.0
    for k in range(temperatures):
        for b in range(instances):
            for b2 in range(instances):
                for c in range(classes):
                    for c2 in range(classes):
                        t, t_b2 = cube_t[b][c][k], cube_t[b2][c][k]
                        t_c2, t_both = cube_t[b][c2][k], cube_t[b2][c2][k]
                        s, s_b2 = cube_s[b][c][k], cube_s[b2][c][k]
                        s_c2, s_both = cube_s[b][c2][k], cube_s[b2][c2][k]
                        between_instances += (t * t_b2 - s * s_b2) * (t_c2 * t_both - s_c2 * s_both)
                        between_classes += (t * t_c2 - s * s_c2) * (t_b2 * t_both - s_b2 * s_both)
    return between_instances, between_classes
