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
        gpu_plugin: how the name of a distribution begins, which is installed for an engine that `auto` shall
            take before the others.
        trains_all: whether it trains all that settings can say; `config.engine` has what others do not.
        trains_together: whether it trains networks of several folds and runs at once, in one process.
        shares_batches: whether several devices share each batch.
        takes_callbacks: those of Keras, of which TensorBoard's is one.
        exports: whether it writes .tflite files.
    """

    backend: str
    module: str
    gpu_plugin: str = ""
    trains_all: bool = False
    trains_together: bool = False
    shares_batches: bool = False
    takes_callbacks: bool = False
    exports: bool = False


ENGINES: Mapping[str, Engine] = {
    "tf": Engine("tensorflow", "tensorflow", trains_all=True, takes_callbacks=True, exports=True),
    "jax": Engine("jax", "jax", gpu_plugin="jax-cuda", trains_together=True, shares_batches=True),
}
# What a config.json means that tells no engine, as the first did not.
ENGINE_OF_OLDER_RUNS = "tf"
TRAINS_ALL = next(name for name, engine in ENGINES.items() if engine.trains_all)
EXPORTS = next(name for name, engine in ENGINES.items() if engine.exports)
