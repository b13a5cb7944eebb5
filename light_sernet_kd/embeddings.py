"""Embeddings of recordings by pretrained encoders, kept on disk.

An encoder's folder in the cache is named by everything that decides its numbers. In it, each block of
recordings is an `.npy` with their rows one below the other, which is mapped into memory, and a `.json` that
says whose they are: the hash of each recording's bytes and its number of rows. The `.json` is written last:
a block counts when it is whole, and a run that was killed goes on behind its last block. A recording that is
moved, renamed or used by another corpus is not encoded again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE, UserError
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.files import atomic, write_json

# Raised when what is stored for the same identity changes: old caches are then not used.
CACHE_VERSION = 1
# How many recordings are encoded, held in memory and, if the run is killed, lost at once.
BLOCK = 64


@dataclass(frozen=True)
class Encoder:
    """Turns waveforms into embeddings.

    Attributes:
        name: for people, and the beginning of a folder's name.
        identity: everything that decides the numbers, as JSON values.
        shape: of one row.
        encode: 16 kHz waveforms `(samples,)` → as many arrays `(rows, *shape)`, in their order; one row
            each where an utterance has one embedding, many where it has one per frame. What it gives for a
            waveform must not depend on the others.
        dtype: as stored; float16 halves the file.
    """

    name: str
    identity: Mapping[str, Any]
    shape: tuple[int, ...]
    encode: Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]]
    dtype: Literal["float32", "float16"] = "float32"

    def folder(self, cache: Path) -> Path:
        """Where its embeddings lie in `cache`."""
        decides = [CACHE_VERSION, self.identity, self.shape, self.dtype]
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]
        return cache / f"{self.name}-{key}"


class Embeddings(Sequence[np.ndarray]):
    """Rows `(rows, *shape)` per utterance, read from the disk when they are asked for.

    Attributes:
        rows: `(utterances,)`, how many rows each has.
    """

    def __init__(self, blocks: Sequence[np.ndarray], places: np.ndarray):
        """`places` `(utterances, 3)`: which block, its first row, and the row behind its last."""
        self._blocks, self._places = blocks, places
        self.rows = places[:, 2] - places[:, 1]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Embeddings(self._blocks, self._places[index])
        block, start, stop = self._places[index]
        return self._blocks[block][start:stop]

    def stacked(self) -> np.ndarray:
        """`(utterances, *shape)` float32 in memory, of an encoder that gives one row for each."""
        if (self.rows != 1).any():
            raise ValueError("some utterances have more than one row")
        stacked = np.empty((len(self), *self._blocks[0].shape[1:]), np.float32)
        for row, embedding in enumerate(self):
            stacked[row] = embedding[0]
        return stacked


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
    if not utterances:
        raise UserError("there are no utterances to embed.")
    folder = encoder.folder(cache)
    stored = _stored(folder, encoder)
    missing: dict[str, Utterance] = {}
    for utterance in utterances:
        if fingerprints[utterance.id] not in stored:
            missing.setdefault(fingerprints[utterance.id], utterance)
    if missing:
        # for people: nothing reads it
        write_json(folder / "encoder.json", {"name": encoder.name, **encoder.identity})
    bad: dict[str, str] = {}
    done = len(utterances) - len(missing)
    for names, waveforms, count in _readable(missing, bad):
        if names:
            _write_block(folder, encoder, names, waveforms)
        done += count
        if progress:
            progress(done, len(utterances))
    if bad:
        remedy = "\n  Mend or remove them, or leave them out with --skip-bad."
        raise UserError(audio.listing(bad, len(utterances)) + remedy)

    if missing:
        stored = _stored(folder, encoder)
    paths = sorted({stored[fingerprints[utterance.id]][0] for utterance in utterances})
    number = {path: index for index, path in enumerate(paths)}
    found = [stored[fingerprints[utterance.id]] for utterance in utterances]
    places = np.array([(number[path], start, stop) for path, start, stop in found])
    return Embeddings([np.load(path, mmap_mode="r") for path in paths], places)


def _readable(
    missing: Mapping[str, Utterance], bad: dict[str, str]
) -> Iterator[tuple[list[str], list[np.ndarray], int]]:
    """Fingerprints and waveforms in blocks, and how many recordings were tried; the others go into `bad`."""
    names: list[str] = []
    waveforms: list[np.ndarray] = []
    results = audio.read_all([utterance.path for utterance in missing.values()])
    for tried, (name, result) in enumerate(zip(missing, results, strict=True), start=1):
        if isinstance(result, audio.AudioError):
            bad[missing[name].id] = str(result)
        else:
            names.append(name)
            waveforms.append(result)
        if tried % BLOCK == 0 or tried == len(missing):
            yield names, waveforms, (tried - 1) % BLOCK + 1
            names, waveforms = [], []


def _write_block(
    folder: Path, encoder: Encoder, names: Sequence[str], waveforms: Sequence[np.ndarray]
) -> None:
    rows = []
    for name, values in zip(names, encoder.encode(waveforms), strict=True):
        with np.errstate(over="ignore"):  # what float16 cannot hold is reported below
            kept = np.asarray(values, encoder.dtype)
        if not np.isfinite(kept).all():
            raise UserError(
                f"{encoder.name} gives numbers that are not finite in {encoder.dtype} for the recording with "
                f"SHA-256 {name[:16]}…." + (" Store float32 instead." if encoder.dtype == "float16" else "")
            )
        rows.append(kept)
    path = folder / f"{hashlib.sha256(''.join(names).encode()).hexdigest()[:32]}.npy"
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.concatenate(rows))
    write_json(path.with_suffix(".json"), {"recordings": dict(zip(names, map(len, rows), strict=True))})


def _stored(folder: Path, encoder: Encoder) -> dict[str, tuple[Path, int, int]]:
    """Fingerprint → block and rows, of every block that is whole."""
    found: dict[str, tuple[Path, int, int]] = {}
    for index in sorted(folder.glob("*.json")):
        path = index.with_suffix(".npy")
        try:
            recordings = json.loads(index.read_text(encoding="utf-8"))["recordings"]
            stops = np.cumsum(list(recordings.values())).tolist()
            block = np.load(path, mmap_mode="r")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
            continue  # encoder.json, or a block that is damaged and will be made again
        if block.shape == (max(stops, default=0), *encoder.shape) and block.dtype == encoder.dtype:
            for name, start, stop in zip(recordings, [0, *stops], stops, strict=False):
                found[name] = (path, start, stop)
    return found


# YAMNet

YAMNET_FILE = "yamnet_audio_classifier_with_metadata.tflite"
YAMNET_ADDRESS = f"https://storage.googleapis.com/mediapipe-assets/{YAMNET_FILE}"
YAMNET_SHA256 = "10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de"
YAMNET_WIDTH = 1024
_YAMNET_TENSOR = b"tower0/network/layer28/reduce_mean"
_YAMNET_WINDOW = 15_600  # samples: 96 frames every 10 ms, the last 25 ms long


def is_embedding_source(teacher: str | None) -> bool:
    """Whether `--teacher` asks for a probe on a network's embeddings, and not for a file."""
    return (teacher or "").partition("=")[0] == "yamnet"


def yamnet_path(teacher: str, data: Path) -> Path | None:
    """The file that `--teacher yamnet` or `--teacher yamnet=PATH` means; None for another teacher.

    Raises:
        UserError: the file is not there; says where it is to be had.
    """
    if not is_embedding_source(teacher):
        return None
    given = teacher.partition("=")[2]
    path = Path(given) if given else data / "models" / YAMNET_FILE
    if not path.is_file():
        raise UserError(
            f"no YAMNet in {path}. Download {YAMNET_ADDRESS} (4 MB, Apache-2.0, SHA-256 {YAMNET_SHA256}) to "
            f"{data / 'models'}, or name your file: --teacher yamnet=PATH."
        )
    return path


def yamnet(
    path: Path, *, hop_seconds: float = 0.48, pooling: Literal["mean", "mean+std"] = "mean"
) -> Encoder:
    """YAMNet, a network for the sounds of AudioSet, as an encoder; runs on LiteRT.

    It looks at windows of 0.975 s. They follow each other by `hop_seconds` (0.48 as released), the last ends
    where the recording ends; a recording shorter than one window gets zeros at its end, as in the release.

    Args:
        path: the classifier as a TFLite file.
        pooling: what an utterance's windows become: their mean, `(1024,)`, or also their standard deviation
            (0 for one window), `(2048,)`.

    Raises:
        UserError: not a YAMNet, or an impossible hop.

    Source: Plakal and Ellis 2019, https://github.com/tensorflow/models/tree/master/research/audioset/yamnet
    """
    hop = round(hop_seconds * SAMPLE_RATE)
    if not 1 <= hop <= _YAMNET_WINDOW:
        raise UserError(f"YAMNet's hop must be above 0 and at most 0.975 s, found {hop_seconds:g}.")
    content = path.read_bytes()
    interpreter = _embedding_interpreter(path, content)
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = given["quantization"]  # 0, 0 of a float32 network

    def embedding(window: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], window)
        interpreter.invoke()
        values = interpreter.get_tensor(given["index"]).ravel().astype(np.float32)
        return (values - zero) * np.float32(scale) if scale else values

    def encode(waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for waveform in waveforms:
            windows = np.stack([embedding(window) for window in _windows(waveform, _YAMNET_WINDOW, hop)])
            parts = [windows.mean(axis=0)] + ([windows.std(axis=0)] if pooling == "mean+std" else [])
            yield np.concatenate(parts)[None]

    identity = {
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "tensor": _YAMNET_TENSOR.decode(),
        "hop_samples": hop,
        "pooling": pooling,
    }
    width = YAMNET_WIDTH * (2 if pooling == "mean+std" else 1)
    return Encoder("yamnet", identity, (width,), encode)


def _windows(waveform: np.ndarray, length: int, hop: int) -> list[np.ndarray]:
    if len(waveform) < length:
        return [np.pad(waveform, (0, length - len(waveform)))]
    last = len(waveform) - length
    starts = [*range(0, last, hop), last]
    return [waveform[start : start + length] for start in starts]


def _embedding_interpreter(path: Path, content: bytes):
    """An interpreter whose output is the embedding.

    The file's output, the scores, is renumbered: LiteRT can also keep every intermediate tensor, but calls
    that debugging, and uses more memory for it.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    from light_sernet_kd.runner import without_chatter

    not_yamnet = UserError(
        f"{path} is not a YAMNet classifier or is damaged: expected TFLite with an input of {_YAMNET_WINDOW} "
        f"samples and a tensor {_YAMNET_TENSOR.decode()}, such as {YAMNET_ADDRESS}."
    )
    editable = bytearray(content)
    if editable[4:8] != b"TFL3":
        raise not_yamnet
    try:
        # LiteRT trusts a flatbuffer's offsets; reading it all finds those that lead out of the file.
        schema.ModelT.InitFromPackedBuf(editable)
        graph = schema.Model.GetRootAs(editable, 0).Subgraphs(0)
        names = [graph.Tensors(index).Name() for index in range(graph.TensorsLength())]
        graph.OutputsAsNumpy()[0] = names.index(_YAMNET_TENSOR)
        with without_chatter():
            interpreter = Interpreter(model_content=bytes(editable), num_threads=1)
            interpreter.allocate_tensors()
        (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    except Exception:  # a damaged flatbuffer fails in a dozen ways
        raise not_yamnet from None
    if taken["shape"].tolist() != [_YAMNET_WINDOW] or given["shape"].prod() != YAMNET_WIDTH:
        raise not_yamnet
    return interpreter
