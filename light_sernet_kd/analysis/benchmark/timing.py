"""How long files take to answer, in turns."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import runner
from light_sernet_kd.errors import UserError

WARM_UP = 5


# Fewer say nothing of a 95th percentile, however slow the file is.
FEWEST_ROUNDS = 20


def example(interpreter, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Something to answer, by the names of the inputs: a noisy voice, states, or tokens without padding."""
    rng = np.random.default_rng(seed)
    values = {}
    for taken in interpreter.get_input_details():
        name, shape = taken["name"], tuple(taken["shape"][1:])
        if name == "text_mask":
            values[name] = np.ones(shape, taken["dtype"])
        elif np.issubdtype(taken["dtype"], np.integer):
            # Every vocabulary has the special tokens; the time depends on no token.
            tokens = len(runner.SPECIAL_TOKENS)
            values[name] = rng.integers(0, tokens, shape).astype(taken["dtype"])
        else:
            noise = rng.normal(size=shape)
            if name == "audio":
                seconds = np.arange(shape[-1]) / 16_000
                noise = 0.02 * noise + 0.1 * np.sin(2 * np.pi * 150 * seconds)
            values[name] = noise.astype(taken["dtype"])
    return values


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, which lies between two times as NumPy's does, in milliseconds."""
    return {
        "median_ms": 1e3 * statistics.median(seconds),
        "p95_ms": 1e3 * float(np.quantile(seconds, 0.95)),
    }


def in_turn(
    calls: Mapping[Any, Callable[[], Any]], *, rounds: int, most_seconds: float = 60.0
) -> dict[Any, list[float]]:
    """Seconds that each call took in each round; in a round each comes once, the first another each time.

    Rounds end after `most_seconds`, but not before `FEWEST_ROUNDS`.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    names = list(calls)
    seconds: dict[Any, list[float]] = {name: [] for name in names}
    begun = time.perf_counter()
    for number in range(rounds):
        if number >= FEWEST_ROUNDS and time.perf_counter() - begun > most_seconds:
            break
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def latencies(
    paths: Sequence[Path], threads: Sequence[int], *, rounds: int, most_seconds: float = 60.0
) -> list[dict[int, dict[str, float]]]:
    """By file: threads → `{median_ms, p95_ms, processor_ms, rounds}` of one `invoke`.

    `processor_ms` is the median of the time that the process's threads ran: on one thread it is what the
    file itself takes, however busy the machine is.
    Numbers of threads are measured one after another: those of another interpreter would wait in a loop.
    """
    latency: list[dict[int, dict[str, float]]] = [{} for _ in paths]
    for count in threads:
        interpreters = [open_file(path, count)[0] for path in paths]
        for interpreter in interpreters:
            runner.outputs(interpreter, example(interpreter))
        ran: list[list[float]] = [[] for _ in paths]

        def call(i: int, interpreters=interpreters, ran=ran) -> None:
            start = time.process_time()
            interpreters[i].invoke()
            ran[i].append(time.process_time() - start)

        calls = {i: functools.partial(call, i) for i in range(len(paths))}
        for i, seconds in in_turn(calls, rounds=rounds, most_seconds=most_seconds).items():
            latency[i][count] = {
                **summary(seconds),
                "processor_ms": 1e3 * statistics.median(ran[i][WARM_UP:]),
                "rounds": len(seconds),
            }
    return latency


def open_file(path: Path, threads: int = 1):
    """As `runner.open_file`.

    Raises:
        UserError: the file is none of ours, or damaged.
    """
    try:
        return runner.open_file(path, threads=threads)
    except runner.RunnerError as error:
        raise UserError(str(error)) from None
