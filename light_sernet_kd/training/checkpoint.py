"""A training's state after each epoch, and the file from which an interrupted training continues."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.arrays import ArrayError, Expected, open_arrays, say_anew
from light_sernet_kd.files import parse_json, write_arrays
from light_sernet_kd.training.job import DivergenceError, TrainingJob

if TYPE_CHECKING:
    from light_sernet_kd.training.network import Network

# What a checkpoint says beside its arrays.
_FACTS = {"epoch", "stopped", "history", "best_epoch", "best_rank", "seconds"}


class EpochState(keras.callbacks.Callback):
    """After each epoch: validate, remember the best weights, write the checkpoint."""

    def __init__(self, network: "Network", job: TrainingJob):
        super().__init__()
        self.network, self.job = network, job
        self.epoch = 0
        self.stopped = False
        self.history: dict[str, list[float]] = {}
        self.best: list[np.ndarray] = []
        self.last: list[np.ndarray] = []
        self.best_epoch = 0
        self.best_rank = (-math.inf, -math.inf)
        self.seconds = 0.0
        self.started = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch = epoch + 1
        logs = logs or {}
        row = {
            "loss": float(logs["loss"]),
            "label_loss": float(logs["label_loss"]),
            "train_wa": float(logs["accuracy"]),
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
        }
        self.last = self.network.twin.get_weights()
        self.network.calibrate(self.job.examples.rows, self.job.calibration)
        rank = (float(epoch), 0.0)
        if self.job.validation:
            row |= self._validate()
            # Small validation sets tie often: the smaller loss then decides, and between those the earlier.
            rank = (row["val_ua"], -row["val_loss"])
        weights_are_finite = all(np.isfinite(weight).all() for weight in self.last)
        if not (all(map(math.isfinite, row.values())) and weights_are_finite):
            raise DivergenceError(f"training diverged at epoch {self.epoch} (loss {row['loss']:g})")
        if rank > self.best_rank:
            self.best, self.best_rank, self.best_epoch = self.last, rank, self.epoch
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        if self.job.patience and self.epoch - self.best_epoch >= self.job.patience:
            self.stopped = self.model.stop_training = True
        self.seconds += time.perf_counter() - self.started
        self._save()
        if self.job.progress:
            self.job.progress(self.epoch, self.network.epochs_of(self.job), row)

    def _validate(self) -> dict[str, float]:
        examples, validation = self.job.examples, self.job.validation
        logits = self.network.validation_logits(self.last, examples.rows, validation)
        labels = examples.labels[list(validation)]
        scores = evaluation.scores(labels, logits.argmax(axis=1), examples.classes)
        return {
            "val_loss": evaluation.log_loss(labels, logits.astype(np.float64)),
            "val_ua": scores.ua,
            "val_wa": scores.wa,
        }

    def _save(self) -> None:
        facts = {
            "epoch": self.epoch,
            "stopped": self.stopped,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_rank": self.best_rank,
            "seconds": self.seconds,
        }
        # Copied one by one as they are written: all at once would be three times the network.
        arrays: dict[str, Any] = {
            f"state_{i}": variable for i, variable in enumerate(self.network.state_variables)
        }
        arrays |= {f"best_{i}": weight for i, weight in enumerate(self.best)}
        write_arrays(self.job.checkpoint, {"facts": np.array(json.dumps(facts)), **arrays})

    def restore(self) -> bool:
        """Continue from the checkpoint, if there is one that is whole and of this network.

        Returns:
            False where it could be read in part only: the network is then neither as it was nor as stored.
        """
        state = {f"state_{i}": variable for i, variable in enumerate(self.network.state_variables)}
        bests = {f"best_{i}": weight for i, weight in enumerate(self.network.twin.weights)}
        expected = {name: Expected(tuple(each.shape), "fiub") for name, each in (state | bests).items()}
        untouched = True
        try:
            # The content is compared with its hash before the first variable is assigned.
            with open_arrays(
                self.job.checkpoint, expected={"facts": Expected((), "U"), **expected}, sealed=True
            ) as stored:
                facts = _facts(self.job.checkpoint, stored["facts"])
                # All are read once before the first is assigned, and then again: at once they would be three
                # times the network.
                for name in state:
                    stored[name]
                best = [stored[name] for name in bests]
                untouched = False
                for name, variable in state.items():
                    variable.assign(stored[name])
        except (FileNotFoundError, NotADirectoryError):
            return untouched
        except ArrayError as error:
            say_anew(error, "the training begins anew")
            return untouched
        self.epoch, self.stopped = facts["epoch"], facts["stopped"]
        self.history, self.seconds = facts["history"], facts["seconds"]
        self.best, self.best_epoch, self.best_rank = best, facts["best_epoch"], tuple(facts["best_rank"])
        self.last = self.network.twin.get_weights()
        return True


def _facts(checkpoint: Path, text: np.ndarray) -> dict[str, Any]:
    try:
        facts = parse_json(str(text))
    except ValueError as error:
        raise ArrayError(checkpoint, f"is damaged ({error})") from None
    if not isinstance(facts, dict) or not _FACTS.issubset(facts):
        raise ArrayError(checkpoint, "is of another release")
    return facts
