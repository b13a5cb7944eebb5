"""The papers' tables anew: every published row as published and under an honest protocol, in one table.

A row's settings are those of its entry over the defaults of `Settings`: what a user edits for runs of his own
(`hyperparameters.DEFAULTS`) must not change what is published. Only the seed is taken from there.
"""

import dataclasses
import fnmatch
import glob
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd import experiment
from light_sernet_kd.config import Settings, UserError, make_settings
from light_sernet_kd.corpora.registry import CORPORA, why_absent
from light_sernet_kd.display import Display
from light_sernet_kd.files import write_json, write_text
from light_sernet_kd.protocols import PROTOCOLS
from light_sernet_kd.report import NONE, counted, markdown_table, plain


@dataclass(frozen=True)
class Row:
    """A row of a paper's table.

    Attributes:
        settings: as published, protocol included.
        honest: the protocol that keeps speakers (or sessions) and the choice of the epoch apart.
        published: `ua` and `wa` in per cent; empty where the figure is not known.
        differs: what our run does otherwise than the paper's.
    """

    name: str
    settings: Settings
    honest: str
    published: Mapping[str, float]
    differs: str


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
            differs.append(f"{counted(epochs, 'epoch')}, which is not the published number")
        rows.append(Row(name, settings, honest, entry.get("published", {}), "; ".join(differs)))
    return rows


def run(rows: Sequence[Row], places: experiment.Places, display: Display, *, command: str) -> dict[str, Any]:
    """Run every row whose corpus is here, as published and honestly; runs that are finished are only read.

    A row that cannot be run is named with its reason, and the others go on. After each row, `paper.json` and
    `paper.md` are written into the results folder.
    """
    found: dict[str, Any] = {"command": command, "rows": [], "not_run": {}}
    for row in rows:
        settings = row.settings
        try:
            if why := why_absent(
                settings.corpus, places.data, audio_type=settings.audio_type, emotions=settings.emotions
            ):
                raise UserError(why)
            metrics = {}
            for protocol in (settings.protocol, row.honest):
                display.say(f"\n{row.name}, {protocol}", always=True)
                folder = experiment.train(
                    make_settings(**{**settings.as_dict(), "protocol": protocol}),
                    dataclasses.replace(places, run=f"paper-{row.name}-{protocol}"),
                    display,
                    command=f"{command} --only {shlex.quote(glob.escape(row.name))}",
                )
                metrics[protocol] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            found["rows"].append(_outcome(row, metrics[settings.protocol], metrics[row.honest]))
        except UserError as error:
            display.say(f"not run: {row.name}: {error}", always=True)
            found["not_run"][row.name] = str(error)
        write(found, places.result)
    return found


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
    return {
        "name": row.name,
        "published": dict(row.published),
        "as_published": scores(as_published),
        "honest": scores(honest),
        "honest_less_as_published": 100 * (honest["pooled"]["ua"] - as_published["pooled"]["ua"]),
        "why": f"as published, {' and '.join(reasons)}" if reasons else "",
        "differs_from_paper": row.differs,
    }


def page(found: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    header = [
        "row", "protocol as published", "honest protocol", "published UA/WA", "ours as published UA/WA",
        "ours honest UA/WA", "95 % of honest UA", "honest less as published, UA",
    ]  # fmt: skip
    cells = []
    for row in found["rows"]:
        published, interval = row["published"], row["honest"]["ua_interval"]
        cells.append(
            [
                plain(row["name"]),
                row["as_published"]["protocol"],
                row["honest"]["protocol"],
                f"{published['ua']:.2f}/{published['wa']:.2f}" if published else NONE,
                *(f"{row[which]['ua']:.2f}/{row[which]['wa']:.2f}" for which in ("as_published", "honest")),
                f"{interval[0]:.1f} to {interval[1]:.1f}" if interval else NONE,
                f"{row['honest_less_as_published']:+.1f}",
            ]
        )
    lines = ["# The papers' tables", "", "Scores in per cent. Why they differ:", ""]
    reasons: dict[str, list[str]] = {}
    for row in found["rows"]:
        for reason in (
            row["why"],
            row["differs_from_paper"] and f"unlike the paper: {row['differs_from_paper']}",
        ):
            if reason:
                reasons.setdefault(reason, []).append(row["name"])
    lines += [f"- {plain(reason)} ({counted(len(names), 'row')})" for reason, names in reasons.items()]
    lines += ["", *markdown_table(header, cells, words=3)]
    if found["not_run"]:
        lines += ["", "Not run:", ""]
        lines += [f"- {plain(name)}: {plain(why)}" for name, why in found["not_run"].items()]
    return "\n".join([*lines, "", f"Command: `{found['command']}`", ""])


def write(found: Mapping[str, Any], folder: Path) -> None:
    write_json(folder / "paper.json", found)
    write_text(folder / "paper.md", page(found))


def show(found: Mapping[str, Any], display: Display) -> None:
    """Say a line per row."""
    for row in found["rows"]:
        published, ours, honest = row["published"], row["as_published"], row["honest"]
        figure = f"published UA {published['ua']:.2f} %" if published else "published UA not known"
        display.say(
            f"{row['name']}: {figure}; ours as published ({ours['protocol']}) {ours['ua']:.2f} %; honest "
            f"({honest['protocol']}) {honest['ua']:.2f} %: {row['honest_less_as_published']:+.1f} points, "
            f"because {row['why'] or 'nothing but chance'}",
            always=True,
        )
