"""A setting said once: a dataclass field that knows its flags, its help, its choices and its range.

The parser, the checks and the documents are made from these fields. To add a setting, write one field in
`settings/declared.py`, and the line that uses it.
"""

import argparse
import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args, get_origin

from light_sernet_kd.config.ramps import ramp_of
from light_sernet_kd.errors import UserError, choose


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be; none of them is infinite or not a number.

    Attributes:
        above: whether `low` itself is too small.
        below: whether `high` itself is too large.
        text: what the number must be, where a word or two say more than the ends do.

    >>> 0 in Range(0, above=True), 0.5 in Range(0, 1, below=True)
    (False, True)
    >>> print(Range(0, 16, above=True))
    above 0 and at most 16
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    text: str = ""

    def __contains__(self, value: float) -> bool:
        if not math.isfinite(value) or value < self.low or value > self.high:
            return False
        return not (self.above and value == self.low) and not (self.below and value == self.high)

    def __str__(self) -> str:
        if self.text:
            return self.text
        least = f"above {self.low}" if self.above else f"at least {self.low}"
        most = f"below {self.high}" if self.below else f"at most {self.high}"
        return f"{least} and {most}" if self.high < math.inf else least


POSITIVE = Range(0, above=True)
SHARE = Range(0, 1, below=True)

# Which commands take a setting. `teach` trains the network that teaches; with --from it names that network: a
# student, an encoder below a probe, or an encoder that is fine-tuned.
TRAIN, TEACH, TEACH_STUDENT = "train", "teach", "teach --from STUDENT"
TEACH_PROBE, TEACH_TUNED = "teach --from MODEL", "teach --from MODEL --fine_tune"
OF_STUDENT = frozenset({TRAIN})
OF_STUDENT_AND_TEACHER = frozenset({TRAIN, TEACH})
OF_STUDENT_AND_PROBES = frozenset({TRAIN, TEACH, TEACH_STUDENT, TEACH_PROBE})
OF_WHAT_ANSWERS = OF_STUDENT_AND_PROBES | {TEACH_TUNED}
OF_NETWORKS = frozenset({TRAIN, TEACH, TEACH_STUDENT})
OF_TRAINING = frozenset({TRAIN, TEACH, TEACH_STUDENT, TEACH_TUNED})
OF_ALL = frozenset({TRAIN, TEACH, TEACH_STUDENT, TEACH_PROBE, TEACH_TUNED})


@dataclass(frozen=True)
class Shorthand:
    """Another option that says a part of a setting, such as `-l1` one of its weights.

    Attributes:
        dest: the name under which its value is handed on.
    """

    flags: tuple[str, ...]
    dest: str
    help: str
    metavar: str
    parse: Callable[[str], Any]


@dataclass(frozen=True)
class Option:
    """What a field of settings tells of itself.

    Attributes:
        flags: its spellings on the command line. The first is the one that messages use.
        group: the heading under which `--help` lists it.
        help: `{choices}` in it becomes the list of the choices. A function gives it where it reads a
            registry, which plug-ins add to.
        choices: the names that it may have, such as a registry; empty for any value of its type.
        range: of numbers.
        parse: of the text after a flag; by default its type's own.
        example: of a list, for the message that refuses another value.
        repeats: whether the option may be given several times, each with one value of a list.
        may_be_empty: whether an empty text says something.
        shows_default: whether `--help` adds the default.
        always_spelled: whether a command line that is told has it even where it is the default, since the
            command's own default may be another.
        commands: those that take it.
        shorthands: options that say a part of it.
        in_digest: whether it has a part in the digest that names a run, and a run goes on only where it is
            the same. Not of what another setting tells too, or what leaves what is trained as it is.
        original: whether the config.json of every run tells it. Older runs lack any other: where it has its
            default it has no part in the digest, and a config.json without it is of the same run.
    """

    flags: tuple[str, ...]
    group: str
    help: str | Callable[[], str]
    metavar: str | None = None
    choices: Collection[str] = ()
    range: Range | None = None
    parse: Callable[[str], Any] | None = None
    example: str = ""
    repeats: bool = False
    may_be_empty: bool = False
    shows_default: bool = True
    always_spelled: bool = False
    commands: frozenset[str] = OF_ALL
    shorthands: tuple[Shorthand, ...] = ()
    in_digest: bool = True
    original: bool = False

    def help_text(self, default: Any = None) -> str:
        """What `--help` says of it, with the default where there is one to say."""
        text = self.help if isinstance(self.help, str) else self.help()
        text = text.replace("{choices}", ", ".join(self.choices))
        if not self.shows_default or default is None or default == "" or isinstance(default, Mapping):
            return text
        if isinstance(default, tuple | list):
            return f"{text} (default {','.join(default)})" if default else text
        return f"{text} (default {str(default).lower() if isinstance(default, bool) else default})"


def setting(default: Any, *flags: str, **option: Any) -> Any:
    """A field of a dataclass of settings; `option` are the attributes of `Option`."""
    metadata = {"option": Option(flags, **option)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def original_setting(default: Any, *flags: str, **option: Any) -> Any:
    """A `setting` of the first runs; a new one is not."""
    return setting(default, *flags, original=True, **option)


def options(settings: type) -> dict[str, Option]:
    """Field → its `Option`, in the order in which they are declared and listed."""
    return {
        field.name: field.metadata["option"]
        for field in dataclasses.fields(settings)
        if "option" in field.metadata
    }


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def kind_of(annotation: Any) -> tuple[Any, bool]:
    """The type that a field's value has, and whether it may be None instead."""
    if isinstance(annotation, UnionType):
        return get_args(annotation)[0], True
    return get_origin(annotation) or annotation, False


def checked(field: dataclasses.Field, value: Any) -> Any:
    """`value` as the field takes it: 3 seconds are 3.0, so that equal settings have one digest.

    Raises:
        UserError: an unknown choice, a value of another type, or a number outside of the range.
    """
    option: Option = field.metadata["option"]
    name = field.name.replace("_", " ")
    kind, is_optional = kind_of(field.type)
    if value is None and is_optional:
        return None
    if option.choices:
        return choose(name, str(value), option.choices)
    if kind is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{name} must be a list of names, such as {option.example}, found {value!r}.")
        return tuple(map(str, value))
    if kind not in _KINDS:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # bool is a subclass of int, but true is not an answer to "how many?"
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise UserError(f"{name} must be {_KINDS[kind]}, found {value!r}.")
    if value == "" and not option.may_be_empty:
        raise UserError(f"{name} is empty: name one or leave it out.")
    if option.range is not None and value not in option.range:
        raise UserError(f"{name} must be {option.range}, found {value}.")
    return value


# What the text after a flag means.


def truth(text: str) -> bool:
    """`true`, `yes`, `1`, or `false`, `no`, `0`."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return words[text.lower()]


def names(text: str) -> tuple[str, ...]:
    """A list: names between commas."""
    listed = tuple(name.strip() for name in text.split(",") if name.strip())
    if not listed:
        raise argparse.ArgumentTypeError(f"expected names between commas, found {text!r}")
    return listed


def counts(text: str) -> tuple[int, ...]:
    """`1,2` as numbers, each once, in their order."""
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in names(text)))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1 between commas, found {text!r}")
    return numbers


def session(text: str) -> tuple[str, ...]:
    """Numbers of folds as the names of folds that `protocols.select` takes."""
    return tuple(f"#{number}" for number in names(text))


def weights(text: str) -> dict[str, Any]:
    """`alpha=0.5,temperature=4` as a dictionary; several numbers of one weight are joined by `+`.

    A number that changes over the epochs stays text, `alpha=0.9>0.3`, as `ramps.ramp_of` reads it. Of a sum
    of losses the name comes first, `KD:alpha=0.5:temperature=4,RKD:distance=1`; `KD.alpha=0.5` is the same.

    >>> weights("KD:alpha=0.5:temperature=4,SP.x=1+2")
    {'KD.alpha': 0.5, 'KD.temperature': 4.0, 'SP.x': [1.0, 2.0]}
    """
    values: dict[str, Any] = {}
    for part in names(text):
        owner, *parts = part.split(":")
        if "=" in owner:
            owner, parts = "", [owner, *parts]
        for each in parts:
            name, equals, value = each.partition("=")
            try:
                numbers = [float(number) for number in value.split("+")]
            except ValueError:
                numbers = []
            if ramp := ramp_of(value):
                value = str(ramp)
            if not equals or not name.strip() or not (numbers or ramp or value.isidentifier()):
                raise argparse.ArgumentTypeError(f"expected name=number, found {each!r}")
            key = f"{owner}.{name.strip()}" if owner else name.strip()
            values[key] = value if not numbers else numbers[0] if len(numbers) == 1 else numbers
        if not parts:
            raise argparse.ArgumentTypeError(f"expected name=number, found {part!r}")
    return values


# And back.


def spelled(settings: Any) -> list[str]:
    """What differs from the defaults, or from its recipe, as arguments of the command line that gives it.

    >>> from light_sernet_kd.config import Settings
    >>> spelled(Settings(corpus="demo", folds=("03", "08"), export=False, merge_tflite=False))
    ['-dn', 'demo', '--folds', '03,08', '--recipe', 'own', '--no-export', '-m', 'false']
    """
    arguments: list[str] = []
    plain = type(settings)(**getattr(settings, "of_recipe", {}))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        option: Option = field.metadata["option"]
        if value == getattr(plain, field.name) and not option.always_spelled:
            continue
        if isinstance(value, bool) and option.parse is None:
            flag = next(each for each in option.flags if each.startswith("--"))
            arguments.append(flag if value else f"--no-{flag.removeprefix('--')}")
        else:
            # An empty word is taken for a variable that is not set.
            arguments += [option.flags[0], _text(value) or "none"]
    return arguments


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_text(number)}" for name, number in value.items())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
