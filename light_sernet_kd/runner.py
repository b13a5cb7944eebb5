"""Runs an exported student on a device: this one file, NumPy and LiteRT; no TensorFlow, nothing else of ours.

    pip install numpy ai-edge-litert  # and tokenizers, for students that read text

    runner = Runner("student_int8.tflite")
    probabilities = runner.probabilities(waveform)  # float32 mono at runner.sample_rate
    probabilities = runner.probabilities(waveform, "what is said")  # where the student reads text too
    runner.labels[probabilities.argmax()]
    runner.answer(waveform).dimensions  # arousal, valence, dominance: runner.dimension_names, empty in most
    # Where runner.labels is empty, the file gives these alone: ask `answer` and `Stream`.

    stream = Stream(runner)  # overlapping windows of sound that comes in blocks; `unsure` where it is
    for window in stream.feed(block):
        print(window.start, window.label)

    runner.enrol(waveforms).save("me.json")  # what is known of a speaker, of recordings without labels
    runner = Runner("student_int8.tflite", profile="me.json")  # where the file has the signature for it

An exported file is a TFLite flatbuffer with a zip archive behind it, which holds `card.json`, of classes
`labels.txt` and, for text, `vocab.txt`: `unzip student_int8.tflite` shows what the file expects and where it
comes from.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import struct
import tempfile
import threading
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter
    from tokenizers import Tokenizer

_TFLITE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite flatbuffer
_STDERR = 2
# What LiteRT, the TFLite converter and TensorFlow's start-up write about themselves.
_CHATTER = re.compile(rb"(INFO: |[IW]\d{4} [\d.: ]+ |WARNING: All log messages before absl|fully_quantize: )")
# Held while the process's stderr is redirected. Of two redirections that overlap, each would give back the
# other's. One within the other, in one thread, is fine.
STDERR_LOCK = threading.RLock()
# The innermost (laughs) or [LAUGHTER]: none in it is left to open.
_REMARK = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
# What a text without words is read as, in training too.
NO_TEXT = "NULL"
# The name of what `clean` does: a file that was trained on texts cleaned otherwise must not be run with it.
CLEANING = "3m_ser"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# What a window is labelled whose sound says too little, and why it is.
UNSURE = "unsure"
RESERVED = (
    "no class may be called {!r}: that is what an answer is called that cannot be relied on. Rename it in "
    "the manifest."
)
SILENT, STEADY, NOT_SURE, NOT_FINITE = "silent", "no speech", "not sure", "not finite"
TOO_SHORT = "too short"
# A syllable lasts 0.2 s in the mean (Greenberg 1999): less sound holds none, and is too little for the gates
# to tell noise from speech.
SHORTEST_SECONDS = 0.2
# Where a card has no `unsure_below`.
UNSURE_BELOW = 0.5
# Full scale is 1; of numbers much larger, a front end's sums of squares exceed float32.
LARGEST_SAMPLE = 1e9
HOP_SECONDS = 0.5
SMOOTHING_SECONDS = 1.0
MARGIN = 0.1  # of probability
PATIENCE = 3  # windows
# Students hear no level, so that quiet speech counts as much as loud speech: silence is what 16 bits cannot
# hold (their rounding alone has -101). A gate at -50 called 98 of RAVDESS's 1,440 recordings silent.
SILENCE_DBFS = -110.0
# Sound that hovers about the threshold would else be silent in every other window.
SILENCE_HYSTERESIS_DB = 3.0
LEAST_DBFS = -120.0
# Students were taught emotions, never that a sound is none: they are sure of noise. Speech has syllables and
# pauses. Chosen on EMO-DB and made-up noise: benchmarks/silence_gate.py prints what it calls speech.
STEADY_DB = 4.0
# Voices are strong below 1 kHz, where white noise of the same power has an eighth of its own.
LEVEL_RANGE_RATE = 2000  # Hz
LEVEL_RANGE_BLOCK_SECONDS = 0.005
FRAME_BLOCKS = 16  # the median of these passes over clicks, which are shorter than half of them
FRAME_HOP_BLOCKS = 8
FEWEST_FRAMES = 8


# What is read of an exported file at most, in bytes; a flatbuffer's offsets end at 2 GiB.
LARGEST_FILE = 2**31 + 2**26
LARGEST_MEMBERS = {"card.json": 4 * 2**20, "labels.txt": 2**20, "vocab.txt": 32 * 2**20}
MOST_TOKENS = 2**20
# The signature of a file that knows speakers, what a profile's file says of its own kind, and its limits.
ENROLLED = "enrolled"
# What a file's outputs are called, and what the second may hold, from -1 to 1 and not clipped. A file has one
# of them or both.
PROBABILITIES, DIMENSIONS = "probabilities", "dimensions"
DIMENSION_NAMES = ("arousal", "valence", "dominance")
PROFILE_VERSION = 1
LARGEST_PROFILE = 4 * 2**20
WIDEST_EMBEDDING = 2**16
MOST_CLIPS = 1e9
# Settings of a stream that say how a class is chosen.
_OF_CLASSES = ("unsure_below", "margin", "patience")
_HIGHEST_MEAN = 1e30  # float32 ends at 3e38, and the graph subtracts
_LARGEST_DIRECTORY = 2**20  # of the archive: what lists its members
_AGAIN = "Export or copy it again."
_ENROL_AGAIN = "Enrol the speaker again."


class RunnerError(Exception):
    """A file or a waveform that cannot be used; the message says what was found and what to do.

    >>> Runner("student.tflite").probabilities(np.zeros(8000), sample_rate=8000)
    Traceback (most recent call last):
        ...
    light_sernet_kd.runner.RunnerError: expected sound at 16000 Hz, found 8000 Hz: resample it first.
    """


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
        """The tokenizer that `word_piece` makes.

        Raises:
            RunnerError: as `word_piece`, or `cleaning` is not known here.
        """
        if self.cleaning != CLEANING:
            raise RunnerError(
                f"texts are cleaned by {self.cleaning!r} here, and this runner knows {CLEANING!r} alone: "
                "take the runner that came with the file."
            )
        return word_piece(self.vocabulary, lowercase=self.lowercase, strip_accents=self.strip_accents)


@dataclass(frozen=True, eq=False)
class Profile:
    """What is known of a speaker: the mean embedding of some recordings, which need no labels.

    It holds neither a name nor sound. The vector may identify the speaker all the same: keep it as you would
    keep a recording.

    Attributes:
        embedding: which student's embeddings these are: the card's `enrolled.embedding`.
        mean: float64 `(E,)`; of no meaning where `clips` is 0.
        clips: how many recordings it is the mean of; a part of one is a fraction.

    Raises:
        RunnerError: one of them is of another type, or out of its range.

    >>> profile = Profile("0" * 64, np.zeros(2), 0).with_clip(np.array([1.0, 3.0]))
    >>> profile = profile.with_clip(np.array([4.0, 6.0]), 0.5)
    >>> profile.clips, profile.mean.tolist()
    (1.5, [2.0, 4.0])
    """

    embedding: str
    mean: np.ndarray
    clips: float

    def __post_init__(self) -> None:
        mean, clips = self.mean, self.clips
        if isinstance(mean, np.ndarray | list | tuple):
            mean = np.asarray(mean).tolist()
        clips = clips.item() if isinstance(clips, np.generic) else clips
        facts = {"embedding": self.embedding, "mean": mean, "clips": clips}
        if misfit := _misfit(facts, {name: _PROFILE_FIELDS[name] for name in facts}):
            name, expected, value = misfit
            raise RunnerError(f"a profile's {name} must be {expected}, found {_shown(value)}.")
        object.__setattr__(self, "mean", np.array(mean, np.float64))
        object.__setattr__(self, "clips", float(clips))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Profile":
        """The profile that `save` wrote.

        Raises:
            RunnerError: the file is missing, larger than `LARGEST_PROFILE`, no JSON, or no profile of this
                version; one line says which of its fields is not what it should be.
        """
        path = Path(path)
        with _regular_file(path) as file:
            content = file.read(LARGEST_PROFILE + 1)
        if len(content) > LARGEST_PROFILE:
            raise RunnerError(f"{path} has more than {LARGEST_PROFILE:,} bytes: it is no speaker's profile.")
        facts, why = _parsed(content)
        if why:
            raise RunnerError(f"{path} cannot be read as JSON ({why}). {_ENROL_AGAIN}")
        if not isinstance(facts, dict):
            raise RunnerError(f"{path} holds {_shown(facts)}: it is no speaker's profile. {_ENROL_AGAIN}")
        if misfit := _misfit(facts, _PROFILE_FIELDS):
            name, expected, value = misfit
            raise RunnerError(
                f"{path}: the profile's {name} must be {expected}, found {_shown(value)}. {_ENROL_AGAIN}"
            )
        return cls(facts["embedding"], facts["mean"], facts["clips"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, for this user alone to read, over what was there.

        The file is whole or as it was before, whatever happens.

        Raises:
            RunnerError: the folder is missing, may not be written or is full, or `path` is no regular file.
        """
        path, temporary = Path(path), None
        facts = {
            "profile_version": PROFILE_VERSION,
            "embedding": self.embedding,
            "clips": self.clips,
            "mean": self.mean.tolist(),
        }
        try:
            if path.exists() and not path.is_file():
                raise RunnerError(f"cannot write {path}: it is not a regular file.")
            # For its owner alone, as mkstemp makes it.
            descriptor, temporary = tempfile.mkstemp(prefix=".profile.", suffix=".json", dir=path.parent)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(facts, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
            why = getattr(error, "strerror", None) or error
            raise RunnerError(f"cannot write {path}: {why}.") from None
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

    def with_clip(self, embedding: np.ndarray, weight: float = 1.0) -> "Profile":
        """The profile with one more recording in its mean.

        Args:
            embedding: `(E,)`, finite.
            weight: how much of a recording it is, above 0.

        Raises:
            RunnerError: it is of another shape, not finite, or the weight is none.
        """
        embedding = np.asarray(embedding, np.float64)
        if embedding.shape != self.mean.shape:
            raise RunnerError(
                f"expected an embedding of shape {self.mean.shape}, found {embedding.shape}: it is of "
                "another student."
            )
        if not (0 < weight < math.inf and np.isfinite(embedding).all()):
            raise RunnerError(
                f"expected a finite embedding and a weight above 0, found {_shown(embedding.tolist())} and "
                f"{weight:g}."
            )
        # Where nothing was known, the mean is of no meaning.
        share = weight / (self.clips + weight)
        mean = self.mean + share * (embedding - self.mean) if self.clips else embedding
        return Profile(self.embedding, mean, min(self.clips + weight, MOST_CLIPS))


@dataclass(frozen=True, eq=False)
class Answer:
    """What a file gives for one clip, text or both.

    Attributes:
        probabilities: float32 `(classes,)`, which sums to 1; empty for a file of dimensions alone.
        dimensions: float32 `(K,)`, in the order of `Runner.dimension_names` and on the scale of
            `Runner.dimension_range`, which it may exceed; K is 0 for a file of classes alone.

    >>> answer = Runner("student.tflite").answer(np.sin(np.arange(8000) * 0.1))
    >>> answer.probabilities.shape, answer.dimensions.shape
    ((3,), (0,))
    """

    probabilities: np.ndarray
    dimensions: np.ndarray


class Runner:
    """An exported student, ready to classify recordings, texts or both.

    Several threads may ask one at once: they wait for one another. What answers at the same time is a
    `Runner` per thread.

    Attributes:
        labels: the classes, in the order of `probabilities`; empty for a file of dimensions alone.
        inputs: what the file takes: `audio`, `token_ids` and `text_mask` (made of a text), and `text_states`
            and `audio_states`, which encoders that are not in the file have made.
        samples: length of the clip the student looks at, in samples; 0 where it takes no audio.
        sample_rate: in Hz; 0 where it takes no audio.
        padding: where a short clip's zeros go, `both` ends or the `right`; empty where it takes no audio.
        text: how it reads text; None where it does not.
        dimension_names: which of `arousal`, `valence` and `dominance` the file gives too; mostly none.
        dimension_range: lowest and highest value of the scale that these were rated on.
        precision: `float32`, `float16`, `dynamic` or `int8`.
        card: everything the file says about itself.
        profile: what is known of the speaker, None for nothing. It may be set; one of more than 0 clips has
            `probabilities` and `Stream` answer by the signature `enrolled`.

    >>> runner = Runner("student.tflite")
    >>> runner.labels, runner.samples, runner.sample_rate
    (('anger', 'neutral', 'sadness'), 8000, 16000)
    >>> waveform = np.sin(np.arange(16000) * 0.1)
    >>> runner.probabilities(waveform, sample_rate=16000).shape
    (3,)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int = 1,
        profile: "Profile | str | os.PathLike[str] | None" = None,
        labels: Sequence[str] = (),
    ):
        """Open an exported file.

        Args:
            threads: how many processor cores may work on one clip.
            profile: what is known of the speaker, or the file that holds it.
            labels: some of the file's classes. All others count as ruled out: `probabilities` are of these
                alone, in the file's order, and sum to 1. None are given for all.

        Raises:
            RunnerError: the file is missing, damaged, not ours, takes features instead of audio, contradicts
                its card, or reads text and tokenizers is not installed; or the profile is damaged or of
                another student, or the file has no signature for it; or it has not two of the `labels`.
        """
        self._path = path
        # LiteRT refuses an interpreter that another thread runs; and a profile is read, changed and set.
        self._lock = threading.RLock()
        self._interpreter, self.card, self.labels, vocabulary = _opened(path, threads=threads)
        if labels:
            require_classes(self.card, path, "a choice of labels")
        self._kept = _columns(labels, self.labels, path)
        self.labels = tuple(self.labels[column] for column in self._kept)
        self.inputs: tuple[str, ...] = tuple(self.card.get("inputs", [self.card["input"]]))
        if "features" in self.inputs:
            raise RunnerError(
                f"{path} takes {self.card['input']}, not audio: "
                "export it with the front end inside (-m true)."
            )
        audio_facts = self.card if "audio" in self.inputs else {}
        self.samples: int = audio_facts.get("samples", 0)
        self.sample_rate: int = audio_facts.get("sample_rate", 0)
        self.padding: str = audio_facts.get("padding", "")
        self.precision: str = self.card["precision"]
        gives = self.card.get(DIMENSIONS, {"names": [], "range": [-1.0, 1.0]})
        self.dimension_names: tuple[str, ...] = tuple(gives["names"])
        low, high = gives["range"]
        self.dimension_range: tuple[float, float] = (float(low), float(high))
        self.text: TextInput | None = None
        if vocabulary:
            how = ("tokens", "lowercase", "strip_accents", "cleaning")
            self.text = TextInput(vocabulary, **{name: self.card["text"][name] for name in how})
            self._tokenizer = self.text.tokenizer()
        self._profile: Profile | None = None
        if isinstance(profile, Profile) or profile is None:
            self.profile = profile
        else:
            loaded = Profile.load(profile)
            require_profile(loaded, self.card, path, name=str(profile))
            self._profile = loaded

    @property
    def profile(self) -> Profile | None:
        return self._profile

    @profile.setter
    def profile(self, profile: Profile | None) -> None:
        if profile is not None:
            require_profile(profile, self.card, self._path)
        self._profile = profile

    def probabilities(
        self,
        waveform: np.ndarray | None = None,
        text: str | None = None,
        *,
        sample_rate: int | None = None,
    ) -> np.ndarray:
        """How likely each class is: float32 `(classes,)`, which sums to 1.

        Args:
            waveform: `(n,)`, n ≥ 1, floating-point, at `sample_rate`, at any level (through VGGish: as
                recorded). It is padded to `samples` as in training. A longer recording is cut to its middle
                `samples`, as in training: the rest is not heard. `stream` hears all of it, and the command
                `predict` answers from all of it.
            text: what is said, as spoken or transcribed; it is cleaned as in training. A text too long or
                without a word is a `TextWarning`.
            sample_rate: the waveform's, in Hz, to have it checked.

        Raises:
            RunnerError: the waveform is empty, not one channel, of integers, not finite, or at another rate;
                or the file takes something else than was given, or gives no classes.
        """
        require_classes(self.card, self._path, "Runner.probabilities", "take Runner.answer")
        self.require(audio=waveform is not None, text=text is not None)
        _require_rate(sample_rate, self.sample_rate)
        return self._answered(self._values(waveform, text)).probabilities

    def answer(
        self,
        waveform: np.ndarray | None = None,
        text: str | None = None,
        *,
        sample_rate: int | None = None,
    ) -> Answer:
        """The probabilities and the dimensions, of a file that gives both; else one of them, the other empty.

        Args:
            waveform, text, sample_rate: as of `probabilities`.

        Raises:
            RunnerError: as `probabilities`, but for the classes.

        >>> Runner("student.tflite").answer(np.sin(np.arange(8000) * 0.1)).dimensions.shape
        (0,)
        """
        self.require(audio=waveform is not None, text=text is not None)
        _require_rate(sample_rate, self.sample_rate)
        return self._answered(self._values(waveform, text))

    def _answered(self, values: Mapping[str, np.ndarray]) -> Answer:
        with self._lock:
            if self._profile is not None and self._profile.clips > 0:
                return self._enrolled(values["audio"])[0]
            return self._answer_of(outputs(self._interpreter, values))

    def _answer_of(self, outputs: Mapping[str, np.ndarray]) -> Answer:
        """What is made of a graph's outputs by name, without the batch axis."""
        low, high = self.dimension_range
        raw = outputs[DIMENSIONS] if self.dimension_names else np.zeros(0, np.float32)
        dimensions = low + (high - low) * (raw.astype(np.float64) + 1) / 2
        shares = self._chosen(_probabilities(outputs)) if self.labels else np.zeros(0, np.float32)
        return Answer(shares, dimensions.astype(np.float32))

    def embedding(self, waveform: np.ndarray, *, sample_rate: int | None = None) -> np.ndarray:
        """What the student's last layer takes of a clip: float32 `(E,)`, whoever speaks.

        Args:
            waveform, sample_rate: as of `probabilities`.

        Raises:
            RunnerError: as `probabilities`, or the file has no signature that gives it.

        >>> Runner("student.tflite").embedding(np.sin(np.arange(8000) * 0.1)).shape
        (5,)
        """
        require_enrolled(self.card, self._path)
        self.require(audio=True, text=False)
        _require_rate(sample_rate, self.sample_rate)
        return self._enrolled(self._values(waveform, None)["audio"])[1]

    def enrol(self, waveforms: Iterable[np.ndarray], *, sample_rate: int | None = None) -> Profile:
        """Take recordings of one speaker into the profile, which is used from then on and returned.

        They need no labels: some 10 of any emotions are enough. What was known before stays in. Recordings
        that are silent, hold no speech, are not finite or are too short are left out.

        Args:
            waveforms: `(n,)` each, floating-point, at the file's rate; of any length, as `learn` takes them.
            sample_rate: of all of them, in Hz, to have it checked.

        Raises:
            RunnerError: none is left; or as `learn`. The profile is as before then.

        >>> runner = Runner("student.tflite")
        >>> syllables = np.sin(np.arange(16000) * 0.1) * (np.arange(16000) % 4000 < 2000)
        >>> runner.enrol([syllables, np.zeros(16000)]).clips
        2.0
        >>> runner.enrol([np.zeros(16000)])
        Traceback (most recent call last):
            ...
        light_sernet_kd.runner.RunnerError: no speech to learn from in 1 recording: 1 silent.
        """
        require_enrolled(self.card, self._path)
        _require_rate(sample_rate, self.sample_rate)
        if isinstance(waveforms, np.ndarray) and waveforms.ndim == 1:
            waveforms = [waveforms]
        before, reasons = self._profile, Counter[str]()
        try:
            for waveform in waveforms:
                reasons[self.learn(np.asarray(waveform))] += 1
            if not reasons[""]:
                count = reasons.total()
                whys = ", ".join(f"{number} {why}" for why, number in reasons.items() if why)
                recordings = f"{count} recording{'' if count == 1 else 's'}"
                raise RunnerError(f"no speech to learn from in {recordings}{f': {whys}' if whys else ''}.")
        except BaseException:
            self._profile = before
            raise
        return self._known()

    def learn(self, sound: np.ndarray | Iterable[np.ndarray]) -> str:
        """Take one recording of the speaker into the profile; returns why none of it was, or empty.

        A recording no longer than a clip counts as one. A longer one is taken in windows that follow each
        other, and counts as its length in clips. Windows without speech are left out.

        Args:
            sound: `(n,)`, or blocks of it that follow one another, of which one is held at a time.

        Returns:
            empty, or as `Window.why`: the reason of most of the windows.

        Raises:
            RunnerError: as `stream`, or the file has no signature for it. The profile is as before then.

        >>> Runner("student.tflite").learn(np.zeros(16000))
        'silent'
        """
        before, reasons = self._profile, Counter[str]()
        try:
            for window in self.stream(sound, hop_seconds=self.samples / self.sample_rate, learn=True):
                reasons[window.why if window.why not in ("", NOT_SURE) else TOO_SHORT] += 1
        except BaseException:
            self._profile = before
            raise
        return "" if self._profile is not before else reasons.most_common(1)[0][0]

    def _known(self) -> Profile:
        """The profile, or an empty one."""
        facts = self.card[ENROLLED]
        return self._profile or Profile(facts["embedding"], np.zeros(facts["width"]), 0.0)

    def _enrolled(self, clip: np.ndarray) -> tuple[Answer, np.ndarray]:
        """What the second signature gives for `(samples,)`: an answer, and the embedding `(E,)`."""
        with self._lock:
            profile = self._known()
            # One that is kept holds the interpreter, which then refuses to run its first graph.
            run = self._interpreter.get_signature_runner(ENROLLED)
            outputs = run(
                audio=clip[None],
                speaker=profile.mean.astype(np.float32)[None],
                clips=np.array([[profile.clips]], np.float32),
            )
        return self._answer_of({name: array[0] for name, array in outputs.items()}), outputs["embedding"][0]

    def _chosen(self, probabilities: np.ndarray) -> np.ndarray:
        """Those of the classes that were asked for, which sum to 1."""
        if len(self._kept) == len(probabilities):
            return probabilities
        kept = probabilities[self._kept].astype(np.float64)
        # An int8 file rounds small ones to zero: then nothing tells these classes apart.
        return (kept / kept.sum() if kept.sum() else np.full(len(kept), 1 / len(kept))).astype(np.float32)

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
        require_classes(self.card, self._path, "Runner.probabilities_of_states")
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
        return self._answered(values).probabilities

    def stream(self, sound: np.ndarray | Iterable[np.ndarray], **settings: Any) -> "Iterator[Window]":
        """Every window of a waveform `(n,)`, or of blocks that follow one another, as soon as it is known.

        Of blocks, one is held at a time.

        Args:
            settings: of `Stream`.

        Raises:
            RunnerError: as `Stream` and its `feed`, or there is not one sample.
        """
        stream = Stream(self, **settings)
        if isinstance(sound, np.ndarray):
            _channel(sound)
            sound = [sound]
        return stream._of(sound)

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
                "this student takes no audio: leave the recording out."
                if audio
                else "this student takes audio, and there is no recording: name one."
            )
        if text != (self.text is not None):
            raise RunnerError(
                "this student takes no text: leave it out."
                if text
                else "this student also takes the transcript, and there is none: give it (predict --text)."
                if audio
                else "this student takes text, and there is none: give it (predict --text)."
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


@dataclass(frozen=True, eq=False)
class Window:
    """What a student made of one stretch of a stream.

    Attributes:
        start, end: of its sound, in seconds since the stream began; the last window may be shorter.
        probabilities: float32 `(classes,)`, as the file gives them for this sound alone; NaN where the sound
            is not finite.
        smoothed: the same over this and earlier windows, float32 `(classes,)`.
        level: root mean square about the mean, in dB of full scale, where a sine of amplitude 1 has -3.01;
            no lower than -120. NaN where the sound is not finite.
        label: a class, or `unsure`. Of a file without classes it is empty where it is not `unsure`.
        why: `silent`, `no speech`, `not sure`, `too short` or `not finite` where it is unsure, else empty.
        dimensions, smoothed_dimensions: as the probabilities and `smoothed`, of `Answer.dimensions`: float32
            `(K,)`, with K = 0 where the file gives none.

    >>> silence = np.zeros(8000)
    >>> window = next(Runner("student.tflite").stream(silence))
    >>> window.start, window.end, window.label, window.why, window.level
    (0.0, 0.5, 'unsure', 'silent', -120.0)
    """

    start: float
    end: float
    probabilities: np.ndarray
    smoothed: np.ndarray
    level: float
    label: str
    why: str
    dimensions: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    smoothed_dimensions: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """How a `Stream` cuts and judges sound.

    Attributes:
        hop_seconds: rounded to whole samples.
        unsure_below: a probability; by default the card's `unsure_below`, else 0.5.
        silence_dbfs: -inf for no gate.
        steady_db: 0 for no gate.
        smoothing_seconds: time in which a window's weight falls to 1/e; 0 for no smoothing.
        margin: a difference of probabilities.
        patience: in windows, at least 1; 1 shows each window's best class.
        learn: whether the runner's profile takes in what is heard.

    >>> StreamSettings(hop_seconds=0.25).patience
    3
    >>> StreamSettings(margin=2).require_ranges(16000)
    Traceback (most recent call last):
        ...
    light_sernet_kd.runner.RunnerError: margin must be from 0 to 1, found 2.
    """

    hop_seconds: float = HOP_SECONDS
    unsure_below: float | None = None
    silence_dbfs: float = SILENCE_DBFS
    steady_db: float = STEADY_DB
    smoothing_seconds: float = SMOOTHING_SECONDS
    margin: float = MARGIN
    patience: int = PATIENCE
    learn: bool = False

    def require_ranges(self, sample_rate: int) -> None:
        """Raise a `RunnerError` for the first setting that is out of range, at a rate in Hz."""
        hop = self.hop_seconds * sample_rate if math.isfinite(self.hop_seconds) else 0
        unsure_below = 0.5 if self.unsure_below is None else self.unsure_below
        for name, value, fits, range_ in (
            ("hop_seconds", self.hop_seconds, 0.5 <= hop < math.inf, f"from 1/{sample_rate} on"),
            ("unsure_below", unsure_below, 0 <= unsure_below <= 1, "from 0 to 1"),
            ("silence_dbfs", self.silence_dbfs, self.silence_dbfs <= 0, "in dB of full scale, so at most 0"),
            ("steady_db", self.steady_db, 0 <= self.steady_db < math.inf, "from 0 on"),
            (
                "smoothing_seconds",
                self.smoothing_seconds,
                0 <= self.smoothing_seconds < math.inf,
                "from 0 on",
            ),
            ("margin", self.margin, 0 <= self.margin <= 1, "from 0 to 1"),
            ("patience", self.patience, self.patience >= 1, "at least 1"),
        ):
            if not fits:
                raise RunnerError(f"{name} must be {range_}, found {value:g}.")


class Stream:
    """Sound that comes in blocks of any size, as overlapping windows of the student's `samples`.

        stream = Stream(runner, hop_seconds=0.5)
        for block in microphone:  # `(n,)` each, at runner.sample_rate
            for window in stream.feed(block): ...
        for window in stream.finish(): ...

    Window k begins at sample k · hop, whatever the blocks were, and its probabilities are those of
    `Runner.probabilities` for these samples. If the sound ends behind the last whole window, one more begins
    at the next hop: it is padded as in training, as is the only window of a sound that is shorter than one.
    A hop longer than a window leaves the sound between two windows unheard.

    - A window is no speech where its level is as steady as noise's, however loud it is: its
      `level_range_db` is below `steady_db`. It is silent below `silence_dbfs`, and after a silent one until
      it is 3 dB above; by default that is digital silence alone.
    - Probabilities and dimensions are smoothed exponentially. A silent window, one without speech, or one
      with samples that are not finite, is left out of that, and what follows it begins anew.
    - The label is that of the largest smoothed probability. Another takes its place when it leads by
      `margin`, or as soon as it has led in `patience` windows on end.
    - It is `unsure` where the window is one of these, or the largest smoothed probability is below
      `unsure_below`. The only window of a sound of less than 0.2 s is too short.
    - Of a file of dimensions alone there is no label, and no `unsure_below`, `margin` or `patience`.
    - The runner's profile answers, if it has one. With `learn` it takes in the embedding of each window of
      speech once that is answered, with the weight hop / window, at most 1: what is heard for as long as a
      clip counts as one. It has to be one person who speaks.

    Holds two windows of samples, however long the sound is. Not for several threads at once.

    Attributes:
        hop_samples: from one window's start to the next one's.
        received: samples so far.
        silence_dbfs, unsure_below: as given, or the defaults; the second is 0 without classes.

    A second of silence in four blocks has three windows of half a second.

    >>> stream = Stream(Runner("student.tflite"), hop_seconds=0.25)
    >>> windows = [window for block in np.zeros((4, 4000)) for window in stream.feed(block)]
    >>> [(window.start, window.label) for window in windows + stream.finish()]
    [(0.0, 'unsure'), (0.25, 'unsure'), (0.5, 'unsure')]
    """

    def __init__(self, runner: Runner, *, sample_rate: int | None = None, **settings: Any):
        """Begin a stream.

        Args:
            sample_rate: the sound's, in Hz, to have it checked.
            settings: those of `StreamSettings`, by name.

        Raises:
            RunnerError: the file takes no audio, or text beside it; a setting is out of range, or of classes
                that the file does not give; or it is to learn and has no signature for that.
        """
        if runner.text is not None and "audio" in runner.inputs:
            raise RunnerError(
                "this student takes the transcript of a clip, which windows of a stream do not have: "
                "classify clips with their texts."
            )
        runner.require(audio=True, text=False)
        _require_rate(sample_rate, runner.sample_rate)
        chosen = StreamSettings(**settings)
        if chosen.learn:
            require_enrolled(runner.card, runner._path)
        require_settings(settings, runner.card, runner._path)
        unsure_below = chosen.unsure_below
        if unsure_below is None:
            unsure_below = unsure_threshold(runner.card) if runner.labels else 0.0
        replace(chosen, unsure_below=unsure_below).require_ranges(runner.sample_rate)
        self.hop_samples = max(1, round(chosen.hop_seconds * runner.sample_rate))
        self.unsure_below, self.silence_dbfs = float(unsure_below), chosen.silence_dbfs
        self._steady_db, self._learn = chosen.steady_db, chosen.learn
        self.received = 0
        self._runner, self._margin, self._patience = runner, chosen.margin, chosen.patience
        hops = chosen.smoothing_seconds * runner.sample_rate / self.hop_samples
        self._new_share = -math.expm1(-1 / hops) if hops else 1.0
        # Twice a window, so that samples move to the front once per window and not once per block.
        self._buffer = np.empty(2 * runner.samples, np.float32)
        self._filled = 0
        self._buffer_start = self._next_start = 0  # in samples of the stream
        self._silent = self._finished = False
        self._begin_anew()

    def feed(self, block: np.ndarray) -> list[Window]:
        """The windows that end in this block, which follows the one before; there may be none.

        Args:
            block: `(n,)`, also n = 0, floating-point, at the file's rate, at any level. Samples that are not
                finite make the windows that hold them `unsure`.

        Raises:
            RunnerError: the block is not one channel or of integers, or the stream is finished.
        """
        if self._finished:
            raise RunnerError("the stream is finished: begin another for further sound.")
        block = _channel(block)
        windows = []
        length = self._runner.samples
        self.received += len(block)
        while len(block):
            piece = block[: len(self._buffer) - self._filled]
            block = block[len(piece) :]
            with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
                self._buffer[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            while (first := self._next_start - self._buffer_start) + length <= self._filled:
                windows.append(self._window(self._buffer[first : first + length]))
            if self._filled == len(self._buffer):
                # The next window ends behind the buffer, so it begins in the second half or later.
                self._buffer[:length] = self._buffer[length:]
                self._buffer_start += length
                self._filled = length
        return windows

    def finish(self) -> list[Window]:
        """The last window, if the sound goes on behind the one before it; ends the stream."""
        self._finished = True
        first = self._next_start - self._buffer_start
        covered_samples = (
            self._next_start - self.hop_samples + self._runner.samples if self._next_start else 0
        )
        if self.received <= covered_samples or first >= self._filled:
            return []
        window = self._window(self._buffer[first : self._filled])
        if (
            not covered_samples
            and not math.isnan(window.level)
            and too_short(self.received, self._runner.sample_rate)
        ):
            window = replace(window, label=UNSURE, why=TOO_SHORT)
        return [window]

    def _of(self, blocks: Iterable[np.ndarray]) -> Iterator[Window]:
        for block in blocks:
            for at in range(0, len(_channel(block)), self._runner.samples):
                yield from self.feed(block[at : at + self._runner.samples])
        if not self.received:
            raise RunnerError("expected at least one sample, found none.")
        yield from self.finish()

    def _begin_anew(self) -> None:
        self._smoothed: Answer | None = None
        self._shown = self._challenger = -1
        self._led = 0

    def _window(self, samples: np.ndarray) -> Window:
        rate, start = self._runner.sample_rate, self._next_start
        self._next_start += self.hop_samples
        level = level_dbfs(samples)
        if math.isnan(level):
            counts = len(self._runner.labels), len(self._runner.dimension_names)
            answer = smoothed = Answer(*(np.full(count, np.nan, np.float32) for count in counts))
            why = NOT_FINITE
            self._begin_anew()
        else:
            answer, embedding = self._answer(samples)
            smoothed = answer
            opens_at = self.silence_dbfs + (SILENCE_HYSTERESIS_DB if self._silent else 0.0)
            self._silent = level < opens_at
            if self._silent or level_range_db(samples, rate) < self._steady_db:
                why = SILENT if self._silent else STEADY
                self._begin_anew()
            else:
                smoothed = self._smoothed = self._smooth(answer)
                why = self._choose(smoothed.probabilities) if self._runner.labels else ""
                if embedding is not None and not too_short(len(samples), rate):
                    # The end of a longer sound is less than a window, a short sound is a whole recording.
                    audio_samples = len(samples) if start else self._runner.samples
                    weight = min(self.hop_samples, audio_samples) / self._runner.samples
                    with self._runner._lock:
                        self._runner.profile = self._runner._known().with_clip(embedding, weight)
        label = UNSURE if why else self._runner.labels[self._shown] if self._runner.labels else ""
        return Window(
            start / rate,
            (start + len(samples)) / rate,
            answer.probabilities,
            smoothed.probabilities,
            level,
            label,
            why,
            answer.dimensions,
            smoothed.dimensions,
        )

    def _answer(self, samples: np.ndarray) -> tuple[Answer, np.ndarray | None]:
        """The answer to a window; and its embedding, where that is to be learnt."""
        runner = self._runner
        if self._learn and runner._known().clips > 0:
            return runner._enrolled(runner._values(samples, None)["audio"])
        embedding = runner.embedding(samples) if self._learn else None
        return runner.answer(samples), embedding

    def _smooth(self, answer: Answer) -> Answer:
        if self._smoothed is None:
            return answer
        before, share = self._smoothed, np.float32(self._new_share)
        return Answer(
            before.probabilities + share * (answer.probabilities - before.probabilities),
            before.dimensions + share * (answer.dimensions - before.dimensions),
        )

    def _choose(self, smoothed: np.ndarray) -> str:
        """Choose the class that is shown; returns why it is not to be relied on, or empty."""
        why = "" if smoothed.max() >= self.unsure_below else NOT_SURE
        best = int(smoothed.argmax())
        if self._shown < 0 or best == self._shown:
            self._shown, self._led = best, 0
            return why
        self._led = self._led + 1 if best == self._challenger else 1
        self._challenger = best
        if self._led >= self._patience or smoothed[best] - smoothed[self._shown] >= self._margin:
            self._shown, self._led = best, 0
        return why


def level_dbfs(samples: np.ndarray) -> float:
    """Root mean square of `(n,)` about its mean, in dB of full scale, no lower than -120.

    A square wave of amplitude 1 has 0, a sine -3.01. NaN where a sample is not finite or beyond
    `LARGEST_SAMPLE`.
    """
    if not _largest(samples) <= LARGEST_SAMPLE:
        return math.nan
    return 10 * math.log10(max(float(np.var(samples, dtype=np.float64)), 10 ** (LEAST_DBFS / 10)))


def _largest(samples: np.ndarray) -> float:
    """The largest magnitude, without a copy of what may be an hour; NaN where a sample is NaN."""
    return float(np.maximum(samples.max(), -samples.min()))


def level_range_db(samples: np.ndarray, sample_rate: int) -> float:
    """By how many dB the level of sound `(n,)` below 1 kHz rises and falls: little in noise, much in speech.

    From the level that a tenth of the frames stay below to the one that a twentieth exceed, at any gain.
    Frames have 80 ms and follow each other every 40 ms; a frame's level is the median of its blocks of 5 ms,
    so that clicks do not count. What the recording's own resolution (its smallest step) cannot tell from
    rounding has one level, and stretches of constant samples are left out. Infinite where there are fewer
    than eight frames, which tell nothing.

    Args:
        samples: finite.
    """
    width = max(1, round(sample_rate / LEVEL_RANGE_RATE))
    length = max(1, round(LEVEL_RANGE_BLOCK_SECONDS * sample_rate / width))
    count = (len(samples) // width - 1) // length
    fewest = (FEWEST_FRAMES - 1) * FRAME_HOP_BLOCKS + FRAME_BLOCKS
    if count < fewest:
        return math.inf
    # Means are a low-pass filter; their differences take away an offset and most of hum and rumble.
    means = samples[: len(samples) // width * width].reshape(-1, width).mean(axis=1, dtype=np.float64)
    blocks = np.diff(means)[: count * length].reshape(count, length)
    powers = np.mean(blocks * blocks, axis=1)
    # Noise gates and mutes leave zeros between stretches of steady noise; those are no syllables.
    sound = powers[powers > 0]
    if len(sound) >= fewest:
        powers = sound
    # White noise as strong as the smallest step has this power after the filters.
    floor = max(2 * _smallest_step(samples) ** 2 / width, 1e-30)
    frames = np.lib.stride_tricks.sliding_window_view(powers, FRAME_BLOCKS)[::FRAME_HOP_BLOCKS]
    levels = np.sort(10 * np.log10(np.maximum(np.median(frames, axis=1), floor)))
    last = len(levels) - 1
    return float(levels[int(0.95 * last)] - levels[int(0.1 * last)])


def _smallest_step(samples: np.ndarray) -> float:
    """The smallest difference of neighbours but 0: 1/32768 in most 16-bit recordings; 0 if there is none."""
    smallest = math.inf
    for at in range(0, len(samples), 1 << 13):  # what fits a cache is faster, and an hour is not copied
        steps = np.abs(np.diff(samples[at : at + (1 << 13) + 1].astype(np.float64)))
        smallest = min(smallest, float(np.min(steps, where=steps > 0, initial=math.inf)))
    return smallest if math.isfinite(smallest) else 0.0


def caveats(card: Mapping[str, Any]) -> list[str]:
    """What to know of a student before its answers are believed, each in one line; often nothing."""
    corpus = f" ({' '.join(card['corpus'].split())})" if "corpus" in card else ""
    synthetic = [f"trained on SYNTHETIC recordings{corpus}, not on real voices"]
    stamps = [f"its scores carry the stamp: {' '.join(stamp.split())}" for stamp in card.get("stamps", ())]
    return [*(synthetic if card.get("synthetic") else []), *stamps]


def too_short(samples: int, sample_rate: int) -> bool:
    """Whether a whole recording of so many samples is too short to be classified: below 0.2 s."""
    return samples < SHORTEST_SECONDS * sample_rate


def is_reserved(name: str) -> bool:
    """Whether a class of this name would be taken for the answer of a student that is unsure."""
    return name.strip().casefold() == UNSURE


def unsure_threshold(card: Mapping[str, Any]) -> float:
    """The probability below which a file's answer is unsure: the card's, else 0.5."""
    return float(card.get("unsure_below", UNSURE_BELOW))


def unheard(
    samples: np.ndarray,
    sample_rate: int,
    *,
    silence_dbfs: float = SILENCE_DBFS,
    steady_db: float = STEADY_DB,
) -> str:
    """Why a clip `(n,)`, without padding, is nothing to classify: as `Window.why`, or empty where it is.

    Args:
        silence_dbfs: a clip below this level is silent; -inf for no gate.
        steady_db: a clip of less `level_range_db` is no speech; 0 for no gate.
    """
    level = level_dbfs(samples)
    if math.isnan(level):
        return NOT_FINITE
    if level < silence_dbfs:
        return SILENT
    return STEADY if level_range_db(samples, sample_rate) < steady_db else ""


def gives_classes(card: Mapping[str, Any]) -> bool:
    """Whether a file, known by its card, gives classes: else it gives dimensions alone.

    >>> gives_classes({"classes": ["anger", "fear"]}), gives_classes({"classes": []})
    (True, False)
    """
    # A card may leave them out, since labels.txt has them.
    return card.get("classes") != []


def require_classes(
    card: Mapping[str, Any], path: str | os.PathLike[str], wanted: str, remedy: str = "leave it out"
) -> None:
    """Raise a `RunnerError` where a file, known by its card, gives dimensions alone.

    Args:
        wanted: what needs classes.
        remedy: what to do instead.
    """
    if not gives_classes(card):
        *most, last = card[DIMENSIONS]["names"]
        names = f"{', '.join(most)} and {last}" if most else last
        raise RunnerError(f"{wanted} needs classes, and {path} gives {names} alone: {remedy}.")


def require_settings(
    settings: Mapping[str, Any], card: Mapping[str, Any], path: str | os.PathLike[str]
) -> None:
    """Raise a `RunnerError` where settings of a `Stream` are of classes that a file does not give."""
    for name in _OF_CLASSES:
        if settings.get(name) is not None:
            require_classes(card, path, name)


def require_enrolled(card: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Raise a `RunnerError` where a file, known by its card, has no signature for speakers who are known."""
    require_classes(card, path, "what is known of a speaker")
    if ENROLLED not in card:
        raise RunnerError(
            f"{path} cannot use what is known of a speaker: take the file named …_enrolled.tflite beside it, "
            "which train.py --enrolment makes."
        )


def require_profile(
    profile: Profile, card: Mapping[str, Any], path: str | os.PathLike[str], *, name: str = "the profile"
) -> None:
    """Raise a `RunnerError` where a profile is not of the student in a file, which is known by its card.

    Args:
        name: the profile's, for the message.
    """
    require_enrolled(card, path)
    facts = card[ENROLLED]
    if profile.embedding != facts["embedding"]:
        raise RunnerError(
            f"{name} is of another student: its embeddings are those of {profile.embedding[:12]}, and {path} "
            f"expects {facts['embedding'][:12]}. Enrol the speaker with this file."
        )
    if len(profile.mean) != facts["width"]:
        raise RunnerError(
            f"{name} has a mean of {len(profile.mean)} numbers, and {path} expects {facts['width']}. "
            f"{_ENROL_AGAIN}"
        )


def _columns(wanted: Sequence[str], labels: Sequence[str], path: str | os.PathLike[str]) -> list[int]:
    """Where the wanted classes are among the file's, in its order; of none wanted, all."""
    if isinstance(wanted, str):
        wanted = [wanted]
    if unknown := [name for name in wanted if name not in labels]:
        raise RunnerError(f"{path} does not know {', '.join(unknown)}: its classes are {', '.join(labels)}.")
    if len({*wanted}) == 1:
        raise RunnerError(f"{wanted[0]} alone leaves nothing to choose from: name two classes at least.")
    return [column for column, name in enumerate(labels) if not wanted or name in wanted]


def _warn(message: str) -> None:
    # Of four callers the outermost is the user's: this, _values, probabilities, theirs.
    warnings.warn(message, TextWarning, stacklevel=4)


def _require_rate(sample_rate: int | None, expected: int) -> None:
    if sample_rate is not None and sample_rate != expected:
        raise RunnerError(f"expected sound at {expected} Hz, found {sample_rate} Hz: resample it first.")


def _channel(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise RunnerError(
            f"expected one channel of samples, shape (n,); found {samples.shape}: take the mean of channels."
        )
    if not np.issubdtype(samples.dtype, np.floating):
        raise RunnerError(
            f"expected floating-point samples, found {samples.dtype}: divide 16-bit samples by 32768."
        )
    return samples


def _sound(waveform: np.ndarray) -> np.ndarray:
    waveform = _channel(waveform)
    if not waveform.size:
        raise RunnerError("expected one channel of samples, shape (n,) with n ≥ 1; found (0,).")
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
        waveform = waveform.astype(np.float32, copy=False)
    if not (largest := _largest(waveform)) <= LARGEST_SAMPLE:
        if broken := np.count_nonzero(~np.isfinite(waveform)):
            raise RunnerError(f"{broken} of {waveform.size} samples are not finite (NaN or infinity).")
        raise RunnerError(
            f"samples reach {largest:.3g}, and {LARGEST_SAMPLE:g} is the most: full scale is 1. Divide them."
        )
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


def card_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What an exported file says of itself; its model is not loaded.

    Raises:
        RunnerError: the file is missing, damaged or not ours.
    """
    return _read_facts(Path(path))[0]


def open_file(
    path: str | os.PathLike[str], *, threads: int = 1
) -> tuple["Interpreter", dict[str, Any], tuple[str, ...]]:
    """An interpreter, the card and the labels of any exported file, also of one that takes features.

    Raises:
        RunnerError: the file is missing, damaged or not ours.
    """
    interpreter, card, labels, _ = _opened(path, threads=threads)
    return interpreter, card, labels


def _opened(
    path: str | os.PathLike[str], *, threads: int
) -> tuple["Interpreter", dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """What `open_file` gives, and the vocabulary: empty where the file reads no text."""
    path = Path(path)
    card, labels, vocabulary = _read_facts(path)
    try:
        # Here: what is below serves training too, where LiteRT may not be installed.
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise RunnerError(
            "exported files need LiteRT, which is not installed: pip install ai-edge-litert"
        ) from None
    try:
        with without_chatter():
            # LiteRT starts every thread it is told of, and ends in a crash at some tens of thousands.
            threads = min(threads, os.cpu_count() or 1)
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise RunnerError(f"this LiteRT cannot run {path}: {error}") from None
    _require_agreement(interpreter, card, labels, path)
    return interpreter, card, labels, vocabulary


def _read_facts(path: Path) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """Card, labels and vocabulary of a file whose model is whole."""
    with _regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(8)[4:] != _TFLITE_IDENTIFIER:
            raise RunnerError(f"{path} is not a TFLite file: expected student_int8.tflite or another export.")
        if size > LARGEST_FILE:
            raise RunnerError(
                f"{path} has {size:,} bytes, and a TFLite file has {LARGEST_FILE:,} at most. {_AGAIN}"
            )
        try:
            with _archive(file, size, path) as archive:
                card = _card(_member(archive, "card.json", path), path)
                listed_labels = _member(archive, "labels.txt", path) if gives_classes(card) else b""
                listed = _member(archive, "vocab.txt", path) if "text" in card else b""
                begins = min(entry.header_offset for entry in archive.infolist())
        except RunnerError:
            raise
        except Exception:  # a damaged archive makes zipfile fail in a dozen ways
            raise RunnerError(
                f"{path} lacks its card: it is no export of light-sernet-kd, or was cut short. {_AGAIN}"
            ) from None
        if card["model_bytes"] != begins:
            words = f"{begins:,}, where the archive behind the model begins"
            raise _card_error(path, "model_bytes", words, card["model_bytes"])
        # LiteRT trusts a flatbuffer's offsets: a damaged one could end the process without a word.
        if _digest(file, card["model_bytes"]) != card["model_sha256"]:
            raise RunnerError(
                f"{path} is damaged: its checksum differs from its card's. Copy or export it again."
            )
    labels = _labels(listed_labels, card, path) if gives_classes(card) else ()
    return card, labels, _vocabulary(listed, card, path) if "text" in card else ()


@contextlib.contextmanager
def _regular_file(path: Path) -> Iterator[IO[bytes]]:
    """The file, open for reading; a pipe or a device could be read for ever."""
    # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        # Windows may not open a folder, and says no more than that.
        why = "Is a directory" if os.path.isdir(path) else getattr(error, "strerror", error)
        raise RunnerError(f"cannot read {path}: {why}.") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "Is a directory" if stat.S_ISDIR(mode) else "it is a pipe or a device, not a regular file"
        raise RunnerError(f"cannot read {path}: {what}.")
    with open(descriptor, "rb") as file:
        try:
            yield file
        except OSError as error:
            raise RunnerError(f"cannot read {path}: {error.strerror or error}.") from None


def _archive(file: IO[bytes], size: int, path: Path) -> zipfile.ZipFile:
    """The archive behind the flatbuffer; its list of members is read whole, so it must be small."""
    # The end record has 22 bytes, and a comment of up to 65535 may follow. An export's archive has none.
    file.seek(max(0, size - 22 - 0xFFFF))
    tail = file.read()
    at = len(tail) - 22
    if not (tail[at : at + 4] == b"PK\5\6" and tail[-2:] == b"\0\0"):
        at = tail.rfind(b"PK\5\6")
    if at < 0:
        raise zipfile.BadZipFile("no end record")
    (directory,) = struct.unpack_from("<I", tail, at + 12)
    if directory > _LARGEST_DIRECTORY or tail[max(0, at - 20) : at].startswith(b"PK\6\7"):
        raise RunnerError(f"{path} holds an archive of far more than an export's few members. {_AGAIN}")
    return zipfile.ZipFile(file)


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """A member's content, of which no more is unpacked than `LARGEST_MEMBERS` says."""
    entry, most = archive.getinfo(name), LARGEST_MEMBERS[name]
    # Of bzip2 and LZMA, zipfile unpacks without a bound.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RunnerError(f"{path} holds {name} packed by a method that exports do not use. {_AGAIN}")
    if entry.file_size > most:
        raise RunnerError(
            f"{path} holds {name} of {entry.file_size:,} bytes, and at most {most:,} are read. {_AGAIN}"
        )
    with archive.open(entry) as content:
        return content.read(entry.file_size + 1)


def _digest(file: IO[bytes], count: int) -> str:
    """SHA-256 of the first `count` bytes, in hexadecimal."""
    file.seek(0)
    digest = hashlib.sha256()
    while count and (part := file.read(min(count, 2**20))):
        digest.update(part)
        count -= len(part)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Field:
    """What a field of a card must be: in words, and as a test of its value."""

    expected: str
    fits: Callable[[Any], bool]
    required: bool = False


def _whole(low: int, high: int, *, required: bool = False) -> _Field:
    words = f"a whole number from {low:,} to {high:,}"
    return _Field(words, lambda value: type(value) is int and low <= value <= high, required)


def _share() -> _Field:
    return _Field("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)


def _is_number(value: Any) -> bool:
    # An int of hundreds of digits is a number that no float holds.
    return type(value) in (int, float) and -1e300 < value < 1e300


def _is_text(value: Any) -> bool:
    """A text that any place can show: no half of a surrogate pair, no control character but line ends."""
    return isinstance(value, str) and not _UNPRINTABLE.search(value)


def _is_vector(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= WIDEST_EMBEDDING
        and all(_is_number(each) and abs(each) <= _HIGHEST_MEAN for each in value)
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_choice(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


def _is_inputs(value: Any) -> bool:
    return _is_texts(value) and bool(value) and len({*value}) == len(value) and {*value} <= {*_INPUTS}


def _is_dimensions(value: Any) -> bool:
    return _is_texts(value) and bool(value) and len({*value}) == len(value) and {*value} <= {*DIMENSION_NAMES}


def _is_concordance(value: Any) -> bool:
    """Dimension → `ccc`, and where there is an interval `low` and `high`."""
    return isinstance(value, dict) and all(
        isinstance(each, dict)
        and "ccc" in each
        and ("low" in each) == ("high" in each)
        and all(_is_number(number) and -1 <= number <= 1 for number in each.values())
        for each in value.values()
    )


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(_is_number(each) and abs(each) <= _WIDEST_RANGE for each in value)
        and value[0] < value[1]
    )


def _is_classes(value: Any) -> bool:
    return (
        _is_texts(value)
        and bool(value)
        and len({*value}) == len(value)
        and all(each.splitlines() == [each] for each in value)
    )


_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_PRECISIONS = ("float32", "float16", "dynamic", "int8")
_TEXT_INPUTS, _STATE_INPUTS = ("token_ids", "text_mask"), ("text_states", "audio_states")
_INPUTS = ("audio", "features", *_TEXT_INPUTS, *_STATE_INPUTS)
_TEXT, _TRUTH = _Field("a text", _is_text), _Field("true or false", lambda value: isinstance(value, bool))
_TEXTS = _Field("a list of texts", _is_texts)
_HASH = _Field("64 hexadecimal digits", _is_hash, required=True)
_OBJECT = _Field("an object", lambda value: isinstance(value, dict))
# What a card may say; of fields that are not listed nothing is read.
_FIELDS: dict[str, _Field] = {
    "model_bytes": _whole(8, LARGEST_FILE, required=True),
    "model_sha256": _HASH,
    "precision": _Field(f"one of {', '.join(_PRECISIONS)}", _is_choice(*_PRECISIONS), required=True),
    "input": _Field("a text", _is_text, required=True),
    "inputs": _Field(f"a list of different names out of {', '.join(_INPUTS)}", _is_inputs),
    "samples": _whole(1, LARGEST_FILE // 4),
    "sample_rate": _whole(1_000, 384_000),
    "padding": _Field("both or right", _is_choice("both", "right")),
    "front_end": _TEXT,
    "input_type": _TEXT,
    "classes": _Field(
        "a list of different names, each one line of text", lambda value: value == [] or _is_classes(value)
    ),
    "temperature": _Field("a number above 0", lambda value: _is_number(value) and value > 0),
    "unsure_below": _share(),
    "text": _OBJECT,
    "states": _OBJECT,
    "enrolled": _OBJECT,
    DIMENSIONS: _OBJECT,
    "student": _TEXT,
    "corpus": _TEXT,
    "corpus_licence": _TEXT,
    "teacher_licence": _TEXT,
    "started_from": _TEXT,
    "start_licence": _TEXT,
    "synthetic": _TRUTH,
    "distillation": _TEXT,
    "protocol": _TEXT,
    "trained": _TEXT,
    "scored": _TEXT,
    "light_sernet_kd": _TEXT,
    "stamps": _TEXTS,
    "folds": _TEXTS,
    **dict.fromkeys(("ua", "ua_low", "ua_high", "wa"), _share()),
    "ccc": _Field("an object of dimensions with numbers from -1 to 1", _is_concordance),
    **dict.fromkeys(("parameters", "parameters_without_embeddings"), _whole(0, 2**48)),
}
_TEXT_FIELDS: dict[str, _Field] = {
    "tokens": _whole(2, 2**20, required=True),
    "lowercase": replace(_TRUTH, required=True),
    "strip_accents": replace(_TRUTH, required=True),
    "cleaning": replace(_TEXT, required=True),
    "vocabulary_sha256": _HASH,
}
_STATES_FIELDS: dict[str, _Field] = {
    "rows": _whole(1, 2**24, required=True),
    "width": _whole(1, 2**24, required=True),
    "encoder": replace(_TEXT, required=True),
}
_ENROLLED_FIELDS: dict[str, _Field] = {
    "embedding": _HASH,
    "width": _whole(1, WIDEST_EMBEDDING, required=True),
}
_WIDEST_RANGE = 1e6
_DIMENSIONS_FIELDS: dict[str, _Field] = {
    "names": _Field(
        f"a list of different names out of {', '.join(DIMENSION_NAMES)}", _is_dimensions, required=True
    ),
    "range": _Field("a list of a number and a larger one, within ±1,000,000", _is_range, required=True),
}
_PROFILE_FIELDS: dict[str, _Field] = {
    "profile_version": _Field(
        str(PROFILE_VERSION), lambda value: type(value) is int and value == PROFILE_VERSION, required=True
    ),
    "embedding": _HASH,
    "clips": _Field(
        f"a number from 0 to {MOST_CLIPS:,.0f}",
        lambda value: _is_number(value) and 0 <= value <= MOST_CLIPS,
        required=True,
    ),
    "mean": _Field(
        f"a list of 1 to {WIDEST_EMBEDDING:,} numbers from -1e30 to 1e30", _is_vector, required=True
    ),
}


def _card(content: bytes, path: Path) -> dict[str, Any]:
    """The card of these bytes, of which every field that is read later has its type and range.

    A field that is null counts as left out.
    """
    card = {name: value for name, value in _json_object(content, path).items() if value is not None}
    _require_fields(card, _FIELDS, "", path)
    inputs = card.get("inputs", [card["input"]])
    if not _is_inputs(inputs):
        raise _card_error(path, "input", _FIELDS["inputs"].expected, card["input"])
    if {"audio", "features"} <= {*inputs}:
        raise _card_error(path, "inputs", "audio or features", inputs)
    needed = ("samples", "sample_rate", "padding") if {"audio", "features"} & {*inputs} else ()
    for name in needed:
        if name not in card:
            raise _card_error(path, name, _FIELDS[name].expected, None)
    _check_text(card, inputs, path)
    _check_states(card, inputs, path)
    if ENROLLED in card:
        if inputs != ["audio"]:
            raise _card_error(path, ENROLLED, "left out of a file that takes more than audio", card[ENROLLED])
        _require_fields(card[ENROLLED], _ENROLLED_FIELDS, "enrolled.", path)
    if DIMENSIONS in card:
        _require_fields(card[DIMENSIONS], _DIMENSIONS_FIELDS, "dimensions.", path)
    if not gives_classes(card):
        _check_without_classes(card, path)
    return card


def _check_without_classes(card: Mapping[str, Any], path: Path) -> None:
    if DIMENSIONS not in card:
        words = "names, since the file gives no dimensions either"
        raise _card_error(path, "classes", words, card["classes"])
    if ENROLLED in card:
        raise _card_error(path, ENROLLED, "left out of a file without classes", card[ENROLLED])


def _json_object(content: bytes, path: Path) -> dict[str, Any]:
    card, why = _parsed(content)
    if why:
        raise RunnerError(f"{path}: its card.json cannot be read as JSON ({why}). {_AGAIN}")
    if not isinstance(card, dict):
        raise RunnerError(f"{path} lacks its card: card.json holds {_shown(card)}, not an object. {_AGAIN}")
    return card


def _parsed(content: bytes) -> tuple[Any, str]:
    """The value of a JSON text; and why it has none, else empty."""
    try:
        return json.loads(content.decode(), parse_constant=_refuse_constant), ""
    except UnicodeDecodeError:
        return None, "it is not UTF-8"
    except json.JSONDecodeError as error:
        return None, f"{error.msg}, line {error.lineno}"
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError:
        return None, "a number in it is none, or has too many digits"


def _check_text(card: Mapping[str, Any], inputs: Sequence[str], path: Path) -> None:
    reads = [name for name in _TEXT_INPUTS if name in inputs]
    if reads not in ([], [*_TEXT_INPUTS]):
        raise _card_error(path, "inputs", f"with both {' and '.join(_TEXT_INPUTS)} or neither", inputs)
    if bool(reads) != ("text" in card):
        words = "an object" if reads else "left out, since the file reads none"
        raise _card_error(path, "text", words, card.get("text"))
    if "text" in card:
        _require_fields(card["text"], _TEXT_FIELDS, "text.", path)


def _check_states(card: Mapping[str, Any], inputs: Sequence[str], path: Path) -> None:
    states, taken = card.get("states", {}), {*inputs} & {*_STATE_INPUTS}
    if {*states} != taken or ("states" in card and not states):
        words = (
            f"an object of {' and '.join(sorted(taken))}" if taken else "left out, since the file takes none"
        )
        raise _card_error(path, "states", words, card.get("states"))
    for name, facts in states.items():
        if not isinstance(facts, dict):
            raise _card_error(path, f"states.{name}", "an object", facts)
        _require_fields(facts, _STATES_FIELDS, f"states.{name}.", path)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _require_fields(facts: Mapping[str, Any], fields: Mapping[str, _Field], prefix: str, path: Path) -> None:
    if misfit := _misfit(facts, fields):
        name, expected, value = misfit
        raise _card_error(path, prefix + name, expected, value)


def _misfit(facts: Mapping[str, Any], fields: Mapping[str, _Field]) -> tuple[str, str, Any] | None:
    """Of the first field that is not what it must be: its name, what was expected, and its value."""
    for name, rule in fields.items():
        if name not in facts:
            if rule.required:
                return name, rule.expected, None
        elif not rule.fits(facts[name]):
            return name, rule.expected, facts[name]
    return None


def _card_error(path: Path, field: str, expected: str, value: Any) -> RunnerError:
    return RunnerError(f"{path}: its card's {field} must be {expected}, found {_shown(value)}. {_AGAIN}")


def _shown(value: Any) -> str:
    """A value of a card in a few words, whatever its size and depth."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"an object of {len(value):,} fields"
    if isinstance(value, list):
        short = len(value) < 10 and all(isinstance(each, str) and len(each) < 30 for each in value)
        return ascii(value) if short else f"a list of {len(value):,}"
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _labels(listed: bytes, card: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    try:
        labels = listed.decode().splitlines()
    except UnicodeDecodeError:
        raise RunnerError(f"{path}: its labels.txt is not UTF-8. {_AGAIN}") from None
    if not _is_classes(labels):
        raise RunnerError(
            f"{path}: its labels.txt must be different names, one a line; found {_shown(labels)}. {_AGAIN}"
        )
    if card.get("classes", labels) != labels:
        raise _card_error(path, "classes", f"the labels of its labels.txt, {_shown(labels)}", card["classes"])
    return tuple(labels)


def _vocabulary(listed: bytes, card: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    if hashlib.sha256(listed).hexdigest() != card["text"]["vocabulary_sha256"]:
        raise RunnerError(f"{path} holds another vocabulary than its student's: export or copy it again.")
    if not 1 <= (lines := listed.count(b"\n")) <= MOST_TOKENS:
        raise RunnerError(
            f"{path}: its vocab.txt has {lines:,} lines, expected 1 to {MOST_TOKENS:,}. {_AGAIN}"
        )
    try:
        # Tokens may hold the other line ends of Unicode, which splitlines would take for ends.
        return tuple(listed.decode().split("\n")[:-1])
    except UnicodeDecodeError:
        raise RunnerError(f"{path}: its vocab.txt is not UTF-8. {_AGAIN}") from None


def _require_agreement(
    interpreter: "Interpreter", card: Mapping[str, Any], labels: Sequence[str], path: Path
) -> None:
    """That the graph takes and gives what the card promises."""
    input_details, output_details = interpreter.get_input_details(), interpreter.get_output_details()
    names, of_model = [*card.get("inputs", [card["input"]])], [each["name"] for each in input_details]
    if sorted(of_model) != sorted(names):
        raise _card_error(path, "inputs", f"the model's, {_shown(of_model)}", names)
    shapes: dict[str, tuple[int, ...]] = {"audio": (card.get("samples", 0),)}
    if "text" in card:
        shapes |= dict.fromkeys(_TEXT_INPUTS, (card["text"]["tokens"],))
    for name, facts in card.get("states", {}).items():
        shapes[name] = (facts["rows"], facts["width"])
    fields = {"audio": "samples", **dict.fromkeys(_TEXT_INPUTS, "text.tokens")}
    for each in input_details:
        name, shape = each["name"], tuple(int(length) for length in each["shape"])
        # Of features the card has no shape: only their makers need it.
        expected = (1, *shapes.get(name, shape[1:]))
        dtype = np.int32 if name in _TEXT_INPUTS else np.float32
        if shape != expected or each["dtype"] != dtype:
            actual = f"{name} {list(shape)} {np.dtype(each['dtype'])}"
            raise RunnerError(
                f"{path}: its card's {fields.get(name, f'states.{name}')} promises {name} {list(expected)} "
                f"{np.dtype(dtype)}, and its model takes {actual}. {_AGAIN}"
            )
    actual_outputs = [(list(map(int, each["shape"])), each["dtype"]) for each in output_details]
    if DIMENSIONS in card:
        _require_dimensions(output_details, actual_outputs, card, labels, path)
    elif actual_outputs != [([1, len(labels)], np.float32)]:
        actual = " and ".join(f"{shape} {np.dtype(dtype)}" for shape, dtype in actual_outputs)
        raise RunnerError(
            f"{path}: its card's classes are {len(labels)}, so that its model must give [1, {len(labels)}] "
            f"float32; it gives {actual}. {_AGAIN}"
        )
    _require_signature(interpreter, card, labels, path)


def _require_dimensions(
    details: Sequence[Mapping[str, Any]],
    actual_outputs: Sequence[tuple[list[int], Any]],
    card: Mapping[str, Any],
    labels: Sequence[str],
    path: Path,
) -> None:
    """That the model gives these by their names: both, or without classes the dimensions alone."""
    widths = {PROBABILITIES: len(labels)} if labels else {}
    widths |= {DIMENSIONS: len(card[DIMENSIONS]["names"])}
    promised = [f"{name} [1, {width}] float32" for name, width in sorted(widths.items())]
    actual = [
        f"{each['name']} {shape} {np.dtype(dtype)}"
        for each, (shape, dtype) in zip(details, actual_outputs, strict=True)
    ]
    if sorted(actual) != promised:
        raise RunnerError(
            f"{path}: its card promises that its model gives {', '.join(promised)}, and it gives "
            f"{', '.join(sorted(actual))}. {_AGAIN}"
        )


def _require_signature(
    interpreter: "Interpreter", card: Mapping[str, Any], labels: Sequence[str], path: Path
) -> None:
    """That the model has the signature `enrolled` where the card says so, and only there."""
    has = ENROLLED in interpreter.get_signature_list()
    if has != (ENROLLED in card):
        words = "an object" if has else "left out"
        words += f", since its model has {'the' if has else 'no'} signature {ENROLLED}"
        raise _card_error(path, ENROLLED, words, card.get(ENROLLED))
    if not has:
        return
    width, count = card[ENROLLED]["width"], len(labels)
    gives = {"embedding": width, PROBABILITIES: count}
    if DIMENSIONS in card:
        gives = {DIMENSIONS: len(card[DIMENSIONS]["names"]), **gives}
    run = interpreter.get_signature_runner(ENROLLED)
    for verb, details, widths in (
        ("takes", run.get_input_details(), {"audio": card["samples"], "clips": 1, "speaker": width}),
        ("gives", run.get_output_details(), gives),
    ):
        promised = [f"{name} [1, {length}] float32" for name, length in widths.items()]
        actual = [
            f"{name} {[*map(int, each['shape'])]} {np.dtype(each['dtype'])}"
            for name, each in sorted(details.items())
        ]
        if actual != promised:
            raise RunnerError(
                f"{path}: its card promises that its signature {ENROLLED} {verb} {', '.join(promised)}, and "
                f"its model's {verb} {', '.join(actual)}. {_AGAIN}"
            )


def invoke(interpreter: "Interpreter", values: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
    """One example's inputs, without the batch axis, to its probabilities `(classes,)`.

    Args:
        values: the only input, or all of them by name.

    Raises:
        RunnerError: the file gives dimensions alone, which `outputs` has.
    """
    return _probabilities(outputs(interpreter, values))


def outputs(
    interpreter: "Interpreter", values: np.ndarray | Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """As `invoke`, with all that the file gives by name: `probabilities`, `dimensions` `(K,)`, or both.

    Dimensions are as the graph gives them: -1 and 1 are the ends of the range in the card.
    """
    inputs = interpreter.get_input_details()
    if not isinstance(values, Mapping):
        (only,) = inputs
        values = {only["name"]: values}
    for each in inputs:
        interpreter.set_tensor(each["index"], np.asarray(values[each["name"]], each["dtype"])[None])
    interpreter.invoke()
    details = interpreter.get_output_details()
    return {each["name"]: interpreter.get_tensor(each["index"])[0] for each in details}


def _probabilities(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    if [*outputs] == [DIMENSIONS]:
        raise RunnerError("the file gives dimensions alone, and no probabilities: take runner.outputs.")
    # A file with one output may call it otherwise.
    return outputs[PROBABILITIES] if len(outputs) > 1 else next(iter(outputs.values()))


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
    """As `encode_text`, of a text as it is.

    Raises:
        ValueError: `tokens` is below 2.
        RunnerError: as `encode_text`.
    """
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
    with contextlib.ExitStack() as stack:
        stack.enter_context(STDERR_LOCK)
        try:
            held = stack.enter_context(tempfile.TemporaryFile())
            stderr = os.dup(_STDERR)
        except OSError:  # nowhere to write, or the process has no stderr
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
