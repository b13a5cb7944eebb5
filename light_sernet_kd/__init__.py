"""Light-SERNet KD: distil large speech-emotion teachers into students that run on a phone.

Importing this package imports nothing heavy; the modules that need TensorFlow import it themselves.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from light_sernet_kd.device.whole import Result, Runner

__version__ = "0.1.0"
__all__ = ["Result", "Runner"]


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for: `Runner` and what its `classify` gives."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("light_sernet_kd.device.whole"), name)
