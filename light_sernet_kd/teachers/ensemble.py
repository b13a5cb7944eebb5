"""One teacher from several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from light_sernet_kd.data.protocols import ALL_SPEAKERS
from light_sernet_kd.errors import UserError
from light_sernet_kd.teachers.outputs import Teacher


def confidence_weights(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much each of K teachers counts for each example: the more, the nearer it is to the label.

    `w_k = (1 - exp(L_k) / Σ_j exp(L_j)) / (K - 1)` with L_k the cross entropy of teacher k with the label.

    Args:
        logits: `(K, ..., classes)` of at least two teachers.
        labels: class indices `(...)`.

    Returns:
        `(K, ...)`, float64, which sum to 1 over the teachers.

    Source: Zhang, Chen and Wang 2022 (CA-MKD), arXiv:2201.00007, and its authors' code. That the weights
    are of logits here, and not of one divergence per teacher, is ours.

    The first teacher has the label, at index 0, with probability 3/4, the second with 1/4.

    >>> logits = np.log([[[3.0, 1.0]], [[1.0, 3.0]]])
    >>> confidence_weights(logits, np.array([0])).round(4).tolist()
    [[0.75], [0.25]]
    """
    logits = logits.astype(np.float64)
    chosen = np.take_along_axis(logits, np.broadcast_to(labels, logits.shape[:-1])[..., None], axis=-1)
    losses = np.logaddexp.reduce(logits, axis=-1) - chosen[..., 0]
    powers = np.exp(losses - losses.max(axis=0))
    return (1 - powers / powers.sum(axis=0)) / (len(logits) - 1)


def ensemble(
    members: Sequence[Teacher],
    weights: Sequence[float] | None = None,
    *,
    labels: np.ndarray | None = None,
) -> Teacher:
    """One teacher from several: the mean of their logits, weighted where there are weights.

    Its class distribution is the geometric mean of theirs, one of the two means that Hinton, Vinyals and
    Dean 2015 (arXiv:1503.02531, section 2) name. The other, arithmetic, would have to be taken anew at
    each temperature; this one holds at all of them, and an ensemble of one is that one.

    A member that serves every fold counts in each fold of the others. Embeddings are put side by side
    where every member has them. Values of dimensions are the mean of the members' where all have the same
    dimensions. Who trained a fold's members is known where all of them say so.

    Args:
        weights: of the members; by default all count alike.
        labels: class indices `(folds, utterances)` in the first member's order, -1 of an utterance whose
            label decides nothing. For the others each weight is multiplied by that of `confidence_weights`.

    Raises:
        UserError: no members, or members of other utterances, classes or folds.

    >>> one = Teacher(("clip-1",), ("anger", "fear"), np.array([[[2.0, 0.0]]], np.float32))
    >>> other = Teacher(("clip-1",), ("anger", "fear"), np.array([[[0.0, 4.0]]], np.float32))
    >>> ensemble([one, other]).logits.tolist()
    [[[1.0, 2.0]]]
    """
    if not members:
        raise UserError("an ensemble needs at least one teacher.")
    first = members[0]
    folds = next((member.folds for member in members if member.folds), ())
    for member in members[1:]:
        for what, theirs, ours in (
            ("utterances", member.ids, first.ids),
            ("classes", member.classes, first.classes),
            ("folds", member.folds or folds, folds),
        ):
            if set(theirs) != set(ours):
                odd = sorted(set(theirs) ^ set(ours))
                raise UserError(
                    f"teachers of an ensemble must have the same {what}: {first.made_by} and "
                    f"{member.made_by} differ in {len(odd)}, e.g. {odd[0]}."
                )
    logits, embeddings, values, speakers = [], [], [], []
    for member in members:
        row_of = {name: row for row, name in enumerate(member.ids)}
        rows = [row_of[name] for name in first.ids]
        columns = [member.classes.index(name) for name in first.classes]
        numbers = [member.folds.index(fold) for fold in folds] if member.folds else [0] * max(1, len(folds))
        logits.append(member.logits[np.ix_(numbers, rows, columns)])
        if member.embeddings is not None:
            of_member = numbers if len(member.embeddings) > 1 else [0]
            embeddings.append(member.embeddings[np.ix_(of_member, rows)].astype(np.float32))
        if member.values is not None and member.dimensions == first.dimensions:
            of_member = numbers if len(member.values) > 1 else [0]
            values.append(member.values[np.ix_(of_member, rows)])
        trained_on = member.card.get("train_speakers")
        by_fold = trained_on if isinstance(trained_on, Mapping) else {}
        names = [fold if member.folds else ALL_SPEAKERS for fold in folds or (ALL_SPEAKERS,)]
        speakers.append([by_fold.get(name) for name in names])
    made_by = "; ".join(member.made_by for member in members)
    card: dict[str, Any] = {
        "made_by": f"mean of {len(members)}: {made_by}" if len(members) > 1 else made_by,
        "members": [dict(member.card) for member in members],
    }
    for name in ("corpus", "protocol"):
        if first.card.get(name) is not None and all(
            member.card.get(name) == first.card[name] for member in members
        ):
            card[name] = first.card[name]
    card["train_speakers"] = {
        fold: sorted(set().union(*lists))
        for fold, *lists in zip(folds or (ALL_SPEAKERS,), *speakers, strict=True)
        if all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
    }
    side_by_side = None
    if len(embeddings) == len(members):
        count = max(map(len, embeddings))
        side_by_side = np.concatenate(
            [np.broadcast_to(one, (count, *one.shape[1:])) for one in embeddings], axis=2
        )
    licences = [str(member.card["licence"]) for member in members if member.card.get("licence")]
    if licences:
        card["licence"] = "; ".join(dict.fromkeys(licences))
    if weights is not None:
        card["weights"] = list(weights)
    if labels is not None:
        card["mixing"] = "confidence"
    mixed = mean_logits(np.stack(logits), weights, labels)
    made = Teacher(first.ids, first.classes, mixed, folds, card, side_by_side)
    if len(values) < len(members):
        return made
    mean = np.average(np.stack(np.broadcast_arrays(*values)), axis=0, weights=weights)
    return replace(made, values=mean.astype(np.float32), dimensions=first.dimensions)


def mean_logits(logits: np.ndarray, weights: Sequence[float] | None, labels: np.ndarray | None) -> np.ndarray:
    """The mean `(folds, utterances, classes)` of the members' logits, which lie along the first axis.

    Arguments are those of `ensemble`. Views stand in the place of folds where a fold's teachers were asked on
    several.
    """
    mean = np.mean(logits, axis=0) if weights is None else np.average(logits, axis=0, weights=weights)
    mean = mean.astype(np.float32)
    if labels is None:
        return mean
    priors = np.ones(len(logits)) if weights is None else np.array(weights, np.float64)
    counted = priors[:, None, None] * confidence_weights(logits, np.maximum(labels, 0))
    confident = (counted[..., None] * logits).sum(axis=0) / counted.sum(axis=0)[..., None]
    return np.where(labels[..., None] < 0, mean, confident).astype(np.float32)
