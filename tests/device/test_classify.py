"""`light_sernet_kd.Runner.classify`: whole recordings of files and of any rate, against `predict`."""

import functools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from tiny_student import CLASSES, RATE, SAMPLES, audio_student, rated_student, text_student

import light_sernet_kd
from light_sernet_kd import Runner, audio, cli, runner
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import golden
from light_sernet_kd.runner import RunnerError

VOICE = golden.voice(8 * RATE, sample_rate=RATE)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(audio_student(tmp_path_factory.mktemp("student") / "student_float32.tflite"))


@pytest.fixture
def recordings(tmp_path) -> dict[str, str]:
    """A clip, a long recording with a pause, silence, and a stereo one of another rate."""
    sounds = {
        "short": VOICE[: SAMPLES // 2],
        "long": np.concatenate([VOICE[: 3 * RATE], np.zeros(RATE, np.float32), VOICE[3 * RATE :]]),
        "silent": np.zeros(2 * RATE, np.float32),
    }
    paths = {}
    for name, sound in sounds.items():
        paths[name] = str(tmp_path / f"{name}.wav")
        soundfile.write(paths[name], sound, RATE, subtype="FLOAT")
    stereo = audio.resample(VOICE, RATE, 44_100)
    paths["stereo"] = str(tmp_path / "stereo.wav")
    soundfile.write(paths["stereo"], np.stack([stereo, 0.5 * stereo], axis=1), 44_100, subtype="FLOAT")
    return paths


def test_files_and_waveforms_have_the_answer_of_predict(model, recordings, capsys):
    assert cli.main(["predict", model, *recordings.values(), "--json"]) == 0
    opened = Runner(model)
    for answer in json.loads(capsys.readouterr().out):
        waveform, rate = soundfile.read(answer["file"], dtype="float32")
        for result in (opened.classify(answer["file"]), opened.classify(waveform, sample_rate=rate)):
            assert (result.label, result.unsure, result.reason) == (
                answer["label"], answer["unsure"], answer["reason"] or "",
            )  # fmt: skip
            assert result.probabilities == pytest.approx(answer["probabilities"], abs=1e-5)
            assert result.seconds == pytest.approx(answer["seconds"], abs=1e-4)
            assert len(result.windows) == (answer["windows"] if answer["windows"] > 1 else 0)


def test_windows_are_those_of_a_stream(model, recordings):
    result = Runner(model).classify(recordings["long"])
    streamed = [*runner.Runner(model).stream(soundfile.read(recordings["long"], dtype="float32")[0])]
    assert [(each.start, each.label) for each in result.windows] == [
        (each.start, each.label) for each in streamed
    ]
    assert Runner(model).classify(recordings["long"], unsure_below=1.0).reason == "not sure"
    assert len(Runner(model).classify(recordings["long"], hop_seconds=0.25).windows) > len(streamed)


def test_threads_get_what_each_would_alone(model, recordings):
    opened = Runner(model)
    names = [*recordings.values()] * 3
    expected = [opened.classify(name).probabilities for name in names]
    with ThreadPoolExecutor(4) as pool:
        found = [result.probabilities for result in pool.map(opened.classify, names)]
    assert found == expected


def test_a_runs_folder_some_labels_and_a_text(model, recordings, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    audio_student(run / "student_int8.tflite")
    some = Runner(run, labels=CLASSES[:2]).classify(recordings["short"])
    assert [*some.probabilities] == [*CLASSES[:2]]
    assert sum(some.probabilities.values()) == pytest.approx(1)
    reader = Runner(text_student(tmp_path / "reader.tflite", hears=False))
    result = reader.classify(text="ja")
    expected = reader.probabilities(text="ja")
    assert [*result.probabilities.values()] == expected.tolist()
    assert (result.seconds, result.windows) == (0.0, ())


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (np.zeros(0, np.float32), {"sample_rate": 8000}, "one channel of samples"),
        (np.zeros(10, np.int16), {"sample_rate": 8000}, "floating-point"),
        (np.zeros((2, 3, 4), np.float32), {}, "one channel"),
        (None, {}, "takes audio, and there is no recording"),
        ("absent.wav", {}, "no such recording: absent.wav"),
        ("absent.wav", {"sample_rate": 8000}, "sample_rate is of a waveform"),
        (np.full(5 * RATE, np.nan), {}, "^every window of .* has samples that are not finite"),
        (np.full(5 * RATE, 2e9), {}, "^every window of .* has samples that are not finite"),
        *((np.zeros(RATE, np.float32), {"sample_rate": rate}, "at least 1") for rate in (0, -8000)),
    ],
)
def test_what_cannot_be_classified_is_named(model, given, settings, message):
    with pytest.raises((RunnerError, UserError), match=message):
        Runner(model).classify(given, **settings)


@pytest.mark.parametrize("seconds", [0.5, 8])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop_seconds": 0.0}, "^hop_seconds must be from 1/16000 on, found 0"),
        ({"unsure_below": -7}, "^unsure_below must be from 0 to 1, found -7"),
        ({"silence_dbfs": 40}, "^silence_dbfs must be in dB of full scale"),
        ({"nosuch": 3}, "^unknown setting 'nosuch'"),
        ({"learn": True}, "^unknown setting 'learn'"),
    ],
)
def test_settings_are_checked_whatever_the_length(model, seconds, settings, message):
    with pytest.raises((RunnerError, UserError), match=message):
        Runner(model).classify(VOICE[: round(seconds * RATE)], **settings)


def test_settings_of_windows_are_refused_where_a_text_is_read(tmp_path):
    reader = Runner(text_student(tmp_path / "reader.tflite", hears=False))
    with pytest.raises(RunnerError, match="hop_seconds cannot be used with this student, which reads"):
        reader.classify(text="ja", hop_seconds=1.0)
    with pytest.raises(RunnerError, match="unsure_below must be from 0 to 1"):
        reader.classify(text="ja", unsure_below=2)


@pytest.mark.parametrize("kind", ["classes", "dimensions", "text"])
def test_what_is_wrong_with_a_waveform_is_named_for_every_student(tmp_path, kind):
    path = tmp_path / "x.tflite"
    student = {
        "classes": audio_student,
        "dimensions": rated_student,
        "text": functools.partial(text_student, hears=True),
    }[kind](path)
    said = {"text": "ja"} if kind == "text" else {}
    for sound, message in (
        (np.zeros(RATE, np.int16), "^expected floating-point samples, found int16"),
        (np.zeros(0, np.float32), "^expected one channel of samples, shape .n,. with n"),
    ):
        with pytest.raises(RunnerError, match=message):
            Runner(student).classify(sound, sample_rate=8000, **said)


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="has no attribute 'Walker'"):
        _ = light_sernet_kd.Walker
