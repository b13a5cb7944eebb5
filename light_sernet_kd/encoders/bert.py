"""BERT, DistilBERT and ELECTRA as one network, with weights from keras-hub, a Hugging Face folder or chance.

The network is made of plain Keras layers, so that a student that holds it loads without keras-hub and without
this package.
"""

import functools
import hashlib
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from light_sernet_kd.errors import UserError, install_line
from light_sernet_kd.files import JsonError, read_json

# Name and shape of one of the network's weights → its value; the axes may be split or joined otherwise.
Read = Callable[[str, tuple[int, ...]], np.ndarray]

# What weights are stored as; integers are none.
_FLOATS = ("F64", "F32", "F16", "BF16")
FAMILIES = ("bert", "distilbert", "electra")
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}

# Where a part's weights are: here, in a Hugging Face BERT or ELECTRA, in its DistilBERT, and in keras-hub.
_EMBEDDINGS = (
    ("token_embedding", "word_embeddings", "word_embeddings", "token_embedding"),
    ("position_embedding", "position_embeddings", "position_embeddings", "position_embedding"),
    ("segment_embedding", "token_type_embeddings", "", "segment_embedding"),
    ("embedding_norm", "LayerNorm", "LayerNorm", "embeddings_layer_norm"),
)
_BLOCK = (
    ("attention/query", "attention.self.query", "attention.q_lin", "self_attention_layer/query"),
    ("attention/key", "attention.self.key", "attention.k_lin", "self_attention_layer/key"),
    ("attention/value", "attention.self.value", "attention.v_lin", "self_attention_layer/value"),
    (
        "attention/attention_output",
        "attention.output.dense",
        "attention.out_lin",
        "self_attention_layer/attention_output",
    ),
    ("attention_norm", "attention.output.LayerNorm", "sa_layer_norm", "self_attention_layer_norm"),
    ("intermediate", "intermediate.dense", "ffn.lin1", "feedforward_intermediate_dense"),
    ("output", "output.dense", "ffn.lin2", "feedforward_output_dense"),
    ("output_norm", "output.LayerNorm", "output_layer_norm", "feedforward_layer_norm"),
)
_WEIGHT = re.compile(r"(?:layer_(\d+)_)?(.+)/(kernel|bias|gamma|beta|embeddings)")


@dataclass(frozen=True)
class Shape:
    """The dimensions of an encoder.

    Attributes:
        vocabulary: rows of the token embedding.
        positions: the longest text, in tokens.
        segments: rows of the segment embedding, of which the first is used; 0 where there is none.
        embedding_width: differs from `width` in small ELECTRAs, which project the embeddings.
        activation: `gelu`, its approximation `gelu_tanh`, or `relu`.

    Raises:
        UserError: a dimension is not positive, or the width is no multiple of the heads.
    """

    family: str
    vocabulary: int
    layers: int
    heads: int
    width: int
    intermediate: int
    positions: int = 512
    segments: int = 2
    embedding_width: int = 0
    activation: str = "gelu"
    epsilon: float = 1e-12
    dropout: float = 0.1

    def __post_init__(self):
        if not self.embedding_width:
            object.__setattr__(self, "embedding_width", self.width)
        if min(self.vocabulary, self.layers, self.heads, self.width, self.intermediate, self.positions) < 1:
            raise UserError(f"a text encoder's dimensions must be positive, found {asdict(self)}.")
        if self.width % self.heads:
            raise UserError(
                f"a text encoder's width, {self.width}, must be a multiple of its {self.heads} heads."
            )


@dataclass(frozen=True)
class Source:
    """Where an encoder's weights are, not read yet; `name` is for errors."""

    shape: Shape
    read: Read
    name: str = "the text encoder"


def network(source: Source) -> keras.Model:
    """Inputs `token_ids` and `text_mask` (1 for a token, 0 for padding), int32 `(batch, tokens)` → the last
    hidden states `(batch, tokens, width)`, zeros at padding.

    What comes out for a text is the same alone or beside longer ones. `layer_0_attention`, … are its
    attentions, `layer_0_output_norm`, … what comes out of each layer.

    Raises:
        UserError: a weight is missing or of another shape.

    Source: Devlin et al. 2019, arXiv:1810.04805; Sanh et al. 2019, arXiv:1910.01108, section 3; Clark et al.
    2020, arXiv:2003.10555, section 3. The pooler on the first token is left out.
    """
    shape = source.shape
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    text_mask = keras.Input((None,), dtype="int32", name="text_mask")

    def embedding(rows: int, name: str) -> layers.Layer:
        return layers.Embedding(rows, shape.embedding_width, embeddings_initializer="zeros", name=name)

    def dense(width: int, name: str) -> layers.Layer:
        # zeros, because weights always come from elsewhere
        return layers.Dense(width, kernel_initializer="zeros", name=name)

    def norm(x, name: str):
        return layers.LayerNormalization(epsilon=shape.epsilon, name=name)(x)

    ones = ops.ones_like(token_ids)
    x = embedding(shape.vocabulary, "token_embedding")(token_ids)
    x = x + embedding(shape.positions, "position_embedding")(ops.cumsum(ones, axis=1) - ones)
    if shape.segments:
        x = x + embedding(shape.segments, "segment_embedding")(ops.zeros_like(token_ids))
    x = layers.Dropout(shape.dropout)(norm(x, "embedding_norm"))
    if shape.embedding_width != shape.width:
        x = dense(shape.width, "embedding_projection")(x)
    seen = ops.expand_dims(text_mask, 1)
    for i in range(shape.layers):
        attention = layers.MultiHeadAttention(
            shape.heads,
            shape.width // shape.heads,
            dropout=shape.dropout,
            kernel_initializer="zeros",
            name=f"layer_{i}_attention",
        )
        attended = layers.Dropout(shape.dropout)(attention(x, x, attention_mask=seen))
        x = norm(x + attended, f"layer_{i}_attention_norm")
        hidden = _activated(dense(shape.intermediate, f"layer_{i}_intermediate")(x), shape.activation)
        hidden = layers.Dropout(shape.dropout)(dense(shape.width, f"layer_{i}_output")(hidden))
        x = norm(x + hidden, f"layer_{i}_output_norm")
    states = x * ops.expand_dims(ops.cast(text_mask, x.dtype), -1)
    model = keras.Model([token_ids, text_mask], states, name="text_encoder")
    _fill(model, source)
    return model


def _activated(x, activation: str):
    if activation == "relu":
        return ops.relu(x)
    return ops.gelu(x, approximate=activation == "gelu_tanh")


def _fill(model: keras.Model, source: Source) -> None:
    missing, other = [], []
    for weight in model.weights:
        try:
            value = source.read(weight.path, tuple(weight.shape))
        except KeyError as error:
            missing.append(str(error.args[0]))
            continue
        if value.size == math.prod(weight.shape):
            weight.assign(value.reshape(weight.shape))
        else:
            other.append(f"{weight.path} {tuple(value.shape)} instead of {tuple(weight.shape)}")
    if missing:
        raise UserError(f"{source.name} lacks {len(missing)} of its weights, e.g. {missing[0]}.")
    if other:
        raise UserError(
            f"{len(other)} of the weights of {source.name} do not fit its configuration, e.g. {other[0]}."
        )


def first_layers(source: Source, count: int | None) -> Source:
    """The same embeddings and the first `count` layers; all for None.

    Raises:
        UserError: it has fewer.
    """
    if count is None:
        return source
    if not 1 <= count <= source.shape.layers:
        raise UserError(
            f"{source.name} has {source.shape.layers} layers, and {count} are needed: take "
            "a deeper text encoder, or a student of fewer layers."
        )
    return replace(source, shape=replace(source.shape, layers=count))


def of_network(model: keras.Model, shape: Shape) -> Source:
    """The weights that `model` has now."""
    weights = {weight.path: weight for weight in model.weights}
    return Source(shape, lambda path, _: weights[path].numpy())


def digest(model: keras.Model) -> str:
    """Hash of the names, shapes and values of all weights."""
    sha256 = hashlib.sha256()
    for weight in model.weights:
        sha256.update(f"{weight.path} {tuple(weight.shape)}".encode())
        sha256.update(weight.numpy().tobytes())
    return sha256.hexdigest()


def random(shape: Shape) -> Source:
    """Always the same weights, drawn as BERT's are at first; a layer's do not depend on those behind it."""

    def read(path: str, size: tuple[int, ...]) -> np.ndarray:
        kind = path.rpartition("/")[2]
        if kind in ("kernel", "embeddings"):
            rng = np.random.default_rng([0, zlib.crc32(path.encode())])
            return 0.02 * rng.standard_normal(size, np.float32)
        return np.full(size, kind == "gamma", np.float32)

    return Source(shape, read)


def _parsed(path: str) -> tuple[str | None, str, str]:
    """The layer's number, None in front of them; the part of it; which of its weights."""
    parts = _WEIGHT.fullmatch(path)
    if parts is None:
        raise ValueError(f"no weight of a text encoder: {path}")
    return parts[1], parts[2], parts[3]


# keras-hub


def of_keras_hub(backbone) -> Source:
    """The weights of a keras-hub `BertBackbone`, `DistilBertBackbone` or `ElectraBackbone`."""
    config, family = backbone.get_config(), type(backbone).__name__.removesuffix("Backbone").lower()
    shape = Shape(
        family,
        vocabulary=config["vocab_size" if family == "electra" else "vocabulary_size"],
        layers=config["num_layers"],
        heads=config["num_heads"],
        width=config["hidden_dim"],
        intermediate=config["intermediate_dim"],
        positions=config["max_sequence_length"],
        segments=config.get("num_segments", 0),
        embedding_width=config.get("embedding_dim", 0),
        # as its backbones are written
        activation="gelu" if family == "distilbert" else "gelu_tanh",
        dropout=config["dropout"],
    )
    names = {ours: theirs for ours, _, _, theirs in (*_EMBEDDINGS, *_BLOCK)}
    names["embedding_projection"] = "embeddings_projection"

    def read(path: str, _: tuple[int, ...]) -> np.ndarray:
        layer, part, kind = _parsed(path)
        wanted = (
            f"{names[part]}/{kind}" if layer is None else f"transformer_layer_{layer}/{names[part]}/{kind}"
        )
        for weight in backbone.weights:
            if f"/{weight.path}".endswith(f"/{wanted}"):
                return weight.numpy()
        raise KeyError(wanted)

    return Source(shape, read)


# Hugging Face


def of_folder(folder: Path, config: Mapping[str, Any]) -> Source:
    """The weights of a folder as transformers saves a BERT, DistilBERT or ELECTRA, whatever head is on it.

    Args:
        config: what the folder's `config.json` holds.

    Raises:
        UserError: another kind of model, no weights, or damaged ones.
    """
    shape = _shape(folder, config)
    tensors = _tensors(folder)
    anchor = "embeddings.word_embeddings.weight"
    prefixes = [name.removesuffix(anchor) for name in tensors if name.endswith(anchor)]
    if len(prefixes) != 1:
        raise UserError(
            f"{folder} holds {len(prefixes)} weights named …{anchor}; expected one, as in a BERT, DistilBERT "
            "or ELECTRA that transformers saved."
        )
    column = 2 if shape.family == "distilbert" else 1
    block = "transformer.layer" if shape.family == "distilbert" else "encoder.layer"
    names = {row[0]: f"embeddings.{row[column]}" for row in _EMBEDDINGS}
    names |= {row[0]: row[column] for row in _BLOCK} | {"embedding_projection": "embeddings_project"}
    kinds = {"kernel": ["weight"], "embeddings": ["weight"], "gamma": ["weight", "gamma"]}
    kinds |= {"bias": ["bias"], "beta": ["bias", "beta"]}  # gamma and beta in what TensorFlow trained

    def read(path: str, _: tuple[int, ...]) -> np.ndarray:
        layer, part, kind = _parsed(path)
        name = prefixes[0] + (names[part] if layer is None else f"{block}.{layer}.{names[part]}")
        for end in kinds[kind]:
            if f"{name}.{end}" in tensors:
                value = tensors[f"{name}.{end}"]()
                # PyTorch multiplies by the transpose
                return value.T if kind == "kernel" else value
        raise KeyError(f"{name}.{kinds[kind][0]}")

    return Source(shape, read, str(folder))


def _shape(folder: Path, config: Mapping[str, Any]) -> Shape:
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"{folder} holds a {family} model; text encoders can be {', '.join(FAMILIES)}.")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f"{folder} has {config['position_embedding_type']} position embeddings; expected absolute ones."
        )
    distilled = family == "distilbert"
    activation = config.get("activation" if distilled else "hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise UserError(f"{folder} has the activation {activation}; known are {', '.join(_ACTIVATIONS)}.")
    try:
        return Shape(
            family,
            vocabulary=config["vocab_size"],
            layers=config["n_layers" if distilled else "num_hidden_layers"],
            heads=config["n_heads" if distilled else "num_attention_heads"],
            width=config["dim" if distilled else "hidden_size"],
            intermediate=config["hidden_dim" if distilled else "intermediate_size"],
            positions=config["max_position_embeddings"],
            segments=0 if distilled else config.get("type_vocab_size", 2),
            embedding_width=config.get("embedding_size", 0) if family == "electra" else 0,
            activation=_ACTIVATIONS[activation],
            epsilon=config.get("layer_norm_eps", 1e-12),
            dropout=config.get("dropout" if distilled else "hidden_dropout_prob", 0.1),
        )
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'} does not say {error.args[0]}.") from None


def _tensors(folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Name → what reads it, of one safetensors file or of those that an index names."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    elif index.is_file():
        try:
            shards = read_json(index, {"weight_map": {str: str}})["weight_map"].values()
            files = [folder / Path(name).name for name in sorted(set(shards))]
        except JsonError:
            raise UserError(f"{index} is damaged: copy it again.") from None
    else:
        pickled = (folder / "pytorch_model.bin").is_file()
        raise UserError(
            f"{folder} has no weights: expected model.safetensors."
            + (" pytorch_model.bin is not read: load it with transformers and save_pretrained it." * pickled)
        )
    return {name: tensor for file in files for name, tensor in _safetensors(file).items()}


def _safetensors(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """The tensors of one file, none of which is read yet."""
    try:
        import ml_dtypes  # noqa: F401 (gives NumPy bfloat16)
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise not_installed(error) from None

    try:
        file = safe_open(path, framework="np")  # mapped until the last of its tensors is forgotten
        names = [name for name in file.keys() if file.get_slice(name).get_dtype() in _FLOATS]  # noqa: SIM118
    except (OSError, SafetensorError):
        raise UserError(f"{path} is not a safetensors file, or is cut short: copy it again.") from None

    def read(name: str) -> np.ndarray:
        return np.asarray(file.get_tensor(name), np.float32)

    return {name: functools.partial(read, name) for name in names}


def not_installed(error: ImportError) -> UserError:
    """What is said where a package of the extra `text` is missing."""
    return UserError(f"text needs keras-hub, tokenizers and safetensors ({error}): {install_line('text')}")
