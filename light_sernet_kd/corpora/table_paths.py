"""Where the recordings of a table lie: paths as the disk has them, and ids that are made of paths."""

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from light_sernet_kd.corpora.reading import AUDIO_SUFFIXES, Findings
from light_sernet_kd.corpora.tables import Table
from light_sernet_kd.errors import nfc
from light_sernet_kd.files import path_on_disk

# Where a table's recordings may lie, if not beside it.
_FOLDERS = ("", "wav", "wavs", "samples", "audio", "clips", "recordings")
_SUFFIXES = (".wav", ".flac", ".mp3", ".WAV", ".ogg")  # the others are looked at one by one


def ids_of(cells: Sequence[str] | None, recordings: Sequence[str]) -> list[str]:
    """The ids; where there is none, the path without its suffix."""
    if cells is not None and "" not in cells:
        return list(cells)
    named = cells or itertools.repeat("")
    return [name or _without_suffix(cell) for name, cell in zip(named, recordings, strict=False)]


def _without_suffix(cell: str) -> str:
    if "//" in cell or "/." in cell or cell.startswith("./") or cell.endswith((".", "/")):
        try:
            return nfc(Path(cell).with_suffix("").as_posix())
        except ValueError:  # it names no file, which is said elsewhere
            return nfc(cell)
    return nfc(os.path.splitext(cell)[0])


def with_local_separators(
    cells: list[str], folder: Path, table: Table, wrong: Callable[[int, str], None]
) -> list[str]:
    """The paths with the separators of this system."""
    for row, cell in enumerate(cells):
        if not cell.endswith(_SUFFIXES) and cell and not cell.strip("./\\"):
            wrong(row, f"the path {cell} names no file.")
    if "\\" not in table.text:
        return cells
    return [_of_windows(cell, folder, row, wrong) if "\\" in cell else cell for row, cell in enumerate(cells)]


def located(
    cells: list[str],
    folder: Path,
    table: Table,
    findings: Findings,
    wrong: Callable[[int, str], None],
) -> list[str]:
    """The paths, relative to the folder or absolute, as the disk has them where it has them."""
    cells = list(cells)
    below = _below(cells[:20], folder)
    if below:
        findings.notes.append(f"paths are of files in {folder / below}")
        cells = [f"{below}/{cell}" if not cell.startswith("/") else cell for cell in cells]
    listings: dict[str, dict[str, list[str]]] = {}
    for row, cell in enumerate(cells):
        if cell.endswith(_SUFFIXES) or os.path.splitext(cell)[1].lower() in AUDIO_SUFFIXES:
            continue
        several = _with_suffix(cell, folder, listings)
        if len(several) > 1:
            wrong(row, f"the path {cell} may be {' or '.join(several)}: name one with its suffix.")
        elif several:
            cells[row] = several[0]
    if not table.text.isascii():
        for row, cell in enumerate(cells):
            if not cell.isascii():
                there = path_on_disk(folder / cell)
                if there != folder / cell:
                    cells[row] = str(there) if cell.startswith("/") else os.path.relpath(there, folder)
    return cells


def _of_windows(cell: str, folder: Path, row: int, wrong: Callable[[int, str], None]) -> str:
    """A path with backslashes, as this system writes it."""
    if os.sep == "\\" or os.path.exists(folder / cell):
        return cell
    if re.match(r"[A-Za-z]:\\|\\\\", cell):
        wrong(row, f"the path {cell} is one of Windows: make it relative to the table.")
    return cell.replace("\\", "/")


def _below(cells: Sequence[str], folder: Path) -> str:
    """Which folder beside the table has most of these recordings; empty for the table's own."""
    counts = dict.fromkeys(_FOLDERS, 0)
    listings: dict[str, dict[str, list[str]]] = {}
    for below in _FOLDERS:
        if below and not (folder / below).is_dir():
            continue
        for cell in cells:
            if not cell or cell.startswith("/"):
                continue
            path = f"{below}/{cell}" if below else cell
            there = path_on_disk(folder / path)
            try:
                counts[below] += there.is_file() or bool(_with_suffix(path, folder, listings))
            except (OSError, ValueError):
                continue
    return max(counts, key=lambda below: counts[below])


def _with_suffix(cell: str, folder: Path, listings: dict[str, dict[str, list[str]]]) -> list[str]:
    """The recordings that a path without a suffix may name; none where there is a file of that very name."""
    head, slash, last = cell.rpartition("/")
    if head not in listings:
        listing: dict[str, list[str]] = {}
        try:
            names = os.listdir(folder / head if head or not slash else "/")
        except (OSError, ValueError):
            names = []
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                listing.setdefault(nfc(stem), []).append(name)
        listings[head] = listing
    matches = listings[head].get(nfc(last), [])
    return [f"{head}{slash}{name}" for name in sorted(matches)]
