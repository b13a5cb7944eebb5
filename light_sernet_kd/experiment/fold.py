"""The step of a fold: its student is trained and tested, unless that was done."""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd.config.settings import BEST
from light_sernet_kd.data import feature_cache
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.distillation.batch_keys import DIMENSIONS, EMBEDDING, LOGITS
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.exported.conversion import file_inputs
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.networks.training import model_of, network_of, train_network, trained_on
from light_sernet_kd.experiment.results import dimensions
from light_sernet_kd.experiment.teachers import generations
from light_sernet_kd.experiment.teachers.teacher import remove_teacher_files
from light_sernet_kd.files import atomic
from light_sernet_kd.reporting.embedding_panels import MOST_FOLDS
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.training.history import read_history
from light_sernet_kd.training.network import load_student

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


# Training utterances that tell how sharp a fold's student is; more do not change its mean margin.
MOST_SHARPNESS_ROWS = 1000


def run_fold(run: "Experiment", fold: Fold) -> dict[str, Any]:
    """Train and test the student on one fold, unless that was done; returns the fold's outcome.

    The outcome is what fold.json tells, and `logits`: see `read_test_logits`.
    """
    step = run.step(fold)
    if step.is_done:
        step.clear("student-checkpoint*.npz")
    else:
        _train_and_test(run, fold)
    remove_teacher_files(run, fold)
    generations.remove_kept(run, fold)
    outcome = step.outcome()
    outcome.pop("files")
    logits = read_test_logits(run, fold)
    # What the logits tell is taken from them; fold.json has it for people.
    outcome |= run.scores(fold, logits["selected"])
    outcome["last_epoch"] = run.scores(fold, logits["last"])
    outcome |= dimensions.fold_scores(run, fold)
    scores = [f"{name.upper()} {100 * outcome[name]:.1f} %" for name in ("ua", "wa") if run.has_classes]
    scores += [f"CCC of {name} {each['ccc']:z.2f}" for name, each in outcome.get(DIMENSIONS, {}).items()
               if each["ccc"] is not None]  # fmt: skip
    epochs = pluralise(outcome["epochs"], "epoch")
    if run.settings.keep == BEST:
        epochs = f"epoch {outcome['best_epoch']} of {outcome['epochs']}"
    run.display.say(
        f"fold {fold.name}: {', '.join(scores) or 'no score'} ({epochs}; {outcome['seconds']:.0f} s)"
    )
    return {**outcome, "logits": logits}


def _train_and_test(run: "Experiment", fold: Fold) -> None:
    step = run.step(fold)
    step.begin()
    before = generations.before_last(run, fold)
    outputs = generations.taught_by(run, fold, before)
    trained = train_network(run, "student", fold, outputs)
    network, rows = network_of(run, "student"), phases_of(run, "student")[-1].rows
    answers = {
        name: network.answers(weights, rows, fold.test)
        for name, weights in (("selected", trained.selected), ("last", trained.last))
    }
    logits = {name: each[LOGITS] for name, each in answers.items()}
    if before:
        logits |= {name: each for name, each in before[0].logits.items() if name == "teacher"}
    elif outputs is not None and outputs.logits is not None and run.has_classes:
        logits["teacher"] = outputs.logits[list(fold.test)]
    step.write("test_logits.npz", logits)
    values = {name: each.get(DIMENSIONS) for name, each in answers.items()}
    if outputs is not None and outputs.dimensions is not None:
        values["teacher"] = outputs.dimensions[list(fold.test)]
    dimensions.write_test_values(run, fold, values)
    if fold.selection_indices:
        selecting = network.logits(trained.selected, rows, fold.selection_indices)
        step.write("validation_logits.npz", {"selected": selecting})
    if run.settings.export:
        training = network.logits(trained.selected, rows, _sharpness_rows(run, fold))
        step.write("training_logits.npz", {"selected": training})
    if fold in _pictured_folds(run):
        _write_test_embeddings(run, fold, trained.selected)
    save_student(run, trained.selected, step.student)
    earlier = generations.keep(run, fold, before)
    step.finish(
        {
            "name": fold.name,
            "test_speakers": run.selection.speakers(fold.test),
            "validation_speakers": run.selection.speakers(fold.validation),
            "best_epoch": trained.best_epoch,
            "best_epochs": trained.best_epochs,
            "epochs": sum(trained.epochs),
            "seconds": round(trained.seconds, 2),
            **run.scores(fold, logits["selected"]),
            "last_epoch": run.scores(fold, logits["last"]),
            **dimensions.fold_scores(run, fold, values["selected"]),
            **({"generations": earlier} if earlier else {}),
        }
    )
    trained.remove_checkpoints()


def read_test_logits(run: "Experiment", fold: Fold) -> dict[str, np.ndarray]:
    """`selected`, `last` and perhaps `teacher`, `(len(fold.test), classes)` each."""
    names = ("selected", "last")
    return run.step(fold).rows("test_logits.npz", rows=len(fold.test), width=len(run.classes), names=names)


def _sharpness_rows(run: "Experiment", fold: Fold) -> Sequence[int]:
    """Training utterances of the fold that tell how sharp its student's logits are."""
    rows = trained_on(run, fold)
    return rows[:: -(-len(rows) // MOST_SHARPNESS_ROWS)]


def _pictured_folds(run: "Experiment") -> list[Fold]:
    return run.folds[:MOST_FOLDS]


def _write_test_embeddings(run: "Experiment", fold: Fold, weights: list[np.ndarray]) -> None:
    """What the student's picture shows; nothing of a student that has no embedding of one vector."""
    network, rows = network_of(run, "student"), phases_of(run, "student")[-1].rows
    with contextlib.suppress(UserError):
        embedding = network.outputs(weights, rows, fold.test)[EMBEDDING]
        run.step(fold).write("test_embeddings.npz", {"selected": embedding})


def read_test_embeddings(run: "Experiment") -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Per fold its name, embeddings, labels and predictions; none where a student has no embedding."""
    panels = []
    for fold in _pictured_folds(run):
        step = run.step(fold)
        if "test_embeddings.npz" in step.hashes():
            embedding = step.rows("test_embeddings.npz", rows=len(fold.test))["selected"]
            labels = run.selection.labels[list(fold.test)]
            predicted = read_test_logits(run, fold)["selected"].argmax(axis=1)
            panels.append((fold.name, embedding, labels, predicted))
    return panels


def logits_of(run: "Experiment", fold: Fold, name: str, rows: Sequence[int]) -> np.ndarray:
    """Of the step's saved student, `(len(rows), classes)`, as the step stored them in `name`.

    They are made anew where there are none: users remove damaged ones.
    """
    step = run.step(fold)
    if not step.has(name):
        student = step.read("student.keras", load_student)
        # its inputs as a list, however it nests them
        model = keras.Model(student.inputs, student.outputs[0])
        logits = []
        for start in range(0, len(rows), feature_cache.BATCH):
            inputs = file_inputs(run, rows[start : start + feature_cache.BATCH], merge=False)
            logits.append(model.predict_on_batch([inputs[tensor.name] for tensor in student.inputs]))
        step.add(name, {"selected": np.concatenate(logits)})
        which = name.partition("_")[0]
        run.display.say(f"fold {fold.name}: {which} predictions made anew of its student")
    return step.rows(name, remove=name, rows=len(rows), width=len(run.classes))["selected"]


def validation_logits(run: "Experiment", fold: Fold) -> np.ndarray:
    """Of the fold's selected student, `(len(fold.selection_indices), classes)`."""
    return logits_of(run, fold, "validation_logits.npz", fold.selection_indices)


def training_logits(run: "Experiment", fold: Fold) -> np.ndarray:
    """Of the fold's selected student on `_sharpness_rows`."""
    return logits_of(run, fold, "training_logits.npz", _sharpness_rows(run, fold))


def save_student(run: "Experiment", weights: list[np.ndarray], path: Path) -> None:
    with atomic(path) as temporary:
        model_of(run, "student", weights).save(temporary)


def history_of(run: "Experiment", fold: Fold, epochs: int) -> dict[str, list[float]]:
    return run.step(fold).read("history.csv", functools.partial(read_history, epochs=epochs))
