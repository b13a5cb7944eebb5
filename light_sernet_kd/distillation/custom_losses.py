"""Distillation losses that a program brings: functions of two outputs, and those of `keras.distillation`."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from light_sernet_kd.config.distillation_spec import DistillationSum, Term
from light_sernet_kd.distillation.losses._math import at_least_float32
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.losses import Distillation


def custom_loss_sum(loss: Any) -> DistillationSum:
    """A loss that is no name, as the one term of a sum with the settings `label_weight` and `weight`.

    Args:
        loss: `(teacher, student) -> (batch,) or ()`, or a `keras.distillation.DistillationLoss`.

    Raises:
        UserError: neither of these.

    >>> total = custom_loss_sum(lambda teacher, student: ops.mean(ops.square(teacher - student), axis=-1))
    >>> total.needs_logits, total.needs_embeddings
    (True, False)
    """
    name = getattr(loss, "__name__", type(loss).__name__).strip("<>")
    if isinstance(loss, type):
        raise UserError(f"the distillation loss {name} is a class: pass {name}(…).")
    compute = getattr(loss, "compute_loss", loss)
    if not callable(compute):
        raise UserError(
            f"a distillation loss is a name, a function (teacher, student) or a loss of keras.distillation, "
            f"found {loss!r}."
        )
    entry = Distillation(
        loss=_in_parts(name, compute, is_keras=_is_keras(loss)),
        text="a loss that a program brought",
        compares="embedding" if _layer_names(loss) else "logits",
        brings_label_loss=True,
    )
    return DistillationSum((Term(name, own=entry),))


def student_output(loss: Any, student: keras.Model) -> Any:
    """The tensor of the student that a loss of Keras on features names; None where it names none.

    Raises:
        UserError: the student has no such layer.
    """
    names = _layer_names(loss)
    if not names:
        return None
    if loss.student_layer_name is None:
        return student.outputs[0]
    try:
        return student.get_layer(loss.student_layer_name).output
    except ValueError:
        layers = ", ".join(layer.name for layer in student.layers)
        raise UserError(
            f"the student {student.name} has no layer {loss.student_layer_name!r}, which "
            f"{type(loss).__name__} names. Its layers: {layers}."
        ) from None


def _is_keras(loss: Any) -> bool:
    return isinstance(loss, keras.distillation.LogitsDistillation | keras.distillation.FeatureDistillation)


def _layer_names(loss: Any) -> list[str]:
    names = (getattr(loss, f"{of}_layer_name", None) for of in ("teacher", "student"))
    return [name for name in names if name]


def _in_parts(name: str, compute: Callable[[Any, Any], Any], *, is_keras: bool) -> Callable[..., Any]:
    """The loss as `losses` has them: one value per example, and what belongs to no single one."""

    def in_parts(label_loss, labels, teacher, student, *, label_weight=1.0, weight=1.0):
        teacher, student = at_least_float32(teacher), at_least_float32(student)
        if is_keras and teacher.shape[-1] != student.shape[-1]:
            raise UserError(
                f"{name} compares outputs of one width, found {teacher.shape[-1]} of the teacher's and "
                f"{student.shape[-1]} of the student's."
            )
        value = at_least_float32(compute(teacher, student))
        if len(value.shape) > 1:
            raise UserError(
                f"the distillation loss {name} gives the shape {tuple(value.shape)}: expected (batch,) or a "
                "scalar."
            )
        if len(value.shape) == 1:
            return label_weight * label_loss + weight * value, ops.zeros((), dtype=label_loss.dtype)
        return label_weight * label_loss, weight * value

    return in_parts
