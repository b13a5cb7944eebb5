"""The Ray cluster that this process is connected to."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from light_sernet_kd.config.cores import core_count
from light_sernet_kd.errors import UserError, first_line


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Within, this process is connected to the cluster, or to Ray on this machine.

    Args:
        address: of the cluster; None for one that is started on this machine and ends here.

    Raises:
        UserError: the cluster refuses this program.
    """
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
        with _refusals(address), _no_native_lines():
            if address:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    ray.init(address, **quiet)
            else:
                ray.init("local", include_dashboard=False, num_cpus=core_count(), **quiet)
        yield
    finally:
        ray.shutdown()  # also where it refused: the next connection may be of another kind


@contextlib.contextmanager
def _no_native_lines() -> Iterator[None]:
    """Within, what native code writes to stderr is lost: what it means is raised too."""
    try:
        before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # the process has no stderr
        yield
        return
    sys.stderr.flush()
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextlib.contextmanager
def _refusals(address: str | None) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, RuntimeError, ValueError, SystemExit) as error:
        raise UserError(f"Ray at {address or 'this machine'}: {first_line(error)}.") from None


def nodes_of(ray: Any) -> dict[str, tuple[int, int]]:
    """Node's id → processor cores and GPUs, of those that are alive and have a processor for tasks."""
    nodes = {}
    for node in ray.nodes():
        cores, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        if node["Alive"] and cores:
            nodes[node["NodeID"]] = (cores, gpus)
    return nodes


def cores_of(nodes: Mapping[str, tuple[int, int]], jobs: int | None) -> tuple[int, int]:
    """The cores of a task, and how many tasks have room at a time.

    Args:
        nodes: as `nodes_of` has them.
        jobs: at most so many at a time, each with its share of all cores; None for one on each node.

    >>> cores_of({"a": (4, 0), "b": (8, 0)}, None), cores_of({"a": (4, 0), "b": (8, 0)}, 6)
    ((4, 3), (2, 6))
    """
    sizes = [cores for cores, _ in nodes.values()]
    cores = min(sizes) if jobs is None else max(1, min(*sizes, sum(sizes) // jobs))
    room = sum(size // cores for size in sizes)
    return cores, room if jobs is None else min(room, jobs)
