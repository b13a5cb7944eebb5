"""The recordings that an exported student was trained on, as a list of 18 bytes each inside its file.

A corpus's name does not tell whether a student knows a recording: a subset, a copy or a converted corpus has
another name, and two manifests may share one. So the file carries, of every training recording, a hash of its
bytes and a hash of how it sounds, and of every training speaker a hash of the name. From these nothing can be
heard, but whoever has a recording can ask whether it is listed.

On EMO-DB (535 recordings; in brackets every tenth of RAVDESS, whose actors are recorded far more quietly):

- not found, of copies at another level, rate or in 16 bits 0 % (0 %); in the usual quality of the encoders as
  Vorbis 0.2 % (5.6 %), Opus 0.6 % (0.7 %) and MP3 0.6 % (4.9 %); as MP3 in its lowest quality 2.4 % (21 %);
  with silence around them 3.6 % (0.7 %); without 50 ms at both ends 12 % (0.7 %); with white noise 30 dB
  below the speech 26 % (27 %); in 8 bits 15 % (100 %);
- not looked for: parts of a recording, such as `prepare --segment` cuts, other speeds, and mixtures;
- found by mistake, none of the 142,845 pairs of different recordings; of the 1,036,080 of all of RAVDESS,
  whose actors say each sentence twice in each manner, one pair, two takes by one actor.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import audio
from light_sernet_kd.corpora import Utterance, name_key, own_name
from light_sernet_kd.corpora.registry import different_people
from light_sernet_kd.data.signatures import LENGTH_SLACK, signature
from light_sernet_kd.errors import UserError

# In the zip archive behind an exported file's model, beside card.json.
MEMBER = "training.bin"
VERSION = 1
# Of the 96 bits of two recordings that sound alike, at most so many differ.
MOST_BITS = 6
# A million recordings; a file that claims more is damaged, and is not read.
MOST_BYTES = 32 * 2**20

_BANDS, _SEGMENTS = 16, 32
_WAVES, _BAND_WAVES = 12, 8
ROW = np.dtype([("content", "<u4"), ("frames", "<u2"), ("bits", "u1", (_WAVES * _BAND_WAVES // 8,))])
_MOST_FRAMES = 2**16 - 1
# Compared at a time, so that a hundred thousand training recordings need 50 MB.
_BLOCK = 64


@dataclass(frozen=True)
class TrainingList:
    """What is kept of some recordings; of those that are tested it is made likewise, to compare the two.

    Attributes:
        rows: a structured array `(recordings,)`: `content`, the first 32 bits of the SHA-256 of the file;
            `frames`, the length of what is not silence in 10 ms; `bits`, 96 bits of how it sounds.
        speakers: uint32 hashes of the speakers' names: of each recording where they are tested, else of all,
            each once and sorted.
        origin: the name of a corpus that the toolkit knows by name; empty for a manifest.
    """

    rows: NDArray[Any]
    speakers: NDArray[np.uint32]
    origin: str = ""


@dataclass(frozen=True)
class TrainingOverlap:
    """How many of the tested recordings and speakers a student was trained on.

    Attributes:
        trained_on: whether it was trained on at least one of them; None where that was not checked.
        words: the same in words; they begin small and end without a full stop.
        recordings, speakers: how many of the recordings it was trained on, and how many others are of
            speakers whose names trained too; None where that was not checked.
    """

    trained_on: bool | None
    words: str
    recordings: int | None = None
    speakers: int | None = None


def bits_of(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """96 bits of each signature `(recordings, 512)` of `signature`, packed uint8 `(recordings, 12)`.

    They are the signs of the signature's slow changes: of its two-dimensional cosine transform, the 12 lowest
    frequencies over time but the constant, and the 8 lowest over bands. Without the constant over time, a
    microphone or a codec that colours the sound moves none of them.
    """
    over_time, over_bands = _cosines(_SEGMENTS, _WAVES + 1)[1:], _cosines(_BANDS, _BAND_WAVES)
    grids = vectors.reshape(-1, _SEGMENTS, _BANDS).astype(np.float64)
    changes = np.einsum("wt,ntb,vb->nwv", over_time, grids, over_bands, optimize=True)
    return np.packbits((changes > 0).reshape(len(vectors), _WAVES * _BAND_WAVES), axis=1)


def _cosines(count: int, waves: int) -> NDArray[np.float64]:
    """The first rows of a discrete cosine transform (DCT-II) of `count` values."""
    return np.cos(np.pi * np.outer(np.arange(waves), (np.arange(count) + 0.5) / count))


def rows_of(
    fingerprints: Sequence[str], vectors: NDArray[np.float32], lengths: NDArray[np.int64]
) -> NDArray[Any]:
    """`TrainingList.rows` of recordings with these hashes of their files and these signatures."""
    rows = np.zeros(len(fingerprints), ROW)
    rows["content"] = [int(each[:8], 16) for each in fingerprints]
    rows["frames"] = np.minimum(lengths, _MOST_FRAMES)
    rows["bits"] = bits_of(vectors)
    return rows


def _speaker_hashes(utterances: Sequence[Utterance], corpus: str) -> NDArray[np.uint32]:
    hashes: dict[str, int] = {}
    for name in {each.speaker for each in utterances}:
        plain = name_key(own_name(name, corpus))
        digest = hashlib.sha256(f"light-sernet-kd, speaker: {plain}".encode(errors="surrogatepass"))
        hashes[name] = int.from_bytes(digest.digest()[:4], "big")
    return np.array([hashes[each.speaker] for each in utterances], np.uint32)


def of_training(
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    vectors: NDArray[np.float32],
    lengths: NDArray[np.int64],
    *,
    corpus: str,
    origin: str,
    others: NDArray[Any] | None = None,
) -> TrainingList:
    """The list of the recordings that trained a student.

    Args:
        fingerprints: utterance id → SHA-256 of the recording, in hexadecimal.
        vectors, lengths: of these utterances, from `signatures.measure`.
        corpus: name of the corpus, or of the two of a cross-corpus test.
        origin: of the corpus that trains, as `TrainingList` has it.
        others: rows of recordings that trained too, without labels and of unknown speakers.
    """
    rows = rows_of([fingerprints[each.id] for each in utterances], vectors, lengths)
    if others is not None:
        rows = np.concatenate([rows, others])
    # The order of a corpus says nothing here; sorted, the same recordings give the same bytes.
    return TrainingList(
        np.sort(rows, order=["content"]), np.unique(_speaker_hashes(utterances, corpus)), origin
    )


def of_measured(
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    vectors: NDArray[np.float32],
    lengths: NDArray[np.int64],
    *,
    corpus: str,
    origin: str,
) -> TrainingList:
    """The list of tested recordings whose signatures are known; arguments as of `of_training`."""
    rows = rows_of([fingerprints[each.id] for each in utterances], vectors, lengths)
    return TrainingList(rows, _speaker_hashes(utterances, corpus), origin)


def merge_lists(trained: TrainingList, before: TrainingList) -> TrainingList:
    """The list of a student that was trained on other recordings before; of what both have, once.

    >>> rows = np.zeros(2, ROW)
    >>> rows["content"] = [7, 3]
    >>> first = TrainingList(rows[:1], np.array([5], np.uint32), "EMO-DB")
    >>> both = merge_lists(first, TrainingList(rows, np.array([5, 4], np.uint32), "RAVDESS"))
    >>> both.rows["content"].tolist(), both.speakers.tolist(), both.origin
    ([3, 7], [4, 5], '')
    """
    every = np.concatenate([trained.rows, before.rows])
    _, first = np.unique(every.view((np.void, ROW.itemsize)), return_index=True)
    # Of two corpora a speaker's name does not tell whose it is.
    origin = trained.origin if trained.origin == before.origin else ""
    return TrainingList(
        np.sort(every[np.sort(first)], order=["content"]),
        np.unique(np.concatenate([trained.speakers, before.speakers])),
        origin,
    )


def of_tested(
    utterances: Sequence[Utterance], *, corpus: str, origin: str, read: dict[Path, bytes | None] | None = None
) -> TrainingList:
    """The list of tested recordings, read from their files.

    One that cannot be read is left out: whoever scores it says so.

    Args:
        read: path → row of recordings that were read before; those that are read now are added.
    """
    rows = {} if read is None else read

    def row_of(utterance: Utterance) -> bytes | None:
        if utterance.path in rows:
            return rows[utterance.path]
        try:
            vector, length = signature(audio.read(utterance.path))
            content = audio.fingerprint(utterance.path)
        except audio.AudioError:
            return None
        return rows_of([content], vector[None], np.array([length])).tobytes()

    whole = []
    for utterance, row in zip(utterances, audio.in_order(row_of, utterances), strict=True):
        rows[utterance.path] = row
        if row is not None:
            whole.append((utterance, row))
    return TrainingList(
        np.frombuffer(b"".join(row for _, row in whole), ROW),
        _speaker_hashes([utterance for utterance, _ in whole], corpus),
        origin,
    )


def shared(trained: TrainingList, tested: TrainingList) -> NDArray[np.bool_]:
    """Whether each tested recording is, or sounds like, one of those that trained: `(tested recordings,)`."""
    is_shared = np.zeros(len(tested.rows), bool)
    known = trained.rows["frames"].astype(np.int64)
    signs = _signs(trained.rows["bits"])
    for start in range(0, len(is_shared), _BLOCK):
        rows = tested.rows[start : start + _BLOCK]
        frames = rows["frames"].astype(np.int64)[:, None]
        apart = np.abs(frames - known)
        same = (rows["content"][:, None] == trained.rows["content"]) & (apart <= 1)
        bits = (_WAVES * _BAND_WAVES - _signs(rows["bits"]) @ signs.T) / 2
        slack = LENGTH_SLACK * np.maximum(frames, known) + 2
        # Silence is like nothing.
        alike = (bits <= MOST_BITS) & (apart <= slack) & (frames > 0) & (known > 0)
        is_shared[start : start + _BLOCK] = (same | alike).any(axis=1)
    return is_shared


def _signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bits as -1 and 1: a product of two rows then counts how many agree."""
    return 2 * np.unpackbits(packed, axis=1).astype(np.float32) - 1


def training_overlap(
    card: Mapping[str, Any], trained: TrainingList | None, tested: TrainingList
) -> TrainingOverlap:
    """How many of the tested recordings and speakers a file's student was trained on, by the file's list.

    Args:
        card: of the file.
        trained: its list; None for a file without one.
    """
    count = len(tested.rows)
    if trained is None:
        name = card.get("corpus")
        names = f", and its card names {name}" if isinstance(name, str) else ""
        return TrainingOverlap(
            None,
            "not checked whether it was trained on these recordings: the file was exported without a list of "
            f"its training recordings (the command that trained it adds one){names}. The scores may be those "
            "of training material",
        )
    is_known = shared(trained, tested)
    recordings = int(is_known.sum())
    same_names = np.isin(tested.speakers, trained.speakers) & ~is_known
    if different_people(trained.origin, tested.origin):
        same_names[:] = False
    speakers = int(same_names.sum())
    which = "this recording" if count == 1 else f"{recordings} of these {count} recordings"
    if recordings:
        partly = "" if recordings == count else "in part "
        words = (
            f"TRAINED ON {which} (identical or near-identical ones): the scores are {partly}those of "
            "training material, not of new speakers"
        )
    else:
        words = (
            f"{'this recording was not' if count == 1 else f'none of these {count} recordings was'} found "
            "among those that it was trained on (whole ones are compared: parts, other speeds and mixtures "
            "are not looked for)"
        )
    if speakers:
        verb = "is" if speakers == 1 else "are"
        others = f"; {speakers} other{'s' * (speakers > 1)}" if recordings else f", but {speakers}"
        words += f"{others} {verb} of speakers whose names are among those that it was trained on"
    return TrainingOverlap(recordings > 0, words, recordings, speakers)


# In a file.


def packed(trained: TrainingList) -> bytes:
    """The list as bytes: a line of JSON, then the rows and the speakers, little-endian."""
    head = {
        "version": VERSION,
        "recordings": len(trained.rows),
        "speakers": len(trained.speakers),
        "origin": trained.origin,
    }
    line = json.dumps(head, ensure_ascii=False).encode() + b"\n"
    return line + trained.rows.tobytes() + trained.speakers.astype("<u4").tobytes()


def unpacked(content: bytes) -> TrainingList | None:
    """The list that `packed` made; None for one of a later version.

    Raises:
        ValueError: it is none.
    """
    line, _, rest = content.partition(b"\n")
    head = json.loads(line)
    if not isinstance(head, dict) or not isinstance(head.get("version"), int):
        raise ValueError("no head")
    if head["version"] > VERSION:
        return None
    recordings, speakers = head.get("recordings"), head.get("speakers")
    if not isinstance(recordings, int) or not isinstance(speakers, int) or min(recordings, speakers) < 0:
        raise ValueError("no counts")
    if not isinstance(head.get("origin"), str):
        raise ValueError("no origin")
    if len(rest) != recordings * ROW.itemsize + 4 * speakers:
        raise ValueError("another length than its counts")
    rows = np.frombuffer(rest, ROW, recordings)
    names = np.frombuffer(rest, "<u4", speakers, offset=recordings * ROW.itemsize)
    return TrainingList(rows, names.astype(np.uint32), head["origin"])


def read(path: Path) -> TrainingList | None:
    """The list in an exported file; None where it has none, or one of a later version.

    Raises:
        UserError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                return None
            with archive.open(MEMBER) as file:
                # Whatever the archive says of its length; and to its end, where the checksum is compared.
                content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError("too long")
        return unpacked(content)
    except Exception as error:  # a damaged archive makes zipfile fail in a dozen ways
        detail = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        raise UserError(
            f"{path}: its list of training recordings ({MEMBER}) is damaged{detail}. Copy or export the file "
            "again."
        ) from None
