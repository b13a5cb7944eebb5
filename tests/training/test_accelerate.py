"""A twin trains as its student does: the same step in float32, and nearly so in bfloat16."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from light_sernet_kd import students
from light_sernet_kd.registries.students import FEATURE_STUDENTS, STUDENTS
from light_sernet_kd.training import accelerate
from light_sernet_kd.training.accelerate import FusedBatchNormalization, accelerated, has_bfloat16

CLASSES, BATCH = 5, 8
# One of each kind of network. EfficientNet has the MobileNets' kinds of layers and takes 10 s to trace.
NAMES = tuple(name for name in FEATURE_STUDENTS if name not in ("mobilenetv3_small_100", "efficientnet_b0"))
# Tracing MobileNetV3 takes seconds: what its twin computes is tested once, and with `every` in all ways.
names = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.every) if "mobile" in name else name for name in NAMES]
)
# It has MobileNet's kinds of layers.
with_efficientnet = pytest.mark.parametrize(
    "name", [*NAMES, pytest.param("efficientnet_b0", marks=pytest.mark.every)]
)


def shape_of(name):
    return (16, 12, 1) if name.startswith("light_sernet") else (64, 64, 1)


def trained_student(name="light_sernet"):
    """A student whose every weight and statistic differs from its start, and without dropout's chance."""
    keras.utils.set_random_seed(1)
    student = students.build(name, shape_of(name), CLASSES, width=0.25)
    rng = np.random.default_rng(2)
    student.set_weights(
        [
            # What is no kernel becomes larger, since some are variances.
            weight * rng.uniform(0.8, 1.2, weight.shape)
            + (weight.ndim == 1) * rng.uniform(0, 0.1, weight.shape)
            for weight in student.get_weights()
        ]
    )
    for layer in student.layers:
        if type(layer) is keras.layers.Dropout:
            layer.rate = 0.0
    return student


def batch(name="light_sernet", seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, BATCH)
    # Far from zero mean and unit variance, as MFCC are.
    features = 3 * rng.standard_normal((BATCH, *shape_of(name))) + labels[:, None, None, None] - 4
    return features.astype("float32"), labels


def loss_and_gradients(model, features, labels):
    with tf.GradientTape() as tape:
        logits = model(features, training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits) + sum(
            model.losses
        )
    return float(loss), [gradient.numpy() for gradient in tape.gradient(loss, model.trainable_variables)]


def relative_gap(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def batch_norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


# float32


@with_efficientnet
def test_a_float32_twin_has_the_same_loss_and_gradients(name):
    student = trained_student(name)
    twin = accelerated(student, arithmetic="float32")
    (expected_loss, expected), (loss, gradients) = (
        loss_and_gradients(model, *batch(name)) for model in (student, twin)
    )
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    largest = max(np.abs(gradient).max() for gradient in expected)
    for found, gradient in zip(gradients, expected, strict=True):
        # A bias before batch norm has gradient 0 but for rounding.
        np.testing.assert_allclose(found, gradient, rtol=1e-3, atol=1e-5 * largest)


@names
@pytest.mark.usefixtures("eager")
def test_a_float32_twin_is_where_its_student_is_after_several_steps(name):
    """Weights and moving statistics alike: Keras' moving variance is that of the biased batch variances."""
    student = trained_student(name)
    twin = accelerated(student, arithmetic="float32")
    start = student.get_weights()
    for model in (student, twin):
        model.compile(
            keras.optimizers.SGD(0.001),  # larger steps make the deep networks chaotic
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        for step in range(4):
            model.train_on_batch(*batch(name, step))
    for before, expected, found in zip(start, student.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(
            found, expected, rtol=1e-3, atol=1e-5 + 0.02 * np.abs(expected - before).max()
        )
    for weight, before, after in zip(student.weights, start, student.get_weights(), strict=True):
        if "moving" in weight.path:
            assert np.abs(after - before).max() > 1e-3


@names
def test_a_float32_twin_evaluates_as_its_student(name):
    student = trained_student(name)
    twin = accelerated(student, arithmetic="float32")
    features, _ = batch(name)
    np.testing.assert_allclose(
        twin(features, training=False), student(features, training=False), rtol=1e-5, atol=1e-6
    )


def test_moving_statistics_follow_the_batch_by_the_momentum():
    layer = FusedBatchNormalization(momentum=0.75)
    values = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 2)).astype("float32")
    normalised = layer(values, training=True).numpy()
    mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.moving_mean, 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.75 + 0.25 * variance, rtol=1e-5)
    np.testing.assert_allclose(normalised, (values - mean) / np.sqrt(variance + 1e-3), atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"scale": False}, {"center": False}, {"trainable": False}, {"axis": 1}, {"renorm": True}, {}]
)
def test_fused_batch_norm_is_that_of_keras_whatever_its_settings(settings):
    values = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 2)).astype("float32")
    fused, plain = FusedBatchNormalization(**settings), keras.layers.BatchNormalization(**settings)
    np.testing.assert_allclose(fused(values, training=True), plain(values, training=True), atol=1e-5)
    for found, expected in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


# bfloat16


@names
def test_a_bfloat16_twin_keeps_weights_and_logits_in_float32(name):
    twin = accelerated(trained_student(name), arithmetic="bfloat16")
    assert {weight.dtype for weight in twin.weights} == {"float32"}
    for layer in twin.layers[1:-1]:
        slow = type(layer).__name__ in ("DepthwiseConv2D", "Activation", "GlobalAveragePooling2D")
        assert layer.compute_dtype == ("float32" if slow else "bfloat16"), layer.name
    assert "bfloat16" in {layer.compute_dtype for layer in twin.layers}
    assert twin.layers[-1].compute_dtype == "float32"
    for training in (False, True):
        logits = twin(batch(name)[0], training=training)
        assert logits.dtype == tf.float32
        # A value that was bfloat16 has zeros in its lower half.
        assert np.any(logits.numpy().view(np.uint32) & 0xFFFF)


@names
def test_a_bfloat16_twin_is_close_to_its_student(name):
    """bfloat16 has 8 significant bits, a rounding of 0.4 %; dozens of layers add up."""
    student = trained_student(name)
    twin = accelerated(student, arithmetic="bfloat16")
    features, labels = batch(name)
    (expected_loss, expected), (loss, gradients) = (
        loss_and_gradients(model, features, labels) for model in (student, twin)
    )
    assert loss == pytest.approx(expected_loss, rel=0.03)
    kernels = [i for i, weight in enumerate(student.trainable_variables) if weight.name == "kernel"]
    for i in kernels:
        assert relative_gap(gradients[i], expected[i]) < 0.7
    found, wanted = (np.concatenate([each[i].ravel() for i in kernels]) for each in (gradients, expected))
    assert relative_gap(found, wanted) < 0.4
    assert relative_gap(twin(features), student(features).numpy()) < 0.03
    for found, layer in zip(batch_norms(twin), batch_norms(student), strict=True):
        assert relative_gap(found.moving_mean.numpy(), layer.moving_mean.numpy()) < 0.03
        assert relative_gap(found.moving_variance.numpy(), layer.moving_variance.numpy()) < 0.03


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_a_twin_has_its_students_weights_in_the_same_order(arithmetic):
    student = trained_student()
    twin = accelerated(student, arithmetic=arithmetic)
    assert [weight.path for weight in twin.weights] == [weight.path for weight in student.weights]
    for found, expected in zip(twin.get_weights(), student.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    twin.set_weights([weight + 1 for weight in twin.get_weights()])
    np.testing.assert_array_equal(student.get_weights()[0] + 1, twin.get_weights()[0])  # and its own ones


# Momentum


def test_momentum_is_each_layers_own_unless_given():
    student = trained_student()
    for wanted, found in ((None, 0.99), (0.8, 0.8), (0.0, 0.0)):
        twin = accelerated(student, arithmetic="float32", batch_norm_momentum=wanted)
        assert {layer.momentum for layer in batch_norms(twin)} == {found}
        assert {type(layer) for layer in batch_norms(twin)} == {FusedBatchNormalization}
    assert {layer.momentum for layer in batch_norms(student)} == {0.99}


# Which arithmetic


@pytest.mark.parametrize(
    ("cpu_info", "has_it"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_vnni\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile amx_int8\n", True),
        ("flags\t\t: fpu avx512f avx512_vnni amx_int8\n", False),
        ("flags\t\t: fpu avx512_bf16x\n", False),
        ("Features\t: fp asimd bf16\n", False),  # ARM: not measured there
        ("", False),
    ],
)
def test_bfloat16_is_looked_up_in_the_processors_flags(cpu_info, has_it):
    assert has_bfloat16(cpu_info) is has_it


def test_a_machine_without_cpuinfo_has_no_bfloat16(monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(accelerate.Path, "read_text", missing)
    assert has_bfloat16() is False


@pytest.mark.parametrize("in_hardware", [True, False])
def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch, in_hardware):
    monkeypatch.setattr(accelerate, "has_bfloat16", lambda: in_hardware)
    assert accelerate.arithmetic("auto") == ("bfloat16" if in_hardware else "float32")
    assert accelerate.arithmetic("float32") == "float32"
    assert accelerate.arithmetic("bfloat16") == "bfloat16"


def test_auto_is_float32_for_a_student_that_gains_nothing(monkeypatch):
    monkeypatch.setattr(accelerate, "has_bfloat16", lambda: True)
    assert accelerate.arithmetic("auto", gains=False) == "float32"
    assert accelerate.arithmetic("bfloat16", gains=False) == "bfloat16"


@pytest.mark.parametrize("name", FEATURE_STUDENTS)
def test_students_of_depthwise_convolutions_gain_nothing(name):
    student = students.build(name, shape_of(name), CLASSES)
    depthwise = any(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in student.layers)
    assert STUDENTS[name].gains_from_bfloat16 is not depthwise
