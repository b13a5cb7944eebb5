"""`--callbacks`: factories are checked first, watch every epoch, and change neither a run nor its name."""

import csv
import json
import sys

import pytest
from conftest import REPOSITORY
from small_runs import error_of, train
from test_docs import blocks

import light_sernet_kd
from light_sernet_kd import cli
from light_sernet_kd.config import make_settings, user_callbacks
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.data.settings_file import file_settings
from light_sernet_kd.errors import UserError

PAGE = REPOSITORY / "docs" / "runs.md"
BOARD, MLFLOW, WANDB = blocks(PAGE, "python")
MINE = """
import json
from pathlib import Path
import keras
import beside  # in the same folder

HERE = Path(__file__).parent

class Noted(keras.callbacks.Callback):
    def __init__(self, facts):
        super().__init__()
        self.facts = facts

    def on_epoch_end(self, epoch, logs=None):
        with open(HERE / "noted.jsonl", "a") as file:
            print(json.dumps({**self.facts, "epoch": epoch, "logs": logs}), file=file)
        if (HERE / "full").exists():
            raise OSError(28, "the tracker's disk is full")

def make(run_name, fold, network, phase, settings, folder):
    assert folder.is_dir()
    facts = {"run": run_name, "fold": fold, "network": network, "phase": phase, "folder": str(folder)}
    return [Noted({**facts, "seed": settings["seed"]})]

class Silent(keras.callbacks.Callback):
    def __init__(self, fold=None):  # not for us to give
        super().__init__()
        assert fold is None

def nothing():
    return None

def fails(fold):
    raise RuntimeError(f"no server for {fold}")

def wants(fold, server):
    return []

class Wants:
    def __init__(self, path): ...

NUMBER = 3
"""
WORDS = ("--recipe", "own", "--epochs", "2", "--no-export", "--folds", "s1", "-kd", "pure")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "beside.py").write_text("")
    file = tmp_path / "code" / "mine.py"
    file.write_text(MINE, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("make", "takes MODULE:FACTORY, such as my_callbacks:make or my.py:make: found 'make'"),
        ("my.py:", "takes MODULE:FACTORY"),
        ("my.py:make()", "takes MODULE:FACTORY"),
        ("none/my.py:make", "--callbacks none/my.py:make: there is no file none/my.py."),
        ("nowhere.else:make", "--callbacks nowhere.else:make: no module nowhere is installed or in "),
    ],
)
def test_a_name_of_nothing_is_refused_before_tensorflow_is_imported(name, message, tmp_path, capsys):
    words = ["train", "-dn", "demo", "--result", str(tmp_path), "--callbacks", name]
    assert cli.main(words) == 2
    assert message in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("mak", "mine.py has no mak. Did you mean make?"),
        ("NUMBER", "mine.py:NUMBER is int, not a function or a class that makes callbacks"),
        ("wants", "mine.py:wants needs 'server'; a function is given by name any of run_name, fold, netw"),
        ("Wants", "mine.py:Wants needs 'path'; a class is given nothing: write a function that calls it"),
    ],
)
def test_what_makes_no_callbacks_is_refused_when_it_is_loaded(attribute, message, mine):
    with pytest.raises(UserError) as caught:
        user_callbacks.load(f"{mine}:{attribute}")
    assert message in str(caught.value)


def test_a_factory_takes_what_it_names_and_a_class_nothing(mine, monkeypatch):
    assert user_callbacks.load(f"{mine}:make").takes == user_callbacks.GIVEN
    assert user_callbacks.load(f"{mine}:nothing").takes == ()
    assert user_callbacks.load(f"{mine}:Silent").takes == ()
    assert user_callbacks.load(lambda fold, **others: []).takes == user_callbacks.GIVEN
    monkeypatch.chdir(mine.parent)
    user_callbacks.check("mine:make")
    assert user_callbacks.load("mine:make").make.__module__ == "mine"
    del sys.modules["mine"]


@pytest.mark.usefixtures("shallow_here")
def test_what_is_wrong_is_said_before_anything_is_read_or_trained(mine, manifest, tmp_path, capsys):
    broken = tmp_path / "broken.py"
    broken.write_text("\nimport not_there\n")
    result = tmp_path / "result"
    assert train(manifest, result, *WORDS, "--callbacks", f"{broken}:make") == 2
    assert "broken.py, line 2: ModuleNotFoundError: No module named 'not_there'." in error_of(capsys)
    assert list(result.glob("*")) == []
    assert train(manifest, result, *WORDS, "--callbacks", f"{mine}:make", "--engine", "jax") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert train(manifest, result, *WORDS, "--callbacks", f"{mine}:nothing") == 2
    assert "mine.py:nothing returned None for the student of fold s1: it returns" in error_of(capsys)
    assert train(manifest, result, *WORDS, "--callbacks", f"{mine}:fails") == 2
    error = capsys.readouterr().err
    assert 'raise RuntimeError(f"no server for {fold}")' in error
    assert "mine.py:fails failed for the student of fold s1: RuntimeError: no server for s1." in error
    assert list(result.rglob("history.csv")) == []


@pytest.mark.usefixtures("undrawn", "shallow_here", "eager")
def test_callbacks_see_each_epoch_and_change_neither_the_run_nor_its_name(
    mine, manifest, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.py").write_text(BOARD, encoding="utf-8")
    assert train(manifest, tmp_path / "without", *WORDS) == 0
    (without,) = (path for path in (tmp_path / "without").iterdir() if RunFolder(path).is_finished)
    words = [*WORDS, "--callbacks", f"{mine}:make", "--callbacks", f"{mine}:Silent"]
    words += ["--callbacks", "board:make"]
    (mine.parent / "full").touch()
    capsys.readouterr()
    assert train(manifest, tmp_path / "with", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):\n")
    line = next(n for n, text in enumerate(MINE.splitlines(), start=1) if "raise OSError" in text)
    assert f'  File "{mine}", line {line}, in on_epoch_end\n' in error
    assert error.count("  File ") == 1  # no frames of ours
    assert error.splitlines()[-1] == (
        f"light-sernet-kd: Noted.on_epoch_end, a callback of --callbacks {mine}:make, failed for the student "
        "of fold s1: OSError: [Errno 28] the tracker's disk is full. The same command goes on after the last "
        "epoch."
    )
    (mine.parent / "full").unlink()
    assert train(manifest, tmp_path / "with", *words) == 0
    watched = tmp_path / "with" / without.name  # a name of its settings alone
    first, again = (json.loads(RunFolder(each).config.read_text()) for each in (without, watched))
    assert first.pop("command") != again.pop("command")
    assert first == again
    assert RunFolder(watched).predictions.read_bytes() == RunFolder(without).predictions.read_bytes()

    noted = [json.loads(line) for line in (mine.parent / "noted.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in noted] == [0, 1]  # each once, though the run was interrupted
    step = RunFolder(watched).fold("s1")
    for each in noted:
        assert each["run"] == without.name
        assert (each["fold"], each["network"], each["phase"], each["seed"]) == ("s1", "student", 1, 0)
        assert each["folder"] == str(step.path / "callbacks")
    with open(step.history("student"), newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("loss", "val_ua", "val_loss", "learning_rate"):
        written = [pytest.approx(float(row[name]), 1e-5) for row in rows]
        assert [each["logs"][name] for each in noted] == written

    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "logs" / without.name / "s1" / "student-1" / "validation"
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    import tensorflow as tf

    logged = [float(tf.make_ndarray(each.tensor_proto)) for each in events.Tensors("epoch_ua")]
    # Its first epoch ended in the callback before it.
    assert logged == [pytest.approx(float(row["val_ua"]), 1e-5) for row in rows[1:]]
    # From Python, and of a finished run, nothing is called.
    called = []
    settings = make_settings(**file_settings(watched))
    how = {"result": tmp_path / "with", "callbacks": [lambda: called.append(1) or []]}
    run = light_sernet_kd.train(settings, **how)
    assert (run.folder.name, called) == (without.name, [])


@pytest.mark.parametrize(("package", "example"), [("mlflow", MLFLOW), ("wandb", WANDB)])
def test_an_example_for_a_tracker_logs_an_epoch(package, example, tmp_path, monkeypatch):
    pytest.importorskip(package)
    import keras
    import numpy as np

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "tracked.py").write_text(example, encoding="utf-8")
    factory = user_callbacks.load("tracked.py:make")
    given = {"run_name": "demo", "fold": "s1", "network": "student", "phase": 1, "settings": {"seed": 3}}
    callback = factory.make(**{name: given[name] for name in factory.takes})
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[callback])
    if package == "mlflow":
        import mlflow

        (run,) = mlflow.search_runs(output_format="list")
        assert (run.data.params["seed"], run.info.run_name) == ("3", "demo s1")
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
        assert [each.value for each in history] == [pytest.approx(x) for x in model.history.history["loss"]]
    else:
        assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
