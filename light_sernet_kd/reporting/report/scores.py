"""What the report says of the folds and of the classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from light_sernet_kd.config.settings.choices import BEST, LAST, MEAN
from light_sernet_kd.reporting.blocks import Blocks
from light_sernet_kd.reporting.tables import Strong, Table, numbers, words
from light_sernet_kd.reporting.text import NONE, percent

SCORES = {"ua": "UA", "wa": "WA", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}


def _people(names: Sequence[str]) -> str:
    return f"{len(names)} speakers" if len(names) > 8 else ", ".join(names) or NONE


_KEPT = {
    BEST: "The *kept epoch* is the one whose weights the protocol chose; the *last epoch* is what the same "
    "training gives without any choice.",
    LAST: "The weights of the last epoch were kept.",
    MEAN: "The mean of the weights over the last quarter of the epochs was kept; the *last epoch* is what "
    "the same training gives without a mean.",
}


def folds(metrics: Mapping[str, Any], keep: str = BEST) -> Blocks:
    """What each fold was and scored; `keep`, as in the settings, says which weights training ended with."""
    if not metrics["classes"]:
        return _folds_of_ratings(metrics, keep)
    columns = [
        *words("fold", "test speakers", "validation speakers"),
        *numbers("kept epoch", "of epochs", form=","),
        *numbers(*SCORES.values(), "last epoch: UA", "last epoch: WA", form=percent),
        *numbers("seconds", form=",.0f"),
    ]
    rows = []
    for fold in metrics["folds"]:
        last = fold["last_epoch"] or {}
        rows.append(
            [
                fold["name"],
                _people(fold["test_speakers"]),
                _people(fold["validation_speakers"]),
                _kept_epoch(fold, keep),
                fold["epochs"],
                *(fold[key] for key in SCORES),
                last.get("ua"),
                last.get("wa"),
                fold["seconds"],
            ]
        )
    last = metrics["pooled_last_epoch"] or {}
    pooled = [Strong(metrics["pooled"][key]) for key in SCORES]
    footer = [Strong("pooled"), *[""] * 4, *pooled, last.get("ua"), last.get("wa"), ""]
    means = [
        f"{label} {percent(mean)} ± {percent(deviation)}"
        for key, label in SCORES.items()
        if metrics["mean_over_folds"].get(key)
        for mean, deviation in [metrics["mean_over_folds"][key]]
    ]
    return [
        "In per cent. *Pooled* scores the test predictions of all folds together and is the answer above. "
        + _KEPT[keep],
        "",
        Table(columns, rows, footer),
        *(["", f"Mean over folds ± standard deviation: {', '.join(means)}."] if means else []),
    ]


def _kept_epoch(fold: Mapping[str, Any], keep: str) -> int | None:
    """None of a mean, which is of no one epoch."""
    return None if keep == MEAN else fold["best_epoch"]


def _folds_of_ratings(metrics: Mapping[str, Any], keep: str) -> Blocks:
    """What each fold was, whose scores stand with those of all folds."""
    columns = [
        *words("fold", "test speakers", "validation speakers"),
        *numbers("kept epoch", "of epochs", form=","),
        *numbers("seconds", form=",.0f"),
    ]
    rows = [
        [
            fold["name"],
            _people(fold["test_speakers"]),
            _people(fold["validation_speakers"]),
            _kept_epoch(fold, keep),
            fold["epochs"],
            fold["seconds"],
        ]
        for fold in metrics["folds"]
    ]
    return [Table(columns, rows)]


def recalls(metrics: Mapping[str, Any]) -> Blocks:
    pooled, last = metrics["pooled"], metrics["pooled_last_epoch"] or {}
    last_recall = last.get("recall_per_class") or {}
    rows = [
        [
            name,
            pooled["count_per_class"].get(name),
            "no test utterance" if recall is None else recall,
            last_recall.get(name),
        ]
        for name in metrics["classes"]
        for recall in [pooled["recall_per_class"].get(name)]
    ]
    columns = [
        *words("class"),
        *numbers("test utterances", form=","),
        *numbers("recall %", "last epoch: recall %", form=percent),
    ]
    return [Table(columns, rows)]
