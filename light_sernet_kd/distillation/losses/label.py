"""Losses on labels: class indices, or soft labels with each class's share."""

from keras import ops

from light_sernet_kd.distillation.losses._math import MASKED_LOGIT, at_least_float32, one_hot_of
from light_sernet_kd.errors import UserError


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
    logits = at_least_float32(logits)
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
    logits = at_least_float32(logits)
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
    logits = at_least_float32(logits)
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
    of_label = ops.sum(ops.where(one_hot_of(labels, soft_labels.shape[-1]), soft_labels, 0), axis=-1)
    largest = ops.cast(ops.argmax(soft_labels, axis=-1), labels.dtype)
    return ops.where(of_label >= ops.max(soft_labels, axis=-1), labels, largest)


def _targets(labels, logits, label_smoothing):
    classes = logits.shape[-1]
    labels = ops.convert_to_tensor(labels)
    shape = labels.shape
    if len(shape) == 1:
        exact = one_hot_of(labels, classes, dtype=logits.dtype)
    elif len(shape) == 2 and shape[-1] == classes:
        exact = ops.cast(labels, logits.dtype)
    else:
        raise UserError(
            f"soft labels have shares of {shape[-1] if shape else 0} classes, but there are logits of "
            f"{classes}. Give one share per class, or class indices of the shape (batch,)."
        )
    return (1 - label_smoothing) * exact + label_smoothing / classes
