"""The list of training recordings: what it finds, what it does not, and that damage is seen."""

import io
import json
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from scipy.fft import dctn

from light_sernet_kd import audio
from light_sernet_kd.corpora import Corpus, Utterance, emodb
from light_sernet_kd.corpora.registry import load
from light_sernet_kd.data import prepare, signatures, training_list
from light_sernet_kd.data.training_list import (
    TrainingList,
    of_tested,
    of_training,
    packed,
    shared,
    training_overlap,
    unpacked,
)
from light_sernet_kd.errors import UserError

RATE = 16_000


def listed(utterances, *, corpus="m", origin="") -> TrainingList:
    prints = audio.fingerprints(utterances)
    return of_training(
        utterances, prints, *signatures.measure(utterances, prints)[:2], corpus=corpus, origin=origin
    )


def voice(seed: int, seconds: float = 1.0) -> np.ndarray:
    """Noise whose level and colour move as those of speech do."""
    random = np.random.default_rng(seed)
    count = int(seconds * RATE)
    points = np.linspace(0, 1, 12)
    level = np.interp(np.linspace(0, 1, count), points, random.uniform(0.01, 1, 12))
    low, high = random.normal(size=(2, count))
    share = np.interp(np.linspace(0, 1, count), points, random.random(12))
    low = np.convolve(low, np.ones(16) / 4, "same")
    return (0.1 * level * (share * low + (1 - share) * high)).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> list[Utterance]:
    folder = tmp_path_factory.mktemp("voices")
    found = []
    for number in range(12):
        path = folder / f"v{number:02d}.wav"
        soundfile.write(path, voice(number), RATE)
        found.append(Utterance(path.stem, path, ("fear", "joy")[number % 2], f"{number % 3:02d}"))
    return found


def asked(trained: TrainingList, utterances, *, corpus="m", origin="") -> training_list.TrainingOverlap:
    return training_overlap({}, trained, of_tested(utterances, corpus=corpus, origin=origin))


def test_one_recording_is_not_counted(recordings):
    trained = listed(recordings[:4])
    assert asked(trained, recordings[:1]).words.startswith("TRAINED ON this recording (identical or near")
    assert asked(trained, recordings[6:7]).words.startswith("this recording was not found among those")


# What is kept


def test_a_recording_takes_18_bytes_and_a_speaker_4(recordings):
    trained = listed(recordings)
    content = packed(trained)
    assert len(content) - content.index(b"\n") - 1 == 18 * 12 + 4 * 3
    again = unpacked(content)
    np.testing.assert_array_equal(again.rows, trained.rows)
    np.testing.assert_array_equal(again.speakers, trained.speakers)
    assert packed(again) == content == packed(listed(recordings[::-1]))


def test_the_bits_are_signs_of_scipys_cosine_transform():
    vectors = np.random.default_rng(0).normal(size=(5, 512)).astype(np.float32)
    waves = dctn(vectors.reshape(5, 32, 16).astype(np.float64), axes=(1, 2))[:, 1:13, :8]
    found = np.unpackbits(training_list.bits_of(vectors), axis=1)
    np.testing.assert_array_equal(found, (waves > 0).reshape(5, 96))


def rows_of(random, count: int) -> np.ndarray:
    rows = np.zeros(count, training_list.ROW)
    rows["content"] = random.integers(0, 2**32, count)
    rows["frames"] = random.integers(0, 130, count)
    rows["bits"] = random.integers(0, 256, (count, 12))
    return rows


def test_what_is_shared_is_that_of_the_double_loop():
    random = np.random.default_rng(0)
    trained, tested = rows_of(random, 150), rows_of(random, 140)
    for row in range(120):  # near ones, of nearly the same length
        tested[row]["frames"] = max(0, int(trained[row]["frames"]) + random.integers(-7, 8))
        bits = np.unpackbits(trained[row]["bits"])
        bits[random.permutation(96)[: random.integers(0, 13)]] ^= 1
        tested[row]["bits"] = np.packbits(bits)
        if row < 40:
            tested[row]["content"] = trained[row]["content"]

    def same(one, other) -> bool:
        frames = (int(one["frames"]), int(other["frames"]))
        apart = abs(frames[0] - frames[1])
        if one["content"] == other["content"] and apart <= 1:
            return True
        differ = int((np.unpackbits(one["bits"]) != np.unpackbits(other["bits"])).sum())
        return min(frames) > 0 and differ <= 6 and apart <= 0.03 * max(frames) + 2

    expected = [any(same(one, other) for other in trained) for one in tested]
    assert 20 < sum(expected) < 120
    none = np.zeros(0, np.uint32)
    found = shared(TrainingList(trained, none), TrainingList(tested, none))
    assert found.tolist() == expected


# Who is known


@pytest.mark.parametrize(
    ("trains", "tests", "count"),
    [
        (range(12), range(12), 12),  # the corpus itself
        (range(12), range(3, 7), 4),  # a subset
        (range(3, 7), range(12), 4),  # a superset
        (range(6), range(3, 9), 3),  # in part
        (range(6), range(6, 12), 0),  # others
    ],
)
def test_recordings_are_compared_and_not_names(recordings, tmp_path, trains, tests, count):
    trained = listed([recordings[i] for i in trains], corpus="m")
    copies = []
    for i in tests:  # a renamed copy elsewhere
        path = tmp_path / f"other-{i}.wav"
        shutil.copy(recordings[i].path, path)
        copies.append(Utterance(f"other-{i}", path, "fear", f"someone {i}"))
    for corpus in ("m", "another"):
        found = asked(trained, copies, corpus=corpus)
        assert (found.recordings, found.trained_on, found.speakers) == (count, count > 0, 0)
        assert f"{count} of these {len(copies)} recordings" in found.words or not count
        assert ("none of these" in found.words) is (not count)
        assert ("in part" in found.words) is (0 < count < len(copies))


def test_a_converted_corpus_is_known_whatever_its_rate_and_cut_ones_are_told_by_speaker(recordings, tmp_path):
    corpus = Corpus("voices", tuple(recordings))
    trained = listed(recordings)
    for rate in (RATE, 8000, 44_100):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = prepare.convert(
                corpus, tmp_path / str(rate), conversion=prepare.Conversion(sample_rate=rate)
            )
        converted = load(str(table), tmp_path)
        assert asked(trained, converted.utterances, corpus=converted.name).recordings == len(recordings)
        # And the other way round.
        assert asked(listed(converted.utterances), recordings).recordings == len(recordings)
    table = prepare.convert(
        corpus, tmp_path / "cut", conversion=prepare.Conversion(segment_seconds=0.3, segments="all")
    )
    parts = load(str(table), tmp_path).utterances
    found = asked(trained, parts)
    assert (found.recordings, found.speakers) == (0, len(parts))
    assert f"but {len(parts)} are of speakers whose names are among those" in found.words


COPIES = {
    "another level": lambda x: 0.1 * x,
    "16 bits of 8 kHz": lambda x: resampled(
        soxr.resample(x, RATE, 8000), 8000, format="WAV", subtype="PCM_16"
    ),
    "16 bits of 44.1 kHz": lambda x: resampled(
        soxr.resample(x, RATE, 44_100), 44_100, format="WAV", subtype="PCM_16"
    ),
    "MP3": lambda x: resampled(x, RATE, format="MP3"),
    "Ogg Vorbis": lambda x: resampled(x, RATE, format="OGG", subtype="VORBIS"),
    "silence around": lambda x: np.pad(x, (6400, 3200)),
}


def resampled(waveform: np.ndarray, rate: int, **how) -> np.ndarray:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, **how)
    buffer.seek(0)
    return soxr.resample(soundfile.read(buffer, dtype="float32")[0], rate, RATE)


def test_copies_of_emo_db_are_found_and_no_other_recording_is(shared_data):
    utterances = emodb.utterances(shared_data / "EMO-DB").utterances[::18]
    waveforms = [audio.read(each.path) for each in utterances]

    def rows(sounds) -> np.ndarray:
        vectors, lengths = zip(*map(signatures.signature, sounds), strict=True)
        # Another content each: it is the sound alone that can be found.
        prints = [f"{np.random.default_rng().integers(2**32):08x}" for _ in sounds]
        return training_list.rows_of(prints, np.array(vectors), np.array(lengths))

    none = np.zeros(0, np.uint32)
    every_second = TrainingList(rows(waveforms[::2]), none)
    fewest = {"MP3": 0.9, "silence around": 0.85}
    for kind, change in COPIES.items():
        found = shared(every_second, TrainingList(rows([change(each) for each in waveforms]), none))
        assert not found[1::2].any(), kind
        assert found[::2].mean() >= fewest.get(kind, 0.95), kind


def test_names_of_speakers_are_compared_as_people_read_them(recordings):
    trained = listed([replace(each, speaker="Zoë") for each in recordings[:4]])
    for name, same in (("Zoë", True), ("ZOE\u0308 ", True), ("Zoe", False)):
        found = asked(trained, [replace(each, speaker=name) for each in recordings[4:]])
        assert found.speakers == (8 if same else 0)
        assert ("names are among those" in found.words) is same
    trained = listed([replace(each, speaker="03") for each in recordings[:4]])
    assert asked(trained, [replace(each, speaker="3") for each in recordings[4:]]).speakers == 8
    # Of recordings that it was trained on, nothing more is said.
    found = asked(trained, [replace(each, speaker="3") for each in recordings[2:]])
    assert (found.recordings, found.speakers) == (2, 8)
    assert "; 8 others are of speakers whose names" in found.words


def test_numbers_of_two_corpora_that_are_known_by_name_are_other_people(recordings):
    trained = listed(recordings[:4], corpus="EMO-DB", origin="EMO-DB")
    others = recordings[4:]
    assert asked(trained, others, corpus="RAVDESS", origin="RAVDESS").speakers == 0
    assert asked(trained, others, corpus="EMO-DB", origin="EMO-DB").speakers == len(others)
    assert asked(trained, others, corpus="mine", origin="").speakers == len(others)


def test_the_prefixes_of_two_corpora_are_no_part_of_a_name(recordings):
    across = [replace(each, speaker=f"one/{each.speaker}") for each in recordings[:6]]
    trained = listed(across, corpus="one → two")
    assert asked(trained, recordings[6:], corpus="two").speakers == 6
    tested = [replace(each, speaker=f"two/{each.speaker}") for each in recordings[6:]]
    assert asked(trained, tested, corpus="one → two").speakers == 6
    assert asked(trained, tested, corpus="three").speakers == 0


def test_silence_is_like_nothing_but_itself(tmp_path):
    def silent(name: str, samples: int) -> Utterance:
        soundfile.write(tmp_path / name, np.zeros(samples), RATE)
        return Utterance(name, tmp_path / name, "fear", name)

    one, other = silent("a.wav", RATE), silent("b.wav", RATE + 5)
    trained = listed([one])
    assert asked(trained, [other]).recordings == 0
    assert asked(trained, [one]).recordings == 1


def test_what_cannot_be_read_is_left_out_and_what_was_read_is_not_read_again(
    recordings, tmp_path, monkeypatch
):
    (tmp_path / "x.wav").write_bytes(b"no audio")
    tested = [*recordings[:3], Utterance("x", tmp_path / "x.wav", "fear", "s")]
    read: dict = {}
    first = of_tested(tested, corpus="m", origin="", read=read)
    assert len(first.rows) == len(first.speakers) == 3
    monkeypatch.setattr(audio, "read", None)
    again = of_tested(tested[::-1], corpus="m", origin="", read=read)
    np.testing.assert_array_equal(again.rows, first.rows[::-1])


def test_without_a_list_nothing_is_claimed(recordings):
    found = training_overlap(
        {"corpus": "EMO-DB"}, None, of_tested(recordings, corpus="EMO-DB", origin="EMO-DB")
    )
    assert (found.trained_on, found.recordings, found.speakers) == (None, None, None)
    assert found.words.startswith(
        "not checked whether it was trained on these recordings: the file was exported"
    )
    assert "its card names EMO-DB" in found.words
    assert "card names" not in training_overlap({}, None, of_tested([], corpus="", origin="")).words


# In a file


def in_file(folder: Path, content: bytes, *, method=zipfile.ZIP_STORED) -> Path:
    """A list where an export has it: in a zip archive behind a model."""
    path = folder / "student.tflite"
    path.write_bytes(b"model" * 50)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("labels.txt", "a\nb\n")
        archive.writestr("training.bin", content)
    return path


def test_the_list_is_read_where_it_is_and_none_where_it_is_not(recordings, tmp_path):
    trained = listed(recordings, origin="EMO-DB")
    found = training_list.read(in_file(tmp_path, packed(trained)))
    np.testing.assert_array_equal(found.rows, trained.rows)
    assert found.origin == "EMO-DB"
    with zipfile.ZipFile(tmp_path / "without.tflite", "w") as archive:
        archive.writestr("card.json", "{}")
    assert training_list.read(tmp_path / "without.tflite") is None
    later = packed(trained).replace(b'"version": 1', b'"version": 2')
    assert training_list.read(in_file(tmp_path, later)) is None


def head(**changes) -> bytes:
    told = {"version": 1, "recordings": 1, "speakers": 1, "origin": ""} | changes
    return json.dumps(told).encode() + b"\n" + bytes(22)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"[]\n",
        b"\xff\n",
        head()[:-1],
        head() + b"x",
        *(
            head(**{name: value})
            for name in ("recordings", "speakers")
            for value in (-1, 2, 1e300, "1", None)
        ),
        head(recordings=10**30),
        head(origin=3),
        head(version="1"),
        head(version=None),
    ],
)
def test_a_damaged_list_is_one_error_that_names_the_file(tmp_path, content):
    path = in_file(tmp_path, content)
    with pytest.raises(UserError, match=r"student\.tflite: its list of training recordings .* is damaged"):
        training_list.read(path)


def test_any_damage_is_an_error_or_changes_nothing(recordings, tmp_path):
    """Bits flipped and ends cut off, some hundred times."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = in_file(tmp_path, packed(listed(recordings)), method=method)
        content, expected = path.read_bytes(), training_list.read(path)
        random = np.random.default_rng(0)
        outcomes = {"same": 0, "none": 0, "refused": 0}
        for number in range(150):
            damaged = bytearray(content)
            place = int(random.integers(250, len(content)))
            if number % 3:
                damaged[place] ^= 1 << int(random.integers(8))
            else:
                del damaged[place:]
            path.write_bytes(damaged)
            try:
                found = training_list.read(path)
            except UserError:
                outcomes["refused"] += 1
                continue
            outcomes["none" if found is None else "same"] += 1
            if found is not None:
                np.testing.assert_array_equal(found.rows, expected.rows)
                np.testing.assert_array_equal(found.speakers, expected.speakers)
        assert outcomes["refused"] > 75
        assert outcomes["none"] < 8  # the member's own name was hit


def test_a_list_of_gigabytes_is_refused_before_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(training_list, "MOST_BYTES", 2**20)
    path = in_file(tmp_path, bytes(2**20 + 1), method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 5000
    with pytest.raises(UserError, match="is damaged"):
        training_list.read(path)
