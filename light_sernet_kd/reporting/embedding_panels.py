"""Maps of embeddings: utterances on a plane, as panels of `figures.embeddings`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd.reporting import figures

MOST_FOLDS = 4


@dataclass(frozen=True)
class Projection:
    """Embeddings on a plane: points `(utterances, 2)` and what to write at the two axes."""

    points: NDArray[np.float64]
    axes: tuple[str, str]


def projected(embeddings: ArrayLike, how: Literal["pca", "tsne"] = "pca", *, seed: int = 0) -> Projection:
    """Embeddings `(utterances, width)` on a plane.

    Args:
        how: `pca`, the two directions of the largest variance, with their shares of it; or `tsne`, which
            keeps neighbours together: distances across it, and its axes, mean nothing.
        seed: of t-SNE.

    Raises:
        ValueError: fewer than 4 utterances for t-SNE.

    Source: van der Maaten and Hinton 2008, Visualizing Data using t-SNE, JMLR 9, for `tsne`; the perplexity
    is 30, or less where a third of the utterances are fewer.
    """
    embeddings = np.asarray(embeddings, np.float64)
    count = len(embeddings)
    # where all are the same point, nothing has a direction
    varies = count > 1 and np.ptp(embeddings, axis=0).any()
    if how == "tsne":
        if count < 4:
            raise ValueError(f"t-SNE of {count} utterances; it needs at least 4")
        points = np.zeros((count, 2))
        if varies:
            from sklearn.manifold import TSNE
            from threadpoolctl import threadpool_limits

            perplexity = min(30.0, (count - 1) / 3)
            init = "pca" if min(embeddings.shape) > 1 else "random"
            # on one thread: for so few points, several mostly wait for each other
            with threadpool_limits(1):
                points = TSNE(2, perplexity=perplexity, init=init, random_state=seed).fit_transform(
                    embeddings
                )
        return Projection(np.asarray(points, np.float64), ("t-SNE 1", "t-SNE 2"))
    points, shares = np.zeros((count, 2)), np.zeros(2)
    if varies:
        from sklearn.decomposition import PCA

        pca = PCA(min(2, *embeddings.shape), svd_solver="full")
        coordinates = pca.fit_transform(embeddings)
        points[:, : coordinates.shape[1]], shares[: coordinates.shape[1]] = (
            coordinates,
            pca.explained_variance_ratio_,
        )
    first, second = (f"component {i + 1} ({100 * share:.0f} % of variance)" for i, share in enumerate(shares))
    return Projection(points, (first, second))


def embedding_panel(
    title: str,
    embeddings: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    how: Literal["pca", "tsne"] = "pca",
    mark: int | None = None,
) -> figures.Panel:
    """A panel of `figures.embeddings`: utterances on a plane, marked by whether the student was right.

    Args:
        embeddings: `(utterances, width)`; labels, predicted: class indices `(utterances,)`.
        mark: the utterance that gets a ring.
    """
    plane = projected(embeddings, how)
    right = np.asarray(labels) == np.asarray(predicted)
    groups = np.where(right, figures.RIGHT, figures.WRONG).tolist()
    return figures.Panel(title, plane.points, np.asarray(labels), groups, plane.axes, mark)


def fold_panels(
    tested: Sequence[tuple[str, ArrayLike, ArrayLike, ArrayLike]], folds: int
) -> tuple[list[figures.Panel], list[str]]:
    """Panels and notes of `figures.embeddings` for a run's report: the PCA of each fold's test utterances.

    Every fold has a student of its own, whose embeddings mean nothing beside another's: folds share no panel.

    Args:
        tested: (fold, embeddings `(utterances, width)`, labels, predicted); the first `MOST_FOLDS` are shown.
        folds: how many the run has.
    """
    panels = [embedding_panel(f"fold {name}", *arrays) for name, *arrays in tested[:MOST_FOLDS]]
    notes = ["test utterances by the student's embedding; each fold's student has axes of its own"]
    if len(panels) < folds:
        notes.append(f"{len(panels)} of {folds} folds")
    return panels, notes
