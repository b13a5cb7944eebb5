"""What the teacher says of the utterances that a fold tested."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import audio, teachers
from light_sernet_kd.analysis.explain.source import Source, speech_and_text
from light_sernet_kd.config import Settings
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.run_folder import RunFolder, Step
from light_sernet_kd.data.text_states import TEACHER_STATES, read_text_states
from light_sernet_kd.files import read_json
from light_sernet_kd.registries.students import is_multimodal

if TYPE_CHECKING:
    from light_sernet_kd.encoders.multimodal import SpeechAndText


def teacher_embeddings(
    run: RunFolder, step: Step, settings: Settings, utterances: Sequence[Utterance], fold: str
) -> tuple[NDArray[np.float32] | None, str]:
    """The teacher's embeddings of these utterances, or why there are none.

    Raises:
        JsonError: the run's config.json cannot be used.
        UserError: as `teachers.read`.
    """
    if settings.teacher is None:
        return None, "The run had no teacher."
    config = read_json(run.config, {"teacher_sha256?": (str, None)})
    # In this order, of a teacher that is mixed of both.
    run_files = [path for path in (run.teacher, step.teacher) if path.exists()]
    path = Path(settings.teacher)
    if not run_files and not path.is_file():
        return None, f"The teacher file {path} is not there, so its embeddings are not compared."
    if not run_files and audio.fingerprint(path) != config.get("teacher_sha256"):
        return None, f"The teacher file {path} has changed since, so its embeddings are not compared."
    read = [teachers.read(each) for each in run_files or [path]]
    if any(teacher.embeddings is None for teacher in read):
        return None, "The teacher's file has no embeddings to compare with."
    side_by_side = [teachers.aligned_embeddings(teacher, utterances, fold) for teacher in read]
    return np.concatenate(side_by_side, axis=1), ""


def teacher_text_states(
    source: Source,
    step: Step,
    student: "SpeechAndText",
    utterances: tuple[Utterance, ...],
    work: Path,
) -> tuple[list[np.ndarray] | None, str]:
    """The teacher's text states of each utterance's tokens, or why there are none to compare."""
    settings = source.settings
    if settings.teacher is None:
        return None, ""
    if not is_multimodal(settings.trained_teacher):
        return None, "The teacher's text states are not known: it reads no text, or came as a file."
    if (step.path / TEACHER_STATES).exists():
        return read_text_states(step.path), ""
    # one number for each phase of its training
    if not step.teacher.exists() or len(teachers.read(step.teacher).card.get("best_epochs", ())) != 1:
        return None, (
            "The teacher's text encoder was trained with it, and the run kept no text states of it: they "
            "are kept where teacher and student have one vocabulary."
        )
    teacher = speech_and_text(source, utterances, work=work, is_teacher=True)
    if not (teacher and teacher.text and student.text):
        return None, ""
    if teacher.text.tokeniser.vocabulary != student.text.tokeniser.vocabulary:
        return None, "The text states of student and teacher are of different tokens: theirs differ."
    states = teacher.text_states[np.arange(len(utterances))]
    return [rows[rows.any(axis=-1)] for rows in states], ""
