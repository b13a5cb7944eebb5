"""Calibration: no temperature sees a test label that it is scored on."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.experiment.fold import logits_of, training_logits, validation_logits
from light_sernet_kd.experiment.networks.training import trained_on

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


def final_logits(run: "Experiment") -> np.ndarray:
    """Of the exported student on every utterance that it was trained on."""
    final = run.selection.final_fold
    return logits_of(run, final, "training_logits.npz", trained_on(run, final))


def _temperature_of(run: "Experiment", fold: Fold) -> float | None:
    """For the fold's test predictions; None where its validation set tests too or is too small."""
    if len(fold.selection_indices) < evaluation.FEWEST_TO_CALIBRATE:
        return None
    labels = run.selection.labels[list(fold.selection_indices)]
    return evaluation.fit_temperature(validation_logits(run, fold), labels)


def _temperature_per_margin(run: "Experiment", outcomes: Sequence[dict[str, Any]]) -> float | None:
    """For the exported student, from all folds' students and their validation sets; None if too few.

    It was trained on these speakers, so none is held out of it: the folds' students, which heard fewer,
    stand in for it, each in units of how sharp its logits are. Where a fold's validation set is its test
    set, that serves: the exported student has no score of its own that could profit.
    """
    folds = [(fold, fold.selection_indices or fold.validation) for fold in run.folds]
    labels = [run.selection.labels[list(rows)] for _, rows in folds]
    if sum(map(len, labels)) < evaluation.FEWEST_TO_CALIBRATE:
        return None
    logits = [
        validation_logits(run, fold) if fold.selection_indices else outcome["logits"]["selected"]
        for (fold, _), outcome in zip(folds, outcomes, strict=True)
    ]
    training = [training_logits(run, fold) for fold in run.folds]
    return evaluation.temperature_per_margin(logits, labels, training)


def _files_confidence(
    run: "Experiment", outcomes: Sequence[dict[str, Any]], temperature: float
) -> dict[str, Any]:
    """How sure the exported student is, beside the folds' students with temperatures of the same rule."""
    per_margin = _temperature_per_margin(run, outcomes)
    training = [training_logits(run, fold) for fold in run.folds]
    by = [1.0 if per_margin is None else evaluation.temperature_for(per_margin, each) for each in training]
    test = [outcome["logits"]["selected"] / each for outcome, each in zip(outcomes, by, strict=True)]
    return {
        "per_margin": per_margin,
        "folds_test": evaluation.confidence(np.concatenate(test)),
        "folds_training": evaluation.confidence(
            np.concatenate([logits / each for logits, each in zip(training, by, strict=True)])
        ),
        "final_training": evaluation.confidence(final_logits(run) / temperature),
    }


def calibrate(
    run: "Experiment", outcomes: Sequence[dict[str, Any]], exported: Mapping[str, Any] | None
) -> dict[str, Any]:
    """How far the test probabilities can be believed, before and after each fold's temperature; and how
    sure the exported student is.
    """
    files = _files_confidence(run, outcomes, exported["temperature"]) if exported else None
    labels = run.test_labels
    temperatures = [_temperature_of(run, fold) for fold in run.folds]
    # In float64 no division makes two logits equal, and so the answers stay what they are.
    before = [outcome["logits"]["selected"].astype(np.float64) for outcome in outcomes]
    after = [logits / (by or 1.0) for logits, by in zip(before, temperatures, strict=True)]
    return {
        "bins": evaluation.ECE_BINS,
        "before": evaluation.calibration(labels, np.concatenate(before)),
        "after": evaluation.calibration(labels, np.concatenate(after)) if any(temperatures) else None,
        "temperature": (
            exported["temperature"] if exported and files and files["per_margin"] is not None else None
        ),
        "files": files,
        "folds": [
            {
                "name": fold.name,
                "temperature": temperature,
                "validation_predictions": len(fold.selection_indices),
            }
            for fold, temperature in zip(run.folds, temperatures, strict=True)
        ],
        "fewest_validation_predictions": evaluation.FEWEST_TO_CALIBRATE,
        "tests_on_validation": run.protocol.tests_on_validation,
        "unsure_below": evaluation.UNSURE_BELOW,
    }


def final_temperature(run: "Experiment", outcomes: Sequence[dict[str, Any]], training: np.ndarray) -> float:
    """Of the exported student, with the logits `training` on its training utterances; 1 if unfitted."""
    if not run.has_classes:
        return 1.0
    per_margin = _temperature_per_margin(run, outcomes)
    return 1.0 if per_margin is None else evaluation.temperature_for(per_margin, training)
