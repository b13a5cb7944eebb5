"""Sentences about what is found, and the words that they share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from light_sernet_kd.reporting.tables import say

if TYPE_CHECKING:
    from rich.console import Console

# Of one kind.
MOST_LINES = 3
_MOST_NAMES = 8


class Findings(NamedTuple):
    """Sentences about the classes: warnings say that scores mean less than they seem to, notes do not."""

    warnings: list[str]
    notes: list[str]


def merge_findings(*findings: Findings) -> Findings:
    """All warnings, and all notes.

    >>> merge_findings(Findings(["a"], []), Findings(["b"], ["c"]))
    Findings(warnings=['a', 'b'], notes=['c'])
    """
    return Findings(
        [text for each in findings for text in each.warnings], [t for each in findings for t in each.notes]
    )


def show(findings: Findings, console: "Console") -> None:
    """Print a line per sentence."""
    for text in findings.warnings:
        say(console, f"warning: {text}", style="bold yellow")
    for text in findings.notes:
        say(console, f"note: {text}")


def enumerated(names: Sequence[str], word: str = "and") -> str:
    """The names in a sentence; of many, the first and how many more.

    >>> enumerated(["anger", "fear", "joy"]), enumerated([str(n) for n in range(20)], "or")
    ('anger, fear and joy', '0, 1, 2, 3, 4, 5, 6 or 13 more')
    """
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} more"]
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]


def count_of(number: int, noun: str) -> str:
    """As `text.pluralise`, but without commas, which the numbers of these sentences do not have.

    >>> count_of(1, "channel"), count_of(1200, "channel")
    ('1 channel', '1200 channels')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")
