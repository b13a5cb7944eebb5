"""Recordings that are copies of one another have like signatures."""

import io
import itertools

import numpy as np
import pytest
import soundfile
import soxr

from light_sernet_kd import audio
from light_sernet_kd.corpora import Utterance, emodb
from light_sernet_kd.data.signatures import alike, measure, signature
from light_sernet_kd.errors import UserError

RATE = 16_000


def coded(waveform: np.ndarray, **how) -> np.ndarray:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE, **how)
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


COPIES = {
    "level": lambda x: 0.1 * x,
    "8-kHz": lambda x: soxr.resample(soxr.resample(x, RATE, 8000), 8000, RATE),
    "44.1-kHz": lambda x: soxr.resample(soxr.resample(x, RATE, 44_100), 44_100, RATE),
    "MP3": lambda x: coded(x, format="MP3"),
    "Vorbis": lambda x: coded(x, format="OGG", subtype="VORBIS"),
    "silence": lambda x: np.concatenate([silence(0.4), x, silence(0.2)]),
}


@pytest.fixture(scope="module")
def real(shared_data):
    utterances = emodb.utterances(shared_data / "EMO-DB").utterances
    return utterances, measure(utterances, {each.id: each.id for each in utterances})[:2]


def test_different_recordings_of_emo_db_are_not_alike(real):
    _, (vectors, lengths) = real
    assert alike(vectors, lengths) == []
    closest = np.sort((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)])[-1]
    assert 0.8 < closest < 0.93


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_emo_db_are_alike_and_found_among_all_others(real, kind):
    utterances, (vectors, lengths) = real
    chosen = range(0, len(utterances), 27)
    copies = [signature(COPIES[kind](audio.read(utterances[i].path))) for i in chosen]
    everything = np.concatenate([vectors, [vector for vector, _ in copies]])
    found = alike(everything, np.concatenate([lengths, [length for _, length in copies]]))
    expected = {(i, len(vectors) + n) for n, i in enumerate(chosen)}
    assert set(found) <= expected
    assert len(found) >= 0.9 * len(expected)


def test_pairs_are_those_of_the_double_loop():
    random = np.random.default_rng(0)
    base = random.normal(size=(60, 512))
    vectors = np.concatenate([base, base + 0.1 * random.normal(size=base.shape)]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # some twins are of nearly the same length, some are not
    lengths = np.concatenate([np.arange(100, 160), np.arange(100, 160) + 2 * (np.arange(60) % 9)])
    expected = [
        (a, b)
        for a, b in itertools.combinations(range(120), 2)
        if vectors[a] @ vectors[b] >= 0.98
        and abs(lengths[a] - lengths[b]) <= 0.03 * max(lengths[a], lengths[b]) + 2
    ]
    assert 20 < len(expected) < 60
    for block in (7, 512):
        assert alike(vectors, lengths, block=block) == expected


def test_silence_is_like_nothing_and_the_shortest_clip_has_a_signature():
    vector, length = signature(silence(1))
    assert (np.linalg.norm(vector), length) == (0, 0)
    assert alike(np.stack([vector, vector]), np.zeros(2, int)) == []
    for samples in (100, 600, 5000):
        clip = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
        vector, length = signature(clip)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert length >= 1


def test_signatures_are_kept_for_the_next_time(tmp_path, monkeypatch):
    files = []
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(0).normal(size=RATE) / 9, RATE)
        files.append(Utterance(name, tmp_path / f"{name}.wav", "fear", name))
    prints = {"a": "1", "b": "2"}
    first = measure(files, prints, tmp_path / "cache")
    assert alike(first.vectors, first.lengths) == [(0, 1)]
    monkeypatch.setattr(audio, "read", None)
    again = measure(files, prints, tmp_path / "cache")
    for one_array, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one_array, other)
    with pytest.raises(TypeError):  # another content: reads again
        measure(files, prints | {"b": "3"}, tmp_path / "cache")


def test_a_damaged_cache_is_made_again(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(RATE) / 2, RATE)
    files = [Utterance("a", tmp_path / "a.wav", "fear", "a")]
    first = measure(files, {"a": "1"}, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:50])
    np.testing.assert_array_equal(measure(files, {"a": "1"}, tmp_path / "cache")[0], first[0])


def test_every_unreadable_recording_is_listed(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"no audio")
    files = [Utterance(name, tmp_path / f"{name}.wav", "fear", name) for name in "ab"]
    with pytest.raises(UserError, match="2 of 2 recordings cannot be used") as caught:
        measure(files, {"a": "1", "b": "2"})
    assert "a.wav is not audio" in str(caught.value)
    assert "b.wav is not audio" in str(caught.value)
