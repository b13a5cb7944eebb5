"""Hooks of `mkdocs build`: the page of all options is made from the parser.

`python docs/hooks.py` prints the page.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKER = "<!-- options -->"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page `cli.md` with the options in the place of its marker; any other page as it is."""
    return markdown.replace(MARKER, options()) if page.file.src_uri == "cli.md" else markdown


def options() -> str:
    """All commands with their options, as Markdown."""
    lines: list[str] = []
    for name, command in subparsers(parser()).items():
        lines += ["", f"## {name}", "", _prose(command.description or ""), "", *_usage(command)]
        for title, actions in _groups(command):
            # the titles that argparse gives of itself say no more than the head of the table
            if title not in ("Positional arguments", "Options"):
                lines += ["", f"### {title} {{: #{name}-{_slug(title)} }}"]
            lines += ["", *_table(actions)]
    return "\n".join(lines).strip()


def parser() -> argparse.ArgumentParser:
    """The real parser, with the package's own defaults."""
    # mkdocs runs where mkdocs.yml lies, which is not on its path
    sys.path[:0] = [str(ROOT)]
    from light_sernet_kd import cli
    from light_sernet_kd.cli.context import Context
    from light_sernet_kd.config import make_settings
    from light_sernet_kd.registries.recipes import DEFAULT

    defaults = {"recipe": DEFAULT}  # as the installed program and train.py have it
    return cli.make_parser(Context(defaults=defaults, settings=make_settings(**defaults)))


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a parser by name, each once."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    for group in parser._action_groups:
        shown = [
            action
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
        ]
        if shown:
            yield (group.title or "options").capitalize(), shown


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    operands = [_metavar(action) for action in parser._actions if not action.option_strings]
    return ["```text", " ".join([parser.prog, *operands, "[options]"]), "```"]


def _table(actions: list[argparse.Action]) -> list[str]:
    rows = [f"| {_flags(action)} | {_cell(_help(action))} |" for action in actions]
    kind = "Option" if actions[0].option_strings else "Argument"
    return [f"| {kind} | Meaning |", "|---|---|", *rows]


def _flags(action: argparse.Action) -> str:
    flags = action.option_strings or [_metavar(action)]
    value = f" {_metavar(action)}" if action.option_strings and action.nargs != 0 else ""
    return "<br>".join(f"`{flag}{value}`".replace("|", "\\|") for flag in flags)


def _metavar(action: argparse.Action) -> str:
    text = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    name = text if isinstance(text, str) else " ".join(text)
    repeated = action.nargs in ("*", "+") and not action.option_strings
    return f"{name} …" if repeated else name


def _help(action: argparse.Action) -> str:
    values = {**vars(action), "prog": "light-sernet-kd"}
    return (action.help or "") % values if action.help else ""


def _cell(text: str) -> str:
    """Help as one cell: options, settings and names with underscores are code."""
    words = re.split(r"(`[^`]*`|\s+)", text.replace("|", "\\|").replace("<", "&lt;"))
    return "".join(" " if word.isspace() else _word(word) for word in words)


def _word(word: str) -> str:
    opening, inner, closing = re.fullmatch(r"([('\"]*)(.*?)([,;:.)'\"]*)", word).groups()
    is_code = re.fullmatch(r"--?[a-z].*|[^`]*\w[_=]\w[^`]*|\*_\w+", inner)
    return f"{opening}`{inner}`{closing}" if is_code else word


def _prose(text: str) -> str:
    return _cell(text).replace("\\|", "|")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


if __name__ == "__main__":
    print(options())
