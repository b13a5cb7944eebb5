"""YAMNet, a network for the sounds of AudioSet, as a TFLite file.

Source: Plakal and Ellis 2019, https://github.com/tensorflow/models/tree/master/research/audioset/yamnet
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError, installed
from light_sernet_kd.files import read_bytes

FILE = "yamnet_audio_classifier_with_metadata.tflite"
ADDRESS = f"https://storage.googleapis.com/mediapipe-assets/{FILE}"
SHA256 = "10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de"
WIDTH = 1024
_TENSOR = b"tower0/network/layer28/reduce_mean"
_WINDOW = 15_600  # samples: 96 frames every 10 ms, the last 25 ms long


def path_of(argument: str, data: Path) -> Path:
    """The file that `yamnet` or, with an argument, `yamnet=PATH` means.

    Raises:
        UserError: the file is not there; says where it is to be had.
    """
    path = Path(argument) if argument else data / "models" / FILE
    if not path.is_file():
        raise UserError(
            f"no YAMNet in {path}. Download {ADDRESS} (4 MB, Apache-2.0, SHA-256 {SHA256}) to "
            f"{data / 'models'}, or name your file: yamnet=PATH."
        )
    return path


def encoder(
    path: Path, *, hop_seconds: float = 0.48, pooling: Literal["mean", "mean+std", "none"] = "mean"
) -> Encoder:
    """YAMNet as an encoder; runs on LiteRT.

    It looks at windows of 0.975 s. They follow each other by `hop_seconds` (0.48 as released), the last ends
    where the recording ends; a recording shorter than one window gets zeros at its end, as in the release.

    Args:
        path: the classifier as a TFLite file.
        pooling: what an utterance's windows become: their mean, `(1024,)`, or also their standard deviation
            (0 for one window), `(2048,)`; or, with `none`, a row `(1024,)` for each.

    Raises:
        UserError: not a YAMNet, or an impossible hop.
    """
    hop = round(hop_seconds * SAMPLE_RATE)
    if not 1 <= hop <= _WINDOW:
        raise UserError(f"YAMNet's hop must be above 0 and at most 0.975 s, found {hop_seconds:g}.")
    content = read_bytes(path)
    interpreter = _embedding_interpreter(path, content)
    (input_details,) = interpreter.get_input_details()
    (output_details,) = interpreter.get_output_details()
    scale, zero = output_details["quantization"]  # 0, 0 of a float32 network

    def embedding(window: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(input_details["index"], window)
        interpreter.invoke()
        values = interpreter.get_tensor(output_details["index"]).ravel().astype(np.float32)
        return (values - zero) * np.float32(scale) if scale else values

    def encode(waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for waveform in waveforms:
            windows = np.stack([embedding(window) for window in _windows(waveform, _WINDOW, hop)])
            if pooling == "none":
                yield windows
                continue
            parts = [windows.mean(axis=0)] + ([windows.std(axis=0)] if pooling == "mean+std" else [])
            yield np.concatenate(parts)[None]

    identity = {
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "tensor": _TENSOR.decode(),
        "hop_samples": hop,
        "pooling": pooling,
    }
    width = WIDTH * (2 if pooling == "mean+std" else 1)
    again = functools.partial(encoder, path, hop_seconds=hop_seconds, pooling=pooling)
    return Encoder("yamnet", identity, (width,), encode, recreate=again)


def window_count(samples: int, *, hop_seconds: float = 0.48) -> int:
    """How many windows YAMNet looks at in so many samples."""
    return len(_starts(samples, _WINDOW, round(hop_seconds * SAMPLE_RATE)))


def _starts(samples: int, length: int, hop: int) -> list[int]:
    last = max(0, samples - length)
    return [*range(0, last, hop), last]


def _windows(waveform: np.ndarray, length: int, hop: int) -> list[np.ndarray]:
    if len(waveform) < length:
        return [np.pad(waveform, (0, length - len(waveform)))]
    return [waveform[start : start + length] for start in _starts(len(waveform), length, hop)]


def _embedding_interpreter(path: Path, content: bytes):
    """An interpreter whose output is the embedding.

    The file's output, the scores, is renumbered: LiteRT can also keep every intermediate tensor, but calls
    that debugging, and uses more memory for it.
    """
    with installed("ai_edge_litert", "YAMNet"):
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter

    from light_sernet_kd.runner import without_chatter

    not_yamnet = UserError(
        f"{path} is not a YAMNet classifier or is damaged: expected TFLite with an input of {_WINDOW} "
        f"samples and a tensor {_TENSOR.decode()}, such as {ADDRESS}."
    )
    editable = bytearray(content)
    if editable[4:8] != b"TFL3":
        raise not_yamnet
    try:
        # LiteRT trusts a flatbuffer's offsets; reading it all finds those that lead out of the file.
        schema.ModelT.InitFromPackedBuf(editable)
        graph = schema.Model.GetRootAs(editable, 0).Subgraphs(0)
        names = [graph.Tensors(index).Name() for index in range(graph.TensorsLength())]
        graph.OutputsAsNumpy()[0] = names.index(_TENSOR)
        with without_chatter():
            interpreter = Interpreter(model_content=bytes(editable), num_threads=1)
            interpreter.allocate_tensors()
        (input_details,) = interpreter.get_input_details()
        (output_details,) = interpreter.get_output_details()
    except Exception:  # a damaged flatbuffer fails in a dozen ways
        raise not_yamnet from None
    if input_details["shape"].tolist() != [_WINDOW] or output_details["shape"].prod() != WIDTH:
        raise not_yamnet
    return interpreter
