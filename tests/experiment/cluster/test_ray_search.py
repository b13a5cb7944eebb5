"""A search whose students are trained on a Ray cluster, against one in this process."""

import csv
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray_work
from rich.console import Console
from small_runs import error_of
from small_searches import arguments_of, corpus_of_five, lines_of

from light_sernet_kd import cli
from light_sernet_kd.analysis import search as searches
from light_sernet_kd.analysis.search import Budget, Cost, Interval, Search, SearchFolder, Space
from light_sernet_kd.config import RunOptions, cluster, make_settings
from light_sernet_kd.errors import UserError
from light_sernet_kd.reporting.display import Display

pytest.importorskip("optuna")

WIDTHS = Space({"width": Interval(0.1, 1.0)})
KEPT = ("trial", "settings", "decision", "why", "kb", "inner_ua", "inner_folds", "same_as")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return corpus_of_five(tmp_path_factory.mktemp("five"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--jobs", "2"], "--jobs goes with --on: on one machine give the same command several times"),
        (["--on", "ray", "--jobs", "0"], "--jobs must be at least 1, found 0"),
        (["--on", "ray", "--callbacks", "json:loads"], "--callbacks is for runs of this machine"),
        (["--on", "nowhere"], "--on takes local, ray, ray://HOST:PORT or HOST:PORT, found 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(corpus, tmp_path, capsys, given, message):
    assert cli.main(arguments_of(corpus, tmp_path / "result", *given)) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "result").exists()


def test_an_address_that_does_not_answer_is_one_line(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "is_installed", lambda module: True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert cli.main(arguments_of(corpus, tmp_path / "result", "--on", f"127.0.0.1:{port}")) == 2
    assert "no Ray cluster answers at" in error_of(capsys)
    assert not (tmp_path / "result").exists()


# On a cluster of two nodes, without training


def search_of(space: Space, budget: Budget | None = None) -> Search:
    settings = make_settings(folds=["a"])
    return Search(settings, space, budget or Budget(), "int8", 3, ("a",), ("b", "c", "d"), "0" * 64)


@pytest.fixture
def searched(nodes, tmp_path, monkeypatch):
    """A function that does trials on the cluster; returns their rows and what was said."""
    from light_sernet_kd.experiment.cluster import search as ray_search
    from light_sernet_kd.experiment.cluster.runs import Ray
    from light_sernet_kd.experiment.sweeps.search import TrialRunner

    def measured(trials, trial, settings, own):
        return trials.drawn.is_over_budget(trial, settings)

    def cost(trial, study, settings, training):
        study.set_cost(trial, Cost(100 * settings.width, 1.0, 1.0, 10))

    monkeypatch.setattr(ray_search._Trials, "_is_over_budget", measured)
    monkeypatch.setattr("light_sernet_kd.experiment.sweeps.search._measure", cost)
    monkeypatch.setattr(TrialRunner, "training", b"")

    def run(search, trials, work, jobs=None, name="there", address=None):
        folder = SearchFolder(tmp_path / name)
        folder.begin(search)
        study = searches.study_of(search, folder)
        said = io.StringIO()
        display = Display(Console(file=said, width=200), verbose=1)
        monkeypatch.setattr(ray_search, "train_trial", work)
        drawn = TrialRunner(study, RunOptions(result=folder.path), display, trials)
        try:
            ray_search.train_trials(drawn, Ray(address or nodes.address, None, jobs))
        finally:
            rows = study.rows()
        return rows, said.getvalue()

    run.folder = tmp_path
    return run


def alone(search, trials: int, folder: Path) -> list[dict]:
    """The same, by a loop that asks and tells."""
    study = searches.study_of(search, SearchFolder(folder))
    while True:
        with study.turn(trials) as trial:
            if trial is None:
                return study.rows()
            width = search.space.decoded(trial.params)["width"]
            cost = Cost(100 * width, 1.0, 1.0, 10)
            study.set_cost(trial, cost)
            if over := search.budget.exceeded(cost):
                study.prune(trial, over[0])
            else:
                study.keep(trial, {"ua": 1 - abs(width - 0.4), "folds": {}, "stamps": []})


def test_one_at_a_time_the_trials_are_those_of_a_loop(searched, tmp_path):
    """Also where the sampler learns from scores, after its first ten draws, and trials are pruned."""
    search = search_of(WIDTHS, Budget(kb=80))
    rows, _ = searched(search, 16, ray_work.scores_its_width, jobs=1)
    assert {row["decision"] for row in rows} == {"kept", "pruned"}
    (tmp_path / "alone").mkdir()
    SearchFolder(tmp_path / "alone").begin(search)
    assert rows == alone(search, 16, tmp_path / "alone")
    trained = {path.parent.name for path in (tmp_path / "there").glob("trial-*/metrics.json")}
    assert trained == {f"trial-{row['trial']:03d}" for row in rows if row["decision"] == "kept"}


def test_students_are_trained_at_the_same_time_and_a_killed_one_again(searched, tmp_path):
    rows, _ = searched(search_of(WIDTHS), 3, ray_work.scores_once_another_is_at_work)
    assert [row["decision"] for row in rows] == ["kept"] * 3
    rows, said = searched(search_of(WIDTHS), 3, ray_work.trial_1_is_killed_once, name="killed")
    assert [row["inner_ua"] for row in rows] == [1 - abs(row["settings"]["width"] - 0.4) for row in rows]
    assert "trial-001: its process on node" in said
    assert "was killed; it goes on in a new one" in said


def test_settings_that_are_trained_now_are_not_trained_twice(searched, tmp_path):
    rows, _ = searched(search_of(Space({"width": (0.5,)})), 4, ray_work.scores_its_width)
    assert [row["same_as"] for row in rows] == [None, 0, 0, 0]
    assert [path.name for path in (tmp_path / "there").glob("trial-*")] == ["trial-000"]


def test_the_log_of_a_failed_trial_is_shown_and_the_others_are_trained(searched):
    rows, said = searched(search_of(WIDTHS), 3, ray_work.trial_1_fails)
    assert [row["decision"] for row in rows] == ["kept", "failed", "kept"]
    assert rows[1]["why"].endswith("ZeroDivisionError: by the width")
    assert "epoch 7\nTraceback" in said


def test_what_no_node_can_train_waits_for_the_next_start(searched):
    with pytest.raises(UserError, match=r"node .*: no recordings in data/EMO-DB/wav"):
        searched(search_of(WIDTHS), 2, ray_work.no_trial_can_begin, jobs=1)
    rows, _ = searched(search_of(WIDTHS), 2, ray_work.scores_its_width)
    assert [row["decision"] for row in rows] == ["kept"] * 2
    again, _ = searched(search_of(WIDTHS), 2, ray_work.no_trial_can_begin)
    assert again == rows


def test_a_program_outside_the_cluster_gets_the_same(searched, nodes):
    pytest.importorskip("grpc")
    there, _ = searched(search_of(WIDTHS), 2, ray_work.scores_its_width, jobs=1)
    rows, _ = searched(
        search_of(WIDTHS), 2, ray_work.scores_its_width, jobs=1, name="out", address=nodes.client_address
    )
    assert rows == there


# Real trials


@pytest.mark.every
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")
def test_a_search_on_a_cluster_ends_as_one_on_this_machine(nodes, corpus, tmp_path, monkeypatch):
    """One of its workers is killed on the way, and the driver, which goes on without the cluster."""
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setenv(name, "1")
    main = "import sys; from light_sernet_kd.cli import main; sys.exit(main(sys.argv[1:]))"
    program = [sys.executable, "-c", main]
    more = ["--trials", "3", "--finals", "1", "--max-kb", "300", "--no-export"]
    found = {}
    for name, on in (("local", []), ("cluster", ["--on", nodes.address, "--jobs", "1"])):
        command = [*program, *arguments_of(corpus, tmp_path / name, *more, *on)]
        if on:
            said = killed_once_begun(command, tmp_path / name)
            assert "was killed; it goes on in a new one" in said, said
        subprocess.run(command if not on else command[: -len(on)], check=True, timeout=600)
        found[name] = tmp_path / name / "small"
    rows = {name: lines_of(folder) for name, folder in found.items()}
    for local, there in zip(rows["local"], rows["cluster"], strict=True):
        assert {each: local[each] for each in KEPT} == {each: there[each] for each in KEPT}
    files = sorted(path.relative_to(found["local"]) for path in found["local"].glob("*/predictions.csv"))
    assert len(files) >= 3
    for path in files:
        assert read(found["local"] / path) == read(found["cluster"] / path)


def read(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return [*csv.reader(file)]


def killed_once_begun(command: list[str], result: Path) -> str:
    """What a search said that is killed in its second training; a worker is killed in the first one."""
    with subprocess.Popen(command, stdout=-1, stderr=-2, text=True) as process:
        for begun in (1, 2):
            while len({path.parts[-3] for path in (result / "small").glob("trial-*/*/fold.json")}) < begun:
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.1)
            if begun == 1:
                os.kill(next(iter(ray_work.workers_at_work())), signal.SIGKILL)
        process.kill()
        said, _ = process.communicate()
    return said
