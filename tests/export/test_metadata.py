"""TFLite metadata: read by another reader, beside Google's own file, and by MediaPipe itself."""

import importlib.metadata
import importlib.util

import metadata_reader
import numpy as np
import pytest
import soundfile
from ai_edge_litert import schema_py_generated as schema
from exported_cases import CLASSES, SAMPLES, Case, made_case, states_student
from flatbuffers import Builder

from light_sernet_kd import __version__, runner
from light_sernet_kd.config import PRECISIONS
from light_sernet_kd.export import flatbuffer, metadata, parts
from light_sernet_kd.export.tflite import ExportSpec, export

TOLD = {
    "classes": list(CLASSES),
    "student": "light_sernet",
    "corpus": "EMO-DB",
    "corpus_licence": "CC0 1.0",
    "teacher_licence": "for research",
    "started_from": "run before on RAVDESS",
    "start_licence": "by request",
    "protocol": "loso",
    "ua": 0.7014,
    "ua_low": 0.65,
    "ua_high": 0.7449,
    "stamps": ["3 test texts occur in training"],
    "trained": "2026-03-09",
}
# The schema's numbers.
FEATURES, AUDIO = 1, 4
DESCRIPTIONS, AXIS_LABELS, VOCABULARY = 1, 2, 5


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return made_case("light_sernet", "lsn", "mfcc", SAMPLES, tmp_path_factory.mktemp("metadata"))


@pytest.fixture(scope="module")
def google(shared_data):
    """Google's YAMNet for MediaPipe, whose metadata Google wrote."""
    path = shared_data / "models" / "yamnet_audio_classifier_with_metadata.tflite"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def read(path):
    return metadata_reader.read(metadata_reader.entries(path)[metadata.ENTRY])


def test_a_file_of_audio_is_described_as_googles_own_is(case, google):
    for path in case.paths.values():
        ours, theirs = read(path), read(google)
        assert {*theirs} <= {*ours}
        assert [*ours["graphs"][0]] == [*theirs["graphs"][0]] == ["inputs", "outputs"]
        (heard,), (other,) = ours["graphs"][0]["inputs"], theirs["graphs"][0]["inputs"]
        rate_and_channels = {"sample_rate": 16_000, "channels": 1}
        assert (
            heard["content"]
            == other["content"]
            == {"properties_type": AUDIO, "properties": rate_and_channels}
        )
        (given,), (other,) = ours["graphs"][0]["outputs"], theirs["graphs"][0]["outputs"]
        assert given["content"] == other["content"] == {"properties_type": FEATURES, "properties": {}}
        assert given["stats"] == other["stats"] == {"max": [1.0], "min": [0.0]}
        (labels,), (others,) = given["files"], other["files"]
        assert (labels["name"], labels["type"], others["type"]) == ("labels.txt", AXIS_LABELS, AXIS_LABELS)
        assert ours["min_parser_version"] == theirs["min_parser_version"] == "1.3.0"
        assert (heard["name"], given["name"]) == ("audio", "probabilities")
        assert str(SAMPLES) in heard["description"]


def generated_schema():
    """MediaPipe's generated classes, loaded without MediaPipe, which needs libraries of the system."""
    try:
        files = importlib.metadata.files("mediapipe") or ()
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("mediapipe is not installed")
    (path,) = [
        each for each in files if each.name == "metadata_schema_py_generated.py" and "image" not in each.name
    ]
    spec = importlib.util.spec_from_file_location("metadata_schema", path.locate())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mediapipes_generated_classes_read_the_same(case):
    generated = generated_schema()
    content = metadata_reader.entries(case.paths["int8"])[metadata.ENTRY]
    assert generated.ModelMetadata.ModelMetadataBufferHasIdentifier(content, 0)
    theirs, ours = generated.ModelMetadataT.InitFromPackedBuf(content), metadata_reader.read(content)
    for field in ("name", "description", "version", "author", "license"):
        assert getattr(theirs, field).decode() == ours[field]
    assert theirs.minParserVersion.decode() == ours["min_parser_version"]
    (graph,), (own,) = theirs.subgraphMetadata, ours["graphs"]
    (heard,), (given,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert isinstance(heard.content.contentProperties, generated.AudioPropertiesT)
    found = heard.content.contentProperties
    assert vars(found) == {"sampleRate": 16_000, "channels": 1}
    assert heard.description.decode() == own["inputs"][0]["description"]
    assert given.associatedFiles[0].name == b"labels.txt"
    assert given.associatedFiles[0].type == generated.AssociatedFileType.TENSOR_AXIS_LABELS
    assert [each.name for each in theirs.associatedFiles] == [b"card.json"]
    # what no reader of version 1.3.0 knows is not there
    assert graph.customMetadata is None
    assert given.associatedFiles[0].version is None


def test_what_the_card_knows_is_told_in_words():
    told = metadata_reader.read(metadata.packed({**TOLD, "states": {}}, []))
    assert told["name"] == "light_sernet, speech emotion recognition (EMO-DB)"
    assert told["description"] == (
        "Which emotion is heard or read: anger, boredom, Ärger & Wut, neutral, sadness. Trained on EMO-DB. "
        "Unweighted accuracy 70.1 % [65.0, 74.5], protocol loso. Mind: 3 test texts occur in training."
    )
    assert told["version"] == "2026-03-09"
    assert told["author"] == f"made with light-sernet-kd {__version__}"
    assert told["license"].endswith(
        "MIT; EMO-DB, which it was trained on: CC0 1.0; the teacher that it learnt from: for research; what "
        "it began with, run before on RAVDESS: by request"
    )
    assert told["files"][0]["type"] == DESCRIPTIONS
    synthetic = metadata_reader.read(metadata.packed({**TOLD, "synthetic": True}, []))
    assert "Trained on EMO-DB (synthetic recordings)." in synthetic["description"]
    rated = {"arousal": {"ccc": 0.514, "low": 0.4, "high": 0.6}, "valence": {"ccc": -0.001}}
    rated = metadata_reader.read(metadata.packed({**TOLD, "ccc": rated}, []))
    assert "Concordance of arousal 0.51 [0.40, 0.60]. Concordance of valence 0.00." in rated["description"]
    bare = metadata_reader.read(metadata.packed({"classes": ["a", "b"]}, []))
    assert bare["description"] == "Which emotion is heard or read: a, b."
    assert bare["version"] == __version__


def test_a_file_without_audio_has_no_audio_properties_and_asks_for_an_older_parser():
    text = {**TOLD, "text": {"tokens": 12}}
    told = metadata_reader.read(metadata.packed(text, ["text_mask", "token_ids"]))
    mask, ids = told["graphs"][0]["inputs"]
    assert (mask["name"], ids["name"]) == ("text_mask", "token_ids")
    assert {each["content"]["properties_type"] for each in (mask, ids)} == {FEATURES}
    assert [(each["name"], each["type"]) for each in ids["files"]] == [("vocab.txt", VOCABULARY)]
    assert "files" not in mask
    assert told["min_parser_version"] == "1.0.1"  # which brought VOCABULARY
    states = {**TOLD, "states": {"text_states": {"rows": 7, "width": 4, "encoder": "monologg/koelectra"}}}
    told = metadata_reader.read(metadata.packed(states, ["text_states"]))
    assert "7 rows of 4 numbers made by monologg/koelectra" in told["graphs"][0]["inputs"][0]["description"]
    assert told["min_parser_version"] == "1.0.0"
    both = {**text, "sample_rate": 16_000, "samples": 48_000}
    told = metadata_reader.read(metadata.packed(both, ["token_ids", "audio", "text_mask"]))
    assert [each["name"] for each in told["graphs"][0]["inputs"]] == ["token_ids", "audio", "text_mask"]
    assert told["min_parser_version"] == "1.3.0"


def test_inputs_are_described_in_the_order_of_the_graph(tmp_path):
    student, examples = states_student(text_states=4, audio_states=6)
    (exported,) = export(
        student,
        ExportSpec(
            classes=CLASSES,
            representative=examples,
            folder=tmp_path,
            card={},
            encoders={"audio_states": "wav2vec2", "text_states": "koelectra"},
            precisions=("float32",),
        ),
    )
    (graph,) = schema.ModelT.InitFromPackedBuf(exported.path.read_bytes()).subgraphs
    names = [graph.tensors[index].name.decode() for index in graph.inputs]
    assert [each["name"] for each in read(exported.path)["graphs"][0]["inputs"]] == names
    assert sorted(names) == ["audio_states", "text_states"]


def test_the_runtime_that_is_asked_for_is_the_newest_of_the_parts(case):
    content = parts.softmax_part(len(CLASSES))

    def part(name: str, version: bytes, gives: str):
        model = schema.ModelT.InitFromPackedBuf(content)
        (entry,) = [each for each in model.metadata if each.name.decode() == metadata.RUNTIME_ENTRY]
        model.buffers[entry.buffer].data = np.frombuffer(version.ljust(16, b"\0"), np.uint8)
        builder = Builder(2**16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return flatbuffer.Part(name, bytes(builder.Output()), (gives,))

    # logits is the input of both; 2.10 is newer than 2.9
    both = [part("one", b"2.10.0", "unused"), part("two", b"2.9.1", "probabilities")]
    joined = flatbuffer.joined(
        both, {"classes": CLASSES, "states": {"logits": {"rows": 1, "width": 5, "encoder": ""}}}
    )
    model = schema.ModelT.InitFromPackedBuf(joined)
    found = {each.name.decode(): bytes(model.buffers[each.buffer].data) for each in model.metadata}
    assert found[metadata.RUNTIME_ENTRY] == b"2.10.0".ljust(16, b"\0")
    for path in case.paths.values():
        version = metadata_reader.entries(path)[metadata.RUNTIME_ENTRY].rstrip(b"\0").decode()
        assert tuple(map(int, version.split("."))) >= (1, 14, 0)


def test_the_checksum_covers_the_metadata(case, tmp_path):
    content = bytearray(case.paths["int8"].read_bytes())
    place = content.index(b"made with light-sernet-kd")
    assert place < runner.Runner(case.paths["int8"]).card["model_bytes"]
    content[place] ^= 1
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(content)
    with pytest.raises(runner.RunnerError, match="is damaged"):
        runner.Runner(damaged)


# MediaPipe itself, as an app uses it.


@pytest.fixture(scope="module")
def classify():
    """Path and samples at 16 kHz → MediaPipe's results: `[(timestamp in ms, {label: score})]`."""
    try:
        from mediapipe.tasks.python.audio import AudioClassifier
        from mediapipe.tasks.python.components.containers import AudioData
    except (ImportError, OSError) as error:  # no mediapipe, or no libGL for the OpenCV that it imports
        pytest.skip(f"MediaPipe cannot be imported here: {error}")

    def results(path, waveform):
        try:
            classifier = AudioClassifier.create_from_model_path(str(path))
        except OSError as error:  # its own library wants libEGL and libGLESv2
            pytest.skip(f"MediaPipe cannot be loaded here: {error}")
        with classifier:
            found = classifier.classify(AudioData.create_from_array(waveform, 16_000))
        for each in found:
            assert [head.head_name for head in each.classifications] == ["probabilities"]
        return [
            (each.timestamp_ms, {one.category_name: one.score for one in each.classifications[0].categories})
            for each in found
        ]

    return results


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mediapipe_classifies_a_recording_with_our_labels_and_scores(case, classify, shared_data, precision):
    path = case.paths[precision]
    opened = runner.Runner(path)
    recording, rate = soundfile.read(shared_data / "EMO-DB" / "wav" / "03a01Wa.wav", dtype="float32")
    assert rate == 16_000
    assert 2 * SAMPLES < len(recording) < 3 * SAMPLES

    def ours(clip):
        return {name: float(share) for name, share in zip(CLASSES, opened.probabilities(clip), strict=True)}

    ((at, scores),) = classify(path, recording[:SAMPLES])
    assert at == 0
    assert scores == pytest.approx(ours(recording[:SAMPLES]), abs=1e-3)
    # A longer recording is cut into clips one after the other, the last filled up with zeros at its end.
    found = classify(path, recording)
    assert [at for at, _ in found] == [0, 750, 1500]
    for number, (_, scores) in enumerate(found):
        clip = recording[number * SAMPLES : (number + 1) * SAMPLES]
        clip = np.pad(clip, (0, SAMPLES - len(clip)))
        assert scores == pytest.approx(ours(clip), abs=1e-3)


def test_mediapipe_refuses_the_file_without_our_metadata(case, classify, tmp_path):
    """So the test above shows what the metadata is for."""
    model = schema.ModelT.InitFromPackedBuf(case.paths["float32"].read_bytes())
    model.metadata = []
    builder = Builder(2**20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(bytes(builder.Output()))
    with pytest.raises(Exception, match=r"(?i)metadata"):
        classify(bare, np.zeros(SAMPLES, np.float32))
