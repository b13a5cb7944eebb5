"""Students of finished runs as teachers: `--teacher run:FOLDER`, of one run or of several.

With one they are born-again networks (Furlanello et al. 2018, arXiv:1805.04770), with several an ensemble
that one student learns from. A fold's teacher is what those runs trained in that same fold.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from light_sernet_kd import teachers
from light_sernet_kd.config import Dimensions, Settings
from light_sernet_kd.data import feature_cache
from light_sernet_kd.data.feature_cache import predictions
from light_sernet_kd.data.protocols import ALL_SPEAKERS, Fold
from light_sernet_kd.data.resolve_settings import settings_of_run
from light_sernet_kd.data.run_folder import Run, RunFolder
from light_sernet_kd.data.selection import Selection, changed_folds
from light_sernet_kd.distillation.distiller import embedding_of
from light_sernet_kd.encoders import front_end
from light_sernet_kd.encoders.embedding_cache import OneEach
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import read_json
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.registries.students import STUDENTS, is_multimodal
from light_sernet_kd.teachers import Teacher
from light_sernet_kd.teachers.alignment import SCALED
from light_sernet_kd.teachers.sources import Workplace, clip_embeddings
from light_sernet_kd.teachers.unlabelled import (
    blocks_of,
    combine_answers,
    file_of,
    read_network_answers,
    write_network_answers,
)
from light_sernet_kd.training.network import load_student


@dataclass(frozen=True)
class FinishedRun:
    """A finished run whose students teach.

    Attributes:
        settings: its own, with the front end that it had.
        named: what messages call it.
    """

    folder: RunFolder
    run: Run
    settings: Settings
    named: str

    def is_on(self, selection: Selection) -> bool:
        """Whether it was trained on these very recordings and labels."""
        return bool(read_json(self.folder.config)["corpus_sha256"] == selection.digest)

    @property
    def has_final(self) -> bool:
        return self.folder.fold(ALL_SPEAKERS).is_done


def folders(argument: str) -> list[Path]:
    """The folders that `run:A,B` names.

    >>> [path.as_posix() for path in folders("result/a,result/b")]
    ['result/a', 'result/b']
    """
    named = [Path(each.strip()) for each in argument.split(",") if each.strip()]
    if not named:
        raise UserError("run: takes the folder of a finished run, such as run:result/pure.")
    return named


def teacher_runs(argument: str, selection: Selection, settings: Settings) -> list[FinishedRun]:
    """The runs, checked to have the folds of `selection`.

    Raises:
        UserError: one is not finished, or has other recordings, classes or folds.
    """
    taught = [finished_run(folder, f"run:{folder}") for folder in folders(argument)]
    for each in taught:
        if not each.is_on(selection):
            raise UserError(
                f"{each.named} was trained on other recordings, labels or emotions than these: its corpus is "
                f"{each.run.metrics['corpus']}."
            )
        check_same_folds(each, selection, settings)
    return taught


def finished_run(path: Path, named: str) -> FinishedRun:
    """The finished run in a folder, with audio-only students.

    Args:
        named: what messages call it, such as `run:result/pure`.

    Raises:
        UserError: it is not finished, or its students take text.
    """
    folder = RunFolder(path)
    run = folder.finished()
    settings = settings_of_run(path, run.settings)
    settings = dataclasses.replace(
        settings, front_end=settings.front_end or STUDENTS[settings.student].front_end
    )
    if is_multimodal(settings.student):
        raise UserError(
            f"{named} has students of speech and text, {settings.student}: expected audio-only students."
        )
    return FinishedRun(folder, run, settings, named)


def check_same_folds(taught: FinishedRun, selection: Selection, settings: Settings) -> None:
    """Refuse a run on these recordings whose folds are others: its students may know who tests here."""
    decides = ("protocol", PROTOCOLS[settings.protocol].depends_on)
    for name in filter(None, decides):
        if getattr(taught.settings, name) != getattr(settings, name):
            raise UserError(
                f"{taught.named} has other folds: its {name.replace('_', ' ')} is "
                f"{getattr(taught.settings, name)}, and {getattr(settings, name)} here."
            )
    missing = [fold.name for fold in selection.folds if not taught.folder.fold(fold.name).is_done]
    if missing:
        raise UserError(f"{taught.named} has no fold {', '.join(missing)}: leave out such folds (--folds).")
    for fold in selection.folds:
        theirs = taught.folder.fold(fold.name).outcome()["test_speakers"]
        here = selection.speakers(fold.test)
        if theirs != here:
            raise UserError(
                f"{taught.named} tested {', '.join(theirs)} in fold {fold.name}, where {', '.join(here)} "
                "test here: its student may know them."
            )
    stored = read_json(taught.folder.config, dict).get("folds_sha256", {})
    if changed := changed_folds(selection.fold_digests, stored):
        raise UserError(
            f"{taught.named} trained on other recordings in fold {changed[0]}: its student may know those "
            "that test here."
        )


def check_same_view(argument: str, selection: Selection, settings: Settings) -> None:
    """Refuse runs whose students cannot answer the student's features."""
    for taught in teacher_runs(argument, selection, settings):
        words = {"front_end": "front end", "input_type": "input type", "samples": "length in samples"}
        for name, what in words.items():
            theirs, ours = getattr(taught.settings, name), getattr(settings, name)
            if theirs != ours:
                raise UserError(
                    f"--teacher_view same gives run:{taught.folder.path} the student's features, and its "
                    f"{what} is {theirs}, not {ours}: leave it out, or choose another run."
                )


def networks(argument: str, fold: str) -> list[keras.Model]:
    """The students that teach in a fold, of runs that were checked when their outputs were made."""
    return [_student(RunFolder(path), fold) for path in folders(argument)]


def _student(folder: RunFolder, fold: str) -> keras.Model:
    return folder.fold(fold).read("student.keras", load_student)


def run_teacher(argument: str, selection: Selection, settings: Settings, workplace: Workplace) -> Teacher:
    """What those students say of every recording, as it is: the mean of their logits for each fold.

    Args:
        argument: folders, as `folders` reads them.

    Raises:
        UserError: as `teacher_runs`; or the students of all speakers are needed, and a run has none.
    """
    runs = teacher_runs(argument, selection, settings)
    folds = [*selection.folds]
    lacking = [str(each.folder.path) for each in runs if not each.has_final]
    if lacking and settings.export:
        raise UserError(
            f"run:{lacking[0]} has no student of all speakers to teach the one that is exported: make it "
            f"with light-sernet-kd export {lacking[0]}, or give --no-export."
        )
    if not lacking:  # also with --no-export: the run may be exported later
        folds.append(selection.final_fold)
    members = [_teacher(each, selection, folds, workplace.cache.parent) for each in runs]
    _answer(runs, folds, len(selection.classes), workplace)
    return members[0] if len(members) == 1 else teachers.ensemble(members)


def _teacher(taught: FinishedRun, selection: Selection, folds: list[Fold], cache: Path) -> Teacher:
    settings = taught.settings
    rows = feature_cache.features(
        selection.utterances,
        selection.fingerprints,
        front_end=str(settings.front_end),
        input_type=settings.input_type,
        samples=settings.samples,
        cache=feature_cache.Cache(cache, "disk"),
    )
    logits, embeddings, values = [], [], []
    for fold in folds:
        blocks = [*predictions(_asked(taught, fold.name), rows, range(len(rows)))]
        logits.append(np.concatenate([block[0] for block in blocks]))
        embeddings.append(np.concatenate([block[1] for block in blocks]))
        if settings.dimensions:
            values.append(np.concatenate([block[2] for block in blocks]))
    metrics = taught.run.metrics
    own_teacher, start = metrics.get("teacher") or {}, metrics.get("start") or {}
    card: dict[str, Any] = {
        "made_by": f"students of the run {taught.run.name}",
        "corpus": selection.corpus.name,
        "protocol": settings.protocol,
    }
    # Its training speakers are known only if its teacher, unlabelled speech and start add no unknown ones.
    if not (own_teacher.get("stamps") or metrics.get("unlabelled") or start.get("stamps")):
        card["train_speakers"] = teachers.train_speakers(folds, selection.utterances)
    licences = [each["licence"] for each in (own_teacher, start) if each.get("licence")]
    if licences:
        card["licence"] = "; ".join(dict.fromkeys(licences))
    return Teacher(
        ids=tuple(utterance.id for utterance in selection.utterances),
        classes=tuple(selection.classes),
        logits=np.stack(logits).astype(np.float32),
        folds=tuple(fold.name for fold in folds),
        card=card,
        embeddings=np.stack(embeddings).astype(np.float32),
        values=np.stack(values).astype(np.float32) if values else None,
        dimensions=Dimensions(settings.dimensions, SCALED) if values else None,
    )


def _asked(taught: FinishedRun, fold: str) -> keras.Model:
    """A student that gives logits, embedding and, where it has them, dimensions of features."""
    student = _student(taught.folder, fold)
    return keras.Model(student.inputs[0], [student.outputs[0], embedding_of(student), *student.outputs[1:]])


def _answer(runs: Sequence[FinishedRun], folds: Sequence[Fold], classes: int, workplace: Workplace) -> None:
    """Write what the students of each fold say of unlabelled clips: together, as `ensemble` has it."""
    task = workplace.unlabelled
    if task is None:
        return
    rows = []
    for each in runs:
        settings = each.settings
        encoder = front_end.encoder(str(settings.front_end), settings.input_type, settings.samples)
        rows.append(OneEach(clip_embeddings(encoder, task, workplace)))
    blocks = blocks_of(len(task.clips))
    for fold in folds:
        said = []
        for number, (each, heard) in enumerate(zip(runs, rows, strict=True)):
            model = _asked(each, fold.name)
            path = file_of(task.of_member(number).folder, fold.name)
            answers = ((block[0], block[1]) for block in predictions(model, heard, range(len(heard))))
            write_network_answers(path, answers, len(heard), (classes, model.outputs[1].shape[-1]))
            said.append(read_network_answers(path, len(heard), classes))
        combined = combine_answers(said)
        task.write(fold.name, (combined.logits[block] for block in blocks), classes)
        width = combined.embedding.shape[1]
        task.write_embeddings((combined.embedding[block] for block in blocks), width, fold.name)
    task.remove_members()


def run_digest(argument: str, data: Path) -> str:
    """Hash of the students of those runs."""
    known = []
    for path in folders(argument):
        folder = RunFolder(path)
        folds = [each["name"] for each in folder.finished().metrics["folds"]]
        known += [folder.fold(name).hashes()["student.keras"] for name in folds]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()
