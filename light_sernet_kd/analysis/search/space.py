"""What a search may choose: the values of settings, and the budgets that a student must meet.

    [space]
    width = [0.25, 0.5, 1.0]                                  # one of a list
    depth = { low = 2, high = 4 }                             # of a range, its ends among it
    learning_rate = { low = 3e-4, high = 3e-3, log = true }   # of a range, evenly in its logarithm
    kernels = [["3x3"], ["11x1", "1x9", "3x3"]]               # of a setting that is a list, lists in a list

The names are those of `Settings`.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd.config import Settings, fields, make_settings
from light_sernet_kd.config.toml_file import read_toml
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.front_ends import FRONT_ENDS
from light_sernet_kd.registries.losses import DISTILLATIONS
from light_sernet_kd.registries.schedules import SEARCHED_SCHEDULES
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.registries.teachers import DEFAULT_TEACHER

_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
# What decides which recordings train and test, and what is no property of a student: one search has one.
_FIXED = (
    "corpus", "columns", "audio_type", "emotions", "speakers", "skip_bad", "reader", "protocol", "folds",
    "fold_count", "test_on", "different_speakers", "seed", "engine", "export", "merge_tflite",
    "dimensions_only",
)  # fmt: skip
# Their recordings and speakers would be compared with those of a trial, not with those that test at the end.
_REFUSED = ("unlabelled", "unlabelled_views", "start_from")
# What an exported file is made of, beside its weights: students that agree in these cost the same.
_FILE = (
    "student", "width", "depth", "kernels", "local_pooling", "front_end", "input_type", "input_seconds",
    "input_samples",
)  # fmt: skip
_RANGE = ("low", "high", "step", "log")


@dataclass(frozen=True)
class Interval:
    """A range of numbers, its ends among it.

    Attributes:
        step: between values; None is 1 of whole numbers, and none of others.
        log: whether they are drawn evenly in their logarithm.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __str__(self) -> str:
        how = ", evenly in the logarithm" if self.log else f", in steps of {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{how}"


@dataclass(frozen=True)
class Space:
    """The settings that a search chooses, each with a list of values or an `Interval`.

    >>> Space({"width": (0.5, 1.0), "depth": (2, 3, 4)}).combinations
    6
    """

    values: Mapping[str, tuple[Any, ...] | Interval]

    @property
    def combinations(self) -> int | None:
        """How many there are; None where a range has no end of values."""
        counts = [None if isinstance(each, Interval) else len(each) for each in self.values.values()]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    def as_dict(self) -> dict[str, Any]:
        plain = {
            name: dataclasses.asdict(each) if isinstance(each, Interval) else each
            for name, each in self.values.items()
        }
        return json.loads(json.dumps(plain))

    def lines(self) -> list[str]:
        """The space in words, a line per setting."""
        said = {
            name: str(each) if isinstance(each, Interval) else " | ".join(map(_shown, each))
            for name, each in self.values.items()
        }
        return [f"  {name}: {text}" for name, text in said.items()]

    def distributions(self) -> dict[str, Any]:
        """What Optuna draws from. A value of a list is its JSON text: Optuna stores no lists and tables."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        made: dict[str, Any] = {}
        for name, each in self.values.items():
            if not isinstance(each, Interval):
                made[name] = CategoricalDistribution([json.dumps(value) for value in each])
            elif fields.kind_of(_FIELDS[name].type)[0] is int:
                step = int(each.step or 1)
                made[name] = IntDistribution(int(each.low), int(each.high), log=each.log, step=step)
            else:
                made[name] = FloatDistribution(each.low, each.high, log=each.log, step=each.step)
        return made

    def decoded(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Values of settings from what Optuna drew; of numbers between the ends of a range three digits.

        >>> Space({"width": (0.5,), "learning_rate": Interval(0.001, 0.01)}).decoded(
        ...     {"width": "0.5", "learning_rate": 0.0012345}
        ... )
        {'width': 0.5, 'learning_rate': 0.00123}
        """
        values = {}
        for name, each in self.values.items():
            value = drawn[name]
            if not isinstance(each, Interval):
                value = json.loads(value)
            elif isinstance(value, float):
                value = min(max(float(f"{value:.3g}"), each.low), each.high)
            values[name] = value
        return values

    def point(self, settings: Settings, values: Mapping[str, Any]) -> Settings:
        """The settings of a search with these values in them.

        Raises:
            UserError: they do not go together.
        """
        loose = {**settings.as_dict(), **values}
        if "distillation" in values and "teacher" not in values and settings.teacher == DEFAULT_TEACHER:
            loose["teacher"] = None  # a method that has a teacher gets this one again
        return make_settings(**loose)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "as published"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def read_space(path: Path) -> Space:
    r"""The space that a TOML file says; see the module for its form.

    Raises:
        UserError: no such file, no TOML, an unknown key or setting, or values that cannot be.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "small.toml"
    >>> _ = file.write_text('[space]\nwidth = [0.25, 0.5]\ndepth = { low = 2, high = 4 }\n')
    >>> read_space(file).lines()
    ['  width: 0.25 | 0.5', '  depth: 2 to 4']
    """
    content = read_toml(path, "space")
    try:
        for key in content:
            choose("key of a space", key, ["space"])
        entries = content.get("space")
        if not isinstance(entries, dict) or not entries:
            raise UserError("no settings to choose: add a table [space].")
        values = {}
        for key, value in entries.items():
            name = choose("setting", key, _FIELDS)
            if name in _REFUSED:
                raise UserError(f"a search takes no {name}: leave it out.")
            if name in _FIXED:
                raise UserError(f"{name} is the same in all of a search: give it on the command line.")
            values[name] = _values(name, value)
        return Space(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _values(name: str, value: Any) -> tuple[Any, ...] | Interval:
    if isinstance(value, dict) and {"low", "high"} & value.keys():
        return _interval(name, value)
    if not isinstance(value, list) or not value:
        raise UserError(f"{name} must be a list of values or a range {{ low = …, high = … }}.")
    kind = fields.kind_of(_FIELDS[name].type)[0]
    if kind is tuple and not all(isinstance(each, list) for each in value):
        raise UserError(f"{name} is a list itself: give lists in a list.")
    for each in value:
        fields.checked(_FIELDS[name], each)
    if any(each in value[:place] for place, each in enumerate(value)):
        raise UserError(f"{name} has a value twice.")
    return tuple(value)


def _interval(name: str, value: Mapping[str, Any]) -> Interval:
    for key in value:
        choose(f"key of {name}'s range", key, _RANGE)
    if missing := [key for key in ("low", "high") if key not in value]:
        raise UserError(f"{name}'s range has no {missing[0]}.")
    kind = fields.kind_of(_FIELDS[name].type)[0]
    if kind not in (int, float) or _FIELDS[name].metadata["option"].choices:
        raise UserError(f"{name} is no number: give a list of values.")
    low, high = (fields.checked(_FIELDS[name], value[key]) for key in ("low", "high"))
    step, log = value.get("step"), value.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{name}: log must be true or false, found {log!r}.")
    whole = isinstance(step, int) and not isinstance(step, bool)
    if step is not None and not ((whole or (kind is float and isinstance(step, float))) and step > 0):
        raise UserError(f"{name}: step must be a number above 0, found {step!r}.")
    if low >= high:
        raise UserError(f"{name}: low must be below high, found {low} and {high}.")
    if log and (step is not None or low <= 0):
        raise UserError(f"{name}: with log the range has no step and begins above 0.")
    return Interval(low, high, step, log)


# The parallel convolutions: as published, without the square one, shorter, and the square one alone.
_KERNELS: tuple[list[str], ...] = ([], ["11x1", "1x9"], ["5x1", "1x5", "3x3"], ["3x3"])


def default_space(settings: Settings) -> Space:
    """What is chosen where no file says it: shape, front end, pools, schedule and losses.

    A setting that is not at its default was given, and is not chosen.
    """
    student = STUDENTS[settings.student]
    values: dict[str, tuple[Any, ...] | Interval] = {"width": (0.25, 0.5, 0.75, 1.0)}
    if student.depth is not None:
        values["depth"] = tuple(range(2, student.depth + 1))
        values["kernels"] = _KERNELS
        values["local_pooling"] = ("average", "max")
    front_ends = [
        name
        for name, each in FRONT_ENDS.items()
        if settings.input_type in each.spectra and not each.of_encoder
    ]
    if len(front_ends) > 1:
        values["front_end"] = tuple(front_ends)
    values["schedule"] = SEARCHED_SCHEDULES
    values["learning_rate"] = Interval(3e-4, 3e-3, log=True)
    values["label_smoothing"] = (0.0, 0.1)
    method = DISTILLATIONS.get(settings.distillation)
    if method and method.searched:
        combinations = itertools.product(*method.searched.values())
        values["distillation_weights"] = tuple(
            dict(zip(method.searched, each, strict=True)) for each in combinations
        )
    plain = Settings()
    return Space(
        {name: each for name, each in values.items() if getattr(settings, name) == getattr(plain, name)}
    )


def of_file(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the chosen settings that decide what the exported file costs.

    >>> of_file({"width": 0.5, "learning_rate": 0.001})
    {'width': 0.5}
    """
    return {name: value for name, value in values.items() if name in _FILE}


@dataclass(frozen=True)
class Cost:
    """What a student costs: of its exported file, measured here.

    Attributes:
        kb: size, in 1000 bytes.
        ms: processor time of one answer on one thread, median. Unlike wall-clock time it does not depend on
            what else the machine does.
        wall_ms: the wall-clock time, median.
        parameters: with batch norm's statistics.
    """

    kb: float
    ms: float
    wall_ms: float
    parameters: int


@dataclass(frozen=True)
class Budget:
    """The most that a student may cost; None is no limit.

    >>> Budget(kb=300, ms=1.0).exceeded(Cost(kb=320.5, ms=0.4, wall_ms=0.5, parameters=90_000))
    ['320.5 kB exceed --max-kb 300']
    """

    kb: float | None = None
    ms: float | None = None
    parameters: int | None = None

    def violations(self, cost: Cost) -> dict[str, float]:
        """By how much of it each limit is exceeded; negative where it is met."""
        return {
            name: getattr(cost, name) / most - 1
            for name, most in dataclasses.asdict(self).items()
            if most is not None
        }

    def exceeded(self, cost: Cost) -> list[str]:
        """The limits that are exceeded, in words."""
        texts = {
            "kb": f"{cost.kb:,.1f} kB exceed --max-kb {self.kb:g}" if self.kb else "",
            "ms": f"{cost.ms:.2f} ms exceed --max-ms {self.ms:g}" if self.ms else "",
            "parameters": f"{cost.parameters:,} parameters exceed --max-params {self.parameters}",
        }
        return [texts[name] for name, share in self.violations(cost).items() if share > 0]

    def __str__(self) -> str:
        limits = {"--max-kb": self.kb, "--max-ms": self.ms, "--max-params": self.parameters}
        return ", ".join(f"{flag} {most}" for flag, most in limits.items() if most is not None) or "none"
