"""A user's Keras callbacks (`--callbacks`), made for each network; an error says in which one it was."""

import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from light_sernet_kd.config.user_callbacks import OPTION, Factory
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.errors import UserCodeError, UserError

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

_BATCH_ENDS = tuple(f"on_{kind}batch_end" for kind in ("", "train_", "test_", "predict_"))
_HOOKS = (
    "set_params",
    "set_model",
    "on_epoch_begin",
    "on_epoch_end",
    *(f"on_{kind}_{end}" for kind in ("train", "test", "predict") for end in ("begin", "end")),
    *(each.replace("_end", "_begin") for each in _BATCH_ENDS),
    *_BATCH_ENDS,
)


def callbacks_of(run: "Experiment", fold: Fold, role: str, phase: int) -> list[keras.callbacks.Callback]:
    """What the run's factories make for the training of a network.

    Args:
        role: `student`, `teacher` and so on.
        phase: of its training, counted from 0.

    Raises:
        UserError: a factory returned what is no callback.
        UserCodeError: a factory raised an error.
    """
    if not run.factories:
        return []
    folder = run.step(fold).path / "callbacks"
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "run_name": run.folder.path.name,
        "fold": fold.name,
        "network": role,
        "phase": phase + 1,
        "settings": run.settings.as_dict(),
        "folder": folder,
    }
    where = f"the {role} of fold {fold.name}"
    return [
        _Named(callback, f"{OPTION} {factory.name}", where)
        for factory in run.factories
        for callback in _made(factory, given, where)
    ]


def _made(factory: Factory, given: dict[str, Any], where: str) -> Sequence[keras.callbacks.Callback]:
    try:
        made = factory.make(**{name: given[name] for name in factory.takes})
    except Exception as error:
        raise _failure(f"{OPTION} {factory.name} failed for {where}", error) from None
    listed = made if isinstance(made, list | tuple) else [made]
    for each in listed:
        if not isinstance(each, keras.callbacks.Callback):
            raise UserError(
                f"{OPTION} {factory.name} returned {_kind(each)} for {where}: it returns a Keras callback or "
                "a list of them, which may be empty."
            )
    return listed


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else repr(value)


def _failure(what: str, error: Exception) -> UserCodeError:
    """The error with the traceback from where the user's code begins: the frame before it is ours."""
    below = error.__traceback__ and error.__traceback__.tb_next
    traced = "".join(traceback.format_exception(type(error), error, below))
    said = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": .")
    return UserCodeError(f"{what}: {said}. The same command goes on after the last epoch.", traced)


class _Named(keras.callbacks.Callback):
    """A user's callback, whose errors are told apart from ours.

    Args:
        source: which factory made it.
        where: which network it watches.
    """

    def __init__(self, callback: keras.callbacks.Callback, source: str, where: str):
        super().__init__()
        self.callback, self.source, self.where = callback, source, where
        # As Keras decides it: what is not overridden may be called from another thread.
        plain = all(getattr(getattr(callback, hook), "_is_default", False) for hook in _BATCH_ENDS)
        self.async_safe = plain or getattr(callback, "async_safe", False)


def _delegated(hook: str) -> Callable[..., Any]:
    def call(self: _Named, *arguments: Any, **named: Any) -> Any:
        try:
            return getattr(self.callback, hook)(*arguments, **named)
        except Exception as error:
            called = f"{type(self.callback).__name__}.{hook}"
            what = f"{called}, a callback of {self.source}, failed for {self.where}"
            raise _failure(what, error) from None

    call.__name__ = hook
    return call


for _hook in _HOOKS:
    setattr(_Named, _hook, _delegated(_hook))
