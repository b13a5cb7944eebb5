"""A whole experiment: every fold of a protocol, the results folder, and the exported student.

Each step leaves its outcome in the run's folder and is not done again: the same command continues a run
that was interrupted at any moment, and ends with the same files. They are the same bit for bit where the
processor and the number of threads are: others sum in another order.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from light_sernet_kd import plugins
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.alone import settings_alone
from light_sernet_kd.experiment.config_file import changes_since
from light_sernet_kd.experiment.exported.final import export_final
from light_sernet_kd.experiment.fold import run_fold
from light_sernet_kd.experiment.networks.forecast import forecast_of, say_plan
from light_sernet_kd.experiment.networks.training import keep_networks
from light_sernet_kd.experiment.outcome import command_of, default_run_name, options_beside
from light_sernet_kd.experiment.results.receipt import write_receipt
from light_sernet_kd.experiment.results.writing import write_results
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.experiment.teachers.gate import check_teacher
from light_sernet_kd.files import path_part
from light_sernet_kd.registries.engines import ENGINES
from light_sernet_kd.reporting.display import Display


def train(
    settings: Settings,
    options: RunOptions,
    display: Display,
    *,
    command: str = "",
    repeats: Path | None = None,
) -> Path:
    """Run the experiment that `settings` describe; returns its folder.

    Args:
        command: as the user gave it, for the report.
        repeats: the config.json of a run. What is not as it was there is said before training.

    Raises:
        UserError: what the user can mend, before any training begins.
    """
    with opened(settings, options, display, command=command) as run:
        if repeats and (changed := changes_since(run, repeats)):
            display.warn(f"Not as in {repeats}: {'; '.join(changed)}.")
        carry_out(run)
        write_receipt(run)
    return run.folder.path


def train_alone(settings: Settings, options: RunOptions, display: Display) -> Path:
    """Run the experiment without its teacher and without files for a device, in a folder beside its own.

    Arguments and errors are those of `train`; `settings` have the teacher.
    """
    options_alone = options_beside(settings, options)
    alone = settings_alone(settings)
    return train(alone, options_alone, display, command=command_of(alone, options_alone))


def carry_out(run: Experiment) -> None:
    """All that a run does once it is opened.

    Raises:
        UserError: a training failed, or `--teacher_gate refuse` ends the run before any student trains.
    """
    say_plan(run)
    check_teacher(run)
    run.forecast = forecast_of(run)
    if ENGINES[run.engine].trains_together:
        from light_sernet_kd.experiment.sweeps.together import train_folds

        train_folds([run])
    conclude(run, run_folds(run))


@contextlib.contextmanager
def opened(
    settings: Settings, options: RunOptions, display: Display, *, command: str = ""
) -> Iterator[Experiment]:
    """The experiment of `settings`, whose folder is held within. Arguments and errors as of `train`."""
    plugins.load_installed()
    folder = options.result / path_part(options.run or default_run_name(settings))
    with RunFolder(folder).lock():
        # Selects utterances and folds, reads the teacher, and checks all that can be checked.
        run = Experiment(settings, options, folder, display, command)
        for text in run.data_warnings:
            display.warn(text)
        yield run


def run_folds(run: Experiment) -> list[dict[str, Any]]:
    """Do each fold that is not done: features, teacher outputs, a student, its scores."""
    outcomes, diverged = [], None
    for fold in run.folds:
        try:
            outcomes.append(run_fold(run, fold))
        except UserError as error:
            if not run.ahead:
                raise
            diverged = diverged or error  # the other folds' networks are trained too, and to be kept
    if diverged:
        raise diverged
    return outcomes


def conclude(
    run: Experiment, outcomes: Sequence[dict[str, Any]], *, wanted: bool | None = None
) -> dict[str, Any] | None:
    """The final student, and the results. Arguments and what it returns are those of `export_final`."""
    exported = export_final(run, outcomes, wanted=wanted)
    write_results(run, outcomes, exported)
    keep_networks(run)
    return exported
