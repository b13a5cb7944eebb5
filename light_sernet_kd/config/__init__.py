"""Everything a run can be told: `Settings` decide its result, `RunOptions` where it lies."""

from light_sernet_kd.config.checks import make_settings
from light_sernet_kd.config.dimensions import DIMENSIONS, Dimensions
from light_sernet_kd.config.run_options import RunOptions
from light_sernet_kd.config.settings import (
    CALIBRATION_CLIPS,
    LARGEST_SAMPLE,
    PRECISIONS,
    SAMPLE_RATE,
    Settings,
    corpus_name,
)

__all__ = [
    "CALIBRATION_CLIPS",
    "DIMENSIONS",
    "LARGEST_SAMPLE",
    "PRECISIONS",
    "SAMPLE_RATE",
    "Dimensions",
    "RunOptions",
    "Settings",
    "corpus_name",
    "make_settings",
]
