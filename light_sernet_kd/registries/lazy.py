"""A function that is named now and imported when it is first called."""

import importlib
from dataclasses import dataclass
from typing import Any

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Lazy:
    """A function or class of this package by its place, `module:name`; callable as it is.

    Args:
        target: the module below the package, a colon, and the name in it.

    >>> Lazy("errors:nfc")("a")
    'a'
    """

    target: str

    def load(self) -> Any:
        """What is named."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)


def loaded(function: Any) -> Any:
    """A function that may be named by its place.

    >>> loaded(Lazy("errors:nfc")) is loaded(loaded(Lazy("errors:nfc")))
    True
    """
    return function.load() if isinstance(function, Lazy) else function
