"""Which recordings sound alike.

A signature holds what of a recording survives another level, rate or codec, or silence around it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.arrays import ArrayError, Expected, read_arrays, say_anew
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data import confounds
from light_sernet_kd.files import write_arrays

# Of copies of EMO-DB at another level, rate or codec (MP3, Ogg Vorbis) or with silence around them, 95 % are
# above this; of its different recordings, takes of one sentence by one speaker included, none is above 0.93.
NEAR_IDENTICAL = 0.98
SIGNATURE_VERSION = 2

_FRAME_SAMPLES, _HOP_SAMPLES = 512, 160
_BANDS, _SEGMENTS = 16, 32

# Energy this far below the loudest is silence, and is not told apart from any other silence.
_FLOOR = 1e-4
# Copies may lose or gain this share of their length, and two frames, at their ends.
LENGTH_SLACK = 0.03


def signature(waveform: np.ndarray) -> tuple[np.ndarray, int]:
    """What of a recording survives another level, rate, codec or silence around it.

    Log energies of 16 bands from 100 to 3800 Hz in 32 equal parts of what is not silence, less their mean.

    Args:
        waveform: `(samples,)` at 16 kHz.

    Returns:
        float32 `(512,)` of length 1 (of length 0 for silence), and the length of what is not silence in
        frames of 10 ms.
    """
    padded = np.pad(waveform, (0, max(0, _FRAME_SAMPLES - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME_SAMPLES)[::_HOP_SAMPLES]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME_SAMPLES).astype(np.float32))) ** 2
    edges = (np.geomspace(100, 3800, _BANDS + 1) * _FRAME_SAMPLES / SAMPLE_RATE).astype(int)
    bands = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    energy = bands.sum(axis=1)
    sounding = np.flatnonzero(energy > _FLOOR * energy.max())
    if not len(sounding):
        return np.zeros(_BANDS * _SEGMENTS, np.float32), 0
    bands = bands[sounding[0] : sounding[-1] + 1]
    sums = np.concatenate([np.zeros((1, _BANDS)), np.cumsum(np.log(bands + _FLOOR * bands.max()), axis=0)])
    ends = np.linspace(0, len(bands), _SEGMENTS + 1)
    # Sums up to a fraction of a frame, so that recordings shorter than 32 frames have 32 parts too.
    whole = np.minimum(ends.astype(int), len(bands) - 1)
    at_ends = sums[whole] + (ends - whole)[:, None] * (sums[whole + 1] - sums[whole])
    means = np.diff(at_ends, axis=0) / np.diff(ends)[:, None]
    centred = (means - means.mean()).ravel()
    return (centred / max(float(np.linalg.norm(centred)), 1e-9)).astype(np.float32), len(bands)


class Measured(NamedTuple):
    """What `signature` and `confounds` tell of each recording: `(n, 512)`, `(n,)` and n facts."""

    vectors: np.ndarray
    lengths: np.ndarray
    facts: list[confounds.RecordingFacts]


def measure(
    utterances: Sequence[Utterance], fingerprints: Mapping[str, str], cache_folder: Path | None = None
) -> Measured:
    """`signature` of every recording, float32 `(utterances, 512)` and int64 `(utterances,)`, and its facts.

    Args:
        cache_folder: keeps them in a file for the next time; None keeps nothing.

    Raises:
        UserError: lists every recording that cannot be used.
    """
    key = hashlib.sha256(str(SIGNATURE_VERSION).encode())
    for utterance in utterances:
        key.update(fingerprints[utterance.id].encode())
    path = cache_folder / f"signatures-{key.hexdigest()[:32]}.npz" if cache_folder else None
    if path and (stored := _stored_measurements(path, len(utterances))):
        return stored

    def measured(utterance: Utterance) -> tuple[np.ndarray, int, confounds.RecordingFacts] | audio.AudioError:
        try:
            waveform = audio.read(utterance.path)
            return *signature(waveform), confounds.facts_of(waveform, *audio.header(utterance.path))
        except audio.AudioError as error:
            return error

    vectors = np.zeros((len(utterances), _BANDS * _SEGMENTS), np.float32)
    lengths = np.zeros(len(utterances), np.int64)
    facts: list[confounds.RecordingFacts] = []
    bad = {}
    for row, result in enumerate(audio.in_order(measured, utterances)):
        if isinstance(result, audio.AudioError):
            bad[utterances[row].id] = str(result)
        else:
            vectors[row], lengths[row] = result[:2]
            facts.append(result[2])
    if bad:
        raise audio.unusable(bad, len(utterances))
    if path:
        columns = dict(
            zip(confounds.RecordingFacts._fields, map(np.array, zip(*facts, strict=True)), strict=True)
        )
        write_arrays(path, {"vectors": vectors, "lengths": lengths, **columns})
    return Measured(vectors, lengths, facts)


def _stored_measurements(path: Path, count: int) -> Measured | None:
    number, text = Expected((count,)), Expected((count,), "U")
    expected = {"vectors": Expected((count, _BANDS * _SEGMENTS)), "lengths": Expected((count,), "iu")}
    expected |= {name: text if name == "encoding" else number for name in confounds.RecordingFacts._fields}
    try:
        stored = read_arrays(path, expected=expected, sealed=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ArrayError as error:
        say_anew(error)
        return None
    columns = [stored[name].tolist() for name in confounds.RecordingFacts._fields]
    facts = [confounds.RecordingFacts(*row) for row in zip(*columns, strict=True)]
    return Measured(stored["vectors"], stored["lengths"], facts)


def alike(vectors: np.ndarray, lengths: np.ndarray, *, threshold: float = NEAR_IDENTICAL, block: int = 512):
    """Pairs of recordings that sound alike: a list of indices `(first, second)`, first < second.

    Args:
        vectors, lengths: from `measure`. Silence is like nothing.
        threshold: cosine of the angle between two signatures, from which on they are alike.
    """
    order = np.argsort(lengths, kind="stable")
    sorted_lengths = lengths[order]
    pairs = []
    # Only recordings of about the same length are compared: in order of length these are neighbours.
    for start in range(0, len(order), block):
        rows = order[start : start + block]
        longest = sorted_lengths[min(start + block, len(order)) - 1] * (1 + LENGTH_SLACK) + 2
        stop = int(np.searchsorted(sorted_lengths, longest, side="right"))
        for other in range(start, stop, 8 * block):
            columns = order[other : min(other + 8 * block, stop)]
            similarity = vectors[rows] @ vectors[columns].T
            for a, b in np.argwhere(similarity >= threshold).tolist():
                first, second = sorted((int(rows[a]), int(columns[b])))
                slack = LENGTH_SLACK * max(lengths[first], lengths[second]) + 2
                if first != second and abs(int(lengths[first] - lengths[second])) <= slack:
                    pairs.append((first, second))
    return sorted(set(pairs))
