"""openSMILE's functionals: those that the package computes of a file, and what it refuses."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from light_sernet_kd import audio
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.encoders import embedding_cache, opensmile
from light_sernet_kd.errors import UserError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def package():
    if importlib.util.find_spec("opensmile") is None:
        pytest.skip("the extra opensmile is missing")


def recording(folder, name, samples) -> Utterance:
    path = folder / f"{name}.wav"
    tone = 0.3 * np.sin(2 * np.pi * 150 * np.arange(samples) / 16_000)
    soundfile.write(path, tone + 0.01 * RNG.normal(size=samples), 16_000, subtype="PCM_16")
    return Utterance(name, path, "anger", "ann")


@pytest.mark.parametrize("feature_set", [*opensmile.WIDTHS, ""])
def test_a_row_is_what_the_package_says_of_the_file(package, tmp_path, feature_set):
    utterance = recording(tmp_path, "one", 16_000)
    fingerprints = {"one": audio.fingerprint(utterance.path)}
    encoder = opensmile.encoder(feature_set)
    row = embedding_cache.embed([utterance], fingerprints, encoder, cache=tmp_path).stacked()
    # in another process, since the package and TensorFlow do not go together in one
    code = (
        "import sys, opensmile as package\n"
        "smile = package.Smile(package.FeatureSet[sys.argv[1]], package.FeatureLevel.Functionals)\n"
        "smile.process_file(sys.argv[2]).to_numpy().tofile(sys.argv[3])\n"
    )
    table = tmp_path / "row.bin"
    name = feature_set or "ComParE_2016"
    subprocess.run([sys.executable, "-c", code, name, str(utterance.path), str(table)], check=True)
    np.testing.assert_array_equal(row[0], np.fromfile(table, np.float32))


@pytest.mark.parametrize("feature_set", opensmile.WIDTHS)
def test_a_recording_that_is_too_short_gets_zeros_at_its_end(package, feature_set):
    short = RNG.normal(size=200).astype(np.float32)
    encoder = opensmile.encoder(feature_set)
    one, two = encoder.encode([short, np.concatenate([short, np.zeros(1400, np.float32)])])
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)
    assert np.isfinite(next(iter(encoder.encode([np.zeros(16_000, np.float32)])))).all()


def test_each_set_has_a_cache_of_its_own(package, tmp_path):
    assert len({opensmile.encoder(name).folder(tmp_path) for name in opensmile.WIDTHS}) == 3


def test_an_unknown_set_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(UserError, match=r"unknown openSMILE set 'emobas'\. Did you mean emobase\?"):
        opensmile.encoder("emobas")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"openSMILE is not installed: .*\[opensmile\]"):
        opensmile.encoder()


def test_a_process_that_fails_is_one_line(package, monkeypatch, tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("raise SystemExit('out of luck')")
    monkeypatch.setattr(opensmile, "_SCRIPT", script)
    with pytest.raises(UserError, match=r"^openSMILE stopped with exit code 1: out of luck$"):
        opensmile.encoder().encode([np.zeros(16_000, np.float32)])
