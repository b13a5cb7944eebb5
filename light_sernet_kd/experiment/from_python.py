"""A run from Python: what the command `train` does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from light_sernet_kd import plugins
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.data.resolve_settings import resolve_settings
from light_sernet_kd.device.runs import Run
from light_sernet_kd.experiment.run import train as train_run
from light_sernet_kd.reporting.display import Display


def train(
    settings: Settings | None = None,
    *,
    data: str | Path = "data",
    result: str | Path = "result",
    run: str | None = None,
    verbose: int = 1,
    audio: bool = True,
    callbacks: Sequence[str | Callable[..., Any]] = (),
    **changes: Any,
) -> Run:
    """Train a student on every fold, score, report and export it; a run that was begun goes on.

    Args:
        settings: what decides the run; by default made of `changes`.
        data: holds the corpora's folders.
        result: gets the run's folder.
        run: its name; by default made of the settings.
        verbose: what is logged at the level INFO, to the logger `light_sernet_kd`: 0 the end, 1 each network
            and fold, 2 each epoch. Nothing is printed.
        callbacks: factories of Keras callbacks, or their names, as `--callbacks` takes them.
        audio: whether report.html holds the recordings of its surest mistakes.
        changes: settings by their names, where `settings` are not given. Without `protocol` the corpus's own
            is taken, without `recipe` the student's own front end and schedule, as published.

    Raises:
        UserError: what the user can mend, before any training begins.
        TypeError: both `settings` and `changes`.

    >>> train(corpus="nowhere.csv")
    Traceback (most recent call last):
        ...
    light_sernet_kd.errors.UserError: no manifest nowhere.csv.
    """
    if settings is not None and changes:
        raise TypeError("give settings, or their parts by name, not both")
    plugins.load_installed()
    options = RunOptions(
        data=Path(data),
        result=Path(result),
        run=run,
        verbose=verbose,
        audio=audio,
        callbacks=tuple(callbacks),
    )
    settings = settings or resolve_settings(changes, Path(data))
    return Run.load(train_run(settings, options, Display(verbose=verbose)))
