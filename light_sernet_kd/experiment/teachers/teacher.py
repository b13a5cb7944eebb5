"""The teacher of a run: read, made for all folds at once, or trained per fold."""

import contextlib
import dataclasses
import functools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import audio, teachers
from light_sernet_kd.arrays import open_mapped, read_arrays
from light_sernet_kd.config import Dimensions
from light_sernet_kd.config.settings import CONFIDENCE, SAME
from light_sernet_kd.data import array_cache
from light_sernet_kd.data.batches import TeacherOutputs, TeacherViews
from light_sernet_kd.data.feature_cache import predictions
from light_sernet_kd.data.protocols import ALL_SPEAKERS, Fold
from light_sernet_kd.data.run_folder import read_or_redo
from light_sernet_kd.data.text_states import write_text_states
from light_sernet_kd.distillation.batch_keys import DIMENSIONS, EMBEDDING, LOGITS, TEACHER, TEACHER_EMBEDDING
from light_sernet_kd.distillation.distiller import text_states_of
from light_sernet_kd.experiment.networks.phases import (
    architectures,
    held_out_folds,
    phases_of,
    teacher_parts,
)
from light_sernet_kd.experiment.networks.training import network_of, teacher_roles, train_network
from light_sernet_kd.experiment.teachers import finished_runs, unlabelled
from light_sernet_kd.experiment.teachers import views as teacher_views
from light_sernet_kd.files import write_arrays
from light_sernet_kd.registries.teachers import teacher_members, teacher_source, trained_member
from light_sernet_kd.teachers.alignment import SCALED
from light_sernet_kd.teachers.components import ComponentRows, fit_components
from light_sernet_kd.teachers.sources import (
    Workplace,
    at_own_temperature,
    teacher_of,
    temperatures_of,
    training_labels,
)
from light_sernet_kd.training.teacher_networks import ComponentTeacher, TeacherNetworks

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


# The role under which the text states of a fold's teacher are kept.
_STATES = "teacher-states"
# What the weights of its networks are kept as, for as long as they are asked.
_WEIGHTS = "weights.npz"


def median_epochs(epochs: Sequence[Sequence[int]]) -> list[int]:
    """The median over folds of each phase's epochs."""
    return [max(1, round(statistics.median(phase))) for phase in zip(*epochs, strict=True)]


def _teacher_of_kind(run: "Experiment", kind: str) -> str | None:
    """What `--teacher` names, where that is of this kind of source."""
    source = run.settings.teacher
    if source is None or teacher_source(source)[0].kind != kind:
        return None
    return source


def _made(run: "Experiment", source: str, asked: Sequence[Fold]) -> teachers.Teacher:
    """What `--teacher` makes for all folds.

    Args:
        asked: folds in which it is asked on views.
    """
    with run.display.counted("recordings that the teacher reads") as shown:
        return teacher_of(source, run.selection, run.settings, _workplace(run, asked, shown))


def _workplace(
    run: "Experiment", asked: Sequence[Fold] = (), progress: audio.Progress | None = None
) -> Workplace:
    return Workplace(
        run.options.data,
        run.cache_folder / "embeddings",
        run.folder.path,
        progress=progress,
        unlabelled=unlabelled.task_of(run) if run.unlabelled else None,
        views=teacher_views.task_of(run, asked) if asked else None,
    )


def read_teacher(run: "Experiment") -> teachers.Teacher | None:
    """The teacher of a file; None for one that is made in this run, or where none is needed."""
    source = _teacher_of_kind(run, "read")
    if source is None:
        return None
    teacher = teacher_of(source, run.selection, run.settings, _workplace(run))
    needed = [fold.name for fold in run.folds] + ([ALL_SPEAKERS] if run.settings.export else [])
    for name in needed:
        teachers.aligned(teacher, run.utterances, run.classes, name)
        if run.distillation.needs_embeddings:
            teachers.aligned_embeddings(teacher, run.utterances, name)
        if run.distillation.needs_dimensions:
            teachers.aligned_dimensions(teacher, run.utterances, run.settings.dimensions, name)
        if run.unlabelled:
            unlabelled.answers_in_file(run, teacher, name)
    return teacher


def made_teacher(run: "Experiment") -> teachers.Teacher | None:
    """The teacher that is made for all folds at once and kept in the run's folder; None for others."""
    source = _teacher_of_kind(run, "made")
    if source is None:
        return None
    path = run.folder.teacher
    final = [run.selection.final_fold] if run.settings.export else []
    unasked = teacher_views.unasked(run, [*run.folds, *final])
    if not path.exists() or unasked:
        entry, argument = teacher_source(source)
        if entry.reads_rows:
            run.display.say(f"Teacher: a probe per fold on the embeddings of {source} ...")
        if entry.answers_batches and run.settings.teacher_view == SAME:
            finished_runs.check_same_view(argument, run.selection, run.settings)
        made = _made(run, source, unasked)
        if not path.exists():
            teachers.write(path, made)
    teacher = read_or_redo(path, teachers.read)
    if run.distillation.needs_embeddings:  # refused before a network is trained that it is mixed with
        teachers.aligned_embeddings(teacher, run.utterances, run.folds[0].name)
    if run.distillation.needs_dimensions:
        teachers.aligned_dimensions(teacher, run.utterances, run.settings.dimensions, run.folds[0].name)
    return teacher


def teacher_digest(run: "Experiment") -> str | None:
    """Hash of the file that the teacher is, or is read by."""
    source = run.settings.teacher
    if source is None:
        return None
    entry, argument = teacher_source(source)
    return entry.digest(argument, run.options.data) if entry.digest else None


def teacher_name(run: "Experiment") -> str:
    names = [run.teacher.made_by] if run.teacher else []
    if run.settings.trained_teacher:
        names.append(_network_name(run))
    return " and ".join(names)


def _network_name(run: "Experiment") -> str:
    """Of the teacher that the run trains."""
    name = architectures(run)["teacher"]
    if "teacher" in run.multimodal:
        # Not facts(), which hashes every weight; this is asked for each of a fold's networks.
        return f"{name} on {' and '.join(run.multimodal['teacher'].state_encoders().values())}"
    return f"{name}, width {run.settings.trained_teacher_width:g}"


def teacher_licence(run: "Experiment") -> str | None:
    """Of what the teacher was made with; None where its card does not tell, or the run trains it."""
    licence = run.teacher.card.get("licence") if run.teacher else None
    return licence if isinstance(licence, str) else None


def known_speakers(run: "Experiment") -> dict[str, Any] | None:
    """UA and WA of a teacher that standardises test speakers by their own recordings too, and their stamp.

    None where its probes standardise no speakers, or where these are scores of other folds.
    """
    probe = run.teacher.card.get("probe") if run.teacher else None
    known = probe.get("known_speakers") if isinstance(probe, dict) else None
    if not isinstance(known, dict) or set(known.get("folds", ())) != {fold.name for fold in run.folds}:
        return None
    return {name: known.get(name) for name in ("ua", "wa", "stamp")}


def teacher_outputs(
    run: "Experiment", fold: Fold, epochs: Sequence[int] | None = None
) -> TeacherOutputs | None:
    """What the fold's teacher says of every utterance; None where there is no teacher."""
    if run.settings.teacher is None:
        return None
    teacher = fold_teacher(run, fold, epochs)
    logits = teachers.aligned(teacher, run.utterances, run.classes, fold.name)
    embedding = states = None
    if run.distillation.needs_embeddings:
        embedding = teachers.aligned_embeddings(teacher, run.utterances, fold.name)
    if run.distillation.needs_states:
        states = _teacher_states(run, fold)
    clips = unlabelled.clips_beside(run, fold, _factors(run, fold)) if run.unlabelled else None
    outputs = TeacherOutputs(logits, embedding, states, clips)
    if run.distillation.needs_dimensions:
        values = teachers.aligned_dimensions(teacher, run.utterances, run.settings.dimensions, fold.name)
        outputs = dataclasses.replace(outputs, dimensions=values)
    if teacher_views.asks_views(run):
        outputs = dataclasses.replace(outputs, views=_views(run, fold))
    elif run.settings.teacher_view == SAME:
        outputs = dataclasses.replace(outputs, batch_teacher=_asked_networks(run, fold))
    return outputs if embedding is None else in_components(run, fold, outputs, embedding)


def _views(run: "Experiment", fold: Fold) -> TeacherViews:
    """What a frozen teacher says of the views that the student's epochs draw from."""
    if unasked := teacher_views.unasked(run, [fold]):  # of all speakers, where nothing was to be exported
        _made(run, str(run.settings.teacher), unasked)
    return teacher_views.views_of(run, fold)


def in_components(
    run: "Experiment", fold: Fold, outputs: TeacherOutputs, embedding: np.ndarray
) -> TeacherOutputs:
    """The outputs with `--teacher_components` of their embeddings, as training utterances have them."""
    count = run.settings.teacher_components
    if not count:
        return outputs
    components = fit_components(embedding[list(fold.train)], count)
    clips, asked, views = outputs.unlabelled, outputs.batch_teacher, outputs.views
    if clips and clips.embedding is not None:
        clips = dataclasses.replace(clips, embedding=ComponentRows(clips.embedding, components))
    if asked:
        asked = ComponentTeacher(asked, components, count)
    if views:
        views = teacher_views.in_components(views, components)
    return dataclasses.replace(
        outputs, embedding=components(embedding), unlabelled=clips, batch_teacher=asked, views=views
    )


def _asked_networks(run: "Experiment", fold: Fold) -> TeacherNetworks:
    """The networks of the fold's teacher, to be asked of the student's batches."""
    source, argument = teacher_source(str(run.settings.teacher))
    if source.kind == "trained":
        network = network_of(run, "teacher").student
        networks, weights = [network] * run.settings.teacher_count, _members_weights(run, fold, network)
    else:
        networks = finished_runs.networks(argument, fold.name)
        weights = [network.get_weights() for network in networks]
    return teacher_networks_of(run, "teacher", networks, weights)


def teacher_networks_of(
    run: "Experiment", who: str, networks: Sequence[keras.Model], weights: Sequence[Sequence[np.ndarray]]
) -> TeacherNetworks:
    """Networks with these weights, to be asked of the student's batches; of each `who` they are made once."""
    if who not in run.batch_teachers:
        names = [TEACHER] * run.distillation.needs_logits
        names += [TEACHER_EMBEDDING] * run.distillation.needs_embeddings
        run.batch_teachers[who] = TeacherNetworks(networks, arithmetic=run.arithmetic, names=names)
    run.batch_teachers[who].set_weights(weights)
    return run.batch_teachers[who]


def _members_weights(run: "Experiment", fold: Fold, network: keras.Model) -> list[list[np.ndarray]]:
    """Of each network that was trained for the fold's teacher."""
    step, shapes = run.step(fold), [tuple(each.shape) for each in network.weights]

    def read(path: Path) -> list[np.ndarray]:
        arrays = read_arrays(path)
        weights = [arrays[str(number)] for number in range(len(shapes))]
        if [each.shape for each in weights] != shapes:
            raise ValueError(f"{path} holds weights of another network")
        return weights

    paths = [step.member(role, _WEIGHTS) for role in teacher_roles(run)]
    return [read_or_redo(path, read, remove=step.teacher) for path in paths]


def fold_teacher(run: "Experiment", fold: Fold, epochs: Sequence[int] | None = None) -> teachers.Teacher:
    """What the fold's student learns from: made or read, trained, or both, of which it is the mean."""
    if not run.settings.trained_teacher:
        if run.teacher is None:
            raise ValueError("the run has no teacher")
        return run.teacher
    trained = trained_teacher(run, fold, epochs=epochs)
    return _mixed(run, run.teacher, fold, trained) if run.teacher else trained


def _mixed(
    run: "Experiment", others: teachers.Teacher, fold: Fold, trained: teachers.Teacher
) -> teachers.Teacher:
    """The weighted mean of the network of the fold, at its own temperature, and of what stands beside it.

    A network is surer of what it was trained on than of anything else. Of all speakers, where nothing
    validates, it gets the median of the folds' temperatures, as it is trained for the median of their epochs.
    """
    temperature = _own_temperature(run, fold, trained)
    calibrated = at_own_temperature(trained, run.selection, [fold], temperature)
    by_label = run.settings.teacher_mixing == CONFIDENCE
    return teachers.ensemble(
        [teachers.of_fold(others, fold.name), calibrated],
        _weights_beside(run),
        labels=training_labels(run.selection, [fold]) if by_label else None,
    )


def _weights_beside(run: "Experiment") -> tuple[float, float]:
    """The weights of what stands beside the network of a fold, and of that network."""
    members = teacher_members(str(run.settings.teacher))
    every = sum(weight for _, weight in members)
    of_trained = sum(weight for name, weight in members if trained_member(name))
    return every - of_trained, of_trained


def _own_temperature(run: "Experiment", fold: Fold, trained: teachers.Teacher) -> float:
    """Of the network of a fold; of all speakers the median of the folds', where these validate."""
    validated = [each for each in run.folds if each.selection_indices] if fold.name == ALL_SPEAKERS else []
    temperatures = [
        temperatures_of(trained_teacher(run, each), run.selection, [each])[each.name] for each in validated
    ]
    own = temperatures or temperatures_of(trained, run.selection, [fold]).values()
    return statistics.median(own)


def _factors(run: "Experiment", fold: Fold) -> tuple[float, float] | None:
    """By which logits of unlabelled clips are multiplied where a network is mixed with other sources."""
    if not (run.settings.trained_teacher and run.teacher):
        return None
    others, of_trained = _weights_beside(run)
    temperature = _own_temperature(run, fold, trained_teacher(run, fold))
    return others / (others + of_trained), of_trained / (others + of_trained) / temperature


def _teacher_states(run: "Experiment", fold: Fold) -> Any:
    """Text states `(utterances, tokens, width)` of the fold's teacher, indexed by utterances."""
    if len(phases_of(run, "teacher")) == 1:
        return run.multimodal["teacher"].text_states
    step, shape = run.step(fold), (len(run.utterances), run.settings.text_tokens, None)
    read = functools.partial(open_mapped, shape=shape, dtype=np.dtype(np.float16))
    return read_or_redo(step.member(_STATES, "npy"), read, remove=step.teacher)


def trained_teacher(run: "Experiment", fold: Fold, epochs: Sequence[int] | None = None) -> teachers.Teacher:
    """The fold's own teacher: networks trained on its training set, and the mean of them.

    With `teacher_parts` a training utterance's logits are of networks that were trained without its
    speaker, for as many epochs as the fold's own was: a teacher is surer of what it was trained on than
    it is of anything that it will be asked.
    """
    step = run.step(fold)
    if step.teacher.exists():
        step.clear("teacher*-checkpoint*.npz", "*-member.npz")
    else:
        members, best_epochs = [], []
        for role in teacher_roles(run):
            member = _member_outputs(run, role, fold, epochs)
            best = member.card["best_epochs"]
            members.append(_with_held_out(run, member, role, fold, best))
            best_epochs.append(best)
        teacher = members[0] if len(members) == 1 else teachers.ensemble(members)
        card = {**teacher.card, "best_epochs": median_epochs(best_epochs), "parts": teacher_parts(run)}
        teachers.write(step.teacher, dataclasses.replace(teacher, card=card))
        step.clear("*-member.npz")
        if fold.test and run.has_classes:
            logits = teachers.aligned(teacher, run.utterances, run.classes, fold.name)
            ua = run.scores(fold, logits[list(fold.test)])["ua"]
            run.display.say(f"fold {fold.name}: teacher UA {100 * ua:.1f} %")
    return read_or_redo(step.teacher, teachers.read)


def _with_held_out(
    run: "Experiment", teacher: teachers.Teacher, role: str, fold: Fold, epochs: Sequence[int]
) -> teachers.Teacher:
    """`teacher` with a training utterance's logits from networks that never met its speaker."""
    if not teacher_parts(run):
        return teacher
    logits = teacher.logits.copy()
    values = None if teacher.values is None else teacher.values.copy()
    for name, (others, rows) in held_out_folds(run, fold).items():
        member = _member_outputs(run, f"{role}-{name}", others, epochs, rows)
        logits[0][rows] = member.logits[0]
        if values is not None and member.values is not None:
            values[0][rows] = member.values[0]
    return dataclasses.replace(teacher, logits=logits, values=values)


def _member_outputs(
    run: "Experiment", role: str, fold: Fold, epochs: Sequence[int] | None, rows: Sequence[int] | None = None
) -> teachers.Teacher:
    """What one network of the fold's teacher says of the utterances `rows`, or of all.

    Its card has the epochs it was selected at.
    """
    step = run.step(fold)
    path = step.member(role)
    if path.exists():
        step.clear(f"{role}-checkpoint*.npz")
    else:
        outcome = train_network(run, role, fold, epochs=epochs)
        if rows is None and run.unlabelled:
            unlabelled.write_answers(run, role, fold, outcome.selected)
        rows = range(len(run.utterances)) if rows is None else rows
        fed = phases_of(run, "teacher")[-1].rows
        outputs = network_of(run, "teacher").outputs(outcome.selected, fed, rows)
        if role == "teacher" and len(phases_of(run, "teacher")) > 1:
            _write_teacher_states(run, fold, outcome.selected)
        card = {
            "made_by": _network_name(run),
            "corpus": run.corpus.name,
            "protocol": run.settings.protocol,
            "best_epochs": outcome.best_epochs,
            "train_speakers": {fold.name: run.selection.speakers(fold.train)},
        }
        ids = tuple(run.utterances[row].id for row in rows)
        if run.settings.teacher_view == SAME:
            weights = {str(number): each for number, each in enumerate(outcome.selected)}
            write_arrays(step.member(role, _WEIGHTS), weights)
        made = teachers.Teacher(
            ids, run.classes, outputs[LOGITS][None], (fold.name,), card, outputs[EMBEDDING][None]
        )
        if DIMENSIONS in outputs:
            # as the network gives them
            of = Dimensions(run.settings.dimensions, SCALED)
            made = dataclasses.replace(made, values=outputs[DIMENSIONS][None], dimensions=of)
        teachers.write(path, made)
        outcome.remove_checkpoints()
    return read_or_redo(path, teachers.read)


def _write_teacher_states(run: "Experiment", fold: Fold, weights: list[np.ndarray]) -> None:
    """The text states of a teacher whose encoder was trained, float16: of the test utterances, which
    `explain` reads, and of all, for as long as a loss compares them, in a file that is mapped.
    """
    texts = [encoders.text for encoders in run.multimodal.values() if encoders.text]
    if len(texts) < 2 or texts[0].tokeniser.vocabulary != texts[1].tokeniser.vocabulary:
        return  # there is nothing to compare, token by token
    student, rows = network_of(run, "teacher").student, phases_of(run, "teacher")[-1].rows
    student.set_weights(weights)
    model = keras.Model(student.input, text_states_of(student))

    def states(indices: Sequence[int]) -> Iterator[np.ndarray]:
        return (block.astype(np.float16) for block in predictions(model, rows, indices))

    if fold.test:
        write_text_states(run.step(fold).path, states(fold.test))
    if run.distillation.needs_states:
        everything = range(len(run.utterances))
        array_cache.write_blocks(
            run.step(fold).member(_STATES, "npy"),
            states(everything),
            (len(everything), run.settings.text_tokens, model.output_shape[-1]),
            np.dtype(np.float16),
        )


def remove_teacher_files(run: "Experiment", fold: Fold) -> None:
    """Remove the files of a finished fold's teacher that its student needed.

    They are text states, weights, and answers on clips and views. At BERT's width states take a gigabyte for
    5,500 utterances.
    """
    # Windows removes no file that is still mapped; the command given again does.
    with contextlib.suppress(PermissionError):
        teacher_views.remove_views(run, fold)
        run.step(fold).clear("*-member.npy", f"*-member.{_WEIGHTS}")


def final_teacher_epochs(run: "Experiment") -> list[int]:
    """The medians of the epochs that the folds' teachers were selected at, for each phase."""
    return median_epochs([trained_teacher(run, fold).card["best_epochs"] for fold in run.folds])


def teacher_stamps(run: "Experiment") -> list[str]:
    return list(teachers.stamps(run.teacher, run.folds, run.utterances)) if run.teacher else []
