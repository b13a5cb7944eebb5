"""What a student learns from its teacher: one distillation loss, or a weighted sum of several.

Standard library only: the command line refuses a typo from here, before it imports TensorFlow.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.losses import (
    DISTILLATIONS,
    NO_TEACHER,
    PUBLISHED,
    Distillation,
)
from light_sernet_kd.registries.recipes import OURS, OURS_SETTINGS


@dataclass(frozen=True)
class Term:
    """A distillation loss by name, and its weight in the sum.

    Attributes:
        own: what there is to say of a loss that a program brings; None of one of the registry.
    """

    name: str
    weight: float = 1.0
    own: Distillation | None = field(default=None, repr=False)

    @property
    def entry(self) -> Distillation:
        """What the registry says of the loss, or the program that brings it."""
        return self.own or DISTILLATIONS[self.name]

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}:{_shortest(self.weight)}"


@dataclass(frozen=True)
class DistillationSum:
    """Distillation losses that are added up. Its text is canonical, and `parse` reads it back.

    Attributes:
        published: the key of `PUBLISHED` by which the sum was asked for, which is then its text.
    """

    terms: tuple[Term, ...]
    published: str | None = None

    def __str__(self) -> str:
        return self.published or "+".join(map(str, self.terms))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings by name, `KD.alpha` in a sum, where a published sum differs from its losses' defaults."""
        return PUBLISHED[self.published].settings if self.published else {}

    def compares(self, output: str) -> bool:
        """Whether a loss compares this output, as `Distillation.compares` has it, with the teacher's."""
        return any(term.entry.compares == output for term in self.terms)

    @property
    def needs_logits(self) -> bool:
        """Whether a loss compares with the teacher's logits."""
        return self.compares("logits")

    @property
    def needs_embeddings(self) -> bool:
        """Whether a loss compares with the teacher's embeddings."""
        return self.compares("embedding")

    @property
    def needs_states(self) -> bool:
        """Whether a loss compares with the teacher's states of the text's tokens."""
        return self.compares("states")

    @property
    def needs_dimensions(self) -> bool:
        """Whether a loss compares with the teacher's values of dimensions."""
        return self.compares("dimensions")

    def without_states(self) -> "DistillationSum":
        """What of the sum trains while the encoders are frozen; the label loss where nothing does."""
        kept = tuple(term for term in self.terms if term.entry.compares != "states")
        return self if kept == self.terms else DistillationSum(kept or (Term(NO_TEACHER),))

    @property
    def needs_teacher(self) -> bool:
        return any(term.entry.compares for term in self.terms)

    @property
    def learns_without_labels(self) -> bool:
        """Whether an example that has no label has a part in a loss of the sum."""
        return any(term.entry.compares and not term.entry.reads_label for term in self.terms)

    @property
    def adds_label_loss(self) -> bool:
        """Whether the label loss is added with weight 1, because no loss of the sum brings it along."""
        return not any(term.entry.brings_label_loss for term in self.terms)


def parse(text: str) -> DistillationSum:
    """`KD`, `KD:0.5+RKD:0.5`, `KD+SP:3000` or `DistilSER` as what it means; a weight left out is 1.

    Losses on logits bring the label loss along as their papers say, and the weight of the sum weighs that
    too; `pure` is the label loss alone. A sum of nothing but losses on embeddings and states, which bring
    none, is added to the label loss. A name of `PUBLISHED` is that system's sum, and stands alone. `ours` is
    the sum that the recipe `distilled` teaches by.

    Raises:
        UserError: an unknown name, a weight that is not a number above 0, a name twice, or a published sum
            with a weight or within another.

    >>> parse("KD:0.5 + SP:3e3").terms
    (Term(name='KD', weight=0.5), Term(name='SP', weight=3000.0))
    >>> str(parse("kd:1.0+sp:3e3"))
    'KD+SP:3000'
    """
    if text.strip().lower() == OURS:
        text = OURS_SETTINGS["distillation"]
    terms: list[Term] = []
    # A plus sign before a digit belongs to a number, such as 1e+3.
    parts = re.split(r"\+(?!\d)", text)
    for part in parts:
        name, colon, weight = part.partition(":")
        name = choose("distillation", name.strip(), [*DISTILLATIONS, *PUBLISHED, OURS])
        if name in PUBLISHED:
            if len(parts) > 1 or colon:
                raise UserError(
                    f"{name} is a whole sum: give it alone, or what it stands for, {_spelled_out(name)}."
                )
            return DistillationSum(parse(PUBLISHED[name].losses).terms, name)
        if name == OURS:
            raise UserError(f"{OURS} is a whole sum: give it alone, or what it stands for, {parse(OURS)}.")
        if any(term.name == name for term in terms):
            raise UserError(f"the distillation {text!r} names {name} twice. Give it once, with one weight.")
        terms.append(Term(name, _weight(name, weight) if colon else 1.0))
    return DistillationSum(tuple(terms))


def _weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise UserError(
            f"the weight of {name} is {text.strip()!r}, but must be a number above 0, as in {name}:0.5."
        )
    return weight


def _spelled_out(name: str) -> str:
    published = PUBLISHED[name]
    weights = ",".join(f"{key}={_shortest(value)}" for key, value in published.settings.items())
    return f"{published.losses} with --kd_weights {weights}" if weights else published.losses


def _shortest(number: float) -> str:
    return str(int(number)) if number.is_integer() and number < 1e15 else repr(number)
