"""A second head for a speaker of whom some recordings without labels are known.

An embedding tells who speaks as well as how. Taken about the speaker's own mean it tells the emotion better.
The head is fitted on embeddings of training speakers, each about the mean of a few other recordings of that
speaker; the network stays as it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# How many recordings of a speaker are known, in training and in tests.
CLIPS = (0, 1, 3, 5, 10, 20)


@dataclass(frozen=True)
class EnrolledHead:
    """Logits of an embedding and of what is known of its speaker.

    Attributes:
        mean: `(E,)`, of the training recordings; what is assumed of a speaker who is not known.
        prior_clips: how many recordings of the speaker weigh as much as `mean`; above 0.
        weights, bias: `(E, classes)` and `(classes,)`.

    >>> head = EnrolledHead(np.zeros(2), 2.0, np.eye(2), np.zeros(2))
    >>> head.logits([[1.0, 0.0]], [[1.0, 1.0]], [2]).tolist()
    [[0.5, -0.5]]
    """

    mean: NDArray[np.float32]
    prior_clips: float
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, embeddings: ArrayLike, speakers: ArrayLike, clips: ArrayLike) -> NDArray[np.float32]:
        """`(N, classes)`.

        Args:
            embeddings: `(N, E)`.
            speakers: `(N, E)`, the mean embedding of the speaker's known recordings; anything where `clips`
                is 0.
            clips: `(N,)`, how many these are.
        """
        about = np.asarray(embeddings, np.float32) - self.centre(speakers, clips)
        return (about @ self.weights + self.bias).astype(np.float32)

    def centre(self, speakers: ArrayLike, clips: ArrayLike) -> NDArray[np.float32]:
        """What embeddings are taken about, `(N, E)`. Arguments as of `logits`."""
        known = np.asarray(clips, np.float32)
        share = (known / (known + np.float32(self.prior_clips)))[:, None]
        return self.mean + share * (np.asarray(speakers, np.float32) - self.mean)

    def cooled(self, temperature: float) -> "EnrolledHead":
        """The head whose logits are divided by `temperature`."""
        return EnrolledHead(
            self.mean,
            self.prior_clips,
            self.weights / np.float32(temperature),
            self.bias / np.float32(temperature),
        )
