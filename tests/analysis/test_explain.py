"""Why a student answered as it did: numbers against algebra and loops, the pages and pictures of a run."""

import csv
import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from small_runs import (
    EMOTIONS,
    SENTENCES,
    SPEAKERS,
    made_corpus,
    no_graphs,
    rendered,
    shallow_light_sernet,
)

from light_sernet_kd import cli, students, teachers
from light_sernet_kd.analysis import explain
from light_sernet_kd.analysis.explain.gradients import feature_axes
from light_sernet_kd.analysis.explain.teacher_outputs import teacher_embeddings
from light_sernet_kd.config import make_settings
from light_sernet_kd.corpora import Utterance, demo
from light_sernet_kd.data.run_folder import RunFolder, Step
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import Predictions, read_predictions, softmax, surest_mistakes
from light_sernet_kd.reporting import figures
from light_sernet_kd.reporting.embedding_panels import embedding_panel
from light_sernet_kd.reporting.figures.page import class_looks

RENDERED = ("embeddings.png",)
RANDOM = np.random.default_rng(0)


# Grad-CAM.


def small_network(*layers, shape=(8, 6, 1), dtype="float32"):
    import keras

    keras.utils.set_random_seed(1)
    features = keras.Input(shape, name="features", dtype=dtype)
    tensor = features
    for layer in layers:
        tensor = layer(tensor)
    return keras.Model(features, tensor)


def test_grad_cam_of_pooled_maps_and_a_dense_layer_is_cam_over_the_positions():
    """Zhou et al. 2016: there, the class activation map is the maps weighted by the class's weights."""
    from keras import layers

    conv = layers.Conv2D(5, 3, padding="same", activation="relu")
    dense = layers.Dense(3)
    network = small_network(conv, layers.GlobalAveragePooling2D(), dense)
    features = RANDOM.normal(size=(8, 6, 1)).astype(np.float32)
    maps = np.asarray(conv(features[None]))[0]
    for number in range(3):
        expected = np.maximum(maps @ np.asarray(dense.kernel)[:, number], 0) / 48
        np.testing.assert_allclose(explain.grad_cam(network, features, number), expected, atol=1e-6)
    assert explain.map_positions(network) == (8, 6)


def test_grad_cam_weighs_a_map_by_how_the_logit_moves_when_the_whole_map_is_raised():
    """Raising map k by e everywhere changes the logit by e times the sum of its gradients."""
    from keras import layers

    options = {"dtype": "float64"}
    conv = layers.Conv2D(4, 3, activation="tanh", **options)
    head = [
        layers.Flatten(**options),
        layers.Dense(7, activation="tanh", **options),
        layers.Dense(2, **options),
    ]
    network = small_network(conv, *head, dtype="float64")
    features = RANDOM.normal(size=(8, 6, 1))
    maps = np.asarray(conv(features[None]))

    def behind(maps):
        for layer in head:
            maps = layer(maps)
        return maps

    step, weights = 1e-5, []
    for channel in range(4):
        raised = step * np.eye(4)[channel]
        ends = [float(np.asarray(behind(maps + sign * raised))[0, 1]) for sign in (1, -1)]
        weights.append((ends[0] - ends[1]) / (2 * step) / (6 * 4))
    expected = np.maximum(maps[0] @ np.array(weights), 0)
    assert expected.any()
    found = explain.grad_cam(network, features, 1)
    assert found.shape == (8, 6)
    np.testing.assert_allclose(found, resized(expected, (8, 6)), rtol=1e-4, atol=1e-8)


def resized(positions, shape):
    """Bilinear interpolation of positions that are areas, one axis after the other."""
    for axis, count in enumerate(shape):
        size = positions.shape[axis]
        places = np.clip((np.arange(count) + 0.5) * size / count - 0.5, 0, size - 1)
        positions = np.apply_along_axis(
            lambda line, at=places: np.interp(at, np.arange(len(line)), line), axis, positions
        )
    return positions


@pytest.mark.parametrize("name", ["light_sernet", "light_sernet_plus", "mobilenetv3_small_075", "resnet18"])
def test_grad_cam_finds_the_last_maps_of_every_kind_of_student(name):
    import keras

    keras.utils.set_random_seed(0)
    shape = (96, 40, 1)
    student = students.build(name, shape, 3, width=0.25)
    pooling = [layer for layer in student.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    before = pooling[-1].input  # squeeze-and-excitation pools too, earlier
    assert explain.has_maps(student)
    assert explain.map_positions(student) == tuple(before.shape[1:3])
    found = explain.grad_cam(student, RANDOM.normal(size=shape).astype(np.float32), 2)
    assert found.shape == shape[:2]
    assert found.min() >= 0
    if name == "light_sernet":
        features = RANDOM.normal(size=(1, *shape)).astype(np.float32)
        maps = np.asarray(keras.Model(student.inputs[0], before)(features))[0]
        kernel = np.asarray(student.get_layer("logits").kernel)[:, 2]
        coarse = np.maximum(maps @ kernel, 0) / maps[..., 0].size
        assert coarse.any()
        np.testing.assert_allclose(
            explain.grad_cam(student, features[0], 2), resized(coarse, shape[:2]), rtol=1e-3, atol=1e-7
        )


def test_a_student_without_convolutions_has_no_grad_cam():
    from keras import layers

    network = small_network(layers.Flatten(), layers.Dense(2))
    assert not explain.has_maps(network)
    with pytest.raises(UserError, match="no convolutional layer"):
        explain.grad_cam(network, np.zeros((8, 6, 1)), 0)


def test_the_shortest_span_is_that_of_a_search_over_all():
    assert explain.shortest_span([0, 0, 0]) == (0, 3)
    assert explain.shortest_span([1, 0, 0, 5, 4, 0], 0.5) == (3, 4)
    assert explain.shortest_span([1, 1, 1, 1], 0.5) == (0, 2)
    for _ in range(20):
        values = RANDOM.random(12) ** 4
        first, end = explain.shortest_span(values, 0.6)
        assert values[first:end].sum() >= 0.6 * values.sum() - 1e-6
        lengths = [
            b - a for a in range(12) for b in range(a + 1, 13) if values[a:b].sum() >= 0.6 * values.sum()
        ]
        assert end - first == min(lengths)


# Student and teacher.


def test_cosine_similarity_is_that_of_each_row_and_padding_has_none():
    student, teacher = RANDOM.normal(size=(2, 3, 5)), RANDOM.normal(size=(2, 3, 5))
    teacher[1, 2] = 0
    found = explain.cosine_similarity(student, teacher)
    for index in np.ndindex(2, 3):
        if index == (1, 2):
            assert np.isnan(found[index])
        else:
            one, other = student[index], teacher[index]
            expected = one @ other / np.sqrt(one @ one) / np.sqrt(other @ other)
            assert found[index] == pytest.approx(expected)
    # neither 1e-300 nor 1e300 can be squared
    assert explain.cosine_similarity([[1e-300, 0]], [[1e300, 0]]) == pytest.approx(1)
    with pytest.raises(ValueError, match="linear_cka"):
        explain.cosine_similarity(student, teacher[..., :4])


def test_a_similarity_matrix_holds_the_cosine_of_every_pair():
    embeddings = RANDOM.normal(size=(6, 4))
    found = explain.similarity_matrix(embeddings)
    for one in range(6):
        expected = explain.cosine_similarity(np.tile(embeddings[one], (6, 1)), embeddings)
        np.testing.assert_allclose(found[one], expected)


@pytest.mark.parametrize("utterances", [5, 40], ids=["wider than many", "more than wide"])
def test_linear_cka_is_the_normalised_hsic_of_linear_kernels(utterances):
    first, second = RANDOM.normal(size=(utterances, 9)), RANDOM.normal(size=(utterances, 12))
    second[:, :9] += first
    centring = np.eye(utterances) - 1 / utterances

    def hsic(x, y):
        return np.trace(x @ x.T @ centring @ y @ y.T @ centring)

    expected = hsic(first, second) / np.sqrt(hsic(first, first) * hsic(second, second))
    assert 0.1 < expected < 0.95
    assert explain.linear_cka(first, second) == pytest.approx(expected)


def test_linear_cka_sees_neither_rotation_nor_scale_and_has_no_value_for_one_place():
    embeddings = RANDOM.normal(size=(20, 6))
    turned = np.linalg.qr(RANDOM.normal(size=(6, 6)))[0]
    assert explain.linear_cka(embeddings, 1e-200 * embeddings @ turned + 1e-201) == pytest.approx(1)
    assert np.isnan(explain.linear_cka(embeddings, np.ones((20, 3))))
    with pytest.raises(ValueError, match="20 and 19 utterances"):
        explain.linear_cka(embeddings, embeddings[1:])


def test_patches_are_named_in_seconds_behind_the_tokens():
    assert explain.attention_labels(["[CLS]", "ich"], 2) == ["[CLS]", "ich", "0.00–0.96 s", "0.96–1.92 s"]
    assert explain.attention_labels([], 2, patch_seconds=0.5) == ["0.0–0.5 s", "0.5–1.0 s"]
    overlapping = explain.attention_labels([], 2, patch_seconds=0.96, hop_seconds=0.5)
    assert overlapping == ["0.00–0.96 s", "0.50–1.46 s"]


@pytest.mark.parametrize("modality", ["fusion", "both", "text", "audio"])
def test_the_rows_of_an_attention_layer_are_those_that_its_name_tells(modality):
    from light_sernet_kd.students.attention import attention_between, attention_maps
    from light_sernet_kd.students.cross_attention import cross_attention
    from light_sernet_kd.students.fusion import fusion_head

    rows = {"text_states": 5, "audio_states": 3}
    shapes = [(count, 16) for count in rows.values()]
    if modality == "fusion":
        head = fusion_head(*shapes, 3)
    else:
        head = cross_attention(*shapes, 3, width=16, modality=modality)
    states = {name: RANDOM.normal(size=(1, count, 16)).astype(np.float32) for name, count in rows.items()}
    maps = attention_maps(head, states)
    assert len(maps) == (2 if modality in ("fusion", "both") else 1)
    for name, weights in maps.items():
        counts = [sum(rows[each] for each in side) for side in attention_between(name)]
        assert list(weights.shape[2:]) == counts, name


# Pictures.


def shown(figure):
    """Every text that is seen, after layout, with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    ticks = [
        label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()
    ]
    inside = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick, place in zip(axis.get_major_ticks(), axis.get_majorticklocs(), strict=True)
        if min(axis.get_view_interval()) - 1e-9 <= place <= max(axis.get_view_interval()) + 1e-9
        for label in (tick.label1,)
    }
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in texts
        if text not in ticks or text in inside
    ]


def draw_all(folder, classes=("anger", "a class with quite a long name", "fear"), stamps=("optimistic: x",)):
    """One of each picture, from arrays."""
    head = {
        "title": "03a01Fa of demo (synthetic): anger, taken for fear",
        "stamps": stamps,
        "notes": ["a note"],
    }
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(len(classes)), 8)
    rows = random.normal(size=(len(labels), 5)) + 3 * np.eye(5)[labels % 5]
    panels = [embedding_panel(f"fold {n}", rows + n, labels, np.roll(labels, n), mark=3) for n in range(3)]
    matrices = {
        name: explain.similarity_matrix(rows[:, :width]) for name, width in (("student", 4), ("teacher", 5))
    }
    attention = softmax(random.normal(size=(8, 9, 9)) * 2)
    tokens = explain.attention_labels(["[CLS]", "ein", "sehr", "langes", "unbeschreiblichesWort", "[SEP]"], 3)
    shares = {name: softmax(random.normal(size=len(classes))) for name in ("student", "teacher")}
    figures.probabilities(shares, classes, folder / "probabilities.png", label=1, **head)
    clip = figures.Clip(
        random.normal(size=16_000), random.normal(size=(59, 40)), 16_000, recorded=(0.2, 0.9),
        frame_seconds=0.032 + 0.016 * np.arange(59), band_label="MFCC", band_ticks=[(0, "0"), (20, "20")],
    )  # fmt: skip
    maps = {name: random.random((59, 40)) for name in classes[:2]}
    figures.grad_cam(clip, maps, folder / "grad_cam.png", **head)
    figures.embeddings(panels, classes, folder / "embeddings.png", **head)
    figures.similarity(matrices, labels, classes, folder / "similarity.png", mark=3, **head)
    figures.state_similarity(
        [0.9, -0.2, np.nan, *random.random(6)], tokens, folder / "state_similarity.png", **head
    )
    figures.attention(attention, folder / "attention.png", queries=tokens, keys=tokens, **head)


PICTURES = ("probabilities", "grad_cam", "embeddings", "similarity", "state_similarity", "attention")


@pytest.mark.parametrize("count", [2, 11])
def test_nothing_of_a_picture_is_cut_off_and_all_have_stamps(drawn, tmp_path, count):
    classes = ["anger", "a class with quite a long name", *(f"fear {n}" for n in range(count - 2))]
    draw_all(tmp_path, classes)
    assert len(drawn) == len(PICTURES)
    for figure, picture in zip(drawn, PICTURES, strict=True):
        texts = shown(figure)
        words = [text for text, _ in texts]
        assert {"SYNTHETIC RECORDINGS", "optimistic: x", "a note"} <= set(words), picture
        for text, box in texts:
            assert -1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1, (picture, text)
            assert -1 <= box.y0 <= box.y1 <= figure.bbox.y1 + 1, (picture, text)


def test_pictures_are_files_of_some_size_and_with_colour(tmp_path):
    with rendered(".png"):
        draw_all(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.png" for name in PICTURES)
    for picture in PICTURES:
        assert is_a_picture(tmp_path / f"{picture}.png"), picture


def is_a_picture(path):
    pixels = matplotlib.image.imread(path)[..., :3]
    return min(pixels.shape[:2]) >= 400 and (pixels.std(axis=-1) > 0.02).mean() > 0.001


def test_bars_have_the_length_of_their_shares_and_the_label_is_named(drawn):
    shares = {"student": np.array([0.7, 0.2, 0.1]), "teacher": np.array([0.5, 0.5, 0.0])}
    figures.probabilities(shares, ["a", "b", "c"], "x", label=1, title="t")
    axes = drawn[0].axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([70, 20, 10, 50, 50, 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b (label)", "c"]
    assert [text.get_text() for text in axes.texts[:3]] == ["70.0 %", "20.0 %", "10.0 %"]


def test_grad_cam_is_opaque_where_the_map_is_large_on_one_scale_for_all(drawn):
    maps = {"a": np.array([[0.0, 1.0], [2.0, 4.0], [0.0, 0.0]]), "b": np.full((3, 2), 2.0)}
    clip = figures.Clip(
        np.zeros(48_000), np.arange(6.0).reshape(3, 2), 16_000, recorded=(1.0, 3.0),
        frame_seconds=[0.5, 1.5, 2.5], band_label="kHz", band_ticks=[],
    )  # fmt: skip
    figures.grad_cam(clip, maps, "x", title="t")
    panels = drawn[0].axes[2:]
    over = [axes.images[1] for axes in panels]
    for image, found in zip(over, maps.values(), strict=True):
        # rows are bands, the lowest at the bottom; columns are frames
        np.testing.assert_allclose(np.asarray(image.get_array())[..., 3], 0.75 * found.T / 4)
        assert image.origin == "lower"
        assert image.get_extent() == [0.0, 3.0, -0.5, 1.5]
    assert [axes.get_title(loc="left") for axes in panels] == ["Grad-CAM for a", "Grad-CAM for b"]


def test_every_utterance_is_a_point_in_its_class_colour_and_marker_and_the_second_group_is_hollow(drawn):
    points = RANDOM.normal(size=(6, 2))
    labels, groups = np.array([0, 0, 1, 1, 2, 2]), ["x", "y"] * 3
    panel = figures.Panel("p", points, labels, groups, ("first", "second"), mark=4)
    figures.embeddings([panel], ["anger", "fear", "c"], "x", title="t")
    axes = drawn[0].axes[0]
    lines = [line for line in axes.lines if line.get_markersize() < 14]
    seen = {
        (
            line.get_markerfacecolor(),
            line.get_markeredgecolor(),
            line.get_marker(),
        ): line.get_xydata().tolist()
        for line in lines
    }
    looks = [*class_looks(["anger", "fear", "c"]).values()]
    assert len({marker for _, marker in looks}) == len({color for color, _ in looks}) == 3
    for point, label, group in zip(points.tolist(), labels, groups, strict=True):
        color, marker = looks[label]
        assert point in seen[(color, "white", marker) if group == "x" else ("white", color, marker)]
    (ring,) = [line for line in axes.lines if line.get_markersize() == 14]
    np.testing.assert_array_equal(ring.get_xydata()[0], points[4])
    entries = [text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()]
    assert entries == ["anger", "fear", "c", "x", "y"]


def test_more_groups_than_two_are_said_to_look_alike(drawn):
    names = [f"s{n:02}" for n in range(13)]
    panel = figures.Panel("p", RANDOM.normal(size=(13, 2)), np.zeros(13, int), names, ("", ""))
    figures.embeddings([panel], ["a"], "x", title="t")
    assert any("13 groups are more" in text for text, _ in shown(drawn[0]))


def test_names_of_classes_do_not_cover_one_another(drawn):
    names = [f"emotion {n}" for n in range(6)]
    points = np.concatenate([RANDOM.normal(scale=0.1, size=(60, 2)), [[-5, -5], [5, 5]]])
    labels = np.concatenate([np.arange(60) % 6, [0, 1]])
    panel = figures.Panel("p", points, labels, ["right"] * 62, ("", ""))
    figures.embeddings([panel], names, "x", title="t")
    boxes = [box for text, box in shown(drawn[0]) if text in names]
    in_axes = [box for box in boxes if box.x1 < drawn[0].axes[0].bbox.x1]
    assert len(in_axes) == 6
    assert not any(
        a.shrunk(1, 0.8).overlaps(b.shrunk(1, 0.8)) for i, a in enumerate(in_axes) for b in in_axes[:i]
    )


def test_similarities_are_drawn_sorted_by_class(drawn):
    matrix = np.eye(3)
    figures.similarity({"student": matrix}, [0, 0, 1], ["a", "b"], "x", title="t")
    axes = drawn[0].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix)
    assert [tuple(line.get_ydata()) for line in axes.lines if line.get_xdata()[0] == 0] == [(1.5, 1.5)]
    with pytest.raises(ValueError, match="not sorted"):
        figures.similarity({"student": matrix}, [0, 1, 0], ["a", "b"], "x", title="t")


def test_attention_shows_each_head_and_the_mean_of_all(drawn):
    weights = softmax(RANDOM.normal(size=(3, 2, 4)))
    figures.attention(weights, "x", queries=["p", "q"], keys=list("abcd"), title="t")
    mean, *heads = drawn[0].axes[:-1]  # the last is the mean's scale
    np.testing.assert_allclose(mean.images[0].get_array(), weights.mean(axis=0))
    for axes, head in zip(heads, weights, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), head)
    assert {axes.images[0].get_clim() for axes in heads} == {(0, weights.max())}
    assert mean.images[0].get_clim() == (0, weights.mean(axis=0).max())
    assert f"the heads on one scale from 0 to {weights.max():.2f}" in [text for text, _ in shown(drawn[0])]
    assert [label.get_text() for label in mean.get_yticklabels()] == ["p", "q"]
    assert [label.get_text() for label in mean.get_xticklabels()] == list("abcd")
    with pytest.raises(ValueError, match=r"shape \(3, 2, 4\) for 2 queries and 3 keys"):
        figures.attention(weights, "x", queries=["p", "q"], keys=list("abc"), title="t")


def test_long_attention_is_labelled_as_far_as_there_is_room(drawn):
    keys = explain.attention_labels([], 500, patch_seconds=0.02)
    figures.attention(np.full((2, 1, 500), 0.002), "x", queries=["[CLS]"], keys=keys, title="t")
    texts = [box for text, box in shown(drawn[0]) if text.endswith(" s")]
    assert 10 < len(texts) < 60
    assert all(not a.overlaps(b) for a, b in itertools.pairwise(texts))


# A finished run.

QUICK = [
    "-id",
    "1.2",
    "--width",
    "0.15",
    "--learning_rate",
    "3e-3",
    "--bn_momentum",
    "0.8",
    "-bt",
    "8",
    "-v",
    "0",
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return made_corpus(tmp_path_factory.mktemp("corpus"), sentences=SENTENCES[:2])


@pytest.fixture(scope="module")
def teacher(manifest, tmp_path_factory):
    """A teacher file of logits, and of embeddings that hold the logits."""
    ids = [path.stem for path in sorted(manifest.parent.glob("*.wav"))]
    random = np.random.default_rng(1)
    logits = random.normal(size=(1, len(ids), 3)).astype(np.float32)
    embeddings = np.concatenate([logits, random.normal(size=(1, len(ids), 4))], axis=2)
    path = tmp_path_factory.mktemp("teacher") / "teacher.npz"
    teachers.write(path, teachers.Teacher(tuple(ids), EMOTIONS, logits, embeddings=embeddings))
    return path


@pytest.fixture(scope="module")
def run(manifest, teacher, tmp_path_factory):
    """A run of two of three folds on mel features."""
    result = tmp_path_factory.mktemp("result")
    command = ["train", "-dn", str(manifest), *QUICK, "-it", "mel", "-kd", "KD", "--teacher", str(teacher)]
    folds = ["--folds", ",".join(SPEAKERS[1:])]
    options = ["--epochs", "1", "--no-export", "--result", str(result), "--run", "r"]
    with shallow_light_sernet():
        assert cli.main([*command, *folds, *options]) == 0
    return result / "r"


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    """The page of the last utterance of the second fold."""
    name, out = read_predictions(run / "predictions.csv").ids[-1], tmp_path_factory.mktemp("out")
    with rendered(".png"):
        assert cli.main(["explain", str(run), "--utterance", name, "--out", str(out)]) == 0
    return out / name / "explain.md"


def error_of(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_page_tells_what_the_run_stored_of_the_utterance(run, page):
    predictions = read_predictions(run / "predictions.csv")
    facts = json.loads((page.parent / "explain.json").read_text())
    assert (facts["utterance"], facts["fold"]) == (predictions.ids[-1], predictions.folds[-1])
    assert facts["label"] == predictions.classes[predictions.labels[-1]]
    assert facts["predicted"] == predictions.classes[predictions.predicted[-1]]
    told = list(facts["probabilities"].values())
    np.testing.assert_allclose(told, predictions.probabilities[-1], atol=1e-4)
    assert facts["largest_difference_from_stored_logits"] < 1e-3
    with np.load(run / f"fold-{facts['fold']}" / "test_logits.npz") as stored:
        expected = softmax(stored["teacher"][-1])
    np.testing.assert_allclose(list(facts["teacher_probabilities"].values()), expected, rtol=1e-5)
    text = page.read_text()
    assert f"Label **{facts['label']}**" in text
    assert "**teacher may have seen test speakers**" in text
    assert set(re.findall(r"\]\((\S+\.png)\)", text)) == set(facts["pictures"])
    assert len(facts["pictures"]) == 4
    assert all(is_a_picture(page.parent / picture) for picture in facts["pictures"])


def test_a_page_names_what_is_alike_to_student_and_teacher(run, page, teacher):
    predictions = read_predictions(run / "predictions.csv")
    facts = json.loads((page.parent / "explain.json").read_text())
    known = teachers.read(teacher)
    ids = [
        name for name, fold in zip(predictions.ids, predictions.folds, strict=True) if fold == facts["fold"]
    ]
    rows = known.embeddings[0][[known.ids.index(name) for name in ids]]
    cosines = explain.cosine_similarity(np.tile(rows[-1], (5, 1)), rows[:-1])
    nearest = facts["teacher_embedding"]["nearest"]
    assert [each["utterance"] for each in nearest] == [ids[i] for i in np.argsort(-cosines)]
    np.testing.assert_allclose(
        [each["cosine_similarity"] for each in nearest], np.sort(cosines)[::-1], rtol=1e-5
    )
    assert {each["utterance"] for each in facts["embedding"]["nearest"]} == set(ids[:-1])
    assert facts["teacher_embedding"]["width"] == 7
    assert 0 <= facts["teacher_embedding"]["linear_cka"] <= 1


def test_the_map_on_the_page_is_that_of_the_student_and_its_span_in_seconds(run, page):
    import keras

    from light_sernet_kd import audio, features

    facts = json.loads((page.parent / "explain.json").read_text())
    student = keras.saving.load_model(run / f"fold-{facts['fold']}" / "student.keras", compile=False)
    clip = audio.fit(audio.read(facts["recording"]), 19_200)
    tensor = features.front_end_model("lsn", "mel_spectrogram", 19_200).predict_on_batch(clip[None])[0]
    assert set(facts["grad_cam"]) == {facts["label"], facts["predicted"]}
    for label, told in facts["grad_cam"].items():
        found = explain.grad_cam(student, tensor, EMOTIONS.index(label))
        assert told["largest"] == pytest.approx(float(found.max()), rel=1e-3, abs=1e-7)
        if not found.any():
            assert told["half_of_it_from_seconds"] is None
            continue
        first, end = explain.shortest_span(found.sum(axis=1))
        # frames of 1024 samples every 256, whose middles stand for 256 samples each
        assert told["half_of_it_from_seconds"] == pytest.approx((256 * first + 512 - 128) / 16_000)
        assert told["half_of_it_to_seconds"] == pytest.approx((256 * end + 512 - 128) / 16_000)


def test_the_worst_are_the_most_confident_mistakes(run, capsys, tmp_path, monkeypatch):
    rows = [(0, 1, 0.6), (0, 0, 0.9), (1, 0, 0.9), (2, 1, 0.7)]
    made = Predictions(
        classes=EMOTIONS,
        ids=("a", "b", "c", "d"),
        folds=("1", "1", "2", "2"),
        labels=np.array([label for label, _, _ in rows]),
        predicted=np.array([predicted for _, predicted, _ in rows]),
        probabilities=np.array(
            [np.where(np.arange(3) == guess, share, (1 - share) / 2) for _, guess, share in rows], np.float32
        ),
    )
    assert explain.worst(made, 2) == ["c", "d"]
    assert explain.worst(made, 9) == ["c", "d", "a"]
    predictions = read_predictions(run / "predictions.csv")
    expected = explain.worst(predictions, 2)
    monkeypatch.setattr(
        explain, "explained", lambda folder, names, data, out: [(out or folder) / name for name in names]
    )
    capsys.readouterr()
    assert cli.main(["explain", str(run), "--worst", "2", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.split() == [str(tmp_path / name / "explain.md") for name in expected]
    assert said.err == ""
    assert cli.main(["explain", str(run), "--worst", "99"]) == 0
    mistakes = len(explain.worst(predictions, 99))
    assert capsys.readouterr().err == f"the run made only {mistakes} mistakes: all explained\n"


def test_of_an_utterance_that_several_folds_tested_the_surest_mistake_is_explained(tmp_path):
    from light_sernet_kd.analysis.explain.choosing import row_of

    shares = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.1, 0.9, 0.0], [0.5, 0.3, 0.2], [0.9, 0.1, 0.0]]
    made = Predictions(
        classes=EMOTIONS,
        ids=("a", "a", "a", "b", "b"),
        folds=("1", "2", "3", "1", "2"),
        labels=np.array([0, 0, 0, 0, 0]),
        predicted=np.array([0, 1, 1, 0, 0]),
        probabilities=np.array(shares, np.float32),
    )
    assert explain.worst(made, 2) == ["a"]
    assert row_of(made, "a", tmp_path) == 2
    assert row_of(made, "b", tmp_path) == 3


def test_mistakes_that_are_equally_sure_have_the_order_of_the_report():
    tied = Predictions(
        classes=EMOTIONS,
        ids=("b", "x", "a", "c"),
        folds=("1", "1", "2", "2"),
        labels=np.array([0, 1, 1, 2]),
        predicted=np.array([1, 1, 0, 0]),
        probabilities=np.full((4, 3), 1 / 3, np.float32),
    )
    assert [tied.ids[row] for row in surest_mistakes(tied, 9)] == ["a", "b", "c"]
    assert explain.worst(tied, 9) == ["a", "b", "c"]


def test_an_unknown_utterance_is_told_with_ids_like_it_and_before_tensorflow(run, capsys):
    known = read_predictions(run / "predictions.csv").ids[0]
    wrong = known[:-1].upper()
    code = (
        "import sys; from light_sernet_kd.cli import main\n"
        f"code = main(['explain', {str(run)!r}, '--utterance', {wrong!r}])\n"
        "print(code, sorted({'tensorflow', 'keras', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"
    assert f"Did you mean {known}" in done.stderr
    # of the speaker whose fold did not run
    assert cli.main(["explain", str(run), "--utterance", "qqqq"]) == 2
    assert f"tested no utterance 'qqqq' among its 12. Its ids are like {known}" in error_of(capsys)


def test_what_is_no_finished_run_is_told(run, capsys, tmp_path):
    for folder, message in (
        (tmp_path / "none", "no folder"),
        (tmp_path, "holds no finished run: metrics.json is missing"),
    ):
        assert cli.main(["explain", str(folder), "--worst", "1"]) == 2
        assert message in error_of(capsys)
    assert cli.main(["explain", str(run), "--worst", "0"]) == 2
    assert "--worst must be at least 1, found 0" in error_of(capsys)
    assert cli.main(["explain", str(run)]) == 2
    assert "--utterance --worst is required" in error_of(capsys)


@pytest.mark.parametrize("file", ["student.keras", "test_logits.npz", "fold.json"])
@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_a_damaged_fold_is_named(run, tmp_path, file, state):
    shutil.copytree(run, tmp_path / "r")
    predictions = read_predictions(run / "predictions.csv")
    path = tmp_path / "r" / f"fold-{predictions.folds[0]}" / file
    path.unlink()
    if state == "damaged":
        path.write_bytes(b"PK")
    with pytest.raises(UserError) as error:
        explain.explain(tmp_path / "r", predictions.ids[0], data=tmp_path)
    assert file in str(error.value)
    assert "anew" in str(error.value)


@pytest.fixture
def movable(run, manifest, tmp_path):
    """A copy of the run whose corpus may be changed, and the recording of its first test utterance."""
    shutil.copytree(manifest.parent, tmp_path / "corpus")
    shutil.copytree(run, tmp_path / "r")
    config = json.loads((run / "config.json").read_text())
    config["settings"]["corpus"] = str(tmp_path / "corpus" / manifest.name)
    (tmp_path / "r" / "config.json").write_text(json.dumps(config))
    name = read_predictions(run / "predictions.csv").ids[0]
    return tmp_path / "r", name, tmp_path / "corpus" / f"{name}.wav"


def test_a_recording_that_changed_since_is_an_error(movable):
    folder, name, recording = movable
    waveform, rate = soundfile.read(recording)
    soundfile.write(recording, np.random.default_rng(0).uniform(-0.5, 0.5, len(waveform)), rate)
    with pytest.raises(
        UserError, match="other logits than the run stored for 1 of 6 test recordings"
    ) as error:
        explain.explain(folder, name, data=folder)
    assert str(recording) in str(error.value)
    assert not (folder / "explain").exists()


def test_a_recording_that_is_gone_is_an_error(movable):
    folder, name, recording = movable
    recording.write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 6 recordings cannot be used:\n.*empty.*\n.*put them back"):
        explain.explain(folder, name, data=folder)
    recording.unlink()
    with pytest.raises(UserError, match=recording.name):
        explain.explain(folder, name, data=folder)
    rows = (recording.parent / "small.csv").read_text().splitlines()
    (recording.parent / "small.csv").write_text("\n".join(row for row in rows if recording.name not in row))
    with pytest.raises(
        UserError, match=f"1 of the 6 recordings .* no longer in small, e.g. {name}: put them back"
    ):
        explain.explain(folder, name, data=folder)


def test_the_teachers_embeddings_are_the_folds_own_or_of_the_file_that_taught(run, teacher, tmp_path):
    known = teachers.read(teacher)
    utterances = [Utterance(name, tmp_path / name, "anger", "s") for name in known.ids[:3]]

    def found(fold_folder, source):
        settings = make_settings(distillation="KD", teacher=source)
        return teacher_embeddings(RunFolder(run), Step(fold_folder, "done.json"), settings, utterances, "f")

    embeddings, note = found(tmp_path, str(teacher))
    np.testing.assert_allclose(embeddings, known.embeddings[0][:3], rtol=1e-6)
    assert note == ""
    other = dataclasses.replace(known, embeddings=None)
    teachers.write(tmp_path / "other.npz", other)
    assert found(tmp_path, str(tmp_path / "other.npz"))[1].endswith(
        "has changed since, so its embeddings are not compared."
    )
    assert found(tmp_path, "auto") == (
        None,
        "The teacher file auto is not there, so its embeddings are not compared.",
    )
    shutil.copy(teacher, tmp_path / "teacher.npz")
    np.testing.assert_array_equal(found(tmp_path, "auto")[0], embeddings)
    shutil.copy(tmp_path / "other.npz", tmp_path / "teacher.npz")
    assert found(tmp_path, "auto") == (None, "The teacher's file has no embeddings to compare with.")
    without = teacher_embeddings(
        RunFolder(run), Step(tmp_path, "done.json"), make_settings(), utterances, "f"
    )
    assert without == (None, "The run had no teacher.")


@pytest.mark.parametrize(
    ("input_type", "front_end", "bands", "expected"),
    [
        ("mfcc", "lsn", 40, ("MFCC", {10: "10"})),
        ("mfcc", "robust_voice", 40, ("MFCC, voice from 37", {10: "10"})),
        ("spectrogram", "lsn", 513, ("kHz", {128: "2"})),
        ("mel_spectrogram", "lsn", 128, ("kHz", {})),
        ("mel_spectrogram", "cubic", 128, ("kHz", {})),
    ],
)
def test_bands_are_named_by_their_frequency(input_type, front_end, bands, expected):
    from light_sernet_kd import features

    settings = make_settings(input_type=input_type, front_end=front_end)
    axis = feature_axes(settings, 10, bands)
    label, places = expected
    assert axis.label == label
    told = {round(place, 6): text for place, text in axis.ticks}
    assert places.items() <= told.items()
    if input_type == "mel_spectrogram":
        matrix = features.mel_matrix(features.settings_of(front_end, input_type))
        centres = (np.arange(513) @ matrix / matrix.sum(axis=0)) * 16_000 / 1024
        for place, text in axis.ticks:
            assert np.interp(place, np.arange(bands), centres) == pytest.approx(1000 * float(text), rel=0.03)
    # a frame that is centred on its sample has its middle there
    assert axis.seconds[0] == (0 if front_end == "cubic" else 512 / 16_000)
    assert np.diff(axis.seconds) == pytest.approx(256 / 16_000)


# Students of speech and text, and students that such teachers taught.

TEXT = "random:width=16,layers=2,heads=2"
SPEECH_AND_TEXT = [
    "-id", "2", "--epochs", "1", "-bt", "12", "-lr", "0.01", "--text_tokens", "10", "--no-export", "-v", "0",
    "--text_encoder", TEXT, "--audio_encoder", "vggish=random", "--teacher", "bert_vggish",
    "--teacher_parts", "0", "--folds", SPEAKERS[0],
]  # fmt: skip
TEXTS = dict(zip(EMOTIONS, ["it is", "it is it", "it is it a"], strict=True))


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """A recording and a text for each emotion and speaker, of 0.75, 1.5 and 2.25 s."""
    from light_sernet_kd.encoders import vggish

    folder = tmp_path_factory.mktemp("said")
    with open(folder / "said.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker", "transcript"])
        for speaker in SPEAKERS:
            for number, emotion in enumerate(EMOTIONS, start=1):
                name = f"{speaker}-{emotion}.wav"
                sound = demo.synthesise(speaker, next(iter(demo.SENTENCES)), emotion)
                soundfile.write(folder / name, np.tile(sound, 3)[: 12_000 * number], 16_000)
                writer.writerow([name, emotion, speaker, TEXTS[emotion]])
    with pytest.MonkeyPatch.context() as patch:
        # a sixteenth of each width: the whole has 72 million weights
        narrow = tuple((name, width if name == "fc2" else width // 16) for name, width in vggish.LAYERS)
        patch.setattr(vggish, "LAYERS", narrow)
        yield folder / "said.csv"


def train(said, result, *options):
    command = ["train", "-dn", str(said), *SPEECH_AND_TEXT, "--result", str(result), "--run", "r", *options]
    with no_graphs():
        return cli.main(command)


def explained(folder, out, *emotions):
    """Facts and page of each utterance of the one fold."""
    names = [f"{SPEAKERS[0]}-{emotion}" for emotion in emotions]
    found = []
    with rendered(".png"):
        pages = explain.explained(folder, names, data=folder, out=out)
    for written in pages:
        facts = json.loads((written / "explain.json").read_text())
        assert {path.name for path in written.glob("*.png")} == set(facts["pictures"])
        assert all(is_a_picture(path) for path in written.glob("*.png"))
        found.append((facts, (written / "explain.md").read_text()))
    return found


def token_arrays(emotion):
    from light_sernet_kd.encoders import text

    encoder = text.load(TEXT, data=Path(), tokens=10, texts=list(TEXTS.values()) * len(SPEAKERS))
    ids, mask, _ = encoder.tokeniser([TEXTS[emotion]])
    return {"token_ids": ids, "text_mask": mask}


@pytest.fixture(scope="module")
def both(said, tmp_path_factory):
    """A run whose encoders were trained, the student's by the teacher's text states too; it was interrupted
    when a student was to be stored."""
    from light_sernet_kd.experiment import fold

    result, found = tmp_path_factory.mktemp("both"), []
    options = ["--student", "picobert_vggish", "-kd", "DistilSER", "--tune_epochs", "1"]
    states = result / "r" / f"fold-{SPEAKERS[0]}" / "teacher-states-member.npy"

    def stop(run, weights, path):
        found.append(np.load(states, mmap_mode="r").shape)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold, "save_student", stop)
        assert train(said, result, *options) == 130
    assert found == [(9, 10, 16)]
    assert states.exists()
    assert train(said, result, *options) == 0
    # of a gigabyte for a large corpus
    assert not states.exists()
    return result / "r"


@pytest.fixture(scope="module")
def told(both, tmp_path_factory):
    """Facts and page of two utterances of `both`."""
    emotions = ("anger", "sadness")
    out = tmp_path_factory.mktemp("told")
    return dict(zip(emotions, explained(both, out, *emotions), strict=True))


@pytest.mark.parametrize(("emotion", "rows"), [("anger", [0]), ("sadness", [0, 1])])
def test_what_a_student_attends_to_is_told_by_tokens_and_seconds(both, told, emotion, rows):
    import keras

    from light_sernet_kd import audio, features
    from light_sernet_kd.students.attention import attention_maps

    facts, page = told[emotion]
    tokens = ["[CLS]", *TEXTS[emotion].split(), "[SEP]"]
    assert facts["tokens"] == tokens
    assert facts["grad_cam"] is None
    assert facts["largest_difference_from_stored_logits"] < 1e-3
    clip = audio.fit(audio.read(facts["recording"]), 32_000, pad="right")
    patches = features.front_end_model("vggish", "mel_spectrogram", 32_000).predict_on_batch(clip[None])
    student = keras.saving.load_model(both / f"fold-{SPEAKERS[0]}" / "student.keras", compile=False)
    maps = attention_maps(student, {**token_arrays(emotion), "features": patches})
    times = ["0.00–0.96 s", "0.96–1.92 s"]
    real = {
        "text_attention": np.arange(len(tokens)),
        "fusion_attention": np.r_[: len(tokens), 10 + np.array(rows)],
    }
    assert set(facts["attention"]) == set(maps)
    for layer, found in facts["attention"].items():
        names = [*tokens, *(times[row] for row in rows if layer == "fusion_attention")]
        assert found["queries"] == found["keys"] == len(names)
        shares = maps[layer][0][:, real[layer]][..., real[layer]].mean(axis=(0, 1))
        expected = np.argsort(-shares, kind="stable")[:5]
        most = found["most_attended"]
        assert [each["name"] for each in most] == [names[i] for i in expected]
        np.testing.assert_allclose([each["mean_attention"] for each in most], shares[expected], rtol=1e-3)
    assert f"As the student reads it: \\[CLS\\] {TEXTS[emotion]} \\[SEP\\]" in page
    assert "- fusion attention (text and audio over themselves): the most to " in page
    assert "Grad-CAM" not in page


def test_text_states_are_compared_with_the_teachers_token_by_token(both, told):
    import keras

    facts, page = told["sadness"]
    found, fold = facts["text_states"], both / f"fold-{SPEAKERS[0]}"
    assert (found["widths"], found["tokens_in_fold"]) == ([16, 16], 4 + 5 + 6)
    with np.load(fold / "test_teacher_states.npz") as stored:
        teacher, counts = stored["states"], stored["tokens"]
    assert counts.tolist() == [4, 5, 6]
    encoder = keras.saving.load_model(fold / "student.keras", compile=False).get_layer("text_encoder")
    student = [np.asarray(encoder(token_arrays(emotion)))[0] for emotion in EMOTIONS]
    own = [states[:count] for states, count in zip(student, counts, strict=True)]
    expected = explain.cosine_similarity(own[2], teacher[9:])
    np.testing.assert_allclose(found["cosine_similarity"], expected, atol=1e-3)
    assert found["linear_cka"] == pytest.approx(explain.linear_cka(np.concatenate(own), teacher), abs=1e-3)
    assert "state_similarity.png" in facts["pictures"]
    assert f"cosine similarity {expected.mean():.3f} in the mean over this text's tokens" in page


def test_a_run_shows_the_embeddings_of_its_test_utterances(both):
    with np.load(both / f"fold-{SPEAKERS[0]}" / "test_embeddings.npz") as stored:
        assert stored["selected"].shape == (3, 128)
    assert is_a_picture(both / "embeddings.png")
    assert "](embeddings.png)" in (both / "report.md").read_text()


def test_a_transcript_that_changed_since_is_an_error(both, said, tmp_path):
    shutil.copytree(said.parent, tmp_path / "corpus")
    shutil.copytree(both, tmp_path / "r")
    table = tmp_path / "corpus" / said.name
    config = (both / "config.json").read_text().replace(str(said), str(table))
    (tmp_path / "r" / "config.json").write_text(config)
    table.write_text(table.read_text().replace(f"{SPEAKERS[0]},it is it a", f"{SPEAKERS[0]},it is"))
    with pytest.raises(UserError, match="The recordings or their transcripts have changed since"):
        explained(tmp_path / "r", tmp_path, "anger")


def test_states_of_encoders_that_the_student_does_not_hold_are_made_again(said, tmp_path):
    """Whitened embeddings of VGGish are no Keras model. The teacher's text states have another width."""
    random = np.random.default_rng(0)
    directions = np.linalg.qr(random.normal(size=(128, 128)))[0].astype(np.float32)
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=directions, pca_means=np.zeros((128, 1), np.float32))
    options = ["--student", "picobert_vggish", "-kd", "KD", "--tune_epochs", "0"]
    options += ["--vggish_pca", str(tmp_path / "pca.npz"), "--teacher_text_encoder", TEXT.replace("16", "32")]
    assert train(said, tmp_path, *options) == 0
    shutil.rmtree(tmp_path / ".cache")
    ((facts, page),) = explained(tmp_path / "r", tmp_path / "out", "sadness")
    assert not (tmp_path / ".cache").exists()
    assert facts["attention"]["fusion_attention"]["keys"] == 8
    told = facts["text_states"]
    assert (told["widths"], told["tokens_in_fold"], told["cosine_similarity"]) == ([16, 32], 15, None)
    assert 0 < told["linear_cka"] <= 1
    assert "no cosine similarity, because they are 16 and 32 wide" in page
    assert "state_similarity.png" not in facts["pictures"]


@pytest.mark.usefixtures("shallow_here")
def test_a_light_sernet_that_such_a_teacher_taught_is_explained_beside_it(said, tmp_path):
    options = ["--width", "0.15", "-kd", "KD", "--tune_epochs", "0", "--teacher_epochs", "1"]
    assert train(said, tmp_path, *options) == 0
    ((facts, page),) = explained(tmp_path / "r", tmp_path / "out", "anger")
    assert facts["student"] == "light_sernet"
    assert (facts["attention"], facts["text_states"], facts["text_states_note"]) == (None, None, "")
    assert set(facts["grad_cam"]) == {facts["label"], facts["predicted"]}
    outputs = teachers.read(tmp_path / "r" / f"fold-{SPEAKERS[0]}" / "teacher.npz")
    assert facts["teacher_embedding"]["width"] == outputs.embeddings.shape[-1] == 128
    assert "To the teacher, by cosine similarity: " in page
    assert set(facts["teacher_probabilities"]) == set(EMOTIONS)
