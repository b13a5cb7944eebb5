"""The way to the listener: telephone lines and codecs."""

import functools
import io

import numpy as np

from light_sernet_kd.audio import resample
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.errors import UserError, install_line

LINE_RATE = 8000


def telephone(waveform, rng, *, chance=0.3, a_law=0.4, linear=0.2):
    """The waveform `(samples,)` as heard over a narrow-band line, of the same length and without delay.

    A band from 200 to 400 Hz up to 3000 to 3700 Hz, each edge drawn, at 8 kHz; then G.711: A-law with the
    probability `a_law`, no companding with `linear`, else µ-law. What exceeds full scale is cut, as a line
    does.

    Source: the band of ITU-T G.712 is 300 to 3400 Hz; G.711 by libsndfile.
    """
    if rng.random() >= chance or not len(waveform):
        return waveform
    from scipy import signal

    low, high, kind = rng.uniform(200, 400), rng.uniform(3000, 3700), rng.random()
    narrow = resample(waveform, SAMPLE_RATE, LINE_RATE)
    # The edges are steep enough for speech at twice second order: 12 dB per octave below, 24 above.
    edges = [
        signal.butter(2, low, "highpass", fs=LINE_RATE, output="sos"),
        signal.butter(4, high, "lowpass", fs=LINE_RATE, output="sos"),
    ]
    line = np.clip(signal.sosfilt(np.concatenate(edges), narrow), -1, 1)
    if kind >= linear:
        line = companded(line, "ALAW" if kind < linear + a_law else "ULAW")
    return padded_or_cut(resample(line.astype(np.float32), LINE_RATE, SAMPLE_RATE), len(waveform))


def companded(waveform: np.ndarray, law: str) -> np.ndarray:
    """Samples from -1 to 1 as G.711 gives them back, float32; `law` is `ULAW` or `ALAW`."""
    values = np.rint(waveform * 32767).astype(np.int32)
    return _table(law)[values + 32768]


@functools.cache
def _table(law: str) -> np.ndarray:
    """What each 16-bit sample becomes, `(65536,)` float32."""
    import soundfile

    line = io.BytesIO()
    everything = np.arange(-32768, 32768).astype(np.int16)
    soundfile.write(line, everything, LINE_RATE, format="WAV", subtype=law)
    line.seek(0)
    return soundfile.read(line, dtype="float32")[0]


def padded_or_cut(waveform: np.ndarray, samples: int) -> np.ndarray:
    """The first `samples` samples of a waveform `(n,)`, with zeros at the end where it has fewer."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


# Bit rates in kbit/s, at random. Those of the stress test, MP3 at 64 and AMR at 7.4, are left to it.
_RATES = {
    "mp3": (24, 32, 40, 48, 56, 80, 96),
    "opus": (8, 12, 16, 24, 32),
    "amr": (4.75, 5.15, 5.9, 6.7, 7.95, 10.2, 12.2),
}
# libsndfile spreads its compression level evenly over these rates, the highest at 0.
_RATE_RANGES = {"mp3": (8.0, 160.0), "opus": (6.0, 256.0)}
_FORMS: dict[str, dict[str, str]] = {
    "mp3": {"format": "MP3", "bitrate_mode": "CONSTANT"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
# Of an MP3 too slow for the header that tells it: 576 samples of LAME and 529 of every decoder.
_MP3_DELAY, _SLOWEST_MP3_WITH_HEADER = 576 + 529, 40
_AMR_FRAME, _AMR_DELAY = 160, 40


def codec(waveform, rng, *, chance=0.1, mp3=1.0, opus=0.25, gsm=1.0, amr=0.0):
    """The waveform `(samples,)` encoded and decoded, of the same length, the codec's delay taken out.

    The codec is drawn by the weights `mp3` (24 to 96 kbit/s), `opus` (8 to 32 kbit/s), `gsm` (GSM 06.10 at 8
    kHz) and `amr` (AMR narrow band at 8 kHz, 4.75 to 12.2 kbit/s, through PyAV); its bit rate evenly. What
    exceeds full scale is cut.

    Source: Vu et al. 2019, "Audio codec simulation based data augmentation for telephony speech recognition",
    APSIPA ASC.
    """
    if rng.random() >= chance or not len(waveform):
        return waveform
    weights = {"mp3": mp3, "opus": opus, "gsm": gsm, "amr": amr}
    name = str(rng.choice(list(weights), p=np.array(list(weights.values())) / sum(weights.values())))
    kilobits = float(rng.choice(_RATES[name])) if name in _RATES else 0.0
    return coded(waveform, name, kilobits)


def coded(waveform: np.ndarray, name: str, kilobits: float) -> np.ndarray:
    """A waveform `(samples,)` at 16 kHz through `mp3`, `opus`, `gsm` (whose rate is its own) or `amr`."""
    clip = np.clip(waveform, -1, 1)
    if name in _RATE_RANGES:
        heard = _through_libsndfile(clip, name, kilobits)
    else:
        line = resample(clip, SAMPLE_RATE, LINE_RATE)
        line = np.clip(line, -1, 1)
        heard = _through_gsm(line) if name == "gsm" else _through_amr(line, kilobits)
        heard = resample(heard, LINE_RATE, SAMPLE_RATE)
    return padded_or_cut(heard, len(waveform))


def _through_libsndfile(clip: np.ndarray, name: str, kilobits: float) -> np.ndarray:
    import soundfile

    lowest, highest = _RATE_RANGES[name]
    form = _FORMS[name]
    level = (highest - kilobits) / (highest - lowest)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, compression_level=level, **form) as encoder:
        encoder.write(clip)
    file.seek(0)
    heard = soundfile.read(file, dtype="float32")[0]
    delayed = name == "mp3" and kilobits < _SLOWEST_MP3_WITH_HEADER
    return heard[_MP3_DELAY:] if delayed else heard


def _through_gsm(line: np.ndarray) -> np.ndarray:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, line, LINE_RATE, format="WAV", subtype="GSM610")
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def _through_amr(line: np.ndarray, kilobits: float) -> np.ndarray:
    import av

    encoder = av.CodecContext.create("libopencore_amrnb", "w")
    encoder.sample_rate, encoder.layout, encoder.format = LINE_RATE, "mono", "s16"
    encoder.bit_rate = round(1000 * kilobits)
    decoder = av.CodecContext.create("amrnb", "r")
    decoder.sample_rate, decoder.layout = LINE_RATE, "mono"
    count = -(-(len(line) + _AMR_DELAY) // _AMR_FRAME) * _AMR_FRAME
    samples = np.rint(padded_or_cut(line, count) * 32767).astype(np.int16)
    frames: list[av.AudioFrame | None] = []
    for start in range(0, count, _AMR_FRAME):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + _AMR_FRAME], "s16", "mono")
        frame.sample_rate, frame.pts = LINE_RATE, start
        frames.append(frame)
    packets = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
    heard = [frame.to_ndarray()[0] for packet in [*packets, None] for frame in decoder.decode(packet)]
    return np.concatenate(heard)[_AMR_DELAY:]


def check_codec(**settings: float) -> None:
    """Refuse a codec that is asked for and that this machine cannot encode.

    Raises:
        UserError: names the codec and what to do.
    """
    import soundfile

    for name, form, subtype in (("mp3", "MP3", "MPEG_LAYER_III"), ("opus", "OGG", "OPUS")):
        known = form in soundfile.available_formats() and subtype in soundfile.available_subtypes(form)
        if settings[name] and not known:
            raise UserError(
                f"libsndfile {soundfile.__libsndfile_version__} of this machine encodes no {name}: "
                f"take soundfile's own wheel, or ask for codec:{name}=0."
            )
    if settings["amr"]:
        try:
            import av
        except ImportError:
            raise UserError(f"amr of codec needs PyAV: {install_line('media')}") from None
        if not {"libopencore_amrnb", "amrnb"} <= set(av.codecs_available):
            raise UserError("FFmpeg of this PyAV has no encoder of AMR (libopencore_amrnb): leave amr out.")
