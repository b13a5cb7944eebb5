"""What the report says of arousal, valence and dominance."""

from collections.abc import Mapping, Sequence
from typing import Any

from light_sernet_kd.reporting.blocks import Blocks, Picture
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import plain

TITLE = "Arousal, valence and dominance"
PICTURE = "ratings.png"
_LOSSES = {"ccc": "1 less the CCC of each batch", "mse": "the squared error"}


def between(ends: Sequence[float] | None) -> str | None:
    """Both ends of an interval; None where there is none.

    >>> between([0.41, 0.625]), between(None)
    ('0.41 to 0.62', None)
    """
    return None if ends is None else f"{ends[0]:z.2f} to {ends[1]:z.2f}"


def concordance(facts: Mapping[str, Any] | None) -> list[str]:
    """The scores in a line of Markdown; no line for a run that learnt no ratings.

    >>> concordance({"pooled": {"arousal": {"ccc": 0.5}}, "ci95": {"arousal": {"ccc": [0.4, 0.6]}}})
    ['CCC (concordance with the listeners): **arousal 0.50** [0.40, 0.60].']
    """
    return [f"CCC (concordance with the listeners): {', '.join(concordances(facts))}."] if facts else []


def concordances(facts: Mapping[str, Any]) -> list[str]:
    """The score of each dimension with its interval, in Markdown."""
    parts = []
    for name, scores in facts["pooled"].items():
        ends = (facts["ci95"].get(name) or {}).get("ccc")
        shown = "unknown" if scores["ccc"] is None else f"{scores['ccc']:z.2f}"
        interval = f" [{ends[0]:z.2f}, {ends[1]:z.2f}]" if ends else ""
        parts.append(f"**{plain(name)} {shown}**{interval}")
    return parts


def dimensions(metrics: Mapping[str, Any], export: Mapping[str, Any] | None) -> Blocks:
    """Scores over all folds and in each, and those of the exported files."""
    rated = metrics["dimensions"]
    low, high = rated["range"]
    names, pooled, last, teacher = (
        rated["names"],
        rated["pooled"],
        rated["pooled_last_epoch"],
        rated["teacher"],
    )
    columns = [*words("dimension"), *numbers("rated test utterances", form=",")]
    columns += numbers("CCC", form=".3f") + words("95 % of CCC") + numbers("Pearson", "RMSE", form=".3f")
    columns += words("95 % of RMSE") + numbers("last epoch: CCC", form=".3f")
    columns += numbers("teacher: CCC", form=".3f") if teacher else []
    rows = []
    for name in names:
        scores, ends = pooled[name], rated["ci95"][name] or {}
        facts = [scores["ccc"], between(ends.get("ccc")), scores["pearson"], scores["rmse"]]
        rows.append([name, scores["count"], *facts, between(ends.get("rmse")), last[name]["ccc"]])
        rows[-1] += [teacher[name]["ccc"]] if teacher else []
    per_fold = [
        [fold["name"], *(fold["dimensions"][name][key] for key in ("ccc", "rmse") for name in names)]
        for fold in metrics["folds"]
    ]
    heads = [f"{name}: {key}" for key in ("CCC", "RMSE") for name in names]
    unrated = [
        f"{count:,} lack a rating of {plain(name)}" for name, count in rated["unrated"].items() if count
    ]
    rest = "; these teach the emotions alone" if metrics["classes"] else ""
    return [
        f"The students were trained on ratings from {low:g} to {high:g}"
        f"{' beside the emotions' if metrics['classes'] else ''}, by "
        f"{_LOSSES.get(rated['loss'], plain(rated['loss']))}, with weight {rated['weight']:g}. CCC is the "
        f"{plain(rated['method'])}: 1 where every answer is the listeners' rating, 0 where they are "
        "unrelated. RMSE is in the unit of the ratings.",
        "",
        Table(columns, rows),
        "",
        "Intervals are the percentile bootstrap over test speakers, of whom at least 3 are needed. "
        + (f"Of the utterances, {', '.join(unrated)}{rest}." if unrated else ""),
        "",
        Table([*words("fold"), *numbers(*heads, form=".3f")], per_fold),
        "",
        Picture("The student's answers against the listeners' ratings", PICTURE),
        *(_files(names, export) if export else []),
    ]


def _files(names: Sequence[str], export: Mapping[str, Any]) -> Blocks:
    """What conversion costs."""
    rows = [
        [row["precision"], *(row["ccc"][name] for name in names)] for row in export["rows"] if "ccc" in row
    ]
    if not rows:
        return []
    columns = [*words("precision"), *numbers(*(f"{name}: CCC" for name in names), form=".3f")]
    return [
        "",
        "Of each fold's student, converted and scored on its own test fold:",
        "",
        Table(columns, rows),
    ]
