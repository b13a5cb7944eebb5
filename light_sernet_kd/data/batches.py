"""From a corpus to batches: waveforms, features computed once, and tf.data with the teacher's logits."""

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd import arrays, audio
from light_sernet_kd.audio import augment
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.distillation.batch_keys import (
    FEATURES,
    MIXUP_WEIGHT,
    OTHER_LABELS,
    SOFT_LABELS,
    TEACHER,
    TEACHER_EMBEDDING,
    TEACHER_STATES,
)
from light_sernet_kd.errors import UserError
from light_sernet_kd.features import feature_shape, front_end_model, settings_of
from light_sernet_kd.files import atomic, sweep
from light_sernet_kd.registries.front_ends import FRONT_ENDS

# Raised when the numbers that a front end gives for the same settings change: old caches are then not used.
FEATURE_VERSION = 1
BATCH = 64
MEMORY_LIMIT = 2**30
# Half-written files this young are left alone: another process may be about to lock them.
YOUNG_SECONDS = 60


def waveforms(utterances: Sequence[Utterance], *, samples: int, front_end: str) -> np.ndarray:
    """The recordings, cut or padded: float32 `(utterances, samples)`, as `front_end` pads.

    Raises:
        UserError: lists every recording that cannot be used.
    """
    blocks = waveform_blocks(utterances, samples=samples, front_end=front_end)
    return _in_memory(blocks, (len(utterances), samples), np.dtype(np.float32))


def waveform_blocks(utterances: Sequence[Utterance], *, samples: int, front_end: str) -> Iterator[np.ndarray]:
    """As `waveforms`, but `BATCH` of them at a time: the memory does not grow with the corpus."""

    def put(block: np.ndarray, row: int, waveform: np.ndarray) -> None:
        block[row] = audio.fit(waveform, samples, pad=FRONT_ENDS[front_end].padding)

    return _read_blocks(utterances, np.dtype((np.float32, (samples,))), put)


def _read_blocks(
    utterances: Sequence[Utterance], dtype: np.dtype, put: Callable[[np.ndarray, int, np.ndarray], None]
) -> Iterator[np.ndarray]:
    """Blocks of up to `BATCH` rows of `dtype`; `put(block, row, waveform)` writes a recording into one."""
    bad = {}
    results = audio.read_all([utterance.path for utterance in utterances])
    for start in range(0, len(utterances), BATCH):
        chosen = utterances[start : start + BATCH]
        # Written into a block at once: a part of a long recording would hold all of it in memory.
        block = np.zeros(len(chosen), dtype)
        for row, result in enumerate(itertools.islice(results, len(chosen))):
            if isinstance(result, audio.AudioError):
                bad[chosen[row].id] = str(result)
            elif not bad:
                put(block, row, result)
        # After the first that cannot be used, only the list of all such is still wanted.
        if not bad:
            yield block
    if bad:
        raise audio.unusable(bad, len(utterances))


class ComputedRows:
    """Features that are computed whenever rows are asked for: nothing is stored but the waveforms."""

    def __init__(
        self, clips: np.ndarray, compute: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]
    ):
        self.clips, self.compute = clips, compute
        self.shape = (len(clips), *shape)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, rows) -> np.ndarray:
        return self.compute(np.asarray(self.clips[rows]))


# A model is traced when it is first called, which costs as much as some hundred clips.
_front_end = functools.lru_cache(maxsize=4)(front_end_model)


def features(
    utterances: Sequence[Utterance],
    fingerprints: dict[str, str],
    *,
    front_end: str,
    input_type: str,
    samples: int,
    cache: str,
    cache_folder: Path,
    memory_limit: float = MEMORY_LIMIT,
    read: Callable[..., Iterator[np.ndarray]] = waveform_blocks,
    reader: str = "soundfile",
) -> np.ndarray | ComputedRows:
    """Features of every utterance, `(utterances, frames, features, 1)` float32, in their order.

    Args:
        fingerprints: utterance id → content hash; with the settings they are the cache's key.
        cache: `disk` keeps them in a file that every fold and later run maps into memory; `ram` computes them
            once per run and keeps them in memory; `none` computes each batch when it is used.
        memory_limit: in bytes; larger features (with `ram`) or waveforms (with `none`) are kept in a file
            that is mapped into memory.
        read: as `waveform_blocks`; `reader` is its name, for the cache.
    """
    shape = feature_shape(front_end, input_type, samples)
    model = _front_end(front_end, input_type, samples)
    known = [reader, *(fingerprints[utterance.id] for utterance in utterances)]

    def clips() -> Iterator[np.ndarray]:
        return read(utterances, samples=samples, front_end=front_end)

    def computed() -> Iterator[np.ndarray]:
        # On a thread of its own, so that the next recordings are read meanwhile; never more than one block
        # waits, whichever of the two is slower.
        with ThreadPoolExecutor(1) as pool:
            before: Future[np.ndarray] | None = None
            for block in clips():
                now = pool.submit(model.predict_on_batch, block)
                if before is not None:
                    yield before.result()
                before = now
            if before is not None:
                yield before.result()

    if cache == "none":
        stored = _stored(
            clips,
            (len(utterances), samples),
            np.dtype(np.float32),
            cache_folder / f"clips-{_key(samples, FRONT_ENDS[front_end].padding, known)}.npy",
            memory_limit,
        )
        return ComputedRows(stored, lambda clips: np.asarray(model(clips)), shape)
    whole = (len(utterances), *shape)
    key = _key(FEATURE_VERSION, asdict(settings_of(front_end, input_type)), input_type, samples, known)
    path = cache_folder / f"{front_end}-{input_type}-{key}.npy"
    return _stored(computed, whole, np.dtype(np.float32), path, memory_limit if cache == "ram" else 0)


# Large arrays: made of blocks, in memory or in a file that is mapped into it.


def _key(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _stored(
    blocks: Callable[[], Iterable[np.ndarray]],
    shape: tuple[int, ...],
    dtype: np.dtype,
    path: Path,
    memory_limit: float,
) -> np.ndarray:
    """The rows of all blocks: in memory up to `memory_limit` bytes, else in the file `path`, read-only.

    A file that is there already is used, and the blocks are not made. One that is damaged is made anew.
    """
    if math.prod(shape) * dtype.itemsize <= memory_limit:
        return _in_memory(blocks(), shape, dtype)
    try:
        return arrays.open_mapped(path, shape=shape, dtype=dtype)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except arrays.ArrayError as error:
        arrays.say_anew(error)
    write_blocks(path, blocks(), shape, dtype)
    return arrays.open_mapped(path, shape=shape, dtype=dtype)


def _in_memory(blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    rows, start = np.empty(shape, dtype), 0
    for block in blocks:
        rows[start : start + len(block)] = block
        start += len(block)
    return rows


def write_blocks(path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> None:
    """One `.npy` file, written block after block; it has its name only once it is whole.

    `arrays.open_mapped` reads it.
    """
    sweep(path.parent, older_than=YOUNG_SECONDS)
    # Written and not mapped: a full disk is then an error, where a mapped page that finds no room kills the
    # process, and what was written need not stay in memory.
    with atomic(path) as temporary, open(temporary, "w+b") as file:
        arrays.write_blocks(file, blocks, shape, dtype)


def capped(indices: Sequence[int], labels: np.ndarray, most: int, *, seed: int) -> Sequence[int]:
    """At most `most` of the indices per class, drawn by `seed`, in their order; 0 keeps all."""
    if not most:
        return indices
    chosen = np.asarray(indices)
    rng = np.random.default_rng(seed)
    kept = [rng.permutation(chosen[labels[chosen] == name])[:most] for name in np.unique(labels[chosen])]
    return tuple(sorted(np.concatenate(kept).tolist()))


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits its examples: a permutation that (seed, epoch) alone decide.

    A run that was interrupted therefore continues as if it had not been.
    """
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclass(frozen=True)
class Augmenter:
    """What a training set needs to be augmented.

    Attributes:
        recordings: what `recordings` gives, where the augmentations change waveforms, else None.
        compute: clips `(batch, samples)` to features.
    """

    augmentations: tuple[augment.Augmentation, ...]
    recordings: np.ndarray | None
    compute: Callable[[np.ndarray], np.ndarray]
    samples: int
    pad: str

    @property
    def mixup(self) -> augment.Augmentation | None:
        return next((each for each in self.augmentations if each.name == "mixup"), None)

    def features(self, rows: Any, batch: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
        """Features `(batch, frames, features, 1)` of the utterances in `batch`, as they are in this epoch."""
        if self.recordings is None:
            clean = np.asarray(rows[batch])
        else:
            clips = [
                augment.augmented_clip(
                    recording["samples"][: recording["length"]],
                    self.augmentations,
                    samples=self.samples,
                    pad=self.pad,
                    seed=seed,
                    epoch=epoch,
                    utterance=int(utterance),
                )
                for utterance, recording in zip(batch, self.recordings[batch], strict=True)
            ]
            clean = self.compute(np.stack(clips))
        changed = [
            augment.augmented_features(
                row, self.augmentations, seed=seed, epoch=epoch, utterance=int(utterance)
            )
            for utterance, row in zip(batch, clean, strict=True)
        ]
        return np.stack(changed)


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
    """What `dataset` takes as `augmentation`; None where nothing is asked for.

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
    model = _front_end(front_end, input_type, samples)
    padding = FRONT_ENDS[front_end].padding
    return Augmenter(tuple(augmentations), kept, model.predict_on_batch, samples, padding)


def recordings(
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    *,
    samples: int,
    cache_folder: Path,
    memory_limit: float = MEMORY_LIMIT,
) -> np.ndarray:
    """The recordings without padding: `(utterances,)` of a `length` and as many of `samples` that count.

    A longer one is cut to its middle `samples`.

    Raises:
        UserError: lists every recording that cannot be used.
    """
    dtype = np.dtype([("length", np.int32), ("samples", np.float32, (samples,))])

    def put(block: np.ndarray, row: int, waveform: np.ndarray) -> None:
        block["length"][row] = min(len(waveform), samples)
        block["samples"][row] = audio.fit(waveform, samples, pad="right")

    key = _key(samples, [fingerprints[utterance.id] for utterance in utterances])
    path = cache_folder / f"recordings-{key}.npy"
    blocks = functools.partial(_read_blocks, utterances, dtype, put)
    return _stored(blocks, (len(utterances),), dtype, path, memory_limit)


def dataset(
    rows: Any,
    labels: np.ndarray,
    indices: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    teacher: np.ndarray | None = None,
    teacher_embedding: np.ndarray | None = None,
    teacher_states: Any = None,
    soft_labels: np.ndarray | None = None,
    augmentation: Augmenter | None = None,
    class_weights: np.ndarray | None = None,
):
    """Endless training batches as a `tf.data.Dataset`; an epoch is `ceil(len(indices) / batch_size)` of them.

    Args:
        rows: `(utterances, frames, features, 1)`, anything that can be indexed by an array. Of a student with
            several inputs, what gives a dictionary of arrays by their names, of any types. The second axis of
            each (tokens, patches) may differ from batch to batch, unless `rows.shapes` has the shape of one
            example under the name.
        labels: `(utterances,)` class indices.
        indices: the training utterances.
        first_epoch: where to begin, for a run that continues.
        teacher: logits `(utterances, classes)`, carried with the batch.
        teacher_embedding: `(utterances, width)`, carried likewise.
        teacher_states: what an array of utterances makes `(batch, tokens, width)`, rows of zeros being
            padding; carried likewise.
        soft_labels: `(utterances, classes)`, the share of each class in the target; carried likewise.
        augmentation: of `augmenter`; changes the batches' features. With mixup a batch's inputs also hold
            `other_labels` and `share`: an example's target is `share` of its own label and the rest of the
            other's, and what the batch carries of the teacher and of soft labels is mixed alike.
        class_weights: `(classes,)`; a batch then also carries the weight of each of its examples.

    Raises:
        UserError: an augmentation of what a student of several inputs reads, or mixup of a teacher's states.
    """
    import tensorflow as tf

    def spec_of(array: np.ndarray, shape: tuple[int | None, ...] | None = None):
        free = (None, *array.shape[2:]) if array.ndim > 1 else ()
        return tf.TensorSpec((None, *(free if shape is None else shape)), array.dtype)

    chosen = np.asarray(indices)
    mixup = augmentation.mixup if augmentation else None
    spec: dict[str, Any] = {}
    example = None if hasattr(rows, "shape") else rows[chosen[:1]]
    if isinstance(example, Mapping):
        if augmentation:
            raise UserError(
                "augmentation changes spectrograms, and this student reads text or embeddings too: "
                "leave out --augment, or choose a student of audio alone."
            )
        shapes = getattr(rows, "shapes", {})
        spec[FEATURES] = {name: spec_of(array, shapes.get(name)) for name, array in example.items()}
    else:
        spec[FEATURES] = tf.TensorSpec((None, *rows.shape[1:]), tf.float32)
    if mixup and teacher_states is not None:
        raise UserError(
            "mixup cannot mix what a teacher says of two texts token by token: leave mixup out of --augment, "
            "or choose a distillation without states."
        )
    if teacher_states is not None:
        spec[TEACHER_STATES] = spec_of(teacher_states[chosen[:1]])
    if soft_labels is not None:
        spec[SOFT_LABELS] = tf.TensorSpec((None, soft_labels.shape[1]), tf.float32)
    if teacher is not None:
        spec[TEACHER] = tf.TensorSpec((None, teacher.shape[1]), tf.float32)
    if teacher_embedding is not None:
        spec[TEACHER_EMBEDDING] = tf.TensorSpec((None, teacher_embedding.shape[1]), tf.float32)
    if mixup:
        spec[OTHER_LABELS] = tf.TensorSpec((None,), tf.int32)
        spec[MIXUP_WEIGHT] = tf.TensorSpec((None,), tf.float32)

    def inputs_of(batch: np.ndarray, epoch: int, number: int) -> dict[str, Any]:
        inputs = {}
        if augmentation:
            inputs[FEATURES] = augmentation.features(rows, batch, seed=seed, epoch=epoch)
        else:
            inputs[FEATURES] = rows[batch]
        if teacher is not None:
            inputs[TEACHER] = teacher[batch]
        if teacher_embedding is not None:
            inputs[TEACHER_EMBEDDING] = teacher_embedding[batch]
        if teacher_states is not None:
            inputs[TEACHER_STATES] = teacher_states[batch]
        if soft_labels is not None:
            inputs[SOFT_LABELS] = soft_labels[batch]
        if mixup:
            share = augment.shares(mixup, seed=seed, epoch=epoch, utterances=batch)
            other = augment.mates(len(batch), seed=seed, epoch=epoch, batch=number)
            for name, values in inputs.items():
                mixed = augment.mix_logits if name == TEACHER else augment.mix
                inputs[name] = mixed(values, values[other], share)
            inputs |= {OTHER_LABELS: labels[batch[other]], MIXUP_WEIGHT: share}
        return inputs

    def batches():
        epoch = first_epoch
        while True:
            order = chosen[epoch_order(len(chosen), seed=seed, epoch=epoch)]
            for number, start in enumerate(range(0, len(order), batch_size)):
                batch = order[start : start + batch_size]
                # sorted, because a file mapped into memory is read fastest forwards
                batch.sort()
                inputs = inputs_of(batch, epoch, number)
                if class_weights is None:
                    yield inputs, labels[batch]
                else:
                    yield inputs, labels[batch], weights_of(inputs, labels[batch])
            epoch += 1

    def weights_of(inputs: dict[str, np.ndarray], own: np.ndarray) -> np.ndarray:
        weights = np.asarray(class_weights, np.float32)
        if MIXUP_WEIGHT not in inputs:
            return weights[own]
        return augment.mix(weights[own], weights[inputs[OTHER_LABELS]], inputs[MIXUP_WEIGHT])

    signature: tuple[Any, ...] = (spec, tf.TensorSpec((None,), tf.int32))
    if class_weights is not None:
        signature = (*signature, tf.TensorSpec((None,), tf.float32))
    made = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)
    options = tf.data.Options()
    # The autotuner can hold the end of `fit` for seconds, and there is nothing here to tune.
    options.autotune.enabled = False
    options.deterministic = True
    return made.with_options(options)
