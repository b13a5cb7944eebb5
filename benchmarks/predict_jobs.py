"""How much sooner `predict --jobs 2` answers 1,000 recordings than `--jobs 1`; goal: 1.8 times.

    python benchmarks/predict_jobs.py

The recordings are pieces of the package's examples, each another piece of 2 to 6 s. Each way is timed in
turn, in processes of its own, whose start counts too, and the quickest time of each counts. Answers must be
the same. Two processes that each answer half of the list, and know nothing of each other, show what the
machine allows.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

# Run as a script, only benchmarks/ is on the path.
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def write_recordings(folder: Path, count: int) -> list[str]:
    """Pieces of 2 to 6 s of all examples in a row, drawn with a fixed seed; returns their paths."""
    from light_sernet_kd.device.shipped import examples

    sounds, rates = zip(*(soundfile.read(path, dtype="int16") for path in examples()), strict=True)
    sound, rate = np.concatenate([*sounds] * 2), rates[0]
    random, paths = np.random.default_rng(0), []
    for number in range(count):
        length = int(random.uniform(2, 6) * rate)
        start = random.integers(len(sound) - length)
        paths.append(str(folder / f"{number:05}.wav"))
        soundfile.write(paths[-1], sound[start : start + length], rate)
    return paths


def timed(folder: Path, lists: list[list[str]], jobs: int = 1) -> tuple[float, list[str]]:
    """Seconds for a process per list, all at once, and the rows of all answers."""
    command = [sys.executable, "-m", "light_sernet_kd", "predict", "--format", "csv", "--jobs", str(jobs)]
    with contextlib.ExitStack() as stack:
        processes, outputs = [], []
        for number, paths in enumerate(lists):
            (folder / f"{number}.txt").write_text("\n".join(paths))
            # To a file: a pipe that nobody reads yet would hold its process up.
            outputs.append(stack.enter_context(open(folder / f"{number}.csv", "w+", encoding="utf-8")))
        began = time.perf_counter()
        for number, output in enumerate(outputs):
            ask = [*command, f"@{folder / f'{number}.txt'}"]
            processes.append(subprocess.Popen(ask, cwd=ROOT, stdout=output, stderr=subprocess.DEVNULL))
        codes = [process.wait() for process in processes]
        seconds = time.perf_counter() - began
        if any(codes):
            sys.exit("predict failed")
        rows: set[str] = set()
        for output in outputs:
            output.seek(0)
            rows.update(output.read().splitlines())
    return seconds, sorted(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_recordings(folder, arguments.files)
        ways = {
            "--jobs 1": ([paths], 1),
            "--jobs 2": ([paths], 2),
            "two by hand": ([paths[::2], paths[1::2]], 1),
        }
        for _ in range(arguments.rounds):
            told = {}
            for way, (lists, jobs) in ways.items():
                seconds, told[way] = timed(folder, lists, jobs)
                best[way] = min(best.get(way, seconds), seconds)
            if len({tuple(rows) for rows in told.values()}) > 1 or len(told["--jobs 1"]) != len(paths) + 1:
                sys.exit("one way answers otherwise than another")
    for way, seconds in best.items():
        print(
            f"{way:>11}: {seconds:6.2f} s, {1000 * seconds / len(paths):5.2f} ms a recording, "
            f"{best['--jobs 1'] / seconds:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
