"""Runs beside one another: scores with intervals, and whether their difference is more than chance.

Everything is read from the runs' folders: `metrics.json`, `config.json`, `predictions.csv`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.data.run_folder import Run
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import FEWEST_SPEAKERS, Predictions
from light_sernet_kd.files import write_json, write_text
from light_sernet_kd.reporting.tables import Table, numbers, say, words
from light_sernet_kd.reporting.text import percent, plain, pluralise

if TYPE_CHECKING:
    from rich.console import Console

PAIRED_METHOD = (
    "difference of UA, its 95 % interval by a paired bootstrap over utterances and the p-value of a paired "
    "permutation test (the two predictions of an utterance exchanged at random). Utterances of one speaker "
    "are alike, so both are a little too sure; neither knows how scores vary with the seed. Neither is given "
    f"for fewer than {FEWEST_SPEAKERS} test speakers."
)


@dataclass(frozen=True)
class Paired:
    """A run against the first one, over the same test utterances; shares from 0 to 1.

    Attributes:
        difference: UA of the run less UA of the first.
        low, high: 95 % interval of the difference; None for fewer than 3 test speakers.
        p: probability of so large a difference, either way, if the two runs were equally good; None likewise.
    """

    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def paired(
    first: Predictions,
    other: Predictions,
    *,
    speakers: int = FEWEST_SPEAKERS,
    resamples: int = 2000,
    permutations: int = 10_000,
    seed: int = 0,
) -> Paired:
    """How `other` differs from `first` on the utterances that both tested.

    Args:
        speakers: how many people spoke them. What fewer than 3 show says nothing of others, however many
            utterances there are: then there is neither an interval nor a p-value.

    Raises:
        UserError: the two did not test the same utterances, with the same labels.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 16.4 (paired bootstrap) and
    chapter 15 (permutation test); the p-value counts the observed arrangement as one of those drawn.
    """
    if not (first.classes and other.classes):
        raise UserError("a student of ratings alone names no emotion that could be right")
    place = {key: row for row, key in enumerate(zip(first.ids, first.folds, strict=True))}
    keys = list(zip(other.ids, other.folds, strict=True))
    if set(place) != set(keys) or len(place) != len(keys):
        raise UserError("they tested other utterances, or in other folds")
    rows = np.array([place[key] for key in keys])
    names = np.array(first.classes)[first.labels[rows]]
    if (names != np.array(other.classes)[other.labels]).any():
        raise UserError("their labels differ")
    right = np.array(first.classes)[first.predicted[rows]] == names
    right_other = np.array(other.classes)[other.predicted] == names
    is_class = np.equal(names[:, None], np.unique(names)[None]).astype(np.float64)
    gain = right_other.astype(np.float64) - right

    def ua_gain(counts: NDArray[Any]) -> NDArray[np.float64]:
        """Difference of UA when utterance i is drawn `counts[:, i]` times."""
        drawn = counts @ is_class
        recalls = (counts * gain) @ is_class / np.maximum(drawn, 1)
        return recalls.sum(axis=1) / (drawn > 0).sum(axis=1)

    random = np.random.default_rng(seed)
    count = len(names)
    difference = float(ua_gain(np.ones((1, count)))[0])
    if speakers < FEWEST_SPEAKERS:
        return Paired(difference)
    draws = [
        ua_gain(random.multinomial(count, np.full(count, 1 / count), size=size))
        for size in _portions(resamples, count)
    ]
    low, high = np.percentile(np.concatenate(draws), [2.5, 97.5])
    # An exchange turns the sign of an utterance's gain; the classes' sizes stay.
    weight = gain * (is_class / is_class.sum(axis=0)).sum(axis=1) / is_class.shape[1]
    as_large = 0
    for size in _portions(permutations, count):
        signs = random.integers(0, 2, (size, count), dtype=np.int8) * 2 - 1
        # rounding must not make an equal difference a smaller one
        as_large += int((np.abs(signs @ weight) >= abs(difference) - 1e-12).sum())
    return Paired(difference, float(low), float(high), (1 + as_large) / (1 + permutations))


def _portions(total: int, count: int) -> list[int]:
    """`total` draws over `count` utterances in portions that need about 32 MB each."""
    portion = max(1, 4_000_000 // count)
    return [min(portion, total - start) for start in range(0, total, portion)]


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """A row per run; every run after the first is also paired with it where both tested the same."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        metrics = run.metrics
        rated = metrics.get("dimensions", {})
        row = {
            "run": run.name,
            "corpus": metrics["corpus"] + (" (SYNTHETIC)" if metrics["synthetic"] else ""),
            "protocol": metrics["protocol"],
            "stamps": metrics["stamps"],
            "warnings": metrics["warnings"],
            "folds": len(metrics["folds"]),
            "seed": metrics["seed"],
            "student": metrics["student"]["name"],
            "distillation": run.settings["distillation"],
            "ua": metrics["pooled"].get("ua"),
            "ua_interval": (metrics["ci95"] or {}).get("ua"),
            "wa": metrics["pooled"].get("wa"),
            "ccc": {name: each["ccc"] for name, each in rated.get("pooled", {}).items()},
            "ccc_interval": {name: (each or {}).get("ccc") for name, each in rated.get("ci95", {}).items()},
            "ua_last_epoch": metrics["pooled_last_epoch"].get("ua"),
            "parameters": metrics["student"]["parameters"],
            "bytes": run.bytes_of,
            "paired": None,
            "not_paired": None,
            "test_speakers": None,
        }
        if rows:
            try:
                # Both tested the same utterances, or they are not paired.
                speakers = runs[0].test_speakers or run.test_speakers
                row["paired"] = asdict(paired(runs[0].predictions, run.predictions, speakers=len(speakers)))
                row["test_speakers"] = len(speakers)
            except UserError as error:
                row["not_paired"] = f"{run.name} is not paired with {runs[0].name}: {error}."
        rows.append(row)
    return {"first": runs[0].name, "paired_method": PAIRED_METHOD, "rows": rows}


def table(compared: dict[str, Any]) -> Table:
    """A row per run: scores, the difference to the first run, sizes."""
    signed = partial(percent, form="+.1f")
    columns = [
        *words("run", "corpus", "protocol", "student", "method"),
        *numbers("UA %", "95 %", "WA %", form=percent),
        *numbers("ΔUA", "95 % of ΔUA", form=signed),
        *numbers("p", form=lambda p: "<0.001" if p < 0.001 else f"{p:.3f}"),
        *numbers("parameters", "float32 kB", "int8 kB", form=",.0f"),
        *numbers("stamps"),
    ]
    rated = sorted({name for row in compared["rows"] for name in row["ccc"]})
    for name in rated:
        columns += [*numbers(f"CCC of {name}", form=".2f"), *words(f"95 % of CCC of {name}")]
    rows = []
    for row in compared["rows"]:
        interval, pair = row["ua_interval"], row["paired"] or {}
        is_sure = pair.get("p") is not None
        sizes = [row["bytes"].get(precision) for precision in ("float32", "int8")]
        rows.append(
            [
                *(row[name] for name in ("run", "corpus", "protocol", "student", "distillation", "ua")),
                f"{percent(interval[0])} to {percent(interval[1])}" if interval else None,
                row["wa"],
                pair.get("difference"),
                f"{signed(pair['low'])} to {signed(pair['high'])}" if is_sure else None,
                pair.get("p"),
                row["parameters"],
                *(size / 1000 if size else None for size in sizes),
                len(row["stamps"]) or None,
                *(cell for name in rated for cell in _concordance(row, name)),
            ]
        )
    return Table(columns, rows)


def _concordance(row: dict[str, Any], name: str) -> list[Any]:
    """CCC of a dimension and its interval."""
    ends = row["ccc_interval"].get(name)
    return [row["ccc"].get(name), f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else None]


def notes(compared: dict[str, Any]) -> list[str]:
    """What must be known to read the table."""
    rows = compared["rows"]
    lines = [row["not_paired"] for row in rows if row["not_paired"]]
    for row in rows:
        if row["paired"] and row["paired"]["p"] is None:
            count = row["test_speakers"]
            few = f"of {pluralise(count, 'test speaker')}" if count else "of test speakers that neither names"
            lines.append(
                f"{row['run']} against {compared['first']}: no interval and no p-value {few}; at least "
                f"{FEWEST_SPEAKERS} are needed."
            )
    lines += [f"{row['run']}: {stamp}" for row in rows for stamp in row["stamps"]]
    lines += [f"{row['run']}: warning: {warning}" for row in rows for warning in row["warnings"]]
    if any(row["paired"] for row in rows):
        lines.append(f"ΔUA against {compared['first']}, in points: {compared['paired_method']}")
    return lines


def show(compared: dict[str, Any], console: "Console") -> None:
    """Print the table, runs beside one another: a run has more facts than a terminal has room for."""
    table(compared).show(console, turned=True)
    for line in notes(compared):
        say(console, line)


def write(compared: dict[str, Any], folder: Path) -> list[Path]:
    """Write `compare.json`, `compare.md` and, of students of emotions, `size_against_ua`; returns them."""
    page = ["# Runs compared", "", *table(compared).markdown(), ""]
    page += [f"- {plain(line)}" for line in notes(compared)]
    written = [folder / "compare.json", folder / "compare.md"]
    write_json(written[0], compared)
    if any(row["ua"] is not None for row in compared["rows"]):
        written += _draw_sizes(compared, folder)
        page += ["", "![Size against UA](size_against_ua.png)"]
    write_text(written[1], "\n".join(page) + "\n")
    return written


def _draw_sizes(compared: dict[str, Any], folder: Path) -> list[Path]:
    rows = [row for row in compared["rows"] if row["ua"] is not None]
    # Where some run has no file, the size that all have: four bytes per parameter.
    exported = all("float32" in row["bytes"] for row in rows)
    points = [
        {
            "name": row["run"],
            "bytes": row["bytes"]["float32"] if exported else 4 * row["parameters"],
            "ua": row["ua"],
            **(
                dict(zip(("ua_low", "ua_high"), row["ua_interval"], strict=True))
                if row["ua_interval"]
                else {}
            ),
        }
        for row in rows
    ]
    synthetic = " (SYNTHETIC)" if any("SYNTHETIC" in row["corpus"] for row in rows) else ""
    from light_sernet_kd.reporting import figures

    stamps: dict[str, list[str]] = {}
    for row in rows:
        for stamp in row["stamps"]:
            stamps.setdefault(stamp, []).append(row["run"])
    what = "the float32 file" if exported else "the parameters in float32"
    title = f"Size of {what} against UA{synthetic}"
    return figures.size_against_ua(
        points,
        folder / "size_against_ua",
        title=title,
        stamps=[f"{', '.join(runs)}: {stamp}" for stamp, runs in stamps.items()],
        size_label=f"size of {what} (kB)",
    )
