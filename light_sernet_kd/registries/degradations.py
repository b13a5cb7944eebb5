"""What `stress` does to recordings, and the clips without speech that it asks students about.

A new one is a function in `degradations` and an entry here.
"""

from collections.abc import Mapping
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
        is_of_others: whether it is made of the recordings of other speakers.
    """

    name: str
    kind: str
    text: str
    apply: Lazy
    settings: Mapping[str, float] = field(default_factory=dict)
    is_of_others: bool = False

    def __call__(self, waveform: Any, context: Any) -> Any:
        return self.apply(waveform, context, **self.settings)


CLEAN = "clean"
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
