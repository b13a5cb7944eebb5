"""openSMILE's functionals: a few statistics of many contours, one row for a recording.

Source: Eyben, Wöllmer and Schuller 2010, openSMILE (ACM Multimedia); the sets are ComParE_2016 (Schuller et
al. 2016, Interspeech, 6,373 functionals), emobase (988) and eGeMAPSv02 (Eyben et al. 2016, 88).
"""

import functools
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError, choose, install_line

WIDTHS = {"ComParE_2016": 6373, "emobase": 988, "eGeMAPSv02": 88}
DEFAULT = "ComParE_2016"
# What is shorter than the longest frame, 60 ms, has no functionals; 0.1 s has some frames of it.
LEAST_SAMPLES = SAMPLE_RATE // 10
_SCRIPT = Path(__file__).with_name("opensmile_process.py")


def encoder(feature_set: str = "") -> Encoder:
    """One of openSMILE's sets as an encoder: a recording's functionals, one row.

    A recording of less than 0.1 s gets zeros at its end.

    Args:
        feature_set: a key of `WIDTHS`; empty for ComParE_2016.

    Raises:
        UserError: no such set, or openSMILE is not installed.
    """
    name = choose("openSMILE set", feature_set or DEFAULT, WIDTHS)
    if importlib.util.find_spec("opensmile") is None:
        raise UserError(f"openSMILE is not installed: {install_line('opensmile')}")

    def encode(waveforms: Sequence[np.ndarray]) -> np.ndarray:
        return _functionals(waveforms, name)[:, None]

    identity = {"opensmile": importlib.metadata.version("opensmile"), "set": name, "level": "functionals"}
    again = functools.partial(encoder, feature_set)
    return Encoder(f"opensmile-{name}", identity, (WIDTHS[name],), encode, recreate=again)


def _functionals(waveforms: Sequence[np.ndarray], name: str) -> np.ndarray:
    """`(recordings, width)` float32.

    openSMILE's library overwrites memory where TensorFlow is in the same process (2.6.0 beside 2.21: malloc
    aborts), and a process of its own has none.
    """
    padded = [np.pad(each, (0, max(0, LEAST_SAMPLES - len(each)))) for each in waveforms]
    lengths = np.array([len(padded), *map(len, padded)], np.int64)
    done = subprocess.run(
        # -P: the folder of the script, where modules have such names too, is none to import from
        [sys.executable, "-P", str(_SCRIPT), name],
        input=lengths.tobytes() + b"".join(each.astype(np.float32).tobytes() for each in padded),
        capture_output=True,
        check=False,
    )
    rows = np.frombuffer(done.stdout, np.float32)
    if done.returncode or len(rows) != len(padded) * WIDTHS[name]:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"openSMILE stopped with exit code {done.returncode}: {last}")
    return rows.reshape(len(padded), WIDTHS[name])
