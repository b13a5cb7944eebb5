"""A grid on the nodes of a Ray cluster: what is lost and killed, and what comes back."""

import dataclasses
import hashlib
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray_work
from rich.console import Console
from small_runs import SPEAKERS

from light_sernet_kd import cli, plugins
from light_sernet_kd.analysis import grid as grids
from light_sernet_kd.analysis.grid import Entry
from light_sernet_kd.config import RunOptions, cluster, make_settings
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.cluster import node as ray_node
from light_sernet_kd.experiment.cluster import runs as ray_runs
from light_sernet_kd.experiment.sweeps.grid import RunOutcome
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.reporting.display import Display

SEEDS = range(4)
SMALL = """
[settings]
corpus = "{corpus}"
folds = {folds}
input_seconds = 1.2
width = 0.15
epochs = 6
learning_rate = 3e-3
batch_norm_momentum = 0.8
batch_size = 8
export = false

[[runs]]
seed = [0, 1, 2]
"""


# Addresses


@pytest.fixture
def answering():
    """Gives a port where a server takes one connection and does this with it."""
    servers = []

    def port(answer) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            connection, _ = server.accept()
            answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1]

    yield port
    for server in servers:
        server.close()


def refusal(where: str, monkeypatch) -> str:
    monkeypatch.setattr(cluster, "is_installed", lambda module: True)
    began = time.perf_counter()
    with pytest.raises(UserError) as caught:
        cluster.cluster_address(where)
    assert time.perf_counter() - began < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["ray://", ""])
def test_a_port_where_nothing_listens_is_refused(scheme, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"{scheme}127.0.0.1:{port}"
    assert f"no Ray cluster answers at {address} (connection refused)" in refusal(address, monkeypatch)


def test_a_port_that_never_answers_is_refused(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        why = refusal(f"ray://127.0.0.1:{server.getsockname()[1]}", monkeypatch)
    assert "(it is silent)" in why


def test_what_is_no_ray_is_refused(answering, monkeypatch):
    web = answering(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert "something else answers" in refusal(f"ray://127.0.0.1:{web}", monkeypatch)
    closes = answering(lambda connection: (connection.recv(99), connection.close()))
    assert "it hangs up" in refusal(f"127.0.0.1:{closes}", monkeypatch)


@pytest.mark.parametrize("where", ["rey", "ray://", "ray://host", "host:0", "host:70000", "http://host:1"])
def test_an_address_is_of_a_form(where, monkeypatch):
    assert f"found {where!r}" in refusal(where, monkeypatch)


def test_the_variable_of_ray_is_read(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    assert "RAY_ADDRESS, which --on ray reads" in refusal("ray", monkeypatch)
    for own in ("auto", "local", ""):
        monkeypatch.setenv("RAY_ADDRESS", own)
        assert cluster.cluster_address("ray") is None


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "is_installed", lambda module: False)
    with pytest.raises(UserError, match=r"needs Ray, which is not installed: .*light-sernet-kd\[ray\]"):
        cluster.cluster_address("ray")


def test_the_command_line_says_it_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "is_installed", lambda module: True)
    (tmp_path / "one.toml").write_text("[[runs]]\nseed = [0, 1]\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = ["grid", str(tmp_path / "one.toml"), "--result", str(tmp_path), "-v", "0"]
    assert cli.main([*command, "--on", f"ray://127.0.0.1:{port}"]) == 2
    assert capsys.readouterr().err.startswith("light-sernet-kd: no Ray cluster answers at")
    assert not (tmp_path / "one").exists()


def test_what_gives_the_runs_to_a_cluster_needs_no_engine():
    program = (
        "import sys; from light_sernet_kd.experiment.sweeps import grid\n"
        "from light_sernet_kd.experiment.cluster import runs\n"
        "assert not {'keras', 'tensorflow', 'jax', 'ray'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


PLUGIN = (
    "from light_sernet_kd.plugins import Student, register\n"
    "register('student', 'tinny', Student(print, 'lsn', 'light_sernet', title='A tinny one'))\n"
)


@pytest.fixture
def plugin(tmp_path):
    """A plug-in that is loaded; it is not where a node would look, and its line as a node says it."""
    (tmp_path / "code").mkdir()
    file = tmp_path / "code" / "my.py"
    file.write_text(PLUGIN, encoding="utf-8")
    with plugins.loaded([file]):
        yield f"A tinny one of my.py {hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_a_node_loads_the_plugins_that_come_with_a_run_and_forgets_them(plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    carried = plugins.contents()
    job = ray_node.Job(
        runs=(ray_node.NodeRun("one", make_settings(student="tinny"), "", {}),),
        options=RunOptions(result=tmp_path),
        train=ray_work.says_what_a_plugin_added,
        begin=None,
        token=("none", ""),
        host=str(tmp_path),
        folder=str(tmp_path),
        again=False,
        plugins=carried,
    )
    with plugins.loaded([]):
        plugins._restore({}, {})  # as in another process
        del STUDENTS["tinny"]
        assert ray_node.make(job, "here", print).finished == {"one": RunOutcome(said=plugin)}
        assert "tinny" not in STUDENTS
        broken = dataclasses.replace(job, plugins=(("my.py", b"\n1 / 0"),))
        (unfit,) = ray_node.make(broken, "here", print).finished.values()
        assert not unfit.began
        assert "my.py, line 2: ZeroDivisionError" in unfit.why


def test_runs_of_a_lost_group_wait_for_the_folders_that_its_process_holds(tmp_path):
    """On a cluster that is none: what a node is given of runs whose process died again and again."""
    given = []
    task = SimpleNamespace(options=lambda **how: SimpleNamespace(remote=lambda *sent: given.append(sent)))
    runs = [SimpleNamespace(name=f"seed{seed}", settings=make_settings(seed=seed)) for seed in (0, 1)]
    group = ray_runs._Task(tuple(runs))
    some = object.__new__(ray_runs._Runs)
    some.how, some.options, some.token, some.plugins = (
        ray_runs.Ray(),
        RunOptions(result=tmp_path),
        ("", ""),
        (),
    )
    some.ray = SimpleNamespace(nodes=list, cloudpickle=pickle)
    some.task, some.mailbox, some.files = task, None, {}
    some.display, some.cores, some.gpus = Display(verbose=0), 1, 1
    some._submit(group)
    waiting = [group]
    while len(waiting) == 1:
        _, waiting = some._lost(group, OSError("killed"))
    for each in waiting:
        some._submit(each)
    jobs = [pickle.loads(sent[1]) for sent in given]
    assert [[run.name for run in job.runs] for job in jobs] == [["seed0", "seed1"], ["seed0"], ["seed1"]]
    assert [job.again for job in jobs] == [False, True, True]


def test_callbacks_stay_on_this_machine(tmp_path, capsys):
    (tmp_path / "one.toml").write_text("[[runs]]\nseed = [0, 1]\n")
    words = ["grid", str(tmp_path / "one.toml"), "--on", "ray", "--callbacks", "json:loads"]
    assert cli.main(words) == 2
    assert "--callbacks is for runs of this machine" in capsys.readouterr().err


# A cluster of two nodes


def made_by(
    nodes, folder: Path, work, devices: int | None = None, **how
) -> tuple[dict[str, RunOutcome], str]:
    """What becomes of four runs, and what is said."""
    folder.mkdir(exist_ok=True)
    file = folder.parent / "methods.toml"
    file.write_text(f"[[runs]]\nseed = {[*SEEDS]}")
    said = io.StringIO()
    found = {}
    on = ray_runs.Ray(**{"address": nodes.address, "train": work, **how})
    display = Display(Console(file=said, width=200), verbose=1)
    options = RunOptions(result=folder, devices=devices)
    for entry, finished in on.outcomes(grids.read_grid(file, folder).entries, options, display):
        assert entry.name not in found
        found[entry.name] = finished
    assert not [*folder.glob(".ray-*")]
    return found, said.getvalue()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def lines(found: dict[str, RunOutcome]) -> dict[str, str | None]:
    return {name: each.said or each.why for name, each in sorted(found.items())}


ALL = {f"seed{seed}": str(seed) for seed in SEEDS}


def test_a_plugin_goes_to_the_nodes_with_each_run(nodes, plugin, tmp_path):
    found, _ = made_by(nodes, tmp_path / "grid", ray_work.says_what_a_plugin_added)
    assert lines(found) == dict.fromkeys(ALL, plugin)


@pytest.mark.parametrize("jobs", [None, 2, 1])
def test_each_run_is_made_once_with_its_share_of_the_cores(nodes, tmp_path, jobs):
    found, said = made_by(nodes, tmp_path / "grid", ray_work.says_its_settings, jobs=jobs)
    assert lines(found) == {f"seed{seed}": f"{seed} seed{seed} 0 1 1" for seed in SEEDS}
    begun = [f"seed{seed} begins on node {socket.gethostname()}" for seed in SEEDS]
    assert sorted(said.splitlines()) == begun


def test_groups_are_of_one_architecture_and_every_task_has_some():
    def group_of(tasks, most=300):
        runs = [Entry(f"{seed}", make_settings(width=width, seed=seed), {}, "")
                for width in (0.5, 1.0) for seed in range(5)]  # fmt: skip
        groups = ray_runs.grouped(runs, tasks, lambda run: 0 if run.settings.seed == 4 else 10, most)
        return [(group[0].settings.width, "".join(run.name for run in group)) for group in groups]

    assert group_of(1) == [(0.5, "01234"), (1.0, "01234")]
    assert group_of(4) == [(0.5, "012"), (0.5, "34"), (1.0, "012"), (1.0, "34")]
    assert group_of(1, most=25) == [(0.5, "01"), (0.5, "234"), (1.0, "01"), (1.0, "234")]
    assert group_of(1, most=5)[:6] == [*((0.5, each) for each in "01234"), (1.0, "0")]
    assert len(group_of(100)) == 10


@pytest.fixture
def gpus(nodes):
    """A third node, of 4 cores and 3 GPUs."""
    third = nodes.add_node(num_cpus=4, num_gpus=3)
    yield nodes
    nodes.remove_node(third)


def test_runs_on_gpus_are_trained_together_and_a_large_network_has_several(gpus, tmp_path):
    """Each task has its share of the cores: there is room for 3 of one GPU, or for one of two."""
    work, together = ray_work.says_its_gpus, ray_work.say_their_gpus
    found, said = made_by(gpus, tmp_path / "grid", work, on_gpu=True, together=together)
    pairs = [f"seed{seed} seed{seed + 1} 1 1" for seed in (0, 0, 2, 2)]
    assert lines(found) == dict(zip(ALL, pairs, strict=True))
    assert "seed0 and 1 more begins on node" in said
    found, _ = made_by(gpus, tmp_path / "grid", work, 2, on_gpu=True)
    assert lines(found) == dict.fromkeys(ALL, "2 4")
    with pytest.raises(UserError, match="no node of the Ray cluster has 4 GPUs: give fewer --devices"):
        made_by(gpus, tmp_path / "grid", work, 4, on_gpu=True)


def test_a_run_that_ends_its_group_is_made_alone_and_so_are_the_others(gpus, tmp_path):
    """One always dies, one fails by an error of ours, one cannot begin; none of them is a fault of others."""
    how = {"on_gpu": True, "jobs": 1}
    for together, work, words in (
        (ray_work.are_killed_at_1, ray_work.is_always_killed, "killed 3 times"),
        (ray_work.fail_at_1, ray_work.fails_by_an_error_of_ours, "ZeroDivisionError: seed 1"),
        (ray_work.do_not_begin_at_1, ray_work.finds_no_corpus, "no recordings in data/EMO-DB/wav"),
    ):
        found, said = made_by(gpus, tmp_path / "grid", work, together=together, **how)
        assert words in found.pop("seed1").why
        assert lines(found) == {name: text for name, text in ALL.items() if name != "seed1"}
        assert ("each goes on alone" in said) == (work is ray_work.is_always_killed)


def test_a_killed_worker_loses_no_run(nodes, tmp_path):
    found, said = made_by(nodes, tmp_path / "grid", ray_work.is_killed_once)
    assert lines(found) == ALL
    assert f"seed1: its process on node {socket.gethostname()} was killed; it goes on in a new one" in said


def test_a_run_that_always_dies_is_said_and_the_others_are_made(nodes, tmp_path):
    found, said = made_by(nodes, tmp_path / "grid", ray_work.is_always_killed)
    lost = found.pop("seed1")
    assert "killed 3 times" in lost.why
    assert "seed 1 begins" in said  # its log
    assert lines(found) == {name: text for name, text in ALL.items() if name != "seed1"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")
def test_a_killed_node_loses_no_run(nodes, tmp_path):
    third = nodes.add_node(num_cpus=1)
    folder = tmp_path / "grid"

    def remove():
        there = []
        while not there:
            marks = [mark.read_text().split() for mark in folder.glob("*.node")]
            there = [int(mark[1]) for mark in marks if mark and mark[0] == third.node_id]
            time.sleep(0.1)
        nodes.remove_node(third, allow_graceful=False)
        while is_alive(there[0]):  # it outlives its node for a moment
            time.sleep(0.1)
        (folder / "go").touch()

    thread = threading.Thread(target=remove)
    thread.start()
    found, said = made_by(nodes, folder, ray_work.waits_on_its_first_node)
    thread.join()
    assert lines(found) == ALL
    assert "was killed; it goes on in a new one" in said


def test_without_a_shared_folder_files_come_back_whole(nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_runs, "write_text", lambda path, text: path.write_text("of another machine"))
    monkeypatch.chdir(tmp_path)
    found, said = made_by(nodes, Path("grid"), ray_work.writes_two_steps)
    assert set(lines(found).values()) == {str(tmp_path)}
    for seed in SEEDS:
        run = tmp_path / "grid" / f"seed{seed}"
        for fold in "ab":
            assert (run / f"fold-{fold}" / "student.keras").read_bytes() == f"{seed}{fold}".encode() * 10**7
        assert (run / "metrics.json").read_text().endswith(f"--result grid --run seed{seed}\n")
        assert (run / "empty.txt").read_bytes() == b""
        assert not [*run.glob(".*")]
    assert "was killed; it goes on" in said
    first, second = (
        (tmp_path / "grid" / "seed1" / f"fold-{fold}" / "fold.json").read_text() for fold in "ab"
    )
    assert first != second  # the finished fold came back before the process died, and was not made again
    assert not [*(tmp_path / "grid").glob("**/.*.keras")]
    assert not ray_node._folder_of(tmp_path / "grid", ray_node.host_name()).exists()


def test_a_program_outside_the_cluster_gets_the_same(nodes, tmp_path):
    pytest.importorskip("grpc")
    assert cluster.cluster_address(nodes.client_address) == nodes.client_address
    found, said = made_by(nodes, tmp_path / "grid", ray_work.is_killed_once, address=nodes.client_address)
    assert lines(found) == ALL
    assert "was killed; it goes on in a new one" in said


def test_a_port_of_ray_that_is_not_the_client_servers_is_refused(nodes, tmp_path, recwarn):
    began = time.perf_counter()
    with pytest.raises(UserError, match=r"Ray at ray://.*: ray client connection timeout"):
        made_by(nodes, tmp_path / "grid", ray_work.says_its_settings, address=f"ray://{nodes.address}")
    assert time.perf_counter() - began < 15
    assert not recwarn.list


def test_a_node_without_the_corpus_leaves_the_runs_to_others(nodes, tmp_path):
    found, _ = made_by(nodes, tmp_path / "grid", ray_work.needs_what_only_the_second_node_has)
    assert lines(found) == ALL


def test_what_no_node_can_make_is_said_with_a_node_and_the_others_are_made(nodes, tmp_path):
    found, _ = made_by(nodes, tmp_path / "grid", ray_work.finds_no_corpus)
    why = found.pop("seed1").why
    assert why == f"node {socket.gethostname()}: no recordings in data/EMO-DB/wav."
    assert lines(found) == {name: text for name, text in ALL.items() if name != "seed1"}


def test_an_error_of_ours_is_shown_with_the_log(nodes, tmp_path):
    found, said = made_by(nodes, tmp_path / "grid", ray_work.fails_by_an_error_of_ours)
    assert found.pop("seed1").why.endswith("ZeroDivisionError: seed 1")
    assert "epoch 7\nTraceback" in said
    assert len(found) == 3


def test_another_version_of_the_package_is_said(nodes, tmp_path, monkeypatch):
    monkeypatch.setattr("light_sernet_kd.__version__", "9.9")
    found, _ = made_by(nodes, tmp_path / "grid", ray_work.says_its_settings)
    assert all("it has light-sernet-kd 0.1.0, this command 9.9" in each.why for each in found.values())


# Real runs


@pytest.mark.every
@pytest.mark.usefixtures("eager", "shallow_here")
def test_runs_that_a_node_makes_together_are_those_made_alone(manifest, tmp_path):
    """And one that cannot begin there is left to other nodes."""
    facts = {"corpus": str(manifest), "folds": SPEAKERS[:1], "input_seconds": 1.2, "width": 0.15, "epochs": 1}
    runs = [
        ray_node.NodeRun(f"seed{seed}", make_settings(**facts, seed=seed, export=False), f"made {seed}", {})
        for seed in (0, 1)
    ]
    nowhere = make_settings(**facts | {"corpus": "EMO-DB", "folds": ()}, export=False)
    options = RunOptions(data=tmp_path / "none", result=tmp_path / "together")
    found = dict(ray_node.train_together_on_node([*runs, ray_node.NodeRun("no", nowhere, "", {})], options))
    assert [(name, each.why is None, each.began) for name, each in sorted(found.items())] == [
        ("no", False, False),
        ("seed0", True, True),
        ("seed1", True, True),
    ]
    for run in runs:
        alone = dataclasses.replace(options, result=tmp_path / "alone", run=run.name, verbose=0)
        assert ray_node.train_on_node(run.settings, alone, run.command).why is None
        together, other = (tmp_path / name / run.name for name in ("together", "alone"))
        assert (together / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()
        assert run.command in (together / "report.md").read_text(encoding="utf-8")


@pytest.mark.every
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("shared", [True, False])
def test_a_grid_on_a_cluster_ends_as_one_on_this_machine(nodes, manifest, tmp_path, shared, monkeypatch):
    (tmp_path / "methods.toml").write_text(SMALL.format(corpus=manifest, folds=[*SPEAKERS[:2]]))
    program = "import sys; from light_sernet_kd.cli import main; sys.exit(main(sys.argv[1:]))"
    if not shared:
        program = (
            "from light_sernet_kd.experiment.cluster import runs as ray_runs;"
            "ray_runs.write_text = lambda path, text: path.write_text('');" + program
        )
    command = [sys.executable, "-c", program, "grid", str(tmp_path / "methods.toml"), "--jobs", "2"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    for name, on in (("local", ()), ("cluster", ("--on", nodes.address))):
        (tmp_path / name).mkdir()
        with subprocess.Popen(
            [*command, *on], cwd=tmp_path / name, stdout=-1, stderr=-2, text=True
        ) as process:
            if on and shared:
                while len([*(tmp_path / name).rglob("fold.json")]) < 1:
                    assert process.poll() is None, process.stdout.read()
                    time.sleep(0.1)
                os.kill(next(iter(ray_work.workers_at_work())), signal.SIGKILL)
            said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert ("was killed" in said) == bool(on and shared), said
    found = {name: files_of(tmp_path / name / "result") for name in ("local", "cluster")}
    assert found["local"].keys() == found["cluster"].keys()
    for path in found["local"]:
        if not path.endswith(TIMED):
            assert found["local"][path] == found["cluster"][path], path


# Seconds, dates and what follows from them.
TIMED = (
    ".keras",
    "grid.json",
    "fold.json",
    "metrics.json",
    "report.md",
    "config.json",
    ".pdf",
    ".png",
    ".svg",
    "report.html",
    "receipt.json",
    ".pictures.json",
    "history.csv",
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
