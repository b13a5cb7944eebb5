"""One table for the screen, for Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from light_sernet_kd.reporting.text import NONE, code, latex, percent, plain

if TYPE_CHECKING:
    from rich.console import Console

# Letters of a word that a narrow screen does not break; a longer one is a path.
_UNBROKEN = 16


@dataclass(frozen=True)
class Column:
    """How the values of a column are written.

    Attributes:
        form: a format such as `,.1f`, or a function that gives text, for values that are neither text nor
            None.
        is_code: whether Markdown sets it as code.
        is_whole: whether the screen never breaks its lines.
    """

    title: str
    form: str | Callable[[Any], str] = ""
    align: Literal["left", "right"] = "left"
    is_code: bool = False
    is_whole: bool = False

    def text(self, value: Any) -> str:
        if isinstance(value, Strong):
            value = value.value
        if value is None:
            return NONE
        if isinstance(value, str):
            return value
        return self.form(value) if callable(self.form) else format(value, self.form)

    def number(self, value: Any) -> Any:
        """The value unrounded, in the unit of the title: a share of 1 in per cent where it is shown so."""
        if isinstance(value, Strong):
            value = value.value
        in_percent = self.form is percent or getattr(self.form, "func", None) is percent
        return 100 * value if in_percent and isinstance(value, float) else value

    def markdown(self, value: Any) -> str:
        text = self.text(value)
        # A table is cut at its pipes before code is looked for.
        written = code(text).replace("|", "\\|") if self.is_code and text not in ("", NONE) else plain(text)
        return f"**{written}**" if isinstance(value, Strong) else written


def words(*titles: str, **look: Any) -> list[Column]:
    """Columns of text, at the left; `look` are attributes of `Column`."""
    return [Column(title, **look) for title in titles]


def numbers(*titles: str, form: str | Callable[[Any], str] = "") -> list[Column]:
    """Columns of numbers, at the right."""
    return [Column(title, form, "right") for title in titles]


@dataclass(frozen=True)
class Strong:
    """A value that stands out, in Markdown."""

    value: Any


@dataclass(frozen=True)
class Table:
    r"""Rows of values, which each medium writes in its way.

    Attributes:
        rows: a value per column. None becomes a dash, in CSV nothing.
        footer: the last row, below a rule on the screen.

    >>> table = Table([*words("run"), *numbers("UA %", form=".1f")], [["a_*", 85.34], ["b", None]])
    >>> print("\n".join(table.markdown()))
    | run | UA % |
    | :-- | --: |
    | a\_\* | 85.3 |
    | b | – |
    >>> print(table.csv(), end="")
    run,UA %
    a_*,85.34
    b,
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    footer: Sequence[Any] = ()

    @property
    def header(self) -> list[str]:
        return [column.title for column in self.columns]

    def without(self, titles: Collection[str]) -> "Table":
        """The table less the columns of these titles."""
        kept = [number for number, title in enumerate(self.header) if title not in titles]

        def part(row: Sequence[Any]) -> list[Any]:
            return [row[number] for number in kept]

        footer = part(self.footer) if self.footer else ()
        return Table(part(self.columns), [part(row) for row in self.rows], footer)

    def cells(self) -> list[list[str]]:
        """The rows as text, without the footer."""
        return [self._texts(row) for row in self.rows]

    def _texts(self, row: Sequence[Any]) -> list[str]:
        return [column.text(value) for column, value in zip(self.columns, row, strict=True)]

    def markdown(self) -> list[str]:
        """The lines of a Markdown table; text is escaped."""
        rules = [":--" if column.align == "left" else "--:" for column in self.columns]
        rows = [
            [column.markdown(value) for column, value in zip(self.columns, row, strict=True)]
            for row in [*self.rows, *([self.footer] if self.footer else [])]
        ]
        return [f"| {' | '.join(row)} |" for row in ([*map(plain, self.header)], rules, *rows)]

    def latex(self) -> list[str]:
        r"""The lines of a LaTeX table for the package booktabs; text is escaped.

        >>> table = Table([*words("run"), *numbers("ΔUA", form="+.1f")], [["a_b", -1.25]])
        >>> print("\n".join(table.latex()))
        \begin{tabular}{lr}
        \toprule
        run & $\Delta$UA \\
        \midrule
        a\_b & $-$1.2 \\
        \bottomrule
        \end{tabular}
        """

        def line(texts: Iterable[str]) -> str:
            return f"{' & '.join(map(latex, texts))} \\\\"

        footer = ["\\midrule", line(self._texts(self.footer))] if self.footer else []
        return [
            f"\\begin{{tabular}}{{{''.join(column.align[0] for column in self.columns)}}}",
            *("\\toprule", line(self.header), "\\midrule"),
            *map(line, self.cells()),
            *footer,
            *("\\bottomrule", "\\end{tabular}"),
        ]

    def csv(self) -> str:
        """The values as they are, unrounded, below the titles."""
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.header)
        for row in [*self.rows, *([self.footer] if self.footer else [])]:
            writer.writerow(column.number(value) for column, value in zip(self.columns, row, strict=True))
        return file.getvalue()

    def show(self, console: "Console", *, title: str = "", turned: bool = False) -> None:
        """Print the table.

        Args:
            turned: whether rows stand beside one another, the titles at their left, and the footer is left
                out: for rows with more values than a terminal is wide.
        """
        from rich import box
        from rich import table as rich_tables
        from rich.text import Text

        shown = rich_tables.Table(
            box=box.SIMPLE,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            title=Text(title) if title else None,
            title_justify="left",
            show_header=not turned,
            show_footer=bool(self.footer) and not turned,
        )
        if turned:
            shown.add_column(overflow="fold")
            for _ in self.rows:
                shown.add_column(justify="right", overflow="fold")
            lines: Iterable[Sequence[str]] = zip(self.header, *self.cells(), strict=True)
        else:
            footer = self._texts(self.footer) if self.footer else [""] * len(self.columns)
            for column, last in zip(self.columns, footer, strict=True):
                look: dict[str, Any] = {"justify": column.align, "overflow": "fold"}
                shown.add_column(Text(column.title), Text(last), no_wrap=column.is_whole, **look)
            lines = self.cells()
        for line in lines:
            shown.add_row(*map(Text, line))
        # Wider than the terminal rather than with numbers and short words broken, or names cut short.
        for made, texts in zip(shown.columns, self._shown_texts(turned), strict=True):
            made.min_width = max(_least_width(text, is_whole=made.no_wrap) for text in texts)
        least = sum(1 + (made.min_width or 0) for made in shown.columns)
        console.print(shown, width=max(console.width, least), crop=False)

    def _shown_texts(self, turned: bool) -> list[list[str]]:
        """The texts of each column as `show` has them."""
        lines = self.cells()
        if turned:
            return [[*self.header], *lines]
        footer = [self._texts(self.footer)] if self.footer else []
        return [[*each] for each in zip(self.header, *lines, *footer, strict=True)]


def _least_width(text: str, *, is_whole: bool) -> int:
    from rich.cells import cell_len

    return cell_len(text) if is_whole else min(_UNBROKEN, max(map(cell_len, text.split()), default=0))


def say(console: "Console", text: str, style: str = "") -> None:
    """Print a line as it is: a file name in it may look like rich's markup, and is not broken."""
    from rich.text import Text

    console.print(Text(text, style=style), soft_wrap=True)
