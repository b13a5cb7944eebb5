"""A finished run, for programs: its scores, predictions and exported student."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd.config import PRECISIONS
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.device.command_paths import model_file
from light_sernet_kd.device.whole import Runner
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.evaluation import Predictions


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        folder: where it lies.
        settings: what decided it, by the names of `Settings`.
        metrics: what metrics.json tells.
        predictions: of every test utterance.

    >>> try:
    ...     Run.load("result/nothing")
    ... except UserError as error:
    ...     print(str(error).partition(":")[0])
    result/nothing holds no finished run
    """

    folder: Path
    settings: dict[str, Any]
    metrics: dict[str, Any]
    predictions: Predictions

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """The run in a folder.

        Raises:
            UserError: the folder holds no finished run, or a damaged one.
        """
        finished = RunFolder(Path(folder)).finished()
        return cls(Path(folder), finished.settings, finished.metrics, finished.predictions)

    @property
    def scores(self) -> dict[str, Any]:
        """`ua` and `wa` (shares from 0 to 1) of all test utterances, `ci95` (score → both ends of the 95 %
        interval over speakers; None of too few) and `stamps`, what makes them optimistic.

        Of students that learn ratings also `ccc` (dimension → concordance) and `ccc_ci95`; of ratings alone
        `ua` and `wa` are None.
        """
        pooled, rated = self.metrics["pooled"], self.metrics.get("dimensions")
        scores = {
            "ua": pooled.get("ua"),
            "wa": pooled.get("wa"),
            "ci95": self.metrics["ci95"],
            "stamps": [*self.metrics["stamps"]],
        }
        if rated:
            scores["ccc"] = {name: each["ccc"] for name, each in rated["pooled"].items()}
            scores["ccc_ci95"] = {name: (each or {}).get("ccc") for name, each in rated["ci95"].items()}
        return scores

    @property
    def report(self) -> Path:
        """The file report.md."""
        return RunFolder(self.folder).report

    def student(self, precision: str | None = None, **settings: Any) -> Runner:
        """The student of all speakers that was exported.

        Args:
            precision: one of `PRECISIONS`; by default int8, or the next larger one that is there.
            settings: of `Runner`.

        Raises:
            UserError: it was not exported, or not in this precision.
        """
        if precision is None:
            return Runner(self.folder, **settings)
        ending = "_enrolled" if settings.get("profile") is not None else ""
        path = self.folder / f"student_{choose('precision', precision, PRECISIONS)}{ending}.tflite"
        if not path.is_file():
            there = model_file(self.folder, enrolled=bool(ending))  # or says that there is none
            raise UserError(f"no {path.name} in {self.folder}, which has {there.name}.")
        return Runner(path, **settings)
