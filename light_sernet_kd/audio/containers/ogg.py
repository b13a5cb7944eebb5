"""Ogg by its pages: RFC 3533."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from light_sernet_kd.audio.containers.content import (
    BrokenError,
    Content,
    Layout,
    Piece,
    after_id3,
    cut_short,
    ends_at,
)

_CODECS = {
    b"\x01vorbis": "Vorbis",
    b"OpusHead": "Opus",
    b"\x7fFLAC": "FLAC",
    b"Speex   ": "Speex",
    b"\x80theora": "Theora",
    b"fishead\0": "Skeleton",
    b"BBCD\0": "Dirac",
    b"OVP80": "VP8",
}
_SOUND = ("Vorbis", "Opus", "FLAC", "Speex")
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class _Link:
    """One recording of a chain: streams that begin together."""

    start: int
    last_page: int = 0
    stop: int = 0
    codecs: list[str] = field(default_factory=list)
    sequence: dict[int, int] = field(default_factory=dict)
    pages: int = 0
    ended: set[int] = field(default_factory=set)
    within_packet: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Page:
    start: int
    stop: int
    flags: int
    serial: int
    number: int
    ends_within_packet: bool
    begin: bytes


def ogg(content: Content) -> Layout:
    """Ogg, of one link or a chain of links of one kind.

    Raises:
        BrokenError: the file is damaged, cut short, without sound that is known, or a chain of several kinds.
    """
    links = _links(content)
    notes: tuple[str, ...] = ()
    kinds = set()
    parts: list[list[Piece]] = []
    mended = len(links) > 1 or links[0].start > 0 or links[-1].stop < len(content)
    for link in links:
        sound = [name for name in link.codecs if name in _SOUND]
        if not sound:
            raise BrokenError(f"is Ogg without sound that is known ({', '.join(link.codecs)})")
        kinds.add(sound[0] if len(link.codecs) == 1 else f"{sound[0]} beside {len(link.codecs) - 1} streams")
        if link.within_packet:
            raise cut_short("its last Ogg packet is incomplete")
        if link.ended != set(link.sequence) and link.pages > len(link.sequence):
            notes = (
                "its Ogg stream has no mark of its end: all pages are whole and are read, but whether more "
                "followed cannot be told",
            )
            mended = True
            parts.append([(link.start, link.last_page), _with_end(content[link.last_page : link.stop])])
        else:
            parts.append([(link.start, link.stop)])
    if len(kinds) > 1:
        raise BrokenError(
            f"is a chain of Ogg streams of several kinds ({', '.join(sorted(kinds))}): split it"
        )
    (kind,) = kinds
    return Layout(
        f"Ogg {kind}",
        None if kind in ("Vorbis", "Opus") else "ogg",
        parts=parts if mended else (),
        notes=notes,
    )


def _links(content: Content) -> list[_Link]:
    links: list[_Link] = []
    begins = False
    for page in _pages(content):
        if page.flags & _FIRST:
            if not begins:
                links.append(_Link(page.start))
            if page.serial in links[-1].sequence:
                raise BrokenError(f"is damaged: an Ogg stream begins twice (byte {page.start})")
            links[-1].codecs.append(
                next((name for magic, name in _CODECS.items() if page.begin.startswith(magic)), "unknown")
            )
        elif not links or page.serial not in links[-1].sequence:
            raise BrokenError(f"is damaged: the first page of an Ogg stream is missing (byte {page.start})")
        elif page.number != links[-1].sequence[page.serial] + 1:
            raise BrokenError(
                f"is damaged: Ogg page {page.number} follows page {links[-1].sequence[page.serial]} "
                f"(byte {page.start})"
            )
        elif bool(page.flags & _CONTINUED) != (page.serial in links[-1].within_packet):
            raise BrokenError(f"is damaged: a part of an Ogg packet is missing (byte {page.start})")
        begins = bool(page.flags & _FIRST)
        link = links[-1]
        link.sequence[page.serial] = page.number
        link.last_page, link.stop = page.start, page.stop
        link.pages += 1
        if page.flags & _LAST:
            link.ended.add(page.serial)
        (link.within_packet.add if page.ends_within_packet else link.within_packet.discard)(page.serial)
    return links


def _pages(content: Content) -> Iterator[_Page]:
    """Every page, its check sum compared: decoders leave out a damaged page without a word."""
    position = after_id3(content)
    while position < len(content):
        header = content[position : position + 27]
        if not header.startswith(b"OggS"):
            if ends_at(content, position):
                return
            if b"OggS".startswith(header[:4]):
                raise cut_short("its last Ogg page is missing")
            raise BrokenError(f"is damaged: no Ogg page begins at byte {position}")
        if len(header) < 27:
            raise cut_short("its last Ogg page is missing")
        lengths = content[position + 27 : position + 27 + header[26]]
        stop = position + 27 + header[26] + sum(lengths)
        if len(lengths) < header[26] or stop > len(content):
            # A damaged length may reach over the end, too.
            if content.find(b"OggS", position + 4) >= 0:
                raise BrokenError(f"is damaged: the Ogg page at byte {position} is")
            raise cut_short("its last Ogg page is missing")
        page = content[position:stop]
        if _check_sum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
            raise BrokenError(f"is damaged: the check sum of the Ogg page at byte {position} is wrong")
        body = 27 + header[26]
        yield _Page(
            position,
            stop,
            flags=header[5],
            serial=int.from_bytes(header[14:18], "little"),
            number=int.from_bytes(header[18:22], "little"),
            ends_within_packet=bool(lengths) and lengths[-1] == 255,
            begin=page[body : body + 16],
        )
        position = stop


def _with_end(page: bytes) -> bytes:
    """A page with the mark of a stream's end, for want of which libsndfile fails at the end of Opus."""
    marked = page[:5] + bytes([page[5] | _LAST]) + page[6:22] + bytes(4) + page[26:]
    return marked[:22] + _check_sum(marked).to_bytes(4, "little") + marked[26:]


def _check_sum(page: bytes) -> int:
    """CRC-32 of Ogg: zlib's polynomial, most significant bit first, nothing inverted (section 6)."""
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(_REVERSED), "big")
