"""What the report says of a run's corpus, networks and training."""

from collections.abc import Mapping, Sequence
from typing import Any

from light_sernet_kd.audio import lengths
from light_sernet_kd.config import SAMPLE_RATE, make_settings
from light_sernet_kd.config.fields import spelled
from light_sernet_kd.config.ramps import ramp_of
from light_sernet_kd.config.settings import BEST, LAST, MEAN
from light_sernet_kd.errors import UserError, command_line
from light_sernet_kd.registries.engines import ENGINE_OF_OLDER_RUNS
from light_sernet_kd.registries.students import is_multimodal
from light_sernet_kd.reporting import names
from light_sernet_kd.reporting.beside_teacher import gate_lines
from light_sernet_kd.reporting.lineage import start_lines
from light_sernet_kd.reporting.text import code, plain, pluralise, speaker_count, with_percent_sign


def _in_words(value: Any) -> Any:
    """A setting of a loss in words."""
    if ramp := ramp_of(value):
        return f"{ramp.first:g} to {ramp.last:g} over the epochs"
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else value


def _options(values: Mapping[str, Any]) -> str:
    """`{name: …, option: value}` as `name (option value, …)`."""
    listed = {key: _in_words(value) for key, value in values.items()}
    options = ", ".join(f"{plain(key)} {plain(value)}" for key, value in listed.items() if key != "name")
    return plain(values["name"]) + (f" ({options})" if options else "")


_KEPT = {
    BEST: "",
    LAST: ", ending with the weights of the last",
    MEAN: ", ending with the mean of the weights over the last quarter of them",
}


def _rate(schedule: Mapping[str, Any]) -> str:
    """The learning rate, and how it moves."""
    if schedule["decay_unit"] == "cosine":
        rises = f"{pluralise(schedule['warm_up'], 'epoch')} of warm-up, then " if schedule["warm_up"] else ""
        falls = f"{rises}half a cosine to 0"
    else:
        falls = (
            f"times {schedule['decay']:g} every {schedule['decay_every']} {plain(schedule['decay_unit'])} "
            f"from {schedule['decay_from']}"
        )
    return f"learning rate {schedule['learning_rate']:g} ({falls})"


def _how_it_was_trained(settings: Mapping[str, Any], resolved: Mapping[str, Any]) -> list[str]:
    schedule, samples = resolved["schedule"], resolved["samples"]
    engine = resolved.get("engine", ENGINE_OF_OLDER_RUNS)
    epochs = pluralise(schedule["epochs"], "epoch")
    learnt = _options(resolved["distillation"])
    if not settings.get("dimensions_only"):
        learnt += f"; loss on the labels: {_options(resolved['label_loss'])}"
    if rated := settings.get("dimensions"):
        learnt += (
            f"; ratings of {' and '.join(map(plain, rated))}: {plain(settings['dimensions_loss'])}, weight "
            f"{settings['dimensions_weight']:g}"
        )
    if settings["class_weights"] != "none":
        learnt += f"; class weights: {plain(settings['class_weights'])}"
    if settings["standardise_logits"]:
        learnt += "; logits standardised"
    if settings.get("soft_labels"):
        learnt += "; trained on the annotators' shares"
    if settings.get("most_per_emotion"):
        learnt += f"; at most {settings['most_per_emotion']:,} training utterances of an emotion"
    tuned = schedule.get("tune_epochs") and is_multimodal(settings["student"])
    if tuned:
        epochs += f" with frozen encoders and {schedule['tune_epochs']} of all weights"
    if settings.get("qat"):
        epochs += f" and {settings['qat']} with simulated int8 arithmetic (validated with it too)"
    steps = schedule.get("accumulation", 1)
    optimizer = schedule.get("optimizer", "adam") + (f" over {steps} batches a step" if steps > 1 else "")
    epochs += _KEPT[settings.get("keep", BEST)]
    stops = f", stopping after {settings['patience']} without a better one" if settings["patience"] else ""
    return [
        f"- **Input:** {plain(settings['input_type'])} of {samples / SAMPLE_RATE:g} s ({samples:,} samples), "
        f"front end {plain(settings['front_end'])}, read by {plain(settings['reader'])}.",
        f"- **Method:** {learnt}.",
        f"- **Augmentation:** {plain(settings['augmentation'] or 'none')}.",
        f"- **Training:** schedule {plain(settings['schedule'])}, {epochs}{stops}, "
        f"{optimizer}, batches of {schedule['batch_size']}, "
        f"{_rate(schedule)}, weight decay {schedule['weight_decay']:g}, "
        f"batch norm momentum {schedule['batch_norm_momentum']:g}, "
        + ("" if engine == ENGINE_OF_OLDER_RUNS else f"engine {engine}, ")
        + f"arithmetic {plain(resolved['arithmetic'])}"
        + (f" on {pluralise(resolved['threads'], 'thread')}." if "threads" in resolved else "."),
        *_command(settings),
    ]


def given_arguments(settings: Mapping[str, Any]) -> list[str]:
    """What differs from the defaults, as arguments of the command line; none of another version's."""
    try:
        return spelled(make_settings(**settings))
    except UserError:  # names or ranges have changed
        return []


def _command(settings: Mapping[str, Any]) -> list[str]:
    arguments = given_arguments(settings)
    return [f"- **Given:** {code(command_line(arguments))}"] if arguments else []


def _own_teacher(schedule: Mapping[str, Any] | None) -> str:
    """How a teacher that the run trained itself was trained."""
    if schedule is None:
        return ""
    tuned = f" and {schedule['tune_epochs']} of all weights" if schedule["tune_epochs"] else ""
    parts = (
        f" Of training utterances it speaks through {schedule['parts']} networks, each without the speakers "
        "it is asked of."
        if schedule["parts"]
        else ""
    )
    return (
        f" It was trained for {pluralise(schedule['epochs'], 'epoch')}{tuned}, batches of "
        f"{schedule['batch_size']}, learning rate {schedule['learning_rate']:g}.{parts}"
    )


def unlabelled_lines(facts: Mapping[str, Any] | None) -> list[str]:
    """What was learnt from recordings without labels."""
    if not facts:
        return []
    share, sentence = with_percent_sign(facts["share"]), plain(facts["sentence"])
    return [f"- **Unlabelled:** {sentence}. They are {share} of each batch."]


def _without_embeddings(student: Mapping[str, Any]) -> str:
    count = student.get("parameters_without_embeddings")
    return "" if count is None else f", {count:,} without the tables of tokens and positions"


def _encoders(student: Mapping[str, Any], notes: Sequence[str]) -> list[str]:
    """The encoders of a student of speech and text, and what became of its texts."""
    names = {"text_encoder": "Text encoder", "audio_encoder": "Audio encoder"}
    encoders = student.get("encoders") or {}
    lines = [
        f"- **{label}:** {plain(encoders[key]['name'])}." for key, label in names.items() if key in encoders
    ]
    return lines + [f"- **Note:** {plain(note)}" for note in dict.fromkeys(notes)]


def what_was_run(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    student, teacher = metrics["student"], metrics["teacher"]
    audio_type = config["settings"]["audio_type"]
    part = "" if audio_type == "all" else f"part {plain(audio_type)}, "
    width = "" if student["width"] is None else f", width {plain(student['width'])}"
    if teacher is None:
        from_ = "labels" if metrics["classes"] else "listeners' ratings"
        taught = f"none; the student learnt from the {from_} alone."
    else:
        agreement = teacher["agreement"] or {}
        taught = f"{plain(teacher['name'])}, made by {plain(teacher['made_by'])}."
        if metrics["classes"]:
            taught += (
                f" Scored against the labels, its own outputs reach UA "
                f"{with_percent_sign(agreement.get('ua'))}, WA {with_percent_sign(agreement.get('wa'))}."
            )
        if known := teacher.get("known_speakers"):
            taught += (
                f" With each test speaker's recordings standardised by that speaker's own, they reach UA "
                f"{with_percent_sign(known['ua'])}, WA {with_percent_sign(known['wa'])}; "
                f"**{plain(known['stamp'])}**."
            )
        if licence := teacher.get("licence"):
            taught += f" Its licence: {plain(licence)}."
    return [
        f"- **Corpus:** {plain(metrics['corpus'])}{' (synthetic)' if metrics['synthetic'] else ''}, "
        f"{part}{sum(metrics['counts'].values()):,} utterances, {speaker_count(metrics['speakers'])}, "
        f"{_learnt(metrics)}.",
        f"- **Protocol {plain(metrics['protocol'])}:** {plain(metrics['protocol_description'])}.",
        f"- **Student:** {plain(names.student(student['name']))}, {student['parameters']:,} parameters{width}"
        f"{_without_embeddings(student)}.",
        *_encoders(student, metrics.get("notes", [])),
        f"- **Teacher:** {taught}{_own_teacher(config['resolved'].get('own_teacher'))}",
        *gate_lines((teacher or {}).get("gate")),
        *unlabelled_lines(metrics.get("unlabelled")),
        *start_lines(metrics.get("start")),
        *_plugins(config.get("plugins")),
        *_how_it_was_trained(config["settings"], config["resolved"]),
        *([f"- **Cut:** {lengths.sentence(metrics['cut'])}."] if metrics.get("cut") else []),
        f"- **Seed:** {plain(metrics['seed'])}.",
    ]


def _learnt(metrics: Mapping[str, Any]) -> str:
    """What the students were to give."""
    if not metrics["classes"]:
        return f"ratings of {' and '.join(map(plain, metrics['dimensions']['names']))}"
    return f"{len(metrics['classes'])} emotions: {', '.join(map(plain, metrics['classes']))}"


def _plugins(used: Sequence[Mapping[str, str]] | None) -> list[str]:
    if not used:
        return []
    named = ", ".join(f"{plain(each['name'])} (SHA-256 {each['sha256']})" for each in used)
    return [f"- **{'Plug-in' if len(used) == 1 else 'Plug-ins'}:** {named}."]
