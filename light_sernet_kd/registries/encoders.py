"""The pretrained networks whose states are the input of students of speech and text."""

from dataclasses import dataclass

from light_sernet_kd.registries.lazy import Lazy


@dataclass(frozen=True)
class AudioEncoder:
    """What `--audio_encoder` may name.

    Attributes:
        branch: `(argument, *, spec, samples, data, pca_file)` to a `multimodal.AudioBranch`.
        window_seconds, hop_seconds: seconds of audio behind one row of states, and between two rows.
        front_end: the front end of this package that makes its input; None where it takes recordings.
        open_ended: it is named by something else than its key, which what no other key fits is taken for.
    """

    branch: Lazy
    window_seconds: float
    hop_seconds: float
    front_end: str | None = None
    open_ended: bool = False


AUDIO_ENCODERS: dict[str, AudioEncoder] = {
    "vggish": AudioEncoder(
        Lazy("encoders.multimodal:vggish_branch"),
        window_seconds=0.96,
        hop_seconds=0.96,
        front_end="vggish",
    ),
    "torchvggish": AudioEncoder(
        Lazy("encoders.multimodal:torchvggish_branch"),
        window_seconds=0.96,
        hop_seconds=0.96,
        front_end="vggish",
    ),
    "yamnet": AudioEncoder(
        Lazy("encoders.multimodal:yamnet_branch"),
        window_seconds=0.975,
        hop_seconds=0.48,
    ),
    "speech_model": AudioEncoder(
        Lazy("encoders.multimodal:speech_model_branch"),
        window_seconds=0.02,
        hop_seconds=0.02,
        open_ended=True,
    ),
}
DEFAULT_AUDIO_ENCODER = "vggish"


def audio_encoder(spec: str | None) -> tuple[AudioEncoder, str]:
    """What `--audio_encoder` names, and what follows `=` there (of what is open-ended, all of it).

    >>> audio_encoder("yamnet=my.tflite")[1]
    'my.tflite'
    """
    spec = spec or DEFAULT_AUDIO_ENCODER
    name, _, argument = spec.partition("=")
    entry = AUDIO_ENCODERS.get(name)
    if entry is not None and not entry.open_ended:
        return entry, argument
    return next(each for each in AUDIO_ENCODERS.values() if each.open_ended), spec


@dataclass(frozen=True)
class TextEncoder:
    """What a student reads through where `--text_encoder` names nothing else.

    Attributes:
        preset: of keras-hub.
        layers: how many of its first ones are kept; None: all.
    """

    preset: str
    layers: int | None = None


# The truncated ones are those of DistilSER (ICTC 2024), `electra` is that of Multi-Still.
TEXT_ENCODERS: dict[str, TextEncoder] = {
    "bert": TextEncoder("bert_base_en_uncased"),
    "distilbert": TextEncoder("distil_bert_base_en_uncased"),
    "minibert": TextEncoder("bert_base_en_uncased", layers=8),
    "microbert": TextEncoder("bert_base_en_uncased", layers=6),
    "nanobert": TextEncoder("bert_base_en_uncased", layers=4),
    "picobert": TextEncoder("bert_base_en_uncased", layers=2),
    "bert_medium": TextEncoder("bert_medium_en_uncased"),
    "bert_small": TextEncoder("bert_small_en_uncased"),
    "bert_tiny": TextEncoder("bert_tiny_en_uncased"),
    "electra": TextEncoder("electra_base_discriminator_uncased_en"),
}
