"""Steps of a grid's runs, timed: of each kind of run a fold is trained for some epochs and forgotten."""

import itertools
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from light_sernet_kd.analysis.grid import Entry, StepCosts
from light_sernet_kd.analysis.grid.costs import (
    STUDENT,
    TEACHER,
    Counts,
    Step,
    data_key,
    phase_name,
    step_key,
)
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.data.batches import cap_per_class
from light_sernet_kd.data.selection import Selection, selected
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.networks.training import train_network, trained_on
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.experiment.sweeps.grid import peak_mb
from light_sernet_kd.experiment.teachers.teacher import teacher_outputs
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.reporting.text import pluralise

# The first one, in which graphs are traced, does not count.
EPOCHS = 3
# Of an epoch at most, so that large corpora and networks take minutes.
MOST_STEPS = 32


def measure(entries: Sequence[Entry], costs: StepCosts, options: RunOptions, display: Display) -> None:
    """Time the steps of what `costs` does not know, and keep them; what cannot be trained is named.

    Args:
        options: with the grid's folder as `result`: features and encoders' states stay in its cache.
    """
    left = list({step_key(each.settings): each for each in reversed(entries)}.values())[::-1]
    left = [entry for entry in left if step_key(entry.settings) not in costs.steps]
    refused: set[str] = set()
    for entry in entries:
        key = data_key(entry.settings)
        if key in costs.counts or key in refused:
            continue
        try:
            costs.add(entry.settings, _counts(entry.settings, selected(entry.settings, options.data)))
        except UserError as error:
            refused.add(key)
            display.say(f"not measured: {entry.name}: {error}", always=True)
    for number, entry in enumerate(left, start=1):
        if data_key(entry.settings) not in costs.counts:
            continue
        kinds = pluralise(len(left), "kind")
        display.say(f"Timing steps of {entry.name}, {number} of {kinds} ...", always=True)
        try:
            costs.add(entry.settings, _step(entry.settings, options))
        except UserError as error:
            display.say(f"not measured: {entry.name}: {error}", always=True)


def _counts(settings: Settings, selection: Selection) -> Counts:
    def count(train: Sequence[int]) -> int:
        return len(cap_per_class(train, selection.labels, settings.most_per_emotion, seed=settings.seed))

    return Counts(tuple(count(fold.train) for fold in selection.folds), count(selection.final_fold.train))


def _step(settings: Settings, options: RunOptions) -> Step:
    """Raises UserError where the run cannot be trained."""
    selection = selected(settings, options.data)
    short = _short(settings, selection)
    cache = options.result / ".cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="timed-", dir=cache) as folder:
        clock = _Clock()
        run = Experiment(short, replace(options, tensorboard=False, callbacks=()), Path(folder), clock)
        (fold,) = run.folds
        outputs = teacher_outputs(run, fold)
        train_network(run, "student", fold, outputs)
        examples = len(trained_on(run, fold))
    prefix = f"fold {fold.name}, "
    seconds: dict[str, float] = {}
    for title, timed in clock.networks:
        role, _, phase = title.removeprefix(prefix).partition(", phase ")
        kind = STUDENT if role == "student" else TEACHER
        schedule = short.training_schedule if kind == STUDENT else short.teacher_schedule
        name = phase_name(kind, int(phase or 1))
        steps = math.ceil(examples / schedule.batch_size)
        # All teachers of a fold, and those of its parts, are trained for each of its students.
        seconds[name] = seconds.get(name, 0.0) + timed.epoch_seconds / steps
    return Step(seconds, peak_mb())


def _short(settings: Settings, selection: Selection) -> Settings:
    """The settings of the run that is timed: a fold, a few epochs, and not too many steps."""
    batch = max(settings.training_schedule.batch_size, settings.teacher_schedule.batch_size)
    most = math.ceil(MOST_STEPS * batch / len(selection.classes))
    return replace(
        settings,
        folds=(selection.folds[0].name,),
        epochs=EPOCHS,
        teacher_epochs=EPOCHS if settings.trained_teacher else None,
        tune_epochs=EPOCHS if settings.training_schedule.tune_epochs else settings.tune_epochs,
        qat=EPOCHS if settings.qat else 0,
        most_per_emotion=min(most, settings.most_per_emotion or most),
        patience=0,
        generations=1,
        start_from=None,
        export=False,
    )


@dataclass
class _Timed:
    """When a network's training began, and when each of its epochs ended."""

    began: float = field(default_factory=time.perf_counter)
    ended: list[float] = field(default_factory=list)

    def __enter__(self) -> "_Timed":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def epoch(self, epoch: int, epochs: int, row: Mapping[str, float], ends: str = "") -> None:
        self.ended.append(time.perf_counter())

    @property
    def epoch_seconds(self) -> float:
        """Of the epoch, with its validation, that other work disturbed least; of the first if it is alone."""
        if len(self.ended) == 1:
            return self.ended[0] - self.began
        return min(after - before for before, after in itertools.pairwise(self.ended))


class _Clock(Display):
    """Says nothing, and times the networks that are trained: their titles and times, in their order."""

    def __init__(self) -> None:
        super().__init__(verbose=0)
        self.networks: list[tuple[str, _Timed]] = []

    def network(self, name: str) -> Any:
        self.networks.append((name, _Timed()))
        return self.networks[-1][1]
