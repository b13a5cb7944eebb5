"""What a report is made of, before it is written as Markdown or as a page for a browser."""

from collections.abc import Sequence
from dataclasses import dataclass

from light_sernet_kd.reporting.tables import Table


@dataclass(frozen=True)
class Picture:
    """A picture beside the report.

    Attributes:
        alt: what it shows, in plain text.
        file: its name.
    """

    alt: str
    file: str


@dataclass(frozen=True)
class Code:
    """Lines that stand as they are, with the name of their language.

    Attributes:
        title: where it is long, what a page shows in place of it until a reader opens it.
    """

    text: str
    language: str
    title: str = ""


# A text is a line of Markdown, in which names are escaped by `text.plain`; an empty one ends a paragraph.
Block = str | Table | Picture | Code
Blocks = Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A heading in Markdown's text, and what stands below it."""

    title: str
    blocks: Blocks


def markdown(title: str, first: Blocks, sections: Sequence[Section]) -> str:
    """A report as a page of Markdown.

    Args:
        title: of the page, in Markdown's text.
        first: what stands right below it.

    >>> print(markdown("A run", ["*One* line."], [Section("Files", [Picture("A curve", "curve.png")])]))
    # A run
    <BLANKLINE>
    *One* line.
    <BLANKLINE>
    ## Files
    <BLANKLINE>
    ![A curve](curve.png)
    <BLANKLINE>
    """
    parts = [(f"# {title}", first), *((f"## {each.title}", each.blocks) for each in sections)]
    return "\n".join(
        line
        for head, blocks in parts
        for line in (head, "", *(line for block in blocks for line in _lines(block)), "")
    )


def _lines(block: Block) -> list[str]:
    if isinstance(block, Table):
        return block.markdown()
    if isinstance(block, Picture):
        return [f"![{block.alt}]({block.file})"]
    if isinstance(block, Code):
        return [f"```{block.language}", block.text, "```"]
    return [block]
