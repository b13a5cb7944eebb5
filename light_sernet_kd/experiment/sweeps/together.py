"""Networks of several folds and runs that are trained together, where the engine can: on JAX."""

import contextlib
import hashlib
import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from light_sernet_kd.audio.augment import text_of
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.networks.phases import front_end_for, is_trained_with_others
from light_sernet_kd.experiment.networks.training import (
    Training,
    is_augmented,
    job_of,
    kind_of,
    network_of,
    teacher_roles,
)
from light_sernet_kd.experiment.teachers.teacher import final_teacher_epochs, median_epochs, teacher_outputs
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.training.job import TrainingJob
from light_sernet_kd.training.vectorised.together import most_together, train_together, trains_several

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


def train_folds(runs: Sequence["Experiment"]) -> None:
    """Train what the folds of these runs lack: the teachers that they train themselves, then the students.

    Each network is left to its run, whose folds then find it trained. What cannot be trained is left out: its
    fold is told why when its turn comes. Where networks are trained one at a time nothing is done before
    then, so that each fold is stored before the next one begins.
    """
    if not trains_several():
        return
    folds = [(run, fold) for run in runs for fold in run.folds if not run.step(fold).is_done]
    _train(itertools.chain.from_iterable(_teachers(run, fold) for run, fold in folds))
    _train(itertools.chain.from_iterable(_student(run, fold) for run, fold in folds))


def train_finals(runs: Sequence[tuple["Experiment", Sequence[dict[str, Any]]]]) -> None:
    """Train the final students that these runs want and lack, each run with its folds' outcomes.

    As `train_folds` otherwise.
    """
    if not trains_several():
        return
    left, of_teachers = [], {}
    for run, outcomes in runs:
        if not run.settings.export or run.step(run.selection.final_fold).is_done:
            continue
        with contextlib.suppress(UserError):
            if run.settings.trained_teacher:
                of_teachers[run.folder.path] = final_teacher_epochs(run)
            left.append((run, median_epochs([outcome["best_epochs"] for outcome in outcomes])))
    final = [(run, run.selection.final_fold, of_teachers.get(run.folder.path)) for run, _ in left]
    _train(itertools.chain.from_iterable(_teachers(*each) for each in final))
    students = [
        _student(run, fold, epochs, teacher_epochs)
        for (run, epochs), (_, fold, teacher_epochs) in zip(left, final, strict=True)
    ]
    _train(itertools.chain.from_iterable(students))


def result_bytes(run: "Experiment") -> int:
    """At most what `train_folds` leaves of the run in memory: of each network two sets of weights."""
    if not trains_several():
        return 0
    of_a_fold = 0
    for role, count in (("student", 1), ("teacher", run.settings.teacher_count)):
        if (role == "student" or run.settings.trained_teacher) and is_trained_with_others(run, role):
            with contextlib.suppress(UserError):  # it is told when the network is to be trained
                of_a_fold += count * 2 * 4 * network_of(run, role, 0).parameters
    return of_a_fold * len(run.folds)


def _teachers(run: "Experiment", fold: Fold, epochs: Sequence[int] | None = None) -> Iterable[Training]:
    """The networks of the fold's own teacher that are not trained."""
    step = run.step(fold)
    is_trained_here = run.settings.trained_teacher and is_trained_with_others(run, "teacher")
    if not is_trained_here or step.teacher.exists():
        return
    for role in teacher_roles(run):
        if not step.member(role).exists():
            yield Training(run, role, fold, epochs=epochs)


def _student(
    run: "Experiment",
    fold: Fold,
    epochs: Sequence[int] | None = None,
    teacher_epochs: Sequence[int] | None = None,
) -> Iterable[Training]:
    if not is_trained_with_others(run, "student"):
        return
    run.step(fold).make()
    with contextlib.suppress(UserError):
        yield Training(run, "student", fold, teacher_outputs(run, fold, teacher_epochs), epochs)


def _train(trainings: Iterable[Training]) -> None:
    """Train them, those that one program can train together."""
    together: dict[Hashable, list[tuple[Training, TrainingJob]]] = {}
    for training in trainings:
        training.run.step(training.fold).make()
        with contextlib.suppress(UserError):
            kind = _seen(training), training.network.architecture
            together.setdefault(kind, []).append((training, job_of(training)))
    for alike in together.values():
        most = most_together(alike[0][0].network)
        for first in range(0, len(alike), most):
            with contextlib.suppress(MemoryError):  # not even one: it is told when its turn comes
                _train_some(alike[first : first + most])


def _seen(training: Training) -> Hashable:
    """What decides the examples that a network sees; with equal ones they are the same."""
    run, settings = training.run, training.run.settings
    shares = None if run.soft_labels is None else hashlib.sha256(run.soft_labels.tobytes()).hexdigest()
    kind = kind_of(training.role)
    # A teacher may have a front end of its own, and a run may leave out a part of its recipe's augmentation.
    changes = text_of(run.augmentations) if is_augmented(run, kind) else ""
    inputs = front_end_for(run, kind), settings.input_type, settings.samples, settings.reader
    return run.corpus_digest, run.classes, shares, changes, *inputs


def _train_some(trainings: Sequence[tuple[Training, TrainingJob]]) -> None:
    one = trainings[0][0]
    title = f"fold {one.fold.name}, {one.role}"
    if len(trainings) > 1:
        title = f"{pluralise(len(trainings), 'network')} together"
    with one.run.display.network(title) as shown:
        pairs = [(each.network, job) for each, job in trainings]
        made = train_together(pairs, progress=shown.epoch)
        for (each, job), trained in zip(trainings, made, strict=True):
            each.run.ahead[each.role, each.fold.name] = trained
            if each.run.forecast:
                rows, epochs = len(job.train), each.network.schedule.epochs
                each.run.forecast.skip((kind_of(each.role), 0), rows, epochs)
