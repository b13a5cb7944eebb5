"""Embeddings of a teacher made fit to be learnt from: a few standardised principal components."""

from collections.abc import Callable
from typing import Any

import numpy as np

Components = Callable[[np.ndarray], np.ndarray]


def fit_components(embeddings: np.ndarray, count: int) -> Components:
    """What turns embeddings `(n, width)` into their first `count` principal components `(n, count)`.

    Columns are standardised first, since those of functionals differ by powers of ten, and each component
    has unit variance in `embeddings`. None counts as further from the mean than one of these can be: a
    column that hardly differs in them may be a million deviations off elsewhere.

    Where so many utterances or columns have fewer components, zeros stand for the others: each fold then has
    as many.

    Args:
        embeddings: of the utterances that train, so that no other decides anything.

    >>> rows = np.array([[0.0, 1000], [1, 1000], [2, 2000], [3, 2000]])
    >>> components = fit_components(rows, 1)
    >>> [round(float(value), 1) for value in components(rows).ravel()]
    [-1.0, -0.6, 0.6, 1.0]
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    standardised = StandardScaler().fit(embeddings.astype(np.float64))
    rank = np.linalg.matrix_rank(standardised.transform(embeddings.astype(np.float64)))
    kept = min(count, int(rank))
    model = make_pipeline(standardised, PCA(kept, whiten=True, random_state=0))
    known = model.fit_transform(embeddings.astype(np.float64))
    # The sign of a component is the solver's choice, and would be another on another machine.
    largest = np.abs(model[-1].components_).argmax(axis=1)
    signs = np.sign(model[-1].components_[np.arange(kept), largest])
    limit = np.abs(known).max()

    def components(values: np.ndarray) -> np.ndarray:
        if not len(values):  # a small last batch may get none
            return np.zeros((0, count), np.float32)
        turned = np.clip(model.transform(np.asarray(values, np.float64)) * signs, -limit, limit)
        return np.pad(turned, ((0, 0), (0, count - kept))).astype(np.float32)

    return components


class ComponentRows:
    """Embeddings in a file that are turned into components when they are read."""

    def __init__(self, embeddings: Any, components: Components):
        self.embeddings, self.components = embeddings, components

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.components(self.embeddings[rows])
