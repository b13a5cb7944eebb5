"""Looking over a corpus before training, and making one: converted, cut, or out of videos."""

from light_sernet_kd.data.prepare.conversion import Conversion, convert
from light_sernet_kd.data.prepare.inspection import (
    INPUT_SECONDS,
    Report,
    as_json,
    inspect,
    show,
    source_warnings,
)
from light_sernet_kd.data.prepare.videos import audio_of_video

__all__ = [
    "INPUT_SECONDS",
    "Conversion",
    "Report",
    "as_json",
    "audio_of_video",
    "convert",
    "inspect",
    "show",
    "source_warnings",
]
