"""A run's report as one file for a browser: it asks for nothing else, and its numbers are metrics.json's."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.reporting import beside_teacher, lineage, report
from light_sernet_kd.reporting.blocks import Section
from light_sernet_kd.reporting.web import scores
from light_sernet_kd.reporting.web.blocks import blocks, inline
from light_sernet_kd.reporting.web.mistakes import Sound, mistakes
from light_sernet_kd.reporting.web.pictures import class_colours, drawings

__all__ = ["DRAWN", "Extras", "Sound", "drawings", "page"]

# The pictures that stand in the page; the confusion matrix is a table there.
DRAWN = ("curves", "reliability", "embeddings", "enrolled", "precision_costs", "ratings")


@dataclass(frozen=True)
class Extras:
    """What the page has beside the numbers.

    Attributes:
        pictures: as `drawings` gives them.
        sounds: id → recording, of the surest mistakes.
    """

    pictures: Mapping[str, str] = field(default_factory=dict)
    sounds: Mapping[str, Sound] = field(default_factory=dict)


def page(
    name: str,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    export: Mapping[str, Any] | None,
    embeddings: bool = False,
    extras: Extras | None = None,
) -> str:
    """The page of HTML.

    Args:
        name: of the run.
        metrics, config, export, embeddings: as of `report.report`. Of `per_speaker`, `confusion` and
            `mistakes`, which older runs lack, what is missing is left out.
    """
    extras = extras or Extras()
    parts = list(_parts(metrics, config, export, embeddings, extras))
    title = inline(report.title(metrics))
    contents = "".join(f'<li><a href="#{_anchor(head)}">{escape(head)}</a></li>' for head, _ in parts)
    body = "".join(
        f'<section aria-labelledby="{_anchor(head)}">'
        f'<h2 id="{_anchor(head)}">{escape(head)}</h2>{content}</section>\n'
        for head, content in parts
    )
    style, script = _file("style.css") + class_colours(), _file("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name)}: {scores.in_words(metrics)}</title>\n"
        f'<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n'
        '<a class="skip" href="#scores">To the scores</a>\n'
        f'<header><p class="kicker">Run {escape(name)}</p><h1>{title}</h1>{scores.facts(metrics)}</header>\n'
        f'<nav aria-label="Contents"><ol><li><a href="#scores">Scores</a></li>{contents}</ol></nav>\n'
        '<main>\n<section aria-labelledby="scores"><h2 id="scores" class="unseen">Scores</h2>'
        f"{scores.headline(metrics)}{scores.warned(metrics)}</section>\n{body}</main>\n"
        f'<p class="unseen" role="status" id="said"></p>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _parts(
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    export: Mapping[str, Any] | None,
    embeddings: bool,
    extras: Extras,
) -> Iterator[tuple[str, str]]:
    """Headings and what stands below them."""
    sections = report.sections(metrics, config, export=export, embeddings=embeddings)
    by_title = {section.title: section for section in sections}

    def content(title: str) -> str:
        return _content(by_title.pop(title), extras)

    def has(title: str) -> bool:
        return title in by_title

    if has(beside_teacher.TITLE):
        yield "Teacher and student", scores.beside_teacher(metrics["teacher"]) + content(beside_teacher.TITLE)
    if has(lineage.TITLE):
        yield lineage.TITLE, content(lineage.TITLE)
    if metrics["classes"]:
        yield "Classes", content(report.RECALLS) + scores.confusion(metrics)
        yield report.FOLDS, content(report.FOLDS) + _by_fold(metrics)
    else:
        yield report.DIMENSIONS, content(report.DIMENSIONS)
        yield report.FOLDS, content(report.FOLDS)
    if speakers := _by_speaker(metrics):
        yield "Speakers", speakers
    if "mistakes" in metrics:
        seconds = config["resolved"]["samples"] / SAMPLE_RATE
        yield "Surest mistakes", mistakes(metrics["mistakes"], extras.sounds, seconds=seconds)
    yield "Training", content(report.PICTURES)
    for title in list(by_title):
        yield title, content(title)


def _content(section: Section, extras: Extras) -> str:
    return blocks(section.blocks, extras.pictures, label=section.title)


def _by_fold(metrics: Mapping[str, Any]) -> str:
    return scores.recalls_of(metrics["folds"], metrics, label="Recall % per fold and class", first="fold")


def _by_speaker(metrics: Mapping[str, Any]) -> str:
    """Scores of each test speaker; nothing of a run that is older than these."""
    per_speaker = metrics.get("per_speaker")
    if not per_speaker:
        return ""
    rows = [{**each, "name": each["speaker"]} for each in sorted(per_speaker, key=lambda each: each["ua"])]
    lowest, highest = rows[0], rows[-1]
    sentence = (
        f"<p>From {escape(lowest['name'])} with UA {scores.share(lowest['ua'])} % to "
        f"{escape(highest['name'])} with {scores.share(highest['ua'])} %. The lowest stand first.</p>"
        if len(rows) > 1
        else ""
    )
    table = scores.recalls_of(rows, metrics, label="Recall % per test speaker and class", first="speaker")
    return f"{sentence}{table}"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z]+", "-", title.lower()).strip("-")


@cache
def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
