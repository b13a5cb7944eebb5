"""MP3 and its kin by their frames: ISO/IEC 11172-3 and 13818-3, and the header that LAME and Xing add."""

import struct
from dataclasses import dataclass

from light_sernet_kd.containers.content import (
    BrokenError,
    Content,
    Layout,
    Piece,
    after_id3,
    cut_short,
    ends_at,
)

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}
# In kbit/s, by (is it MPEG-1, layer).
_BIT_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BIT_RATES[False, 3] = _BIT_RATES[False, 2]
_RESYNC = 2**16


def frame_bytes(header: bytes) -> int:
    """The length of the frame that these four bytes begin; 0 where they begin none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate, bit_rate, padding = header[2] >> 2 & 3, header[2] >> 4, header[2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or not 1 <= bit_rate <= 14:
        return 0
    bits = 1000 * _BIT_RATES[version == 3, layer][bit_rate - 1]
    hertz = _RATES[version][rate]
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


@dataclass
class _Stream:
    """One recording; several may lie behind one another.

    Attributes:
        sizes_at: where the header of LAME or Xing tells the number of bytes; None where it does not.
        stated: the frames that header counts; None where it does not.
        is_surplus: it follows where the header of the one before says that it ends.
    """

    start: int
    stop: int = 0
    frames: int = 0
    stated: int | None = None
    sizes_at: int | None = None
    is_surplus: bool = False


def mpeg(content: Content) -> Layout:
    streams, passed, partial = _streams(content)
    if not streams and partial:
        raise BrokenError("is damaged or cut short: its first MPEG frame is incomplete")
    if not streams:
        return Layout("MP3")
    for stream in streams:
        # Some writers count the header's own frame too.
        if stream.stated is not None and stream.frames < stream.stated - (0 if partial else 1):
            raise cut_short(f"its header promises {stream.stated} MPEG frames, {stream.frames} are there")
    if partial:
        raise cut_short("its last MPEG frame is incomplete")
    parts: list[list[Piece]] = []
    mended = len(streams) > 1
    for stream in streams:
        pieces: list[Piece] = [(stream.start, stream.stop)]
        if stream.sizes_at is not None:
            (size,) = content.unpack(">I", stream.sizes_at)
            real = stream.stop - stream.start
            # mpg123 writes to stderr where they differ, as they do in front of tags
            if abs(size - (len(content) if not mended else real)) > real // 200:
                mended = True
            fields = struct.pack(">I", real & 0xFFFF_FFFF)
            pieces = [(stream.start, stream.sizes_at), fields, (stream.sizes_at + 4, stream.stop)]
        parts.append(pieces)
    notes: tuple[str, ...] = ()
    if more := [stream for stream in streams if stream.is_surplus]:
        frames = sum(stream.frames for stream in more)
        notes += (f"{frames} MPEG frames follow those that its header promises: all are read",)
    if passed:
        notes += (f"{passed} bytes of it are no MPEG frames and are passed over",)
    return Layout(
        "MP3",
        parts=parts if mended else (),
        states_length=all(stream.stated is not None for stream in streams),
        notes=notes,
    )


def _streams(content: Content) -> tuple[list[_Stream], int, bool]:
    """The recordings, the bytes between frames that are none, and whether the last frame is cut."""
    position, end = after_id3(content), len(content)
    streams: list[_Stream] = []
    passed = 0
    begins = True
    while position < end:
        header = content[position : position + 4]
        size = frame_bytes(header)
        if size and position + size > end:
            return streams, passed, True
        if not size:
            if ends_at(content, position) and content[position : position + 3] != b"ID3":
                break
            behind = after_id3(content, position)
            if behind == position:
                behind = _next_frame(content, position + 1)
                if behind < 0:
                    passed += (end - position) if streams else 0
                    break
                if streams or any(content[position:behind]):
                    passed += behind - position
            else:
                begins = True
            position = behind
            continue
        stated, sizes_at = _stated(content, position, size)
        full = bool(streams) and streams[-1].stated is not None and streams[-1].frames >= streams[-1].stated
        if begins or not streams or stated is not None or full:
            surplus = not begins and stated is None and full
            streams.append(_Stream(position, stated=stated, sizes_at=sizes_at, is_surplus=surplus))
            begins = False
            streams[-1].frames -= stated is not None
        streams[-1].frames += 1
        position += size
        streams[-1].stop = position
    return streams, passed, False


def _next_frame(content: Content, position: int) -> int:
    """Where the next two frames in a row begin, within some reach; -1 where they do not."""
    stop = min(len(content), position + _RESYNC)
    while position < stop:
        found = content[position:stop].find(b"\xff")
        if found < 0:
            return -1
        position += found
        size = frame_bytes(content[position : position + 4])
        if size and (
            position + size == len(content) or frame_bytes(content[position + size : position + size + 4])
        ):
            return position
        position += 1
    return -1


def _stated(content: Content, position: int, size: int) -> tuple[int | None, int | None]:
    """How many frames the header of LAME or Xing counts, and where it counts their bytes."""
    frame = content[position : position + min(size, 64)]
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or at > 40 or any(frame[6:at]):
        return None, None
    (flags,) = struct.unpack_from(">I", frame.ljust(64, b"\0"), at + 4)
    if not flags & 1:
        return None, None
    (frames,) = struct.unpack_from(">I", frame.ljust(64, b"\0"), at + 8)
    return frames, position + at + 12 if flags & 2 else None
