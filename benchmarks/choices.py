"""What decided the recipe `robust`: variants of front end, augmentation and training on inner folds.

    python benchmarks/choices.py --data DIR --corpus EMO-DB --out choices.jsonl lsn mel64 …
    python benchmarks/choices.py --table choices.jsonl

A variant is trained on some of a corpus' speakers and scored on others, clean and degraded as `stress` does
it. `HELD_OUT` names the groups of speakers that are scored. The other speakers of a corpus are trained on or
left out: no variant is ever scored on them, so that what was chosen can be tested on them.

Scores are of the last epoch's weights, and of the mean of the weights after each of the last quarter of the
epochs. No epoch is chosen.
"""

import argparse
import dataclasses
import functools
import json
import os
import time
from pathlib import Path

import numpy as np

# Corpus → groups of speakers that variants are scored on, one after the other.
HELD_OUT = {
    "EMO-DB": (("03", "08"), ("10", "09"), ("11", "13")),
    "RAVDESS": (("01", "02", "03", "04"), ("05", "06", "07", "08")),
}
# Trained on in no variant: they make the training shorter, and remain for tests.
LEFT_OUT = {"EMO-DB": (), "RAVDESS": tuple(f"{actor:02}" for actor in range(17, 25))}
CONDITIONS = (
    "clean", "white 20 dB", "babble 20 dB", "telephone", "MP3 64", "room 0.3 s", "gain +12 dB", "speed +5 %",
    "speed -5 %",
)  # fmt: skip
NOISE = "noise:chance=0.7,speed"
FAST = {"learning_rate": 1e-3, "batch_norm_momentum": 0.9, "decay_unit": "cosine", "warm_up": 2}

LOG_MEL = {
    "normalise": "none", "mel_bands": 64, "lowest_hz": 60.0, "compression": "relative", "centre": "mean",
}  # fmt: skip
# Name → front end (changes of `lsn`), input type, augmentation, schedule (changes of Light-SERNet's).
VARIANTS = {
    "lsn": ({}, "mfcc", NOISE, FAST),
    "lsn-clean": ({}, "mfcc", "", FAST),
    "mel64": (LOG_MEL, "mel_spectrogram", NOISE, FAST),
    "mel64-clean": (LOG_MEL, "mel_spectrogram", "", FAST),
    "mel64-60": (LOG_MEL | {"floor_db": 60.0}, "mel_spectrogram", NOISE, FAST),
    "mel64-30": (LOG_MEL | {"floor_db": 30.0}, "mel_spectrogram", NOISE, FAST),
    "mel64-var": (LOG_MEL | {"centre": "variance"}, "mel_spectrogram", NOISE, FAST),
    "mel64-no": (LOG_MEL | {"centre": "none"}, "mel_spectrogram", NOISE, FAST),
    "mfcc40": (LOG_MEL, "mfcc", NOISE, FAST),
    "mel40": (LOG_MEL | {"mel_bands": 40}, "mel_spectrogram", NOISE, FAST),
    "mel40-var": (LOG_MEL | {"mel_bands": 40, "centre": "variance"}, "mel_spectrogram", NOISE, FAST),
    "mel80": (LOG_MEL | {"mel_bands": 80}, "mel_spectrogram", NOISE, FAST),
}


def run(args: argparse.Namespace, variant: str, group: tuple[str, ...]) -> dict:
    import keras

    from light_sernet_kd import evaluation, students
    from light_sernet_kd.audio import augment
    from light_sernet_kd.config import Settings
    from light_sernet_kd.data import batches, feature_cache
    from light_sernet_kd.data.selection import selected
    from light_sernet_kd.features import feature_shape
    from light_sernet_kd.registries import front_ends
    from light_sernet_kd.registries.schedules import SCHEDULES
    from light_sernet_kd.training.job import TrainingJob
    from light_sernet_kd.training.network import Network, NetworkSpec

    changes, input_type, augmentation, schedule = VARIANTS[variant]
    name = f"choice-{variant}"  # front ends are kept by their name
    front_ends.FRONT_ENDS[name] = front_ends.FrontEnd(
        {input_type: dataclasses.replace(front_ends.LSN, **changes)}, padding="both"
    )
    chosen = selected(Settings(corpus=args.corpus), args.data)
    kept = [i for i, each in enumerate(chosen.utterances) if each.speaker not in LEFT_OUT[args.corpus]]
    train = [i for i in kept if chosen.utterances[i].speaker not in group]
    scored = [i for i in kept if chosen.utterances[i].speaker in group]
    samples = 48_000
    clips = feature_cache.waveforms(chosen.utterances, samples=samples, front_end=name)
    compute = feature_cache.exact(feature_cache.front_end_of(name, input_type, samples).predict_on_batch)
    rows = np.concatenate([compute(clips[i : i + 64]) for i in range(0, len(clips), 64)])
    network = Network(
        NetworkSpec(
            functools.partial(
                students.build, "light_sernet", feature_shape(name, input_type, samples), len(chosen.classes)
            ),
            SCHEDULES["light_sernet"].changed(epochs=args.epochs, **schedule),
            "cross_entropy",
            {"label_smoothing": 0.0},
        )
    )
    averaged: list[np.ndarray] = []

    class Average(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch >= args.epochs - args.epochs // 4:
                weights = [np.asarray(each, np.float64) for each in network.twin.get_weights()]
                averaged[:] = weights if not averaged else [a + b for a, b in zip(averaged, weights)]

    augmenter = batches.augmenter(
        augment.parse(augmentation), chosen.utterances, chosen.fingerprints, front_end=name,
        input_type=input_type, samples=samples, cache_folder=args.cache,
    )  # fmt: skip
    started = time.perf_counter()
    trained = network.train(
        TrainingJob(
            examples=batches.Examples(rows, chosen.labels, chosen.classes), train=train, validation=(),
            seed=args.seed, checkpoint=args.cache / f"choice-{os.getpid()}.npz", augmenter=augmenter,
            callbacks=[Average()],
        )
    )  # fmt: skip
    (args.cache / f"choice-{os.getpid()}.npz").unlink()
    seconds = time.perf_counter() - started
    weights = {"last": trained.last, "mean": [each / (args.epochs // 4) for each in averaged]}
    made = {}
    for condition, degraded in degradations(args, chosen, scored, group).items():
        features = compute(np.stack([fit(each, samples) for each in degraded]))
        for kept, values in weights.items():
            logits = network.logits(values, features, range(len(features)))
            labels = chosen.labels[scored]
            made.setdefault(kept, {})[condition] = evaluation.scores(labels, logits.argmax(1), chosen.classes).ua
    return {
        "corpus": args.corpus, "variant": variant, "group": group, "epochs": args.epochs, "seed": args.seed,
        "seconds": round(seconds, 1), "ua": made,
    }  # fmt: skip


def fit(waveform: np.ndarray, samples: int) -> np.ndarray:
    from light_sernet_kd import audio

    return audio.fit(waveform, samples, pad="both")


def degradations(args, chosen, scored, group) -> dict[str, list[np.ndarray]]:
    """The scored recordings under each condition, made once."""
    import pickle

    from light_sernet_kd import audio
    from light_sernet_kd.analysis.degradations import DegradationContext
    from light_sernet_kd.registries.degradations import BABBLE_TALKERS, CONDITIONS as KNOWN

    path = args.cache / f"degraded-{args.corpus}-{'-'.join(group)}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    recordings = {i: audio.read(chosen.utterances[i].path) for i in scored}
    made: dict[str, list[np.ndarray]] = {name: [] for name in CONDITIONS}
    for i in scored:
        speaker = chosen.utterances[i].speaker
        others = [j for j in scored if chosen.utterances[j].speaker != speaker]
        talkers = np.random.default_rng(i).choice(others, BABBLE_TALKERS, replace=False)
        context = DegradationContext(0, chosen.utterances[i].id, [recordings[j] for j in talkers])
        for name in CONDITIONS:
            made[name].append(KNOWN[name](recordings[i], context))
    path.write_bytes(pickle.dumps(made))
    return made


def table(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for corpus in HELD_OUT:
        rows = [each for each in lines if each["corpus"] == corpus]
        print(f"\n{corpus}  groups  " + "  ".join(CONDITIONS))
        for variant in dict.fromkeys((each["variant"], each["epochs"]) for each in rows):
            mine = [each for each in rows if (each["variant"], each["epochs"]) == variant]
            for weights in ("last", "mean"):
                means = [np.mean([each["ua"][weights][name] for each in mine]) * 100 for name in CONDITIONS]
                seconds = np.mean([each["seconds"] for each in mine])
                print(f"{variant[0]:14} {variant[1]:3} {weights} n={len(mine)} {seconds:5.0f}s "
                      + " ".join(f"{mean:6.1f}" for mean in means) + f"  | {np.mean(means):5.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("variants", nargs="*")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--corpus", default="EMO-DB", choices=HELD_OUT)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--groups", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("choices.jsonl"))
    parser.add_argument("--cache", type=Path, default=Path("result/choices"))
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    if args.table:
        return table(args.table)
    args.cache.mkdir(parents=True, exist_ok=True)
    for group in HELD_OUT[args.corpus][: args.groups]:
        for variant in args.variants:
            made = run(args, variant, group)
            with open(args.out, "a") as file:
                file.write(json.dumps(made) + "\n")
            print(variant, group, made["seconds"], made["ua"]["mean"]["clean"], flush=True)
    table(args.out)


if __name__ == "__main__":
    main()
