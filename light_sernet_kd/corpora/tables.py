"""A table as people write it: its text, its delimiter, its header, and where in it a row stands."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from light_sernet_kd.errors import UserError, nfc
from light_sernet_kd.files import read_bytes

ROWS = 16_384  # at a time


class Table:
    r"""A table's text, its delimiter and its header: what reads every table that a person wrote.

    Args:
        text: the file's content, where it was decoded elsewhere.
        kind: what is missing where there is no such file.
        delimiter: found in the header by default.
        strict: whether a stray quote is an error. In the tables of a corpus only its row is wrong.

    Raises:
        UserError: no such file, one that is no text, or a quote that is not closed in the header.

    >>> _ = Path("votes.csv").write_text("sep=;\nclip;votes\none;3\n")
    >>> table = Table(Path("votes.csv"))
    >>> table.header, list(table.body())
    (('clip', 'votes'), [(3, ['one', '3'])])
    """

    def __init__(
        self,
        path: Path,
        text: str | None = None,
        *,
        kind: str = "manifest",
        delimiter: str = "",
        strict: bool = True,
    ) -> None:
        self.path, self.strict = path, strict
        self.text = text = table_text(path, kind) if text is None else text
        first = re.split(r"[\r\n]", text[:100_000], maxsplit=1)[0]
        self.start = 0
        if delimiter:
            self.delimiter = delimiter
        elif excel := re.fullmatch(r"\s*\"?sep=(.)\"?\s*", first, re.IGNORECASE):
            # Excel's own way to say it, before the header
            self.delimiter, self.start = excel[1], 1
            if self.delimiter not in ",;|\t: ":
                raise UserError(f"{path}, line 1: {excel[1]!r} is no delimiter; expected sep=; or sep=,.")
        else:
            unquoted = re.sub(r'"[^"]*"', "", first)
            # what stands beside a delimiter only aligns the columns
            unquoted = re.sub(r"[ \t]*([,;|])[ \t]*", r"\1", unquoted).strip()
            counts = {each: unquoted.count(each) for each in ",;|"}
            self.delimiter = "\t" if "\t" in unquoted else max(counts, key=lambda each: counts[each])
        self.header = tuple(nfc(cell.strip()) for cell in next(self.rows(), (1, []))[1])

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of each row, the header first; an empty line has no cells.

        Raises:
            UserError: a quote that is not closed or stands inside a cell.
        """
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter, strict=self.strict)
        before = 0
        try:
            for number, row in enumerate(reader):
                before = reader.line_num
                if number >= self.start:
                    yield before, row
        except csv.Error as error:
            raise self.broken(before + 1, reader.line_num, error) from None

    def body(self) -> Iterator[tuple[int, list[str]]]:
        """`rows` without the header."""
        return itertools.islice(self.rows(), 1, None)

    def chunks(self) -> Iterator[list[list[str]]]:
        """The cells of the rows below the header, many rows at a time.

        Raises:
            UserError: as of `rows`.
        """
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter, strict=self.strict)
        try:
            for _ in range(self.start + 1):
                next(reader, None)
            while chunk := list(itertools.islice(reader, ROWS)):
                yield chunk
        except csv.Error:
            for _ in self.rows():  # which names the line
                pass

    def broken(self, first: int, last: int, error: csv.Error) -> UserError:
        """What csv found wrong in a row, with its cause."""
        if "expected after" in str(error):
            why = 'a quote (") stands inside a cell, or closes none: double it, or close it'
        elif "end of data" in str(error) or "field limit" in str(error):
            why = 'a cell opens a quote (") that is not closed'
            last = first
        else:
            why = str(error)
        upto = f" to {last}" if last > first else ""
        return UserError(f"{self.path}, line {first}{upto}: {why}.")


class Lines:
    """Line numbers of rows, which are counted where one is asked for: only what is wrong needs them."""

    def __init__(self, table: Table, ordinals: Sequence[int]) -> None:
        self.table, self.ordinals = table, ordinals
        self.lines: list[int] = []

    def of(self, ordinal: int) -> int:
        if not self.lines:
            self.lines = [line for line, _ in self.table.body()]
        return self.lines[ordinal]

    def __getitem__(self, row: int) -> int:
        return self.of(self.ordinals[row])


def table_text(path: Path, kind: str = "manifest") -> str:
    """The content of a table, in UTF-8 or UTF-16.

    Raises:
        UserError: there is no such file, or it is no text.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"no {kind} {path}.") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"cannot read {path!r}: {error}.") from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-{16 if wide else 8} text ({error.reason} at byte {error.start}): save it as "
            f"{'UTF-8' if wide else 'such'}."
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}, line {line}: holds a NUL byte: save the table as UTF-8 text.")
    return text
