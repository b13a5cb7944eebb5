"""The page of one answer: explain.md, its numbers and its pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.analysis.explain.attention import draw_attention
from light_sernet_kd.analysis.explain.embeddings import draw_embeddings, draw_similarity, draw_states
from light_sernet_kd.analysis.explain.fold import Answer
from light_sernet_kd.analysis.explain.gradients import draw_grad_cam, has_maps
from light_sernet_kd.evaluation import softmax
from light_sernet_kd.files import write_json, write_text
from light_sernet_kd.reporting import figures
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import plain


def write_page(answer: Answer, folder: Path) -> None:
    """explain.md, explain.json and the pictures of an answer."""
    facts = _of_answer(answer)
    captions = _draw(answer, folder, facts)
    facts["pictures"] = list(captions)
    write_text(folder / "explain.md", _page(facts, captions))
    # last, because its presence says that the folder is complete
    write_json(folder / "explain.json", facts)


def _of_answer(answer: Answer) -> dict[str, Any]:
    """What is said of the utterance, the run and the answer in explain.json."""
    tested, index, utterance = answer.tested, answer.index, answer.utterance
    classes, logits = tested.run.predictions.classes, tested.logits[index]
    teacher = None if tested.teacher_logits is None else softmax(tested.teacher_logits[index])
    facts: dict[str, Any] = {
        "run": tested.run.name,
        "student": tested.settings.student,
        "corpus": tested.corpus.name,
        "synthetic": tested.corpus.synthetic,
        "stamps": tested.run.metrics["stamps"],
        "fold": tested.fold,
        "utterance": utterance.id,
        "recording": str(utterance.path),
        "speaker": utterance.speaker,
        "transcript": utterance.transcript,
        "label": answer.label,
        "predicted": answer.predicted,
        "logits": _by_class(classes, logits),
        "largest_difference_from_stored_logits": float(np.abs(logits - tested.stored_logits[index]).max()),
        "probabilities": _by_class(classes, softmax(logits)),
        "teacher_probabilities": None if teacher is None else _by_class(classes, teacher),
    }
    if tested.tokens:
        facts["tokens"] = list(tested.tokens[index])
    return facts


def _draw(answer: Answer, folder: Path, facts: dict[str, Any]) -> dict[str, str]:
    """Draw the pictures: file name → caption. What they show is added to the facts."""
    tested = answer.tested
    shares = {"student": facts["probabilities"], "teacher": facts["teacher_probabilities"]}
    figures.probabilities(
        {who: list(each.values()) for who, each in shares.items() if each},
        tested.run.predictions.classes,
        folder / "probabilities",
        label=int(tested.labels[answer.index]),
        **answer.head,
    )
    captions = {"probabilities.png": "Probabilities per class"}
    facts["attention"] = facts["grad_cam"] = None
    if tested.encoders:
        facts["attention"] = draw_attention(answer, folder)
        captions |= {
            f"{name}.png": f"Attention: {each['between']}" for name, each in facts["attention"].items()
        }
    elif has_maps(tested.student):
        facts["grad_cam"] = draw_grad_cam(answer, folder / "grad_cam")
        captions["grad_cam.png"] = "Waveform, features, and where the student finds the class"
    facts["embedding"] = draw_embeddings(answer, folder / "embeddings")
    captions["embeddings.png"] = "All test utterances of the fold by the student's embedding"
    facts["teacher_embedding"] = None
    if tested.teacher_embeddings is not None:
        facts["teacher_embedding"] = draw_similarity(answer, folder / "similarity")
        captions["similarity.png"] = "Likeness of the fold's test utterances to student and teacher"
    facts["teacher_embedding_note"] = tested.teacher_note
    facts["text_states"] = None
    if tested.teacher_text_states is not None:
        facts["text_states"] = draw_states(answer, folder / "state_similarity")
        if facts["text_states"]["cosine_similarity"] is not None:
            captions["state_similarity.png"] = "Likeness of the student's and the teacher's text states"
    facts["text_states_note"] = tested.states_note
    return captions


def _by_class(classes: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(classes, map(float, values), strict=True))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _page(facts: dict[str, Any], captions: dict[str, str]) -> str:
    lines = _head(facts)
    lines += ["", "## What the student looked at", "", *_looked_at(facts)]
    lines += ["", "## What is alike", "", *_alike(facts)]
    if facts["text_states"]:
        lines += ["", _text_states_line(facts["text_states"])]
    elif facts["text_states_note"]:
        lines += ["", plain(facts["text_states_note"])]
    for name, caption in captions.items():
        lines += ["", f"![{caption}]({name})"]
    return "\n".join(lines) + "\n"


def _head(facts: dict[str, Any]) -> list[str]:
    """The answer, whose it is, and the probabilities of student and teacher."""
    label, predicted, shares = facts["label"], facts["predicted"], facts["probabilities"]
    instead = "" if label == predicted else f", and {plain(label)} {_percent(shares[label])}"
    synthetic = " (SYNTHETIC)" if facts["synthetic"] else ""
    lines = [
        f"# {plain(facts['utterance'])} of {plain(facts['corpus'])}{synthetic}",
        "",
        f"Label **{plain(label)}**; the student of fold {plain(facts['fold'])} says "
        f"**{plain(predicted)}** ({_percent(shares[predicted])}){instead}.",
        "",
        *(f"**{plain(stamp)}**\n" for stamp in facts["stamps"]),
        f"Speaker {plain(facts['speaker'])}, run {plain(facts['run'])}, student {plain(facts['student'])}.",
        "",
    ]
    if facts["transcript"]:
        lines += [f"“{plain(facts['transcript'])}”", ""]
    if "tokens" in facts:
        lines += [f"As the student reads it: {plain(' '.join(facts['tokens']))}", ""]
    of_teacher = facts["teacher_probabilities"]
    rows = [
        [name, share, *([of_teacher[name]] if of_teacher else [])]
        for name, share in sorted(shares.items(), key=lambda item: -item[1])
    ]
    titles = ["student", *(["teacher"] if of_teacher else [])]
    return lines + Table([*words("class"), *numbers(*titles, form=_percent)], rows).markdown()


def _looked_at(facts: dict[str, Any]) -> list[str]:
    """What the attention layers attend to most, or where the maps of Grad-CAM lie."""
    lines = []
    for name, layer in (facts["attention"] or {}).items():
        most = ", ".join(
            f"{plain(each['name'])} ({_percent(each['mean_attention'])})" for each in layer["most_attended"]
        )
        lines.append(f"- {plain(name.replace('_', ' '))} ({layer['between']}): the most to {most}.")
    if facts["grad_cam"] is None and not facts["attention"]:
        lines += ["No Grad-CAM: this student has no convolutional layer over features alone.", ""]
    for name, where in (facts["grad_cam"] or {}).items():
        if where["half_of_it_from_seconds"] is None:
            lines.append(f"- {plain(name)}: nothing in the features speaks for it.")
            continue
        begin, end = where["half_of_it_from_seconds"], where["half_of_it_to_seconds"]
        padding = f"{_percent(where['share_in_padding'])} of it lies on padding"
        lines.append(f"- {plain(name)}: half of its map lies from {begin:.2f} to {end:.2f} s; {padding}.")
    return lines


def _alike(facts: dict[str, Any]) -> list[str]:
    """The utterances that are alike to student and teacher, and how alike these two are."""
    lines = []
    for who, key in (("student", "embedding"), ("teacher", "teacher_embedding")):
        if facts[key]:
            nearest = "; ".join(
                f"{plain(each['utterance'])} ({plain(each['label'])}, {each['cosine_similarity']:.2f})"
                for each in facts[key]["nearest"]
            )
            lines += [f"To the {who}, by cosine similarity: {nearest or 'there is no other utterance'}.", ""]
    if not facts["teacher_embedding"]:
        return [*lines, plain(facts["teacher_embedding_note"])]
    cka = facts["teacher_embedding"]["linear_cka"]
    value = "undefined, all in one place" if cka is None else f"{cka:.3f}"
    return [*lines, f"Linear CKA of student and teacher over the fold's test utterances: {value}."]


def _text_states_line(states: dict[str, Any]) -> str:
    cka, cosines = states["linear_cka"], states["cosine_similarity"]
    widths = " and ".join(map(str, states["widths"]))
    alike = (
        f"no cosine similarity, because they are {widths} wide"
        if cosines is None
        else f"cosine similarity {np.mean(cosines):.3f} in the mean over this text's tokens"
    )
    value = "undefined" if cka is None else f"{cka:.3f}"
    return (
        f"Text states of student and teacher: {alike}; linear CKA over the {states['tokens_in_fold']} "
        f"tokens of the fold's test utterances: {value}."
    )
