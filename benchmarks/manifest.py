"""Loading a manifest of 1,000,000 rows, against `csv.DictReader` over the same file.

    python benchmarks/manifest.py

Each reader runs in a process of its own, three times; the fastest counts. The goal is below 10 s and 2 GB.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 1_000_000
EMOTIONS = ("anger", "happiness", "neutral", "sadness")


def write(path: Path) -> None:
    """A manifest with every optional column and four soft labels."""
    columns = ("path", "emotion", "speaker", "id", "session", "dialog", "transcript", "split", *EMOTIONS)
    lines = [",".join(columns)]
    for row in range(ROWS):
        emotion = EMOTIONS[row % 4]
        shares = ",".join("0.7" if name == emotion else "0.1" for name in EMOTIONS)
        speaker, session = f"speaker{row % 500:03}", f"session{row % 50:02}"
        lines.append(
            f"audio/{speaker}/{row:07}.wav,{emotion},{speaker},u{row:07},{session},{session}_{row % 1000},"
            f'"What was said, at some length, in row {row}.",train,{shares}'
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(reader: str, path: str) -> None:
    """Run one reader and print its time and this process's highest memory."""
    if reader == "manifest":
        from light_sernet_kd.corpora.registry import load

        start, busy = time.perf_counter(), time.process_time()
        count = len(load(path, Path()).utterances)
    else:
        import csv

        start, busy = time.perf_counter(), time.process_time()
        with open(path, encoding="utf-8", newline="") as file:
            count = len(list(csv.DictReader(file)))
    seconds, processor = time.perf_counter() - start, time.process_time() - busy
    # kilobytes, but bytes on a Mac
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"rows": count, "seconds": seconds, "processor": processor, "megabytes": peak / 1e6}))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        write(path)
        results = {}
        for reader in ("DictReader", "manifest"):
            command = [sys.executable, __file__, reader, str(path)]
            runs = [json.loads(subprocess.check_output(command, text=True)) for _ in range(3)]
            results[reader] = best = min(runs, key=lambda run: run["seconds"])
            print(
                f"{reader:10}  {best['rows']:,} rows  {best['seconds']:.2f} s "
                f"({best['processor']:.2f} s of processor time)  {best['megabytes']:.0f} MB"
            )
    ratio = results["manifest"]["seconds"] / results["DictReader"]["seconds"]
    print(f"manifest takes {ratio:.1f} times as long as DictReader, and checks every cell.")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(*sys.argv[1:])
    else:
        main()
