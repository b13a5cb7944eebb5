"""A trained Keras student as TFLite files that take audio, text or both and return probabilities or ratings.

Each file is made of the front end (where it takes audio), the student and, where it has classes, softmax.
They are converted apart and their flatbuffers joined, because only the student may be quantised: int8 mel and
DCT matrices would ruin the features, float16 would turn the front end's floor of 1e-9 into 0, and an int8
softmax has steps of 1/256. Folds then also share one converted front end.

The alternatives, as of TensorFlow 2.21: the converter leaves out operations only through its quantisation
debugger, by name. ai-edge-quantizer 0.10 pins LiteRT to one exact version and adds rescaling before the
concatenation; one student trained on EMO-DB came out with a mean difference of 0.036 from Keras'
probabilities, where the converter's int8 had 0.018.
"""

import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from light_sernet_kd import files, runner
from light_sernet_kd.config import CALIBRATION_CLIPS, PRECISIONS, SAMPLE_RATE, Dimensions
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.evaluation import UNSURE_BELOW
from light_sernet_kd.export.flatbuffer import ExportError, Part, is_builtin, joined, operator_names
from light_sernet_kd.export.parts import (
    converted,
    enrolled_part,
    front_end_function,
    front_end_part,
    softmax_part,
)
from light_sernet_kd.export.student_graph import (
    TEXT_INPUTS,
    check_shapes,
    input_names,
    number_type,
    outputs_in_order,
    without_logits,
)
from light_sernet_kd.features import feature_shape
from light_sernet_kd.registries.front_ends import FRONT_ENDS
from light_sernet_kd.students.enrolled import EnrolledHead
from light_sernet_kd.students.parameters import parameter_counts

CHECK_CLIPS = 8
# Of the float32 file's probabilities from Keras'; sums are taken in another order, nothing else differs.
TOLERANCE = 1e-4
ENROLLED_ENDING = "_enrolled.tflite"
DIMENSIONS = runner.DIMENSIONS  # the name of the output beside the probabilities, or in their place


@dataclass(frozen=True)
class Exported:
    """A finished file.

    Attributes:
        bytes: its size.
        max_probability_difference: largest difference of any class's probability between Keras and the
            file, over the check clips; None for a file without classes.
        enrolled: the file with the second signature, where there is one.
        max_dimension_difference: as of the probabilities, of the output `dimensions`; None without one.

    >>> Exported("int8", Path("result/student_int8.tflite"), 500_000, 0.02).path.name
    'student_int8.tflite'
    """

    precision: str
    path: Path
    bytes: int
    max_probability_difference: float | None
    enrolled: Path | None = None
    max_dimension_difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """What a student's files take, what they say of themselves, and where they go.

    Attributes:
        classes: names, in the order of the logits; none for a student of dimensions alone.
        representative: training examples by the names of the file's inputs (with `merge`), `(n, ...)` each;
            an array is `audio`, float32 `(n, samples)`. Some of them set the ranges of int8, and some are
            what the files are checked on.
        folder: of the files.
        card: more facts for `card.json`.
        front_end, input_type, samples: the front end that makes `features` of a clip; ignored where the
            student takes no features.
        text: the tokeniser that makes `token_ids` and `text_mask` of a text.
        encoders: by the name of an input of states, the encoder that makes them, for people to read.
        precisions: None takes all that the student can have.
        precision_cards: facts for the card of one precision alone, such as its scores.
        merge: if false, the files take `features` instead of `audio`.
        temperature: the probabilities are softmax(logits / temperature), in every precision; it is in the
            card. Nobody who runs a file applies it again; `p ** temperature`, normalised, undoes it. Without
            classes it is not used.
        training: the list of training recordings, as `training_list.packed` makes it.
        enrolled: the head for speakers of whom recordings are known, whose temperature is its own; with it,
            every precision has a second file. Of students of features alone, with `merge`.
        enrolled_cards: facts for the cards of the second files, by precision.
        dimensions: what the student's output `dimensions` holds; None for a student of logits alone.

    The default is every precision and a temperature of 1.

    >>> spec = ExportSpec(
    ...     classes=("anger", "fear"), front_end="lsn", input_type="mfcc", samples=16000,
    ...     representative=np.zeros((4, 16000), np.float32), folder=Path("exported"), card={},
    ... )
    >>> spec.precisions is None, spec.temperature
    (True, 1.0)
    """

    classes: Sequence[str]
    representative: np.ndarray | Mapping[str, np.ndarray]
    folder: Path
    card: Mapping[str, Any]
    front_end: str | None = None
    input_type: str | None = None
    samples: int | None = None
    text: runner.TextInput | None = None
    encoders: Mapping[str, str] | None = None
    precisions: Sequence[str] | None = None
    precision_cards: Mapping[str, Mapping[str, Any]] | None = None
    merge: bool = True
    temperature: float = 1.0
    training: bytes | None = None
    enrolled: EnrolledHead | None = None
    enrolled_cards: Mapping[str, Mapping[str, Any]] | None = None
    dimensions: Dimensions | None = None


def export(student: keras.Model, spec: ExportSpec) -> list[Exported]:
    """Write `labels.txt` and one `student_<precision>.tflite` per precision into the spec's folder.

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

    With `enrolled` there is also `student_<precision>_enrolled.tflite`, the same file with a second graph and
    signature of that name; MediaPipe takes files of one graph alone. The signature takes `audio`, `speaker`
    `[1, E]`, the mean embedding of other recordings of the speaker (see `training.enrolled`), and `clips`
    `[1, 1]`, how many these are, both float32. It gives `probabilities` and the clip's own `embedding`
    `[1, E]`.

    With `dimensions` every graph has a second output of that name, `[1, K]` float32: arousal and so on, with
    the ends of the corpus's scale as -1 and 1. They are not clipped. The archive has their names in
    `dimensions.txt`, too. With `dimensions` and no classes it is the only output: the file has no softmax,
    no `labels.txt` and no temperature, `classes` in its card is empty, and no file is for known speakers.

    Inside the flatbuffer is what MediaPipe and other apps read (see `metadata`), behind it a zip archive of
    `labels.txt`, `card.json`, for text `vocab.txt` and, where it is given, `training.bin`: `zipfile` opens
    the file itself. For a fold's student, name a temporary folder and the one precision that is to be scored.

    Args:
        student: from its inputs to logits `(batch, classes)`, or to `logits` and `dimensions`
            `(batch, K)`, a dictionary or the names of the layers. Without classes, to `(batch, K)` alone, or
            to both, of which the logits are left out. A single input of another name is `features`.

    Raises:
        ExportError: what the float32 file gives differs from Keras', or an operation is no builtin.
        UserError: an unknown name, a class name of several lines, a vocabulary that is not BERT's kind, int8
            where it is left out, a file for known speakers without classes, or Keras runs on another back
            end.

    An untrained student becomes a file that `Runner` reads.

    >>> from light_sernet_kd import students
    >>> student = students.build("light_sernet", feature_shape("lsn", "mfcc", 16000), 2, width=0.2)
    >>> clips = np.random.default_rng(0).normal(0, 0.1, (4, 16000)).astype(np.float32)
    >>> spec = ExportSpec(classes=("anger", "fear"), representative=clips, folder=Path("exported"), card={},
    ...                   front_end="lsn", input_type="mfcc", samples=16000, precisions=("float32",))
    >>> (exported,) = export(student, spec)
    >>> exported.path.name, runner.Runner(exported.path).labels
    ('student_float32.tflite', ('anger', 'fear'))
    """
    _check_spec(spec)
    if not spec.classes:
        student = without_logits(student)
    names = input_names(student)
    shapes, facts = _inputs_and_facts(student, names, spec)
    check_shapes(student, names, shapes, _output_widths(spec))
    examples = _examples(names, shapes, spec)
    precisions = _precisions(spec.precisions, names)
    facts = {**_card_of_inputs(names, spec), **facts, **_card_of_outputs(student, spec)}
    special = {name for each in (spec.precision_cards or {}).values() for name in each}
    if clash := {*spec.card, *special} & {*facts, "precision", "model_bytes", "model_sha256"}:
        raise ValueError(f"the card's {', '.join(sorted(clash))} is written by export itself")

    examples = {name: _spread(array, CALIBRATION_CLIPS) for name, array in examples.items()}
    student_inputs = _student_inputs(names, examples, spec)
    checked = _spread(np.arange(len(student_inputs[names[0]])), CHECK_CLIPS)
    inputs = {name: array[checked] for name, array in (examples if spec.merge else student_inputs).items()}
    outputs = outputs_in_order(
        student, names, {name: array[checked] for name, array in student_inputs.items()}
    )
    expected = {
        name: keras.ops.convert_to_numpy(array)
        for name, array in zip(_gives(spec), _answers(outputs, spec), strict=True)
    }

    outputs_of = tf.function(functools.partial(outputs_in_order, student, names)).get_concrete_function(
        {name: tf.TensorSpec((1, *shapes[name]), number_type(name), name=name) for name in names}
    )
    exported = []
    for precision in precisions:
        parts = _parts(outputs_of, precision, names, student_inputs.get("features", ()), spec)
        path = Path(spec.folder) / f"student_{precision}.tflite"
        own_card = (spec.precision_cards or {}).get(precision, {})
        card = {**facts, "precision": precision, **spec.card, **own_card}
        # Made before anything is written: a student that has no such file has none at all.
        write_enrolled = _enrolled_file(student, parts, card, spec)
        with files.atomic(path) as temporary:
            _write(temporary, joined(parts, card, beside=_beside(spec)), card, spec.text, spec.training)
            differences = _differences(temporary, inputs, expected)
            if precision == "float32":
                _check_differences(differences, path, spec.temperature)
        exported.append(
            Exported(
                precision,
                path,
                path.stat().st_size,
                differences.get(runner.PROBABILITIES),
                write_enrolled(),
                differences.get(DIMENSIONS),
            )
        )
    if spec.classes:
        files.write_text(Path(spec.folder) / "labels.txt", _labels_text(spec.classes))
    return exported


def _check_spec(spec: ExportSpec) -> None:
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"export needs Keras on TensorFlow, found {keras.backend.backend()}: "
            "set KERAS_BACKEND=tensorflow."
        )
    if broken := [name for name in spec.classes if name.splitlines() != [name]]:
        raise UserError(f"a class name must be one line, found {broken[0]!r}: rename it in the manifest.")
    if reserved := [name for name in spec.classes if runner.is_reserved(name)]:
        raise UserError(runner.RESERVED.format(reserved[0]))
    if spec.enrolled and not spec.merge:
        raise UserError(
            "a file for known speakers takes audio, and with merge=False a file takes features: leave out "
            "enrolled or merge=False."
        )
    if spec.enrolled and not spec.enrolled.prior_clips > 0:
        # With 0 recordings of the speaker, their share would be 0 / 0.
        raise ValueError(f"a prior of more than 0 clips was expected, found {spec.enrolled.prior_clips}")
    if not (spec.classes or spec.dimensions):
        raise ValueError("classes, dimensions or both were expected, found neither")
    if spec.enrolled and not spec.classes:
        raise UserError(
            "a student of dimensions alone has no file for known speakers, which are known for their "
            "classes: leave out enrolled."
        )
    if not 0 < spec.temperature < np.inf:
        raise ValueError(f"a temperature above 0 was expected, found {spec.temperature}")


def _check_differences(differences: Mapping[str, float], path: Path, temperature: float) -> None:
    for name, difference in differences.items():
        # A small temperature magnifies what the logits differ by.
        tolerance = TOLERANCE * (1.0 if name == DIMENSIONS else max(1.0, 1 / temperature))
        # Not `>`: a NaN must not pass.
        if not difference <= tolerance:
            raise ExportError(
                f"{name} of {path.name} differ from Keras' by {difference:.2g}, more than {tolerance:g}"
            )


def _beside_features(names: Sequence[str]) -> list[str]:
    """The student's inputs that are the file's own too."""
    return [name for name in names if name != "features"]


def _examples(
    names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], spec: ExportSpec
) -> dict[str, np.ndarray]:
    """The representative examples by the files' inputs, where the front end is in the file."""
    arrays = spec.representative
    examples = dict(arrays) if isinstance(arrays, Mapping) else {"audio": arrays}
    inputs = [*(["audio"] if "features" in names else []), *_beside_features(names)]
    _check_examples(examples, {name: shapes.get(name) or (spec.samples,) for name in inputs})
    if spec.text is not None:
        ids, last = examples["token_ids"], len(spec.text.vocabulary) - 1
        if ids.min() < 0 or ids.max() > last:
            raise ValueError(f"token_ids from 0 to {last} were expected, found {ids.min()} to {ids.max()}")
    return examples


def _student_inputs(
    names: Sequence[str], examples: Mapping[str, np.ndarray], spec: ExportSpec
) -> dict[str, np.ndarray]:
    """The examples by the student's inputs: features in the place of audio."""
    inputs = {name: examples[name] for name in _beside_features(names)}
    if "features" in names:
        features_of = front_end_function(spec.front_end, spec.input_type, spec.samples)
        features = [features_of(tf.constant(clip[None])) for clip in examples["audio"]]
        inputs["features"] = np.concatenate(features)
    return inputs


def _card_of_inputs(names: Sequence[str], spec: ExportSpec) -> dict[str, Any]:
    recorded = ["audio" if spec.merge else "features"] if "features" in names else []
    modes = [*recorded, *(["text"] if spec.text else []), *(["states"] if spec.encoders else [])]
    return {"input": " and ".join(modes), "inputs": [*recorded, *_beside_features(names)]}


def _card_of_outputs(student: keras.Model, spec: ExportSpec) -> dict[str, Any]:
    of_classes = {"temperature": spec.temperature, "unsure_below": UNSURE_BELOW} if spec.classes else {}
    return {
        "classes": list(spec.classes),
        **of_classes,
        **parameter_counts(student),
        **({DIMENSIONS: spec.dimensions.as_card()} if spec.dimensions else {}),
    }


def _output_widths(spec: ExportSpec) -> dict[str, int]:
    """What the student gives, in the order of `_outputs`."""
    widths = {"logits": len(spec.classes)} if spec.classes else {}
    return {**widths, DIMENSIONS: len(spec.dimensions.names)} if spec.dimensions else widths


def _beside(spec: ExportSpec) -> tuple[str, ...]:
    """The outputs of a file beside its probabilities, or in their place."""
    return (DIMENSIONS,) if spec.dimensions else ()


def _gives(spec: ExportSpec) -> tuple[str, ...]:
    """The outputs of a file."""
    return (*((runner.PROBABILITIES,) if spec.classes else ()), *_beside(spec))


def _answers(outputs: Sequence[Any], spec: ExportSpec) -> list[Any]:
    """What a file gives where its student gives these outputs, in the order of `_gives`."""
    if not spec.classes:
        return [*outputs]
    return [keras.ops.softmax(outputs[0] / spec.temperature), *outputs[1:]]


def _enrolled_file(
    student: keras.Model, parts: Sequence[Part], card: Mapping[str, Any], spec: ExportSpec
) -> Callable[[], Path | None]:
    """What writes the file that has the second signature too; it writes none where no head is given."""
    if spec.enrolled is None:
        return lambda: None
    precision = card["precision"]
    path = Path(spec.folder) / f"student_{precision}{ENROLLED_ENDING}"
    # What a profile of a speaker must agree with.
    weights = hashlib.sha256()
    for array in student.get_weights():
        weights.update(np.ascontiguousarray(array).data)
    enrolled = {"embedding": weights.hexdigest(), "width": len(spec.enrolled.mean)}
    card = {**card, "enrolled": enrolled, **(spec.enrolled_cards or {}).get(precision, {})}
    widths = [shape[-1] for shape in spec.enrolled.stages]
    model = joined(parts, card, enrolled_part(spec.enrolled), widths, _beside(spec))

    def write() -> Path:
        with files.atomic(path) as temporary:
            _write(temporary, model, card, spec.text, spec.training)
        return path

    return write


def _parts(
    outputs_of, precision: str, names: Sequence[str], features: Iterable[np.ndarray], spec: ExportSpec
) -> list[Part]:
    """Front end and softmax, where the file has them, and the student between them."""
    parts = [Part("student", converted(outputs_of, precision, features), gives=(*_output_widths(spec),))]
    if spec.classes:
        softmax = softmax_part(len(spec.classes), spec.temperature)
        parts.append(Part("softmax", softmax, gives=(runner.PROBABILITIES,)))
    if "features" in names and spec.merge:
        front_end = front_end_part(spec.front_end, spec.input_type, spec.samples)
        parts = [Part("front_end", front_end, gives=("features",)), *parts]
    return parts


def _inputs_and_facts(
    student: keras.Model, names: Sequence[str], spec: ExportSpec
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """The shape each input must have, without the batch axis, and what the card says about them."""
    front_end, input_type, samples, text = spec.front_end, spec.input_type, spec.samples, spec.text
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
    if spec.encoders:
        # Of states the student alone knows the shape.
        shape_of = {tensor.name: tensor.shape[1:] for tensor in student.inputs}
        shapes |= {name: tuple(shape_of.get(name, (None, None))) for name in spec.encoders}
        facts["states"] = {
            name: {"rows": shapes[name][0], "width": shapes[name][1], "encoder": encoder}
            for name, encoder in spec.encoders.items()
        }
    return shapes, facts


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


def _write(
    path: Path,
    model: bytes,
    card: Mapping[str, Any],
    text: runner.TextInput | None = None,
    training: bytes | None = None,
) -> None:
    """The flatbuffer, and behind it, where TFLite's metadata packs files, what a device must know."""
    foreign = [name for name in operator_names(model) if not is_builtin(name)]
    if foreign:
        raise ExportError(f"operations that TFLite lacks: {', '.join(sorted(set(foreign)))}")
    card = {**card, "model_bytes": len(model), "model_sha256": hashlib.sha256(model).hexdigest()}
    path.write_bytes(model)
    with zipfile.ZipFile(path, "a") as archive:
        axis = [("dimensions.txt", _labels_text(card[DIMENSIONS]["names"]))] if DIMENSIONS in card else []
        labels = [("labels.txt", _labels_text(card["classes"]))] if card["classes"] else []
        for name, content in (
            *labels,
            *axis,
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


def _differences(
    path: str | os.PathLike[str], inputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Largest difference of each of the file's outputs for `inputs` from the expected ones."""
    interpreter, _, _ = runner.open_file(path)
    count = len(next(iter(expected.values())))
    rows = [{name: array[i] for name, array in inputs.items()} for i in range(count)]
    outputs = [runner.outputs(interpreter, row) for row in rows]
    return {
        name: float(np.abs(np.array([each[name] for each in outputs]) - values).max())
        for name, values in expected.items()
    }
