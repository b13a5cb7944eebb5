"""Concordance, correlation and error of values of dimensions, and how sure they are."""

import numpy as np
import pytest

from light_sernet_kd.evaluation import (
    Predictions,
    dimension_intervals,
    dimension_scores,
    read_predictions,
    write_predictions,
)

UNKNOWN = float("nan")


def answers(rows: int = 60) -> tuple[np.ndarray, np.ndarray, list[str]]:
    random = np.random.default_rng(3)
    true = random.uniform(1, 5, (rows, 2))
    return true, 0.5 * true + 1.8 + random.normal(0, 0.4, true.shape), [f"s{n % 5}" for n in range(rows)]


def reference(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """By the definitions, with population variances."""
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    ccc = 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    return ccc, np.corrcoef(x, y)[0, 1], np.sqrt(np.mean((x - y) ** 2))


def test_scores_are_those_of_the_definitions_over_what_was_rated():
    true, predicted, _ = answers()
    true[[3, 8], 1] = UNKNOWN
    for dimension, scores in enumerate(dimension_scores(true, predicted)):
        rows = np.isfinite(true[:, dimension])
        x, y = true[rows, dimension], predicted[rows, dimension]
        assert scores.count == rows.sum()
        np.testing.assert_allclose([scores.ccc, scores.pearson, scores.rmse], reference(x, y), rtol=1e-9)
        np.testing.assert_allclose([scores.mean_true, scores.mean], [x.mean(), y.mean()])


def test_concordance_and_correlation_know_no_scale_and_the_error_has_its_unit():
    true, predicted, _ = answers()
    one, wide = dimension_scores(true, predicted)[0], dimension_scores(100 * true - 7, 100 * predicted - 7)[0]
    np.testing.assert_allclose([wide.ccc, wide.pearson, wide.rmse], [one.ccc, one.pearson, 100 * one.rmse])


@pytest.mark.parametrize(
    ("true", "predicted", "ccc"),
    [([2, 2, 2], [2, 2, 2], None), ([1, 2, 3], [2, 2, 2], 0), ([UNKNOWN] * 2 + [1], [1, 2, 3], None)],
)
def test_without_spread_or_ratings_there_is_no_score(true, predicted, ccc):
    [scores] = dimension_scores(np.array(true)[:, None], np.array(predicted)[:, None])
    assert (scores.ccc, scores.pearson) == (ccc, None)


def test_the_interval_is_that_of_speakers_drawn_one_by_one():
    true, predicted, speakers = answers()
    true[0, 1] = UNKNOWN
    intervals = dimension_intervals(true, predicted, speakers, resamples=300)
    rows_of = [np.flatnonzero(np.array(speakers) == name) for name in sorted(set(speakers))]
    draws = np.random.default_rng(0).multinomial(5, np.full(5, 1 / 5), size=300)
    made = []
    for draw in draws:
        rows = np.concatenate([np.tile(rows_of[i], count) for i, count in enumerate(draw)])
        rows = rows[np.isfinite(true[rows, 1])]
        made.append(reference(true[rows, 1], predicted[rows, 1]))
    for name, values in (("ccc", [each[0] for each in made]), ("rmse", [each[2] for each in made])):
        np.testing.assert_allclose(intervals[1][name], np.percentile(values, [2.5, 97.5]), rtol=1e-9)


def test_two_speakers_have_no_interval():
    true, predicted, speakers = answers()
    rows = [row for row, name in enumerate(speakers) if name in ("s0", "s1")]
    assert dimension_intervals(true[rows], predicted[rows], ["s0", "s1"] * 12) == [None, None]


def test_predictions_keep_answers_and_ratings_bit_for_bit(tmp_path):
    # a class may be called as a dimension is, or as its ratings are
    answers, true = np.array([1 / 3, 2.5]), np.array([3.1, UNKNOWN])
    written = Predictions(
        classes=("a", "a_true"),
        ids=("x", "y"),
        folds=("1", "1"),
        labels=np.array([0, 1]),
        predicted=np.array([0, 0]),
        probabilities=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        dimensions={"arousal": (answers, true), "valence": (true, answers)},
    )
    write_predictions(tmp_path / "predictions.csv", written)
    header, _, second = (tmp_path / "predictions.csv").read_text().splitlines()
    assert header.endswith(",p_a,p_a_true,arousal,arousal_true,valence,valence_true")
    assert second.endswith(",2.5,,,2.5")
    read = read_predictions(tmp_path / "predictions.csv")
    assert read.classes == written.classes
    for name, pair in written.dimensions.items():
        np.testing.assert_array_equal(read.dimensions[name], pair)
