"""FLAC by its own headers: RFC 9639."""

from collections.abc import Iterator
from dataclasses import dataclass

from light_sernet_kd.audio.containers.content import BrokenError, Content, Layout, Piece, after_id3, cut_short

_RATES = (0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
_BITS = (0, 8, 12, 0, 16, 20, 24, 32)
_STREAMINFO = b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22"
# Encoders write frames of some 10 kB at most; a stream of longer ones is counted as it is decoded.
_TAIL = 2**15
_CANDIDATES = 3


@dataclass(frozen=True)
class _Info:
    """The STREAMINFO block of one stream (section 8.2)."""

    start: int
    first_frame: int
    block_samples: int
    sample_rate: int
    channels: int
    bits: int
    frames: int


def flac(content: Content) -> Layout:
    """FLAC, of one stream or several behind one another.

    Raises:
        BrokenError: the file is damaged or cut short.
    """
    starts = list(_streams(content))
    parts: list[list[Piece]] = []
    notes: tuple[str, ...] = ()
    mended = len(starts) > 1 or starts[0] > 0
    promised: list[int] = []
    for start, stop in zip(starts, [*starts[1:], len(content)], strict=True):
        info = _info(content, start)
        _check_first_frame(content, info)
        held = _held(content, info, stop)
        if info.frames and held is not None and held < info.frames:
            raise cut_short(f"its header promises {info.frames} samples, {held} are there")
        if info.frames and held is not None and held > info.frames:
            notes += (f"its header promises {info.frames} samples, {held} follow: all are read",)
        if info.frames and held != info.frames:
            # Without its count, the decoder goes on to the end.
            mended = True
            (byte,) = content[start + 21 : start + 22]
            parts.append([(start, start + 21), bytes([byte & 0xF0]) + bytes(4), (start + 26, stop)])
        else:
            parts.append([(start, stop)])
        promised.append(info.frames if held is None else held)
    frames = sum(promised) if all(promised) else None
    return Layout("FLAC", parts=parts if mended else (), frames=frames, notes=notes)


def _streams(content: Content) -> Iterator[int]:
    """Where FLAC streams begin: usually one, at the start or behind an ID3 tag."""
    start = after_id3(content)
    yield start
    position = content.find(b"fLaC", start + 4)
    while position >= 0:
        if content[position : position + 8] in _STREAMINFO:
            yield position
        position = content.find(b"fLaC", position + 4)


def _info(content: Content, start: int) -> _Info:
    if content[start + 4 : start + 8][1:] != b"\0\0\x22" or content[start + 4 : start + 5] not in (
        b"\0",
        b"\x80",
    ):
        raise BrokenError("is damaged or cut short: its first block is not STREAMINFO")
    least, _, _, _, packed = content.unpack(">HH3s3sQ", start + 8)
    position, last = start + 4, False
    while not last:
        kind, high, low = content.unpack(">BBH", position)
        last = bool(kind & 0x80)
        position += 4 + (high << 16 | low)
    return _Info(
        start, position, least, packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1,
        packed & (2**36 - 1),
    )  # fmt: skip


@dataclass(frozen=True)
class _Frame:
    """A frame header (section 9.1); 0 stands for what STREAMINFO tells."""

    first_sample: int
    samples: int
    sample_rate: int
    channels: int
    bits: int


def _frame(data: bytes, at: int, block_samples: int) -> _Frame | None:
    """The header at `at`; None where there is none."""
    if len(data) < at + 6 or data[at] != 0xFF or data[at + 1] & 0xFE != 0xF8 or data[at + 3] & 1:
        return None
    size_code, rate_code = data[at + 2] >> 4, data[at + 2] & 15
    channel_code, bits_code = data[at + 3] >> 4, data[at + 3] >> 1 & 7
    if size_code == 0 or rate_code == 15 or channel_code > 10:
        return None
    number, end = _coded_number(data, at + 4)
    extra = {6: 1, 7: 2}.get(size_code, 0)
    samples = (
        192 if size_code == 1
        else 576 << (size_code - 2) if size_code < 6
        else int.from_bytes(data[end : end + extra], "big") + 1 if extra
        else 256 << (size_code - 8)
    )  # fmt: skip
    end += extra
    wide = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    spelled = int.from_bytes(data[end : end + wide], "big") * {12: 1000, 14: 10}.get(rate_code, 1)
    end += wide
    if number is None or end >= len(data) or _crc8(data[at:end]) != data[end]:
        return None
    return _Frame(
        first_sample=number if data[at + 1] & 1 else number * block_samples,
        samples=samples,
        sample_rate=spelled if wide else _RATES[rate_code],
        channels=channel_code + 1 if channel_code < 8 else 2,
        bits=_BITS[bits_code],
    )


def _coded_number(data: bytes, at: int) -> tuple[int | None, int]:
    """A number in the way of UTF-8 (section 9.1.5), and where it ends."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    length = next((n for n in range(2, 8) if first >> (7 - n) == (1 << (n + 1)) - 2), 0)
    following = data[at + 1 : at + length]
    if not length or len(following) < length - 1 or any(byte & 0xC0 != 0x80 for byte in following):
        return None, at + 1
    number = first & ((1 << (7 - length)) - 1)
    for byte in following:
        number = number << 6 | byte & 0x3F
    return number, at + length


def _check_first_frame(content: Content, info: _Info) -> None:
    """That STREAMINFO tells of the frames what they tell of themselves; decoders trust it unseen."""
    frame = _frame(content[info.first_frame : info.first_frame + 20], 0, info.block_samples)
    if frame is None:
        return
    for what, stated, actual in (
        ("Hz", info.sample_rate, frame.sample_rate),
        ("channels", info.channels, frame.channels),
        ("bits", info.bits, frame.bits),
    ):
        if actual and actual != stated:
            raise BrokenError(f"is damaged: its header says {stated} {what}, its samples {actual}")


def _held(content: Content, info: _Info, stop: int) -> int | None:
    """How many samples a stream that ends at `stop` holds, by its last frame; None where it is not clear.

    Raises:
        BrokenError: the last frame of a stream that does not tell its length is cut.
    """
    tail = content[max(info.first_frame, stop - _TAIL) : stop]
    # Tags of other formats may follow.
    if tail[-128:-125] == b"TAG":
        tail = tail[:-128]
    tail = tail.rstrip(b"\0") + b"\0" * 2  # a check sum may end in zeros
    at, candidates = len(tail), 0
    while candidates < _CANDIDATES:
        at = max(tail.rfind(b"\xff\xf8", 0, at), tail.rfind(b"\xff\xf9", 0, at))
        if at < 0:
            break
        frame = _frame(tail, at, info.block_samples)
        if frame is None:
            continue
        held = frame.first_sample + frame.samples
        # Bytes may look like a header by chance; the frame's own check sum leaves no doubt.
        if held == info.frames or _crc16(tail[at:]) == 0:
            return held
        candidates += 1
    if candidates and not info.frames:
        raise cut_short("its last FLAC frame is incomplete")
    return None


def _table(polynomial: int, bits: int) -> list[int]:
    top, mask = 1 << (bits - 1), (1 << bits) - 1
    table = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
        table.append(value)
    return table


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _CRC16[value >> 8 ^ byte]
    return value
