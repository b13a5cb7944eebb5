"""Runs whose students begin with the weights of a finished run."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
import soundfile
from small_runs import error_of, train

from light_sernet_kd import teachers
from light_sernet_kd.config import RunOptions, make_settings
from light_sernet_kd.corpora import demo, manifest
from light_sernet_kd.data import training_list
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment import start
from light_sernet_kd.experiment.exported import conversion
from light_sernet_kd.experiment.networks.training import Training, job_of, network_of
from light_sernet_kd.experiment.results.evidence import packed_training_list
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.experiment.teachers import gate as teacher_gate
from light_sernet_kd.reporting import display
from light_sernet_kd.students import build

pytestmark = pytest.mark.usefixtures("undrawn", "shallow", "eager")

ONE_EPOCH = ["--epochs", "1", "--folds", "#1"]
# Neither a gradient nor a batch's statistics move a weight.
STILL = [*ONE_EPOCH, "--learning_rate", "1e-30", "--bn_momentum", "0.999999999", "--no-export"]
HERE, BEFORE = tuple(demo.SPEAKERS)[:3], tuple(demo.SPEAKERS)[3:6]


def written(folder, name, speakers, emotions, sentence):
    """A corpus of a clip per speaker and emotion; returns its manifest."""
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker"])
        for speaker in speakers:
            for emotion in emotions:
                path = f"{name}-{speaker}-{emotion}.wav"
                soundfile.write(folder / path, demo.synthesise(speaker, sentence, emotion), 16_000)
                writer.writerow([path, emotion, speaker])
    return folder / f"{name}.csv"


@pytest.fixture(scope="module")
def places(tmp_path_factory, shallow):
    """Two corpora whose classes differ, and a finished run on each: of `before` it is exported."""
    from small_runs import no_graphs

    folder, sentences = tmp_path_factory.mktemp("corpora"), tuple(demo.SENTENCES)
    made = {
        "here": written(folder, "here", HERE, ("anger", "neutral", "sadness"), sentences[0]),
        "before": written(folder, "before", BEFORE, ("anger", "boredom", "fear", "sadness"), sentences[1]),
        "result": tmp_path_factory.mktemp("result"),
    }
    with no_graphs():
        for name, more in (("before", []), ("here", ["--no-export"])):
            assert train(made[name], made["result"], "--run", f"run-{name}", *ONE_EPOCH, *more) == 0
    return made


def begun(places, folder, **settings) -> Experiment:
    """A run on `here` of which nothing is trained yet."""
    plain = {"corpus": str(places["here"]), "input_seconds": 1.2, "width": 0.15, "folds": ("#1",)}
    options = RunOptions(data=folder, result=folder, cache="none")
    (folder / "run").mkdir(exist_ok=True)
    made = make_settings(**plain | settings)
    return Experiment(made, options, folder / "run", display.Display(verbose=0), "")


def student(path) -> keras.Model:
    return keras.saving.load_model(path, compile=False)


def step_of(places, name, fold="#1"):
    speaker = sorted(HERE)[0] if fold == "#1" else fold
    return RunFolder(places["result"] / name).fold(speaker)


# Which weights


@pytest.mark.parametrize(
    "name", ["light_sernet", pytest.param("mobilenetv3_small_075", marks=pytest.mark.every)]
)
def test_every_layer_but_a_new_classifier_has_the_weights_of_the_file(name, tmp_path):
    stored, fresh = build(name, (60, 40, 1), 5, width=0.2), build(name, (60, 40, 1), 3, width=0.2)
    stored.save(tmp_path / "student.keras")
    own = [weight.copy() for weight in fresh.layers[-1].get_weights()]
    fresh.set_weights(start.starting_weights(fresh, student(tmp_path / "student.keras"), classifier=False))
    for mine, theirs in zip(fresh.layers[:-1], stored.layers[:-1], strict=True):
        for one, other in zip(mine.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(fresh.layers[-1].get_weights(), own, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_corpus_gives_its_student_of_all_speakers_without_the_classifier(places, tmp_path):
    run = begun(places, tmp_path, start_from=str(places["result"] / "run-before"), export=False)
    job = job_of(Training(run, "student", run.folds[0]))
    weights = job.initial_weights()
    stored = student(places["result"] / "run-before" / "fold-all-speakers" / "student.keras")
    for one, other in zip(weights[:-2], stored.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(one, other)
    # the classifier is the one that the run would have had without
    network = network_of(run, "student")
    network.start_anew(job.seed)
    plain = network.twin.get_weights()
    for one, other in zip(weights[-2:], plain[-2:], strict=True):
        np.testing.assert_array_equal(one, other)
    assert weights[-1].shape == (3,)


def test_the_same_corpus_gives_the_student_of_the_same_fold_and_its_answers(places):
    folder = places["result"]
    arguments = ["--run", "still", "--start_from", str(folder / "run-here"), *STILL]
    assert train(places["here"], folder, *arguments) == 0
    before, after = step_of(places, "run-here"), step_of(places, "still")
    for one, other in zip(
        student(before.student).trainable_weights, student(after.student).trainable_weights, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    answers = [np.load(each.path / "test_logits.npz")["selected"] for each in (before, after)]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-6)
    told = json.loads((folder / "still" / "metrics.json").read_text())["start"]
    assert (told["run"], told["student"], told["classifier"]) == ("run-here", "the same fold", "kept")
    report = (folder / "still" / "report.md").read_text()
    assert "**Start:** all layers of the run run-here on here, of its student of the same fold." in report

    # The same command goes on; with other students behind the name it does not.
    assert train(places["here"], folder, *arguments) == 0


def test_a_run_whose_start_has_other_students_now_does_not_go_on(places, tmp_path):
    other = tmp_path / "moving"
    shutil.copytree(places["result"] / "run-here", other)
    begun(places, tmp_path, start_from=str(other), export=False)
    done = RunFolder(other).fold(sorted(HERE)[0]).done
    facts = json.loads(done.read_text())
    facts["files"]["student.keras"] = "0" * 64
    done.write_text(json.dumps(facts))
    (tmp_path / "run" / "report.md").touch()  # else it is a start that failed
    with pytest.raises(UserError, match="which it began from, has other students now"):
        begun(places, tmp_path, start_from=str(other), export=False)


# What is told


def test_files_list_what_trained_before_and_name_it(places, tmp_path):
    run = begun(places, tmp_path, start_from=str(places["result"] / "run-before"))
    listed = training_list.unpacked(packed_training_list(run))
    before = training_list.read(places["result"] / "run-before" / "student_float32.tflite")
    assert (len(before.rows), len(listed.rows)) == (12, 12 + 9)
    assert set(before.rows["content"]) < set(listed.rows["content"])
    assert set(before.speakers) < set(listed.speakers)
    assert conversion._card(run, final=False)["started_from"] == "run run-before on before"
    assert run.stamps == []


def test_licences_and_doubts_of_the_start_go_on(places, tmp_path):
    path = tmp_path / "marked"
    shutil.copytree(places["result"] / "run-before", path)
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["teacher"] = {"licence": "for research", "stamps": ["teacher may have seen test speakers"]}
    metrics["unlabelled"] = {"recordings": 1200}
    metrics["start"] = {"corpus": "older", "licence": "by request", "stamps": ["doubt"]}
    (path / "metrics.json").write_text(json.dumps(metrics))
    run = begun(places, tmp_path, start_from=str(path))
    assert start.licence(run) == "its teacher: for research; its own start: by request"
    assert conversion._card(run, final=False)["start_licence"] == start.licence(run)
    named = "the run marked, which it began from"
    assert run.stamps == [
        f"perhaps optimistic: the speakers of 1,200 unlabelled recordings, which trained {named}, may be "
        "test speakers",
        f"the teacher of {named}, may have seen test speakers",
        f"{named}: doubt",
    ]


def test_what_learns_from_such_a_run_is_told_of_its_start(places, tmp_path):
    path = tmp_path / "marked"
    shutil.copytree(places["result"] / "run-here", path)
    metrics = json.loads((path / "metrics.json").read_text())

    def teacher(name, told) -> teachers.Teacher:
        (path / "metrics.json").write_text(json.dumps({**metrics, "start": told}))
        (tmp_path / name).mkdir()
        source = {"distillation": "KD", "teacher": f"run:{path}", "export": False}
        return begun(places, tmp_path / name, **source).teacher

    plain = teacher("plain", {"corpus": "older", "licence": None, "stamps": []})
    assert "licence" not in plain.card
    assert sorted(plain.card["train_speakers"]) == sorted(HERE)[:1]
    doubted = teacher("doubted", {"corpus": "older", "licence": "by request", "stamps": ["doubt"]})
    assert doubted.card["licence"] == "by request"
    assert "train_speakers" not in doubted.card


def test_the_gate_makes_no_estimate_with_weights_that_know_its_speakers(places, tmp_path):
    rows = manifest.utterances(places["here"]).utterances
    ids, classes = tuple(row.id for row in rows), ("anger", "neutral", "sadness")
    speakers = {"all-speakers": [], sorted(HERE)[0]: []}
    teachers.write(
        tmp_path / "other.npz",
        teachers.Teacher(ids, classes, np.zeros((1, 9, 3), np.float32), card={"train_speakers": speakers}),
    )
    run = begun(
        places, tmp_path, start_from=str(places["result"] / "run-here"), distillation="KD", export=False,
        teacher=str(tmp_path / "other.npz"), teacher_gate="refuse",
    )  # fmt: skip
    teacher_gate.check_teacher(run)
    said = json.loads((tmp_path / "run" / "teacher_gate.json").read_text())["sentence"]
    assert "not judged" in said
    assert "the weights that the student begins with may know the speakers" in said


def test_speakers_of_the_same_name_are_counted_in_a_stamp(places, tmp_path):
    other = written(
        tmp_path, "namesakes", BEFORE[:1] + HERE[:2], ("anger", "neutral"), tuple(demo.SENTENCES)[2]
    )
    run = begun(
        places, tmp_path, corpus=str(other), start_from=str(places["result"] / "run-before"),
        folds=(BEFORE[0],), export=False,
    )  # fmt: skip
    assert run.stamps[0].startswith("perhaps optimistic: 2 recordings of speakers whose names are among")


# What is refused


@pytest.mark.parametrize(
    ("corpus", "before", "more", "message"),
    [
        ("here", "nowhere", [], "nowhere holds no finished run"),
        ("here", "run-here", ["--width", "0.2"], "another student: its width is 0.15, and 0.2 here"),
        ("here", "run-here", ["--depth", "1"], "another student: its depth is as published, and 1 here"),
        ("here", "run-here", ["--student", "resnet18"], "its student is light_sernet, and resnet18 here"),
        ("here", "run-here", ["--front_end", "cubic"], "its front end is lsn, and cubic here"),
        ("here", "run-here", ["-it", "mel"], "its input type is mfcc, and mel_spectrogram here"),
        ("here", "run-here", ["-id", "1.5"], "its length in samples is 19200, and 24000 here"),
        ("here", "run-here", ["--protocol", "random"], "has other folds: its protocol is loso, and random"),
        ("here", "run-here", ["--folds", "#2"], "run-here has no fold"),
        (
            "here",
            "run-here",
            ["--export"],
            "has no exported student of all speakers: make it with",
        ),
        (
            "before",
            "run-here",
            [],
            "has no exported student of all speakers: make it with",
        ),
        ("before", "run-before", ["--emotions", "anger,fear"], "was trained on 4 of the 4 recordings that"),
        ("here", "run-here", ["--student", "bert_vggish"], "--start_from is for audio-only students"),
    ],
)
def test_bad_starts_are_refused_in_a_line_before_any_training(places, capsys, corpus, before, more, message):
    folder = places["result"]
    arguments = ["--no-export", *ONE_EPOCH, "--start_from", str(folder / before), *more]
    assert train(places[corpus], folder, "--run", "refused", *arguments) == 2
    assert message in error_of(capsys)
    assert not list((folder / "refused").glob("fold-*"))


def test_a_fold_of_that_name_which_tested_others_is_refused(places, tmp_path):
    path = tmp_path / "others"
    shutil.copytree(places["result"] / "run-here", path)
    done = RunFolder(path).fold(sorted(HERE)[0]).done
    before = done.read_text()
    done.write_text(json.dumps({**json.loads(before), "test_speakers": ["ann"]}))
    with pytest.raises(UserError, match=r"tested ann in fold .* its student may know them"):
        begun(places, tmp_path, start_from=str(path), export=False)
    # The same speakers test, and others of their recordings.
    done.write_text(before)
    config = json.loads((path / "config.json").read_text())
    config["folds_sha256"][sorted(HERE)[0]] = "0"
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"trained on other recordings in fold .* those that test here"):
        begun(places, tmp_path, start_from=str(path), export=False)


def test_files_that_list_what_trained_must_be_there(places, tmp_path):
    path = tmp_path / "moved"
    shutil.copytree(places["result"] / "run-before", path)
    for file in path.glob("*.tflite"):
        file.unlink()
    with pytest.raises(UserError, match="lacks the exported files, which list what its student was"):
        begun(places, tmp_path, start_from=str(path))
