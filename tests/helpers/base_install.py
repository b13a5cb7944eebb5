"""Run in an environment of the base install: every command once, and what it answered as JSON.

    python -I base_install.py FOLDER

FOLDER has `student.tflite`, `voice.wav`, `manifest.csv`, `run/student_int8.tflite` and `runtime.tgz`.
Modules that Windows lacks are none here either.
"""

import contextlib
import importlib
import io
import json
import os
import pkgutil
import sys
import threading
import traceback
import urllib.request
from pathlib import Path

# Of the standard library's list of modules; the standard library itself does without them.
ONLY_POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
TRAINING = ("tensorflow", "keras", "sklearn", "scipy", "matplotlib", "filelock", "threadpoolctl")
# What works, and then what needs more than is installed.
COMMANDS = (
    "--version",
    "--help",
    "predict student.tflite voice.wav",
    "predict run voice.wav --format jsonl",
    "predict student.tflite voice.wav --stream",
    "benchmark student.tflite --rounds 1 --threads 1",
    "golden student.tflite",
    "recipe",
    "audit manifest.csv",
    "prepare manifest.csv",
    "fetch IEMOCAP --data data",
    "doctor --json",
    "predict student.tflite voice.wav --stream --picture picture.png",
    "listen student.tflite",
    "train -dn demo",
    "teach -dn demo",
    "grid grid.toml",
    "search -dn demo --dry-run",
    "explain run --worst 1",
    "export run",
    "stress student.tflite --on demo",
    "compare run run --out compared",
    "paper",
)


class OnlyPosix:
    """Finds none of the modules that Windows lacks."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ONLY_POSIX:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def answered(line: str) -> dict:
    from light_sernet_kd import cli

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(line.split())
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            code = traceback.format_exc()
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def not_importable() -> dict[str, list[str]]:
    """Of our modules, those that cannot be imported, by the module that they lack."""
    import light_sernet_kd

    lacking: dict[str, list[str]] = {}
    # What failed once, every module that needs it fails of.
    for module in pkgutil.walk_packages(light_sernet_kd.__path__, "light_sernet_kd.", onerror=lambda _: None):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            lacking.setdefault(error.name, []).append(module.name)
    return lacking


def page() -> dict[str, int]:
    """The length of what the demo's page is made of, as its server gives it."""
    from light_sernet_kd.device import serve

    served = serve.files(serve.students(Path("run")), Path("runtime.tgz"))
    with serve.server(served, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lengths = {}
        for address in ("/", "/app.js", "/students.json"):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{address}") as answer:
                lengths[address] = len(answer.read())
        server.shutdown()
    return lengths


def from_python() -> dict:
    """What an import tells of what is there and of what is not."""
    from light_sernet_kd import Runner

    result = Runner("student.tflite").classify("voice.wav")
    try:
        from light_sernet_kd import train
    except ImportError as error:
        return {"label": result.label, "error": str(error)}
    return {"label": result.label, "error": f"{train} is there"}


def main() -> None:
    sys.meta_path.insert(0, OnlyPosix)
    for name in ONLY_POSIX:
        sys.modules.pop(name, None)
    os.chdir(sys.argv[1])
    answers = {line: answered(line) for line in COMMANDS}
    told = {
        "answers": answers,
        "from_python": from_python(),
        "page": page(),
        "training": [name for name in TRAINING if name in sys.modules],
        "found": [name for name in TRAINING if importlib.util.find_spec(name)],
        "not_importable": not_importable(),
        "package": importlib.import_module("light_sernet_kd").__file__,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
