"""What the command `doctor` finds: what this machine and its Python have of what the package can use."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from light_sernet_kd import __version__
from light_sernet_kd.analysis.processor import processor
from light_sernet_kd.config.cores import core_count
from light_sernet_kd.config.run_options import DATA_VARIABLE
from light_sernet_kd.corpora import registry
from light_sernet_kd.errors import install_line
from light_sernet_kd.registries.corpora import CORPORA

PACKAGE = "light-sernet-kd"
# What of a processor makes training or answers faster.
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx_vnni", "avx512_vnni", "asimddp", "bf16")
_GIB = 2**30
_MISSING = "missing"
_NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        topic: what it belongs to, such as `packages`.
        name: what was looked for.
        state: what there is, in words; `found` in JSON.
        remedy: what to do about it, where something can be done.
        is_wrong: whether the package cannot work as it is.
    """

    topic: str
    name: str
    state: str
    remedy: str = ""
    is_wrong: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "name": self.name,
            "found": self.state,
            "remedy": self.remedy or None,
            "is_wrong": self.is_wrong,
        }


def examine(data: Path, result: Path) -> Iterator[Finding]:
    """Look at the machine, the packages and the corpora; nothing heavy is imported.

    Args:
        data: the folder of the corpora.
        result: the folder of the runs.

    >>> findings = [*examine(Path("data"), Path("result"))]
    >>> findings[0].name, findings[0].state
    ('light-sernet-kd', '0.1.0')
    """
    yield Finding("program", PACKAGE, __version__)
    yield Finding("program", "Python", f"{platform.python_version()}, {platform.platform()}")
    yield from _machine()
    yield from _disks({"data": data, "result": result})
    yield from _packages()
    yield from _corpora(data)


def _machine() -> Iterator[Finding]:
    cores = core_count()
    model, features = processor()
    yield Finding("machine", "processor", f"{model}, {cores} cores")
    if features is not None:
        used = [name for name in _FEATURES if name in features]
        yield Finding("machine", "instructions", ", ".join(used) or "none that speed up training")
    if sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
        yield Finding("machine", "memory", f"{memory:.1f} GiB")
    yield Finding("machine", "GPU", _gpus() or "none; training takes the processor")


def _gpus() -> str:
    """The GPUs that NVIDIA's driver knows; empty where there are none."""
    if shutil.which(_NVIDIA[0]) is None:
        return ""
    try:
        done = subprocess.run(_NVIDIA, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "NVIDIA's driver does not answer"
    return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip())


def _disks(folders: dict[str, Path]) -> Iterator[Finding]:
    for name, folder in folders.items():
        there = next((each for each in (folder.resolve(), *folder.resolve().parents) if each.exists()), None)
        if there is None:
            continue
        free = shutil.disk_usage(there).free / _GIB
        is_writable = os.access(there, os.W_OK)
        state = f"{folder}: {free:.1f} GiB free{'' if is_writable else ', and not to be written to'}"
        remedy = "" if is_writable or name == "data" else "--result names another folder."
        yield Finding("disk", name, state, remedy)


def _packages() -> Iterator[Finding]:
    try:
        listed = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "packages", PACKAGE, "not installed, only found on the path", install_line(), is_wrong=True
        )
        return
    extras: dict[str, list[tuple[Requirement, str]]] = {}
    for requirement in _requirements(listed):
        if requirement.name == PACKAGE:  # an extra that is made of others, which stand for themselves
            continue
        if not (extra := _extra_of(requirement)):
            state, fits = _installed(requirement)
            remedy = "" if fits else f'python -m pip install "{requirement.name}{requirement.specifier}"'
            yield Finding("packages", requirement.name, state, remedy, is_wrong=not fits)
            continue
        lacking = extras.setdefault(extra, [])
        for each in (requirement, *_of_its_extras(requirement)):
            state, fits = _installed(each)
            if not fits:
                lacking.append((each, state))
    for extra, lacking in sorted(extras.items()):
        if not lacking:
            yield Finding("extras", extra, "installed")
            continue
        others = [each.name for each, state in lacking if state != _MISSING]
        names = [each.name if state == _MISSING else f"{each.name} ({state})" for each, state in lacking]
        remedy = "an environment of its own: it needs other versions" if others else install_line(extra)
        yield Finding("extras", extra, f"missing: {', '.join(names)}", remedy)


def _requirements(listed: Iterable[str], extra: str | None = None) -> list[Requirement]:
    """Those of a package that hold on this machine: all, or those of one of its extras."""
    matching = []
    for text in listed:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        its_extra = _extra_of(requirement)
        holds = requirement.marker is None or requirement.marker.evaluate({"extra": its_extra})
        if holds and extra in (None, its_extra):
            matching.append(requirement)
    return matching


def _of_its_extras(requirement: Requirement) -> list[Requirement]:
    """What a package's own extras ask for, as in `jax[cuda13]`; none of a package that is not there."""
    try:
        listed = importlib.metadata.requires(requirement.name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [each for extra in sorted(requirement.extras) for each in _requirements(listed, extra)]


def _extra_of(requirement: Requirement) -> str:
    """The extra that asks for a package; empty for one that is always needed."""
    match = re.search(r"""extra == ["']([^"']+)["']""", str(requirement.marker or ""))
    return match[1] if match else ""


def _installed(requirement: Requirement) -> tuple[str, bool]:
    """What is installed of a package, and whether that will do."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return _MISSING, False
    fits = requirement.specifier.contains(version, prereleases=True)
    return version if fits else f"{version}, and {requirement.specifier} is needed", fits


def _corpora(data: Path) -> Iterator[Finding]:
    where = f"{data}; --data or {DATA_VARIABLE} names another folder"
    yield Finding("corpora", "looked for in", where)
    for name, source in CORPORA.items():
        if source.origin is None:
            continue
        if why := registry.why_absent(name, data):
            folder = data / name
            state = why if folder.exists() else "not here"
            # `fetch` leaves a folder that holds files as it is.
            command = "prepare" if folder.is_dir() and any(folder.iterdir()) else "fetch"
            yield Finding("corpora", name, state, f"light-sernet-kd {command} {name}")
        else:
            corpus = registry.load(name, data)
            yield Finding("corpora", name, f"{len(corpus.utterances):,} recordings")
