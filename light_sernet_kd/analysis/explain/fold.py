"""A fold's student, asked again about the utterances that the fold tested."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import audio
from light_sernet_kd.analysis.explain.source import (
    Source,
    inputs_of,
    speech_and_text,
    step_of,
    tokens_of,
)
from light_sernet_kd.analysis.explain.teacher_outputs import teacher_embeddings, teacher_text_states
from light_sernet_kd.arrays import Expected, read_arrays
from light_sernet_kd.config import Settings, distillation_spec
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data.run_folder import Run, RunFolder, Step
from light_sernet_kd.errors import UserError

if TYPE_CHECKING:
    import keras

    from light_sernet_kd.encoders.multimodal import SpeechAndText


# Logits may differ from those stored by this share of the largest one: processors round differently, and a
# recording that was changed moves them by more.
TOLERANCE = 0.01


@dataclass(frozen=True)
class ExplainedFold:
    """A fold's student and what it says of its test utterances, in the order of predictions.csv.

    Attributes:
        rows: of predictions.csv.
        inputs: what the student takes, by the names of its inputs; rows as `utterances`.
        embeddings: `(utterances, width)`; `teacher_embeddings` `(utterances, any width)` where known.
        teacher_logits: `(utterances, classes)` that the student learned from; None without a teacher.
        teacher_note: why there are no embeddings of the teacher; empty where there are.
        encoders: of a student of speech and text.
        tokens: each utterance's, where the student reads text.
        text_states: each utterance's `(tokens, width)`, where it does.
        teacher_text_states: likewise, of the same tokens, where they are known; `states_note` says why not,
            if the student reads text and has a teacher.
    """

    source: Source
    fold: str
    rows: list[int]
    utterances: tuple[Utterance, ...]
    student: "keras.Model"
    inputs: dict[str, Any]
    logits: NDArray[np.float32]
    stored_logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    teacher_logits: NDArray[np.float32] | None
    teacher_embeddings: NDArray[np.float32] | None
    teacher_note: str
    encoders: "SpeechAndText | None" = None
    tokens: Sequence[Sequence[str]] = ()
    text_states: Sequence[np.ndarray] = ()
    teacher_text_states: Sequence[np.ndarray] | None = None
    states_note: str = ""

    @property
    def states_were_taught(self) -> bool:
        """Whether a loss compared the text states."""
        return distillation_spec.parse(self.settings.distillation).needs_states

    @property
    def run(self) -> Run:
        return self.source.run

    @property
    def settings(self) -> Settings:
        return self.source.settings

    @property
    def corpus(self) -> Corpus:
        return self.source.corpus

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.run.predictions.labels[self.rows]

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.run.predictions.predicted[self.rows]


@dataclass(frozen=True)
class Answer:
    """What a fold's student said of one utterance, the `index`-th of those that the fold tested."""

    tested: ExplainedFold
    index: int

    @property
    def utterance(self) -> Utterance:
        return self.tested.utterances[self.index]

    @property
    def label(self) -> str:
        return self.tested.run.predictions.classes[self.tested.labels[self.index]]

    @property
    def predicted(self) -> str:
        return self.tested.run.predictions.classes[self.tested.predicted[self.index]]

    @property
    def head(self) -> dict[str, Any]:
        """Title and stamps of its pictures."""
        corpus = self.tested.corpus.name + (" (synthetic)" if self.tested.corpus.synthetic else "")
        outcome = "recognised" if self.label == self.predicted else f"taken for {self.predicted}"
        return {
            "title": f"{self.utterance.id} of {corpus}: {self.label}, {outcome}",
            "stamps": self.tested.run.metrics["stamps"],
        }


def tested_fold(source: Source, fold: str, work: Path) -> ExplainedFold:
    """Ask a fold's student again.

    Args:
        work: an empty folder for features that do not fit into memory.

    Raises:
        UserError: recordings are gone or changed, or the fold's files are damaged.
    """
    predictions, corpus = source.run.predictions, source.corpus
    rows = [row for row, name in enumerate(predictions.folds) if name == fold]
    known = {utterance.id: utterance for utterance in corpus.utterances}
    if gone := [predictions.ids[row] for row in rows if predictions.ids[row] not in known]:
        raise UserError(
            f"{len(gone)} of the {len(rows)} recordings that fold {fold} tested are no longer in "
            f"{corpus.name}, e.g. {gone[0]}: put them back, or name the folder that has them with --data."
        )
    utterances = tuple(known[predictions.ids[row]] for row in rows)
    if bad := audio.find_bad(utterances):
        raise UserError(audio.listing(bad, len(utterances)) + "\n  The run tested them: put them back.")
    step = step_of(source.folder, fold)
    stored, student = _student_of(step)
    encoders = speech_and_text(source, utterances, work=work)
    inputs = inputs_of(source.settings, utterances, work=work, encoders=encoders)
    logits, embeddings, text_states = _outputs(student, inputs, len(utterances))
    _check(logits, stored["selected"], utterances, fold)
    teacher, note = teacher_embeddings(RunFolder(source.folder), step, source.settings, utterances, fold)
    of_teacher, states_note = None, ""
    if encoders and encoders.text:
        of_teacher, states_note = teacher_text_states(source, step, encoders, utterances, work)
        lengths = [list(map(len, states or ())) for states in (text_states, of_teacher)]
        if of_teacher is not None and lengths[0] != lengths[1]:
            raise UserError(
                f"the teacher of fold {fold} read other texts than the student does now: put the former "
                "transcripts back, or run the experiment again."
            )
    return ExplainedFold(
        source=source,
        fold=fold,
        rows=rows,
        utterances=utterances,
        student=student,
        inputs=inputs,
        logits=logits,
        stored_logits=stored["selected"],
        embeddings=embeddings,
        teacher_logits=stored.get("teacher"),
        teacher_embeddings=teacher,
        teacher_note=note,
        encoders=encoders,
        tokens=tokens_of(encoders, utterances) if encoders else (),
        text_states=text_states,
        teacher_text_states=of_teacher,
        states_note=states_note,
    )


def _student_of(step: Step) -> tuple[dict[str, np.ndarray], "keras.Model"]:
    """The fold's test logits and its student."""
    from light_sernet_kd.training.network import load_student

    path = step.path / "test_logits.npz"
    try:
        logits = read_arrays(path, expected={"selected": Expected((None, None))})
        path = step.student
        return logits, load_student(path)
    except (UserError, FileNotFoundError, NotADirectoryError) as error:
        state = "damaged" if path.exists() else "missing"
        raise UserError(
            f"{path} is {state}: remove {step.done}, and the run's command does that fold anew."
        ) from error


def _outputs(
    student: "keras.Model", inputs: Mapping[str, Any], count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[np.ndarray]]:
    """Logits `(count, classes)`, embeddings `(count, width)` and, of a student that reads text, the states
    `(tokens, width)` of each utterance's own tokens.
    """
    import keras

    from light_sernet_kd.data.feature_cache import BATCH
    from light_sernet_kd.distillation.distiller import embedding_of
    from light_sernet_kd.students.attention import TEXT_STATES

    outputs = [student.outputs[0], embedding_of(student), *states_of(student, TEXT_STATES)]
    model = keras.Model(student.inputs, outputs)
    outputs_of_batches, text_states = [], []
    for start in range(0, count, BATCH):
        rows = np.arange(start, min(start + BATCH, count))
        batch = model.predict_on_batch(student_inputs(student, inputs, rows))
        *logits_and_embeddings, states = [*batch, ()][:3]
        outputs_of_batches.append(logits_and_embeddings)
        text_states += [each[each.any(axis=-1)] for each in states]
    logits, embeddings = (np.concatenate(parts) for parts in zip(*outputs_of_batches, strict=True))
    return logits, embeddings, text_states


def student_inputs(
    student: "keras.Model", inputs: Mapping[str, Any], rows: NDArray[np.int64]
) -> list[np.ndarray]:
    """Some rows of what a student takes, in the order of its inputs."""
    return [np.asarray(inputs[tensor.name][rows]) for tensor in student.inputs]


def states_of(student: "keras.Model", name: str) -> list[Any]:
    """The tensor `text_states` or `audio_states`, if the student has it."""
    from light_sernet_kd.students.fusion import tensor_of

    return [tensor_of(student, name)] if name in (layer.name for layer in student.layers) else []


def _check(logits: np.ndarray, stored: np.ndarray, utterances: Sequence[Utterance], fold: str) -> None:
    """An explanation is of the answer that was scored, so the student must give it again."""
    if logits.shape == stored.shape:
        differences = np.abs(logits - stored).max(axis=1)
        # `not <=`, so that NaN counts as different
        changed = np.flatnonzero(~(differences <= TOLERANCE * max(1.0, float(np.abs(stored).max()))))
        if not changed.size:
            return
        example = utterances[int(changed[0])]
        differing = (
            f"{changed.size} of {len(utterances)} test recordings, e.g. {example.path} by "
            f"{differences[changed[0]]:.2g}"
        )
    else:
        differing = f"all: {logits.shape} where {stored.shape} were stored"
    also = "or their transcripts " if utterances[0].transcript is not None else ""
    raise UserError(
        f"the student of fold {fold} now gives other logits than the run stored for {differing}. The "
        f"recordings {also}have changed since: put the former ones back, or run the experiment again."
    )
