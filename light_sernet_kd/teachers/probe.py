"""Teachers that are a linear probe on embeddings: multinomial logistic regression, one per fold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from light_sernet_kd.audio import in_order
from light_sernet_kd.corpora import Utterance, class_indices
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import log_loss
from light_sernet_kd.teachers import Teacher, train_speakers

# Inverse strengths of the L2 penalty, for standardised embeddings: half decades.
STRENGTHS = tuple((10.0 ** np.arange(-4, 0.1, 0.5)).tolist())
PARTS = 5

Predict = Callable[[np.ndarray], np.ndarray]


def probe_teacher(
    embeddings: np.ndarray,
    utterances: Sequence[Utterance],
    classes: Sequence[str],
    folds: Sequence[Fold],
    *,
    card: Mapping[str, Any],
    cross_fit: bool = True,
    balanced: bool = False,
    on_fold: Callable[[str, Predict], None] | None = None,
) -> Teacher:
    """A teacher with one probe per fold, trained on that fold's training utterances alone.

    The penalty is the one with the smallest log loss on the fold's validation set: a student learns from
    probabilities, so they count and not only the largest. Where the validation set is empty or tests too, it
    is chosen on training speakers held out in turn, so the test set decides nothing.

    A probe separates its own training set almost perfectly, and then teaches little that the labels do not
    say. With `cross_fit`, an utterance in training gets its logits from a probe trained on the other parts
    of `PARTS`, none of which has its speaker; all other utterances get theirs from the probe on all of
    training. Source: Dao et al. 2021, arXiv:2104.09732, section 4.

    Args:
        embeddings: `(utterances, width)`; kept in the teacher, in float16 if they are.
        card: what is known of the embeddings and the corpus; `made_by` at least.
        balanced: every class weighs the same in training, however frequent.
        on_fold: called with each fold's name and the probe on all of its training set: for what is no
            utterance.

    Raises:
        UserError: a fold trains on one class only.
    """
    import sklearn.linear_model  # noqa: F401  (its libraries must be there to be limited)
    import threadpoolctl

    embeddings = np.asarray(embeddings)
    values = embeddings.astype(np.float64)
    labels = class_indices(utterances, classes)
    speakers = np.array([utterance.speaker for utterance in utterances])

    def fit(rows: np.ndarray, strength: float) -> Predict:
        return _fit(values[rows], labels[rows], strength, len(classes), balanced)

    logits, strengths = [], {}
    # One thread each: sums in the same order on any machine, and far faster for matrices of this size.
    with threadpoolctl.threadpool_limits(1):
        for fold in folds:
            train = np.array(fold.train)
            if len(seen := np.unique(labels[train])) < 2:
                raise UserError(
                    f"fold {fold.name} trains on {classes[seen[0]]} alone; a probe needs 2 emotions."
                )
            strength = _best_strength(fit, values, labels, speakers, fold)
            whole = fit(train, strength)
            fold_logits = whole(values)
            if cross_fit:
                fold_logits[train] = _out_of_part(fit, values, train, speakers, strength)
            logits.append(fold_logits)
            strengths[fold.name] = strength
            if on_fold:
                on_fold(fold.name, whole)
    card = {
        **card,
        "probe": {"strengths": strengths, "cross_fitted": cross_fit, "balanced": balanced},
        "train_speakers": train_speakers(folds, utterances),
    }
    return Teacher(
        ids=tuple(utterance.id for utterance in utterances),
        classes=tuple(classes),
        logits=np.stack(logits).astype(np.float32),
        folds=tuple(fold.name for fold in folds),
        card=card,
        embeddings=embeddings[None],
    )


def _best_strength(
    fit: Callable[[np.ndarray, float], Predict],
    values: np.ndarray,
    labels: np.ndarray,
    speakers: np.ndarray,
    fold: Fold,
) -> float:
    train = np.array(fold.train)
    if fold.selection_indices:
        judged = np.array(fold.selection_indices)
        tried = in_order(lambda strength: fit(train, strength)(values[judged]), STRENGTHS)
    else:
        judged = train
        tried = in_order(lambda strength: _out_of_part(fit, values, train, speakers, strength), STRENGTHS)
    return STRENGTHS[int(np.argmin([log_loss(labels[judged], logits) for logits in tried]))]


def _out_of_part(
    fit: Callable[[np.ndarray, float], Predict],
    values: np.ndarray,
    train: np.ndarray,
    speakers: np.ndarray,
    strength: float,
) -> np.ndarray:
    """Logits of the training utterances, each from a probe that was trained on the other parts."""
    parts = held_out_parts(speakers[train])
    predicted = in_order(lambda part: fit(train[~part], strength)(values[train[part]]), parts)
    by_part = [(part, logits) for part, logits in zip(parts, predicted, strict=True)]
    joined = np.empty((len(train), by_part[0][1].shape[1]))
    for part, logits in by_part:
        joined[part] = logits
    return joined


def held_out_parts(speakers: np.ndarray, parts: int = PARTS) -> list[np.ndarray]:
    """Up to `parts` masks `(utterances,)` that cover all utterances once; none splits a speaker.

    One speaker alone is split into parts of utterances.
    """
    from sklearn.model_selection import GroupKFold

    groups = speakers if len(set(speakers.tolist())) > 1 else np.arange(len(speakers))
    count = min(parts, len(set(groups.tolist())))
    if count < 2:
        raise UserError("a probe needs at least 2 utterances to train on.")
    masks = []
    for _, held_out in GroupKFold(count).split(np.empty(len(groups)), groups=groups):
        mask = np.zeros(len(groups), bool)
        mask[held_out] = True
        masks.append(mask)
    return masks


def _fit(rows: np.ndarray, labels: np.ndarray, strength: float, classes: int, balanced: bool) -> Predict:
    """Logits `(utterances, classes)` as a function of embeddings."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen = np.unique(labels)
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(
            C=strength, class_weight="balanced" if balanced else None, max_iter=10_000, tol=1e-5
        ),
    )
    if len(seen) > 1:
        model.fit(rows, labels)

    def predict(embeddings: np.ndarray) -> np.ndarray:
        scores = model.decision_function(embeddings) if len(seen) > 1 else np.zeros((len(embeddings), 1))
        if scores.ndim == 1:  # two classes: the log odds of the second
            scores = np.stack([-scores / 2, scores / 2], axis=1)
        # A class that training lacks: less likely than the least likely one, by the number of examples.
        logits = np.repeat(scores.min(axis=1, keepdims=True) - np.log(len(labels)), classes, axis=1)
        logits[:, seen] = scores
        return logits

    return predict
