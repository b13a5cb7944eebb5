"""Where teachers come from, but for those that a run trains itself: a function for each of `TEACHER_SOURCES`.

They are made for all folds at once: the embeddings are the same for each, what is trained on them is not.

A source of your own is a function here, `(argument, selection, settings, workplace)` to a `Teacher`, and a
line in `registries/teachers.py`. Where it is another network's embeddings, `probe_on` does most of it.
"""

import dataclasses
import hashlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd import audio, plugins, teachers
from light_sernet_kd.config import Dimensions, Settings
from light_sernet_kd.config.checks import check_source
from light_sernet_kd.config.settings import CONFIDENCE, MEAN_OF_SOURCES
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.selection import Selection
from light_sernet_kd.encoders import embedding_cache, opensmile, user_model, yamnet
from light_sernet_kd.encoders.embedding_cache import Embeddings, Encoder, NotFiniteError
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation.temperature import fit_temperature
from light_sernet_kd.registries.teachers import (
    TEACHER_SOURCES,
    Option,
    TeacherSource,
    teacher_members,
    teacher_source,
    trained_member,
)
from light_sernet_kd.teachers import Teacher, probe
from light_sernet_kd.teachers.alignment import SCALED
from light_sernet_kd.teachers.outputs import model_name
from light_sernet_kd.teachers.rating_probe import rating_values
from light_sernet_kd.teachers.unlabelled import (
    Answers,
    CombinedRows,
    UnlabelledTask,
    blocks_of,
    file_of,
    read_beside,
    read_of,
    side_by_side,
)
from light_sernet_kd.teachers.views import ViewTask, view_answerer, write_mixture


@dataclass(frozen=True)
class Workplace:
    """Where a teacher is made, and how.

    Attributes:
        data: holds `models/`.
        cache: keeps embeddings.
        work: keeps the folds of a fine-tuned model that are finished.
        fine_tune: train the network itself, and not only what reads it.
        progress: called with (done, all) after each block of embeddings.
        unlabelled: clips that the teacher answers too.
        views: augmented views of training utterances that it answers too.
    """

    data: Path
    cache: Path
    work: Path
    fine_tune: bool = False
    progress: audio.Progress | None = None
    unlabelled: UnlabelledTask | None = None
    views: ViewTask | None = None

    def of_member(self, number: int) -> "Workplace":
        """That of one source of several."""
        clips, views = self.unlabelled, self.views
        return dataclasses.replace(
            self, unlabelled=clips and clips.of_member(number), views=views and views.of_member(number)
        )


def teacher_of(
    source: str,
    selection: Selection,
    settings: Settings,
    workplace: Workplace,
    *,
    option: Option = "--teacher",
) -> Teacher:
    """The teacher that an option names: for every fold of the selection, and one trained on all speakers.

    Raises:
        UserError: its licence needs `--allow`, or it cannot be made.
        ValueError: it is one that a run trains itself.
    """
    entry, argument = teacher_source(source, option)
    if entry.make is None:
        raise ValueError(f"{source} is trained by the run")
    if entry.kind == "made":
        check_source(source, settings, option)
    teacher = entry.make(argument, selection, settings, _of_plugin(workplace, entry))
    if entry.licence:
        teacher = dataclasses.replace(teacher, card={**teacher.card, "licence": entry.licence})
    task = workplace.unlabelled if entry.kind == "made" else None
    if task and any(not file_of(task.folder, fold).exists() for fold in teacher.folds):
        raise UserError(f"{source} cannot answer unlabelled recordings: leave out --unlabelled.")
    return teacher


def _of_plugin(workplace: Workplace, entry: TeacherSource) -> Workplace:
    """Of a plug-in's source the cache is one of its own, since its encoder may change with its code."""
    name = next((name for name, each in TEACHER_SOURCES.items() if each is entry), "")
    digest = plugins.sha256_of("teacher", name)
    return dataclasses.replace(workplace, cache=workplace.cache / digest[:16]) if digest else workplace


def yamnet_teacher(argument: str, selection: Selection, settings: Settings, workplace: Workplace) -> Teacher:
    """A probe on YAMNet's embeddings; `argument` is its file."""
    encoder = yamnet.encoder(yamnet.path_of(argument, workplace.data))
    return probe_on(encoder, "YAMNet", selection, settings, workplace)


def opensmile_teacher(
    argument: str, selection: Selection, settings: Settings, workplace: Workplace
) -> Teacher:
    """A probe on openSMILE's functionals; `argument` is their set."""
    encoder = opensmile.encoder(argument)
    return probe_on(encoder, f"openSMILE {encoder.identity['set']}", selection, settings, workplace)


def whisper_teacher(argument: str, selection: Selection, settings: Settings, workplace: Workplace) -> Teacher:
    """A probe on Whisper's encoder; `argument` is a folder or a name on the hub."""
    from light_sernet_kd.encoders import whisper  # and with it Keras, which not every command loads

    source = argument or whisper.DEFAULT
    name = f"Whisper's encoder {model_name(source)}"
    return probe_on(whisper.encoder(source), name, selection, settings, workplace)


def onnx_teacher(argument: str, selection: Selection, settings: Settings, workplace: Workplace) -> Teacher:
    """A probe on a tensor of an ONNX file; `argument` is `FILE#TENSOR`."""
    encoder = user_model.onnx_encoder(argument)
    return probe_on(encoder, model_name(argument), selection, settings, workplace)


def tflite_teacher(argument: str, selection: Selection, settings: Settings, workplace: Workplace) -> Teacher:
    """A probe on a tensor of a TFLite file; `argument` is `FILE#TENSOR`."""
    encoder = user_model.tflite_encoder(argument)
    return probe_on(encoder, model_name(argument), selection, settings, workplace)


def whisper_digest(argument: str, data: Path) -> str | None:
    """Hash of a folder's model; None of a name on the hub."""
    from light_sernet_kd.encoders import whisper

    return whisper.digest(argument or whisper.DEFAULT)


def onnx_digest(argument: str, data: Path) -> str:
    """Hash of an ONNX file."""
    return audio.fingerprint(user_model.parts_of(argument, "onnx")[0])


def tflite_digest(argument: str, data: Path) -> str:
    """Hash of a TFLite file."""
    return audio.fingerprint(user_model.parts_of(argument, "tflite")[0])


def yamnet_digest(argument: str, data: Path) -> str:
    """Hash of YAMNet's file."""
    return audio.fingerprint(yamnet.path_of(argument, data))


def file_teacher(argument: str, selection: Selection, settings: Settings, workplace: Workplace) -> Teacher:
    """What a teacher file holds."""
    return teachers.read(Path(argument))


def ensemble_teacher(
    argument: str, selection: Selection, settings: Settings, workplace: Workplace
) -> Teacher:
    """Several sources as one: the weighted mean of their logits, each at its own temperature in each fold.

    With `--teacher_mixing confidence` an example that trains weighs them by its label. A network that a run
    trains is left to it, and so are its answers to unlabelled clips: see `experiment.teachers.teacher`.

    Args:
        argument: as `registries.teachers.teacher_members` reads it.
    """
    trained, task = trained_member(argument), workplace.unlabelled
    names, weights = zip(*[each for each in teacher_members(argument) if each != trained], strict=True)
    of_one_source = dataclasses.replace(settings, teacher_mixing=MEAN_OF_SOURCES)
    members = [
        teacher_of(name, selection, of_one_source, workplace.of_member(number))
        for number, name in enumerate(names)
    ]
    everyone = selection.final_fold
    folds = [*selection.folds]
    if settings.export or all(not each.folds or everyone.name in each.folds for each in members):
        folds.append(everyone)
    calibrated = [at_own_temperature(each, selection, folds) for each in members]
    if task:
        for fold in folds:
            answers = [
                _member_answers(task, number, teacher, selection.classes, fold.name)
                for number, teacher in enumerate(zip(names, members, strict=True))
            ]
            temperatures = [each.card["temperatures"][fold.name] for each in calibrated]
            _write_joined(task, fold.name, answers, np.array(weights) / temperatures / sum(weights))
        task.remove_members()
    by_label = settings.teacher_mixing == CONFIDENCE and len(members) > 1
    if workplace.views:
        by_fold = [each.card["temperatures"] for each in calibrated]
        write_mixture(workplace.views, by_fold, weights, selection.labels if by_label else None)
    return teachers.ensemble(
        calibrated, weights, labels=training_labels(selection, folds) if by_label else None
    )


def _member_answers(
    task: UnlabelledTask, number: int, named: tuple[str, Teacher], classes: Sequence[str], fold: str
) -> Answers:
    """What a member of an ensemble says of unlabelled clips: a file what lies beside it."""
    name, teacher = named
    if teacher_source(name)[0].kind == "read":
        return read_beside(Path(name), teacher, task.clips.survey.clips["content"], classes, fold)
    return read_of(task.of_member(number).folder, fold, len(task.clips), len(classes))


def _write_joined(task: UnlabelledTask, fold: str, answers: Sequence[Answers], factors: np.ndarray) -> None:
    """What an ensemble says of unlabelled clips in a fold: the members' logits times `factors`, summed."""
    blocks = blocks_of(len(task.clips))
    logits = (
        sum(factor * np.asarray(each.logits[rows]) for factor, each in zip(factors, answers, strict=True))
        for rows in blocks
    )
    task.write(fold, (np.asarray(each, np.float32) for each in logits), answers[0].logits.shape[1])
    embeddings = [each.embedding for each in answers if each.embedding is not None]
    if len(embeddings) == len(answers):
        joined = CombinedRows(embeddings, side_by_side)
        task.write_embeddings((joined[rows] for rows in blocks), joined.shape[1], fold)


def training_labels(selection: Selection, folds: Sequence[Fold]) -> np.ndarray:
    """Class indices `(folds, utterances)` of what trains in each fold, and -1 of all else.

    Labels of validation and test utterances decide nothing of a teacher.
    """
    labels = np.full((len(folds), len(selection.utterances)), -1)
    for row, fold in zip(labels, folds, strict=True):
        train = list(fold.train)
        row[train] = selection.labels[train]
    return labels


def temperatures_of(teacher: Teacher, selection: Selection, folds: Sequence[Fold]) -> dict[str, float]:
    """Fold → what makes its teacher as sure as it is right.

    Each is fitted on the fold's validation set. Where that is empty or tests too, a cross-fitted teacher has
    a temperature of its training set. Any other is surer of that set than of all else: it has the median of
    the fitted temperatures, and 1 where there are none.
    """
    of_training = teachers.is_cross_fitted(teacher.card)
    fitted = {
        fold.name: _fitted_temperature(teacher, selection, fold)
        for fold in folds
        if fold.selection_indices or of_training
    }
    typical = statistics.median(fitted.values()) if fitted else 1.0
    return {fold.name: fitted.get(fold.name, typical) for fold in folds}


def _fitted_temperature(teacher: Teacher, selection: Selection, fold: Fold) -> float:
    rows = list(fold.selection_indices or fold.train)
    logits = teachers.aligned(teacher, selection.utterances, selection.classes, fold.name)
    return fit_temperature(logits[rows], selection.labels[rows])


def at_own_temperature(
    teacher: Teacher, selection: Selection, folds: Sequence[Fold], temperature: float | None = None
) -> Teacher:
    """The teacher with each fold's logits over a temperature, so that teachers of one fold are equally sure.

    Args:
        temperature: by default what `temperatures_of` says of each fold.
    """
    if temperature is None:
        temperatures = temperatures_of(teacher, selection, folds)
    else:
        temperatures = {fold.name: temperature for fold in folds}
    logits, embeddings, values, speakers = [], [], [], {}
    for fold in folds:
        aligned = teachers.aligned(teacher, selection.utterances, selection.classes, fold.name)
        logits.append(aligned / np.float32(temperatures[fold.name]))
        if teacher.embeddings is not None:
            embeddings.append(teachers.aligned_embeddings(teacher, selection.utterances, fold.name))
        if teacher.dimensions is not None:
            names = teacher.dimensions.names
            values.append(teachers.aligned_dimensions(teacher, selection.utterances, names, fold.name))
        if (seen := teachers.speakers_of_fold(teacher, fold.name)) is not None:
            speakers[fold.name] = sorted(seen)
    shared = teacher.embeddings is not None and len(teacher.embeddings) == 1
    return Teacher(
        ids=tuple(utterance.id for utterance in selection.utterances),
        classes=tuple(selection.classes),
        logits=np.stack(logits),
        folds=tuple(fold.name for fold in folds),
        card={**teacher.card, "temperatures": temperatures, "train_speakers": speakers},
        embeddings=np.stack(embeddings[:1] if shared else embeddings) if embeddings else None,
        values=np.stack(values) if values else None,
        dimensions=Dimensions(teacher.dimensions.names, SCALED) if teacher.dimensions else None,
    )


def ensemble_digest(argument: str, data: Path) -> str | None:
    """Hash of the files of all members; None where they have none."""
    sources = [teacher_source(name) for name, _ in teacher_members(argument)]
    digests = [
        (entry.digest(source_argument, data) if entry.digest else None) or ""
        for entry, source_argument in sources
    ]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest() if any(digests) else None


def file_digest(argument: str, data: Path) -> str:
    """Hash of a teacher file.

    Raises:
        UserError: there is no such file.
    """
    path = Path(argument)
    if not path.exists():
        raise teachers.no_file(path)
    return audio.fingerprint(path)


def probe_on(
    encoder: Encoder, name: str, selection: Selection, settings: Settings, workplace: Workplace
) -> Teacher:
    """A probe per fold, and one on all speakers, on what an encoder says of every recording.

    Args:
        encoder: gives one row for each.
        name: of the network, for people.
    """
    rows = embedded(encoder, selection, workplace).stacked()
    card = {
        "made_by": f"probe on {name}",
        "encoder": dict(encoder.identity),
        **facts_of(selection, settings),
    }
    folds = [*selection.folds, selection.final_fold]
    task = workplace.unlabelled
    answers = [_probe_answers(encoder, task, len(selection.classes), workplace)] if task else []
    if workplace.views:
        answers.append(view_answerer(encoder, workplace.views, workplace.cache, workplace.progress))

    def on_fold(fold: str, fitted: probe.FoldProbe) -> None:
        for answer in answers:
            answer(fold, fitted)

    options = probe.ProbeOptions(standardise_speakers=settings.standardise_speakers)
    teacher = probe.probe_teacher(
        rows, selection.utterances, selection.classes, folds, card=card, options=options, on_fold=on_fold
    )
    return _with_ratings(teacher, rows, selection, folds) if settings.dimensions else teacher


def _with_ratings(teacher: Teacher, rows: np.ndarray, selection: Selection, folds: Sequence[Fold]) -> Teacher:
    """The teacher with values of the ratings that the student learns."""
    speakers = [utterance.speaker for utterance in selection.utterances]
    values = rating_values(rows, selection.dimensions, speakers, folds)
    of = Dimensions(selection.dimension_names, SCALED)
    return dataclasses.replace(teacher, values=values, dimensions=of)


def _probe_answers(
    encoder: Encoder, task: UnlabelledTask, classes: int, workplace: Workplace
) -> Callable[[str, probe.FoldProbe], None]:
    """What writes, for each fold, what its probe says of the unlabelled clips."""
    rows = embedding_cache.OneEach(clip_embeddings(encoder, task, workplace))
    blocks = blocks_of(len(rows))
    if rows.shape[1] <= probe.WIDE:
        task.write_embeddings((rows[block] for block in blocks), rows.shape[1])

    def answer(fold: str, fitted: probe.FoldProbe) -> None:
        def each(of_rows: probe.Rows) -> Iterator[np.ndarray]:
            return (of_rows(rows[block].astype(np.float64)).astype(np.float32) for block in blocks)

        task.write(fold, each(fitted.logits), classes)
        if fitted.components:
            task.write_embeddings(each(fitted.components), probe.COMPONENTS, fold)

    return answer


def clip_embeddings(encoder: Encoder, task: UnlabelledTask, workplace: Workplace) -> Embeddings:
    """What an encoder says of every unlabelled clip; only what the cache does not hold yet is computed.

    Raises:
        UserError: a number is not finite; names the recording.
    """
    try:
        return embedding_cache.embed_clips(
            task.clips, encoder, cache=workplace.cache, progress=workplace.progress
        )
    except NotFiniteError as error:
        raise UserError(
            f"{error.text} the unlabelled recording {task.clips.path_of(error.key)}: take it out of the "
            f"folder.{error.remedy}"
        ) from None


def embedded(encoder: Encoder, selection: Selection, workplace: Workplace) -> Embeddings:
    """What an encoder says of every recording; only what the cache does not hold yet is computed."""
    return embedding_cache.embed(
        selection.utterances,
        selection.fingerprints,
        encoder,
        cache=workplace.cache,
        progress=workplace.progress,
    )


def facts_of(selection: Selection, settings: Settings) -> dict[str, Any]:
    return {"corpus": selection.corpus.name, "protocol": settings.protocol}
