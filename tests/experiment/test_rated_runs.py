"""Runs whose students learn arousal and valence beside the emotions."""

import csv
import dataclasses
import functools
import json
import re
import shutil

import corpus_trees
import keras
import numpy as np
import pytest
from small_runs import error_of, train

from light_sernet_kd import cli, students, teachers
from light_sernet_kd.config import Dimensions, make_settings
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.batches import Examples
from light_sernet_kd.data.protocols import ALL_SPEAKERS
from light_sernet_kd.data.run_folder import RunFolder, read_run
from light_sernet_kd.data.selection import selected
from light_sernet_kd.device.runs import Run
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import dimension_scores, read_predictions
from light_sernet_kd.registries.schedules import SCHEDULES
from light_sernet_kd.runner import Runner
from light_sernet_kd.teachers import probe as probes
from light_sernet_kd.teachers import sources
from light_sernet_kd.teachers.rating_probe import rating_values
from light_sernet_kd.training.job import TrainingJob
from light_sernet_kd.training.network import Network, NetworkSpec

pytestmark = pytest.mark.usefixtures("undrawn", "shallow", "eager")

# On a scale from 1 to 5. Nobody rated the dominance of all but one speaker.
RATED = {"anger": ("4.5", "1.5"), "neutral": ("2.5", "3"), "sadness": ("1.5", "")}
DIMENSIONS = ["--dimensions", "arousal,valence", "--dimension_range", "1,5"]


@pytest.fixture(scope="module")
def rated(manifest):
    """The manifest of the small corpus with ratings, some of which are missing."""
    with open(manifest, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    path = manifest.with_name("rated.csv")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "activation", "valence", "dominance"])
        for number, (name, emotion, speaker) in enumerate(rows):
            arousal, valence = RATED[emotion]
            tenth = f"{float(arousal) + (number % 4) / 10:g}"
            dominance = "3" if speaker == rows[0][2] else ""
            writer.writerow([name, emotion, speaker, tenth, valence, dominance])
    return path


@pytest.fixture(scope="module")
def run(rated, tmp_path_factory, shallow):
    """A run of one epoch on every fold, without files for a device."""
    from small_runs import no_graphs

    result = tmp_path_factory.mktemp("rated")
    with no_graphs():
        assert train(rated, result, "--run", "rated", "--epochs", "1", "--no-export", *DIMENSIONS) == 0
    return result / "rated"


def metrics_of(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_the_scores_are_those_of_the_predictions_on_the_corpus_own_scale(run, rated):
    told = metrics_of(run)["dimensions"]
    assert (told["names"], told["range"], told["unrated"]) == (
        ["arousal", "valence"],
        [1, 5],
        {"arousal": 0, "valence": 9},
    )
    predictions = read_predictions(run / "predictions.csv")
    assert [*predictions.dimensions] == ["arousal", "valence"]
    with open(rated, newline="", encoding="utf-8") as file:
        given = {row["path"].removesuffix(".wav"): row for row in csv.DictReader(file)}
    for name, column in (("arousal", "activation"), ("valence", "valence")):
        answers, true = predictions.dimensions[name]
        expected = [float(given[each][column] or "nan") for each in predictions.ids]
        np.testing.assert_array_equal(true, expected)
        [scores] = dimension_scores(true[:, None], answers[:, None])
        assert told["pooled"][name] == pytest.approx(dataclasses.asdict(scores))
        low, high = told["ci95"][name]["ccc"]
        assert low <= told["pooled"][name]["ccc"] <= high


def test_the_saved_student_gives_what_the_predictions_hold(run):
    fold = RunFolder(run).fold(metrics_of(run)["folds"][0]["name"])
    student = keras.saving.load_model(fold.student, compile=False)
    assert student.output_names == ["logits", "dimensions"]
    with np.load(fold.path / "test_dimensions.npz") as stored:
        values = stored["selected"]
    predictions = read_predictions(run / "predictions.csv")
    for column, (answers, _) in zip(values.T, predictions.dimensions.values(), strict=True):
        np.testing.assert_allclose(3 + 2 * column.astype(float), answers[: len(column)], rtol=1e-6)


def test_report_page_and_comparison_tell_the_concordance(run, capsys):
    told = metrics_of(run)["dimensions"]
    ccc = f"arousal {told['pooled']['arousal']['ccc']:.2f}"
    report = (run / "report.md").read_text(encoding="utf-8")
    assert f"CCC (concordance with the listeners): **{ccc}** [" in report
    assert "## Arousal, valence and dominance" in report
    assert "9 lack a rating of valence; these teach the emotions alone." in report
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "</abbr> of arousal" in page
    history = (run / "fold-s1" / "history.csv").read_text(encoding="utf-8").splitlines()
    assert history[0].endswith("learning_rate,dimensions_loss,val_loss,val_ua,val_wa,val_ccc")
    assert cli.main(["compare", str(run), str(run)]) == 0
    assert "CCC of valence" in capsys.readouterr().out


def test_the_same_command_finds_the_run_done_and_other_ratings_another_run(run, rated, capsys):
    before = (run / "metrics.json").read_bytes()
    arguments = ["--run", "rated", "--epochs", "1", "--no-export", *DIMENSIONS]
    assert train(rated, run.parent, *arguments) == 0
    assert (run / "metrics.json").read_bytes() == before
    text = rated.read_text(encoding="utf-8")
    rated.write_text(text.replace(",1.5,", ",1.6,"), encoding="utf-8")
    try:
        capsys.readouterr()
        assert train(rated, run.parent, *arguments) == 2
        assert "the corpus has other ratings now" in error_of(capsys)
    finally:
        rated.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def taught(rated, tmp_path_factory, shallow):
    """A run of one fold whose teacher, which the run trains, gives ratings too, with files for a device."""
    from small_runs import no_graphs

    result = tmp_path_factory.mktemp("taught")
    more = ["-kd", "KD+CCC:0.5+values:0.5", "--folds", "#1", "--epochs", "1", "--enrolment"]
    with no_graphs():
        assert train(rated, result, "--run", "taught", *more, *DIMENSIONS) == 0
    return result / "taught"


def test_a_trained_teacher_gives_ratings_and_is_scored_by_them(taught):
    told = metrics_of(taught)["dimensions"]
    teacher = teachers.read(RunFolder(taught).fold("s1").teacher)
    assert (teacher.dimensions.names, teacher.dimensions.range) == (("arousal", "valence"), (-1, 1))
    values = dict(zip(teacher.ids, teacher.values[0], strict=True))
    predictions = read_predictions(taught / "predictions.csv")
    answers = 3 + 2 * np.array([values[name] for name in predictions.ids], np.float64)
    true = np.stack([each for _, each in predictions.dimensions.values()], axis=1)
    [arousal, _] = dimension_scores(true, answers)
    assert told["teacher"]["arousal"]["ccc"] == pytest.approx(arousal.ccc, rel=1e-5)


def test_the_exported_files_give_the_ratings_and_their_card_the_scale(taught):
    exported = metrics_of(taught)["export"]
    student = keras.saving.load_model(RunFolder(taught).fold(ALL_SPEAKERS).student, compile=False)
    assert student.output_names == ["logits", "dimensions"]
    told = metrics_of(taught)["dimensions"]["pooled"]["arousal"]["ccc"]
    for row in exported["rows"]:
        assert row["ccc"].keys() == {"arousal", "valence"}
        # dynamic and int8 files round
        assert row["ccc"]["arousal"] == pytest.approx(told, abs=1e-4 if "float" in row["precision"] else 0.2)
        for name in ("file", "enrolled_file"):
            card = Runner(taught / row[name]).card
            assert card["dimensions"] == {"names": ["arousal", "valence"], "range": [1.0, 5.0]}
            # One speaker is tested, of whom no interval can be told.
            assert card["ccc"] == {each: {"ccc": found} for each, found in row["ccc"].items()}
    card = (taught / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "has arousal and valence from -1 to 1, which stand for 1 and 5 on the scale" in card


# Ratings alone


@pytest.fixture(scope="module")
def alone(rated, tmp_path_factory, shallow):
    """A run of one fold that learns ratings alone, of a table that names no emotions, with files."""
    from small_runs import no_graphs

    folder = tmp_path_factory.mktemp("alone")
    with open(rated, newline="", encoding="utf-8") as file:
        rows = [{**row, "path": rated.parent / row["path"]} for row in csv.DictReader(file)]
    for row in rows[:2]:
        row["activation"] = row["valence"] = ""
    with open(folder / "alone.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "speaker", "activation", "valence"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    more = [
        "--dimensions_only",
        "-kd",
        "CCC:0.5+values:0.5",
        "--folds",
        "#1",
        "--epochs",
        "2",
        "--keep",
        "best",
    ]
    with no_graphs():
        assert train(folder / "alone.csv", folder, "--run", "alone", *more, *DIMENSIONS) == 0
    return folder / "alone"


def test_of_ratings_alone_no_score_of_emotions_is_told(alone):
    metrics = metrics_of(alone)
    assert metrics["classes"] == []
    assert metrics["pooled"] == {"count": metrics["dimensions"]["pooled"]["arousal"]["count"]}
    assert metrics["left_out"] == {"no rating of arousal or valence": 2}
    assert not {"calibration", "confusion", "mistakes", "per_speaker", "enrolled"} & {*metrics}
    assert metrics["teacher"]["agreement"] is metrics["teacher"]["beside"] is None
    assert metrics["dimensions"]["teacher"]["valence"]["ccc"] is not None
    for name in ("report.md", "report.html", "MODEL_CARD.md"):
        text = (alone / name).read_text(encoding="utf-8")
        assert "CCC of arousal" in text or "**arousal" in text
        # Whole words: a picture's code may hold the letters.
        assert not re.search(
            r"\b(UA|WA|recall|rated emotions|kappa)\b", text.partition("## How to repeat")[0]
        )
    assert not (alone / "confusion_matrix.png").exists()
    assert (alone / "ratings.png").exists()
    history = (alone / "fold-s1" / "history.csv").read_text(encoding="utf-8").splitlines()
    assert history[0] == "epoch,loss,learning_rate,dimensions_loss,val_ccc"


def test_of_ratings_alone_the_epoch_of_the_highest_concordance_is_kept(alone):
    rows = [*csv.DictReader((alone / "fold-s1" / "history.csv").read_text(encoding="utf-8").splitlines())]
    best = max(rows, key=lambda row: float(row["val_ccc"]))
    assert metrics_of(alone)["folds"][0]["best_epoch"] == int(best["epoch"])


def test_predictions_of_ratings_alone_are_checked_against_the_metrics(alone, tmp_path, capsys):
    found = read_run(alone)
    assert not found.has_classes
    assert [*found.predictions.dimensions] == ["arousal", "valence"]
    assert Run.load(alone).scores["ccc"] == {
        name: each["ccc"] for name, each in found.metrics["dimensions"]["pooled"].items()
    }
    assert cli.main(["compare", str(alone), str(alone), "--out", str(tmp_path / "compared")]) == 0
    shown = capsys.readouterr().out
    assert "CCC of valence" in shown
    assert "a student of ratings alone names no emotion that could be right" in shown
    assert not list(tmp_path.rglob("size_against_ua*"))
    copy = tmp_path / "copy"
    shutil.copytree(alone, copy)
    lines = (copy / "predictions.csv").read_text(encoding="utf-8").splitlines()
    identity, fold, arousal, *rest = lines[1].split(",")
    lines[1] = ",".join([identity, fold, f"{float(arousal) + 1}", *rest])
    (copy / "predictions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="is not the one that"):
        read_run(copy)
    lines[1] = lines[1].rpartition(",")[0]
    (copy / "predictions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="row 1: 5 values for 6 columns"):
        read_run(copy)


@pytest.mark.parametrize("command", [["stress"], ["stress", "--certify"], ["explain", "--worst", "1"]])
def test_what_needs_classes_is_refused_of_ratings_alone(alone, command, capsys):
    assert cli.main([*command, str(alone)]) == 2
    told = f"{command[0]} needs classes, and the students of alone give arousal and valence alone"
    assert told in error_of(capsys)


def test_a_search_of_ratings_alone_is_one_line(rated, tmp_path, capsys):
    command = ["search", "-dn", str(rated), "--result", str(tmp_path), "--dimensions_only", *DIMENSIONS]
    assert cli.main(command) == 2
    assert "a search compares UA, which --dimensions_only has none of" in error_of(capsys)


def test_a_grid_of_ratings_alone_is_one_line(rated, tmp_path, capsys):
    (tmp_path / "grid.toml").write_text(
        f'[settings]\ncorpus = "{rated.as_posix()}"\ndimensions = ["arousal"]\n'
        'dimension_range = ["1", "5"]\ndimensions_only = true\n[[runs]]\nseed = [0, 1]\n'
    )
    assert cli.main(["grid", str(tmp_path / "grid.toml"), "--result", str(tmp_path)]) == 2
    assert "grids compare UA, which --dimensions_only has none of" in error_of(capsys)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dimensions", "arousal"], "nothing tells the ends of its scale: add --dimension_range LOW,HIGH"),
        (["--dimensions", "dominance", "--dimension_range", "1,5"], "trains on 0 ratings of dominance"),
        (["--dimensions", "arousal", "--dimension_range", "1,4"], "the arousal must be a number from 1 to 4"),
        (["--dimensions", "mood"], "unknown dimension 'mood'"),
    ],
)
def test_what_cannot_be_learnt_is_told(rated, tmp_path, capsys, arguments, words):
    assert train(rated, tmp_path, *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_corpus_without_ratings_is_one_line(manifest, tmp_path, capsys):
    assert train(manifest, tmp_path, *DIMENSIONS) == 2
    assert "small has no ratings of arousal and valence. IEMOCAP (arousal, valence" in error_of(capsys)


# Teachers' files


def test_a_teachers_file_keeps_its_values_and_their_scale(tmp_path):
    ids, logits = ("a", "b"), np.zeros((1, 2, 2), np.float32)
    values = np.array([[[0.25, np.nan], [1.0, 0.5]]], np.float32)
    of = Dimensions(("valence", "arousal"), (0, 1))
    teacher = teachers.Teacher(ids, ("anger", "fear"), logits, values=values, dimensions=of)
    teachers.write(tmp_path / "teacher.npz", teacher)
    again = teachers.read(tmp_path / "teacher.npz")
    np.testing.assert_array_equal(again.values, values)
    clips = [Utterance(name, f"{name}.wav", "fear", speaker="ann") for name in "ba"]
    aligned = teachers.aligned_dimensions(again, clips, ("arousal", "valence"), "ann")
    np.testing.assert_array_equal(aligned, [[0, 1], [np.nan, -0.5]])
    both = teachers.ensemble([teacher, dataclasses.replace(teacher, values=values / 2)])
    np.testing.assert_allclose(both.values, 0.75 * values)
    with pytest.raises(UserError, match="has no values of dominance to learn from"):
        teachers.aligned_dimensions(again, clips, ("dominance",), "ann")
    plain = dataclasses.replace(teacher, values=None, dimensions=None)
    with pytest.raises(UserError, match="has no values of arousal and valence to learn from"):
        teachers.aligned_dimensions(plain, clips, ("arousal", "valence"), "ann")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dimensions": np.zeros((3, 1))}, r"dimensions are float64 \(3, 1\); expected numbers \(2, 1\)"),
        ({"dimension_names": np.array(["mood"])}, "its dimensions cannot be used"),
        ({"dimension_range": np.array([5.0, 1.0])}, "its dimensions cannot be used"),
        ({"dimension_range": None}, "has dimensions and lacks dimension_range"),
    ],
)
def test_a_teachers_file_whose_values_are_none_is_refused(tmp_path, changed, words):
    arrays = {
        "ids": np.array(["a", "b"]),
        "classes": np.array(["anger", "fear"]),
        "logits": np.zeros((2, 2), np.float32),
        "dimensions": np.zeros((2, 1), np.float32),
        "dimension_names": np.array(["arousal"]),
        "dimension_range": np.array([1.0, 5.0]),
    } | changed
    np.savez(tmp_path / "made.npz", **{name: each for name, each in arrays.items() if each is not None})
    with pytest.raises(UserError, match=words):
        teachers.read(tmp_path / "made.npz")


def test_kemdy_and_iemocap_are_rated_from_one_to_five(tmp_path):
    for name, dimensions in (("KEMDy20", ("arousal", "valence")), ("IEMOCAP", ("dominance",))):
        root = corpus_trees.TREES[name](tmp_path / name)
        for number, path in enumerate(sorted(root.rglob("*.wav"))):
            if not path.name.startswith("."):
                corpus_trees.sound(path, 3 * number)
        made = selected(make_settings(corpus=name, dimensions=dimensions), tmp_path)
        expected = {"KEMDy20": (3.2, 3.1), "IEMOCAP": (2.5,)}[name]
        np.testing.assert_allclose(made.dimensions[0], [(each - 3) / 2 for each in expected], rtol=1e-6)


def test_a_training_that_is_interrupted_goes_on_to_the_same_weights(tmp_path):
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(8, 60, 40, 1)).astype(np.float32), np.arange(8, dtype=np.int32) % 2
    values = random.uniform(-1, 1, (8, 2)).astype(np.float32)
    build = functools.partial(students.build, "light_sernet", (60, 40, 1), 2, width=0.1, dimensions=2)
    spec = NetworkSpec(build, SCHEDULES["light_sernet"], "cross_entropy", {}, dimensions_loss="ccc")
    job = TrainingJob(
        examples=Examples(features, labels, ("anger", "fear"), dimensions=values),
        train=range(6),
        validation=(6, 7),
        seed=3,
        checkpoint=tmp_path / "whole.npz",
        epochs=2,
        keep="mean",
    )
    whole = Network(spec).train(job)
    parts = [dataclasses.replace(job, checkpoint=tmp_path / "part.npz", epochs=epochs) for epochs in (1, 2)]
    for part in parts:
        trained = Network(spec).train(part)
    for one, other in zip(whole.last, trained.last, strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.history["dimensions_loss"] == trained.history["dimensions_loss"]


def test_a_probe_in_a_run_gives_ratings_and_an_ensemble_keeps_them(rated, tmp_path):
    settings = make_settings(
        corpus=str(rated), dimensions=("valence", "arousal"), dimension_range=("1", "5"), export=False
    )
    selection = selected(settings, tmp_path)
    folds, count = [*selection.folds, selection.final_fold], len(selection.utterances)
    rows = np.random.default_rng(0).normal(size=(count, 4))
    teacher = teachers.Teacher(
        tuple(each.id for each in selection.utterances),
        selection.classes,
        np.zeros((len(folds), count, len(selection.classes)), np.float32),
        tuple(fold.name for fold in folds),
    )
    probe = sources._with_ratings(teacher, rows, selection, folds)
    # Of ratings alone a probe has no emotions to tell apart, and says the same of the ratings.
    alone = selected(dataclasses.replace(settings, dimensions_only=True), tmp_path)
    card = {"made_by": "rows"}
    nothing = probes.probe_teacher(rows, alone.utterances, alone.classes, folds, card=card)
    assert (nothing.classes, np.abs(nothing.logits).max()) == (("rated",), 0)
    values = sources._with_ratings(nothing, rows, alone, folds).values
    np.testing.assert_array_equal(values, probe.values)
    expected = rating_values(rows, selection.dimensions, [u.speaker for u in selection.utterances], folds)
    np.testing.assert_array_equal(probe.values, expected)
    cooled = sources.at_own_temperature(probe, selection, selection.folds)
    both = teachers.ensemble([cooled, cooled], [1.0, 3.0])
    for number, fold in enumerate(selection.folds):
        aligned = teachers.aligned_dimensions(both, selection.utterances, ("valence", "arousal"), fold.name)
        np.testing.assert_allclose(aligned, expected[number], rtol=1e-6)
