"""Calibration: the temperature, ECE and its kin against loops and other packages; and in whole runs."""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import recomputed
import soundfile
from scipy.optimize import minimize_scalar
from sklearn import metrics as sklearn_metrics

from light_sernet_kd import cli, evaluation
from light_sernet_kd.corpora import demo
from light_sernet_kd.evaluation import (
    TEMPERATURE_BOUNDS,
    calibration,
    confidence,
    confidence_warnings,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    mean_margin,
    probability_change,
    reliability,
    softmax,
    temperature_for,
    temperature_per_margin,
)
from light_sernet_kd.training import accelerate

RENDERED = ("reliability.png", "curves.png")
pytestmark = pytest.mark.usefixtures("shallow")


def drawn(count: int, *, spread: float = 3.0, classes: int = 7, seed: int = 0):
    """Logits and labels that follow their softmax: the true temperature is 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, classes)) * spread
    chosen = softmax(logits).cumsum(axis=1) > random.random((count, 1))
    return logits, chosen.argmax(axis=1)


# The temperature


@pytest.mark.parametrize("true", [0.1, 0.7, 1.0, 2.5, 20.0])
def test_the_temperature_that_logits_were_multiplied_by_is_found(true):
    logits, labels = drawn(20_000)
    assert fit_temperature(logits * true, labels) == pytest.approx(true, rel=0.03)


@pytest.mark.parametrize("count", [20, 150])
def test_the_temperature_is_scipys_and_that_of_a_fine_grid(count):
    logits, labels = drawn(count)
    logits *= 2.5

    def loss(log_temperature: float, doubt: float) -> float:
        shares = np.log(softmax(logits / np.exp(log_temperature)))
        targets = np.full_like(shares, doubt / (count + doubt) / 7)
        targets[np.arange(count), labels] += count / (count + doubt)
        return float(-(targets * shares).sum(axis=1).mean())

    for doubt in (0.0, 0.2, 3.0):
        found = fit_temperature(logits, labels, doubt=doubt)
        best = minimize_scalar(loss, bounds=(-2, 4), args=(doubt,), method="bounded", options={"xatol": 1e-9})
        assert found == pytest.approx(np.exp(best.x), rel=1e-5)
        grid = np.exp(np.linspace(-2, 4, 1201))
        assert found == pytest.approx(grid[np.argmin([loss(np.log(t), doubt) for t in grid])], rel=0.0051)
    plain = [
        log_loss(labels, logits / (fit_temperature(logits, labels, doubt=0) * by)) for by in (0.99, 1, 1.01)
    ]
    assert plain[1] < min(plain[0], plain[2])


def test_no_student_becomes_certain_however_right_it_was_and_none_runs_away():
    labels = np.arange(50) % 7
    right = 3.0 * np.eye(7)[labels]
    assert fit_temperature(right, labels, doubt=0) == TEMPERATURE_BOUNDS[0]
    # A fifth of an utterance's labels are spread over all: the stationary point is exactly those shares.
    shares = softmax(right / fit_temperature(right, labels))
    assert shares.max(axis=1) == pytest.approx(1 - 0.2 / 50.2 * 6 / 7, abs=1e-9)
    assert fit_temperature(right, (labels + 1) % 7) == TEMPERATURE_BOUNDS[1]
    assert fit_temperature(np.full((50, 7), 4.0), labels) == 1.0
    for scale in (500.0, 1e-6):
        logits, drawn_labels = drawn(100)
        found = fit_temperature(logits / np.abs(logits).max() * scale, drawn_labels)
        assert TEMPERATURE_BOUNDS[0] <= found <= TEMPERATURE_BOUNDS[1]


def test_a_class_without_a_label_and_a_single_utterance_have_a_temperature():
    logits, labels = drawn(4000, classes=4)
    kept = labels != 3
    assert 0.2 < fit_temperature(logits[kept], labels[kept]) < 5
    assert np.isfinite(fit_temperature(logits[:1], labels[:1]))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "N at least 1"),
        (np.zeros((2, 3)), np.zeros(3, int), r"\(2, 3\) with labels \(3,\)"),
        (np.full((2, 3), np.nan), np.zeros(2, int), "not finite"),
        (np.zeros((2, 3)), np.array([0, 3]), "expected 0 to 2"),
        (np.zeros((2, 3)), np.array([0, -1]), "run from -1"),
    ],
)
def test_what_is_no_set_of_predictions_is_refused(logits, labels, message):
    for function in (lambda: fit_temperature(logits, labels), lambda: calibration(labels, logits)):
        with pytest.raises(ValueError, match=message):
            function()


def test_no_temperature_changes_which_class_is_largest():
    logits, labels = drawn(2000)
    for temperature in (*TEMPERATURE_BOUNDS, 0.3, 7.7):
        scaled = logits / temperature
        np.testing.assert_array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))
        assert evaluation.scores(labels, scaled.argmax(axis=1), "abcdefg") == evaluation.scores(
            labels, logits.argmax(axis=1), "abcdefg"
        )


# ECE and its kin


def test_ece_worked_by_hand():
    # Five bins. (0.4, 0.6]: 0.5 right, 0.6 wrong: |1/2 - 0.55|. (0.6, 0.8]: 0.7 and 0.8 right: |1 - 0.75|.
    # (0.8, 1]: 0.9 wrong: 0.9.
    shares = [[0.5, 0.3, 0.2], [0.6, 0.4, 0.0], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]]
    labels = [0, 1, 0, 1, 0]
    assert expected_calibration_error(shares, labels, bins=5) == pytest.approx(
        (2 * 0.05 + 2 * 0.25 + 1 * 0.9) / 5
    )
    found = reliability(shares, labels, bins=5)
    assert [(each.low, each.high, each.count) for each in found] == [
        (pytest.approx(0.4), pytest.approx(0.6), 2),
        (pytest.approx(0.6), pytest.approx(0.8), 2),
        (pytest.approx(0.8), 1.0, 1),
    ]
    assert [each.accuracy for each in found] == [0.5, 1.0, 0.0]
    assert [each.confidence for each in found] == pytest.approx([0.55, 0.75, 0.9])


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece_is_a_loop_over_bins(bins):
    logits, labels = drawn(700, spread=1.5)
    shares = softmax(2 * logits)
    total = 0.0
    for number in range(bins):
        inside = [row for row in range(700) if number / bins < shares[row].max() <= (number + 1) / bins]
        if inside:
            right = sum(shares[row].argmax() == labels[row] for row in inside)
            total += abs(right - sum(shares[row].max() for row in inside)) / 700
    assert expected_calibration_error(shares, labels, bins) == pytest.approx(total)
    found = reliability(shares, labels, bins)
    assert sum(each.count for each in found) == 700
    by_bins = sum(each.count * abs(each.accuracy - each.confidence) for each in found) / 700
    assert by_bins == pytest.approx(total)


def test_true_probabilities_have_the_ece_and_the_accuracies_that_chance_gives():
    logits, labels = drawn(400, seed=1)
    promised = calibration(labels, logits)
    eces, inside = [], []
    for seed in range(60):
        random = np.random.default_rng(100 + seed)
        again = (softmax(logits).cumsum(axis=1) > random.random((400, 1))).argmax(axis=1)
        eces.append(expected_calibration_error(softmax(logits), again))
        inside += [
            each.expected[0] - 1e-9 <= each.accuracy <= each.expected[1] + 1e-9
            for each in reliability(softmax(logits), again, draws=200)
        ]
    assert promised["ece_by_chance"] == pytest.approx(np.mean(eces), rel=0.08)
    # Counts are whole, so that a little more than 95 % lie inside.
    assert 0.94 < np.mean(inside) < 1


def test_nll_and_brier_are_scikit_learns():
    logits, labels = drawn(300)
    found, shares = calibration(labels, logits), softmax(logits)
    assert found["nll"] == pytest.approx(sklearn_metrics.log_loss(labels, shares, labels=range(7)))
    expected = sum(sklearn_metrics.brier_score_loss(labels == c, shares[:, c]) for c in range(7))
    assert found["brier"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, shares.argmax(axis=1)))
    sure = shares.max(axis=1) >= 0.5
    assert found["sure"] == sure.mean()
    assert found["sure_accuracy"] == (shares.argmax(axis=1) == labels)[sure].mean()
    assert json.loads(json.dumps(found)) == found | {
        "reliability": json.loads(json.dumps(found["reliability"]))
    }
    assert calibration([0, 1], np.zeros((2, 7)))["sure_accuracy"] is None


def test_probabilities_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="do not sum to 1"):
        expected_calibration_error([[0.5, 0.1]], [0])


def test_students_trained_with_mse_are_unsure_of_what_they_know_and_a_temperature_below_one_mends_it():
    # Such logits are near the one-hot label: softmax of (1, 0, 0, 0, 0, 0, 0) is 0.31.
    random = np.random.default_rng(3)
    labels = random.integers(7, size=600)
    logits = np.eye(7)[labels] + random.normal(0, 0.35, (600, 7))
    temperature = fit_temperature(logits[:60], labels[:60])
    before, after = (calibration(labels[60:], logits[60:] / by) for by in (1, temperature))
    assert temperature < 0.3
    assert before["ece"] > 0.4
    assert after["ece"] < 0.1
    assert after["nll"] < 0.5 * before["nll"]


# The temperature of a student that no utterance is held out for


class Student:
    """Draws logits as a student does that is so sharp, knows so much and memorised so much."""

    def __init__(self, sharpness: float, *, knows: float, memorised: float = 0.0, seed: int = 0):
        self.sharpness, self.knows, self.memorised = sharpness, knows, memorised
        self.random = np.random.default_rng(seed)

    def asked(self, count: int, *, heard: bool):
        labels = self.random.integers(7, size=count)
        signal = self.knows + self.memorised * heard
        noise = self.random.normal(0, 1, (count, 7))
        return self.sharpness * (signal * np.eye(7)[labels] + noise), labels


RECIPES = {
    # flat logits of few epochs, sharper by chance from one student to the next; the last is the exported one
    "under-trained": ([0.02, 0.01, 0.05, 0.03], 0.6, {"knows": 0.5}),
    "trained": ([3.0, 2.5, 3.5, 2.0], 3.3, {"knows": 2.5, "memorised": 1.0}),
    "over-trained": ([9.0, 8.0, 12.0, 10.0], 14.0, {"knows": 2.0, "memorised": 4.0}),
    "flatter at the end": ([2.0, 1.5, 2.5], 0.1, {"knows": 2.0, "memorised": 1.0}),
    "trained with MSE": ([0.3, 0.35, 0.25], 0.32, {"knows": 2.5, "memorised": 0.5}),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_exported_students_confidence_is_how_often_it_is_right_on_whom_it_never_heard(recipe):
    sharpness, exported, knowledge = RECIPES[recipe]
    folds = [Student(each, seed=number, **knowledge) for number, each in enumerate(sharpness)]
    held_out, labels = zip(*(each.asked(80, heard=False) for each in folds), strict=True)
    heard = [each.asked(400, heard=True)[0] for each in folds]
    rule = temperature_per_margin(held_out, labels, heard)
    final = Student(exported, seed=99, **knowledge)
    temperature = temperature_for(rule, final.asked(500, heard=True)[0])
    logits, truth = final.asked(4000, heard=False)
    found = calibration(truth, logits / temperature)
    assert found["confidence"] == pytest.approx(found["accuracy"], abs=0.05)
    assert found["ece"] < 0.06
    # The folds' temperature as it is was right for students as sharp as theirs alone.
    plain = fit_temperature(np.concatenate(held_out), np.concatenate(labels))
    if recipe in ("under-trained", "flatter at the end"):
        assert calibration(truth, logits / plain)["ece"] > 0.3


def test_how_sharp_each_student_is_decides_no_probability():
    students = [Student(1.0, knows=1.5, seed=number) for number in range(3)]
    held_out, labels = zip(*(each.asked(60, heard=False) for each in students), strict=True)
    heard = [each.asked(100, heard=True)[0] for each in students]
    rule = temperature_per_margin(held_out, labels, heard)
    by = (0.03, 1.0, 40.0)
    assert temperature_per_margin(
        [a * b for a, b in zip(held_out, by, strict=True)],
        labels,
        [a * b for a, b in zip(heard, by, strict=True)],
    ) == pytest.approx(rule, rel=1e-9)
    assert temperature_for(rule, 7 * heard[0]) == pytest.approx(7 * temperature_for(rule, heard[0]))
    assert temperature_for(rule, heard[0]) == pytest.approx(rule * mean_margin(heard[0]))


def test_logits_without_a_margin_have_a_temperature_all_the_same():
    flat, labels = np.zeros((30, 3)), np.arange(30) % 3
    rule = temperature_per_margin([flat], [labels], [flat])
    assert temperature_for(rule, flat) == 1.0
    assert mean_margin([[1.0, 4.0, 2.5], [0.0, 0.0, -1.0]]) == 0.75
    for extreme in (1e-9, 1e9):
        low, high = TEMPERATURE_BOUNDS
        assert low <= temperature_for(rule, extreme * np.eye(3)) <= high


def test_confidence_is_the_mean_largest_probability_and_the_share_that_is_not_unsure():
    shares = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7]])
    found = confidence(np.log(shares))
    assert found == {"count": 3, "confidence": pytest.approx(1.6 / 3), "sure": pytest.approx(2 / 3)}


def test_an_exported_student_that_is_far_surer_or_less_sure_than_the_folds_is_named():
    def told(final, training=0.6, test=0.5):
        return {
            "final_training": {"confidence": final},
            "folds_training": {"confidence": training},
            "folds_test": {"confidence": test},
        }

    for final in (0.95, 0.2):
        (said,) = confidence_warnings(told(final))
        assert f"{100 * final:.0f} %, that of the folds' students in theirs 60 % and in their test" in said
    assert confidence_warnings(told(0.7)) == confidence_warnings(None) == []
    # Students that memorise are surer of what they heard, all alike.
    assert confidence_warnings(told(0.99, training=0.98, test=0.6)) == []


def test_the_change_of_a_probability_is_that_of_the_class_that_changes_most():
    before = np.array([[0.5, 0.5], [1.0, 0.0], [0.2, 0.8], [0.3, 0.7]])
    after = before + np.array([[0.1, -0.1], [-0.3, 0.3], [0.0, 0.0], [0.0, 0.2]])
    found = probability_change(before, after)
    assert found == {
        "mean": pytest.approx(0.15),
        "p95": pytest.approx(np.percentile([0.0, 0.1, 0.2, 0.3], 95)),
        "max": pytest.approx(0.3),
        "count": 4,
    }


# Whole runs

EMOTIONS = ("anger", "neutral", "sadness")
SPEAKERS = tuple(demo.SPEAKERS)[:3]
SENTENCES = tuple(demo.SENTENCES)[:7]
QUICK = ["-id", "1", "--width", "0.1", "--bn_momentum", "0.8", "-bt", "16", "--epochs", "2", "-lr", "3e-3"]


def written(folder: Path, *, turned: str = "") -> Path:
    """21 clips of each of 3 speakers; the labels of the speaker `turned` are exchanged."""
    with open(folder / f"said{turned}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker"])
        for speaker in SPEAKERS:
            for sentence in SENTENCES:
                for place, emotion in enumerate(EMOTIONS):
                    name = f"{speaker}-{sentence}-{emotion}.wav"
                    if not (folder / name).exists():
                        soundfile.write(folder / name, demo.synthesise(speaker, sentence, emotion), 16_000)
                    label = EMOTIONS[(place + 1) % 3] if speaker == turned else emotion
                    writer.writerow([name, label, speaker])
    return folder / f"said{turned}.csv"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("corpus"))


def run(manifest: Path, result: Path, name: str, *arguments: str) -> Path:
    command = ["train", "-dn", str(manifest), *QUICK, "--result", str(result), "--run", name, "-v", "0"]
    assert cli.main([*command, *arguments]) == 0
    return result / name


def told(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())["calibration"]


def arrays(path: Path) -> np.ndarray:
    with np.load(path) as stored:
        return stored["selected"]


def labels_of(manifest: Path, speaker: str) -> np.ndarray:
    with open(manifest, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == speaker]
    rows.sort(key=lambda row: row["path"])  # as utterances are
    return np.array([EMOTIONS.index(row["emotion"]) for row in rows])


@pytest.fixture(scope="module")
def exported(corpus, tmp_path_factory) -> Iterator[Path]:
    """Two of three folds, trained with MSE, exported as float32 alone."""
    from light_sernet_kd.export import tflite

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "PRECISIONS", ("float32",))
        yield run(corpus, tmp_path_factory.mktemp("result"), "mse", "-ln", "mse", "--folds", "#1,#2")


def test_each_fold_is_scaled_by_what_its_validation_speaker_says_and_the_file_by_all_of_them(
    corpus, exported
):
    found = told(exported)
    logits, labels, scaled, tested, heard = [], [], [], [], []
    for speaker, following, fold in zip(SPEAKERS, SPEAKERS[1:], found["folds"], strict=False):
        folder = exported / f"fold-{speaker}"
        logits.append(arrays(folder / "validation_logits.npz"))
        heard.append(arrays(folder / "training_logits.npz"))
        assert heard[-1].shape == (21, 3)
        labels.append(labels_of(corpus, following))
        temperature = fit_temperature(logits[-1], labels[-1])
        assert fold == {"name": speaker, "temperature": temperature, "validation_predictions": 21}
        scaled.append(arrays(folder / "test_logits.npz").astype(np.float64) / temperature)
        tested.append(labels_of(corpus, speaker))
    expected = calibration(np.concatenate(tested), np.concatenate(scaled))
    assert found["after"] == json.loads(json.dumps(expected))
    final = arrays(exported / "fold-all-speakers" / "training_logits.npz")
    assert final.shape == (63, 3)
    rule = temperature_per_margin(logits, labels, heard)
    assert (found["files"]["per_margin"], found["temperature"]) == (rule, temperature_for(rule, final))
    metrics = json.loads((exported / "metrics.json").read_text())
    assert found["before"]["accuracy"] == found["after"]["accuracy"] == metrics["pooled"]["wa"]
    assert found["before"]["nll"] != found["after"]["nll"]


def test_the_validation_logits_are_those_the_epoch_was_chosen_by(corpus, exported):
    with open(exported / f"fold-{SPEAKERS[0]}" / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    outcome = json.loads((exported / f"fold-{SPEAKERS[0]}" / "fold.json").read_text())
    logits = arrays(exported / f"fold-{SPEAKERS[0]}" / "validation_logits.npz")
    found = log_loss(labels_of(corpus, SPEAKERS[1]), logits.astype(np.float64))
    assert found == pytest.approx(float(history[outcome["best_epoch"] - 1]["val_loss"]), rel=1e-4)


def test_every_figure_is_that_of_the_tested_utterances_and_not_of_the_corpus(exported):
    recomputed.check(exported)
    metrics = json.loads((exported / "metrics.json").read_text())
    assert metrics["counts"] == dict.fromkeys(EMOTIONS, 21)
    assert metrics["pooled"]["count_per_class"] == dict.fromkeys(EMOTIONS, 14)


def test_the_file_gives_the_probabilities_of_the_scaled_logits(corpus, exported):
    import keras

    from light_sernet_kd import audio, features
    from light_sernet_kd.runner import Runner

    temperature = told(exported)["temperature"]
    student = keras.saving.load_model(exported / "fold-all-speakers" / "student.keras", compile=False)
    clips = [audio.fit(audio.read(path), 16_000) for path in sorted(corpus.parent.glob("*.wav"))[:3]]
    front_end = features.front_end_model("lsn", "mfcc", 16_000)
    logits = np.asarray(student.predict_on_batch(front_end.predict_on_batch(np.stack(clips))))
    assert np.abs(softmax(logits) - softmax(logits / temperature)).max() > 0.02
    runner = Runner(exported / "student_float32.tflite")
    assert (runner.card["temperature"], runner.card["unsure_below"]) == (temperature, 0.5)
    given = np.stack([runner.probabilities(clip) for clip in clips])
    np.testing.assert_allclose(given, softmax(logits / temperature), atol=1e-5)
    undone = given**temperature
    np.testing.assert_allclose(undone / undone.sum(axis=1, keepdims=True), softmax(logits), atol=1e-4)


def test_predictions_csv_and_the_precision_table_know_no_temperature(exported):
    predictions = evaluation.read_predictions(exported / "predictions.csv")
    logits = np.concatenate([arrays(exported / f"fold-{s}" / "test_logits.npz") for s in SPEAKERS[:2]])
    np.testing.assert_array_equal(predictions.probabilities, softmax(logits))
    with np.load(exported / f"fold-{SPEAKERS[0]}" / "tflite_probabilities.npz") as stored:
        np.testing.assert_allclose(stored["float32"], softmax(logits[:21]), atol=1e-4)


def test_the_report_tells_ece_before_and_after_and_shows_the_picture(exported):
    found, page = told(exported), (exported / "report.md").read_text()
    section = page[page.index("## Calibration") : page.index("## Pictures")]
    for when, name in (("before", "as trained"), ("after", "temperature scaled")):
        values = found[when]
        row = [f"{100 * values[key]:.1f}" for key in ("ece", "ece_by_chance")]
        row += [f"{values[key]:.3f}" for key in ("nll", "brier")]
        assert f"| {name} | {' | '.join(row)} |" in section
    assert "over 15 bins" in section
    listed = ", ".join(f"{fold['name']} {fold['temperature']:.2f}" for fold in found["folds"])
    assert f"scored on its test predictions: {listed}." in section
    assert f"divide their logits by {found['temperature']:.2f}. The student in them was" in section
    assert f"their temperature is {found['files']['per_margin']:.3g} times their mean margin" in section
    assert "](reliability.png)" in section
    assert (exported / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_no_test_label_reaches_the_temperature_that_it_is_scored_with(corpus, exported, tmp_path):
    turned = written(corpus.parent, turned=SPEAKERS[0])
    other = told(run(turned, tmp_path, "y", "-ln", "mse", "--folds", "#1", "--no-export"))
    assert other["folds"] == told(exported)["folds"][:1]
    scaled = arrays(exported / f"fold-{SPEAKERS[0]}" / "test_logits.npz").astype(np.float64)
    scaled /= other["folds"][0]["temperature"]
    honest = calibration(labels_of(corpus, SPEAKERS[0]), scaled)
    assert other["after"] == json.loads(json.dumps(calibration(labels_of(turned, SPEAKERS[0]), scaled)))
    assert other["after"]["nll"] != honest["nll"]


def test_removed_logits_and_files_of_another_temperature_are_made_anew(corpus, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "mse")
    for name in ("validation", "training"):
        for path in (tmp_path / "mse").glob(f"fold-*/{name}_logits.npz"):
            path.unlink()
    final = tmp_path / "mse" / "fold-all-speakers" / "final.json"
    before = json.loads(final.read_text())
    assert before["temperature"] == told(exported)["temperature"]
    final.write_text(json.dumps({**before, "temperature": 2 * before["temperature"]}))
    (tmp_path / "mse" / "student_float32.tflite").write_bytes(b"other")
    run(corpus, tmp_path, "mse", "-ln", "mse", "--folds", "#1,#2")
    for fold, was in zip(told(tmp_path / "mse")["folds"], told(exported)["folds"], strict=True):
        assert fold["temperature"] == pytest.approx(was["temperature"], rel=1e-4)
    after = json.loads(final.read_text())
    assert after["temperature"] == pytest.approx(told(exported)["temperature"], rel=1e-4)
    assert after["final_epochs"] == before["final_epochs"]
    assert (tmp_path / "mse" / "student_float32.tflite").stat().st_size > 10_000


@pytest.fixture(scope="module")
def redone(corpus, exported, tmp_path_factory) -> tuple[Path, str]:
    """A copy of the run that lost steps and that killed processes left things in, and what it said next."""
    from light_sernet_kd.export import tflite

    result = tmp_path_factory.mktemp("redone")
    folder = result / "mse"
    shutil.copytree(exported, folder)
    first, second = (folder / f"fold-{speaker}" for speaker in SPEAKERS[:2])
    # as a damaged history, damaged predictions and a damaged file are mended
    (first / "history.csv").write_text("epoch,loss\n")
    (first / "fold.json").unlink()
    (second / "tflite_probabilities.npz").unlink()
    # as a process that was killed after it had written the file, and before it had noted its hash
    done = json.loads((second / "fold.json").read_text())
    del done["files"]["validation_logits.npz"]
    (second / "fold.json").write_text(json.dumps(done))
    (second / "validation_logits.npz").write_bytes(b"of a killed process")
    (folder / "student_float32.tflite").write_bytes(b"cut")
    (second / "student-checkpoint.npz").write_text("of a fold that is done")
    (first / ".history.x1y2z3_4.csv").write_text("half")
    config = json.loads((folder / "config.json").read_text())
    config["resolved"]["threads"] += 3
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").unlink()
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(tflite, "PRECISIONS", ("float32",))
        run(corpus, result, "mse", "-ln", "mse", "--folds", "#1,#2", "-v", "1")
    return folder, said.getvalue()


def test_a_step_whose_outcome_is_removed_is_really_done_anew(exported, redone):
    folder, said = redone
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {
        path.relative_to(exported) for path in exported.rglob("*")
    }
    for name in ("predictions.csv", "curves.png", f"fold-{SPEAKERS[0]}/history.csv"):
        assert (folder / name).read_bytes() == (exported / name).read_bytes(), name
    assert f"fold {SPEAKERS[0]}, student ...\n" in said
    assert f"fold {SPEAKERS[1]}, student" not in said
    assert "The final student was exported anew: its files were missing, damaged or older." in said
    recomputed.check(folder)


def test_a_run_that_goes_on_with_other_threads_says_so(exported, redone):
    folder, said = redone
    count = json.loads((exported / "config.json").read_text())["resolved"]["threads"]
    assert count == accelerate.threads()
    (line,) = [line for line in said.splitlines() if "thread" in line]
    assert line.startswith(f"This run began on {count + 3} threads and continues on {count}: ")
    assert f" on {count + 3} threads.\n" in (folder / "report.md").read_text()


def test_the_exported_student_is_as_sure_as_the_folds_or_the_run_says_so(exported):
    from light_sernet_kd import experiment
    from light_sernet_kd.reporting.report import report

    metrics = json.loads((exported / "metrics.json").read_text())
    files = metrics["calibration"]["files"]
    assert [said for said in metrics["warnings"] if "exported student" in said] == confidence_warnings(files)
    assert abs(files["final_training"]["confidence"] - files["folds_training"]["confidence"]) < 0.15
    # As it was with the folds' temperature: sure of nearly everything.
    files["final_training"]["confidence"] = files["folds_training"]["confidence"] + 0.16
    metrics["warnings"] = confidence_warnings(files)
    assert metrics["warnings"][0] in experiment.summary(metrics)
    config = json.loads((exported / "config.json").read_text())
    assert f"WARNING: {metrics['warnings'][0]}" in report(metrics, config, export=metrics["export"])
