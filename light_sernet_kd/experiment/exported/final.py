"""The step of the exported student: it is trained on all speakers and converted."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.config.engine import engine_on
from light_sernet_kd.errors import quoted
from light_sernet_kd.experiment.exported.conversion import (
    PROBABILITIES,
    convert,
    precision_dimensions,
    precision_probabilities,
    taken_inputs,
    whose_scores,
)
from light_sernet_kd.experiment.exported.enrolment import card_scores, is_enrolled
from light_sernet_kd.experiment.fold import save_student
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.networks.training import network_of, train_network, trained_on
from light_sernet_kd.experiment.results.calibration import final_logits, final_temperature
from light_sernet_kd.experiment.results.dimensions import CONVERTED, converted_ccc, value_changes
from light_sernet_kd.experiment.teachers import generations
from light_sernet_kd.experiment.teachers.teacher import (
    final_teacher_epochs,
    median_epochs,
    remove_teacher_files,
)
from light_sernet_kd.files import sha256
from light_sernet_kd.registries.engines import ENGINES
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.training.network import load_student

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


# Of a few clips of the final student, to see that the conversion is true.
_OF_FEW_CLIPS = ("max_probability_difference", "max_dimension_difference")


def export_final(
    run: "Experiment", outcomes: Sequence[dict[str, Any]], *, wanted: bool | None = None
) -> dict[str, Any] | None:
    """Train the final student on all speakers and export it; score every precision over the folds.

    Returns:
        What is exported; None where nothing is. Where Keras computes with another backend than TensorFlow,
        which alone converts, the student is trained, and its files are made later: see `export_run`.

    Args:
        wanted: by default as the settings say. Of a run that wants no files, those that were made later are
            read.
    """
    step, final = run.step(run.selection.final_fold), run.selection.final_fold
    wanted = run.settings.export if wanted is None else wanted
    converts = wanted and ENGINES[engine_on(keras.backend.backend())].exports
    if converts:
        _precision_scores(run)  # a student that cannot be converted is told before another is trained
    if wanted and not step.is_done:
        train_final(run, outcomes)
    if step.is_done:
        step.clear("student-checkpoint*.npz")
    remove_teacher_files(run, final)
    if step.is_done:
        generations.remove_kept(run, final)
    exported = _converted(run, outcomes, anew=converts) if converts or _is_scored(run) else None
    if exported is None:
        for note in final_notes(run, None):
            run.display.say(note)
        return None
    scores, changes = _precision_scores(run), _changes(run, outcomes)
    shown = (f"{name} {at['mean']:.1e}/{at['p95']:.1e}/{at['max']:.1e}" for name, at in changes.items())
    run.display.say(
        f"Change of a {'probability' if run.has_classes else 'rating'} by conversion, "
        "mean/95th percentile/largest over "
        f"{pluralise(len(run.test_rows), 'test utterance')} of the folds: {', '.join(shown)}"
    )
    scored_rows = _scored_rows(exported["rows"], scores, changes)
    return {
        "final_epochs": exported["final_epochs"],
        "temperature": exported["temperature"],
        "rows": _with_ccc(run, scored_rows),
        "samples": run.settings.samples,
        "sample_rate": SAMPLE_RATE,
        "takes": taken_inputs(run),
        "note": whose_scores(run) + _qat_note(run),
    }


def train_final(run: "Experiment", outcomes: Sequence[dict[str, Any]]) -> None:
    """The final student, for as many epochs as the folds' students were selected at in the median."""
    final = run.selection.final_fold
    step, epochs = run.step(final), median_epochs([outcome["best_epochs"] for outcome in outcomes])
    step.begin()
    teacher_epochs = final_teacher_epochs(run) if run.settings.trained_teacher else None
    earlier = [median_epochs(each) for each in generations.epochs_before_last(run, outcomes)]
    before = generations.before_last(run, final, earlier, teacher_epochs)
    outputs = generations.taught_by(run, final, before, teacher_epochs)
    trained = train_network(run, "student", final, outputs, epochs=epochs)
    save_student(run, trained.selected, step.student)
    rows = phases_of(run, "student")[-1].rows
    logits = network_of(run, "student").logits(trained.selected, rows, trained_on(run, final))
    step.write("training_logits.npz", {"selected": logits})
    step.finish({"final_epochs": sum(epochs), "engine": engine_on(keras.backend.backend())})
    trained.remove_checkpoints()


def final_notes(run: "Experiment", exported: Mapping[str, Any] | None) -> list[str]:
    """What must be known of a final student that is trained."""
    step, notes = run.step(run.selection.final_fold), []
    if not step.is_done:
        return []
    if exported is None:
        notes.append(
            f"The final student is trained on {run.selection.final_recordings} and not converted: "
            f"light-sernet-kd export {quoted(str(run.folder.path))} makes its .tflite files where TensorFlow "
            "is installed."
        )
    engine = step.exported().get("engine", run.engine)
    if engine != run.engine:
        notes.append(
            f"The folds' students were trained with engine {run.engine}, the final one with {engine}."
        )
    return notes


def _is_scored(run: "Experiment") -> bool:
    """Whether the final student and the folds' were converted, so that files and scores may be there."""
    step = run.step(run.selection.final_fold)
    return (
        step.is_done
        and "rows" in step.exported()
        and all(run.step(fold).has(_kept(run)) for fold in run.folds)
    )


def _kept(run: "Experiment") -> str:
    """What a fold's step has of its converted students."""
    return PROBABILITIES if run.has_classes else CONVERTED


def _converted(run: "Experiment", outcomes: Sequence[dict[str, Any]], *, anew: bool) -> dict[str, Any] | None:
    """What final.json tells of the files; None where they are not as they should be.

    Args:
        anew: whether files that are not there, or not as they should be, are made.
    """
    step, scores = run.step(run.selection.final_fold), _precision_scores(run)
    exported = step.exported()
    temperature = final_temperature(run, outcomes, final_logits(run))
    added = _added(run)
    # A verdict that came later is no reason to take files for damaged that cannot be made anew here.
    has_all = not anew or {name: exported.get(name, {}) for name in added} == added
    if has_all and is_current(run, exported, temperature, scores):
        return exported
    if not anew:
        return None
    were_made = "rows" in exported
    student = step.read("student.keras", load_student)
    if "student" not in run.multimodal:
        number_operations(student)
    for name in added:
        exported.pop(name, None)
    exported |= _convert(run, student, temperature, scores, added)
    step.rewrite(exported)
    if were_made:
        run.display.say("The final student was exported anew: its files were missing, damaged or older.")
    return exported


def _added(run: "Experiment") -> dict[str, dict[str, Any]]:
    """What the cards say of the folds' students beside their scores: name → precision → facts."""
    enrolled = {}
    if is_enrolled(run) and run.settings.merge_tflite:
        for precision in precision_probabilities(run, run.folds[0]):
            enrolled[precision] = card_scores(run, precision)
    return {
        "certificates": run.folder.certificates([fold.name for fold in run.folds]),
        "enrolled_scores": enrolled,
    }


def number_operations(student: keras.Model) -> None:
    """Name the network's operations by their order in it.

    Keras counts them over the life of a process, and their names come into the files: those would not be the
    same where the run was interrupted, or exported later.
    """
    counts: Counter[str] = Counter()
    for operation in student.operations:
        stem = re.sub(r"_\d+$", "", operation.name)
        if not isinstance(operation, keras.layers.InputLayer):
            operation.name = f"{stem}_{counts[stem]}"
            counts[stem] += 1


def _scored_rows(
    rows: Sequence[dict[str, Any]],
    scores: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A row per exported file, with the scores of the folds' students and how far conversion moved them."""
    scored = []
    for row in rows:
        kept = {name: value for name, value in row.items() if name not in _OF_FEW_CLIPS}
        precision = row["precision"]
        scored_row = {**kept, **scores[precision], "probability_change": changes[precision]}
        if "ua" in scores["float32"]:
            scored_row["ua_cost_points"] = 100 * (scores["float32"]["ua"] - scores[precision]["ua"])
        else:
            scored_row["value_change"] = scored_row.pop("probability_change")
        scored.append(scored_row)
    return scored


def _with_ccc(run: "Experiment", rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the concordance of the folds' students in each precision, where they learn ratings."""
    if not run.dimensions:
        return rows
    return [
        {
            **row,
            "ccc": {name: row["ccc"].get(name, {}).get("ccc") for name in run.settings.dimensions},
        }
        for row in rows
    ]


def _qat_note(run: "Experiment") -> str:
    if not run.settings.qat:
        return ""
    return (
        f" After its training the student was fine-tuned for {pluralise(run.settings.qat, 'epoch')} with "
        "simulated int8 arithmetic; all precisions have these weights."
    )


def _convert(
    run: "Experiment",
    student: keras.Model,
    temperature: float,
    scores: Mapping[str, Mapping[str, Any]],
    added: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    folder, final = run.folder.path, run.selection.final_fold
    names = {"certificates": "certificate", "enrolled_scores": "enrolled_scores"}
    score_of = {
        precision: {
            **at,
            **{names[name]: each[precision] for name, each in added.items() if precision in each},
        }
        for precision, at in scores.items()
    }
    rows = convert(run, final, folder, student, scores=score_of, temperature=temperature)
    for row in rows:
        row["sha256"] = sha256(folder / row["file"])
        if "enrolled_file" in row:
            row["enrolled_sha256"] = sha256(folder / row["enrolled_file"])
    count = len(trained_on(run, final))
    made = {"rows": rows, "temperature": temperature, "scores": scores, "training_recordings": count}
    return {**made, **{name: dict(each) for name, each in added.items() if each}}


def is_current(
    run: "Experiment",
    exported: Mapping[str, Any],
    temperature: float,
    scores: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Whether the files are there, as they were written, and with the run's temperature and scores."""
    if "rows" not in exported:
        return False
    if not np.isclose(exported["temperature"], temperature, rtol=1e-6):
        return False
    if exported["scores"] != scores or {row["precision"] for row in exported["rows"]} != {*scores}:
        return False
    folder, rows = run.folder.path, exported["rows"]
    hashes = {folder / row["file"]: row["sha256"] for row in rows}
    hashes |= {
        folder / row["enrolled_file"]: row["enrolled_sha256"] for row in rows if "enrolled_file" in row
    }
    return all(path.is_file() and digest == sha256(path) for path, digest in hashes.items())


def _changes(run: "Experiment", outcomes: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Precision → how far the folds' files are from their students, over all test utterances.

    Of probabilities, or where there are no classes of the values of ratings, on the corpus's scale.
    """
    if not run.has_classes:
        return value_changes(run, [precision_dimensions(run, fold) for fold in run.folds])
    trained = evaluation.softmax(np.concatenate([outcome["logits"]["selected"] for outcome in outcomes]))
    converted = [precision_probabilities(run, fold) for fold in run.folds]
    return {
        precision: evaluation.probability_change(
            trained, np.concatenate([each[precision] for each in converted])
        )
        for precision in converted[0]
    }


def _precision_scores(run: "Experiment") -> dict[str, dict[str, Any]]:
    """Precision → UA, its interval where there is one, and WA over all folds; `ccc` of ratings."""
    by_precision = _scores_of_classes(run) if run.has_classes else {}
    if run.dimensions:
        rated = converted_ccc(run, [precision_dimensions(run, fold) for fold in run.folds])
        by_precision = {name: {**by_precision.get(name, {}), "ccc": each} for name, each in rated.items()}
    return by_precision


def _scores_of_classes(run: "Experiment") -> dict[str, dict[str, Any]]:
    probabilities = [precision_probabilities(run, fold) for fold in run.folds]
    labels, speakers, by_precision = run.test_labels, run.test_speakers, {}
    for precision in probabilities[0]:
        predicted = np.concatenate([each[precision].argmax(axis=1) for each in probabilities])
        scores = evaluation.scores(labels, predicted, run.classes)
        interval = evaluation.bootstrap_ci(labels, predicted, speakers, run.classes)
        by_precision[precision] = {"ua": scores.ua, "wa": scores.wa}
        if interval:
            low, high = interval["ua"]
            by_precision[precision] |= {"ua_low": low, "ua_high": high}
    return by_precision
