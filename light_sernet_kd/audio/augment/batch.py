"""Augmentation of a batch: its examples are mixed with one another."""

from collections.abc import Sequence

import numpy as np

from light_sernet_kd.audio.augment.asking import Augmentation
from light_sernet_kd.audio.augment.clips import drawn_for

# Streams, as the kinds have one.
_MATES, _STYLE_MATES = 7, 20
LEAST_VARIANCE = 1e-6


def mixup(share, rng, *, chance=1.0, alpha=0.2):
    """An example's share in its mixture, drawn from Beta(`alpha`, `alpha`), or else `share` as it is.

    Source: Zhang et al. 2018, arXiv:1710.09412, section 2; 0.2 is its choice for ImageNet (section 3.1).
    """
    return float(rng.beta(alpha, alpha)) if rng.random() < chance else share


def freqmixstyle(share, rng, *, chance=0.4, alpha=0.3):
    """An example's share in its statistics, drawn from Beta(`alpha`, `alpha`), or else `share` as it is.

    `restyled` gives its features the statistics that `share` of its own and the rest of a mate's make. Labels
    and teacher outputs stay: what is mixed is how a recording sounds, as microphones and rooms change it.

    Source: Schmid et al. 2022, "Knowledge distillation from transformers for low-complexity acoustic scene
    classification", DCASE: chance 0.4, alpha 0.3; Kim et al. 2022, "Domain generalization with relaxed
    instance frequency-wise normalization", Interspeech; Zhou et al. 2021, MixStyle, arXiv:2104.02008.
    """
    return float(rng.beta(alpha, alpha)) if rng.random() < chance else share


def restyled(features: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Features `(batch, frames, features, 1)` with each feature's mean and deviation over time mixed.

    Args:
        others: those of each example's mate.
        share: `(batch,)`, of an example's own statistics; where it is 1, the features stay as they are.
    """
    share = share.reshape(-1, 1, 1, 1)
    (mean, deviation), (their_mean, their_deviation) = _statistics(features), _statistics(others)
    mixed_mean = share * mean + (1 - share) * their_mean
    mixed = share * deviation + (1 - share) * their_deviation
    return np.where(share == 1, features, (features - mean) / deviation * mixed + mixed_mean).astype(
        np.float32
    )


def _statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = np.mean(features, axis=(1, 3), keepdims=True)
    count = features.shape[1] * features.shape[3]
    variance = np.sum(np.square(features - mean), axis=(1, 3), keepdims=True) / max(1, count - 1)
    return mean, np.sqrt(variance + LEAST_VARIANCE)


def style_mates(utterances: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Whose statistics each of a batch's utterances is given: a permutation, other than that of mixup."""
    # An utterance is in one batch of an epoch, so that the first one tells the batch.
    return np.random.default_rng([seed, epoch, int(utterances[0]), _STYLE_MATES]).permutation(len(utterances))


# Mixup's mates are those of the batch, in an order drawn for it, as in the paper's section 2: drawing them
# from the whole training set would read, augment and transform every clip twice, which the paper found
# no better.


def mates(count: int, *, seed: int, epoch: int, batch: int) -> np.ndarray:
    """Whom each of the `count` examples of an epoch's batch number `batch` is mixed with: a permutation."""
    return np.random.default_rng([seed, epoch, batch, _MATES]).permutation(count)


def shares(
    augmentation: Augmentation, *, seed: int, epoch: int, utterances: Sequence[int] | np.ndarray
) -> np.ndarray:
    """The share that each utterance has in its mixture, float32 `(utterances,)`; 1 is unmixed."""
    drawn = [
        augmentation.kind.function(
            1.0,
            drawn_for(augmentation.name, seed=seed, epoch=epoch, utterance=int(utterance)),
            **augmentation.settings,
        )
        for utterance in utterances
    ]
    return np.array(drawn, np.float32)


def mix(values: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`share` of `values` `(batch, …)` and the rest of `others`, for features and for embeddings.

    Args:
        share: `(batch,)`.
    """
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return (share * values + (1 - share) * others).astype(np.float32)


def mix_logits(logits: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Logits `(batch, classes)` float32 whose softmax is the mixture of the two softmaxes.

    Probabilities are mixed, as the labels are: a teacher that is as sure as a label then says what the mixed
    label says. Mixed logits would not: 0.8 × (10, 0) + 0.2 × (0, 10) is 99.8 % for the first, not 80 %. At
    another temperature than 1 the softened mixture is taken, not the mixture of the softened. The constant
    that a softmax does not see is mixed linearly, so that a share of 1 gives back the very logits, which
    losses that compare logits and not probabilities need.
    """
    share = share.astype(np.float64)[:, None]
    ours, theirs = logits.astype(np.float64), others.astype(np.float64)
    our_sum, their_sum = (np.logaddexp.reduce(each, axis=1, keepdims=True) for each in (ours, theirs))
    with np.errstate(divide="ignore"):  # a share of 0 has the logarithm it should have
        parts = np.log(share) + ours - our_sum, np.log1p(-share) + theirs - their_sum
    return (np.logaddexp(*parts) + share * our_sum + (1 - share) * their_sum).astype(np.float32)
