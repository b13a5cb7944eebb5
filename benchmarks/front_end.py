"""Target: MFCC of a corpus, read and computed, in at most half of the time that librosa takes.

Ours is what the pipeline does: recordings are read on several threads and go through the Keras front end
in batches. The peer computes the same numbers file by file with librosa, which is how it is used, and once
more on as many threads as there are cores. What happens once per process (imports, the graph, filters) is
timed on neither side. `--parts` also tells the processor time of what ours consists of.

    python benchmarks/front_end.py --data data --clips 535
"""

import argparse
import functools
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# librosa at its best: its products are small, and OpenBLAS loses more by sharing them out than it wins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
REPOSITORY = Path(__file__).resolve().parent.parent
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(REPOSITORY))

import librosa
import numpy as np
import scipy.fft

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import emodb
from light_sernet_kd.data import feature_cache
from light_sernet_kd.features import front_end_model, mel_matrix
from light_sernet_kd.registries.front_ends import FRONT_ENDS, LSN

# librosa's triangles are straight over Hz; TensorFlow's, which Light-SERNet uses, over mel.
MEL = mel_matrix(LSN).T.copy()


def librosa_mfcc(path, samples):
    """Light-SERNet's MFCC `(frames, 40)` of one file."""
    waveform, _ = librosa.load(path, sr=SAMPLE_RATE)
    if len(waveform) > samples:
        waveform = audio.fit(waveform, samples)
    waveform = np.clip(waveform / np.percentile(np.abs(waveform), 99.9), -1.0, 1.0)
    waveform = audio.fit(waveform, samples, pad=FRONT_ENDS["lsn"].padding)
    spectrum = np.abs(librosa.stft(waveform, n_fft=1024, hop_length=256, center=False))
    cepstrum = scipy.fft.dct(np.log(MEL @ spectrum + 1e-6), axis=0, norm="ortho")[:40]
    cepstrum[0] *= np.sqrt(2.0)  # as TensorFlow scales it
    return np.clip(cepstrum, -10.0, 10.0).T


def seconds_of(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def processor_seconds(function, repeats=3):
    function()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        found.append(time.process_time() - began)
    return min(found)


def tell_parts(utterances, samples):
    """Processor seconds of reading, of the front end, and of its two largest operations alone."""
    import tensorflow as tf

    read = functools.partial(feature_cache.SOUNDFILE.blocks, utterances, samples=samples, front_end="lsn")
    clips = np.concatenate(list(read()))
    batches = [
        clips[start : start + feature_cache.BATCH] for start in range(0, len(clips), feature_cache.BATCH)
    ]
    model = front_end_model("lsn", "mfcc", samples)
    frames = tf.signal.frame(batches[0], LSN.fft_length, LSN.frame_step)
    spectrum = tf.abs(tf.signal.rfft(frames))
    share = len(clips) / len(batches[0])
    transform, product = tf.function(tf.signal.rfft), tf.function(lambda rows: rows @ MEL.T)
    parts = {
        "reading": processor_seconds(lambda: list(read())),
        "the front end": processor_seconds(lambda: [model.predict_on_batch(each) for each in batches]),
        "its transform": share * processor_seconds(lambda: transform(frames)),
        "its mel bands": share * processor_seconds(lambda: product(spectrum)),
    }
    for name, value in parts.items():
        print(f"{name}: {value:.2f} s of processor time")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("LIGHT_SERNET_KD_DATA", "data")),
        help="the folder that holds EMO-DB (LIGHT_SERNET_KD_DATA, else data)",
    )
    parser.add_argument("--clips", type=int, help="recordings to use (all)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a clip (3)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each, in turn (3)")
    parser.add_argument("--parts", action="store_true", help="also what ours consists of")
    options = parser.parse_args()

    utterances = emodb.utterances(options.data / "EMO-DB").utterances[: options.clips]
    samples = round(options.seconds * SAMPLE_RATE)
    threads = os.cpu_count() or 1

    def ours():
        fingerprints = {utterance.id: "" for utterance in utterances}
        rows = feature_cache.features(
            utterances, fingerprints, front_end="lsn", input_type="mfcc", samples=samples,
            cache=feature_cache.Cache(Path(), "ram"),
        )  # fmt: skip
        return np.asarray(rows)[..., 0]

    def peer():
        return np.stack([librosa_mfcc(utterance.path, samples) for utterance in utterances])

    def threaded_peer():
        with ThreadPoolExecutor(threads) as pool:
            paths = [utterance.path for utterance in utterances]
            return np.stack(list(pool.map(librosa_mfcc, paths, [samples] * len(paths))))

    candidates = {"ours": ours, "librosa": peer, f"librosa, {threads} threads": threaded_peer}
    found = {name: function() for name, function in candidates.items()}  # also reads every file once
    difference = np.abs(found["ours"] - found["librosa"])
    # A recording that itself begins or ends in zeros has them counted by librosa's percentile, not by ours.
    np.testing.assert_array_less(np.quantile(difference, 0.999), 0.02)
    seconds = {name: [] for name in candidates}
    for _ in range(options.repeats):
        for name, function in candidates.items():
            seconds[name].append(seconds_of(function)[0])

    print(f"{len(utterances)} recordings, {options.seconds:g} s each, median of {options.repeats} runs")
    print(f"values differ by {np.median(difference):.1e} (median), {difference.max():.1e} (largest)")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        print(f"{name}: {value:.2f} s, {1e3 * value / len(utterances):.2f} ms per recording")
    for name, value in median.items():
        if name != "ours":
            print(f"ratio: ours takes {median['ours'] / value:.2f} of the time of {name}")
    print("(target: at most 0.50 of the time of librosa)")
    if options.parts:
        tell_parts(utterances, samples)


if __name__ == "__main__":
    main()
