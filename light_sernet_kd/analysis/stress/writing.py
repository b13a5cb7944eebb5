"""The files of a result: JSON, CSV, a page and its picture."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from light_sernet_kd.analysis.stress import certificate
from light_sernet_kd.analysis.stress.students import Student
from light_sernet_kd.analysis.stress.summary import CLASS, NO_SPEECH, SEX, SPEAKER, WHOLE
from light_sernet_kd.analysis.stress.tables import (
    by_group,
    certificate_notes,
    certificate_table,
    conditions_table,
    footnotes,
    heads,
    side_by_side,
    speechless_table,
    undecided,
)
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.files import atomic, write_json, write_text
from light_sernet_kd.reporting.tables import Table
from light_sernet_kd.reporting.text import plain

PICTURE = "stress.png"


CSV_COLUMNS = (
    *("student", "precision", "condition", "group", "member", "count", "ua", "ua_low", "ua_high"),
    *("wa", "wa_low", "wa_high", "recall", "ua_to_clean", "ua_to_clean_low", "ua_to_clean_high"),
    *("mean_top_probability", "unsure", "wa_of_sure"),
)


def csv_rows(stressed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row per student, condition and group: all, a class, a speaker, a sex, without speech; shares."""
    for student in stressed["students"]:
        named = {"student": student["name"], "precision": student["precision"]}
        for row in student["conditions"]:
            about = {**named, "condition": row["condition"]}
            shares = {name: row[name] for name in ("mean_top_probability", "unsure", "wa_of_sure")}
            yield {**about, "group": WHOLE, **_flat(row), **shares}
            for member, recall in row["recall_per_class"].items():
                yield {**about, "group": CLASS, "member": member, "recall": recall}
            for group in (SPEAKER, SEX):
                for member, scored in row[f"per_{group}"].items():
                    yield {**about, "group": group, "member": member, **_flat(scored)}
        for row in student[NO_SPEECH.replace(" ", "_")]:
            shares = {name: row[name] for name in ("count", "mean_top_probability", "unsure")}
            yield {**named, "condition": row["clip"], "group": NO_SPEECH, **shares}


def _flat(scored: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: scored[name] for name in ("count", "ua", "wa")}
    for name in ("ua", "wa"):
        flat[f"{name}_low"], flat[f"{name}_high"] = scored["intervals"].get(name) or (None, None)
    change = scored["to_clean"]["ua"]
    flat["ua_to_clean"] = change["difference"]
    flat["ua_to_clean_low"], flat["ua_to_clean_high"] = change["interval"] or (None, None)
    return flat


def page(stressed: Mapping[str, Any], *, picture: str = PICTURE) -> str:
    """All of it as Markdown."""

    def section(title: str, table: Table) -> list[str]:
        return [title, "", *table.markdown(), ""]

    students = stressed["students"]
    lines = [f"# Stressed on {plain(stressed['corpus'])}", ""]
    lines += [f"> {plain(line)}  " for line in heads(stressed)]
    lines += _certificate_lines(stressed)
    lines += ["", f"![What each condition costs]({picture})", ""]
    if len(students) > 1:
        lines += section("## UA % side by side", side_by_side(stressed))
    for student in students:
        lines += section(f"## {plain(student['name'])}", conditions_table(student))
        lines += section(f"### {NO_SPEECH.capitalize()}", speechless_table(student))
        lines += section("### Recall per class, %", by_group(student, CLASS))
        for group in (SPEAKER, SEX):
            if student["conditions"][0][f"per_{group}"]:
                lines += section(f"### UA per {group}, %", by_group(student, group))
    lines += ["## Conditions", ""]
    lines += [f"- {plain(each['name'])}: {plain(each['text'])}" for each in stressed["conditions"]]
    lines += ["", f"Seed {stressed['seed']}.", "", *(f"- {plain(each)}" for each in footnotes(stressed))]
    return "\n".join(lines) + "\n"


def _certificate_lines(stressed: Mapping[str, Any]) -> list[str]:
    """The certificates as Markdown, where there are any."""
    if "sounds" not in stressed:
        return []
    lines = ["", "## Certificate", ""]
    for student in stressed["students"]:
        verdict = student["certificate"]
        lines += [f"**{plain(student['name'])}: {plain(certificate.summary(verdict))}.**", ""]
        lines += [*certificate_table(verdict).markdown(), ""]
        lines += [f"- {plain(each)}" for each in undecided(verdict)]
    return [*lines, *(f"- {plain(each)}" for each in certificate_notes(stressed))]


def write_certificates(stressed: Mapping[str, Any], students: Sequence[Student]) -> list[Path]:
    """Write `certificate.json` and `certificate.md` into the folder of each run among the students.

    Of a run's precisions those that were stressed have a verdict. Both files name the students that it is of,
    so that an export of others leaves it alone.
    """
    entries_of: dict[Path, list[Mapping[str, Any]]] = {}
    for student, entry in zip(students, stressed["students"], strict=True):
        if student.folder is not None:
            entries_of.setdefault(student.folder, []).append(entry)
    written = []
    for path, entries in entries_of.items():
        part = {**stressed, "students": entries}
        folder = RunFolder(path)
        folder.write_certificate(
            {
                "corpus": stressed["corpus"],
                "seed": stressed["seed"],
                "sounds": stressed["sounds"],
                "precisions": {
                    each["precision"]: {
                        **each["certificate"],
                        "short": certificate.short(stressed, each["certificate"]),
                    }
                    for each in entries
                },
            }
        )
        page_path = path / "certificate.md"
        title = f"# Stress certificate on {plain(stressed['corpus'])}"
        heading = [title, "", *(f"> {plain(line)}  " for line in heads(part))]
        write_text(page_path, "\n".join([*heading, *_certificate_lines(part)]) + "\n")
        written += [folder.certificate, page_path]
    return written


def write(stressed: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `stress.json`, `stress.csv`, `stress.md` and `stress.png`; returns them."""
    written = [folder / f"stress.{kind}" for kind in ("json", "csv", "md")]
    write_json(written[0], stressed)
    with atomic(written[1]) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_rows(stressed))
    written += _draw(stressed, (folder / PICTURE).with_suffix(""))
    write_text(written[2], page(stressed))
    return written


def _draw(stressed: Mapping[str, Any], path: Path) -> list[Path]:
    from light_sernet_kd.reporting import figures

    students = stressed["students"]
    synthetic = " (SYNTHETIC)" if stressed["synthetic"] else ""
    stamps = [*{stamp: None for each in students for stamp in each["stamps"]}]
    known = [each["name"] for each in students if each["heard_in_training"]]
    if known:
        stamps.append(f"{', '.join(known)}: trained on recordings of these; the drop counts, not the level")
    drawn = [
        {
            "name": each["name"],
            "classes": each["classes"],
            "ua": each["conditions"][0]["ua"],
            "changes": [row["to_clean"]["ua"] for row in each["conditions"]],
            "recalls": [[*row["recall_per_class"].values()] for row in each["conditions"]],
        }
        for each in students
    ]
    return figures.stress(
        drawn,
        [(each["name"], each["kind"]) for each in stressed["conditions"]],
        path,
        title=f"What degraded sound costs on {stressed['corpus']}{synthetic}",
        stamps=stamps,
    )


def as_json(stressed: Mapping[str, Any]) -> str:
    return json.dumps(stressed, indent=2, ensure_ascii=False, allow_nan=False)
