"""What the Distiller trains on, computed by hand; on TensorFlow, and in a subprocess on JAX."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import REPOSITORY
from keras import layers, ops

from light_sernet_kd import losses
from light_sernet_kd.config import UserError
from light_sernet_kd.distiller import Distiller

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
BATCH, CLASSES, SHAPE = 12, 4, (5, 3, 1)
TAUGHT = [name for name in losses.DISTILLATIONS if name != "pure"]
methods = pytest.mark.parametrize("method", losses.DISTILLATIONS)


def student(*, dropout=0.0, l2=0.01):
    """As small as a network with weights, L2, batch norm, dropout and logits can be."""
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Flatten(),
            layers.Dense(16, kernel_regularizer=keras.regularizers.L2(l2) if l2 else None),
            layers.BatchNormalization(momentum=0.5),
            layers.ReLU(),
            layers.Dropout(dropout),
            layers.Dense(CLASSES, name="logits"),
        ]
    )


def examples(count=BATCH, seed=0):
    """Features, a teacher who is mostly right, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype("int32")
    teacher = rng.normal(0, 1, (count, CLASSES)) + 3 * np.eye(CLASSES)[labels]
    features = rng.normal(0, 1, (count, *SHAPE)) + labels[:, None, None, None]
    return {"features": features.astype("float32"), "teacher": teacher.astype("float32")}, labels


def compiled(distiller, optimizer=None):
    distiller.compile(optimizer or keras.optimizers.SGD(0.0))
    return distiller


def weights_of(model):
    return [np.array(weight) for weight in model.get_weights()]


def by_hand(network, inputs, labels, method, label_loss, weights, decay, settings, label_settings):
    """mean(weight x per example) + relational + L2 + half the decay times the squares."""
    before = weights_of(network)
    logits = ops.convert_to_numpy(network(inputs["features"], training=True))
    network.set_weights(before)  # batch norm has moved its statistics
    values = losses.LABEL_LOSSES[label_loss](labels, logits, **label_settings)
    per_example, relational = losses.DISTILLATIONS[method](
        values, labels, inputs["teacher"], logits, **settings
    )
    regularisation = 0.01 * np.sum(before[0].astype("float64") ** 2)
    squares = sum(np.sum(np.array(weight, "float64") ** 2) for weight in network.trainable_variables)
    per_example = ops.convert_to_numpy(per_example)
    return np.mean(per_example * weights) + float(relational) + regularisation + 0.5 * decay * squares


# The loss


@pytest.mark.parametrize(
    ("method", "weighing"),
    [*((method, "examples") for method in losses.DISTILLATIONS), ("CKD", "classes"), ("CKD", "nothing")],
)
def test_loss_is_that_of_the_definition(method, weighing):
    inputs, labels = examples()
    sample_weight = np.linspace(0.2, 2.0, BATCH).astype("float32") if weighing == "examples" else None
    class_weight = {0: 0.5, 1: 1.0, 2: 2.0, 3: 4.0} if weighing == "classes" else None
    weights = np.ones(BATCH)
    if sample_weight is not None:
        weights = sample_weight
    if class_weight is not None:
        weights = np.array([class_weight[label] for label in labels])
    network = student()
    distiller = compiled(Distiller(network, distillation=method, weight_decay=0.02))
    given = {"sample_weight": sample_weight, "class_weight": class_weight}
    logs = distiller.train_on_batch(inputs, labels, **given, return_dict=True)
    expected = by_hand(network, inputs, labels, method, "cross_entropy", weights, 0.02, {}, {})
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_settings_reach_the_losses():
    inputs, labels = examples()
    network = student()
    settings, label_settings = {"alpha": 0.2, "temperature": 3.0}, {"gamma": 1.5, "label_smoothing": 0.1}
    distiller = compiled(
        Distiller(
            network,
            label_loss="focal",
            distillation="KD",
            label_settings=label_settings,
            distillation_settings=settings,
        )
    )
    logs = distiller.train_on_batch(inputs, labels, return_dict=True)
    expected = by_hand(network, inputs, labels, "KD", "focal", 1.0, 0.0, settings, label_settings)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_logs_hold_the_label_loss_and_the_accuracy_of_the_batch():
    inputs, labels = examples()
    network = student()
    distiller = compiled(Distiller(network, distillation="CKD"))
    logs = distiller.fit(inputs, labels, batch_size=BATCH, shuffle=False, verbose=0).history
    logits = ops.convert_to_numpy(network(inputs["features"], training=True))
    values = ops.convert_to_numpy(losses.cross_entropy(labels, logits))
    assert sorted(logs) == ["accuracy", "label_loss", "loss"]
    np.testing.assert_allclose(logs["label_loss"], [values.mean()], rtol=1e-5)
    np.testing.assert_allclose(logs["accuracy"], [np.mean(logits.argmax(axis=1) == labels)], rtol=1e-6)


def test_weight_decay_and_l2_add_to_the_gradient():
    """The weight itself, of every trained weight, bias and batch norm's scale and offset: as PyTorch's Adam
    does. L2 adds twice the weight of the layer that asks for it."""
    inputs, labels = examples()
    after = []
    for decay, l2 in ((0.0, 0.0), (0.25, 0.2)):
        network = student(l2=l2)
        start = [np.array(weight) for weight in network.trainable_variables]
        distiller = compiled(Distiller(network, weight_decay=decay), keras.optimizers.SGD(1.0))
        distiller.train_on_batch(inputs, labels)
        after.append([np.array(weight) for weight in network.trainable_variables])
    factors = [0.25 + 2 * 0.2, *[0.25] * 5]  # the first is the regularised kernel
    for weight, factor, without, with_both in zip(start, factors, *after, strict=True):
        np.testing.assert_allclose(without - with_both, factor * weight, atol=1e-6)


def test_the_gradient_is_that_of_the_loss():
    """By central differences along one random direction."""
    inputs, labels = examples()
    rng = np.random.default_rng(5)
    network = student()
    distiller = compiled(Distiller(network, distillation="CKD"), keras.optimizers.SGD(1.0))
    start = weights_of(network)
    trained = [any(weight is each for each in network.trainable_variables) for weight in network.weights]
    pairs = zip(start, trained, strict=True)
    direction = [moves * rng.standard_normal(weight.shape) for weight, moves in pairs]

    def loss_at(step):
        network.set_weights([weight + step * way for weight, way in zip(start, direction, strict=True)])
        distiller.reset_metrics()  # Keras averages them over the batches
        return float(distiller.train_on_batch(inputs, labels, return_dict=True)["loss"])

    slope = (loss_at(1e-3) - loss_at(-1e-3)) / 2e-3
    network.set_weights(start)
    distiller.train_on_batch(inputs, labels)
    gradient = [before - after for before, after in zip(start, weights_of(network), strict=True)]
    found = sum(np.sum(each * way) for each, way in zip(gradient, direction, strict=True))
    np.testing.assert_allclose(found, slope, rtol=1e-2)


# Training


@methods
def test_training_lowers_the_loss_and_learns_the_labels(method):
    inputs, labels = examples(96)
    if method == "pure":
        inputs = {"features": inputs["features"]}
    distiller = compiled(Distiller(student(dropout=0.2), distillation=method), keras.optimizers.Adam(0.02))
    history = distiller.fit(inputs, labels, batch_size=32, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["accuracy"][-1] > 0.7


@pytest.mark.parametrize("method", TAUGHT)
def test_training_without_the_teacher_is_refused(method):
    inputs, labels = examples()
    for given in (inputs["features"], {"features": inputs["features"]}):
        distiller = compiled(Distiller(student(), distillation=method))
        with pytest.raises(UserError, match=f"{method} needs the teacher's logits in every training batch"):
            distiller.fit(given, labels, verbose=0)


def test_without_distillation_the_teacher_is_not_looked_at():
    inputs, labels = examples()
    after = []
    for given in (inputs["features"], {"features": inputs["features"]}, inputs):
        network = student()
        compiled(Distiller(network), keras.optimizers.SGD(0.1)).train_on_batch(given, labels)
        after.append(weights_of(network))
    for bare, alone, beside in zip(*after, strict=True):
        np.testing.assert_array_equal(bare, alone)
        np.testing.assert_array_equal(bare, beside)


def test_labels_may_be_a_column():
    inputs, labels = examples()
    flat, column = (
        compiled(Distiller(student(), distillation="RKD")).train_on_batch(inputs, given, return_dict=True)
        for given in (labels, labels[:, None])
    )
    assert flat == column


# Evaluation and prediction


@methods
def test_evaluation_needs_no_teacher_and_moves_nothing(method):
    inputs, labels = examples()
    network = student(dropout=0.5)
    distiller = compiled(Distiller(network, distillation=method, weight_decay=0.1))
    distiller.train_on_batch(inputs, labels)  # away from the initial statistics
    before = weights_of(network)
    weights = np.linspace(0.2, 2.0, BATCH).astype("float32")
    logs = distiller.evaluate(
        inputs["features"], labels, sample_weight=weights, batch_size=BATCH, verbose=0, return_dict=True
    )
    for weight, after in zip(before, weights_of(network), strict=True):
        np.testing.assert_array_equal(weight, after)
    logits = ops.convert_to_numpy(network(inputs["features"], training=False))
    values = ops.convert_to_numpy(losses.cross_entropy(labels, logits))
    np.testing.assert_allclose(logs["loss"], np.mean(values * weights), rtol=1e-5)


def test_predictions_are_the_students_logits_with_and_without_a_teacher():
    inputs, _ = examples()
    network = student(dropout=0.5)
    distiller = compiled(Distiller(network, distillation="KD"))
    expected = ops.convert_to_numpy(network(inputs["features"], training=False))
    for given in (inputs, {"features": inputs["features"]}, inputs["features"]):
        np.testing.assert_allclose(distiller.predict(given, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_validation_in_fit_needs_no_teacher():
    inputs, labels = examples()
    distiller = compiled(Distiller(student(), distillation="DKD"))
    history = distiller.fit(inputs, labels, validation_data=(inputs["features"], labels), verbose=0).history
    assert {"val_loss", "val_label_loss", "val_accuracy"} <= set(history)


def test_metrics_given_to_compile_are_computed():
    inputs, labels = examples()
    distiller = Distiller(student())
    top2 = keras.metrics.SparseTopKCategoricalAccuracy(CLASSES, name="top")
    distiller.compile(keras.optimizers.SGD(0.0), metrics=[top2])
    assert distiller.train_on_batch(inputs, labels, return_dict=True)["top"] == 1.0


# Saving and mistakes


def test_what_is_saved_is_the_student(tmp_path):
    inputs, labels = examples()
    network = student()
    distiller = compiled(Distiller(network, distillation="CKD"), keras.optimizers.SGD(0.1))
    distiller.train_on_batch(inputs, labels)
    distiller.save(tmp_path / "saved.keras")
    loaded = keras.saving.load_model(tmp_path / "saved.keras", safe_mode=True)
    assert type(loaded) is keras.Sequential
    assert loaded.count_params() == network.count_params()
    np.testing.assert_array_equal(loaded(inputs["features"]), network(inputs["features"]))


def test_a_loss_in_compile_is_refused():
    with pytest.raises(UserError, match="a Distiller brings its own loss"):
        Distiller(student()).compile("adam", loss="mse")


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"distillation_settings": {"lambda3": 1.0}}, r"setting of CKD 'lambda3'\. Did you mean lambda"),
        ({"label_settings": {"gamma": 2.0}}, "setting of cross_entropy 'gamma'"),
        ({"label_loss": "crossentropy"}, "Did you mean cross_entropy"),
        ({"distillation": "CDK"}, "Did you mean"),
    ],
)
def test_an_unknown_loss_or_weight_is_refused(mistake, message):
    with pytest.raises(UserError, match=message):
        Distiller(student(), **{"distillation": "CKD", **mistake})


# Other back ends


@pytest.mark.skipif(not ON_TENSORFLOW, reason="this is the run that it starts")
def test_every_method_trains_on_jax_from_arrays_in_memory():
    """Tests of this file that train, once more in a process of its own."""
    pytest.importorskip("jax")
    tests = "test_training or test_validation or test_weight_decay or on_jax"
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-k", tests, __file__]
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    # This very test is what is skipped: the back end was indeed another.
    assert f"{len(losses.DISTILLATIONS) + len(TAUGHT) + 2} passed, 1 skipped" in done.stdout
