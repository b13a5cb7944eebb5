"""What training clips can be augmented with (`--augment`).

A new one is its function in `augment` and an entry here.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from light_sernet_kd.registries.lazy import Lazy, loaded

Range = tuple[float, float]


@dataclass(frozen=True)
class AugmentationKind:
    """An augmentation that can be asked for by its name.

    Attributes:
        function: draws and applies it to one example; keyword arguments that have a default are its settings.
        on: what is changed; `statistics` are those of features, by the features of batch mates.
        stream: the number that keeps its draws apart from the others'. Above 0, since NumPy takes `[a, b]`
            and `[a, b, 0, 0]` for one seed, and never to be changed, because it decides results.
        possible: setting → the lowest and highest value that it can have.
        with_teacher: the same, narrower, where cached teacher outputs are to hold for the changed clip. How
            narrow is our judgement: speech stays plainly audible, at a plausible pitch, and half of it
            unmasked.
        ordered: pairs of settings of which the first is at most the second.
        masks: axis of a clip → the settings that say how many masks it gets and which share of it each may
            cover. Together they may cover half of it where there is a teacher.
        speed_up: the setting with the highest speed at which a recording is played.
        reach: the setting with the share of a clip by which its place in a recording moves.
        needs: what the function takes third: recordings of `others` in the fold's training set, or of the
            utterance's `twins` there, of one speaker and class.
        shares: settings that are probabilities of alternatives, so at most 1 together.
        weights: settings that weigh alternatives, so not all 0.
        check: called with the settings; raises a `UserError` where this machine lacks what they need.
    """

    function: Callable[..., Any]
    on: Literal["waveform", "place", "features", "statistics", "batch"]
    stream: int
    possible: Mapping[str, Range]
    with_teacher: Mapping[str, Range] = field(default_factory=dict)
    ordered: tuple[tuple[str, str], ...] = ()
    masks: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    speed_up: str | None = None
    reach: str | None = None
    needs: Literal["others", "twins"] | None = None
    shares: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    check: Callable[..., Any] | None = None

    @property
    def defaults(self) -> dict[str, float]:
        """Its settings as they are unless they are given; imports its function."""
        parameters = inspect.signature(loaded(self.function)).parameters.values()
        return {each.name: each.default for each in parameters if each.default is not each.empty}


_SHARE: Range = (0.0, 1.0)
_DECIBELS: Range = (-60.0, 60.0)
_T60: Range = (0.1, 1.0)
_WEIGHT: Range = (0.0, 100.0)

# In the order in which they are applied.
AUGMENTATIONS: dict[str, AugmentationKind] = {
    "copypaste": AugmentationKind(
        Lazy("audio.augment.voice:copypaste"), "waveform", 14, {"chance": _SHARE},
        with_teacher={"chance": (0.0, 0.5)}, needs="twins",
    ),
    "speed": AugmentationKind(
        Lazy("audio.augment.waveform:speed"), "waveform", 1,
        {"chance": _SHARE, "low": (0.5, 2.0), "high": (0.5, 2.0)},
        with_teacher={"low": (0.8, 1.25), "high": (0.8, 1.25)}, ordered=(("low", "high"),), speed_up="high",
    ),
    "pitch": AugmentationKind(
        Lazy("audio.augment.voice:pitch"), "waveform", 15,
        {"chance": _SHARE, "low": (-12.0, 12.0), "high": (-12.0, 12.0)},
        with_teacher={"low": (-4.0, 4.0), "high": (-4.0, 4.0)}, ordered=(("low", "high"),),
    ),
    "room": AugmentationKind(
        Lazy("audio.augment.rooms:room"), "waveform", 9,
        {"chance": _SHARE, "t60_low": _T60, "t60_high": _T60},
        with_teacher={"t60_high": (0.1, 0.8)}, ordered=(("t60_low", "t60_high"),),
    ),
    "noise": AugmentationKind(
        Lazy("audio.augment.sounds:noise"), "waveform", 2,
        {"chance": _SHARE, "snr_low": _DECIBELS, "snr_high": _DECIBELS, "pink": _SHARE, "hum": _SHARE,
         "music": _SHARE},
        with_teacher={"snr_low": (0.0, 60.0)}, ordered=(("snr_low", "snr_high"),),
        shares=("pink", "hum", "music"),
    ),
    "babble": AugmentationKind(
        Lazy("audio.augment.sounds:babble"), "waveform", 10,
        {"chance": _SHARE, "snr_low": _DECIBELS, "snr_high": _DECIBELS, "voices_low": (1, 20),
         "voices_high": (1, 20)},
        with_teacher={"snr_low": (0.0, 60.0)}, needs="others",
        ordered=(("snr_low", "snr_high"), ("voices_low", "voices_high")),
    ),
    "microphone": AugmentationKind(
        Lazy("audio.augment.microphones:microphone"), "waveform", 11,
        {"chance": _SHARE, "most_db": (0.0, 24.0), "peaks": (0, 10), "device": _SHARE},
        with_teacher={"most_db": (0.0, 12.0)},
    ),
    "gain": AugmentationKind(
        Lazy("audio.augment.waveform:gain"), "waveform", 3,
        {"chance": _SHARE, "low_db": _DECIBELS, "high_db": _DECIBELS},
        with_teacher={"high_db": (-60.0, 20.0)}, ordered=(("low_db", "high_db"),),
    ),
    "clipping": AugmentationKind(
        Lazy("audio.augment.waveform:clipping"), "waveform", 12, {"chance": _SHARE, "most": (0.0, 0.5)},
        with_teacher={"most": (0.0, 0.25)},
    ),
    "telephone": AugmentationKind(
        Lazy("audio.augment.lines:telephone"), "waveform", 13,
        {"chance": _SHARE, "a_law": _SHARE, "linear": _SHARE}, shares=("a_law", "linear"),
    ),
    "codec": AugmentationKind(
        Lazy("audio.augment.lines:codec"), "waveform", 16,
        {"chance": _SHARE, "mp3": _WEIGHT, "opus": _WEIGHT, "gsm": _WEIGHT, "amr": _WEIGHT},
        weights=("mp3", "opus", "gsm", "amr"), check=Lazy("audio.augment.lines:check_codec"),
    ),
    "crop": AugmentationKind(
        Lazy("audio.augment.place:crop"), "place", 17, {"chance": _SHARE, "most": (0.0, 10.0)}, reach="most"
    ),
    "shift": AugmentationKind(
        Lazy("audio.augment.place:shift"), "place", 4, {"chance": _SHARE, "most": _SHARE}, reach="most"
    ),
    "specaugment": AugmentationKind(
        Lazy("audio.augment.features:specaugment"), "features", 5,
        {"chance": _SHARE, "time_masks": (0, 100), "time_most": _SHARE,
         "frequency_masks": (0, 100), "frequency_most": _SHARE},
        masks={"time": ("time_masks", "time_most"), "frequency": ("frequency_masks", "frequency_most")},
    ),
    "freqmixstyle": AugmentationKind(
        Lazy("audio.augment.batch:freqmixstyle"), "statistics", 18,
        {"chance": _SHARE, "alpha": (0.01, 100.0)},
    ),
    "mixup": AugmentationKind(
        Lazy("audio.augment.batch:mixup"), "batch", 6, {"chance": _SHARE, "alpha": (0.01, 100.0)}
    ),
}  # fmt: skip
