"""One table, three media: what each escapes, aligns and rounds."""

import csv
import io

from rich.console import Console

from light_sernet_kd.reporting.tables import Strong, Table, numbers, say, words

TABLE = Table(
    [*words("run"), *words("file", is_code=True), *numbers("UA %", form=".1f"), *numbers("zero|", form=str)],
    [["a|*b_", "x_*.tflite", 85.349, 0], ["[red]c", None, None, "·"]],
    footer=[Strong("all"), "", Strong(7), None],
)


def shown(table, *, width=80, **how):
    console = Console(file=io.StringIO(), width=width)
    table.show(console, **how)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_markdown_escapes_text_and_titles_and_leaves_code_as_it_is():
    assert TABLE.markdown() == [
        r"| run | file | UA % | zero\| |",
        "| :-- | :-- | --: | --: |",
        r"| a\|\*b\_ | `x_*.tflite` | 85.3 | 0 |",
        r"| \[red\]c | – | – | · |",
        "| **all** |  | **7.0** | – |",
    ]


def test_a_pipe_in_code_does_not_cut_the_table():
    assert Table(words("file", is_code=True), [["a|b"]]).markdown()[-1] == r"| `a\|b` |"


def test_csv_holds_the_values_unrounded_and_nothing_where_there_is_none():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [
        ["run", "file", "UA %", "zero|"],
        ["a|*b_", "x_*.tflite", "85.349", "0"],
        ["[red]c", "", "", "·"],
        ["all", "", "7", ""],
    ]


def test_the_screen_shows_markup_as_text_numbers_at_the_right_and_the_footer_last():
    head, rule, first, second, below, footer = shown(TABLE)
    assert head.split() == ["run", "file", "UA", "%", "zero|"]
    assert set(rule.strip()) == set(below.strip()) == {"─"}
    assert first.split() == ["a|*b_", "x_*.tflite", "85.3", "0"]
    assert second.split() == ["[red]c", "–", "–", "·"]
    assert footer.split() == ["all", "7.0", "–"]
    assert first.index("85.3") + 4 == head.index("UA %") + 4


def test_a_turned_table_has_a_line_per_column():
    lines = shown(TABLE, turned=True)
    assert [line.split()[0] for line in lines] == ["run", "file", "UA", "zero|"]
    assert lines[2].split() == ["UA", "%", "85.3", "–"]


def test_a_narrow_screen_folds_a_cell_unless_its_column_is_whole():
    name = "abcdefghijklmnopqrst"
    others = numbers("one", "two", "three")
    assert any(
        name in line
        for line in shown(Table([*words("n", is_whole=True), *others], [[name] + ["x" * 9] * 3]), width=36)
    )
    lines = shown(Table([*words("n"), *others], [[name, 1, 2, 3]]), width=24)
    assert not any(name in line for line in lines)
    assert "".join(line.split()[0] for line in lines[2:]) == name


def test_latex_has_every_cell_escaped_and_compiles_by_its_letters():
    table = Table(
        [*words("run", "file"), *numbers("Δ %", form="+.1f")],
        [["a_b & c", r"x\y{z}", -1.5], ["#1 $ ~^", None, 2.0]],
        footer=[Strong("all"), "", 0.25],
    )
    lines = table.latex()
    assert lines[:4] == [r"\begin{tabular}{llr}", r"\toprule", r"run & file & $\Delta$ \% \\", r"\midrule"]
    assert lines[4:] == [
        r"a\_b \& c & x\textbackslash{}y\{z\} & $-$1.5 \\",
        r"\#1 \$ \textasciitilde{}\textasciicircum{} & -- & +2.0 \\",
        r"\midrule",
        r"all &  & +0.2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_screen_that_is_too_narrow_neither_breaks_words_nor_cuts_names():
    names, titles = ["User001F", "User002M"], [f"title{number}" for number in range(8)]
    table = Table(
        [*words("fold", is_whole=True), *numbers(*titles)], [[name, *range(1000, 1008)] for name in names]
    )
    lines = shown(table, width=40)
    assert [line.split() for line in lines if "User" in line] == [
        [name, *map(str, range(1000, 1008))] for name in names
    ]
    turned = shown(Table([*words("a"), *words("b")], [["light_sernet", "x"]] * 4), width=30, turned=True)
    assert turned[0].split() == ["a"] + ["light_sernet"] * 4


def test_a_table_has_the_title_that_it_is_shown_with():
    assert shown(TABLE, title="[b] files")[0] == "[b] files"


def test_a_line_is_said_as_it_is_and_never_broken():
    console = Console(file=io.StringIO(), width=10)
    say(console, "[red]a long file name.wav")
    assert console.file.getvalue() == "[red]a long file name.wav\n"
