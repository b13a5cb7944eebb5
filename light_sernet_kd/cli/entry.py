"""From the arguments to a command, and from its outcome to an exit code."""

import argparse
import contextlib
import errno
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from light_sernet_kd import __version__, plugins
from light_sernet_kd.cli import analysis, completion, corpora, device, search, training
from light_sernet_kd.cli.console import complain
from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.examples import examples_of
from light_sernet_kd.cli.parser import Parser
from light_sernet_kd.config import make_settings
from light_sernet_kd.errors import TRAIN, UserCodeError, UserError, as_missing_package, command_line, require
from light_sernet_kd.registries.recipes import DEFAULT

# A full disk or a folder that may not be written is the user's to mend, like a wrong flag.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_FORBIDDEN = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
)


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Attributes:
        add: gives it its parser.
        run: does it; what it returns, if anything, is the exit code.
        continues: whether the same command goes on where it was interrupted.
        trains: whether it needs the extra `train`.
        trains_with: the options, as they are parsed, that need it where the command does not.
        takes_plugins: whether it reads registries, which plug-ins add to.
    """

    add: Callable[[Any, Context], None]
    run: Callable[[argparse.Namespace, Context], int | None]
    continues: bool = False
    trains: bool = False
    trains_with: tuple[str, ...] = ()
    takes_plugins: bool = True

    def require(self, arguments: argparse.Namespace) -> None:
        """Refuse the command when it needs the training extra and that is not installed.

        Raises:
            MissingPackageError: names a package that is missing, and the command that installs the extra.
        """
        asked = [name for name in self.trains_with if getattr(arguments, name)]
        if self.trains or asked:
            require(TRAIN, " ".join([arguments.command, *(f"--{name}" for name in asked)]))


COMMANDS: dict[str, Command] = {
    "train": Command(training.add_train, training.run_train, continues=True, trains=True),
    "recipe": Command(training.add_recipe, training.run_recipe),
    "teach": Command(training.add_teach, training.run_teach, continues=True, trains=True),
    "grid": Command(training.add_grid, training.run_grid, continues=True, trains=True),
    "search": Command(search.add_search, search.run_search, continues=True, trains=True),
    "prepare": Command(corpora.add_prepare, corpora.run_prepare),
    "fetch": Command(corpora.add_fetch, corpora.run_fetch, continues=True),
    "predict": Command(device.add_predict, device.run_predict, trains_with=("picture",), takes_plugins=False),
    "enroll": Command(device.add_enroll, device.run_enroll, takes_plugins=False),
    "listen": Command(device.add_listen, device.run_listen, takes_plugins=False),
    "demo": Command(device.add_demo, device.run_demo, takes_plugins=False),
    "models": Command(device.add_models, device.run_models, takes_plugins=False),
    "audit": Command(corpora.add_audit, corpora.run_audit),
    "compare": Command(analysis.add_compare, analysis.run_compare, trains_with=("out",)),
    "benchmark": Command(analysis.add_benchmark, analysis.run_benchmark),
    "explain": Command(analysis.add_explain, analysis.run_explain, trains=True),
    "export": Command(training.add_export, training.run_export, continues=True, trains=True),
    "golden": Command(device.add_golden, device.run_golden, takes_plugins=False),
    "stress": Command(analysis.add_stress, analysis.run_stress, trains=True),
    "doctor": Command(analysis.add_doctor, analysis.run_doctor),
    "paper": Command(training.add_paper, training.run_paper, continues=True, trains=True),
    "completion": Command(completion.add_completion, completion.run_completion),
}


def make_parser(context: Context | None = None) -> Parser:
    """The parser of the whole command line."""
    context = context or Context()
    parser = Parser(prog=context.program, description="Distil speech-emotion teachers into small students.")
    parser.add_argument("--version", action="version", version=f"light-sernet-kd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, command in COMMANDS.items():
        command.add(commands, context)
        each = parser.commands()[name]
        each.epilog = "\n\n".join(filter(None, [examples_of(name), each.epilog]))
        if command.takes_plugins:
            # Read before the parser is made, whose help and choices they add to.
            parser.commands()[name].add_argument(
                plugins.OPTION, action="append", default=[], metavar="FILE",
                help="Python that registers corpora, students, losses or others; may be given several times",
            )  # fmt: skip
    return parser


def console() -> int:
    """`light-sernet-kd` as it is installed; returns the exit code."""
    return main(defaults={"recipe": DEFAULT})


def main(
    argv: Sequence[str] | None = None,
    *,
    program: str = "light-sernet-kd",
    defaults: Mapping[str, Any] | None = None,
    experiments: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Run a command; returns the exit code.

    0; 1 when an audit found a leak or a test of a certificate failed; 2 for a mistake of the user's or a
    recording that cannot be read; 130 when interrupted.

    Args:
        argv: by default the process's own.
        program: what the user typed, for messages and help.
        defaults: settings that a user edited, over those of `Settings`.
        experiments: what `paper` runs: name → `settings`, and `published` UA and WA in per cent where known.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    warnings.formatwarning = _format_warning
    name = "train" if program == "train.py" else argv[0] if argv else ""
    typed = command_line([*(["python", program] if program.endswith(".py") else [program]), *argv])
    defaults = dict(defaults or {})
    if defaults.get("protocol", "") is None:
        del defaults["protocol"]  # not chosen: the corpus's own is taken
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        for text in plugins.load_installed():
            complain(text)
        with plugins.loaded(plugins.named_files(argv)):
            context = Context(program, typed, defaults, make_settings(**defaults), experiments or {})
            parser = make_parser(context)
            arguments = parser.parse_args(parser.checked(argv, program))
            command = COMMANDS[arguments.command]
            command.require(arguments)
            return command.run(arguments, context) or 0
    except UserError as error:
        complain(str(error))
        return 2
    except UserCodeError as error:
        print(error.traced, end="", file=sys.stderr)
        complain(error.said)
        return 2
    except ImportError as error:
        # What an option or a file needs, and not its command.
        if (line := as_missing_package(error, name)) is None:
            raise
        complain(str(line))
        return 2
    except BrokenPipeError:
        # whoever read our output has gone; nothing more can be said there
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _FULL + _FORBIDDEN:
            raise
        where = f" ({error.filename})" if error.filename else ""
        remedy = "Make room and give the same command again" if error.errno in _FULL else "Name another place"
        complain(f"{error.strerror}{where}. {remedy}.")
        return 2
    except MemoryError:
        complain("not enough memory. Shorter clips, smaller batches or a narrower student need less.")
        return 2
    except KeyboardInterrupt:
        continues = name in COMMANDS and COMMANDS[name].continues
        complain("interrupted; the same command continues." if continues else "interrupted.")
        return 130


_format_warning_with_place = warnings.formatwarning


def _format_warning(message, category, filename, lineno, line=None) -> str:
    """A note on a recording in one line, any other warning as Python prints it."""
    # by name, since --help does without NumPy
    if category.__name__ == "AudioNote":
        return f"light-sernet-kd: note: {message}\n"
    return _format_warning_with_place(message, category, filename, lineno, line)
