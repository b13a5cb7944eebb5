"""How alike two networks, or two utterances to one network, are."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cosine_similarity(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Cosine of the angle between rows of one width: `(..., width)` twice to `(...)`.

    It says something of a student and a teacher only where the student was trained to have the teacher's
    states: elsewhere equal coordinates mean different things. NaN where either row is all zeros: padding.

    Raises:
        ValueError: the two differ in shape.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"rows of shapes {first.shape} and {second.shape}; compare those by linear_cka")
    return np.einsum("...i,...i->...", *(_unit(rows) for rows in (first, second)))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1; NaN for a row of zeros."""
    # divided by the largest first: squares of very small or large numbers leave the floats
    largest = np.abs(rows).max(axis=-1, keepdims=True)
    scaled = np.divide(rows, largest, out=np.full_like(rows, np.nan), where=largest > 0)
    return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def similarity_matrix(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Cosine similarity of every utterance with every other: `(utterances, width)` to a square matrix.

    It has one shape whatever the width, so students and teachers can be compared by it.

    Source: Tung and Mori 2019, arXiv:1907.09682, who distil such matrices.
    """
    rows = _unit(np.asarray(embeddings, np.float64))
    return rows @ rows.T


def linear_cka(first: ArrayLike, second: ArrayLike) -> float:
    """How alike two networks arrange the same utterances: linear centred kernel alignment, from 0 to 1.

    It changes neither with a rotation nor with a scaling of either, so widths may differ. With few
    utterances and wide embeddings it is high even by chance. NaN where either has all utterances in one
    place.

    Args:
        first, second: `(utterances, width)`, of any two widths.

    Raises:
        ValueError: the numbers of utterances differ.

    Source: Kornblith et al. 2019, arXiv:1905.00414, equation 3 with a linear kernel.
    """
    centred = []
    for rows in (first, second):
        rows = np.asarray(rows, np.float64)
        rows = rows - rows.mean(axis=0)
        centred.append(rows / (np.abs(rows).max() or 1.0))
    if len(centred[0]) != len(centred[1]):
        raise ValueError(f"{len(centred[0])} and {len(centred[1])} utterances; expected the same ones")
    x, y = centred
    # Of the smaller of the two products, widths or utterances: both have the same Frobenius norms.
    if len(x) < max(x.shape[1], y.shape[1]):
        kernels = (x @ x.T, y @ y.T)
        shared, norms = np.vdot(*kernels), [np.linalg.norm(kernel) for kernel in kernels]
    else:
        shared, norms = np.linalg.norm(x.T @ y) ** 2, [np.linalg.norm(rows.T @ rows) for rows in (x, y)]
    return float(shared / (norms[0] * norms[1])) if norms[0] and norms[1] else float("nan")
