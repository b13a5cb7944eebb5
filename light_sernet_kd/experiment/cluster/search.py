"""A search whose students are trained on the nodes of a Ray cluster.

This process draws the trials, measures their files and tells Optuna their scores: it alone needs the study's
storage, and all files are measured on one machine.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from light_sernet_kd.analysis.search import trial_name
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.cluster.runs import Ray
from light_sernet_kd.experiment.outcome import command_of
from light_sernet_kd.experiment.run import opened
from light_sernet_kd.experiment.sweeps.search import TrialRunner, final_run, train_trial


@dataclass(frozen=True)
class _Trained:
    """A trial whose student is to be trained."""

    name: str
    settings: Settings
    trial: Any


@dataclass(frozen=True)
class _Tested:
    """A final run, of a row of the table."""

    name: str
    settings: Settings
    row: dict[str, Any]


def train_trials(drawn: TrialRunner, ray: Ray) -> None:
    """Do the trials that are not done.

    Raises:
        UserError: as `Ray.outcomes`, or no node can train a student. The trials wait for the next start.
    """
    trials = _Trials(drawn)
    trained = replace(ray, train=train_trial)
    with contextlib.closing(trials):
        for each, finished in trained.outcomes(trials.wanted(), drawn.options, drawn.display):
            if not finished.began:
                raise UserError(finished.why or "")
            trials.tell(each, finished.why)


class _Trials:
    """The trials that are this process's.

    Attributes:
        at_work: those that are trained now, by their names; each with what holds it.
        twin: one that waits for a trial of the same settings that is trained now.
    """

    def __init__(self, drawn: TrialRunner):
        self.drawn = drawn
        self.at_work: dict[str, tuple[_Trained, contextlib.ExitStack]] = {}
        self.twin: tuple[Any, contextlib.ExitStack] | None = None

    def close(self) -> None:
        """Give back the trials that are not decided."""
        for _, turn in (*self.at_work.values(), *([self.twin] if self.twin else [])):
            turn.close()

    def wanted(self) -> Iterator[_Trained | None]:
        """The trials to train; None after one that is decided without, or while one must wait."""
        while True:
            if self.twin is None:
                turn = contextlib.ExitStack()
                self.twin = turn.enter_context(self.drawn.study.turn(self.drawn.trials)), turn
            if self.twin[0] is None:
                return
            if self._is_at_work(self.twin[0]):
                yield None
                continue
            (trial, turn), self.twin = self.twin, None
            with turn:
                trained = self._measured(trial)
                if trained is None:
                    self.drawn.say(trial)
                else:
                    self.at_work[trained.name] = trained, turn.pop_all()
            yield trained

    def tell(self, trained: _Trained, why: str | None) -> None:
        """The trial is scored; or it is not, for a reason."""
        _, turn = self.at_work.pop(trained.name)
        with turn:
            if why is None:
                self.drawn.keep(trained.trial)
            else:
                self.drawn.study.fail(trained.trial, why)
            self.drawn.say(trained.trial)

    def _is_at_work(self, trial: Any) -> bool:
        decoded = self.drawn.study.search.space.decoded
        mine = decoded(trial.params)
        return any(decoded(each.trial.params) == mine for each, _ in self.at_work.values())

    def _measured(self, trial: Any) -> _Trained | None:
        """The trial, where its student is to be trained."""
        wanted = self.drawn.run_of(trial)
        if wanted is None:
            return None
        settings, options = wanted
        try:
            if self._is_over_budget(trial, settings, options):
                return None
        except UserError as error:
            self.drawn.fail(trial, error)
            return None
        return _Trained(str(options.run), settings, trial)

    def _is_over_budget(self, trial: Any, settings: Settings, options: RunOptions) -> bool:
        with opened(settings, options, self.drawn.display, command=command_of(settings, options)) as run:
            return self.drawn.is_over_budget(trial, run)


def tested_there(
    drawn: TrialRunner, rows: Sequence[dict[str, Any]], ray: Ray
) -> Iterator[tuple[dict[str, Any], RunFolder]]:
    """Test these students on the outer folds; each row with its run.

    Raises:
        UserError: one could not be tested. The others are.
    """
    runs = []
    for row in rows:
        settings, _ = final_run(drawn.study, row, drawn.options)
        runs.append(_Tested(trial_name("final", row["trial"]), settings, row))
    failed = ""
    for each, finished in ray.outcomes(runs, drawn.options, drawn.display):
        if finished.why is None:
            yield each.row, RunFolder(drawn.options.result / each.name)
        else:
            failed = failed or f"{each.name}: {finished.why}"
    if failed:
        raise UserError(failed)
