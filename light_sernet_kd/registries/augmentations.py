"""What training clips can be augmented with (`--augmentation`).

A new one is its function in `augment` and an entry here.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from light_sernet_kd.registries.lazy import Lazy

Range = tuple[float, float]


@dataclass(frozen=True)
class AugmentationKind:
    """An augmentation that can be asked for by its name.

    Attributes:
        function: draws and applies it to one example; keyword arguments that have a default are its settings.
        on: what is changed.
        stream: the number that keeps its draws apart from the others'. Above 0, since NumPy takes `[a, b]`
            and `[a, b, 0, 0]` for one seed, and never to be changed, because it decides results.
        possible: setting → the lowest and highest value that it can have.
        with_teacher: the same, narrower, where cached teacher outputs are to hold for the changed clip. How
            narrow is our judgement: speech stays plainly audible, at a plausible pitch, and half of it
            unmasked.
        ordered: two settings of which the first is at most the second.
        masks: axis of a clip → the settings that say how many masks it gets and which share of it each may
            cover. Together they may cover half of it where there is a teacher.
        speed_up: the setting with the highest speed at which a recording is played.
        reach: the setting with the share of a clip by which its place in a recording moves.
    """

    function: Lazy
    on: Literal["waveform", "place", "features", "batch"]
    stream: int
    possible: Mapping[str, Range]
    with_teacher: Mapping[str, Range] = field(default_factory=dict)
    ordered: tuple[str, str] | None = None
    masks: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    speed_up: str | None = None
    reach: str | None = None

    @property
    def defaults(self) -> dict[str, float]:
        """Its settings as they are unless they are given; imports its function."""
        parameters = inspect.signature(self.function.load()).parameters.values()
        return {each.name: each.default for each in parameters if each.default is not each.empty}


_SHARE: Range = (0.0, 1.0)
_DECIBELS: Range = (-60.0, 60.0)

# In the order in which they are applied.
AUGMENTATIONS: dict[str, AugmentationKind] = {
    "speed": AugmentationKind(
        Lazy("audio.augment:speed"), "waveform", 1,
        {"chance": _SHARE, "low": (0.5, 2.0), "high": (0.5, 2.0)},
        with_teacher={"low": (0.8, 1.25), "high": (0.8, 1.25)}, ordered=("low", "high"), speed_up="high",
    ),
    "noise": AugmentationKind(
        Lazy("audio.augment:noise"), "waveform", 2,
        {"chance": _SHARE, "snr_low": _DECIBELS, "snr_high": _DECIBELS, "pink": _SHARE},
        with_teacher={"snr_low": (0.0, 60.0)}, ordered=("snr_low", "snr_high"),
    ),
    "gain": AugmentationKind(
        Lazy("audio.augment:gain"), "waveform", 3,
        {"chance": _SHARE, "low_db": _DECIBELS, "high_db": _DECIBELS},
        with_teacher={"high_db": (-60.0, 20.0)}, ordered=("low_db", "high_db"),
    ),
    "shift": AugmentationKind(
        Lazy("audio.augment:shift"), "place", 4, {"chance": _SHARE, "most": _SHARE}, reach="most"
    ),
    "specaugment": AugmentationKind(
        Lazy("audio.augment:specaugment"), "features", 5,
        {"chance": _SHARE, "time_masks": (0, 100), "time_most": _SHARE,
         "frequency_masks": (0, 100), "frequency_most": _SHARE},
        masks={"time": ("time_masks", "time_most"), "frequency": ("frequency_masks", "frequency_most")},
    ),
    "mixup": AugmentationKind(
        Lazy("audio.augment:mixup"), "batch", 6, {"chance": _SHARE, "alpha": (0.01, 100.0)}
    ),
}  # fmt: skip
