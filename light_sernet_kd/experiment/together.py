"""Networks of several folds and runs that are trained together, where the engine can: on JAX."""

import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.networks import Training, job_of
from light_sernet_kd.experiment.teacher import final_teacher_epochs, median_epochs, teacher_outputs
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.training.vectorised.together import most_together, train_together

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


def train_folds(runs: Sequence["Experiment"]) -> None:
    """Train what the folds of these runs lack: the teachers that they train themselves, then the students.

    Each network is left to its run, whose folds then find it trained.
    """
    folds = [(run, fold) for run in runs for fold in run.folds if not run.step(fold).is_done]
    _train(itertools.chain.from_iterable(_teachers(run, fold) for run, fold in folds))
    _train(itertools.chain.from_iterable(_student(run, fold) for run, fold in folds))


def train_finals(runs: Sequence[tuple["Experiment", Sequence[dict[str, Any]]]]) -> None:
    """Train the final students that these runs want and lack, each run with its folds' outcomes."""
    left = [
        (run, run.selection.final_fold, median_epochs([outcome["best_epochs"] for outcome in outcomes]))
        for run, outcomes in runs
        if run.settings.export and not run.step(run.selection.final_fold).is_done
    ]
    teacher_epochs = {
        run.folder.path: final_teacher_epochs(run) for run, _, _ in left if run.settings.trained_teacher
    }
    own = [(run, fold, teacher_epochs.get(run.folder.path)) for run, fold, _ in left]
    _train(itertools.chain.from_iterable(_teachers(*each) for each in own))
    students = (
        _student(run, fold, epochs, teacher_epochs.get(run.folder.path)) for run, fold, epochs in left
    )
    _train(itertools.chain.from_iterable(students))


def _teachers(run: "Experiment", fold: Fold, epochs: Sequence[int] | None = None) -> Iterable[Training]:
    """The networks of the fold's own teacher that are not trained."""
    step = run.step(fold)
    if not run.settings.trained_teacher or step.teacher.exists():
        return
    for number in range(run.settings.teacher_count):
        role = "teacher" if number == 0 else f"teacher-{number + 1}"
        if not step.member(role).exists():
            yield Training(run, role, fold, epochs=epochs)


def _student(
    run: "Experiment",
    fold: Fold,
    epochs: Sequence[int] | None = None,
    teacher_epochs: Sequence[int] | None = None,
) -> Iterable[Training]:
    run.step(fold).make()
    try:
        yield Training(run, "student", fold, teacher_outputs(run, fold, teacher_epochs), epochs)
    except UserError:
        return  # the fold is told the same when its turn comes


def _train(trainings: Iterable[Training]) -> None:
    """Train them, those that one program can train together."""
    together: dict[Hashable, list[Training]] = {}
    for training in trainings:
        run, settings = training.run, training.run.settings
        run.step(training.fold).make()
        # What a network sees, and what it is.
        seen = (run.corpus_digest, run.classes, run.front_end, settings.input_type, settings.samples)
        sees = settings.soft_labels, settings.augmentation if training.role == "student" else ""
        together.setdefault((*seen, *sees, training.network.architecture), []).append(training)
    for alike in together.values():
        most = most_together(alike[0].network)
        for first in range(0, len(alike), most):
            _train_some(alike[first : first + most])


def _train_some(trainings: Sequence[Training]) -> None:
    one = trainings[0]
    title = f"fold {one.fold.name}, {one.role}"
    if len(trainings) > 1:
        title = f"{pluralise(len(trainings), 'network')} together"
    with one.run.display.network(title) as shown:
        pairs = [(each.network, job_of(each.run, each)) for each in trainings]
        for each, trained in zip(trainings, train_together(pairs, progress=shown.epoch), strict=True):
            each.run.ahead[each.role, each.fold.name] = trained
