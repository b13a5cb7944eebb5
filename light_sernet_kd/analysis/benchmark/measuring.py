"""Everything about files, measured side by side."""

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from light_sernet_kd.analysis.benchmark.graph import MULTIPLY_ADDS, delegation, work
from light_sernet_kd.analysis.benchmark.memory import MEMORY, peak_memory
from light_sernet_kd.analysis.benchmark.scoring import Recordings, accuracy, folds_students
from light_sernet_kd.analysis.benchmark.timing import latencies, open_file
from light_sernet_kd.analysis.processor import processor
from light_sernet_kd.config.cores import core_count
from light_sernet_kd.errors import UserError
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.runner import DIMENSIONS


def measure(
    paths: Sequence[Path],
    *,
    threads: Sequence[int] | None = None,
    rounds: int = 100,
    recordings: Recordings | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Everything about the files; see `light-sernet-kd benchmark --help`.

    Args:
        threads: by default 1 and 2, where there are two cores.

    Raises:
        UserError: a file that is none of ours or damaged, or cannot be scored on `recordings`; or more
            threads than cores.
    """
    threads = checked_threads(threads)
    opened = [(path, *open_file(path)) for path in paths]
    files = [_facts(*each) for each in opened]
    del opened  # an interpreter's threads and memory would be measured with the others'
    for row, path in zip(files, paths, strict=True):
        progress(f"memory of {path}")
        row["peak_memory_bytes"] = peak_memory(path)
    if recordings is not None:
        read: dict[Path, bytes | None] = {}
        for row, path in zip(files, paths, strict=True):
            progress(f"{recordings.what} with {path}")
            row["accuracy"] = accuracy(path, recordings, read)
    progress(f"times of {len(paths)} files")
    for row, times in zip(files, latencies(paths, threads, rounds=rounds), strict=True):
        row["latency"] = {
            str(count): {
                **each,
                "real_time_factor": each["median_ms"] / 1e3 / row["seconds"] if row["seconds"] else None,
            }
            for count, each in times.items()
        }
    return {
        "machine": {
            "processor": processor()[0],
            "cores": core_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "ai_edge_litert": version("ai-edge-litert"),
        },
        "multiply_adds": MULTIPLY_ADDS,
        "peak_memory": MEMORY,
        "files": files,
    }


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Exported files, with those in folders, each once.

    Raises:
        UserError: a folder that holds none.
    """
    models: dict[Path, None] = {}
    for path in paths:
        files = sorted(path.glob("*.tflite")) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path} holds no .tflite files: name a run that exported, or a file.")
        models |= dict.fromkeys(files)
    return [*models]


def _facts(path: Path, interpreter: Any, card: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """What of a file is there to be read."""
    done = work(path.read_bytes()[: card["model_bytes"]])
    samples = card.get("samples", 0) if {"audio", "features"} & {*card.get("inputs", ["audio"])} else 0
    return {
        "file": str(path),
        "student": card.get("student"),
        "precision": card["precision"],
        "takes": card["input"],
        "classes": len(labels),
        "dimensions": [*card.get(DIMENSIONS, {"names": ()})["names"]],
        "seconds": samples / card["sample_rate"] if samples else None,
        "bytes": path.stat().st_size,
        "model_bytes": card["model_bytes"],
        "parameters": card.get("parameters"),
        "weights": done.weights,
        "operators": done.operators,
        "delegation": delegation(interpreter),
        "multiply_adds": {"front_end": done.front_end, "network": done.network},
        "folds_students": folds_students(card),
    }


def checked_threads(threads: Sequence[int] | None) -> tuple[int, ...]:
    """Numbers of threads that this machine has cores for; by default 1 and, where there are two cores, 2.

    Raises:
        UserError: this machine has fewer cores.
    """
    cores = core_count()
    if threads is None:
        return tuple(count for count in (1, 2) if count <= cores)
    if more := [count for count in threads if count > cores]:
        raise UserError(
            f"{pluralise(more[0], 'thread')} cannot be measured: this machine has "
            f"{pluralise(cores, 'core')}, and no file is run on more threads."
        )
    return tuple(threads)
