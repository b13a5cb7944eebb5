"""Numbers of a loss that change over the epochs of a training."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ramp:
    """A number that goes in equal steps from its first epoch's value to its last one's; `0.9>0.3` as text.

    >>> [round(Ramp(0.9, 0.3).at(epoch, epochs=4), 2) for epoch in range(4)]
    [0.9, 0.7, 0.5, 0.3]
    """

    first: float
    last: float

    def at(self, epoch: int, *, epochs: int) -> float:
        """The value in `epoch`, counted from 0, of a training of `epochs` epochs.

        Later epochs keep the last value.
        """
        done = min(1.0, epoch / (epochs - 1)) if epochs > 1 else 0.0
        return self.first + (self.last - self.first) * done

    def __str__(self) -> str:
        return f"{self.first!r}>{self.last!r}"


def ramp_of(value: Any) -> Ramp | None:
    """The ramp that a setting says as text; None where it says something else.

    >>> ramp_of("4>1"), ramp_of(4.0), ramp_of("batch"), ramp_of("4>")
    (Ramp(first=4.0, last=1.0), None, None, None)
    """
    if not isinstance(value, str) or value.count(">") != 1:
        return None
    try:
        first, last = map(float, value.split(">"))
    except ValueError:
        return None
    return Ramp(first, last) if math.isfinite(first) and math.isfinite(last) else None
