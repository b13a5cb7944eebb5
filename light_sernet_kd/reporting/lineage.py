"""What the report says of the students that came before the run's."""

from collections.abc import Mapping, Sequence
from typing import Any

from light_sernet_kd.reporting.blocks import Blocks, Section
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import percent, plain, points

TITLE = "Generations"


def start_lines(facts: Mapping[str, Any] | None) -> list[str]:
    """Whose weights the student began with."""
    if not facts:
        return []
    synthetic = " (synthetic)" if facts["synthetic"] else ""
    layers = "all layers" if facts["classifier"] == "kept" else "all layers but the classifier"
    licence = f" Licence: {plain(facts['licence'])}." if facts["licence"] else ""
    return [
        f"- **Start:** {layers} of the run {plain(facts['run'])} on {plain(facts['corpus'])}{synthetic}, of "
        f"its student of {plain(facts['student'])}.{licence}"
    ]


def generation_sections(generations: Sequence[Mapping[str, Any]] | None) -> list[Section]:
    """The scores of each generation of students as a section; none of a single generation."""
    if not generations:
        return []
    columns = [
        *words("generation", "learnt from"),
        *numbers("UA %", form=percent),
        *words("95 %"),
        *numbers("WA %", form=percent),
        *words("UA minus that of generation 1"),
    ]
    rows = []
    for each in generations:
        number, interval = each["generation"], (each["ci95"] or {}).get("ua")
        rows.append(
            [
                str(number),
                "the run's teacher" if number == 1 else f"generation {number - 1}",
                each["ua"],
                f"[{percent(interval[0])}, {percent(interval[1])}]" if interval else "",
                each["wa"],
                points(each.get("less_first")),
            ]
        )
    lines: Blocks = [
        "Students of one shape, trained one after the other in each fold: each after the first has new "
        "weights and learns by the same losses from the one before. The last one is the run's student. "
        "Scores are over the test utterances of all folds. Differences are in points, with a 95 % interval "
        "by a paired bootstrap over test speakers; none is given for fewer than 3.",
        "",
        Table(columns, rows),
    ]
    return [Section(TITLE, lines)]
