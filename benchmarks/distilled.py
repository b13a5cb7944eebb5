"""What decided the recipe `distilled`: ways to teach a student, on inner folds.

    python benchmarks/distilled.py --data DIR --rows compare=compare.npz --rows whisper=whisper.npz pure kd …
    python benchmarks/distilled.py --table distilled.jsonl
    python benchmarks/distilled.py --runs result/one result/two --folds 03 08 10 09

As `choices.py`: a method is trained on some of a corpus' speakers and scored on others, clean and degraded;
`HELD_OUT` there names the groups that are scored. The student is that of the recipe `robust`. Scores are of
the mean of the weights after each of the last quarter of the epochs. What is in the file is not trained
again.

Probes read `ids` and `X` `(utterances, width)` of the files of `--rows`, standardised by speaker, and are
cross-fitted as `--teacher` fits them. Networks of ours (`own`) are the student, wider by `width`, trained
alike on the same speakers; they are asked of every batch as the student sees it.

`--runs` scores some folds of finished runs together.
"""

import argparse
import dataclasses
import functools
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from choices import CONDITIONS, HELD_OUT, SAMPLES, WORLD, Task, by_group, lines_of


@dataclass(frozen=True)
class Method:
    """What is tried.

    Attributes:
        distillation, settings: as `Distiller` takes them.
        sources: names of `--rows`, whose probes' logits are averaged.
        own: how many networks of ours teach, each `width` times as wide as the student.
        probes_weight: of the probes' logits beside the networks', where both teach.
        own_method: how these were taught themselves.
        augmentation: beyond the recipe's.
        epochs: factor.
    """

    distillation: str = "pure"
    settings: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    own: int = 0
    width: float = 1.0
    probes_weight: float = 0.0
    own_method: str = "pure"
    augmentation: str = ""
    epochs: float = 1.0
    label_smoothing: float = 0.0


COMPONENTS = 64  # of the probes' embeddings, which losses on embeddings compare
_BOTH = ("whisper", "compare")
_KD = Method("KD", {"temperature": 2.0, "alpha": 0.5}, _BOTH)
_OWN = Method("KD", {"temperature": 2.0, "alpha": 0.9}, own=3)
METHODS = {
    "pure": Method(),
    "pure-long": Method(epochs=2.0),
    "smooth": Method(label_smoothing=0.1),
    "mixup": Method(augmentation="mixup"),
    "kd": _KD,
    "kd-9": dataclasses.replace(_KD, settings={"temperature": 2.0, "alpha": 0.9}),
    "kd-long": dataclasses.replace(_KD, epochs=2.0),
    "kd-compare": dataclasses.replace(_KD, sources=("compare",)),
    "kd-whisper": dataclasses.replace(_KD, sources=("whisper",)),
    "kd-mixup": dataclasses.replace(_KD, augmentation="mixup"),
    "kd-hint": dataclasses.replace(
        _KD, distillation="KD+hint:1", settings={"KD.temperature": 2.0, "KD.alpha": 0.5}
    ),
    "kd-hint-3": dataclasses.replace(
        _KD, distillation="KD+hint:3", settings={"KD.temperature": 2.0, "KD.alpha": 0.5}
    ),
    "kd-hint-9": dataclasses.replace(
        _KD, distillation="KD+hint:1", settings={"KD.temperature": 2.0, "KD.alpha": 0.9}
    ),
    "kd-pkt": dataclasses.replace(
        _KD, distillation="KD+PKT:100", settings={"KD.temperature": 2.0, "KD.alpha": 0.5}
    ),
    "own": _OWN,
    "own-1": dataclasses.replace(_OWN, own=1),
    "own-5": dataclasses.replace(_OWN, own=5),
    "own-wide": dataclasses.replace(_OWN, own=2, width=1.5),
    "own-kd": dataclasses.replace(_OWN, own_method="kd"),
    "own-and-probes": dataclasses.replace(_OWN, sources=_BOTH, probes_weight=0.5),
    "own-kd-and-probes": dataclasses.replace(_OWN, sources=_BOTH, probes_weight=0.5, own_method="kd"),
}


@dataclass(frozen=True)
class Bench:
    """What the methods of one group share."""

    task: Task
    rows: Mapping[str, Path]

    @functools.cached_property
    def fold(self) -> Any:
        from light_sernet_kd.data.protocols import Fold

        train, scored = self.task.rows(scored=False), self.task.rows(scored=True)
        return Fold("-".join(self.task.group), tuple(train), (), tuple(scored))

    @functools.cached_property
    def features(self) -> np.ndarray:
        from light_sernet_kd.data import feature_cache

        clips = feature_cache.waveforms(self.task.selection.utterances, samples=SAMPLES, front_end="robust")
        return self.computed(clips)

    def computed(self, clips: np.ndarray) -> np.ndarray:
        from light_sernet_kd.data import feature_cache

        model = feature_cache.front_end_of("robust", "mfcc", SAMPLES)
        blocks = [clips[first : first + 64] for first in range(0, len(clips), 64)]
        return np.concatenate([model.predict_on_batch(block) for block in blocks])

    def probes(self, sources: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Logits and embeddings of the fold's probes, for every utterance."""
        from light_sernet_kd import teachers
        from light_sernet_kd.teachers import probe
        from light_sernet_kd.teachers.components import fit_components
        from light_sernet_kd.teachers.sources import at_own_temperature

        selection, made = self.task.selection, []
        for name in sources:
            with np.load(self.rows[name]) as file:
                row_of = {each: row for row, each in enumerate(file["ids"].tolist())}
                values = file["X"][[row_of[each.id] for each in selection.utterances]]
            teacher = probe.probe_teacher(
                values,
                selection.utterances,
                selection.classes,
                [self.fold],
                card={"made_by": name},
                options=probe.ProbeOptions(standardise_speakers=True),
            )
            made.append(at_own_temperature(teacher, selection, [self.fold]))
        joined = teachers.ensemble(made)
        embeddings = np.asarray(joined.embeddings[0])
        return joined.logits[0], fit_components(embeddings[list(self.fold.train)], COMPONENTS)(embeddings)


class _Mixed:
    """Networks' answers and the probes' logits, in a mean of these weights."""

    def __init__(self, asked: Any, logits: np.ndarray, weight: float):
        self.asked, self.logits, self.weight, self.widths = asked, logits, weight, asked.widths

    def __call__(self, features: np.ndarray, utterances: np.ndarray) -> dict[str, np.ndarray]:
        said = self.asked(features, utterances)
        own = self.weight * self.logits[utterances]
        return {name: (1 - self.weight) * values + own for name, values in said.items()}


def network_of(bench: Bench, method: Method, width: float = 1.0, embedding: int | None = None) -> Any:
    from light_sernet_kd import students
    from light_sernet_kd.distillation.distiller import TeacherWidths
    from light_sernet_kd.registries.schedules import SCHEDULES
    from light_sernet_kd.training.network import Network, NetworkSpec

    shape, classes = bench.features.shape[1:], len(bench.task.selection.classes)
    epochs = round(bench.task.epochs * method.epochs)
    return Network(
        NetworkSpec(
            functools.partial(students.build, "light_sernet", shape, classes, width=width),
            SCHEDULES["robust"].changed(epochs=epochs),
            "cross_entropy",
            {"label_smoothing": method.label_smoothing},
            distillation=method.distillation,
            distillation_settings=dict(method.settings),
            teacher_widths=TeacherWidths(embedding=embedding),
        )
    )


def trained(bench: Bench, name: str, seed: int, width: float = 1.0) -> tuple[Any, list[np.ndarray]]:
    """The method's network, and its mean weights."""
    from light_sernet_kd.audio import augment
    from light_sernet_kd.data import augmenter, batches
    from light_sernet_kd.training.job import TrainingJob

    method, task = METHODS[name], bench.task
    outputs, embedding = None, None
    if method.distillation != "pure":
        logits = asked = None
        if method.sources:
            logits, embedding = bench.probes(method.sources)
        if method.own:
            asked = own_teacher(bench, method, seed)
            if logits is not None:
                asked = _Mixed(asked, logits, method.probes_weight)
        outputs = batches.TeacherOutputs(
            logits, embedding if "+" in method.distillation else None, batch_teacher=asked
        )
    network = network_of(bench, method, width, None if embedding is None else embedding.shape[-1])
    extra = f",{method.augmentation}" if method.augmentation else ""
    changes = augmenter.augmenter(
        augment.parse(WORLD + extra),
        task.selection.utterances,
        task.selection.fingerprints,
        front_end="robust",
        input_type="mfcc",
        samples=SAMPLES,
        cache_folder=task.cache,
    )
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(
            examples=batches.Examples(bench.features, task.selection.labels, task.selection.classes),
            train=task.rows(scored=False),
            validation=(),
            seed=seed,
            checkpoint=Path(folder) / "checkpoint.npz",
            augmenter=changes and dataclasses.replace(changes, every=2),
            teacher_outputs=outputs,
            keep="mean",
        )
        return network, network.train(job).selected


def own_teacher(bench: Bench, method: Method, seed: int) -> Any:
    """Networks trained as `own_method` says; they are kept, so that several methods share them."""
    from light_sernet_kd.arrays import read_arrays
    from light_sernet_kd.files import write_arrays
    from light_sernet_kd.training.accelerate import arithmetic
    from light_sernet_kd.training.teacher_networks import TeacherNetworks

    members, network = [], None
    for number in range(method.own):
        own_seed = 1000 * (seed + 1) + number
        facts = (
            bench.task.corpus,
            *bench.task.group,
            method.own_method,
            method.width,
            bench.task.epochs,
            own_seed,
        )
        path = bench.task.cache / f"own-{'-'.join(map(str, facts))}.npz"
        if not path.exists():
            network, weights = trained(bench, method.own_method, own_seed, method.width)
            write_arrays(path, {str(i): each for i, each in enumerate(weights)})
        kept = read_arrays(path)
        members.append([kept[str(i)] for i in range(len(kept))])
    network = network_of(bench, METHODS["pure"], method.width)
    networks = [network.student] * method.own
    asked = TeacherNetworks(networks, arithmetic=arithmetic("auto"), names=("teacher",))
    asked.set_weights(members)
    return asked


def measured(bench: Bench, name: str) -> dict[str, Any]:
    """The method's UA, WA and calibrated log loss under each condition."""
    from light_sernet_kd import evaluation
    from light_sernet_kd.evaluation.temperature import fit_temperature

    task = bench.task
    started = time.perf_counter()
    network, weights = trained(bench, name, task.seed)
    seconds = time.perf_counter() - started
    labels = task.selection.labels[task.rows(scored=True)]
    ua, wa, log_loss = {}, {}, {}
    for condition, heard in zip(CONDITIONS, task.degraded(), strict=True):
        features = bench.computed(heard)
        logits = network.logits(weights, features, range(len(features)))
        scores = evaluation.scores(labels, logits.argmax(axis=1), task.selection.classes)
        ua[condition], wa[condition] = scores.ua, scores.wa
        log_loss[condition] = evaluation.log_loss(labels, logits / fit_temperature(logits, labels))
    facts = {"corpus": task.corpus, "method": name, "group": task.group, "epochs": task.epochs}
    return {
        **facts,
        "seed": task.seed,
        "seconds": round(seconds, 1),
        "ua": ua,
        "wa": wa,
        "log_loss": log_loss,
    }


def table(path: Path) -> str:
    """Of each corpus and group of speakers, as Markdown: means over seeds."""
    columns = "UA, clean | WA, clean | log loss, clean | UA, degraded | WA, degraded | log loss, degraded"
    parts = []
    for title, mine in by_group(path):
        parts += ["", f"{title}:", "", f"| method | epochs | seeds | {columns} |", "|---" * 9 + "|"]
        for method, epochs in dict.fromkeys((each["method"], each["epochs"]) for each in mine):
            own = [each for each in mine if (each["method"], each["epochs"]) == (method, epochs)]
            cells = [f"`{method}`", str(epochs), ", ".join(str(each["seed"]) for each in own)]
            for conditions in (CONDITIONS[:1], CONDITIONS[1:]):
                for measure, factor in (("ua", 100), ("wa", 100), ("log_loss", 1)):
                    values = [[each[measure][name] for name in conditions] for each in own]
                    cells.append(f"{factor * np.mean(values):.{1 if factor > 1 else 3}f}")
            parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts[1:])


def table_of_runs(runs: list[Path], folds: list[str]) -> str:
    """Of each finished run's predictions for these folds together, as Markdown."""
    from light_sernet_kd import evaluation
    from light_sernet_kd.evaluation.predictions import read_predictions
    from light_sernet_kd.evaluation.temperature import fit_temperature

    parts = ["| run | recordings | UA | WA | log loss |", "|---" * 5 + "|"]
    for run in runs:
        told = read_predictions(run / "predictions.csv")
        rows = np.flatnonzero(np.isin(told.folds, folds))
        labels, logits = told.labels[rows], np.log(np.maximum(told.probabilities[rows], 1e-9))
        scores = evaluation.scores(labels, told.predicted[rows], told.classes)
        loss = evaluation.log_loss(labels, logits / fit_temperature(logits, labels))
        cells = [f"`{run.name}`", str(len(rows)), f"{100 * scores.ua:.1f}", f"{100 * scores.wa:.1f}"]
        parts.append(f"| {' | '.join([*cells, f'{loss:.3f}'])} |")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("methods", nargs="*", choices=[*METHODS, []], metavar="METHOD")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--corpus", default="EMO-DB", choices=HELD_OUT)
    parser.add_argument("--rows", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--groups", type=int, help="only so many of the groups")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("distilled.jsonl"))
    parser.add_argument("--cache", type=Path, default=Path("result/choices"))
    parser.add_argument("--table", type=Path, help="print the table of this file and train nothing")
    parser.add_argument("--runs", type=Path, nargs="+", help="print the scores of these and train nothing")
    parser.add_argument("--folds", nargs="+", default=["03", "08", "10", "09"], help="of --runs")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.table))
        return
    if arguments.runs:
        print(table_of_runs(arguments.runs, arguments.folds))
        return
    arguments.cache.mkdir(parents=True, exist_ok=True)
    rows = {name: Path(path) for name, path in (each.split("=", 1) for each in arguments.rows)}
    for seed in arguments.seeds:
        for group in HELD_OUT[arguments.corpus][: arguments.groups]:
            task = Task(arguments.data, arguments.cache, arguments.corpus, group, arguments.epochs, seed)
            bench = Bench(task, rows)
            for name in arguments.methods:
                wanted = (arguments.corpus, name, list(group), arguments.epochs, seed)
                keys = ("corpus", "method", "group", "epochs", "seed")
                if wanted in [tuple(each[key] for key in keys) for each in lines_of(arguments.out)]:
                    continue
                made = measured(bench, name)
                with open(arguments.out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(made) + "\n")
                print(
                    name,
                    *group,
                    f"{made['seconds']} s, clean UA {100 * made['ua']['clean']:.1f} %",
                    flush=True,
                )
    print(table(arguments.out))


if __name__ == "__main__":
    main()
