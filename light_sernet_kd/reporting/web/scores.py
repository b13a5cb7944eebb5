"""What the page begins with, and its tables of recalls: by class, by fold, by speaker, and what for what."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from light_sernet_kd.reporting import names
from light_sernet_kd.reporting.report.answer import HONEST, marks
from light_sernet_kd.reporting.report.dimensions import between
from light_sernet_kd.reporting.text import NONE, percent, pluralise, speaker_count
from light_sernet_kd.reporting.web.blocks import attributes, scrolled

_MEANS = {
    "ua": ("UA", "Unweighted accuracy", "the mean of the classes' recalls"),
    "wa": ("WA", "Weighted accuracy", "the share of predictions that are right"),
}
_WHO = {"teacher": "Teacher", "alone": "Student alone", "taught": "Taught student"}
_GAINS = {
    "taught_less_alone": "Taught student minus student alone",
    "taught_less_teacher": "Taught student minus teacher",
    "teacher_less_alone": "Teacher minus student alone",
}


def share(value: float | None, *, sign: bool = False) -> str:
    """A share in per cent, with the unrounded value for programs.

    >>> share(0.8534)
    '<data value="0.8534">85.3</data>'
    """
    if value is None:
        return NONE
    return f"<data{attributes(value=value)}>{percent(value, '+.1f' if sign else '.1f')}</data>"


def _between(ends: Sequence[float] | None, *, sign: bool = False) -> str:
    return "" if ends is None else f"{share(ends[0], sign=sign)} to {share(ends[1], sign=sign)}"


def in_words(metrics: Mapping[str, Any]) -> str:
    """The first score, for a title."""
    if metrics["classes"]:
        return f"UA {100 * metrics['pooled']['ua']:.1f} %"
    name, each = next(iter(metrics["dimensions"]["pooled"].items()))
    return f"CCC of {escape(name)} {NONE if each['ccc'] is None else format(each['ccc'], 'z.2f')}"


def headline(metrics: Mapping[str, Any]) -> str:
    """UA and WA with their intervals, and the CCC of ratings."""
    if not metrics["classes"]:
        rated = metrics["dimensions"]
        sure = "The bar shows the 95 % interval" if any(rated["ci95"].values()) else "There is no interval"
        return f'{_ratings(rated)}<p class="quiet small">{sure}: {escape(metrics["ci95_method"])}.</p>'
    intervals, tested = metrics["ci95"] or {}, _tested(metrics)
    chance = {"ua": 1 / tested if tested else None, "wa": None}
    cards = [_score(key, metrics["pooled"][key], intervals.get(key), chance[key]) for key in _MEANS]
    sure = "The bar shows the 95 % interval" if any(intervals.values()) else "There is no interval"
    return (
        f'<div class="cards two">{"".join(cards)}</div>{_ratings(metrics.get("dimensions"))}'
        f'<p class="quiet small">{sure}: {escape(metrics["ci95_method"])}.</p>'
    )


def _ratings(dimensions: Mapping[str, Any] | None) -> str:
    """A card for each of arousal, valence and dominance that was learnt."""
    if not dimensions:
        return ""
    cards = []
    for name, each in dimensions["pooled"].items():
        value, ends = each["ccc"], (dimensions["ci95"].get(name) or {}).get("ccc")
        interval = f"95 % interval {between(ends)}" if ends else "no interval"
        shown = NONE if value is None else f"<data{attributes(value=value)}>{value:z.2f}</data>"
        # Below 0 a student is worse than none, and the bar is empty.
        bar = _range(max(0.0, value or 0.0), [max(0.0, end) for end in ends] if ends else None)
        cards.append(
            f'<div class="card score"><h3><abbr title="Concordance correlation coefficient">CCC</abbr> of '
            f"{escape(name)} <span>concordance with the listeners</span></h3>"
            f'<p class="big">{shown}</p>{bar}<p class="under"><span>{interval}</span></p></div>'
        )
    return f'<div class="cards two">{"".join(cards)}</div>'


def _tested(metrics: Mapping[str, Any]) -> int:
    """How many classes have a recall."""
    return sum(recall is not None for recall in metrics["pooled"]["recall_per_class"].values())


def _score(key: str, value: float, ends: Sequence[float] | None, chance: float | None) -> str:
    short, name, means = _MEANS[key]
    between = f"95 % interval {_between(ends)}" if ends else "no interval"
    chance_text = f"chance {share(chance)} %" if chance else ""
    return (
        f'<div class="card score"><h3><abbr title="{name}">{short}</abbr> <span>{means}</span></h3>'
        f'<p class="big">{share(value)}<span class="unit"> %</span></p>'
        f"{_range(value, ends, chance)}"
        f'<p class="under"><span>{between}</span><span>{chance_text}</span></p></div>'
    )


def _range(value: float, ends: Sequence[float] | None = None, chance: float | None = None) -> str:
    """A score on the way from 0 to 100 %; what it shows stands in words beside it."""
    parts = [f'<i class="filled" style="width:{100 * value:.4g}%"></i>']
    if chance:
        parts.append(f'<i class="chance" style="left:{100 * chance:.4g}%"></i>')
    if ends:
        low, high = (100 * end for end in ends)
        parts.append(f'<i class="interval" style="left:{low:.4g}%;width:{high - low:.4g}%"></i>')
    return f'<div class="range" aria-hidden="true">{"".join(parts)}</div>'


_SYNTHETIC = "These recordings are made by a program. The scores are no evidence about real speech."


def warned(metrics: Mapping[str, Any]) -> str:
    """What must be known to believe the scores."""
    listed = [("synthetic", _SYNTHETIC)] if metrics["synthetic"] else []
    warnings = [(mark.kind.lower(), mark.text) for mark in marks(metrics)]
    listed += warnings or [("honest", HONEST)]
    items = "".join(
        f'<li class="{kind}"><strong>{kind.capitalize()}</strong><span>{escape(sentence)}</span></li>'
        for kind, sentence in listed
    )
    return f'<ul class="marks" aria-label="What must be known to believe the scores">{items}</ul>'


def beside_teacher(teacher: Mapping[str, Any] | None) -> str:
    """Teacher, student alone and taught student beside one another; nothing without a teacher."""
    comparison = (teacher or {}).get("beside")
    if not comparison:
        return ""
    ua, gains = comparison["pooled"]["ua"], comparison["pooled"]["gains"]
    cards = []
    for who, name in _WHO.items():
        value = ua.get(who)
        shown = f'{share(value)}<span class="unit"> % UA</span>' if value is not None else "not run"
        bar = _range(value) if value is not None else ""
        cards.append(f'<div class="card {who}"><h3>{name}</h3><p class="big">{shown}</p>{bar}</div>')
    differences = [_difference(name, gains[key]) for key, name in _GAINS.items() if gains.get(key)]
    return (
        f'<div class="cards three">{"".join(cards)}</div><dl class="differences">{"".join(differences)}</dl>'
    )


def _difference(name: str, gain: Mapping[str, Any]) -> str:
    ends = gain["ci95"]
    if not ends:
        interval = "no interval"
    else:
        zero = "includes" if ends[0] <= 0 <= ends[1] else "excludes"
        interval = f"95 % interval {_between(ends, sign=True)}, which {zero}\u00a00"
    points = f"<strong>{share(gain['ua'], sign=True)}</strong> points of UA"
    return f"<div><dt>{name}</dt><dd>{points} <span>{interval}</span></dd></div>"


def confusion(metrics: Mapping[str, Any]) -> str:
    """Which class is taken for which; nothing for a run that is older than these counts."""
    counts, classes = metrics.get("confusion"), metrics["classes"]
    if not counts:
        return ""
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in classes)
    rows = []
    for place, (name, row) in enumerate(zip(classes, counts, strict=True)):
        total = sum(row)
        cells = [
            _heat(count / total if total else None, f"{count:,}", data_sort=count, is_own=column == place)
            for column, count in enumerate(row)
        ]
        recall = row[place] / total if total else None
        last = _heat(recall, is_plain=True)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}{last}</tr>')
    recall = '<th scope="col"><span>recall %</span></th>'
    return scrolled(
        f'<thead><tr><th scope="col">true class</th>{head}{recall}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>",
        label="Confusion matrix: rows are true classes, columns predicted ones, cells numbers of predictions",
        class_="heat",
    )


def recalls_of(
    rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any], *, label: str, first: str
) -> str:
    """Recall per class of folds or speakers, with UA and WA.

    Args:
        rows: of `name`, `count`, `ua`, `wa`, `recall_per_class`.
        first: title of the names.
    """
    classes = metrics["classes"]
    names = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in classes)
    made = []
    for row in rows:
        cells = [_heat(row["recall_per_class"].get(name)) for name in classes]
        scores = "".join(_heat(row[key], is_plain=True) for key in ("ua", "wa"))
        count = f"<td{attributes(class_='number', data_sort=row['count'])}>{row['count']:,}</td>"
        made.append(f'<tr><th scope="row">{escape(row["name"])}</th>{count}{scores}{"".join(cells)}</tr>')
    titles = "".join(f'<th scope="col" class="number">{title}</th>' for title in ("tested", "UA %", "WA %"))
    return scrolled(
        f'<thead><tr><th scope="col">{escape(first)}</th>{titles}{names}</tr></thead>'
        f"<tbody>{''.join(made)}</tbody>",
        label=label,
        class_="heat sortable",
    )


def _heat(
    value: float | None,
    shown: str | None = None,
    *,
    data_sort: float | None = None,
    is_plain: bool = False,
    is_own: bool = False,
) -> str:
    """A cell whose background is stronger for a larger share."""
    look = " ".join(
        filter(None, ("number", "" if is_plain or value is None else "shade", "own" if is_own else ""))
    )
    text = shown or (NONE if value is None else f"{100 * value:.1f}" if is_plain else f"{100 * value:.0f}")
    return (
        "<td"
        + attributes(
            class_=look,
            style=None if value is None or is_plain else f"--share:{100 * value:.4g}%",
            data_sort=value if data_sort is None else data_sort,
        )
        + f">{text}</td>"
    )


def facts(metrics: Mapping[str, Any]) -> str:
    """The run in a line."""
    pooled, folds = metrics["pooled"], metrics["folds"]
    lines = [
        metrics["corpus"],
        pluralise(sum(metrics["counts"].values()), "utterance"),
        speaker_count(metrics["speakers"]),
        pluralise(len(metrics["classes"]), "emotion")
        if metrics["classes"]
        else f"ratings of {' and '.join(metrics['dimensions']['names'])}",
        names.protocol(metrics["protocol"]),
        f"{pluralise(pooled['count'], 'test prediction')} in {pluralise(len(folds), 'fold')}",
    ]
    return f'<ul class="facts">{"".join(f"<li>{escape(each)}</li>" for each in lines)}</ul>'
