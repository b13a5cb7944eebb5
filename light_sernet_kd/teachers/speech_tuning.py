"""Teachers that are a self-supervised speech model, fine-tuned per fold."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import audio, teachers
from light_sernet_kd.arrays import ArrayError, read_arrays, say_anew
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.protocols import fold_seed
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.encoders.speech import (
    SpeechModel,
    length_batches,
    load,
    mean_states,
    packages,
    reproducible,
)
from light_sernet_kd.evaluation import log_loss
from light_sernet_kd.files import write_arrays
from light_sernet_kd.teachers import Teacher
from light_sernet_kd.teachers.outputs import model_name
from light_sernet_kd.teachers.probe import held_out_parts
from light_sernet_kd.teachers.speech_probe import TeacherTask, chunks

if TYPE_CHECKING:
    import torch

# Raised when the same settings give other numbers: old fine-tuned folds are then not used.
_TUNING_VERSION = 1


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


def fine_tuned_teacher(
    source: str,
    task: TeacherTask,
    fingerprints: Mapping[str, str],
    *,
    work: Path,
    settings: TuningSettings = TuningSettings(),
    family: str | None = None,
    cross_fit: bool = False,
) -> Teacher:
    """A teacher with a model fine-tuned per fold, and a linear head on the mean of its last hidden states.

    The epoch with the smallest log loss on the fold's validation set counts; the last one where that set is
    empty or tests too. The embeddings are those means, of the fold's own model.

    Args:
        source, family: as of `load`.
        fingerprints: of the recordings, by utterance id.
        work: keeps the outcome of each finished fold, which is then not tuned again; its weights only until
            `task.on_tuned` returns.
        cross_fit: a training utterance's logits come from a model tuned without its speaker, as in
            `probe.probe_teacher`; it takes `probe.PARTS` more models per fold. Without it they are
            overconfident on training.
    """
    load_model = functools.partial(load, source, family=family)
    model = load_model(device="cpu")
    identity = model.identity
    tuning = _FineTuning(task, fingerprints, work, settings, identity, model.width, load_model)
    del model
    logits, embeddings, best_epochs = [], [], {}
    for fold in task.folds:
        train = np.array(fold.train)
        parts = held_out_parts(task.speakers[train]) if cross_fit else []
        whole = tuning.outcome(
            fold.name, train, fold.selection_indices, keeps_weights=task.on_tuned is not None
        )
        if task.on_tuned:
            with tuning.encoder(fold.name, train, fold.selection_indices) as encoder:
                task.on_tuned(fold.name, encoder, len(task.classes))
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
    of_source = {"source": model_name(str(source)), **identity}
    return task.teacher(logits, embeddings, {"encoder": of_source, "fine_tuning": facts})


@dataclass(frozen=True)
class _FineTuning:
    """Fine-tuned models of one task; `load_model` gives a fresh one, whose identity and width are known."""

    task: TeacherTask
    fingerprints: Mapping[str, str]
    work: Path
    settings: TuningSettings
    identity: Mapping[str, Any]
    width: int
    load_model: Callable[[], SpeechModel]

    def outcome(
        self, name: str, train: np.ndarray, selection_rows: Sequence[int], *, keeps_weights: bool = False
    ) -> Teacher:
        """The outputs of a model tuned on `train`: from its file in `work`, or made now."""
        path = self._path(name, train, selection_rows)
        if not path.exists():
            self._tune(name, train, selection_rows, keeps_weights=keeps_weights)
        return teachers.read(path)

    @contextlib.contextmanager
    def encoder(self, name: str, train: np.ndarray, selection_rows: Sequence[int]) -> Iterator[Encoder]:
        """The model tuned on `train`, whose outcome is there; its weights are removed at the end.

        Where they are not there, and a row is asked for that no cache has, it is tuned again.
        """
        torch, _ = packages()
        path = self._path(name, train, selection_rows)

        @functools.cache
        def tuned() -> _TunedModel:
            try:
                kept = read_arrays(_weights_file(path), sealed=True)
            except FileNotFoundError:
                return self._tune(name, train, selection_rows, keeps_weights=True)
            except ArrayError as error:
                say_anew(error)
                return self._tune(name, train, selection_rows, keeps_weights=True)
            model = self._untuned()
            model.set_weights([torch.from_numpy(kept[str(number)]) for number in range(len(kept))])
            return model

        yield Encoder(
            f"{self.identity['family']}-tuned",
            {"outcome": path.stem, "fold": name},
            (len(self.task.classes) + self.width,),
            lambda waveforms: (row[None] for row in np.concatenate(tuned().of_waveforms(waveforms), axis=1)),
        )
        _weights_file(path).unlink(missing_ok=True)

    def _untuned(self) -> "_TunedModel":
        task = self.task
        return _TunedModel(
            self.load_model(),
            task.utterances,
            task.labels,
            classes=len(task.classes),
            settings=self.settings,
        )

    def _tune(
        self, name: str, train: np.ndarray, selection_rows: Sequence[int], *, keeps_weights: bool
    ) -> "_TunedModel":
        """Tune a model and write its outcome, and before it the weights where they are kept."""
        task, path = self.task, self._path(name, train, selection_rows)
        tuned = _tune(
            self.load_model(),
            task.utterances,
            task.labels,
            train,
            selection_rows,
            classes=len(task.classes),
            seed=fold_seed(task.seed, f"fine-tune {name}"),
            settings=self.settings,
        )
        if keeps_weights:
            weights = [weight.numpy() for weight in tuned.model.weights()]
            write_arrays(_weights_file(path), {str(number): each for number, each in enumerate(weights)})
        ids = tuple(utterance.id for utterance in task.utterances)
        card = {"best_epoch": tuned.epoch}
        done = Teacher(ids, tuple(task.classes), tuned.logits[None], (name,), card, tuned.embeddings[None])
        teachers.write(path, done)
        return tuned.model

    def _path(self, name: str, train: np.ndarray, selection_rows: Sequence[int]) -> Path:
        """Named after all that decides the outcome."""
        task, labels = self.task, self.task.labels
        ids = [utterance.id for utterance in task.utterances]
        sets = [
            [(ids[i], self.fingerprints[ids[i]], int(labels[i])) for i in rows]
            for rows in (train, selection_rows, range(len(ids)))
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


def _weights_file(outcome: Path) -> Path:
    """Where the weights lie that an outcome is of."""
    return outcome.with_suffix(".weights.npz")


def _utterance_means(
    model: SpeechModel, utterances: Sequence[Utterance], rows: Sequence[int] | np.ndarray
) -> Iterator[tuple[np.ndarray, "torch.Tensor"]]:
    """The rows in an order that suits the model, a few at a time, with the means of their last states."""
    for chunk in chunks(np.asarray(rows), 64):
        waveforms = []
        for result in audio.read_all([utterances[i].path for i in chunk]):
            if isinstance(result, audio.AudioError):
                raise result
            waveforms.append(result)
        for batch in length_batches([len(waveform) for waveform in waveforms], model):
            yield chunk[batch], mean_states(model, [waveforms[i] for i in batch], every_layer=False)


@dataclass(frozen=True)
class _Tuned:
    """A fine-tuned model, the epoch that it is of, and what it says of every utterance."""

    model: "_TunedModel"
    epoch: int
    logits: np.ndarray
    embeddings: np.ndarray


def _tune(
    model: SpeechModel,
    utterances: Sequence[Utterance],
    labels: np.ndarray,
    train: np.ndarray,
    selection_rows: Sequence[int],
    *,
    classes: int,
    seed: int,
    settings: TuningSettings,
) -> _Tuned:
    """Fine-tune `model`."""
    with reproducible(seed, model.network.device):
        tuned = _TunedModel(model, utterances, labels, classes=classes, settings=settings)
        tuned.plan(steps=settings.epochs * -(-len(train) // settings.batch_size))
        best_loss, best, best_epoch = np.inf, None, settings.epochs
        for epoch in range(settings.epochs):
            tuned.train(train[np.random.default_rng([seed, epoch]).permutation(len(train))])
            if selection_rows:
                logits, _ = tuned.outputs(selection_rows)
                if (loss := log_loss(labels[list(selection_rows)], logits)) < best_loss:
                    best_loss, best_epoch, best = loss, epoch + 1, tuned.weights()
        if best is not None:
            tuned.set_weights(best)
        logits, embeddings = tuned.outputs(range(len(utterances)))
    return _Tuned(tuned, best_epoch, logits, embeddings)


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
        for rows in chunks(order, self.settings.batch_size):
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

    def of_waveforms(self, waveforms: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Logits `(len(waveforms), classes)` and embeddings `(len(waveforms), width)`."""
        torch, _ = packages()
        self.model.network.eval()
        means = torch.empty(len(waveforms), self.model.width, device=self.model.network.device)
        with torch.inference_mode():
            for batch in length_batches([len(waveform) for waveform in waveforms], self.model):
                means[batch] = mean_states(self.model, [waveforms[i] for i in batch], every_layer=False)
            logits = self.head(means)
        return logits.cpu().numpy(), means.cpu().numpy()

    def weights(self) -> list["torch.Tensor"]:
        return [parameter.detach().cpu().clone() for parameter in self.parameters]

    def set_weights(self, weights: Sequence["torch.Tensor"]) -> None:
        torch, _ = packages()
        with torch.no_grad():
            for parameter, value in zip(self.parameters, weights, strict=True):
                parameter.copy_(value)
