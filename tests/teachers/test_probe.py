"""The probe against scikit-learn and a loop over held-out speakers; test speakers decide nothing."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_log_loss

from light_sernet_kd import audio, evaluation, teachers
from light_sernet_kd.corpora import Utterance, registry
from light_sernet_kd.data import protocols
from light_sernet_kd.data.protocols import ALL_SPEAKERS, Fold
from light_sernet_kd.encoders import embedding_cache, yamnet
from light_sernet_kd.errors import UserError
from light_sernet_kd.teachers import probe

CLASSES = ("anger", "fear", "joy")
RNG = np.random.default_rng(0)
SPEAKERS = [f"s{n % 7}" for n in range(140)]
LABELS = RNG.integers(3, size=140)
UTTERANCES = [
    Utterance(f"u{n}", Path(f"{n}.wav"), CLASSES[label], speaker)
    for n, (label, speaker) in enumerate(zip(LABELS.tolist(), SPEAKERS, strict=True))
]
# Classes overlap, speakers differ, and the features are of very different size.
VALUES = (
    RNG.normal(size=(3, 10))[LABELS] + RNG.normal(size=(7, 10))[[int(s[1]) for s in SPEAKERS]]
    + 1.5 * RNG.normal(size=(140, 10))
) * 10.0 ** RNG.integers(-3, 4, size=10) + 5  # fmt: skip
FOLDS = protocols.make_folds("loso", UTTERANCES, {u.id: u.id for u in UTTERANCES}, seed=0)[:2]
PLAIN = probe.ProbeOptions(cross_fit=False)
FINAL = Fold(ALL_SPEAKERS, tuple(range(140)), (), ())


def made(folds=FOLDS, values=VALUES, utterances=UTTERANCES, **settings) -> teachers.Teacher:
    options = probe.ProbeOptions(**settings)
    return probe.probe_teacher(values, utterances, CLASSES, folds, card={"made_by": "probe"}, options=options)


def reference(train, rows, strength, class_weight=None) -> np.ndarray:
    """Log probabilities of `rows`, from scikit-learn and standardisation written out."""
    mean, deviation = VALUES[train].mean(axis=0), VALUES[train].std(axis=0)
    model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000, class_weight=class_weight)
    model.fit((VALUES[train] - mean) / deviation, LABELS[train])
    return model.predict_log_proba((VALUES[rows] - mean) / deviation)


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("balanced", [False, True])
def test_the_penalty_is_the_best_on_the_validation_set_and_the_logits_are_log_odds(balanced):
    teacher = made(cross_fit=False, balanced=balanced)
    weight = "balanced" if balanced else None
    for number, fold in enumerate(FOLDS):
        train, validation = list(fold.train), list(fold.validation)
        losses = [
            reference_log_loss(
                LABELS[validation], np.exp(reference(train, validation, strength, weight)), labels=[0, 1, 2]
            )
            for strength in probe.STRENGTHS
        ]
        best = probe.STRENGTHS[int(np.argmin(losses))]
        assert teacher.card["probe"]["strengths"][fold.name] == best
        np.testing.assert_allclose(
            log_probabilities(teacher.logits[number]), reference(train, range(140), best, weight), atol=2e-3
        )
    assert teacher.logits.dtype == np.float32


def test_training_logits_are_from_probes_that_did_not_see_the_speaker():
    teacher = made()
    for number, fold in enumerate(FOLDS):
        strength = teacher.card["probe"]["strengths"][fold.name]
        train = np.array(fold.train)
        parts = probe.held_out_parts(np.array(SPEAKERS)[train])
        assert len(parts) == 5
        np.testing.assert_array_equal(np.sum(parts, axis=0), 1)
        for part in parts:
            inside, outside = train[part], train[~part]
            assert not {SPEAKERS[i] for i in inside} & {SPEAKERS[i] for i in outside}
            np.testing.assert_allclose(
                log_probabilities(teacher.logits[number][inside]),
                reference(outside, inside, strength),
                atol=2e-3,
            )
        others = [*fold.validation, *fold.test]
        np.testing.assert_allclose(
            log_probabilities(teacher.logits[number][others]), reference(train, others, strength), atol=2e-3
        )


def test_cross_fitting_takes_the_optimism_out_of_training_logits():
    wide = np.concatenate([VALUES, RNG.normal(size=(140, 300))], axis=1)
    optimistic, honest = made(values=wide, cross_fit=False), made(values=wide)
    for number, fold in enumerate(FOLDS):
        train, test = list(fold.train), list(fold.test)
        loss = [
            evaluation.log_loss(LABELS[rows], teacher.logits[number][rows])
            for teacher, rows in ((optimistic, train), (honest, train), (honest, test))
        ]
        assert loss[0] < 0.7 * loss[1]
        assert abs(loss[1] - loss[2]) < 0.3


def test_test_speakers_decide_nothing():
    fold = FOLDS[0]
    changed, wrong = VALUES.copy(), list(UTTERANCES)
    for i in fold.test:
        changed[i] *= -3
        wrong[i] = Utterance(wrong[i].id, wrong[i].path, CLASSES[(LABELS[i] + 1) % 3], wrong[i].speaker)
    one, two = made([fold]), made([fold], changed, wrong)
    others = [*fold.train, *fold.validation]
    np.testing.assert_array_equal(one.logits[0][others], two.logits[0][others])
    assert (one.logits[0][list(fold.test)] != two.logits[0][list(fold.test)]).any()


@pytest.mark.parametrize("cross_fit", [True, False])
def test_a_validation_set_that_tests_chooses_nothing(cross_fit):
    test = FOLDS[0].test
    rest = tuple(i for i in range(140) if i not in test)
    published = Fold("s0", rest, test, test)
    wrong = [
        Utterance(u.id, u.path, CLASSES[(LABELS[i] + 1) % 3] if i in test else u.emotion, u.speaker)
        for i, u in enumerate(UTTERANCES)
    ]
    one = made([published], cross_fit=cross_fit)
    two = made([published], utterances=wrong, cross_fit=cross_fit)
    assert one.card["probe"] == two.card["probe"]
    np.testing.assert_array_equal(one.logits, two.logits)


def test_without_a_validation_set_speakers_of_training_take_turns():
    (strength,) = made([FINAL]).card["probe"]["strengths"].values()
    losses = []
    for tried in probe.STRENGTHS:
        logits = np.empty((140, 3))
        for part in probe.held_out_parts(np.array(SPEAKERS)):
            logits[part] = reference(~part, part, tried)
        losses.append(reference_log_loss(LABELS, np.exp(logits), labels=[0, 1, 2]))
    assert strength == probe.STRENGTHS[int(np.argmin(losses))]


def test_the_same_data_give_the_same_bits():
    np.testing.assert_array_equal(made().logits, made().logits)


def test_the_card_tells_who_was_in_training_and_what_is_known_of_the_encoder():
    teacher = made([*FOLDS, FINAL])
    assert teacher.made_by == "probe"
    assert teacher.folds == ("s0", "s1", ALL_SPEAKERS)
    assert teacher.card["train_speakers"] == {
        "s0": ["s2", "s3", "s4", "s5", "s6"],
        "s1": ["s0", "s3", "s4", "s5", "s6"],
        ALL_SPEAKERS: [f"s{n}" for n in range(7)],
    }
    assert teachers.stamps(teacher, FOLDS, UTTERANCES) == ()


def test_a_probe_survives_its_file_with_its_embeddings(tmp_path):
    teacher = made(values=VALUES.astype(np.float16))
    teachers.write(tmp_path / "t.npz", teacher)
    found = teachers.read(tmp_path / "t.npz")
    np.testing.assert_array_equal(found.logits, teacher.logits)
    assert found.card == teacher.card
    np.testing.assert_array_equal(
        teachers.aligned_embeddings(found, UTTERANCES[::-1], "s1"), VALUES.astype(np.float16)[::-1]
    )


def test_two_classes_are_log_odds_too():
    rows = np.flatnonzero(LABELS < 2)
    utterances = [UTTERANCES[i] for i in rows]
    folds = protocols.make_folds("loso", utterances, {u.id: u.id for u in utterances}, seed=0)[:1]
    teacher = probe.probe_teacher(VALUES[rows], utterances, CLASSES[:2], folds, card={}, options=PLAIN)
    train = rows[list(folds[0].train)]
    expected = reference(train, rows, teacher.card["probe"]["strengths"]["s0"])
    np.testing.assert_allclose(log_probabilities(teacher.logits[0]), expected, atol=2e-3)


def test_a_class_that_training_lacks_is_the_least_likely():
    fold = FOLDS[0]
    train = tuple(i for i in fold.train if LABELS[i] != 1)
    teacher = made([Fold("s0", train, fold.validation, fold.test)])
    assert np.isfinite(teacher.logits).all()
    rest = [*fold.validation, *fold.test]
    odds = teacher.logits[0][rest]
    np.testing.assert_allclose(odds[:, [0, 2]].min(axis=1) - odds[:, 1], np.log(len(train)), rtol=1e-4)


def test_a_speaker_with_all_of_a_class_is_no_obstacle():
    utterances = [
        Utterance(f"u{n}", Path("x"), CLASSES[n % 2], f"s{n % 2}" if n < 40 else "t") for n in range(60)
    ]
    fold = Fold("t", tuple(range(40)), tuple(range(40, 50)), tuple(range(50, 60)))
    values = RNG.normal(size=(60, 4)) + np.array([[n % 2] for n in range(60)])
    teacher = probe.probe_teacher(values, utterances, CLASSES[:2], [fold], card={})
    assert np.isfinite(teacher.logits).all()


def test_what_cannot_be_trained_is_refused():
    fold = FOLDS[0]
    joy = tuple(i for i in fold.train if LABELS[i] == 2)
    with pytest.raises(UserError, match="fold s0 trains on joy alone; a probe needs 2 emotions"):
        made([Fold("s0", joy, fold.validation, fold.test)])


def test_one_speaker_alone_is_split_by_utterances():
    parts = probe.held_out_parts(np.array(["s"] * 12))
    assert sorted(part.sum() for part in parts) == [2, 2, 2, 3, 3]
    np.testing.assert_array_equal(np.sum(parts, axis=0), 1)


# Wide rows, and rows that say nothing


def drawn_rows(monkeypatch, width=30):
    """Some columns of one value, one far off in a test utterance alone, and more columns than `WIDE`."""
    monkeypatch.setattr(probe, "WIDE", width - 1)
    rng = np.random.default_rng(1)
    values = np.concatenate([VALUES, rng.normal(size=(140, width - 10))], axis=1)
    values[:, 12] = 7
    values[:, 13] = 0.1 + 1e-9 * rng.normal(size=140)
    values[FOLDS[0].test[0], 14] = 4e11
    return values


def test_wide_rows_give_the_logits_of_the_rows_themselves(monkeypatch):
    values = drawn_rows(monkeypatch)
    values[:, 13:15] = np.random.default_rng(2).normal(size=(140, 2))  # nothing is far off
    turned = made(FOLDS[1:], values)
    monkeypatch.setattr(probe, "WIDE", 30)
    plain = made(FOLDS[1:], values)
    assert turned.card == plain.card
    np.testing.assert_allclose(turned.logits, plain.logits, atol=5e-3)
    np.testing.assert_array_equal(plain.embeddings[0], values)


def test_components_are_those_of_scikit_learn_in_training(monkeypatch):
    from sklearn.decomposition import PCA

    values = drawn_rows(monkeypatch)
    monkeypatch.setattr(probe, "COMPONENTS", 3)
    fold = FOLDS[1]
    train, others = list(fold.train), list(fold.validation)
    found = made([fold], values).embeddings
    assert found.shape == (1, 140, 3)
    assert found.dtype == np.float32
    deviation = np.where(values[train].std(axis=0) > 0, values[train].std(axis=0), 1)
    centred = (values - values[train].mean(axis=0)) / deviation
    pca = PCA(3, svd_solver="full").fit(centred[train])
    expected = pca.transform(centred) / np.sqrt(pca.explained_variance_ * (len(train) - 1) / len(train))
    for rows in (train, others):
        np.testing.assert_allclose(np.abs(found[0][rows]), np.abs(expected[rows]), atol=1e-3)


def test_a_value_that_is_far_off_moves_no_logit_far(monkeypatch):
    values = drawn_rows(monkeypatch)
    fold, row = FOLDS[0], FOLDS[0].test[0]
    logits = made([fold], values).logits[0]
    assert np.isfinite(logits).all()
    values[row, 14] = 4e30
    np.testing.assert_array_equal(made([fold], values).logits[0], logits)
    rows = probe._standardiser(values[list(fold.train)], bounded=True)(values)
    assert np.abs(rows).max() == np.sqrt(len(fold.train)) == rows[row, 14]
    assert not rows[:, 12].any()


# Speakers


def by_hand(values, fold, *, knows_tested=False):
    """Every row about its speaker's mean, from a loop over utterances."""
    rows = np.empty_like(values)
    for i, speaker in enumerate(SPEAKERS):
        own = [j for j, other in enumerate(SPEAKERS) if other == speaker]
        if not knows_tested:
            own = [j for j in own if j not in fold.test]
        own = own if len(own) >= 5 else list(fold.train)
        rows[i] = (values[i] - values[own].mean(axis=0)) / values[own].std(axis=0)
    return rows


def test_rows_are_about_their_speakers_means_and_tested_ones_about_trainings():
    for knows_tested in (False, True):
        rows = probe.rows_by_speaker(VALUES, np.array(SPEAKERS), FOLDS[0], knows_tested=knows_tested)
        np.testing.assert_allclose(rows, by_hand(VALUES, FOLDS[0], knows_tested=knows_tested), atol=1e-9)


def test_a_speaker_of_few_recordings_is_standardised_as_training_is():
    speakers = np.array(["a"] * 9 + ["b"] * 4)
    values = RNG.normal(size=(13, 2))
    rows = probe.rows_by_speaker(values, speakers, Fold("x", tuple(range(13)), (), ()))
    np.testing.assert_allclose(rows[9:], ((values - values.mean(axis=0)) / values.std(axis=0))[9:])
    np.testing.assert_allclose(rows[:9].mean(axis=0), 0, atol=1e-12)


def test_a_probe_on_standardised_speakers_is_that_of_rows_standardised_by_hand():
    teacher = made(standardise_speakers=True)
    known = []
    for number, fold in enumerate(FOLDS):
        strict = made([fold], by_hand(VALUES, fold))
        assert teacher.card["probe"]["strengths"][fold.name] == strict.card["probe"]["strengths"][fold.name]
        np.testing.assert_allclose(teacher.logits[number], strict.logits[0], atol=2e-3)
        knowing = made([fold], by_hand(VALUES, fold, knows_tested=True)).logits[0][list(fold.test)]
        known.append(knowing.argmax(axis=1) == LABELS[list(fold.test)])
    found = teacher.card["probe"]["known_speakers"]
    assert found["stamp"] == "the teacher knew the test speaker's recordings, without labels"
    assert found["wa"] == pytest.approx(np.concatenate(known).mean())
    assert found["folds"]["s1"]["wa"] == pytest.approx(known[1].mean())
    assert teachers.stamps(teacher, FOLDS, UTTERANCES) == ()  # of its logits, which know nobody who tests
    np.testing.assert_array_equal(teacher.embeddings[0], VALUES)


def test_speakers_who_test_decide_nothing_of_standardised_ones():
    fold, changed = FOLDS[0], VALUES.copy()
    changed[list(fold.test)] *= -3
    one, two = (made([fold], values, standardise_speakers=True) for values in (VALUES, changed))
    others = [*fold.train, *fold.validation]
    np.testing.assert_array_equal(one.logits[0][others], two.logits[0][others])
    # and one tested recording nothing of another
    changed = VALUES.copy()
    changed[fold.test[0]] *= -3
    two = made([fold], changed, standardise_speakers=True)
    np.testing.assert_array_equal(one.logits[0][list(fold.test[1:])], two.logits[0][list(fold.test[1:])])


def test_what_is_no_utterance_is_standardised_as_training_is():
    said = {}
    teacher = probe.probe_teacher(
        VALUES, UTTERANCES, CLASSES, FOLDS[:1], card={},
        options=probe.ProbeOptions(standardise_speakers=True), on_fold=said.__setitem__,
    )  # fmt: skip
    tested = list(FOLDS[0].test)
    np.testing.assert_allclose(said["s0"].logits(VALUES[tested]), teacher.logits[0][tested], atol=1e-5)
    assert said["s0"].components is None


@pytest.mark.parametrize("standardised", [False, True])
def test_a_training_utterance_that_sounds_otherwise_is_answered_by_who_never_met_its_speaker(standardised):
    """Probes are fitted on clean rows. Others are standardised by speaker among themselves."""
    fold, said = FOLDS[0], {}
    train, speakers = np.array(fold.train), np.array(SPEAKERS)
    teacher = probe.probe_teacher(
        VALUES, UTTERANCES, CLASSES, [fold], card={},
        options=probe.ProbeOptions(standardise_speakers=standardised), on_fold=said.__setitem__,
    )  # fmt: skip
    middle, spread = VALUES.mean(axis=0), VALUES.std(axis=0)
    view = middle + 1.3 * (VALUES[train] - middle) + RNG.normal(size=(len(train), 10)) * spread
    logits, components = said[fold.name].training(view)
    assert components is None
    clean = by_hand(VALUES, fold) if standardised else VALUES
    rows = view.copy()
    if standardised:
        for speaker in set(speakers[train]):
            own = speakers[train] == speaker
            rows[own] = (view[own] - view[own].mean(axis=0)) / view[own].std(axis=0)
    strength = teacher.card["probe"]["strengths"][fold.name]
    for held_out in probe.held_out_parts(speakers[train]):
        known = train[~held_out]
        mean, deviation = clean[known].mean(axis=0), clean[known].std(axis=0)
        model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
        model.fit((clean[known] - mean) / deviation, LABELS[known])
        expected = model.predict_log_proba((rows[held_out] - mean) / deviation)
        np.testing.assert_allclose(log_probabilities(logits[held_out]), expected, atol=3e-3)


def test_yamnet_knows_emotions_of_speakers_it_never_heard(shared_data, tmp_path):
    """One fold of EMO-DB: far above the chance of one in seven, and no stamp."""
    path = shared_data / "models" / yamnet.FILE
    if not path.is_file():
        pytest.skip(f"no YAMNet in {path}: {yamnet.ADDRESS}")
    corpus = registry.load("EMO-DB", shared_data)
    utterances, classes = corpus.utterances, corpus.classes
    fingerprints = {utterance.id: audio.fingerprint(utterance.path) for utterance in utterances}
    folds = protocols.make_folds("loso", utterances, fingerprints, seed=0)[:1]
    found = embedding_cache.embed(utterances, fingerprints, yamnet.encoder(path), cache=tmp_path)
    teacher = probe.probe_teacher(
        found.stacked(), utterances, classes, folds, card={"made_by": "YAMNet"}, options=PLAIN
    )
    labels = np.array([classes.index(utterance.emotion) for utterance in utterances])
    for fold in folds:
        logits = teachers.aligned(teacher, utterances, classes, fold.name)[list(fold.test)]
        assert evaluation.scores(labels[list(fold.test)], logits.argmax(axis=1), classes).ua > 0.5
    assert teachers.stamps(teacher, folds, utterances) == ()
