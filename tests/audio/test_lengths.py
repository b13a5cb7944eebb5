"""What an input length cuts away, against lengths and sums by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from report_facts import CONFIG, METRICS

from light_sernet_kd import cli
from light_sernet_kd.audio import lengths
from light_sernet_kd.audio.lengths import Cut, cut, cut_of, sentence
from light_sernet_kd.corpora.registry import load
from light_sernet_kd.data import prepare
from light_sernet_kd.reporting.report import report


def test_a_cut_is_what_is_beyond_the_input():
    found = cut([1.0, 3.0, 3.5, 6.0], 3.0)
    assert found == Cut(3.0, 4, 2, 13.5, 3.5)
    assert found.cut_share == pytest.approx(3.5 / 13.5)
    assert cut([3.0 + 1e-9], 3.0).longer == 0
    assert cut([3.0 + 1 / 16_000], 3.0).longer == 1
    assert cut([], 3.0).cut_share == 0


def test_a_cut_in_words():
    assert (
        sentence(cut([1.0, 3.0, 3.5, 6.0], 3.0).as_dict())
        == "2 of 4 recordings are longer than 3 s; that cuts away 25.9 % of all sound"
    )
    assert sentence(cut([1.0], 3.0).as_dict()) == "none of 1 recordings are longer than 3 s"


@pytest.mark.parametrize(
    ("suffix", "rate", "extra"),
    [("wav", 44_100, 0), ("flac", 8_000, 0), ("ogg", 16_000, 0), ("mp3", 16_000, 1200)],
)
def test_lengths_are_those_of_the_recordings(tmp_path, suffix, rate, extra):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (2 * rate, 2)), rate)
    assert lengths._seconds(path) == pytest.approx(2, abs=extra / rate + 1e-3)


def test_a_header_that_does_not_know_its_length_is_not_believed(tmp_path):
    path = tmp_path / "streamed.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert lengths._seconds(path) == 2
    content[4:8] = content[at : at + 4] = bytes(4)
    path.write_bytes(content)
    assert lengths._seconds(path) == 2


def test_what_cannot_be_read_has_no_length(tmp_path):
    paths = [tmp_path / name for name in ("whole.wav", "absent.wav", "text.wav")]
    soundfile.write(paths[0], np.zeros(80_000), 16_000)
    paths[2].write_text("no audio")
    assert cut_of([SimpleNamespace(path=path) for path in paths], 3) == Cut(3.0, 1, 1, 5.0, 2.0)


@pytest.fixture
def manifest(tmp_path):
    rows = ["path,emotion,speaker"]
    for number, seconds in enumerate((1, 4, 9)):
        sound = np.random.default_rng(number).normal(0, 0.1, seconds * 8000)
        soundfile.write(tmp_path / f"{number}.wav", sound, 8000)
        rows.append(f"{number}.wav,{'anger' if number else 'fear'},s{number}")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_prepare_says_what_an_input_cuts(manifest, capsys):
    assert cli.main(["prepare", str(manifest)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "an input of 3 s (-id): 2 of 3 recordings are longer than 3 s; that cuts away 50.0 % of all sound"
        in lines
    )
    assert (
        "an input of 7 s (-id): 1 of 3 recordings are longer than 7 s; that cuts away 14.3 % of all sound"
        in lines
    )
    assert cli.main(["prepare", str(manifest), "-id", "4", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["cuts"]
    assert told == {
        "input_seconds": 4.0,
        "recordings": 3,
        "longer": 1,
        "seconds": 14.0,
        "cut_seconds": 5.0,
        "cut_share": pytest.approx(5 / 14),
    }


def test_the_two_ways_to_measure_agree(manifest):
    corpus = load(str(manifest), manifest.parent)
    assert prepare.inspect(corpus, input_seconds=[2.5]).cuts == (cut_of(corpus.utterances, 2.5),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-id", "0"], "found 0"),
        (["-id", "nan"], "nan"),
        (["-id", "3", "--to", "x"], "does not go with --to"),
    ],
)
def test_an_input_that_is_none_is_one_line(manifest, capsys, arguments, message):
    assert cli.main(["prepare", str(manifest), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_report_says_what_the_input_cut():
    told = cut([1.0, 3.0, 3.5, 6.0], 3.0).as_dict()
    line = "- **Cut:** 2 of 4 recordings are longer than 3 s; that cuts away 25.9 % of all sound."
    assert line in report({**METRICS, "cut": told}, CONFIG, export=None).splitlines()
    # A student that hears nothing, or a run from before this was known.
    for metrics in (METRICS, {**METRICS, "cut": None}):
        assert "**Cut:**" not in report(metrics, CONFIG, export=None)
