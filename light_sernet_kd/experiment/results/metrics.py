"""What metrics.json tells of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.audio import lengths
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import same_names, training_corpus
from light_sernet_kd.experiment import start
from light_sernet_kd.experiment.alone import teacher_comparison
from light_sernet_kd.experiment.exported.enrolment import enrolled_scores, is_enrolled
from light_sernet_kd.experiment.exported.final import final_notes
from light_sernet_kd.experiment.networks.training import model_of, network_of
from light_sernet_kd.experiment.results import dimensions
from light_sernet_kd.experiment.results.calibration import calibrate
from light_sernet_kd.experiment.teachers import generations, unlabelled
from light_sernet_kd.experiment.teachers.gate import gate_facts
from light_sernet_kd.experiment.teachers.teacher import (
    known_speakers,
    teacher_licence,
    teacher_name,
    teacher_stamps,
)
from light_sernet_kd.registries.students import is_multimodal
from light_sernet_kd.registries.teachers import TEACHER_SOURCES, teacher_members, teacher_source
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.students.parameters import parameter_counts

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

MOST_MISTAKES = 20


def notes_of(run: "Experiment", exported: Mapping[str, Any] | None = None) -> list[str]:
    """What else the report says of the run."""
    notes = [note for encoders in run.multimodal.values() for note in encoders.notes]
    if run.settings.different_speakers and (names := same_names(run.corpus)):
        notes.append(
            f"{pluralise(len(names), 'speaker name')} in both corpora: different people, by "
            "--different-speakers."
        )
    if run.teacher and (converted := run.teacher.card.get("converted")):
        notes.append(f"Of the teacher file: {converted}.")
    if babble := run.babble_note:
        notes.append(babble)
    if run.settings.enrolment and not run.has_classes:
        notes.append("There is no second head for known speakers: it tells emotions apart.")
    if is_enrolled(run) and run.settings.export and not run.settings.merge_tflite:
        notes.append(
            "No exported file is for known speakers: that takes audio, and with -m false files do not."
        )
    return [*notes, *final_notes(run, exported)]


def predictions_of(run: "Experiment", outcomes: Sequence[dict[str, Any]]) -> evaluation.Predictions:
    """Of every fold's selected student, in the order of the folds."""
    if not run.has_classes:
        tested = len(run.test_rows)
        nothing: dict[str, Any] = {
            "classes": (),
            "labels": np.zeros(tested, np.int64),
            "predicted": np.zeros(tested, np.int64),
            "probabilities": np.zeros((tested, 0), np.float32),
        }
        return evaluation.Predictions(**_tested(run), **nothing)
    logits = np.concatenate([outcome["logits"]["selected"] for outcome in outcomes])
    return evaluation.Predictions(
        **_tested(run),
        classes=run.classes,
        labels=run.test_labels.astype(np.int64),
        predicted=logits.argmax(axis=1),
        probabilities=evaluation.softmax(logits),
    )


def _tested(run: "Experiment") -> dict[str, Any]:
    """What predictions have of the recordings themselves."""
    return {
        "ids": tuple(run.utterances[i].id for i in run.test_rows),
        "folds": tuple(fold.name for fold in run.folds for _ in fold.test),
        "dimensions": dimensions.predicted(run),
    }


def _warnings(
    run: "Experiment", outcomes: Sequence[dict[str, Any]], calibration: Mapping[str, Any] | None
) -> list[str]:
    """What makes a true score worth less than it looks; a stamp says that a score is too high.

    Sentences without a full stop. The report and the run's last line show them, and no score is called
    honest without a word beside any of them.
    """
    return [
        *run.data_warnings,
        *(evaluation.answer_warnings(predictions_of(run, outcomes)) if run.has_classes else []),
        *(evaluation.confidence_warnings(calibration["files"]) if calibration else []),
    ]


def _exported_training(run: "Experiment") -> dict[str, Any]:
    """What the exported student is trained on, where test recordings stay apart."""
    rows = run.selection.final_fold.train
    return {
        "corpus": training_corpus(run.corpus.name),
        "recordings": len(rows),
        "speakers": len(run.selection.speakers(rows)),
    }


def metrics_of(
    run: "Experiment", outcomes: Sequence[dict[str, Any]], exported: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What metrics.json holds."""
    counts = np.bincount(run.selection.labels, minlength=len(run.classes))
    calibration = calibrate(run, outcomes, exported) if run.has_classes else None
    return {
        "protocol": run.settings.protocol,
        "protocol_description": run.protocol.description,
        "stamps": run.stamps,
        "warnings": _warnings(run, outcomes, calibration),
        "corpus": run.corpus.name,
        "synthetic": run.corpus.synthetic,
        "classes": list(run.classes) if run.has_classes else [],
        "counts": dict(zip(run.classes, counts.tolist(), strict=True)),
        "speakers": sorted({utterance.speaker for utterance in run.utterances}),
        **({"exported_training": _exported_training(run)} if run.selection.tests_apart else {}),
        "left_out": dict(run.corpus.left_out),
        "merged": dict(run.corpus.merged),
        "corpus_notes": list(run.corpus.notes),
        "skipped": run.selection.skipped,
        "cut": _cut(run),
        **_pooled(run, outcomes),
        **(_looked_at(run, outcomes) if run.has_classes else {}),
        **dimensions.facts(run, outcomes),
        **({"calibration": calibration} if calibration else {}),
        "mean_over_folds": {
            name: [
                float(np.mean([outcome[name] for outcome in outcomes])),
                float(np.std([outcome[name] for outcome in outcomes])),
            ]
            for name in evaluation.SUMMARIES
            if run.has_classes
        },
        "folds": [
            {name: value for name, value in outcome.items() if name != "logits"} for outcome in outcomes
        ],
        "student": {
            "name": run.settings.student,
            **_parameters(run, "student"),
            "width": None if is_multimodal(run.settings.student) else run.settings.width,
            "encoders": run.multimodal["student"].facts() if "student" in run.multimodal else {},
        },
        "notes": notes_of(run, exported),
        **({"unlabelled": unlabelled.facts(run)} if run.unlabelled else {}),
        **({"generations": generations.facts(run, outcomes)} if run.settings.generations > 1 else {}),
        **({"start": start.facts(run)} if run.start else {}),
        **({"enrolled": enrolled} if (enrolled := enrolled_scores(run)) else {}),
        "teacher": _teacher(run, outcomes) if run.settings.teacher else None,
        "seed": run.settings.seed,
        "command": run.config["command"],
    }


def _predicted(outcomes: Sequence[dict[str, Any]], which: str) -> np.ndarray:
    """Classes `(tested,)` by the logits `which`: `selected`, `last` or `teacher`."""
    return np.concatenate([outcome["logits"][which] for outcome in outcomes]).argmax(axis=1)


def _pooled(run: "Experiment", outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Scores over the test utterances of all folds, and their interval; without classes the count alone."""
    if not run.has_classes:
        return {
            "pooled": {"count": len(run.test_rows)},
            "pooled_last_epoch": {},
            "ci95": None,
            "ci95_method": evaluation.CI_METHOD,
        }
    labels, selected = run.test_labels, _predicted(outcomes, "selected")
    last = _predicted(outcomes, "last")
    return {
        "pooled": evaluation.scores(labels, selected, run.classes).as_dict(),
        "pooled_last_epoch": evaluation.scores(labels, last, run.classes).as_dict(),
        "ci95": evaluation.bootstrap_ci(labels, selected, run.test_speakers, run.classes),
        "ci95_method": evaluation.CI_METHOD,
    }


def _looked_at(run: "Experiment", outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was taken for what, the scores of each test speaker, and the surest mistakes."""
    predictions, classes = predictions_of(run, outcomes), run.classes
    labels, predicted, speakers = predictions.labels, predictions.predicted, np.array(run.test_speakers)
    per_speaker = []
    for speaker in sorted(set(run.test_speakers)):
        rows = speakers == speaker
        scores = evaluation.scores(labels[rows], predicted[rows], classes).as_dict()
        shown = ("count", "ua", "wa", "recall_per_class")
        per_speaker.append({"speaker": speaker, **{name: scores[name] for name in shown}})
    mistakes = [
        {
            "id": predictions.ids[row],
            "fold": predictions.folds[row],
            "speaker": run.test_speakers[row],
            "label": classes[labels[row]],
            "predicted": classes[predicted[row]],
            "probability": float(predictions.probabilities[row, predicted[row]]),
            "label_probability": float(predictions.probabilities[row, labels[row]]),
        }
        for row in evaluation.surest_mistakes(predictions, MOST_MISTAKES)
    ]
    return {
        "confusion": evaluation.confusion(labels, predicted, classes).tolist(),
        "per_speaker": per_speaker,
        "mistakes": mistakes,
    }


def _teacher(run: "Experiment", outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    agreement, comparison = None, None
    if run.has_classes:
        scores = evaluation.scores(run.test_labels, _predicted(outcomes, "teacher"), run.classes).as_dict()
        agreement, comparison = (
            {name: scores[name] for name in ("wa", "ua")},
            teacher_comparison(run, outcomes),
        )
    return {
        "name": _short(str(run.settings.teacher)) if run.teacher else run.settings.teacher,
        "made_by": teacher_name(run),
        "agreement": agreement,
        "stamps": teacher_stamps(run),
        "licence": teacher_licence(run),
        "known_speakers": known_speakers(run),
        "gate": gate_facts(run),
        "beside": comparison,
    }


def _short(teacher: str) -> str:
    """What `--teacher` names, without the folders of its files."""
    if teacher_members(teacher):
        return teacher
    entry, argument = teacher_source(teacher)
    if entry is TEACHER_SOURCES["run"]:
        return f"run:{','.join(Path(folder).name for folder in argument.split(','))}"
    return Path(teacher).name


def _cut(run: "Experiment") -> dict[str, Any] | None:
    """How many recordings the input length cuts, and how much; None for a student without audio."""
    encoders = run.multimodal.get("student")
    if encoders is not None and encoders.audio_branch is None:
        return None
    return lengths.cut_of(run.utterances, run.settings.samples / SAMPLE_RATE).as_dict()


def _parameters(run: "Experiment", role: str) -> dict[str, int]:
    """How many there are, with those of the encoders and, of the text encoder, without its embeddings."""
    if role not in run.multimodal:
        return {"parameters": network_of(run, role).parameters}
    return parameter_counts(model_of(run, role, network_of(run, role).student.get_weights()))
