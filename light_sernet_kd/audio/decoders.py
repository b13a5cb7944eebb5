"""Open recordings, whatever decodes them: libsndfile, or FFmpeg where PyAV is installed."""

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np

from light_sernet_kd.audio import containers
from light_sernet_kd.audio.containers import BrokenError, Content, Layout, Spliced
from light_sernet_kd.errors import UserError, install_line
from light_sernet_kd.files import regular_descriptor
from light_sernet_kd.runner import STDERR_LOCK

BLOCK_VALUES = 2**17
LOWEST_SAMPLE_RATE, HIGHEST_SAMPLE_RATE = 1000, 2**22
_FRAMES_UNKNOWN = 2**63 - 1  # libsndfile's, for a FLAC that was streamed
_MPEG_FRAME_SAMPLES = 1152
_WIDTHS = {
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1,
    "ALAW": 1,
}  # fmt: skip
# Formats that state their length where nothing here looks for it.
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"ID3")
_UNCHECKED = ("MAT4", "MAT5", "MPC2K", "SDS", "VOC", "WVE", "XI")
_WITHOUT_LENGTH = ("IRCAM", "PAF", "PVF")
# Where a file tells how long its sound lasts, FFmpeg may end this much earlier.
_LACK_SECONDS, _LACK_SHARE = 0.25, 0.02
# Other demuxers guess a duration from the bit rate.
_TELLS_DURATION = ("asf", "avi", "caf", "flv", "matroska", "mov", "ogg", "tta", "wav", "wv")


# What FFmpeg calls containers of which libsndfile knows some encodings only.
_DEMUXERS = {"AIFF": "aiff", "AU": "au", "CAF": "caf", "W64": "w64", "WAV": "wav"}


_STDERR = 2
_MPG123 = re.compile(
    rb"\[src/libmpg123|Note: (Illegal Audio|Trying to resync|Skipped|Hit end)|Warning: (Xing|Encount)|\s*$"
)


class AudioError(UserError):
    """A recording that cannot be used; the message names the file and what is wrong with it."""


class _UnknownEncodingError(Exception):
    """libsndfile knows the container, but not what is in it."""


@dataclass(frozen=True)
class Source:
    """An open recording.

    Attributes:
        frames: samples of one channel that it states; None where that is not known.
        encoding: container and sample type, such as `WAV PCM_16`.
        notes: what the user should know of it.
        blocks: its samples, float32 `(n, channels)` each; what is wrong with them is raised on the way.
    """

    sample_rate: int
    channels: int
    frames: int | None
    encoding: str
    notes: tuple[str, ...]
    blocks: Iterator[np.ndarray]


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Source]:
    """A recording, open for reading.

    Raises:
        AudioError: it is missing, empty, cut short, damaged, not audio, or needs a package that is missing.
    """
    descriptor = regular(path)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        content = Content(descriptor)
        if not len(content):
            raise AudioError(f"{path} is empty (0 bytes)")
        try:
            layout = containers.look(content)
        except BrokenError as error:
            raise AudioError(f"{path} {error}") from None
        if not layout.demuxer:
            try:
                yield _through_libsndfile(descriptor, content, layout, path, stack)
                return
            except _UnknownEncodingError:
                layout = replace(layout, demuxer=_DEMUXERS[layout.kind])
        yield _through_pyav(content, layout, path, stack)


def regular(path: str | os.PathLike[str]) -> int:
    """A descriptor of a recording's file, for reading; the caller closes it.

    Raises:
        AudioError: it is missing, unreadable or no regular file.
    """
    try:
        return regular_descriptor(path)
    except FileNotFoundError:
        broken_link = " (a link to a file that is not there)" if os.path.islink(path) else ""
        raise AudioError(f"no such recording: {path}{broken_link}") from None
    except IsADirectoryError:
        raise AudioError(f"{path} is a folder, not a recording") from None
    except OSError as error:
        if error.errno == errno.EINVAL and error.filename is not None:
            raise AudioError(f"{path} is {error.strerror}") from None
        raise AudioError(f"cannot read {path}: {error.strerror}") from None


# libsndfile


def _through_libsndfile(
    descriptor: int, content: Content, layout: Layout, path: str | os.PathLike[str], stack
) -> Source:
    import soundfile

    def open_part(source):
        try:
            with _mpg123_silenced(path, layout):
                return stack.enter_context(soundfile.SoundFile(source, closefd=False))
        except soundfile.SoundFileError as error:
            detail = getattr(error, "error_string", str(error)).strip().rstrip(".")
            if "unsupported encoding" in detail and layout.kind in _DEMUXERS and not layout.sample_bytes:
                raise _UnknownEncodingError from None
            raise AudioError(f"{path} {_why_not_opened(content, layout)} (libsndfile: {detail})") from None

    if layout.parts:
        files = [open_part(Spliced(content, pieces)) for pieces in layout.parts]
    else:
        # Not the path: soundfile takes a name such as x.raw for headerless samples. And not a buffer where
        # the file itself will do: its reads call Python back, so that threads would wait for one another.
        os.lseek(descriptor, 0, os.SEEK_SET)
        files = [open_part(descriptor)]
    first = files[0]
    if first.format in _UNCHECKED:
        raise AudioError(
            f"{path} is {first.format}, and whether it is whole cannot be told here: convert it to WAV"
        )
    _check_rate(first.samplerate, path)
    for other in files[1:]:
        if (other.samplerate, other.channels) != (first.samplerate, first.channels):
            raise _changes(path, first.samplerate, first.channels, other.samplerate, other.channels)
    _check_size(first, layout, path)
    notes = layout.notes
    if first.format in _WITHOUT_LENGTH:
        notes += (f"{first.format} does not state a length: whether it is whole cannot be told",)
    frames = layout.frames
    if frames is None and layout.states_length and not any(f.frames == _FRAMES_UNKNOWN for f in files):
        frames = sum(file.frames for file in files)
    return Source(
        sample_rate=first.samplerate,
        channels=first.channels,
        frames=frames,
        encoding=f"{first.format} {first.subtype}",
        notes=notes,
        blocks=_of_libsndfile(files, frames, layout, path),
    )


def _of_libsndfile(files, frames: int | None, layout: Layout, path) -> Iterator[np.ndarray]:
    import soundfile

    samples_read = 0
    for file in files:
        # Else soundfile seeks after each block, which fails at the end of a streamed FLAC.
        file.seekable = lambda: False
        block_samples = max(1, min(file.frames + 1, BLOCK_VALUES // file.channels))
        last = False
        while not last:
            try:
                with _mpg123_silenced(path, layout):
                    samples = file.read(block_samples, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                detail = getattr(error, "error_string", str(error)).strip().rstrip(".")
                raise AudioError(f"{path} is damaged or cut short (libsndfile: {detail})") from None
            last = len(samples) < block_samples
            samples_read += len(samples)
            if len(samples):
                yield samples
    # Some MP3 writers count the header's own frame too.
    slack = _MPEG_FRAME_SAMPLES * len(files) if layout.kind == "MP3" else 0
    if frames is not None and samples_read < frames - slack:
        raise AudioError(
            f"{path} is cut short: its header promises {frames} samples, {samples_read} are there"
        )
    if layout.frames is not None and samples_read > layout.frames:
        raise AudioError(f"{path} is damaged: its header promises {frames} samples, {samples_read} are there")
    if not samples_read:
        raise AudioError(f"{path} holds a header but no samples")


def _scratch_file() -> IO[bytes]:
    """Like `tempfile.TemporaryFile`, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stderr"), "w+b", buffering=0)
    return tempfile.TemporaryFile()


@contextlib.contextmanager
def _mpg123_silenced(path: str | os.PathLike[str], layout: Layout) -> Iterator[None]:
    """Take what mpg123, which libsndfile calls, writes to the process's stderr; its errors as `AudioError`.

    It replaces what it cannot decode by silence and tells nobody else. What other threads write meanwhile is
    passed on.
    """
    if layout.kind != "MP3":
        yield
        return
    with STDERR_LOCK, contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(_scratch_file())
            stderr = os.dup(_STDERR)
        except OSError:  # nowhere to write, or the process has no stderr
            yield
            return
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, _STDERR)
            held.seek(0)
            lines = held.read().splitlines(keepends=True)
            for line in lines:
                if not _MPG123.match(line):
                    os.write(stderr, line)
            os.close(stderr)
        for line in lines:
            if b"libmpg123" in line and (at := line.find(b"error: ")) >= 0:
                problem = line[at + 7 :].decode(errors="replace").strip(" !.\n")
                raise AudioError(f"{path} is damaged: an MPEG frame cannot be decoded ({problem})")


def _check_size(file, layout: Layout, path: str | os.PathLike[str]) -> None:
    """That libsndfile will read all of the samples that are there."""
    width = _WIDTHS.get(file.subtype)
    if layout.sample_bytes is None or width is None:
        return
    there = layout.sample_bytes // (width * file.channels)
    if file.frames != there:
        raise AudioError(
            f"{path} is damaged: by its header it holds {file.frames} samples, by its size {there} "
            f"({file.channels} channels of {8 * width} bits)"
        )


def _why_not_opened(content: Content, layout: Layout) -> str:
    start = content[:32]
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the recording: run git lfs pull"
    if layout.kind != containers.UNKNOWN or start.startswith(_MAGIC):
        return "is damaged or cut short"
    return "is not audio: expected WAV, FLAC, OGG, MP3, AIFF or another known format"


def _check_rate(rate: int, path: str | os.PathLike[str]) -> None:
    if rate < LOWEST_SAMPLE_RATE:
        raise AudioError(
            f"{path} claims a sample rate of {rate} Hz, below any recording's ({LOWEST_SAMPLE_RATE})"
        )
    if rate > HIGHEST_SAMPLE_RATE:
        raise AudioError(
            f"{path} claims a sample rate of {rate} Hz, above any recording's ({HIGHEST_SAMPLE_RATE})"
        )


def _changes(path, rate: int, channels: int, other_rate: int, other_channels: int) -> AudioError:
    return AudioError(
        f"{path} changes from {rate} Hz, {channels} channels to {other_rate} Hz, {other_channels} channels "
        "on the way: split it there"
    )


# PyAV


def _through_pyav(content: Content, layout: Layout, path: str | os.PathLike[str], stack) -> Source:
    try:
        import av  # noqa: F401
    except ImportError:
        raise AudioError(
            f"{path} is {layout.kind}, which needs PyAV: {install_line('media')}. Or save it as WAV or FLAC "
            "with another program"
        ) from None
    try:
        containers.check(content, layout)
    except BrokenError as error:
        raise AudioError(f"{path} {error}") from None
    parts = layout.parts or ([(0, len(content))],)
    frames = stack.enter_context(contextlib.closing(_of_pyav(content, parts, layout, path)))
    # What a header says of the rate may be half of the truth (HE-AAC): the first samples tell.
    rate, first, codec = next(frames)

    def blocks() -> Iterator[np.ndarray]:
        yield first
        for other_rate, samples, _ in frames:
            if (other_rate, samples.shape[1]) != (rate, first.shape[1]):
                raise _changes(path, rate, first.shape[1], other_rate, samples.shape[1])
            yield samples

    return Source(rate, first.shape[1], None, f"{layout.kind} {codec}", layout.notes, blocks())


def _of_pyav(
    content: Content, parts, layout: Layout, path
) -> Generator[tuple[int, np.ndarray, str], None, None]:
    """Sample rate, samples `(n, channels)` and codec of every frame; at least one."""
    import av

    samples_read = 0
    for pieces in parts:
        lasted = 0.0
        # Only the sample type is changed here, so that channels and rate go the way of every recording. In
        # one plane: PyAV 18 ends the process at eight of them.
        packed_floats = av.AudioResampler(format="flt")
        try:
            file: Any = Spliced(content, pieces)
            # The demuxer by name: some that FFmpeg would try open other files and addresses.
            with av.open(file, format=layout.demuxer, metadata_errors="ignore") as container:
                if not container.streams.audio:
                    raise AudioError(f"{path} has no sound track")
                stream = container.streams.audio[0]
                promised = _promised_seconds(container, stream, layout)
                for decoded in container.decode(stream):
                    for frame in packed_floats.resample(decoded):
                        _check_rate(frame.sample_rate, path)
                        samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
                        if not len(samples):
                            continue
                        lasted += len(samples) / frame.sample_rate
                        samples_read += len(samples)
                        yield frame.sample_rate, samples, stream.codec_context.name
        except (av.FFmpegError, ValueError) as error:
            detail = getattr(error, "strerror", None) or str(error)
            raise AudioError(f"{path} cannot be decoded: {detail} ({layout.kind})") from None
        if lasted < promised - max(_LACK_SECONDS, _LACK_SHARE * promised):
            raise AudioError(
                f"{path} is cut short: its header promises {promised:.2f} s, {lasted:.2f} s are there"
            )
    if not samples_read:
        raise AudioError(f"{path} has a sound track without samples")


def _promised_seconds(container, stream, layout: Layout) -> float:
    """How long the sound lasts by the file's own account; 0 where it gives none."""
    if layout.demuxer not in _TELLS_DURATION:
        return 0.0
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return 0.0
