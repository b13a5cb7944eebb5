"""What a node of a Ray cluster does with a run of a grid or of a search, or with several together.

Where the node sees their folder, on a shared disk, the run is made there. Elsewhere it is made in a temporary
folder of the node, and each finished step of it is sent back as files.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd import plugins
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.sweeps.grid import RunOutcome, peak_mb
from light_sernet_kd.files import atomic, read_json

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

LOGS = ".logs"
_CHUNK_BYTES = 2**24
_LOG_LINES = 15
# Seconds between looks for a finished step.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class NodeRun:
    """A run as a node is given it.

    Attributes:
        name: of its folder.
        command: that makes the run alone, for its report.
        begun: files of the run that are there already, for a node that does not share the folder.
    """

    name: str
    settings: Settings
    command: str
    begun: dict[str, bytes]


Together = Callable[[Sequence[NodeRun], RunOptions], Iterator[tuple[str, RunOutcome]]]


@dataclass(frozen=True)
class Job:
    """Runs for a node: one, or several that are trained together.

    Attributes:
        options: of all of them, with absolute `result`: the grid's or search's folder, as the machine knows
            it that gives the command.
        train: what makes one; raises UserError where it cannot begin on a node.
        together: what makes several.
        begin: what a process does first.
        token: name and content of a file in that folder; a node that reads it there shares the folder.
        host: the machine that gives the command.
        folder: its current one, which the relative paths of settings and options mean.
        again: they were lost with their process before.
        plugins: name and content of the user's, which a node need not have.
    """

    runs: tuple[NodeRun, ...]
    options: RunOptions
    train: Callable[[Settings, RunOptions, str], RunOutcome]
    begin: Callable[[], None] | None
    token: tuple[str, str]
    host: str
    folder: str
    again: bool
    plugins: tuple[tuple[str, bytes], ...] = ()
    together: Together | None = None


@dataclass(frozen=True)
class Answer:
    """What a node says of runs.

    Attributes:
        finished: by their names. One that is not among them ended by an error of ours. One that did not begin
            here may be made by another node.
        error: the traceback of an error of ours, with the last lines of the log before it.
        elsewhere: the node does not share the grid's folder.
    """

    node: str
    finished: dict[str, RunOutcome] = field(default_factory=dict)
    error: str = ""
    elsewhere: bool = False


def train_on_node(settings: Settings, options: RunOptions, command: str) -> RunOutcome:
    """Make a run.

    Raises:
        UserError: it cannot begin here: no corpus, no teacher file.
    """
    from light_sernet_kd.experiment.results.receipt import write_receipt
    from light_sernet_kd.experiment.run import carry_out

    def train(run: "Experiment") -> None:
        carry_out(run)
        write_receipt(run)

    return opened_here(settings, options, command, train)


def train_together_on_node(runs: Sequence[NodeRun], options: RunOptions) -> Iterator[tuple[str, RunOutcome]]:
    """Make runs whose networks are trained together, as they finish."""
    from rich.console import Console

    from light_sernet_kd.experiment.sweeps.grid import some_together
    from light_sernet_kd.reporting.display import Display

    commands = {run.name: run.command for run in runs}
    display = Display(Console(file=sys.stdout), verbose=2)
    for run, done in some_together(
        runs, options, display, lambda _, entry_options: commands[str(entry_options.run)]
    ):
        yield run.name, done


def opened_here(
    settings: Settings, options: RunOptions, command: str, train: Callable[["Experiment"], Any]
) -> RunOutcome:
    """What becomes of a run that is opened here and given to `train`.

    Raises:
        UserError: it cannot be opened.
    """
    from rich.console import Console

    from light_sernet_kd.experiment.outcome import summary, why_not_run
    from light_sernet_kd.experiment.run import opened
    from light_sernet_kd.reporting.display import Display

    began = time.perf_counter()
    display = Display(Console(file=sys.stdout), verbose=2)
    with opened(settings, options, display, command=command) as run:
        try:
            train(run)
        except (UserError, MemoryError) as error:
            return RunOutcome(why=why_not_run(error))
        said = summary(read_json(run.folder.metrics))
    return RunOutcome(round(time.perf_counter() - began, 1), peak_mb(), said)


def make(job: Job, node: str, send: Callable[[str, bytes, bool], Any]) -> Answer:
    """Make runs on this node.

    Args:
        node: its name.
        send: is given the files of the runs that their machine lacks, in pieces: path within the grid's
            folder, a piece, whether it is the last.
    """
    with contextlib.suppress(OSError):  # the node need not have that folder
        os.chdir(job.folder)
    shares = _read(job.options.result / job.token[0]) == job.token[1]
    answer = Answer(node, elsewhere=not shares)
    result = job.options.result if shares else _own_folder(job)
    log = result / LOGS / f"{job.runs[0].name}.log"
    try:
        if not shares:
            for run in job.runs:
                _put(run.begun, result / run.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack, _logged(log):
            try:
                stack.enter_context(plugins.carried(job.plugins))
                if job.begin:
                    job.begin()
                for run in job.runs:
                    if job.again:
                        RunFolder(result / run.name).wait_until_free()
                    if not shares:
                        stack.enter_context(_sending(result / run.name, send))
                for name, done in _made(job, replace(job.options, result=result)):
                    answer.finished[name] = done
            except UserError as error:
                left = [run.name for run in job.runs if run.name not in answer.finished]
                answer.finished.update(dict.fromkeys(left, RunOutcome(why=str(error), began=False)))
                return answer
    except Exception:
        return replace(answer, error=tail(log) + traceback.format_exc())
    if not shares:
        for run in job.runs:
            shutil.rmtree(result / run.name, ignore_errors=True)
    log.unlink(missing_ok=True)
    return answer


def _made(job: Job, options: RunOptions) -> Iterator[tuple[str, RunOutcome]]:
    if len(job.runs) > 1 and job.together:
        yield from job.together(job.runs, options)
        return
    for run in job.runs:
        yield run.name, job.train(run.settings, replace(options, run=run.name), run.command)


def clean(folder: Path, host: str) -> None:
    """Remove what a node keeps of a grid: its cache of features."""
    shutil.rmtree(_folder_of(folder, host), ignore_errors=True)


def tail(log: Path) -> str:
    """The last lines of a log, each on a line; empty where there is none."""
    lines = (_read(log) or "").splitlines()[-_LOG_LINES:]
    return "".join(f"{line}\n" for line in lines)


def finished_files(run: Path) -> Iterator[Path]:
    """The files of a run that another machine can go on with: those of finished steps, what says so last."""
    for done in sorted([*run.glob("*/fold.json"), *run.glob("*/final.json")]):
        yield run / "config.json"
        yield from (path for path in _files(done.parent) if path != done)
        yield done


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _own_folder(job: Job) -> Path:
    """Where runs of the grid are made on a node that does not share its folder; features are kept there."""
    folder = _folder_of(job.options.result, job.host)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _folder_of(folder: Path, host: str) -> Path:
    digest = hashlib.sha256(f"{host} {folder}".encode()).hexdigest()[:12]
    user = os.getuid() if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir()) / f"light-sernet-kd-{user}-{digest}"


def _put(files: dict[str, bytes], run: Path) -> None:
    for name, content in files.items():
        with atomic(run / name) as temporary:
            temporary.write_bytes(content)


@contextlib.contextmanager
def _logged(log: Path) -> Iterator[None]:
    """Within, what the process writes to its standard outputs stands in a file."""
    sys.stdout.flush()
    before = [os.dup(number) for number in (1, 2)]
    try:
        with open(log, "ab") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        yield
    finally:
        sys.stdout.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)


@contextlib.contextmanager
def _sending(run: Path, send: Callable[[str, bytes, bool], Any]) -> Iterator[None]:
    """Send each step as it is finished, and all files at the end."""
    sent: dict[Path, tuple[int, int]] = {}
    ended = threading.Event()

    def send_new(paths: Iterator[Path]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                facts = path.stat()
                state = (facts.st_mtime_ns, facts.st_size)
                if sent.get(path) != state:
                    _send(path, str(path.relative_to(run.parent).as_posix()), send)
                    sent[path] = state

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            send_new(finished_files(run))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    send_new(finished_files(run))
    metrics = RunFolder(run).metrics
    send_new(path for path in _files(run) if path != metrics)
    send_new(path for path in (metrics,) if path.exists())


def _send(path: Path, name: str, send: Callable[[str, bytes, bool], Any]) -> None:
    with open(path, "rb") as file:
        chunk = file.read(_CHUNK_BYTES)
        while True:
            following = file.read(_CHUNK_BYTES)
            send(name, chunk, not following)
            if not following:
                return
            chunk = following


def host_name() -> str:
    return socket.gethostname()
