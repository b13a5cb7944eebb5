"""Files with arousal and so on beside their classes or in their place, against the Keras student of each."""

import base64
import json
import zipfile
from collections import Counter
from pathlib import Path

import keras
import metadata_reader
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from exported_cases import CARD, CLASSES, RATED, SAMPLES, Case, rated_case
from keras import ops

from light_sernet_kd import audio, runner
from light_sernet_kd.config import PRECISIONS, Dimensions
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import golden, metadata
from light_sernet_kd.export.flatbuffer import operator_names
from light_sernet_kd.export.tflite import Exported, ExportError, ExportSpec, export
from light_sernet_kd.students.enrolled import EnrolledHead

# Largest difference from Keras' over all clips, about twice what was measured; values differ between clips
# by 1.2 in the mean.
BOUNDS = {"float32": 3e-5, "float16": 0.005, "dynamic": 0.1, "int8": 0.25}


def head_of(student: keras.Model) -> EnrolledHead:
    kernel, bias = student.get_layer("logits").get_weights()
    return EnrolledHead(np.zeros(len(kernel), np.float32), 2.0, kernel, bias, ((len(kernel),),))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return rated_case(SAMPLES, tmp_path_factory.mktemp("dimensions"))


@pytest.fixture(scope="module")
def enrolled(case, tmp_path_factory) -> Path:
    """The int8 file for known speakers."""
    spec = specification(
        case, tmp_path_factory.mktemp("enrolled"), precisions=["int8"], enrolled=head_of(case.student)
    )
    (exported,) = export(case.student, spec)
    return exported.enrolled


def specification(case, folder: Path, **others) -> ExportSpec:
    facts = {
        "classes": CLASSES, "front_end": "lsn", "input_type": "mfcc", "samples": SAMPLES, "card": CARD,
        "representative": case.clips, "folder": folder, "dimensions": RATED, "temperature": 1.7,
        "precisions": ["float32"],
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
        assert difference < (BOUNDS[precision] if name == "dimensions" else 0.3)
    assert np.std(expected["dimensions"], axis=0).min() > 0.3
    (exported,) = (each for each in case.exported if each.precision == precision)
    assert exported.max_dimension_difference <= BOUNDS[precision]


def test_a_file_names_its_outputs_and_says_what_they_hold(case, enrolled):
    for path in [*case.paths.values(), enrolled]:
        interpreter, card, _ = runner.open_file(path)
        details = {each["name"]: each for each in interpreter.get_output_details()}
        # The first is the one that an app reads which knows of one alone.
        assert [*details] == ["probabilities", "dimensions"]
        assert details["dimensions"]["shape"].tolist() == [1, 3]
        assert details["dimensions"]["dtype"] == np.float32
        assert card["dimensions"] == {"names": ["arousal", "valence", "dominance"], "range": [1.0, 5.0]}
        with zipfile.ZipFile(path) as archive:
            assert archive.read("dimensions.txt").decode().split() == card["dimensions"]["names"]


def test_what_is_known_of_a_speaker_leaves_the_dimensions_as_they_are(case, enrolled):
    opened = runner.Runner(enrolled)
    unknown = [opened.answer(clip) for clip in case.clips[:3]]
    with_text = runner.Runner(case.paths["int8"])
    for clip, answer in zip(case.clips, unknown, strict=False):
        np.testing.assert_array_equal(answer.dimensions, with_text.answer(clip).dimensions)
    facts = opened.card["enrolled"]
    mean = np.linspace(-1, 1, facts["width"])
    opened.profile = runner.Profile(facts["embedding"], mean, 4)
    known = [opened.answer(clip) for clip in case.clips[:3]]
    for before, after in zip(unknown, known, strict=True):
        np.testing.assert_array_equal(before.dimensions, after.dimensions)
        assert np.abs(before.probabilities - after.probabilities).max() > 0.01
    heard = [*opened.stream(case.clips[0], learn=True)]
    assert heard[0].dimensions.shape == (3,)


def test_without_dimensions_a_file_is_the_one_of_the_logits_alone(case, tmp_path):
    """And with them it has one layer more in its student, and the same operations besides."""
    logits = keras.Model(case.student.input, case.student.get_layer("logits").output)
    (plain,) = export(logits, specification(case, tmp_path, dimensions=None))
    with zipfile.ZipFile(plain.path) as archive:
        assert archive.namelist() == ["labels.txt", "card.json"]
        assert "dimensions" not in json.loads(archive.read("card.json"))
    assert plain.max_dimension_difference is None
    before, after = (
        operator_names(plain.path.read_bytes()),
        operator_names(case.paths["float32"].read_bytes()),
    )
    assert Counter(after) - Counter(before) == {"FULLY_CONNECTED": 1}
    assert not Counter(before) - Counter(after)
    clip = case.clips[0]
    np.testing.assert_allclose(
        by_litert(plain.path, clip)["probabilities"],
        by_litert(case.paths["float32"], clip)["probabilities"],
        atol=1e-6,
    )


def test_a_list_of_outputs_counts_by_the_names_of_its_layers(case, tmp_path):
    heads = [case.student.get_layer(name).output for name in ("dimensions", "logits")]
    (exported,) = export(keras.Model(case.student.input, heads), specification(case, tmp_path))
    found = by_litert(exported.path, case.clips[0])
    for name, expected in by_litert(case.paths["float32"], case.clips[0]).items():
        np.testing.assert_array_equal(found[name], expected)


def test_the_golden_vectors_hold_the_second_output(case):
    vectors = golden.golden([case.paths["float32"], case.paths["int8"]])
    sound = np.frombuffer(base64.b64decode(vectors["audio"]["base64"]), "<f4")
    for told in vectors["files"]:
        dimensions = told["dimensions"]
        assert (dimensions["names"], dimensions["range"]) == ([*RATED.names], [1.0, 5.0])
        for name, (start, stop) in vectors["clips"].items():
            clip = audio.fit(sound[start:stop], SAMPLES, pad=told["padding"])
            given = by_litert(case.paths[told["precision"]], clip)
            np.testing.assert_allclose(dimensions["values"][name], given["dimensions"], atol=1e-5)
            np.testing.assert_allclose(told["probabilities"][name], given["probabilities"], atol=1e-5)


def test_the_metadata_describe_both_outputs(case):
    told = metadata_reader.read(metadata_reader.entries(case.paths["float32"])[metadata.ENTRY])
    (graph,) = told["graphs"]
    scores, dimensions = graph["outputs"]
    assert (scores["name"], dimensions["name"]) == ("probabilities", "dimensions")
    assert "-1 is 1 and 1 is 5" in dimensions["description"]
    assert [each["name"] for each in dimensions["files"]] == ["dimensions.txt"]


HEADS = {"probabilities": CLASSES, "dimensions": RATED.names}


@pytest.mark.parametrize("heads", [("probabilities", "dimensions"), ("dimensions",)])
def test_mediapipe_has_them_as_a_head(case, alone, heads):
    path = case.paths["int8"] if "probabilities" in heads else alone["int8"].path
    try:
        from mediapipe.tasks.python.audio import AudioClassifier
        from mediapipe.tasks.python.components.containers import AudioData

        classifier = AudioClassifier.create_from_model_path(str(path))
    except (ImportError, OSError) as error:  # no mediapipe, or its own library lacks libEGL
        pytest.skip(f"MediaPipe cannot be used here: {error}")
    clip = case.clips[1]
    with classifier:
        (found,) = classifier.classify(AudioData.create_from_array(clip, 16_000))
    given = {
        head.head_name: {each.category_name: each.score for each in head.categories}
        for head in found.classifications
    }
    opened = by_litert(path, clip)
    assert {*given} == {*heads}
    for name in heads:
        expected = dict(zip(HEADS[name], opened[name].tolist(), strict=True))
        assert given[name] == pytest.approx(expected, abs=1e-3)


REFUSED = {
    "no second output": ("logits", {}, "to logits and dimensions was expected, found one to logits$"),
    "not asked for": (None, {"dimensions": None}, "found one to logits and dimensions"),
    "another count": (
        None, {"dimensions": Dimensions(("arousal",), (1, 5))}, r"to 1 dimensions was expected, found \(3,\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("layer", "others", "words"), REFUSED.values(), ids=REFUSED)
def test_a_student_that_is_not_as_the_spec_says_is_refused(case, tmp_path, layer, others, words):
    student = case.student
    if layer:
        student = keras.Model(student.input, student.get_layer(layer).output)
    with pytest.raises(ValueError, match=words):
        export(student, specification(case, tmp_path, **others))


@pytest.fixture(scope="module")
def alone(case, tmp_path_factory) -> dict[str, Exported]:
    """What is exported of the same student without its classes."""
    folder = tmp_path_factory.mktemp("alone")
    exported = export(case.student, specification(case, folder, classes=(), precisions=None))
    assert not (folder / "labels.txt").exists()
    return {each.precision: each for each in exported}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_without_classes_gives_the_dimensions_of_keras_and_nothing_else(
    case, alone, expected, precision
):
    exported = alone[precision]
    found = [by_litert(exported.path, clip) for clip in case.clips]
    assert {*found[0]} == {"dimensions"}
    difference = np.abs(np.array([each["dimensions"] for each in found]) - expected["dimensions"]).max()
    assert difference < BOUNDS[precision]
    assert exported.max_probability_difference is None
    assert 0 < exported.max_dimension_difference <= BOUNDS[precision]
    # The head of the classes is gone, and softmax with it.
    before, after = (
        Counter(operator_names(path.read_bytes())) for path in (case.paths[precision], exported.path)
    )
    assert {name for name in before if before[name] > after[name]} >= {"FULLY_CONNECTED", "SOFTMAX"}
    assert not after - before


def test_a_file_without_classes_says_so_of_itself(case, alone):
    with zipfile.ZipFile(alone["int8"].path) as archive:
        assert archive.namelist() == ["dimensions.txt", "card.json"]
        card = json.loads(archive.read("card.json"))
    assert card["classes"] == []
    assert card["dimensions"] == {"names": [*RATED.names], "range": [1.0, 5.0]}
    assert not {"temperature", "unsure_below"} & {*card}
    beside = runner.card_of(case.paths["int8"])
    assert beside["parameters"] - card["parameters"] == len(CLASSES) * (24 + 1)
    told = metadata_reader.read(metadata_reader.entries(alone["int8"].path)[metadata.ENTRY])
    (graph,) = told["graphs"]
    assert [each["name"] for each in graph["outputs"]] == ["dimensions"]
    assert "on scales: arousal, valence, dominance." in told["description"]
    opened = runner.Runner(alone["int8"].path)
    assert (opened.labels, opened.dimension_names) == ((), RATED.names)


def test_neither_the_temperature_nor_the_form_of_the_student_counts_without_classes(case, alone, tmp_path):
    head = case.student.get_layer("dimensions").output
    expected = by_litert(alone["float32"].path, case.clips[0])["dimensions"]
    for number, outputs in enumerate((head, [head], {"dimensions": head})):
        student = keras.Model(case.student.input, outputs)
        spec = specification(case, tmp_path / str(number), classes=(), temperature=0.2)
        (made,) = export(student, spec)
        np.testing.assert_array_equal(by_litert(made.path, case.clips[0])["dimensions"], expected)


def test_the_golden_vectors_of_a_file_without_classes(case, alone):
    told, beside = golden.golden([alone["float32"].path, case.paths["float32"]])["files"]
    assert told["labels"] == []
    assert {*map(tuple, told["probabilities"].values())} == {()}
    for name, values in beside["dimensions"]["values"].items():
        np.testing.assert_allclose(told["dimensions"]["values"][name], values, atol=1e-5)


def test_a_file_for_known_speakers_needs_classes(case, tmp_path):
    with pytest.raises(UserError, match="dimensions alone has no file for known speakers") as error:
        export(case.student, specification(case, tmp_path, classes=(), enrolled=head_of(case.student)))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="found neither"):
        export(case.student, specification(case, tmp_path, classes=(), dimensions=None))
    logits = keras.Model(case.student.input, [case.student.get_layer("logits").output] * 2)
    with pytest.raises(ValueError, match="a student to dimensions was expected"):
        export(logits, specification(case, tmp_path, classes=()))


def test_a_file_whose_dimensions_are_not_keras_is_none(case, tmp_path, monkeypatch):
    of_runner = runner.outputs

    def off(interpreter, values):
        given = of_runner(interpreter, values)
        return {**given, "dimensions": given["dimensions"] + 0.01}

    monkeypatch.setattr(runner, "outputs", off)
    with pytest.raises(ExportError, match=r"dimensions of .* differ from Keras' by 0.01"):
        export(case.student, specification(case, tmp_path))
    assert not [*tmp_path.glob("*.tflite")]


@pytest.mark.parametrize(
    ("names", "scale"), [((), (1, 5)), (("joy",), (1, 5)), (("arousal",) * 2, (1, 5)), (("arousal",), (5, 5))]
)
def test_dimensions_are_checked_where_they_are_made(names, scale):
    with pytest.raises(ValueError, match="expected"):
        Dimensions(names, scale)
