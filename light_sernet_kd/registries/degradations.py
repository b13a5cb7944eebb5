"""What `stress` does to recordings, and the clips without speech that it asks students about.

A new one is a function in `degradations` and an entry here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from light_sernet_kd.registries.lazy import Lazy

BABBLE_TALKERS = 6
NOISE_DBFS = -20.0
FAINT_DBFS = -70.0


@dataclass(frozen=True)
class Condition:
    """One way in which recordings are degraded; called with a waveform `(samples,)` and what is drawn for it.

    Attributes:
        name: for tables and `--conditions`.
        kind: conditions of one kind differ in degree.
        text: what is done.
        apply: `(waveform, context, **settings)` to another waveform, of a `degradations.DegradationContext`.
        needs_other_speakers: whether it is made of the recordings of other speakers.
        by_default: whether it is tested where no condition is named; those of the certificate alone are not.
        unavailable_reason: says why this machine cannot do it, or nothing.
    """

    name: str
    kind: str
    text: str
    apply: Callable[..., Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs_other_speakers: bool = False
    by_default: bool = True
    unavailable_reason: Callable[[], Any] | None = None

    def __call__(self, waveform: Any, context: Any) -> Any:
        return self.apply(waveform, context, **self.settings)


CLEAN = "clean"
# Of which a user may have recordings, in a folder of each name.
NOISES = {
    "cough": "one cough at a random place",
    "sneeze": "one sneeze at a random place",
    "music": "music all along",
    "environment": "rain, wind or traffic all along",
}
_CONDITIONS = (
    Condition(CLEAN, CLEAN, "as recorded", Lazy("analysis.degradations:unchanged")),
    *(
        Condition(
            f"{kind} {snr} dB", kind, f"{text}, at an SNR of {snr} dB", apply, {"snr_db": snr}, of_others
        )
        for kind, text, apply, of_others in (
            ("white", "noise that is flat per Hz", Lazy("analysis.degradations:with_white_noise"), False),
            ("pink", "noise that is flat per octave", Lazy("analysis.degradations:with_pink_noise"), False),
            (
                "babble",
                f"{BABBLE_TALKERS} other utterances at once, of other speakers",
                Lazy("analysis.degradations:with_babble"),
                True,
            ),
        )
        for snr in (20, 10, 0)
    ),
    *(
        Condition(
            f"gain {db:+} dB",
            "gain",
            f"{abs(db)} dB {text}, then cut at full scale",
            Lazy("analysis.degradations:with_gain"),
            {"db": db},
        )
        for db, text in ((12, "louder"), (-12, "quieter"))
    ),
    *(
        Condition(
            f"clipped {100 - percentile} %",
            "clipped",
            f"the largest {100 - percentile} % of the samples cut to the {percentile}th percentile",
            Lazy("analysis.degradations:overloaded"),
            {"percentile": percentile},
        )
        for percentile in (95, 80)
    ),
    Condition(
        "telephone",
        "telephone",
        "300 to 3400 Hz, 8 kHz, G.711 µ-law",
        Lazy("analysis.degradations:telephone"),
    ),
    Condition(
        "MP3 64",
        "MP3",
        "MP3 at 64 kbit/s, its delay taken out",
        Lazy("analysis.degradations:mp3"),
        {"kilobits": 64},
    ),
    *(
        Condition(
            f"room {seconds} s",
            "room",
            f"a room with a T60 of {seconds} s, reverberation as strong as the direct sound",
            Lazy("analysis.degradations:in_room"),
            {"t60_seconds": seconds},
        )
        for seconds in (0.3, 0.8)
    ),
    *(
        Condition(
            f"speed {percent:+} %",
            "speed",
            f"played {abs(percent)} % {text}, pitch and formants with it",
            Lazy("analysis.degradations:at_speed"),
            {"factor": 1 + percent / 100},
        )
        for percent, text in ((5, "faster"), (-5, "slower"))
    ),
    *(
        Condition(
            f"{kind} {snr} dB",
            kind,
            f"{NOISES[kind]}, at an SNR of {snr} dB",
            Lazy(f"analysis.disturbances.sounds:{function}"),
            {"kind": kind, "snr_db": snr},
            by_default=False,
        )
        for kind, function, snr in (
            ("cough", "with_event", 10),
            ("sneeze", "with_event", 10),
            ("music", "with_background", 20),
            ("environment", "with_background", 20),
        )
    ),
    Condition(
        "phone",
        "phone",
        "compressor, AMR narrow band at 7.4 kbit/s, pink noise above 3 kHz",
        Lazy("analysis.disturbances.phone:phone"),
        by_default=False,
        unavailable_reason=Lazy("analysis.disturbances.phone:unavailable_reason"),
    ),
    *(
        Condition(name, "place", text, Lazy(f"analysis.disturbances.places:{function}"), by_default=False)
        for name, text, function in (
            ("booth", "in a recording booth, 1 m away", "in_booth"),
            ("other room", "in a meeting room, an office, a lecture room or a stairway", "in_other_room"),
            ("centre", "in a studio, 1 m before the microphone", "at_centre"),
            ("other position", "in that studio, up to 3 m away, from the left or right", "at_other_position"),
        )
    ),
    *(
        Condition(
            name, "small", text, Lazy(f"analysis.disturbances.small:{function}"), settings, by_default=False
        )
        for name, text, function, settings in (
            ("tone", "a sine of 5 to 7 kHz, its peak 40 to 50 dB below the speech's", "with_tone", {}),
            ("zeros before", "up to 1000 zeros before it", "with_zeros", {"before": True}),
            ("zeros after", "up to 1000 zeros behind it", "with_zeros", {"before": False}),
            ("crop start", "up to 1000 samples cut at the start", "cropped", {"before": True}),
            ("crop end", "up to 1000 samples cut at the end", "cropped", {"before": False}),
            ("small clip", "the largest 0.1 to 0.3 % of the samples cut", "clipped", {}),
            ("small gain", "1 or 2 dB louder or quieter", "with_gain", {}),
            ("high-pass", "a corner of 50 to 150 Hz, first order", "filtered", {"kind": "highpass"}),
            ("low-pass", "a corner of 6.5 to 7.5 kHz, first order", "filtered", {"kind": "lowpass"}),
            ("faint white", "white noise at an SNR of 35 to 45 dB", "with_faint_noise", {}),
        )
    ),
    *(
        Condition(
            f"tilt {way}",
            "tilt",
            f"the spectrum tilted {way}wards, by 12 dB from 0 to 8 kHz",
            Lazy("analysis.disturbances.small:tilted"),
            {"db": db},
            by_default=False,
        )
        for way, db in (("up", 12.0), ("down", -12.0))
    ),
)
CONDITIONS: dict[str, Condition] = {each.name: each for each in _CONDITIONS}


@dataclass(frozen=True)
class Speechless:
    """A clip that holds no speech, of which a student should be unsure; called with its length and draws.

    Attributes:
        make: `(samples, rng, **settings)` to `(samples,)`.
        varies: whether every draw is another clip.
    """

    name: str
    text: str
    make: Lazy
    settings: Mapping[str, float] = field(default_factory=dict)
    varies: bool = True

    def __call__(self, samples: int, rng: Any) -> Any:
        return self.make(samples, rng, **self.settings)


_SPEECHLESS = (
    Speechless("zeros", "digital silence", Lazy("analysis.degradations:zeros"), varies=False),
    *(
        Speechless(name, f"{colour} noise at {dbfs:.0f} dBFS", Lazy(make), {"dbfs": dbfs})
        for name, colour, make, dbfs in (
            ("faint noise", "white", "analysis.degradations:white_noise", FAINT_DBFS),
            ("white noise", "white", "analysis.degradations:white_noise", NOISE_DBFS),
            ("pink noise", "pink", "analysis.degradations:pink_noise", NOISE_DBFS),
        )
    ),
)
SPEECHLESS: dict[str, Speechless] = {each.name: each for each in _SPEECHLESS}
