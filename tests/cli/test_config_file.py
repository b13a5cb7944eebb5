"""`train --config`: a file's settings are those of the options; a run is repeated from its config.json."""

import dataclasses
import json
import shutil

import pytest
from conftest import REPOSITORY
from small_runs import error_of, train
from test_docs import blocks

from light_sernet_kd import cli
from light_sernet_kd.config import make_settings
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.experiment.from_command import TrainCommand
from light_sernet_kd.registries.students import STUDENTS

TOML = """
corpus = "tess"
epochs = 3
distillation = "KD"
distillation_weights = { alpha = 0.25, temperature = 2 }
emotions = ["anger", "neutral"]
width = 1
"""


@pytest.fixture
def asked(monkeypatch):
    """The settings that each `train` would run with; nothing is trained."""
    kept = []
    monkeypatch.setattr(TrainCommand, "train", lambda command, settings, *_: kept.append(settings))
    return kept


def settings_of(asked, *arguments, **how):
    assert cli.main([*arguments], **how) == 0
    return asked[-1]


DEFAULTS = {"recipe": "robust"}


def test_settings_of_a_file_are_those_of_the_same_options(asked, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(TOML, encoding="utf-8")
    options = ["-dn", "TESS", "--epochs", "3", "-kd", "KD", "--kd_weights", "alpha=0.25,temperature=2"]
    options += ["--emotions", "anger,neutral", "--width", "1.0"]
    given = settings_of(asked, "train", *options, defaults=DEFAULTS)
    assert settings_of(asked, "train", "--config", str(file), defaults=DEFAULTS) == given
    # hyperparameters.py says nothing of what a file leaves out
    edited = {"recipe": "own", "corpus": "RAVDESS", "label_loss": "focal", "epochs": 99}
    train_py = {"program": "train.py", "defaults": edited}
    assert settings_of(asked, "--config", str(file), **train_py) == given


def test_the_file_of_the_page_is_taken(asked, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(blocks(REPOSITORY / "docs" / "runs.md", "toml")[0], encoding="utf-8")
    made = settings_of(asked, "train", "--config", str(file))
    assert (made.epochs, made.export, made.recipe) == (60, False, "robust")
    assert made.distillation_weights == {"alpha": 0.5, "temperature": 4.0}


def test_options_win_over_the_file(asked, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(TOML + 'teacher_view = "same"\nteacher_components = 0\n', encoding="utf-8")
    words = ["train", "--config", str(file)]
    changed = settings_of(asked, *words, "-dn", "demo", "--epochs", "5", "--kd_weights", "alpha=0.75")
    assert (changed.corpus, changed.epochs, changed.teacher_view) == ("demo", 5, "same")
    assert changed.distillation_weights == {"alpha": 0.75}
    assert changed.emotions == ("anger", "neutral")
    alone = settings_of(asked, *words, "-kd", "pure")
    assert (alone.distillation, alone.teacher, alone.teacher_view) == ("pure", None, "clean")
    assert alone.distillation_weights == {}


def test_a_recipe_that_is_printed_is_a_file_of_settings(asked, tmp_path, capsys):
    assert cli.main(["recipe", "distilled"]) == 0
    file = tmp_path / "distilled.toml"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    words = ["train", "-dn", "demo"]
    made = settings_of(asked, *words, "--config", str(file)).as_dict()
    of_recipe = settings_of(asked, *words, "--recipe", "distilled").as_dict()
    # what the schedule is made of is printed too
    differ = {name for name in made if made[name] != of_recipe[name]}
    assert differ <= {"recipe", "epochs", "batch_size", "learning_rate", "optimizer", "accumulation",
                      "batch_norm_momentum", "tune_epochs"}  # fmt: skip


WRONG = {
    "unknown key": ("epoch = 3", r"mine.toml: unknown setting 'epoch'. Did you mean epochs?"),
    "wrong type": ('epochs = "3"', r"mine.toml, epochs: epochs must be a whole number, found '3'"),
    "out of range": ("width = -1.0", r"mine.toml, width: width must be above 0"),
    "unknown name": ('student = "resnet19"', r"mine.toml, student: unknown student 'resnet19'. Did you mean"),
    "a list": ("seed = [0, 1]", r"mine.toml, seed: one value is expected, found the list [0, 1]: several"),
    "no table": (
        'distillation_weights = "alpha=1"',
        r"mine.toml, distillation_weights: a table such as { alpha = 0.5 } is expected",
    ),
    "no list": ('emotions = "anger"', r"mine.toml, emotions: emotions must be a list of names"),
    "a place": ('result = "x"', r"mine.toml, result: it decides no result: give --result beside --config"),
    "no TOML": ("epochs: 3", r"mine.toml is no TOML: "),
    "a grid": ("[settings]\n[[runs]]\nseed = [0, 1]", r"has many runs: light-sernet-kd grid"),
    "a table of settings": ("[settings]\nepochs = 3", r"not below [settings]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_a_file_is_one_line_with_file_and_key(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text, message = WRONG[case]
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert cli.main(["train", "--config", "mine.toml"]) == 2
    assert message in error_of(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


CONFIG = {"corpus_sha256": "0", "resolved": {}, "versions": {}}
WRONG_JSON = {
    "another program's": ({"settings": {"corpus": "demo"}}, "x.json is not the config.json of a run: it is"),
    "no object": ([1], "x.json is not the config.json of a run"),
    "a later release's": (
        {**CONFIG, "settings": {"corpus": "demo", "warp": 9}},
        "x.json: unknown setting 'warp'.",
    ),
    "edited": (
        {**CONFIG, "settings": {"corpus": "demo", "seed": "1"}},
        "x.json, seed: seed must be a whole number",
    ),
    "of a plug-in": (
        {**CONFIG, "settings": {"corpus": "demo"}, "plugins": [{"name": "my.py", "sha256": "0" * 64}]},
        "was made with the plug-in my.py (SHA-256 000000000000…): add --plugin my.py",
    ),
}


@pytest.mark.parametrize("case", WRONG_JSON)
def test_a_config_that_is_of_no_run_here_is_one_line(case, tmp_path, capsys):
    content, message = WRONG_JSON[case]
    (tmp_path / "x.json").write_text(json.dumps(content), encoding="utf-8")
    assert cli.main(["train", "--config", str(tmp_path / "x.json")]) == 2
    assert message in error_of(capsys)


@pytest.mark.parametrize("name", ["none.toml", "none.json", "."])
def test_a_file_that_is_not_there_is_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--config", name]) == 2
    assert "name a" in error_of(capsys)


RUNS = [
    {"recipe": "robust", "seed": 7, "folds": ["03", "08"]},
    {"student": "resnet18", "input_seconds": 7.0, "export": False},
    {"recipe": "distilled", "teacher": "auto", "distillation_weights": {"KD.alpha": "0.9>0.3"}},
    {"student": "bert_vggish", "pooling": "mean", "tune_epochs": 3, "audio_encoder": "vggish=random"},
    {"recipe": "lsn", "front_end": "robust", "augmentation": "noise"},
]


@pytest.mark.parametrize("values", RUNS, ids=lambda values: "+".join(values))
def test_the_settings_of_a_config_are_those_of_its_run(values, asked, tmp_path):
    made = make_settings(corpus="TESS", protocol="two_speakers", **values)
    entry = STUDENTS[made.student]
    # as a run stores them
    whole = dataclasses.replace(
        made, front_end=made.front_end or entry.front_end, schedule=made.schedule or entry.schedule
    )
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**CONFIG, "settings": whole.as_dict()}), encoding="utf-8")
    assert settings_of(asked, "train", "--config", str(file), defaults=DEFAULTS) == made


@pytest.mark.usefixtures("undrawn", "shallow", "eager")
def test_a_run_is_repeated_from_its_folder(manifest, tmp_path, capsys):
    result, copy = tmp_path / "result", tmp_path / "copy"
    words = ["--recipe", "own", "--epochs", "1", "--no-export", "--folds", "s1", "--seed", "3", "-kd", "pure"]
    assert train(manifest, result, *words) == 0
    (run,) = (path for path in result.iterdir() if RunFolder(path).is_finished)
    shutil.copytree(result, copy)
    when = RunFolder(run).metrics.stat().st_mtime_ns
    assert cli.main(["train", "--config", str(run), "--result", str(result), "-v", "0"]) == 0
    assert [path.name for path in result.iterdir() if path.is_dir() and path.name != ".cache"] == [run.name]
    assert RunFolder(run).metrics.stat().st_mtime_ns == when  # by its name and settings the very run
    stored = json.loads(RunFolder(run).config.read_text())
    published = {**stored, "corpus_sha256": "0", "versions": {**stored["versions"], "numpy": "0.1"}}
    published["settings"] = {**stored["settings"], "seed": 9}
    (tmp_path / "published.json").write_text(json.dumps(published), encoding="utf-8")
    # Its students stay, so that nothing is trained.
    RunFolder(copy / run.name).config.unlink()
    capsys.readouterr()
    words = ["--config", str(tmp_path / "published.json"), "--seed", "3", "--result", str(copy)]
    assert cli.main(words, program="train.py", defaults={"corpus": "RAVDESS"}) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the corpus has other recordings or labels now; numpy was 0.1, is" in said
    again = json.loads(RunFolder(copy / run.name).config.read_text())
    assert again.pop("command") != stored.pop("command")
    assert again == stored
