"""What the nodes of a Ray cluster do in a test, without training. Pickled by value: they lack this module."""

import functools
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.cluster.node import NodeRun
from light_sernet_kd.experiment.sweeps.grid import RunOutcome


def says_its_settings(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    threads = f"{os.environ['OMP_NUM_THREADS']} {os.environ['TF_NUM_INTRAOP_THREADS']}"
    return RunOutcome(said=f"{settings.seed} {options.run} {options.verbose} {threads}")


def says_its_gpus(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    import ray

    return RunOutcome(said=f"{len(ray.get_gpu_ids())} {os.environ['OMP_NUM_THREADS']}")


def say_their_gpus(runs: Sequence[NodeRun], options: RunOptions) -> Iterator[tuple[str, RunOutcome]]:
    names = " ".join(run.name for run in runs)
    for run in runs:
        yield run.name, RunOutcome(said=f"{names} {says_its_gpus(run.settings, options, run.command).said}")


def are_killed_at_1(runs: Sequence[NodeRun], options: RunOptions) -> Iterator[tuple[str, RunOutcome]]:
    for run in runs:
        yield run.name, is_always_killed(run.settings, options, run.command)


def fail_at_1(runs: Sequence[NodeRun], options: RunOptions) -> Iterator[tuple[str, RunOutcome]]:
    for run in runs:
        yield run.name, fails_by_an_error_of_ours(run.settings, options, run.command)


def do_not_begin_at_1(runs: Sequence[NodeRun], options: RunOptions) -> Iterator[tuple[str, RunOutcome]]:
    for run in runs:
        begins = run.settings.seed != 1
        why = None if begins else "no recordings in data/EMO-DB/wav."
        yield run.name, RunOutcome(said=str(run.settings.seed), why=why, began=begins)


def says_what_a_plugin_added(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    from light_sernet_kd import plugins
    from light_sernet_kd.registries.students import STUDENTS

    (used,) = plugins.used(settings.as_dict())
    return RunOutcome(said=f"{STUDENTS['tinny'].title} of {used['name']} {used['sha256']}")


def is_silent_on_the_second_node(*given: object) -> str:
    """What a node answers that can encode."""
    if os.environ.get("SECOND_NODE"):
        time.sleep(600)
    return ""


def is_killed_once(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    mark = options.result / f"{options.run}.begun"
    if settings.seed == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return RunOutcome(said=str(settings.seed))


def is_always_killed(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    if settings.seed == 1:
        print("seed 1 begins", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return RunOutcome(said=str(settings.seed))


def waits_on_its_first_node(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    import ray

    mark = options.result / f"{options.run}.node"
    node = ray.get_runtime_context().get_node_id()
    before = mark.read_text().split()[0] if mark.exists() else node
    mark.write_text(f"{node} {os.getpid()}")
    while before == node and not (options.result / "go").exists():
        time.sleep(0.1)
    return RunOutcome(said=str(settings.seed))


def writes_two_steps(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    """A run of two folds, whose process dies between them; the first is not made twice."""
    run = options.result / str(options.run)
    run.mkdir(exist_ok=True)
    (run / "config.json").write_text("{}")
    for fold in "ab":
        step = run / f"fold-{fold}"
        if (step / "fold.json").exists():
            continue
        step.mkdir()
        (step / "student.keras").write_bytes(f"{settings.seed}{fold}".encode() * 10**7)
        (step / "fold.json").write_text(str(os.getpid()))
        if fold == "a" and settings.seed == 1:
            time.sleep(4)
            run.rename(f"{run}-lost")  # a node that is lost takes what it had with it
            os.kill(os.getpid(), signal.SIGKILL)
    (run / "empty.txt").touch()
    (run / ".lock").touch()
    (run / "metrics.json").write_text(f"{command}\n")
    return RunOutcome(said=f"{Path.cwd()}")


def needs_what_only_the_second_node_has(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    if "SECOND_NODE" not in os.environ:
        raise UserError("no recordings in data/EMO-DB/wav.")
    return RunOutcome(said=str(settings.seed))


def finds_no_corpus(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    if settings.seed == 1:
        raise UserError("no recordings in data/EMO-DB/wav.")
    return RunOutcome(said=str(settings.seed))


def fails_by_an_error_of_ours(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    if settings.seed == 1:
        print("epoch 7", flush=True)
        raise ZeroDivisionError("seed 1")
    return RunOutcome(said=str(settings.seed))


# Trials of a search


def scores_its_width(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    """As a run whose UA falls with the width's distance from 0.4."""
    run = options.result / str(options.run)
    run.mkdir(parents=True, exist_ok=True)
    ua = 1 - abs(settings.width - 0.4)
    (run / "metrics.json").write_text(json.dumps({"pooled": {"ua": ua}, "stamps": [], "folds": []}))
    return RunOutcome(said=str(settings.width))


def scores_once_another_is_at_work(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    """Waits until a second trial has begun."""
    (options.result / f"{options.run}.begun").touch()
    while len([*options.result.glob("*.begun")]) < 2:
        time.sleep(0.05)
    return scores_its_width(settings, options, command)


def trial_1_is_killed_once(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    mark = options.result / "killed"
    if options.run == "trial-001" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return scores_its_width(settings, options, command)


def trial_1_fails(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    if options.run == "trial-001":
        print("epoch 7", flush=True)
        raise ZeroDivisionError("by the width")
    return scores_its_width(settings, options, command)


def no_trial_can_begin(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    raise UserError("no recordings in data/EMO-DB/wav.")


# Encoders of unlabelled clips


def loudness_encoder(folder: Path, killed: str = "", version: int = 0) -> Encoder:
    """Mean, largest and mean square of each clip. In `folder` it notes each process that makes it.

    Args:
        killed: names a mark; who finds none there makes it, and is killed at its first clip.
        version: of the numbers; 1 is another one in each process.
    """
    (folder / f"{os.getpid()}.made").touch()

    def encode(waveforms):
        mark = folder / killed
        if killed and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        for each in waveforms:
            yield np.array([[each.mean(), each.max(), np.square(each).mean(), len(each)]], np.float32)

    identity = {"measures": 4, "version": os.getpid() if version else 0}
    again = functools.partial(loudness_encoder, folder, killed, version)
    return Encoder("loudness", identity, (4,), encode, recreate=again)


def faulty_encoder() -> Encoder:
    """Fails by an error of ours at its first clip."""

    def encode(waveforms):
        raise ZeroDivisionError("by a clip")

    return Encoder("faulty", {}, (4,), encode, recreate=faulty_encoder)


# What finds them


def workers_at_work() -> list[int]:
    """Processes of Ray that run a task of ours."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::task"):
                found.append(int(folder.name))
    return found
