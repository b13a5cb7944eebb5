"""Students of a run as exported files: what they take, what their card says, and how they score."""

import datetime
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import __version__
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora.registry import CORPORA
from light_sernet_kd.data import feature_cache
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.distillation.batch_keys import DIMENSIONS, FEATURES
from light_sernet_kd.errors import UserError, installed
from light_sernet_kd.experiment import start
from light_sernet_kd.experiment.exported.enrolment import head_of
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.networks.training import calibration_clips
from light_sernet_kd.experiment.results.dimensions import CONVERTED
from light_sernet_kd.experiment.results.evidence import packed_training_list
from light_sernet_kd.experiment.teachers.teacher import teacher_licence
from light_sernet_kd.training.network import load_student

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


# What a fold's step keeps of its converted students.
PROBABILITIES, EMBEDDINGS = "tflite_probabilities.npz", "tflite_embeddings.npz"


def _card(run: "Experiment", *, final: bool) -> dict[str, Any]:
    """What an exported file says of the run it comes from, and the final student's how good it may be."""
    sources = [CORPORA.get(str(name)) for name in (run.settings.corpus, run.settings.test_on)]
    licences = {source.origin.licence for source in sources if source and source.origin}
    card: dict[str, Any] = {
        "student": run.settings.student,
        "corpus": run.corpus.name,
        "synthetic": run.corpus.synthetic,
        "distillation": run.settings.distillation,
        "protocol": run.settings.protocol,
        "light_sernet_kd": __version__,
    }
    if run.unlabelled:
        card["unlabelled_recordings"] = len(run.unlabelled.survey.recordings)
    if licences:
        card["corpus_licence"] = "; ".join(sorted(licences))
    if licence := teacher_licence(run):
        card["teacher_licence"] = licence
    if began := start.sentence(run):
        card["started_from"] = began
    if licence := start.licence(run):
        card["start_licence"] = licence
    if final:
        # The day of its training: files may be made anew much later.
        saved = run.step(run.selection.final_fold).student.stat().st_mtime
        day = datetime.datetime.fromtimestamp(saved, datetime.UTC).date()
        card["folds"] = [fold.name for fold in run.folds]
        card |= {"stamps": run.stamps, "scored": whose_scores(run), "trained": day.isoformat()}
    return card


def taken_inputs(run: "Experiment") -> list[str]:
    """What an exported file takes, in words."""
    encoders, samples = run.multimodal.get("student"), run.settings.samples
    if encoders and not encoders.is_whole:
        return [f"{name} made by {encoder}" for name, encoder in encoders.state_encoders().items()]
    features = "" if run.settings.merge_tflite else "features of "
    audio = f"{features}{samples:,} samples at {SAMPLE_RATE:,} Hz ({samples / SAMPLE_RATE:g} s)"
    text = f"{run.settings.text_tokens} tokens of text"
    takes_audio = encoders is None or encoders.audio_branch is not None
    return [audio] * takes_audio + [text] * bool(encoders and encoders.text)


def convert(
    run: "Experiment",
    fold: Fold,
    folder: Path,
    student: keras.Model,
    *,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    temperature: float = 1.0,
    precisions: Sequence[str] | None = None,
    training: bytes | None = None,
) -> list[dict[str, Any]]:
    """Export `student`; with scores by precision it is the run's final one, whose card tells them.

    Args:
        scores: those under `enrolled_scores` are for the file for known speakers.
        training: the packed list of recordings in the files; the final student has its own.
    """
    with installed("tensorflow", "export"), installed("ai_edge_litert", "export"):
        from light_sernet_kd.export.tflite import ExportError, ExportSpec, export

    settings = run.settings
    try:
        made = export(
            student,
            ExportSpec(
                classes=run.classes if run.has_classes else (),
                front_end=run.front_end,
                input_type=settings.input_type,
                samples=settings.samples,
                representative=file_inputs(run, calibration_clips(run, fold), merge=True),
                folder=folder,
                **_text_and_encoders(run),
                precisions=precisions,
                card=_card(run, final=scores is not None),
                precision_cards=_but(scores, "enrolled_scores"),
                merge=settings.merge_tflite,
                temperature=temperature,
                training=packed_training_list(run) if scores is not None else training,
                enrolled=head_of(run, fold) if settings.merge_tflite else None,
                enrolled_cards=_only(scores, "enrolled_scores"),
                dimensions=run.dimensions,
            ),
        )
    except ExportError as error:
        raise UserError(
            f"fold {fold.name}: its student cannot be exported: {error}. Train it otherwise, e.g. with a "
            "lower --learning_rate, or take --no-export."
        ) from None
    return [
        {
            "precision": each.precision,
            "file": each.path.name,
            "bytes": each.bytes,
            **(
                {"max_probability_difference": each.max_probability_difference}
                if run.has_classes
                else {"max_dimension_difference": each.max_dimension_difference}
            ),
            **({"enrolled_file": each.enrolled.name} if each.enrolled else {}),
        }
        for each in made
    ]


def _only(scores: Mapping[str, Mapping[str, Any]] | None, name: str) -> dict[str, dict[str, Any]]:
    return {precision: {name: each[name]} for precision, each in (scores or {}).items() if name in each}


def _but(scores: Mapping[str, Mapping[str, Any]] | None, name: str) -> dict[str, dict[str, Any]]:
    return {
        precision: {key: value for key, value in each.items() if key != name}
        for precision, each in (scores or {}).items()
    }


def precision_probabilities(run: "Experiment", fold: Fold) -> dict[str, np.ndarray]:
    """Test probabilities of the fold's student in each precision, from converted files.

    They are not calibrated: only which is largest counts, and that no temperature changes.
    """
    if not run.step(fold).has(PROBABILITIES):
        _score_converted(run, fold)
    rows, width = len(fold.test), len(run.classes)
    return run.step(fold).rows(
        PROBABILITIES, remove=PROBABILITIES, rows=rows, width=width, names=("float32",), shares=True
    )


def precision_embeddings(run: "Experiment", fold: Fold) -> dict[str, np.ndarray]:
    """Embeddings of the test recordings, `(len(fold.test), E)`, by the fold's student in each precision."""
    if not run.step(fold).has(EMBEDDINGS):
        _score_converted(run, fold)
    return run.step(fold).rows(EMBEDDINGS, remove=EMBEDDINGS, rows=len(fold.test), names=("float32",))


def precision_dimensions(run: "Experiment", fold: Fold) -> dict[str, np.ndarray]:
    """Values of the test utterances `(len(fold.test), dimensions)` by the fold's converted students."""
    if not run.step(fold).has(CONVERTED):
        _score_converted(run, fold)
    rows, width = len(fold.test), len(run.settings.dimensions)
    return run.step(fold).rows(CONVERTED, remove=CONVERTED, rows=rows, width=width, names=("float32",))


def _score_converted(run: "Experiment", fold: Fold) -> None:
    from light_sernet_kd.runner import PROBABILITIES as GIVEN
    from light_sernet_kd.runner import invoke, open_file, outputs

    step = run.step(fold)
    student = step.read("student.keras", load_student)
    inputs = file_inputs(run, fold.test, merge=run.settings.merge_tflite)
    probabilities, embeddings, values = {}, {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        for row in convert(run, fold, Path(temporary), student):
            interpreter, _, _ = open_file(Path(temporary) / row["file"], threads=2)
            clips = [{name: each[i] for name, each in inputs.items()} for i in range(len(fold.test))]
            if run.dimensions:
                given = [outputs(interpreter, clip) for clip in clips]
                answers = [each[GIVEN] for each in given] if run.has_classes else []
                values[row["precision"]] = np.stack([each[DIMENSIONS] for each in given])
            else:
                answers = [invoke(interpreter, clip) for clip in clips]
            if run.has_classes:
                probabilities[row["precision"]] = np.stack(answers)
            if "enrolled_file" in row:
                known, _, _ = open_file(Path(temporary) / row["enrolled_file"], threads=2)
                heard = [_embedding(known, clip) for clip in inputs["audio"]]
                embeddings[row["precision"]] = np.stack(heard)
    for name, arrays in ((EMBEDDINGS, embeddings), (CONVERTED, values), (PROBABILITIES, probabilities)):
        if arrays:
            step.add(name, arrays)
    count = len(probabilities or values)
    run.display.say(f"fold {fold.name}: converted and scored in {count} precisions")


def _embedding(interpreter: Any, clip: np.ndarray) -> np.ndarray:
    # It holds on to the interpreter, so that it is made for each call.
    signature = interpreter.get_signature_runner("enrolled")
    shape = signature.get_input_details()["speaker"]["shape"]
    unknown = {"speaker": np.zeros(shape, np.float32), "clips": np.zeros((1, 1), np.float32)}
    return signature(audio=clip[None], **unknown)["embedding"][0].copy()


def file_inputs(run: "Experiment", rows: Sequence[int], *, merge: bool) -> dict[str, np.ndarray]:
    """What an exported file takes of these utterances, by name: fitted audio (features, where the front
    end is left out of the file), token ids and masks, or states of encoders that cannot be in it.
    """
    chosen = np.asarray(rows)
    encoders = run.multimodal.get("student")
    if encoders is None:
        inputs = {FEATURES: phases_of(run, "student")[-1].rows[chosen]}
    else:
        inputs = encoders.inputs[chosen] if encoders.is_whole else encoders.states[chosen]
    if merge and inputs.pop(FEATURES, None) is not None:
        inputs["audio"] = _waveforms(run, rows)
    return inputs


def _text_and_encoders(run: "Experiment") -> dict[str, Any]:
    """What `export` must know of a student of speech and text."""
    encoders = run.multimodal.get("student")
    if encoders is None:
        return {}
    if not encoders.is_whole:
        return {"encoders": encoders.state_encoders()}
    return {"text": encoders.text_input()}


def _waveforms(run: "Experiment", rows: Sequence[int]) -> np.ndarray:
    utterances = [run.utterances[row] for row in rows]
    return feature_cache.waveforms(utterances, samples=run.settings.samples, front_end=run.front_end)


def whose_scores(run: "Experiment") -> str:
    """Whose scores those of the exported files are."""
    scores = "UA and WA are those" if run.has_classes else "CCC is that"
    return (
        f"{scores} of each fold's student, converted and scored on its own test fold; "
        f"the files hold a student trained on {run.selection.final_recordings}."
    )
