"""The command `doctor`, on this machine and on made ones."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from pathlib import Path

import numpy
import pytest
from corpus_trees import put

from light_sernet_kd import __version__, cli
from light_sernet_kd.analysis import doctor
from light_sernet_kd.registries.corpora import CORPORA


def found(capsys, *arguments: str, code: int = 0) -> dict[tuple[str, str], dict]:
    assert cli.main(["doctor", "--json", *arguments]) == code
    return {(each["topic"], each["name"]): each for each in json.loads(capsys.readouterr().out)}


def test_this_machine_is_told_as_it_is(capsys, tmp_path):
    told = found(capsys, "--data", str(tmp_path), "--result", str(tmp_path / "not" / "yet"))
    assert told["program", "light-sernet-kd"]["found"] == __version__
    assert told["program", "Python"]["found"].startswith(platform.python_version())
    assert told["packages", "numpy"]["found"] == numpy.__version__
    if (facts := Path("/proc/meminfo")).exists():
        kilobytes = int(re.search(r"MemTotal: +(\d+) kB", facts.read_text())[1])
        memory = float(told["machine", "memory"]["found"].split()[0])
        assert memory == pytest.approx(kilobytes / 2**20, abs=0.06)
    free = float(told["disk", "result"]["found"].split()[-3])
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / 2**30, abs=1)
    assert not (tmp_path / "not").exists()
    assert [name for topic, name in told if topic == "corpora"][1:] == [
        name for name, each in CORPORA.items() if each.origin
    ]
    assert told["corpora", "TESS"]["remedy"] == "light-sernet-kd fetch TESS"


def test_a_corpus_that_is_there_is_counted_and_one_that_is_wrong_says_why(capsys, tmp_path):
    (tmp_path / "TESS").mkdir()
    (tmp_path / "RAVDESS").mkdir()
    (tmp_path / "RAVDESS" / "notes.txt").touch()
    for name in ("03a01Fa", "08a01Na"):
        put(tmp_path / "EMO-DB" / "wav" / f"{name}.wav")
    told = found(capsys, "--data", str(tmp_path))
    assert told["corpora", "EMO-DB"]["found"] == "2 recordings"
    assert told["corpora", "TESS"]["found"].startswith("no recordings in")
    assert told["corpora", "TESS"]["remedy"] == "light-sernet-kd fetch TESS"
    # which `fetch` would leave as it is
    assert told["corpora", "RAVDESS"]["remedy"] == "light-sernet-kd prepare RAVDESS"


def test_what_is_missing_or_too_old_has_a_remedy_and_an_exit_code(capsys, monkeypatch, tmp_path):
    version = importlib.metadata.version

    def other(name):
        if name == "soxr":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"numpy": "1.20.0", "optuna": "4.0"}.get(name) or version(name)

    monkeypatch.setattr(importlib.metadata, "version", other)
    told = found(capsys, "--data", str(tmp_path), code=1)
    assert told["packages", "soxr"] == {
        "topic": "packages", "name": "soxr", "found": "missing",
        "remedy": 'python -m pip install "soxr>=0.5"', "is_wrong": True,
    }  # fmt: skip
    assert told["packages", "numpy"]["found"] == "1.20.0, and <2.5,>=1.26 is needed"
    assert told["extras", "search"]["remedy"] == "an environment of its own: it needs other versions"
    assert cli.main(["doctor", "--data", str(tmp_path)]) == 1
    assert "python -m pip install" in capsys.readouterr().out


def test_the_command_that_installs_an_extra_is_one_line_on_any_terminal(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ['not-there>=1; extra == "gpu"'])
    monkeypatch.setattr(sys, "executable", "/a/path/of/forty/letters/or/more/bin/python")
    monkeypatch.setenv("COLUMNS", "60")
    (extra,) = [each for each in doctor.examine(tmp_path, tmp_path) if each.topic == "extras"]
    assert cli.main(["doctor", "--data", str(tmp_path)]) == 0
    assert extra.remedy.replace("gpu", "NAME") in capsys.readouterr().out


def test_extras_of_an_extra_count(monkeypatch):
    """`jax[cuda13]` is not there because jax is."""
    listed = {
        doctor.PACKAGE: ['jax[cuda13]>=0.7; extra == "gpu"', "numpy>=1"],
        "jax": ['jax-plugin==9; extra == "cuda13"', "numpy>=1"],
    }
    monkeypatch.setattr(importlib.metadata, "requires", listed.get)

    def version(name):
        if name == "jax-plugin":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    (package, extra) = doctor._packages()
    assert (package.name, package.state, package.remedy) == ("numpy", "1.0", "")
    assert (extra.name, extra.state) == ("gpu", "missing: jax-plugin")
    assert "light-sernet-kd[gpu]" in extra.remedy


def test_a_driver_that_does_not_answer_is_said(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 580.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert doctor._gpus() == "NVIDIA H100, 81559 MiB, 580.1"
    program.write_text("#!/no/such/interpreter\n")
    assert doctor._gpus() == "NVIDIA's driver does not answer"
