"""The students against the tables of their papers."""

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ON_JAX

from light_sernet_kd import students
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.students import FEATURE_STUDENTS, STUDENTS

LIGHT = ("light_sernet", "light_sernet_plus")
CNN = tuple(name for name in FEATURE_STUDENTS if name not in LIGHT)
# The others' layers are Keras' own too.
SAVED = [
    ("jax", LIGHT),
    pytest.param("tensorflow", CNN, marks=pytest.mark.every),
]
SMALL = {name: (12, 10, 1) if name in LIGHT else (32, 32, 1) for name in FEATURE_STUDENTS}
names = pytest.mark.parametrize("name", FEATURE_STUDENTS)
light_names = pytest.mark.parametrize("name", LIGHT)
cnn_names = pytest.mark.parametrize("name", CNN)

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


@functools.cache
def built(name):
    """One for many tests, none of which leaves it changed."""
    return students.build(name, SMALL[name], 7)


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


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "per_class"),
    [
        ("light_sernet", (184, 40, 1), 463_431, 321),
        ("light_sernet_plus", (157, 40, 1), 611_959, 321),
        ("mobilenetv3_small_075", (94, 40, 1), 1_158_367, 129),
        ("mobilenetv3_small_100", (391, 40, 1), 1_661_783, 129),
        ("efficientnet_b0", (63, 128, 1), 4_213_859, 129),
        ("resnet18", (184, 513, 1), 11_246_407, 129),
    ],
)
def test_parameter_counts_are_the_documented_ones_whatever_the_front_end(name, shape, parameters, per_class):
    """Light-SERNet's are the published ones; the others are derived from published ones below."""
    student = students.build(name, shape, 7)
    assert (student.input_shape, student.output_shape) == ((None, *shape), (None, 7))
    assert student.count_params() == parameters
    assert student.layers[-1].count_params() == 7 * per_class
    documented = STUDENTS[name].build.load().__doc__
    assert f"{parameters:,} parameters with batch-norm statistics for 7 classes" in documented
    assert f"{parameters - 3 * per_class:,} for 4" in documented


@light_names
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


@light_names
def test_kernels_span_time_first(name):
    student = students.build(name, SMALL[name], 7)
    assert [layer.kernel_size for layer in convolutions(student)] == KERNELS[name]


@light_names
def test_each_convolution_is_normalised_then_rectified_then_pooled(name):
    student = students.build(name, SMALL[name], 7)
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
    student = students.build("light_sernet", SMALL["light_sernet"], 7)
    for layer in body(student):
        assert layer.kernel_regularizer.l2 == pytest.approx(1e-6)
    regularised = sum(float(np.sum(np.square(layer.kernel))) for layer in body(student))
    assert float(sum(student.losses)) == pytest.approx(1e-6 * regularised, rel=1e-4)
    assert len(student.losses) == 5
    assert students.build("light_sernet_plus", SMALL["light_sernet_plus"], 7).losses == []


@names
def test_outputs_are_logits(name):
    """They are linear in the last layer's weights, and no softmax is on them."""
    student = built(name)
    features = np.random.default_rng(0).standard_normal((3, *SMALL[name])).astype("float32")
    assert student.layers[-1].activation is keras.activations.linear
    kernel, bias = student.layers[-1].get_weights()
    student.layers[-1].set_weights([kernel, np.zeros(7)])
    once = student(features).numpy()
    student.layers[-1].set_weights([100 * kernel, np.full(7, -7.0)])
    np.testing.assert_allclose(student(features), 100 * once - 7, rtol=1e-4, atol=1e-4)
    assert once.shape == (3, 7)
    student.layers[-1].set_weights([kernel, bias])


@light_names
def test_width_multiplies_the_filters(name):
    plain, half = (students.build(name, SMALL[name], 7, width=width) for width in (1.0, 0.5))
    assert [2 * layer.filters for layer in convolutions(half)] == [
        layer.filters for layer in convolutions(plain)
    ]
    thinnest = students.build(name, SMALL[name], 7, width=0.001)
    assert {layer.filters for layer in convolutions(thinnest)} == {1}


@pytest.mark.parametrize("name", [name for name in FEATURE_STUDENTS if STUDENTS[name].depth])
def test_a_shape_as_published_is_the_published_network(name):
    depth = STUDENTS[name].depth
    network, published = students.build(name, SMALL[name], 7, depth=depth), built(name)
    assert [type(layer) for layer in network.layers] == [type(layer) for layer in published.layers]
    assert [weight.shape for weight in network.weights] == [weight.shape for weight in published.weights]
    shallower = students.build(name, SMALL[name], 7, depth=depth - 1)
    body = [layer for layer in convolutions(shallower) if not layer.use_bias]
    assert len(body) == depth
    assert body[-1].kernel_size == (1, 1)
    with pytest.raises(UserError, match=f"from 1 to {depth}, found {depth + 1}"):
        students.build(name, SMALL[name], 7, depth=depth + 1)


def test_branches_have_the_kernels_that_are_named():
    network = students.build("light_sernet", SMALL["light_sernet"], 7, kernels=("9x1", "1x11"))
    branches = [layer for layer in convolutions(network) if layer.use_bias]
    assert [layer.kernel_size for layer in branches] == [(9, 1), (1, 11)]
    assert {layer.filters for layer in branches} == {32}
    one = students.build("light_sernet", SMALL["light_sernet"], 7, kernels=("3x3",))
    assert not [layer for layer in one.layers if isinstance(layer, keras.layers.Concatenate)]
    with pytest.raises(UserError, match="such as 11x1, found '3'"):
        students.build("light_sernet", SMALL["light_sernet"], 7, kernels=("3",))


def test_local_pools_are_of_the_named_kind_and_change_no_weight():
    network = students.build("light_sernet", SMALL["light_sernet"], 7, local_pooling="max")
    kinds = [layer for layer in network.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert len(kinds) == 7
    assert not [layer for layer in network.layers if isinstance(layer, keras.layers.AveragePooling2D)]
    published = built("light_sernet").weights
    assert [weight.shape for weight in network.weights] == [weight.shape for weight in published]


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_an_impossible_width_is_refused(width):
    with pytest.raises(UserError, match="width must be positive"):
        students.build("light_sernet", SMALL["light_sernet"], 7, width=width)


def test_a_misspelt_student_is_refused():
    with pytest.raises(UserError, match="Did you mean light_sernet"):
        students.build("light-sernet", SMALL["light_sernet"], 7)


@names
def test_a_clip_scores_the_same_alone_and_in_any_company(name):
    student = built(name)
    features = np.random.default_rng(0).standard_normal((3, *SMALL[name])).astype("float32")
    features[1] *= 1000
    together = student(features, training=False).numpy()
    for clip, logits in zip(features, together, strict=True):
        alone = student(clip[None], training=False).numpy()[0]
        # Rounding differs with the batch's size, and two hundred layers carry it on.
        np.testing.assert_allclose(alone, logits, rtol=1e-3, atol=1e-4 * np.abs(logits).max())
    assert together.std(axis=0).min() > 0


@names
def test_embedding_is_what_the_logits_are_computed_from(name):
    student = built(name)
    *_, last = student.layers
    assert (last.name, last.compute_dtype, last.input.dtype) == ("logits", "float32", "float32")
    assert student.get_layer("embedding").output.shape == (None, 320 if name in LIGHT else 128)
    embed = keras.Model(student.input, student.get_layer("embedding").output)
    features = np.random.default_rng(0).standard_normal((2, *SMALL[name])).astype("float32")
    np.testing.assert_allclose(
        last(embed(features, training=False)), student(features, training=False), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("backend", "names"), SAVED)
def test_saved_students_load_without_this_package(backend, names, tmp_path):
    """And on another back end, where Light-SERNet also starts faster."""
    pytest.importorskip(backend)
    rng = np.random.default_rng(0)
    expected = {}
    for name in names:
        student = built(name)
        student.save(tmp_path / f"{name}.keras")
        features = rng.standard_normal((2, *SMALL[name])).astype("float32")
        np.save(tmp_path / f"{name}.npy", features)
        expected[name] = student(features, training=False).numpy()
    script = """
import sys
sys.modules["light_sernet_kd"] = None  # an import would raise
import keras, numpy as np
for name in sys.argv[1:]:
    student = keras.saving.load_model(f"{name}.keras", safe_mode=True)
    logits = student.predict_on_batch(np.load(f"{name}.npy"))  # one graph; eager JAX compiles each operation
    np.save(f"{name}.npy", keras.ops.convert_to_numpy(logits))
"""
    environment = os.environ | ON_JAX | {"KERAS_BACKEND": backend}
    command = [sys.executable, "-c", script, *names]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)
    for name, logits in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), logits, rtol=1e-4, atol=1e-6)


# The image networks of Cubic KD

# Trainable parameters for images of 3 channels and 1000 classes: torchvision's documentation; timm's table
# has two digits for the narrow MobileNet. And the inputs and filters of the first convolution, and what the
# last layer before the classes is wide.
PUBLISHED = {
    "mobilenetv3_small_075": (2.04e6, 3, 16, 1024),
    "mobilenetv3_small_100": (2_542_856, 3, 16, 1024),
    "efficientnet_b0": (5_288_548, 3, 32, 1280),
    "resnet18": (11_689_512, 7, 64, 512),
}

# MobileNetV3-Small, table 2 of arXiv:1905.02244: kernel, expansion, output, squeeze and excite.
MOBILENET_SMALL = (
    (3, 16, 16, True),
    (3, 72, 24, False),
    (3, 88, 24, False),
    (5, 96, 40, True),
    (5, 240, 40, True),
    (5, 240, 40, True),
    (5, 120, 48, True),
    (5, 144, 48, True),
    (5, 288, 96, True),
    (5, 576, 96, True),
    (5, 576, 96, True),
)


def by_eight(count):
    """The paper's rounding: to a multiple of 8, but down by no more than a tenth."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * count else rounded


def mobilenet_parameters(width, classes):
    """Counted from the table; each batch norm has four values per channel."""
    channels, total = 16, 3 * 3 * 16 + 4 * 16
    for number, (kernel, expansion, output, squeezed) in enumerate(MOBILENET_SMALL):
        output = by_eight(output * width)
        ratio = expansion / (MOBILENET_SMALL[number - 1][2] if number else 16)
        expansion = by_eight(ratio * channels)
        if number:  # the first block does not expand
            total += channels * expansion + 4 * expansion
        total += kernel**2 * expansion + 4 * expansion
        if squeezed:
            inner = by_eight(expansion / 4)
            total += expansion * inner + inner + inner * expansion + expansion
        total += expansion * output + 4 * output
        channels = output
    last = by_eight(6 * channels)
    total += channels * last + 4 * last
    return total + (last + 1) * 1024 + (1024 + 1) * 128 + (128 + 1) * classes


@cnn_names
def test_weights_are_as_many_as_published_but_for_input_and_head(name):
    published, kernel, filters, width = PUBLISHED[name]
    student = built(name)
    trainable = sum(int(np.prod(weight.shape)) for weight in student.trainable_weights)
    as_published = trainable + 2 * kernel**2 * filters
    as_published += (width + 1) * 1000 - (width + 1) * 128 - (128 + 1) * 7
    assert as_published == pytest.approx(published, abs=5e3 if published == 2.04e6 else 0)


@pytest.mark.parametrize(("name", "width"), [("mobilenetv3_small_075", 0.75), ("mobilenetv3_small_100", 1.0)])
def test_mobilenets_count_follows_from_the_papers_table(name, width):
    assert built(name).count_params() == mobilenet_parameters(width, 7)


@cnn_names
def test_only_features_go_in_and_nothing_is_dropped(name):
    student = built(name)
    kinds = {type(layer) for layer in student.layers}
    foreign = {keras.layers.Rescaling, keras.layers.Normalization, keras.layers.Dropout}
    assert not kinds & foreign
    assert not [layer for layer in student.layers if isinstance(layer, keras.Model)]
    assert student.get_layer("embedding").activation is keras.activations.linear
    assert convolutions(student)[0].kernel.shape[2] == 1
    assert {type(layer).__module__.split(".")[0] for layer in student.layers} == {"keras"}
    norms = [layer for layer in student.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.99}
    assert len(norms) >= 20


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mobilenetv3_small_075", functools.partial(keras.applications.MobileNetV3Small, alpha=0.75)),
        pytest.param("mobilenetv3_small_100", keras.applications.MobileNetV3Small, marks=pytest.mark.every),
        ("efficientnet_b0", keras.applications.EfficientNetB0),
    ],
)
def test_the_body_computes_what_keras_own_does_with_the_same_weights(name, reference):
    shape = (45, 38, 1)  # odd and even: padding differs
    body = reference(input_shape=shape, include_top=False, weights=None, pooling="avg")
    student = students.build(name, shape, 7)
    # EfficientNet's Normalization has three weights of its own: mean, variance, count.
    weights = [w for w in body.weights if not w.path.startswith("normalization")]
    rng = np.random.default_rng(0)
    weights = [w.numpy() * rng.uniform(0.9, 1.1, w.shape) + rng.uniform(0, 0.01, w.shape) for w in weights]
    preprocessing = len(body.weights) - len(weights)
    body.set_weights([w.numpy() for w in body.weights[:preprocessing]] + weights)
    student.set_weights([*weights, *(w.numpy() for w in student.weights[len(weights) :])])
    features = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype("float32")
    # What these expect of images, undone by their own first layers.
    images = 255 * features if name == "efficientnet_b0" else 127.5 * (features + 1)
    for layer in body.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    pooled = [layer for layer in student.layers if type(layer) is keras.layers.GlobalAveragePooling2D][-1]
    found = keras.Model(student.input, pooled.output)(features, training=True).numpy()
    expected = body(images, training=True).numpy()
    assert expected.std(axis=0).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_resnets_stages_have_the_shapes_of_the_table():
    student = students.build("resnet18", (64, 48, 1), 7)
    sums = [layer.output.shape[1:] for layer in student.layers if isinstance(layer, keras.layers.Add)]
    assert sums == [
        *[(16, 12, 64)] * 2,
        *[(8, 6, 128)] * 2,
        *[(4, 3, 256)] * 2,
        *[(2, 2, 512)] * 2,
    ]
    kernels = [(layer.kernel_size[0], layer.strides[0]) for layer in convolutions(student)]
    assert sorted(kernels) == sorted(
        [(7, 2), *[(3, 1)] * 13, *[(3, 2)] * 3, *[(1, 2)] * 3]  # 17 layers and the shortcuts
    )


def test_a_resnet_block_adds_to_what_it_is_given():
    """With the second normalisation of a block at 0, the block is its shortcut, rectified."""
    student = students.build("resnet18", (32, 32, 1), 7, width=0.125)
    blocks = [layer for layer in student.layers if isinstance(layer, keras.layers.Add)]
    features = np.random.default_rng(0).standard_normal((2, 32, 32, 1)).astype("float32")
    for add in blocks:
        branch, shortcut = (tensor._keras_history.operation for tensor in add.input)
        gamma, *others = branch.get_weights()
        branch.set_weights([np.zeros_like(gamma), *others])
        (rectified,) = [node.operation for node in add._outbound_nodes]
        assert type(rectified) is keras.layers.ReLU
        outputs = keras.Model(student.input, [shortcut.output, rectified.output])
        given, found = (tensor.numpy() for tensor in outputs(features, training=False))
        np.testing.assert_allclose(found, np.maximum(given, 0))
        assert found.max() > 0
    projected = [isinstance(add.input[1]._keras_history.operation, keras.layers.ReLU) for add in blocks]
    # The first block of the first stage keeps the shape after the pool.
    assert projected[1::2] == [True] * 4


@cnn_names
def test_a_wider_network_can_be_made_of_each(name):
    """It is the automatic teacher."""
    wider = students.build(name, SMALL[name], 7, width=1.5)
    assert 1.7 * built(name).count_params() < wider.count_params() < 2.6 * built(name).count_params()
    # Their channels are multiples of 8, which processors like.
    assert not [layer.filters for layer in convolutions(wider) if layer.filters % 8]
    assert wider(np.ones((1, *SMALL[name]), "float32")).shape == (1, 7)


@cnn_names
@pytest.mark.parametrize("shape", [(31, 40, 1), (157, 20, 1)])
def test_a_clip_too_short_for_five_halvings_is_refused(name, shape):
    with pytest.raises(
        UserError, match=rf"{name} needs at least 32 frames of 32 .* {shape[0]} of {shape[1]}"
    ):
        students.build(name, shape, 7)
