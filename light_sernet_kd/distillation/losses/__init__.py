"""Losses on labels, on a teacher's logits, embeddings and token states, as pure functions of `keras.ops`.

A label loss gives one value per example. Its labels are class indices `(batch,)` or soft labels
`(batch, classes)`: each class's share of the target, such as that of the annotators who heard it.

    label_loss(labels, logits (batch, classes), **settings) -> (batch,)

A distillation loss takes that vector wherever its definition has a cross entropy, so that each goes with
cross entropy and with focal loss alike, and gives two parts:

    distillation(label_loss (batch,), labels (batch,), teacher (batch, classes), student (batch, classes),
                 **settings) -> (per_example (batch,), relational ())

What is trained on is `mean(per_example) + relational`. Sample weights apply to the first part; the second
compares examples with one another and belongs to no single one. A loss on embeddings or on token states
gives the same two parts, and brings no label loss along:

    embedding_distillation(labels (batch,), teacher (batch, Et), student (batch, Es), **settings)
        -> (per_example (batch,), relational ())
    state_distillation(labels (batch,), teacher (batch, tokens, W), student (batch, tokens, W), **settings)
        -> (per_example (batch,), relational ())
    dimension_distillation(labels (batch,), teacher (batch, K), student (batch, K))
        -> (per_example (batch,), relational ())

Unless it is said otherwise `teacher` and `student` are logits. Every weight is a keyword whose default is
the published one; `settings_of` lists them. Half-precision inputs are computed with in float32. All is in
log space, with finite values and gradients at logits of ±500.
"""

from light_sernet_kd.distillation.losses.dimensions import ccc, concordance, squared_error, values
from light_sernet_kd.distillation.losses.divergences import abkd, wttm
from light_sernet_kd.distillation.losses.embeddings import hint, pkt, sp
from light_sernet_kd.distillation.losses.label import cross_entropy, focal, hard_labels, mse
from light_sernet_kd.distillation.losses.logits import (
    ckd,
    dist,
    dkd,
    kd,
    logit_mse,
    nkd,
    pure,
    rkd,
    standardised,
    wsld,
)
from light_sernet_kd.distillation.losses.settings import at_their_last, settings_of, terms_of
from light_sernet_kd.distillation.losses.token_states import states

__all__ = [
    "abkd",
    "at_their_last",
    "ccc",
    "ckd",
    "concordance",
    "cross_entropy",
    "dist",
    "dkd",
    "focal",
    "hard_labels",
    "hint",
    "kd",
    "logit_mse",
    "mse",
    "nkd",
    "pkt",
    "pure",
    "rkd",
    "settings_of",
    "sp",
    "squared_error",
    "standardised",
    "states",
    "terms_of",
    "values",
    "wsld",
    "wttm",
]
