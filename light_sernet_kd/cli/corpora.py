"""The commands about corpora: `prepare`, `fetch`, `audit`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd.cli.console import complain, download_bar
from light_sernet_kd.cli.context import Context
from light_sernet_kd.cli.options import (
    add_data,
    add_option,
    canonical,
    check_ranges,
    corpus_names,
    protocol_of,
)
from light_sernet_kd.config import SAMPLE_RATE, Settings, make_settings
from light_sernet_kd.config.checks import check_two_corpora
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.files import path_on_disk
from light_sernet_kd.registries.corpora import CORPORA, registered_name
from light_sernet_kd.registries.protocols import PROTOCOLS, two_corpora_protocol
from light_sernet_kd.registries.teachers import teacher_source
from light_sernet_kd.reporting.text import pluralise

if TYPE_CHECKING:
    from light_sernet_kd.analysis.audit import Audited, Question
    from light_sernet_kd.corpora import Corpus


def add_prepare(commands: Any, context: Context) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="check a corpus; convert and segment it; take the audio out of videos",
        description="Check a corpus and print what is in it; with --to also convert it, or with --video take "
        "the audio out of videos.",
    )
    prepare.add_argument(
        "corpus", nargs="?", metavar="CORPUS", help=f"{corpus_names()}, or a manifest's path"
    )
    prepare.add_argument("--to", type=Path, metavar="DIR", help="write 16-bit WAVs and a manifest.csv there")
    prepare.add_argument("--sample-rate", type=int, metavar="HZ", help=f"default {SAMPLE_RATE}")
    add_option(prepare, "input_seconds", default=None,
               text="say what an input of S seconds would cut away (default 3 and 7)")  # fmt: skip
    prepare.add_argument("--segment", type=float, metavar="S", help="cut into segments of S seconds")
    prepare.add_argument("--segments", metavar="HOW",
                         help="centre: one centred segment per recording (default); "
                         "all: consecutive segments")  # fmt: skip
    prepare.add_argument("--video", type=Path, metavar="PATH", help="a video, or a folder of videos")
    prepare.add_argument("--overwrite", action="store_true", help="replace what is in --to")
    add_option(prepare, "skip_bad", default=False,
               text="check or convert what can be read, without rows and labels that are wrong")  # fmt: skip
    add_option(prepare, "columns", default=())
    prepare.add_argument("--json", action="store_true", help="print the check as JSON")
    add_data(prepare)


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
_DEST = {"--input_durations": "input_seconds"}


def run_prepare(arguments: argparse.Namespace, context: Context) -> int:
    doing = "--video" if arguments.video else "--to" if arguments.to else None
    for option, goes_with in _OF_PREPARE.items():
        value = getattr(arguments, _DEST.get(option, option.strip("-").replace("-", "_").lower()))
        if value is not None and value is not False and doing not in goes_with:
            remedy = f"does not go with {doing}" if doing else "needs --to, the folder that is written to"
            raise UserError(f"{option} {remedy}.")
    sample_rate = SAMPLE_RATE if arguments.sample_rate is None else arguments.sample_rate
    from rich.console import Console

    from light_sernet_kd.corpora.registry import load
    from light_sernet_kd.data import prepare

    console = Console()
    if arguments.video:
        if arguments.to is None:
            raise UserError("--video needs --to: the folder that the audio is written to.")
        written = prepare.audio_of_video(
            arguments.video, arguments.to, sample_rate=sample_rate, overwrite=arguments.overwrite
        )
        count = pluralise(len(written), "recording")
        console.print(f"{count} written to {arguments.to}", markup=False, highlight=False)
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
            overwrite=arguments.overwrite,
            skip_bad=arguments.skip_bad,
            conversion=prepare.Conversion(
                sample_rate=sample_rate,
                segment_seconds=arguments.segment,
                segments=arguments.segments or "centre",
            ),
        )
        for line in corpus.reported():
            console.print(line, markup=False, highlight=False)
        console.print(f"Converted. Train on it with -dn {manifest}", markup=False, highlight=False)
        if text := _about_ratings(arguments.corpus, corpus, arguments.columns):
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        for text in prepare.source_warnings(corpus):
            said = f"warning: before the conversion, {text}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
        return 0
    lengths = prepare.INPUT_SECONDS
    if (seconds := arguments.input_seconds) is not None:
        lengths = (make_settings(input_seconds=seconds).input_seconds,)
    inspection = prepare.inspect(corpus, input_seconds=lengths)
    if arguments.json:
        print(json.dumps(prepare.as_json(inspection), indent=2, ensure_ascii=False))
    else:
        prepare.show(inspection, console)
    return 2 if inspection.unreadable else 0


def _about_ratings(name: str, corpus: "Corpus", columns: Sequence[str]) -> str:
    """What became of listeners' ratings in a conversion; empty where there are none."""
    from light_sernet_kd.corpora import manifest
    from light_sernet_kd.corpora.registry import is_manifest
    from light_sernet_kd.registries.dimensions import DIMENSIONS

    if corpus.dimension_range is not None:
        rated = set().union(*(each.dimensions or () for each in corpus.utterances))
        names = ",".join(each for each in DIMENSIONS if each in rated)
        low, high = corpus.dimension_range
        return f"For its ratings add --dimensions {names} --dimension_range {low:g},{high:g}" if names else ""
    known = manifest.roles(path_on_disk(Path(name)), columns) if is_manifest(name) else ()
    left = [each for each in DIMENSIONS if each in known]
    return f"warning: ratings of a table are not taken over, here {', '.join(left)}." if left else ""


def add_fetch(commands: Any, context: Context) -> None:
    fetch = commands.add_parser(
        "fetch",
        help="download a corpus that is free; for the others, say where to get it",
        description="Download a corpus that anyone may download, checked and unpacked; for the others print "
        "where to apply and where to put the files. litert-web is what the command demo runs in the browser.",
    )
    fetch.add_argument(
        "corpus", metavar="NAME", nargs="?",
        help="EMO-DB, RAVDESS, IEMOCAP or another (-dn); or litert-web; without it, what there is"
    )  # fmt: skip
    add_data(fetch)


def run_fetch(arguments: argparse.Namespace, context: Context) -> None:
    from light_sernet_kd.corpora import fetch
    from light_sernet_kd.corpora.registry import is_manifest
    from light_sernet_kd.device import serve

    name = arguments.corpus
    if name is None:
        return _show_downloads()
    if not (registered_name(name) or is_manifest(name)):
        fetched = [known for known, source in CORPORA.items() if source.origin]
        name = choose("download", name, [*fetched, serve.RUNTIME_NAME])
    with download_bar() as progress:
        if name == serve.RUNTIME_NAME:
            print(serve.fetch_runtime(progress=progress))
        else:
            fetch.fetch(name, Path(arguments.data), progress=progress)


def _show_downloads() -> None:
    """What `fetch` knows by name, and which of it is downloaded."""
    from rich.console import Console

    from light_sernet_kd.device import serve
    from light_sernet_kd.reporting import tables

    rows = [
        [name, "downloads it" if place.archive else "says where to get it", place.licence]
        for name, source in CORPORA.items()
        if (place := source.origin)
    ]
    rows.append([serve.RUNTIME_NAME, "downloads it", "Apache 2.0"])
    tables.Table(tables.words("name", "fetch", "licence"), rows).show(Console())


def add_audit(commands: Any, context: Context) -> None:
    audit = commands.add_parser(
        "audit",
        help="what training and test of each fold share; exit code 1 when something leaks",
        description="Print what the training and the test set of each fold share: speakers, sessions, "
        "dialogs, transcripts, identical and near-identical recordings, and the speakers a teacher was "
        "trained on. Exit code 1 when something leaks.",
    )
    audit.add_argument("corpus", metavar="CORPUS", help=f"{corpus_names()}, or a manifest's path")
    add_option(audit, "columns", default=())
    add_option(audit, "protocol", default=None)
    audit.add_argument("--teacher", type=Path, metavar="FILE", help="also ask what this teacher has seen")
    audit.add_argument("--unlabelled", type=Path, metavar="DIR",
                       help="also ask which of these recordings without labels are test or validation "
                       "recordings")  # fmt: skip
    add_option(audit, "audio_type", default="all", text="part of the corpus")
    add_option(audit, "emotions", default=(), text="as for train")
    add_option(audit, "test_on", default=None, text="as for train")
    add_option(audit, "different_speakers", default=False, text="as for train")
    add_option(audit, "skip_bad", default=False, text="leave out recordings that cannot be read")
    add_option(audit, "fold_count", default=Settings.fold_count)
    add_option(audit, "seed", default=Settings.seed, text="draws the random splits")
    audit.add_argument("--json", action="store_true", help="print a JSON list")
    add_data(audit)


def run_audit(arguments: argparse.Namespace, context: Context) -> int:
    from light_sernet_kd.analysis import audit
    from light_sernet_kd.data.unlabelled import leaks_named

    audited = audit.audited(_audit_question(arguments), say=complain)
    if arguments.json:
        print(json.dumps(audited.as_list(), indent=2, ensure_ascii=False))
        # The list is of folds; this is of the corpus.
        for text in audited.corpus_findings.warnings:
            print(f"warning: {text}", file=sys.stderr)
        if audited.unlabelled_leaks:
            print(f"leak: {leaks_named(audited.unlabelled_leaks)}", file=sys.stderr)
    else:
        _show_audit(audited)
    return 1 if audited.unlabelled_leaks or any(each.leaks for each in audited.audits) else 0


def _audit_question(arguments: argparse.Namespace) -> "Question":
    """What is audited, after the checks that need no recording."""
    from light_sernet_kd.analysis.audit import Question
    from light_sernet_kd.data.selection import CorpusPart

    check_ranges(arguments, "seed", "fold_count")
    if arguments.protocol:
        protocol = choose("protocol", arguments.protocol, PROTOCOLS)
    elif arguments.test_on:
        protocol = two_corpora_protocol()
    else:
        protocol = protocol_of(arguments.corpus, arguments.columns, Path(arguments.data))
    check_two_corpora(protocol, arguments.test_on, different_speakers=arguments.different_speakers)
    if arguments.teacher and teacher_source(str(arguments.teacher))[0].kind != "read":
        raise UserError("only a teacher file can be audited: make one with `light-sernet-kd teach`.")
    return Question(
        CorpusPart(
            canonical(arguments.corpus),
            Path(arguments.data),
            audio_type=arguments.audio_type,
            emotions=arguments.emotions,
            columns=arguments.columns,
            skip_bad=arguments.skip_bad,
        ),
        protocol,
        test_on=canonical(arguments.test_on or ""),
        teacher=arguments.teacher,
        different_speakers=arguments.different_speakers,
        fold_count=arguments.fold_count,
        seed=arguments.seed,
        unlabelled=arguments.unlabelled,
    )


def _show_audit(audited: "Audited") -> None:
    from rich.console import Console

    from light_sernet_kd.analysis import audit
    from light_sernet_kd.data import confounds
    from light_sernet_kd.data.unlabelled import leaks_named
    from light_sernet_kd.reporting.tables import say

    print(
        "\n".join(
            [f"{audited.corpus.name}: {len(audited.utterances)} utterances", *audited.corpus.reported()]
        )
    )
    console = Console()
    audit.show(
        audited.audits,
        console,
        protocol=audited.protocol,
        description=PROTOCOLS[audited.protocol].description,
    )
    if audited.unlabelled:
        leaks = leaks_named(audited.unlabelled_leaks) if audited.unlabelled_leaks else ""
        say(console, f"unlabelled: {audited.unlabelled}")
        say(console, leaks or "no unlabelled recording tests or validates", style="bold yellow" * bool(leaks))
    for stamp in audited.stamps:
        console.print(f"stamp: {stamp}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    confounds.show(audited.findings, console)
