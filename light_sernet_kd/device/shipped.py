"""The students that come with the package, and recordings to try them on.

Each lies in a folder of `light_sernet_kd/models` as a run does that was trained here, without what only
training reads. What takes a run's folder takes it by its name.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from light_sernet_kd.errors import UserError
from light_sernet_kd.files import read_json
from light_sernet_kd.reporting.text import percent

MODELS = Path(__file__).parents[1] / "models"
# What answers where no file is named.
DEFAULT = "light-sernet-emodb"
# The file that says how a student was made; a run of one's own has none.
PROVENANCE = "provenance.json"
_EXAMPLES = "examples"


@dataclass(frozen=True)
class Shipped:
    """A student of the package.

    Attributes:
        folder: its files: `student_int8.tflite`, `MODEL_CARD.md`, `metrics.json` and so on.
    """

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Its folds' scores, as a run's metrics.json has them."""
        return read_json(self.folder / "metrics.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """How it was made: `command`, `commit`, `sha256` of its files, and of what it learned from."""
        return read_json(self.folder / PROVENANCE)


def shipped() -> list[Shipped]:
    """The students of the package, by name.

    >>> all((each.folder / "student_int8.tflite").is_file() for each in shipped())
    True
    """
    return [Shipped(path.parent) for path in sorted(MODELS.glob(f"*/{PROVENANCE}"))]


def of_name(name: str) -> Shipped | None:
    """The student of this name; None where none has it."""
    return next((each for each in shipped() if each.name == name), None)


def shown(file: str | Path) -> str:
    """What an answer calls a file: `NAME/FILE` of one of the package, else its path.

    >>> shown("result/demo/student_int8.tflite")
    'result/demo/student_int8.tflite'
    """
    path = Path(file)
    return f"{path.parent.name}/{path.name}" if path.parent.parent == MODELS else str(file)


def default() -> Shipped:
    """The student that answers where no file is named.

    Raises:
        UserError: this copy of the package has none.
    """
    student = of_name(DEFAULT)
    if student is None:
        raise UserError(
            f"this copy of the package lacks its student {DEFAULT}: name an exported .tflite file."
        )
    return student


def introduction() -> str:
    """Which student answers where no file is named, in a line."""
    student = default()
    return (
        f"{student.name} answers, a student of acted speech of {student.metrics['corpus']} with UA "
        f"{percent(student.metrics['pooled']['ua'])} % on speakers whom it did not know. "
        "light-sernet-kd models tells of others."
    )


def examples() -> list[Path]:
    """Recordings of the package, whose names begin with the emotion that is played.

    >>> [path.stem.partition("-")[0] for path in examples()]
    ['anger', 'happiness', 'sadness']
    """
    return sorted((MODELS / _EXAMPLES).glob("*.wav"))
