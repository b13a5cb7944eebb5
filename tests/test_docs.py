"""README, CONTRIBUTING and docs/: the site builds, commands and imports work, and prose keeps its limits."""

import ast
import contextlib
import csv
import dataclasses
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from small_runs import rendered, shallow_light_sernet

import hyperparameters
from light_sernet_kd import cli, runner
from light_sernet_kd.config import distillation_spec
from light_sernet_kd.corpora import demo
from light_sernet_kd.device import shipped
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import read_json
from light_sernet_kd.registries.front_ends import FRONT_ENDS, LSN
from light_sernet_kd.registries.recipes import OURS_SETTINGS, RECIPES
from light_sernet_kd.registries.schedules import SCHEDULES

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [str(path.relative_to(REPOSITORY)) for path in PAGES]

RUN = "run"
PARSE = "parse"
# What a test does with each command of the pages; the first pattern that fits counts. `run` executes the
# line as it stands, in a folder with a stand-in corpus and a run of seconds; `parse` gives it to the program,
# which checks it; `no` does neither. The last two say why.
COMMANDS = {
    "light-sernet-kd predict * - --format jsonl": f"{PARSE}: reads standard input; test_service writes to it",
    "light-sernet-kd predict student_dynamic.tflite a.wav --text *": f"{PARSE}: test_predict reads text",
    "light-sernet-kd predict * --profile *": f"{PARSE}: needs a run with --enrolment, as test_enroll has it",
    "light-sernet-kd enroll *": f"{PARSE}: needs a run with --enrolment, as test_enroll has it",
    "light-sernet-kd predict *": RUN,
    "light-sernet-kd prepare --video *": f"{PARSE}: test_prepare has videos",
    "light-sernet-kd prepare *": RUN,
    "light-sernet-kd audit demo": f"{PARSE}: test_demo makes all of it, test_audit audits",
    "light-sernet-kd audit IEMOCAP *": f"{PARSE}: test_corpora has the stand-in of IEMOCAP",
    "light-sernet-kd audit *": RUN,
    "light-sernet-kd compare result/pure result/KD *": f"{PARSE}: the names of runs differ, the rest is run",
    "light-sernet-kd compare *": RUN,
    "light-sernet-kd explain *": RUN,
    "light-sernet-kd export *": RUN,
    "light-sernet-kd golden *": RUN,
    "light-sernet-kd grid * --dry-run": RUN,
    "light-sernet-kd grid *": f"{PARSE}: trains for hours; test_grid has runs of a second",
    "light-sernet-kd recipe *": RUN,
    "light-sernet-kd search * --dry-run": RUN,
    "light-sernet-kd teach * --on *": "no: needs Ray; test_ray_clips has a cluster",
    "light-sernet-kd search * --on *": f"{PARSE}: needs a cluster; test_ray_search has one",
    "light-sernet-kd search *": f"{PARSE}: trains for hours; test_search has trials of a second",
    "light-sernet-kd benchmark *": RUN,
    "light-sernet-kd stress * --certify*": f"{PARSE}: test_certificate runs it; its code may be 1",
    "light-sernet-kd stress student_int8.tflite *": RUN,
    "light-sernet-kd stress *": f"{PARSE}: test_stress converts the students of a run, which takes a minute",
    "light-sernet-kd teach *": f"{PARSE}: trains teachers; test_teachers and test_end_to_end have quick ones",
    "light-sernet-kd fetch *": f"{PARSE}: downloads; test_fetch has a server",
    "light-sernet-kd listen *": f"{PARSE}: needs a microphone; test_stream has blocks of sound",
    "light-sernet-kd listen": f"{PARSE}: needs a microphone; test_stream has blocks of sound",
    "light-sernet-kd demo": f"{PARSE}: serves until Ctrl-C; test_page opens it in Chromium",
    "light-sernet-kd models": RUN,
    "light-sernet-kd demo *": f"{PARSE}: serves until Ctrl-C; test_page opens it in Chromium",
    "light-sernet-kd completion *": "no: writes into the reader's home; test_options completes in bash",
    "light-sernet-kd train --config *": "no: test_config_file has files, and repeats a run",
    "light-sernet-kd train * --callbacks *": "no: test_callbacks has files, and trains with them",
    "light-sernet-kd train --plugin *": "no: test_plugins writes the file and trains with it",
    "python train.py grid EXPERIMENTS *": f"{PARSE}: the command line is train.py's; test_grid reads them",
    "python train.py paper *": f"{PARSE}: trains for hours; test_experiments has quick rows",
    "python train.py * --on *": "no: needs Ray; test_ray_clips has a cluster",
    "python train.py *": f"{PARSE}: trains for hours; test_end_to_end trains for seconds",
    "python benchmarks/*": "no: takes minutes",
    "sh run.sh test*": "no: it would run this test",
    "sh run.sh*": "no: it installs; test_install runs it where all is installed",
    "git clone *": "no: there is no address yet",
    ". .venv/bin/activate": "no: changes the reader's shell",
    "python -m venv .venv *": "no: changes the reader's shell",
    "python -m pip install *": "no: installs; test_install makes environments with the base and with train",
    "python service.py *": "no: serves until Ctrl-C; test_service runs it",
    "curl *": "no: asks that server, as test_service does",
    "docker *": "no: needs a daemon; test_service checks the file, and with one builds it",
    "export RAY_USAGE_STATS_ENABLED=0": "no: changes the reader's shell",
    "ray start *": "no: starts a cluster that stays; test_ray_grid has one of its own",
    "uv pip compile *": "no: asks a package index",
    "printf * | uv pip compile *": "no: asks a package index",
    ".venv/bin/ruff check *": "no: test_style runs these",
    ".venv/bin/mkdocs serve": "no: serves until Ctrl-C; the site is built below",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def commands(text: str) -> list[str]:
    """The command lines of a shell block, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def matches(pattern: str, command: str) -> bool:
    return fnmatchcase(command, pattern.replace("[", "[[]"))


def disposition(command: str) -> str:
    for pattern, what in COMMANDS.items():
        if matches(pattern, command):
            return what
    raise AssertionError(f"tests/test_docs.py has no row for the command: {command}")


def shown(what: str = "") -> list[str]:
    """The commands of all pages, or those of one disposition."""
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in commands(block)]
    return [line for line in dict.fromkeys(lines) if not what or fits(line, what)]


def fits(command: str, what: str) -> bool:
    with contextlib.suppress(AssertionError):  # has a test of its own
        return disposition(command).partition(":")[0] == what
    return False


def check(command: str, nowhere: Path, capsys) -> None:
    """Give a command of ours to the program, up to where it would begin to work."""
    words = shlex.split(command)[1:]
    if command.startswith("python train.py"):
        words = words[1:] if words[1] in ("paper", "grid") else ["train", *words[1:]]
    if words[0] in ("train", "teach"):
        # All options and choices are checked before the corpus is looked for, which is not there.
        line = shlex.join(words).replace("-dn demo ", "-dn EMO-DB ")
        places = ["--data", str(nowhere), "--result", str(nowhere)]
        assert cli.main([*shlex.split(line), *places], defaults=hyperparameters.DEFAULTS) == 2
        error = capsys.readouterr().err
        assert re.search("no recordings in|no manifest", error), error
    else:
        _hooks()["parser"]().parse_args(words)
        if words[0] == "enroll" or {"--profile", "--embedding"} & {*words}:
            # Only such a file has the second signature; a run's folder may hold one.
            assert not words[1].endswith(".tflite") or words[1].endswith("_enrolled.tflite"), command


def _hooks() -> dict:
    return runpy.run_path(str(DOCS / "hooks.py"))


@pytest.mark.parametrize("command", shown())
def test_every_command_has_a_row(command):
    assert disposition(command)


def test_windows_is_given_the_commands_that_others_have():
    (block,) = blocks(DOCS / "quickstart.md", "powershell")
    # where sh has a backslash at the end of a line, PowerShell has a backtick
    lines = [line for line in commands(block.replace(" `\n", " \\\n")) if line.startswith("python ")]
    modes = ["python -m pytest", "python train.py paper"]
    assert lines[-2:] == modes
    assert set(lines[:-2]) <= {*shown()}
    script = (REPOSITORY / "run.sh").read_text(encoding="utf-8")
    assert all(mode.replace("python ", ".venv/bin/python ", 1) in script for mode in modes)


@pytest.mark.parametrize("command", [*dict.fromkeys(
    line for block in blocks(DOCS / "quickstart.md", "sh") for line in commands(block)
    if not line.startswith(("git clone", ".", "python -m venv"))
)])  # fmt: skip
def test_every_step_from_the_install_to_the_phone_is_run_by_a_test(command):
    what = disposition(command)
    tests = {path.stem for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert what == RUN or {*re.findall(r"test_\w+", what)} & tests, what


@pytest.mark.parametrize("pattern", COMMANDS)
def test_every_row_has_a_command(pattern):
    assert any(matches(pattern, command) for command in shown())


@pytest.mark.parametrize("command", shown(PARSE))
def test_the_program_takes_the_commands_of_the_pages(command, tmp_path, capsys):
    check(command, tmp_path, capsys)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python train.py -dn EMO-DB --epoch 3", "unknown option --epoch"),
        ("python train.py -dn EMODB", "EMODB"),
        ("python train.py -dn EMO-DB -kd KDD", "KDD"),
        ("python train.py -dn EMO-DB -it mfccs", "mfccs"),
        ("python train.py -dn EMO-DB --augment noises", "noises"),
        ("light-sernet-kd teach -dn EMO-DB --epochs many", "many"),
        ("light-sernet-kd compair result/one", "compair"),
        ("light-sernet-kd enroll student_int8.tflite a.wav --profile me.json", "enroll student_int8.tflite"),
        ("light-sernet-kd explain result/one", "required"),
    ],
)
def test_a_wrong_command_would_be_noticed(command, words, tmp_path, capsys):
    with pytest.raises((UserError, AssertionError), match=re.escape(words)):
        check(command, tmp_path, capsys)


@pytest.mark.parametrize("line", ["rm -rf result", "light-sernet-kd-x predict", "pythonx train.py -kd KD"])
def test_a_command_without_a_row_would_be_noticed(line):
    with pytest.raises(AssertionError, match="no row for the command"):
        disposition(line)


SPEAKERS = {"03": "s1", "08": "s2", "09": "s3", "10": "s4"}
LETTERS = {"W": "anger", "N": "neutral", "T": "sadness"}
CODES = ("a01", "a02", "a04")
QUICK = "-id 1.2 --width 0.15 --learning_rate 3e-3 --bn_momentum 0.8 -bt 8 --epochs 2 -v 0"


def stand_in(folder: Path) -> dict[str, np.ndarray]:
    """A small EMO-DB of made speech; its clips by name."""
    (folder / "wav").mkdir(parents=True)
    clips = {}
    for speaker, voice in SPEAKERS.items():
        for code, sentence in zip(CODES, demo.SENTENCES, strict=False):
            for letter, emotion in LETTERS.items():
                clips[f"{speaker}{code}{letter}a"] = demo.synthesise(voice, sentence, emotion)
    for name, clip in clips.items():
        soundfile.write(folder / "wav" / f"{name}.wav", clip, 16_000)
    return clips


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder in which the commands of the pages find what they name."""
    folder = tmp_path_factory.mktemp("docs")
    clips = stand_in(folder / "data" / "EMO-DB")
    table = [(f"{folder}/data/EMO-DB/wav/{name}.wav", LETTERS[name[5]], name[:2]) for name in clips]
    for place, head in (
        ("my.csv", ("path", "emotion", "speaker")),
        ("path/to/manifest.csv", ("path", "emotion", "speaker")),
        ("other.csv", ("recording", "emotion", "talker")),
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / place, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *table])
    some = list(clips.values())
    for name in ("a.wav", "your.wav", "b.flac", "another.flac"):
        soundfile.write(folder / name, some.pop(), 16_000)
    (folder / "speech").mkdir()
    unlabelled = demo.synthesise("s5", list(demo.SENTENCES)[5], "anger")
    soundfile.write(folder / "speech" / "unlabelled.flac", unlabelled, 16_000)
    soundfile.write(folder / "talk.wav", np.concatenate(some[:4]), 16_000)
    logits = np.random.default_rng(0).normal(size=(len(clips), len(LETTERS)))
    np.savez(folder / "logits.npz", ids=[*clips], classes=[*LETTERS.values()], logits=logits)
    grid, space = blocks(DOCS / "scale.md", "toml")
    (folder / "methods.toml").write_text(grid, encoding="utf-8")
    (folder / "space.toml").write_text(space, encoding="utf-8")
    shutil.copytree(REPOSITORY / "benchmarks", folder / "benchmarks")
    with inside(folder), pytest.MonkeyPatch.context() as patch:
        patch.delenv("LIGHT_SERNET_KD_DATA", raising=False)  # the stand-in, not the corpus itself
        with shallow_light_sernet():
            some = ["--folds", "03,08", "--run", "my-run"]
            assert cli.main(["train", "-dn", "my.csv", *QUICK.split(), *some]) == 0
        for name in ("demo", "demo-alone", "one", "two"):
            shutil.copytree("result/my-run", f"result/{name}")
        for file in Path("result/my-run").glob("*.tflite"):
            shutil.copy(file, ".")
    return folder


@pytest.mark.parametrize("command", shown(RUN))
def test_the_commands_of_the_pages_run(workplace, capsys, monkeypatch, command):
    monkeypatch.delenv("LIGHT_SERNET_KD_DATA", raising=False)
    with inside(workplace):
        code = cli.main(shlex.split(command)[1:])
    printed = capsys.readouterr()
    # who trained the teacher logits.npz is not known, which audit counts as a leak
    assert code == ("--teacher" in command), printed.err
    assert printed.out.strip()


def test_the_table_of_the_card_has_every_field():
    text = (DOCS / "on-device.md").read_text(encoding="utf-8")
    rows = text.partition("| Field of the card |")[2].partition("\n\n")[0].splitlines()[2:]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    cards = [runner.Runner(path).card for path in shipped.default().folder.glob("*.tflite")]
    assert cards
    assert {*runner._FIELDS, *(name for card in cards for name in card)} <= named


def has(module: ModuleType, name: str) -> bool:
    return hasattr(module, name) or (
        hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.{name}") is not None
    )


def members() -> list[str]:
    """What the page api.md names of each module, with the module."""
    named = []
    for block in (DOCS / "api.md").read_text(encoding="utf-8").split("\n::: ")[1:]:
        module, _, options = block.partition("\n\n")[0].partition("\n")
        listed = options.partition("members:")[2].partition("filters:")[0]
        named += [f"{module}.{name}" for name in re.findall(r"\w+", listed)]
    return named


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_the_pages_import_is_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("light_sernet_kd"):
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not has(module, alias.name)]
                assert not missing, f"{page.name} imports {missing} from {node.module}"


@pytest.mark.parametrize("page", ["teachers.md", "distillation.md", "dimensions.md"])
def test_the_programs_of_the_pages_run(page, tmp_path):
    # those of on-device.md are run by test_golden
    programs = blocks(DOCS / page, "python")
    assert programs
    with inside(tmp_path):
        for program in programs:
            exec(compile(program, page, "exec"), {})
    assert [*tmp_path.iterdir()]


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="mkdocs, mkdocs-material and mkdocstrings are not installed: the extra docs has them",
)
def test_the_site_builds_and_its_command_page_has_every_option(tmp_path):
    site = tmp_path / "site"
    # without --quiet, under which warnings are not counted
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (site / "cli.html").read_text(encoding="utf-8")
    hooks = _hooks()
    subparsers = hooks["subparsers"](hooks["parser"]())
    assert len(subparsers) >= 13
    for name, parser in subparsers.items():
        assert f'id="{name}"' in page
        for option, action in parser._option_string_actions.items():
            hidden = action.help == "==SUPPRESS==" or option in ("-h", "--help")
            assert hidden or re.search(rf"<code>{re.escape(option)}(?![\w-])", page), (name, option)
    page = (site / "api.html").read_text(encoding="utf-8")
    assert len(members()) > 20
    assert [name for name in members() if f'id="{name}"' not in page] == []


def test_the_picture_is_made_of_the_tables(tmp_path):
    picture = runpy.run_path(str(DOCS / "picture.py"))
    for name, drawn in (("pipeline.png", "main"), ("sizes.png", "sizes"), ("taught.png", "taught")):
        with rendered(name):
            picture[drawn](tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000
        assert (DOCS / "pictures" / name).stat().st_size < 200_000


def test_the_figures_of_the_readme_are_those_of_the_results():
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("\n## Results\n")[2]
    figures = set(re.findall(r"\d+\.\d+", section.partition("\n## ")[0]))
    assert len(figures) > 10
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    assert {figure for figure in figures if figure not in results} == set()


def test_the_log_of_choices_has_the_recorded_scores_of_variants_that_there_are():
    choices = runpy.run_path(str(REPOSITORY / "benchmarks" / "choices.py"))
    recorded = DOCS / "results" / "choices.jsonl"
    page = recorded.with_suffix(".md").read_text(encoding="utf-8")
    assert page.endswith(choices["table"](recorded) + "\n")
    lines = choices["lines_of"](recorded)
    assert {line["variant"] for line in lines} <= {*choices["VARIANTS"]}
    # No one else may be scored: who was never scored tests what was chosen.
    for line in lines:
        assert tuple(line["group"]) in choices["HELD_OUT"][line["corpus"]]
    robust, recipe = choices["VARIANTS"]["robust"], RECIPES["robust"].settings
    schedule = SCHEDULES[recipe["schedule"]]
    spectrum = FRONT_ENDS[recipe["front_end"]].spectra[recipe["input_type"]]
    assert dataclasses.replace(LSN, **robust.front_end) == spectrum
    voice = choices["VARIANTS"]["voice"]
    assert dataclasses.replace(LSN, **voice.front_end) == FRONT_ENDS["robust_voice"].spectra["mfcc"]
    assert dataclasses.replace(voice, front_end=robust.front_end) == robust
    assert SCHEDULES["light_sernet"].changed(
        **robust.schedule, epochs=schedule.epochs
    ) == dataclasses.replace(schedule, decay=SCHEDULES["light_sernet"].decay, decay_every=20, decay_from=50)
    assert (robust.augmentation, robust.every) == (recipe["augmentation"], recipe["augment_every"])


def test_the_log_of_choices_has_the_recorded_scores_of_ways_to_teach(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    distilled = runpy.run_path(str(REPOSITORY / "benchmarks" / "distilled.py"))
    recorded = DOCS / "results" / "distilled.jsonl"
    assert distilled["table"](recorded) in (DOCS / "results" / "choices.md").read_text(encoding="utf-8")
    for line in distilled["lines_of"](recorded):
        assert line["method"] in distilled["METHODS"]
        assert tuple(line["group"]) in distilled["HELD_OUT"][line["corpus"]]
    chosen = distilled["METHODS"]["kd-hint"]
    assert distillation_spec.parse(chosen.distillation) == distillation_spec.parse(
        OURS_SETTINGS["distillation"]
    )
    assert chosen.settings == OURS_SETTINGS["distillation_weights"]
    assert distilled["COMPONENTS"] == OURS_SETTINGS["teacher_components"]


@pytest.mark.parametrize(("page", "most"), [("README.md", 160), ("CONTRIBUTING.md", 80)])
def test_the_first_pages_are_short(page, most):
    assert len((REPOSITORY / page).read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize("corpus", ["emodb", "ravdess"])
def test_a_certificate_is_as_it_was_written_and_the_page_says_what_it_says(corpus):
    path = DOCS / "results" / f"certificate-{corpus}.json"
    of_int8 = read_json(path, dict)["precisions"]["int8"]
    passed, failed = of_int8["passed"], len(of_int8["short"]["failed"])
    says = f"{passed} of {passed + failed} tests passed"
    table = path.with_suffix(".md").read_text(encoding="utf-8")
    assert f"**robust-{corpus} int8: {says}, {of_int8['not_run']} not run" in table
    assert f"**{says}**" in (DOCS / "robustness.md").read_text(encoding="utf-8")
    kinds = ("| correctness", "| fairness", "| robustness")
    rows = [line for line in table.splitlines() if line.startswith(kinds)]
    assert len(rows) == len(of_int8["tests"])
    for verdict, count in (("passed", passed), ("failed", failed), ("not run", of_int8["not_run"])):
        assert sum(f"| {verdict} |" in row for row in rows) == count


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_lines_have_at_most_100_columns(page):
    if page.stem.startswith("certificate"):
        pytest.skip("`stress --certify` wrote it")
    text = page.read_text(encoding="utf-8")
    # a row of a table cannot wrap, nor what a program printed
    text = re.sub(r"^```text\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    long = [line for line in text.splitlines() if len(line) > 100 and not line.startswith("|")]
    assert not long


def sentences(text: str) -> list[str]:
    """The sentences of a page's paragraphs and lists, without code blocks, tables and headings."""
    text = re.sub(r"^```.*?^```$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(\||#|:::|    |<!--|!\[).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"\n\s*(?:[-*]|\d+\.) |\n\s*\n|(?<=[.!?])[*_)]*\s+", "\n" + text)
    return [part.strip() for part in parts if re.search(r"\w", part)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_sentences_average_fewer_than_18_words(page):
    found = sentences(page.read_text(encoding="utf-8"))
    lengths = [len(sentence.split()) for sentence in found]
    assert sum(lengths) / max(1, len(lengths)) < 18, sorted(found, key=lambda each: -len(each.split()))[:3]


def test_sentences_are_counted():
    text = "# Head\n\nOne two three. Four `a.b` five!\n\n- six\n- seven\n\n| no | no |\n\n```sh\nno\n```\n"
    assert sentences(text) == ["One two three.", "Four `a.b` five!", "six", "seven"]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_lead_to_files(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []
