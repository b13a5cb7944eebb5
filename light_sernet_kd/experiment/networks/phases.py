"""The stages of a network's training: what is built, on which rows, by which schedule."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import students
from light_sernet_kd.config import Settings, distillation_spec
from light_sernet_kd.config.settings import SAME
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.networks.inputs import architectures, features_of
from light_sernet_kd.features import feature_shape
from light_sernet_kd.registries.engines import ENGINES
from light_sernet_kd.registries.losses import NO_TEACHER
from light_sernet_kd.registries.schedules import Schedule
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.teachers.probe import PARTS, held_out_parts
from light_sernet_kd.training import devices

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


@dataclass(frozen=True)
class Phase:
    """One stage of a network's training.

    Attributes:
        rows: what is fed, indexed by utterances.
        initial: maps the weights that the previous phase selected to this phase's initial weights; None
            begins anew.
        int8: whether it is trained and validated with the roundings of the int8 file.
        devices: how many share each batch.
    """

    build: Callable[[], keras.Model]
    rows: Any
    schedule: Schedule
    distillation: distillation_spec.DistillationSum
    accelerate: bool = True
    initial: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None
    int8: bool = False
    devices: int = 1


def check_devices(run: "Experiment") -> None:
    """Whether the devices that are to share each network's batches are there and can do so."""
    wanted = run.options.devices
    if wanted is None:
        return
    if not ENGINES[run.engine].shares_batches:
        sharing = " or ".join(name for name, engine in ENGINES.items() if engine.shares_batches)
        raise UserError(f"--devices is for --engine {sharing}: leave it out.")
    if wanted > (there := devices.available()):
        raise UserError(f"--devices {wanted}, but JAX has {pluralise(there, 'device')} here: give fewer.")
    for role in architectures(run):
        batch = schedule_of(run, role).batch_size
        if batch % wanted:
            flag = "--batch_size" if role == "student" else "--teacher_batch_size"
            raise UserError(
                f"--devices {wanted} divides each batch evenly, and the {role}'s have {batch} examples: give "
                f"{flag} {max(wanted, batch // wanted * wanted)}, or other --devices."
            )


def devices_of(run: "Experiment", role: str) -> int:
    """How many devices share each batch of the role's network.

    A small network would only wait for them: what others of its kind do on one is worth more.
    """
    if run.options.devices is not None:
        return run.options.devices
    if not ENGINES[run.engine].shares_batches or role not in run.multimodal:
        return 1
    return devices.sharing(schedule_of(run, role).batch_size, most=devices.available())


def shared_roles(run: "Experiment") -> dict[str, int]:
    """Role → how many devices share each batch, of the networks of which several do."""
    counts = {role: devices_of(run, role) for role in architectures(run)}
    return {role: count for role, count in counts.items() if count > 1}


def is_trained_with_others(run: "Experiment", role: str) -> bool:
    """Whether the role's network is one that JAX trains together with others, its examples in memory."""
    return role not in run.multimodal and devices_of(run, role) == 1


def check_encoders(run: "Experiment") -> None:
    """Whether the encoders can be trained where they are to be, and text states compared likewise."""
    for role, encoders in run.multimodal.items():
        if schedule_of(run, role).tune_epochs and not encoders.is_whole:
            raise UserError(encoders.frozen_only)
    if not run.distillation.needs_states:
        return
    text = [run.multimodal[role].text for role in ("student", "teacher") if role in run.multimodal]
    if len(text) < 2 or text[0] is None or text[1] is None:
        raise UserError(
            f"{run.settings.distillation} compares the text states of student and teacher: it takes a "
            "student and a teacher such as --student picobert_vggish --teacher bert_vggish."
        )
    if run.settings.teacher_count > 1:
        raise UserError(
            f"{run.settings.distillation} compares text states, of which each of several teachers has "
            "its own: leave out --teacher_count."
        )
    if not schedule_of(run, "student").tune_epochs:
        raise UserError(
            f"{run.settings.distillation} compares text states, which only change while the encoders "
            "are trained: give --tune_epochs."
        )
    if text[0].tokeniser.vocabulary != text[1].tokeniser.vocabulary:
        raise UserError(
            f"{run.settings.distillation} compares text states token by token, but the encoders of "
            "student and teacher have different vocabularies."
        )


def schedule_of(run: "Experiment", role: str) -> Schedule:
    """How the role's network is trained."""
    return run.settings.training_schedule if role == "student" else run.settings.teacher_schedule


def teacher_parts(run: "Experiment") -> int:
    """Into how many parts the speakers are divided, each of whose outputs are of teachers without them."""
    parts = run.settings.teacher_parts
    if parts is None:
        parts = PARTS if "teacher" in run.multimodal else 0
    return parts


def held_out_folds(run: "Experiment", fold: Fold) -> dict[str, tuple[Fold, list[int]]]:
    """What `--teacher_parts` adds to a fold's teacher; nothing where its speakers are not divided.

    Returns:
        `without-1` and so on → the fold less a part of its training speakers, with no validation set, and the
        utterances of that part.
    """
    if not teacher_parts(run):
        return {}
    train = np.array(fold.train)
    speakers = np.array([run.utterances[row].speaker for row in fold.train])
    return {
        f"without-{number}": (
            dataclasses.replace(fold, train=tuple(train[~part].tolist()), validation=()),
            train[part].tolist(),
        )
        for number, part in enumerate(held_out_parts(speakers, teacher_parts(run)), start=1)
    }


def _qat_schedule(run: "Experiment") -> Schedule:
    """The learning rate stays as it is: so few epochs with one that falls would end before they learn."""
    schedule = schedule_of(run, "student")
    rate = run.settings.qat_learning_rate or schedule.learning_rate / 10
    return dataclasses.replace(schedule, epochs=run.settings.qat, learning_rate=rate, decay=1.0)


def phases_of(run: "Experiment", role: str) -> list[Phase]:
    """The stages of the role's training; the last one's network is what is scored."""
    if role not in run.phases:
        run.phases[role] = _made_phases(run, role)
    return run.phases[role]


def front_end_for(run: "Experiment", role: str) -> str:
    """What the role's network hears through.

    A network of another kind than the student has its own, unless it is asked of the student's features.
    """
    name = architectures(run)[role]
    is_students = name == run.settings.student or run.settings.teacher_view == SAME
    return run.front_end if is_students else STUDENTS[name].front_end


def _made_phases(run: "Experiment", role: str) -> list[Phase]:
    distillation = run.distillation if role == "student" else distillation_spec.parse(NO_TEACHER)
    if role in run.multimodal:
        return _multimodal_phases(run, role, distillation)
    settings, name = run.settings, architectures(run)[role]
    width = settings.width if role == "student" else settings.trained_teacher_width
    front_end = front_end_for(run, role)
    shape = feature_shape(front_end, settings.input_type, settings.samples)
    # A teacher has the published shape: what makes a student small need not make its teacher so.
    options = shape_of(settings) if role == "student" else {}
    options |= {"dimensions": len(dimensions)} if (dimensions := dimensions_of(run, role)) else {}
    build = functools.partial(students.build, name, shape, len(run.classes), width=width, **options)
    schedule, shared = schedule_of(run, role), devices_of(run, role)
    first = Phase(build, features_of(run, front_end), schedule, distillation, devices=shared)
    if role == "teacher" or not settings.qat:
        return [first]
    return [first, dataclasses.replace(first, schedule=_qat_schedule(run), initial=list, int8=True)]


def dimensions_of(run: "Experiment", role: str) -> tuple[str, ...]:
    """The ratings that the role's network learns: a teacher's where the student learns by them."""
    return run.settings.dimensions if role == "student" or run.distillation.needs_dimensions else ()


def shape_of(settings: Settings) -> dict[str, Any]:
    """The shape of a student that is not as published; other students take no such arguments."""
    names = ("depth", "kernels", "local_pooling")
    values = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(Settings, name)}


def _multimodal_phases(
    run: "Experiment", role: str, distillation: distillation_spec.DistillationSum
) -> list[Phase]:
    """With frozen encoders, and perhaps with all weights."""
    encoders, schedule = run.multimodal[role], schedule_of(run, role)
    head = functools.partial(encoders.head, any_length=True)
    frozen = Phase(
        head,
        encoders.short_states.rows,
        schedule,
        distillation.without_states(),
        accelerate=False,
        devices=devices_of(run, role),
    )
    if not schedule.tune_epochs:
        return [frozen]
    tuned = Phase(
        encoders.whole,
        encoders.inputs.rows,
        dataclasses.replace(schedule, epochs=schedule.tune_epochs),
        distillation,
        accelerate=False,
        initial=lambda selected: encoders.whole(selected).get_weights(),
        devices=frozen.devices,
    )
    return [frozen, tuned]


def settings_for(run: "Experiment", distillation: distillation_spec.DistillationSum) -> dict[str, Any]:
    """The distillation's settings for a phase that trains on a part of it."""
    if distillation == run.distillation:
        return run.distillation_settings
    first = run.distillation.terms[0].name
    named = {
        name if "." in name else f"{first}.{name}": value for name, value in run.distillation_settings.items()
    }
    kept = [term.name for term in distillation.terms]
    selected = {name: value for name, value in named.items() if name.partition(".")[0] in kept}
    return selected if len(kept) > 1 else {name.partition(".")[2]: value for name, value in selected.items()}
