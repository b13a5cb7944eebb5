"""A trained Keras student as TFLite files that take audio, text or both and return probabilities.

Each file is made of the front end (where it takes audio), the student and softmax. They are converted apart
and their flatbuffers joined, because only the student may be quantised: int8 mel and DCT matrices would ruin
the features, float16 would turn the front end's floor of 1e-9 into 0, and an int8 softmax has steps of 1/256.
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
import re
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
from tensorflow.lite.python.convert_phase import ConverterError

from light_sernet_kd import files, runner
from light_sernet_kd.config import CALIBRATION_CLIPS, PRECISIONS, SAMPLE_RATE
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.evaluation import UNSURE_BELOW
from light_sernet_kd.export import metadata
from light_sernet_kd.features import feature_shape, front_end_model
from light_sernet_kd.registries.front_ends import FRONT_ENDS

CHECK_CLIPS = 8
# Of the float32 file's probabilities from Keras'; sums are taken in another order, nothing else differs.
TOLERANCE = 1e-4
TEXT_INPUTS = ("token_ids", "text_mask")
STATE_INPUTS = ("text_states", "audio_states")


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
    representative: np.ndarray | Mapping[str, np.ndarray],
    folder: Path,
    card: Mapping[str, Any],
    front_end: str | None = None,
    input_type: str | None = None,
    samples: int | None = None,
    text: runner.TextInput | None = None,
    encoders: Mapping[str, str] | None = None,
    precisions: Sequence[str] | None = None,
    precision_cards: Mapping[str, Mapping[str, Any]] | None = None,
    merge: bool = True,
    temperature: float = 1.0,
    training: bytes | None = None,
) -> list[Exported]:
    """Write `labels.txt` and one `student_<precision>.tflite` per precision into `folder`.

    A file gives `probabilities` `[1, classes]` float32, has the signature `serving_default`, and is made of
    TFLite's builtin operations only. What it takes, `[1, ...]` each, follows from the names of the student's
    inputs:

    - `features`, of the front end's shape: the file takes `audio` `[1, samples]` float32, at 16 kHz and any
      level (`vggish`: as recorded);
    - `token_ids` and `text_mask`, int32 `(tokens,)`: the same;
    - `text_states` and `audio_states`, float32 `(rows, width)`: the same. Encoders that cannot be in the file
      made them.

    `float32` is the student as it is; `float16` and `dynamic` store its weights in 16 and 8 bits; `int8`
    computes in integers, and has too few steps for the quiet parts of `spectrogram` features, which are no
    logarithms. It is left out where a student takes anything else: a small BERT beside a convolution came
    out 18 times as far from Keras as in `dynamic`, which is as small (a mean difference of 0.054, not 0.003).

    Inside the flatbuffer is what MediaPipe and other apps read (see `metadata`), behind it a zip archive of
    `labels.txt`, `card.json`, for text `vocab.txt` and, where it is given, `training.bin`: `zipfile` opens
    the file itself. For a fold's
    student, name a temporary folder and the one precision that is to be scored.

    Args:
        student: from its inputs to logits `(batch, classes)`. A single input of another name is `features`.
        representative: training examples by the names of the file's inputs (with `merge`), `(n, ...)` each;
            an array is `audio`, float32 `(n, samples)`. Some of them set the ranges of int8, and some are
            what the files are checked on.
        card: more facts for `card.json`.
        front_end, input_type, samples: what makes `features` of a clip; of no matter where there are none.
        text: what makes `token_ids` and `text_mask` of a text.
        encoders: by the name of an input of states, what made them, for people to read.
        precisions: by default all that the student can have.
        precision_cards: facts for the card of one precision alone, such as its scores.
        merge: if false, the files take `features` instead of `audio`.
        temperature: the probabilities are softmax(logits / temperature), in every precision; it is in the
            card. Nobody who runs a file applies it again; `p ** temperature`, normalised, undoes it.
        training: the list of training recordings, as `training_list.packed` makes it.

    Raises:
        ExportError: the float32 file's probabilities differ from Keras', or an operation is no builtin.
        UserError: an unknown name, a class name of several lines, a vocabulary that is not BERT's kind, int8
            where it is left out, or Keras runs on another back end.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"export needs Keras on TensorFlow, found {keras.backend.backend()}: "
            "set KERAS_BACKEND=tensorflow."
        )
    if broken := [name for name in classes if name.splitlines() != [name]]:
        raise UserError(f"a class name must be one line, found {broken[0]!r}: rename it in the manifest.")
    if reserved := [name for name in classes if runner.is_reserved(name)]:
        raise UserError(runner.RESERVED.format(reserved[0]))
    if not 0 < temperature < np.inf:
        raise ValueError(f"a temperature above 0 was expected, found {temperature}")
    names = _input_names(student)
    shapes, facts = _inputs_and_facts(student, names, front_end, input_type, samples, text, encoders or {})
    hears = "features" in names
    # The files' inputs, and those of the examples: what the front end is given in the place of what it gives.
    taken = [name for name in names if name != "features"]
    recorded = ["audio"] if hears else []
    examples = dict(representative) if isinstance(representative, Mapping) else {"audio": representative}
    _check_shapes(student, names, shapes, classes)
    _check_examples(examples, {name: shapes.get(name) or (samples,) for name in [*recorded, *taken]})
    if text is not None:
        ids, last = examples["token_ids"], len(text.vocabulary) - 1
        if ids.min() < 0 or ids.max() > last:
            raise ValueError(f"token_ids from 0 to {last} were expected, found {ids.min()} to {ids.max()}")
    precisions = _precisions(precisions, names)
    modes = [
        *((["audio"] if merge else ["features"]) if hears else []),
        *(["text"] if text else []),
        *(["states"] if encoders else []),
    ]
    facts = {
        "input": " and ".join(modes),
        "inputs": [*(modes[:1] if hears else []), *taken],
        **facts,
        "classes": list(classes),
        "temperature": temperature,
        "unsure_below": UNSURE_BELOW,
        **parameter_counts(student),
    }
    own = {name for each in (precision_cards or {}).values() for name in each}
    if clash := {*card, *own} & {*facts, "precision", "model_bytes", "model_sha256"}:
        raise ValueError(f"the card's {', '.join(sorted(clash))} is written by export itself")

    examples = {name: _spread(array, CALIBRATION_CLIPS) for name, array in examples.items()}
    given = {name: examples[name] for name in taken}
    if hears:
        features_of = _front_end(front_end, input_type, samples)
        given["features"] = np.concatenate(
            [features_of(tf.constant(clip[None])) for clip in examples["audio"]]
        )
    checked = _spread(np.arange(len(given[names[0]])), CHECK_CLIPS)
    inputs = {name: array[checked] for name, array in (examples if merge else given).items()}
    logits = _logits(student, names, {name: array[checked] for name, array in given.items()})
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits / temperature))

    logits_of = tf.function(functools.partial(_logits, student, names)).get_concrete_function(
        {name: tf.TensorSpec((1, *shapes[name]), _dtype(name), name=name) for name in names}
    )
    exported = []
    # A small temperature magnifies what the logits differ by.
    tolerance = TOLERANCE * max(1.0, 1 / temperature)
    for precision in precisions:
        parts = [
            _Part("student", _convert(logits_of, precision, given.get("features", ())), gives="logits"),
            _Part("softmax", _softmax_part(len(classes), temperature), gives="probabilities"),
        ]
        if hears and merge:
            part = _front_end_part(front_end, input_type, samples)
            parts = [_Part("front_end", part, gives="features"), *parts]
        path = Path(folder) / f"student_{precision}.tflite"
        with files.atomic(path) as temporary:
            told = {**facts, "precision": precision, **card, **(precision_cards or {}).get(precision, {})}
            _write(temporary, _joined(parts, told), told, text, training)
            difference = _difference(temporary, inputs, expected)
            # Not `>`: a NaN must not pass.
            if precision == "float32" and not difference <= tolerance:
                raise ExportError(
                    f"probabilities of {path.name} differ from Keras' by {difference:.2g}, "
                    f"more than {tolerance:g}"
                )
        exported.append(Exported(precision, path, path.stat().st_size, difference))
    files.write_text(Path(folder) / "labels.txt", _labels_text(classes))
    return exported


def parameter_counts(model: keras.Model) -> dict[str, int]:
    """How many numbers a model holds, with and without its tables of tokens, positions and segments.

    `parameters` and `parameters_without_embeddings`; of the latter is the reduction of 44.9 % that DistilSER
    (ICTC 2024) reports.
    """
    sizes = [(weight.name == "embeddings", int(np.prod(weight.shape))) for weight in model.weights]
    return {
        "parameters": sum(size for _, size in sizes),
        "parameters_without_embeddings": sum(size for embeds, size in sizes if not embeds),
    }


def operator_names(content: bytes) -> list[str]:
    """The operations of a TFLite file's first graph, in order; what is no builtin has its own name."""
    model = schema.ModelT.InitFromPackedBuf(content)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}

    def name(code) -> str:
        # Numbers up to 127 are in the older, 8-bit field.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return code.customCode.decode() if code.customCode else names[number]

    return [name(model.operatorCodes[operator.opcodeIndex]) for operator in model.subgraphs[0].operators]


def _input_names(student: keras.Model) -> list[str]:
    names = [tensor.name for tensor in student.inputs]
    known = {"features", *TEXT_INPUTS, *STATE_INPUTS}
    return names if len(names) > 1 or names[0] in known else ["features"]


def _dtype(name: str) -> str:
    return "int32" if name in TEXT_INPUTS else "float32"


def _logits(student: keras.Model, names: Sequence[str], given: Mapping[str, Any]):
    """What the student makes of its inputs by name, however its inputs are nested."""
    values = keras.tree.pack_sequence_as(student.input, [given[name] for name in names])
    return student(values, training=False)


def _inputs_and_facts(
    student: keras.Model,
    names: Sequence[str],
    front_end: str | None,
    input_type: str | None,
    samples: int | None,
    text: runner.TextInput | None,
    encoders: Mapping[str, str],
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """The shape each input must have, without the batch axis, and what the card says about them."""
    shapes: dict[str, tuple[int, ...]] = {}
    facts: dict[str, Any] = {}
    if "features" in names:
        if front_end is None or input_type is None or samples is None:
            raise ValueError("a student of features needs front_end, input_type and samples")
        shapes["features"] = feature_shape(front_end, input_type, samples)
        facts |= {
            "sample_rate": SAMPLE_RATE,
            "samples": samples,
            "padding": FRONT_ENDS[front_end].padding,
            "front_end": front_end,
            "input_type": input_type,
        }
    if text is not None:
        try:
            text.tokenizer()
        except runner.RunnerError as error:
            raise UserError(str(error)) from None
        shapes |= dict.fromkeys(TEXT_INPUTS, (text.tokens,))
        facts["text"] = {
            "tokens": text.tokens,
            "lowercase": text.lowercase,
            "strip_accents": text.strip_accents,
            "cleaning": text.cleaning,
            "vocabulary_sha256": hashlib.sha256(_vocabulary_text(text).encode()).hexdigest(),
        }
    if encoders:
        # Of states the student alone knows the shape.
        found = {tensor.name: tensor.shape[1:] for tensor in student.inputs}
        shapes |= {name: tuple(found.get(name, (None, None))) for name in encoders}
        facts["states"] = {
            name: {"rows": shapes[name][0], "width": shapes[name][1], "encoder": encoder}
            for name, encoder in encoders.items()
        }
    return shapes, facts


def _check_shapes(student, names, shapes, classes) -> None:
    """Names, shapes and number types are those that the arguments promise."""
    if {*names} != {*shapes}:
        raise ValueError(
            f"a student of {', '.join(shapes) or 'nothing'} was expected after front_end, text and encoders, "
            f"found one of {', '.join(names)}"
        )
    for name, tensor in zip(names, student.inputs, strict=True):
        found, output, shape = tuple(tensor.shape[1:]), student.output_shape[1:], shapes[name]
        # An axis of any length gets the file's own.
        fits = len(found) == len(shape) and all(
            own in (None, size) for own, size in zip(found, shape, strict=True)
        )
        if not fits or None in shape or (tensor.dtype, output) != (_dtype(name), (len(classes),)):
            raise ValueError(
                f"a student from {name} {shape} {_dtype(name)} to {len(classes)} classes was "
                f"expected, found {found} {tensor.dtype} to {output}"
            )


def _check_examples(examples: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int | None, ...]]) -> None:
    if {*examples} != {*shapes}:
        raise ValueError(f"examples of {', '.join(shapes)} were expected, found {', '.join(examples)}")
    count = len(next(iter(examples.values())))
    for name, array in examples.items():
        if array.shape != (count, *shapes[name]) or not count:
            raise ValueError(
                f"{name} of shape ({count or 'n'}, {', '.join(map(str, shapes[name]))}) was expected, "
                f"found {array.shape}"
            )


def _precisions(wanted: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    possible = [each for each in PRECISIONS if each != "int8" or [*names] == ["features"]]
    chosen = [choose("precision", each, PRECISIONS) for each in (possible if wanted is None else wanted)]
    if left_out := {*chosen} - {*possible}:
        raise UserError(
            f"{', '.join(left_out)} is for students of audio alone, and this one takes {', '.join(names)}: "
            f"take {', '.join(possible)}."
        )
    return chosen


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
    # TensorFlow warns of every lookup table in the process, such as those of keras-hub's tokenisers.
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel("ERROR")
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
    except ConverterError as error:
        if not (lacking := re.findall(r"'tf\.(\w+)' op is neither", str(error))):
            raise
        raise ExportError(f"operations that TFLite lacks: {', '.join(sorted({*lacking}))}") from error
    finally:
        absl_logging.set_verbosity(absl_level)
        logger.setLevel(level)


def _one_by_one(features: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for clip in features:
        yield [clip[None]]


@functools.lru_cache(maxsize=4)
def _front_end(front_end: str, input_type: str, samples: int):
    model = front_end_model(front_end, input_type, samples)
    return _traced(lambda tensor: model(tensor, training=False), (samples,), "audio")


@functools.lru_cache(maxsize=4)
def _front_end_part(front_end: str, input_type: str, samples: int) -> bytes:
    model = front_end_model(front_end, input_type, samples, on_device=True)
    traced = _traced(lambda tensor: model(tensor, training=False), (samples,), "audio")
    return _convert(traced, "float32")


@functools.lru_cache(maxsize=4)
def _softmax_part(classes: int, temperature: float = 1.0) -> bytes:
    # SOFTMAX has a factor of its own, beta, but XNNPACK takes it with a beta of 1 alone.
    def scaled(logits):
        return tf.nn.softmax(logits if temperature == 1 else logits * (1 / temperature))

    return _convert(_traced(scaled, (classes,), "logits"), "float32")


class _AlignedBuffer(schema.BufferT):
    """A constant at a multiple of 16 bytes, as TFLite's schema demands and the Python writer forgets."""

    def Pack(self, builder: Builder) -> int:  # noqa: N802
        # The writer works from the end of the file: it pads here, so that the data will begin aligned.
        builder.Prep(16, len(self.data))
        return super().Pack(builder)


@dataclass(frozen=True)
class _Part:
    """A flatbuffer whose inputs are named after what they take; `gives` names its only output."""

    name: str
    content: bytes
    gives: str


def _joined(parts: Sequence[_Part], card: Mapping[str, Any]) -> bytes:
    """One flatbuffer from several, linked by names: what no part before gives is an input of the whole.

    Its output is that of the last part. It holds the TFLite metadata that the card's facts make.
    """
    graph = schema.SubGraphT(name="main", tensors=[], operators=[], inputs=[])
    model = schema.ModelT(
        version=3,
        description="light-sernet-kd",
        operatorCodes=[],
        subgraphs=[graph],
        buffers=[schema.BufferT()],  # the first is empty by convention: tensors that are no constants
    )
    linked: dict[str, int] = {}  # tensors by the names of inputs and outputs
    runtimes = []
    for part in parts:
        content = schema.ModelT.InitFromPackedBuf(part.content)
        (part_graph,) = content.subgraphs  # a second one would mean a loop or a branch
        (part_output,) = part_graph.outputs
        names = {index: part_graph.tensors[index].name.decode() for index in part_graph.inputs}
        new_index = {-1: -1}  # -1 stands for an input that is left out, such as a bias
        for index, name in names.items():
            if name in linked:
                given, taken = graph.tensors[linked[name]], part_graph.tensors[index]
                if [*given.shape] != [*taken.shape] or given.type != taken.type:
                    raise ExportError(
                        f"the {part.name} takes {name} {[*taken.shape]} where {[*given.shape]} is given"
                    )
                new_index[index] = linked[name]
        new_buffer = {}
        for index, tensor in enumerate(part_graph.tensors):
            if index in new_index:
                continue
            data = content.buffers[tensor.buffer].data
            if data is None or not len(data):
                tensor.buffer = 0
            else:
                if tensor.buffer not in new_buffer:
                    new_buffer[tensor.buffer] = len(model.buffers)
                    model.buffers.append(_AlignedBuffer(data))
                tensor.buffer = new_buffer[tensor.buffer]
            tensor.name = f"{part.name}/{tensor.name.decode()}"
            new_index[index] = len(graph.tensors)
            graph.tensors.append(tensor)
        for operator in part_graph.operators:
            operator.opcodeIndex += len(model.operatorCodes)
            operator.inputs = [new_index[index] for index in operator.inputs]
            operator.outputs = [new_index[index] for index in operator.outputs]
        graph.operators += part_graph.operators
        model.operatorCodes += content.operatorCodes
        runtimes += [
            bytes(content.buffers[entry.buffer].data).rstrip(b"\0").decode()
            for entry in content.metadata or ()
            if entry.name.decode() == metadata.RUNTIME_ENTRY
        ]
        graph.inputs += [new_index[index] for index, name in names.items() if name not in linked]
        linked |= {name: new_index[index] for index, name in names.items()}
        linked[part.gives] = new_index[part_output]
        graph.outputs = [new_index[part_output]]
    _pools_as_convolutions(model)
    ends = {index: name for name, index in linked.items() if index in [*graph.inputs, *graph.outputs]}
    for index, name in ends.items():
        graph.tensors[index].name = name

    def signature(indices):
        return [schema.TensorMapT(name=ends[index], tensorIndex=index) for index in indices]

    model.signatureDefs = [
        schema.SignatureDefT(
            signatureKey="serving_default",
            inputs=signature(graph.inputs),
            outputs=signature(graph.outputs),
            subgraphIndex=0,
        )
    ]
    described = metadata.packed(card, [ends[index] for index in graph.inputs])
    entries = {metadata.ENTRY: described}
    if runtimes:
        # What runs every part runs the whole.
        newest = max(runtimes, key=lambda version: [int(number) for number in version.split(".")])
        entries[metadata.RUNTIME_ENTRY] = newest.encode().ljust(16, b"\0")
    model.metadata = []
    for name, content in entries.items():
        model.metadata.append(schema.MetadataT(name=name, buffer=len(model.buffers)))
        model.buffers.append(_AlignedBuffer(np.frombuffer(content, np.uint8)))
    builder = Builder(sum(len(part.content) for part in parts) + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _pools_as_convolutions(model: schema.ModelT) -> None:
    """Write int8 average pools as depthwise convolutions, which give the same means.

    XNNPACK takes average pools of floats alone: each int8 one ended a delegated part of the graph, and was
    itself slow. Light-SERNet's network takes 0.63 of the time so, and is nearer to Keras'.
    """
    graph, builtin = model.subgraphs[0], schema.BuiltinOperator
    operators = []

    def add(kind: str, version: int, inputs, output: int) -> None:
        """An operation with the schema's default options, into which the caller writes its own."""
        number = getattr(builtin, kind)
        code = schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=number, version=version)
        model.operatorCodes.append(code)
        options = {"SLICE": "Slice", "CONCATENATION": "Concatenation", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}
        name = f"{options[kind]}Options"
        operators.append(
            schema.OperatorT(
                opcodeIndex=len(model.operatorCodes) - 1,
                inputs=inputs,
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, name),
                builtinOptions=getattr(schema, f"{name}T")(),
            )
        )

    def tensor(name: str, shape, kind: int, data: np.ndarray | None = None, quantization=None) -> int:
        buffer = 0
        if data is not None:
            buffer = len(model.buffers)
            model.buffers.append(_AlignedBuffer(np.frombuffer(data.tobytes(), np.uint8)))
        graph.tensors.append(
            schema.TensorT(shape=[*shape], type=kind, buffer=buffer, name=name, quantization=quantization)
        )
        return len(graph.tensors) - 1

    def constant(name: str, data: np.ndarray, scale: float | None = None) -> int:
        kind = schema.TensorType.INT8 if data.dtype == np.int8 else schema.TensorType.INT32
        steps = None if scale is None else schema.QuantizationParametersT(scale=[scale], zeroPoint=[0])
        return tensor(name, data.shape, kind, data, steps)

    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        taken, given = operator.inputs[0], operator.outputs[0]
        source = graph.tensors[taken]
        if code.deprecatedBuiltinCode != builtin.AVERAGE_POOL_2D or source.type != schema.TensorType.INT8:
            operators.append(operator)
            continue
        pool, name = operator.builtinOptions, graph.tensors[given].name
        size = (pool.filterHeight, pool.filterWidth)
        short = [-length % wide for length, wide in zip(source.shape[1:3], size, strict=True)]
        same = pool.padding == schema.Padding.SAME
        if size != (pool.strideH, pool.strideW) or (same and max(short) > 1) or (same and max(size) > 2):
            operators.append(operator)
            continue
        for axis, lacking in enumerate(short, start=1):
            if not (same and lacking):
                continue
            # The pool's mean at the edge is that of the row itself: so is the mean of the row and its copy.
            shape = [int(length) for length in graph.tensors[taken].shape]
            first = np.where(np.arange(4) == axis, shape[axis] - 1, 0).astype(np.int32)
            edge_shape = np.where(np.arange(4) == axis, 1, shape).astype(np.int32)
            edge = tensor(f"{name}/edge{axis}", edge_shape, source.type, None, source.quantization)
            bounds = [constant(f"{name}/from{axis}", first), constant(f"{name}/size{axis}", edge_shape)]
            add("SLICE", 2, [taken, *bounds], edge)
            shape[axis] += 1
            longer = tensor(f"{name}/longer{axis}", shape, source.type, None, source.quantization)
            add("CONCATENATION", 2, [taken, edge], longer)
            operators[-1].builtinOptions.axis = axis
            taken = longer
        # A power of two: products are then exact, and half a step goes to the even one, not to one side.
        channels, scale = int(source.shape[3]), 1.0 / (64 * size[0] * size[1])
        weights = constant(f"{name}/weights", np.full((1, *size, channels), 64, np.int8), scale)
        bias_scale = float(source.quantization.scale[0]) * scale
        bias = constant(f"{name}/bias", np.zeros(channels, np.int32), bias_scale)
        add("DEPTHWISE_CONV_2D", 3, [taken, weights, bias], given)
        options = operators[-1].builtinOptions
        options.padding = schema.Padding.VALID
        options.strideH, options.strideW, options.depthMultiplier = *size, 1
        options.fusedActivationFunction = pool.fusedActivationFunction
    graph.operators = operators


def _write(
    path: Path,
    model: bytes,
    card: Mapping[str, Any],
    text: runner.TextInput | None = None,
    training: bytes | None = None,
) -> None:
    """The flatbuffer, and behind it, where TFLite's metadata packs files, what a device must know."""
    foreign = [name for name in operator_names(model) if not hasattr(schema.BuiltinOperator, name)]
    if foreign:
        raise ExportError(f"operations that TFLite lacks: {', '.join(sorted(set(foreign)))}")
    card = {**card, "model_bytes": len(model), "model_sha256": hashlib.sha256(model).hexdigest()}
    path.write_bytes(model)
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in (
            ("labels.txt", _labels_text(card["classes"])),
            ("card.json", json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
        ):
            # A fixed date, 1980-01-01: the same student gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content)
        if text is not None:
            archive.writestr(zipfile.ZipInfo("vocab.txt"), _vocabulary_text(text), zipfile.ZIP_DEFLATED)
        if training is not None:
            archive.writestr(zipfile.ZipInfo("training.bin"), training)


def _labels_text(classes: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in classes)


def _vocabulary_text(text: runner.TextInput) -> str:
    return "".join(f"{token}\n" for token in text.vocabulary)


def _difference(
    path: str | os.PathLike[str], inputs: Mapping[str, np.ndarray], expected: np.ndarray
) -> float:
    """Largest difference of the file's probabilities for `inputs` from the expected ones."""
    interpreter, _, _ = runner.open_file(path)
    rows = [{name: array[i] for name, array in inputs.items()} for i in range(len(expected))]
    found = [runner.invoke(interpreter, row) for row in rows]
    return float(np.abs(np.array(found) - expected).max())
