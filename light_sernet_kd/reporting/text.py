"""How numbers and names are written in reports, tables and messages."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Stands for a value that is not known or does not exist.
NONE = "–"


def plain(value: Any) -> str:
    r"""`value` on one line, with what Markdown would take for its own made harmless.

    >>> print(plain("a*b _c_ light_sernet"))
    a\*b \_c\_ light_sernet
    """
    line = " ".join(str(value).split())
    # An underscore inside a word (light_sernet) means nothing to Markdown and reads better bare.
    return re.sub(r"[\\`*|<>\[\]]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)", r"\\\g<0>", line)


def code(value: Any) -> str:
    """`value` on one line, set as Markdown's code, in which nothing is escaped.

    >>> code("a_b*"), code("a`b")
    ('`a_b*`', '`` a`b ``')
    """
    line = " ".join(str(value).split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"


_OF_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "Δ": r"$\Delta$", "±": r"$\pm$", "·": r"$\cdot$", "−": "$-$", "×": r"$\times$", "<": "$<$", ">": "$>$",
    NONE: "--", **{letter: f"\\{letter}" for letter in "&%$#_"},
}  # fmt: skip


def latex(value: Any) -> str:
    r"""`value` on one line, with what LaTeX would take for its own made harmless.

    >>> print(latex("ΔUA %"), latex("a_b"), latex("[-1.5, +2.0]"))
    $\Delta$UA \% a\_b [$-$1.5, +2.0]
    """
    line = re.sub(r"(?<!\w)-(?=\d)", "−", " ".join(str(value).split()))
    return "".join(_OF_LATEX.get(letter, letter) for letter in line)


def pluralise(number: int, noun: str) -> str:
    """A number with its noun, which gets an s unless the number is 1.

    >>> pluralise(1, "fold"), pluralise(1200, "fold")
    ('1 fold', '1,200 folds')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def speaker_count(speakers: int | Sequence[str]) -> str:
    """How many speakers, by their names or, in what older versions wrote, by their number.

    >>> speaker_count(1200), speaker_count(["03"])
    ('1,200 speakers', '1 speaker')
    """
    return pluralise(speakers if isinstance(speakers, int) else len(speakers), "speaker")


def percent(share: float | None, form: str = ".1f") -> str:
    """A share from 0 to 1 in per cent, without the sign.

    >>> percent(0.853), percent(-0.01, "+.1f"), percent(None)
    ('85.3', '-1.0', '–')
    """
    return NONE if share is None else format(100 * share, form)


def with_percent_sign(share: float | None) -> str:
    """A share from 0 to 1 in per cent.

    >>> with_percent_sign(0.853), with_percent_sign(None)
    ('85.3 %', '–')
    """
    return NONE if share is None else f"{percent(share)} %"


def interval_of(ends: Sequence[float] | None) -> str:
    """Both ends of an interval in per cent, after a space; nothing where there is none.

    >>> interval_of([0.801, 0.897]), interval_of(None)
    (' [80.1, 89.7]', '')
    """
    return "" if ends is None else f" [{percent(ends[0])}, {percent(ends[1])}]"


def concordance(agreement: Mapping[str, float]) -> str:
    """What a file's card says of a dimension's CCC, with its interval where there is one.

    >>> concordance({"ccc": 0.514, "low": 0.4, "high": 0.6}), concordance({"ccc": -0.001})
    ('0.51 [0.40, 0.60]', '0.00')
    """
    between = f" [{agreement['low']:z.2f}, {agreement['high']:z.2f}]" if "low" in agreement else ""
    return f"{agreement['ccc']:z.2f}{between}"


def points(difference: Mapping[str, Any] | None) -> str:
    """A difference of UA in points, with its interval where there is one.

    >>> points({"ua": 0.021, "ci95": [-0.004, 0.05]}), points({"ua": -0.01, "ci95": None}), points(None)
    ('+2.1 [-0.4, +5.0]', '-1.0', '–')
    """
    if difference is None:
        return NONE
    ends = difference["ci95"]
    between = f" [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]" if ends else ""
    return f"{100 * difference['ua']:+.1f}{between}"
