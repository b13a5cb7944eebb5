"""From a recording to the clip of an epoch, and to its features: what was asked for, in its order."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from light_sernet_kd.audio import PADDINGS, fit
from light_sernet_kd.audio.augment.asking import Augmentation
from light_sernet_kd.errors import choose
from light_sernet_kd.registries.augmentations import AUGMENTATIONS


def drawn_for(name: str, *, seed: int, epoch: int, utterance: int) -> np.random.Generator:
    """The random numbers of one augmentation of one utterance in one epoch."""
    return np.random.default_rng([seed, epoch, utterance, AUGMENTATIONS[name].stream])


def changes_waveforms(augmentations: Sequence[Augmentation]) -> bool:
    """Whether features must be computed anew from waveforms."""
    return any(each.kind.on in ("waveform", "place") for each in augmentations)


def samples_needed(augmentations: Sequence[Augmentation], samples: int) -> int:
    """How many samples of a recording a clip may need, at the highest speed and the farthest shift.

    From a recording cut to this length, to its middle, `audio.fit` cuts the same clip as from all of it.
    """
    reach, factor = 0, 1.0
    for each in augmentations:
        if each.kind.reach:
            reach += math.floor(each.settings[each.kind.reach] * samples)
        if each.kind.speed_up:
            factor *= max(1.0, each.settings[each.kind.speed_up])
    needed = math.ceil((samples + 2 * reach) * factor) + (2 if factor > 1 else 0)
    # Else the two cuts would round their middle differently.
    return needed + (needed - samples) % 2


def augmented_clip(
    waveform: np.ndarray,
    augmentations: Sequence[Augmentation],
    *,
    samples: int,
    pad: str,
    seed: int,
    epoch: int,
    utterance: int,
    material: Mapping[str, Any] = MappingProxyType({}),
) -> np.ndarray:
    """The recording `(n,)` of `utterance` as a clip `(samples,)` of this epoch.

    Without an augmentation that changes waveforms it is what `audio.fit` makes of it.

    Args:
        material: what `needs` of the augmentations names, such as recordings of others.
    """
    start, heard = augmented_part(
        waveform, augmentations, samples=samples, pad=pad, seed=seed, epoch=epoch, utterance=utterance,
        material=material,
    )  # fmt: skip
    clip = np.zeros(samples, np.float32)
    clip[start : start + len(heard)] = heard
    return clip


def augmented_part(
    waveform: np.ndarray,
    augmentations: Sequence[Augmentation],
    *,
    samples: int,
    pad: str,
    seed: int,
    epoch: int,
    utterance: int,
    material: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[int, np.ndarray]:
    """What of the changed recording is in `augmented_clip`, and where it begins there: all else is zeros.

    Arguments are those of `augmented_clip`.

    Raises:
        UserError: unknown padding.
    """
    choose("padding", pad, PADDINGS)

    def rng(name: str) -> np.random.Generator:
        return drawn_for(name, seed=seed, epoch=epoch, utterance=utterance)

    longest = samples_needed(augmentations, samples)
    for each in augmentations:
        if each.kind.on == "waveform":
            needed = () if each.kind.needs is None else (material[each.kind.needs],)
            waveform = each.kind.function(waveform, rng(each.name), *needed, **each.settings)
            if each.kind.needs == "twins" and len(waveform) > longest:
                # What no clip can need would go through all that follows.
                waveform = fit(waveform, longest)
    recorded = len(waveform)
    slack = samples - recorded
    start = -(-slack // 2) if slack < 0 else slack // 2 if pad == "both" else 0
    for each in augmentations:
        if each.kind.on == "place":
            lengths = {"recorded": recorded, "samples": samples}
            start = each.kind.function(start, rng(each.name), **lengths, **each.settings)
    return max(0, start), waveform[max(0, -start) : samples - start]


def augmented_features(
    features: np.ndarray,
    augmentations: Sequence[Augmentation],
    *,
    seed: int,
    epoch: int,
    utterance: int,
) -> np.ndarray:
    """The features `(frames, features, 1)` of an utterance in this epoch; those given are not written to."""
    for each in augmentations:
        if each.kind.on == "features":
            rng = drawn_for(each.name, seed=seed, epoch=epoch, utterance=utterance)
            features = each.kind.function(features, rng, **each.settings)
    return features
