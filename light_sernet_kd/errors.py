"""The one error that is the user's, the choice of a name, what to install. Standard library only."""

import contextlib
import difflib
import importlib.util
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


class UserError(Exception):
    """A mistake the user can mend: shown as one line on stderr, exit code 2, no traceback."""


class UserCodeError(Exception):
    """An error within code of the user's own: shown with that one's traceback, exit code 2.

    Attributes:
        said: which code failed, in one line.
        traced: the traceback. It is text, since Keras takes away what caused an error, and pickle does too.
    """

    def __init__(self, said: str, traced: str):
        super().__init__(said, traced)
        self.said, self.traced = said, traced

    def __str__(self) -> str:
        return f"{self.said}\n\n{self.traced}"


class MissingPackageError(UserError, ImportError):
    """A package that is not installed; the message has the command that installs it."""


def quoted(text: str) -> str:
    """The text as one word of a command line of this system's shell."""
    if os.name != "nt":
        return shlex.quote(text)
    return f'"{text}"' if re.search(r"[^\w.:/\\-]|^$", text) else text


def command_line(words: Iterable[str]) -> str:
    """The words as a command line of this system's shell.

    >>> command_line(["train", "-dn", "EMO-DB", "--run", "a first one"]) if os.name != "nt" else ""
    "train -dn EMO-DB --run 'a first one'"
    """
    return " ".join(map(quoted, words))


def install_line(extra: str = "") -> str:
    """The command that adds an extra of this package, or what it needs itself, to the Python that runs."""
    import importlib.metadata  # here: it takes a while, and every command line needs this module

    extras = f"[{extra}]" if extra else ""
    try:
        importlib.metadata.version("light-sernet-kd")
    except importlib.metadata.PackageNotFoundError:  # a clone that is found on the path alone
        wanted = f'-e "{Path(__file__).parents[1]}{extras}"'
    else:
        wanted = f'"light-sernet-kd{extras}"'
    return f"{quoted(sys.executable)} -m pip install {wanted}"


@dataclass(frozen=True)
class _Package:
    """A package that not every machine has: what people call it, and which extra brings it."""

    name: str
    extra: str = ""  # of those that are always needed


TRAIN = "train"
# By what is imported. Only these are missed by name; other modules that are not there are our own fault.
_PACKAGES = {
    "ai_edge_litert": _Package("LiteRT"),
    "flatbuffers": _Package("flatbuffers"),
    "numpy": _Package("NumPy"),
    "packaging": _Package("packaging"),
    "pooch": _Package("pooch"),
    "requests": _Package("requests"),
    "rich": _Package("rich"),
    "shtab": _Package("shtab"),
    "soundfile": _Package("soundfile"),
    "soxr": _Package("soxr"),
    "filelock": _Package("filelock", TRAIN),
    "keras": _Package("Keras", TRAIN),
    "markdown_it": _Package("markdown-it-py", TRAIN),
    "matplotlib": _Package("Matplotlib", TRAIN),
    "scipy": _Package("SciPy", TRAIN),
    "sklearn": _Package("scikit-learn", TRAIN),
    "tensorflow": _Package("TensorFlow", TRAIN),
    "threadpoolctl": _Package("threadpoolctl", TRAIN),
    "av": _Package("PyAV", "media"),
    "fsspec": _Package("fsspec", "mirror"),
    "jax": _Package("JAX", "jax"),
    "optuna": _Package("Optuna", "search"),
    "ray": _Package("Ray", "ray"),
    "pandas": _Package("pandas", "ray-data"),
    "pyarrow": _Package("PyArrow", "ray-data"),
    "sounddevice": _Package("sounddevice", "listen"),
    "tensorboard": _Package("TensorBoard", "tensorboard"),
}
# Of these an engine needs one alone; the command's own check names it.
_OF_AN_ENGINE = ("tensorflow", "jax")


def is_installed(module: str) -> bool:
    """Whether it can be imported, without doing so."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def missing(module: str, what: str) -> MissingPackageError:
    """The error that `what` needs a package which is not installed.

    >>> str(missing("tensorflow", "export")).partition(":")[0]
    'export needs TensorFlow, which is not installed'
    """
    package = _PACKAGES[module]
    return MissingPackageError(
        f"{what} needs {package.name}, which is not installed: {install_line(package.extra)}"
    )


def as_missing_package(error: ImportError, what: str) -> MissingPackageError | None:
    """As `missing`, of an import that failed; None where it failed for another reason.

    >>> as_missing_package(ModuleNotFoundError("no typo", name="typo"), "export") is None
    True
    """
    module = (error.name or "").partition(".")[0]
    # One that is there and cannot be loaded is another matter.
    return missing(module, what) if module in _PACKAGES and not is_installed(module) else None


def require(extra: str, what: str) -> None:
    """Refuse a command whose extra is not installed, before any work.

    The engine's own package is not checked.

    Raises:
        MissingPackageError: names what is missing.
    """
    lacking = [
        package.name
        for module, package in _PACKAGES.items()
        if package.extra == extra and module not in _OF_AN_ENGINE and not is_installed(module)
    ]
    if lacking:
        raise MissingPackageError(
            f"{what} needs the extra {extra}, of which {', '.join(lacking)} "
            f"{'is' if len(lacking) == 1 else 'are'} not installed: {install_line(extra)}"
        )


@contextlib.contextmanager
def installed(module: str, what: str) -> Iterator[None]:
    """A context for importing `module` or something in it: a missing module raises `MissingPackageError`.

    >>> with installed("tensorflow", "export"):
    ...     import json
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] != module:
            raise
        raise missing(module, what) from None


def first_line(error: BaseException, most: int | None = None) -> str:
    r"""The first line of what an error says, without a full stop; its class where it says nothing.

    Args:
        most: characters.

    >>> first_line(OSError("No space left on device.\nerrno 28")), first_line(MemoryError())
    ('No space left on device', 'MemoryError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most].rstrip(".")


def nfc(text: str) -> str:
    """The text in Unicode's form NFC, in which a letter and its accent are one character.

    A Mac writes names of files in another form (NFD), which looks the same and compares as different.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def choose(what: str, value: str, valid: Iterable[str]) -> str:
    """`value` if it is one of `valid`, else a `UserError` that lists them and names the nearest.

    Case is forgiven where that is unambiguous: `ckd` means `CKD`. So are another Unicode form of the name and
    the zeros before a number.

    >>> choose("fold", "3", ["03", "08", "13"])
    '03'
    >>> choose("fold", "1", ["03", "08", "13"])
    Traceback (most recent call last):
    light_sernet_kd.errors.UserError: unknown fold '1'. Valid: 03, 08, 13.
    """
    names = list(valid)
    if value in names:
        return value
    same = [name for name in names if nfc(name).lower() == nfc(value).lower()]
    same = [name for name in same if nfc(name) == nfc(value)] or same
    if len(same) == 1:
        return same[0]
    same = [name for name in names if value.isdecimal() and name.isdecimal() and int(name) == int(value)]
    if len(same) == 1:
        return same[0]
    # Another number is not a number that was written wrongly, unless it has more digits than any.
    digits = max((len(name) for name in names if name.isdecimal()), default=0)
    is_number = value.isdecimal() and len(value) <= digits
    like = [name.lower() for name in names if not (is_number and name.isdecimal())]
    close = difflib.get_close_matches(value.lower(), like, n=1, cutoff=0.5)
    hint = ""
    if close:
        nearest = next(name for name in names if name.lower() == close[0])
        hint = f" Did you mean {nearest}?"
    raise UserError(f"unknown {what} {value!r}.{hint} Valid: {', '.join(names)}.")
