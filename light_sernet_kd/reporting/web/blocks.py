"""Blocks of a report as HTML: text, tables that a reader can sort, commands, pictures."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt

from light_sernet_kd.reporting.blocks import Block, Blocks, Code, Picture
from light_sernet_kd.reporting.tables import Column, Strong, Table
from light_sernet_kd.reporting.text import percent

# Columns whose shares are drawn as bars too.
_DRAWN = re.compile(r"(UA|WA|recall)( %)?|(teacher|student alone|taught student): UA %")


def attributes(**values: Any) -> str:
    """Attributes of an element, each after a space; None leaves one out, True gives it no value.

    >>> attributes(class_="wide", data_sort=1.5, hidden=True, title='"<', id=None)
    ' class="wide" data-sort="1.5" hidden title="&quot;&lt;"'
    """
    texts = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        texts.append(f" {name}" if value is True else f' {name}="{escape(str(value))}"')
    return "".join(texts)


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False})


def text(markdown: str) -> str:
    """Markdown as HTML; tags in it are shown as they stand.

    >>> text("*a* <b>").strip()
    '<p><em>a</em> &lt;b&gt;</p>'
    """
    return _parser().render(markdown)


def inline(markdown: str) -> str:
    """A line of Markdown as HTML without a paragraph around it."""
    return _parser().renderInline(markdown)


def blocks(parts: Blocks, pictures: Mapping[str, str], *, label: str) -> str:
    """Blocks of a section.

    Args:
        pictures: file's name without its ending → SVG to stand in the page; others are left out.
        label: what the section's tables are about, for a reader who cannot see what is above them.
    """
    made, lines = [], []
    for part in [*parts, None]:
        if isinstance(part, str):
            lines.append(part)
            continue
        made.append(text("\n".join(lines)))
        lines = []
        if part is not None:
            made.append(_block(part, pictures, label))
    return "".join(made)


def _block(part: Block, pictures: Mapping[str, str], label: str) -> str:
    if isinstance(part, Table):
        return table(part, label=label)
    if isinstance(part, Code):
        lines = f'<pre tabindex="0"><code>{escape(part.text)}</code></pre>'
        return f"<details><summary>{escape(part.title)}</summary>{lines}</details>" if part.title else lines
    assert isinstance(part, Picture)
    drawn = pictures.get(part.file.rpartition(".")[0])
    return figure(drawn, part.alt) if drawn else ""


def figure(drawn: str, caption: str) -> str:
    """A picture with what it shows below it."""
    return f'<figure><div class="drawing">{drawn}</div><figcaption>{escape(caption)}</figcaption></figure>'


def table(shown: Table, *, label: str) -> str:
    """A table that a reader can sort by each column, and move through with the keyboard."""
    head = "".join(
        f"<th{attributes(scope='col', class_=_align(column))}>{escape(column.title)}</th>"
        for column in shown.columns
    )
    rows = [row(shown.columns, values) for values in shown.rows]
    last = f"<tfoot>{row(shown.columns, shown.footer)}</tfoot>" if shown.footer else ""
    return scrolled(f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>{last}", label=label)


def scrolled(content: str, *, label: str, class_: str = "sortable") -> str:
    """A table that moves sideways where the window is narrow."""
    # Above and not in the table: a caption is as wide as the table, which may be wider than the window.
    inner = f"<table{attributes(class_=class_, aria_label=label)}>{content}</table>"
    moved = attributes(class_="scroll", role="region", tabindex=0, aria_label=label)
    return f'<p class="caption">{escape(label)}</p><div{moved}>{inner}</div>'


def row(columns: Sequence[Column], values: Iterable[Any]) -> str:
    return f"<tr>{''.join(map(_cell, columns, values, [True, *[False] * len(columns)]))}</tr>"


def _cell(column: Column, value: Any, heads: bool) -> str:
    content = escape(column.text(value))
    if column.is_code and content:
        content = f"<code>{content}</code>"
    if isinstance(value, Strong):
        content = f"<strong>{content}</strong>"
    number = column.number(value)
    is_share = column.form is percent and _DRAWN.fullmatch(column.title) and isinstance(number, float)
    element = "th" if heads else "td"
    return (
        f"<{element}"
        + attributes(
            scope="row" if heads else None,
            class_=" ".join(filter(None, (_align(column), "bar" if is_share else ""))) or None,
            style=f"--share:{number:.4g}%" if is_share else None,
            data_sort=number if isinstance(number, int | float) else _number_in(column.text(value)),
        )
        + f">{content}</{element}>"
    )


def _number_in(shown: str) -> str | None:
    """The number that a text begins with, such as a difference before its interval."""
    match = re.match(r"[+-]?\d+(\.\d+)?(?=$| \[)", shown)
    return match and match[0]


def _align(column: Column) -> str | None:
    return "number" if column.align == "right" else None
