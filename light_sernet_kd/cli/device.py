"""The commands that run exported files: `predict`, `enroll`, `listen`, `demo`, `models`, `golden`."""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

from light_sernet_kd.cli.console import download_bar
from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.options import add_profile, add_stream_settings, add_threads, stream_settings
from light_sernet_kd.errors import UserError

_MODEL = (
    "an exported .tflite file, the folder of a run, or the name of a student of the package (see models); "
    "without it, the package's own student answers"
)
_RECORDINGS = "recordings, folders of them, or lists with a path per line: @FILE, or - for standard input"


def add_predict(commands: Any, context: Context) -> None:
    predict = commands.add_parser(
        "predict",
        help="classify recordings or texts with an exported .tflite file, without TensorFlow",
        description="Classify recordings with an exported .tflite file. A recording longer than the "
        "student's input is answered in overlapping windows: the answer has the mean probabilities and "
        "each emotion's share of the time. A student that reads text needs what is said beside the "
        "recording, or in its place. An answer not to be trusted is marked unsure, with the reason: too "
        "small a probability, silence, steady noise, or too little sound.",
    )
    predict.add_argument("model", nargs="?", metavar="MODEL", help=_MODEL)
    predict.add_argument("recordings", nargs="*", metavar="AUDIO", help=_RECORDINGS)
    predict.add_argument("--examples", action="store_true", help="the package's own recordings too")
    texts = predict.add_mutually_exclusive_group()
    texts.add_argument("--text", metavar="TEXT", help="what is said, of one recording")
    texts.add_argument("--text_file", type=Path, metavar="FILE",
                       help="what is said in several: a table (.csv, .tsv) with the columns path and "
                       "transcript, as a manifest has them")  # fmt: skip
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--format", type=str.lower, default=None, choices=("text", "json", "jsonl", "csv"),
                      metavar="FORM",
                      help="text (default), json, jsonl or csv; each answer is written at once, and what "
                      "failed has an entry with its error")  # fmt: skip
    form.add_argument("--json", action="store_true", help="the same as --format json")
    predict.add_argument("--labels", metavar="A,B",
                         help="choose among these classes alone; their probabilities sum to 1")  # fmt: skip
    predict.add_argument("--embedding", action="store_true",
                         help="the recording's embedding too, of a student_*_enrolled.tflite")  # fmt: skip
    predict.add_argument("--jobs", type=int, default=1, metavar="N",
                         help="answer so many recordings at once (default 1)")  # fmt: skip
    add_profile(predict)
    add_threads(predict)
    predict.add_argument("--stream", action="store_true",
                         help="overlapping windows over the whole recording: a timeline")  # fmt: skip
    add_stream_settings(predict.add_argument_group("gates, and windows of longer recordings"))
    group = predict.add_argument_group("with --stream")
    group.add_argument("--picture", type=Path, metavar="FILE", help="also draw it (.png, .svg or .pdf)")
    group.add_argument("-v", "--verbose", action="store_true", help="print every window too")


def run_predict(arguments: argparse.Namespace, context: Context) -> int:
    from light_sernet_kd.device import command_paths, predict, shipped

    model, recordings = command_paths.model_and_recordings(arguments.model, arguments.recordings)
    if arguments.examples:
        recordings = [*map(str, shipped.examples()), *recordings]
    request = predict.Request(
        model=model,
        recordings=recordings,
        text=arguments.text,
        text_file=arguments.text_file,
        settings=stream_settings(arguments),
        threads=arguments.threads,
        jobs=arguments.jobs,
        stream=arguments.stream,
        form=arguments.format or ("json" if arguments.json else "text"),
        labels=[name for each in (arguments.labels or "").split(",") if (name := each.strip())],
        embedding=arguments.embedding,
        every_window=arguments.verbose,
        picture=arguments.picture,
        profile=arguments.profile,
    )
    return 2 if predict.predict(request) else 0


def add_enroll(commands: Any, context: Context) -> None:
    enroll = commands.add_parser(
        "enroll",
        help="a speaker's profile of recordings without labels, with which answers are better",
        description="Write what an exported file has to know of a speaker: the mean embedding of some "
        "recordings, 10 or more, which need no labels. The file is a student_*_enrolled.tflite, which a run "
        "with --enrolment exports. "
        "Recordings without speech are left out. The profile holds no sound, but may identify the speaker.",
    )
    enroll.add_argument("model", nargs="?", metavar="MODEL", help="a student_*_enrolled.tflite, the folder "
                        "of a run, or the name of a student of the package, which is taken where none is "
                        "named")  # fmt: skip
    enroll.add_argument("recordings", nargs="*", metavar="AUDIO", help=_RECORDINGS)
    enroll.add_argument("--profile", type=Path, required=True, metavar="FILE", help="what is written (.json)")
    enroll.add_argument("--add", action="store_true", help="go on with the profile that is there")
    add_threads(enroll)


def run_enroll(arguments: argparse.Namespace, context: Context) -> int:
    from light_sernet_kd.device import command_paths, enroll

    model, recordings = command_paths.model_and_recordings(arguments.model, arguments.recordings)
    if not recordings:
        raise UserError("enroll needs recordings of the speaker: name some, or a folder of them.")
    failed = enroll.enroll(
        model,
        recordings,
        arguments.profile,
        add=arguments.add,
        threads=arguments.threads,
        say=print,
    )
    return 2 if failed else 0


def add_listen(commands: Any, context: Context) -> None:
    listen = commands.add_parser(
        "listen",
        help="classify what the microphone hears with an exported .tflite file, without TensorFlow",
        description="Classify what the microphone hears in overlapping windows, until Ctrl-C. Needs the "
        "extra listen (sounddevice).",
    )
    listen.add_argument("model", nargs="?", metavar="MODEL", help=_MODEL)
    listen.add_argument("--device", metavar="N", help="number or part of the name (python -m sounddevice)")
    listen.add_argument("--seconds", type=float, metavar="S", help="end after S seconds of sound")
    listen.add_argument("--json", action="store_true", help="print a line of JSON per window")
    add_profile(listen)
    listen.add_argument("--learn", action="store_true",
                        help="with --profile: add the sound to it, of one speaker alone; saved every "
                        "minute and at the end. A profile that is not there is begun")  # fmt: skip
    add_threads(listen)
    add_stream_settings(listen.add_argument_group("windows"))


def run_listen(arguments: argparse.Namespace, context: Context) -> None:
    from rich.console import Console

    from light_sernet_kd.device import enroll, listen

    learn, profile = arguments.learn, arguments.profile
    if learn and profile is None:
        raise UserError("--learn goes with --profile, which names what it is kept in.")
    begins = learn and not profile.exists()
    runner = enroll.opened(arguments.model, None if begins else profile, threads=arguments.threads)
    device = arguments.device
    listen.listen(
        runner,
        settings={**stream_settings(arguments), "learn": learn},
        model=arguments.model,
        console=Console(highlight=False),
        device=int(device) if device is not None and device.isdecimal() else device,
        seconds=arguments.seconds,
        as_json=arguments.json,
        profile=profile if learn else None,
    )


def add_demo(commands: Any, context: Context) -> None:
    serve = commands.add_parser(
        "demo",
        help="a page on this machine that runs an exported student inside the browser",
        description="Serve a page on 127.0.0.1 that runs a run's exported student inside the browser, on the "
        "microphone or a file. Nothing leaves this machine. LiteRT's web runtime (12 MB) is downloaded once, "
        "also by: fetch litert-web. (The corpus named demo is another thing: train -dn demo.)",
    )
    serve.add_argument("run", nargs="?", metavar="RUN", help=_MODEL)
    serve.add_argument("--port", type=int, default=8237, metavar="N", help="default 8237; 0 any that is free")
    add_profile(serve, "begin with what is known of the speaker, as enroll writes it")
    serve.add_argument("--no-browser", action="store_true", help="only print the page's address")
    serve.add_argument("--out", type=Path, metavar="DIR",
                       help="write the page as a folder for any web server, and serve nothing")  # fmt: skip


def run_demo(arguments: argparse.Namespace, context: Context) -> None:
    from light_sernet_kd.device import answers, command_paths, serve, shipped

    if arguments.run is None:
        answers.tell(shipped.introduction())
    serve.demo(
        command_paths.located(arguments.run),
        port=arguments.port,
        profile=arguments.profile,
        out=arguments.out,
        browser=not arguments.no_browser,
        say=functools.partial(print, flush=True),  # a pipe would keep the address to itself
        bar=download_bar,
    )


def add_models(commands: Any, context: Context) -> None:
    models = commands.add_parser(
        "models",
        help="the students that are here: of the package, and those that runs exported",
        description="List students with what they were trained on, the scores of their folds, and their "
        "size. What takes a run's folder takes those of the package by name.",
    )
    models.add_argument("--result", type=Path, default=Path("result"), metavar="DIR",
                        help="where runs are stored (default result)")  # fmt: skip
    models.add_argument("--json", action="store_true", help="print a JSON list")


def run_models(arguments: argparse.Namespace, context: Context) -> None:
    from rich.console import Console

    from light_sernet_kd.device import models

    available = models.available(arguments.result)
    if arguments.json:
        print(json.dumps([each.as_dict() for each in available], indent=2, ensure_ascii=False))
    else:
        models.table(available).show(Console())


def add_golden(commands: Any, context: Context) -> None:
    golden = commands.add_parser(
        "golden",
        help="what exported files answer to a made recording, for an app to compare itself with",
        description="Write golden vectors: a made recording and what exported files answer to it, so that an "
        "app on another system can check that it answers alike (docs/on-device.md).",
    )
    golden.add_argument("files", nargs="+", metavar="RUN_OR_TFLITE",
                        help="an exported file, the folder of a run, or the name of a student of the "
                        "package")  # fmt: skip
    golden.add_argument("--out", type=Path, default=Path("golden.json"), metavar="FILE",
                        help="default: golden.json")  # fmt: skip


def run_golden(arguments: argparse.Namespace, context: Context) -> None:
    from light_sernet_kd.device.command_paths import located
    from light_sernet_kd.export.golden import golden
    from light_sernet_kd.files import write_json

    golden_record = golden([located(each) for each in arguments.files])
    write_json(arguments.out, golden_record)
    print(f"{arguments.out}: {', '.join(each['file'] for each in golden_record['files'])}")
