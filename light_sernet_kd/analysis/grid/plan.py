"""A grid's folder: which of its runs are done, what they took, and what the rest may take."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from light_sernet_kd.analysis.grid.costs import StepCosts
from light_sernet_kd.analysis.grid.entries import Entry, Grid
from light_sernet_kd.config import Settings, corpus_name
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import JsonError, read_json, write_json
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import pluralise

DONE, BEGUN, NEW = "done", "begun", "new"
# Runs that a dry run names.
_SHOWN = 50

_MEASURED = {"seconds": float, "peak_mb": float}
_GRID = {"entries": {str: dict}, "measured": {str: _MEASURED}, "not_run": {str: str}}
# What a run of an epoch takes follows from these, the first that tell it.
_COSTS = (
    ("corpus", "protocol", "fold_count", "folds", "student", "width", "depth", "samples", "distillation",
     "teacher", "teacher_count", "teacher_parts", "augmentation", "augment_every", "export"),
    ("corpus", "student", "width", "depth", "samples"),
)  # fmt: skip


@dataclass
class GridFolder:
    """A grid's folder, in which each run has its own, and `grid.json`, which says what belongs to it.

    Attributes:
        entries: name → settings, of every version of the grid that was run here.
        measured: name → `seconds` and `peak_mb` of a run that this command finished.
        not_run: name → why.
    """

    path: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, grid: Grid, result: Path) -> "GridFolder":
        """The folder of `grid` below `result`, which need not exist.

        Raises:
            UserError: it holds another grid or anything else, or `grid.json` is damaged.
        """
        folder = cls(result / grid.name)
        remedy = 'give the grid another name (name = "…" at the top of its file)'
        try:
            stored = read_json(folder.file, _GRID)
        except FileNotFoundError:
            # Its runs may be there without it, when it was damaged and removed.
            known = {entry.name for entry in grid.entries}
            others = [
                name for name in _inside(folder.path) if name not in known and Path(name).stem != "scores"
            ]
            if others:
                raise UserError(f"{folder.path} holds no grid, but {others[0]}: {remedy}.") from None
            return folder
        except NotADirectoryError:
            raise UserError(f"{folder.path} is no folder: {remedy}.") from None
        except JsonError as error:
            raise UserError(f"{error} Remove it: runs that are done stay done.") from None
        mine = {entry.name: entry.settings.as_dict() for entry in grid.entries}
        shared = [name for name in mine if name in stored["entries"]]
        if stored["entries"] and not shared:
            one = next(iter(stored["entries"]))
            raise UserError(f"{folder.path} holds another grid, with runs such as {one}: {remedy}.")
        for name in shared:
            before = Settings.completed(stored["entries"][name])
            for key, value in mine[name].items():
                # Of the engine its config.json tells: one that was auto may have to be named elsewhere.
                if key != "engine" and before.get(key, value) != value:
                    was = f"{key} was {before[key]}, is {value}"
                    raise UserError(f"{folder.path} holds another grid: of its {name}, {was}; {remedy}.")
        return cls(folder.path, stored["entries"], stored["measured"], stored["not_run"])

    @property
    def file(self) -> Path:
        return self.path / "grid.json"

    def run(self, entry: Entry) -> RunFolder:
        return RunFolder(self.path / entry.name)

    def state(self, entry: Entry) -> str:
        """`done`, `begun` or `new`."""
        run = self.run(entry)
        if run.is_finished:
            return DONE
        return BEGUN if run.has_begun else NEW

    def begin(self, grid: Grid) -> None:
        """Write that the grid is here; what an earlier command could not run may run now."""
        self.entries |= {entry.name: entry.settings.as_dict() for entry in grid.entries}
        self.not_run = {}
        self.save()

    def save(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        facts = {"entries": self.entries, "measured": self.measured, "not_run": self.not_run}
        write_json(self.file, facts)


def _inside(folder: Path) -> list[str]:
    """What a user sees in the folder; nothing where there is none."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


@dataclass(frozen=True)
class Plan:
    """What a grid would do.

    Attributes:
        states: entry's name → `done`, `begun` or `new`.
        seconds: of an entry that is not done, as runs of its kind took here, or else by measured steps; None
            where neither is known.
        by_steps: the entries of which steps tell.
        peak_mb: the largest that a run here took, or the process that measured steps; None where none did.
        left_over: how many runs the folder has that the grid does not name any more.
    """

    grid: Grid
    states: Mapping[str, str]
    seconds: Mapping[str, float | None]
    peak_mb: float | None
    left_over: int
    by_steps: frozenset[str] = frozenset()

    @property
    def to_run(self) -> list[Entry]:
        return [entry for entry in self.grid.entries if self.states[entry.name] != DONE]

    def table(self) -> Table:
        """A row per kind of run: how many there are, are done, and are left, and what those may take."""
        kinds: dict[tuple[str, ...], list[Entry]] = {}
        for entry in self.grid.entries:
            settings = entry.settings
            names = (corpus_name(settings.corpus), settings.protocol, settings.student, settings.distillation)
            kinds.setdefault(names, []).append(entry)
        rows = []
        for kind, entries in kinds.items():
            states = [self.states[each.name] for each in entries]
            left = [self.seconds[each.name] for each in entries if self.states[each.name] != DONE]
            known = [seconds for seconds in left if seconds is not None]
            time = sum(known) if len(known) == len(left) and left else None
            rows.append([*kind, len(entries), states.count(DONE), states.count(BEGUN), len(left), time])
        columns = [
            *words("corpus", "protocol", "student", "method"),
            *numbers("runs", "done", "begun", "left"),
            *numbers("time", form=duration),
        ]
        return Table(columns, rows)

    def each(self, *, all_of_them: bool) -> list[str]:
        """The runs by name and state; without `all_of_them` the first of many."""
        entries = self.grid.entries if all_of_them else self.grid.entries[:_SHOWN]
        lines = [f"  {self.states[entry.name]:5} {entry.name}" for entry in entries]
        more = len(self.grid.entries) - len(entries)
        return [*lines, f"  … and {more:,} more: -v 2 names all"] if more else lines

    def lines(self, jobs: int = 1) -> list[str]:
        """What the table does not say."""
        left = self.to_run
        done = len(self.grid.entries) - len(left)
        said = [f"{pluralise(len(self.grid.entries), 'run')}, {done:,} done, {len(left):,} to run."]
        known = [seconds for entry in left if (seconds := self.seconds[entry.name]) is not None]
        if left and known:
            rest = (
                f"; nothing is known of {pluralise(len(left) - len(known), 'other')}"
                if len(known) < len(left)
                else ""
            )
            each = f", {jobs} at a time" if jobs > 1 else ""
            sources = []
            if any(self.seconds[entry.name] and entry.name not in self.by_steps for entry in left):
                sources.append("as runs of their kind took here")
            if any(entry.name in self.by_steps for entry in left):
                sources.append("by steps measured on this machine (training alone)")
            said.append(f"About {duration(sum(known) / jobs)}{each}, {' and '.join(sources)}{rest}.")
        elif left:
            said.append(
                "How long they take is not known: no run of these kinds is done here. --dry-run --measure "
                "times some steps of each."
            )
        if self.peak_mb:
            at_once = f" ({jobs * self.peak_mb:,.0f} MB with --jobs {jobs})" if jobs > 1 else ""
            said.append(f"A run took up to {self.peak_mb:,.0f} MB of memory{at_once}.")
        if self.left_over:
            said.append(
                f"{pluralise(self.left_over, 'run')} of earlier versions of the file stay in the folder and "
                "are not in the tables."
            )
        return said


def plan(grid: Grid, folder: GridFolder, costs: StepCosts | None = None) -> Plan:
    """What of the grid is done in its folder, and what the rest may take.

    Args:
        costs: what was measured of steps, for kinds of which no run is done here.
    """
    states = {entry.name: folder.state(entry) for entry in grid.entries}
    measured = [entry for entry in grid.entries if entry.name in folder.measured]
    of_runs: list[dict[tuple[Any, ...], float]] = []
    for keys in _COSTS:
        groups: dict[tuple[Any, ...], list[float]] = {}
        for entry in measured:
            per_epoch = folder.measured[entry.name]["seconds"] / _epochs(entry.settings)
            groups.setdefault(_kind(entry.settings, keys), []).append(per_epoch)
        of_runs.append({kind: statistics.median(values) for kind, values in groups.items()})
    seconds, by_steps = {}, set()
    for entry in grid.entries:
        seconds[entry.name] = _estimate(entry.settings, of_runs)
        if costs and seconds[entry.name] is None and states[entry.name] != DONE:
            seconds[entry.name] = costs.seconds(entry.settings)
            if seconds[entry.name] is not None:
                by_steps.add(entry.name)
    peaks = [each["peak_mb"] for each in folder.measured.values()]
    if costs and (peak := costs.peak_mb(entry.settings for entry in grid.entries)):
        peaks.append(peak)
    names = {entry.name for entry in grid.entries}
    left_over = sum(name not in names for name in folder.entries)
    return Plan(grid, states, seconds, max(peaks, default=None), left_over, frozenset(by_steps))


def _estimate(settings: Settings, costs: Sequence[Mapping[tuple[Any, ...], float]]) -> float | None:
    for keys, per_epoch in zip(_COSTS, costs, strict=True):
        if per_epoch and (kind := _kind(settings, keys)) in per_epoch:
            return per_epoch[kind] * _epochs(settings)
    return None


def _kind(settings: Settings, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(settings, key) for key in keys)


def _epochs(settings: Settings) -> int:
    return settings.training_schedule.epochs


def duration(seconds: float) -> str:
    """A time in words, as exact as an estimate is.

    >>> duration(42), duration(312), duration(9000)
    ('42 s', '5 min', '2 h 30 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
