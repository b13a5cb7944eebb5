"""Second heads against loops, algebra and scikit-learn."""

import keras
import numpy as np
import pytest

from light_sernet_kd import students
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.students import FEATURE_STUDENTS
from light_sernet_kd.students.enrolled import EnrolledHead, pooled_stages
from light_sernet_kd.training import enrolled
from light_sernet_kd.training.enrolled import embedder, fit_head, stages

SHAPES = [(3, 4, 2), (2, 4, 3)]
WIDTH = 2 * (2 + 3)


def test_an_embedding_is_the_mean_of_each_channel_and_how_its_frames_differ():
    rng = np.random.default_rng(0)
    tensors = [rng.normal(size=(5, *shape)).astype(np.float32) for shape in SHAPES]
    found = keras.ops.convert_to_numpy(pooled_stages(tensors))
    for clip in range(5):
        expected = []
        for tensor in tensors:
            frames, _, channels = tensor.shape[1:]
            means = [
                [tensor[clip, frame, :, channel].mean() for frame in range(frames)]
                for channel in range(channels)
            ]
            expected += [np.mean(row) for row in means] + [np.std(row) for row in means]
        np.testing.assert_allclose(found[clip], expected, atol=1e-6)


def test_stages_are_what_the_later_convolutions_take():
    student = students.build("light_sernet", (60, 40, 1), 2, width=0.2)
    taken = stages(student)
    # The branches joined, then each block's pool; pooled by 2 × 2, at last by 2 × 1.
    assert [tensor.shape[1:3] for tensor in taken] == [(30, 20), (15, 10), (8, 5), (4, 5), (2, 5)]
    assert [tensor.shape[-1] for tensor in taken] == [18, 13, 19, 26, 32]
    features = np.random.default_rng(0).normal(size=(2, 60, 40, 1)).astype(np.float32)
    outputs = keras.Model(student.inputs[0], taken)(features)
    expected = keras.ops.convert_to_numpy(pooled_stages(outputs))
    np.testing.assert_allclose(embedder(student).predict_on_batch(features), expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in FEATURE_STUDENTS if not name.startswith("light_sernet")])
def test_of_other_networks_the_last_vector_is_taken(name):
    student = students.build(name, (64, 64, 1), 3, width=0.25)
    (taken,) = stages(student)
    assert taken.shape == (None, embedder(student).output_shape[-1])
    weights, _ = student.layers[-1].get_weights()
    assert weights.shape == (taken.shape[-1], 3)


def spoken(speakers: int = 6, per_speaker: int = 30, seed: int = 0):
    """Embeddings of two classes, 3 apart in half of the columns; speakers differ by far more."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"s{number}" for number in range(speakers)], per_speaker)
    labels = np.tile([0, 1], speakers * per_speaker // 2)
    voices = np.repeat(rng.normal(0, 20, (speakers, WIDTH)), per_speaker, axis=0)
    emotion = 3.0 * labels[:, None] * (np.arange(WIDTH) < WIDTH // 2)
    return voices + emotion + rng.normal(size=(len(labels), WIDTH)), labels, names


def test_a_speaker_who_is_known_is_recognised_and_one_who_is_not_is_guessed():
    embeddings, labels, names = spoken()
    head = fit_head(embeddings, labels, names, SHAPES, 2, seed=0)
    unseen, truth, who = spoken(seed=1)
    means = np.stack([unseen[who == name].mean(axis=0) for name in who])
    known = head.logits(unseen, means, np.full(len(unseen), 1000)).argmax(axis=1)
    unknown = head.logits(unseen, means, np.zeros(len(unseen))).argmax(axis=1)
    assert np.mean(known == truth) > 0.9
    assert np.mean(unknown == truth) < 0.8


def test_the_head_is_what_scikit_learn_fits_to_the_same_rows(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    # All others of the speaker are known, in every draw: nothing is left to chance.
    monkeypatch.setattr(enrolled, "CLIPS", (1000,))
    monkeypatch.setattr(enrolled, "DRAWS", 1)
    embeddings, labels, names = spoken(3, 10)
    labels = np.arange(30) % 3
    head = fit_head(embeddings, labels, names, SHAPES, 3, seed=0)
    scale = np.sqrt(np.mean([embeddings[names == name].var(axis=0) for name in set(names)], axis=0)) + 1e-4
    scale *= np.sqrt(np.concatenate([np.full(width, width * 4 / 3) for width in (2, 2, 3, 3)]))
    rows = []
    for row in range(30):
        others = [other for other in range(30) if names[other] == names[row] and other != row]
        share = len(others) / (len(others) + enrolled.PRIOR_CLIPS)
        centre = embeddings.mean(axis=0) + share * (embeddings[others].mean(axis=0) - embeddings.mean(axis=0))
        rows.append((embeddings[row] - centre) / scale)
    model = LogisticRegression(C=enrolled.PENALTY, max_iter=1000, class_weight="balanced").fit(rows, labels)
    np.testing.assert_allclose(head.weights, (model.coef_ / scale).T, atol=2e-4)
    np.testing.assert_allclose(head.bias, model.intercept_, atol=2e-3)


def test_a_head_of_two_classes_has_scikit_learns_probabilities(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setattr(enrolled, "CLIPS", (0,))
    monkeypatch.setattr(enrolled, "DRAWS", 1)
    embeddings, labels, names = spoken(3, 10)
    head = fit_head(embeddings, labels, names, SHAPES, 2, seed=0)
    logits = head.logits(embeddings, embeddings, np.zeros(30))
    scale = np.sqrt(np.mean([embeddings[names == name].var(axis=0) for name in set(names)], axis=0)) + 1e-4
    scale *= np.sqrt(np.concatenate([np.full(width, width * 4 / 3) for width in (2, 2, 3, 3)]))
    rows = (embeddings - embeddings.mean(axis=0)) / scale
    model = LogisticRegression(C=enrolled.PENALTY, max_iter=1000, class_weight="balanced").fit(rows, labels)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, model.predict_proba(rows), atol=1e-3)


def test_what_is_known_of_a_recording_is_never_the_recording_itself():
    rng = np.random.default_rng(0)
    speakers = np.array(["a"] * 4 + ["b"] + ["c"] * 30)
    rows = np.eye(35)  # a mean tells which rows it is of
    for _ in range(20):
        fitted = np.arange(35)
        means, counts = enrolled._known(rows, speakers, fitted, rng)
        for row in fitted:
            taken = np.flatnonzero(means[row])
            assert row not in taken
            assert len(taken) == counts[row]
            assert {*speakers[taken]} <= {speakers[row]}
        assert counts[4] == 0  # alone
        assert {*counts[5:]} <= {*enrolled.CLIPS}
        assert counts[:4].max() <= 3


def test_large_corpora_are_fitted_on_a_part(monkeypatch):
    monkeypatch.setattr(enrolled, "MOST_ROWS", 100)
    embeddings, labels, names = spoken(10, 200)
    head = fit_head(embeddings, labels, names, SHAPES, 2, seed=0)
    means = np.stack([embeddings[names == name].mean(axis=0) for name in names])
    assert np.mean(head.logits(embeddings, means, np.full(2000, 1000)).argmax(axis=1) == labels) > 0.8


def test_the_seed_decides_the_draws():
    embeddings, labels, names = spoken()
    first, again, other = (fit_head(embeddings, labels, names, SHAPES, 2, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.weights, again.weights)
    assert not np.array_equal(first.weights, other.weights)


@pytest.mark.parametrize("present", [(1,), (0, 2)])
def test_classes_without_a_recording_are_never_answered(present):
    embeddings, _, names = spoken(3, 10)
    labels = np.resize(present, 30)
    head = fit_head(embeddings, labels, names, SHAPES, 3, seed=0)
    answers = head.logits(embeddings, embeddings, np.zeros(30)).argmax(axis=1)
    assert {*answers.tolist()} <= {*present}


def test_a_head_takes_embeddings_about_as_much_of_the_speaker_as_is_known():
    head = EnrolledHead(np.array([1.0, 2.0]), 3.0, np.eye(2), np.array([0.5, 0.0]), ((2,),))
    found = head.logits([[4.0, 4.0]] * 3, [[7.0, 2.0]] * 3, [0, 3, 9])
    # The centre is (1, 2), then half, then three quarters of the way to (7, 2).
    np.testing.assert_allclose(found, [[3.5, 2.0], [0.5, 2.0], [-1.0, 2.0]])
    np.testing.assert_allclose(
        head.with_temperature(2.0).logits([[4.0, 4.0]], [[7.0, 2.0]], [3]), [[0.25, 1.0]]
    )


def test_a_student_without_an_embedding_is_refused():
    student = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 4), keras.layers.Softmax()])
    with pytest.raises(UserError, match="no embedding"):
        stages(student)
