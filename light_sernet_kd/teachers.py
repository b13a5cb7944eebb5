"""Teacher outputs: data that a student learns from, joined to its utterances by id.

A teacher file is an `.npz` with `ids` (N,), `classes` (C,), `logits` and, where it is known, a `card`.
`logits` is (N, C) float32 where one teacher serves every fold, or (F, N, C) with `folds` (F,) names where
each fold has its own. The card is JSON text: who made the file and, per fold, who was in training.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Utterance, repeated
from light_sernet_kd.files import write_arrays
from light_sernet_kd.protocols import Fold

# The name under which a teacher trained on every speaker is stored, for the student that is exported.
ALL_SPEAKERS = "all-speakers"

STAMP_UNKNOWN = "teacher may have seen test speakers"
STAMP_SEEN = "teacher was trained on test speakers"


@dataclass(frozen=True)
class Teacher:
    """A teacher's logits.

    Attributes:
        folds: names along the first axis of `logits`; empty where one teacher serves every fold.
        logits: `(len(folds) or 1, N, C)` float32.
        card: `made_by`, `corpus`, `protocol`, `train_speakers` (fold → names); empty where unknown.
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    logits: np.ndarray
    folds: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def made_by(self) -> str:
        return str(self.card.get("made_by", "unknown"))


def write(path: Path, teacher: Teacher) -> None:
    """Write a teacher file; whole or absent."""
    write_arrays(
        path,
        {
            "ids": np.array(teacher.ids),
            "classes": np.array(teacher.classes),
            "folds": np.array(teacher.folds, dtype=str),
            "logits": (teacher.logits if teacher.folds else teacher.logits[0]).astype(np.float32),
            "card": np.array(json.dumps(dict(teacher.card), ensure_ascii=False)),
        },
    )


def read(path: Path) -> Teacher:
    """Read a teacher file; nothing in it is executed.

    Raises:
        UserError: no such file, not a teacher file, or logits that do not fit its ids and classes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            # What is in the archive but no array comes as bytes.
            content = {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError:
        raise UserError(f"no teacher file {path}.") from None
    # TypeError: a single array, from an .npy. RuntimeError: an archive with a password.
    except (OSError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is not a teacher file: {error or 'it is empty'}. Expected an .npz with ids, classes, "
            "logits; `light-sernet-kd teach` makes one."
        ) from None
    missing = [name for name in ("ids", "classes", "logits") if name not in content]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(content) or 'nothing'}.")
    ids, classes = (tuple(str(name) for name in content[key].ravel()) for key in ("ids", "classes"))
    folds = tuple(str(name) for name in content.get("folds", np.array([])).ravel())
    logits = content["logits"]
    expected = (len(folds), len(ids), len(classes)) if folds else (len(ids), len(classes))
    if logits.shape != expected or logits.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: logits are {logits.dtype} {logits.shape}; expected numbers {expected} "
            f"for {len(ids)} ids and {len(classes)} classes."
        )
    if twice := repeated(ids) + repeated(classes) + repeated(folds):
        raise UserError(f"{path} names {', '.join(twice[:5])} twice.")
    try:
        card = json.loads(str(content["card"])) if "card" in content else {}
    except ValueError:
        card = None
    if not isinstance(card, dict):
        raise UserError(f"{path}: its card is not a JSON object.")
    per_fold = logits if folds else logits[np.newaxis]
    return Teacher(ids, classes, per_fold.astype(np.float32), folds, card)


def aligned(
    teacher: Teacher, utterances: Sequence[Utterance], classes: Sequence[str], fold: str
) -> np.ndarray:
    """The teacher's logits for `fold`, `(utterances, classes)` in the order given here.

    Raises:
        UserError: the teacher has no outputs for the fold, lacks an utterance, names other classes, or has a
            logit that is not finite.
    """
    if teacher.folds and fold not in teacher.folds:
        raise UserError(
            f"the teacher has no outputs for fold {fold}; it has {', '.join(teacher.folds)}. "
            "Make them with `light-sernet-kd teach` under this protocol."
        )
    if set(teacher.classes) != set(classes):
        raise UserError(
            f"the teacher names other classes: {', '.join(sorted(teacher.classes))}; "
            f"the corpus has {', '.join(sorted(classes))}."
        )
    row_of = {name: row for row, name in enumerate(teacher.ids)}
    missing = [utterance.id for utterance in utterances if utterance.id not in row_of]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"the teacher lacks {len(missing)} of {len(utterances)} utterances: "
            f"{', '.join(missing[:5])}{more}."
        )
    rows = [row_of[utterance.id] for utterance in utterances]
    columns = [teacher.classes.index(name) for name in classes]
    logits = teacher.logits[teacher.folds.index(fold) if teacher.folds else 0][np.ix_(rows, columns)]
    unusable = [utterances[i].id for i in np.flatnonzero(~np.isfinite(logits).all(axis=1)).tolist()]
    if unusable:
        raise UserError(f"the teacher's logits of {', '.join(unusable[:5])} are not finite.")
    return logits


def speakers_of_fold(teacher: Teacher, fold: str) -> set[str] | None:
    """The speakers that the teacher of `fold` was trained on; None where its card does not tell."""
    trained_on = teacher.card.get("train_speakers")
    # A file for all folds lists its speakers once, under the name that stands for all.
    seen = (
        trained_on.get(fold if teacher.folds else ALL_SPEAKERS) if isinstance(trained_on, Mapping) else None
    )
    # A speaker who is the number 3 may or may not be "03".
    return set(seen) if isinstance(seen, list) and all(isinstance(name, str) for name in seen) else None


def stamps(teacher: Teacher, folds: Sequence[Fold], utterances: Sequence[Utterance]) -> tuple[str, ...]:
    """What the teacher makes doubtful in scores on these folds; empty for one that saw no tested speaker."""
    unknown = False
    for fold in folds:
        seen = speakers_of_fold(teacher, fold.name)
        if seen is None:
            unknown = True
        elif seen & {utterances[i].speaker for i in fold.test}:
            return (STAMP_SEEN,)
    return (STAMP_UNKNOWN,) if unknown else ()
