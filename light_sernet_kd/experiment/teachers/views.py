"""Frozen outside teachers that are asked on what the student hears: a bank of augmented views per fold.

Probes read a row of numbers per recording, and to make one takes longer than a training step. So they are
asked beforehand, on a few views of each training utterance, and the student's epochs draw from these.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd.audio import augment
from light_sernet_kd.config.settings import SAME
from light_sernet_kd.data.batches import TeacherViews, ViewRows
from light_sernet_kd.data.kept_views import Bank
from light_sernet_kd.data.protocols import Fold, fold_seed
from light_sernet_kd.encoders.view_bank import FoldViews
from light_sernet_kd.experiment.networks.training import trained_on
from light_sernet_kd.registries.teachers import reads_rows
from light_sernet_kd.teachers.components import Components
from light_sernet_kd.teachers.views import ViewTask, file_of, read_answers, remove_answers

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


def asks_views(run: "Experiment") -> bool:
    """Whether the run's teacher is asked on a bank of views."""
    settings = run.settings
    return settings.teacher is not None and settings.teacher_view == SAME and reads_rows(settings.teacher)


def bank_of(run: "Experiment") -> Bank:
    """The run's bank. All folds have one seed: what is the same in them is asked once."""
    return Bank(fold_seed(run.settings.seed, "views of the teacher"), run.settings.teacher_views)


def unasked(run: "Experiment", folds: Sequence[Fold]) -> list[Fold]:
    """Those of the folds whose student is still to be trained and whose teacher was not asked."""
    if not asks_views(run):
        return []
    folder = run.folder.teacher_views
    return [fold for fold in folds if not run.step(fold).is_done and not file_of(folder, fold.name).exists()]


def task_of(run: "Experiment", folds: Sequence[Fold]) -> ViewTask:
    """The views that the teacher is asked on in these folds."""
    source, count = run.settings.teacher, run.settings.teacher_views
    run.display.say(f"Teacher: {source} is asked on {count} views of each training clip ...")
    return ViewTask(
        {fold.name: _views(run, fold) for fold in folds},
        run.folder.teacher_views,
        _facts(run),
        run.distillation.needs_embeddings,
    )


def _views(run: "Experiment", fold: Fold) -> FoldViews:
    if run.augmenter is None:
        raise ValueError("without augmentation there are no views")
    # As the student's batches have it: babble is made of what is trained on.
    augmenter = run.augmenter.bound(trained_on(run, fold), run.selection.labels)
    names = [run.utterances[row].id for row in fold.train]
    return FoldViews(augmenter, bank_of(run), np.array(fold.train), names)


def _facts(run: "Experiment") -> dict[str, Any]:
    """What decides the views and what is said of them, beside the fold."""
    settings, bank = run.settings, bank_of(run)
    waveforms = [each for each in run.augmentations if each.kind.on in ("waveform", "place")]
    return {
        "teacher": settings.teacher,
        "augmentation": augment.text_of(waveforms),
        "seed": settings.seed,
        "views": bank.views,
        "samples": settings.samples,
        "front_end": run.front_end,  # which pads its clips
        "standardise_speakers": settings.standardise_speakers,
        "teacher_mixing": settings.teacher_mixing,
        "most_per_emotion": settings.most_per_emotion,
        "corpus": run.selection.digest,
    }


def views_of(run: "Experiment", fold: Fold) -> TeacherViews:
    """What the fold's teacher, which was asked, says of the views.

    Raises:
        UserError: the file is damaged or of other views.
    """
    said = read_answers(
        run.folder.teacher_views,
        fold.name,
        _facts(run),
        np.array(fold.train),
        embeddings=run.distillation.needs_embeddings,
    )
    embedding = None if said.embedding is None else ViewRows(said.embedding, said.utterances)
    return TeacherViews(bank_of(run), ViewRows(said.logits, said.utterances), embedding)


def in_components(views: TeacherViews, components: Components) -> TeacherViews:
    """The same with components of the embeddings, as they were fitted on clean ones."""
    rows = views.embedding
    if rows is None:
        return views
    turned = np.stack([components(of_view) for of_view in rows.values])
    return dataclasses.replace(views, embedding=ViewRows(turned, rows.utterances))


def remove_views(run: "Experiment", fold: Fold) -> None:
    """Remove a finished fold's answers; the bank's rows stay in the cache."""
    remove_answers(run.folder.teacher_views, fold.name)
