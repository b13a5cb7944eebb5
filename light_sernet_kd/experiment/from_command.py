"""A run as the command `train` makes it: not again where nothing has changed, and sent to a second place.

Imports no Keras before it is known that something is to be trained.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from light_sernet_kd import experiment
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.config.engine import engine_of
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.experiment.alone import settings_alone
from light_sernet_kd.experiment.outcome import default_run_name, options_beside, summary
from light_sernet_kd.experiment.results.receipt import unchanged
from light_sernet_kd.files import path_part, read_json

if TYPE_CHECKING:
    from light_sernet_kd.reporting.display import Display


@dataclass(frozen=True)
class TrainCommand:
    """What a command says of its runs beside their settings and options.

    Attributes:
        line: as it was given, for the report.
        alone: the student is first trained without a teacher too, in a folder of its own.
        repeats: the config.json of a run that is repeated.
        mirror: the address of a second place for the results.
        begin: imports what the engine of this name computes with.
    """

    line: str
    alone: bool
    repeats: Path | None
    mirror: str | None
    begin: Callable[[str], None]

    def train(self, settings: Settings, options: RunOptions, display: "Display") -> RunFolder:
        """Train the run, if it would not come out as it is there, and say its outcome.

        Raises:
            UserError: as `experiment.train`, or the second place fails.
        """
        with self._mirrored(settings, options, display):
            folder = self._unchanged(settings, options) or self._trained(settings, options, display)
            display.say(summary(read_json(folder.metrics)), always=True)
            display.say(f"Report: {folder.report}", always=True)
            display.say(f"Page: {folder.page}", always=True)
        return folder

    def _mirrored(
        self, settings: Settings, options: RunOptions, display: "Display"
    ) -> contextlib.AbstractContextManager[None]:
        if self.mirror is None:
            return contextlib.nullcontext()
        from light_sernet_kd.experiment.mirror import mirrored_run

        runs = [options, options_beside(settings, options)] if self.alone else [options]
        names = [each.run or default_run_name(settings) for each in runs]
        return mirrored_run(self.mirror, [options.result / path_part(name) for name in names], display)

    def _unchanged(self, settings: Settings, options: RunOptions) -> RunFolder | None:
        """The folder of the run that would come out the same, with its student alone where that is asked."""
        if self.alone and unchanged(settings_alone(settings), options_beside(settings, options)) is None:
            return None
        return unchanged(settings, options)

    def _trained(self, settings: Settings, options: RunOptions, display: "Display") -> RunFolder:
        self.begin(engine_of(settings))
        if self.alone:
            experiment.train_alone(settings, options, display)
        path = experiment.train(settings, options, display, command=self.line, repeats=self.repeats)
        return RunFolder(path)
