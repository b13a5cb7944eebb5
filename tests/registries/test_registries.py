"""Registries: what an entry names is there, and reading them imports nothing heavy."""

import dataclasses
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from light_sernet_kd import registries
from light_sernet_kd.registries.lazy import Lazy

MODULES = [f"{registries.__name__}.{each.name}" for each in pkgutil.iter_modules(registries.__path__)]
HEAVY = ("numpy", "tensorflow", "keras")


def lazies(value: Any) -> Iterator[Lazy]:
    """Every function that a value names, itself or in its fields and members."""
    if isinstance(value, Lazy):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from lazies(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from lazies(member)
    elif isinstance(value, tuple | list | frozenset):
        for member in value:
            yield from lazies(member)


NAMED = [
    pytest.param(lazy, id=f"{module.rpartition('.')[2]}-{name}-{key}-{lazy.target}")
    for module in MODULES
    for name, dictionary in vars(importlib.import_module(module)).items()
    if isinstance(dictionary, Mapping) and not name.startswith("_")
    for key, entry in dictionary.items()
    for lazy in lazies(entry)
]


@pytest.mark.parametrize("lazy", NAMED)
def test_what_an_entry_names_is_there(lazy):
    assert callable(lazy.load())


def test_reading_the_registries_imports_nothing_heavy():
    code = f"import sys, {', '.join(MODULES)}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
