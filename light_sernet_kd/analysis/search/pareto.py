"""The table of a search: the students that no other beats in UA, time and size; its notes and its files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd.analysis.search.folder import Search
from light_sernet_kd.analysis.search.space import Cost
from light_sernet_kd.analysis.search.trials import FAILED, KEPT, PRUNED, RUNNING
from light_sernet_kd.files import write_json, write_text
from light_sernet_kd.reporting import names
from light_sernet_kd.reporting.tables import Table, numbers, say, words
from light_sernet_kd.reporting.text import percent, plain, pluralise

if TYPE_CHECKING:
    from light_sernet_kd.reporting.display import Display


def pareto(rows: Sequence[Mapping[str, Any]], best: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of the trials in `best`, each setting once, from the largest inner UA down."""
    front = [dict(row) for row in rows if row["trial"] in best and row["same_as"] is None]
    return sorted(front, key=lambda row: (-row["inner_ua"], row["ms"], row["trial"]))


def chosen(front: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Which of the front are tested: those of the largest inner UA. No test score has a part in it."""
    return [*front[:count]]


def summary(
    search: Search, rows: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]], command: str
) -> dict[str, Any]:
    """What `pareto.json` holds."""
    counts = {name: sum(row["decision"] == name for row in rows) for name in (KEPT, PRUNED, FAILED, RUNNING)}
    return {
        "search": search.as_dict(),
        "command": command,
        "trials": len(rows),
        **counts,
        "pareto": [dict(row) for row in front],
        "scored": [
            {name: row[name] for name in ("trial", "ms", "kb", "inner_ua")}
            for row in rows
            if row["decision"] == KEPT and row["same_as"] is None
        ],
    }


def _deviation(row: Mapping[str, Any]) -> float | None:
    import numpy as np

    scores = [*row["inner_folds"].values()]
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else None


def _settings(row: Mapping[str, Any]) -> str:
    """Each value behind the name of its setting."""
    texts = []
    for name, value in row["settings"].items():
        if isinstance(value, list):
            value = "+".join(map(str, value)) or "as published"
        elif isinstance(value, dict):
            value = "+".join(f"{key} {number:g}" for key, number in value.items())
        texts.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(texts)


def table(results: Mapping[str, Any]) -> Table:
    """A row per student of the front."""
    precision = results["search"]["precision"]
    columns = [
        *numbers("trial"),
        *words("settings"),
        *numbers("parameters", form=","),
        *numbers("kB", form=",.1f"),
        *numbers("ms", form=".2f"),
        *numbers("inner UA %", "± folds", "final UA %", f"{precision} final UA %", form=percent),
        *numbers("final kB", form=",.1f"),
        *numbers("final ms", form=".2f"),
    ]
    rows = []
    for row in results["pareto"]:
        final = row["final"] or {}
        rows.append(
            [
                *(row["trial"], _settings(row), row["parameters"], row["kb"], row["ms"]),
                *(row["inner_ua"], _deviation(row)),
                *(final.get(name) for name in ("ua", "file_ua", "kb", "ms")),
            ]
        )
    return Table(columns, rows)


def notes(results: Mapping[str, Any], search: Search) -> list[str]:
    """What must be known to read the table."""
    outer = ", ".join(search.settings.folds)
    lines = [
        f"{pluralise(results['trials'], 'trial')}: {results[KEPT]} scored, {results[PRUNED]} over a budget "
        f"and not trained, {results[FAILED]} failed, {results[RUNNING]} not finished. choices.jsonl has each "
        "with its reason.",
        f"Budget: {search.budget}.",
        f"kB, ms and parameters: of the exported {search.precision} file with the front end as the settings "
        "say, before any training; ms is processor time on one thread, median. No estimate is among them.",
        f"inner UA: {pluralise(search.inner, 'fold')} of the speakers {', '.join(search.search_speakers)}, "
        "float32 student; ± is the standard deviation over folds. It chose, so it is optimistic.",
        f"final UA: folds {outer} of {search.settings.protocol}, speakers "
        f"{', '.join(search.test_speakers)}, who trained, validated and chose nothing in the search. It is "
        "computed once. A student chosen by it has no honest score.",
    ]
    for row in results["pareto"]:
        if (final := row["final"]) and final.get("kb") is not None:
            cost = Cost(final["kb"], final["ms"], final["ms"], row["parameters"])
            if over := search.budget.exceeded(cost):
                lines.append(f"trial {row['trial']}: its final file is over the budget: {'; '.join(over)}.")
        if stamps := sorted({*row["stamps"], *((row["final"] or {}).get("stamps", []))}):
            lines.append(f"trial {row['trial']}: STAMP: {'; '.join(stamps)}.")
    return lines


def show(results: Mapping[str, Any], search: Search, display: "Display") -> None:
    whole = table(results)
    columns = zip(whole.header, *whole.rows, strict=True)
    empty = [name for name, *values in columns if all(value is None for value in values)]
    # A terminal has no room for the settings beside the numbers.
    whole.without([*empty, "settings"]).show(display.console)
    for row in results["pareto"]:
        say(display.console, f"trial {row['trial']}: {_settings(row)}")
    for line in notes(results, search):
        say(display.console, line)


def write(results: Mapping[str, Any], search: Search, folder: Path, *, synthetic: bool) -> list[Path]:
    """Write `pareto.json`, `pareto.md` and the picture `pareto`; returns them."""
    from light_sernet_kd.reporting import figures

    marked = " (SYNTHETIC)" if synthetic else ""
    title = f"Search on {search.settings.corpus}{marked}: {names.student(search.settings.student)}"
    written = [folder / "pareto.json", folder / "pareto.md"]
    write_json(written[0], results)
    written += figures.pareto(
        results["pareto"],
        results["scored"],
        folder / "pareto",
        title=title,
        most_ms=search.budget.ms,
        stamps=sorted({stamp for row in results["pareto"] for stamp in row["stamps"]}),
    )
    page = [f"# {plain(title)}", "", *table(results).markdown(), ""]
    page += [f"- {plain(line)}" for line in notes(results, search)]
    page += ["", "![UA over time](pareto.png)", "", "The command that trains and tests each:", ""]
    for row in results["pareto"]:
        page += [f"Trial {row['trial']}:", "", "```sh", row["command"], "```", ""]
    write_text(written[1], "\n".join(page))
    return written
