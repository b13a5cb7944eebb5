"""Embeddings of recordings and texts by pretrained encoders, kept on disk.

An encoder's folder in the cache is named by everything that decides its numbers. In it, each block of
recordings is an `.npy` with their rows one below the other, which is mapped into memory, and a `.json` that
says whose they are: the hash of each recording's bytes and its number of rows. The `.json` is written last:
a block counts when it is whole, and a run that was killed goes on behind its last block. A recording that is
moved, renamed or used by another corpus is not encoded again. Texts are kept in the same way.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from light_sernet_kd import arrays, audio
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.unlabelled import Clips
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import JsonError, atomic, read_json, write_json

# Raised when what is stored for the same identity changes: old caches are then not used.
CACHE_VERSION = 1
# How many recordings are encoded, held in memory and, if the run is killed, lost at once.
BLOCK = 64
# Trimmed rows come in multiples of it: a network is compiled for every length that it is asked to predict.
TRIM = 16
_ENCODER_FILE = "encoder.json"


@dataclass(frozen=True)
class Encoder:
    """Turns waveforms, or the token ids of texts, into embeddings.

    Attributes:
        name: for people, and the beginning of a folder's name.
        identity: everything that decides the numbers, as JSON values.
        shape: of one row.
        encode: 16 kHz waveforms `(samples,)`, or what `embed_by_key` reads → as many arrays
            `(rows, *shape)`, in their order; one row each where an utterance has one embedding, many where it
            has one per frame or token. What it gives for a waveform must not depend on the others.
        dtype: as stored; float16 halves the file.
        recreate: makes the same encoder in another process; None where that cannot be.
    """

    name: str
    identity: Mapping[str, Any]
    shape: tuple[int, ...]
    encode: Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]]
    dtype: Literal["float32", "float16"] = "float32"
    recreate: "Callable[[], Encoder] | None" = None

    def folder(self, cache: Path) -> Path:
        """Where its embeddings lie in `cache`."""
        decides = [CACHE_VERSION, self.identity, self.shape, self.dtype]
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]
        return cache / f"{self.name}-{key}"


class Embeddings(Sequence[np.ndarray]):
    """Rows `(rows, *shape)` per utterance, read from the disk when they are asked for.

    Attributes:
        rows: `(utterances,)`, how many rows each has.
        shape: of one row.
    """

    def __init__(self, blocks: Sequence[np.ndarray], places: np.ndarray):
        """`places` `(utterances, 3)`: which block, its first row, and the row behind its last."""
        self._blocks, self._places = blocks, places
        self.rows = places[:, 2] - places[:, 1]
        self.shape: tuple[int, ...] = blocks[0].shape[1:]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Embeddings(self._blocks, self._places[index])
        block, start, stop = self._places[index]
        return self._blocks[block][start:stop]

    def stacked(self) -> np.ndarray:
        """`(utterances, *shape)` float32 in memory, of an encoder that gives one row for each.

        Raises:
            ValueError: an utterance has several rows.
        """
        if (self.rows != 1).any():
            raise ValueError("some utterances have more than one row")
        stacked = np.empty((len(self), *self.shape), np.float32)
        for row, embedding in enumerate(self):
            stacked[row] = embedding[0]
        return stacked


class OneEach:
    """The embeddings of an encoder that gives one row for each, as an array of float32.

    `one_each[indices]`, with an array of indices, is `(len(indices), *shape)`. Only that is read.

    Attributes:
        shape: `(recordings, *shape)`.

    Raises:
        ValueError: a recording has several rows.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, embeddings: Embeddings):
        if (embeddings.rows != 1).any():
            raise ValueError("some recordings have more than one row")
        self._embeddings = embeddings
        self.shape = (len(embeddings), *embeddings.shape)

    def __len__(self) -> int:
        return len(self._embeddings)

    def __getitem__(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        rows = np.empty((len(indices), *self.shape[1:]), np.float32)
        for place, index in zip(rows, indices, strict=True):
            place[...] = self._embeddings[index][0]
        return rows


class Padded:
    """The rows of many utterances as one array of float32, zeros behind an utterance's own.

    `padded[indices]`, with indices as NumPy takes them for one axis, is `(*indices.shape, rows, *shape)`; of
    an utterance with more rows, the first are kept. Only what is asked for is read.

    Attributes:
        shape: `(utterances, rows, *shape)`, without a number of rows where they are trimmed.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, embeddings: Embeddings, rows: int, *, trimmed: bool = False):
        """With `trimmed`, what is asked for has as many rows as the longest of it, up to a multiple of
        `TRIM`, and at most `rows`.

        Raises:
            ValueError: `rows` is below 1.
        """
        if rows < 1:
            raise ValueError(f"rows must be at least 1, found {rows}")
        self._embeddings, self._rows, self._trimmed = embeddings, rows, trimmed
        self.shape = (len(embeddings), None if trimmed else rows, *embeddings.shape)

    def trimmed(self) -> "Padded":
        """The same rows without padding that none of those asked for together needs."""
        return Padded(self._embeddings, self._rows, trimmed=True)

    def __len__(self) -> int:
        return len(self._embeddings)

    def __getitem__(self, indices) -> np.ndarray:
        chosen = np.arange(len(self))[indices]
        rows = self._rows
        if self._trimmed:
            longest = self._embeddings.rows[chosen].max(initial=1)
            rows = min(rows, -(-int(longest) // TRIM) * TRIM)
        padded = np.zeros((chosen.size, rows, *self.shape[2:]), np.float32)
        for place, index in zip(padded, chosen.ravel(), strict=True):
            known = self._embeddings[index][:rows]
            place[: len(known)] = known
        return padded.reshape(*chosen.shape, *padded.shape[1:])


class NotFiniteError(UserError):
    """An encoder's numbers cannot be kept; `key` is of what it gave them for."""

    def __init__(self, text: str, key: str, remedy: str):
        super().__init__(f"{text} the recording or text with SHA-256 {key[:16]}….{remedy}")
        self.text, self.key, self.remedy = text, key, remedy


# Keys, what they stand for, and how many were tried to get these.
Block = tuple[Sequence[str], Sequence[np.ndarray], int]


def embed(
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    encoder: Encoder,
    *,
    cache: Path,
    progress: audio.Progress | None = None,
) -> Embeddings:
    """The embeddings of `utterances`, in their order; only what `cache` does not hold yet is computed.

    Args:
        fingerprints: utterance id → content hash of its recording.
        progress: called with (done, all) after each block.

    Raises:
        UserError: lists every recording that cannot be used, when all others are encoded.
    """
    keys = [fingerprints[utterance.id] for utterance in utterances]
    # of twins, the first is read
    by_key = dict(zip(reversed(keys), reversed(utterances), strict=True))

    def read(missing: Sequence[str]) -> Iterator[Block]:
        return _readable([by_key[key] for key in missing], missing, len(utterances))

    try:
        return embed_by_key(keys, read, encoder, cache=cache, progress=progress)
    except NotFiniteError as error:
        bad = by_key[error.key]
        raise UserError(
            f"{error.text} {bad.id} ({bad.path}): mend it, or take it out of the corpus.{error.remedy}"
        ) from None


def embed_by_key(
    keys: Sequence[str],
    read: Callable[[Sequence[str]], Iterator[Block]],
    encoder: Encoder,
    *,
    cache: Path,
    progress: audio.Progress | None = None,
) -> Embeddings:
    """The embeddings of what `keys` stand for, in their order, as `embed` makes those of recordings.

    Args:
        keys: content hashes; what has the same hash is encoded once.
        read: given those keys that `cache` lacks, yields them with what they stand for, a block at a time. A
            key may be left out, if the error that `read` raises at its end says why: what it yielded is kept.
        progress: called with (done, all) after each block.
    """
    if not keys:
        raise UserError("there are no utterances to embed.")
    folder = encoder.folder(cache)
    blocks: dict[Path, np.ndarray] = {}
    stored = _cached(folder, encoder, set(keys), blocks)
    missing = [key for key in dict.fromkeys(keys) if key not in stored]
    if missing:
        # for people: nothing reads it
        write_json(folder / _ENCODER_FILE, {"name": encoder.name, **encoder.identity})
        done = len(keys) - len(missing)
        for names, items, count in read(missing):
            if names:
                _write_block(folder, encoder, names, items)
            done += count
            if progress:
                progress(done, len(keys))
        stored = _cached(folder, encoder, set(keys), blocks)
    rows = [stored[key] for key in keys]
    paths = sorted({path for path, _, _ in rows})
    number = {path: index for index, path in enumerate(paths)}
    places = np.array([(number[path], start, stop) for path, start, stop in rows])
    return Embeddings([blocks[path] for path in paths], places)


def embed_clips(
    clips: Clips, encoder: Encoder, *, cache: Path, progress: audio.Progress | None = None
) -> Embeddings:
    """What an encoder says of unlabelled clips, in their order.

    It is asked on the machines that `clips` names, or here: one that lives in this process alone, such as a
    model that was fine-tuned, cannot be made on them.
    """
    elsewhere = clips.elsewhere
    if elsewhere is None or encoder.recreate is None:
        return embed_by_key(clips.keys, clips.blocks, encoder, cache=cache, progress=progress)

    def encoded(missing: Sequence[str]) -> Iterator[Block]:
        return elsewhere(encoder, clips.parts(missing))

    # What is read is encoded by then.
    stored = dataclasses.replace(encoder, encode=lambda rows: rows)
    return embed_by_key(clips.keys, encoded, stored, cache=cache, progress=progress)


def _readable(utterances: Sequence[Utterance], fingerprints: Sequence[str], total: int) -> Iterator[Block]:
    """Fingerprints and waveforms in blocks; at the end, an error about those that cannot be read."""
    names: list[str] = []
    waveforms: list[np.ndarray] = []
    bad: dict[str, str] = {}
    results = audio.read_all([utterance.path for utterance in utterances])
    for tried, (utterance, name, result) in enumerate(
        zip(utterances, fingerprints, results, strict=True), start=1
    ):
        if isinstance(result, audio.AudioError):
            bad[utterance.id] = str(result)
        else:
            names.append(name)
            waveforms.append(result)
        if tried % BLOCK == 0 or tried == len(utterances):
            yield names, waveforms, (tried - 1) % BLOCK + 1
            names, waveforms = [], []
    if bad:
        raise audio.unusable(bad, total)


def _write_block(folder: Path, encoder: Encoder, names: Sequence[str], items: Sequence[np.ndarray]) -> None:
    rows = []
    for name, values in zip(names, encoder.encode(items), strict=True):
        with np.errstate(over="ignore"):  # what float16 cannot hold is reported below
            kept = np.asarray(values, encoder.dtype)
        if not np.isfinite(kept).all():
            remedy = " Store float32 instead." if encoder.dtype == "float16" else ""
            raise NotFiniteError(
                f"{encoder.name} gives numbers that are not finite in {encoder.dtype} for", name, remedy
            )
        rows.append(kept)
    path = folder / f"{hashlib.sha256(''.join(names).encode()).hexdigest()[:32]}.npy"
    block = np.concatenate(rows)
    with atomic(path) as temporary, open(temporary, "w+b") as file:
        arrays.write_blocks(file, [block], block.shape, block.dtype)
    recordings = dict(zip(names, map(len, rows), strict=True))
    write_json(path.with_suffix(".json"), {"recordings": recordings, "sha256": _index_digest(recordings)})


def _cached(
    folder: Path, encoder: Encoder, wanted: Set[str], blocks: dict[Path, np.ndarray]
) -> dict[str, tuple[Path, int, int]]:
    """Fingerprint → block and rows, of every block that is whole and has some that is wanted.

    Args:
        blocks: those that were opened; others are added.
    """
    places: dict[str, tuple[Path, int, int]] = {}
    budget = arrays.HASHED_BYTES - sum(block.nbytes for block in blocks.values())
    for index in sorted(folder.glob("*.json")):
        path = index.with_suffix(".npy")
        if index.name == _ENCODER_FILE:
            continue
        try:
            recordings = _recordings(index)
            if wanted.isdisjoint(recordings):
                continue
            stops = list(itertools.accumulate(recordings.values()))
            if path not in blocks:
                blocks[path] = arrays.open_mapped(
                    path,
                    shape=(stops[-1], *encoder.shape),
                    dtype=np.dtype(encoder.dtype),
                    most_bytes=max(0, budget),
                )
                budget -= blocks[path].nbytes
        except FileNotFoundError:
            continue
        except (JsonError, arrays.ArrayError) as error:
            arrays.say_anew(error)
            # The block that is made may have another name: this one would be complained of for ever.
            with contextlib.suppress(OSError):
                index.unlink()
            continue
        for name, start, stop in zip(recordings, [0, *stops], stops, strict=False):
            places[name] = (path, start, stop)
    return places


def _recordings(index: Path) -> dict[str, int]:
    """Fingerprint → number of rows, in a block's order."""
    content = read_json(index, {"recordings": {str: int}, "sha256": str})
    if content["sha256"] != _index_digest(content["recordings"]):
        raise JsonError(index, "is damaged (its content has another hash than when it was written)")
    if min(content["recordings"].values(), default=0) < 0:
        raise JsonError(index, "is damaged (a recording has fewer than no rows)")
    return content["recordings"]


def _index_digest(recordings: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(recordings).encode()).hexdigest()
