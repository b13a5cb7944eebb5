"""The command line. Nothing heavy is imported before the arguments are known to be good."""

import argparse
import contextlib
import difflib
import errno
import io
import json
import logging
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from light_sernet_kd import __version__, config, mixtures
from light_sernet_kd.config import Settings, UserError, choose, make_settings

# A full disk or a folder that may not be written is the user's to mend, like a wrong flag.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_FORBIDDEN = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
)

# The keys of registry.CORPORA, here so that --help need not import what reads them.
_CORPORA = "EMO-DB, IEMOCAP, RAVDESS, CREMA-D, TESS, ESD, KEMDy19, KEMDy20, demo"

_COLUMNS = (
    "of a manifest, what its columns are called, e.g. path=file_id,speaker=speaker_id,transcript=raw_text; "
    "common names are known without it"
)

_EPILOG = """examples:
  %(prog)s -dn demo -id 2.5 -kd KD --epochs 8
  %(prog)s -dn EMO-DB -id 3 -kd CKD
  %(prog)s -dn EMO-DB -id 3 -kd CKD --teacher logits.npz --folds 03,08 --epochs 60
  %(prog)s -dn path/to/manifest.csv -ln focal -it mel_spectrogram --run mine
"""


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line that suggest the nearest option."""

    def __init__(self, **kwargs):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(**{"allow_abbrev": False, "formatter_class": formatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message and unknown.startswith("-"):
            option = unknown.split()[0].split("=")[0]
            near = difflib.get_close_matches(option, self._option_string_actions, n=1)
            message = f"unknown option {option}." + (f" Did you mean {near[0]}?" if near else "")
        else:
            message += "."
        raise UserError(f"{message} See {self.prog} --help.")

    def parse_known_args(self, args=None, namespace=None):
        # Else a command would leave what it does not know to the parser above, which knows no better.
        found, unknown = super().parse_known_args(args, namespace)
        if hasattr(found, "recordings"):
            # A list that may be empty is filled before the first option; argparse leaves what comes later.
            end = unknown.index("--") if "--" in unknown else len(unknown)
            if not any(argument.startswith("-") for argument in unknown[:end]):
                found.recordings = [*found.recordings, *unknown[:end], *unknown[end + 1 :]]
                unknown = []
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def commands(self) -> "Mapping[str, _Parser]":
        subparsers = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return next((action.choices for action in subparsers), {})


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return words[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"expected names between commas, found {text!r}")
    return names


def _session(text: str) -> tuple[str, ...]:
    return tuple(f"#{number}" for number in _names(text))


def _counts(text: str) -> tuple[int, ...]:
    """`1,2` as numbers, each once, in their order."""
    try:
        counts = tuple(dict.fromkeys(int(part) for part in _names(text)))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1 between commas, found {text!r}")
    return counts


def _input_type(text: str) -> str:
    return {"mel": "mel_spectrogram"}.get(text.lower(), text)


def _weights(text: str) -> dict[str, Any]:
    """`alpha=0.5,temperature=4` as a dictionary; several numbers of one weight are joined by `+`."""
    weights: dict[str, Any] = {}
    for part in _names(text):
        name, equals, value = part.partition("=")
        try:
            numbers = [float(number) for number in value.split("+")]
        except ValueError:
            numbers = []
        if not equals or not (numbers or value.isidentifier()):
            raise argparse.ArgumentTypeError(f"expected name=number, found {part!r}")
        weights[name.strip()] = value if not numbers else numbers[0] if len(numbers) == 1 else numbers
    return weights


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _add_settings(parser: argparse.ArgumentParser, defaults: Settings) -> None:
    """The options whose `dest` is a field of `Settings`; one left out keeps the default."""

    def add(group, *flags: str, dest: str, text: str, **kwargs) -> None:
        shown = getattr(defaults, dest)
        if shown is not None and shown not in ("", ()) and not isinstance(shown, Mapping):
            text += f" (default {str(shown).lower() if isinstance(shown, bool) else shown})"
        group.add_argument(*flags, dest=dest, default=argparse.SUPPRESS, help=text, **kwargs)

    group = parser.add_argument_group("data")
    add(group, "-dn", "--dataset_name", dest="corpus", metavar="NAME",
        text=f"{_CORPORA}, or the path of a manifest (.csv, .tsv)")  # fmt: skip
    add(group, "--columns", dest="columns", type=_names, metavar="ROLE=NAME,…",
        text=_COLUMNS)  # fmt: skip
    add(group, "-at", "--audio_type", dest="audio_type", metavar="PART",
        text=f"part of the corpus: {_listed(config.AUDIO_TYPES)}")  # fmt: skip
    add(group, "--emotions", dest="emotions", type=_names, metavar="A,B,C=B",
        text="emotions to tell apart, and which count as others; "
        "by default the corpus's usual task")  # fmt: skip
    add(group, "-id", "--input_durations", dest="input_seconds", type=float, metavar="S",
        text="seconds that clips are cut or padded to")  # fmt: skip
    add(group, "-len", "--input_samples", dest="input_samples", type=int, metavar="N",
        text="the same in samples at 16 kHz; wins over -id")  # fmt: skip
    add(group, "-it", "--input_type", "-input", dest="input_type", type=_input_type, metavar="TYPE",
        text=f"{_listed(config.INPUT_TYPES)} (or mel)")  # fmt: skip
    add(group, "--front_end", dest="front_end", metavar="NAME",
        text=f"{_listed(config.FRONT_END_NAMES)}; by default the student's own")  # fmt: skip
    add(group, "--reader", dest="reader", metavar="NAME",
        text=f"{_listed(config.READER_NAMES)} (needs the extra tfio and TensorFlow 2.17)")  # fmt: skip
    group.add_argument("--skip-bad", dest="skip_bad", action="store_true", default=argparse.SUPPRESS,
                       help="leave out recordings that cannot be read, and rows and labels that are wrong; "
                       "the report lists them")  # fmt: skip

    group = parser.add_argument_group("student and losses")
    add(group, "--student", "-model", dest="student", metavar="NAME",
        text=f"{_listed(config.STUDENT_NAMES)}; "
        f"of speech and text: {_listed(config.MULTIMODAL_NAMES)}")  # fmt: skip
    add(group, "--width", dest="width", type=float, metavar="X", text="factor of the student's filters")
    add(group, "-ln", "--loss_name", dest="label_loss", metavar="LOSS",
        text=f"loss on the labels: {_listed(config.LABEL_LOSS_NAMES)}")  # fmt: skip
    add(group, "--label_smoothing", dest="label_smoothing", type=float, metavar="X",
        text="share of the label spread over all classes")  # fmt: skip
    add(group, "--focal_gamma", dest="focal_gamma", type=float, metavar="X", text="of the focal loss")
    add(group, "--class_weights", dest="class_weights", metavar="HOW", text="none, balanced")
    add(group, "-kd", "--distillation", dest="distillation", metavar="METHOD",
        text=f"{_listed(mixtures.NAMES)}, or a weighted sum such as KD:0.5+RKD:0.5 or KD+SP:3000 "
        "(hint, PKT and SP want weights in the hundreds or thousands)")  # fmt: skip
    add(group, "--kd_weights", dest="distillation_weights", type=_weights, metavar="NAME=X,…",
        text="weights of the method other than the published, e.g. alpha=0.5,temperature=4; "
        "in a sum KD.alpha=0.5")  # fmt: skip
    add(group, "--standardise_logits", dest="standardise_logits", action=argparse.BooleanOptionalAction,
        text="standardise teacher's and student's logits before they are compared")  # fmt: skip
    for flag, name in (("-l1", "lambda1"), ("-l2", "lambda2")):
        group.add_argument(flag, dest=name, type=float, default=argparse.SUPPRESS, metavar="X",
                           help=f"CKD's {name}")  # fmt: skip

    group = parser.add_argument_group("speech and text")
    add(group, "--text_encoder", dest="text_encoder", metavar="NAME",
        text="a keras-hub preset, a folder in the manner of Hugging Face, or random:width=64,layers=2; by "
        "default the student's own preset")  # fmt: skip
    add(group, "--audio_encoder", dest="audio_encoder", metavar="NAME",
        text="vggish (in DATA/models/vggish), vggish=PATH, vggish=random, torchvggish; of cross_attention "
        "also yamnet or a speech model as teach --from takes it")  # fmt: skip
    add(group, "--vggish_pca", dest="vggish_pca", metavar="FILE",
        text="whiten and quantise VGGish's embeddings with these parameters (.npz)")  # fmt: skip
    add(group, "--text_tokens", dest="text_tokens", type=int, metavar="N",
        text="tokens that texts are cut or padded to")  # fmt: skip
    add(group, "--pooling", dest="pooling", metavar="HOW", text=f"of *_vggish: {_listed(config.POOLINGS)}")
    add(group, "--modality", dest="modality", metavar="WHICH",
        text=f"what cross_attention sees: {_listed(config.MODALITIES)}")  # fmt: skip
    add(group, "--tune_epochs", dest="tune_epochs", type=int, metavar="N",
        text="epochs in which the encoders are trained too, after --epochs with frozen ones; "
        "by default the schedule's: 0, or 50 (distilser)")  # fmt: skip

    group = parser.add_argument_group("teacher")
    add(group, "--teacher", dest="teacher", metavar="FILE",
        text="a teacher file (.npz, .csv); a student's name, such as bert_vggish: trained per fold; yamnet: "
        "a probe on YAMNet's embeddings per fold; or auto (the default when -kd is not pure): trained per "
        "fold, a wider network of the student's kind, of speech and text bert_vggish or "
        "cross_attention_teacher")  # fmt: skip
    add(group, "--teacher_width", dest="teacher_width", type=float, metavar="X",
        text="the auto teacher's width over the student's")  # fmt: skip
    add(group, "--teacher_epochs", dest="teacher_epochs", type=int, metavar="N",
        text="of a teacher trained per fold; by default the student's, or of a network of another kind its "
        "own")  # fmt: skip
    add(group, "--teacher_batch_size", dest="teacher_batch_size", type=int, metavar="N", text="likewise")
    add(group, "--teacher_learning_rate", dest="teacher_learning_rate", type=float, metavar="X",
        text="likewise")  # fmt: skip
    add(group, "--teacher_text_encoder", dest="teacher_text_encoder", metavar="NAME",
        text="by default the student's")  # fmt: skip
    add(group, "--teacher_count", dest="teacher_count", type=int, metavar="N",
        text="teachers trained per fold, whose outputs are averaged")  # fmt: skip
    add(group, "--teacher_parts", dest="teacher_parts", type=int, metavar="N",
        text="training utterances get their outputs from teachers trained without their speakers, divided "
        "into N parts; 0 not (default 5 of speech and text, else 0)")  # fmt: skip

    group = parser.add_argument_group("protocol and training")
    group.add_argument("--protocol", dest="protocol", default=argparse.SUPPRESS, metavar="NAME",
                       help=f"{_listed(config.PROTOCOL_NAMES)} (default loso; of two speakers "
                       "two_speakers)")  # fmt: skip
    add(group, "--folds", dest="folds", type=_names, metavar="A,B", text="names of the folds to run; all")
    group.add_argument("-session", dest="session_number", type=_session, default=argparse.SUPPRESS,
                       metavar="N", help="number of the fold to run, from 1; of the session, where the "
                       "corpus has sessions and no --protocol is given")  # fmt: skip
    add(group, "--fold_count", dest="fold_count", type=int, metavar="N", text="folds of group_kfold")
    add(group, "--test-on", dest="test_on", metavar="NAME",
        text="train on -dn, test on this corpus, over the emotions that both have "
        "(protocol cross_corpus)")  # fmt: skip
    group.add_argument("--different-speakers", dest="different_speakers", action="store_true",
                       default=argparse.SUPPRESS, help="speakers of one name in -dn and --test-on are "
                       "different people: no stamp says otherwise")  # fmt: skip
    add(group, "--augment", dest="augmentation", metavar="LIST",
        text="of the training set: specaugment, noise, gain, shift, speed, mixup; with settings, "
        "noise:snr_low=10:chance=1")  # fmt: skip
    add(group, "--seed", dest="seed", type=int, metavar="N", text="decides weights, order and dropout")
    add(group, "--schedule", dest="schedule", metavar="NAME",
        text=f"{_listed(config.SCHEDULE_NAMES)}; by default the student's own")  # fmt: skip
    add(group, "--epochs", "-epoc", dest="epochs", type=int, metavar="N",
        text="by default the schedule's: 300 (light_sernet), 100 (cubic), "
        "50 (fusion, distilser, multi_still)")  # fmt: skip
    add(group, "--batch_size", "-bt", dest="batch_size", type=int, metavar="N",
        text="by default the schedule's: 32, 16 (cubic) or 1 (distilser)")  # fmt: skip
    add(group, "--learning_rate", "-lr", dest="learning_rate", type=float, metavar="X",
        text="by default the schedule's: 1e-4, 1e-3 (cubic), 1e-6 (distilser), "
        "5e-5 (multi_still)")  # fmt: skip
    add(group, "--optimizer", dest="optimizer", metavar="NAME",
        text=f"{_listed(config.OPTIMIZERS)}; by default the schedule's")  # fmt: skip
    add(group, "--accumulation", dest="accumulation", type=int, metavar="N",
        text="batches whose gradients make one step; by default the schedule's: 1, "
        "or 8 (multi_still)")  # fmt: skip
    add(group, "--most_per_emotion", dest="most_per_emotion", type=int, metavar="N",
        text="train on at most N utterances of each emotion, drawn by the seed; 0 on all")  # fmt: skip
    add(group, "--soft_labels", dest="soft_labels", action=argparse.BooleanOptionalAction,
        text="train on the shares of the annotators instead of one label")  # fmt: skip
    add(group, "--qat", dest="qat", type=int, metavar="N",
        text="epochs in which the student is fine-tuned with the roundings of its int8 file")  # fmt: skip
    add(group, "--qat_learning_rate", dest="qat_learning_rate", type=float, metavar="X",
        text="of these epochs, by default a tenth of the schedule's")  # fmt: skip
    add(group, "--patience", dest="patience", type=int, metavar="N",
        text="stop a fold after N epochs without a better validation UA; 0 never")  # fmt: skip
    add(group, "--bn_momentum", dest="batch_norm_momentum", type=float, metavar="X",
        text="of batch norm's statistics, by default the schedule's: 0.99 or 0.9; "
        "0.9 for runs of a few epochs")  # fmt: skip
    add(group, "--arithmetic", dest="arithmetic", metavar="HOW",
        text="auto, bfloat16 (faster where the processor has it), float32 (exact)")  # fmt: skip

    group = parser.add_argument_group("export")
    add(group, "--export", dest="export", action=argparse.BooleanOptionalAction,
        text="train a final student on all speakers and write .tflite files")  # fmt: skip
    add(group, "-m", "--merge_tflite", dest="merge_tflite", type=_truth, metavar="BOOL",
        text="the files take raw audio: the front end is inside")  # fmt: skip


def _add_places(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("places")
    _add_data(group)
    group.add_argument(
        "--result", default="result", metavar="DIR", help="where runs are stored (default result)"
    )
    group.add_argument(
        "--run", metavar="NAME", help="name of the run's folder; by default made of the settings"
    )
    group.add_argument("-c", "--cache", default="disk", metavar="HOW", type=str.lower,
                       help="features: disk (default), ram, none (computed for each batch)")  # fmt: skip
    group.add_argument("--memory_limit", type=float, default=1.0, metavar="GB",
                       help="larger arrays are kept in files mapped into memory (default 1)")  # fmt: skip
    group.add_argument("-v", "--verbose", type=int, default=1, choices=(0, 1, 2), metavar="N",
                       help="0 only the end, 1 a progress bar (default), 2 a line per epoch")  # fmt: skip
    group.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs too")


def _add_data(parser) -> None:
    parser.add_argument(
        "--data",
        default=os.environ.get("LIGHT_SERNET_KD_DATA") or "data",
        metavar="DIR",
        help="folder of the corpora (default data, or the environment variable LIGHT_SERNET_KD_DATA)",
    )


def _add_stream_settings(group) -> None:
    """Options of `runner.Stream`; their `dest` is its argument, None keeps its default."""
    group.add_argument("--hop", dest="hop_seconds", type=float, metavar="S",
                       help="from one window's start to the next one's (default 0.5 s)")  # fmt: skip
    group.add_argument("--threshold", "--unsure-below", dest="unsure_below", type=float, metavar="P",
                       help="`unsure` where all classes are less likely "
                       "(default the file's own, else 0.5)")  # fmt: skip
    group.add_argument("--silence", dest="silence_dbfs", type=float, metavar="DB",
                       help="`unsure` below this level in dBFS (default -110, digital silence; "
                       "--silence=-50 for a fixed gate, --silence=-inf for none)")  # fmt: skip
    group.add_argument("--steady", dest="steady_db", type=float, metavar="DB",
                       help="`unsure` where the level of 80 ms frames moves by less dB, as in noise "
                       "(default 4; 0 for no gate)")  # fmt: skip
    group.add_argument("--smoothing", dest="smoothing_seconds", type=float, metavar="S",
                       help="time constant of smoothing (default 1 s; 0 for none)")  # fmt: skip


def _parser(program: str, defaults: Settings) -> _Parser:
    parser = _Parser(prog=program, description="Distil speech-emotion teachers into small students.")
    parser.add_argument("--version", action="version", version=f"light-sernet-kd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    # train.py is the train command: its name stands for both words.
    train_program = program if program == "train.py" else f"{program} train"

    train = commands.add_parser(
        "train",
        prog=train_program,
        help="distil, cross-validate, report and export a student",
        description="Distil, cross-validate, report and export a student.",
        epilog=_EPILOG,
    )
    teach = commands.add_parser(
        "teach",
        help="make a teacher for every fold and write its outputs to a teacher file",
        description="Make a teacher per fold, on that fold's training speakers only, and write a teacher "
        "file for --teacher: a wider network, or with --from a student's architecture, a probe on another "
        "network's embeddings, or that network fine-tuned.",
    )
    teach.add_argument("--from", dest="source", metavar="MODEL",
                       help="a student's name, such as bert_vggish or resnet18; yamnet; or a speech model "
                       "(WavLM, wav2vec 2.0, HuBERT) by its name on the "
                       "Hugging Face hub or its folder, e.g. microsoft/wavlm-base-plus")  # fmt: skip
    teach.add_argument("--fine_tune", action="store_true",
                       help="train the speech model itself, and not only a probe on its layers")  # fmt: skip
    teach.add_argument("--out", type=Path, metavar="FILE", help="default: teacher.npz in the run's folder")
    for command in (train, teach):
        _add_settings(command, defaults)
        _add_places(command)
    for action in teach._actions:
        if action.dest in _NOT_OF_TEACH:
            action.help = argparse.SUPPRESS  # known, so that it is refused with a reason

    prepare = commands.add_parser(
        "prepare",
        help="check a corpus; convert and segment it; take the audio out of videos",
        description="Check a corpus and print what is in it; with --to also convert it, or with --video take "
        "the audio out of videos.",
    )
    prepare.add_argument("corpus", nargs="?", metavar="CORPUS", help=f"{_CORPORA}, or a manifest's path")
    prepare.add_argument("--to", type=Path, metavar="DIR", help="write 16-bit WAVs and a manifest.csv there")
    prepare.add_argument("--sample-rate", type=int, metavar="HZ", help=f"default {config.SAMPLE_RATE}")
    prepare.add_argument("-id", "--input_durations", type=float, metavar="S",
                         help="say what an input of S seconds would cut away (default 3 and 7)")  # fmt: skip
    prepare.add_argument("--segment", type=float, metavar="S", help="cut into segments of S seconds")
    prepare.add_argument("--segments", metavar="HOW",
                         help="centre: one centred segment per recording (default); "
                         "all: consecutive segments")  # fmt: skip
    prepare.add_argument("--video", type=Path, metavar="PATH", help="a video, or a folder of videos")
    prepare.add_argument("--overwrite", action="store_true", help="replace what is in --to")
    prepare.add_argument("--skip-bad", action="store_true",
                         help="check or convert what can be read, without rows and labels that are "
                         "wrong")  # fmt: skip
    prepare.add_argument("--columns", type=_names, default=(), metavar="ROLE=NAME,…", help=_COLUMNS)
    prepare.add_argument("--json", action="store_true", help="print the check as JSON")
    _add_data(prepare)

    fetch = commands.add_parser(
        "fetch",
        help="download a corpus that is free; for the others, say where to get it",
        description="Download a corpus that anyone may download, checked and unpacked; for the others print "
        "where to apply and where to put the files. litert-web is what the command demo runs in the browser.",
    )
    fetch.add_argument(
        "corpus", metavar="NAME", help="EMO-DB, RAVDESS, IEMOCAP or another (-dn); or litert-web"
    )
    _add_data(fetch)

    predict = commands.add_parser(
        "predict",
        help="classify recordings or texts with an exported .tflite file, without TensorFlow",
        description="Classify recordings with an exported .tflite file. A recording longer than the "
        "student's input is heard whole, in overlapping windows: the answer has the mean probabilities and "
        "each emotion's share of the time. A student that reads text needs what is said beside the "
        "recording, or in its place. An answer not to be trusted is marked unsure, with the reason: too "
        "small a probability, silence, steady noise, or too little sound.",
    )
    predict.add_argument("model", metavar="MODEL.tflite")
    predict.add_argument("recordings", nargs="*", metavar="AUDIO")
    texts = predict.add_mutually_exclusive_group()
    texts.add_argument("--text", metavar="TEXT", help="what is said, of one recording")
    texts.add_argument("--text_file", type=Path, metavar="FILE",
                       help="what is said in several: a table (.csv, .tsv) with the columns path and "
                       "transcript, as a manifest has them")  # fmt: skip
    predict.add_argument("--json", action="store_true",
                         help="print a JSON list; what failed has an entry with its error")  # fmt: skip
    predict.add_argument("--threads", type=int, default=1, metavar="N", help="processor cores (default 1)")
    predict.add_argument("--stream", action="store_true",
                         help="overlapping windows over the whole recording: a timeline")  # fmt: skip
    _add_stream_settings(predict.add_argument_group("gates, and windows of longer recordings"))
    group = predict.add_argument_group("with --stream")
    group.add_argument("--picture", type=Path, metavar="FILE", help="also draw it (.png or .pdf)")
    group.add_argument("-v", "--verbose", action="store_true", help="print every window too")

    listen = commands.add_parser(
        "listen",
        help="classify what the microphone hears with an exported .tflite file, without TensorFlow",
        description="Classify what the microphone hears in overlapping windows, until Ctrl-C. Needs the "
        "extra listen (sounddevice).",
    )
    listen.add_argument("model", metavar="MODEL.tflite")
    listen.add_argument("--device", metavar="N", help="number or part of the name (python -m sounddevice)")
    listen.add_argument("--seconds", type=float, metavar="S", help="end after S seconds of sound")
    listen.add_argument("--json", action="store_true", help="print a line of JSON per window")
    listen.add_argument("--threads", type=int, default=1, metavar="N", help="processor cores (default 1)")
    _add_stream_settings(listen.add_argument_group("windows"))

    demo = commands.add_parser(
        "demo",
        help="a page on this machine that runs an exported student inside the browser",
        description="Serve a page on 127.0.0.1 that runs a run's exported student inside the browser, on the "
        "microphone or a file. Nothing leaves this machine. LiteRT's web runtime (12 MB) is downloaded once, "
        "also by: fetch litert-web. (The corpus named demo is another thing: train -dn demo.)",
    )
    demo.add_argument("run", type=Path, metavar="RUN", help="a run's folder, or an exported .tflite file")
    demo.add_argument("--port", type=int, default=8237, metavar="N", help="default 8237; 0 any that is free")
    demo.add_argument("--no-browser", action="store_true", help="only print the page's address")

    audit = commands.add_parser(
        "audit",
        help="what training and test of each fold share; exit code 1 when something leaks",
        description="Print what the training and the test set of each fold share: speakers, sessions, "
        "dialogs, transcripts, identical and near-identical recordings, and the speakers a teacher was "
        "trained on. Exit code 1 when something leaks.",
    )
    audit.add_argument("corpus", metavar="CORPUS", help=f"{_CORPORA}, or a manifest's path")
    audit.add_argument("--columns", type=_names, default=(), metavar="ROLE=NAME,…", help=_COLUMNS)
    audit.add_argument("--protocol", metavar="NAME",
                       help=f"{_listed(config.PROTOCOL_NAMES)} (default loso; of two speakers "
                       "two_speakers)")  # fmt: skip
    audit.add_argument("--teacher", type=Path, metavar="FILE", help="also ask what this teacher has seen")
    audit.add_argument("-at", "--audio_type", default="all", metavar="PART", help="part of the corpus")
    audit.add_argument("--emotions", type=_names, default=(), metavar="A,B,C=B", help="as for train")
    audit.add_argument("--test-on", metavar="NAME", help="as for train")
    audit.add_argument("--different-speakers", action="store_true", help="as for train")
    audit.add_argument("--skip-bad", action="store_true", help="leave out recordings that cannot be read")
    audit.add_argument("--fold_count", type=int, default=5, metavar="N", help="folds of group_kfold")
    audit.add_argument("--seed", type=int, default=0, metavar="N", help="draws the random splits")
    audit.add_argument("--json", action="store_true", help="print a JSON list")
    _add_data(audit)

    compare = commands.add_parser(
        "compare",
        help="finished runs beside one another: scores, paired tests, sizes",
        description="Compare finished runs: scores with intervals, paired tests against the first, sizes.",
    )
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, e.g. result/demo")
    compare.add_argument(
        "--out", type=Path, metavar="DIR", help="also write the table, JSON and a picture there"
    )
    compare.add_argument("--json", action="store_true", help="print JSON")

    benchmark = commands.add_parser(
        "benchmark",
        help="what exported files cost here: size, operators, multiply-adds, time, memory; and their UA",
        description="Measure exported files side by side: size, operators, multiply-adds, the time of one "
        "answer, peak memory, and with --on their UA and WA; beside them the UA of the folds' students, each "
        "on its own test fold, that a file's card tells. Without TensorFlow.",
    )
    benchmark.add_argument("models", nargs="+", type=Path, metavar="MODEL.tflite",
                           help="exported files, or the folder of a run for all of its own")  # fmt: skip
    benchmark.add_argument("--threads", type=_counts, metavar="N,M",
                           help="processor cores to measure with (default 1,2; or 1 of one)")  # fmt: skip
    benchmark.add_argument("--rounds", type=int, default=100, metavar="N",
                           help="times that each file answers (default 100; fewer where that takes more "
                           "than a minute)")  # fmt: skip
    benchmark.add_argument("--on", metavar="CORPUS", help=f"score them too: {_CORPORA}, or a manifest's path")
    benchmark.add_argument("--columns", type=_names, default=(), metavar="ROLE=NAME,…", help=_COLUMNS)
    benchmark.add_argument("--fold", metavar="NAME", help="on the test speakers of this fold only")
    benchmark.add_argument("--protocol", metavar="NAME",
                           help="of the fold (default: that of the run in whose folder the files are, with "
                           "its seed and number of folds; else loso or two_speakers)")  # fmt: skip
    benchmark.add_argument("--emotions", type=_names, default=(), metavar="A,B,C=B", help="as for train")
    benchmark.add_argument(
        "--out", type=Path, metavar="DIR", help="also write benchmark.json and benchmark.md there"
    )
    benchmark.add_argument("--json", action="store_true", help="print JSON")
    _add_data(benchmark)

    explain = commands.add_parser(
        "explain",
        help="why a run's student answered as it did: Grad-CAM, probabilities, its embedding",
        description="Explain answers of a finished run: what the fold's student looked at (Grad-CAM), its "
        "and its teacher's probabilities, and which test utterances are alike to it. Writes a page "
        "(explain.md), its numbers (explain.json) and pictures.",
    )
    explain.add_argument("run", type=Path, metavar="RUN", help="a run's folder, e.g. result/demo")
    which = explain.add_mutually_exclusive_group(required=True)
    which.add_argument("--utterance", metavar="ID", help="a recording that the run tested")
    which.add_argument("--worst", type=int, metavar="N", help="the N most confident mistakes")
    explain.add_argument("--out", type=Path, metavar="DIR",
                         help="gets a folder per utterance (default: RUN/explain)")  # fmt: skip
    _add_data(explain)

    golden = commands.add_parser(
        "golden",
        help="what exported files answer to a made recording, for an app to compare itself with",
        description="Write golden vectors: a made recording and what exported files answer to it, so that an "
        "app on another system can check that it answers alike (docs/on-device.md).",
    )
    golden.add_argument("files", nargs="+", type=Path, metavar="RUN_OR_TFLITE",
                        help="a run's folder or an exported file")  # fmt: skip
    golden.add_argument("--out", type=Path, default=Path("golden.json"), metavar="FILE",
                        help="default: golden.json")  # fmt: skip
    stress = commands.add_parser(
        "stress",
        help="exported files on degraded recordings: noise, rooms, codecs, levels, silence",
        description="Run exported .tflite files on a corpus's recordings, clean and degraded: UA, WA and "
        "what each condition costs, with intervals, per class, speaker and sex; and whether they are unsure "
        "of silence and noise. Of a run's folder, each fold's own student hears its own test speakers.",
    )
    stress.add_argument("models", nargs="+", type=Path, metavar="MODEL.tflite",
                        help="exported files, or run folders; compared with the first")  # fmt: skip
    stress.add_argument("--on", metavar="CORPUS",
                        help=f"{_CORPORA}, or a manifest's path; of a run's folder, its own")  # fmt: skip
    stress.add_argument("--columns", type=_names, default=(), metavar="ROLE=NAME,…", help=_COLUMNS)
    stress.add_argument("-at", "--audio_type", metavar="PART", help="part of the corpus")
    stress.add_argument("--emotions", type=_names, default=(), metavar="A,B,C=B", help="as for train")
    which = stress.add_mutually_exclusive_group()
    which.add_argument("--folds", type=_names, default=(), metavar="A,B",
                       help="only the test utterances of these folds")  # fmt: skip
    which.add_argument("--speakers", type=_names, default=(), metavar="A,B", help="only these speakers")
    stress.add_argument("--protocol", metavar="NAME",
                        help="whose folds --folds names, of exported files (default: that of the run in "
                        "whose folder they are, with its seed and number of folds; else loso or "
                        "two_speakers)")  # fmt: skip
    stress.add_argument("--precision", type=_names, metavar="A,B",
                        help="of a run's folder: float32, float16, dynamic, int8 (default)")  # fmt: skip
    stress.add_argument("--conditions", type=_names, default=(), metavar="A,B",
                        help="only these: white, pink, babble, gain, clipped, telephone, MP3, room, speed, "
                        "or one of them such as 'white 10 dB'")  # fmt: skip
    stress.add_argument("--limit", type=int, metavar="N",
                        help="at most N utterances of each emotion, drawn evenly over speakers")  # fmt: skip
    stress.add_argument("--seed", type=int, default=0, metavar="N",
                        help="draws noises, babble, rooms and what --limit takes; and, of files that are in "
                        "no run's folder, the folds of --protocol random")  # fmt: skip
    stress.add_argument("--skip-bad", action="store_true", help="leave out recordings that cannot be read")
    stress.add_argument("--out", type=Path, metavar="DIR",
                        help="also write stress.json, .csv, .md and .png there")  # fmt: skip
    stress.add_argument("--json", action="store_true", help="print JSON")
    _add_data(stress)

    paper = commands.add_parser(
        "paper",
        help="run every entry of hyperparameters.EXPERIMENTS whose corpus is present (with train.py)",
        description="Run every entry of hyperparameters.EXPERIMENTS whose corpus is present, as published "
        "and under an honest protocol, and set both beside the published figures in result/paper.md.",
    )
    paper.add_argument("--only", default="*", metavar="PATTERN",
                       help="names of the entries, e.g. 'cubic-emodb-*'")  # fmt: skip
    paper.add_argument("--epochs", type=int, metavar="N", help="for a trial, instead of the published number")
    _add_places(paper)
    return parser


# With what each option of `prepare` goes; None is the check alone.
_OF_PREPARE: dict[str, tuple[str | None, ...]] = {
    "CORPUS": (None, "--to"),
    "--json": (None,),
    "--input_durations": (None,),
    "--sample-rate": ("--to", "--video"),
    "--overwrite": ("--to", "--video"),
    "--segment": ("--to",),
    "--segments": ("--to",),
    "--skip-bad": (None, "--to"),
}


def _protocol_of(corpus: str, columns: Sequence[str], data: Path) -> str:
    """The protocol of a corpus where none is named."""
    from light_sernet_kd.corpora.registry import default_protocol

    return default_protocol(corpus, data, columns)


def _settings(arguments: argparse.Namespace, defaults: Mapping[str, Any]) -> Settings:
    given = vars(arguments)
    fields = {name: given[name] for name in Settings.__dataclass_fields__ if name in given}
    if "session_number" in given:
        if "folds" in fields:
            raise UserError("-session and --folds both name the folds to run: give one of them.")
        fields["folds"] = given["session_number"]
    values = {**defaults, **fields}
    for name in ("corpus", "test_on"):
        if isinstance(values.get(name), str):
            values[name] = _canonical(values[name])
    if "protocol" not in fields:
        # An option that only makes sense under one protocol chooses it.
        if "test_on" in fields:
            values["protocol"] = "cross_corpus"
        elif "session_number" in given and _has_sessions(values):
            values["protocol"] = "session"
    weights = dict(values.get("distillation_weights", {}))
    if "distillation" in fields and fields["distillation"] != defaults.get("distillation"):
        # Weights and a teacher in hyperparameters.py belong to the method named there.
        weights = dict(fields.get("distillation_weights", {}))
        if "teacher" not in fields and not mixtures.parse(fields["distillation"]).needs_teacher:
            values["teacher"] = None
    if values.get("augmentation"):
        from light_sernet_kd import augment

        # One spelling for one meaning, and a typo is refused before TensorFlow is imported.
        values["augmentation"] = augment.text_of(augment.parse(str(values["augmentation"])))
    chosen = "protocol" in values
    settings = make_settings(**{**values, "distillation_weights": weights | _lambdas(given, values)})
    if chosen:
        return settings
    # After the checks, because it looks at the corpus; and in the settings, so that config.json has it.
    protocol = _protocol_of(settings.corpus, settings.columns, Path(arguments.data))
    return make_settings(**{**settings.as_dict(), "protocol": protocol})


def _canonical(corpus: str) -> str:
    """The corpus's own spelling, so that iemocap and IEMOCAP are one run."""
    names = {name.lower(): name for name in _CORPORA.split(", ")}
    return names.get(corpus.lower(), corpus)


def _has_sessions(values: Mapping[str, Any]) -> bool:
    from light_sernet_kd.corpora import manifest
    from light_sernet_kd.corpora.registry import CORPORA

    corpus = str(values.get("corpus", Settings.corpus))
    if corpus in CORPORA:
        return CORPORA[corpus].sessions
    try:
        return "session" in manifest.roles(Path(corpus), values.get("columns", ()))
    except UserError:
        return False  # what is wrong with the manifest is said when it is read


# What makes no difference to a teacher, or is a student's alone.
_NOT_OF_TEACH = {
    "distillation": "-kd", "distillation_weights": "--kd_weights", "lambda1": "-l1", "lambda2": "-l2",
    "standardise_logits": "--standardise_logits", "augmentation": "--augment", "teacher": "--teacher",
    "export": "--export", "merge_tflite": "-m", "qat": "--qat", "qat_learning_rate": "--qat_learning_rate",
}  # fmt: skip
_NOT_OF_TEACH_FROM = {
    "student": "--student", "width": "--width", "teacher_width": "--teacher_width", "input_type": "-it",
    "teacher_count": "--teacher_count", "teacher_epochs": "--teacher_epochs", "input_seconds": "-id",
    "input_samples": "-len", "front_end": "--front_end", "schedule": "--schedule", "label_loss": "-ln",
    "patience": "--patience", "batch_norm_momentum": "--bn_momentum", "arithmetic": "--arithmetic",
    "label_smoothing": "--label_smoothing", "focal_gamma": "--focal_gamma",
    "class_weights": "--class_weights", "soft_labels": "--soft_labels",
    "teacher_batch_size": "--teacher_batch_size", "teacher_learning_rate": "--teacher_learning_rate",
    "teacher_parts": "--teacher_parts", "optimizer": "--optimizer", "accumulation": "--accumulation",
    "most_per_emotion": "--most_per_emotion", "text_tokens": "--text_tokens",
}  # fmt: skip
_OF_FINE_TUNING = {"epochs": "--epochs", "batch_size": "-bt", "learning_rate": "-lr"}


def _lambdas(given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, float]:
    """-l1 and -l2 as weights of CKD, alone or in a sum."""
    lambdas = {name: given[name] for name in ("lambda1", "lambda2") if name in given}
    if not lambdas:
        return {}
    names = [term.name for term in mixtures.parse(values.get("distillation", "pure")).terms]
    if "CKD" not in names:
        raise UserError("-l1 and -l2 are weights of CKD: add -kd CKD.")
    return {name if len(names) == 1 else f"CKD.{name}": value for name, value in lambdas.items()}


def _complain(text: str) -> None:
    print(f"light-sernet-kd: {text}", file=sys.stderr)


def _heavy_imports() -> None:
    """TensorFlow, without the lines it writes about itself."""
    from light_sernet_kd.runner import without_chatter

    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        raise UserError(f"training needs KERAS_BACKEND=tensorflow, found {backend}: set it so or unset it.")
    os.environ["KERAS_BACKEND"] = backend  # which also wins over Keras' own file of settings
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Keras imports matplotlib, which complains where it may not write its cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    logging.getLogger("tensorflow").addFilter(_is_no_advice)
    with without_chatter():
        import tensorflow  # noqa: F401


def _is_no_advice(record: logging.LogRecord) -> bool:
    # Every fold has networks of its own: their graphs are traced anew, and no user can change that.
    return "triggered tf.function retracing" not in record.getMessage()


def _start(arguments: argparse.Namespace):
    """What a command that trains needs beside its settings: a `Display` and the `Places`."""
    choose("cache", arguments.cache, config.CACHE_NAMES)
    _heavy_imports()
    from light_sernet_kd.display import Display
    from light_sernet_kd.experiment import Places

    places = Places(
        data=Path(arguments.data),
        result=Path(arguments.result),
        run=arguments.run,
        cache=arguments.cache,
        tensorboard=arguments.tensorboard,
        memory_limit=arguments.memory_limit * 2**30,
    )
    return Display(verbose=arguments.verbose), places


def _train(arguments: argparse.Namespace, defaults: Mapping[str, Any], command_line: str) -> None:
    settings = _settings(arguments, defaults)
    display, places = _start(arguments)
    from light_sernet_kd import experiment
    from light_sernet_kd.files import read_json

    folder = experiment.train(settings, places, display, command=command_line)
    metrics = read_json(folder / "metrics.json")
    display.say(experiment.summary(metrics), always=True)
    display.say(f"Report: {folder / 'report.md'}", always=True)


def _teach(arguments: argparse.Namespace, defaults: Mapping[str, Any]) -> None:
    if arguments.fine_tune and (arguments.source or "yamnet").startswith("yamnet"):
        raise UserError("--fine_tune needs --from and a speech model, such as microsoft/wavlm-base-plus.")
    without = dict(_NOT_OF_TEACH)
    own = arguments.source if arguments.source in config.ALL_STUDENT_NAMES else None
    if own:
        # a teacher of speech and text has both
        without |= {"student": "--student", "teacher_width": "--teacher_width", "modality": "--modality"}
    elif arguments.source:
        without |= _NOT_OF_TEACH_FROM | ({} if arguments.fine_tune else _OF_FINE_TUNING)
    if given := [option for name, option in without.items() if name in vars(arguments)]:
        how = f" --from {arguments.source}" if arguments.source else ""
        raise UserError(f"teach{how} makes no use of {given[0]}: leave it out.")
    settings = _settings(
        arguments,
        {
            **defaults,
            **({"student": own} if own else {}),
            "distillation": "KD",
            "distillation_weights": {},
            "teacher": own,
            "augmentation": "",
        },
    )
    display, places = _start(arguments)
    from light_sernet_kd import experiment

    if arguments.source and not own:
        path = experiment.teach_from(
            arguments.source, settings, places, display, fine_tune=arguments.fine_tune, out=arguments.out
        )
    else:
        path = experiment.teach(settings, places, display, out=arguments.out)
    display.say(f"Teacher file: {path}", always=True)


def _prepare(arguments: argparse.Namespace) -> int:
    doing = "--video" if arguments.video else "--to" if arguments.to else None
    for option, goes_with in _OF_PREPARE.items():
        given = getattr(arguments, option.strip("-").replace("-", "_").lower())
        if given is not None and given is not False and doing not in goes_with:
            remedy = f"does not go with {doing}" if doing else "needs --to, the folder that is written to"
            raise UserError(f"{option} {remedy}.")
    sample_rate = config.SAMPLE_RATE if arguments.sample_rate is None else arguments.sample_rate
    from rich.console import Console

    from light_sernet_kd import prepare
    from light_sernet_kd.corpora.registry import load

    console = Console()
    if arguments.video:
        if arguments.to is None:
            raise UserError("--video needs --to: the folder that the audio is written to.")
        written = prepare.audio_of_video(
            arguments.video, arguments.to, sample_rate=sample_rate, overwrite=arguments.overwrite
        )
        console.print(f"{len(written)} recordings written to {arguments.to}", markup=False, highlight=False)
        return 0
    if arguments.corpus is None:
        raise UserError("which corpus? Name EMO-DB, demo or a manifest's path, or videos with --video.")
    corpus = load(
        arguments.corpus, Path(arguments.data), columns=arguments.columns, skip_bad=arguments.skip_bad
    )
    if arguments.to:
        manifest = prepare.convert(
            corpus,
            arguments.to,
            sample_rate=sample_rate,
            segment_seconds=arguments.segment,
            segments=arguments.segments or "centre",
            overwrite=arguments.overwrite,
            skip_bad=arguments.skip_bad,
        )
        for line in corpus.reported():
            console.print(line, markup=False, highlight=False)
        console.print(f"Converted. Train on it with -dn {manifest}", markup=False, highlight=False)
        for text in prepare.source_warnings(corpus):
            said = f"warning: before the conversion, {text}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
        return 0
    lengths = prepare.INPUT_SECONDS
    if (seconds := arguments.input_durations) is not None:
        lengths = (make_settings(input_seconds=seconds).input_seconds,)
    found = prepare.inspect(corpus, input_seconds=lengths)
    if arguments.json:
        print(json.dumps(prepare.as_json(found), indent=2, ensure_ascii=False))
    else:
        prepare.show(found, console)
    return 2 if found.unreadable else 0


def _audit(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from light_sernet_kd import audio, audit, teachers, ties
    from light_sernet_kd.corpora import Corpus
    from light_sernet_kd.corpora.registry import load
    from light_sernet_kd.protocols import PROTOCOLS, SPLIT_PROTOCOLS, propose_folds, stamps_of

    own = (
        "cross_corpus"
        if arguments.test_on
        else _protocol_of(arguments.corpus, arguments.columns, Path(arguments.data))
    )
    protocol = arguments.protocol or own
    protocol = choose("protocol", protocol, config.PROTOCOL_NAMES)
    if (protocol == "cross_corpus") != (arguments.test_on is not None):
        raise UserError("training on one corpus and testing on another takes --test-on CORPUS.")
    made_here = ("yamnet", "auto", *config.ALL_STUDENT_NAMES)
    if arguments.teacher and str(arguments.teacher).partition("=")[0] in made_here:
        raise UserError("only a teacher file can be audited: make one with `light-sernet-kd teach`.")
    if arguments.different_speakers and arguments.test_on is None:
        raise UserError("--different-speakers speaks of two corpora: it goes with --test-on CORPUS.")
    teacher = teachers.read(arguments.teacher) if arguments.teacher else None
    one, other = (_canonical(name or "") for name in (arguments.corpus, arguments.test_on))
    corpus = load(
        one,
        Path(arguments.data),
        audio_type=arguments.audio_type,
        emotions=arguments.emotions,
        test_on=other or None,
        columns=arguments.columns,
        skip_bad=arguments.skip_bad,
    )
    bad = dict(audio.find_bad(corpus.utterances)) if arguments.skip_bad else {}
    utterances = tuple(each for each in corpus.utterances if each.id not in bad)
    if not utterances:
        raise UserError(audio.listing(bad, len(bad)))
    for reason in [*corpus.skipped.values(), *bad.values()]:
        _complain(f"left out: {reason}")
    folds = propose_folds(protocol, utterances, seed=arguments.seed, wished=arguments.fold_count)
    if teacher:
        # As train would refuse it: a teacher that does not fit says nothing of leaks.
        for fold in folds:
            teachers.aligned(teacher, utterances, Corpus("", utterances).classes, fold.name)
    fingerprints = audio.fingerprints(utterances)
    measured = audit.measure(utterances, fingerprints)
    pairs = audit.alike(measured.vectors, measured.lengths)
    alike = () if arguments.different_speakers else audit.named_alike(corpus, one, other)
    audits = audit.audit(folds, utterances, fingerprints, pairs, teacher, named_alike=alike)
    tests_apart = protocol in (*SPLIT_PROTOCOLS, "cross_corpus")
    if arguments.json:
        classes = ties.fold_classes(folds, utterances)
        value = [each.as_dict() | fold.as_dict() for each, fold in zip(audits, classes, strict=True)]
        print(json.dumps(value, indent=2, ensure_ascii=False))
        # The list is of folds; this is of the corpus.
        corpus_findings = ties.corpus_findings(folds, utterances, measured.facts, tests_apart=tests_apart)
        for text in corpus_findings.warnings:
            print(f"warning: {text}", file=sys.stderr)
    else:
        print("\n".join([f"{corpus.name}: {len(utterances)} utterances", *corpus.reported()]))
        console = Console()
        audit.show(audits, console, protocol=protocol, description=PROTOCOLS[protocol].description)
        for stamp in stamps_of(PROTOCOLS[protocol], folds, utterances):
            console.print(f"stamp: {stamp}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        ties.show(ties.findings(folds, utterances, measured.facts, tests_apart=tests_apart), console)
    return 1 if any(each.leaks for each in audits) else 0


def _compare(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from light_sernet_kd import compare

    compared = compare.compare([compare.read_run(folder) for folder in arguments.runs])
    if arguments.json:
        print(json.dumps(compared, indent=2, ensure_ascii=False))
    else:
        compare.show(compared, Console())
    if arguments.out:
        written = compare.write(compared, arguments.out)
        print(f"written: {', '.join(str(path) for path in written)}", file=sys.stderr)


def _benchmark(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    if arguments.rounds < 1:
        raise UserError(f"--rounds must be at least 1, found {arguments.rounds}.")
    for option in ("fold", "protocol", "emotions", "columns"):
        if getattr(arguments, option) and not arguments.on:
            raise UserError(f"--{option} needs --on, the corpus to score the files on.")
    if arguments.protocol and not arguments.fold:
        raise UserError("--protocol needs --fold, the fold whose test speakers are heard.")
    from light_sernet_kd import benchmark

    models: list[Path] = []
    for path in arguments.models:
        found = sorted(path.glob("*.tflite")) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path} holds no .tflite files: name a run that exported, or a file.")
        models += [each for each in found if each not in models]
    rows = None
    if arguments.on:
        rows = benchmark.heard(
            arguments.on,
            Path(arguments.data),
            fold=arguments.fold,
            protocol=arguments.protocol,
            emotions=arguments.emotions,
            files=models,
            columns=arguments.columns,
        )
    with Console(stderr=True).status("") as status:
        measured = benchmark.measure(
            models,
            threads=arguments.threads,
            rounds=arguments.rounds,
            rows=rows,
            progress=lambda what: status.update(what.replace("[", r"\[")),
        )
    if arguments.json:
        print(json.dumps(measured, indent=2, ensure_ascii=False))
    else:
        benchmark.show(measured, Console())
    if arguments.out:
        written = benchmark.write(measured, arguments.out)
        print(f"written: {', '.join(str(path) for path in written)}", file=sys.stderr)


def _explain(arguments: argparse.Namespace) -> None:
    if arguments.worst is not None and arguments.worst < 1:
        raise UserError(f"--worst must be at least 1, found {arguments.worst}.")
    from light_sernet_kd import explain

    # before TensorFlow, which takes seconds
    utterances = explain.chosen(arguments.run, arguments.utterance, arguments.worst or 0)
    if len(utterances) < (arguments.worst or 0):
        print(f"the run made {len(utterances)} mistakes only: all are explained", file=sys.stderr)
    _heavy_imports()
    for folder in explain.explained(arguments.run, utterances, data=Path(arguments.data), out=arguments.out):
        print(folder / "explain.md")


def _golden(arguments: argparse.Namespace) -> None:
    from light_sernet_kd.files import write_json
    from light_sernet_kd.golden import golden

    found = golden(arguments.files)
    write_json(arguments.out, found)
    print(f"{arguments.out}: {', '.join(each['file'] for each in found['files'])}")


def _stress(arguments: argparse.Namespace) -> None:
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit must be at least 1, found {arguments.limit}.")
    if arguments.seed < 0:
        raise UserError(f"--seed must be 0 or more, found {arguments.seed}.")
    from rich.console import Console

    from light_sernet_kd import stress
    from light_sernet_kd.corpora.registry import origin
    from light_sernet_kd.display import Display

    stress.conditions_of(arguments.conditions)  # a typo is told before anything is read
    display = Display(Console(stderr=True))
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        if any(path.is_dir() for path in arguments.models):
            corpus, tested, students = _folds_of_runs(arguments, display, stack)
        else:
            corpus, tested = _named_corpus(arguments, notes)
            tested = _chosen(arguments, corpus, tested)
            students = stress.open_students(
                arguments.models, corpus, tested=tested, origin=origin(arguments.on)
            )
        with display.counted("recordings") as told:
            stressed = stress.stress(
                students,
                corpus,
                tested=tested,
                conditions=arguments.conditions,
                seed=arguments.seed,
                skip_bad=arguments.skip_bad,
                notes=notes,
                progress=told,
            )
    if arguments.json:
        print(stress.as_json(stressed))
    else:
        stress.show(stressed, Console())
    if arguments.out:
        written = stress.write(stressed, arguments.out)
        print(f"written: {', '.join(str(path) for path in written)}", file=sys.stderr)


def _named_corpus(arguments: argparse.Namespace, notes: list[str]):
    """The corpus that exported files are stressed on, and the utterances of its folds that are named.

    What folds they are is added to the notes.
    """
    from light_sernet_kd.corpora.registry import load
    from light_sernet_kd.selection import named_folds

    if arguments.on is None:
        raise UserError("--on is missing: name the corpus to stress on, such as --on EMO-DB.")
    if arguments.precision:
        raise UserError("--precision is of a run's folder: a file has its own. Leave it out.")
    on, data, emotions = _canonical(arguments.on), Path(arguments.data), arguments.emotions
    if arguments.folds:
        chosen = named_folds(
            arguments.folds,
            arguments.models,
            on,
            data,
            protocol=arguments.protocol,
            seed=arguments.seed,
            audio_type=arguments.audio_type,
            emotions=emotions,
            columns=arguments.columns,
            skip_bad=arguments.skip_bad,
        )
        notes.append(f"tested are the test recordings of {chosen.what}")
        return chosen.corpus, chosen.utterances
    if arguments.protocol:
        raise UserError("--protocol says whose folds --folds names: add --folds, or leave it out.")
    corpus = load(
        on,
        data,
        audio_type=arguments.audio_type or "all",
        emotions=emotions,
        columns=arguments.columns,
        skip_bad=arguments.skip_bad,
    )
    return corpus, corpus.utterances


def _chosen(arguments: argparse.Namespace, corpus, tested):
    """Of the utterances those of the speakers that are named, and no more of each emotion than the limit."""
    from light_sernet_kd import stress

    if arguments.speakers:
        names = {choose("speaker", name, corpus.speakers) for name in arguments.speakers}
        there = {each.speaker for each in tested}
        if absent := sorted(names - there):
            raise UserError(
                f"no recording of {', '.join(absent)} is tested here: name some of "
                f"{', '.join(sorted(there))}."
            )
        tested = tuple(each for each in tested if each.speaker in names)
    if arguments.limit:
        tested = stress.limited(tested, arguments.limit, seed=arguments.seed)
    return tested


def _folds_of_runs(arguments: argparse.Namespace, display, stack: contextlib.ExitStack):
    """The corpus of the runs, their test utterances, and the students: of a run, one per precision."""
    for option, given in {
        "-at": arguments.audio_type,
        "--emotions": arguments.emotions,
        "--protocol": arguments.protocol,
        "--columns": arguments.columns,
    }.items():
        if given:
            raise UserError(f"{option} is a run's own: leave it out, or name exported files alone.")
    from light_sernet_kd import stress
    from light_sernet_kd.compare import read_run
    from light_sernet_kd.corpora.registry import origin

    named = [choose("precision", each, config.PRECISIONS) for each in arguments.precision or ("int8",)]
    precisions = [*dict.fromkeys(named)]
    runs = {path: read_run(path) for path in arguments.models if path.is_dir()}
    names = [run.name for run in runs.values()]
    for path, run in runs.items():
        own = run.settings["test_on"] or run.settings["corpus"]
        if arguments.on is not None and _canonical(arguments.on) != own:
            raise UserError(f"{path} was tested on {own}, not on {arguments.on}: leave --on out.")
    _heavy_imports()
    from light_sernet_kd.experiment import fold_files

    if len({path.resolve() for path in runs}) < sum(path.is_dir() for path in arguments.models):
        raise UserError("a run is named twice: name each once.")
    by_path: dict[Path, list[Any]] = {}
    tested: dict[str, Any] = {}
    corpora: list[Any] = []
    for path, run in runs.items():
        display.say(f"{path}: converting the students of its folds")
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        found, folds = fold_files(
            path, work, data=Path(arguments.data), precisions=precisions, folds=arguments.folds
        )
        corpora.append(found.corpus)
        if found.corpus.utterances != corpora[0].utterances:
            raise UserError(f"{path} is of other recordings than {next(iter(runs))}: stress them apart.")
        by_id = {each.id: each for each in found.utterances}
        ids = [frozenset(found.utterances[i].id for i in fold.test) for fold, _ in folds]
        tested |= {name: by_id[name] for name in frozenset().union(*ids)}
        by_path[path] = [
            stress.of_folds(
                f"{run.name if names.count(run.name) == 1 else path} {precision}",
                [stress.open_part(made[precision], test) for (_, made), test in zip(folds, ids, strict=True)],
                run.metrics["stamps"],
            )
            for precision in precisions
        ]
    alone = [path for path in arguments.models if path not in runs]
    heard = _chosen(arguments, corpora[0], tuple(tested[name] for name in sorted(tested)))
    of_run = next(iter(runs.values())).settings
    where = origin(of_run["test_on"] or of_run["corpus"])
    opened = stress.open_students(alone, corpora[0], tested=heard, origin=where)
    for path, student in zip(alone, opened, strict=True):
        by_path[path] = [student]
    students = [student for path in arguments.models for student in by_path[path]]
    return corpora[0], heard, students


@contextlib.contextmanager
def _download_bar() -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    with contextlib.ExitStack() as stack:

        def progress(done: int, total: int | None) -> None:
            if not bar.tasks:  # where nothing is downloaded, nothing is drawn
                stack.enter_context(bar)
                bar.add_task("download")
            bar.update(bar.task_ids[0], completed=done, total=total)

        yield progress


def _fetch(arguments: argparse.Namespace) -> None:
    from light_sernet_kd import demo, fetch

    with _download_bar() as progress:
        if arguments.corpus.lower() == demo.RUNTIME_NAME:
            print(demo.fetch_runtime(progress=progress))
        else:
            fetch.fetch(arguments.corpus, Path(arguments.data), progress=progress)


def _demo(arguments: argparse.Namespace) -> None:
    from light_sernet_kd import demo

    demo.demo(arguments.run, port=arguments.port, browser=not arguments.no_browser, bar=_download_bar)


def _predict(arguments: argparse.Namespace) -> int:
    from light_sernet_kd import predict

    request = predict.Request(
        model=arguments.model,
        recordings=arguments.recordings,
        text=arguments.text,
        text_file=arguments.text_file,
        settings=_stream_settings(arguments),
        threads=arguments.threads,
        stream=arguments.stream,
        as_json=arguments.json,
        every_window=arguments.verbose,
        picture=arguments.picture,
    )
    return 2 if predict.predict(request) else 0


def _stream_settings(arguments: argparse.Namespace) -> dict[str, float]:
    names = ("hop_seconds", "unsure_below", "silence_dbfs", "steady_db", "smoothing_seconds")
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _listen(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from light_sernet_kd import listen
    from light_sernet_kd.runner import Runner, RunnerError

    if arguments.threads < 1:
        raise UserError(f"--threads must be at least 1, found {arguments.threads}.")
    try:
        runner = Runner(arguments.model, threads=arguments.threads)
    except RunnerError as error:
        raise UserError(str(error)) from None
    device = arguments.device
    listen.listen(
        runner,
        settings=_stream_settings(arguments),
        console=Console(highlight=False),
        device=int(device) if device is not None and device.isdecimal() else device,
        seconds=arguments.seconds,
        as_json=arguments.json,
    )


def _paper(
    arguments: argparse.Namespace,
    defaults: Mapping[str, Any],
    experiments: Mapping[str, Mapping[str, Any]],
    command_line: str,
) -> None:
    if not experiments:
        raise UserError("there are no experiments here: run `sh run.sh paper` in the repository.")
    if arguments.epochs is not None and arguments.epochs < 1:
        raise UserError(f"--epochs must be at least 1, found {arguments.epochs}.")
    if arguments.run is not None:
        raise UserError("--run is for one run: paper names its own, paper-<row>-<protocol>.")
    display, places = _start(arguments)
    from light_sernet_kd import paper

    rows = paper.rows_of(experiments, defaults, only=arguments.only, epochs=arguments.epochs)
    found = paper.run(rows, places, display, command=command_line)
    paper.show(found, display)
    table = "paper-trial.md" if arguments.epochs else "paper.md"
    display.say(f"Table: {places.result / table}", always=True)


def _with_known_spelling(argv: Sequence[str], parser: _Parser) -> list[str]:
    """The arguments with `--an-option` and `--an_option` taken for the same."""
    command = parser.commands().get(argv[0] if argv else "", parser)
    known = command._option_string_actions
    spelling = {option.replace("_", "-"): option for option in known if option.startswith("--")}
    mended = []
    for argument in argv:
        option, equals, value = argument.partition("=")
        mended.append(spelling.get(option.replace("_", "-"), option) + equals + value)
    return mended


def _checked(argv: Sequence[str], program: str, parser: _Parser) -> list[str]:
    """The arguments with the command first, spelled as it is, and none of them empty."""
    argv, names = list(argv), parser.commands()
    if program == "train.py" and argv[:1] != ["paper"]:
        if argv and argv[0] in names and argv[0] != "train":
            raise UserError(f"train.py only trains: light-sernet-kd {shlex.join(argv)}")
        argv = argv if argv[:1] == ["train"] else ["train", *argv]
    elif argv and argv[0] not in parser._option_string_actions:
        argv[0] = choose("command", argv[0], names)
    for before, argument in zip(["", *argv], argv, strict=False):
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            option = argument.rstrip("=") or before
            raise UserError(f"the value after {option} is empty: give one, or leave both out.")
    return _with_known_spelling(argv, parser)


_format_warning_with_place = warnings.formatwarning


def _format_warning(message, category, filename, lineno, line=None) -> str:
    """A note on a recording in one line, any other warning as Python prints it."""
    # by name, since --help does without NumPy
    if category.__name__ == "AudioNote":
        return f"light-sernet-kd: note: {message}\n"
    return _format_warning_with_place(message, category, filename, lineno, line)


# Those that need nothing but their arguments; what a function returns, if anything, is the exit code.
_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "prepare": _prepare,
    "fetch": _fetch,
    "predict": _predict,
    "listen": _listen,
    "demo": _demo,
    "audit": _audit,
    "compare": _compare,
    "explain": _explain,
    "benchmark": _benchmark,
    "stress": _stress,
    "golden": _golden,
}


def main(
    argv: Sequence[str] | None = None,
    *,
    program: str = "light-sernet-kd",
    defaults: Mapping[str, Any] | None = None,
    experiments: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Run a command; returns the exit code.

    0; 1 when an audit found a leak; 2 for a mistake of the user's or a recording that cannot be read; 130
    when interrupted.

    Args:
        argv: by default the process's own.
        defaults: settings that a user edited, over those of `Settings`.
        experiments: what `paper` runs: name → `settings`, and `published` UA and WA in per cent where known.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    warnings.formatwarning = _format_warning
    command_line = shlex.join([*(["python", program] if program.endswith(".py") else [program]), *argv])
    defaults = dict(defaults or {})
    if defaults.get("protocol", "") is None:
        del defaults["protocol"]  # not chosen: the corpus's own is taken
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        parser = _parser(program, make_settings(**defaults))
        arguments = parser.parse_args(_checked(argv, program, parser))
        if arguments.command == "train":
            _train(arguments, defaults, command_line)
        elif arguments.command == "teach":
            _teach(arguments, defaults)
        elif arguments.command == "paper":
            _paper(arguments, defaults, experiments or {}, command_line)
        else:
            return _COMMANDS[arguments.command](arguments) or 0
    except UserError as error:
        _complain(str(error))
        return 2
    except BrokenPipeError:
        # whoever read our output has gone; nothing more can be said there
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _FULL + _FORBIDDEN:
            raise
        where = f" ({error.filename})" if error.filename else ""
        remedy = "Make room and give the same command again" if error.errno in _FULL else "Name another place"
        _complain(f"{error.strerror}{where}. {remedy}.")
        return 2
    except MemoryError:
        _complain("not enough memory. Shorter clips, smaller batches or a narrower student need less.")
        return 2
    except KeyboardInterrupt:
        goes_on = program == "train.py" or (argv and argv[0] in ("train", "teach", "paper", "fetch"))
        _complain("interrupted; the same command continues." if goes_on else "interrupted.")
        return 130
    return 0
