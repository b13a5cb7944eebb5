"""Self-supervised speech models as teachers: WavLM, wav2vec 2.0 and HuBERT, probed or fine-tuned per fold.

They come from a folder or from the Hugging Face hub through transformers, and run in PyTorch; both come
with the extra `ssl`.
"""

import contextlib
import hashlib
import json
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from light_sernet_kd import audio, teachers
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Utterance, class_indices
from light_sernet_kd.data.protocols import Fold, fold_seed
from light_sernet_kd.encoders.embedding_cache import Embeddings, Encoder
from light_sernet_kd.errors import UserError, install_line
from light_sernet_kd.evaluation import log_loss
from light_sernet_kd.teachers import Teacher
from light_sernet_kd.teachers.probe import held_out_parts

if TYPE_CHECKING:
    import torch

FAMILIES = ("wavlm", "wav2vec2", "hubert")
# How much audio, padding included, goes through a model at once.
_BATCH_SAMPLES = 60 * SAMPLE_RATE
# Raised when the same settings give other numbers: old fine-tuned folds are then not used.
_TUNING_VERSION = 1


@dataclass(frozen=True)
class SpeechModel:
    """A pretrained model, ready to give hidden states.

    Attributes:
        source: where it is from.
        digest: hash of its weights and configuration.
        normalises: each waveform is brought to mean 0 and variance 1, as its feature extractor says.
        pads: its states of an utterance stay the same beside longer ones. Those of a model with a group norm
            do not, since that norm is over time.
        max_seconds: of a longer recording, the middle is taken.
    """

    network: Any
    source: str
    digest: str
    normalises: bool
    pads: bool
    max_seconds: float

    @property
    def width(self) -> int:
        return self.network.config.hidden_size

    @property
    def layers(self) -> int:
        """How many hidden states it has: the projected features, and what each transformer layer gives."""
        return self.network.config.num_hidden_layers + 1

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides its numbers."""
        config = self.network.config
        return {
            "family": config.model_type,
            "model_sha256": self.digest,
            "normalises": self.normalises,
            "max_seconds": self.max_seconds,
        }


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


def load(source: str, *, max_seconds: float = 20.0, device: str | None = None) -> SpeechModel:
    """A model by its name on the hub, such as `microsoft/wavlm-base-plus`, or from a folder.

    Args:
        device: by default a GPU that PyTorch can use, else the processor.

    Raises:
        UserError: the extra is not installed, the model cannot be had, is of another family or rate, or lacks
            weights.
    """
    torch, transformers = _packages()
    if not 0.1 <= max_seconds < np.inf:
        raise UserError(f"max seconds must be at least 0.1, found {max_seconds:g}.")
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(source)
        if config.model_type not in FAMILIES:
            raise UserError(
                f"{source} is a {config.model_type} model; teachers can be {', '.join(FAMILIES)}."
            )
        # Dropped layers and masked features would make training depend on more than the seed.
        config.layerdrop, config.apply_spec_augment = 0.0, False
        with _quiet(transformers):
            network, report = transformers.AutoModel.from_pretrained(
                source, config=config, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"no speech model in {source}: {reason} Expected a folder with config.json, "
            "preprocessor_config.json and weights, or a model's name on the Hugging Face hub."
        ) from None
    # The embedding that hides masked frames in pretraining is not needed here.
    missing = sorted(name for name in report["missing_keys"] if "masked_spec_embed" not in name)
    if missing:
        raise UserError(f"{source} lacks {len(missing)} of its weights, e.g. {missing[0]}.")
    if extractor.sampling_rate != SAMPLE_RATE:
        raise UserError(f"{source} takes audio at {extractor.sampling_rate} Hz; it must be {SAMPLE_RATE} Hz.")
    digest = _digest(network)
    network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    pads = config.feat_extract_norm == "layer"
    return SpeechModel(network, str(source), digest, bool(extractor.do_normalize), pads, max_seconds)


def layer_encoder(model: SpeechModel, *, dtype: Literal["float32", "float16"] = "float16") -> Encoder:
    """The frozen model as an encoder: each layer's hidden states, averaged over time, `(layers, width)`."""
    torch, _ = _packages()

    def encode(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = [np.empty(0, np.float32)] * len(waveforms)
        for batch in _batches([len(waveform) for waveform in waveforms], model):
            with torch.inference_mode():
                states = _means(model, [waveforms[i] for i in batch], every_layer=True)
            for i, rows in zip(batch, states.cpu().numpy(), strict=True):
                found[i] = rows[None]
        return found

    return Encoder(
        f"{model.network.config.model_type}-layers",
        {**model.identity, "pooling": "mean of each layer"},
        (model.layers, model.width),
        encode,
        dtype,
    )


def frame_encoder(model: SpeechModel) -> Encoder:
    """The frozen model as an encoder: its last hidden states, a row `(width,)` float16 per frame of 20 ms.

    Source: Multi-Still (ETRI 2023) trains on them.
    """
    torch, _ = _packages()

    def encode(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = [np.empty(0, np.float32)] * len(waveforms)
        for batch in _batches([len(waveform) for waveform in waveforms], model):
            with torch.inference_mode():
                output, frames = _output(model, [waveforms[i] for i in batch])
            # Not the last of `hidden_states`, which the large models' final norm has not passed.
            states = output.last_hidden_state.cpu().numpy()
            for i, rows, count in zip(batch, states, frames, strict=True):
                found[i] = rows[:count]
        return found

    return Encoder(
        f"{model.network.config.model_type}-frames",
        {**model.identity, "pooling": "none: the last layer's frames"},
        (model.width,),
        encode,
        "float16",
    )


def frames_of(model: SpeechModel, samples: int) -> int:
    """How many frames the model makes of a clip."""
    config = model.network.config
    count = frame_counts(np.array([samples]), config.conv_kernel, config.conv_stride)
    return max(1, int(count[0]))


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

        if fold.judges:
            probe = fit(train, np.array(fold.judges))
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
        whole = outcome(fold.name, train, fold.judges)
        found = whole.logits[0].copy()
        for number, part in enumerate(parts):
            other = outcome(f"{fold.name} without part {number}", train[~part], fold.judges)
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


def _packages():
    try:
        import torch
        import transformers
    except ImportError as error:
        raise UserError(
            f"speech models need PyTorch and transformers ({error}): {install_line('ssl')}"
        ) from None
    return torch, transformers


@contextlib.contextmanager
def _quiet(transformers) -> Iterator[None]:
    """What transformers says about the heads of a checkpoint that are not used is of no concern here."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _digest(network) -> str:
    """Hash of a model's configuration and weights, wherever it was loaded from."""
    told = network.config.to_diff_dict()  # fields that later releases add do not count
    for name in ("_name_or_path", "transformers_version", "architectures", "dtype", "_commit_hash"):
        told.pop(name, None)
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        if "masked_spec_embed" not in name:
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


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


# Waveforms through a model


def frame_counts(samples: np.ndarray, kernels: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """How many frames a stack of unpadded convolutions makes of so many samples."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def _shortest(config) -> int:
    """The number of samples that make one frame."""
    samples = 1
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
        samples = (samples - 1) * stride + kernel
    return samples


def _batches(lengths: Sequence[int], model: SpeechModel) -> Iterator[list[int]]:
    """Indices of waveforms that may go through the model together, shortest first."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        length = lengths[i]
        full = (len(batch) + 1) * length > _BATCH_SAMPLES
        if batch and (full or (not model.pads and length != lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _means(model: SpeechModel, waveforms: Sequence[np.ndarray], *, every_layer: bool) -> "torch.Tensor":
    """Hidden states, averaged over each utterance's own frames.

    Returns:
        `(utterances, layers, width)`, or `(utterances, width)` of the last layer.
    """
    torch, _ = _packages()
    output, frames = _output(model, waveforms)
    states = output.hidden_states
    inside = torch.from_numpy(np.arange(states[-1].shape[1]) < frames[:, None]).to(model.network.device)
    share = (inside / inside.sum(dim=1, keepdim=True))[..., None]
    if not every_layer:
        return (states[-1] * share).sum(dim=1)
    return torch.stack([(layer * share).sum(dim=1) for layer in states], dim=1)


def _output(model: SpeechModel, waveforms: Sequence[np.ndarray]) -> tuple[Any, np.ndarray]:
    """What the network says, `hidden_states` included, and how many frames each utterance has."""
    torch, _ = _packages()
    config, device = model.network.config, model.network.device
    most, least = round(model.max_seconds * SAMPLE_RATE), _shortest(config)
    ready = []
    for waveform in waveforms:
        waveform = audio.fit(waveform, min(most, len(waveform)))
        if model.normalises:
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
        ready.append(audio.fit(waveform, max(least, len(waveform)), pad="right"))
    lengths = np.array([len(waveform) for waveform in ready])
    padded = np.stack([audio.fit(waveform, lengths.max(), pad="right") for waveform in ready])
    mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None]).to(device) if model.pads else None
    with warnings.catch_warnings():
        # WavLM's two masks, in transformers, are of different types
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
        output = model.network(
            torch.from_numpy(padded.astype(np.float32)).to(device),
            attention_mask=None if mask is None else mask.long(),
            output_hidden_states=True,
        )
    return output, frame_counts(lengths, config.conv_kernel, config.conv_stride)


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
        for batch in _batches([len(waveform) for waveform in waveforms], model):
            yield chunk[batch], _means(model, [waveforms[i] for i in batch], every_layer=False)


@contextlib.contextmanager
def _reproducible(seed: int, device) -> Iterator[None]:
    """PyTorch with this seed and deterministic algorithms; both are as before afterwards."""
    torch, _ = _packages()
    was, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was, warn_only=warned)


# Training


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
        torch, _ = _packages()
        count, width = layers[0].shape[1:]
        self._center, self._scale = _moments(layers, train)
        targets = torch.from_numpy(labels)
        with _reproducible(seed, torch.device("cpu")):
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
        torch, _ = _packages()
        standard = (_gathered(layers, rows) - self._center) / self._scale
        return self._head(torch.einsum("l,nlw->nw", self._mix.softmax(dim=0), torch.from_numpy(standard)))

    def logits(self, layers: Embeddings, rows: np.ndarray) -> np.ndarray:
        torch, _ = _packages()
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
    torch, _ = _packages()
    network, device = model.network, model.network.device
    network.feature_extractor._freeze_parameters()  # its own switch: it keeps no gradients then
    steps = settings.epochs * -(-len(train) // settings.batch_size)
    warm_up = max(1, steps // 10)
    with _reproducible(seed, device):
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
