"""The trials of a search in Optuna's storage, and each as a plain row for tables and logs."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import numpy as np

from light_sernet_kd.analysis.search.folder import Search, SearchFolder
from light_sernet_kd.analysis.search.space import Cost, of_file
from light_sernet_kd.errors import missing

RUNNING, PRUNED, KEPT, FAILED = "running", "pruned", "kept", "failed"
_DECISIONS = {"RUNNING": RUNNING, "PRUNED": PRUNED, "COMPLETE": KEPT, "FAIL": FAILED}
# Of the objectives: UA, milliseconds, kilobytes.
DIRECTIONS = ("maximize", "minimize", "minimize")


def trial_name(kind: str, number: int) -> str:
    """The name of a trial's run.

    >>> trial_name("final", 7)
    'final-007'
    """
    return f"{kind}-{number:03d}"


def require_optuna() -> None:
    """Raise a `UserError` if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise missing("optuna", "search") from None


def study_of(search: Search, folder: SearchFolder) -> "Study":
    """The study in the folder's journal, made where there is none.

    Raises:
        UserError: Optuna is not installed.
    """
    require_optuna()
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Its own lock is a file that a killed process leaves; this one ends with its process.
    lock = folder.lock("journal")
    storage = JournalStorage(JournalFileBackend(str(folder.journal), lock_obj=lock))
    study = optuna.create_study(
        study_name="search", storage=storage, directions=list(DIRECTIONS), load_if_exists=True
    )
    return Study(search, folder, study)


class Study:
    """The trials of a search, which several processes may share.

    Attributes:
        optuna: Optuna's study.
    """

    def __init__(self, search: Search, folder: SearchFolder, optuna: Any):
        self.search, self.folder, self.optuna = search, folder, optuna

    @contextlib.contextmanager
    def turn(self, most: int) -> Iterator[Any]:
        """A trial to work on, which is this process's within: one that was interrupted, or a new one.

        None where there are `most` trials and other processes work on those that are not finished.
        """
        with contextlib.ExitStack() as stack:
            # Under one lock, or two processes might take one trial, or one too many.
            with self.folder.lock("turn"):
                trial = self._interrupted(stack)
                trials = self.optuna.get_trials(deepcopy=False)
                if trial is None and len(trials) < most:
                    trial = self._drawn(len(trials))
                    stack.enter_context(self._owner(trial.number))
            yield trial

    def _owner(self, number: int) -> filelock.BaseFileLock:
        return self.folder.lock(trial_name("trial", number), wait=False)

    def _interrupted(self, stack: contextlib.ExitStack) -> Any:
        from optuna.trial import Trial, TrialState

        for frozen in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            with contextlib.suppress(filelock.Timeout):
                stack.enter_context(self._owner(frozen.number))
                if {*frozen.params} == {*self.search.space.values}:
                    return Trial(self.optuna, frozen._trial_id)
                # Killed while it was drawn, which takes milliseconds.
                trial = Trial(self.optuna, frozen._trial_id)
                trial.set_user_attr("why", "interrupted while it was drawn")
                self.optuna.tell(frozen.number, state=TrialState.FAIL)
        return None

    def _drawn(self, number: int) -> Any:
        from optuna.samplers import TPESampler

        # A sampler per trial: its draw depends on the seed, the number and the trials before, and on no
        # interruption.
        seed = np.random.SeedSequence([self.search.settings.seed, number]).generate_state(1)[0]
        self.optuna.sampler = TPESampler(seed=int(seed))
        return self.optuna.ask(self.search.space.distributions())

    def set_cost(self, trial: Any, cost: Cost, file_of: int | None = None) -> None:
        """What the trial's student costs.

        Args:
            file_of: the trial whose file was measured; by default its own.
        """
        trial.set_user_attr("file_of", trial.number if file_of is None else file_of)
        with warnings.catch_warnings():
            # One that was killed just here has them already.
            warnings.filterwarnings("ignore", "The constraint value is ignored")
            for name, share in self.search.budget.violations(cost).items():
                trial.set_constraint(name, share)
        trial.set_user_attr("cost", dataclasses.asdict(cost))

    def prune(self, trial: Any, why: str) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("why", why)
        self.optuna.tell(trial.number, state=TrialState.PRUNED)

    def fail(self, trial: Any, why: str) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("why", why)
        self.optuna.tell(trial.number, state=TrialState.FAIL)

    def keep(self, trial: Any, scores: Mapping[str, Any]) -> None:
        """The trial is scored: `ua`, `folds` (name → UA), `stamps`, and perhaps `why` and `same_as`."""
        for name, value in scores.items():
            trial.set_user_attr(name, value)
        cost = trial.user_attrs["cost"]
        self.optuna.tell(trial.number, [scores["ua"], cost["ms"], cost["kb"]])

    def same_before(self, trial: Any) -> dict[str, Any] | None:
        """The row of an earlier finished trial of the same settings."""
        mine = self.search.space.decoded(trial.params)
        for row in self.rows():
            if row["trial"] < trial.number and row["settings"] == mine and row["decision"] in (PRUNED, KEPT):
                return row
        return None

    def measured_before(self, trial: Any) -> dict[str, Any] | None:
        """The row of an earlier trial whose exported file is the same but for its weights.

        Measured again it would cost a few per cent more or less, and be a point of the front for that.
        """
        mine = of_file(self.search.space.decoded(trial.params))
        for row in self.rows():
            if row["trial"] < trial.number and row["kb"] is not None and of_file(row["settings"]) == mine:
                return row
        return None

    def set_final(self, number: int, facts: Mapping[str, Any]) -> None:
        """What the outer folds say of a trial; it is measured once."""
        self.optuna.set_user_attr(trial_name("final", number), dict(facts))

    def rows(self) -> list[dict[str, Any]]:
        """Every trial as plain values, in their order; `final` where it is tested."""
        finals = self.optuna.user_attrs
        rows = []
        for frozen in self.optuna.get_trials(deepcopy=False):
            known, number = frozen.user_attrs, frozen.number
            drawn = {*frozen.params} == {*self.search.space.values}
            rows.append(
                {
                    "trial": number,
                    "decision": _DECISIONS[frozen.state.name],
                    "why": known.get("why", ""),
                    "settings": self.search.space.decoded(frozen.params) if drawn else {},
                    **dict.fromkeys(("kb", "ms", "wall_ms", "parameters")),
                    **known.get("cost", {}),
                    "file_of": known.get("file_of"),
                    "inner_ua": known.get("ua"),
                    "inner_folds": known.get("folds", {}),
                    "stamps": known.get("stamps", []),
                    "same_as": known.get("same_as"),
                    "final": finals.get(trial_name("final", number)),
                }
            )
        return rows

    def best(self) -> list[int]:
        """The trials that no other beats in all of UA, ms and kB."""
        return [trial.number for trial in self.optuna.best_trials]
