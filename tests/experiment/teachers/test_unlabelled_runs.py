"""Runs that learn from recordings without labels too, as a user gives them."""

import csv
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from small_runs import EMOTIONS, SENTENCES, SPEAKERS, check_answers, error_of, no_graphs, same_weights, train

from light_sernet_kd import audio, cli, teachers
from light_sernet_kd.corpora import demo
from light_sernet_kd.data.unlabelled import survey
from light_sernet_kd.experiment import fold
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.teachers import probe
from light_sernet_kd.teachers.unlabelled import write

pytestmark = pytest.mark.usefixtures("shallow", "undrawn")

SAMPLES = 19_200  # of `small_runs.QUICK`
ONE = ["--epochs", "1", "--folds", "#1", "--no-export"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """Speech of speakers that the corpus has not, silence, and what is no recording."""
    folder = tmp_path_factory.mktemp("speech")
    for speaker in list(demo.SPEAKERS)[3:5]:
        for sentence in SENTENCES:
            waveform = demo.synthesise(speaker, sentence, "anger")
            soundfile.write(folder / f"{speaker}-{sentence}.flac", waveform, 16_000)
    soundfile.write(folder / "silence.wav", np.zeros(16_000), 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture
def no_training(monkeypatch):
    """What is said must be said before anything is trained."""
    from light_sernet_kd.training.network import Network

    def fail(*_):
        raise AssertionError("it trained")

    monkeypatch.setattr(Network, "train", fail)


def metrics(result: Path, name: str) -> dict:
    return json.loads((result / name / "metrics.json").read_text())


@pytest.fixture(scope="module")
def learnt(manifest, speech, tmp_path_factory) -> Path:
    """The folder of results with a run of one fold whose teacher is trained for it."""
    result = tmp_path_factory.mktemp("result")
    given = ["-kd", "KD+SP:3", "--unlabelled", str(speech), "--run", "one"]
    views = ["--unlabelled_views", "2", "--augment", "gain:chance=1,copypaste"]
    with no_graphs():
        assert train(manifest, result, *given, *views, *ONE) == 0
    return result


@pytest.mark.usefixtures("eager")
def test_a_run_says_what_it_learnt_from_and_what_it_left_out(learnt, speech):
    told, found = metrics(learnt, "one"), survey(speech, SAMPLES)
    facts = told["unlabelled"]
    assert (facts["recordings"], facts["clips"], facts["share"]) == (6, len(found), 0.5)
    assert facts["broken"]["names"] == ["broken.wav"]
    assert facts["silent"]["names"] == ["silence.wav"]
    assert told["stamps"] == [
        "perhaps optimistic: the speakers of 6 unlabelled recordings may be test speakers"
    ]
    with open(learnt / "one" / "unlabelled_left_out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["recording"] for row in rows] == ["broken.wav", "silence.wav"]
    page = (learnt / "one" / "report.md").read_text()
    assert "**Unlabelled:** 6 recordings in" in page
    assert "They are 50.0 % of each batch." in page
    # Scores are of the labelled test utterances, as ever.
    assert told["pooled"]["count"] == 9
    assert sum(told["counts"].values()) == 27
    # The teacher answers the clips as they are; the student hears two views, without others in them.
    kept = [json.loads(each.read_text()) for each in (learnt / ".cache" / "embeddings").rglob("encoder.json")]
    views = [each["view"] for each in kept if "view" in each]
    assert sorted(view["number"] for view in views) == [0, 1]
    assert {view["augmentations"] for view in views} == {"gain"}
    assert len(kept) == 3
    config = json.loads((learnt / "one" / "config.json").read_text())
    assert config["unlabelled_sha256"] == found.digest
    assert not list((learnt / "one").rglob("*-member.np*"))


@pytest.mark.every
@pytest.mark.usefixtures("eager")
def test_what_the_clips_teach_moves_the_student_and_their_share_does_too(manifest, speech, learnt):
    for name, given in (("none", []), ("more", ["--unlabelled", str(speech), "--unlabelled_share", "0.75"])):
        assert train(manifest, learnt, "-kd", "KD+SP:3", *given, "--run", name, *ONE) == 0
    students = [learnt / name / f"fold-{SPEAKERS[0]}" / "student.keras" for name in ("one", "none", "more")]
    assert not same_weights(students[0], students[1])
    assert not same_weights(students[0], students[2])
    # The teacher is the same: it is trained on labels alone.
    logits = [teachers.read(each.with_name("teacher.npz")).logits for each in students]
    np.testing.assert_array_equal(logits[0], logits[1])


@pytest.fixture
def copies(manifest, tmp_path) -> Path:
    """The corpus's recordings, which no student is trained on here."""
    return Path(shutil.copytree(manifest.parent, tmp_path / "copies"))


@pytest.mark.usefixtures("eager")
def test_a_teacher_says_of_copies_what_it_says_of_the_recordings(manifest, copies, tmp_path):
    out = tmp_path / "teacher.npz"
    given = ["--width", "0.15", "-bt", "8", "--epochs", "1", "--folds", "#2"]
    places = ["--unlabelled", str(copies), "--result", str(tmp_path), "--out", str(out)]
    assert cli.main(["teach", "-dn", str(manifest), *given, *places, "-id", "3", "-v", "0"]) == 0
    check_answers(out, copies, atol=1e-4)


@pytest.mark.parametrize("wide", [False, True])
def test_a_probe_says_of_copies_what_it_says_of_the_recordings(
    manifest, copies, tmp_path, shared_data, monkeypatch, wide
):
    if wide:  # each fold has components of its own
        monkeypatch.setattr(probe, "WIDE", 1000)
    out = tmp_path / "teacher.npz"
    places = ["--unlabelled", str(copies), "--data", str(shared_data), "--result", str(tmp_path)]
    command = ["teach", "-dn", str(manifest), "--from", "yamnet", "--folds", "#1", "-id", "3", "-v", "0"]
    folder = tmp_path / "t" / "unlabelled"  # with what another source had left
    write(folder / "embedding.npy", [np.zeros((1, 7), np.float32)], 1, 7)
    assert cli.main([*command, *places, "--out", str(out), "--run", "t"]) == 0
    check_answers(out, copies, atol=1e-4)
    assert (folder / "embedding.npy").exists() != wide


def test_an_ensemble_says_of_copies_what_it_says_of_the_recordings(
    manifest, copies, tmp_path, shared_data, monkeypatch
):
    # The folds' temperatures and the weights must be those of the recordings, and a file's answers count.
    places = ["--unlabelled", str(copies), "--data", str(shared_data), "--result", str(tmp_path)]
    shared = ["teach", "-dn", str(manifest), "--folds", "#1", "-id", "3", "-v", "0", *places]
    file, out = tmp_path / "yamnet.npz", tmp_path / "both.npz"
    with monkeypatch.context() as patched:
        patched.setattr(probe, "STRENGTHS", (1e-5,))  # a teacher that says something else
        assert cli.main([*shared, "--from", "yamnet", "--out", str(file)]) == 0
    both = ["--from", f"yamnet+{file}*3", "--run", "both"]
    assert cli.main([*shared, *both, "--out", str(out)]) == 0
    check_answers(out, copies, atol=1e-4)
    assert not (tmp_path / "both" / "unlabelled" / "members").exists()


@pytest.mark.every
@pytest.mark.usefixtures("eager")
def test_a_file_of_teach_gives_what_the_teacher_trained_in_the_run_gives(manifest, speech, learnt, tmp_path):
    out = tmp_path / "teacher.npz"
    quick = ["-id", "1.2", "--width", "0.15", "--learning_rate", "3e-3", "--bn_momentum", "0.8", "-bt", "8"]
    command = ["teach", "-dn", str(manifest), *quick, "--unlabelled", str(speech), "--result", str(tmp_path)]
    assert cli.main([*command, "-v", "0", "--epochs", "1", "--folds", "#1", "--out", str(out)]) == 0
    given = ["-kd", "KD+SP:3", "--teacher", str(out), "--unlabelled", str(speech), "--run", "file"]
    assert train(manifest, learnt, *given, *ONE) == 0
    name = f"fold-{SPEAKERS[0]}/student.keras"
    assert same_weights(learnt / "one" / name, learnt / "file" / name)


class _StopError(Exception):
    """Raised where a student would be trained."""


@pytest.mark.usefixtures("eager")
def test_students_of_a_run_and_a_network_beside_them_answer_clips_as_they_answer_utterances(
    manifest, speech, learnt, tmp_path, monkeypatch
):
    seen = {}

    def stop(run, role, of_fold, outputs=None, epochs=None):
        seen.update(run=run, fold=of_fold, outputs=outputs)
        raise _StopError

    monkeypatch.setattr(fold, "train_network", stop)
    sources = ["--teacher", f"run:{learnt / 'one'}+auto*3", "--teacher_epochs", "1", "--teacher_gate", "off"]
    with pytest.raises(_StopError):
        train(manifest, tmp_path, "-kd", "KD+hint", "--unlabelled", str(speech), *sources, *ONE)
    run, outputs, clips = seen["run"], seen["outputs"], seen["outputs"].unlabelled
    model = keras.saving.load_model(learnt / "one" / f"fold-{SPEAKERS[0]}" / "student.keras", compile=False)
    both = keras.Model(model.input, [model.output, model.get_layer("embedding").output])
    heard = np.asarray(phases_of(run, "student")[-1].rows[np.arange(27)])
    students, _ = (each.numpy() for each in both(heard, training=False))
    network = teachers.read(run.step(seen["fold"]).teacher).logits[0]
    # The teacher of utterances is a sum of the two, whose factors are these.
    parts = np.stack([students.ravel(), network.ravel()], axis=1)
    factors, *_ = np.linalg.lstsq(parts, outputs.logits.ravel(), rcond=None)
    np.testing.assert_allclose(parts @ factors, outputs.logits.ravel(), rtol=1e-3, atol=1e-4)

    every = np.arange(len(clips.logits))
    students, embedding = (each.numpy() for each in both(clips.rows[every], training=False))
    own = np.load(run.step(seen["fold"]).member("teacher-unlabelled", "npy"))
    expected = factors[0] * students + factors[1] * own[:, :3]
    np.testing.assert_allclose(clips.logits[every], expected, rtol=1e-3, atol=1e-4)
    side_by_side = np.concatenate([embedding, own[:, 3:]], axis=1)
    np.testing.assert_allclose(clips.embedding[every], side_by_side, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("no_training")
def test_recordings_that_test_or_validate_are_refused_by_name_or_left_out(
    manifest, speech, tmp_path, capsys, monkeypatch
):
    both = tmp_path / "both"
    shutil.copytree(speech, both)
    for emotion in EMOTIONS[:2]:
        name = f"{SPEAKERS[0]}-{SENTENCES[0]}-{emotion}"
        waveform = audio.read(manifest.parent / f"{name}.wav")
        soundfile.write(both / f"quieter {emotion}.flac", waveform / 2, 16_000)
    given = ["-kd", "KD", "--unlabelled", str(both)]
    capsys.readouterr()
    assert train(manifest, tmp_path, *given, *ONE) == 2
    line = error_of(capsys)
    assert "2 unlabelled recordings test or validate too: quieter anger.flac is " in line
    assert f"{SPEAKERS[0]}-{SENTENCES[0]}-anger" in line
    assert "--unlabelled_skip_tested" in line
    assert cli.main(["audit", str(manifest), "--unlabelled", str(both)]) == 1
    assert "2 unlabelled recordings test or validate too" in capsys.readouterr().out
    assert cli.main(["audit", str(manifest), "--unlabelled", str(speech)]) == 0
    assert "no unlabelled recording tests or validates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["-kd", "pure", "--unlabelled", "SPEECH"], "pure training has no teacher, and unlabelled"),
        (["-kd", "DKD", "--unlabelled", "SPEECH"], "DKD is defined by each example's label"),
        (["-kd", "NKD+WSLD", "--unlabelled", "SPEECH"], "as in -kd NKD+KD"),
        (["-kd", "KD", "--unlabelled_share", "0.2"], "--unlabelled_share goes with --unlabelled DIR"),
        (
            ["-kd", "KD", "--unlabelled", "SPEECH", "--unlabelled_share", "1"],
            "unlabelled share must be above 0",
        ),
        (["-kd", "KD", "--unlabelled", "nowhere"], "no folder nowhere"),
        (["-kd", "KD", "--unlabelled", "SPEECH", "--teacher", "bert_vggish"], "not for bert_vggish"),
        (["-kd", "KD", "--unlabelled", "SPEECH", "--reader", "tfio"], "--unlabelled is read by soundfile"),
        (
            ["-kd", "KD", "--unlabelled", "SPEECH", "--teacher", "FILE"],
            "says nothing of unlabelled recordings",
        ),
    ],
)
@pytest.mark.usefixtures("no_training")
def test_what_does_not_go_together_is_one_line(manifest_of, speech, tmp_path, capsys, given, words):
    logits = np.zeros((27, 3), np.float32)
    ids = [row.id for row in manifest_of[1]]
    np.savez(tmp_path / "t.npz", ids=ids, classes=sorted(EMOTIONS), logits=logits)
    places = {"SPEECH": str(speech), "FILE": str(tmp_path / "t.npz")}
    capsys.readouterr()
    assert train(manifest_of[0], tmp_path, *(places.get(word, word) for word in given), "--no-export") == 2
    assert words in error_of(capsys)


@pytest.fixture
def manifest_of(manifest):
    from light_sernet_kd.corpora import manifest as reader

    return manifest, reader.utterances(manifest).utterances


def test_teach_takes_a_folder_for_what_answers_it(capsys):
    for given, words in (
        (["--from", "x/wavlm", "--fine_tune", "--unlabelled_share", "0.2"], "makes no use of --unlabelled_"),
        (["--unlabelled", "d", "--unlabelled_share", "0.2"], "makes no use of --unlabelled_share"),
        (["--from", "yamnet", "-id", "2"], "makes no use of -id"),
    ):
        assert cli.main(["teach", "-dn", "demo", *given]) == 2
        assert words in capsys.readouterr().err
