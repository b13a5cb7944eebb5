"""A classifier in scikit-learn's style over the training of a run."""

import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from light_sernet_kd.config import PRECISIONS, SAMPLE_RATE, RunOptions, Settings
from light_sernet_kd.data.resolve_settings import resolve_settings
from light_sernet_kd.device.whole import Runner
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.engines import EXPORTS

_SPLIT_BY_CHANCE = "random"


class InputError(UserError, ValueError):
    """What a classifier was given cannot be used; scikit-learn expects a `ValueError`."""


class EmotionClassifier(ClassifierMixin, BaseEstimator):
    """A student that is fitted to recordings and labels, for pipelines and cross-validation of scikit-learn.

    `fit` trains one student to choose its number of epochs on recordings that are left out, of other speakers
    where `groups` names them, then another on all recordings, which is exported and answers. Nothing stays on
    disk, and what happens is logged to `light_sernet_kd`. A fitted one can be pickled: it holds the exported
    file.

    Args:
        student, recipe, distillation, teacher, epochs, input_seconds, seed: as `Settings` has them.
        sample_rate: of waveforms, in Hz.
        precision: of the exported file, one of `PRECISIONS`.
        settings: more of `Settings` by their names, which win over those above.

    Attributes:
        classes_: the labels, in the order of `predict_proba`.
        model_: the exported file, bytes.

    >>> from sklearn.base import clone
    >>> classifier = EmotionClassifier(epochs=20, settings={"width": 0.5})
    >>> clone(classifier).set_params(seed=3).get_params()["seed"]
    3
    """

    def __init__(  # noqa: PLR0913 (scikit-learn's way: a parameter per setting)
        self,
        *,
        student="light_sernet",
        recipe="robust",
        distillation="pure",
        teacher=None,
        epochs=None,
        input_seconds=3.0,
        seed=0,
        sample_rate=SAMPLE_RATE,
        precision="float32",
        settings=None,
    ):
        self.student = student
        self.recipe = recipe
        self.distillation = distillation
        self.teacher = teacher
        self.epochs = epochs
        self.input_seconds = input_seconds
        self.seed = seed
        self.sample_rate = sample_rate
        self.precision = precision
        self.settings = settings

    def fit(self, X: Any, y: Any, groups: Any = None) -> "EmotionClassifier":
        """Train on recordings.

        Args:
            X: paths of recordings; or waveforms, as an array `(recordings, samples)` or a list of arrays
                `(n,)`, floating-point with full scale 1. int16 is divided by 32768. Each of the arguments may
                be a Series of pandas or polars.
            y: a label per recording; numbers or text.
            groups: who speaks, per recording. Without it, recordings of one speaker may be on both sides of
                the choice of the epoch, which is then too late.

        Raises:
            ValueError: what cannot be trained on.
        """
        recordings = self._recordings(X)
        y = column_or_1d(_single_labels(_unwrapped(y)), warn=True)
        check_consistent_length(recordings, y)
        check_classification_targets(y)
        self.classes_, indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"a classifier needs at least 2 classes, found 1 class: {self.classes_[0]}.")
        names = _names(self.classes_)
        speakers = None
        if groups is not None:
            groups = column_or_1d(_unwrapped(groups))
            check_consistent_length(recordings, groups)
            speakers = [f"speaker-{number}" for number in np.unique(groups, return_inverse=True)[1]]
        if isinstance(recordings, np.ndarray):
            self.n_features_in_ = recordings.shape[1]
        with tempfile.TemporaryDirectory() as folder:
            table = _write_table(
                Path(folder), recordings, [names[index] for index in indices], speakers, self.sample_rate
            )
            try:
                self.model_ = self._trained(table, len(set(speakers or ())))
            except UserError as error:
                raise InputError(str(error)) from error
        self._open()
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `(recordings, classes)` in the order of `classes_`, as `Runner.classify` has them."""
        check_is_fitted(self, "model_")
        recordings = self._recordings(X)
        given: dict[str, Any] = {}
        if not isinstance(recordings[0], str | Path):
            given["sample_rate"] = self.sample_rate
        answers = [self._runner.classify(each, **given).probabilities for each in recordings]
        shares = np.array([[answer[name] for name in _names(self.classes_)] for answer in answers])
        return shares / shares.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest label of each recording, also where the student is unsure."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        # of rows of numbers that are no recordings
        tags.classifier_tags.poor_score = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("_runner", "_folder"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            self._open()

    def _open(self) -> None:
        """The exported file, which the runner reads as a file."""
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        path = Path(self._folder.name) / f"student_{self.precision}.tflite"
        path.write_bytes(self.model_)
        self._runner = Runner(path)

    def _recordings(self, X: Any) -> Any:
        """Paths, or waveforms of one length as an array, or of several as a list."""
        X = _unwrapped(X)
        listed = list(X) if isinstance(X, Sequence) and not isinstance(X, str) else X
        if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.kind in "OTU":
            listed = X.tolist()
        if isinstance(listed, list) and listed:
            if all(isinstance(each, str | Path) for each in listed):
                return listed
            if all(isinstance(each, np.ndarray) and each.ndim == 1 for each in listed):
                return [_as_floats(check_array(each[None], dtype=_kept(each)))[0] for each in listed]
        return _as_floats(check_array(X, dtype=_kept(X)))

    def _settings(self, table: Path, speakers: int) -> Settings:
        values: dict[str, Any] = {
            "student": self.student,
            "recipe": self.recipe,
            "distillation": self.distillation,
            "teacher": self.teacher,
            "epochs": self.epochs,
            "input_seconds": float(self.input_seconds),
            "seed": self.seed,
            # One fold chooses the number of epochs, unless the settings say otherwise.
            "folds": ("#1",),
            "engine": EXPORTS,
            "corpus": table,
        }
        if speakers < 2:
            values["protocol"] = _SPLIT_BY_CHANCE
        if not isinstance(self.settings or {}, Mapping):
            raise InputError(f"settings must be a mapping of names to values, found {self.settings!r}.")
        return resolve_settings({**values, **(self.settings or {})}, table.parent)

    def _trained(self, table: Path, speakers: int) -> bytes:
        """The exported file of a student of all recordings."""
        from light_sernet_kd.experiment.exported.conversion import convert
        from light_sernet_kd.experiment.exported.final import train_final
        from light_sernet_kd.experiment.results.calibration import final_logits, final_temperature
        from light_sernet_kd.experiment.run import opened, run_folds
        from light_sernet_kd.reporting.display import Display
        from light_sernet_kd.training.network import load_student

        precision = choose("precision", self.precision, PRECISIONS)
        settings = self._settings(table, speakers)
        result = table.parent / "result"
        options = RunOptions(data=table.parent, result=result, run="fit")
        with opened(settings, options, Display()) as run:
            outcomes = run_folds(run)
            final = run.selection.final_fold
            train_final(run, outcomes)
            convert(
                run,
                final,
                result,
                run.step(final).read("student.keras", load_student),
                temperature=final_temperature(run, outcomes, final_logits(run)),
                precisions=[precision],
            )
        return (result / f"student_{precision}.tflite").read_bytes()


def _unwrapped(values: Any) -> Any:
    """The array in a Series of pandas or polars; anything else as it is."""
    is_series = hasattr(values, "to_numpy") and len(getattr(values, "shape", ())) == 1
    return values.to_numpy() if is_series else values


def _single_labels(y: Any) -> Any:
    """Labels, one per recording.

    Raises:
        InputError: they are one-hot.
    """
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None: a label per recording.")
    shape = np.asarray(y).shape
    if len(shape) == 2 and shape[1] > 1:
        raise InputError(
            f"y should be a 1d array of labels, got an array of shape {shape} instead. One-hot labels become "
            "labels with argmax(axis=1)."
        )
    return y


def _names(classes: np.ndarray) -> list[str]:
    """What the classes are called within, in the same order: labels may be anything."""
    return [f"class{number:05d}" for number in range(len(classes))]


def _kept(X: Any) -> Any:
    return None if getattr(X, "dtype", None) == np.int16 else np.float32


def _as_floats(waveforms: np.ndarray) -> np.ndarray:
    return waveforms.astype(np.float32) / 32768 if waveforms.dtype == np.int16 else waveforms


def _write_table(
    folder: Path, recordings: Any, labels: Sequence[str], speakers: Sequence[str] | None, sample_rate: int
) -> Path:
    """The manifest of the recordings, whose waveforms are written beside it."""
    digits = len(str(len(labels)))
    with open(folder / "recordings.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "path", "emotion", "speaker"])
        for number, (recording, label) in enumerate(zip(recordings, labels, strict=True)):
            name = f"{number:0{digits}}"
            if isinstance(recording, str | Path):
                path = Path(recording).resolve()
            else:
                path = folder / f"{name}.wav"
                soundfile.write(path, recording, sample_rate, subtype="FLOAT")
            rows.writerow([name, path, label, speakers[number] if speakers else "unknown"])
    return folder / "recordings.csv"
