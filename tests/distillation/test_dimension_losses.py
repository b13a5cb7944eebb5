"""Losses on arousal, valence and dominance, and the second output that they train."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from light_sernet_kd import students
from light_sernet_kd.audio import augment
from light_sernet_kd.config import distillation_spec
from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.batches import Examples, TeacherOutputs, batches
from light_sernet_kd.distillation import losses
from light_sernet_kd.distillation.distiller import Distiller, embedding_of
from light_sernet_kd.errors import UserError
from light_sernet_kd.training.accelerate import accelerated

UNKNOWN = float("nan")


def rated(rows: int = 12, dimensions: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ratings, and answers that are near them but shifted and narrower."""
    random = np.random.default_rng(seed)
    values = random.uniform(-1, 1, (rows, dimensions))
    return values, 0.6 * values + 0.2 + random.normal(0, 0.2, values.shape)


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation times the bias correction factor C_b, as Lin writes it in 1989, section 2."""
    scale, shift = y.std() / x.std(), (y.mean() - x.mean()) / np.sqrt(x.std() * y.std())
    return np.corrcoef(x, y)[0, 1] * 2 / (scale + 1 / scale + shift**2)


def test_ccc_is_one_less_correlation_times_bias_correction():
    values, outputs = rated()
    expected = np.mean([1 - concordance(*pair) for pair in zip(values.T, outputs.T, strict=True)])
    np.testing.assert_allclose(losses.ccc(values, outputs), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.ccc, losses.squared_error])
def test_what_nobody_rated_counts_as_if_it_were_not_there(loss):
    values, outputs = rated()
    some = values.copy()
    some[[0, 5, 7], 0], some[3, 1] = UNKNOWN, UNKNOWN
    kept = [~np.isnan(column) for column in some.T]
    columns = [(values[rows, i, None], outputs[rows, i, None]) for i, rows in enumerate(kept)]
    each = [float(loss(*column)) for column in columns]
    weights = [1, 1] if loss is losses.ccc else [rows.sum() for rows in kept]
    np.testing.assert_allclose(loss(some, outputs), np.average(each, weights=weights), rtol=1e-6)
    some[1:, 1] = UNKNOWN  # one rating has no concordance
    if loss is losses.ccc:
        np.testing.assert_allclose(loss(some, outputs), each[0], rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.ccc, losses.squared_error])
def test_the_gradient_is_that_of_finite_differences(loss):
    values, outputs = rated(5)
    values[2, 0] = UNKNOWN
    variable = tf.Variable(outputs)
    with tf.GradientTape() as tape:
        value = loss(values, variable)
    gradient = tape.gradient(value, variable).numpy()
    step = 1e-6
    for place in np.ndindex(outputs.shape):
        ahead, behind = outputs.copy(), outputs.copy()
        ahead[place] += step
        behind[place] -= step
        slope = (float(loss(values, ahead)) - float(loss(values, behind))) / (2 * step)
        np.testing.assert_allclose(gradient[place], slope, atol=1e-7)
    assert gradient[2, 0] == 0


@pytest.mark.parametrize("values", [[[UNKNOWN]] * 3, [[0.5]] * 3, [[0.5], [UNKNOWN], [UNKNOWN]]])
@pytest.mark.parametrize("loss", [losses.ccc, losses.squared_error])
def test_without_ratings_or_spread_values_and_gradients_are_finite(loss, values):
    variable = tf.Variable([[0.5]] * 3)
    with tf.GradientTape() as tape:
        value = loss(values, variable)
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, variable)).all()


def test_a_teachers_values_are_compared_by_either_loss_and_add_the_label_loss():
    values, outputs = rated(6)
    labels = np.zeros(6, np.int32)
    for name, loss in (("CCC", losses.ccc), ("values", losses.squared_error)):
        [term] = distillation_spec.parse(name).terms
        per_example, relational = term.entry.loss(labels, values, outputs)
        assert np.asarray(per_example).tolist() == [0] * 6
        np.testing.assert_allclose(relational, loss(values, outputs))
        assert distillation_spec.parse(name).adds_label_loss
        assert distillation_spec.parse(f"KD+{name}").needs_dimensions


# The student's second output


def test_the_second_output_is_linear_on_what_the_logits_are_computed_of():
    student = students.build("light_sernet", (60, 40, 1), 3, width=0.1, dimensions=2)
    assert student.output_names == ["logits", "dimensions"]
    assert [tensor.shape for tensor in student.outputs] == [(None, 3), (None, 2)]
    plain = students.build("light_sernet", (60, 40, 1), 3, width=0.1)
    width = embedding_of(plain).shape[-1]
    assert student.count_params() - plain.count_params() == 2 * (width + 1)
    features = np.random.default_rng(0).normal(size=(2, 60, 40, 1)).astype(np.float32)
    embedding = keras.Model(student.inputs[0], embedding_of(student)).predict_on_batch(features)
    kernel, bias = student.get_layer("dimensions").get_weights()
    np.testing.assert_allclose(student.predict_on_batch(features)[1], embedding @ kernel + bias, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "light_sernet",
        *(pytest.param(name, marks=pytest.mark.every) for name in ("mobilenetv3_small_075", "resnet18")),
    ],
)
def test_any_student_has_it_and_its_twin_computes_it_in_float32(name, tmp_path):
    student = students.build(name, (60, 40, 1), 3, width=0.1, dimensions=2)
    features = np.random.default_rng(0).normal(size=(2, 60, 40, 1)).astype(np.float32)
    expected = student.predict_on_batch(features)
    twin = accelerated(student, arithmetic="bfloat16")
    assert [layer.compute_dtype for layer in twin.layers if layer.name in student.output_names] == [
        "float32"
    ] * 2
    np.testing.assert_allclose(twin.predict_on_batch(features)[1], expected[1], atol=0.05)
    student.save(tmp_path / "student.keras")
    again = keras.saving.load_model(tmp_path / "student.keras", compile=False)
    for one, other in zip(again.predict_on_batch(features), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def toy() -> keras.Model:
    """Of four numbers; `with_dimensions` is made for any student."""
    from light_sernet_kd.students.dimensions import with_dimensions

    keras.utils.set_random_seed(1)
    plain = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6, "tanh"), keras.layers.Dense(3, name="logits")]
    )
    return with_dimensions(plain, 2)


@pytest.mark.parametrize("loss", ["ccc", "mse"])
def test_ratings_are_learned_beside_the_labels(loss):
    random = np.random.default_rng(0)
    features = random.normal(size=(64, 4)).astype(np.float32)
    values = np.tanh(features[:, :2]).astype(np.float32)
    known = values.copy()
    known[::4, 0] = UNKNOWN
    distiller = Distiller(toy())
    distiller.learn_dimensions(loss)
    distiller.compile(keras.optimizers.Adam(0.05))
    inputs = {"features": features, "dimensions": known}
    fit = distiller.fit(inputs, random.integers(0, 3, 64), epochs=20, batch_size=16, verbose=0)
    assert fit.history["dimensions_loss"][-1] < 0.2 * fit.history["dimensions_loss"][0]
    predicted = distiller.predict(features, verbose=0)["dimensions"]
    assert min(concordance(*pair) for pair in zip(values.T, predicted.T, strict=True)) > 0.9


def test_the_loss_is_the_label_loss_and_the_weighted_loss_on_ratings():
    values, _ = rated(8)
    features, labels = np.random.default_rng(2).normal(size=(8, 4)).astype(np.float32), np.arange(8) % 3
    distiller = Distiller(toy(), distillation="values:0.5")
    distiller.learn_dimensions("mse", weight=2.0)
    distiller.compile(keras.optimizers.SGD(0.0))
    inputs = {"features": features, "dimensions": values, "teacher_dimensions": -values}
    [loss] = distiller.fit(inputs, labels, batch_size=8, verbose=0).history["loss"]
    logits, answers = distiller.student.predict_on_batch(features)
    parts = [
        np.mean(losses.cross_entropy(labels, logits)),
        2 * np.mean((answers - values) ** 2),
        0.5 * np.mean((answers + values) ** 2),
    ]
    np.testing.assert_allclose(loss, sum(parts), rtol=1e-5)


def test_a_batch_without_ratings_and_a_student_without_the_output_are_refused():
    plain = students.build("light_sernet", (60, 40, 1), 3, width=0.1)
    with pytest.raises(UserError, match="no second output for dimensions"):
        Distiller(plain).learn_dimensions()
    distiller = Distiller(toy())
    distiller.learn_dimensions()
    distiller.compile("sgd", run_eagerly=True)
    with pytest.raises(UserError, match="needs their values in every training batch"):
        distiller.fit(np.zeros((2, 4), np.float32), np.array([0, 1]), verbose=0)


def test_a_batch_carries_ratings_and_a_teachers_and_mixes_both():
    features, labels = np.zeros((4, 6, 5, 1), np.float32), np.array([0, 1, 0, 1], np.int32)
    values = np.array([[0.5], [UNKNOWN], [-1], [1]], np.float32)
    examples = Examples(features, labels, ("anger", "fear"), dimensions=values)
    how = {"batch_size": 4, "seed": 0, "teacher": TeacherOutputs(dimensions=-values)}
    inputs, _ = next(iter(batches(examples, range(4), **how)))
    np.testing.assert_array_equal(inputs["dimensions"], values)
    np.testing.assert_array_equal(inputs["teacher_dimensions"], -values)
    mixup = Augmenter(augment.parse("mixup:alpha=1"), None, lambda clips: clips, 100, "both")
    mixed, _ = next(iter(batches(examples, range(4), **how, augmenter=mixup)))
    share = mixed["share"].numpy()[:, None]
    mates = augment.mates(4, seed=0, epoch=0, batch=0)
    expected = share * values + (1 - share) * values[mates]
    assert np.isnan(expected).any()  # with whom nobody rated, nobody rated the mixture
    np.testing.assert_allclose(mixed["dimensions"], expected, rtol=1e-6)
    np.testing.assert_allclose(mixed["teacher_dimensions"], -expected, rtol=1e-6)
