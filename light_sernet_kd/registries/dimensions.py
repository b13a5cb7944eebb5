"""Dimensions of emotion: what listeners rate on a scale, beside or instead of naming an emotion."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimension:
    """What a dimension means.

    Attributes:
        low, high: what the ends of its scale stand for.
        aliases: what corpora call it too.
    """

    low: str
    high: str
    aliases: tuple[str, ...] = ()


DIMENSIONS: dict[str, Dimension] = {
    "arousal": Dimension("calm", "excited", aliases=("activation",)),
    "valence": Dimension("negative", "positive"),
    "dominance": Dimension("submissive", "dominant"),
}


def dimension_name(name: str) -> str:
    """The name that a dimension has here; one that is unknown stays as it is.

    >>> dimension_name("Activation"), dimension_name("mood")
    ('arousal', 'mood')
    """
    known = name.strip().lower()
    return next((each for each, dimension in DIMENSIONS.items() if known in dimension.aliases), known)
