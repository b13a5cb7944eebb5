"""The commands as a user gives them, on a small made corpus and on the real one where it is found."""

import csv
import dataclasses
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import recomputed
import soundfile
from conftest import HELPERS, REPOSITORY
from small_runs import (
    EMOTIONS,
    QUICK,
    SENTENCES,
    SPEAKERS,
    error_of,
    quicken_tensorflow,
    rendered,
    same_weights,
    train,
)

from light_sernet_kd import __version__, cli, config
from light_sernet_kd.cli import entry
from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.config import RunOptions, make_settings
from light_sernet_kd.data import training_list
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.experiment.results import receipt


def without_seconds(metrics: dict) -> dict:
    folds = [{key: value for key, value in fold.items() if key != "seconds"} for fold in metrics["folds"]]
    teacher = metrics["teacher"] and {**metrics["teacher"]}
    if teacher:
        teacher["beside"] = {**teacher["beside"], "command": ""}
    return {**metrics, "folds": folds, "teacher": teacher, "command": ""}


pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def distilled(manifest, shallow, tmp_path_factory) -> Path:
    """The folder of a run with everything: auto teacher, KD, every fold, export."""
    result = tmp_path_factory.mktemp("result")
    with rendered(".svg"):  # which the page has
        assert train(manifest, result, "-kd", "KD", "--epochs", "4", "--run", "all") == 0
    return result / "all"


def test_a_run_leaves_what_the_readme_of_results_promises(distilled):
    promised = [
        "report.md", "metrics.json", "predictions.csv", "config.json", "labels.txt", "curves.png",
        "confusion_matrix.png", "confusion_matrix.pdf", "precision_costs.png", "embeddings.png",
        "reliability.png", "report.html", *(f"curves.{kind}" for kind in ("svg", "pdf")),
        *(f"student_{precision}.tflite" for precision in ("float32", "float16", "dynamic", "int8")),
        *(f"fold-{speaker}/{name}" for speaker in SPEAKERS for name in ("student.keras", "history.csv")),
    ]  # fmt: skip
    assert [name for name in promised if not (distilled / name).is_file()] == []
    unfinished = [
        path for path in distilled.rglob("*") if "checkpoint" in path.name or ".student" in path.name
    ]
    assert unfinished == []


def test_metrics_agree_with_the_predictions_file(distilled):
    from sklearn.metrics import balanced_accuracy_score

    metrics = json.loads((distilled / "metrics.json").read_text())
    with open(distilled / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27
    assert {row["fold"] for row in rows} == set(SPEAKERS)
    labels, predicted = [row["label"] for row in rows], [row["predicted"] for row in rows]
    assert metrics["pooled"]["ua"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    for row in rows:
        shares = {name: float(row[f"p_{name}"]) for name in EMOTIONS}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
        assert max(shares, key=shares.get) == row["predicted"]
    assert metrics["ci95"]["ua"][0] <= metrics["pooled"]["ua"] <= metrics["ci95"]["ua"][1]
    assert metrics["stamps"] == []
    assert metrics["protocol"] == "loso"
    assert all("ua" in fold["last_epoch"] for fold in metrics["folds"])


def test_every_figure_of_report_and_metrics_is_that_of_the_predictions(distilled):
    recomputed.check(distilled)


def test_nine_validation_clips_are_too_few_for_a_fold_and_those_of_all_folds_serve_the_file(distilled):
    from light_sernet_kd.runner import open_file

    told = json.loads((distilled / "metrics.json").read_text())["calibration"]
    assert told["after"] is None
    assert {fold["temperature"] for fold in told["folds"]} == {None}
    _, card, _ = open_file(distilled / "student_int8.tflite")
    assert (card["temperature"], card["unsure_below"]) == (told["temperature"], 0.5)
    page = (distilled / "report.md").read_text()
    assert f"fewer than 20 validation predictions: fold {', '.join(SPEAKERS)}." in page
    assert f"divide their logits by {told['temperature']:.2f}" in page


def test_the_exported_student_answers_as_the_saved_one(distilled, manifest):
    import keras

    from light_sernet_kd import audio, features
    from light_sernet_kd.runner import Runner

    student = keras.saving.load_model(distilled / "fold-all-speakers" / "student.keras", compile=False)
    clip = audio.read(manifest.parent / f"{SPEAKERS[0]}-{SENTENCES[0]}-anger.wav")
    fitted = audio.fit(clip, 19200)
    tensor = features.front_end_model("lsn", "mfcc", 19200).predict_on_batch(fitted[None])
    runner = Runner(distilled / "student_float32.tflite")
    expected = keras.ops.softmax(student(tensor) / runner.card["temperature"])[0]
    np.testing.assert_allclose(runner.probabilities(clip), expected, atol=1e-4)


def test_stress_of_a_run_gives_each_folds_student_its_own_test_speakers(
    distilled, manifest, tmp_path, capsys
):
    arguments = ["stress", str(distilled), "--precision", "int8,float32", "--conditions", "clean,gain -12 dB"]
    capsys.readouterr()
    assert cli.main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    metrics = json.loads((distilled / "metrics.json").read_text())
    scored = {row["precision"]: row for row in metrics["export"]["rows"]}
    for student, precision in zip(told["students"], ("int8", "float32"), strict=True):
        assert student["name"] == f"all {precision}"
        assert student["files"] == len(SPEAKERS)
        assert (student["heard_in_training"], student["speakers"]) == (False, len(SPEAKERS))
        clean = student["conditions"][0]
        # What the run itself found of each fold's student in this precision.
        assert clean["ua"] == pytest.approx(scored[precision]["ua"])
        assert clean["wa"] == pytest.approx(scored[precision]["wa"])
        assert clean["intervals"]["ua"] == pytest.approx(
            [scored[precision][f"ua_{end}"] for end in ("low", "high")]
        )
    # The exported student of all speakers beside the fold's own: it was trained on what it hears here.
    final = ["stress", str(distilled / "student_int8.tflite"), *arguments[1:]]
    assert cli.main([*final, "--folds", "s1", "--on", str(manifest), "--json"]) == 0
    beside = json.loads(capsys.readouterr().out)["students"]
    assert [each["heard_in_training"] for each in beside] == [True, False, False]
    assert "TRAINED ON 9 of these 9 recordings" in beside[0]["trained"]
    assert all(list(each["conditions"][0]["per_speaker"]) == ["s1"] for each in beside)
    for extra, words in (
        (["--on", "EMO-DB"], "was tested on"),
        (["--emotions", "anger,neutral"], "--emotions is a run's own"),
        (["--precision", "int4"], "unknown precision 'int4'"),
        (["--folds", "s9"], "unknown fold 's9'"),
        ([], "a run is named twice"),
    ):
        twice = [] if extra else [str(distilled)]
        assert cli.main([*arguments[:2], *twice, *arguments[2:], *extra]) == 2
        # before it, at most what is being done
        assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_card_of_each_file_tells_its_own_scores_and_what_the_run_was(distilled):
    from light_sernet_kd.runner import Runner

    metrics = json.loads((distilled / "metrics.json").read_text())
    for row in metrics["export"]["rows"]:
        card = Runner(distilled / row["file"]).card
        told = ("ua", "wa", "ua_low", "ua_high")
        assert {name: card[name] for name in told if name in card} == {
            name: row[name] for name in told if name in row
        }
        assert card["scored"] == metrics["export"]["note"]
        assert {name: card[name] for name in ("corpus", "synthetic", "protocol", "stamps")} == {
            name: metrics[name] for name in ("corpus", "synthetic", "protocol", "stamps")
        }
        assert card["temperature"] == metrics["calibration"]["temperature"]
        assert card["light_sernet_kd"] == __version__
        listed = training_list.read(distilled / row["file"])
        assert (len(listed.rows), len(listed.speakers)) == (27, len(SPEAKERS))
        assert card["folds"] == [fold["name"] for fold in metrics["folds"]]
        page = (REPOSITORY / "docs" / "on-device.md").read_text(encoding="utf-8")
        assert not {name for name in card if f"`{name}`" not in page}
        # the day the final student was trained, in UTC
        trained = datetime.datetime.fromisoformat(card["trained"]).replace(tzinfo=datetime.UTC)
        age = datetime.datetime.now(datetime.UTC) - trained
        assert datetime.timedelta(0) <= age < datetime.timedelta(days=2)


def test_a_run_counts_what_its_input_length_cuts(distilled, manifest):
    told = json.loads((distilled / "metrics.json").read_text())["cut"]
    seconds = [soundfile.info(path).duration for path in sorted(manifest.parent.glob("*.wav"))]
    assert (told["input_seconds"], told["recordings"]) == (1.2, len(seconds))
    assert told["longer"] == sum(each > 1.2 for each in seconds) > 0
    assert told["cut_seconds"] == pytest.approx(sum(max(0, each - 1.2) for each in seconds))
    assert "- **Cut:** " in (distilled / "report.md").read_text()


def test_predict_prints_labels_and_json(distilled, manifest, capsys):
    clips = [str(manifest.parent / f"{SPEAKERS[0]}-{SENTENCES[0]}-{emotion}.wav") for emotion in EMOTIONS]
    model = str(distilled / "student_int8.tflite")
    assert cli.main(["predict", model, *clips]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 3
    assert cli.main(["predict", model, *clips, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["file"] for answer in answers] == clips
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1, abs=0.02) for answer in answers)


def test_predict_needs_neither_tensorflow_nor_keras(distilled, manifest):
    clip = manifest.parent / f"{SPEAKERS[0]}-{SENTENCES[0]}-anger.wav"
    code = (
        "import sys; from light_sernet_kd.cli import main\n"
        f"code = main(['predict', {str(distilled / 'student_float32.tflite')!r}, {str(clip)!r}])\n"
        "print(code, sorted({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("0 []")
    assert done.stderr == ""


def test_predict_into_head_ends_quietly(distilled, manifest):
    clips = " ".join(f"'{path}'" for path in sorted(manifest.parent.glob("*.wav")))
    command = (
        f"'{sys.executable}' -m light_sernet_kd predict '{distilled}/student_int8.tflite' {clips} | head -0"
    )
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""


def test_predict_names_each_bad_file_and_still_answers_for_the_others(distilled, manifest, tmp_path, capsys):
    (tmp_path / "notes.wav").write_text("no audio")
    good = str(manifest.parent / f"{SPEAKERS[0]}-{SENTENCES[0]}-anger.wav")
    model = str(distilled / "student_float32.tflite")
    assert cli.main(["predict", model, str(tmp_path / "notes.wav"), str(tmp_path / "none.wav"), good]) == 2
    captured = capsys.readouterr()
    assert "notes.wav" in captured.err
    assert "none.wav" in captured.err
    assert captured.out.startswith(good)
    (tmp_path / "notes.wav").rename(tmp_path / "notes.tflite")
    assert cli.main(["predict", str(tmp_path / "notes.tflite"), good]) == 2
    assert "not a TFLite file" in error_of(capsys)


def test_predict_says_of_what_it_is_unsure(distilled, tmp_path, capsys):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000)
    # Of 3 s, the student hears windows of 1.2 s.
    clips = {
        "silence": 0 * sound[:20_000],
        "edges": np.where(np.abs(np.arange(48_000) - 24_000) < 12_000, 0, sound),
    }
    clips |= {"noise": sound, "speech": sound * np.sin(np.arange(48_000) / 2_000)}
    for name, waveform in clips.items():
        soundfile.write(tmp_path / f"{name}.wav", waveform, 16_000)
    paths = [str(tmp_path / f"{name}.wav") for name in clips]
    assert cli.main(["predict", str(distilled / "student_float32.tflite"), "--json", *paths]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answers[0]["reason"], answers[2]["reason"]] == ["silent", "no speech"]
    # The middle is silent, and what is beside it is heard all the same.
    assert answers[1]["reason"] in (None, "not sure")
    assert 0 < answers[1]["unsure_shares"]["silent"] < 0.8
    sure = max(answers[3]["probabilities"].values()) >= 0.5
    assert answers[3]["reason"] == (None if sure else "not sure")
    assert cli.main(["predict", str(distilled / "student_float32.tflite"), paths[2]]) == 0
    assert f"noise.wav: {answers[2]['label']}, unsure: no speech (" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x" * 300, os.fsdecode(b"a\xff"), "ü run"], ids=["long", "not UTF-8", "ü"])
def test_any_name_of_a_run_becomes_a_folder(manifest, tmp_path, name):
    arguments = ("--epochs", "1", "--folds", SPEAKERS[0], "--no-export", "--run", name)
    assert train(manifest, tmp_path, *arguments) == 0
    assert train(manifest, tmp_path, *arguments) == 0
    (folder,) = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert folder.name.startswith({"x": "xxx", "a": "a_-", "ü": "ü_run-"}[name[0]])
    assert (folder / "report.md").is_file()


def test_the_page_of_a_run_has_its_scores_and_its_mistakes_to_hear(distilled):
    page = (distilled / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((distilled / "metrics.json").read_text())
    ua = metrics["pooled"]["ua"]
    assert f'<data value="{ua}">{100 * ua:.1f}</data>' in page
    right = sum(row[place] for place, row in enumerate(metrics["confusion"]))
    assert right == pytest.approx(metrics["pooled"]["wa"] * metrics["pooled"]["count"])
    assert page.count("<audio") == len(metrics["mistakes"]) == min(20, metrics["pooled"]["count"] - right)
    assert page.count("<svg") == 4  # curves, reliability, embeddings, precisions
    with open(distilled / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = [float(row[f"p_{row['predicted']}"]) for row in rows if row["predicted"] != row["label"]]
    told = [each["probability"] for each in metrics["mistakes"]]
    assert told == pytest.approx(sorted(wrong, reverse=True)[:20], rel=1e-6)
    speakers = {each["speaker"]: each["wa"] for each in metrics["per_speaker"]}
    assert speakers == pytest.approx({each["test_speakers"][0]: each["wa"] for each in metrics["folds"]})


def test_the_same_command_again_trains_nothing_and_changes_nothing(distilled, manifest, monkeypatch):
    arguments = ["-kd", "KD", "--epochs", "4", "--run", "all"]
    told = distilled / "receipt.json"
    before = {path: path.read_bytes() for path in distilled.rglob("*") if path.is_file()}
    kept = told.stat()
    # It finds that out without TensorFlow.
    command = ["train", "-dn", str(manifest), *QUICK, "--result", str(distilled.parent), *arguments]
    code = f"import no_tensorflow\nfrom light_sernet_kd.cli import main\nprint(main({command!r}))"
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HELPERS), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=place)
    assert done.stdout.strip().endswith("report.html\n0")
    assert told.stat() == kept
    # Where the receipt is gone, the run is opened as ever, and draws no picture that is there.
    told.unlink()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", None)
    assert train(manifest, distilled.parent, *arguments) == 0
    after = {path: path.read_bytes() for path in distilled.rglob("*") if path.is_file()}
    left = {path for path in before if path != told}
    assert {path: before[path] for path in left} == {path: after[path] for path in left}
    assert told.exists()


def test_whatever_a_run_read_or_wrote_is_missed_when_it_changes(distilled, manifest, monkeypatch):
    config = json.loads((distilled / "config.json").read_text())
    asked = json.loads((distilled / "receipt.json").read_text())["asked"]  # an environment may name the data
    settings = make_settings(**config["settings"])
    options = RunOptions(data=Path(asked["data"]), result=distilled.parent, run="all")
    assert receipt.unchanged(settings, options).path == distilled
    assert receipt.unchanged(dataclasses.replace(settings, seed=1), options) is None
    assert receipt.unchanged(settings, dataclasses.replace(options, audio=False)) is None
    recording = next(manifest.parent.glob("*.wav"))
    for path in (
        recording,
        manifest,
        distilled / "report.html",
        distilled / f"fold-{SPEAKERS[0]}" / "student.keras",
    ):
        before = path.stat()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert receipt.unchanged(settings, options) is None, path
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert receipt.unchanged(settings, options) is not None, path
    # A finished run without a teacher, which may be the student alone, comes beside it.
    beside = distilled.parent / "all-alone"
    beside.mkdir()
    (beside / "metrics.json").write_text("{}")
    (beside / "config.json").write_text(json.dumps({**config, "settings": {"distillation": "pure"}}))
    assert receipt.unchanged(settings, options) is None
    shutil.rmtree(beside)
    monkeypatch.setattr(receipt, "program", lambda: "another version")
    assert receipt.unchanged(settings, options) is None


def without(path: Path, *names: str) -> None:
    """Rewrite a JSON file without some of its names."""
    told = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in told.items() if key not in names}))


@pytest.mark.parametrize("name", ["best_epochs", "files"])
def test_a_step_that_lacks_what_a_run_goes_on_from_is_named(distilled, manifest, tmp_path, capsys, name):
    folder = tmp_path / "all"
    shutil.copytree(distilled, folder)
    step = sorted(folder.glob("fold-*/fold.json"))[0]
    without(step, name)
    assert train(manifest, tmp_path, "-kd", "KD", "--epochs", "4", "--run", "all") == 2
    assert f"{step} is damaged: remove {step}, and the same command does that step anew." in error_of(capsys)


@pytest.mark.parametrize("name", ["encoders_sha256", "resolved"])
def test_a_configuration_that_lacks_something_says_what_to_remove(
    distilled, manifest, tmp_path, capsys, name
):
    folder = tmp_path / "all"
    shutil.copytree(distilled, folder)
    without(folder / "config.json", name)
    assert train(manifest, tmp_path, "-kd", "KD", "--epochs", "4", "--run", "all") == 2
    message = f"{folder / 'config.json'} is damaged; remove {folder} or name another --run."
    assert message in error_of(capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_changed_recording_behind_a_link_is_a_change(tmp_path):
    settings = make_settings(corpus="EMO-DB")
    options = RunOptions(data=tmp_path / "data", result=tmp_path)
    disk, corpus = tmp_path / "disk" / "wav", tmp_path / "data" / "EMO-DB"
    for folder in (disk, corpus):
        folder.mkdir(parents=True)
    (disk / "03a01Fa.wav").write_bytes(b"one")
    (corpus / "wav").symlink_to(disk)
    (disk / "back").symlink_to(corpus)

    def states():
        return receipt._states(receipt._inputs(settings, options, RunFolder(tmp_path / "run"), []))

    before = states()
    assert str(corpus / "wav" / "03a01Fa.wav") in before
    (disk / "03a01Fa.wav").write_bytes(b"another")
    assert states() != before


def test_a_run_whose_last_steps_were_removed_is_finished(distilled, manifest, tmp_path):
    """Also one that was begun before some settings, and parts of a schedule, were there."""
    folder = tmp_path / "all"
    shutil.copytree(distilled, folder)
    config = json.loads((folder / "config.json").read_text())
    for name in ("recipe", "keep", "augment_every", "unlabelled", "depth"):
        del config["settings"][name]
    for name in ("schedule", "own_teacher"):
        del config["resolved"][name]["warm_up"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "fold-all-speakers" / "final.json").unlink()
    for path in folder.glob("fold-*/validation_logits.npz"):
        path.unlink()
    assert train(manifest, tmp_path, "-kd", "KD", "--epochs", "4", "--run", "all") == 0
    assert (folder / "predictions.csv").read_bytes() == (distilled / "predictions.csv").read_bytes()
    final = Path("fold-all-speakers") / "student.keras"
    assert same_weights(folder / final, distilled / final)


def test_another_setting_under_the_same_name_is_refused(distilled, manifest, capsys):
    assert train(manifest, distilled.parent, "-kd", "KD", "--epochs", "5", "--run", "all") == 2
    message = error_of(capsys)
    assert "epochs was 4, is 5" in message
    assert "--run" in message


@pytest.mark.parametrize(
    "moments",
    [
        (f"fold {SPEAKERS[1]}, student: epoch 2/4",),
        pytest.param(
            (f"fold {SPEAKERS[0]}, student: epoch 2/4", f"fold {SPEAKERS[1]}, teacher: epoch 1/2"),
            marks=pytest.mark.every,
        ),
    ],
    ids=["once", "twice"],
)
def test_a_killed_run_continues_and_ends_with_the_same_files(manifest, tmp_path, moments):
    settings = ["-kd", "CKD", "--epochs", "4", "--folds", ",".join(SPEAKERS[:2]), "--teacher_epochs", "2",
                "--run", "run", "--no-export"]  # fmt: skip
    quicken_tensorflow()  # as the killed one does
    with rendered("curves.png", "embeddings.png"):
        assert train(manifest, tmp_path / "whole", *settings) == 0

    program = (
        "import small_runs, sys; from light_sernet_kd import cli\n"
        "small_runs.quicken_tensorflow()\n"
        "with small_runs.shallow_light_sernet(): sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "train", "-dn", str(manifest), *QUICK, *settings]
    killed = [*command, "--result", str(tmp_path / "killed"), "-v", "2"]
    places = os.environ | {"PYTHONPATH": str(HELPERS)}
    for moment in moments:
        with subprocess.Popen(
            killed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=places
        ) as process:
            for line in process.stdout:
                if line.startswith(moment):
                    break
            else:
                pytest.fail(f"the run never said {moment!r}")
            os.kill(process.pid, signal.SIGKILL)
    with rendered("curves.png", "embeddings.png"):
        assert train(manifest, tmp_path / "killed", *settings) == 0

    whole, continued = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (whole, continued)]
    assert without_seconds(metrics[0]) == without_seconds(metrics[1])
    names = {path.relative_to(whole) for path in whole.rglob("*")}
    assert names == {path.relative_to(continued) for path in continued.rglob("*")}
    for name in (
        "predictions.csv",
        "curves.png",
        "embeddings.png",
        *(f"fold-{s}/history.csv" for s in SPEAKERS[:2]),
    ):
        assert (whole / name).read_bytes() == (continued / name).read_bytes(), name
    for speaker in SPEAKERS[:2]:
        file = f"fold-{speaker}/student.keras"
        assert same_weights(whole / file, continued / file)


def test_two_processes_do_not_train_the_same_run(manifest, tmp_path, capsys):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert train(manifest, tmp_path, "--run", "run") == 2
    assert "another process" in error_of(capsys)


def test_bad_recordings_stop_the_run_before_it_starts_and_all_are_named(manifest, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    shutil.copytree(manifest.parent, corpus)
    broken = sorted(corpus.glob("*.wav"))[:2]
    broken[0].write_bytes(b"")
    broken[1].write_text("this is no audio")
    copy = corpus / "small.csv"
    left = tmp_path / "r" / "y"
    left.mkdir(parents=True)
    (left / "config.json").write_text("{")  # what a process that was killed at its start leaves
    for name in "xy":
        assert train(copy, tmp_path / "r", "--run", name, "--epochs", "1") == 2
        message = capsys.readouterr().err
        assert all(path.name in message for path in broken)
    assert not (tmp_path / "r" / "x").exists()
    assert (left / "config.json").exists()

    arguments = (
        "--run",
        "y",
        "--epochs",
        "1",
        "--no-export",
        "--folds",
        SPEAKERS[2],
        "--skip-bad",
        "-v",
        "1",
    )
    assert train(copy, tmp_path / "r", *arguments) == 0
    said = capsys.readouterr().out
    assert "Protocol loso: 1 fold. " in said
    assert "\n  To train, each for 1 fold: 1 student of 1 epoch. About" in said
    assert f"\nfold {SPEAKERS[2]}, student ...\n" in said
    assert re.search(rf"\nfold {SPEAKERS[2]}, student: epoch 1/1, loss .*; run ends about \d\d:\d\d\n", said)
    metrics = json.loads((left / "metrics.json").read_text())
    assert len(metrics["skipped"]) == 2
    report = (left / "report.md").read_text()
    assert all(path.stem in report for path in broken)


@pytest.mark.parametrize(
    ("file", "removed"),
    [
        (f"fold-{min(SPEAKERS)}/fold.json", f"fold-{min(SPEAKERS)}/fold.json"),
        (f"fold-{min(SPEAKERS)}/test_logits.npz", f"fold-{min(SPEAKERS)}/fold.json"),
        (f"fold-{min(SPEAKERS)}/test_embeddings.npz", f"fold-{min(SPEAKERS)}/fold.json"),
        (f"fold-{min(SPEAKERS)}/validation_logits.npz", f"fold-{min(SPEAKERS)}/validation_logits.npz"),
        ("fold-all-speakers/final.json", "fold-all-speakers/final.json"),
        (f"fold-{min(SPEAKERS)}/tflite_probabilities.npz", f"fold-{min(SPEAKERS)}/tflite_probabilities.npz"),
        (f"fold-{min(SPEAKERS)}/history.csv", f"fold-{min(SPEAKERS)}/fold.json"),
        (f"fold-{min(SPEAKERS)}/student.keras", f"fold-{min(SPEAKERS)}/fold.json"),
        (f"fold-{min(SPEAKERS)}/teacher.npz", f"fold-{min(SPEAKERS)}/teacher.npz"),
    ],
    ids=lambda value: Path(value).name,
)
def test_a_damaged_step_is_named_with_what_to_remove(distilled, manifest, tmp_path, capsys, file, removed):
    shutil.copytree(distilled, tmp_path / "all")
    damaged = tmp_path / "all" / file
    damaged.write_bytes(damaged.read_bytes()[:1])
    again = ("-kd", "KD", "--epochs", "4", "--run", "all")
    if damaged.name == "history.csv":
        damaged.unlink()
    elif damaged.name == "student.keras":
        (damaged.parent / "tflite_probabilities.npz").unlink()  # only then it is read
    elif damaged.name == "teacher.npz":
        (damaged.parent / "fold.json").unlink()
    assert train(manifest, tmp_path, *again) == 2
    message = error_of(capsys)
    assert str(damaged) in message
    assert f"remove {tmp_path / 'all' / removed}, and" in message


def opened(folder: Path, manifest: Path):
    """The finished run as the same command opens it, with its first fold."""
    from light_sernet_kd.config import make_settings
    from light_sernet_kd.data.run_folder import read_run
    from light_sernet_kd.experiment.shared import Experiment
    from light_sernet_kd.reporting.display import Display

    options = config.RunOptions(data=manifest.parent, result=folder.parent, run=folder.name)
    run = Experiment(make_settings(**read_run(folder).settings), options, folder, Display(verbose=0))
    return run, run.folds[0]


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """One bit turned, or the end cut off, or nothing left."""
    kind, place = random.integers(5), int(random.integers(len(content)))
    if kind < 3:
        return (
            content[:place] + bytes([content[place] ^ (1 << int(random.integers(8)))]) + content[place + 1 :]
        )
    return content[:place] if kind == 3 else b""


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.every)])
def test_no_change_of_what_a_step_left_passes_unnoticed(distilled, manifest, tmp_path, count):
    from light_sernet_kd.errors import UserError
    from light_sernet_kd.experiment import fold as step
    from light_sernet_kd.experiment.exported.conversion import precision_probabilities

    shutil.copytree(distilled, tmp_path / "all")
    run, fold = opened(tmp_path / "all", manifest)
    folder, done = run.step(fold).path, run.step(fold).done
    epochs = step.run_fold(run, fold)["epochs"]
    reads = {
        "history.csv": (lambda: step.history_of(run, fold, epochs), done),
        "test_logits.npz": (lambda: step.run_fold(run, fold), done),
        "test_embeddings.npz": (lambda: step.read_test_embeddings(run), done),
        "validation_logits.npz": (
            lambda: step.validation_logits(run, fold),
            folder / "validation_logits.npz",
        ),
        "training_logits.npz": (lambda: step.training_logits(run, fold), folder / "training_logits.npz"),
        "tflite_probabilities.npz": (
            lambda: precision_probabilities(run, fold),
            folder / "tflite_probabilities.npz",
        ),
    }
    random = np.random.default_rng(0)
    for name, (read, remove) in reads.items():
        content = (folder / name).read_bytes()
        for _ in range(count):
            (folder / name).write_bytes(damaged(content, random))
            with pytest.raises(UserError) as caught:
                read()
            assert str(caught.value).startswith(f"{folder / name} is damaged: remove {remove}, and")
        (folder / name).write_bytes(content)
        read()


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.every)])
def test_damaged_facts_of_a_step_are_an_error_or_change_no_score(distilled, manifest, tmp_path, count):
    from light_sernet_kd.errors import UserError
    from light_sernet_kd.experiment.exported.final import is_current
    from light_sernet_kd.experiment.fold import run_fold
    from light_sernet_kd.experiment.shared import Experiment
    from light_sernet_kd.reporting.report import report

    folder = tmp_path / "all"
    shutil.copytree(distilled, folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    run, fold = opened(folder, manifest)
    final = run.step(run.selection.final_fold)

    def exported():
        is_current(run, final.exported(), 1.0, {})

    def scored():
        assert run_fold(run, fold)["ua"] == metrics["folds"][0]["ua"]

    def configured():
        again = Experiment(run.settings, run.options, folder, run.display)
        report(metrics, again.config, export=metrics["export"])

    random = np.random.default_rng(0)
    files = {run.step(fold).done: scored, final.done: exported, run.folder.config: configured}
    for path, read in files.items():
        content, refused = path.read_bytes(), []
        for _ in range(count if read is not configured else count // 4):
            path.write_bytes(damaged(content, random))
            try:
                read()
            except UserError as error:
                refused.append(str(error))
        path.write_bytes(content)
        assert refused
        # A hash that is damaged itself accuses the file that it is of; the remedy is the same.
        told = [f"{path} is damaged", "holds another run", f" is damaged: remove {path}, and"]
        assert all(any(part in said for part in told) for said in refused)


@pytest.mark.parametrize("kept", [0, 1, 3, 4.5, 4.99])
def test_a_history_that_is_not_whole_is_damaged(distilled, manifest, tmp_path, kept):
    """`kept` are lines, of five: a header and four epochs; of the last one perhaps only a part."""
    from light_sernet_kd.errors import UserError
    from light_sernet_kd.experiment.fold import history_of, run_fold

    shutil.copytree(distilled, tmp_path / "all")
    run, fold = opened(tmp_path / "all", manifest)
    path = run.step(fold).history("student")
    assert len(history_of(run, fold, run_fold(run, fold)["epochs"])["loss"]) == 4
    *lines, last = path.read_text().splitlines(keepends=True)
    whole = [*lines, last]
    part = whole[int(kept)][: round((kept % 1) * len(whole[int(kept)]))] if kept < 5 else ""
    path.write_text("".join(whole[: int(kept)]) + part)
    with pytest.raises(UserError, match=r"history\.csv is damaged: remove .*fold\.json, and"):
        history_of(run, fold, 4)
    arrays = dict(np.load(run.step(fold).path / "test_logits.npz"))
    for wrong in (arrays["last"][:-1], arrays["last"][:, :-1], np.full_like(arrays["last"], np.nan)):
        np.savez(run.step(fold).path / "test_logits.npz", **arrays | {"last": wrong})
        with pytest.raises(UserError, match=r"test_logits\.npz is damaged: remove .*fold\.json, and"):
            run_fold(run, fold)


def test_a_student_that_cannot_be_exported_is_one_line(distilled, manifest, tmp_path, capsys, monkeypatch):
    from light_sernet_kd.export import tflite

    def refuse(*arguments, **settings):
        raise tflite.ExportError("probabilities differ from Keras' by nan, more than 0.0001")

    shutil.copytree(distilled, tmp_path / "all")
    (tmp_path / "all" / f"fold-{min(SPEAKERS)}" / "tflite_probabilities.npz").unlink()
    monkeypatch.setattr(tflite, "export", refuse)
    assert train(manifest, tmp_path, "-kd", "KD", "--epochs", "4", "--run", "all") == 2
    message = error_of(capsys)
    assert f"fold {min(SPEAKERS)}: its student cannot be exported: probabilities differ" in message
    assert "--no-export" in message


def test_what_cannot_be_done_later_is_refused_before_training(manifest, tmp_path, capsys, monkeypatch):
    copy = manifest.parent / "renamed.csv"
    copy.write_text(manifest.read_text().replace(",sadness,", ',"sad\nness",'))
    assert train(copy, tmp_path, "--run", "x", "--epochs", "1", "--no-export") == 2
    assert "a class name must be one line" in error_of(capsys)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert train(manifest, tmp_path, "--run", "x", "--epochs", "1", "--tensorboard") == 2
    assert '-m pip install "light-sernet-kd[tensorboard]"' in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_diverges_is_one_line_and_leaves_the_name_free(
    manifest, tmp_path, capsys, monkeypatch
):
    from light_sernet_kd.training.job import DivergenceError
    from light_sernet_kd.training.network import Network

    begun = []

    def diverge(network, job):
        begun.append(job.checkpoint.parent.name)
        job.checkpoint.write_text("of epoch 1")
        raise DivergenceError("training diverged at epoch 2 (loss nan)")

    monkeypatch.setattr(Network, "train", diverge)
    for rate in ("1e20", "1e19"):
        assert train(manifest, tmp_path, "--run", "x", "-lr", rate, "--no-export") == 2
        expected = f"fold {min(SPEAKERS)}, student: training diverged at epoch 2 (loss nan); lower --learn"
        assert expected in error_of(capsys)
        assert not (tmp_path / "x").exists()
    # The other folds would most likely diverge too, after hours.
    assert begun == [f"fold-{min(SPEAKERS)}"] * 2


@pytest.mark.parametrize(("option", "value"), [("--qat", "3"), ("-kd", "CKD"), ("--augment", "noise")])
def test_teach_refuses_what_a_teacher_makes_no_use_of_and_does_not_offer_it(capsys, option, value):
    assert cli.main(["teach", "-dn", "demo", option, value]) == 2
    assert error_of(capsys) == f"light-sernet-kd: teach makes no use of {option}: leave it out."
    with pytest.raises(SystemExit):
        cli.main(["teach", "--help"])
    assert not re.search(rf"(?<!\w){option}\b", capsys.readouterr().out)


def test_teach_writes_a_file_that_gives_what_auto_gives(distilled, manifest, tmp_path):
    out = tmp_path / "teacher.npz"
    common = ["-dn", str(manifest), *QUICK, "--epochs", "4", "--result", str(tmp_path), "-v", "0"]
    assert cli.main(["teach", *common, "--out", str(out)]) == 0
    arguments = ("-kd", "KD", "--epochs", "4", "--run", "file", "--teacher", str(out), "--no-export")
    assert train(manifest, tmp_path, *arguments) == 0
    auto, file = (json.loads((p / "metrics.json").read_text()) for p in (distilled, tmp_path / "file"))
    assert file["stamps"] == []
    assert [fold["ua"] for fold in file["folds"]] == [fold["ua"] for fold in auto["folds"]]
    assert (tmp_path / "file" / "predictions.csv").read_bytes() == (
        distilled / "predictions.csv"
    ).read_bytes()


def test_files_without_the_front_end_are_refused_by_predict_with_the_remedy(
    manifest, tmp_path, capsys, monkeypatch
):
    from light_sernet_kd.export import tflite

    monkeypatch.setattr(tflite, "PRECISIONS", ("float32",))
    arguments = ("--epochs", "1", "--folds", SPEAKERS[0], "-m", "false", "--run", "bare")
    assert train(manifest, tmp_path, *arguments) == 0
    clip = str(manifest.parent / f"{SPEAKERS[0]}-{SENTENCES[0]}-anger.wav")
    capsys.readouterr()
    assert cli.main(["predict", str(tmp_path / "bare" / "student_float32.tflite"), clip]) == 2
    assert "-m true" in error_of(capsys)


@pytest.mark.parametrize(
    ("protocol", "folds"), [("published", SPEAKERS[0]), ("random", "01")], ids=["published", "random"]
)
def test_optimistic_protocols_are_stamped_in_every_report(manifest, tmp_path, protocol, folds):
    arguments = ("--epochs", "1", "--protocol", protocol, "--folds", folds, "--no-export", "--run", "r")
    assert train(manifest, tmp_path, *arguments) == 0
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text())
    report = (tmp_path / "r" / "report.md").read_text()
    assert metrics["stamps"]
    assert all(stamp in report for stamp in metrics["stamps"])


def test_the_cache_decides_no_score(manifest, tmp_path):
    for cache in ("disk", "ram", "none"):
        arguments = ("--epochs", "2", "--folds", SPEAKERS[1], "--no-export", "--run", cache, "-c", cache)
        assert train(manifest, tmp_path, *arguments) == 0
    files = [(tmp_path / cache / "predictions.csv").read_bytes() for cache in ("disk", "ram", "none")]
    assert files[0] == files[1] == files[2]


@pytest.mark.usefixtures("eager")
def test_light_sernet_plus_trains_on_its_own_front_end_and_schedule(manifest, tmp_path):
    result = str(tmp_path)
    command = ["train", "-dn", str(manifest), "-len", "19200", "-input", "mel", "-model", "light_sernet_plus",
               "--width", "0.1", "-epoc", "1", "-session", "2", "-kd", "CKD", "-l1", "0.001", "-l2", "0.02",
               "-ln", "focal", "--class_weights", "balanced", "--result", result, "--run", "plus",
               "--no-export", "-v", "0"]  # fmt: skip
    assert cli.main(command) == 0
    config = json.loads((tmp_path / "plus" / "config.json").read_text())
    assert config["settings"]["front_end"] == "cubic"
    assert config["resolved"]["schedule"]["learning_rate"] == 1e-3
    assert config["resolved"]["schedule"]["weight_decay"] == 1e-4
    assert config["resolved"]["distillation"]["lambda1"] == 0.001
    assert config["resolved"]["distillation"]["lambda2"] == 0.02
    metrics = json.loads((tmp_path / "plus" / "metrics.json").read_text())
    assert [fold["name"] for fold in metrics["folds"]] == [SPEAKERS[1]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-dn", "EMODB"], "Did you mean EMO-DB?"),
        (["-kd", "KDD"], "Valid: pure, KD, RKD, DKD, CKD"),
        (["-dn", "demo", "--student", "light_sernt"], "Did you mean light_sernet?"),
        (["-dn", "demo", "--epoch", "3"], "Did you mean --epochs?"),
        (["-dn", "demo", "-id", "three"], "invalid float value"),
        (["-dn", "demo", "-id", "-1"], "must be above 0"),
        (["-dn", "demo", "-m", "maybe"], "expected true or false"),
        (["-dn", "demo", "-kd", "KD", "-l1", "0.1"], "add -kd CKD"),
        (["-dn", "demo", "-kd", "KD", "--kd_weights", "alfa=0.5"], "alpha"),
        (["-dn", "demo", "-c", "tape"], "unknown cache"),
        (["-dn", "demo", "-kd", "pure", "--teacher", "x.npz"], "pure training has no teacher"),
        (["-dn", "demo", "--teacher", "auto"], "pure training has no teacher"),
        (["-dn", "demo", "--teacher", ""], "the value after --teacher is empty"),
        (["-dn", "demo", "--result="], "the value after --result is empty"),
        (["-dn", "demo", "--folds", ","], "expected names between commas, found ','"),
        (["-dn", "demo", "--threads", "2"], "unknown option --threads. Did you mean --reader?"),
        (["-dn", "demo", "--fol", "2"], "unknown option --fol. Did you mean --folds?"),
        (["-dn", "demo", "-id", "1e7"], "input seconds must be above 0 and at most 600"),
        (["-dn", "demo", "--width", "300"], "at most 16"),
        (["-dn", "demo", "--result", "x" * 300], "File name too long (xxx"),
        (["-dn", "none.csv"], "no manifest none.csv"),
        (["-dn", "EMO-DB", "--data", "nowhere"], "no recordings in nowhere"),
        (["-dn", "EMO-DB", "-at", "impro"], "has no part 'impro'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *arguments]) == 2
    assert expected in error_of(capsys)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["tran"], "unknown command 'tran'. Did you mean train?"),
        (["--foo", "bar"], "unknown command '--foo'. Valid: train, recipe, teach,"),
        (["fetch", "EMO-DB", "--ou", "x"], "unknown option --ou. See"),
        (["prepare", "demo", "--segments", "all"], "--segments needs --to"),
        (["prepare", "demo", "--sample-rate", "0"], "--sample-rate needs --to"),
        (["prepare", "demo", "--overwrite"], "--overwrite needs --to"),
        (["prepare", "demo", "--columns", "path=file"], "--columns says what the columns of a manifest are"),
        (["prepare", "demo", "--to", "x", "--json"], "--json does not go with --to"),
        (["prepare", "demo", "--to", "x", "--video", "v"], "CORPUS does not go with --video"),
        (["prepare", "--to", "x", "--video", "v", "--segment", "1"], "--segment does not go with --video"),
        (["prepare", "--to", "x", "--video", "v", "--sample-rate", "0"], "from 1000 to 384000 Hz"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_command_does_not_know_it_refuses(command, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 2
    assert expected in error_of(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="where no folder can be made differs between systems")
@pytest.mark.parametrize("option", ["--data", "--result"])
def test_a_place_where_no_folder_can_be_made_is_named(option, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "-dn", "demo", option, "/proc/x"]) == 2
    assert "No such file or directory (/proc/x" in error_of(capsys)


def test_train_py_points_to_the_other_commands(capsys):
    assert cli.main(["teach", "-dn", "demo"], program="train.py") == 2
    assert "light-sernet-kd teach -dn demo" in error_of(capsys)


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    def full(arguments, context):
        raise MemoryError

    command = dataclasses.replace(entry.COMMANDS["prepare"], run=full)
    monkeypatch.setitem(entry.COMMANDS, "prepare", command)
    assert cli.main(["prepare", "demo"]) == 2
    assert "not enough memory" in error_of(capsys)


def test_an_empty_variable_names_no_folder_of_corpora(monkeypatch):
    monkeypatch.setenv("LIGHT_SERNET_KD_DATA", "")
    assert cli.make_parser().parse_args(["train"]).data == Path("data")


def test_a_method_that_is_chosen_leaves_behind_what_belongs_to_the_edited_one():
    edited = {"distillation": "KD", "distillation_weights": {"alpha": 0.5}, "teacher": "logits.npz"}
    parser = cli.make_parser(Context("train.py", settings=make_settings(**edited)))
    chosen = settings_of(parser.parse_args(["train", "-kd", "pure"]), edited)
    assert (chosen.teacher, chosen.distillation_weights) == (None, {})
    assert settings_of(parser.parse_args(["train", "-kd", "RKD"]), edited).teacher == "logits.npz"


def test_m_false_is_false():
    parser = cli.make_parser()
    assert parser.parse_args(["train", "-m", "false"]).merge_tflite is False
    assert parser.parse_args(["train", "-m", "True"]).merge_tflite is True


def test_both_spellings_of_an_option_are_one():
    parser = cli.make_parser()
    mended = parser.respelled(["train", "--dataset-name=x_y", "--skip_bad", "--input-type", "a-b"])
    assert mended == ["train", "--dataset_name=x_y", "--skip-bad", "--input_type", "a-b"]


def test_a_full_disk_is_one_line_and_leaves_no_partial_file(manifest, tmp_path, capsys):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert train(manifest, tmp_path, "--run", "r", "--epochs", "1") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    line = error_of(capsys)
    assert f"({tmp_path}" in line, "which file"
    assert line.endswith("Make room and give the same command again.")
    assert not list(tmp_path.rglob("*.npy"))


def test_train_py_uses_the_edited_hyperparameters():
    done = subprocess.run(
        [sys.executable, "train.py", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: train.py")
    for flag in ("-dn", "--dataset_name", "-id", "-at", "-ln", "-it", "-c", "-m", "-session", "-kd",
                 "-input", "-lr", "-bt", "-epoc", "-l1", "-l2", "-len", "-model",
                 "--teacher", "--protocol"):  # fmt: skip
        assert flag in done.stdout


def test_paper_runs_what_is_present_and_says_what_is_not(manifest, tmp_path, capsys):
    quick = {"input_seconds": 1.2, "width": 0.15, "epochs": 1, "folds": ("#1",), "export": False}
    experiments = {
        "broken": {"settings": {"corpus": str(manifest), **quick, "folds": ("nobody",)}},
        "here": {
            "settings": {"corpus": str(manifest), "protocol": "random", **quick},
            "published": {"ua": 94.15, "wa": 94.21},
            "differs": "synthetic clips",
        },
        "elsewhere": {"settings": {"corpus": "IEMOCAP"}},
    }
    places = ["--result", str(tmp_path), "--data", str(tmp_path), "-v", "0"]
    command = ["paper", *places]
    assert cli.main(command, program="train.py", experiments=experiments) == 0
    said = capsys.readouterr().out
    assert "not run: elsewhere: " in said
    assert "not run: broken: unknown fold 'nobody'" in said
    assert "here: published UA 94.15 %; ours as published (random)" in said
    page = (tmp_path / "paper.md").read_text()
    scores = {
        protocol: json.loads((tmp_path / f"paper-here-{protocol}" / "metrics.json").read_text())["pooled"]
        for protocol in ("random", "loso")
    }
    ours, honest = (f"{100 * scores[name]['ua']:.2f}/{100 * scores[name]['wa']:.2f}" for name in scores)
    fell = scores["loso"]["ua"] < scores["random"]["ua"]
    # A leak is no reason for a score that rose without it.
    why = (
        "test speakers are also in training and the test set chose the epoch"
        if fell
        else "nothing but chance"
    )
    assert why in said
    assert why in page
    less = f"{100 * scores['random']['ua'] - 94.15:+.1f}"
    assert f" | synthetic clips | 94.15/94.21 | {ours} | {less} | {honest} | " in page
    assert "elsewhere: " in page
    own = (tmp_path / "paper-here-loso" / "report.md").read_text()
    assert f"\npython train.py paper --result {tmp_path} --data {tmp_path} -v 0 --only here\n" in own
    assert cli.main([*command, "--only", "h*"], program="train.py", experiments=experiments) == 0
    metrics = json.loads((tmp_path / "paper-here-loso" / "metrics.json").read_text())
    assert metrics["pooled"] == scores["loso"]
    # What an earlier call found stays in the table.
    again = (tmp_path / "paper.md").read_text()
    assert "elsewhere: " in again
    assert f" | {ours} | " in again
    # A trial has runs and a table of its own.
    trial = [*command, "--only", "here", "--epochs", "2"]
    assert cli.main(trial, program="train.py", experiments=experiments) == 0
    assert (tmp_path / "paper-trial-here-loso-2" / "report.md").is_file()
    assert "2 epochs, which is not the published number" in (tmp_path / "paper-trial.md").read_text()
    assert (tmp_path / "paper.md").read_text() == again
    capsys.readouterr()
    assert cli.main([*command, "--only", "x"], program="train.py", experiments=experiments) == 2
    assert "no experiment is named x; there are broken, here, elsewhere" in error_of(capsys)
    assert cli.main(command) == 2
    assert "sh run.sh paper" in error_of(capsys)


def test_prepare_checks_and_converts(manifest, tmp_path, capsys):
    assert cli.main(["prepare", str(manifest), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]
    assert cli.main(["prepare", str(manifest)]) == 0
    assert "sadness" in capsys.readouterr().out
    target = tmp_path / "cut"
    assert (
        cli.main(["prepare", str(manifest), "--to", str(target), "--segment", "0.5", "--segments", "all"])
        == 0
    )
    lengths = {soundfile.info(path).frames for path in target.glob("**/*.wav")}
    assert lengths == {8000}
    next(target.glob("**/*.wav")).write_bytes(b"")
    capsys.readouterr()
    for how in ([], ["--json"]):
        assert cli.main(["prepare", str(target / "manifest.csv"), *how]) == 2
        assert "cut" in capsys.readouterr().out


def test_the_shared_teacher_teaches_on_emodb_and_is_stamped(shared_data, tmp_path):
    teacher = shared_data / "teachers" / "emodb_wavlm_base_plus_logits.npz"
    command = ["train", "-dn", "EMO-DB", "-id", "1", "-kd", "CKD", "--teacher", str(teacher), "--folds", "03",
               "--epochs", "2", "--width", "0.25", "--data", str(shared_data), "--result", str(tmp_path),
               "--run", "emodb", "-v", "0", "--learning_rate", "1e-3", "--bn_momentum", "0.8"]  # fmt: skip
    assert cli.main(command) == 0
    metrics = json.loads((tmp_path / "emodb" / "metrics.json").read_text())
    assert metrics["stamps"] == ["teacher may have seen test speakers"]
    assert metrics["pooled"]["count"] == 49
    assert metrics["pooled"]["wa"] > 1 / 7
    assert [row["precision"] for row in metrics["export"]["rows"]] == [
        "float32",
        "float16",
        "dynamic",
        "int8",
    ]
