"""Unlabelled clips encoded on the nodes of a Ray cluster, by Ray Data.

A part of the clips is a row of a data set, and a row that comes back has what the encoder says of it. Each
process of the nodes makes the encoder once. This machine writes the answers, in the blocks that it would have
made itself.
"""

import contextlib
import logging
import os
import pickle
import socket
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import light_sernet_kd
from light_sernet_kd.data.unlabelled.clips import Encoded, Part
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError, first_line, is_installed, missing
from light_sernet_kd.experiment.cluster.connection import connected, cores_of, nodes_of
from light_sernet_kd.experiment.sweeps.grid import THREADS

# What is encoded and not yet written, in the nodes' shared memory.
_WAITING_BYTES = 2**30
_PROBE_SECONDS = 60.0
_NODE = "ray.io/node-id"


def require_ray_data(what: str) -> None:
    """Raise a `UserError` where Ray Data cannot work."""
    for module in ("pyarrow", "pandas"):
        if not is_installed(module):
            raise missing(module, what)


@dataclass(frozen=True)
class RayClips:
    """Encodes unlabelled clips on a Ray cluster, as `data.unlabelled.Clips` takes it.

    Attributes:
        address: of the cluster; None for one that is started on this machine.
        begin: what a process does first.
        jobs: how many processes encode at a time; None for one on each node.
    """

    address: str | None = None
    begin: Callable[[], None] | None = None
    jobs: int | None = None

    def __call__(self, encoder: Encoder, parts: Iterable[Part]) -> Iterator[Encoded]:
        """What the encoder says of each part: keys, rows, and how many; in the order in which they are done.

        Raises:
            UserError: no node can encode, or a recording has changed.
        """
        assert encoder.recreate is not None  # `embed_clips` asks others here
        waiting = list(parts)
        if not waiting:
            return
        made = _Made(encoder.recreate, encoder.folder(Path()).name, self.begin, os.getcwd())
        # Else its core tells that a process which began anew needs what this program holds, which it does.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        with connected(self.address):
            import ray

            try:
                yield from _encoded(ray, self, made, waiting)
            except (ConnectionError, ray.exceptions.RayError) as error:
                raise UserError(
                    f"the Ray cluster is lost ({first_line(error)}); the same command goes on."
                ) from None


@dataclass(frozen=True)
class _Made:
    """How a process on a node makes the encoder.

    Attributes:
        key: the name of its folder in the cache, which tells it from any that gives other numbers.
        folder: the current one of the machine that gives the command, which relative paths mean.
    """

    again: Callable[[], Encoder]
    key: str
    begin: Callable[[], None] | None
    folder: str


def _encoded(ray: Any, how: RayClips, made: _Made, parts: Sequence[Part]) -> Iterator[Encoded]:
    nodes = _fit(ray, parts[0])
    cores, count = cores_of(nodes, how.jobs)
    threads = {name: os.environ.get(name, str(cores)) for name in THREADS}
    rows = [{"part": pickle.dumps(part)} for part in parts]
    with _quietly(ray) as data:
        done = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Encoding,
            fn_constructor_args=(ray.cloudpickle.dumps(made),),
            batch_size=1,
            batch_format="numpy",
            compute=data.ActorPoolStrategy(size=min(count, len(rows))),
            num_cpus=cores,
            runtime_env={"env_vars": threads},
            label_selector={_NODE: f"in({', '.join(nodes)})"},
        )
        for batch in done.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            for answer in batch["answer"]:
                yield _told(answer)


def _told(answer: bytes) -> Encoded:
    """Keys and rows of a part.

    Raises:
        UserError: what the user can mend.
    """
    error, is_ours, keys, counts, values = pickle.loads(answer)
    if is_ours:
        raise RuntimeError(error)
    if error:
        raise UserError(error)
    return keys, np.split(values, np.cumsum(counts)[:-1]), len(keys)


class _Encoding:
    """A process on a node, which makes the encoder when it begins."""

    def __init__(self, made: bytes):
        self.node, self.error, self.is_ours = socket.gethostname(), "", False
        try:
            self.encoder = self._encoder(pickle.loads(made))
        except UserError as error:
            self.error = f"node {self.node}: {error}"
        except Exception:
            self.error, self.is_ours = f"node {self.node}:\n{traceback.format_exc()}", True

    def _encoder(self, made: _Made) -> Encoder:
        with contextlib.suppress(OSError):  # the node need not have that folder
            os.chdir(made.folder)
        if made.begin:
            made.begin()
        encoder = made.again()
        if encoder.folder(Path()).name != made.key:
            raise UserError(
                f"{encoder.name} is another encoder, or of another version, than where the command was given."
            )
        return encoder

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = np.empty(len(batch["part"]), object)
        for number, part in enumerate(batch["part"]):
            answers[number] = pickle.dumps(self._answer(pickle.loads(part)), protocol=5)
        return {"answer": answers}

    def _answer(self, part: Part) -> tuple[str, bool, list[str], list[int], np.ndarray]:
        nothing = np.empty(0)
        if self.error:
            return self.error, self.is_ours, [], [], nothing
        try:
            keyed = list(part.windows())
            keys, windows = [key for key, _ in keyed], [window for _, window in keyed]
            rows = [np.asarray(each) for each in self.encoder.encode(windows)]
            return "", False, keys, [len(each) for each in rows], np.concatenate(rows)
        except UserError as error:
            return f"node {self.node}: {error}", False, [], [], nothing
        except Exception:
            return f"node {self.node}:\n{traceback.format_exc()}", True, [], [], nothing


# Which nodes can encode


def _fit(ray: Any, part: Part) -> dict[str, tuple[int, int]]:
    """The nodes that have this package and these recordings.

    Raises:
        UserError: none has; says why not.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = nodes_of(ray)
    if not nodes:
        raise UserError("no node of the Ray cluster has a processor: ray start --num-cpus=N.")
    path, probe, asked = part.folder / part.names[0], ray.remote(_probe()), {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[node] = probe.options(num_cpus=0, scheduling_strategy=there).remote(
            light_sernet_kd.__version__, os.getcwd(), str(path), path.stat().st_size
        )
    unfit = _why_not(ray, asked)
    fit = {node: sizes for node, sizes in nodes.items() if not unfit[node]}
    if not fit:
        raise UserError(next(iter(unfit.values())))
    return fit


def _why_not(ray: Any, asked: Mapping[str, Any]) -> dict[str, str]:
    """Node's id → why it cannot encode, empty where it can. A node that says nothing is left to the others.

    Args:
        asked: node's id → its answer on the way.
    """
    _, silent = ray.wait([*asked.values()], num_returns=len(asked), timeout=_PROBE_SECONDS)
    names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
    reasons = {}
    for node, answer in asked.items():
        name = f"node {names.get(node, node)}"
        if answer in silent:
            ray.cancel(answer, force=True)
            reasons[node] = f"{name}: it gave no answer in {_PROBE_SECONDS:.0f} s."
            continue
        try:
            reasons[node] = ray.get(answer)
        except ray.exceptions.RayError as error:  # its process died, or the node
            reasons[node] = f"{name}: {first_line(error)}."
    return reasons


def _probe() -> Callable[..., str]:
    """What a node is asked first. It has nothing of this package, which a node may lack."""

    def probe(version: str, folder: str, path: str, size: int) -> str:
        import contextlib
        import os
        import socket
        import sys

        node = socket.gethostname()
        with contextlib.suppress(OSError):
            os.chdir(folder)
        try:
            import light_sernet_kd
        except ImportError:
            return f"node {node}: light-sernet-kd is not installed for {sys.executable}."
        if light_sernet_kd.__version__ != version:
            have = light_sernet_kd.__version__
            return f"node {node}: it has light-sernet-kd {have}, this command {version}: install one."
        try:
            same = os.path.getsize(path) == size
        except OSError:
            same = False
        return "" if same else f"node {node}: it lacks {path}, or has another one: copy the folder there."

    return probe


@contextlib.contextmanager
def _quietly(ray: Any) -> Iterator[Any]:
    """`ray.data`, which says nothing and holds a bounded number of bytes."""
    import ray.data as data

    logger = logging.getLogger("ray.data")
    before, context = logger.level, data.DataContext.get_current()
    logger.setLevel(logging.CRITICAL)
    context.enable_progress_bars = False
    limits = data.ExecutionResources(object_store_memory=_WAITING_BYTES)
    context.execution_options.resource_limits = limits
    try:
        yield data
    finally:
        logger.setLevel(before)
