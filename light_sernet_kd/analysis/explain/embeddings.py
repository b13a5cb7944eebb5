"""Pictures of embeddings and text states: of the student, and beside its teacher."""

from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.analysis.explain.fold import Answer, ExplainedFold
from light_sernet_kd.analysis.explain.likeness import cosine_similarity, linear_cka, similarity_matrix
from light_sernet_kd.reporting import figures
from light_sernet_kd.reporting.embedding_panels import embedding_panel

# So many utterances that are alike are listed.
NEAREST = 5


def draw_embeddings(answer: Answer, path: Path) -> dict[str, Any]:
    tested, index = answer.tested, answer.index
    embeddings, labels, predicted = tested.embeddings, tested.labels, tested.predicted
    panels = [embedding_panel("PCA", embeddings, labels, predicted, mark=index)]
    notes = [f"the {len(labels)} test utterances of fold {tested.fold}; ring: this one"]
    if len(labels) >= 4:
        panels.append(embedding_panel("t-SNE", embeddings, labels, predicted, how="tsne", mark=index))
        notes.append("t-SNE keeps neighbours together; its distances and directions mean nothing")
    figures.embeddings(panels, tested.run.predictions.classes, path, notes=notes, **answer.head)
    return {
        "width": int(embeddings.shape[1]),
        "pca": panels[0].points[index].tolist(),
        "pca_axes": list(panels[0].axes),
        "nearest": _nearest(tested, embeddings, index),
    }


def _nearest(tested: ExplainedFold, embeddings: np.ndarray, index: int) -> list[dict[str, Any]]:
    """The test utterances that are the most alike to the network, the most alike first."""
    row = np.nan_to_num(similarity_matrix(embeddings)[index], nan=-1.0)
    classes = tested.run.predictions.classes
    return [
        {
            "utterance": tested.utterances[other].id,
            "label": classes[tested.labels[other]],
            "cosine_similarity": float(row[other]),
        }
        for other in np.argsort(-row, kind="stable")
        if other != index
    ][:NEAREST]


def draw_similarity(answer: Answer, path: Path) -> dict[str, Any]:
    tested, index = answer.tested, answer.index
    teacher = np.asarray(tested.teacher_embeddings)
    cka = linear_cka(tested.embeddings, teacher)
    order = np.argsort(tested.labels, kind="stable")
    figures.similarity(
        {
            name: similarity_matrix(embeddings[order])
            for name, embeddings in (("student", tested.embeddings), ("teacher", teacher))
        },
        tested.labels[order],
        tested.run.predictions.classes,
        path,
        mark=int(np.flatnonzero(order == index)[0]),
        notes=[
            f"the {len(order)} test utterances of fold {tested.fold}, by emotion; triangle: this one",
            f"linear CKA of the two: {cka:.2f} (1: the same arrangement)",
        ],
        **answer.head,
    )
    return {
        "width": int(teacher.shape[1]),
        "linear_cka": cka if np.isfinite(cka) else None,
        "nearest": _nearest(tested, teacher, index),
    }


def draw_states(answer: Answer, path: Path) -> dict[str, Any]:
    """How alike the text states are: token by token where they are of one width, and over the fold."""
    tested, index = answer.tested, answer.index
    student, teacher = tested.text_states, tested.teacher_text_states or ()
    cka = linear_cka(np.concatenate(student), np.concatenate(teacher))
    widths = [int(states[0].shape[1]) for states in (student, teacher)]
    cosines = None
    if widths[0] == widths[1]:
        tokens = tested.tokens[index]
        cosines = cosine_similarity(student[index], teacher[index])
        notes = [f"linear CKA over all tokens of fold {tested.fold}'s test utterances: {cka:.2f}"]
        if not tested.states_were_taught:
            notes.append("the student was not trained to have the teacher's states")
        figures.state_similarity(
            cosines,
            tokens,
            path,
            label="cosine similarity of student's and teacher's text states",
            notes=notes,
            **answer.head,
        )
    return {
        "widths": widths,
        "tokens_in_fold": sum(map(len, student)),
        "linear_cka": cka if np.isfinite(cka) else None,
        "cosine_similarity": None if cosines is None else [float(each) for each in cosines],
    }
