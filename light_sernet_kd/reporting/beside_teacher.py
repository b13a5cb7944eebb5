"""What the report says of a teacher: what it knew beforehand, and what it was worth."""

from collections.abc import Mapping
from typing import Any

from light_sernet_kd.reporting.blocks import Block, Blocks, Code, Section
from light_sernet_kd.reporting.tables import Strong, Table, numbers, words
from light_sernet_kd.reporting.text import percent, plain, points

TITLE = "Teacher, student alone, taught student"
_SIDES = {"teacher": "teacher: UA %", "alone": "student alone: UA %", "taught": "taught student: UA %"}
_GAINS = {
    "taught_less_alone": "taught minus alone",
    "teacher_less_alone": "teacher minus alone",
    "taught_less_teacher": "taught minus teacher",
}


def taught_sections(teacher: Mapping[str, Any] | None) -> list[Section]:
    """Teacher, student alone and taught student beside one another, as a section; none without a teacher.

    Args:
        teacher: what metrics.json has of it.
    """
    comparison = (teacher or {}).get("beside")
    return [Section(TITLE, _beside(comparison))] if comparison else []


def _beside(comparison: Mapping[str, Any]) -> Blocks:
    def cells(row: Mapping[str, Any]) -> list[Any]:
        # A word in a column of numbers stands as it is.
        ua = [row["ua"].get(side, "not run") for side in _SIDES]
        return [*ua, *(points(row["gains"].get(gain)) for gain in _GAINS)]

    if comparison["run"] is None:
        where: list[Block] = [
            "The student alone was not run. This command trains it; the run's own command, given again, then "
            "writes this page anew.",
            "",
            Code(comparison["command"], "sh"),
        ]
    else:
        where = [
            f"The student alone is the run {plain(comparison['run'])}: the same training without a teacher."
        ]
    columns = [*words("fold"), *numbers(*_SIDES.values(), form=percent), *words(*_GAINS.values())]
    rows = [[fold["name"], *cells(fold)] for fold in comparison["folds"]]
    footer = [Strong("pooled"), *cells(comparison["pooled"])]
    return [
        "On the same test utterances. Differences are in points of UA. In brackets stands a 95 % interval by "
        "a paired bootstrap over test speakers; none is given for fewer than 3.",
        "",
        *where,
        "",
        Table(columns, rows, footer),
    ]


def gate_lines(gate: Mapping[str, Any] | None) -> list[str]:
    """What the teacher knew beside the student alone, before any student was trained."""
    if not gate:
        return []
    sentence = plain(gate["sentence"].removeprefix("Teacher gate: "))
    if gate["cross_fitted_ua"] is not None:
        sentence += (
            " Of training utterances, each answered by what was trained without its speaker, the teacher "
            f"reaches UA {percent(gate['cross_fitted_ua'])} %."
        )
    return [f"- **Teacher gate:** {sentence[0].upper()}{sentence[1:]}"]
