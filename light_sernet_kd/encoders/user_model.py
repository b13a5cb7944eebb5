"""A network of the user's own, in ONNX or TFLite, as an encoder: one of its tensors, from 16 kHz audio.

The network takes one channel of 16 kHz audio, `(samples,)` or with axes of length 1 in front. Where its
number of samples is fixed, it takes windows of that length one behind the other, the last of which ends where
the recording ends; a shorter recording stands in the middle of zeros. The rows of a recording are averaged:
over windows, and of a tensor `(1, …, width)` over all axes between.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError, first_line, install_line, installed
from light_sernet_kd.files import read_bytes

# How many names a message lists.
_LISTED = 40
# A second, by which a network of any length is asked for its width.
_TRIAL = SAMPLE_RATE


@dataclass(frozen=True)
class _Network:
    """A network that runs.

    Attributes:
        samples: how many it takes; None for any number.
        run: `(samples,)` float32 to the tensor, float32.
    """

    samples: int | None
    run: Callable[[np.ndarray], np.ndarray]


def parts_of(argument: str, kind: str) -> tuple[Path, str]:
    """The file and the tensor of `FILE#TENSOR`.

    Args:
        kind: `onnx` or `tflite`, for messages.

    Raises:
        UserError: no such file, or no tensor is named.

    >>> parts_of("nowhere.onnx#embedding", "onnx")
    Traceback (most recent call last):
    light_sernet_kd.errors.UserError: no file nowhere.onnx: name yours, as onnx:FILE#TENSOR.
    """
    file, _, tensor = argument.rpartition("#")
    path = Path(file or argument)
    if not path.is_file():
        raise UserError(f"no file {path}: name yours, as {kind}:FILE#TENSOR.")
    return path, tensor if file else ""


def onnx_encoder(argument: str) -> Encoder:
    """A tensor of an ONNX file as an encoder; `argument` is `FILE#TENSOR`.

    Raises:
        UserError: onnxruntime is missing, no such file or tensor, or one that takes something else.
    """
    path, tensor = parts_of(argument, "onnx")
    made = _encoder("onnx", path, tensor, _onnx_network)
    return dataclasses.replace(made, recreate=functools.partial(onnx_encoder, argument))


def tflite_encoder(argument: str) -> Encoder:
    """A tensor of a TFLite file as an encoder; `argument` is `FILE#TENSOR`.

    Raises:
        UserError: no such file or tensor, or one that takes something else.
    """
    path, tensor = parts_of(argument, "tflite")
    made = _encoder("tflite", path, tensor, _tflite_network)
    return dataclasses.replace(made, recreate=functools.partial(tflite_encoder, argument))


def _encoder(kind: str, path: Path, tensor: str, load: Callable[[Path, bytes, str], _Network]) -> Encoder:
    content = read_bytes(path)
    network = load(path, content, tensor)

    def row(waveform: np.ndarray) -> np.ndarray:
        rows = [_mean_row(network.run(window)) for window in _windows(waveform, network.samples)]
        return np.asarray(np.mean(rows, axis=0), np.float32)

    def encode(waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        return (row(waveform)[None] for waveform in waveforms)

    try:
        width = len(row(np.zeros(network.samples or _TRIAL, np.float32)))
    except Exception as error:  # the runtimes have errors of their own
        raise UserError(f"{path} does not run on audio at 16 kHz: {first_line(error)}.") from None
    identity = {"file_sha256": hashlib.sha256(content).hexdigest(), "tensor": tensor, "kind": kind}
    return Encoder(f"{kind}-{path.stem}", identity, (width,), encode)


def _windows(waveform: np.ndarray, length: int | None) -> list[np.ndarray]:
    if length is None:
        return [waveform]
    missing = length - len(waveform)
    if missing >= 0:
        return [np.pad(waveform, (missing // 2, missing - missing // 2))]
    last = len(waveform) - length
    return [waveform[start : start + length] for start in (*range(0, last, length), last)]


def _mean_row(values: np.ndarray) -> np.ndarray:
    if not values.ndim:
        values = values[None]
    return values.reshape(-1, values.shape[-1]).astype(np.float32).mean(axis=0)


def _chosen(path: Path, tensor: str, names: Sequence[str]) -> None:
    """Refuse a name that is none of the tensors', and list these."""
    if tensor in names:
        return
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    listed = ", ".join(names[:_LISTED]) + more
    problem = f"no tensor {tensor!r}" if tensor else "more than one tensor"
    raise UserError(f"{path} has {problem}: name one behind #. It has {listed}.")


def _samples_of(path: Path, shape: Sequence[Any]) -> int | None:
    """How many samples an input of this shape takes; what is not a number above 0 is any."""
    known = [size if isinstance(size, int) and size > 0 else None for size in shape]
    if not known or any(size not in (1, None) for size in known[:-1]):
        raise UserError(
            f"{path} takes {list(shape)}; expected one channel of audio, (samples,) or (1, samples)."
        )
    return known[-1]


def _onnx_network(path: Path, content: bytes, tensor: str) -> _Network:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f"ONNX files need onnx and onnxruntime ({error}): {install_line('onnx')}") from None
    try:
        model = onnx.load_from_string(content)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # the parser and the runtime have errors of their own
        raise UserError(f"{path} is not an ONNX file that runs: {first_line(error)}.") from None
    inputs, outputs = session.get_inputs(), {each.name for each in session.get_outputs()}
    _chosen(path, tensor, [name for node in model.graph.node for name in node.output if name])
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        types = ", ".join(f"{each.name} {each.type}" for each in inputs)
        raise UserError(f"{path} takes {types}; expected one input of float32, audio.")
    if tensor not in outputs:
        model.graph.output.append(onnx.ValueInfoProto(name=tensor))
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name, rank = inputs[0].name, len(inputs[0].shape)

    def run(waveform: np.ndarray) -> np.ndarray:
        clip = waveform.astype(np.float32).reshape((1,) * (rank - 1) + (-1,))
        return np.asarray(session.run([tensor], {name: clip})[0])

    return _Network(_samples_of(path, inputs[0].shape), run)


def _tflite_network(path: Path, content: bytes, tensor: str) -> _Network:
    with installed("ai_edge_litert", "a TFLite file"):
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter

    from light_sernet_kd.runner import without_chatter

    editable = bytearray(content)
    try:
        # LiteRT trusts a flatbuffer's offsets; reading it all finds those that lead out of the file.
        schema.ModelT.InitFromPackedBuf(editable)
        graph = schema.Model.GetRootAs(editable, 0).Subgraphs(0)
        names = [graph.Tensors(index).Name().decode() for index in range(graph.TensorsLength())]
        made = {
            index for at in range(graph.OperatorsLength()) for index in graph.Operators(at).OutputsAsNumpy()
        }
    except Exception:  # a damaged flatbuffer fails in a dozen ways
        raise UserError(f"{path} is not a TFLite file or is damaged.") from None
    _chosen(path, tensor, [names[index] for index in sorted(made)])
    try:
        # the file's output is renumbered: to keep every tensor is debugging to LiteRT, and takes more memory
        graph.OutputsAsNumpy()[0] = names.index(tensor)
        with without_chatter():
            interpreter = Interpreter(model_content=bytes(editable), num_threads=1)
            interpreter.allocate_tensors()
    except Exception as error:
        raise UserError(f"{path} does not run: {first_line(error)}.") from None
    inputs = interpreter.get_input_details()
    if len(inputs) != 1 or inputs[0]["dtype"] is not np.float32:
        raise UserError(f"{path} takes {len(inputs)} inputs; expected one of float32, audio.")
    index, shape = inputs[0]["index"], inputs[0]["shape_signature"].tolist()

    def run(waveform: np.ndarray) -> np.ndarray:
        clip = waveform.astype(np.float32).reshape((1,) * (len(shape) - 1) + (-1,))
        if tuple(interpreter.get_input_details()[0]["shape"]) != clip.shape:
            interpreter.resize_tensor_input(index, clip.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(index, clip)
        interpreter.invoke()
        details = interpreter.get_output_details()[0]
        values = interpreter.get_tensor(details["index"]).astype(np.float32)
        scale, zero = details["quantization"]  # 0, 0 of float32
        return (values - zero) * np.float32(scale) if scale else values

    return _Network(_samples_of(path, shape), run)
