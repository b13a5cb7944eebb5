"""The command line's options, made from the fields of `Settings` and `RunOptions`; and back to those."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from light_sernet_kd.config import RunOptions, Settings, distillation_spec, fields
from light_sernet_kd.config.cluster import LOCAL, OUTSIDE, cluster_address
from light_sernet_kd.config.run_options import data_folder
from light_sernet_kd.config.settings import BEST
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.corpora import CORPORA, registered_name
from light_sernet_kd.registries.front_ends import FRONT_ENDS, INPUT_TYPES
from light_sernet_kd.registries.losses import DISTILLATIONS
from light_sernet_kd.registries.recipes import OWN, RECIPES
from light_sernet_kd.registries.students import STUDENTS, is_multimodal

_FIELDS = {field.name: field for field in (*dataclasses.fields(Settings), *dataclasses.fields(RunOptions))}


def corpus_names() -> str:
    """The corpora that are known by name, for help."""
    return ", ".join(CORPORA)


def add_option(
    parser: Any, name: str, *, default: Any = argparse.SUPPRESS, shown: Any = None, text: str | None = None
) -> None:
    """Add the option of a setting to a parser or a group of one.

    Args:
        name: a field of `Settings` or `RunOptions`, which is also the `dest`.
        default: where the option is left out; by default nothing is there.
        shown: the default that the help tells.
        text: the help, in the place of the field's own.
    """
    field = _FIELDS[name]
    option: fields.Option = field.metadata["option"]
    kind, _ = fields.kind_of(field.type)
    how: dict[str, Any] = {"metavar": option.metavar, "type": option.parse}
    if kind is bool and option.parse is None:
        is_switch = field.default is False and not option.shows_default
        how = {"action": "store_true" if is_switch else argparse.BooleanOptionalAction}
    elif option.parse is None and kind in (int, float):
        how["type"] = kind
    if option.repeats:
        how["action"], default = "append", list(default)
    parser.add_argument(
        *option.flags, dest=name, default=default, help=text or option.help_text(shown), **how
    )


def check_ranges(arguments: argparse.Namespace, *names: str) -> None:
    """Refuse values that the fields of these names do not take, where a command makes no settings of them.

    Raises:
        UserError: names the field, what it takes and what was given.
    """
    for name in names:
        fields.checked(_FIELDS[name], getattr(arguments, name))


def add_settings(parser: argparse.ArgumentParser, defaults: Settings, command: str) -> None:
    """Every setting, under its heading; one left out keeps the default.

    What the command makes no use of is known but not listed, so that it is refused with a reason.
    """
    groups: dict[str, Any] = {}
    for name, option in fields.options(Settings).items():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        group = groups[option.group]
        hidden = argparse.SUPPRESS if command not in option.commands else None
        add_option(group, name, shown=getattr(defaults, name), text=hidden)
        for each in option.shorthands:
            group.add_argument(*each.flags, dest=each.dest, type=each.parse, default=argparse.SUPPRESS,
                               metavar=each.metavar, help=hidden or each.help)  # fmt: skip


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Where a run reads and writes, and what it shows."""
    groups: dict[str, Any] = {}
    for name, option in fields.options(RunOptions).items():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        if name == "data":
            add_data(groups[option.group])
        else:
            default = getattr(RunOptions, name)
            add_option(groups[option.group], name, default=default, shown=default)


def add_on(parser: Any, *, jobs: str, on: str = "") -> None:
    """Where runs are made, and how many at a time.

    Args:
        jobs: the help of `--jobs`.
        on: what the help of `--on` adds.
    """
    parser.add_argument("--jobs", type=int, metavar="N", help=jobs)
    parser.add_argument("--on", default=LOCAL, metavar="WHERE",
                        help="local (default); ray: Ray on this machine, or where RAY_ADDRESS says; "
                        f"ray://HOST:PORT or HOST:PORT: that Ray cluster (docs/scale.md){on}")  # fmt: skip


def check_on(arguments: argparse.Namespace) -> None:
    """Refuse what does not go with a cluster, and less than one run at a time."""
    if arguments.callbacks and arguments.on != LOCAL:
        raise UserError(f"--callbacks is for runs of this machine: leave it out, or --on {arguments.on}.")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs must be at least 1, found {arguments.jobs}.")


def add_clips_on(parser: Any) -> None:
    """Where the clips of `--unlabelled` are encoded."""
    group = parser.add_argument_group("unlabelled speech on a cluster")
    add_on(
        group,
        jobs="with --on: processes that encode at a time (default one on each machine)",
        on=". It encodes the clips of --unlabelled, not through ray://; the rest is done here",
    )


def with_clips_on(
    arguments: argparse.Namespace, settings: Settings, options: RunOptions, begin: Callable[[], None]
) -> RunOptions:
    """The options with what encodes the clips of `--unlabelled` where `--on` says.

    Args:
        begin: what a process does first.
    """
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs must be at least 1, found {arguments.jobs}.")
    if arguments.on == LOCAL:
        if arguments.jobs is not None:
            raise UserError("--jobs goes with --on, which encodes the clips of --unlabelled elsewhere.")
        return options
    if settings.unlabelled is None:
        raise UserError(
            "--on encodes the clips of --unlabelled, which is not given. Many runs on a cluster are a grid "
            "(light-sernet-kd grid)."
        )
    from light_sernet_kd.experiment.cluster.clips import RayClips, require_ray_data

    address = cluster_address(arguments.on)
    require_ray_data("--unlabelled with --on")
    if address and address.startswith(OUTSIDE):
        raise UserError(
            f"Ray Data works from a machine of the cluster alone, not through {address}: give the command on "
            "one, with --on ray or --on HOST:PORT."
        )
    return dataclasses.replace(options, clips=RayClips(address, begin, arguments.jobs))


def add_data(parser: Any) -> None:
    add_option(parser, "data", default=Path(data_folder()))


def run_options(arguments: argparse.Namespace) -> RunOptions:
    """The `RunOptions` that a command line gives, checked."""
    known = fields.options(RunOptions)
    return RunOptions(**{name: fields.checked(_FIELDS[name], getattr(arguments, name)) for name in known})


def settings_of(arguments: argparse.Namespace, defaults: Mapping[str, Any]) -> Settings:
    """The `Settings` that a command line gives, over those of `hyperparameters.py`."""
    flag_values = vars(arguments)
    chosen = {name: flag_values[name] for name in fields.options(Settings) if name in flag_values}
    if "session_number" in flag_values:
        if "folds" in chosen:
            raise UserError("-session and --folds both name the folds to run: give one of them.")
        chosen["folds"] = flag_values["session_number"]
    values = _by_recipe(chosen, defaults)
    if isinstance(values.get("corpus"), str):
        values["corpus"] = canonical(values["corpus"])
    if "protocol" not in chosen:
        # An option that only makes sense under one protocol chooses it.
        if "test_on" in chosen:
            values.pop("protocol", None)
        elif "session_number" in flag_values and _has_sessions(values):
            values["protocol"] = "session"
    weights = dict(values.get("distillation_weights", {}))
    if "distillation" in chosen and chosen["distillation"] != defaults.get("distillation"):
        # Weights and a teacher in hyperparameters.py belong to the method named there.
        weights = dict(chosen.get("distillation_weights", {}))
        if "teacher" not in chosen and not distillation_spec.parse(chosen["distillation"]).needs_teacher:
            values["teacher"] = None
    if values.get("augmentation"):
        from light_sernet_kd.audio import augment

        # One spelling for one meaning, and a typo is refused before TensorFlow is imported.
        values["augmentation"] = augment.text_of(augment.parse(str(values["augmentation"])))
    values["distillation_weights"] = weights | _lambdas(flag_values, values)
    from light_sernet_kd.data.resolve_settings import resolve_settings

    return resolve_settings(values, Path(arguments.data))


def _by_recipe(chosen: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen over the defaults, so that their recipe fits it."""
    recipe_name = chosen.get("recipe", defaults.get("recipe", OWN))
    recipe = RECIPES[choose("recipe", recipe_name, RECIPES)].settings
    # Named with the command, it wins over what hyperparameters.py says of its settings.
    others = {name: value for name, value in defaults.items() if name not in recipe or "recipe" not in chosen}
    values = {**others, **chosen}
    if chosen.get("patience") and "keep" not in chosen:
        values["keep"] = BEST  # patience waits for it
    if "recipe" in chosen:
        return values
    student = choose("student", values.get("student", Settings.student), STUDENTS)
    if is_multimodal(student):
        return {**values, "recipe": OWN}  # others are of students that hear alone
    front_end = str(recipe.get("front_end"))
    kind = chosen.get("input_type")
    lacks = front_end in FRONT_ENDS and kind in INPUT_TYPES and kind not in FRONT_ENDS[front_end].spectra
    if lacks and not values.get("front_end"):
        values["front_end"] = STUDENTS[student].front_end
    return values


def protocol_of(corpus: str, columns: tuple[str, ...], data: Path) -> str:
    """The protocol of a corpus where none is named."""
    from light_sernet_kd.corpora.registry import default_protocol

    return default_protocol(corpus, data, columns)


def canonical(corpus: str) -> str:
    """The corpus's own spelling, so that iemocap and IEMOCAP are one run."""
    return registered_name(corpus) or corpus


def _has_sessions(values: Mapping[str, Any]) -> bool:
    corpus = str(values.get("corpus", Settings.corpus))
    if corpus in CORPORA:
        return CORPORA[corpus].sessions
    from light_sernet_kd.corpora import manifest

    try:
        return "session" in manifest.roles(Path(corpus), values.get("columns", ()))
    except UserError:
        return False  # what is wrong with the manifest is said when it is read


def _lambdas(flag_values: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, float]:
    """-l1 and -l2 as weights of the loss that they belong to, CKD, in a sum or without one."""
    lambdas = {name: flag_values[name] for name in ("lambda1", "lambda2") if name in flag_values}
    if not lambdas:
        return {}
    terms = distillation_spec.parse(values.get("distillation", Settings.distillation)).terms
    owner = next((term.name for term in terms if {*lambdas} <= {*term.entry.flags}), None)
    if owner is None:
        owners = ", ".join(name for name, each in DISTILLATIONS.items() if {*lambdas} <= {*each.flags})
        raise UserError(f"-l1 and -l2 are weights of {owners}: add -kd {owners}.")
    return {name if len(terms) == 1 else f"{owner}.{name}": value for name, value in lambdas.items()}


def add_stream_settings(group: Any) -> None:
    """Options of `runner.Stream`; their `dest` is its argument, None keeps its default."""
    group.add_argument("--hop", dest="hop_seconds", type=float, metavar="S",
                       help="from one window's start to the next one's "
                       "(default 0.5 s, or the length of a shorter window)")  # fmt: skip
    group.add_argument("--threshold", "--unsure-below", dest="unsure_below", type=float, metavar="P",
                       help="`unsure` where all classes are less likely "
                       "(default the file's own, else 0.5)")  # fmt: skip
    group.add_argument("--silence", dest="silence_dbfs", type=float, metavar="DB",
                       help="`unsure` below this level in dBFS (default -110, digital silence; "
                       "--silence=-50 for a fixed gate, --silence=-inf for none)")  # fmt: skip
    group.add_argument("--steady", dest="steady_db", type=float, metavar="DB",
                       help="`unsure` where the level of 80 ms frames moves by less dB, as in noise "
                       "(default 4; 0 for no gate)")  # fmt: skip
    group.add_argument("--smoothing", dest="smoothing_seconds", type=float, metavar="S",
                       help="time constant of smoothing (default 1 s; 0 for none)")  # fmt: skip


def stream_settings(arguments: argparse.Namespace) -> dict[str, float]:
    """Those of `add_stream_settings` that were given."""
    names = ("hop_seconds", "unsure_below", "silence_dbfs", "steady_db", "smoothing_seconds")
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def add_profile(parser: Any, text: str = "what is known of the speaker, as enroll writes it") -> None:
    parser.add_argument("--profile", type=Path, metavar="FILE", help=text)


def add_threads(parser: Any) -> None:
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="processor cores (default 1)")
