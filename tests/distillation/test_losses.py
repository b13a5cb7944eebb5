"""Losses against loops written from the papers, against algebra, and at the edges of floating point."""

import dataclasses
import functools
import inspect
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import reference_losses as reference
import tensorflow as tf
from conftest import ON_JAX, REPOSITORY

from light_sernet_kd import config
from light_sernet_kd.config import distillation_spec
from light_sernet_kd.distillation import losses
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES

ON_LOGITS = {name: entry.loss for name, entry in DISTILLATIONS.items() if entry.brings_label_loss}
ON_EMBEDDINGS = {name: entry.loss for name, entry in DISTILLATIONS.items() if entry.compares == "embedding"}
OURS_SETTINGS = [
    "KD",
    "RKD",
    "DKD",
    "CKD",
    "DIST",
    "ABKD",
    "MSE",
]  # teacher terms that are 0 where both agree


def examples(batch=4, classes=5, seed=0, dtype="float64"):
    """Labels, and the logits of a teacher and of a student that have little in common."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, batch)
    return labels, *(rng.normal(0, 2, (2, batch, classes)).astype(dtype))


def parts(name, labels, teacher, student, label_loss=None, **settings):
    if label_loss is None:
        label_loss = losses.cross_entropy(labels, student)
    return ON_LOGITS[name](label_loss, labels, teacher, student, **settings)


def total(name, labels, teacher, student, **settings):
    per_example, relational = parts(name, labels, teacher, student, **settings)
    return tf.reduce_mean(per_example) + relational


def value_and_gradient(loss, student):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss(student)
    return value.numpy(), tape.gradient(value, student).numpy()


def finite_differences(loss, student, step=1e-5):
    slopes = np.zeros_like(student)
    for cell in np.ndindex(student.shape):
        moved = np.zeros_like(student)
        moved[cell] = step
        slopes[cell] = (loss(student + moved) - loss(student - moved)) / (2 * step)
    return slopes


@pytest.mark.parametrize("name", [*LABEL_LOSSES, *DISTILLATIONS])
def test_limits_are_of_settings_that_the_loss_has_and_no_temperature_can_be_0(name):
    entry, settings = (LABEL_LOSSES | DISTILLATIONS)[name], losses.settings_of(name)
    assert {*entry.shares, *entry.above_zero} <= {*settings}
    assert {setting for setting in settings if "temperature" in setting} <= {*entry.above_zero}


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_a_distillation_is_called_as_its_entry_says(name):
    entry = DISTILLATIONS[name]
    taken = [
        each.name
        for each in inspect.signature(entry.loss.load()).parameters.values()
        if each.kind is not each.KEYWORD_ONLY
    ]
    assert taken == ["label_loss"] * entry.brings_label_loss + ["labels", "teacher", "student"]
    assert {*entry.flags} <= {*losses.settings_of(name)}


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_a_run_has_settings_of_a_label_loss_under_names_that_exist(name):
    fields = LABEL_LOSSES[name].fields
    assert {*fields} <= {*losses.settings_of(name)}
    assert {*fields.values()} <= {field.name for field in dataclasses.fields(config.Settings)}


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


# Soft labels

label_losses = pytest.mark.parametrize("name", LABEL_LOSSES)
smoothings = pytest.mark.parametrize("label_smoothing", [0.0, 0.1])


def soft_examples(batch=9, classes=5, seed=0):
    """The shares of seven annotators, and logits."""
    rng = np.random.default_rng(seed)
    shares = rng.multinomial(7, rng.dirichlet(np.ones(classes)), batch) / 7
    return shares, rng.normal(0, 2, (batch, classes))


def test_cross_entropy_of_soft_labels_is_the_sum_over_classes():
    shares, logits = soft_examples()
    expected = reference.soft_cross_entropy(shares, logits)
    np.testing.assert_allclose(losses.cross_entropy(shares, logits), expected, rtol=1e-12)


@smoothings
def test_label_losses_of_soft_labels_are_those_of_keras(label_smoothing):
    shares, logits = soft_examples()
    alpha = (0.1, 0.2, 0.3, 0.4, 0.5)
    common = {"from_logits": True, "label_smoothing": label_smoothing, "reduction": "none"}
    peer = keras.losses.CategoricalCrossentropy(**common, dtype="float64")
    ours = losses.cross_entropy(shares, logits, label_smoothing=label_smoothing)
    np.testing.assert_allclose(ours, peer(shares, logits), rtol=1e-9)
    peer = keras.losses.CategoricalFocalCrossentropy(list(alpha), 1.5, **common, dtype="float64")
    ours = losses.focal(shares, logits, gamma=1.5, alpha=alpha, label_smoothing=label_smoothing)
    np.testing.assert_allclose(ours, peer(shares, logits), rtol=1e-5)


@smoothings
def test_mse_is_the_mean_square_of_outputs_less_shares(label_smoothing):
    shares, logits = soft_examples()
    smooth = (1 - label_smoothing) * shares + label_smoothing / 5
    ours = losses.mse(shares, logits, label_smoothing=label_smoothing)
    np.testing.assert_allclose(ours, reference.squared_error(smooth, logits), rtol=1e-12)
    peer = keras.losses.MeanSquaredError(dtype="float64")
    np.testing.assert_allclose(np.mean(ours), peer(smooth, logits), rtol=1e-12)


@label_losses
@smoothings
@pytest.mark.parametrize("form", [np.int32, np.float32, np.float64])
def test_a_soft_label_of_one_class_is_that_class(name, label_smoothing, form):
    labels, logits, _ = examples(batch=9)
    loss = LABEL_LOSSES[name].loss
    soft = loss(np.eye(5)[labels].astype(form), logits, label_smoothing=label_smoothing)
    np.testing.assert_array_equal(soft, loss(labels, logits, label_smoothing=label_smoothing))


@label_losses
def test_label_losses_are_linear_in_the_target_mse_but_for_what_no_output_changes(name):
    one, logits = soft_examples()
    other, _ = soft_examples(seed=1)
    loss = LABEL_LOSSES[name].loss
    of_mixture = loss(0.3 * one + 0.7 * other, logits)
    mixture = 0.3 * loss(one, logits) + 0.7 * loss(other, logits)
    spread = 0.3 * 0.7 * np.mean((one - other) ** 2, axis=-1) if name == "mse" else 0
    np.testing.assert_allclose(of_mixture + spread, mixture, rtol=1e-10)


@label_losses
def test_gradient_on_soft_labels_is_that_of_finite_differences(name):
    shares, logits = soft_examples(4)

    def loss(logits):
        return tf.reduce_sum(LABEL_LOSSES[name].loss(shares, logits))

    _, gradient = value_and_gradient(loss, logits)
    np.testing.assert_allclose(gradient, finite_differences(loss, logits), rtol=1e-6, atol=1e-8)


@label_losses
def test_soft_labels_are_finite_at_logits_of_500_and_agree_with_float64(name):
    shares, _ = soft_examples(4, 4)

    def at(dtype):
        loss = LABEL_LOSSES[name].loss
        return value_and_gradient(
            lambda logits: tf.reduce_sum(loss(shares.astype(dtype), logits)), DOMINATED.astype(dtype)
        )

    (value, gradient), (exact_value, exact_gradient) = at("float32"), at("float64")
    assert np.isfinite(exact_gradient).all()
    np.testing.assert_allclose(value, exact_value, rtol=1e-5)
    np.testing.assert_allclose(gradient, exact_gradient, rtol=2e-3, atol=1e-5)


@label_losses
def test_soft_labels_of_another_number_of_classes_are_refused(name):
    shares, logits = soft_examples()
    with pytest.raises(UserError, match="shares of 4 classes, but there are logits of 5"):
        LABEL_LOSSES[name].loss(shares[:, :4], logits)


@label_losses
def test_labels_outside_of_the_classes_and_columns_are_refused(name):
    loss, logits = LABEL_LOSSES[name].loss, np.zeros((2, 3), "float32")
    for odd, message in (([0, 3], "found 3"), ([-1, 0], "found -1"), ([0, 0.5], "found 0.5")):
        with pytest.raises(UserError, match=f"indices from 0 to 2, as there are logits of 3.*{message}"):
            loss(np.array(odd), logits)
    with pytest.raises(UserError, match=r"shares of 1 classes.*or class indices of the shape \(batch,\)"):
        loss(np.array([[0], [1]]), logits)


@pytest.mark.parametrize("name", [name for name, entry in DISTILLATIONS.items() if entry.reads_label])
def test_a_loss_that_reads_the_label_takes_indices_alone(name):
    logits = np.zeros((2, 3), "float32")
    with pytest.raises(UserError, match=r"found \(2, 3\)\. One-hot labels become indices with argmax"):
        ON_LOGITS[name](np.zeros(2, "float32"), np.eye(3)[[0, 1]], logits, logits)
    traced = tf.function(lambda labels: ON_LOGITS[name](np.zeros(2, "float32"), labels, logits, logits))
    with pytest.raises(UserError, match="One-hot labels become indices"):
        traced(tf.constant(np.eye(3)[[0, 1]]))
    with pytest.raises(UserError, match=r"class indices from 0 to 2.*found 3"):
        ON_LOGITS[name](np.zeros(2, "float32"), [0, 3], logits, logits)


def test_the_class_of_a_soft_label_has_the_largest_share_and_the_hard_label_decides_a_tie():
    shares = np.float32([[0.2, 0.8, 0], [0.5, 0, 0.5], [0.5, 0, 0.5], [0.4, 0.2, 0.4], [1 / 3] * 3])
    found = losses.hard_labels(np.int64([0, 0, 2, 1, 1]), shares)
    np.testing.assert_array_equal(found, [1, 0, 2, 0, 1])
    assert found.dtype == tf.int64


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


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_is_huangs_correlations_between_and_within_classes(temperature):
    labels, teacher, student = examples(6)
    settings = {"temperature": temperature, "beta": 2.0, "gamma": 3.0, "label_weight": 0.5}
    per_example, relational = parts("DIST", labels, teacher, student, **settings)
    between, within = reference.dist(teacher, student, temperature)
    expected = 0.5 * reference.cross_entropy(labels, student) + 2 * temperature**2 * between
    np.testing.assert_allclose(per_example, expected, rtol=1e-10)
    np.testing.assert_allclose(relational, 3 * temperature**2 * within, rtol=1e-10)


def test_dist_of_two_classes_sees_between_them_only_which_is_higher():
    """Two numbers less their mean correlate fully: by 1 or by -1."""
    labels, teacher, student = examples(9, 2)
    nothing = np.zeros(len(labels))
    per_example, _ = parts("DIST", labels, teacher, student, label_loss=nothing, beta=1.0)
    agree = teacher.argmax(axis=1) == student.argmax(axis=1)
    np.testing.assert_allclose(per_example, np.where(agree, 0, 2), atol=1e-12)


def test_dist_of_one_example_has_nothing_within_classes():
    labels, teacher, student = examples(1)
    value, gradient = value_and_gradient(
        lambda student: parts("DIST", labels, teacher, student, gamma=3.0)[1], student
    )
    assert value == 3
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_nkd_is_yangs_two_cross_entropies(temperature):
    labels, teacher, student = examples()
    per_example, relational = parts("NKD", labels, teacher, student, gamma=0.7, temperature=temperature)
    expected = reference.cross_entropy(labels, student)
    expected += reference.nkd(labels, teacher, student, 0.7, temperature)
    np.testing.assert_allclose(per_example, expected, rtol=1e-10)
    assert float(relational) == 0


def test_nkd_moves_the_other_classes_as_dkd_does():
    labels, teacher, student = examples()
    settings = {"label_loss": np.zeros(len(labels)), "temperature": 2.0}

    def gradient(name, **weights):
        def loss(student):
            return tf.reduce_sum(parts(name, labels, teacher, student, **settings, **weights)[0])

        return value_and_gradient(loss, student)[1]

    others = gradient("NKD", gamma=0.25) - gradient("NKD", gamma=0.0)
    np.testing.assert_allclose(others, gradient("DKD", alpha=0.0, beta=0.25), atol=1e-12)


def test_wsld_is_zhous_weighted_cross_entropy_with_soft_labels():
    labels, teacher, student = examples()
    per_example, relational = parts("WSLD", labels, teacher, student, alpha=2.0, temperature=3.0)
    expected = reference.cross_entropy(labels, student) + 2 * reference.wsld(labels, teacher, student, 3.0)
    np.testing.assert_allclose(per_example, expected, rtol=1e-5)  # 1e-7 is added to the teacher's loss
    assert float(relational) == 0


def test_no_gradient_flows_through_the_weights_of_wsld():
    """Example by example the gradient is the weight times that of KD at the same temperature."""
    labels, teacher, student = examples()
    settings = {"label_loss": np.zeros(len(labels)), "alpha": 1.0, "temperature": 2.0}

    def gradient(name):
        def loss(student):
            return tf.reduce_sum(parts(name, labels, teacher, student, **settings)[0])

        return value_and_gradient(loss, student)[1]

    weights = reference.wsld_weights(labels, teacher, student)
    np.testing.assert_allclose(gradient("WSLD"), weights[:, None] * gradient("KD"), rtol=1e-5, atol=1e-12)


def test_wsld_leaves_a_student_alone_that_is_certain_and_right():
    """Also where the teacher is: then the quotient of two losses of 0 decides."""
    teacher = np.float32([[3, 0, 0], [500, -500, 0]])
    student = np.float32([[500, -500, 0], [500, -500, 0]])
    per_example, _ = parts("WSLD", [0, 0], teacher, student)
    np.testing.assert_array_equal(per_example, 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_wttm_is_zhengs_weighted_divergence_from_the_transformed_teacher(temperature):
    labels, teacher, student = examples()
    settings = {"teacher_weight": 3.0, "temperature": temperature}
    per_example, relational = parts("WTTM", labels, teacher, student, **settings)
    expected = reference.cross_entropy(labels, student) + 3 * reference.wttm(teacher, student, temperature)
    np.testing.assert_allclose(per_example, expected, rtol=1e-10)
    assert float(relational) == 0


def test_wttm_without_a_temperature_is_kd_without_one():
    labels, teacher, student = examples()
    nothing = np.zeros(len(labels))
    ours, _ = parts("WTTM", labels, teacher, student, nothing, teacher_weight=1.0, temperature=1.0)
    theirs, _ = parts("KD", labels, teacher, student, nothing, alpha=1.0, temperature=1.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.3), (0.3, 0.8), (1.0, 1.0), (0.2, 2.0)])
def test_abkd_is_wangs_sum_over_classes(alpha, beta):
    labels, teacher, student = examples()
    settings = {"alpha": alpha, "beta": beta, "temperature": 3.0, "teacher_weight": 0.5}
    per_example, relational = parts("ABKD", labels, teacher, student, **settings)
    expected = reference.cross_entropy(labels, student)
    expected += 0.5 * 9 * reference.alpha_beta(teacher, student, alpha, beta, 3.0)
    np.testing.assert_allclose(per_example, expected, rtol=1e-10)
    assert float(relational) == 0


def test_abkd_tends_to_kd_and_to_its_reverse():
    labels, teacher, student = examples()
    nothing, small = np.zeros(len(labels)), 1e-6
    common = {"teacher_weight": 1.0, "temperature": 2.0}
    forward, _ = parts("ABKD", labels, teacher, student, nothing, alpha=1.0, beta=small, **common)
    reverse, _ = parts("ABKD", labels, teacher, student, nothing, alpha=small, beta=1.0, **common)
    kd, turned = (
        parts("KD", labels, *pair, nothing, alpha=1.0, temperature=2.0)[0]
        for pair in ((teacher, student), (student, teacher))
    )
    np.testing.assert_allclose(forward, kd, rtol=1e-4)
    np.testing.assert_allclose(reverse, turned, rtol=1e-4)


def test_mse_to_the_teacher_is_the_mean_over_classes():
    labels, teacher, student = examples()
    settings = {"label_weight": 0.5, "teacher_weight": 3.0}
    per_example, relational = parts("MSE", labels, teacher, student, **settings)
    expected = 0.5 * reference.cross_entropy(labels, student) + 3 * reference.squared_error(teacher, student)
    np.testing.assert_allclose(per_example, expected, rtol=1e-12)
    assert float(relational) == 0


def test_multi_still_is_the_sum_of_two_mean_squared_errors_over_batch_and_classes():
    shares, student = soft_examples()
    _, teacher = soft_examples(seed=1)
    label_loss = losses.mse(shares, student)
    found = total("MSE", None, teacher, student, label_loss=label_loss)
    expected = np.mean((student - shares) ** 2) + np.mean((student - teacher) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["KD", "DKD", "CKD"])
def test_kl_mean_over_elements_divides_the_divergence_by_the_classes(name):
    labels, teacher, student = examples(classes=5)
    nothing = np.zeros(len(labels))
    over_batch, _ = parts(name, labels, teacher, student, label_loss=nothing)
    over_elements, _ = parts(name, labels, teacher, student, label_loss=nothing, kl_mean="elements")
    np.testing.assert_allclose(over_batch, 5 * over_elements, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "share"),
    [
        ("pure", {}, 1),
        ("KD", {}, 0.3),
        ("RKD", {}, 0.5),
        ("DKD", {"label_weight": 2.0}, 2),
        ("CKD", {}, 1.5),
        ("DIST", {}, 1),
        ("NKD", {}, 1),
        ("WSLD", {"label_weight": 0.5}, 0.5),
        ("WTTM", {"label_weight": 0.5}, 0.5),
        ("ABKD", {}, 1),
        ("MSE", {"label_weight": 0.5}, 0.5),
    ],
)
def test_the_given_label_loss_enters_with_its_weight_example_by_example(name, settings, share):
    labels, teacher, student = examples()
    focal = losses.focal(labels, student)
    with_focal, _ = parts(name, labels, teacher, student, label_loss=focal, **settings)
    with_nothing, _ = parts(name, labels, teacher, student, label_loss=np.zeros(4), **settings)
    np.testing.assert_allclose(with_focal - with_nothing, share * focal, rtol=1e-9)


# Gradients and minima


@pytest.mark.parametrize("name", ON_LOGITS)
def test_gradient_is_that_of_finite_differences(name):
    labels, teacher, student = examples(4, 3)
    settings = {"alpha": 0.0} if name == "WSLD" else {}  # its weights let no gradient through

    def loss(student):
        return total(name, labels, teacher, student, **settings)

    _, gradient = value_and_gradient(loss, student)
    slopes = finite_differences(loss, student)
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", OURS_SETTINGS)
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


# A method gets a label loss as numbers, which it adds or weighs; WSLD weighs them by more than a setting.
WITH_LABEL_LOSSES = [
    (name, label_loss)
    if label_loss == "cross_entropy" or name in ("pure", "WSLD")
    else pytest.param(name, label_loss, marks=pytest.mark.every)
    for name in ON_LOGITS
    for label_loss in LABEL_LOSSES
]


@pytest.mark.parametrize(("name", "label_loss"), WITH_LABEL_LOSSES)
@pytest.mark.parametrize("edge", EDGES)
def test_float32_is_finite_and_agrees_with_float64_at_the_edges(edge, name, label_loss):
    labels, teacher, student = EDGES[edge]

    def at(dtype):
        def loss(student):
            label_losses = LABEL_LOSSES[label_loss].loss(labels, student)
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


@pytest.mark.parametrize("name", ON_LOGITS)
def test_half_precision_logits_are_computed_with_in_float32(name):
    labels, teacher, student = examples(dtype="float16")
    half = total(name, labels, teacher, student)
    assert half.dtype == tf.float32
    assert half == total(name, labels, teacher.astype("float32"), student.astype("float32"))


# Standardised logits


def test_standardised_logits_are_suns():
    _, logits, _ = examples()
    found = losses.standardised(logits)
    np.testing.assert_allclose(found, reference.standardised(logits), rtol=1e-10)
    np.testing.assert_allclose(losses.standardised(3 * logits + 7), found, rtol=1e-10)


def test_a_standardised_logit_is_at_most_the_root_of_one_less_than_the_classes():
    found = losses.standardised(np.float32([[500, -500, -500, -500, -500]]))
    np.testing.assert_allclose(found, [[2, -0.5, -0.5, -0.5, -0.5]], rtol=1e-6)


@pytest.mark.parametrize("number", [500.1, -1e-3, 0.0])
def test_logits_that_are_all_alike_become_0_without_gradient(number):
    value, gradient = value_and_gradient(
        lambda logits: tf.reduce_sum(losses.standardised(logits)[:, 0]), np.full((2, 7), number, "float32")
    )
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


# Losses on embeddings


def embeddings(batch=5, seed=0, dtype="float64"):
    """Of a teacher and of a narrower student."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1, (batch, 7)).astype(dtype), rng.normal(0.3, 1, (batch, 4)).astype(dtype)


def embedding_parts(name, teacher, student, **settings):
    return ON_EMBEDDINGS[name](None, teacher, student, **settings)


def embedding_total(name, teacher, student):
    per_example, relational = embedding_parts(name, teacher, student)
    return tf.reduce_mean(per_example) + relational


def test_hint_is_romeros_squared_error():
    teacher, _ = embeddings()
    student, _ = embeddings(seed=1)
    per_example, relational = embedding_parts("hint", teacher, student)
    np.testing.assert_allclose(per_example, reference.squared_error(teacher, student), rtol=1e-12)
    assert float(relational) == 0


@pytest.mark.parametrize(("name", "written_out"), [("PKT", reference.pkt), ("SP", reference.sp)])
def test_pkt_and_sp_are_their_papers_sums_over_pairs(name, written_out):
    teacher, student = embeddings()
    per_example, relational = embedding_parts(name, teacher, student)
    np.testing.assert_array_equal(per_example, np.zeros(5))
    np.testing.assert_allclose(relational, written_out(teacher, student), rtol=1e-6)


@pytest.mark.parametrize("name", ["PKT", "SP"])
def test_pkt_and_sp_see_no_rotation_and_no_common_scale(name):
    teacher, _ = embeddings()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))
    _, relational = embedding_parts(name, teacher, 3 * teacher @ rotation)
    np.testing.assert_allclose(relational, 0, atol=1e-15)


@pytest.mark.parametrize("name", ON_EMBEDDINGS)
def test_gradient_on_embeddings_is_that_of_finite_differences(name):
    teacher, student = embeddings()
    student = embeddings(seed=1)[0] if name == "hint" else student
    _, gradient = value_and_gradient(lambda student: embedding_total(name, teacher, student), student)
    slopes = finite_differences(lambda student: embedding_total(name, teacher, student), student)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-9)


SQUARE = embeddings(4, dtype="float32")[0][:, :4]
EMBEDDING_EDGES = {
    "large": (SQUARE, 500 * SQUARE[::-1]),
    "zeros": (SQUARE, SQUARE * np.float32([[0], [1], [0], [1]])),
    "all zeros": (SQUARE, 0 * SQUARE),
    "teacher of zeros": (0 * SQUARE, SQUARE),
    "opposite": (SQUARE, np.float32([[1], [-1], [1], [-1]]) * SQUARE[:1]),
    "all alike": (SQUARE, np.repeat(SQUARE[:1], 4, axis=0)),
    "as the teacher": (SQUARE, SQUARE),
    "batch of one": (SQUARE[:1], SQUARE[1:2]),
}


@pytest.mark.parametrize("name", ON_EMBEDDINGS)
@pytest.mark.parametrize("edge", EMBEDDING_EDGES)
def test_losses_on_embeddings_are_finite_and_agree_with_float64_at_the_edges(edge, name):
    teacher, student = EMBEDDING_EDGES[edge]

    def at(dtype):
        return value_and_gradient(
            lambda student: embedding_total(name, teacher.astype(dtype), student), student.astype(dtype)
        )

    (value, gradient), (exact_value, exact_gradient) = at("float32"), at("float64")
    assert np.isfinite(exact_value)
    assert np.isfinite(gradient).all()
    # Between opposite embeddings a float32 cosine of -1 is a number of the size of 1e-7 either way.
    loose = (name, edge) == ("PKT", "opposite")
    np.testing.assert_allclose(value, exact_value, rtol=0.2 if loose else 1e-5, atol=1e-6)
    if not loose:
        np.testing.assert_allclose(gradient, exact_gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ON_EMBEDDINGS)
def test_half_precision_embeddings_are_computed_with_in_float32(name):
    teacher, student = (each.astype("float16") for each in EMBEDDING_EDGES["large"])
    half = embedding_total(name, teacher, student)
    assert half.dtype == tf.float32
    assert half == embedding_total(name, teacher.astype("float32"), student.astype("float32"))


# Losses on token states


def token_states(lengths=(3, 1, 4), tokens=4, width=6, seed=0, dtype="float64"):
    """Of a teacher, with rows of zeros beyond each text's own, and of a student that says something there."""
    rng = np.random.default_rng(seed)
    teacher, student = rng.normal(0, 1, (2, len(lengths), tokens, width))
    teacher *= (np.arange(tokens) < np.array(lengths)[:, None])[..., None]
    return teacher.astype(dtype), student.astype(dtype)


def states_loss(teacher, student):
    return losses.states(None, teacher, student)[0]


def test_states_are_compared_over_real_tokens_and_the_width():
    teacher, student = token_states()
    per_example, relational = losses.states(None, teacher, student)
    np.testing.assert_allclose(per_example, reference.states(teacher, student), rtol=1e-12)
    assert float(relational) == 0


def test_without_padding_states_is_the_mean_squared_error_of_the_release():
    teacher, student = token_states((4,))
    peer = keras.losses.MeanSquaredError(dtype="float64")
    np.testing.assert_allclose(np.mean(states_loss(teacher, student)), peer(teacher, student), rtol=1e-12)


def test_states_do_not_depend_on_batch_mates_or_on_how_far_either_is_padded():
    teacher, student = token_states()
    together = states_loss(teacher, student)
    more = np.zeros((3, 5, 6))
    longer = [np.concatenate([each, more], axis=1) for each in (teacher, student)]
    for given in ((longer[0], student), (teacher, longer[1]), (longer[0], longer[1])):
        np.testing.assert_allclose(states_loss(*given), together, rtol=1e-12)
    for example, length in enumerate((3, 1, 4)):
        alone = states_loss(*(each[example : example + 1, :length] for each in (teacher, student)))
        np.testing.assert_allclose(alone, together[example : example + 1], rtol=1e-12)


def test_tokens_that_only_the_teacher_has_count_against_zeros():
    teacher, student = token_states()
    shorter = np.concatenate([student[:, :2], np.zeros((3, 2, 6))], axis=1)
    np.testing.assert_allclose(states_loss(teacher, student[:, :2]), reference.states(teacher, shorter))


def test_a_state_with_one_number_that_is_not_0_is_a_token():
    teacher, student = token_states((1, 1), tokens=2)
    teacher[:, 1, 3] = 1e-20
    np.testing.assert_allclose(states_loss(teacher, student), reference.states(teacher, student))
    assert np.all(states_loss(teacher, student) != states_loss(*token_states((1, 1), tokens=2)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_text_of_padding_alone_has_no_loss_and_no_gradient(dtype):
    teacher, student = token_states((0, 2), dtype=dtype)
    per_example, gradient = value_and_gradient(lambda student: states_loss(teacher, student), 500 * student)
    assert per_example[0] == 0 < per_example[1]
    np.testing.assert_array_equal(gradient[0], 0)
    np.testing.assert_array_equal(gradient[1, 2:], 0)
    assert np.all(gradient[1, :2] != 0)
    assert np.isfinite(gradient).all()


def test_gradient_on_states_is_that_of_finite_differences():
    teacher, student = token_states()

    def loss(student):
        return tf.reduce_mean(states_loss(teacher, student))

    _, gradient = value_and_gradient(loss, student)
    np.testing.assert_allclose(gradient, finite_differences(loss, student), rtol=1e-6, atol=1e-9)


def test_half_precision_states_are_computed_with_in_float32():
    teacher, student = token_states(dtype="float16")
    teacher, student = 300 * teacher, -300 * student
    half = states_loss(teacher, student)
    assert half.dtype == tf.float32
    np.testing.assert_array_equal(half, states_loss(teacher.astype("float32"), student.astype("float32")))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_of_unknown_batch_and_tokens_gives_what_eager_gives(jit_compile):
    states = tf.TensorSpec([None, None, 6], tf.float32)
    graph = tf.function(states_loss, input_signature=[states, states], jit_compile=jit_compile)
    for lengths, tokens in (((3, 1, 4), 4), ((0, 7), 8)):
        teacher, student = token_states(lengths, tokens, dtype="float32")
        expected = states_loss(teacher, student[:, :3])
        np.testing.assert_allclose(graph(teacher, student[:, :3]), expected, rtol=1e-5)


# Back ends and graphs


# XLA compiles every one of them below too, by JAX.
COMPILED = ("CKD", "WSLD", "hint")
IN_GRAPHS = [
    (name, False) for name in (*ON_LOGITS, *ON_EMBEDDINGS)
] + [
    (name, True) if name in COMPILED else pytest.param(name, True, marks=pytest.mark.every)
    for name in (*ON_LOGITS, *ON_EMBEDDINGS)
]  # fmt: skip


@pytest.mark.parametrize(("name", "jit_compile"), IN_GRAPHS)
def test_a_graph_of_unknown_batch_size_gives_what_eager_gives(name, jit_compile):
    matrix = tf.TensorSpec([None, 5], tf.float32)

    def loss(labels, teacher, student):
        if name in ON_LOGITS:
            return total(name, labels, teacher, student)
        return embedding_total(name, teacher, student)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int64), matrix, matrix],
        jit_compile=jit_compile,
        autograph=False,
    )
    def graph(labels, teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = loss(labels, teacher, student)
        return value, tape.gradient(value, student)

    for batch in (3, 6):
        labels, teacher, student = examples(batch, 5, dtype="float32")
        value, gradient = value_and_gradient(
            lambda student, y=labels, t=teacher: loss(y, t, student), student
        )
        in_graph = graph(labels, teacher, student)
        np.testing.assert_allclose(in_graph[0], value, rtol=1e-5)
        np.testing.assert_allclose(in_graph[1], gradient, rtol=1e-4, atol=1e-6)


JAX_SCRIPT = """
import sys
import jax
import numpy as np
from light_sernet_kd.distillation import losses
from light_sernet_kd.registries.losses import DISTILLATIONS

@jax.jit
def value_and_gradient_of_each(labels, teacher, student):
    def total(student, distillation):
        label_loss = losses.focal(labels, student, label_smoothing=0.1)
        per_example, relational = distillation(label_loss, labels, teacher, student)
        return per_example.mean() + relational

    def embedding_total(student, distillation):
        per_example, relational = distillation(labels, teacher, student)
        return per_example.mean() + relational

    each = [(name, entry.loss) for name, entry in DISTILLATIONS.items() if entry.brings_label_loss]
    found = {name: jax.value_and_grad(total)(student, distillation) for name, distillation in each}
    each = [(name, entry.loss) for name, entry in DISTILLATIONS.items() if entry.compares == "embedding"]
    each += [("MSE of labels", of_soft_labels), ("states", of_states)]
    return found | {name: jax.value_and_grad(embedding_total)(student, loss) for name, loss in each}

def of_soft_labels(labels, teacher, student):
    return losses.mse(jax.nn.softmax(teacher), student), 0.0

def of_states(labels, teacher, student):
    return losses.states(labels, teacher[:, None, :], student[:, None, :])

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

    # One shape for all, since JAX compiles anew for each: edges get more examples and less likely classes.
    def widened(logits):
        return np.pad(logits[[0, 1, 2, 3, 0, 1]], ((0, 0), (0, 3)), constant_values=logits.min())

    square = {edge: arrays for edge, arrays in EDGES.items() if arrays[1].shape == (4, 4)}
    cases = {
        edge: (labels[[0, 1, 2, 3, 0, 1]], widened(teacher), widened(student))
        for edge, (labels, teacher, student) in square.items()
    }
    cases["normal"] = examples(6, 7, dtype="float32")
    given = {
        f"{edge}/{part}": array
        for edge, arrays in cases.items()
        for part, array in zip(("labels", "teacher", "student"), arrays, strict=True)
    }
    np.savez(tmp_path / "given.npz", **given)
    # An unoptimised program sums in an order that is off by more than what is allowed below.
    environment = os.environ | ON_JAX | {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}
    command = [sys.executable, "-c", JAX_SCRIPT, str(tmp_path / "given.npz"), str(tmp_path / "found.npz")]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=300)
    found = np.load(tmp_path / "found.npz")
    for edge, (labels, teacher, student) in cases.items():
        for name in ON_LOGITS:

            def loss(student, name=name, labels=labels, teacher=teacher):
                focal = losses.focal(labels, student, label_smoothing=0.1)
                return total(name, labels, teacher, student, label_loss=focal)

            value, gradient = value_and_gradient(loss, student)
            where = f"{name}, {edge}"
            np.testing.assert_allclose(found[f"{edge}/{name}/value"], value, 1e-5, 1e-5, err_msg=where)
            np.testing.assert_allclose(found[f"{edge}/{name}/gradient"], gradient, 1e-3, 1e-5, err_msg=where)
    labels, teacher, student = cases["normal"]
    totals = {name: functools.partial(embedding_total, name) for name in ON_EMBEDDINGS}
    totals["MSE of labels"] = lambda teacher, student: tf.reduce_mean(
        losses.mse(tf.nn.softmax(teacher), student)
    )
    totals["states"] = lambda teacher, student: tf.reduce_mean(
        states_loss(teacher[:, None, :], student[:, None, :])
    )
    for name, of in totals.items():
        value, gradient = value_and_gradient(lambda student, of=of: of(teacher, student), student)
        np.testing.assert_allclose(found[f"normal/{name}/value"], value, 1e-5, err_msg=name)
        np.testing.assert_allclose(found[f"normal/{name}/gradient"], gradient, 1e-3, 1e-6, err_msg=name)


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
    assert losses.settings_of("DIST") == {"label_weight": 1.0, "beta": 2.0, "gamma": 2.0, "temperature": 1.0}
    assert losses.settings_of("NKD") == {"label_weight": 1.0, "gamma": 1.5, "temperature": 1.0}
    assert losses.settings_of("WSLD") == {"label_weight": 1.0, "alpha": 2.5, "temperature": 2.0}
    assert losses.settings_of("MSE") == {"label_weight": 1.0, "teacher_weight": 1.0}
    assert [losses.settings_of(name) for name in ON_EMBEDDINGS] == [{}, {}, {}]
    assert losses.settings_of("states") == {}
    assert losses.settings_of("focal") == {"gamma": 2.0, "alpha": None, "label_smoothing": 0.0}
    assert losses.settings_of("mse") == {"label_smoothing": 0.0}


def test_a_published_sum_has_its_own_defaults_which_can_be_overridden():
    published = {"KD.temperature": 2.0, "KD.alpha": 0.5, "KD.kl_mean": "batch"}
    assert losses.settings_of("distilser") == published
    assert losses.settings_of("DistilSER", {"kd.alpha": 0.25}) == published | {"KD.alpha": 0.25}
    assert losses.settings_of("KD+states") == published | {"KD.temperature": 1.2, "KD.alpha": 0.7}
    assert losses.settings_of("Multi-Still", {"teacher_weight": 2}) == {
        "label_weight": 1.0,
        "teacher_weight": 2.0,
    }
    kd, states = losses.terms_of(distillation_spec.parse("DistilSER"), {"KD.alpha": 0.25})
    assert kd == (distillation_spec.Term("KD"), {"temperature": 2.0, "alpha": 0.25, "kl_mean": "batch"})
    assert states == (distillation_spec.Term("states"), {})


def test_overrides_replace_defaults_and_lists_become_tuples():
    settings = losses.settings_of("ckd", {"lambda1": 1, "temperatures": [1, 2]})
    assert settings == losses.settings_of("CKD") | {"lambda1": 1.0, "temperatures": (1.0, 2.0)}
    per_class = losses.settings_of("focal", {"alpha": [1, 2]})
    assert per_class["alpha"] == (1.0, 2.0)


def test_the_settings_of_a_sum_carry_the_names_of_their_losses():
    settings = losses.settings_of("NKD:0.5+SP:3000+DIST", {"nkd.gamma": 2, "DIST.temperature": 4})
    assert settings == {
        "NKD.label_weight": 1.0,
        "NKD.gamma": 2.0,
        "NKD.temperature": 1.0,
        "DIST.label_weight": 1.0,
        "DIST.beta": 2.0,
        "DIST.gamma": 2.0,
        "DIST.temperature": 4.0,
    }


def test_a_single_loss_with_a_weight_keeps_the_plain_names():
    assert losses.settings_of("kd:0.5", {"alpha": 0.2}) == losses.settings_of("KD", {"alpha": 0.2})


def test_the_terms_of_a_sum_have_their_own_settings():
    mixture = distillation_spec.parse("KD:0.5+SP:3000")
    kd, sp = losses.terms_of(mixture, {"KD.alpha": 0.2})
    assert kd == (distillation_spec.Term("KD", 0.5), losses.settings_of("KD", {"alpha": 0.2}))
    assert sp == (distillation_spec.Term("SP", 3000.0), {})
    assert losses.terms_of(distillation_spec.parse("NKD"), {"gamma": 3}) == [
        (distillation_spec.Term("NKD"), {"label_weight": 1.0, "gamma": 3.0, "temperature": 1.0})
    ]


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
        ("KD", {"alpha": "0.9>1.5"}, "alpha of KD is 1.5, but must be 0 to 1."),
        ("KD", {"alpha": "-1>0.5"}, "alpha of KD is -1.0, but must be 0 to 1."),
        ("KD", {"temperature": "4>0"}, "temperature of KD is 0.0, but must be more than 0."),
        ("KD", {"temperature": "4>"}, "'4>' is no finite number"),
        ("KD", {"temperature": "4>2>1"}, "'4>2>1' is no finite number"),
        ("KD", {"temperature": "4>inf"}, "'4>inf' is no finite number"),
        ("KD", {"kl_mean": "4>1"}, "Valid: batch, elements."),
        ("CKD", {"temperatures": "4>1"}, "must be a list of numbers"),
        ("focal", {"gamma": "2>1"}, "'2>1' is no finite number"),
        ("focal", {"label_smoothing": 2}, "must be 0 to 1."),
        ("KD+RKD", {"alpha": 0.5}, "unknown setting of KD+RKD 'alpha'. Did you mean KD.alpha?"),
        ("KD+RKD", {"KD.alpha": 1.5}, "alpha of KD is 1.5, but must be 0 to 1."),
        ("hint+SP", {"hint.alpha": 1}, "the loss hint+SP has no settings"),
        ("KD+focal", {}, "unknown distillation 'focal'"),
        ("DistilSER", {"alpha": 0.5}, "unknown setting of DistilSER 'alpha'. Did you mean KD.alpha?"),
        ("Multi-Still", {"alpha": 0.5}, "Valid: label_weight, teacher_weight."),
        ("states", {"alpha": 0.5}, "the loss states has no settings"),
        ("mse", {"label_smoothing": 2}, "label_smoothing of mse is 2, but must be 0 to 1."),
        ("NKD", {"temperature": 0}, "temperature of NKD is 0, but must be more than 0."),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_be_right(name, overrides, sentence):
    with pytest.raises(UserError) as refused:
        losses.settings_of(name, overrides)
    assert sentence in str(refused.value)
