"""A front end as an encoder: features of clips in the cache of embeddings, where they are kept in parts."""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from light_sernet_kd import audio, plugins
from light_sernet_kd.audio import augment
from light_sernet_kd.data.feature_cache import BATCH, FEATURE_VERSION, front_end_of, full_precision
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.features import feature_shape, settings_of
from light_sernet_kd.registries.front_ends import FRONT_ENDS


@dataclass(frozen=True)
class View:
    """How a clip is changed before its features are taken.

    What is drawn for it depends on its content and on the number alone.
    """

    augmentations: tuple[augment.Augmentation, ...]
    number: int
    seed: int

    def clip(self, waveform: np.ndarray, *, samples: int, pad: str) -> np.ndarray:
        content = hashlib.blake2b(np.ascontiguousarray(waveform, np.float32).tobytes(), digest_size=4)
        return augment.augmented_clip(
            waveform,
            self.augmentations,
            samples=samples,
            pad=pad,
            seed=self.seed,
            epoch=self.number,
            utterance=int.from_bytes(content.digest(), "little"),
        )

    def as_dict(self) -> dict[str, object]:
        text = augment.text_of(self.augmentations)
        by_plugins = plugins_of(self.augmentations)
        return {
            "augmentations": text,
            "number": self.number,
            "seed": self.seed,
            **({"plugins": by_plugins} if by_plugins else {}),
        }


def plugins_of(augmentations: Sequence[augment.Augmentation]) -> list[str]:
    """SHA-256 of the plug-ins that some of them are of, in their order."""
    return list(filter(None, (plugins.sha256_of("augmentation", each.name) for each in augmentations)))


def encoder(front_end: str, input_type: str, samples: int, view: View | None = None) -> Encoder:
    """One row `(frames, features, 1)` for each clip, as `feature_cache.features` makes them.

    Args:
        samples: that a clip is cut or padded to.
        view: how it is changed; by default not at all.
    """
    compute = full_precision(front_end_of(front_end, input_type, samples).predict_on_batch)
    padding = FRONT_ENDS[front_end].padding
    fitted: Any = audio.fit if view is None else view.clip

    def encode(waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for start in range(0, len(waveforms), BATCH):
            chosen = waveforms[start : start + BATCH]
            clips = np.stack([fitted(each, samples=samples, pad=padding) for each in chosen])
            yield from np.asarray(compute(clips))[:, None]

    identity = {
        "version": FEATURE_VERSION,
        "front_end": asdict(settings_of(front_end, input_type)),
        "input_type": input_type,
        "samples": samples,
        "padding": padding,
        "backend": keras.backend.backend(),
        **({"plugin": plugin} if (plugin := plugins.sha256_of("front end", front_end)) else {}),
        **({"view": view.as_dict()} if view else {}),
    }
    name = f"{front_end}-{input_type}" + ("" if view is None else f"-view{view.number}")
    again = functools.partial(encoder, front_end, input_type, samples, view)
    shape = feature_shape(front_end, input_type, samples)
    return Encoder(name, identity, shape, encode, recreate=again)
