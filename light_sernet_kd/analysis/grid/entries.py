"""The file that says many runs: settings that all share, and lists of those that differ.

    compare = "distillation"     # the setting whose values are compared; the first one is the baseline

    [settings]                   # of every run
    corpus = "EMO-DB"
    epochs = 60

    [[runs]]                     # every combination of the lists
    distillation = ["pure", "KD", "CKD"]
    seed = [0, 1, 2]

    [[runs]]                     # and more
    name = "soft"
    distillation = "KD"
    distillation_weights = [{ temperature = 2.0 }, { temperature = 4.0 }]

The names are those of `Settings`. What a user edits for his own runs (`hyperparameters.DEFAULTS`) is not
read: a file means the same everywhere.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd.config import Settings, fields
from light_sernet_kd.config.toml_file import read_toml
from light_sernet_kd.corpora.registry import default_protocol
from light_sernet_kd.data.resolve_settings import resolve_settings
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.files import path_part

# More are a mistake in the lists.
MOST_ENTRIES = 100_000
SEED = "seed"

_KEYS = ("name", "compare", "settings", "runs")
_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


@dataclass(frozen=True)
class Entry:
    """A run of a grid.

    Attributes:
        name: of the run's folder.
        settings: with the corpus's own protocol where none is named.
        varied: what of the settings differs within the grid.
        group: `name` without the seed, or the grid's: entries of one group are repetitions.
    """

    name: str
    settings: Settings
    varied: Mapping[str, Any]
    group: str


@dataclass(frozen=True)
class Grid:
    """Many runs that belong together.

    Attributes:
        name: of the folder that holds the runs' folders.
        compare: the setting whose values are compared; None where the entries differ in the seed alone.
    """

    name: str
    entries: tuple[Entry, ...]
    compare: str | None


def read_grid(path: Path, data: Path) -> Grid:
    r"""The grid that a TOML file says; see the module for its form.

    Args:
        data: the folder of the corpora: a manifest there decides which protocol is its own.

    Raises:
        UserError: no such file, no TOML, an unknown key or setting, settings that cannot be, two entries that
            are the same run or have the same name.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "widths.toml"
    >>> text = '[settings]\ncorpus = "EMO-DB"\n[[runs]]\nwidth = [0.5, 1.0]\nseed = [0, 1]\n'
    >>> _ = file.write_text(text)
    >>> [entry.name for entry in read_grid(file, Path("data")).entries]
    ['width0.5-seed0', 'width0.5-seed1', 'width1-seed0', 'width1-seed1']
    """
    content = read_toml(path, "grid")
    try:
        return _grid(content, path.stem, data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def grid_of_experiments(experiments: Mapping[str, Mapping[str, Any]], seed: int, data: Path) -> Grid:
    """The entries of `hyperparameters.EXPERIMENTS` as a grid, each with its published protocol.

    Raises:
        UserError: there are none, or settings that cannot be.
    """
    if not experiments:
        raise UserError(
            "no EXPERIMENTS here: python train.py grid EXPERIMENTS has those of hyperparameters.py."
        )
    blocks: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
        ({SEED: seed, **entry.get("settings", {})}, title, ()) for title, entry in experiments.items()
    ]
    return _of_combinations(blocks, "EXPERIMENTS", None, data)


def _grid(content: Mapping[str, Any], stem: str, data: Path) -> Grid:
    for key in content:
        choose("key of a grid", key, _KEYS)
    name, compare = content.get("name", stem), content.get("compare")
    if not isinstance(name, str) or not name:
        raise UserError(f"name must be text, found {name!r}.")
    shared, blocks = content.get("settings", {}), content.get("runs")
    if not isinstance(shared, dict):
        raise UserError("settings must be a table: [settings].")
    if not isinstance(blocks, list) or not blocks or not all(isinstance(each, dict) for each in blocks):
        raise UserError("no runs: add tables [[runs]], each with lists of settings.")
    shared = {choose("setting", key, _FIELDS): value for key, value in shared.items()}
    if compare is not None:
        compare = choose("setting to compare", str(compare), _FIELDS)
    combinations: list[tuple[dict[str, Any], str, tuple[str, ...]]] = []
    for number, block in enumerate(blocks, start=1):
        title = block.pop("name", "")
        if not isinstance(title, str):
            raise UserError(f"runs {number}: name must be text, found {title!r}.")
        lists = {}
        for key, value in block.items():
            key = choose("setting", key, _FIELDS)
            lists[key] = _values(key, value)
            if not lists[key]:
                raise UserError(f"runs {number}: {key} is an empty list: give a value or leave it out.")
        count = math.prod(map(len, lists.values()))
        if len(combinations) + count > MOST_ENTRIES:
            raise UserError(f"more than {MOST_ENTRIES:,} runs: the lists of runs {number} make {count:,}.")
        for values in itertools.product(*lists.values()):
            combinations.append(({**shared, **dict(zip(lists, values, strict=True))}, title, tuple(lists)))
    return _of_combinations(combinations, name, compare, data)


def _values(key: str, value: Any) -> list[Any]:
    """What a setting takes in turn: of one that is a list itself, lists in a list."""
    if not isinstance(value, list):
        return [value]
    if fields.kind_of(_FIELDS[key].type)[0] is tuple and not any(isinstance(each, list) for each in value):
        return [value] if value else []
    return value


def _of_combinations(
    combinations: Sequence[tuple[dict[str, Any], str, tuple[str, ...]]],
    name: str,
    compare: str | None,
    data: Path,
) -> Grid:
    """The grid of these values, each with the name and the settings of the block that says it."""
    # of a manifest, it reads the file
    protocol_of = functools.cache(default_protocol)
    named = dict.fromkeys(key for _, _, keys in combinations for key in keys)
    seen: dict[str, set[str]] = {key: set() for key in named}
    for values, _, _ in combinations:
        for key in named:
            seen[key].add(repr(values.get(key)))
    varied = [key for key in named if len(seen[key]) > 1]
    if compare is None:
        others = [key for key in varied if key != SEED]
        compare = "distillation" if "distillation" in others else others[0] if others else None
    elif compare == SEED:
        raise UserError("compare names the seed: runs of different seeds are repetitions.")
    entries: dict[str, Entry] = {}
    runs: dict[str, str] = {}
    for values, title, keys in combinations:
        chosen = {key: values[key] for key in varied if key in keys}
        parts = [title] if title else []
        parts += [_text(key, value) for key, value in chosen.items() if key != SEED]
        seed = [f"seed{chosen[SEED]}"] if SEED in chosen else []
        group = path_part("-".join(parts) or name)
        label = path_part("-".join(parts + seed) or name)
        try:
            settings = resolve_settings(values, data, protocol_of=protocol_of)
        except UserError as error:
            raise UserError(f"{label}: {error}") from None
        if settings.dimensions_only:
            raise UserError(f"{label}: grids compare UA, which --dimensions_only has none of: take train.")
        same = repr(settings)
        if same in runs:
            both = f"{runs[same]} and {label} are" if label != runs[same] else f"{label} is twice"
            raise UserError(f"{both} the same run: leave one out.")
        if label in entries:
            raise UserError(f"two runs are called {label}: give their tables [[runs]] a name.")
        runs[same] = label
        difference = {key: getattr(settings, key) for key in varied}
        entries[label] = Entry(label, settings, difference, group)
    return Grid(path_part(name), tuple(entries.values()), compare)


def _text(key: str, value: Any) -> str:
    """A setting in a name: text stands alone, a number behind what it is of."""
    if isinstance(value, str):
        # of a path its last part
        return (Path(value).stem if key == "corpus" else Path(value).name) or value
    if isinstance(value, Mapping):
        return "-".join(f"{name}{_plain(number)}" for name, number in value.items()) or f"no-{key}"
    return f"{key}{_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return f"-{'yes' if value else 'no'}"
    if isinstance(value, list):
        return "+".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
