"""Runs beside one another: pairing, the paired tests against loops, the table and the picture."""

import csv
import io
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import balanced_accuracy_score

from light_sernet_kd import cli
from light_sernet_kd.analysis import compare
from light_sernet_kd.data.run_folder import read_run
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import Predictions, softmax, write_predictions
from light_sernet_kd.reporting import figures

CLASSES = ("anger", "fear", "joy")


def predictions(labels, predicted, *, classes=CLASSES, ids=None, fold="1") -> Predictions:
    count = len(labels)
    return Predictions(
        classes, tuple(ids or (f"u{n}" for n in range(count))), (fold,) * count,
        np.array(labels), np.array(predicted), softmax(np.zeros((count, len(classes)), np.float32)),
    )  # fmt: skip


def guesses(seed: int, right: float, count=120) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return labels, np.where(random.random(count) < right, labels, random.integers(0, 3, count))


LABELS, GOOD = guesses(1, 0.9)
_, POOR = guesses(2, 0.3)


def test_the_difference_is_that_of_scikit_learns_scores():
    found = compare.paired(predictions(LABELS, POOR), predictions(LABELS, GOOD))
    expected = balanced_accuracy_score(LABELS, GOOD) - balanced_accuracy_score(LABELS, POOR)
    assert found.difference == pytest.approx(expected, abs=1e-12)
    assert found.low < expected < found.high


def test_a_run_against_itself_differs_by_nothing():
    found = compare.paired(predictions(LABELS, GOOD), predictions(LABELS, GOOD))
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_exchanging_the_runs_changes_the_sign_alone():
    one, other = predictions(LABELS, POOR), predictions(LABELS, GOOD)
    forth, back = compare.paired(one, other), compare.paired(other, one)
    assert back.difference == pytest.approx(-forth.difference)
    assert (back.low, back.high) == (pytest.approx(-forth.high), pytest.approx(-forth.low))
    assert back.p == pytest.approx(forth.p, abs=0.01)


def test_a_large_difference_is_no_chance_and_a_small_one_may_be():
    assert compare.paired(predictions(LABELS, POOR), predictions(LABELS, GOOD)).p < 0.001
    changed = GOOD.copy()
    changed[:2] = (changed[:2] + 1) % 3
    assert compare.paired(predictions(LABELS, GOOD), predictions(LABELS, changed)).p > 0.2


def test_the_p_value_is_that_of_all_exchanges():
    """Ten utterances of unequal classes: all 1,024 arrangements, each scored by scikit-learn."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    one = np.array([1, 1, 0, 0, 0, 1, 1, 2, 2, 0])
    other = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    observed = balanced_accuracy_score(labels, other) - balanced_accuracy_score(labels, one)
    as_large = 0
    for exchanged in itertools.product([False, True], repeat=10):
        first, second = np.where(exchanged, other, one), np.where(exchanged, one, other)
        gain = balanced_accuracy_score(labels, second) - balanced_accuracy_score(labels, first)
        as_large += abs(gain) >= abs(observed) - 1e-12
    found = compare.paired(predictions(labels, one), predictions(labels, other), permutations=40_000)
    assert found.p == pytest.approx(as_large / 1024, abs=0.01)


def test_the_interval_is_that_of_a_loop_over_resamples():
    random = np.random.default_rng(5)
    gains = []
    for _ in range(2000):
        drawn = random.integers(0, len(LABELS), len(LABELS))
        gains.append(
            balanced_accuracy_score(LABELS[drawn], GOOD[drawn])
            - balanced_accuracy_score(LABELS[drawn], POOR[drawn])
        )
    found = compare.paired(predictions(LABELS, POOR), predictions(LABELS, GOOD))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])), abs=0.015)


def test_draws_in_portions_are_all_drawn():
    assert compare._portions(10_000, 3_000) == [1333] * 7 + [669]
    assert compare._portions(5, 10**9) == [1] * 5


def test_utterances_are_matched_by_name_and_classes_by_name():
    order = np.random.default_rng(0).permutation(len(LABELS))
    ids = [f"u{n}" for n in order]
    swapped = ("joy", "fear", "anger")
    other = predictions(2 - LABELS[order], 2 - GOOD[order], classes=swapped, ids=ids)
    assert compare.paired(predictions(LABELS, GOOD), other).difference == 0
    assert compare.paired(predictions(LABELS, POOR), other).difference == pytest.approx(
        compare.paired(predictions(LABELS, POOR), predictions(LABELS, GOOD)).difference
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (predictions(LABELS[:9], GOOD[:9]), "other utterances"),
        (predictions(LABELS, GOOD, fold="2"), "in other folds"),
        (predictions((LABELS + 1) % 3, GOOD), "labels differ"),
    ],
)
def test_what_cannot_be_paired_is_said(other, message):
    with pytest.raises(UserError, match=message):
        compare.paired(predictions(LABELS, GOOD), other)


# Folders


def run_folder(
    tmp_path,
    name,
    predicted,
    *,
    bytes_=None,
    stamps=(),
    synthetic=False,
    labels=LABELS,
    speakers="abc",
    warnings=(),
):
    folder = tmp_path / name
    folder.mkdir()
    ua = float(balanced_accuracy_score(labels, predicted))
    metrics = {
        "corpus": "EMO-DB", "synthetic": synthetic, "protocol": "loso", "stamps": list(stamps),
        "warnings": list(warnings),
        "folds": [{"name": "1", "test_speakers": list(speakers)}], "seed": 0,
        "student": {"name": "light_sernet", "parameters": 463_431},
        "pooled": {"ua": ua, "wa": float(np.mean(np.equal(labels, predicted)))},
        "pooled_last_epoch": {"ua": ua}, "ci95": {"ua": [ua - 0.1, min(1.0, ua + 0.1)]},
    }  # fmt: skip
    if bytes_:
        metrics["export"] = {"rows": [{"precision": "float32", "bytes": bytes_}]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.json").write_text(json.dumps({"settings": {"distillation": "CKD"}}))
    write_predictions(folder / "predictions.csv", predictions(labels, predicted))
    return folder


def test_the_table_holds_scores_sizes_and_the_paired_difference(tmp_path, monkeypatch):
    folders = [
        run_folder(tmp_path, "plain", POOR, bytes_=1_956_000),
        run_folder(tmp_path, "distilled", GOOD, bytes_=900_000, stamps=["teacher may have seen [all]"]),
        run_folder(tmp_path, "other", GOOD[:60], labels=LABELS[:60]),
    ]
    compared = compare.compare([read_run(folder) for folder in folders])
    table = compare.table(compared)
    header, cells = table.header, table.cells()
    assert [len(row) for row in cells] == [len(header)] * 3
    plain, distilled, other = (dict(zip(header, row, strict=True)) for row in cells)
    ua = f"{100 * balanced_accuracy_score(LABELS, POOR):.1f}"
    assert (plain["UA %"], plain["float32 kB"], plain["int8 kB"]) == (ua, "1,956", "–")
    assert (plain["ΔUA"], plain["p"]) == ("–", "–")
    gain = 100 * (balanced_accuracy_score(LABELS, GOOD) - balanced_accuracy_score(LABELS, POOR))
    assert distilled["ΔUA"] == f"{gain:+.1f}"
    assert (distilled["p"], distilled["stamps"]) == ("<0.001", "1")
    assert (other["ΔUA"], other["float32 kB"]) == ("–", "–")
    console = Console(file=io.StringIO(), width=100)
    compare.show(compared, console)
    shown = console.file.getvalue()
    assert "distilled: teacher may have seen [all]" in shown
    assert "other is not paired with plain: they tested other utterances" in shown

    drawn = []
    size_against_ua = figures.size_against_ua

    def kept(*arguments, **named):
        drawn.append(named)
        return size_against_ua(*arguments, **named)

    monkeypatch.setattr(figures, "size_against_ua", kept)
    written = compare.write(compared, tmp_path / "out")
    assert [each["stamps"] for each in drawn] == [["distilled: teacher may have seen [all]"]]
    assert [path.name for path in written] == [
        "compare.json",
        "compare.md",
        *(f"size_against_ua.{kind}" for kind in ("png", "svg", "pdf")),
    ]
    assert json.loads(written[0].read_text()) == compared
    page = written[1].read_text()
    assert page.count("\n| ") == 5  # header, rule and three runs
    assert "![Size against UA](size_against_ua.png)" in page


def test_the_command_prints_latex_and_csv_with_the_notes_beside(tmp_path, capsys):
    folders = [run_folder(tmp_path, "one", POOR), run_folder(tmp_path, "two_b", GOOD)]
    compared = compare.compare([read_run(folder) for folder in folders])
    assert cli.main(["compare", *map(str, folders), "--latex"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("two\\_b & ") for line in lines) == 1
    assert [line for line in lines if line.startswith("% ")] == [
        f"% {note}" for note in compare.notes(compared)
    ]
    assert cli.main(["compare", *map(str, folders), "--csv"]) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert [row["run"] for row in rows] == ["one", "two_b"]
    assert float(rows[1]["UA %"]) == pytest.approx(100 * balanced_accuracy_score(LABELS, GOOD))
    assert len(captured.err.splitlines()) == len(compare.notes(compared))


@pytest.mark.parametrize(
    ("speakers", "words"),
    [("ab", "of 2 test speakers"), ("a", "of 1 test speaker"), ("", "of test speakers that neither names")],
)
def test_fewer_than_three_speakers_give_neither_an_interval_nor_a_p_value(tmp_path, speakers, words):
    folders = [
        run_folder(tmp_path, "a", POOR, speakers=speakers),
        run_folder(tmp_path, "b", GOOD, speakers=speakers),
    ]
    compared = compare.compare([read_run(folder) for folder in folders])
    pair = compared["rows"][1]["paired"]
    gain = balanced_accuracy_score(LABELS, GOOD) - balanced_accuracy_score(LABELS, POOR)
    assert pair == {"difference": pytest.approx(gain), "low": None, "high": None, "p": None}
    table = compare.table(compared)
    row = dict(zip(table.header, table.cells()[1], strict=True))
    assert (row["ΔUA"], row["95 % of ΔUA"], row["p"]) == (f"{100 * gain:+.1f}", "–", "–")
    line = f"b against a: no interval and no p-value {words}; at least 3 are needed."
    assert line in compare.notes(compared)
    console = Console(file=io.StringIO(), width=200)
    compare.show(compared, console)
    assert line in console.file.getvalue()
    # The same predictions of one speaker more have both.
    more = [run_folder(tmp_path, name, guess, speakers="abc") for name, guess in (("c", POOR), ("d", GOOD))]
    compared = compare.compare([read_run(folder) for folder in more])
    assert compared["rows"][1]["paired"]["p"] < 0.001
    assert not any("no p-value of" in note for note in compare.notes(compared))


def test_speakers_are_counted_over_folds_and_each_once(tmp_path):
    folder = run_folder(tmp_path, "a", GOOD)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["folds"] = [{"name": n, "test_speakers": ["a", "b"]} for n in "12"] + [{"name": "3"}]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert read_run(folder).test_speakers == {"a", "b"}


def test_without_exported_files_the_picture_has_the_size_of_the_parameters(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "size_against_ua", lambda points, path, **_: drawn.extend(points) or [path])
    folders = [run_folder(tmp_path, "a", GOOD), run_folder(tmp_path, "b", POOR, bytes_=9)]
    compare.write(compare.compare([read_run(folder) for folder in folders]), tmp_path / "out")
    assert [point["bytes"] for point in drawn] == [4 * 463_431] * 2


def test_matplotlib_is_loaded_for_pictures_alone():
    """It speaks up where its folder cannot be written."""
    code = "import sys, light_sernet_kd.analysis.compare; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_a_run_warned_of_is_in_the_notes(tmp_path):
    folder = run_folder(tmp_path, "constant", [0] * len(LABELS), warnings=["one of its own"])
    assert compare.notes(compare.compare([read_run(folder)])) == ["constant: warning: one of its own"]


def test_synthetic_recordings_are_named(tmp_path):
    compared = compare.compare([read_run(run_folder(tmp_path, "a", GOOD, synthetic=True))])
    assert compared["rows"][0]["corpus"] == "EMO-DB (SYNTHETIC)"


def test_predictions_that_are_not_those_of_the_metrics_are_refused(tmp_path):
    folder = run_folder(tmp_path, "a", GOOD)
    whole = (folder / "predictions.csv").read_text().splitlines(keepends=True)
    metrics = json.loads((folder / "metrics.json").read_text())
    read_run(folder)
    wrong = [
        whole[:-1],
        [*whole[:-1], whole[-1].replace(CLASSES[LABELS[-1]], "joy" if LABELS[-1] < 2 else "fear", 1)],
    ]
    for count in (None, len(LABELS)):
        metrics["pooled"] |= {} if count is None else {"count": count}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        for lines in (*wrong, whole[:1]):
            (folder / "predictions.csv").write_text("".join(lines))
            with pytest.raises(UserError, match="is not the one that metrics"):
                read_run(folder)
    (folder / "predictions.csv").write_text("".join(whole))
    read_run(folder)


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere holds no finished run: metrics\.json is missing"):
        read_run(tmp_path / "nowhere")
    folder = run_folder(tmp_path, "a", GOOD)
    (folder / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"its metrics\.json or config\.json is damaged"):
        read_run(folder)
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        read_run(folder)
