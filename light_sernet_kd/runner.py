"""Runs an exported student on a device: this one file, NumPy and LiteRT; no TensorFlow, nothing else of ours.

    pip install numpy ai-edge-litert

    runner = Runner("student_int8.tflite")
    probabilities = runner.probabilities(waveform)  # float32 mono at runner.sample_rate
    runner.labels[probabilities.argmax()]

An exported file is a TFLite flatbuffer with a zip archive behind it, which holds `labels.txt` and
`card.json`: `unzip student_int8.tflite` shows what the file expects and where it comes from.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
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
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class RunnerError(Exception):
    """A file or a waveform that cannot be used; the message says what was found and what to do."""


class Runner:
    """An exported student, ready to classify waveforms. Not for several threads at once.

    Attributes:
        labels: the classes, in the order of `probabilities`.
        samples: length of the clip the student looks at, in samples.
        sample_rate: in Hz.
        padding: where a short clip's zeros go, `both` ends or the `right`.
        precision: `float32`, `float16`, `dynamic` or `int8`.
        card: everything the file says about itself.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1):
        """Open an exported file.

        Args:
            threads: how many processor cores may work on one clip.

        Raises:
            RunnerError: the file is missing, damaged, not ours, or takes features instead of audio.
        """
        self._interpreter, self.card, self.labels = open_file(path, threads=threads)
        if self.card["input"] != "audio":
            raise RunnerError(
                f"{path} takes {self.card['input']}, not audio: "
                "export it with the front end inside (-m true)."
            )
        self.samples: int = self.card["samples"]
        self.sample_rate: int = self.card["sample_rate"]
        self.padding: str = self.card["padding"]
        self.precision: str = self.card["precision"]

    def probabilities(self, waveform: np.ndarray) -> np.ndarray:
        """How likely each class is: float32 `(classes,)`, which sums to 1.

        Args:
            waveform: `(n,)`, n ≥ 1, floating-point, at `sample_rate`, at any level. It is cut or padded to
                `samples` as in training.

        Raises:
            RunnerError: the waveform is empty, not one channel, of integers, or not finite.
        """
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or not waveform.size:
            raise RunnerError(
                f"expected one channel of samples, shape (n,) with n ≥ 1; found {waveform.shape}."
            )
        if not np.issubdtype(waveform.dtype, np.floating):
            raise RunnerError(
                f"expected floating-point samples, found {waveform.dtype}: divide 16-bit samples by 32768."
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
            waveform = waveform.astype(np.float32)
        if not np.isfinite(waveform).all():
            broken = np.count_nonzero(~np.isfinite(waveform))
            raise RunnerError(f"{broken} of {waveform.size} samples are not finite (NaN or infinity).")
        return invoke(self._interpreter, _fit(waveform, self.samples, pad=self.padding))


def open_file(
    path: str | os.PathLike[str], *, threads: int = 1
) -> tuple[Interpreter, dict[str, Any], tuple[str, ...]]:
    """An interpreter, the card and the labels of any exported file, also of one that takes features.

    Raises:
        RunnerError: the file is missing, damaged or not ours.
    """
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
    try:
        with without_chatter():
            # LiteRT starts every thread it is told of, and ends in a crash at some tens of thousands.
            threads = min(threads, os.cpu_count() or 1)
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise RunnerError(f"this LiteRT cannot run {path}: {error}") from None
    return interpreter, card, labels


def invoke(interpreter: Interpreter, values: np.ndarray) -> np.ndarray:
    """One clip's input, without the batch axis, to its output `(classes,)`."""
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(taken["index"], np.asarray(values, np.float32)[None])
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
        raise RunnerError("reading text needs the package tokenizers: pip install tokenizers") from None
    if lacking := [token for token in _SPECIAL if token not in vocabulary]:
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

    The text is cleaned first. The mask is 1 where the text is and 0 at `[PAD]` behind it; a text that is cut
    keeps its `[SEP]`.

    Args:
        tokenizer: as `word_piece` makes it.
        tokens: at least 2, with `[CLS]` and `[SEP]`.

    Raises:
        RunnerError: the text holds what is no Unicode text (half of a surrogate pair).
    """
    if tokens < 2:
        raise ValueError(f"[CLS] and [SEP] need 2 tokens, found a limit of {tokens}")
    try:
        ids = tokenizer.encode(clean(text)).ids
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
