"""Networks of a fold's teacher that answer every training batch: on the student's own view of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from light_sernet_kd.data.batches import BatchTeacher
from light_sernet_kd.data.feature_cache import full_precision
from light_sernet_kd.distillation.batch_keys import EMBEDDING, LOGITS, TEACHER, TEACHER_EMBEDDING
from light_sernet_kd.distillation.distiller import embedding_of
from light_sernet_kd.teachers.components import Components
from light_sernet_kd.training.accelerate import accelerated

# Of a batch, and of a network's outputs.
_OUTPUT = {TEACHER: LOGITS, TEACHER_EMBEDDING: EMBEDDING}


class TeacherNetworks:
    """Frozen networks of features: the mean of their logits, their embeddings side by side.

    They are an `BatchTeacher`. The student has no part of them, so nothing of them is saved with it.

    Args:
        networks: give the architectures, one each; their weights are those that `set_weights` gives.
        arithmetic: `float32` or `bfloat16`, as a network trains.
        names: what is said of an example, `TEACHER` or `TEACHER_EMBEDDING` or both.

    >>> network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> asked = TeacherNetworks([network, network], arithmetic="float32", names=("teacher",))
    >>> asked.set_weights([[np.ones((4, 3)), np.zeros(3)], [np.ones((4, 3)), np.full(3, 2.0)]])
    >>> asked(np.ones((1, 2, 2, 1), np.float32), np.array([0]))["teacher"].tolist()
    [[5.0, 5.0, 5.0]]
    """

    def __init__(self, networks: Sequence[keras.Model], *, arithmetic: str, names: Sequence[str]):
        self._members = [_frozen(network, arithmetic, names) for network in networks]
        members = len(networks)
        inputs = keras.Input(networks[0].inputs[0].shape[1:])
        outputs = [member(inputs) for member in self._members]
        made: dict[str, Any] = {}
        if TEACHER in names:
            logits = [each[LOGITS] for each in outputs]
            made[LOGITS] = keras.layers.Average()(logits) if members > 1 else logits[0]
        if TEACHER_EMBEDDING in names:
            embeddings = [each[EMBEDDING] for each in outputs]
            made[EMBEDDING] = keras.layers.Concatenate()(embeddings) if members > 1 else embeddings[0]
        self._model = keras.Model(inputs, made)
        self._predict = full_precision(self._model.predict_on_batch)
        self._names = tuple(names)
        self.widths: Mapping[str, int] = {name: made[_OUTPUT[name]].shape[-1] for name in self._names}

    def set_weights(self, members: Sequence[Sequence[np.ndarray]]) -> None:
        """The weights of each network, in the order of its own."""
        for member, weights in zip(self._members, members, strict=True):
            member.set_weights(weights)

    def __call__(self, features: np.ndarray, utterances: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._predict(features)
        return {name: np.asarray(outputs[_OUTPUT[name]], np.float32) for name in self._names}


def _frozen(network: keras.Model, arithmetic: str, names: Sequence[str]) -> keras.Model:
    twin = accelerated(network, arithmetic=arithmetic)
    made = {LOGITS: twin.outputs[0]}
    if TEACHER_EMBEDDING in names:
        made[EMBEDDING] = embedding_of(twin)
    model = keras.Model(twin.inputs[0], made)
    model.trainable = False
    return model


class ComponentTeacher:
    """An `BatchTeacher` whose embeddings are turned into components."""

    def __init__(self, asked: BatchTeacher, components: Components, count: int):
        self.asked, self.components = asked, components
        self.widths: Mapping[str, int] = {**asked.widths, TEACHER_EMBEDDING: count}

    def __call__(self, features: np.ndarray, utterances: np.ndarray) -> dict[str, np.ndarray]:
        answer = self.asked(features, utterances)
        return {**answer, TEACHER_EMBEDDING: self.components(answer[TEACHER_EMBEDDING])}
