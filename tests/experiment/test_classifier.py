"""`EmotionClassifier` against its exported file, and by scikit-learn's own checks."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator
from small_runs import EMOTIONS, SENTENCES, SPEAKERS

from light_sernet_kd import EmotionClassifier, Runner
from light_sernet_kd.errors import UserError

pytestmark = pytest.mark.usefixtures("shallow")
QUICK = {"width": 0.15, "learning_rate": 3e-3, "batch_norm_momentum": 0.8, "batch_size": 8}
# What scikit-learn expects of tables of numbers, and recordings are not.
EXPECTED = {
    "check_n_features_in_after_fitting": "recordings may have any length, also other ones than in training",
    "check_classifiers_train": "it expects recordings of another length than in training to be refused",
}


def small(**parameters):
    return EmotionClassifier(recipe="own", epochs=1, settings=QUICK, **{"input_seconds": 1.2, **parameters})


@pytest.fixture(scope="module")
def paths(manifest):
    return [manifest.parent / f"{s}-{t}-{e}.wav" for s in SPEAKERS for t in SENTENCES for e in EMOTIONS]


LABELS = [e for _ in SPEAKERS for _ in SENTENCES for e in EMOTIONS]
GROUPS = [s for s in SPEAKERS for _ in SENTENCES for _ in EMOTIONS]


@pytest.fixture(scope="module")
def fitted(paths):
    from small_runs import no_graphs

    with no_graphs():
        return small().fit(paths, LABELS, groups=GROUPS)


def test_what_is_fitted_answers_as_its_exported_file(fitted, paths, tmp_path):
    (tmp_path / "student.tflite").write_bytes(fitted.model_)
    runner = Runner(tmp_path / "student.tflite")
    expected = [[*runner.classify(path).probabilities.values()] for path in paths[:4]]
    probabilities = fitted.predict_proba(paths[:4])
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert fitted.classes_.tolist() == sorted(EMOTIONS)
    named = [fitted.classes_[row.argmax()] for row in probabilities]
    assert fitted.predict(list(map(str, paths[:4]))).tolist() == named
    assert fitted.score(paths[:4], LABELS[:4]) == accuracy_score(LABELS[:4], named)


def test_a_waveform_is_answered_as_its_file(fitted, paths):
    sounds = [soundfile.read(path, dtype="float32")[0] for path in paths[:3]]
    assert len({len(sound) for sound in sounds}) > 1
    from_files = fitted.predict_proba(paths[:3])
    np.testing.assert_allclose(fitted.predict_proba(sounds), from_files, atol=1e-6)
    pcm = [np.int16(np.round(sound * 32768)) for sound in sounds]
    np.testing.assert_allclose(fitted.predict_proba(pcm), from_files, atol=1e-4)


class Column:
    """What a Series of pandas or polars has in common, where pandas is not installed."""

    def __init__(self, values):
        self._values = np.array(values, object)
        self.shape = self._values.shape

    def to_numpy(self):
        return self._values


def test_columns_of_a_table_are_taken_as_lists_are(fitted, paths, monkeypatch):
    try:
        from pandas import Series
    except ImportError:
        Series = Column
    named = [*map(str, paths)]
    np.testing.assert_array_equal(fitted.predict_proba(Series(named[:3])), fitted.predict_proba(named[:3]))
    sounds = [soundfile.read(path, dtype="float32")[0] for path in paths[:3]]
    np.testing.assert_array_equal(fitted.predict_proba(Series(sounds)), fitted.predict_proba(sounds))
    tables = []

    def trained(self, table, speakers):
        tables.append((table.read_text(encoding="utf-8"), speakers))
        return fitted.model_

    # What is trained on is in the table.
    monkeypatch.setattr(EmotionClassifier, "_trained", trained)
    of_series = small().fit(Series(named), Series(LABELS), groups=Series(GROUPS))
    of_lists = small().fit(named, LABELS, groups=GROUPS)
    assert tables[0] == tables[1]
    assert tables[0][1] == 3
    np.testing.assert_array_equal(of_series.classes_, of_lists.classes_)


def test_one_that_is_fitted_can_be_pickled_and_one_that_is_cloned_is_not_fitted(fitted, paths):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(paths[:3]), fitted.predict_proba(paths[:3]))
    fresh = clone(fitted).set_params(seed=5)
    assert (fresh.seed, fitted.seed) == (5, 0)
    with pytest.raises(NotFittedError):
        fresh.predict(paths[:1])


@pytest.mark.parametrize(
    ("parameters", "labels", "message"),
    [
        ({}, np.eye(3)[[0, 1, 2]], r"got an array of shape \(3, 3\) instead\. One-hot labels become labels"),
        ({}, ["anger", "anger", "anger"], "at least 2 classes, found 1 class: anger"),
        ({}, ["anger", "fear"], "inconsistent numbers of samples"),
        ({"student": "resnet"}, LABELS[:3], "unknown student 'resnet'"),
        ({"settings": {"epoch": 3}}, LABELS[:3], "unknown setting 'epoch'"),
        ({"settings": 3}, LABELS[:3], "settings must be a mapping"),
        ({"precision": "int4"}, LABELS[:3], "unknown precision 'int4'"),
    ],
)
def test_what_cannot_be_fitted_is_a_value_error_and_a_users(parameters, labels, message, paths):
    with pytest.raises(ValueError, match=message) as found:
        small().set_params(**parameters).fit(paths[:3], labels)
    assert isinstance(found.value, UserError) or "samples" in message


def test_the_package_imports_no_scikit_learn():
    code = "import sys, light_sernet_kd, light_sernet_kd.cli; print('sklearn' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


# Those that train nothing, or stop before.
WITHOUT_TRAINING = (
    "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types",
    "check_estimator_repr", "check_no_attributes_set_in_init", "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order", "check_complex_data",
    "check_estimators_empty_data_messages", "check_estimator_sparse_array", "check_estimator_sparse_matrix",
    "check_classifiers_one_label", "check_parameters_default_constructible",
)  # fmt: skip


def named(check):
    return getattr(check, "func", check).__name__


@pytest.mark.usefixtures("eager")
def test_the_checks_of_scikit_learn_that_train_nothing_pass():
    done = set()
    for estimator, check in estimator_checks_generator(small(input_seconds=0.25)):
        if named(check) in WITHOUT_TRAINING:
            check(estimator)
            done.add(named(check))
    assert len(done) >= 12


@pytest.mark.every
@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn_pass():
    results = check_estimator(small(input_seconds=0.25), expected_failed_checks=EXPECTED, on_fail=None)
    failed = {each["check_name"]: each["exception"] for each in results if each["status"] == "failed"}
    assert failed == {}
    assert {each["check_name"] for each in results if each["status"] == "xfail"} == {*EXPECTED}
