"""Scores, their intervals, calibration, and predictions."""

from light_sernet_kd.evaluation.bootstrap import (
    CI_METHOD,
    FEWEST_SPEAKERS,
    bootstrap_ci,
    bootstrap_difference_ci,
)
from light_sernet_kd.evaluation.dimensions import (
    DIMENSION_METHOD,
    DimensionScores,
    dimension_intervals,
    dimension_scores,
)
from light_sernet_kd.evaluation.enrolled import (
    CLIPS,
    REPORTED_CLIPS,
    FoldAnswers,
    enrolled_scores,
    known_and_scored,
)
from light_sernet_kd.evaluation.predictions import (
    Predictions,
    answer_warnings,
    read_predictions,
    surest_mistakes,
    write_predictions,
)
from light_sernet_kd.evaluation.probabilities import (
    ECE_BINS,
    UNSURE_BELOW,
    calibration,
    confidence,
    confidence_warnings,
    expected_calibration_error,
    log_loss,
    probability_change,
    reliability,
    softmax,
)
from light_sernet_kd.evaluation.scoring import SUMMARIES, Scores, confusion, scores
from light_sernet_kd.evaluation.temperature import (
    FEWEST_TO_CALIBRATE,
    TEMPERATURE_BOUNDS,
    fit_temperature,
    mean_margin,
    temperature_for,
    temperature_per_margin,
)

__all__ = [
    "CI_METHOD",
    "CLIPS",
    "DIMENSION_METHOD",
    "ECE_BINS",
    "FEWEST_SPEAKERS",
    "FEWEST_TO_CALIBRATE",
    "REPORTED_CLIPS",
    "SUMMARIES",
    "TEMPERATURE_BOUNDS",
    "UNSURE_BELOW",
    "DimensionScores",
    "FoldAnswers",
    "Predictions",
    "Scores",
    "answer_warnings",
    "bootstrap_ci",
    "bootstrap_difference_ci",
    "calibration",
    "confidence",
    "confidence_warnings",
    "confusion",
    "dimension_intervals",
    "dimension_scores",
    "enrolled_scores",
    "expected_calibration_error",
    "fit_temperature",
    "known_and_scored",
    "log_loss",
    "mean_margin",
    "probability_change",
    "read_predictions",
    "reliability",
    "scores",
    "softmax",
    "surest_mistakes",
    "temperature_for",
    "temperature_per_margin",
    "write_predictions",
]
