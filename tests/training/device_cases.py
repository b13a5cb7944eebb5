"""Networks that TensorFlow and JAX train alike: small, without dropout, whose draws differ between them."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import vectorised_on_jax as small

from light_sernet_kd.data.batches import Examples, TeacherOutputs
from light_sernet_kd.encoders import bert, vggish
from light_sernet_kd.encoders.multimodal import Columns
from light_sernet_kd.registries.schedules import SCHEDULES
from light_sernet_kd.students.fusion import fusion_head, speech_and_text
from light_sernet_kd.training.job import TrainingJob
from light_sernet_kd.training.network import Network, NetworkSpec

CLASSES, TOKENS, PATCHES = 3, 6, 1
TRAIN, VALIDATION = range(15), range(15, 22)
_RNG = np.random.default_rng(5)
LABELS = small.LABELS
TEACHER = TeacherOutputs((3 * _RNG.standard_normal((small.UTTERANCES, CLASSES))).astype(np.float32))
ENCODER = bert.Shape("bert", vocabulary=20, layers=1, heads=2, width=8, intermediate=16, dropout=0.0)


@contextlib.contextmanager
def narrow_vggish(divisor: int) -> Iterator[None]:
    """VGGish with a part of each width but the last: the whole has 72 million weights."""
    narrow = tuple((name, width if name == "fc2" else width // divisor) for name, width in vggish.LAYERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vggish, "LAYERS", narrow)
        yield


@dataclass(frozen=True)
class Case:
    """A network, what it sees of the utterances, and how it is trained."""

    build: Callable[[], keras.Model]
    rows: Callable[[], Any]
    accelerate: bool
    batch_size: int = 4
    optimizer: str = "adam"
    learning_rate: float = 1e-4


def audio_student() -> keras.Model:
    return without_dropout(small.student())


def bert_vggish() -> keras.Model:
    with narrow_vggish(32):
        hearing = vggish.vggish(vggish.weights_of("random", Path()), patches=PATCHES)
    text = bert.network(bert.random(ENCODER))
    head = fusion_head((TOKENS, ENCODER.width), (PATCHES, 128), CLASSES)
    return without_dropout(speech_and_text(text, hearing, head))


def without_dropout(model: keras.Model) -> keras.Model:
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def spoken() -> Columns:
    lengths = _RNG.integers(2, TOKENS + 1, small.UTTERANCES)
    mask = (np.arange(TOKENS) < lengths[:, None]).astype(np.int32)
    ids = _RNG.integers(1, 20, mask.shape).astype(np.int32) * mask
    patches = _RNG.standard_normal((small.UTTERANCES, PATCHES, 96, 64)).astype(np.float32)
    return Columns({"token_ids": ids, "text_mask": mask, "features": patches})


CASES = {
    "audio": Case(functools.partial(audio_student), lambda: small.FEATURES, accelerate=True),
    "bert_vggish": Case(
        functools.partial(bert_vggish), functools.cache(spoken), accelerate=False,
        # Adam's first steps have one size, and of a gradient that is nearly zero a sign that is rounding.
        optimizer="sgd", learning_rate=3e-3),
}  # fmt: skip


def network_of(case: Case, *, devices: int = 1) -> Network:
    schedule = SCHEDULES["light_sernet"].changed(
        batch_size=case.batch_size, learning_rate=case.learning_rate, epochs=2, optimizer=case.optimizer
    )
    spec = NetworkSpec(
        case.build, schedule, "cross_entropy", {}, distillation="KD", arithmetic="float32",
        accelerate=case.accelerate, devices=devices,
    )  # fmt: skip
    return Network(spec)


def job_of(case: Case, folder: Path, initial: Sequence[np.ndarray]) -> TrainingJob:
    return TrainingJob(
        examples=Examples(case.rows(), LABELS, ("anger", "fear", "joy")), train=TRAIN, validation=VALIDATION,
        seed=3, checkpoint=folder / "checkpoint.npz", initial_weights=lambda: initial,
        teacher_outputs=TEACHER, class_weights=np.array([1.0, 2.0, 0.5]),
    )  # fmt: skip
