"""Students: networks to logits `(batch, classes)`.

`STUDENTS` map features `(batch, frames, features, 1)`; `MULTIMODAL` are heads on the states of a text and an
audio encoder.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras

from light_sernet_kd.config import (
    MULTIMODAL_NAMES,
    STUDENT_NAMES,
    FrontEndName,
    ScheduleName,
    UserError,
    choose,
)
from light_sernet_kd.students.cnn import (
    efficientnet_b0,
    mobilenetv3_small_075,
    mobilenetv3_small_100,
    resnet18,
)
from light_sernet_kd.students.cross_attention import cross_attention
from light_sernet_kd.students.fusion import fusion_head
from light_sernet_kd.students.light_sernet import light_sernet, light_sernet_plus


@dataclass(frozen=True)
class Student:
    """How to build a student, and the front end and schedule it was published with.

    Attributes:
        gains_from_bfloat16: whether it trains faster in it on a processor that has it. Networks of depthwise
            convolutions do not.
    """

    build: Callable[..., keras.Model]
    front_end: FrontEndName
    schedule: ScheduleName
    gains_from_bfloat16: bool = True


STUDENTS: dict[str, Student] = {
    "light_sernet": Student(light_sernet, front_end="lsn", schedule="light_sernet"),
    "light_sernet_plus": Student(light_sernet_plus, front_end="cubic", schedule="cubic"),
    "mobilenetv3_small_075": Student(mobilenetv3_small_075, "cubic", "cubic", gains_from_bfloat16=False),
    "mobilenetv3_small_100": Student(mobilenetv3_small_100, "cubic", "cubic", gains_from_bfloat16=False),
    "efficientnet_b0": Student(efficientnet_b0, "cubic", "cubic", gains_from_bfloat16=False),
    "resnet18": Student(resnet18, front_end="cubic", schedule="cubic"),
}


@dataclass(frozen=True)
class Multimodal:
    """A head on the states of two encoders, and what it was published with.

    Attributes:
        head: `(text_shape, audio_shape, classes, …)` to a model of states to logits.
        text: its text encoder, a key of `TEXT_ENCODERS`.
    """

    head: Callable[..., keras.Model]
    text: str
    schedule: ScheduleName
    front_end: FrontEndName = "vggish"
    gains_from_bfloat16: bool = False


MULTIMODAL: dict[str, Multimodal] = {
    **{
        name: Multimodal(fusion_head, name.removesuffix("_vggish"), "fusion")
        for name in MULTIMODAL_NAMES
        if name.endswith("_vggish")
    },
    "cross_attention": Multimodal(
        functools.partial(cross_attention, layers=1), text="electra", schedule="multi_still"
    ),
    "cross_attention_teacher": Multimodal(
        functools.partial(cross_attention, layers=3), text="electra", schedule="multi_still"
    ),
}


def entry(name: str) -> Student | Multimodal:
    """What is known of a student of either kind."""
    return STUDENTS[name] if name in STUDENTS else MULTIMODAL[name]


def build(name: str, input_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> keras.Model:
    """A student by name; plain Keras layers only, so a saved one loads without this package."""
    if not width > 0:
        raise UserError(f"the width must be positive, found {width}.")
    return STUDENTS[choose("student", name, STUDENT_NAMES)].build(input_shape, classes, width=width)
