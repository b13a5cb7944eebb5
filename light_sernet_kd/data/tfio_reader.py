"""An optional reader on tensorflow-io, which decodes and resamples inside the tf.data graph.

Its native operations load on TensorFlow up to 2.17 alone, and it trusts its input: told the wrong sample type
it ends the process, 32-bit WAV it takes for floating point, and what it resamples comes some milliseconds
late. So every recording is first looked at by soundfile, and soundfile with soxr stays the default.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.feature_cache import BATCH, Reader
from light_sernet_kd.errors import UserError, first_line
from light_sernet_kd.registries.front_ends import FRONT_ENDS

# Container and encoding, as soundfile names them → sample type, as tensorflow-io must be told it.
ENCODINGS = {
    **{f"{wav} PCM_16": "int16" for wav in ("WAV", "WAVEX")},
    **{f"{wav} PCM_24": "int32" for wav in ("WAV", "WAVEX")},
    **{f"{wav} FLOAT": "float32" for wav in ("WAV", "WAVEX")},
    "FLAC PCM_16": "int16",
    "OGG VORBIS": "float32",
    "MP3 MPEG_LAYER_III": "float32",
}
_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31, "float32": 1.0}


def _tensorflow_io():
    """The package, once one of its native operations has answered."""
    try:
        import tensorflow as tf
        import tensorflow_io as tfio

        tfio.audio.resample(tf.zeros((16, 1)), 2, 1)
    except Exception as error:  # a missing package, or whatever a native library raises that does not fit
        raise UserError(
            f"--reader tfio needs tensorflow-io on TensorFlow 2.17 ({type(error).__name__}: "
            f"{first_line(error, 120)}). In an environment of its own with Python 3.11 or 3.12: "
            'pip install -e ".[tfio]". Or leave the option out: soundfile reads more formats.'
        ) from None
    return tf, tfio


def waveform_blocks(utterances: Sequence[Utterance], *, samples: int, front_end: str) -> Iterator[np.ndarray]:
    """As `feature_cache.waveform_blocks`: float32 `(up to BATCH, samples)`, cut or padded as `front_end`.

    Raises:
        UserError: tensorflow-io does not work here, or recordings that it cannot read; lists all of them.
    """
    tf, tfio = _tensorflow_io()
    types = _sample_types(utterances)
    used = sorted(set(types))

    def decoded(path, kind: str):
        stored = tfio.audio.AudioIOTensor(path, dtype=tf.as_dtype(kind))
        waveform = tf.cast(stored.to_tensor(), tf.float32) / _FULL_SCALE[kind]
        return tf.reduce_mean(waveform, axis=1), stored.rate

    def clip(path, number):
        branches = [lambda kind=kind: decoded(path, kind) for kind in used]
        waveform, rate = tf.switch_case(number, branches)
        waveform = tf.cond(
            rate == SAMPLE_RATE,
            lambda: waveform,
            lambda: tfio.audio.resample(waveform[:, None], tf.cast(rate, tf.int64), SAMPLE_RATE)[:, 0],
        )
        surplus = tf.size(waveform) - samples
        first = tf.maximum(surplus, 0) // 2
        waveform = waveform[first : first + samples]
        before = tf.maximum(-surplus, 0) // 2 if FRONT_ENDS[front_end].padding == "both" else 0
        padded = tf.pad(waveform, [[before, samples - tf.size(waveform) - before]])
        return tf.ensure_shape(padded, (samples,))

    paths = [str(utterance.path) for utterance in utterances]
    rows = tf.data.Dataset.from_tensor_slices((paths, [used.index(kind) for kind in types]))
    options = tf.data.Options()
    options.autotune.enabled = False
    blocks = rows.map(clip, num_parallel_calls=2).batch(BATCH).prefetch(1).with_options(options)
    yield from blocks.as_numpy_iterator()


TFIO = Reader("tfio", waveform_blocks)


def _sample_types(utterances: Sequence[Utterance]) -> list[str]:
    def look(utterance: Utterance) -> str | audio.AudioError:
        try:
            encoding = audio.decode(utterance.path).encoding
        except audio.AudioError as error:
            return error
        if encoding in ENCODINGS:
            return ENCODINGS[encoding]
        return audio.AudioError(f"{utterance.path} is {encoding}, which tensorflow-io does not read right")

    types = list(audio.in_order(look, utterances))
    bad = {u.id: str(one) for u, one in zip(utterances, types, strict=True) if isinstance(one, Exception)}
    if bad:
        raise UserError(audio.listing(bad, len(utterances)) + "\n  Leave out --reader tfio to read them.")
    return [str(one) for one in types]
