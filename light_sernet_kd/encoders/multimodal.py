"""Students of speech and text in a run: their encoders, what those say of every utterance, their networks.

A student is two pretrained encoders and a head on their states. In the first phase of training the encoders
are frozen, so their states are computed once and kept on disk, and only the head is trained; in the second,
where there is one, everything is. What is saved and exported is the whole, wherever the encoders are Keras
models; states of other frameworks (speech models in PyTorch, YAMNet in TFLite) stay inputs.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import Settings
from light_sernet_kd.data.selection import Selection
from light_sernet_kd.encoders import embedding_cache, text, vggish, yamnet
from light_sernet_kd.encoders.embedding_cache import Encoder, Padded
from light_sernet_kd.errors import UserError
from light_sernet_kd.features import feature_shape
from light_sernet_kd.registries.encoders import DEFAULT_AUDIO_ENCODER, TEXT_ENCODERS, audio_encoder
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.runner import TextInput
from light_sernet_kd.students.fusion import speech_and_text

# Frames of 20 ms that a speech model's states are cut or padded to, as in Multi-Still: about 10 s.
SPEECH_FRAMES = 512


class Columns:
    """Rows of several arrays: an array of utterances as its index returns a dictionary by input name.

    >>> columns = Columns({"token_ids": np.arange(6).reshape(3, 2), "text_mask": np.ones((3, 2))})
    >>> columns[np.array([2])]["token_ids"].tolist()
    [[4, 5]]
    """

    def __init__(self, columns: Mapping[str, Any]):
        self.columns = dict(columns)
        self.shapes = {name: tuple(column.shape[1:]) for name, column in self.columns.items()}

    @property
    def rows(self) -> Any:
        """What a network of these inputs is trained on: of a single one its array alone."""
        return self if len(self.columns) > 1 else next(iter(self.columns.values()))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows) -> dict[str, np.ndarray]:
        return {name: np.asarray(column[rows]) for name, column in self.columns.items()}


@dataclass(frozen=True)
class AudioBranch:
    """The audio encoder of a student.

    Attributes:
        name: for people.
        encoder: gives the states that the head is trained on while it is frozen.
        rows: how many of them the head takes; shorter recordings are padded.
        build: makes it as a Keras model of the front end's features; None where it is none.
        notes: lines for the report.
    """

    name: str
    encoder: Encoder
    rows: int
    build: Callable[[], keras.Model] | None = None
    notes: tuple[str, ...] = ()


class SpeechAndText:
    """One such student or teacher, for the utterances of a selection.

    Attributes:
        name: a student of speech and text.
        text: its text encoder; None for audio only. `tokens` is then what that takes of every utterance.
        audio_branch: its audio encoder; None where it only reads.
        notes: lines for the report: what was cut, what was empty.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        selection: Selection,
        *,
        is_teacher: bool = False,
        data: Path,
        cache: Path,
        features: Callable[[], Any],
    ):
        self.name, self.settings, self.selection = name, settings, selection
        self._entry = STUDENTS[name]
        self._cache, self._features = cache, features
        modality = "both" if is_teacher else settings.modality
        self.notes: list[str] = []
        self.text = self.audio_branch = None
        if modality != "audio":
            self._texts, empty = text.texts_of(selection.utterances)
            usual = TEXT_ENCODERS[str(self._entry.text_encoder)]
            own_spec = settings.teacher_text_encoder if is_teacher else None
            spec = own_spec or settings.text_encoder or usual.preset
            if spec.startswith(text.RANDOM):
                made = "" if "vocabulary=" in spec else ", and its vocabulary is made of all transcripts"
                self.notes.append(f"The text encoder began with random weights{made}: for trials.")
            self._load_text = functools.partial(
                text.load,
                spec,
                data=data,
                layers=usual.layers,
                tokens=settings.text_tokens,
                texts=self._texts,
            )
            self.text = self._load_text()
            if empty:
                self.notes.append(f"{len(empty)} of {len(self._texts)} transcripts are empty: read as NULL.")
            self.tokens = self.text.tokeniser(self._texts)
            if cut := int(self.tokens.cut.sum()):
                self.notes.append(
                    f"{cut} of {len(self._texts)} transcripts are longer than {settings.text_tokens} tokens "
                    "and were cut (--text_tokens)."
                )
        if modality != "text":
            spec = settings.audio_encoder or DEFAULT_AUDIO_ENCODER
            self.audio_branch = _audio_branch(spec, settings.vggish_pca, settings.samples, data)
            self.notes += self.audio_branch.notes

    @property
    def is_whole(self) -> bool:
        """Whether the encoders are Keras models, so that all can be trained, saved and exported as one."""
        return not (self.audio_branch and self.audio_branch.build is None)

    @property
    def frozen_only(self) -> str:
        """Why its encoders cannot be trained where it is not whole."""
        return (
            f"{self.name}: its encoders stay frozen, because one is no Keras model (a speech model, YAMNet, "
            "or VGGish with PCA): take --tune_epochs 0."
        )

    @functools.cached_property
    def states(self) -> Columns:
        """What the frozen encoders say of every utterance: the rows of the first phase."""
        utterances, columns = self.selection.utterances, {}
        if self.text:
            columns["text_states"] = self.text_states
        if self.audio_branch:
            embeddings = embedding_cache.embed(
                utterances, self.selection.fingerprints, self.audio_branch.encoder, cache=self._cache
            )
            columns["audio_states"] = Padded(embeddings, self.audio_branch.rows)
        return Columns(columns)

    @property
    def short_states(self) -> Columns:
        """The same for training: without the padding that no utterance of a batch needs."""
        return Columns({name: column.trimmed() for name, column in self.states.columns.items()})

    @functools.cached_property
    def text_states(self) -> Padded:
        """`(utterances, tokens, width)` of the frozen text encoder.

        Raises:
            UserError: it has no text encoder.
        """
        if self.text is None:
            raise UserError(f"{self.name} reads no text.")
        states = text.text_states(self.selection.utterances, self.text, cache=self._cache)
        return Padded(states, self.settings.text_tokens)

    @functools.cached_property
    def inputs(self) -> Columns:
        """Token ids, masks and patches of every utterance: the rows of the second phase."""
        columns: dict[str, Any] = {}
        if self.text:
            columns |= {"token_ids": self.tokens.token_ids, "text_mask": self.tokens.text_mask}
        if self.audio_branch:
            columns["features"] = self._features()
        return Columns(columns)

    def head(self, *, any_length: bool = False) -> keras.Model:
        """The head with new weights: states to logits; with `any_length`, of any number of rows."""
        shapes: dict[str, Any] = {"text_shape": None, "audio_shape": None}
        if self.text:
            shapes["text_shape"] = None if any_length else self.settings.text_tokens, self.text.width
        if self.audio_branch:
            rows = None if any_length else self.audio_branch.rows
            shapes["audio_shape"] = rows, *self.audio_branch.encoder.shape
        options: dict[str, Any] = {}
        if self._entry.pools_states:
            options["pooling"] = self.settings.pooling
        if self._entry.chooses_modality and not (self.text and self.audio_branch):
            options["modality"] = "text" if self.text else "audio"
        return self._entry.build(**shapes, classes=len(self.selection.classes), **options)

    def whole(self, head_weights: Sequence[np.ndarray] | None = None) -> keras.Model:
        """Encoders as they were pretrained, and the head with these (or new) weights: inputs to logits.

        Raises:
            UserError: an encoder is no Keras model.
        """
        if not self.is_whole:
            raise UserError(self.frozen_only)
        head = self.head()
        if head_weights is not None:
            head.set_weights(list(head_weights))
        return speech_and_text(
            self._load_text().backbone if self.text else None,
            self.audio_branch.build() if self.audio_branch and self.audio_branch.build else None,
            head,
        )

    def text_input(self) -> TextInput | None:
        """What makes token ids of a text, as an exported file carries it; None where it reads none."""
        if self.text is None:
            return None
        tokeniser = self.text.tokeniser
        return TextInput(
            vocabulary=tokeniser.vocabulary,
            lowercase=tokeniser.lowercase,
            strip_accents=tokeniser.strip_accents,
            tokens=tokeniser.tokens,
        )

    def state_encoders(self) -> dict[str, str]:
        """Input name → what makes these states, for a file that must be given them."""
        named = {"text_states": self.text, "audio_states": self.audio_branch}
        return {name: encoder.name for name, encoder in named.items() if encoder}

    def digest(self) -> str:
        """Hash of the encoders and of the texts: what decides the states beside the recordings."""
        decides = [self.facts(), self._texts if self.text else None]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """What the encoders are, for the report and the exported file's card."""
        facts: dict[str, Any] = {}
        if self.text:
            facts["text_encoder"] = {"name": self.text.name, **self.text.identity}
        if self.audio_branch:
            facts["audio_encoder"] = {"name": self.audio_branch.name, **self.audio_branch.encoder.identity}
        return facts


@functools.lru_cache(maxsize=2)
def _audio_branch(spec: str, pca_file: str | None, samples: int, data: Path) -> AudioBranch:
    """Kept, because a student and its teacher mostly share one encoder of hundreds of megabytes."""
    entry, argument = audio_encoder(spec)
    branch = entry.branch(argument, spec=spec, samples=samples, data=data, pca_file=pca_file)
    return replace(branch, encoder=_clipped(branch.encoder, samples))


# A function for each of `AUDIO_ENCODERS`.


def vggish_branch(
    argument: str, *, spec: str, samples: int, data: Path, pca_file: str | None, relu: bool = False
) -> AudioBranch:
    """VGGish; with a PCA file its embeddings are whitened and quantised, and it is no Keras model."""
    patches = feature_shape("vggish", "mel_spectrogram", samples)[0]
    pca = vggish.read_pca(Path(pca_file)) if pca_file else None
    weights = vggish.weights_of(argument, data)
    build = functools.partial(vggish.vggish, weights, patches=patches, relu=relu)
    is_random = argument.partition("=")[0] == "random"
    return AudioBranch(
        f"{spec}, PCA" if pca else spec,
        vggish.vggish_encoder(weights, pca=pca, relu=relu),
        patches,
        None if pca else build,
        ("VGGish began with random weights: for trials.",) if is_random else (),
    )


# As the port to PyTorch has it, with a ReLU at its end.
torchvggish_branch = functools.partial(vggish_branch, relu=True)


def yamnet_branch(argument: str, *, samples: int, data: Path, **_: Any) -> AudioBranch:
    """YAMNet's windows."""
    encoder = yamnet.encoder(yamnet.path_of(argument, data), pooling="none")
    return AudioBranch("yamnet", encoder, yamnet.window_count(samples))


def speech_model_branch(argument: str, *, samples: int, **_: Any) -> AudioBranch:
    """The last layer's frames of a self-supervised speech model."""
    from light_sernet_kd.encoders import speech

    model = speech.load(argument)
    frames = min(SPEECH_FRAMES, speech.frames_of(model, samples))
    name = Path(argument).name if Path(argument).is_dir() else argument
    return AudioBranch(name, speech.frame_encoder(model), frames)


def _clipped(encoder: Encoder, samples: int) -> Encoder:
    """An encoder of the middle `samples` of longer recordings, which are what a student gets of them."""

    def encode(waveforms: Sequence[np.ndarray]):
        return encoder.encode([audio.fit(each, min(len(each), samples)) for each in waveforms])

    return replace(encoder, identity={**encoder.identity, "samples": samples}, encode=encode)
