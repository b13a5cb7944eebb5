"""Runs on the nodes of a Ray cluster: those of a grid, the trials of a search.

A run is a task. On GPUs a task holds several runs of one architecture, whose networks are trained together.
"""

import contextlib
import itertools
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import light_sernet_kd
from light_sernet_kd import plugins
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.errors import UserError, first_line
from light_sernet_kd.experiment.cluster.connection import connected, nodes_of
from light_sernet_kd.experiment.cluster.node import (
    LOGS,
    Job,
    NodeRun,
    Together,
    clean,
    finished_files,
    host_name,
    tail,
    train_on_node,
    train_together_on_node,
)
from light_sernet_kd.experiment.outcome import command_of
from light_sernet_kd.experiment.sweeps.grid import (
    MOST_NETWORKS,
    THREADS,
    Run,
    RunOutcome,
    architecture,
    fold_count,
)
from light_sernet_kd.files import atomic, write_text

if TYPE_CHECKING:
    from light_sernet_kd.reporting.display import Display

# A run whose process died so often on living nodes is given up.
MOST_DEATHS = 3
_POLL_SECONDS = 1.0
# What the head keeps of runs on their way back is taken in portions of so many bytes.
_PORTION_BYTES = 2**26
_HEAD = "node:__internal_head__"
_NODE = "ray.io/node-id"


@dataclass
class _Task(Generic[Run]):
    """Runs on their way: one, or several that are trained together.

    Attributes:
        tries: how often it was given to the cluster.
        node: id and name of the node that has it now.
        lost_on: ids of the nodes on which its process died.
        was_lost: a process of these runs died, also one that had others too. It may still hold their folders.
        unfit: node's id → why it cannot make them.
    """

    runs: tuple[Run, ...]
    tries: int = 0
    node: tuple[str, str] = ("", "")
    lost_on: list[str] = field(default_factory=list)
    was_lost: bool = False
    unfit: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.runs[0].name

    @property
    def key(self) -> tuple[str, int]:
        return ", ".join(run.name for run in self.runs), self.tries

    @property
    def title(self) -> str:
        more = len(self.runs) - 1
        return f"{self.name} and {more} more" if more else self.name

    def alone(self) -> "list[_Task[Run]]":
        """The same runs, each by itself; what died before does not count against one alone."""
        return [_Task((run,), was_lost=self.was_lost, unfit={**self.unfit}) for run in self.runs]


@dataclass(frozen=True)
class Ray:
    """Runs as tasks of a Ray cluster, which decides where and when.

    A worker or a node that dies costs what it was doing: the run goes on elsewhere.

    Attributes:
        address: of the cluster; None for one that is started on this machine.
        begin: what a process does first.
        jobs: how many at a time at most; None for as many as there are resources for.
        on_gpu: a task has a GPU, where nodes have some, and then several runs of one architecture.
        train: what a process does with a run's settings, options and command.
        together: what it does with several runs.
    """

    address: str | None = None
    begin: Callable[[], None] | None = None
    jobs: int | None = None
    on_gpu: bool = False
    train: Callable[[Settings, RunOptions, str], RunOutcome] = train_on_node
    together: Together = train_together_on_node

    def outcomes(
        self, wanted: Iterable[Run | None], options: RunOptions, display: "Display"
    ) -> Iterator[tuple[Run, RunOutcome]]:
        """As they finish.

        Args:
            wanted: the runs. The next one is taken when there is room for it, after what finished before was
                given back. None where one is not known yet: it is asked again.

        Raises:
            UserError: the cluster refuses this program, has no node that could make a run, or is gone.
        """
        left = iter(wanted)
        first = next((run for run in left if run is not None), None)
        if first is None:
            return
        with connected(self.address), _token(options.result) as token:
            runs: _Runs[Run] = _Runs(self, options, display, token)
            yield from runs.outcomes(first, left)
            with contextlib.suppress(OSError):  # there are none, or some of lost runs
                (options.result / LOGS).rmdir()


class _Runs(Generic[Run]):
    """Runs as tasks on a cluster that this process is connected to."""

    def __init__(self, how: Ray, options: RunOptions, display: "Display", token: tuple[str, str]):
        import ray

        self.ray, self.how, self.options, self.display, self.token = ray, how, options, display, token
        self.plugins = plugins.contents()
        self.cores, self.gpus = self._share()
        # Beside the cluster's head: it lives as long as the cluster.
        self.mailbox = ray.remote(_mailbox()).options(num_cpus=0, resources={_HEAD: 0.001}).remote()
        self.task = ray.remote(_task())
        self.files: dict[tuple[tuple[str, int], str], Generator[None, bytes, None]] = {}
        self.running: dict[Any, _Task[Run]] = {}
        self.nodes_elsewhere: set[str] = set()
        self.waits = self.more_at_once = False

    def outcomes(self, first: Run, more: Iterator[Run | None]) -> Iterator[tuple[Run, RunOutcome]]:
        waiting: list[_Task[Run]] = []
        self.wanted, self.ended = self._tasks(itertools.chain([first], more)), False
        try:
            while waiting or self.running or not self.ended:
                waiting = yield from self._begin(waiting)
                done = self._done()
                self._take_mail()  # what those that are done have sent is there by now
                for reference in done:
                    task = self.running.pop(reference)
                    finished, again = self._outcome(reference, task)
                    waiting = [*again, *waiting]
                    for run in task.runs:
                        if run.name in finished:
                            yield run, finished[run.name]
                if self.waits and not self.running:
                    time.sleep(_POLL_SECONDS)
            self._clean()
        except (ConnectionError, self.ray.exceptions.RayError) as error:
            raise UserError(
                f"the Ray cluster is lost ({first_line(error)}); the same command goes on."
            ) from None
        finally:
            for reference in self.running:
                with contextlib.suppress(Exception):
                    self.ray.cancel(reference, force=True)
            for file in self.files.values():
                file.close()

    def _tasks(self, wanted: Iterator[Run | None]) -> Iterator[_Task[Run] | None]:
        """What is given to the cluster, one after another."""
        if not self.gpus or (self.options.devices or 1) > 1:
            for run in wanted:
                yield None if run is None else _Task((run,))
            return
        runs = [run for run in wanted if run is not None]
        tasks = max(1, min(self.how.jobs or len(runs), sum(self._rooms().values())))
        for some in grouped(runs, tasks, lambda run: fold_count(run.settings, self.options.data)):
            yield _Task(some)

    def _rooms(self) -> dict[str, int]:
        """Node's id → how many tasks it has room for, of those that have some."""
        nodes = {
            node: min(cores // self.cores, gpus // self.gpus if self.gpus else cores)
            for node, (cores, gpus) in nodes_of(self.ray).items()
        }
        return {node: room for node, room in nodes.items() if room}

    def _done(self) -> list[Any]:
        """Tasks that have ended, waited for a moment where no further one is to be given to the cluster."""
        if not self.running:
            return []
        done, _ = self.ray.wait([*self.running], timeout=0 if self.more_at_once else _POLL_SECONDS)
        return list(done)

    def _share(self) -> tuple[int, int]:
        """The cores and GPUs of a run: its share of all cores, and no more than each node has."""
        nodes = nodes_of(self.ray)
        if not nodes:
            raise UserError("no node of the Ray cluster has a processor for runs: ray start --num-cpus=N.")
        wanted = self.options.devices or 1
        # of each node with GPUs, how many runs it has room for
        rooms = [gpus // wanted for _, gpus in nodes.values()] if self.how.on_gpu else []
        with_gpu = [cores // room for (cores, _), room in zip(nodes.values(), rooms, strict=False) if room]
        if wanted > 1 and self.how.on_gpu and not with_gpu:
            raise UserError(f"no node of the Ray cluster has {wanted} GPUs: give fewer --devices.")
        sizes, gpus = with_gpu or [cores for cores, _ in nodes.values()], wanted if with_gpu else 0
        if self.how.jobs is None:
            return max(1, min(sizes)), gpus
        total = sum(cores for cores, _ in nodes.values())
        return max(1, min(*sizes, total // self.how.jobs)), gpus

    def _begin(self, waiting: list[_Task[Run]]) -> Generator[tuple[Run, RunOutcome], None, list[_Task[Run]]]:
        """Give the cluster what it has room for; those that no node can make are over. Returns the others."""
        nodes = self._rooms()
        if not nodes and not self.waits:
            self.display.say("no node of the Ray cluster is left: waiting for one", always=True)
        self.waits = not nodes
        most, left = min(self.how.jobs or 10**6, sum(nodes.values())), []
        for reference, task in [*self.running.items()]:
            # Where the nodes are gone that could make it, Ray would wait for ever.
            if nodes and not nodes.keys() - task.unfit.keys():
                self.ray.cancel(reference, force=True)
                waiting = [self.running.pop(reference), *waiting]
        for task in waiting:
            if nodes and not nodes.keys() - task.unfit.keys():
                for run in task.runs:
                    yield run, RunOutcome(why=next(iter(task.unfit.values())), began=False)
            elif len(self.running) < most:
                self.running[self._submit(task)] = task
            else:
                left.append(task)
        self.more_at_once = False
        if len(self.running) < most and not left and not self.ended:
            self._take_one()
        return left

    def _take_one(self) -> None:
        """Give the cluster one more task. What finishes meanwhile is given back before another is taken."""
        try:
            task = next(self.wanted)
        except StopIteration:
            self.ended = True
            return
        if task is not None:
            self.running[self._submit(task)] = task
            self.more_at_once = True

    def _submit(self, task: _Task[Run]) -> Any:
        task.tries, task.node = task.tries + 1, ("", "")
        options = self.options
        job = Job(
            runs=tuple(self._node_run(run) for run in task.runs),
            options=replace(options, result=options.result.resolve(), verbose=0),
            train=self.how.train,
            begin=self.how.begin,
            token=self.token,
            host=host_name(),
            folder=os.getcwd(),
            again=task.was_lost,
            plugins=self.plugins,
            together=self.how.together,
        )
        how: dict[str, Any] = {
            "num_cpus": self.cores,
            "num_gpus": self.gpus,
            "max_retries": 0,  # here, where it is said and counted
            "runtime_env": {
                "env_vars": {name: os.environ.get(name, str(self.cores)) for name in THREADS},
            },
        }
        if task.unfit:
            how["label_selector"] = {_NODE: f"!in({', '.join(task.unfit)})"}
        payload = self.ray.cloudpickle.dumps(job)
        return self.task.options(**how).remote(light_sernet_kd.__version__, payload, self.mailbox, task.key)

    def _node_run(self, run: Run) -> NodeRun:
        folder = self.options.result / run.name
        return NodeRun(
            run.name,
            run.settings,
            command_of(run.settings, replace(self.options, run=run.name)),
            {path.relative_to(folder).as_posix(): path.read_bytes() for path in finished_files(folder)},
        )

    def _outcome(self, reference: Any, task: _Task[Run]) -> tuple[dict[str, RunOutcome], list[_Task[Run]]]:
        """What became of runs, by their names, and what is to be tried anew."""
        try:
            node, answer = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            return _all(task, first_line(error.cause or error)), []
        except self.ray.exceptions.RayError as error:
            return self._lost(task, error)
        if isinstance(answer, str):
            task.unfit[node] = answer
            return {}, [task]
        name = f"node {answer.node}"
        if answer.elsewhere:
            self.nodes_elsewhere.add(node)
        finished = {key: each for key, each in answer.finished.items() if each.began}
        others = [run for run in task.runs if run.name not in finished]
        if answer.error:
            self.display.say(f"{task.title} on {name}:\n{answer.error}", always=True)
            if len(task.runs) == 1:
                return _all(task, f"{name}: {answer.error.splitlines()[-1]}"), []
            return finished, replace(task, runs=tuple(others)).alone()
        again = []
        for run in others:
            why = answer.finished[run.name].why
            unfit = {**task.unfit, node: f"{name}: {why}"}
            again.append(replace(task, runs=(run,), unfit=unfit, lost_on=[*task.lost_on]))
        return finished, again

    def _lost(self, task: _Task[Run], error: Exception) -> tuple[dict[str, RunOutcome], list[_Task[Run]]]:
        """Of runs whose process died: as `_outcome`."""
        node, name = task.node
        task.lost_on.append(node)
        task.was_lost = True
        for key in [key for key in self.files if key[0] == task.key]:
            self.files.pop(key).close()
        log = tail(self.options.result / LOGS / f"{task.name}.log").rstrip()
        if log:
            self.display.say(f"{task.title} on node {name}:\n{log}", always=True)
        # A node that is gone says nothing against the run; the cluster notices it some seconds later.
        living = nodes_of(self.ray)
        deaths = sum(not each or each in living for each in task.lost_on)
        if deaths < MOST_DEATHS:
            what = f"{task.title}: its process on node {name or '?'} was killed; it goes on in a new one"
            self.display.say(what, always=True)
            return {}, [task]
        why = f"its process was killed {deaths} times; memory may be short ({first_line(error)})"
        if len(task.runs) > 1:
            self.display.say(f"{task.title}: {why}; each goes on alone", always=True)
            return {}, task.alone()
        return _all(task, why), []

    def _take_mail(self) -> None:
        """Note where runs have begun, and write what came of those that are made elsewhere."""
        tasks = {task.key: task for task in self.running.values()}
        while mail := self.ray.get(self.mailbox.take.remote()):
            for key, path, content, is_last in mail:
                if key not in tasks:
                    continue  # of a try that was given up
                if path:
                    self._write(key, path, content, is_last)
                else:
                    node, _, name = content.decode().partition(" ")
                    tasks[key].node = (node, name)
                    self.display.say(f"{tasks[key].title} begins on node {name}")

    def _write(self, key: tuple[str, int], name: str, content: bytes, is_last: bool) -> None:
        if (key, name) not in self.files:
            self.files[key, name] = _writing(self.options.result / name)
            next(self.files[key, name])
        file = self.files[key, name]
        if content:
            file.send(content)
        if is_last:
            with contextlib.suppress(StopIteration):
                file.send(b"")
            del self.files[key, name]

    def _clean(self) -> None:
        """Remove what nodes without the grid's folder keep of it."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        arguments = (self.options.result.resolve(), host_name())
        task, references = self.ray.remote(clean), []
        for node in self.nodes_elsewhere & nodes_of(self.ray).keys():
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            references.append(task.options(num_cpus=0, scheduling_strategy=there).remote(*arguments))
        if references:
            self.ray.wait(references, num_returns=len(references), timeout=10)


def _all(task: _Task[Run], why: str) -> dict[str, RunOutcome]:
    return {run.name: RunOutcome(why=why) for run in task.runs}


def grouped(
    runs: Sequence[Run], tasks: int, networks: Callable[[Run], int], most: int = MOST_NETWORKS
) -> Iterator[tuple[Run, ...]]:
    """Runs of one architecture together, in their order: enough groups that each of `tasks` may have one.

    Args:
        networks: how many a run trains.
        most: of a group; a run of more is alone.
    """
    share = -(-len(runs) // tasks)
    for _, alike in itertools.groupby(runs, key=lambda run: architecture(run.settings)):
        group: list[Run] = []
        held = 0
        for run in alike:
            count = networks(run)
            if group and (len(group) == share or held + count > most):
                yield tuple(group)
                group, held = [], 0
            group.append(run)
            held += count
        yield tuple(group)


def _task() -> Callable[..., Any]:
    """What a worker does. It has nothing of this package, which a node may lack."""

    def task(version: str, payload: bytes, mailbox: Any, key: tuple[str, int]) -> tuple[str, Any]:
        import pickle
        import socket
        import sys

        import ray

        node, name = ray.get_runtime_context().get_node_id(), socket.gethostname()
        ray.get(mailbox.put.remote([(key, "", f"{node} {name}".encode(), True)]))
        try:
            import light_sernet_kd
        except ImportError:
            return node, f"node {name}: light-sernet-kd is not installed for {sys.executable}"
        if light_sernet_kd.__version__ != version:
            have = light_sernet_kd.__version__
            return node, f"node {name}: it has light-sernet-kd {have}, this command {version}: install one"
        try:
            from light_sernet_kd.experiment.cluster.node import make
        except ImportError as error:
            return node, f"node {name}: {error} for {sys.executable}"

        def send(path: str, content: bytes, is_last: bool) -> None:
            ray.get(mailbox.put.remote([(key, path, content, is_last)]))

        return node, make(pickle.loads(payload), name, send)

    return task


def _mailbox() -> type:
    """What tasks say while they are at work, until it is taken. The program may be outside the cluster."""
    most = _PORTION_BYTES

    class Mailbox:
        def __init__(self) -> None:
            self.mail: list[Any] = []

        def put(self, mail: list[Any]) -> None:
            self.mail += mail

        def take(self) -> list[Any]:
            taken: list[Any] = []
            size = 0
            while self.mail and size < most:
                taken.append(self.mail.pop(0))
                size += len(taken[-1][2])
            return taken

    return Mailbox


def _writing(path: Path) -> Generator[None, bytes, None]:
    """Writes the pieces of a file that it is sent, up to an empty one; then the file has its name."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        while piece := (yield):
            file.write(piece)


@contextlib.contextmanager
def _token(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and content of a file that is in the grid's folder within."""
    name, content = f".ray-{secrets.token_hex(4)}", secrets.token_hex(16)
    write_text(folder / name, content)
    try:
        yield name, content
    finally:
        (folder / name).unlink(missing_ok=True)
