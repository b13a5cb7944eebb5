"""Teacher outputs: data that a student learns from, joined to its utterances by id.

A teacher file is an `.npz` with `ids` (N,), `classes` (C,), `logits` and, where it is known, a `card`.
`logits` is (N, C) float32 where one teacher serves every fold, or (F, N, C) with `folds` (F,) names where
each fold has its own. The card is JSON text: who made the file and, per fold, who was in training.
`embeddings` may be there too: float32 or float16, (N, E), or (F, N, E) where each fold has its own.

A `.csv` does as well: a header with `id`, a column per class and, where each fold has its own, `fold`.

In both, the numbers are logits, or probabilities (soft labels) where none is negative and each row sums to 1:
their logarithms are then the logits, and the card says so under `converted`.
"""

import csv
import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from light_sernet_kd.arrays import ArrayError, read_arrays
from light_sernet_kd.corpora import Utterance, repeated
from light_sernet_kd.corpora.names import SYNONYMS
from light_sernet_kd.data.protocols import ALL_SPEAKERS, Fold
from light_sernet_kd.errors import UserError, nfc
from light_sernet_kd.files import JSON_BYTES, irregular, parse_json, write_arrays

STAMP_UNKNOWN = "teacher may have seen test speakers"
STAMP_SEEN = "teacher was trained on test speakers"

# What a probability of 0 counts as: its logarithm would be infinite.
SMALLEST_PROBABILITY = 1e-7
# Probabilities that were rounded to two decimals may miss 1 by as much.
_ROUNDING = 0.01 + 1e-9
# No logit or embedding is so far from 0; what masks a class, such as -1e9, is below it.
LARGEST_OUTPUT = 1e12
# In memory, names and a table's cells take some ten times what they take in the file.
MOST_IDS, MOST_CLASSES = 10_000_000, 10_000
CSV_BYTES, CSV_LINE = 2 * 10**8, 10**6
_NONE = np.array([], dtype=str)
CONVERTED = "its numbers are probabilities, and their logarithms are taken for the logits"


@dataclass(frozen=True)
class Teacher:
    """A teacher's logits, and its embeddings where it has them.

    Attributes:
        folds: names along the first axis of `logits`; empty where one teacher serves every fold.
        logits: `(len(folds) or 1, N, C)` float32.
        card: `made_by`, `corpus`, `protocol`, `train_speakers` (fold → names); empty where unknown.
            `converted` where the logits are logarithms of the file's probabilities.
        embeddings: `(1, N, E)` where all folds share them, or `(len(folds), N, E)`; float32 or float16.
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    logits: np.ndarray
    folds: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    embeddings: np.ndarray | None = None

    def __post_init__(self) -> None:
        # as the corpora's names are: a file made on a Mac may have another form
        for name in ("ids", "classes", "folds"):
            object.__setattr__(self, name, tuple(map(nfc, getattr(self, name))))

    @property
    def made_by(self) -> str:
        return str(self.card.get("made_by", "unknown"))


def write(path: Path, teacher: Teacher) -> None:
    """Write a teacher file; whole or absent."""
    arrays = {
        "ids": np.array(teacher.ids),
        "classes": np.array(teacher.classes),
        "folds": np.array(teacher.folds, dtype=str),
        "logits": (teacher.logits if teacher.folds else teacher.logits[0]).astype(np.float32),
        "card": np.array(json.dumps(dict(teacher.card), ensure_ascii=False)),
    }
    if teacher.embeddings is not None:
        shared = len(teacher.embeddings) == 1
        arrays["embeddings"] = teacher.embeddings[0] if shared else teacher.embeddings
    write_arrays(path, arrays)


def no_file(path: Path) -> UserError:
    """What is said where there is no teacher file."""
    return UserError(
        f"no teacher file {path}. `light-sernet-kd teach` makes one (--from: of a speech model)."
    )


def read(path: Path) -> Teacher:
    """Read a teacher file, a `.csv` by its name and else an `.npz`; nothing in it is executed.

    Raises:
        UserError: no such file, not a teacher file, or outputs that do not fit its ids and classes.
    """
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    try:
        content = read_arrays(path)
    except (FileNotFoundError, NotADirectoryError):
        raise no_file(path) from None
    except ArrayError as error:
        why = f"it {error.why}"
        if error.why.startswith(("is damaged", "is locked", "holds Python")):
            why = f"it is damaged, locked or holds Python objects: {why}"
        raise UserError(
            f"{path} is not a teacher file: {why}. Expected an .npz with ids, classes, "
            "logits; `light-sernet-kd teach` makes one."
        ) from None
    missing = [name for name in ("ids", "classes", "logits") if name not in content]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(content) or 'nothing'}.")
    for name, most in (("ids", MOST_IDS), ("classes", MOST_CLASSES), ("folds", MOST_CLASSES)):
        if (count := content.get(name, _NONE).size) > most:
            raise UserError(f"{path} names {count:,} {name}; at most {most:,} are read.")
    ids, classes, folds = (_texts(content.get(key, _NONE)) for key in ("ids", "classes", "folds"))
    logits = content["logits"]
    expected = (len(folds), len(ids), len(classes)) if folds else (len(ids), len(classes))
    if logits.shape != expected or logits.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: logits are {logits.dtype} {logits.shape}; expected numbers {expected} "
            f"for {len(ids)} ids and {len(classes)} classes."
        )
    if twice := repeated(ids) + repeated(classes) + repeated(folds):
        raise UserError(f"{path} names {', '.join(twice[:5])} twice.")
    if (card_bytes := content.get("card", _NONE).nbytes) > JSON_BYTES:
        raise UserError(f"{path}: its card has {card_bytes:,} bytes; at most {JSON_BYTES:,} are read.")
    try:
        card = parse_json("".join(_texts(content["card"]))) if "card" in content else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): its card is not a JSON object.") from None
    if not isinstance(card, dict):
        raise UserError(f"{path}: its card is not a JSON object.")
    per_fold = logits if folds else logits[np.newaxis]
    embeddings = (
        _embeddings(path, content["embeddings"], len(ids), len(folds)) if "embeddings" in content else None
    )
    places = [f"{name}, fold {fold}" if folds else name for fold in folds or ("",) for name in ids]
    per_fold, card = _converted(path, per_fold, places, card)
    return Teacher(ids, classes, _float32(per_fold), folds, card, embeddings)


def _converted(
    path: Path, values: np.ndarray, places: Sequence[str], card: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Logits of what an archive holds, `(F, N, C)`, and its card, which says if they were probabilities."""
    rows = np.asarray(values, np.float64).reshape(len(places), values.shape[-1])
    logits = _as_logits(path, rows, places)
    if logits is rows:
        return values, dict(card)
    return logits.reshape(values.shape), {**card, "converted": CONVERTED}


def _texts(names: np.ndarray) -> tuple[str, ...]:
    """The names in an array of any shape, text or bytes, as text."""
    return tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.ravel()
    )


def _float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported where it is used
        return values.astype(np.float32)


def _embeddings(path: Path, found: np.ndarray, ids: int, folds: int) -> np.ndarray:
    """The embeddings of a file as `Teacher` holds them; float16 stays so, other numbers become float32."""
    fits = found.shape[:-1] == (ids,) or (folds and found.shape[:-1] == (folds, ids))
    if not fits or not found.shape[-1] or found.dtype.kind not in "fiu":
        or_per_fold = f" or ({folds}, {ids}, E)" if folds else ""
        raise UserError(
            f"{path}: embeddings are {found.dtype} {found.shape}; expected numbers ({ids}, E){or_per_fold}."
        )
    kept = found if found.dtype == np.float16 else _float32(found)
    return kept if found.ndim == 3 else kept[np.newaxis]


def _read_csv(path: Path) -> Teacher:
    try:
        why = irregular(path)
        if why is None and (size := os.stat(path).st_size) > CSV_BYTES:
            why = f"has {size:,} bytes, of at most {CSV_BYTES:,} for a CSV; as an .npz it may be larger"
        if why is not None:
            raise UserError(f"{path} is not a teacher file: it {why}.")
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(_short_lines(file))
            header = [name.strip() for name in next(lines, [])]
            rows = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    except (FileNotFoundError, NotADirectoryError):
        raise no_file(path) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} is not a teacher file: {reason}. Expected a CSV in UTF-8.") from None
    classes = tuple(name for name in header if name not in ("id", "fold"))
    if "id" not in header or not classes or not all(classes):
        raise UserError(
            f"{path}, line 1: expected id, a column per class and perhaps fold, separated by commas; "
            f"found {', '.join(header) or 'nothing'}."
        )
    if twice := repeated(header):
        raise UserError(f"{path}, line 1 names {', '.join(twice[:5])} twice.")
    if not rows:
        raise UserError(f"{path} holds a header but no rows.")

    columns = {name: header.index(name) for name in header}
    found: dict[str, dict[str, int]] = {}  # fold → id → row
    values = np.empty((len(rows), len(classes)))
    for row, (line, cells) in enumerate(rows):
        if len(cells) != len(header):
            raise UserError(f"{path}, line {line}: {len(cells)} values for {len(header)} columns.")
        name, fold = cells[columns["id"]].strip(), cells[columns["fold"]].strip() if "fold" in columns else ""
        if not name or (not fold and "fold" in columns):
            raise UserError(f"{path}, line {line}: no {'fold' if name else 'id'}.")
        rows_of_fold = found.setdefault(fold, {})
        if name in rows_of_fold:
            of_fold = f" of fold {fold}" if fold else ""
            raise UserError(
                f"{path}, line {line}: {name}{of_fold} stands in line {rows[rows_of_fold[name]][0]} too."
            )
        rows_of_fold[name] = row
        for column, label in enumerate(classes):
            cell = cells[columns[label]].strip()
            try:
                values[row, column] = float(cell)
            except ValueError:
                values[row, column] = np.nan
            if not np.isfinite(values[row, column]):
                raise UserError(f"{path}, line {line}: expected a number for {label}, found {cell!r}.")

    ids = tuple(dict.fromkeys(name for rows_of_fold in found.values() for name in rows_of_fold))
    for fold, rows_of_fold in found.items():
        if absent := [name for name in ids if name not in rows_of_fold]:
            raise UserError(
                f"{path}: fold {fold} lacks {len(absent)} of {len(ids)} utterances, e.g. {absent[0]}: "
                "each fold needs the outputs for all."
            )
    order = [[rows_of_fold[name] for name in ids] for rows_of_fold in found.values()]
    logits = _as_logits(path, values, [f"line {line}" for line, _ in rows])
    card = {} if logits is values else {"converted": CONVERTED}
    folds = tuple(found) if "fold" in columns else ()
    return Teacher(ids, classes, _float32(logits[np.array(order)]), folds, card)


def _short_lines(file: IO[str]) -> Iterator[str]:
    number = 0
    while line := file.readline(CSV_LINE + 1):
        number += 1
        if len(line) > CSV_LINE:
            raise csv.Error(f"line {number} has more than {CSV_LINE:,} characters")
        yield line


def _as_logits(path: Path, values: np.ndarray, places: Sequence[str]) -> np.ndarray:
    """Logits `(rows, classes)` as they are; probabilities as their logarithms, whose softmax they are.

    Args:
        places: of each row, for an error.
    """
    # Of one class alone a row sums to 1 by chance, and what is not finite is reported where it is used.
    if values.shape[1] < 2 or not values.size or not np.isfinite(values).all():
        return values
    # Before any sum: numbers near the largest there is would overflow.
    if values.min() < 0 or values.max() > 1 + _ROUNDING:
        return values
    is_distribution = np.abs(values.sum(axis=1) - 1) <= _ROUNDING
    if 2 * is_distribution.sum() < len(values):
        return values
    if not is_distribution.all():
        odd = int(np.flatnonzero(~is_distribution)[0])
        raise UserError(
            f"{path}, {places[odd]}: probabilities must sum to 1, these sum to {values[odd].sum():.4g}."
        )
    return np.log(np.maximum(values, SMALLEST_PROBABILITY))


def aligned(
    teacher: Teacher, utterances: Sequence[Utterance], classes: Sequence[str], fold: str
) -> np.ndarray:
    """The teacher's logits for `fold`, `(utterances, classes)` in the order given here.

    Raises:
        UserError: the teacher has no outputs for the fold, lacks an utterance, names other classes, or has a
            logit that is not finite.
    """
    number = _fold_number(teacher, fold)
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
    found = teacher.embeddings[number][_rows(teacher, utterances)].astype(np.float32)
    return _finite(found, "embeddings", utterances)


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
    own = {name.casefold(): name for name in ours}
    meant: dict[str, str | None] = {}
    for name in theirs:
        plain = name.strip().casefold()
        meant[name] = own.get(plain) or own.get(SYNONYMS.get(plain, ""))
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
        found = [name for name in ours if name in changed]
        # Two ids must not become one.
        if len(changed) == len(theirs) and len(found) > fitting:
            example = next((name for name in found if changed[name] != name), "")
            best, fitting = f"{how}, such as {example} for {changed[example]}", len(found)
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


def ensemble(members: Sequence[Teacher]) -> Teacher:
    """One teacher from several: the mean of their logits.

    Its class distribution is the geometric mean of theirs, one of the two means that Hinton, Vinyals and
    Dean 2015 (arXiv:1503.02531, section 2) name. The other, arithmetic, would have to be taken anew at
    each temperature; this one holds at all of them, and an ensemble of one is that one.

    A member that serves every fold counts in each fold of the others. Embeddings are put side by side
    where every member has them. Who trained a fold's members is known where all of them say so.

    Raises:
        UserError: no members, or members of other utterances, classes or folds.
    """
    if not members:
        raise UserError("an ensemble needs at least one teacher.")
    first = members[0]
    folds = next((member.folds for member in members if member.folds), ())
    for member in members[1:]:
        for what, theirs, ours in (
            ("utterances", member.ids, first.ids),
            ("classes", member.classes, first.classes),
            ("folds", member.folds or folds, folds),
        ):
            if set(theirs) != set(ours):
                odd = sorted(set(theirs) ^ set(ours))
                raise UserError(
                    f"teachers of an ensemble must have the same {what}: {first.made_by} and "
                    f"{member.made_by} differ in {len(odd)}, e.g. {odd[0]}."
                )
    logits, embeddings, speakers = [], [], []
    for member in members:
        row_of = {name: row for row, name in enumerate(member.ids)}
        rows = [row_of[name] for name in first.ids]
        columns = [member.classes.index(name) for name in first.classes]
        numbers = [member.folds.index(fold) for fold in folds] if member.folds else [0] * max(1, len(folds))
        logits.append(member.logits[np.ix_(numbers, rows, columns)])
        if member.embeddings is not None:
            own = numbers if len(member.embeddings) > 1 else [0]
            embeddings.append(member.embeddings[np.ix_(own, rows)].astype(np.float32))
        trained_on = member.card.get("train_speakers")
        by_fold = trained_on if isinstance(trained_on, Mapping) else {}
        names = [fold if member.folds else ALL_SPEAKERS for fold in folds or (ALL_SPEAKERS,)]
        speakers.append([by_fold.get(name) for name in names])
    card: dict[str, Any] = {
        "made_by": f"mean of {len(members)}: {'; '.join(member.made_by for member in members)}",
        "members": [dict(member.card) for member in members],
    }
    for name in ("corpus", "protocol"):
        if first.card.get(name) is not None and all(
            member.card.get(name) == first.card[name] for member in members
        ):
            card[name] = first.card[name]
    card["train_speakers"] = {
        fold: sorted(set().union(*lists))
        for fold, *lists in zip(folds or (ALL_SPEAKERS,), *speakers, strict=True)
        if all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
    }
    side_by_side = None
    if len(embeddings) == len(members):
        count = max(map(len, embeddings))
        side_by_side = np.concatenate(
            [np.broadcast_to(one, (count, *one.shape[1:])) for one in embeddings], axis=2
        )
    return Teacher(first.ids, first.classes, np.mean(logits, axis=0), folds, card, side_by_side)


def train_speakers(folds: Sequence[Fold], utterances: Sequence[Utterance]) -> dict[str, list[str]]:
    """Fold → the speakers who train in it, sorted: what a card says under `train_speakers`."""
    return {fold.name: sorted({utterances[i].speaker for i in fold.train}) for fold in folds}


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


def met(teacher: Teacher, seen: Set[str], speakers: Set[str]) -> set[str]:
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
        elif met(teacher, seen, {utterances[i].speaker for i in fold.test}):
            return (STAMP_SEEN,)
    return (STAMP_UNKNOWN,) if unknown else ()
