"""The recipes: named sets of settings for training a student that hears (`--recipe`).

A recipe gives every setting that it names the value below, unless the user gives another. `light-sernet-kd
recipe NAME` prints one in a form that `hyperparameters.py` and grid files take.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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


OWN = "own"
# Of `train.py`, `light-sernet-kd train` and `sh run.sh`. Settings that are made in Python have `OWN`.
DEFAULT = "robust"
_PUBLISHED = {
    "augmentation": "", "augment_every": 1, "keep": "best", "label_smoothing": 0.0, "enrolment": False,
}  # fmt: skip
RECIPES: Mapping[str, Recipe] = {
    OWN: Recipe("each student's front end and schedule as published"),
    "lsn": Recipe(
        "Light-SERNet's (arXiv:2110.03435)",
        {"front_end": "lsn", "input_type": "mfcc", "schedule": "light_sernet", **_PUBLISHED},
    ),
    "cubic": Recipe(
        "Cubic KD's", {"front_end": "cubic", "input_type": "mfcc", "schedule": "cubic", **_PUBLISHED}
    ),
    "robust": Recipe(
        "ours: for microphones, rooms, telephones and codecs",
        {
            "front_end": "robust",
            "input_type": "mfcc",
            "schedule": "robust",
            "augmentation": "speed:chance=0.5,room:chance=0.3,noise:chance=0.4,babble:chance=0.2,"
            "microphone:chance=0.4,clipping,telephone:chance=0.2",
            "augment_every": 2,
            "keep": "mean",
            "enrolment": True,
        },
    ),
}
