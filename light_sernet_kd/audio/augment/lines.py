"""The way to the listener: telephone lines and codecs."""

import functools
import io

import numpy as np

from light_sernet_kd.audio import resample

SAMPLE_RATE, LINE_RATE = 16_000, 8000


def telephone(waveform, rng, *, chance=0.3, a_law=0.4, linear=0.2):
    """The waveform `(samples,)` as heard over a narrow-band line, of the same length and without delay.

    A band from 200 to 400 Hz up to 3000 to 3700 Hz, each edge drawn, at 8 kHz; then G.711: A-law with the
    probability `a_law`, no companding with `linear`, else µ-law. What exceeds full scale is cut, as a line
    does.

    Source: the band of ITU-T G.712 is 300 to 3400 Hz; G.711 by libsndfile.
    """
    if rng.random() >= chance or not len(waveform):
        return waveform
    from scipy import signal

    low, high, kind = rng.uniform(200, 400), rng.uniform(3000, 3700), rng.random()
    narrow = resample(waveform, SAMPLE_RATE, LINE_RATE)
    # The edges are steep enough for speech at twice second order: 12 dB per octave below, 24 above.
    edges = [
        signal.butter(2, low, "highpass", fs=LINE_RATE, output="sos"),
        signal.butter(4, high, "lowpass", fs=LINE_RATE, output="sos"),
    ]
    line = np.clip(signal.sosfilt(np.concatenate(edges), narrow), -1, 1)
    if kind >= linear:
        line = companded(line, "ALAW" if kind < linear + a_law else "ULAW")
    return as_long(resample(line.astype(np.float32), LINE_RATE, SAMPLE_RATE), len(waveform))


def companded(waveform: np.ndarray, law: str) -> np.ndarray:
    """Samples from -1 to 1 as G.711 gives them back, float32; `law` is `ULAW` or `ALAW`."""
    values = np.rint(waveform * 32767).astype(np.int32)
    return _table(law)[values + 32768]


@functools.cache
def _table(law: str) -> np.ndarray:
    """What each 16-bit sample becomes, `(65536,)` float32."""
    import soundfile

    line = io.BytesIO()
    everything = np.arange(-32768, 32768).astype(np.int16)
    soundfile.write(line, everything, LINE_RATE, format="WAV", subtype=law)
    line.seek(0)
    return soundfile.read(line, dtype="float32")[0]


def as_long(waveform: np.ndarray, samples: int) -> np.ndarray:
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
