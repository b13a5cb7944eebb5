"""Everything a run can be told, as one frozen, typed dataclass saved beside its result.

Standard library only: the command line answers `--help` and refuses a typo from here.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

SAMPLE_RATE = 16_000

StudentName = Literal["light_sernet", "light_sernet_plus"]
FrontEndName = Literal["lsn", "cubic"]
InputType = Literal["mfcc", "mel_spectrogram", "spectrogram"]
LabelLossName = Literal["cross_entropy", "focal"]
DistillationName = Literal["pure", "KD", "RKD", "DKD", "CKD"]
ProtocolName = Literal["loso", "published", "random"]
ScheduleName = Literal["light_sernet", "cubic"]
CacheName = Literal["disk", "ram", "none"]
AudioType = Literal["all", "impro", "script"]
Precision = Literal["float32", "float16", "dynamic", "int8"]

STUDENT_NAMES: tuple[str, ...] = get_args(StudentName)
FRONT_END_NAMES: tuple[str, ...] = get_args(FrontEndName)
INPUT_TYPES: tuple[str, ...] = get_args(InputType)
LABEL_LOSS_NAMES: tuple[str, ...] = get_args(LabelLossName)
DISTILLATION_NAMES: tuple[str, ...] = get_args(DistillationName)
PROTOCOL_NAMES: tuple[str, ...] = get_args(ProtocolName)
SCHEDULE_NAMES: tuple[str, ...] = get_args(ScheduleName)
CACHE_NAMES: tuple[str, ...] = get_args(CacheName)
AUDIO_TYPES: tuple[str, ...] = get_args(AudioType)
PRECISIONS: tuple[str, ...] = get_args(Precision)


class UserError(Exception):
    """A mistake the user can mend: shown as one line on stderr, exit code 2, no traceback."""


def choose(what: str, value: str, valid: Iterable[str]) -> str:
    """`value` if it is one of `valid`, else a `UserError` that lists them and names the nearest.

    Case is forgiven where that is unambiguous: `ckd` means `CKD`.
    """
    names = list(valid)
    if value in names:
        return value
    same = [name for name in names if name.lower() == value.lower()]
    if len(same) == 1:
        return same[0]
    close = difflib.get_close_matches(value.lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    hint = ""
    if close:
        nearest = next(name for name in names if name.lower() == close[0])
        hint = f" Did you mean {nearest}?"
    raise UserError(f"unknown {what} {value!r}.{hint} Valid: {', '.join(names)}.")
