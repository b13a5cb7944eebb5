"""What a run's students say of arousal, valence and dominance, and how well it agrees with the listeners."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.config.dimensions import from_unit_scale
from light_sernet_kd.corpora import rated
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.distillation.batch_keys import DIMENSIONS

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

TEST, CONVERTED = "test_dimensions.npz", "tflite_dimensions.npz"


def write_test_values(run: "Experiment", fold: Fold, made: Mapping[str, np.ndarray | None]) -> None:
    """Leave what a fold's networks say of its test utterances in its step; nothing where there is none.

    Args:
        made: `selected`, `last` and perhaps `teacher`, `(len(fold.test), dimensions)` from -1 to 1.
    """
    if run.dimensions:
        run.step(fold).write(TEST, {name: each for name, each in made.items() if each is not None})


def test_values(run: "Experiment", fold: Fold) -> dict[str, np.ndarray]:
    """What `write_test_values` left."""
    return run.step(fold).rows(
        TEST, rows=len(fold.test), width=len(run.settings.dimensions), names=("selected", "last")
    )


def to_corpus_scale(run: "Experiment", values: np.ndarray) -> np.ndarray:
    """Values from -1 to 1 on the scale of the corpus, float64."""
    if run.dimensions is None:
        raise ValueError("the run learns no ratings")
    scaled: np.ndarray = from_unit_scale(values.astype(np.float64), run.dimensions.range)
    return scaled


def ratings(run: "Experiment", rows: Sequence[int]) -> np.ndarray:
    """The listeners' ratings of utterances `(len(rows), dimensions)` on the corpus's scale; NaN for none."""
    return rated([run.utterances[row] for row in rows], run.settings.dimensions)


def scores(run: "Experiment", rows: Sequence[int], values: np.ndarray) -> dict[str, dict[str, Any]]:
    """Dimension → scores of values from -1 to 1 of these utterances, on the corpus's scale."""
    each = evaluation.dimension_scores(ratings(run, rows), to_corpus_scale(run, values))
    return {name: asdict(agreement) for name, agreement in zip(run.settings.dimensions, each, strict=True)}


def fold_scores(run: "Experiment", fold: Fold, selected: np.ndarray | None = None) -> dict[str, Any]:
    """What an outcome has of a fold's students; nothing where they learn no ratings.

    Args:
        selected: what the student says of the test utterances, where its step has not ended yet.
    """
    if not run.dimensions:
        return {}
    values = test_values(run, fold)["selected"] if selected is None else selected
    return {DIMENSIONS: scores(run, fold.test, values)}


def _tested(run: "Experiment", which: str) -> np.ndarray | None:
    """Of every test utterance, in the order of the folds; None where a fold lacks it."""
    parts = [test_values(run, fold).get(which) for fold in run.folds]
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def facts(run: "Experiment", outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What metrics.json tells of the ratings; empty for a run that learns none."""
    if not run.dimensions:
        return {}
    names, selected = run.settings.dimensions, _tested(run, "selected")
    last, teacher = _tested(run, "last"), _tested(run, "teacher")
    if selected is None or last is None:
        raise ValueError("a fold lacks the values of its student")
    true, rows = ratings(run, run.test_rows), run.test_rows
    intervals = evaluation.dimension_intervals(true, to_corpus_scale(run, selected), run.test_speakers)
    unrated = np.isnan(ratings(run, range(len(run.utterances)))).sum(axis=0)
    answered = {
        "names": list(names),
        "range": list(run.dimensions.range),
        "loss": run.settings.dimensions_loss,
        "weight": run.settings.dimensions_weight,
        "method": evaluation.DIMENSION_METHOD,
        "pooled": scores(run, rows, selected),
        "pooled_last_epoch": scores(run, rows, last),
        "ci95": dict(zip(names, intervals, strict=True)),
        "mean_over_folds": {name: _over_folds(outcomes, name) for name in names},
        "unrated": dict(zip(names, unrated.tolist(), strict=True)),
        "teacher": None if teacher is None else scores(run, rows, teacher),
    }
    return {DIMENSIONS: answered}


def _over_folds(outcomes: Sequence[Mapping[str, Any]], name: str) -> list[float] | None:
    """Mean and standard deviation of the folds' concordance; None where a fold has none."""
    ccc = [outcome[DIMENSIONS][name]["ccc"] for outcome in outcomes]
    return None if None in ccc else [float(np.mean(ccc)), float(np.std(ccc))]


def _ends(interval: Mapping[str, tuple[float, float]] | None) -> dict[str, float]:
    return dict(zip(("low", "high"), interval["ccc"], strict=True)) if interval else {}


def predicted(run: "Experiment") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Dimension → the answer and the rating of each test utterance, on the corpus's scale."""
    selected = _tested(run, "selected") if run.dimensions else None
    if selected is None:
        return {}
    answers, true = to_corpus_scale(run, selected), ratings(run, run.test_rows)
    return {name: (answers[:, at], true[:, at]) for at, name in enumerate(run.settings.dimensions)}


def value_changes(
    run: "Experiment", by_fold: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, dict[str, Any]]:
    """Precision → how far a converted student's values are from those as trained, on the corpus's scale.

    Of each test utterance the dimension counts that changes most. Arguments are those of `converted_ccc`.
    """
    trained, made = _tested(run, "selected"), {}
    if trained is None:
        raise ValueError("a fold lacks the values of its student")
    for precision in by_fold[0]:
        converted = np.concatenate([each[precision] for each in by_fold])
        made[precision] = evaluation.probability_change(
            to_corpus_scale(run, trained), to_corpus_scale(run, converted)
        )
    return made


def converted_ccc(
    run: "Experiment", by_fold: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Precision → dimension → `ccc` over all folds' test utterances, of their converted students, and where
    there is an interval its `low` and `high`. A dimension that cannot be scored is left out.

    Args:
        by_fold: precision → values from -1 to 1 of a fold's test utterances.
    """
    made, true = {}, ratings(run, run.test_rows)
    for precision in by_fold[0]:
        values = np.concatenate([each[precision] for each in by_fold])
        agreement = scores(run, run.test_rows, values)
        intervals = evaluation.dimension_intervals(true, to_corpus_scale(run, values), run.test_speakers)
        made[precision] = {
            name: {"ccc": each["ccc"], **_ends(ends)}
            for (name, each), ends in zip(agreement.items(), intervals, strict=True)
            if each["ccc"] is not None
        }
    return made
