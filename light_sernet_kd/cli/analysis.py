"""The commands about what was trained, `compare`, `benchmark`, `explain`, `stress`, and `doctor`."""

import argparse
import contextlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd.cli.console import complain, heavy_imports, say_written
from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.options import add_data, add_option, canonical, check_ranges, corpus_names
from light_sernet_kd.config import PRECISIONS, Settings
from light_sernet_kd.config.fields import counts, names
from light_sernet_kd.errors import UserError, choose, quoted
from light_sernet_kd.registries.degradations import CONDITIONS, NOISES
from light_sernet_kd.reporting.text import pluralise

if TYPE_CHECKING:
    from light_sernet_kd.analysis.stress import RecordingSubset, StressInputs
    from light_sernet_kd.data.selection import CorpusPart
    from light_sernet_kd.reporting.display import Display


def add_compare(commands: Any, context: Context) -> None:
    compare = commands.add_parser(
        "compare",
        help="finished runs beside one another: scores, paired tests, sizes",
        description="Compare finished runs: scores with intervals, paired tests against the first, sizes.",
    )
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, e.g. result/demo")
    compare.add_argument(
        "--out", type=Path, metavar="DIR", help="also write the table, JSON and a picture there"
    )
    form = compare.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--latex", action="store_true", help="print a LaTeX table (package booktabs)")
    form.add_argument("--csv", action="store_true", help="print CSV, unrounded")


def run_compare(arguments: argparse.Namespace, context: Context) -> None:
    from rich.console import Console

    from light_sernet_kd.analysis import compare
    from light_sernet_kd.data.run_folder import read_run

    compared = compare.compare([read_run(folder) for folder in arguments.runs])
    if arguments.json:
        print(json.dumps(compared, indent=2, ensure_ascii=False))
    elif arguments.csv:
        print(compare.table(compared).csv(), end="")
        for note in compare.notes(compared):
            complain(note)
    elif arguments.latex:
        print(
            "\n".join([*compare.table(compared).latex(), *(f"% {note}" for note in compare.notes(compared))])
        )
    else:
        compare.show(compared, Console())
    if arguments.out:
        say_written(compare.write(compared, arguments.out))


def add_benchmark(commands: Any, context: Context) -> None:
    benchmark = commands.add_parser(
        "benchmark",
        help="what exported files cost here: size, operators, multiply-adds, time, memory; and their UA",
        description="Measure exported files side by side: size, operators, multiply-adds, the time of one "
        "answer, peak memory, and with --on their UA and WA; beside them the UA of the folds' students, each "
        "on its own test fold, that a file's card tells. Without TensorFlow.",
    )
    benchmark.add_argument("models", nargs="+", metavar="MODEL.tflite",
                           help="exported files, or the folder of a run or the name of a student of the "
                           "package for all of its own")  # fmt: skip
    benchmark.add_argument("--threads", type=counts, metavar="N,M",
                           help="processor cores to measure with (default 1,2; or 1 of one)")  # fmt: skip
    benchmark.add_argument("--rounds", type=int, default=100, metavar="N",
                           help="times that each file answers (default 100; fewer where that takes more "
                           "than a minute)")  # fmt: skip
    benchmark.add_argument("--on", metavar="CORPUS",
                           help=f"score them too: {corpus_names()}, or a manifest's path")  # fmt: skip
    add_option(benchmark, "columns", default=())
    benchmark.add_argument("--fold", metavar="NAME", help="on the test speakers of this fold only")
    benchmark.add_argument("--protocol", metavar="NAME",
                           help="of the fold (default: that of the run in whose folder the files are, with "
                           "its seed and number of folds; else loso or two_speakers)")  # fmt: skip
    add_option(benchmark, "emotions", default=(), text="as for train")
    benchmark.add_argument(
        "--out", type=Path, metavar="DIR", help="also write benchmark.json and benchmark.md there"
    )
    benchmark.add_argument("--json", action="store_true", help="print JSON")
    add_data(benchmark)


def run_benchmark(arguments: argparse.Namespace, context: Context) -> None:
    from rich.console import Console

    if arguments.rounds < 1:
        raise UserError(f"--rounds must be at least 1, found {arguments.rounds}.")
    for option in ("fold", "protocol", "emotions", "columns"):
        if getattr(arguments, option) and not arguments.on:
            raise UserError(f"--{option} needs --on, the corpus to score the files on.")
    if arguments.protocol and not arguments.fold:
        raise UserError("--protocol needs --fold, the fold whose test speakers are scored.")
    from light_sernet_kd.analysis import benchmark
    from light_sernet_kd.device.command_paths import located

    models = benchmark.files_of([located(each) for each in arguments.models])
    recordings = None
    if arguments.on:
        recordings = benchmark.recordings_of(
            _corpus_part(arguments, arguments.on),
            fold=arguments.fold,
            protocol=arguments.protocol,
            files=models,
        )
    with Console(stderr=True).status("") as status:
        measured = benchmark.measure(
            models,
            threads=arguments.threads,
            rounds=arguments.rounds,
            recordings=recordings,
            progress=lambda what: status.update(what.replace("[", r"\[")),
        )
    if arguments.json:
        print(json.dumps(measured, indent=2, ensure_ascii=False))
    else:
        benchmark.show(measured, Console())
    if arguments.out:
        say_written(benchmark.write(measured, arguments.out))


def add_explain(commands: Any, context: Context) -> None:
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
    add_data(explain)


def run_explain(arguments: argparse.Namespace, context: Context) -> None:
    if arguments.worst is not None and arguments.worst < 1:
        raise UserError(f"--worst must be at least 1, found {arguments.worst}.")
    from light_sernet_kd.analysis import explain

    # before TensorFlow, which takes seconds
    utterances = explain.chosen(arguments.run, arguments.utterance, arguments.worst or 0)
    if len(utterances) < (arguments.worst or 0):
        print(f"the run made only {pluralise(len(utterances), 'mistake')}: all explained", file=sys.stderr)
    heavy_imports()
    for folder in explain.explained(arguments.run, utterances, data=Path(arguments.data), out=arguments.out):
        print(folder / "explain.md")


def add_stress(commands: Any, context: Context) -> None:
    stress = commands.add_parser(
        "stress",
        help="exported files on degraded recordings: noise, rooms, codecs, levels, silence",
        description="Run exported .tflite files on a corpus's recordings, clean and degraded: UA, WA and "
        "what each condition costs, with intervals, per class, speaker and sex; and whether they are unsure "
        "of silence and noise. Of a run's folder, each fold's student on its test speakers.",
    )
    stress.add_argument("models", nargs="+", type=Path, metavar="MODEL.tflite",
                        help="exported files, or run folders; compared with the first")  # fmt: skip
    stress.add_argument("--on", metavar="CORPUS",
                        help=f"{corpus_names()}, or a manifest's path; of a run's folder, "
                        "its own")  # fmt: skip
    add_option(stress, "columns", default=())
    add_option(stress, "audio_type", default=None, text="part of the corpus")
    add_option(stress, "emotions", default=(), text="as for train")
    which = stress.add_mutually_exclusive_group()
    add_option(which, "folds", default=(), text="only the test utterances of these folds")
    which.add_argument("--speakers", type=names, default=(), metavar="A,B", help="only these speakers")
    stress.add_argument("--protocol", metavar="NAME",
                        help="whose folds --folds names, of exported files (default: that of the run in "
                        "whose folder they are, with its seed and number of folds; else loso or "
                        "two_speakers)")  # fmt: skip
    stress.add_argument("--precision", type=names, metavar="A,B",
                        help="of a run's folder: float32, float16, dynamic, int8 (default)")  # fmt: skip
    kinds = dict.fromkeys(each.kind for each in CONDITIONS.values())
    alone = dict.fromkeys(each.kind for each in CONDITIONS.values() if not each.by_default)
    stress.add_argument("--conditions", type=names, default=(), metavar="A,B",
                        help=f"only these: {', '.join(kinds)}, or one of them such as 'white 10 dB' "
                        f"(default: all but {', '.join(alone)})")  # fmt: skip
    stress.add_argument("--certify", action="store_true",
                        help="run the tests of the stress certificate instead: a verdict per test, exit code "
                        "1 where one fails; of a run, certificate.json and .md in its folder")  # fmt: skip
    stress.add_argument("--noises", type=Path, metavar="DIR",
                        help=f"folders {', '.join(NOISES)} of your own recordings, in place of what is "
                        "synthesised")  # fmt: skip
    stress.add_argument("--limit", type=int, metavar="N",
                        help="at most N utterances of each emotion, drawn evenly over speakers")  # fmt: skip
    add_option(stress, "seed", default=Settings.seed,
               text="draws noises, babble, rooms and what --limit takes; and, of files that are in no run's "
               "folder, the folds of --protocol random")  # fmt: skip
    add_option(stress, "skip_bad", default=False, text="leave out recordings that cannot be read")
    stress.add_argument("--out", type=Path, metavar="DIR",
                        help="also write stress.json, .csv, .md and .png there")  # fmt: skip
    stress.add_argument("--json", action="store_true", help="print JSON")
    add_data(stress)


def run_stress(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.certify and arguments.conditions:
        raise UserError("--certify has conditions of its own: leave --conditions out.")
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit must be at least 1, found {arguments.limit}.")
    check_ranges(arguments, "seed")
    from rich.console import Console

    from light_sernet_kd.analysis import stress
    from light_sernet_kd.reporting.display import Display

    stress.conditions_of(arguments.conditions)  # a typo is told before anything is read
    noises = stress.read_noises(arguments.noises, seed=arguments.seed)
    play = stress.certify if arguments.certify else partial(stress.stress, conditions=arguments.conditions)
    display = Display(Console(stderr=True))
    with contextlib.ExitStack() as stack:
        if any(path.is_dir() for path in arguments.models):
            stressed = _of_runs(arguments, display, stack)
        else:
            stressed = _of_files(arguments)
        with display.counted("recordings") as progress:
            result = play(
                stressed.students,
                stressed.corpus,
                tested=stressed.tested,
                noises=noises,
                seed=arguments.seed,
                skip_bad=arguments.skip_bad,
                progress=progress,
            )
    result["notes"] = [*stressed.notes, *result["notes"]]
    if arguments.json:
        print(stress.as_json(result))
    elif arguments.certify:
        stress.show_certificates(result, Console())
    else:
        stress.show(result, Console())
    if arguments.out:
        say_written(stress.write(result, arguments.out))
    if not arguments.certify:
        return 0
    _keep_certificates(arguments, stressed, result, display)
    return int(any(each["certificate"]["failed"] for each in result["students"]))


def _keep_certificates(
    arguments: argparse.Namespace, stressed: "StressInputs", result: dict[str, Any], display: "Display"
) -> None:
    """Write the certificates of runs into their folders, where all of what their folds test was played."""
    from light_sernet_kd.analysis import stress

    runs = dict.fromkeys(each.folder for each in stressed.students if each.folder)
    if not runs:
        return
    if arguments.folds or arguments.speakers or arguments.limit or result["left_out"]:
        display.say("The certificate is of a part of the recordings: it is not kept in the run's folder.")
        return
    say_written(stress.write_certificates(result, stressed.students))
    for folder in runs:
        display.say(
            f"light-sernet-kd export {quoted(str(folder))} puts the verdict into the cards of its files."
        )


def _corpus_part(arguments: argparse.Namespace, corpus: str) -> "CorpusPart":
    from light_sernet_kd.data.selection import CorpusPart

    return CorpusPart(
        corpus,
        Path(arguments.data),
        audio_type=getattr(arguments, "audio_type", None),
        emotions=arguments.emotions,
        columns=arguments.columns,
        skip_bad=getattr(arguments, "skip_bad", False),
    )


def _of_files(arguments: argparse.Namespace) -> "StressInputs":
    """Exported files, on a corpus that is named."""
    from light_sernet_kd.analysis import stress

    if arguments.on is None:
        raise UserError("--on is missing: name the corpus to stress on, such as --on EMO-DB.")
    if arguments.precision:
        raise UserError("--precision is of a run's folder: a file has its own. Leave it out.")
    if arguments.protocol and not arguments.folds:
        raise UserError("--protocol says whose folds --folds names: add --folds, or leave it out.")
    return stress.files_on(
        _corpus_part(arguments, canonical(arguments.on)),
        arguments.models,
        folds=arguments.folds,
        protocol=arguments.protocol,
        drawn=_drawn(arguments),
    )


def _of_runs(
    arguments: argparse.Namespace, display: "Display", stack: contextlib.ExitStack
) -> "StressInputs":
    """Runs, and files beside them, on the runs' corpus. What is converted lies in folders of the stack."""
    for option, value in {
        "-at": arguments.audio_type,
        "--emotions": arguments.emotions,
        "--protocol": arguments.protocol,
        "--columns": arguments.columns,
    }.items():
        if value:
            raise UserError(f"{option} is a run's own: leave it out, or name exported files alone.")
    from light_sernet_kd.analysis import stress

    named = [choose("precision", each, PRECISIONS) for each in arguments.precision or ("int8",)]
    precisions = [*dict.fromkeys(named)]
    runs = stress.read_runs(arguments.models)
    for path, run in runs.items():
        corpus = stress.corpus_of(run)
        if arguments.on is not None and canonical(arguments.on) != corpus:
            raise UserError(f"{path} was tested on {corpus}, not on {arguments.on}: leave --on out.")
    heavy_imports()
    import tempfile

    from light_sernet_kd.experiment import fold_files

    def convert(path: Path) -> Any:
        display.say(f"{path}: converting the students of its folds")
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        return fold_files(path, work, data=Path(arguments.data), precisions=precisions, folds=arguments.folds)

    return stress.runs_and_files(
        runs, arguments.models, convert=convert, precisions=precisions, drawn=_drawn(arguments)
    )


def _drawn(arguments: argparse.Namespace) -> "RecordingSubset":
    from light_sernet_kd.analysis.stress import RecordingSubset

    return RecordingSubset(arguments.speakers, arguments.limit, arguments.seed)


def add_doctor(commands: Any, context: Context) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="what this machine has of what the package can use: packages, extras, corpora, GPU, disk",
        description="Print versions, processor, memory, disk, GPU, packages, extras and corpora, with what "
        "to do about what is missing. Send it along with a report of a fault. Exit code 1 where a package "
        "that is always needed is missing or of another version.",
    )
    doctor.add_argument("--json", action="store_true", help="print a JSON list")
    add_data(doctor)
    doctor.add_argument("--result", type=Path, default=Path("result"), metavar="DIR",
                        help="where runs are stored (default result)")  # fmt: skip


def run_doctor(arguments: argparse.Namespace, context: Context) -> int:
    from rich.console import Console

    from light_sernet_kd.analysis import doctor
    from light_sernet_kd.errors import install_line
    from light_sernet_kd.reporting import tables

    findings = [*doctor.examine(Path(arguments.data), arguments.result)]
    if arguments.json:
        print(json.dumps([each.as_dict() for each in findings], indent=2, ensure_ascii=False))
    else:
        # A command within a narrow table would be broken where nobody can copy it.
        extras = [
            each for each in findings if each.topic == "extras" and each.remedy == install_line(each.name)
        ]
        columns = tables.words("topic", "name", "found", "what to do")
        rows = [
            [each.topic, each.name, each.state, "an extra, as below" if each in extras else each.remedy]
            for each in findings
        ]
        tables.Table(columns, rows).show(Console())
        if extras:
            print(f"An extra is installed with  {install_line('NAME')}")
    return int(any(each.is_wrong for each in findings))
