"""Training features of an epoch: recordings and clips, changed as `--augment` names."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.audio import augment
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.array_cache import MEMORY_LIMIT
from light_sernet_kd.data.feature_cache import feature_key, front_end_of, full_precision, recordings
from light_sernet_kd.data.kept_views import Bank, BankedViews, KeptViews
from light_sernet_kd.data.training_clips import OF_FOLD, TrainingClips
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.front_ends import FRONT_ENDS


@dataclass(frozen=True)
class Augmenter:
    """What a training set needs to be augmented.

    Attributes:
        recordings: what `recordings` gives, where the augmentations change waveforms, else None.
        compute: clips `(batch, samples)` to features.
        key: of the recordings and their features, for what is cached in `cache_folder`.
        speakers: who speaks in each recording, `(utterances,)` numbers.
        training: what the fold's training set has for augmentations that are made of other recordings; see
            `bound`.
        every: epochs for which the features of a changed waveform are kept.
        memory_limit: in bytes; more of them than that are kept in a file.
    """

    augmentations: tuple[augment.Augmentation, ...]
    recordings: np.ndarray | None
    compute: Callable[[np.ndarray], np.ndarray]
    samples: int
    pad: str
    key: str = ""
    cache_folder: Path = Path()
    speakers: np.ndarray | None = None
    training: TrainingClips | None = None
    every: int = 1
    memory_limit: float = MEMORY_LIMIT

    def bound(self, training: Sequence[int] | np.ndarray, labels: np.ndarray) -> "Augmenter":
        """The same for a fold: what is made of other recordings is made of its training set's.

        Raises:
            UserError: one speaker alone is trained on, and an augmentation needs others.
        """
        needs_recordings = any(each.kind.needs for each in self.augmentations)
        if not needs_recordings or self.recordings is None or self.speakers is None:
            return self
        clips = TrainingClips(self.recordings, self.speakers, np.asarray(labels), training)
        of_others = [each.name for each in self.augmentations if each.kind.needs == "others"]
        if of_others and clips.single_speaker():
            raise UserError(
                f"{of_others[0]} is made of other speakers, and one alone is trained on: "
                f"leave {of_others[0]} out of --augment."
            )
        return dataclasses.replace(self, training=clips)

    def _material(self, utterance: int) -> dict[str, Any]:
        needed = {each.kind.needs: each.name for each in self.augmentations if each.kind.needs is not None}
        if not needed:
            return {}
        if self.training is None:
            raise RuntimeError(f"{', '.join(needed.values())}: made of a training set: call bound")
        return {name: OF_FOLD[name](self.training, utterance) for name in needed}

    def with_only(self, augmentations: Sequence[augment.Augmentation]) -> "Augmenter":
        """The same with these of its augmentations alone."""
        return dataclasses.replace(self, augmentations=tuple(augmentations))

    @property
    def mixup(self) -> augment.Augmentation | None:
        return next((each for each in self.augmentations if each.kind.on == "batch"), None)

    def kept(self, shape: tuple[int, ...], bank: Bank | None = None) -> KeptViews | None:
        """Where features of this shape are kept for some epochs; None where all are made anew.

        Args:
            bank: of the views that a teacher was asked on, which the epochs then draw from.
        """
        if self.recordings is None or (self.every == 1 and bank is None):
            return None
        place: dict[str, Any] = {"memory_limit": self.memory_limit, "folder": self.cache_folder}
        if bank is not None:
            return BankedViews(self.changed_features, bank, shape, **place)
        return KeptViews(self.changed_features, self.every, shape, **place)

    def changed_features(self, batch: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Features of the recordings as they are changed in this epoch, before masks and mixtures."""
        return self.compute(np.stack(list(self._drawn(augment.augmented_clip, batch, seed, epoch))))

    def parts(self, batch: np.ndarray, seed: int, epoch: int) -> Iterator[tuple[int, np.ndarray]]:
        """The part of each changed recording without the zeros around it, and where it begins in the clip.

        Both are made by the same draws, so that a teacher that reads it gets what the student does.
        """
        return self._drawn(augment.augmented_part, batch, seed, epoch)

    def _drawn(self, change: Callable[..., Any], batch: np.ndarray, seed: int, epoch: int) -> Iterator[Any]:
        recordings: Any = self.recordings
        for utterance in batch:
            recording = recordings[[utterance]][0]  # a copy: nothing writes into what is kept
            yield change(
                recording["samples"][: recording["length"]],
                self.augmentations,
                samples=self.samples,
                pad=self.pad,
                seed=seed,
                epoch=epoch,
                utterance=int(utterance),
                material=self._material(int(utterance)),
            )

    def features(
        self, rows: Any, batch: np.ndarray, *, seed: int, epoch: int, kept: KeptViews | None = None
    ) -> np.ndarray:
        """Features `(batch, frames, features, 1)` of the utterances in `batch`, as they are in this epoch."""
        if self.recordings is None:
            clean = np.asarray(rows[batch])
        elif kept is not None:
            clean = kept.features(batch, seed, epoch)
        else:
            clean = self.changed_features(batch, seed, epoch)
        changed = [
            augment.augmented_features(
                row, self.augmentations, seed=seed, epoch=epoch, utterance=int(utterance)
            )
            for utterance, row in zip(batch, clean, strict=True)
        ]
        return self._restyled(np.stack(changed), batch, seed=seed, epoch=epoch)

    def _restyled(self, features: np.ndarray, batch: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
        for each in self.augmentations:
            if each.kind.on == "statistics":
                share = augment.shares(each, seed=seed, epoch=epoch, utterances=batch)
                other = augment.style_mates(batch, seed=seed, epoch=epoch)
                features = augment.restyled(features, features[other], share)
        return features


def augmenter(
    augmentations: Sequence[augment.Augmentation],
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    *,
    front_end: str,
    input_type: str,
    samples: int,
    cache_folder: Path,
    memory_limit: float = MEMORY_LIMIT,
) -> Augmenter | None:
    """What changes the batches of `batches`; None where nothing is asked for.

    Args:
        augmentations: of `augment.parse`.
        memory_limit: in bytes; more of the recordings than that are kept in a file and not in memory.
    """
    if not augmentations:
        return None
    kept = None
    if augment.changes_waveforms(augmentations):
        kept = recordings(
            utterances,
            fingerprints,
            samples=augment.samples_needed(augmentations, samples),
            cache_folder=cache_folder,
            memory_limit=memory_limit,
        )
    model = front_end_of(front_end, input_type, samples)
    padding = FRONT_ENDS[front_end].padding
    known = [fingerprints[utterance.id] for utterance in utterances]
    key = feature_key(front_end, input_type, samples, known)
    return Augmenter(
        tuple(augmentations),
        kept,
        full_precision(model.predict_on_batch),
        samples,
        padding,
        key,
        cache_folder,
        speakers=np.unique([utterance.speaker for utterance in utterances], return_inverse=True)[1],
        memory_limit=memory_limit,
    )
