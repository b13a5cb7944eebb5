"""The command `completion`: a script with which a shell completes commands, options and names itself."""

import argparse
from collections.abc import Collection
from typing import Any

from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.parser import Parser
from light_sernet_kd.config import RunOptions, Settings, fields
from light_sernet_kd.errors import choose, installed
from light_sernet_kd.registries.augmentations import AUGMENTATIONS
from light_sernet_kd.registries.corpora import CORPORA
from light_sernet_kd.registries.dimensions import DIMENSIONS
from light_sernet_kd.registries.losses import DISTILLATIONS, PUBLISHED
from light_sernet_kd.registries.recipes import OURS, RECIPES
from light_sernet_kd.registries.teachers import TEACHER_SOURCES

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "MODEL", "AUDIO", "RUN", "RUN_OR_TFLITE", "MODEL.tflite", "PATH")
_FOLDERS = ("DIR", "FOLDER")


def add_completion(commands: Any, context: Context) -> None:
    completion = commands.add_parser(
        "completion",
        help="a script that completes commands, options and names in bash, zsh or fish",
        description="Print a script with which a shell completes commands, options and names. It holds all "
        "of them, so that the shell starts no program for it; make it anew after an update.",
    )
    completion.add_argument("shell", metavar="SHELL", help=", ".join(SHELLS))


def run_completion(arguments: argparse.Namespace, context: Context) -> None:
    from light_sernet_kd.cli.entry import make_parser

    shell = choose("shell", arguments.shell, SHELLS)
    with installed("shtab", "completion"):
        import shtab
    parser = make_parser(context)
    for command in parser.commands().values():
        _complete(command, shtab.FILE, shtab.DIRECTORY)
    print(shtab.complete(parser, shell))


def _complete(parser: Parser, file: Any, folder: Any) -> None:
    """Tell each action of a parser what may stand there; it is for the script alone."""
    names = _names()
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.nargs == 0:
            continue
        if known := names.get(action.dest) or names.get(str(action.metavar)):
            action.choices = list(known)
        elif action.metavar in _FILES:
            action.complete = file  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = folder  # type: ignore[attr-defined]


def _names() -> dict[str, Collection[str]]:
    """What may be named, by where a parser puts it, or by how `--help` calls it."""
    settings = {**fields.options(Settings), **fields.options(RunOptions)}
    return {
        **{name: option.choices for name, option in settings.items() if option.choices},
        "corpus": CORPORA,
        "test_on": CORPORA,
        "on": CORPORA,
        "distillation": [*DISTILLATIONS, *PUBLISHED, OURS],
        "augmentation": AUGMENTATIONS,
        "dimensions": DIMENSIONS,
        "teacher": TEACHER_SOURCES,
        "shell": SHELLS,
        "name": RECIPES,
    }
