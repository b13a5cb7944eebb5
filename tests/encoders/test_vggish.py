"""VGGish against a SavedModel's own function in plain TensorFlow, and files that are not VGGish."""

import io
import json
import re
import zipfile

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from light_sernet_kd import audio, features, files, runner
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.encoders import embedding_cache, vggish
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import tflite

NARROW = tuple((name, units // 16 if "fc2" not in name else units) for name, units in vggish.LAYERS)


@pytest.fixture
def narrow(monkeypatch):
    """A sixteenth of the width: all that is stored is 1 MB."""
    monkeypatch.setattr(vggish, "LAYERS", NARROW)
    weights = vggish.random_weights(1)
    rng = np.random.default_rng(1)
    for name, values in weights.items():
        if name.endswith("biases"):
            values[:] = rng.normal(0, 0.1, values.shape)
    return weights


def patches(count=3, batch=2, seed=0):
    return np.random.default_rng(seed).normal(0, 1.5, (batch, count, 96, 64)).astype("float32")


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype("float32")


class Release(tf.Module):
    """The network as the release writes it, op by op, with its variables' names."""

    def __init__(self, weights):
        super().__init__()
        self._variables = [tf.Variable(values, name=name) for name, values in weights.items()]

    def layer(self, scope):
        return (v for part in ("weights", "biases") for v in self._variables
                if v.name == f"vggish/{scope}/{part}:0")  # fmt: skip

    @tf.function(input_signature=[tf.TensorSpec([None, 96, 64], tf.float32)])
    def __call__(self, patches):
        net = patches[..., None]
        for block in ("conv1", "conv2", "conv3/conv3_1 conv3/conv3_2", "conv4/conv4_1 conv4/conv4_2"):
            for scope in block.split():
                kernel, bias = self.layer(scope)
                net = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(net, kernel, 1, "SAME"), bias))
            net = tf.nn.max_pool2d(net, 2, 2, "SAME")
        net = tf.reshape(net, [tf.shape(net)[0], -1])
        for scope in ("fc1/fc1_1", "fc1/fc1_2"):
            kernel, bias = self.layer(scope)
            net = tf.nn.relu(net @ kernel + bias)
        kernel, bias = self.layer("fc2")
        return net @ kernel + bias


def write_saved_model(folder, weights):
    tf.saved_model.save(Release(weights), str(folder))
    return folder


def write_checkpoint(prefix, weights, *, version=2):
    """As TensorFlow 1 does: by variable name, in one file (1) or in an index and its data (2)."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, initializer=values) for name, values in weights.items()]
        variables.append(tf.compat.v1.get_variable("global_step", initializer=7))
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables, write_version=version)
        saver.save(session, str(prefix), write_meta_graph=False, write_state=False)
    return prefix


def assert_same(weights, expected):
    assert list(weights) == list(expected)
    for name, values in expected.items():
        assert weights[name].dtype == np.float32
        np.testing.assert_array_equal(weights[name], values)


# The network


def test_it_has_the_released_variables_and_parameters():
    shapes = vggish.weight_shapes()
    assert shapes == {
        "vggish/conv1/weights": (3, 3, 1, 64), "vggish/conv1/biases": (64,),
        "vggish/conv2/weights": (3, 3, 64, 128), "vggish/conv2/biases": (128,),
        "vggish/conv3/conv3_1/weights": (3, 3, 128, 256), "vggish/conv3/conv3_1/biases": (256,),
        "vggish/conv3/conv3_2/weights": (3, 3, 256, 256), "vggish/conv3/conv3_2/biases": (256,),
        "vggish/conv4/conv4_1/weights": (3, 3, 256, 512), "vggish/conv4/conv4_1/biases": (512,),
        "vggish/conv4/conv4_2/weights": (3, 3, 512, 512), "vggish/conv4/conv4_2/biases": (512,),
        "vggish/fc1/fc1_1/weights": (12288, 4096), "vggish/fc1/fc1_1/biases": (4096,),
        "vggish/fc1/fc1_2/weights": (4096, 4096), "vggish/fc1/fc1_2/biases": (4096,),
        "vggish/fc2/weights": (4096, 128), "vggish/fc2/biases": (128,),
    }  # fmt: skip
    assert sum(np.prod(shape) for shape in shapes.values()) == vggish.PARAMETERS == 72_141_184


@pytest.mark.every  # the variables above are as many, and all else is tested of a narrow one
def test_at_full_size_it_has_72_million_parameters_and_keeps_the_scale():
    model = vggish.vggish(vggish.random_weights(), patches=1)
    assert model.count_params() == vggish.PARAMETERS
    assert model.output_shape == (None, 1, 128)
    found = model.predict_on_batch(patches(1, 2))
    assert 0.3 < found.std() < 10
    assert abs(found[0] - found[1]).max() > 0.1


def test_a_patch_of_zeros_has_a_row_of_zeros_and_moves_no_other(narrow):
    model = vggish.vggish(narrow, patches=3)
    inputs = patches()
    whole = model.predict_on_batch(inputs)
    assert whole.shape == (2, 3, 128)
    assert whole.any(axis=-1).all()
    inputs[0, 1:] = 0.0
    inputs[1, 0] = 0.0
    found = model.predict_on_batch(inputs)
    assert not found[0, 1:].any()
    assert not found[1, 0].any()
    np.testing.assert_allclose(found[0, 0], whole[0, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1, 1:], whole[1, 1:], rtol=1e-5, atol=1e-6)


def test_embeddings_are_taken_before_the_activation_unless_asked(narrow):
    before, after = (vggish.vggish(narrow, patches=3, relu=relu)(patches()).numpy() for relu in (False, True))
    assert (before < -0.1).any()
    np.testing.assert_allclose(after, np.maximum(before, 0), atol=1e-6)


def test_random_weights_are_decided_by_their_seed(narrow, tmp_path):
    assert_same(vggish.weights_of("random", tmp_path), vggish.random_weights(0))
    assert_same(vggish.weights_of("random=5", tmp_path), vggish.random_weights(5))
    first, second = (vggish.random_weights(seed)["vggish/conv2/weights"] for seed in (0, 5))
    assert abs(first - second).max() > 0.1
    with pytest.raises(UserError, match=r"seed of random VGGish weights must be a whole number, found 'x'"):
        vggish.weights_of("random=x", tmp_path)


def test_a_saved_model_is_made_of_keras_own_layers(narrow, tmp_path):
    """So that it loads where this package is not installed."""
    model = vggish.vggish(narrow, patches=3)
    model.save(tmp_path / "vggish.keras")
    with zipfile.ZipFile(tmp_path / "vggish.keras") as archive:
        modules = re.findall(r'"module": "(\w+)[."]', archive.read("config.json").decode())
    assert set(modules) == {"keras"}
    loaded = keras.saving.load_model(tmp_path / "vggish.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.predict_on_batch(patches()), model.predict_on_batch(patches()))


@pytest.mark.parametrize("samples", [12_000, 48_000])
def test_behind_its_front_end_it_is_builtins_of_tflite_only(narrow, samples):
    front_end = features.front_end_model("vggish", "mel_spectrogram", samples)
    model = vggish.vggish(narrow, patches=front_end.output_shape[1])
    function = tf.function(lambda clip: model(front_end(clip)), autograph=False)
    traced = function.get_concrete_function(tf.TensorSpec((1, samples), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    with runner.without_chatter():
        content = converter.convert()
    assert not [name for name in tflite.operator_names(content) if name.startswith("Flex")]
    assert len(content) < 4 * sum(v.size for v in narrow.values()) + 300_000
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    for recorded in (0, 1, 12_000, 15_600, 31_000, 47_000):
        clip = audio.fit(noise(recorded), samples, pad="right")[None]
        interpreter.set_tensor(taken["index"], clip)
        interpreter.invoke()
        found, expected = interpreter.get_tensor(given["index"]), model(front_end(clip)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(found.any(axis=-1), expected.any(axis=-1))


def test_a_student_on_it_is_exported_with_the_front_end_inside(narrow, tmp_path):
    encoder = vggish.vggish(narrow, patches=3)
    pooled = keras.ops.sum(encoder.output, axis=1) / 3
    # small weights: the probabilities of random embeddings shall not all be 0 or 1
    small = keras.initializers.RandomNormal(stddev=0.02, seed=0)
    student = keras.Model(encoder.input, keras.layers.Dense(4, kernel_initializer=small)(pooled))
    recordings = np.stack(
        [audio.fit(noise(n, seed=n), 48_000, pad="right") for n in (9000, 20_000, 40_000, 48_000)]
    )
    made = tflite.export(
        student,
        tflite.ExportSpec(
            classes=("anger", "fear", "joy", "neutral"),
            front_end="vggish",
            input_type="mel_spectrogram",
            samples=48_000,
            representative=recordings,
            folder=tmp_path,
            card={},
            precisions=("float32", "float16", "dynamic"),
        ),
    )
    front_end = features.front_end_model("vggish", "mel_spectrogram", 48_000)
    expected = tf.nn.softmax(student(front_end(recordings))).numpy()
    assert expected.std(axis=0).max() > 0.01
    for each, bound in zip(made, (1e-4, 0.01, 0.1), strict=True):
        opened = runner.Runner(each.path)
        found = np.array([opened.probabilities(clip) for clip in recordings])
        assert abs(found - expected).max() < bound


# Weights from files


def test_weights_of_a_saved_model_give_its_own_embeddings(narrow, tmp_path):
    folder = write_saved_model(tmp_path / "models" / "vggish", narrow)
    weights = vggish.weights_of(None, tmp_path)
    assert_same(weights, narrow)
    inputs = patches()
    own = tf.saved_model.load(str(folder))(inputs.reshape(-1, 96, 64)).numpy().reshape(2, 3, 128)
    assert own.std() > 0.1
    np.testing.assert_allclose(vggish.vggish(weights, patches=3)(inputs), own, rtol=1e-4, atol=1e-5)


def test_a_saved_model_that_wraps_a_graph_of_tensorflow_1_is_read(narrow, tmp_path):
    """As the release's own export for TensorFlow Hub makes it."""

    class Wrapped(tf.Module):
        def __init__(self):
            super().__init__()
            self._variables = []
            self._function = tf.compat.v1.wrap_function(self.define, [tf.TensorSpec([None], tf.float32)])

        def define(self, waveform):
            def tracked(creator, **kwargs):
                self._variables.append(creator(**kwargs))
                return self._variables[-1]

            with tf.variable_creator_scope(tracked):
                for name, values in narrow.items():
                    tf.compat.v1.get_variable(name, initializer=values)
            return waveform

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, waveform):
            return self._function(waveform)

    tf.saved_model.save(Wrapped(), str(tmp_path / "hub"))
    assert_same(vggish.read_weights(tmp_path / "hub"), narrow)


@pytest.mark.parametrize("version", [1, 2])
def test_weights_of_a_checkpoint_are_found_by_its_prefix_its_file_and_its_folder(narrow, tmp_path, version):
    prefix = write_checkpoint(tmp_path / "vggish_model.ckpt", narrow, version=version)
    named = {1: [prefix], 2: [prefix, prefix.with_name(f"{prefix.name}.index")]}[version]
    for path in [*named, tmp_path]:
        assert_same(vggish.weights_of(str(path), tmp_path), narrow)


REMEDY = r"Unpack https://www\.kaggle\.com/models/google/vggish there, or download https://storage"


def test_what_is_not_there_is_said_with_where_to_get_it(narrow, tmp_path):
    for spec in (None, str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(UserError, match=rf"^no VGGish in .*\. {REMEDY}"):
            vggish.weights_of(spec, tmp_path)


def test_another_saved_model_is_no_vggish(narrow, tmp_path):
    other = tf.Module()
    other.kept = [tf.Variable(np.ones((3, 3)), name="yamnet/layer1/weights")]
    tf.saved_model.save(other, str(tmp_path / "other"))
    with pytest.raises(UserError, match=rf"not VGGish: it has no variable vggish/conv1/weights\. {REMEDY}"):
        vggish.read_weights(tmp_path / "other")


BREAKS = {
    "missing": (
        lambda w: w.pop("vggish/fc1/fc1_2/biases"),
        r"not the whole of VGGish: vggish/fc1/fc1_2/biases is missing",
    ),
    "shape": (
        lambda w: w.update({"vggish/conv2/weights": np.ones((3, 3, 4, 9), "f4")}),
        r"not the released VGGish: vggish/conv2/weights has shape \(3, 3, 4, 9\), expected \(3, 3, 4, 8\)",
    ),
    "not a number": (
        lambda w: w.update({"vggish/fc2/biases": np.full(128, np.nan, "f4")}),
        r"damaged: vggish/fc2/biases holds what is no finite number",
    ),
    "integers": (
        lambda w: w.update({"vggish/fc2/biases": np.ones(128, "int32")}),
        r"damaged: vggish/fc2/biases holds what is no finite number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAKS)
def test_weights_that_are_not_those_of_vggish_are_refused_by_name(narrow, tmp_path, case):
    change, message = BREAKS[case]
    change(narrow)
    prefix = write_checkpoint(tmp_path / "x.ckpt", narrow)
    with pytest.raises(UserError, match=rf"{message}.*\. {REMEDY}"):
        vggish.read_weights(prefix)


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "data cut", "index cut", "no variables"])
def test_a_damaged_file_is_one_clear_sentence(narrow, tmp_path, damage):
    path = tmp_path / "vggish_model.ckpt"
    if damage in ("text", "empty"):
        path.write_text("no checkpoint " * 99 if damage == "text" else "")
    elif damage == "no variables":
        path = write_saved_model(tmp_path / "saved", narrow)
        for each in (path / "variables").iterdir():
            each.unlink()
    else:
        write_checkpoint(path, narrow, version=1 if damage == "cut" else 2)
        ending = {"cut": "", "data cut": ".data-00000-of-00001", "index cut": ".index"}[damage]
        hurt = path.with_name(path.name + ending)
        hurt.write_bytes(hurt.read_bytes()[: -hurt.stat().st_size // 3])
    with pytest.raises(UserError, match=rf"neither a SavedModel nor a checkpoint, or is damaged\. {REMEDY}"):
        vggish.read_weights(path)


# PCA


def write_pca(path, **changes):
    rng = np.random.default_rng(3)
    arrays = {
        "pca_eigen_vectors": rng.normal(0, 0.3, (128, 128)),
        "pca_means": rng.normal(0, 0.2, 128),
    } | changes
    files.write_arrays(path, {name: values for name, values in arrays.items() if values is not None})
    return path


def release_pca(rows, stored):
    """Row by row and coefficient by coefficient, as the release's postprocessing."""
    found = np.empty(rows.shape, np.uint8)
    for r, row in enumerate(np.asarray(rows, "float64")):
        for c, component in enumerate(stored["pca_eigen_vectors"]):
            projected = sum(component * (row - stored["pca_means"].ravel()))
            found[r, c] = int((min(max(projected, -2), 2) + 2) * 255 / 4)
    return found


@pytest.mark.parametrize("means", [(128,), (128, 1)])
def test_postprocessed_embeddings_are_projected_clipped_and_quantised(tmp_path, means):
    path = write_pca(tmp_path / "pca.npz", pca_means=np.random.default_rng(4).normal(0, 0.2, means))
    rows = np.random.default_rng(5).normal(0, 0.4, (6, 128)).astype("float32")
    found = vggish.postprocessed(rows, vggish.read_pca(path))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, release_pca(rows, np.load(path)))
    assert (found == 0).any()
    assert (found == 255).any()
    np.testing.assert_array_equal(vggish.postprocessed(rows.reshape(2, 3, 128), vggish.read_pca(path)),
                                  found.reshape(2, 3, 128))  # fmt: skip


def test_the_released_pca_whitens(shared_data):
    """Its means are projected to 0, the middle of the range."""
    path = shared_data / "models" / "vggish_pca_params.npz"
    if not path.is_file():
        pytest.skip("no vggish_pca_params.npz")
    pca = vggish.read_pca(path)
    assert (vggish.postprocessed(pca.means[None], pca) == 127).all()
    rows = np.random.default_rng(6).normal(0, 0.3, (4, 128))
    np.testing.assert_array_equal(vggish.postprocessed(rows, pca), release_pca(rows, np.load(path)))


def test_postprocessing_keeps_padding(tmp_path):
    rows = np.random.default_rng(7).normal(0, 0.4, (2, 3, 128))
    rows[0, 2] = 0.0
    found = vggish.postprocessed(rows, vggish.read_pca(write_pca(tmp_path / "pca.npz")))
    assert found.any(axis=-1).tolist() == [[True, True, False], [True, True, True]]


def test_pca_parameters_that_are_none_are_refused(tmp_path):
    path = tmp_path / "pca.npz"
    with pytest.raises(UserError, match=r"no PCA parameters in .*Download https://storage.*npz \(73 kB\)"):
        vggish.read_pca(path)
    write_pca(path, pca_means=None)
    with pytest.raises(
        UserError, match=r"expected an \.npz of pca_eigen_vectors and pca_means, such as https"
    ):
        vggish.read_pca(path)
    write_pca(path, pca_eigen_vectors=np.ones((128, 64)))
    with pytest.raises(UserError, match=r"shapes are \(128, 64\) and \(128,\), expected \(128, 128\)"):
        vggish.read_pca(path)
    write_pca(path, pca_means=np.full(128, np.nan))
    with pytest.raises(UserError, match="is damaged: it has values that are not finite"):
        vggish.read_pca(path)
    write_pca(path, pca_means=np.array(["x"] * 128, dtype=object))
    damaged = [path.read_bytes(), write_pca(path).read_bytes()[:-99], b"", b"PK\x03\x04 no archive"]
    single = io.BytesIO()
    np.save(single, np.ones((128, 128)))
    damaged.append(single.getvalue())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pca_means.npy", b"nothing")
        archive.writestr("pca_eigen_vectors.npy", b"nothing")
    damaged.append(path.read_bytes())
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"has no PCA parameters or is damaged"):
            vggish.read_pca(path)


# As an encoder


def clips():
    """Shorter than a patch, of several, with a long pause, silent, with silence behind, beyond a batch."""
    paused = noise(17 * 15_360 + 300, seed=2)
    paused[20_000:-5000] = 0.0
    behind = np.pad(noise(40_000, seed=3), (0, 20_000))
    return [noise(3000), noise(50_000, seed=1), paused, np.zeros(40_000, "float32"), behind,
            noise(20 * 15_360 + 240, seed=4), noise(1)]  # fmt: skip


def test_an_encoders_rows_are_those_of_the_model_in_a_batch_of_one_length(narrow, tmp_path):
    encoder = vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path))
    recordings = clips()
    samples = max(map(len, recordings))
    batch = np.stack([audio.fit(clip, samples, pad="right") for clip in recordings])
    given = features.front_end_model("vggish", "mel_spectrogram", samples)(batch)
    expected = vggish.vggish(vggish.random_weights(1), patches=given.shape[1])(given).numpy()
    found = list(encoder.encode(recordings))
    assert [len(rows) for rows in found] == [1, 3, 17, 1, 2, 20, 1]
    for rows, row in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, row[: len(rows)], rtol=1e-4, atol=1e-4)
        assert not row[len(rows) :].any()
        assert rows.any(axis=-1).all()


def test_an_encoders_rows_do_not_depend_on_the_other_recordings(narrow, tmp_path):
    encoder = vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path))
    together = list(encoder.encode(clips()))
    for clip, rows in zip(clips(), together, strict=True):
        (alone,) = encoder.encode([clip])
        np.testing.assert_array_equal(alone, rows)


def test_an_encoder_gives_postprocessed_rows(narrow, tmp_path):
    pca = vggish.read_pca(write_pca(tmp_path / "pca.npz"))
    plain = vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path))
    whitened = vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path), pca=pca)
    for rows, other in zip(plain.encode(clips()), whitened.encode(clips()), strict=True):
        np.testing.assert_array_equal(other, vggish.postprocessed(rows, pca))


def test_what_decides_the_rows_decides_the_folder(narrow, tmp_path):
    pca, other = (vggish.read_pca(write_pca(tmp_path / "pca.npz", **change))
                  for change in ({}, {"pca_means": np.ones(128)}))  # fmt: skip
    write_checkpoint(tmp_path / "models" / "vggish" / "x.ckpt", vggish.random_weights(1))
    made = [
        vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path)),
        vggish.vggish_encoder(vggish.weights_of("random=2", tmp_path)),
        vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path), pca=pca),
        vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path), pca=other),
        vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path), relu=True),
        vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path), dtype="float32"),
    ]
    assert len({each.folder(tmp_path) for each in made}) == len(made)
    assert vggish.vggish_encoder(vggish.weights_of(None, tmp_path)).folder(tmp_path) == made[0].folder(
        tmp_path
    )
    json.dumps(made[2].identity)
    assert {each.name for each in made} == {"vggish"}


def test_embeddings_of_recordings_are_kept(narrow, tmp_path, shared_data):
    names = ("03a01Fa", "15a04Ac")
    utterances = [Utterance(name, shared_data / f"EMO-DB/wav/{name}.wav", "joy", "03") for name in names]
    prints = {each.id: audio.fingerprint(each.path) for each in utterances}
    encoder = vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path))
    found = embedding_cache.embed(utterances, prints, encoder, cache=tmp_path)
    waveforms = [soundfile.read(each.path, dtype="float32")[0] for each in utterances]
    assert found.rows.tolist() == [max(1, (len(each) - 240) // 15_360) for each in waveforms]
    for rows, expected in zip(found, encoder.encode(waveforms), strict=True):
        assert rows.dtype == np.float16
        np.testing.assert_allclose(rows, expected, rtol=2e-3, atol=1e-3)


def test_a_long_recording_is_worked_on_a_few_patches_at_a_time(narrow, tmp_path, monkeypatch):
    seen = []
    unmasked = features.LogMelPatches.unmasked

    def counted(self, waveform):
        seen.append(waveform.shape[1])
        return unmasked(self, waveform)

    monkeypatch.setattr(features.LogMelPatches, "unmasked", counted)
    (rows,) = vggish.vggish_encoder(vggish.weights_of("random=1", tmp_path)).encode([noise(5 * 60 * 16_000)])
    assert len(rows) == (5 * 60 * 16_000 - 240) // 15_360
    assert max(seen) == 16 * 15_360 + 240
    assert sum(seen) < 1.01 * 5 * 60 * 16_000
