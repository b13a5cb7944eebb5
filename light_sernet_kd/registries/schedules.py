"""How the published systems train."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """How a published system trains.

    Attributes:
        weight_decay: added to the gradient as `weight_decay * weight`, as PyTorch's Adam does; with `adamw`
            the decoupled one.
        decay: the learning rate's factor, applied at each multiple of `decay_every` from `decay_from` on.
        decay_unit: `epochs` or `steps`, whichever is counted; both from 0. `cosine` instead lets the rate
            fall over the epochs as half a cosine, to almost 0 in the last one (Loshchilov and Hutter 2017,
            arXiv:1608.03983, without restarts), and `decay` and `decay_every` mean nothing.
        warm_up: epochs in which the rate rises evenly to its full value.
        batch_norm_momentum: as Keras counts it, 1 less PyTorch's.
        accumulation: batches whose gradients are averaged into one step.
        tune_epochs: with pretrained encoders, epochs in which all weights are trained, after `epochs` in
            which the encoders are frozen.

    >>> schedule = SCHEDULES["light_sernet"].changed(learning_rate=0.01, epochs=100)
    >>> schedule.learning_rate_at(epoch=0, step=0), schedule.batch_size
    (0.01, 32)
    """

    learning_rate: float
    batch_size: int
    epochs: int
    weight_decay: float
    decay: float
    decay_every: int
    decay_unit: str
    decay_from: int = 0
    batch_norm_momentum: float = 0.99
    optimizer: str = "adam"
    accumulation: int = 1
    tune_epochs: int = 0
    warm_up: int = 0

    def changed(self, **values: Any) -> "Schedule":
        """The schedule with what is not None of `values` in the place of its values."""
        return dataclasses.replace(self, **{key: value for key, value in values.items() if value is not None})

    def learning_rate_at(self, *, epoch: int, step: int) -> float:
        """The learning rate of training step `step` in epoch `epoch`, both counted from 0."""
        if epoch < self.warm_up:
            return self.learning_rate * (epoch + 1) / (self.warm_up + 1)
        if self.decay_unit == "cosine":
            done = (epoch - self.warm_up) / max(1, self.epochs - self.warm_up)
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        now = epoch if self.decay_unit == "epochs" else step
        if now < self.decay_from:
            return self.learning_rate
        skipped = max(0, self.decay_from - 1) // self.decay_every
        return self.learning_rate * self.decay ** (now // self.decay_every - skipped)


SCHEDULES: Mapping[str, Schedule] = {
    # As released: exp(-0.15) at epochs 60, 80, 100 …, counted from 0.
    "light_sernet": Schedule(1e-4, 32, 300, 0.0, 0.860707976425, 20, "epochs", 50),
    "cubic": Schedule(1e-3, 16, 100, 1e-4, 0.9, 300, "steps", batch_norm_momentum=0.9),
    "robust": Schedule(1e-3, 32, 60, 0.0, 1.0, 1, "cosine", batch_norm_momentum=0.9, warm_up=2),
    # Ours: DistilSER takes 32 times as many steps, each a hundredth as long.
    "fusion": Schedule(1e-4, 32, 50, 0.0, 0.1, 30, "epochs"),
    "distilser": Schedule(1e-6, 1, 50, 0.0, 0.1, 30, "epochs", tune_epochs=50),
    # PyTorch's AdamW decays by 0.01 where nothing is said.
    "multi_still": Schedule(5e-5, 32, 50, 0.01, 1.0, 1, "epochs", optimizer="adamw", accumulation=8),
}

# Those that a search chooses from where no space is given.
SEARCHED_SCHEDULES = ("light_sernet", "cubic")
OPTIMIZERS = ("adam", "adamw", "sgd")
