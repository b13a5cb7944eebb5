"""Files that are either whole or absent: written beside their final name, then renamed; and files read.

A writer locks what it writes, and a process the folder it works in. Two processes then never share a folder,
and what a killed process left is told from what another one is still writing, and swept.
"""

import contextlib
import errno
import glob
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import unicodedata
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from light_sernet_kd.errors import UserError

LOCK = ".lock"
# What `tempfile` draws for a name; with the dots and the suffix few files of a user look like that.
_DRAWN = "[a-z0-9_]{8}"
_TEMPORARY = re.compile(rf"\..+\.{_DRAWN}\.[^.]+")
# On Windows these are devices, also before a suffix and in any case.
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)
# A temporary file of this age is a killed writer's, where no lock can tell.
_OLD_SECONDS = 24 * 3600.0
# A sealed file ends in this and the SHA-256, in hexadecimal, of all bytes before it.
SEAL = b"sha256:"
SEAL_BYTES = len(SEAL) + 64
# JSON takes some ten times its size in memory.
JSON_BYTES = 2**26
# A whole number of more digits is no count, no seed and no size. Hugging Face writes 1e30 for "no limit".
_MOST_DIGITS = 40
_CHUNK_BYTES = 2**20
# Ends the name of a folder's former content while the next one takes its place.
_REPLACED = ".replaced"
# To ask for it is to change it for a moment, and two threads that ask at once may leave it changed.
_UMASK = os.umask(0)
os.umask(_UMASK)
# What a file system says that has no locks, such as some network drives. Runs then go on without.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class UnusableFileError(UserError):
    """A file that cannot be used.

    Attributes:
        path: the file.
        why: what is wrong with it, as the rest of a sentence that begins with the path.
    """

    def __init__(self, path: str | os.PathLike[str], why: str):
        super().__init__(f"{path} {why}.")
        self.path, self.why = Path(path), why


class JsonError(UnusableFileError):
    """A JSON file that cannot be used."""


def regular_descriptor(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file, for reading; the caller closes it.

    A pipe without a writer would wait for ever, and `/dev/zero` never ends.

    Raises:
        OSError: as `open`; also where `path` is a folder, a pipe, a device or a socket.
    """
    # O_NONBLOCK, or opening a pipe that nobody writes to would wait
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except PermissionError:
        if os.path.isdir(path):  # which Windows does not say
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path)) from None
        raise
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
    if _OF_WINDOWS.fullmatch(safe):
        safe = f"_{safe}"
    return name if name and safe == name else f"{safe}-{zlib.crc32(name.encode(errors='surrogatepass')):08x}"


def path_on_disk(path: Path) -> Path:
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
    folder = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        following = folder / part
        if not part.isascii() and not os.path.exists(following):
            wanted = unicodedata.normalize("NFC", part)
            try:
                names = os.listdir(folder)
            except OSError:
                return path
            same = [name for name in names if unicodedata.normalize("NFC", name) == wanted]
            if not same:
                return path
            following = folder / same[0]
        folder = following
    return folder if os.path.exists(folder) else path


def make_public(path: Path) -> None:
    """Give what `tempfile` made private the permissions that the umask, as it was at import, leaves."""
    path.chmod((0o777 if path.is_dir() else 0o666) & ~_UMASK)


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
        with hold(temporary):
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
    """SHA-256 of the first `size` bytes, in hexadecimal.

    Raises:
        EOFError: the file has fewer.
    """
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
    return value if expected is None else checked_json(path, value, expected)


def checked_json(path: str | os.PathLike[str], value: Any, expected: Any) -> Any:
    """The value that was read from a JSON file, if it is as `expected`, which is as `read_json` takes it.

    Raises:
        JsonError: it is not.
    """
    if misfit := _misfit(value, expected, "it"):
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


def sha256(path: Path) -> str:
    """Of the file's bytes, in hexadecimal.

    Raises:
        OSError: as `regular_descriptor`.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# What is at work, and what was killed.


def _try_lock(descriptor: int) -> bool | None:
    """Whether the lock of an open file or folder could be taken; None where there are no such locks."""
    if sys.platform == "win32":
        return None
    try:
        import fcntl
    except ImportError:  # nor in WebAssembly
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # nor on every file system
        return None
    return True


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Lock the temporary file or folder `path` while it is written, so that no `sweep` takes it."""
    if os.name == "nt":  # no locks, and no renaming of what is open
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _try_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def is_abandoned(path: Path) -> bool:
    """Whether the writer of the temporary file or folder `path` was killed.

    The lock it would hold tells, and where there are no locks a day of age.
    """
    taken: bool | None = None
    try:
        old = time.time() - path.stat().st_mtime > _OLD_SECONDS
        if os.name != "nt":
            descriptor = os.open(path, os.O_RDONLY)
            try:
                taken = _try_lock(descriptor)
            finally:
                os.close(descriptor)
    except OSError:  # gone by now, or another user's
        return False
    return old if taken is None else taken


def sweep(folder: Path, *, older_than: float = 0.0) -> list[Path]:
    """Remove the temporary files below `folder` that killed writers left; returns them.

    Args:
        older_than: in seconds. A writer makes its file and then locks it; where several may be at work, a
            minute spares one that is between the two.
    """
    swept = []
    for path in sorted(folder.rglob(".*")):
        with contextlib.suppress(OSError):
            old_enough = older_than == 0 or time.time() - path.stat().st_mtime >= older_than
            if _TEMPORARY.fullmatch(path.name) and path.is_file() and old_enough and is_abandoned(path):
                path.unlink()
                swept.append(path)
    return swept


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside `target`, in which its next content is made; it vanishes at the end.

    What killed calls for the same `target` left is removed before.
    """
    for path in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if (
            re.fullmatch(_DRAWN, path.name.removeprefix(f".{target.name}."))
            and path.is_dir()
            and is_abandoned(path)
        ):
            shutil.rmtree(path, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with hold(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_place(building: Path, target: Path) -> None:
    """Give the folder `building`, made by `staging_folder`, the name `target`; what was there is removed.

    If that fails or is interrupted, `target` keeps its former content.

    Raises:
        OSError: one of them cannot be renamed.
    """
    replaced = Path(f"{building}{_REPLACED}")
    try:
        if target.exists():
            target.rename(replaced)
        building.rename(target)
    finally:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)


def restore(target: Path) -> None:
    """Give `target` its content back where a process was killed within `take_place`, between its two steps.

    Where one was killed just after, the former content has been replaced and is removed.
    """
    for replaced in target.parent.glob(f".{glob.escape(target.name)}.*{_REPLACED}"):
        building = Path(str(replaced).removesuffix(_REPLACED))
        if building.exists() and not is_abandoned(building):
            continue  # between the two at this moment
        with contextlib.suppress(OSError):
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            if target.exists():
                shutil.rmtree(replaced)
            else:
                replaced.rename(target)


def nothing_but(folder: Path, leftovers: Collection[str]) -> bool:
    """Whether the files below `folder`, in whatever folders, all have a name of `leftovers`."""
    return all(path.name in leftovers for path in folder.rglob("*") if not path.is_dir())


@contextlib.contextmanager
def locked(folder: Path, leftovers: Collection[str] = ()) -> Iterator[None]:
    """Hold `folder`, made where there is none, so that no two processes work in it.

    A folder that held nothing before and holds nothing but `leftovers` at the end vanishes again. All of this
    happens under the lock: of two starts at one instant the loser touches nothing of the winner's.

    Args:
        leftovers: names of files that are worth nothing alone.

    Raises:
        UserError: another process holds it.
    """
    import filelock  # here: it imports asyncio, and every command line needs this module

    # a moment of patience: the holder may be at its end, or the lock that of a folder that is gone
    lock = filelock.FileLock(folder / LOCK, timeout=0.05, poll_interval=0.01, fallback_to_soft=False)
    for attempt in itertools.count():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            raise UserError(
                f"another process is working on {folder}; wait for it or name another --run."
            ) from None
        except (FileExistsError, FileNotFoundError):
            if attempt < 100:
                continue  # another process ended just now, with nothing, and removed the folder
            raise
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        break
    try:
        was_empty = nothing_but(folder, {LOCK})
        try:
            yield
        finally:
            if was_empty and nothing_but(folder, {LOCK, *leftovers}):
                if os.name == "nt":
                    lock.release()  # Windows removes no file that is open
                _remove(folder)
    finally:
        lock.release()


def _remove(folder: Path) -> None:
    """Remove a folder that this process holds, its lock last: from then on another may make it anew."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path != folder / LOCK:
                path.unlink()
        (folder / LOCK).unlink()
        folder.rmdir()
