"""One teacher from several."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from light_sernet_kd.data.protocols import ALL_SPEAKERS
from light_sernet_kd.errors import UserError
from light_sernet_kd.teachers.outputs import Teacher


def ensemble(members: Sequence[Teacher], weights: Sequence[float] | None = None) -> Teacher:
    """One teacher from several: the mean of their logits, weighted where there are weights.

    Its class distribution is the geometric mean of theirs, one of the two means that Hinton, Vinyals and
    Dean 2015 (arXiv:1503.02531, section 2) name. The other, arithmetic, would have to be taken anew at
    each temperature; this one holds at all of them, and an ensemble of one is that one.

    A member that serves every fold counts in each fold of the others. Embeddings are put side by side
    where every member has them. Who trained a fold's members is known where all of them say so.

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
    logits, embeddings, speakers = [], [], []
    for member in members:
        row_of = {name: row for row, name in enumerate(member.ids)}
        rows = [row_of[name] for name in first.ids]
        columns = [member.classes.index(name) for name in first.classes]
        numbers = [member.folds.index(fold) for fold in folds] if member.folds else [0] * max(1, len(folds))
        logits.append(member.logits[np.ix_(numbers, rows, columns)])
        if member.embeddings is not None:
            own = numbers if len(member.embeddings) > 1 else [0]
            embeddings.append(member.embeddings[np.ix_(own, rows)].astype(np.float32))
        trained_on = member.card.get("train_speakers")
        by_fold = trained_on if isinstance(trained_on, Mapping) else {}
        names = [fold if member.folds else ALL_SPEAKERS for fold in folds or (ALL_SPEAKERS,)]
        speakers.append([by_fold.get(name) for name in names])
    told = "; ".join(member.made_by for member in members)
    card: dict[str, Any] = {
        "made_by": f"mean of {len(members)}: {told}" if len(members) > 1 else told,
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
    if weights is None:
        joined = np.mean(logits, axis=0)
    else:
        joined = np.average(logits, axis=0, weights=weights).astype(np.float32)
        card["weights"] = list(weights)
    return Teacher(first.ids, first.classes, joined, folds, card, side_by_side)
