"""argparse with errors of one line, and one spelling for `--an-option` and `--an_option`."""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import NoReturn

from light_sernet_kd.errors import UserError, choose, quoted


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line that suggest the nearest option."""

    def __init__(self, **kwargs):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(**{"allow_abbrev": False, "formatter_class": formatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message and unknown.startswith("-"):
            option = unknown.split()[0].split("=")[0]
            near = difflib.get_close_matches(option, self._option_string_actions, n=1)
            message = f"unknown option {option}." + (f" Did you mean {near[0]}?" if near else "")
        else:
            message += "."
        raise UserError(f"{message} See {self.prog} --help.")

    def parse_known_args(self, args=None, namespace=None):
        # Else a command would leave what it does not know to the parser above, which knows no better.
        parsed, unknown = super().parse_known_args(args, namespace)
        if hasattr(parsed, "recordings"):
            # A list that may be empty is filled before the first option; argparse leaves what comes later.
            end = unknown.index("--") if "--" in unknown else len(unknown)
            if not any(argument.startswith("-") for argument in unknown[:end]):
                parsed.recordings = [*parsed.recordings, *unknown[:end], *unknown[end + 1 :]]
                unknown = []
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def commands(self) -> "Mapping[str, Parser]":
        """The parser of each command."""
        subparsers = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return next((action.choices for action in subparsers), {})

    def respelled(self, argv: Sequence[str]) -> list[str]:
        """The arguments with `--an-option` and `--an_option` taken for the same."""
        command = self.commands().get(argv[0] if argv else "", self)
        known = command._option_string_actions
        spelling = {option.replace("_", "-"): option for option in known if option.startswith("--")}
        spelled = []
        for argument in argv:
            option, equals, value = argument.partition("=")
            spelled.append(spelling.get(option.replace("_", "-"), option) + equals + value)
        return spelled

    def checked(self, argv: Sequence[str], program: str) -> list[str]:
        """The arguments with the command first, spelled as the parser has it, and none of them empty."""
        argv, names = list(argv), self.commands()
        if program == "train.py" and argv[:1] not in (["paper"], ["grid"]):
            if argv and argv[0] in names and argv[0] != "train":
                raise UserError(f"train.py only trains: light-sernet-kd {' '.join(map(quoted, argv))}")
            argv = argv if argv[:1] == ["train"] else ["train", *argv]
        elif argv and argv[0] not in self._option_string_actions:
            argv[0] = choose("command", argv[0], names)
        for before, argument in zip(["", *argv], argv, strict=False):
            if argument == "" or (argument.startswith("--") and argument.endswith("=")):
                option = argument.rstrip("=") or before
                raise UserError(f"the value after {option} is empty: give one, or leave both out.")
        return self.respelled(argv)
