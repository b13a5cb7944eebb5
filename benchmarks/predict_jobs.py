"""How much sooner `predict --jobs 2` answers 1,000 short recordings than `--jobs 1`; goal: 1.8 times.

    python benchmarks/predict_jobs.py

The recordings are pieces of the package's examples, each another piece. Both are asked in turn, each time in
a process of its own, whose start counts too. The quickest of each counts. Answers must be the same.
"""

import argparse
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


def write_recordings(folder: Path, count: int) -> None:
    """Pieces of 0.8 to 1.5 s, drawn with a fixed seed."""
    from light_sernet_kd.device.shipped import examples

    sounds = [soundfile.read(path, dtype="int16") for path in examples()]
    random = np.random.default_rng(0)
    for number in range(count):
        sound, rate = sounds[number % len(sounds)]
        length = int(random.uniform(0.8, 1.5) * rate)
        start = random.integers(len(sound) - length)
        soundfile.write(folder / f"{number:05}.wav", sound[start : start + length], rate)


def answers(folder: Path, jobs: int) -> tuple[float, list[str]]:
    """Seconds, and the rows of all answers."""
    command = [sys.executable, "-m", "light_sernet_kd", "predict", str(folder), "--format", "csv"]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--jobs", str(jobs)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr)
    return seconds, sorted(done.stdout.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    best: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recordings(folder, arguments.files)
        for _ in range(arguments.rounds):
            told = {}
            for jobs in (1, 2):
                seconds, told[jobs] = answers(folder, jobs)
                best[jobs] = min(best.get(jobs, seconds), seconds)
            if told[1] != told[2] or len(told[1]) != arguments.files + 1:
                sys.exit("--jobs 2 answers otherwise than --jobs 1")
    for jobs, seconds in best.items():
        print(f"--jobs {jobs}: {seconds:6.2f} s, {1000 * seconds / arguments.files:.2f} ms a recording")
    print(f"{arguments.files:,} recordings: {best[1] / best[2]:.2f} times as fast with --jobs 2")


if __name__ == "__main__":
    main()
