"""Calibration: the temperature, ECE and its kin against loops and other packages; and in whole runs."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.optimize import minimize_scalar
from sklearn import metrics as sklearn_metrics

from light_sernet_kd import cli, evaluation
from light_sernet_kd.corpora import demo
from light_sernet_kd.evaluation import (
    TEMPERATURE_BOUNDS,
    calibration,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    softmax,
)


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
    from light_sernet_kd import export

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "PRECISIONS", ("float32",))
        yield run(corpus, tmp_path_factory.mktemp("result"), "mse", "-ln", "mse", "--folds", "#1,#2")


def test_each_fold_is_scaled_by_what_its_validation_speaker_says_and_the_file_by_all_of_them(
    corpus, exported
):
    found = told(exported)
    logits, labels, scaled, tested = [], [], [], []
    for speaker, following, fold in zip(SPEAKERS, SPEAKERS[1:], found["folds"], strict=False):
        folder = exported / f"fold-{speaker}"
        logits.append(arrays(folder / "validation_logits.npz"))
        labels.append(labels_of(corpus, following))
        temperature = fit_temperature(logits[-1], labels[-1])
        assert fold == {"name": speaker, "temperature": temperature, "validation_predictions": 21}
        scaled.append(arrays(folder / "test_logits.npz").astype(np.float64) / temperature)
        tested.append(labels_of(corpus, speaker))
    expected = calibration(np.concatenate(tested), np.concatenate(scaled))
    assert found["after"] == json.loads(json.dumps(expected))
    assert found["temperature"] == fit_temperature(np.concatenate(logits), np.concatenate(labels))
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
    assert f"divide their logits by {found['temperature']:.2f}, fitted on all folds' validation" in section
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


def test_a_run_of_an_earlier_release_is_calibrated_and_its_files_are_made_anew(corpus, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "mse")
    for path in (tmp_path / "mse").glob("fold-*/validation_logits.npz"):
        path.unlink()
    final = tmp_path / "mse" / "fold-all-speakers" / "final.json"
    before = json.loads(final.read_text())
    assert before.pop("temperature") == told(exported)["temperature"]
    final.write_text(json.dumps(before))
    (tmp_path / "mse" / "student_float32.tflite").write_bytes(b"older")
    run(corpus, tmp_path, "mse", "-ln", "mse", "--folds", "#1,#2")
    for fold, was in zip(told(tmp_path / "mse")["folds"], told(exported)["folds"], strict=True):
        assert fold["temperature"] == pytest.approx(was["temperature"], rel=1e-4)
    after = json.loads(final.read_text())
    assert after["temperature"] == pytest.approx(told(exported)["temperature"], rel=1e-4)
    assert after["final_epochs"] == before["final_epochs"]
    assert (tmp_path / "mse" / "student_float32.tflite").stat().st_size > 10_000
