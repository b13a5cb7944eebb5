"""Answers of a command as they come, in a form for programs, and what it tells on stderr beside them."""

import contextlib
import csv
import json
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from light_sernet_kd import audio
from light_sernet_kd.device import shipped
from light_sernet_kd.errors import UserError
from light_sernet_kd.runner import Runner, caveats

TEXT, JSON, JSON_LINES, CSV = "text", "json", "jsonl", "csv"
_NARROW_BAND_HZ = 8000
FORMATS = (TEXT, JSON, JSON_LINES, CSV)


class Answers:
    """Prints an answer at once, in one of `FORMATS` but text; `append` takes the next one.

    Args:
        form: `json` is one list, `jsonl` a line per answer, `csv` a table of the columns below.
        columns: the classes, and the dimensions if there are any, which are columns of the table.

    Raises:
        UserError: a column of `csv` has the name of another one.
    """

    def __init__(self, form: str, columns: Sequence[str] = ()):
        self.form, self.count = form, 0
        if form == CSV:
            taken = ("file", "text", "label", "unsure", "reason", "seconds", "windows", "error")
            if both := [name for name in columns if [*taken, *columns].count(name) > 1]:
                raise UserError(
                    f"--format csv has a column of its own called {both[0]}, as a class is: take jsonl."
                )
            self._table = csv.DictWriter(
                sys.stdout, [*taken[:-1], *columns, "error"], restval="", lineterminator="\n"
            )
            self._table.writeheader()

    def append(self, answer: Mapping[str, Any]) -> None:
        if self.form == JSON:
            text = json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False)
            print("," if self.count else "[", textwrap.indent(text, "  "), sep="\n", end="", flush=True)
        elif self.form == JSON_LINES:
            print(json.dumps(answer, ensure_ascii=False, allow_nan=False), flush=True)
        elif self.form == CSV:
            cells = {name: answer[name] for name in self._table.fieldnames if answer.get(name) is not None}
            self._table.writerow({**cells, **answer.get("probabilities", {}), **answer.get("dimensions", {})})
            sys.stdout.flush()
        self.count += 1

    def finish(self) -> None:
        if self.form == JSON:
            print("\n]" if self.count else "[]")


@contextlib.contextmanager
def answer_list(
    beginnings: Sequence[Mapping[str, Any]], form: str = JSON, columns: Sequence[str] = ()
) -> Iterator[Answers]:
    """Where to append the answers; a JSON list is closed whatever ends the command.

    What was not reached by then has an entry in the list, with the reason as its `error`. Lines and tables
    end where the command does.

    Args:
        beginnings: the beginning of each entry, in order: what names its recording or text.
    """
    answers = Answers(form, columns)
    reason = "interrupted"
    try:
        yield answers
    except Exception as error:
        reason = f"not reached: {error}"
        raise
    finally:
        if form == JSON:
            for each in beginnings[answers.count :]:
                answers.append({**each, "error": reason})
        answers.finish()


@contextlib.contextmanager
def noted(what: str) -> Iterator[dict[str, type[Warning]]]:
    """What users are warned of within, with its kind: filled at its end and told on stderr, a line each.

    It is told before an error that ends the work within.

    Args:
        what: the recording's or text's name, put before a warning that lacks it.
    """
    notes: dict[str, type[Warning]] = {}
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield notes
    finally:
        for each in caught:
            if issubclass(each.category, UserWarning):
                notes[" ".join(str(each.message).split())] = each.category
            else:
                warnings.showwarning(each.message, each.category, each.filename, each.lineno)
        for note in notes:
            tell(note if what in note else f"{what}: {note}")


def note_narrow_band(path: str) -> None:
    """Warn of a recording that was made or sent at 8 kHz, as telephones do.

    Raises:
        AudioError: it cannot be read.
    """
    rate, _, _ = audio.header(path)
    if rate <= _NARROW_BAND_HZ:
        text = f"{path} is narrow-band: recorded at {rate:,} Hz, it holds nothing above {rate // 2:,} Hz."
        warnings.warn(text, audio.AudioNote, stacklevel=2)


def failure(error: Exception) -> str:
    """An error's text as one line, which is also told on stderr."""
    text = " ".join(str(error).split())
    tell(text)
    return text


def model_facts(runner: Runner, model: str | Path) -> dict[str, Any]:
    """What an answer for programs says of the file that gave it."""
    card = runner.card
    return {
        "model": shipped.shown(model),
        "corpus": card.get("corpus"),
        "synthetic": card.get("synthetic"),
        "stamps": [*card.get("stamps", ())],
    }


def tell_model(model: str | Path | None, runner: Runner) -> None:
    """Say which student answers where none was named, and what to know of it before it is believed."""
    if model is None:
        tell(shipped.introduction())
    if caveat_texts := caveats(runner.card):
        tell(f"this student: {'; '.join(caveat_texts)}.")


_held: list[str] | None = None


@contextlib.contextmanager
def held() -> Iterator[list[str]]:
    """The lines that `tell` is given within, which then prints none: another process prints them in order."""
    global _held
    lines: list[str] = []
    _held = lines
    try:
        yield lines
    finally:
        _held = None


def tell(text: str) -> None:
    """A line on stderr."""
    if _held is not None:
        _held.append(text)
    else:
        print(f"light-sernet-kd: {text}", file=sys.stderr)
