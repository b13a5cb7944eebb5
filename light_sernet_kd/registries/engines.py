"""The engines that train a run's networks."""

from collections.abc import Mapping
from dataclasses import dataclass

AUTO = "auto"


@dataclass(frozen=True)
class Engine:
    """What `--engine` may name.

    Attributes:
        backend: what Keras computes with; one process has one.
        module: what must be installed.
    """

    backend: str
    module: str


ENGINES: Mapping[str, Engine] = {"tf": Engine("tensorflow", "tensorflow"), "jax": Engine("jax", "jax")}
