"""Files that are either whole or absent: written beside their final name, then renamed; and files read."""

import contextlib
import errno
import io
import json
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def regular_descriptor(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file, for reading; the caller closes it.

    A pipe without a writer would wait for ever, and `/dev/zero` never ends.

    Raises:
        OSError: as `open`; also where `path` is a folder, a pipe, a device or a socket.
    """
    # O_NONBLOCK, or opening a pipe that nobody writes to would wait
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """A regular file, open for reading its bytes; the caller closes it.

    Raises:
        OSError: as `regular_descriptor`.
    """
    return open(regular_descriptor(path), "rb")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `regular_descriptor`.
    """
    with open_regular(path) as file:
        return file.read()


def read_text(path: str | os.PathLike[str], *, encoding: str = "utf-8") -> str:
    """The text of a regular file; every line ends in a line feed, whatever ended it in the file.

    Raises:
        OSError: as `regular_descriptor`.
        UnicodeDecodeError: it is not text in this encoding.
    """
    with io.TextIOWrapper(open_regular(path), encoding=encoding) as file:
        return file.read()


def path_part(name: str) -> str:
    """`name` for a file or folder: what a file system may not like is replaced; names stay different."""
    # 150 bytes leave room for a prefix: file systems take 255.
    plain = re.sub(r"[^\w.-]", "_", name).strip(".")
    safe = plain.encode()[:150].decode(errors="ignore")
    return name if name and safe == name else f"{safe}-{zlib.crc32(name.encode(errors='surrogatepass')):08x}"


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
