"""Untrained students that tell clips and texts apart, and the files that are exported of them."""

import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from light_sernet_kd import audio, features, students
from light_sernet_kd.config import PRECISIONS, Dimensions
from light_sernet_kd.data import signatures, training_list
from light_sernet_kd.export import tflite as export_module
from light_sernet_kd.export.tflite import Exported, ExportSpec, export
from light_sernet_kd.runner import TextInput, encode_text

CLASSES = ("anger", "boredom", "Ärger & Wut", "neutral", "sadness")
CARD = {"fold": "03", "seed": 7}
SAMPLES = 12_000


# A quarter of their width and squeeze and excite tell no clips apart in int8: these have their own.
FULL_WIDTH = ("mobilenetv3_small_075", "mobilenetv3_small_100", "efficientnet_b0")


@dataclass(frozen=True)
class Case:
    """A student, its front end, and what was exported from them."""

    student: keras.Model
    front_end: keras.Model
    clips: np.ndarray
    exported: list[Exported]

    @property
    def paths(self) -> dict[str, Path]:
        return {exported.precision: exported.path for exported in self.exported}

    @property
    def enrolled_paths(self) -> dict[str, Path]:
        """The files with a second signature, where the student was given a second head."""
        return {exported.precision: exported.enrolled for exported in self.exported if exported.enrolled}

    def keras_probabilities(self, waveforms: np.ndarray) -> np.ndarray:
        logits = self.student(self.front_end(waveforms), training=False)
        return ops.convert_to_numpy(ops.softmax(logits))


def clips(count: int, samples: int, *, seed: int = 0) -> np.ndarray:
    """Voices of different pitch, timbre, rhythm and noise: float32 `(count, samples)`."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(samples) / 16_000
    voices = []
    for _ in range(count):
        pitch_hz, tilt, rate_hz = rng.uniform(80, 400), rng.uniform(0.3, 2.0), rng.uniform(1, 8)
        harmonics = range(1, int(7000 / pitch_hz))
        voice = sum(
            np.sin(2 * np.pi * pitch_hz * k * seconds + rng.uniform(0, 6)) / k**tilt for k in harmonics
        )
        voice = voice * (1 + np.sin(2 * np.pi * rate_hz * seconds)) + rng.normal(
            0, rng.uniform(0.001, 1), samples
        )
        voices.append(rng.uniform(0.01, 0.2) * voice)
    return np.array(voices, np.float32)


def made_student(name: str, front_end: keras.Model, waveforms: np.ndarray) -> keras.Model:
    """A student with random batch norm, whose logits tell the waveforms apart as a trained one's do."""
    keras.utils.set_random_seed(3)
    inputs = front_end(waveforms)
    student = students.build(name, inputs.shape[1:], len(CLASSES), width=1.0 if name in FULL_WIDTH else 0.25)
    rng = np.random.default_rng(3)
    normalisations = [layer for layer in student.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in normalisations:
        layer.momentum = 0.0
    student(inputs, training=True)  # moving statistics are now those of the clips, and then some
    for layer in normalisations:
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights(
            [
                rng.uniform(0.5, 1.5, gamma.shape),
                rng.normal(0.0, 0.5, beta.shape),
                mean * rng.uniform(0.9, 1.1, mean.shape),
                variance * rng.uniform(0.8, 1.2, variance.shape),
            ]
        )
    if not name.startswith("light_sernet"):
        student(inputs, training=True)  # else dozens of layers multiply what is wrong with each
    logits = ops.convert_to_numpy(student(inputs, training=False))
    kernel, _ = student.layers[-1].get_weights()
    scale = 2.0 / logits.std(axis=0)
    student.layers[-1].set_weights([kernel * scale, -logits.mean(axis=0) * scale])
    return student


# What was made in this process, since several files of tests want the same.
_MADE: dict[tuple, Case] = {}


def made_case(name, front_end, input_type, samples, folder, *, head=None, **kwargs) -> Case:
    """Files of an untrained student in the folder; `head` makes its second head of it."""
    if head is not None or {*kwargs} - {"precisions"}:
        return _made_case(name, front_end, input_type, samples, folder, head=head, **kwargs)
    wanted, key = kwargs.get("precisions") or PRECISIONS, (name, front_end, input_type, samples)
    made = _MADE.get(key)
    if made is None or not {*wanted} <= {*made.paths}:
        _MADE[key] = _made_case(*key, folder, **kwargs)
        return _MADE[key]
    # The same student gives the same bytes.
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(made.exported[0].path.with_name("labels.txt"), folder)
    of = {each.precision: each for each in made.exported}
    copies = [replace(of[each], path=Path(shutil.copy(of[each].path, folder))) for each in wanted]
    return replace(made, exported=copies)


def _made_case(name, front_end, input_type, samples, folder, *, head=None, **kwargs) -> Case:
    waveforms = clips(24, samples)
    front = features.front_end_model(front_end, input_type, samples)
    student = made_student(name, front, waveforms)
    if head is not None:
        kwargs["enrolled"] = head(student)
    spec = ExportSpec(
        classes=CLASSES,
        front_end=front_end,
        input_type=input_type,
        samples=samples,
        representative=waveforms,
        folder=folder,
        card=CARD,
        **kwargs,
    )
    exported = export(student, spec)
    return Case(student, front, waveforms, exported)


RATED = Dimensions(("arousal", "valence", "dominance"), (1.0, 5.0))


def rated_student(inputs: np.ndarray) -> keras.Model:
    """Two heads on a small network, whose logits tell the inputs apart and whose dimensions fill ±1."""
    keras.utils.set_random_seed(4)
    taken = keras.Input(inputs.shape[1:])
    maps = keras.layers.Conv2D(16, 5, strides=(2, 2), activation="relu")(taken)
    maps = keras.layers.Conv2D(24, 3, activation="relu")(keras.layers.AveragePooling2D(2)(maps))
    embedding = keras.layers.GlobalAveragePooling2D()(maps)
    widths = {"logits": len(CLASSES), "dimensions": len(RATED.names)}
    student = keras.Model(
        taken, {name: keras.layers.Dense(width, name=name)(embedding) for name, width in widths.items()}
    )
    given = student(inputs, training=False)
    for name, spread in (("logits", 2.0), ("dimensions", 0.6)):
        values, layer = ops.convert_to_numpy(given[name]), student.get_layer(name)
        kernel, _ = layer.get_weights()
        scale = spread / values.std(axis=0)
        layer.set_weights([kernel * scale, -values.mean(axis=0) * scale])
    return student


def rated_case(samples: int, folder: Path, **kwargs) -> Case:
    """Files of a student that gives dimensions beside its classes; its temperature is 1.7."""
    waveforms = clips(24, samples)
    front_end = features.front_end_model("lsn", "mfcc", samples)
    student = rated_student(ops.convert_to_numpy(front_end(waveforms)))
    facts = {
        "classes": CLASSES, "front_end": "lsn", "input_type": "mfcc", "samples": samples, "card": CARD,
        "representative": waveforms, "folder": folder, "dimensions": RATED, "temperature": 1.7,
    }  # fmt: skip
    return Case(student, front_end, waveforms, export(student, ExportSpec(**{**facts, **kwargs})))


WORDS = ("das", "will", "sie", "am", "mittwoch", "nicht", "abgeben", "heute", "abend", "ja", "nein")


TEXT = TextInput(
    vocabulary=(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *WORDS,
        "null",
        "konnte",
        "könnte",
        "ich",
        "es",
        "##e",
        ".",
    ),
    tokens=12,
    lowercase=True,
    strip_accents=True,
)


def sentences(count: int, *, seed: int = 0) -> list[str]:
    """Texts of one word to more than the student reads."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 14))) for _ in range(count)]


def encoded(texts: list[str]) -> dict[str, np.ndarray]:
    ids, masks, _ = zip(*(encode_text(TEXT.tokenizer(), text, TEXT.tokens) for text in texts), strict=True)
    return {"token_ids": np.stack(ids), "text_mask": np.stack(masks)}


@dataclass(frozen=True)
class Spoken:
    """A student of several inputs, examples by the names of a file's inputs, and how to ask Keras."""

    student: keras.Model
    front_end: keras.Model | None
    examples: dict[str, np.ndarray]

    def keras_logits(self, examples: dict[str, np.ndarray]) -> np.ndarray:
        given = dict(examples)
        if self.front_end is not None:
            given["features"] = ops.convert_to_numpy(self.front_end(given.pop("audio")))
        inputs = [given[tensor.name] for tensor in self.student.inputs]
        return ops.convert_to_numpy(self.student(inputs, training=False))

    def keras_probabilities(self, examples: dict[str, np.ndarray]) -> np.ndarray:
        return ops.convert_to_numpy(ops.softmax(self.keras_logits(examples)))

    def export(self, folder: Path, **kwargs) -> dict[str, Exported]:
        arguments = {
            "classes": CLASSES,
            "representative": self.examples,
            "folder": folder,
            "card": CARD,
            "text": TEXT if "token_ids" in self.examples else None,
        }
        if self.front_end is not None:
            arguments |= {"front_end": "lsn", "input_type": "mfcc", "samples": SAMPLES}
        return {each.precision: each for each in export(self.student, ExportSpec(**{**arguments, **kwargs}))}


def spoken(*, hears: bool = True, reads: bool = True) -> Spoken:
    """A BERT of two layers over the text, a convolution over the features, and a layer over both."""
    keras_hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(5)
    inputs, pooled, examples, front_end = [], [], {}, None
    if hears:
        front_end = features.front_end_model("lsn", "mfcc", SAMPLES)
        examples["audio"] = clips(24, SAMPLES)
        inputs.append(keras.Input(front_end.output_shape[1:], name="features"))
        maps = keras.layers.Conv2D(8, 5, strides=(4, 2), activation="relu")(inputs[0])
        pooled.append(keras.layers.GlobalAveragePooling2D()(maps))
    if reads:
        examples |= encoded(sentences(24))
        ids, mask = (
            keras.Input((TEXT.tokens,), name=name, dtype="int32") for name in export_module.TEXT_INPUTS
        )
        bert = keras_hub.models.BertBackbone(
            vocabulary_size=len(TEXT.vocabulary),
            num_layers=2,
            num_heads=2,
            hidden_dim=32,
            intermediate_dim=64,
            max_sequence_length=TEXT.tokens,
        )
        for weight in bert.trainable_weights:
            if weight.name in ("kernel", "embeddings"):
                weight.assign(5 * weight)  # else a BERT that was never trained hardly tells texts apart
        states = bert({"token_ids": ids, "segment_ids": ops.zeros_like(ids), "padding_mask": mask})
        weights = ops.expand_dims(ops.cast(mask, "float32"), -1)
        summed = ops.sum(states["sequence_output"] * weights, axis=1)
        pooled.append(summed / ops.sum(weights, axis=1))
        inputs += [ids, mask]
    joined = keras.layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]
    embedding = keras.layers.Dense(16, activation="relu", name="embedding")(joined)
    student = keras.Model(inputs, keras.layers.Dense(len(CLASSES), name="logits")(embedding))
    case = Spoken(student, front_end, examples)
    logits = case.keras_logits(examples)
    kernel, _ = student.layers[-1].get_weights()
    scale = 2.0 / logits.std(axis=0)
    student.layers[-1].set_weights([kernel * scale, -logits.mean(axis=0) * scale])
    return case


def states_student(**widths: int) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """A student of encoders' states that weighs rows by their place, and examples of 1 to 7 rows of 7."""
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(0)
    inputs = [keras.Input((7, width), name=name) for name, width in widths.items()]
    pooled = []
    for states in inputs:
        rows = ops.sum(
            ops.cast(ops.any(ops.not_equal(states, 0.0), axis=-1), "float32"), axis=1, keepdims=True
        )
        placed = states * np.arange(1, 8, dtype=np.float32)[:, None]
        pooled.append(ops.sum(placed, axis=1) / ops.maximum(rows, 1.0))
    joined = keras.layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]
    student = keras.Model(inputs, keras.layers.Dense(len(CLASSES))(joined))
    lengths = rng.integers(1, 8, 10)
    examples = {name: rng.normal(size=(10, 7, width)).astype(np.float32) for name, width in widths.items()}
    for array in examples.values():
        array[np.arange(7) >= lengths[:, None]] = 0.0
    return student, examples


def with_list(path, folder, utterances, **about):
    """The exported file as if its student had been trained on these utterances."""
    prints = audio.fingerprints(utterances)
    vectors, lengths, _ = signatures.measure(utterances, prints)
    found = training_list.of_training(utterances, prints, vectors, lengths, **about)
    copy = folder / path.name
    shutil.copy(path, copy)
    with zipfile.ZipFile(copy, "a") as archive:
        archive.writestr(training_list.MEMBER, training_list.packed(found))
    return copy
