"""The optional reader on tensorflow-io, where its extra is installed."""

import importlib.util

import numpy as np
import pytest
import soundfile

from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data import feature_cache, tfio_reader
from light_sernet_kd.errors import UserError


def works() -> bool:
    if importlib.util.find_spec("tensorflow_io") is None:
        return False
    try:
        tfio_reader._tensorflow_io()
    except UserError:
        return False
    return True


needs_tfio = pytest.mark.skipif(not works(), reason='no tensorflow-io: pip install -e ".[tfio]"')


def recording(folder, name: str, rate: int, seconds: float, channels: int = 1, **how) -> Utterance:
    """Three tones, which any good resampler keeps."""
    time = np.arange(round(rate * seconds)) / rate
    tones = sum(np.sin(2 * np.pi * hz * time) for hz in (220, 1000, 3100)) / 8
    samples = np.stack([tones * (channel + 1) / channels for channel in range(channels)], axis=1)
    soundfile.write(folder / name, samples, rate, **how)
    return Utterance(name, folder / name, "fear", "s")


@needs_tfio
@pytest.mark.parametrize("front_end", ["lsn", "cubic"])
def test_it_reads_what_soundfile_and_soxr_read(tmp_path, front_end):
    made = [
        recording(tmp_path, "a.wav", 16_000, 0.7, subtype="PCM_16"),
        recording(tmp_path, "b.wav", 16_000, 1.5, channels=2, subtype="PCM_24"),
        recording(tmp_path, "c.wav", 24_000, 0.9, subtype="FLOAT"),
        recording(tmp_path, "d.flac", 48_000, 1.0),
    ]
    expected = feature_cache.waveforms(made, samples=16_000, front_end=front_end)
    (found,) = tfio_reader.waveform_blocks(made, samples=16_000, front_end=front_end)
    np.testing.assert_allclose(found[:2], expected[:2], atol=1e-6)
    # tensorflow-io's resampler leaves its filter's delay in: 32 samples at these rates.
    for one, other in zip(found[2:], expected[2:], strict=True):
        likeness = [np.corrcoef(one[2000 + d : 12_000 + d], other[2000:12_000])[0, 1] for d in range(64)]
        assert max(likeness) > 0.999
        assert 0 < np.argmax(likeness) < 60


@needs_tfio
def test_what_it_reads_wrong_is_refused(tmp_path):
    made = [recording(tmp_path, "w.wav", 16_000, 0.5, subtype="PCM_32")]
    with pytest.raises(UserError, match="which tensorflow-io does not read right"):
        list(tfio_reader.waveform_blocks(made, samples=8000, front_end="lsn"))


@pytest.mark.skipif(works(), reason="tensorflow-io works here")
def test_where_it_cannot_work_it_says_so(tmp_path):
    made = [recording(tmp_path, "a.wav", 16_000, 0.5)]
    with pytest.raises(UserError, match=r"--reader tfio needs tensorflow-io on TensorFlow 2\.17"):
        list(tfio_reader.waveform_blocks(made, samples=8000, front_end="lsn"))
