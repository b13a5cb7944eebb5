"""A second head for a speaker of whom some recordings without labels are known; see `training.enrolled`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray


def pooled_stages(stages: Sequence[Any]) -> Any:
    """What is kept of a network's stages, `(batch, E)`.

    Args:
        stages: tensors `(batch, frames, features, channels)`, of which each channel's mean is kept and,
            over the frames, the standard deviation of its mean over the features. One of `(batch, E)` is kept
            as it is.

    >>> pooled_stages([np.array([[[[1.0], [3.0]], [[5.0], [7.0]]]])]).numpy().tolist()
    [[4.0, 2.0]]
    """
    kept = []
    for stage in stages:
        if len(stage.shape) == 2:
            kept.append(stage)
            continue
        over_time = keras.ops.mean(stage, axis=2)
        kept += [keras.ops.mean(over_time, axis=1), keras.ops.std(over_time, axis=1)]
    return keras.ops.concatenate(kept, axis=-1) if len(kept) > 1 else kept[0]


@dataclass(frozen=True)
class EnrolledHead:
    """Logits of an embedding and of what is known of its speaker.

    Attributes:
        mean: `(E,)`, of the training recordings; what is assumed of a speaker who is not known.
        prior_clips: how many recordings of the speaker weigh as much as `mean`; above 0.
        weights, bias: `(E, classes)` and `(classes,)`.
        stages: shapes of what `pooled_stages` takes, without the batch axis.

    >>> head = EnrolledHead(np.zeros(2), 2.0, np.eye(2), np.zeros(2), ((2,),))
    >>> head.logits([[1.0, 0.0]], [[1.0, 1.0]], [2]).tolist()
    [[0.5, -0.5]]
    """

    mean: NDArray[np.float32]
    prior_clips: float
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    stages: tuple[tuple[int, ...], ...]

    def logits(self, embeddings: ArrayLike, speakers: ArrayLike, clips: ArrayLike) -> NDArray[np.float32]:
        """`(N, classes)`.

        Args:
            embeddings: `(N, E)`.
            speakers: `(N, E)`, the mean embedding of the speaker's known recordings; anything where `clips`
                is 0.
            clips: `(N,)`, how many these are.
        """
        about = np.asarray(embeddings, np.float32) - self.centre(speakers, clips)
        return np.asarray(about @ self.weights + self.bias, np.float32)

    def centre(self, speakers: ArrayLike, clips: ArrayLike) -> NDArray[np.float32]:
        """What embeddings are taken about, `(N, E)`. Arguments as of `logits`."""
        known = np.asarray(clips, np.float32)
        share = (known / (known + np.float32(self.prior_clips)))[:, None]
        centre = self.mean + share * (np.asarray(speakers, np.float32) - self.mean)
        return centre.astype(np.float32)

    def with_temperature(self, temperature: float) -> "EnrolledHead":
        """The head whose logits are divided by `temperature`."""
        by = np.float32(temperature)
        return replace(self, weights=self.weights / by, bias=self.bias / by)
