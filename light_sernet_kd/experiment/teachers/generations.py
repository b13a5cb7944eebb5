"""Self-distillation: `--generations N`, born-again networks (Furlanello et al. 2018, arXiv:1805.04770).

The first generation of a fold's students learns as the run's settings say. Each later one begins as that
one did, has its shape and its losses, and its teacher is the student before it, which was trained on the
fold's training set. The last generation is the run's student: it is scored, saved and exported.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.arrays import read_arrays
from light_sernet_kd.config.settings import SAME
from light_sernet_kd.data.batches import TeacherOutputs, UnlabelledClips
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.run_folder import read_or_redo
from light_sernet_kd.distillation.batch_keys import EMBEDDING, LOGITS
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.networks.training import generation_role, network_of, train_network
from light_sernet_kd.experiment.teachers import unlabelled
from light_sernet_kd.experiment.teachers.teacher import in_components, teacher_networks_of, teacher_outputs
from light_sernet_kd.files import parse_json, write_arrays

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

# Of a fold that is done: the test logits of the generations before the last, by their number.
LOGITS_FILE = "generation_logits.npz"
_SIDES = ("selected", "last")


@dataclass(frozen=True)
class Generation:
    """What the student of a generation before the last left.

    Attributes:
        weights: those that its training selected.
        logits: `selected` and `last` of the fold's test utterances, `(tested, classes)`; of the first
            generation `teacher` too, where its teacher has logits.
        facts: `best_epochs`, `epochs` and `seconds` of its training.
    """

    weights: list[np.ndarray]
    logits: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


def before_last(
    run: "Experiment",
    fold: Fold,
    epochs: Sequence[Sequence[int]] = (),
    teacher_epochs: Sequence[int] | None = None,
) -> list[Generation]:
    """The fold's students before the last one, trained where they are not; none of a single generation.

    Args:
        epochs: of each generation's phases; by default the schedule's.
        teacher_epochs: of the teacher of the first generation, likewise.
    """
    made: list[Generation] = []
    for number in range(1, run.settings.generations):
        path = run.step(fold).generation(number)
        if not path.exists():
            outputs = taught_by(run, fold, made, teacher_epochs)
            _train(run, fold, number, outputs, epochs[number - 1] if epochs else None)
        run.step(fold).clear(f"generation-{number}-checkpoint*.npz")
        made.append(read_or_redo(path, lambda each: _read(run, fold, each)))
    return made


def taught_by(
    run: "Experiment", fold: Fold, before: Sequence[Generation], teacher_epochs: Sequence[int] | None = None
) -> TeacherOutputs | None:
    """What the next student of the fold learns from: the run's teacher, or the last one of those before."""
    if not before:
        return teacher_outputs(run, fold, epochs=teacher_epochs)
    return answers(run, fold, before[-1].weights)


def answers(run: "Experiment", fold: Fold, weights: list[np.ndarray]) -> TeacherOutputs:
    """What a student with these weights says of every utterance, and in training of every batch."""
    network, rows = network_of(run, "student"), phases_of(run, "student")[-1].rows
    needs_embeddings = run.distillation.needs_embeddings
    everything = range(len(run.utterances))
    if needs_embeddings:
        said = network.outputs(weights, rows, everything)
    else:
        said = {LOGITS: network.logits(weights, rows, everything)}
    clips = None
    if run.unlabelled:
        others = unlabelled.rows_of(run, "student")
        heard = network.outputs(weights, others, range(len(others)))
        embedding = heard[EMBEDDING] if needs_embeddings else None
        views = unlabelled.views_of(run)
        clips = UnlabelledClips(others, run.settings.unlabelled_share, heard[LOGITS], embedding, views)
    asked = None
    if run.settings.teacher_view == SAME:
        asked = teacher_networks_of(run, "student", [network.student], [weights])
    outputs = TeacherOutputs(said[LOGITS], said.get(EMBEDDING), None, clips, asked)
    return in_components(run, fold, outputs, said[EMBEDDING]) if needs_embeddings else outputs


def _train(
    run: "Experiment",
    fold: Fold,
    number: int,
    outputs: TeacherOutputs | None,
    epochs: Sequence[int] | None,
) -> None:
    """Train the student of a generation before the last, and keep what it left until the fold is done."""
    trained = train_network(run, generation_role(run, number), fold, outputs, epochs=epochs)
    network, rows = network_of(run, "student"), phases_of(run, "student")[-1].rows
    logits = {}
    if fold.test:
        for name, weights in zip(_SIDES, (trained.selected, trained.last), strict=True):
            logits[name] = network.logits(weights, rows, fold.test)
        if number == 1 and outputs is not None and outputs.logits is not None:
            logits["teacher"] = outputs.logits[list(fold.test)]
        ua = run.scores(fold, logits["selected"])["ua"]
        run.display.say(f"fold {fold.name}: generation {number} UA {100 * ua:.1f} %")
    facts = {
        "best_epochs": trained.best_epochs,
        "epochs": sum(trained.epochs),
        "seconds": round(trained.seconds, 2),
    }
    weights_by_number = {f"weight_{place}": each for place, each in enumerate(trained.selected)}
    write_arrays(
        run.step(fold).generation(number),
        {"facts": np.array(json.dumps(facts)), **logits, **weights_by_number},
    )
    trained.remove_checkpoints()


def _read(run: "Experiment", fold: Fold, path: Path) -> Generation:
    arrays = read_arrays(path)
    shapes = [tuple(each.shape) for each in network_of(run, "student").student.weights]
    weights = [arrays[f"weight_{place}"] for place in range(len(shapes))]
    logits = {name: arrays[name] for name in (*_SIDES, "teacher") if name in arrays}
    tested = (len(fold.test), len(run.classes))
    if [each.shape for each in weights] != shapes or any(each.shape != tested for each in logits.values()):
        raise ValueError(f"{path} is of another network or fold")
    return Generation(weights, logits, parse_json(str(arrays["facts"])))


# What is kept and told of them once the fold is done


def keep(run: "Experiment", fold: Fold, before: Sequence[Generation]) -> list[dict[str, Any]]:
    """Write the test logits of the students before the last one; returns what fold.json tells of each."""
    if before:
        kept = {str(number): each.logits["selected"] for number, each in enumerate(before, start=1)}
        run.step(fold).write(LOGITS_FILE, kept)
    return [
        {
            **each.facts,
            **run.scores(fold, each.logits["selected"]),
            "last_epoch": run.scores(fold, each.logits["last"]),
        }
        for each in before
    ]


def remove_kept(run: "Experiment", fold: Fold) -> None:
    """Remove the weights of the students before the last one, of a fold that is done."""
    run.step(fold).clear("generation-*.npz")


def epochs_before_last(run: "Experiment", outcomes: Sequence[Mapping[str, Any]]) -> list[list[list[int]]]:
    """Generation before the last → fold → the epochs that its phases were selected at."""
    return [
        [outcome["generations"][number]["best_epochs"] for outcome in outcomes]
        for number in range(run.settings.generations - 1)
    ]


def facts(run: "Experiment", outcomes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What metrics.json tells of each generation: its scores, and how they differ from the first one's."""
    count = run.settings.generations
    names = [str(number) for number in range(1, count)]
    kept = [
        run.step(fold).rows(LOGITS_FILE, rows=len(fold.test), width=len(run.classes), names=names)
        for fold in run.folds
    ]
    logits = [np.concatenate([each[name] for each in kept]) for name in names]
    logits.append(np.concatenate([outcome["logits"]["selected"] for outcome in outcomes]))
    labels, speakers = run.test_labels, run.test_speakers
    predicted = [each.argmax(axis=1) for each in logits]
    rows: list[dict[str, Any]] = []
    for number, mine in enumerate(predicted, start=1):
        scores = evaluation.scores(labels, mine, run.classes).as_dict()
        by_fold = [outcome if number == count else outcome["generations"][number - 1] for outcome in outcomes]
        row: dict[str, Any] = {
            "generation": number,
            **{name: scores[name] for name in ("ua", "wa")},
            "ci95": evaluation.bootstrap_ci(labels, mine, speakers, run.classes),
            "folds": {
                fold.name: {"ua": each["ua"], "wa": each["wa"]}
                for fold, each in zip(run.folds, by_fold, strict=True)
            },
        }
        if number > 1:
            interval = evaluation.bootstrap_difference_ci(labels, predicted[0], mine, speakers, run.classes)
            row["less_first"] = {
                "ua": row["ua"] - rows[0]["ua"],
                "ci95": interval and list(interval["ua"]),
            }
        rows.append(row)
    return rows
