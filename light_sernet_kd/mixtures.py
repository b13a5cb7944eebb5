"""What a student learns from its teacher: one distillation loss, or a weighted sum of several.

Standard library only: the command line refuses a typo from here, before it imports TensorFlow.
"""

import math
import re
from dataclasses import dataclass

from light_sernet_kd.errors import UserError, choose

# The keys of `losses.DISTILLATIONS` and `losses.EMBEDDING_DISTILLATIONS`.
LOGIT_NAMES = ("pure", "KD", "RKD", "DKD", "CKD", "DIST", "NKD", "WSLD")
EMBEDDING_NAMES = ("hint", "PKT", "SP")
NAMES = LOGIT_NAMES + EMBEDDING_NAMES


@dataclass(frozen=True)
class Term:
    """A distillation loss by name, and its weight in the sum."""

    name: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}:{_shortest(self.weight)}"


@dataclass(frozen=True)
class Mixture:
    """Distillation losses that are added up. Its text is canonical, and `parse` reads it back."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.terms))

    @property
    def needs_logits(self) -> bool:
        """Whether a loss compares with the teacher's logits."""
        return any(term.name in LOGIT_NAMES and term.name != "pure" for term in self.terms)

    @property
    def needs_embeddings(self) -> bool:
        """Whether a loss compares with the teacher's embeddings."""
        return any(term.name in EMBEDDING_NAMES for term in self.terms)

    @property
    def needs_teacher(self) -> bool:
        return self.needs_logits or self.needs_embeddings

    @property
    def adds_label_loss(self) -> bool:
        """Whether the label loss is added with weight 1, because no loss of the sum brings it along."""
        return all(term.name in EMBEDDING_NAMES for term in self.terms)


def parse(text: str) -> Mixture:
    """`KD`, `KD:0.5+RKD:0.5` or `KD+SP:3000` as what it means; a weight left out is 1.

    Losses on logits bring the label loss along as their papers say, and the weight of the sum weighs that
    too; `pure` is the label loss alone. A sum of nothing but losses on embeddings, which bring none, is
    added to the label loss.

    Raises:
        UserError: an unknown name, a weight that is not a number above 0, or a name twice.
    """
    terms: list[Term] = []
    # A plus sign before a digit belongs to a number, such as 1e+3.
    for part in re.split(r"\+(?!\d)", text):
        name, colon, weight = part.partition(":")
        name = choose("distillation", name.strip(), NAMES)
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


def _shortest(number: float) -> str:
    return str(int(number)) if number.is_integer() and number < 1e15 else repr(number)
