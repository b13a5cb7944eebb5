"""`train --config`: the settings of one run from a TOML file, or from the config.json of a run to repeat."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from light_sernet_kd import plugins
from light_sernet_kd.config import RunOptions, Settings, fields
from light_sernet_kd.config.toml_file import read_toml
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.files import JsonError, read_json
from light_sernet_kd.registries.recipes import DEFAULT, OWN, RECIPES
from light_sernet_kd.registries.students import STUDENTS

NAME = "config.json"
# What `begun` writes beside the settings: another program's JSON has not all of them.
_CONFIG = {
    "settings": {"corpus": str},
    "corpus_sha256": str,
    "resolved": dict,
    "versions": {str: str},
    "plugins?": [{"name": str, "sha256": str}],
}
_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def file_settings(path: Path) -> dict[str, Any]:
    r"""Settings by their names, each checked by itself, as `train --config` takes them.

    What a TOML file leaves out is for `light-sernet-kd train` to fill in, so that a file means the same
    whatever `hyperparameters.py` says.

    Args:
        path: a .toml file, the config.json of a run, or the folder of one.

    Raises:
        UserError: no such file, no TOML, no config.json, a grid's file, an unknown key, a value of another
            type, or a run whose plug-ins are not loaded.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "short.toml"
    >>> _ = file.write_text('corpus = "EMO-DB"\nepochs = 3\n')
    >>> file_settings(file)
    {'recipe': 'robust', 'corpus': 'EMO-DB', 'epochs': 3}
    """
    if config := config_of(path):
        stored = _read_config(config)
        plugins.check_loaded(config.parent, stored.get("plugins"))
        values = _checked(config, stored["settings"])
        return _chosen({"recipe": OWN, **Settings.completed(values)})
    content = read_toml(path, "settings file", "docs/runs.md")
    if isinstance(content.get("runs"), list):
        raise UserError(f"{path} is the file of a grid, which has many runs: light-sernet-kd grid {path}")
    if isinstance(content.get("settings"), dict):
        raise UserError(f"{path}: settings stand at the top of the file of one run, not below [settings].")
    return {"recipe": DEFAULT, **_checked(path, content)}


def config_of(path: Path) -> Path | None:
    """The config.json that `path` means, which may be a run's folder; None of a file that is no JSON.

    Raises:
        UserError: it is a folder without a config.json.
    """
    if path.is_dir():
        if not (path / NAME).exists():
            raise UserError(f"{path} is a folder without {NAME}: name a .toml file, or a run.")
        return path / NAME
    return path if path.suffix.lower() == ".json" else None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, _CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no file {path}: name a .toml file, or the {NAME} of a run.") from None
    except JsonError as error:
        raise UserError(f"{path} is not the {NAME} of a run: it {error.why}.") from None


def _checked(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, each with its own name; what is wrong with one is said with the file."""
    places = {name: option.flags[-1] for name, option in fields.options(RunOptions).items()}
    values = {}
    for key, value in content.items():
        if key in places:
            raise UserError(f"{path}, {key}: it decides no result: give {places[key]} beside --config.")
        try:
            name = choose("setting", key, _FIELDS)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        kind, _ = fields.kind_of(_FIELDS[name].type)
        if isinstance(value, list) and kind is not tuple:
            raise UserError(
                f"{path}, {key}: one value is expected, found the list {value}: several runs are a grid "
                "(light-sernet-kd grid)."
            )
        if issubclass(kind, Mapping) and not isinstance(value, Mapping):
            raise UserError(f"{path}, {key}: a table such as {{ alpha = 0.5 }} is expected, found {value!r}.")
        try:
            values[name] = fields.checked(_FIELDS[name], value)
        except UserError as error:
            raise UserError(f"{path}, {key}: {error}") from None
    return values


def _chosen(settings: dict[str, Any]) -> dict[str, Any]:
    """Without the student's own front end and schedule, which every config.json names.

    A run is called the same then as without `--config`, and with another `--student` takes that one's own.
    """
    entry, recipe = STUDENTS[settings["student"]], RECIPES[settings["recipe"]].settings
    defaults = {"front_end": entry.front_end, "schedule": entry.schedule}
    plain = [name for name, value in defaults.items() if name not in recipe and settings.get(name) == value]
    return {name: value for name, value in settings.items() if name not in plain}
