"""Recordings of any common format as 16 kHz mono waveforms, and a clear sentence for those that are not."""

import contextlib
import hashlib
import io
import mmap
import os
import stat
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE, UserError, choose

if TYPE_CHECKING:
    from light_sernet_kd.corpora import Utterance

PADDINGS = ("both", "right")
Progress = Callable[[int, int], None]

# A size field at or above this says "until the end of the file": ffmpeg streams 0xFFFFFFFF, arecord
# 0x80000000, SoX 0x7FFFF000 and a little.
_SIZE_UNKNOWN = 0x7FFF_F000
_FRAMES_UNKNOWN = 2**63 - 1  # libsndfile's, for a FLAC that was streamed
_MPEG_FRAME_SAMPLES = 1152
_BLOCK_SAMPLES = 2**20
_STREAMED_SAMPLES = 2**16
_MOST_HELD = 2**23  # of one channel: 32 MB
# Beyond it, the sums of channels and of filters may exceed float32.
_LARGEST_SAMPLE = 1e30
LOWEST_SAMPLE_RATE = 1000
_AUDIO_MAGIC = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"FORM",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"\xff\xfb",
    b"\xff\xf3",
    b"\xff\xf2",
)

Item = TypeVar("Item")
Result = TypeVar("Result")


class AudioError(UserError):
    """A recording that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Recording:
    """A file's samples as they are stored.

    Attributes:
        samples: float32 `(samples, channels)`; full scale is 1, float files may exceed it.
        sample_rate: in Hz.
        encoding: container and sample type, such as `WAV PCM_16`.
    """

    samples: np.ndarray
    sample_rate: int
    encoding: str


def read(path: str | os.PathLike[str], *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The recording as one channel at `sample_rate`.

    Channels are averaged, other rates converted by soxr (HQ). The level is left alone: integer files lie
    in [-1, 1), conversion may overshoot that slightly, and float files keep what they hold.

    Returns:
        float32 `(samples,)`, where samples is the stored number × sample_rate ÷ stored rate, rounded.

    Raises:
        AudioError: as `decode`.
    """
    recording = decode(path)
    waveform = resample(mono(recording.samples), recording.sample_rate, sample_rate)
    if not waveform.size:
        raise AudioError(f"{path} holds only {len(recording.samples)} samples, too few to convert")
    return waveform


def blocks(path: str | os.PathLike[str], *, sample_rate: int = SAMPLE_RATE) -> Iterator[np.ndarray]:
    """The samples that `read` returns, in blocks, so that a recording of hours needs no more memory.

    Only a WAV whose header was never filled in is read whole.

    Yields:
        float32 `(n,)`, n ≥ 1.

    Raises:
        AudioError: as `decode`; what is wrong with the samples is found where they are.
    """
    import soxr

    found = 0
    with _opened(path, in_memory=False) as (file, content):
        rate = _usable_rate(file, path)
        resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        read = 0
        for samples, last in _read_blocks(file, _STREAMED_SAMPLES):
            _check_samples(samples, path)
            read += len(samples)
            waveform = mono(samples)
            if rate != sample_rate:
                waveform = resampler.resample_chunk(waveform, last=last)
            found += len(waveform)
            if len(waveform):
                yield waveform
        _check_length(file, content, read, path)
    if not found:
        raise AudioError(f"{path} holds only {read} samples, too few to convert")


def middle(path: str | os.PathLike[str], samples: int, *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """What `fit` takes of the samples that `read` returns: the middle ones, all where there are no more.

    A recording of hours, whose middle is known at its end, is read twice and needs no more memory.

    Returns:
        float32 `(n,)`, 1 ≤ n ≤ `samples`.

    Raises:
        AudioError: as `decode`.
    """
    parts, count = [], 0
    for block in blocks(path, sample_rate=sample_rate):
        count += len(block)
        parts.append(block)
        if count > _MOST_HELD:
            parts.clear()
    if count <= _MOST_HELD:
        return fit(np.concatenate(parts), min(count, samples))
    parts, first = [], max(0, count - samples) // 2
    for block in blocks(path, sample_rate=sample_rate):
        parts.append(block[max(0, first) : max(0, first + samples)].copy())  # a view would hold the block
        first -= len(block)
    return np.concatenate(parts)


def decode(path: str | os.PathLike[str]) -> Recording:
    """Every sample of a WAV, FLAC, OGG, MP3 or AIFF file, whatever its name says it is.

    Whatever else libsndfile reads is read too, but whether such a file is complete is not checked. Nor can
    it be for an MP3 without a Xing or Info header and for a WAV or AIFF that was streamed (size unknown). An
    MP3 may lack one MPEG frame (1152 samples), since some writers count one too many.

    Raises:
        AudioError: the file is missing, unreadable, empty, cut short or damaged, not audio, or holds a NaN,
            an infinity or a number near it.
    """
    with _opened(path) as (file, content):
        parts = [samples for samples, _ in _read_blocks(file, min(file.frames + 1, _BLOCK_SAMPLES))]
        samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
        _check_length(file, content, len(samples), path)
        rate = _usable_rate(file, path)
        encoding = f"{file.format} {file.subtype}"
    _check_samples(samples, path)
    return Recording(samples, rate, encoding)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], *, in_memory: bool = True):
    """An open `SoundFile` and the file's bytes, read or mapped; libsndfile's errors as `AudioError`."""
    import soundfile

    descriptor = _open(path)
    try:
        content = _content(descriptor, path) if in_memory else _mapped(descriptor, path)
        if missing := _missing_part(content):
            raise AudioError(f"{path} is cut short: {missing}")
        mended = _with_known_size(content)
        # Not the path: soundfile takes a name such as x.raw for headerless samples. And not a buffer where
        # the file itself will do: its reads call Python back, so that threads would wait for one another.
        os.lseek(descriptor, 0, os.SEEK_SET)
        source = descriptor if mended is content else _Buffer(mended)
        with soundfile.SoundFile(source, closefd=False) as file:
            yield file, content
    except soundfile.SoundFileError as error:
        detail = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise AudioError(f"{path} {_why_not_opened(content)} (libsndfile: {detail})") from None
    finally:
        os.close(descriptor)


def _usable_rate(file, path: str | os.PathLike[str]) -> int:
    if file.samplerate < LOWEST_SAMPLE_RATE:
        raise AudioError(
            f"{path} claims a sample rate of {file.samplerate} Hz, "
            f"below any recording's ({LOWEST_SAMPLE_RATE})"
        )
    return file.samplerate


def _check_length(file, content, found: int, path: str | os.PathLike[str]) -> None:
    """That an open `SoundFile` gave what its header promises."""
    promised = file.frames
    if promised == _FRAMES_UNKNOWN or (file.format == "MP3" and not _states_its_length(content)):
        promised = 0  # where an MP3 does not say, libsndfile guesses from the file's size
    # Some MP3 writers count the header's own frame too.
    if found < promised - (_MPEG_FRAME_SAMPLES if file.format == "MP3" else 0):
        raise AudioError(f"{path} is cut short: its header promises {promised} samples, {found} are there")
    if not found:
        raise AudioError(f"{path} holds a header but no samples")


def _check_samples(samples: np.ndarray, path: str | os.PathLike[str]) -> None:
    if not np.isfinite(samples).all():
        broken = np.count_nonzero(~np.isfinite(samples))
        raise AudioError(f"{path} holds {broken} values that are not finite (NaN or infinity)")
    if samples.size and (peak := max(samples.max(), -samples.min())) > _LARGEST_SAMPLE:
        raise AudioError(f"{path} holds values up to {peak:.0e}, where full scale is 1")


def mono(samples: np.ndarray) -> np.ndarray:
    """The mean over the channels: `(samples, channels)` → `(samples,)`."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=samples.dtype)


def resample(waveform: np.ndarray, sample_rate: int, target_rate: int) -> np.ndarray:
    """A waveform `(samples,)` at another rate, both in Hz; what the new rate cannot hold is filtered out."""
    if sample_rate == target_rate:
        return waveform
    import soxr

    return soxr.resample(waveform, sample_rate, target_rate, quality="HQ")


def fit(waveform: np.ndarray, samples: int, *, pad: str = "both") -> np.ndarray:
    """Exactly `samples` samples of a waveform `(n,)`.

    A long one loses equally at both ends. A short one gets zeros, equally at both ends (`both`, as
    Light-SERNet) or all at the end (`right`, as Cubic KD). An odd sample is taken from or added at the end.
    """
    choose("padding", pad, PADDINGS)
    surplus = len(waveform) - samples
    if surplus >= 0:
        start = surplus // 2
        return waveform[start : start + samples]
    before = -surplus // 2 if pad == "both" else 0
    return np.pad(waveform, (before, -surplus - before))


def fingerprint(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        AudioError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror}") from None


def read_all(
    paths: Iterable[str | os.PathLike[str]], *, sample_rate: int = SAMPLE_RATE, jobs: int | None = None
) -> Iterator[np.ndarray | AudioError]:
    """`read` on several threads: a waveform or what is wrong, per path and in their order.

    Only a few recordings are held at a time, however slowly the results are taken.
    """
    return in_order(partial(_read_or_error, sample_rate=sample_rate), paths, jobs=jobs)


def find_bad(
    utterances: "Iterable[Utterance]", *, jobs: int | None = None, progress: Progress | None = None
) -> dict[str, str]:
    """Utterance id → what is wrong, for every recording that `read` would refuse.

    Args:
        progress: called with (done, all) after each recording.
    """
    utterances = list(utterances)
    bad = {}
    results = read_all((utterance.path for utterance in utterances), jobs=jobs)
    for done, (utterance, result) in enumerate(zip(utterances, results, strict=True), start=1):
        if isinstance(result, AudioError):
            bad[utterance.id] = str(result)
        if progress:
            progress(done, len(utterances))
    return bad


def listing(bad: Mapping[str, str], total: int, *, most: int = 20) -> str:
    """The text of an error about all the recordings in `bad` (id → reason) at once, out of `total`."""
    lines = [f"{len(bad)} of {total} recordings cannot be used:", *list(bad.values())[:most]]
    if len(bad) > most:
        lines.append(f"and {len(bad) - most} more")
    return "\n  ".join(lines)


def unusable(bad: Mapping[str, str], total: int) -> UserError:
    """The error about all the recordings in `bad` (id → reason), with its remedy."""
    remedy = "\n  Mend or remove them, or leave them out with --skip-bad."
    return UserError(listing(bad, total) + remedy)


def fingerprints(utterances: "Iterable[Utterance]") -> dict[str, str]:
    """Utterance id → `fingerprint` of its recording.

    Raises:
        UserError: a file cannot be opened; lists every recording that cannot be used.
    """
    utterances = list(utterances)

    def try_fingerprint(utterance: "Utterance") -> str | AudioError:
        try:
            return fingerprint(utterance.path)
        except AudioError as error:
            return error

    results = dict(zip((u.id for u in utterances), in_order(try_fingerprint, utterances), strict=True))
    bad = {name: str(result) for name, result in results.items() if isinstance(result, AudioError)}
    if bad:
        # All at once: also those that can be opened, but not decoded.
        raise unusable(find_bad(utterances) or bad, len(utterances))
    return {name: str(result) for name, result in results.items()}


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int | None = None
) -> Generator[Result, None, None]:
    """`map` on `jobs` threads (by default one per core, at most four), never far ahead of its reader.

    Closing it waits for the calls that have begun and drops the others.
    """
    jobs = jobs or min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(jobs)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) == 4 * jobs:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_or_error(path: str | os.PathLike[str], *, sample_rate: int) -> np.ndarray | AudioError:
    try:
        return read(path, sample_rate=sample_rate)
    except AudioError as error:
        return error


class _Buffer(io.BytesIO):
    # libsndfile probes positions before the start; BytesIO would raise inside its callback, which cffi
    # prints as a traceback.
    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(max(0, base + offset))


def _open(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file, for reading; the caller closes it."""
    path = Path(path)
    # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        broken_link = " (a link to a file that is not there)" if path.is_symlink() else ""
        raise AudioError(f"no such recording: {path}{broken_link}") from None
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a folder, not a recording" if stat.S_ISDIR(mode) else "not a regular file"
        raise AudioError(f"{path} is {what}")
    return descriptor


def _content(descriptor: int, path: str | os.PathLike[str]) -> bytes:
    try:
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read()
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror}") from None
    if not content:
        raise AudioError(f"{path} is empty (0 bytes)")
    return content


def _mapped(descriptor: int, path: str | os.PathLike[str]) -> mmap.mmap:
    """As `_content`, without holding it."""
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise AudioError(f"{path} is empty (0 bytes)") from None
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror}") from None


def _why_not_opened(content: bytes | mmap.mmap) -> str:
    start = content[:32]
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the recording: run git lfs pull"
    if start.startswith(_AUDIO_MAGIC):
        return "is damaged or cut short"
    return "is not audio: expected WAV, FLAC, OGG, MP3 or AIFF"


def _read_blocks(file, block_samples: int) -> Iterator[tuple[np.ndarray, bool]]:
    """The samples of an open `SoundFile` and whether they are the last, which may be none.

    In blocks, since what it says of its length may be false.
    """
    # Else soundfile seeks after each block, which fails at the end of a streamed FLAC.
    file.seekable = lambda: False
    last = False
    while not last:
        samples = file.read(block_samples, dtype="float32", always_2d=True)
        last = len(samples) < block_samples
        yield samples, last


def _missing_part(content: bytes | mmap.mmap) -> str | None:
    """What the container's own structure says should be there and is not.

    libsndfile shortens a WAV, AIFF or OGG to what is there and says nothing.
    """
    if chunk := _sample_chunk(content):
        position, size, _ = chunk
        present = len(content) - position
        if present < size < _SIZE_UNKNOWN:
            return f"its header promises {size} bytes of samples, {present} are there"
    if content[:4] == b"OggS":
        last = content.rfind(b"OggS")
        flags, segments = (content[last + 5 : last + 6], content[last + 26 : last + 27])
        lengths = content[last + 27 : last + 27 + segments[0]] if segments else b""
        # RFC 3533, section 6: bit 4 of the flags marks the last page of a stream.
        whole = bool(segments) and len(content) >= last + 27 + segments[0] + sum(lengths)
        if not (whole and flags[0] & 4):
            return "its last Ogg page is missing"
    return None


def _with_known_size(content: bytes | mmap.mmap) -> bytes | mmap.mmap:
    """A WAV whose size was never filled in, as libsndfile reads it to its end: with an unknown size.

    libsndfile takes 0 for an empty recording. That is right where the size of the whole file was filled in.
    """
    chunk = _sample_chunk(content)
    if chunk is None or content[:3] != b"RIF":
        return content
    position, size, order = chunk
    (riff_size,) = struct.unpack_from(order + "I", content, 4)
    if size == 0 and riff_size + 8 < len(content) > position:
        return content[: position - 4] + b"\xff\xff\xff\xff" + content[position:]
    return content


def _sample_chunk(content: bytes | mmap.mmap) -> tuple[int, int, str] | None:
    """Where a WAV's or AIFF's samples begin, their size in bytes as stated, and the byte order."""
    order = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}.get(content[:4])
    name = {b"WAVE": b"data", b"AIFF": b"SSND", b"AIFC": b"SSND"}.get(content[8:12])
    if order is None or name is None:
        return None
    position = 12
    while position + 8 <= len(content):
        found, size = struct.unpack_from(order + "4sI", content, position)
        position += 8
        if found == name:
            return position, size, order
        position += size + size % 2
    return None


def _states_its_length(mp3: bytes | mmap.mmap) -> bool:
    """Whether the first MPEG frame is a Xing or Info header, which counts the frames."""
    start = 0
    if mp3[:3] == b"ID3":
        # ID3v2.4, section 3.1: four bytes of seven bits.
        start = 10 + sum(byte << shift for byte, shift in zip(mp3[6:10], (21, 14, 7, 0), strict=True))
    first_frame = mp3[start : start + 1500]
    return b"Xing" in first_frame or b"Info" in first_frame
