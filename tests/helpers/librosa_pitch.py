"""librosa's yin and pyin in a process of their own, which takes some twenty seconds.

Both run code that numba compiles when librosa is imported, and keeps. What several processes kept at a
time, as those of a test run do, can be broken: it then ends the process that runs it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def pitch_of(clips: Mapping[str, np.ndarray], method: str, **settings: int | bool) -> dict[str, np.ndarray]:
    """F0 in Hz per frame of each clip, by `yin` or `pyin`; of the latter NaN where it hears no voice."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "clips.npz", Path(folder) / "f0.npz"
        np.savez(given, **clips)
        words = [f"{name}={int(value)}" for name, value in settings.items()]
        command = [sys.executable, __file__, method, str(given), str(found), *words]
        subprocess.run(
            command, check=True, env=os.environ | {"NUMBA_CACHE_DIR": folder, "NUMBA_DISABLE_JIT": "0"}
        )
        with np.load(found) as arrays:
            return dict(arrays)


def main(method: str, given: str, found: str, *words: str) -> None:
    import librosa

    settings = {name: int(value) for name, _, value in (word.partition("=") for word in words)}
    with np.load(given) as clips:
        f0 = {name: getattr(librosa, method)(clips[name], **settings) for name in clips}
    np.savez(found, **{name: each[0] if isinstance(each, tuple) else each for name, each in f0.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
