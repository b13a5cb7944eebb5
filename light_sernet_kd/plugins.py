"""Plug-ins: files and packages of others that add corpora, students, losses, … to the registries.

A plug-in is Python that calls `register`. It is named with `--plugin my.py`, loaded by `load`, or installed
as a package with an entry point of the group `light_sernet_kd.plugins`. Nothing heavy is imported here.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import itertools
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.augmentations import AUGMENTATIONS, AugmentationKind
from light_sernet_kd.registries.corpora import CORPORA, CorpusSource
from light_sernet_kd.registries.degradations import CONDITIONS, Condition
from light_sernet_kd.registries.front_ends import FRONT_ENDS, FrontEnd
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES, Distillation, LabelLoss
from light_sernet_kd.registries.protocols import PROTOCOLS, Protocol
from light_sernet_kd.registries.recipes import RECIPES, Recipe
from light_sernet_kd.registries.schedules import SCHEDULES, Schedule
from light_sernet_kd.registries.students import STUDENTS, Student
from light_sernet_kd.registries.teachers import TEACHER_SOURCES, TeacherSource

__all__ = [
    "AugmentationKind",
    "Condition",
    "CorpusSource",
    "Distillation",
    "FrontEnd",
    "LabelLoss",
    "Plugin",
    "Protocol",
    "Recipe",
    "Schedule",
    "Student",
    "TeacherSource",
    "load",
    "register",
]

GROUP = "light_sernet_kd.plugins"
OPTION = "--plugin"
# What a plug-in may add: the dictionary that has it, and what an entry is.
KINDS: dict[str, tuple[Mapping[str, Any], type]] = {
    "corpus": (CORPORA, CorpusSource),
    "student": (STUDENTS, Student),
    "label loss": (LABEL_LOSSES, LabelLoss),
    "distillation": (DISTILLATIONS, Distillation),
    "teacher": (TEACHER_SOURCES, TeacherSource),
    "front end": (FRONT_ENDS, FrontEnd),
    "protocol": (PROTOCOLS, Protocol),
    "schedule": (SCHEDULES, Schedule),
    "recipe": (RECIPES, Recipe),
    "augmentation": (AUGMENTATIONS, AugmentationKind),
    "condition": (CONDITIONS, Condition),
}


@dataclass(frozen=True)
class Plugin:
    """A plug-in that is loaded.

    Attributes:
        name: of its file, or of its package.
        place: of its file.
        sha256: of its file.
        is_named: whether the user named it, rather than installed it.
        added: kind and name of what it added.

    >>> print(Plugin("my.py", Path("my.py"), "0123456789abcdef" * 4, is_named=True))
    my.py (SHA-256 0123456789ab…)
    """

    name: str
    place: Path
    sha256: str
    is_named: bool
    added: list[tuple[str, str]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of what it added."""
        return [name for _, name in self.added]

    def __str__(self) -> str:
        return f"{self.name} (SHA-256 {self.sha256[:12]}…)"


_loaded: dict[Path, Plugin] = {}
_adding: list[tuple[str, str]] | None = None
# Whether those that are installed have been looked for.
_searched = False


def register(kind: str, name: str, entry: Any) -> None:
    """Add a corpus, a student, a loss or another thing that has a name.

    Args:
        kind: a key of `KINDS`.
        name: as options take it; letters, digits, `_`, `-` and `.`.
        entry: of the class that `KINDS` names. Its functions may be given as they are. They import heavy
            packages such as Keras themselves, so that `--help` need not.

    Raises:
        UserError: an unknown kind, a name that is taken, or an entry of another class.

    >>> register("student", "resnet18", Student(print, "lsn", "light_sernet"))
    Traceback (most recent call last):
        ...
    light_sernet_kd.errors.UserError: there is a student 'resnet18' already: choose another name.
    """
    registry, expected = KINDS[choose("kind of a plug-in's entry", kind, KINDS)]
    if not isinstance(entry, expected):
        raise UserError(f"a {kind} is a {expected.__name__}, found {type(entry).__name__}.")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"the name of a {kind} is of letters, digits, _, - and ., found {name!r}.")
    if name.lower() in map(str.lower, registry):
        raise UserError(f"there is a {kind} {name!r} already: choose another name.")
    registry[name] = entry  # type: ignore[index]
    if _adding is not None:
        _adding.append((kind, name))


def load(file: str | Path) -> Plugin:
    r"""Load a file that registers things; one that is loaded already stays as it is.

    Raises:
        UserError: no such file, an error within it, or its content changed since it was loaded.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "my.py"
    >>> _ = file.write_text("from light_sernet_kd.plugins import Recipe, register\n"
    ...                     "register('recipe', 'slow', Recipe('many epochs', {'epochs': 900}))")
    >>> with loaded([]):  # what is loaded within is forgotten afterwards
    ...     load(file).names
    ['slow']
    """
    place = Path(file).resolve()
    try:
        content = place.read_bytes()
    except OSError as error:
        raise UserError(f"plug-in {file}: {error.strerror}.") from None
    digest = hashlib.sha256(content).hexdigest()
    if place in _loaded:
        if _loaded[place].sha256 != digest:
            raise UserError(f"plug-in {file} has changed since it was loaded: start Python anew.")
        return _loaded[place]
    stem = re.sub(r"\W", "_", place.stem)
    run = functools.partial(run_file, f"{__name__}_{stem}_{digest[:8]}", place, content)
    return _added(Plugin(place.name, place, digest, is_named=True), run)


def run_file(name: str, place: Path, content: bytes) -> ModuleType:
    """The module that a file's content makes, which stays in `sys.modules` unless the content raises.

    Args:
        name: of the module.
        place: of the file.
    """
    module = ModuleType(name)
    module.__file__ = str(place)
    sys.modules[name] = module  # where pickle and dataclasses look for it
    try:
        exec(compile(content, str(place), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_installed() -> list[str]:
    """Load the plug-ins of installed packages, once; what was wrong with those that are broken."""
    global _searched
    wrong: list[str] = []
    if _searched:
        return wrong
    _searched = True
    if not _some_installed():
        return wrong
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        module, _, attribute = point.value.partition(":")
        package = point.dist.name if point.dist else point.name
        try:
            place = _place_of(module.strip())
            if place not in _loaded:
                digest = hashlib.sha256(place.read_bytes()).hexdigest()
                plugin = Plugin(package, place, digest, is_named=False)
                _added(plugin, lambda module=module, attribute=attribute: _imported(module, attribute))
        except UserError as error:
            wrong.append(f"{error} pip uninstall {package} removes it.")
    return wrong


@contextlib.contextmanager
def loaded(files: Iterable[str | Path]) -> Iterator[None]:
    """Within, the plug-ins of these files are loaded; afterwards everything is as it was.

    Raises:
        UserError: as `load`.
    """
    global _searched
    before = dict(_loaded), {kind: dict(registry) for kind, (registry, _) in KINDS.items()}
    searched = _searched
    try:
        for file in files:
            load(file)
        yield
    finally:
        _restore(*before)
        _searched = searched


def named_files(argv: Sequence[str]) -> list[str]:
    """The files that `--plugin` names on a command line, before the command line is understood.

    >>> named_files(["train", "--plugin", "a.py", "--plugin=b.py", "--", "--plugin"])
    ['a.py', 'b.py']
    """
    argv = list(argv[: argv.index("--")] if "--" in argv else argv)
    following = [value for word, value in itertools.pairwise(argv) if word == OPTION]
    joined = [word.partition("=")[2] for word in argv if word.startswith(f"{OPTION}=")]
    return [file for file in (*following, *joined) if file]


def spelled() -> list[str]:
    """The arguments that name the plug-ins which are loaded."""
    return [word for each in _loaded.values() if each.is_named for word in (OPTION, str(each.place))]


def files() -> list[Path]:
    """The files of the plug-ins that the user named."""
    return [each.place for each in _loaded.values() if each.is_named]


def contents() -> tuple[tuple[str, bytes], ...]:
    """Name and content of the files of `files`, for a machine that lacks them.

    Raises:
        UserError: one has changed since it was loaded.
    """
    return tuple((load(place).name, place.read_bytes()) for place in files())


@contextlib.contextmanager
def carried(contents: Sequence[tuple[str, bytes]]) -> Iterator[None]:
    """Within, the plug-ins of these names and contents are loaded, from files that are there as long.

    Raises:
        UserError: as `load`.
    """
    with contextlib.ExitStack() as stack:
        places = []
        for name, content in contents:  # a folder each: two may have one name
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="light-sernet-kd-plugin-"))
            places.append(Path(folder, name))
            places[-1].write_bytes(content)
        stack.enter_context(loaded(places))
        yield


def load_all(files: Sequence[Path]) -> None:
    """What another process of the same command begins with."""
    load_installed()
    for file in files:
        load(file)


def sha256_of(kind: str, name: str) -> str:
    """SHA-256 of the plug-in that added an entry, for the key of what is kept; empty of this package's own.

    Args:
        kind: a key of `KINDS`.

    >>> sha256_of("front end", "lsn")
    ''
    """
    return next((each.sha256 for each in _loaded.values() if (kind, name) in each.added), "")


def behind(settings: Mapping[str, Any]) -> list[str]:
    """SHA-256 of the plug-ins that added what the settings name, ascending."""
    words = _words(settings)
    return sorted(each.sha256 for each in _loaded.values() if words & {*each.names})


def _words(settings: Mapping[str, Any]) -> set[str]:
    return set(re.findall(r"\w[\w.-]*", json.dumps(settings, default=str, ensure_ascii=False)))


def used(settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name and SHA-256 of the plug-ins that a run uses, for config.json.

    Of those that are installed, the ones that added what the settings name.
    """
    words = _words(settings)
    used_here = [each for each in _loaded.values() if each.is_named or words & {*each.names}]
    return sorted(
        ({"name": each.name, "sha256": each.sha256} for each in used_here), key=lambda each: each["name"]
    )


def check_same(folder: Path, began: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> None:
    """Refuse to go on with other plug-ins than a run began with.

    Raises:
        UserError: it did.
    """
    if sorted(each["sha256"] for each in began) == sorted(each["sha256"] for each in now):
        return
    raise UserError(
        f"{folder} began with {_listed(began)} and would go on with {_listed(now)}: give {OPTION} with the "
        "same files, or name another --run."
    )


def check_loaded(folder: Path, recorded: Any) -> None:
    """Refuse to read a run whose plug-ins are not loaded.

    Args:
        recorded: `plugins` of its config.json, None of a run without.

    Raises:
        UserError: one of them is not.
    """
    hashes = {each.sha256 for each in _loaded.values()}
    if missing := [each for each in recorded or () if each["sha256"] not in hashes]:
        raise UserError(
            f"{folder} was made with {_listed(missing)}: add {OPTION} {missing[0]['name']}, that very file."
        )


def _listed(plugins: Sequence[Mapping[str, str]]) -> str:
    named = ", ".join(f"{each['name']} (SHA-256 {each['sha256'][:12]}…)" for each in plugins)
    return f"the plug-in {named}" if len(plugins) == 1 else f"the plug-ins {named}" if named else "none"


def _added(plugin: Plugin, run: Any) -> Plugin:
    """The plug-in with what `run` registers; nothing of it stays where that fails."""
    global _adding
    before = dict(_loaded), {kind: dict(registry) for kind, (registry, _) in KINDS.items()}
    outer, _adding = _adding, plugin.added
    try:
        run()
    except (Exception, SystemExit) as error:
        _restore(*before)
        raise UserError(f"plug-in {described(plugin.place, error)}") from None
    finally:
        _adding = outer
    _loaded[plugin.place] = plugin
    return plugin


def described(place: Path, error: BaseException) -> str:
    """File, line and error of code of the user's, in one line."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(place) else None
    if line is None:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((each.lineno for each in reversed(frames) if each.filename == str(place)), None)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    what = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    where = f"{place}" + (f", line {line}" if line else "")
    return f"{where}: {' '.join(what.split())}".rstrip(".: ") + "."


def _restore(plugins: dict[Path, Plugin], registries: dict[str, dict[str, Any]]) -> None:
    _loaded.clear()
    _loaded.update(plugins)
    for kind, entries in registries.items():
        registry: Any = KINDS[kind][0]
        if dict(registry) != entries:
            registry.clear()
            registry.update(entries)


def _place_of(module: str) -> Path:
    """The file of a module of an installed plug-in.

    Raises:
        UserError: there is none.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise UserError(f"plug-in {module}: no such module is installed.")
    return Path(spec.origin).resolve()


def _imported(module: str, attribute: str) -> ModuleType:
    """The module, whose function of this name, if one is named, is called: it registers."""
    imported = importlib.import_module(module.strip())
    if attribute.strip():
        getattr(imported, attribute.strip())()
    return imported


def _some_installed() -> bool:
    """Whether a package has an entry point of the group: `importlib.metadata` takes longer to load."""
    for folder in dict.fromkeys(sys.path):
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in entries:
                if not entry.name.endswith((".dist-info", ".egg-info")):
                    continue
                with contextlib.suppress(OSError):
                    if f"[{GROUP}]".encode() in Path(entry.path, "entry_points.txt").read_bytes():
                        return True
    return False
