"""Numbers of losses that change over the epochs, in a training whose step is compiled once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from light_sernet_kd.config.distillation_spec import Term
from light_sernet_kd.config.ramps import Ramp, ramp_of


class LossRamps:
    """The ramps of a sum of losses: variables, since a compiled step would keep the number it began with.

    Args:
        terms: the losses and their settings.
        add_weight: of the Keras model whose step reads the variables.
    """

    def __init__(self, terms: Sequence[tuple[Term, Mapping[str, Any]]], add_weight: Callable[..., Any]):
        self._ramps: dict[tuple[str, str], tuple[Ramp, Any]] = {}
        for term, settings in terms:
            for name, value in settings.items():
                if ramp := ramp_of(value):
                    variable = add_weight(
                        shape=(), initializer=keras.initializers.Constant(ramp.first), dtype="float32",
                        trainable=False, autocast=False, name=f"{term.name}_{name}",
                    )  # fmt: skip
                    self._ramps[term.name, name] = ramp, variable

    def __bool__(self) -> bool:
        return bool(self._ramps)

    def now(self, term: Term, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a loss with the values of this epoch."""
        ramped = [name for name in settings if (term.name, name) in self._ramps]
        # A sum is a tensor: Keras' own conversion leaves a variable as it is, and losses stack such numbers.
        return {**settings, **{name: ops.add(self._ramps[term.name, name][1], 0.0) for name in ramped}}

    def set_epoch(self, epoch: int, *, epochs: int) -> None:
        """Give each ramp its value in one of so many epochs, counted from 0."""
        for ramp, variable in self._ramps.values():
            variable.assign(ramp.at(epoch, epochs=epochs))


class RampWatch(keras.callbacks.Callback):
    """Sets the ramps at the beginning of each epoch; what was trained before has no part in their values."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.ramps.set_epoch(epoch, epochs=self.epochs)
