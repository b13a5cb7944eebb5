"""TFLite metadata read by hand, by the field numbers of the public schema.

Written from metadata_schema.fbs, apart from the writer; the tests also let it read Google's own file, and
compare it with MediaPipe's generated classes where these are installed.
"""

import struct
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

# Type of each field by its number: text, bytes or 32 bits by value, floats, a table, or a list of tables.
FILE = {0: ("name", "text"), 1: ("description", "text"), 2: ("type", "byte"), 3: ("locale", "text")}
STATS = {0: ("max", "floats"), 1: ("min", "floats")}
AUDIO = {0: ("sample_rate", "uint"), 1: ("channels", "uint")}
CONTENT = {0: ("properties_type", "byte"), 1: ("properties", AUDIO)}
TENSOR = {
    0: ("name", "text"),
    1: ("description", "text"),
    3: ("content", CONTENT),
    5: ("stats", STATS),
    6: ("files", [FILE]),
}
GRAPH = {0: ("name", "text"), 2: ("inputs", [TENSOR]), 3: ("outputs", [TENSOR])}
MODEL = {
    0: ("name", "text"),
    1: ("description", "text"),
    2: ("version", "text"),
    3: ("graphs", [GRAPH]),
    4: ("author", "text"),
    5: ("license", "text"),
    6: ("files", [FILE]),
    7: ("min_parser_version", "text"),
}


def entries(path: Path) -> dict[str, bytes]:
    """The metadata entries of a TFLite file by name."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    return {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}


def read(content: bytes) -> dict[str, Any]:
    """A metadata flatbuffer as nested dictionaries of the fields that are there."""
    assert content[4:8] == b"M001"
    return _table(content, _offset(content, 0), MODEL)


def _offset(content: bytes, place: int) -> int:
    return place + struct.unpack_from("<I", content, place)[0]


def _table(content: bytes, place: int, fields: dict) -> dict[str, Any]:
    vtable = place - struct.unpack_from("<i", content, place)[0]
    (size,) = struct.unpack_from("<H", content, vtable)
    found = {}
    for number, (name, kind) in fields.items():
        entry = 4 + 2 * number
        inside = struct.unpack_from("<H", content, vtable + entry)[0] if entry < size else 0
        if inside:
            found[name] = _value(content, place + inside, kind)
    return found


def _value(content: bytes, place: int, kind: Any) -> Any:
    if kind == "byte":
        return content[place]
    if kind == "uint":
        return struct.unpack_from("<I", content, place)[0]
    place = _offset(content, place)
    if isinstance(kind, dict):
        return _table(content, place, kind)
    (count,) = struct.unpack_from("<I", content, place)
    if kind == "text":
        return content[place + 4 : place + 4 + count].decode()
    if kind == "floats":
        return list(struct.unpack_from(f"<{count}f", content, place + 4))
    return [_table(content, _offset(content, place + 4 + 4 * i), kind[0]) for i in range(count)]
