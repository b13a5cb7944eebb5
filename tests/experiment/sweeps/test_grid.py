"""A grid's file, its folder, its runs one after another and at once, and its table of scores."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import numpy as np
import process_work
import pytest
from rich.console import Console
from small_runs import SPEAKERS, error_of, shallow_light_sernet, train

from light_sernet_kd import cli
from light_sernet_kd.analysis import grid as grids
from light_sernet_kd.analysis.grid.costs import Counts, Step, step_key
from light_sernet_kd.analysis.grid.scores import difference, holm
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.config.cores import core_count
from light_sernet_kd.experiment.sweeps.grid import Processes, RunOutcome
from light_sernet_kd.files import write_json
from light_sernet_kd.registries.corpora import CORPORA
from light_sernet_kd.reporting.display import Display

RENDERED = ("scores.png",)
SMALL = """
[settings]
corpus = "{corpus}"
input_seconds = 1.2
width = 0.15
epochs = 1
learning_rate = 3e-3
batch_norm_momentum = 0.8
batch_size = 8
export = false
"""
FOLDS = ",".join(SPEAKERS[:2])


def written(folder: Path, text: str, name: str = "methods.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def read(tmp_path: Path, text: str) -> grids.Grid:
    return grids.read_grid(written(tmp_path, text), tmp_path)


def run(file: Path, result: Path, *arguments: str) -> int:
    return cli.main(["grid", str(file), "--result", str(result), "-v", "0", *arguments])


# The file


def test_entries_are_every_combination_of_each_table(tmp_path):
    grid = read(
        tmp_path,
        """
        compare = "distillation"
        [settings]
        epochs = 5
        folds = ["03", "08"]
        [[runs]]
        distillation = ["pure", "KD"]
        seed = [0, 1, 2]
        [[runs]]
        name = "soft"
        distillation = "KD"
        distillation_weights = [{ temperature = 2.0 }, { temperature = 4.0 }]
        [[runs]]
        emotions = [["anger", "neutral"], ["anger", "sadness"]]
        distillation = "CKD"
        """,
    )
    expected = [Settings(distillation="pure", seed=seed) for seed in range(3)]
    expected += [Settings(distillation="KD", teacher="auto", seed=seed) for seed in range(3)]
    expected += [
        Settings(distillation="KD", teacher="auto", distillation_weights={"temperature": degree})
        for degree in (2.0, 4.0)
    ]
    expected += [
        Settings(distillation="CKD", teacher="auto", emotions=("anger", other))
        for other in ("neutral", "sadness")
    ]
    for entry, settings in zip(grid.entries, expected, strict=True):
        assert entry.settings.as_dict() == {**settings.as_dict(), "epochs": 5, "folds": ["03", "08"]}
    names = [entry.name for entry in grid.entries]
    assert names[:3] == ["pure-seed0", "pure-seed1", "pure-seed2"]
    assert names[6:8] == ["soft-KD-temperature2", "soft-KD-temperature4"]
    assert len(set(names)) == 10
    assert (grid.name, grid.compare) == ("methods", "distillation")
    assert [entry.group for entry in grid.entries[:4]] == ["pure"] * 3 + ["KD"]


def test_a_corpus_without_a_named_protocol_has_its_own(tmp_path):
    grid = read(
        tmp_path,
        '[[runs]]\ncorpus = ["emo-db", "IEMOCAP"]\n[[runs]]\ncorpus = "IEMOCAP"\nprotocol = "published"\n'
        '[[runs]]\ncorpus = "TESS"\ntest_on = "RAVDESS"',
    )
    found = [(entry.settings.corpus, entry.settings.protocol) for entry in grid.entries]
    own = [(name, CORPORA[name].protocol) for name in ("EMO-DB", "IEMOCAP")]
    assert found == [*own, ("IEMOCAP", "published"), ("TESS", "cross_corpus")]


def test_published_experiments_are_a_grid_with_their_protocols(tmp_path):
    import hyperparameters

    grid = grids.grid_of_experiments(hyperparameters.EXPERIMENTS, 7, tmp_path)
    assert [entry.name for entry in grid.entries] == [*hyperparameters.EXPERIMENTS]
    assert {entry.settings.seed for entry in grid.entries} == {7}
    for entry, experiment in zip(grid.entries, hyperparameters.EXPERIMENTS.values(), strict=True):
        assert entry.settings.protocol == experiment["settings"]["protocol"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[run]]\nseed = 1", "unknown key of a grid 'run'. Did you mean runs?"),
        ("[settings]\nseed = 1", "no runs: add tables [[runs]]"),
        ("[[runs]]\nsede = [0, 1]", "unknown setting 'sede'. Did you mean seed?"),
        ("[settings]\nwidht = 1\n[[runs]]\nseed = 0", "unknown setting 'widht'. Did you mean width?"),
        ("[[runs]]\nwidth = [1.0, -1.0]", "width-1: width must be above 0"),
        ("[[runs]]\nseed = []", "runs 1: seed is an empty list"),
        ("[[runs]]\nseed = [0, 0]", "methods is twice the same run"),
        ("[[runs]]\nseed = 0\n[[runs]]\nseed = [0, 1]", "seed0 is twice the same run"),
        ('[[runs]]\ndistillation = ["pure", "KD"]\nteacher = "yamnet"', "pure: pure training has no teacher"),
        ('compare = "seed"\n[[runs]]\nseed = [0, 1]', "compare names the seed"),
        ('compare = "methd"\n[[runs]]\nseed = [0, 1]', "unknown setting to compare 'methd'"),
        (f"[[runs]]\nseed = {[*range(400)]}\nbatch_size = {[*range(1, 301)]}", "more than 100,000 runs"),
        ("[[runs]\nseed = 1", "is no TOML: "),
        ('name = 3\n[[runs]]\nseed = 1', "name must be text, found 3"),
        ('runs = "all"', "no runs"),
        ("settings = 3\n[[runs]]\nseed = 1", "settings must be a table"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_one_line_and_nothing_is_written(tmp_path, capsys, text, message):
    assert run(written(tmp_path / "here", text), tmp_path / "result") == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "result").exists()


def test_a_file_that_is_not_there_or_is_no_file_is_one_line(tmp_path, capsys):
    assert run(tmp_path / "none.toml", tmp_path / "result") == 2
    assert "no file" in error_of(capsys)
    assert run(tmp_path, tmp_path / "result") == 2
    assert "is a folder" in error_of(capsys)
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe\x00")
    assert run(tmp_path / "odd.toml", tmp_path / "result") == 2
    assert "is no TOML" in error_of(capsys)


# The folder


def begun(tmp_path: Path, text: str) -> tuple[grids.Grid, grids.GridFolder]:
    grid = read(tmp_path / "file", text)
    folder = grids.GridFolder.of(grid, tmp_path / "result")
    folder.begin(grid)
    return grid, folder


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("[settings]\nepochs = 9\n[[runs]]\nseed = [0, 1]", "of its seed0, epochs was None, is 9"),
        ('[[runs]]\ndistillation = ["KD", "CKD"]', "with runs such as seed0"),
    ],
)
def test_the_folder_of_another_grid_is_refused(tmp_path, capsys, after, message):
    begun(tmp_path, "[[runs]]\nseed = [0, 1]")
    before = (tmp_path / "result" / "methods" / "grid.json").read_bytes()
    assert run(written(tmp_path / "file", after), tmp_path / "result") == 2
    line = error_of(capsys)
    assert message in line
    assert 'name = "…"' in line
    assert (tmp_path / "result" / "methods" / "grid.json").read_bytes() == before


def test_a_folder_that_holds_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "result" / "methods").mkdir(parents=True)
    (tmp_path / "result" / "methods" / "metrics.json").write_text("{}")
    assert run(written(tmp_path, "[[runs]]\nseed = [0, 1]"), tmp_path / "result") == 2
    assert "holds no grid, but metrics.json" in error_of(capsys)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "methods").touch()
    assert run(written(tmp_path, "[[runs]]\nseed = [0, 1]"), tmp_path / "file") == 2
    assert "methods is no folder" in error_of(capsys)


def test_a_damaged_record_is_named_and_the_runs_go_on_without_it(tmp_path, capsys):
    text = "[[runs]]\nseed = [0, 1]"
    grid, folder = begun(tmp_path, text)
    finished(folder.path, grid.entries[0], [0.5, 0.6, 0.7])
    folder.file.write_text('{"entries": ')
    assert run(written(tmp_path / "file", text), tmp_path / "result") == 2
    line = error_of(capsys)
    assert str(folder.file) in line
    assert line.endswith("Remove it: runs that are done stay done.")
    assert ".:" not in line
    folder.file.unlink()
    for kind in ("json", "md", "png", "svg", "pdf"):
        (folder.path / f"scores.{kind}").touch()
    planned = grids.plan(grid, grids.GridFolder.of(grid, tmp_path / "result"))
    assert planned.states == {"seed0": "done", "seed1": "new"}


def test_a_grid_may_grow_and_shrink(tmp_path):
    _, folder = begun(tmp_path, "[[runs]]\nseed = [0, 1]")
    folder.measured["seed0"] = {"seconds": 40.0, "peak_mb": 900.0}
    folder.save()
    grid = read(tmp_path / "file", "[[runs]]\nseed = [1, 2, 3]")
    planned = grids.plan(grid, grids.GridFolder.of(grid, tmp_path / "result"))
    assert planned.left_over == 1
    assert [entry.name for entry in planned.to_run] == ["seed1", "seed2", "seed3"]


def test_the_estimate_is_of_runs_of_the_same_kind_by_their_epochs(tmp_path):
    grid, folder = begun(
        tmp_path,
        """
        [[runs]]
        distillation = ["pure", "KD"]
        epochs = 10
        seed = [0, 1, 2]
        [[runs]]
        distillation = "KD"
        epochs = 40
        [[runs]]
        student = "resnet18"
        """,
    )
    for name, seconds in (
        ("pure-epochs10-seed0", 20.0),
        ("KD-epochs10-seed0", 50.0),
        ("KD-epochs10-seed1", 70.0),
    ):
        folder.measured[name] = {"seconds": seconds, "peak_mb": 1000.0}
    planned = grids.plan(grid, folder)
    found = planned.seconds
    assert found["pure-epochs10-seed2"] == pytest.approx(20)
    assert found["KD-epochs10-seed2"] == pytest.approx(60)
    assert found["KD-epochs40"] == pytest.approx(240)
    assert found[grid.entries[-1].name] is None
    (known,) = [line for line in planned.lines(2) if line.startswith("About")]
    assert known == "About 4 min, 2 at a time, as runs of their kind took here; nothing is known of 1 other."
    assert "A run took up to 1,000 MB of memory (2,000 MB with --jobs 2)." in planned.lines(2)


def test_a_dry_run_of_ten_thousand_runs_needs_no_tensorflow_and_two_seconds(tmp_path):
    lists = "\n".join(
        f"{name} = {[*values]}"
        for name, values in {
            "width": (0.25, 0.5, 0.75, 1.0),
            "learning_rate": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3),
            "batch_size": (16, 32, 64, 128, 256),
            "seed": range(100),
        }.items()
    )
    file = written(tmp_path, f"[[runs]]\n{lists}\n")
    costs = grids.StepCosts.of(tmp_path / "r")
    for entry in grids.read_grid(file, tmp_path).entries[::100]:
        costs.steps[str(step_key(entry.settings))] = Step({"student, phase 1": 0.1}, 100.0)
    costs.add(entry.settings, Counts([400] * 10, 535))
    program = (
        "import sys, time\n"
        "from light_sernet_kd import cli\n"
        "code = cli.main(sys.argv[1:])\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "print(time.process_time()); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "grid", str(file), "--dry-run", "--result", str(tmp_path / "r")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "10,000 runs, 0 done, 10,000 to run." in done.stdout
    assert "… and 9,950 more" in done.stdout
    assert "by steps measured on this machine (training alone).\n" in done.stdout
    # of processor time, since the tests share the cores; twice for what they share within one
    assert float(done.stdout.splitlines()[-1]) < 4
    assert [path.name for path in (tmp_path / "r").iterdir()] == [".cache"]


# Runs


@pytest.fixture(scope="module")
def ran(manifest, tmp_path_factory):
    """Two losses with two seeds on two folds, and a run that cannot be made."""
    folder = tmp_path_factory.mktemp("grid")
    text = SMALL.format(corpus=manifest) + f"folds = {[*SPEAKERS[:2]]}\n"
    text += (
        '[[runs]]\nlabel_loss = ["cross_entropy", "focal"]\nseed = [0, 1]\n'
        '[[runs]]\nname = "absent"\ndistillation = "KD"\nteacher = "none.npz"\n'
    )
    file = written(folder, f'compare = "label_loss"\n{text}')
    with shallow_light_sernet():
        code = run(file, folder / "result")
    return file, folder / "result" / "methods", code


def test_each_run_has_its_folder_and_what_cannot_run_is_said(ran):
    _, folder, code = ran
    assert code == 1
    stored = json.loads((folder / "grid.json").read_text())
    assert {*stored["measured"]} == {
        "cross_entropy-seed0",
        "cross_entropy-seed1",
        "focal-seed0",
        "focal-seed1",
    }
    for name in stored["measured"]:
        assert (folder / name / "metrics.json").is_file()
        assert stored["measured"][name]["peak_mb"] > 50
        report = (folder / name / "report.md").read_text()
        assert f"--result {folder} --run {name}" in report
    ((absent, why),) = stored["not_run"].items()
    assert absent.startswith("absent")
    assert "none.npz" in why


def test_the_same_command_trains_nothing_again_and_scores_the_same(ran):
    file, folder, _ = ran
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.keras")}
    scores = (folder / "scores.json").read_bytes()
    assert run(file, folder.parent) == 1  # what cannot run still cannot
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.keras")} == before
    assert (folder / "scores.json").read_bytes() == scores


def test_the_scores_are_those_of_the_runs_counted_by_hand(ran):
    _, folder, _ = ran
    scored = json.loads((folder / "scores.json").read_text())
    by_group = {row["group"]: row for row in scored["rows"]}
    assert {*by_group} == {"cross_entropy", "focal"}

    def metrics(name):
        return json.loads((folder / name / "metrics.json").read_text())

    for group, row in by_group.items():
        ua = [metrics(f"{group}-seed{seed}")["pooled"]["ua"] for seed in (0, 1)]
        assert row["ua"] == pytest.approx(sum(ua) / 2)
        assert row["ua_deviation"] == pytest.approx(abs(ua[0] - ua[1]) / 2**0.5)
        assert (row["seeds"], row["folds"]) == (2, 2)
    gaps = [
        new["ua"] - old["ua"]
        for seed in (0, 1)
        for new, old in zip(
            metrics(f"focal-seed{seed}")["folds"], metrics(f"cross_entropy-seed{seed}")["folds"], strict=True
        )
    ]
    assert by_group["cross_entropy"]["compared"] is None
    assert by_group["focal"]["compared"]["with"] == "cross_entropy"
    assert by_group["focal"]["compared"]["difference"] == pytest.approx(sum(gaps) / len(gaps))
    page = (folder / "scores.md").read_text()
    assert "| focal | " in page
    assert "SYNTHETIC" not in page  # a manifest's recordings are not known to be made
    assert matplotlib.image.imread(folder / "scores.png").std() > 0.05


def test_a_run_alone_is_the_same_as_in_its_grid(ran, manifest, tmp_path):
    _, folder, _ = ran
    arguments = ["--seed", "1", "--epochs", "1", "--folds", FOLDS, "--no-export", "--run", "alone"]
    with shallow_light_sernet():
        assert train(manifest, tmp_path, *arguments) == 0
    alone, in_grid = (
        path / "predictions.csv" for path in (tmp_path / "alone", folder / "cross_entropy-seed1")
    )
    assert alone.read_bytes() == in_grid.read_bytes()


# In processes


def of_processes(tmp_path: Path, work) -> dict[str, object]:
    grid = read(tmp_path, f"[[runs]]\nseed = {[*range(4)]}")
    processes = Processes(2, work)
    with open(os.devnull, "w") as nowhere:
        display = Display(Console(file=nowhere))
        options = RunOptions(result=tmp_path)
        return {entry.name: done for entry, done in processes.outcomes(grid.entries, options, display)}


def test_runs_at_once_share_the_cores_and_each_is_done_once(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads = max(1, core_count() // 2)
    found = of_processes(tmp_path, process_work.says_its_settings)
    assert found == {f"seed{seed}": f"{seed} seed{seed} 0 {threads}" for seed in range(4)}
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_process_loses_no_run(tmp_path):
    assert of_processes(tmp_path, process_work.is_killed_once) == {
        f"seed{seed}": str(seed) for seed in range(4)
    }


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_run_that_always_dies_is_said_and_the_others_are_made(tmp_path):
    found = of_processes(tmp_path, process_work.is_always_killed)
    lost = found.pop("seed1")
    assert isinstance(lost, RunOutcome)
    assert "killed twice" in lost.why
    assert found == {f"seed{seed}": str(seed) for seed in (0, 2, 3)}


@pytest.mark.every
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")
def test_a_grid_whose_processes_are_killed_ends_as_one_that_was_not(manifest, tmp_path):
    text = SMALL.format(corpus=manifest).replace("epochs = 1", "epochs = 6")
    file = written(tmp_path, text + "[[runs]]\nseed = [0, 1, 2]\n")
    command = [sys.executable, "-m", "light_sernet_kd", "grid", str(file), "--jobs", "2"]
    for result, kills in (("whole", 0), ("killed", 1)):
        with subprocess.Popen(
            [*command, "--result", str(tmp_path / result)], stdout=subprocess.PIPE, text=True
        ) as process:
            for count in range(kills):
                while len([*(tmp_path / result).rglob("fold.json")]) < 1 + 2 * count:
                    assert process.poll() is None
                    time.sleep(0.1)
                os.kill(next(worker for worker in workers_of(process.pid)), signal.SIGKILL)
            said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert ("its process was killed" in said) == bool(kills)
    for seed in range(3):
        name = f"methods/seed{seed}/predictions.csv"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


# Statistics


def test_the_p_value_is_that_of_all_exchanges_of_signs():
    rng = np.random.default_rng(0)
    first, other = rng.uniform(size=(2, 7, 3))
    found = difference(first, other)
    gaps = (other - first).mean(axis=1)
    means = [np.mean(gaps * signs) for signs in itertools.product((-1, 1), repeat=7)]
    expected = np.mean(np.abs(means) >= abs(gaps.mean()) - 1e-12)
    assert found.p == pytest.approx(expected)
    assert found.mean == pytest.approx(gaps.mean())


def test_the_interval_is_that_of_a_loop_over_folds_and_seeds():
    rng = np.random.default_rng(1)
    gaps = rng.normal(0.05, 0.1, (8, 3)) + rng.normal(0, 0.1, (8, 1))
    found = difference(np.zeros_like(gaps), gaps)
    draws = []
    for _ in range(4000):
        rows = rng.integers(0, 8, 8)
        draws.append(np.mean([np.mean([gaps[row, rng.integers(3)] for _ in range(3)]) for row in rows]))
    expected = np.percentile(draws, [2.5, 97.5])
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.008)


def test_two_folds_say_nothing_of_others():
    found = difference(np.zeros((2, 5)), np.ones((2, 5)))
    assert (found.mean, found.low, found.high, found.p) == (1, None, None, None)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_holm_rejects_what_its_step_down_procedure_rejects(count):
    p_values = np.random.default_rng(count).uniform(0, 0.1, count).tolist()
    corrected = holm(p_values)
    for level in (0.001, 0.01, 0.05, 0.1, 0.3):
        rejected = set()
        for rank, place in enumerate(sorted(range(count), key=p_values.__getitem__)):
            if p_values[place] > level / (count - rank):
                break
            rejected.add(place)
        assert {place for place in range(count) if corrected[place] <= level} == rejected


def finished(folder: Path, entry: grids.Entry, fold_ua: list[float]) -> None:
    """A run's folder with these scores; its predictions are right as often in each fold."""
    path = folder / entry.name
    path.mkdir(parents=True)
    rows = ["id,fold,label,predicted,p_a,p_b"]
    for fold, ua in enumerate(fold_ua):
        for number in range(20):
            label = "ab"[number % 2]
            right = number // 2 < round(10 * ua)
            predicted = label if right else "ab"[1 - number % 2]
            shares = "1,0" if predicted == "a" else "0,1"
            rows.append(f"f{fold}u{number},{fold},{label},{predicted},{shares}")
    (path / "predictions.csv").write_text("\n".join(rows) + "\n")
    ua = float(np.mean(fold_ua))
    write_json(path / "config.json", {"settings": entry.settings.as_dict()})
    write_json(
        path / "metrics.json",
        {
            "protocol": entry.settings.protocol, "stamps": [], "warnings": [], "corpus": "made",
            "synthetic": False,
            "folds": [{"name": str(fold), "ua": each} for fold, each in enumerate(fold_ua)],
            "seed": entry.settings.seed, "student": {"name": entry.settings.student, "parameters": 1},
            "pooled": {"ua": ua, "wa": ua}, "pooled_last_epoch": {"ua": ua}, "ci95": None,
        },
    )  # fmt: skip


def test_each_group_is_compared_with_the_baseline_of_its_own_corpus_and_student(tmp_path):
    grid, folder = begun(
        tmp_path,
        """
        [[runs]]
        corpus = ["EMO-DB", "RAVDESS"]
        student = ["light_sernet", "resnet18"]
        distillation = ["pure", "KD"]
        seed = [0, 1]
        """,
    )
    for entry in grid.entries:
        gain = 0.1 if entry.settings.distillation == "KD" else 0.0
        base = 0.5 if entry.settings.corpus == "EMO-DB" else 0.7
        finished(folder.path, entry, [base + gain] * 4)
    scored = grids.scores(grid, folder)
    assert len(scored["rows"]) == 8
    for row in scored["rows"]:
        if "KD" in row["group"]:
            assert row["compared"]["with"] == row["group"].replace("KD", "pure")
            assert row["compared"]["difference"] == pytest.approx(0.1)
            # four folds: 2 of 16 exchanges are as large, and there are four comparisons
            assert row["compared"]["p"] == pytest.approx(2 / 16)
            assert row["compared"]["p_holm"] == pytest.approx(4 * 2 / 16)
        else:
            assert row["compared"] is None
    assert not [line for line in grids.notes(scored) if "also differs" in line]


def test_random_splits_and_folds_of_other_names_are_not_tested(tmp_path):
    grid, folder = begun(
        tmp_path,
        """
        [[runs]]
        protocol = ["random", "loso"]
        distillation = ["pure", "KD"]
        """,
    )
    for entry in grid.entries:
        finished(folder.path, entry, [0.5, 0.6, 0.7, 0.8])
    metrics = folder.run(grid.entries[-1]).metrics
    metrics.write_text(metrics.read_text().replace('"name": "3"', '"name": "new"'))
    random, grown = (row["compared"] for row in grids.scores(grid, folder)["rows"] if "KD" in row["group"])
    assert (random["difference"], random["interval"], random["p"]) == (0, None, None)
    assert grown is None


def test_groups_that_were_tested_on_other_speakers_are_not_compared(tmp_path):
    grid, folder = begun(
        tmp_path,
        """
        [[runs]]
        protocol = "group_kfold"
        fold_count = 3
        speakers = [["03", "08", "09"], ["10", "11", "12"]]
        distillation = ["pure", "KD"]
        """,
    )
    for entry in grid.entries:
        finished(folder.path, entry, [0.5, 0.6, 0.7])
    known = [row["compared"]["with"] for row in grids.scores(grid, folder)["rows"] if row["compared"]]
    assert len(known) == 2
    kept = [
        each for each in grid.entries if each.settings.distillation == "KD" or "03" in each.settings.speakers
    ]
    rows = grids.scores(dataclasses.replace(grid, entries=tuple(kept)), folder)["rows"]
    assert [row["compared"]["with"] for row in rows if row["compared"]] == known[:1]


def test_runs_of_other_recordings_plugins_or_teacher_files_are_not_compared(tmp_path):
    grid, folder = begun(
        tmp_path,
        """
        [[runs]]
        distillation = "pure"
        seed = [0, 1]
        [[runs]]
        distillation = ["KD", "CKD"]
        teacher = "t.npz"
        seed = [0, 1]
        """,
    )
    for entry in grid.entries:
        finished(folder.path, entry, [0.5, 0.6, 0.7])

    def scored(**contents):
        """With these in config.json of runs by name; of the others, and by default, 1 each."""
        for entry in grid.entries:
            path = folder.run(entry).config
            facts = {"settings": entry.settings.as_dict(), "corpus_sha256": "1"}
            if entry.settings.distillation == "KD":  # a plug-in that one group alone uses is no difference
                facts |= {"plugins": [{"name": "my.py", "sha256": "1"}]}
            write_json(path, {**facts, **contents.get(entry.group, {}), **contents.get(entry.name, {})})
        found = grids.scores(grid, folder)
        grids.table(found)
        return [bool(row["compared"]) for row in found["rows"]], grids.notes(found)

    mine = [{"name": "my.py", "sha256": "2"}]
    assert scored()[0] == [False, True, True]
    kd, ckd = (next(each for each in grid.entries if each.settings.distillation == name and
               each.settings.seed == 1) for name in ("KD", "CKD"))  # fmt: skip
    other, mixed = " is not compared with pure: ", ": its runs are not repetitions"
    for name, said in ((kd.group, other), (kd.name, mixed)):
        which, lines = scored(**{name: {"corpus_sha256": "2"}})
        assert which == [False, False, True]
        assert f"{kd.group}{said}" in "\n".join(lines)
        assert any("recordings and labels changed between the runs. Remove" in line for line in lines)
    assert scored(pure={"plugins": mine})[0] == [False, False, True]
    assert scored(**{ckd.group: {"plugins": mine}})[0] == [False, True, True]
    which, lines = scored(**{ckd.name: {"teacher_sha256": "2"}})
    assert which == [False, True, False]
    assert any(f"{ckd.group}{mixed}" in line and "teacher t.npz changed between" in line for line in lines)


def test_what_else_differs_and_what_waits_is_said(tmp_path):
    grid, folder = begun(
        tmp_path,
        """
        [[runs]]
        distillation = "pure"
        seed = [0, 1]
        [[runs]]
        distillation = "KD"
        width = 2.0
        seed = [0, 1, 2]
        """,
    )
    for entry in grid.entries[:4]:
        finished(folder.path, entry, [0.5, 0.6, 0.7])
    lines = grids.notes(grids.scores(grid, folder))
    assert "KD-width2 also differs from pure in width" in lines
    assert "KD-width2: 1 run not finished yet" in lines
