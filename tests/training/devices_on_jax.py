"""A network whose batches two devices share, on JAX: what it becomes is what one device makes of it.

Keras has one backend per process, and XLA a number of devices, so that `test_devices` runs this file in a
process of its own, with two devices that are one processor.
"""

import dataclasses
import functools
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from device_cases import CASES, LABELS, TRAIN, Case, job_of, network_of
from vectorised_on_jax import FEATURES, assert_same, is_before_norm, job, network

from light_sernet_kd.data.batches import Examples
from light_sernet_kd.training import devices
from light_sernet_kd.training.job import DivergenceError
from light_sernet_kd.training.network import Network

WEIGHED = {"class_weights": np.array([1.0, 2.0, 0.5])}


def student() -> keras.Model:
    """With batch norm and dropout."""
    features = keras.Input(FEATURES.shape[1:], name="features")
    tensor = keras.layers.Conv2D(4, (3, 2), use_bias=False)(features)
    tensor = keras.layers.ReLU()(keras.layers.BatchNormalization()(tensor))
    tensor = keras.layers.GlobalAveragePooling2D(name="embedding")(tensor)
    tensor = keras.layers.Dropout(0.3)(tensor)
    return keras.Model(features, keras.layers.Dense(3, name="logits")(tensor), name="small")


def network_on(count: int) -> Network:
    """With a loss on each example and one on the relations within a batch."""
    return network("KD+SP:300", build=functools.partial(student), devices=count)


@pytest.fixture(scope="module")
def shared() -> Network:
    return network_on(2)


def test_a_batch_is_divided_and_what_is_left_over_is_on_each_device():
    whole, rest = (devices.split(({"features": FEATURES[:n]}, LABELS[:n]), 2) for n in (8, 3))
    for (inputs, labels), shape in ((whole, (4, 13, 10, 1)), (rest, (3, 13, 10, 1))):
        parts = inputs["features"].addressable_shards
        assert [part.data.shape for part in parts] == [shape] * 2
        assert len({part.device for part in parts}) == 2
        assert [part.data.shape for part in labels.addressable_shards] == [shape[:1]] * 2
    np.testing.assert_array_equal(whole[0]["features"], FEATURES[:8])


def test_two_devices_make_of_a_network_what_one_does(tmp_path, shared):
    """Its batches are three of 8 and one of 1; batch norm sees all of each."""
    two = shared.train(job(tmp_path, 0, checkpoint=tmp_path / "two.npz", **WEIGHED))
    one = network_on(1).train(job(tmp_path, 0, checkpoint=tmp_path / "one.npz", **WEIGHED))
    paths = [weight.path for weight in shared.twin.weights]
    assert_same(two, one, paths, 1e-5)
    assert two.history["loss"][0] != two.history["loss"][1]
    assert any("moving_variance" in path for path in paths)
    for variable in shared.state_variables:
        assert len(variable.value.sharding.device_set) == 2
        assert variable.value.is_fully_replicated


@pytest.mark.every
def test_the_devices_share_the_work(shared):
    """Of the convolutions of a whole batch each device computes half."""
    import jax

    batch = devices.split(({"features": FEATURES[:8]} | teacher_of(8), LABELS[:8]), 2)
    state = shared.distiller._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    compiled = jax.jit(shared.distiller.train_step).lower(state, batch).compile().as_text()
    assert "all-reduce" in compiled
    assert "f32[4,13,10," in compiled
    assert "f32[8,13,10," not in compiled


def teacher_of(count: int) -> dict:
    outputs = job(Path(), 0).teacher_outputs
    return {"teacher": outputs.logits[:count], "teacher_embedding": outputs.embedding[:count]}


def test_an_interrupted_training_on_two_devices_goes_on_to_the_same_bits(tmp_path, shared):
    whole = shared.train(job(tmp_path, 1, checkpoint=tmp_path / "whole.npz", epochs=3))

    def interrupt(epoch, epochs, row):
        if epoch == 2:
            raise KeyboardInterrupt

    cut = job(tmp_path, 1, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        shared.train(dataclasses.replace(cut, progress=interrupt))
    seen = []
    again = shared.train(dataclasses.replace(cut, progress=lambda epoch, *_: seen.append(epoch)))
    assert seen == [3]
    assert again.history == whole.history
    for ours, theirs in zip(again.last, whole.last, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_training_on_two_devices_stops_early_and_tells_when_it_diverges(tmp_path, shared):
    still = [np.zeros_like(weight) for weight in shared.twin.get_weights()]
    # What validates is of a class that has no weight in training, so that it is found ever less likely.
    others = {"class_weights": np.array([0.0, 1.0, 1.0]), "validation": np.flatnonzero(LABELS == 0).tolist()}
    worse = job(tmp_path, 2, epochs=6, patience=2, initial_weights=lambda: still, **others)
    stopped = shared.train(worse)
    assert (stopped.best_epoch, len(stopped.history["loss"])) == (1, 3)
    huge = Examples(np.full_like(FEATURES, 3e38), LABELS, ("anger", "fear", "joy"))
    with pytest.raises(DivergenceError, match="diverged at epoch 1"):
        shared.train(job(tmp_path, 0, checkpoint=tmp_path / "huge.npz", examples=huge))


@pytest.mark.every
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("count", [1, 2])
def test_jax_makes_of_a_network_what_tensorflow_does(name, count, tmp_path):
    """Files of `test_devices`, which trained it on TensorFlow."""
    case: Case = CASES[name]
    with np.load(Path(os.environ["DEVICE_CASES"]) / f"{name}.npz") as stored:
        initial = [stored[f"initial_{i}"] for i in range(sum(key.startswith("initial") for key in stored))]
        history = {key.removeprefix("history_"): stored[key] for key in stored if key.startswith("history")}
        last = [stored[f"last_{i}"] for i in range(len(initial))]
    ours = network_of(case, devices=count)
    trained = ours.train(job_of(case, tmp_path, initial))
    for column, values in history.items():
        np.testing.assert_allclose(trained.history[column], values, rtol=1e-4, atol=1e-4, err_msg=column)
    for weight, our, their in zip(ours.twin.weights, trained.last, last, strict=True):
        if not is_before_norm(weight.path):
            np.testing.assert_allclose(our, their, atol=1e-4, err_msg=weight.path)
    assert len(TRAIN) % case.batch_size % 2, "what is left over does not divide"
    assert max(np.abs(a - b).max() for a, b in zip(trained.last, initial, strict=True)) > 1e-3
