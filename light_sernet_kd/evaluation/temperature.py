"""Temperature scaling: what to divide a student's logits by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from light_sernet_kd.evaluation.probabilities import labelled_rows

# Temperatures are looked for between these: students trained with MSE need about 0.1, sharp ones 1 to 5.
TEMPERATURE_BOUNDS = (0.01, 100.0)

# From fewer validation predictions none is fitted: on drawn logits, T of 10 made the NLL worse on average.
FEWEST_TO_CALIBRATE = 20


def fit_temperature(logits: ArrayLike, labels: ArrayLike, *, doubt: float = 0.2) -> float:
    """The T > 0 for which softmax(logits / T) gives the labels the greatest likelihood.

    The negative log likelihood is convex in 1 / T, so there is one minimum, where its slope is 0.
    Where a student is right every time that is T = 0, and it would be certain of everything: therefore
    `doubt` utterances' worth of the labels count as spread over all classes, as Platt spreads them. With T of
    20 to 50 logits drawn as of a student that is right in 88 %, others had a lower NLL by 0.2 than by 0, 0.5
    and 1. T also stays within 0.01 and 100 (`TEMPERATURE_BOUNDS`), e.g. where the labels contradict the
    logits; where all logits of every row are equal, it is 1. A class without a label does no harm.

    Labels that chose the weights, as a validation set's chose the epoch, make T a little too small. Never fit
    it on what is to be scored.

    Args:
        logits: `(N, classes)`, N at least 1.
        labels: `(N,)` class indices.
        doubt: in utterances; 0 gives the plain maximum of the likelihood.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2; Platt 1999, Probabilistic outputs for support
    vector machines, section 2.2, for the spread labels.

    Logits 2 apart that are right three times of four should be log 3 apart, and 2 / log 3 is 1.8205.

    >>> round(fit_temperature([[2.0, 0.0]] * 4, [0, 0, 0, 1], doubt=0), 4)
    1.8205
    """
    from scipy.optimize import root_scalar  # not above: reading scores needs no SciPy

    truth, rows = labelled_rows(labels, logits, "logits")
    rows = rows - rows.max(axis=1, keepdims=True)
    count, classes = rows.shape
    share = doubt / (count + doubt)
    targets = (1 - share) * np.eye(classes)[truth] + share / classes
    of_targets = (targets * rows).sum(axis=1)

    def slope(log_temperature: float) -> float:
        """Of the negative log likelihood in 1 / T."""
        powers = np.exp(rows / np.exp(log_temperature))
        return float(((powers * rows).sum(axis=1) / powers.sum(axis=1) - of_targets).mean())

    low, high = np.log(TEMPERATURE_BOUNDS)
    if not rows.any():
        return 1.0
    # The slope falls with T.
    if slope(low) <= 0:
        return TEMPERATURE_BOUNDS[0]
    if slope(high) >= 0:
        return TEMPERATURE_BOUNDS[1]
    return float(np.exp(root_scalar(slope, bracket=(low, high)).root))


def mean_margin(logits: ArrayLike) -> float:
    """Mean over `(N, classes)` rows of the largest logit less the second, N at least 1.

    It grows with the logits as a temperature does, and says how sharp they are.

    >>> mean_margin([[3.0, 1.0, 0.0], [0.0, 0.0, 4.0]])
    3.0
    """
    largest = np.sort(np.asarray(logits, np.float64), axis=1)
    return float((largest[:, -1] - largest[:, -2]).mean()) if largest.shape[1] > 1 else 0.0


def temperature_per_margin(
    held_out: Sequence[ArrayLike], labels: Sequence[ArrayLike], training_logits: Sequence[ArrayLike]
) -> float:
    """Temperature per unit of a student's `mean_margin` on its training utterances.

    Two students of one recipe differ in how sharp their logits are: a few epochs in, twofold from one epoch
    to the next. The temperature of one then makes the other sure of everything, or of nothing. Divided by
    their margins they are alike, and one factor, fitted on held-out utterances, serves a student without
    any.

    Args:
        held_out: per student its logits `(N, classes)` on utterances that it was not trained on.
        labels: theirs, `(N,)` per student.
        training_logits: per student its logits on utterances that it was trained on.
    """
    scaled = [
        np.asarray(a, np.float64) / (mean_margin(b) or 1.0)
        for a, b in zip(held_out, training_logits, strict=True)
    ]
    return fit_temperature(np.concatenate(scaled), np.concatenate([np.asarray(each) for each in labels]))


def temperature_for(per_margin: float, training_logits: ArrayLike) -> float:
    """The temperature of the student with logits `training_logits` on its training utterances.

    Args:
        per_margin: as `temperature_per_margin` gives it.
    """
    return float(np.clip(per_margin * (mean_margin(training_logits) or 1.0), *TEMPERATURE_BOUNDS))
