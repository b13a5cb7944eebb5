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
