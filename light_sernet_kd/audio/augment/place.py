"""Where a recording lies in its clip, or where the clip is cut from it."""

import math


def shift(start, rng, *, recorded, samples, chance=1.0, most=0.1):
    """Where in a clip of `samples` samples a recording of `recorded` samples begins, in samples.

    `start` is where it would begin; it moves by up to `most` of the clip's length to either side, evenly
    drawn among the places that lose nothing. A short recording stays within the clip, so what moves is how
    its padding is shared out. A long one keeps the clip filled (`start` is negative), so what moves is the
    part that is cut out. One of exactly the clip's length cannot move.

    Source: 100 ms in 1 s, as TensorFlow's example of speech commands (Warden 2018, arXiv:1804.03209).
    """
    if rng.random() >= chance:
        return start
    slack, reach = samples - recorded, math.floor(most * samples)
    lowest, highest = max(min(0, slack), start - reach), min(max(0, slack), start + reach)
    return int(rng.integers(lowest, highest, endpoint=True))


def crop(start, rng, *, recorded, samples, chance=1.0, most=1.0):
    """Where a clip of `samples` samples is cut from a longer recording of `recorded`, in samples: anywhere.

    `start`, where the recording would begin in the clip, moves by up to `most` clip lengths to either side,
    so that recordings of up to 1 + 2 × `most` clip lengths are drawn from as a whole. A recording that fits
    into the clip stays where it is.

    Source: random crops as of images, Krizhevsky et al. 2012; of spectrograms, Salamon and Bello 2017.
    """
    if rng.random() >= chance or recorded <= samples:
        return start
    reach = math.floor(most * samples)
    lowest, highest = max(samples - recorded, start - reach), min(0, start + reach)
    return int(rng.integers(lowest, highest, endpoint=True))
