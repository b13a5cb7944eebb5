"""Losses against loops written from the papers, against algebra, and at the edges of floating point."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import reference_losses as reference
import tensorflow as tf
from conftest import REPOSITORY

from light_sernet_kd import config, losses
from light_sernet_kd.config import UserError

TAUGHT = ["KD", "RKD", "DKD", "CKD"]


def examples(batch=4, classes=5, seed=0, dtype="float64"):
    """Labels, and the logits of a teacher and of a student that have little in common."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, batch)
    return labels, *(rng.normal(0, 2, (2, batch, classes)).astype(dtype))


def parts(name, labels, teacher, student, label_loss=None, **settings):
    if label_loss is None:
        label_loss = losses.cross_entropy(labels, student)
    return losses.DISTILLATIONS[name](label_loss, labels, teacher, student, **settings)


def total(name, labels, teacher, student, **settings):
    per_example, relational = parts(name, labels, teacher, student, **settings)
    return tf.reduce_mean(per_example) + relational


def value_and_gradient(loss, student):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss(student)
    return value.numpy(), tape.gradient(value, student).numpy()


def test_registries_are_the_names_that_config_knows():
    assert tuple(losses.LABEL_LOSSES) == config.LABEL_LOSS_NAMES
    assert tuple(losses.DISTILLATIONS) == config.DISTILLATION_NAMES


# Label losses


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_keras(label_smoothing):
    labels, logits, _ = examples(batch=9)
    peer = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=label_smoothing, reduction="none", dtype="float64"
    )
    ours = losses.cross_entropy(labels, logits, label_smoothing=label_smoothing)
    np.testing.assert_allclose(ours, peer(np.eye(5)[labels], logits), rtol=1e-9)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_that_of_keras(gamma, label_smoothing):
    labels, logits, _ = examples(batch=9)
    alpha = (0.1, 0.2, 0.3, 0.4, 0.5)
    peer = keras.losses.CategoricalFocalCrossentropy(
        alpha=list(alpha),
        gamma=gamma,
        from_logits=True,
        label_smoothing=label_smoothing,
        reduction="none",
        dtype="float64",
    )
    ours = losses.focal(labels, logits, gamma=gamma, alpha=alpha, label_smoothing=label_smoothing)
    np.testing.assert_allclose(ours, peer(np.eye(5)[labels], logits), rtol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_focal_with_gamma_0_is_cross_entropy(label_smoothing):
    labels, logits, _ = examples()
    np.testing.assert_allclose(
        losses.focal(labels, logits, gamma=0.0, label_smoothing=label_smoothing),
        losses.cross_entropy(labels, logits, label_smoothing=label_smoothing),
        rtol=1e-12,
    )


def test_focal_of_a_certain_and_right_answer_has_no_gradient_even_with_a_root_as_focus():
    _, gradient = value_and_gradient(
        lambda logits: tf.reduce_sum(losses.focal([1], logits, gamma=0.5)), np.float32([[-500, 500, 0]])
    )
    np.testing.assert_array_equal(gradient, 0)


def test_focal_with_a_wrong_number_of_class_weights_is_refused():
    with pytest.raises(UserError, match=r"2 class weights \(alpha\) for 5 classes"):
        losses.focal(*examples()[:2], alpha=(1.0, 2.0))


# Distillation losses against loops


def test_pure_is_the_label_loss_and_needs_no_teacher():
    labels, _, student = examples()
    per_example, relational = parts("pure", labels, None, student)
    np.testing.assert_allclose(per_example, reference.cross_entropy(labels, student))
    assert float(relational) == 0


@pytest.mark.parametrize("settings", [{}, {"temperature": 4.0, "alpha": 0.3}])
def test_kd_is_hintons_sum_over_classes(settings):
    labels, teacher, student = examples()
    per_example, relational = parts("KD", labels, teacher, student, **settings)
    label_loss = reference.cross_entropy(labels, student)
    expected = reference.kd(label_loss, teacher, student, **({"temperature": 1.2, "alpha": 0.7} | settings))
    np.testing.assert_allclose(per_example, expected, rtol=1e-10)
    assert float(relational) == 0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_dkd_is_zhaos_two_divergences_between_renormalised_probabilities(temperature):
    labels, teacher, student = examples()
    per_example, _ = parts("DKD", labels, teacher, student, temperature=temperature)
    expected = reference.dkd(labels, teacher, student, 1.0, 0.25, temperature)
    np.testing.assert_allclose(per_example, expected, rtol=1e-10)


def test_kd_is_target_part_plus_what_the_teacher_leaves_to_the_rest():
    labels, teacher, student = examples()
    temperature = 2.0
    whole, _ = parts("KD", labels, teacher, student, temperature=temperature, alpha=1.0)
    target, _ = parts("DKD", labels, teacher, student, temperature=temperature, alpha=1.0, beta=0.0)
    non_target, _ = parts("DKD", labels, teacher, student, temperature=temperature, alpha=0.0, beta=1.0)
    rest = [1 - reference.softmax(row, temperature)[y] for row, y in zip(teacher, labels, strict=True)]
    np.testing.assert_allclose(whole, target + rest * non_target, rtol=1e-10)


def test_dkd_adds_the_label_loss_with_its_weight():
    labels, teacher, student = examples()
    without, _ = parts("DKD", labels, teacher, student)
    with_half, _ = parts("DKD", labels, teacher, student, label_weight=0.5)
    np.testing.assert_allclose(with_half - without, 0.5 * reference.cross_entropy(labels, student))


def test_rkd_is_parks_means_over_pairs_and_triplets():
    labels, teacher, student = examples(batch=5)
    student[3] = student[1]
    per_example, relational = parts("RKD", labels, teacher, student)
    np.testing.assert_allclose(per_example, 0.5 * reference.cross_entropy(labels, student))
    expected = 0.3 * reference.distance_relation(teacher, student)
    expected += 0.7 * reference.angle_relation(teacher, student)
    np.testing.assert_allclose(relational, 0.5 * expected, rtol=1e-10)


def test_rkd_sees_no_shift_scale_or_rotation_of_the_logits():
    labels, teacher, _ = examples(batch=5)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    _, relational = parts("RKD", labels, teacher, 3 * teacher @ rotation + 7)
    np.testing.assert_allclose(relational, 0, atol=1e-25)


@pytest.mark.parametrize(("batch", "classes"), [(3, 7), (4, 3), (1, 4)])
@pytest.mark.parametrize("only", ["absolute", "squared", "lambda1", "lambda2"])
def test_ckd_closed_forms_are_the_loops_over_pairs(only, batch, classes):
    labels, teacher, student = examples(batch, classes)
    cubes = [reference.cube(logits, (1, 2, 3, 4, 5)) for logits in (teacher, student)]
    expected = dict(
        zip(
            ("absolute", "squared", "lambda1", "lambda2"),
            reference.sums_over_cell_pairs(*cubes) + reference.between_instances_and_classes(*cubes),
            strict=True,
        )
    )
    weights = dict.fromkeys(expected, 0.0) | {only: 1.0}
    _, relational = parts("CKD", labels, teacher, student, **weights)
    np.testing.assert_allclose(relational, expected[only], rtol=1e-10)


def test_ckd_is_kd_at_five_temperatures_plus_four_sums_with_the_published_weights():
    labels, teacher, student = examples(3, 7)
    per_example, relational = parts("CKD", labels, teacher, student)
    label_loss = reference.cross_entropy(labels, student)
    expected = sum(reference.kd(label_loss, teacher, student, k, 0.7) for k in (1, 2, 3, 4, 5))
    np.testing.assert_allclose(per_example, expected, rtol=1e-10)
    cubes = [reference.cube(logits, (1, 2, 3, 4, 5)) for logits in (teacher, student)]
    absolute, squared = reference.sums_over_cell_pairs(*cubes)
    instances, classes = reference.between_instances_and_classes(*cubes)
    expected = 2.5e-4 * absolute + 2.5e-4 * squared + 0.006 * instances + 0.015 * classes
    np.testing.assert_allclose(relational, expected, rtol=1e-10)


@pytest.mark.parametrize("only", ["absolute", "squared", "lambda1", "lambda2"])
def test_ckd_keeps_its_digits_in_float32_when_the_student_is_near(only):
    labels, teacher, student = examples(3, 5)
    teacher = teacher.astype("float32")
    student = (teacher + 1e-3 * student).astype("float32")
    weights = dict.fromkeys(("absolute", "squared", "lambda1", "lambda2"), 0.0) | {only: 1.0}
    _, single = parts("CKD", labels, teacher, student, **weights)
    _, double = parts("CKD", labels, teacher.astype("float64"), student.astype("float64"), **weights)
    np.testing.assert_allclose(single, double, rtol=2e-3)


@pytest.mark.parametrize("name", ["KD", "DKD", "CKD"])
def test_kl_mean_over_elements_divides_the_divergence_by_the_classes(name):
    labels, teacher, student = examples(classes=5)
    nothing = np.zeros(len(labels))
    over_batch, _ = parts(name, labels, teacher, student, label_loss=nothing)
    over_elements, _ = parts(name, labels, teacher, student, label_loss=nothing, kl_mean="elements")
    np.testing.assert_allclose(over_batch, 5 * over_elements, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "share"),
    [("pure", {}, 1), ("KD", {}, 0.3), ("RKD", {}, 0.5), ("DKD", {"label_weight": 2.0}, 2), ("CKD", {}, 1.5)],
)
def test_the_given_label_loss_enters_with_its_weight_example_by_example(name, settings, share):
    labels, teacher, student = examples()
    focal = losses.focal(labels, student)
    with_focal, _ = parts(name, labels, teacher, student, label_loss=focal, **settings)
    with_nothing, _ = parts(name, labels, teacher, student, label_loss=np.zeros(4), **settings)
    np.testing.assert_allclose(with_focal - with_nothing, share * focal, rtol=1e-9)


# Gradients and minima


@pytest.mark.parametrize("name", config.DISTILLATION_NAMES)
def test_gradient_is_that_of_finite_differences(name):
    labels, teacher, student = examples(4, 3)
    _, gradient = value_and_gradient(lambda student: total(name, labels, teacher, student), student)
    step = 1e-5
    slopes = np.zeros_like(student)
    for cell in np.ndindex(student.shape):
        moved = np.zeros_like(student)
        moved[cell] = step
        above, below = (total(name, labels, teacher, student + sign * moved) for sign in (1, -1))
        slopes[cell] = (above - below) / (2 * step)
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", TAUGHT)
def test_teacher_terms_are_0_without_gradient_where_the_student_equals_the_teacher(name):
    labels, teacher, student = examples()
    nothing = np.zeros(len(labels))

    def taught(student):
        return total(name, labels, teacher, student, label_loss=nothing)

    value, gradient = value_and_gradient(taught, teacher)
    np.testing.assert_allclose(value, 0, atol=1e-15)
    np.testing.assert_allclose(gradient, 0, atol=1e-14)
    for size in (0.01, 0.1, 1.0):
        assert taught(teacher + size * student) > 1e-7


def test_ckd_counts_no_slope_for_products_that_are_alike():
    # At one temperature teacher (a, 1 - a) and student (1 - a, a) have the same product of both cells. The
    # pairs of a cell with itself give |a² - q²| + |(1 - a)² - (1 - q)²|, of slope -2 in q, the first cell.
    teacher = np.array([[0.5, -0.5]])
    weights = {"squared": 0.0, "lambda1": 0.0, "lambda2": 0.0, "absolute": 1.0, "temperatures": (1.0,)}
    _, gradient = value_and_gradient(
        lambda student: parts("CKD", [0], teacher, student, **weights)[1], -teacher
    )
    q, rest = reference.softmax(-teacher[0])
    np.testing.assert_allclose(gradient, [[-2 * q * rest, 2 * q * rest]], rtol=1e-10)


def test_kd_gradient_tends_to_the_difference_of_centred_logits_whatever_the_temperature():
    labels, teacher, student = examples()
    centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (teacher, student)]
    limit = (centred[1] - centred[0]) / teacher.shape[1]
    for temperature in (1e3, 1e4):
        _, gradient = value_and_gradient(
            lambda student, t=temperature: tf.reduce_sum(
                parts("KD", labels, teacher, student, temperature=t, alpha=1.0)[0]
            ),
            student,
        )
        np.testing.assert_allclose(gradient, limit, atol=10 / temperature)


# The edges of floating point

NORMAL = examples(4, 4, dtype="float32")
DOMINATED = np.float32([[500, -500, 0, 0], [-500, 500, 500, 0], [0, 0, -500, 500], [-500, -500, -500, 500]])
EDGES = {
    "opposite": (NORMAL[0], DOMINATED, -DOMINATED),
    "teacher certain": (NORMAL[0], DOMINATED, NORMAL[2]),
    "student certain": (NORMAL[0], NORMAL[1], DOMINATED),
    "the same": (NORMAL[0], DOMINATED, DOMINATED.copy()),
    "all classes equal": (NORMAL[0], NORMAL[1], np.full((4, 4), 500, "float32")),
    "all equal for both": (NORMAL[0], np.full((4, 4), -500, "float32"), np.full((4, 4), 500, "float32")),
    "two examples alike": (NORMAL[0], NORMAL[1], NORMAL[2][[0, 0, 2, 3]]),
    "batch of one": tuple(array[:1] for array in (NORMAL[0], DOMINATED, -DOMINATED)),
    "two classes": (NORMAL[0] % 2, DOMINATED[:, :2], -DOMINATED[:, :2]),
}


@pytest.mark.parametrize("label_loss", config.LABEL_LOSS_NAMES)
@pytest.mark.parametrize("name", config.DISTILLATION_NAMES)
@pytest.mark.parametrize("edge", EDGES)
def test_float32_is_finite_and_agrees_with_float64_at_the_edges(edge, name, label_loss):
    labels, teacher, student = EDGES[edge]

    def at(dtype):
        def loss(student):
            label_losses = losses.LABEL_LOSSES[label_loss](labels, student)
            return total(name, labels, teacher.astype(dtype), student, label_loss=label_losses)

        return value_and_gradient(loss, student.astype(dtype))

    (value, gradient), (exact_value, exact_gradient) = at("float32"), at("float64")
    assert np.isfinite(exact_value)
    assert np.isfinite(exact_gradient).all()
    np.testing.assert_allclose(value, exact_value, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, exact_gradient, rtol=1e-3, atol=1e-5)


def test_cross_entropy_of_a_certain_and_wrong_answer_is_the_gap_of_the_logits():
    np.testing.assert_array_equal(losses.cross_entropy([0], np.float32([[-500, 500, 0]])), [1000])


def test_rkd_has_no_gradient_where_all_examples_coincide():
    labels, teacher, student = examples()
    _, gradient = value_and_gradient(
        lambda student: parts("RKD", labels, teacher, student)[1], np.repeat(student[:1], 4, axis=0)
    )
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", config.DISTILLATION_NAMES)
def test_half_precision_logits_are_computed_with_in_float32(name):
    labels, teacher, student = examples(dtype="float16")
    half = total(name, labels, teacher, student)
    assert half.dtype == tf.float32
    assert half == total(name, labels, teacher.astype("float32"), student.astype("float32"))


# Back ends and graphs


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", config.DISTILLATION_NAMES)
def test_a_graph_of_unknown_batch_size_gives_what_eager_gives(name, jit_compile):
    matrix = tf.TensorSpec([None, 5], tf.float32)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int64), matrix, matrix],
        jit_compile=jit_compile,
        autograph=False,
    )
    def graph(labels, teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = total(name, labels, teacher, student)
        return value, tape.gradient(value, student)

    for batch in (3, 6):
        labels, teacher, student = examples(batch, 5, dtype="float32")
        value, gradient = value_and_gradient(
            lambda student, y=labels, t=teacher: total(name, y, t, student), student
        )
        in_graph = graph(labels, teacher, student)
        np.testing.assert_allclose(in_graph[0], value, rtol=1e-5)
        np.testing.assert_allclose(in_graph[1], gradient, rtol=1e-4, atol=1e-6)


JAX_SCRIPT = """
import sys
import jax
import numpy as np
from light_sernet_kd import losses

@jax.jit
def value_and_gradient_of_each(labels, teacher, student):
    def total(student, distillation):
        label_loss = losses.focal(labels, student, label_smoothing=0.1)
        per_example, relational = distillation(label_loss, labels, teacher, student)
        return per_example.mean() + relational

    each = losses.DISTILLATIONS.items()
    return {name: jax.value_and_grad(total)(student, distillation) for name, distillation in each}

given = np.load(sys.argv[1])
found = {}
for edge in {key.split("/")[0] for key in given}:
    arrays = (given[f"{edge}/{part}"] for part in ("labels", "teacher", "student"))
    for name, (value, gradient) in value_and_gradient_of_each(*arrays).items():
        found[f"{edge}/{name}/value"], found[f"{edge}/{name}/gradient"] = value, gradient
np.savez(sys.argv[2], **found)
"""


def test_jax_gives_the_values_and_gradients_of_tensorflow(tmp_path):
    pytest.importorskip("jax")
    # One shape for all edges: JAX compiles anew for each.
    cases = {edge: arrays for edge, arrays in EDGES.items() if arrays[1].shape == (4, 4)}
    cases["normal"] = examples(6, 7, dtype="float32")
    given = {
        f"{edge}/{part}": array
        for edge, arrays in cases.items()
        for part, array in zip(("labels", "teacher", "student"), arrays, strict=True)
    }
    np.savez(tmp_path / "given.npz", **given)
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", JAX_SCRIPT, str(tmp_path / "given.npz"), str(tmp_path / "found.npz")]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=300)
    found = np.load(tmp_path / "found.npz")
    for edge, (labels, teacher, student) in cases.items():
        for name in losses.DISTILLATIONS:

            def loss(student, name=name, labels=labels, teacher=teacher):
                focal = losses.focal(labels, student, label_smoothing=0.1)
                return total(name, labels, teacher, student, label_loss=focal)

            value, gradient = value_and_gradient(loss, student)
            where = f"{name}, {edge}"
            np.testing.assert_allclose(found[f"{edge}/{name}/value"], value, 1e-5, 1e-5, err_msg=where)
            np.testing.assert_allclose(found[f"{edge}/{name}/gradient"], gradient, 1e-3, 1e-5, err_msg=where)


# Settings


def test_every_weight_is_a_setting_with_the_published_default():
    assert losses.settings_of("pure") == {}
    assert losses.settings_of("KD") == {"temperature": 1.2, "alpha": 0.7, "kl_mean": "batch"}
    assert losses.settings_of("RKD") == {
        "label_weight": 0.5,
        "relation_weight": 0.5,
        "distance": 0.3,
        "angle": 0.7,
    }
    assert losses.settings_of("DKD") == {
        "alpha": 1.0,
        "beta": 0.25,
        "temperature": 1.0,
        "label_weight": 0.0,
        "kl_mean": "batch",
    }
    assert losses.settings_of("CKD") == {
        "alpha": 0.7,
        "temperatures": (1.0, 2.0, 3.0, 4.0, 5.0),
        "absolute": 2.5e-4,
        "squared": 2.5e-4,
        "lambda1": 0.006,
        "lambda2": 0.015,
        "kl_mean": "batch",
    }
    assert losses.settings_of("focal") == {"gamma": 2.0, "alpha": None, "label_smoothing": 0.0}


def test_overrides_replace_defaults_and_lists_become_tuples():
    settings = losses.settings_of("ckd", {"lambda1": 1, "temperatures": [1, 2]})
    assert settings == losses.settings_of("CKD") | {"lambda1": 1.0, "temperatures": (1.0, 2.0)}
    per_class = losses.settings_of("focal", {"alpha": [1, 2]})
    assert per_class["alpha"] == (1.0, 2.0)


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("focall", {}, "unknown loss 'focall'. Did you mean focal?"),
        ("KD", {"temprature": 4}, "unknown setting of KD 'temprature'. Did you mean temperature?"),
        ("RKD", {"lambda1": 1}, "Valid: label_weight, relation_weight, distance, angle."),
        ("pure", {"alpha": 1}, "the loss pure has no settings"),
        ("KD", {"temperature": 0}, "temperature of KD is 0, but must be more than 0."),
        ("CKD", {"temperatures": [1, -1]}, "must be more than 0."),
        ("CKD", {"temperatures": 2}, "must be a list of numbers"),
        ("CKD", {"temperatures": []}, "must be a list of numbers"),
        ("KD", {"alpha": 1.5}, "alpha of KD is 1.5, but must be 0 to 1."),
        ("CKD", {"lambda2": -1}, "lambda2 of CKD is -1, but must be 0 or more."),
        ("DKD", {"beta": "0.25"}, "'0.25' is no finite number"),
        ("DKD", {"beta": float("nan")}, "nan is no finite number"),
        ("KD", {"kl_mean": "mean"}, "Valid: batch, elements."),
        ("focal", {"label_smoothing": 2}, "must be 0 to 1."),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_be_right(name, overrides, sentence):
    with pytest.raises(UserError) as refused:
        losses.settings_of(name, overrides)
    assert sentence in str(refused.value)
