"""Files that are either whole or absent: written beside their final name, then renamed."""

import contextlib
import errno
import json
import os
import re
import tempfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def path_part(name: str) -> str:
    """`name` for a file or folder: what a file system may not like is replaced; names stay different."""
    # 150 bytes leave room for a prefix: file systems take 255.
    plain = re.sub(r"[^\w.-]", "_", name).strip(".")
    safe = plain.encode()[:150].decode(errors="ignore")
    return name if name and safe == name else f"{safe}-{zlib.crc32(name.encode(errors='surrogatepass')):08x}"


def in_either_form(path: Path) -> Path:
    """The path as the disk has it: where it is missing, the one whose names are the same in Unicode's NFC.

    A table written on a Mac names `Jürgen.wav` in another form than a disk of Linux may have it, and the
    other way round. A path that is there, or in ASCII, stays as it is; so does one that is nowhere.
    """
    if str(path).isascii() or os.path.exists(path):
        return path
    for form in ("NFC", "NFD"):
        other = Path(unicodedata.normalize(form, str(path)))
        if os.path.exists(other):
            return other
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        following = found / part
        if not part.isascii() and not os.path.exists(following):
            wanted = unicodedata.normalize("NFC", part)
            try:
                names = os.listdir(found)
            except OSError:
                return path
            same = [name for name in names if unicodedata.normalize("NFC", name) == wanted]
            if not same:
                return path
            following = found / same[0]
        found = following
    return found if os.path.exists(found) else path


def make_public(path: Path) -> None:
    """Make what `tempfile` made private as readable as any other file or folder of the user."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it takes the name `path`.

    If the body raises, or the process is killed, `path` keeps its former content (or stays absent).
    The temporary name keeps `path`'s suffix, because several writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "r+b") as written:  # Windows syncs only what may be written
            os.fsync(written.fileno())
        make_public(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            # NumPy says in words alone that a write fell short
            raise OSError(errno.EIO, f"the disk took only a part: {error}", str(path)) from error
        # a write that fails does not know its file's name
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic(path) as temporary:
        # A path that is not UTF-8 holds surrogates; JSON reads these escapes back as they were.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON; a NaN is an error, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write arrays by name as an `.npz`."""
    # here, so that the command line, which needs this module, starts without NumPy
    import numpy as np

    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
