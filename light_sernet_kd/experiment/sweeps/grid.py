"""The runs of a grid, one after another or several at once, each in a process of its own."""

import contextlib
import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from light_sernet_kd import experiment, plugins
from light_sernet_kd.analysis.grid import Entry, Grid, GridFolder
from light_sernet_kd.analysis.grid.plan import DONE, duration
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.config.cores import core_count
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.data.selection import selected
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.outcome import command_of, why_not_run
from light_sernet_kd.files import read_json
from light_sernet_kd.registries.engines import ENGINES, TRAINS_ALL

if TYPE_CHECKING:
    from light_sernet_kd.experiment.cluster.runs import Ray
    from light_sernet_kd.experiment.shared import Experiment
    from light_sernet_kd.reporting.display import Display

_KILLED = "its process was killed twice, the second time alone; memory may be short"
# Networks of runs that are open at once on JAX.
MOST_NETWORKS = 300
# What training leaves of them waits in memory until their runs have stored it.
RESULT_BYTES = 2**31
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


@dataclass(frozen=True)
class RunOutcome:
    """What became of a run.

    Attributes:
        why: it did not finish; None where it did.
        began: it did; no machine could begin others.
        said: its last line.
        peak_mb: of the process that ran it, which may have run others before.
    """

    seconds: float = 0.0
    peak_mb: float = 0.0
    said: str = ""
    why: str | None = None
    began: bool = True


class Wanted(Protocol):
    """A run that is to be made: the name of its folder, and its settings."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Settings: ...


Run = TypeVar("Run", bound=Wanted)


def run(
    grid: Grid,
    folder: GridFolder,
    options: RunOptions,
    display: "Display",
    *,
    engine: str = TRAINS_ALL,
    jobs: int = 1,
    begin: Callable[[], None] | None = None,
    ray: "Ray | None" = None,
) -> bool:
    """Run what of the grid is not done; whether all of it is done now.

    A run that cannot be made is named with its reason, and the others go on. After each run `grid.json` is
    written anew.

    Args:
        folder: the grid's.
        engine: of all runs. On one that `trains_together` those of one architecture are, in this process.
        jobs: how many processes; each has its share of the processor cores.
        begin: what each of several processes does first.
        ray: makes the runs on a cluster instead, whatever the engine.
    """
    # Those of one architecture together: its graphs are traced once in a process.
    left = sorted(
        (entry for entry in grid.entries if folder.state(entry) != DONE),
        key=lambda entry: architecture(entry.settings),
    )
    folder.begin(grid)
    options = replace(options, result=folder.path)
    if ray is not None:
        outcomes = ray.outcomes(left, options, display)
    elif ENGINES[engine].trains_together:
        outcomes = _together(left, options, display)
    elif jobs == 1:
        outcomes = _in_turn(left, options, display)
    else:
        outcomes = Processes(jobs, _train_quietly, begin).outcomes(left, options, display)
    for number, (entry, finished) in enumerate(outcomes, start=1):
        if finished.why is not None:
            folder.not_run[entry.name] = finished.why
            display.say(f"not run: {entry.name}: {finished.why}", always=True)
        else:
            folder.measured[entry.name] = {"seconds": finished.seconds, "peak_mb": finished.peak_mb}
            took = duration(finished.seconds)
            display.say(f"{number} of {len(left)}, {entry.name} ({took}): {finished.said}", always=True)
        folder.save()
    return not folder.not_run


def architecture(settings: Settings) -> tuple[Any, ...]:
    """What decides a student's graphs, of values that have an order."""
    return (
        *(settings.student, settings.width, settings.depth or 0),
        *(settings.kernels, settings.local_pooling, settings.samples),
    )


def fold_count(settings: Settings, data: Path) -> int:
    """How many networks of a run may be open at once; 0 where its corpus cannot be read."""
    with contextlib.suppress(UserError):  # it is told when the run is opened
        return len(selected(settings, data).folds)
    return 0


def _in_turn(
    entries: Sequence[Entry], options: RunOptions, display: "Display"
) -> Iterator[tuple[Entry, RunOutcome]]:
    for entry in entries:
        display.say(f"\n{entry.name}")
        yield entry, _train(entry.settings, replace(options, run=entry.name), display)


def _together(
    entries: Sequence[Entry], options: RunOptions, display: "Display"
) -> Iterator[tuple[Entry, RunOutcome]]:
    """As the runs finish, some at a time, whose networks are trained together."""
    from light_sernet_kd.training.vectorised.together import trains_several

    # Where one network is trained at a time, a run may be done before the next one begins.
    most = MOST_NETWORKS if trains_several() else 1
    left = list(entries)
    while left:
        networks, some = 0, []
        while left and networks < most:
            some.append(left.pop(0))
            networks += fold_count(some[-1].settings, options.data)
        yield from some_together(some, options, display)


def some_together(
    entries: Sequence[Run],
    options: RunOptions,
    display: "Display",
    command_for: Callable[[Settings, RunOptions], str] = command_of,
) -> Iterator[tuple[Run, RunOutcome]]:
    """Make runs that are open at once, as they finish.

    Args:
        command_for: the command that makes a run alone, for its report.
    """
    from light_sernet_kd.experiment.run import opened
    from light_sernet_kd.experiment.sweeps.together import result_bytes
    from light_sernet_kd.experiment.teachers.gate import check_teacher

    opening = time.perf_counter()
    with contextlib.ExitStack() as stack:
        runs: list[tuple[Run, Experiment]] = []
        for entry in entries:
            entry_options = replace(options, run=entry.name)
            try:
                command = command_for(entry.settings, entry_options)
                run = stack.enter_context(opened(entry.settings, entry_options, display, command=command))
                check_teacher(run)
                runs.append((entry, run))
            except UserError as error:
                yield entry, RunOutcome(why=str(error), began=False)
        sizes = [result_bytes(run) for _, run in runs]
        opening = (time.perf_counter() - opening) / max(1, len(runs))
        for part in parts(sizes, most=RESULT_BYTES):
            for entry, finished in _part_together(runs[part], display):
                yield entry, replace(finished, seconds=round(finished.seconds + opening, 1))


def _part_together(
    runs: Sequence[tuple[Run, "Experiment"]], display: "Display"
) -> Iterator[tuple[Run, RunOutcome]]:
    from light_sernet_kd.experiment.run import conclude, run_folds
    from light_sernet_kd.experiment.sweeps.together import train_finals, train_folds

    began = time.perf_counter()
    tested: list[tuple[Run, Experiment, list[dict[str, Any]]]] = []
    train_folds([run for _, run in runs])
    for entry, run in runs:
        display.say(f"\n{entry.name}")
        try:
            tested.append((entry, run, run_folds(run)))
        except (UserError, MemoryError) as error:
            yield entry, RunOutcome(why=why_not_run(error))
    train_finals([(run, outcomes) for _, run, outcomes in tested])
    # What they took together is shared out.
    shared = (time.perf_counter() - began) / max(1, len(tested))
    for entry, run, outcomes in tested:
        began = time.perf_counter()
        try:
            conclude(run, outcomes)
        except (UserError, MemoryError) as error:
            yield entry, RunOutcome(why=why_not_run(error))
            continue
        seconds = shared + time.perf_counter() - began
        yield entry, RunOutcome(seconds, peak_mb(), experiment.summary(read_json(run.folder.metrics)))


def parts(sizes: Sequence[int], *, most: int) -> Iterator[slice]:
    """Neighbours whose sizes have a sum of at most `most`; what is larger is alone.

    >>> [(each.start, each.stop) for each in parts([3, 3, 3, 9, 1], most=7)]
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    first = total = 0
    for at, size in enumerate(sizes):
        if at > first and total + size > most:
            yield slice(first, at)
            first, total = at, 0
        total += size
    if sizes:
        yield slice(first, len(sizes))


@dataclass(frozen=True)
class Processes:
    """Runs in processes of their own, which begin anew: TensorFlow's threads do not survive a fork.

    Attributes:
        jobs: how many at a time.
        train: what a process does with a run's settings and options.
        begin: what it does first.
    """

    jobs: int
    train: Callable[[Settings, RunOptions], RunOutcome]
    begin: Callable[[], None] | None = None

    def outcomes(
        self, entries: Sequence[Entry], options: RunOptions, display: "Display"
    ) -> Iterator[tuple[Entry, RunOutcome]]:
        """As they finish. A killed process takes its pool with it: what ran there goes on, each alone."""
        waiting = list(entries)
        while waiting:
            running: dict[Future[RunOutcome], Entry] = {}
            with self._pool(self.jobs) as pool, contextlib.suppress(BrokenProcessPool):
                while waiting or running:
                    # No more than there are processes, so that what a killed one had is known.
                    while waiting and len(running) < self.jobs:
                        running[self._submitted(pool, waiting[0], options)] = waiting[0]
                        del waiting[0]
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        finished = future.result()
                        yield running.pop(future), finished
            for entry in running.values():
                display.say(f"{entry.name}: its process was killed; it goes on in a new one", always=True)
                yield entry, self._alone(entry, options)

    def _alone(self, entry: Entry, options: RunOptions) -> RunOutcome:
        with self._pool(1) as pool:
            try:
                return self._submitted(pool, entry, options).result()
            except BrokenProcessPool:
                return RunOutcome(why=_KILLED)

    @contextlib.contextmanager
    def _pool(self, jobs: int) -> Iterator[ProcessPoolExecutor]:
        others = multiprocessing.active_children()
        begin = functools.partial(_begin, self.begin, plugins.files())
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), begin)
        try:
            with _threads(max(1, core_count() // self.jobs)):
                yield pool
        except BaseException:
            # Else an interrupted grid would wait for its runs' ends, which may be hours away.
            for child in multiprocessing.active_children():
                if child not in others:
                    child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _submitted(
        self, pool: ProcessPoolExecutor, entry: Entry, options: RunOptions
    ) -> "Future[RunOutcome]":
        return pool.submit(self.train, entry.settings, replace(options, run=entry.name, verbose=0))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Processes that begin within use so many threads each, unless the user says how many."""
    before = dict(os.environ)
    for name in THREADS:
        os.environ.setdefault(name, str(count))
    try:
        yield
    finally:
        for name in set(THREADS) - set(before):
            del os.environ[name]


def _begin(begin: Callable[[], None] | None, files: Sequence[Path]) -> None:
    """What a process of a pool begins with, before it reads settings."""
    plugins.load_all(files)
    if begin:
        begin()


def _train_quietly(settings: Settings, options: RunOptions) -> RunOutcome:
    """`_train` in a process of its own, which says nothing."""
    from rich.console import Console

    from light_sernet_kd.reporting.display import Display

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        return _train(settings, options, Display(Console(file=nowhere), verbose=0))


def _train(settings: Settings, options: RunOptions, display: "Display") -> RunOutcome:
    began = time.perf_counter()
    command = command_of(settings, options)
    try:
        folder = RunFolder(experiment.train(settings, options, display, command=command))
    except (UserError, MemoryError) as error:
        return RunOutcome(why=why_not_run(error))
    said = experiment.summary(read_json(folder.metrics))
    return RunOutcome(round(time.perf_counter() - began, 1), peak_mb(), said)


def peak_mb() -> float:
    """The most memory that this process has had, in MB; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
