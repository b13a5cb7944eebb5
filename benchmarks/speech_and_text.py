"""Claims about the students of speech and text, at the published dimensions and with random weights.

    python benchmarks/speech_and_text.py [--parts size,time,phases,memory,files] [--quick]

BERT-base's shape (30,522 words, 12 layers, 768 wide), VGGish, clips of 5 s, texts of up to 128 tokens, 4
classes. Needs BERT's uncased vocabulary: `models/bert_uncased_vocab.txt` in LIGHT_SERNET_KD_DATA (or data).

- size: the student of 2 layers is 44.9 % smaller than its teacher without embeddings and 39.0 % with, as
  published, if encoders alone are counted, with BERT's pooler; 44.4 % and 38.6 % as they are here, with head;
- phases: an epoch of phase 1 on cached states takes at most 1/20 of one that runs the encoders;
- memory: phase 2 of the student fits in 8 GiB at batch 8.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import soundfile

from light_sernet_kd import runner
from light_sernet_kd.audio import fingerprint
from light_sernet_kd.config import SAMPLE_RATE, make_settings
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data import feature_cache
from light_sernet_kd.data.batches import Examples, TeacherOutputs, batches
from light_sernet_kd.data.selection import Selection
from light_sernet_kd.distillation.distiller import TeacherWidths
from light_sernet_kd.encoders import bert, embedding_cache, text, vggish
from light_sernet_kd.encoders.multimodal import SpeechAndText
from light_sernet_kd.export import tflite
from light_sernet_kd.features import feature_shape
from light_sernet_kd.registries.encoders import TEXT_ENCODERS
from light_sernet_kd.registries.schedules import Schedule
from light_sernet_kd.students.fusion import fusion_head, speech_and_text
from light_sernet_kd.students.parameters import parameter_counts
from light_sernet_kd.training.job import TrainingJob
from light_sernet_kd.training.network import Network, NetworkSpec

DATA = Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data"))
VOCABULARY = DATA / "models" / "bert_uncased_vocab.txt"
PARTS = ("size", "time", "phases", "memory")
# Of the part `files`, which takes minutes: the converter needs them for the 700 MB of the teacher.
EXPORTED = ("float32", "dynamic")
TEACHER, STUDENT = "bert_vggish", "picobert_vggish"
CLASSES = ("angry", "happy", "neutral", "sad")
SECONDS, TOKENS, BATCH, GIB = 5, 128, 8, 2**30
PATCHES = feature_shape("vggish", "mel_spectrogram", SECONDS * SAMPLE_RATE)
# Where a variant is not BERT-base cut short: family, layers, heads, width.
SHAPES = {
    "distilbert": ("distilbert", 6, 12, 768),
    "bert_medium": ("bert", 8, 8, 512),
    "bert_small": ("bert", 4, 8, 512),
    "bert_tiny": ("bert", 2, 2, 128),
    "electra": ("electra", 12, 12, 768),
}
# BERT's dense layer on the first token, which neither system reads; ours leave it out.
POOLER = 768 * 768 + 768


def size() -> None:
    """How many numbers each variant holds, and how many fewer than the teacher."""
    hearing = vggish.vggish(patches=PATCHES[0])
    tokeniser = text.Tokeniser((), lowercase=True, strip_accents=True)
    found = {}
    for name, encoder in TEXT_ENCODERS.items():
        family, layers, heads, width = SHAPES.get(name, ("bert", encoder.layers or 12, 12, 768))
        segments = 0 if family == "distilbert" else 2
        shape = bert.Shape(family, 30_522, layers, heads, width, 4 * width, segments=segments)
        network = bert.network(bert.Source(shape, lambda _, size: np.zeros(size, np.float32)))
        head = fusion_head((TOKENS, width), (PATCHES[0], vggish.WIDTH), len(CLASSES))
        whole = parameter_counts(speech_and_text(network, hearing, head))
        own = text.parameters(text.TextEncoder(name, shape, tokeniser, network))
        found[name] = (own.without_words, own.all, *reversed(whole.values()))
    print("Size in millions of numbers, and against bert. Text encoder: without its embeddings of words, and")
    print("all of it. Student, with VGGish and head: without embeddings of words, positions, segments; all.")
    for name, counts in found.items():
        cells = (
            f"{own / 1e6:7.2f} {_percent(own, base)}" for own, base in zip(counts, found["bert"], strict=True)
        )
        print(f"  {name:11}", *cells)
    # Of the encoders alone: with BERT's pooler, without the head.
    student, teacher = (found[name][1] + vggish.PARAMETERS + POOLER for name in ("picobert", "bert"))
    tables = (30_522 + 512 + 2) * 768
    without = _percent(student - tables, teacher - tables)
    print(
        f"  picobert and VGGish with BERT's pooler, without the head: {without} without "
        f"embeddings, {_percent(student, teacher)} with (published: -44.9 % and -39.0 %)"
    )


def _percent(own: float, base: float) -> str:
    return f"{100 * (own / base - 1):+.1f} %"


def spoken(folder: Path, count: int, *, words: int) -> Selection:
    """Noise of 5 s and made-up texts of up to twice so many words, on average so many."""
    rng = np.random.default_rng(0)
    vocabulary = [word for word in VOCABULARY.read_text(encoding="utf-8").split("\n") if word.isalpha()]
    utterances = []
    for number in range(count):
        path = folder / f"{number}.wav"
        if not path.exists():
            soundfile.write(path, 0.1 * rng.standard_normal(SECONDS * SAMPLE_RATE), SAMPLE_RATE)
        said = " ".join(rng.choice(vocabulary, rng.integers(1, 2 * words)))
        emotion = CLASSES[number % len(CLASSES)]
        utterances.append(Utterance(f"{number:03}", path, emotion, f"speaker {number % 4}", transcript=said))
    fingerprints = {each.id: fingerprint(each.path) for each in utterances}
    corpus = Corpus("made", tuple(utterances), synthetic=True)
    return Selection(corpus, corpus.utterances, [], fingerprints, CLASSES, [])


def network_of(name: str, selection: Selection, cache: Path, width: int) -> SpeechAndText:
    """A student as a run has it."""
    settings = make_settings(
        student=name,
        text_encoder=f"random:width={width},layers=12,heads=12,vocabulary={VOCABULARY}",
        audio_encoder="vggish=random",
        input_seconds=SECONDS,
        text_tokens=TOKENS,
    )
    patches = functools.partial(
        feature_cache.features,
        selection.utterances,
        selection.fingerprints,
        front_end="vggish",
        input_type="mel_spectrogram",
        samples=settings.samples,
        cache=feature_cache.Cache(cache),
    )
    return SpeechAndText(name, settings, selection, data=DATA, cache=cache, features=patches)


def in_turn(functions: Mapping[str, Callable], rounds: int, **warm_up) -> dict[str, float]:
    """Median seconds of each, called once before with `warm_up`."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function(**warm_up)
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def times(folder: Path, width: int, rounds: int, exported: Mapping[str, Sequence[str]]) -> None:
    """One utterance at a time, teacher against student: in Keras, and as exported on one thread.

    Args:
        exported: network to the precisions of its files.
    """
    selection = spoken(folder, 8, words=20)
    clips = feature_cache.waveforms(selection.utterances, samples=SECONDS * SAMPLE_RATE, front_end="vggish")
    runs: dict[str, dict[str, Callable]] = {"Keras": {}}
    for name in (TEACHER, STUDENT):
        both = network_of(name, selection, folder / "cache", width)
        whole = both.whole()
        one = both.inputs[np.arange(1)]
        runs["Keras"][name] = functools.partial(whole.predict_on_batch, one)
        if name not in exported:
            continue
        started = time.perf_counter()
        files = tflite.export(
            whole,
            tflite.ExportSpec(
                classes=CLASSES,
                representative={"audio": clips}
                | {key: both.inputs.columns[key] for key in tflite.TEXT_INPUTS},
                folder=folder / name,
                card={},
                front_end="vggish",
                input_type="mel_spectrogram",
                samples=SECONDS * SAMPLE_RATE,
                text=both.text_input(),
                precisions=exported[name],
            ),
        )
        print(
            f"  {name} exported in {time.perf_counter() - started:.0f} s: "
            + ", ".join(f"{each.precision} {each.bytes / 1e6:.0f} MB" for each in files),
            flush=True,
        )
        given = {"audio": clips[0]} | {key: one[key][0] for key in tflite.TEXT_INPUTS}
        for each in files:
            interpreter, _, _ = runner.open_file(each.path, threads=1)
            each.path.unlink()  # 700 MB, which the interpreter goes on seeing
            runs.setdefault(f"{each.precision} file", {})[name] = functools.partial(
                runner.invoke, interpreter, given
            )
    print("Time per utterance (published: -40.2 %), with front end and softmax only in the files:")
    for way, functions in runs.items():
        found = in_turn(functions, rounds)
        told = ", ".join(f"{1e3 * seconds:.0f} ms {name}" for name, seconds in found.items())
        print(f"  {way}: {told}", end="")
        print(f", {_percent(found[STUDENT], found[TEACHER])}" if TEACHER in found else "", flush=True)


def with_frozen_encoders(both: SpeechAndText) -> keras.Model:
    """What the first phase would train without a cache: nothing drops out in the encoders."""
    parts = []
    for encoder in (both.text.backbone, both.audio_branch.build()):
        parts.append(keras.Model(encoder.input, encoder(encoder.input, training=False)))
        parts[-1].trainable = False
    return speech_and_text(*parts, both.head())


def epochs(build: Callable[[], keras.Model], rows, labels: np.ndarray) -> Callable[..., None]:
    """What trains an epoch as Network.train does, but for validation and checkpoint."""
    schedule = Schedule(1e-6, BATCH, 50, 0.0, 0.1, 30, "epochs")
    network = Network(
        NetworkSpec(build, schedule, label_loss="cross_entropy", label_settings={}, accelerate=False)
    )

    def train(steps: int = len(labels) // BATCH) -> None:
        training = batches(Examples(rows, labels, ()), np.arange(len(labels)), batch_size=BATCH, seed=0)
        network.distiller.fit(training, steps_per_epoch=steps, shuffle=False, verbose=0)

    return train


@contextmanager
def encoded():
    """How many items each encoder was given, by its name."""
    write, found = embedding_cache._write_block, Counter()

    def counting(folder, encoder, names, items):
        found[encoder.name] += len(items)
        started = time.perf_counter()
        write(folder, encoder, names, items)
        found[f"seconds of {encoder.name}"] += time.perf_counter() - started

    embedding_cache._write_block = counting
    try:
        yield found
    finally:
        embedding_cache._write_block = write


def phases(folder: Path, width: int, count: int, rounds: int) -> None:
    """The first phase on cached states against running the encoders in every epoch; and the caching."""
    ways: dict[str, Callable] = {}
    print(f"Phase 1 of {TEACHER}, {count} utterances, batch {BATCH}:")
    for what, words in (("texts of 12 words on average", 12), ("texts cut at 128 tokens", 4000)):
        selection = spoken(folder, count, words=words)
        cache = folder / f"cache-{words}"
        for again in (False, True):
            both = network_of(TEACHER, selection, cache, width)
            with encoded() as found:
                rows = both.short_states.rows
            each = (
                f"{found[name]} by {name}, {1e3 * found[f'seconds of {name}'] / found[name]:.0f} ms each"
                for name in found
                if not name.startswith("seconds")
            )
            print(f"  {what}, {'again' if again else 'encoded'}: {', '.join(each) or 'nothing'}", flush=True)
        ways[what] = epochs(functools.partial(both.head, any_length=True), rows, selection.labels)
    # Whatever the texts, its inputs are padded to 128 tokens.
    whole = functools.partial(with_frozen_encoders, both)
    ways["encoders"] = epochs(whole, both.inputs.rows, selection.labels)
    seconds = in_turn(ways, rounds, steps=1)
    slowest = seconds.pop("encoders")
    print(f"  with the encoders: {slowest:.1f} s per epoch")
    for what, own in seconds.items():
        print(f"  cached, {what}: {own:.2f} s per epoch, {slowest / own:.1f} times faster (claim: 20)")


def memory(folder: Path, width: int) -> None:
    """A fresh process that trains all of the student; its own peak."""
    command = [sys.executable, __file__, "--train-in", str(folder), "--width", str(width)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(f"Memory of phase 2 of {STUDENT}, batch {BATCH}, KD+states (claim: at most 8 GiB):\n{told}", end="")


def train_in(folder: Path, width: int) -> None:
    """Phase 2 as a run has it behind phase 1, and once more from its checkpoint, as after an interruption."""

    def peak(when: str) -> None:
        # Not getrusage: what that gives begins with the peak of the process that started this one.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(f"  {int(status['VmHWM'].split()[0]) / 2**20:.2f} GiB {when}", flush=True)

    selection = spoken(folder, 4 * BATCH, words=20)
    both = network_of(STUDENT, selection, folder / "cache", width)
    states = both.states
    peak("with the encoders and their states")
    head = both.head().get_weights()
    rng = np.random.default_rng(0)
    count = len(selection.utterances)
    outputs = TeacherOutputs(rng.standard_normal((count, len(CLASSES)), np.float32), states=both.text_states)
    schedule = Schedule(1e-6, BATCH, 50, 0.0, 0.1, 30, "epochs")
    network = Network(
        NetworkSpec(
            both.whole,
            schedule,
            label_loss="cross_entropy",
            label_settings={},
            distillation="KD+states",
            teacher_widths=TeacherWidths(states=states.columns["text_states"].shape[-1]),
            accelerate=False,
        )
    )
    peak(f"with the network, {network.parameters / 1e6:.0f} million numbers")
    for epochs in (1, 2):
        network.train(
            TrainingJob(
                examples=Examples(both.inputs.rows, selection.labels, CLASSES),
                train=range(3 * BATCH),
                validation=range(3 * BATCH, count),
                seed=0,
                checkpoint=folder / "checkpoint.npz",
                epochs=epochs,
                initial_weights=lambda: both.whole(head).get_weights(),
                teacher_outputs=outputs,
            )
        )
        peak(
            "with its checkpoint and best weights"
            if epochs == 1
            else "after going on for an epoch from the checkpoint"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="of these and files, by comma")
    parser.add_argument("--quick", action="store_true", help="only whether it runs: narrow, few rounds")
    parser.add_argument("--train-in", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, default=768, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not VOCABULARY.is_file():
        print(f"skipped: no vocabulary {VOCABULARY}; put BERT's there, or set LIGHT_SERNET_KD_DATA.")
        return
    if options.train_in:
        train_in(options.train_in, options.width)
        return
    width, quick = (48 if options.quick else options.width), options.quick
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for part in options.parts.split(","):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if part == "size":
                size()
            elif part == "time":
                times(folder, width, 2 if quick else 12, {STUDENT: ("float32",)})
            elif part == "files":
                times(folder, width, 2 if quick else 12, dict.fromkeys((TEACHER, STUDENT), EXPORTED))
            elif part == "phases":
                phases(folder, width, 2 * BATCH if quick else 8 * BATCH, 1)
            elif part == "memory":
                memory(folder, width)
            else:
                parser.error(f"no part {part}; there are {', '.join((*PARTS, 'files'))}")
        print(f"({part}: {time.perf_counter() - started:.0f} s, load {os.getloadavg()[0]:.1f})", flush=True)


if __name__ == "__main__":
    main()
