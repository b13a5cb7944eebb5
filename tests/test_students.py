"""The students against the tables of their papers."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from light_sernet_kd import config, students
from light_sernet_kd.config import UserError
from light_sernet_kd.features import FRONT_ENDS

SMALL = (12, 10, 1)
names = pytest.mark.parametrize("name", config.STUDENT_NAMES)

# What each network makes of MFCC: frames × coefficients × channels, written from the tables of the papers
# ('same' pooling rounds up). Light-SERNet at 3 s, Light-SERNet+ at 80,000 samples.
STAGES = {
    "light_sernet": {
        "input": (184, 40, 1),
        "branch convolutions": [(184, 40, 32)] * 3,
        "concatenation": (92, 20, 96),
        "body": [(46, 10, 64), (23, 5, 96), (12, 5, 128), (6, 5, 160), (6, 5, 320)],
    },
    "light_sernet_plus": {
        "input": (157, 40, 1),
        "branch convolutions": [(157, 40, 32), (157, 40, 32), (157, 40, 16), (157, 40, 16)],
        "concatenation": (79, 20, 96),
        "body": [(40, 10, 64), (20, 5, 96), (20, 5, 128), (20, 3, 128), (20, 2, 160), (20, 2, 320)],
    },
}

# Kernels as (time, frequency). Light-SERNet's table has time first. Cubic KD's has frequency first: its
# (13, 1) spans 13 coefficients of one frame, its (11, 1) turned over, (1, 11), one coefficient of 11 frames.
KERNELS = {
    "light_sernet": [(11, 1), (1, 9), (3, 3), *[(3, 3)] * 4, (1, 1)],
    "light_sernet_plus": [(1, 13), (11, 1), (3, 3), (6, 6), *[(3, 3)] * 5, (1, 1)],
}


def convolutions(student):
    return [layer for layer in student.layers if type(layer) is keras.layers.Conv2D]


def branches(student):
    return [layer for layer in convolutions(student) if layer.input.shape[-1] == 1]


def body(student):
    return [layer for layer in convolutions(student) if layer.input.shape[-1] != 1]


def after(student, layer):
    """The layers that a convolution's output passes through up to the next convolution or concatenation."""
    (consumer,) = [node.operation for node in layer._outbound_nodes]
    if isinstance(consumer, keras.layers.Conv2D | keras.layers.Concatenate | keras.layers.Dropout):
        return []
    return [consumer, *after(student, consumer)]


def test_students_are_the_names_that_config_knows():
    assert tuple(students.STUDENTS) == config.STUDENT_NAMES
    for student in students.STUDENTS.values():
        assert student.front_end in FRONT_ENDS
        assert student.schedule in config.SCHEDULES


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("light_sernet", 7, 463_431),
        ("light_sernet", 4, 462_468),
        ("light_sernet_plus", 7, 611_959),
        ("light_sernet_plus", 4, 610_996),
    ],
)
def test_parameter_counts_are_the_published_ones(name, classes, parameters):
    assert students.build(name, STAGES[name]["input"], classes).count_params() == parameters


@names
def test_every_stage_has_the_shape_of_the_table(name):
    stages = STAGES[name]
    student = students.build(name, stages["input"], 7)
    assert student.input_shape == (None, *stages["input"])
    assert [layer.output.shape[1:] for layer in branches(student)] == stages["branch convolutions"]
    (concatenation,) = [layer for layer in student.layers if type(layer) is keras.layers.Concatenate]
    assert concatenation.output.shape[1:] == stages["concatenation"]
    ends = [after(student, layer)[-1] for layer in body(student)]
    # the last one is averaged over time and frequency at once
    assert type(ends[-1]) is keras.layers.GlobalAveragePooling2D
    shapes = [end.input.shape if end is ends[-1] else end.output.shape for end in ends]
    assert [shape[1:] for shape in shapes] == stages["body"]
    assert student.output_shape == (None, 7)


@names
def test_kernels_span_time_first(name):
    student = students.build(name, SMALL, 7)
    assert [layer.kernel_size for layer in convolutions(student)] == KERNELS[name]


@names
def test_each_convolution_is_normalised_then_rectified_then_pooled(name):
    student = students.build(name, SMALL, 7)
    for layer in convolutions(student):
        kinds = [type(each) for each in after(student, layer)]
        assert kinds[:2] == [keras.layers.BatchNormalization, keras.layers.ReLU]
        assert kinds[2:] in (
            [keras.layers.AveragePooling2D],
            [keras.layers.GlobalAveragePooling2D],
            [],  # Light-SERNet+'s third
        )
        assert layer.use_bias == (layer in branches(student))
        assert layer.padding == "same"


@pytest.mark.parametrize(
    ("name", "frequency", "time", "branch"),
    [("light_sernet_plus", 13, 1, 0), ("light_sernet_plus", 1, 11, 1), ("light_sernet", 9, 1, 1)],
)
def test_a_branch_hears_its_kernel_along_frequency_and_time(name, frequency, time, branch):
    """What one value of the input can change."""
    student = students.build(name, (32, 32, 1), 7)
    layer = branches(student)[branch]
    layer.set_weights([np.ones_like(weight) for weight in layer.get_weights()])
    impulse = np.zeros((1, 32, 32, 1), "float32")
    impulse[0, 16, 16] = 1.0
    changed = layer(impulse).numpy()[0, ..., 0] - 1.0
    assert np.count_nonzero(changed.any(axis=1)) == time  # rows are frames
    assert np.count_nonzero(changed.any(axis=0)) == frequency


def test_only_light_sernets_body_convolutions_are_regularised():
    student = students.build("light_sernet", SMALL, 7)
    for layer in body(student):
        assert layer.kernel_regularizer.l2 == pytest.approx(1e-6)
    regularised = sum(float(np.sum(np.square(layer.kernel))) for layer in body(student))
    assert float(sum(student.losses)) == pytest.approx(1e-6 * regularised, rel=1e-4)
    assert len(student.losses) == 5
    assert students.build("light_sernet_plus", SMALL, 7).losses == []


@names
def test_outputs_are_logits(name):
    """They are linear in the last layer's weights, and no softmax is on them."""
    student = students.build(name, SMALL, 5)
    features = np.random.default_rng(0).standard_normal((3, *SMALL)).astype("float32")
    assert student.layers[-1].activation is keras.activations.linear
    kernel, _ = student.layers[-1].get_weights()
    student.layers[-1].set_weights([kernel, np.zeros(5)])
    once = student(features).numpy()
    student.layers[-1].set_weights([100 * kernel, np.full(5, -7.0)])
    np.testing.assert_allclose(student(features), 100 * once - 7, rtol=1e-4, atol=1e-4)
    assert once.shape == (3, 5)


@names
def test_width_multiplies_the_filters(name):
    plain, half = (students.build(name, SMALL, 7, width=width) for width in (1.0, 0.5))
    assert [2 * layer.filters for layer in convolutions(half)] == [
        layer.filters for layer in convolutions(plain)
    ]
    thinnest = students.build(name, SMALL, 7, width=0.001)
    assert {layer.filters for layer in convolutions(thinnest)} == {1}


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_an_impossible_width_is_refused(width):
    with pytest.raises(UserError, match="width must be positive"):
        students.build("light_sernet", SMALL, 7, width=width)


def test_a_misspelt_student_is_refused():
    with pytest.raises(UserError, match="Did you mean light_sernet"):
        students.build("light-sernet", SMALL, 7)


def test_a_saved_student_loads_without_this_package(tmp_path):
    """And on another back end, which also starts faster."""
    pytest.importorskip("jax")
    features = np.random.default_rng(0).standard_normal((2, *SMALL)).astype("float32")
    expected = {}
    for name in config.STUDENT_NAMES:
        student = students.build(name, SMALL, 7, width=0.25)
        student.save(tmp_path / f"{name}.keras")
        expected[name] = student(features).numpy()
    np.save(tmp_path / "features.npy", features)
    script = """
import sys
sys.modules["light_sernet_kd"] = None  # an import would raise
import keras, numpy as np
for name in sys.argv[1:]:
    student = keras.saving.load_model(f"{name}.keras", safe_mode=True)
    np.save(f"{name}.npy", student.predict(np.load("features.npy"), verbose=0))
"""
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script, *config.STUDENT_NAMES]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)
    for name, logits in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), logits, rtol=1e-5, atol=1e-6)
