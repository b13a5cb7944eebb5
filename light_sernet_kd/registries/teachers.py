"""Where a teacher may come from: what `--teacher` and `teach --from` name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from light_sernet_kd.registries.lazy import Lazy
from light_sernet_kd.registries.students import STUDENTS

# What `--allow` may name: licences that permit research and no products.
RESEARCH = "research"
ALLOWANCES = (RESEARCH,)

Option = Literal["--teacher", "--from"]

# The teacher of a distillation that names none.
DEFAULT_TEACHER = "auto"


@dataclass(frozen=True)
class TeacherSource:
    """A source of teachers.

    Attributes:
        kind: `trained`: the run trains a network of its own per fold. `made`: by `make`, once, and kept in
            the run's folder. `read`: by `make` too, but from what is there already, so nothing is kept.
        text: what it is, for people.
        options: which options may name it.
        argument: what may follow the name and `=` or `:`, for people; empty where nothing may.
        open_ended: it is named by something else than its key: a student's name, a file, a model.
        model: on the Hugging Face hub, for which the name alone stands; `{model}` in `text`.
        fine_tunes: whether `--fine_tune` may train the network itself, and not only what reads it.
        licence: of what it downloads or takes; empty where it takes nothing, or each has its own. It
            stands in the teacher's card, the report and the exported files.
        allow: what `--allow` must name before it is used, since its licence forbids more than most do.
        reads_rows: it is a probe on a row of numbers per recording, which `--standardise_speakers` changes.
            `--teacher_view same` asks it on a bank of views.
        answers_batches: it is trained networks, which `--teacher_view same` runs on the student's batches.
        make: `(argument, selection, settings, workplace)` to a `Teacher`, as in `teachers.sources`.
        digest: `(argument, data)` to a hash of the file that the teacher is, or is read by. A run that began
            with another does not go on. None, or a function to None, where the name says it all.
    """

    kind: Literal["trained", "made", "read"]
    text: str
    options: tuple[Option, ...] = ("--teacher", "--from")
    argument: str = ""
    open_ended: bool = False
    model: str = ""
    fine_tunes: bool = False
    licence: str = ""
    allow: str = ""
    reads_rows: bool = False
    answers_batches: bool = False
    make: Callable[..., Any] | None = None
    digest: Callable[..., Any] | None = None


TEACHER_SOURCES: dict[str, TeacherSource] = {
    DEFAULT_TEACHER: TeacherSource(
        "trained",
        "a wider network of the student's kind, trained per fold; of speech and text "
        "bert_vggish or cross_attention_teacher (the default where -kd is not pure)",
        options=("--teacher",),
        answers_batches=True,
    ),
    "student": TeacherSource(
        "trained",
        "a student's name, such as bert_vggish: that network, trained per fold",
        open_ended=True,
        answers_batches=True,
    ),
    "run": TeacherSource(
        "made",
        "the students of finished runs on the same folds, run:FOLDER or run:A,B",
        options=("--teacher",),
        argument="FOLDER",
        answers_batches=True,
        make=Lazy("experiment.teachers.finished_runs:run_teacher"),
        digest=Lazy("experiment.teachers.finished_runs:run_digest"),
    ),
    "yamnet": TeacherSource(
        "made",
        "a probe per fold on YAMNet's embeddings",
        argument="FILE",
        licence="Apache-2.0",
        reads_rows=True,
        make=Lazy("teachers.sources:yamnet_teacher"),
        digest=Lazy("teachers.sources:yamnet_digest"),
    ),
    "opensmile": TeacherSource(
        "made",
        "a probe per fold on openSMILE's functionals, ComParE_2016 (default), emobase or eGeMAPSv02 (extra "
        "opensmile; licence for research: --allow research)",
        argument="SET",
        licence="audEERING Research License Agreement (openSMILE): not for commercial products",
        allow=RESEARCH,
        reads_rows=True,
        make=Lazy("teachers.sources:opensmile_teacher"),
    ),
    "whisper": TeacherSource(
        "made",
        "a probe per fold on Whisper's encoder: a folder of transformers or a name on the Hugging Face hub "
        "({model}; extra ssl), or a folder of CTranslate2 (extra whisper)",
        argument="MODEL",
        model="openai/whisper-base",
        licence="MIT (OpenAI's weights of Whisper)",
        reads_rows=True,
        make=Lazy("teachers.sources:whisper_teacher"),
        digest=Lazy("teachers.sources:whisper_digest"),
    ),
    "wavlm": TeacherSource(
        "made",
        "a probe per fold on the layers of WavLM: a folder of transformers or a name on the Hugging Face hub "
        "({model}; extra ssl)",
        argument="MODEL",
        model="microsoft/wavlm-base-plus",
        fine_tunes=True,
        make=Lazy("teachers.speech_sources:wavlm_teacher"),
        digest=Lazy("teachers.speech_sources:wavlm_digest"),
    ),
    "wav2vec2": TeacherSource(
        "made",
        "likewise of wav2vec 2.0 ({model})",
        argument="MODEL",
        model="facebook/wav2vec2-base",
        fine_tunes=True,
        make=Lazy("teachers.speech_sources:wav2vec2_teacher"),
        digest=Lazy("teachers.speech_sources:wav2vec2_digest"),
    ),
    "hubert": TeacherSource(
        "made",
        "likewise of HuBERT ({model})",
        argument="MODEL",
        model="facebook/hubert-base-ls960",
        fine_tunes=True,
        make=Lazy("teachers.speech_sources:hubert_teacher"),
        digest=Lazy("teachers.speech_sources:hubert_digest"),
    ),
    "onnx": TeacherSource(
        "made",
        "a probe per fold on a tensor of your own network of 16 kHz audio in ONNX (extra onnx)",
        argument="FILE#TENSOR",
        reads_rows=True,
        make=Lazy("teachers.sources:onnx_teacher"),
        digest=Lazy("teachers.sources:onnx_digest"),
    ),
    "tflite": TeacherSource(
        "made",
        "likewise in TFLite",
        argument="FILE#TENSOR",
        reads_rows=True,
        make=Lazy("teachers.sources:tflite_teacher"),
        digest=Lazy("teachers.sources:tflite_digest"),
    ),
    "file": TeacherSource(
        "read",
        "a teacher file (.npz, .csv)",
        options=("--teacher",),
        open_ended=True,
        make=Lazy("teachers.sources:file_teacher"),
        digest=Lazy("teachers.sources:file_digest"),
    ),
    "ensemble": TeacherSource(
        "made",
        "several of these with weights, such as opensmile+yamnet*2 or opensmile+teacher.npz: the mean of "
        "their logits, each at its own temperature; in --teacher one may be auto or a student's name: "
        "opensmile+auto*5",
        open_ended=True,
        make=Lazy("teachers.sources:ensemble_teacher"),
        digest=Lazy("teachers.sources:ensemble_digest"),
    ),
    "speech_model": TeacherSource(
        "made",
        "a speech model (WavLM, wav2vec 2.0, HuBERT) by its name on the Hugging Face hub, or its folder",
        options=("--from",),
        open_ended=True,
        fine_tunes=True,
        make=Lazy("teachers.speech_sources:speech_model_teacher"),
    ),
}


def teacher_source(spec: str, option: Option = "--teacher") -> tuple[TeacherSource, str]:
    """What an option names, and what follows `=` or `:` there (of what is open-ended, all of it).

    >>> teacher_source("yamnet=my.tflite")[1]
    'my.tflite'
    >>> teacher_source("yamnets.npz")[0].kind
    'read'
    """
    if teacher_members(spec):
        return TEACHER_SOURCES["ensemble"], spec
    name, *argument = re.split("[=:]", spec, maxsplit=1)
    entry = TEACHER_SOURCES.get(name)
    if entry and not entry.open_ended and option in entry.options and (entry.argument or not argument):
        return entry, "".join(argument)
    if spec in STUDENTS:
        return TEACHER_SOURCES["student"], spec
    anything_else = {"--teacher": "file", "--from": "speech_model"}[option]
    return TEACHER_SOURCES[anything_else], spec


def teacher_members(spec: str) -> list[tuple[str, float]]:
    """The sources and weights of `A+B*2`, as `--teacher` takes each; none where one source is named.

    What names no source and stands behind one with an argument belongs to that: files may have a + in them.

    >>> teacher_members("opensmile=emobase+teacher.npz*0.5")
    [('opensmile=emobase', 1.0), ('teacher.npz', 0.5)]
    >>> teacher_members("a+b.npz")
    []
    """
    parts: list[str] = []
    for part in spec.split("+"):
        if parts and re.search("[=:]", parts[-1]) and not _is_named(_weighted(part)[0]):
            parts[-1] += f"+{part}"
        else:
            parts.append(part)
    members = [_weighted(part) for part in parts]
    names = [name for name, _ in members]
    if names == [spec] or not (any(map(_is_source, names)) or all(map(_is_named, names))):
        return []
    return members


def reads_rows(spec: str) -> bool:
    """Whether what `--teacher` names is probes alone, which can be asked on a bank of views.

    >>> reads_rows("whisper+opensmile"), reads_rows("whisper+auto"), reads_rows("whisper+teacher.npz")
    (True, False, False)
    """
    names = [name for name, _ in teacher_members(spec)] or [spec]
    return all(teacher_source(name)[0].reads_rows for name in names)


def trained_member(spec: str) -> tuple[str, float] | None:
    """The network that a run trains for this `--teacher`, and its weight; None where it trains none.

    >>> trained_member("opensmile+auto*5"), trained_member("resnet18"), trained_member("yamnet")
    (('auto', 5.0), ('resnet18', 1.0), None)
    """
    members = teacher_members(spec) or [(spec, 1.0)]
    return next((each for each in members if teacher_source(each[0])[0].kind == "trained"), None)


def _weighted(part: str) -> tuple[str, float]:
    """What a part of an ensemble names, and its weight."""
    match = re.fullmatch(r"(.+)\*(\d+(?:\.\d+)?)", part)
    return (match[1], float(match[2])) if match else (part, 1.0)


def _is_source(name: str) -> bool:
    entry = TEACHER_SOURCES.get(re.split("[=:]", name, maxsplit=1)[0])
    return name in STUDENTS or (entry is not None and not entry.open_ended)


def _is_named(name: str) -> bool:
    return _is_source(name) or name.lower().endswith((".npz", ".csv"))


def sources_text(option: Option) -> str:
    """What the option may name, for `--help`.

    >>> "a teacher file (.npz, .csv)" in sources_text("--teacher")
    True
    """
    texts = []
    for name, source in TEACHER_SOURCES.items():
        if option in source.options:
            named = f"{name}[={source.argument}]" if source.argument else name
            text = source.text.replace("{model}", source.model)
            texts.append(text if source.open_ended else f"{named}: {text}")
    return "; or ".join(texts)
