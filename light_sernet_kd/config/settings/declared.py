"""The settings, each said once: a field with its flags, its help and what it may be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from light_sernet_kd.config.fields import (
    OF_NETWORKS,
    OF_STUDENT,
    OF_STUDENT_AND_PROBES,
    OF_STUDENT_AND_TEACHER,
    OF_TRAINING,
    OF_WHAT_ANSWERS,
    POSITIVE,
    SHARE,
    Range,
    Shorthand,
    names,
    original_setting,
    session,
    setting,
    truth,
    weights,
)
from light_sernet_kd.config.settings.choices import (
    AUDIO_TYPES,
    BEST,
    CLEAN,
    DATA,
    EXPORT,
    GATE_WARN,
    GATES,
    KEPT,
    LOCAL_POOLINGS,
    LOSSES,
    MEAN_OF_SOURCES,
    MODALITIES,
    POOLINGS,
    READERS,
    SAMPLE_RATE,
    SPEECH_AND_TEXT,
    TEACHER,
    TEACHER_MIXINGS,
    TEACHER_VIEWS,
    TRAINING,
)
from light_sernet_kd.registries.augmentations import AUGMENTATIONS
from light_sernet_kd.registries.corpora import CORPORA
from light_sernet_kd.registries.dimensions import DIMENSIONS
from light_sernet_kd.registries.engines import AUTO, ENGINES
from light_sernet_kd.registries.front_ends import FRONT_ENDS, INPUT_TYPES
from light_sernet_kd.registries.losses import (
    DIMENSION_LOSSES,
    DISTILLATIONS,
    LABEL_LOSSES,
    NO_TEACHER,
    PUBLISHED,
)
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.registries.recipes import DISTILLED, OURS, OWN, RECIPES
from light_sernet_kd.registries.schedules import OPTIMIZERS, SCHEDULES
from light_sernet_kd.registries.students import FEATURE_STUDENTS, MULTIMODAL_STUDENTS, STUDENTS
from light_sernet_kd.registries.teachers import ALLOWANCES, sources_text

# A length or a width beyond these is a slip of the keyboard that no memory holds.
_LONGEST_SECONDS, _WIDEST, _MOST_TOKENS = 600, 16, 512
# Each is as much work as all of the corpus.
_MOST_VIEWS = 64
# Ten times the labelled examples of a batch.
_MOST_UNLABELLED = 10 / 11


def listed(choices: Iterable[str]) -> str:
    """Names as `--help` lists them."""
    return ", ".join(choices)


def _by_schedule(attribute: str) -> str:
    """What the schedules have of an attribute, with the names of those whose value is not the first one's."""
    by_value: dict[Any, list[str]] = {}
    for name, schedule in SCHEDULES.items():
        by_value.setdefault(getattr(schedule, attribute), []).append(name)
    return ", ".join(f"{value:g} ({', '.join(owners)})" for value, owners in by_value.items())


def _joined(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}"


def _mel(text: str) -> str:
    return {"mel": "mel_spectrogram"}.get(text.lower(), text)


@dataclass(frozen=True)
class Declared:
    """What decides a run; each field says its flags and its meaning (`light-sernet-kd train --help`).

    None leaves it to the student: its own front end and schedule, its own text encoder.
    """

    corpus: str = original_setting(
        "EMO-DB", "-dn", "--dataset_name", group=DATA, metavar="NAME",
        help=lambda: f"{listed(CORPORA)}, or the path of a manifest (.csv, .tsv)",
    )  # fmt: skip
    columns: tuple[str, ...] = original_setting(
        (), "--columns", group=DATA, metavar="ROLE=NAME,…", parse=names, example="['path=file_id']",
        help="of a manifest, what its columns are called, e.g. "
        "path=file_id,speaker=speaker_id,transcript=raw_text; common names are known without it",
    )  # fmt: skip
    audio_type: str = original_setting(
        "all", "-at", "--audio_type", group=DATA, metavar="PART", choices=AUDIO_TYPES,
        help="part of the corpus: {choices}",
    )  # fmt: skip
    emotions: tuple[str, ...] = original_setting(
        (), "--emotions", group=DATA, metavar="A,B,C=B", parse=names, example="['anger', 'neutral']",
        help="emotions to tell apart, and which count as others; by default the corpus's usual task",
    )  # fmt: skip
    input_seconds: float = original_setting(
        3.0, "-id", "--input_durations", group=DATA, metavar="S", commands=OF_NETWORKS,
        range=Range(0, _LONGEST_SECONDS, above=True), help="seconds that clips are cut or padded to",
    )  # fmt: skip
    input_samples: int | None = original_setting(
        None, "-len", "--input_samples", group=DATA, metavar="N", commands=OF_NETWORKS,
        range=Range(0, _LONGEST_SECONDS * SAMPLE_RATE, above=True),
        help="the same in samples at 16 kHz; wins over -id",
    )  # fmt: skip
    input_type: str = original_setting(
        "mfcc", "-it", "--input_type", "-input", group=DATA, metavar="TYPE", commands=OF_NETWORKS,
        choices=INPUT_TYPES, parse=_mel, help="{choices} (or mel)",
    )  # fmt: skip
    front_end: str | None = original_setting(
        None, "--front_end", group=DATA, metavar="NAME", commands=OF_NETWORKS, choices=FRONT_ENDS,
        help="{choices}; by default the student's own",
    )  # fmt: skip
    reader: str = original_setting(
        "soundfile", "--reader", group=DATA, metavar="NAME", choices=READERS,
        help="{choices} (needs the extra tfio and TensorFlow 2.17)",
    )  # fmt: skip
    speakers: tuple[str, ...] = setting(
        (), "--speakers", group=DATA, metavar="A,B", parse=names, example="['03', '08']",
        help="use the recordings of these speakers only",
    )  # fmt: skip
    skip_bad: bool = original_setting(
        False, "--skip-bad", group=DATA, shows_default=False,
        help="leave out recordings that cannot be read, and rows and labels that are wrong; the report "
        "lists them",
    )  # fmt: skip

    unlabelled: str | None = setting(
        None, "--unlabelled", group=DATA, metavar="DIR", commands=OF_WHAT_ANSWERS,
        help="a folder of recordings without labels, searched with its subfolders: the teacher answers them "
        "too, and the student learns from these answers",
    )  # fmt: skip
    unlabelled_share: float = setting(
        0.5, "--unlabelled_share", group=DATA, metavar="X", commands=OF_STUDENT,
        range=Range(0, _MOST_UNLABELLED, above=True, text="above 0 and at most 0.909"),
        help="share of each batch without labels; the labelled part is a usual batch, and the rest is added",
    )  # fmt: skip
    unlabelled_skip_tested: bool = setting(
        False, "--unlabelled_skip_tested", group=DATA, shows_default=False, commands=OF_STUDENT,
        help="leave out unlabelled recordings that are test or validation recordings too, which are refused "
        "otherwise",
    )  # fmt: skip
    unlabelled_views: int = setting(
        0, "--unlabelled_views", group=DATA, metavar="N", commands=OF_STUDENT,
        range=Range(0, _MOST_VIEWS, text=f"0 to {_MOST_VIEWS}"),
        help="augmented versions of each unlabelled clip, made by --augment; the student gets one after the "
        "other; with 0 it gets the clips unchanged",
    )  # fmt: skip

    student: str = original_setting(
        "light_sernet", "--student", "-model", group=LOSSES, metavar="NAME", choices=STUDENTS,
        commands=OF_STUDENT_AND_TEACHER,
        help=lambda: f"{listed(FEATURE_STUDENTS)}; of speech and text: {listed(MULTIMODAL_STUDENTS)}",
    )  # fmt: skip
    width: float = original_setting(
        1.0, "--width", group=LOSSES, metavar="X", commands=OF_NETWORKS, range=Range(0, _WIDEST, above=True),
        help="factor of the student's filters",
    )  # fmt: skip
    depth: int | None = setting(
        None, "--depth", group=LOSSES, metavar="N", commands=OF_STUDENT, range=POSITIVE,
        help="convolutions of light_sernet's body before its last, 1x1 one: at most 4 (light_sernet_plus: "
        "5), by default all",
    )  # fmt: skip
    kernels: tuple[str, ...] = setting(
        (), "--kernels", group=LOSSES, metavar="A,B", commands=OF_STUDENT, parse=names,
        example="['11x1', '1x9']",
        help="kernels of light_sernet's parallel convolutions, frames x features, such as 11x1,1x9,3x3; by "
        "default as published",
    )  # fmt: skip
    local_pooling: str = setting(
        "average", "--local_pooling", group=LOSSES, metavar="HOW", commands=OF_STUDENT,
        choices=LOCAL_POOLINGS, help="of light_sernet's pools between convolutions: {choices}",
    )  # fmt: skip
    label_loss: str = original_setting(
        "cross_entropy", "-ln", "--loss_name", group=LOSSES, metavar="LOSS", commands=OF_NETWORKS,
        choices=LABEL_LOSSES, help="loss on the labels: {choices}",
    )  # fmt: skip
    label_smoothing: float = original_setting(
        0.0, "--label_smoothing", group=LOSSES, metavar="X", commands=OF_NETWORKS, range=SHARE,
        help="share of the label spread over all classes",
    )  # fmt: skip
    focal_gamma: float = original_setting(
        2.0, "--focal_gamma", group=LOSSES, metavar="X", commands=OF_NETWORKS,
        range=Range(0, text="0 or more"), help="of the focal loss",
    )  # fmt: skip
    class_weights: str = original_setting(
        "none", "--class_weights", group=LOSSES, metavar="HOW", commands=OF_NETWORKS,
        choices=("none", "balanced"), help="{choices}",
    )  # fmt: skip
    dimensions: tuple[str, ...] = setting(
        (), "--dimensions", group=LOSSES, metavar="A,B", parse=names, commands=OF_STUDENT,
        example="['arousal', 'valence']",
        help=lambda: f"ratings that the student learns beside the emotions: {listed(DIMENSIONS)}; IEMOCAP, "
        "KEMDy and tables with such columns have them",
    )  # fmt: skip
    dimension_range: tuple[str, ...] = setting(
        (), "--dimension_range", group=LOSSES, metavar="LOW,HIGH", parse=names, commands=OF_STUDENT,
        example="['1', '5']", help="ends of the scale of a manifest's ratings, such as 1,5",
    )  # fmt: skip
    dimensions_loss: str = setting(
        "ccc", "--dimensions_loss", group=LOSSES, metavar="LOSS", commands=OF_STUDENT,
        choices=DIMENSION_LOSSES, help="loss on the ratings: {choices}",
    )  # fmt: skip
    dimensions_weight: float = setting(
        1.0, "--dimensions_weight", group=LOSSES, metavar="X", commands=OF_STUDENT, range=POSITIVE,
        help="its weight beside the other losses",
    )  # fmt: skip
    dimensions_only: bool = setting(
        False, "--dimensions_only", group=LOSSES, commands=OF_STUDENT,
        help="learn the ratings instead of the emotions: every rated recording trains, a table needs no "
        "column of emotions, and files give no class",
    )  # fmt: skip
    distillation: str = original_setting(
        NO_TEACHER, "-kd", "--distillation", group=LOSSES, metavar="METHOD", commands=OF_STUDENT,
        help=lambda: f"{listed([*DISTILLATIONS, *PUBLISHED])}, {OURS} (what --recipe {DISTILLED} teaches "
        "by), or a weighted sum such as KD:0.5+RKD:0.5 or KD+SP:3000 "
        f"({_joined(each for each, loss in DISTILLATIONS.items() if loss.large_weight)} want weights in the "
        "hundreds or thousands)",
    )  # fmt: skip
    distillation_weights: Mapping[str, Any] = original_setting(
        {}, "--kd_weights", group=LOSSES, metavar="NAME=X,…", parse=weights, commands=OF_STUDENT,
        help="weights of the method other than the published, e.g. alpha=0.5,temperature=4; in a sum "
        "KD:alpha=0.5:temperature=4,RKD:…; 'alpha=0.9>0.3' goes from 0.9 in the first epoch to 0.3 in the "
        "last",
        shorthands=(
            Shorthand(("-l1",), "lambda1", "CKD's lambda1", "X", float),
            Shorthand(("-l2",), "lambda2", "CKD's lambda2", "X", float),
        ),
    )  # fmt: skip
    standardise_logits: bool = original_setting(
        False, "--standardise_logits", group=LOSSES, commands=OF_STUDENT,
        help="standardise teacher's and student's logits before they are compared",
    )  # fmt: skip

    text_encoder: str | None = original_setting(
        None, "--text_encoder", group=SPEECH_AND_TEXT, metavar="NAME",
        help="a keras-hub preset, a folder in the manner of Hugging Face, or random:width=64:layers=2; by "
        "default the student's own preset",
    )  # fmt: skip
    audio_encoder: str | None = original_setting(
        None, "--audio_encoder", group=SPEECH_AND_TEXT, metavar="NAME",
        help="vggish (in DATA/models/vggish), vggish=PATH, vggish=random, torchvggish (likewise, with the "
        "ReLU at its end that 3M-SER's port has); of cross_attention also yamnet or a speech model as teach "
        "--from takes it",
    )  # fmt: skip
    vggish_pca: str | None = original_setting(
        None, "--vggish_pca", group=SPEECH_AND_TEXT, metavar="FILE",
        help="whiten and quantise VGGish's embeddings with these parameters (.npz)",
    )  # fmt: skip
    text_tokens: int = original_setting(
        128, "--text_tokens", group=SPEECH_AND_TEXT, metavar="N", commands=OF_NETWORKS,
        range=Range(0, _MOST_TOKENS, above=True), help="tokens that texts are cut or padded to",
    )  # fmt: skip
    pooling: str = original_setting(
        "first", "--pooling", group=SPEECH_AND_TEXT, metavar="HOW", choices=POOLINGS,
        help="of *_vggish: {choices}",
    )  # fmt: skip
    modality: str = original_setting(
        "both", "--modality", group=SPEECH_AND_TEXT, metavar="WHICH", choices=MODALITIES,
        commands=OF_STUDENT_AND_TEACHER, help="what cross_attention sees: {choices}; its teacher sees both",
    )  # fmt: skip
    tune_epochs: int | None = original_setting(
        None, "--tune_epochs", group=SPEECH_AND_TEXT, metavar="N", range=Range(0, text="0 or more"),
        help=lambda: "epochs in which the encoders are trained too, after --epochs with frozen ones; by "
        f"default the schedule's: {_by_schedule('tune_epochs')}",
    )  # fmt: skip

    teacher: str | None = original_setting(
        None, "--teacher", group=TEACHER, metavar="FILE", commands=OF_STUDENT,
        help=lambda: sources_text("--teacher"),
    )  # fmt: skip
    teacher_width: float = original_setting(
        1.5, "--teacher_width", group=TEACHER, metavar="X", commands=OF_STUDENT_AND_TEACHER,
        range=Range(0, _WIDEST, above=True), help="the auto teacher's width over the student's",
    )  # fmt: skip
    teacher_epochs: int | None = original_setting(
        None, "--teacher_epochs", group=TEACHER, metavar="N", commands=OF_NETWORKS, range=POSITIVE,
        help="of a teacher trained per fold; by default the student's, or of a network of another kind its "
        "own",
    )  # fmt: skip
    teacher_batch_size: int | None = original_setting(
        None, "--teacher_batch_size", group=TEACHER, metavar="N", commands=OF_NETWORKS, range=POSITIVE,
        help="likewise",
    )  # fmt: skip
    teacher_learning_rate: float | None = original_setting(
        None, "--teacher_learning_rate", group=TEACHER, metavar="X", commands=OF_NETWORKS, range=POSITIVE,
        help="likewise",
    )  # fmt: skip
    teacher_text_encoder: str | None = original_setting(
        None, "--teacher_text_encoder", group=TEACHER, metavar="NAME", help="by default the student's",
    )  # fmt: skip
    teacher_count: int = original_setting(
        1, "--teacher_count", group=TEACHER, metavar="N", commands=OF_NETWORKS, range=POSITIVE,
        help="teachers trained per fold, whose outputs are averaged",
    )  # fmt: skip
    teacher_parts: int | None = original_setting(
        None, "--teacher_parts", group=TEACHER, metavar="N", commands=OF_NETWORKS,
        range=Range(0, text="0 or at least 2"),
        help="training utterances get their outputs from teachers trained without their speakers, divided "
        "into N parts; 0 not (default 5 of speech and text, else 0)",
    )  # fmt: skip

    teacher_view: str = setting(
        CLEAN, "--teacher_view", group=TEACHER, metavar="WHAT", commands=OF_STUDENT, choices=TEACHER_VIEWS,
        help="the teacher's input for a training example, {choices}: same is the student's input; trained "
        "networks answer each batch as it is augmented and mixed (and are augmented too where the run trains "
        "them), probes answer --teacher_views of each clip",
    )  # fmt: skip
    teacher_views: int = setting(
        4, "--teacher_views", group=TEACHER, metavar="N", commands=OF_STUDENT,
        range=Range(1, _MOST_VIEWS, text=f"from 1 to {_MOST_VIEWS}"),
        help="augmented views of each training clip that a probe answers (--teacher_view same); the "
        "student's epochs draw from them in turn",
    )  # fmt: skip
    teacher_mixing: str = setting(
        MEAN_OF_SOURCES, "--teacher_mixing", group=TEACHER, metavar="HOW", commands=OF_STUDENT_AND_PROBES,
        choices=TEACHER_MIXINGS,
        help="of several sources, such as opensmile+yamnet*2: {choices}; confidence weighs each source for "
        "each training example by how near it is to the label",
    )  # fmt: skip
    teacher_components: int = setting(
        0, "--teacher_components", group=TEACHER, metavar="N", commands=OF_STUDENT,
        range=Range(0, text="0 (as they are) or more"),
        help="losses on embeddings compare with the first N principal components of the teacher's, each of "
        "unit variance in training; 0 with the embeddings as they are",
    )  # fmt: skip
    generations: int = setting(
        1, "--generations", group=TEACHER, metavar="N", commands=OF_STUDENT, range=POSITIVE,
        help="students trained one after the other in each fold; each after the first learns by the same "
        "losses from the one before, and the last one counts",
    )  # fmt: skip
    standardise_speakers: bool = setting(
        False, "--standardise_speakers", group=TEACHER, commands=OF_STUDENT_AND_PROBES,
        help="standardise what a probe reads by each training and validation speaker's own recordings, a "
        "test speaker's by the training set's moments",
    )  # fmt: skip
    allow: str | None = setting(
        None, "--allow", group=TEACHER, metavar="LICENCE", commands=OF_STUDENT_AND_PROBES, choices=ALLOWANCES,
        in_digest=False,
        help="{choices}: accept the licence of a teacher whose makers permit research and no products, such "
        "as opensmile; it decides nothing of the numbers",
    )  # fmt: skip

    teacher_gate: str = setting(
        GATE_WARN, "--teacher_gate", group=TEACHER, metavar="HOW", commands=OF_STUDENT, choices=GATES,
        in_digest=False,
        help="where the teacher knows no more than the student would alone, on speakers who do not test, "
        "{choices}: warn, end the run before a student trains, or skip the check; it changes nothing of the "
        "training",
    )  # fmt: skip

    protocol: str = original_setting(
        "loso", "--protocol", group=TRAINING, metavar="NAME", choices=PROTOCOLS, shows_default=False,
        help="{choices} (default loso; of two speakers two_speakers)",
    )  # fmt: skip
    folds: tuple[str, ...] = original_setting(
        (), "--folds", group=TRAINING, metavar="A,B", parse=names, example="['03']",
        help="names of the folds to run; all",
        shorthands=(
            Shorthand(
                ("-session",), "session_number",
                "number of the fold to run, from 1; of the session, where the corpus has sessions and no "
                "--protocol is given", "N", session,
            ),
        ),
    )  # fmt: skip
    fold_count: int = original_setting(
        5, "--fold_count", group=TRAINING, metavar="N", range=POSITIVE, help="folds of group_kfold",
    )  # fmt: skip
    test_on: str | None = original_setting(
        None, "--test-on", group=TRAINING, metavar="NAME",
        help="train on -dn, test on this corpus, over the emotions that both have (protocol cross_corpus)",
    )  # fmt: skip
    different_speakers: bool = original_setting(
        False, "--different-speakers", group=TRAINING, shows_default=False,
        help="speakers of one name in -dn and --test-on are different people: no stamp says otherwise",
    )  # fmt: skip
    augmentation: str = original_setting(
        "", "--augment", group=TRAINING, metavar="LIST", commands=OF_STUDENT, may_be_empty=True,
        help=lambda: f"of the training set: {listed(AUGMENTATIONS)}; with settings, "
        "noise:snr_low=10:chance=1",
    )  # fmt: skip
    augment_every: int = setting(
        1, "--augment-every", group=TRAINING, metavar="N", commands=OF_STUDENT, range=POSITIVE,
        help="epochs for which a changed waveform is kept; masks, Freq-MixStyle and mixup are always new",
    )  # fmt: skip
    recipe: str = setting(
        OWN, "--recipe", group=TRAINING, metavar="NAME", commands=OF_NETWORKS, choices=RECIPES,
        in_digest=False, always_spelled=True,
        help="a set of settings, each of which can be given beside it: {choices} (light-sernet-kd recipe "
        "NAME prints one)",
    )  # fmt: skip
    seed: int = original_setting(
        0, "--seed", group=TRAINING, metavar="N",
        range=Range(0, 2**32 - 1, text=f"from 0 to {2**32 - 1}"),
        help="decides weights, order and dropout",
    )  # fmt: skip
    schedule: str | None = original_setting(
        None, "--schedule", group=TRAINING, metavar="NAME", commands=OF_NETWORKS, choices=SCHEDULES,
        help="{choices}; by default the student's own",
    )  # fmt: skip
    epochs: int | None = original_setting(
        None, "--epochs", "-epoc", group=TRAINING, metavar="N", commands=OF_TRAINING, range=POSITIVE,
        help=lambda: f"by default the schedule's: {_by_schedule('epochs')}",
    )  # fmt: skip
    batch_size: int | None = original_setting(
        None, "--batch_size", "-bt", group=TRAINING, metavar="N", commands=OF_TRAINING, range=POSITIVE,
        help=lambda: f"by default the schedule's: {_by_schedule('batch_size')}",
    )  # fmt: skip
    learning_rate: float | None = original_setting(
        None, "--learning_rate", "-lr", group=TRAINING, metavar="X", commands=OF_TRAINING, range=POSITIVE,
        help=lambda: f"by default the schedule's: {_by_schedule('learning_rate')}",
    )  # fmt: skip
    optimizer: str | None = original_setting(
        None, "--optimizer", group=TRAINING, metavar="NAME", commands=OF_NETWORKS, choices=OPTIMIZERS,
        help="{choices}; by default the schedule's",
    )  # fmt: skip
    accumulation: int | None = original_setting(
        None, "--accumulation", group=TRAINING, metavar="N", commands=OF_NETWORKS, range=POSITIVE,
        help=lambda: f"batches whose gradients make one step; by default the schedule's: "
        f"{_by_schedule('accumulation')}",
    )  # fmt: skip
    most_per_emotion: int = original_setting(
        0, "--most_per_emotion", group=TRAINING, metavar="N", commands=OF_NETWORKS,
        range=Range(0, text="0 (all) or more"),
        help="train on at most N utterances of each emotion, drawn by the seed; 0 on all",
    )  # fmt: skip
    keep: str = setting(
        BEST, "--keep", group=TRAINING, metavar="WHICH", commands=OF_NETWORKS, choices=KEPT,
        help="weights that training ends with: {choices}; best: of the epoch with the best validation UA, "
        "mean: over the last quarter of the epochs",
    )  # fmt: skip
    start_from: str | None = setting(
        None, "--start_from", group=TRAINING, metavar="FOLDER", commands=OF_STUDENT,
        help="the folder of a finished run, with whose weights the student begins; its student has the same "
        "shape and front end, and never trained on a recording that tests here",
    )  # fmt: skip
    soft_labels: bool = original_setting(
        False, "--soft_labels", group=TRAINING, commands=OF_NETWORKS,
        help="train on the shares of the annotators instead of one label",
    )  # fmt: skip
    qat: int = original_setting(
        0, "--qat", group=TRAINING, metavar="N", commands=OF_STUDENT,
        range=Range(0, text="0 (none) or more epochs"),
        help="epochs in which the student is fine-tuned, and validated, with the roundings of its int8 file",
    )  # fmt: skip
    qat_learning_rate: float | None = original_setting(
        None, "--qat_learning_rate", group=TRAINING, metavar="X", commands=OF_STUDENT, range=POSITIVE,
        help="of these epochs, by default a tenth of the schedule's",
    )  # fmt: skip
    patience: int = original_setting(
        0, "--patience", group=TRAINING, metavar="N", commands=OF_NETWORKS,
        range=Range(0, text="0 (never stop early) or more epochs"),
        help="stop a fold after N epochs without a better validation UA; 0 never",
    )  # fmt: skip
    batch_norm_momentum: float | None = original_setting(
        None, "--bn_momentum", group=TRAINING, metavar="X", commands=OF_NETWORKS, range=SHARE,
        help=lambda: "of batch norm's statistics, by default the schedule's: "
        f"{_by_schedule('batch_norm_momentum')}; 0.9 for runs of a few epochs",
    )  # fmt: skip
    arithmetic: str = original_setting(
        "auto", "--arithmetic", group=TRAINING, metavar="HOW", commands=OF_NETWORKS,
        choices=("auto", "bfloat16", "float32"),
        help="auto, bfloat16 (faster where the processor has it), float32 (exact)",
    )  # fmt: skip
    engine: str = original_setting(
        AUTO, "--engine", group=TRAINING, metavar="NAME", commands=OF_STUDENT, choices=(AUTO, *ENGINES),
        in_digest=False,
        help="what trains: {choices}; auto takes jax where JAX for NVIDIA GPUs is installed, or where "
        "TensorFlow is not",
    )  # fmt: skip

    export: bool = original_setting(
        True, "--export", group=EXPORT, commands=OF_STUDENT,
        help="train a final student on all speakers and write .tflite files",
    )  # fmt: skip
    merge_tflite: bool = original_setting(
        True, "-m", "--merge_tflite", group=EXPORT, metavar="BOOL", parse=truth, commands=OF_STUDENT,
        help="the files take raw audio: the front end is inside",
    )  # fmt: skip

    enrolment: bool = setting(
        False, "--enrolment", group=EXPORT, commands=OF_STUDENT, in_digest=False,
        help="fit a second head for speakers of whom recordings without labels are known, score it under the "
        "protocol's name with _enrolled behind it, and export it in files of its own, "
        "student_*_enrolled.tflite; a finished run gets it too",
    )  # fmt: skip
