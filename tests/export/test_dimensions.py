"""Files with a second output, arousal and so on, against the Keras student that they were made of."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from exported_cases import CARD, CLASSES, SAMPLES, Case, clips
from keras import ops

from light_sernet_kd import features, runner
from light_sernet_kd.config import PRECISIONS, Dimensions
from light_sernet_kd.export.tflite import ExportSpec, export
from light_sernet_kd.students.enrolled import EnrolledHead

DIMENSIONS = Dimensions(("arousal", "valence", "dominance"), (1.0, 5.0))
# Largest difference from Keras' over all clips, about twice what was measured; values differ between clips
# by 1.2 in the mean.
BOUNDS = {"float32": 3e-5, "float16": 0.005, "dynamic": 0.1, "int8": 0.25}


def small_student(inputs: np.ndarray) -> keras.Model:
    """Two heads on a small network, whose logits tell the inputs apart and whose dimensions fill ±1."""
    keras.utils.set_random_seed(4)
    taken = keras.Input(inputs.shape[1:])
    maps = keras.layers.Conv2D(16, 5, strides=(2, 2), activation="relu")(taken)
    maps = keras.layers.Conv2D(24, 3, activation="relu")(keras.layers.AveragePooling2D(2)(maps))
    embedding = keras.layers.GlobalAveragePooling2D()(maps)
    widths = {"logits": len(CLASSES), "dimensions": len(DIMENSIONS.names)}
    student = keras.Model(
        taken, {name: keras.layers.Dense(width, name=name)(embedding) for name, width in widths.items()}
    )
    given = student(inputs, training=False)
    for name, spread in (("logits", 2.0), ("dimensions", 0.6)):
        values, layer = ops.convert_to_numpy(given[name]), student.get_layer(name)
        kernel, _ = layer.get_weights()
        scale = spread / values.std(axis=0)
        layer.set_weights([kernel * scale, -values.mean(axis=0) * scale])
    return student


def head_of(student: keras.Model) -> EnrolledHead:
    kernel, bias = student.get_layer("logits").get_weights()
    return EnrolledHead(np.zeros(len(kernel), np.float32), 2.0, kernel, bias, ((len(kernel),),))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    """Every precision, each with the second file for known speakers."""
    waveforms = clips(24, SAMPLES)
    front_end = features.front_end_model("lsn", "mfcc", SAMPLES)
    student = small_student(ops.convert_to_numpy(front_end(waveforms)))
    spec = specification(waveforms, tmp_path_factory.mktemp("dimensions"), enrolled=head_of(student))
    return Case(student, front_end, waveforms, export(student, spec))


def specification(waveforms, folder: Path, **others) -> ExportSpec:
    facts = {
        "classes": CLASSES, "front_end": "lsn", "input_type": "mfcc", "samples": SAMPLES, "card": CARD,
        "representative": waveforms, "folder": folder, "dimensions": DIMENSIONS, "temperature": 1.7,
    }  # fmt: skip
    return ExportSpec(**{**facts, **others})


@pytest.fixture(scope="module")
def expected(case) -> dict[str, np.ndarray]:
    """What Keras gives for all clips."""
    given = case.student(case.front_end(case.clips), training=False)
    return {
        "probabilities": ops.convert_to_numpy(ops.softmax(given["logits"] / 1.7)),
        "dimensions": ops.convert_to_numpy(given["dimensions"]),
    }


def by_litert(path: Path, clip: np.ndarray, signature="serving_default") -> dict[str, np.ndarray]:
    """By LiteRT alone, through a signature."""
    run = Interpreter(model_path=str(path)).get_signature_runner(signature)
    return {name: array[0] for name, array in run(audio=clip[None]).items()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_gives_the_dimensions_and_probabilities_of_keras(case, expected, precision):
    path = case.paths[precision]
    found = [by_litert(path, clip) for clip in case.clips]
    assert {*found[0]} == {"probabilities", "dimensions"}
    for name, values in expected.items():
        difference = np.abs(np.array([each[name] for each in found]) - values).max()
        print(precision, name, difference)
        assert difference < (BOUNDS[precision] if name == "dimensions" else 0.3)
    assert np.std(expected["dimensions"], axis=0).min() > 0.3
    (exported,) = (each for each in case.exported if each.precision == precision)
    assert exported.max_dimension_difference <= BOUNDS[precision]


def test_a_file_names_its_outputs_and_says_what_they_hold(case):
    for path in [*case.paths.values(), *case.enrolled_paths.values()]:
        interpreter, card, _ = runner.open_file(path)
        details = {each["name"]: each for each in interpreter.get_output_details()}
        # The first is the one that an app reads which knows of one alone.
        assert [*details] == ["probabilities", "dimensions"]
        assert details["dimensions"]["shape"].tolist() == [1, 3]
        assert details["dimensions"]["dtype"] == np.float32
        assert card["dimensions"] == {"names": ["arousal", "valence", "dominance"], "range": [1.0, 5.0]}
        with zipfile.ZipFile(path) as archive:
            assert archive.read("dimensions.txt").decode().split() == card["dimensions"]["names"]
