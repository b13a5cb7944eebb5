"""What the report says of exported files, and of recordings of the speaker that a device knows."""

from collections.abc import Mapping, Sequence
from typing import Any

from light_sernet_kd.reporting.blocks import Blocks, Picture
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import interval_of, percent, plain, pluralise, points, with_percent_sign

PRECISION_PICTURE = "precision_costs.png"
ENROLLED_PICTURE = "enrolled.png"
COSTLY_POINTS = 0.5


def _costly(rows: Sequence[Mapping[str, Any]]) -> Blocks:
    """What to do about precisions that lose much, and an empty line; nothing where none does."""
    costly = [plain(row["precision"]) for row in rows if row["ua_cost_points"] > COSTLY_POINTS]
    if not costly:
        return []
    advice = "Look at the others before you ship " + ("it" if len(costly) == 1 else "one of these")
    if "int8" in costly:
        advice += "; `--qat` fine-tunes a student for int8"
    return [f"**More than {COSTLY_POINTS:g} points are lost by {' and '.join(costly)}.** {advice}.", ""]


def precisions(export: Mapping[str, Any]) -> Blocks:
    if "value_change" in export["rows"][0]:
        return _of_ratings(export)
    samples, rate, epochs = export["samples"], export["sample_rate"], export["final_epochs"]
    tested = export["rows"][0]["probability_change"]["count"]
    takes = export.get("takes", [f"{samples:,} samples at {rate:,} Hz ({samples / rate:g} s)"])
    columns = [
        *words("precision"),
        *words("file", is_code=True),
        *numbers("kB", form=",.1f"),
        *numbers("UA %", "WA %", form=percent),
        *numbers("UA lost (points)", form="z.1f"),
        *numbers("probability change: mean", "95th percentile", "largest", form=".1e"),
    ]
    rows = [
        [
            row["precision"],
            row["file"],
            row["bytes"] / 1000,
            row["ua"],
            row["wa"],
            row["ua_cost_points"],
            *(row["probability_change"][name] for name in ("mean", "p95", "max")),
        ]
        for row in export["rows"]
    ]
    return [
        f"Each file takes {' and '.join(map(plain, takes))} and gives a probability per class. "
        f"{plain(export['note'])}",
        *([] if epochs is None else [f"Epochs of the final training: {epochs:,}."]),
        "",
        Table(columns, rows),
        "",
        "The probability change is that of the folds' files against their students as trained, before any "
        f"temperature: the class that changes most, of each of {pluralise(tested, 'test utterance')}.",
        "",
        *_costly(export["rows"]),
        Picture("UA against file size for each precision", PRECISION_PICTURE),
    ]


def _of_ratings(export: Mapping[str, Any]) -> Blocks:
    """Files that give ratings alone."""
    epochs, rows = export["final_epochs"], export["rows"]
    columns = [
        *words("precision"),
        *words("file", is_code=True),
        *numbers("kB", form=",.1f"),
        *numbers(*(f"{name}: CCC" for name in rows[0]["ccc"]), form=".3f"),
        *numbers("change of a rating: mean", "95th percentile", "largest", form=".1e"),
    ]
    table = [
        [
            row["precision"],
            row["file"],
            row["bytes"] / 1000,
            *row["ccc"].values(),
            *(row["value_change"][name] for name in ("mean", "p95", "max")),
        ]
        for row in rows
    ]
    return [
        f"Each file takes {' and '.join(map(plain, export['takes']))} and gives a value per dimension. "
        f"{plain(export['note'])}",
        *([] if epochs is None else [f"Epochs of the final training: {epochs:,}."]),
        "",
        Table(columns, table),
        "",
        "The change is that of the folds' files against their students as trained, on the scale of the "
        "ratings: the dimension that changes most, of each of "
        f"{pluralise(rows[0]['value_change']['count'], 'test utterance')}.",
    ]


def enrolled(scores: Mapping[str, Any]) -> Blocks:
    """Scores where recordings of the test speaker are known."""
    columns = [
        *numbers("known recordings", form=","),
        *numbers("UA %", form=percent),
        *words("95 %", "more than with none, points"),
        *numbers("the speaker's first ones: UA %", form=percent),
    ]
    rows = [
        [
            row["clips"],
            row["ua"],
            interval_of(row.get("ci95")).strip(),
            _gain(row, scores["curve"][0]),
            first["ua"],
        ]
        for row, first in zip(scores["curve"], scores["first"], strict=True)
    ]
    other = scores["other_speaker"]
    return [
        f"Protocol **{plain(scores['protocol'])}**: some recordings of the test speaker are known to the "
        "student, without their labels. These are no strict scores, and are not to be compared with any.",
        "",
        f"{pluralise(scores['recordings'], 'recording')} of {pluralise(scores['speakers'], 'speaker')} are "
        "scored, the same ones in every row; those that may be known are not among them. Mean of "
        f"{pluralise(scores['draws'], 'draw')}.",
        "",
        Table(columns, rows),
        "",
        f"With {other['clips']} recordings of another speaker taken for the test speaker's: UA "
        f"{with_percent_sign(other['ua'])}.",
        "",
        Picture("UA against known recordings of the speaker", ENROLLED_PICTURE),
    ]


def _gain(row: Mapping[str, Any], strict: Mapping[str, Any]) -> str:
    """What the known recordings of a row are worth, in points; nothing in the row without any."""
    if not row["clips"]:
        return ""
    return points({"ua": row["ua"] - strict["ua"], "ci95": row.get("difference_ci95")})
