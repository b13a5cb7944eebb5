"""The commands that train: `train`, `recipe`, `teach`, `grid`, `paper`, `export`."""

import argparse
import dataclasses
import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from light_sernet_kd.cli.console import heavy_imports, terminal
from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.options import (
    add_clips_on,
    add_data,
    add_on,
    add_run_options,
    add_settings,
    check_on,
    run_options,
    settings_of,
    with_clips_on,
)
from light_sernet_kd.config import Settings, distillation_spec, fields, make_settings
from light_sernet_kd.config.engine import one_engine
from light_sernet_kd.config.settings import SPEECH_AND_TEXT, TEACHER
from light_sernet_kd.data.settings_file import config_of, file_settings
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.recipes import DEFAULT, DISTILLED, RECIPES
from light_sernet_kd.registries.schedules import SCHEDULES
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.registries.teachers import sources_text, teacher_source


def add_train(commands: Any, context: Context) -> None:
    # train.py is the train command: its name stands for both words.
    program = context.program if context.program == "train.py" else f"{context.program} train"
    train = commands.add_parser(
        "train",
        prog=program,
        help="distil, cross-validate, report and export a student",
        description="Distil, cross-validate, report and export a student.",
    )
    train.add_argument("--alone", action="store_true",
                       help="first train the student without a teacher too, as the run NAME-alone without "
                       "files for a device: the report sets both beside the teacher")  # fmt: skip
    train.add_argument("--seeds", metavar="N,N,…",
                       help="train with each of these seeds, as the runs NAME-seed-N, and write their scores "
                       "with mean and standard deviation into NAME-seeds.md")  # fmt: skip
    train.add_argument("--config", type=Path, metavar="FILE",
                       help="settings from a .toml file, or those of a run that is repeated, from its "
                       "config.json or its folder; options given beside it win")  # fmt: skip
    add_clips_on(train)
    add_settings(train, context.settings, fields.TRAIN)
    add_run_options(train)
    _add_mirror(train)


def _add_mirror(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mirror", metavar="URL",
                         help="a second place for the results, such as s3://bucket/results: what is finished "
                         "there is fetched, and what is finished here is sent (docs/scale.md)")  # fmt: skip


def run_train(arguments: argparse.Namespace, context: Context) -> None:
    defaults = context.defaults if arguments.config is None else _of_file(arguments)
    settings, options = settings_of(arguments, defaults), run_options(arguments)
    if arguments.alone and settings.teacher is None:
        raise UserError("--alone is for a student with a teacher: add -kd KD or another method.")
    if arguments.seeds is not None and "seed" in vars(arguments):
        raise UserError("--seeds names all seeds: leave out --seed.")
    seeds = None if arguments.seeds is None else _seeds(arguments.seeds)
    options = with_clips_on(arguments, settings, options, heavy_imports)  # engine jax takes no such clips
    display = terminal(options.verbose)
    from light_sernet_kd.experiment.from_command import TrainCommand

    repeats = None if arguments.config is None else config_of(arguments.config)
    command = TrainCommand(context.command_line, arguments.alone, repeats, arguments.mirror, heavy_imports)
    if seeds is None:
        command.train(settings, options, display)
    else:
        from light_sernet_kd.experiment.sweeps.seeds import train_each

        train_each(seeds, settings, options, display, command.train)


def _seeds(text: str) -> tuple[int, ...]:
    """Seeds between commas, each once, in their order.

    Raises:
        UserError: there are no two, or one is no seed.

    >>> _seeds("0,2,1,2")
    (0, 2, 1)
    """
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        seeds = ()
    if len(seeds) < 2 or min(seeds) < 0 or max(seeds) >= 2**32:
        raise UserError(
            f"--seeds takes two or more whole numbers from 0 to {2**32 - 1} between commas, such as 0,1,2: "
            f"found {text!r}."
        )
    return seeds


def _of_file(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings of `--config`, less those of a teacher where a method is given that has none."""
    values = file_settings(arguments.config)
    method = getattr(arguments, "distillation", None)
    if method is None or distillation_spec.parse(method).needs_teacher:
        return values
    return {name: value for name, value in values.items() if fields.options(Settings)[name].group != TEACHER}


def add_recipe(commands: Any, context: Context) -> None:
    recipe = commands.add_parser(
        "recipe",
        help="what a recipe sets, in a form to copy and change",
        description="Print the settings of a recipe, as --config and grid files take them. Each can also be "
        "given beside --recipe on the command line of train, or be changed in hyperparameters.py.",
    )
    recipe.add_argument("name", nargs="?", metavar="NAME", help="; ".join(
        f"{name}: {each.text}" for name, each in RECIPES.items()
    ))  # fmt: skip


def run_recipe(arguments: argparse.Namespace, context: Context) -> None:
    if arguments.name is None:
        width = max(map(len, RECIPES))
        for name, recipe in RECIPES.items():
            print(f"{name:{width}}  {recipe.text}")
        return
    name = choose("recipe", arguments.name, RECIPES)
    print(f"# {RECIPES[name].text}")
    for setting, value in RECIPES[name].settings.items():
        print(f"{setting} = {_toml(value)}")
    schedule = RECIPES[name].settings.get("schedule")
    if schedule:
        # These are settings too, where they have their names; those of encoders are of other students.
        print(f"# the schedule {schedule}:")
        named = [name for name, each in fields.options(Settings).items() if each.group != SPEECH_AND_TEXT]
        for part, value in dataclasses.asdict(SCHEDULES[schedule]).items():
            print(f"{'' if part in named else '# '}{part} = {_toml(value)}")


def _toml(value: Any) -> str:
    """A value as TOML has it, which differs from JSON in tables."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value)


def add_teach(commands: Any, context: Context) -> None:
    teach = commands.add_parser(
        "teach",
        help="make a teacher for every fold and write its outputs to a teacher file",
        description="Make a teacher per fold, on that fold's training speakers only, and write a teacher "
        "file for --teacher: a wider network, or with --from a student's architecture, a probe on another "
        "network's embeddings, or that network fine-tuned.",
    )
    teach.add_argument("--from", dest="source", metavar="MODEL",
                       help=sources_text("--from"))  # fmt: skip
    teach.add_argument("--fine_tune", action="store_true",
                       help="train the speech model itself, and not only a probe on its layers")  # fmt: skip
    teach.add_argument("--out", type=Path, metavar="FILE", help="default: teacher.npz in the run's folder")
    add_clips_on(teach)
    add_settings(teach, context.settings, fields.TEACH)
    add_run_options(teach)


def run_teach(arguments: argparse.Namespace, context: Context) -> None:
    if arguments.fine_tune and not (
        arguments.source and teacher_source(arguments.source, "--from")[0].fine_tunes
    ):
        raise UserError("--fine_tune needs --from and a speech model, such as microsoft/wavlm-base-plus.")
    _refuse_unused(arguments)
    student = arguments.source if arguments.source in STUDENTS else None
    # A teacher is trained as a student without one.
    recipe = getattr(arguments, "recipe", context.defaults.get("recipe"))
    if recipe == DISTILLED:
        arguments.recipe = DEFAULT
    settings = settings_of(
        arguments,
        {
            **context.defaults,
            **({"student": student} if student else {}),
            "distillation": "KD",
            "distillation_weights": {},
            "teacher": student,
            "augmentation": "",
            "engine": Settings.engine,
        },
    )
    options = with_clips_on(arguments, settings, run_options(arguments), heavy_imports)
    heavy_imports()
    from light_sernet_kd import experiment

    display = terminal(options.verbose)
    if arguments.source and not student:
        path = experiment.teach_from(
            arguments.source, settings, options, display, fine_tune=arguments.fine_tune, out=arguments.out
        )
    else:
        path = experiment.teach(settings, options, display, out=arguments.out)
    display.say(f"Teacher file: {path}", always=True)


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """An error about the first setting that is given and makes no difference to the teacher."""
    if arguments.source is None:
        command = fields.TEACH
    elif arguments.source in STUDENTS:
        command = fields.TEACH_STUDENT
    else:
        command = fields.TEACH_TUNED if arguments.fine_tune else fields.TEACH_PROBE
    flag_values = vars(arguments)
    # The length of their clips; an encoder hears labelled recordings whole.
    of_clips = ("input_seconds", "input_samples") if "unlabelled" in flag_values else ()
    for name, option in fields.options(Settings).items():
        if name in of_clips:
            continue
        flags = {name: option.flags[0]} | {each.dest: each.flags[0] for each in option.shorthands}
        if command not in option.commands and (
            unused := [flag for at, flag in flags.items() if at in flag_values]
        ):
            how = f" --from {arguments.source}" if arguments.source else ""
            raise UserError(f"teach{how} makes no use of {unused[0]}: leave it out.")


_GRID_EPILOG = """the file:
  compare = "distillation"    the setting that is compared; its first value is the baseline

  [settings]                  of every run; names as in hyperparameters.py
  corpus = "EMO-DB"

  [[runs]]                    every combination of these lists; more tables [[runs]] add more
  distillation = ["pure", "KD", "CKD"]
  seed = [0, 1, 2]

0 when all is done, 1 when a run could not be made, 2 for a mistake in the file."""


def add_paper(commands: Any, context: Context) -> None:
    paper = commands.add_parser(
        "paper",
        help="run every entry of hyperparameters.EXPERIMENTS whose corpus is present (with train.py)",
        description="Run every entry of hyperparameters.EXPERIMENTS whose corpus is present, as published "
        "and under an honest protocol, and set both beside the published figures in result/paper.md.",
    )
    paper.add_argument("--only", default="*", metavar="PATTERN",
                       help="names of the entries, e.g. 'cubic-emodb-*'")  # fmt: skip
    paper.add_argument("--epochs", type=int, metavar="N", help="for a trial, instead of the published number")
    add_run_options(paper)


def run_paper(arguments: argparse.Namespace, context: Context) -> None:
    if not context.experiments:
        raise UserError("there are no experiments here: run `sh run.sh paper` in the repository.")
    if arguments.epochs is not None and arguments.epochs < 1:
        raise UserError(f"--epochs must be at least 1, found {arguments.epochs}.")
    if arguments.run is not None:
        raise UserError("--run is for one run: paper names its own, paper-<row>-<protocol>.")
    options = run_options(arguments)
    names = fnmatch.filter(context.experiments, arguments.only)
    heavy_imports(
        one_engine(
            [make_settings(**context.experiments[name].get("settings", {})) for name in names],
            remedy="name some with --only, or set KERAS_BACKEND=tensorflow",
        )
    )
    from light_sernet_kd.experiment.sweeps import paper

    display = terminal(options.verbose)
    rows = paper.rows_of(context.experiments, context.defaults, only=arguments.only, epochs=arguments.epochs)
    ran = paper.run(rows, options, display, command=context.command_line)
    paper.show(ran, display)
    table = "paper-trial.md" if arguments.epochs else "paper.md"
    display.say(f"Table: {options.result / table}", always=True)


def add_grid(commands: Any, context: Context) -> None:
    grid = commands.add_parser(
        "grid",
        help="many runs from one file of settings and lists, and their scores in one table",
        description="Run every combination of the settings that a TOML file lists, each in a folder of its "
        "own below RESULT/NAME, and set their scores beside one another: means over seeds, paired tests over "
        "folds and seeds, corrected for how many they are. The same command goes on where it was stopped.",
        epilog=_GRID_EPILOG,
    )
    grid.add_argument("file", type=Path, metavar="FILE",
                      help="a .toml file; with train.py also EXPERIMENTS of hyperparameters.py")  # fmt: skip
    grid.add_argument("--dry-run", action="store_true",
                      help="say what would run, what is done and what it takes, and run nothing")  # fmt: skip
    grid.add_argument("--measure", action="store_true",
                      help="with --dry-run: time some training steps of each kind of run that was not timed "
                      "on this machine before, which takes up to some minutes a kind")  # fmt: skip
    add_on(
        grid,
        jobs="runs at a time, each in a process of its own (default 1; with --on ray what the cluster has "
        "room for)",
    )
    add_run_options(grid)
    _add_mirror(grid)


def _check_grid(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    check_on(arguments)
    if arguments.measure and not arguments.dry_run:
        raise UserError("--measure goes with --dry-run.")
    if arguments.mirror and arguments.dry_run:
        raise UserError("--mirror moves results, and --dry-run makes none: leave out one of them.")
    if arguments.run is not None:
        raise UserError("--run is for one run: a grid names its own.")


def run_grid(arguments: argparse.Namespace, context: Context) -> int:
    _check_grid(arguments)
    options = run_options(arguments)
    from light_sernet_kd.analysis import grid as grids
    from light_sernet_kd.experiment.sweeps.from_command import GridCommand

    display = terminal(options.verbose)
    if str(arguments.file) == "EXPERIMENTS" and not arguments.file.exists():
        seed = context.defaults.get("seed", Settings.seed)
        grid = grids.grid_of_experiments(context.experiments, seed, options.data)
    else:
        grid = grids.read_grid(arguments.file, options.data)
    command = GridCommand(
        jobs=arguments.jobs,
        on=arguments.on,
        dry_run=arguments.dry_run,
        measure=arguments.measure,
        mirror=arguments.mirror,
        begin=heavy_imports,
    )
    return 0 if command.carry_out(grid, options, display) else 1


def add_export(commands: Any, context: Context) -> None:
    export = commands.add_parser(
        "export",
        help="the .tflite files of a run that was trained without them, or by JAX",
        description="Make the .tflite files of a run whose folds are trained: with --no-export, or with "
        "--engine jax, which converts nothing. Trains the final student on all speakers where the run did "
        "not, converts it, scores each precision over the folds, and writes the report anew. Needs "
        "TensorFlow. The run's own command still continues it.",
    )
    export.add_argument("run", type=Path, metavar="RUN", help="a run's folder, e.g. result/demo")
    add_data(export)


def run_export(arguments: argparse.Namespace, context: Context) -> None:
    heavy_imports()
    from light_sernet_kd import experiment
    from light_sernet_kd.data.run_folder import RunFolder

    display = terminal()
    files = experiment.export_run(arguments.run, Path(arguments.data), display)
    display.say(f"Files: {', '.join(map(str, files))}", always=True)
    display.say(f"Report: {RunFolder(arguments.run).report}", always=True)
