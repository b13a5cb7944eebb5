"""A run's folder: where things lie in it, which of its steps are done, and what they left.

    config.json                  what decides the run; written first
    teacher_gate.json            what the teacher knew beside the student alone, before any student
    fold-NAME/                   a step: the student of a fold
        fold.json                the step is done; has the SHA-256 of what it left
        student.keras, history.csv, test_logits.npz, …
    fold-all-speakers/           the step of the final student
        final.json               it is trained; with `rows`, it is converted too
    student_PRECISION.tflite     exported files
    predictions.csv, report.md, report.html, pictures
    metrics.json                 the run is finished; written last
    certificate.json             what `stress --certify` found of the folds' students

Whatever reads or writes a run goes through `RunFolder` and `Step`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.arrays import read_arrays
from light_sernet_kd.config import PRECISIONS
from light_sernet_kd.data.protocols import ALL_SPEAKERS
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import SUMMARIES, Predictions, dimension_scores, read_predictions, scores
from light_sernet_kd.files import (
    LOCK,
    JsonError,
    checked_json,
    locked,
    nothing_but,
    path_part,
    read_json,
    sha256,
    sweep,
    write_arrays,
    write_json,
)

# What a start that failed leaves.
_LEFTOVERS = (LOCK, "config.json")
# What a student's training leaves beside the file that says it is done, and what follows from it.
STEP_FILES = (
    "enrolled_embeddings.npz",
    "enrolled_head.npz",
    "generation_logits.npz",
    "history.csv",
    "student.keras",
    "test_dimensions.npz",
    "test_embeddings.npz",
    "test_logits.npz",
    "tflite_dimensions.npz",
    "tflite_embeddings.npz",
    "tflite_probabilities.npz",
    "training_logits.npz",
    "validation_logits.npz",
)

# What tables and other commands need of a run.
_METRICS = {
    "protocol": str,
    "stamps": [str],
    "warnings": [str],
    "corpus": str,
    "synthetic": bool,
    "folds": [dict],
    "skipped?": [{"id": str}],
    "seed": int,
    "student": {"name": str, "parameters": int},
    "pooled": {"ua": float, "wa": float},
    "pooled_last_epoch": {"ua": float},
    "ci95": (None, {str: [float]}),
    "dimensions?": {
        "pooled": {str: {"ccc": (float, None)}},
        "ci95": {str: (None, {str: [float]})},
    },
    "calibration?": {"folds": [{"name": str, "temperature": (float, None)}]},
    "start?": {"corpus": str, "licence": (str, None), "stamps": [str]},
    "export?": (None, {"rows": [{"precision": str, "bytes": int}]}),
}
_CERTIFICATE = {"students": {str: str}, "precisions": {str: {"short": {"passed": int, "failed": [str]}}}}
_CONFIG = {"settings": {"distillation": str, "protocol?": str}}
_SCORES: dict[str, Any] = {
    **dict.fromkeys(SUMMARIES, float),
    "recall_per_class": {str: (float, None)},
    "count": int,
}
_FOLD = {
    "name": str,
    "test_speakers": [str],
    "validation_speakers": [str],
    "best_epoch": int,
    "best_epochs": [int],
    "epochs": int,
    "seconds": float,
    **_SCORES,
    "last_epoch": _SCORES,
    "generations?": [
        {"best_epochs": [int], "epochs": int, "seconds": float, **_SCORES, "last_epoch": _SCORES}
    ],
    "files": {str: str},
}
# Where ratings alone are learnt, there are those of no class.
_RATED_METRICS = _METRICS | {"classes": [str], "pooled": {"count": int}, "pooled_last_epoch": dict}
_RATED_FOLD = {name: kind for name, kind in _FOLD.items() if name not in _SCORES} | {
    "last_epoch": dict,
    "dimensions": {str: {"ccc": (float, None)}},
}
# Of the final student once it is trained, and what is added where it is converted.
_TRAINED = {"final_epochs": int, "engine?": str, "files": {str: str}}
_CONVERTED = {
    "rows": [
        {"precision": str, "file": str, "bytes": int, "sha256": str, "max_probability_difference?": float}
    ],
    "temperature": float,
    "scores": {str: {str: (float, {str: {str: float}})}},
}


@dataclass(frozen=True)
class Run:
    """A finished run as its folder tells of it."""

    name: str
    metrics: dict[str, Any]
    settings: dict[str, Any]
    predictions: Predictions

    @property
    def has_classes(self) -> bool:
        """Whether its students tell emotions apart, and do not give ratings alone."""
        return bool(self.predictions.classes)

    def require_classes(self, wanted: str) -> None:
        """Refuse what needs classes of a run that has none.

        Raises:
            UserError: its students give ratings alone.
        """
        if not self.has_classes:
            names = " and ".join(self.predictions.dimensions)
            raise UserError(
                f"{wanted} needs classes, and the students of {self.name} give {names} alone: name a run "
                "with classes."
            )

    @property
    def bytes_of(self) -> dict[str, int]:
        """Size of the exported file per precision; empty where nothing was exported."""
        return {row["precision"]: row["bytes"] for row in (self.metrics.get("export") or {}).get("rows", [])}

    @property
    def test_speakers(self) -> frozenset[str]:
        """Everyone whom some fold tested; empty where the run's folder does not tell."""
        return frozenset(name for fold in self.metrics["folds"] for name in fold.get("test_speakers", ()))


class Step:
    """A fold's folder within a run's: the training of one student.

    Attributes:
        path: the folder.
        done: the JSON file that says that the step is done; it has the SHA-256 of what the step left.
    """

    def __init__(self, path: Path, done: str):
        self.path, self.done = path, path / done

    @property
    def is_done(self) -> bool:
        return self.done.exists()

    @property
    def student(self) -> Path:
        return self.path / "student.keras"

    @property
    def teacher(self) -> Path:
        """The teacher that was trained for the fold."""
        return self.path / "teacher.npz"

    def history(self, role: str) -> Path:
        """The epochs of a network's training.

        Args:
            role: `student`, `generation-1` and so on of those before it, `teacher`, `teacher-2` and so on.
        """
        return self.path / ("history.csv" if role == "student" else f"{role}_history.csv")

    def checkpoint(self, role: str, phase: int) -> Path:
        """Where an interrupted training goes on."""
        return self.path / f"{role}-checkpoint{'' if phase == 0 else f'-{phase + 1}'}.npz"

    def member(self, role: str, suffix: str = "npz") -> Path:
        """What one network of the fold's teacher gave, until the teacher is whole."""
        return self.path / f"{role}-member.{suffix}"

    def generation(self, number: int) -> Path:
        """What a student before the last one left, until the last one is trained."""
        return self.path / f"generation-{number}.npz"

    def make(self) -> None:
        self.path.mkdir(exist_ok=True)

    def clear(self, *patterns: str) -> None:
        """Remove what a step that is done, or begins anew, has no use for."""
        for pattern in patterns:
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def begin(self) -> None:
        """Remove what an older student of this step left."""
        self.clear(*STEP_FILES)

    def write(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        write_arrays(self.path / name, arrays)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Say that the step is done, with `facts` and the SHA-256 of the files that it left."""
        left = {name: sha256(self.path / name) for name in STEP_FILES if (self.path / name).exists()}
        write_json(self.done, {**facts, "files": left})

    def rewrite(self, facts: Mapping[str, Any]) -> None:
        """Other `facts` for a step that is done; its files stay as they are."""
        write_json(self.done, {**facts, "files": self.hashes()})

    def hashes(self) -> dict[str, str]:
        """SHA-256 by name of the files that the step left."""
        return read_or_redo(self.done, _read_step)["files"]

    def has(self, name: str) -> bool:
        """Whether the step, which is done, left this file; one without a hash is of a killed `add`."""
        return (self.path / name).exists() and name in self.hashes()

    def add(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a file after the step was done, and note its SHA-256."""
        facts = read_or_redo(self.done, _read_step)
        others = {file: digest for file, digest in facts["files"].items() if file != name}
        if name in facts["files"]:  # whose content may not be the new one's
            write_json(self.done, {**facts, "files": others})
        self.write(name, arrays)
        write_json(self.done, {**facts, "files": {**others, name: sha256(self.path / name)}})

    def read(self, name: str, read: Callable[[Path], Any], *, remove: str | None = None) -> Any:
        """What the step left in the file `name`: the very content that it wrote.

        Args:
            read: raises ValueError where the content does not fit.
            remove: without it the step is done anew; by default the step's `done`.
        """
        hashes = self.hashes()

        def same(path: Path) -> Any:
            if sha256(path) != hashes.get(name):
                raise ValueError(f"{path} is not what was written")
            return read(path)

        return read_or_redo(self.path / name, same, remove=self.path / (remove or self.done.name))

    def rows(self, name: str, remove: str | None = None, **expected: Any) -> dict[str, np.ndarray]:
        """The arrays that the step left in `name`; `expected` as `read_rows` takes it."""
        return self.read(name, lambda path: read_rows(path, **expected), remove=remove)

    def outcome(self) -> dict[str, Any]:
        """What fold.json tells."""
        return read_or_redo(self.done, read_fold)

    def exported(self) -> dict[str, Any]:
        """What final.json tells; of a student that is not converted yet it has no `rows`."""
        return read_or_redo(self.done, read_final)


class RunFolder:
    """A run's folder.

    Attributes:
        path: it may not exist yet.

    >>> RunFolder(Path("result/demo")).fold("03").student.as_posix()
    'result/demo/fold-03/student.keras'
    """

    def __init__(self, path: Path):
        self.path = path
        self.config, self.metrics = path / "config.json", path / "metrics.json"
        self.predictions, self.report = path / "predictions.csv", path / "report.md"
        self.page = path / "report.html"
        self.teacher = path / "teacher.npz"  # one that is made for all folds at once
        # What it says of views, until a fold's student is trained.
        self.teacher_views = path / "teacher_views"
        self.teacher_gate = path / "teacher_gate.json"
        self.certificate = path / "certificate.json"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder, so that two processes never train the same run; sweep what a killed one left."""
        with locked(self.path, _LEFTOVERS):
            sweep(self.path)
            sweep(self.path.parent / ".cache", older_than=60)  # other runs may be writing there
            yield

    def wait_until_free(self, most_seconds: float = 60.0) -> None:
        """Wait for a process that holds the folder. One on a cluster outlives its program by seconds.

        Raises:
            UserError: it is held longer.
        """
        until = time.monotonic() + most_seconds
        while True:
            try:
                with locked(self.path, _LEFTOVERS):
                    return
            except UserError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.5)

    @property
    def has_begun(self) -> bool:
        """Whether a run is there, and not only what a start that failed left."""
        return self.config.exists() and not nothing_but(self.path, _LEFTOVERS)

    @property
    def is_finished(self) -> bool:
        return self.metrics.exists()

    def fold(self, name: str) -> Step:
        """The step of a fold, or of the final student, whose fold is named `ALL_SPEAKERS`."""
        done = "final.json" if name == ALL_SPEAKERS else "fold.json"
        return Step(self.path / f"fold-{path_part(name)}", done)

    def write_certificate(self, results: Mapping[str, Any]) -> None:
        """Write what was found of the folds' students, with their SHA-256."""
        names = [fold["name"] for fold in _read_metrics(self.metrics)["folds"]]
        write_json(self.certificate, {**results, "students": self._students(names)})

    def certificates(self, folds: Sequence[str]) -> dict[str, Any]:
        """Precision → what the card of an exported file says of the certificate of these folds' students.

        Empty where there is none, or where it is of students that were trained before these.

        Raises:
            UserError: the file is damaged.
        """
        try:
            certificate = read_json(self.certificate, _CERTIFICATE)
        except FileNotFoundError:
            return {}
        except JsonError as error:
            raise UserError(f"{error} Remove it, or certify the run anew.") from None
        if certificate["students"] != self._students(folds):
            return {}
        return {precision: each["short"] for precision, each in certificate["precisions"].items()}

    def _students(self, folds: Sequence[str]) -> dict[str, str]:
        """Fold → SHA-256 of its student."""
        return {name: self.fold(name).hashes()["student.keras"] for name in folds}

    def finished(self) -> Run:
        """The finished run.

        Raises:
            UserError: the folder holds no finished run, or a damaged one.
        """
        try:
            metrics = _read_metrics(self.metrics)
            config = read_json(self.config, _CONFIG)
            if any(len(ends) != 2 for ends in (metrics["ci95"] or {}).values()):
                raise ValueError("an interval has two ends")
            predictions = read_predictions(self.predictions)
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path} holds no finished run: {Path(error.filename).name} is missing. "
                "The command that began the run continues it."
            ) from None
        except (OSError, ValueError, JsonError) as error:
            why = f"{error.path.name} {error.why}" if isinstance(error, JsonError) else str(error)
            raise UserError(
                f"{self.path}: its metrics.json or config.json is damaged: {why}. The command that made the "
                "run writes metrics.json anew; copy config.json anew."
            ) from None
        run = Run(self.path.resolve().name, metrics, config["settings"], predictions)
        self._check_predictions(run)
        return run

    def _check_predictions(self, run: Run) -> None:
        """Refuse a predictions.csv that is not metrics.json's: a file cut short still reads well."""
        predictions, pooled = run.predictions, run.metrics["pooled"]
        count = pooled.get("count", len(predictions.ids))
        if predictions.ids and len(predictions.ids) == count:
            if not predictions.classes:
                is_same = _same_ratings(run)
            else:
                scored = scores(predictions.labels, predictions.predicted, predictions.classes)
                stored = pooled.get("ua", np.nan), pooled.get("wa", np.nan)
                is_same = np.allclose((scored.ua, scored.wa), stored, rtol=0, atol=1e-6)
            if is_same:
                return
        raise UserError(
            f"{self.path}: its predictions.csv, with {len(predictions.ids):,} predictions, is not the one "
            f"that metrics.json was written of, with {count:,}: the run's command, given again, writes both "
            "anew."
        )


def _same_ratings(run: Run) -> bool:
    """Whether the ratings of predictions.csv have the concordance that metrics.json tells."""
    stored = run.metrics.get("dimensions", {}).get("pooled", {})
    computed = {
        name: dimension_scores(true[:, None], answers[:, None])[0].ccc
        for name, (answers, true) in run.predictions.dimensions.items()
    }
    return {*stored} == {*computed} and all(
        computed[name] == each["ccc"] or np.isclose(computed[name] or 0, each["ccc"] or 0, rtol=0, atol=1e-6)
        for name, each in stored.items()
    )


def read_run(folder: Path) -> Run:
    """The finished run in a folder; raises as `RunFolder.finished`."""
    return RunFolder(folder).finished()


def read_or_redo(path: Path, read: Callable[[Path], Any], *, remove: Path | None = None) -> Any:
    """What `read` makes of a file that a finished step left.

    Args:
        remove: without it the step is done anew; by default the file itself.

    Raises:
        UserError: the file is missing or damaged; says what to remove.
    """
    try:
        return read(path)
    except (UserError, OSError, ValueError, KeyError):
        state = "damaged" if path.exists() else "missing"
        raise UserError(
            f"{path} is {state}: remove {remove or path}, and the same command does that step anew."
        ) from None


def read_rows(
    path: Path,
    *,
    rows: int,
    width: int | None = None,
    names: Sequence[str] = ("selected",),
    shares: bool = False,
) -> dict[str, np.ndarray]:
    """Arrays of numbers `(rows, width)`; those that are there beside `names` likewise.

    Args:
        width: None for any.
        shares: whether they are probabilities.

    Raises:
        ValueError: they are not.
    """
    arrays = read_arrays(path)
    for name, values in {**arrays, **{name: arrays[name] for name in names}}.items():
        if values.ndim != 2 or len(values) != rows or values.shape[1] != (width or values.shape[1]):
            raise ValueError(f"{path}: {name} is {values.shape}; expected {rows} rows of {width}")
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} holds what is no number")
        # An int8 file's probabilities are multiples of 1 / 256.
        if shares and (values.min() < 0 or np.abs(values.sum(axis=1) - 1).max() > 0.1):
            raise ValueError(f"{path}: {name} are no probabilities")
    return arrays


def _read_step(path: Path) -> dict[str, Any]:
    """A fold.json or final.json, with the SHA-256 of the files that its step left."""
    return read_json(path, {"files": {str: str}})


def _read_metrics(path: Path) -> dict[str, Any]:
    metrics = read_json(path)
    of_ratings = isinstance(metrics, dict) and metrics.get("classes") == []
    checked: dict[str, Any] = checked_json(path, metrics, _RATED_METRICS if of_ratings else _METRICS)
    return checked


def read_fold(path: Path) -> dict[str, Any]:
    """A fold.json, with what a run goes on from.

    Raises:
        FileNotFoundError, JsonError: as `read_json`.
        ValueError: it names epochs that were not trained.
    """
    outcome = read_json(path)
    of_ratings = isinstance(outcome, dict) and "dimensions" in outcome and outcome.get("last_epoch") == {}
    checked_json(path, outcome, _RATED_FOLD if of_ratings else _FOLD)
    best = outcome["best_epochs"]
    if not (best and all(_is_count(each, outcome["epochs"]) for each in best)):
        raise ValueError(f"{path} names epochs that were not trained")
    if not _is_count(outcome["best_epoch"], outcome["epochs"]):
        raise ValueError(f"{path} has no numbers where they should be")
    return outcome


def _is_count(number: Any, most: Any) -> bool:
    return type(number) is int and type(most) is int and 1 <= number <= most


def read_final(path: Path) -> dict[str, Any]:
    """A final.json, of a converted student with what its files are.

    Raises:
        FileNotFoundError, JsonError: as `read_json`; also where the row of float32 is missing or a precision
            is unknown.
    """
    exported = read_json(path, _TRAINED)
    if not _CONVERTED.keys() & exported.keys():
        return exported
    checked_json(path, exported, _CONVERTED)
    if odd := [row["precision"] for row in exported["rows"] if row["precision"] not in PRECISIONS]:
        raise JsonError(path, f"is damaged (precision {odd[0][:20]!r})")
    if "float32" not in [row["precision"] for row in exported["rows"]]:
        raise JsonError(path, "is damaged (it lacks the row of float32)")
    return exported
