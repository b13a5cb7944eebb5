"""Scores against scikit-learn and against values worked by hand; predictions.csv bit for bit."""

import csv
import time

import numpy as np
import pytest
from sklearn import metrics

from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import (
    SUMMARIES,
    Predictions,
    answer_warnings,
    bootstrap_ci,
    bootstrap_difference_ci,
    confusion,
    log_loss,
    read_predictions,
    scores,
    softmax,
    write_predictions,
)

CLASSES = ("anger", "fear", "neutral")


def random_results(seed, *, classes=5, count=200, labelled=None):
    """Labels, predictions that are right about half the time, speakers."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(labelled or classes, size=count)
    predicted = np.where(generator.random(count) < 0.5, labels, generator.integers(classes, size=count))
    return labels, predicted, np.array([f"s{n}" for n in generator.integers(6, size=count)])


def test_scores_of_a_matrix_worked_by_hand():
    # anger: 3 of 4 right; fear: 1 of 1; neutral: 2 of 5, the others guessed anger.
    labels = np.array([0, 0, 0, 0, 1, 2, 2, 2, 2, 2])
    predicted = np.array([0, 0, 0, 1, 1, 2, 2, 0, 0, 0])
    result = scores(labels, predicted, CLASSES)
    assert confusion(labels, predicted, CLASSES).tolist() == [[3, 1, 0], [0, 1, 0], [3, 0, 2]]
    assert result.recall_per_class == {"anger": 0.75, "fear": 1.0, "neutral": 0.4}
    assert result.ua == pytest.approx((0.75 + 1 + 0.4) / 3)
    assert result.wa == pytest.approx(6 / 10)
    f1 = [2 * 3 / (4 + 6), 2 * 1 / (1 + 2), 2 * 2 / (5 + 2)]
    assert result.macro_f1 == pytest.approx(sum(f1) / 3)
    assert result.weighted_f1 == pytest.approx((4 * f1[0] + 1 * f1[1] + 5 * f1[2]) / 10)
    assert result.count == 10
    assert result.as_dict()["recall_per_class"]["fear"] == 1.0


@pytest.mark.parametrize("labelled", [5, 3], ids=["all classes", "two classes only predicted"])
@pytest.mark.parametrize("seed", range(5))
# balanced_accuracy_score warns of the very case meant here: predictions of a class no label has.
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_agree_with_scikit_learn(seed, labelled):
    labels, predicted, _ = random_results(seed, labelled=labelled)
    result = scores(labels, predicted, "abcde")
    assert result.ua == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert result.wa == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert result.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert result.weighted_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="weighted"))
    np.testing.assert_array_equal(
        confusion(labels, predicted, "abcde"), metrics.confusion_matrix(labels, predicted, labels=range(5))
    )


def test_a_class_without_test_utterance_has_no_recall_and_leaves_ua_alone():
    # fear never occurs: UA is the mean of 1/2 and 1, though fear was guessed once.
    result = scores([0, 0, 2], [0, 1, 2], CLASSES)
    assert result.recall_per_class == {"anger": 0.5, "fear": None, "neutral": 1.0}
    assert result.ua == 0.75


def test_scores_refuse_what_is_no_index_of_a_class():
    with pytest.raises(ValueError, match="labels run from 0 to 3; expected 0 to 2"):
        scores([0, 3], [0, 0], CLASSES)
    with pytest.raises(ValueError, match="predictions run from -1"):
        scores([0, 1], [0, -1], CLASSES)
    with pytest.raises(ValueError, match="row of integers"):
        scores([0, 1], [[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]], CLASSES)
    with pytest.raises(ValueError, match="2 labels but 1 predictions"):
        scores([0, 1], [0], CLASSES)
    with pytest.raises(ValueError, match="no utterance"):
        scores([], [], CLASSES)


def answers(*folds, classes=CLASSES):
    """Predictions of folds `(labels, predicted)`, each a string of class initials."""
    place = {name[0]: index for index, name in enumerate(classes)}
    rows = [(str(n), place[a], place[b]) for n, fold in enumerate(folds) for a, b in zip(*fold, strict=True)]
    names, labels, predicted = zip(*rows, strict=True)
    return Predictions(
        classes,
        tuple(map(str, range(len(rows)))),
        names,
        np.array(labels),
        np.array(predicted),
        np.full((len(rows), len(classes)), 1 / len(classes), np.float32),
    )


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        ([("afn", "afn"), ("an", "nf")], []),
        (
            [("afn", "aaa"), ("aan", "aaa")],
            [
                "the student answers anger to every test utterance in every fold",
                "never predicted: fear (1 test utterance), neutral (2 test utterances)",
            ],
        ),
        (
            [("afn", "afn"), ("an", "nn"), ("af", "nn"), ("fn", "ff")],
            [
                "the student answers neutral to every test utterance in fold 1, 2",
                "the student answers fear to every test utterance in fold 3",
            ],
        ),
        # one class tested: always answering it is no fault
        ([("afn", "nfa"), ("aa", "aa")], []),
        # a class that no fold tests is missed by nobody
        ([("anan", "anna")], []),
        ([("afan", "aann")], ["never predicted: fear (1 test utterance)"]),
    ],
)
def test_answers_of_one_class_and_classes_never_answered_are_said(folds, said):
    assert answer_warnings(answers(*folds)) == said


def test_bootstrap_equals_a_loop_that_copies_speakers():
    labels, predicted, speakers = random_results(3, count=90)
    names = np.unique(speakers)
    values = {name: [] for name in SUMMARIES}
    draws = np.random.default_rng(11).multinomial(len(names), [1 / len(names)] * len(names), size=60)
    for times in draws:
        rows = np.concatenate(
            [
                np.flatnonzero(speakers == name)
                for name, count in zip(names, times, strict=True)
                for _ in range(count)
            ]
        )
        resample = scores(labels[rows], predicted[rows], "abcde")
        for name in SUMMARIES:
            values[name].append(getattr(resample, name))
    interval = bootstrap_ci(labels, predicted, speakers, "abcde", resamples=60, level=0.9, seed=11)
    for name in SUMMARIES:
        assert interval[name] == pytest.approx(np.percentile(values[name], [5, 95]), abs=1e-12)


def test_bootstrap_of_speakers_all_right_or_all_wrong_is_binomial():
    # 20 speakers of 7 utterances, 10 all right: WA of a resample is Binomial(20, 1/2) / 20, whose 2.5 % and
    # 97.5 % points are 6 and 14 (P(X<=5) = 0.0207, P(X<=6) = 0.0577).
    speakers = np.repeat(np.arange(20), 7)
    labels = np.zeros(140, int)
    predicted = (speakers % 2).astype(int)
    interval = bootstrap_ci(labels, predicted, speakers, CLASSES, resamples=20_000)
    assert interval["wa"] == pytest.approx((6 / 20, 14 / 20))
    # Utterances drawn one by one would give a band of about ±0.08 instead: twenty votes, not 140.
    alone = bootstrap_ci(labels, predicted, np.arange(140), CLASSES)
    assert alone["wa"][1] - alone["wa"][0] < 0.2


def test_bootstrap_depends_on_the_seed_alone_not_on_the_order_of_utterances():
    labels, predicted, speakers = random_results(5)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    first = bootstrap_ci(labels, predicted, speakers, "abcde", seed=1)
    assert bootstrap_ci(labels[shuffled], predicted[shuffled], speakers[shuffled], "abcde", seed=1) == first
    assert bootstrap_ci(labels, predicted, speakers, "abcde", seed=2) != first


def test_the_interval_of_a_difference_is_that_of_both_on_the_same_drawn_speakers():
    labels, predicted, speakers = random_results(4, count=120)
    other = np.where(np.arange(120) % 3 == 0, labels, predicted)
    names = np.unique(speakers)
    draws = np.random.default_rng(11).multinomial(len(names), [1 / len(names)] * len(names), size=60)
    values = {name: [] for name in SUMMARIES}
    for times in draws:
        rows = np.concatenate(
            [np.flatnonzero(speakers == n) for n, t in zip(names, times, strict=True) for _ in range(t)]
        )
        pair = [scores(labels[rows], each[rows], "abcde") for each in (predicted, other)]
        for name in SUMMARIES:
            values[name].append(getattr(pair[1], name) - getattr(pair[0], name))
    interval = bootstrap_difference_ci(
        labels, predicted, other, speakers, "abcde", resamples=60, level=0.9, seed=11
    )
    for name in SUMMARIES:
        assert interval[name] == pytest.approx(np.percentile(values[name], [5, 95]), abs=1e-12)
    same = bootstrap_difference_ci(labels, predicted, predicted, speakers, "abcde")
    assert set(same.values()) == {(0.0, 0.0)}
    assert bootstrap_difference_ci(labels[:2], other[:2], other[:2], ["a", "b"], "abcde") is None


def test_fewer_than_three_speakers_give_no_interval():
    labels, predicted = [0, 1, 2, 0], [0, 1, 0, 0]
    assert bootstrap_ci(labels, predicted, ["a", "b", "a", "b"], CLASSES) is None
    assert bootstrap_ci(labels, predicted, ["a", "b", "c", "b"], CLASSES)["wa"][1] == 1.0


def test_bootstrap_keeps_a_class_that_one_speaker_alone_says():
    # Without speaker c no fear occurs; UA of those resamples is over the other classes, never NaN.
    interval = bootstrap_ci([0, 0, 1], [0, 2, 1], ["a", "b", "c"], CLASSES)
    assert np.isfinite(list(interval.values())).all()
    with pytest.raises(ValueError, match="2 groups for 3 labels"):
        bootstrap_ci([0, 0, 1], [0, 2, 1], ["a", "b"], CLASSES)


def test_two_thousand_resamples_of_a_large_corpus_take_under_a_second():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(12, size=(2, 12_000))
    began = time.process_time()
    bootstrap_ci(labels, predicted, generator.integers(91, size=12_000), "abcdefghijkl")
    assert time.process_time() - began < 1


def test_log_loss_is_scikit_learns_and_survives_large_logits():
    generator = np.random.default_rng(0)
    labels, logits = generator.integers(3, size=140), generator.normal(size=(140, 3)) * 3
    powers = np.exp(logits)
    expected = metrics.log_loss(labels, powers / powers.sum(axis=1, keepdims=True), labels=[0, 1, 2])
    assert log_loss(labels, logits) == pytest.approx(expected)
    assert log_loss(np.array([0]), np.array([[-500.0, 500.0]])) == pytest.approx(1000)


def test_softmax_is_stable_and_exact_for_known_odds():
    np.testing.assert_allclose(softmax(np.log([[1.0, 2.0, 7.0]])), [[0.1, 0.2, 0.7]])
    np.testing.assert_array_equal(softmax(np.array([[500.0, -500.0, 500.0]])), [[0.5, 0.0, 0.5]])
    assert softmax(np.zeros((2, 3), np.float32)).dtype == np.float32


def example_predictions(classes=("anger", "id", "label", "p_fear, mild")):
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.full(len(classes), 0.2), size=300).astype(np.float32)
    probabilities[0] = [1.0, 0.0, np.nextafter(np.float32(0), np.float32(1)), np.float32(1 / 3)]
    return Predictions(
        classes=classes,
        ids=tuple(f'03a,"{n}" ü' for n in range(300)),
        folds=tuple(f"speaker {n % 10}" for n in range(300)),
        labels=generator.integers(len(classes), size=300),
        predicted=generator.integers(len(classes), size=300),
        probabilities=probabilities,
    )


def test_predictions_come_back_bit_for_bit_even_for_a_class_named_id(tmp_path):
    written = example_predictions()
    write_predictions(tmp_path / "predictions.csv", written)
    read = read_predictions(tmp_path / "predictions.csv")
    assert (read.classes, read.ids, read.folds) == (written.classes, written.ids, written.folds)
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_array_equal(read.predicted, written.predicted)
    assert read.probabilities.tobytes() == written.probabilities.tobytes()


def test_predictions_name_classes_and_columns_for_any_csv_reader(tmp_path):
    written = example_predictions()
    write_predictions(tmp_path / "predictions.csv", written)
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "id",
        "fold",
        "label",
        "predicted",
        "p_anger",
        "p_id",
        "p_label",
        "p_p_fear, mild",
    ]
    assert rows[7]["label"] == written.classes[written.labels[7]]
    assert rows[7]["predicted"] == written.classes[written.predicted[7]]


def test_predictions_that_do_not_fit_together_are_refused_before_anything_is_written():
    with pytest.raises(ValueError, match="2 ids with 2 folds, 1 labels"):
        Predictions(("a", "b"), ("x", "y"), ("1", "1"), np.zeros(1, int), np.zeros(2, int), np.ones((2, 2)))
    with pytest.raises(ValueError, match="predictions run from -1"):
        Predictions(("a", "b"), ("x",), ("1",), np.zeros(1, int), np.full(1, -1), np.ones((1, 2)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns none; expected id, fold, label, predicted, then p_<class>"),
        ("id,fold,label,p_a\n", "columns id, fold, label, p_a; expected"),
        ("id,fold,label,predicted,p_a,p_a\n", "once per class"),
        ("id,fold,label,predicted,p_a,p_b\nx,1,a,c,1,0\n", "row 1: class 'c' has no column; .* a, b"),
        ("id,fold,label,predicted,p_a,p_b\nx,1,a,b,1,0\ny,1,a,b,1\n", "row 2: 1 probabilities for 2 classes"),
        ("id,fold,label,predicted,p_a,p_b\nx,1,a,b,1,much\n", "row 1: could not convert .*much"),
    ],
)
def test_a_damaged_predictions_file_is_refused_with_its_row(tmp_path, text, message):
    path = tmp_path / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_predictions(path)


def test_an_absent_predictions_file_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.csv: No such file"):
        read_predictions(tmp_path / "none.csv")
