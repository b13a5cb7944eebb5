"""Why a student says what it says: Grad-CAM, attention, its embeddings, its likeness to its teacher.

What works on arrays needs no run; `explain` reads a finished run's folder and writes the page and pictures of
one utterance. TensorFlow is imported where a network runs, so that a wrong name is told at once.
"""

from light_sernet_kd.analysis.explain.attention import attention_labels
from light_sernet_kd.analysis.explain.choosing import chosen, worst
from light_sernet_kd.analysis.explain.explaining import explain, explained
from light_sernet_kd.analysis.explain.gradients import grad_cam, has_maps, map_positions, shortest_span
from light_sernet_kd.analysis.explain.likeness import cosine_similarity, linear_cka, similarity_matrix

__all__ = [
    "attention_labels",
    "chosen",
    "cosine_similarity",
    "explain",
    "explained",
    "grad_cam",
    "has_maps",
    "linear_cka",
    "map_positions",
    "shortest_span",
    "similarity_matrix",
    "worst",
]
