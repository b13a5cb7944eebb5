"""The front ends: from 16 kHz audio to features. Three families, after the published systems, and our own.

`lsn` (Light-SERNet, arXiv:2110.03435)
    Divide by the 99.9th percentile of |x|, clip to ±1. Magnitude STFT 1024/256, Hann. 128 mel bands,
    80–7600 Hz on the HTK scale, log(mel + 1e-6); 40 MFCC clipped to ±10.
`cubic` (Cubic KD)
    Zero mean, unit variance. Power STFT centred on its frames. `mel_spectrogram`: 1024/256 Hann, 128 bands on
    the Slaney scale, dB below the clip's maximum. `mfcc`: window 512 Hamming in an FFT of 1024, hop 512,
    dB against 1, 40 coefficients. dB are floored 80 below the clip's maximum.
`robust` (ours: what the recipe `robust` was chosen with, see docs/robustness.md)
    Divide by the largest |x|. Magnitude STFT as `lsn`. 64 mel bands, 250–3600 Hz on the HTK scale, which is
    what a telephone carries; log of what is above a floor of 40 dB below the clip's loudest band, each band
    about its mean over the recording; 40 MFCC of these. Padding is 0, which is every band's mean.
`robust_voice` (ours)
    As `robust`, with 37 MFCC, and behind them voicing, pitch and energy of each frame: the autocorrelation at
    periods of 65 to 400 Hz, after Boersma 1993, and the energy of 250–3600 Hz. 40 columns as well, so that a
    student costs the same.
`vggish` (VGGish, Hershey et al. 2017, arXiv:1609.09430, as released with AudioSet)
    The level as it is, in ±1. Magnitude STFT of 400 samples every 160 in an FFT of 512, Hann. 64 mel bands,
    125–7500 Hz on the HTK scale, log(mel + 0.01), in patches of 96 frames that do not overlap.
    https://github.com/tensorflow/models/tree/master/research/audioset/vggish
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from light_sernet_kd.registries.lazy import Lazy

INPUT_TYPES = ("mfcc", "mel_spectrogram", "spectrogram")

# The channels behind the MFCC where `voice` is on → what each is multiplied by. With these, each varies over
# the recordings of EMO-DB as the middle MFCC of `robust` do, with a standard deviation of about 0.65: a
# student has one learning rate for all columns, and shall neither overlook a channel nor hear nothing else.
VOICE_CHANNELS: Mapping[str, float] = {"voicing": 1.6, "pitch": 3.4, "energy": 0.25}


@dataclass(frozen=True)
class SpectrumSettings:
    """Everything that decides a front end's numbers; samples at 16 kHz.

    Attributes:
        compression: `log` of magnitude plus `log_offset`, `db` and `db_to_max` as Cubic KD's, or `relative`:
            the logarithm of the ratio to the clip's loudest band, floored `floor_db` below it.
        centre: of `relative`, what is taken out of each clip: `none`, each band's `mean` over the recording,
            or that and the `variance` over all bands.
        voice: of `mfcc`, whether `VOICE_CHANNELS` follow the coefficients.

    Raises:
        ValueError: a field names what it does not know.
    """

    normalise: Literal["peak", "percentile", "variance", "none"]
    frame_length: int
    frame_step: int
    fft_length: int
    window: Literal["hann", "hamming"]
    centred: bool
    power: Literal[1, 2]
    mel_bands: int = 128
    mel_scale: Literal["htk", "slaney"] = "htk"
    lowest_hz: float = 80.0
    highest_hz: float = 7600.0
    compression: Literal["log", "db_to_max", "db", "relative"] = "log"
    log_offset: float = 1e-6
    floor_db: float = 40.0
    centre: Literal["none", "mean", "variance"] = "none"
    coefficients: int = 40
    patch_frames: int | None = None
    voice: bool = False

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(kind) is Literal and value not in get_args(kind):
                known = ", ".join(map(str, get_args(kind)))
                raise ValueError(f"expected {name} of a front end to be one of {known}, found {value!r}")


LSN = SpectrumSettings(
    normalise="percentile", frame_length=1024, frame_step=256, fft_length=1024,
    window="hann", centred=False, power=1,
)  # fmt: skip
_CUBIC_MEL = SpectrumSettings(
    normalise="variance", frame_length=1024, frame_step=256, fft_length=1024, window="hann", centred=True,
    power=2, mel_scale="slaney", lowest_hz=0.0, highest_hz=8000.0, compression="db_to_max",
)  # fmt: skip
_CUBIC_MFCC = SpectrumSettings(
    normalise="variance", frame_length=512, frame_step=512, fft_length=1024, window="hamming", centred=True,
    power=2, mel_scale="slaney", lowest_hz=0.0, highest_hz=8000.0, compression="db",
)  # fmt: skip
ROBUST = SpectrumSettings(
    normalise="peak", frame_length=1024, frame_step=256, fft_length=1024, window="hann", centred=False,
    power=1, mel_bands=64, lowest_hz=250.0, highest_hz=3600.0, compression="relative", centre="mean",
)  # fmt: skip
ROBUST_VOICE = replace(ROBUST, coefficients=37, voice=True)
VGGISH = SpectrumSettings(
    normalise="none", frame_length=400, frame_step=160, fft_length=512, window="hann", centred=False,
    power=1, mel_bands=64, lowest_hz=125.0, highest_hz=7500.0, log_offset=0.01, patch_frames=96,
)  # fmt: skip


@dataclass(frozen=True)
class FrontEnd:
    """What a front end makes of audio, and how.

    Attributes:
        spectra: what decides its numbers, for each input type that it has.
        padding: where a short clip's zeros go: on `both` sides or on the `right`.
        keeps_level: whether a recording's level changes the features.
        of_encoder: whether it feeds an encoder of speech, and no student directly.
        layers: `(spectrum, input_type, *, on_device)` to the Keras layers from
            `(batch, samples)` to features.
    """

    spectra: Mapping[str, SpectrumSettings]
    padding: Literal["both", "right"]
    keeps_level: bool = False
    of_encoder: bool = False
    layers: Callable[..., Any] = Lazy("features.model:spectral_layers")


FRONT_ENDS: Mapping[str, FrontEnd] = {
    "lsn": FrontEnd({"mfcc": LSN, "mel_spectrogram": LSN, "spectrogram": LSN}, padding="both"),
    "cubic": FrontEnd({"mfcc": _CUBIC_MFCC, "mel_spectrogram": _CUBIC_MEL}, padding="right"),
    "robust": FrontEnd({"mel_spectrogram": ROBUST, "mfcc": ROBUST}, padding="both"),
    "robust_voice": FrontEnd({"mfcc": ROBUST_VOICE}, padding="both"),
    "vggish": FrontEnd({"mel_spectrogram": VGGISH}, padding="right", keeps_level=True, of_encoder=True),
}
