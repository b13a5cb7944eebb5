"""How much longer engine `jax` takes than `tf` for an epoch of Light-SERNet on a processor; goal: 1.6 times.

    python benchmarks/engines.py --data DIR

Both train one network on the first fold of EMO-DB, with validation, in turn, each in a process of its own, so
that other work on the machine slows both. The quickest epoch of each counts, the first ones left out.
"""

import argparse
import functools
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

BACKENDS = {"tf": "tensorflow", "jax": "jax"}


def epochs(engine: str, arithmetic: str, data: Path, count: int) -> list[float]:
    """Seconds of each epoch but the first, in this process."""
    from light_sernet_kd import students
    from light_sernet_kd.config import Settings
    from light_sernet_kd.data import feature_cache
    from light_sernet_kd.data.batches import Examples
    from light_sernet_kd.data.selection import selected
    from light_sernet_kd.features import feature_shape
    from light_sernet_kd.registries.schedules import SCHEDULES
    from light_sernet_kd.training.job import TrainingJob
    from light_sernet_kd.training.network import Network, NetworkSpec

    settings = Settings(corpus="EMO-DB")
    selection = selected(settings, data)
    with tempfile.TemporaryDirectory() as folder:
        rows = feature_cache.features(
            selection.utterances, selection.fingerprints, front_end="lsn", input_type="mfcc",
            samples=settings.samples, cache=feature_cache.Cache(Path(folder), "ram"),
        )  # fmt: skip
        shape = feature_shape("lsn", "mfcc", settings.samples)
        build = functools.partial(students.build, "light_sernet", shape, len(selection.classes))
        schedule = SCHEDULES["light_sernet"].changed(epochs=count)
        network = Network(NetworkSpec(build, schedule, "cross_entropy", {}, arithmetic=arithmetic))
        ends: list[float] = []
        fold = selection.folds[0]
        job = TrainingJob(
            examples=Examples(rows, selection.labels, selection.classes), train=fold.train,
            validation=fold.validation, seed=0, checkpoint=Path(folder) / "checkpoint.npz",
            progress=lambda *_: ends.append(time.perf_counter()),
        )  # fmt: skip
        if engine == "tf":
            network.train(job)
        else:
            from light_sernet_kd.training.vectorised.together import train_together

            train_together([(network, job)])
    return [after - before for before, after in itertools.pairwise(ends)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data")))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.of:
        print(*epochs(*arguments.of, arguments.data, arguments.epochs))
        return
    cases = [("tf", "auto"), ("tf", "float32"), ("jax", "auto")]
    best: dict[tuple[str, str], float] = {}
    for _ in range(arguments.rounds):
        for case in cases:
            command = [sys.executable, __file__, "--data", str(arguments.data.resolve()), "--of", *case]
            environment = os.environ | {"KERAS_BACKEND": BACKENDS[case[0]], "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(
                [*command, "--epochs", str(arguments.epochs)], env=environment, capture_output=True,
                text=True, check=True,
            )  # fmt: skip
            quickest = min(map(float, done.stdout.split()))
            best[case] = min(best.get(case, quickest), quickest)
    for (engine, arithmetic), seconds in best.items():
        print(
            f"{engine:4} {arithmetic:8} {seconds:6.2f} s an epoch, {seconds / best[cases[0]]:.2f} times tf's"
        )


if __name__ == "__main__":
    main()
