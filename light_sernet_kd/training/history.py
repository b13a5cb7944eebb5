"""`history.csv`: one row per epoch of a training."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from light_sernet_kd.files import atomic
from light_sernet_kd.reporting.text import pluralise


def write_history(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """One row per epoch, counted from 1."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *history])
        for epoch, values in enumerate(zip(*history.values(), strict=True), start=1):
            writer.writerow([epoch, *(f"{value:.6g}" for value in values)])


def read_history(path: Path, epochs: int | None = None) -> dict[str, list[float]]:
    """What `write_history` wrote: column → one value per epoch.

    Args:
        epochs: how many there must be, where that is known.

    Raises:
        ValueError: a row or a part of one is missing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_history(Path(folder) / "history.csv", {"loss": [1.5, 0.25]})
    ...     read_history(Path(folder) / "history.csv")
    {'loss': [1.5, 0.25]}
    """
    text = path.read_text(encoding="utf-8")
    header, *rows = list(csv.reader(text.splitlines())) or [[]]
    if not text.endswith("\n"):
        raise ValueError(f"{path} ends inside a row")
    if header[:1] != ["epoch"] or len(header) < 2:
        raise ValueError(f"{path} has the columns {', '.join(header)}; expected epoch and others")
    if not rows:
        raise ValueError(f"{path} has no epochs")
    if epochs is not None and len(rows) != epochs:
        raise ValueError(f"{path} has {pluralise(len(rows), 'epoch')}; expected {epochs}")
    for number, row in enumerate(rows, start=1):
        if row[:1] != [str(number)] or len(row) != len(header):
            raise ValueError(
                f"{path}: row {number} has {pluralise(len(row), 'value')} for {len(header)} columns"
            )
    return {name: [float(row[place]) for row in rows] for place, name in enumerate(header) if place}
