"""Sentences about what is found, and the words that they share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console


MOST_LINES = 3
_MOST_NAMES = 8


class Findings(NamedTuple):
    """Sentences about the classes: warnings say that scores mean less than they seem to, notes do not."""

    warnings: list[str]
    notes: list[str]


def joined(*found: Findings) -> Findings:
    return Findings(
        [text for each in found for text in each.warnings], [t for each in found for t in each.notes]
    )


def show(found: Findings, console: "Console") -> None:
    """Print a line per sentence."""
    from rich.text import Text

    for text in found.warnings:
        console.print(Text(f"warning: {text}", style="bold yellow"), soft_wrap=True)
    for text in found.notes:
        console.print(Text(f"note: {text}"), soft_wrap=True)


def listed(names: Sequence[str], word: str = "and") -> str:
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} more"]
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]


def count_of(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
