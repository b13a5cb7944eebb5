"""A run as one page of Markdown, written from metrics.json and config.json alone: every number is theirs."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from light_sernet_kd.audio import lengths
from light_sernet_kd.config import SAMPLE_RATE, make_settings
from light_sernet_kd.config.fields import spelled
from light_sernet_kd.config.ramps import ramp_of
from light_sernet_kd.config.settings import BEST, LAST, MEAN
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.students import is_multimodal
from light_sernet_kd.reporting.beside_teacher import gate_lines, taught_sections
from light_sernet_kd.reporting.lineage import generation_sections, start_lines
from light_sernet_kd.reporting.tables import Strong, Table, numbers, words
from light_sernet_kd.reporting.text import NONE, code, percent, plain, pluralise

# Beside the report; `figures` draws them.
CONFUSION_PICTURE = "confusion_matrix.png"
CURVES_PICTURE = "curves.png"
EMBEDDINGS_PICTURE = "embeddings.png"
PRECISION_PICTURE = "precision_costs.png"
RELIABILITY_PICTURE = "reliability.png"
ENROLLED_PICTURE = "enrolled.png"

MOST_LISTED = 20
COSTLY_POINTS = 0.5
HONEST = (
    "> No stamp: an honest score. No test speaker was trained on, and nothing was chosen on test recordings."
)
CALIBRATED = {"before": "as trained", "after": "temperature scaled"}
SCORES = {"ua": "UA", "wa": "WA", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}


def _with_percent_sign(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" [{percent(interval[0])}, {percent(interval[1])}]"


def _people(names: Sequence[str]) -> str:
    return f"{len(names)} speakers" if len(names) > 8 else ", ".join(names) or NONE


def _answer(metrics: Mapping[str, Any]) -> list[str]:
    pooled, folds = metrics["pooled"], len(metrics["folds"])
    intervals = metrics["ci95"] or {}
    warning = "**Synthetic recordings, no evidence about real speech:** " if metrics["synthetic"] else ""
    scores = [
        f"**{label} {_with_percent_sign(pooled[key])}**{_interval(intervals.get(key))}"
        for key, label in (("ua", "UA"), ("wa", "WA"))
    ]
    # The run may have taken its teacher's stamps over; each is said once.
    stamps = dict.fromkeys([*metrics["stamps"], *((metrics["teacher"] or {}).get("stamps") or [])])
    marked = [f"> - **STAMP: {plain(stamp)}**" for stamp in stamps]
    marked += [f"> - **WARNING: {plain(warning)}**" for warning in metrics.get("warnings", [])]
    sure = "In brackets: 95 % interval" if any(intervals.values()) else "There is no interval"
    return [
        f"{warning}{', '.join(scores)} — protocol {plain(metrics['protocol'])}, "
        f"{pluralise(pooled['count'], 'test prediction')} in {pluralise(folds, 'fold')}.",
        "",
        *(marked or [HONEST]),
        "",
        "UA is the mean of the classes' recalls, WA the share of predictions that are right.",
        f"{sure} ({plain(metrics['ci95_method'])}).",
    ]


def _told(value: Any) -> Any:
    """A setting of a loss in words."""
    if ramp := ramp_of(value):
        return f"{ramp.first:g} to {ramp.last:g} over the epochs"
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else value


def _options(values: Mapping[str, Any]) -> str:
    """`{name: …, option: value}` as `name (option value, …)`."""
    listed = {key: _told(value) for key, value in values.items()}
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
    epochs = pluralise(schedule["epochs"], "epoch")
    learnt = f"{_options(resolved['distillation'])}; loss on the labels: {_options(resolved['label_loss'])}"
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
        + ("engine jax, " if resolved.get("engine") == "jax" else "")
        + f"arithmetic {plain(resolved['arithmetic'])}"
        + (f" on {pluralise(resolved['threads'], 'thread')}." if "threads" in resolved else "."),
        *_given(settings),
    ]


def given_arguments(settings: Mapping[str, Any]) -> list[str]:
    """What differs from the defaults, as arguments of the command line; none of another version's."""
    try:
        return spelled(make_settings(**settings))
    except UserError:  # names or ranges have changed
        return []


def _given(settings: Mapping[str, Any]) -> list[str]:
    arguments = given_arguments(settings)
    return [f"- **Given:** {code(shlex.join(arguments))}"] if arguments else []


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


def _unlabelled(facts: Mapping[str, Any] | None) -> list[str]:
    """What was learnt from recordings without labels."""
    if not facts:
        return []
    share, told = _with_percent_sign(facts["share"]), plain(facts["sentence"])
    return [f"- **Unlabelled:** {told}. They are {share} of each batch."]


def _without_embeddings(student: Mapping[str, Any]) -> str:
    count = student.get("parameters_without_embeddings")
    return "" if count is None else f", {count:,} without the tables of tokens and positions"


def _encoders(student: Mapping[str, Any], notes: Sequence[str]) -> list[str]:
    """What a student of speech and text reads and hears through, and what became of its texts."""
    names = {"text_encoder": "Reads through", "audio_encoder": "Hears through"}
    encoders = student.get("encoders") or {}
    lines = [
        f"- **{label}:** {plain(encoders[key]['name'])}." for key, label in names.items() if key in encoders
    ]
    return lines + [f"- **Note:** {plain(note)}" for note in dict.fromkeys(notes)]


def _what_was_run(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    student, teacher = metrics["student"], metrics["teacher"]
    speakers = metrics["speakers"]
    speaker_count = speakers if isinstance(speakers, int) else len(speakers)
    audio_type = config["settings"]["audio_type"]
    part = "" if audio_type == "all" else f"part {plain(audio_type)}, "
    width = "" if student["width"] is None else f", width {plain(student['width'])}"
    if teacher is None:
        taught = "none; the student learnt from the labels alone."
    else:
        agreement = teacher["agreement"] or {}
        taught = (
            f"{plain(teacher['name'])}, made by {plain(teacher['made_by'])}. Scored against the labels, "
            f"its own outputs reach UA {_with_percent_sign(agreement.get('ua'))}, "
            f"WA {_with_percent_sign(agreement.get('wa'))}."
        )
        if known := teacher.get("known_speakers"):
            taught += (
                f" With each test speaker's recordings standardised by that speaker's own, they reach UA "
                f"{_with_percent_sign(known['ua'])}, WA {_with_percent_sign(known['wa'])}; "
                f"**{plain(known['stamp'])}**."
            )
        if licence := teacher.get("licence"):
            taught += f" Its licence: {plain(licence)}."
    return [
        f"- **Corpus:** {plain(metrics['corpus'])}{' (synthetic)' if metrics['synthetic'] else ''}, "
        f"{part}{sum(metrics['counts'].values()):,} utterances, {speaker_count:,} speakers, "
        f"{len(metrics['classes'])} emotions: {', '.join(map(plain, metrics['classes']))}.",
        f"- **Protocol {plain(metrics['protocol'])}:** {plain(metrics['protocol_description'])}.",
        f"- **Student:** {plain(student['name'])}, {student['parameters']:,} parameters{width}"
        f"{_without_embeddings(student)}.",
        *_encoders(student, metrics.get("notes", [])),
        f"- **Teacher:** {taught}{_own_teacher(config['resolved'].get('own_teacher'))}",
        *gate_lines((teacher or {}).get("gate")),
        *_unlabelled(metrics.get("unlabelled")),
        *start_lines(metrics.get("start")),
        *_plugins(config.get("plugins")),
        *_how_it_was_trained(config["settings"], config["resolved"]),
        *([f"- **Cut:** {lengths.sentence(metrics['cut'])}."] if metrics.get("cut") else []),
        f"- **Seed:** {plain(metrics['seed'])}.",
    ]


def _plugins(used: Sequence[Mapping[str, str]] | None) -> list[str]:
    if not used:
        return []
    named = ", ".join(f"{plain(each['name'])} (SHA-256 {each['sha256']})" for each in used)
    return [f"- **{'Plug-in' if len(used) == 1 else 'Plug-ins'}:** {named}."]


def _folds(metrics: Mapping[str, Any]) -> list[str]:
    columns = [
        *words("fold", "test speakers", "validation speakers"),
        *numbers("kept epoch", "of epochs", form=","),
        *numbers(*SCORES.values(), "last epoch: UA", "last epoch: WA", form=percent),
        *numbers("seconds", form=",.0f"),
    ]
    rows = []
    for fold in metrics["folds"]:
        last = fold["last_epoch"] or {}
        rows.append(
            [
                fold["name"],
                _people(fold["test_speakers"]),
                _people(fold["validation_speakers"]),
                fold["best_epoch"],
                fold["epochs"],
                *(fold[key] for key in SCORES),
                last.get("ua"),
                last.get("wa"),
                fold["seconds"],
            ]
        )
    last = metrics["pooled_last_epoch"] or {}
    pooled = [Strong(metrics["pooled"][key]) for key in SCORES]
    footer = [Strong("pooled"), *[""] * 4, *pooled, last.get("ua"), last.get("wa"), ""]
    means = [
        f"{label} {percent(mean)} ± {percent(deviation)}"
        for key, label in SCORES.items()
        if metrics["mean_over_folds"].get(key)
        for mean, deviation in [metrics["mean_over_folds"][key]]
    ]
    return [
        "In per cent. *Pooled* scores the test predictions of all folds together and is the answer above. "
        "The *kept epoch* is the one whose weights the protocol chose; the *last epoch* is what the same "
        "training gives without any choice.",
        "",
        *Table(columns, rows, footer).markdown(),
        *(["", f"Mean over folds ± standard deviation: {', '.join(means)}."] if means else []),
    ]


def _recalls(metrics: Mapping[str, Any]) -> list[str]:
    pooled, last = metrics["pooled"], metrics["pooled_last_epoch"] or {}
    last_recall = last.get("recall_per_class") or {}
    rows = [
        [
            name,
            pooled["count_per_class"].get(name),
            "no test utterance" if recall is None else recall,
            last_recall.get(name),
        ]
        for name in metrics["classes"]
        for recall in [pooled["recall_per_class"].get(name)]
    ]
    columns = [
        *words("class"),
        *numbers("test utterances", form=","),
        *numbers("recall %", "last epoch: recall %", form=percent),
    ]
    return Table(columns, rows).markdown()


def _calibration(metrics: Mapping[str, Any]) -> list[str]:
    calibration = metrics["calibration"]
    unsure = calibration["unsure_below"]
    sure = f"from {unsure:g} on: share %"
    columns = [
        *words("test probabilities"),
        *numbers("ECE %", "by chance %", form=percent),
        *numbers("NLL", "Brier score", form=".3f"),
        *numbers("mean confidence %", "right %", sure, "right %", form=percent),
    ]
    keys = ("ece", "ece_by_chance", "nll", "brier", "confidence", "accuracy", "sure", "sure_accuracy")
    rows = [
        [name, *(calibration[when][key] for key in keys)]
        for when, name in CALIBRATED.items()
        if calibration[when]
    ]
    fitted = [fold for fold in calibration["folds"] if fold["temperature"] is not None]
    lacking = [fold["name"] for fold in calibration["folds"] if fold["temperature"] is None]
    fewest = pluralise(calibration["fewest_validation_predictions"], "validation prediction")
    lines = [
        "How far a probability can be believed: the largest of each prediction against how often such "
        "predictions are right. ECE is the mean gap between the two over "
        f"{pluralise(calibration['bins'], 'bin')} of equal width; *by chance* is what probabilities that are "
        "true would show with so few predictions. "
        "NLL is the mean negative log likelihood in nats, the Brier score the mean squared distance to the "
        "labels (at most two). No temperature changes which class is largest, and so none changes UA or WA.",
        "",
        *Table(columns, rows).markdown(),
        "",
    ]
    if fitted:
        listed = ", ".join(f"{plain(fold['name'])} {fold['temperature']:.2f}" for fold in fitted)
        lines.append(
            "- **Temperature of each fold**, fitted on its validation predictions alone, scored on its test "
            f"predictions: {listed}."
        )
    if calibration["tests_on_validation"]:
        lines.append(
            "- **Nothing is scored after scaling:** this protocol validates on the test fold, and a "
            "temperature would be fitted on the very predictions it is scored on."
        )
    elif lacking:
        lines.append(f"- **Not scaled**, for fewer than {fewest}: fold {', '.join(map(plain, lacking))}.")
    lines.append(
        f"- **Unsure:** below {unsure:g} an answer is more likely wrong than right, if its probability is "
        "true; the files' cards tell a runner so."
    )
    lines += _files_confidence(calibration, fewest)
    return [*lines, "", f"![Reliability: confidence against accuracy]({RELIABILITY_PICTURE})"]


def _files_confidence(calibration: Mapping[str, Any], fewest: str) -> list[str]:
    """The exported student's temperature, and how sure it is beside the folds' students."""
    pooled, files, unsure = calibration["temperature"], calibration["files"], calibration["unsure_below"]
    if files is None:
        return []
    if pooled is None:
        rule = f"are not calibrated: all folds together have fewer than {fewest}."
    else:
        which = "test" if calibration["tests_on_validation"] else "validation"
        rule = (
            f"divide their logits by {pooled:.2f}. The student in them was trained on the {which} speakers "
            "too, so none is left to fit a temperature on, and the folds' students stand in: fitted on all "
            f"folds' {which} predictions, their temperature is {files['per_margin']:.3g} times their mean "
            "margin. So is the exported student's. The margin is the largest logit less the second, on a "
            "student's own training utterances."
        )
    names = {
        "folds_test": ("the folds' students", "their test utterances"),
        "folds_training": ("the folds' students", "some of their training utterances"),
        "final_training": ("the exported student", "its training utterances"),
    }
    rows = [[*names[key], *(files[key][value] for value in ("count", "confidence", "sure"))] for key in names]
    columns = [
        *words("student", "asked of"),
        *numbers("predictions", form=","),
        *numbers("mean confidence %", f"from {unsure:g} on: share %", form=percent),
    ]
    return [
        f"- **Files for the device** {rule}",
        "",
        "How sure the exported student is, beside the folds' students with temperatures of the same rule. "
        "Any student is surer of what it was trained on.",
        "",
        *Table(columns, rows).markdown(),
    ]


def _costly(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to do about precisions that lose much, and an empty line; nothing where none does."""
    costly = [plain(row["precision"]) for row in rows if row["ua_cost_points"] > COSTLY_POINTS]
    if not costly:
        return []
    advice = "Look at the others before you ship " + ("it" if len(costly) == 1 else "one of these")
    if "int8" in costly:
        advice += "; `--qat` fine-tunes a student for int8"
    return [f"**More than {COSTLY_POINTS:g} points are lost by {' and '.join(costly)}.** {advice}.", ""]


def _precisions(export: Mapping[str, Any]) -> list[str]:
    samples, rate, epochs = export["samples"], export["sample_rate"], export["final_epochs"]
    tested = export["rows"][0]["probability_change"]["count"]
    takes = export.get("takes", [f"{samples:,} samples at {rate:,} Hz ({samples / rate:g} s)"])
    columns = [
        *words("precision"),
        *words("file", is_code=True),
        *numbers("kB", form=",.1f"),
        *numbers("UA %", "WA %", form=percent),
        *numbers("UA lost (points)", form="z.1f"),
        *numbers("probability change: mean", "95th percentile", "largest", form=".1e"),
    ]
    rows = [
        [
            row["precision"],
            row["file"],
            row["bytes"] / 1000,
            row["ua"],
            row["wa"],
            row["ua_cost_points"],
            *(row["probability_change"][name] for name in ("mean", "p95", "max")),
        ]
        for row in export["rows"]
    ]
    return [
        f"Each file takes {' and '.join(map(plain, takes))} and gives a probability per class. "
        f"{plain(export['note'])}",
        *([] if epochs is None else [f"Epochs of the final training: {epochs:,}."]),
        "",
        *Table(columns, rows).markdown(),
        "",
        "The probability change is that of the folds' files against their students as trained, before any "
        f"temperature: the class that changes most, of each of {pluralise(tested, 'test utterance')}.",
        "",
        *_costly(export["rows"]),
        f"![UA against file size for each precision]({PRECISION_PICTURE})",
    ]


def _enrolled(found: Mapping[str, Any]) -> list[str]:
    """Scores where recordings of the test speaker are known."""
    columns = [
        *numbers("known recordings", form=","),
        *numbers("UA %", form=percent),
        *words("95 %", "more than with none, points"),
        *numbers("the speaker's first ones: UA %", form=percent),
    ]
    rows = [
        [
            row["clips"],
            row["ua"],
            _interval(row.get("ci95")).strip(),
            _gain(row, found["curve"][0]),
            first["ua"],
        ]
        for row, first in zip(found["curve"], found["first"], strict=True)
    ]
    other = found["other_speaker"]
    return [
        f"Protocol **{plain(found['protocol'])}**: some recordings of the test speaker are known to the "
        "student, without their labels. These are no strict scores, and are not to be compared with any.",
        "",
        f"{pluralise(found['recordings'], 'recording')} of {pluralise(found['speakers'], 'speaker')} are "
        "scored, the same ones in every row; those that may be known are not among them. Mean of "
        f"{pluralise(found['draws'], 'draw')}.",
        "",
        *Table(columns, rows).markdown(),
        "",
        f"With {other['clips']} recordings of another speaker taken for the test speaker's: UA "
        f"{_with_percent_sign(other['ua'])}.",
        "",
        f"![UA against known recordings of the speaker]({ENROLLED_PICTURE})",
    ]


def _gain(row: Mapping[str, Any], strict: Mapping[str, Any]) -> str:
    if not row["clips"]:
        return ""
    between = row.get("difference_ci95")
    shown = f" [{100 * between[0]:+.1f}, {100 * between[1]:+.1f}]" if between else ""
    return f"{100 * (row['ua'] - strict['ua']):+.1f}{shown}"


def _left_out(metrics: Mapping[str, Any]) -> list[str]:
    lines = [f"- {plain(reason)}: {count:,}" for reason, count in metrics["left_out"].items()]
    lines += [f"- {plain(name)} counted as {plain(other)}" for name, other in metrics["merged"].items()]
    lines += [f"- {plain(note)}" for note in metrics.get("corpus_notes", [])]
    skipped = metrics["skipped"]
    if skipped:
        lines.append(f"- skipped as unreadable or wrong, as `--skip-bad` asks: {len(skipped):,}")
        for item in skipped[:MOST_LISTED]:
            # what is wrong with a line of a table begins with its place
            place = "" if item["reason"].startswith(item["id"]) else f"{plain(item['id'])}: "
            lines.append(f"  - {place}{plain(item['reason'])}")
    if len(skipped) > MOST_LISTED:
        lines.append(f"  - and {len(skipped) - MOST_LISTED:,} more, all in metrics.json")
    return lines or ["Nothing: every recording of the corpus was used."]


def report(
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    export: Mapping[str, Any] | None,
    embeddings: bool = False,
) -> str:
    """The page, beginning with the answer and what must be known to believe it.

    Args:
        metrics: what metrics.json holds. Scores are shares from 0 to 1; the page shows per cent. `stamps` say
            why a score is higher than it should be, `warnings` why a true score is worth less than it looks.
        config: what config.json holds: `settings`, what they were `resolved` to, and more; shown as it is.
        export: rows of {precision, file, bytes, ua, wa, ua_cost_points, probability_change}, samples,
            sample_rate, takes, final_epochs, note; None where nothing was exported. `probability_change` is
            {mean, p95, max, count} over the test utterances.
            `ua_cost_points` is in percentage points, positive where the file is worse than float32;
            all other scores are shares.
        embeddings: whether there is a picture of the test utterances' embeddings.
    """
    corpus = plain(metrics["corpus"]) + (" (SYNTHETIC)" if metrics["synthetic"] else "")
    sections = [
        (f"# {plain(metrics['student']['name'])} on {corpus}", _answer(metrics)),
        ("## What was run", _what_was_run(metrics, config)),
        ("## Folds", _folds(metrics)),
        *taught_sections(metrics["teacher"]),
        *generation_sections(metrics.get("generations")),
        ("## Recall per class", _recalls(metrics)),
        ("## Calibration", _calibration(metrics)),
        (
            "## Pictures",
            [
                f"![Confusion matrix: true classes are rows, predicted ones columns]({CONFUSION_PICTURE})",
                "",
                f"![Loss and UA by epoch]({CURVES_PICTURE})",
                *(["", f"![Test utterances by the student's embedding]({EMBEDDINGS_PICTURE})"] * embeddings),
            ],
        ),
        (
            "## On the device",
            ["Nothing was exported in this run."] if export is None else _precisions(export),
        ),
        *(
            [("## With recordings of the speaker", _enrolled(metrics["enrolled"]))]
            if "enrolled" in metrics
            else []
        ),
        ("## What was left out or merged", _left_out(metrics)),
        (
            "## How to repeat it",
            [
                "```sh",
                metrics["command"],
                "```",
                "",
                "All settings, as in config.json:",
                "",
                "```json",
                json.dumps(config, indent=2, ensure_ascii=False),
                "```",
            ],
        ),
    ]
    return "\n".join(line for head, lines in sections for line in (head, "", *lines, ""))
