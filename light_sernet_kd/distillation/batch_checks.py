"""What a batch must hold for the Distiller, checked before it is trained on."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from light_sernet_kd.distillation.batch_keys import (
    DIMENSIONS,
    FEATURES,
    IS_LABELLED,
    MIXUP_WEIGHT,
    OTHER_LABELS,
    SOFT_LABELS,
    TEACHER,
    TEACHER_DIMENSIONS,
    TEACHER_EMBEDDING,
    TEACHER_STATES,
)
from light_sernet_kd.distillation.label_checks import check_class_indices, check_label_shape, odd_labels
from light_sernet_kd.errors import UserError

if TYPE_CHECKING:
    from light_sernet_kd.distillation.distiller import Distiller


def check_arrays(x: Any = None, y: Any = None, *, classes: int) -> None:
    """Check all values of arrays in memory before any is trained on.

    Raises:
        UserError: labels that are no class indices, rows without a label, values that are not finite.
    """
    if y is None or not (hasattr(y, "shape") or isinstance(y, list | tuple)):
        return  # a dataset brings its own labels
    labels = np.asarray(keras.ops.convert_to_numpy(y))
    for name, values in (("the labels", labels), (f'"{OTHER_LABELS}"', _entry(x, OTHER_LABELS))):
        if values is not None:
            known = keras.ops.convert_to_numpy(values)
            check_class_indices(name, known, classes, since=_since(classes))
    for name, values in _arrays(x).items():
        if hasattr(values, "shape") and len(values) != len(labels):
            raise UserError(f"{len(values)} rows of {name} were given for {len(labels)} labels.")
        if name in (TEACHER, SOFT_LABELS) and hasattr(values, "shape"):
            numbers = np.asarray(keras.ops.convert_to_numpy(values))
            if broken := np.count_nonzero(~np.isfinite(numbers)):
                raise UserError(
                    f'"{name}" has {broken} of {numbers.size} values that are not finite: mend them.'
                )


def check_shapes(batch: Mapping[str, Any], examples: int | None, classes: int) -> None:
    """Check what a compiled step knows of a batch's shapes; a length that it does not know is None.

    Args:
        examples: the number of labels.

    Raises:
        UserError: an entry of another shape.
    """
    shape = (None, classes)
    for key, expected in {
        TEACHER: shape,
        SOFT_LABELS: shape,
        TEACHER_EMBEDDING: (None, None),
        TEACHER_STATES: (None, None, None),
        DIMENSIONS: (None, None),
        TEACHER_DIMENSIONS: (None, None),
    }.items():
        if batch.get(key) is None:
            continue
        actual = tuple(batch[key].shape)
        wide = len(actual) == len(expected) and expected[-1] in (None, actual[-1])
        if not wide or (examples is not None and actual[0] not in (None, examples)):
            text = f"({', '.join(['batch', *(str(n or 'n') for n in expected[1:])])})"
            raise UserError(
                f'"{key}" of a batch of {examples or "n"} has the shape {actual}; expected {text}'
                f"{_of_classes(key, classes)}.{_of_indices(key, actual)}"
            )
    for key in (OTHER_LABELS, MIXUP_WEIGHT, IS_LABELLED):
        if key in batch:
            check_label_shape(f'"{key}"', batch[key].shape, classes)


class LabelWatch(keras.callbacks.Callback):
    """Refuses labels that are no class indices, where only a compiled step saw them."""

    def __init__(self, distiller: "Distiller"):
        super().__init__()
        self.distiller = distiller

    def _refuse_odd(self) -> None:
        if count := int(self.distiller.odd_labels.result()):
            self.distiller.odd_labels.reset_state()
            name = "the labels of the dataset"
            classes = self.distiller.classes
            raise UserError(odd_labels(name, f"{count} others", classes, since=_since(classes)))

    # Validation begins its own count, before the epoch's end.
    def on_test_begin(self, logs=None):
        self._refuse_odd()

    def on_test_end(self, logs=None):
        self._refuse_odd()

    def on_epoch_end(self, epoch, logs=None):
        self._refuse_odd()


def _since(classes: int) -> str:
    return f", as the student has {classes} outputs"


def count_odd(labels, classes: int):
    """How many labels are no class index, as a tensor.

    >>> float(count_odd(np.array([0, 2, 3, -1, 0.5]), classes=3))
    3.0
    """
    numbers = ops.cast(labels, "float32")
    odd = ops.logical_or(ops.logical_or(numbers < 0, numbers >= classes), numbers != ops.floor(numbers))
    return ops.sum(ops.cast(odd, "float32"))


def _of_classes(key: str, classes: int) -> str:
    if key not in (TEACHER, SOFT_LABELS):
        return ""
    return f", since the student tells {classes} classes apart: both need the same classes in one order"


def _of_indices(key: str, shape: Sequence[int | None]) -> str:
    return " Class indices are the targets, beside the inputs." * (key == SOFT_LABELS and len(shape) == 1)


def _entry(x: Any, key: str) -> Any:
    return x.get(key) if isinstance(x, Mapping) else None


def _arrays(x: Any) -> dict[str, Any]:
    """The arrays of a batch's inputs by name."""
    if not isinstance(x, Mapping):
        return {FEATURES: x}
    flat: dict[str, Any] = {}
    for name, values in x.items():
        flat |= values if isinstance(values, Mapping) else {name: values}
    return flat
