"""Containers that PyAV reads: what they are, and whether their own structure is all there.

FFmpeg ends at the end of a file that was cut, and says nothing to its caller.
"""

from light_sernet_kd.audio.containers.content import (
    BrokenError,
    Content,
    Layout,
    after_id3,
    cut_short,
    ends_at,
)

_BRANDS = {b"M4A ": "M4A", b"M4B ": "M4B", b"qt  ": "QuickTime", b"3gp": "3GP", b"3g2": "3G2"}
_NO_LENGTH = ("it does not state a length: whether it is whole cannot be told",)
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Magic bytes, name, FFmpeg's demuxer.
_MAGIC = (
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA", "asf"),
    (b"#!AMR-WB\n", "AMR-WB", "amr"),
    (b"#!AMR\n", "AMR", "amr"),
    (b"FLV\x01", "Flash video", "flv"),
    (b"ADIF", "AAC (ADIF)", "aac"),
    (b"wvpk", "WavPack", "wv"),
    (b"TTA1", "True Audio", "tta"),
    (b"MAC ", "Monkey's Audio", "ape"),
    (b"MPCK", "Musepack", "mpc8"),
    (b"MP+", "Musepack", "mpc"),
    (b"\x0b\x77", "AC-3", "ac3"),
    (b"DSD ", "DSF", "dsf"),
    (b".RMF", "RealMedia", "rm"),
    (b"\x00\x00\x01\xba", "MPEG video", "mpeg"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "MXF", "mxf"),
)
_AMR_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1)
_AMR_WB_BYTES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)


def identified(content: Content, position: int) -> Layout | None:
    """What a file is that PyAV reads; None where it is no such file.

    Args:
        position: where an ID3 tag ends, behind which AAC may stand.
    """
    start = content[:16]
    if start[4:8] in _BOXES:
        brand = content[8:12] if start[4:8] == b"ftyp" else b"qt  "
        kind = next((name for begin, name in _BRANDS.items() if brand.startswith(begin)), "MP4")
        return Layout(kind, "mov", notes=_NO_LENGTH if _is_in_open_fragments(content) else ())
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        kind = "WebM" if b"webm" in content[:64] else "Matroska"
        return Layout(kind, "matroska", notes=_NO_LENGTH if _is_live_matroska(content) else ())
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return Layout("AVI", "avi")
    if _adts_bytes(content[position : position + 7]):
        return Layout("AAC", "aac")
    for stride, offset in ((188, 0), (192, 4)):
        if len(content) > 3 * stride and all(
            content[at : at + 1] == b"G" for at in range(offset, 4 * stride, stride)
        ):
            return Layout("MPEG transport stream", "mpegts", notes=_NO_LENGTH)
    for magic, kind, demuxer in _MAGIC:
        if start.startswith(magic):
            return Layout(kind, demuxer, notes=_NO_LENGTH if demuxer in ("mpeg", "ac3") else ())
    return None


def _is_in_open_fragments(content: Content) -> bool:
    """Whether an MP4 was recorded piece by piece, and no index of the pieces (`mfra`) ends it."""
    position, name, in_fragments = 0, b"", False
    while position + 16 <= len(content):
        size, name = content.unpack(">I4s", position)
        if size == 1:
            (size,) = content.unpack(">Q", position + 8)
        if size < 8:
            break
        in_fragments |= name == b"moof"
        position += size
    return in_fragments and name != b"mfra"


def _is_live_matroska(content: Content) -> bool:
    """Whether neither the size of the whole nor a duration is told, as browsers record."""
    start = content[:4096]
    segment = start.find(b"\x18\x53\x80\x67")
    # A size of ones alone, in one byte or in eight, is unknown. 0x4489 is the duration, of 4 or 8 bytes.
    unknown = segment >= 0 and start[segment + 4 : segment + 5] in (b"\xff", b"\x01")
    if unknown and start[segment + 4] == 1:
        unknown = start[segment + 5 : segment + 12] == b"\xff" * 7
    return unknown and b"\x44\x89\x84" not in start and b"\x44\x89\x88" not in start


def check(content: Content, layout: Layout) -> None:
    """That a file's own structure reaches its end.

    Raises:
        BrokenError: it was cut.
    """
    if look := _CHECKS.get(layout.demuxer or ""):
        try:
            look(content)
        except BrokenError as error:
            raise BrokenError(f"{error} ({layout.kind})") from None


def _check_iso(content: Content) -> None:
    """MP4 and its kin: ISO/IEC 14496-12, section 4.2."""
    position, has_index = 0, False
    while position + 8 <= len(content):
        size, name = content.unpack(">I4s", position)
        if size == 1:
            (size,) = content.unpack(">Q", position + 8)
        elif size == 0:  # until the end
            size = len(content) - position
        if name == b"moov" and has_index:  # FFmpeg hears the first
            raise BrokenError(f"holds a second recording, whose moov box is at byte {position}: split it")
        has_index |= name == b"moov"
        if size < 8 or not all(32 <= letter < 127 for letter in name):
            break
        if position + size > len(content):
            raise cut_short(
                f"its {name.decode('latin-1')} box promises {size} bytes, {len(content) - position} are there"
            )
        position += size
    if not has_index:
        raise BrokenError("is damaged or cut short: its moov box, which tells where the sound is, is missing")


def _check_matroska(content: Content) -> None:
    """Matroska and WebM: RFC 8794, section 4 to 6."""
    position = 0
    while position < len(content) and not (position and ends_at(content, position)):
        _name, at = _variable(content, position, keep_marker=True)
        size, at = _variable(content, at)
        if size is None:  # unknown: its children follow
            position = at
            continue
        if at + size > len(content):
            raise cut_short(f"an element promises {size} bytes, {len(content) - at} are there")
        position = at + size


def _variable(content: Content, position: int, *, keep_marker: bool = False) -> tuple[int | None, int]:
    """A number of variable length, None for an unknown one, and where it ends."""
    (first,) = content.unpack("B", position)
    length = 9 - first.bit_length()
    if length > 8 or position + length > len(content):
        raise cut_short(f"its last element is incomplete (byte {position})")
    value = int.from_bytes(content[position : position + length], "big")
    if not keep_marker:
        value -= 1 << (7 * length)
        if value == (1 << (7 * length)) - 1:
            return None, position + length
    return value, position + length


def _check_avi(content: Content) -> None:
    position = 0
    while position + 8 <= len(content) and not (position and ends_at(content, position)):
        name, size = content.unpack("<4sI", position)
        if name not in (b"RIFF", b"JUNK", b"idx1"):
            break
        if position + 8 + size > len(content) and size < 0x7FFF_0000:
            raise cut_short(f"its header promises {size} bytes, {len(content) - position - 8} are there")
        position += 8 + size + size % 2


def _adts_bytes(header: bytes) -> int:
    """The length of the AAC frame that begins here; 0 where there is none (ISO/IEC 13818-7, 6.2)."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


def _check_adts(content: Content) -> None:
    position = after_id3(content)
    while position + 7 <= len(content) and (size := _adts_bytes(content[position : position + 7])):
        position += size
    # A length that damage changed leads elsewhere too.
    if position > len(content) or not ends_at(content, position):
        raise BrokenError(
            f"is damaged or cut short: no whole AAC frame ends at byte {min(position, len(content))}"
        )


def _check_amr(content: Content) -> None:
    """RFC 4867, section 5.3."""
    wide = content[:9] == b"#!AMR-WB\n"
    position, sizes = (9, _AMR_WB_BYTES) if wide else (6, _AMR_BYTES)
    while position < len(content):
        (first,) = content.unpack("B", position)
        position += sizes[first >> 3 & 15]
    if position > len(content):
        raise cut_short("its last AMR frame is incomplete")


def _check_asf(content: Content) -> None:
    """The objects at the top, each a GUID and a size: ASF specification, section 2."""
    position = 0
    while position + 24 <= len(content) and not (position and ends_at(content, position)):
        (size,) = content.unpack("<Q", position + 16)
        if size < 24:
            return
        if position + size > len(content):
            raise cut_short(f"an object promises {size} bytes, {len(content) - position} are there")
        position += size


def _check_flv(content: Content) -> None:
    (position,) = content.unpack(">I", 5)
    position += 4
    while position + 11 <= len(content) and not ends_at(content, position):
        size = int.from_bytes(content[position + 1 : position + 4], "big")
        position += 11 + size + 4
        if position > len(content):
            raise cut_short("its last tag is incomplete")


def _check_transport_stream(content: Content) -> None:
    stride = 188 if content[:1] == b"G" else 192
    if len(content) % stride and not ends_at(content, len(content) - len(content) % stride):
        raise cut_short("its last packet is incomplete")


_CHECKS = {
    "aac": _check_adts,
    "amr": _check_amr,
    "asf": _check_asf,
    "avi": _check_avi,
    "flv": _check_flv,
    "matroska": _check_matroska,
    "mov": _check_iso,
    "mpegts": _check_transport_stream,
}
