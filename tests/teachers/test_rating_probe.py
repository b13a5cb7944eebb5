"""A probe that regresses ratings: ridge regression on training speakers, cross-fitted."""

import numpy as np

from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.teachers.rating_probe import STRENGTHS, rating_values

RANDOM = np.random.default_rng(0)
SPEAKERS = np.repeat([*"abcdef"], 10)
VALUES = RANDOM.normal(size=(60, 8)) + np.repeat(RANDOM.normal(size=(6, 8)), 10, axis=0)
RATINGS = np.stack([np.tanh(VALUES[:, 0]), 0.1 * VALUES[:, 1] + 0.3], axis=1)
RATINGS[::7, 0] = np.nan


def rows(speakers: str) -> tuple[int, ...]:
    return tuple(np.flatnonzero(np.isin(SPEAKERS, [*speakers])).tolist())


FOLD = Fold("f", rows("abcd"), rows("e"), rows("f"))


def ridge(train: np.ndarray, asked: np.ndarray, true: np.ndarray, strength: float) -> np.ndarray:
    """scikit-learn's, on embeddings that the training rows standardise."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(VALUES[train])
    model = Ridge(strength * len(train)).fit(scaler.transform(VALUES[train]), true[train])
    return model.predict(scaler.transform(VALUES[asked]))


def test_values_are_those_of_ridge_regression_with_the_best_penalty_on_the_validation_set():
    made = rating_values(VALUES, RATINGS, SPEAKERS, [FOLD])[0]
    tested, validation = np.array(FOLD.test), np.array(FOLD.validation)
    for dimension, true in enumerate(RATINGS.T):
        train = np.array([row for row in FOLD.train if np.isfinite(true[row])])
        errors = [
            np.nanmean((ridge(train, validation, true, each) - true[validation]) ** 2) for each in STRENGTHS
        ]
        expected = ridge(train, tested, true, STRENGTHS[int(np.argmin(errors))])
        np.testing.assert_allclose(made[tested, dimension], expected, rtol=1e-5)


def test_a_training_utterances_value_knows_nothing_of_its_speaker_nor_any_of_a_tested_one():
    before = rating_values(VALUES, RATINGS, SPEAKERS, [FOLD])[0]
    changed = RATINGS.copy()
    changed[list(FOLD.test)] = 9.0
    np.testing.assert_array_equal(rating_values(VALUES, changed, SPEAKERS, [FOLD])[0], before)
    changed = RATINGS.copy()
    changed[list(rows("a")), 1] *= 1.01  # too little for another penalty to be the best
    after = rating_values(VALUES, changed, SPEAKERS, [FOLD])[0]
    np.testing.assert_array_equal(after[list(rows("a")), 1], before[list(rows("a")), 1])
    assert (after[list(rows("b")), 1] != before[list(rows("b")), 1]).any()


def test_without_validation_speakers_are_held_out_and_without_ratings_nothing_is_said():
    fold = Fold("all", rows("abcdef"), (), ())
    ratings = np.concatenate([RATINGS, np.full((60, 1), np.nan)], axis=1)
    made = rating_values(VALUES, ratings, SPEAKERS, [fold])[0]
    assert np.isfinite(made[:, :2]).all()
    assert np.isnan(made[:, 2]).all()
    assert np.corrcoef(made[:, 1], RATINGS[:, 1])[0, 1] > 0.9
