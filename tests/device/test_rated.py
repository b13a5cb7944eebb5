"""Files of arousal, valence and dominance without classes, in everything that answers or refuses to."""

import base64
import csv
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from fake_microphone import plugged
from rich.console import Console
from tiny_student import RATE, SAMPLES, dimensions_student, enrolled_student, rated_student, voice

from light_sernet_kd import Runner, audio, cli, runner
from light_sernet_kd.device import formats, listen, models, shipped
from light_sernet_kd.runner import RunnerError

NAMES, SCALE = ("arousal", "valence"), (1.0, 5.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return rated_student(tmp_path_factory.mktemp("rated") / "student_float32.tflite")


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A file of classes too, with the same dimensions."""
    return dimensions_student(tmp_path_factory.mktemp("beside") / "student_float32.tflite")


# The runner.


def test_the_runner_has_no_labels_and_the_dimensions_of_a_file_with_both(model, beside):
    opened, with_classes = runner.Runner(model), runner.Runner(beside)
    assert (opened.labels, opened.dimension_names, opened.dimension_range) == ((), NAMES, SCALE)
    for seed in range(5):
        answer = opened.answer(voice(0.5, seed))
        assert answer.probabilities.shape == (0,)
        np.testing.assert_array_equal(answer.dimensions, with_classes.answer(voice(0.5, seed)).dimensions)


def test_a_stream_smooths_as_with_classes_and_is_unsure_of_what_is_no_speech_alone(model, beside):
    noise = np.random.default_rng(1).normal(0, 0.05, RATE).astype(np.float32)
    broken = np.full(100, np.nan, np.float32)
    sound = np.concatenate([voice(2), np.zeros(RATE, np.float32), noise, voice(1, 3), broken])
    found = [*runner.Runner(model).stream(sound, hop_seconds=0.25)]
    # Every class is shown as soon as it leads, and none is doubted.
    expected = [*runner.Runner(beside).stream(sound, hop_seconds=0.25, unsure_below=0.0)]
    assert len(found) == len(expected)
    assert {each.why for each in found} == {"", "silent", "no speech", "not finite"}
    for window, other in zip(found, expected, strict=True):
        assert (window.start, window.end, window.why) == (other.start, other.end, other.why)
        assert window.label == ("unsure" if window.why else "")
        np.testing.assert_array_equal(window.dimensions, other.dimensions)
        np.testing.assert_array_equal(window.smoothed_dimensions, other.smoothed_dimensions)
        assert window.probabilities.shape == window.smoothed.shape == (0,)
    (short,) = runner.Runner(model).stream(voice(0.1))
    assert (short.label, short.why) == ("unsure", "too short")


SPEAKER = "what is known of a speaker"
REFUSED = {
    "probabilities": (lambda opened: opened.probabilities(voice(0.5)), "Runner.probabilities"),
    "states": (lambda opened: opened.probabilities_of_states({}), "Runner.probabilities_of_states"),
    "a threshold": (lambda opened: [*opened.stream(voice(1), unsure_below=0.3)], "unsure_below"),
    "a margin": (lambda opened: [*opened.stream(voice(1), margin=0.3)], "margin"),
    "a patience": (lambda opened: [*opened.stream(voice(1), patience=1)], "patience"),
    "learning": (lambda opened: opened.learn(voice(1)), SPEAKER),
    "a stream that learns": (lambda opened: [*opened.stream(voice(1), learn=True)], SPEAKER),
    "enrolment": (lambda opened: opened.enrol([voice(1)]), SPEAKER),
    "an embedding": (lambda opened: opened.embedding(voice(1)), SPEAKER),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "words"), REFUSED.values(), ids=REFUSED)
def test_what_needs_classes_is_refused_in_one_line(model, ask, words):
    with pytest.raises(RunnerError) as error:
        ask(runner.Runner(model))
    remedy = "take Runner.answer" if words == "Runner.probabilities" else "leave it out"
    assert (
        str(error.value) == f"{words} needs classes, and {model} gives arousal and valence alone: {remedy}."
    )


def test_a_file_without_classes_takes_neither_a_choice_of_them_nor_a_profile(model, tmp_path):
    with pytest.raises(RunnerError, match=r"^a choice of labels needs classes"):
        runner.Runner(model, labels=["anger", "fear"])
    knows = runner.Runner(enrolled_student(tmp_path / "student_float32_enrolled.tflite"))
    profile = knows.enrol([voice(1)])
    with pytest.raises(RunnerError, match=r"^what is known of a speaker needs classes"):
        runner.Runner(model, profile=profile)
    interpreter, _, _ = runner.open_file(model)
    with pytest.raises(RunnerError, match=r"^the file gives dimensions alone, .*: take runner.outputs\.$"):
        runner.invoke(interpreter, voice(0.5))


WRONG = {
    "nothing at all": ({"dimensions": None}, "classes must be names, since the file gives no dimensions"),
    "classes that the model lacks": ({"classes": None}, "lacks its card"),
    "a speaker": ({"enrolled": {"embedding": "ab" * 32, "width": 5}}, "left out of a file without classes"),
    "another count": ({"dimensions": {"names": ["arousal"], "range": [1, 5]}}, r"gives dimensions \[1, 1\] "),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "words"), WRONG.values(), ids=WRONG)
def test_a_card_that_contradicts_its_model_is_refused_in_one_line(tmp_path, facts, words):
    with pytest.raises(RunnerError, match=words) as error:
        runner.Runner(rated_student(tmp_path / "student.tflite", **facts))
    assert "\n" not in str(error.value)


def test_a_card_that_hides_the_classes_of_its_model_is_refused(tmp_path):
    with pytest.raises(RunnerError, match=r"and it gives dimensions .*, probabilities "):
        runner.Runner(dimensions_student(tmp_path / "student.tflite", classes=[]))


# Whole recordings.


def shown(values) -> list[str]:
    """As lines have them: within the scale."""
    return [f"{min(max(value, SCALE[0]), SCALE[1]):.1f}" for value in values]


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """A second of syllables, one of nothing, another of syllables."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    sound = np.concatenate([voice(1), np.zeros(RATE, np.float32), voice(1, 3)])
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("quiet") / "quiet.wav"
    soundfile.write(path, np.zeros(SAMPLES), RATE)
    return path


def test_a_result_has_no_label_and_the_dimensions_of_a_file_with_both(model, beside, recording):
    result, expected = (Runner(each).classify(recording) for each in (model, beside))
    assert (result.label, result.probabilities) == (None, {})
    assert (result.unsure, result.reason) == (False, "")
    assert result.dimensions == expected.dimensions
    assert len(result.windows) == len(expected.windows) > 3
    silent = Runner(model).classify(np.zeros(RATE))
    assert (silent.label, silent.unsure, silent.reason) == (None, True, "silent")
    assert Runner(model).classify(voice(0.1)).reason == "too short"
    with pytest.raises(RunnerError, match=r"^every window of 4 has samples that are not finite"):
        Runner(model).classify(np.full(2 * RATE, np.nan))


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_settings_of_classes_are_refused_of_short_and_of_long_recordings(model, seconds):
    for name, value in {"unsure_below": 0.3, "margin": 0.3, "patience": 1}.items():
        with pytest.raises(RunnerError, match=f"^{name} needs classes"):
            Runner(model).classify(voice(seconds), **{name: value})


def answered(capsys, *arguments) -> str:
    assert cli.main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_predict_says_the_values_and_programs_get_no_label(model, recording, quiet, capsys):
    dimensions = Runner(model).classify(recording).dimensions
    arousal, valence = shown(dimensions.values())
    line, silent = answered(capsys, "predict", model, recording, quiet).splitlines()
    assert line.startswith(
        f"{recording}: arousal {arousal}, valence {valence} (1 to 5); 3.0 s in 6 windows: "
    )
    assert "speech 67 %, unsure (silent) 33 % of the time" in line
    assert silent.endswith(" (1 to 5), unsure: silent")
    as_json = json.loads(answered(capsys, "predict", model, recording, quiet, "--format", "json"))
    lines = answered(capsys, "predict", model, recording, quiet, "--format", "jsonl").splitlines()
    assert as_json == [*map(json.loads, lines)]
    answer = as_json[0]
    assert answer["label"] is None
    assert (answer["probabilities"], answer["time_shares"]) == ({}, {})
    assert answer["unsure_shares"] == {"silent": pytest.approx(1 / 3, abs=0.01)}
    assert (answer["dimensions"], answer["dimension_range"]) == (dimensions, [1, 5])
    assert (answer["unsure"], as_json[1]["unsure"], as_json[1]["reason"]) == (False, True, "silent")
    table = answered(capsys, "predict", model, recording, quiet, "--format", "csv")
    assert table.splitlines()[0] == "file,label,unsure,reason,seconds,windows,arousal,valence,error".replace(
        "file,", "file,text,"
    )
    first, second = csv.DictReader(io.StringIO(table))
    assert (first["label"], first["reason"], second["reason"]) == ("", "", "silent")
    assert [float(first[name]) for name in NAMES] == pytest.approx([*dimensions.values()])


def test_a_timeline_prints_every_window(model, recording, capsys):
    windows = [*runner.Runner(model).stream(audio.read(recording))]
    lines = answered(capsys, "predict", model, recording, "--stream").splitlines()
    assert lines[1].split() == ["start", "end", "dBFS", "heard", *NAMES]
    for line, window in zip(lines[2:], windows, strict=False):
        cells = line.split()
        assert cells[4] == ("unsure" if window.why else "speech")
        assert cells[5:7] == shown(window.smoothed_dimensions)
    segments = lines[len(windows) + 3 :]
    assert [line.split()[3] for line in segments] == ["speech", "unsure", "speech"]
    assert "  arousal " in segments[0]
    assert "%" not in "".join(segments)
    (answer,) = json.loads(answered(capsys, "predict", model, recording, "--stream", "--json"))
    assert answer["unsure_below"] is None
    assert {each["label"] for each in answer["windows"]} == {None, "unsure"}
    assert all(each["probabilities"] == each["smoothed"] == {} for each in answer["windows"])
    assert [(each["label"], each["why"]) for each in answer["segments"]] == [
        (None, None), ("unsure", "silent"), (None, None)
    ]  # fmt: skip
    assert {each["probability"] for each in answer["segments"]} == {None}
    np.testing.assert_allclose(
        [[*each["smoothed_dimensions"].values()] for each in answer["windows"]],
        [each.smoothed_dimensions for each in windows],
        atol=1e-6,
    )


def test_a_picture_of_a_timeline_draws_the_values_on_their_scale(model, recording, drawn, tmp_path):
    path = tmp_path / "voice.png"
    assert cli.main(["predict", str(model), str(recording), "--stream", "--picture", str(path)]) == 0
    (figure,) = drawn
    strip, _, lines = figure.axes
    assert [text.get_text() for text in strip.texts] == ["speech", "speech", "unsure: silent"]
    assert [text.get_text() for text in lines.get_legend().get_texts()] == [*NAMES]
    assert lines.get_ylim() == pytest.approx((0.92, 5.08))
    windows = [*runner.Runner(model).stream(audio.read(recording))]
    heard = [np.nan if each.why else min(max(each.smoothed_dimensions[0], 1), 5) for each in windows]
    np.testing.assert_allclose(lines.patches[0].get_data().values, heard, atol=1e-6)


COMMANDS = {
    "a threshold": (["predict", "MODEL", "VOICE", "--threshold", "0.3"], "--threshold needs classes"),
    "a threshold of a timeline": (
        ["predict", "MODEL", "VOICE", "--stream", "--threshold", "0.3"], "--threshold needs classes"
    ),
    "a threshold of a microphone": (["listen", "MODEL", "--threshold", "0.3"], "--threshold needs classes"),
    "labels": (["predict", "MODEL", "VOICE", "--labels", "anger,fear"], "a choice of labels needs classes"),
    "an embedding": (["predict", "MODEL", "VOICE", "--embedding", "--json"], SPEAKER),
    "a profile": (["predict", "MODEL", "VOICE", "--profile", "PROFILE"], SPEAKER),
    "a profile and a folder": (["predict", "FOLDER", "VOICE", "--profile", "PROFILE"], SPEAKER),
    "a profile of a microphone": (["listen", "MODEL", "--profile", "PROFILE"], SPEAKER),
    "a profile that learns": (["listen", "MODEL", "--profile", "new.json", "--learn"], SPEAKER),
    "a profile of the page": (["demo", "MODEL", "--profile", "PROFILE"], SPEAKER),
    "enrolment": (["enroll", "MODEL", "VOICE", "--profile", "new.json"], SPEAKER),
    "enrolment by a folder": (["enroll", "FOLDER", "VOICE", "--profile", "new.json"], SPEAKER),
}  # fmt: skip


@pytest.mark.parametrize(("command", "words"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_refuses_in_one_line_what_needs_classes(
    model, recording, tmp_path, monkeypatch, capsys, command, words
):
    monkeypatch.chdir(tmp_path)
    profile = runner.Profile("ab" * 32, np.zeros(5), 1)
    profile.save("me.json")
    named = {"MODEL": model, "FOLDER": model.parent, "VOICE": recording, "PROFILE": "me.json"}
    assert cli.main([str(named.get(each, each)) for each in command]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert words in line
    assert f"{model} gives arousal and valence alone: leave it out." in line
    assert not Path("new.json").exists()


def test_listening_prints_a_line_per_window(model, monkeypatch, capsys):
    sound = np.concatenate([voice(2), np.zeros(RATE, np.float32)])
    plugged(monkeypatch, sound, rate=RATE)
    windows = [*runner.Runner(model).stream(sound)]
    lines = answered(capsys, "listen", model, "--seconds", 3).splitlines()
    assert len(lines) == len(windows) + 2
    for line, window in zip(lines[1:], windows, strict=False):
        assert line.split()[1] == ("unsure" if window.why else "speech")
        assert ("  arousal " in line) == (not window.why)
        assert "%" not in line
    assert "speech 67 %, unsure (silent) 33 %" in lines[-1]
    first = json.loads(answered(capsys, "listen", model, "--seconds", 3, "--json").splitlines()[0])
    assert (first["label"], first["probabilities"]) == (None, {})
    np.testing.assert_allclose([*first["dimensions"].values()], windows[0].dimensions, atol=1e-5)


def test_a_terminal_shows_bars_of_the_values_alone(model):
    opened = runner.Runner(model)
    (window, *_) = opened.stream(voice(1))
    console = Console(width=100, file=io.StringIO())
    display = listen._LiveDisplay(console, opened, -110, SimpleNamespace(name="Tape", lost=0))
    console.print(display.drawn(window))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert lines[0][1] == "SPEECH"
    assert [line[0] for line in lines[1:-1]] == [*NAMES, "level"]
    for line, value in zip(lines[1:3], shown(window.smoothed_dimensions), strict=True):
        assert line[-5:] == [value, "of", "1", "to", "5"]


def test_models_lists_it_without_a_score_of_classes(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Path("rated")
    folder.mkdir()
    shutil.copy(model, folder)
    metrics = json.loads((shipped.default().folder / "metrics.json").read_text(encoding="utf-8"))
    del metrics["pooled"], metrics["ci95"]
    metrics |= {
        "classes": [],
        "dimensions": {"pooled": {"arousal": {"ccc": 0.613}, "valence": {"ccc": None}}},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (found,) = (each.as_dict() for each in models.available(Path()) if not each.is_shipped)
    assert (found["classes"], found["dimensions"]) == ([], [*NAMES])
    assert (found["ua"], found["wa"], found["ci95"]) == (None, None, None)
    assert found["ccc"] == {"arousal": 0.613, "valence": None}
    table = models.table(models.available(Path()))
    rows = dict(zip([row[0] for row in table.cells()], table.cells(), strict=True))
    told = dict(zip(table.header, rows["rated"], strict=True))
    assert (told["classes"], told["dimensions"], told["CCC"]) == ("–", "arousal, valence", "0.61, –")
    answered(capsys, "models", "--result", ".")


def test_stress_and_scores_of_classes_refuse_the_file(model, manifest, capsys):
    for command in (
        ["stress", model, "--on", manifest], ["benchmark", model, "--on", manifest, "--rounds", 1]
    ):  # fmt: skip
        assert cli.main([*map(str, command)]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"needs classes, and {model} gives arousal and valence alone: " in line


def test_a_benchmark_measures_it(model, capsys):
    measured = json.loads(answered(capsys, "benchmark", model, "--rounds", 1, "--threads", 1, "--json"))
    (told,) = measured["files"]
    assert (told["classes"], told["dimensions"], told["folds_students"]) == (0, [*NAMES], None)
    assert told["latency"]["1"]["median_ms"] > 0


def test_golden_vectors_have_its_values(model, tmp_path, capsys):
    out = tmp_path / "golden.json"
    answered(capsys, "golden", model, "--out", out)
    vectors = json.loads(out.read_text())
    (told,) = vectors["files"]
    assert told["labels"] == []
    assert {*told["dimensions"]["values"]} == {"fits", "short", "long"}
    heard = np.frombuffer(base64.b64decode(vectors["audio"]["base64"]), "<f4")[:SAMPLES]
    low, high = SCALE
    values = low + (np.array(told["dimensions"]["values"]["fits"]) + 1) * (high - low) / 2
    np.testing.assert_allclose(values, runner.Runner(model).answer(heard).dimensions, atol=1e-5)


def test_a_line_says_speech_where_a_label_would_be():
    assert (
        formats.label_or_speech(""),
        formats.label_or_speech("unsure"),
        formats.label_or_speech("anger"),
    ) == ("speech", "unsure", "anger")
