"""Results at a second place: stores of fsspec that keep files for real, in memory and in a folder."""

import contextlib
import json
import shutil
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from small_runs import SPEAKERS, error_of, train

from light_sernet_kd import cli
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment import fold as fold_step
from light_sernet_kd.experiment import mirror
from light_sernet_kd.experiment.mirror import INDEX, Mirrored, Store, mirrored_run
from light_sernet_kd.files import sha256
from light_sernet_kd.reporting.display import Display

fsspec = pytest.importorskip(
    "fsspec", reason='fsspec is not installed: pip install "light-sernet-kd[mirror]"'
)

FOLDS = ",".join(sorted(SPEAKERS)[:2])
QUIET = Display(verbose=0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(mirror, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(mirror, "_WAIT_SECONDS", 0.02)


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    """An empty place in each of two stores."""
    if request.param == "file":
        return (tmp_path / "store" / "results").as_uri()
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return "memory://bucket/results"


def there(url: str) -> dict[str, bytes]:
    """Every file of the store below the address, by its path there."""
    system, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root).lstrip("/"): system.cat_file(path) for path in system.find(root)}


def finish_fold(run: Path, name: str, student: bytes = b"weights") -> None:
    """What a step of a run leaves, with what passes."""
    folder = run / f"fold-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text('{"settings": {}}')
    (folder / "student.keras").write_bytes(student)
    (folder / "teacher-unlabelled-member.npy").write_bytes(b"passing")
    (folder / "fold.json").write_text(
        json.dumps({"files": {"student.keras": sha256(folder / "student.keras")}})
    )


def finish(run: Path) -> None:
    (run / "report.md").write_text("report")
    (run / "metrics.json").write_text('{"ua": 0.5}')


def made(url: str, run: Path, work, display: Display = QUIET) -> None:
    with mirrored_run(url, [run], display):
        work()


def contents(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_another_machine_gets_what_is_finished_and_no_more(url, tmp_path):
    here, other = tmp_path / "here" / "run", tmp_path / "other" / "run"
    finish_fold(here, "a")
    (here / "fold-b").mkdir()
    (here / "fold-b" / "student-checkpoint.npz").write_bytes(b"half")
    (here / ".lock").touch()
    with mirrored_run(url, [here], QUIET):
        pass
    of_a = {"config.json", "fold-a/fold.json", "fold-a/student.keras"}
    assert set(there(url)) == {f"run/{name}" for name in {*of_a, INDEX}}
    (other / "fold-a").mkdir(parents=True)
    (other / "fold-a" / "student.keras").write_bytes(b"half of another training")
    with mirrored_run(url, [other], QUIET):
        assert contents(other) == {name: (here / name).read_bytes() for name in of_a} | {".lock": b""}
        finish_fold(other, "b")
        finish(other)
    # The first machine: the fold and what the run ended with.
    with mirrored_run(url, [here], QUIET):
        assert (here / "metrics.json").read_text() == '{"ua": 0.5}'
        assert (here / "fold-b" / "fold.json").exists()
    everything = {name for name in contents(other) if "member" not in name and name != ".lock"}
    assert set(there(url)) == {f"run/{name}" for name in {*everything, INDEX}}


def test_of_a_fold_only_what_its_training_needed_stays_here(tmp_path):
    from light_sernet_kd.data.run_folder import RunFolder

    run = tmp_path / "run"
    finish_fold(run, "a")
    step = RunFolder(run).fold("a")
    passing = [step.generation(1), step.generation(12), step.member("teacher-states", "npy")]
    for role in ("student", "generation-1", "teacher", "teacher-2", "teacher-2-without-3"):
        passing += [step.checkpoint(role, 0), step.checkpoint(role, 1)]
        passing += [step.member(role), step.member(role, "weights.npz")]
    kept = [step.history(role) for role in ("student", "generation-1", "teacher-2")]
    kept += [step.path / "generation_logits.npz", step.path / "best-checkpoint.keras"]
    kept += [step.path / "callbacks" / name for name in ("best-checkpoint.keras", "student-checkpoint.npz")]
    kept += [run / "my-member.npz"]
    for path in (*passing, *kept):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    finish(run)
    files, _ = mirror.run_files(run)
    assert set(kept) <= set(files)
    assert not set(passing) & set(files)


def test_a_fold_is_sent_while_the_next_one_is_trained(url, tmp_path):
    run = tmp_path / "run"
    with mirrored_run(url, [run], QUIET):
        finish_fold(run, "a")
        waited = threading.Event()
        for _ in range(500):
            if "run/fold-a/fold.json" in there(url) and f"run/{INDEX}" in there(url):
                break
            waited.wait(0.02)
        assert "run/fold-a/fold.json" in there(url)


def test_what_says_that_files_are_whole_is_sent_behind_them(tmp_path):
    sent = []

    class Noted(Store):
        def put(self, source, name):
            sent.append(name)
            super().put(source, name)

        def write(self, name, content):
            sent.append(name)
            super().write(name, content)

    run = tmp_path / "run"
    finish_fold(run, "a")
    each = Mirrored(Noted((tmp_path / "store").as_uri()), run, "run")
    each.send()
    assert sent[-2:] == ["run/fold-a/fold.json", f"run/{INDEX}"]
    finish(run)
    each.send()
    assert sent[-2:] == ["run/metrics.json", f"run/{INDEX}"]
    sent.clear()
    assert not each.send()
    assert sent == []
    (run / "report.md").unlink()  # a report that is written anew may lack a file
    each.send()
    assert not (tmp_path / "store" / "run" / "report.md").exists()


class _Failing(fsspec.get_filesystem_class("memory")):
    """A store in memory that fails after some files, until it is mended."""

    protocol = "failing"
    left = 0

    def put_file(self, lpath, rpath, **kwargs):
        if _Failing.left == 0:
            raise OSError("the disk over there is full\nand more")
        _Failing.left -= 1
        super().put_file(lpath, rpath, **kwargs)


def test_a_store_that_fails_loses_nothing_is_said_once_and_is_filled_later(tmp_path, monkeypatch, capsys):
    fsspec.register_implementation("failing", _Failing, clobber=True)
    _Failing.store.clear()
    run, address = tmp_path / "run", "failing://bucket/results"
    finish_fold(run, "a")
    monkeypatch.setattr(_Failing, "left", 2)
    console = Console(width=400)

    def work() -> None:
        threading.Event().wait(0.3)
        finish_fold(run, "b")
        finish(run)

    with pytest.raises(UserError) as caught:
        made(address, run, work, Display(console, verbose=1))
    assert str(caught.value) == (
        f"the mirror {address} cannot be written: the disk over there is full. All results are here; the "
        "same command sends what is missing there."
    )
    assert capsys.readouterr().out.count("The training goes on") == 1
    # Files without an index count for nothing: another machine begins anew.
    assert f"run/{INDEX}" not in there(address)
    with mirrored_run(address, [tmp_path / "other" / "run"], QUIET):
        assert not (tmp_path / "other" / "run" / "fold-a").exists()
    monkeypatch.setattr(_Failing, "left", 100)
    with mirrored_run(address, [run], QUIET):
        pass
    assert {"run/metrics.json", "run/fold-b/student.keras", f"run/{INDEX}"} <= set(there(address))


def test_an_error_of_a_run_is_told_and_its_finished_folds_are_sent(url, tmp_path):
    def work() -> None:
        finish_fold(tmp_path / "run", "a")
        raise UserError("it diverged")

    with pytest.raises(UserError, match="it diverged"):
        made(url, tmp_path / "run", work)
    assert "run/fold-a/fold.json" in there(url)


def test_what_is_damaged_there_is_made_anew(url, tmp_path, capsys):
    here, other = tmp_path / "here" / "run", tmp_path / "other" / "run"
    for name in "ab":
        finish_fold(here, name)
    finish(here)
    with mirrored_run(url, [here], QUIET):
        pass
    system, root = fsspec.core.url_to_fs(url)
    system.pipe_file(f"{root}/run/fold-a/student.keras", b"cut")
    with mirrored_run(url, [other], Display(Console(width=400), verbose=1)):
        assert not (other / "fold-a" / "fold.json").exists()
        assert (other / "fold-b" / "fold.json").exists()
        assert not (other / "metrics.json").exists()
        finish_fold(other, "a")
    said = capsys.readouterr().out
    assert f"{url}/run/fold-a/student.keras is not what was sent: that step is done anew." in said
    assert there(url)["run/fold-a/student.keras"] == b"weights"
    for content in (b"{", b'{"files": {"../elsewhere": "0"}}', b'{"files": {"/etc/x": "0"}}', b"[]"):
        system.pipe_file(f"{root}/run/{INDEX}", content)
        with pytest.raises(UserError, match=f"run/{INDEX} is damaged: remove it there"):
            Mirrored(Store(url), tmp_path / "third", "run").fetch()
        assert not (tmp_path / "elsewhere").exists()


def test_what_was_deleted_here_comes_back_and_stays_there(url, tmp_path):
    run = tmp_path / "run"
    finish_fold(run, "a")
    finish(run)
    made(url, run, lambda: None)
    sent = there(url)
    for name in ("fold-a/student.keras", "report.md"):
        (run / name).unlink()
    made(url, run, lambda: None)
    assert there(url) == sent
    assert (run / "fold-a" / "student.keras").read_bytes() == b"weights"
    assert (run / "report.md").read_text() == "report"
    # What vanishes while the run is made was removed by it.
    with mirrored_run(url, [run], QUIET):
        (run / "report.md").unlink()
    assert set(sent) - set(there(url)) == {"run/report.md"}


@pytest.mark.parametrize("content", [b"cut", None])
def test_without_a_whole_config_there_the_run_begins_anew(url, tmp_path, content):
    here, other = tmp_path / "here" / "run", tmp_path / "other" / "run"
    for name in "ab":
        finish_fold(here, name)
    finish(here)
    made(url, here, lambda: None)
    system, root = fsspec.core.url_to_fs(url)
    system.rm_file(f"{root}/run/config.json")
    if content:
        system.pipe_file(f"{root}/run/config.json", content)
    mirrored = Mirrored(Store(url), other, "run")
    assert mirrored.fetch() == 0
    assert mirrored.damaged == ["config.json"]


def test_a_run_that_got_second_heads_is_still_the_same_run(url, tmp_path):
    run = tmp_path / "run"
    finish_fold(run, "a")
    made(url, run, lambda: None)
    (run / "config.json").write_text('{"settings": {"enrolment": true}}')
    made(url, run, lambda: None)
    assert there(url)["run/config.json"] == (run / "config.json").read_bytes()


def test_a_different_run_there_is_refused_and_so_is_a_second_machine(url, tmp_path):
    here, other = tmp_path / "here" / "run", tmp_path / "other" / "run"
    finish_fold(here, "a")
    finish_fold(other, "a")
    (other / "config.json").write_text('{"settings": {"seed": 1}}')
    with mirrored_run(url, [here], QUIET):
        pass
    with pytest.raises(UserError, match=r"other.run and .*results/run hold different runs: give another --m"):
        Mirrored(Store(url), other, "run").fetch()

    shutil.rmtree(other)
    first, second = (Mirrored(Store(url), folder, "run") for folder in (here, other))
    first.fetch()
    second.fetch()
    finish_fold(here, "b", b"one")
    finish_fold(other, "b", b"two")
    first.send()
    with pytest.raises(UserError, match=r"another machine has sent run to .* since this command began"):
        second.send()
    assert there(url)["run/fold-b/student.keras"] == b"one"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "results",
            "--mirror takes an address such as s3://bucket/results, found results: a folder is named f",
        ),
        ("nowhere://bucket/results", "--mirror nowhere://bucket/results: Protocol not known: nowhere."),
        ("s3://bucket/results", "this store needs s3fs, which is not installed: "),
        ("gs://bucket/results", "-m pip install gcsfs"),
        ("memory://", "names no folder"),
        ("file:///dev/null/results", "the mirror file:///dev/null/results cannot be written: "),
    ],
)
def test_an_address_that_is_none_is_one_line_before_any_training(
    manifest, tmp_path, capsys, monkeypatch, address, message
):
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(fold_step, "train_network", lambda *_, **__: pytest.fail("it trained"))
    capsys.readouterr()
    assert train(manifest, tmp_path, "-kd", "pure", "--run", "x", "--mirror", address) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "x").exists()


def test_a_missing_fsspec_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setattr("light_sernet_kd.errors.is_installed", lambda module: module != "fsspec")
    with pytest.raises(UserError, match=r"--mirror needs fsspec, which is not installed: .*\[mirror\]"):
        Store("memory://bucket/results")


def test_a_dry_run_has_no_mirror(tmp_path, capsys):
    assert cli.main(["grid", "x.toml", "--dry-run", "--mirror", "memory://b/x"]) == 2
    assert "--mirror moves results, and --dry-run makes none" in error_of(capsys)


# Real runs


@pytest.mark.usefixtures("shallow_here", "undrawn", "eager")
def test_a_run_that_was_stopped_goes_on_elsewhere_and_ends_as_one_that_was_not(
    manifest, tmp_path, monkeypatch
):
    url = (tmp_path / "store").as_uri()
    given = ["-kd", "pure", "--epochs", "1", "--folds", FOLDS, "--no-export", "--run", "x", "--mirror", url]
    whole, trained = fold_step.train_network, []

    def train_network(run, role, fold, *others, **more):
        trained.append(fold.name)
        if len(trained) == 2:
            # where this machine is lost, what it sent while it trained is there
            for _ in range(1000):
                if f"x/fold-{trained[0]}/fold.json" in there(url) and f"x/{INDEX}" in there(url):
                    break
                threading.Event().wait(0.02)
            raise KeyboardInterrupt
        return whole(run, role, fold, *others, **more)

    monkeypatch.setattr(fold_step, "train_network", train_network)
    with contextlib.suppress(KeyboardInterrupt):
        assert train(manifest, tmp_path / "one", *given) != 0
    assert train(manifest, tmp_path / "two", *given) == 0
    assert trained == [trained[0], trained[1], trained[1]]
    # a third machine reads what the second one ended with
    monkeypatch.setattr(fold_step, "train_network", lambda *_, **__: pytest.fail("it trained"))
    assert train(manifest, tmp_path / "three", *given) == 0
    predictions = [(tmp_path / name / "x" / "predictions.csv").read_bytes() for name in ("two", "three")]
    assert predictions[0] == predictions[1]
    assert there(url)["x/predictions.csv"] == predictions[0]


@pytest.mark.usefixtures("shallow_here", "undrawn", "eager")
def test_a_grid_is_made_on_one_machine_and_read_on_another(manifest, tmp_path, monkeypatch):
    url = (tmp_path / "store").as_uri()
    text = (
        f'[settings]\ncorpus = "{manifest.as_posix()}"\ninput_seconds = 1.2\nwidth = 0.15\nepochs = 1\n'
        f'batch_size = 8\nexport = false\n[[runs]]\nfolds = ["{SPEAKERS[0]}"]\nseed = [0]\n'
    )
    (tmp_path / "small.toml").write_text(text, encoding="utf-8")
    command = ["grid", str(tmp_path / "small.toml"), "-v", "0", "--mirror", url]
    assert cli.main([*command, "--result", str(tmp_path / "one")]) == 0
    names = set(there(url))
    (run,) = {name.split("/")[1] for name in names if name.endswith("metrics.json")}
    assert {"small/grid.json", "small/scores.json", f"small/{INDEX}", f"small/{run}/{INDEX}"} <= names
    monkeypatch.setattr(fold_step, "train_network", lambda *_, **__: pytest.fail("it trained"))
    assert cli.main([*command, "--result", str(tmp_path / "two")]) == 0
    scores = [(tmp_path / name / "small" / "scores.json").read_text() for name in ("one", "two")]
    assert scores[0] == scores[1]
