"""The simulated int8 graph against loops, TFLite's integer arithmetic, and the files that are exported."""

import csv
import functools
import json
from fractions import Fraction
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import Builder
from keras import layers
from small_runs import SPEAKERS, error_of, same_weights, train

from light_sernet_kd import config, students
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import flatbuffer, parts, student_graph, tflite
from light_sernet_kd.registries.schedules import SCHEDULES
from light_sernet_kd.training import quantisation
from light_sernet_kd.training.checkpoint import EpochState
from light_sernet_kd.training.job import Examples, TrainingJob
from light_sernet_kd.training.network import Network, NetworkSpec
from light_sernet_kd.training.quantisation import Simulation, Steps

CLASSES = 5


# Rounding


def nudged(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of int8, from the range, as TFLite's quantisation specification has them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    return scale, int(np.clip(np.floor(-128 - low / scale + 0.5), -128, 127))


def observed(*values: float) -> Steps:
    steps = Steps()
    steps.observe(tf.constant(values, tf.float32))
    return steps


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.1), (0.0, 6.0), (-3.7, 0.2), (2.0, 5.0), (-0.01, 40.0)])
def test_a_tensor_is_rounded_to_the_nearest_of_256_steps_with_zero_among_them(low, high):
    values = np.random.default_rng(0).uniform(1.3 * low - 0.1, 1.3 * high, 500).astype("float32")
    scale, zero = nudged(low, high)
    expected = [scale * (min(127, max(-128, round(value / scale + zero))) - zero) for value in values]
    steps = observed(low, high)
    np.testing.assert_allclose(steps.rounded(values), expected, atol=1e-4 * scale + 1e-6)
    assert float(steps.rounded(tf.zeros(()))) == 0.0


def test_the_gradient_of_rounding_is_one_within_the_range_and_zero_without():
    steps = observed(-1.0, 2.0)
    values = tf.constant([-5.0, -0.9, -0.01, 0.4, 1.9, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(7.0 * steps.rounded(values))
    np.testing.assert_array_equal(tape.gradient(total, values), [0, 7, 7, 7, 7, 0])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Conv2D(6, (3, 2)), (3, 2, 4, 6)),
        (layers.Dense(6), (4, 6)),
        (layers.DepthwiseConv2D((3, 2), depth_multiplier=2), (3, 2, 4, 2)),
    ],
    ids=["convolution", "dense", "depthwise"],
)
def test_a_kernel_is_rounded_per_output_channel_and_keeps_its_gradient(layer, shape):
    layer.build((None, 8, 8, 4) if len(shape) == 4 else (None, 4))
    kernel = np.random.default_rng(1).normal(size=shape).astype("float32")
    kernel[..., 0] *= 100
    layer.kernel.assign(kernel) if hasattr(layer.kernel, "assign") else layer._kernel.assign(kernel)
    expected = np.empty_like(kernel)
    channels = np.ndindex(shape[2:] if isinstance(layer, layers.DepthwiseConv2D) else shape[-1:])
    for channel in channels:
        part = kernel[(..., *channel)]
        scale = np.abs(part).max() / 127
        expected[(..., *channel)] = scale * np.clip(np.round(part / scale), -127, 127)
    with tf.GradientTape() as tape:
        rounded = quantisation._rounded_kernel_of(layer)
        total = tf.reduce_sum(rounded * tf.constant(kernel))
    np.testing.assert_allclose(rounded, expected, rtol=1e-5, atol=1e-5)
    gradient = tape.gradient(total, layer.trainable_variables[0])
    np.testing.assert_array_equal(gradient, kernel)


def test_a_kernel_of_zeros_stays_zero():
    np.testing.assert_array_equal(quantisation.rounded_kernel(tf.zeros((3, 3, 2, 4))), np.zeros((3, 3, 2, 4)))


@pytest.mark.parametrize("count", [2, 4, 6])
@pytest.mark.parametrize(("low", "high"), [(0.0, 8.2), (-3.3, 1.7)])
def test_a_mean_is_rounded_to_the_nearest_step_and_halves_to_the_even_one(low, high, count):
    scale, zero = nudged(low, high)
    numbers = np.random.default_rng(count).integers(-128, 128, (400, count))
    expected = zero + np.array([round(Fraction(int(each), count)) for each in (numbers - zero).sum(axis=1)])
    means = (scale * (numbers - zero)).astype("float32").mean(axis=1)
    found = observed(low, high).rounded_mean(tf.constant(means))
    np.testing.assert_array_equal(np.round(found / scale + zero), expected)


# The graph


def every_kind() -> keras.Model:
    """Each way in which the students' layers meet, in a network too shallow to carry a rounding far."""
    features = keras.Input((16, 12, 1), name="features")
    branches = [
        layers.AveragePooling2D(2, padding="same")(
            layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, kernel, padding="same")(features)))
        )
        for kernel in ((5, 1), (1, 5))
    ]
    joined = layers.Concatenate()(branches)
    tensor = layers.BatchNormalization()(layers.Conv2D(16, 1, use_bias=False)(joined))
    tensor = layers.Activation("hard_swish")(tensor)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(tensor)
    gate = layers.Conv2D(8, 1, activation="swish")(gate)
    gate = layers.ReLU(6.0)(layers.Conv2D(16, 1)(gate) + 3.0) * (1.0 / 6.0)
    tensor = layers.Multiply()([tensor, gate])
    deep = layers.ZeroPadding2D(1)(tensor)
    deep = layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False)(deep))
    tensor = layers.ReLU()(layers.Add()([deep, tensor]))
    tensor = layers.MaxPooling2D(2)(tensor)
    tensor = layers.GlobalAveragePooling2D()(tensor)
    tensor = layers.Dropout(0.3)(layers.Dense(24, "hard_swish", name="embedding")(tensor))
    return keras.Model(features, layers.Dense(CLASSES, name="logits")(tensor), name="every_kind")


def made(name: str) -> tuple[keras.Model, np.ndarray]:
    """A student with batch norm's statistics of its own, and features."""
    keras.utils.set_random_seed(1)
    # An average over one position would be left out of the file.
    shape = (16, 12, 1) if name == "every_kind" else (64, 40, 1)
    student = every_kind() if name == "every_kind" else students.build(name, shape, CLASSES, width=0.25)
    rng = np.random.default_rng(0)
    # Of different size in every row and column, as features are.
    features = rng.normal(size=(24, *shape)) + rng.normal(size=(1, 1, shape[1], 1))
    features = (features * rng.uniform(0.3, 2, (24, 1, 1, 1))).astype("float32")
    norms = [layer for layer in student.layers if isinstance(layer, layers.BatchNormalization)]
    for number in range(2):
        for layer in norms:
            layer.momentum = 0.0
            gamma, beta, mean, variance = layer.get_weights()
            if not number:
                gamma, beta = rng.uniform(0.5, 1.5, gamma.shape), rng.normal(0, 0.5, beta.shape)
            layer.set_weights([gamma, beta, mean, variance])
        student(features, training=True)
    return student, features


def int8_file(student: keras.Model, features: np.ndarray) -> bytes:
    function = tf.function(
        functools.partial(student_graph.outputs_in_order, student, ["features"])
    ).get_concrete_function({"features": tf.TensorSpec((1, *features.shape[1:]), name="features")})
    return parts.converted(function, "int8", features)


def with_exports_pools(content: bytes) -> bytes:
    """The converter's file as export writes it: its pools are convolutions, and round as those do."""
    model = schema.ModelT.InitFromPackedBuf(content)
    flatbuffer.pools_as_convolutions(model)
    builder = Builder(len(content) + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def logits_of(content: bytes, features: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for row in features:
        interpreter.set_tensor(taken["index"], row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0].copy())
    return np.array(found)


def scales_of(content: bytes) -> list[float]:
    """Of the tensors that the file's operations make."""
    interpreter = Interpreter(model_content=content)
    details = {each["index"]: each["quantization_parameters"] for each in interpreter.get_tensor_details()}
    made_ones = [index for each in interpreter._get_ops_details() for index in each["outputs"]]
    return sorted(
        {
            float(details[index]["scales"][0])
            for index in made_ones
            if index in details and len(details[index]["scales"]) == 1
        }
    )


@pytest.fixture(scope="module")
def case():
    @functools.cache
    def make(name):
        student, features = made(name)
        simulation = Simulation(student)
        simulation.calibrate([features[:8], features[8:]])
        return student, features, simulation, int8_file(student, features)

    return make


# The deep ones have no kind of layer that `every_kind` lacks.
DEEP = ("mobilenetv3_small_075", "resnet18")
NAMES = ("every_kind", "light_sernet", *(pytest.param(name, marks=pytest.mark.every) for name in DEEP))
every_name = pytest.mark.parametrize("name", NAMES)


@every_name
def test_the_ranges_are_those_of_the_exported_file(case, name):
    """One for one: what is rounded here is stored there, and the other way round."""
    _, _, simulation, content = case(name)
    found = [float(steps.high - steps.low) / 255 for steps in simulation.steps]
    # A sigmoid's are fixed.
    expected = [scale for scale in scales_of(content) if scale != 1 / 256]
    for scale in expected:
        assert np.isclose(found, scale, rtol=2e-3).any(), scale
    for scale in found:
        assert np.isclose(expected, scale, rtol=2e-3).any(), scale


@pytest.mark.parametrize(("name", "times"), [("every_kind", 4), ("light_sernet", 1.5)])
def test_the_twin_is_much_nearer_to_the_exported_file_than_the_student_is(case, name, times):
    student, features, simulation, content = case(name)
    found = logits_of(with_exports_pools(content), features)
    twin = np.abs(np.asarray(simulation.twin(features)) - found).mean()
    assert times * twin < np.abs(np.asarray(student(features)) - found).mean()


@every_name
def test_a_twin_that_does_not_round_is_its_student(case, name):
    student, features, simulation, _ = case(name)
    simulation._mode.observing = True
    try:
        found = simulation.twin(tf.constant(features[:4]), training=False)
    finally:
        simulation._mode.observing = False
    np.testing.assert_allclose(found, student(features[:4], training=False), rtol=1e-4, atol=1e-5)


@every_name
def test_a_twin_has_its_students_weights_in_the_same_order(case, name):
    student, _, simulation, _ = case(name)
    for found, expected in zip(simulation.twin.weights, student.weights, strict=True):
        assert (found.name, found.trainable) == (expected.name, expected.trainable)
        np.testing.assert_array_equal(found, expected)


def test_training_changes_weights_and_no_statistics_of_batch_norm():
    student, features = made("every_kind")
    simulation = Simulation(student)
    simulation.calibrate([features])
    twin = simulation.twin
    before = twin.get_weights()
    twin.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = np.arange(len(features)) % CLASSES
    first = twin.evaluate(features, labels, verbose=0)
    twin.fit(features, labels, epochs=15, verbose=0)
    assert twin.evaluate(features, labels, verbose=0) < 0.9 * first
    for variable, old, new in zip(twin.weights, before, twin.get_weights(), strict=True):
        assert np.array_equal(old, new) is not variable.trainable, variable.path


def test_dropout_drops_in_training_only(case):
    _, features, simulation, _ = case("every_kind")
    one, other = (np.asarray(simulation.twin(features, training=True)) for _ in range(2))
    assert not np.array_equal(one, other)
    one, other = (np.asarray(simulation.twin(features, training=False)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_calibration_forgets_what_it_knew_and_follows_the_weights():
    student, features = made("every_kind")
    simulation = Simulation(student)
    simulation.calibrate([100 * features])
    simulation.calibrate([features])
    expected = [float(features.min()), float(features.max())]
    steps = simulation.steps[0]
    np.testing.assert_allclose([steps.low, steps.high], expected)
    *weights, kernel, bias = student.get_weights()
    simulation.twin.set_weights([*weights, 2 * kernel, 2 * bias])
    sizes = [float(steps.high - steps.low) for steps in simulation.steps]
    simulation.calibrate([features])
    ratios = zip(simulation.steps, sizes, strict=True)
    changed = [float(steps.high - steps.low) / size for steps, size in ratios]
    assert sorted(np.round(changed, 4)) == [1.0] * (len(changed) - 1) + [2.0]


# A run


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"qat": -1}, "0 (none) or more"),
        ({"qat": 2, "student": "bert_vggish"}, "students with an int8 file"),
        ({"qat_learning_rate": 1e-4}, "--qat EPOCHS"),
        ({"qat": 2, "qat_learning_rate": 0.0}, "above 0"),
    ],
)
def test_impossible_settings_are_refused(values, words):
    with pytest.raises(UserError) as raised:
        config.make_settings(**values)
    assert words in str(raised.value)


class Stopped(BaseException):
    pass


@pytest.mark.usefixtures("shallow_here", "undrawn")
def test_a_run_fine_tunes_goes_on_where_it_was_stopped_and_exports(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "PRECISIONS", ("float32", "int8"))
    options = ["-kd", "KD+hint:0.1", "--epochs", "1", "--qat", "2", "--folds", SPEAKERS[0], "--run", "run"]
    options += ["--teacher_epochs", "1", "--teacher_width", "1"]
    assert train(manifest, tmp_path / "whole", *options) == 0
    save = EpochState._save

    def save_and_stop(state):
        save(state)
        if state.network.simulation and state.course.epoch == 1:
            raise Stopped

    options.append("--no-export")
    monkeypatch.setattr(EpochState, "_save", save_and_stop)
    with pytest.raises(Stopped):
        train(manifest, tmp_path / "stopped", *options)
    monkeypatch.setattr(EpochState, "_save", save)
    assert train(manifest, tmp_path / "stopped", *options) == 0

    whole, stopped = tmp_path / "whole" / "run", tmp_path / "stopped" / "run"
    student = Path(f"fold-{SPEAKERS[0]}") / "student.keras"
    assert same_weights(whole / student, stopped / student)
    history = Path(f"fold-{SPEAKERS[0]}") / "history.csv"
    assert (whole / history).read_bytes() == (stopped / history).read_bytes()
    assert (whole / "predictions.csv").read_bytes() == (stopped / "predictions.csv").read_bytes()
    with open(whole / history, newline="") as file:
        rows = list(csv.DictReader(file))
    # The learning rates are those of the fixture's options and a tenth of them.
    assert [row["learning_rate"] for row in rows] == ["0.003"] + ["0.0003"] * 2

    metrics = json.loads((whole / "metrics.json").read_text())
    (fold,) = metrics["folds"]
    assert 1 < fold["best_epoch"] <= 3
    assert fold["best_epoch"] == 1 + fold["best_epochs"][1]
    assert [row["precision"] for row in metrics["export"]["rows"]] == ["float32", "int8"]
    assert not list(whole.rglob("*checkpoint*"))
    report = (whole / "report.md").read_text()
    assert "fine-tuned for 2 epochs with simulated int8 arithmetic" in report
    assert "1 epoch and 2 with simulated int8 arithmetic" in report


def test_what_validates_a_fine_tuning_is_the_twin():
    student, features = made("every_kind")
    schedule = SCHEDULES["cubic"].changed(epochs=1, batch_size=8)
    network = Network(
        NetworkSpec(lambda: student, schedule, label_loss="cross_entropy", label_settings={}, int8=True)
    )
    job = TrainingJob(
        examples=Examples(features, np.arange(24, dtype=np.int32) % CLASSES, tuple("abcde")),
        train=(),
        validation=range(16, 24),
        seed=0,
        checkpoint=Path("none"),
        calibration=range(16),
    )
    state = EpochState(network, job)
    network.calibrate(features, range(16))
    state.last = network.twin.get_weights()
    logits = np.asarray(network.twin(features[16:]))
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -np.mean([log[i, (16 + i) % CLASSES] for i in range(8)])
    assert state._validate()["val_loss"] == pytest.approx(expected, rel=1e-4)
    assert np.abs(np.asarray(student(features[16:])) - logits).max() > 1e-3


def test_the_command_line_refuses_text(capsys, tmp_path, manifest):
    assert train(manifest, tmp_path, "--qat", "2", "--student", "bert_vggish") == 2
    assert "int8" in error_of(capsys)
