"""A run's recordings without labels: surveyed, answered by each fold's teacher, and fed to its student."""

import csv
import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.data.batches import UnlabelledClips
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.run_folder import read_or_redo
from light_sernet_kd.data.unlabelled import Clips, leaking, leaks_named, survey
from light_sernet_kd.data.unlabelled.surveys import Survey, sentence
from light_sernet_kd.distillation.batch_keys import EMBEDDING, LOGITS
from light_sernet_kd.encoders import front_end
from light_sernet_kd.encoders.embedding_cache import OneEach, embed_clips
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.networks.phases import front_end_for
from light_sernet_kd.experiment.networks.training import network_of, teacher_roles
from light_sernet_kd.files import write_text
from light_sernet_kd.registries.teachers import teacher_source
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.teachers import Teacher
from light_sernet_kd.teachers import unlabelled as files
from light_sernet_kd.teachers.unlabelled import Answers, UnlabelledTask

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

# In a file's list each recording takes 18 bytes: of more than these it would be larger than a small student.
MOST_LISTED = 10_000
# Why each recording that gives no clip was left out, in a run's folder.
LEFT_OUT = "unlabelled_left_out.csv"


def surveyed_folder(folder: str, samples: int, cache_folder: Path, display: Display) -> Survey:
    """What can be trained on in a folder; what it is, and what was left out, is said in a line."""
    with display.counted("unlabelled recordings") as shown:
        speech = survey(Path(folder), samples, cache_folder / "unlabelled", progress=shown)
    display.say(f"Unlabelled: {sentence(speech.facts())}.")
    return speech


def surveyed(run: "Experiment", *, may_leak: bool = False) -> Clips | None:
    """The clips of the run; None where none are wanted.

    Args:
        may_leak: whether recordings that test or validate are welcome too.

    Raises:
        UserError: a recording of them is one that the run tests or validates on, and is not to be left out.
    """
    settings = run.settings
    if settings.unlabelled is None:
        return None
    speech = surveyed_folder(settings.unlabelled, settings.samples, run.cache_folder, run.display)
    if may_leak:
        return Clips(speech, run.options.clips)
    leaks = leaking(speech, run.folds, run.utterances, run.selection.fingerprints, run.measured)
    if leaks and not settings.unlabelled_skip_tested:
        raise UserError(
            f"{leaks_named(leaks)}. Remove them from {settings.unlabelled}, or leave them out with "
            "--unlabelled_skip_tested."
        )
    if leaks:
        run.display.say(f"  Left out: {leaks_named(leaks)}.")
        speech = speech.without_tested(leaks)
    return Clips(speech, run.options.clips)


def clips_of(run: "Experiment") -> Clips:
    """The clips of a run that has some."""
    if run.unlabelled is None:
        raise ValueError("the run has no unlabelled recordings")
    return run.unlabelled


def facts(run: "Experiment") -> dict[str, Any]:
    """What metrics.json tells of the clips."""
    speech = clips_of(run).survey.facts()
    return {**speech, "share": run.settings.unlabelled_share, "sentence": sentence(speech)}


def stamps(run: "Experiment") -> list[str]:
    """What the clips make doubtful in the scores, and in what an exported file knows of its training."""
    if run.unlabelled is None:
        return []
    count = len(run.unlabelled.survey.recordings)
    made = [f"perhaps optimistic: the speakers of {count:,} unlabelled recordings may be test speakers"]
    if count > MOST_LISTED and run.settings.export:
        made.append(f"files do not list the {count:,} unlabelled recordings that trained too")
    return made


def listed(run: "Experiment") -> NDArray[Any] | None:
    """Rows of the unlabelled recordings for an exported file's training list; None where it has none."""
    if run.unlabelled is None or len(run.unlabelled.survey.recordings) > MOST_LISTED:
        return None
    return run.unlabelled.survey.sounds[run.unlabelled.survey.recordings]


def write_left_out(run: "Experiment") -> None:
    """A table of the recordings that give no clip, and why."""
    if run.unlabelled is None:
        return
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["recording", "reason"])
    writer.writerows(sorted(run.unlabelled.survey.left_out.items()))
    write_text(run.folder.path / LEFT_OUT, table.getvalue())


# Features


def rows_of(run: "Experiment", role: str, view: front_end.View | None = None) -> OneEach:
    """Features of every clip as the role's network hears them, or as the view changes them."""
    name = front_end_for(run, role)
    key = f"{name} {view.number}" if view else name
    if key not in run.clip_rows:
        encoder = front_end.encoder(name, run.settings.input_type, run.settings.samples, view)
        with run.display.counted("unlabelled clips") as shown:
            cache = run.cache_folder / "embeddings"
            made = embed_clips(clips_of(run), encoder, cache=cache, progress=shown)
        run.clip_rows[key] = OneEach(made)
    return run.clip_rows[key]


def views_of(run: "Experiment") -> tuple[OneEach, ...]:
    """Features of every clip in each view that the student draws from; none where it hears them as they are.

    What is made of other training recordings, such as babble, is left out: a clip's speaker is not known.
    """
    kept = tuple(each for each in run.augmentations if each.kind.needs is None)
    return tuple(
        rows_of(run, "student", front_end.View(kept, number, run.settings.seed))
        for number in range(run.settings.unlabelled_views)
    )


# What teachers say


def task_of(run: "Experiment") -> UnlabelledTask:
    """For a source that makes the teachers of all folds at once."""
    return UnlabelledTask(clips_of(run), _answers_folder(run), run.distillation.needs_embeddings)


def _answers_folder(run: "Experiment") -> Path:
    return run.folder.path / "unlabelled"


def write_answers(run: "Experiment", role: str, fold: Fold, weights: list[np.ndarray]) -> None:
    """What a network of the fold's teacher says of every clip, in a file until the fold is done."""
    network, rows = network_of(run, "teacher"), rows_of(run, "teacher")
    blocks = network.output_blocks(weights, rows, range(len(rows)))
    files.write_network_answers(
        run.step(fold).member(f"{role}-unlabelled", "npy"),
        ((block[LOGITS], block[EMBEDDING]) for block in blocks),
        len(rows),
        (len(run.classes), network.embedding_width),
    )


def trained_answers(run: "Experiment", fold: Fold) -> Answers:
    """What the networks of the fold's teacher say together."""
    step, members = run.step(fold), []
    read = functools.partial(files.read_network_answers, clips=len(clips_of(run)), classes=len(run.classes))
    for role in teacher_roles(run):
        path = step.member(f"{role}-unlabelled", "npy")
        members.append(read_or_redo(path, read, remove=step.teacher))
    return files.combine_answers(members)


def answers_in_file(run: "Experiment", teacher: Teacher, fold: str) -> Answers:
    """What a teacher file says of the clips.

    Raises:
        UserError: nothing, or not of all of them, or no embeddings where a loss compares them.
    """
    contents = clips_of(run).survey.clips["content"]
    answers = files.read_beside(Path(str(run.settings.teacher)), teacher, contents, run.classes, fold)
    if run.distillation.needs_embeddings and answers.embedding is None:
        raise UserError(
            f"{run.settings.teacher} has no embeddings of unlabelled recordings, which "
            f"{run.settings.distillation} compares: choose another loss or teacher."
        )
    return answers


def _answers(run: "Experiment", fold: Fold, factors: tuple[float, float] | None) -> Answers:
    if run.settings.trained_teacher:
        trained = trained_answers(run, fold)
        return files.combine_answers([_made_answers(run, fold), trained], factors) if factors else trained
    if run.teacher and teacher_source(str(run.settings.teacher))[0].kind == "read":
        return answers_in_file(run, run.teacher, fold.name)
    return _made_answers(run, fold)


def _made_answers(run: "Experiment", fold: Fold) -> Answers:
    """What the teacher says that was made for all folds at once."""
    folder, clips, classes = _answers_folder(run), len(clips_of(run)), len(run.classes)
    return read_or_redo(
        files.file_of(folder, fold.name),
        lambda path: files.read_of(path.parent, fold.name, clips, classes),
        remove=run.folder.teacher,
    )


def clips_beside(
    run: "Experiment", fold: Fold, factors: tuple[float, float] | None = None
) -> UnlabelledClips:
    """The clips that join the batches of the fold's student, with what its teacher says of them.

    Args:
        factors: of the logits of what is made for all folds and of the network that is trained for this one;
            None where one of them teaches alone.
    """
    answers = _answers(run, fold, factors)
    return UnlabelledClips(
        rows_of(run, "student"),
        run.settings.unlabelled_share,
        answers.logits,
        answers.embedding,
        views_of(run),
    )
