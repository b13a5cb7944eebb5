"""A teacher's outputs in the order of a corpus, and how its names would have to be written to fit."""

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from light_sernet_kd.config.dimensions import are_ratings_alone, to_unit_scale
from light_sernet_kd.corpora import Utterance, repeated
from light_sernet_kd.corpora.names import SYNONYMS
from light_sernet_kd.errors import UserError
from light_sernet_kd.teachers.outputs import Teacher

# No logit or embedding is so far from 0; what masks a class, such as -1e9, is below it.
LARGEST_OUTPUT = 1e12
# The ends of the scale that students learn ratings on.
SCALED = (-1.0, 1.0)


def aligned(
    teacher: Teacher, utterances: Sequence[Utterance], classes: Sequence[str], fold: str
) -> np.ndarray:
    """The teacher's logits for `fold`, `(utterances, classes)` in the order given here.

    Raises:
        UserError: the teacher has no outputs for the fold, lacks an utterance, names other classes, or has a
            logit that is not finite.

    The teacher has utterances and classes in an order of its own.

    >>> logits = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    >>> teacher = Teacher(("clip-2", "clip-1"), ("fear", "anger"), logits)
    >>> clips = [Utterance(f"clip-{n}", f"clip-{n}.wav", "anger", speaker="ann") for n in (1, 2)]
    >>> aligned(teacher, clips, ("anger", "fear"), "ann").tolist()
    [[4.0, 3.0], [2.0, 1.0]]
    """
    number = _fold_number(teacher, fold)
    if are_ratings_alone(classes):
        # Of ratings alone: whatever classes the teacher has, nothing is learnt of them.
        return np.zeros((len(_rows(teacher, utterances)), 1), np.float32)
    if set(teacher.classes) != set(classes):
        raise UserError(
            f"the teacher names other classes: {', '.join(sorted(teacher.classes))}; "
            f"the corpus has {', '.join(sorted(classes))}.{_class_hint(teacher.classes, classes)}"
        )
    columns = [teacher.classes.index(name) for name in classes]
    logits = teacher.logits[number][np.ix_(_rows(teacher, utterances), columns)]
    return _finite(logits, "logits", utterances)


def aligned_embeddings(teacher: Teacher, utterances: Sequence[Utterance], fold: str) -> np.ndarray:
    """The teacher's embeddings for `fold`, `(utterances, width)` float32 in the order given here.

    Raises:
        UserError: the teacher has no embeddings, no outputs for the fold, lacks an utterance, or has an
            embedding that is not finite.
    """
    if teacher.embeddings is None:
        raise UserError(
            f"the teacher ({teacher.made_by}) has no embeddings to learn from: its file needs an array "
            "`embeddings`; teachers on YAMNet and on speech models have one."
        )
    number = _fold_number(teacher, fold) if len(teacher.embeddings) > 1 else 0
    embeddings = teacher.embeddings[number][_rows(teacher, utterances)].astype(np.float32)
    return _finite(embeddings, "embeddings", utterances)


def aligned_dimensions(
    teacher: Teacher, utterances: Sequence[Utterance], names: Sequence[str], fold: str
) -> np.ndarray:
    """The teacher's values of these dimensions for `fold`, `(utterances, names)` float32 in the order given
    here, on a scale from -1 to 1; NaN where it says nothing.

    Raises:
        UserError: the teacher has no values of one of them, or of no utterance, no outputs for the fold, or
            lacks an utterance.

    >>> from light_sernet_kd.config import Dimensions
    >>> values, of = np.array([[[4.0], [2.0]]], np.float32), Dimensions(("arousal",), (1, 5))
    >>> teacher = Teacher(("a", "b"), ("fear",), values, values=values, dimensions=of)
    >>> clips = [Utterance(name, f"{name}.wav", "fear", speaker="ann") for name in "ba"]
    >>> aligned_dimensions(teacher, clips, ["arousal"], "ann").tolist()
    [[-0.5], [0.5]]
    """
    known = teacher.dimensions.names if teacher.dimensions else ()
    if teacher.values is None or teacher.dimensions is None or not {*names} <= {*known}:
        missing = " and ".join(name for name in names if name not in known)
        raise UserError(
            f"the teacher ({teacher.made_by}) has no values of {missing} to learn from: its file needs an "
            "array `dimensions` (see docs/dimensions.md); networks that the run trains, --teacher auto, have "
            "them. Or leave out values and CCC of -kd."
        )
    number = _fold_number(teacher, fold) if len(teacher.values) > 1 else 0
    columns = [known.index(name) for name in names]
    values = teacher.values[number][np.ix_(_rows(teacher, utterances), columns)].astype(np.float64)
    scaled: np.ndarray = to_unit_scale(values, teacher.dimensions.range).astype(np.float32)
    scaled[~np.isfinite(scaled)] = np.nan
    if silent := [name for name, column in zip(names, scaled.T, strict=True) if np.isnan(column).all()]:
        raise UserError(f"the teacher ({teacher.made_by}) says nothing of {silent[0]} for fold {fold}.")
    return scaled


def _fold_number(teacher: Teacher, fold: str) -> int:
    if teacher.folds and fold not in teacher.folds:
        raise UserError(
            f"the teacher has no outputs for fold {fold}; it has {', '.join(teacher.folds)}. "
            "Make them with `light-sernet-kd teach` under this protocol."
        )
    return teacher.folds.index(fold) if teacher.folds else 0


def _rows(teacher: Teacher, utterances: Sequence[Utterance]) -> list[int]:
    row_of = {name: row for row, name in enumerate(teacher.ids)}
    missing = [utterance.id for utterance in utterances if utterance.id not in row_of]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        ours = [utterance.id for utterance in utterances]
        hint = _id_hint(teacher.ids, ours)
        if len(missing) == len(utterances):
            raise UserError(
                f"the teacher fits none of {len(utterances)} utterances. Its ids are {_some(teacher.ids)}; "
                f"the corpus's are {_some(ours)}.{hint or _NO_HINT}"
            )
        raise UserError(
            f"the teacher lacks {len(missing)} of {len(utterances)} utterances: "
            f"{', '.join(missing[:5])}{more}.{hint}"
        )
    return [row_of[utterance.id] for utterance in utterances]


_NO_HINT = " Was the teacher made for another corpus? Write the corpus's ids into its file."


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _class_hint(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """How a teacher's classes would have to be renamed to be the corpus's; empty where nothing is known."""
    if {name.lower() for name in theirs} == {name.lower() for name in ours}:
        return " They differ in capitals only: write the teacher's as the corpus's."
    by_plain_name = {name.casefold(): name for name in ours}
    meant: dict[str, str | None] = {}
    for name in theirs:
        plain = name.strip().casefold()
        meant[name] = by_plain_name.get(plain) or by_plain_name.get(SYNONYMS.get(plain, ""))
    renamed = [f"{name}={target}" for name, target in meant.items() if target and target != name]
    if not any(meant.values()):
        return ""
    hint = ""
    if renamed:
        hint = (
            f" If {', '.join(renamed)} is meant, write these names into the teacher's file (`classes`, or "
            "the header of a CSV)."
        )
    if twice := repeated([target for target in meant.values() if target]):
        hint += f" Several are {', '.join(twice)}: add up their probabilities in one column."
    if without := [name for name, target in meant.items() if target is None]:
        hint += f" The corpus lacks {', '.join(without)}: leave these columns out."
    if lacking := [name for name in ours if name not in meant.values()]:
        others = ",".join(name for name in ours if name not in lacking)
        hint += f" The teacher lacks {', '.join(lacking)}: --emotions {others} keeps the others."
    return hint


# Changes of an id, the smallest first.
_SPELLINGS: dict[str, Callable[[str], str]] = {
    "without the suffix": lambda name: os.path.splitext(name)[0],
    "without the folder": lambda name: _without_folder(name),
    "without folder and suffix": lambda name: os.path.splitext(_without_folder(name))[0],
    "without outer spaces": str.strip,
    "in small letters": str.lower,
    "in capitals": str.upper,
    "in the Unicode form NFC": lambda name: unicodedata.normalize("NFC", name),
    "in the Unicode form NFD": lambda name: unicodedata.normalize("NFD", name),
}


def _without_folder(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _id_hint(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """How a teacher's ids would have to be written to be the corpus's; empty where nothing is known."""
    wanted = set(ours)
    best, fitting = "", len(wanted & set(theirs))
    for how, change in _changes(theirs, ours):
        changed = {change(name): name for name in theirs}
        matches = [name for name in ours if name in changed]
        # Two ids must not become one.
        if len(changed) == len(theirs) and len(matches) > fitting:
            example = next((name for name in matches if changed[name] != name), "")
            best, fitting = f"{how}, such as {example} for {changed[example]}", len(matches)
    return f" Write its ids {best}: then {fitting} of {len(ours)} utterances fit." if best else ""


def _changes(theirs: Sequence[str], ours: Sequence[str]) -> Iterator[tuple[str, Callable[[str], str]]]:
    """Changes of an id, and what to call them: spellings, and what all ids of one side have in addition."""
    yield from _SPELLINGS.items()

    def around(longer: str, shorter: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """What an id has before and behind the longest ids within it, and that in words."""
        for inner in sorted((each for each in shorter if each and each in longer), key=len)[-3:]:
            before, behind = longer.split(inner, 1)
            ends = [f"{before!r} before"] * bool(before) + [f"{behind!r} behind"] * bool(behind)
            yield before, behind, f"{' and '.join(ends)} them"

    def less(before: str, behind: str) -> Callable[[str], str]:
        return lambda name: name.removeprefix(before).removesuffix(behind)

    def more(before: str, behind: str) -> Callable[[str], str]:
        return lambda name: f"{before}{name}{behind}"

    for before, behind, words in around(theirs[0], ours) if theirs else ():
        yield f"without {words}", less(before, behind)
    for before, behind, words in around(ours[0], theirs):
        yield f"with {words}", more(before, behind)


def _finite(values: np.ndarray, what: str, utterances: Sequence[Utterance]) -> np.ndarray:
    for usable, why in (
        (np.isfinite(values), "not finite"),
        (np.abs(values) <= LARGEST_OUTPUT, f"beyond ±{LARGEST_OUTPUT:g}: make its file anew"),
    ):
        if unusable := [utterances[i].id for i in np.flatnonzero(~usable.all(axis=1)).tolist()]:
            raise UserError(f"the teacher's {what} of {', '.join(unusable[:5])} are {why}.")
    return values
