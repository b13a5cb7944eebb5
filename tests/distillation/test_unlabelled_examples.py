"""Examples without labels in a batch: the teacher's part of a loss counts them, nothing else does."""

import keras
import numpy as np
import pytest
from keras import ops

from light_sernet_kd.config import distillation_spec
from light_sernet_kd.distillation.distiller import Distiller, TeacherWidths
from light_sernet_kd.distillation.losses import cross_entropy, settings_of
from light_sernet_kd.registries.losses import DISTILLATIONS

pytestmark = pytest.mark.usefixtures("eager")

CLASSES, WIDTH = 4, 6
# In any order: nothing may take the labelled ones for the first.
IS_LABELLED = np.array([1, 0, 1, 1, 0, 0, 1, 1], "float32")
LABELLED = np.flatnonzero(IS_LABELLED)
BATCH = len(IS_LABELLED)
ON_ARRAYS = [name for name, entry in DISTILLATIONS.items() if entry.compares in ("logits", "embedding")]


def network():
    """Its embedding and its logits are linear in its features."""
    keras.utils.set_random_seed(5)
    embedding = keras.layers.Dense(WIDTH, name="embedding")
    return keras.Sequential([keras.Input((3,)), embedding, keras.layers.Dense(CLASSES)])


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    batch = {
        "features": rng.normal(size=(BATCH, 3)),
        "teacher": 2 * rng.normal(size=(BATCH, CLASSES)),
        "teacher_embedding": rng.normal(size=(BATCH, WIDTH)),
    }
    labels = rng.integers(0, CLASSES, BATCH).astype("int32")
    return {name: values.astype("float32") for name, values in batch.items()}, labels


def distiller_of(method, **settings):
    widths = TeacherWidths(embedding=WIDTH)
    made = Distiller(network(), distillation=method, teacher_widths=widths, **settings)
    made.compile(keras.optimizers.SGD(0.0))
    return made


def trained(method, batch, labels, is_labelled=IS_LABELLED, **given):
    """The logs of one step, in which no weight moves."""
    given = {"return_dict": True, **given}
    return distiller_of(method).train_on_batch({**batch, "labelled": is_labelled}, labels, **given)


def by_hand(method, batch, labels, weights=None):
    """From the loss on the labelled rows alone, and from that on all rows without any label loss."""
    entry, student = DISTILLATIONS[method], distiller_of(method)
    rows = LABELLED
    weights = np.ones(BATCH) if weights is None else weights
    logits = ops.convert_to_numpy(student.student(batch["features"]))
    embedding = ops.convert_to_numpy(student.student.layers[0](batch["features"]))
    label_loss = ops.convert_to_numpy(cross_entropy(labels, logits))
    of_student = {"logits": logits, "embedding": embedding}[entry.compares]
    if student.projection:
        of_student = ops.convert_to_numpy(student.projection(of_student))
    of_teacher = batch["teacher" if entry.compares == "logits" else "teacher_embedding"]

    def loss(rows, values):
        first = (values[rows],) if entry.brings_label_loss else ()
        parts = entry.loss(*first, labels[rows], of_teacher[rows], of_student[rows], **settings_of(method))
        return [ops.convert_to_numpy(part) for part in parts]

    everything, nothing = np.arange(BATCH), np.zeros(BATCH, "float32")
    per_example, relational = loss(everything, nothing)
    if entry.reads_label:
        return np.mean(weights[rows] * loss(rows, label_loss)[0]) + relational
    of_labels = weights[rows] * label_loss[rows]
    if entry.brings_label_loss:
        of_labels = weights[rows] * (loss(rows, label_loss)[0] - loss(rows, nothing)[0])
    return np.mean(of_labels) + np.mean(weights * per_example) + relational


@pytest.mark.parametrize("method", ON_ARRAYS)
def test_the_label_counts_for_labelled_examples_and_the_teacher_for_all(method):
    batch, labels = inputs()
    expected = by_hand(method, batch, labels)
    np.testing.assert_allclose(trained(method, batch, labels)["loss"], expected, rtol=1e-5)


def test_class_weights_weigh_labelled_examples_as_ever():
    batch, labels = inputs()
    weights = np.where(IS_LABELLED > 0, np.linspace(0.5, 2, BATCH), 1).astype("float32")
    found = trained("KD", batch, labels, sample_weight=weights)["loss"]
    np.testing.assert_allclose(found, by_hand("KD", batch, labels, weights), rtol=1e-5)


@pytest.mark.parametrize("method", ["KD", "CKD+NKD", "DKD+SP:3", "hint", "pure"])
def test_no_label_of_an_example_without_one_is_read(method):
    batch, labels = inputs()
    other = np.where(IS_LABELLED > 0, labels, (labels + 1) % CLASSES).astype("int32")
    assert trained(method, batch, labels) == trained(method, batch, other)


@pytest.mark.parametrize("method", ON_ARRAYS)
def test_a_loss_says_whether_it_reads_the_label(method):
    """What the registry says of a loss decides whether unlabelled recordings have a part in it."""
    entry, (batch, labels) = DISTILLATIONS[method], inputs()
    teacher = batch["teacher" if entry.compares == "logits" else "teacher_embedding"]
    first = (np.zeros(BATCH, "float32"),) if entry.brings_label_loss else ()

    def values(labels):
        parts = entry.loss(*first, labels, teacher, teacher[::-1].copy(), **settings_of(method))
        return np.concatenate([np.ravel(ops.convert_to_numpy(part)) for part in parts])

    differs = not np.array_equal(values(labels), values((labels + 1) % CLASSES))
    assert differs == entry.reads_label
    assert distillation_spec.parse(method).learns_without_labels == (not entry.reads_label)


def test_where_all_examples_have_labels_it_is_the_loss_as_ever():
    batch, labels = inputs()
    for method in ("KD+DKD", "SP"):
        plain = distiller_of(method).train_on_batch(batch, labels, return_dict=True)
        assert trained(method, batch, labels, np.ones(BATCH, "float32")) == pytest.approx(plain, rel=1e-6)


def test_accuracy_and_label_loss_are_those_of_the_labelled():
    batch, labels = inputs()
    logits = ops.convert_to_numpy(network()(batch["features"]))
    logs = trained("KD", batch, labels)
    right = (logits.argmax(axis=1) == labels)[LABELLED]
    assert logs["accuracy"] == pytest.approx(right.mean())
    expected = ops.convert_to_numpy(cross_entropy(labels, logits))[LABELLED].mean()
    assert logs["label_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_batch_without_any_label_has_the_teachers_part_alone():
    batch, labels = inputs()
    settings = settings_of("KD")
    logits = network()(batch["features"])
    nothing = np.zeros(BATCH, "float32")
    per_example, _ = DISTILLATIONS["KD"].loss(nothing, labels, batch["teacher"], logits, **settings)
    found = trained("KD", batch, labels, np.zeros(BATCH, "float32"))
    np.testing.assert_allclose(found["loss"], np.mean(ops.convert_to_numpy(per_example)), rtol=1e-5)
    assert found["label_loss"] == 0


def test_the_teachers_embeddings_of_examples_without_labels_move_the_relations():
    batch, labels = inputs()
    moved = batch["teacher_embedding"].copy()
    moved[IS_LABELLED == 0] *= -1
    before = trained("SP", batch, labels)["loss"]
    assert trained("SP", {**batch, "teacher_embedding": moved}, labels)["loss"] != before
