"""What decided the recipe `robust`: variants of front end, augmentation and training on inner folds.

    python benchmarks/choices.py --data DIR --corpus EMO-DB --out choices.jsonl lsn mel40 …
    python benchmarks/choices.py --table choices.jsonl

A variant is trained on some of a corpus' speakers and scored on others, clean and degraded as `stress` does
it. `HELD_OUT` names the groups of speakers that are scored, one after the other. All other speakers are never
scored here, so that what was chosen can be tested on them.

Scores are of the last epoch's weights, and of the mean of those after each of the last quarter of the epochs.
No epoch is chosen. A variant that is in the file already is not trained again.
"""

import argparse
import dataclasses
import functools
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Corpus → groups of speakers that variants are scored on.
HELD_OUT = {
    "EMO-DB": (("03", "08"), ("10", "09"), ("11", "13")),
    "RAVDESS": (("01", "02", "03", "04"), ("05", "06", "07", "08")),
}
# Neither trained on nor scored, which makes the training shorter.
LEFT_OUT = {"EMO-DB": (), "RAVDESS": tuple(f"{actor:02}" for actor in range(17, 25))}
CONDITIONS = (
    "clean", "white 20 dB", "babble 20 dB", "telephone", "MP3 64", "room 0.3 s", "gain +12 dB", "speed +5 %",
    "speed -5 %",
)  # fmt: skip
SAMPLES = 48_000


@dataclass(frozen=True)
class Variant:
    """What is tried.

    Attributes:
        front_end: changes of the front end `lsn`.
        schedule: changes of Light-SERNet's.
    """

    front_end: Mapping[str, Any]
    input_type: str
    augmentation: str
    schedule: Mapping[str, Any]
    label_smoothing: float = 0.0
    every: int = 1


NOISE = "noise:chance=0.7,speed"
WORLD = (
    "speed:chance=0.5,room:chance=0.3,noise:chance=0.4,babble:chance=0.2,microphone:chance=0.4,"
    "clipping,telephone:chance=0.2"
)
FAST = {"learning_rate": 1e-3, "batch_norm_momentum": 0.9, "decay_unit": "cosine", "warm_up": 2}
RELATIVE = {
    "normalise": "peak", "mel_bands": 40, "lowest_hz": 60.0, "compression": "relative", "centre": "mean",
}  # fmt: skip
MEL40 = Variant(RELATIVE, "mel_spectrogram", NOISE, FAST)


def _changed(variant: Variant, front_end: Mapping[str, Any] | None = None, **others: Any) -> Variant:
    merged = {**variant.front_end, **(front_end or {})}
    return dataclasses.replace(variant, front_end=merged, **others)


LSN = Variant({}, "mfcc", NOISE, FAST)
VARIANTS = {
    "lsn": LSN,
    "lsn-clean": _changed(LSN, augmentation=""),
    "mel40": MEL40,
    "mel40-clean": _changed(MEL40, augmentation=""),
    "mel40-60": _changed(MEL40, {"floor_db": 60.0}),
    "mel40-var": _changed(MEL40, {"centre": "variance"}),
    "mel40-no": _changed(MEL40, {"centre": "none"}),
    "mel64": _changed(MEL40, {"mel_bands": 64}),
    "mel80": _changed(MEL40, {"mel_bands": 80}),
    "mfcc40": _changed(MEL40, {"mel_bands": 64}, input_type="mfcc"),
    "mfcc40-no": _changed(MEL40, {"mel_bands": 64, "centre": "none"}, input_type="mfcc"),
    "mfcc40-4k": _changed(MEL40, {"mel_bands": 64, "highest_hz": 3800.0}, input_type="mfcc"),
    "mel40-4k": _changed(MEL40, {"highest_hz": 3800.0}),
    "mfcc40-tel": _changed(
        MEL40, {"mel_bands": 64, "lowest_hz": 250.0, "highest_hz": 3600.0}, input_type="mfcc"
    ),
    "mfcc40-high": _changed(MEL40, {"mel_bands": 64, "lowest_hz": 250.0}, input_type="mfcc"),
    "mfcc40-128": _changed(MEL40, {"mel_bands": 128}, input_type="mfcc"),
}
VARIANTS |= {f"{name}-world": _changed(each, augmentation=WORLD) for name, each in VARIANTS.items()}
_ROBUST = _changed(VARIANTS["mfcc40-tel-world"], every=2)
VARIANTS |= {
    "every2": _changed(VARIANTS["mfcc40-world"], every=2),
    "robust": _ROBUST,
    "voice": _changed(_ROBUST, {"voice": True, "coefficients": 37}),
    "gain": _changed(_ROBUST, augmentation=WORLD.replace("clipping", "gain:chance=0.3,clipping")),
    "phone": _changed(
        VARIANTS["mfcc40-world"],
        every=2,
        augmentation=WORLD.replace("telephone:chance=0.2", "telephone:chance=0.4").replace(
            "room:chance=0.3", "room:chance=0.4"
        ),
    ),
    "mixup": _changed(_ROBUST, augmentation=f"{WORLD},mixup"),
    "mixstyle": _changed(_ROBUST, augmentation=f"{WORLD},freqmixstyle"),
    "masks": _changed(
        _ROBUST, augmentation=f"{WORLD},specaugment:frequency_masks=0:time_most=0.1", label_smoothing=0.1
    ),
    "smooth": _changed(_ROBUST, label_smoothing=0.1),
    "paste": _changed(_ROBUST, augmentation=f"{WORLD},copypaste:chance=0.3,shift"),
}


@dataclass(frozen=True)
class Task:
    """A variant on the speakers of one group."""

    data: Path
    cache: Path
    corpus: str
    group: tuple[str, ...]
    epochs: int
    seed: int

    @functools.cached_property
    def selection(self) -> Any:
        from light_sernet_kd.config import Settings
        from light_sernet_kd.data.selection import selected

        return selected(Settings(corpus=self.corpus), self.data)

    def rows(self, *, scored: bool) -> list[int]:
        """The utterances that are scored, or those that are trained on."""
        return [
            i
            for i, each in enumerate(self.selection.utterances)
            if each.speaker not in LEFT_OUT[self.corpus] and (each.speaker in self.group) == scored
        ]

    def degraded(self) -> np.ndarray:
        """The scored recordings under each condition, `(conditions, utterances, samples)`; made once."""
        from light_sernet_kd import audio
        from light_sernet_kd.analysis.degradations import DegradationContext
        from light_sernet_kd.files import atomic
        from light_sernet_kd.registries.degradations import BABBLE_TALKERS
        from light_sernet_kd.registries.degradations import CONDITIONS as KNOWN

        path = self.cache / f"degraded-{self.corpus}-{'-'.join(self.group)}.npy"
        if not path.exists():
            utterances, scored = self.selection.utterances, self.rows(scored=True)
            recordings = {i: audio.read(utterances[i].path) for i in scored}
            made = np.zeros((len(CONDITIONS), len(scored), SAMPLES), np.float32)
            for row, i in enumerate(scored):
                others = [j for j in scored if utterances[j].speaker != utterances[i].speaker]
                talkers = np.random.default_rng(i).choice(others, BABBLE_TALKERS, replace=False)
                context = DegradationContext(0, utterances[i].id, [recordings[j] for j in talkers])
                for number, name in enumerate(CONDITIONS):
                    heard = KNOWN[name](recordings[i], context)
                    made[number, row] = audio.fit(heard, SAMPLES, pad="both")
            with atomic(path) as temporary, open(temporary, "wb") as file:
                np.save(file, made)
        return np.load(path)


def train(task: Task, name: str) -> dict[str, Any]:
    """The variant's UA under each condition, of either kind of weights."""
    from light_sernet_kd import evaluation, students
    from light_sernet_kd.audio import augment
    from light_sernet_kd.data import augmenter, batches, feature_cache
    from light_sernet_kd.features import feature_shape
    from light_sernet_kd.registries import front_ends
    from light_sernet_kd.registries.schedules import SCHEDULES
    from light_sernet_kd.training.job import TrainingJob
    from light_sernet_kd.training.network import Network, NetworkSpec

    variant, selection = VARIANTS[name], task.selection
    front_end, input_type = f"choice-{name}", variant.input_type
    spectrum = dataclasses.replace(front_ends.LSN, **variant.front_end)
    front_ends.FRONT_ENDS[front_end] = front_ends.FrontEnd({input_type: spectrum}, padding="both")
    clips = feature_cache.waveforms(selection.utterances, samples=SAMPLES, front_end=front_end)
    model = feature_cache.front_end_of(front_end, input_type, SAMPLES)
    compute = feature_cache.full_precision(model.predict_on_batch)
    rows = np.concatenate([compute(clips[first : first + 64]) for first in range(0, len(clips), 64)])
    shape, classes = feature_shape(front_end, input_type, SAMPLES), selection.classes
    network = Network(
        NetworkSpec(
            functools.partial(students.build, "light_sernet", shape, len(classes)),
            SCHEDULES["light_sernet"].changed(epochs=task.epochs, **variant.schedule),
            "cross_entropy",
            {"label_smoothing": variant.label_smoothing},
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        changes = augmenter.augmenter(
            augment.parse(variant.augmentation),
            selection.utterances,
            selection.fingerprints,
            front_end=front_end,
            input_type=input_type,
            samples=SAMPLES,
            cache_folder=task.cache,
        )
        job = TrainingJob(
            examples=batches.Examples(rows, selection.labels, classes),
            train=task.rows(scored=False),
            validation=(),
            seed=task.seed,
            checkpoint=Path(folder) / "checkpoint.npz",
            augmenter=changes and dataclasses.replace(changes, every=variant.every),
            keep="mean",
        )
        started = time.perf_counter()
        trained = network.train(job)
        seconds = time.perf_counter() - started
    labels = selection.labels[task.rows(scored=True)]
    scores: dict[str, dict[str, float]] = {"last": {}, "mean": {}}
    for condition, heard in zip(CONDITIONS, task.degraded(), strict=True):
        features = np.concatenate([compute(heard[first : first + 64]) for first in range(0, len(heard), 64)])
        for kept, weights in (("last", trained.last), ("mean", trained.selected)):
            predicted = network.logits(weights, features, range(len(features))).argmax(axis=1)
            scores[kept][condition] = evaluation.scores(labels, predicted, classes).ua
    facts = {"corpus": task.corpus, "variant": name, "group": task.group, "epochs": task.epochs}
    return {**facts, "seed": task.seed, "seconds": round(seconds, 1), "ua": scores}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def by_group(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Of each corpus and group of speakers that has lines its title, and the lines."""
    lines = lines_of(path)
    for corpus, groups in HELD_OUT.items():
        for group in groups:
            mine = [each for each in lines if each["corpus"] == corpus and tuple(each["group"]) == group]
            if mine:
                yield f"{corpus}, speakers {', '.join(group)}", mine


def table(path: Path) -> str:
    """Of each corpus and group of speakers, as Markdown."""
    parts = []
    for title, mine in by_group(path):
        parts.append(f"\n## {title}\n")
        parts.append(f"| variant | epochs | seed | weights | {' | '.join(CONDITIONS)} | mean |")
        parts.append("|---" * (len(CONDITIONS) + 5) + "|")
        for each in mine:
            for kept in ("last", "mean"):
                scores = [100 * each["ua"][kept][condition] for condition in CONDITIONS]
                cells = [each["variant"], str(each["epochs"]), str(each["seed"]), kept]
                cells += [f"{score:.1f}" for score in (*scores, np.mean(scores))]
                parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("variants", nargs="*", choices=[*VARIANTS, []], metavar="VARIANT")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--corpus", default="EMO-DB", choices=HELD_OUT)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--groups", type=int, help="only so many of the groups")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("choices.jsonl"))
    parser.add_argument("--cache", type=Path, default=Path("result/choices"))
    parser.add_argument("--table", type=Path, help="print the table of this file and train nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.table))
        return
    arguments.cache.mkdir(parents=True, exist_ok=True)
    places = arguments.data, arguments.cache, arguments.corpus
    for group in HELD_OUT[arguments.corpus][: arguments.groups]:
        for name in arguments.variants:
            wanted = (arguments.corpus, name, list(group), arguments.epochs, arguments.seed)
            keys = ("corpus", "variant", "group", "epochs", "seed")
            if wanted in [tuple(each[key] for key in keys) for each in lines_of(arguments.out)]:
                continue
            made = train(Task(*places, group, arguments.epochs, arguments.seed), name)
            with open(arguments.out, "a", encoding="utf-8") as file:
                file.write(json.dumps(made) + "\n")
            print(name, *group, f"{made['seconds']} s, clean UA {100 * made['ua']['mean']['clean']:.1f} %")
    print(table(arguments.out))


if __name__ == "__main__":
    main()
