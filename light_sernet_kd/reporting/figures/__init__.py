"""Pictures of a run: the confusion matrix, how training went, size against UA; and of what a network sees.

Same inputs, same bytes: no time stamps, no settings of the user's matplotlib, no global state (pyplot).
"""

from light_sernet_kd.reporting.figures.enrolled import enrolled
from light_sernet_kd.reporting.figures.explained import (
    Clip,
    attention,
    grad_cam,
    probabilities,
    similarity,
    state_similarity,
)
from light_sernet_kd.reporting.figures.grids import grid_scores
from light_sernet_kd.reporting.figures.over_time import Timeline, timeline
from light_sernet_kd.reporting.figures.page import letters_without_font
from light_sernet_kd.reporting.figures.planes import RIGHT, WRONG, Panel, embeddings
from light_sernet_kd.reporting.figures.rated import ratings
from light_sernet_kd.reporting.figures.robustness import stress
from light_sernet_kd.reporting.figures.scores import (
    confusion_matrix,
    curves,
    reliability,
    size_against_ua,
)
from light_sernet_kd.reporting.figures.searches import pareto

__all__ = [
    "RIGHT",
    "WRONG",
    "Clip",
    "Panel",
    "Timeline",
    "attention",
    "confusion_matrix",
    "curves",
    "embeddings",
    "enrolled",
    "grad_cam",
    "grid_scores",
    "letters_without_font",
    "pareto",
    "probabilities",
    "ratings",
    "reliability",
    "similarity",
    "size_against_ua",
    "state_similarity",
    "stress",
    "timeline",
]
