"""The one error that is the user's, the choice of a name, what to install. Standard library only."""

import contextlib
import difflib
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A mistake the user can mend: shown as one line on stderr, exit code 2, no traceback."""


def install_line(extra: str) -> str:
    """The command that adds an extra of this package to the Python that runs."""
    return f'{shlex.quote(sys.executable)} -m pip install "light-sernet-kd[{extra}]"'


# Modules of packages that not every machine has or needs: what people call them, and what pip does.
_PACKAGES = {
    "tensorflow": ("TensorFlow", "tensorflow"),
    "ai_edge_litert": ("LiteRT", "ai-edge-litert"),
    "jax": ("JAX", "jax"),
    "shtab": ("shtab", "shtab"),
}


def missing(module: str, what: str) -> UserError:
    """The error that `what` needs a package which is not installed.

    >>> str(missing("tensorflow", "export")).partition(":")[0]
    'export needs TensorFlow, which is not installed'
    """
    name, package = _PACKAGES[module]
    command = f"{shlex.quote(sys.executable)} -m pip install {package}"
    return UserError(f"{what} needs {name}, which is not installed: {command}")


@contextlib.contextmanager
def installed(module: str, what: str) -> Iterator[None]:
    """Around the imports of `module` or of what is in it: where it is missing, that is the user's to mend.

    >>> with installed("tensorflow", "export"):
    ...     import json
    """
    try:
        yield
    except ImportError as error:
        # One that is there and cannot be loaded is another matter.
        if (error.name or "").partition(".")[0] != module:
            raise
        raise missing(module, what) from None


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
    close = difflib.get_close_matches(value.lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    hint = ""
    if close:
        nearest = next(name for name in names if name.lower() == close[0])
        hint = f" Did you mean {nearest}?"
    raise UserError(f"unknown {what} {value!r}.{hint} Valid: {', '.join(names)}.")
