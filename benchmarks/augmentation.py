"""Claim: a training step with every augmentation on takes at most 1.5 times the clean step.

That is with `--augment-every 6`: a changed waveform is kept for six epochs, so that a step makes a sixth of
its clips. The step is that of Light-SERNet on batches of 32 clips of 3 s, which the same pipeline makes as
in `train`. All variants run in turn in this one process, an epoch at a time, so that other work on the
machine slows all alike; a variant's time is that of the processor and includes the batches made ahead.

    python benchmarks/augmentation.py --rounds 6
"""

import argparse
import dataclasses
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from light_sernet_kd import students
from light_sernet_kd.audio import augment
from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.batches import Examples, batches
from light_sernet_kd.data.feature_cache import full_precision
from light_sernet_kd.data.training_clips import OF_FOLD, TrainingClips
from light_sernet_kd.distillation.distiller import Distiller
from light_sernet_kd.errors import UserError
from light_sernet_kd.features import front_end_model
from light_sernet_kd.registries.augmentations import AUGMENTATIONS
from light_sernet_kd.registries.front_ends import FRONT_ENDS
from light_sernet_kd.training.accelerate import accelerated, has_bfloat16

RATE, SAMPLES, CLIPS, BATCH, CLASSES = 16_000, 48_000, 320, 32, 7
FRONT_END, INPUT_TYPE = "lsn", "mfcc"
ALL = ",".join(AUGMENTATIONS)
CLEAN = "clean"


def recordings() -> np.ndarray:
    """Noise that swells as syllables do, 2 to 4 s of it."""
    rng = np.random.default_rng(0)
    kept = np.zeros(CLIPS, [("length", np.int32), ("samples", np.float32, (4 * RATE,))])
    kept["length"] = rng.integers(2 * RATE, 4 * RATE, CLIPS)
    for row in kept:
        swell = np.abs(np.sin(np.arange(row["length"]) / 2500))
        row["samples"][: row["length"]] = 0.1 * swell * rng.standard_normal(row["length"])
    return kept


def milliseconds_of_each(kept: np.ndarray) -> None:
    """What each change of a waveform takes where it happens to every clip, on one core."""
    clips = TrainingClips(kept, np.arange(CLIPS) % 8, np.arange(CLIPS) % CLASSES, range(CLIPS))
    print(f"{'a clip of 3 s':<32}{'ms of one core':>16}")
    variants = [
        *((name, f"{name}:chance=1") for name, kind in AUGMENTATIONS.items() if kind.on == "waveform"),
        *((f"noise, {kind}", f"noise:chance=1:pink=0:{kind}=1") for kind in ("hum", "music")),
        *(
            (f"codec, {name}", "codec:chance=1:mp3=0:opus=0:gsm=0:amr=0".replace(f"{name}=0", f"{name}=1"))
            for name in ("mp3", "opus", "gsm", "amr")
        ),
    ]
    for label, text in variants:
        (asked,) = augment.parse(text)
        try:
            augment.check_installed([asked])
        except UserError as error:
            print(f"{label:<32}{'not here':>16}  ({error})")
            continue
        seconds = []
        for utterance in [*range(3), *range(40)]:
            waveform = np.resize(kept["samples"][utterance][: kept["length"][utterance]], SAMPLES)
            draws = {"seed": 0, "epoch": 0, "utterance": utterance}
            needed = [OF_FOLD[asked.kind.needs](clips, utterance)] if asked.kind.needs else []
            for _ in range(2):  # the first may make a room of the bank
                rng = augment.drawn_for(asked.name, **draws)
                began = time.thread_time()
                asked.kind.function(waveform, rng, *needed, **asked.settings)
                last = time.thread_time() - began
            seconds.append(last)
        print(f"{label:<32}{1000 * statistics.mean(seconds[3:]):>16.2f}")


def steps(kept: np.ndarray, rounds: int) -> None:
    """CPU and clock of a training step, clean and augmented."""
    model = front_end_model(FRONT_END, INPUT_TYPE, SAMPLES)
    compute = full_precision(model.predict_on_batch)
    padding = FRONT_ENDS[FRONT_END].padding
    nothing = Augmenter((), kept, compute, SAMPLES, padding)
    rows = np.concatenate(
        [nothing.changed_features(np.arange(i, i + BATCH), 0, 0) for i in range(0, CLIPS, BATCH)]
    )
    labels = (np.arange(CLIPS) % CLASSES).astype(np.int32)
    examples = Examples(rows, labels, tuple("abcdefg"))
    everything = Augmenter(augment.parse(ALL), kept, compute, SAMPLES, padding, speakers=np.arange(CLIPS) % 8)
    variants = {CLEAN: None}
    for every in (1, 4, 6):
        variants[f"all, --augment-every {every}"] = dataclasses.replace(everything, every=every)
    running = {}
    arithmetic = "bfloat16" if has_bfloat16() else "float32"
    for name, augmenter in variants.items():
        student = students.build("light_sernet", rows.shape[1:], CLASSES)
        distiller = Distiller(accelerated(student, arithmetic=arithmetic))
        distiller.compile("adam", jit_compile=False)
        distiller.make_train_function()
        made = batches(examples, range(CLIPS), batch_size=BATCH, seed=0, augmenter=augmenter)
        running[name] = distiller.train_function, iter(made)
    cpu, clock = ({name: [] for name in variants} for _ in range(2))
    for number in range(rounds + 1):
        for name, (train, iterator) in running.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            for _ in range(CLIPS // BATCH):
                train(iterator)
            ended = time.perf_counter()
            # The next batches are made ahead, now as before this epoch began.
            before = None
            while before is None or time.process_time() - before > 0.02:
                before = time.process_time()
                time.sleep(0.3)
            if number:  # the first epoch traces the graph and makes every clip
                cpu[name].append((time.process_time() - cpu_began) / (CLIPS // BATCH))
                clock[name].append((ended - began) / (CLIPS // BATCH))
    print(f"\n{arithmetic}, {os.cpu_count()} cores")
    print(f"{'a step of 32 clips':<32}{'CPU ms':>10}{'ratio':>8}{'clock ms':>10}{'ratio':>8}")
    for name in variants:
        shown = f"{name:<32}"
        for times in (cpu, clock):
            ratio = statistics.median(a / b for a, b in zip(times[name], times[CLEAN], strict=True))
            shown += f"{1000 * statistics.median(times[name]):>10.0f}{ratio:>8.2f}"
        print(shown)
    print("(claim: at most 1.5 times with --augment-every 6)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6, help="timed epochs of each variant (6)")
    options = parser.parse_args()
    kept = recordings()
    milliseconds_of_each(kept)
    steps(kept, options.rounds)


if __name__ == "__main__":
    main()
