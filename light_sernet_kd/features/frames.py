"""How many frames and patches a clip has."""

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.front_ends import SpectrumSettings


def frame_count(samples: int, settings: SpectrumSettings) -> int:
    """Frames of a clip of `samples` samples; a `UserError` if it is shorter than one frame.

    One second has 59 frames of 64 ms in `lsn`, one every 16 ms.

    >>> from light_sernet_kd.features import settings_of
    >>> frame_count(16000, settings_of("lsn", "mfcc"))
    59
    """
    if settings.centred:
        return 1 + samples // settings.frame_step
    if samples < settings.frame_length:
        raise UserError(
            f"{samples} samples are shorter than one frame of {settings.frame_length} samples: "
            f"use a longer input (-id {settings.frame_length / SAMPLE_RATE:.3f} or more)."
        )
    return 1 + (samples - settings.frame_length) // settings.frame_step


def patch_ends(patches: int, settings: SpectrumSettings) -> np.ndarray:
    """How many samples a recording must have for its 1st, 2nd, … patch to lie within it, `(patches,)`."""
    last_frame = np.arange(1, patches + 1) * (settings.patch_frames or 1) - 1
    return last_frame * settings.frame_step + settings.frame_length


def patch_count(samples: int, settings: SpectrumSettings) -> int:
    """Patches that lie within a recording of `samples` samples; at least 1, since silence fills the first."""
    first, second = patch_ends(2, settings)
    return max(1, 1 + (samples - int(first)) // int(second - first))
