"""Embeddings: computed once per recording, whole or absent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY

from light_sernet_kd import audio
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.encoders import embedding_cache
from light_sernet_kd.errors import UserError


def recordings(folder: Path, count: int, *, first: int = 0) -> tuple[list[Utterance], dict[str, str]]:
    """Recordings of different length and content, and their fingerprints."""
    folder.mkdir(exist_ok=True)
    utterances = []
    for number in range(first, first + count):
        path = folder / f"{number}.wav"
        values = np.random.default_rng(number).uniform(-0.5, 0.5, 100 + number)
        soundfile.write(path, values, 16_000, subtype="FLOAT")
        utterances.append(Utterance(f"u{number}", path, "joy", "s"))
    return utterances, {utterance.id: audio.fingerprint(utterance.path) for utterance in utterances}


def moments(waveform: np.ndarray) -> np.ndarray:
    return np.array([[waveform.mean(), waveform.std(), len(waveform)]])


class Counting:
    """An encoder of one row, or of one per 40 samples, that counts what it is given."""

    def __init__(self, *, frames: bool = False, dtype="float32", **identity):
        self.seen, self.calls, self.frames = 0, 0, frames
        self.encoder = embedding_cache.Encoder("counting", identity, (3,), self.encode, dtype)

    def encode(self, waveforms):
        self.calls += 1
        self.seen += len(waveforms)
        for waveform in waveforms:
            parts = [waveform[i : i + 40] for i in range(0, len(waveform), 40)] if self.frames else [waveform]
            yield np.concatenate([moments(part) for part in parts])


def expected(utterances) -> np.ndarray:
    return np.concatenate([moments(soundfile.read(u.path, dtype="float32")[0]) for u in utterances])


def test_embeddings_come_in_the_order_of_the_utterances(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 150)
    shuffled = [utterances[i] for i in np.random.default_rng(0).permutation(150)]
    found = embedding_cache.embed(shuffled, fingerprints, Counting().encoder, cache=tmp_path)
    assert len(found) == 150
    np.testing.assert_allclose(found.stacked(), expected(shuffled), rtol=1e-6)
    np.testing.assert_allclose(found[7], expected(shuffled[7:8]), rtol=1e-6)
    np.testing.assert_allclose(found[-1], expected(shuffled[-1:]), rtol=1e-6)
    np.testing.assert_allclose(found[3:9].stacked(), expected(shuffled[3:9]), rtol=1e-6)


def test_rows_of_different_number_keep_their_place(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 70)
    found = embedding_cache.embed(utterances, fingerprints, Counting(frames=True).encoder, cache=tmp_path)
    for utterance, rows, values in zip(utterances, found.rows, found, strict=True):
        waveform = soundfile.read(utterance.path, dtype="float32")[0]
        parts = [moments(waveform[i : i + 40]) for i in range(0, len(waveform), 40)]
        assert rows == len(parts)
        np.testing.assert_allclose(values, np.concatenate(parts), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="more than one row"):
        found.stacked()


def test_what_is_stored_is_mapped_and_not_read(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 3)
    for _ in range(2):
        found = embedding_cache.embed(utterances, fingerprints, Counting().encoder, cache=tmp_path)
        assert all(isinstance(block, np.memmap) and block.mode == "r" for block in found._blocks)


def test_only_new_recordings_are_encoded(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 70)
    counting = Counting()
    embedding_cache.embed(utterances[:40], fingerprints, counting.encoder, cache=tmp_path)
    embedding_cache.embed(utterances, fingerprints, counting.encoder, cache=tmp_path)
    found = embedding_cache.embed(utterances[::-1], fingerprints, counting.encoder, cache=tmp_path)
    assert counting.seen == 70
    np.testing.assert_allclose(found.stacked(), expected(utterances[::-1]), rtol=1e-6)


def test_a_recording_is_known_by_its_content(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 2)
    counting = Counting()
    embedding_cache.embed(utterances, fingerprints, counting.encoder, cache=tmp_path)
    moved = Utterance("other", tmp_path / "moved.wav", "fear", "t")
    shutil.move(utterances[0].path, moved.path)
    again = {**fingerprints, "other": audio.fingerprint(moved.path)}
    embedding_cache.embed([moved, utterances[1], moved], again, counting.encoder, cache=tmp_path)
    assert counting.seen == 2
    soundfile.write(moved.path, np.full(50, 0.25), 16_000, subtype="FLOAT")
    again["other"] = audio.fingerprint(moved.path)
    found = embedding_cache.embed([moved], again, counting.encoder, cache=tmp_path)
    assert counting.seen == 3
    np.testing.assert_allclose(found.stacked(), [[0.25, 0, 50]])


def test_twins_are_encoded_once(tmp_path):
    (utterance,), fingerprints = recordings(tmp_path / "wav", 1)
    twin = Utterance("twin", utterance.path, "fear", "t")
    fingerprints["twin"] = fingerprints[utterance.id]
    counting = Counting()
    found = embedding_cache.embed([utterance, twin], fingerprints, counting.encoder, cache=tmp_path)
    assert counting.seen == 1
    np.testing.assert_array_equal(found[0], found[1])


def test_everything_that_decides_the_numbers_is_part_of_the_key(tmp_path):
    folders = {
        Counting(**identity).encoder.folder(tmp_path)
        for identity in ({"hop": 1}, {"hop": 2}, {"hop": 1, "file": "x"}, {"hop": 1, "dtype": "float16"})
    }
    assert len(folders) == 4
    one, two = (Counting(**order).encoder for order in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert one.folder(tmp_path) == two.folder(tmp_path)


def test_half_precision_takes_half_the_space(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 5)
    half = Counting(dtype="float16").encoder
    found = embedding_cache.embed(utterances, fingerprints, half, cache=tmp_path)
    np.testing.assert_allclose(found.stacked(), expected(utterances), rtol=1e-3)
    assert found.stacked().dtype == np.float32
    (block,) = half.folder(tmp_path).glob("*.npy")
    assert np.load(block).nbytes == 5 * 3 * 2


def test_what_half_precision_cannot_hold_is_refused(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 1)
    large = embedding_cache.Encoder(
        "large", {}, (1,), lambda clips: [np.full((1, 1), 7e4)] * len(clips), "float16"
    )
    with pytest.raises(UserError, match=r"not finite in float16 .*\. Store float32 instead\."):
        embedding_cache.embed(utterances, fingerprints, large, cache=tmp_path)


def test_a_recording_whose_row_is_not_finite_is_named(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 3)
    calls = iter(range(3))

    def encode(clips):
        return [np.full((1, 2), np.nan if next(calls) == 1 else 1.0) for _ in clips]

    holes = embedding_cache.Encoder("holes", {}, (2,), encode)
    with pytest.raises(UserError, match=r"holes gives numbers that are not finite .* for u1 \(.*1\.wav\)"):
        embedding_cache.embed(utterances, fingerprints, holes, cache=tmp_path)


def test_a_run_that_is_killed_goes_on_behind_its_last_block(tmp_path):
    utterances, _ = recordings(tmp_path / "wav", 200)
    code = (
        "import os, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from light_sernet_kd import audio\n"
        "from light_sernet_kd.encoders import embedding_cache as embeddings\n"
        "from light_sernet_kd.corpora import Utterance\n"
        "folder = Path(sys.argv[1])\n"
        "utterances = [Utterance(f'u{n}', folder / 'wav' / f'{n}.wav', 'joy', 's') for n in range(200)]\n"
        "prints = {u.id: audio.fingerprint(u.path) for u in utterances}\n"
        "seen = 0\n"
        "def encode(clips):\n"
        "    global seen\n"
        "    for clip in clips:\n"
        "        seen += 1\n"
        "        if seen == 150:\n"
        "            os.kill(os.getpid(), 9)\n"
        "        yield np.array([[clip.mean(), clip.std(), len(clip)]])\n"
        "encoder = embeddings.Encoder('counting', {}, (3,), encode)\n"
        "embeddings.embed(utterances, prints, encoder, cache=folder)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True)
    assert done.returncode == -9, done.stderr
    fingerprints = {utterance.id: audio.fingerprint(utterance.path) for utterance in utterances}
    counting = Counting()
    reported = []
    found = embedding_cache.embed(
        utterances,
        fingerprints,
        counting.encoder,
        cache=tmp_path,
        progress=lambda done, total: reported.append((done, total)),
    )
    assert counting.seen == 200 - 2 * embedding_cache.BLOCK
    assert reported == [(192, 200), (200, 200)]
    np.testing.assert_allclose(found.stacked(), expected(utterances), rtol=1e-6)


@pytest.mark.parametrize("damage", ["cut block", "no block", "other block", "cut index", "other index"])
def test_a_damaged_block_is_made_again(tmp_path, damage):
    utterances, fingerprints = recordings(tmp_path / "wav", 10)
    counting = Counting()
    embedding_cache.embed(utterances, fingerprints, counting.encoder, cache=tmp_path)
    (block,) = counting.encoder.folder(tmp_path).glob("*.npy")
    index = block.with_suffix(".json")
    if damage == "cut block":
        block.write_bytes(block.read_bytes()[:-8])
    elif damage == "no block":
        block.unlink()
    elif damage == "other block":
        np.save(block, np.zeros((9, 3), np.float32))
    elif damage == "cut index":
        index.write_text(index.read_text()[:100])
    else:
        index.write_text(json.dumps({"recordings": {}}))
    found = embedding_cache.embed(utterances, fingerprints, counting.encoder, cache=tmp_path)
    assert counting.seen == 20
    np.testing.assert_allclose(found.stacked(), expected(utterances), rtol=1e-6)


def test_bad_recordings_are_named_together_and_the_others_kept(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 70)
    for number in (3, 66):
        utterances[number].path.write_bytes(b"")
    counting = Counting()
    with pytest.raises(UserError) as caught:
        embedding_cache.embed(utterances, fingerprints, counting.encoder, cache=tmp_path)
    message = str(caught.value)
    assert message.startswith("2 of 70 recordings cannot be used:")
    assert "3.wav is empty" in message
    assert "66.wav is empty" in message
    assert "--skip-bad" in message
    good = [utterance for utterance in utterances if utterance.id not in ("u3", "u66")]
    embedding_cache.embed(good, fingerprints, counting.encoder, cache=tmp_path)
    assert counting.seen == 68


def test_rows_are_padded_with_zeros_or_cut_to_the_first(tmp_path):
    utterances, fingerprints = recordings(tmp_path / "wav", 70)  # 3 or, from 121 samples on, 4 or 5 rows
    found = embedding_cache.embed(utterances, fingerprints, Counting(frames=True).encoder, cache=tmp_path)
    assert set(found.rows.tolist()) == {3, 4, 5}
    padded = embedding_cache.Padded(found, 4)
    assert (padded.shape, padded.dtype, len(padded)) == ((70, 4, 3), np.float32, 70)
    wanted = np.zeros((70, 4, 3), np.float32)
    for own, rows in zip(wanted, found, strict=True):
        for i, row in enumerate(rows[:4]):
            own[i] = row
    assert (wanted[0, 3] == 0).all()
    for index in (
        np.array([69, 0, 0, -1]),
        np.array([[1, 2], [3, 68]]),
        np.array([], int),
        np.arange(70) % 3 == 1,
        slice(60, None, 2),
        5,
        np.int64(-2),
    ):
        values = padded[index]
        np.testing.assert_array_equal(values, wanted[index])
        assert values.dtype == np.float32
    with pytest.raises(IndexError):
        padded[np.array([0, 70])]
    with pytest.raises(ValueError, match="at least 1"):
        embedding_cache.Padded(found, 0)


def test_trimmed_rows_are_padded_to_the_next_16_behind_the_longest_asked_for(tmp_path):
    lengths = [3, 16, 17, 40, 1]
    made = {str(length): np.full((length, 2), length, np.float32) for length in lengths}
    encoder = embedding_cache.Encoder("made", {}, (2,), lambda items: items)
    found = embedding_cache.embed_by_key(
        list(made),
        lambda keys: iter([(keys, [made[key] for key in keys], len(keys))]),
        encoder,
        cache=tmp_path,
    )
    padded = embedding_cache.Padded(found, 36)
    trimmed = padded.trimmed()
    assert (trimmed.shape, len(trimmed)) == ((5, None, 2), 5)
    for index, rows in (([0, 1], 16), ([2, 4], 32), ([3, 0], 36), ([], 16), ([[1, 2], [0, 0]], 32)):
        index = np.array(index, int)
        np.testing.assert_array_equal(trimmed[index], padded[index][..., :rows, :])
    assert trimmed[4].shape == (16, 2)
    assert embedding_cache.Padded(found, 8).trimmed()[np.arange(5)].shape == (5, 8, 2)


def test_what_lies_behind_keys_is_read_once_and_only_when_it_is_missing(tmp_path):
    asked = []

    def read(missing):
        asked.append(list(missing))
        for key in missing:
            yield [key], [np.full(3, float(key))], 1

    encoder = embedding_cache.Encoder(
        "thrice", {}, (2,), lambda items: [item[:, None] * [1, 2] for item in items]
    )
    embedding_cache.embed_by_key(["4", "2", "4"], read, encoder, cache=tmp_path)
    reported = []
    found = embedding_cache.embed_by_key(
        ["2", "9", "4", "9"], read, encoder, cache=tmp_path, progress=lambda *done: reported.append(done)
    )
    assert asked == [["4", "2"], ["9"]]
    assert reported == [(4, 4)]
    assert found.shape == (2,)
    for value, rows in zip((2, 9, 4, 9), found, strict=True):
        np.testing.assert_array_equal(rows, [[value, 2 * value]] * 3)


def test_what_was_read_before_an_error_is_kept(tmp_path):
    asked = []

    def read(missing):
        asked.append(list(missing))
        for key in missing:
            if key == "x":
                raise UserError("x cannot be read.")
            yield [key], [np.ones((1, 1))], 1

    encoder = embedding_cache.Encoder("ones", {}, (1,), lambda items: items)
    with pytest.raises(UserError, match="x cannot be read"):
        embedding_cache.embed_by_key(["1", "2", "x"], read, encoder, cache=tmp_path)
    embedding_cache.embed_by_key(["2", "1"], read, encoder, cache=tmp_path)
    assert asked == [["1", "2", "x"]]


def test_no_utterances_are_refused(tmp_path):
    with pytest.raises(UserError, match="no utterances"):
        embedding_cache.embed([], {}, Counting().encoder, cache=tmp_path)
