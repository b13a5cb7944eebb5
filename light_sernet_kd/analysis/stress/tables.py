"""The lines and tables of a result, as text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from light_sernet_kd.analysis.stress.certificate import SOURCE, summary
from light_sernet_kd.analysis.stress.summary import CLASS, NO_SPEECH, SEX
from light_sernet_kd.registries.degradations import CLEAN
from light_sernet_kd.reporting.tables import Table, numbers, say, words
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.runner import SILENCE_DBFS, STEADY_DB, UNSURE_BELOW

if TYPE_CHECKING:
    from rich.console import Console

_CHANGE = ("difference", "interval")  # of a paired comparison


def _percent(share: float) -> str:
    return format(100 * share, ".1f")


def _points(share: float) -> str:
    return format(100 * share, "+.1f")


def _range(pair: Sequence[float]) -> str:
    return f"{_percent(pair[0])} to {_percent(pair[1])}"


def _range_of_points(pair: Sequence[float]) -> str:
    return f"{_points(pair[0])} to {_points(pair[1])}"


# What a narrow terminal has no room for.
_WIDE = ("WA %", "95 % of WA", "WA of sure %")
_NARROW = 100


def conditions_table(student: Mapping[str, Any], *, narrow: bool = False) -> Table:
    """A student's scores, a row per condition; fewer columns for a terminal that is narrow."""
    columns = [
        *words("condition", is_whole=True),
        *numbers("UA %", form=_percent),
        *numbers("95 % of UA", form=_range),
        *numbers("ΔUA", form=_points),
        *numbers("95 % of ΔUA", form=_range_of_points),
        *numbers("WA %", form=_percent),
        *numbers("95 % of WA", form=_range),
        *numbers("mean p", form=".2f"),
        *numbers("unsure %", "WA of sure %", form=_percent),
    ]
    rows = []
    for row in student["conditions"]:
        change = row["to_clean"]["ua"] if row["condition"] != CLEAN else dict.fromkeys(_CHANGE)
        rows.append(
            [
                *(row["condition"], row["ua"], row["intervals"].get("ua")),
                *(change[field] for field in _CHANGE),
                *(row["wa"], row["intervals"].get("wa")),
                *(row["mean_top_probability"], row["unsure"], row["wa_of_sure"]),
            ]
        )
    table = Table(columns, rows)
    return table.without(_WIDE) if narrow else table


def speechless_table(student: Mapping[str, Any]) -> Table:
    """What a student answers to clips without speech, a row per clip."""
    columns = [
        *words("clip", is_whole=True),
        *words("what"),
        *numbers("clips"),
        *numbers("unsure %", form=lambda share: format(100 * share, ".0f")),
        *numbers("mean p", form=".2f"),
        *words("answers, if they counted"),
    ]
    rows = [
        [
            *(row["clip"], row["text"], row["count"], row["unsure"], row["mean_top_probability"]),
            ", ".join(f"{name} {count}" for name, count in row["answers"].items()),
        ]
        for row in student[NO_SPEECH.replace(" ", "_")]
    ]
    return Table(columns, rows)


def side_by_side(stressed: Mapping[str, Any]) -> Table:
    """UA of every student under every condition, and what the others differ by from the first."""
    students = stressed["students"]
    precisions = [student["precision"] for student in students]
    short = "precision" if len({*precisions}) == len(students) else "name"
    columns = words("condition", is_whole=True)
    for number, student in enumerate(students):
        columns += [*numbers(student[short], form=_percent), *numbers("Δ clean", form=_points)]
        if number:
            columns += numbers(f"Δ {students[0][short]}", form=_points)
            columns += numbers("95 %", form=_range_of_points)
    rows = []
    for place, condition in enumerate(stressed["conditions"]):
        line = [condition["name"]]
        for number, student in enumerate(students):
            row = student["conditions"][place]
            line += [row["ua"], row["to_clean"]["ua"]["difference"]]
            if number:
                to_first = row.get("to_first", {}).get("ua") or {}
                line += [to_first.get(field) for field in _CHANGE]
        rows.append(line)
    return Table(columns, rows)


def by_group(student: Mapping[str, Any], group: str) -> Table:
    """Recall per class, or UA per speaker or sex, of each condition, in per cent."""
    conditions = student["conditions"]
    if group == CLASS:
        members = student["classes"]
        values = [[row["recall_per_class"][member] for member in members] for row in conditions]
    else:
        members = [*conditions[0][f"per_{group}"]]
        values = [[row[f"per_{group}"][member]["ua"] for member in members] for row in conditions]
    rows = [[row["condition"], *line] for row, line in zip(conditions, values, strict=True)]
    return Table([*words("condition", is_whole=True), *numbers(*members, form=_percent)], rows)


def heads(stressed: Mapping[str, Any]) -> list[str]:
    """What must be known before a number is read: one line per student, then the notes."""
    lines = []
    if stressed["synthetic"]:
        lines.append("SYNTHETIC recordings: no evidence about real speech.")
    alike: dict[tuple[str, str], list[str]] = {}
    for student in stressed["students"]:
        tested = (
            f"{pluralise(student['utterances'], 'utterance')} of {pluralise(student['speakers'], 'speaker')}"
        )
        alike.setdefault((tested, student["trained"]), []).append(
            f"{student['name']} ({student['precision']})"
        )
    for (tested, trained), names in alike.items():
        lines.append(f"{', '.join(names)} on {stressed['corpus']}, {tested}: {trained}.")
    stamps = {stamp: None for student in stressed["students"] for stamp in student["stamps"]}
    lines += [f"STAMP: {stamp}" for stamp in stamps]
    lines += [f"{note}." for note in stressed["notes"]]
    if left_out := stressed["left_out"]:
        lines.append(f"{pluralise(len(left_out), 'recording')} left out:")
        lines += [f"  {each['reason']}" for each in left_out]
    return lines


def footnotes(stressed: Mapping[str, Any]) -> list[str]:
    """How the columns are to be read."""
    below = sorted({student["unsure_below"] for student in stressed["students"]})
    return [
        "UA is the mean of the classes' recalls, WA the share that is right; ΔUA is against clean, in "
        "points, paired.",
        f"95 %: {stressed['ci_method']}.",
        "mean p: mean of the largest probability. unsure: that is below "
        f"{' or '.join(format(each, 'g') for each in below)} (the card's, else {UNSURE_BELOW:g}), or the "
        f"clip is digital silence (below {SILENCE_DBFS:.0f} dBFS) or its level as steady as noise's (it "
        f"moves by less than {STEADY_DB:g} dB); unsure answers count in UA and WA all the same. WA of sure: "
        "of the others.",
    ]


def show(stressed: Mapping[str, Any], console: "Console") -> None:
    """Print the tables."""
    for line in heads(stressed):
        say(console, line)
    students = stressed["students"]
    for student in students:
        name = student["name"]
        conditions_table(student, narrow=console.width < _NARROW).show(console, title=name)
        speechless_table(student).show(console, title=f"{name}, {NO_SPEECH}")
        if any(row["per_sex"] for row in student["conditions"]):
            by_group(student, SEX).show(console, title=f"{name}, UA % by sex")
    if len(students) > 1:
        side_by_side(stressed).show(console, title="UA % side by side")
    for line in footnotes(stressed):
        say(console, line)


def certificate_table(certificate: Mapping[str, Any]) -> Table:
    """A row per test of a student's certificate."""
    columns = [
        *words("kind", "test", "measure", is_whole=True),
        *numbers("passes", "value"),
        *words("verdict", "worst", is_whole=True),
    ]
    rows = [
        [
            *(row["group"], row["test"], row["measure"]),
            f"{row['rule']} {row['threshold']:g}",
            None if row["value"] is None else f"{row['value']:.3f}",
            row["verdict"],
            row["where"],
        ]
        for row in certificate["tests"]
    ]
    return Table(columns, rows)


def undecided(certificate: Mapping[str, Any]) -> list[str]:
    """Why tests neither passed nor failed, a line per reason."""
    tests: dict[str, list[str]] = {}
    for row in certificate["tests"]:
        if row["reason"]:
            tests.setdefault(f"{row['verdict']}: {row['reason']}", []).append(row["test"])
    return [f"{', '.join(dict.fromkeys(names))} {why}." for why, names in tests.items()]


def certificate_notes(stressed: Mapping[str, Any]) -> list[str]:
    """How a certificate is to be read."""
    sounds: dict[str, list[str]] = {}
    for kind, made in stressed["sounds"].items():
        sounds.setdefault(made, []).append(kind)
    notes = [
        f"Passed or failed by the {SOURCE}.",
        *(f"{', '.join(kinds)}: {made}." for made, kinds in sounds.items()),
    ]
    if known := [each["name"] for each in stressed["students"] if each["heard_in_training"]]:
        notes.append(
            f"{', '.join(known)}: trained on recordings of these; this says nothing of new speakers."
        )
    return notes


def show_certificates(stressed: Mapping[str, Any], console: "Console") -> None:
    """Print each student's certificate, its verdict last."""
    for line in heads(stressed):
        say(console, line)
    for student in stressed["students"]:
        table = certificate_table(student["certificate"])
        table = table.without(("kind",)) if console.width < _NARROW else table
        table.show(console, title=f"{student['name']}, stress certificate")
        for line in undecided(student["certificate"]):
            say(console, line)
    for line in certificate_notes(stressed):
        say(console, line)
    for student in stressed["students"]:
        say(console, f"{student['name']}: {summary(student['certificate'])}")
