"""From a corpus to batches: waveforms, features computed once, and tf.data with the teacher's logits."""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.distiller import FEATURES, TEACHER
from light_sernet_kd.features import PADDING, feature_shape, front_end_model, settings_of
from light_sernet_kd.files import atomic

# Raised when the numbers that a front end gives for the same settings change: old caches are then not used.
FEATURE_VERSION = 1
BATCH = 64


def waveforms(
    utterances: Sequence[Utterance],
    *,
    samples: int,
    front_end: str,
    on_block: Callable[[np.ndarray, slice], object] | None = None,
) -> np.ndarray:
    """The recordings, cut or padded: float32 `(utterances, samples)`, as `front_end` pads.

    Args:
        on_block: called with the clips and their rows whenever another `BATCH` of them has been read.

    Raises:
        UserError: lists every recording that cannot be used.
    """
    clips = np.zeros((len(utterances), samples), np.float32)
    bad = {}
    for row, result in enumerate(audio.read_all([utterance.path for utterance in utterances])):
        if isinstance(result, audio.AudioError):
            bad[utterances[row].id] = str(result)
        else:
            clips[row] = audio.fit(result, samples, pad=PADDING[front_end])
        if on_block and ((row + 1) % BATCH == 0 or row + 1 == len(utterances)):
            block = slice(row // BATCH * BATCH, row + 1)
            on_block(clips[block], block)
    if bad:
        raise audio.unusable(bad, len(utterances))
    return clips


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
        return self.compute(self.clips[rows])


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
    read: Callable[..., np.ndarray] = waveforms,
) -> np.ndarray | ComputedRows:
    """Features of every utterance, `(utterances, frames, features, 1)` float32, in their order.

    Args:
        fingerprints: utterance id → content hash; with the settings they are the cache's key.
        cache: `disk` keeps them in a file that every fold and later run maps into memory; `ram` computes them
            once per run; `none` computes each batch when it is used.
    """
    shape = feature_shape(front_end, input_type, samples)
    model = _front_end(front_end, input_type, samples)

    def compute() -> np.ndarray:
        values = np.empty((len(utterances), *shape), np.float32)

        def fill(clips: np.ndarray, block: slice) -> None:
            values[block] = model.predict_on_batch(clips)

        # On a thread of its own, so that the next recordings are read meanwhile.
        with ThreadPoolExecutor(1) as pool:
            filled: list[Future[None]] = []
            read(
                utterances,
                samples=samples,
                front_end=front_end,
                on_block=lambda clips, block: filled.append(pool.submit(fill, clips, block)),
            )
            for block in filled:
                block.result()
        return values

    if cache == "none":
        return ComputedRows(
            read(utterances, samples=samples, front_end=front_end),
            lambda clips: np.asarray(model(clips)),
            shape,
        )
    if cache == "ram":
        return compute()

    key = hashlib.sha256(
        json.dumps(
            [
                FEATURE_VERSION,
                asdict(settings_of(front_end, input_type)),
                input_type,
                samples,
                [fingerprints[utterance.id] for utterance in utterances],
            ]
        ).encode()
    ).hexdigest()[:32]
    path = cache_folder / f"{front_end}-{input_type}-{key}.npy"
    if not _is_whole(path, (len(utterances), *shape)):
        values = compute()
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.save(file, values)
    return np.load(path, mmap_mode="r")


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        return np.load(path, mmap_mode="r").shape == shape
    except (OSError, ValueError, EOFError):
        return False


def without_bad(corpus: Corpus) -> tuple[tuple[Utterance, ...], list[dict[str, str]]]:
    """The utterances whose recordings can be read, and `{id, reason}` of each of the others."""
    bad = audio.find_bad(corpus.utterances)
    kept = tuple(utterance for utterance in corpus.utterances if utterance.id not in bad)
    return kept, [{"id": name, "reason": reason} for name, reason in sorted(bad.items())]


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits its examples: a permutation that (seed, epoch) alone decide.

    A run that was interrupted therefore continues as if it had not been.
    """
    return np.random.default_rng([seed, epoch]).permutation(count)


def dataset(
    rows: Any,
    labels: np.ndarray,
    indices: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    teacher: np.ndarray | None = None,
):
    """Endless training batches as a `tf.data.Dataset`; an epoch is `ceil(len(indices) / batch_size)` of them.

    Args:
        rows: `(utterances, frames, features, 1)`, anything that can be indexed by an array.
        labels: `(utterances,)` class indices.
        indices: the training utterances.
        first_epoch: where to begin, for a run that continues.
        teacher: logits `(utterances, classes)`, carried with the batch.
    """
    import tensorflow as tf

    chosen = np.asarray(indices)
    feature_shape = tuple(rows.shape[1:])

    def batches():
        epoch = first_epoch
        while True:
            order = chosen[epoch_order(len(chosen), seed=seed, epoch=epoch)]
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                # sorted, because a file mapped into memory is read fastest forwards
                batch.sort()
                inputs = {FEATURES: rows[batch]}
                if teacher is not None:
                    inputs[TEACHER] = teacher[batch]
                yield inputs, labels[batch]
            epoch += 1

    inputs_spec = {FEATURES: tf.TensorSpec((None, *feature_shape), tf.float32)}
    if teacher is not None:
        inputs_spec[TEACHER] = tf.TensorSpec((None, teacher.shape[1]), tf.float32)
    made = tf.data.Dataset.from_generator(
        batches, output_signature=(inputs_spec, tf.TensorSpec((None,), tf.int32))
    ).prefetch(2)
    options = tf.data.Options()
    # The autotuner can hold the end of `fit` for seconds, and there is nothing here to tune.
    options.autotune.enabled = False
    options.deterministic = True
    return made.with_options(options)
