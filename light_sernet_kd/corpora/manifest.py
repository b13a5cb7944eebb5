"""Any other corpus: a CSV or TSV table of its recordings."""

import csv
import io
import math
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import CANONICAL_EMOTIONS, Corpus, Utterance, repeated

REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("id", "session", "dialog", "transcript", "split")


def utterances(path: Path) -> Corpus:
    """The recordings that a manifest lists.

    The header names `path`, `emotion`, `speaker` and, where known, `id`, `session`, `dialog`, `transcript`
    and `split`. A column named after an emotion, one of `CANONICAL_EMOTIONS` or of the manifest's own, holds
    that emotion's share of the annotators (soft labels); any other is ignored. Paths are relative to the
    manifest. Without `id`, the path without its suffix is the id.

    Raises:
        UserError: names the manifest, the line and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no manifest {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    first_line = text.partition("\n")[0]
    delimiter = "\t" if "\t" in first_line else ";" if ";" in first_line and "," not in first_line else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from None
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
    column = header.index("emotion")
    emotions = {*CANONICAL_EMOTIONS, *(row[column].lower() for _, row in rows)}
    further = [name for name in header if name and name not in REQUIRED + OPTIONAL]
    soft_columns = [name for name in further if name.lower() in emotions]
    folder = path.parent
    found = [
        _utterance(dict(zip(header, row, strict=True)), folder, f"{path}, line {line}", soft_columns)
        for line, row in rows
    ]
    if twice := repeated([utterance.id for utterance in found]):
        raise UserError(f"{path}: ids must be unique; repeated: {', '.join(twice[:5])}.")
    return Corpus(path.stem, tuple(sorted(found, key=lambda utterance: utterance.id)))


def _utterance(cells: dict[str, str], folder: Path, where: str, soft_columns: list[str]) -> Utterance:
    for name in REQUIRED:
        if not cells[name]:
            raise UserError(f"{where}: the {name} is empty.")
    if not cells["path"].strip("./\\"):
        raise UserError(f"{where}: the path {cells['path']} names no file.")
    return Utterance(
        id=cells.get("id") or Path(cells["path"]).with_suffix("").as_posix(),
        # an absolute path takes the place of the folder
        path=folder / cells["path"],
        emotion=cells["emotion"].lower(),
        speaker=cells["speaker"],
        session=cells.get("session") or None,
        dialog=cells.get("dialog") or None,
        transcript=cells.get("transcript") or None,
        split=cells.get("split") or None,
        soft_label=_soft_label(cells, soft_columns, where),
    )


def _soft_label(cells: dict[str, str], columns: list[str], where: str) -> dict[str, float] | None:
    shares = {}
    for name in columns:
        if not cells[name]:
            continue
        try:
            share = float(cells[name])
        except ValueError:
            share = math.nan
        if not 0 <= share < math.inf:
            raise UserError(f"{where}: the share of {name} must be a number from 0 on, found {cells[name]}.")
        shares[name.lower()] = share
    return shares or None
