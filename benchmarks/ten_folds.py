"""All ten EMO-DB folds, two epochs each: our command against the ordinary Keras loop over the same work.

    python benchmarks/ten_folds.py --data DIR

The reference trains the same layers on the same folds in the ordinary way: per fold a new plain Keras model,
`compile`, a `tf.data` pipeline that reads the WAV files, computes MFCC with TensorFlow's own operations and
caches them, `fit` with the test fold as validation data, `predict`. Each side is a process of its own, timed
from its start to its end; peak memory is the operating system's figure.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def reference(data: Path, epochs: int) -> None:
    """The ordinary way, in this process."""
    import keras
    import numpy as np
    import tensorflow as tf

    from light_sernet_kd import students
    from light_sernet_kd.corpora import emodb

    corpus = emodb.utterances(data / "EMO-DB")
    labels = [corpus.classes.index(utterance.emotion) for utterance in corpus.utterances]
    mel = tf.signal.linear_to_mel_weight_matrix(128, 513, 16000, 80.0, 7600.0)

    def features(path, label):
        audio, _ = tf.audio.decode_wav(tf.io.read_file(path), desired_channels=1)
        audio = audio[:, 0]
        audio = audio / tf.reduce_max(tf.abs(audio))
        surplus = tf.maximum(tf.shape(audio)[0] - 48000, 0)
        audio = audio[surplus // 2 :][:48000]
        missing = 48000 - tf.shape(audio)[0]
        audio = tf.ensure_shape(tf.pad(audio, [[missing // 2, missing - missing // 2]]), (48000,))
        spectrum = tf.abs(tf.signal.stft(audio, 1024, 256, 1024))
        log_mel = tf.math.log(tf.matmul(spectrum, mel) + 1e-6)
        return tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[:, :40, None], label

    def batches(indices):
        paths = [str(corpus.utterances[i].path) for i in indices]
        pairs = tf.data.Dataset.from_tensor_slices((paths, [labels[i] for i in indices]))
        return pairs.map(features, tf.data.AUTOTUNE).cache()

    for speaker in corpus.speakers:
        train = [i for i, utterance in enumerate(corpus.utterances) if utterance.speaker != speaker]
        test = [i for i, utterance in enumerate(corpus.utterances) if utterance.speaker == speaker]
        model = students.build("light_sernet", (184, 40, 1), 7)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy"])
        held_out = batches(test).batch(32).prefetch(tf.data.AUTOTUNE)
        training = batches(train).shuffle(len(train)).batch(32).prefetch(tf.data.AUTOTUNE)
        model.fit(training, validation_data=held_out, epochs=epochs, verbose=0)
        np.argmax(model.predict(held_out, verbose=0), axis=1)


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    per_mb = 2**20 if sys.platform == "darwin" else 2**10
    return time.perf_counter() - start, usage.ru_maxrss / per_mb


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data")))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--reference", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reference:
        return reference(arguments.data, arguments.epochs)
    common = ["--data", str(arguments.data.resolve()), "--epochs", str(arguments.epochs)]
    print(f"ten folds of EMO-DB, {arguments.epochs} epochs each, from WAV files to scores, one process each")
    with tempfile.TemporaryDirectory() as result:
        ours = [sys.executable, "train.py", "-dn", "EMO-DB", "--recipe", "own", "-id", "3", "-kd", "pure",
                "--no-export", "-v", "0", "--result", result, *common]  # fmt: skip
        our_seconds, our_mb = timed(ours)
    print(f"  ours       {our_seconds:7.1f} s, peak {our_mb:6.0f} MB   (train.py, nothing cached before)")
    their_seconds, their_mb = timed([sys.executable, __file__, "--reference", *common])
    print(f"  reference  {their_seconds:7.1f} s, peak {their_mb:6.0f} MB   (ordinary Keras loop)")
    print(f"ratio of time, reference / ours: {their_seconds / our_seconds:.2f}")
    return None


if __name__ == "__main__":
    resource.getrusage(resource.RUSAGE_SELF)  # fails here, and not after minutes, where there is none
    main()
