"""When a run ends, against sums written out."""

from datetime import datetime

import pytest

from light_sernet_kd.config import RunOptions, make_settings
from light_sernet_kd.experiment import run as experiment
from light_sernet_kd.experiment.networks.forecast import FirstSteps, Forecast, ends, forecast_of
from light_sernet_kd.reporting.display import Display


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def trained(forecast, clock, kind, rows, seconds, epochs=None):
    """Train one network whose epochs take these seconds; what was told after each."""
    told = []
    with forecast.network(kind, rows, epochs or len(seconds)) as timed:
        for epoch, each in enumerate(seconds, start=1):
            clock.now += each
            told.append(timed(epoch))
    return told


def test_networks_of_several_kinds_and_sizes_take_their_own_time(clock):
    teacher, student = ("teacher", 0), ("student", 0)
    # Two folds of 100 and 50 utterances, 2 epochs of a teacher and 3 of a student each.
    forecast = Forecast({teacher: 300, student: 450}, clock=clock)
    # The first epoch compiles. What is not known of students is taken for a teacher's.
    assert trained(forecast, clock, teacher, 100, [20, 10]) == pytest.approx([0.2 * 650, 0.1 * 550])
    told = trained(forecast, clock, student, 100, [9, 5, 3])
    assert told == pytest.approx([10 + 0.09 * 350, 10 + 0.05 * 250, 10 + 0.04 * 150])
    trained(forecast, clock, teacher, 50, [5, 5])
    assert trained(forecast, clock, student, 50, [2, 2, 2])[-1] == pytest.approx(0)


def test_one_that_goes_on_or_stops_early_is_not_counted_twice(clock):
    kind = ("student", 0)
    forecast = Forecast({kind: 1000}, clock=clock)
    with forecast.network(kind, 100, 5) as timed:  # goes on behind its second epoch
        clock.now = 1
        assert timed(3) == pytest.approx(0.01 * 700)
        clock.now = 2
        assert timed(4) == pytest.approx(0.01 * 600)
    # That was the last one, by --patience: the other five epochs are left.
    assert forecast.remaining() == pytest.approx(0.01 * 500)


def test_nothing_is_known_before_an_epoch(clock):
    assert Forecast({("student", 0): 100}, clock=clock).remaining() == 0


def test_the_first_steps_tell_how_long_all_of_them_take(clock):
    told = []
    # 60,000 utterances in batches of 32 are 1,875 steps, of 0.4 s each.
    steps = FirstSteps(
        Forecast({("teacher", 0): 20_000, ("student", 0): 40_000}, clock=clock), 32, told.append
    )
    for number, seconds in enumerate([30, 0.2, 0.6, 0.4, 0.4, 0.4, 9, 9]):
        clock.now += seconds
        steps.on_train_batch_end(number)
    assert told == ["  A step takes 400 ms, so that training takes about 13 minutes."]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "16:14"), (20, "16:15"), (46 * 60, "17:00"), (8 * 3600, "Sun 00:14"), (80 * 3600, "Wed 00:14")],
)
def test_the_end_is_told_to_the_minute_and_the_day(seconds, text):
    assert ends(seconds, datetime(2026, 11, 28, 16, 14)) == f"ends about {text}"


# In each fold of the 27 clips of 3 speakers one speaker trains, and of all speakers three do.
TAUGHT = {
    "input_seconds": 0.5, "width": 0.1, "epochs": 2, "batch_size": 8, "batch_norm_momentum": 0.8,
    "distillation": "KD", "teacher_gate": "off",
}  # fmt: skip


def test_a_network_counts_with_the_utterances_that_it_trains_on_until_it_is_there(manifest, tmp_path):
    settings = make_settings(**TAUGHT, corpus=str(manifest), teacher_parts=3, teacher_count=2, generations=2)
    with experiment.opened(settings, RunOptions(result=tmp_path, run="parts"), Display(verbose=0)) as run:
        # One speaker is divided into thirds, 3 utterances each, and three speakers into one each.
        of_fold, of_all = 9 + 3 * 6, 27 + 3 * 18
        assert forecast_of(run).planned == {
            ("teacher", 0): 2 * 2 * (3 * of_fold + of_all),
            ("student", 0): 2 * 2 * (3 * 9 + 27),
        }
        first, second, third = map(run.step, run.folds)
        for step in (first, second, third):
            step.make()
        first.teacher.touch()
        second.member("teacher-2-without-3").touch()
        third.generation(1).touch()
        assert forecast_of(run).planned == {
            ("teacher", 0): 2 * 2 * (2 * of_fold + of_all) - 2 * 6,
            ("student", 0): 2 * 2 * (3 * 9 + 27) - 2 * 9,
        }


@pytest.mark.usefixtures("shallow_here", "eager")
def test_a_run_ends_when_all_that_was_planned_is_trained(manifest, tmp_path):
    settings = make_settings(**TAUGHT, corpus=str(manifest), teacher_parts=2, export=False, folds=("#1",))
    with experiment.opened(settings, RunOptions(result=tmp_path, run="ends"), Display(verbose=0)) as run:
        run.forecast = forecast_of(run)
        experiment.run_folds(run)
        # Its networks of parts were trained for as many epochs as the fold's own was selected at.
        assert run.forecast.at(1.0) == 0


def test_a_network_that_fails_is_left_out(clock):
    forecast = Forecast({("student", 0): 1000}, clock=clock)

    def fails():
        with forecast.network(("student", 0), 100, 5) as timed:
            clock.now = 1
            timed(1)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fails()
    assert forecast.remaining() == pytest.approx(0.01 * 500)
