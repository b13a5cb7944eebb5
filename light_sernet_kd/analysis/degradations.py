"""What happens to speech between a mouth and a network: noise, overload, a line, a codec, a room, silence.

Pure functions from a waveform `(samples,)` float32 at 16 kHz to another, of which `registries.degradations`
makes the conditions. Training never uses them: `augment` draws changes for training, these are fixed ones for
tests.

Levels are those of the active part of a recording, between its first and its last sample that is not zero,
because zeros at its ends are padding and no speech. What is added reaches over all of the recording.
"""

import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from light_sernet_kd.audio import augment, resample
from light_sernet_kd.audio.augment.lines import padded_or_cut
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.registries.degradations import NOISE_DBFS

TELEPHONE_RATE = 8000
TELEPHONE_BAND_HZ = (300.0, 3400.0)
# Width of the slopes outside of the band: wide enough for the filter to ring for milliseconds only.
_SLOPE_HZ = (100.0, 300.0)
# libsndfile spreads its compression level evenly over MPEG-2 layer III's rates, the highest at 0.
_MP3_KILOBITS = (8, 160)


@dataclass(frozen=True)
class DegradationContext:
    """What is drawn for one utterance: the same whichever conditions and other utterances are tested.

    Attributes:
        utterance: its id.
        talkers: recordings of other speakers, for babble; empty where the corpus has no other.
        noises: a user's recordings of coughs, music and so on, by kind; what is not there is synthesised.
    """

    seed: int
    utterance: str
    talkers: Sequence[np.ndarray] = ()
    noises: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)

    def rng(self, stream: str) -> np.random.Generator:
        """Random numbers of one kind of degradation; its levels share them, so that they alone differ."""
        return np.random.default_rng(
            [self.seed, zlib.crc32(self.utterance.encode()), zlib.crc32(stream.encode())]
        )


def active(waveform: np.ndarray) -> np.ndarray:
    """The part between the first and the last sample that is not zero; empty of silence."""
    (nonzero,) = np.nonzero(waveform)
    return waveform[nonzero[0] : nonzero[-1] + 1] if len(nonzero) else waveform[:0]


def power_dbfs(waveform: np.ndarray) -> float:
    """Mean square of `(n,)` in dB of full scale: a sine of amplitude 1 has -3.01, silence minus infinity.

    What a ratio of powers is made of. `runner.level_dbfs` is about the mean and has a floor instead: how loud
    a recording is to the ear, which hears no offset.
    """
    power = np.mean(np.square(waveform, dtype=np.float64)) if len(waveform) else 0.0
    return 10 * math.log10(power) if power else -math.inf


def at_level(waveform: np.ndarray, dbfs: float) -> np.ndarray:
    """The waveform scaled so that its active part has this level; silence stays silence."""
    level = power_dbfs(active(waveform))
    if level == -math.inf:
        return waveform
    gain = 10 ** ((dbfs - level) / 20)
    if gain > float(np.finfo(np.float32).max):  # of samples near the smallest that there are
        return (waveform * np.float64(gain)).astype(np.float32)
    return waveform * np.float32(gain)


def with_noise(waveform: np.ndarray, noise: np.ndarray, *, snr_db: float) -> np.ndarray:
    """The waveform with as much noise `(samples,)` as gives this ratio of powers over its active part.

    The sum is not cut at full scale, which would change the ratio. Silence stays silence, since no noise has
    a ratio to it.
    """
    (nonzero,) = np.nonzero(waveform)
    if not len(nonzero):
        return waveform
    part = slice(nonzero[0], nonzero[-1] + 1)
    surplus = power_dbfs(waveform[part]) - power_dbfs(noise[part])
    return waveform if surplus == math.inf else waveform + np.float32(10 ** ((surplus - snr_db) / 20)) * noise


def babble(samples: int, talkers: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Several people talking at once: `(samples,)`, each as loud as the others.

    Args:
        talkers: recordings `(n,)`, at least one. Each is repeated from a place drawn by `rng`.
    """
    mixed = np.zeros(samples, np.float32)
    for talker in talkers:
        voice = at_level(active(talker), NOISE_DBFS)
        if len(voice):
            mixed += voice[(int(rng.integers(len(voice))) + np.arange(samples)) % len(voice)]
    return mixed


def overloaded(waveform: np.ndarray, context: DegradationContext, *, percentile: float) -> np.ndarray:
    """The waveform cut at the level that this share of its active part, in per cent, does not exceed."""
    speech = np.abs(active(waveform))
    if not len(speech):
        return waveform
    most = np.float32(np.percentile(speech, percentile))
    return np.clip(waveform, -most, most)


def telephone(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """As heard over a narrow-band line: 300 to 3400 Hz, 8 kHz, G.711 µ-law; of the same length, no delay.

    What exceeds full scale is cut, as the codec does.

    Source: the band of ITU-T G.712; G.711 by libsndfile.
    """
    import soundfile

    narrow = _band_passed(resample(waveform, SAMPLE_RATE, TELEPHONE_RATE), TELEPHONE_RATE, TELEPHONE_BAND_HZ)
    line = io.BytesIO()
    # Beyond full scale libsndfile 1.2.2 reads past its table, and the process may die of it.
    soundfile.write(line, np.clip(narrow, -1, 1), TELEPHONE_RATE, format="WAV", subtype="ULAW")
    line.seek(0)
    received, _ = soundfile.read(line, dtype="float32")
    return padded_or_cut(resample(received, TELEPHONE_RATE, SAMPLE_RATE), len(waveform))


def _band_passed(waveform: np.ndarray, sample_rate: int, band_hz: tuple[float, float]) -> np.ndarray:
    """A filter without phase: 1 inside the band, cosine slopes outside of it."""
    # Zeros behind it, so that what rings at the end does not come round to the beginning.
    count = 2 ** math.ceil(math.log2(len(waveform) + sample_rate // 10))
    hz = np.fft.rfftfreq(count, 1 / sample_rate)
    (low, high), (low_slope, high_slope) = band_hz, _SLOPE_HZ
    depth = np.clip(np.maximum((low - hz) / low_slope, (hz - high) / high_slope), 0, 1)
    response = (0.5 + 0.5 * np.cos(np.pi * depth)).astype(np.float32)
    return np.fft.irfft(np.fft.rfft(waveform, count) * response, count)[: len(waveform)].astype(np.float32)


def mp3(waveform: np.ndarray, context: DegradationContext, *, kilobits: int) -> np.ndarray:
    """Written as MP3 and read again, of the same length and without the codec's delay.

    Raises:
        ValueError: no rate of MPEG-2 layer III from 48 to 160, which leave room for the delay's field.
    """
    import soundfile

    received, _ = soundfile.read(io.BytesIO(mp3_bytes(waveform, kilobits=kilobits)), dtype="float32")
    # The header states the delay and the length, and libsndfile takes both into account.
    return padded_or_cut(received, len(waveform))


def mp3_bytes(waveform: np.ndarray, *, kilobits: int = 64) -> bytes:
    """An MP3 file of constant bit rate, mono at 16 kHz (MPEG-2 layer III); what exceeds full scale is cut.

    Raises:
        ValueError: no rate of MPEG-2 layer III from 48 to 160 kbit/s.
    """
    import soundfile

    if kilobits not in (48, 56, 64, 80, 96, 112, 128, 144, 160):
        raise ValueError(f"expected a rate of MPEG-2 layer III from 48 to 160 kbit/s, found {kilobits}")
    lowest, highest = _MP3_KILOBITS
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        SAMPLE_RATE,
        1,
        format="MP3",
        compression_level=(highest - kilobits) / (highest - lowest),
        bitrate_mode="CONSTANT",
    ) as encoder:
        encoder.write(np.clip(waveform, -1, 1))
    return file.getvalue()


def room(rng: np.random.Generator, *, t60_seconds: float) -> np.ndarray:
    """Impulse response of a room, float32, as long as its reverberation time; at 16 kHz.

    h(t) = δ(t) + g · b(t) · exp(-3 ln(10) t / T60), where b is white noise drawn by `rng` and g makes the
    tail as strong as the direct sound: a talker at the room's critical distance. After T60 the tail has lost
    60 dB.

    Source: exponentially decaying noise as a room's response: Moorer 1979, About this reverberation
    business, Computer Music Journal 3(2); Polack 1988, La transmission de l'énergie sonore dans les salles.
    """
    seconds = np.arange(round(t60_seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(seconds)) * np.exp(-3 * math.log(10) * seconds / t60_seconds)
    response = tail / math.sqrt(np.sum(tail**2))
    response[0] += 1.0
    return response.astype(np.float32)


def reverberated(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The waveform in a room, as long as it is and at its level: the recording ends where it ended."""
    count = 2 ** math.ceil(math.log2(len(waveform) + len(response)))
    spectrum = np.fft.rfft(waveform, count) * np.fft.rfft(response, count)
    wet = np.fft.irfft(spectrum, count)[: len(waveform)].astype(np.float32)
    # The transform's rounding must not become sound.
    level = power_dbfs(active(waveform))
    return waveform if level == -math.inf else at_level(wet, level)


def unchanged(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """The waveform `(samples,)` itself."""
    return waveform


def with_white_noise(waveform: np.ndarray, context: DegradationContext, *, snr_db: float) -> np.ndarray:
    """The waveform `(samples,)` and noise that is flat per Hz, as `with_noise` adds it."""
    noise = augment.white_noise(len(waveform), context.rng("white"))
    return with_noise(waveform, noise, snr_db=snr_db)


def with_pink_noise(waveform: np.ndarray, context: DegradationContext, *, snr_db: float) -> np.ndarray:
    """The waveform `(samples,)` and noise that is flat per octave, as `with_noise` adds it."""
    noise = augment.pink_noise(len(waveform), context.rng("pink"))
    return with_noise(waveform, noise, snr_db=snr_db)


def with_babble(waveform: np.ndarray, context: DegradationContext, *, snr_db: float) -> np.ndarray:
    """The waveform `(samples,)` and the voices of `context.talkers`, as `with_noise` adds them.

    Without talkers it stays as it is.
    """
    voices = babble(len(waveform), context.talkers, context.rng("babble"))
    return with_noise(waveform, voices, snr_db=snr_db)


def with_gain(waveform: np.ndarray, context: DegradationContext, *, db: float) -> np.ndarray:
    """The waveform `(samples,)` louder by `db`, cut at full scale."""
    return augment.gain(waveform, context.rng("gain"), low_db=db, high_db=db)


def at_speed(waveform: np.ndarray, context: DegradationContext, *, factor: float) -> np.ndarray:
    """The waveform played `factor` times as fast, `(round(samples / factor),)`, its pitch changed with it."""
    return augment.speed(waveform, context.rng("speed"), low=factor, high=factor)


def in_room(waveform: np.ndarray, context: DegradationContext, *, t60_seconds: float) -> np.ndarray:
    """The waveform `(samples,)` in a `room` whose reverberation time is `t60_seconds`."""
    return reverberated(waveform, room(context.rng("room"), t60_seconds=t60_seconds))


# Clips without speech


def zeros(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Digital silence, `(samples,)` float32."""
    return np.zeros(samples, np.float32)


def white_noise(samples: int, rng: np.random.Generator, *, dbfs: float) -> np.ndarray:
    """Noise that is flat per Hz, `(samples,)` float32 at a level in dB of full scale."""
    return at_level(augment.white_noise(samples, rng), dbfs)


def pink_noise(samples: int, rng: np.random.Generator, *, dbfs: float) -> np.ndarray:
    """Noise that is flat per octave, `(samples,)` float32 at a level in dB of full scale."""
    return at_level(augment.pink_noise(samples, rng), dbfs)
