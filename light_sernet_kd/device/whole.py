"""Answers to whole recordings: of one clip, or summed up over windows."""

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from light_sernet_kd import audio, runner
from light_sernet_kd.audio.decoders import LOWEST_SAMPLE_RATE
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.device import shipped, timeline
from light_sernet_kd.device.command_paths import model_file
from light_sernet_kd.errors import choose
from light_sernet_kd.runner import (
    HOP_SECONDS,
    LARGEST_SAMPLE,
    NOT_FINITE,
    NOT_SURE,
    TOO_SHORT,
    Answer,
    RunnerError,
    Stream,
    StreamSettings,
    Window,
    require_settings,
    too_short,
    unheard,
    unsure_threshold,
)

_log = logging.getLogger("light_sernet_kd")
# Those of a stream that judge a clip too.
GATES = ("unsure_below", "silence_dbfs", "steady_db")
# What a profile learns is of a stream: here several threads may ask at once.
_SETTINGS = [each.name for each in fields(StreamSettings) if each.name != "learn"]


class Sound(Protocol):
    """A recording at the student's sample rate, however long."""

    def blocks(self) -> Iterator[np.ndarray]:
        """Its samples, `(n,)` each."""
        ...

    def middle(self, samples: int) -> np.ndarray:
        """The middle ones."""
        ...


@dataclass(frozen=True)
class File:
    """A recording in a file, of which a block is held at a time.

    Attributes:
        rate: that it is converted to, in Hz.
    """

    path: str | Path
    rate: int

    def blocks(self) -> Iterator[np.ndarray]:
        return audio.blocks(self.path, sample_rate=self.rate)

    def middle(self, samples: int) -> np.ndarray:
        return audio.middle(self.path, samples, sample_rate=self.rate)


@dataclass(frozen=True)
class Waveform:
    """A recording in memory: `samples` `(n,)`, floating-point."""

    samples: np.ndarray

    def blocks(self) -> Iterator[np.ndarray]:
        return iter([self.samples])

    def middle(self, samples: int) -> np.ndarray:
        return audio.fit(self.samples, min(samples, len(self.samples)))


@dataclass(frozen=True, eq=False)
class Result:
    """What a student says of a recording, a text or both.

    Attributes:
        label: the class with the largest probability, also where that is not to be relied on. None where the
            file gives dimensions alone.
        probabilities: class → number; they sum to 1. Of a recording longer than a clip, the mean over the
            windows that hold speech. Empty where the file gives dimensions alone.
        unsure: whether the answer is not to be relied on.
        reason: why: `not sure`, `silent`, `no speech`, `too short` or `not finite`; else empty. Dimensions
            alone are never `not sure`.
        seconds: how long the recording is; 0 of a text.
        windows: of a recording longer than a clip; empty for one that fits, or of a text.
        dimensions: arousal, valence, dominance → number, averaged as the probabilities are, on the scale of
            the runner's `dimension_range`, whose ends it may pass. None where the file gives none.

    >>> Result("anger", {"anger": 0.4, "fear": 0.35, "neutral": 0.25}, unsure=True, reason="not sure").label
    'anger'
    """

    label: str | None
    probabilities: dict[str, float]
    unsure: bool
    reason: str
    seconds: float = 0.0
    windows: tuple[Window, ...] = ()
    dimensions: dict[str, float] | None = None


class Runner(runner.Runner):
    """An exported student that also answers whole recordings, of files and of any sample rate.

    It is opened by an exported file or by a run's folder; all else is as in `runner.Runner`, which is a file
    of its own to be copied to a device.

    >>> opened = Runner("student.tflite")
    >>> syllables = np.sin(np.arange(40000) * 0.1) * (np.arange(40000) % 4000 < 2000)
    >>> result = opened.classify(syllables, sample_rate=16000)
    >>> result.seconds, len(result.windows), sorted(result.probabilities)
    (2.5, 5, ['anger', 'neutral', 'sadness'])
    >>> opened.classify(np.zeros(16000), sample_rate=16000).reason
    'silent'
    """

    def __init__(self, path: str | Path | None = None, **settings: Any):
        """Open an exported file, or that of a run's folder: int8 before the larger ones.

        Args:
            path: also the name of a student of the package. None is its default, and the log says so.
            settings: `threads`, `profile` and `labels` of `runner.Runner`.

        Raises:
            RunnerError, UserError: as `runner.Runner`; or the folder holds no exported file.
        """
        if path is None:
            _log.info("%s", shipped.introduction())
        super().__init__(model_file(path, enrolled=settings.get("profile") is not None), **settings)

    def classify(
        self,
        sound: str | Path | np.ndarray | None = None,
        *,
        sample_rate: int | None = None,
        text: str | None = None,
        **settings: float,
    ) -> Result:
        """What the student says of a whole recording, as the command `predict` does.

        Several threads may ask at once. What answers at the same time is a `Runner` per thread.

        Args:
            sound: the path of a recording in any form that `audio.decode` reads, or a waveform `(n,)` or
                `(n, channels)`, floating-point. Channels are averaged, other rates converted.
            sample_rate: of a waveform, in Hz; by default the student's own. A file tells its own.
            text: what is said, for a student that reads it.
            settings: of `Stream`, such as `unsure_below` and `hop_seconds`.

        Raises:
            RunnerError: as `answer`; what the student gives is not finite; a setting is out of its range, or
                not for this student; or an impossible rate.
            AudioError: the file cannot be read.
            UserError: there is no such setting.
        """
        self.require(audio=sound is not None, text=text is not None)
        kept: list[Window] = []
        if sound is None:
            answer = answer_to_text(self, str(text), settings)
        else:
            answer = answer_to(self, self._sound(sound, sample_rate), text, settings, kept)
        return Result(
            label=answer["label"],
            probabilities=answer["probabilities"],
            unsure=answer["unsure"],
            reason=answer["reason"] or "",
            seconds=answer.get("seconds", 0.0),
            windows=tuple(kept),
            dimensions=answer.get("dimensions"),
        )

    def _sound(self, sound: str | Path | np.ndarray, sample_rate: int | None) -> Sound:
        if not isinstance(sound, np.ndarray):
            if sample_rate is not None:
                raise RunnerError("sample_rate is of a waveform: a file tells its own. Leave it out.")
            return File(sound, self.sample_rate)
        if sound.ndim == 2 and np.issubdtype(sound.dtype, np.floating):
            sound = audio.mono(sound)
        if sample_rate is not None and sample_rate < LOWEST_SAMPLE_RATE:
            raise RunnerError(f"sample_rate must be at least {LOWEST_SAMPLE_RATE} Hz, found {sample_rate}.")
        if sample_rate not in (None, self.sample_rate):
            if sound.ndim != 1 or not len(sound) or not np.issubdtype(sound.dtype, np.floating):
                runner._sound(sound)  # says what is wrong with it
            sound = audio.resample(np.asarray(sound, np.float32), int(sample_rate or 0), self.sample_rate)
        return Waveform(sound)


def answer_to(
    runner: runner.Runner,
    sound: Sound,
    text: str | None,
    settings: Mapping[str, float],
    kept: list[Window] | None = None,
) -> dict[str, Any]:
    """The answer to a recording, and perhaps what is said in it.

    Args:
        settings: of `Stream`; its gates hold for short recordings too.
        kept: gets the windows of a longer one.

    Returns:
        `label`, `probabilities`, `unsure`, `reason`, `seconds`, `heard`, `windows`, `time_shares`,
        `unsure_shares`, and of a file that gives them `dimensions` and `dimension_range`, as the command
        `predict` prints them.

    Raises:
        AudioError, RunnerError: it cannot be read or classified; or as `check_settings`.
        UserError: as `check_settings`.
    """
    check_settings(runner, settings)
    rate, samples = runner.sample_rate, runner.samples
    blocks = iter(sound.blocks())
    begun, count = [], 0
    # A recording is held until it is known to be longer than the student's input.
    while count <= samples and (block := next(blocks, None)) is not None:
        begun.append(block)
        count += len(block)
    if count <= samples:
        return _of_clip(runner, np.concatenate(begun), text, settings)
    if runner.text is not None:
        count += sum(map(len, blocks))
        clip = sound.middle(samples)
        first = (count - samples) // 2
        note = (
            f"answered the middle {samples / rate:g} s of {count / rate:.1f} s: this student reads a text, "
            "which is of the whole clip"
        )
        heard = {"heard": [first / rate, (first + samples) / rate], "warnings": [note]}
        return _of_clip(runner, clip, text, settings) | {"seconds": count / rate} | heard
    stream = stream_of(runner, settings)

    def windows() -> Iterator[Window]:
        for block in itertools.chain(begun, blocks):
            yield from passed(stream.feed(block))
        yield from passed(stream.finish())

    def passed(new: list[Window]) -> list[Window]:
        if kept is not None:
            kept.extend(new)
        return new

    summary = timeline.summary(windows(), runner.labels, unsure_below=stream.unsure_below)
    # Else it is the student whose answers are not finite, which is told below.
    if summary.why == NOT_FINITE and not np.isfinite([*summary.probabilities, *summary.dimensions]).all():
        raise RunnerError(
            f"every window of {summary.windows} has samples that are not finite or above {LARGEST_SAMPLE:g}."
        )
    answer = Answer(summary.probabilities, summary.dimensions)
    return {
        **_of_answer(runner, answer, summary.why, {"unsure_below": 0.0}),
        "seconds": stream.received / rate,
        "heard": [0.0, summary.seconds],
        "windows": summary.windows,
        "time_shares": summary.time_shares,
        "unsure_shares": summary.unsure_shares,
    }


def check_settings(runner: runner.Runner, settings: Mapping[str, Any], *, hears: bool = True) -> None:
    """Refuse settings that an answer does not take, whatever the length of what it answers.

    Args:
        settings: of `Stream`.
        hears: whether there is a recording, and not a text alone.

    Raises:
        RunnerError: they are out of range, of classes that the file does not give, or of windows where a text
            of the whole clip is read.
        UserError: an unknown one.
    """
    for name in settings:
        choose("setting", name, _SETTINGS)
    require_settings(settings, runner.card, runner._path)
    if runner.text is not None or not hears:
        allowed = GATES if hears else GATES[:1]
        if wrong := [name for name in settings if name not in allowed]:
            raise RunnerError(
                f"{' and '.join(wrong)} cannot be used with this student, which reads a text of the whole "
                "clip."
            )
    StreamSettings(**settings).require_ranges(SAMPLE_RATE if runner.text is not None else runner.sample_rate)


def stream_of(runner: runner.Runner, settings: Mapping[str, Any]) -> Stream:
    """A stream whose windows leave nothing out unless a setting says so.

    Raises:
        RunnerError: as `Stream`.
    """
    chosen: dict[str, Any] = {"hop_seconds": default_hop(runner.samples, runner.sample_rate), **settings}
    return Stream(runner, **chosen)


def default_hop(samples: int, sample_rate: int) -> float:
    """Seconds from one window of so many samples to the next, which leave no sound out between them.

    >>> default_hop(48_000, 16_000), default_hop(6_400, 16_000)
    (0.5, 0.4)
    """
    if not sample_rate:  # of a file that takes no audio
        return HOP_SECONDS
    return min(HOP_SECONDS, samples / sample_rate)


def answer_to_text(runner: runner.Runner, text: str, settings: Mapping[str, float]) -> dict[str, Any]:
    """The answer to a text alone: `label`, `probabilities`, `unsure` and `reason`, perhaps dimensions."""
    check_settings(runner, settings, hears=False)
    return _of_answer(runner, runner.answer(None, text), "", settings)


def _of_clip(
    runner: runner.Runner, clip: np.ndarray, text: str | None, settings: Mapping[str, float]
) -> dict[str, Any]:
    """The answer to a clip no longer than the student's input."""
    rate = runner.sample_rate
    gates = {name: settings[name] for name in ("silence_dbfs", "steady_db") if name in settings}
    why = TOO_SHORT if too_short(len(clip), rate) else unheard(clip, rate, **gates)
    answer = _of_answer(runner, runner.answer(clip, text), why, settings)
    sure = not answer["unsure"]
    return {
        **answer,
        "seconds": len(clip) / rate,
        "heard": [0.0, len(clip) / rate],
        "windows": 1,
        "time_shares": {name: float(sure and name == answer["label"]) for name in runner.labels},
        "unsure_shares": {} if sure else {answer["reason"]: 1.0},
    }


def _of_answer(
    runner: runner.Runner, answer: Answer, why: str, settings: Mapping[str, float]
) -> dict[str, Any]:
    for name, array in (("probabilities", answer.probabilities), ("dimensions", answer.dimensions)):
        if not np.isfinite(array).all():
            raise RunnerError(f"this student's {name} are not finite: train or export it again.")
    shares = dict(zip(runner.labels, answer.probabilities.tolist(), strict=True))
    best = max(shares, key=lambda name: shares[name]) if shares else None
    least = settings.get("unsure_below", unsure_threshold(runner.card))
    if best is not None and not why and shares[best] < least:
        why = NOT_SURE
    made = {"label": best, "probabilities": shares, "unsure": bool(why), "reason": why or None}
    if not runner.dimension_names:
        return made
    dimensions = dict(zip(runner.dimension_names, answer.dimensions.tolist(), strict=True))
    return {**made, "dimensions": dimensions, "dimension_range": [*runner.dimension_range]}
