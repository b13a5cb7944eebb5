"""The repository passes its own linters, and the command line answers at once."""

import ast
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "light_sernet_kd"
HEAVY = {"tensorflow", "keras", "numpy"}


def script(name: str) -> str:
    """A console script of this environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: pip install -r requirements-test.txt")
    return found


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy"],
        ["lint-imports"],
        # What of the standard library these systems lack is not used on them.
        pytest.param(["mypy", "--platform", "win32"], marks=pytest.mark.every),
        pytest.param(["mypy", "--platform", "darwin"], marks=pytest.mark.every),
    ],
    ids=" ".join,
)
def test_the_linter_is_content(command):
    done = subprocess.run(
        [script(command[0]), *command[1:]],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"


def test_no_python_file_knows_a_machine():
    places = re.compile(r"""(?<![\w.])(/(root|home|Users|work|workspace|mnt|tmp|opt)/|[A-Za-z]:\\\\?\w)""")
    files = [path for folder in (PACKAGE, REPOSITORY / "benchmarks") for path in folder.rglob("*.py")]
    assert len(files) > 20
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in [*files, *REPOSITORY.glob("*.py")]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if places.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]], ids=" ".join)
def test_help_answers_in_half_a_second(arguments):
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "light_sernet_kd", *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        seconds.append(time.perf_counter() - started)
        assert (done.returncode, done.stderr) == (0, "")
        assert "light-sernet-kd" in done.stdout
        if seconds[-1] < 0.5:
            break
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "--epochs", "0"],
        ["train", "-kd", "CDK"],
        ["train", "--epoch", "3"],
    ],
    ids=" ".join,
)
def test_neither_help_nor_a_mistake_waits_for_heavy_imports(arguments):
    code = (
        "import json, sys\n"
        "from light_sernet_kd.cli import main\n"
        "try:\n"
        "    code = main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    code = end.code or 0\n"
        "print()\n"
        "print(json.dumps([code, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    returned, modules = json.loads(done.stdout.splitlines()[-1])
    assert returned == (0 if "--help" in arguments else 2)
    assert "light_sernet_kd.cli" in modules
    assert not HEAVY & set(modules)


# What these print is the answer that a command was asked for.
ANSWERING = {"device/answers.py", "device/listen.py", "device/predict.py"}


def test_the_library_prints_nothing():
    printing = set()
    for path in PACKAGE.rglob("*.py"):
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        ]
        if any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls):
            printing.add(path.relative_to(PACKAGE).as_posix())
    assert {name for name in printing if not name.startswith("cli/")} == ANSWERING
