"""Teachers that are a probe on the layers of a frozen self-supervised speech model."""

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import audio, teachers
from light_sernet_kd.corpora import Utterance, class_indices
from light_sernet_kd.data.protocols import Fold, fold_seed
from light_sernet_kd.encoders.embedding_cache import Embeddings, Encoder
from light_sernet_kd.encoders.speech import (
    packages,
    reproducible,
)
from light_sernet_kd.evaluation import log_loss
from light_sernet_kd.teachers import Teacher
from light_sernet_kd.teachers.probe import held_out_parts

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ProbeSettings:
    """How the layer weights and the linear head on a frozen model are trained, with AdamW."""

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2


@dataclass(frozen=True)
class TeacherTask:
    """What a teacher is made for.

    Attributes:
        card: what is known of the model and the corpus; `made_by` at least.
        progress: called with (done, all) after each fold.
        on_fold: called with each fold's name and the probe on all of its training set.
        on_tuned: called with each fold's name, its fine-tuned model as an encoder of waveforms whose rows are
            logits and embedding side by side, and the number of logits.
    """

    utterances: Sequence[Utterance]
    classes: Sequence[str]
    folds: Sequence[Fold]
    card: Mapping[str, Any]
    seed: int = 0
    progress: audio.Progress | None = None
    on_fold: "Callable[[str, LayerProbe], None] | None" = None
    on_tuned: Callable[[str, Encoder, int], None] | None = None

    @property
    def labels(self) -> np.ndarray:
        return class_indices(self.utterances, self.classes)

    @property
    def speakers(self) -> np.ndarray:
        return np.array([utterance.speaker for utterance in self.utterances])

    def teacher(
        self, logits: Sequence[np.ndarray], embeddings: Sequence[np.ndarray], facts: Mapping[str, Any]
    ) -> Teacher:
        """The teacher with these outputs per fold, and these facts beside the card's."""
        return Teacher(
            ids=tuple(utterance.id for utterance in self.utterances),
            classes=tuple(self.classes),
            logits=np.stack(logits).astype(np.float32),
            folds=tuple(fold.name for fold in self.folds),
            card={
                **self.card,
                **facts,
                "train_speakers": teachers.train_speakers(self.folds, self.utterances),
            },
            embeddings=np.stack(embeddings).astype(np.float32),
        )


def layer_probe_teacher(
    layers: Embeddings,
    task: TeacherTask,
    *,
    settings: ProbeSettings = ProbeSettings(),
    cross_fit: bool = True,
) -> Teacher:
    """A teacher with, per fold, a learned weighted sum of a frozen model's layers and a linear head on it.

    The epoch with the smallest log loss on the fold's validation set counts. Where that set is empty or
    tests too, the number of epochs is the median of what is best for training speakers held out in turn.
    `cross_fit` is as in `probe.probe_teacher`. The embeddings are each fold's weighted sums.

    Args:
        layers: the output of `layer_encoder` for the utterances.

    Source: Yang et al. 2021, arXiv:2105.01051, section 3 (the weighted sum).
    """
    labels, speakers = task.labels, task.speakers
    everything = np.arange(len(task.utterances))
    logits, embeddings, details = [], [], {}
    for fold in task.folds:
        train = np.array(fold.train)
        parts = held_out_parts(speakers[train])
        fit = functools.partial(
            LayerProbe,
            layers,
            labels,
            classes=len(task.classes),
            seed=fold_seed(task.seed, f"layer probe {fold.name}"),
            settings=settings,
        )
        if fold.selection_indices:
            probe = fit(train, np.array(fold.selection_indices), epochs=settings.epochs)
        else:
            held_out = [fit(train[~part], train[part], epochs=settings.epochs) for part in parts]
            probe = fit(train, None, epochs=round(statistics.median(each.best_epoch for each in held_out)))
        fold_logits = probe.logits(layers, everything)
        if cross_fit:
            for part in parts:
                other = fit(train[~part], None, epochs=probe.best_epoch)
                fold_logits[train[part]] = other.logits(layers, train[part])
        logits.append(fold_logits)
        embeddings.append(probe.weighted_sums(layers, everything))
        if task.on_fold:
            task.on_fold(fold.name, probe)
        details[fold.name] = {
            "best_epoch": probe.best_epoch,
            "layer_weights": np.round(probe.layer_weights, 4).tolist(),
        }
        if task.progress:
            task.progress(len(logits), len(task.folds))
    facts = {**asdict(settings), "cross_fitted": cross_fit, "seed": task.seed, "folds": details}
    return task.teacher(logits, embeddings, {"probe": facts})


class LayerProbe:
    """A weighted sum of layers and a linear head, trained on some rows.

    With `selection_rows` the weights are those of the epoch with the smallest log loss on them, else those of
    the last epoch.
    """

    def __init__(
        self,
        layers: Embeddings,
        labels: np.ndarray,
        train: np.ndarray,
        selection_rows: np.ndarray | None,
        *,
        classes: int,
        epochs: int,
        seed: int,
        settings: ProbeSettings,
    ):
        torch, _ = packages()
        count, width = layers[0].shape[1:]
        self._center, self._scale = _moments(layers, train)
        targets = torch.from_numpy(labels)
        with reproducible(seed, torch.device("cpu")):
            self._mix = torch.zeros(count, requires_grad=True)
            self._head = torch.nn.Linear(width, classes)
            optimizer = torch.optim.AdamW(
                [self._mix, *self._head.parameters()],
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
            )
            best_loss, best = np.inf, None
            self.best_epoch = epochs
            for epoch in range(epochs):
                order = train[np.random.default_rng([seed, epoch]).permutation(len(train))]
                for start in range(0, len(order), settings.batch_size):
                    rows = order[start : start + settings.batch_size]
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(self._scores(layers, rows), targets[rows]).backward()
                    optimizer.step()
                if selection_rows is not None:
                    loss = log_loss(labels[selection_rows], self.logits(layers, selection_rows))
                    if loss < best_loss:
                        state = {name: value.clone() for name, value in self._head.state_dict().items()}
                        best_loss, best = loss, (self._mix.detach().clone(), state)
                        self.best_epoch = epoch + 1
        if best is not None:
            with torch.no_grad():
                self._mix.copy_(best[0])
            self._head.load_state_dict(best[1])

    @property
    def layer_weights(self) -> np.ndarray:
        return self._mix.detach().softmax(dim=0).numpy()

    def _scores(self, layers: Embeddings, rows: np.ndarray) -> "torch.Tensor":
        torch, _ = packages()
        standard = (_gathered(layers, rows) - self._center) / self._scale
        return self._head(torch.einsum("l,nlw->nw", self._mix.softmax(dim=0), torch.from_numpy(standard)))

    def logits(self, layers: Embeddings, rows: np.ndarray) -> np.ndarray:
        torch, _ = packages()
        with torch.inference_mode():
            return np.concatenate([self._scores(layers, part).numpy() for part in chunks(rows)])

    def weighted_sums(self, layers: Embeddings, rows: np.ndarray) -> np.ndarray:
        weights = self.layer_weights
        return np.concatenate(
            [np.einsum("l,nlw->nw", weights, _gathered(layers, part)) for part in chunks(rows)]
        )


def chunks(rows: np.ndarray, size: int = 256) -> list[np.ndarray]:
    """The rows, so many at a time."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _gathered(layers: Embeddings, rows: np.ndarray) -> np.ndarray:
    return np.stack([layers[i][0] for i in rows]).astype(np.float32)


def _moments(layers: Embeddings, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `(layers, width)` over the rows, without holding them all."""
    mean = np.zeros(layers[0].shape[1:])
    variance = np.zeros_like(mean)
    for part in chunks(rows):
        mean += _gathered(layers, part).sum(axis=0, dtype=np.float64) / len(rows)
    for part in chunks(rows):
        variance += ((_gathered(layers, part) - mean) ** 2).sum(axis=0) / len(rows)
    deviation = np.sqrt(variance)
    return mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)
