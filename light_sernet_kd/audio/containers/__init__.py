"""Containers of sound by their own structure: what a file is, and whether all of it is there.

Standard library only. Decoders take a file that was cut for a shorter one, and a header that promises too
little for the truth; both are told here, before anything is decoded.
"""

from light_sernet_kd.audio.containers import chunks, mpeg, multimedia
from light_sernet_kd.audio.containers.content import BrokenError, Content, Layout, Spliced, after_id3
from light_sernet_kd.audio.containers.flac import flac
from light_sernet_kd.audio.containers.ogg import ogg

__all__ = ["PYAV_SUFFIXES", "SUFFIXES", "BrokenError", "Content", "Layout", "Spliced", "check", "look"]

# Names of recordings that can be read; what a file is follows from its content, not from its name.
SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".rf64",
    ".snd", ".sph", ".w64", ".wav", ".wave",
)  # fmt: skip
# Those that need PyAV, the extra `media`.
PYAV_SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".amr", ".asf", ".avi", ".flv", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wma", ".wmv",
)  # fmt: skip
UNKNOWN = "unknown"

check = multimedia.check


def look(content: Content) -> Layout:
    """What a file is and how all of it is read.

    Raises:
        BrokenError: it is not whole, or contradicts itself.
    """
    start = content[:16]
    if start[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and start[8:12] == b"WAVE":
        return chunks.wav(content)
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return chunks.iff(content)
    for magic, read in _LOOKS:
        if start.startswith(magic):
            return read(content)
    if start[:2] == b"\xf0\x7e" and start[3:4] == b"\x01":
        # before libsndfile opens it, which prints to stdout where it is damaged
        raise BrokenError("is SDS, and whether it is whole cannot be told here: convert it to WAV")
    position = after_id3(content)
    behind = content[position : position + 8]
    if behind.startswith(b"fLaC"):
        return flac(content)
    if behind.startswith(b"OggS"):
        return ogg(content)
    if layout := multimedia.identified(content, position):
        return layout
    if position or mpeg.frame_bytes(behind[:4]):
        return mpeg.mpeg(content)
    return Layout(UNKNOWN)


_LOOKS = (
    (b"riff\x2e\x91\xcf\x11", chunks.w64),
    (b"caff", chunks.caf),
    (b".snd", chunks.au),
    (b"dns.", chunks.au),
    (b"NIST_1A", chunks.nist),
    (b"2BIT", chunks.avr),
)
