"""The students: networks to logits `(batch, classes)`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from light_sernet_kd.registries.lazy import Lazy


@dataclass(frozen=True)
class Student:
    """How to build a student, and the front end and schedule it was published with.

    Attributes:
        build: `(input_shape, classes, *, width)` to a model of features `(batch, frames, features, 1)`. Of a
            multimodal student `(text_shape, audio_shape, classes, …)` to a head on two encoders' states.
        gains_from_bfloat16: whether it trains faster in it on a processor that has it. Networks of depthwise
            convolutions do not.
        text_encoder: of a multimodal student, its text encoder: a key of `TEXT_ENCODERS`.
        wider_teacher: the student that `--teacher auto` trains; None for a wider network of its own kind.
        pools_states: whether `--pooling` says what it takes of its encoders' states.
        chooses_modality: whether `--modality` says which of its two inputs it gets.
        depth: of a network that `--depth`, `--kernels` and `--local_pooling` shape, the convolutions of its
            published body before the last; None of one that has only a width.
        title: what pictures and pages call it; empty is its key.
    """

    build: Callable[..., Any]
    front_end: str
    schedule: str
    gains_from_bfloat16: bool = True
    text_encoder: str | None = None
    wider_teacher: str | None = None
    pools_states: bool = False
    chooses_modality: bool = False
    depth: int | None = None
    title: str = ""

    @property
    def is_multimodal(self) -> bool:
        """Whether it is a head on the states of a text and an audio encoder."""
        return self.text_encoder is not None


def _cnn(title: str, name: str, *, gains_from_bfloat16: bool = False) -> Student:
    return Student(Lazy(f"students.cnn:{name}"), "cubic", "cubic", gains_from_bfloat16, title=title)


def _fusion(title: str, text_encoder: str) -> Student:
    """3M-SER and what DistilSER makes of it."""
    return Student(
        Lazy("students.fusion:fusion_head"),
        front_end="vggish",
        schedule="fusion",
        gains_from_bfloat16=False,
        text_encoder=text_encoder,
        wider_teacher="bert_vggish",
        pools_states=True,
        title=f"{title} with VGGish",
    )


def _cross_attention(title: str, name: str) -> Student:
    return Student(
        Lazy(f"students.cross_attention:{name}"),
        front_end="vggish",
        schedule="multi_still",
        gains_from_bfloat16=False,
        text_encoder="electra",
        wider_teacher="cross_attention_teacher",
        chooses_modality=True,
        title=title,
    )


STUDENTS: Mapping[str, Student] = {
    "light_sernet": Student(
        Lazy("students.light_sernet:light_sernet"), "lsn", "light_sernet", depth=4, title="Light-SERNet"
    ),
    "light_sernet_plus": Student(
        Lazy("students.light_sernet:light_sernet_plus"), "cubic", "cubic", depth=5, title="Light-SERNet+"
    ),
    "mobilenetv3_small_075": _cnn("MobileNetV3 Small 0.75", "mobilenetv3_small_075"),
    "mobilenetv3_small_100": _cnn("MobileNetV3 Small 1.0", "mobilenetv3_small_100"),
    "efficientnet_b0": _cnn("EfficientNet-B0", "efficientnet_b0"),
    "resnet18": _cnn("ResNet18", "resnet18", gains_from_bfloat16=True),
    "bert_vggish": _fusion("BERT", "bert"),
    "distilbert_vggish": _fusion("DistilBERT", "distilbert"),
    "minibert_vggish": _fusion("MiniBERT", "minibert"),
    "microbert_vggish": _fusion("MicroBERT", "microbert"),
    "nanobert_vggish": _fusion("NanoBERT", "nanobert"),
    "picobert_vggish": _fusion("PicoBERT", "picobert"),
    "bert_tiny_vggish": _fusion("BERT tiny", "bert_tiny"),
    "bert_small_vggish": _fusion("BERT small", "bert_small"),
    "bert_medium_vggish": _fusion("BERT medium", "bert_medium"),
    "cross_attention": _cross_attention("Multi-Still student", "cross_attention"),
    "cross_attention_teacher": _cross_attention("Multi-Still teacher", "cross_attention_teacher"),
}


class _Names(Sequence[str]):
    """The students of one sort, those of plug-ins among them."""

    def __init__(self, *, is_multimodal: bool):
        self.is_multimodal = is_multimodal

    def _now(self) -> list[str]:
        return [name for name, each in STUDENTS.items() if each.is_multimodal == self.is_multimodal]

    def __getitem__(self, index: Any) -> Any:
        return self._now()[index]

    def __len__(self) -> int:
        return len(self._now())


# By what they take.
FEATURE_STUDENTS = _Names(is_multimodal=False)
MULTIMODAL_STUDENTS = _Names(is_multimodal=True)


def is_multimodal(name: str | None) -> TypeGuard[str]:
    """Whether `name` is a student of speech and text; other words that name a teacher are none.

    >>> is_multimodal("bert_vggish"), is_multimodal("light_sernet")
    (True, False)
    """
    return name in MULTIMODAL_STUDENTS
