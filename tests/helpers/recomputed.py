"""Every figure of a run's report and metrics.json, made anew of its predictions by scikit-learn and loops."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from report_facts import tables
from sklearn import metrics as sklearn_metrics

from light_sernet_kd import evaluation


def scores(labels, predicted, classes):
    """What a set of utterances scores, and how many of each class there are."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    occurs = [name for name in classes if name in labels]
    either = [name for name in classes if name in labels or name in predicted]
    f1 = {
        name: sklearn_metrics.f1_score(labels == name, predicted == name, zero_division=0) for name in either
    }
    recall = {name: float((predicted[labels == name] == name).mean()) for name in occurs}
    return {
        "ua": np.mean([*recall.values()]),
        "wa": np.mean(labels == predicted),
        "macro_f1": np.mean([*f1.values()]),
        "weighted_f1": sum(f1[name] * (labels == name).mean() for name in occurs),
        "recall_per_class": {name: recall.get(name) for name in classes},
        "count": len(labels),
        "count_per_class": {name: int((labels == name).sum()) for name in classes},
    }


def calibration(labels, shares, classes, *, bins=15):
    truth = np.array([classes.index(label) for label in labels])
    top, right = shares.max(axis=1), shares.argmax(axis=1) == truth
    gap = 0.0
    for number in range(bins):
        inside = (top > number / bins) & (top <= (number + 1) / bins)
        gap += abs(right[inside].sum() - top[inside].sum()) / len(top)
    sure = top >= 0.5
    return {
        "ece": gap,
        "nll": -np.log(shares[np.arange(len(truth)), truth]).mean(),
        "brier": ((shares - np.eye(len(classes))[truth]) ** 2).sum(axis=1).mean(),
        "confidence": top.mean(),
        "accuracy": right.mean(),
        "sure": sure.mean(),
        "sure_accuracy": right[sure].mean() if sure.any() else None,
    }


def cooled(shares, temperature):
    """Probabilities of logits that are divided by a temperature, from those of the logits."""
    powers = shares ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def arrays(path):
    with np.load(path) as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}


def margin(logits):
    rows = np.sort(logits, axis=1)
    return np.mean(rows[:, -1] - rows[:, -2])


def percent(share):
    return "–" if share is None else f"{100 * share:.1f}"


def approx(value):
    if value is None or isinstance(value, dict):
        return value and {name: approx(each) for name, each in value.items()}
    return pytest.approx(value, rel=2e-5, abs=2e-6)


def is_of_teacher(table):
    return "student alone: UA %" in table[0]


class Recomputed:
    """A finished run whose ids begin with their speaker and a hyphen."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.metrics = json.loads((folder / "metrics.json").read_text())
        self.page = (folder / "report.md").read_text()
        every = tables(self.page)
        self.tables = [table for table in every if not is_of_teacher(table)]
        self.of_teacher = next((table for table in every if is_of_teacher(table)), None)
        self.classes = self.metrics["classes"]
        with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
            self.rows = list(csv.DictReader(file))
        self.folds = list(dict.fromkeys(row["fold"] for row in self.rows))
        self.labels = self.column("label")
        self.predicted = self.column("predicted")
        self.shares = np.array([[float(row[f"p_{name}"]) for name in self.classes] for row in self.rows])

    def column(self, name, fold=None):
        return [row[name] for row in self.rows if fold in (None, row["fold"])]

    def of(self, fold):
        return np.array([row["fold"] == fold for row in self.rows])

    def stored(self, fold, name):
        return arrays(self.folder / f"fold-{fold}" / name)

    def check_scores(self):
        pooled = scores(self.labels, self.predicted, self.classes)
        found, table = self.metrics["pooled"], self.tables[0]
        assert found.keys() == pooled.keys()
        assert {name: found[name] for name in pooled} == {name: approx(pooled[name]) for name in pooled}
        assert f"{pooled['count']:,} test predictions in {len(self.folds)} folds" in self.page
        per_fold = [
            scores(self.column("label", f), self.column("predicted", f), self.classes) for f in self.folds
        ]
        for fold, mine, theirs, row in zip(
            self.folds, per_fold, self.metrics["folds"], table[:-1], strict=True
        ):
            assert theirs["name"] == row["fold"] == fold
            assert {name: theirs[name] for name in mine} == {name: approx(mine[name]) for name in mine}
            assert theirs["test_speakers"] == sorted({name.split("-")[0] for name in self.column("id", fold)})
            cells = [row[name] for name in ("UA", "WA", "macro F1", "weighted F1")]
            assert cells == [percent(mine[name]) for name in ("ua", "wa", "macro_f1", "weighted_f1")]
            history = (self.folder / f"fold-{fold}" / "history.csv").read_text().splitlines()
            assert row["of epochs"] == str(len(history) - 1)
        assert (table[-1]["UA"], table[-1]["WA"]) == (percent(pooled["ua"]), percent(pooled["wa"]))
        for name in ("ua", "wa", "macro_f1", "weighted_f1"):
            values = [each[name] for each in per_fold]
            assert self.metrics["mean_over_folds"][name] == [approx(np.mean(values)), approx(np.std(values))]
        for row, name in zip(self.tables[1], self.classes, strict=True):
            assert row["class"] == name
            assert row["test utterances"] == str(self.labels.count(name))
            assert row["recall %"] == percent(pooled["recall_per_class"][name])
        index = {name: number for number, name in enumerate(self.classes)}
        interval = evaluation.bootstrap_ci(
            [index[name] for name in self.labels],
            [index[name] for name in self.predicted],
            [row["id"].split("-")[0] for row in self.rows],
            self.classes,
        )
        assert self.metrics["ci95"] == (interval and {name: list(ends) for name, ends in interval.items()})

    def check_teacher(self):
        """The taught student and its teacher, without a run of the student alone beside them."""
        if self.of_teacher is None:
            assert self.metrics["teacher"] is None
            return
        for row, fold in zip(self.of_teacher, [*self.folds, None], strict=True):
            labels, predicted = self.column("label", fold), self.column("predicted", fold)
            logits = [
                self.stored(each, "test_logits.npz")["teacher"] for each in self.folds if fold in (None, each)
            ]
            teacher = [self.classes[place] for place in np.concatenate(logits).argmax(axis=1)]
            found = [scores(labels, each, self.classes)["ua"] for each in (teacher, predicted)]
            assert [row["teacher: UA %"], row["taught student: UA %"]] == [*map(percent, found)]
            gain = row["taught minus teacher"].split()[0]
            assert float(gain) == pytest.approx(100 * (found[1] - found[0]), abs=0.051)
            assert row["student alone: UA %"] == "not run"

    def check_calibration(self):
        told = self.metrics["calibration"]
        before = calibration(self.labels, self.shares, self.classes)
        assert {name: told["before"][name] for name in before} == {
            name: approx(before[name]) for name in before
        }
        rows = [before]
        if told["after"]:
            shares = np.concatenate(
                [
                    cooled(self.shares[self.of(fold["name"])], fold["temperature"] or 1)
                    for fold in told["folds"]
                ]
            )
            rows.append(calibration(self.labels, shares, self.classes))
            assert {name: told["after"][name] for name in rows[1]} == {
                name: approx(rows[1][name]) for name in rows[1]
            }
        for row, mine in zip(self.tables[2], rows, strict=True):
            assert (row["ECE %"], row["NLL"]) == (percent(mine["ece"]), f"{mine['nll']:.3f}")
            assert row["mean confidence %"] == percent(mine["confidence"])
            assert row["from 0.5 on: share %"] == percent(mine["sure"])

    def check_files(self):
        """The exported student's temperature and confidence, and what the folds' files differ by."""
        told, export = self.metrics["calibration"], self.metrics["export"]
        files = told["files"]
        heard = {fold: self.stored(fold, "training_logits.npz")["selected"] for fold in self.folds}
        rule = files["per_margin"]
        by = {fold: rule * margin(heard[fold]) if rule else 1.0 for fold in self.folds}
        final = self.stored("all-speakers", "training_logits.npz")["selected"]
        temperature = rule * margin(final) if rule else 1.0
        assert told["temperature"] == (approx(temperature) if rule else None)
        sets = {
            "folds_test": np.concatenate([cooled(self.shares[self.of(f)], by[f]) for f in self.folds]),
            "folds_training": np.concatenate([evaluation.softmax(heard[f] / by[f]) for f in self.folds]),
            "final_training": evaluation.softmax(final / temperature),
        }
        for row, (name, shares) in zip(self.tables[3], sets.items(), strict=True):
            top = shares.max(axis=1)
            mine = {"count": len(top), "confidence": top.mean(), "sure": (top >= 0.5).mean()}
            assert files[name] == {key: approx(value) for key, value in mine.items()}
            shown = [f"{len(top):,}", percent(mine["confidence"]), percent(mine["sure"])]
            assert list(row.values())[2:] == shown
        converted = [self.stored(fold, "tflite_probabilities.npz") for fold in self.folds]
        best = None
        for row, shown in zip(export["rows"], self.tables[4], strict=True):
            shares = np.concatenate([each[row["precision"]] for each in converted])
            change = [
                max(abs(a - b) for a, b in zip(*pair, strict=True))
                for pair in zip(shares, self.shares, strict=True)
            ]
            mine = {"mean": np.mean(change), "p95": np.percentile(change, 95), "max": np.max(change)}
            assert row["probability_change"] == {name: approx(mine[name]) for name in mine} | {
                "count": len(self.rows)
            }
            cells = [shown[name] for name in ("probability change: mean", "95th percentile", "largest")]
            assert [float(cell) for cell in cells] == pytest.approx([*mine.values()], rel=0.06, abs=1e-6)
            predicted = [self.classes[place] for place in shares.argmax(axis=1)]
            scored = scores(self.labels, predicted, self.classes)
            assert (row["ua"], row["wa"]) == (approx(scored["ua"]), approx(scored["wa"]))
            best = scored["ua"] if best is None else best
            assert row["ua_cost_points"] == approx(100 * (best - scored["ua"]))
            assert (shown["UA %"], shown["WA %"]) == (percent(scored["ua"]), percent(scored["wa"]))
            size = (self.folder / row["file"]).stat().st_size
            assert (row["bytes"], shown["kB"]) == (size, f"{size / 1000:,.1f}")
        assert "max_probability_difference" not in json.dumps(export)


def check(folder: Path) -> None:
    """Every figure of the run that can be made of its predictions, its stored logits and its files."""
    run = Recomputed(folder)
    run.check_scores()
    run.check_teacher()
    run.check_calibration()
    run.check_files()
