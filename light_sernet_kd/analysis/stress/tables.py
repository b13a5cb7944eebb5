"""The lines and tables of a result, as text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from light_sernet_kd.analysis.stress.summary import CLASS, NO_SPEECH, SEX
from light_sernet_kd.registries.degradations import CLEAN
from light_sernet_kd.reporting.report import NONE, counted
from light_sernet_kd.runner import SILENCE_DBFS, STEADY_DB, UNSURE_BELOW

if TYPE_CHECKING:
    from rich.console import Console


def _percent(share: float | None, form: str = ".1f") -> str:
    return NONE if share is None else format(100 * share, form)


def _range(pair: Sequence[float] | None, form: str = ".1f") -> str:
    return NONE if pair is None else f"{_percent(pair[0], form)} to {_percent(pair[1], form)}"


HEADER = (
    "condition",
    "UA %",
    "95 %",
    "ΔUA",
    "95 % of ΔUA",
    "WA %",
    "95 %",
    "mean p",
    "unsure %",
    "WA of sure %",
)


def cells(student: Mapping[str, Any]) -> list[list[str]]:
    """A row of text per condition, under `HEADER`."""
    return [
        [
            row["condition"],
            _percent(row["ua"]),
            _range(row["intervals"].get("ua")),
            _percent(row["to_clean"]["ua"]["difference"], "+.1f") if row["condition"] != CLEAN else NONE,
            _range(row["to_clean"]["ua"]["interval"], "+.1f") if row["condition"] != CLEAN else NONE,
            _percent(row["wa"]),
            _range(row["intervals"].get("wa")),
            f"{row['mean_top_probability']:.2f}",
            _percent(row["unsure"]),
            _percent(row["wa_of_sure"]),
        ]
        for row in student["conditions"]
    ]


SPEECHLESS_HEADER = ("clip", "what", "clips", "unsure %", "mean p", "answers, if they counted")


def speechless_cells(student: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            row["clip"],
            row["text"],
            str(row["count"]),
            _percent(row["unsure"], ".0f"),
            f"{row['mean_top_probability']:.2f}",
            ", ".join(f"{name} {count}" for name, count in row["answers"].items()),
        ]
        for row in student[NO_SPEECH.replace(" ", "_")]
    ]


def side_by_side(stressed: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """UA of every student under every condition, and what the others differ by from the first."""
    students = stressed["students"]
    precisions = [student["precision"] for student in students]
    short = "precision" if len({*precisions}) == len(students) else "name"
    header = ["condition"]
    for number, student in enumerate(students):
        header += [student[short], "Δ clean"] + [f"Δ {students[0][short]}", "95 %"] * (number > 0)
    lines = []
    for place, condition in enumerate(stressed["conditions"]):
        line = [condition["name"]]
        for number, student in enumerate(students):
            row = student["conditions"][place]
            to_first = row.get("to_first", {}).get("ua")
            line += [_percent(row["ua"]), _percent(row["to_clean"]["ua"]["difference"], "+.1f")]
            if number:
                line += [
                    _percent(to_first["difference"], "+.1f") if to_first else NONE,
                    _range(to_first["interval"], "+.1f") if to_first else NONE,
                ]
        lines.append(line)
    return header, lines


def by_group(student: Mapping[str, Any], group: str) -> tuple[list[str], list[list[str]]]:
    """Recall per class, or UA per speaker or sex, of each condition, in per cent."""
    conditions = student["conditions"]
    if group == CLASS:
        members = student["classes"]
        values = [[row["recall_per_class"][member] for member in members] for row in conditions]
    else:
        members = [*conditions[0][f"per_{group}"]]
        values = [[row[f"per_{group}"][member]["ua"] for member in members] for row in conditions]
    lines = [
        [row["condition"], *(_percent(value) for value in line)]
        for row, line in zip(conditions, values, strict=True)
    ]
    return ["condition", *members], lines


def heads(stressed: Mapping[str, Any]) -> list[str]:
    """What must be known before a number is read: one line per student, then the notes."""
    lines = []
    if stressed["synthetic"]:
        lines.append("SYNTHETIC recordings: no evidence about real speech.")
    alike: dict[tuple[str, str], list[str]] = {}
    for student in stressed["students"]:
        tested = f"{counted(student['utterances'], 'utterance')} of {counted(student['speakers'], 'speaker')}"
        alike.setdefault((tested, student["trained"]), []).append(
            f"{student['name']} ({student['precision']})"
        )
    for (tested, trained), names in alike.items():
        lines.append(f"{', '.join(names)} on {stressed['corpus']}, {tested}: {trained}.")
    stamps = {stamp: None for student in stressed["students"] for stamp in student["stamps"]}
    lines += [f"STAMP: {stamp}" for stamp in stamps]
    lines += [f"{note}." for note in stressed["notes"]]
    if left_out := stressed["left_out"]:
        lines.append(f"{counted(len(left_out), 'recording')} left out:")
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
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]], words: int = 1) -> None:
        shown = Table(
            box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title=Text(title), title_justify="left"
        )
        for number, name in enumerate(header):
            side: Any = "left" if number < words else "right"
            shown.add_column(Text(name), justify=side, overflow="fold", no_wrap=number == 0)
        for line in lines:
            shown.add_row(*(Text(cell) for cell in line))
        console.print(shown)

    for line in heads(stressed):
        console.print(Text(line), soft_wrap=True)
    students = stressed["students"]
    for student in students:
        # On a narrow terminal the intervals of WA go first.
        kept = [n for n in range(len(HEADER)) if console.width >= 100 or n not in (5, 6, 9)]
        lines = [[line[n] for n in kept] for line in cells(student)]
        table(student["name"], [HEADER[n] for n in kept], lines)
        table(f"{student['name']}, {NO_SPEECH}", SPEECHLESS_HEADER, speechless_cells(student), words=2)
        if any(row["per_sex"] for row in student["conditions"]):
            table(f"{student['name']}, UA % by sex", *by_group(student, SEX))
    if len(students) > 1:
        table("UA % side by side", *side_by_side(stressed))
    for line in footnotes(stressed):
        console.print(Text(line), soft_wrap=True)
