"""The wheel and the sdist are whole, and the base install does what it says without the extras."""

import email.message
import email.parser
import importlib.metadata
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import base_install
import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from packaging.requirements import Requirement
from tiny_student import CLASSES, audio_student

from light_sernet_kd import __version__, errors

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CITATION.cff", "CHANGELOG.md")
MOST_MB = 200


def made(what: str, source: Path, folder: Path) -> Path:
    """What the build back end makes of a folder, as pip and build call it: `wheel` or `sdist`."""
    program = f"import sys; from setuptools import build_meta; print(build_meta.build_{what}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The sdist, and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        shutil.copy(REPOSITORY / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(REPOSITORY / "light_sernet_kd", source / "light_sernet_kd", ignore=ignored)
    sdist = made("sdist", source, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return {"sdist": sdist, "unpacked": unpacked, "wheel": made("wheel", unpacked, folder)}


@pytest.fixture(scope="module")
def metadata(built) -> email.message.Message:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.BytesParser().parse(io.BytesIO(wheel.read(name)))


def test_wheel_and_sdist_have_every_file_of_the_package(built):
    package = REPOSITORY / "light_sernet_kd"
    expected = {
        f"light_sernet_kd/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {"light_sernet_kd/py.typed", "light_sernet_kd/device/page/index.html"} <= names
    assert all((built["unpacked"] / name).is_file() for name in (*expected, *SOURCES))


def test_the_metadata_say_what_a_package_index_shows(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("light-sernet-kd", __version__)
    assert metadata["License-Expression"] == "MIT"
    classifiers = metadata.get_all("Classifier")
    assert any(each.startswith("Development Status :: ") for each in classifiers)
    assert "Typing :: Typed" in classifiers
    assert all(url.partition(", ")[2].startswith("https://") for url in metadata.get_all("Project-URL"))
    supported = re.findall(r"Python :: 3\.(\d+)", "\n".join(classifiers))
    assert metadata["Requires-Python"] == f"<3.{int(supported[-1]) + 1},>=3.{supported[0]}"


def test_the_citation_is_of_this_version():
    lines = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    facts = dict(line.split(": ", 1) for line in lines if re.match(r"[a-z-]+: \S", line))
    assert (facts["version"], facts["license"]) == (__version__, PROJECT["license"])
    assert {"cff-version", "title", "message", "type"} <= facts.keys()


def test_what_a_lacking_module_is_said_to_need_is_what_the_extra_brings():
    """`errors` names extras that `pyproject.toml` has, and for each of them a package that it brings."""
    distributions = importlib.metadata.packages_distributions()
    extras = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    brought = {extra: {Requirement(line).name for line in lines} for extra, lines in extras.items()}
    for module, package in errors._PACKAGES.items():
        names = distributions.get(module, [module])
        assert {name.lower().replace("_", "-") for name in names} & brought[package.extra], module
    known = {name.lower() for each in errors._PACKAGES for name in distributions.get(each, [each])}
    # What the base and training import is known by name, whatever else is not.
    assert {name.lower() for name in (*brought[""], *brought["train"])} <= {
        name.replace("_", "-") for name in known
    }


def test_the_extra_all_is_made_of_extras_that_there_are():
    (line,) = PROJECT["optional-dependencies"]["all"]
    apart = {"all", "opensmile", "tfio", "jax-cuda", "docs", "test"}
    assert Requirement(line).extras == PROJECT["optional-dependencies"].keys() - apart


@pytest.mark.parametrize(
    ("path", "on_windows"),
    [
        (r"C:\Python313\python.exe", r"C:\Python313\python.exe"),
        (r"C:\Program Files\Python\python.exe", r'"C:\Program Files\Python\python.exe"'),
    ],
)
def test_a_command_has_the_quotes_of_the_systems_shell(monkeypatch, path, on_windows):
    assert shlex.split(errors.quoted(path)) == [path]
    monkeypatch.setattr(errors, "os", SimpleNamespace(name="nt"))
    assert errors.quoted(path) == on_windows


def test_an_import_that_fails_for_another_reason_keeps_its_traceback():
    assert errors.as_missing_package(ModuleNotFoundError("no", name="light_sernet_kd.no"), "train") is None
    assert errors.as_missing_package(ImportError("numpy is broken", name="numpy.core"), "train") is None
    error = errors.missing("keras", "train")
    assert isinstance(error, errors.UserError)
    assert isinstance(error, ImportError)


def needed(requirements: list[str]) -> set[str]:
    """The distributions of these requirements and of all that they require, without extras."""
    names, waiting = set(), [Requirement(each) for each in requirements]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower()
        if name not in names and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            names.add(name)
            waiting += map(Requirement, importlib.metadata.requires(name) or [])
    return names


def site_packages(environment: Path) -> Path:
    (found,) = (Path(path) for path in [*environment.glob("lib/python*/site-packages"),
                                        *environment.glob("Lib/site-packages")])  # fmt: skip
    return found


def python_of(environment: Path) -> Path:
    return next(
        path for name in ("bin/python", "Scripts/python.exe") if (path := environment / name).exists()
    )


@pytest.fixture(scope="module")
def base(built, metadata, tmp_path_factory) -> Path:
    """An environment that holds the wheel and what it requires without extras, and nothing else.

    What it requires are links to the packages that run these tests, so nothing is downloaded.
    """
    environment = tmp_path_factory.mktemp("base") / "environment"
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(environment)
    site = site_packages(environment)
    required = metadata.get_all("Requires-Dist")
    for name in needed([line for line in required if "extra ==" not in line]):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            target = site / top
            if not target.exists():
                target.symlink_to(distribution.locate_file(top))
    with zipfile.ZipFile(built["wheel"]) as wheel:
        wheel.extractall(site)
    return environment


def prepared(folder: Path) -> Path:
    """The files that `base_install` works with."""
    (folder / "run").mkdir(parents=True)
    audio_student(folder / "student.tflite")
    audio_student(folder / "run" / "student_int8.tflite")
    rng = np.random.default_rng(0)
    loudness = 1 + np.sin(np.arange(16_000) / 2000)
    rows = ["path,emotion,speaker"]
    for name in ("voice", "s1", "s2", "s3"):
        soundfile.write(folder / f"{name}.wav", 0.1 * loudness * rng.normal(size=16_000), 16_000)
        rows.append(f"{name}.wav,{CLASSES[0]},{name}")
    (folder / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    with tarfile.open(folder / "runtime.tgz", "w:gz"):
        pass
    return folder


def told(environment: Path, folder: Path) -> dict:
    program = Path(base_install.__file__)
    python = python_of(environment)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "-I", str(program), str(folder)],
        capture_output=True, text=True, env={**clean, "XDG_CACHE_HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def answers(base, tmp_path_factory) -> dict:
    return told(base, prepared(tmp_path_factory.mktemp("work")))


def check_answers(found: dict, environment: Path) -> None:
    assert Path(found["package"]).is_relative_to(environment)
    answers = found["answers"]
    lacking = [*answers][[*answers].index("doctor --json") + 1 :]
    for line, answer in answers.items():
        assert answer["code"] == (2 if line in lacking else 0), (line, answer)
        if line in lacking:
            (said,) = answer["err"].splitlines()
            extra = "listen" if line.startswith("listen") else "train"
            assert said.startswith("light-sernet-kd: "), said
            assert said.endswith(f'-m pip install "light-sernet-kd[{extra}]"'), said
    assert answers["--version"]["out"] == f"light-sernet-kd {__version__}\n"
    answer = json.loads(answers["predict run voice.wav --format jsonl"]["out"])
    assert answer["label"] in (*CLASSES, "unsure")
    assert found["from_python"]["label"] in (*CLASSES, "unsure")
    assert 'pip install "light-sernet-kd[train]"' in found["from_python"]["error"]
    assert min(found["page"].values()) > 100
    findings = json.loads(answers["doctor --json"]["out"])
    assert not [each for each in findings if each["is_wrong"]]
    extras = {each["name"]: each for each in findings if each["topic"] == "extras"}
    assert extras["train"]["remedy"].endswith('-m pip install "light-sernet-kd[train]"')
    assert "keras" in extras["train"]["found"]


def test_the_base_install_does_what_needs_no_training_and_says_what_the_rest_needs(answers, base):
    check_answers(answers, base)


def test_the_base_install_has_nothing_that_trains(answers):
    assert (answers["training"], answers["found"]) == ([], [])


def test_every_module_imports_but_for_packages_of_extras(answers):
    """Also without the modules of the standard library that Windows lacks."""
    extras = {module for module, package in errors._PACKAGES.items() if package.extra}
    assert answers["not_importable"].keys() <= extras
    names = {name for failed in answers["not_importable"].values() for name in failed}
    assert "light_sernet_kd.training.network" in names
    assert not [name for name in names if name.startswith("light_sernet_kd.device")]


def test_the_console_script_is_the_command_line(base):
    program = (
        "from importlib.metadata import entry_points;"
        "(found,) = entry_points(group='console_scripts', name='light-sernet-kd');"
        "raise SystemExit(found.load()())"
    )
    done = subprocess.run(
        [str(python_of(base)), "-I", "-c", program, "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"light-sernet-kd {__version__}\n"), done.stderr


def test_train_py_of_a_clone_says_what_to_install(base, tmp_path):
    """Nothing of the package is installed: it is found beside the script."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("train.py", "hyperparameters.py", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, clone)
    (clone / "light_sernet_kd").symlink_to(REPOSITORY / "light_sernet_kd")
    bare = tmp_path / "bare"
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(bare)
    done = subprocess.run(
        [str(python_of(bare)), "train.py", "-dn", "demo"],
        cwd=clone, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.endswith('[train]"'), line
    assert " -m pip install -e " in line


@pytest.fixture
def set_up(tmp_path) -> Path:
    """A clone in which `run.sh` finds all installed; its environment runs the Python of these tests."""
    if shutil.which("sh") is None:
        pytest.skip("no sh")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("run.sh", "train.py", "hyperparameters.py", "requirements.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "light_sernet_kd").symlink_to(REPOSITORY / "light_sernet_kd")
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path / ".venv" / f"installed-{name}")
    python = shlex.quote(sys.executable)
    for name, program in (("python", python), ("light-sernet-kd", f"{python} -m light_sernet_kd")):
        (programs / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    return tmp_path


def run_sh(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        ["sh", str(clone / "run.sh"), *arguments],
        cwd=clone.parent, capture_output=True, text=True, env=environment,
    )  # fmt: skip


def test_run_sh_answers_the_examples_and_a_file_of_the_user_before_it_trains(set_up):
    mine = set_up.parent / "my voice.wav"
    soundfile.write(mine, np.zeros(16_000), 16_000)
    done = run_sh(set_up, mine.name, "--help")  # of train.py, in the place of four minutes of training
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = (
        "anger-",
        "happiness-",
        "sadness-",
        "my voice.wav",
        "four minutes",
        "usage: train.py",
        "docs/quick",
    )
    places = [next(k for k, line in enumerate(lines) if name in line) for name in names]
    assert places == sorted(places)
    assert "my voice.wav: " in lines[places[3]]
    assert "unsure: silent" in lines[places[3]]


def test_run_sh_names_a_file_that_is_not_there_before_it_installs(set_up):
    (set_up / ".venv" / "installed-requirements.txt").unlink()
    done = run_sh(set_up, "other.wav")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("run.sh: no file other.wav")


@pytest.mark.every
def test_a_base_install_by_pip_is_below_200_mb(built, tmp_path):
    """All of the environment counts, also pip and setuptools."""
    environment = tmp_path / "environment"
    venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(environment)
    pip = [str(python_of(environment)), "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", "--quiet", str(built["wheel"])], capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    size = sum(path.lstat().st_size for path in environment.rglob("*") if path.is_file())
    assert size < MOST_MB * 1e6
    check_answers(told(environment, prepared(tmp_path / "work")), environment)


def test_the_wheel_trains_where_the_extra_is_installed(built, manifest, tmp_path):
    """The packages are those that run these tests; the package itself is the wheel's."""
    environment = tmp_path / "environment"
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(environment)
    site = site_packages(environment)
    with zipfile.ZipFile(built["wheel"]) as wheel:
        wheel.extractall(site)
    (site / "tests.pth").write_text(f"{Path(np.__file__).parents[1]}\n", encoding="utf-8")
    program = (
        "import sys, light_sernet_kd; from light_sernet_kd import cli; print(light_sernet_kd.__file__);"
        "sys.exit(cli.console())"
    )
    arguments = ["train", "-dn", manifest, "--recipe", "lsn", "-id", "1.2", "--epochs", "1", "--folds", "s1",
                 "--no-export", "--result", tmp_path]  # fmt: skip
    done = subprocess.run(
        [python_of(environment), "-I", "-c", program, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(environment)
    assert [*tmp_path.glob("*/metrics.json")]
