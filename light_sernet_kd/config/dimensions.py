"""Arousal, valence and dominance: which of them a student gives, with classes or alone, and on what scale."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from light_sernet_kd.registries import dimensions

# How excited, how pleasant and how much in control a voice is.
DIMENSIONS = tuple(dimensions.DIMENSIONS)
# The one class of recordings whose ratings alone are learnt. Its logit says nothing, and no file gives it.
RATED = "rated"
LARGEST_RATING = 1e6


def are_ratings_alone(classes: Iterable[str]) -> bool:
    """Whether these are the classes of a run that learns ratings instead of emotions.

    >>> are_ratings_alone(["rated"]), are_ratings_alone(["anger", "rated"])
    (True, False)
    """
    return list(classes) == [RATED]


@dataclass(frozen=True)
class Dimensions:
    """What a student's output `dimensions` holds.

    Attributes:
        names: some of `DIMENSIONS`, in the order of the output.
        range: lowest and highest value of the scale that the corpus was rated on. The output has them as -1
            and 1.

    Raises:
        ValueError: no names, an unknown one or one twice, or a range without extent.

    >>> Dimensions(("arousal", "valence"), (1, 5)).as_card()
    {'names': ['arousal', 'valence'], 'range': [1.0, 5.0]}
    """

    names: tuple[str, ...]
    range: tuple[float, float]

    def __post_init__(self) -> None:
        names, (low, high) = tuple(self.names), map(float, self.range)
        if not names or len({*names}) < len(names) or not {*names} <= {*DIMENSIONS}:
            raise ValueError(f"different names out of {', '.join(DIMENSIONS)} were expected, found {names}")
        if not -LARGEST_RATING <= low < high <= LARGEST_RATING:
            raise ValueError(f"a range from a number to a larger one was expected, found {low:g} to {high:g}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "range", (low, high))

    def as_card(self) -> dict[str, list]:
        """What an exported file's card says of them."""
        return {"names": [*self.names], "range": [*self.range]}


def to_unit_scale(ratings: Any, ends: tuple[float, float]) -> Any:
    """Ratings on the scale of a student's output, where these ends are -1 and 1; linear, and not clipped.

    Args:
        ratings: a number or an array.

    >>> to_unit_scale(2.0, (1, 5))
    -0.5
    """
    low, high = ends
    return (2 * ratings - low - high) / (high - low)


def from_unit_scale(values: Any, ends: tuple[float, float]) -> Any:
    """What `to_unit_scale` takes of what it gives.

    >>> from_unit_scale(-0.5, (1, 5))
    2.0
    """
    low, high = ends
    return low + (values + 1) * (high - low) / 2
