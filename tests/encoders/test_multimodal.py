"""Students of speech and text end to end: every variant trains, is scored, exported and predicted with."""

import contextlib
import csv
import dataclasses
import functools
import json
from pathlib import Path

import corpus_trees
import numpy as np
import pytest
import soundfile
from small_runs import no_graphs

from light_sernet_kd import cli, evaluation, teachers
from light_sernet_kd.config import make_settings
from light_sernet_kd.corpora import demo
from light_sernet_kd.data import feature_cache
from light_sernet_kd.data.selection import selected
from light_sernet_kd.encoders import multimodal, vggish
from light_sernet_kd.registries.students import MULTIMODAL_STUDENTS, STUDENTS
from light_sernet_kd.students.cross_attention import cross_attention
from light_sernet_kd.students.fusion import head_of
from light_sernet_kd.training.checkpoint import EpochState

pytestmark = pytest.mark.usefixtures("undrawn")
# Of an epoch of a few batches; a run of two phases is in graphs, as users train.
eager = pytest.mark.usefixtures("eager")

EMOTIONS = ("anger", "neutral", "sadness")
SPEAKERS = tuple(demo.SPEAKERS)[:4]
# Of VGGish a sixteenth of each width: the whole has 72 million weights.
NARROW = tuple((name, width if name == "fc2" else width // 16) for name, width in vggish.LAYERS)
TEXT = "random:width=16,layers=2,heads=2"
QUICK = ["-id", "2", "--epochs", "1", "-bt", "4", "-lr", "0.01", "--text_tokens", "12", "-v", "0",
         "--text_encoder", TEXT, "--audio_encoder", "vggish=random"]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def narrow():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vggish, "LAYERS", NARROW)
        for name, layers in (("cross_attention", 1), ("cross_attention_teacher", 2)):
            head = functools.partial(cross_attention, layers=layers, width=32)
            patch.setitem(STUDENTS, name, dataclasses.replace(STUDENTS[name], build=head))
        yield


def written(folder: Path, *, transcripts: bool = True) -> Path:
    """12 recordings of 4 speakers, each of its own length, with what is said and what annotators heard."""
    folder.mkdir(parents=True, exist_ok=True)
    sentence = next(iter(demo.SENTENCES))
    with open(folder / "said.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = ["path", "emotion", "speaker", *(["transcript"] if transcripts else []), *EMOTIONS]
        writer.writerow(columns)
        for number, speaker in enumerate(SPEAKERS):
            for place, emotion in enumerate(EMOTIONS):
                name = f"{speaker}-{emotion}.wav"
                sound = demo.synthesise(speaker, sentence, emotion)
                soundfile.write(folder / name, sound[: 12_000 + 4_000 * (number + place)], 16_000)
                said = [f"this {emotion} one of {speaker} [LAUGHTER]"] if transcripts else []
                shares = [0.7 if emotion == each else 0.15 for each in EMOTIONS]
                writer.writerow([name, emotion, speaker, *said, *shares])
    return folder / "said.csv"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("corpus"))


def train(corpus: Path, result: Path, run: str, *arguments: str) -> Path:
    code = cli.main(["train", "-dn", str(corpus), "--result", str(result), "--run", run, *QUICK, *arguments])
    assert code == 0
    return result / run


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


VARIANTS = [
    pytest.param(["--student", "picobert_vggish"], marks=pytest.mark.every),
    pytest.param(["--student", "cross_attention"], marks=pytest.mark.every),
    ["--student", "cross_attention", "--tune_epochs", "0", "--modality", "text"],
    pytest.param(["--student", "cross_attention", "--modality", "audio"], marks=pytest.mark.every),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(variant[1::2]))
def test_a_variant_trains_in_its_phases_and_its_file_predicts_what_it_was_scored_with(
    corpus, tmp_path, capsys, variant
):
    tuned = "--tune_epochs" not in variant
    phases = ["--tune_epochs", "1"] if tuned else []
    with contextlib.nullcontext() if tuned else no_graphs():
        folder = train(corpus, tmp_path, "run", *variant, "--folds", "#1", *phases)
    metrics = metrics_of(folder)
    assert metrics["pooled"]["count"] == 3
    fold = folder / f"fold-{metrics['folds'][0]['name']}"
    assert metrics["folds"][0]["best_epochs"] == [1, 1][: 1 + tuned]
    with open(fold / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1 + tuned
    heard, read = "32,000 samples at 16,000 Hz (2 s)", "12 tokens of text"
    takes = {"text": [read], "audio": [heard]}.get(variant[-1], [heard, read])
    assert f"Each file takes {' and '.join(takes)} and gives" in (folder / "report.md").read_text()
    rows = {row["precision"]: row for row in metrics["export"]["rows"]}
    assert set(rows) == {"float32", "float16", "dynamic"} | ({"int8"} if "audio" in variant else set())
    # The file of all speakers is another student than the fold's; what it says of a text is its own.
    said, heard = [], []
    if "audio" not in variant:
        said = ["--text", "this anger one"]
    if "text" not in variant:
        heard = [str(corpus.parent / f"{SPEAKERS[0]}-anger.wav")]
    capsys.readouterr()
    assert cli.main(["predict", str(folder / "student_float32.tflite"), *heard, *said, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    stored = np.load(fold / "tflite_probabilities.npz")["float32"]
    logits = np.load(fold / "test_logits.npz")["selected"]
    exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # The states that a frozen encoder's head was scored on were kept in float16.
    np.testing.assert_allclose(stored, exact, atol=1e-4 if tuned else 5e-3)


@eager
@pytest.mark.parametrize("tuned", ["0", pytest.param("1", marks=pytest.mark.every)])
def test_removed_validation_logits_are_made_anew_of_the_saved_student(corpus, tmp_path, monkeypatch, tuned):
    """With its encoders; the calibration stays."""
    monkeypatch.setattr(evaluation, "FEWEST_TO_CALIBRATE", 3)
    arguments = ["--student", "picobert_vggish", "--tune_epochs", tuned, "--folds", "#1", "--no-export"]
    folder = train(corpus, tmp_path, "run", *arguments)
    told = metrics_of(folder)["calibration"]
    path = folder / f"fold-{told['folds'][0]['name']}" / "validation_logits.npz"
    logits = np.load(path)["selected"]
    assert logits.shape == (3, 3)
    path.unlink()
    train(corpus, tmp_path, "run", *arguments)
    # states are kept as float16 while encoders are frozen
    np.testing.assert_allclose(np.load(path)["selected"], logits, atol=1e-5 if tuned == "1" else 5e-3)
    again = metrics_of(folder)["calibration"]["folds"][0]["temperature"]
    assert again == pytest.approx(told["folds"][0]["temperature"], rel=0.05)


def settings_of(corpus: Path, **values):
    quick = {"input_seconds": 2.0, "text_encoder": TEXT, "text_tokens": 12, "audio_encoder": "vggish=random"}
    return make_settings(corpus=str(corpus), **{**quick, **values})


def both_of(corpus: Path, cache: Path, **values) -> multimodal.SpeechAndText:
    settings = settings_of(corpus, **values)
    chosen = selected(settings, corpus.parent)

    def features():
        return feature_cache.features(
            chosen.utterances,
            chosen.fingerprints,
            front_end="vggish",
            input_type="mel_spectrogram",
            samples=settings.samples,
            cache=feature_cache.Cache(cache, "ram"),
        )

    return multimodal.SpeechAndText(
        settings.student, settings, chosen, data=corpus.parent, cache=cache, features=features
    )


@pytest.mark.parametrize(
    ("name", "layers"),
    [("bert_vggish", 9), *(pytest.param(*each, marks=pytest.mark.every) for each in (
        ("minibert_vggish", 8), ("microbert_vggish", 6), ("nanobert_vggish", 4),
    )), ("picobert_vggish", 2)],
)  # fmt: skip
def test_a_truncated_student_has_the_first_layers_of_its_teachers_encoder(corpus, tmp_path, name, layers):
    deep = TEXT.replace("layers=2", "layers=9")
    own = both_of(corpus, tmp_path, student=name, text_encoder=deep).text
    assert own.layers == layers
    teacher = both_of(corpus, tmp_path, student="bert_vggish", text_encoder=deep).text
    of_teacher = {weight.path: weight for weight in teacher.backbone.weights}
    for weight in own.backbone.weights:
        np.testing.assert_array_equal(weight, of_teacher[weight.path])


@pytest.mark.parametrize("name", ["picobert_vggish", "cross_attention"])
def test_the_head_on_cached_states_says_what_the_whole_says_of_text_and_audio(corpus, tmp_path, name):
    both = both_of(corpus, tmp_path, student=name)
    head = both.head()
    everything = np.arange(len(both.selection.utterances))
    whole = both.whole(head.get_weights())
    cached = head.predict_on_batch(both.states[everything])
    # kept in float16
    np.testing.assert_allclose(whole.predict_on_batch(both.inputs[everything]), cached, atol=5e-3)
    assert cached.std(axis=0).max() > 0.01
    for mine, other in zip(head_of(whole).get_weights(), head.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_recording_and_a_text_score_alone_as_among_others(corpus, tmp_path):
    both = both_of(corpus, tmp_path, student="picobert_vggish")
    whole = both.whole()
    together = whole.predict_on_batch(both.inputs[np.arange(12)])
    for row in (0, 5, 11):
        alone = whole.predict_on_batch(both.inputs[np.array([row])])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


OURS_SETTINGS = ["--teacher", "bert_vggish", "--teacher_epochs", "1", "--teacher_learning_rate", "0.01",
          "--teacher_batch_size", "4", "--tune_epochs", "0", "--folds", "#1", "--no-export"]  # fmt: skip


@eager
def test_a_listener_learns_from_a_reader_that_never_met_the_speaker_it_speaks_of(corpus, tmp_path):
    """The teacher's outputs for training speakers are of networks that were trained without them."""
    outputs = {}
    for parts in (0, 3):
        folder = train(
            corpus, tmp_path, f"parts-{parts}", "-kd", "CKD", *OURS_SETTINGS, "--teacher_parts", str(parts)
        )
        metrics = metrics_of(folder)
        assert metrics["student"]["name"] == "light_sernet"
        assert metrics["teacher"]["name"] == "bert_vggish"
        assert metrics["teacher"]["made_by"].startswith("bert_vggish on random and ")
        assert metrics["stamps"] == []
        (fold,) = metrics["folds"]
        outputs[parts] = teachers.read(folder / f"fold-{fold['name']}" / "teacher.npz")
    test = [fold["name"] == name.split("-")[0] for name in outputs[0].ids]
    validation = [name.split("-")[0] in fold["validation_speakers"] for name in outputs[0].ids]
    apart = np.array(test) | np.array(validation)
    different = np.abs(outputs[0].logits - outputs[3].logits)[0].max(axis=1) > 1e-6
    np.testing.assert_array_equal(different, ~apart)
    # what the networks of parts know is kept apart from what embeddings are compared with
    np.testing.assert_array_equal(outputs[0].embeddings, outputs[3].embeddings)


@pytest.mark.every
def test_a_text_student_is_taught_the_states_of_its_tuned_teacher(corpus, tmp_path):
    arguments = ["--student", "picobert_vggish", "-kd", "DistilSER", "--folds", "#1", "--tune_epochs", "1",
                 "--teacher_parts", "0", "--no-export"]  # fmt: skip
    folder = train(corpus, tmp_path, "states", *arguments)
    metrics = metrics_of(folder)
    assert metrics["teacher"]["made_by"].startswith("bert_vggish")
    config = json.loads((folder / "config.json").read_text())
    assert config["resolved"]["distillation"]["KD.temperature"] == 2.0


@pytest.mark.every
def test_shares_of_annotators_a_cap_and_gathered_gradients_train(corpus, tmp_path):
    folder = train(
        corpus, tmp_path, "multi-still", "--student", "cross_attention", "-kd", "Multi-Still", "-ln", "mse",
        "--soft_labels", "--most_per_emotion", "2", "--accumulation", "2", "--folds", "#1", "--no-export",
    )  # fmt: skip
    report = (folder / "report.md").read_text()
    assert "trained on the annotators' shares" in report
    assert "at most 2 training utterances of an emotion" in report
    assert "adamw over 2 batches a step" in report


@pytest.mark.every
def test_a_run_that_was_stopped_in_its_second_phase_ends_as_one_that_was_not(corpus, tmp_path, monkeypatch):
    arguments = ["--student", "bert_tiny_vggish", "--folds", "#1", "--epochs", "2", "--tune_epochs", "2",
                 "--no-export"]  # fmt: skip
    whole = train(corpus, tmp_path, "whole", *arguments)
    save, saved = EpochState._save, []

    def stopped(state):
        save(state)
        saved.append(state)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(EpochState, "_save", stopped)
    command = ["train", "-dn", str(corpus), "--result", str(tmp_path), "--run", "parts", *QUICK, *arguments]
    assert cli.main(command) == 130
    monkeypatch.setattr(EpochState, "_save", save)
    assert cli.main(command) == 0
    for name in ("predictions.csv", "fold-s1/history.csv"):
        assert (tmp_path / "parts" / name).read_text() == (whole / name).read_text()


@eager
def test_texts_that_training_knows_are_a_stamp_and_what_was_cut_or_empty_is_told(tmp_path):
    corpus = written(tmp_path / "corpus")
    rows = list(csv.reader(corpus.read_text().splitlines()))
    column = rows[0].index("transcript")
    for number, row in enumerate(rows[1:]):
        said = "one two three four five six seven eight nine ten eleven"
        # a reader of lower case cannot tell these apart
        row[column] = "[SIGH]" if number == 0 else said if number % 2 else f"[LAUGHTER] {said.upper()}"
    with open(corpus, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    arguments = ["--student", "cross_attention", "--modality", "text", "--folds", "#2", "--no-export"]
    metrics = metrics_of(train(corpus, tmp_path, "told", *arguments))
    assert metrics["stamps"] == ["3 of 3 test texts occur in training"]
    report = (tmp_path / "told" / "report.md").read_text()
    assert "1 of 12 transcripts are empty: read as NULL" in report
    assert "11 of 12 transcripts are longer than 12 tokens and were cut" in report
    assert "random weights, and its vocabulary is made of all transcripts" in report


@eager
def test_a_run_goes_on_with_its_own_texts_and_encoders_alone(tmp_path, capsys):
    corpus = written(tmp_path / "corpus")
    arguments = ["--student", "cross_attention", "--modality", "text", "--folds", "#2", "--no-export"]
    folder = train(corpus, tmp_path, "own", *arguments)
    before = (folder / "predictions.csv").read_bytes()
    (folder / "metrics.json").unlink()
    train(corpus, tmp_path, "own", *arguments)
    corpus.write_text(corpus.read_text().replace("this anger one", "quite another one", 1))
    command = ["train", "-dn", str(corpus), "--result", str(tmp_path), "--run", "own", *QUICK, *arguments]
    assert cli.main(command) == 2
    assert "the transcripts, or the encoders of speech or text, are others now" in capsys.readouterr().err
    assert (folder / "predictions.csv").read_bytes() == before


@eager
def test_a_missing_transcript_is_refused_or_left_out(tmp_path, capsys):
    corpus = written(tmp_path / "corpus")
    lines = corpus.read_text().splitlines()
    said = next(csv.reader([lines[1]]))[3]
    corpus.write_text("\n".join([lines[0], lines[1].replace(said, ""), *lines[2:]]) + "\n")
    arguments = ["train", "-dn", str(corpus), "--result", str(tmp_path), "--run", "r", *QUICK, "--no-export",
                 "--student", "cross_attention", "--modality", "text", "--folds", "#2"]  # fmt: skip
    assert cli.main(arguments) == 2
    assert "1 of 12 utterances have no transcript" in capsys.readouterr().err
    assert cli.main([*arguments, "--skip-bad"]) == 0
    (skipped,) = metrics_of(tmp_path / "r")["skipped"]
    assert skipped["reason"] == "no transcript"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student", "bert_vggish", "--audio_encoder", "yamnet"], "takes the states of VGGish"),
        (["--student", "bert_vggish", "--front_end", "lsn"], "its own front end"),
        (["--student", "bert_vggish", "-it", "spectrogram"], "leave out -it"),
        (["--student", "bert_vggish", "--width", "2"], "has none"),
        (["--student", "bert_vggish", "--augment", "noise"], "--augment is for students of features alone"),
        (["--student", "bert_vggish", "--modality", "text"], "--modality is of cross_attention"),
        (["--student", "cross_attention", "--pooling", "mean"], "--pooling is for students such as"),
        (["--student", "light_sernet", "--front_end", "vggish"], "the front end vggish is of"),
        (["--student", "light_sernet"], "is of speech and text: add --student or --teacher"),
        (["--student", "bert_vggish", "-kd", "DistilSER", "--tune_epochs", "0"], "give --tune_epochs"),
        (["--student", "resnet18", "-kd", "DistilSER", "--teacher", "bert_vggish"], "text states of student"),
        (["--student", "bert_vggish", "--teacher_parts", "1"], "0 or at least 2"),
        (["--student", "bert_vggish", "--text_encoder", "bert_bse_en_uncased"], "bert_base_en_uncased"),
        (["--student", "bert_vggish", "--audio_encoder", "vggish"], "no VGGish"),
        (["--student", "bert_vggish", "--text_tokens", "1"], "at least 3"),
        (["--teacher", "bert_vggish", "-kd", "KD", "--audio_encoder", "yamnet"], "the states of VGGish"),
        (["--student", "bert_vggish", "--teacher_text_encoder", TEXT], "is of a teacher that reads"),
        (["-kd", "KD", "--teacher", "file.npz", "--teacher_parts", "3"], "--teacher_parts is of a teacher"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(corpus, tmp_path, capsys, arguments, message):
    command = ["train", "-dn", str(corpus), "--result", str(tmp_path), *QUICK, *arguments]
    assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not any(tmp_path.glob("[!.]*"))


@pytest.mark.every
def test_teach_makes_a_file_of_a_reader_that_a_listener_learns_from(corpus, tmp_path):
    quick = [argument for argument in QUICK if argument not in ("-id", "2")]
    out = tmp_path / "reader.npz"
    command = [
        "teach",
        "-dn",
        str(corpus),
        "--result",
        str(tmp_path),
        "--from",
        "bert_vggish",
        "--out",
        str(out),
    ]
    assert cli.main([*command, *quick, "-id", "2", "--tune_epochs", "0", "--teacher_parts", "2"]) == 0
    teacher = teachers.read(out)
    assert set(teacher.folds) == {*SPEAKERS, "all-speakers"}
    for speaker in SPEAKERS:
        assert speaker not in teacher.card["train_speakers"][speaker]
    result = [
        "train",
        "-dn",
        str(corpus),
        "--result",
        str(tmp_path),
        "--run",
        "taught",
        "--teacher",
        str(out),
    ]
    assert (
        cli.main(
            [
                *result,
                "-kd",
                "KD+hint",
                "-id",
                "2",
                "--epochs",
                "1",
                "--width",
                "0.15",
                "--folds",
                "#1",
                "--no-export",
                "-v",
                "0",
            ]
        )
        == 0
    )
    assert metrics_of(tmp_path / "taught")["stamps"] == []


def tree_of(name: str, data: Path) -> Path:
    """A corpus in its own folders and files, a sound in each recording."""
    root = corpus_trees.TREES[name](data / name)
    for number, path in enumerate(sorted(root.rglob("[!.]*.wav"))):
        corpus_trees.sound(path, number)
    return root


@pytest.mark.every
def test_on_an_iemocap_tree_readers_train_and_teach_listeners(tmp_path):
    tree_of("IEMOCAP", tmp_path / "data")
    places = ["-dn", "IEMOCAP", "--data", str(tmp_path / "data"), "--result", str(tmp_path), *QUICK]
    common = [*places, "--protocol", "published", "--folds", "#1", "--tune_epochs", "0", "--no-export"]
    teacher = ["--teacher", "bert_vggish", "--teacher_epochs", "1", "-kd", "CKD"]
    assert cli.main(["train", *common, *teacher, "--run", "listener"]) == 0
    assert metrics_of(tmp_path / "listener")["student"]["name"] == "light_sernet"
    reader = ["--student", "bert_tiny_vggish", "--soft_labels", "--run", "reader"]
    assert cli.main(["train", *common, *reader]) == 0
    assert metrics_of(tmp_path / "reader")["pooled"]["count"] > 0


@pytest.mark.every
def test_on_emo_db_a_reader_of_german_is_scored_stamped_exported_and_predicts(shared_data, tmp_path, capsys):
    recordings = tmp_path / "data" / "EMO-DB" / "wav"
    recordings.mkdir(parents=True)
    for path in (shared_data / "EMO-DB" / "wav").glob("0[389]*.wav"):  # three of ten speakers
        (recordings / path.name).symlink_to(path)
    arguments = ["train", "-dn", "EMO-DB", "--data", str(tmp_path / "data"), "--result", str(tmp_path),
                 "--run", "r", *QUICK, "-id", "1", "-bt", "64", "--folds", "03", "--student",
                 "picobert_vggish", "--tune_epochs", "0"]  # fmt: skip
    assert cli.main(arguments) == 0
    metrics = metrics_of(tmp_path / "r")
    assert metrics["stamps"] == ["49 of 49 test texts occur in training"]
    assert {row["precision"] for row in metrics["export"]["rows"]} == {"float32", "float16", "dynamic"}
    capsys.readouterr()
    recording = recordings / "03a01Fa.wav"
    said = ["--text", "Der Lappen liegt auf dem Eisschrank.", "--json"]
    assert cli.main(["predict", str(tmp_path / "r" / "student_dynamic.tflite"), str(recording), *said]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert set(answer["probabilities"]) == set(metrics["classes"])
    assert answer["text_warnings"] == []


@eager
def test_states_of_yamnet_stay_inputs_of_the_exported_file(corpus, shared_data, tmp_path):
    folder = train(
        corpus, tmp_path, "yamnet", "--student", "cross_attention", "--modality", "audio", "--folds", "#1",
        "--data", str(shared_data), "--audio_encoder", "yamnet",
    )  # fmt: skip
    assert "Each file takes audio_states made by yamnet and gives" in (folder / "report.md").read_text()
    fold = folder / f"fold-{metrics_of(folder)['folds'][0]['name']}"
    stored = np.load(fold / "tflite_probabilities.npz")["float32"]
    logits = np.load(fold / "test_logits.npz")["selected"]
    exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(stored, exact, atol=1e-4)


@pytest.mark.every
def test_multi_still_is_prepared_taught_and_trained_on_a_kemdy_tree(tmp_path, capsys):
    """Its three stages: the teacher reads and hears, the student that only hears learns from its file."""
    tree_of("KEMDy20", tmp_path / "data")
    data = ["--data", str(tmp_path / "data")]
    assert cli.main(["prepare", "KEMDy20", *data]) == 0
    common = ["-dn", "KEMDy20", *data, "--result", str(tmp_path / "result"), *QUICK, "-id", "1",
              "--protocol", "published", "--folds", "#1", "-ln", "mse", "--soft_labels"]  # fmt: skip
    teacher = str(tmp_path / "teacher.npz")
    assert cli.main(["teach", *common, "--from", "cross_attention_teacher", "--out", teacher]) == 0
    student = ["--student", "cross_attention", "--modality", "audio", "--no-export", "--run", "student"]
    assert cli.main(["train", *common, *student, "--teacher", teacher, "-kd", "Multi-Still"]) == 0
    metrics = metrics_of(tmp_path / "result" / "student")
    assert metrics["pooled"]["count"] > 0
    assert metrics["teacher"]["made_by"].startswith("cross_attention_teacher")


@pytest.fixture(scope="module")
def corpora(shared_data, tmp_path_factory) -> Path:
    """A part of EMO-DB, four speakers' recordings as they are, and a tree shaped as IEMOCAP's."""
    data = tmp_path_factory.mktemp("corpora")
    (data / "EMO-DB" / "wav").mkdir(parents=True)
    recordings = sorted((shared_data / "EMO-DB" / "wav").glob("*.wav"))
    for path in [each for each in recordings if each.name[:2] in ("03", "08", "09", "10")][::4]:
        (data / "EMO-DB" / "wav" / path.name).symlink_to(path)
    tree_of("IEMOCAP", data)
    return data


@pytest.mark.every
@pytest.mark.parametrize("name", ["EMO-DB", "IEMOCAP"])
@pytest.mark.parametrize(
    "variant",
    [[name] for name in MULTIMODAL_STUDENTS]
    + [["cross_attention", "--modality", modality] for modality in ("text", "audio")],
    ids="-".join,
)
def test_every_variant_is_trained_scored_exported_and_predicted_with(
    corpora, tmp_path, capsys, name, variant
):
    folds = {"EMO-DB": ["--folds", "03"], "IEMOCAP": ["--protocol", "published", "--folds", "#1"]}[name]
    # eight layers, for the truncated ones to have something to leave out
    arguments = [*QUICK, "--text_encoder", "random:width=16,layers=8,heads=2", "-bt", "16", *folds]
    phases = ["--tune_epochs", "0" if "text" in variant else "1"]
    places = ["--data", str(corpora), "--result", str(tmp_path), "--run", "run"]
    assert cli.main(["train", "-dn", name, *places, *arguments, *phases, "--student", *variant]) == 0
    metrics = metrics_of(tmp_path / "run")
    assert metrics["pooled"]["count"] == metrics["folds"][0]["count"] > 0
    recording = next(iter(sorted((corpora / name).rglob("[!.]*.wav"))))
    heard = [] if "text" in variant else [str(recording)]
    read = [] if "audio" in variant else ["--text", "Der Lappen liegt auf dem Eisschrank."]
    answers = []
    for row in metrics["export"]["rows"]:
        capsys.readouterr()
        file = str(tmp_path / "run" / f"student_{row['precision']}.tflite")
        assert cli.main(["predict", file, *heard, *read, "--json"]) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        assert list(answer["probabilities"]) == metrics["classes"]
        answers.append(list(answer["probabilities"].values()))
    assert len(answers) == 3 + ("audio" in variant)
    np.testing.assert_allclose(np.sum(answers, axis=1), 1, atol=1e-5)
