"""What a corpus is said to hold is what was put into it; what is written is what was read."""

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import wave
from pathlib import Path

import corpus_trees
import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
from conftest import REPOSITORY
from recordings import make_video
from rich.console import Console

from light_sernet_kd import audio, cli, files
from light_sernet_kd.corpora import Corpus, Utterance, manifest
from light_sernet_kd.data import prepare
from light_sernet_kd.data.prepare import folder as folder_module
from light_sernet_kd.errors import UserError

RATE = 16_000
EMO_DB_LETTERS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}


def noise(seed, *, seconds=1.0, peak=0.5, sample_rate=RATE):
    return np.random.default_rng(seed).uniform(-peak, peak, round(seconds * sample_rate))


def lively(seed, *, seconds=1.0):
    """Noise in syllables of an eighth of a second, which are speech to the gate."""
    sound = noise(seed, seconds=seconds)
    return sound * np.where(np.arange(len(sound)) % 4000 < 2000, 1, 0.1)


def utterance(path, *, emotion="anger", speaker="s1", **facts):
    return Utterance(path.stem, path, emotion, speaker, **facts)


def corpus_of(folder, clips, *, sample_rate=RATE, subtype="PCM_16"):
    """One WAV per entry of name → waveform; the speaker alternates, the emotion too."""
    utterances = []
    for index, (name, waveform) in enumerate(clips.items()):
        path = folder / f"{name}.wav"
        soundfile.write(path, waveform, sample_rate, subtype=subtype)
        utterances.append(
            utterance(path, emotion=("anger", "sadness")[index % 2], speaker=("s1", "s2")[index // 2 % 2])
        )
    return Corpus("made", tuple(utterances))


def test_lengths_are_said_to_be_of_the_recordings_that_could_be_read(tmp_path):
    corpus = corpus_of(tmp_path, {name: noise(seed) for seed, name in enumerate("abc")})
    for broken, said in (
        (None, "3 recordings, 0.1 min"),
        ("a.wav", "3 recordings (2 of them readable), 0.0 min"),
    ):
        if broken:
            (tmp_path / broken).write_text("no audio")
        console = Console(file=io.StringIO(), width=120)
        prepare.show(prepare.inspect(corpus), console)
        assert f"{said}; shortest" in console.file.getvalue()


def emo_db(shared_data):
    paths = sorted((shared_data / "EMO-DB" / "wav").glob("*.wav"))
    return Corpus(
        "EMO-DB",
        tuple(utterance(path, emotion=EMO_DB_LETTERS[path.stem[5]], speaker=path.stem[:2]) for path in paths),
    )


def shown(report, *, width=100, **options):
    console = Console(width=width, record=True, file=io.StringIO())
    prepare.show(report, console, **options)
    return console.export_text()


def manifest_rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def int16_of(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(-1), "<i2"), file.getframerate()


def scipy_samples(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.io.wavfile.WavFileWarning)  # a chunk of the authors' own
        return scipy.io.wavfile.read(path)[1]


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- inspect


def test_the_counts_of_emo_db_are_the_published_ones(shared_data):
    report = prepare.inspect(emo_db(shared_data))
    assert report.recordings == 535
    by_emotion = {
        emotion: sum(row[emotion] for row in report.counts.values()) for emotion in EMO_DB_LETTERS.values()
    }
    assert by_emotion == {
        "anger": 127, "boredom": 81, "neutral": 79, "happiness": 71, "fear": 69, "sadness": 62, "disgust": 46,
    }  # fmt: skip
    by_speaker = {speaker: sum(row.values()) for speaker, row in report.counts.items()}
    assert by_speaker == {
        "03": 49, "08": 58, "09": 43, "10": 38, "11": 55, "12": 35, "13": 61, "14": 69, "15": 56, "16": 71,
    }  # fmt: skip
    assert report.sample_rates == {16_000: 535}
    assert report.channels == {1: 535}
    assert report.encodings == {"WAV PCM_16": 535}
    assert report.unreadable == {}
    assert (report.silent, report.clipped, report.short, report.identical) == ((), (), (), ())
    # Sadness is slow and fear is quick by nature: no warning.
    assert report.warnings == ()
    assert [note.split(" with ")[0] for note in report.notes] == ["length alone tells the class"]
    lengths = [len(scipy_samples(item.path)) / RATE for item in emo_db(shared_data).utterances]
    assert report.total_seconds == pytest.approx(sum(lengths))
    assert report.median_seconds == pytest.approx(np.median(lengths))
    assert (report.shortest_seconds, report.longest_seconds) == (min(lengths), max(lengths))


def test_rates_channels_and_encodings_are_those_of_the_files(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1), 16_000, subtype="PCM_24")
    soundfile.write(tmp_path / "b.flac", np.stack([noise(2), noise(3)], axis=1), 48_000)
    soundfile.write(tmp_path / "c.wav", noise(4), 16_000, subtype="PCM_24")
    report = prepare.inspect(Corpus("x", tuple(utterance(path) for path in sorted(tmp_path.iterdir()))))
    assert report.sample_rates == {16_000: 2, 48_000: 1}
    assert report.channels == {1: 2, 2: 1}
    assert report.encodings == {"WAV PCM_24": 2, "FLAC PCM_16": 1}
    assert report.shortest_seconds == pytest.approx(1 / 3)


def test_silent_means_without_speech_at_any_level_and_the_level_stands_beside(tmp_path):
    tone = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    quiet = 1e-4 * lively(1)
    corpus = corpus_of(
        tmp_path,
        {
            "zero": np.zeros(RATE),
            "hum": 0.5 * tone,
            "quiet speech": quiet,
            "noise": 0.2 + 1e-3 * noise(2),
            "one channel": np.stack([np.zeros(RATE), quiet], axis=1),
            "no channel": np.stack([np.zeros(RATE), 1e-3 * noise(3)], axis=1),
            "speech in a minute": np.concatenate([1e-4 * noise(4, seconds=59), lively(5)]),
        },
        subtype="FLOAT",
    )
    report = prepare.inspect(corpus)
    assert report.silent == ("zero.wav", "hum.wav", "noise.wav", "no channel.wav")
    uniform = 20 * np.log10(0.5e-3 / np.sqrt(3))
    assert report.silent_dbfs == pytest.approx((-120, -9.03, uniform, uniform), abs=0.1)
    assert "hum.wav (-9 dBFS)" in shown(report)


@pytest.mark.parametrize(
    ("subtype", "highest", "lowest"),
    [
        ("PCM_U8", 127 / 128, -1.0),
        ("PCM_16", 32767 / 32768, -1.0),
        ("PCM_16", 32767 / 32768, -32767 / 32768),
        ("PCM_24", 1 - 2**-23, -1.0),
        ("ULAW", 32124 / 32768, -32124 / 32768),
        ("ALAW", 32256 / 32768, -32256 / 32768),
        ("FLOAT", 1.0, -1.0),
        ("FLOAT", 1.3, -1.7),
    ],
)
def test_clipped_means_three_in_a_row_or_a_thousandth_at_full_scale_of_one_sign(
    tmp_path, subtype, highest, lowest
):
    def clip(*positions, value=highest):
        waveform = noise(1, peak=0.9)
        waveform[list(positions)] = value
        return waveform

    spread = range(0, 16_000, 1000)  # 16 of 16,000
    clips = {
        "clean": clip(),
        "two": clip(5, 6),
        "row": clip(5, 6, 7),
        "below": clip(500, 501, 502, value=lowest),
        "apart": clip(5, 6, 8),
        "often": clip(*spread),
        "seldom": clip(*spread[1:]),
        "end": clip(15_997, 15_998, 15_999),
    }
    signs = clip(5, 7)
    signs[6] = lowest
    clips["signs"] = signs
    for name, waveform in clips.items():
        if subtype in ("FLOAT", "ULAW", "ALAW"):
            values = waveform
        else:  # soundfile multiplies by 2^n - 1; integers are written as they are
            values = np.rint(waveform * 2**31).clip(-(2**31), 2**31 - 1).astype(np.int32)
        soundfile.write(tmp_path / f"{name}.wav", values, RATE, subtype=subtype)
        # One bad channel is enough.
        both = np.stack([0 * values, values], axis=1)
        soundfile.write(tmp_path / f"{name}_right.wav", both, RATE, subtype=subtype)
    paths = [tmp_path / f"{name}{ending}.wav" for name in clips for ending in ("", "_right")]
    report = prepare.inspect(Corpus("x", tuple(utterance(path) for path in paths)))
    names = [name.removesuffix(".wav") for name in report.clipped]
    assert names == [f"{name}{end}" for name in ("row", "below", "often", "end") for end in ("", "_right")]


def test_a_short_normalised_clip_is_not_clipped_by_its_one_peak(tmp_path):
    waveform = noise(1, seconds=0.05)
    waveform[100] = 1.0
    report = prepare.inspect(corpus_of(tmp_path, {"short": waveform}, subtype="FLOAT"))
    assert report.clipped == ()
    assert report.short == ("short.wav",)


def test_short_means_below_three_tenths_of_a_second(tmp_path):
    clips = {"below": noise(1, seconds=0.2999), "at": noise(2, seconds=0.3)}
    assert prepare.inspect(corpus_of(tmp_path, clips)).short == ("below.wav",)


def test_identical_means_the_same_samples_in_whatever_file(tmp_path):
    values = (noise(1) * 20_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", values, RATE)
    soundfile.write(tmp_path / "b.flac", values, RATE)
    soundfile.write(tmp_path / "c.wav", values, 8_000)  # another rate sounds different
    soundfile.write(tmp_path / "d.wav", values[:-1], RATE)
    soundfile.write(tmp_path / "e.wav", np.zeros(RATE), RATE)  # silent ones are not compared
    soundfile.write(tmp_path / "f.wav", np.zeros(RATE), RATE)
    (tmp_path / "g.wav").symlink_to("d.wav")
    emotions = {"b": "sadness"}
    corpus = Corpus(
        "x",
        tuple(
            utterance(path, emotion=emotions.get(path.stem, "anger")) for path in sorted(tmp_path.iterdir())
        ),
    )
    report = prepare.inspect(corpus)
    assert report.identical == (("a.wav", "b.flac"), ("d.wav", "g.wav"))
    assert report.conflicting == (("a.wav", "b.flac"),)


def test_a_file_listed_twice_is_counted_twice_and_reported(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1), RATE)
    twice = (
        Utterance("1", tmp_path / "a.wav", "anger", "s1"),
        Utterance("2", tmp_path / "a.wav", "anger", "s2"),
    )
    report = prepare.inspect(Corpus("x", twice))
    assert report.total_seconds == 2
    assert report.identical == report.conflicting == (("a.wav", "a.wav"),)


def test_files_are_named_from_the_folder_that_holds_them_all(tmp_path):
    for speaker in ("s1", "s2"):
        (tmp_path / "corpus" / speaker).mkdir(parents=True)
        soundfile.write(tmp_path / "corpus" / speaker / "a.wav", np.zeros(100), RATE)
    corpus = Corpus(
        "x",
        tuple(
            Utterance(speaker, tmp_path / "corpus" / speaker / "a.wav", "anger", speaker)
            for speaker in ("s1", "s2")
        ),
    )
    assert prepare.inspect(corpus).silent == ("s1/a.wav", "s2/a.wav")


def test_an_unreadable_recording_is_listed_and_still_counted(tmp_path):
    corpus = corpus_of(tmp_path, {"good": noise(1), "bad": noise(2), "worse": noise(3)})
    (tmp_path / "bad.wav").write_bytes(b"")
    (tmp_path / "worse.wav").write_text("words")
    steps = []
    report = prepare.inspect(corpus, progress=lambda done, total: steps.append((done, total)))
    assert list(report.unreadable) == ["bad.wav", "worse.wav"]
    assert "is empty" in report.unreadable["bad.wav"]
    assert "is not audio" in report.unreadable["worse.wav"]
    assert report.recordings == 3
    assert report.counts == {"s1": {"anger": 1, "sadness": 1}, "s2": {"anger": 1, "sadness": 0}}
    assert report.total_seconds == 1
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_corpus_without_a_readable_recording_has_a_report(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    report = prepare.inspect(Corpus("x", (utterance(tmp_path / "a.wav"),)))
    assert report.total_seconds == report.median_seconds == 0
    assert "unreadable: 1" in shown(report)
    assert prepare.inspect(Corpus("none", ())).recordings == 0


def test_as_json_survives_json_and_keeps_the_values(tmp_path):
    soundfile.write(tmp_path / "a.wav", lively(1), RATE)
    soundfile.write(tmp_path / "b.wav", lively(1), RATE)
    soundfile.write(tmp_path / "c.wav", np.zeros(10), 8000)
    (tmp_path / "d.wav").write_bytes(b"")
    corpus = Corpus(
        "x", tuple(utterance(path) for path in sorted(tmp_path.iterdir())), {"label xxx": 7}, synthetic=True
    )
    value = prepare.as_json(prepare.inspect(corpus))
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["sample_rates"] == {"16000": 2, "8000": 1}
    assert value["identical"] == [["a.wav", "b.wav"]]
    assert value["silent"] == value["short"] == ["c.wav"]
    assert value["silent_dbfs"] == [-120]
    assert value["left_out"] == {"label xxx": 7}
    assert value["counts"] == {"s1": {"anger": 4}}
    assert value["synthetic"] is True


# ---- show


def test_the_table_has_a_row_per_speaker_and_totals(tmp_path):
    clips = {name: lively(index) for index, name in enumerate("abcde")}
    lines = [line.split() for line in shown(prepare.inspect(corpus_of(tmp_path, clips))).splitlines()]
    assert ["speaker", "anger", "sadness", "all"] in lines
    assert ["s1", "2", "1", "3"] in lines
    assert ["s2", "1", "1", "2"] in lines
    assert ["all", "3", "2", "5"] in lines
    assert ["no", "unreadable,", "silent,"] in [line[:3] for line in lines]


def test_findings_name_the_first_files_and_count_the_others(tmp_path):
    clips = {f"clip {index:02d} [red]": np.zeros(RATE) for index in range(13)}
    text = shown(prepare.inspect(corpus_of(tmp_path, clips)))
    assert "no speech (silent, or as steady as noise): 13" in text
    assert "clip 09 [red].wav" in text  # not taken for markup
    assert "clip 10 [red].wav" not in text
    assert "and 3 more" in text
    assert "and 11 more" in shown(prepare.inspect(corpus_of(tmp_path, clips)), most=2)


def test_transcripts_texts_and_soft_labels_are_counted_and_shown(tmp_path):
    facts = [
        {"transcript": "yes"},
        {"transcript": "yes", "soft_label": {"fear": 1}},
        {"transcript": "no"},
        {},
    ]
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", noise(number), RATE)
    corpus = Corpus("x", tuple(utterance(tmp_path / f"{n}.wav", **fact) for n, fact in enumerate(facts)))
    report = prepare.inspect(corpus)
    assert (report.transcripts, report.texts, report.soft_labels) == (3, 2, 1)
    assert "transcripts: 3 of 4, 2 different; soft labels: 1 of 4\n" in shown(report)
    assert {"transcripts": 3, "texts": 2, "soft_labels": 1}.items() <= prepare.as_json(report).items()


def test_what_was_left_out_and_that_it_is_made_are_shown(tmp_path):
    corpus = corpus_of(tmp_path, {"a": noise(1)})
    text = shown(prepare.inspect(Corpus("demo", corpus.utterances, {"xxx": 2507, "oth": 3}, synthetic=True)))
    assert "demo (made, not recorded)" in text
    assert "xxx (2507), oth (3)" in text


def test_differing_labels_of_identical_recordings_are_shown(tmp_path):
    text = shown(prepare.inspect(corpus_of(tmp_path, {"a": noise(1), "b": noise(1), "c": noise(2)})))
    assert "groups of identical recordings: 1\n  a.wav = b.wav (labels differ)\n" in text


def test_seven_emotions_fit_into_eighty_columns(shared_data):
    text = shown(prepare.inspect(emo_db(shared_data)), width=80)
    headings = ["speaker", *sorted(EMO_DB_LETTERS.values()), "all"]
    assert any(line.split() == headings for line in text.splitlines())


# ---- convert


def test_a_16_bit_recording_of_the_same_rate_keeps_its_samples(tmp_path, shared_data):
    corpus = emo_db(shared_data)
    corpus = Corpus("EMO-DB", corpus.utterances[::50])
    rows = manifest_rows(prepare.convert(corpus, tmp_path / "out"))
    assert [row["id"] for row in rows] == [item.id for item in corpus.utterances]
    for row, item in zip(rows, corpus.utterances, strict=True):
        values, rate = int16_of(tmp_path / "out" / row["path"])
        assert rate == RATE
        np.testing.assert_array_equal(values, scipy_samples(item.path))
        assert (row["emotion"], row["speaker"]) == (item.emotion, item.speaker)


def test_every_value_of_16_bits_survives(tmp_path):
    values = np.arange(-32768, 32768).astype(np.int16)
    written = prepare.convert(corpus_of(tmp_path, {"all": values}), tmp_path / "out")
    np.testing.assert_array_equal(int16_of(written.parent / "wav" / "all.wav")[0], values)


def test_the_rate_is_converted(tmp_path):
    def tone(rate):
        return 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)

    corpus = corpus_of(tmp_path, {"tone": tone(44_100)}, sample_rate=44_100)
    written = prepare.convert(corpus, tmp_path / "out", conversion=prepare.Conversion(sample_rate=8000))
    values, rate = int16_of(written.parent / "wav" / "tone.wav")
    assert rate == 8000
    np.testing.assert_allclose(values[400:-400] / 32768, tone(8000)[400:-400], atol=3 / 32768 + 5e-5)


def test_beyond_full_scale_a_recording_is_scaled_not_clipped(tmp_path):
    source = noise(1, peak=4.0)
    written = prepare.convert(corpus_of(tmp_path, {"loud": source}, subtype="FLOAT"), tmp_path / "out")
    values = int16_of(written.parent / "wav" / "loud.wav")[0]
    np.testing.assert_allclose(values / 32768, source / np.abs(source).max(), atol=1.01 / 32768)


def test_a_centred_segment_has_the_length_and_the_middle(tmp_path):
    long, short = (np.arange(1, count + 1, dtype=np.int16) for count in (1000, 301))
    corpus = corpus_of(tmp_path, {"long": long, "short": short}, sample_rate=1000)
    written = prepare.convert(
        corpus, tmp_path / "out", conversion=prepare.Conversion(sample_rate=1000, segment_seconds=0.5)
    )
    folder = written.parent / "wav"
    np.testing.assert_array_equal(int16_of(folder / "long.wav")[0], long[250:750])
    np.testing.assert_array_equal(int16_of(folder / "short.wav")[0], np.pad(short, (99, 100)))
    assert [row["id"] for row in manifest_rows(written)] == ["long", "short"]


@pytest.mark.parametrize(
    ("samples", "min_share", "kept"),
    [
        (1000, 0.5, [500, 500]),
        (1249, 0.5, [500, 500]),
        (1250, 0.5, [500, 500, 250]),
        (1001, 0.001, [500, 500, 1]),
        (1499, 1.0, [500, 500]),
        (10, 0.5, [10]),
    ],
)
def test_consecutive_segments_and_what_remains_at_the_end(tmp_path, samples, min_share, kept):
    source = np.arange(1, samples + 1, dtype=np.int16)
    corpus = corpus_of(tmp_path, {"a": source}, sample_rate=1000)
    written = prepare.convert(
        corpus,
        tmp_path / "out",
        conversion=prepare.Conversion(
            sample_rate=1000, segment_seconds=0.5, segments="all", min_share=min_share
        ),
    )
    rows = manifest_rows(written)
    assert [row["id"] for row in rows] == [f"a-{index:03d}" for index in range(len(kept))]
    start = 0
    for row, count in zip(rows, kept, strict=True):
        before = (500 - count) // 2
        expected = np.pad(source[start : start + count], (before, 500 - count - before))
        np.testing.assert_array_equal(int16_of(written.parent / row["path"])[0], expected)
        start += count


def test_the_manifest_carries_every_fact_that_some_utterance_has(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, seconds=2), RATE)
    soundfile.write(tmp_path / "b.wav", noise(2), RATE)
    corpus = Corpus(
        "x",
        (
            Utterance("a", tmp_path / "a.wav", "anger", "s1", session="1", transcript='Say "yes",\nGrüße'),
            Utterance("b", tmp_path / "b.wav", "fear", "s2", soft_label={"fear": 0.75, "anger": 0.25}),
        ),
    )
    first, second = manifest_rows(prepare.convert(corpus, tmp_path / "out"))
    assert first == {
        "path": "wav/a.wav", "emotion": "anger", "speaker": "s1", "id": "a", "session": "1",
        "transcript": 'Say "yes",\nGrüße', "anger": "", "fear": "",
    }  # fmt: skip
    assert second == {
        "path": "wav/b.wav", "emotion": "fear", "speaker": "s2", "id": "b", "session": "",
        "transcript": "", "anger": "0.25", "fear": "0.75",
    }  # fmt: skip
    cut = manifest_rows(
        prepare.convert(
            corpus, tmp_path / "cut", conversion=prepare.Conversion(segment_seconds=1, segments="all")
        )
    )
    assert [row["id"] for row in cut] == ["a-000", "a-001", "b-000"]
    assert "transcript" not in cut[0]  # a's words are spread over two segments, b has none


def test_the_manifest_is_read_back_as_the_same_corpus(tmp_path):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", noise(1), RATE)
    corpus = Corpus(
        "x",
        (
            Utterance(
                "a",
                tmp_path / "a.wav",
                "anger",
                "s1",
                session="1",
                dialog="1-2",
                transcript='Say "yes", Grüße',
                split="test",
                soft_label={"anger": 1 / 3},
                sex="male",
            ),
            Utterance("b", tmp_path / "b.wav", "fear", "s2"),
        ),
    )
    written = manifest.utterances(prepare.convert(corpus, tmp_path / "out"))
    assert written.utterances == tuple(
        dataclasses.replace(item, path=tmp_path / "out" / "wav" / item.path.name)
        for item in corpus.utterances
    )


def test_ratings_go_into_the_manifest_and_are_read_back(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(1), RATE)
    rated = [{"arousal": 2.5, "valence": 4.0}, None, {"arousal": 5.5, "valence": 0.5}, {"valence": 3.0}]
    utterances = tuple(
        Utterance(name, tmp_path / "x.wav", "anger", "s1", dimensions=each)
        for name, each in zip("abcd", rated, strict=True)
    )
    corpus = Corpus("x", utterances, dimension_range=(1.0, 5.0))
    written = prepare.convert(corpus, tmp_path / "out")
    again = manifest.utterances(written, dimensions=("arousal", "valence"), dimension_range=(1.0, 5.0))
    # beyond an end of the scale there is only the end
    assert [each.dimensions for each in again.utterances] == [
        rated[0], None, {"arousal": 5.0, "valence": 1.0}, rated[3],
    ]  # fmt: skip
    assert "dominance" not in manifest_rows(written)[0]


def test_prepare_says_what_became_of_ratings(tmp_path, capsys):
    for path in corpus_trees.iemocap(tmp_path / "IEMOCAP").rglob("*.wav"):
        soundfile.write(path, noise(1), RATE)
    assert cli.main(["prepare", "IEMOCAP", "--data", str(tmp_path), "--to", str(tmp_path / "out")]) == 0
    line = "For its ratings add --dimensions arousal,valence,dominance --dimension_range 1,5"
    assert line in capsys.readouterr().out.splitlines()
    again = ["prepare", str(tmp_path / "out" / "manifest.csv"), "--to", str(tmp_path / "again")]
    assert cli.main(again) == 0
    line = "warning: ratings of a table are not taken over, here arousal, valence, dominance."
    assert line in capsys.readouterr().out.splitlines()


def test_any_id_becomes_a_file_name_of_its_own(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(1), RATE)
    ids = ["a/b", "a:b", "A_B", "../up", "..", "", "ä b", "감" * 200, "감" * 201]
    corpus = Corpus("x", tuple(Utterance(name, tmp_path / "x.wav", "anger", "s1") for name in ids))
    rows = manifest_rows(prepare.convert(corpus, tmp_path / "out"))
    assert [row["id"] for row in rows] == ids
    assert len({row["path"].casefold() for row in rows}) == len(ids)
    for row in rows:
        path = tmp_path / "out" / row["path"]
        assert path.resolve().parent == tmp_path / "out" / "wav"
        assert path.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"x.wav", "out"}


def test_bad_recordings_are_all_named_and_nothing_is_left_behind(tmp_path):
    corpus = corpus_of(tmp_path, {"a": noise(1), "b": noise(2), "c": noise(3)})
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "c.wav").write_text("words")
    before = snapshot(tmp_path)
    with pytest.raises(
        audio.AudioError, match=r"2 of 3 recordings(?s:.*)a\.wav(?s:.*)c\.wav(?s:.*)--skip-bad"
    ):
        prepare.convert(corpus, tmp_path / "sub" / "out")
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "sub" / "out").exists()


def test_bad_recordings_can_be_left_out_and_are_listed(tmp_path):
    corpus = corpus_of(tmp_path, {"a": noise(1), "b": noise(2)})
    (tmp_path / "a.wav").write_bytes(b"")
    written = prepare.convert(corpus, tmp_path / "out", skip_bad=True)
    assert [row["id"] for row in manifest_rows(written)] == ["b"]
    (left_out,) = manifest_rows(written.parent / "left_out.csv")
    assert left_out["id"] == "a"
    assert "a.wav is empty" in left_out["reason"]
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(audio.AudioError, match="2 of 2"):
        prepare.convert(corpus, tmp_path / "none", skip_bad=True)


def test_a_folder_that_holds_something_is_kept_unless_told_otherwise(tmp_path):
    (tmp_path / "in").mkdir()
    corpus = corpus_of(tmp_path / "in", {"a": noise(1), "b": noise(2)})
    out = tmp_path / "out"
    out.mkdir()
    prepare.convert(corpus, out)  # empty: fine
    before = snapshot(out)
    with pytest.raises(UserError, match="not empty"):
        prepare.convert(corpus, out)
    assert snapshot(out) == before
    prepare.convert(Corpus("half", corpus.utterances[:1]), out, overwrite=True)
    assert {path.name for path in (out / "wav").iterdir()} == {"a.wav"}
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_overwriting_that_fails_keeps_the_earlier_result(tmp_path):
    (tmp_path / "in").mkdir()
    corpus = corpus_of(tmp_path / "in", {"a": noise(1), "b": noise(2)})
    prepare.convert(corpus, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (tmp_path / "in" / "b.wav").write_bytes(b"")
    with pytest.raises(audio.AudioError):
        prepare.convert(corpus, tmp_path / "out", overwrite=True)
    assert snapshot(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


@pytest.mark.skipif(os.name != "posix", reason="resource limits are POSIX's")
def test_a_full_disk_is_an_error_that_names_the_folder_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "in").mkdir()
    corpus_of(tmp_path / "in", {"a": noise(1), "b": noise(2)})
    (tmp_path / "in" / "m.csv").write_text("path,emotion,speaker\na.wav,fear,s1\nb.wav,fear,s2\n")
    make_video(tmp_path / "in" / "v.mkv")
    for what, said in ((["in/m.csv"], "out"), (["--video", "in/v.mkv"], "v.wav")):
        code = (
            "import resource, sys; from light_sernet_kd.cli import main\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
            f"sys.exit(main(['prepare', *{what}, '--to', 'out']))"
        )
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("light-sernet-kd: File too large (")
        assert f"{said}). Make room" in line
        assert not list(tmp_path.glob("**/*.wav.*")) + list((tmp_path / "out").glob("**/*.wav"))
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "out"}


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    (tmp_path / "in").mkdir()
    corpus = corpus_of(tmp_path / "in", {str(index): noise(index) for index in range(20)})

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.convert(corpus, tmp_path / "out", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_overwriting_never_deletes_what_is_not_an_earlier_result(tmp_path):
    (tmp_path / "in").mkdir()
    corpus = corpus_of(tmp_path / "in", {"a": noise(1)})
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="more than an earlier conversion"):
        prepare.convert(corpus, other, overwrite=True)
    (other / "manifest.csv").write_text("path,emotion,speaker\n")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="more than an earlier conversion"):
        prepare.convert(corpus, other, overwrite=True)
    for holder in (tmp_path, tmp_path / "in"):
        with pytest.raises(UserError, match="recordings of made itself"):
            prepare.convert(corpus, holder, overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        prepare.convert(corpus, other / "thesis.txt", overwrite=True)
    with pytest.raises(UserError, match="cannot write to"):
        prepare.convert(corpus, other / "thesis.txt" / "below")
    assert snapshot(tmp_path) == before


def test_a_conversion_of_a_conversion_cannot_replace_its_source(tmp_path):
    (tmp_path / "in").mkdir()
    prepare.convert(corpus_of(tmp_path / "in", {"a": noise(1)}), tmp_path / "out")
    again = Corpus("again", (utterance(tmp_path / "out" / "wav" / "a.wav"),))
    (tmp_path / "link").symlink_to("out")
    before = snapshot(tmp_path / "out")
    for target in ("out", "link"):
        with pytest.raises(UserError, match="recordings of again itself"):
            prepare.convert(again, tmp_path / target, overwrite=True)
    assert snapshot(tmp_path / "out") == before


def test_a_link_to_an_empty_folder_stays_a_link(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    written = prepare.convert(corpus_of(tmp_path / "in", {"a": noise(1)}), tmp_path / "out")
    assert written == tmp_path / "out" / "manifest.csv"
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "wav" / "a.wav").is_file()


def test_a_new_folder_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "in").mkdir()
    written = prepare.convert(corpus_of(tmp_path / "in", {"a": noise(1)}), tmp_path / "out")
    assert written.parent.stat().st_mode == (tmp_path / "in").stat().st_mode


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sample_rate": 0}, "from 1000 to 384000 Hz, not 0 Hz"),
        ({"segment_seconds": 0}, "longer than 0 s"),
        ({"segment_seconds": -1}, "longer than 0 s"),
        ({"segment_seconds": float("nan")}, "longer than 0 s"),
        ({"segment_seconds": float("inf")}, "longer than 0 s"),
        ({"sample_rate": 99_999_999_999}, "from 1000 to 384000 Hz"),
        ({"segment_seconds": 1e12}, "at most 3600 s"),
        ({"segments": "all"}, "needs their length"),
        ({"segments": "center"}, "Did you mean centre"),
        ({"segment_seconds": 1, "segments": "all", "min_share": 0}, r"\(0, 1\]"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_anything_is_written(tmp_path, settings, said):
    (tmp_path / "in").mkdir()
    corpus = corpus_of(tmp_path / "in", {"a": noise(1)})
    with pytest.raises(UserError, match=said):
        prepare.convert(corpus, tmp_path / "out", conversion=prepare.Conversion(**settings))
    assert not (tmp_path / "out").exists()


def test_an_empty_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match="no recording"):
        prepare.convert(Corpus("none", ()), tmp_path / "out")


# ---- audio_of_video


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("b.mkv", "pcm_s16le"), ("c.avi", "pcm_s16le"), ("d.mov", "aac")]
)
def test_the_sound_of_a_video_is_its_tone_in_mono_at_the_asked_rate(tmp_path, name, codec):
    make_video(tmp_path / name, codec=codec)
    (wav,) = prepare.audio_of_video(tmp_path / name, tmp_path / "out")
    assert wav == tmp_path / "out" / f"{name[0]}.wav"
    values, rate = int16_of(wav)
    assert rate == RATE
    assert abs(len(values) - 2 * RATE) <= 2 * 1024
    # 440 Hz fall on bin 440 of one second; the mean of 0.5 and 0.25 is 0.375.
    spectrum = np.abs(np.fft.rfft(values[8000 : 8000 + RATE] / 32768)) / (RATE / 2)
    assert spectrum.argmax() == 440
    assert spectrum[440] == pytest.approx(0.375, rel=0.01)


def test_lossless_sound_of_a_video_is_the_waveform(tmp_path):
    make_video(tmp_path / "a.mkv", codec="pcm_s16le", sample_rate=48_000)
    (wav,) = prepare.audio_of_video(tmp_path / "a.mkv", tmp_path, sample_rate=48_000)
    tone = 0.375 * np.sin(2 * np.pi * 440 * np.arange(2 * 48_000) / 48_000)
    np.testing.assert_allclose(int16_of(wav)[0] / 32768, tone, atol=2 / 32768)


def test_the_rate_of_a_video_is_converted_as_that_of_a_recording(tmp_path):
    make_video(tmp_path / "a.mkv", codec="pcm_s16le", stereo_share=(1.0, 1.0))
    (wav,) = prepare.audio_of_video(tmp_path / "a.mkv", tmp_path)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 44_100) / 44_100)
    whole = audio.resample(tone.astype(np.float32), 44_100, RATE)
    values = int16_of(wav)[0]
    assert len(values) == len(whole)
    np.testing.assert_allclose(values / 32768, whole, atol=3 / 32768)


def test_a_folder_of_videos_keeps_its_shape(tmp_path):
    (tmp_path / "in" / "Grüße 1").mkdir(parents=True)
    make_video(tmp_path / "in" / "Grüße 1" / "a b.MP4", seconds=1)
    make_video(tmp_path / "in" / "c.mkv", seconds=1)
    (tmp_path / "in" / "notes.txt").write_text("no video")
    (tmp_path / "in" / "._c.mkv").write_text("a file browser's own")
    wavs = prepare.audio_of_video(tmp_path / "in", tmp_path / "out")
    assert wavs == [tmp_path / "out" / "Grüße 1" / "a b.wav", tmp_path / "out" / "c.wav"]
    assert all(len(int16_of(wav)[0]) > 15_000 for wav in wavs)


def test_videos_without_sound_or_sense_are_all_named_and_the_others_written(tmp_path):
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "good.mp4", seconds=1)
    make_video(tmp_path / "in" / "mute.mp4", seconds=1, sound=False)
    whole = (tmp_path / "in" / "good.mp4").read_bytes()
    (tmp_path / "in" / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "text.mkv").write_text("words " * 100)
    with pytest.raises(UserError) as caught:
        prepare.audio_of_video(tmp_path / "in", tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("3 of 4 ")
    assert "half.mp4 cannot be decoded" in lines[1]
    assert "mute.mp4 has no sound track" in lines[2]
    assert "text.mkv cannot be decoded" in lines[3]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]


def test_videos_that_cannot_be_taken_are_refused_before_anything_is_written(tmp_path):
    make_video(tmp_path / "a.mp4", seconds=1)
    make_video(tmp_path / "a.mkv", seconds=1)
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"several videos would be written to .*a\.wav"):
        prepare.audio_of_video(tmp_path, out)
    with pytest.raises(UserError, match="no such video"):
        prepare.audio_of_video(tmp_path / "b.mp4", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no video in .*\.mp4"):
        prepare.audio_of_video(tmp_path / "empty", out)
    assert not out.exists()
    (wav,) = prepare.audio_of_video(tmp_path / "a.mp4", out)
    before = wav.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        prepare.audio_of_video(tmp_path / "a.mkv", out)
    assert wav.read_bytes() == before
    assert prepare.audio_of_video(tmp_path / "a.mkv", out, overwrite=True) == [wav]


def test_without_pyav_the_install_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r'pip install "light-sernet-kd\[media\]"'):
        prepare.audio_of_video(tmp_path, tmp_path)


def test_importing_brings_in_no_heavy_package():
    code = (
        "import sys, light_sernet_kd.data.prepare;"
        "print([m for m in ('tensorflow', 'keras', 'soundfile', 'soxr', 'av', 'rich') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def built(target, text):
    """Replace `target` by a result that holds `text`."""
    with folder_module.whole_folder(target, overwrite=True) as folder:
        (folder / "manifest.csv").write_text(text)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked and killed")
@pytest.mark.parametrize(("step", "kept"), [(0, "old"), (1, "old"), (2, "old"), (3, "new")])
def test_a_conversion_killed_at_any_step_loses_no_result(tmp_path, step, kept):
    """Step 0: while it writes; 1: before the old result is moved; 2: before the new one is; 3: after that."""
    target = tmp_path / "out"
    built(target, "old")
    if not os.fork():
        moves, rename, rmtree = [], Path.rename, shutil.rmtree

        def move(source, destination):
            moves.append(source)
            if len(moves) == step:
                os._exit(0)
            return rename(source, destination)

        Path.rename, shutil.rmtree = move, lambda *_, **__: os._exit(0) if step == 3 else rmtree
        with folder_module.whole_folder(target, overwrite=True) as folder:
            (folder / "manifest.csv").write_text("new")
            if step == 0:
                os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    if step == 2:
        assert not target.exists(), "else no step was simulated"
    # The next call finds a result there, and says so as long as it may not replace it.
    with pytest.raises(UserError, match="is not empty"), folder_module.whole_folder(target, overwrite=False):
        pass
    assert (target / "manifest.csv").read_text() == kept
    built(target, "newest")
    assert (target / "manifest.csv").read_text() == "newest"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_result_that_another_process_is_replacing_is_left_to_it(tmp_path):
    building = tmp_path / ".out.x1y2z3_4"
    replaced = tmp_path / f"{building.name}.replaced"
    for folder in (building, replaced):
        folder.mkdir()
    with files.hold(building):
        files.restore(tmp_path / "out")
        assert replaced.exists()
    files.restore(tmp_path / "out")
    assert (tmp_path / "out").exists() == (os.name == "posix")
