"""Frozen teachers that are asked on the views that the student hears, by a reader that keeps what it heard."""

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
from light_sernet_kd.experiment import teacher_views
from light_sernet_kd.experiment.networks import Training, job_of
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.experiment.teacher import teacher_outputs
from light_sernet_kd.reporting import display
from light_sernet_kd.teachers import views as view_files

pytestmark = pytest.mark.usefixtures("undrawn", "unrendered", "shallow")

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
    (tmp_path / name).mkdir(exist_ok=True)
    made = config.make_settings(**plain | settings)
    return Experiment(made, places, tmp_path / name, display.Display(verbose=0), "")


def drawn(run: Experiment, *, first_epoch=0, epochs=1):
    """By epoch: utterance → features, logits and embedding of its example in the student's batches."""
    (fold,) = run.folds
    job = job_of(Training(run, "student", fold, teacher_outputs(run, fold)))
    # numbers of utterances in the place of labels, which say whose example is whose
    numbers = np.arange(len(run.utterances), dtype=np.int32)
    examples = batching.Examples(job.examples.rows, numbers, run.classes)
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
