"""A search's trials: drawn, measured before any training, trained on inner folds; and what is best, tested.

A trial's student is an ordinary run over the speakers that choose, and its test another ordinary run over
the outer folds.
"""

import dataclasses
import functools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from light_sernet_kd import experiment
from light_sernet_kd.analysis import benchmark
from light_sernet_kd.analysis import search as searches
from light_sernet_kd.analysis.search import KEPT, RUNNING, Cost, Search, SearchFolder, Study, trial_name
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.data import batches, signatures
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.data.selection import selected
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.exported.conversion import convert
from light_sernet_kd.experiment.exported.final import number_operations
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.outcome import command_of
from light_sernet_kd.experiment.results.evidence import packed_list
from light_sernet_kd.experiment.run import conclude, opened, run_folds
from light_sernet_kd.experiment.sweeps.grid import RunOutcome
from light_sernet_kd.files import read_json
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.students.parameters import parameter_counts

if TYPE_CHECKING:
    from light_sernet_kd.experiment.cluster.runs import Ray
    from light_sernet_kd.experiment.shared import Experiment
    from light_sernet_kd.reporting.display import Display

# Answers whose times a median is taken of, and the seconds after which they are enough.
_ROUNDS, _MOST_SECONDS = 100, 5.0


def run(
    search: Search,
    folder: SearchFolder,
    options: RunOptions,
    display: "Display",
    *,
    trials: int,
    finals: int,
    command: str = "",
    ray: "Ray | None" = None,
) -> dict[str, Any] | None:
    """Do the trials that are not done, test the best, and write the Pareto table; returns what it holds.

    Several processes with the same command share the trials. None where no trial is scored yet, and others
    work on some.

    Args:
        folder: the search's.
        trials: how many, with those that are done.
        finals: how many of the front are tested on the outer folds.
        ray: trains the students on a cluster instead. They are drawn and measured here.

    Raises:
        UserError: no student met the budget, or none could be trained; the log tells of each trial.
    """
    folder.begin(search)
    study = searches.study_of(search, folder)
    options = replace(options, result=folder.path)
    drawn = TrialRunner(study, options, display, trials)
    if ray is None:
        _train_here(drawn)
    else:
        from light_sernet_kd.experiment.cluster.search import train_trials

        train_trials(drawn, ray)
    rows = study.rows()
    folder.log(rows)
    waiting = sum(row["decision"] == RUNNING for row in rows)
    nothing = not any(row["decision"] == KEPT for row in rows)
    if nothing and not waiting:
        raise UserError(nothing_met(search, rows, folder))
    front = searches.pareto(rows, study.best())
    if waiting:
        display.say(
            f"{pluralise(waiting, 'trial')} still {'runs' if waiting == 1 else 'run'} in other processes: "
            "the last of them tests the best.",
            always=True,
        )
    else:
        _test(drawn, searches.chosen(front, finals), ray)
        rows = study.rows()
        folder.log(rows)
        front = searches.pareto(rows, study.best())
    if nothing:
        return None
    for row in front:
        final, final_options = final_run(study, row, options)
        row["command"] = command_of(final, final_options)
    summary = searches.summary(search, rows, front, command)
    metrics = read_json(RunFolder(folder.path / trial_name("trial", front[0]["trial"])).metrics)
    searches.write(summary, search, folder.path, synthetic=metrics["synthetic"])
    return summary


def nothing_met(search: Search, rows: Sequence[dict[str, Any]], folder: SearchFolder) -> str:
    """Why a search ends without a student, in one line."""
    measured = [row for row in rows if row["kb"] is not None]
    if not measured:
        why = next((row["why"] for row in rows if row["why"]), "no trial is finished")
        return f"no trial could be measured: {why}. The log: {folder.choices}."
    least = ", ".join(
        f"{min(measured, key=lambda row: row[name])[name]:{form}} {unit}"
        for name, form, unit in (("kb", ",.1f", "kB"), ("ms", ".2f", "ms"), ("parameters", ",", "parameters"))
    )
    over = [row for row in measured if search.budget.exceeded(_cost_of(row))]
    if len(over) < len(measured):
        why = next(row["why"] for row in measured if row not in over)
        return f"students met the budget, and none could be trained: {why} The log: {folder.choices}."
    return (
        f"none of {pluralise(len(measured), 'student')} met {search.budget}: the smallest found were {least} "
        f"(of one or of several). Raise a limit or widen the space; the log: {folder.choices}."
    )


def _cost_of(row: dict[str, Any]) -> Cost:
    return Cost(**{each.name: row[each.name] for each in dataclasses.fields(Cost)})


@dataclass
class TrialRunner:
    """What becomes of trials that are drawn.

    Attributes:
        options: with `result`: the search's folder.
        trials: how many there are in all.
    """

    study: Study
    options: RunOptions
    display: "Display"
    trials: int

    @functools.cached_property
    def training(self) -> bytes:
        """The list of recordings that every exported file will hold, which is a part of its size."""
        settings, data = self.study.search.settings, self.options.data
        selection = selected(settings, data)
        cache = self.options.result / ".cache" if self.options.cache == "disk" else None
        measured = signatures.measure(selection.utterances, selection.fingerprints, cache)
        all_rows, most = selection.final_fold.train, settings.most_per_emotion
        rows = batches.cap_per_class(all_rows, selection.labels, most, seed=settings.seed)
        return packed_list(selection, measured, rows, settings.corpus)

    def run_of(self, trial: Any) -> tuple[Settings, RunOptions] | None:
        """The run that scores the trial; None where it is decided without one."""
        study = self.study
        try:
            point = study.search.space.point(study.search.settings, study.search.space.decoded(trial.params))
        except UserError as error:
            study.fail(trial, str(error))
            return None
        if (twin := study.same_before(trial)) is not None:
            _repeat(trial, study, twin)
            return None
        options = replace(self.options, run=trial_name("trial", trial.number))
        # A machine on which an earlier start trained it may be at its end there.
        RunFolder(options.result / str(options.run)).wait_until_free()
        return study.search.inner_run(point), options

    def is_over_budget(self, trial: Any, run: "Experiment") -> bool:
        """Measure the trial's student; where it is over the budget the trial is pruned."""
        if "cost" not in trial.user_attrs:
            _measure(trial, self.study, run, self.training)
        over = self.study.search.budget.exceeded(Cost(**trial.user_attrs["cost"]))
        if over:
            self.study.prune(trial, "; ".join(over))
        return bool(over)

    def fail(self, trial: Any, error: UserError) -> None:
        """The trial could not be measured or trained.

        Raises:
            UserError: the first student could not even be measured: a mistake that all of them share. The
                trial waits for the next start.
        """
        if all(row["kb"] is None for row in self.study.rows()):
            raise error
        self.study.fail(trial, str(error))

    def keep(self, trial: Any) -> None:
        """Score the trial by its run, which is finished."""
        folder = RunFolder(self.options.result / trial_name("trial", trial.number))
        metrics = read_json(folder.metrics)
        scores = {"ua": metrics["pooled"]["ua"], "stamps": metrics["stamps"]}
        self.study.keep(trial, {**scores, "folds": {fold["name"]: fold["ua"] for fold in metrics["folds"]}})

    def say(self, trial: Any) -> None:
        """Say and log what was decided."""
        rows = self.study.rows()
        self.study.folder.log(rows)
        row = rows[trial.number]
        why = row["why"]
        if row["decision"] == KEPT:
            again = f"as trial {row['same_as']}, " if row["same_as"] is not None else ""
            why = f"{again}inner UA {100 * row['inner_ua']:.1f} %, {row['kb']:,.1f} kB, {row['ms']:.2f} ms"
        self.display.say(f"trial {row['trial']} of {self.trials}, {row['decision']}: {why}", always=True)


def _train_here(drawn: TrialRunner) -> None:
    while True:
        with drawn.study.turn(drawn.trials) as trial:
            if trial is None:
                return
            _decide(trial, drawn)
            drawn.say(trial)


def _decide(trial: Any, drawn: TrialRunner) -> None:
    """Measure the trial's student; prune it, or train and score it."""
    wanted = drawn.run_of(trial)
    if wanted is None:
        return
    settings, options = wanted
    try:
        with opened(settings, options, drawn.display, command=command_of(settings, options)) as run:
            if drawn.is_over_budget(trial, run):
                return
            conclude(run, run_folds(run))
    except UserError as error:
        drawn.fail(trial, error)
        return
    drawn.keep(trial)


def train_trial(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    """Train and score a trial's student on a node of a cluster.

    Raises:
        UserError: it cannot begin there.
    """
    from light_sernet_kd.experiment.cluster.node import opened_here

    return opened_here(settings, options, command, lambda run: conclude(run, run_folds(run)))


def _measure(trial: Any, study: Study, run: "Experiment", training: bytes) -> None:
    """Measure the trial's student, unless one whose file is the same was measured."""
    if (alike := study.measured_before(trial)) is not None:
        study.set_cost(trial, _cost_of(alike), alike["file_of"])
        return
    files = study.folder.path / "untrained" / f"{trial.number:03d}"
    study.set_cost(trial, untrained_cost(run, study.search.precision, files, training))


def _repeat(trial: Any, study: Study, twin: dict[str, Any]) -> None:
    """Decide as for an earlier trial of the same settings."""
    study.set_cost(trial, _cost_of(twin), twin["file_of"])
    first = twin["trial"] if twin["same_as"] is None else twin["same_as"]
    if twin["decision"] != KEPT:
        study.prune(trial, twin["why"])
        return
    scores = {"ua": twin["inner_ua"], "folds": twin["inner_folds"], "stamps": twin["stamps"]}
    study.keep(trial, {**scores, "same_as": first, "why": f"the settings of trial {first}"})


def untrained_cost(run: "Experiment", precision: str, folder: Path, training: bytes) -> Cost:
    """What the run's student costs as an exported file. Neither its size nor its time is one of weights.

    Args:
        folder: gets the file, which is calibrated on training utterances of the run's first fold.
        training: the list of recordings in it.
    """
    student = phases_of(run, "student")[-1].build()
    number_operations(student)
    # The converter stores equal arrays once, and those of a new batch norm are all zeros and ones.
    rng = np.random.default_rng(0)
    student.set_weights(
        [values + np.abs(rng.normal(0, 0.1, values.shape)) for values in student.get_weights()]
    )
    shutil.rmtree(folder, ignore_errors=True)  # of a trial that was killed here
    folder.mkdir(parents=True)
    (row,) = convert(run, run.folds[0], folder, student, precisions=(precision,), training=training)
    return _cost(folder / row["file"], parameter_counts(student)["parameters"])


def _cost(file: Path, parameters: int) -> Cost:
    (latency,) = benchmark.latencies([file], [1], rounds=_ROUNDS, most_seconds=_MOST_SECONDS)
    times = latency[1]
    # Of a hundredth of a millisecond a repetition says something else.
    ms, wall_ms = round(times["processor_ms"], 2), round(times["median_ms"], 2)
    return Cost(file.stat().st_size / 1000, ms, wall_ms, parameters)


def final_run(study: Study, row: dict[str, Any], options: RunOptions) -> tuple[Settings, RunOptions]:
    """The run that tests a trial's student on the outer folds."""
    point = study.search.space.point(study.search.settings, row["settings"])
    return point, replace(options, run=trial_name("final", row["trial"]))


def _test(drawn: TrialRunner, rows: Sequence[dict[str, Any]], ray: "Ray | None") -> None:
    """Test these students on the outer folds, but those that are tested."""
    study, display = drawn.study, drawn.display
    try:
        with study.folder.lock("finals", wait=False):
            left = [row for row in rows if row["final"] is None]
            if ray is None:
                tested = _tested_here(drawn, left)
            else:
                from light_sernet_kd.experiment.cluster.search import tested_there

                tested = tested_there(drawn, left, ray)
            for row, folder in tested:
                study.set_final(row["trial"], _final(study, folder, row))
    except filelock.Timeout:
        display.say("another process tests the best.", always=True)


def _tested_here(
    drawn: TrialRunner, rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], RunFolder]]:
    for row in rows:
        drawn.display.say(f"\nfinal test of trial {row['trial']}")
        settings, options = final_run(drawn.study, row, drawn.options)
        command = command_of(settings, options)
        yield row, RunFolder(experiment.train(settings, options, drawn.display, command=command))


def _final(study: Study, folder: RunFolder, row: dict[str, Any]) -> dict[str, Any]:
    metrics = read_json(folder.metrics)
    facts = {"run": folder.path.name, "ua": metrics["pooled"]["ua"], "stamps": metrics["stamps"]}
    files = (metrics.get("export") or {}).get("rows", [])
    for each in files:
        if each["precision"] == study.search.precision:
            cost = _cost(folder.path / each["file"], row["parameters"])
            facts |= {"file_ua": each["ua"], "kb": cost.kb, "ms": cost.ms}
    return facts
