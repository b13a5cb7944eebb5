"""Transcripts as text states: cleaning, tokens, encoders and what they give, kept on disk."""

import functools
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.feature_cache import full_precision
from light_sernet_kd.encoders import bert, embedding_cache
from light_sernet_kd.errors import UserError, choose, first_line, installed
from light_sernet_kd.files import JsonError, irregular, read_json, read_text
from light_sernet_kd.runner import NO_TEXT, SPECIAL_TOKENS, RunnerError, clean, encode_cleaned, word_piece

TOKENS = 128
# Of a vocabulary: the largest in use have a few megabytes.
_VOCABULARY_BYTES = 10**8
RANDOM = "random:"
_BACKBONES = ("BertBackbone", "DistilBertBackbone", "ElectraBackbone")
_EXPECTED = (
    "a Hugging Face folder (config.json, tokenizer.json or vocab.txt, model.safetensors) or one that "
    "keras-hub saved (config.json, tokenizer.json, model.weights.h5)"
)


class Texts(NamedTuple):
    """The cleaned texts of utterances, in their order, and the ids of those that had nothing to clean."""

    cleaned: list[str]
    empty: list[str]


class TokenArrays(NamedTuple):
    """What an encoder takes of n texts.

    Attributes:
        token_ids: int32 `(n, tokens)`: [CLS], the text's pieces, [SEP], padding.
        text_mask: int32 `(n, tokens)`, 1 for a token and 0 for padding.
        cut: `(n,)`, which texts were longer and lost their end.
    """

    token_ids: np.ndarray
    text_mask: np.ndarray
    cut: np.ndarray


@dataclass(frozen=True)
class Tokeniser:
    """BERT's WordPiece as plain data, which an exported file carries.

    Attributes:
        vocabulary: the pieces; each one's place is its id.
        tokens: the length of every text, special tokens included.

    Raises:
        UserError: `tokens` is below 3.
    """

    vocabulary: tuple[str, ...]
    lowercase: bool
    strip_accents: bool
    tokens: int = TOKENS

    def __post_init__(self):
        if self.tokens < 3:
            raise UserError(
                f"the limit on tokens must be at least 3, for [CLS], a piece and [SEP]; found {self.tokens}."
            )

    @functools.cached_property
    def _word_piece(self):
        try:
            import tokenizers  # noqa: F401
        except ImportError as error:
            raise bert.not_installed(error) from None
        try:
            return word_piece(self.vocabulary, lowercase=self.lowercase, strip_accents=self.strip_accents)
        except RunnerError as error:
            raise UserError(str(error)) from None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the ids, with the vocabulary's hash in its place."""
        vocabulary = hashlib.sha256("\n".join(self.vocabulary).encode()).hexdigest()
        return {
            "vocabulary_sha256": vocabulary,
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokens": self.tokens,
        }

    def __call__(self, texts: Sequence[str]) -> TokenArrays:
        """Cleaned texts as arrays."""
        encoded = [encode_cleaned(self._word_piece, text, self.tokens) for text in texts]
        token_ids, text_mask, cut = zip(*encoded, strict=True)
        return TokenArrays(np.stack(token_ids), np.stack(text_mask), np.array(cut))


@dataclass(frozen=True)
class TextEncoder:
    """A tokeniser and the network that takes its tokens.

    Attributes:
        name: for people, and the beginning of a cache's name.
        backbone: inputs `token_ids` and `text_mask`, int32 `(batch, tokens)` → states `(batch, tokens,
            width)`, zeros at padding.
    """

    name: str
    shape: bert.Shape
    tokeniser: Tokeniser
    backbone: keras.Model

    @property
    def width(self) -> int:
        return self.shape.width

    @property
    def layers(self) -> int:
        return self.shape.layers

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the states, with a hash of the present weights, as JSON values."""
        weights = bert.digest(self.backbone)
        return {**asdict(self.shape), "weights_sha256": weights, "tokeniser": self.tokeniser.identity}

    def states(self, token_ids: np.ndarray, text_mask: np.ndarray) -> np.ndarray:
        """float32 `(batch, tokens, width)` with the backbone's present weights, without dropout.

        Args:
            token_ids, text_mask: int32 `(batch, tokens)`, any number of tokens up to the encoder's positions.
        """
        if keras.backend.backend() == "jax":
            return self._predicted(token_ids, text_mask)
        return self._run(token_ids, text_mask).numpy().astype(np.float32)

    def _predicted(self, token_ids: np.ndarray, text_mask: np.ndarray) -> np.ndarray:
        """On JAX, which compiles for each length: so these are few. Padding changes no state."""
        tokens = token_ids.shape[1]
        longer = min(-(-tokens // embedding_cache.TRIM) * embedding_cache.TRIM, self.shape.positions)
        wider = [np.pad(each, ((0, 0), (0, longer - tokens))) for each in (token_ids, text_mask)]
        states = full_precision(self.backbone.predict_on_batch)(wider)
        return np.asarray(states, np.float32)[:, :tokens]

    @functools.cached_property
    def _run(self):
        with installed("tensorflow", "a text encoder"):
            import tensorflow as tf

        # One graph for all lengths: Keras' predict would trace, and compile, one for each.
        anything = tf.TensorSpec((None, None), tf.int32)
        return tf.function(
            lambda ids, mask: self.backbone([ids, mask], training=False), input_signature=[anything, anything]
        )


class Parameters(NamedTuple):
    """An encoder's number of weights.

    Attributes:
        without_words: without the token embedding, as DistilSER counts sizes.
    """

    all: int
    without_words: int


def texts_of(utterances: Sequence[Utterance]) -> Texts:
    """The transcripts of utterances, cleaned.

    Raises:
        UserError: some utterances have no transcript.
    """
    lacking = [utterance.id for utterance in utterances if utterance.transcript is None]
    if lacking:
        named = ", ".join(lacking[:20]) + (f" and {len(lacking) - 20} more" if len(lacking) > 20 else "")
        raise UserError(
            f"{len(lacking)} of {len(utterances)} utterances have no transcript: {named}. Add a column "
            "`transcript` to the manifest, put the corpus's texts where `light-sernet-kd prepare` misses "
            "them, or leave them out with --skip-bad."
        )
    cleaned = [clean(utterance.transcript or "") for utterance in utterances]
    empty = [one.id for one, text in zip(utterances, cleaned, strict=True) if text == NO_TEXT]
    return Texts(cleaned, empty)


def text_states(
    utterances: Sequence[Utterance],
    encoder: TextEncoder,
    *,
    cache: Path,
    progress: audio.Progress | None = None,
) -> embedding_cache.Embeddings:
    """The encoder's states of the utterances' transcripts, a float16 row for each token; equal texts are
    encoded once, and only what `cache` does not hold yet.

    Args:
        progress: called with (done, all) after each block.

    Raises:
        UserError: some utterances have no transcript.
    """
    texts = texts_of(utterances).cleaned
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    by_key = dict(zip(keys, texts, strict=True))

    def read(missing: Sequence[str]) -> Iterator[embedding_cache.Block]:
        token_ids, text_mask, _ = encoder.tokeniser([by_key[key] for key in missing])
        lengths = text_mask.sum(axis=1)
        order = np.argsort(lengths, kind="stable")  # texts of like length go together, with little padding
        for start in range(0, len(order), embedding_cache.BLOCK):
            rows = order[start : start + embedding_cache.BLOCK].tolist()
            yield [missing[i] for i in rows], [token_ids[i, : lengths[i]] for i in rows], len(rows)

    def encode(items: Sequence[np.ndarray]) -> list[np.ndarray]:
        lengths = np.array([len(ids) for ids in items])
        text_mask = np.arange(lengths.max()) < lengths[:, None]
        token_ids = np.zeros(text_mask.shape, np.int32)
        token_ids[text_mask] = np.concatenate(items)
        states = encoder.states(token_ids, text_mask.astype(np.int32))
        return [rows[:length] for rows, length in zip(states, lengths, strict=True)]

    name = re.sub(r"[^\w.-]+", "-", encoder.name)
    stored = embedding_cache.Encoder(f"text-{name}", encoder.identity, (encoder.width,), encode, "float16")
    return embedding_cache.embed_by_key(keys, read, stored, cache=cache, progress=progress)


def parameters(encoder: TextEncoder) -> Parameters:
    every = encoder.backbone.count_params()
    return Parameters(every, every - encoder.shape.vocabulary * encoder.shape.embedding_width)


def truncated(encoder: TextEncoder, layers: int) -> TextEncoder:
    """A new encoder of the embeddings and the first `layers` layers, with copies of their present weights.

    Raises:
        UserError: the encoder has fewer.
    """
    source = bert.first_layers(bert.of_network(encoder.backbone, encoder.shape), layers)
    return _encoder(encoder.name, source, encoder.tokeniser, cut=layers < encoder.layers)


def load(
    spec: str, *, data: Path, layers: int | None = None, tokens: int = TOKENS, texts: Sequence[str] = ()
) -> TextEncoder:
    """A text encoder.

    Args:
        spec: a keras-hub preset, such as `bert_base_en_uncased`; a folder as transformers or keras-hub saves
            it, or its name in `data`/models; or `random:width=64:layers=2:heads=2`, a BERT with random
            weights, with `,vocabulary=FILE` or one made of `texts`.
        layers: keeps the first ones; all by default.
        tokens: the limit on a text's length, with [CLS] and [SEP].
        texts: cleaned ones; read only to make a vocabulary.

    Raises:
        UserError: the extra is not installed; the encoder is unknown, cannot be had, is damaged or of another
            family; the tokeniser does not fit it; it has fewer layers or positions.
    """
    kept = data / "models" / spec
    if spec.startswith(RANDOM):
        name, source, tokeniser = "random", *_random(spec, tokens, texts)
    elif Path(spec).is_dir() or kept.is_dir():
        folder = Path(spec) if Path(spec).is_dir() else kept
        name, source, tokeniser = folder.resolve().name, *_of_folder(folder, tokens)
    elif Path(spec).name != spec:
        raise UserError(f"no folder {spec}; expected {_EXPECTED}.")
    else:
        name = _known_preset(spec)
        source, tokeniser = _of_keras_hub(name, f"the preset {name}", tokens)
    _check(spec, source.shape, tokeniser)
    cut = layers is not None and layers < source.shape.layers
    return _encoder(name, bert.first_layers(source, layers), tokeniser, cut=cut)


def _encoder(name: str, source: bert.Source, tokeniser: Tokeniser, *, cut: bool) -> TextEncoder:
    name = f"{name}-{source.shape.layers}" if cut else name
    return TextEncoder(name, source.shape, tokeniser, bert.network(source))


def _check(spec: str, shape: bert.Shape, tokeniser: Tokeniser) -> None:
    if lacking := [token for token in SPECIAL_TOKENS if token not in tokeniser.vocabulary]:
        raise UserError(
            f"the tokeniser of {spec} lacks {', '.join(lacking)} among its {len(tokeniser.vocabulary)} "
            "tokens: its vocabulary is not that of a BERT, or is cut short."
        )
    if len(tokeniser.vocabulary) > shape.vocabulary:
        raise UserError(
            f"the tokeniser of {spec} does not fit its encoder: {len(tokeniser.vocabulary)} tokens, but "
            f"embeddings for {shape.vocabulary}. Put the vocabulary there that belongs to the weights."
        )
    if tokeniser.tokens > shape.positions:
        raise UserError(f"{spec} takes texts of at most {shape.positions} tokens, found {tokeniser.tokens}.")


# Where encoders come from


def _random(spec: str, tokens: int, texts: Sequence[str]) -> tuple[bert.Source, Tokeniser]:
    sizes, file = {"width": 64, "layers": 2, "heads": 2}, None
    for setting in filter(None, re.split(r"[:,](?=\s*\w+=)", spec.removeprefix(RANDOM))):
        key, _, value = setting.partition("=")
        key = choose("setting of a random text encoder", key.strip(), [*sizes, "vocabulary"])
        if key == "vocabulary":
            file = Path(value)
        elif not re.fullmatch(r"0*[1-9][0-9]*", value):
            raise UserError(f"{spec}: {key} must be a whole number from 1 on, found {value or 'nothing'}.")
        else:
            sizes[key] = int(value)
    vocabulary = _vocabulary_lines(file) if file else _made_vocabulary(texts)
    tokeniser = Tokeniser(vocabulary, *_habits(vocabulary), tokens)
    shape = bert.Shape(
        "bert",
        vocabulary=len(vocabulary),
        layers=sizes["layers"],
        heads=sizes["heads"],
        width=sizes["width"],
        intermediate=4 * sizes["width"],
    )
    return bert.random(shape), tokeniser


def _made_vocabulary(texts: Sequence[str]) -> tuple[str, ...]:
    """Special tokens, every character alone and within a word, and the words that occur twice."""
    if not texts:
        raise UserError("a random text encoder needs texts for its vocabulary, or a file: vocabulary=FILE.")
    try:
        from tokenizers import normalizers, pre_tokenizers
    except ImportError as error:
        raise bert.not_installed(error) from None
    normaliser = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in [NO_TEXT, *texts]
        for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(text))
    )
    characters = sorted({character for word in words for character in word})
    whole = sorted(word for word, count in words.items() if count > 1 and len(word) > 1)
    return (*SPECIAL_TOKENS, "[MASK]", *characters, *(f"##{one}" for one in characters), *whole)


def _of_folder(folder: Path, tokens: int) -> tuple[bert.Source, Tokeniser]:
    config = _read_json(folder / "config.json", f"{folder} has no config.json; expected {_EXPECTED}.")
    if "class_name" in config:
        if config["class_name"] not in _BACKBONES:
            raise UserError(
                f"{folder} holds a {config['class_name']} of keras-hub; text encoders can be "
                f"{', '.join(_BACKBONES)}."
            )
        return _of_keras_hub(str(folder), str(folder), tokens)
    # the weights last: they take longest
    return bert.of_folder(folder, config), _tokeniser(folder, tokens)


def _tokeniser(folder: Path, tokens: int) -> Tokeniser:
    """That of a Hugging Face folder, as transformers understands its files."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        missing = f"{folder} has no vocabulary: expected tokenizer.json or vocab.txt."
        vocabulary = _vocabulary_lines(folder / "vocab.txt", missing)
        config = folder / "tokenizer_config.json"
        settings = _read_json(config) if config.is_file() else {}
        if not settings.get("tokenize_chinese_chars", True):
            raise UserError(f"{config} leaves Chinese characters together, which is not supported.")
        lowercase = settings.get("do_lower_case")
        if lowercase is None:
            return Tokeniser(vocabulary, *_habits(vocabulary), tokens)
        strip = settings.get("strip_accents")
        return Tokeniser(vocabulary, bool(lowercase), bool(lowercase if strip is None else strip), tokens)
    content = _read_json(path)
    try:
        ids = dict(content["model"]["vocab"])
        ids |= {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
        normaliser = content.get("normalizer") or {}
        usual = (
            content["model"].get("type", "WordPiece") == "WordPiece"
            and content["model"].get("continuing_subword_prefix", "##") == "##"
            and normaliser.get("type") == "BertNormalizer"
            and normaliser.get("clean_text", True)
            and normaliser.get("handle_chinese_chars", True)
        )
        vocabulary = tuple(sorted(ids, key=ids.__getitem__))
        whole = sorted(ids.values()) == list(range(len(ids)))
        lowercase = bool(normaliser.get("lowercase", True))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path} is damaged, or is no tokeniser: copy it again.") from None
    if not usual:
        raise UserError(f"{path} is not BERT's WordPiece tokeniser, which text encoders here need.")
    if not whole:
        raise UserError(f"{path}: the ids of its {len(ids)} tokens have holes or occur twice.")
    strip = normaliser.get("strip_accents")
    return Tokeniser(vocabulary, lowercase, lowercase if strip is None else bool(strip), tokens)


def _known_preset(spec: str) -> str:
    hub = _keras_hub()
    names = {preset for backbone in _BACKBONES for preset in getattr(hub.models, backbone).presets}
    return choose("text encoder", spec, sorted(names))


def _of_keras_hub(preset: str, what: str, tokens: int) -> tuple[bert.Source, Tokeniser]:
    hub = _keras_hub()
    try:
        tokeniser = hub.models.Tokenizer.from_preset(preset)
        backbone = hub.models.Backbone.from_preset(preset)
    # a download, or a folder that lacks a file or is damaged, fails in a dozen ways
    except Exception as error:
        remedy = f"Expected {_EXPECTED}."
        if not Path(preset).is_dir():
            remedy = "Download it on a machine with network, and name its folder or put that in data/models."
        raise UserError(f"{what} cannot be loaded ({first_line(error, 200)}). {remedy}") from None
    if not isinstance(tokeniser, hub.tokenizers.WordPieceTokenizer):
        raise UserError(f"{what} has a {type(tokeniser).__name__}; text encoders here need BERT's WordPiece.")
    vocabulary = tuple(tokeniser.get_vocabulary())
    # keras-hub leaves accents on unless told, also where the weights were trained without, as those of every
    # uncased BERT were; the vocabulary shows it.
    strip = tokeniser.strip_accents or (tokeniser.lowercase and _habits(vocabulary)[1])
    return bert.of_keras_hub(backbone), Tokeniser(vocabulary, bool(tokeniser.lowercase), bool(strip), tokens)


def _habits(vocabulary: Sequence[str]) -> tuple[bool, bool]:
    """Whether the text that a vocabulary was made of was brought to lower case, and also lost its accents."""
    words = [token for token in vocabulary if not re.fullmatch(r"\[.+\]", token)]
    lowercase = all(word == word.lower() for word in words)
    return lowercase, lowercase and all(word == _without_accents(word) for word in words)


def _without_accents(text: str) -> str:
    """As BERT strips them: Unicode's decomposition, which also takes Hangul apart, less nonspacing marks."""
    parts = unicodedata.normalize("NFD", text)
    return "".join(part for part in parts if unicodedata.category(part) != "Mn")


def _vocabulary_lines(path: Path, missing: str | None = None) -> tuple[str, ...]:
    try:
        why = irregular(path)
        if why is None and (size := path.stat().st_size) > _VOCABULARY_BYTES:
            why = f"has {size:,} bytes; at most {_VOCABULARY_BYTES:,} are read"
        if why is not None:
            raise UserError(f"the vocabulary {path} {why}.")
        # not splitlines: some tokens are line separators of Unicode
        lines = read_text(path).split("\n")
    except OSError as error:
        raise UserError(missing or f"cannot read the vocabulary {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"the vocabulary {path} is not UTF-8 text.") from None
    return tuple(lines[:-1] if lines[-1] == "" else lines)


def _read_json(path: Path, missing: str | None = None) -> dict[str, Any]:
    try:
        return read_json(path, dict)
    except OSError as error:
        raise UserError(missing or f"cannot read {path}: {error.strerror}.") from None
    except JsonError as error:
        raise UserError(f"{path} {error.why}: expected a JSON object. Copy it again.") from None


def _keras_hub():
    try:
        import keras_hub
    except ImportError as error:
        raise bert.not_installed(error) from None
    return keras_hub
