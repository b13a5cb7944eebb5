"""Recordings of any common format as 16 kHz mono waveforms, and a clear sentence for those that are not."""

import hashlib
import os
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from light_sernet_kd.audio.containers import PYAV_SUFFIXES, SUFFIXES
from light_sernet_kd.audio.decoders import LOWEST_SAMPLE_RATE, AudioError, Source, opened, regular
from light_sernet_kd.config import LARGEST_SAMPLE, SAMPLE_RATE
from light_sernet_kd.config.cores import core_count
from light_sernet_kd.errors import UserError, choose

if TYPE_CHECKING:
    from light_sernet_kd.corpora import Utterance

__all__ = [
    "LOWEST_SAMPLE_RATE",
    "MOST_HELD_BYTES",
    "PYAV_SUFFIXES",
    "SUFFIXES",
    "AudioError",
    "AudioNote",
    "Recording",
    "blocks",
    "decode",
    "fingerprint",
    "fingerprints",
    "in_order",
    "middle",
    "notes_of",
    "read",
    "read_all",
]

PADDINGS = ("both", "right")
Progress = Callable[[int, int], None]

# Of one recording, in memory: 9.3 hours at 16 kHz. `blocks` and `middle` take any length.
MOST_HELD_BYTES = 2**31
_MOST_HELD = 2**23  # of one channel, by `middle`: 32 MB

# Where notes go on a thread of `in_order`.
_thread = threading.local()

Item = TypeVar("Item")
Result = TypeVar("Result")


class AudioNote(UserWarning):
    """What the user should know of a recording that is read all the same; the message names the file."""


@dataclass(frozen=True)
class Recording:
    """A file's samples as they are stored.

    Attributes:
        samples: float32 `(samples, channels)`; full scale is 1, float files may exceed it.
        sample_rate: in Hz.
        encoding: container and sample type, such as `WAV PCM_16`.
        notes: what the user should know, such as a header that promises more than there is.
    """

    samples: np.ndarray
    sample_rate: int
    encoding: str
    notes: tuple[str, ...] = ()


def read(path: str | os.PathLike[str], *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The recording as one channel at `sample_rate`.

    Channels are averaged, other rates converted by soxr (HQ). The level is left alone: integer files lie
    in [-1, 1), conversion may overshoot that slightly, and float files keep what they hold. What `notes_of`
    tells of the file is an `AudioNote`.

    Returns:
        float32 `(samples,)`, where samples is the stored number × sample_rate ÷ stored rate, rounded.

    Raises:
        AudioError: as `decode`.
    """
    with opened(path) as source:
        _tell(path, source.notes)
        ratio = sample_rate / source.sample_rate
        return _gathered(_resampled(source, path, sample_rate), path, source, sample_rate, ratio)


def blocks(path: str | os.PathLike[str], *, sample_rate: int = SAMPLE_RATE) -> Iterator[np.ndarray]:
    """The samples that `read` returns, in blocks, so that a recording of hours needs no more memory.

    Yields:
        float32 `(n,)`, n ≥ 1.

    Raises:
        AudioError: as `decode`, but for the length; what is wrong with the samples is found where they are.
    """
    with opened(path) as source:
        _tell(path, source.notes)
        yield from _resampled(source, path, sample_rate)


def middle(path: str | os.PathLike[str], samples: int, *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """What `fit` takes of the samples that `read` returns: the middle ones, all where there are no more.

    A recording of hours, whose middle is known at its end, is read twice and needs no more memory.

    Returns:
        float32 `(n,)`, 1 ≤ n ≤ `samples`.

    Raises:
        AudioError: as `blocks`.
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
    with opened(path) as source:
        for block in _resampled(source, path, sample_rate):
            # a view would hold the block
            parts.append(block[max(0, first) : max(0, first + samples)].copy())
            first -= len(block)
    return np.concatenate(parts)


def decode(path: str | os.PathLike[str]) -> Recording:
    """Every sample of a recording, whatever its name says it is.

    libsndfile reads WAV, FLAC, Ogg, MP3, AIFF and its kin; what it does not know, such as M4A, AAC, WebM or
    AMR, is read by FFmpeg where PyAV is installed. All of a file is read or the file is refused: a header
    that promises too little, or a little too much, is a note. Where a file does not tell its length (a
    streamed WAV, an MP3 without a Xing or Info header, an Ogg without its end mark), samples that are
    missing at its end cannot be told.

    Raises:
        AudioError: the file is missing, unreadable, empty, cut short or damaged, not audio, longer than
            `MOST_HELD_BYTES`, or holds a NaN, an infinity or a number beyond `LARGEST_SAMPLE`.
    """
    with opened(path) as source:
        checked_blocks = (_checked(block, path) for block in source.blocks)
        samples = _gathered(checked_blocks, path, source, source.sample_rate, 1.0, channels=source.channels)
        return Recording(samples, source.sample_rate, source.encoding, source.notes)


def header(path: str | os.PathLike[str]) -> tuple[int, int, str]:
    """Sample rate in Hz, channels and encoding of a recording, as `decode` gives them; nothing is decoded.

    Raises:
        AudioError: as `decode`, but for what is found in the samples.
    """
    with opened(path) as source:
        return source.sample_rate, source.channels, source.encoding


def seconds_of(path: str | os.PathLike[str]) -> float:
    """How long a recording is; it is decoded only where the file does not state its length.

    Raises:
        AudioError: as `decode`, but for what is found in the samples.
    """
    with opened(path) as source:
        frames = source.frames
        if frames is None:
            frames = sum(map(len, source.blocks))
        return frames / source.sample_rate


def notes_of(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """What the user should know of a recording that can be read; nothing is decoded for it.

    Raises:
        AudioError: as `decode`, but for what is found in the samples.
    """
    with opened(path) as source:
        return source.notes


def _resampled(source: Source, path: str | os.PathLike[str], sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks `(n,)` of the mean over the channels at `sample_rate`; none is empty."""
    import soxr

    resampler = None
    stored = converted = 0
    samples = next(source.blocks, None)
    while samples is not None:
        stored += len(samples)
        waveform = mono(_checked(samples, path))
        samples = next(source.blocks, None)
        if source.sample_rate != sample_rate:
            if resampler is None and samples is None:
                waveform = resample(waveform, source.sample_rate, sample_rate)
            else:
                resampler = resampler or soxr.ResampleStream(
                    source.sample_rate, sample_rate, 1, dtype="float32", quality="HQ"
                )
                waveform = resampler.resample_chunk(waveform, last=samples is None)
        converted += len(waveform)
        if len(waveform):
            yield waveform
    if not converted:
        raise AudioError(f"{path} holds only {stored} samples, too few to convert")


def _gathered(
    parts: Iterator[np.ndarray],
    path: str | os.PathLike[str],
    source: Source,
    sample_rate: int,
    ratio: float,
    *,
    channels: int = 1,
) -> np.ndarray:
    """The blocks in one array, if they are few enough to be held.

    Args:
        sample_rate: of the blocks.
        ratio: of their rate to the stored one.
        channels: of the blocks, `(n, channels)` each; blocks of one may be `(n,)`.
    """
    most = MOST_HELD_BYTES // (4 * channels)

    def too_long(what: str) -> AudioError:
        held = f"{MOST_HELD_BYTES / 2**30:g} GiB, {most / sample_rate / 3600:.1f} h of it"
        return AudioError(f"{path} {what}, and at most {held}, can be held in memory: cut it into parts")

    if source.frames is not None and source.frames * ratio > most:
        raise too_long(f"lasts {source.frames / source.sample_rate / 3600:.1f} h by its header")
    first = next(parts)
    whole, count = first, len(first)
    for part in parts:
        if count + len(part) > most:
            raise too_long(f"lasts more than {count / sample_rate / 3600:.1f} h")
        if whole is first or count + len(part) > len(whole):
            # in steps of a half: moved rarely, and never held twice
            wanted = min(most, max(count + len(part), len(whole) + len(whole) // 2))
            if whole is first:
                whole = np.empty((wanted, *first.shape[1:]), np.float32)
                whole[:count] = first
            else:
                whole.resize((wanted, *first.shape[1:]), refcheck=False)
        whole[count : count + len(part)] = part
        count += len(part)
    if whole is not first:
        whole.resize((count, *first.shape[1:]), refcheck=False)
    return whole


def _checked(samples: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        peak = max(samples.max(), -samples.min())  # NaN if one is
    if peak <= LARGEST_SAMPLE:
        return samples
    if broken := np.count_nonzero(~np.isfinite(samples)):
        raise AudioError(f"{path} holds {broken} values that are not finite (NaN or infinity)")
    raise AudioError(
        f"{path} holds values up to {peak:.0e}, where full scale is 1 and {LARGEST_SAMPLE:g} the most: "
        "divide them"
    )


def _tell(path: str | os.PathLike[str], notes: tuple[str, ...]) -> None:
    """A warning per note; on a thread of `in_order`, one that is put off until all are known."""
    for note in notes:
        message = f"{path}: {note}"
        collected: dict[str, None] | None = getattr(_thread, "notes", None)
        if collected is None:
            warnings.warn(message, AudioNote, stacklevel=3)
        else:
            collected[message] = None


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

    Raises:
        UserError: unknown padding.
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
        with open(regular(path), "rb") as file:
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

    Only recordings can be copies of one another: where files are identical, one of them is read. Identical
    silence tells nothing, and every silent recording has a hash of its own.

    Raises:
        UserError: a file cannot be opened, or identical files are no recordings; lists every recording that
            cannot be used.
    """
    # here, because LiteRT comes with it
    from light_sernet_kd.runner import SILENCE_DBFS, level_dbfs

    utterances = list(utterances)

    def try_fingerprint(utterance: "Utterance") -> str | AudioError:
        try:
            return fingerprint(utterance.path)
        except AudioError as error:
            return error

    results = dict(zip((u.id for u in utterances), in_order(try_fingerprint, utterances), strict=True))
    bad = {name: str(result) for name, result in results.items() if isinstance(result, AudioError)}
    digests = {name: str(result) for name, result in results.items()}
    counts = Counter(digests.values())
    twins = {digests[u.id]: u for u in utterances if counts[digests[u.id]] > 1 and u.id not in bad}
    for digest, waveform in zip(twins, read_all(u.path for u in twins.values()), strict=True):
        if isinstance(waveform, AudioError):
            bad[twins[digest].id] = str(waveform)
        elif level_dbfs(waveform) < SILENCE_DBFS:
            for name in [name for name, other in digests.items() if other == digest]:
                digests[name] = hashlib.sha256(f"{digest} {name}".encode(errors="surrogatepass")).hexdigest()
    if bad:
        # All at once: also those that can be opened, but not decoded.
        raise unusable(find_bad(utterances) or bad, len(utterances))
    return digests


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int | None = None
) -> Generator[Result, None, None]:
    """`map` on `jobs` threads (by default one per core, at most four), never far ahead of its reader.

    Closing it waits for the calls that have begun and drops the others. The notes of all recordings that
    were read are one `AudioNote` at the end.
    """
    jobs = jobs or min(4, core_count())
    notes: dict[str, None] = {}

    def collecting(item: Item) -> Result:
        _thread.notes = notes
        return function(item)

    pool = ThreadPoolExecutor(jobs)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(collecting, item))
            if len(pending) == 4 * jobs:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        if notes:
            first, *others = notes
            more = f" (and {len(others)} more notes; `prepare` lists them all)" if others else ""
            warnings.warn(f"{first}{more}", AudioNote, stacklevel=2)


def _read_or_error(path: str | os.PathLike[str], *, sample_rate: int) -> np.ndarray | AudioError:
    try:
        return read(path, sample_rate=sample_rate)
    except AudioError as error:
        return error
