"""The command `search`."""

import argparse
from pathlib import Path
from typing import Any

from light_sernet_kd.cli.console import heavy_imports, terminal
from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.options import (
    add_on,
    add_run_options,
    add_settings,
    check_on,
    run_options,
    settings_of,
)
from light_sernet_kd.config import PRECISIONS, fields
from light_sernet_kd.config.cluster import LOCAL
from light_sernet_kd.errors import UserError, choose

_EPILOG = """the file of --space:
  [space]
  width = [0.25, 0.5, 1.0]                                  one of a list
  depth = { low = 2, high = 4 }                             of a range
  learning_rate = { low = 3e-4, high = 3e-3, log = true }   evenly in its logarithm
  kernels = [["3x3"], ["11x1", "1x9", "3x3"]]               of a list, lists in a list
2 when no student meets the budget."""


def add_search(commands: Any, context: Context) -> None:
    search = commands.add_parser(
        "search",
        help="settings of a small student within a budget of size, time and parameters",
        description="Draw settings (Optuna), measure each student's exported file before any training, train "
        "what meets the budget on inner folds, and set the students that no other beats in UA, time and "
        "size in one table. The speakers of the outer folds (--folds; by default a fifth of the folds, drawn "
        "by the seed) choose nothing; they test the best once, at the end. The same command goes on where it "
        "was stopped; given several times at once, the processes share the trials. Needs the extra `search`.",
        epilog=_EPILOG,
    )
    group = search.add_argument_group("search")
    group.add_argument("--space", type=Path, metavar="FILE",
                       help="a .toml file of what is chosen; by default the student's shape, learning rate "
                       "and label smoothing, with --recipe own also front end and schedule; what is given on "
                       "the command line is not chosen")  # fmt: skip
    group.add_argument("--trials", type=int, default=30, metavar="N", help="settings drawn (default 30)")
    group.add_argument("--inner", type=int, default=4, metavar="N",
                       help="inner folds of the speakers that choose: one group scores, one chooses the "
                       "epoch, the rest train (default 4)")  # fmt: skip
    group.add_argument("--finals", type=int, default=3, metavar="N",
                       help="how many of the best by inner UA are tested on the outer folds "
                       "(default 3)")  # fmt: skip
    group.add_argument("--precision", default="int8", metavar="NAME",
                       help=f"of the measured file: {', '.join(PRECISIONS)} (default int8)")  # fmt: skip
    group.add_argument("--max-kb", type=float, metavar="X", help="largest file, in 1000 bytes")
    group.add_argument("--max-ms", type=float, metavar="X",
                       help="longest answer: processor time on one thread of this machine, "
                       "median")  # fmt: skip
    group.add_argument("--max-params", type=int, metavar="N", help="most parameters")
    group.add_argument("--dry-run", action="store_true",
                       help="say the space, the budget and the speakers, and run nothing")  # fmt: skip
    add_on(
        group,
        jobs="with --on: students that are trained at a time (default what the cluster has room for)",
        on=". This machine draws and measures",
    )
    add_settings(search, context.settings, fields.TRAIN)
    add_run_options(search)


def run_search(arguments: argparse.Namespace, context: Context) -> None:
    for name, least in (("trials", 1), ("finals", 0)):
        if getattr(arguments, name) < least:
            raise UserError(f"--{name} must be at least {least}, found {getattr(arguments, name)}.")
    for name in ("max_kb", "max_ms", "max_params"):
        value = getattr(arguments, name)
        if value is not None and value not in fields.POSITIVE:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, found {value:g}.")
    check_on(arguments)
    if arguments.jobs is not None and arguments.on == LOCAL:
        raise UserError(
            "--jobs goes with --on: on one machine give the same command several times, and the processes "
            "share the trials."
        )
    precision = choose("precision", arguments.precision, PRECISIONS)
    settings, options = settings_of(arguments, context.defaults), run_options(arguments)
    from light_sernet_kd.analysis.search import Budget
    from light_sernet_kd.experiment.sweeps.from_command import SearchCommand

    SearchCommand(
        line=context.command_line,
        space=arguments.space,
        budget=Budget(arguments.max_kb, arguments.max_ms, arguments.max_params),
        precision=precision,
        inner=arguments.inner,
        trials=arguments.trials,
        finals=arguments.finals,
        jobs=arguments.jobs,
        on=arguments.on,
        dry_run=arguments.dry_run,
        begin=heavy_imports,
    ).carry_out(settings, options, terminal(options.verbose))
