"""The students of a finished run's folds as exported files, for stress tests."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras

from light_sernet_kd.config import RunOptions
from light_sernet_kd.data.protocols import Fold, select
from light_sernet_kd.data.resolve_settings import settings_of_run
from light_sernet_kd.data.run_folder import RunFolder, Step, read_run
from light_sernet_kd.data.selection import Selection
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.exported.conversion import convert
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.files import read_json
from light_sernet_kd.registries.engines import AUTO
from light_sernet_kd.registries.losses import NO_TEACHER
from light_sernet_kd.registries.students import is_multimodal
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.training.network import load_student


def fold_files(
    folder: Path, to: Path, *, data: Path, precisions: Sequence[str], folds: Sequence[str] = ()
) -> tuple[Selection, list[tuple[Fold, dict[str, Path]]]]:
    """The students of a finished run's folds as exported files that take audio, written below `to`.

    Returns:
        What the run works on, and per fold its files by precision.

    Args:
        folds: names of some; by default all that the run has.

    Raises:
        UserError: the run is not finished, its students are not audio-only, or its corpus has changed.
    """
    run = read_run(folder)
    settings = settings_of_run(folder, run.settings)
    if is_multimodal(settings.student):
        raise UserError(
            f"{folder} has students of {settings.student}, which need encoders: expected audio-only students."
        )
    # What it learned from is of no matter here, and need not be there any more.
    plain = dataclasses.replace(
        settings,
        distillation=NO_TEACHER,
        distillation_weights={},
        teacher=None,
        unlabelled=None,
        start_from=None,
        generations=1,
        merge_tflite=True,
        enrolment=False,
        engine=AUTO,
    )
    options = RunOptions(data=data, result=to, cache="none")
    again = Experiment(plain, options, to, Display(verbose=0))
    stored = read_json(RunFolder(folder).config, {"corpus_sha256": str, "folds_sha256?": {str: str}})
    folds_now = again.selection.fold_digests
    if again.corpus_digest != stored["corpus_sha256"] or stored.get("folds_sha256", folds_now) != folds_now:
        raise UserError(
            f"{again.corpus.name} is not as it was when {folder} was trained: expected the same recordings, "
            "labels and folds."
        )
    # Each fold's own temperature, which saw no test label: what is unsure must be as calibrated as can be.
    fitted = run.metrics.get("calibration", {}).get("folds", [])
    temperatures = {each["name"]: each["temperature"] or 1.0 for each in fitted}
    files = []
    for fold in select(again.folds, folds):
        student, target = _student(RunFolder(folder).fold(fold.name), fold), again.step(fold).path
        temperature = temperatures.get(fold.name, 1.0)
        convert(again, fold, target, student, precisions=precisions, temperature=temperature)
        files.append((fold, {name: target / f"student_{name}.tflite" for name in precisions}))
    return again.selection, files


def _student(step: Step, fold: Fold) -> keras.Model:
    if not step.student.exists():
        raise UserError(f"{step.student} is missing: the run's folder lacks the student of fold {fold.name}.")
    try:
        return load_student(step.student)
    except UserError as error:
        raise UserError(f"{error} Remove {step.done}, and the run's command does that fold anew.") from None
