"""What a run will do and when it ends: said before it trains, and from then on by the epochs it has timed."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import keras

from light_sernet_kd import students
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.experiment.networks.phases import held_out_folds, schedule_of, shape_of, teacher_parts
from light_sernet_kd.features import feature_shape
from light_sernet_kd.reporting.text import pluralise

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

# A network's role, `student` or `teacher`, and its phase.
Kind = tuple[str, int]


@dataclass
class Forecast:
    """How long the rest of a run takes, by what an utterance of an epoch took so far.

    Attributes:
        planned: kind of network → utterances that all epochs of all its networks go through.
        clock: seconds.

    The first of four epochs of 10 utterances took a minute, since it compiles; the others take 3 s.

    >>> times = iter([0.0, 60.0, 63.0, 66.0])
    >>> forecast = Forecast({("student", 0): 40}, clock=lambda: next(times))
    >>> with forecast.network(("student", 0), 10, 4) as timed:
    ...     [timed(epoch) for epoch in (1, 2, 3)]
    [180.0, 6.0, 3.0]
    """

    planned: dict[Kind, int]
    clock: Callable[[], float] = time.monotonic
    # Utterances that were gone through; of later epochs than a kind's first one, those timed, and their time.
    _done: Counter[Kind] = field(default_factory=Counter)
    _timed: Counter[Kind] = field(default_factory=Counter)
    _seconds: dict[Kind, float] = field(default_factory=dict)
    # Seconds per utterance of a kind's first epoch.
    _first: dict[Kind, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def network(self, kind: Kind, rows: int, epochs: int) -> Iterator[Callable[[int], float]]:
        """Within, a network is trained; gives what is told of each epoch, counted from 1, and then tells the
        seconds until the run ends.
        """
        before, last = self._done[kind], self.clock()

        def timed(epoch: int) -> float:
            nonlocal last
            now = self.clock()
            if kind in self._first:
                self._timed[kind] += rows
                self._seconds[kind] = self._seconds.get(kind, 0.0) + now - last
            else:
                self._first[kind] = (now - last) / rows
            last = now
            self._done[kind] = before + epoch * rows
            return self.remaining()

        try:
            yield timed
        finally:  # also of one that stopped early, or failed
            self._done[kind] = before + epochs * rows

    def skip(self, kind: Kind, rows: int, epochs: int) -> None:
        """Take out what is planned and not trained here: these epochs of a network.

        >>> forecast = Forecast({("student", 0): 40})
        >>> forecast.skip(("student", 0), 10, 3)
        >>> forecast.at(1.0)
        10.0
        """
        self._done[kind] += rows * epochs

    @property
    def knows_nothing(self) -> bool:
        """Whether no epoch of any network was timed yet."""
        return not self._first

    def remaining(self) -> float:
        """Seconds until the run ends. What was not timed yet takes as long as the slowest that was."""
        rates = {
            kind: self._seconds[kind] / self._timed[kind] if self._timed[kind] else first
            for kind, first in self._first.items()
        }
        slowest = max(rates.values(), default=0.0)
        return self._at({kind: rates.get(kind, slowest) for kind in self.planned})

    def at(self, rate: float) -> float:
        """Seconds until the run ends, if each utterance of any network takes that many.

        >>> Forecast({("teacher", 0): 100, ("student", 0): 400}).at(0.01)
        5.0
        """
        return self._at(dict.fromkeys(self.planned, rate))

    def _at(self, rates: dict[Kind, float]) -> float:
        return sum(rates[kind] * max(0, rows - self._done[kind]) for kind, rows in self.planned.items())


class FirstSteps(keras.callbacks.Callback):
    """Times a few steps of a run's first network and tells how long all take: an epoch may take minutes.

    Args:
        batch_rows: utterances of a step.
        tell: given the sentence.
    """

    # The first step is not timed, since it compiles.
    COUNT = 5

    def __init__(self, forecast: Forecast, batch_rows: int, tell: Callable[[str], None]):
        super().__init__()
        self._forecast, self._rows, self._tell = forecast, batch_rows, tell
        self._done, self._begun = 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        if self._done == 0:
            self._begun = self._forecast.clock()
        elif self._done == self.COUNT:
            seconds = (self._forecast.clock() - self._begun) / self.COUNT
            self._tell(
                f"  A step takes {1000 * seconds:,.0f} ms, so that training takes about "
                f"{spoken(self._forecast.at(seconds / self._rows))}."
            )
        self._done += 1


def forecast_of(run: "Experiment") -> Forecast:
    """Of the networks that the run still has to train."""
    planned: Counter[Kind] = Counter()
    for fold in steps_left(run):
        for role, rows in networks_left(run, fold):
            for number, epochs in enumerate(epochs_of(run, role)):
                planned[role, number] += rows * epochs
    return Forecast(dict(planned))


def networks_left(run: "Experiment", fold: Fold) -> Iterator[tuple[str, int]]:
    """Role, `student` or `teacher`, and training utterances of each network that a fold lacks."""
    from light_sernet_kd.experiment.networks.training import teacher_roles, trained_on

    step, generations = run.step(fold), run.settings.generations
    if run.settings.trained_teacher and not step.teacher.exists():
        parts = held_out_folds(run, fold)
        for role in teacher_roles(run):
            networks = {role: fold} | {f"{role}-{name}": others for name, (others, _) in parts.items()}
            for name, its_fold in networks.items():
                if not step.member(name).exists():
                    yield "teacher", len(trained_on(run, its_fold))
    for number in range(1, generations + 1):
        if number == generations or not step.generation(number).exists():
            yield "student", len(trained_on(run, fold))


def steps_left(run: "Experiment") -> list[Fold]:
    """The folds that are not done, and that of all speakers if a file is made of it."""
    final = [run.selection.final_fold] if run.settings.export else []
    return [fold for fold in (*run.folds, *final) if not run.step(fold).is_done]


def networks_per_step(run: "Experiment") -> dict[str, int]:
    """How many networks a step trains, by role, in order."""
    teachers = {}
    if run.settings.trained_teacher:
        teachers["teacher"] = run.settings.teacher_count * (1 + teacher_parts(run))
    return {**teachers, "student": run.settings.generations}


def epochs_of(run: "Experiment", role: str) -> list[int]:
    """Of each phase of a network."""
    schedule, both = schedule_of(run, role), role in run.multimodal
    later = schedule.tune_epochs if both else run.settings.qat if role == "student" else 0
    return [schedule.epochs, *([later] if later else [])]


def say_plan(run: "Experiment") -> None:
    """Say what the run will do and about how much it will store, unless all is done."""
    left = steps_left(run)
    if not left:
        return
    networks = []
    for role, count in networks_per_step(run).items():
        epochs = " and ".join(pluralise(each, "epoch") for each in epochs_of(run, role))
        networks.append(f"{pluralise(count, role)} of {epochs}")
    is_final = left[-1] == run.selection.final_fold
    folds = [pluralise(len(left) - is_final, "fold")] if len(left) > is_final else []
    steps = " and for ".join([*folds, *(["all speakers"] if is_final else [])])
    stored = ""
    if "student" not in run.multimodal:
        stored = f" About {max(1, _stored_bytes(run, len(left)) / 1e6):,.0f} MB of disk."
    run.display.say(f"  To train, each for {steps}: {', '.join(networks)}.{stored}")


def _stored_bytes(run: "Experiment", steps: int) -> int:
    """Of the features of all utterances, and the students of so many steps."""
    settings = run.settings
    shape = feature_shape(run.front_end, settings.input_type, settings.samples)
    options = shape_of(settings)
    student = students.build(settings.student, shape, len(run.classes), width=settings.width, **options)
    return 4 * (len(run.utterances) * math.prod(shape) + steps * student.count_params())


def spoken(seconds: float) -> str:
    """A time that is about known, in words.

    >>> spoken(20), spoken(2000), spoken(8000)
    ('a minute', '34 minutes', '2.2 hours')
    """
    minutes = math.ceil(seconds / 60)
    if minutes <= 1:
        return "a minute"
    return f"{minutes} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


def ends(seconds: float, now: datetime | None = None) -> str:
    """When that will be, to the minute; with the day where it is another one.

    >>> ends(1500, datetime(2026, 11, 28, 16, 14, 40)), ends(90_000, datetime(2026, 11, 28, 16, 14))
    ('ends about 16:40', 'ends about Sun 17:14')
    """
    begun = now or datetime.now()
    # Up to the next minute, which a run more often keeps.
    end = begun + timedelta(seconds=60 * math.ceil((seconds + begun.second) / 60) - begun.second)
    return f"ends about {end:%H:%M}" if end.date() == begun.date() else f"ends about {end:%a %H:%M}"
