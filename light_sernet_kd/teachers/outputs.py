"""What a teacher says of a corpus, who it was trained on, and what that makes doubtful."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.config import Dimensions
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.protocols import ALL_SPEAKERS, Fold
from light_sernet_kd.errors import nfc

STAMP_UNKNOWN = "teacher may have seen test speakers"
STAMP_SEEN = "teacher was trained on test speakers"


@dataclass(frozen=True)
class Teacher:
    """A teacher's logits, and its embeddings where it has them.

    Attributes:
        folds: names along the first axis of `logits`; empty where one teacher serves every fold.
        logits: `(len(folds) or 1, N, C)` float32.
        card: `made_by`, `corpus`, `protocol`, `train_speakers` (fold → names); empty where unknown.
            `converted` where the logits are logarithms of the file's probabilities.
        embeddings: `(1, N, E)` where all folds share them, or `(len(folds), N, E)`; float32 or float16.
        values: of arousal, valence and so on, likewise, `(…, N, K)` float32; NaN where it says nothing.
        dimensions: the names of these, and the ends of their scale.

    One teacher of two utterances and two classes serves every fold.

    >>> logits = np.array([[[2.0, -1.0], [0.5, 1.5]]], np.float32)
    >>> card = {"made_by": "a wide ResNet"}
    >>> teacher = Teacher(("clip-1", "clip-2"), ("anger", "fear"), logits, card=card)
    >>> teacher.logits.shape, teacher.made_by
    ((1, 2, 2), 'a wide ResNet')
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    logits: np.ndarray
    folds: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    embeddings: np.ndarray | None = None
    values: np.ndarray | None = None
    dimensions: Dimensions | None = None

    def __post_init__(self) -> None:
        # as the corpora's names are: a file made on a Mac may have another form
        for name in ("ids", "classes", "folds"):
            object.__setattr__(self, name, tuple(map(nfc, getattr(self, name))))

    @property
    def made_by(self) -> str:
        return str(self.card.get("made_by", "unknown"))


def of_fold(teacher: Teacher, fold: str) -> Teacher:
    """What a teacher that tells folds apart says in one of them.

    >>> logits = np.array([[[1.0, 2.0]], [[3.0, 4.0]]], np.float32)
    >>> of_fold(Teacher(("clip-1",), ("anger", "fear"), logits, ("ann", "bob")), "bob").logits.tolist()
    [[[3.0, 4.0]]]
    """
    number = teacher.folds.index(fold)
    embeddings, values = (
        each[number][None] if each is not None and len(each) > 1 else each
        for each in (teacher.embeddings, teacher.values)
    )
    logits = teacher.logits[number][None]
    return replace(teacher, logits=logits, folds=(fold,), embeddings=embeddings, values=values)


def model_name(source: str) -> str:
    """What a card calls a model: a name on the hub as it is, of a file or folder the last part alone.

    Where it lies is nobody's business.

    >>> model_name("openai/whisper-base"), model_name("/models/net.onnx#/encoder/out")
    ('openai/whisper-base', 'net.onnx#/encoder/out')
    """
    place, mark, tensor = source.partition("#")
    is_place = Path(place).exists() or Path(place).is_absolute() or mark
    return (Path(place).name if is_place else place) + mark + tensor


def train_speakers(folds: Sequence[Fold], utterances: Sequence[Utterance]) -> dict[str, list[str]]:
    """Fold → the speakers who train in it, sorted: what a card says under `train_speakers`."""
    return {fold.name: sorted({utterances[i].speaker for i in fold.train}) for fold in folds}


def is_cross_fitted(card: Mapping[str, Any]) -> bool:
    """Whether a training utterance's outputs are of what was trained without its speaker.

    Of several teachers all must be so, and the utterance's own label must not have weighed them. False where
    the card does not tell.

    >>> is_cross_fitted({"probe": {"cross_fitted": True}}), is_cross_fitted({"parts": 0})
    (True, False)
    """
    probe, members = card.get("probe"), card.get("members")
    if card.get("parts") or (isinstance(probe, Mapping) and probe.get("cross_fitted")):
        return True
    if not isinstance(members, list) or not members or card.get("mixing"):
        return False
    return all(isinstance(each, Mapping) and is_cross_fitted(each) for each in members)


def speakers_of_fold(teacher: Teacher, fold: str) -> set[str] | None:
    """The speakers that the teacher of `fold` was trained on; None where its card does not tell."""
    trained_on = teacher.card.get("train_speakers")
    by_fold = trained_on if isinstance(trained_on, Mapping) else {}
    # A file for all folds lists its speakers once, under the name that stands for all.
    wanted = nfc(fold) if teacher.folds else ALL_SPEAKERS
    seen = next((names for key, names in by_fold.items() if nfc(str(key)) == wanted), None)
    # A speaker who is the number 3 may or may not be "03".
    if not isinstance(seen, list) or not all(isinstance(name, str) for name in seen):
        return None
    return set(map(nfc, seen))


def trained_speakers_among(teacher: Teacher, seen: Set[str], speakers: Set[str]) -> set[str]:
    """Those of the speakers whom a teacher was trained on.

    Of two corpora a speaker's name begins with that of their corpus; a teacher of that corpus alone names
    them without it.

    Args:
        seen: from `speakers_of_fold`.
    """
    prefix = f"{teacher.card.get('corpus')}/"
    return {name for name in speakers if name in seen or name.removeprefix(prefix) in seen}


def stamps(teacher: Teacher, folds: Sequence[Fold], utterances: Sequence[Utterance]) -> tuple[str, ...]:
    """What the teacher makes doubtful in scores on these folds; empty for one that saw no tested speaker."""
    unknown = False
    for fold in folds:
        seen = speakers_of_fold(teacher, fold.name)
        if seen is None:
            unknown = True
        elif trained_speakers_among(teacher, seen, {utterances[i].speaker for i in fold.test}):
            return (STAMP_SEEN,)
    return (STAMP_UNKNOWN,) if unknown else ()
