"""What an encoder says of a bank of augmented views: a row for each clip that a student trains on.

The rows lie in the cache of embeddings, each under the hash of the clip's own samples. So a row of another
augmentation, seed, view or recording is never taken for this one, what folds have in common is encoded once,
and a run that was killed goes on behind its last block.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.kept_views import Bank
from light_sernet_kd.encoders.embedding_cache import (
    BLOCK,
    Block,
    Embeddings,
    Encoder,
    NotFiniteError,
    embed_by_key,
)
from light_sernet_kd.errors import UserError


@dataclass(frozen=True)
class FoldViews:
    """The views of a fold's training utterances, as its student gets them.

    Attributes:
        augmenter: bound to the fold's training set.
        utterances: the training utterances, ascending numbers.
        names: their ids, for messages.
    """

    augmenter: Augmenter
    bank: Bank
    utterances: np.ndarray
    names: Sequence[str]

    def clips(self, view: int, places: Sequence[int] | np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The clips of a view without the zeros around them, of all utterances or those at `places`.

        The zeros would be heard as silence, of which the recordings that a probe was fitted on have none.
        """
        chosen = self.utterances if places is None else self.utterances[np.asarray(places, np.int64)]
        for _, clip in self.augmenter.parts(chosen, self.bank.seed, view):
            yield np.ascontiguousarray(clip, np.float32)


class BankRows:
    """The rows of an encoder for each view of a fold's training utterances; all are made at once.

    Args:
        encoder: gives one row for each clip.
        progress: called with (done, all) of the fold's clips after each block.

    Raises:
        UserError: a row is not finite; names the recording and the view.
    """

    def __init__(
        self, encoder: Encoder, views: FoldViews, *, cache: Path, progress: audio.Progress | None = None
    ):
        self.encoder = dataclasses.replace(encoder, name=f"{encoder.name}-views")
        self.views, self.cache = views, cache
        self.keys = [[_key(clip) for clip in views.clips(view)] for view in range(views.bank.views)]
        count = len(views.utterances)
        for view in range(views.bank.views):

            def report(done: int, total: int, before: int = view * count) -> None:
                if progress:
                    progress(before + done, views.bank.views * total)

            self._embedded(view, report)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Views, training utterances and the width of a row."""
        return (len(self.keys), len(self.views.utterances), self.encoder.shape[0])

    def rows(self, view: int) -> np.ndarray:
        """Float32 `(training utterances, width)`."""
        return self._embedded(view).stacked()

    def _embedded(self, view: int, progress: audio.Progress | None = None) -> Embeddings:
        keys = self.keys[view]
        place = {key: number for number, key in reversed(list(enumerate(keys)))}

        def read(missing: Sequence[str]) -> Iterator[Block]:
            for start in range(0, len(missing), BLOCK):
                block = missing[start : start + BLOCK]
                yield block, list(self.views.clips(view, [place[key] for key in block])), len(block)

        try:
            return embed_by_key(keys, read, self.encoder, cache=self.cache, progress=progress)
        except NotFiniteError as error:
            raise UserError(
                f"{error.text} view {view} of {self.views.names[place[error.key]]}: leave the recording out "
                f"of the corpus, or ask for less (--augment).{error.remedy}"
            ) from None


def _key(clip: np.ndarray) -> str:
    # The length decides too: it is in the bytes.
    return hashlib.sha256(clip.tobytes()).hexdigest()
