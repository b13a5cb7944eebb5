"""What the cells of a table of recordings mean: names, emotions, sexes and shares of the annotators."""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from light_sernet_kd.corpora.reading import Findings
from light_sernet_kd.corpora.types import SEXES
from light_sernet_kd.errors import UserError, nfc


class Meant(dict[str, str]):
    """Cell → what is meant by it; each spelling is looked at once, and equal cells become one object."""

    def __init__(self, meaning: Callable[[str], str]) -> None:
        self.meaning = meaning

    def __missing__(self, cell: str) -> str:
        meant = self[cell] = self.meaning(cell)
        return meant


class _Shares(dict[tuple[float | None, ...], dict[str, float] | None]):
    """Shares in the order of the emotions → the soft label of them; None where all are empty."""

    def __init__(self, emotions: Sequence[str]) -> None:
        self.emotions = emotions

    def __missing__(self, shares: tuple[float | None, ...]) -> dict[str, float] | None:
        pairs = zip(self.emotions, shares, strict=True)
        meant = self[shares] = {name: share for name, share in pairs if share is not None} or None
        return meant


def name_of(cell: str) -> str:
    return nfc(cell.strip())


def emotion_of(cell: str) -> str:
    return name_of(cell).lower()


def sex_of(cell: str) -> str:
    return SEXES.get(emotion_of(cell), emotion_of(cell))


# Of columns in which cells repeat.
MEANINGS = {
    "emotion": emotion_of,
    "sex": sex_of,
    **dict.fromkeys(("speaker", "session", "dialog", "split"), name_of),
}


def soft_labels_of(
    path: Path,
    columns: Mapping[str, Sequence[str]],
    emotions: set[str],
    rows: int,
    findings: Findings,
    wrong: Callable[[int, str], None],
) -> Iterator[dict[str, float] | None]:
    """The shares of each row, of the columns named after an emotion; None where all cells are empty.

    Raises:
        UserError: a column of shares ends before the others.
    """
    named = {name: column for name, column in columns.items() if emotion_of(name) in emotions}
    if not named:
        return itertools.repeat(None)
    shares = []
    commas = False
    for name, column in named.items():
        if len(column) < rows:
            raise UserError(f"{path}: the share of {name} must be a number from 0 on, found {column[0]}.")
        values: dict[str, float | None] = {}
        bad: dict[str, str] = {}
        for cell in set(column):
            values[cell], expected = share_of(cell)
            commas |= "," in cell and not expected
            if expected:
                bad[cell] = expected
        for row, cell in enumerate(column) if bad else ():
            if cell in bad:
                wrong(row, f"the share of {name} must be {bad[cell]}, found {cell}.")
        shares.append(map(values.__getitem__, column))
    if commas:
        findings.notes.append("decimal commas in the shares are read as points")
    # Equal shares are one dictionary: votes of a few annotators repeat.
    alike = _Shares([emotion_of(name) for name in named])
    return map(alike.__getitem__, zip(*shares, strict=True))


def ratings_of(
    columns: Mapping[str, Sequence[str]],
    ends: tuple[float, float],
    wrong: Callable[[int, str], None],
) -> Iterator[dict[str, float] | None]:
    """The ratings of each row by dimension, without those whose cells are empty; None where all are.

    Args:
        columns: dimension → its cells.
        ends: of the scale.
    """
    low, high = ends
    columns_of_ratings = []
    for name, column in columns.items():
        ratings: dict[str, float | None] = {cell: _number(cell) if cell else None for cell in set(column)}
        bad = {cell for cell, rating in ratings.items() if rating is not None and not low <= rating <= high}
        for row, cell in enumerate(column) if bad else ():
            if cell in bad:
                wrong(row, f"the {name} must be a number from {low:g} to {high:g}, found {cell}.")
        columns_of_ratings.append(map(ratings.__getitem__, column))
    alike = _Shares([*columns])
    return map(alike.__getitem__, zip(*columns_of_ratings, strict=True))


def _number(cell: str) -> float:
    """The number in a cell, also where the comma is the decimal point; NaN where there is none."""
    decimal = cell.replace(",", ".") if re.fullmatch(r"-?\d*,\d+", cell) else cell
    try:
        return float(decimal)
    except ValueError:
        return math.nan


def share_of(cell: str) -> tuple[float | None, str]:
    """A share, None where the cell is empty; and what was expected, where it is no share."""
    if not cell:
        return None, ""
    share = _number(cell)
    if not share >= 0 or share == float("inf"):
        return None, "a number from 0 on"
    return share, ""
