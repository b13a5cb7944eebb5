"""Light-SERNet KD: distil large speech-emotion teachers into students that run on a phone.

Importing this package imports nothing heavy; the modules that need TensorFlow import it themselves.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from light_sernet_kd.device.runs import Run
    from light_sernet_kd.device.whole import Result, Runner
    from light_sernet_kd.experiment.classifier import EmotionClassifier
    from light_sernet_kd.experiment.from_python import train

__version__ = "0.1.0"
__all__ = ["EmotionClassifier", "Result", "Run", "Runner", "train"]

_PLACES = {
    "EmotionClassifier": "experiment.classifier",
    "Result": "device.whole",
    "Run": "device.runs",
    "Runner": "device.whole",
    "train": "experiment.from_python",
}


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    except ImportError as error:
        from light_sernet_kd.errors import as_missing_package

        raise as_missing_package(error, name) or error from None
