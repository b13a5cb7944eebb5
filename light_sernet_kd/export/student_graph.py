"""What a student takes and gives, by name: its inputs, logits and dimensions."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from light_sernet_kd import runner

TEXT_INPUTS = ("token_ids", "text_mask")
STATE_INPUTS = ("text_states", "audio_states")
DIMENSIONS = runner.DIMENSIONS


def input_names(student: keras.Model) -> list[str]:
    """The names of its inputs; a single one of another name is `features`."""
    names = [tensor.name for tensor in student.inputs]
    known = {"features", *TEXT_INPUTS, *STATE_INPUTS}
    return names if len(names) > 1 or names[0] in known else ["features"]


def number_type(name: str) -> str:
    """Of the numbers of an input of this name."""
    return "int32" if name in TEXT_INPUTS else "float32"


def outputs_in_order(student: keras.Model, names: Sequence[str], inputs: Mapping[str, Any]) -> list:
    """The student's logits, and its dimensions if it gives them, of its inputs by name, however nested."""
    values = keras.tree.pack_sequence_as(student.input, [inputs[name] for name in names])
    return [*outputs_by_name(student, student(values, training=False)).values()]


def without_logits(student: keras.Model) -> keras.Model:
    """The student to its dimensions alone: its only output, or that of the name.

    Raises:
        ValueError: it has no dimensions.
    """
    output = student.output
    dimensions = (
        outputs_by_name(student, output).get(DIMENSIONS)
        if isinstance(output, Mapping | list | tuple)
        else output
    )
    if dimensions is None:
        raise ValueError(f"a student to dimensions was expected, found one to {student.output_names}")
    return keras.Model(student.input, {DIMENSIONS: dimensions}, name=student.name)


def outputs_by_name(student: keras.Model, outputs: Any) -> dict[str, Any]:
    """What a student gives by name, the logits first."""
    if not isinstance(outputs, Mapping | list | tuple):
        return {"logits": outputs}
    named = outputs if isinstance(outputs, Mapping) else dict(zip(student.output_names, outputs, strict=True))
    return {name: named[name] for name in sorted(named, key=lambda name: (name != "logits", name))}


def check_shapes(student, names, shapes, widths: Mapping[str, int]) -> None:
    """Refuse a student whose names, shapes or number types are others.

    Args:
        names: of its inputs, in their order.
        shapes: of each input, without the batch axis.
        widths: of each output.

    Raises:
        ValueError: it is another student.
    """
    outputs = {name: tuple(each.shape[1:]) for name, each in outputs_by_name(student, student.output).items()}
    if [*outputs] != [*widths]:
        raise ValueError(
            f"a student to {' and '.join(widths)} was expected, found one to {' and '.join(outputs)}"
        )
    if outputs.get(DIMENSIONS) != ((widths[DIMENSIONS],) if DIMENSIONS in widths else None):
        raise ValueError(
            f"a student to {widths[DIMENSIONS]} dimensions was expected, found {outputs[DIMENSIONS]}"
        )
    if {*names} != {*shapes}:
        raise ValueError(
            f"a student of {', '.join(shapes) or 'nothing'} was expected after front_end, text and encoders, "
            f"found one of {', '.join(names)}"
        )
    for name, tensor in zip(names, student.inputs, strict=True):
        actual, output, shape = tuple(tensor.shape[1:]), outputs.get("logits", ()), shapes[name]
        # An axis of any length gets the file's own.
        fits = len(actual) == len(shape) and all(
            length in (None, size) for length, size in zip(actual, shape, strict=True)
        )
        classes = (widths["logits"],) if "logits" in widths else ()
        if not fits or None in shape or (tensor.dtype, output) != (number_type(name), classes):
            to = f" to {classes[0]} classes" if classes else ""
            raise ValueError(
                f"a student from {name} {shape} {number_type(name)}{to} was "
                f"expected, found {actual} {tensor.dtype}{f' to {output}' if classes else ''}"
            )
