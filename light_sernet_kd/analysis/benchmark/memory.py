"""How much memory a fresh process needs to answer once."""

import os
import subprocess
import sys
from pathlib import Path

import light_sernet_kd
from light_sernet_kd import runner
from light_sernet_kd.analysis.benchmark.timing import example
from light_sernet_kd.errors import UserError

MEMORY = (
    "peak resident memory that a fresh process needs above that of Python, NumPy and LiteRT, to open and "
    "check the file and to answer once, on one thread"
)


def peak_memory(path: Path) -> int | None:
    """Bytes, as `MEMORY` says; None where the system does not tell (only Linux does).

    Raises:
        UserError: the file cannot be run.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    package = str(Path(light_sernet_kd.__file__).resolve().parent.parent)
    known = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(known)},
    )
    if done.returncode:
        raise UserError(f"{path} cannot be run in a process of its own: {done.stderr.strip()[-300:]}")
    return int(done.stdout.split()[-1])


_CHILD = (
    "import sys; from light_sernet_kd.analysis.benchmark import memory; print(memory.own_peak(sys.argv[1]))"
)


def own_peak(path: str) -> int:
    """What this process, which has done nothing yet, needs for `path` at its peak."""

    def kilobytes(field: str) -> int:
        status = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        )
        return int(status[field].split()[0])

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, behind that of the imports
    before = kilobytes("VmRSS")
    interpreter, _, _ = runner.open_file(path)
    runner.outputs(interpreter, example(interpreter))
    return 1024 * (kilobytes("VmHWM") - before)
