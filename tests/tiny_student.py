"""Exported files of a few kilobytes, made without TensorFlow: a fully connected layer and a softmax."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

RATE = 16_000
SAMPLES = RATE // 2
CLASSES = ("anger", "neutral", "sadness")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "ja", "nein")
TOKENS = 6


def weights(samples: int = SAMPLES, classes: int = len(CLASSES)) -> np.ndarray:
    """`(classes, samples)`, such that sounds have answers of their own."""
    return np.random.default_rng(0).normal(0, 0.2, (classes, samples)).astype(np.float32)


def flatbuffer(
    inputs: Mapping[str, tuple[int, ...]],
    *,
    classes: int = len(CLASSES),
    kernel: np.ndarray | None = None,
) -> bytes:
    """A model of these inputs, `(1, …)` each, whose answer the first one gives: softmax(kernel · input).

    `token_ids` and `text_mask` are int32, and are cast. What follows the first is taken and not read.
    """
    first = next(iter(inputs))
    length = int(np.prod(inputs[first]))
    kernel = weights(length, classes) if kernel is None else kernel
    buffers = [schema.BufferT(), schema.BufferT(data=np.frombuffer(kernel.tobytes(), np.uint8))]
    tensors: list[schema.TensorT] = []

    def tensor(name: str, shape, buffer: int = 0, kind: int = schema.TensorType.FLOAT32) -> int:
        tensors.append(schema.TensorT(name=name, shape=[*shape], type=kind, buffer=buffer))
        return len(tensors) - 1

    def kind(name: str) -> int:
        whole = name in ("token_ids", "text_mask")
        return schema.TensorType.INT32 if whole else schema.TensorType.FLOAT32

    taken = [tensor(name, (1, *shape), kind=kind(name)) for name, shape in inputs.items()]
    operators, codes = [], []

    def add(name: str, options: str, operands: list[int], output: int, **values: Any) -> None:
        number = getattr(schema.BuiltinOperator, name)
        codes.append(schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=number, version=1))
        made = getattr(schema, f"{options}T")()
        for field, value in values.items():
            setattr(made, field, value)
        operators.append(
            schema.OperatorT(
                opcodeIndex=len(codes) - 1,
                inputs=operands,
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, options),
                builtinOptions=made,
            )
        )

    source = taken[0]
    if kind(first) == schema.TensorType.INT32:
        source = tensor("cast", (1, length))
        whole, real = schema.TensorType.INT32, schema.TensorType.FLOAT32
        add("CAST", "CastOptions", [taken[0]], source, inDataType=whole, outDataType=real)
    elif len(inputs[first]) > 1:
        buffers.append(schema.BufferT(data=np.frombuffer(np.int32([1, length]).tobytes(), np.uint8)))
        shape = tensor("shape", (2,), 2, schema.TensorType.INT32)
        source = tensor("flat", (1, length))
        add("RESHAPE", "ReshapeOptions", [taken[0], shape], source, newShape=[1, length])
    logits, given = tensor("logits", (1, classes)), tensor("probabilities", (1, classes))
    layer = tensor("kernel", (classes, length), 1)
    add("FULLY_CONNECTED", "FullyConnectedOptions", [source, layer, -1], logits)
    add("SOFTMAX", "SoftmaxOptions", [logits], given, beta=1.0)
    graph = schema.SubGraphT(tensors=tensors, inputs=taken, outputs=[given], operators=operators, name="main")
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=buffers)
    builder = Builder(2**16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


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
    labels: str = "".join(f"{name}\n" for name in CLASSES),
    vocabulary: str | None = None,
) -> Path:
    """The file of a model and a card, which may be anything that JSON holds, or its bytes."""
    path.write_bytes(model)
    content = card if isinstance(card, bytes) else json.dumps(card).encode()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("labels.txt"), labels)
        archive.writestr(zipfile.ZipInfo("card.json"), content, zipfile.ZIP_DEFLATED)
        if vocabulary is not None:
            archive.writestr(zipfile.ZipInfo("vocab.txt"), vocabulary, zipfile.ZIP_DEFLATED)
    return path


def audio_student(path: Path, *, kernel: np.ndarray | None = None, **facts: Any) -> Path:
    """A student that hears half a second."""
    model = flatbuffer({"audio": (SAMPLES,)}, kernel=kernel)
    return packed(path, model, card_of(model, **facts))


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
