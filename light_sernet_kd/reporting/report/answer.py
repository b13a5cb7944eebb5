"""What the report begins with: the scores, and what must be known to believe them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from light_sernet_kd.reporting import names
from light_sernet_kd.reporting.blocks import Blocks
from light_sernet_kd.reporting.report.dimensions import concordance, concordances
from light_sernet_kd.reporting.text import interval_of, plain, pluralise, with_percent_sign

HONEST = (
    "No stamp: an honest score. No test speaker was trained on, and nothing was chosen on test recordings."
)


class Mark(NamedTuple):
    """A sentence that stands beside the scores: a `STAMP` or a `WARNING`."""

    kind: str
    text: str


def marks(metrics: Mapping[str, Any]) -> list[Mark]:
    """What makes the scores too high, then what makes true scores worth less than they look."""
    # The run may have taken its teacher's stamps over; each is said once.
    stamps = dict.fromkeys([*metrics["stamps"], *((metrics["teacher"] or {}).get("stamps") or [])])
    warnings = metrics.get("warnings", [])
    return [*(Mark("STAMP", each) for each in stamps), *(Mark("WARNING", each) for each in warnings)]


def answer(metrics: Mapping[str, Any]) -> Blocks:
    """The first lines."""
    pooled, folds = metrics["pooled"], len(metrics["folds"])
    rated, intervals = metrics.get("dimensions"), metrics["ci95"] or {}
    warning = "**Synthetic recordings, no evidence about real speech:** " if metrics["synthetic"] else ""
    scores = [
        f"**{label} {with_percent_sign(pooled[key])}**{interval_of(intervals.get(key))}"
        for key, label in (("ua", "UA"), ("wa", "WA"))
        if metrics["classes"]
    ]
    explained = [
        *concordance(rated),
        "UA is the mean of the classes' recalls, WA the share of predictions that are right.",
    ]
    if not metrics["classes"]:
        scores = [f"CCC of {each}" for each in concordances(metrics["dimensions"])]
        explained = ["CCC is the concordance with the listeners' ratings: 1 is all, 0 is none."]
        intervals = metrics["dimensions"]["ci95"]
    marked = [f"> - **{kind}: {plain(text)}**" for kind, text in marks(metrics)]
    sure = "In brackets: 95 % interval" if any(intervals.values()) else "There is no interval"
    return [
        f"{warning}{', '.join(scores)} — {plain(names.protocol(metrics['protocol']))}, "
        f"{pluralise(pooled['count'], 'test prediction')} in {pluralise(folds, 'fold')}.",
        "",
        *(marked or [f"> {HONEST}"]),
        "",
        *explained,
        f"{sure} ({plain(metrics['ci95_method'])}).",
    ]
