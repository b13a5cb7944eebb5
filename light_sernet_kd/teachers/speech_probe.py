"""Teachers on self-supervised speech models: a probe on their layers, or the model fine-tuned."""

import functools
import hashlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import audio, teachers
from light_sernet_kd.corpora import Utterance, class_indices
from light_sernet_kd.data.protocols import Fold, fold_seed
from light_sernet_kd.encoders.embedding_cache import Embeddings
from light_sernet_kd.encoders.speech import (
    SpeechModel,
    length_batches,
    load,
    mean_states,
    packages,
    reproducible,
)
from light_sernet_kd.evaluation import log_loss
from light_sernet_kd.teachers import Teacher
from light_sernet_kd.teachers.outputs import called
from light_sernet_kd.teachers.probe import held_out_parts

if TYPE_CHECKING:
    import torch

# Raised when the same settings give other numbers: old fine-tuned folds are then not used.
_TUNING_VERSION = 1


@dataclass(frozen=True)
class ProbeSettings:
    """How the layer weights and the linear head on a frozen model are trained, with AdamW."""

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2


@dataclass(frozen=True)
class TuningSettings:
    """How a model is fine-tuned: AdamW, a linear warm-up over a tenth of the steps, then a linear decay.

    Attributes:
        learning_rate: of the transformer; the convolutions in front of it stay as they are.
        head_learning_rate: of the linear layer on the mean of the last hidden states.
    """

    epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 2e-5
    head_learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.1


@dataclass(frozen=True)
class TeacherTask:
    """What a teacher is made for.

    Attributes:
        card: what is known of the model and the corpus; `made_by` at least.
        progress: called with (done, all) after each fold.
        on_fold: called with each fold's name and the probe on all of its training set.
    """

    utterances: Sequence[Utterance]
    classes: Sequence[str]
    folds: Sequence[Fold]
    card: Mapping[str, Any]
    seed: int = 0
    progress: audio.Progress | None = None
    on_fold: "Callable[[str, LayerProbe], None] | None" = None

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


def fine_tuned_teacher(
    source: str,
    task: TeacherTask,
    fingerprints: Mapping[str, str],
    *,
    work: Path,
    settings: TuningSettings = TuningSettings(),
    max_seconds: float = 20.0,
    device: str | None = None,
    cross_fit: bool = False,
) -> Teacher:
    """A teacher with a model fine-tuned per fold, and a linear head on the mean of its last hidden states.

    The epoch with the smallest log loss on the fold's validation set counts; the last one where that set is
    empty or tests too. The embeddings are those means, of the fold's own model.

    Args:
        source, max_seconds, device: as of `load`.
        fingerprints: of the recordings, by utterance id.
        work: keeps the outcome of each finished fold, which is then not tuned again.
        cross_fit: a training utterance's logits come from a model tuned without its speaker, as in
            `probe.probe_teacher`; it takes `probe.PARTS` more models per fold. Without it they are
            overconfident on training.
    """
    load_model = functools.partial(load, source, max_seconds=max_seconds)
    identity = load_model(device="cpu").identity
    tuning = _FineTuning(
        task, fingerprints, work, settings, identity, functools.partial(load_model, device=device)
    )
    logits, embeddings, best_epochs = [], [], {}
    for fold in task.folds:
        train = np.array(fold.train)
        parts = held_out_parts(task.speakers[train]) if cross_fit else []
        whole = tuning.outcome(fold.name, train, fold.selection_indices)
        fold_logits = whole.logits[0].copy()
        for number, part in enumerate(parts):
            other = tuning.outcome(f"{fold.name} without part {number}", train[~part], fold.selection_indices)
            fold_logits[train[part]] = other.logits[0][train[part]]
        logits.append(fold_logits)
        embeddings.append(np.asarray(whole.embeddings)[0])
        best_epochs[fold.name] = whole.card["best_epoch"]
        if task.progress:
            task.progress(len(logits), len(task.folds))
    facts = {**asdict(settings), "cross_fitted": cross_fit, "seed": task.seed, "best_epochs": best_epochs}
    encoder = {"source": called(str(source)), **identity}
    return task.teacher(logits, embeddings, {"encoder": encoder, "fine_tuning": facts})


@dataclass(frozen=True)
class _FineTuning:
    """Fine-tuned models of one task; `load_model` gives a fresh one, whose `identity` is known."""

    task: TeacherTask
    fingerprints: Mapping[str, str]
    work: Path
    settings: TuningSettings
    identity: Mapping[str, Any]
    load_model: Callable[[], SpeechModel]

    def outcome(self, name: str, train: np.ndarray, judged: Sequence[int]) -> Teacher:
        """The outputs of a model tuned on `train`: from its file in `work`, or made now."""
        task = self.task
        path = self._path(name, train, judged)
        if not path.exists():
            logits, embeddings, epoch = _tune(
                self.load_model(),
                task.utterances,
                task.labels,
                train,
                judged,
                classes=len(task.classes),
                seed=fold_seed(task.seed, f"fine-tune {name}"),
                settings=self.settings,
            )
            ids = tuple(utterance.id for utterance in task.utterances)
            card = {"best_epoch": epoch}
            done = Teacher(ids, tuple(task.classes), logits[None], (name,), card, embeddings[None])
            teachers.write(path, done)
        return teachers.read(path)

    def _path(self, name: str, train: np.ndarray, judged: Sequence[int]) -> Path:
        """Named after all that decides the outcome."""
        task, labels = self.task, self.task.labels
        ids = [utterance.id for utterance in task.utterances]
        sets = [
            [(ids[i], self.fingerprints[ids[i]], int(labels[i])) for i in rows]
            for rows in (train, judged, range(len(ids)))
        ]
        decides = [
            _TUNING_VERSION,
            self.identity,
            asdict(self.settings),
            list(task.classes),
            name,
            task.seed,
            sets,
        ]
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
        return self.work / f"{self.identity['family']}-{key}.npz"


def _utterance_means(
    model: SpeechModel, utterances: Sequence[Utterance], rows: Sequence[int] | np.ndarray
) -> Iterator[tuple[np.ndarray, "torch.Tensor"]]:
    """The rows in an order that suits the model, a few at a time, with the means of their last states."""
    for chunk in _chunks(np.asarray(rows), 64):
        waveforms = []
        for result in audio.read_all([utterances[i].path for i in chunk]):
            if isinstance(result, audio.AudioError):
                raise result
            waveforms.append(result)
        for batch in length_batches([len(waveform) for waveform in waveforms], model):
            yield chunk[batch], mean_states(model, [waveforms[i] for i in batch], every_layer=False)


class LayerProbe:
    """A weighted sum of layers and a linear head, trained on some rows.

    With `judged` rows it is that of the epoch with the smallest log loss on them, else that of the last.
    """

    def __init__(
        self,
        layers: Embeddings,
        labels: np.ndarray,
        train: np.ndarray,
        judged: np.ndarray | None,
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
                if judged is not None:
                    loss = log_loss(labels[judged], self.logits(layers, judged))
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
            return np.concatenate([self._scores(layers, part).numpy() for part in _chunks(rows)])

    def weighted_sums(self, layers: Embeddings, rows: np.ndarray) -> np.ndarray:
        weights = self.layer_weights
        return np.concatenate(
            [np.einsum("l,nlw->nw", weights, _gathered(layers, part)) for part in _chunks(rows)]
        )


def _chunks(rows: np.ndarray, size: int = 256) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _gathered(layers: Embeddings, rows: np.ndarray) -> np.ndarray:
    return np.stack([layers[i][0] for i in rows]).astype(np.float32)


def _moments(layers: Embeddings, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `(layers, width)` over the rows, without holding them all."""
    mean = np.zeros(layers[0].shape[1:])
    variance = np.zeros_like(mean)
    for part in _chunks(rows):
        mean += _gathered(layers, part).sum(axis=0, dtype=np.float64) / len(rows)
    for part in _chunks(rows):
        variance += ((_gathered(layers, part) - mean) ** 2).sum(axis=0) / len(rows)
    deviation = np.sqrt(variance)
    return mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)


def _tune(
    model: SpeechModel,
    utterances: Sequence[Utterance],
    labels: np.ndarray,
    train: np.ndarray,
    judged: Sequence[int],
    *,
    classes: int,
    seed: int,
    settings: TuningSettings,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Fine-tune `model`; logits and embeddings of every utterance, and the epoch they are of."""
    with reproducible(seed, model.network.device):
        tuned = _TunedModel(model, utterances, labels, classes=classes, settings=settings)
        tuned.plan(steps=settings.epochs * -(-len(train) // settings.batch_size))
        best_loss, best, best_epoch = np.inf, None, settings.epochs
        for epoch in range(settings.epochs):
            tuned.train(train[np.random.default_rng([seed, epoch]).permutation(len(train))])
            if judged:
                logits, _ = tuned.outputs(judged)
                if (loss := log_loss(labels[list(judged)], logits)) < best_loss:
                    best_loss, best_epoch, best = loss, epoch + 1, tuned.weights()
        if best is not None:
            tuned.set_weights(best)
        logits, embeddings = tuned.outputs(range(len(utterances)))
    return logits, embeddings, best_epoch


class _TunedModel:
    """A speech model with a linear head, while it is fine-tuned."""

    def __init__(
        self,
        model: SpeechModel,
        utterances: Sequence[Utterance],
        labels: np.ndarray,
        *,
        classes: int,
        settings: TuningSettings,
    ):
        torch, _ = packages()
        self.model, self.utterances, self.labels, self.settings = model, utterances, labels, settings
        network = model.network
        network.feature_extractor._freeze_parameters()  # its own switch: it keeps no gradients then
        self.head = torch.nn.Linear(model.width, classes).to(network.device)
        self.dropout = torch.nn.Dropout(settings.dropout)
        tuned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.parameters = [*tuned, *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": tuned, "lr": settings.learning_rate},
                {"params": self.head.parameters(), "lr": settings.head_learning_rate},
            ],
            weight_decay=settings.weight_decay,
        )

    def plan(self, *, steps: int) -> None:
        """A linear warm-up over a tenth of the steps, then a linear decay."""
        torch, _ = packages()
        warm_up = max(1, steps // 10)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up)),
        )

    def train(self, order: np.ndarray) -> None:
        """One epoch over the utterances in this order."""
        torch, _ = packages()
        self.model.network.train()
        for rows in _chunks(order, self.settings.batch_size):
            self.optimizer.zero_grad()
            for part, means in _utterance_means(self.model, self.utterances, rows):
                target = torch.from_numpy(self.labels[part]).to(means.device)
                logits = self.head(self.dropout(means))
                loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
                (loss / len(rows)).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.schedule.step()

    def outputs(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Logits `(len(rows), classes)` and embeddings `(len(rows), width)`."""
        torch, _ = packages()
        self.model.network.eval()
        with torch.inference_mode():
            parts, batches = zip(*_utterance_means(self.model, self.utterances, rows), strict=True)
            means = torch.cat(batches)
            logits = self.head(means)
        place = {row: number for number, row in enumerate(np.concatenate(parts).tolist())}
        back = [place[row] for row in rows]
        return logits.cpu().numpy()[back], means.cpu().numpy()[back]

    def weights(self) -> list["torch.Tensor"]:
        return [parameter.detach().cpu().clone() for parameter in self.parameters]

    def set_weights(self, weights: Sequence["torch.Tensor"]) -> None:
        torch, _ = packages()
        with torch.no_grad():
            for parameter, value in zip(self.parameters, weights, strict=True):
                parameter.copy_(value)
