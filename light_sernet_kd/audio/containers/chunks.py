"""Containers of plain samples behind a header: WAV and its kin, AIFF, AU, CAF, NIST SPHERE, AVR.

libsndfile takes what is there for the whole where a header promises more, and leaves out what follows
where it promises less; a header is therefore compared with the file before it is read.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import replace

from light_sernet_kd.audio.containers.content import BrokenError, Content, Layout, Piece, cut_short, ends_at
from light_sernet_kd.audio.containers.mpeg import mpeg

# More by as many bytes than there are is a writer that counted parts of the header as samples; less than
# that is a sample that is missing.
HEADER_EXCESS = range(8, 65)
# Sizes that mean "until the end of the file": ffmpeg streams 0xFFFFFFFF, arecord 0x80000000, SoX 0x7FFFF000,
# GStreamer 0x7FFF0000, each with a header's length more or less.
_UNKNOWN_SIZES = (range(0x7FFF_0000, 0x8000_0200), range(0xFFFF_FE00, 0x1_0000_0000))
_METADATA = frozenset(
    b"LIST|JUNK|junk|PAD |FLLR|fact|PEAK|bext|iXML|cue |smpl|inst|id3 |ID3 |afsp|DISP|cart|_PMX|umid|plst|"
    b"note|labl|ltxt|levl|strc|acid|axml|chna|minf|elm1|regn|ovwf|SAUR|MD5 |NAME|AUTH|(c) |ANNO|COMT|MARK|"
    b"INST|MIDI|AESD|APPL|CHAN|FVER".split(b"|")
)
_PLAIN_TAGS = (1, 3, 6, 7)  # PCM, float, A-law, µ-law
# Those, and MS and IMA ADPCM, GSM 6.10, G.721 and NMS ADPCM.
_LIBSNDFILE_TAGS = (*_PLAIN_TAGS, 2, 0x11, 0x31, 0x38, 0x40)
_FOUR_GIB = 2**32
_GUID_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def _lacks(stated: int, present: int, frame_bytes: int, *, plain: bool = True) -> tuple[str, ...]:
    """The note of a header that promises a little more than there is.

    Args:
        frame_bytes: of the smallest part that can be decoded; 0 where it is not known.
        plain: such a part is one sample of each channel.

    Raises:
        BrokenError: samples are missing.
    """
    if frame_bytes and present > 0 and stated // frame_bytes <= present // frame_bytes:
        return ()
    if plain and present and stated - present in HEADER_EXCESS:
        return (f"its header promises {stated} bytes of samples, {present} are there: they are read",)
    raise cut_short(f"its header promises {stated} bytes of samples, {present} are there")


def _exceeds(stated: int, present: int) -> tuple[str, ...]:
    return (f"its header promises {stated} bytes of samples, {present} follow: all are read",)


def wav(content: Content) -> Layout:
    """WAV in either byte order, RF64 and BW64.

    Raises:
        BrokenError: the file is damaged, cut short, or of a kind that is not read.
    """
    magic = content[:4]
    order = ">" if magic == b"RIFX" else "<"
    long_form = magic in (b"RF64", b"BW64")
    chunks = _WavChunks(content, order)
    if chunks.data is None:
        return Layout("WAV")
    position, stated = chunks.data
    if long_form and stated == 0xFFFF_FFFF:
        if chunks.long_sizes is None:
            raise BrokenError("is damaged: it is RF64 without the ds64 chunk that tells its size")
        (stated,) = content.unpack("<Q", chunks.long_sizes + 8)
    present = len(content) - position
    never_filled = any(stated in sizes for sizes in _UNKNOWN_SIZES) or stated >= 2**63
    ranges: list[tuple[int, int]] = [(position, len(content))]
    notes: tuple[str, ...] = ()
    # libsndfile shortens a size that is too large itself, but in 32 bits.
    mended = magic == b"BW64"
    if stated > present and not never_filled:
        notes = _lacks(stated, present, chunks.frame_bytes, plain=chunks.is_plain)
    elif stated > present:
        mended |= long_form or present >= _FOUR_GIB - 2**16
    elif (others := _chunks_after(content, position + stated, stated, order)) is None:
        mended = True
        # 0 where a writer never came back to fill it in
        notes = _exceeds(stated, present) if stated else ()
    else:
        ranges, notes = _all_data(content, position, stated, others, chunks)
        mended |= len(ranges) > 1
    parts = [_wav_of(magic, position, ranges, chunks.long_sizes)] if mended else []
    size = sum(stop - start for start, stop in ranges)
    if chunks.tag in (0x50, 0x55) and not mended:
        frames = mpeg(content, *ranges[0])
        return replace(frames, notes=notes + frames.notes)
    foreign = chunks.tag not in _LIBSNDFILE_TAGS
    return Layout(
        f"WAV with codec 0x{chunks.tag:04x}" if foreign else "WAV",
        "wav" if foreign else None,
        parts=parts,
        sample_bytes=size if chunks.is_plain else None,
        notes=notes,
    )


class _WavChunks:
    """What comes before the samples of a WAV."""

    def __init__(self, content: Content, order: str):
        self.data: tuple[int, int] | None = None
        self.long_sizes: int | None = None
        self.tag, self.frame_bytes, self.is_plain = 1, 0, False
        for name, position, size in _chunks(content, 12, order):
            if name == b"data":
                self.data = position, size
                break
            if name == b"ds64":
                self.long_sizes = position
            elif name == b"fmt " and size >= 16:
                tag, channels, _, _, block, bits = content.unpack(order + "HHIIHH", position)
                if tag == 0xFFFE and size >= 26:
                    (tag,) = content.unpack(order + "H", position + 24)
                self.tag, self.is_plain = tag, tag in _PLAIN_TAGS
                self.frame_bytes = channels * -(-bits // 8) if self.is_plain else block


def _chunks(content: Content, position: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, place of the content and stated size of each chunk."""
    while position + 8 <= len(content):
        name, size = content.unpack(order + "4sI", position)
        yield name, position + 8, size
        position += 8 + size + size % 2


def _chunks_after(content: Content, end: int, size: int, order: str) -> list[tuple[bytes, int, int]] | None:
    """The chunks that follow samples which end at `end`; None where what follows is no chunk."""
    # Some writers leave out the byte that makes an odd size even.
    for start in (end + 1, end) if size % 2 else (end,):
        if ends_at(content, start):
            return []
        following = []
        for name, position, chunk_size in _chunks(content, start, order):
            if name in (b"RIFF", b"RIFX", b"RF64", b"FORM") and content[position : position + 4] in (
                b"WAVE",
                b"AIFF",
                b"AIFC",
            ):
                raise BrokenError(f"holds a second recording from byte {position - 8} on: split it")
            if not all(32 <= letter < 127 for letter in name):
                break
            following.append((name, position, chunk_size))
            stop = position + chunk_size
            if stop > len(content) and name not in _METADATA and name != b"data":
                break
            if ends_at(content, stop) or ends_at(content, stop + chunk_size % 2):
                return following
    return None


def _all_data(
    content: Content, position: int, stated: int, others: list[tuple[bytes, int, int]], chunks: _WavChunks
) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
    """Where all samples of a WAV are, which may have several chunks of them."""
    ranges = [(position, position + stated)]
    notes: tuple[str, ...] = ()
    for name, start, size in others:
        if name == b"data":
            present = len(content) - start
            if size > present:
                notes += _lacks(size, present, chunks.frame_bytes, plain=chunks.is_plain)
            ranges.append((start, start + min(size, present)))
    if len(ranges) > 1:
        notes += (f"its samples lie in {len(ranges)} chunks: all are read",)
    return ranges, notes


def _wav_of(
    magic: bytes, position: int, ranges: list[tuple[int, int]], long_sizes: int | None
) -> list[Piece]:
    """A WAV with the header of this one, but for the sizes, and these samples."""
    size = sum(stop - start for start, stop in ranges)
    total = position + size
    if magic in (b"RF64", b"BW64") and long_sizes is not None:
        sizes = struct.pack("<QQ", total - 8, size)
        header: list[Piece] = [b"RF64" + b"\xff" * 4, (8, long_sizes), sizes, (long_sizes + 16, position - 4)]
        return [*header, b"\xff" * 4, *ranges]
    if total + 36 < _FOUR_GIB:
        order = ">" if magic == b"RIFX" else "<"
        fields = struct.pack(order + "I", total - 8), struct.pack(order + "I", size)
        return [b"RIFX" if magic == b"RIFX" else b"RIFF", fields[0], (8, position - 4), fields[1], *ranges]
    if magic == b"RIFX":
        raise BrokenError("holds more than 4 GiB in big-endian WAV, which cannot be read: convert it to RF64")
    long_chunk = b"ds64" + struct.pack("<IQQQI", 28, total + 28, size, 0, 0)
    return [b"RF64\xff\xff\xff\xffWAVE" + long_chunk, (12, position - 4), b"\xff" * 4, *ranges]


def iff(content: Content) -> Layout:
    """AIFF, AIFF-C and 8SVX.

    Raises:
        BrokenError: the file is damaged, cut short, or of a kind that is not read.
    """
    form = content[8:12]
    kind = "AIFF" if form in (b"AIFF", b"AIFC") else "SVX"
    wanted = b"SSND" if kind == "AIFF" else b"BODY"
    frame_bytes, frames, plain, data = 0, 0, kind == "SVX", None
    for name, position, size in _chunks(content, 12, ">"):
        if name == b"COMM" and kind == "AIFF" and size >= 18:
            channels, frames, bits = content.unpack(">HIH", position)
            coding = content[position + 18 : position + 22] if form == b"AIFC" else b"NONE"
            plain = coding.lower() in (b"none", b"twos", b"sowt", b"raw ", b"fl32", b"fl64", b"ulaw", b"alaw")
            frame_bytes = channels * (1 if coding.lower() in (b"ulaw", b"alaw") else -(-bits // 8))
        if name == wanted:
            data = position, size
            break
    if data is None:
        return Layout(kind)
    # Before AIFF's samples stand an offset and a block size.
    skipped = 8 if kind == "AIFF" else 0
    position, stated = data[0] + skipped, data[1] - skipped
    present = len(content) - position
    unknown = any(data[1] in sizes for sizes in _UNKNOWN_SIZES) and stated > present
    if stated > present and not unknown:
        return Layout(
            kind,
            sample_bytes=present if plain and kind == "AIFF" else None,
            notes=_lacks(stated, present, frame_bytes if plain else 1, plain=plain),
        )
    notes: tuple[str, ...] = ()
    end = len(content) if unknown else position + stated
    following = [] if unknown else _chunks_after(content, end, stated, ">")
    if following is None:
        end = len(content)
        if data[1]:  # else never filled in
            notes = _exceeds(stated, present)
    elif any(name == wanted for name, _, _ in following):
        raise BrokenError(f"is damaged: it has several {wanted.decode()} chunks, and the format allows one")
    size = end - position
    if plain and frame_bytes and not unknown and frames * frame_bytes > size:
        notes += _lacks(frames * frame_bytes, size, frame_bytes)
    parts: list[list[Piece]] = []
    if size != stated or (kind == "SVX" and end < len(content)):
        if end - 8 >= _FOUR_GIB:
            raise BrokenError(f"holds more than 4 GiB, which {kind} cannot: convert it to RF64")
        fields = struct.pack(">I", end - 8), struct.pack(">I", size + skipped)
        parts = [[b"FORM", fields[0], (8, data[0] - 4), fields[1], (data[0], end)]]
    return Layout(kind, parts=parts, sample_bytes=size if plain and frame_bytes else None, notes=notes)


def w64(content: Content) -> Layout:
    """Sony Wave64, whose chunks have names of 16 bytes and sizes of 8, which count both."""
    position, frame_bytes, plain = 40, 0, False
    while position + 24 <= len(content):
        name, size = content.unpack("<16sQ", position)
        start = position + 24
        if name[4:] == _GUID_TAIL and name[:4] == b"fmt " and size >= 40:
            tag, channels, _, _, block, bits = content.unpack("<HHIIHH", start)
            if tag == 0xFFFE and size >= 24 + 26:
                (tag,) = content.unpack("<H", start + 24)
            plain = tag in _PLAIN_TAGS
            frame_bytes = channels * -(-bits // 8) if plain else block
        elif name[4:] == _GUID_TAIL and name[:4] == b"data":
            return _w64_samples(content, position, size, frame_bytes, plain)
        if size < 24:
            break
        position += size + -size % 8
    return Layout("W64")


def _w64_samples(content: Content, position: int, size: int, frame_bytes: int, plain: bool) -> Layout:
    start, stated = position + 24, size - 24
    present = len(content) - start
    notes: tuple[str, ...] = ()
    if stated < 0 or size >= 2**63:  # never filled in
        end = len(content)
    elif stated > present:
        notes, end = _lacks(stated, present, frame_bytes, plain=plain), len(content)
    else:
        end = following = start + stated
        following += -size % 8
        while following + 24 <= len(content):
            name, chunk_size = content.unpack("<16sQ", following)
            if chunk_size < 24 or name[-6:] != _GUID_TAIL[-6:]:
                break
            following += chunk_size + -chunk_size % 8
        if not ends_at(content, following):
            end, notes = len(content), _exceeds(stated, present)
    sizes = struct.pack("<Q", end), struct.pack("<Q", end - position)
    # libsndfile takes what follows the samples for samples.
    pieces: list[Piece] = [(0, 16), sizes[0], (24, position + 16), sizes[1], (start, end)]
    parts = [] if end == start + stated == len(content) else [pieces]
    return Layout("W64", parts=parts, sample_bytes=end - start if plain else None, notes=notes)


def caf(content: Content) -> Layout:
    """Apple's Core Audio format; libsndfile reads plain samples and ALAC in it."""
    position, frame_bytes, plain, coding = 8, 0, False, b""
    while position + 12 <= len(content):
        name, size = content.unpack(">4sq", position)
        start = position + 12
        if name == b"desc":
            _, coding, _, packet_bytes, packet_frames = content.unpack(">d4sIII", start)
            plain = coding in (b"lpcm", b"ulaw", b"alaw") and packet_frames == 1
            frame_bytes = packet_bytes
        elif name == b"data":
            # 4 bytes count the edits
            stated, present = size - 4, len(content) - start - 4
            demuxer = None if plain or coding == b"alac" else "caf"
            kind = "CAF" if demuxer is None else f"CAF with {coding.decode('latin-1').strip()}"
            if size == -1:  # until the end
                return Layout(kind, demuxer, sample_bytes=present if plain else None)
            if stated > present:
                notes = _lacks(stated, present, frame_bytes if plain else 0, plain=plain)
                # libsndfile refuses such a size
                pieces: list[Piece] = [
                    (0, position + 4),
                    struct.pack(">q", present + 4),
                    (start, len(content)),
                ]
                return Layout(kind, demuxer, parts=[pieces], sample_bytes=present, notes=notes)
            end = start + size
            if not _caf_chunks_from(content, end):
                mended: list[Piece] = [
                    (0, position + 4),
                    struct.pack(">q", present + 4),
                    (start, len(content)),
                ]
                return Layout(
                    kind, demuxer, parts=[mended], sample_bytes=present if plain else None,
                    notes=_exceeds(stated, present),
                )  # fmt: skip
            return Layout(kind, demuxer, sample_bytes=stated if plain else None)
        if size < 0:
            break
        position = start + size
    return Layout("CAF")


def _caf_chunks_from(content: Content, position: int) -> bool:
    while position + 12 <= len(content):
        if ends_at(content, position):
            return True
        name, size = content.unpack(">4sq", position)
        if size < 0 or not all(32 <= letter < 127 for letter in name):
            return False
        position += 12 + size
    return ends_at(content, position)


def au(content: Content) -> Layout:
    """Sun's and NeXT's format, in either byte order."""
    order = ">" if content[:4] == b".snd" else "<"
    start, stated, coding, _, channels = content.unpack(order + "IIIII", 4)
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(coding, 0)
    present = len(content) - start
    if present <= 0:
        return Layout("AU")
    notes: tuple[str, ...] = ()
    unknown = stated == 0xFFFF_FFFF or stated == 0
    if stated > present and not unknown:
        notes = _lacks(stated, present, width * channels, plain=width > 0)
    elif stated < present and not unknown:
        if not ends_at(content, start + stated):
            notes = _exceeds(stated, present)
        else:
            present = stated
    parts: list[list[Piece]] = []
    if stated != present and not (unknown and stated):
        size = struct.pack(order + "I", min(present, 0xFFFF_FFFF))
        parts = [[(0, 8), size, (12, start + present)]]
    return Layout("AU", parts=parts, sample_bytes=present if width else None, notes=notes)


def nist(content: Content) -> Layout:
    """NIST SPHERE: a header of text, whose second line tells its length.

    Raises:
        BrokenError: the file is damaged, cut short, or of a kind that is not read.
    """
    size = re.match(rb"NIST_1A\n\s*(\d+)\n", content[:32])
    if size is None or not 16 <= int(size[1]) <= 2**20:
        return Layout("NIST")
    header = content[: int(size[1])]
    if not re.search(rb"^end_head\b", header, re.MULTILINE):
        raise BrokenError("is damaged or cut short: its header has no end_head")
    values = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in re.findall(rb"^(\w+)[ \t]+-\w+[ \t]+(.*?)[ \t]*$", header, re.MULTILINE)
    }
    if "shorten" in values.get("sample_coding", ""):
        raise BrokenError("is NIST SPHERE compressed by shorten: unpack it with sph2pipe")
    try:
        frames, channels = int(values["sample_count"]), int(values.get("channel_count", "1"))
        width = int(values["sample_n_bytes"])
    except (KeyError, ValueError):
        return Layout(
            "NIST", notes=("its header does not count its samples: whether it is whole cannot be told",)
        )
    stated, present = frames * channels * width, len(content) - len(header)
    if stated > present:
        return Layout("NIST", sample_bytes=present, notes=_lacks(stated, present, channels * width))
    if stated < present and ends_at(content, len(header) + stated):
        return Layout("NIST", parts=[[(0, len(header) + stated)]], sample_bytes=stated)
    notes = _exceeds(stated, present) if stated < present else ()
    return Layout("NIST", sample_bytes=present, notes=notes)


def avr(content: Content) -> Layout:
    """Audio Visual Research: samples behind 128 bytes, of which four count them."""
    mono, bits, frames = content.unpack(">12xHH10xI", 0)
    stated, present = frames * (1 if mono == 0 else 2) * (bits // 8), len(content) - 128
    if stated > present:
        return Layout("AVR", notes=_lacks(stated, present, bits // 8))
    if stated < present and ends_at(content, 128 + stated):
        return Layout("AVR", parts=[[(0, 128 + stated)]])
    return Layout("AVR", notes=_exceeds(stated, present) if stated < present else ())
