"""The page that goes with a run's exported files: a model card in the form of the Hugging Face hub."""

import json
from collections.abc import Mapping
from typing import Any

from light_sernet_kd.errors import command_line
from light_sernet_kd.registries.corpora import CORPORA
from light_sernet_kd.registries.students import is_multimodal
from light_sernet_kd.reporting import names
from light_sernet_kd.reporting.lineage import start_lines
from light_sernet_kd.reporting.report.dimensions import concordance, concordances
from light_sernet_kd.reporting.report.was_run import given_arguments, unlabelled_lines
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import code, percent, plain, pluralise, speaker_count

NAME = "MODEL_CARD.md"
_TAGS = ("speech-emotion-recognition", "audio-classification", "tflite", "light-sernet-kd")


def model_card(
    name: str, metrics: Mapping[str, Any], config: Mapping[str, Any], export: Mapping[str, Any]
) -> str:
    """The card as Markdown with the hub's metadata before it.

    Args:
        name: of the run.
        metrics, config: what metrics.json and config.json hold.
        export: `rows` of the exported files, and `takes`, `samples` and `sample_rate`.
    """
    hears = not is_multimodal(metrics["student"]["name"]) and config["settings"].get("merge_tflite", True)
    parts = [
        _metadata(name, metrics, hears=hears),
        [f"# {plain(name)}", "", *_head(metrics, export, hears=hears)],
        ["## Use", "", *_use(export, hears=hears, has_classes=bool(metrics["classes"]))],
        ["## Files", "", *_files(export)],
        ["## Scores", "", *_scores(metrics)],
        ["## Training", "", *_training(metrics, config)],
        ["## Limits", "", *_limits(metrics)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _metadata(name: str, metrics: Mapping[str, Any], *, hears: bool) -> list[str]:
    """What the hub reads, in YAML, of which JSON is a part."""
    scores = [
        {"type": kind, "name": text, "value": round(100 * metrics["pooled"][key], 2), "verified": False}
        for key, kind, text in (
            ("ua", "recall", "UA: mean of the classes' recalls, per cent"),
            ("wa", "accuracy", "WA: share of right answers, per cent"),
        )
        if metrics["classes"]
    ]
    scores += [
        {"type": "ccc", "name": f"CCC of {name}", "value": round(each["ccc"], 4), "verified": False}
        for name, each in metrics.get("dimensions", {}).get("pooled", {}).items()
        if each["ccc"] is not None
    ]
    result = {
        "task": {"type": "audio-classification", "name": "speech emotion recognition"},
        "dataset": {"name": metrics["corpus"], "type": metrics["corpus"], "split": metrics["protocol"]},
        "metrics": scores,
    }
    facts = {
        **({"pipeline_tag": "audio-classification"} if hears else {}),
        "tags": list(_TAGS),
        "metrics": ["recall", "accuracy"] if metrics["classes"] else ["ccc"],
        "model-index": [{"name": name, "results": [result]}],
    }
    return [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()),
        "---",
    ]


def _head(metrics: Mapping[str, Any], export: Mapping[str, Any], *, hears: bool) -> list[str]:
    lines = []
    if metrics["synthetic"]:
        lines += ["**Trained on SYNTHETIC recordings: it knows nothing of real voices.**", ""]
    student = metrics["student"]
    input_words = f" from {export['samples'] / export['sample_rate']:g} s of speech" if hears else ""
    return [
        *lines,
        f"A student of {student['parameters']:,} parameters ({plain(names.student(student['name']))}) "
        f"{_outputs(metrics, input_words)}.",
    ]


def _outputs(metrics: Mapping[str, Any], input_words: str) -> str:
    """The outputs of the student, in words."""
    if not metrics["classes"]:
        return f"that rates {' and '.join(map(plain, metrics['dimensions']['names']))}{input_words}"
    names = ", ".join(map(plain, metrics["classes"]))
    return f"that tells {len(metrics['classes'])} emotions{input_words}: {names}"


def _use(export: Mapping[str, Any], *, hears: bool, has_classes: bool) -> list[str]:
    file = next((row["file"] for row in export["rows"] if row["precision"] == "int8"), None)
    file = file or export["rows"][0]["file"]
    if not hears:
        return [
            f"The files take {' and '.join(map(plain, export['takes']))}. The card inside each says what "
            "that is; `light_sernet_kd.runner.Runner` reads it."
        ]
    shown = "result.label, result.probabilities" if has_classes else "result.dimensions"
    gives = "calibrated probabilities" if has_classes else "a value per dimension, from -1 to 1"
    order = "`labels.txt`" if has_classes else "`dimensions.txt`"
    return [
        "```python",
        "from light_sernet_kd import Runner",
        "",
        f'result = Runner("{file}").classify("voice.wav")',
        f'print("unsure" if result.unsure else {shown})',
        "```",
        "",
        f"Each file takes raw audio of {export['sample_rate']:,} Hz and gives {gives}. "
        f"{order} has their order, and the card inside the file all else that an app must know.",
    ]


def _files(export: Mapping[str, Any]) -> list[str]:
    has_scores = any("ua" in row for row in export["rows"])
    columns = [*words("file", is_code=True), *numbers("kB", form=",.0f")]
    columns += numbers("UA %", "WA %", form=percent) if has_scores else []
    rated = [*export["rows"][0].get("ccc", ())]
    columns += numbers(*(f"CCC of {name}" for name in rated), form=".2f")
    rows = [
        [
            row["file"],
            row["bytes"] / 1000,
            *([row.get("ua"), row.get("wa")] if has_scores else []),
            *(row["ccc"][name] for name in rated),
        ]
        for row in export["rows"]
    ]
    return [*Table(columns, rows).markdown(), *(["", plain(export["note"])] if export.get("note") else [])]


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    pooled, intervals = metrics["pooled"], metrics["ci95"] or {}
    figures = []
    if not metrics["classes"]:
        figures = [f"CCC of {each}" for each in concordances(metrics["dimensions"])]
    for key in ("ua", "wa") if metrics["classes"] else ():
        ends = intervals.get(key)
        between = f" [{percent(ends[0])}, {percent(ends[1])}]" if ends else ""
        figures.append(f"**{key.upper()} {percent(pooled[key])} %{between}**")
    recall = Table(
        [*words("emotion"), *numbers("recall %", form=percent), *numbers("recordings", form=",")],
        [
            [name, share, pooled.get("count_per_class", {}).get(name)]
            for name, share in pooled.get("recall_per_class", {}).items()
        ],
    )
    apart = "exported_training" in metrics
    doubts = [
        f"- **{plain(text[:1].upper() + text[1:])}.**"
        for text in (*metrics["stamps"], *metrics.get("warnings", ()))
    ]
    return [
        f"{', '.join(figures)} on {pluralise(pooled['count'], 'test recording')} of "
        f"{plain(metrics['corpus'])}. Protocol {plain(metrics['protocol'])}: "
        f"{plain(metrics['protocol_description'])}. These are scores of the folds' students. The files hold "
        f"a student of all {'recordings but the test ones' if apart else 'speakers'}, whom no fold tested.",
        "",
        *_ratings(metrics),
        *(doubts or ["Training, epoch selection and test had separate speakers."]),
        *(["", *recall.markdown()] if metrics["classes"] else []),
    ]


def _ratings(metrics: Mapping[str, Any]) -> list[str]:
    """What a student says of arousal and so on; nothing where it says nothing."""
    dimensions = metrics.get("dimensions")
    if not dimensions:
        return []
    output = "second" if metrics["classes"] else "only"
    (low, high), rated = dimensions["range"], " and ".join(map(plain, dimensions["names"]))
    return [
        *(
            concordance(dimensions)
            if metrics["classes"]
            else ["CCC is the concordance with listeners' ratings."]
        ),
        f"The {output} output of the files, `dimensions`, has {rated} from -1 to 1, which stand for "
        f"{low:g} and {high:g} on the scale of the ratings.",
        "",
    ]


def _training(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    trained = metrics.get("exported_training") or {
        "corpus": metrics["corpus"],
        "recordings": sum(metrics["counts"].values()),
        "speakers": metrics["speakers"],
    }
    lines = [
        f"- **Recordings:** {plain(trained['corpus'])}, {trained['recordings']:,} of "
        f"{speaker_count(trained['speakers'])}{_licence_of(trained['corpus'])}.",
        *unlabelled_lines(metrics.get("unlabelled")),
        *start_lines(metrics.get("start")),
    ]
    if teacher := metrics["teacher"]:
        licence = f" Licence: {plain(teacher['licence'])}." if teacher.get("licence") else ""
        lines.append(f"- **Teacher:** {plain(teacher['made_by'])}.{licence}")
    versions, arguments = config.get("versions", {}), given_arguments(config["settings"])
    command = command_line(["light-sernet-kd", "train", *arguments])
    listed = ", ".join(f"{plain(name)} {plain(version)}" for name, version in versions.items())
    return [
        *lines,
        f"- **Seed:** {plain(metrics['seed'])}.",
        *([f"- **Command:** {code(command)}"] if arguments else []),
        f"- **Versions:** {listed}.",
    ]


def _licence_of(corpus: str) -> str:
    """The licence of a corpus that is known by name, in words behind a comma."""
    source = CORPORA.get(corpus)
    origin = source.origin if source else None
    return f", {plain(origin.licence)}" if origin else ""


def _limits(metrics: Mapping[str, Any]) -> list[str]:
    lines = [
        "- It knows how emotions sound in the recordings above. Other languages, ages, rooms and "
        "microphones were not tested unless a certificate beside this card says so.",
        f"- A {'label' if metrics['classes'] else 'rating'} is how a voice sounds to listeners, not what "
        "somebody feels. No decision about a person "
        "should rest on it.",
        "- Answers below the card's threshold, silence and noise are `unsure` where the program asks.",
    ]
    if not metrics["classes"]:
        lines[-1] = "- Silence and noise are `unsure` where the program asks."
        return lines
    recalls = metrics["pooled"]["recall_per_class"]
    tested = {name: recall for name, recall in recalls.items() if recall is not None}
    if tested:
        worst = min(tested, key=tested.__getitem__)
        lines.append(f"- Least known: {plain(worst)}, of which {percent(tested[worst])} % are recognised.")
    return lines
