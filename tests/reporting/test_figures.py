"""What the pictures show: every number, nothing clipped, the same bytes each time."""

import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from drawings import assert_legible, shown

from light_sernet_kd import evaluation
from light_sernet_kd.reporting import figures
from light_sernet_kd.reporting.figures import page
from light_sernet_kd.reporting.palette import luminance

RENDERED = (".",)
LONG = "overwhelmed with something"
HONEST = "optimistic: the epoch was chosen on the test fold"


def words(figure):
    return [text for text, _, _ in shown(figure)]


def random_matrix(size, most=1500):
    return np.random.default_rng(size).integers(most, size=(size, size)) + most * 5 * np.eye(size, dtype=int)


def histories(folds, columns=("loss", "val_loss", "val_ua"), epochs=20):
    generator = np.random.default_rng(0)
    return {
        f"speaker {fold:02}": {name: generator.random(epochs + fold).tolist() for name in columns}
        for fold in range(folds)
    }


def test_a_confusion_matrix_shows_each_count_with_its_share_of_the_row(drawn):
    figures.confusion_matrix([[3, 1], [0, 2]], ["anger", "fear"], "x", title="t", stamps=[HONEST])
    texts = words(drawn[0])
    for cell in ("3\n75 %", "1\n25 %", "0\n0 %", "2\n100 %"):
        assert texts.count(cell) == 1
    assert texts.count("75.0 %\nof 4") == 1
    assert texts.count("100.0 %\nof 2") == 1
    assert {HONEST, "true class", "predicted class", "recall"} <= set(texts)


def test_a_row_is_a_true_class_and_a_column_a_predicted_one(drawn):
    figures.confusion_matrix([[3, 1], [0, 2]], ["anger", "fear"], "x", title="t")
    axes = drawn[0].axes[0]
    assert next(text.get_position() for text in axes.texts if text.get_text() == "1\n25 %") == (1, 0)
    # Row 0 lies above row 1, beside the first class's name.
    assert axes.yaxis_inverted()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["anger", "fear"]


def test_a_class_without_utterance_shows_no_share(drawn):
    figures.confusion_matrix([[0, 0], [1, 2]], ["anger", "fear"], "x", title="t")
    texts = words(drawn[0])
    assert texts.count("0\n–") == 2
    assert texts.count("–\nof 0") == 1


@pytest.mark.parametrize("names", ["short", "long"])
@pytest.mark.parametrize("size", [2, 3, 5, 7, 12])
def test_no_text_of_a_confusion_matrix_is_clipped_or_overlaps(drawn, size, names):
    classes = [f"{LONG} {n}" if names == "long" else f"fear{n}" for n in range(size)]
    title = "IEMOCAP, light_sernet_plus, protocol random (synthetic), UA 65.3 %, WA 64.2 %"
    figures.confusion_matrix(random_matrix(size), classes, "x", title=title, stamps=[HONEST, HONEST * 3])
    assert_legible(drawn[0])


@pytest.mark.parametrize("share", np.linspace(0, 1, 11))
def test_text_contrasts_with_its_cell_by_at_least_four_to_one(share):
    cell = matplotlib.colormaps["Blues"](float(share))
    text = matplotlib.colors.to_rgb(page.text_color(cell))
    dark, bright = sorted((luminance(cell), luminance(text)))
    assert (bright + 0.05) / (dark + 0.05) >= 4


def test_luminance_is_that_of_wcag():
    assert luminance((1, 1, 1)) == pytest.approx(1)
    assert luminance((0, 1, 0)) == pytest.approx(0.7152)
    # #777777 on white has the contrast 4.48 that WCAG's guides name as just short of 4.5.
    assert 1.05 / (luminance((0x77 / 255,) * 3) + 0.05) == pytest.approx(4.48, abs=0.005)


def test_a_title_that_says_synthetic_is_marked_on_every_figure(drawn):
    row = {"name": "int8", "bytes": 1, "ua": 0.5}
    for title in ("demo (synthetic)", "demo (SYNTHETIC)", "Scores of synthetic-sweep"):
        figures.confusion_matrix([[1, 0], [0, 1]], "ab", "x", title=title)
        figures.curves(histories(1), "x", selected_epochs={}, title=title)
        figures.size_against_ua([row], "x", title=title)
    assert ["SYNTHETIC RECORDINGS" in words(figure) for figure in drawn] == [True] * 6 + [False] * 3


def test_stamps_stand_on_every_figure(drawn):
    figures.confusion_matrix([[1, 0], [0, 1]], "ab", "x", title="t", stamps=[HONEST])
    figures.curves(histories(2), "x", selected_epochs={}, stamps=[HONEST])
    figures.size_against_ua(PRECISIONS, "x", title="t", stamps=[HONEST])
    assert [HONEST in words(figure) for figure in drawn] == [True] * 3


def test_letters_that_no_font_has_are_named_once_and_not_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "fonts", lambda: [page.FONT])
    names = ["anger \u00fc", "\u0433\u043d\u0435\u0432", "\u6012\u308a", "\u6012"]
    assert figures.letters_without_font(names) == "\u308a\u6012"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.confusion_matrix([[1, 0], [0, 1]], ["\u6012\u308a", "b"], tmp_path / "x", title="\u6012")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_font_that_is_installed_gives_the_letters_that_the_first_one_lacks(monkeypatch):
    monkeypatch.setattr(page, "FURTHER_FONTS", ("Nowhere Sans", "STIXGeneral"))
    page.fonts.cache_clear()
    try:
        assert page.fonts() == [page.FONT, "STIXGeneral"]
        assert figures.letters_without_font("\u2a99\u6012") == "\u6012"
    finally:
        page.fonts.cache_clear()


def test_a_matrix_that_does_not_fit_its_classes_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\) for 3 classes"):
        figures.confusion_matrix([[1, 0], [0, 1]], "abc", "x", title="t")


@pytest.mark.parametrize("folds", [2, 10, 15])
def test_curves_draw_each_fold_and_their_mean_as_far_as_all_got(drawn, folds):
    told = histories(folds)
    figures.curves(told, "x", selected_epochs=dict.fromkeys(told, 3))
    panels = drawn[0].axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "training loss",
        "validation loss",
        "validation UA (%)",
    ]
    for axes, column, scale in zip(panels, ("loss", "val_loss", "val_ua"), (1, 1, 100), strict=True):
        lines = [line for line in axes.lines if len(line.get_xdata()) > 1]
        assert len(lines) == folds + 1
        thickest = max(lines, key=lambda line: line.get_linewidth())
        expected = scale * np.mean([history[column][:20] for history in told.values()], axis=0)
        np.testing.assert_allclose(thickest.get_ydata(), expected)
        np.testing.assert_array_equal(thickest.get_xdata(), np.arange(1, 21))
        dots = [line.get_xydata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
        np.testing.assert_allclose(dots, [(3, scale * history[column][2]) for history in told.values()])


@pytest.mark.parametrize("keep", ["best", "last", "mean"])
def test_a_dot_is_the_kept_epoch_and_a_mean_of_weights_has_none(drawn, keep):
    told = histories(2)
    figures.curves(told, "x", selected_epochs=dict.fromkeys(told, 20), keep=keep)
    dots = [line for axes in drawn[0].axes for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(dots) == (0 if keep == "mean" else 2 * 3)
    notes = " ".join(words(drawn[0]))
    assert ("dot: the epoch" in notes, "mean of the weights" in notes) == (keep != "mean", keep == "mean")


def test_an_enrolment_curve_stands_at_its_numbers_of_recordings(drawn):
    curve = [{"clips": clips, "ua": 0.6 + clips / 200} for clips in (0, 1, 2, 5, 10, 40)]
    found = {"protocol": "enrolled", "curve": curve, "first": curve}
    figures.enrolled(found, "x", title="t")
    axes = drawn[0].axes[0]
    drawn_at = next(line for line in axes.lines if line.get_label() == "drawn at random").get_xdata()
    assert list(drawn_at) == [0, 1, 2, 5, 10, 40]
    assert_legible(drawn[0])


def test_one_fold_is_one_line_and_needs_no_mean(drawn):
    figures.curves(histories(1, columns=("loss", "test_ua")), "x", selected_epochs={"speaker 00": None})
    assert [len(axes.lines) for axes in drawn[0].axes] == [1, 1]
    assert not any("mean" in text for text in words(drawn[0]))


def test_one_epoch_and_gaps_are_drawn(drawn):
    figures.curves({"1": {"loss": [1.0]}, "2": {"loss": [None]}}, "x", selected_epochs={"1": 1})
    line = drawn[0].axes[0].lines[0]
    assert line.get_marker() == "o"
    assert drawn[0].axes[0].get_xlim() == (0.5, 1.5)


def test_epochs_begin_at_1_and_chance_is_a_line_in_panels_of_ua(drawn):
    figures.curves(histories(2), "x", selected_epochs={}, chance=1 / 7)
    for axes in drawn[0].axes:
        assert axes.get_xticks()[0] == 1
        assert min(axes.get_xticks()) == 1
        lines = [line for line in axes.lines if line.get_ydata() == pytest.approx([100 / 7] * 2)]
        assert len(lines) == ("UA" in axes.get_title(loc="left"))
        if lines:
            assert axes.get_ylim()[0] < 100 / 7
    assert words(drawn[0]).count("chance") == 1


def test_histories_without_a_known_column_are_refused():
    with pytest.raises(ValueError, match="none of the columns loss, val_loss, val_ua, val_ccc, test_ua"):
        figures.curves({"1": {"learning_rate": [0.1]}}, "x", selected_epochs={})


PRECISIONS = [
    {"name": "float32", "bytes": 1_204_332, "ua": 0.8533, "ua_low": 0.8, "ua_high": 0.9},
    {"name": "int8", "bytes": 331_000, "ua": 0.843, "ua_low": None, "ua_high": None},
]


def test_size_against_ua_shows_size_score_and_interval(drawn):
    figures.size_against_ua(PRECISIONS, "x", title="t")
    axes = drawn[0].axes[0]
    points = [tuple(line.get_xydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
    assert points == [(1204.332, pytest.approx(85.33)), (331.0, pytest.approx(84.3))]
    bars = [line.get_ydata().tolist() for line in axes.lines if len(line.get_xdata()) == 2]
    assert bars == [pytest.approx([80, 90])]
    assert {"float32\n1,204 kB, 85.3 %", "int8\n331 kB, 84.3 %"} <= set(words(drawn[0]))


@pytest.mark.parametrize("others", [0, 50_000])
def test_many_runs_of_long_names_and_one_size_have_a_row_each(drawn, others):
    """No label leaves the page or covers another, and every interval is at its own height."""
    sizes = [1_000] * 12 + [others] * (others > 0)
    rows = [
        {"name": f"IEMOCAP-light_sernet_plus-mel_spectrogram-{n}", "bytes": size, "ua": 0.7 + n / 100,
         "ua_low": 0.6, "ua_high": 0.9}
        for n, size in enumerate(sizes)
    ]  # fmt: skip
    figures.size_against_ua(rows, "x", title="t", stamps=[HONEST])
    (axes,) = drawn[0].axes
    for text, box, artist in shown(drawn[0]):
        if artist not in axes.get_xticklabels():  # those beyond the axis are not drawn
            assert drawn[0].bbox.x0 <= box.x0 <= box.x1 <= drawn[0].bbox.x1, text
            assert drawn[0].bbox.y0 <= box.y0 <= box.y1 <= drawn[0].bbox.y1, text
    marks = [line.get_xydata()[0].tolist() for line in axes.lines if len(line.get_xdata()) == 1]
    assert marks == [[pytest.approx(70 + n), n] for n in range(len(sizes))]
    bars = [line.get_ydata().tolist() for line in axes.lines if len(line.get_xdata()) == 2]
    assert bars == [[n, n] for n in range(len(sizes))]


def test_files_of_about_one_size_stand_at_their_sizes_and_are_all_seen(drawn):
    rows = [
        {"name": str(size), "bytes": size, "ua": 0.7, "ua_low": 0.6, "ua_high": 0.8}
        for size in (1_000, 995, 500)
    ]
    figures.size_against_ua(rows, "x", title="t")
    marks = [line for line in drawn[0].axes[0].lines if len(line.get_xdata()) == 1]
    assert [mark.get_xdata()[0] for mark in marks] == [1, 0.995, 0.5]
    assert all(mark.get_transform() == drawn[0].axes[0].transData for mark in marks)
    behind, front = sorted(marks[:2], key=lambda mark: mark.get_zorder())
    assert front.get_markersize() <= behind.get_markersize() - 2


def told_of_calibration(scale, count=200):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(count, 4)) * 2
    labels = (evaluation.softmax(logits).cumsum(axis=1) > generator.random((count, 1))).argmax(axis=1)
    return evaluation.calibration(labels, logits * scale)


@pytest.mark.parametrize("count", [1, 2, 200, 20_000])
def test_reliability_shows_each_bin_its_count_and_the_ece_and_nothing_is_clipped(drawn, count):
    panels = {"as trained": told_of_calibration(3, count), "scaled": told_of_calibration(1, count)}
    figures.reliability(panels, "x", title="demo (synthetic), light_sernet_plus", stamps=[HONEST])
    (figure,) = drawn
    for text, box, _ in shown(figure):
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text
    texts = words(figure)
    assert {"SYNTHETIC RECORDINGS", HONEST, *panels} <= set(texts)
    for place, told in enumerate(panels.values()):
        above, below = figure.axes[place], figure.axes[place + 2]
        assert any(f"ECE {100 * told['ece']:.1f} % (by chance" in text for text in texts)
        dots = [line for line in above.lines if line.get_marker() == "o"]
        expected = [(100 * each["confidence"], 100 * each["accuracy"]) for each in told["reliability"]]
        assert [(*dot.get_xdata(), *dot.get_ydata()) for dot in dots] == expected
        counts = [each["count"] for each in told["reliability"]]
        assert [text.get_text() for text in below.texts] == [str(each) for each in counts]
        assert sum(bar.get_height() for bar in below.patches) == pytest.approx(count)


def test_a_tenth_of_a_point_does_not_look_like_a_cliff(drawn):
    rows = [{"name": "float32", "bytes": 9, "ua": 0.85}, {"name": "int8", "bytes": 3, "ua": 0.849}]
    figures.size_against_ua(rows, "x", title="t")
    low, high = drawn[0].axes[0].get_ylim()
    assert high - low >= 5
    assert drawn[0].axes[0].get_xlim()[0] == 0


def draw_all(folder):
    figures.confusion_matrix(random_matrix(3), ["$a$", "b_c", "d"], folder / "matrix", title="t")
    figures.curves(histories(2), folder / "run.v1", selected_epochs={"speaker 00": 2})
    figures.size_against_ua(PRECISIONS, folder / "precision.png", title="t")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_inputs_give_the_same_bytes_whatever_the_users_matplotlib_is_set_to(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = draw_all(tmp_path / "1")
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 30, "axes.facecolor": "black"}):
        second = draw_all(tmp_path / "2")
        assert matplotlib.rcParams["font.size"] == 20
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    kinds = [f"{name}{kind}" for name in ("matrix", "run.v1") for kind in begins]
    assert sorted(first) == sorted([*kinds, "precision.png"])
    assert first == second
    for name, content in first.items():
        assert content.startswith(begins[Path(name).suffix])
        assert b"date" not in content.lower()


def test_figures_and_evaluation_import_neither_pyplot_nor_tensorflow():
    program = (
        "import sys, light_sernet_kd.reporting.figures, light_sernet_kd.evaluation\n"
        "print({'matplotlib.pyplot', 'tensorflow', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
