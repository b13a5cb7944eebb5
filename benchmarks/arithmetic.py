"""Do scores move when convolutions are computed in bfloat16? Compared with what the seed alone does.

    python benchmarks/arithmetic.py --data DIR --seeds 3 --folds 03,08 --epochs 12

Trains the same folds with `--arithmetic float32` and `bfloat16` for several seeds. In short runs the score of
a single epoch jumps by tens of points, whatever the arithmetic, so it prints means over the second half of
the epochs: of the validation UA and of the training loss; then the mean difference and its standard error.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from light_sernet_kd.cli import main as light_sernet_kd
from light_sernet_kd.training.history import read_history


def second_half(
    arguments: argparse.Namespace, arithmetic: str, seed: int, result: str
) -> tuple[float, float]:
    """Mean validation UA in per cent and mean training loss over folds and the second half of the epochs."""
    run = f"{arithmetic}-{seed}"
    code = light_sernet_kd(
        ["train", "-dn", arguments.corpus, "-id", "3", "--folds", arguments.folds, "--epochs",
         str(arguments.epochs), "--learning_rate", "3e-4", "--bn_momentum", "0.9", "--seed", str(seed),
         "--arithmetic", arithmetic, "--no-export", "--run", run, "--result", result, "-v", "0",
         "--data", str(arguments.data)]
    )  # fmt: skip
    if code:
        raise SystemExit(code)
    histories = [read_history(path) for path in sorted((Path(result) / run).glob("fold-*/history.csv"))]
    half = arguments.epochs // 2
    return (
        100 * statistics.mean(value for history in histories for value in history["val_ua"][half:]),
        statistics.mean(value for history in histories for value in history["loss"][half:]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data")))
    parser.add_argument("--corpus", default="EMO-DB")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", default="03,08")
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    outcomes: dict[str, list[tuple[float, float]]] = {"float32": [], "bfloat16": []}
    with tempfile.TemporaryDirectory() as result:
        for seed in range(arguments.seeds):
            for arithmetic, column in outcomes.items():
                column.append(second_half(arguments, arithmetic, seed, result))
                ua, loss = column[-1]
                print(
                    f"seed {seed}, {arithmetic}: UA {ua:.1f} %, training loss {loss:.3f}",
                    flush=True,
                )
    for position, (what, unit) in enumerate((("validation UA", " points"), ("training loss", ""))):
        columns = {name: [pair[position] for pair in column] for name, column in outcomes.items()}
        differences = [b - a for a, b in zip(*columns.values(), strict=True)]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        spread = statistics.stdev(columns["float32"])
        print(
            f"{what}: bfloat16 - float32 {statistics.mean(differences):+.3f}{unit}, "
            f"standard error {error:.3f}; float32's standard deviation over seeds {spread:.3f}"
        )


if __name__ == "__main__":
    main()
