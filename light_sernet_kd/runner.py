"""Runs an exported student on a device: this one file, NumPy and LiteRT; no TensorFlow, nothing else of ours.

    pip install numpy ai-edge-litert  # and tokenizers, for students that read text

    runner = Runner("student_int8.tflite")
    probabilities = runner.probabilities(waveform)  # float32 mono at runner.sample_rate
    probabilities = runner.probabilities(waveform, "what is said")  # where the student reads text too
    runner.labels[probabilities.argmax()]

An exported file is a TFLite flatbuffer with a zip archive behind it, which holds `labels.txt`, `card.json`
and, for text, `vocab.txt`: `unzip student_int8.tflite` shows what the file expects and where it comes from.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TFLITE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer
_STDERR = 2
# What LiteRT, the TFLite converter and TensorFlow's start-up write about themselves.
_CHATTER = re.compile(rb"(INFO: |[IW]\d{4} [\d.: ]+ |WARNING: All log messages before absl|fully_quantize: )")
_one_at_a_time = threading.Lock()
# The innermost (laughs) or [LAUGHTER]: none in it is left to open.
_REMARK = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
# What a text without words is read as, in training too.
NO_TEXT = "NULL"
# The name of what `clean` does: a file that was trained on texts cleaned otherwise must not be run with it.
CLEANING = "3m_ser"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class RunnerError(Exception):
    """A file or a waveform that cannot be used; the message says what was found and what to do."""


class TextWarning(UserWarning):
    """Something of a text that the student did not read."""


@dataclass(frozen=True)
class TextInput:
    """How a student reads text.

    Attributes:
        vocabulary: WordPiece tokens in the order of their ids, as `word_piece` takes them.
        tokens: how many the student reads, with `[CLS]` and `[SEP]`; the end of a longer text is cut off.
        lowercase, strip_accents: what becomes of a text before it is looked up.
        cleaning: the name of what comes before that; there is only `clean`'s.
    """

    vocabulary: tuple[str, ...]
    tokens: int
    lowercase: bool
    strip_accents: bool
    cleaning: str = CLEANING

    def tokenizer(self) -> "Tokenizer":
        """As `word_piece` makes it, with its errors; also where `cleaning` is not known here."""
        if self.cleaning != CLEANING:
            raise RunnerError(
                f"texts are cleaned by {self.cleaning!r} here, and this runner knows {CLEANING!r} alone: "
                "take the runner that came with the file."
            )
        return word_piece(self.vocabulary, lowercase=self.lowercase, strip_accents=self.strip_accents)


class Runner:
    """An exported student, ready to classify recordings, texts or both. Not for several threads at once.

    Attributes:
        labels: the classes, in the order of `probabilities`.
        inputs: what the file takes: `audio`, `token_ids` and `text_mask` (made of a text), and `text_states`
            and `audio_states`, which encoders that are not in the file have made.
        samples: length of the clip the student looks at, in samples; 0 where it hears none.
        sample_rate: in Hz; 0 where it hears no clip.
        padding: where a short clip's zeros go, `both` ends or the `right`; empty where it hears no clip.
        text: how it reads text; None where it does not.
        precision: `float32`, `float16`, `dynamic` or `int8`.
        card: everything the file says about itself.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1):
        """Open an exported file.

        Args:
            threads: how many processor cores may work on one clip.

        Raises:
            RunnerError: the file is missing, damaged, not ours, takes features instead of audio, or reads
                text and tokenizers is not installed.
        """
        self._interpreter, self.card, self.labels, vocabulary = _opened(path, threads=threads)
        self.inputs: tuple[str, ...] = tuple(self.card.get("inputs", [self.card["input"]]))
        if "features" in self.inputs:
            raise RunnerError(
                f"{path} takes {self.card['input']}, not audio: "
                "export it with the front end inside (-m true)."
            )
        self.samples: int = self.card.get("samples", 0)
        self.sample_rate: int = self.card.get("sample_rate", 0)
        self.padding: str = self.card.get("padding", "")
        self.precision: str = self.card["precision"]
        self.text: TextInput | None = None
        if vocabulary:
            how = ("tokens", "lowercase", "strip_accents", "cleaning")
            self.text = TextInput(vocabulary, **{name: self.card["text"][name] for name in how})
            self._tokenizer = self.text.tokenizer()

    def probabilities(self, waveform: np.ndarray | None = None, text: str | None = None) -> np.ndarray:
        """How likely each class is: float32 `(classes,)`, which sums to 1.

        Args:
            waveform: `(n,)`, n ≥ 1, floating-point, at `sample_rate`, at any level. It is cut or padded to
                `samples` as in training.
            text: what is said, as spoken or transcribed; it is cleaned as in training. A text too long or
                without a word is a `TextWarning`.

        Raises:
            RunnerError: the waveform is empty, not one channel, of integers, or not finite; or the file
                takes something else than was given.
        """
        self.require(audio=waveform is not None, text=text is not None)
        return invoke(self._interpreter, self._values(waveform, text))

    def probabilities_of_states(
        self,
        states: Mapping[str, np.ndarray],
        *,
        waveform: np.ndarray | None = None,
        text: str | None = None,
    ) -> np.ndarray:
        """The same for a file that takes states of encoders outside of it, which `card["states"]` names.

        Args:
            states: `text_states` and `audio_states`, those the file takes: floating-point `(n, width)`, n ≥ 1
                rows as the encoder gave them, not all zero. Rows of zeros are added up to the file's own.
            waveform, text: where the file takes them beside states.

        Raises:
            RunnerError: as `probabilities`, or states are missing, not taken, too long or of another width.
        """
        taken = self.card.get("states", {})
        if not taken or {*states} != {*taken}:
            raise RunnerError(
                f"expected {' and '.join(taken) or 'no states'}, which the file takes; "
                f"found {' and '.join(states) or 'none'}."
            )
        self.require(audio=waveform is not None, text=text is not None, states=True)
        values = self._values(waveform, text)
        for name, rows in states.items():
            values[name] = _padded(name, np.asarray(rows), taken[name]["rows"], taken[name]["width"])
        return invoke(self._interpreter, values)

    def require(self, *, audio: bool, text: bool, states: bool = False) -> None:
        """Check that the file takes what there is: a recording, a text, states of encoders.

        Raises:
            RunnerError: it takes something else; says what to add or to leave out.
        """
        encoders = self.card.get("states", {})
        if encoders and not states:
            named = " and ".join(f"{name} made by {each['encoder']}" for name, each in encoders.items())
            raise RunnerError(
                f"this student takes {named}, not {'audio' if audio else 'text'}: encoders that are not in "
                "its file. Run them yourself and give their states to Runner.probabilities_of_states."
            )
        if audio != ("audio" in self.inputs):
            raise RunnerError(
                "this student hears no audio: leave the recording out."
                if audio
                else "this student hears audio, and there is no recording: name one."
            )
        if text != (self.text is not None):
            raise RunnerError(
                "this student reads no text: leave it out."
                if text
                else "this student also reads what is said, and there is no text: give it (predict --text)."
                if audio
                else "this student reads text, and there is none: give it (predict --text)."
            )

    def _values(self, waveform: np.ndarray | None, text: str | None) -> dict[str, np.ndarray]:
        """The file's inputs by name, without the batch axis; what was not given is left out."""
        values = {}
        if waveform is not None:
            values["audio"] = _fit(_sound(waveform), self.samples, pad=self.padding)
        if text is not None and self.text is not None:
            ids, mask, was_cut = encode_text(self._tokenizer, text, self.text.tokens)
            values |= {"token_ids": ids, "text_mask": mask}
            if was_cut:
                _warn(f"the text is longer than {self.text.tokens} tokens: its end was not read.")
            if clean(text) == NO_TEXT != text.strip():
                _warn(f"the text has no word outside of brackets: it was read as {NO_TEXT}.")
        return values


def _warn(message: str) -> None:
    # Of four callers the outermost is the user's: this, _values, probabilities, theirs.
    warnings.warn(message, TextWarning, stacklevel=4)


def _sound(waveform: np.ndarray) -> np.ndarray:
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not waveform.size:
        raise RunnerError(f"expected one channel of samples, shape (n,) with n ≥ 1; found {waveform.shape}.")
    if not np.issubdtype(waveform.dtype, np.floating):
        raise RunnerError(
            f"expected floating-point samples, found {waveform.dtype}: divide 16-bit samples by 32768."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
        waveform = waveform.astype(np.float32)
    if not np.isfinite(waveform).all():
        broken = np.count_nonzero(~np.isfinite(waveform))
        raise RunnerError(f"{broken} of {waveform.size} samples are not finite (NaN or infinity).")
    return waveform


def _padded(name: str, states: np.ndarray, rows: int, width: int) -> np.ndarray:
    """Float32 `(rows, width)` with rows of zeros behind the states."""
    if states.ndim != 2 or not 1 <= len(states) <= rows or states.shape[1] != width:
        raise RunnerError(
            f"expected {name} of shape (n, {width}) with n from 1 to {rows}, found {states.shape}: "
            "cut them as in training."
        )
    if not np.issubdtype(states.dtype, np.floating) or not np.isfinite(states).all():
        raise RunnerError(f"expected {name} of finite floating-point numbers, found {states.dtype}.")
    return np.pad(states.astype(np.float32), ((0, rows - len(states)), (0, 0)))


def open_file(
    path: str | os.PathLike[str], *, threads: int = 1
) -> tuple[Interpreter, dict[str, Any], tuple[str, ...]]:
    """An interpreter, the card and the labels of any exported file, also of one that takes features.

    Raises:
        RunnerError: the file is missing, damaged or not ours.
    """
    interpreter, card, labels, _ = _opened(path, threads=threads)
    return interpreter, card, labels


def _opened(
    path: str | os.PathLike[str], *, threads: int
) -> tuple[Interpreter, dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """What `open_file` gives, and the vocabulary: empty where the file reads no text."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunnerError(f"cannot read {path}: {error.strerror}.") from None
    if content[4:8] != _TFLITE_IDENTIFIER:
        raise RunnerError(f"{path} is not a TFLite file: expected student_int8.tflite or another export.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            card = json.loads(archive.read("card.json"))
            labels = tuple(archive.read("labels.txt").decode().splitlines())
            # Tokens may hold the other line ends of Unicode, which splitlines would take for ends.
            listed = archive.read("vocab.txt") if "text" in card else b""
            vocabulary = tuple(listed.decode().split("\n")[:-1])
        model_bytes, expected = card["model_bytes"], card["model_sha256"]
    except Exception:  # a damaged archive makes zipfile fail in a dozen ways
        raise RunnerError(
            f"{path} lacks its card: it is no export of light-sernet-kd, or was cut short. "
            "Export or copy it again."
        ) from None
    # LiteRT trusts a flatbuffer's offsets: a damaged one could end the process without a word.
    if hashlib.sha256(content[:model_bytes]).hexdigest() != expected:
        raise RunnerError(
            f"{path} is damaged: its checksum differs from its card's. Copy or export it again."
        )
    if listed and hashlib.sha256(listed).hexdigest() != card["text"]["vocabulary_sha256"]:
        raise RunnerError(f"{path} holds another vocabulary than its student's: export or copy it again.")
    try:
        with without_chatter():
            # LiteRT starts every thread it is told of, and ends in a crash at some tens of thousands.
            threads = min(threads, os.cpu_count() or 1)
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise RunnerError(f"this LiteRT cannot run {path}: {error}") from None
    return interpreter, card, labels, vocabulary


def invoke(interpreter: Interpreter, values: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
    """One example's inputs, without the batch axis, to its output `(classes,)`.

    Args:
        values: the only input, or all of them by name.
    """
    taken, (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    if not isinstance(values, Mapping):
        (only,) = taken
        values = {only["name"]: values}
    for each in taken:
        interpreter.set_tensor(each["index"], np.asarray(values[each["name"]], each["dtype"])[None])
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])[0]


def clean(text: str) -> str:
    """A transcript as students read it: no bracketed remarks, single spaces, `NULL` where no word is left.

    Remarks in round and square brackets go with all that is nested in them; a bracket without its partner
    stays. Where a remark was, a space is left. Cleaning twice changes nothing.

    Source: 3M-SER (Tran et al. 2023), as released, which leaves parts of nested brackets standing.
    """
    while _REMARK.search(text):
        text = _REMARK.sub(" ", text)
    return " ".join(text.split()) or NO_TEXT


def word_piece(vocabulary: Sequence[str], *, lowercase: bool, strip_accents: bool) -> "Tokenizer":
    """BERT's tokeniser, which puts `[CLS]` before a text and `[SEP]` behind it; it neither cuts nor pads.

    Needs the package tokenizers. The same in training and on a device.

    Args:
        vocabulary: the tokens in the order of their ids, among them `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]`.
        lowercase, strip_accents: what the encoder was trained with: both for "uncased" vocabularies.

    Raises:
        RunnerError: tokenizers is not installed, or the vocabulary lacks a special token, repeats one or
            has one that is no line of text.

    Source: WordPiece as in Devlin et al. 2019, arXiv:1810.04805.
    """
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    except ImportError:
        raise RunnerError("reading text needs the package tokenizers: pip install tokenizers.") from None
    if lacking := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
        raise RunnerError(
            f"the vocabulary of {len(vocabulary)} tokens lacks {', '.join(lacking)}: it is not BERT's kind "
            "(vocab.txt, a token per line)."
        )
    ids: dict[str, int] = {}
    for number, token in enumerate(vocabulary):
        if not token or "\n" in token:
            raise RunnerError(f"token {number} of the vocabulary must be one line of text, found {token!r}.")
        if ids.setdefault(token, number) != number:
            raise RunnerError(f"the vocabulary has {token!r} twice, as tokens {ids[token]} and {number}.")
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    )
    return tokenizer


def encode_text(tokenizer: "Tokenizer", text: str, tokens: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """A text's `token_ids` and `text_mask`, both int32 `(tokens,)`, and whether its end was cut off.

    The text is cleaned first; `encode_cleaned` is for one that was. The mask is 1 where the text is and 0 at
    `[PAD]` behind it; a text that is cut keeps its `[SEP]`.

    Args:
        tokenizer: as `word_piece` makes it.
        tokens: at least 2, with `[CLS]` and `[SEP]`.

    Raises:
        RunnerError: the text holds what is no Unicode text (half of a surrogate pair).
    """
    return encode_cleaned(tokenizer, clean(text), tokens)


def encode_cleaned(tokenizer: "Tokenizer", text: str, tokens: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """As `encode_text`, of a text as it is."""
    if tokens < 2:
        raise ValueError(f"[CLS] and [SEP] need 2 tokens, found a limit of {tokens}")
    try:
        ids = tokenizer.encode(text).ids
    except (UnicodeEncodeError, TypeError):
        raise RunnerError(f"expected a text of Unicode characters, found {text!r:.80}.") from None
    was_cut = len(ids) > tokens
    if was_cut:
        ids = [*ids[: tokens - 1], ids[-1]]
    token_ids = np.full(tokens, tokenizer.token_to_id("[PAD]"), np.int32)
    token_ids[: len(ids)] = ids
    return token_ids, (np.arange(tokens) < len(ids)).astype(np.int32), was_cut


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back what native code writes to stderr, then pass on every line that is not known chatter.

    Such code knows nothing of Python's `sys.stderr`, so the file descriptor itself is redirected.
    """
    with _one_at_a_time, tempfile.TemporaryFile() as held:
        try:
            stderr = os.dup(_STDERR)
        except OSError:  # the process has no stderr
            yield
            return
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, _STDERR)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(_STDERR, line)


def _fit(waveform: np.ndarray, samples: int, *, pad: str) -> np.ndarray:
    # The same as audio.fit, which training uses; this file must work alone.
    surplus = len(waveform) - samples
    if surplus >= 0:
        start = surplus // 2
        return waveform[start : start + samples]
    before = -surplus // 2 if pad == "both" else 0
    return np.pad(waveform, (before, -surplus - before))
