"""Any other corpus: a CSV or TSV table of its recordings."""

import csv
import io
import math
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Corpus, Utterance, repeated

REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("id", "session", "transcript", "split")


def utterances(path: Path) -> Corpus:
    """The recordings that a manifest lists.

    The header names `path`, `emotion`, `speaker` and, where known, `id`, `session`, `transcript`, `split`;
    every further column whose cells are numbers is an emotion's share of the annotators (soft labels). Paths
    are relative to the manifest. Without `id`, the path without its suffix is the id.

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
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise UserError(
            f"{path}: the header lacks {', '.join(missing)}; expected at least {','.join(REQUIRED)}, "
            f"found {','.join(header) or 'nothing'}."
        )
    if twice := repeated(header):
        raise UserError(f"{path}: the header names {', '.join(twice)} twice.")
    soft_columns = [name for name in header if name not in REQUIRED + OPTIONAL]

    found = []
    try:
        for row in reader:
            found.append(_utterance(row, path, reader.line_num, soft_columns))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from None
    if not found:
        raise UserError(f"{path} lists no recordings.")
    if twice := repeated([utterance.id for utterance in found]):
        raise UserError(f"{path}: ids must be unique; repeated: {', '.join(twice[:5])}.")
    return Corpus(path.stem, tuple(sorted(found, key=lambda utterance: utterance.id)))


def _utterance(row: dict, manifest: Path, line: int, soft_columns: list[str]) -> Utterance:
    where = f"{manifest}, line {line}"
    if None in row or None in row.values():
        raise UserError(f"{where}: another number of cells than the header has.")
    cells = {name: cell.strip() for name, cell in row.items()}
    for name in REQUIRED:
        if not cells[name]:
            raise UserError(f"{where}: the {name} is empty.")
    recording = Path(cells["path"])
    return Utterance(
        id=cells.get("id") or recording.with_suffix("").as_posix(),
        path=recording if recording.is_absolute() else manifest.parent / recording,
        emotion=cells["emotion"].lower(),
        speaker=cells["speaker"],
        session=cells.get("session") or None,
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
            shares[name.lower()] = float(cells[name])
        except ValueError:
            continue  # a column of notes, not of shares
        if not (math.isfinite(shares[name.lower()]) and shares[name.lower()] >= 0):
            raise UserError(f"{where}: the share of {name} must be a number from 0 on, found {cells[name]}.")
    return shares or None
