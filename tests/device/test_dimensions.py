"""Arousal, valence and dominance of an exported file, in everything that answers, against LiteRT alone."""

import csv
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from ai_edge_litert.interpreter import Interpreter
from fake_microphone import plugged
from rich.console import Console
from tiny_student import CLASSES, RATE, SAMPLES, audio_student, dimensions_student, voice

from light_sernet_kd import cli, runner
from light_sernet_kd.config import DIMENSIONS, Dimensions
from light_sernet_kd.device import formats, listen, models, shipped
from light_sernet_kd.device.whole import Runner
from light_sernet_kd.runner import RunnerError

NAMES, SCALE = ("arousal", "valence"), (1.0, 5.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return dimensions_student(tmp_path_factory.mktemp("dimensions") / "student_float32.tflite")


def by_litert(model, clip: np.ndarray) -> np.ndarray:
    """The second output, found by its name, from -1 to 1 and on the corpus's scale."""
    interpreter = Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], clip[None])
    interpreter.invoke()
    (output,) = (each for each in interpreter.get_output_details() if each["name"] == "dimensions")
    low, high = SCALE
    return low + (interpreter.get_tensor(output["index"])[0] + 1) / 2 * (high - low)


def test_the_runner_gives_what_the_file_gives_on_the_scale_of_its_corpus(model):
    opened = runner.Runner(model)
    assert (opened.dimension_names, opened.dimension_range) == (NAMES, SCALE)
    found = []
    for seed in range(20):
        clip = voice(0.5, seed)
        answer = opened.answer(clip)
        np.testing.assert_array_equal(answer.probabilities, opened.probabilities(clip))
        np.testing.assert_allclose(answer.dimensions, by_litert(model, clip), atol=1e-5)
        found.append(answer.dimensions)
    # Beyond the ends: nothing is clipped.
    assert np.min(found) < SCALE[0]
    assert np.max(found) > SCALE[1]


def test_a_recording_has_the_mean_over_its_windows_and_a_stream_smooths_them(model):
    sound = voice(2)
    hop, opened = SAMPLES // 2, Runner(model)
    starts = range(0, len(sound) - SAMPLES + 1, hop)
    values = np.array([by_litert(model, sound[start : start + SAMPLES]) for start in starts])
    result = opened.classify(sound, hop_seconds=hop / RATE)
    assert [*result.dimensions] == [*NAMES]
    np.testing.assert_allclose([*result.dimensions.values()], values.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose([each.dimensions for each in result.windows], values, atol=1e-5)
    share = 1 - np.exp(-hop / RATE)  # a second is the time constant
    smoothed = [values[0]]
    for value in values[1:]:
        smoothed.append(smoothed[-1] + share * (value - smoothed[-1]))
    found = [each.smoothed_dimensions for each in result.windows]
    np.testing.assert_allclose(found, smoothed, atol=1e-5)
    (short,) = {tuple(opened.classify(sound[:SAMPLES]).dimensions.values())}
    np.testing.assert_allclose(short, values[0], atol=1e-5)


def test_windows_without_speech_are_left_out_as_they_are_of_the_probabilities(model):
    sound = np.concatenate([voice(0.5), np.zeros(SAMPLES, np.float32)])
    result = Runner(model).classify(sound)
    assert [each.why for each in result.windows][-1] == "silent"
    np.testing.assert_allclose([*result.dimensions.values()], by_litert(model, voice(0.5)), atol=1e-5)
    broken = sound.copy()
    broken[:10] = np.nan
    window = next(Runner(model).stream(broken))
    assert np.isnan(window.dimensions).all()
    assert np.isnan(window.smoothed_dimensions).all()


def test_a_file_of_classes_alone_answers_as_before(tmp_path, capsys):
    plain = audio_student(tmp_path / "student_int8.tflite")
    result = Runner(plain).classify(voice(2))
    assert result.dimensions is None
    assert result.windows[0].dimensions.shape == (0,)
    soundfile.write(tmp_path / "a.wav", voice(2), RATE)
    for form in ([], ["--stream"]):
        assert cli.main(["predict", str(plain), str(tmp_path / "a.wav"), "--format", "json", *form]) == 0
        assert "dimension" not in capsys.readouterr().out
    assert cli.main(["predict", str(plain), str(tmp_path / "a.wav"), "--format", "csv"]) == 0
    header = capsys.readouterr().out.splitlines()[0].split(",")
    assert header == [
        "file", "text", "label", "unsure", "reason", "seconds", "windows", *CLASSES, "error",
    ]  # fmt: skip


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "voice.wav"
    soundfile.write(path, voice(2), RATE, subtype="FLOAT")
    return path


def test_predict_shows_them_in_every_form(model, recording, capsys):
    expected = Runner(model).classify(voice(2)).dimensions

    def printed(*options) -> str:
        assert cli.main(["predict", str(model), str(recording), *options]) == 0
        return capsys.readouterr().out

    for answer in (json.loads(printed("--format", "json"))[0], json.loads(printed("--format", "jsonl"))):
        assert answer["dimensions"] == pytest.approx(expected, abs=1e-5)
        assert answer["dimension_range"] == [1, 5]
    (row,) = csv.DictReader(io.StringIO(printed("--format", "csv")))
    assert {name: float(row[name]) for name in NAMES} == pytest.approx(expected, abs=1e-5)
    shown = {name: min(max(value, 1), 5) for name, value in expected.items()}
    words = ", ".join(f"{name} {value:.1f}" for name, value in shown.items())
    assert f"; {words} (1 to 5)" in printed()


def test_a_timeline_has_them_for_each_window_and_segment(model, recording, capsys):
    windows = [*runner.Runner(model).stream(voice(2))]
    assert cli.main(["predict", str(model), str(recording), "--stream", "--format", "json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["dimension_range"] == [1, 5]
    found = [each["smoothed_dimensions"] for each in answer["windows"]]
    np.testing.assert_allclose(
        [[*each.values()] for each in found], [each.smoothed_dimensions for each in windows], atol=1e-5
    )
    at = 0
    for segment in answer["segments"]:
        of = windows[at : at + segment["windows"]]
        at += segment["windows"]
        mean = np.mean([each.smoothed_dimensions for each in of], axis=0)
        np.testing.assert_allclose([*segment["dimensions"].values()], mean, atol=1e-5)
    assert cli.main(["predict", str(model), str(recording), "--stream", "-v"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-2:] == [*NAMES]
    assert lines[2].split()[-2:] == [f"{min(max(x, 1), 5):.1f}" for x in windows[0].smoothed_dimensions]
    assert "  arousal " in lines[-1]


def test_values_are_clipped_where_they_are_shown_alone():
    dimensions = Dimensions(("arousal", "valence", "dominance"), (-1, 1))
    assert formats.dimensions_line([-1.2, 0.123, 7], dimensions) == (
        "arousal -1.00, valence 0.12, dominance 1.00"
    )


def test_listening_prints_them(model, monkeypatch, capsys):
    plugged(monkeypatch, voice(3), rate=RATE)
    assert cli.main(["listen", str(model), "--seconds", "3"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "dBFS" in line]
    assert lines
    assert all("  arousal " in line and ", valence " in line for line in lines)
    assert cli.main(["listen", str(model), "--seconds", "3", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    np.testing.assert_allclose(
        [*first["dimensions"].values()], by_litert(model, voice(3)[:SAMPLES]), atol=1e-5
    )


def test_a_terminal_shows_a_bar_for_each_of_them(model):
    opened = runner.Runner(model)
    (window, *_) = opened.stream(voice(1))
    microphone = SimpleNamespace(name="Tape", lost=0)
    console = Console(width=100, file=io.StringIO())
    console.print(listen._LiveDisplay(console, opened, -110, microphone).drawn(window))
    lines = {line.split()[0]: line for line in console.file.getvalue().splitlines() if line.strip()}
    for name, value in zip(NAMES, window.smoothed_dimensions, strict=True):
        assert lines[name].rstrip().endswith(f"{min(max(value, 1), 5):.1f} of 1 to 5")


def test_models_says_which_file_has_them(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, file in (("plain", None), ("rated", model)):
        folder = Path(name)
        shutil.copytree(shipped.default().folder, folder)
        if file:
            for old in folder.glob("*.tflite"):
                old.unlink()
            shutil.copy(file, folder)
    found = {each.name: each.dimensions for each in models.available(Path()) if not each.is_shipped}
    assert found == {"plain": (), "rated": NAMES}
    assert cli.main(["models", "--result", "."]) == 0
    table = capsys.readouterr().out
    assert "dimensions" in table
    assert "arousal," in table
    assert "valence" in table
    assert "dimensions" not in models.table(models.available(Path("nothing"))).header


def test_the_file_for_devices_knows_the_names_that_the_package_knows():
    assert runner.DIMENSION_NAMES == DIMENSIONS


WRONG = {
    "no object": (7, "must be an object"),
    "an unknown name": ({"names": ["joy"], "range": [1, 5]}, "names must be a list of different names"),
    "one twice": ({"names": ["arousal"] * 2, "range": [1, 5]}, "names must be a list of different names"),
    "no range": ({"names": ["arousal", "valence"]}, "range must be a list"),
    "no extent": ({"names": ["arousal", "valence"], "range": [1, 1]}, "range must be a list"),
    "a wrong count": ({"names": ["arousal"], "range": [1, 5]}, "promises that its model gives dimensions"),
    "none promised": (None, "so that its model must give"),
}


@pytest.mark.parametrize(("facts", "words"), WRONG.values(), ids=WRONG)
def test_a_card_that_contradicts_its_model_is_refused_in_one_line(tmp_path, facts, words):
    path = dimensions_student(tmp_path / "student.tflite", dimensions=facts)
    with pytest.raises(RunnerError, match=words) as error:
        runner.Runner(path)
    assert "\n" not in str(error.value)


def test_a_promise_of_dimensions_without_the_output_is_refused(tmp_path):
    facts = {"names": ["arousal"], "range": [1, 5]}
    with pytest.raises(RunnerError, match="and it gives probabilities"):
        runner.Runner(audio_student(tmp_path / "student.tflite", dimensions=facts))
