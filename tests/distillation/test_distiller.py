"""What the Distiller trains on, computed by hand; on TensorFlow, and in a subprocess on JAX."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ON_JAX, REPOSITORY
from keras import layers, ops

from light_sernet_kd.data.batches import Examples, TeacherOutputs, batches
from light_sernet_kd.distillation import losses
from light_sernet_kd.distillation.distiller import Distiller, TeacherWidths, embedding_of, text_states_of
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
BATCH, CLASSES, SHAPE = 12, 4, (5, 3, 1)
ON_LOGITS = {name: entry.loss for name, entry in DISTILLATIONS.items() if entry.brings_label_loss}
ON_EMBEDDINGS = [name for name, entry in DISTILLATIONS.items() if entry.compares == "embedding"]
OURS_SETTINGS = [name for name in ON_LOGITS if name != "pure"]
methods = pytest.mark.parametrize("method", ON_LOGITS)
# Of a step or two, which take less time than to trace them; training is in graphs, as users do.
one_step = pytest.mark.usefixtures("eager")


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
    values = LABEL_LOSSES[label_loss].loss(labels, logits, **label_settings)
    per_example, relational = ON_LOGITS[method](values, labels, inputs["teacher"], logits, **settings)
    regularisation = 0.01 * np.sum(before[0].astype("float64") ** 2)
    squares = sum(np.sum(np.array(weight, "float64") ** 2) for weight in network.trainable_variables)
    per_example = ops.convert_to_numpy(per_example)
    return np.mean(per_example * weights) + float(relational) + regularisation + 0.5 * decay * squares


# The loss


@one_step
@pytest.mark.parametrize(
    ("method", "weighing"),
    [*((method, "examples") for method in ON_LOGITS), ("CKD", "classes"), ("CKD", "nothing")],
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


# Above, one step of every method is compared with its definition; `test_losses` has the graphs of all.
SHOWN = ("pure", "KD", "CKD", "WSLD", "WTTM")


@pytest.mark.parametrize(
    "method",
    [name if name in SHOWN else pytest.param(name, marks=pytest.mark.every) for name in ON_LOGITS],
)
def test_training_lowers_the_loss_and_learns_the_labels(method):
    inputs, labels = examples(96)
    if method == "pure":
        inputs = {"features": inputs["features"]}
    distiller = compiled(Distiller(student(dropout=0.2), distillation=method), keras.optimizers.Adam(0.02))
    history = distiller.fit(inputs, labels, batch_size=32, epochs=12, verbose=0).history
    # The cross entropy of WSLD never falls below the teacher's entropy, and WTTM keeps the student from
    # certainty.
    assert history["loss"][-1] < {"WSLD": 0.8, "WTTM": 0.9}.get(method, 0.7) * history["loss"][0]
    assert history["accuracy"][-1] > 0.7


def test_fit_takes_a_number_from_its_first_value_to_its_last():
    inputs, labels = examples()
    network, losses = student(), {}
    for alpha in ("0>1", 0.0, 0.5, 1.0):
        distiller = Distiller(network, distillation="KD", distillation_settings={"alpha": alpha})
        compiled(distiller, keras.optimizers.SGD(0.0))
        losses[alpha] = distiller.fit(inputs, labels, epochs=3, verbose=0).history["loss"]
    np.testing.assert_allclose(losses["0>1"], [losses[alpha][0] for alpha in (0.0, 0.5, 1.0)], rtol=1e-5)


@pytest.mark.parametrize("method", OURS_SETTINGS)
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


@one_step
def test_labels_may_be_a_column():
    inputs, labels = examples()
    flat, column = (
        compiled(Distiller(student(), distillation="RKD")).train_on_batch(inputs, given, return_dict=True)
        for given in (labels, labels[:, None])
    )
    assert flat == column


# Soft labels


def soft_labels(labels, seed=4):
    """The shares of five annotators, of whom most but not always the most hear the label."""
    rng = np.random.default_rng(seed)
    votes = np.eye(CLASSES)[labels] * rng.integers(1, 6, (len(labels), 1))
    for row in votes:
        for heard in rng.integers(0, CLASSES, 5 - int(row.sum())):
            row[heard] += 1
    return (votes / 5).astype("float32")


def loss_on_logits(inputs, labels, logits, **choices):
    """What a Distiller computes of given logits in training, without the student's L2."""
    distiller = Distiller(student(l2=0.0), **choices)
    return float(distiller.compute_loss(inputs, labels, ops.convert_to_tensor(logits), training=True))


@pytest.fixture(scope="module")
def guesses():
    return np.random.default_rng(8).normal(0, 2, (BATCH, CLASSES)).astype("float32")


@methods
def test_soft_labels_are_the_label_losses_target_and_their_largest_share_is_the_label(method, guesses):
    inputs, labels = examples()
    assert labels[:2].tolist() == [3, 2]
    shares = 0.6 * np.eye(CLASSES)[labels] + 0.4 * np.eye(CLASSES)[labels[::-1]]
    shares[:2] = [[0.8, 0, 0, 0.2], [0.4, 0, 0.4, 0.2]]
    highest = np.array([0, 2, *labels[2:]])
    found = loss_on_logits(inputs | {"soft_labels": shares}, labels, guesses, distillation=method)
    label_loss = losses.cross_entropy(shares, guesses)
    per_example, relational = ON_LOGITS[method](label_loss, highest, inputs["teacher"], guesses)
    np.testing.assert_allclose(found, np.mean(per_example) + float(relational), rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "label_loss"),
    [
        (name, label_loss)
        if label_loss == "cross_entropy" or name in ("pure", "WSLD")
        else pytest.param(name, label_loss, marks=pytest.mark.every)
        for name in ON_LOGITS
        for label_loss in LABEL_LOSSES
    ],
)
def test_soft_labels_of_one_class_are_hard_labels(method, label_loss, guesses):
    inputs, labels = examples()
    choices = {"distillation": method, "label_loss": label_loss, "label_settings": {"label_smoothing": 0.1}}
    soft = inputs | {"soft_labels": np.eye(CLASSES, dtype="float32")[labels]}
    hard = loss_on_logits(inputs, labels, guesses, **choices)
    assert loss_on_logits(soft, labels, guesses, **choices) == hard


@methods
def test_mixed_soft_labels_of_one_class_are_mixed_hard_labels(method, guesses):
    inputs, labels = mixed_examples()
    share, one_hot = inputs["share"][:, None], np.eye(CLASSES, dtype="float32")
    mixed = share * one_hot[labels] + (1 - share) * one_hot[inputs["other_labels"]]
    hard = loss_on_logits(inputs, labels, guesses, distillation=method)
    soft = loss_on_logits(inputs | {"soft_labels": mixed}, labels, guesses, distillation=method)
    np.testing.assert_allclose(soft, hard, rtol=1e-5)


def test_training_on_soft_labels_makes_the_student_as_unsure_as_the_annotators():
    inputs, labels = examples(96)
    shares = soft_labels(labels)
    given = {"features": inputs["features"], "soft_labels": shares}
    network = student(l2=0.0)
    distiller = compiled(Distiller(network, label_loss="mse"), keras.optimizers.Adam(0.02))
    distiller.fit(given, labels, batch_size=32, epochs=40, verbose=0)
    outputs = ops.convert_to_numpy(network(inputs["features"]))
    constant = np.mean((shares - shares.mean(axis=0)) ** 2)
    assert np.mean((outputs - shares) ** 2) < 0.5 * constant
    hard = np.mean((outputs - np.eye(CLASSES)[labels]) ** 2)
    assert hard > 1.5 * np.mean((outputs - shares) ** 2)


def test_evaluation_uses_soft_labels_where_they_are_given():
    inputs, labels = examples()
    shares = soft_labels(labels)
    network = student(l2=0.0)
    distiller = compiled(Distiller(network))
    given = {"features": inputs["features"], "soft_labels": shares}
    logs = distiller.evaluate(given, labels, batch_size=BATCH, verbose=0, return_dict=True)
    logits = ops.convert_to_numpy(network(inputs["features"]))
    np.testing.assert_allclose(logs["loss"], np.mean(losses.cross_entropy(shares, logits)), rtol=1e-5)
    np.testing.assert_allclose(logs["accuracy"], np.mean(logits.argmax(axis=1) == labels), rtol=1e-6)


# Sums, and losses on embeddings


def with_embeddings(inputs, width=6, seed=7):
    """The teacher's embeddings beside its logits: what it says of the classes, turned and widened."""
    turn = np.random.default_rng(seed).normal(size=(CLASSES, width))
    return inputs | {"teacher_embedding": (inputs["teacher"] @ turn).astype("float32")}


def outputs_by_hand(network, features):
    """Logits and what the dropout before them is given, in training, with nothing left changed."""
    before = weights_of(network)
    both = keras.Model(network.inputs[0], [network.outputs[0], network.layers[-3].output])
    found = [ops.convert_to_numpy(each) for each in both(features, training=True)]
    network.set_weights(before)  # batch norm has moved its statistics
    return found


def unregularised(network, loss):
    return loss - 0.01 * np.sum(weights_of(network)[0].astype("float64") ** 2)


@one_step
@pytest.mark.parametrize("standardise", [False, True])
def test_the_loss_of_a_sum_is_the_sum_of_the_losses(standardise):
    inputs, labels = examples()
    inputs = with_embeddings(inputs)
    sample_weight = np.linspace(0.2, 2.0, BATCH).astype("float32")
    network = student()
    distiller = compiled(
        Distiller(
            network,
            distillation="KD:0.5+DIST:2+NKD+PKT:300+SP:40+hint:5",
            distillation_settings={"KD.alpha": 0.4},
            standardise_logits=standardise,
            teacher_widths=TeacherWidths(embedding=6),
        )
    )
    kernel, bias = (ops.convert_to_numpy(weight) for weight in distiller.projection.weights)
    logs = distiller.train_on_batch(inputs, labels, sample_weight=sample_weight, return_dict=True)
    logits, embedding = outputs_by_hand(network, inputs["features"])
    label_loss = losses.cross_entropy(labels, logits)  # of the logits as they are
    shown = [losses.standardised(each) if standardise else each for each in (inputs["teacher"], logits)]
    wide, target = embedding @ kernel + bias, inputs["teacher_embedding"]
    parts = [
        (0.5, losses.kd(label_loss, labels, *shown, alpha=0.4)),
        (2, losses.dist(label_loss, labels, *shown)),
        (1, losses.nkd(label_loss, labels, *shown)),
        (300, losses.pkt(labels, target, embedding)),
        (40, losses.sp(labels, target, embedding)),
        (5, losses.hint(labels, target, wide)),
    ]
    expected = sum(w * (np.mean(np.array(each) * sample_weight) + float(rest)) for w, (each, rest) in parts)
    np.testing.assert_allclose(unregularised(network, logs["loss"]), expected, rtol=1e-5)
    np.testing.assert_allclose(logs["label_loss"], np.average(label_loss, weights=sample_weight), rtol=1e-5)


@pytest.mark.parametrize(("distillation", "label_weight"), [("SP:40", 1), ("pure:0.5+SP:40", 0.5)])
def test_losses_on_embeddings_alone_are_added_to_the_label_loss(distillation, label_weight):
    inputs, labels = examples()
    inputs = with_embeddings(inputs)
    network = student()
    # the teacher's logits are not needed
    given = {key: value for key, value in inputs.items() if key != "teacher"}
    distiller = compiled(Distiller(network, distillation=distillation))
    logs = distiller.train_on_batch(given, labels, return_dict=True)
    logits, embedding = outputs_by_hand(network, inputs["features"])
    expected = label_weight * np.mean(losses.cross_entropy(labels, logits))
    expected += 40 * float(losses.sp(labels, inputs["teacher_embedding"], embedding)[1])
    np.testing.assert_allclose(unregularised(network, logs["loss"]), expected, rtol=1e-5)


@pytest.mark.parametrize("distillation", ["KD", "KD+hint+SP"])
def test_the_student_runs_once_per_step(distillation):
    inputs, labels = examples()
    runs = []

    class Counted(layers.Layer):
        def call(self, inputs):
            runs.append(1)
            return inputs

    features = keras.Input(SHAPE)
    tensor = layers.BatchNormalization(momentum=0.5, center=False)(Counted()(layers.Flatten()(features)))
    network = keras.Model(features, layers.Dense(CLASSES)(layers.Dense(5, name="embedding")(tensor)))
    distiller = Distiller(network, distillation=distillation, teacher_widths=TeacherWidths(embedding=6))
    distiller.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    runs.clear()  # the symbolic ones
    distiller.train_on_batch(with_embeddings(inputs), labels)
    assert len(runs) == 1
    # From 0 halfway to the mean of the batch, once.
    mean = inputs["features"].reshape(BATCH, -1).mean(axis=0)
    norm = next(layer for layer in network.layers if isinstance(layer, layers.BatchNormalization))
    np.testing.assert_allclose(norm.moving_mean, 0.5 * mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ON_EMBEDDINGS)
def test_training_on_embeddings_brings_the_student_nearer_to_them(method):
    inputs, labels = examples(96)
    inputs = with_embeddings(inputs)
    network = student(l2=0.0)
    distiller = Distiller(
        network,
        distillation=f"pure:0.001+{method}",
        teacher_widths=TeacherWidths(embedding=6),
        label_loss="focal",
    )
    distiller = compiled(distiller, keras.optimizers.Adam(0.02))
    history = distiller.fit(inputs, labels, batch_size=32, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.85 * history["loss"][0]


def test_the_projection_trains_decays_and_is_not_saved(tmp_path):
    inputs, labels = examples()
    inputs = with_embeddings(inputs)
    after, start = [], []
    for decay in (0.0, 0.25):
        network = student()
        distiller = Distiller(
            network, distillation="hint", teacher_widths=TeacherWidths(embedding=6), weight_decay=decay
        )
        distiller.start_projection_anew(5)
        assert distiller.trainable_variables == [*network.trainable_variables, *distiller.projection.weights]
        start = [np.array(weight) for weight in distiller.projection.weights]
        compiled(distiller, keras.optimizers.SGD(0.1)).train_on_batch(inputs, labels)
        after.append([np.array(weight) for weight in distiller.projection.weights])
    for before, without, with_decay in zip(start, *after, strict=True):
        assert np.abs(without - before).max() > 1e-4
        np.testing.assert_allclose(without - with_decay, 0.1 * 0.25 * before, atol=1e-6)
    distiller.save(tmp_path / "saved.keras")
    loaded = keras.saving.load_model(tmp_path / "saved.keras", safe_mode=True)
    assert [weight.shape for weight in loaded.weights] == [weight.shape for weight in network.weights]


def test_a_seed_decides_the_projection():
    distiller = Distiller(student(), distillation="hint", teacher_widths=TeacherWidths(embedding=6))
    drawn = []
    for seed in (1, 2, 1):
        distiller.projection.bias.assign(np.ones(6))
        distiller.start_projection_anew(seed)
        drawn.append([np.array(weight) for weight in distiller.projection.weights])
    np.testing.assert_array_equal(drawn[0][0], drawn[2][0])
    assert not np.array_equal(drawn[0][0], drawn[1][0])
    assert all(not np.any(bias) for _, bias in drawn)
    assert 0.2 < np.std(drawn[0][0]) < 0.4  # Glorot's: sqrt(2 / (16 + 6)) = 0.30
    Distiller(student(), distillation="SP").start_projection_anew(1)  # which has none


def functional(named, *, last=None):
    features = keras.Input(SHAPE)
    tensor = layers.Dense(8, name="embedding" if named else "wide")(layers.Flatten()(features))
    tensor = layers.Dropout(0.5)(layers.Dropout(0.5)(layers.ReLU(name="relu")(tensor)))
    return keras.Model(features, (last or layers.Dense(CLASSES))(tensor))


@pytest.mark.parametrize(("named", "expected"), [(True, "embedding"), (False, "relu")])
def test_the_embedding_is_the_layer_of_that_name_or_what_the_last_layer_gets(named, expected):
    network = functional(named)
    assert embedding_of(network) is network.get_layer(expected).output


def test_a_student_without_an_embedding_is_refused():
    maps = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3), layers.Flatten()])
    with pytest.raises(UserError, match="has no embedding: name its layer"):
        Distiller(maps, distillation="SP")
    Distiller(maps, distillation="KD")  # needs none


@pytest.mark.parametrize(
    ("left_out", "message"),
    [("teacher", "needs the teacher's logits"), ("teacher_embedding", "needs the teacher's embeddings")],
)
def test_a_batch_without_what_a_sum_compares_with_is_refused(left_out, message):
    inputs, labels = examples()
    given = {key: value for key, value in with_embeddings(inputs).items() if key != left_out}
    with pytest.raises(UserError, match=rf"KD\+SP:40 {message} in every training batch"):
        compiled(Distiller(student(), distillation="KD+SP:40")).train_on_batch(given, labels)


def test_hint_wants_the_width_of_the_teachers_embeddings():
    with pytest.raises(UserError, match="hint needs the width"):
        Distiller(student(), distillation="KD+hint")
    inputs, labels = examples()
    distiller = compiled(Distiller(student(), distillation="hint", teacher_widths=TeacherWidths(embedding=5)))
    with pytest.raises(UserError, match=r"embeddings are 6 wide, but teacher_widths\.embedding is 5"):
        distiller.train_on_batch(with_embeddings(inputs), labels)


# Students of text and speech, and losses on text states

TOKENS, PATCHES, WORDS, TEXT_WIDTH = 6, 3, 20, 8


def text_encoder(width=TEXT_WIDTH):
    token_ids, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "text_mask"))
    vectors = layers.Dense(width)(layers.Embedding(WORDS, 5)(token_ids))
    states = layers.Multiply()([vectors, layers.Reshape((-1, 1))(mask)])
    return keras.Model({"token_ids": token_ids, "text_mask": mask}, states, name="text_encoder")


def audio_encoder():
    patches = keras.Input((None, 4, 2), name="features")
    states = layers.Dense(7, use_bias=False, activation="relu")(layers.Reshape((-1, 8))(patches))
    return keras.Model(patches, states, name="audio_encoder")


def fusion_head(width=TEXT_WIDTH):
    states = {"text_states": keras.Input((None, width), name="text_states")}
    states["audio_states"] = keras.Input((None, 7), name="audio_states")
    # sums, which rows of zeros do not change
    sums = [ops.sum(each, axis=1) for each in states.values()]
    vector = layers.Dense(9, activation="relu", name="vector")(layers.Concatenate()(sums))
    return keras.Model(states, vector, name="head")


def reader(width=TEXT_WIDTH, *, inputs="by name"):
    """A student of three inputs with models for the encoders and the head within it."""
    keras.utils.set_random_seed(3)
    token_ids, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "text_mask"))
    patches = keras.Input((None, 4, 2), name="features")
    states = text_encoder(width)({"token_ids": token_ids, "text_mask": mask})
    vector = fusion_head(width)({"text_states": states, "audio_states": audio_encoder()(patches)})
    embedding = layers.Activation("linear", name="embedding")(vector)
    each = [token_ids, mask, patches]
    by_name = {tensor.name: tensor for tensor in each}
    given = by_name if inputs == "by name" else each
    return keras.Model(given, layers.Dense(CLASSES)(embedding), name=f"reader_{width}")


def spoken(count=BATCH, *, teacher_width=TEXT_WIDTH, seed=0):
    """Texts whose words and sounds that tell the label, with a teacher's logits and states."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype("int32")
    lengths = rng.integers(1, TOKENS + 1, count)
    mask = (np.arange(TOKENS) < lengths[:, None]).astype("int32")
    token_ids = mask * (1 + 4 * labels[:, None] + rng.integers(0, 4, (count, TOKENS))).astype("int32")
    patches = rng.normal(0, 1, (count, PATCHES, 4, 2)) + labels[:, None, None, None]
    patches[:, 1:] *= (rng.random((count, PATCHES - 1)) > 0.5)[:, :, None, None]
    words = rng.normal(0, 1, (WORDS, teacher_width))
    return {
        "features": {"token_ids": token_ids, "text_mask": mask, "features": patches.astype("float32")},
        "teacher": (rng.normal(0, 1, (count, CLASSES)) + 3 * np.eye(CLASSES)[labels]).astype("float32"),
        "teacher_states": (words[token_ids] * mask[..., None]).astype("float32"),
    }, labels


def heard_and_read(network, inputs):
    """Logits, and the text states that the student's encoder gives."""
    texts = {name: inputs["features"][name] for name in ("token_ids", "text_mask")}
    states = network.get_layer("text_encoder")(texts)
    return [ops.convert_to_numpy(each) for each in (network(inputs["features"]), states)]


@one_step
@pytest.mark.parametrize("inputs", ["by name", "in order"])
@pytest.mark.parametrize("settings", [{}, {"KD.alpha": 0.25}])
def test_distilser_is_its_papers_three_terms(settings, inputs):
    given, labels = spoken()
    network = reader(inputs=inputs)
    distiller = Distiller(
        network,
        distillation="DistilSER",
        distillation_settings=settings,
        teacher_widths=TeacherWidths(states=TEXT_WIDTH),
    )
    assert distiller.projections == []
    logs = compiled(distiller).train_on_batch(given, labels, return_dict=True)
    logits, states = heard_and_read(network, given)
    alpha = settings.get("KD.alpha", 0.5)
    p, log_q = ops.softmax(given["teacher"] / 2), ops.log_softmax(logits / 2)
    divergence = 4 * np.sum(p * (np.log(p) - log_q), axis=1)
    errors = [
        np.mean((ours[:length] - theirs[:length]) ** 2)
        for ours, theirs, length in zip(
            states, given["teacher_states"], given["features"]["text_mask"].sum(axis=1), strict=True
        )
    ]
    label_loss = losses.cross_entropy(labels, logits)
    expected = np.mean(alpha * divergence + (1 - alpha) * label_loss + np.array(errors))
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_states_of_another_width_are_compared_after_a_linear_layer_beside_the_label_loss():
    given, labels = spoken(teacher_width=11)
    # the teacher's logits are not needed, and sample weights weigh both parts
    given.pop("teacher")
    weights = np.linspace(0.2, 2.0, BATCH).astype("float32")
    network = reader()
    distiller = Distiller(network, distillation="states:3", teacher_widths=TeacherWidths(states=11))
    (layer,) = distiller.projections
    kernel, bias = (ops.convert_to_numpy(weight) for weight in layer.weights)
    assert distiller.trainable_variables == [*network.trainable_variables, *layer.weights]
    logs = compiled(distiller).train_on_batch(given, labels, sample_weight=weights, return_dict=True)
    logits, states = heard_and_read(network, given)
    errors = losses.states(None, given["teacher_states"], states @ kernel + bias)[0]
    expected = np.mean(weights * (losses.cross_entropy(labels, logits) + 3 * errors))
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_all_losses_together_on_a_student_of_three_inputs():
    given, labels = spoken(teacher_width=11)
    given = with_embeddings(given)
    network = reader()
    distiller = Distiller(
        network,
        distillation="MSE+hint+SP:40+states:2",
        teacher_widths=TeacherWidths(embedding=6, states=11),
    )
    hint, state = ([ops.convert_to_numpy(w) for w in layer.weights] for layer in distiller.projections)
    logs = compiled(distiller).train_on_batch(given, labels, return_dict=True)
    logits, states = heard_and_read(network, given)
    both = keras.Model(network.input, network.get_layer("embedding").output)
    embedding = ops.convert_to_numpy(both(given["features"]))
    target = given["teacher_embedding"]
    expected = np.mean(losses.cross_entropy(labels, logits)) + np.mean((given["teacher"] - logits) ** 2)
    expected += np.mean(losses.hint(labels, target, embedding @ hint[0] + hint[1])[0])
    expected += 40 * float(losses.sp(labels, target, embedding)[1])
    expected += 2 * np.mean(losses.states(labels, given["teacher_states"], states @ state[0] + state[1])[0])
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("teacher_width", [TEXT_WIDTH, 11])
def test_a_student_of_three_inputs_learns_the_labels_and_the_teachers_states(teacher_width):
    given, labels = spoken(96, teacher_width=teacher_width)
    network = reader()
    distiller = Distiller(
        network, distillation="DistilSER", teacher_widths=TeacherWidths(states=teacher_width)
    )
    distiller = compiled(distiller, keras.optimizers.Adam(0.02))
    before = distiller.evaluate(given, labels, verbose=0, return_dict=True)

    def state_error():
        states = text_states_of_batch(network, given)
        for layer in distiller.projections:
            states = ops.convert_to_numpy(layer(states))
        return np.mean(losses.states(None, given["teacher_states"], states)[0])

    far = state_error()
    distiller.fit(given, labels, batch_size=32, epochs=12, verbose=0)
    after = distiller.evaluate(given, labels, verbose=0, return_dict=True)
    assert after["accuracy"] > 0.9 > before["accuracy"]
    assert state_error() < 0.7 * far


def text_states_of_batch(network, given):
    return heard_and_read(network, given)[1]


@one_step
def test_a_student_of_three_inputs_predicts_from_a_batch_and_from_its_inputs_alone():
    given, labels = spoken()
    for inputs in ("by name", "in order"):
        network = reader(inputs=inputs)
        distiller = compiled(
            Distiller(network, distillation="DistilSER", teacher_widths=TeacherWidths(states=TEXT_WIDTH))
        )
        expected = ops.convert_to_numpy(network(given["features"]))
        for form in (given, {"features": given["features"]}, given["features"]):
            np.testing.assert_allclose(distiller.predict(form, verbose=0), expected, rtol=1e-5, atol=1e-6)
            logs = distiller.evaluate(form, labels, batch_size=BATCH, verbose=0, return_dict=True)
            np.testing.assert_allclose(logs["loss"], np.mean(losses.cross_entropy(labels, expected)), 1e-5)


@one_step
def test_the_loss_of_a_text_does_not_depend_on_its_batch_mates_or_the_padding():
    given, labels = spoken()
    distiller = compiled(
        Distiller(reader(), distillation="DistilSER", teacher_widths=TeacherWidths(states=TEXT_WIDTH))
    )

    def loss(rows, tokens):
        cut = {name: each[rows, :tokens] for name, each in given["features"].items() if name != "features"}
        batch = {
            "features": cut | {"features": given["features"]["features"][rows]},
            "teacher": given["teacher"][rows],
            "teacher_states": given["teacher_states"][rows, :tokens],
        }
        distiller.reset_metrics()
        return float(distiller.train_on_batch(batch, labels[rows], return_dict=True)["loss"])

    lengths = given["features"]["text_mask"].sum(axis=1)
    alone = [loss([row], lengths[row]) for row in range(BATCH)]
    np.testing.assert_allclose(np.mean(alone), loss(np.arange(BATCH), TOKENS), rtol=1e-5)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="tf.data")
def test_batches_of_the_pipeline_train_a_student_of_three_inputs():
    given, labels = spoken(48, teacher_width=11)

    class Rows:
        def __getitem__(self, batch):
            longest = given["features"]["text_mask"][batch].sum(axis=1).max()
            cut = {name: each[batch] for name, each in given["features"].items()}
            return {name: x if name == "features" else x[:, :longest] for name, x in cut.items()}

    network = reader()
    distiller = Distiller(
        network, label_loss="mse", distillation="MSE+states", teacher_widths=TeacherWidths(states=11)
    )
    compiled(distiller, keras.optimizers.Adam(0.01))
    examples = Examples(Rows(), labels, tuple("abcd"), soft_labels(labels))
    teacher = TeacherOutputs(given["teacher"], states=given["teacher_states"].astype("float16"))
    training = batches(
        examples, range(48), batch_size=10, seed=1,
        teacher=teacher, class_weights=np.array([1.0, 2.0, 1.0, 0.5]),
    )  # fmt: skip
    history = distiller.fit(training, steps_per_epoch=5, epochs=12, shuffle=False, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_text_states_are_found_by_the_layers_name_in_the_students_own_graph():
    network, twin = reader(), keras.models.clone_model(reader())
    for each in (network, twin):
        assert text_states_of(each) is not each.get_layer("text_encoder").output, "which is the encoder's own"
        found = keras.Model(each.input, text_states_of(each))
        given, _ = spoken()
        np.testing.assert_array_equal(found(given["features"]), text_states_of_batch(each, given))
    head = fusion_head()
    assert text_states_of(head) is head.input["text_states"]
    features = keras.Input(SHAPE)
    named = layers.Dense(3, name="text_states")(layers.Reshape((5, 3))(features))
    assert text_states_of(keras.Model(features, layers.Flatten()(named))) is named


@pytest.mark.parametrize("distillation", ["states", "DistilSER", "KD+SP+states"])
def test_a_student_without_text_states_is_refused(distillation):
    with pytest.raises(UserError, match=r"has no text states to compare .* Choose a student that reads text"):
        Distiller(student(), distillation=distillation, teacher_widths=TeacherWidths(states=8))


def test_states_wants_the_width_of_the_teachers_states_and_the_states():
    with pytest.raises(UserError, match="states needs the width"):
        Distiller(reader(), distillation="DistilSER")
    given, labels = spoken(teacher_width=5)
    with pytest.raises(UserError, match=r"text states are 5 wide, but teacher_widths\.states is 8"):
        compiled(
            Distiller(reader(), distillation="states", teacher_widths=TeacherWidths(states=8))
        ).train_on_batch(given, labels)
    given.pop("teacher_states")
    with pytest.raises(UserError, match="DistilSER needs the teacher's text states in every training batch"):
        compiled(
            Distiller(reader(), distillation="DistilSER", teacher_widths=TeacherWidths(states=8))
        ).train_on_batch(given, labels)


def test_the_embedding_of_a_student_of_models_is_its_own_layer_of_that_name():
    network = reader()
    assert embedding_of(network) is network.get_layer("embedding").output
    vector = keras.Input((9,))
    inner = keras.Model(vector, layers.Dense(CLASSES)(layers.Dense(5, name="embedding")(vector)))
    features = keras.Input(SHAPE)
    outer = keras.Model(features, inner(layers.Dense(9)(layers.Flatten()(features))))
    with pytest.raises(UserError, match=r"name its layer of that output, .* not within another of"):
        embedding_of(outer)


# Examples mixed of two


def mixed_examples():
    inputs, labels = examples()
    rng = np.random.default_rng(9)
    others = rng.integers(0, CLASSES, BATCH).astype("int32")
    share = rng.uniform(0, 1, BATCH).astype("float32")
    return with_embeddings(inputs) | {"other_labels": others, "share": share}, labels


@one_step
@pytest.mark.parametrize("method", [*ON_LOGITS, "SP:40"])
def test_the_loss_of_mixed_examples_is_mixed_example_by_example_and_relations_count_once(method):
    inputs, labels = mixed_examples()
    network = student()
    logs = compiled(Distiller(network, distillation=method)).train_on_batch(inputs, labels, return_dict=True)
    logits, embedding = outputs_by_hand(network, inputs["features"])

    def parts(labels):
        label_loss = losses.cross_entropy(labels, logits)
        if method == "SP:40":
            return label_loss, 40 * losses.sp(labels, inputs["teacher_embedding"], embedding)[1]
        return ON_LOGITS[method](label_loss, labels, inputs["teacher"], logits)

    expected = float(parts(labels)[1])
    for b in range(BATCH):
        for share, label in (
            (inputs["share"][b], labels[b]),
            (1 - inputs["share"][b], inputs["other_labels"][b]),
        ):
            expected += share * float(parts(np.full(BATCH, label))[0][b]) / BATCH
    np.testing.assert_allclose(unregularised(network, logs["loss"]), expected, rtol=1e-5)


@one_step
@pytest.mark.parametrize("method", ["pure", "WSLD"])
def test_an_example_mixed_with_nothing_is_itself(method):
    inputs, labels = mixed_examples()
    plain = {key: value for key, value in inputs.items() if key not in ("other_labels", "share")}
    whole = inputs | {"share": np.ones(BATCH, "float32")}
    turned = inputs | {"share": np.zeros(BATCH, "float32"), "other_labels": labels}
    found = []
    for given, targets in ((plain, labels), (whole, labels), (turned, inputs["other_labels"])):
        distiller = compiled(Distiller(student(), distillation=method))
        found.append(distiller.train_on_batch(given, targets, return_dict=True))
    for key in ("loss", "label_loss"):
        np.testing.assert_allclose([logs[key] for logs in found], found[0][key], rtol=1e-6)


@pytest.mark.parametrize("left_out", ["other_labels", "share"])
def test_half_of_what_mixing_needs_is_refused(left_out):
    inputs, labels = mixed_examples()
    given = {key: value for key, value in inputs.items() if key != left_out}
    with pytest.raises(UserError, match='has both "other_labels" and "share"'):
        compiled(Distiller(student())).train_on_batch(given, labels)


# Evaluation and prediction


@one_step
@pytest.mark.parametrize("method", [*ON_LOGITS, "KD+hint+SP:40"])
def test_evaluation_needs_no_teacher_and_moves_nothing(method):
    inputs, labels = examples()
    network = student(dropout=0.5)
    distiller = Distiller(
        network, distillation=method, weight_decay=0.1, teacher_widths=TeacherWidths(embedding=6)
    )
    compiled(distiller).train_on_batch(with_embeddings(inputs), labels)  # away from the initial statistics
    before = weights_of(distiller)
    weights = np.linspace(0.2, 2.0, BATCH).astype("float32")
    logs = distiller.evaluate(
        inputs["features"], labels, sample_weight=weights, batch_size=BATCH, verbose=0, return_dict=True
    )
    for weight, after in zip(before, weights_of(distiller), strict=True):
        np.testing.assert_array_equal(weight, after)
    logits = ops.convert_to_numpy(network(inputs["features"], training=False))
    values = ops.convert_to_numpy(losses.cross_entropy(labels, logits))
    np.testing.assert_allclose(logs["loss"], np.mean(values * weights), rtol=1e-5)


@pytest.mark.parametrize("method", ["KD", "KD+SP"])
def test_predictions_are_the_students_logits_with_and_without_a_teacher(method):
    inputs, _ = examples()
    network = student(dropout=0.5)
    distiller = compiled(Distiller(network, distillation=method))
    expected = ops.convert_to_numpy(network(inputs["features"], training=False))
    for given in (inputs, {"features": inputs["features"]}, inputs["features"]):
        np.testing.assert_allclose(distiller.predict(given, verbose=0), expected, rtol=1e-5, atol=1e-6)


@one_step
def test_validation_in_fit_needs_no_teacher():
    inputs, labels = examples()
    distiller = compiled(Distiller(student(), distillation="DKD"))
    history = distiller.fit(inputs, labels, validation_data=(inputs["features"], labels), verbose=0).history
    assert {"val_loss", "val_label_loss", "val_accuracy"} <= set(history)


@pytest.mark.parametrize("method", ["pure", "KD+SP"])
def test_metrics_given_to_compile_are_computed(method):
    inputs, labels = examples()
    inputs = with_embeddings(inputs)
    distiller = Distiller(student(), distillation=method)
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
        ({"distillation": "KD+SP", "distillation_settings": {"alpha": 1.0}}, r"Did you mean KD\.alpha"),
    ],
)
def test_an_unknown_loss_or_weight_is_refused(mistake, message):
    with pytest.raises(UserError, match=message):
        Distiller(student(), **{"distillation": "CKD", **mistake})


# Labels and shapes that do not fit


def eager(distiller):
    """As `compiled`, without a traced step, which these tests would only wait for."""
    distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return distiller


ODD = {
    "beyond the last": (lambda labels: labels + 1, "from 0 to 3, as the student has 4 outputs; found 4 and"),
    "below 0": (lambda labels: labels - 1, "class indices from 0 to 3.* found -1 and"),
    "half": (lambda labels: labels + 0.5, r"class indices from 0 to 3.* found \d\.5 and 11 more"),
    "not a number": (lambda labels: np.where(labels == labels[0], np.nan, labels), "found nan and"),
    "names": (lambda labels: np.array(["anger", "fear"])[labels % 2], "class indices.* no number"),
    "names as objects": (lambda labels: np.array(["anger", None])[labels % 2], "class indices.* no number"),
    "one-hot": (lambda labels: np.eye(CLASSES)[labels], r"found \(12, 4\)\. One-hot labels become indices"),
    "images": (lambda labels: labels.reshape(3, 2, 2), r"of the shape \(batch,\), found \(3, 2, 2\)\."),
    "too few": (lambda labels: labels[:-1], "12 rows of features were given for 11 labels"),
}


@pytest.mark.parametrize(
    ("method", "kind"),
    [*(("fit", kind) for kind in ODD)]
    + [(method, "one-hot") for method in ("evaluate", "train_on_batch", "test_on_batch")],
)
def test_labels_that_are_no_class_indices_are_refused_before_a_step(kind, method):
    inputs, labels = examples()
    assert {labels.min(), labels.max()} == {0, CLASSES - 1}
    change, message = ODD[kind]
    distiller = eager(Distiller(student(), distillation="KD"))
    with pytest.raises(UserError, match=message):
        getattr(distiller, method)(inputs, change(labels))
    with pytest.raises(UserError, match="class indices"):
        distiller.fit(inputs, labels, validation_data=(inputs, labels + 4))
    assert distiller.optimizer.iterations == 0


def test_a_teacher_that_is_not_finite_is_refused_before_a_step():
    inputs, labels = examples()
    logits = np.array(inputs["teacher"])
    logits[3, 1] = np.nan
    distiller = eager(Distiller(student(), distillation="KD"))
    with pytest.raises(UserError, match='"teacher" has 1 of 48 values that are not finite'):
        distiller.fit(inputs | {"teacher": logits}, labels, verbose=0)
    assert distiller.optimizer.iterations == 0


def test_indices_in_a_column_or_as_whole_floats_are_labels():
    inputs, labels = examples()
    losses_of = [
        eager(Distiller(student(), distillation="KD")).train_on_batch(inputs, given, return_dict=True)["loss"]
        for given in (labels, labels[:, None], labels.astype("float64"), labels.tolist())
    ]
    assert losses_of == [losses_of[0]] * 4


class Batches(keras.utils.PyDataset):
    """Batches whose values no array shows beforehand."""

    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def test_odd_labels_of_a_dataset_are_refused_at_the_end_of_the_epoch():
    inputs, labels = examples()
    distiller = compiled(Distiller(student(), distillation="KD"))
    good, odd = Batches((inputs, labels)), Batches((inputs, labels), (inputs, labels + 1))
    count = int((labels == CLASSES - 1).sum())
    with pytest.raises(UserError, match=f"the labels of the dataset must be .* found {count} others"):
        distiller.fit(odd, verbose=0)
    with pytest.raises(UserError, match=f"found {count} others"):
        distiller.evaluate(odd, verbose=0)
    # Validation begins another count, and forgets none.
    with pytest.raises(UserError, match=f"found {count} others"):
        distiller.fit(odd, validation_data=good, verbose=0)
    with pytest.raises(UserError, match=f"found {count} others"):
        distiller.fit(good, validation_data=odd, verbose=0)
    history = distiller.fit(good, validation_data=good, verbose=0).history
    assert not any("odd" in name for name in history)


def test_the_other_labels_of_mixed_examples_are_checked_too():
    inputs, labels = examples()
    mixed = inputs | {"other_labels": labels + 1, "share": np.full(BATCH, 0.5, "float32")}
    distiller = eager(Distiller(student(), distillation="KD"))
    with pytest.raises(UserError, match='"other_labels" must be class indices from 0 to 3'):
        distiller.train_on_batch(mixed, labels)
    with pytest.raises(UserError, match=r"class indices from 0 to 3.*found"):
        distiller.fit(Batches((mixed, labels)), verbose=0)


WRONG_SHAPES = {
    "teacher": ("KD", (BATCH, CLASSES + 1), r"\(12, 5\); expected \(batch, 4\), since the student tells 4"),
    "narrower": ("KD", (BATCH, CLASSES - 1), r"\(12, 3\); expected \(batch, 4\), since the student tells 4"),
    "flat": ("KD", (BATCH,), r"\(12,\); expected \(batch, 4\)"),
    "soft_labels": ("pure", (BATCH, CLASSES - 1), r"\(12, 3\); expected \(batch, 4\)"),
    "shorter": ("KD", (BATCH - 1, CLASSES), None),
}


@pytest.mark.parametrize("kind", WRONG_SHAPES)
@pytest.mark.parametrize("as_dataset", [False, True])
def test_a_teacher_or_soft_labels_of_another_shape_are_refused(kind, as_dataset):
    inputs, labels = examples()
    method, shape, message = WRONG_SHAPES[kind]
    key = kind if kind == "soft_labels" else "teacher"
    given = inputs | {key: np.ones(shape, "float32")}
    distiller = eager(Distiller(student(), distillation=method))
    data = (Batches((given, labels)),) if as_dataset else (given, labels, BATCH)
    with pytest.raises(UserError, match=message or r"rows of teacher|of a batch of 12"):
        distiller.fit(*data, verbose=0)


def test_what_a_compiled_step_knows_of_shapes_is_refused_while_it_is_traced():
    inputs, labels = examples()
    distiller = compiled(Distiller(student(), distillation="KD"))
    with pytest.raises(UserError, match=r"\(\w+, 5\); expected \(batch, 4\)"):
        distiller.fit(inputs | {"teacher": np.ones((BATCH, 5), "float32")}, labels, batch_size=5, verbose=0)
    # On JAX, Keras leaves no weights behind in a model whose step failed.
    distiller = compiled(Distiller(student(), distillation="KD"))
    with pytest.raises(UserError, match="One-hot labels become indices"):
        distiller.fit(Batches((inputs, np.eye(CLASSES)[labels])), verbose=0)


# Other back ends


@pytest.mark.every
@pytest.mark.skipif(not ON_TENSORFLOW, reason="this is the run that it starts")
def test_training_works_on_jax_from_arrays_in_memory():
    """Tests of this file that train, once more in a process of its own. JAX compiles anew for each."""
    pytest.importorskip("jax")
    tests = [
        *(f"test_training_lowers_the_loss_and_learns_the_labels[{name}]" for name in ("pure", "CKD", "WSLD")),
        "test_training_without_the_teacher_is_refused[KD]",
        "test_the_loss_of_a_sum_is_the_sum_of_the_losses[True]",
        "test_training_on_embeddings_brings_the_student_nearer_to_them[hint]",
        "test_the_loss_of_mixed_examples_is_mixed_example_by_example_and_relations_count_once[NKD]",
        "test_distilser_is_its_papers_three_terms[settings0-in order]",
        "test_states_of_another_width_are_compared_after_a_linear_layer_beside_the_label_loss",
        "test_soft_labels_are_the_label_losses_target_and_their_largest_share_is_the_label[NKD]",
        "test_evaluation_uses_soft_labels_where_they_are_given",
        "test_weight_decay_and_l2_add_to_the_gradient",
        "test_validation_in_fit_needs_no_teacher",
        "test_labels_that_are_no_class_indices_are_refused_before_a_step[fit-one-hot]",
        "test_odd_labels_of_a_dataset_are_refused_at_the_end_of_the_epoch",
        "test_what_a_compiled_step_knows_of_shapes_is_refused_while_it_is_traced",
        "test_training_works_on_jax_from_arrays_in_memory",
    ]
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-m", "", "-p", "no:cacheprovider"]
    environment = os.environ | ON_JAX
    done = subprocess.run(
        [*command, *(f"{__file__}::{test}" for test in tests)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    # This very test is what is skipped: the back end was indeed another.
    assert f"{len(tests) - 1} passed, 1 skipped" in done.stdout
