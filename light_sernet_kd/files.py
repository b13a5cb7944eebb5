"""Files that are either whole or absent: written beside their final name, then renamed. And reading JSON."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from light_sernet_kd.errors import UserError

# A sealed file ends in this and the SHA-256, in hexadecimal, of all bytes before it.
SEAL = b"sha256:"
SEAL_BYTES = len(SEAL) + 64
# JSON takes some ten times its size in memory.
JSON_BYTES = 2**26
# A whole number of more digits is no count, no seed and no size. Hugging Face writes 1e30 for "no limit".
_MOST_DIGITS = 40
_CHUNK_BYTES = 2**20


class JsonError(UserError):
    """A JSON file that cannot be used.

    Attributes:
        path: the file.
        why: what is wrong with it, as the rest of a sentence that begins with the path.
    """

    def __init__(self, path: str | os.PathLike[str], why: str):
        super().__init__(f"{path} {why}.")
        self.path, self.why = Path(path), why


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
    """Write arrays by name as an `.npz`; its comment is a hash that `arrays.read_arrays` compares."""
    # here, so that the command line, which needs this module, starts without NumPy
    import numpy as np

    with atomic(path) as temporary, open(temporary, "w+b") as file:
        np.savez(file, **arrays)
        # The archive's last two bytes are the length of the comment behind them.
        file.seek(-2, os.SEEK_END)
        file.write(SEAL_BYTES.to_bytes(2, "little"))
        seal(file)


def seal(file: IO[bytes]) -> None:
    """Append the hash of its content to a file that is open for reading and writing."""
    digest = content_digest(file, file.seek(0, os.SEEK_END))
    file.seek(0, os.SEEK_END)
    file.write(SEAL + digest)


def content_digest(file: IO[bytes], size: int) -> bytes:
    """SHA-256 of the first `size` bytes, in hexadecimal."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK_BYTES))
    file.seek(0)
    while size:
        count = file.readinto(buffer[: min(size, _CHUNK_BYTES)])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the file ends early")
        digest.update(buffer[:count])
        size -= count
    return digest.hexdigest().encode()


def irregular(path: str | os.PathLike[str]) -> str | None:
    """What `path` is where it is no regular file: reading a pipe or a device may never end.

    Raises:
        OSError: it is not there, or its folder may not be read.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
        return None
    return "is a folder, not a file" if stat.S_ISDIR(mode) else "is a pipe or a device, not a file"


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, is nested too deep, or holds a number that is not finite or has more than
            40 digits.
    """
    try:
        return json.loads(
            text, parse_int=_whole_number, parse_float=_finite_number, parse_constant=_finite_number
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_json(path: str | os.PathLike[str], expected: Any = None, *, most_bytes: int = JSON_BYTES) -> Any:
    """The value in a JSON file.

    Args:
        expected: what the value must be: a type (`float` stands for whole numbers too, None for null); a
            tuple of such, of which one must fit; `[each]` for a list; `{str: each}` for an object of any
            names; `{"name": value}` for an object that has these names at least, but those that end in `?`
            may be absent. By default any value.
        most_bytes: a larger file is refused, unread.

    Raises:
        FileNotFoundError: there is no such file; NotADirectoryError: nor its folder.
        JsonError: it cannot be read, is no JSON in UTF-8, or is not what is expected.
    """
    try:
        why = irregular(path)
        if why is None and (size := os.stat(path).st_size) > most_bytes:
            why = f"has {size:,} bytes; at most {most_bytes:,} are read"
        if why is not None:
            raise JsonError(path, why)
        value = parse_json(Path(path).read_bytes().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise JsonError(path, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise JsonError(path, f"is damaged ({error})") from None
    if expected is not None and (misfit := _misfit(value, expected, "it")):
        raise JsonError(path, f"is damaged ({misfit})")
    return value


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite_number(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:40]} is no finite number")
    return value


_JSON_NAMES = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    None: "null",
}


def _misfit(value: Any, expected: Any, where: str) -> str | None:
    """How a JSON value is not what `read_json` was told to expect; None where it is."""
    if isinstance(expected, tuple):
        misfits = [_misfit(value, each, where) for each in expected]
        return None if None in misfits else misfits[0]
    if isinstance(expected, list):
        if not isinstance(value, list):
            return f"{where} is not a list"
        misfits = [_misfit(each, expected[0], f"{where}[{place}]") for place, each in enumerate(value)]
        return next(filter(None, misfits), None)
    if isinstance(expected, dict):
        if not isinstance(value, dict):
            return f"{where} is not an object"
        if str in expected:
            misfits = [_misfit(each, expected[str], f"{where}.{name}") for name, each in value.items()]
            return next(filter(None, misfits), None)
        for marked, each in expected.items():
            name = marked.removesuffix("?")
            if name not in value:
                if marked == name:
                    return f"{where} lacks {name}"
            elif misfit := _misfit(value[name], each, f"{where}.{name}"):
                return misfit
        return None
    fits = {
        None: value is None,
        float: isinstance(value, int | float) and not isinstance(value, bool),
        int: isinstance(value, int) and not isinstance(value, bool),
    }
    is_fit = fits[expected] if expected in fits else isinstance(value, expected)
    return None if is_fit else f"{where} is not {_JSON_NAMES[expected]}"
