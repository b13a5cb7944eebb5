"""A grid and a search as their commands make them: planned, trained, and their scores set side by side.

Imports no Keras before it is known that something is to be trained here.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from light_sernet_kd.analysis import grid as grids
from light_sernet_kd.analysis import search as searches
from light_sernet_kd.analysis.grid import Grid, GridFolder, StepCosts
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.config.cluster import LOCAL, cluster_address
from light_sernet_kd.config.engine import one_engine
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import locked, path_part
from light_sernet_kd.registries.engines import AUTO, ENGINES, EXPORTS, TRAINS_ALL

if TYPE_CHECKING:
    from light_sernet_kd.analysis.grid.plan import Plan
    from light_sernet_kd.reporting.display import Display

_ONE = "give all one `engine`"


@dataclass(frozen=True)
class GridCommand:
    """What a command says of a grid beside its file and options.

    Attributes:
        jobs: runs at a time; None for one, on a cluster for what it has room for.
        on: where the runs are made, as `--on` names it.
        dry_run: the plan is shown, and nothing is run.
        measure: steps of each kind of run that was not timed before are timed first.
        mirror: the address of a second place for the results.
        begin: imports what the engine of this name computes with.
    """

    jobs: int | None
    on: str
    dry_run: bool
    measure: bool
    mirror: str | None
    begin: Callable[[str], None]

    def carry_out(self, grid: Grid, options: RunOptions, display: "Display") -> bool:
        """Show the plan, run what is not done, then show and write the scores; whether no run is missing.

        Raises:
            UserError: the folder holds another grid, the runs have several engines, or none can be made.
        """
        with self._mirrored(grid, options, display):
            folder = GridFolder.of(grid, options.result)
            planned = self._planned(grid, folder, options, display)
            if self.dry_run or options.verbose:
                planned.table().show(display.console)
                for line in planned.lines(self.jobs or 1):
                    display.say(line, always=True)
            if self.dry_run:
                for line in planned.each(all_of_them=options.verbose > 1):
                    display.say(line, always=True)
                return True
            all_done = self._run(planned, grid, folder, options, display) if planned.to_run else True
            scored = grids.scores(grid, folder)
            if scored["rows"]:
                grids.show(scored, display)
                written = grids.write(scored, folder.path)
                display.say(f"Scores: {written[1]}", always=True)
        return all_done

    def _mirrored(
        self, grid: Grid, options: RunOptions, display: "Display"
    ) -> contextlib.AbstractContextManager[None]:
        if self.mirror is None:
            return contextlib.nullcontext()
        from light_sernet_kd.experiment.mirror import mirrored_grid

        names = [entry.name for entry in grid.entries]
        return mirrored_grid(self.mirror, options.result / grid.name, names, display)

    def _planned(self, grid: Grid, folder: GridFolder, options: RunOptions, display: "Display") -> "Plan":
        costs = StepCosts.of(options.result)
        planned = grids.plan(grid, folder, costs)
        unknown = [entry for entry in planned.to_run if planned.seconds[entry.name] is None]
        if not self.measure or not unknown:
            return planned
        self.begin(one_engine([entry.settings for entry in unknown], remedy=_ONE))
        from light_sernet_kd.experiment.sweeps.measuring import measure

        measure(unknown, costs, dataclasses.replace(options, result=folder.path), display)
        return grids.plan(grid, folder, costs)

    def _run(
        self, planned: "Plan", grid: Grid, folder: GridFolder, options: RunOptions, display: "Display"
    ) -> bool:
        engine = one_engine([entry.settings for entry in planned.to_run], remedy=_ONE)
        together, local = ENGINES[engine].trains_together, self.on == LOCAL
        if local and together and (self.jobs or 1) > 1:
            raise UserError(
                f"--jobs is for engine {TRAINS_ALL}: {engine} trains the runs together, in one process."
            )
        address = None if local else cluster_address(self.on)
        begin = functools.partial(self.begin, engine)
        if local:
            begin()  # where Ray makes the runs, its workers import the engine, and this process does without
        from light_sernet_kd.experiment.sweeps.grid import run

        with locked(folder.path):
            ray = None
            if not local:
                from light_sernet_kd.experiment.cluster.runs import Ray

                ray = Ray(address, begin, self.jobs, on_gpu=together)
            return run(
                grid, folder, options, display, engine=engine, jobs=self.jobs or 1, begin=begin, ray=ray
            )


@dataclass(frozen=True)
class SearchCommand:
    """What a command says of a search beside its settings and options.

    Attributes:
        line: as it was given, for the report.
        space: the file of what is chosen; None for the usual space of the settings.
        budget: what a student may take.
        precision: of the file that is measured.
        inner: how many inner folds.
        trials: settings drawn, with those of earlier commands.
        finals: how many of the best are tested on the outer folds.
        jobs: students trained at a time on a cluster; None for what it has room for.
        on: where they are trained, as `--on` names it.
        dry_run: the search is told, and nothing is run.
        begin: imports what an engine, by default the one that exports, computes with.
    """

    line: str
    space: Path | None
    budget: searches.Budget
    precision: str
    inner: int
    trials: int
    finals: int
    jobs: int | None
    on: str
    dry_run: bool
    begin: Callable[[str], None]

    def carry_out(self, settings: Settings, options: RunOptions, display: "Display") -> None:
        """Say what the search is, do the trials that are not done, then show the table of the best.

        Raises:
            UserError: settings that no search takes, another search in the folder, or no student that meets
                the budget.
        """
        _check_searched(settings)
        space = searches.read_space(self.space) if self.space else searches.default_space(settings)
        search = searches.searched(
            settings, space, self.budget, options.data, precision=self.precision, inner=self.inner
        )
        folder = searches.SearchFolder.of(search, options.result / path_part(options.run or search.name))
        if self.dry_run or options.verbose:
            for line in search.lines():
                display.say(line, always=True)
            display.say(f"Trials: {self.trials}. Folder: {folder.path}", always=True)
        if self.dry_run:
            return
        searches.require_optuna()
        begin, ray = functools.partial(self.begin, EXPORTS), None
        if self.on != LOCAL:
            from light_sernet_kd.experiment.cluster.runs import Ray

            ray = Ray(cluster_address(self.on), begin, self.jobs)
        begin()
        from light_sernet_kd.experiment.sweeps.search import run

        summary = run(
            search,
            folder,
            dataclasses.replace(options, run=None),
            display,
            trials=self.trials,
            finals=self.finals,
            command=self.line,
            ray=ray,
        )
        if summary:
            searches.show(summary, search, display)
            display.say(f"Table: {folder.path / 'pareto.md'}", always=True)


def _check_searched(settings: Settings) -> None:
    """Refuse settings that say what no search can do."""
    if settings.engine != AUTO and not ENGINES[settings.engine].exports:
        raise UserError(
            "a search exports every student, which TensorFlow alone does: leave out "
            f"--engine {settings.engine}."
        )
    if settings.unlabelled is not None:
        # Its recordings would be compared with the speakers of each trial, and not with those that test.
        raise UserError("a search takes no --unlabelled: leave it out, and train what is found with it.")
    if settings.start_from is not None:
        raise UserError("a search draws students of many shapes, and takes no --start_from: leave it out.")
    if settings.dimensions_only:
        raise UserError("a search compares UA, which --dimensions_only has none of: leave it out.")
