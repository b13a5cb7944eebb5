"""The one reader of files of arrays: `.npz` archives, and `.npy` files that are mapped into memory.

Whatever is wrong with a file is one `ArrayError`; an array that differs from what was written is never given.
Every member is read to its end, so that its CRC is compared, and must be exactly as long as its header says.
Files that this package writes also end in a SHA-256 of their content (`files.write_arrays`, `write_blocks`).
Nothing in a file is executed, and memory is bounded by the file's own size.
"""

import ast
import contextlib
import errno
import logging
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from light_sernet_kd.errors import first_line
from light_sernet_kd.files import (
    SEAL,
    SEAL_BYTES,
    JsonError,
    UnusableFileError,
    content_digest,
    irregular,
    seal,
)

# What an archive may unpack to: so many bytes, or so many times its own size.
UNPACKED_BYTES = 2**29
UNPACKED_TIMES = 8
# Mapped files up to this size are hashed when they are opened, in about a second. Of larger ones, header
# and size are compared.
HASHED_BYTES = 2**30

_HEADER_BYTES = 10_000
_CHUNK_BYTES = 2**20
# Deflate makes at most 1032 bytes of one (zlib's documentation), and some of nothing.
_DEFLATE_TIMES = 1032
_PLAIN_TYPE = re.compile(r"[<>|=]?[biufcSU]\d{1,9}")
_END_RECORD = b"PK\5\6"
_END_RECORD_BYTES = 22
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_log = logging.getLogger("light_sernet_kd")


class ArrayError(UnusableFileError):
    """A file of arrays that cannot be used."""


@dataclass(frozen=True)
class Expected:
    """What an array must be.

    Attributes:
        shape: its shape, None for any; None in it for an axis of any length.
        kinds: letters of NumPy's kinds of types: by default any number.
        finite: whether every number must be finite.
    """

    shape: tuple[int | None, ...] | None = None
    kinds: str = "fiu"
    finite: bool = False


def read_arrays(
    path: str | os.PathLike[str], *, expected: Mapping[str, Expected] | None = None, sealed: bool = False
) -> dict[str, np.ndarray]:
    """Every array of an `.npz`, by name; in this machine's byte order.

    Args:
        expected: names that must be there, and what they must be. Others may be there too.
        sealed: whether a file that does not end in a hash of its content is refused.

    Raises:
        FileNotFoundError: there is no such file; NotADirectoryError: nor its folder.
        ArrayError: it cannot be read, is damaged or too large, or is not what is expected.
    """
    with open_arrays(path, expected=expected, sealed=sealed) as arrays:
        return dict(arrays)


@contextlib.contextmanager
def open_arrays(
    path: str | os.PathLike[str], *, expected: Mapping[str, Expected] | None = None, sealed: bool = False
) -> Iterator["ArrayFile"]:
    """As `read_arrays`, but an array is read when it is asked for.

    With `sealed`, all of the content is compared with its hash before the first array is given.
    """
    with contextlib.ExitStack() as stack:
        with _one_error(path):
            file = stack.enter_context(_opened(path))
            size = os.fstat(file.fileno()).st_size
            _check_seal(path, file, size, required=sealed)
            archive = stack.enter_context(_archive(path, file))
            arrays = ArrayFile(path, archive, _members(path, archive, file, size), expected or {})
        yield arrays


class ArrayFile(Mapping[str, np.ndarray]):
    """Arrays by name in an archive that is open.

    Raises:
        ArrayError: a name is there twice, or one that is expected is missing; an array that is read is
            damaged or not as expected.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        archive: zipfile.ZipFile,
        members: Iterable[zipfile.ZipInfo],
        expected: Mapping[str, Expected],
    ):
        self._path, self._archive, self._expected = path, archive, expected
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise ArrayError(path, f"is damaged (it holds {name} twice)")
            self._members[name] = member
        if missing := [name for name in expected if name not in self._members]:
            holds = ", ".join(self._members) or "nothing"
            raise ArrayError(path, f"lacks {', '.join(missing)}; it holds {holds}")

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> np.ndarray:
        with _one_error(self._path), self._archive.open(self._members[name]) as file:
            array = _read_member(self._path, name, file, self._members[name].file_size)
        if name in self._expected:
            _check(self._path, name, array, self._expected[name])
        return array


def open_mapped(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int | None, ...],
    dtype: np.dtype,
    most_bytes: int = HASHED_BYTES,
) -> np.ndarray:
    """The array of an `.npy`, mapped into memory, read-only.

    Args:
        shape: as in `Expected`.
        dtype: may be structured.
        most_bytes: the content of a larger file is not compared with its hash; header and size always are
            what is expected.

    Raises:
        FileNotFoundError: there is no such file; NotADirectoryError: nor its folder.
        ArrayError: it cannot be read, is damaged, or holds another array than is expected.
    """
    with _one_error(path):
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            found_shape, fortran_order, found_dtype = _read_header(path, "the file", file)
            offset = file.tell()
            if found_dtype != dtype or fortran_order or not _fits(found_shape, shape):
                raise ArrayError(
                    path, f"is damaged (it holds {found_dtype} {found_shape}; expected {dtype} {shape})"
                )
            seal_bytes = _check_seal(path, file, size, required=True, most_bytes=most_bytes)
        content_bytes = math.prod(found_shape) * dtype.itemsize
        if size - offset - seal_bytes != content_bytes:
            raise ArrayError(
                path, f"is damaged (it has {size - offset - seal_bytes:,} bytes of {content_bytes:,})"
            )
        if not content_bytes:
            return np.empty(found_shape, dtype)  # nothing cannot be mapped
        return np.memmap(path, dtype, "r", offset, found_shape)


def write_blocks(
    file: IO[bytes], blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype
) -> None:
    """Write an `.npy`, block after block, that ends in a hash of its content; NumPy reads it as any other.

    Args:
        file: open for reading and writing, empty.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        np.asarray(block, dtype).tofile(file)
    seal(file)


def check_archive(path: str | os.PathLike[str]) -> None:
    """See that every member of an archive, of arrays or not, can be read and has the CRC that was written.

    Raises:
        FileNotFoundError: there is no such file; NotADirectoryError: nor its folder.
        ArrayError: it cannot be read, is damaged or too large.
    """
    with _one_error(path), _opened(path) as file, _archive(path, file) as archive:
        for member in _members(path, archive, file, os.fstat(file.fileno()).st_size):
            with archive.open(member) as content:
                while content.read(_CHUNK_BYTES):
                    pass


def say_anew(error: ArrayError | JsonError, what: str = "it is made anew") -> None:
    """Log in one line, which Python puts on stderr, what becomes of a file that is of no use."""
    _log.warning("%s %s: %s.", error.path, error.why, what)


# Files and their seals


@contextlib.contextmanager
def _one_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever is raised within becomes an `ArrayError`, but that a file is not there."""
    try:
        yield
    except (ArrayError, FileNotFoundError, NotADirectoryError):
        raise
    except MemoryError:
        raise ArrayError(path, "needs more memory than there is") from None
    # EINVAL: a place before the file's beginning
    except OSError as error:
        if error.errno is not None and error.errno != errno.EINVAL:
            raise ArrayError(path, f"cannot be read: {error.strerror}") from None
        raise ArrayError(path, f"is damaged ({error})") from None
    # What a damaged archive or header raises depends on where it is damaged.
    except Exception as error:
        raise ArrayError(path, f"is damaged ({first_line(error, 200)})") from None


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    if why := irregular(path):
        raise ArrayError(path, why)
    return open(path, "rb")


def _check_seal(
    path: str | os.PathLike[str],
    file: IO[bytes],
    size: int,
    *,
    required: bool,
    most_bytes: int | None = None,
) -> int:
    """Compare the content with its hash, of a file up to `most_bytes`; returns the size of the seal or 0."""
    file.seek(max(0, size - SEAL_BYTES))
    stored_seal = file.read(SEAL_BYTES)
    if len(stored_seal) < SEAL_BYTES or not stored_seal.startswith(SEAL):
        if required:
            raise ArrayError(path, "is damaged (it does not end in its hash)")
        return 0
    is_hashed = most_bytes is None or size <= most_bytes
    if is_hashed and stored_seal[len(SEAL) :] != content_digest(file, size - SEAL_BYTES):
        raise ArrayError(path, "is damaged (its content has another hash than when it was written)")
    return SEAL_BYTES


# Archives


def lists_all(archive: zipfile.ZipFile, file: IO[bytes], size: int) -> bool:
    """Whether an archive, of `size` bytes, lists as many members as it says: `zipfile` does not compare."""
    file.seek(max(0, size - _END_RECORD_BYTES - len(archive.comment)))
    record = file.read(_END_RECORD_BYTES)
    count = int.from_bytes(record[10:12], "little")
    # 0xFFFF: the count is elsewhere, in an archive of more members
    return record.startswith(_END_RECORD) and count in (len(archive.infolist()), 0xFFFF)


def _archive(path: str | os.PathLike[str], file: IO[bytes]) -> zipfile.ZipFile:
    file.seek(0)
    if not zipfile.is_zipfile(file):
        raise ArrayError(path, "is no archive of arrays")
    return zipfile.ZipFile(file)


def _members(
    path: str | os.PathLike[str], archive: zipfile.ZipFile, file: IO[bytes], size: int
) -> list[zipfile.ZipInfo]:
    """The members, of which none is locked, packed in an unknown way or larger than its bytes can make."""
    members = archive.infolist()
    if not lists_all(archive, file, size):
        raise ArrayError(path, "is damaged (its list of members is not whole)")
    for member in members:
        name, packed, unpacked = member.filename, member.compress_size, member.file_size
        if member.flag_bits & 0x1:
            raise ArrayError(path, f"is locked by a password ({name})")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
            raise ArrayError(path, f"is damaged, or packed by {method}, which NumPy does not write ({name})")
        stored = member.compress_type == zipfile.ZIP_STORED
        if (unpacked != packed) if stored else (unpacked > _DEFLATE_TIMES * (packed + 1)):
            raise ArrayError(path, f"is damaged ({name}: {packed:,} bytes cannot hold {unpacked:,})")
    total, limit = sum(each.file_size for each in members), max(UNPACKED_BYTES, UNPACKED_TIMES * size)
    if total > limit:
        raise ArrayError(
            path,
            f"unpacks to {total / 1e6:,.0f} MB from {size / 1e6:,.1f} MB; at most {limit / 1e6:,.0f} MB are "
            f"read ({UNPACKED_TIMES} times its size, or {UNPACKED_BYTES / 1e6:,.0f} MB)",
        )
    if sum(each.compress_size for each in members) > size:
        raise ArrayError(path, "is damaged (its members overlap)")
    return members


# Arrays


def _read_member(path: str | os.PathLike[str], name: str, file: IO[bytes], size: int) -> np.ndarray:
    """The array of a member of `size` bytes; of what is no `.npy`, its bytes, as NumPy reads them."""
    magic = file.read(6)
    if magic != np.lib.format.MAGIC_PREFIX:
        # a part at a time: all at once would be all that it unpacks to, whatever it says
        return np.asarray(magic + b"".join(iter(lambda: file.read(_CHUNK_BYTES), b"")))
    file.seek(0)
    shape, fortran_order, dtype = _read_header(path, name, file)
    if dtype.kind not in "biufcSU":
        raise ArrayError(path, f"holds neither numbers nor text ({name}: type {str(dtype)[:40]!r})")
    count, content_bytes = math.prod(shape), size - file.tell()
    if count * dtype.itemsize != content_bytes or (count and not dtype.itemsize):
        raise ArrayError(path, f"is damaged ({name} has {content_bytes:,} bytes; expected {dtype} {shape})")
    content = np.empty(content_bytes, np.uint8)
    view, filled = content.data, 0
    while filled < content_bytes:
        got = file.readinto(view[filled : filled + _CHUNK_BYTES])  # type: ignore[attr-defined]
        if not got:
            raise ArrayError(path, f"is damaged ({name} ends early)")
        filled += got
    file.read(1)  # at a member's end, its CRC is compared
    array = np.ndarray(shape, dtype, content, order="F" if fortran_order else "C")
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    if dtype.kind == "U" and array.size and array.ravel().view(np.uint32).max() > 0x10FFFF:
        raise ArrayError(path, f"is damaged ({name} holds what is no character)")
    return array


def _read_header(
    path: str | os.PathLike[str], name: str, file: IO[bytes]
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type, of an `.npy`; leaves the file where the numbers begin.

    Source: NumPy's NEP 1, versions 1.0 to 3.0 of the format.
    """
    magic = file.read(8)
    if magic[:6] != np.lib.format.MAGIC_PREFIX or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ArrayError(path, f"is damaged ({name} is no array of NumPy)")
    length = int.from_bytes(file.read(2 if magic[6] == 1 else 4), "little")
    text = file.read(length) if length <= _HEADER_BYTES else b""
    if len(text) != length:
        raise ArrayError(path, f"is damaged (the header of {name} has {length:,} bytes)")
    try:
        header = ast.literal_eval(text.decode("utf-8" if magic[6] == 3 else "latin-1"))
    except Exception:  # a parser's, of nested or broken text, are a dozen
        header = None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ArrayError(path, f"is damaged (the header of {name} cannot be read)")
    shape, fortran_order = header["shape"], header["fortran_order"]
    whole = isinstance(shape, tuple) and all(type(each) is int and each >= 0 for each in shape)
    if not whole or type(fortran_order) is not bool:
        raise ArrayError(path, f"is damaged ({name} has the shape {str(shape)[:80]})")
    return shape, fortran_order, _dtype(path, name, header["descr"])


def _dtype(path: str | os.PathLike[str], name: str, described: Any) -> np.dtype:
    if isinstance(described, str) and "O" in described:
        raise ArrayError(path, f"holds Python objects ({name}), which are not read")
    # Structured types are of files that are mapped; a member that has one is refused by its kind.
    if isinstance(described, str) and not _PLAIN_TYPE.fullmatch(described):
        raise ArrayError(path, f"holds neither numbers nor text ({name}: type {described[:40]!r})")
    dtype = np.lib.format.descr_to_dtype(described)
    if dtype.hasobject:
        raise ArrayError(path, f"holds Python objects ({name}), which are not read")
    return dtype


def _check(path: str | os.PathLike[str], name: str, array: np.ndarray, expected: Expected) -> None:
    shape = expected.shape
    if array.dtype.kind not in expected.kinds or (shape is not None and not _fits(array.shape, shape)):
        kind = "text" if expected.kinds == "U" else "numbers"
        wanted = kind if shape is None else f"{kind} {shape}"
        raise ArrayError(path, f"does not fit: {name} is {array.dtype} {array.shape}; expected {wanted}")
    if expected.finite and not np.isfinite(array).all():
        raise ArrayError(path, f"is damaged ({name} holds numbers that are not finite)")


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        want is None or have == want for have, want in zip(shape, expected, strict=True)
    )
