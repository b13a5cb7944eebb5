"""Targets for exported files of Light-SERNet, 3 s: size, time, int8 against float32.

- float32 at most 2.0 MB, float16 1.1 MB, int8 0.65 MB, with the front end inside;
- on one thread the whole file takes at most 1.3 times as long as the network alone;
- int8 is faster than float32.

Weights do not matter for these, so that students are untrained unless a run is named. Beside them stand the
files that TensorFlow's plain converter makes of the same student behind TensorFlow's own MFCC:

- `tf.signal`: stft, linear_to_mel_weight_matrix and mfccs_from_log_mel_spectrograms;
- `raw_ops`: AudioSpectrogram and Mfcc, the older operations, which TFLite knows as custom ones.

For what the front end could cost at best, SciPy's Fourier transform of its frames is timed too.

All files take turns. On one thread it is the thread's own time that counts, which other processes change
little; the time on the clock is given too.

    python benchmarks/on_device.py
    python benchmarks/on_device.py --run result/emodb --students light_sernet
"""

import argparse
import contextlib
import json
import logging
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
REPOSITORY = Path(__file__).resolve().parent.parent
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(REPOSITORY))

import keras
import numpy as np
import scipy.fft
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from light_sernet_kd import runner, students
from light_sernet_kd.analysis import benchmark
from light_sernet_kd.export.flatbuffer import operator_names
from light_sernet_kd.export.tflite import ExportError, ExportSpec, export
from light_sernet_kd.features import feature_shape, frame_count
from light_sernet_kd.registries.front_ends import LSN

SAMPLES = 48_000
CLASSES = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
MOST_BYTES = {"float32": 2_000_000, "float16": 1_100_000, "int8": 650_000}


def voices(count=24):
    """Harmonic voices with noise, of different pitch and level, float32 `(count, samples)`."""
    rng = np.random.default_rng(0)
    seconds = np.arange(SAMPLES) / 16_000
    made = []
    for _ in range(count):
        pitch, tilt = rng.uniform(80, 350), rng.uniform(0.3, 2.0)
        voice = sum(np.sin(2 * np.pi * pitch * k * seconds) / k**tilt for k in range(1, int(7000 / pitch)))
        voice = voice * (1 + np.sin(2 * np.pi * rng.uniform(1, 8) * seconds))
        made.append(rng.uniform(0.01, 0.2) * voice + rng.normal(0, 0.01, SAMPLES))
    return np.array(made, np.float32)


def untrained(name):
    keras.utils.set_random_seed(0)
    return students.build(name, feature_shape("lsn", "mfcc", SAMPLES), len(CLASSES))


def tf_signal_mfcc(audio):
    spectrum = tf.abs(tf.signal.stft(audio, 1024, 256, 1024))
    mel = spectrum @ tf.signal.linear_to_mel_weight_matrix(128, 513, 16_000, 80.0, 7600.0)
    return tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(mel + 1e-6))[..., :40, None]


def raw_ops_mfcc(audio):
    spectrum = tf.raw_ops.AudioSpectrogram(
        input=tf.transpose(audio), window_size=1024, stride=256, magnitude_squared=False
    )
    return tf.raw_ops.Mfcc(
        spectrogram=spectrum,
        sample_rate=16_000,
        upper_frequency_limit=7600.0,
        lower_frequency_limit=80.0,
        filterbank_channel_count=128,
        dct_coefficient_count=40,
    )[..., None]


def plain(student, mfcc, precision, clips, *, flex=False, custom=False):
    """What TensorFlow's converter makes of front end and student as one function, or why it does not."""
    function = tf.function(lambda audio: tf.nn.softmax(student(mfcc(audio), training=False)))
    concrete = function.get_concrete_function(tf.TensorSpec((1, SAMPLES), tf.float32, name="audio"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.allow_custom_ops = custom
    sets = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([clip[None]] for clip in clips)
        sets = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.target_spec.supported_ops = sets + ([tf.lite.OpsSet.SELECT_TF_OPS] if flex else [])
    with silenced():
        return converter.convert()


@contextlib.contextmanager
def silenced():
    """Without what native code writes: the converter prints pages before it raises."""
    with open(os.devnull, "w") as nowhere:
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def in_words(error):
    if lacking := re.findall(r"'tf\.(\w+)' op is neither", str(error)):
        return f"no builtin for {', '.join(sorted({*lacking}))}"
    return (str(error).strip() or type(error).__name__).split(". ")[0][:150]


def peers(student, clips, folder):
    """Files of the plain converter that LiteRT runs, by name; says of the others what happened."""
    cases = [
        ("tf.signal", tf_signal_mfcc, {}),
        ("tf.signal with Flex", tf_signal_mfcc, {"flex": True}),
        ("raw_ops", raw_ops_mfcc, {}),
        ("raw_ops as custom operations", raw_ops_mfcc, {"custom": True}),
    ]
    running = {}
    for name, mfcc, how in cases:
        for precision in ("float32", "int8"):
            label = f"plain converter, {name}, {precision}"
            try:
                content = plain(student, mfcc, precision, clips, **how)
            except Exception as error:  # the converter raises a dozen kinds
                print(f"{label}: not converted: {in_words(error)}", flush=True)
                break
            foreign = sorted({each for each in operator_names(content) if not each.isupper()})
            what = f"{len(content) / 1000:,.0f} kB, no builtins: {', '.join(foreign) or 'none'}"
            path = folder / f"{name.replace(' ', '_')}_{precision}.tflite"
            path.write_bytes(content)
            try:
                interpreter = opened(path)
                runner.invoke(interpreter, clips[0])
            except (RuntimeError, ValueError) as error:
                print(f"{label}: {what}; LiteRT does not run it: {in_words(error)}", flush=True)
                break
            print(f"{label}: {what}; LiteRT runs it", flush=True)
            running[label] = path
    return running


def opened(path, threads=1):
    with runner.without_chatter():
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    runner.invoke(interpreter, benchmark.example(interpreter))
    return interpreter


def times(paths, rounds):
    """By name: the thread's own and the clock's median in ms; files take turns."""
    interpreters = {name: opened(path) for name, path in paths.items()}
    own = {name: [] for name in paths}

    def call(name):
        start = time.thread_time()
        interpreters[name].invoke()
        own[name].append(time.thread_time() - start)

    clock = benchmark.in_turn(
        {name: lambda name=name: call(name) for name in paths}, rounds=rounds, most_seconds=120
    )
    return {
        name: (1e3 * statistics.median(own[name][benchmark.WARM_UP :]), 1e3 * statistics.median(clock[name]))
        for name in paths
    }


def transform_ms(rounds):
    """The thread's own median time for the Fourier transforms of a clip's frames, by SciPy, in ms."""
    frames = np.random.default_rng(0).normal(size=(frame_count(SAMPLES, LSN), LSN.fft_length))
    frames, taken = frames.astype(np.float32), []
    for _ in range(rounds):
        start = time.thread_time()
        scipy.fft.rfft(frames, workers=1)
        taken.append(time.thread_time() - start)
    return 1e3 * statistics.median(taken)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a finished run, for its student of 3 s of MFCC (untrained)")
    parser.add_argument(
        "--students", nargs="+", default=["light_sernet"], help="to export (light_sernet)", metavar="NAME"
    )
    parser.add_argument("--rounds", type=int, default=100, help="timed answers of each file (100)")
    parser.add_argument("--no-peers", action="store_true", help="leave the plain converter out")
    options = parser.parse_args()
    if options.run:
        config = json.loads((options.run / "config.json").read_text(encoding="utf-8"))
        options.students = [config.get("settings", config)["student"]]
    clips = voices()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.students:
            folder = Path(temporary) / name
            if options.run:
                saved = options.run / "fold-all-speakers" / "student.keras"
                student = keras.saving.load_model(saved, compile=False, safe_mode=True)
            else:
                student = untrained(name)
            classes = CLASSES if not options.run else (options.run / "labels.txt").read_text().splitlines()
            files = {}
            for part in ("whole", "network"):
                try:
                    made = export(
                        student,
                        ExportSpec(
                            classes=classes,
                            front_end="lsn",
                            input_type="mfcc",
                            samples=SAMPLES,
                            representative=clips,
                            folder=folder / part,
                            card={"student": name},
                            merge=part == "whole",
                        ),
                    )
                except (ExportError, ValueError) as error:
                    sys.exit(f"{name}: {error}")
                files |= {(part, each.precision): each.path for each in made}
            print(f"\n{name}, {SAMPLES / 16_000:g} s")
            running = {} if options.no_peers else peers(student, clips, folder)
            found = times({**files, **running}, options.rounds)
            targets = name == "light_sernet"
            print(f"{'file':52s} {'kB':>6s} {'ms':>7s} {'clock':>7s}  whole / network (target 1.30)")
            for precision in [key for part, key in files if part == "whole"]:
                (whole, clock), (alone, _) = (found[part, precision] for part in ("whole", "network"))
                size = files["whole", precision].stat().st_size
                line = f"{precision:52s} {size / 1000:6,.0f} {whole:7.2f} {clock:7.2f}  {whole / alone:.2f}"
                if targets and (limit := MOST_BYTES.get(precision)):
                    line += f"  (at most {limit / 1000:,.0f} kB: {'met' if size <= limit else 'MISSED'})"
                print(line)
            for label, path in running.items():
                own, clock = found[label]
                ours = found["whole", "int8" if label.endswith("int8") else "float32"][0]
                print(
                    f"{label:52s} {path.stat().st_size / 1000:6,.0f} {own:7.2f} {clock:7.2f}  "
                    f"{own / ours:.2f} times ours"
                )
            for part in ("whole", "network"):
                ratio = found[part, "int8"][0] / found[part, "float32"][0]
                print(f"int8 takes {ratio:.2f} of the time of float32 ({part}; target below 1)")
            transform, network = transform_ms(options.rounds), found["network", "int8"][0]
            print(
                f"SciPy takes {transform:.2f} ms for the Fourier transforms of the frames alone, "
                f"{transform / network:.2f} of the int8 network's time"
            )


if __name__ == "__main__":
    main()
