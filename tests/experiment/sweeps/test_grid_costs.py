"""What a dry run says of time: from steps that were timed on this machine."""

import json
import re
from pathlib import Path

import pytest
from small_runs import SPEAKERS, error_of, shallow_light_sernet

from light_sernet_kd import cli
from light_sernet_kd.analysis import grid as grids
from light_sernet_kd.analysis.grid.costs import Counts, Step, data_key, step_key
from light_sernet_kd.config import make_settings
from light_sernet_kd.experiment.sweeps import measuring

LEARNED = {"distillation": "KD", "epochs": 10, "batch_size": 8, "export": False, "engine": "tf"}


def grid_of(tmp_path: Path, text: str) -> tuple[grids.Grid, grids.GridFolder]:
    (tmp_path / "methods.toml").write_text(text, encoding="utf-8")
    grid = grids.read_grid(tmp_path / "methods.toml", tmp_path)
    return grid, grids.GridFolder.of(grid, tmp_path / "result")


def test_a_run_takes_its_steps_of_all_folds_times_its_epochs(tmp_path):
    """Folds of 9 and 17 utterances are 2 and 3 batches of 8, or 1 and 2 of the teacher's 16."""
    costs = grids.StepCosts.of(tmp_path)
    settings = make_settings(**LEARNED, teacher_epochs=3, teacher_batch_size=16)
    assert costs.seconds(settings) is None
    costs.add(settings, Step({"student, phase 1": 0.1, "teacher, phase 1": 0.5}, 900.0))
    assert costs.seconds(settings) is None
    costs.add(settings, Counts([9, 17], 30))
    assert costs.seconds(settings) == pytest.approx(10 * 5 * 0.1 + 3 * 3 * 0.5)
    # A final student has all 30 utterances: 4 batches, of the teacher 2.
    exported = make_settings(**LEARNED | {"export": True}, teacher_epochs=3, teacher_batch_size=16)
    assert costs.seconds(exported) == pytest.approx(10 * 9 * 0.1 + 3 * 5 * 0.5)
    again = grids.StepCosts.of(tmp_path)
    assert again.seconds(exported) == costs.seconds(exported)
    assert again.peak_mb([settings]) == 900.0
    costs.path.write_text("{")
    assert grids.StepCosts.of(tmp_path).seconds(settings) is None


def test_phases_have_their_own_epochs(tmp_path):
    costs = grids.StepCosts.of(tmp_path)
    settings = make_settings(**LEARNED | {"distillation": "pure", "qat": 4})
    costs.add(settings, Step({"student, phase 1": 0.1, "student, phase 2": 1.0}, 0.0))
    costs.add(settings, Counts([8], 8))
    assert costs.seconds(settings) == pytest.approx(10 * 0.1 + 4 * 1.0)
    tuned = make_settings(student="bert_vggish", epochs=5, tune_epochs=2, batch_size=8, export=False)
    costs.add(tuned, Step({"student, phase 1": 0.1, "student, phase 2": 1.0}, 0.0))
    assert costs.seconds(tuned) == pytest.approx(5 * 0.1 + 2 * 1.0)


def test_what_makes_a_step_longer_is_another_kind_and_its_numbers_are_not():
    plain = make_settings(**LEARNED)
    alike = {"seed": 7, "epochs": 3, "learning_rate": 0.5, "distillation_weights": {"alpha": 0.2}}
    same = make_settings(**LEARNED | alike, label_smoothing=0.1)
    assert step_key(same) == step_key(plain)
    changes = {"width": 0.5, "batch_size": 16, "distillation": "CKD", "teacher_count": 2}
    changes |= {"augmentation": "noise", "student": "resnet18", "arithmetic": "float32"}
    for name, value in changes.items():
        assert step_key(make_settings(**LEARNED | {name: value})) != step_key(plain), name
    folds = make_settings(**LEARNED, folds=("03",))
    assert (step_key(folds), data_key(same)) == (step_key(plain), data_key(plain))
    assert data_key(folds) != data_key(plain)


def test_an_estimate_says_where_it_comes_from(tmp_path):
    grid, folder = grid_of(
        tmp_path, "[settings]\nexport = false\nepochs = 2\n[[runs]]\nwidth = [0.25, 0.5, 1.0]\nseed = [0, 1]"
    )
    assert grids.plan(grid, folder).lines()[1] == (
        "How long they take is not known: no run of these kinds is done here. --dry-run --measure times some "
        "steps of each."
    )
    costs, half = grids.StepCosts.of(tmp_path), grid.entries[2].settings
    costs.add(half, Step({"student, phase 1": 1.5}, 1200.0))
    costs.add(half, Counts([half.training_schedule.batch_size * 5], 99))
    planned = grids.plan(grid, folder, costs)
    assert planned.lines()[1:] == [
        "About 30 s, by steps measured on this machine (training alone); nothing is known of 4 others.",
        "A run took up to 1,200 MB of memory.",
    ]
    folder.measured["width1-seed0"] = {"seconds": 20.0, "peak_mb": 10.0}
    known = (
        "About 70 s, as runs of their kind took here and by steps measured on this machine (training alone)"
    )
    assert grids.plan(grid, folder, costs).lines()[1] == f"{known}; nothing is known of 2 others."


MEASURED = """
[settings]
corpus = "{corpus}"
folds = {folds}
input_seconds = 1.2
width = 0.15
batch_size = 4
export = false
epochs = 50
[[runs]]
seed = [0, 1]
[[runs]]
name = "taught"
distillation = "KD"
teacher_epochs = 2
[[runs]]
corpus = "absent.csv"
"""


@pytest.mark.usefixtures("eager")
def test_steps_are_timed_once_for_each_kind_and_leave_nothing_else(manifest, tmp_path, monkeypatch, capsys):
    outcomes, train = [], measuring.train_network

    def trained(*given):
        outcomes.append(train(*given))
        return outcomes[-1]

    monkeypatch.setattr(measuring, "train_network", trained)
    text = MEASURED.format(corpus=manifest, folds=[*SPEAKERS[:2]])
    (tmp_path / "kinds.toml").write_text(text, encoding="utf-8")
    command = ["grid", str(tmp_path / "kinds.toml"), "--result", str(tmp_path / "r"), "-v", "0", "--dry-run"]
    with shallow_light_sernet():
        assert cli.main([*command, "--measure"]) == 0
        said = capsys.readouterr().out
        names = ("seed0", "taught-KD-teacher_epochs2")
        found = re.findall(r"Timing steps of (\S+), (\d) of 3 kinds", said)
        assert found == [(name, str(number)) for number, name in enumerate(names, start=1)]
        assert "not measured: absent" in said
        assert "by steps measured on this machine (training alone); nothing is known of 1 other." in said
        assert cli.main([*command, "--measure"]) == 0
        assert "Timing" not in capsys.readouterr().out
    (stored,) = (tmp_path / "r" / ".cache").glob("steps-*.json")
    content = json.loads(stored.read_text())
    steps = [step["seconds"] for step in content["steps"].values()]
    student, teacher = "student, phase 1", "teacher, phase 1"
    assert [sorted(each) for each in steps] == [[student], [student, teacher]]
    # Nine utterances train where one speaker of three tests and another validates: 3 batches.
    assert [*content["counts"].values()] == [{"folds": [9, 9], "everything": 27}]
    # As the training itself counts the seconds of its three epochs.
    for step, outcome in zip(steps, outcomes, strict=True):
        assert 0.05 * outcome.seconds < 3 * 3 * step[student] < 1.5 * outcome.seconds
    assert [path.name for path in (tmp_path / "r" / "kinds").iterdir()] == [".cache"]
    assert all(path.suffix == ".npy" for path in (tmp_path / "r" / "kinds" / ".cache").iterdir())


def test_measuring_goes_with_a_dry_run(tmp_path, capsys):
    assert cli.main(["grid", str(tmp_path / "none.toml"), "--measure"]) == 2
    assert error_of(capsys) == "light-sernet-kd: --measure goes with --dry-run."
