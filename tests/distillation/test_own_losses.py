"""Functions and Keras' own distillation losses in the Distiller, against Keras' Distiller and loops."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from light_sernet_kd.data.batches import Examples
from light_sernet_kd.distillation.distiller import Distiller
from light_sernet_kd.errors import UserError

BATCH, CLASSES, WIDTH = 12, 4, 6
WEIGHT = 0.3  # Keras' student_loss_weight


def network(seed, width=WIDTH):
    keras.utils.set_random_seed(seed)
    named = [layers.Dense(width, activation="relu", name="hidden"), layers.Dense(CLASSES, name="logits")]
    return keras.Sequential([keras.Input((5,)), *named])


def examples():
    rng = np.random.default_rng(4)
    return rng.normal(0, 1, (BATCH, 5)).astype("float32"), rng.integers(0, CLASSES, BATCH)


def hidden_of(model, features):
    return keras.Model(model.inputs, model.get_layer("hidden").output).predict(features, verbose=0)


KERAS_LOSSES = {
    "divergence": lambda: keras.distillation.LogitsDistillation(temperature=2.5),
    "cross entropy": lambda: keras.distillation.LogitsDistillation(
        loss=keras.losses.CategoricalCrossentropy(from_logits=True)
    ),
    "outputs": lambda: keras.distillation.FeatureDistillation(loss="mae"),
    "features": lambda: keras.distillation.FeatureDistillation(
        teacher_layer_name="hidden", student_layer_name="hidden"
    ),
}


@pytest.mark.parametrize("kind", KERAS_LOSSES)
def test_a_loss_of_keras_trains_as_in_keras_own_distiller(kind):
    features, labels = examples()
    teacher, ours, theirs = network(1), network(2), network(2)
    given = {
        "features": features,
        "teacher": teacher.predict(features, verbose=0),
        "teacher_embedding": hidden_of(teacher, features),
    }
    settings = {"label_weight": WEIGHT, "weight": 1 - WEIGHT}
    distiller = Distiller(ours, distillation=KERAS_LOSSES[kind](), distillation_settings=settings)
    distiller.compile(keras.optimizers.SGD(0.5))
    peer = keras.distillation.Distiller(
        teacher, theirs, distillation_losses=KERAS_LOSSES[kind](), student_loss_weight=WEIGHT
    )
    peer.compile(keras.optimizers.SGD(0.5), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for _ in range(2):
        logs = distiller.train_on_batch(given, labels, return_dict=True)
        expected = peer.train_on_batch(features, labels, return_dict=True)
        np.testing.assert_allclose(logs["loss"], expected["total_loss"], rtol=1e-5)
        distiller.reset_metrics()
        peer.reset_metrics()
    before = network(2).get_weights()
    for weight, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-6)
    assert not np.allclose(ours.get_weights()[0], before[0])


def absolute_gaps(teacher, student):
    return ops.sum(ops.abs(teacher - student), axis=-1)


def mean_gap(teacher, student):
    return ops.mean(ops.abs(teacher - student))


def logits_and_label_losses(model, features, labels):
    logits = model.predict(features, verbose=0).astype("float64")
    shifted = logits - logits.max(axis=1, keepdims=True)
    return logits, np.array(
        [np.log(np.exp(row).sum()) - row[label] for row, label in zip(shifted, labels, strict=True)]
    )


@pytest.mark.usefixtures("eager")
def test_a_function_of_each_example_is_weighted_by_the_examples_and_a_scalar_is_not():
    features, labels = examples()
    teacher = network(1).predict(features, verbose=0)
    sample_weight = np.linspace(0.2, 2.0, BATCH).astype("float32")
    logits, label_losses = logits_and_label_losses(network(2), features, labels)
    gaps = [sum(abs(t - s) for t, s in zip(*rows, strict=True)) for rows in zip(teacher, logits, strict=True)]
    expected = {
        absolute_gaps: np.mean(sample_weight * (label_losses + 2 * np.array(gaps))),
        mean_gap: np.mean(sample_weight * label_losses) + 2 * np.mean(gaps) / CLASSES,
    }
    for function, loss in expected.items():
        distiller = Distiller(network(2), distillation=function, distillation_settings={"weight": 2.0})
        distiller.compile(keras.optimizers.SGD(0.0))
        inputs = {"features": features, "teacher": teacher}
        logs = distiller.train_on_batch(inputs, labels, sample_weight=sample_weight, return_dict=True)
        np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)


@pytest.mark.usefixtures("eager")
def test_a_loss_that_compares_nothing_it_can_is_refused():
    features, labels = examples()
    refused = {
        keras.distillation.LogitsDistillation: r"LogitsDistillation is a class: pass LogitsDistillation\(",
        3: r"a name, a function \(teacher, student\) or a loss of keras.distillation, found 3",
        keras.distillation.FeatureDistillation(student_layer_name="hide"): "no layer 'hide'.*hidden, logits",
    }
    for loss, message in refused.items():
        with pytest.raises(UserError, match=message):
            Distiller(network(2), distillation=loss)
    with pytest.raises(UserError, match=r"unknown setting of mean_gap 'alpha'.*label_weight, weight"):
        Distiller(network(2), distillation=mean_gap, distillation_settings={"alpha": 0.3})
    wide = {"features": features, "teacher_embedding": np.ones((BATCH, WIDTH + 1), "float32")}
    logits = {"features": features, "teacher": np.ones((BATCH, CLASSES), "float32")}
    for loss, inputs, message in (
        (KERAS_LOSSES["features"](), wide, "outputs of one width, found 7 of the teacher's and 6"),
        (KERAS_LOSSES["features"](), logits, "needs the teacher's embeddings in every training batch"),
        (lambda teacher, student: teacher - student, logits, r"lambda gives the shape \(12, 4\)"),
    ):
        distiller = Distiller(network(2), distillation=loss)
        distiller.compile("sgd")
        with pytest.raises(UserError, match=message):
            distiller.train_on_batch(inputs, labels)


def test_examples_have_class_indices_and_shares_of_their_classes():
    rows, classes = np.zeros((3, 2, 2, 1)), ("anger", "fear")
    shares = np.full((3, 2), 0.5)
    for labels, soft_labels, message in (
        ([0, 2, 1], None, "indices from 0 to 1, as there are 2 classes; found 2"),
        (np.eye(2)[[0, 1, 1]], None, r"found \(3, 2\)\. One-hot labels become indices"),
        ([0, 1, 1], np.array([0, 1, 1]), r"shape \(3, 2\), found \(3,\)\. Class indices are labels"),
        ([0, 1, 1], shares[:, :1], r"shape \(3, 2\), found \(3, 1\)\."),
        ([0, 1, 1], shares - 1, "0 or more and finite, found -0.5 and 5 more"),
    ):
        with pytest.raises(UserError, match=message):
            Examples(rows, np.array(labels), classes, soft_labels)
    assert Examples(rows, np.array([0, 1, 1]), classes, shares).classes == classes
