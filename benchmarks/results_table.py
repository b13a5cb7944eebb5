"""The tables of distillation in docs/results.md, from records of runs that lie in docs/results/runs.

    python benchmarks/results_table.py record result/robust-1 result/KD-1 --data DIR
    python benchmarks/results_table.py table [--untouched]
    python benchmarks/results_table.py prices
    python benchmarks/results_table.py commands

`record` writes what a finished run scored, with its command, to a small JSON file: a confusion matrix per
test speaker, from which every score and interval of the tables follows. `table` prints Markdown, and for each
run of the grids `GRID_FILES` that has no record a line that says so, with its command. `prices` prints what
is left of a score made as papers make it when one liberty after another is given up. `commands` prints what
made the runs.

Rows are runs that differ in their seed alone. The interval is a percentile bootstrap of 10,000 draws over
test speakers and, within a draw, over seeds; of a difference, of the same speakers and seeds on both sides.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.config import Settings

RECORDS = Path("docs/results/runs")
GRIDS = Path("benchmarks")
GRID_FILES = ("teaching_*.toml", "reproduction_*.toml")
DRAWS = 10_000
_DEFAULTS = Settings()
# What of a run's settings makes a row.
_KEYS = (
    "recipe", "distillation", "distillation_weights", "teacher", "teacher_view", "standardise_speakers",
    "teacher_views", "generations", "start_from", "epochs", "keep", "student", "unlabelled", "folds",
)  # fmt: skip
# From the score as published to the honest one: where the speakers are, and what the epoch is chosen on.
STEPS = {
    "random": ("known", "test set"),
    "published": ("new", "test set"),
    "loso": ("new", "validation speaker"),
    "session": ("new", "validation session"),
    "group_kfold": ("new", "validation speakers"),
}
# Speakers on whom no variant was tried before the choices of docs/results/choices.md were made.
UNTOUCHED = {
    "EMO-DB": tuple(str(number) for number in range(11, 17)),
    "RAVDESS": tuple(f"{number:02d}" for number in range(5, 25)),
}
# Settings by which runs of one price list differ.
_OF_STEPS = ("teacher", "standardise_speakers", "folds")


def record(folder: Path, data: Path) -> dict[str, Any]:
    """What the tables need of a finished run."""
    from light_sernet_kd.config import fields, make_settings
    from light_sernet_kd.data.run_folder import RunFolder
    from light_sernet_kd.data.selection import selected
    from light_sernet_kd.evaluation.scoring import confusion

    run = RunFolder(folder).finished()
    settings = make_settings(**run.settings)
    selection = selected(settings, data)
    matrices: dict[str, dict[str, np.ndarray]] = {}
    for fold in selection.folds:
        with np.load(folder / f"fold-{fold.name}" / "test_logits.npz") as file:
            logits = {name: file[name] for name in file.files}
        speakers = np.array([selection.utterances[i].speaker for i in fold.test])
        labels = selection.labels[list(fold.test)]
        for what, values in logits.items():
            for speaker in np.unique(speakers):
                mine = speakers == speaker
                found = confusion(labels[mine], values[mine].argmax(axis=1), selection.classes)
                # Of random splits, several test the same speaker.
                of_speakers = matrices.setdefault(what, {})
                of_speakers[str(speaker)] = of_speakers.get(str(speaker), 0) + found
    metrics = run.metrics
    told = dict(run.settings)
    if told.get("unlabelled"):  # where it lay is this machine's
        told["unlabelled"] = f"data/{Path(told['unlabelled']).name}"
    teacher = metrics["teacher"] and {
        name: metrics["teacher"][name] for name in ("name", "made_by", "licence", "known_speakers", "stamps")
    }
    return {
        "run": run.name,
        "command": " ".join(["python train.py", *fields.spelled(make_settings(**told)), "--run", run.name]),
        "settings": {name: told[name] for name in (*_KEYS, "seed") if name in told},
        "corpus": metrics["corpus"],
        "protocol": metrics["protocol"],
        "stamps": metrics["stamps"],
        "folds": len(metrics["folds"]),
        "classes": list(selection.classes),
        "teacher": teacher,
        "parameters": metrics["student"]["parameters"],
        "seconds": round(sum(fold["seconds"] for fold in metrics["folds"])),
        "confusion": {
            what: {speaker: found.tolist() for speaker, found in of_speakers.items()}
            for what, of_speakers in matrices.items()
        },
    }


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed alone.

    Attributes:
        matrices: confusion matrices `(seeds, speakers, classes, classes)`.
        teacher: likewise of the teacher's own answers; None where there is none.
    """

    name: str
    records: Sequence[Mapping[str, Any]]
    speakers: Sequence[str]
    matrices: np.ndarray
    teacher: np.ndarray | None

    @property
    def seeds(self) -> list[int]:
        return [each["settings"]["seed"] for each in self.records]

    @property
    def of(self) -> tuple[str, str, str]:
        """What must be equal for two rows to be compared: corpus, protocol and recipe but for the teacher."""
        first = self.records[0]
        recipe = first["settings"]["recipe"]
        return first["corpus"], first["protocol"], "robust" if recipe == "distilled" else recipe


def read_records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def identity(corpus: str, protocol: str, settings: Mapping[str, Any], *, but: Sequence[str] = ()) -> str:
    """What runs of one row have in common; `but` names settings that may differ."""
    # A record from before a setting was known has what it is where nobody gives it.
    values = [settings.get(name, getattr(_DEFAULTS, name)) for name in _KEYS if name not in but]
    return json.dumps([corpus, protocol, *values])


def method_name(settings: Mapping[str, Any]) -> str:
    name = "ours" if settings["recipe"] == "distilled" else str(settings["distillation"])
    clips = settings.get("unlabelled")
    return f"{name} --unlabelled {Path(clips).name}" if clips else name


def rows_of(folder: Path) -> list[Row]:
    """The rows of the records in a folder: of a corpus first those without a teacher."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for each in read_records(folder):
        groups.setdefault(identity(each["corpus"], each["protocol"], each["settings"]), []).append(each)
    rows = []
    for records in groups.values():
        records = sorted(records, key=lambda each: each["settings"]["seed"])
        speakers = sorted(records[0]["confusion"]["selected"])
        if any(sorted(each["confusion"]["selected"]) != speakers for each in records):
            raise SystemExit(
                f"{records[0]['run']} and its other seeds test other speakers: record whole runs."
            )

        def stacked(what: str, records=records, speakers=speakers) -> np.ndarray:
            return np.array([[each["confusion"][what][name] for name in speakers] for each in records])

        taught = records[0]["teacher"] is not None
        name = method_name(records[0]["settings"])
        teacher = stacked("teacher") if taught else None
        rows.append(Row(name, records, speakers, stacked("selected"), teacher))
    return sorted(rows, key=lambda row: (*row.of, row.teacher is not None, row.name))


def ua(matrices: np.ndarray) -> np.ndarray:
    """Mean recall `(…)` of confusion matrices `(…, classes, classes)`; a class that none has is left out."""
    counts = matrices.sum(axis=-1)
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nanmean(np.where(counts > 0, hits / counts, np.nan), axis=-1)


def wa(matrices: np.ndarray) -> np.ndarray:
    return np.trace(matrices, axis1=-2, axis2=-1) / matrices.sum(axis=(-2, -1))


def pooled(matrices: np.ndarray, measure=ua) -> float:
    """The mean over seeds of a measure of all speakers together."""
    return float(measure(matrices.sum(axis=1)).mean())


def drawn(matrices: np.ndarray, draws: int = DRAWS, seed: int = 0, measure=ua) -> np.ndarray:
    """A measure `(draws,)` of speakers drawn with replacement, meaned over seeds that are drawn too.

    Rows of as many seeds and speakers get the same draws.
    """
    random, (seeds, speakers) = np.random.default_rng(seed), matrices.shape[:2]
    counts = random.multinomial(speakers, np.full(speakers, 1 / speakers), size=draws)
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    by_seed = np.stack([measure(np.tensordot(counts, each, axes=1)) for each in matrices], axis=1)
    return (weights * by_seed).sum(axis=1)


def interval(values: np.ndarray) -> str:
    low, high = np.percentile(100 * values, [2.5, 97.5])
    return f"[{low:.1f}, {high:.1f}]"


def difference(row: Row, alone: Row, measure=ua) -> str:
    """How a measure differs over the seeds and the speakers that both have, with its interval."""
    seeds, speakers = (
        sorted({*mine} & {*others})
        for mine, others in ((row.seeds, alone.seeds), (row.speakers, alone.speakers))
    )
    if not seeds or not speakers:
        return f"no {'speaker' if seeds else 'seed'} in common"
    taught, plain = (
        each.matrices[
            np.ix_([each.seeds.index(seed) for seed in seeds], [each.speakers.index(one) for one in speakers])
        ]
        for each in (row, alone)
    )
    change = 100 * (pooled(taught, measure) - pooled(plain, measure))
    return f"{change:+.1f} {interval(drawn(taught, measure=measure) - drawn(plain, measure=measure))}"


def at_last(row: Row) -> Row:
    """The same students with the weights of their last epoch."""
    matrices = [[each["confusion"]["last"][name] for name in row.speakers] for each in row.records]
    return replace(row, matrices=np.array(matrices))


def scores(row: Row) -> tuple[str, str]:
    """UA with its interval, and WA."""
    ends = interval(drawn(row.matrices))
    return f"{100 * pooled(row.matrices):.1f} {ends}", f"{100 * pooled(row.matrices, wa):.1f}"


def price_lists(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that differ in protocol, folds and teacher alone, where one of them is as papers score."""
    lists: dict[str, list[Row]] = {}
    for row in rows:
        first = row.records[0]
        lists.setdefault(identity(first["corpus"], "", first["settings"], but=_OF_STEPS), []).append(row)

    def place(row: Row) -> tuple[int, bool]:
        first = row.records[0]
        # A teacher that may know the test speakers is one more liberty.
        leaks = first["teacher"] is not None and bool(first["teacher"]["stamps"])
        return [*STEPS].index(first["protocol"]), not leaks

    return [
        sorted(each, key=place)
        for each in lists.values()
        if {"random", "published"} & {row.records[0]["protocol"] for row in each}
    ]


def prices(folder: Path) -> str:
    """Of each score as papers make it, what giving up one liberty after another leaves of it, as Markdown."""
    lines: list[str] = []
    for steps in price_lists(rows_of(folder)):
        first = steps[0].records[0]
        settings = first["settings"]
        student = settings.get("student", _DEFAULTS.student)
        lines += [
            "",
            f"{first['corpus']}, recipe `{settings['recipe']}`, `{student}`, `{steps[0].name}`:",
            "",
            "| Protocol | Test speakers | Epoch by | Teacher | Folds | UA | WA | UA minus the row above "
            "| Last epoch: UA | WA | UA minus the row above | UA of the choice minus the last |",
            "|---" * 12 + "|",
        ]
        for row, above in zip(steps, [None, *steps], strict=False):
            record = row.records[0]
            teacher, last = record["teacher"], at_last(row)
            cells = [
                f"`{record['protocol']}`",
                *STEPS[record["protocol"]],
                (teacher["made_by"] + (", stamped" if teacher["stamps"] else "")) if teacher else "",
                str(record["folds"]),
                *scores(row),
                difference(row, above) if above else "",
                *scores(last),
                difference(last, at_last(above)) if above else "",
                difference(row, last),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def among(row: Row, speakers: Sequence[str]) -> Row:
    """The same row with these of its speakers alone."""
    kept = [name for name in row.speakers if name in speakers]
    places = [row.speakers.index(name) for name in kept]
    return replace(
        row,
        speakers=kept,
        matrices=row.matrices[:, places],
        teacher=None if row.teacher is None else row.teacher[:, places],
    )


def table(folder: Path, *, untouched: bool = False) -> str:
    """Of each corpus and recipe, as Markdown; `untouched` leaves only speakers on whom nothing was chosen."""
    every, lines, before = rows_of(folder), [], None
    apart = {id(row) for each in price_lists(every) for row in each}
    rows = [row for row in every if id(row) not in apart]
    if untouched:
        rows = [among(row, UNTOUCHED[row.of[0]]) for row in rows if row.of[0] in UNTOUCHED]
    for row in rows:
        if row.of != before:
            corpus, protocol, recipe = before = row.of
            lines += [
                "",
                f"{corpus}, `{protocol}`, recipe `{recipe}`"
                + (f", speakers {row.speakers[0]} to {row.speakers[-1]}:" if untouched else ":"),
                "",
                "| Method | Teacher | Teacher's UA | Seeds | UA | WA | WA minus `pure` | UA minus `pure` |",
                "|---" * 8 + "|",
            ]
        alone = next((each for each in rows if each.of == row.of and each.teacher is None), None)
        taught = row.teacher is not None
        cells = [
            f"`{row.name}`",
            row.records[0]["teacher"]["made_by"] if taught else "",
            f"{100 * pooled(row.teacher):.1f}" if row.teacher is not None else "",
            ", ".join(map(str, row.seeds)),
            *scores(row),
            difference(row, alone, wa) if taught and alone else "",
            difference(row, alone) if taught and alone else "" if not taught else "`pure`: not run",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def not_run(folder: Path, grids: Path) -> str:
    """The runs of the grids that have no record, as Markdown: a line for the seeds of each row."""
    from light_sernet_kd.analysis.grid import read_grid
    from light_sernet_kd.config import fields
    from light_sernet_kd.errors import command_line

    known = {
        (identity(each["corpus"], each["protocol"], each["settings"]), each["settings"]["seed"])
        for each in read_records(folder)
    }
    lines = []
    for path in [path for pattern in GRID_FILES for path in sorted(grids.glob(pattern))]:
        missing: dict[str, list[Any]] = {}
        for entry in read_grid(path, Path("data")).entries:
            # As a run's folder has them: JSON knows no tuples.
            settings = json.loads(
                json.dumps({name: getattr(entry.settings, name) for name in (*_KEYS, "seed")})
            )
            same = identity(entry.settings.corpus, entry.settings.protocol, settings)
            if (same, settings["seed"]) not in known:
                missing.setdefault(same, []).append(entry.settings)
        if missing and not lines:
            lines = ["| Not run | Protocol, recipe | Teacher | Seeds | Command |", "|---|---|---|---|---|"]
        for first, *others in missing.values():
            values = {name: getattr(first, name) for name in _KEYS}
            seeds = [each.seed for each in (first, *others)]
            cells = [
                f"{first.corpus}, `{method_name(values)}`",
                f"`{first.protocol}`, `{first.recipe}`",
                first.teacher or "",
                ", ".join(map(str, seeds)),
                f"`{command_line(['python', 'train.py', *fields.spelled(first)])}`",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def commands(folder: Path) -> str:
    """Of each row, with the seeds in one line."""
    found = []
    for row in rows_of(folder):
        first = row.records[0]
        found.append(f"{first['command']}  # seeds {', '.join(map(str, row.seeds))}")
    return "\n".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    todo = parser.add_subparsers(dest="what", required=True)
    recording = todo.add_parser("record")
    recording.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    recording.add_argument("--data", type=Path, default=Path("data"))
    for each in (recording, *map(todo.add_parser, ("table", "prices", "commands"))):
        each.add_argument("--records", type=Path, default=RECORDS)
    todo.choices["table"].add_argument(
        "--grids", type=Path, default=GRIDS, help="the folder of teaching_*.toml"
    )
    todo.choices["table"].add_argument(
        "--untouched", action="store_true", help="only speakers on whom no choice was made"
    )
    arguments = parser.parse_args()
    if arguments.what == "record":
        from light_sernet_kd.files import write_text

        arguments.records.mkdir(parents=True, exist_ok=True)
        for folder in arguments.runs:
            made = record(folder, arguments.data)
            write_text(arguments.records / f"{made['corpus']}-{made['run']}.json", json.dumps(made) + "\n")
    elif arguments.what == "table" and arguments.untouched:
        print(table(arguments.records, untouched=True))
    else:
        print({"table": table, "prices": prices, "commands": commands}[arguments.what](arguments.records))
        if arguments.what == "table" and (rest := not_run(arguments.records, arguments.grids)):
            print(f"\n{rest}")


if __name__ == "__main__":
    main()
