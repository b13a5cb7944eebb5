"""Front ends as Keras layers: from 16 kHz audio to features."""

from light_sernet_kd.features.device_layers import SpectrogramByProducts
from light_sernet_kd.features.filterbanks import hz_to_mel, mel_matrix, mel_to_hz
from light_sernet_kd.features.frames import frame_count, patch_count, patch_ends
from light_sernet_kd.features.layers import (
    LogMelPatches,
    NormaliseByPeak,
    NormaliseByPercentile,
    NormaliseByVariance,
)
from light_sernet_kd.features.model import feature_shape, front_end_layers, front_end_model, settings_of

__all__ = [
    "LogMelPatches",
    "NormaliseByPeak",
    "NormaliseByPercentile",
    "NormaliseByVariance",
    "SpectrogramByProducts",
    "feature_shape",
    "frame_count",
    "front_end_layers",
    "front_end_model",
    "hz_to_mel",
    "mel_matrix",
    "mel_to_hz",
    "patch_count",
    "patch_ends",
    "settings_of",
]
