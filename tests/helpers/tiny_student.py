"""Exported files of a few kilobytes, made without TensorFlow: a fully connected layer and a softmax."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from light_sernet_kd.students.enrolled import EnrolledHead

RATE = 16_000
SAMPLES = RATE // 2
CLASSES = ("anger", "neutral", "sadness")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "ja", "nein")
TOKENS = 6
# Of an embedding, and what a card calls its student.
WIDTH = 5
EMBEDDING = "ab" * 32


def weights(samples: int = SAMPLES, classes: int = len(CLASSES)) -> np.ndarray:
    """`(classes, samples)`, such that sounds have answers of their own."""
    return np.random.default_rng(0).normal(0, 0.2, (classes, samples)).astype(np.float32)


class _Model:
    """A TFLite model in the making, whose graphs share buffers and operators."""

    def __init__(self):
        self.buffers, self.codes, self.graphs = [schema.BufferT()], [], []
        self.signatures: list[schema.SignatureDefT] = []

    def constant(self, array: np.ndarray) -> int:
        self.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        return len(self.buffers) - 1

    def packed(self) -> bytes:
        model = schema.ModelT(
            version=3,
            operatorCodes=self.codes,
            subgraphs=self.graphs,
            buffers=self.buffers,
            signatureDefs=self.signatures or None,
        )
        builder = Builder(2**16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


class _Graph:
    """One of its graphs."""

    def __init__(self, model: _Model):
        self._model, self._tensors, self._operators = model, [], []

    def tensor(self, name: str, shape, buffer: int = 0, kind: int = schema.TensorType.FLOAT32) -> int:
        self._tensors.append(schema.TensorT(name=name, shape=[*shape], type=kind, buffer=buffer))
        return len(self._tensors) - 1

    def add(self, name: str, options: str, operands: list[int], output: int, **values: Any) -> int:
        codes = self._model.codes
        number = getattr(schema.BuiltinOperator, name)
        codes.append(schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=number, version=1))
        made = getattr(schema, f"{options}T")()
        for field, value in values.items():
            setattr(made, field, value)
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=len(codes) - 1,
                inputs=operands,
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, options),
                builtinOptions=made,
            )
        )
        return output

    def layer(self, name: str, source: int, kernel: int, shape: tuple[int, int], bias: int = -1) -> int:
        """A fully connected layer of `shape` (outputs, inputs), whose kernel is a buffer."""
        operands = [source, self.tensor(f"{name} kernel", shape, kernel), bias]
        output = self.tensor(name, (1, shape[0]))
        return self.add("FULLY_CONNECTED", "FullyConnectedOptions", operands, output)

    def end(self, signature: str | None, inputs: list[int], outputs: list[int]) -> None:
        graphs = self._model.graphs
        graphs.append(
            schema.SubGraphT(
                tensors=self._tensors,
                inputs=inputs,
                outputs=outputs,
                operators=self._operators,
                name=signature or "main",
            )
        )

        def named(indices: list[int]) -> list[schema.TensorMapT]:
            return [schema.TensorMapT(name=self._tensors[index].name, tensorIndex=index) for index in indices]

        if signature:
            self._model.signatures.append(
                schema.SignatureDefT(
                    signatureKey=signature,
                    inputs=named(inputs),
                    outputs=named(outputs),
                    subgraphIndex=len(graphs) - 1,
                )
            )


def flatbuffer(
    inputs: Mapping[str, tuple[int, ...]],
    *,
    classes: int = len(CLASSES),
    kernel: np.ndarray | None = None,
    dimensions: np.ndarray | None = None,
) -> bytes:
    """A model of these inputs, `(1, …)` each, whose answer the first one gives: softmax(kernel · input).

    With `dimensions`, another kernel, it has a second output; with no classes that one alone.

    `token_ids` and `text_mask` are int32, and are cast. What follows the first is taken and not read.
    """
    first = next(iter(inputs))
    length = int(np.prod(inputs[first]))
    model = _Model()
    graph = _Graph(model)
    whole, real = schema.TensorType.INT32, schema.TensorType.FLOAT32
    kinds = {name: whole if name in ("token_ids", "text_mask") else real for name in inputs}
    taken = [graph.tensor(name, (1, *shape), kind=kinds[name]) for name, shape in inputs.items()]
    source = taken[0]
    if kinds[first] == whole:
        source = graph.tensor("cast", (1, length))
        graph.add("CAST", "CastOptions", [taken[0]], source, inDataType=whole, outDataType=real)
    elif len(inputs[first]) > 1:
        shape = graph.tensor("shape", (2,), model.constant(np.int32([1, length])), whole)
        source = graph.tensor("flat", (1, length))
        graph.add("RESHAPE", "ReshapeOptions", [taken[0], shape], source, newShape=[1, length])
    outputs = []
    if classes:
        kernel = weights(length, classes) if kernel is None else kernel
        logits = graph.layer("logits", source, model.constant(kernel), (classes, length))
        outputs = [graph.tensor("probabilities", (1, classes))]
        graph.add("SOFTMAX", "SoftmaxOptions", [logits], outputs[0], beta=1.0)
    if dimensions is not None:
        outputs.append(graph.layer("dimensions", source, model.constant(dimensions), dimensions.shape))
    graph.end(None if dimensions is None else "serving_default", taken, outputs)
    return model.packed()


@dataclass(frozen=True)
class Enrolled:
    """The arrays of `enrolled_flatbuffer`: its first layer, and the two heads on what that gives."""

    embeds: np.ndarray
    classifies: np.ndarray
    head: EnrolledHead


def enrolled_arrays(seed: int = 0) -> Enrolled:
    """Such that sounds at a tenth of full scale have embeddings about 1 and answers of their own."""
    rng = np.random.default_rng([seed, 7])  # not the draws of sounds that tests make
    draw = lambda scale, *shape: rng.normal(0, scale, shape).astype(np.float32)  # noqa: E731
    embeds, classifies = draw(0.1, WIDTH, SAMPLES), draw(1.0, len(CLASSES), WIDTH)
    head = EnrolledHead(
        draw(0.5, WIDTH), 2.5, draw(1.0, WIDTH, len(CLASSES)), draw(0.3, len(CLASSES)), ((WIDTH,),)
    )
    return Enrolled(embeds, classifies, head)


def enrolled_flatbuffer(arrays: Enrolled | None = None, **shapes: int) -> bytes:
    """A model of `audio` with two signatures, as the export makes them: the second knows speakers.

    Args:
        shapes: the width of `speaker` or of `clips`, where the second graph is to be a wrong one.
    """
    arrays = arrays or enrolled_arrays()
    head, model = arrays.head, _Model()
    embeds, classifies = model.constant(arrays.embeds), model.constant(arrays.classifies)
    count = len(CLASSES)
    first = _Graph(model)
    audio = first.tensor("audio", (1, SAMPLES))
    embedding = first.layer("embedding", audio, embeds, (WIDTH, SAMPLES))
    logits = first.layer("logits", embedding, classifies, (count, WIDTH))
    given = first.tensor("probabilities", (1, count))
    first.add("SOFTMAX", "SoftmaxOptions", [logits], given, beta=1.0)
    first.end("serving_default", [audio], [given])

    second = _Graph(model)
    audio = second.tensor("audio", (1, SAMPLES))
    speaker = second.tensor("speaker", (1, shapes.get("speaker", WIDTH)))
    clips = second.tensor("clips", (1, shapes.get("clips", 1)))
    constants = {"mean": head.mean[None], "prior": np.float32([[head.prior_clips]]), "bias": head.bias}
    held = {
        name: second.tensor(name, array.shape, model.constant(array)) for name, array in constants.items()
    }

    def both(name: str, one: int, other: int, shape: tuple[int, ...]) -> int:
        output = second.tensor(f"{name} {one} {other}", shape)
        return second.add(name.upper(), f"{name.capitalize()}Options", [one, other], output)

    embedding = second.layer("embedding", audio, embeds, (WIDTH, SAMPLES))
    share = both("div", clips, both("add", clips, held["prior"], (1, 1)), (1, 1))
    drawn = both("mul", share, both("sub", speaker, held["mean"], (1, WIDTH)), (1, WIDTH))
    about = both("sub", embedding, both("add", held["mean"], drawn, (1, WIDTH)), (1, WIDTH))
    kernel = model.constant(np.ascontiguousarray(head.weights.T))
    logits = second.layer("logits", about, kernel, (count, WIDTH), held["bias"])
    given = second.tensor("probabilities", (1, count))
    second.add("SOFTMAX", "SoftmaxOptions", [logits], given, beta=1.0)
    second.end("enrolled", [audio, speaker, clips], [given, embedding])
    return model.packed()


def card_of(model: bytes, **facts: Any) -> dict[str, Any]:
    """A whole card of an audio student; facts that are None are left out."""
    card = {
        "input": "audio",
        "inputs": ["audio"],
        "sample_rate": RATE,
        "samples": SAMPLES,
        "padding": "both",
        "classes": [*CLASSES],
        "temperature": 1.0,
        "unsure_below": 0.5,
        "precision": "float32",
        "student": "tiny",
        "corpus": "EMO-DB",
        "synthetic": False,
        "stamps": [],
        "model_bytes": len(model),
        "model_sha256": hashlib.sha256(model).hexdigest(),
        **facts,
    }
    return {name: value for name, value in card.items() if value is not None}


def packed(
    path: Path,
    model: bytes,
    card: Any,
    *,
    labels: str | None = "".join(f"{name}\n" for name in CLASSES),
    vocabulary: str | None = None,
) -> Path:
    """The file of a model and a card, which may be anything that JSON holds, or its bytes."""
    path.write_bytes(model)
    content = card if isinstance(card, bytes) else json.dumps(card).encode()
    with zipfile.ZipFile(path, "a") as archive:
        if labels is not None:
            archive.writestr(zipfile.ZipInfo("labels.txt"), labels)
        archive.writestr(zipfile.ZipInfo("card.json"), content, zipfile.ZIP_DEFLATED)
        if vocabulary is not None:
            archive.writestr(zipfile.ZipInfo("vocab.txt"), vocabulary, zipfile.ZIP_DEFLATED)
    return path


def audio_student(path: Path, *, kernel: np.ndarray | None = None, **facts: Any) -> Path:
    """A student that hears half a second."""
    model = flatbuffer({"audio": (SAMPLES,)}, kernel=kernel)
    return packed(path, model, card_of(model, **facts))


def dimensions_kernel(count: int) -> np.ndarray:
    """`(count, SAMPLES)`, such that sounds have values of their own, some of them beyond ±1."""
    return np.random.default_rng(5).normal(0, 0.2, (count, SAMPLES)).astype(np.float32)


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise with syllables: float32, such that the tiny student's values are within ±2."""
    samples = round(seconds * RATE)
    noise = np.random.default_rng(seed).normal(0, 0.05, samples)
    return (noise * (np.arange(samples) % 4000 < 2000)).astype(np.float32)


def dimensions_student(path: Path, names=("arousal", "valence"), range=(1.0, 5.0), **facts: Any) -> Path:
    """A student that hears half a second and gives dimensions beside its classes."""
    model = flatbuffer({"audio": (SAMPLES,)}, dimensions=dimensions_kernel(len(names)))
    own = {"dimensions": {"names": [*names], "range": [*range]}}
    return packed(path, model, card_of(model, **{**own, **facts}))


def rated_student(path: Path, names=("arousal", "valence"), range=(1.0, 5.0), **facts: Any) -> Path:
    """A student that hears half a second and gives dimensions alone."""
    model = flatbuffer({"audio": (SAMPLES,)}, classes=0, dimensions=dimensions_kernel(len(names)))
    own = {"classes": [], "dimensions": {"names": [*names], "range": [*range]}}
    own |= dict.fromkeys(("temperature", "unsure_below"))
    return packed(path, model, card_of(model, **{**own, **facts}), labels=None)


def enrolled_student(path: Path, arrays: Enrolled | None = None, **facts: Any) -> Path:
    """A student that hears half a second, and answers otherwise for a speaker who is known."""
    model = enrolled_flatbuffer(arrays)
    own = {"enrolled": {"embedding": EMBEDDING, "width": WIDTH}}
    return packed(path, model, card_of(model, **{**own, **facts}))


def text_student(path: Path, *, hears: bool, **facts: Any) -> Path:
    """A student that reads text, beside audio or alone."""
    audio = {"audio": (SAMPLES,)} if hears else {}
    model = flatbuffer({**audio, "token_ids": (TOKENS,), "text_mask": (TOKENS,)})
    vocabulary = "".join(f"{token}\n" for token in VOCABULARY)
    text = {
        "tokens": TOKENS,
        "lowercase": True,
        "strip_accents": True,
        "cleaning": "3m_ser",
        "vocabulary_sha256": hashlib.sha256(vocabulary.encode()).hexdigest(),
    }
    own = {"input": "audio and text", "inputs": [*audio, "token_ids", "text_mask"], "text": text}
    if not hears:
        own |= {"input": "text", "samples": None, "sample_rate": None, "padding": None}
    return packed(path, model, card_of(model, **{**own, **facts}), vocabulary=vocabulary)


def states_student(path: Path, **facts: Any) -> Path:
    """A student of states `(7, 5)` that an encoder outside of it makes of audio."""
    model = flatbuffer({"audio_states": (7, 5)})
    own = {
        "input": "states",
        "inputs": ["audio_states"],
        "states": {"audio_states": {"rows": 7, "width": 5, "encoder": "some/encoder"}},
        **dict.fromkeys(("samples", "sample_rate", "padding")),
    }
    return packed(path, model, card_of(model, **{**own, **facts}))
