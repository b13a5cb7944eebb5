"""Augmentation of one clip's features."""

import math

import numpy as np


def specaugment(
    features, rng, *, chance=1.0, time_masks=2, time_most=0.2, frequency_masks=2, frequency_most=0.1875
):
    """A clip's features `(frames, features, 1)` with bands of frames and of features masked.

    Every mask's width is drawn evenly from 0 to `time_most` of the frames, or `frequency_most` of the
    features, then its place; masks may overlap. What is masked takes the mean of the clip, which in the
    paper, whose features have zero mean, is 0. There is no time warping, which the paper finds to add
    little. Of MFCC, what is masked are neighbouring cepstral coefficients, which is no band of frequencies.

    Source: Park et al. 2019, arXiv:1904.08779, section 2, and table 1 for the numbers of the policy SM: two
    masks each, of at most 15 of 80 mel bands and of 0.2 of the frames (its other limit of 70 frames of 10
    ms is more than that in clips of up to 3.5 s).
    """
    if rng.random() >= chance:
        return features
    masked, mean = np.array(features), np.mean(features)
    for axis, masks, most in ((0, time_masks, time_most), (1, frequency_masks, frequency_most)):
        size = masked.shape[axis]
        for _ in range(masks):
            width = int(rng.integers(0, math.floor(most * size), endpoint=True))
            first = int(rng.integers(0, size - width, endpoint=True))
            masked[(slice(None),) * axis + (slice(first, first + width),)] = mean
    return masked
