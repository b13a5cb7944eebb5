"""`train --seeds`: runs that differ in the seed alone, and the table of their scores."""

import csv
import json
import statistics
from types import SimpleNamespace

import pytest
from small_runs import error_of, train

from light_sernet_kd.analysis import seeds

ARGUMENTS = ("-kd", "pure", "--epochs", "1", "--no-export", "--folds", "s1", "--run", "it", "--seeds", "3,0",
             "--no-audio")  # fmt: skip


@pytest.mark.usefixtures("undrawn", "shallow_here", "eager")
def test_each_seed_is_a_run_of_its_own_and_the_table_has_their_mean(manifest, tmp_path, capsys):
    assert train(manifest, tmp_path, *ARGUMENTS) == 0
    shown = capsys.readouterr().out
    metrics = [json.loads((tmp_path / f"it-seed-{n}" / "metrics.json").read_text()) for n in (3, 0)]
    assert [each["seed"] for each in metrics] == [3, 0]
    page = (tmp_path / "it-seed-3" / "report.html").read_text(encoding="utf-8")
    assert metrics[0]["mistakes"]
    assert "<audio" not in page
    assert "without their sound" in page
    assert "--seed 3" not in metrics[0]["command"]  # the one that was given
    assert "mean ± sd" in shown
    found = json.loads((tmp_path / "it-seeds.json").read_text())
    for name in ("ua", "wa", "macro_f1", "weighted_f1"):
        values = [each["pooled"][name] for each in metrics]
        assert found["mean"][name] == pytest.approx(statistics.mean(values))
        assert found["sd"][name] == pytest.approx(statistics.stdev(values))
    with open(tmp_path / "it-seeds.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["it-seed-3", "it-seed-0", "mean ± sd"]
    assert float(rows[0]["UA %"]) == pytest.approx(100 * metrics[0]["pooled"]["ua"])
    assert "## " not in (tmp_path / "it-seeds.md").read_text()
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("it-seed-*/*.*"))]
    assert train(manifest, tmp_path, *ARGUMENTS) == 0
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("it-seed-*/*.*"))] == before


@pytest.mark.parametrize("given", ["1", "a,b", "0,-1", "0,0", "0,4294967296"])
def test_what_are_no_seeds_is_one_line(manifest, tmp_path, capsys, given):
    assert train(manifest, tmp_path, f"--seeds={given}") == 2
    assert "--seeds takes two or more whole numbers" in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


def test_one_seed_and_several_are_not_given_together(manifest, tmp_path, capsys):
    assert train(manifest, tmp_path, "--seeds", "0,1", "--seed", "2") == 2
    assert "leave out --seed" in error_of(capsys)


def run_of(seed, ua, alone):
    gains = {"taught_less_alone": {"ua": ua - alone, "ci95": None}}
    metrics = {
        "protocol": "loso",
        "seed": seed,
        "synthetic": False,
        "pooled": {"ua": ua, "wa": ua, "macro_f1": ua, "weighted_f1": ua},
        "ci95": {"ua": [0.5, 0.9]},
        "stamps": ["optimistic"] if seed else [],
        "teacher": {"beside": {"pooled": {"ua": {"alone": alone}, "gains": gains}}},
    }
    return SimpleNamespace(name=f"it-seed-{seed}", metrics=metrics)


def test_of_runs_with_a_teacher_the_table_has_what_teaching_gives():
    found = seeds.seeds([run_of(0, 0.7, 0.6), run_of(1, 0.8, 0.75)])
    table = seeds.table(found)
    assert table.header[-2:] == ["student alone: UA %", "taught minus alone, points"]
    assert table.footer[3:] == [
        *["75.0 ± 7.1"] * 4,
        "67.5 ± 10.6",
        "+7.5 ± 3.5",
    ]
    assert table.cells()[0][2:4] == ["50.0 to 90.0", "70.0"]
    assert any(note == "Seed 1: stamp: optimistic" for note in seeds.notes(found))
