"""Teacher files: a network per fold, or what another source of teachers gives."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from light_sernet_kd import evaluation, teachers
from light_sernet_kd.config import RunOptions, Settings, corpus_name
from light_sernet_kd.config.checks import check_source
from light_sernet_kd.data import confounds
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.data.selection import selected
from light_sernet_kd.data.unlabelled import Clips
from light_sernet_kd.experiment.networks.phases import teacher_parts
from light_sernet_kd.experiment.outcome import default_run_name
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.experiment.teachers import unlabelled
from light_sernet_kd.experiment.teachers.teacher import (
    final_teacher_epochs,
    teacher_name,
    trained_teacher,
)
from light_sernet_kd.files import path_part
from light_sernet_kd.registries.teachers import DEFAULT_TEACHER
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.teachers.sources import Workplace, teacher_of
from light_sernet_kd.teachers.unlabelled import CARD_KEY, SHARED, UnlabelledTask, read_of, write_beside


def teach(settings: Settings, options: RunOptions, display: Display, *, out: Path | None = None) -> Path:
    """Train the teacher of every fold, and one on all speakers; returns the teacher file."""
    settings = dataclasses.replace(
        settings, distillation="KD", teacher=settings.teacher or DEFAULT_TEACHER, export=True
    )
    name = options.run or f"teacher-{default_run_name(settings)}"
    folder = options.result / path_part(name)
    with RunFolder(folder).lock():
        run = Experiment(settings, options, folder, display, teaches=True)
        for text in confounds.findings(run.folds, run.utterances).warnings:
            display.warn(text)
        folds = [*run.folds, run.selection.final_fold]
        made = [trained_teacher(run, fold) for fold in run.folds]
        made.append(trained_teacher(run, folds[-1], epochs=final_teacher_epochs(run)))
        path = out or RunFolder(folder).teacher
        beside = {}
        if run.unlabelled:
            answers = ((fold.name, unlabelled.trained_answers(run, fold)) for fold in folds)
            contents = run.unlabelled.survey.clips["content"]
            beside[CARD_KEY] = write_beside(path, contents, run.classes, answers)
        teachers.write(
            path,
            teachers.Teacher(
                ids=tuple(utterance.id for utterance in run.utterances),
                classes=run.classes,
                logits=np.concatenate([teacher.logits for teacher in made]),
                folds=tuple(fold.name for fold in folds),
                card={
                    "made_by": teacher_name(run),
                    "corpus": run.corpus.name,
                    "protocol": settings.protocol,
                    "seed": settings.seed,
                    "parts": teacher_parts(run),
                    "train_speakers": teachers.train_speakers(folds, run.utterances),
                    **beside,
                },
                embeddings=np.concatenate([np.asarray(teacher.embeddings) for teacher in made]),
            ),
        )
    return path


def teach_from(
    source: str,
    settings: Settings,
    options: RunOptions,
    display: Display,
    *,
    fine_tune: bool = False,
    out: Path | None = None,
) -> Path:
    """Make the teacher that `source` names (see `registries.teachers`); returns the teacher file."""
    check_source(source, settings, "--from")
    decides = [settings.digest(), source, fine_tune]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:8]
    corpus = corpus_name(settings.corpus)
    name = options.run or f"teacher-{corpus}-{Path(source).name}-{settings.protocol}-{digest}"
    folder = options.result / path_part(name)
    with RunFolder(folder).lock():
        selection = selected(settings, options.data)
        display.say(f"{selection.corpus.name}: {len(selection.utterances)} utterances, {source}. In {folder}")
        for line in selection.corpus.reported():
            display.say(f"  {line}")
        for text in confounds.findings(selection.folds, selection.utterances).warnings:
            display.warn(text)
        task = None
        if settings.unlabelled is not None:
            surveyed = unlabelled.surveyed_folder(
                settings.unlabelled, settings.samples, options.result / ".cache", display
            )
            task = UnlabelledTask(Clips(surveyed, options.clips), folder / "unlabelled")
            task.clear()  # the folder may have served another source
        with display.counted("embeddings") as shown:
            cache = options.result / ".cache" / "embeddings"
            workplace = Workplace(
                options.data, cache, folder, fine_tune=fine_tune, progress=shown, unlabelled=task
            )
            teacher = teacher_of(source, selection, settings, workplace, option="--from")
        path = out or RunFolder(folder).teacher
        if task:
            teacher = _with_answers(teacher, path, task)
        teachers.write(path, teacher)
    tested: list[int] = []
    predicted: list[np.ndarray] = []

    def scored(rows: list[int], logits: np.ndarray) -> str:
        scores = evaluation.scores(selection.labels[rows], logits, selection.classes)
        return f"teacher UA {100 * scores.ua:.1f} %, WA {100 * scores.wa:.1f} %"

    for fold in selection.folds:
        logits = teachers.aligned(teacher, selection.utterances, selection.classes, fold.name)
        rows = list(fold.test)
        tested, predicted = tested + rows, [*predicted, logits[rows].argmax(axis=1)]
        display.say(f"fold {fold.name}: {scored(rows, predicted[-1])}")
    display.say(f"all folds: {scored(tested, np.concatenate(predicted))}")
    if (known := teacher.card.get("probe", {}).get("known_speakers")) and "ua" in known:
        display.say(
            f"standardised by test speakers' own recordings: UA {100 * known['ua']:.1f} %, "
            f"WA {100 * known['wa']:.1f} % ({known['stamp']})"
        )
    return path


def _with_answers(teacher: teachers.Teacher, path: Path, task: UnlabelledTask) -> teachers.Teacher:
    """The teacher with what it says of unlabelled clips in the folder beside its file."""
    clips, classes = len(task.clips), teacher.classes
    answers = ((fold, read_of(task.folder, fold, clips, len(classes))) for fold in teacher.folds)
    contents = task.clips.survey.clips["content"]
    shared = (task.folder / SHARED).exists()
    beside = write_beside(path, contents, classes, answers, shared=shared)
    return dataclasses.replace(teacher, card={**teacher.card, CARD_KEY: beside})
