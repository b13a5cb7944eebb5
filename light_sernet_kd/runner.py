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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_TFLITE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer
_STDERR = 2
# What LiteRT, the TFLite converter and TensorFlow's start-up write about themselves.
_CHATTER = re.compile(rb"(INFO: |[IW]\d{4} [\d.: ]+ |WARNING: All log messages before absl|fully_quantize: )")
_one_at_a_time = threading.Lock()


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
