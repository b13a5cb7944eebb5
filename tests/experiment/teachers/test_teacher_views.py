"""Frozen teachers that are asked on the views that a student hears, by a reader that keeps what it heard."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from small_runs import error_of, train

from light_sernet_kd import audio, config, teachers
from light_sernet_kd.corpora import demo
from light_sernet_kd.data import batches as batching
from light_sernet_kd.data.feature_cache import front_end_of
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.encoders import user_model
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.encoders.view_bank import FoldViews
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.networks.training import Training, job_of
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.experiment.teachers import views as teacher_views
from light_sernet_kd.experiment.teachers.teacher import teacher_outputs
from light_sernet_kd.reporting import display
from light_sernet_kd.teachers import views as view_files

pytestmark = pytest.mark.usefixtures("undrawn", "shallow")

EMOTIONS, SPEAKERS = ("anger", "neutral", "sadness"), tuple(demo.SPEAKERS)[:6]
# Shorter than any of the recordings: what the reader hears is then the whole clip.
SECONDS, SAMPLES, BANDS, VIEWS = 0.5, 8000, 6, 3
CHANGES = "speed:chance=0.5,noise:chance=1,babble:chance=0.5,shift"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """18 clips of 6 speakers."""
    folder = tmp_path_factory.mktemp("corpus")
    sentence = next(iter(demo.SENTENCES))
    with open(folder / "small.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker"])
        for speaker, emotion in itertools.product(SPEAKERS, EMOTIONS):
            soundfile.write(
                folder / f"{speaker}-{emotion}.wav", demo.synthesise(speaker, sentence, emotion), 16000
            )
            writer.writerow([f"{speaker}-{emotion}.wav", emotion, speaker])
    return folder / "small.csv"


def bands(waveform: np.ndarray) -> np.ndarray:
    """What the reader makes of a clip: logarithms of its power in six bands."""
    power = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
    return np.log([1e-6 + part.mean() for part in np.array_split(power, BANDS)]).astype(np.float32)


@pytest.fixture
def heard(monkeypatch, tmp_path) -> list[np.ndarray]:
    """The waveforms that the reader was handed; `tflite:FILE#bands` reads by it."""
    kept: list[np.ndarray] = []

    def encode(waveforms):
        for waveform in waveforms:
            kept.append(np.array(waveform))
            yield bands(waveform)[None]

    made = Encoder("double", {"bands": BANDS}, (BANDS,), encode)
    monkeypatch.setattr(user_model, "tflite_encoder", lambda argument: made)
    (tmp_path / "double.tflite").write_bytes(b"a stand-in")
    return kept


def begun(corpus, tmp_path, name="run", **settings) -> Experiment:
    """A run of one fold of which nothing is trained yet, and whose teacher was asked."""
    plain = {
        "corpus": str(corpus), "input_seconds": SECONDS, "folds": ("#1",), "distillation": "KD+hint",
        "teacher": f"tflite:{tmp_path / 'double.tflite'}#bands", "teacher_view": "same",
        "teacher_views": VIEWS, "augmentation": CHANGES, "export": False,
    }  # fmt: skip
    places = config.RunOptions(data=tmp_path, result=tmp_path, cache="none")
    (tmp_path / name).mkdir(parents=True, exist_ok=True)
    made = config.make_settings(**plain | settings)
    return Experiment(made, places, tmp_path / name, display.Display(verbose=0), "")


def drawn(run: Experiment, *, first_epoch=0, epochs=1):
    """By epoch: utterance → features, logits and embedding of its example in the student's batches."""
    (fold,) = run.folds
    job = job_of(Training(run, "student", fold, teacher_outputs(run, fold)))
    # numbers of utterances in the place of labels, which say whose example is whose
    numbers = np.arange(len(run.utterances), dtype=np.int32)
    examples = batching.Examples(job.examples.rows, numbers, [str(each) for each in numbers])
    source = batching.Source.of(
        examples, job.train, teacher=job.teacher_outputs, augmenter=job.augmenter, weights=None, seed=job.seed
    )
    # babble is made of others whatever their class is
    made = source.endless(5, first_epoch)
    found = []
    for _ in range(epochs):
        rows = {}
        for inputs, utterances in itertools.islice(made, -(-len(job.train) // 5)):
            parts = (inputs["features"], inputs["teacher"], inputs["teacher_embedding"])
            rows |= dict(zip(utterances.tolist(), zip(*map(np.asarray, parts), strict=True), strict=True))
        found.append(rows)
    return found


def probes_of(run: Experiment) -> dict[int, object]:
    """Utterance → log probabilities of rows by a probe that never met its speaker, from scikit-learn."""
    (fold,) = run.folds
    clean = np.array([bands(audio.read(each.path)) for each in run.utterances], np.float64)
    speakers = np.array([each.speaker for each in run.utterances])
    train_rows = np.array(fold.train)
    strength = run.teacher.card["probe"]["strengths"][fold.name]
    found = {}
    parts = GroupKFold(min(5, len(set(speakers[train_rows])))).split(train_rows, groups=speakers[train_rows])
    for known, held_out in parts:
        rows = train_rows[known]
        mean, deviation = clean[rows].mean(axis=0), clean[rows].std(axis=0)
        model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
        model.fit((clean[rows] - mean) / deviation, run.selection.labels[rows])
        for utterance in train_rows[held_out]:
            found[int(utterance)] = lambda row, m=model, a=mean, b=deviation: m.predict_log_proba(
                ((row - a) / b)[None]
            )[0]
    return found


def test_epochs_hear_the_views_that_the_teacher_was_asked_on_in_turn(corpus, heard, tmp_path):
    run = begun(corpus, tmp_path)
    (fold,) = run.folds
    clips = [each for each in heard if len(each) == SAMPLES]
    assert len(clips) == VIEWS * len(fold.train)
    features = np.asarray(front_end_of(run.front_end, "mfcc", SAMPLES).predict_on_batch(np.stack(clips)))
    probes, epochs = probes_of(run), drawn(run, epochs=2 * VIEWS + 1)
    met = set()
    for epoch, rows in enumerate(epochs):
        assert sorted(rows) == list(fold.train)
        for utterance, (feature, logits, embedding) in rows.items():
            distance = np.abs(features - feature).max(axis=(1, 2, 3))
            which = int(distance.argmin())
            assert distance[which] < 1e-3 < np.partition(distance, 1)[1]
            met.add(which)
            row = bands(clips[which])
            np.testing.assert_allclose(embedding, row, rtol=1e-5)
            expected = probes[utterance](row.astype(np.float64))
            np.testing.assert_allclose(log_softmax(logits.astype(float)), expected, atol=5e-3)
            if epoch >= VIEWS:  # the same again, bit for bit
                for one, other in zip(epochs[epoch - VIEWS][utterance], rows[utterance], strict=True):
                    np.testing.assert_array_equal(one, other)
    assert len(met) == len(clips), "each view of each utterance has its turn"
    # and a run that goes on in the middle has what it would have had
    for one, other in zip(epochs[VIEWS - 1 :], drawn(run, first_epoch=VIEWS - 1, epochs=2), strict=False):
        for utterance in one:
            for mine, theirs in zip(one[utterance], other[utterance], strict=True):
                np.testing.assert_array_equal(mine, theirs)
    # what validates and tests is answered as it is
    outputs = teacher_outputs(run, fold)
    clean = teachers.aligned(run.teacher, run.utterances, run.classes, fold.name)
    np.testing.assert_array_equal(outputs.logits, clean)


def test_with_zeros_around_it_the_part_that_a_teacher_hears_is_the_students_clip(corpus, heard, tmp_path):
    run = begun(corpus, tmp_path, input_seconds=4.0, folds=("#2",))  # longer than the recordings
    (fold,) = run.folds
    views = teacher_views.task_of(run, [fold]).folds[fold.name]
    handed = heard[-VIEWS * len(fold.train) :]
    (epochs,) = drawn(run, first_epoch=VIEWS - 1)
    starts = views.augmenter.parts(views.utterances, views.bank.seed, VIEWS - 1)
    for utterance, waveform, (start, _) in zip(fold.train, handed[-len(fold.train) :], starts, strict=True):
        assert len(waveform) < 64_000
        clip = np.pad(waveform, (start, 64_000 - start - len(waveform)))
        (expected,) = front_end_of(run.front_end, "mfcc", 64_000).predict_on_batch(clip[None])
        np.testing.assert_allclose(epochs[utterance][0], expected, atol=1e-3)


def answers(run: Experiment):
    (fold,) = run.folds
    views = teacher_outputs(run, fold).views
    return [np.array(each.values) for each in (views.logits, views.embedding)]


def test_a_run_that_was_killed_goes_on_and_has_the_same_bank(corpus, heard, tmp_path, monkeypatch):
    whole = answers(
        begun(corpus, tmp_path / "whole", "run", teacher=f"tflite:{tmp_path / 'double.tflite'}#x")
    )
    told = [each for each in heard if len(each) == SAMPLES]
    heard.clear()
    made = user_model.tflite_encoder("")
    blocks = iter(range(100))

    def killed(waveforms):
        if next(blocks) == 2:  # one of the clean recordings, one of the first view, and now
            raise KeyboardInterrupt
        return made.encode(waveforms)

    monkeypatch.setattr(
        user_model, "tflite_encoder", lambda _: Encoder("double", made.identity, (BANDS,), killed)
    )
    with pytest.raises(KeyboardInterrupt):
        begun(corpus, tmp_path)
    assert not (tmp_path / "run" / "teacher_views").exists()
    before = len(heard)
    monkeypatch.setattr(user_model, "tflite_encoder", lambda _: made)
    again = begun(corpus, tmp_path)
    assert len(heard) - before == (VIEWS - 1) * len(again.folds[0].train), "what was kept is not read again"
    for one, other in zip(whole, answers(again), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(told, [each for each in heard if len(each) == SAMPLES], strict=True):
        np.testing.assert_array_equal(one, other)
    # and what was asked is not asked again
    before = len(heard)
    begun(corpus, tmp_path)
    assert len(heard) == before


def test_folds_share_the_views_that_are_made_of_the_recording_alone(corpus, heard, tmp_path):
    begun(corpus, tmp_path, folds=("#1", "#2"), augmentation="noise:chance=1")
    clips = {each.tobytes() for each in heard if len(each) == SAMPLES}
    assert len(clips) == len([each for each in heard if len(each) == SAMPLES]) == VIEWS * 18 - VIEWS * 3
    heard.clear()
    begun(corpus, tmp_path, "other", folds=("#1",), augmentation="noise:chance=1", seed=1)
    assert len(heard) == VIEWS * 12, "a bank of another seed is another bank"
    assert not {each.tobytes() for each in heard} & clips


def test_a_file_of_other_views_is_refused_in_a_line(corpus, heard, tmp_path):
    one = begun(corpus, tmp_path, "one", augmentation="noise:chance=1")
    other = begun(corpus, tmp_path, "other", augmentation="noise:chance=0.5")
    (fold,) = one.folds
    for name in (f"{fold.name}.npz", f"{fold.name}.embedding.npy"):
        source = one.folder.teacher_views / name
        (other.folder.teacher_views / name).write_bytes(source.read_bytes())
    with pytest.raises(
        UserError, match="of other views: its augmentation is noise:chance=1, not noise; re"
    ) as found:
        teacher_outputs(other, fold)
    assert "\n" not in str(found.value)
    path = one.folder.teacher_views / f"{fold.name}.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"is damaged .*the same command makes it anew"):
        teacher_outputs(one, fold)
    (other.folder.teacher_views / f"{fold.name}.npz").unlink()
    answers(other)  # made anew


def test_a_view_that_is_not_finite_is_named(corpus, heard, tmp_path, monkeypatch):
    def encode(waveforms):
        for waveform in waveforms:
            clips = [each for each in heard if len(each) == SAMPLES]
            heard.append(waveform)
            is_bad = len(waveform) == SAMPLES and len(clips) == 12 + 4
            yield np.full((1, BANDS), np.nan) if is_bad else bands(waveform)[None]

    monkeypatch.setattr(user_model, "tflite_encoder", lambda _: Encoder("double", {}, (BANDS,), encode))
    with pytest.raises(
        UserError, match="double-views gives numbers that are not finite in float32 for view 1 of"
    ) as found:
        begun(corpus, tmp_path)
    speaker = sorted(SPEAKERS)[0]
    assert f"{speaker}-" not in str(found.value)  # who tests has no views
    assert any(
        f"view 1 of {name}-{emotion}:" in str(found.value) for name in SPEAKERS for emotion in EMOTIONS
    )


@pytest.mark.parametrize("by_label", [False, True])
def test_views_are_mixed_as_clean_outputs_are(tmp_path, by_label):
    rng, labels = np.random.default_rng(0), np.array([2, 0, 1, 1, 0, 2, 1])
    utterances = np.array([0, 2, 3, 5])
    views = FoldViews(None, None, utterances, list("abcd"))
    task = view_files.ViewTask({"one": views}, tmp_path, {"views": 2}, embeddings=True)
    logits, embeddings = rng.normal(size=(2, 2, 4, 3)), [rng.normal(size=(2, 4, n)) for n in (5, 1)]
    for number in range(2):
        rows = embeddings[number].astype(np.float32)
        task.of_member(number).write("one", logits[number].astype(np.float32), iter(rows), rows.shape[2])
    temperatures, weights = (2.0, 0.5), (1.0, 3.0)
    view_files.write_mixture(
        task, [{"one": each} for each in temperatures], weights, labels if by_label else None
    )
    found = task.read("one")
    for view, place in itertools.product(range(2), range(4)):
        each = [logits[number, view, place] / temperatures[number] for number in range(2)]
        counted = np.array(weights)
        if by_label:  # of two, w = p / (p + q)
            shares = np.exp([row[labels[utterances[place]]] - logsumexp(row) for row in each])
            counted = counted * shares / shares.sum()
        expected = sum(w * row for w, row in zip(counted, each, strict=True)) / counted.sum()
        np.testing.assert_allclose(found.logits[view, place], expected, rtol=1e-4, atol=1e-5)
        side_by_side = np.concatenate([embeddings[0][view, place], embeddings[1][view, place]])
        np.testing.assert_allclose(found.embedding[view, place], side_by_side, rtol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.embedding.npy", "one.npz"]


def test_components_of_views_are_those_that_were_fitted_on_clean_rows(corpus, heard, tmp_path):
    run = begun(corpus, tmp_path, teacher_components=2)
    (fold,) = run.folds
    outputs = teacher_outputs(run, fold)
    clean = np.array([bands(audio.read(each.path)) for each in run.utterances], float)[list(fold.train)]
    mean, deviation = clean.mean(axis=0), clean.std(axis=0)
    _, _, axes = np.linalg.svd((clean - mean) / deviation, full_matrices=False)
    known = ((clean - mean) / deviation) @ axes[:2].T
    clips = [each for each in heard if len(each) == SAMPLES]
    for view in range(VIEWS):
        rows = np.array([bands(clips[view * len(clean) + place]) for place in range(len(clean))], float)
        expected = ((rows - mean) / deviation) @ axes[:2].T / known.std(axis=0, ddof=1)
        limit = np.abs(known / known.std(axis=0, ddof=1)).max()
        found = outputs.views.embedding.of(view)[np.array(fold.train)]
        np.testing.assert_allclose(np.abs(found), np.minimum(np.abs(expected), limit), rtol=1e-3, atol=1e-3)


def test_two_probes_teach_a_student_of_their_views_to_the_end(corpus, heard, tmp_path, monkeypatch, capsys):
    file = tmp_path / "double.tflite"
    both = f"tflite:{file}#x+tflite={file}#y*2"
    arguments = [
        "--run", "taught", "--folds", "#1,#2", "-id", "0.5", "-kd", "KD+hint:0.1", "--teacher", both,
        "--teacher_view", "same", "--teacher_views", "2", "--teacher_components", "3", "--epochs", "3",
        "--standardise_speakers", "--augment", "noise:chance=1,specaugment,mixup", "--no-export",
    ]  # fmt: skip
    assert train(corpus, tmp_path, *arguments) == 0
    folder = RunFolder(tmp_path / "taught")
    assert json.loads(folder.metrics.read_text())["teacher"]["made_by"].startswith(
        "mean of 2: probe on double"
    )
    assert not folder.teacher_views.exists(), "nothing of it is needed any more"
    assert train(corpus, tmp_path, *arguments) == 0
    assert train(corpus, tmp_path, *arguments[:-1], "--teacher", f"{both}+{tmp_path / 'a.npz'}") == 2
    assert "takes trained networks or probes" in error_of(capsys)
