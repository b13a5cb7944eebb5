"""Answers of a command as one JSON list, and what it tells on stderr beside them."""

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from light_sernet_kd.runner import Runner, caveats


@contextlib.contextmanager
def answer_list(
    beginnings: Sequence[Mapping[str, Any]], *, wanted: bool = True
) -> Iterator[list[dict[str, Any]]]:
    """A list to append the answers to, printed as JSON at the end, whatever ends the command.

    What was not reached by then has an entry with the reason as its `error`.

    Args:
        beginnings: the beginning of each entry, in order: what names its recording or text.
        wanted: if false, nothing is printed.
    """
    answers: list[dict[str, Any]] = []
    reason = "interrupted"
    try:
        yield answers
    except Exception as error:
        reason = f"not reached: {error}"
        raise
    finally:
        if wanted:
            answers += [{**each, "error": reason} for each in beginnings[len(answers) :]]
            print(json.dumps(answers, indent=2, ensure_ascii=False, allow_nan=False))


@contextlib.contextmanager
def noted(what: str) -> Iterator[dict[str, type[Warning]]]:
    """What users are warned of within, with its kind: filled at its end and told on stderr, a line each.

    Args:
        what: the recording's or text's name, put before a warning that lacks it.
    """
    notes: dict[str, type[Warning]] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield notes
        finally:
            for each in caught:
                if issubclass(each.category, UserWarning):
                    notes[" ".join(str(each.message).split())] = each.category
    for note in notes:
        tell(note if what in note else f"{what}: {note}")
    for each in caught:
        if not issubclass(each.category, UserWarning):
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)


def failure(error: Exception) -> str:
    """An error's text as one line, which is also told on stderr."""
    text = " ".join(str(error).split())
    tell(text)
    return text


def student_dict(runner: Runner) -> dict[str, Any]:
    """What a JSON answer says of the student that gave it."""
    card = runner.card
    return {
        "corpus": card.get("corpus"),
        "synthetic": card.get("synthetic"),
        "stamps": [*card.get("stamps", ())],
    }


def tell_caveats(runner: Runner) -> None:
    """Say in one line what to know of a student before its answers are believed."""
    if caveat_texts := caveats(runner.card):
        tell(f"this student: {'; '.join(caveat_texts)}.")


def tell(text: str) -> None:
    """A line on stderr."""
    print(f"light-sernet-kd: {text}", file=sys.stderr)
