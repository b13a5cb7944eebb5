"""Runs of one training that differ in the seed alone: each one's scores, their mean and standard deviation.

Everything is read from the runs' folders.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.data.run_folder import Run
from light_sernet_kd.evaluation import SUMMARIES
from light_sernet_kd.files import write_json, write_text
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import percent, plain

METHOD = (
    "mean ± standard deviation over the seeds (with n - 1). It tells how scores vary with weights and order "
    "of training, on the same test speakers; a run's own interval tells how they vary with the speakers."
)
# Before the name of a dimension.
_CCC = "CCC of "
_SCORES = {"ua": "UA %", "wa": "WA %", "macro_f1": "macro F1 %", "weighted_f1": "weighted F1 %"}
# Of runs with a teacher whose student alone was trained too.
_BESIDE = {"alone": "student alone: UA %", "gain": "taught minus alone, points"}


def seeds(runs: Sequence[Run]) -> dict[str, Any]:
    """A row per run, and of each score its mean and standard deviation; None of fewer than two runs."""
    rows = [_row(run) for run in runs]
    rated = [f"{_CCC}{name}" for name in runs[0].metrics.get("dimensions", {}).get("pooled", {})]
    known = [*_SCORES, *rated, *_BESIDE]
    columns = [name for name in known if all(row.get(name) is not None for row in rows)]
    values = {name: np.array([row[name] for row in rows]) for name in columns}
    several = len(rows) > 1
    return {
        "rows": rows,
        "mean": {name: float(each.mean()) for name, each in values.items()},
        "sd": {name: float(each.std(ddof=1)) if several else None for name, each in values.items()},
        "method": METHOD,
        "folds_by_seed": PROTOCOLS[runs[0].metrics["protocol"]].depends_on == "seed",
        "synthetic": runs[0].metrics["synthetic"],
    }


def _row(run: Run) -> dict[str, Any]:
    metrics = run.metrics
    rated = metrics.get("dimensions", {}).get("pooled", {})
    beside = ((metrics.get("teacher") or {}).get("beside") or {}).get("pooled") or {}
    gain = (beside.get("gains") or {}).get("taught_less_alone") or {}
    return {
        "run": run.name,
        "seed": metrics["seed"],
        **{name: metrics["pooled"].get(name) for name in SUMMARIES},
        **{f"{_CCC}{name}": each["ccc"] for name, each in rated.items()},
        "ua_interval": (metrics["ci95"] or {}).get("ua"),
        "alone": (beside.get("ua") or {}).get("alone"),
        "gain": gain.get("ua"),
        "stamps": metrics["stamps"],
        "warnings": metrics.get("warnings", []),
    }


def table(summary: Mapping[str, Any]) -> Table:
    """A row per seed, then the mean with its standard deviation."""
    names = [*summary["mean"]]
    titles = {**_SCORES, **_BESIDE}
    signed = partial(percent, form="+.1f")
    has_classes = "ua" in names
    columns = [*words("run"), *numbers("seed"), *(words("95 % of UA") if has_classes else [])]
    columns += [
        column
        for name in names
        for column in numbers(
            titles.get(name, name),
            form=".3f" if name.startswith(_CCC) else signed if name == "gain" else percent,
        )
    ]
    rows = []
    for row in summary["rows"]:
        ends = row["ua_interval"]
        between = f"{percent(ends[0])} to {percent(ends[1])}" if ends else None
        first = [row["run"], row["seed"], *([between] if has_classes else [])]
        rows.append([*first, *(row[name] for name in names)])
    empty = [""] * (2 if has_classes else 1)
    return Table(columns, rows, ["mean ± sd", *empty, *(_with_deviation(summary, name) for name in names)])


def _with_deviation(values: Mapping[str, Any], name: str) -> str:
    if name.startswith(_CCC):
        deviation = values["sd"][name]
        return f"{values['mean'][name]:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")
    mean = percent(values["mean"][name], "+.1f" if name == "gain" else ".1f")
    return mean if values["sd"][name] is None else f"{mean} ± {percent(values['sd'][name])}"


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What must be known to read the table, without full stops where the runs say it."""
    lines = ["Synthetic recordings: no evidence about real speech."] if summary["synthetic"] else []
    lines.append(f"{summary['method'][0].upper()}{summary['method'][1:]}")
    if summary["folds_by_seed"]:
        lines.append("The protocol draws its folds by the seed: the test utterances differ as well.")
    for kind in ("stamps", "warnings"):
        sentences: dict[str, list[str]] = {}
        for row in summary["rows"]:
            for text in row[kind]:
                sentences.setdefault(text, []).append(str(row["seed"]))
        word = kind.removesuffix("s")
        lines += [f"Seed {', '.join(at)}: {word}: {text}" for text, at in sentences.items()]
    return lines


def write(summary: Mapping[str, Any], name: str, result: Path) -> list[Path]:
    """Write `NAME-seeds.md`, `.json` and `.csv` into the folder of results; returns them."""
    written = [result / f"{name}-seeds.{kind}" for kind in ("md", "json", "csv")]
    made = table(summary)
    lines = [f"# {plain(name)}: {len(summary['rows'])} seeds", "", *made.markdown(), ""]
    lines += [f"- {plain(line)}" for line in notes(summary)]
    write_text(written[0], "\n".join(lines) + "\n")
    write_json(written[1], dict(summary))
    write_text(written[2], made.csv())
    return written
