"""Every protocol, method, teacher and augmentation end to end, on a small made corpus."""

import csv
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import corpus_trees
import numpy as np
import pytest
import scipy.special
import soundfile
from corpus_trees import sound
from small_runs import QUICK, error_of, train

from light_sernet_kd import cli, config, evaluation, teachers
from light_sernet_kd.analysis.explain.teacher_outputs import teacher_embeddings
from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.corpora import Utterance, demo, manifest
from light_sernet_kd.data import training_list
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.encoders import embedding_cache
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment import run as experiment
from light_sernet_kd.experiment.exported import conversion
from light_sernet_kd.experiment.networks.training import network_of, teacher_embedding_width
from light_sernet_kd.experiment.results.evidence import packed_training_list
from light_sernet_kd.experiment.results.metrics import notes_of
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.experiment.sweeps import paper
from light_sernet_kd.experiment.teachers import files as teacher_files
from light_sernet_kd.experiment.teachers import teacher as teacher_module
from light_sernet_kd.experiment.teachers.teacher import teacher_outputs
from light_sernet_kd.registries.lazy import Lazy
from light_sernet_kd.registries.teachers import TEACHER_SOURCES, TeacherSource
from light_sernet_kd.reporting import display
from light_sernet_kd.teachers import sources

pytestmark = pytest.mark.usefixtures("undrawn", "shallow")

EMOTIONS = ("anger", "neutral", "sadness")
SPEAKERS = tuple(demo.SPEAKERS)[:6]
# A session has two speakers, who talk to each other.
SESSIONS = {speaker: str(number // 2 + 1) for number, speaker in enumerate(SPEAKERS)}
SPLITS = dict(zip(SPEAKERS, ("train", "train", "train", "train", "validation", "test"), strict=True))
ONE_EPOCH = ["--epochs", "1", "--no-export"]


def written(folder: Path, name: str, speakers, emotions, sentence: str) -> Path:
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker", "session", "dialog", "split"])
        for speaker in speakers:
            for emotion in emotions:
                path = f"{name}-{speaker}-{emotion}.wav"
                soundfile.write(folder / path, demo.synthesise(speaker, sentence, emotion), 16_000)
                session = SESSIONS[speaker]
                writer.writerow([path, emotion, speaker, session, f"{session}-{sentence}", SPLITS[speaker]])
    return folder / f"{name}.csv"


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[str, Path]:
    """18 clips of 6 speakers in 3 sessions, and another corpus that has two of the three emotions."""
    folder = tmp_path_factory.mktemp("corpora")
    first, second = tuple(demo.SENTENCES)[:2]
    return {
        "one": written(folder, "one", SPEAKERS, EMOTIONS, first),
        "two": written(folder, "two", SPEAKERS[:2], ("anger", "boredom", "sadness"), second),
        "result": tmp_path_factory.mktemp("result"),
    }


def run(corpora, name: str, *arguments: str) -> dict:
    assert train(corpora["one"], corpora["result"], "--run", name, *arguments) == 0
    return json.loads((corpora["result"] / name / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("protocol", "folds", "stamps"),
    [
        (["--protocol", "session"], ["1", "2", "3"], []),
        (["--protocol", "group_kfold", "--fold_count", "3"], ["01", "02", "03"], ["sessions", "dialogs"]),
        (["--protocol", "split"], ["split"], []),
        (["--protocol", "published"], ["1", "2", "3"], ["epoch"]),
    ],
)
def test_a_protocol_trains_and_is_stamped_with_what_its_folds_share(
    corpora, monkeypatch, protocol, folds, stamps
):
    monkeypatch.setattr(evaluation, "FEWEST_TO_CALIBRATE", 3)
    metrics = run(corpora, f"protocol-{protocol[1]}", *protocol, *ONE_EPOCH)
    assert [fold["name"] for fold in metrics["folds"]] == folds
    assert len(metrics["stamps"]) == len(stamps)
    for stamp, word in zip(metrics["stamps"], stamps, strict=True):
        assert word in stamp
    # Where the test fold validates, a temperature of it has nothing left that it could be scored on.
    told, tests_on_validation = metrics["calibration"], protocol[1] == "published"
    assert (told["after"] is None) == tests_on_validation
    folder = corpora["result"] / f"protocol-{protocol[1]}"
    if tests_on_validation:
        assert not list(folder.glob("fold-*/validation_logits.npz"))
        assert told["temperature"] is told["files"] is None, "nothing was exported"
        assert "Nothing is scored after scaling" in (folder / "report.md").read_text()


def test_of_three_speakers_the_recipe_leaves_babble_out_and_who_asks_for_it_is_refused(tmp_path, capsys):
    few = written(tmp_path, "few", SPEAKERS[:3], EMOTIONS, next(iter(demo.SENTENCES)))
    robust = ["--recipe", "robust", "--no-enrolment", "--folds", "#1", *ONE_EPOCH]
    assert train(few, tmp_path, *robust, "--run", "few") == 0
    (note,) = json.loads((tmp_path / "few" / "metrics.json").read_text())["notes"]
    assert note.startswith("Babble, of the recipe robust, is left out: it is made of other speakers, and")
    assert note in (tmp_path / "few" / "report.md").read_text()
    assert train(few, tmp_path, *robust, "--run", "asked", "--augment", "babble") == 2
    assert "one alone is trained on: leave babble out of --augment" in error_of(capsys)


def test_one_corpus_trains_and_another_tests(corpora, capsys):
    metrics = run(corpora, "cross", "--test-on", str(corpora["two"]), *ONE_EPOCH)
    assert (metrics["protocol"], metrics["corpus"]) == ("cross_corpus", "one → two")
    assert metrics["classes"] == ["anger", "sadness"]
    assert metrics["pooled"]["count"] == 4
    assert metrics["left_out"] == {
        "one: neutral, which the other corpus lacks": 6,
        "two: boredom, which the other corpus lacks": 2,
    }
    assert metrics["exported_training"] == {
        "corpus": "one", "recordings": sum(metrics["counts"].values()) - 4, "speakers": len(SPEAKERS),
    }  # fmt: skip
    assert metrics["folds"][0]["test_speakers"] == [f"two/{speaker}" for speaker in sorted(SPEAKERS[:2])]
    report = (corpora["result"] / "cross" / "report.md").read_text()
    assert "one: neutral, which the other corpus lacks: 6" in report
    # The two name the same speakers, and nobody has said that they are different people.
    (stamp,) = metrics["stamps"]
    names = ", ".join(sorted(SPEAKERS[:2]))
    assert f"2 speaker names are in both corpora, and may be the same people: {names}" in stamp
    assert stamp in report.replace("\\", "")
    assert "No test speaker was trained on" not in report

    # The other way round the recordings are the same, and the teacher trained on those that test.
    both_ways = [
        "--test-on",
        str(corpora["one"]),
        "-kd",
        "KD",
        "--teacher",
        f"run:{corpora['result'] / 'cross'}",
    ]
    assert train(corpora["two"], corpora["result"], "--run", "back", *both_ways, *ONE_EPOCH) == 2
    assert "its student may know them" in error_of(capsys)


def test_a_run_whose_splits_or_shares_changed_does_not_go_on(corpora, tmp_path):
    table = corpora["one"].with_name("edited.csv")
    rows = list(csv.DictReader(corpora["one"].open(encoding="utf-8")))

    def begin(swapped: dict[str, str], anger: str = "1", **settings) -> Experiment:
        with open(table, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*rows[0], "anger"])
            writer.writeheader()
            writer.writerows(
                {**row, "split": swapped.get(row["split"], row["split"]), "anger": anger} for row in rows
            )
        return begun({"one": table}, tmp_path, protocol="split", **settings)

    swapped = {"test": "validation", "validation": "test"}
    first = begin({})
    (first.folder.path / "fold-split").mkdir()
    (first.folder.path / "fold-split" / "history.csv").touch()
    assert begin({}).config == first.config
    with pytest.raises(UserError, match="holds another run: other recordings train, validate or test in"):
        begin(swapped)
    # A run that was begun before this was stored goes on.
    stored = json.loads(first.folder.config.read_text())
    del stored["folds_sha256"]
    first.folder.config.write_text(json.dumps(stored))
    begin(swapped)

    first.folder.config.unlink()
    begin({}, soft_labels=True)
    with pytest.raises(UserError, match="other shares of annotators now"):
        begin({}, anger="2", soft_labels=True)


def begun(corpora, tmp_path, **settings) -> Experiment:
    """A run of which nothing is trained yet."""
    plain = {"corpus": str(corpora["one"]), "input_seconds": 1.2}
    places = config.RunOptions(data=tmp_path, result=tmp_path, cache="none")
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    return Experiment(
        config.make_settings(**plain | settings), places, folder, display.Display(verbose=0), ""
    )


def test_who_says_that_they_are_different_people_has_a_note_and_no_stamp(corpora, tmp_path):
    two = {"protocol": "cross_corpus", "test_on": str(corpora["two"])}
    run = begun(corpora, tmp_path, **two, different_speakers=True)
    assert run.stamps == []
    assert notes_of(run) == ["2 speaker names in both corpora: different people, by --different-speakers."]
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["settings"]["different_speakers"] is True


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({}, lambda row, two: True),
        ({"protocol": "split"}, lambda row, two: row.split != "test"),
        ({"protocol": "split_mixed"}, lambda row, two: row.split != "test"),
        ({"protocol": "cross_corpus"}, lambda row, two: not two and row.emotion != "neutral"),
        ({"emotions": ("anger", "neutral")}, lambda row, two: not two and row.emotion != "sadness"),
        ({"most_per_emotion": 2}, None),
    ],
)
def test_the_list_in_a_file_is_of_what_its_student_was_trained_on(corpora, tmp_path, settings, trained):
    if settings.get("protocol") == "cross_corpus":
        settings = settings | {"test_on": str(corpora["two"])}
    run = begun(corpora, tmp_path, **settings)
    found = training_list.unpacked(packed_training_list(run))
    one, two = (manifest.utterances(corpora[name]).utterances for name in ("one", "two"))
    rows = [training_list.of_tested(each, corpus="x", origin="") for each in (one, two)]
    known = [training_list.shared(found, tested) for tested in rows]
    if trained is None:  # six of the eighteen, two of each emotion
        counts = Counter(row.emotion for row, is_known in zip(one, known[0], strict=True) if is_known)
        assert counts == dict.fromkeys(EMOTIONS, 2)
        assert len(found.rows) == 6
        return
    assert known[0].tolist() == [trained(row, False) for row in one]
    assert not known[1].any()
    assert len(found.rows) == known[0].sum()
    speakers = {row.speaker for row, is_known in zip(one, known[0], strict=True) if is_known}
    assert len(found.speakers) == len(speakers)


def test_probabilities_in_a_teacher_file_are_told_in_the_report(corpora, tmp_path):
    rows = manifest.utterances(corpora["one"]).utterances
    shares = np.random.default_rng(0).dirichlet(np.ones(3), len(rows))
    np.savez(tmp_path / "t.npz", ids=[row.id for row in rows], classes=sorted(EMOTIONS), logits=shares)
    run = begun(corpora, tmp_path, distillation="KD", teacher=str(tmp_path / "t.npz"))
    assert notes_of(run) == [f"Of the teacher file: {teachers.CONVERTED}."]


def test_merged_emotions_are_reported(corpora):
    metrics = run(
        corpora, "merged", "--emotions", "anger,neutral,sadness=neutral", "--folds", "#1", *ONE_EPOCH
    )
    assert metrics["merged"] == {"sadness": "neutral"}
    assert metrics["counts"] == {"anger": 6, "neutral": 12}
    assert "sadness counted as neutral" in (corpora["result"] / "merged" / "report.md").read_text()


@pytest.mark.parametrize("command", ["train", "teach"])
def test_a_class_that_folds_lack_is_said_before_anything_trains(
    corpora, tmp_path, monkeypatch, capsys, command
):
    alone = sorted(SPEAKERS)[0]
    lines = corpora["one"].read_text().splitlines(keepends=True)
    manifest = corpora["one"].with_name("lacking.csv")
    manifest.write_text("".join(line for line in lines if "sadness" not in line or alone in line))

    def stop(*_):
        raise UserError("stopped")

    monkeypatch.setattr(experiment, "run_fold", stop)
    monkeypatch.setattr(teacher_files, "trained_teacher", stop)
    assert cli.main([command, "-dn", str(manifest), *QUICK, "--result", str(tmp_path)]) == 2
    told = capsys.readouterr().out
    # Its own fold, and that in which it chooses the epoch.
    folds = f"2 folds ({alone}, {sorted(SPEAKERS)[-1]})"
    assert f"Warning: {folds}: training has none of sadness; 1 test recording cannot be right\n" in told
    assert f"Warning: one speaker alone has sadness ({alone})" in told


METHODS = [
    pytest.param(["-kd", "KD:0.5+RKD:0.5"], marks=pytest.mark.every),
    pytest.param(["-kd", "DIST"], marks=pytest.mark.every),
    pytest.param(["-kd", "NKD"], marks=pytest.mark.every),
    ["-kd", "WSLD", "--standardise_logits"],
    ["-kd", "KD+hint:0.1+SP:10+PKT", "--kd_weights", "KD.alpha=0.5", "--teacher_count", "2"],
    [
        "-kd",
        "DKD",
        "--augment",
        "specaugment,noise,gain,shift,speed,mixup,room,babble,copypaste,freqmixstyle",
        "--augment-every",
        "2",
        "--teacher_view",
        "same",
    ],
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method[1])
def test_a_method_trains_with_an_auto_teacher(corpora, request, method):
    name = f"method-{request.node.callspec.indices['method']}"
    metrics = run(corpora, name, *method, "--folds", "#1", "--epochs", "2", "--no-export")
    assert metrics["stamps"][:1] != ["teacher was trained on test speakers"]
    fold = corpora["result"] / name / f"fold-{sorted(SPEAKERS)[0]}"
    with open(fold / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    left = {path.name for path in fold.iterdir()}
    assert {"teacher.npz", "student.keras", "fold.json"} <= left
    assert not [name for name in left if "member" in name or "checkpoint" in name]


def test_an_ensemble_is_the_mean_of_its_networks(corpora):
    common = ["-kd", "KD", "--folds", "#1", *ONE_EPOCH]
    run(corpora, "single", *common)
    run(corpora, "double", *common, "--teacher_count", "2")
    fold = f"fold-{sorted(SPEAKERS)[0]}"
    single, double = (
        teachers.read(corpora["result"] / name / fold / "teacher.npz") for name in ("single", "double")
    )
    assert double.card["made_by"].startswith("mean of 2: ")
    # The first of the two is the single one, so the other one's logits are what is missing to the mean.
    assert not np.allclose(double.logits, single.logits)
    assert double.embeddings.shape[-1] == 2 * single.embeddings.shape[-1]
    np.testing.assert_allclose(
        double.embeddings[..., : single.embeddings.shape[-1]], single.embeddings, rtol=1e-4, atol=1e-5
    )


def some_teacher(folder: Path, utterances) -> teachers.Teacher:
    """Of every fold; it is often right, and far too sure. Its file is `other.npz`."""
    classes = tuple(sorted(EMOTIONS))
    right = np.eye(3)[[classes.index(row.emotion) for row in utterances]]
    logits = 30 * right + np.random.default_rng(0).normal(scale=20, size=right.shape)
    ids = tuple(row.id for row in utterances)
    teacher = teachers.Teacher(ids, classes, logits[None].astype(np.float32), embeddings=right[None, :, :2])
    teachers.write(folder / "other.npz", teacher)
    return teacher


def test_a_network_that_the_run_trains_is_mixed_at_its_own_temperature(corpora, tmp_path):
    other = some_teacher(tmp_path, manifest.utterances(corpora["one"]).utterances)
    mixture = begun(
        corpora, tmp_path, distillation="KD+hint", teacher=f"auto*5+{tmp_path / 'other.npz'}*2", epochs=1,
        teacher_count=2, folds=tuple(sorted(SPEAKERS)[:2]), input_seconds=0.5,
    )  # fmt: skip
    assert mixture.settings.trained_teacher == "light_sernet"
    assert mixture.settings.trained_teacher_width == 1.5
    given = teachers.aligned(other, mixture.utterances, mixture.classes, "any")
    temperatures = [[], []]
    for fold in (*mixture.folds, mixture.selection.final_fold):
        outputs = teacher_outputs(mixture, fold, [1])
        own = teachers.read(mixture.step(fold).teacher)  # of the two networks alone
        assert own.card["made_by"] == "mean of 2: light_sernet, width 1.5; light_sernet, width 1.5"
        rows, expected = list(fold.validation), np.zeros((18, 3))
        for logits, weight, fitted in ((given, 2, temperatures[0]), (own.logits[0], 5, temperatures[1])):
            if rows:
                fitted.append(evaluation.fit_temperature(logits[rows], mixture.selection.labels[rows]))
            expected += weight / 7 * logits / (fitted[-1] if rows else np.median(fitted))
        np.testing.assert_allclose(outputs.logits, expected, rtol=1e-4, atol=1e-4)
        side_by_side = np.concatenate([other.embeddings[0], own.embeddings[0]], axis=1)
        np.testing.assert_allclose(outputs.embedding, side_by_side, rtol=1e-6)
        assert teacher_embedding_width(mixture) == side_by_side.shape[1]


def test_a_network_and_the_source_beside_it_are_weighed_by_the_labels_that_train(tmp_path):
    rng = np.random.default_rng(0)
    labels, classes, ids = rng.integers(3, size=9), ("a", "b", "c"), tuple(f"u{n}" for n in range(9))
    rows = [Utterance(name, tmp_path, classes[k], "s") for name, k in zip(ids, labels, strict=True)]
    fold = Fold("one", (0, 1, 2), (3, 4, 5), (6, 7, 8))
    mixed = SimpleNamespace(
        settings=Settings(teacher="a.npz*2+auto", teacher_mixing="confidence"), folds=[fold],
        selection=SimpleNamespace(utterances=rows, classes=classes, labels=labels),
    )  # fmt: skip
    other, own = (
        teachers.Teacher(ids, classes, rng.normal(size=(1, 9, 3)).astype(np.float32), ("one",))
        for _ in range(2)
    )
    found = teacher_module._mixed(mixed, other, fold, own).logits[0]
    sure = own.logits[0] / teacher_module.temperatures_of(own, mixed.selection, [fold])["one"]
    for row, label in enumerate(labels):
        weights = np.array([2.0, 1.0])
        if row in fold.train:
            log_p = [scipy.special.log_softmax(each[row])[label] for each in (other.logits[0], sure)]
            weights *= np.exp(log_p) / np.exp(log_p).sum()  # of two, w = p / (p + q)
        expected = np.average([other.logits[0, row], sure[row]], axis=0, weights=weights)
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_a_number_that_changes_over_the_epochs_stays_at_its_last_in_a_second_phase(corpora, tmp_path):
    some_teacher(tmp_path, manifest.utterances(corpora["one"]).utterances)
    ramped = begun(
        corpora, tmp_path, distillation="KD", teacher=str(tmp_path / "other.npz"), qat=1, width=0.1,
        distillation_weights={"alpha": "0.9>0.3", "temperature": "4>1"}, input_seconds=0.5,
    )  # fmt: skip
    first, second = (network_of(ramped, "student", phase).spec.distillation_settings for phase in (0, 1))
    assert first == {"alpha": "0.9>0.3", "temperature": "4.0>1.0", "kl_mean": "batch"}
    assert second == {"alpha": 0.3, "temperature": 1.0, "kl_mean": "batch"}


def test_a_run_with_a_mixed_teacher_tells_of_both(corpora, tmp_path, capsys):
    other = some_teacher(tmp_path, manifest.utterances(corpora["one"]).utterances)
    spec = f"{tmp_path / 'other.npz'}+auto*5"
    arguments = ["-kd", "KD+hint:0.1", "--teacher", spec, "--folds", "#1", *ONE_EPOCH]
    metrics = run(corpora, "mixed-with-auto", *arguments)
    assert metrics["teacher"]["name"] == spec
    assert metrics["teacher"]["made_by"] == "unknown and light_sernet, width 0.225"
    assert metrics["stamps"] == [teachers.STAMP_UNKNOWN]
    # what `explain` compares with the student's is what the student learned from
    folder, rows = RunFolder(corpora["result"] / "mixed-with-auto"), manifest.utterances(corpora["one"])
    step, tested = folder.fold(sorted(SPEAKERS)[0]), rows.utterances[:2]
    settings = config.make_settings(distillation="KD+hint:0.1", teacher=spec)
    found, _ = teacher_embeddings(folder, step, settings, tested, sorted(SPEAKERS)[0])
    own = teachers.aligned_embeddings(teachers.read(step.teacher), tested, sorted(SPEAKERS)[0])
    np.testing.assert_array_equal(found, np.concatenate([other.embeddings[0][:2], own], axis=1))
    # it goes on as it was, and not with another file
    assert run(corpora, "mixed-with-auto", *arguments)["pooled"] == metrics["pooled"]
    some_teacher(tmp_path, rows.utterances[:-1])
    assert train(corpora["one"], corpora["result"], "--run", "mixed-with-auto", *arguments) == 2
    assert "the teacher file has another content now" in error_of(capsys)


def test_students_of_finished_runs_teach(corpora, capsys):
    """Their mean is the teacher of each fold, and the student hears it on its own view."""
    result, common = corpora["result"], ["--folds", "#1,#2", *ONE_EPOCH]
    for seed in ("0", "1"):
        run(corpora, f"alone-{seed}", *common, "--seed", seed)
    both = f"run:{result / 'alone-0'},{result / 'alone-1'}"
    taught = run(corpora, "taught", "-kd", "KD+hint:0.1", "--teacher", both, "--teacher_view", "same",
                 "--teacher_components", "3", "--augment", "noise:chance=1,mixup", *common)  # fmt: skip
    teacher = teachers.read(result / "taught" / "teacher.npz")
    for number, name in enumerate(sorted(SPEAKERS)[:2]):
        alone = [
            np.load(result / f"alone-{seed}" / f"fold-{name}" / "test_logits.npz")["selected"]
            for seed in (0, 1)
        ]
        stored = np.load(result / "taught" / f"fold-{name}" / "test_logits.npz")["teacher"]
        np.testing.assert_allclose(stored, np.mean(alone, axis=0), rtol=1e-4, atol=1e-4)
        assert teacher.folds[number] == name
    assert taught["teacher"]["name"] == "run:alone-0,alone-1"
    assert taught["stamps"] == run(corpora, "alone-0", *common, "--seed", "0")["stamps"]
    # nothing of it is in what the student is saved as
    sizes = [(result / name / f"fold-{sorted(SPEAKERS)[0]}" / "student.keras").stat().st_size
             for name in ("alone-0", "taught")]  # fmt: skip
    assert abs(sizes[0] - sizes[1]) < 0.02 * sizes[0]
    # which has nobody to learn from
    capsys.readouterr()
    assert cli.main(["export", str(result / "taught")]) == 2
    assert "answers for its folds alone, and not for the student of all speakers" in error_of(capsys)
    assert not list((result / "taught").glob("fold-*/*.tflite"))

    taught_by = ["-kd", "KD", "--teacher", f"run:{result / 'alone-0'}", "--epochs", "1"]
    for more, message in [
        (["--folds", "#3", "--no-export"], f"has no fold {sorted(SPEAKERS)[2]}"),
        (["--folds", "#1"], "has no student of all speakers"),
        (["--folds", "1", "--protocol", "session", "--no-export"], "its protocol is loso, and session here"),
        (["--folds", "#1", "--no-export", "--emotions", "anger,neutral"], "other recordings, labels or emo"),
        (["--folds", "#1", "--no-export", "-id", "1.5", "--teacher_view", "same"], "length in samples is"),
        (["--folds", "#1", "--no-export", "--teacher", "run:nowhere"], "nowhere holds no finished run"),
        (["--folds", "#1", "--no-export", "--teacher", "run:"], "takes the folder of a finished run"),
    ]:
        capsys.readouterr()
        assert train(corpora["one"], result, "--run", "refused", *taught_by, *more) == 2
        assert message in error_of(capsys)


def test_augmentation_changes_training_and_nothing_else(corpora):
    clean = run(corpora, "clean", "--folds", "#1", *ONE_EPOCH)
    changed = run(corpora, "augmented", "--folds", "#1", "--augment", "noise:chance=1", *ONE_EPOCH)
    assert clean["folds"][0]["ua"] is not None
    histories = [
        (corpora["result"] / name / f"fold-{sorted(SPEAKERS)[0]}" / "history.csv").read_text()
        for name in ("clean", "augmented")
    ]
    assert histories[0] != histories[1]
    assert changed["counts"] == clean["counts"]


def test_yamnet_teaches_and_its_file_does_too(corpora, shared_data):
    data = ["--data", str(shared_data), "--folds", "#1,#2", *ONE_EPOCH]
    metrics = run(corpora, "yamnet", "-kd", "KD+hint:0.1", "--teacher", "yamnet", *data)
    assert metrics["teacher"]["made_by"] == "probe on YAMNet"
    assert not [stamp for stamp in metrics["stamps"] if "teacher" in stamp]
    out = corpora["result"] / "yamnet.npz"
    made = cli.main(
        ["teach", "-dn", str(corpora["one"]), "--from", "yamnet", "--out", str(out), "-v", "0",
         "--result", str(corpora["result"]), "--data", str(shared_data)]
    )  # fmt: skip
    assert made == 0
    found, stored = teachers.read(out), teachers.read(corpora["result"] / "yamnet" / "teacher.npz")
    assert found.folds == (*sorted(SPEAKERS), "all-speakers")
    np.testing.assert_array_equal(found.logits[:2], stored.logits[:2])
    again = run(corpora, "from-file", "-kd", "KD+hint:0.1", "--teacher", str(out), *data)
    assert again["pooled"] == metrics["pooled"]


def loudness_teacher(argument, selection, settings, workplace) -> teachers.Teacher:
    def encode(waveforms):
        return [np.array([[each.std(), float(argument)]], np.float32) for each in waveforms]

    encoder = embedding_cache.Encoder("loudness", {"argument": argument}, (2,), encode)
    return sources.probe_on(encoder, f"loudness {argument}", selection, settings, workplace)


def test_a_source_of_teachers_is_one_function_and_one_line(corpora, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sources, "loudness_teacher", loudness_teacher, raising=False)
    line = TeacherSource(
        "made",
        "loudness",
        argument="N",
        licence="for research",
        allow="research",
        make=Lazy("teachers.sources:loudness_teacher"),
    )
    monkeypatch.setitem(TEACHER_SOURCES, "loudness", line)
    arguments = ["-kd", "KD", "--teacher", "loudness=3", "--folds", "#1", "--allow", "research", *ONE_EPOCH]
    metrics = run(corpora, "loudness", *arguments)
    assert metrics["teacher"]["licence"] == "for research"
    assert "Its licence: for research." in (corpora["result"] / "loudness" / "report.md").read_text()
    assert metrics["teacher"]["made_by"] == "probe on loudness 3"
    assert not [stamp for stamp in metrics["stamps"] if "teacher" in stamp]
    out = tmp_path / "loudness.npz"
    teach = [
        "teach", "-dn", str(corpora["one"]), "--from", "loudness=3", "--out", str(out), "-v", "0",
         "--result", str(tmp_path),
    ]  # fmt: skip
    assert cli.main(teach) == 2
    assert "--from loudness=3 has a licence of its own, for research: add --allow" in error_of(capsys)
    assert cli.main([*teach, "--allow", "research"]) == 0
    stored = teachers.read(corpora["result"] / "loudness" / "teacher.npz")
    np.testing.assert_array_equal(teachers.read(out).logits[:1], stored.logits[:1])
    # several, one of which is the file
    arguments = [
        "-kd",
        "KD+hint:0.1",
        "--teacher",
        f"loudness=3*2+{out}",
        "--allow",
        "research",
        "--folds",
        "#1",
    ]
    metrics = run(corpora, "mixed", *arguments, *ONE_EPOCH)
    mixed = teachers.read(corpora["result"] / "mixed" / "teacher.npz")
    assert metrics["teacher"]["name"] == f"loudness=3*2+{out}"
    temperature = mixed.card["members"][0]["temperatures"][mixed.folds[0]]
    np.testing.assert_allclose(mixed.logits[0], stored.logits[0] / temperature, rtol=1e-4)
    assert mixed.embeddings.shape == (1, 18, 4)
    # what learns from the file is told of the licence too, and so is what takes the student
    arguments = ["-kd", "KD", "--teacher", str(out), "--folds", "#1", *ONE_EPOCH]
    assert run(corpora, "of-loudness", *arguments)["teacher"]["licence"] == "for research"


def test_the_card_of_an_exported_file_names_the_teachers_licence():
    def card_of(**card):
        teacher = teachers.Teacher(("u",), ("anger",), np.zeros((1, 1, 1), np.float32), card=card)
        corpus = SimpleNamespace(name="one", synthetic=True)
        run = SimpleNamespace(
            settings=Settings(), corpus=corpus, unlabelled=None, start=None, teacher=teacher
        )
        return conversion._card(run, final=False)

    assert card_of(licence="for research")["teacher_licence"] == "for research"
    assert "teacher_licence" not in card_of(licence=3)
    assert "teacher_licence" not in card_of()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-kd", "KD+KDD"], "Did you mean KD?"),
        (["-kd", "KD:0"], "the weight of KD is '0'"),
        (["-kd", "SP", "--teacher", "TEACHER"], "embedding"),
        (["-kd", "SP", "--teacher", "TEACHER+auto*5"], "embedding"),
        (
            ["-kd", "KD", "--teacher", "OTHER"],
            "fits none of 18 utterances. Its ids are 03a01Fa, 03a01Nc",
        ),
        (["-kd", "KD", "--teacher", "OTHER*2+TEACHER"], "fits none of 18 utterances. Its ids are 03a01Fa"),
        (["-kd", "KD", "--teacher", "auto+OTHER"], "Was the teacher made for another corpus?"),
        (["-kd", "KD", "--teacher", "whisper=nowhere"], "there is no folder nowhere"),
        (["--augment", "nois"], "Did you mean noise?"),
        (["--augment", "speed:low=0.6", "-kd", "KD"], "teacher"),
        (["--protocol", "cross_corpus"], "takes --test-on CORPUS"),
        (["--protocol", "group_kfold", "--fold_count", "9"], "no more than there are speakers"),
        (["--teacher", "yamnet"], "training has no teacher"),
        (["-kd", "KD", "--teacher", "yamnet=nowhere.tflite"], "no YAMNet in nowhere.tflite"),
        (["--emotions", "anger,joy"], "unknown emotion of one 'joy'"),
        (["-session", "1", "--folds", "s1"], "-session and --folds both name the folds"),
        (["--standardise_logits"], "compares no logits with a teacher's"),
        (["--test-on", "TESS", "--protocol", "loso"], "--test-on means the protocol cross_corpus"),
    ],
)
def test_a_users_mistake_is_one_line(corpora, capsys, tmp_path, arguments, expected):
    ids = [f"one-{speaker}-{emotion}" for speaker in SPEAKERS for emotion in EMOTIONS]
    others = [
        f"03a{number:02}{code}" for number in range(1, 4) for code in ("Fa", "Nc", "Wa", "La", "Ad", "Td")
    ]
    for name, file, known in (("TEACHER", "plain.npz", ids), ("OTHER", "other.npz", others)):
        teacher = teachers.Teacher(tuple(known), EMOTIONS, np.zeros((1, 18, 3), np.float32))
        teachers.write(tmp_path / file, teacher)
        arguments = [argument.replace(name, str(tmp_path / file)) for argument in arguments]
    assert train(corpora["one"], tmp_path / "result", *arguments, *ONE_EPOCH) == 2
    assert expected in error_of(capsys)


# Every corpus in its own format


# Those of names of files alone, and KEMDy20's elder sister; the tests of each corpus read its tree.
ALIKE = ("CREMA-D", "ESD", "TESS", "RAVDESS", "KEMDy19")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.every) if name in ALIKE else name for name in corpus_trees.TREES],
)
def test_a_corpus_trains_from_its_own_folders(tmp_path, name):
    root = corpus_trees.TREES[name](tmp_path / "data" / name)
    for number, path in enumerate(sorted(root.rglob("[!.]*.wav"))):
        sound(path, number)
    quick = [
        "-id",
        "0.5",
        "--width",
        "0.1",
        "--protocol",
        "published",
        "--folds",
        "#1",
        "--run",
        "x",
        "-v",
        "0",
    ]
    places = ["--data", str(tmp_path / "data"), "--result", str(tmp_path / "result")]
    assert cli.main(["train", "-dn", name, *quick, *places, *ONE_EPOCH]) == 0
    metrics = json.loads((tmp_path / "result" / "x" / "metrics.json").read_text())
    assert metrics["corpus"] == name
    with open(tmp_path / "result" / "x" / "predictions.csv", newline="") as file:
        tested = {row["label"] for row in csv.DictReader(file)}
    assert tested <= set(metrics["classes"])
    assert sum(metrics["counts"].values()) > metrics["pooled"]["count"] > 0
    if name == "IEMOCAP":
        assert metrics["classes"] == ["anger", "happiness", "neutral", "sadness"]
        assert metrics["merged"] == {"excitement": "happiness"}
        assert metrics["folds"][0]["name"] == "1"


# audit and compare


def audit(corpora, capsys, *arguments: str) -> tuple[int, str]:
    code = cli.main(["audit", str(corpora["one"]), *arguments])
    return code, capsys.readouterr().out


def test_audit_says_with_its_exit_code_whether_something_leaks(corpora, capsys):
    code, shown = audit(corpora, capsys, "--protocol", "session")
    assert (code, "nothing leaks from test to training" in shown) == (0, True)
    code, shown = audit(corpora, capsys)
    assert code == 1
    assert "1 session shared; 1 dialog shared" in shown
    code, shown = audit(corpora, capsys, "--protocol", "random", "--json")
    assert code == 1
    assert len(json.loads(shown)) == 10


def test_audit_of_a_teacher_names_the_test_speakers_it_knows(corpora, capsys, tmp_path):
    card = {"train_speakers": {"all-speakers": list(SPEAKERS)}}
    ids = tuple(row.id for row in manifest.utterances(corpora["one"]).utterances)
    knowing = teachers.Teacher(ids, EMOTIONS, np.zeros((1, len(ids), 3), np.float32), (), card)
    teachers.write(tmp_path / "t.npz", knowing)
    code, shown = audit(corpora, capsys, "--protocol", "session", "--teacher", str(tmp_path / "t.npz"))
    assert code == 1
    assert shown.count("the teacher was trained on") == 3


def test_compare_sets_runs_beside_one_another(corpora, capsys, tmp_path):
    for name, method in (("left", "pure"), ("right", "KD")):
        run(corpora, name, "-kd", method, "--protocol", "split", *ONE_EPOCH)
    folders = [str(corpora["result"] / name) for name in ("left", "right")]
    assert cli.main(["compare", *folders, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "ΔUA" in shown
    assert (tmp_path / "out" / "compare.md").is_file()
    assert cli.main(["compare", *folders, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[1]["paired"]["difference"] == pytest.approx(rows[1]["ua"] - rows[0]["ua"], abs=1e-9)
    assert cli.main(["compare", str(tmp_path)]) == 2
    assert "holds no finished run" in error_of(capsys)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--augment", "mixup"], "teach makes no use of --augment"),
        (["--from", "yamnet", "--epochs", "5"], "teach --from yamnet makes no use of --epochs"),
        (["--from", "some/model", "--width", "2"], "teach --from some/model makes no use of --width"),
        (["--from", "some/model", "--accumulation", "2"], "makes no use of --accumulation"),
        (["--from", "cross_attention", "--modality", "text"], "makes no use of --modality"),
        (["--fine_tune"], "--fine_tune needs --from and a speech model"),
    ],
)
def test_teach_refuses_what_it_would_ignore(corpora, capsys, arguments, expected):
    assert cli.main(["teach", "-dn", str(corpora["one"]), *arguments]) == 2
    assert expected in error_of(capsys)


def test_audit_tells_what_is_left_out_and_whom_validation_shares_with_the_test(corpora, capsys, tmp_path):
    table = tmp_path / "shared.csv"
    lines = corpora["one"].read_text().replace("one-", f"{corpora['one'].parent}/one-").splitlines()
    moved = [line.replace(",validation", ",test") if ",anger," in line else line for line in lines]
    table.write_text("\n".join(moved) + "\n")
    assert cli.main(["audit", str(table), "--protocol", "split", "--emotions", "anger,neutral"]) == 1
    shown = capsys.readouterr().out
    assert "left out: sadness, which is not in the task: 6" in shown
    assert "validation shares " in shown


def test_session_numbers_a_session_where_the_corpus_has_them(corpora):
    parser = cli.make_parser(Context("train.py"))
    one = str(corpora["one"])
    for corpus, protocol in (
        ("IEMOCAP", "session"), ("iemocap", "session"), ("EMO-DB", "loso"), (one, "session")
    ):  # fmt: skip
        arguments = parser.parse_args(["train", "-dn", corpus, "-session", "1"])
        settings = settings_of(arguments, {"protocol": "loso"})
        assert (settings.protocol, settings.folds) == (protocol, ("#1",))


def test_published_rows_take_nothing_from_the_users_own_defaults_but_the_seed():
    experiments = {"row": {"settings": {"corpus": "EMO-DB", "label_loss": "focal"}}}
    edited = {"width": 0.5, "epochs": 3, "augmentation": "noise", "student": "resnet18", "seed": 7}
    (row,) = paper.rows_of(experiments, edited)
    assert row.settings == make_settings(**experiments["row"]["settings"], seed=7)
