"""`--callbacks MODULE:FACTORY`: a user's factory of Keras callbacks, found, loaded and looked at.

All of it happens before anything is read or trained. What the factory returns is looked at when it is called.
"""

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from light_sernet_kd import plugins
from light_sernet_kd.errors import UserError

OPTION = "--callbacks"
# What a factory may take, each by its name.
GIVEN = ("run_name", "fold", "network", "phase", "settings", "folder")


@dataclass(frozen=True)
class Factory:
    """A function, or a class, that makes callbacks.

    Attributes:
        name: as the user gave it.
        takes: those of `GIVEN` that it is called with.
    """

    name: str
    make: Callable[..., Any]
    takes: tuple[str, ...]


def check(name: str) -> None:
    """Refuse what cannot be the name of a factory, without importing anything.

    Raises:
        UserError: it has no colon, or there is no such file or module.

    >>> check("nowhere.py:make")
    Traceback (most recent call last):
        ...
    light_sernet_kd.errors.UserError: --callbacks nowhere.py:make: there is no file nowhere.py.
    """
    module, attribute = _parts(name)
    if not module or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", attribute):
        raise UserError(
            f"{OPTION} takes MODULE:FACTORY, such as my_callbacks:make or my.py:make: found {name!r}."
        )
    if _is_file(module):
        if not Path(module).is_file():
            raise UserError(f"{OPTION} {name}: there is no file {module}.")
        return
    # Of `a.b` the first part alone: to look for the second one would import it.
    top = module.partition(".")[0]
    with contextlib.suppress(ImportError, ValueError):
        if top.isidentifier() and (importlib.util.find_spec(top) or _is_here(top)):
            return
    raise UserError(f"{OPTION} {name}: no module {top} is installed or in {Path.cwd()}.")


def load(factory: str | Callable[..., Any]) -> Factory:
    """The factory of a name, or the one that is given, whose arguments are looked at.

    Raises:
        UserError: its module cannot be imported, has no such name, or what it names cannot be called with
            what there is to give.
    """
    if not isinstance(factory, str):
        name = getattr(factory, "__qualname__", type(factory).__name__)
        return Factory(name, factory, _taken(name, factory))
    check(factory)
    module, attribute = _parts(factory)
    value: Any = _imported(factory, module)
    for part in attribute.split("."):
        if not hasattr(value, part):
            near = difflib.get_close_matches(part, dir(value), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"{OPTION} {factory}: {module} has no {attribute}.{hint}")
        value = getattr(value, part)
    return Factory(factory, value, _taken(factory, value))


def _parts(name: str) -> tuple[str, str]:
    module, _, attribute = name.rpartition(":")  # on Windows a path has a colon too
    return module, attribute


def _is_file(module: str) -> bool:
    return module.endswith(".py") or os.sep in module or "/" in module


def _is_here(top: str) -> bool:
    return Path(f"{top}.py").is_file() or Path(top).is_dir()


def _imported(name: str, module: str) -> ModuleType:
    """The module. Its folder, or the working one, is the last place where it finds what it imports."""
    place = Path(module).resolve() if _is_file(module) else None
    folder = str(place.parent if place else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module(module) if place is None else _of_file(place)
    except Exception as error:
        if place is None:
            spec = importlib.util.find_spec(module.partition(".")[0])
            place = Path(module if spec is None or not spec.origin else spec.origin)
        raise UserError(f"{OPTION} {name}: {plugins.described(place, error)}") from None


def _of_file(place: Path) -> ModuleType:
    """As `import` does, once for each content."""
    content = place.read_bytes()
    digest = hashlib.sha256(str(place).encode() + content).hexdigest()[:12]
    name = f"{place.stem}_{digest}"
    return sys.modules.get(name) or plugins.run_file(name, place, content)


def _taken(name: str, factory: Any) -> tuple[str, ...]:
    """What the factory is called with: a class with nothing, a function with what it names."""
    if not callable(factory):
        raise UserError(
            f"{OPTION} {name} is {type(factory).__name__}, not a function or a class that makes callbacks."
        )
    try:
        parameters = [*inspect.signature(factory).parameters.values()]
    except ValueError:  # some that are written in C
        return ()
    given = () if isinstance(factory, type) else GIVEN
    needed = [each for each in parameters if each.default is each.empty]
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for each in needed:
        if each.kind not in several and not (each.kind in by_name and each.name in given):
            how = f"by name any of {', '.join(GIVEN)}" if given else "nothing: write a function that calls it"
            kind = "function" if given else "class"
            raise UserError(f"{OPTION} {name} needs {each.name!r}; a {kind} is given {how}.")
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return given
    return tuple(each.name for each in parameters if each.kind in by_name and each.name in given)
