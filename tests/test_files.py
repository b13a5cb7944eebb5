"""A file of ours is whole or absent, whatever interrupts its writer."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY

from light_sernet_kd import files
from light_sernet_kd.errors import UserError
from light_sernet_kd.runner import Runner, RunnerError

posix = pytest.mark.skipif(os.name != "posix", reason="signals, umask and resource limits are POSIX's")


def python(code, *arguments):
    """Another process that runs `code` beside the package."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=REPOSITORY, **pipes)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_has_its_name_only_once_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    with files.atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names_in(tmp_path) == ["a.txt"]


def test_missing_folders_are_made(tmp_path):
    files.write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_content_and_nothing_else(tmp_path, error, before):
    path = tmp_path / "a.txt"
    if before:
        path.write_text(before)

    def write_half():
        with files.atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert names_in(tmp_path) == (["a.txt"] if before else [])
    assert before is None or path.read_text() == before


@posix
def test_a_killed_writer_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import sys, time\n"
        "from light_sernet_kd.files import atomic\n"
        "with atomic(sys.argv[1]) as temporary, open(temporary, 'w') as file:\n"
        "    file.write('half' * 10_000)\n"
        "    file.flush()\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    writer = python(code, path)
    try:
        assert writer.stdout.readline() == "writing\n"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"


@posix
@pytest.mark.parametrize("writer", ["text", "json", "arrays"])
def test_a_disk_that_is_full_leaves_the_old_content(tmp_path, writer):
    # A limit on the size of files stops a write in its middle, as a full disk does.
    path = tmp_path / "a.bin"
    path.write_text("old")
    calls = {
        "text": "files.write_text(path, 'x' * 100_000)",
        "json": "files.write_json(path, ['x' * 100_000])",
        "arrays": "files.write_arrays(path, {'x': np.zeros(100_000)})",
    }
    code = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "from light_sernet_kd import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "path = sys.argv[1]\n"
        "try:\n"
        f"    {calls[writer]}\n"
        "except OSError as error:\n"
        "    sys.exit(error.errno)\n"
    )
    done = python(code, path)
    assert done.communicate(timeout=30) == ("", "")
    assert done.returncode == errno.EFBIG
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.bin"]


def test_a_disk_that_is_full_when_the_content_is_forced_to_it_leaves_the_old_content(tmp_path, monkeypatch):
    # Where writing is delayed, only fsync hears of the full disk.
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_text(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    # Else a power failure can leave the name on an empty file.
    events = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor):
        events.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def note_replace(source, target):
        events.append(("replace", os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    files.write_text(tmp_path / "a.txt", "12345")
    assert events == [("fsync", 5), ("replace", 5)]


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "a.txt", "x")
        (tmp_path / "peer.txt").write_text("x")
        assert os.umask(umask) == umask, "the process's umask must stay"
    finally:
        os.umask(before)
    ours, peer = ((tmp_path / name).stat().st_mode for name in ("a.txt", "peer.txt"))
    assert stat.S_IMODE(ours) == stat.S_IMODE(peer) == 0o666 & ~umask


def test_text_is_utf_8(tmp_path):
    files.write_text(tmp_path / "a.txt", "Schwärze – σ")
    assert (tmp_path / "a.txt").read_bytes() == "Schwärze – σ".encode()


def test_what_is_no_utf_8_in_a_path_is_escaped_so_that_json_reads_it_back(tmp_path):
    value = {"path": os.fsdecode(b"a\xff.csv")}
    files.write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


def test_json_is_read_back_and_readable(tmp_path):
    value = {"ä": [1, 2.5, None, True], "deep": {"x": "y"}}
    files.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert '  "ä": [\n' in text
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    "names",
    [
        ("a/b", "a_b", "a:b", "a\\b"),
        ("x" * 300, "x" * 299),
        ("가" * 100, "가" * 99),
        (os.fsdecode(b"a\xff"), os.fsdecode(b"a\xfe"), "a_"),
        ("..", ".", "_", ""),
        ("con", "CON", "_con", "nul.npy", "LPT1", "con-1"),
    ],
)
def test_names_become_parts_of_paths_and_stay_different(names):
    parts = {files.path_part(name) for name in names}
    assert len(parts) == len(names)
    assert all(part.strip(".") and "/" not in part and "\\" not in part for part in parts)
    assert max(len(os.fsencode(part)) for part in parts) <= 160
    assert not [part for part in parts if part.partition(".")[0].lower() in ("con", "nul", "lpt1")]


def test_a_folder_is_called_one_where_it_may_not_be_opened(tmp_path, monkeypatch):
    """As Windows refuses it."""

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(IsADirectoryError):
        files.regular_descriptor(tmp_path)
    with pytest.raises(PermissionError):
        files.regular_descriptor(tmp_path / "file")
    with pytest.raises(RunnerError, match="Is a directory"):
        Runner(tmp_path)


def test_a_name_that_a_file_system_takes_stays_as_it_is():
    assert [files.path_part(name) for name in ("화자-01", "03a01Fa", "all-speakers", "a.b_c")] == [
        "화자-01", "03a01Fa", "all-speakers", "a.b_c"
    ]  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_nan(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"ua": value})
    assert path.read_text() == "{}"
    assert names_in(tmp_path) == ["a.json"]


def test_arrays_are_read_back_bit_for_bit_without_pickle(tmp_path):
    arrays = {"x": np.float32([[0.1, np.nan]]), "names": np.array(["ä", "bc"]), "empty": np.zeros((0, 3))}
    files.write_arrays(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert set(stored.files) == set(arrays)
        for name, array in arrays.items():
            assert stored[name].dtype == array.dtype
            np.testing.assert_array_equal(stored[name], array)


@posix
def test_of_several_writers_at_once_one_wins_whole(tmp_path):
    path = tmp_path / "a.txt"
    code = (
        "import sys\n"
        "from light_sernet_kd.files import write_text\n"
        "for _ in range(50): write_text(sys.argv[1], sys.argv[2] * 10_000)\n"
    )
    writers = [python(code, path, letter) for letter in "ab"]
    deadline = time.monotonic() + 30
    seen = set()
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        if path.exists():
            seen.add(path.read_text())
    assert [writer.communicate(timeout=30) for writer in writers] == [("", "")] * 2
    assert seen <= {"a" * 10_000, "b" * 10_000}
    assert path.read_text() in {"a" * 10_000, "b" * 10_000}
    assert names_in(tmp_path) == ["a.txt"]


@posix
def test_only_a_regular_file_is_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    (tmp_path / "link").symlink_to("a.txt")
    assert files.read_bytes(tmp_path / "a.txt") == b"\xef\xbb\xbfone\r\ntwo\n"
    assert files.read_text(tmp_path / "link", encoding="utf-8-sig") == "one\ntwo\n"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        for read in (files.read_bytes, files.read_text, files.open_regular, files.sha256):
            with pytest.raises(OSError, match="not a regular file"):
                read(path)
    with pytest.raises(IsADirectoryError):
        files.read_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.read_bytes(tmp_path / "none")


def table_with(path, *recordings):
    rows = [
        f"{name},{'anger' if at % 2 else 'fear'},speaker {at % 4},u{at}" for at, name in enumerate(recordings)
    ]
    path.write_text("\n".join(["path,emotion,speaker,id", *rows]) + "\n")
    return path


@posix
def test_no_command_waits_for_a_path_that_is_no_regular_file(tmp_path):
    """A pipe without a writer as a table, a teacher, a text file, a recording; and /dev/zero."""
    os.mkfifo(tmp_path / "pipe")
    zero = table_with(tmp_path / "zero.csv", *["/dev/zero"] * 4)
    piped = table_with(tmp_path / "piped.csv", *["pipe"] * 4)
    pipe = str(tmp_path / "pipe")
    code = (
        "import sys; from light_sernet_kd import cli, evaluation, config\n"
        "from light_sernet_kd.data import selection\n"
        "from light_sernet_kd.device import predict\n"
        "from light_sernet_kd.teachers import files as teachers\n"
        "from pathlib import Path\n"
        "from light_sernet_kd.errors import UserError\n"
        "pipe, zero, piped = sys.argv[1:]\n"
        "for arguments in (['audit', zero], ['audit', piped], ['audit', pipe], ['prepare', pipe],\n"
        "                  ['compare', '/dev', '/dev'], ['fetch', pipe]):\n"
        "    assert cli.main(arguments) == 2, arguments\n"
        "for read in (predict._transcripts, evaluation.read_predictions, teachers._read_csv):\n"
        "    for path in (pipe, '/dev/zero'):\n"
        "        try:\n"
        "            read(Path(path))\n"
        "        except UserError as error:\n"
        "            print(error, file=sys.stderr)\n"
        "        else:\n"
        "            raise SystemExit(read)\n"
        "settings = config.make_settings(corpus=zero)\n"
        "try:\n"
        "    selection.selected(settings, Path('.'))\n"
        "except UserError as error:\n"
        "    print(error, file=sys.stderr)\n"
    )
    process = python(code, pipe, zero, piped)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "Traceback" not in told
    assert told.count("not a regular file") >= 12
    assert "/dev/zero is not a regular file" in told


# What is at work, and what was killed

LEFTOVERS = (files.LOCK, "config.json")


RACE = """
import os, shutil, sys, time
from pathlib import Path
from light_sernet_kd import files
from light_sernet_kd.errors import UserError
from light_sernet_kd.runner import Runner, RunnerError

folder, trials, met = Path(sys.argv[1]), int(sys.argv[2]), 0
for trial in range(trials):
    finishes = trial % 2 == 0
    gate, go = os.pipe()
    children = []
    for _ in range(3):
        if child := os.fork():
            children.append(child)
            continue
        code = 8
        try:
            os.close(go)
            os.read(gate, 1)
            with files.locked(folder, (files.LOCK, "config.json")):
                (folder / "config.json").write_text("{}")
                if trial % 3 == 0:
                    time.sleep(0.07)  # longer than the others' patience
                if finishes:
                    (folder / "metrics.json").write_text("{}")
                code = 0 if (folder / "config.json").exists() else 9
        except UserError:
            code = 2
        finally:
            os._exit(code)
    os.close(gate)
    os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert set(codes) <= {0, 2} and 0 in codes, codes
    met += codes.count(2)
    if finishes:
        assert sorted(os.listdir(folder)) == [".lock", "config.json", "metrics.json"]
        shutil.rmtree(folder)
    else:
        assert not folder.exists()
print(met)
"""


@posix
@pytest.mark.parametrize("trials", [30, pytest.param(3000, marks=pytest.mark.every)])
def test_of_starts_at_one_instant_none_removes_anothers_folder(tmp_path, trials):
    """Forked from a small process: this one may be large by now."""
    done = python(RACE, tmp_path / "run", trials)
    said, wrong = done.communicate(timeout=300)
    assert wrong == ""
    assert int(said) > trials / 10, "else they never met"


@posix
def test_who_is_refused_touches_nothing_and_who_holds_removes_only_what_is_worth_nothing(tmp_path):
    folder = tmp_path / "run"
    with files.locked(folder, LEFTOVERS):
        with pytest.raises(UserError, match="another process is working on"), files.locked(folder):
            pass
        assert names_in(folder) == [files.LOCK]
        (folder / "fold-1").mkdir()
        (folder / "config.json").write_text("{}")
    assert not folder.exists()
    # what was there before stays, whatever it is
    folder.mkdir()
    (folder / "config.json").write_text("{")
    with pytest.raises(KeyError), files.locked(folder, LEFTOVERS):
        raise KeyError
    assert names_in(folder) == sorted(LEFTOVERS)
    with files.locked(folder, LEFTOVERS):
        (folder / "metrics.json").write_text("{}")
    assert "metrics.json" in names_in(folder)


@posix
@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_file_system_without_locks_is_worked_on_without(tmp_path, monkeypatch, error, begun):
    def refuse(*_):
        raise OSError(getattr(errno, error), "none here")

    monkeypatch.setattr("fcntl.flock", refuse)
    folder = tmp_path / "run"
    if begun:
        folder.mkdir()
        (folder / files.LOCK).touch()
    with files.locked(folder):
        (folder / "metrics.json").write_text("{}")
    with files.locked(folder):
        pass
    assert "metrics.json" in names_in(folder)


def test_a_file_where_the_folder_would_be_is_an_error_and_no_endless_loop(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(FileExistsError), files.locked(tmp_path / "run"):
        pass
    assert (tmp_path / "run").read_text() == "x"


@posix
def test_temporaries_of_killed_writers_are_swept_and_those_of_living_ones_are_not(tmp_path):
    (tmp_path / "fold-1").mkdir()
    code = (
        "import sys, time\n"
        "from light_sernet_kd.files import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    print(temporary, flush=True)\n"
        "    time.sleep(60)\n"
    )
    writers = [python(code, tmp_path / "fold-1" / name) for name in ("student.keras", "history.csv")]
    killed, living = (Path(writer.stdout.readline().strip()) for writer in writers)
    try:
        writers[0].send_signal(signal.SIGKILL)
        writers[0].communicate()
        mine = ["metrics.json", ".lock", ".hidden.json", ".notes.markdown", "fold-1/.history.csv"]
        for name in mine:
            (tmp_path / name).write_text("x")
        assert files.sweep(tmp_path, older_than=60) == []
        assert files.sweep(tmp_path) == [killed]
        assert living.exists()
        assert all((tmp_path / name).exists() for name in mine)
    finally:
        writers[1].kill()
        writers[1].communicate()
    assert files.sweep(tmp_path) == [living]


@posix
def test_where_there_are_no_locks_a_day_of_age_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_take", lambda descriptor: None)
    young, old = tmp_path / ".a.x1y2z3_4.json", tmp_path / ".b.x1y2z3_4.json"
    for path in (young, old):
        path.write_text("x")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    assert files.sweep(tmp_path) == [old]
    assert young.exists()


@posix
def test_a_workshop_sweeps_those_of_killed_calls_for_the_same_target_alone(tmp_path):
    left, other = tmp_path / ".target.x1y2z3_4", tmp_path / ".target.old.x1y2z3_4"
    for folder in (left, other):
        folder.mkdir()
        (folder / "a.wav").write_text("x")
    with files.staging_folder(tmp_path / "target") as folder:
        assert names_in(tmp_path) == sorted([other.name, folder.name])
        with files.staging_folder(tmp_path / "target"):
            assert folder.exists(), "it is being worked in"
    assert names_in(tmp_path) == [other.name]
