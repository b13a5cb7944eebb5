"""Do scores move when convolutions are computed in bfloat16? Compared with what the seed alone does.

    python benchmarks/arithmetic.py --data DIR --seeds 3 --folds 03,08 --epochs 20

Trains the same folds with `--arithmetic float32` and `bfloat16` for several seeds and prints each one's
pooled test UA at the last epoch (no epoch is chosen, which would add noise), the mean difference of the two,
and the standard deviation over seeds.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from light_sernet_kd.cli import main as light_sernet_kd


def last_epoch_ua(arguments: argparse.Namespace, arithmetic: str, seed: int, result: str) -> float:
    run = f"{arithmetic}-{seed}"
    code = light_sernet_kd(
        ["train", "-dn", arguments.corpus, "-id", "3", "--folds", arguments.folds, "--epochs",
         str(arguments.epochs), "--learning_rate", "1e-3", "--bn_momentum", "0.9", "--seed", str(seed),
         "--arithmetic", arithmetic, "--no-export", "--run", run, "--result", result, "-v", "0",
         "--data", str(arguments.data)]
    )  # fmt: skip
    if code:
        raise SystemExit(code)
    metrics = json.loads((Path(result) / run / "metrics.json").read_text(encoding="utf-8"))
    return 100 * metrics["pooled_last_epoch"]["ua"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data")))
    parser.add_argument("--corpus", default="EMO-DB")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", default="03,08")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    scores: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    with tempfile.TemporaryDirectory() as result:
        for seed in range(arguments.seeds):
            for arithmetic, column in scores.items():
                column.append(last_epoch_ua(arguments, arithmetic, seed, result))
            latest = ", ".join(f"{name} {column[-1]:.1f} %" for name, column in scores.items())
            print(f"seed {seed}: UA {latest}", flush=True)
    for arithmetic, column in scores.items():
        spread = statistics.stdev(column)
        print(f"{arithmetic}: mean {statistics.mean(column):.1f} %, standard deviation {spread:.1f}")
    differences = [b - a for a, b in zip(*scores.values(), strict=True)]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    print(f"bfloat16 - float32: {statistics.mean(differences):+.1f} points, standard error {error:.1f}")


if __name__ == "__main__":
    main()
