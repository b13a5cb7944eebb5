"""A grid's scores: repetitions with other seeds together, and whether what is compared differs.

Everything is read from the runs' folders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.analysis.grid.entries import SEED, Entry, Grid
from light_sernet_kd.analysis.grid.plan import GridFolder
from light_sernet_kd.data.run_folder import Run
from light_sernet_kd.files import read_json, write_json, write_text
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import percent, plain, pluralise

if TYPE_CHECKING:
    from light_sernet_kd.reporting.display import Display

# Of fewer, no exchange of signs is rare.
FEWEST_FOLDS = 3
METHOD = (
    "ΔUA is the mean over folds of the difference of UA, each fold's averaged over the seeds that both have. "
    "Its 95 % interval is a bootstrap over folds and, within a fold, seeds; p is that of a permutation test "
    "that exchanges the signs of the folds' differences, two-sided, and p (Holm) is corrected for all "
    f"comparisons of the table. Neither is given for fewer than {FEWEST_FOLDS} folds, nor for random splits, "
    "which overlap."
)


@dataclass(frozen=True)
class Difference:
    """How a group of runs differs from another on the same folds; shares from 0 to 1.

    Attributes:
        mean: over folds.
        low, high: 95 % interval; None for fewer than 3 folds.
        p: probability of so large a mean, either way, if the two were equally good; None likewise.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def difference(
    first: NDArray[np.float64], other: NDArray[np.float64], *, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """How `other` differs from `first`, both UA `(folds, seeds)` on the same folds with the same seeds.

    Folds are what could have been drawn otherwise: a fold's seeds are averaged before its sign is exchanged.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 15. All exchanges are
    made where they are at most `resamples`, else so many are drawn.

    >>> first = np.array([[0.50, 0.52], [0.60, 0.58], [0.70, 0.72], [0.64, 0.66]])
    >>> found = difference(first, first + 0.05)
    >>> round(found.mean, 3), round(found.low, 3), found.p
    (0.05, 0.05, 0.125)
    """
    gaps = other - first
    folds, seeds = gaps.shape
    per_fold = gaps.mean(axis=1)
    if folds < FEWEST_FOLDS:
        return Difference(float(per_fold.mean()))
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, folds, (resamples, folds, 1))
    again = rng.integers(0, seeds, (resamples, folds, seeds))
    low, high = np.percentile(gaps[drawn, again].mean(axis=(1, 2)), [2.5, 97.5])
    from scipy.stats import permutation_test

    test = permutation_test(
        (per_fold,),
        lambda values, axis: np.mean(values, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=rng,
    )
    return Difference(float(per_fold.mean()), float(low), float(high), float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for how many they are.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def scores(grid: Grid, folder: GridFolder) -> dict[str, Any]:
    """A row per group of finished runs that differ in their seed alone, each compared with its baseline.

    The baseline of a group is what has the first value of the compared setting, tested on the same
    utterances, and agrees with the group in most other settings. Runs that were made of other recordings,
    labels, teacher files or plug-ins than one another are not compared.

    Raises:
        UserError: a run's folder is damaged.
    """
    groups: dict[str, list[tuple[Entry, Run]]] = {}
    waiting: dict[str, int] = {}
    for entry in grid.entries:
        run = folder.run(entry)
        if run.is_finished:
            groups.setdefault(entry.group, []).append((entry, run.finished()))
        else:
            waiting[entry.group] = waiting.get(entry.group, 0) + 1
    rows = [_row(name, members, waiting.get(name, 0)) for name, members in groups.items()]
    for row, members in zip(rows, groups.values(), strict=True):
        row["made_of_others"] = _changed(folder, members)
    tables = [_by_fold(members) for members in groups.values()]
    members_of = [*groups.values()]
    firsts = [members[0][0] for members in members_of]
    for place, entry in enumerate(firsts):
        baseline = _baseline(place, firsts, tables, grid)
        if baseline is None or baseline == place:
            continue
        seeds = sorted({*tables[place]} & {*tables[baseline]})
        runs = [each for number in (place, baseline) for each in members_of[number] if _seed(each) in seeds]
        if changed := _changed(folder, runs):
            rows[place]["not_compared"] = {"with": firsts[baseline].group, "differ": changed}
            continue
        first, other = (
            np.array([[*table[seed].values()] for seed in seeds]).T
            for table in (tables[baseline], tables[place])
        )
        gain = difference(first, other)
        if not _has_same_folds(entry):
            gain = Difference(gain.mean)
        rows[place]["compared"] = {
            "with": firsts[baseline].group,
            "seeds": len(seeds),
            "difference": gain.mean,
            "interval": [gain.low, gain.high] if gain.low is not None else None,
            "p": gain.p,
            "p_holm": None,
        }
        rows[place]["also_differs"] = _also(entry, firsts[baseline], grid.compare)
    compared = [row["compared"] for row in rows if row["compared"] and row["compared"]["p"] is not None]
    for row, corrected in zip(compared, holm([each["p"] for each in compared]), strict=True):
        row["p_holm"] = corrected
    waits = {name: count for name, count in waiting.items() if name not in groups}
    return {"grid": grid.name, "compare": grid.compare, "method": METHOD, "rows": rows, "waiting": waits}


def _row(name: str, members: Sequence[tuple[Entry, Run]], waiting: int) -> dict[str, Any]:
    runs = [run for _, run in members]
    first = runs[0]
    ua = [run.metrics["pooled"]["ua"] for run in runs]
    int8 = [score for run in runs if (score := _int8(run)) is not None]
    return {
        "group": name,
        "corpus": first.metrics["corpus"] + (" (SYNTHETIC)" if first.metrics["synthetic"] else ""),
        "protocol": first.metrics["protocol"],
        "student": first.metrics["student"]["name"],
        "parameters": first.metrics["student"]["parameters"],
        "runs": {entry.name: run.metrics["pooled"]["ua"] for entry, run in members},
        "seeds": len(runs),
        "waiting": waiting,
        "folds": len(first.metrics["folds"]),
        "ua": float(np.mean(ua)),
        "ua_deviation": float(np.std(ua, ddof=1)) if len(ua) > 1 else None,
        "wa": float(np.mean([run.metrics["pooled"]["wa"] for run in runs])),
        "ua_int8": float(np.mean(int8)) if len(int8) == len(runs) else None,
        "stamps": sorted({stamp for run in runs for stamp in run.metrics["stamps"]}),
        "warnings": sorted({text for run in runs for text in run.metrics["warnings"]}),
        "compared": None,
        "not_compared": None,
        "made_of_others": [],
        "also_differs": [],
    }


_CONTENTS = {
    "settings": {"teacher?": (str, None)},
    "corpus_sha256?": (str, None),
    "folds_sha256?": {str: str},
    "teacher_sha256?": (str, None),
    "plugins?": [{"name": str, "sha256": str}],
}


def _changed(folder: GridFolder, members: Sequence[tuple[Entry, Run]]) -> list[str]:
    """What was not the same when each of these runs was made; nothing where their scores are of one thing.

    A plug-in or teacher that some of them name, and others do not, is no change.
    """
    # Of seeds that draw the folds, each has its own.
    contents: dict[tuple[str, int | None], set[str | None]] = {}
    for entry, _ in members:
        config = read_json(folder.run(entry).config, _CONTENTS)
        known: dict[tuple[str, int | None], str | None] = {
            ("recordings and labels", None): config.get("corpus_sha256")
        }
        for fold, members_sha256 in config.get("folds_sha256", {}).items():
            known[f"fold {fold}", entry.settings.seed] = members_sha256
        if teacher := config["settings"].get("teacher"):
            known[f"teacher {teacher}", None] = config.get("teacher_sha256")
        for plugin in config.get("plugins", []):
            known[f"plug-in {plugin['name']}", None] = plugin["sha256"]
        for key, sha256 in known.items():
            contents.setdefault(key, set()).add(sha256)
    return [*dict.fromkeys(name for (name, _), digests in contents.items() if len(digests) > 1)]


def _seed(member: tuple[Entry, Run]) -> int:
    return member[0].settings.seed


def _int8(run: Run) -> float | None:
    """UA of the folds' students as int8 files, on their own test folds; None where there are none."""
    rows = (run.metrics.get("export") or {}).get("rows", [])
    scores = [row.get("ua") for row in rows if row["precision"] == "int8"]
    return scores[0] if scores and isinstance(scores[0], float) else None


def _by_fold(members: Sequence[tuple[Entry, Run]]) -> dict[int, dict[str, float]]:
    """Seed → fold's name → UA."""
    return {
        entry.settings.seed: {fold["name"]: fold["ua"] for fold in run.metrics["folds"]}
        for entry, run in members
    }


def _has_same_folds(entry: Entry) -> bool:
    """Whether a fold is the same with every seed: else folds are no sample whose signs could be exchanged."""
    return PROTOCOLS[entry.settings.protocol].depends_on != SEED


def _baseline(
    place: int, firsts: Sequence[Entry], tables: Sequence[Mapping[int, Mapping[str, float]]], grid: Grid
) -> int | None:
    """Which group the one at `place` is compared with; None where there is none."""
    if grid.compare is None:
        return None
    entry = firsts[place]
    first_value = getattr(grid.entries[0].settings, grid.compare)
    agreeing = []
    for number, other in enumerate(firsts):
        if getattr(other.settings, grid.compare) != first_value or not _same_test(entry, other):
            continue
        seeds = {*tables[number]} & {*tables[place]}
        # A corpus that grew has other folds.
        if seeds and all([*tables[number][seed]] == [*tables[place][seed]] for seed in seeds):
            agree = sum(entry.varied[key] == other.varied[key] for key in entry.varied)
            agreeing.append((-agree, number))
    return min(agreeing)[1] if agreeing else None


# What decides which utterances are tested, in which folds.
_TEST = (
    "corpus", "columns", "audio_type", "emotions", "speakers", "skip_bad", "test_on", "protocol",
    "fold_count", "folds",
)  # fmt: skip


def _same_test(one: Entry, other: Entry) -> bool:
    return all(getattr(one.settings, key) == getattr(other.settings, key) for key in _TEST)


def _also(one: Entry, other: Entry, compare: str | None) -> list[str]:
    """The settings beside the compared one and the seed in which two groups differ."""
    # A method's teacher and weights belong to it.
    set_by_it = {"teacher", "distillation_weights"} if compare == "distillation" else set()
    return [
        key
        for key in one.varied
        if key not in {compare, SEED, *set_by_it} and one.varied[key] != other.varied[key]
    ]


def table(scored: Mapping[str, Any]) -> Table:
    """A row per group."""
    signed = partial(percent, form="+.1f")
    columns = [
        *words("runs", "corpus", "protocol", "student"),
        *numbers("seeds", "folds"),
        *numbers("UA %", "± seeds", "WA %", "int8 UA %", form=percent),
        *words("against"),
        *numbers("ΔUA", form=signed),
        *numbers("95 % of ΔUA"),
        *numbers("p", "p (Holm)", form=lambda p: "<0.001" if p < 0.001 else f"{p:.3f}"),
        *numbers("stamps"),
    ]
    rows = []
    for row in scored["rows"]:
        pair = row["compared"] or {}
        interval = pair.get("interval")
        rows.append(
            [
                *(row[name] for name in ("group", "corpus", "protocol", "student", "seeds", "folds")),
                *(row[name] for name in ("ua", "ua_deviation", "wa", "ua_int8")),
                pair.get("with"),
                pair.get("difference"),
                f"{signed(interval[0])} to {signed(interval[1])}" if interval else None,
                pair.get("p"),
                pair.get("p_holm"),
                len(row["stamps"]) or None,
            ]
        )
    made = Table(columns, rows)
    return made if any(row["ua_int8"] is not None for row in scored["rows"]) else made.without(["int8 UA %"])


def notes(scored: Mapping[str, Any]) -> list[str]:
    """What must be known to read the table."""
    lines = []
    for row in scored["rows"]:
        if row["waiting"]:
            lines.append(f"{row['group']}: {pluralise(row['waiting'], 'run')} not finished yet")
        if changed := row.get("made_of_others"):
            lines.append(f"{row['group']}: its runs are not repetitions of one: {_others(changed)}")
        elif apart := row.get("not_compared"):
            lines.append(f"{row['group']} is not compared with {apart['with']}: {_others(apart['differ'])}")
        if row["also_differs"]:
            names = ", ".join(row["also_differs"])
            lines.append(f"{row['group']} also differs from {row['compared']['with']} in {names}")
    lines += [
        f"{name}: {pluralise(count, 'run')} not finished yet" for name, count in scored["waiting"].items()
    ]
    for kind in ("stamps", "warnings"):
        owners: dict[str, list[str]] = {}
        for row in scored["rows"]:
            for text in row[kind]:
                owners.setdefault(text, []).append(row["group"])
        what = "" if kind == "stamps" else "warning: "
        lines += [f"{', '.join(groups)}: {what}{text}" for text, groups in owners.items()]
    if any(row["ua_deviation"] is not None for row in scored["rows"]):
        lines.append("± seeds: standard deviation of UA over seeds")
    if any(row["compared"] for row in scored["rows"]):
        lines.append(scored["method"])
    return lines


def _others(changed: Sequence[str]) -> str:
    return (
        f"{' and '.join(changed)} changed between the runs. Remove the folders of the older ones, and the "
        "same command makes them anew"
    )


def show(scored: Mapping[str, Any], display: "Display") -> None:
    """Print the table; what all groups have in common stands above it."""
    whole, first = table(scored), scored["rows"][0]
    common = [
        name
        for name in ("corpus", "protocol", "student", "folds")
        if all(row[name] == first[name] for row in scored["rows"])
    ]
    if common:
        shared = [pluralise(first[name], "fold") if name == "folds" else first[name] for name in common]
        display.say(f"\n{', '.join(shared)}", always=True)
    columns = zip(whole.header, *whole.rows, strict=True)
    empty = [name for name, *values in columns if all(value is None for value in values)]
    whole.without([*common, *empty]).show(display.console)
    for line in notes(scored):
        display.say(line, always=True)


def write(scored: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `scores.json`, `scores.md` and, of two groups or more, `scores.png`; returns them."""
    written = [folder / "scores.json", folder / "scores.md"]
    write_json(written[0], scored)
    page = [f"# {plain(scored['grid'])}", "", *table(scored).markdown(), ""]
    page += [f"- {plain(line)}" for line in notes(scored)]
    if len(scored["rows"]) > 1:
        from light_sernet_kd.reporting import figures

        synthetic = " (SYNTHETIC)" if any("SYNTHETIC" in row["corpus"] for row in scored["rows"]) else ""
        stamps: dict[str, list[str]] = {}
        for row in scored["rows"]:
            for stamp in row["stamps"]:
                stamps.setdefault(stamp, []).append(row["group"])
        written += figures.grid_scores(
            scored["rows"],
            folder / "scores",
            title=f"Scores of {scored['grid']}{synthetic}",
            stamps=[f"{', '.join(groups)}: {stamp}" for stamp, groups in stamps.items()],
        )
        page += ["", "![Scores of each group](scores.png)"]
    write_text(written[1], "\n".join(page) + "\n")
    return written
