"""The students of the package: what answers where no file is named, and what `models` lists."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
from tiny_student import RATE, SAMPLES, audio_student

from light_sernet_kd import Runner, cli
from light_sernet_kd.device import shipped
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import golden

METRICS = {
    "corpus": "EMO-DB", "synthetic": False, "protocol": "loso", "stamps": [],
    "classes": ["anger", "neutral", "sadness"], "pooled": {"ua": 0.751, "wa": 0.763},
    "ci95": {"ua": [0.7, 0.8], "wa": [0.71, 0.81]},
}  # fmt: skip


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """The package's models, with a small student in the place of its own."""
    models = tmp_path / "models"
    monkeypatch.setattr(shipped, "MODELS", models)
    folder = models / shipped.DEFAULT
    folder.mkdir(parents=True)
    audio_student(folder / "student_int8.tflite")
    (folder / "metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    (folder / shipped.PROVENANCE).write_text("{}", encoding="utf-8")
    return models


@pytest.fixture
def voice(tmp_path) -> str:
    path = tmp_path / "voice.wav"
    soundfile.write(path, golden.voice(SAMPLES, sample_rate=RATE), RATE, subtype="FLOAT")
    return str(path)


def test_the_packages_student_answers_where_none_is_named_and_says_so(package, voice, capsys):
    assert cli.main(["predict", voice, "--json"]) == 0
    unnamed = capsys.readouterr()
    assert "light-sernet-emodb answers" in unnamed.err
    assert "75.1 %" in unnamed.err
    assert cli.main(["predict", shipped.DEFAULT, voice, "--json"]) == 0
    named = capsys.readouterr()
    assert named.err == ""
    assert cli.main(["predict", str(package / shipped.DEFAULT / "student_int8.tflite"), voice, "--json"]) == 0
    by_path = capsys.readouterr()
    (first,) = json.loads(unnamed.out)
    assert first["model"] == "light-sernet-emodb/student_int8.tflite"
    assert json.loads(named.out) == json.loads(by_path.out) == [first]
    assert Runner().classify(voice).probabilities == first["probabilities"]


def test_runner_and_page_say_which_student_answers_where_none_is_named(
    package, runtime, tmp_path, capsys, caplog
):
    caplog.set_level("INFO", "light_sernet_kd")
    Runner(package / shipped.DEFAULT)
    assert not caplog.messages
    Runner()
    assert caplog.messages == [shipped.introduction()]
    assert cli.main(["demo", "--out", str(tmp_path / "site")]) == 0
    assert shipped.introduction() in capsys.readouterr().err


def test_a_folder_of_recordings_is_no_model_and_a_run_is(package, voice, tmp_path, capsys):
    folder = tmp_path / "voices"
    folder.mkdir()
    shutil.copy(voice, folder / "a.wav")
    assert cli.main(["predict", str(folder), "--json"]) == 0
    assert "light-sernet-emodb answers" in capsys.readouterr().err
    run = tmp_path / "run"
    run.mkdir()
    student = run / "student_float32.tflite"
    audio_student(student)
    renamed = tmp_path / "student.bin"  # known by its content
    shutil.copy(student, renamed)
    for model in (run, student, renamed):
        assert cli.main(["predict", str(model), voice, "--format", "jsonl"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert len(captured.out.splitlines()) == 1


def test_a_file_of_the_models_name_goes_first(package, voice, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(package / shipped.DEFAULT, tmp_path / shipped.DEFAULT)
    (tmp_path / shipped.DEFAULT / "student_int8.tflite").rename(
        tmp_path / shipped.DEFAULT / "student_float32.tflite"
    )
    assert cli.main(["predict", shipped.DEFAULT, voice, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["model"].endswith("student_float32.tflite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "result/typo", "voice.wav"], "result/typo is not there"),
        (["predict", "light-sernet-emodbb", "voice.wav"], "light-sernet-emodbb is not there"),
        (["predict", "gone.tflite", "voice.wav"], "gone.tflite"),
        (["enroll", "--profile", "me.json"], "enroll needs recordings"),
        (["benchmark", "nothing-here"], "nothing-here"),
    ],
)
def test_what_is_neither_model_nor_recording_is_told(package, arguments, message, capsys):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_a_package_without_its_student_says_so(package, voice, capsys):
    shutil.rmtree(package / shipped.DEFAULT)
    assert cli.main(["predict", voice]) == 2
    assert "lacks its student light-sernet-emodb" in capsys.readouterr().err
    with pytest.raises(UserError, match="lacks its student"):
        Runner()


def test_models_lists_those_of_the_package_and_of_runs(package, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = Path("result")
    for name, exported, metrics in (
        ("demo", "student_dynamic.tflite", {**METRICS, "synthetic": True, "corpus": "demo", "ci95": None}),
        ("not-exported", None, METRICS),
        ("damaged", "student_int8.tflite", {"corpus": "demo"}),
    ):
        (result / name).mkdir(parents=True)
        (result / name / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        if exported:
            audio_student(result / name / exported)
    assert cli.main(["models", "--result", str(result), "--json"]) == 0
    own, run = json.loads(capsys.readouterr().out)
    assert (own["name"], own["shipped"], own["ua"], own["ci95"]["ua"]) == (
        "light-sernet-emodb", True, 0.751, [0.7, 0.8],
    )  # fmt: skip
    assert (run["name"], run["shipped"], run["synthetic"]) == (str(result / "demo"), False, True)
    assert run["bytes"] == Path(run["file"]).stat().st_size
    assert cli.main(["models", "--result", str(result)]) == 0
    table = capsys.readouterr().out
    assert "75.1 [70.0, 80.0]" in table
    assert "SYNTHETIC" in table
