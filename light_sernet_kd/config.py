"""Everything a run can be told, as one frozen, typed dataclass saved beside its result.

Standard library only: the command line answers `--help` and refuses a typo from here.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args

from light_sernet_kd import mixtures
from light_sernet_kd.errors import UserError, choose

SAMPLE_RATE = 16_000
# Full scale is 1; of numbers much larger, a front end's sums of squares exceed float32. The runner, which
# stands alone, has it too.
LARGEST_SAMPLE = 1e9
# Of an int8 file. On EMO-DB 16 clips gave ranges as good as 400 did; each costs up to 20 ms.
CALIBRATION_CLIPS = 64

StudentName = Literal[
    "light_sernet",
    "light_sernet_plus",
    "mobilenetv3_small_075",
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "resnet18",
]
MultimodalName = Literal[
    "bert_vggish",
    "distilbert_vggish",
    "minibert_vggish",
    "microbert_vggish",
    "nanobert_vggish",
    "picobert_vggish",
    "bert_tiny_vggish",
    "bert_small_vggish",
    "bert_medium_vggish",
    "cross_attention",
    "cross_attention_teacher",
]
FrontEndName = Literal["lsn", "cubic", "vggish"]
InputType = Literal["mfcc", "mel_spectrogram", "spectrogram"]
LabelLossName = Literal["cross_entropy", "focal", "mse"]
ProtocolName = Literal[
    "loso",
    "session",
    "group_kfold",
    "two_speakers",
    "split",
    "cross_corpus",
    "published",
    "random",
    "split_mixed",
]
ScheduleName = Literal["light_sernet", "cubic", "fusion", "distilser", "multi_still"]
Optimizer = Literal["adam", "adamw", "sgd"]
Modality = Literal["both", "text", "audio"]
Pooling = Literal["first", "mean", "max"]
ReaderName = Literal["soundfile", "tfio"]
CacheName = Literal["disk", "ram", "none"]
AudioType = Literal["all", "impro", "script"]
Precision = Literal["float32", "float16", "dynamic", "int8"]

# Students of features alone, students of speech and text, and both.
STUDENT_NAMES: tuple[str, ...] = get_args(StudentName)
MULTIMODAL_NAMES: tuple[str, ...] = get_args(MultimodalName)
ALL_STUDENT_NAMES = STUDENT_NAMES + MULTIMODAL_NAMES
FRONT_END_NAMES: tuple[str, ...] = get_args(FrontEndName)
INPUT_TYPES: tuple[str, ...] = get_args(InputType)
LABEL_LOSS_NAMES: tuple[str, ...] = get_args(LabelLossName)
PROTOCOL_NAMES: tuple[str, ...] = get_args(ProtocolName)
SCHEDULE_NAMES: tuple[str, ...] = get_args(ScheduleName)
READER_NAMES: tuple[str, ...] = get_args(ReaderName)
CACHE_NAMES: tuple[str, ...] = get_args(CacheName)
AUDIO_TYPES: tuple[str, ...] = get_args(AudioType)
PRECISIONS: tuple[str, ...] = get_args(Precision)
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
MODALITIES: tuple[str, ...] = get_args(Modality)
POOLINGS: tuple[str, ...] = get_args(Pooling)


@dataclass(frozen=True)
class Schedule:
    """How a published system trains.

    Attributes:
        weight_decay: added to the gradient as `weight_decay * weight`, as PyTorch's Adam does; with `adamw`
            the decoupled one.
        decay: the learning rate's factor, applied at each multiple of `decay_every` from `decay_from` on.
        decay_unit: whether epochs or steps are counted; both from 0.
        batch_norm_momentum: as Keras counts it, 1 less PyTorch's.
        accumulation: batches whose gradients are averaged into one step.
        tune_epochs: with pretrained encoders, epochs in which all weights are trained, after `epochs` in
            which the encoders are frozen.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    weight_decay: float
    decay: float
    decay_every: int
    decay_unit: Literal["epochs", "steps"]
    decay_from: int = 0
    batch_norm_momentum: float = 0.99
    optimizer: Optimizer = "adam"
    accumulation: int = 1
    tune_epochs: int = 0

    def changed(self, **own: Any) -> "Schedule":
        """The schedule with what is not None of `own` in the place of its values."""
        return dataclasses.replace(self, **{key: value for key, value in own.items() if value is not None})

    def learning_rate_at(self, *, epoch: int, step: int) -> float:
        """The learning rate of training step `step` in epoch `epoch`, both counted from 0."""
        now = epoch if self.decay_unit == "epochs" else step
        if now < self.decay_from:
            return self.learning_rate
        skipped = max(0, self.decay_from - 1) // self.decay_every
        return self.learning_rate * self.decay ** (now // self.decay_every - skipped)


SCHEDULES: dict[str, Schedule] = {
    # As released: exp(-0.15) at epochs 60, 80, 100 …, counted from 0.
    "light_sernet": Schedule(1e-4, 32, 300, 0.0, 0.860707976425, 20, "epochs", 50),
    "cubic": Schedule(1e-3, 16, 100, 1e-4, 0.9, 300, "steps", batch_norm_momentum=0.9),
    # Ours: DistilSER takes 32 times as many steps, each a hundredth as long.
    "fusion": Schedule(1e-4, 32, 50, 0.0, 0.1, 30, "epochs"),
    "distilser": Schedule(1e-6, 1, 50, 0.0, 0.1, 30, "epochs", tune_epochs=50),
    # PyTorch's AdamW decays by 0.01 where nothing is said.
    "multi_still": Schedule(5e-5, 32, 50, 0.01, 1.0, 1, "epochs", optimizer="adamw", accumulation=8),
}


def corpus_name(corpus: str) -> str:
    """What to call a corpus: its name, or that of its manifest, or of the folder of a `manifest.csv`."""
    path = Path(corpus)
    return path.stem if path.stem != "manifest" else path.resolve().parent.name or path.stem


@dataclass(frozen=True)
class Settings:
    """What decides a run. None leaves it to the student: its own front end and schedule.

    Attributes:
        corpus: a name of `CORPORA`, or the path of a manifest.
        columns: of a manifest, what is meant by which column, as `role=name`; others have their usual names.
        emotions: names kept and merges `from=to`; empty is the corpus's usual task.
        input_seconds: length that clips are cut or padded to; `input_samples`, when given, wins.
        soft_labels: train on the shares of the annotators who heard each emotion, where the corpus has them.
        distillation: a name or a weighted sum, as `mixtures.parse` reads it.
        distillation_weights: overrides of the distillation loss's published weights, by name.
        standardise_logits: teacher's and student's logits are standardised before they are compared.
        text_encoder: a keras-hub preset, a folder or `random:…`, as `text.load` reads it; by default the
            student's own preset. `teacher_text_encoder` is the teacher's; by default the same.
        audio_encoder: `vggish`, `vggish=PATH`, `vggish=random`; `torchvggish` likewise, with the ReLU at its
            end that 3M-SER's port has; for `cross_attention` also `yamnet`, or a speech model as `teach
            --from` takes it.
        vggish_pca: file of VGGish's PCA parameters; its embeddings are then whitened and quantised.
        text_tokens: tokens that a text is cut or padded to.
        pooling: what the fusion of `*_vggish` reads: the first position, or the mean or maximum of all.
        modality: what `cross_attention` sees; its teacher sees both.
        teacher: `auto` (a wider network of the student's kind; of speech and text `bert_vggish` or
            `cross_attention_teacher`), a student's name, `yamnet` or a teacher file;
            None only without a teacher. The first two are trained per fold.
        teacher_width: of the `auto` teacher, over the student's.
        teacher_epochs, teacher_batch_size, teacher_learning_rate: of a teacher trained per fold.
        teacher_count: so many teachers trained per fold are averaged.
        teacher_parts: a training utterance's teacher outputs come from a teacher trained without its
            speaker, the speakers being divided into so many parts; 0: from the one that trained on it too.
            By default 5 for teachers of speech and text and 0 for the others.
        augmentation: what the training set is augmented with, as `augment.parse` reads it; empty for nothing.
        fold_count: how many folds `group_kfold` makes.
        test_on: the corpus that tests under `cross_corpus`.
        different_speakers: speakers of one name in the two corpora of `test_on` are different people.
        folds: names of the folds to run; empty means all.
        qat: epochs of quantisation-aware training: after `epochs` the student is fine-tuned, and validated,
            with the roundings of its int8 file; 0 for none. `qat_learning_rate` is theirs; by default a tenth
            of the schedule's.
        patience: stop a fold after this many epochs without a better validation UA; 0 never stops.
        optimizer, accumulation, tune_epochs: by default the schedule's.
        most_per_emotion: at most so many training utterances per emotion; 0 takes all.
        batch_norm_momentum: by default the schedule's. With 0.99 it takes some hundred steps until
            evaluation sees what training does; a run of a few epochs wants 0.9.
        arithmetic: `bfloat16` computes convolutions in bfloat16 (weights stay float32), `float32` does not;
            `auto` is bfloat16 where the processor has it in hardware.
        reader: `soundfile` (with soxr), or `tfio`, tensorflow-io inside the tf.data graph.
    """

    corpus: str = "EMO-DB"
    columns: tuple[str, ...] = ()
    audio_type: AudioType = "all"
    emotions: tuple[str, ...] = ()
    input_seconds: float = 3.0
    input_samples: int | None = None
    input_type: InputType = "mfcc"
    front_end: FrontEndName | None = None
    student: StudentName | MultimodalName = "light_sernet"
    width: float = 1.0
    text_encoder: str | None = None
    teacher_text_encoder: str | None = None
    audio_encoder: str | None = None
    vggish_pca: str | None = None
    text_tokens: int = 128
    pooling: Pooling = "first"
    modality: Modality = "both"
    label_loss: LabelLossName = "cross_entropy"
    label_smoothing: float = 0.0
    soft_labels: bool = False
    focal_gamma: float = 2.0
    class_weights: Literal["none", "balanced"] = "none"
    distillation: str = "pure"
    distillation_weights: Mapping[str, Any] = field(default_factory=dict)
    standardise_logits: bool = False
    teacher: str | None = None
    teacher_width: float = 1.5
    teacher_epochs: int | None = None
    teacher_count: int = 1
    teacher_batch_size: int | None = None
    teacher_learning_rate: float | None = None
    teacher_parts: int | None = None
    augmentation: str = ""
    protocol: ProtocolName = "loso"
    fold_count: int = 5
    test_on: str | None = None
    different_speakers: bool = False
    folds: tuple[str, ...] = ()
    seed: int = 0
    schedule: ScheduleName | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: Optimizer | None = None
    accumulation: int | None = None
    tune_epochs: int | None = None
    most_per_emotion: int = 0
    qat: int = 0
    qat_learning_rate: float | None = None
    patience: int = 0
    batch_norm_momentum: float | None = None
    arithmetic: Literal["auto", "bfloat16", "float32"] = "auto"
    reader: ReaderName = "soundfile"
    skip_bad: bool = False
    export: bool = True
    merge_tflite: bool = True

    @property
    def samples(self) -> int:
        """Length of a clip in samples at 16 kHz."""
        return self.input_samples or round(self.input_seconds * SAMPLE_RATE)

    @property
    def training_schedule(self) -> Schedule:
        """The named schedule with this run's own epochs, batch size and learning rate in it."""
        return SCHEDULES[self.schedule or "light_sernet"].changed(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            batch_norm_momentum=self.batch_norm_momentum,
            optimizer=self.optimizer,
            accumulation=self.accumulation,
            tune_epochs=self.tune_epochs,
        )

    @property
    def own_teacher(self) -> str | None:
        """The architecture of a teacher that the run trains itself; None where it has none of its own."""
        if self.teacher != "auto":
            return self.teacher if self.teacher in ALL_STUDENT_NAMES else None
        if self.student.endswith("_vggish"):
            return "bert_vggish"
        return "cross_attention_teacher" if self.student in MULTIMODAL_NAMES else self.student

    @property
    def multimodal(self) -> tuple[str, ...]:
        """Which of the student and its own teacher hear speech and read text."""
        return tuple(name for name in (self.student, self.own_teacher) if name in MULTIMODAL_NAMES)

    @property
    def reads_text(self) -> bool:
        """Whether the student or its own teacher needs transcripts."""
        return self.own_teacher in MULTIMODAL_NAMES or (
            self.student in MULTIMODAL_NAMES and self.modality != "audio"
        )

    def as_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def digest(self) -> str:
        """Eight hexadecimal digits that differ when a setting differs."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:8]


_CHOICES: dict[str, tuple[str, ...]] = {
    "audio_type": AUDIO_TYPES,
    "input_type": INPUT_TYPES,
    "front_end": FRONT_END_NAMES,
    "student": ALL_STUDENT_NAMES,
    "optimizer": OPTIMIZERS,
    "modality": MODALITIES,
    "pooling": POOLINGS,
    "label_loss": LABEL_LOSS_NAMES,
    "class_weights": ("none", "balanced"),
    "protocol": PROTOCOL_NAMES,
    "schedule": SCHEDULE_NAMES,
    "reader": READER_NAMES,
    "arithmetic": ("auto", "bfloat16", "float32"),
}
# The largest that is possible; all are above 0. A length or a width beyond these is a slip of the keyboard
# that no memory holds.
_LARGEST: dict[str, float] = {
    "input_seconds": 600,
    "input_samples": 600 * SAMPLE_RATE,
    "width": 16,
    "teacher_width": 16,
    "teacher_epochs": math.inf,
    "teacher_count": math.inf,
    "fold_count": math.inf,
    "epochs": math.inf,
    "batch_size": math.inf,
    "learning_rate": math.inf,
    "teacher_batch_size": math.inf,
    "teacher_learning_rate": math.inf,
    "accumulation": math.inf,
    "text_tokens": 512,
    "qat_learning_rate": math.inf,
}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _typed(name: str, annotation: Any, value: Any) -> Any:
    """`value` in the type of its field: 3 seconds are 3.0, so that both have one digest."""
    optional = isinstance(annotation, UnionType)
    kind = get_args(annotation)[0] if optional else annotation
    if kind not in _KINDS or (value is None and optional):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is a subclass of int, but true is not an answer to "how many?"
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise UserError(f"{name.replace('_', ' ')} must be {_KINDS[kind]}, found {value!r}.")
    if value == "" and name != "augmentation":
        raise UserError(f"{name.replace('_', ' ')} is empty: name one or leave it out.")
    return value


def make_settings(**values: Any) -> Settings:
    """`Settings` from loose values, checked.

    Raises:
        UserError: an unknown name or choice, a value of another type, or an impossible number.
    """
    fields = {entry.name: entry for entry in dataclasses.fields(Settings)}
    values = {choose("setting", name, fields): value for name, value in values.items()}
    for name, value in values.items():
        if name in _CHOICES and not (value is None and fields[name].default is None):
            values[name] = choose(name.replace("_", " "), str(value), _CHOICES[name])
        else:
            values[name] = _typed(name, fields[name].type, value)
    lists = {"folds": "['03']", "emotions": "['anger', 'neutral']", "columns": "['path=file_id']"}
    for name, example in lists.items():
        names = values.get(name, ())
        if not isinstance(names, list | tuple):
            raise UserError(f"{name} must be a list of names, such as {example}, found {names!r}.")
        values[name] = tuple(map(str, names))
    weights = values.get("distillation_weights", {})
    if not isinstance(weights, Mapping):
        raise UserError(f"distillation weights must be numbers by name, found {weights!r}.")
    values["distillation_weights"] = dict(weights)
    mixture = mixtures.parse(values.get("distillation", "pure"))
    values["distillation"] = str(mixture)
    settings = Settings(**values)
    for name, largest in _LARGEST.items():
        value = getattr(settings, name)
        if value is not None and not (0 < value <= largest and math.isfinite(value)):
            most = f" and at most {largest}" if largest < math.inf else ""
            raise UserError(f"{name.replace('_', ' ')} must be above 0{most}, found {value}.")
    if not 0 <= settings.label_smoothing < 1:
        raise UserError(f"label smoothing must be at least 0 and below 1, found {settings.label_smoothing}.")
    if settings.batch_norm_momentum is not None and not 0 <= settings.batch_norm_momentum < 1:
        raise UserError(
            f"batch norm momentum must be at least 0 and below 1, found {settings.batch_norm_momentum}."
        )
    if settings.samples < 1:
        raise UserError(
            f"the input must hold a sample, found {settings.input_seconds} s at {SAMPLE_RATE} Hz."
        )
    if not 0 <= settings.focal_gamma < math.inf:
        raise UserError(f"focal gamma must be 0 or more, found {settings.focal_gamma}.")
    if not 0 <= settings.seed < 2**32:
        raise UserError(f"the seed must be from 0 to {2**32 - 1}, found {settings.seed}.")
    if settings.patience < 0:
        raise UserError(f"patience must be 0 (never stop early) or more epochs, found {settings.patience}.")
    if settings.qat < 0:
        raise UserError(f"qat must be 0 (none) or more epochs, found {settings.qat}.")
    if settings.qat and settings.student in MULTIMODAL_NAMES:
        raise UserError(
            f"--qat is for students whose int8 file exists, which hear alone: {settings.student} has none. "
            "Leave it out."
        )
    if settings.qat_learning_rate is not None and not settings.qat:
        raise UserError("--qat_learning_rate goes with --qat EPOCHS.")
    if settings.protocol == "cross_corpus" and settings.test_on is None:
        raise UserError("the protocol cross_corpus takes --test-on CORPUS.")
    if settings.test_on is not None and settings.protocol != "cross_corpus":
        raise UserError(
            f"--test-on means the protocol cross_corpus, found {settings.protocol}: leave out one."
        )
    if settings.different_speakers and settings.test_on is None:
        raise UserError("--different-speakers speaks of two corpora: it goes with --test-on CORPUS.")
    if settings.standardise_logits and not mixture.needs_logits:
        raise UserError(f"{mixture} compares no logits with a teacher's: leave out --standardise_logits.")
    own = settings.teacher is None or settings.own_teacher is not None
    of_teacher = {
        "--teacher_count": settings.teacher_count > 1,
        "--teacher_parts": settings.teacher_parts is not None,
        "--teacher_epochs": settings.teacher_epochs is not None,
        "--teacher_batch_size": settings.teacher_batch_size is not None,
        "--teacher_learning_rate": settings.teacher_learning_rate is not None,
    }
    for option, is_given in of_teacher.items():
        if is_given and not own:
            raise UserError(f"{option} is of a teacher that is trained here: leave it out, or --teacher.")
    if not mixture.needs_teacher:
        if settings.teacher is not None:
            raise UserError(
                f"{mixture} training has no teacher: choose -kd KD, RKD, DKD or CKD, or leave out --teacher."
            )
    elif settings.teacher is None:
        settings = dataclasses.replace(settings, teacher="auto")
    return _with_encoders(settings)


def _with_encoders(settings: Settings) -> Settings:
    """The settings, checked in what they say of encoders, text and tuning."""
    is_multimodal = settings.student in MULTIMODAL_NAMES
    if settings.tune_epochs is not None and settings.tune_epochs < 0:
        raise UserError(f"tune epochs must be 0 or more, found {settings.tune_epochs}.")
    if settings.most_per_emotion < 0:
        raise UserError(f"most per emotion must be 0 (all) or more, found {settings.most_per_emotion}.")
    if settings.teacher_parts is not None and (settings.teacher_parts < 0 or settings.teacher_parts == 1):
        raise UserError(f"teacher parts must be 0 or at least 2, found {settings.teacher_parts}.")
    if settings.modality != "both" and not settings.student.startswith("cross_attention"):
        raise UserError(f"--modality is of cross_attention, not of {settings.student}.")
    if settings.pooling != "first" and not any(name.endswith("_vggish") for name in settings.multimodal):
        raise UserError(f"--pooling is of students such as bert_vggish, not of {settings.student}.")
    if settings.front_end == "vggish" and not is_multimodal:
        raise UserError(f"the front end vggish is of bert_vggish and its like, not of {settings.student}.")
    of_encoders = {
        "--text_encoder": settings.text_encoder,
        "--teacher_text_encoder": settings.teacher_text_encoder,
        "--audio_encoder": settings.audio_encoder,
        "--vggish_pca": settings.vggish_pca,
        "--tune_epochs": settings.tune_epochs,
    }
    for option, value in of_encoders.items():
        if value is not None and not settings.multimodal:
            raise UserError(
                f"{option} is of speech and text: add --student or --teacher, such as bert_vggish "
                f"({settings.student} hears alone)."
            )
    hears_vggish = (settings.audio_encoder or "vggish").partition("=")[0] in ("vggish", "torchvggish")
    fusion = next((name for name in settings.multimodal if name.endswith("_vggish")), None)
    if fusion and not hears_vggish:
        raise UserError(
            f"{fusion} hears through VGGish: --audio_encoder vggish or vggish=PATH "
            "(torchvggish: with a ReLU at its end)."
        )
    if settings.vggish_pca is not None and not hears_vggish:
        raise UserError("--vggish_pca goes with --audio_encoder vggish.")
    if settings.teacher_text_encoder is not None and settings.own_teacher not in MULTIMODAL_NAMES:
        raise UserError("--teacher_text_encoder is of a teacher that reads: add one, such as bert_vggish.")
    if not is_multimodal:
        return settings
    if settings.front_end not in (None, "vggish"):
        raise UserError(f"{settings.student} has its own front end: leave out --front_end.")
    if settings.input_type not in (Settings.input_type, "mel_spectrogram"):
        raise UserError(f"{settings.student} takes mel_spectrogram features: leave out -it.")
    if settings.width != 1:
        raise UserError(f"--width is of convolutional students: {settings.student} has none.")
    if settings.augmentation:
        raise UserError(f"--augment is of students of features alone, not of {settings.student}.")
    if settings.reader != "soundfile":
        raise UserError(f"--reader {settings.reader} is of students of features alone.")
    return dataclasses.replace(settings, input_type="mel_spectrogram", front_end="vggish")
