"""Target: 100,000 unlabelled clips are extracted in at most 1 GB above the encoder, and a kill loses little.

Makes recordings of one clip each, all of them different, in a temporary folder. Then processes of their own
survey them, compute their features with Light-SERNet's front end, and let a teacher answer them: a linear
probe on a cheap encoder (64 numbers per clip, or YAMNet with --yamnet FILE).

1. The first process is killed (SIGKILL) when a share of the recordings is surveyed or encoded.
2. The second one goes on; its memory is sampled every 20 ms, from when the encoder has heard a clip.
3. The third one finds all of it done.

Memory is what the process has for itself (RssAnon); beside it the pages of mapped files, which the system
takes back when it needs them (RssFile).

    nice -n 10 python benchmarks/unlabelled.py --clips 100000
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
REPOSITORY = Path(__file__).resolve().parent.parent
# Run as a script, only benchmarks/ is on the path.
sys.path.insert(0, str(REPOSITORY))

import numpy as np
import soundfile

from light_sernet_kd.config import SAMPLE_RATE

WIDTH, CLASSES = 64, 7


def clip_maker(samples):
    """A function of a number to a clip: a part of made speech, of another place and level each time."""
    from light_sernet_kd.corpora import demo

    texts = [(voice, text) for voice in list(demo.SPEAKERS)[:4] for text in list(demo.SENTENCES)[:4]]
    speech = np.concatenate([demo.synthesise(voice, text, "neutral") for voice, text in texts])

    def made(number):
        rng = np.random.default_rng(number)
        start = rng.integers(0, len(speech) - samples)
        return (rng.uniform(0.2, 0.9) * speech[start : start + samples]).astype(np.float32)

    return made


def make(folder, clips, samples):
    """As many recordings, a thousand to a folder."""
    made = clip_maker(samples)
    for start in range(0, clips, 1000):
        (folder / f"{start:07d}").mkdir(parents=True)

    def write(number):
        path = folder / f"{number // 1000 * 1000:07d}" / f"{number:07d}.wav"
        soundfile.write(path, made(number), SAMPLE_RATE)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(write, range(clips)):
            pass


def cheap_encoder():
    """The powers of 64 equal bands of a clip's spectrum, in log."""
    from light_sernet_kd.encoders.embedding_cache import Encoder

    def encode(waveforms):
        for waveform in waveforms:
            power = np.abs(np.fft.rfft(waveform, 16_384))[: 64 * 128] ** 2
            yield np.log(power.reshape(WIDTH, -1).sum(axis=1) + 1e-9)[None].astype(np.float32)

    return Encoder("bands", {"bands": WIDTH}, (WIDTH,), encode)


class Memory(threading.Thread):
    """Samples the process's memory until it is asked for the peak."""

    def __init__(self):
        super().__init__(daemon=True)
        self.begin, self.peak, self.running = self.now(), {}, True
        self.peak = dict(self.begin)

    @staticmethod
    def now():
        lines = Path("/proc/self/status").read_text().splitlines()
        rows = dict(line.split(":", 1) for line in lines)
        return {name: int(rows[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}

    def run(self):
        while self.running:
            for name, value in self.now().items():
                self.peak[name] = max(self.peak[name], value)
            time.sleep(0.02)

    def above(self):
        self.running = False
        self.join()
        return {name: round(self.peak[name] - self.begin[name]) for name in self.peak}


def extract(options):
    """All that a run does before its student trains; prints what it took as JSON."""
    from light_sernet_kd.data.unlabelled import Clips, survey
    from light_sernet_kd.encoders import front_end, yamnet
    from light_sernet_kd.encoders.embedding_cache import OneEach, embed_by_key
    from light_sernet_kd.teachers.unlabelled import blocks_of, read, write

    samples, work = options.samples, options.folder / "work"
    features = front_end.encoder("lsn", "mfcc", samples)
    encoder = yamnet.encoder(options.yamnet) if options.yamnet else cheap_encoder()
    one = [clip_maker(samples)(0)]
    for each in (features, encoder):
        list(each.encode(one * 64))
    weights = np.random.default_rng(0).normal(0, 0.1, (encoder.shape[0], CLASSES))
    memory, seconds = Memory(), {}
    memory.start()

    def timed(name, function):
        start = time.perf_counter()
        result = function()
        seconds[name] = time.perf_counter() - start
        return result

    clips = Clips(timed("survey", lambda: survey(options.folder / "speech", samples, work)))

    def embedded(each):
        return OneEach(embed_by_key(clips.keys, clips.blocks, each, cache=work))

    rows = timed("features", lambda: embedded(features))
    heard = timed("encoder", lambda: embedded(encoder))
    path = work / "answers.npy"
    timed(
        "answers",
        lambda: write(path, ((heard[b] @ weights) for b in blocks_of(len(heard))), len(heard), CLASSES),
    )
    peak = memory.above()
    digest = hashlib.sha256(read(path, len(clips), CLASSES).tobytes())
    for block in blocks_of(len(rows)):
        digest.update(rows[block].tobytes())
    told = {"clips": len(clips), "digest": digest.hexdigest(), "seconds": seconds, "peak": peak}
    print(json.dumps(told))


def child(options):
    command = [sys.executable, __file__, "--folder", str(options.folder), "--samples", str(options.samples)]
    if options.yamnet:
        command += ["--yamnet", str(options.yamnet)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def parts_of(work):
    """How many parts are whole: of the survey, and of encoders."""
    return len(list(work.glob("survey-*/*.npz"))), len(list(work.glob("*/*.npy")))


def kill_in_the_midst(options):
    """Kill a process that extracts, once some features are there; returns the parts that it left."""
    work, process = options.folder / "work", child(options)
    while process.poll() is None and parts_of(work)[1] < options.kill_after:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return parts_of(work)


def finished(options):
    start = time.perf_counter()
    process = child(options)
    told = json.loads(process.communicate()[0].splitlines()[-1])
    return told, time.perf_counter() - start


def show(title, told, seconds):
    each = ", ".join(f"{name} {value:.0f} s" for name, value in told["seconds"].items())
    print(f"{title}: {seconds:.0f} s with the start of Python ({each})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000, help="recordings of one clip (100,000)")
    parser.add_argument("--samples", type=int, default=9_600, help="of a clip at 16 kHz (9,600)")
    parser.add_argument("--yamnet", type=Path, metavar="FILE", help="YAMNet instead of the cheap encoder")
    parser.add_argument("--kill_after", type=int, default=10, help="parts of features before the kill (10)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        extract(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        start = time.perf_counter()
        make(options.folder / "speech", options.clips, options.samples)
        print(f"{options.clips:,} recordings made in {time.perf_counter() - start:.0f} s", flush=True)
        start = time.perf_counter()
        surveyed, encoded = kill_in_the_midst(options)
        seconds = time.perf_counter() - start
        print(
            f"killed after {seconds:.0f} s: {surveyed} parts of the survey and {encoded} of features left",
            flush=True,
        )
        told, seconds = finished(options)
        show("went on", told, seconds)
        peak = told["peak"]
        print(
            f"memory above the encoder: {peak['RssAnon']} MB of its own, {peak['RssFile']} MB of mapped files"
        )
        again, seconds = finished(options)
        show("again", again, seconds)
        whole = sum(told["seconds"].values())
        print(f"{told['clips']:,} clips, {told['clips'] / whole:.0f} per second behind the kill")
        if again["digest"] != told["digest"]:
            raise SystemExit("the clips, or what is said of them, are not the same")
        print("(target: at most 1,024 MB of its own)")


if __name__ == "__main__":
    main()
