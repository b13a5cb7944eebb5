"""Golden vectors: what exported files answer to one made recording, for a port to compare itself with.

A port (an app, a page, another runtime) that gives these probabilities reads the file, fits a clip and pads
it as this package does. The recording is in the JSON file itself, so that a port needs nothing else.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.errors import UserError
from light_sernet_kd.runner import DIMENSIONS, Answer, Runner, RunnerError, encode_text

# How far a port's probabilities may be off. Between LiteRT's own kernels (XNNPACK, builtin, reference) a
# student of EMO-DB differed by 1e-6 as float32 and float16, 0.002 as dynamic and 0.04 as int8: what is
# computed in integers may round by a step wherever the kernels are others.
TOLERANCES = {"float32": 1e-3, "float16": 5e-3, "dynamic": 0.02, "int8": 0.1}
# Beginning and end of each clip in the recording, in lengths of the file's own clip.
_CLIPS = {"fits": (0.0, 1.0), "short": (0.25, 0.75), "long": (0.0, 1.5)}


def golden(paths: Sequence[Path]) -> dict[str, Any]:
    """The vectors of some exported files, or of those in a run's folder.

    Returns:
        `audio`: `sample_rate` in Hz and `base64`, one recording of float32 samples, little-endian, each of
        which is a whole number of 1/32768, so that 16-bit WAV holds it too; `clips`: name → `[start, stop]`
        in it, one of the files' own length, a shorter and a longer one; `files`: per file `file`, `sha256`,
        `precision`, `labels`, `samples`, `padding`, `tolerance` and `probabilities`, clip → class by class.
        Of a file of dimensions alone, `labels` and the lists of `probabilities` are empty.
        A file that reads text has `text`, and `token_ids` and `text_mask` made of it. A file that gives
        dimensions has `dimensions`: `names`, `range`, and `values`, clip → what its output of that name
        gives, from -1 to 1, which the same tolerance is for.

    Raises:
        UserError: a file cannot be read, takes neither audio nor text, or the files take clips of different
            lengths or rates.
    """
    files = [file for path in paths for file in _exported(path)]
    runners = [_opened(path) for path in files]
    lengths = {(each.samples, each.sample_rate) for each in runners if each.samples}
    if len(lengths) > 1:
        described = ", ".join(f"{samples} samples at {rate} Hz" for samples, rate in sorted(lengths))
        raise UserError(
            f"one recording is made for all files, and these take {described}: name files that agree."
        )
    vectors: dict[str, Any] = {}
    recording, clips = np.zeros(0, np.float32), {}
    if lengths:
        ((samples, sample_rate),) = lengths
        clips = {
            name: [round(start * samples), round(stop * samples)] for name, (start, stop) in _CLIPS.items()
        }
        recording = voice(max(stop for _, stop in clips.values()), sample_rate=sample_rate)
        content = base64.b64encode(recording.astype("<f4").tobytes()).decode()
        vectors = {"audio": {"sample_rate": sample_rate, "base64": content}, "clips": clips}
    answers = [_answers(path, runner, recording, clips) for path, runner in zip(files, runners, strict=True)]
    return {**vectors, "files": answers}


def voice(samples: int, *, sample_rate: int) -> np.ndarray:
    """Something like speech, always the same: float32 `(samples,)` in steps of 1/32768.

    Harmonics under two formants, four syllables a second, and breath. Pitch, formants and breath rise from
    beginning to end, so that an answer to another part of it is another answer.
    """
    seconds, place = np.arange(samples) / sample_rate, np.linspace(0, 1, samples)
    pitch_hz = 110 * 2 ** (1.5 * place)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    sound = 0.1 * (1 + 5 * place) * np.random.default_rng(0).standard_normal(samples)
    for number in range(1, 25):
        formants = sum(
            np.exp(-(((number * pitch_hz - formant_hz * (1 + place / 2)) / 250) ** 2))
            for formant_hz in (600, 1700)
        )
        sound += (formants + 0.05) * np.sin(number * phase)
    sound *= 0.15 + np.sin(2 * np.pi * 2 * seconds) ** 2
    return (np.round(sound / np.abs(sound).max() * 2**14) / 2**15).astype(np.float32)


def _exported(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (files := sorted(path.glob("student_*.tflite"))):
        raise UserError(
            f"no student_*.tflite in {path}: name a run that was exported, or a .tflite file itself."
        )
    return files


def _opened(path: Path) -> Runner:
    try:
        runner = Runner(path)
    except RunnerError as error:
        raise UserError(str(error)) from None
    if "states" in runner.card:
        raise UserError(f"{path} takes states of encoders outside of it: no recording or text can be given.")
    return runner


def _answers(
    path: Path, runner: Runner, recording: np.ndarray, clips: dict[str, list[int]]
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "precision": runner.precision,
        "labels": list(runner.labels),
        "tolerance": TOLERANCES[runner.precision],
    }
    text = None
    if runner.text is not None:
        text = _text(runner.text.vocabulary)
        ids, mask, _ = encode_text(runner.text.tokenizer(), text, runner.text.tokens)
        facts |= {"text": text, "token_ids": ids.tolist(), "text_mask": mask.tolist()}
    if runner.samples:
        facts |= {"samples": runner.samples, "padding": runner.padding}
        answers = {name: runner.answer(recording[start:stop], text) for name, (start, stop) in clips.items()}
    else:
        answers = {"text": runner.answer(text=text)}
    facts["probabilities"] = {name: answer.probabilities.tolist() for name, answer in answers.items()}
    return {**facts, **_dimensions(runner, answers)}


def _dimensions(runner: Runner, answers: Mapping[str, Answer]) -> dict[str, Any]:
    """The output `dimensions` of a file that has one, as the file gives it."""
    if not runner.dimension_names:
        return {}
    low, high = runner.dimension_range
    values = {
        name: (2 * (answer.dimensions.astype(np.float64) - low) / (high - low) - 1).tolist()
        for name, answer in answers.items()
    }
    return {DIMENSIONS: {"names": [*runner.dimension_names], "range": [low, high], "values": values}}


def _text(vocabulary: Sequence[str]) -> str:
    """Four words that the vocabulary has whole, from all over it."""
    words = [token for token in vocabulary if token.isalpha() and token.islower()] or ["null"]
    return " ".join(words[round(place * (len(words) - 1))] for place in (0.2, 0.4, 0.6, 0.8))
