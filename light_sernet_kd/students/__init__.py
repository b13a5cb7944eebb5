"""Students: networks to logits `(batch, classes)`, by the names of `registries.students`."""

from typing import Any

from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.students import FEATURE_STUDENTS, STUDENTS


def build(
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    dimensions: int = 0,
    **shape: Any,
) -> Any:
    """A student of features alone, by name.

    It is of plain Keras layers only, so a saved one loads without this package.

    Args:
        input_shape: of one clip's features, `(frames, features, 1)`.
        width: factor of its filters.
        dimensions: how many ratings, such as of arousal and valence, its second output has; 0 is no second
            output.
        shape: `depth`, `kernels` and `local_pooling` of a Light-SERNet.

    Returns:
        A `keras.Model` from `(batch, frames, features, 1)` to logits `(batch, classes)`; with `dimensions` to
        a list of these and of values `(batch, dimensions)`, whose scale is from -1 to 1.

    Raises:
        UserError: no such student, or no positive width.

    >>> build("light_sernet", (60, 40, 1), 7).output_shape
    (None, 7)
    """
    if not width > 0:
        raise UserError(f"the width must be positive, found {width}.")
    student = STUDENTS[choose("student", name, FEATURE_STUDENTS)]
    built = student.build(input_shape, classes, width=width, **shape)
    if not dimensions:
        return built
    from light_sernet_kd.students.dimensions import with_dimensions

    return with_dimensions(built, dimensions)
