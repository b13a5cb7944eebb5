"""Examples in docstrings come out as they are written, and what a user calls has one."""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_student
import yaml
from conftest import REPOSITORY

from light_sernet_kd import registries
from light_sernet_kd.corpora import emodb
from light_sernet_kd.registries.front_ends import FRONT_ENDS
from light_sernet_kd.registries.lazy import Lazy
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES
from light_sernet_kd.registries.students import STUDENTS

API = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(
    module_of(path)
    for path in (REPOSITORY / "light_sernet_kd").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


def listed(page: str) -> list[str]:
    """What the `:::` blocks of a page name, as `module:name`."""
    names = []
    for block in page.split("\n::: ")[1:]:
        module, options = block.partition("\n\n")[0].split("\n", 1)
        names += [f"{module}:{name}" for name in yaml.safe_load(options)["options"]["members"]]
    return names


def of_registries() -> Iterator[str]:
    """What entries name that takes arrays or shapes, and each registry's functions, as `module:name`.

    What other entries name is called by a run, with what only a run has.
    """
    losses = [entry.loss for entry in (*LABEL_LOSSES.values(), *DISTILLATIONS.values())]
    layers = [entry.layers for entry in FRONT_ENDS.values()]
    networks = [entry.build for entry in STUDENTS.values()]
    for lazy in (*losses, *layers, *networks):
        if isinstance(lazy, Lazy):
            yield f"light_sernet_kd.{lazy.target}"
    for each in pkgutil.iter_modules(registries.__path__, f"{registries.__name__}."):
        for name, function in inspect.getmembers(importlib.import_module(each.name), inspect.isfunction):
            if not name.startswith("_") and function.__module__ == each.name:
                yield f"{each.name}:{name}"


def load(target: str) -> Any:
    module, _, name = target.partition(":")
    value = getattr(importlib.import_module(module), name)
    return getattr(value, "func", value)  # a partial's docstring is that of its function


def examples(value: Any) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(value.__doc__ or "")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where examples run: with an exported student, a teacher file and the names of EMO-DB's recordings."""
    tiny_student.enrolled_student(tmp_path / "student.tflite")
    (tmp_path / "teacher.csv").write_text("id,anger,fear\nclip-1,0.75,0.25\n")
    recordings = tmp_path / "data" / "EMO-DB" / "wav"
    recordings.mkdir(parents=True)
    for speaker in emodb.SPEAKERS:
        for letter in emodb.EMOTIONS:
            (recordings / f"{speaker}a01{letter}a.wav").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", MODULES)
def test_examples_come_out_as_they_are_written(module, folder):
    failed, run = doctest.testmod(importlib.import_module(module))
    assert run > 0
    assert failed == 0, "see the captured output"


@pytest.mark.parametrize("target", sorted({*listed(API), *of_registries()}))
def test_what_a_user_calls_has_an_example(target):
    assert examples(load(target))


def test_the_names_of_a_page_are_read_in_full():
    page = "# Page\n\n::: package.one\n    options:\n      members: [a, B]\n\ntext\n\n"
    page += "::: package.two\n    options:\n      members:\n        - c\n      filters: []\n"
    assert listed(page) == ["package.one:a", "package.one:B", "package.two:c"]
