"""Settings from loose values, checked: each by itself, then those that depend on one another."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from light_sernet_kd.config import distillation_spec, fields
from light_sernet_kd.config.ramps import ramp_of
from light_sernet_kd.config.ratings import with_dimensions
from light_sernet_kd.config.settings import BEST, CONFIDENCE, SAME, SAMPLE_RATE, Settings
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.augmentations import AUGMENTATIONS, AugmentationKind
from light_sernet_kd.registries.encoders import audio_encoder
from light_sernet_kd.registries.front_ends import FRONT_ENDS
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.registries.recipes import (
    DEFAULT,
    DISTILLED,
    OURS,
    OURS_SETTINGS,
    OWN,
    RECIPES,
    ours_settings,
)
from light_sernet_kd.registries.students import STUDENTS, is_multimodal
from light_sernet_kd.registries.teachers import (
    DEFAULT_TEACHER,
    TEACHER_SOURCES,
    Option,
    reads_rows,
    teacher_members,
    teacher_source,
    trained_member,
)

_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def make_settings(**values: Any) -> Settings:
    """`Settings` from loose values, checked.

    Raises:
        UserError: an unknown name or choice, a value of another type, an impossible number, or settings that
            do not go together.

    >>> make_settings(student="resnet18", epochs=5).training_schedule.epochs
    5
    """
    values = with_recipe({choose("setting", name, _FIELDS): value for name, value in values.items()})
    values = {name: fields.checked(_FIELDS[name], value) for name, value in values.items()}
    weights = values.get("distillation_weights", {})
    if not isinstance(weights, Mapping):
        raise UserError(f"distillation weights must be numbers by name, found {weights!r}.")
    values["distillation_weights"] = {
        name: str(ramp_of(each) or each) if isinstance(each, str) else each for name, each in weights.items()
    }
    values["distillation"] = str(distillation_spec.parse(values.get("distillation", Settings.distillation)))
    settings = Settings(**values)
    if settings.samples < 1:
        raise UserError(
            f"the input must hold a sample, found {settings.input_seconds} s at {SAMPLE_RATE} Hz."
        )
    _check_training(settings)
    check_two_corpora(settings.protocol, settings.test_on, different_speakers=settings.different_speakers)
    settings = with_dimensions(_with_teacher(_with_shape(settings)))
    _check_unlabelled(settings)
    return _with_encoders(settings)


def with_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of their recipe where they are left out, or None, which leaves them to it.

    >>> with_recipe({"recipe": "lsn", "input_type": "spectrogram"})["input_type"]
    'spectrogram'
    >>> with_recipe({"recipe": "robust", "distillation": "ours"})["recipe"]
    'distilled'
    """
    values = _with_ours(values)
    recipe = RECIPES[choose("recipe", str(values.get("recipe", OWN)), RECIPES)].settings
    given = {name: value for name, value in values.items() if value is not None or name not in recipe}
    if recipe and is_multimodal(values.get("student", Settings.student)):
        raise UserError(
            f"the recipe {values['recipe']} is for students of features alone, not for {values['student']}: "
            f"--recipe {OWN}."
        )
    return {**recipe, **given}


def _with_ours(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those that `-kd ours`, or the recipe that has it, stands for where they are left out.

    Raises:
        UserError: the recipe beside another method.
    """
    method, recipe = values.get("distillation"), values.get("recipe", OWN)
    if method is None:
        values = {name: value for name, value in values.items() if name != "distillation"}
    is_ours = str(method).lower() == OURS
    if recipe == DISTILLED and not (is_ours or method in (None, OURS_SETTINGS["distillation"])):
        raise UserError(
            f"the recipe {DISTILLED} teaches by -kd {OURS}, found {method}: leave out one of them, or take "
            f"--recipe {DEFAULT}, which is the same without a teacher."
        )
    if not is_ours and recipe != DISTILLED:
        return dict(values)
    if is_multimodal(values.get("student", Settings.student)):
        raise UserError(f"-kd {OURS} is for audio-only students, not for {values['student']}.")
    given = {name: value for name, value in values.items() if name != "distillation" and value is not None}
    teacher = fields.checked(_FIELDS["teacher"], given.get("teacher"))
    made = {**ours_settings(teacher), **given}
    weights = values.get("distillation_weights")
    if weights is None or isinstance(weights, Mapping):  # else it is refused where it is checked
        made["distillation_weights"] = {**OURS_SETTINGS["distillation_weights"], **(weights or {})}
    return {**values, **made, "recipe": DISTILLED if recipe == DEFAULT else recipe}


def flag(name: str) -> str:
    """The spelling of a setting that messages use."""
    return fields.options(Settings)[name].flags[0]


def _check_training(settings: Settings) -> None:
    if settings.qat and is_multimodal(settings.student):
        raise UserError(
            f"--qat is for students with an int8 file, the audio-only ones, not for {settings.student}. "
            "Leave it out."
        )
    if settings.enrolment and is_multimodal(settings.student):
        raise UserError(f"--enrolment is for audio-only students, not for {settings.student}. Leave it out.")
    if settings.start_from is not None and is_multimodal(settings.student):
        raise UserError(f"--start_from is for audio-only students, not for {settings.student}. Leave it out.")
    if settings.patience and settings.keep != BEST:
        raise UserError(
            f"--patience waits for a better epoch, and --keep {settings.keep} chooses none: give one of them."
        )
    if settings.qat_learning_rate is not None and not settings.qat:
        raise UserError("--qat_learning_rate goes with --qat EPOCHS.")


def check_two_corpora(protocol: str, test_on: str | None, *, different_speakers: bool) -> None:
    """Refuse a protocol of two corpora without the second, and what says something of a second without one.

    Raises:
        UserError: says which option is missing or too much.
    """
    two = PROTOCOLS[protocol].takes_test_corpus
    if two and test_on is None:
        raise UserError(f"the protocol {protocol} takes --test-on CORPUS.")
    if test_on is not None and not two:
        raise UserError(f"--test-on means the protocol cross_corpus, found {protocol}: leave out one.")
    if different_speakers and test_on is None:
        raise UserError("--different-speakers speaks of two corpora: it goes with --test-on CORPUS.")


def _with_shape(settings: Settings) -> Settings:
    """The settings with a shape that the student has; a depth that says what is published says nothing."""
    deepest = STUDENTS[settings.student].depth
    for name in ("depth", "kernels", "local_pooling"):
        if getattr(settings, name) != getattr(Settings, name) and deepest is None:
            raise UserError(f"{flag(name)} is of light_sernet and light_sernet_plus, not {settings.student}.")
    if settings.depth is not None and deepest is not None and settings.depth > deepest:
        raise UserError(f"--depth of {settings.student} is at most {deepest}, found {settings.depth}.")
    for kernel in settings.kernels:
        if not re.fullmatch(r"[1-9][0-9]?x[1-9][0-9]?", kernel):
            raise UserError(f"a kernel is frames x features, such as 11x1, found {kernel!r}.")
    return dataclasses.replace(settings, depth=None) if settings.depth == deepest else settings


def _with_teacher(settings: Settings) -> Settings:
    """The settings with the teacher that their distillation needs, checked in what they say of it."""
    mixture = distillation_spec.parse(settings.distillation)
    if settings.standardise_logits and not mixture.needs_logits:
        raise UserError(f"{mixture} compares no logits with a teacher's: leave out --standardise_logits.")
    if settings.teacher_components and not mixture.needs_embeddings:
        raise UserError(f"{mixture} compares no embeddings with a teacher's: leave out --teacher_components.")
    if settings.teacher_parts == 1:
        raise UserError("teacher parts must be 0 or at least 2, found 1.")
    if settings.teacher is not None and settings.trained_teacher is None:
        of_trained = ("count", "parts", "epochs", "batch_size", "learning_rate")
        for name in (f"teacher_{each}" for each in of_trained):
            if getattr(settings, name) != getattr(Settings, name):
                raise UserError(
                    f"{flag(name)} is of a teacher that is trained here: leave it out, or --teacher."
                )
    if settings.teacher and (settings.trained_teacher is None or teacher_members(settings.teacher)):
        check_source(settings.teacher, settings)
    if mixture.needs_teacher and settings.teacher is None:
        settings = dataclasses.replace(settings, teacher=DEFAULT_TEACHER)
    if settings.teacher_view == SAME:
        _check_same_view(settings)
    elif settings.teacher_views != Settings.teacher_views:
        raise UserError(f"--teacher_views goes with --teacher_view {SAME}.")
    if settings.generations > 1:
        _check_generations(settings, mixture)
    if not mixture.needs_teacher and settings.teacher_mixing == CONFIDENCE:
        raise UserError(f"--teacher_mixing {CONFIDENCE} needs a teacher: add -kd KD or another method.")
    if not mixture.needs_teacher and settings.standardise_speakers:
        raise UserError("--standardise_speakers needs a teacher: add -kd KD or another method.")
    if not mixture.needs_teacher and settings.teacher is not None:
        raise UserError(
            f"{mixture} training has no teacher: choose -kd KD, RKD, DKD or CKD, or leave out --teacher."
        )
    return settings


def _check_generations(settings: Settings, mixture: distillation_spec.DistillationSum) -> None:
    named = f"--generations {settings.generations}"
    if not mixture.needs_teacher:
        raise UserError(f"{named} is for students that teach the next ones: add -kd KD or another method.")
    if is_multimodal(settings.student):
        raise UserError(f"{named} is for audio-only students, not for {settings.student}. Leave it out.")


def _check_same_view(settings: Settings) -> None:
    """Refuse a teacher that cannot answer the student's batches or views."""
    view = f"--teacher_view {SAME}"
    if settings.teacher is None:
        raise UserError(f"{view} is of a teacher: add -kd KD or another method.")
    if reads_rows(settings.teacher):
        _check_views(settings)
    elif not teacher_source(settings.teacher)[0].answers_batches:
        raise UserError(
            f"{view} takes trained networks or probes, not {settings.teacher}: choose "
            "--teacher auto, a student's name, run:FOLDER, or probes such as whisper or "
            "whisper+opensmile, or leave it out."
        )
    elif settings.teacher_views != Settings.teacher_views:
        raise UserError(
            f"--teacher_views is for probes, and {settings.teacher} answers every batch: leave it out."
        )
    if settings.multimodal:
        raise UserError(
            f"{view} is for audio-only students and teachers, not for {settings.multimodal[0]}: leave it out."
        )
    if settings.teacher_parts:
        raise UserError(f"{view} takes one teacher for all examples: leave it out, or --teacher_parts.")


def _check_views(settings: Settings) -> None:
    """Refuse views for a probe where no augmentation makes any."""
    if not _changing(settings) and not is_multimodal(settings.student):
        raise UserError(
            f"--teacher_view {SAME} gives {settings.teacher} augmented recordings, and --augment changes "
            "none: add one that does, such as noise, or leave it out."
        )


def _changing(settings: Settings) -> list[AugmentationKind]:
    """The augmentations that change recordings."""
    names = [part.partition(":")[0].strip().lower() for part in settings.augmentation.split(",")]
    kinds = [AUGMENTATIONS[name] for name in names if name in AUGMENTATIONS]
    return [each for each in kinds if each.on in ("waveform", "place")]


def check_source(source: str, settings: Settings, option: Option = "--teacher") -> None:
    """Refuse a teacher that the settings do not allow.

    Args:
        source: what `option` names.

    Raises:
        UserError: its licence needs `--allow`, it is an ensemble of what cannot be mixed, or it reads nothing
            that `--standardise_speakers` changes.
    """
    members = teacher_members(source)
    entries = {name: teacher_source(name)[0] for name, _ in members} or {
        source: teacher_source(source, option)[0]
    }
    _check_trained(source, settings, option)
    _check_mixing(source, settings, option)
    if zero := [name for name, weight in members if not weight]:
        raise UserError(f"the weight of {zero[0]} in {source} must be above 0.")
    if settings.standardise_speakers and not any(each.reads_rows for each in entries.values()):
        probes = ", ".join(name for name, each in TEACHER_SOURCES.items() if each.reads_rows)
        raise UserError(
            f"--standardise_speakers is of probes on {probes}, not of {option} {source}: leave it out."
        )
    for name, entry in entries.items():
        if entry.allow and settings.allow != entry.allow:
            raise UserError(
                f"{option} {name} has a licence of its own, {entry.licence}: add --allow {entry.allow} if "
                "you accept it. It is written into the report and the exported files."
            )


def _check_mixing(source: str, settings: Settings, option: Option) -> None:
    """Refuse `--teacher_mixing confidence` where it has no sources to weigh, or cannot weigh each of them."""
    if settings.teacher_mixing != CONFIDENCE:
        return
    mixing, members = f"--teacher_mixing {CONFIDENCE}", teacher_members(source)
    if not members:
        raise UserError(
            f"{mixing} weighs several sources, such as {option} opensmile+yamnet, and {option} {source} is "
            "one: leave it out."
        )
    trained = trained_member(source)
    if trained and len(members) > 2:
        # The others are joined and kept before the network of a fold is trained.
        raise UserError(
            f"{mixing} takes one source beside {trained[0]}, which the run trains: `teach --out FILE` makes "
            f"a file of its outputs, and {option} A+B+FILE takes it."
        )


def _check_trained(source: str, settings: Settings, option: Option) -> None:
    """Refuse networks of an ensemble that the run would train, but for one beside what it reads or makes."""
    members = teacher_members(source)
    trained = [name for name, _ in members if teacher_source(name)[0].kind == "trained"]
    if not trained:
        return
    as_file = f"`teach --out FILE` makes a file of its outputs, and {option} A+FILE takes it"
    if option == "--from":
        raise UserError(f"{trained[0]} is trained by the run of its student and not here: {as_file}.")
    if len(trained) == len(members):
        raise UserError(
            f"{source} holds only networks that the run trains: --teacher {trained[0]} --teacher_count N "
            "averages N of them."
        )
    if len(trained) > 1:
        raise UserError(f"a run trains one kind of teacher, {trained[0]} or {trained[1]}: {as_file}.")
    if is_multimodal(settings.trained_teacher):
        raise UserError(f"{settings.trained_teacher} reads text and is mixed as a file: {as_file}.")


def _check_unlabelled(settings: Settings) -> None:
    if settings.unlabelled is None:
        for name in ("unlabelled_share", "unlabelled_skip_tested", "unlabelled_views"):
            if getattr(settings, name) != getattr(Settings, name):
                raise UserError(f"{flag(name)} goes with --unlabelled DIR.")
        return
    mixture = distillation_spec.parse(settings.distillation)
    if not mixture.needs_teacher:
        raise UserError(
            f"{mixture} training has no teacher, and unlabelled recordings teach by one alone: choose "
            "-kd KD or another method, or leave out --unlabelled."
        )
    if not mixture.learns_without_labels:
        raise UserError(
            f"{mixture} is defined by each example's label, and unlabelled recordings have none: choose "
            f"-kd KD, add another loss, as in -kd {mixture.terms[0].name}+KD, or leave out --unlabelled."
        )
    if settings.multimodal:
        raise UserError(
            f"--unlabelled is for audio-only students and teachers, not for {settings.multimodal[0]}, which "
            "takes text: leave it out."
        )
    if settings.unlabelled_views and not any(each.needs is None for each in _changing(settings)):
        raise UserError(
            "--unlabelled_views needs an augmentation that changes a clip without other recordings: add one "
            "to --augment, such as noise, or leave it out."
        )
    if settings.reader != Settings.reader:
        raise UserError(f"--unlabelled is read by {Settings.reader}: leave out --reader {settings.reader}.")


def _with_encoders(settings: Settings) -> Settings:
    """The settings, checked in what they say of encoders, text and tuning."""
    student, multimodal = STUDENTS[settings.student], settings.multimodal
    if settings.modality != Settings.modality and not student.chooses_modality:
        raise UserError(f"--modality is of cross_attention, not of {settings.student}.")
    pooling = [name for name in multimodal if STUDENTS[name].pools_states]
    if settings.pooling != Settings.pooling and not pooling:
        raise UserError(f"--pooling is for students such as bert_vggish, not for {settings.student}.")
    if settings.front_end and FRONT_ENDS[settings.front_end].of_encoder and not student.is_multimodal:
        raise UserError(
            f"the front end {settings.front_end} is of bert_vggish and its like, not of {settings.student}."
        )
    for name in ("text_encoder", "teacher_text_encoder", "audio_encoder", "vggish_pca", "tune_epochs"):
        if getattr(settings, name) is not None and not multimodal:
            raise UserError(
                f"{flag(name)} is of speech and text: add --student or --teacher, such as bert_vggish "
                f"({settings.student} takes audio only)."
            )
    through_vggish = audio_encoder(settings.audio_encoder)[0].front_end is not None
    if pooling and not through_vggish:
        raise UserError(
            f"{pooling[0]} takes the states of VGGish: --audio_encoder vggish or vggish=PATH "
            "(torchvggish: with a ReLU at its end)."
        )
    if settings.vggish_pca is not None and not through_vggish:
        raise UserError("--vggish_pca goes with --audio_encoder vggish.")
    if settings.teacher_text_encoder is not None and not is_multimodal(settings.trained_teacher):
        raise UserError("--teacher_text_encoder is of a teacher that reads: add one, such as bert_vggish.")
    if not student.is_multimodal:
        return settings
    if settings.front_end not in (None, student.front_end):
        raise UserError(f"{settings.student} has its own front end: leave out --front_end.")
    if settings.input_type not in (Settings.input_type, "mel_spectrogram"):
        raise UserError(f"{settings.student} takes mel_spectrogram features: leave out -it.")
    if settings.width != 1:
        raise UserError(f"--width is of convolutional students: {settings.student} has none.")
    if settings.augmentation:
        raise UserError(f"--augment is for students of features alone, not for {settings.student}.")
    if settings.reader != Settings.reader:
        raise UserError(f"--reader {settings.reader} is for students of features alone.")
    return dataclasses.replace(settings, input_type="mel_spectrogram", front_end=student.front_end)
