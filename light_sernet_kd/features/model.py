"""The front end: 16 kHz audio to MFCC, mel or spectrogram tensors, as Keras layers.

The same layers run in the data pipeline and inside an exported model. They use operations that TFLite
has as builtins, and every clip is worked on alone: its features do not depend on its batch mates.

The families and their numbers are in `registries.front_ends`.
"""

from collections.abc import Callable, Mapping

import keras

from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.features.device_layers import (
    LogMelOfProducts,
    LogMelPatchesByProducts,
    MFCCAndVoiceOfProducts,
    SpectrogramByProducts,
)
from light_sernet_kd.features.frames import frame_count, patch_count
from light_sernet_kd.features.layers import (
    MFCC,
    LogMel,
    LogMelPatches,
    NormaliseByPeak,
    NormaliseByPercentile,
    NormaliseByVariance,
    Spectrogram,
)
from light_sernet_kd.features.voice import MFCCAndVoice
from light_sernet_kd.registries.front_ends import FRONT_ENDS, INPUT_TYPES, VOICE_CHANNELS, SpectrumSettings

# Name → what makes the layer; None for a level that stays as it is.
_NORMALISERS: Mapping[str, Callable[[], keras.layers.Layer] | None] = {
    "peak": NormaliseByPeak,
    "percentile": NormaliseByPercentile,
    "variance": NormaliseByVariance,
    "none": None,
}


def settings_of(front_end: str, input_type: str) -> SpectrumSettings:
    """The published settings of a front end (`lsn`, `robust`, …) for an input type.

    Raises:
        UserError: no such front end, or it has no such input type.
    """
    known = FRONT_ENDS[choose("front end", front_end, FRONT_ENDS)].spectra
    if input_type in INPUT_TYPES and input_type not in known:
        raise UserError(f"the front end {front_end} has no {input_type}; it has {', '.join(known)}.")
    return known[choose("input type", input_type, known)]


def front_end_layers(front_end: str, input_type: str, *, on_device: bool = False) -> list[keras.layers.Layer]:
    """The layers from `(batch, samples)` audio to `(batch, *feature_shape)`.

    Args:
        on_device: those for an exported file, which differ by float32's rounding alone.

    The layers, called one after the other, are `front_end_model`.

    >>> [type(layer).__name__ for layer in front_end_layers("lsn", "mfcc")]
    ['NormaliseByPercentile', 'Spectrogram', 'LogMel', 'MFCC', 'Reshape']
    """
    spectrum = settings_of(front_end, input_type)
    return FRONT_ENDS[front_end].layers(spectrum, input_type, on_device=on_device)


def spectral_layers(
    settings: SpectrumSettings, input_type: str, *, on_device: bool = False
) -> list[keras.layers.Layer]:
    """The layers of a front end that is a spectrum and what follows from it, as `FrontEnd.layers`.

    VGGish keeps the level, so that no layer normalises it.

    >>> settings = settings_of("vggish", "mel_spectrogram")
    >>> [type(layer).__name__ for layer in spectral_layers(settings, "mel_spectrogram")]
    ['LogMelPatches']
    """
    # A spectrogram is wanted with its bins in order.
    products = on_device and input_type != "spectrogram"
    normaliser = _NORMALISERS[settings.normalise]
    layers: list[keras.layers.Layer] = [normaliser()] if normaliser else []
    if settings.patch_frames:
        return [*layers, (LogMelPatchesByProducts if products else LogMelPatches)(settings)]
    layers.append((SpectrogramByProducts if products else Spectrogram)(settings))
    if input_type == "mfcc" and settings.voice:
        layers.append((MFCCAndVoiceOfProducts if products else MFCCAndVoice)(settings))
    elif input_type != "spectrogram":
        layers.append((LogMelOfProducts if products else LogMel)(settings))
        if input_type == "mfcc":
            layers.append(MFCC(settings))
    return [*layers, keras.layers.Reshape((-1, _width(settings, input_type), 1))]


def _width(settings: SpectrumSettings, input_type: str) -> int:
    widths = {
        "mfcc": settings.coefficients + (len(VOICE_CHANNELS) if settings.voice else 0),
        "mel_spectrogram": settings.mel_bands,
        "spectrogram": settings.fft_length // 2 + 1,
    }
    return widths[input_type]


def feature_shape(front_end: str, input_type: str, samples: int) -> tuple[int, int, int]:
    """Shape of the features of a clip of `samples` samples.

    It is `(frames, features, 1)`, or `(patches, 96, 64)` of `vggish`.

    >>> feature_shape("cubic", "mel_spectrogram", 16000)
    (63, 128, 1)
    """
    settings = settings_of(front_end, input_type)
    if settings.patch_frames:
        return patch_count(samples, settings), settings.patch_frames, settings.mel_bands
    return frame_count(samples, settings), _width(settings, input_type), 1


def front_end_model(front_end: str, input_type: str, samples: int, *, on_device: bool = False) -> keras.Model:
    """A model from `(batch, samples)` float32 audio at 16 kHz to `(batch, *feature_shape)`.

    Args:
        on_device: that for an exported file, which differs by float32's rounding alone.

    Raises:
        UserError: no such front end or input type, or a clip shorter than one frame.

    One second is 59 frames, one each 16 ms, in `lsn`, and 32, one each 32 ms, in `cubic`, which pads
    both ends. `vggish` has patches of 96 frames.

    >>> front_end_model("lsn", "mfcc", 16000).output_shape
    (None, 59, 40, 1)
    >>> front_end_model("cubic", "mfcc", 16000).output_shape
    (None, 32, 40, 1)
    >>> front_end_model("vggish", "mel_spectrogram", 16000).output_shape
    (None, 1, 96, 64)
    """
    frames, _, _ = feature_shape(front_end, input_type, samples)  # refuses a clip shorter than a frame
    audio = keras.Input((samples,), name="audio", dtype="float32")
    tensor = audio
    for layer in front_end_layers(front_end, input_type, on_device=on_device):
        tensor = layer(tensor)
    model = keras.Model(audio, tensor, name=f"{front_end}_{input_type}")
    if model.output_shape[1] != frames:
        raise AssertionError(f"{model.output_shape} frames where {frames} were expected")
    return model
