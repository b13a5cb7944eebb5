"""Components of a teacher's embeddings against an eigendecomposition written out."""

import numpy as np
import pytest

from light_sernet_kd.teachers.components import ComponentRows, fit_components

RANDOM = np.random.default_rng(4)
ROWS = RANDOM.normal(size=(40, 6)) @ RANDOM.normal(size=(6, 6)) * 10.0 ** np.arange(6) + 3


def test_they_are_the_whitened_axes_of_the_correlation_matrix():
    made = fit_components(ROWS, 3)(ROWS)
    standardised = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)
    values, vectors = np.linalg.eigh(np.cov(standardised.T))
    expected = standardised @ vectors[:, ::-1][:, :3] / np.sqrt(values[::-1][:3])
    for ours, theirs in zip(made.T, expected.T, strict=True):
        sign = np.sign(np.dot(ours, theirs))
        np.testing.assert_allclose(ours, sign * theirs, atol=1e-4)
    np.testing.assert_allclose(np.cov(made.T), np.eye(3), atol=1e-4)


def test_the_sign_of_each_is_that_of_its_largest_weight():
    for rows in (ROWS, ROWS[::-1]):
        made = fit_components(rows, 2)
        # A step along the column of the largest weight never lowers the component.
        steps = np.eye(6) * ROWS.std(axis=0)
        change = made(ROWS[:1] + steps) - made(ROWS[:1])
        assert (change[np.abs(change).argmax(axis=0), np.arange(2)] > 0).all()


def test_what_is_far_off_counts_no_more_than_the_furthest_that_trains():
    components = fit_components(ROWS, 3)
    far = components(ROWS * 1e6)
    assert np.abs(far).max() <= np.abs(components(ROWS)).max() + 1e-5


def test_rows_of_a_file_are_turned_when_they_are_read():
    components = fit_components(ROWS, 2)
    kept = ComponentRows(ROWS.astype(np.float32), components)
    which = np.array([3, 17])
    np.testing.assert_array_equal(kept[which], components(ROWS.astype(np.float32)[which]))
    # a small last batch may have no clip without labels
    assert kept[np.zeros(0, int)].shape == (0, 2)


@pytest.mark.parametrize(("rows", "there"), [(ROWS[:4], 3), (ROWS, 6), (np.repeat(ROWS[:2], 9, axis=0), 1)])
def test_where_there_are_fewer_zeros_stand_for_the_others(rows, there):
    made = fit_components(rows, 8)(rows)
    assert made.shape == (len(rows), 8)
    np.testing.assert_allclose(made[:, :there].std(axis=0, ddof=1), 1, rtol=1e-3)
    np.testing.assert_array_equal(made[:, there:], 0)
