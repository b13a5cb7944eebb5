"""What a training step takes on this machine, measured once for each kind of network, and kept in a file.

A run's time follows: the steps of an epoch, over all folds, times the epochs. Two things are measured apart,
since grids combine them: how long a step takes, and how many utterances a corpus's folds train on.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import operator
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from light_sernet_kd.config import Settings
from light_sernet_kd.config.cores import core_count
from light_sernet_kd.config.engine import engine_of
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import JsonError, read_json, write_json

# Settings that decide which utterances train.
_DATA = (
    "corpus", "columns", "audio_type", "emotions", "speakers", "skip_bad", "protocol", "folds", "fold_count",
    "test_on", "most_per_emotion",
)  # fmt: skip
# Those that decide the numbers of a step and not how long it takes, or how many there are.
_NUMBERS = (
    "seed", "epochs", "teacher_epochs", "learning_rate", "teacher_learning_rate", "qat_learning_rate",
    "label_smoothing", "focal_gamma", "distillation_weights", "batch_norm_momentum", "patience",
    "different_speakers", "export", "merge_tflite", "engine", "generations", "start_from",
)  # fmt: skip
_data_facts = operator.attrgetter(*_DATA)
_step_facts = operator.attrgetter(
    *(each.name for each in dataclasses.fields(Settings) if each.name not in (*_DATA[1:], *_NUMBERS))
)
_FILE = {
    "steps": {str: {"seconds": {str: float}, "peak_mb": float}},
    "counts": {str: {"folds": [int], "everything": int}},
}
# A network is trained in phases; a step's time is kept under this, and the teacher's likewise.
STUDENT, TEACHER = "student", "teacher"


def phase_name(role: str, phase: int) -> str:
    """The name of a phase, counted from 1, in a step's record.

    >>> phase_name(STUDENT, 2)
    'student, phase 2'
    """
    return f"{role}, phase {phase}"


@dataclass(frozen=True)
class Step:
    """What was measured of a kind of run.

    Attributes:
        seconds: phase's name → of a step of all networks that a fold has there, with its share of validation.
        peak_mb: memory of the process that measured, which may have measured others before.
    """

    seconds: Mapping[str, float]
    peak_mb: float


@dataclass(frozen=True)
class Counts:
    """How many utterances train: in each fold, and for the final student."""

    folds: Sequence[int]
    everything: int


@dataclass
class StepCosts:
    """What was measured on this machine, in a file of the results folder.

    Attributes:
        steps, counts: by keys of `step_key` and `data_key`.
    """

    path: Path
    steps: dict[str, Step] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    _known: dict[tuple[Any, ...], float] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Path) -> "StepCosts":
        """Those of the results folder; a damaged file counts as none, and is written anew."""
        path, steps, counts = result / ".cache" / f"steps-{_machine()}.json", {}, {}
        with contextlib.suppress(OSError, JsonError):
            stored = read_json(path, _FILE)
            steps = {key: Step(**each) for key, each in stored["steps"].items()}
            counts = {key: Counts(**each) for key, each in stored["counts"].items()}
        return cls(path, steps, counts)

    def seconds(self, settings: Settings) -> float | None:
        """About what the training of a run takes; None where it was not measured."""
        if not self.steps:
            return None
        of_step, of_data = step_key(settings), data_key(settings)
        step, counts = self.steps.get(of_step or ""), self.counts.get(of_data)
        if step is None or counts is None:
            return None
        key = (
            of_step,
            of_data,
            settings.epochs,
            settings.teacher_epochs,
            settings.export,
            settings.generations,
        )
        if key not in self._known:  # most entries of a large grid differ in numbers alone
            total = 0.0
            for name, seconds in step.seconds.items():
                epochs, batch = _epochs_and_batch(settings, name)
                epochs *= settings.generations if name.startswith(STUDENT) else 1
                examples = [*counts.folds, *([counts.everything] if settings.export else [])]
                total += epochs * seconds * sum(math.ceil(count / batch) for count in examples)
            self._known[key] = total
        return self._known[key]

    def peak_mb(self, runs: Iterable[Settings]) -> float | None:
        """The most memory that was measured of such runs."""
        keys = {step_key(settings) for settings in runs}
        return max((self.steps[key].peak_mb for key in keys if key in self.steps), default=None)

    def add(self, settings: Settings, measured: Step | Counts) -> None:
        """Keep what was measured of such runs."""
        self._known.clear()
        if isinstance(measured, Counts):
            self.counts[data_key(settings)] = measured
        elif key := step_key(settings):
            self.steps[key] = measured
        # What another command measured meanwhile stays.
        other = StepCosts.of(self.path.parent.parent)
        self.steps, self.counts = {**other.steps, **self.steps}, {**other.counts, **self.counts}
        steps = {name: dataclasses.asdict(each) for name, each in self.steps.items()}
        counts = {name: dataclasses.asdict(each) for name, each in self.counts.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"steps": steps, "counts": counts})


def _epochs_and_batch(settings: Settings, phase: str) -> tuple[int, int]:
    role, _, number = phase.partition(", phase ")
    schedule = settings.training_schedule if role == STUDENT else settings.teacher_schedule
    later = settings.qat if role == STUDENT and settings.qat else schedule.tune_epochs
    return schedule.epochs if number == "1" else later, schedule.batch_size


def step_key(settings: Settings) -> str | None:
    """Equal for runs whose steps take as long; None where none can be trained here."""
    engine = _engine(settings.engine, bool(settings.qat))
    return engine and _digest(engine, *_step_facts(settings))


def data_key(settings: Settings) -> str:
    """Equal for runs that train on as many utterances."""
    return _digest(*_data_facts(settings))


# A grid asks for few kinds ten thousand times.
@functools.lru_cache(maxsize=4096)
def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


@functools.cache
def _engine(named: str, qat: bool) -> str | None:
    """To look for what is installed takes milliseconds."""
    with contextlib.suppress(UserError):
        return engine_of(Settings(engine=named, qat=int(qat)))
    return None


def _machine() -> str:
    """Which machine this is, with how many cores: a results folder may be on a disk that several share."""
    return hashlib.sha256(f"{platform.node()} {platform.machine()} {core_count()}".encode()).hexdigest()[:12]
