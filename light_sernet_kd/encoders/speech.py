"""Self-supervised speech models as teachers: WavLM, wav2vec 2.0 and HuBERT, probed or fine-tuned per fold.

They come from a folder or from the Hugging Face hub through transformers, and run in PyTorch; both come
with the extra `ssl`.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError, first_line, install_line
from light_sernet_kd.files import read_json
from light_sernet_kd.registries.teachers import TEACHER_SOURCES

if TYPE_CHECKING:
    import torch

# Their names are the `model_type` of transformers.
FAMILIES = tuple(name for name, each in TEACHER_SOURCES.items() if each.fine_tunes and each.model)
# How much audio, padding included, goes through a model at once.
_BATCH_SAMPLES = 60 * SAMPLE_RATE


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


def load(
    source: str, *, max_seconds: float = 20.0, device: str | None = None, family: str | None = None
) -> SpeechModel:
    """A model by its name on the hub, such as `microsoft/wavlm-base-plus`, or from a folder.

    Args:
        device: by default a GPU that PyTorch can use, else the processor.
        family: that it must be of; by default any of `FAMILIES`.

    Raises:
        UserError: the extra is not installed, the model cannot be had, is of another family or rate, or lacks
            weights.
    """
    torch, transformers = packages()
    if not 0.1 <= max_seconds < np.inf:
        raise UserError(f"max seconds must be at least 0.1, found {max_seconds:g}.")
    with readable(source, "speech model", "config.json, preprocessor_config.json"):
        config = transformers.AutoConfig.from_pretrained(source)
        extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(source)
        check_family(source, config.model_type, family)
        # Dropped layers and masked features would make training depend on more than the seed.
        config.layerdrop, config.apply_spec_augment = 0.0, False
        with quiet(transformers):
            network, report = transformers.AutoModel.from_pretrained(
                source, config=config, dtype=torch.float32, output_loading_info=True
            )
    # The embedding that hides masked frames in pretraining is not needed here.
    check_weights(source, [name for name in report["missing_keys"] if "masked_spec_embed" not in name])
    if extractor.sampling_rate != SAMPLE_RATE:
        raise UserError(f"{source} takes audio at {extractor.sampling_rate} Hz; it must be {SAMPLE_RATE} Hz.")
    known_by = weights_digest(network)
    network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    pads = config.feat_extract_norm == "layer"
    return SpeechModel(network, str(source), known_by, bool(extractor.do_normalize), pads, max_seconds)


def check_family(source: str, kind: object, family: str | None = None) -> None:
    """Refuse a model whose `model_type` is another one than `family`, or none of `FAMILIES`."""
    if kind not in FAMILIES:
        remedy = f" As a teacher it is whisper={source}." if kind == "whisper" else ""
        raise UserError(f"{source} is a {kind} model; the known ones are {', '.join(FAMILIES)}.{remedy}")
    if kind != (family or kind):
        raise UserError(f"{source} is a {kind} model and no {family}: name it {kind}={source}.")


def digest(source: str, family: str) -> str | None:
    """Hash of the files of a folder that decide what its model says; None of a name on the hub.

    Raises:
        UserError: a folder that is not there or holds no model of that family.
    """
    folder = folder_of(source, "microsoft/wavlm-base-plus")
    if folder is None:
        return None
    configs = ("config.json", "preprocessor_config.json")
    for name in configs:
        if not (folder / name).is_file():
            raise UserError(f"no speech model in {folder}: expected {' and '.join(configs)} and weights.")
    check_family(source, model_type(folder), family)
    return files_digest(folder, configs)


def layer_encoder_of(source: str, family: str | None = None) -> Encoder:
    """`layer_encoder` of the model that `load` loads."""
    again = functools.partial(layer_encoder_of, source, family)
    return dataclasses.replace(layer_encoder(load(source, family=family)), recreate=again)


def layer_encoder(model: SpeechModel, *, dtype: Literal["float32", "float16"] = "float16") -> Encoder:
    """The frozen model as an encoder: each layer's hidden states, averaged over time, `(layers, width)`."""
    torch, _ = packages()

    def encode(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = [np.empty(0, np.float32)] * len(waveforms)
        for batch in length_batches([len(waveform) for waveform in waveforms], model):
            with torch.inference_mode():
                states = mean_states(model, [waveforms[i] for i in batch], every_layer=True)
            for i, rows in zip(batch, states.cpu().numpy(), strict=True):
                outputs[i] = rows[None]
        return outputs

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
    torch, _ = packages()

    def encode(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = [np.empty(0, np.float32)] * len(waveforms)
        for batch in length_batches([len(waveform) for waveform in waveforms], model):
            with torch.inference_mode():
                output, frames = _output(model, [waveforms[i] for i in batch])
            # Not the last of `hidden_states`, which the large models' final norm has not passed.
            states = output.last_hidden_state.cpu().numpy()
            for i, rows, count in zip(batch, states, frames, strict=True):
                outputs[i] = rows[:count]
        return outputs

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


def packages():
    """The packages `torch` and `transformers`.

    Raises:
        UserError: one is not installed.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise UserError(
            f"speech models need PyTorch and transformers ({error}): {install_line('ssl')}"
        ) from None
    return torch, transformers


@contextlib.contextmanager
def readable(source: str, what: str, files: str) -> Iterator[None]:
    """Around what transformers reads of `source`: a model that cannot be had is a `UserError`.

    Args:
        files: what its folder should hold beside weights.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(
            f"no {what} in {source}: {first_line(error)}. Expected a folder with {files} and weights, or a "
            "model's name on the Hugging Face hub."
        ) from None


def check_weights(source: str, missing: Sequence[str]) -> None:
    """Refuse a model that lacks these of its weights."""
    if missing:
        raise UserError(f"{source} lacks {len(missing)} of its weights, e.g. {min(missing)}.")


def folder_of(source: str, example: str) -> Path | None:
    """The folder that `source` is; None where it is a name on the hub, such as `example`.

    Raises:
        UserError: it is neither.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise UserError(f"there is no folder {source}. A model on the hub is named as {example} is.")
    return None


def model_type(folder: Path) -> object:
    """What `config.json` in a folder of transformers says of the model's family.

    Raises:
        FileNotFoundError: there is none.
        JsonError: it cannot be read.
    """
    config = read_json(folder / "config.json")
    return config.get("model_type") if isinstance(config, dict) else None


def files_digest(folder: Path, configs: Sequence[str] = ("config.json",)) -> str:
    """Hash of the weights in a folder of transformers and of these files."""
    weights = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")]
    files = [folder / name for name in configs] + sorted(weights)
    hashes = [f"{path.name} {audio.fingerprint(path)}" for path in files]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


@contextlib.contextmanager
def quiet(transformers) -> Iterator[None]:
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


def weights_digest(network) -> str:
    """Hash of a model's configuration and weights, wherever it was loaded from."""
    config = network.config.to_diff_dict()  # fields that later releases add do not count
    for name in ("_name_or_path", "transformers_version", "architectures", "dtype", "_commit_hash"):
        config.pop(name, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        if "masked_spec_embed" not in name:
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


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


def length_batches(lengths: Sequence[int], model: SpeechModel) -> Iterator[list[int]]:
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


def mean_states(model: SpeechModel, waveforms: Sequence[np.ndarray], *, every_layer: bool) -> "torch.Tensor":
    """Hidden states, averaged over each utterance's own frames.

    Returns:
        `(utterances, layers, width)`, or `(utterances, width)` of the last layer.
    """
    torch, _ = packages()
    output, frames = _output(model, waveforms)
    states = output.hidden_states
    inside = torch.from_numpy(np.arange(states[-1].shape[1]) < frames[:, None]).to(model.network.device)
    share = (inside / inside.sum(dim=1, keepdim=True))[..., None]
    if not every_layer:
        return (states[-1] * share).sum(dim=1)
    return torch.stack([(layer * share).sum(dim=1) for layer in states], dim=1)


def _output(model: SpeechModel, waveforms: Sequence[np.ndarray]) -> tuple[Any, np.ndarray]:
    """What the network says, `hidden_states` included, and how many frames each utterance has."""
    torch, _ = packages()
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


@contextlib.contextmanager
def reproducible(seed: int, device) -> Iterator[None]:
    """PyTorch with this seed and deterministic algorithms; both are as before afterwards."""
    torch, _ = packages()
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
