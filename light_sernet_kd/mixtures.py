"""What a student learns from its teacher: one distillation loss, or a weighted sum of several.

Standard library only: the command line refuses a typo from here, before it imports TensorFlow.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from light_sernet_kd.errors import UserError, choose

# The keys of `losses.DISTILLATIONS`, `losses.EMBEDDING_DISTILLATIONS` and `losses.STATE_DISTILLATIONS`.
LOGIT_NAMES = ("pure", "KD", "RKD", "DKD", "CKD", "DIST", "NKD", "WSLD", "MSE")
EMBEDDING_NAMES = ("hint", "PKT", "SP")
STATE_NAMES = ("states",)
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
# What a published system trains its students on: a sum, and its own settings in place of the defaults.
PUBLISHED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "DistilSER": ("KD+states", {"KD.alpha": 0.5, "KD.temperature": 2.0}),
    "Multi-Still": ("MSE", NO_SETTINGS),  # published with the label loss mse, on soft labels
}
NAMES = (*LOGIT_NAMES, *EMBEDDING_NAMES, *STATE_NAMES, *PUBLISHED)


@dataclass(frozen=True)
class Term:
    """A distillation loss by name, and its weight in the sum."""

    name: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}:{_shortest(self.weight)}"


@dataclass(frozen=True)
class Mixture:
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
        """Where a published sum differs from its losses' defaults, by name: `KD.alpha` in a sum."""
        return PUBLISHED[self.published][1] if self.published else NO_SETTINGS

    @property
    def needs_logits(self) -> bool:
        """Whether a loss compares with the teacher's logits."""
        return any(term.name in LOGIT_NAMES and term.name != "pure" for term in self.terms)

    @property
    def needs_embeddings(self) -> bool:
        """Whether a loss compares with the teacher's embeddings."""
        return any(term.name in EMBEDDING_NAMES for term in self.terms)

    @property
    def needs_states(self) -> bool:
        """Whether a loss compares with the teacher's states of the text's tokens."""
        return any(term.name in STATE_NAMES for term in self.terms)

    @property
    def needs_teacher(self) -> bool:
        return self.needs_logits or self.needs_embeddings or self.needs_states

    @property
    def adds_label_loss(self) -> bool:
        """Whether the label loss is added with weight 1, because no loss of the sum brings it along."""
        return not any(term.name in LOGIT_NAMES for term in self.terms)


def parse(text: str) -> Mixture:
    """`KD`, `KD:0.5+RKD:0.5`, `KD+SP:3000` or `DistilSER` as what it means; a weight left out is 1.

    Losses on logits bring the label loss along as their papers say, and the weight of the sum weighs that
    too; `pure` is the label loss alone. A sum of nothing but losses on embeddings and states, which bring
    none, is added to the label loss. A name of `PUBLISHED` is that system's sum, and stands alone.

    Raises:
        UserError: an unknown name, a weight that is not a number above 0, a name twice, or a published sum
            with a weight or within another.
    """
    terms: list[Term] = []
    # A plus sign before a digit belongs to a number, such as 1e+3.
    parts = re.split(r"\+(?!\d)", text)
    for part in parts:
        name, colon, weight = part.partition(":")
        name = choose("distillation", name.strip(), NAMES)
        if name in PUBLISHED:
            if len(parts) > 1 or colon:
                raise UserError(
                    f"{name} is a whole sum: give it alone, or what it stands for, {_spelled_out(name)}."
                )
            return Mixture(parse(PUBLISHED[name][0]).terms, name)
        if any(term.name == name for term in terms):
            raise UserError(f"the distillation {text!r} names {name} twice. Give it once, with one weight.")
        terms.append(Term(name, _weight(name, weight) if colon else 1.0))
    return Mixture(tuple(terms))


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
    text, settings = PUBLISHED[name]
    weights = ",".join(f"{key}={_shortest(value)}" for key, value in settings.items())
    return f"{text} with --kd_weights {weights}" if weights else text


def _shortest(number: float) -> str:
    return str(int(number)) if number.is_integer() and number < 1e15 else repr(number)
