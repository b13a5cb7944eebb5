"""Whether a teacher knows more than its student would alone, before the student trains and after."""

import contextlib
import csv
import dataclasses
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from rich.console import Console
from sklearn.metrics import balanced_accuracy_score
from small_runs import EMOTIONS, error_of, train

from light_sernet_kd import cli, evaluation, plugins, teachers
from light_sernet_kd.cli import make_parser
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.config import RunOptions, make_settings
from light_sernet_kd.config.fields import spelled
from light_sernet_kd.corpora import demo
from light_sernet_kd.data.resolve_settings import settings_of_run
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.alone import decides_folds, find_alone, settings_alone
from light_sernet_kd.experiment.run import opened
from light_sernet_kd.experiment.teachers import gate as teacher_gate
from light_sernet_kd.experiment.teachers.gate import check_teacher
from light_sernet_kd.reporting.display import Display

SPEAKERS = tuple(demo.SPEAKERS)[:5]
SENTENCES = tuple(demo.SENTENCES)[:2]
QUICK = {
    "input_seconds": 0.5, "width": 0.1, "epochs": 1, "batch_size": 8, "batch_norm_momentum": 0.8,
    "keep": "last", "protocol": "loso", "export": False, "distillation": "KD",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small(shallow) -> None:
    pass


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """30 clips of 5 speakers: in each fold 3 of them train."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for speaker in SPEAKERS:
        for sentence in SENTENCES:
            for emotion in EMOTIONS:
                name = f"{speaker}-{sentence}-{emotion}.wav"
                soundfile.write(folder / name, demo.synthesise(speaker, sentence, emotion)[:8000], 16_000)
                rows.append((name, emotion, speaker))
    with open(folder / "five.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "emotion", "speaker"), *rows])
    return folder / "five.csv"


def ids() -> list[str]:
    return [f"{who}-{what}-{how}" for who in SPEAKERS for what in SENTENCES for how in EMOTIONS]


def teacher_file(path: Path, *, right: bool, card: dict | None = None) -> Path:
    """A teacher that is right about every utterance, or about none."""
    labels = np.array([EMOTIONS.index(name.rpartition("-")[2]) for name in ids()])
    logits = 4 * np.eye(3, dtype=np.float32)[labels if right else (labels + 1) % 3]
    speakers = {who: sorted({*SPEAKERS} - {who, following(who)}) for who in SPEAKERS}
    told = {"made_by": "a test", "parts": 3, "train_speakers": speakers} if card is None else card
    teachers.write(
        path,
        teachers.Teacher(tuple(ids()), EMOTIONS, np.stack([logits] * 5), SPEAKERS, told),
    )
    return path


def following(speaker: str) -> str:
    names = sorted(SPEAKERS)
    return names[(names.index(speaker) + 1) % 5]


@pytest.fixture(scope="module")
def result(corpus, tmp_path_factory) -> Path:
    """A folder of results whose `.cache` has the estimate that most tests here share."""
    return tmp_path_factory.mktemp("result")


def asked(corpus: Path, result: Path, teacher: Path | str, run: str, **settings) -> str:
    """What the gate says of a run that then trains nothing; UserError where it refuses."""
    values = {**QUICK, "corpus": str(corpus), "teacher": str(teacher), **settings}
    options = RunOptions(result=result, run=run, verbose=1)
    said = io.StringIO()
    with opened(make_settings(**values), options, Display(Console(file=said, width=500))) as experiment:
        check_teacher(experiment)
    return "\n".join(line for line in said.getvalue().splitlines() if "gate" in line)


def told(result: Path, run: str) -> dict:
    return json.loads((result / run / "teacher_gate.json").read_text())


@pytest.fixture(scope="module")
def estimate(corpus, result) -> Iterator[Path]:
    """The logits of the student that was trained to compare a teacher with, by a run that ends there."""
    from small_runs import no_graphs

    worse = teacher_file(result / "worse.npz", right=False)
    with no_graphs(), pytest.raises(UserError, match="knows no more"):
        asked(corpus, result, worse, "refused", teacher_gate="refuse")
    (kept,) = (result / ".cache" / "teacher_gate").glob("*.npz")
    return kept


def test_both_are_scored_on_the_same_utterances_of_training_speakers_left_out(estimate, result):
    facts = told(result, "refused")
    compared, first = facts["compared"], sorted(SPEAKERS)[0]
    (speaker,) = compared["speakers"]
    assert speaker not in (first, following(first))  # one tests, the other validates
    assert compared["ids"] == [name for name in ids() if name.startswith(f"{speaker}-")]
    labels = [name.rpartition("-")[2] for name in compared["ids"]]
    logits = np.load(estimate)["selected"]
    student = [sorted(EMOTIONS)[row.argmax()] for row in logits]
    assert compared["student"] == pytest.approx(balanced_accuracy_score(labels, student))
    assert compared["teacher"] == facts["cross_fitted_ua"] == 0
    assert compared["ci95"] is None  # of one speaker
    assert facts["verdict"] == "knows no more"
    for part in (
        "on 6 utterances of 1 training speaker",
        "UA is 0.0 %",
        f"{100 * compared['student']:.1f} %",
    ):
        assert part in facts["sentence"]


def test_a_refused_run_has_no_student(estimate, result):
    assert [path.name for path in (result / "refused").rglob("*") if path.suffix in (".keras", ".csv")] == []
    assert not [*(result / "refused").glob("fold-*")]
    assert not [path for path in estimate.parent.iterdir() if path.is_dir()]


def test_the_estimate_is_trained_once(corpus, estimate, result, monkeypatch):
    monkeypatch.setattr(teacher_gate, "train_network", None)  # it would be called
    better = teacher_file(result / "better.npz", right=True)
    said = asked(corpus, result, better, "better")
    assert said.startswith("Teacher gate: on 6 utterances")
    assert said.endswith("the teacher knows more.")
    assert told(result, "better")["compared"]["teacher"] == told(result, "better")["cross_fitted_ua"] == 1
    with pytest.raises(TypeError, match="not callable"):  # another student is none of the kept ones
        asked(corpus, result, better, "another student", width=0.2)
    with plugin_behind("light_sernet"), pytest.raises(TypeError, match="not callable"):
        asked(corpus, result, better, "edited")


@contextlib.contextmanager
def plugin_behind(student: str) -> Iterator[None]:
    """Within, a student is of a plug-in."""
    with pytest.MonkeyPatch.context() as patch:
        plugin = plugins.Plugin("mine", Path("mine"), "0" * 64, is_named=False, added=[("student", student)])
        patch.setitem(plugins._loaded, plugin.place, plugin)
        yield


def test_to_warn_is_not_to_refuse(corpus, estimate, result):
    said = asked(corpus, result, result / "worse.npz", "warned")
    assert said.endswith("the teacher knows no more. Choose a stronger one, or --teacher_gate off.")


def test_what_was_found_stays_and_refuses_again(corpus, estimate, result):
    with pytest.raises(UserError, match="knows no more"):
        asked(corpus, result, result / "worse.npz", "refused", teacher_gate="refuse")
    assert asked(corpus, result, result / "worse.npz", "refused", teacher_gate="off") == ""


def test_a_mixture_is_judged_whole(corpus, result, monkeypatch):
    """Not by what is read of it: the file is cross-fitted, and the network beside it is not."""
    from small_runs import no_graphs

    monkeypatch.setattr(teacher_gate, "_estimate", lambda run, fold: np.eye(3)[[0] * len(fold.test)])
    worse = teacher_file(result / "worse.npz", right=False)
    with no_graphs():
        said = asked(corpus, result, f"{worse}+auto*1000", "mixed", teacher_gate="warn")
    facts, first = told(result, "mixed"), sorted(SPEAKERS)[0]
    assert facts["cross_fitted_ua"] is None
    assert facts["compared"]["speakers"] == [following(first)]
    assert "of 1 validation speaker" in said
    labels = np.array([sorted(EMOTIONS).index(name.rpartition("-")[2]) for name in facts["compared"]["ids"]])
    own = teachers.read(result / "mixed" / f"fold-{first}" / "teacher.npz")
    logits = own.logits[0][[own.ids.index(name) for name in facts["compared"]["ids"]]]
    found = balanced_accuracy_score(labels, logits.argmax(axis=1))
    assert facts["compared"]["teacher"] == pytest.approx(found)


def test_off_asks_nothing(corpus, tmp_path):
    worse = teacher_file(tmp_path / "worse.npz", right=False)
    assert asked(corpus, tmp_path, worse, "off", teacher_gate="off") == ""
    assert not (tmp_path / ".cache" / "teacher_gate").exists()
    assert not (tmp_path / "off" / "teacher_gate.json").exists()


def test_to_warn_about_a_few_folds_no_student_is_trained(corpus, tmp_path):
    worse = teacher_file(tmp_path / "worse.npz", right=False)
    said = asked(corpus, tmp_path, worse, "few", folds=SPEAKERS[:4])
    assert "not judged" in said
    assert "`train --alone`" in said
    assert "beside 4 folds" in said
    assert told(tmp_path, "few")["verdict"] is None
    assert not (tmp_path / ".cache" / "teacher_gate").exists()


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ({}, "its file does not name the speakers that it was trained on"),
        ({"train_speakers": {who: sorted(SPEAKERS) for who in SPEAKERS}}, "was trained on the validation"),
    ],
)
def test_what_cannot_be_judged_is_said_and_not_refused(corpus, tmp_path, card, why):
    unknown = teacher_file(tmp_path / "unknown.npz", right=False, card=card)
    said = asked(corpus, tmp_path, unknown, "unknown", teacher_gate="refuse")
    assert "not judged, since" in said
    assert why in said


def test_a_run_that_began_before_goes_on_without(corpus, tmp_path, monkeypatch):
    worse = teacher_file(tmp_path / "worse.npz", right=False)
    with monkeypatch.context() as patch:
        patch.setattr("light_sernet_kd.data.run_folder.Step.is_done", True)
        assert asked(corpus, tmp_path, worse, "begun", teacher_gate="refuse") == ""
    assert not (tmp_path / "begun" / "teacher_gate.json").exists()


def test_cards_tell_who_answers_without_having_met_a_speaker():
    probe = {"probe": {"cross_fitted": True}}
    for card, expected in (
        (probe, True),
        ({"probe": {"cross_fitted": False}}, False),
        ({"parts": 5}, True),
        ({"parts": 0}, False),
        ({"members": [probe, {"parts": 2}]}, True),
        ({"members": [probe, {"parts": 2}], "mixing": "confidence"}, False),  # their labels weighed them
        ({"members": [probe, {}]}, False),
        ({"members": []}, False),
        ({"probe": "words"}, False),
        ({}, False),
    ):
        assert teachers.is_cross_fitted(card) is expected, card


def test_the_student_alone_has_the_settings_that_are_not_of_a_teacher():
    taught = make_settings(
        corpus="demo", distillation="KD", distillation_weights={"alpha": 0.3}, teacher="opensmile",
        allow="research", standardise_speakers=True, teacher_gate="refuse", standardise_logits=True,
        epochs=3, width=0.5, augmentation="noise", folds=("a",), enrolment=True,
    )  # fmt: skip
    alone = settings_alone(taught)
    plain = make_settings(
        corpus="demo", epochs=3, width=0.5, augmentation="noise", folds=("a",), export=False
    )
    assert alone == plain
    decides = decides_folds(alone.as_dict())
    other = dataclasses.replace(plain, folds=(), export=True, enrolment=True, recipe="lsn", engine="jax")
    assert decides_folds(other.as_dict()) == decides
    assert decides_folds(dataclasses.replace(plain, seed=1).as_dict()) != decides


# After the training


def arguments(*more: str) -> list[str]:
    plain = ["-kd", "KD", "--epochs", "1", "--keep", "last", "--no-export", "--recipe", "own"]
    return [*plain, "--teacher_width", "1", *more]


@pytest.fixture(scope="module")
def both(manifest, tmp_path_factory) -> Path:
    """A taught run of two folds, and the student alone that `--alone` trained before it."""
    from light_sernet_kd.experiment.results import writing as results

    result = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_draw", lambda run, outcomes, metrics: False)
        assert train(manifest, result, *arguments("--run", "it", "--alone")) == 0
    return result


def predictions(folder: Path) -> list[dict]:
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_report_has_teacher_student_alone_and_taught_student(both):
    from report_facts import tables

    taught, alone = predictions(both / "it"), predictions(both / "it-alone")
    assert [row["id"] for row in taught] == [row["id"] for row in alone]
    assert not [*(both / "it-alone").glob("*.tflite")]
    labels = np.array([row["label"] for row in taught])
    folds = np.array([row["fold"] for row in taught])
    names = sorted(EMOTIONS)
    logits = [np.load(both / "it" / f"fold-{name}" / "teacher.npz") for name in dict.fromkeys(folds)]
    own = [each["logits"][0][[each["ids"].tolist().index(row["id"])]].argmax() for each in logits
           for row in taught if row["fold"] == each["folds"][0]]  # fmt: skip
    sides = {
        "teacher: UA %": np.array([names[place] for place in own]),
        "student alone: UA %": np.array([row["predicted"] for row in alone]),
        "taught student: UA %": np.array([row["predicted"] for row in taught]),
    }
    page = (both / "it" / "report.md").read_text()
    table = next(each for each in tables(page) if "student alone: UA %" in each[0])
    for row, name in zip(table, [*dict.fromkeys(folds), None], strict=True):
        rows = np.flatnonzero(folds == name) if name else np.arange(len(folds))
        assert row["fold"] == (name or "pooled")
        ua = {side: balanced_accuracy_score(labels[rows], each[rows]) for side, each in sides.items()}
        assert {side: row[side] for side in sides} == {side: f"{100 * ua[side]:.1f}" for side in sides}
        difference = ua["taught student: UA %"] - ua["student alone: UA %"]
        assert float(row["taught minus alone"].split()[0]) == pytest.approx(100 * difference, abs=0.051)
    pooled = json.loads((both / "it" / "metrics.json").read_text())["teacher"]["beside"]["pooled"]
    index = [[names.index(name) for name in each] for each in (labels, *sides.values())]
    speakers = [row["id"].split("-")[0] for row in taught]
    expected = evaluation.bootstrap_difference_ci(index[0], index[2], index[3], speakers, names)
    assert pooled["gains"]["taught_less_alone"]["ci95"] == list(expected["ua"])


def test_the_gate_reads_the_validation_answers_of_the_finished_run(both):
    facts = json.loads((both / "it" / "teacher_gate.json").read_text())
    metrics = json.loads((both / "it" / "metrics.json").read_text())
    first = metrics["folds"][0]
    compared = facts["compared"]
    assert metrics["teacher"]["gate"] == facts
    assert compared["speakers"] == first["validation_speakers"]
    assert "run it-alone" in facts["sentence"]
    stored = np.load(both / "it-alone" / f"fold-{first['name']}" / "validation_logits.npz")["selected"]
    teacher = np.load(both / "it" / f"fold-{first['name']}" / "teacher.npz")
    rows = [teacher["ids"].tolist().index(name) for name in compared["ids"]]
    labels = [name.rpartition("-")[2] for name in compared["ids"]]
    for logits, who in ((stored, "student"), (teacher["logits"][0][rows], "teacher")):
        predicted = [sorted(EMOTIONS)[row.argmax()] for row in logits]
        assert compared[who] == pytest.approx(balanced_accuracy_score(labels, predicted))
    page = (both / "it" / "report.md").read_text()
    assert f"- **Teacher gate:** On {compared['utterances']} utterances" in page


def test_a_student_alone_of_other_code_is_not_that_of_a_run(both):
    config, rows = json.loads((both / "it" / "config.json").read_text()), predictions(both / "it")
    tested = [(name, [row for row, each in enumerate(rows) if each["fold"] == name])
              for name in dict.fromkeys(each["fold"] for each in rows)]  # fmt: skip
    run = SimpleNamespace(
        settings=settings_of_run(both / "it", config["settings"]),
        config=config,
        folder=RunFolder(both / "it"),
        corpus_digest=config["corpus_sha256"],
        classes=sorted(EMOTIONS),
        utterances=[SimpleNamespace(id=row["id"]) for row in rows],
        folds=[SimpleNamespace(name=name, test=test) for name, test in tested],
    )
    assert find_alone(run).run.name == "it-alone"
    with plugin_behind("light_sernet"):
        assert find_alone(run) is None
    run.config = {**config, "folds_sha256": dict.fromkeys(config["folds_sha256"], "0")}
    assert find_alone(run) is None, "others train and test in its folds"


def test_without_a_finished_run_the_report_says_which_command_makes_one(both, manifest, undrawn):
    hidden = both / "hidden"
    hidden.mkdir()
    (both / "it-alone").rename(hidden / "it-alone")
    try:
        assert train(manifest, both, *arguments("--run", "it")) == 0
        page = (both / "it" / "report.md").read_text()
        assert "| not run |" in page
    finally:
        (hidden / "it-alone").rename(both / "it-alone")
        hidden.rmdir()
    command = next(line for line in page.splitlines() if line.startswith("light-sernet-kd train"))
    before = (both / "it-alone" / "config.json").read_text()
    assert cli.main([*shlex.split(command)[1:], "-v", "0"]) == 0  # else it would hold another run
    assert (both / "it-alone" / "config.json").read_text() == before


def test_a_student_without_a_teacher_has_none_to_be_set_beside(manifest, tmp_path, capsys):
    assert train(manifest, tmp_path, "-kd", "pure", "--alone") == 2
    assert "--alone is for a student with a teacher" in error_of(capsys)


def test_refuse_ends_with_exit_code_2_and_one_line(corpus, estimate, result, capsys):
    worse = str(result / "worse.npz")
    given = ["-id", "0.5", "--width", "0.1", "--epochs", "1", "-bt", "8", "--keep", "last"]
    assert train(
        corpus, result, *given, "--recipe", "own", "--learning_rate", "1e-4", "--no-export", "-kd", "KD",
        "--teacher", worse, "--teacher_gate", "refuse", "--run", "by command"
    ) == 2  # fmt: skip
    assert "the teacher knows no more. Choose a stronger one" in error_of(capsys)
    assert not [*(result / "by command").glob("fold-*")]


def test_the_student_alone_of_a_taught_recipe_is_that_of_the_recipe_without_a_teacher():
    for values in (
        {"recipe": "distilled"},
        {"recipe": "robust", "distillation": "ours", "teacher": "yamnet"},
    ):
        alone = settings_alone(make_settings(corpus="EMO-DB", epochs=7, **values))
        expected = make_settings(corpus="EMO-DB", epochs=7, recipe="robust", export=False, enrolment=False)
        assert alone == expected
        # and the command that the report gives is one
        given = make_parser().parse_args(["train", *spelled(alone), "-dn", "EMO-DB"])
        assert settings_of(given, {}) == dataclasses.replace(expected, protocol=alone.protocol)
