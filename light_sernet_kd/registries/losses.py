"""Losses on labels, distillation losses, and published sums of these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from light_sernet_kd.registries.lazy import Lazy

_SMOOTHED = {"label_smoothing": "label_smoothing"}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What every loss has. Its settings are the keywords of its function; a number is 0 or more.

    Args:
        loss: its function, or its place.
        text: what it compares, in one line.
        shares: its settings that lie between 0 and 1. A share and its remainder are both weights: above 1
            the remainder would be trained away from.
        above_zero: its settings that divide, which 0 cannot.
    """

    loss: Callable[..., Any]
    text: str
    shares: tuple[str, ...] = ()
    above_zero: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelLoss(Loss):
    """A loss on labels, `loss(labels, logits, **settings) -> (batch,)`.

    Args:
        fields: its settings that a run has as fields of `config.Settings`, and the names of these.
    """

    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DimensionLoss(Loss):
    """A loss on ratings of dimensions, `loss(values, outputs) -> scalar`."""


@dataclass(frozen=True, kw_only=True)
class Distillation(Loss):
    """A loss on what a teacher gives, `loss([label_loss,] labels, teacher, student, **settings)`.

    Args:
        compares: which output of teacher and student; None needs no teacher.
        brings_label_loss: whether the label loss is the first argument of its function, which weighs it as
            its paper says. Where no loss of a sum does, the label loss is added with weight 1.
        projection: whether a linear layer takes the student's output to the teacher's width before the two
            are compared: "always", or where their widths are "unequal". None compares any two widths.
        reads_label: whether it is defined by an example's label: one without has no part in it.
        large_weight: whether its values are so small that a useful weight is in the hundreds or thousands.
        flags: its settings that have a flag of their own on the command line.
        searched: its settings that a search chooses where no space is given, and their values.
    """

    compares: Literal["logits", "embedding", "states", "dimensions"] | None
    brings_label_loss: bool = False
    projection: Literal["always", "unequal"] | None = None
    reads_label: bool = False
    large_weight: bool = False
    flags: tuple[str, ...] = ()
    searched: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PublishedSum:
    """What a published system trains its students on.

    Args:
        losses: the sum, as `-kd` takes it.
        text: where it comes from, in one line.
        settings: its own settings in place of the losses' defaults, `KD.alpha` in a sum of several.
    """

    losses: str
    text: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def _on_logits(loss: Callable[..., Any], text: str, **facts: Any) -> Distillation:
    return Distillation(loss=loss, text=text, compares="logits", brings_label_loss=True, **facts)


LABEL_LOSSES: dict[str, LabelLoss] = {
    "cross_entropy": LabelLoss(
        loss=Lazy("distillation.losses.label:cross_entropy"),
        text="negative log-likelihood of the label",
        shares=("label_smoothing",),
        fields=_SMOOTHED,
    ),
    "focal": LabelLoss(
        loss=Lazy("distillation.losses.label:focal"),
        text="cross entropy in which well predicted classes count less",
        shares=("label_smoothing",),
        fields=_SMOOTHED | {"gamma": "focal_gamma"},
    ),
    "mse": LabelLoss(
        loss=Lazy("distillation.losses.label:mse"),
        text="mean squared error of the outputs to the shares of the classes",
        shares=("label_smoothing",),
        fields=_SMOOTHED,
    ),
}

# On ratings of arousal, valence and dominance.
DIMENSION_LOSSES: dict[str, DimensionLoss] = {
    "ccc": DimensionLoss(
        loss=Lazy("distillation.losses.dimensions:ccc"),
        text="1 less the concordance of a batch's values",
    ),
    "mse": DimensionLoss(
        loss=Lazy("distillation.losses.dimensions:squared_error"),
        text="mean squared error of the values",
    ),
}

# The distillation that is none: the student learns from the labels.
NO_TEACHER = "pure"

DISTILLATIONS: dict[str, Distillation] = {
    NO_TEACHER: Distillation(
        loss=Lazy("distillation.losses.logits:pure"),
        text="the label loss, without a teacher",
        compares=None,
        brings_label_loss=True,
    ),
    "KD": _on_logits(
        Lazy("distillation.losses.logits:kd"),
        "divergence from the teacher's softened probabilities",
        shares=("alpha",),
        above_zero=("temperature",),
        searched={"temperature": (2.0, 4.0, 8.0)},
    ),
    "RKD": _on_logits(
        Lazy("distillation.losses.logits:rkd"), "distances and angles between the examples of a batch"
    ),
    "DKD": _on_logits(
        Lazy("distillation.losses.logits:dkd"),
        "KD of the label against the rest, and of the other classes, with a weight each",
        reads_label=True,
        above_zero=("temperature",),
    ),
    "CKD": _on_logits(
        Lazy("distillation.losses.logits:ckd"),
        "Cubic KD: KD at several temperatures, and the products of two probabilities",
        shares=("alpha",),
        above_zero=("temperatures",),
        flags=("lambda1", "lambda2"),
    ),
    "DIST": _on_logits(
        Lazy("distillation.losses.logits:dist"),
        "correlation of the probabilities between classes and within a class",
        above_zero=("temperature",),
    ),
    "NKD": _on_logits(
        Lazy("distillation.losses.logits:nkd"),
        "the label's probability, and those of the other classes normalised",
        reads_label=True,
        above_zero=("temperature",),
    ),
    "WSLD": _on_logits(
        Lazy("distillation.losses.logits:wsld"),
        "KD that counts less where the student knows the example better",
        reads_label=True,
        above_zero=("temperature",),
    ),
    "WTTM": _on_logits(
        Lazy("distillation.losses.divergences:wttm"),
        "divergence from the teacher's softened probabilities, the student's not softened",
        above_zero=("temperature",),
    ),
    "ABKD": _on_logits(
        Lazy("distillation.losses.divergences:abkd"),
        "α-β-divergence, between that of KD and its reverse",
        above_zero=("temperature", "alpha", "beta"),
    ),
    "MSE": _on_logits(
        Lazy("distillation.losses.logits:logit_mse"), "mean squared error to the teacher's logits"
    ),
    "hint": Distillation(
        loss=Lazy("distillation.losses.embeddings:hint"),
        text="mean squared error to the teacher's embedding, after a linear layer",
        compares="embedding",
        projection="always",
        large_weight=True,
    ),
    "PKT": Distillation(
        loss=Lazy("distillation.losses.embeddings:pkt"),
        text="which examples are neighbours, by the cosine of their embeddings",
        compares="embedding",
        large_weight=True,
    ),
    "SP": Distillation(
        loss=Lazy("distillation.losses.embeddings:sp"),
        text="which examples have similar embeddings, by their products",
        compares="embedding",
        large_weight=True,
    ),
    "states": Distillation(
        loss=Lazy("distillation.losses.token_states:states"),
        text="mean squared error to the teacher's states of the text's tokens",
        compares="states",
        projection="unequal",
    ),
    "values": Distillation(
        loss=Lazy("distillation.losses.dimensions:values"),
        text="mean squared error to the teacher's values of --dimensions",
        compares="dimensions",
    ),
    "CCC": Distillation(
        loss=Lazy("distillation.losses.dimensions:concordance"),
        text="1 less the concordance with the teacher's values of --dimensions",
        compares="dimensions",
    ),
}

PUBLISHED: dict[str, PublishedSum] = {
    "DistilSER": PublishedSum(
        losses="KD+states",
        text="DistilSER (ICTC 2024), students of speech and text",
        settings={"KD.alpha": 0.5, "KD.temperature": 2.0},
    ),
    "Multi-Still": PublishedSum(
        losses="MSE", text="Multi-Still (ETRI 2023), with the label loss mse on soft labels"
    ),
}
