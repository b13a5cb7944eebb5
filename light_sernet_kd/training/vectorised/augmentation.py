"""Augmentation of networks that are trained together.

A device cannot change waveforms and compute their features in each of its short steps. So what changes a
waveform is drawn before: `views` makes a few views of every clip, of which an epoch draws one each. Masks
and mixtures are drawn on the device anew in every epoch. What is drawn for an utterance depends on the
network's seed, the epoch and the utterance alone.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from light_sernet_kd import plugins
from light_sernet_kd.audio.augment import Augmentation
from light_sernet_kd.audio.augment.batch import LEAST_VARIANCE
from light_sernet_kd.config.cores import core_count
from light_sernet_kd.data import array_cache
from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.feature_cache import BATCH
from light_sernet_kd.training.job import TrainingJob

# Views of every clip.
VIEWS = 16
# Streams of draws, as `audio.augment` has one for each augmentation.
_MATES, _VIEW, _STYLE_MATES = 7, 8, 20


def masked(key: Any, features: Any, settings: Mapping[str, float]) -> Any:
    """As `audio.augment.specaugment`, drawn by JAX's `key`: features `(frames, features, 1)` alike.

    >>> settings = dict(chance=1.0, time_masks=1, time_most=0.5, frequency_masks=0, frequency_most=0.0)
    >>> clip = jnp.arange(8.0).reshape(4, 2, 1)
    >>> masked(jax.random.key(0), clip, settings).shape
    (4, 2, 1)
    """
    happens, *keys = jax.random.split(key, 3)
    kept = jnp.ones(features.shape[:2], bool)
    for axis, (name, key) in enumerate(zip(("time", "frequency"), keys, strict=True)):
        size, masks = features.shape[axis], int(settings[f"{name}_masks"])
        most = math.floor(settings[f"{name}_most"] * size)
        if not masks:
            continue
        widths, places = jax.random.split(key)
        width = jax.random.randint(widths, (masks, 1), 0, most + 1)
        first = jax.random.randint(places, (masks, 1), 0, size - width + 1)
        at = jnp.arange(size)
        outside = ~jnp.any((at >= first) & (at < first + width), axis=0)
        kept &= jnp.expand_dims(outside, 1 - axis)
    kept |= jax.random.uniform(happens) >= settings["chance"]
    return jnp.where(kept[..., None], features, jnp.mean(features))


def share(key: Any, settings: Mapping[str, float]) -> Any:
    """As `audio.augment.mixup`, drawn by JAX's `key`: an example's share in its mixture.

    >>> float(share(jax.random.key(0), {"chance": 0.0, "alpha": 0.2}))
    1.0
    """
    happens, key = jax.random.split(key)
    drawn = jax.random.beta(key, settings["alpha"], settings["alpha"])
    return jnp.where(jax.random.uniform(happens) < settings["chance"], drawn, 1.0)


def mates(key: Any, mask: Any) -> Any:
    """Whom each example of a batch is mixed with: a permutation of those where `mask` `(batch,)` is true.

    >>> order = mates(jax.random.key(0), jnp.array([True, True, False]))
    >>> sorted(order[:2].tolist()), int(order[2])
    ([0, 1], 2)
    """
    # Padding is last in any order, and stays where it is.
    drawn = jnp.where(mask, jax.random.uniform(key, mask.shape), 1.0 + jnp.arange(mask.shape[0]))
    return jnp.argsort(drawn)


def mix_logits(logits: Any, others: Any, share: Any) -> Any:
    """As `audio.augment.mix_logits`, on the device: `(batch, classes)`, `share` `(batch,)`."""
    share = share[:, None]
    our_sum, their_sum = (jax.nn.logsumexp(each, axis=1, keepdims=True) for each in (logits, others))
    ours, theirs = jnp.log(share) + logits - our_sum, jnp.log1p(-share) + others - their_sum
    return jnp.logaddexp(ours, theirs) + share * our_sum + (1 - share) * their_sum


def restyled(features: Any, others: Any, share: Any) -> Any:
    """As `audio.augment.restyled`, on the device: `(batch, frames, features, 1)`, `share` `(batch,)`."""
    share = jnp.reshape(share, (-1, 1, 1, 1))
    (mean, deviation), (their_mean, their_deviation) = _statistics(features), _statistics(others)
    changed = (features - mean) / deviation * mixed(deviation, their_deviation, share)
    return jnp.where(share == 1, features, changed + mixed(mean, their_mean, share))


def _statistics(features: Any) -> tuple[Any, Any]:
    count = features.shape[1] * features.shape[3]
    mean = jnp.mean(features, axis=(1, 3), keepdims=True)
    variance = jnp.sum(jnp.square(features - mean), axis=(1, 3), keepdims=True) / max(1, count - 1)
    return mean, jnp.sqrt(variance + LEAST_VARIANCE)


# By the augmentations' names; all others are in the views.
_ON_FEATURES: Mapping[str, Callable[..., Any]] = {"specaugment": masked}


def on_device(augmenter: Augmenter | None) -> tuple[Augmentation, ...]:
    """What is drawn on the device, in the order in which it is applied."""
    if augmenter is None:
        return ()
    return tuple(
        each
        for each in augmenter.augmentations
        if each.name in _ON_FEATURES or each.kind.on in ("statistics", "batch")
    )


def views(augmenter: Augmenter | None, rows: Any) -> np.ndarray | None:
    """Every clip's views, float16 `(VIEWS × utterances, frames, features, 1)`, a view of all after another.

    They are made once for a corpus and a setting, on all cores, and kept in a file that is mapped into
    memory, as features are. None where all is drawn on the device.

    Args:
        augmenter: bound to a training set where its augmentations are made of one; the views are then that
            training set's.
    """
    before = _before(augmenter)
    if augmenter is None or not before:
        return None
    shape = (VIEWS * len(rows), *rows.shape[1:])
    known: list[Any] = [VIEWS, augmenter.key, [[a.name, dict(a.settings)] for a in before]]
    known += filter(None, (plugins.sha256_of("augmentation", each.name) for each in before))
    if augmenter.training is not None:
        known += [augmenter.training.rows.tolist(), augmenter.training.labels.tolist()]
    blocks = functools.partial(_view_blocks, augmenter.with_only(before), rows)
    path = augmenter.cache_folder / f"views-{array_cache.key_of(*known)}.npy"
    return array_cache.cached_rows(blocks, shape, np.dtype(np.float16), path, 0)


def views_of(jobs: Sequence[TrainingJob]) -> tuple[np.ndarray | None, np.ndarray]:
    """The views of all jobs, and how many sets of `VIEWS` lie before a job's own, `(jobs,)`.

    All share one set, unless an augmentation is made of the training set: then jobs of one training set do.
    """
    augmenter, examples = jobs[0].augmenter, jobs[0].examples
    if augmenter is None or not any(each.kind.needs for each in _before(augmenter)):
        return views(augmenter, examples.rows), np.zeros(len(jobs), np.int32)
    keys = [np.unique(np.asarray(job.train)).tobytes() for job in jobs]
    first = {key: number for number, key in reversed(list(enumerate(keys)))}
    distinct = list(dict.fromkeys(keys))
    bound = [augmenter.bound(jobs[first[key]].train, examples.labels) for key in distinct]
    made = np.concatenate([np.asarray(views(each, examples.rows)) for each in bound])
    return made, np.array([distinct.index(key) for key in keys], np.int32)


def _before(augmenter: Augmenter | None) -> tuple[Augmentation, ...]:
    """What is drawn before the training, in the order in which it is applied."""
    if augmenter is None:
        return ()
    drawn = on_device(augmenter)
    return tuple(each for each in augmenter.augmentations if each not in drawn)


def _view_blocks(augmenter: Augmenter, rows: Any) -> Iterator[np.ndarray]:
    batches = [
        (view, np.arange(first, min(first + BATCH, len(rows))))
        for view in range(VIEWS)
        for first in range(0, len(rows), BATCH)
    ]
    cores = core_count()
    with ThreadPoolExecutor(cores) as pool:
        # No more are made than are soon written.
        for first in range(0, len(batches), cores):
            some = batches[first : first + cores]
            made = pool.map(lambda each: augmenter.features(rows, each[1], seed=0, epoch=each[0]), some)
            yield from (block.astype(np.float16) for block in made)


def chosen_views(count: int, *, seeds: Sequence[int], epochs: Sequence[int]) -> np.ndarray:
    """Which view each of `count` utterances has in the epoch of each network, int32 `(M, utterances)`."""
    return np.stack(
        [
            np.random.default_rng([seed, epoch, _VIEW]).integers(VIEWS, size=count, dtype=np.int32)
            for seed, epoch in zip(seeds, epochs, strict=True)
        ]
    )


def changed_features(augmentations: Sequence[Augmentation], key: Any, utterances: Any, features: Any) -> Any:
    """Features `(batch, frames, features, 1)` of a network's batch as its epoch, that of `key`, has them."""
    for each in augmentations:
        if each.name in _ON_FEATURES:
            apply = functools.partial(_ON_FEATURES[each.name], settings=each.settings)
            features = jax.vmap(apply)(_keys(key, each, utterances), features)
    return features


def styled(augmentations: Sequence[Augmentation], key: Any, utterances: Any, mask: Any, features: Any) -> Any:
    """The same features with the statistics that `freqmixstyle` gives them in the epoch of `key`."""
    for each in augmentations:
        if each.kind.on == "statistics":
            shares = jax.vmap(functools.partial(share, settings=each.settings))(_keys(key, each, utterances))
            of_batch = jax.random.fold_in(jax.random.fold_in(key, _STYLE_MATES), utterances[0])
            features = restyled(features, features[mates(of_batch, mask)], shares)
    return features


def mixture(augmentations: Sequence[Augmentation], key: Any, utterances: Any, mask: Any) -> Any:
    """Share and mate of each example of a network's batch, `(batch,)` each; None where nothing is mixed."""
    for each in augmentations:
        if each.kind.on == "batch":
            shares = jax.vmap(functools.partial(share, settings=each.settings))
            # An utterance is in one batch of an epoch, so that the first one tells the batch.
            of_batch = jax.random.fold_in(jax.random.fold_in(key, _MATES), utterances[0])
            return shares(_keys(key, each, utterances)), mates(of_batch, mask)
    return None


def mixed(values: Any, others: Any, share: Any) -> Any:
    """As `audio.augment.mix`."""
    share = jnp.reshape(share, (-1, *[1] * (values.ndim - 1)))
    return share * values + (1 - share) * others


def _keys(key: Any, augmentation: Augmentation, utterances: Any) -> Any:
    stream = jax.random.fold_in(key, augmentation.kind.stream)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(stream, utterances)
