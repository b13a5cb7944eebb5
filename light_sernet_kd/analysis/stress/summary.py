"""What each condition costs a student: scores, intervals, differences, shares."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import evaluation
from light_sernet_kd.analysis.degradations import DegradationContext
from light_sernet_kd.analysis.stress.answers import Answers, is_unheard
from light_sernet_kd.analysis.stress.students import Student
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.registries.degradations import SPEECHLESS
from light_sernet_kd.reporting.report import counted
from light_sernet_kd.runner import SILENCE_DBFS, STEADY_DB

SPEECHLESS_DRAWS = 50


# A key of `stress.json`, with an underscore, and a heading.
NO_SPEECH = "without speech"


WHOLE, CLASS, SPEAKER, SEX = "all", "class", "speaker", "sex"


def notes_of(
    students: Sequence[Student], answers: Sequence[Answers], corpus: Corpus, tested: Sequence[Utterance]
) -> list[str]:
    """What of the corpus is not tested, and what it does not tell."""
    notes = corpus.reported()
    for student in students:
        emotions = Counter(each.emotion for each in tested)
        unknown = {name: emotions[name] for name in sorted(emotions) if name not in student.labels}
        if unknown:
            listed = ", ".join(f"{count} of {name}" for name, count in unknown.items())
            notes.append(f"{student.name} does not know, and is not tested on: {listed}")
        if absent := [name for name in student.labels if name not in emotions]:
            notes.append(
                f"{student.name} may also answer {', '.join(absent)}, which is not there, and is then wrong"
            )
    rows = [each for part in answers for each in part.utterances]
    untold = len({each.id for each in rows if each.sex is None})
    if untold:
        whole = untold == len({each.id for each in rows})
        notes.append(
            f"{corpus.name} does not tell the sex of "
            + ("its speakers" if whole else f"the speakers of {counted(untold, 'utterance')}")
        )
    return notes


def of_student(answers: Answers, names: Sequence[str], first: Answers, seed: int) -> dict[str, Any]:
    """What `stress.json` says of a student.

    Args:
        names: the conditions, clean first.
        first: the answers of the student that the others are compared with.
        seed: draws the clips without speech.
    """
    student = answers.student
    return {
        "name": student.name,
        "precision": student.precision,
        "files": len(student.parts),
        "classes": list(student.labels),
        "trained": student.trained,
        "heard_in_training": student.trained_on,
        "stamps": list(student.stamps),
        "unsure_below": student.unsure_below,
        "silent_below_dbfs": SILENCE_DBFS,
        "steady_below_db": STEADY_DB,
        "utterances": len({each.id for each in answers.utterances}),
        "speakers": len({each.speaker for each in answers.utterances}),
        "conditions": [_of_condition(answers, row, name, first) for row, name in enumerate(names)],
        NO_SPEECH.replace(" ", "_"): [_speechless(student, name, seed) for name in SPEECHLESS],
    }


def _of_condition(answers: Answers, row: int, name: str, first: Answers) -> dict[str, Any]:
    """The scores under one condition, of all and by group, beside the clean ones and the first student's."""
    student, labels = answers.student, answers.labels
    speakers = [each.speaker for each in answers.utterances]
    predicted, clean = (answers.probabilities[each].argmax(axis=1) for each in (row, 0))
    unsure = (answers.probabilities[row].max(axis=1) < student.unsure_below) | answers.unheard[row]
    sure = ~unsure
    result = {
        "condition": name,
        **_scored(student.labels, labels, predicted, clean, speakers),
        "mean_top_probability": float(answers.probabilities[row].max(axis=1).mean(dtype=np.float64)),
        "unsure": float(unsure.mean()),
        "wa_of_sure": float((predicted == labels)[sure].mean()) if sure.any() else None,
        "answers": {label: int((predicted == place).sum()) for place, label in enumerate(student.labels)},
    }
    for group, members in ((SPEAKER, speakers), (SEX, [each.sex or "" for each in answers.utterances])):
        result[f"per_{group}"] = {
            member: _scored(
                student.labels,
                labels[rows],
                predicted[rows],
                clean[rows],
                [speaker for speaker, kept in zip(speakers, rows, strict=True) if kept],
            )
            for member in sorted({*members} - {""})
            for rows in [np.array(members) == member]
        }
    if _are_paired(answers, first):
        of_first = first.probabilities[row].argmax(axis=1)
        result["to_first"] = _difference(student.labels, labels, of_first, predicted, speakers)
    return result


def _are_paired(answers: Answers, first: Answers) -> bool:
    """Whether two students answered the same: a run's rows may be of other utterances than a file's."""
    if answers is first or answers.student.labels != first.student.labels:
        return False
    return [each.id for each in answers.utterances] == [each.id for each in first.utterances]


def _scored(
    classes: Sequence[str],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    clean: NDArray[np.int64],
    speakers: Sequence[str],
) -> dict[str, Any]:
    """Scores with intervals, and their differences to the clean answers."""
    intervals = evaluation.bootstrap_ci(labels, predicted, speakers, classes) or {}
    return {
        **evaluation.scores(labels, predicted, classes).as_dict(),
        "intervals": {name: list(pair) for name, pair in intervals.items()},
        "to_clean": _difference(classes, labels, clean, predicted, speakers),
    }


def _difference(classes, labels, before, after, speakers) -> dict[str, Any]:
    """UA and WA of `after` less those of `before`, with paired intervals (None for too few speakers)."""
    scores = [evaluation.scores(labels, each, classes) for each in (before, after)]
    intervals = evaluation.bootstrap_difference_ci(labels, before, after, speakers, classes) or {}
    return {
        name: {
            "difference": getattr(scores[1], name) - getattr(scores[0], name),
            "interval": list(intervals[name]) if name in intervals else None,
        }
        for name in ("ua", "wa")
    }


def _speechless(student: Student, name: str, seed: int) -> dict[str, Any]:
    """How often a student is unsure of clips of its own length without speech."""
    clips = SPEECHLESS[name]
    tops, kept_out, answers = [], [], Counter[str]()
    for part in student.parts:
        for draw in range(SPEECHLESS_DRAWS if clips.varies else 1):
            clip = clips(part.runner.samples, DegradationContext(seed, f"{draw}").rng(name))
            probabilities = part.runner.probabilities(clip)
            tops.append(float(probabilities.max()))
            kept_out.append(is_unheard(clip, samples=part.runner.samples))
            answers[student.labels[int(probabilities.argmax())]] += 1
    unsure = (np.array(tops) < student.unsure_below) | np.array(kept_out)
    return {
        "clip": name,
        "text": clips.text,
        "count": len(tops),
        "unsure": float(unsure.mean()),
        "unheard": float(np.mean(kept_out)),
        "mean_top_probability": float(np.mean(tops)),
        "answers": dict(sorted(answers.items(), key=lambda item: -item[1])),
    }
