"""A student that begins with the weights of a finished run: `--start_from FOLDER`.

Of a run on the same recordings each fold's student begins with what that run trained in the same fold, which
never met the fold's test speakers. Of a run on others it begins with the student of all its speakers, whose
exported files list every recording that it was trained on: none of them may test or validate here.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd.data import training_list
from light_sernet_kd.data.protocols import ALL_SPEAKERS, Fold
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.teachers.finished_runs import FinishedRun, check_same_folds, finished_run
from light_sernet_kd.files import sha256
from light_sernet_kd.registries.corpora import CORPORA, registered_name
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.training.network import load_student

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

# What makes two students one network, in words.
_SHAPE = {
    "student": "student", "width": "width", "depth": "depth", "kernels": "kernels",
    "local_pooling": "local pooling", "front_end": "front end", "input_type": "input type",
    "samples": "length in samples",
}  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A run that students begin from.

    Attributes:
        source: the run.
        per_fold: it has the same recordings, so that each fold has a student of its own there.
        keeps_classifier: it has the same classes, so that all layers are taken.
        same_names: how many of the recordings that test or validate here are of speakers whose names are
            among those that trained it.
    """

    source: FinishedRun
    per_fold: bool
    keeps_classifier: bool
    same_names: int = 0

    @cached_property
    def list_of_final(self) -> training_list.TrainingList:
        """The recordings that its student of all speakers was trained on."""
        return _list_of(self.source)

    def digest(self, folds: Sequence[Fold]) -> str:
        """Hash of the students that these folds begin from."""
        names = [fold.name for fold in folds] if self.per_fold else [ALL_SPEAKERS]
        known = [self.source.folder.fold(name).hashes()["student.keras"] for name in names]
        return hashlib.sha256("\n".join(known).encode()).hexdigest()

    def student(self, fold: str) -> keras.Model:
        """The student that the fold of this name begins from."""
        name = fold if self.per_fold else ALL_SPEAKERS
        if name == ALL_SPEAKERS:
            _check_final(self.source)
        return self.source.folder.fold(name).read("student.keras", load_student)

    def weights(self, fold: str, build: Callable[[], keras.Model], seed: int) -> list[np.ndarray]:
        """The weights that a student of the fold begins with; a new classifier is decided by `seed`."""
        keras.utils.set_random_seed(seed)
        return starting_weights(build(), self.student(fold), classifier=self.keeps_classifier)


def starting_weights(student: keras.Model, other: keras.Model, *, classifier: bool) -> list[np.ndarray]:
    """The weights of `other`, in the order of `student`, a network of the same shape.

    Args:
        classifier: whether its last layer's are among them; else `student`'s own stay.

    Raises:
        UserError: it has another shape.

    >>> one, other = (
    ...     keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(classes)])
    ...     for classes in (2, 4)
    ... )
    >>> [each.shape for each in starting_weights(one, other, classifier=False)]
    [(2, 3), (3,), (3, 2), (2,)]
    """
    last = next(layer for layer in reversed(student.layers) if layer.weights)
    untouched = set() if classifier else {id(weight) for weight in last.weights}
    made, given = student.get_weights(), other.get_weights()
    weights = [
        mine if id(variable) in untouched else theirs
        for variable, mine, theirs in zip(student.weights, made, given, strict=False)
    ]
    if len(made) != len(given) or [each.shape for each in weights] != [each.shape for each in made]:
        raise UserError(
            f"the network {other.name} of --start_from has weights of another shape than the student's: "
            "choose another run."
        )
    return weights


def start_of(run: "Experiment") -> Start | None:
    """The run that students begin from, checked; None where they begin anew.

    Raises:
        UserError: it is not finished, its students are other networks, or they know who tests here.
    """
    if run.settings.start_from is None:
        return None
    path = Path(run.settings.start_from)
    source = finished_run(path, f"--start_from {path}")
    for name, what in _SHAPE.items():
        theirs, ours = getattr(source.settings, name), getattr(run.settings, name)
        if theirs != ours:
            raise UserError(
                f"{source.named} has another student: its {what} is {_told(theirs)}, and {_told(ours)} here."
            )
    same_classes = list(source.run.metrics["classes"]) == list(run.classes)
    if source.is_on(run.selection):
        check_same_folds(source, run.selection, run.settings)
        if run.settings.export:
            _check_final(source)
        return Start(source, per_fold=True, keeps_classifier=same_classes)
    _check_final(source)
    return Start(source, False, same_classes, _same_names(run, source))


def _told(value: Any) -> Any:
    if value is None or value == ():
        return "as published"
    return ",".join(value) if isinstance(value, tuple) else value


def _check_final(source: FinishedRun) -> None:
    if not (source.has_final and "rows" in source.folder.fold(ALL_SPEAKERS).exported()):
        raise UserError(
            f"{source.named} has no exported student of all speakers: make it with light-sernet-kd export "
            f"{source.folder.path}."
        )


def _list_of(source: FinishedRun) -> training_list.TrainingList:
    for row in source.folder.fold(ALL_SPEAKERS).exported()["rows"]:
        file = source.folder.path / row["file"]
        if file.is_file() and sha256(file) == row["sha256"] and (listed := training_list.read(file)):
            return listed
    raise UserError(
        f"{source.named} lacks the exported files, which list what its student was trained on: make them "
        f"with light-sernet-kd export {source.folder.path}."
    )


def _same_names(run: "Experiment", source: FinishedRun) -> int:
    """Of the recordings that test or validate, how many are of speakers whose names trained that student.

    Raises:
        UserError: it was trained on some of these recordings.
    """
    rows = sorted({row for fold in run.folds for row in (*fold.test, *fold.validation)})
    tested = training_list.of_measured(
        [run.utterances[row] for row in rows],
        run.selection.fingerprints,
        run.measured.vectors[rows],
        run.measured.lengths[rows],
        corpus=run.corpus.name,
        origin=registered_name(run.settings.test_on or run.settings.corpus),
    )
    trained = _list_of(source)
    if shared := np.flatnonzero(training_list.shared(trained, tested)).tolist():
        named = ", ".join(run.utterances[rows[each]].id for each in shared[:3])
        raise UserError(
            f"{source.named} was trained on {len(shared)} of the {len(rows)} recordings that test or "
            f"validate here ({named}{', …' if len(shared) > 3 else ''}): choose a run on another corpus, or "
            "one with these very recordings, labels and folds."
        )
    return training_list.training_overlap({}, trained, tested).speakers or 0


# What the report, the stamps and the cards say


def facts(run: "Experiment") -> dict[str, Any] | None:
    """What metrics.json tells of the start."""
    start = run.start
    if start is None:
        return None
    metrics = start.source.run.metrics
    return {
        "run": start.source.run.name,
        "corpus": metrics["corpus"],
        "synthetic": metrics["synthetic"],
        "student": "the same fold" if start.per_fold else "all speakers",
        "classifier": "kept" if start.keeps_classifier else "new",
        "licence": licence(run),
        "stamps": stamps(run),
    }


def sentence(run: "Experiment") -> str | None:
    """Where the student began, for the card of a file."""
    if run.start is None:
        return None
    metrics = run.start.source.run.metrics
    return f"run {run.start.source.run.name} on {metrics['corpus']}" + " (synthetic)" * metrics["synthetic"]


def licence(run: "Experiment") -> str | None:
    """Of the corpus that the start was trained on, of its teacher, and of what it began with itself."""
    if run.start is None:
        return None
    settings, metrics = run.start.source.settings, run.start.source.run.metrics
    sources = [CORPORA.get(str(name)) for name in (settings.corpus, settings.test_on)]
    known = [f"{metrics['corpus']}: {each.origin.licence}" for each in sources if each and each.origin]
    others = (("its teacher", metrics.get("teacher")), ("its own start", metrics.get("start")))
    known += [f"{what}: {said['licence']}" for what, said in others if said and said.get("licence")]
    return "; ".join(dict.fromkeys(known)) or None


def stamps(run: "Experiment") -> list[str]:
    """What the start makes doubtful in the scores."""
    start = run.start
    if start is None:
        return []
    metrics, named = start.source.run.metrics, f"the run {start.source.run.name}, which it began from"
    made = []
    if start.same_names:
        made.append(
            f"perhaps optimistic: {pluralise(start.same_names, 'recording')} of speakers whose names are "
            f"among those that trained {named}"
        )
    if unlabelled := metrics.get("unlabelled"):
        made.append(
            f"perhaps optimistic: the speakers of {unlabelled['recordings']:,} unlabelled recordings, which "
            f"trained {named}, may be test speakers"
        )
    teacher: Mapping[str, Any] = metrics.get("teacher") or {}
    if teacher.get("stamps"):
        made.append(f"the teacher of {named}, may have seen test speakers")
    before: Mapping[str, Any] = metrics.get("start") or {}
    return [*made, *(f"{named}: {stamp}" for stamp in before.get("stamps", ()))]
