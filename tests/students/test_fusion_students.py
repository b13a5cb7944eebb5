"""The students of speech and text against loops in NumPy that know neither masks nor batches."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from light_sernet_kd.distillation.distiller import embedding_of
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import flatbuffer, parts
from light_sernet_kd.students.attention import attention_maps
from light_sernet_kd.students.cross_attention import cross_attention
from light_sernet_kd.students.fusion import fusion_head, head_of, speech_and_text, tensor_of

CLASSES = 5
TEXT, AUDIO = (7, 24), (9, 16)
# Real rows of text and of audio: all there is, some, one.
LENGTHS = ((7, 9), (3, 4), (1, 1), (5, 9))

HEADS = {
    "fusion first": fusion_head,
    "fusion mean": functools.partial(fusion_head, pooling="mean"),
    "fusion max": functools.partial(fusion_head, pooling="max"),
    "cross both 2": functools.partial(cross_attention, width=32, layers=2),
    "cross text 2": functools.partial(cross_attention, width=32, layers=2, modality="text"),
    "cross audio 1": functools.partial(cross_attention, width=32, modality="audio"),
}
every_head = pytest.mark.parametrize("name", HEADS)
TWO = ("fusion mean", "cross both 2")


def random_weights(model, seed=0):
    """As trained: no bias is 0 and no norm's scale 1."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            (np.ones_like(w) if w.ndim == 1 else 0) + rng.normal(0, 0.3, w.shape).astype("float32")
            for w in model.get_weights()
        ]
    )
    return model


@functools.cache
def built(name):
    """One for many tests, none of which leaves it changed."""
    return random_weights(HEADS[name]((None, TEXT[1]), (None, AUDIO[1]), CLASSES))


def some_states(lengths=LENGTHS, text_rows=TEXT[0], audio_rows=AUDIO[0], seed=1):
    """Text and audio states `(len(lengths), rows, width)` with zeros beyond each utterance's own.

    An utterance's states do not depend on how much padding there is.
    """
    text = np.zeros((len(lengths), text_rows, TEXT[1]), "float32")
    audio = np.zeros((len(lengths), audio_rows, AUDIO[1]), "float32")
    for index, (tokens, patches) in enumerate(lengths):
        rng = np.random.default_rng((seed, index))
        text[index, :tokens] = rng.normal(size=(tokens, TEXT[1]))
        audio[index, :patches] = rng.normal(size=(patches, AUDIO[1]))
    return {"text_states": text, "audio_states": audio}


def read_by(model, states):
    """What of the states is an input of the model, as it is called."""
    names = [tensor.name for tensor in model.inputs]
    return {name: states[name] for name in names} if len(names) > 1 else states[names[0]]


def scores(model, states):
    return model(read_by(model, states), training=False).numpy()


# The reference: one utterance, its real rows only, float64.


def weights_of(model, name):
    return [weight.astype("float64") for weight in model.get_layer(name).get_weights()]


def dense(model, name, rows):
    kernel, *bias = weights_of(model, name)
    return rows @ kernel + (bias[0] if bias else 0)


def norm(model, name, rows):
    scale, offset = weights_of(model, name)
    return np.array([(row - row.mean()) / math.sqrt(row.var() + 1e-5) * scale + offset for row in rows])


def attention(model, name, queries, rows, maps):
    wq, bq, wk, bk, wv, bv, wo, bo = weights_of(model, name)
    heads = wq.shape[1]
    assert wq.shape[1] * wq.shape[2] == queries.shape[-1]
    out = np.zeros_like(queries) + bo
    maps[name] = np.zeros((heads, len(queries), len(rows)))
    for head in range(heads):
        for index, query in enumerate(queries):
            q = query @ wq[:, head] + bq[head]
            raw = [q @ (row @ wk[:, head] + bk[head]) / math.sqrt(len(q)) for row in rows]
            shares = np.exp(np.array(raw) - max(raw))
            shares /= shares.sum()
            maps[name][head, index] = shares
            for share, row in zip(shares, rows, strict=True):
                out[index] += share * (row @ wv[:, head] + bv[head]) @ wo[head]
    return out


def fusion_reference(model, text, audio, pooling):
    maps = {}
    spoken = norm(model, "audio_norm", audio)
    text = attention(model, "text_attention", text, text, maps)
    text = norm(model, "text_norm", dense(model, "text_dense", text))
    both = np.concatenate([text, spoken])
    fused = attention(model, "fusion_attention", both, both, maps)
    fused = norm(model, "fusion_norm", dense(model, "fusion_dense", fused))
    vector = {"first": fused[0], "mean": fused.mean(0), "max": fused.max(0)}[pooling]
    hidden = dense(model, "hidden", vector)
    return dense(model, "logits", np.where(hidden > 0, hidden, 0.01 * hidden)), vector, maps


def waves(rows, width):
    """Row t, from 1: sines, then cosines, of t over wavelengths from 2π to 10,000 times that."""
    half = width // 2
    table = np.zeros((rows, width))
    for t in range(rows):
        for i in range(half):
            angle = (t + 1) / 10_000 ** (i / (half - 1))
            table[t, i], table[t, half + i] = math.sin(angle), math.cos(angle)
    return table


def cross_reference(model, text, audio, modality, layers, width=32):
    maps = {}
    names = [layer.name for layer in model.layers]

    def placed(states, what):
        projection = f"{what}_projection"
        states = dense(model, projection, states) if projection in names else states
        return states * math.sqrt(width) + waves(len(states), width)

    def transformer(x, source, name):
        for number in range(1, layers + 1):
            at = f"{name}_{number}"
            keys = norm(model, f"{at}_attention_norm", source)
            queries = norm(model, f"{at}_attention_norm", x)
            x = x + attention(model, f"{at}_attention", queries, keys, maps)
            hidden = dense(model, f"{at}_wide", norm(model, f"{at}_wide_norm", x))
            assert hidden.shape[-1] == 4 * width
            x = x + dense(model, f"{at}_narrow", np.maximum(hidden, 0))
        return norm(model, f"{name}_norm", x)

    if modality != "audio":
        text = placed(text, "text")
    if modality != "text":
        audio = placed(audio, "audio")
    if modality == "both":
        asked = transformer(audio, text, "audio_over_text")
        vector = np.concatenate([asked.mean(0), transformer(text, audio, "text_over_audio")[0]])
    elif modality == "text":
        vector = transformer(text, text, "text_over_text").mean(0)
    else:
        vector = transformer(audio, audio, "audio_over_audio")[0]
    hidden = dense(model, "hidden", vector)
    hidden = np.array([h * 0.5 * (1 + math.erf(h / math.sqrt(2))) for h in hidden])
    return dense(model, "logits", hidden), vector, maps


def reference(name, text, audio):
    kind, variant, *layers = name.split()
    if kind == "fusion":
        return fusion_reference(built(name), text, audio, variant)
    return cross_reference(built(name), text, audio, variant, int(layers[0]))


@every_head
def test_a_padded_batch_scores_as_loops_over_each_utterance_alone(name):
    """Scores, embeddings and attention, each of the real rows only."""
    model, states = built(name), some_states()
    logits = scores(model, states)
    vectors = keras.Model(model.input, embedding_of(model))(read_by(model, states)).numpy()
    maps = attention_maps(model, states)
    for index, (tokens, patches) in enumerate(LENGTHS):
        expected, vector, shares = reference(
            name,
            states["text_states"][index, :tokens].astype("float64"),
            states["audio_states"][index, :patches].astype("float64"),
        )
        np.testing.assert_allclose(logits[index], expected, atol=2e-4, rtol=2e-4)
        np.testing.assert_allclose(vectors[index], vector, atol=1e-4, rtol=1e-4)
        assert maps.keys() == shares.keys()
        real = {
            "text": np.arange(TEXT[0]) < tokens,
            "audio": np.arange(AUDIO[0]) < patches,
        }
        real["fusion"] = np.concatenate([real["text"], real["audio"]])
        for layer, found in maps.items():
            # "text_over_audio_1_attention", or "text_attention" of itself
            asking, *rest = layer.split("_")
            over = rest[1] if rest[0] == "over" else asking
            found_real = found[index][:, real[asking]][:, :, real[over]]
            np.testing.assert_allclose(found_real, shares[layer], atol=1e-4)
            assert np.all(found[index][:, :, ~real[over]] == 0)


@pytest.mark.parametrize(("text_width", "heads"), [(768, 8), (128, 8), (20, 5), (21, 7), (11, 1)])
def test_parameters_of_fusion(text_width, heads):
    def attention_of(width):
        return 4 * (width * width + width)

    audio = 128
    model = fusion_head((None, text_width), (None, audio), 4)
    parts = {
        "audio_norm": 2 * audio,
        "text_attention": attention_of(text_width),
        "text_dense": text_width * audio + audio,
        "text_norm": 2 * audio,
        "fusion_attention": attention_of(audio),
        "fusion_dense": audio * audio + audio,
        "fusion_norm": 2 * audio,
        "hidden": audio * 64 + 64,
        "logits": 64 * 4 + 4,
    }
    assert {name: model.get_layer(name).count_params() for name in parts} == parts
    assert model.count_params() == sum(parts.values())
    assert model.get_layer("text_attention").num_heads == heads
    assert model.get_layer("fusion_attention").num_heads == 8
    assert embedding_of(model).shape == (None, audio)
    if text_width == 768:
        assert f"{model.count_params():,} parameters for 4 classes" in fusion_head.__doc__


@pytest.mark.parametrize(
    ("settings", "published", "differs"),
    [
        ({"layers": 3}, 44.1e6, 0),
        ({}, 15.8e6, 0),
        ({"modality": "audio"}, 8.27e6, 0),
        ({"modality": "text"}, 8.27e6, 1024 * 768),  # a projection of audio that text never meets
    ],
)
def test_parameters_of_cross_attention_are_the_published_ones(settings, published, differs):
    width, layers = 768, settings.get("layers", 1)
    transformers = 2 if "modality" not in settings else 1
    layer = 4 * (width**2 + width) + 2 * 2 * width + 8 * width**2 + 5 * width
    projection = 0 if settings.get("modality") == "text" else 1024 * width
    classifier = transformers * width * 512 + 512 + 512 * 7 + 7
    model = cross_attention((128, width), (512, 1024), 7, **settings)
    assert model.count_params() == transformers * (layers * layer + 2 * width) + projection + classifier
    step = 10 ** (len(str(int(published))) - 3)
    assert round((model.count_params() + differs) / step) * step == published
    assert f"{model.count_params():,}" in cross_attention.__doc__
    assert embedding_of(model).shape == (None, transformers * width)


def test_text_as_wide_as_the_transformer_is_not_projected_and_audio_always_is():
    def projections(text_width):
        model = cross_attention((4, text_width), (5, 32), 3, width=32)
        return {layer.name for layer in model.layers if layer.name.endswith("_projection")}

    assert projections(32) == {"audio_projection"}
    assert projections(24) == {"audio_projection", "text_projection"}


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")  # of one row
@every_head
def test_batch_mates_never_matter(name):
    model, states = built(name), some_states()
    together = scores(model, states)
    longer = scores(model, some_states(text_rows=40, audio_rows=60))
    np.testing.assert_allclose(longer, together, atol=1e-5, rtol=1e-5)
    for index, (tokens, patches) in enumerate(LENGTHS):
        alone = {
            "text_states": states["text_states"][index : index + 1, :tokens],
            "audio_states": states["audio_states"][index : index + 1, :patches],
        }
        np.testing.assert_allclose(scores(model, alone)[0], together[index], atol=1e-5, rtol=1e-5)


@every_head
def test_an_utterance_of_padding_only_has_finite_scores_whatever_its_length(name):
    model = built(name)
    lengths = ((0, 0), (0, 4), (3, 0))
    found = scores(model, some_states(lengths))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(
        scores(model, some_states(lengths, text_rows=30, audio_rows=2 + 9)), found, atol=1e-5, rtol=1e-5
    )
    if len(model.inputs) > 1:  # what there is, is heard
        assert np.abs(found - found[0]).max(axis=1)[1:].min() > 1e-3
    for layer, shares in attention_maps(model, some_states(((0, 0),))).items():
        assert np.all(shares == 0), layer


@every_head
@pytest.mark.parametrize("size", [0.0, 1e-6, 1e6])
def test_gradients_are_finite_at_extreme_states(name, size):
    model = built(name)
    states = {key: tf.constant(size * value) for key, value in some_states((*LENGTHS, (0, 0))).items()}
    with tf.GradientTape() as tape:
        tape.watch(states)
        logits = model(read_by(model, states), training=False)
        loss = tf.reduce_sum(keras.ops.log_softmax(logits)[:, 0])
    read = [states[tensor.name] for tensor in model.inputs]
    for gradient in tape.gradient(loss, [*read, *model.trainable_variables]):
        assert gradient is not None
        assert np.isfinite(gradient).all()


def tflite(model, precision):
    """The content of a TFLite file of one utterance, by the converter that `export` uses."""
    specs = {each.name: tf.TensorSpec((1, *each.shape[1:]), each.dtype, each.name) for each in model.inputs}
    run = tf.function(lambda **inputs: model(read_by(model, inputs), training=False))
    return parts.converted(run.get_concrete_function(**specs), precision)


def run_tflite(content, inputs):
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        name = detail["name"].removeprefix("serving_default_").split(":")[0]
        interpreter.set_tensor(detail["index"], inputs[name])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("name", HEADS)
def test_tflite_files_of_builtins_give_the_same_scores(name):
    model = HEADS[name](TEXT, AUDIO, CLASSES)
    model.set_weights(built(name).get_weights())
    states = some_states(((4, 5),))
    expected = scores(model, states)
    precisions = {"float32": 1e-4, "float16": 2e-3, "dynamic": 0.03} if name in TWO else {"float32": 1e-4}
    sizes = {}
    for precision, tolerance in precisions.items():
        content = tflite(model, precision)
        assert all(hasattr(schema.BuiltinOperator, each) for each in flatbuffer.operator_names(content))
        found = run_tflite(content, states)
        np.testing.assert_allclose(found, expected, atol=tolerance * max(1, np.abs(expected).max()))
        sizes[precision] = len(content)
    assert len(sizes) == 1 or max(sizes["float16"], sizes["dynamic"]) < sizes["float32"]


@every_head
def test_a_saved_head_loads_in_safe_mode_without_a_layer_of_ours(name, tmp_path):
    model, states = built(name), some_states()
    model.save(tmp_path / "head.keras")
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    loaded = keras.models.load_model(tmp_path / "head.keras", safe_mode=True)
    np.testing.assert_array_equal(scores(loaded, states), scores(model, states))
    again, maps = attention_maps(loaded, states), attention_maps(model, states)
    assert list(again) == list(maps)
    assert all(np.array_equal(again[key], maps[key]) for key in maps)


@pytest.mark.parametrize(("modality", "inputs"), [("text", ["text_states"]), ("audio", ["audio_states"])])
def test_a_student_of_one_modality_reads_no_other(modality, inputs):
    model = cross_attention(TEXT, AUDIO, CLASSES, width=32, modality=modality)
    assert [tensor.name for tensor in model.inputs] == inputs
    (other,) = {"text_states", "audio_states"} - set(inputs)
    with pytest.raises(UserError, match=f"has no {other}"):
        tensor_of(model, other)


def test_dropout_is_where_the_releases_have_it():
    model = fusion_head(TEXT, AUDIO, CLASSES, dropout=0.25)
    assert model.get_layer("text_attention").dropout == 0.25
    assert model.get_layer("fusion_attention").dropout == 0.25
    (dropout,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropout.rate == 0.25
    assert dropout.input is embedding_of(model)
    cross = [each for each in built("cross both 2").layers if isinstance(each, keras.layers.Dropout)]
    assert [each.rate for each in cross] == [0.1, 0.1]
    assert cross[0].input is embedding_of(built("cross both 2"))
    assert cross[1].output is built("cross both 2").get_layer("logits").input


def test_bfloat16_is_near_float32():
    before = keras.config.dtype_policy()
    states = some_states(((60, 300),), text_rows=60, audio_rows=300)
    for name in TWO:
        try:
            keras.config.set_dtype_policy("mixed_bfloat16")
            model = HEADS[name]((None, TEXT[1]), (None, AUDIO[1]), CLASSES)
        finally:
            keras.config.set_dtype_policy(before)
        model.set_weights(built(name).get_weights())
        found, expected = scores(model, states), scores(built(name), states)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fusion_head(TEXT, AUDIO, 4, pooling="frist"), "Did you mean first"),
        (lambda: cross_attention(TEXT, AUDIO, 4, modality="speech"), "both, text, audio"),
        (lambda: cross_attention(TEXT, AUDIO, 4, width=30), "multiple of 8 heads, found 30"),
        (lambda: cross_attention(TEXT, AUDIO, 4, layers=0), "at least 1 layer, found 0"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


# Encoders and head together.


def text_encoder(width=TEXT[1], rows=None, name="bert"):
    ids = keras.Input((rows,), dtype="int32", name="token_ids")
    mask = keras.Input((rows,), dtype="int32", name="text_mask")
    states = keras.layers.Embedding(50, width, embeddings_initializer="normal")(ids)
    states = keras.layers.Dense(width, "tanh", bias_initializer="normal")(states)
    states = states * keras.ops.expand_dims(keras.ops.cast(mask, "float32"), -1)
    return keras.Model({"token_ids": ids, "text_mask": mask}, states, name=name)


def audio_encoder(width=AUDIO[1], rows=None, name="audio_encoder"):
    patches = keras.Input((rows, 6, 4), name="patches")
    states = keras.layers.Dense(width, use_bias=False)(keras.ops.reshape(patches, (-1, rows or AUDIO[0], 24)))
    return keras.Model(patches, states, name=name)


def raw_inputs(lengths=LENGTHS):
    rng = np.random.default_rng(5)
    mask = np.zeros((len(lengths), TEXT[0]), "int32")
    features = np.zeros((len(lengths), AUDIO[0], 6, 4), "float32")
    for index, (tokens, patches) in enumerate(lengths):
        mask[index, :tokens] = 1
        features[index, :patches] = rng.normal(size=(patches, 6, 4))
    ids = rng.integers(1, 50, mask.shape).astype("int32") * mask
    return {"token_ids": ids, "text_mask": mask, "features": features}


@pytest.mark.parametrize("name", ["fusion first", "cross both 2", "cross text 2", "cross audio 1"])
def test_encoders_and_head_together_are_the_head_on_their_states(name, tmp_path):
    head, given = built(name), raw_inputs()
    text, audio = text_encoder(), audio_encoder()
    reads = {tensor.name for tensor in head.inputs}
    encoders = [text if "text_states" in reads else None, audio if "audio_states" in reads else None]
    model = speech_and_text(*encoders, head)
    wanted = {"text_states": {"token_ids", "text_mask"}, "audio_states": {"features"}}
    assert {tensor.name for tensor in model.inputs} == set.union(*(wanted[each] for each in reads))
    states = {
        "text_states": text({key: given[key] for key in ("token_ids", "text_mask")}).numpy(),
        "audio_states": audio(given["features"]).numpy(),
    }
    expected, maps = scores(head, states), attention_maps(head, states)
    vectors = keras.Model(head.input, tensor_of(head, "embedding"))(read_by(head, states)).numpy()
    model.save(tmp_path / "whole.keras")
    for whole in (model, keras.models.load_model(tmp_path / "whole.keras", safe_mode=True)):
        np.testing.assert_allclose(scores(whole, given), expected, atol=1e-5)
        assert embedding_of(whole) is tensor_of(whole, "embedding")
        for tensor, value in (("embedding", vectors), *((each, states[each]) for each in reads)):
            found = keras.Model(whole.input, tensor_of(whole, tensor))(read_by(whole, given))
            np.testing.assert_allclose(found, value, atol=1e-5)
        for key, value in attention_maps(whole, given).items():
            np.testing.assert_allclose(value, maps[key], atol=1e-5)
        # The head comes out again, its weights in the order of the one that went in.
        back = head_of(whole)
        assert all(map(np.array_equal, back.get_weights(), head.get_weights()))
        assert len(back.get_weights()) == len(head.get_weights())
        np.testing.assert_allclose(scores(back, states), expected, atol=1e-5)
        assert embedding_of(back).shape == embedding_of(head).shape
        # and goes in again
        again = speech_and_text(*encoders, back)
        np.testing.assert_allclose(scores(again, given), expected, atol=1e-5)
        assert attention_maps(again, given).keys() == attention_maps(back, states).keys() == maps.keys()
    assert head_of(head) is head


def test_training_the_whole_trains_the_head_and_frozen_encoders_stay():
    head = fusion_head((None, TEXT[1]), (None, AUDIO[1]), CLASSES)
    text, audio = text_encoder(), audio_encoder()
    text.trainable = False
    model = speech_and_text(text, audio, head)
    trained = {id(weight) for weight in model.trainable_variables}
    assert trained == {id(weight) for each in (audio, head) for weight in each.trainable_variables}
    before = [each.get_weights() for each in (text, head)]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(raw_inputs(), np.arange(len(LENGTHS)), verbose=0)
    assert all(map(np.array_equal, text.get_weights(), before[0]))
    assert not np.array_equal(head.get_layer("logits").get_weights()[0], before[1][-2])
    assert all(map(np.array_equal, head_of(model).get_weights(), head.get_weights()))


def test_the_whole_becomes_one_tflite_file_of_builtins():
    head = fusion_head(TEXT, AUDIO, CLASSES)
    model = speech_and_text(text_encoder(rows=TEXT[0]), audio_encoder(rows=AUDIO[0]), head)
    given = raw_inputs(((4, 5),))
    content = tflite(model, "float32")
    assert all(hasattr(schema.BuiltinOperator, each) for each in flatbuffer.operator_names(content))
    np.testing.assert_allclose(run_tflite(content, given), scores(model, given), atol=1e-4)


@pytest.mark.parametrize(
    ("encoders", "said"),
    [
        ((None, audio_encoder), "reads audio_states and text_states: pass the text encoder"),
        ((text_encoder, None), "pass the audio encoder"),
        ((functools.partial(text_encoder, 20), audio_encoder), "states are 20 wide, fusion_head reads 24"),
        ((text_encoder, functools.partial(audio_encoder, 12)), "audio encoder's states are 12 wide"),
    ],
)
def test_encoders_that_do_not_fit_the_head_are_refused(encoders, said):
    with pytest.raises(UserError, match=said):
        speech_and_text(*(make and make() for make in encoders), built("fusion first"))
    with pytest.raises(UserError, match="pass None as the audio encoder"):
        speech_and_text(text_encoder(), audio_encoder(), built("cross text 2"))


def test_attention_is_that_of_torch():
    torch = pytest.importorskip("torch")
    states = some_states()["text_states"]
    model = built("fusion first")
    ours = model.get_layer("text_attention")
    wq, bq, wk, bk, wv, bv, wo, bo = ours.get_weights()
    width = TEXT[1]
    theirs = torch.nn.MultiheadAttention(width, ours.num_heads, batch_first=True)
    with torch.no_grad():
        kernels = [kernel.reshape(width, width).T for kernel in (wq, wk, wv)]
        theirs.in_proj_weight.copy_(torch.tensor(np.concatenate(kernels)))
        theirs.in_proj_bias.copy_(torch.tensor(np.concatenate([bq, bk, bv]).reshape(-1)))
        theirs.out_proj.weight.copy_(torch.tensor(wo.reshape(width, width).T))
        theirs.out_proj.bias.copy_(torch.tensor(bo))
        given = torch.tensor(states)
        padding = ~torch.tensor(states.any(axis=-1))
        expected, shares = theirs(
            given, given, given, key_padding_mask=padding, need_weights=True, average_attn_weights=False
        )
    found = keras.Model(model.input, ours.output)(some_states())
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(found[1], shares.numpy(), atol=1e-5)
