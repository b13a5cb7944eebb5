"""MP3 and its kin by their frames: ISO/IEC 11172-3 and 13818-3, and the header that LAME and Xing add."""

import struct
from dataclasses import dataclass, field

from light_sernet_kd.audio.containers.content import (
    BrokenError,
    Content,
    Layout,
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
        stated: the frames that the header of LAME or Xing counts; None where there is none.
        is_surplus: it follows where the header of the one before says that it ends.
        ranges: where its frames lie, with nothing else between them.
    """

    stated: int | None = None
    is_surplus: bool = False
    frames: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return self.stated is not None and self.frames >= self.stated

    def add(self, start: int, stop: int) -> None:
        if self.ranges and self.ranges[-1][1] == start:
            start = self.ranges.pop()[0]
        self.ranges.append((start, stop))
        self.frames += 1


def mpeg(content: Content, start: int = 0, stop: int | None = None) -> Layout:
    """MP3 or its kin, by itself or in a part of a file.

    Raises:
        BrokenError: the file is damaged or cut short.
    """
    stop = len(content) if stop is None else stop
    streams, passed, partial = _streams(content, start, stop)
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
    notes: tuple[str, ...] = ()
    if more := [stream for stream in streams if stream.is_surplus]:
        frames = sum(stream.frames for stream in more)
        notes += (f"{frames} MPEG frames follow those that its header promises: all are read",)
    if passed:
        notes += (f"{passed} bytes of it are no MPEG frames and are passed over",)
    ranges = streams[0].ranges
    mended = len(streams) > 1 or len(ranges) > 1 or ranges[0][0] > after_id3(content) or stop < len(content)
    return Layout(
        "MP3",
        parts=[stream.ranges for stream in streams] if mended else (),
        states_length=all(stream.stated is not None for stream in streams),
        notes=notes,
    )


def _streams(content: Content, start: int, end: int) -> tuple[list[_Stream], int, bool]:
    """The recordings, the bytes between frames that are none, and whether the last frame is cut."""
    position = after_id3(content, start)
    streams: list[_Stream] = []
    passed = 0
    begins = True
    while position < end:
        size = frame_bytes(content[position : position + 4])
        if size and position + size > end:
            return streams, passed, True
        if not size:
            behind = after_id3(content, position)
            if behind > position:
                begins = True
            elif ends_at(content, position):
                break
            else:
                behind = _next_frame(content, position + 1)
                if streams or any(content[position : max(behind, position)]):
                    passed += (end if behind < 0 else behind) - position
                if behind < 0:
                    break
            position = behind
            continue
        frame = content[position : position + size]
        stated = _stated(frame)
        if begins or stated is not None or streams[-1].is_full:
            surplus = not begins and stated is None
            streams.append(_Stream(stated, surplus, frames=-(stated is not None)))
            begins = False
        if stated is None and not _is_sound(frame):
            raise BrokenError(f"is damaged: the MPEG frame at byte {position} is")
        streams[-1].add(position, position + size)
        position += size
    return streams, passed, False


def _is_sound(frame: bytes) -> bool:
    """Whether the side information of a frame of layer III is possible; decoders mute it where it is not.

    Source: ISO/IEC 11172-3, 2.4.1.7, and 13818-3, 2.4.1.7.
    """
    if frame[1] >> 1 & 3 != 1:  # another layer
        return True
    first_version, mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3
    start = 4 if frame[1] & 1 else 6
    length = (17 if mono else 32) if first_version else (9 if mono else 17)
    info = int.from_bytes(frame[start : start + length], "big")
    # How many bytes of its sound lie in earlier frames.
    held = info >> (8 * length - 9) if first_version else info >> (8 * length - 8)
    used = 0
    width = 59 if first_version else 63  # bits that describe a granule of a channel, the last of them last
    for place in range((1 if mono else 2) * (2 if first_version else 1)):
        granule = info >> place * width
        used += granule >> (width - 12) & 0xFFF
        if granule >> (width - 21) & 0x1FF > 288:  # pairs of values, of 576
            return False
        switch = granule >> (23 if first_version else 22) & 7
        if switch == 4:  # a window of the usual kind that is said to be another
            return False
    return used <= 8 * (held + len(frame) - start - length)


def _next_frame(content: Content, position: int) -> int:
    """Where the next two frames in a row begin, within some reach; -1 where they do not."""
    stop = min(len(content), position + _RESYNC)
    while position < stop:
        offset = content[position:stop].find(b"\xff")
        if offset < 0:
            return -1
        position += offset
        size = frame_bytes(content[position : position + 4])
        if size and (
            position + size == len(content) or frame_bytes(content[position + size : position + size + 4])
        ):
            return position
        position += 1
    return -1


def _stated(frame: bytes) -> int | None:
    """How many frames the header of LAME or Xing counts; None where there is none."""
    at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if at < 0 or at > 40 or any(frame[6:at]) or len(frame) < at + 16:
        return None
    flags, frames = struct.unpack_from(">II", frame, at + 4)
    return frames if flags & 1 else None
