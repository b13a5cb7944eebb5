"""The teacher gate: before a student trains, whether its teacher knows more than the student would alone.

No test speaker decides it. Teacher and student are scored on the same utterances, of speakers whom neither
was trained on: the validation speakers, or training speakers whom a cross-fitted teacher answers without
having met them.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import evaluation, plugins, teachers
from light_sernet_kd.config.settings import BEST, GATE_OFF, GATE_REFUSE
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.run_folder import read_or_redo, read_rows
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.alone import Alone, decides_folds, find_alone, settings_alone
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.networks.training import keep_networks, network_of, train_network
from light_sernet_kd.experiment.teachers.teacher import fold_teacher
from light_sernet_kd.files import read_json, write_arrays, write_json
from light_sernet_kd.registries.engines import ENGINES
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.teachers.probe import held_out_parts

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

# To warn, a student is trained only where that is a small part of the run: at most a fifth of its folds'.
FEWEST_FOLDS = 5
# With two training speakers a student of one would stand for the student of both.
FEWEST_TRAINING_SPEAKERS = 3
# Means of other recalls that are equal differ in their last bits.
_ROUNDING = 1e-9

_ENDS = (None, [float])
_FACTS = {
    "verdict": (str, None),
    "sentence": str,
    "cross_fitted_ua": (float, None),
    "compared": (None, {"teacher": float, "student": float, "utterances": int, "ci95": _ENDS}),
}
_NOTHING_BESIDE = "there is no finished run without a teacher to compare it with"
MORE, NO_MORE = "knows more", "knows no more"


class _UnjudgedError(Exception):
    """Why the teacher cannot be judged."""


@dataclass(frozen=True)
class _Compared:
    """What both say of utterances whose speakers neither was trained on.

    Attributes:
        rows: the utterances.
        teacher, student: classes `(len(rows),)`.
        who: what the speakers are in their fold.
        student_from: where the student's answers come from.
    """

    rows: np.ndarray
    teacher: np.ndarray
    student: np.ndarray
    who: str
    student_from: str


def check_teacher(run: "Experiment") -> None:
    """Say whether the run's teacher knows more than its student would alone, and keep it in the run's folder.

    Raises:
        UserError: it knows no more, and the run is to be refused then.
    """
    if run.settings.teacher is None or run.settings.teacher_gate == GATE_OFF or not run.has_classes:
        return
    facts = gate_facts(run)
    begun = any(run.step(fold).is_done for fold in run.folds)
    if facts is None or (facts["verdict"] is None and not begun):
        if begun:
            return  # by a version without a gate, or with it off
        facts = _judged(run)
        write_json(run.folder.teacher_gate, facts)
    no_more = facts["verdict"] == NO_MORE
    if no_more and run.settings.teacher_gate == GATE_REFUSE and not begun:
        raise UserError(facts["sentence"])
    run.display.say(facts["sentence"], always=no_more)


def gate_facts(run: "Experiment") -> dict[str, Any] | None:
    """What the gate found before the run's students were trained; None where it was not asked."""
    path = run.folder.teacher_gate
    if run.settings.teacher is None or run.settings.teacher_gate == GATE_OFF or not path.exists():
        return None
    return read_or_redo(path, lambda each: read_json(each, _FACTS))


def _judged(run: "Experiment") -> dict[str, Any]:
    facts: dict[str, Any] = {"verdict": None, "cross_fitted_ua": None, "compared": None}
    try:
        facts["cross_fitted_ua"] = _cross_fitted_ua(run)
        return {**facts, **_verdict(run, _compared(run))}
    except _UnjudgedError as why:
        return {**facts, "sentence": f"Teacher gate: not judged, since {why}."}


def _verdict(run: "Experiment", compared: _Compared) -> dict[str, Any]:
    labels = run.selection.labels[compared.rows]
    speakers = [run.utterances[row].speaker for row in compared.rows]
    teacher, student = (
        evaluation.scores(labels, each, run.classes).ua for each in (compared.teacher, compared.student)
    )
    interval = evaluation.bootstrap_difference_ci(
        labels, compared.student, compared.teacher, speakers, run.classes
    )
    ends = interval and interval["ua"]
    between = f", difference {100 * (teacher - student):+.1f}"
    between += f" [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]" if ends else ""
    verdict = MORE if teacher - student > _ROUNDING else NO_MORE
    said = (
        f"Teacher gate: on {pluralise(len(labels), 'utterance')} of "
        f"{pluralise(len(set(speakers)), compared.who + ' speaker')}, whom neither was trained on, the "
        f"teacher's UA is {100 * teacher:.1f} %, that of a student without a teacher "
        f"({compared.student_from}) {100 * student:.1f} %{between}: the teacher {verdict}."
    )
    if verdict == NO_MORE:
        said += " Choose a stronger one, or --teacher_gate off."
    return {
        "verdict": verdict,
        "sentence": said,
        "compared": {
            "teacher": teacher,
            "student": student,
            "utterances": len(labels),
            "speakers": sorted(set(speakers)),
            "ids": [run.utterances[row].id for row in compared.rows],
            "ci95": ends and list(ends),
        },
    }


def _judged_folds(run: "Experiment") -> list[Fold]:
    """Those whose teachers are there; of networks the first, which is trained before its student anyway."""
    if not run.settings.trained_teacher:
        return run.folds
    if ENGINES[run.engine].trains_together:
        from light_sernet_kd.training.vectorised.together import trains_several

        if trains_several():
            raise _UnjudgedError("the teachers and students of a run are trained together on this device")
    return run.folds[:1]


def _answers(run: "Experiment", fold: Fold, rows: Sequence[int]) -> np.ndarray:
    """Classes that the fold's teacher gives to the utterances `rows`."""
    logits = teachers.aligned(fold_teacher(run, fold), run.utterances, run.classes, fold.name)
    return logits[list(rows)].argmax(axis=1)


def _cross_fitted_ua(run: "Experiment") -> float | None:
    """Of the teacher's outputs for training utterances, over all judged folds."""
    folds = _judged_folds(run)
    if not teachers.is_cross_fitted(fold_teacher(run, folds[0]).card):
        return None
    labels = np.concatenate([run.selection.labels[list(fold.train)] for fold in folds])
    predicted = np.concatenate([_answers(run, fold, fold.train) for fold in folds])
    return evaluation.scores(labels, predicted, run.classes).ua


def _compared(run: "Experiment") -> _Compared:
    alone = find_alone(run)
    # Its epoch was chosen on these speakers, as that of a network that teaches was, and of no probe.
    is_fair = run.settings.keep != BEST or run.settings.trained_teacher is not None
    beside_run = _beside_finished_run(run, alone) if alone and is_fair else None
    return beside_run or _beside_estimate(run)


def _beside_finished_run(run: "Experiment", alone: Alone) -> _Compared | None:
    """On the validation speakers of the folds, whom each fold's student of the finished run answered."""
    rows: list[int] = []
    teacher, student = [], []
    for fold in _judged_folds(run):
        validation = _validation(run, fold)
        try:
            logits = alone.folder.fold(fold.name).rows(
                "validation_logits.npz", rows=len(validation), width=len(run.classes)
            )["selected"]
        except UserError:
            return None  # damaged, or removed
        rows.extend(validation)
        teacher.append(_answers(run, fold, validation))
        student.append(logits.argmax(axis=1))
    return _Compared(
        np.array(rows),
        np.concatenate(teacher),
        np.concatenate(student),
        "validation",
        f"run {alone.run.name}",
    )


def _validation(run: "Experiment", fold: Fold) -> tuple[int, ...]:
    """The fold's validation utterances, whose speakers its teacher was not trained on."""
    if not fold.selection_indices:
        raise _UnjudgedError(
            f"the protocol {run.settings.protocol} has no validation speakers who do not test as well"
        )
    teacher = fold_teacher(run, fold)
    seen = teachers.speakers_of_fold(teacher, fold.name)
    if seen is None:
        raise _UnjudgedError("its file does not name the speakers that it was trained on")
    if teachers.trained_speakers_among(teacher, seen, set(run.selection.speakers(fold.selection_indices))):
        raise _UnjudgedError("it was trained on the validation speakers")
    return fold.selection_indices


def _beside_estimate(run: "Experiment") -> _Compared:
    """On speakers of the first fold, whom one student without a teacher answers that is trained for it."""
    if "student" in run.multimodal:
        raise _UnjudgedError(f"{_NOTHING_BESIDE}, and no {run.settings.student} is trained to make one")
    if run.start and run.start.per_fold:
        raise _UnjudgedError(
            f"{_NOTHING_BESIDE}, and the weights that the student begins with may know the speakers that "
            "one would answer"
        )
    fold = _judged_folds(run)[0]
    if teachers.is_cross_fitted(fold_teacher(run, fold).card):
        who, rows = "training", _held_out(run, fold)
        left = set(rows)
        train = tuple(row for row in fold.train if row not in left)
    else:
        who, rows, train = "validation", _validation(run, fold), fold.train
    logits = _estimate(run, Fold("teacher-gate", train, fold.selection_indices, rows))
    return _Compared(
        np.array(rows), _answers(run, fold, rows), logits.argmax(axis=1), who, "trained for this"
    )


def _held_out(run: "Experiment", fold: Fold) -> tuple[int, ...]:
    """Training utterances of the fold that the student of the estimate is not trained on.

    Probes are cross-fitted by the same parts, so what answers for these learnt from what the student does.
    """
    train = np.array(fold.train)
    speakers = np.array([run.utterances[row].speaker for row in fold.train])
    if len(set(speakers)) < FEWEST_TRAINING_SPEAKERS:
        raise _UnjudgedError(f"the first fold has fewer than {FEWEST_TRAINING_SPEAKERS} training speakers")
    parts = held_out_parts(speakers)
    largest = max(parts, key=lambda part: (len(set(speakers[part])), int(part.sum())))
    return tuple(train[largest].tolist())


def _estimate(run: "Experiment", fold: Fold) -> np.ndarray:
    """Logits `(len(fold.test), classes)` of a student without a teacher.

    They are kept for other runs whose student would be the same.
    """
    settings = decides_folds(settings_alone(run.settings).as_dict())
    decides = [
        settings,
        run.corpus_digest,
        *plugins.behind(settings),
        *([run.config["start_sha256"]] if run.start else []),
        *(list(rows) for rows in (fold.train, fold.validation, fold.test)),
    ]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    kept = run.cache_folder / "teacher_gate" / f"{digest}.npz"
    shape = (len(fold.test), len(run.classes))
    if (logits := _kept(kept, shape)) is not None:
        return logits
    if run.settings.teacher_gate != GATE_REFUSE and len(run.folds) < FEWEST_FOLDS:
        raise _UnjudgedError(
            f"{_NOTHING_BESIDE} (`train --alone` makes one), and to train one student more would cost much "
            f"beside {pluralise(len(run.folds), 'fold')}"
        )
    with _workshop(kept):
        if (logits := _kept(kept, shape)) is not None:
            return logits
        began = time.perf_counter()
        logits = _trained(run, fold, kept.with_suffix(""))
        write_arrays(kept, {"selected": logits})
    run.display.say(f"Teacher gate: that took {time.perf_counter() - began:.0f} s")
    return logits


def _kept(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    try:
        return read_rows(path, rows=shape[0], width=shape[1])["selected"]
    except (OSError, UserError, ValueError, KeyError):
        return None  # there is none, or a damaged one: it is made anew


@contextmanager
def _workshop(kept: Path) -> Iterator[None]:
    """The folder in which the student is trained, held; another run waits here, and finds the outcome."""
    import filelock

    folder = kept.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(kept.with_suffix(".lock")):
        yield
        shutil.rmtree(folder, ignore_errors=True)


def _trained(run: "Experiment", fold: Fold, folder: Path) -> np.ndarray:
    """Logits for the fold's test utterances of a student that is trained on it without a teacher."""
    count = len(run.selection.speakers(fold.train))
    run.display.say(
        f"Teacher gate: training one student without a teacher on {pluralise(count, 'speaker')}, to compare "
        "the teacher with (kept for other runs; --teacher_gate off does without) ..."
    )
    alone = run.without_teacher(folder)
    try:
        weights = train_network(alone, "student", fold).selected
    except UserError as error:
        raise _UnjudgedError(f"the student without a teacher failed: {str(error).rstrip('.')}") from None
    network, rows = network_of(alone, "student"), phases_of(alone, "student")[-1].rows
    logits = network.logits(weights, rows, fold.test)
    keep_networks(alone)
    return logits
