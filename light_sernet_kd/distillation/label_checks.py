"""What labels must be: class indices, or shares of the classes where those are the target. NumPy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from light_sernet_kd.distillation.batch_keys import SOFT_LABELS
from light_sernet_kd.errors import UserError


def check_class_indices(name: str, labels: Any, classes: int, *, since: str = "") -> None:
    """Check labels whose values are known.

    Args:
        name: what the message calls them.
        since: why there are so many classes.

    Raises:
        UserError: another shape, or a value that is no class index.

    >>> try:
    ...     check_class_indices("the labels", [0, 3, -1], classes=3)
    ... except UserError as error:
    ...     print(error)
    the labels must be class indices from 0 to 2; found 3 and 1 more.
    """
    labels = np.asarray(labels)
    check_label_shape(name, labels.shape, classes)
    numbers = labels.ravel()
    if numbers.dtype.kind not in "biuf":
        example = f"{numbers[0]!s}, which is no number" if len(numbers) else "none"
        raise UserError(odd_labels(name, example, classes, since=since))
    odd = numbers[~((numbers >= 0) & (numbers < classes) & (numbers == np.floor(numbers)))]
    if len(odd):
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise UserError(odd_labels(name, f"{odd[0]}{more}", classes, since=since))


def check_shares(name: str, shares: Any, examples: int, classes: int) -> None:
    """Check soft labels whose values are known: each class's share of the target, `(examples, classes)`.

    Raises:
        UserError: another shape, or a value that is no share.

    >>> try:
    ...     check_shares("soft_labels", [0, 1], examples=2, classes=2)
    ... except UserError as error:
    ...     print(error)
    soft_labels must be shares of the classes of the shape (2, 2), found (2,). Class indices are labels.
    """
    shares = np.asarray(shares)
    if shares.shape != (examples, classes):
        indices = " Class indices are labels." if shares.ndim == 1 else ""
        raise UserError(
            f"{name} must be shares of the classes of the shape {(examples, classes)}, found {shares.shape}."
            f"{indices}"
        )
    odd = shares[~((shares >= 0) & np.isfinite(shares))]
    if len(odd):
        raise UserError(f"{name} must be 0 or more and finite, found {odd[0]} and {len(odd) - 1} more.")


def check_label_shape(name: str, shape: Sequence[int | None], classes: int) -> None:
    """Class indices are `(batch,)` or `(batch, 1)`.

    Raises:
        UserError: another shape; says what one-hot labels become.
    """
    shape = tuple(shape)
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return
    one_hot = ""
    if len(shape) == 2 and shape[1] in (None, classes):
        one_hot = (
            " One-hot labels become indices with argmax(axis=1); shares of annotators go into "
            f'x["{SOFT_LABELS}"], beside indices.'
        )
    raise UserError(f"{name} must be class indices of the shape (batch,), found {shape}.{one_hot}")


def odd_labels(name: str, odd: str, classes: int, *, since: str = "") -> str:
    """The message that labels are no class indices."""
    return f"{name} must be class indices from 0 to {classes - 1}{since}; found {odd}."
