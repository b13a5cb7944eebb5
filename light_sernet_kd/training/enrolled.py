"""A second head for speakers of whom some recordings without labels are known, fitted to a trained network.

What a network makes of a recording tells who speaks as well as how. Taken about the speaker's own mean it
tells the emotion better. The head is fitted on training speakers, each recording about the mean of a few
others of that speaker; the network stays as it is.

It takes means and deviations of the network's stages but for the last one: that one is fitted to the training
speakers so well that it says little of others (docs/results/choices.md).
"""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd.distillation.distiller import embedding_of
from light_sernet_kd.students.enrolled import EnrolledHead, pooled_stages

# How many other recordings of its speaker a training recording is taken about: drawn anew for each of these.
CLIPS = (0, 1, 3, 5, 10, 20)
# Of the speaker's mean, as much as the mean of all training recordings weighs.
PRIOR_CLIPS = 3.0
# Times that each training recording is in the fit.
DRAWS = 6
# Of the fit: larger corpora are drawn less often, and some of the largest not at all.
MOST_ROWS = 20_000
# Inverse strength of the penalty of scikit-learn's logistic regression.
PENALTY = 1.0
# Of a network of these layers alone every stage is found again in its exported file.
_CHAIN = (
    keras.layers.InputLayer,
    keras.layers.Conv2D,
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.AveragePooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.Concatenate,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Dropout,
    keras.layers.Dense,
)


def stages(student: keras.Model) -> list[keras.KerasTensor]:
    """The tensors that a recording's embedding is made of, `(batch, frames, features, channels)` each.

    Of a Light-SERNet what each convolution but the first ones takes. Of other networks what their last layer
    takes, `(batch, E)`.

    >>> from light_sernet_kd import students
    >>> [each.shape[-1] for each in stages(students.build("light_sernet", (60, 40, 1), 2))]
    [96, 64, 96, 128, 160]
    >>> [each.shape for each in stages(students.build("resnet18", (64, 64, 1), 2, width=0.25))]
    [(None, 128)]
    """
    if not all(isinstance(layer, _CHAIN) for layer in student.layers):
        return [embedding_of(student)]
    (features,) = student.inputs
    convolutions = [layer for layer in student.layers if isinstance(layer, keras.layers.Conv2D)]
    return [layer.input for layer in convolutions if layer.input is not features]


def embedder(student: keras.Model) -> keras.Model:
    """From the student's inputs to `embedded` of its `stages`, `(batch, E)`."""
    return keras.Model(student.inputs, _Embedded(name="embedded")(stages(student)))


class _Embedded(keras.layers.Layer):
    def call(self, taken):
        return pooled_stages(taken)


def _groups(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Widths of the parts of an embedding that weigh the same: means and deviations of each stage."""
    return [shape[-1] for shape in shapes for _ in range(1 if len(shape) == 1 else 2)]


def fit_head(
    embeddings: ArrayLike,
    labels: ArrayLike,
    speakers: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    classes: int,
    *,
    seed: int,
) -> EnrolledHead:
    """A logistic regression on embeddings about what is known of their speakers.

    Each training recording is taken about the mean of some others of its speaker: how many, and which, is
    drawn up to `DRAWS` times. Every stage weighs the same, whatever its width, and so does every class.

    Args:
        embeddings: `(N, E)`, of training recordings alone.
        labels: `(N,)` class indices.
        speakers: of each recording.
        shapes: of the `stages`, without the batch axis.
        classes: how many there are. One without a recording gets a logit that is far below all others.
        seed: of the draws.

    The second of two speakers has all values higher by 5, which a head should ignore.

    >>> rng = np.random.default_rng(0)
    >>> labels, speakers = np.tile([0, 1], 40), np.repeat(["ann", "bob"], 40)
    >>> embeddings = rng.normal(size=(80, 2)) + 4 * labels[:, None] + 5 * (speakers == "bob")[:, None]
    >>> head = fit_head(embeddings, labels, speakers, [(2,)], 2, seed=0)
    >>> head.logits([[25.0, 25.0], [21.0, 21.0]], [[23.0, 23.0]] * 2, [1000, 1000]).argmax(axis=1)
    array([1, 0])
    """
    from sklearn.linear_model import LogisticRegression

    rows, truth, names = np.asarray(embeddings, np.float64), np.asarray(labels), np.asarray(speakers)
    groups = _groups(shapes)
    scale = _deviations(rows, names) * np.sqrt(np.repeat(groups, groups) * len(groups) / 3)
    empty = np.zeros((rows.shape[1], classes), np.float32), np.full(classes, -1e3, np.float32)
    head = EnrolledHead(rows.mean(axis=0).astype(np.float32), PRIOR_CLIPS, *empty, tuple(shapes))
    if len(np.unique(truth)) == 1:
        head.bias[truth[0]] = 0.0
        return head
    rng = np.random.default_rng(seed)
    fitted = np.sort(rng.permutation(len(rows))[:MOST_ROWS])
    drawn = []
    draws = max(1, min(DRAWS, MOST_ROWS // len(fitted)))
    for _ in range(draws):
        means, clips = _known(rows, names, fitted, rng)
        drawn.append((rows[fitted] - head.centre(means, clips)) / scale)
    model = LogisticRegression(C=PENALTY, max_iter=1000, class_weight="balanced")
    model.fit(np.concatenate(drawn), np.tile(truth[fitted], draws))
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # it has one logit for two classes
        coefficients, intercepts = (
            np.stack([-coefficients[0], coefficients[0]]) / 2,
            np.outer([-0.5, 0.5], intercepts)[:, 0],
        )
    head.weights[:, model.classes_], head.bias[model.classes_] = (coefficients / scale).T, intercepts
    return head


def _deviations(rows: NDArray[np.float64], speakers: NDArray) -> NDArray[np.float64]:
    """Standard deviation of each column within a speaker, `(E,)`."""
    within = sum(
        (rows[speakers == name].var(axis=0) * np.sum(speakers == name) for name in np.unique(speakers)),
        start=np.zeros(rows.shape[1]),
    )
    # A unit of the network that is never active would else be divided by 0.
    return np.sqrt(within / len(rows)) + 1e-4


def _known(
    rows: NDArray[np.float64], speakers: NDArray, fitted: NDArray, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray]:
    """Of each of the `fitted` rows the mean of some other rows of its speaker, and how many these are."""
    by_speaker = np.unique(speakers, return_inverse=True)[1]
    order = np.argsort(by_speaker, kind="stable")
    of_speaker = np.split(order, np.cumsum(np.bincount(by_speaker))[:-1])
    means, counts = np.zeros((len(fitted), rows.shape[1])), np.zeros(len(fitted))
    for place, (row, wanted) in enumerate(zip(fitted, rng.choice(CLIPS, len(fitted)), strict=True)):
        same_speaker = of_speaker[by_speaker[row]]
        # One more, since the row itself may be among them.
        chosen = rng.choice(same_speaker, min(int(wanted) + 1, len(same_speaker)), replace=False)
        chosen = chosen[chosen != row][: int(wanted)]
        if len(chosen):
            means[place], counts[place] = rows[chosen].mean(axis=0), len(chosen)
    return means, counts
