"""The papers' tables anew: every published row as published and under an honest protocol, in one table.

A row's settings are those of its entry over the defaults of `Settings`: what a user edits for runs of his own
(`hyperparameters.DEFAULTS`) must not change what is published. Only the seed is taken from there.
"""

import dataclasses
import fnmatch
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd import experiment
from light_sernet_kd.config import RunOptions, Settings, make_settings
from light_sernet_kd.corpora.registry import CORPORA, why_absent
from light_sernet_kd.data.protocols import PROTOCOLS
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError, quoted
from light_sernet_kd.experiment.outcome import why_not_run
from light_sernet_kd.files import JsonError, read_json, write_json, write_text
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import NONE, plain, pluralise


@dataclass(frozen=True)
class Row:
    """A row of a paper's table.

    Attributes:
        settings: as published, protocol included.
        honest: the protocol that keeps speakers (or sessions) and the choice of the epoch apart.
        published: `ua` and `wa` in per cent, as far as they are known.
        differs: what our run does otherwise than the paper's.
        trial: epochs of a trial, which is kept apart from the real run; None for that.
    """

    name: str
    settings: Settings
    honest: str
    published: Mapping[str, float]
    differs: str
    trial: int | None = None


def rows_of(
    experiments: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any],
    *,
    only: str = "*",
    epochs: int | None = None,
) -> list[Row]:
    """The rows whose name fits the pattern `only`.

    Args:
        experiments: name → `settings`, and where known `published` and `differs`.
        defaults: the user's own, of which the seed alone is read.
        epochs: instead of the published number, for a trial.

    Raises:
        UserError: there are none, or settings that cannot be.
    """
    names = fnmatch.filter(experiments, only)
    if not names:
        raise UserError(f"no experiment is named {only}; there are {', '.join(experiments) or 'none'}.")
    rows = []
    for name in names:
        entry = experiments[name]
        changed = {"epochs": epochs} if epochs else {}
        seed = {"seed": defaults.get("seed", Settings.seed)}
        settings = make_settings(**{**seed, **entry.get("settings", {}), **changed})
        source = CORPORA.get(settings.corpus)
        honest = "session" if source and source.sessions else "loso"
        differs = [entry["differs"]] if "differs" in entry else []
        if epochs:
            differs.append(f"{pluralise(epochs, 'epoch')}, which is not the published number")
        rows.append(Row(name, settings, honest, entry.get("published", {}), "; ".join(differs), epochs))
    return rows


def run(rows: Sequence[Row], options: RunOptions, display: Display, *, command: str) -> dict[str, Any]:
    """Run every row whose corpus is here, as published and honestly; runs that are finished are only read.

    A row that cannot be run is named with its reason, and the others go on. After each row, `paper.json` and
    `paper.md` (of a trial: `paper-trial.json` and `.md`) are written into the results folder; rows that an
    earlier call left there stay.
    """
    name = "paper-trial" if rows[0].trial else "paper"
    outcomes = _before(options.result / f"{name}.json") | {"command": command}
    for row in rows:
        settings = row.settings
        outcomes["rows"] = [other for other in outcomes["rows"] if other["name"] != row.name]
        outcomes["not_run"].pop(row.name, None)
        try:
            if why := why_absent(
                settings.corpus, options.data, audio_type=settings.audio_type, emotions=settings.emotions
            ):
                raise UserError(why)
            metrics = {}
            for protocol in (settings.protocol, row.honest):
                display.say(f"\n{row.name}, {protocol}", always=True)
                folder = experiment.train(
                    make_settings(**{**settings.as_dict(), "protocol": protocol}),
                    dataclasses.replace(options, run=f"{name}-{row.name}-{protocol}{_suffix(row)}"),
                    display,
                    command=f"{command} --only {quoted(glob.escape(row.name))}",
                )
                metrics[protocol] = read_json(RunFolder(folder).metrics)
            outcomes["rows"].append(_outcome(row, metrics[settings.protocol], metrics[row.honest]))
        except (UserError, MemoryError) as error:
            why = why_not_run(error)
            display.say(f"not run: {row.name}: {why}", always=True)
            outcomes["not_run"][row.name] = why
        write(outcomes, options.result / name)
    return outcomes


def _suffix(row: Row) -> str:
    return f"-{row.trial}" if row.trial else ""


def _before(path: Path) -> dict[str, Any]:
    """What an earlier call found; nothing where there is none, or a damaged one, since runs tell it again."""
    try:
        outcomes = read_json(path, {"rows": [_ROW], "not_run": {str: str}})
        return {"rows": outcomes["rows"], "not_run": outcomes["not_run"]}
    except (OSError, JsonError):
        return {"rows": [], "not_run": {}}


_SCORED = {"protocol": str, "ua": float, "wa": float, "ua_interval": (None, [float])}
_ROW = {
    "name": str,
    "published": {str: float},
    "as_published": _SCORED,
    "honest": _SCORED,
    "as_published_less_paper": (None, float),
    "honest_less_as_published": float,
    "why": str,
    "differs_from_paper": str,
}


def _outcome(row: Row, as_published: dict[str, Any], honest: dict[str, Any]) -> dict[str, Any]:
    def scores(metrics: dict[str, Any]) -> dict[str, Any]:
        return {
            "protocol": metrics["protocol"],
            "ua": 100 * metrics["pooled"]["ua"],
            "wa": 100 * metrics["pooled"]["wa"],
            "ua_interval": [100 * end for end in metrics["ci95"]["ua"]] if metrics["ci95"] else None,
            "stamps": metrics["stamps"],
        }

    protocol = PROTOCOLS[as_published["protocol"]]
    reasons = []
    if protocol.mixes_speakers:
        reasons.append("test speakers are also in training")
    if protocol.tests_on_validation:
        reasons.append("the test set chose the epoch")
    difference = 100 * (honest["pooled"]["ua"] - as_published["pooled"]["ua"])
    why = f"as published, {' and '.join(reasons)}" if difference < 0 else "nothing but chance: a leak adds"
    paper = 100 * as_published["pooled"]["ua"] - row.published["ua"] if "ua" in row.published else None
    return {
        "name": row.name,
        "published": dict(row.published),
        "as_published": scores(as_published),
        "honest": scores(honest),
        "as_published_less_paper": paper,
        "honest_less_as_published": difference,
        "why": why,
        "differs_from_paper": row.differs,
    }


def page(outcomes: Mapping[str, Any]) -> str:
    """The table as Markdown."""

    def ua_and_wa(scores: Mapping[str, float]) -> str:
        return "/".join(f"{scores[name]:.2f}" if name in scores else NONE for name in ("ua", "wa"))

    columns = [
        *words("row", "protocol as published", "honest protocol", "why ours differ", "unlike the paper"),
        *numbers("published UA/WA", "ours as published UA/WA", form=ua_and_wa),
        *numbers("ours less published, UA", form="+.1f"),
        *numbers("ours honest UA/WA", form=ua_and_wa),
        *numbers("95 % of honest UA", form=lambda ends: f"{ends[0]:.1f} to {ends[1]:.1f}"),
        *numbers("honest less as published, UA", form="+.1f"),
    ]
    rows = [
        [
            row["name"],
            row["as_published"]["protocol"],
            row["honest"]["protocol"],
            row["why"],
            row["differs_from_paper"] or None,
            row["published"],
            row["as_published"],
            row["as_published_less_paper"],
            row["honest"],
            row["honest"]["ua_interval"] or None,
            row["honest_less_as_published"],
        ]
        for row in outcomes["rows"]
    ]
    lines = ["# The papers' tables", "", "Scores in per cent.", "", *Table(columns, rows).markdown()]
    if outcomes["not_run"]:
        lines += ["", "Not run:", ""]
        lines += [f"- {plain(name)}: {plain(why)}" for name, why in outcomes["not_run"].items()]
    return "\n".join([*lines, "", f"Command: `{outcomes['command']}`", ""])


def write(outcomes: Mapping[str, Any], path: Path) -> None:
    """Write `<path>.json` and `<path>.md`."""
    write_json(path.with_name(f"{path.name}.json"), outcomes)
    write_text(path.with_name(f"{path.name}.md"), page(outcomes))


def show(outcomes: Mapping[str, Any], display: Display) -> None:
    """Say a line per row."""
    for row in outcomes["rows"]:
        published, ours, honest = row["published"], row["as_published"], row["honest"]
        figure = f"published UA {published['ua']:.2f} %" if "ua" in published else "published UA not known"
        display.say(
            f"{row['name']}: {figure}; ours as published ({ours['protocol']}) {ours['ua']:.2f} %; honest "
            f"({honest['protocol']}) {honest['ua']:.2f} %: {row['honest_less_as_published']:+.1f} points "
            f"({row['why']})",
            always=True,
        )
