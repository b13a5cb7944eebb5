"""TFLite Model Metadata: what an app reads of a model file without knowing who made it.

MediaPipe's AudioClassifier asks it for the sample rate and for where the labels are; Netron and Android
Studio show it to people. It is a flatbuffer of its own inside the model's.

Source: tflite-support's metadata_schema.fbs, schema version 1.5.0, file identifier M001.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers import Builder

from light_sernet_kd import __version__
from light_sernet_kd.registries.front_ends import FRONT_ENDS
from light_sernet_kd.reporting.text import concordance

# Names of the entries among a model's metadata, the second as TensorFlow's converter writes it.
ENTRY = "TFLITE_METADATA"
RUNTIME_ENTRY = "min_runtime_version"
IDENTIFIER = b"M001"

# Fields in the schema's order, up to the last that is used here: a field's place is its number.
_FIELDS: dict[str, tuple[str, ...]] = {
    "ModelMetadata": (
        "name",
        "description",
        "version",
        "subgraph_metadata",
        "author",
        "license",
        "associated_files",
        "min_parser_version",
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        "name",
        "description",
        "dimension_names",
        "content",
        "process_units",
        "stats",
        "associated_files",
    ),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "AudioProperties": ("sample_rate", "channels"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type"),
}
_CONTENT_PROPERTIES = {"FeatureProperties": 1, "AudioProperties": 4}
_FILE_TYPES = {"DESCRIPTIONS": 1, "TENSOR_AXIS_LABELS": 2, "VOCABULARY": 5}
# Since which version the schema has what was not there from the beginning.
_SINCE = {"VOCABULARY": (1, 0, 1), "AudioProperties": (1, 3, 0)}
_FIRST_VERSION = (1, 0, 0)


@dataclass(frozen=True)
class _Byte:
    """A member of one of the schema's enumerations, all of which are bytes."""

    name: str
    value: int


class _Table:
    """One table of the schema: its name, and the fields that are filled."""

    def __init__(self, table: str, **fields: Any):
        self.table, self.fields = table, fields


def packed(card: Mapping[str, Any], inputs: Sequence[str]) -> bytes:
    """The metadata of an exported file, as a flatbuffer. The same card gives the same bytes.

    Args:
        card: what `export` writes into `card.json`: `classes`, `dimensions`, and of what the file takes
            `samples`, `sample_rate`, `text`, `states`. What else there is (`student`, `corpus`, `protocol`,
            `ua`, `trained`, `corpus_licence`, `teacher_licence`, …) is told in words.
        inputs: names of the graph's inputs, in its order, which is that of the metadata.
    """
    graph = _Table(
        "SubGraphMetadata",
        input_tensor_metadata=[_input(name, card) for name in inputs],
        output_tensor_metadata=[
            *([_probabilities()] if card["classes"] else []),
            *([_dimensions(card["dimensions"])] if "dimensions" in card else []),
        ],
    )
    model = _Table(
        "ModelMetadata",
        name=_name(card),
        description=_description(card),
        version=card.get("trained", __version__),
        subgraph_metadata=[graph],
        author=f"made with light-sernet-kd {__version__}",
        license=_licence(card),
        associated_files=[
            _file("card.json", "Everything that the file says about itself, as JSON.", "DESCRIPTIONS")
        ],
    )
    needed = max((_SINCE.get(name, _FIRST_VERSION) for name in _used(model)), default=_FIRST_VERSION)
    model.fields["min_parser_version"] = ".".join(map(str, needed))
    builder = Builder(4096)
    builder.Finish(_write(builder, model), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _probabilities() -> _Table:
    labels = _file("labels.txt", "The classes, one a line, in the order of the scores.", "TENSOR_AXIS_LABELS")
    return _Table(
        "TensorMetadata",
        name="probabilities",
        description="How likely each class is; they sum to 1.",
        content=_content(_Table("FeatureProperties")),
        stats=_Table("Stats", max=np.ones(1, np.float32), min=np.zeros(1, np.float32)),
        associated_files=[labels],
    )


def _dimensions(facts: Mapping[str, Any]) -> _Table:
    low, high = facts["range"]
    listed = "The dimensions, one a line, in the order of the values."
    return _Table(
        "TensorMetadata",
        name="dimensions",
        description=f"{', '.join(facts['names'])}: -1 is {low:g} and 1 is {high:g} on the corpus's scale.",
        content=_content(_Table("FeatureProperties")),
        stats=_Table("Stats", max=np.ones(1, np.float32), min=-np.ones(1, np.float32)),
        associated_files=[_file("dimensions.txt", listed, "TENSOR_AXIS_LABELS")],
    )


def _name(card: Mapping[str, Any]) -> str:
    corpus = f" ({card['corpus']})" if "corpus" in card else ""
    return f"{card.get('student', 'student')}, speech emotion recognition{corpus}"


def _description(card: Mapping[str, Any]) -> str:
    sentences = [f"Which emotion is heard or read: {', '.join(card['classes'])}."]
    if not card["classes"]:
        sentences = [f"What is heard or read, on scales: {', '.join(card['dimensions']['names'])}."]
    if "corpus" in card:
        synthetic = " (synthetic recordings)" if card.get("synthetic") else ""
        sentences.append(f"Trained on {card['corpus']}{synthetic}.")
    if card.get("ua") is not None:
        interval = [f"{100 * card[end]:.1f}" for end in ("ua_low", "ua_high") if end in card]
        between = f" [{', '.join(interval)}]" if interval else ""
        protocol = f", protocol {card['protocol']}" if "protocol" in card else ""
        sentences.append(f"Unweighted accuracy {100 * card['ua']:.1f} %{between}{protocol}.")
    for name, each in card.get("ccc", {}).items():
        sentences.append(f"Concordance of {name} {concordance(each)}.")
    if certificate := card.get("certificate"):
        decided = certificate["passed"] + len(certificate["failed"])
        sentences.append(f"Stress certificate: {certificate['passed']} of {decided} tests passed.")
    if card.get("stamps"):
        sentences.append(f"Mind: {'; '.join(card['stamps'])}.")
    return " ".join(sentences)


def _licence(card: Mapping[str, Any]) -> str:
    parts = ["light-sernet-kd, which made the file: MIT"]
    if "corpus_licence" in card:
        parts.append(f"{card['corpus']}, which it was trained on: {card['corpus_licence']}")
    if "teacher_licence" in card:
        parts.append(f"the teacher that it learnt from: {card['teacher_licence']}")
    if "start_licence" in card:
        parts.append(f"what it began with, {card['started_from']}: {card['start_licence']}")
    return "; ".join(parts)


def _input(name: str, card: Mapping[str, Any]) -> _Table:
    described, properties, files = "", _Table("FeatureProperties"), []
    if name == "audio":
        rate, samples = card["sample_rate"], card["samples"]
        front_end = FRONT_ENDS.get(card.get("front_end", ""))
        level = "within ±1, as recorded" if front_end and front_end.keeps_level else "at any level"
        described = f"One channel of {samples} samples at {rate} Hz ({samples / rate:g} s), float32 {level}."
        properties = _Table("AudioProperties", sample_rate=rate, channels=1)
    elif name == "features":
        described = (
            f"{card['input_type']} of {card['samples']} samples at {card['sample_rate']} Hz, "
            f"as the front end {card['front_end']} makes it."
        )
    elif name == "token_ids":
        described = f"WordPiece ids of a text: {card['text']['tokens']}, with [CLS], [SEP] and [PAD]."
        files = [_file("vocab.txt", "The tokens, one a line, in the order of their ids.", "VOCABULARY")]
    elif name == "text_mask":
        described = "1 where token_ids has the text, 0 at [PAD] behind it."
    else:
        states = card["states"][name]
        described = f"{states['rows']} rows of {states['width']} numbers made by {states['encoder']}."
    filled = {"associated_files": files} if files else {}
    return _Table("TensorMetadata", name=name, description=described, content=_content(properties), **filled)


def _content(properties: _Table) -> _Table:
    kind = _Byte(properties.table, _CONTENT_PROPERTIES[properties.table])
    return _Table("Content", content_properties_type=kind, content_properties=properties)


def _file(name: str, description: str, kind: str) -> _Table:
    return _Table("AssociatedFile", name=name, description=description, type=_Byte(kind, _FILE_TYPES[kind]))


def _used(value: Any) -> Iterator[str]:
    """Names of every table and enumeration's member within."""
    if isinstance(value, _Byte):
        yield value.name
    elif isinstance(value, list):
        for each in value:
            yield from _used(each)
    elif isinstance(value, _Table):
        yield value.table
        for each in value.fields.values():
            yield from _used(each)


def _write(builder: Builder, value: Any) -> int:
    """Write a table, a list of tables, floats or a text; returns where it is."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        places = [_write(builder, each) for each in value]
        builder.StartVector(4, len(places), 4)
        # the file is written from its end
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    names = _FIELDS[value.table]
    # A table holds no other: what it points at comes first.
    pointed = {
        name: _write(builder, each)
        for name, each in value.fields.items()
        if not isinstance(each, _Byte | int)
    }
    builder.StartObject(len(names))
    for name, each in value.fields.items():
        slot = names.index(name)
        if isinstance(each, _Byte):
            builder.PrependUint8Slot(slot, each.value, 0)
        elif isinstance(each, int):
            builder.PrependUint32Slot(slot, each, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, pointed[name], 0)
    return builder.EndObject()
