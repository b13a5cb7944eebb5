"""Which engine trains a run. Nothing here imports TensorFlow, JAX or Keras: they are looked for only."""

import importlib.metadata
import os
import sys
from collections.abc import Iterable

from light_sernet_kd.config.ramps import ramp_of
from light_sernet_kd.config.settings import Settings
from light_sernet_kd.errors import UserError, is_installed, missing
from light_sernet_kd.registries.engines import AUTO, ENGINES, TRAINS_ALL, Engine

VARIABLE = "KERAS_BACKEND"


def engine_of(settings: Settings) -> str:
    """`tf` or `jax`: what trains these settings in this process.

    `auto` is the engine of `KERAS_BACKEND` where that is set. Else it is one that can train the settings:
    the one that is installed for a GPU (`jax` with its CUDA plugin), the first that is installed, or `tf`.

    Raises:
        UserError: `KERAS_BACKEND` says otherwise, the engine cannot train the settings, or it is not
            installed.
    """
    backend = _backend()
    engine = settings.engine
    if engine == AUTO:
        engine = _automatic(settings) if backend is None else engine_on(backend)
    elif backend not in (None, ENGINES[engine].backend):
        needed = ENGINES[engine].backend
        raise UserError(
            f"--engine {engine} needs {VARIABLE}={needed}, found {backend}: set it so or unset it."
        )
    _check(settings, engine)
    module = ENGINES[engine].module
    if not is_installed(module):
        raise missing(module, f"training {_not_by_all(settings) or f'with --engine {engine}'}")
    return engine


def engine_here(settings: Settings, backend: str) -> str:
    """The engine where Keras is imported already and computes with `backend`.

    Raises:
        UserError: the settings name another, or it cannot train them.
    """
    engine = engine_on(backend)
    if settings.engine not in (AUTO, engine):
        needed = ENGINES[settings.engine].backend
        raise UserError(
            f"--engine {settings.engine} needs Keras on {needed}, found {backend}: set {VARIABLE}={needed}."
        )
    _check(settings, engine)
    return engine


def one_engine(runs: Iterable[Settings], *, remedy: str) -> str:
    """The engine of all these runs.

    Raises:
        UserError: as `engine_of`, or they have several.
    """
    engines = sorted({engine_of(settings) for settings in runs} or {engine_of(Settings())})
    if len(engines) > 1:
        raise UserError(
            f"the runs have engines {' and '.join(engines)}, and a process has one Keras backend: {remedy}."
        )
    return engines[0]


def _backend() -> str | None:
    """What Keras computes with, or would; None where nothing says so."""
    keras = sys.modules.get("keras")
    return os.environ.get(VARIABLE) or (keras.backend.backend() if keras else None)


def engine_on(backend: str) -> str:
    """The engine whose networks Keras computes with this backend."""
    for name, engine in ENGINES.items():
        if engine.backend == backend:
            return name
    backends = " or ".join(engine.backend for engine in ENGINES.values())
    raise UserError(f"training needs {VARIABLE}={backends}, found {backend}: set it so or unset it.")


def _automatic(settings: Settings) -> str:
    able = [name for name, engine in ENGINES.items() if engine.trains_all or not _not_by_all(settings)]
    installed = [name for name in able if is_installed(ENGINES[name].module)]
    for_gpu = [name for name in installed if _has_gpu_plugin(ENGINES[name])]
    return [*for_gpu, *installed, *able][0]


def _check(settings: Settings, engine: str) -> None:
    if not ENGINES[engine].trains_all and (what := _not_by_all(settings)):
        raise UserError(
            f"--engine {engine} does not train {what}: leave it out, or take --engine {TRAINS_ALL}."
        )


def _not_by_all(settings: Settings) -> str:
    """What of the settings only an engine that `trains_all` can train; empty where there is no such thing."""
    if settings.unlabelled is not None:
        return "with --unlabelled"
    if settings.teacher_view != Settings.teacher_view:
        return f"with --teacher_view {settings.teacher_view}"
    if settings.generations > 1:
        return f"with --generations {settings.generations}"
    if settings.dimensions:
        return "with --dimensions"
    if settings.start_from is not None:
        return "with --start_from"
    for name, value in settings.distillation_weights.items():
        if ramp_of(value):
            return f"with --kd_weights {name}={value}, which changes over the epochs"
    return "with --qat" if settings.qat else ""


def _has_gpu_plugin(engine: Engine) -> bool:
    """Whether the engine was installed for a GPU, as the extra `jax-cuda` does."""
    if not engine.gpu_plugin:
        return False
    names = (distribution.metadata["Name"] or "" for distribution in importlib.metadata.distributions())
    return any(name.lower().replace("_", "-").startswith(engine.gpu_plugin) for name in names)
