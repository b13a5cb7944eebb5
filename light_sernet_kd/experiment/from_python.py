"""A run from Python: what the command `train` does."""

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from light_sernet_kd.config import RunOptions, Settings, make_settings
from light_sernet_kd.corpora.registry import default_protocol
from light_sernet_kd.device.runs import Run
from light_sernet_kd.experiment.run import train as train_run
from light_sernet_kd.registries.corpora import origin
from light_sernet_kd.registries.protocols import two_corpora_protocol
from light_sernet_kd.reporting.display import Display


def train(
    settings: Settings | None = None,
    *,
    data: str | Path = "data",
    result: str | Path = "result",
    run: str | None = None,
    verbose: int = 0,
    audio: bool = True,
    **changes: Any,
) -> Run:
    """Train a student on every fold, score, report and export it; a run that was begun goes on.

    Args:
        settings: what decides the run; by default made of `changes`.
        data: holds the corpora's folders.
        result: gets the run's folder.
        run: its name; by default made of the settings.
        verbose: 0 prints nothing, 1 and 2 as the command does.
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
    options = RunOptions(data=Path(data), result=Path(result), run=run, verbose=verbose, audio=audio)
    display = Display(Console(quiet=not verbose), verbose=verbose)
    return Run.load(train_run(settings or _settings(changes, Path(data)), options, display))


def _settings(values: dict[str, Any], data: Path) -> Settings:
    corpus = values.get("corpus", Settings.corpus)
    if isinstance(corpus, str | Path):
        values = {**values, "corpus": origin(str(corpus)) or str(corpus)}
    if "protocol" not in values and values.get("test_on") is not None:
        values = {**values, "protocol": two_corpora_protocol()}
    settings = make_settings(**values)
    if "protocol" in values:
        return settings
    protocol = default_protocol(settings.corpus, data, settings.columns)
    return dataclasses.replace(settings, protocol=protocol)
