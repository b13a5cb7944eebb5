"""The runs of a grid on the nodes of a Ray cluster, a task each."""

import contextlib
import os
import secrets
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import light_sernet_kd
from light_sernet_kd import plugins
from light_sernet_kd.analysis.grid import Entry
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.grid import THREADS, Finished
from light_sernet_kd.experiment.outcome import command_of
from light_sernet_kd.experiment.ray_node import (
    LOGS,
    Job,
    clean,
    finished_files,
    host_name,
    tail,
    train_on_node,
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
class _Task:
    """A run on its way.

    Attributes:
        tries: how often it was given to the cluster.
        node: id and name of the node that has it now.
        lost_on: ids of the nodes on which its process died.
        unfit: node's id → why it cannot make the run.
    """

    entry: Entry
    tries: int = 0
    node: tuple[str, str] = ("", "")
    lost_on: list[str] = field(default_factory=list)
    unfit: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        return self.entry.name, self.tries


@dataclass(frozen=True)
class Ray:
    """Runs as tasks of a Ray cluster, which decides where and when.

    A worker or a node that dies costs what it was doing: the run goes on elsewhere.

    Attributes:
        address: of the cluster; None for one that is started on this machine.
        begin: what a process does first.
        jobs: how many at a time at most; None for as many as there are resources for.
        on_gpu: a run has a GPU, where nodes have some.
        train: what a process does with a run's settings, options and command.
    """

    address: str | None = None
    begin: Callable[[], None] | None = None
    jobs: int | None = None
    on_gpu: bool = False
    train: Callable[[Settings, RunOptions, str], Finished] = train_on_node

    def outcomes(
        self, entries: Sequence[Entry], options: RunOptions, display: "Display"
    ) -> Iterator[tuple[Entry, Finished]]:
        """As they finish.

        Raises:
            UserError: the cluster refuses this program, has no node that could make a run, or is gone.
        """
        if not entries:
            return
        with _connected(self.address), _token(options.result) as token:
            yield from _Grid(self, options, display, token).outcomes(entries)
            with contextlib.suppress(OSError):  # there are none, or some of lost runs
                (options.result / LOGS).rmdir()


class _Grid:
    """A grid's tasks on a cluster that this process is connected to."""

    def __init__(self, how: Ray, options: RunOptions, display: "Display", token: tuple[str, str]):
        import ray

        self.ray, self.how, self.options, self.display, self.token = ray, how, options, display, token
        self.plugins = plugins.contents()
        self.cores, self.gpus = self._share()
        # Beside the cluster's head: it lives as long as the cluster.
        self.mailbox = ray.remote(_mailbox()).options(num_cpus=0, resources={_HEAD: 0.001}).remote()
        self.task = ray.remote(_task())
        self.files: dict[tuple[str, int, str], Generator[None, bytes, None]] = {}
        self.running: dict[Any, _Task] = {}
        self.nodes_elsewhere: set[str] = set()
        self.waits = False

    def outcomes(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Finished]]:
        waiting = [_Task(entry) for entry in entries]
        try:
            while waiting or self.running:
                waiting = yield from self._begin(waiting)
                done, _ = self.ray.wait([*self.running], timeout=_POLL_SECONDS) if self.running else ([], [])
                self._take_mail()  # what those that are done have sent is there by now
                for reference in done:
                    task = self.running.pop(reference)
                    finished = self._outcome(reference, task)
                    if finished is None:
                        waiting.insert(0, task)
                    else:
                        yield task.entry, finished
                if not done and not self.running:
                    time.sleep(_POLL_SECONDS)
            self._clean()
        except (ConnectionError, self.ray.exceptions.RayError) as error:
            raise UserError(
                f"the Ray cluster is lost ({_first_line(error)}); the same command goes on."
            ) from None
        finally:
            for reference in self.running:
                with contextlib.suppress(Exception):
                    self.ray.cancel(reference, force=True)
            for file in self.files.values():
                file.close()

    def _nodes(self) -> dict[str, tuple[int, int]]:
        """Node's id → processor cores and GPUs, of those that are alive and can make runs."""
        found = {}
        for node in self.ray.nodes():
            cores, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
            if node["Alive"] and cores:
                found[node["NodeID"]] = (cores, gpus)
        return found

    def _share(self) -> tuple[int, int]:
        """The cores and GPUs of a run: its share of all cores, and no more than each node has."""
        nodes = self._nodes()
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

    def _begin(self, waiting: list[_Task]) -> Generator[tuple[Entry, Finished], None, list[_Task]]:
        """Give the cluster what it has room for; those that no node can make are over. Returns the others."""
        nodes = {
            node: min(cores // self.cores, gpus // self.gpus if self.gpus else cores)
            for node, (cores, gpus) in self._nodes().items()
        }
        nodes = {node: room for node, room in nodes.items() if room}
        if not nodes and not self.waits:
            self.display.say("no node of the Ray cluster is left: waiting for one", always=True)
        self.waits = not nodes
        left = []
        for reference, task in [*self.running.items()]:
            # Where the nodes are gone that could make it, Ray would wait for ever.
            if nodes and not nodes.keys() - task.unfit.keys():
                self.ray.cancel(reference, force=True)
                waiting = [self.running.pop(reference), *waiting]
        for task in waiting:
            if nodes and not nodes.keys() - task.unfit.keys():
                yield task.entry, Finished(why=next(iter(task.unfit.values())))
            elif len(self.running) < min(self.how.jobs or 10**6, sum(nodes.values())):
                self.running[self._submit(task)] = task
            else:
                left.append(task)
        return left

    def _submit(self, task: _Task) -> Any:
        task.tries, task.node = task.tries + 1, ("", "")
        entry, told = task.entry, self.options
        run = told.result / entry.name
        job = Job(
            settings=entry.settings,
            options=replace(told, result=told.result.resolve(), run=entry.name, verbose=0),
            command=command_of(entry.settings, replace(told, run=entry.name)),
            train=self.how.train,
            begin=self.how.begin,
            token=self.token,
            host=host_name(),
            folder=os.getcwd(),
            begun={path.relative_to(run).as_posix(): path.read_bytes() for path in finished_files(run)},
            again=bool(task.lost_on),
            plugins=self.plugins,
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

    def _outcome(self, reference: Any, task: _Task) -> Finished | None:
        """What became of a run; None where it is to be tried anew."""
        try:
            node, answer = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            return Finished(why=_first_line(error.cause or error))
        except self.ray.exceptions.RayError as error:
            return self._lost(task, error)
        if isinstance(answer, str):
            task.unfit[node] = answer
            return None
        name = f"node {answer.node}"
        if answer.elsewhere:
            self.nodes_elsewhere.add(node)
        if answer.unfit:
            task.unfit[node] = f"{name}: {answer.unfit}"
            return None
        if answer.error:
            self.display.say(f"{task.entry.name} on {name}:\n{answer.error}", always=True)
            return Finished(why=f"{name}: {answer.error.splitlines()[-1]}")
        return answer.finished

    def _lost(self, task: _Task, error: Exception) -> Finished | None:
        """Of a run whose process died: None where it is to be tried anew."""
        node, name = task.node
        task.lost_on.append(node)
        for key in [key for key in self.files if key[:2] == task.key]:
            self.files.pop(key).close()
        log = tail(self.options.result / LOGS / f"{task.entry.name}.log").rstrip()
        if log:
            self.display.say(f"{task.entry.name} on node {name}:\n{log}", always=True)
        # A node that is gone says nothing against the run; the cluster notices it some seconds later.
        living = self._nodes()
        deaths = sum(not each or each in living for each in task.lost_on)
        if deaths < MOST_DEATHS:
            what = f"{task.entry.name}: its process on node {name or '?'} was killed; it goes on in a new one"
            self.display.say(what, always=True)
            return None
        return Finished(
            why=f"its process was killed {deaths} times; memory may be short ({_first_line(error)})"
        )

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
                    self.display.say(f"{key[0]} begins on node {name}")

    def _write(self, key: tuple[str, int], name: str, content: bytes, is_last: bool) -> None:
        path = self.options.result / key[0] / name
        if (*key, name) not in self.files:
            self.files[*key, name] = _writing(path)
            next(self.files[*key, name])
        file = self.files[*key, name]
        if content:
            file.send(content)
        if is_last:
            with contextlib.suppress(StopIteration):
                file.send(b"")
            del self.files[*key, name]

    def _clean(self) -> None:
        """Remove what nodes without the grid's folder keep of it."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        arguments = (self.options.result.resolve(), host_name())
        task, references = self.ray.remote(clean), []
        for node in self.nodes_elsewhere & self._nodes().keys():
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            references.append(task.options(num_cpus=0, scheduling_strategy=there).remote(*arguments))
        if references:
            self.ray.wait(references, num_returns=len(references), timeout=10)


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
            from light_sernet_kd.experiment.ray_node import make
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


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Within, this process is connected to the cluster, or to Ray on this machine."""
    # Ray tells its makers who uses it, where it is not told otherwise before it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # It asks three times whether a Ray client's server is there, by default for half a minute.
    for bound in ("INITIAL", "MAX"):
        os.environ.setdefault(f"RAY_CLIENT_{bound}_CONNECTION_TIMEOUT_S", "3")
    import ray
    from ray._private import worker

    # What Ray's own processes say of deaths is printed even so: this program says it with the run's name.
    worker._worker_logs_enabled = False
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(address, **quiet)
        else:
            ray.init("local", include_dashboard=False, num_cpus=os.cpu_count(), **quiet)
    except (ConnectionError, RuntimeError, ValueError, SystemExit) as error:
        raise UserError(f"Ray at {address or 'this machine'}: {_first_line(error)}.") from None
    try:
        yield
    finally:
        ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
