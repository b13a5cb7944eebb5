"""A file's bytes by position, parts of it as a file, and what a look at its structure tells."""

import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# Bytes, or a range (start, stop) of the file.
Piece = bytes | tuple[int, int]

_FIRST_WINDOW, _WINDOW = 2**12, 2**16
_MOST_PADDING = 2**16


class BrokenError(ValueError):
    """What is wrong with a file, in words that follow its name."""


def cut_short(why: str) -> BrokenError:
    return BrokenError(f"is cut short: {why}")


@dataclass(frozen=True)
class Layout:
    """What a file is and how it is read whole.

    Attributes:
        kind: of container, and of codec where that matters, such as `WAV` or `Ogg Opus`.
        demuxer: of FFmpeg, where PyAV reads it; None where libsndfile does.
        parts: what is read one after the other, each as a file of its own; empty where the file is read as
            it is.
        sample_bytes: that the header, mended where it must be, states for all samples; None where it does
            not, or in blocks of several samples.
        frames: samples of one channel that the file states; None where it does not or the reader knows.
        states_length: whether the reader's count of samples is the file's own, and no guess from its size.
        notes: what the user should know of it.
    """

    kind: str
    demuxer: str | None = None
    parts: Sequence[Sequence[Piece]] = ()
    sample_bytes: int | None = None
    frames: int | None = None
    states_length: bool = True
    notes: tuple[str, ...] = field(default=())


class Content:
    """The bytes of an open file by position, `content[start:stop]`, of which little is held."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._start, self._window = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: slice) -> bytes:
        start, stop = where.start or 0, self._size if where.stop is None else where.stop
        if where.step is not None or start < 0 or stop < 0:
            raise ValueError("bytes are given in order, from a position of the file")
        stop = min(stop, self._size)
        low, high = start - self._start, stop - self._start
        if low < 0 or high > len(self._window):
            self._start = start
            self._window = self._read(start, max(stop - start, _WINDOW if start else _FIRST_WINDOW))
            low, high = 0, stop - start
        return self._window[low:high] if stop > start else b""

    def unpack(self, form: str, position: int) -> tuple[Any, ...]:
        """As `struct.unpack`.

        Raises:
            BrokenError: the file ends before.
        """
        size = struct.calcsize(form)
        if position < 0 or position + size > self._size:
            raise cut_short(f"its header ends at byte {self._size}")
        return struct.unpack(form, self[position : position + size])

    def find(self, wanted: bytes, start: int = 0) -> int:
        """The first position from `start` on; -1 where there is none."""
        while start + len(wanted) <= self._size:
            window = self._read(start, 2**20)
            if (offset := window.find(wanted)) >= 0:
                return start + offset
            if len(window) < len(wanted):
                break
            start += len(window) - len(wanted) + 1
        return -1

    def _read(self, start: int, size: int) -> bytes:
        size = min(size, max(0, self._size - start))  # room for more would be made all the same
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, start)
        os.lseek(self._descriptor, start, os.SEEK_SET)
        return os.read(self._descriptor, size)


def ends_at(content: Content, position: int) -> bool:
    """Whether nothing follows but what writers of tags leave behind: ID3, APE, or zeros."""
    rest = len(content) - position
    start = content[position : position + 8]
    if rest <= 0 or start.startswith((b"ID3", b"APETAGEX", b"LYRICSBE")):
        return True
    if rest == 128 and start.startswith(b"TAG"):
        return True
    return rest <= _MOST_PADDING and not any(content[position : len(content)])


def after_id3(content: Content, position: int = 0) -> int:
    """Where an ID3 tag at `position` ends; `position` itself where there is none."""
    while content[position : position + 3] == b"ID3" and position + 10 <= len(content):
        flags, *sizes = content[position + 5 : position + 10]
        # ID3v2.4, section 3.1: four bytes of seven bits; a flag adds a footer.
        size = sum((byte & 127) << shift for byte, shift in zip(sizes, (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if flags & 0x10 else 0)
    return position


class Spliced(io.RawIOBase):
    """Pieces of a file as a file of their own, to be read."""

    def __init__(self, content: Content, pieces: Sequence[Piece]):
        super().__init__()
        self._content = content
        self._pieces: list[tuple[int, Piece]] = []
        self._length = self._position = 0
        for piece in pieces:
            self._pieces.append((self._length, piece))
            self._length += len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        # libsndfile probes positions before the start; an error inside its callback would be printed
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        for at, piece in self._pieces:
            size = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            low = self._position - at
            if not 0 <= low < size or done == len(view):
                continue
            taken = min(size - low, len(view) - done)
            if isinstance(piece, bytes):
                piece_bytes = piece[low : low + taken]
            else:
                piece_bytes = self._content[piece[0] + low : piece[0] + low + taken]
            view[done : done + len(piece_bytes)] = piece_bytes
            done += len(piece_bytes)
            self._position += len(piece_bytes)
            if len(piece_bytes) < taken:  # the file became shorter
                break
        return done
