"""A tensor of a network of one's own: ONNX against NumPy, TFLite against the Keras model it was made of."""

import keras
import numpy as np
import pytest

from light_sernet_kd.encoders import user_model
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.teachers import teacher_source

RNG = np.random.default_rng(0)
FRAME, WIDTH = 400, 5
KERNEL = RNG.normal(size=(FRAME, WIDTH)).astype(np.float32)


def frames(waveform: np.ndarray) -> np.ndarray:
    """Each frame's squares, `(frames, width)`."""
    return waveform.reshape(-1, FRAME).astype(np.float64) @ KERNEL


@pytest.fixture(scope="module")
def onnx():
    pytest.importorskip("onnxruntime", reason="the extra onnx is missing")
    return pytest.importorskip("onnx", reason="the extra onnx is missing")


def onnx_file(onnx, path, shape, dtype=1):
    """Frames times a kernel (`embedding`, one row a frame), of which the largest entry is the output."""
    helper = onnx.helper
    constants = [
        onnx.numpy_helper.from_array(np.array([1, -1, FRAME]), "framed"),
        onnx.numpy_helper.from_array(KERNEL, "kernel"),
    ]
    nodes = [
        helper.make_node("Reshape", ["audio", "framed"], ["frames"]),
        helper.make_node("MatMul", ["frames", "kernel"], ["embedding"]),
        helper.make_node("ReduceMax", ["embedding"], ["loudest"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "own", [helper.make_tensor_value_info("audio", dtype, shape)],
        [helper.make_tensor_value_info("loudest", 1, [])], constants,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_network_of_any_length_hears_all_and_is_averaged_over_time(onnx, tmp_path):
    path = onnx_file(onnx, tmp_path / "own.onnx", [1, "samples"])
    encoder = user_model.onnx_encoder(f"{path}#embedding")
    clips = [RNG.normal(size=FRAME * n).astype(np.float32) for n in (3, 40)]
    assert encoder.shape == (WIDTH,)
    for row, clip in zip(encoder.encode(clips), clips, strict=True):
        assert row.shape == (1, WIDTH)
        np.testing.assert_allclose(row[0], frames(clip).mean(axis=0), rtol=1e-3, atol=1e-3)
    # an output of the file, which has no axis at all
    (loudest,) = user_model.onnx_encoder(f"{path}#loudest").encode(clips[:1])
    np.testing.assert_allclose(loudest, [[frames(clips[0]).max()]], rtol=1e-4)


@pytest.mark.parametrize("shape", [[1600], [1, 1600], ["batch", 1, 1600]])
def test_a_network_of_one_length_hears_windows_of_it_and_short_clips_in_the_middle(onnx, tmp_path, shape):
    encoder = user_model.onnx_encoder(f"{onnx_file(onnx, tmp_path / 'own.onnx', shape)}#embedding")
    long, short = RNG.normal(size=4000).astype(np.float32), RNG.normal(size=800).astype(np.float32)
    windows = [long[:1600], long[1600:3200], long[2400:]]
    expected = [
        np.mean([frames(window).mean(axis=0) for window in windows], axis=0),
        frames(np.concatenate([np.zeros(400), short, np.zeros(400)])).mean(axis=0),
    ]
    for row, wanted in zip(encoder.encode([long, short]), expected, strict=True):
        np.testing.assert_allclose(row[0], wanted, rtol=1e-3, atol=1e-3)


def test_what_is_no_network_of_audio_is_refused_in_one_line(onnx, tmp_path):
    path = onnx_file(onnx, tmp_path / "own.onnx", [1, "samples"])
    for spec, message in (
        (
            f"{path}#embeding",
            "has no tensor 'embeding': name one behind #. It has frames, embedding, loudest",
        ),
        (f"{path}", "has more than one tensor: name one behind #. It has frames, embedding, loudest"),
        ("nowhere.onnx#x", "no file nowhere.onnx: name yours"),
        (f"{onnx_file(onnx, tmp_path / 'two.onnx', [2, 'n'])}#embedding", "expected one channel of audio"),
        (f"{onnx_file(onnx, tmp_path / 'whole.onnx', [1, 'n'], 6)}#embedding", "is not an ONNX file|float32"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            user_model.onnx_encoder(spec)
        assert "\n" not in str(caught.value)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="is not an ONNX file that runs"):
        user_model.onnx_encoder(f"{tmp_path / 'bad.onnx'}#embedding")


def test_each_tensor_and_file_has_a_cache_of_its_own(onnx, tmp_path):
    one, two = (
        onnx_file(onnx, tmp_path / "own.onnx", [1, "n"]),
        onnx_file(onnx, tmp_path / "1.onnx", [1, 1600]),
    )
    specs = (f"{one}#embedding", f"{one}#frames", f"{two}#embedding")
    assert len({user_model.onnx_encoder(spec).folder(tmp_path) for spec in specs}) == 3


@pytest.fixture(scope="module")
def tflite(tmp_path_factory):
    """A file of a Keras model, the model up to the tensor, and the tensor's name."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    keras.utils.set_random_seed(0)
    heard = keras.Input((1600,), batch_size=1)
    x = keras.layers.Reshape((16, 100))(heard)
    hidden = keras.layers.Dense(6, activation="tanh", name="hidden")(x)
    model = keras.Model(heard, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(hidden)))
    path = tmp_path_factory.mktemp("tflite") / "own.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    details = Interpreter(model_path=str(path)).get_tensor_details()
    (name,) = [each["name"] for each in details if each["shape"].tolist() == [1, 16, 6]]
    return path, keras.Model(heard, hidden), name


def test_a_tensor_of_a_tflite_file_is_the_layers_output(tflite):
    path, model, name = tflite
    encoder = user_model.tflite_encoder(f"{path}#{name}")
    clips = [RNG.normal(size=n).astype(np.float32) for n in (1600, 3200)]
    for row, clip in zip(encoder.encode(clips), clips, strict=True):
        expected = np.mean(
            [model.predict_on_batch(w[None])[0].mean(axis=0) for w in clip.reshape(-1, 1600)], 0
        )
        np.testing.assert_allclose(row[0], expected, atol=1e-5)


def test_a_tflite_file_without_the_tensor_lists_those_it_has(tflite, tmp_path):
    path, _, name = tflite
    with pytest.raises(UserError, match=r"has no tensor 'hidden'") as caught:
        user_model.tflite_encoder(f"{path}#hidden")
    assert name in str(caught.value)
    (tmp_path / "bad.tflite").write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="is not a TFLite file or is damaged"):
        user_model.tflite_encoder(f"{tmp_path / 'bad.tflite'}#hidden")


def test_both_are_sources_of_teachers():
    for option in ("--teacher", "--from"):
        assert teacher_source("onnx:my/own.onnx#a:b", option)[1] == "my/own.onnx#a:b"
        assert teacher_source("tflite:own.tflite#x", option)[0].digest is not None
