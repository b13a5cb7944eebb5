"""What the command `models` lists: the students of the package, and those that finished runs exported."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd.device import shipped
from light_sernet_kd.device.given import PREFERRED
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import percent


@dataclass(frozen=True)
class Found:
    """A student that is here.

    Attributes:
        name: by which a command takes it: of the package its name, of a run its folder.
        is_shipped: whether it is the package's.
        file: the one that answers where the name is given.
        knows_speakers: whether a profile that `enroll` writes can be used with it.
        metrics: what the run's metrics.json tells; the scores are of the folds' students.
    """

    name: str
    is_shipped: bool
    file: Path
    knows_speakers: bool
    metrics: dict[str, Any]

    @property
    def kilobytes(self) -> float:
        return self.file.stat().st_size / 1000

    def as_dict(self) -> dict[str, Any]:
        """For programs: shares from 0 to 1, and sizes in bytes."""
        pooled = self.metrics["pooled"]
        return {
            "name": self.name,
            "shipped": self.is_shipped,
            "file": str(self.file),
            "bytes": self.file.stat().st_size,
            "knows_speakers": self.knows_speakers,
            "corpus": self.metrics["corpus"],
            "synthetic": self.metrics["synthetic"],
            "protocol": self.metrics["protocol"],
            "classes": [*self.metrics["classes"]],
            "ua": pooled["ua"],
            "wa": pooled["wa"],
            "ci95": self.metrics["ci95"],
            "stamps": [*self.metrics["stamps"]],
        }


def found(result: Path) -> list[Found]:
    """The students of the package and those of the runs in a folder, by name; what is damaged is left out.

    >>> all(each.is_shipped for each in found(Path("no-runs-here")))
    True
    """
    own = [_found(each.name, each.folder, is_shipped=True) for each in shipped.shipped()]
    runs = sorted(path.parent for path in result.glob("*/metrics.json"))
    return [each for each in (*own, *(_found(str(path), path) for path in runs)) if each]


def _found(name: str, folder: Path, *, is_shipped: bool = False) -> Found | None:
    files = [folder / f"student_{precision}.tflite" for precision in PREFERRED]
    file = next(filter(Path.is_file, files), None)
    if file is None:
        return None
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        made = Found(name, is_shipped, file, any(folder.glob("student_*_enrolled.tflite")), metrics)
        made.as_dict()  # all of it is there
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return made


def table(students: Sequence[Found]) -> Table:
    """A row per student."""
    columns = [
        *words("name", is_whole=True), *words("corpus"), *numbers("classes", form="d"),
        *words("UA % [95 %]", is_whole=True), *numbers("kB", form=",.0f"), *words("profile", "doubts"),
    ]  # fmt: skip
    return Table(columns, [_row(each) for each in students])


def _row(student: Found) -> list[Any]:
    metrics = student.metrics
    between = (metrics["ci95"] or {}).get("ua")
    interval = f" [{percent(between[0])}, {percent(between[1])}]" if between else ""
    return [
        student.name,
        metrics["corpus"],
        len(metrics["classes"]),
        percent(metrics["pooled"]["ua"]) + interval,
        student.kilobytes,
        "yes" if student.knows_speakers else "no",
        "; ".join(["SYNTHETIC"] * metrics["synthetic"] + [*metrics["stamps"]]) or None,
    ]
