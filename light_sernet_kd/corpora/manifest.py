"""Any other corpus: a CSV or TSV table of its recordings."""

import contextlib
import csv
import gc
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from light_sernet_kd.config import UserError, corpus_name
from light_sernet_kd.corpora import CANONICAL_EMOTIONS, SEXES, Corpus, Utterance, repeated
from light_sernet_kd.files import read_text

REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("id", "session", "dialog", "transcript", "split", "sex")


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    # A third of the time went into looking for cycles among rows, which have none.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def utterances(path: Path) -> Corpus:
    """The recordings that a manifest lists.

    The header names `path`, `emotion`, `speaker` and, where known, `id`, `session`, `dialog`, `transcript`,
    `split` and `sex` (`f` and `m` are read as female and male). A column named after an emotion, one of
    `CANONICAL_EMOTIONS` or of the manifest's own, holds that emotion's share of the annotators (soft
    labels); any other is ignored. Paths are relative to the manifest. Without `id`, the path without its
    suffix is the id.

    Raises:
        UserError: names the manifest, the line and what was expected.
    """
    table = _rows(path)
    _, header = next(table, (1, []))
    rows = [(line, row) for line, row in table if row]
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise UserError(
            f"{path}: the header lacks {', '.join(missing)}; expected at least {','.join(REQUIRED)}, "
            f"found {','.join(header) or 'nothing'}."
        )
    if twice := repeated([name.lower() for name in header if name]):
        raise UserError(f"{path}: the header names {', '.join(twice)} twice.")
    if not rows:
        raise UserError(f"{path} lists no recordings.")
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line}: {len(row)} cells, but the header has {len(header)}. A cell that holds "
                "the delimiter needs quotes around it."
            )
    lines = [line for line, _ in rows]
    # Whole columns at a time: a manifest may have a hundred thousand rows.
    by_name = dict(zip(header, zip(*(row for _, row in rows), strict=True), strict=True))
    for name in REQUIRED:
        if "" in by_name[name]:
            raise UserError(f"{path}, line {lines[by_name[name].index('')]}: the {name} is empty.")
    for line, cell in zip(lines, by_name["path"], strict=True):
        if not cell.strip("./\\"):
            raise UserError(f"{path}, line {line}: the path {cell} names no file.")
    emotions = [cell.lower() for cell in by_name["emotion"]]
    known = {*CANONICAL_EMOTIONS, *emotions}
    shares = [
        (name.lower(), _shares(cells, f"the share of {name}", path, lines))
        for name, cells in by_name.items()
        if name not in REQUIRED + OPTIONAL and name.lower() in known
    ]
    absent = ("",) * len(rows)
    ids, sessions, dialogs, transcripts, splits, sexes = (by_name.get(name, absent) for name in OPTIONAL)
    folder = path.parent
    found = [
        Utterance(
            id=ids[row] or Path(recording).with_suffix("").as_posix(),
            # an absolute path takes the place of the folder
            path=folder / recording,
            emotion=emotions[row],
            speaker=by_name["speaker"][row],
            session=sessions[row] or None,
            dialog=dialogs[row] or None,
            transcript=transcripts[row] or None,
            split=splits[row] or None,
            sex=SEXES.get(sexes[row].lower(), sexes[row].lower()) or None,
            soft_label={name: share for name, column in shares if (share := column[row]) is not None} or None,
        )
        for row, recording in enumerate(by_name["path"])
    ]
    if twice := repeated([utterance.id for utterance in found]):
        raise UserError(f"{path}: ids must be unique; repeated: {', '.join(twice[:5])}.")
    return Corpus(corpus_name(str(path)), tuple(sorted(found, key=lambda utterance: utterance.id)))


def columns(path: Path) -> tuple[str, ...]:
    """The names in a manifest's header.

    Raises:
        UserError: there is no such file, or it is not a table.
    """
    _, header = next(_rows(path), (1, []))
    return tuple(header)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, the header first; an empty line has no cells."""
    try:
        text = read_text(path, encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no manifest {path}.") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as such."
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}, line {line}: holds a NUL byte: save the table as UTF-8 text.")
    first_line = text.partition("\n")[0]
    delimiter = "\t" if "\t" in first_line else ";" if ";" in first_line and "," not in first_line else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from None


def _shares(cells: Sequence[str], what: str, path: Path, lines: Sequence[int]) -> list[float | None]:
    """A column of shares; None where a cell is empty."""
    shares: list[float | None] = []
    for cell, line in zip(cells, lines, strict=True):
        try:
            share = float(cell) if cell else None
        except ValueError:
            share = math.nan
        if share is not None and not 0 <= share < math.inf:
            raise UserError(f"{path}, line {line}: {what} must be a number from 0 on, found {cell}.")
        shares.append(share)
    return shares
