"""What the command `models` lists: the students of the package, and those that finished runs exported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd.device import shipped
from light_sernet_kd.device.command_paths import preferred_file
from light_sernet_kd.files import JsonError, read_json
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import NONE, percent
from light_sernet_kd.runner import DIMENSIONS, RunnerError, card_of


@dataclass(frozen=True)
class AvailableStudent:
    """A student that commands can take by its name or folder.

    Attributes:
        name: by which a command takes it: of the package its name, of a run its folder.
        is_shipped: whether it is the package's.
        file: the one that answers where the name is given.
        knows_speakers: whether a profile that `enroll` writes can be used with it.
        metrics: what the run's metrics.json tells; the scores are of the folds' students.
        dimensions: which of arousal, valence and dominance the file gives beside classes or in their place;
            mostly none.
    """

    name: str
    is_shipped: bool
    file: Path
    knows_speakers: bool
    metrics: dict[str, Any]
    dimensions: tuple[str, ...] = ()

    @property
    def kilobytes(self) -> float:
        return self.file.stat().st_size / 1000

    @property
    def pooled(self) -> dict[str, Any]:
        """UA and WA over all test utterances; both None of a student without classes."""
        known: dict[str, Any] = self.metrics["pooled"] if self.metrics["classes"] else {}
        return known or {"ua": None, "wa": None}

    @property
    def ccc(self) -> dict[str, float | None]:
        """Dimension → concordance with the listeners over all test utterances; None where it is not told."""
        pooled = (self.metrics.get(DIMENSIONS) or {}).get("pooled", {})
        return {name: pooled.get(name, {}).get("ccc") for name in self.dimensions}

    def as_dict(self) -> dict[str, Any]:
        """For programs: shares from 0 to 1, and sizes in bytes. What only classes have is null without."""
        pooled = self.pooled
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
            "dimensions": [*self.dimensions],
            "ccc": self.ccc,
            "ua": pooled["ua"],
            "wa": pooled["wa"],
            "ci95": self.metrics.get("ci95") if not self.metrics["classes"] else self.metrics["ci95"],
            "stamps": [*self.metrics["stamps"]],
        }


def available(result: Path) -> list[AvailableStudent]:
    """The students of the package and those of the runs in a folder, by name; what is damaged is left out.

    >>> all(each.is_shipped for each in available(Path("no-runs-here")))
    True
    """
    of_package = [_available(each.name, each.folder, is_shipped=True) for each in shipped.shipped()]
    runs = sorted(path.parent for path in result.glob("*/metrics.json"))
    return [each for each in (*of_package, *(_available(str(path), path) for path in runs)) if each]


def _available(name: str, folder: Path, *, is_shipped: bool = False) -> AvailableStudent | None:
    file = preferred_file(folder)
    if file is None:
        return None
    try:
        metrics = read_json(folder / "metrics.json")
        names = card_of(file).get(DIMENSIONS, {"names": []})["names"]
        knows_speakers = preferred_file(folder, enrolled=True) is not None
        made = AvailableStudent(name, is_shipped, file, knows_speakers, metrics, tuple(names))
        made.as_dict()  # all of it is there
    except (OSError, ValueError, KeyError, TypeError, JsonError, RunnerError):
        return None
    return made


def table(students: Sequence[AvailableStudent]) -> Table:
    """A row per student; a column of dimensions only where one has them."""
    columns = [
        *words("name", is_whole=True), *words("corpus"), *numbers("classes", form="d"),
        *words("dimensions", "CCC"),
        *words("UA % [95 %]", is_whole=True), *numbers("kB", form=",.0f"), *words("profile", "doubts"),
    ]  # fmt: skip
    made = Table(columns, [_row(each) for each in students])
    shown = {
        "dimensions": any(each.dimensions for each in students),
        "CCC": any(value is not None for each in students for value in each.ccc.values()),
    }
    return made.without([title for title, is_told in shown.items() if not is_told])


def _row(student: AvailableStudent) -> list[Any]:
    metrics, scores = student.metrics, student.ccc.values()
    between = (metrics.get("ci95") or {}).get("ua")
    ua = student.pooled["ua"]
    interval = f" [{percent(between[0])}, {percent(between[1])}]" if between else ""
    return [
        student.name,
        metrics["corpus"],
        len(metrics["classes"]) or None,
        ", ".join(student.dimensions) or None,
        ", ".join(NONE if value is None else f"{value:z.2f}" for value in scores)
        if any(value is not None for value in scores)
        else None,
        None if ua is None else percent(ua) + interval,
        student.kilobytes,
        "yes" if student.knows_speakers else "no",
        "; ".join(["SYNTHETIC"] * metrics["synthetic"] + [*metrics["stamps"]]) or None,
    ]
