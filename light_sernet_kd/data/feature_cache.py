"""From recordings to waveforms and features, which are computed once."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from light_sernet_kd import audio, plugins
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.array_cache import MEMORY_LIMIT, cached_rows, in_memory, key_of
from light_sernet_kd.features import feature_shape, front_end_model, settings_of
from light_sernet_kd.registries.front_ends import FRONT_ENDS

# Raised when the numbers that a front end gives for the same settings change: old caches are then not used.
FEATURE_VERSION = 1
BATCH = 64


def waveforms(utterances: Sequence[Utterance], *, samples: int, front_end: str) -> np.ndarray:
    """The recordings, cut or padded: float32 `(utterances, samples)`, as `front_end` pads.

    Raises:
        UserError: lists every recording that cannot be used.
    """
    blocks = waveform_blocks(utterances, samples=samples, front_end=front_end)
    return in_memory(blocks, (len(utterances), samples), np.dtype(np.float32))


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


def front_end_of(front_end: str, input_type: str, samples: int) -> keras.Model:
    """`front_end_model`, kept: it is traced at its first call, which costs as much as some hundred clips."""
    return _front_end(front_end, input_type, samples, plugins.sha256_of("front end", front_end))


@functools.lru_cache(maxsize=4)
def _front_end(front_end: str, input_type: str, samples: int, plugin: str) -> keras.Model:
    return front_end_model(front_end, input_type, samples)


@dataclass(frozen=True)
class Cache:
    """Where features are kept.

    Attributes:
        folder: for the files.
        mode: `disk` keeps features in a file that every fold and later run maps into memory; `ram` computes
            them once per run and keeps them in memory; `none` computes each batch when it is used.
        memory_limit: in bytes; larger features (with `ram`) or waveforms (with `none`) are kept in a file
            that is mapped into memory.
    """

    folder: Path
    mode: str = "disk"
    memory_limit: float = MEMORY_LIMIT


@dataclass(frozen=True)
class Reader:
    """What reads recordings.

    Attributes:
        name: for the cache's key.
        blocks: as `waveform_blocks`.
    """

    name: str
    blocks: Callable[..., Iterator[np.ndarray]]


SOUNDFILE = Reader("soundfile", waveform_blocks)


def features(
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    *,
    front_end: str,
    input_type: str,
    samples: int,
    cache: Cache,
    reader: Reader = SOUNDFILE,
) -> np.ndarray | ComputedRows:
    """Features of every utterance, `(utterances, frames, features, 1)` float32, in their order.

    Args:
        fingerprints: utterance id → content hash; with the settings they are the cache's key.
    """
    shape = feature_shape(front_end, input_type, samples)
    model = front_end_of(front_end, input_type, samples)
    known = [*_backend(), reader.name, *(fingerprints[utterance.id] for utterance in utterances)]
    clips = functools.partial(reader.blocks, utterances, samples=samples, front_end=front_end)
    float32 = np.dtype(np.float32)
    if cache.mode == "none":
        name = f"clips-{key_of(samples, FRONT_ENDS[front_end].padding, known)}.npy"
        whole = (len(utterances), samples)
        stored = cached_rows(clips, whole, float32, cache.folder / name, cache.memory_limit)
        return ComputedRows(stored, full_precision(lambda clips: np.asarray(model(clips))), shape)
    key = feature_key(front_end, input_type, samples, known)
    return cached_rows(
        lambda: _computed(full_precision(model.predict_on_batch), clips()),
        (len(utterances), *shape),
        float32,
        cache.folder / f"{front_end}-{input_type}-{key}.npy",
        cache.memory_limit if cache.mode == "ram" else 0,
    )


def feature_key(front_end: str, input_type: str, samples: int, known: Sequence[str]) -> str:
    """For a cache: equal where the features of the recordings that `known` tells are."""
    plugin = plugins.sha256_of("front end", front_end)
    spectrum = asdict(settings_of(front_end, input_type))
    return key_of(FEATURE_VERSION, spectrum, input_type, samples, known, *([plugin] if plugin else []))


def _backend() -> list[str]:
    """For a cache's key: backends differ by a rounding, and a run shall not depend on who came first."""
    backend = keras.backend.backend()
    return [] if backend == "tensorflow" else [backend]


def full_precision(compute: Callable[..., Any]) -> Callable[..., Any]:
    """`compute`, a function of one argument, in float32 throughout.

    JAX's default on a GPU is TensorFloat-32, whose matrix products have three digits: a logarithm of a quiet
    band's power would show it.
    """
    if keras.backend.backend() != "jax":
        return compute

    def in_float32(inputs: Any) -> Any:
        import jax

        with jax.default_matmul_precision("highest"):
            return compute(inputs)

    return in_float32


def predictions(model: keras.Model, rows: Any, indices: Sequence[int] | np.ndarray) -> Iterator[Any]:
    """What a model gives of these rows, `BATCH` of them at a time, in float32 throughout."""
    predict, chosen = full_precision(model.predict_on_batch), np.asarray(indices)
    for start in range(0, len(chosen), BATCH):
        yield predict(rows[chosen[start : start + BATCH]])


def _computed(
    compute: Callable[[np.ndarray], np.ndarray], blocks: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """What `compute` makes of each block, on a thread of its own while the next recordings are read.

    Never more than one block waits, whichever of the two is slower.
    """
    with ThreadPoolExecutor(1) as pool:
        before: Future[np.ndarray] | None = None
        for block in blocks:
            now = pool.submit(compute, block)
            if before is not None:
                yield before.result()
            before = now
        if before is not None:
            yield before.result()


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

    key = key_of(samples, [fingerprints[utterance.id] for utterance in utterances])
    path = cache_folder / f"recordings-{key}.npy"
    blocks = functools.partial(_read_blocks, utterances, dtype, put)
    return cached_rows(blocks, (len(utterances),), dtype, path, memory_limit)
