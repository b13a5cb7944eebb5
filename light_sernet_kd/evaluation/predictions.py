"""What a student said about each utterance, and predictions.csv."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation.scoring import confusion
from light_sernet_kd.files import atomic, open_regular

# A class may be called anything, "id" and "label" too; with the prefix no class hides another column.
PROBABILITY_PREFIX = "p_"
TRUE_SUFFIX = "_true"
PREDICTION_COLUMNS = ("id", "fold", "label", "predicted")
_WITHOUT_CLASSES = PREDICTION_COLUMNS[:2]


@dataclass(frozen=True)
class Predictions:
    """What a student said about N utterances, in the order of `ids`.

    Attributes:
        classes: none, where the student gives ratings alone.
        labels, predicted: `(N,)` indices into `classes`. `predicted` is kept beside the probabilities
            because two logits that differ can round to one probability.
        probabilities: `(N, classes)` float32.
        dimensions: name → the answer and the rating of each utterance, `(N,)` each on the corpus's scale; a
            rating that nobody gave is NaN.

    Raises:
        ValueError: their lengths differ.

    >>> from light_sernet_kd.evaluation import scores
    >>> predictions = Predictions(
    ...     classes=("anger", "fear"), ids=("clip-1", "clip-2"), folds=("ann", "bob"),
    ...     labels=np.array([0, 1]), predicted=np.array([0, 0]),
    ...     probabilities=np.array([[0.9, 0.1], [0.6, 0.4]], np.float32),
    ... )
    >>> scores(predictions.labels, predictions.predicted, predictions.classes).wa
    0.5
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    folds: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    dimensions: Mapping[str, Sequence[NDArray[np.float64]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.ids)
        lengths = {len(self.folds), len(self.labels), len(self.predicted), len(self.probabilities)}
        if lengths != {count} or self.probabilities.shape != (count, len(self.classes)):
            raise ValueError(
                f"{count} ids with {len(self.folds)} folds, {len(self.labels)} labels, {len(self.predicted)} "
                f"predictions and probabilities {self.probabilities.shape}; expected {count} of each and "
                f"{len(self.classes)} probabilities per id"
            )
        # Refuses an index without a class; -1 would otherwise be written as the last class's name.
        if self.classes:
            confusion(self.labels, self.predicted, self.classes)


def write_predictions(path: str | os.PathLike[str], predictions: Predictions) -> None:
    """Write a CSV file with columns id, fold, label, predicted, then `p_<class>` per class.

    `label` and `predicted` are class names. Of each dimension follow its answer, `arousal`, and its rating,
    `arousal_true`, which is empty where nobody gave one. Without classes only id and fold stand before them.
    The file is whole or absent.
    """
    rated = [values for pair in predictions.dimensions.values() for values in pair]
    names = [each for name in predictions.dimensions for each in (name, name + TRUE_SUFFIX)]
    classes = predictions.classes
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        fixed = PREDICTION_COLUMNS if classes else _WITHOUT_CLASSES
        writer.writerow([*fixed, *(PROBABILITY_PREFIX + name for name in classes), *names])
        for identity, fold, label, guess, shares, *values in zip(
            predictions.ids,
            predictions.folds,
            predictions.labels,
            predictions.predicted,
            predictions.probabilities.tolist(),
            *rated,
            strict=True,
        ):
            # Nine significant digits identify any float32.
            cells = (f"{p:.9g}" for p in shares)
            numbers = ("" if math.isnan(value) else repr(float(value)) for value in values)
            named = [classes[label], classes[guess]] if classes else []
            writer.writerow([identity, fold, *named, *cells, *numbers])


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read what `write_predictions` wrote: the same values, bit for bit.

    Raises:
        UserError: the file is absent, or a column or value is not what was written.
    """
    try:
        # utf-8-sig: a spreadsheet that saved the file again puts a byte order mark in front.
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
    except OSError as error:
        raise UserError(
            f"cannot read predictions: {path}: {error.strerror}. Evaluate the run first."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8 ({error}); evaluate the run again.") from error
    header = lines[0] if lines else []
    if tuple(header[:2]) == _WITHOUT_CLASSES and header[2:3] != ["label"]:
        return _ratings_alone(path, header, lines[1:])
    fixed, rest = header[: len(PREDICTION_COLUMNS)], header[len(PREDICTION_COLUMNS) :]
    # Those of dimensions stand at the end, two of each.
    rest, rated = _without_dimensions(rest)
    classes = tuple(name.removeprefix(PROBABILITY_PREFIX) for name in rest)
    if (
        tuple(fixed) != PREDICTION_COLUMNS
        or not all(name.startswith(PROBABILITY_PREFIX) for name in rest)
        or not classes
        or len(set(classes)) < len(classes)
    ):
        raise UserError(
            f"{path} begins with columns {', '.join(header) or 'none'}; expected "
            f"{', '.join(PREDICTION_COLUMNS)}, then {PROBABILITY_PREFIX}<class> once per class, then a "
            f"dimension and its {TRUE_SUFFIX} in turn."
        )
    index = {name: number for number, name in enumerate(classes)}
    ids, folds, labels, predicted, probabilities, values = [], [], [], [], [], []
    for number, line in enumerate(lines[1:], start=1):
        try:
            identity, fold, label, guess, *shares = line
            if len(shares) != len(classes) + 2 * len(rated):
                count = len(shares) - 2 * len(rated)
                raise ValueError(f"{count} probabilities for {len(classes)} classes")
            values.append([float(cell or "nan") for cell in shares[len(classes) :]])
            del shares[len(classes) :]
            labels.append(index[label])
            predicted.append(index[guess])
            probabilities.append([float(share) for share in shares])
        except KeyError as error:
            raise UserError(
                f"{path}, row {number}: class {error} has no column; the classes are {', '.join(classes)}."
            ) from error
        except ValueError as error:
            raise UserError(f"{path}, row {number}: {error}; evaluate the run again.") from error
        ids.append(identity)
        folds.append(fold)
    return Predictions(
        classes=classes,
        ids=tuple(ids),
        folds=tuple(folds),
        labels=np.array(labels, np.int64),
        predicted=np.array(predicted, np.int64),
        probabilities=np.array(probabilities, np.float32).reshape(len(ids), len(classes)),
        dimensions=_pairs(rated, np.array(values, np.float64).reshape(len(ids), 2 * len(rated))),
    )


def _ratings_alone(
    path: str | os.PathLike[str], header: Sequence[str], rows: Sequence[Sequence[str]]
) -> Predictions:
    """What a student said who gives no classes."""
    others, rated = _without_dimensions(list(header[2:]))
    if others or not rated:
        raise UserError(
            f"{path} begins with columns {', '.join(header)}; expected {', '.join(_WITHOUT_CLASSES)}, then a "
            f"dimension and its {TRUE_SUFFIX} in turn."
        )
    values = []
    for number, row in enumerate(rows, start=1):
        try:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} values for {len(header)} columns")
            values.append([float(cell or "nan") for cell in row[2:]])
        except ValueError as error:
            raise UserError(f"{path}, row {number}: {error}; evaluate the run again.") from error
    return Predictions(
        classes=(),
        ids=tuple(row[0] for row in rows),
        folds=tuple(row[1] for row in rows),
        labels=np.zeros(len(rows), np.int64),
        predicted=np.zeros(len(rows), np.int64),
        probabilities=np.zeros((len(rows), 0), np.float32),
        dimensions=_pairs(rated, np.array(values, np.float64).reshape(len(rows), 2 * len(rated))),
    )


def _without_dimensions(names: list[str]) -> tuple[list[str], list[str]]:
    """The columns before those of dimensions, and the dimensions."""
    rated: list[str] = []
    while (
        len(names) > 1
        and names[-1] == names[-2] + TRUE_SUFFIX
        and not names[-2].startswith(PROBABILITY_PREFIX)
    ):
        rated.insert(0, names[-2])
        names = names[:-2]
    return names, rated


def _pairs(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, tuple[NDArray[np.float64], ...]]:
    return {name: (values[:, 2 * at], values[:, 2 * at + 1]) for at, name in enumerate(names)}


def answer_warnings(predictions: Predictions) -> list[str]:
    """What the answers alone show: one class given every time, and tested classes that are never given.

    Either is no leak, and so no stamp: UA and WA are true, and the student is of little use all the same. A
    fold whose test utterances all have one label is left out of account.

    Returns:
        Sentences without a full stop, the worst first; none where every class is given in every fold that
        tests more than one.
    """
    classes = predictions.classes
    counts = confusion(predictions.labels, predictions.predicted, classes)
    tested = [
        f"{name} ({count:,} test utterance{'' if count == 1 else 's'})"
        for name, count, n_predicted in zip(classes, counts.sum(axis=1), counts.sum(axis=0), strict=True)
        if count and not n_predicted
    ]
    constant: dict[str, list[str]] = {}
    folds = np.array(predictions.folds)
    for fold in dict.fromkeys(predictions.folds):
        labels = set(predictions.labels[folds == fold].tolist())
        predicted = set(predictions.predicted[folds == fold].tolist())
        if len(predicted) == 1 and len(labels) > 1:
            constant.setdefault(classes[predicted.pop()], []).append(fold)
    warnings = []
    for name, same in constant.items():
        which = f"in fold {', '.join(same)}" if len(same) < len(set(predictions.folds)) else "in every fold"
        warnings.append(f"the student answers {name} to every test utterance {which}")
    if tested:
        warnings.append(f"never predicted: {', '.join(tested)}")
    return warnings


def surest_mistakes(predictions: Predictions, most: int) -> list[int]:
    """Rows of the wrong predictions with the largest probability of the predicted class, the surest first.

    Of equally sure ones the first by id and fold stands first.
    """
    rows = np.flatnonzero(predictions.predicted != predictions.labels).tolist()
    sure = predictions.probabilities[np.arange(len(predictions.ids)), predictions.predicted]
    return sorted(rows, key=lambda row: (-sure[row], predictions.ids[row], predictions.folds[row]))[:most]
