"""Files with a second signature for known speakers, against Keras and the head's algebra in NumPy."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import metadata_reader
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from exported_cases import CLASSES, SAMPLES, Case, clips, made_case
from keras import ops

from light_sernet_kd.config import PRECISIONS
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import metadata
from light_sernet_kd.export.flatbuffer import ExportError
from light_sernet_kd.export.tflite import ExportSpec, export
from light_sernet_kd.runner import Profile, Runner
from light_sernet_kd.students.enrolled import EnrolledHead
from light_sernet_kd.training.enrolled import embedder, stages

TEMPERATURE = 1.7
# The largest difference of probabilities to Keras', of the file's own first graph and of the second one.
BOUNDS = {"float32": 1e-5, "float16": 0.02, "dynamic": 0.07, "int8": 0.15}


@dataclass(frozen=True)
class Enrolled:
    """A student, its head, and the files with and without it."""

    plain: Case
    head: EnrolledHead
    paths: dict[str, Path]

    @property
    def width(self) -> int:
        return len(self.head.mean)

    def embeddings(self, waveforms: np.ndarray) -> np.ndarray:
        """What Keras' last layer takes."""
        network = embedder(self.plain.student)
        return ops.convert_to_numpy(network(self.plain.front_end(waveforms), training=False))


def spec(case: Case, folder: Path, head: EnrolledHead, **changes) -> ExportSpec:
    facts = {
        "classes": CLASSES,
        "front_end": "lsn",
        "input_type": "mfcc",
        "samples": SAMPLES,
        "representative": case.clips,
        "folder": folder,
        "card": {"fold": "03", "seed": 7},
        "temperature": TEMPERATURE,
        "enrolled": head,
    }
    return ExportSpec(**{**facts, **changes})


def head_about(embeddings: np.ndarray, student: keras.Model) -> EnrolledHead:
    """One whose logits tell these embeddings `(N, E)` apart."""
    rng = np.random.default_rng(1)
    width = embeddings.shape[1]
    weights = rng.normal(size=(width, len(CLASSES)))
    weights *= 2 / (embeddings @ weights).std(axis=0)
    draw = rng.normal(0, 0.5, len(CLASSES))
    # As the files hold it.
    mean, weights, draw = (np.float32(np.float16(each)) for each in (embeddings.mean(axis=0), weights, draw))
    shapes = tuple(tuple(each.shape[1:]) for each in stages(student))
    return EnrolledHead(mean, 2.5, weights, draw, shapes)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Enrolled:
    folder = tmp_path_factory.mktemp("plain")
    plain = made_case("light_sernet", "lsn", "mfcc", SAMPLES, folder, temperature=TEMPERATURE)
    without = Enrolled(plain, EnrolledHead(np.zeros(0), 1.0, np.zeros(0), np.zeros(0), ()), {})
    head = head_about(without.embeddings(plain.clips), plain.student)
    exported = export(plain.student, spec(plain, tmp_path_factory.mktemp("enrolled"), head))
    return Enrolled(plain, head, {each.precision: each.enrolled for each in exported})


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_first_graph_answers_bit_for_bit_as_without_a_head(case, precision):
    plain, enrolled = Runner(case.plain.paths[precision]), Runner(case.paths[precision])
    for waveform in clips(6, SAMPLES, seed=9):
        expected = plain.probabilities(waveform)
        np.testing.assert_array_equal(enrolled.probabilities(waveform), expected)
        enrolled.embedding(waveform)  # and after the second graph has run
        np.testing.assert_array_equal(enrolled.probabilities(waveform), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("count", [0.5, 3, 20])
def test_the_second_graph_answers_as_the_head_does_on_keras_embeddings(case, precision, count):
    waveforms = clips(8, SAMPLES, seed=9)
    embeddings = case.embeddings(waveforms)
    speaker = case.embeddings(case.plain.clips[:5]).mean(axis=0)
    opened = Runner(case.paths[precision])
    profile = Profile(opened.card["enrolled"]["embedding"], speaker, count)
    opened.profile = profile
    found = np.stack([opened.probabilities(waveform) for waveform in waveforms])
    logits = case.head.logits(embeddings, np.tile(speaker, (8, 1)), [count] * 8)
    expected = softmax(logits)
    assert np.ptp(expected, axis=0).max() > 0.3, "the clips have different answers"
    assert np.abs(found - expected).max() < BOUNDS[precision]
    own = np.stack([opened.embedding(waveform) for waveform in waveforms])
    assert np.abs(own - embeddings).max() < BOUNDS[precision] * np.abs(embeddings).max()
    # The head itself is never rounded: of the file's own embedding it gives what the file answers.
    logits = case.head.logits(own, np.tile(speaker, (8, 1)), [count] * 8)
    np.testing.assert_allclose(found, softmax(logits), atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_of_no_clips_it_answers_about_the_training_mean_whatever_the_speaker(case, precision):
    (waveform,) = clips(1, SAMPLES, seed=4)
    opened = Runner(case.paths[precision])
    embedding = opened.embedding(waveform)
    expected = softmax((embedding - case.head.mean) @ case.head.weights + case.head.bias)
    run = opened._interpreter.get_signature_runner("enrolled")
    for speaker in (np.zeros(case.width), np.full(case.width, 1e6)):
        given = run(audio=waveform[None], speaker=np.float32(speaker)[None], clips=np.float32([[0]]))
        assert {*given} == {"probabilities", "embedding"}
        np.testing.assert_allclose(given["probabilities"][0], expected, atol=1e-4)
        np.testing.assert_array_equal(given["embedding"][0], embedding)


def test_all_precisions_name_one_student_and_another_has_another_name(case, tmp_path):
    facts = [Runner(path).card["enrolled"] for path in case.paths.values()]
    assert len(facts) == len(PRECISIONS)
    assert all(each == facts[0] for each in facts)
    assert facts[0]["width"] == case.width
    assert "enrolled" not in Runner(case.plain.paths["int8"]).card
    other = keras.models.clone_model(case.plain.student)
    kernel, bias = case.plain.student.layers[-1].get_weights()
    other.set_weights(case.plain.student.get_weights())
    other.layers[-1].set_weights([kernel, bias + 1e-3])
    (exported,) = export(other, spec(case.plain, tmp_path, case.head, precisions=("float32",)))
    assert Runner(exported.enrolled).card["enrolled"]["embedding"] != facts[0]["embedding"]


def test_a_profile_of_one_precision_serves_the_others(case):
    recordings = 3 * case.plain.clips[:4]
    profile = Runner(case.paths["float32"]).enrol(recordings)
    (waveform,) = clips(1, SAMPLES, seed=2)
    expected = Runner(case.paths["float32"], profile=profile).probabilities(waveform)
    for precision, path in case.paths.items():
        opened = Runner(path, profile=profile)
        assert np.abs(opened.probabilities(waveform) - expected).max() < BOUNDS[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_second_signature_costs_little_space(case, precision):
    plain, enrolled = case.plain.paths[precision], case.paths[precision]
    assert 0 < enrolled.stat().st_size - plain.stat().st_size < 80_000


@pytest.mark.parametrize("precision", PRECISIONS)
def test_constants_are_shared_and_operations_are_builtin(case, precision):
    model = schema.ModelT.InitFromPackedBuf(case.paths[precision].read_bytes())
    first, second = model.subgraphs
    held = [
        {
            each.buffer
            for each in graph.tensors
            if model.buffers[each.buffer].data is not None and len(model.buffers[each.buffer].data) > 2000
        }
        for graph in (first, second)
    ]
    assert held[0]
    # The second lacks the last layer and has its own head, which is small here.
    assert len(held[1] - held[0]) <= 1
    assert not [code for code in model.operatorCodes if code.customCode]
    # Nothing in it is computed for nothing.
    needed = {*second.outputs}
    for operator in reversed(second.operators):
        assert needed & {*operator.outputs}
        needed |= {*operator.inputs}


def test_the_metadata_are_those_of_a_file_without_a_head(case):
    for precision in PRECISIONS:
        plain, enrolled = case.plain.paths[precision], case.paths[precision]
        assert metadata_reader.entries(enrolled) == metadata_reader.entries(plain)
        (graph,) = metadata_reader.read(metadata_reader.entries(enrolled)[metadata.ENTRY])["graphs"]
        assert [each["name"] for each in graph["inputs"]] == ["audio"]


@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="mediapipe is not installed")
def test_mediapipe_takes_files_of_one_graph_alone(case):
    """So that docs/on-device.md says which file is for it."""
    try:
        from mediapipe.tasks.python.audio import AudioClassifier

        with AudioClassifier.create_from_model_path(str(case.plain.paths["int8"])):
            pass
    except (ImportError, OSError) as error:
        pytest.skip(f"MediaPipe cannot be loaded here: {error}")
    with pytest.raises(ValueError, match="assumed to have a single subgraph"):
        AudioClassifier.create_from_model_path(str(case.paths["int8"]))


def test_both_graphs_are_quiet(case):
    program = (
        "import sys, numpy as np\nfrom light_sernet_kd.runner import Runner\n"
        "opened = Runner(sys.argv[1])\n"
        f"print(len(opened.embedding(np.ones({SAMPLES}))), len(opened.probabilities(np.ones({SAMPLES}))))"
    )
    for path in case.paths.values():
        command = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (f"{case.width} {len(CLASSES)}\n", "")


def test_a_student_whose_logits_come_from_no_fully_connected_layer_is_refused(case, tmp_path):
    keras.utils.set_random_seed(0)
    shape = case.plain.front_end.output_shape[1:]
    inputs = keras.Input(shape)
    maps = keras.layers.Conv2D(len(CLASSES), 3, strides=4)(inputs)
    student = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))
    with pytest.raises(ExportError, match="the student's logits come from no fully connected layer"):
        export(student, spec(case.plain, tmp_path, case.head, precisions=("float32",)))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"merge": False},
            UserError,
            "with merge=False a file takes features: leave out enrolled or merge=False",
        ),
        ({"prior_clips": 0.0}, ValueError, "a prior of more than 0 clips was expected, found 0.0"),
    ],
)
def test_what_does_not_go_together_is_named(case, tmp_path, changes, error, message):
    head = case.head
    if "prior_clips" in changes:
        head = replace(head, prior_clips=changes["prior_clips"])
        changes = {}
    with pytest.raises(error, match=message):
        export(case.plain.student, spec(case.plain, tmp_path, head, **changes))
    assert not [*tmp_path.iterdir()]
