"""Maps of embeddings against NumPy's eigenvectors, and the panels of a report."""

import numpy as np
import pytest

from light_sernet_kd.reporting import figures
from light_sernet_kd.reporting.embedding_panels import embedding_panel, fold_panels, projected

RANDOM = np.random.default_rng(0)


def test_principal_components_are_those_of_the_covariance_matrix():
    embeddings = RANDOM.normal(size=(30, 7)) * [9, 5, 1, 1, 1, 1, 1]
    plane = projected(embeddings)
    variances, directions = np.linalg.eigh(np.cov(embeddings.T))
    expected = (embeddings - embeddings.mean(axis=0)) @ directions[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(plane.points), np.abs(expected), atol=1e-9)
    share = variances[::-1] / variances.sum()
    assert plane.axes[0] == f"component 1 ({100 * share[0]:.0f} % of variance)"
    assert plane.axes[1] == f"component 2 ({100 * share[1]:.0f} % of variance)"


def test_tsne_keeps_far_groups_apart_and_repeats_itself():
    embeddings = np.concatenate([RANDOM.normal(size=(15, 6)), RANDOM.normal(size=(15, 6)) + 30])
    plane = projected(embeddings, "tsne")
    np.testing.assert_array_equal(plane.points, projected(embeddings, "tsne").points)
    distances = np.linalg.norm(plane.points[:, None] - plane.points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    assert ((nearest < 15) == (np.arange(30) < 15)).all()
    with pytest.raises(ValueError, match="3 utterances; it needs at least 4"):
        projected(embeddings[:3], "tsne")


@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_embeddings_in_one_place_stay_there(how):
    np.testing.assert_array_equal(projected(np.ones((5, 4)), how).points, np.zeros((5, 2)))
    assert projected(np.ones((1, 4))).points.tolist() == [[0, 0]]


def test_a_report_has_a_panel_for_each_of_the_first_folds_with_axes_of_its_own():
    labels, predicted = np.arange(10) % 2, np.zeros(10, int)
    rows = RANDOM.normal(size=(5, 10, 3))
    tested = [(f"{n:02}", rows[n], labels, predicted) for n in range(5)]
    panels, notes = fold_panels(tested, 10)
    assert [panel.title for panel in panels] == ["fold 00", "fold 01", "fold 02", "fold 03"]
    assert notes[1:] == ["4 of 10 folds"]
    assert len(fold_panels(tested[:2], 2)[1]) == 1
    for panel, embeddings in zip(panels, rows, strict=False):
        np.testing.assert_array_equal(panel.points, projected(embeddings).points)
        assert list(panel.groups) == ["right", "wrong"] * 5


@pytest.mark.parametrize("predicted", [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]])
def test_a_mark_of_a_wrong_answer_is_hollow_whatever_the_others_are(drawn, predicted):
    labels = np.array([0, 1, 0, 1])
    panel = embedding_panel("t", RANDOM.normal(size=(4, 3)), labels, predicted)
    figures.embeddings([panel], ["anger", "fear"], "x", title="t")
    marks = [
        line for line in drawn[0].axes[0].lines if line.get_linestyle() == "None" and len(line.get_xdata())
    ]
    hollow = sum(len(line.get_xdata()) for line in marks if line.get_markerfacecolor() == "white")
    assert hollow == (labels != predicted).sum()
    legends = filter(None, (axes.get_legend() for axes in drawn[0].axes))
    named = {text.get_text() for legend in legends for text in legend.get_texts()}
    assert ("wrong" in named) == bool(hollow)
