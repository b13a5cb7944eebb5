"""A user's own recordings of coughs, sneezes, music and surroundings."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.analysis.degradations import active
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora.reading import recordings_below
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.degradations import NOISES
from light_sernet_kd.reporting.text import pluralise

# So many of each kind are held in memory, and so much of each.
MOST, MOST_SECONDS = 60, 30


def read_noises(folder: Path | None, *, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Kind → recordings `(samples,)` at 16 kHz in the folder of that name; kinds without a folder are absent.

    Of more than 60 of a kind, 60 are drawn by the seed. Of longer ones the first 30 s are kept.

    Raises:
        UserError: the folder is not there or has none of the kinds; one of these has no recording, or one
            that is broken or silent in what is kept.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: --noises takes one with {_kinds()} in it.")
    kinds = [kind for kind in NOISES if (folder / kind).is_dir()]
    if not kinds:
        raise UserError(f"{folder} has no folder of noises: expected one or more of {_kinds()}.")
    return {kind: _noises_in(folder / kind, seed) for kind in kinds}


def _kinds() -> str:
    return ", ".join(f"{kind}/" for kind in NOISES)


def _noises_in(folder: Path, seed: int) -> list[np.ndarray]:
    paths = [folder / name for name in recordings_below(folder)]
    drawn = sorted(paths, key=lambda path: zlib.crc32(f"{seed} {path.name}".encode()))[:MOST]
    waveforms = []
    for path in sorted(drawn):
        try:
            waveform = _beginning_of(path)
        except audio.AudioError as error:
            raise UserError(f"{error}. Mend or remove it: --noises takes whole recordings.") from None
        if not len(active(waveform)):
            raise UserError(f"{path} is silent in its first {MOST_SECONDS} s: remove it.")
        waveforms.append(waveform)
    return waveforms


def _beginning_of(path: Path) -> np.ndarray:
    """What is kept of a recording, which is not read any further."""
    parts, missing = [], MOST_SECONDS * SAMPLE_RATE
    for block in audio.blocks(path):
        parts.append(block[:missing].copy())  # a view would hold the block
        missing -= len(parts[-1])
        if not missing:
            break
    return np.concatenate(parts)


def described(noises: Mapping[str, Sequence[np.ndarray]]) -> dict[str, str]:
    """What each kind of noise was made of."""
    return {
        kind: pluralise(len(noises[kind]), "recording") + " of the user" if kind in noises else "synthesised"
        for kind in NOISES
    }
