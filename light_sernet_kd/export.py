"""A trained Keras student as TFLite files that take audio and return probabilities.

Each file is a chain of three parts: the front end, the student, softmax. They are converted apart and their
flatbuffers joined, because only the student may be quantised: int8 mel and DCT matrices would ruin the
features, float16 would turn the front end's floor of 1e-9 into 0, and an int8 softmax has steps of 1/256.
Folds then also share one converted front end.

The alternatives, as of TensorFlow 2.21: the converter leaves out operations only through its quantisation
debugger, by name. ai-edge-quantizer 0.10 pins LiteRT to one exact version and adds rescaling before the
concatenation; one student trained on EMO-DB came out with a mean difference of 0.036 from Keras'
probabilities, where the converter's int8 had 0.018.
"""

import functools
import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging as absl_logging
from flatbuffers import Builder
from tensorflow.lite.python import schema_py_generated as schema

from light_sernet_kd import files, runner
from light_sernet_kd.config import PRECISIONS, SAMPLE_RATE, UserError, choose
from light_sernet_kd.features import PADDING, feature_shape, front_end_model

# On EMO-DB 16 clips gave ranges as good as 400 did; each costs up to 20 ms.
CALIBRATION_CLIPS = 64
CHECK_CLIPS = 8
# Of the float32 file's probabilities from Keras'; sums are taken in another order, nothing else differs.
TOLERANCE = 1e-4


class ExportError(RuntimeError):
    """The converter made a file that does not do what the student does."""


@dataclass(frozen=True)
class Exported:
    """A finished file.

    Attributes:
        bytes: its size.
        max_probability_difference: largest difference of any class's probability between Keras and the
            file, over the check clips.
    """

    precision: str
    path: Path
    bytes: int
    max_probability_difference: float


def export(
    student: keras.Model,
    *,
    classes: Sequence[str],
    front_end: str,
    input_type: str,
    samples: int,
    representative: np.ndarray,
    folder: Path,
    card: Mapping[str, Any],
    precisions: Sequence[str] = PRECISIONS,
    merge: bool = True,
) -> list[Exported]:
    """Write `labels.txt` and one `student_<precision>.tflite` per precision into `folder`.

    A file maps `audio` `[1, samples]` (16 kHz, any level) to `probabilities` `[1, classes]`, both float32,
    with the signature `serving_default`, and is made of TFLite's builtin operations only. `float32` is the
    student as it is; `float16` and `dynamic` store its weights in 16 and 8 bits; `int8` computes in integers,
    and has too few steps for the quiet parts of `spectrogram` features, which are no logarithms.
    Behind the flatbuffer is a zip archive of `labels.txt` and `card.json`: `zipfile` opens the file itself.
    For a fold's student, name a temporary folder and the one precision that is to be scored.

    Args:
        student: from features `(batch, frames, features, 1)` to logits `(batch, classes)`.
        representative: training clips, float32 `(n, samples)`; some of them set the ranges of int8, and
            some are what the files are checked on.
        card: more facts for `card.json`.
        merge: if false, the files take `features` `[1, frames, features, 1]` instead of `audio`.

    Raises:
        ExportError: the float32 file's probabilities differ from Keras', or an operation is no builtin.
        UserError: an unknown name, a class name of several lines, or Keras runs on another back end.
    """
    shape = feature_shape(front_end, input_type, samples)
    _check_arguments(student, shape, classes, samples, representative)
    precisions = [choose("precision", precision, PRECISIONS) for precision in precisions]
    facts = {
        "input": "audio" if merge else "features",
        "sample_rate": SAMPLE_RATE,
        "samples": samples,
        "padding": PADDING[front_end],
        "front_end": front_end,
        "input_type": input_type,
        "classes": list(classes),
    }
    if taken := card.keys() & {*facts, "precision", "model_bytes", "model_sha256"}:
        raise ValueError(f"the card's {', '.join(sorted(taken))} is written by export itself")

    features_of = _front_end(front_end, input_type, samples)
    clips = _spread(representative, CALIBRATION_CLIPS)
    features = np.concatenate([features_of(tf.constant(clip[None])) for clip in clips])
    checked = _spread(np.arange(len(clips)), CHECK_CLIPS)
    inputs = (clips if merge else features)[checked]
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(student(features[checked], training=False)))

    logits_of = _traced(lambda tensor: student(tensor, training=False), shape, "features")
    exported = []
    for precision in precisions:
        parts = {"student": _convert(logits_of, precision, features), "softmax": _softmax_part(len(classes))}
        if merge:
            parts = {"front_end": _front_end_part(front_end, input_type, samples), **parts}
        model = _joined(parts, input_name="audio" if merge else "features", output_name="probabilities")
        path = Path(folder) / f"student_{precision}.tflite"
        with files.atomic(path) as temporary:
            _write(temporary, model, {**facts, "precision": precision, **card})
            difference = _difference(temporary, inputs, expected)
            # Not `>`: a NaN must not pass.
            if precision == "float32" and not difference <= TOLERANCE:
                raise ExportError(
                    f"probabilities of {path.name} differ from Keras' by {difference:.2g}, "
                    f"more than {TOLERANCE:g}"
                )
        exported.append(Exported(precision, path, path.stat().st_size, difference))
    files.write_text(Path(folder) / "labels.txt", _labels_text(classes))
    return exported


def operator_names(content: bytes) -> list[str]:
    """The operations of a TFLite file's first graph, in order; what is no builtin has its own name."""
    model = schema.ModelT.InitFromPackedBuf(content)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}

    def name(code) -> str:
        # Numbers up to 127 are in the older, 8-bit field.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return code.customCode.decode() if code.customCode else names[number]

    return [name(model.operatorCodes[operator.opcodeIndex]) for operator in model.subgraphs[0].operators]


def _check_arguments(student, shape, classes, samples, representative) -> None:
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"export needs Keras on TensorFlow, found {keras.backend.backend()}: "
            "set KERAS_BACKEND=tensorflow."
        )
    if broken := [name for name in classes if name.splitlines() != [name]]:
        raise UserError(f"a class name must be one line, found {broken[0]!r}: rename it in the manifest.")
    if student.input_shape[1:] != shape or student.output_shape[1:] != (len(classes),):
        raise ValueError(
            f"a student from {shape} to {len(classes)} classes was expected, "
            f"found {student.input_shape[1:]} to {student.output_shape[1:]}"
        )
    if representative.ndim != 2 or representative.shape[1] != samples or not len(representative):
        raise ValueError(f"clips of shape (n, {samples}) were expected, found {representative.shape}")


def _spread(items: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the items, evenly spread: a corpus is sorted by speaker."""
    return items[np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)]


def _traced(function: Callable, shape: Sequence[int], name: str):
    """A TensorFlow function of one clip."""
    return tf.function(function).get_concrete_function(tf.TensorSpec((1, *shape), tf.float32, name=name))


def _convert(function, precision: str, features: Iterable[np.ndarray] = ()) -> bytes:
    """A flatbuffer of one part; `features` are what int8 is calibrated with."""
    # Without `trackable_obj` the converter freezes the variables in memory, and says that this is deprecated;
    # with it, it writes a SavedModel for every precision and takes three times as long.
    absl_level = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        with runner.without_chatter(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if precision == "int8":
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.representative_dataset = functools.partial(_one_by_one, features)
            return converter.convert()
    finally:
        absl_logging.set_verbosity(absl_level)


def _one_by_one(features: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for clip in features:
        yield [clip[None]]


@functools.lru_cache(maxsize=4)
def _front_end(front_end: str, input_type: str, samples: int):
    model = front_end_model(front_end, input_type, samples)
    return _traced(lambda tensor: model(tensor, training=False), (samples,), "audio")


@functools.lru_cache(maxsize=4)
def _front_end_part(front_end: str, input_type: str, samples: int) -> bytes:
    return _convert(_front_end(front_end, input_type, samples), "float32")


@functools.lru_cache(maxsize=4)
def _softmax_part(classes: int) -> bytes:
    return _convert(_traced(tf.nn.softmax, (classes,), "logits"), "float32")


class _AlignedBuffer(schema.BufferT):
    """A constant at a multiple of 16 bytes, as TFLite's schema demands and the Python writer forgets."""

    def Pack(self, builder: Builder) -> int:  # noqa: N802
        # The writer works from the end of the file: it pads here, so that the data will begin aligned.
        builder.Prep(16, len(self.data))
        return super().Pack(builder)


def _joined(parts: Mapping[str, bytes], *, input_name: str, output_name: str) -> bytes:
    """One flatbuffer from several: each part's only input is the only output of the part before it."""
    graph = schema.SubGraphT(name="main", tensors=[], operators=[])
    model = schema.ModelT(
        version=3,
        description="light-sernet-kd",
        operatorCodes=[],
        subgraphs=[graph],
        buffers=[schema.BufferT()],  # the first is empty by convention: tensors that are no constants
    )
    output = None
    for part_name, content in parts.items():
        part = schema.ModelT.InitFromPackedBuf(content)
        (part_graph,) = part.subgraphs  # a second one would mean a loop or a branch
        (part_input,), (part_output,) = part_graph.inputs, part_graph.outputs
        new_index = {-1: -1}  # -1 stands for an input that is left out, such as a bias
        if output is not None:
            given, taken = graph.tensors[output], part_graph.tensors[part_input]
            if [*given.shape] != [*taken.shape] or given.type != taken.type:
                raise ExportError(f"the {part_name} takes {[*taken.shape]} where {[*given.shape]} is given")
            new_index[part_input] = output
        new_buffer = {}
        for index, tensor in enumerate(part_graph.tensors):
            if index in new_index:
                continue
            data = part.buffers[tensor.buffer].data
            if data is None or not len(data):
                tensor.buffer = 0
            else:
                if tensor.buffer not in new_buffer:
                    new_buffer[tensor.buffer] = len(model.buffers)
                    model.buffers.append(_AlignedBuffer(data))
                tensor.buffer = new_buffer[tensor.buffer]
            tensor.name = f"{part_name}/{tensor.name.decode()}"
            new_index[index] = len(graph.tensors)
            graph.tensors.append(tensor)
        for operator in part_graph.operators:
            operator.opcodeIndex += len(model.operatorCodes)
            operator.inputs = [new_index[index] for index in operator.inputs]
            operator.outputs = [new_index[index] for index in operator.outputs]
        graph.operators += part_graph.operators
        model.operatorCodes += part.operatorCodes
        if output is None:
            graph.inputs = [new_index[part_input]]
        output = new_index[part_output]
    graph.outputs = [output]
    ends = {}
    for name, (index,) in ((input_name, graph.inputs), (output_name, graph.outputs)):
        graph.tensors[index].name = name
        ends[name] = [schema.TensorMapT(name=name, tensorIndex=index)]
    model.signatureDefs = [
        schema.SignatureDefT(
            signatureKey="serving_default",
            inputs=ends[input_name],
            outputs=ends[output_name],
            subgraphIndex=0,
        )
    ]
    builder = Builder(sum(map(len, parts.values())) + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _write(path: Path, model: bytes, card: Mapping[str, Any]) -> None:
    """The flatbuffer, and behind it, where TFLite's metadata packs files, what a device must know."""
    foreign = [name for name in operator_names(model) if not hasattr(schema.BuiltinOperator, name)]
    if foreign:
        raise ExportError(f"operations that TFLite lacks: {', '.join(sorted(set(foreign)))}")
    card = {**card, "model_bytes": len(model), "model_sha256": hashlib.sha256(model).hexdigest()}
    path.write_bytes(model)
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in (
            ("labels.txt", _labels_text(card["classes"])),
            ("card.json", json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
        ):
            # A fixed date, 1980-01-01: the same student gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), text)


def _labels_text(classes: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in classes)


def _difference(path: str | os.PathLike[str], inputs: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of the file's probabilities for `inputs` from the expected ones."""
    interpreter, _, _ = runner.open_file(path)
    found = [runner.invoke(interpreter, clip) for clip in inputs]
    return float(np.abs(np.array(found) - expected).max())
