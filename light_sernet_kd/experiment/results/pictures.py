"""Pictures of a run's folder that are drawn again only where what they show has changed."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from light_sernet_kd.experiment.results.receipt import program
from light_sernet_kd.files import JsonError, read_json, sha256, write_json

_NAME = ".pictures.json"
_KNOWN = {str: {"of": str, "files": {str: str}}}


class Pictures:
    """The pictures of a folder.

    What was drawn of what stands in a file of the folder, with the SHA-256 of each picture.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            self._known: dict[str, Any] = read_json(folder / _NAME, _KNOWN)
        except (OSError, JsonError):
            self._known = {}

    def draw(self, name: str, draw: Callable[[Path], Sequence[Path]], *shown: Any) -> None:
        """Have a picture drawn, unless it is there and shows the same.

        Args:
            name: of the file, without its ending.
            draw: given the path without its ending, it writes the files and returns them.
            shown: all that decides what is to be seen.
        """
        digest = hashlib.sha256(f"{program()} {matplotlib.__version__}".encode())
        _add(digest, shown)
        known = self._known.get(name)
        if known and known["of"] == digest.hexdigest() and self._has(known["files"]):
            return
        written = draw(self.folder / name)
        files = {path.name: sha256(path) for path in written}
        self._known[name] = {"of": digest.hexdigest(), "files": files}
        write_json(self.folder / _NAME, self._known)

    def _has(self, files: Mapping[str, str]) -> bool:
        paths = {self.folder / name: digest for name, digest in files.items()}
        return all(path.is_file() and sha256(path) == digest for path, digest in paths.items())


def _add(digest: Any, value: Any) -> None:
    """Add a value to a digest: arrays by their bytes, what holds values by what it holds."""
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        _add(digest, [*value.items()])
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for each in value:
            _add(digest, each)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _add(digest, [getattr(value, field.name) for field in dataclasses.fields(value)])
    else:
        digest.update(f"{type(value).__name__} {value!r};".encode(errors="backslashreplace"))
