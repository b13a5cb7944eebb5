"""Text: tokens as keras-hub and transformers make them, states as NumPy, keras-hub and transformers do."""

import json
import math
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from light_sernet_kd import runner
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.encoders import bert, embedding_cache, text
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.encoders import TEXT_ENCODERS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, "das", "haus", "ist", "schon", "##er", "##s", "a", "b", "c", ".", "!", "null"]


def utterances(*transcripts: str | None) -> list[Utterance]:
    return [Utterance(f"u{i}", Path(f"{i}.wav"), "joy", "s", transcript=t) for i, t in enumerate(transcripts)]


def random_encoder(**settings) -> text.TextEncoder:
    spec = "random:" + ",".join(f"{key}={value}" for key, value in {"width": 16, **settings}.items())
    return text.load(spec, data=Path("nowhere"), tokens=16, texts=["Das Haus ist schöner.", "das Haus"])


# Cleaning


@pytest.mark.parametrize(
    ("transcript", "cleaned"),
    [
        ("  I said\t[LAUGHTER] no,\n\u00a0really ", "I said no, really"),
        ("well(sighs)then", "well then"),
        ("a [b [c] d] (e (f) g) h", "a h"),
        ("an open [bracket", "an open [bracket"),
        ("[GARBAGE]", "NULL"),
        ("", "NULL"),
        ("Das schöne Haus [lacht]", "Das schöne Haus"),
        ("그래서 (웃음) 좋아", "그래서 좋아"),
    ],
)
def test_remarks_go_and_white_space_is_one_space(transcript, cleaned):
    assert text.clean(transcript) == cleaned


def test_empty_texts_are_named():
    found = text.texts_of(utterances("Yes [x].", " [LAUGHTER] ", "", "no"))
    assert found == (["Yes .", "NULL", "NULL", "no"], ["u1", "u2"])


def test_missing_transcripts_are_counted_and_named():
    with pytest.raises(UserError) as caught:
        text.texts_of(utterances("yes", None, "no", None))
    assert str(caught.value).startswith("2 of 4 utterances have no transcript: u1, u3. ")
    assert "`transcript`" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    with pytest.raises(UserError, match=r"25 of 25 .*, u19 and 5 more\. "):
        text.texts_of(utterances(*[None] * 25))


# Tokens

SENTENCES = [
    "The quick brown fox doesn't jump; it's over-tired, isn't it?",
    "I'm SO excited!!! (really...) $5 & 3.14 [x] {y} a/b #tag @you ~^`",
    "Das schöne Mädchen aß Äpfel in Köln über Öl.",
    "naïve café résumé Ångström São Paulo Ελλάδα Москва",
    "그래서 정말 좋았어요, 안녕하세요!",
    "我很高兴见到你。今天天气很好",
    "ありがとう ございます",
    "happy 😀🎉 day",
    "Donaudampfschifffahrtsgesellschaft antidisestablishmentarianism",
    "x" * 101 + " and " + "y" * 100,
    "",
    "“quotes” – dashes — and… ellipsis",
]


@pytest.fixture(scope="module")
def real_vocabulary(shared_data) -> tuple[str, ...]:
    path = shared_data / "models" / "bert_uncased_vocab.txt"
    if not path.is_file():
        pytest.skip(f"no vocabulary in {path}")
    return text._vocabulary_lines(path)


def pieces_of(tokeniser: text.Tokeniser, sentence: str) -> list[str]:
    ids, mask, _ = tokeniser([sentence])
    return [tokeniser.vocabulary[i] for i in ids[0, mask[0] == 1]][1:-1]


@pytest.mark.parametrize("strip_accents", [True, False])
@pytest.mark.parametrize("lowercase", [True, False])
def test_tokens_are_those_of_keras_hub(real_vocabulary, lowercase, strip_accents):
    from keras_hub.tokenizers import BertTokenizer

    def folds_otherwise(sentence: str) -> bool:
        # Where BERT takes the small letter, keras-hub folds the case: ss of ß, three dots of …, and the
        # syllables of Hangul where their parts are in the vocabulary.
        plain = text._without_accents(sentence) if strip_accents else sentence
        return lowercase and unicodedata.normalize("NFKC", plain.casefold()) != plain.lower()

    sentences = [sentence.replace("ß", "s") for sentence in SENTENCES if not folds_otherwise(sentence)]
    assert len(sentences) >= 8
    theirs = BertTokenizer(list(real_vocabulary), lowercase=lowercase, strip_accents=strip_accents)
    ours = text.Tokeniser(real_vocabulary, lowercase, strip_accents, 256)
    ids, mask, cut = ours(sentences)
    assert not cut.any()
    for sentence, row, seen in zip(sentences, ids, mask, strict=True):
        assert row[seen == 1].tolist() == [101, *np.asarray(theirs(sentence)).tolist(), 102], sentence


@pytest.mark.parametrize("strip_accents", [None, True, False])
@pytest.mark.parametrize("lowercase", [True, False])
def test_tokens_are_those_of_transformers(real_vocabulary, tmp_path, lowercase, strip_accents):
    transformers = pytest.importorskip("transformers", reason="the reference is transformers' tokeniser")
    vocabulary = {token: index for index, token in enumerate(real_vocabulary)}
    theirs = transformers.BertTokenizer(
        vocab=vocabulary, do_lower_case=lowercase, strip_accents=strip_accents
    )
    theirs.save_pretrained(tmp_path)
    ours = text._tokeniser(tmp_path, 40)
    assert (ours.vocabulary, ours.lowercase) == (real_vocabulary, lowercase)
    sentences = [*SENTENCES, "Straße\u200b mit\u0000 Steuer\u00adzeichen", "zero\u200dwidth"]
    ids, mask, cut = ours(sentences)
    expected = theirs(sentences, padding="max_length", truncation=True, max_length=40)
    np.testing.assert_array_equal(ids, expected["input_ids"])
    np.testing.assert_array_equal(mask, expected["attention_mask"])
    lengths = [len(each) for each in theirs(sentences)["input_ids"]]
    assert cut.tolist() == [length > 40 for length in lengths]
    assert cut.any()


def test_uncased_bert_has_no_accents_and_keeps_the_sharp_s(real_vocabulary):
    lowercase, strip_accents = text._habits(real_vocabulary)
    assert (lowercase, strip_accents) == (True, True)
    tokeniser = text.Tokeniser(real_vocabulary, lowercase, strip_accents)
    assert pieces_of(tokeniser, "Äpfel, schön") == pieces_of(tokeniser, "apfel, schon")
    assert pieces_of(tokeniser, "Straße") == ["st", "##raße"]
    # the vocabulary holds the parts that the decomposition leaves of Hangul
    assert pieces_of(tokeniser, "안녕") == ["ᄋ", "##ᅡ", "##ᆫ", "##ᄂ", "##ᅧ", "##ᆼ"]
    assert pieces_of(text.Tokeniser(real_vocabulary, True, False), "안녕") == ["[UNK]"]


@pytest.mark.parametrize(
    ("words", "habits"),
    [
        (["a", "##b", "schon", "ß"], (True, True)),
        (["a", "schön"], (True, False)),
        (["a", "안녕"], (True, False)),
        (["a", "Haus"], (False, False)),
        (["Schön"], (False, False)),
    ],
)
def test_a_vocabulary_shows_how_its_text_was_made_plain(words, habits):
    assert text._habits([*SPECIAL, *words]) == habits


def test_a_text_is_opened_closed_padded_and_cut():
    tokeniser = text.Tokeniser(tuple(PIECES), True, True, 6)
    ids, mask, cut = tokeniser(["Das Haus.", "das Hauser a", "das Hauser a b c", ""])
    words = [[PIECES[i] for i in row] for row in ids]
    assert words == [
        ["[CLS]", "das", "haus", ".", "[SEP]", "[PAD]"],
        ["[CLS]", "das", "haus", "##er", "a", "[SEP]"],
        ["[CLS]", "das", "haus", "##er", "a", "[SEP]"],
        ["[CLS]", "[SEP]", "[PAD]", "[PAD]", "[PAD]", "[PAD]"],
    ]
    assert mask.sum(axis=1).tolist() == [5, 6, 6, 2]
    assert cut.tolist() == [False, False, True, False]
    assert (ids.dtype, mask.dtype, cut.dtype) == (np.int32, np.int32, bool)
    assert all((row[:-1] >= row[1:]).all() for row in mask)


def test_special_tokens_in_a_text_are_text():
    tokeniser = text.Tokeniser((*PIECES, "[", "]", "sep"), True, True, 8)
    assert pieces_of(tokeniser, "[SEP]") == ["[", "sep", "]"]


def test_the_device_has_the_same_tokeniser():
    ours = text.Tokeniser(tuple(PIECES), True, True, 8)
    device = runner.word_piece(PIECES, lowercase=True, strip_accents=True)
    sentence = runner.clean("Schöner [x] HAUS!")
    for (one,), other in zip(ours([sentence]), runner.encode_text(device, sentence, 8), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(runner.RunnerError, match=r"lacks \[SEP\]"):
        runner.word_piece([piece for piece in PIECES if piece != "[SEP]"], lowercase=True, strip_accents=True)
    with pytest.raises(UserError, match="at least 3"):
        text.Tokeniser(tuple(PIECES), True, True, 2)


# Networks

WIDTH, LAYERS, HEADS, POSITIONS = 12, 3, 2, 20
CONFIGS = {
    "bert": {
        "vocab_size": 20,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 24,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    },
    "distilbert": {
        "vocab_size": 20,
        "dim": WIDTH,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "hidden_dim": 24,
        "max_position_embeddings": POSITIONS,
        "activation": "gelu",
    },
}
CONFIGS["electra"] = {**CONFIGS["bert"], "embedding_size": 6, "layer_norm_eps": 1e-12}


def random_tensors(family: str, prefix: str = "") -> dict[str, np.ndarray]:
    """Weights as transformers names them, of the dimensions in `CONFIGS`."""
    rng = np.random.default_rng(0)
    inner = 6 if family == "electra" else WIDTH
    shapes = {
        "embeddings.word_embeddings.weight": (20, inner),
        "embeddings.position_embeddings.weight": (POSITIONS, inner),
        "embeddings.LayerNorm.weight": (inner,),
        "embeddings.LayerNorm.bias": (inner,),
    }
    if family != "distilbert":
        shapes["embeddings.token_type_embeddings.weight"] = (2, inner)
    if family == "electra":
        shapes |= {"embeddings_project.weight": (WIDTH, 6), "embeddings_project.bias": (WIDTH,)}
    for i in range(LAYERS):
        block = f"transformer.layer.{i}." if family == "distilbert" else f"encoder.layer.{i}."
        square, norms, first, last = NAMES[family == "distilbert"]
        for name in square:
            shapes |= {f"{block}{name}.weight": (WIDTH, WIDTH), f"{block}{name}.bias": (WIDTH,)}
        for name in norms:
            shapes |= {f"{block}{name}.weight": (WIDTH,), f"{block}{name}.bias": (WIDTH,)}
        shapes |= {f"{block}{first}.weight": (24, WIDTH), f"{block}{first}.bias": (24,)}
        shapes |= {f"{block}{last}.weight": (WIDTH, 24), f"{block}{last}.bias": (WIDTH,)}
    return {prefix + name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


NAMES = {
    False: (
        ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"],
        ["attention.output.LayerNorm", "output.LayerNorm"],
        "intermediate.dense",
        "output.dense",
    ),
    True: (
        ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"],
        ["sa_layer_norm", "output_layer_norm"],
        "ffn.lin1",
        "ffn.lin2",
    ),
}


def reference_states(family: str, tensors: dict[str, np.ndarray], ids: list[int], layers: int = LAYERS):
    """One text's last hidden states, in NumPy and loops over heads."""
    epsilon = CONFIGS[family].get("layer_norm_eps", 1e-12)
    weights = {name: value.astype(np.float64) for name, value in tensors.items()}
    gelu = np.vectorize(lambda value: value * 0.5 * (1 + math.erf(value / math.sqrt(2))))

    def dense(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    if family != "distilbert":
        x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    if family == "electra":
        x = dense(x, "embeddings_project")
    (query, key, value, output), (first_norm, last_norm), up, down = NAMES[family == "distilbert"]
    for i in range(layers):
        block = f"transformer.layer.{i}." if family == "distilbert" else f"encoder.layer.{i}."
        parts = [dense(x, block + name) for name in (query, key, value)]
        heads = []
        for q, k, v in zip(*(np.split(part, HEADS, axis=-1) for part in parts), strict=True):
            scores = np.exp(q @ k.T / math.sqrt(WIDTH // HEADS))
            heads.append(scores / scores.sum(axis=-1, keepdims=True) @ v)
        x = norm(x + dense(np.concatenate(heads, axis=-1), block + output), block + first_norm)
        x = norm(x + dense(gelu(dense(x, block + up)), block + down), block + last_norm)
    return x


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], dtype: str = "F32") -> None:
    """As the format's description says; bfloat16 by cutting the lower half off."""
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, value in tensors.items():
        kind = {"F32": np.float32, "F16": np.float16}.get(dtype)
        raw = value.astype(kind).tobytes() if kind else (value.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(content), len(content) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": offsets}
        content += raw
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content)


def write_folder(folder: Path, family: str, tensors: dict[str, np.ndarray], dtype: str = "F32") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": family, **CONFIGS[family]}))
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    return folder


def load(folder: Path | str, **settings) -> text.TextEncoder:
    return text.load(str(folder), data=Path("nowhere"), **{"tokens": 12, **settings})


IDS = np.array([[2, 5, 6, 7, 8, 3, 0, 0], [2, 11, 12, 13, 14, 15, 16, 3], [2, 3, 0, 0, 0, 0, 0, 0]], np.int32)
MASK = (IDS != 0).astype(np.int32)


@pytest.mark.parametrize("family", CONFIGS)
def test_states_are_those_of_numpy_and_zero_at_padding(tmp_path, family):
    tensors = random_tensors(family)
    encoder = load(write_folder(tmp_path / family, family, tensors))
    assert (encoder.name, encoder.width, encoder.layers) == (family, WIDTH, LAYERS)
    states = encoder.states(IDS, MASK)
    assert (states.shape, states.dtype) == ((3, 8, WIDTH), np.float32)
    for row, ids, mask in zip(states, IDS, MASK, strict=True):
        count = mask.sum()
        np.testing.assert_allclose(row[:count], reference_states(family, tensors, ids[:count]), atol=2e-5)
        assert not row[count:].any()
        alone = encoder.states(ids[None, :count], mask[None, :count])
        np.testing.assert_allclose(row[:count], alone[0], atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_truncated_encoder_has_the_first_layers_and_its_own_weights(tmp_path, family):
    tensors = random_tensors(family)
    whole = load(write_folder(tmp_path / family, family, tensors))
    short = text.truncated(whole, 2)
    loaded = load(tmp_path / family, layers=2)
    assert (short.layers, short.name) == (2, f"{family}-2")
    assert (short.name, short.identity) == (loaded.name, loaded.identity)
    expected = reference_states(family, tensors, IDS[1], layers=2)
    np.testing.assert_allclose(short.states(IDS, MASK)[1], expected, atol=2e-5)
    before = whole.states(IDS, MASK)
    for weight in short.backbone.weights:
        weight.assign(weight + 1.0)
    np.testing.assert_array_equal(whole.states(IDS, MASK), before)
    assert np.abs(short.states(IDS, MASK)[1] - expected).max() > 0.1, "the graph holds old weights"
    assert text.truncated(whole, LAYERS).identity == whole.identity
    for layers in (0, LAYERS + 1):
        with pytest.raises(UserError, match=f"has 3 layers, and {layers} are needed"):
            text.truncated(whole, layers)
        with pytest.raises(UserError, match="has 3 layers"):
            load(tmp_path / family, layers=layers)


@pytest.mark.parametrize("kind", ["prefix", "gamma", "F16", "BF16", "shards", "head"])
def test_whatever_way_weights_are_saved_they_are_read(tmp_path, kind):
    tensors = random_tensors("bert")
    saved, tolerance = tensors, 2e-5
    if kind in ("prefix", "head", "shards"):
        saved = {f"bert.{name}": value for name, value in tensors.items()}
    if kind == "head":
        saved["cls.predictions.bias"] = np.zeros(20, np.float32)
    if kind == "gamma":
        saved = {
            name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): value
            for name, value in tensors.items()
        }
    if kind == "F16":
        tensors = {name: value.astype(np.float16) for name, value in tensors.items()}
    if kind == "BF16":
        tensors = {
            name: (value.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, value in tensors.items()
        }
    folder = write_folder(tmp_path / "bert", "bert", saved, kind if "F16" in kind else "F32")
    if kind == "shards":
        (folder / "model.safetensors").unlink()
        names = list(saved)
        files = {"one.safetensors": names[:20], "two.safetensors": names[20:]}
        for file, held in files.items():
            write_safetensors(folder / file, {name: saved[name] for name in held})
        index = {"weight_map": {name: file for file, held in files.items() for name in held}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = load(folder).states(IDS, MASK)[1]
    np.testing.assert_allclose(found, reference_states("bert", tensors, IDS[1]), atol=tolerance)


@pytest.mark.parametrize("family", ["Bert", "DistilBert", "Electra"])
def test_a_folder_of_keras_hub_gives_its_states(tmp_path, family):
    import keras_hub

    keras.utils.set_random_seed(0)
    vocabulary = {"vocab_size": 20, "embedding_dim": 6} if family == "Electra" else {"vocabulary_size": 20}
    backbone = getattr(keras_hub.models, f"{family}Backbone")(
        **vocabulary,
        num_layers=2,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=24,
        max_sequence_length=POSITIONS,
    )
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    backbone.save_to_preset(str(tmp_path / "saved"))
    tokeniser = getattr(keras_hub.tokenizers, f"{family}Tokenizer")(PIECES, lowercase=True)
    tokeniser.save_to_preset(str(tmp_path / "saved"))
    inputs = {"token_ids": IDS, "padding_mask": MASK}
    if family != "DistilBert":
        inputs["segment_ids"] = np.zeros_like(IDS)
    expected = backbone(inputs)
    expected = np.asarray(expected if family == "DistilBert" else expected["sequence_output"])
    encoder = load(tmp_path / "saved")
    np.testing.assert_allclose(encoder.states(IDS, MASK), expected * MASK[..., None], atol=2e-5)
    assert encoder.tokeniser == text.Tokeniser(tuple(PIECES), True, True, 12)


@pytest.mark.parametrize(
    "name",
    ["BertModel", "BertForMaskedLM", "DistilBertModel", "DistilBertForMaskedLM", "ElectraForPreTraining"],
)
def test_a_folder_of_transformers_gives_its_states(tmp_path, name):
    torch = pytest.importorskip("torch", reason="the reference is transformers on PyTorch")
    transformers = pytest.importorskip("transformers", reason="the reference is transformers on PyTorch")
    family = name.removesuffix("Model").split("For")[0]
    config = getattr(transformers, f"{family}Config")(
        **CONFIGS[family.lower()], initializer_range=0.5, pad_token_id=0
    )
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    model.save_pretrained(tmp_path / "saved")
    transformers.BertTokenizer(vocab={token: i for i, token in enumerate(PIECES)}).save_pretrained(
        tmp_path / "saved"
    )
    with torch.inference_mode():
        found = model.base_model(torch.tensor(IDS).long(), attention_mask=torch.tensor(MASK).long())
    encoder = load(tmp_path / "saved")
    assert np.abs(found.last_hidden_state.numpy()).max() > 1
    np.testing.assert_allclose(
        encoder.states(IDS, MASK), found.last_hidden_state.numpy() * MASK[..., None], atol=1e-4
    )
    assert encoder.tokeniser.lowercase
    assert encoder.tokeniser.strip_accents


def test_an_encoder_is_saved_without_anything_of_ours(tmp_path):
    encoder = random_encoder()
    encoder.backbone.save(tmp_path / "encoder.keras")
    config = encoder.backbone.to_json()
    assert "keras_hub" not in config
    assert "light_sernet" not in config
    again = keras.saving.load_model(tmp_path / "encoder.keras", compile=False, safe_mode=True)
    ids, mask, _ = encoder.tokeniser(["das haus", "schöner"])
    np.testing.assert_allclose(np.asarray(again([ids, mask])), encoder.states(ids, mask), atol=1e-5)


def test_an_encoder_runs_on_a_device_with_builtin_operations(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    encoder = load(write_folder(tmp_path / "bert", "bert", random_tensors("bert")))
    fixed = [tf.TensorSpec((1, 8), tf.int32, name=name) for name in ("token_ids", "text_mask")]
    graph = tf.function(lambda ids, mask: encoder.backbone([ids, mask]), input_signature=fixed)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.get_concrete_function()])
    with runner.without_chatter():
        interpreter = Interpreter(model_content=converter.convert())
        interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], (IDS if "ids" in detail["name"] else MASK)[:1])
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, encoder.states(IDS[:1], MASK[:1]), atol=1e-4)


def test_padding_passes_no_gradient_and_dropout_is_for_training():
    encoder = random_encoder()
    ids, mask, _ = encoder.tokeniser(["das haus", "das"])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder.backbone([ids, mask], training=False) ** 2 * tf.range(16.0))
    (gradient,) = tape.gradient(loss, [encoder.backbone.get_layer("position_embedding").embeddings])
    moved = np.abs(tf.convert_to_tensor(gradient).numpy()).sum(axis=1) > 0
    longest = mask.sum(axis=1).max()
    assert moved[:longest].all()
    assert not moved[longest:].any()
    first, second = (np.asarray(encoder.backbone([ids, mask], training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.01


def test_parameters_are_counted_with_and_without_words():
    found = text.parameters(random_encoder(layers=3))
    vocabulary = random_encoder().shape.vocabulary
    width, inner = 16, 64
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    assert found.without_words == 3 * layer + (512 + 2) * width + 2 * width
    assert found.all == found.without_words + vocabulary * width


# Random encoders


def test_a_random_encoder_is_always_the_same():
    one, other, deep = random_encoder(), random_encoder(), random_encoder(layers=4)
    assert one.identity == other.identity
    assert one.identity != random_encoder(heads=4).identity
    assert text.truncated(deep, 2).identity == one.identity
    kernel = deep.backbone.get_layer("layer_3_intermediate").kernel.numpy()
    assert kernel.std() == pytest.approx(0.02, rel=0.1)
    assert np.abs(kernel - deep.backbone.get_layer("layer_2_intermediate").kernel.numpy()).max() > 0.02


def test_a_vocabulary_is_made_of_characters_and_repeated_words():
    encoder = text.load("random:", data=Path("nowhere"), texts=["Das Haus!", "das Öl", "Öl"])
    vocabulary = encoder.tokeniser.vocabulary
    letters = sorted({*"dashausölnull!"})
    assert list(vocabulary) == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters), "das", "öl",
    ]  # fmt: skip
    assert (encoder.tokeniser.lowercase, encoder.tokeniser.strip_accents) == (True, False)
    assert (encoder.width, encoder.layers, encoder.shape.heads) == (64, 2, 2)
    assert pieces_of(encoder.tokeniser, "DAS Haus") == ["das", "h", "##a", "##u", "##s"]


def test_a_random_encoder_takes_a_vocabulary_file(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    encoder = text.load(f"random:layers=1,vocabulary={tmp_path / 'vocab.txt'}", data=tmp_path)
    assert encoder.tokeniser.vocabulary == tuple(PIECES)
    assert encoder.tokeniser.tokens == 128


# Mistakes


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("random:widht=3", "Did you mean width"),
        ("random:width=x", "width must be a whole number from 1 on, found x"),
        ("random:heads=3", "must be a multiple of its 3 heads"),
        ("random:vocabulary=no.txt", "cannot read the vocabulary no.txt"),
        ("bert_base_en_uncasd", "Did you mean bert_base_en_uncased"),
        ("some/folder", "no folder some/folder; expected a Hugging Face folder"),
    ],
)
def test_an_impossible_encoder_is_one_sentence(spec, said):
    with pytest.raises(UserError) as caught:
        load(spec, texts=["das Haus"])
    assert said in str(caught.value)


def test_a_random_encoder_needs_words():
    with pytest.raises(UserError, match="needs texts for its vocabulary, or a file"):
        load("random:")


def test_a_preset_without_network_says_what_to_do(monkeypatch, tmp_path):
    import keras_hub

    def unreachable(preset):
        raise ConnectionError("HTTPSConnectionPool: Max retries exceeded\nmore")

    monkeypatch.setattr(keras_hub.models.Tokenizer, "from_preset", unreachable)
    with pytest.raises(UserError) as caught:
        text.load("bert_tiny_en_uncased", data=tmp_path)
    assert "bert_tiny_en_uncased cannot be loaded (HTTPSConnectionPool: Max retries exceeded)." in str(
        caught.value
    )
    assert "machine with network" in str(caught.value)
    folder = tmp_path / "models" / "bert_tiny_en_uncased"
    folder.parent.mkdir()
    write_folder(folder, "bert", random_tensors("bert"))
    assert text.load("bert_tiny_en_uncased", data=tmp_path, tokens=12).layers == LAYERS


@pytest.mark.parametrize("package", ["keras_hub", "tokenizers"])
def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    tokeniser = text.Tokeniser(tuple(PIECES), True, True, 8)
    with pytest.raises(UserError, match=package) as caught:
        text._known_preset("bert_tiny_en_uncased") if package == "keras_hub" else tokeniser(["das"])
    assert 'pip install "light-sernet-kd[text]"' in str(caught.value)


def test_every_variant_is_a_preset():
    assert {encoder.layers for encoder in TEXT_ENCODERS.values()} == {None, 2, 4, 6, 8}
    for encoder in TEXT_ENCODERS.values():
        assert text._known_preset(encoder.preset) == encoder.preset


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def set_config(**changes):
    return lambda folder: edit(folder / "config.json", **changes)


def write(name: str, content: str | bytes):
    return lambda folder: (folder / name).write_bytes(
        content.encode() if isinstance(content, str) else content
    )


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def other_weights(folder: Path) -> None:
    write_safetensors(folder / "model.safetensors", {"x": np.zeros(2, np.float32)})


HOLES = '{"model": {"vocab": {"a": 0, "b": 2}}, "normalizer": {"type": "BertNormalizer"}}'
DAMAGES = {
    "no config": (remove("config.json"), r"has no config\.json; expected a Hugging Face"),
    "bad config": (write("config.json", "{"), r"config\.json is damaged"),
    "list config": (write("config.json", "[]"), r"config\.json is damaged"),
    "short config": (write("config.json", '{"model_type": "bert"}'), "does not say vocab_size"),
    "other family": (set_config(model_type="roberta"), "holds a roberta model"),
    "other class": (set_config(class_name="GemmaBackbone"), "holds a GemmaBackbone"),
    "not keras-hub": (set_config(class_name="BertBackbone"), "cannot be loaded"),
    "activation": (set_config(hidden_act="swish"), "activation swish"),
    "positions": (set_config(position_embedding_type="relative_key"), "relative_key position"),
    "heads": (set_config(num_attention_heads=5), "a multiple of its 5 heads"),
    "width": (set_config(hidden_size=16), r"weights of .*bert do not fit its config.* instead of \(20, 16\)"),
    "layers": (set_config(num_hidden_layers=4), r"bert lacks 16 .* e\.g\. encoder\.layer\.3"),
    "no weights": (remove("model.safetensors"), r"no weights: expected model\.safetensors\.$"),
    "pickle": (pickled, r"pytorch_model\.bin is not read"),
    "empty weights": (write("model.safetensors", ""), "not a safetensors file"),
    "cut weights": (cut, "cut short"),
    "other weights": (other_weights, "holds 0 weights"),
    "no vocabulary": (remove("vocab.txt"), "has no vocabulary"),
    "long vocabulary": (
        write("vocab.txt", "\n".join([*PIECES, *"defghijk"])),
        "25 tokens, but embeddings for 20",
    ),
    "no specials": (write("vocab.txt", "[PAD]\n[UNK]\na"), r"lacks \[CLS\], \[SEP\]"),
    "not UTF-8": (write("vocab.txt", b"\xff\xfe"), "not UTF-8"),
    "other tokeniser": (
        write("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": 0}}}'),
        "not BERT's WordPiece",
    ),
    "holes": (write("tokenizer.json", HOLES), "have holes"),
    "no model": (write("tokenizer.json", "{}"), "is damaged, or is no tokeniser"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path, damage):
    folder = write_folder(tmp_path / "bert", "bert", random_tensors("bert"))
    harm, said = DAMAGES[damage]
    harm(folder)
    with pytest.raises(UserError, match=said):
        load(folder)


def test_more_tokens_than_positions_are_refused(tmp_path):
    folder = write_folder(tmp_path / "bert", "bert", random_tensors("bert"))
    with pytest.raises(UserError, match="at most 20 tokens, found 21"):
        load(folder, tokens=21)
    assert load(folder, tokens=20).tokeniser.tokens == 20


@pytest.mark.parametrize(
    ("told", "flags"),
    [
        (None, (True, True)),
        ({}, (True, True)),
        ({"do_lower_case": True}, (True, True)),
        ({"do_lower_case": False}, (False, False)),
        ({"do_lower_case": True, "strip_accents": False}, (True, False)),
        ({"do_lower_case": False, "strip_accents": True}, (False, True)),
    ],
)
def test_a_folder_says_what_becomes_of_case_and_accents(tmp_path, told, flags):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    if told is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    found = text._tokeniser(tmp_path, 12)
    assert (found.lowercase, found.strip_accents) == flags
    assert found.vocabulary == tuple(PIECES)


# States on disk


def test_states_of_texts_are_kept_a_row_for_each_token(tmp_path, monkeypatch):
    seen = []
    plain = text.TextEncoder.states
    monkeypatch.setattr(
        text.TextEncoder, "states", lambda self, ids, mask: seen.append(ids.shape) or plain(self, ids, mask)
    )
    encoder = random_encoder()
    rng = np.random.default_rng(0)
    words = ["das", "haus", "ist", "schöner", "."]
    transcripts = [" ".join(rng.choice(words, rng.integers(0, 20))) for _ in range(150)]
    transcripts += ["das [x] haus", " das  haus", "[LAUGHTER]"]
    found = text.text_states(utterances(*transcripts[:50]), encoder, cache=tmp_path)
    reported = []
    found = text.text_states(
        utterances(*transcripts), encoder, cache=tmp_path, progress=lambda *done: reported.append(done)
    )
    assert reported[-1] == (153, 153)
    cleaned = [text.clean(one) for one in transcripts]
    assert sum(count for count, _ in seen) == len(set(cleaned)), "equal texts are encoded once"
    ids, mask, cut = encoder.tokeniser(cleaned)
    assert cut.any()
    np.testing.assert_array_equal(found.rows, mask.sum(axis=1))
    assert all(block.dtype == np.float16 and isinstance(block, np.memmap) for block in found._blocks)
    expected = plain(encoder, ids, mask)
    for rows, own, count in zip(found, expected, mask.sum(axis=1), strict=True):
        np.testing.assert_allclose(rows, own[:count], atol=2e-3)
    np.testing.assert_array_equal(found[150], found[151])
    padded = embedding_cache.Padded(found, 16)[np.arange(153)]
    np.testing.assert_allclose(padded, expected, atol=2e-3)
    assert not padded[mask == 0].any()
    before = len(seen)
    text.text_states(utterances(*transcripts[::-1]), encoder, cache=tmp_path)
    assert len(seen) == before, "all of it is in the cache"


def test_texts_of_like_length_are_encoded_together(tmp_path, monkeypatch):
    widths = []
    plain = text.TextEncoder.states
    monkeypatch.setattr(
        text.TextEncoder,
        "states",
        lambda self, ids, mask: widths.append(ids.shape[1]) or plain(self, ids, mask),
    )
    texts = [f"{'das ' * (i % 4)}{i}" for i in range(200)]
    encoder = random_encoder()
    text.text_states(utterances(*texts), encoder, cache=tmp_path)
    lengths = np.sort(encoder.tokeniser(texts).text_mask.sum(axis=1))
    assert widths == [lengths[min(stop, 200) - 1] for stop in (64, 128, 192, 256)]


def test_other_tokens_weights_and_layers_have_other_caches(tmp_path):
    def tiny(spec: str, tokens: int = 16, texts: Sequence[str] = ("das Haus ist",)) -> text.TextEncoder:
        return text.load(f"random:width=8,{spec}", data=tmp_path, tokens=tokens, texts=texts)

    encoders = [
        tiny("layers=1"),
        tiny("layers=2"),
        tiny("layers=1,heads=4"),
        tiny("layers=1", tokens=15),
        tiny("layers=1", texts=["das Haus"]),
    ]
    for encoder in [*encoders, tiny("layers=1")]:
        text.text_states(utterances("das haus"), encoder, cache=tmp_path)
    assert len(list(tmp_path.glob("text-random-*"))) == len(encoders)


def test_states_of_a_trained_encoder_have_a_cache_of_their_own(tmp_path):
    encoder = random_encoder(layers=1)
    before = text.text_states(utterances("das haus"), encoder, cache=tmp_path)[0]
    norm = encoder.backbone.get_layer("layer_0_output_norm")
    norm.beta.assign_add(np.ones(16))
    after = text.text_states(utterances("das haus"), encoder, cache=tmp_path)[0]
    np.testing.assert_allclose(after, before + 1.0, atol=4e-3)


def test_states_need_every_transcript(tmp_path):
    with pytest.raises(UserError, match="1 of 2 utterances have no transcript: u1"):
        text.text_states(utterances("das", None), random_encoder(), cache=tmp_path)


def test_a_weight_that_nothing_is_known_of_is_our_mistake():
    with pytest.raises(ValueError, match="no weight of a text encoder"):
        bert._parsed("pooler/kernel_2")
