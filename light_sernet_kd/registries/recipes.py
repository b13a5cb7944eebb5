"""The recipes: named sets of settings for training an audio-only student (`--recipe`).

A recipe gives every setting that it names the value below, unless the user gives another. `light-sernet-kd
recipe NAME` prints one in a form that `hyperparameters.py` and grid files take.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from light_sernet_kd.registries.teachers import DEFAULT_TEACHER, teacher_members, teacher_source


@dataclass(frozen=True)
class Recipe:
    """A named set of settings.

    Attributes:
        text: what it is, in one line.
        settings: name of a setting → value.

    >>> RECIPES["lsn"].settings["front_end"]
    'lsn'
    """

    text: str
    settings: Mapping[str, Any] = field(default_factory=dict)


OWN, DISTILLED = "own", "distilled"
# What `-kd` calls the way to teach that inner folds chose; see docs/results/choices.md.
OURS = "ours"
# Of `train.py`, `light-sernet-kd train` and `sh run.sh`. Settings that are made in Python have `OWN`.
DEFAULT = "robust"
_PUBLISHED = {
    "augmentation": "", "augment_every": 1, "keep": "best", "label_smoothing": 0.0, "enrolment": False,
}  # fmt: skip
_ROBUST = {
    "front_end": "robust",
    "input_type": "mfcc",
    "schedule": "robust",
    "augmentation": "speed:chance=0.5,room:chance=0.3,noise:chance=0.4,babble:chance=0.2,"
    "microphone:chance=0.4,clipping,telephone:chance=0.2",
    "augment_every": 2,
    "keep": "mean",
    "enrolment": True,
}
OURS_SETTINGS: Mapping[str, Any] = {
    "distillation": "KD+hint",
    "distillation_weights": {"KD.alpha": 0.5, "KD.temperature": 2.0},
    "teacher_components": 64,
}
RECIPES: Mapping[str, Recipe] = {
    OWN: Recipe("each student's front end and schedule as published"),
    "lsn": Recipe(
        "Light-SERNet's (arXiv:2110.03435)",
        {"front_end": "lsn", "input_type": "mfcc", "schedule": "light_sernet", **_PUBLISHED},
    ),
    "cubic": Recipe(
        "Cubic KD's", {"front_end": "cubic", "input_type": "mfcc", "schedule": "cubic", **_PUBLISHED}
    ),
    "robust": Recipe("ours: for microphones, rooms, telephones and codecs", _ROBUST),
    DISTILLED: Recipe(
        "ours: robust, taught by -kd ours", {**_ROBUST, **OURS_SETTINGS, "teacher_view": "same"}
    ),
}


def ours_settings(teacher: str | None) -> dict[str, Any]:
    """The settings that `-kd ours` stands for beside this teacher.

    Trained networks answer the student's own view. What a probe reads is standardised by speaker.

    >>> ours_settings("whisper+opensmile")["standardise_speakers"], ours_settings(None)["teacher_view"]
    (True, 'same')
    """
    source = teacher or DEFAULT_TEACHER
    members = [name for name, _ in teacher_members(source)] or [source]
    entries = [teacher_source(name)[0] for name in members]
    asked = all(each.answers_batches for each in entries)
    settings = {**OURS_SETTINGS, "teacher_view": "same" if asked else "clean"}
    if any(each.reads_rows for each in entries):
        settings["standardise_speakers"] = True
    return settings
