"""A grid of Light-SERNets, trained together on JAX: what a network's epoch costs, and the scores.

    python benchmarks/gpu_grid.py --data DIR --teacher FILE
    python benchmarks/gpu_grid.py --data DIR --teacher FILE --networks "" --whole

The networks are the folds × 5 methods × 3 seeds, in this order of change: on EMO-DB the first 10 are the
folds of one method and seed, the first 50 those of all methods. Each line is measured after a first epoch,
which compiles. On a processor, which computes them no faster together, name few networks:

    JAX_PLATFORMS=cpu python benchmarks/gpu_grid.py --data DIR --teacher FILE --networks 1,2,3 --measured 2
"""

import argparse
import dataclasses
import functools
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import keras
import numpy as np

from light_sernet_kd import evaluation, students, teachers
from light_sernet_kd.config import Settings
from light_sernet_kd.data import feature_cache
from light_sernet_kd.data.batches import Examples, TeacherOutputs
from light_sernet_kd.data.protocols import fold_seed
from light_sernet_kd.data.selection import selected
from light_sernet_kd.features import feature_shape
from light_sernet_kd.registries.schedules import SCHEDULES
from light_sernet_kd.training.accelerate import arithmetic
from light_sernet_kd.training.job import DivergenceError, TrainingJob
from light_sernet_kd.training.network import Network, NetworkSpec
from light_sernet_kd.training.vectorised import together
from light_sernet_kd.training.vectorised.together import train_together
from light_sernet_kd.training.vectorised.twins import LAYERS

METHODS = ("pure", "KD", "RKD", "DKD", "CKD")
SEEDS = (0, 1, 2)


def settings_of(arguments: argparse.Namespace) -> Settings:
    return Settings(corpus=arguments.corpus, input_seconds=arguments.seconds)


def networks(arguments: argparse.Namespace, folder: Path) -> list[tuple[str, int, Network, TrainingJob]]:
    """Method, fold, network and job of each network of the grid."""
    settings = settings_of(arguments)
    selection = selected(settings, arguments.data)
    cache = feature_cache.Cache(folder, "ram")
    rows = feature_cache.features(
        selection.utterances, selection.fingerprints, front_end="lsn", input_type="mfcc",
        samples=settings.samples, cache=cache,
    )  # fmt: skip
    examples = Examples(rows, selection.labels, selection.classes)
    shape = feature_shape("lsn", "mfcc", settings.samples)
    build = functools.partial(
        students.build, "light_sernet", shape, len(selection.classes), width=arguments.width
    )
    schedule = SCHEDULES["light_sernet"].changed(epochs=arguments.epochs)
    teacher = teachers.read(arguments.teacher)
    shared: dict[str, Network] = {}
    made = []
    for seed in SEEDS:
        for method in METHODS:
            for number, fold in enumerate(selection.folds):
                if method not in shared:
                    spec = NetworkSpec(
                        build, schedule, "cross_entropy", {}, distillation=method,
                        arithmetic=arguments.arithmetic,
                    )  # fmt: skip
                    shared[method] = Network(spec)
                logits = teachers.aligned(teacher, selection.utterances, selection.classes, fold.name)
                job = TrainingJob(
                    examples=examples, train=fold.train, validation=fold.validation,
                    seed=fold_seed(seed, f"student {fold.name}"), checkpoint=folder / f"{len(made)}.npz",
                    teacher_outputs=None if method == "pure" else TeacherOutputs(logits),
                )  # fmt: skip
                made.append((method, number, shared[method], job))
    return made


def timed(grid, count: int, epochs: int) -> tuple[float, float]:
    """Seconds of the first epoch, which compiles, and of a later one."""
    ends: list[float] = []
    jobs = [(network, dataclasses.replace(job, epochs=epochs)) for _, _, network, job in grid[:count]]
    began = time.perf_counter()
    train_together(jobs, progress=lambda *_: ends.append(time.perf_counter()), checkpoint_every=np.inf)
    if len(ends) != epochs:
        sys.exit(f"{count} networks are not trained at once here: name fewer")
    return ends[0] - began, (ends[-1] - ends[0]) / (epochs - 1)


def timed_alone(grid, epochs: int) -> float:
    """Seconds of a later epoch of the first network as Keras' own `fit` trains it, float32."""
    _, _, network, job = grid[0]
    model = keras.models.clone_model(network.student)
    model.compile(keras.optimizers.Adam(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ends: list[float] = []
    noted = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    rows, labels = np.asarray(job.examples.rows), job.examples.labels
    train, validation = list(job.train), list(job.validation)
    model.fit(
        rows[train], labels[train], batch_size=32, epochs=epochs, verbose=0, callbacks=[noted],
        validation_data=(rows[validation], labels[validation]),
    )  # fmt: skip
    return (ends[-1] - ends[0]) / (epochs - 1)


def peak_gb() -> float:
    """Of the GPU's memory, or of this process on a processor."""
    stats = jax.devices()[0].memory_stats()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return stats["peak_bytes_in_use"] / 2**30 if stats else kilobytes / 2**20


def whole(grid, selection_labels, tests, classes, epochs: int) -> None:
    """Train all, and say what each method scores: UA pooled over folds, mean over seeds."""
    ends: list[float] = []
    began = time.perf_counter()
    jobs = [(network, job) for _, _, network, job in grid]
    outcomes = train_together(
        jobs, progress=lambda *_: ends.append(time.perf_counter()), checkpoint_every=np.inf
    )
    seconds = time.perf_counter() - began
    print(f"{len(grid)} networks, {epochs} epochs: {seconds / 60:.1f} min, of which the first epoch "
          f"{ends[0] - began:.0f} s")  # fmt: skip
    diverged = sum(isinstance(each, DivergenceError) for each in outcomes)
    if diverged:
        print(f"{diverged} diverged")
    by_method: dict[str, list[np.ndarray]] = {}
    labels = np.concatenate([selection_labels[list(test)] for test in tests])
    for start in range(0, len(grid), len(tests)):
        predicted = []
        for (_, number, network, job), trained in zip(
            grid[start : start + len(tests)], outcomes[start : start + len(tests)], strict=True
        ):
            logits = network.logits(trained.last, job.examples.rows, tests[number])
            predicted.append(logits.argmax(axis=1))
        scores = evaluation.scores(labels, np.concatenate(predicted), classes)
        by_method.setdefault(grid[start][0], []).append(scores.ua)
    for method, values in by_method.items():
        print(f"  {method:5} UA {100 * np.mean(values):5.1f} % ± {100 * np.std(values, ddof=1):3.1f} over "
              f"{len(values)} seeds, last epoch")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data")))
    parser.add_argument("--corpus", default="EMO-DB", help="by default EMO-DB")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a clip (3)")
    parser.add_argument("--width", type=float, default=1.0, help="of the networks (1)")
    parser.add_argument("--teacher", type=Path, required=True, help="a teacher's file for the corpus, loso")
    parser.add_argument("--networks", default="1,10", help="how many together, between commas")
    parser.add_argument("--measured", type=int, default=4, help="epochs of each measurement")
    parser.add_argument("--fit", action="store_true", help="also one network in Keras' own fit")
    parser.add_argument("--whole", action="store_true", help="train the whole grid")
    parser.add_argument("--epochs", type=int, default=60, help="of the whole grid")
    parser.add_argument(
        "--grouped", action="store_true", help="convolutions as Keras has them, for comparison"
    )
    parser.add_argument("--arithmetic", default="auto", choices=("auto", "bfloat16", "float32"))
    arguments = parser.parse_args()
    if arguments.grouped:
        del LAYERS[keras.layers.Conv2D]
    device = jax.devices()[0]
    print(
        f"{device.device_kind} ({device.platform}), JAX {jax.__version__}, {arithmetic(arguments.arithmetic)}"
    )
    counts = [int(each) for each in arguments.networks.split(",") if each]
    if device.platform == "cpu" and counts:  # where training takes them one after another
        together.most_together = lambda network: max(counts)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        grid = networks(arguments, Path(folder))
        print(f"corpus, features and networks: {time.perf_counter() - began:.1f} s", flush=True)
        alone, fit = None, None
        if arguments.fit:
            fit = timed_alone(grid, arguments.measured)
            print(f"   1 network in Keras' fit: {fit:.4f} s per epoch", flush=True)
        for count in counts:
            first, later = timed(grid, count, arguments.measured)
            each = later / count
            alone = alone or each
            beside = f"1 / {alone / each:.1f} of the first line"
            beside += f", 1 / {fit / each:.1f} of fit" if fit else ""
            print(f"{count:4} networks: first epoch {first:6.1f} s, then {each:.4f} s per network-epoch "
                  f"({beside}), peak {peak_gb():.1f} GB", flush=True)  # fmt: skip
        if arguments.whole:
            selection = selected(settings_of(arguments), arguments.data)
            tests = [fold.test for fold in selection.folds]
            whole(grid, selection.labels, tests, selection.classes, arguments.epochs)


if __name__ == "__main__":
    main()
