"""Whisper's encoder: a recording's frames of 20 ms in its last layer, as one row.

A model is a folder of transformers, a name on the Hugging Face hub, or a folder of CTranslate2.

Source: Radford et al. 2022, arXiv:2212.04356, and https://github.com/openai/whisper
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.encoders import speech
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError, first_line, install_line
from light_sernet_kd.features.filterbanks import mel_matrix, window_of
from light_sernet_kd.registries.front_ends import SpectrumSettings
from light_sernet_kd.registries.teachers import TEACHER_SOURCES

DEFAULT = TEACHER_SOURCES["whisper"].model
# A mel frame is 10 ms. Two of them are a frame of the encoder.
HOP = SAMPLE_RATE // 100
# Frames that CTranslate2's encoder takes at most: 30 s, as every released model.
_WINDOW_FRAMES = 1500
_CTRANSLATE2_FILE = "model.bin"


@dataclass(frozen=True)
class WhisperEncoder:
    """An encoder that runs.

    Attributes:
        states: `(mel bands, mel frames)` float32, of one window with what pads it, to `(frames, width)`.
        window_frames: how many frames of 20 ms a window has.
        identity: everything that decides its numbers.
    """

    states: Callable[[np.ndarray], np.ndarray]
    mel_bands: int
    window_frames: int
    width: int
    identity: dict[str, Any]


def encoder(source: str = "") -> Encoder:
    """Whisper as an encoder: mean and standard deviation over a recording's frames, one row.

    Args:
        source: a folder of CTranslate2 or transformers, or a name on the hub; empty for OpenAI's base model.

    Raises:
        UserError: no such folder, no Whisper model, or a package that it needs is not installed.
    """
    model = load(source or DEFAULT)

    def encode(waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        return (statistics(frames(waveform, model))[None] for waveform in waveforms)

    identity = {**model.identity, "pooling": "mean and standard deviation of the last layer's frames"}
    again = functools.partial(encoder, source)
    return Encoder("whisper", identity, (2 * model.width,), encode, recreate=again)


def load(source: str) -> WhisperEncoder:
    """The encoder of a folder, or of a name on the hub.

    Raises:
        UserError: as `encoder`.
    """
    if folder := speech.folder_of(source, DEFAULT):
        if (folder / _CTRANSLATE2_FILE).is_file():
            return _of_ctranslate2(folder)
        _check_config(folder)
    return _of_transformers(source)


def digest(source: str) -> str | None:
    """Hash of the files of a folder that decide its rows; None of a name on the hub.

    Raises:
        UserError: a folder that is not there or holds no Whisper model.
    """
    folder = speech.folder_of(source, DEFAULT)
    if folder is None:
        return None
    if (folder / _CTRANSLATE2_FILE).is_file():
        return audio.fingerprint(folder / _CTRANSLATE2_FILE)
    _check_config(folder)
    return speech.files_digest(folder)


def statistics(frames: np.ndarray) -> np.ndarray:
    """Mean and standard deviation over frames `(frames, width)`, float32 `(2 * width,)`."""
    exact = frames.astype(np.float64)
    return np.concatenate([exact.mean(axis=0), exact.std(axis=0)]).astype(np.float32)


def frames(waveform: np.ndarray, model: WhisperEncoder) -> np.ndarray:
    """The last layer's frames of a recording `(samples,)`, `(frames, width)`, without those of padding.

    A window that the recording does not fill is padded with zeros behind its log-mel frames, and windows
    follow one another, both as in `transcribe` of the release.
    """
    features, mel_frames = log_mel(waveform, model.mel_bands), 2 * model.window_frames
    parts = []
    for start in range(0, features.shape[1], mel_frames):
        window = features[:, start : start + mel_frames]
        real = -(-window.shape[1] // 2)
        padded = np.pad(window, ((0, 0), (0, mel_frames - window.shape[1])))
        parts.append(model.states(padded)[:real])
    return np.concatenate(parts)


def log_mel(waveform: np.ndarray, bands: int) -> np.ndarray:
    """Whisper's features of a recording `(samples,)`, float32 `(bands, ceil(samples / 160))`.

    The logarithm of Slaney's mel bands of the power spectrum, from the loudest to 80 dB below it, divided by
    40 dB, with 1 at a power of 1.
    """
    window, mel = _spectrum(bands)
    reach = len(window) // 2
    silence = np.pad(np.asarray(waveform, np.float32), (0, HOP))  # behind the last sample, as in the release
    centred = np.pad(silence, reach, mode="reflect")
    every = np.lib.stride_tricks.sliding_window_view(centred, len(window))[::HOP]
    spectrum = np.fft.rfft(every[: -(-len(waveform) // HOP)] * window)
    power = (np.abs(spectrum) ** 2).astype(np.float32)
    logarithms = np.log10(np.maximum(power @ mel, 1e-10))
    return (np.maximum(logarithms, logarithms.max() - 8.0).T + np.float32(4.0)) / np.float32(4.0)


@functools.lru_cache(maxsize=2)
def _spectrum(bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Whisper's window, and its mel bands as a matrix."""
    settings = SpectrumSettings(
        normalise="none", frame_length=400, frame_step=HOP, fft_length=400, window="hann", centred=True,
        power=2, mel_bands=bands, mel_scale="slaney", lowest_hz=0.0, highest_hz=SAMPLE_RATE / 2,
    )  # fmt: skip
    return window_of(settings), mel_matrix(settings)


def _check_config(folder: Path) -> None:
    """Refuse a folder that is none of a Whisper model, before packages are loaded that take seconds."""
    try:
        kind = speech.model_type(folder)
    except FileNotFoundError:
        raise UserError(
            f"no Whisper model in {folder}: expected {_CTRANSLATE2_FILE} (CTranslate2), or config.json and "
            "weights (transformers)."
        ) from None
    if kind != "whisper":
        raise UserError(f"{folder} is not a Whisper model: model_type in its config.json is {kind!r}.")


def _of_ctranslate2(folder: Path) -> WhisperEncoder:
    try:
        import ctranslate2
    except ImportError as error:
        raise UserError(f"{folder} needs CTranslate2 ({error}): {install_line('whisper')}") from None
    try:
        # float32: what it is stored as is what its maker chose, and processors differ in what else they have.
        # On a processor: on a GPU it needs libraries that its package does not bring.
        model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
        bands = int(model.n_mels)
    except Exception as error:  # it has errors of many kinds
        raise UserError(f"no Whisper model of CTranslate2 in {folder}: {first_line(error)}.") from None

    def states(features: np.ndarray) -> np.ndarray:
        batch = ctranslate2.StorageView.from_array(np.ascontiguousarray(features[None]))
        return np.array(model.encode(batch, to_cpu=True))[0]

    return WhisperEncoder(
        states,
        bands,
        _WINDOW_FRAMES,
        # its configuration does not tell the width, which any number of frames has
        states(np.zeros((bands, 2), np.float32)).shape[1],
        {"form": "ctranslate2", "model_sha256": audio.fingerprint(folder / _CTRANSLATE2_FILE)},
    )


def _of_transformers(source: str) -> WhisperEncoder:
    try:
        torch, transformers = speech.packages()
    except UserError as error:
        if Path(source).is_dir():
            raise
        raise UserError(f"there is no folder {source}, and for a name on the hub {error}") from None
    with speech.readable(source, "Whisper model", "config.json"), speech.quiet(transformers):
        config = transformers.AutoConfig.from_pretrained(source)
        if config.model_type != "whisper":
            raise UserError(f"{source} is not a Whisper model but {config.model_type}.")
        whole, report = transformers.WhisperModel.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True
        )
    network = whole.get_encoder()
    speech.check_weights(source, [name for name in report["missing_keys"] if name.startswith("encoder.")])
    model_digest = speech.weights_digest(network)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def states(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            heard = torch.from_numpy(features[None]).to(network.device)
            return network(heard).last_hidden_state[0].cpu().numpy()

    return WhisperEncoder(
        states,
        config.num_mel_bins,
        config.max_source_positions,
        config.d_model,
        {"form": "transformers", "model_sha256": model_digest},
    )
