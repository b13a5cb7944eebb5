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
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_TFLITE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer
_STDERR = 2
# What LiteRT, the TFLite converter and TensorFlow's start-up write about themselves.
_CHATTER = re.compile(rb"(INFO: |[IW]\d{4} [\d.: ]+ |WARNING: All log messages before absl|fully_quantize: )")
_one_at_a_time = threading.Lock()
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
EMPTY_TEXT = "NULL"
_REMARK = re.compile(r"\[[^\[\]]*\]|\([^()]*\)")


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


def clean(transcript: str) -> str:
    """A transcript as the text encoders get it, in training and on a device.

    Remarks in brackets or parentheses, such as [LAUGHTER], are removed and white space is collapsed; what is
    empty then becomes "NULL".

    Source: the data loader of 3M-SER, https://github.com/tpnam0901/3m-ser, which DistilSER uses.
    """
    before = ""
    while before != transcript:  # remarks may lie in one another
        before, transcript = transcript, _REMARK.sub(" ", transcript)
    return " ".join(transcript.split()) or EMPTY_TEXT


def word_piece(vocabulary: Sequence[str], *, lowercase: bool, strip_accents: bool):
    """BERT's tokeniser, as a `tokenizers.Tokenizer` that yields word pieces without special tokens.

    Args:
        vocabulary: the pieces; each one's place is its id. It holds `SPECIAL_TOKENS`.

    Source: Devlin et al. 2019, arXiv:1810.04805, section 3; words of more than 100 characters are unknown, as
    in transformers.

    Raises:
        RunnerError: the package is not installed, or a special token is not in the vocabulary.
    """
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    except ImportError as error:
        raise RunnerError(f"text needs the package tokenizers ({error}): pip install tokenizers.") from None
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    if lacking := [token for token in SPECIAL_TOKENS if token not in ids]:
        raise RunnerError(f"the vocabulary of {len(vocabulary)} pieces lacks {', '.join(lacking)}.")
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def token_arrays(
    tokenizer, texts: Sequence[str], *, tokens: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts as what a text encoder takes: [CLS], the pieces, [SEP], padding.

    Args:
        tokenizer: of `word_piece`.
        tokens: the length, special tokens included; at least 3. A longer text loses its end.

    Returns:
        `token_ids` and `text_mask`, both int32 `(texts, tokens)`, and which texts were cut, `(texts,)`.
    """
    opening, closing, padding = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[PAD]"))
    pieces = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
    token_ids = np.full((len(pieces), tokens), padding, np.int32)
    text_mask = np.zeros((len(pieces), tokens), np.int32)
    for row, mask, ids in zip(token_ids, text_mask, pieces, strict=True):
        whole = [opening, *ids[: tokens - 2], closing]
        row[: len(whole)] = whole
        mask[: len(whole)] = 1
    return token_ids, text_mask, np.array([len(ids) > tokens - 2 for ids in pieces], bool)


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
