"""WavLM, wav2vec 2.0 and HuBERT as sources of teachers: a probe on their layers, or the model fine-tuned."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.config import Settings
from light_sernet_kd.data.selection import Selection
from light_sernet_kd.encoders import speech
from light_sernet_kd.encoders.embedding_cache import Encoder, OneEach
from light_sernet_kd.registries.teachers import TEACHER_SOURCES
from light_sernet_kd.teachers import Teacher, speech_probe, speech_tuning
from light_sernet_kd.teachers.outputs import model_name
from light_sernet_kd.teachers.sources import Workplace, clip_embeddings, embedded, facts_of
from light_sernet_kd.teachers.unlabelled import UnlabelledTask, blocks_of


def speech_model_teacher(
    argument: str,
    selection: Selection,
    settings: Settings,
    workplace: Workplace,
    *,
    family: str | None = None,
) -> Teacher:
    """A probe on the layers of a self-supervised speech model, or that model fine-tuned.

    Args:
        argument: its name on the Hugging Face hub, or its folder; empty for the family's in
            `TEACHER_SOURCES`.
        family: that it must be of.
    """
    source = argument or TEACHER_SOURCES[str(family)].model
    facts = facts_of(selection, settings)
    task = speech_probe.TeacherTask(
        selection.utterances,
        selection.classes,
        [*selection.folds, selection.final_fold],
        card={"made_by": f"{model_name(source)}, fine-tuned", **facts},
        seed=settings.seed,
    )
    clips = workplace.unlabelled
    if workplace.fine_tune:
        if clips:
            task = dataclasses.replace(task, on_tuned=functools.partial(_answer_tuned, clips, workplace))
        return speech_tuning.fine_tuned_teacher(
            source,
            task,
            selection.fingerprints,
            work=workplace.work,
            settings=dataclasses.replace(speech_tuning.TuningSettings(), **_tuning(settings)),
            family=family,
        )
    encoder = speech.layer_encoder_of(source, family)
    layers = embedded(encoder, selection, workplace)
    card = {
        "made_by": f"probe on {model_name(source)}",
        "encoder": {"source": model_name(source), **encoder.identity},
        **facts,
    }
    if clips:
        of_clips = clip_embeddings(encoder, clips, workplace)

        def answer(fold: str, layer_probe: speech_probe.LayerProbe) -> None:
            blocks = blocks_of(len(of_clips))
            logits = (layer_probe.logits(of_clips, rows) for rows in blocks)
            clips.write(fold, logits, len(selection.classes))
            sums = (layer_probe.weighted_sums(of_clips, rows) for rows in blocks)
            clips.write_embeddings(sums, encoder.shape[-1], fold)

        task = dataclasses.replace(task, on_fold=answer)
    return speech_probe.layer_probe_teacher(layers, dataclasses.replace(task, card=card))


def _answer_tuned(
    clips: UnlabelledTask, workplace: Workplace, fold: str, encoder: Encoder, classes: int
) -> None:
    """Write what a fold's fine-tuned model says of the clips.

    Args:
        encoder: gives its logits and its embedding in one row.
    """
    rows = OneEach(clip_embeddings(encoder, clips, workplace))

    def columns(chosen: slice) -> Iterator[np.ndarray]:
        return (rows[block][:, chosen] for block in blocks_of(len(rows)))

    clips.write(fold, columns(slice(classes)), classes)
    clips.write_embeddings(columns(slice(classes, None)), rows.shape[1] - classes, fold)


def speech_model_digest(argument: str, data: Path, *, family: str) -> str | None:
    """Hash of a folder's model; None of a name on the hub."""
    return speech.digest(argument or TEACHER_SOURCES[family].model, family)


def _tuning(settings: Settings) -> dict[str, Any]:
    """What the user says of a fine-tuning; the rest stays as `TuningSettings` has it."""
    tuning = {name: getattr(settings, name) for name in ("epochs", "batch_size", "learning_rate")}
    return {name: value for name, value in tuning.items() if value is not None}


# Functions for the families in `TEACHER_SOURCES`.
wavlm_teacher = functools.partial(speech_model_teacher, family="wavlm")
wav2vec2_teacher = functools.partial(speech_model_teacher, family="wav2vec2")
hubert_teacher = functools.partial(speech_model_teacher, family="hubert")
wavlm_digest = functools.partial(speech_model_digest, family="wavlm")
wav2vec2_digest = functools.partial(speech_model_digest, family="wav2vec2")
hubert_digest = functools.partial(speech_model_digest, family="hubert")
