"""The table of measured files, what must be known to read it, and its files."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd import evaluation
from light_sernet_kd.analysis.benchmark.timing import WARM_UP
from light_sernet_kd.files import write_json, write_text
from light_sernet_kd.reporting.tables import Table, numbers, say, words
from light_sernet_kd.reporting.text import NONE, plain, pluralise

if TYPE_CHECKING:
    from rich.console import Console


FOLDS_UA = "UA % of the folds' students"


def _names(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """As much of each path's end as tells it from the others, without what every export is called."""
    paths = [Path(each["file"]) for each in files]
    parts = [(*path.parts[:-1], path.stem.removeprefix("student_")) for path in paths]
    names = ["/".join(each) for each in parts]
    for count in range(1, max(map(len, parts)) + 1):
        shorter = ["/".join(each[-count:]) for each in parts]
        if len({*shorter}) == len({*names}):
            return shorter
    return names


def table(measured: Mapping[str, Any]) -> Table:
    """A row per fact and a column per file."""
    files = measured["files"]

    def optional(value: float | None, form: str) -> str:
        return NONE if value is None else format(value, form)

    def millions(value: float | None, form: str = ",.1f") -> str:
        return NONE if value is None else format(value / 1e6, form)

    def delegated(row: Mapping[str, Any], what: Callable[[Mapping[str, Any]], int]) -> str:
        return NONE if row["delegation"] is None else str(what(row["delegation"]))

    facts: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("student", lambda row: row["student"] or NONE),
        ("precision", lambda row: row["precision"]),
        ("takes", lambda row: row["takes"]),
        ("input (s)", lambda row: optional(row["seconds"], "g")),
        ("size (kB)", lambda row: f"{row['bytes'] / 1000:,.0f}"),
        ("parameters", lambda row: optional(row["parameters"], ",")),
        ("operators", lambda row: str(sum(row["operators"].values()))),
        ("parts that XNNPACK runs", lambda row: delegated(row, lambda taken: taken["parts"])),
        ("operators outside", lambda row: delegated(row, lambda taken: sum(taken["left"].values()))),
        ("M multiply-adds, network", lambda row: millions(row["multiply_adds"]["network"])),
        ("M multiply-adds, front end", lambda row: millions(row["multiply_adds"]["front_end"])),
        ("peak memory (MB)", lambda row: millions(row["peak_memory_bytes"])),
    ]
    for count in files[0]["latency"]:

        def latency(row: Mapping[str, Any], field: str, form: str, count: str = count) -> str:
            return optional(row["latency"][count][field], form)

        what = pluralise(int(count), "thread")
        facts += [
            (f"{what}, median (ms)", functools.partial(latency, field="median_ms", form=".2f")),
            (f"{what}, p95 (ms)", functools.partial(latency, field="p95_ms", form=".2f")),
            (f"{what}, processor (ms)", functools.partial(latency, field="processor_ms", form=".2f")),
            (f"{what}, real-time factor", functools.partial(latency, field="real_time_factor", form=".5f")),
        ]
    if "accuracy" in files[0]:
        facts += [
            ("UA %", lambda row: f"{100 * row['accuracy']['ua']:.1f}"),
            ("WA %", lambda row: f"{100 * row['accuracy']['wa']:.1f}"),
        ]
    if any(row["folds_students"] for row in files):

        def interval(row: Mapping[str, Any]) -> str:
            ends = (row["folds_students"] or {}).get("ua_interval")
            return NONE if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"

        facts += [
            (FOLDS_UA, lambda row: optional((row["folds_students"] or {}).get("ua"), ".1%").rstrip("%")),
            ("95 % of it", interval),
        ]
    columns = [*words(""), *numbers(*_names(files))]
    return Table(columns, [[name, *map(show_one, files)] for name, show_one in facts])


def notes(measured: Mapping[str, Any]) -> list[str]:
    """What must be known to read the table."""
    machine, files = measured["machine"], measured["files"]
    rounds = sorted({each["rounds"] for row in files for each in row["latency"].values()})
    counts = " to ".join(map(str, dict.fromkeys((rounds[0], rounds[-1]))))
    here = "{processor}, {cores} cores, {system}, LiteRT {ai_edge_litert}".format(**machine)
    lines = [
        f"Times: {counts} rounds in which the files took turns, after {WARM_UP} to warm up; {here}. "
        "Processor: the time that threads ran, which on one thread does not depend on what else is running.",
        f"Multiply-adds: {measured['multiply_adds']}.",
        f"Memory: {measured['peak_memory']}.",
    ]
    return lines + _notes_on_accuracy(files) + _notes_on_folds(files)


def _notes_on_accuracy(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """What files were scored on, and whether they know it; once where it is the same of several."""
    scored = {}
    for accuracy in filter(None, (row.get("accuracy") for row in files)):
        scored[tuple(value for fact, value in accuracy.items() if fact not in ("ua", "wa"))] = accuracy
    lines = []
    for accuracy in scored.values():
        left = accuracy["left_out"]
        apart = f", without {left} of emotions that the files do not know" if left else ""
        about = f"{accuracy['on']}, {pluralise(accuracy['utterances'], 'utterance')}{apart}"
        trained = accuracy["trained"]
        # The words begin small.
        words = f"This is no test: {trained}" if accuracy["trained_on"] else trained[:1].upper() + trained[1:]
        lines.append(f"UA and WA: on {about}. {words}.")
        if accuracy["texts_partly_read"]:
            lines.append(f"Of {accuracy['texts_partly_read']} texts a part was not read: they are too long.")
    return lines


def _notes_on_folds(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whose the scores of the folds' students are, a line per run."""
    lines: dict[str, None] = {}
    for card in filter(None, (row.get("folds_students") for row in files)):
        synthetic = " (SYNTHETIC recordings)" if card["synthetic"] else ""
        lines[
            f"{FOLDS_UA}: by the card, on {card['corpus']}{synthetic}, protocol {card['protocol']}, "
            f"{pluralise(len(card['folds'] or ()), 'fold')}: each fold's student in this precision, scored "
            "on its own test recordings. The file holds the run's final student, which no fold tested."
            + "".join(f" STAMP: {stamp}." for stamp in card["stamps"] or ())
        ] = None
    if not lines:
        return []
    return [*lines, f"95 % of it: {evaluation.CI_METHOD}."]


def show(measured: Mapping[str, Any], console: "Console") -> None:
    """Print the table and what must be known to read it."""
    table(measured).show(console)
    for line in notes(measured):
        say(console, line)


def write(measured: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `benchmark.json` and `benchmark.md`; returns them."""
    page = ["# Files measured", "", *table(measured).markdown()]
    page += ["", *(f"- {plain(line)}" for line in notes(measured)), ""]
    written = [folder / "benchmark.json", folder / "benchmark.md"]
    write_json(written[0], measured)
    write_text(written[1], "\n".join(page))
    return written
