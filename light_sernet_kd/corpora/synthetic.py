"""The voices of `demo`: nobody speaks here.

Each clip is source–filter synthesis: glottal pulses with jitter, shimmer, spectral tilt
and breath, and frication noise, pass through the moving resonances of a vocal tract that reads a phoneme
string. Six vocal tracts say ten sentences in seven manners; each clip draws its own deviation from the
manner, so emotions overlap.

Sources: pulses after Klatt and Klatt 1990, "Analysis, synthesis, and perception of voice quality variations"
(KLGLOTT88); the chain of resonances and the nasal pole and zero after Klatt 1980, "Software for a
cascade/parallel formant synthesizer"; vowels after Peterson and Barney 1952, the averages for men; the
direction in which an emotion moves pitch, range, rate, level and voice after Murray and Arnott 1993, and for
boredom Burkhardt and Sendlmeier 2000. Sizes are ours.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.errors import choose

Array = NDArray[np.float64]


class Speaker(NamedTuple):
    """A vocal tract and the habits of its owner.

    Attributes:
        pitch_hz: median pitch when neutral.
        tract: factor on every resonance; 1 is a tract of 17 cm, larger is shorter.
        rate: factor on the rate of speech.
        tilt_db, breath_db: added to the manner's.
        expression: how far this speaker goes from neutral.
    """

    pitch_hz: float
    tract: float
    rate: float
    tilt_db: float
    breath_db: float
    expression: float


SPEAKERS = {
    "s1": Speaker(pitch_hz=112, tract=1.00, rate=1.00, tilt_db=+0.0, breath_db=+0, expression=1.00),
    "s2": Speaker(pitch_hz=205, tract=1.16, rate=1.03, tilt_db=+2.0, breath_db=+3, expression=1.10),
    "s3": Speaker(pitch_hz=96, tract=0.95, rate=0.95, tilt_db=-1.5, breath_db=-2, expression=0.85),
    "s4": Speaker(pitch_hz=186, tract=1.12, rate=0.97, tilt_db=-0.5, breath_db=+1, expression=0.95),
    "s5": Speaker(pitch_hz=131, tract=1.04, rate=1.05, tilt_db=+1.0, breath_db=-1, expression=1.10),
    "s6": Speaker(pitch_hz=224, tract=1.20, rate=1.00, tilt_db=+1.0, breath_db=+2, expression=0.90),
}


class Manner(NamedTuple):
    """How something is said.

    Attributes:
        pitch: semitones above the speaker's own.
        pitch_range: factor on accents and on the fall over the sentence.
        ending: semitones by which the last third of a second rises (or falls, if negative).
        rate: factor on the rate of speech.
        pause: factor on the length of pauses.
        level_db: of the clip, relative to a neutral one.
        tilt_db: loss of the glottal source at 3 kHz; a loud, pressed voice has little.
        open_quotient: share of a period in which the glottis is open.
        breath_db: noise at the glottis, relative to the pulses.
        jitter, shimmer: standard deviation of a pulse's time (in periods) and of its size (relative).
        tremor: semitones of trembling at about 6 Hz.
        articulation: factor on the distance of the resonances from those of a neutral tube.
        lips: factor on every resonance; above 1 a smile, below 1 a lowered larynx.
    """

    pitch: float
    pitch_range: float
    ending: float
    rate: float
    pause: float
    level_db: float
    tilt_db: float
    open_quotient: float
    breath_db: float
    jitter: float
    shimmer: float
    tremor: float
    articulation: float
    lips: float


# fmt: off
EMOTIONS = {
    #                  pitch range  end   rate pause level tilt  open breath jitter shim trem artic lips
    "anger":     Manner(+4.0, 1.80, -3.5, 1.12, 0.6, +6.0,  2.0, 0.47, -32., 0.025, 0.13, 0.00, 1.15, 1.01),
    "boredom":   Manner(-1.5, 0.45, -1.0, 0.86, 1.5, -3.0, 10.0, 0.65, -29., 0.010, 0.06, 0.00, 0.80, 1.00),
    "disgust":   Manner(-2.0, 1.20, -4.0, 0.86, 1.3, +0.0,  6.0, 0.50, -26., 0.030, 0.15, 0.00, 1.00, 0.96),
    "fear":      Manner(+6.0, 0.80, +0.0, 1.18, 1.2, +0.0,  7.0, 0.64, -22., 0.020, 0.10, 0.40, 0.90, 1.02),
    "happiness": Manner(+4.5, 2.10, +2.5, 1.04, 0.8, +3.5,  4.5, 0.57, -29., 0.007, 0.04, 0.00, 1.10, 1.08),
    "neutral":   Manner(+0.0, 1.00, -2.0, 1.00, 1.0, +0.0,  8.0, 0.60, -30., 0.008, 0.05, 0.00, 1.00, 1.00),
    "sadness":   Manner(-0.5, 0.60, -2.0, 0.83, 1.8, -6.0, 13.0, 0.72, -22., 0.012, 0.07, 0.20, 0.86, 0.97),
}
# Standard deviation of each over the clips of one emotion.
SPREAD =         Manner( 1.0, 0.20,  1.0, 0.05, 0.3,  2.0,  1.5, 0.04,  2.0, 0.004, 0.02, 0.05, 0.05, 0.01)
# fmt: on


class Segment(NamedTuple):
    """A stretch of speech with one target. A formant of NaN has none: the tract is on its way past.

    `voice` is 1 in a vowel; `breath` (at the glottis) and `noise` (at a constriction, with its peak and
    width) are relative to it. `nasal` is 0 (velum closed) to 1.
    """

    ms: float
    f1_hz: float = np.nan
    f2_hz: float = np.nan
    f3_hz: float = np.nan
    voice: float = 0.0
    breath: float = 0.0
    noise: float = 0.0
    noise_hz: float = 4000.0
    noise_width_hz: float = 4000.0
    nasal: float = 0.0


def _vowel(ms: float, f1_hz: float, f2_hz: float, f3_hz: float) -> tuple[Segment, ...]:
    return (Segment(ms, f1_hz, f2_hz, f3_hz, voice=1.0),)


def _nasal(f2_hz: float, f3_hz: float) -> tuple[Segment, ...]:
    return (Segment(65, 270, f2_hz, f3_hz, voice=0.45, nasal=1.0),)


def _fricative(
    ms: float, f2_hz: float, f3_hz: float, *, noise: float, hz: float, width_hz: float, voice: float = 0.0
) -> tuple[Segment, ...]:
    return (Segment(ms, 300, f2_hz, f3_hz, voice, 0.0, noise, hz, width_hz),)


def _stop(
    f2_hz: float, f3_hz: float, *, hz: float, width_hz: float, burst: float, voiced: bool
) -> tuple[Segment, ...]:
    """Closure, burst and, where voiceless, the breath until the voice returns."""
    closure = Segment(50, 220, f2_hz, f3_hz, voice=0.12 if voiced else 0.0)
    release = Segment(9, 260, f2_hz, f3_hz, 0.1 if voiced else 0.0, 0.03, burst, hz, width_hz)
    return (closure, release) if voiced else (closure, release, Segment(30, breath=0.1))


# The phoneme names are ARPABET's.
PHONES: dict[str, tuple[Segment, ...]] = {
    "|": (Segment(45),),
    "IY": _vowel(95, 270, 2290, 3010),
    "IH": _vowel(80, 390, 1990, 2550),
    "EH": _vowel(90, 530, 1840, 2480),
    "AE": _vowel(110, 660, 1720, 2410),
    "AA": _vowel(110, 730, 1090, 2440),
    "AO": _vowel(110, 570, 840, 2410),
    "UH": _vowel(80, 440, 1020, 2240),
    "UW": _vowel(95, 300, 870, 2240),
    "AH": _vowel(75, 600, 1250, 2420),
    "ER": _vowel(100, 490, 1350, 1690),
    "EY": _vowel(60, 480, 1900, 2500) + _vowel(60, 330, 2150, 2650),
    "AY": _vowel(70, 710, 1200, 2450) + _vowel(60, 400, 1950, 2550),
    "OW": _vowel(60, 540, 1000, 2400) + _vowel(60, 380, 850, 2300),
    "AW": _vowel(70, 710, 1250, 2450) + _vowel(60, 430, 950, 2300),
    "W": (Segment(60, 290, 650, 2200, voice=0.6),),
    "Y": (Segment(60, 265, 2250, 3000, voice=0.6),),
    "R": (Segment(60, 320, 1150, 1450, voice=0.6),),
    "L": (Segment(60, 340, 1050, 2750, voice=0.6),),
    "M": _nasal(1100, 2200),
    "N": _nasal(1500, 2550),
    "NG": _nasal(1950, 2600),
    "HH": (Segment(55, breath=0.12),),
    "F": _fricative(90, 1100, 2100, noise=0.18, hz=6500, width_hz=6000),
    "V": _fricative(55, 1100, 2100, noise=0.09, hz=6500, width_hz=6000, voice=0.35),
    "DH": _fricative(40, 1350, 2550, noise=0.09, hz=6000, width_hz=6000, voice=0.4),
    "S": _fricative(95, 1500, 2600, noise=0.66, hz=5800, width_hz=1800),
    "Z": _fricative(70, 1500, 2600, noise=0.36, hz=5800, width_hz=1800, voice=0.25),
    "SH": _fricative(100, 1800, 2500, noise=0.84, hz=3100, width_hz=1300),
    "P": _stop(900, 2150, hz=900, width_hz=1500, burst=0.75, voiced=False),
    "B": _stop(900, 2150, hz=900, width_hz=1500, burst=0.36, voiced=True),
    "T": _stop(1750, 2650, hz=4300, width_hz=2500, burst=1.35, voiced=False),
    "D": _stop(1750, 2650, hz=4000, width_hz=2500, burst=0.6, voiced=True),
    "K": _stop(1900, 2350, hz=2000, width_hz=700, burst=1.8, voiced=False),
    "G": _stop(1900, 2350, hz=1900, width_hz=700, burst=0.75, voiced=True),
}


class Sentence(NamedTuple):
    """A 1 after a vowel marks stress, a bar a pause."""

    transcript: str
    phones: str


SENTENCES = {
    "e01": Sentence(
        "We will meet again on Monday.",
        "W IY W IH L M IY1 T AH G EH1 N | AA N M AH1 N D EY",
    ),
    "e02": Sentence(
        "She put the paper on the table.",
        "SH IY P UH1 T DH AH P EY1 P ER | AA N DH AH T EY1 B AH L",
    ),
    "e03": Sentence(
        "My brother carries water home.",
        "M AY B R AH1 DH ER | K AE1 R IY Z W AO1 T ER HH OW1 M",
    ),
    "e04": Sentence(
        "The train arrives at seven.",
        "DH AH T R EY1 N | AH R AY1 V Z AE T S EH1 V AH N",
    ),
    "e05": Sentence(
        "They are moving the red sofa.",
        "DH EY AA R M UW1 V IH NG | DH AH R EH1 D S OW1 F AH",
    ),
    "e06": Sentence(
        "He wrote a very long letter.",
        "HH IY R OW1 T | AH V EH1 R IY L AO1 NG L EH1 T ER",
    ),
    "e07": Sentence(
        "Now the window is open.",
        "N AW1 | DH AH W IH1 N D OW IH Z OW1 P AH N",
    ),
    "e08": Sentence(
        "In ten minutes it is over.",
        "IH N T EH1 N M IH1 N AH T S | IH T IH Z OW1 V ER",
    ),
    "e09": Sentence(
        "You can leave it in the garden.",
        "Y UW K AE N L IY1 V IH T | IH N DH AH G AA1 R D AH N",
    ),
    "e10": Sentence(
        "There are two bags in the cellar.",
        "DH EH1 R AA R T UW1 B AE1 G Z | IH N DH AH S EH1 L ER",
    ),
}

_SILENCE_SECONDS = 0.08
_TUBE_HZ = np.array([500.0, 1500.0, 2500.0])  # an even tube of 17 cm
_BANDWIDTHS_HZ = (60.0, 90.0, 140.0)
_NASAL_POLE_HZ, _NASAL_ZERO_HZ, _NASAL_BANDWIDTH_HZ = 270.0, 450.0, 100.0
_OVERSAMPLING = 4
_LEVEL_DBFS = -23.0
_ROOM_DBFS = -61.0


def synthesise(
    speaker: str, sentence: str, emotion: str, *, seed: int = 0, sample_rate: int = SAMPLE_RATE
) -> NDArray[np.float32]:
    """One clip of made speech, the same for the same arguments.

    Args:
        speaker, sentence, emotion: keys of `SPEAKERS`, `SENTENCES` and `EMOTIONS`.
        seed: not negative; decides the deviation of every clip.
        sample_rate: Hz, at least 8000.

    Returns:
        `(samples,)`, within ±0.97.

    Raises:
        UserError: a name that is in none of the tables.
    """
    speaker = choose("demo speaker", speaker, SPEAKERS)
    sentence = choose("demo sentence", sentence, SENTENCES)
    emotion = choose("demo emotion", emotion, EMOTIONS)
    keys = [list(SPEAKERS).index(speaker), list(SENTENCES).index(sentence), list(EMOTIONS).index(emotion)]
    rng = np.random.default_rng([seed, *keys])

    owner = SPEAKERS[speaker]
    manner = _manner(owner, emotion, rng)
    segments, edges, stresses = _score(SENTENCES[sentence].phones, manner, rng)

    hop = round(sample_rate / 100)
    frames = int(np.ceil(edges[-1] * sample_rate / hop))
    samples = frames * hop
    time = np.arange(samples) / sample_rate
    frame_time = np.arange(frames + 1) * hop / sample_rate

    def track(name: str, ease_seconds: float, at: Array) -> Array:
        return _track(segments[name], edges, ease_seconds, at)

    pitch_hz = owner.pitch_hz * 2 ** (_semitones(manner, stresses, edges[-1], frame_time, rng) / 12)
    pulses, opening = _glottis(pitch_hz, frame_time, manner, samples, sample_rate, rng)
    stress_db = sum(2.0 * np.exp(-0.5 * ((time - at) / 0.08) ** 2) for at in stresses)
    effort = 10 ** ((stress_db - 3 * time / time[-1]) / 20)
    breath = 10 ** (manner.breath_db / 20) * (0.3 + opening) * rng.standard_normal(samples)
    aspiration = rng.standard_normal(samples)
    excitation = effort * (
        track("voice", 0.008, time) * (pulses + breath) + track("breath", 0.008, time) * aspiration
    )

    fft = 8 * hop  # 20 ms of input and 60 ms for the resonances to die away
    z = np.exp(-2j * np.pi * np.arange(fft // 2 + 1) / fft).astype(np.complex64)
    formants_hz = np.stack([track(name, 0.025, frame_time) for name in ("f1_hz", "f2_hz", "f3_hz")], axis=1)
    formants_hz = _TUBE_HZ + manner.articulation * (formants_hz - _TUBE_HZ)
    scale = owner.tract * manner.lips
    tract = _tract(scale * formants_hz, track("nasal", 0.012, frame_time), scale, z, sample_rate)
    voice = _filter(excitation, tract, hop)
    voice /= np.sqrt(np.mean(voice[track("voice", 0.008, time) > 0.9] ** 2))

    noise_hz = np.minimum(owner.tract * track("noise_hz", 0.001, frame_time), 0.45 * sample_rate)
    constriction = _constriction(noise_hz, track("noise_width_hz", 0.001, frame_time), z, sample_rate)
    noise = effort * track("noise", 0.004, time) * rng.standard_normal(samples)
    clip = voice + _filter(noise, constriction, hop)

    clip *= 10 ** ((_LEVEL_DBFS + manner.level_db) / 20)
    clip += 10 ** (_ROOM_DBFS / 20) * rng.standard_normal(samples)
    return (clip * min(1.0, 0.97 / np.abs(clip).max())).astype(np.float32)


def _manner(owner: Speaker, emotion: str, rng: np.random.Generator) -> Manner:
    """The emotion as this speaker has it this time."""
    neutral = np.array(EMOTIONS["neutral"])
    strength = owner.expression * rng.uniform(0.65, 1.2)
    values = neutral + strength * (np.array(EMOTIONS[emotion]) - neutral)
    values += np.array(SPREAD) * rng.standard_normal(len(values))
    drawn = Manner(*values.tolist())
    return drawn._replace(
        pitch_range=max(drawn.pitch_range, 0.2),
        rate=drawn.rate * owner.rate,
        pause=max(drawn.pause, 0.3),
        tilt_db=max(drawn.tilt_db + owner.tilt_db, 1.0),
        open_quotient=float(np.clip(drawn.open_quotient, 0.35, 0.9)),
        breath_db=drawn.breath_db + owner.breath_db,
        jitter=max(drawn.jitter, 0.002),
        shimmer=max(drawn.shimmer, 0.01),
        tremor=max(drawn.tremor, 0.0),
    )


def _score(phones: str, manner: Manner, rng: np.random.Generator) -> tuple[NDArray[Any], Array, list[float]]:
    """When each sound is made.

    Returns:
        The segments as records `(segments,)`, their edges in seconds `(segments + 1,)`, and the middle of
        every stressed vowel in seconds.
    """
    segments, seconds, stresses = [Segment(0)], [_SILENCE_SECONDS], []
    names = phones.split()
    for position, name in enumerate(names):
        sounds = PHONES[name.removesuffix("1")]
        stressed = name.endswith("1")
        stretch = rng.lognormal(sigma=0.08)
        if name == "|":
            stretch *= manner.pause
        elif sounds[0].voice == 1.0:
            stretch *= 1.3 if stressed else 0.85
        if position >= len(names) - 3:
            stretch *= 1.3  # speech slows down towards its end
        lengths = [segment.ms / 1000 * stretch / manner.rate for segment in sounds]
        if stressed:
            stresses.append(sum(seconds) + sum(lengths) / 2)
        segments += sounds
        seconds += lengths
    segments.append(Segment(0))
    seconds.append(_SILENCE_SECONDS)
    records = np.array(segments, dtype=[(name, "f8") for name in Segment._fields])
    return records, np.concatenate([[0.0], np.cumsum(seconds)]), stresses


def _track(values: Array, edges: Array, ease_seconds: float, at: Array) -> Array:
    """`values` held over their segments, with straight passages of `ease_seconds` either side of an edge.

    Where a value is NaN the passage runs from the last value to the next.
    """
    has_value = ~np.isnan(values)
    start, end = edges[:-1][has_value], edges[1:][has_value]
    ease = np.minimum(ease_seconds, 0.45 * (end - start))
    knots = np.stack([start + ease, end - ease], axis=1).ravel()
    return np.interp(at, knots, np.repeat(values[has_value], 2))


def _semitones(
    manner: Manner, stresses: list[float], seconds: float, at: Array, rng: np.random.Generator
) -> Array:
    """The melody `(frames,)` in semitones from the speaker's pitch.

    A fall over the sentence, a rise on every stressed vowel, a turn at the end, slow wander and tremor.
    """
    fall = 2.5 * (0.5 - at / seconds)
    accents = np.zeros_like(at)
    for stress in stresses:
        height = 2.5 * rng.lognormal(sigma=0.3)
        accents += height * np.exp(-0.5 * ((at - stress - 0.02) / 0.07) ** 2)
    turn = manner.ending * np.clip((at - seconds + _SILENCE_SECONDS + 0.33) / 0.33, 0, 1)
    knots = np.arange(0, seconds + 0.15, 0.15)
    wander = 0.35 * np.interp(at, knots, rng.standard_normal(len(knots)))
    tremor = manner.tremor * np.sin(2 * np.pi * (rng.uniform(5.5, 7.0) * at + rng.uniform()))
    # The accents' mean is taken off, so that a wide range does not also raise the mean pitch.
    return manner.pitch + manner.pitch_range * (fall + accents - accents.mean()) + turn + wander + tremor


def _glottis(
    pitch_hz: Array,
    pitch_time: Array,
    manner: Manner,
    samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Glottal pulses of root mean square 1, and how far the glottis is open, 0 to about 1: both `(samples,)`.

    Source: KLGLOTT88, a flow of x² − x³ over the open part of a period, then a low pass for the tilt.
    """
    fine_rate = _OVERSAMPLING * sample_rate
    fine_time = np.arange(_OVERSAMPLING * samples) / fine_rate
    phase = np.cumsum(np.interp(fine_time, pitch_time, pitch_hz)) / fine_rate
    periods = np.arange(int(phase[-1]) + 3.0)
    phase = np.interp(phase, periods + manner.jitter * rng.standard_normal(len(periods)), periods)
    period = np.floor(phase)
    x = np.minimum((phase - period) / manner.open_quotient, 1.0)
    size = 1 + manner.shimmer * rng.standard_normal(len(periods))
    flow = 6.75 * x * x * (1 - x) * size[period.astype(np.intp)]
    # Lips radiate the derivative. The difference of a finely sampled flow, unlike samples of the derivative,
    # is damped where it would alias: the derivative jumps when the glottis closes, the flow does not.
    spectrum = np.fft.rfft(np.diff(flow, prepend=flow[0]))[: samples // 2 + 1]
    corner_hz = 3000 / np.sqrt(10 ** (manner.tilt_db / 10) - 1)
    spectrum /= 1 + 1j * np.fft.rfftfreq(samples, 1 / sample_rate) / corner_hz
    pulses = np.fft.irfft(spectrum, samples)
    return pulses / np.sqrt(np.mean(pulses**2)), flow[::_OVERSAMPLING]


def _antiresonance(hz: Any, bandwidth_hz: Any, z: NDArray[Any], sample_rate: int) -> NDArray[Any]:
    """Response of a zero pair, 1 at 0 Hz; its reciprocal is a formant. `z` is the unit delay per bin."""
    radius = np.exp(-np.pi * bandwidth_hz / sample_rate)
    linear = -2 * radius * np.cos(2 * np.pi * hz / sample_rate)
    square = radius * radius
    # The sum of a low formant nearly cancels: it is taken in double precision, the rest in that of z.
    c0, c1, c2 = (np.asarray(c / (1 + linear + square), z.real.dtype) for c in (1.0, linear, square))
    return c0 + z * (c1 + c2 * z)


def _tract(formants_hz: Array, nasal: Array, scale: float, z: NDArray[Any], sample_rate: int) -> NDArray[Any]:
    """Response of the vocal tract `(frames, bins)` for `formants_hz` `(frames, 3)`.

    Above the three that move stand those of an even tube, 1 kHz apart.
    """
    inverse = _antiresonance(_NASAL_POLE_HZ * scale, _NASAL_BANDWIDTH_HZ, z, sample_rate)
    for hz in np.arange(3500.0, sample_rate / 2 / scale, 1000.0):
        inverse = inverse * _antiresonance(hz * scale, 0.06 * hz * scale, z, sample_rate)
    inverse = inverse[np.newaxis]
    for formant_hz, bandwidth_hz in zip(formants_hz.T, _BANDWIDTHS_HZ, strict=True):
        inverse = inverse * _antiresonance(formant_hz[:, np.newaxis], bandwidth_hz, z, sample_rate)
    # With the velum closed the nasal zero lies on the nasal pole and takes it away.
    zero_hz = scale * (_NASAL_POLE_HZ + nasal[:, np.newaxis] * (_NASAL_ZERO_HZ - _NASAL_POLE_HZ))
    return _antiresonance(zero_hz, _NASAL_BANDWIDTH_HZ, z, sample_rate) / inverse


def _constriction(hz: Array, width_hz: Array, z: NDArray[Any], sample_rate: int) -> NDArray[Any]:
    """Response `(frames, bins)` that makes frication of white noise: one peak, of height 1 at any width."""
    radius = np.exp(-np.pi * width_hz / sample_rate).astype(z.real.dtype)[:, np.newaxis]
    cosine = np.cos(2 * np.pi * hz / sample_rate).astype(z.real.dtype)[:, np.newaxis]
    return 0.5 * (1 - radius**2) * (1 - z * z) / (1 + z * (radius**2 * z - 2 * radius * cosine))


def _filter(excitation: Array, response: NDArray[Any], hop: int) -> Array:
    """`excitation` through a response that changes every `hop` samples.

    Args:
        excitation: `(frames * hop,)`.
        response: `(frames + 1, bins)`; row i holds around sample `i * hop` and fades into its neighbours.
    """
    window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)
    pieces = np.lib.stride_tricks.sliding_window_view(np.pad(excitation, hop), 2 * hop)[::hop] * window
    pieces = pieces.astype(response.real.dtype)
    fft = 2 * (response.shape[1] - 1)
    filtered = np.fft.irfft(np.fft.rfft(pieces, fft) * response, fft).reshape(len(pieces), -1, hop)
    hops = filtered.shape[1]
    summed = np.zeros((len(pieces) + hops, hop))
    for offset in range(hops):
        summed[offset : offset + len(pieces)] += filtered[:, offset]
    # The first piece begins one hop before the clip.
    return summed.ravel()[hop : hop + len(excitation)]
