"""A front end as an encoder: features of clips in the cache of embeddings, where they are kept in parts."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import keras
import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.data.feature_cache import BATCH, FEATURE_VERSION, exact, front_end_of
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.features import feature_shape, settings_of
from light_sernet_kd.registries.front_ends import FRONT_ENDS


def encoder(front_end: str, input_type: str, samples: int) -> Encoder:
    """One row `(frames, features, 1)` for each clip, as `feature_cache.features` makes them.

    Args:
        samples: that a clip is cut or padded to.
    """
    compute = exact(front_end_of(front_end, input_type, samples).predict_on_batch)
    padding = FRONT_ENDS[front_end].padding

    def encode(waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for start in range(0, len(waveforms), BATCH):
            chosen = waveforms[start : start + BATCH]
            clips = np.stack([audio.fit(each, samples, pad=padding) for each in chosen])
            yield from np.asarray(compute(clips))[:, None]

    identity = {
        "version": FEATURE_VERSION,
        "front_end": asdict(settings_of(front_end, input_type)),
        "input_type": input_type,
        "samples": samples,
        "padding": padding,
        "backend": keras.backend.backend(),
    }
    return Encoder(
        f"{front_end}-{input_type}", identity, feature_shape(front_end, input_type, samples), encode
    )
