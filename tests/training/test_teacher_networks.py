"""Networks of a teacher that answer every training batch."""

import itertools

import keras
import numpy as np
import pytest

from light_sernet_kd.audio import augment
from light_sernet_kd.config.checks import make_settings
from light_sernet_kd.data import augmenter as augmenting
from light_sernet_kd.data import batches as batching
from light_sernet_kd.data.host_batches import host_batches
from light_sernet_kd.errors import UserError
from light_sernet_kd.training.teacher_networks import TeacherNetworks

SHAPE, CLASSES, COUNT = (6, 4, 1), 3, 11
RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(COUNT, *SHAPE)).astype(np.float32)
LABELS = (np.arange(COUNT) % CLASSES).astype(np.int32)
BOTH = ("teacher", "teacher_embedding")


def network() -> keras.Model:
    """With dropout and batch norm, which training and inference compute differently."""
    layers = [
        keras.Input(SHAPE), keras.layers.Conv2D(4, 3, padding="same"), keras.layers.BatchNormalization(),
        keras.layers.ReLU(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.5),
        keras.layers.Dense(CLASSES),
    ]  # fmt: skip
    return keras.Sequential(layers)


def weights_of(model: keras.Model, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.uniform(0.1, 1, weight.shape).astype(np.float32) for weight in model.weights]


@pytest.fixture(scope="module")
def asked():
    """Two networks, and what each alone says of features, computed layer by layer."""
    model = network()
    made = TeacherNetworks([model, model], arithmetic="float32", names=BOTH)
    members = [weights_of(model, seed) for seed in (1, 2)]
    made.set_weights(members)

    def alone(features):
        said = []
        for weights in members:
            model.set_weights(weights)
            values = features
            for layer in model.layers[:-1]:
                values = layer(values, training=False) if layer.name.startswith("batch") else layer(values)
            said.append((np.asarray(model.layers[-1](values)), np.asarray(values)))
        return said

    return made, alone


def test_they_say_the_mean_of_their_logits_and_all_of_their_embeddings(asked):
    made, alone = asked
    (one, one_embedding), (other, other_embedding) = alone(ROWS)
    said = made(ROWS, np.arange(COUNT))
    np.testing.assert_allclose(said["teacher"], (one + other) / 2, rtol=1e-5, atol=1e-5)
    expected = np.concatenate([one_embedding, other_embedding], axis=1)
    np.testing.assert_allclose(said["teacher_embedding"], expected, rtol=1e-5, atol=1e-5)
    assert made.widths == {"teacher": CLASSES, "teacher_embedding": 8}


def drawn(asked, text: str, *, of=batching.batches, epochs=2):
    changes = augmenting.Augmenter(augment.parse(text), None, lambda clips: clips, 0, "both")
    made = of(
        batching.Examples(ROWS, LABELS, ("anger", "fear", "joy")), range(COUNT), batch_size=4, seed=3,
        teacher=batching.TeacherOutputs(np.full((COUNT, CLASSES), 99, np.float32), batch_teacher=asked),
        augmenter=changes,
    )  # fmt: skip
    return [
        (np.asarray(inputs["features"]), inputs) for inputs, _ in itertools.islice(iter(made), 3 * epochs)
    ]


@pytest.mark.parametrize("of", [batching.batches, host_batches])
def test_a_batch_has_what_they_say_of_its_own_augmented_and_mixed_features(asked, of):
    made, alone = asked
    for features, inputs in drawn(made, "specaugment,mixup:alpha=1", of=of):
        changed = np.abs(features[:, None] - ROWS[None]).max(axis=(2, 3, 4)).min(axis=1) > 0.01
        assert changed.any(), "else a teacher of clean clips would say the same"
        (one, _), (other, _) = alone(features)
        np.testing.assert_allclose(inputs["teacher"], (one + other) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "--teacher_view same is of a teacher: add -kd KD"),
        ({"distillation": "KD", "teacher": "mine.npz"}, r"trained networks or probes, not mine\.npz"),
        ({"distillation": "KD", "teacher_parts": 3}, "leave it out, or --teacher_parts"),
        (
            {"distillation": "KD", "student": "picobert_vggish"},
            "audio-only students and teachers, not for picobert_vggish",
        ),
        (
            {"distillation": "KD", "teacher": "bert_vggish"},
            "audio-only students and teachers, not for bert_vggish",
        ),
        ({"distillation": "KD", "teacher_view": "mine"}, "unknown teacher view 'mine'"),
        ({"distillation": "KD", "teacher": "yamnet+a.npz"}, r"or probes, not yamnet\+a\.npz"),
        ({"distillation": "KD", "teacher": "yamnet+auto"}, r"or probes, not yamnet\+auto"),
        ({"distillation": "KD", "teacher": "yamnet"}, "--augment changes none: add one that does"),
        (
            {"distillation": "KD", "teacher": "yamnet", "augmentation": "specaugment,mixup"},
            "gives yamnet augmented recordings",
        ),
        ({"distillation": "KD", "teacher_views": 2}, "is for probes, and auto answers every batch"),
        (
            {"distillation": "KD", "teacher": "yamnet", "teacher_view": "clean", "teacher_views": 2},
            "--teacher_views goes with --teacher_view same",
        ),
        ({"distillation": "KD", "teacher": "yamnet", "teacher_views": 65}, "must be from 1 to 64"),
    ],
)
def test_what_cannot_be_asked_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        make_settings(**{"teacher_view": "same", **values})
