"""openSMILE in a process of its own: recordings come in on stdin, their functionals go out on stdout.

It is a script, run by its path, and imports nothing of this package. In: the number of recordings, their
lengths (int64), and their samples at 16 kHz (float32). Out: their functionals (float32).
"""

import os
import sys

import numpy as np


def main(feature_set: str) -> None:
    # The library may print: what is written to stdout must be rows alone.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals)
    content = sys.stdin.buffer.read()
    count = int(np.frombuffer(content, np.int64, 1)[0])
    lengths = np.frombuffer(content, np.int64, count, offset=8)
    samples = np.frombuffer(content, np.float32, offset=8 * (1 + count))
    for waveform in np.split(samples, np.cumsum(lengths)[:-1]):
        out.write(smile.process_signal(waveform, 16_000).to_numpy(np.float32).tobytes())
    out.close()


if __name__ == "__main__":
    main(sys.argv[1])
