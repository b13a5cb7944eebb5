"""Teachers on self-supervised speech models: a probe on their layers, or the model fine-tuned."""

import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
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


def layer_probe_teacher(
    layers: Embeddings,
    utterances: Sequence[Utterance],
    classes: Sequence[str],
    folds: Sequence[Fold],
    *,
    card: Mapping[str, Any],
    seed: int = 0,
    settings: ProbeSettings = ProbeSettings(),
    cross_fit: bool = True,
    progress: audio.Progress | None = None,
) -> Teacher:
    """A teacher with, per fold, a learned weighted sum of a frozen model's layers and a linear head on it.

    The epoch with the smallest log loss on the fold's validation set counts. Where that set is empty or
    tests too, the number of epochs is the median of what is best for training speakers held out in turn.
    `cross_fit` is as in `probe.probe_teacher`. The embeddings are each fold's weighted sums.

    Args:
        layers: what `layer_encoder` gave for the utterances.
        card: what is known of the model and the corpus; `made_by` at least.

    Source: Yang et al. 2021, arXiv:2105.01051, section 3 (the weighted sum).
    """
    labels, speakers = class_indices(utterances, classes), _speakers(utterances)
    everything = np.arange(len(utterances))
    logits, embeddings, details = [], [], {}
    for fold in folds:
        train = np.array(fold.train)
        own_seed = fold_seed(seed, f"layer probe {fold.name}")
        parts = held_out_parts(speakers[train])

        def fit(
            rows: np.ndarray, judged: np.ndarray | None, epochs: int = settings.epochs, own_seed=own_seed
        ):
            return _LayerProbe(
                layers,
                labels,
                rows,
                judged,
                classes=len(classes),
                epochs=epochs,
                seed=own_seed,
                settings=settings,
            )

        if fold.selection_indices:
            probe = fit(train, np.array(fold.selection_indices))
        else:
            best = [fit(train[~part], train[part]).best_epoch for part in parts]
            probe = fit(train, None, round(statistics.median(best)))
        found = probe.logits(layers, everything)
        if cross_fit:
            for part in parts:
                other = fit(train[~part], None, probe.best_epoch)
                found[train[part]] = other.logits(layers, train[part])
        logits.append(found)
        embeddings.append(probe.weighted_sums(layers, everything))
        details[fold.name] = {
            "best_epoch": probe.best_epoch,
            "layer_weights": np.round(probe.layer_weights, 4).tolist(),
        }
        if progress:
            progress(len(logits), len(folds))
    return _teacher(
        utterances,
        classes,
        folds,
        np.stack(logits),
        np.stack(embeddings),
        {**card, "probe": {**asdict(settings), "cross_fitted": cross_fit, "seed": seed, "folds": details}},
    )


def fine_tuned_teacher(
    source: str,
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    classes: Sequence[str],
    folds: Sequence[Fold],
    *,
    card: Mapping[str, Any],
    work: Path,
    seed: int = 0,
    settings: TuningSettings = TuningSettings(),
    max_seconds: float = 20.0,
    device: str | None = None,
    cross_fit: bool = False,
    progress: audio.Progress | None = None,
) -> Teacher:
    """A teacher with a model fine-tuned per fold, and a linear head on the mean of its last hidden states.

    The epoch with the smallest log loss on the fold's validation set counts; the last one where that set is
    empty or tests too. The embeddings are those means, of the fold's own model.

    Args:
        source, max_seconds, device: as of `load`.
        work: keeps the outcome of each finished fold, which is then not tuned again.
        card: what is known of the corpus; `made_by` at least.
        cross_fit: a training utterance's logits come from a model tuned without its speaker, as in
            `probe.probe_teacher`; it takes `probe.PARTS` more models per fold. Without it they are
            overconfident on training.
        progress: called with (done, all) after each fold.
    """
    labels, speakers = class_indices(utterances, classes), _speakers(utterances)
    identity = load(source, max_seconds=max_seconds, device="cpu").identity

    def outcome(name: str, train: np.ndarray, judged: Sequence[int]) -> Teacher:
        sets = [
            [(utterances[i].id, fingerprints[utterances[i].id], int(labels[i])) for i in rows]
            for rows in (train, judged, range(len(utterances)))
        ]
        decides = [_TUNING_VERSION, identity, asdict(settings), list(classes), name, seed, sets]
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
        path = work / f"{identity['family']}-{key}.npz"
        if not path.exists():
            model = load(source, max_seconds=max_seconds, device=device)
            logits, embeddings, epoch = _tune(
                model,
                utterances,
                labels,
                train,
                judged,
                classes=len(classes),
                seed=fold_seed(seed, f"fine-tune {name}"),
                settings=settings,
            )
            ids = tuple(utterance.id for utterance in utterances)
            done = Teacher(
                ids, tuple(classes), logits[None], (name,), {"best_epoch": epoch}, embeddings[None]
            )
            teachers.write(path, done)
        return teachers.read(path)

    logits, embeddings, best = [], [], {}
    for fold in folds:
        train = np.array(fold.train)
        parts = held_out_parts(speakers[train]) if cross_fit else []
        whole = outcome(fold.name, train, fold.selection_indices)
        found = whole.logits[0].copy()
        for number, part in enumerate(parts):
            other = outcome(f"{fold.name} without part {number}", train[~part], fold.selection_indices)
            found[train[part]] = other.logits[0][train[part]]
        logits.append(found)
        embeddings.append(np.asarray(whole.embeddings)[0])
        best[fold.name] = whole.card["best_epoch"]
        if progress:
            progress(len(logits), len(folds))
    tuning = {**asdict(settings), "cross_fitted": cross_fit, "seed": seed, "best_epochs": best}
    return _teacher(
        utterances,
        classes,
        folds,
        np.stack(logits),
        np.stack(embeddings),
        {**card, "encoder": {"source": str(source), **identity}, "fine_tuning": tuning},
    )


def _speakers(utterances: Sequence[Utterance]) -> np.ndarray:
    return np.array([utterance.speaker for utterance in utterances])


def _teacher(
    utterances: Sequence[Utterance],
    classes: Sequence[str],
    folds: Sequence[Fold],
    logits: np.ndarray,
    embeddings: np.ndarray,
    card: Mapping[str, Any],
) -> Teacher:
    return Teacher(
        ids=tuple(utterance.id for utterance in utterances),
        classes=tuple(classes),
        logits=logits.astype(np.float32),
        folds=tuple(fold.name for fold in folds),
        card={**card, "train_speakers": teachers.train_speakers(folds, utterances)},
        embeddings=embeddings.astype(np.float32),
    )


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


class _LayerProbe:
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
    torch, _ = packages()
    network, device = model.network, model.network.device
    network.feature_extractor._freeze_parameters()  # its own switch: it keeps no gradients then
    steps = settings.epochs * -(-len(train) // settings.batch_size)
    warm_up = max(1, steps // 10)
    with reproducible(seed, device):
        head = torch.nn.Linear(model.width, classes).to(device)
        dropout = torch.nn.Dropout(settings.dropout)
        tuned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {"params": tuned, "lr": settings.learning_rate},
                {"params": head.parameters(), "lr": settings.head_learning_rate},
            ],
            weight_decay=settings.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up)),
        )

        def outputs(rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
            network.eval()
            with torch.inference_mode():
                parts, found = zip(*_utterance_means(model, utterances, rows), strict=True)
                means = torch.cat(found)
                scores = head(means)
            place = {row: number for number, row in enumerate(np.concatenate(parts).tolist())}
            back = [place[row] for row in rows]
            return scores.cpu().numpy()[back], means.cpu().numpy()[back]

        best_loss, best, best_epoch = np.inf, None, settings.epochs
        for epoch in range(settings.epochs):
            network.train()
            order = train[np.random.default_rng([seed, epoch]).permutation(len(train))]
            for start in range(0, len(order), settings.batch_size):
                rows = order[start : start + settings.batch_size]
                optimizer.zero_grad()
                for part, means in _utterance_means(model, utterances, rows):
                    target = torch.from_numpy(labels[part]).to(device)
                    loss = torch.nn.functional.cross_entropy(head(dropout(means)), target, reduction="sum")
                    (loss / len(rows)).backward()
                torch.nn.utils.clip_grad_norm_([*tuned, *head.parameters()], 1.0)
                optimizer.step()
                schedule.step()
            if judged:
                found, _ = outputs(judged)
                if (loss_now := log_loss(labels[list(judged)], found)) < best_loss:
                    best_loss, best_epoch = loss_now, epoch + 1
                    best = [value.detach().cpu().clone() for value in (*tuned, *head.parameters())]
        if best is not None:
            with torch.no_grad():
                for parameter, value in zip((*tuned, *head.parameters()), best, strict=True):
                    parameter.copy_(value)
        logits, embeddings = outputs(range(len(utterances)))
    return logits, embeddings, best_epoch
