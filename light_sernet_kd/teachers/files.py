"""Teacher outputs: data that a student learns from, joined to its utterances by id.

A teacher file is an `.npz` with `ids` (N,), `classes` (C,), `logits` and, where it is known, a `card`.
`logits` is (N, C) float32 where one teacher serves every fold, or (F, N, C) with `folds` (F,) names where
each fold has its own. The card is JSON text: who made the file and, per fold, who was in training.
`embeddings` may be there too: float32 or float16, (N, E), or (F, N, E) where each fold has its own. So may
`dimensions`, (N, K) or (F, N, K): values of arousal, valence or dominance, NaN where it has none, with
`dimension_names` (K,) and the ends of their scale, `dimension_range` (2,).

A `.csv` does as well: a header with `id`, a column per class and, where each fold has its own, `fold`;
separated by commas, semicolons, tabs or |.

In both, the numbers are logits, or probabilities (soft labels) where none is negative and each row sums to 1:
their logarithms are then the logits, and the card says so under `converted`.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.arrays import ArrayError, read_arrays
from light_sernet_kd.config import Dimensions
from light_sernet_kd.corpora import repeated
from light_sernet_kd.corpora.tables import Table, table_text
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import JSON_BYTES, irregular, parse_json, write_arrays
from light_sernet_kd.registries.dimensions import dimension_name
from light_sernet_kd.teachers.outputs import Teacher

# What a probability of 0 counts as: its logarithm would be infinite.
SMALLEST_PROBABILITY = 1e-7
# Probabilities that were rounded to two decimals may miss 1 by as much.
_ROUNDING = 0.01 + 1e-9
# In memory, names and a table's cells take some ten times what they take in the file.
MOST_IDS, MOST_CLASSES = 10_000_000, 10_000
CSV_BYTES, CSV_LINE = 2 * 10**8, 10**6
_NONE = np.array([], dtype=str)
CONVERTED = "its numbers are probabilities, and their logarithms are taken for the logits"


def write(path: Path, teacher: Teacher) -> None:
    """Write a teacher file; whole or absent.

    >>> teacher = Teacher(("clip-1",), ("anger", "fear"), np.array([[[2.0, -1.0]]], np.float32))
    >>> write(Path("teacher.npz"), teacher)
    >>> read(Path("teacher.npz")).logits.tolist()
    [[[2.0, -1.0]]]
    """
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
    if teacher.values is not None and teacher.dimensions is not None:
        arrays["dimensions"] = teacher.values[0] if len(teacher.values) == 1 else teacher.values
        arrays["dimension_names"] = np.array(teacher.dimensions.names)
        arrays["dimension_range"] = np.array(teacher.dimensions.range)
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

    The file has the lines `id,anger,fear` and `clip-1,0.75,0.25`.

    >>> teacher = read(Path("teacher.csv"))
    >>> teacher.ids, teacher.classes
    (('clip-1',), ('anger', 'fear'))
    >>> np.exp(teacher.logits).round(2).tolist()
    [[[0.75, 0.25]]]
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
    values, dimensions = _dimensions(path, content, len(ids), len(folds))
    places = [f"{name}, fold {fold}" if folds else name for fold in folds or ("",) for name in ids]
    per_fold, card = _converted(path, per_fold, places, card)
    return Teacher(ids, classes, _float32(per_fold), folds, card, embeddings, values, dimensions)


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


def _embeddings(path: Path, stored: np.ndarray, ids: int, folds: int) -> np.ndarray:
    """The embeddings of a file as `Teacher` holds them; float16 stays so, other numbers become float32."""
    fits = stored.shape[:-1] == (ids,) or (folds and stored.shape[:-1] == (folds, ids))
    if not fits or not stored.shape[-1] or stored.dtype.kind not in "fiu":
        or_per_fold = f" or ({folds}, {ids}, E)" if folds else ""
        raise UserError(
            f"{path}: embeddings are {stored.dtype} {stored.shape}; expected numbers ({ids}, E){or_per_fold}."
        )
    kept = stored if stored.dtype == np.float16 else _float32(stored)
    return kept if stored.ndim == 3 else kept[np.newaxis]


def _dimensions(
    path: Path, content: Mapping[str, np.ndarray], ids: int, folds: int
) -> tuple[np.ndarray | None, Dimensions | None]:
    """The values of a file as `Teacher` holds them, and what they are of; None where it has none."""
    if "dimensions" not in content:
        return None, None
    values = content["dimensions"]
    if missing := [name for name in ("dimension_names", "dimension_range") if name not in content]:
        raise UserError(f"{path} has dimensions and lacks {' and '.join(missing)}.")
    names = tuple(map(dimension_name, _texts(content["dimension_names"])))
    ends = content["dimension_range"]
    fits = values.shape[:-1] == (ids,) or (folds and values.shape[:-1] == (folds, ids))
    if not fits or values.shape[-1] != len(names) or values.dtype.kind not in "fiu":
        or_per_fold = f" or ({folds}, {ids}, {len(names)})" if folds else ""
        raise UserError(
            f"{path}: dimensions are {values.dtype} {values.shape}; expected numbers ({ids}, {len(names)})"
            f"{or_per_fold}."
        )
    try:
        if ends.shape != (2,) or ends.dtype.kind not in "fiu":
            raise ValueError(f"two ends of a scale were expected, found {ends.dtype} {ends.shape}")
        dimensions = Dimensions(names, (float(ends[0]), float(ends[1])))
    except ValueError as error:
        raise UserError(f"{path}: its dimensions cannot be used: {error}.") from None
    kept = _float32(values)
    return (kept if kept.ndim == 3 else kept[np.newaxis]), dimensions


def _read_csv(path: Path) -> Teacher:
    header, rows = _csv_rows(path)
    classes = tuple(name for name in header if name not in ("id", "fold"))
    if "id" not in header or not classes or not all(classes):
        raise UserError(
            f"{path}, line 1: expected id, a column per class and perhaps fold; "
            f"found {', '.join(header) or 'nothing'}."
        )
    if twice := repeated(header):
        raise UserError(f"{path}, line 1 names {', '.join(twice[:5])} twice.")
    if not rows:
        raise UserError(f"{path} holds a header but no rows.")

    row_of: dict[str, dict[str, int]] = {}  # fold → id → row
    values = np.empty((len(rows), len(classes)))
    for row, (line, cells) in enumerate(rows):
        if len(cells) != len(header):
            raise UserError(f"{path}, line {line}: {len(cells)} values for {len(header)} columns.")
        by_column = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        name, fold = by_column["id"], by_column.get("fold", "")
        if not name or (not fold and "fold" in by_column):
            raise UserError(f"{path}, line {line}: no {'fold' if name else 'id'}.")
        rows_of_fold = row_of.setdefault(fold, {})
        if name in rows_of_fold:
            of_fold = f" of fold {fold}" if fold else ""
            raise UserError(
                f"{path}, line {line}: {name}{of_fold} stands in line {rows[rows_of_fold[name]][0]} too."
            )
        rows_of_fold[name] = row
        values[row] = [_number(path, line, label, by_column[label]) for label in classes]

    ids, order = _order_of_rows(path, row_of)
    logits = _as_logits(path, values, [f"line {line}" for line, _ in rows])
    card = {} if logits is values else {"converted": CONVERTED}
    folds = tuple(row_of) if "fold" in header else ()
    return Teacher(ids, classes, _float32(logits[order]), folds, card)


def _csv_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header's names, and each row that is not empty with the number of its line."""
    try:
        why = irregular(path)
        if why is None and (size := os.stat(path).st_size) > CSV_BYTES:
            why = f"has {size:,} bytes, of at most {CSV_BYTES:,} for a CSV; as an .npz it may be larger"
        if why is not None:
            raise UserError(f"{path} is not a teacher file: it {why}.")
    except (FileNotFoundError, NotADirectoryError):
        raise no_file(path) from None
    except OSError as error:
        raise UserError(f"{path} is not a teacher file: {error.strerror}.") from None
    text = table_text(path, "teacher file")
    # before its cells take ten times as much
    if endless := re.search(rf"[^\r\n]{{{CSV_LINE + 1}}}", text):
        line = len(re.findall(r"\r\n?|\n", text[: endless.start()])) + 1
        raise UserError(f"{path} is not a teacher file: line {line} has more than {CSV_LINE:,} characters.")
    table = Table(path, text)
    rows = [(line, cells) for line, cells in table.body() if any(cell.strip() for cell in cells)]
    return [*table.header], rows


def _number(path: Path, line: int, label: str, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{path}, line {line}: expected a number for {label}, found {cell!r}.")
    return number


def _order_of_rows(path: Path, row_of: Mapping[str, Mapping[str, int]]) -> tuple[tuple[str, ...], np.ndarray]:
    """The ids, and the row of each in each fold, `(folds, ids)`."""
    ids = tuple(dict.fromkeys(name for rows_of_fold in row_of.values() for name in rows_of_fold))
    for fold, rows_of_fold in row_of.items():
        if absent := [name for name in ids if name not in rows_of_fold]:
            raise UserError(
                f"{path}: fold {fold} lacks {len(absent)} of {len(ids)} utterances, e.g. {absent[0]}: "
                "each fold needs the outputs for all."
            )
    return ids, np.array([[rows_of_fold[name] for name in ids] for rows_of_fold in row_of.values()])


def _as_logits(path: Path, values: np.ndarray, places: Sequence[str]) -> np.ndarray:
    """Logits `(rows, classes)` as they are; probabilities as their logarithms, whose softmax they are.

    Args:
        places: of each row, for an error.
    """
    # What is not finite is reported where it is used, and says nothing of the others.
    is_finite = np.isfinite(values).all(axis=1)
    # Of one class alone a row sums to 1 by chance.
    if values.shape[1] < 2 or not is_finite.any():
        return values
    # Before any sum: numbers near the largest there is would overflow.
    if values[is_finite].min() < 0 or values[is_finite].max() > 1 + _ROUNDING:
        return values
    with np.errstate(invalid="ignore"):
        is_distribution = np.abs(values.sum(axis=1) - 1) <= _ROUNDING
    if 2 * is_distribution.sum() < is_finite.sum():
        return values
    if not (is_distribution | ~is_finite).all():
        odd = int(np.flatnonzero(is_finite & ~is_distribution)[0])
        raise UserError(
            f"{path}, {places[odd]}: probabilities must sum to 1, these sum to {values[odd].sum():.4g}."
        )
    return np.log(np.maximum(values, SMALLEST_PROBABILITY))


def _float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported where it is used
        return values.astype(np.float32)
