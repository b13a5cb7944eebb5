"""`--help` ends with examples that the parser takes, and `completion` writes what a shell completes with."""

import fnmatch
import os
import shlex
import subprocess
import sys

import pytest
from conftest import REPOSITORY

import hyperparameters
from light_sernet_kd import cli
from light_sernet_kd.cli.entry import COMMANDS
from light_sernet_kd.cli.examples import EXAMPLES
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.registries.corpora import CORPORA
from light_sernet_kd.registries.students import STUDENTS

LINES = [(command, words) for command, lines in EXAMPLES.items() for words in lines]
SETTINGS = ("train", "search")


def test_every_command_has_examples():
    assert [*EXAMPLES] == [*COMMANDS]
    assert all(EXAMPLES.values())


@pytest.mark.parametrize(("command", "words"), LINES, ids=[" ".join(each) for each in LINES])
def test_the_parser_takes_an_example(command, words):
    parser = cli.make_parser()
    arguments = parser.parse_args(parser.checked([command, *shlex.split(words)], "light-sernet-kd"))
    assert arguments.command == command
    if command in SETTINGS and "manifest.csv" not in words:
        assert settings_of(arguments, {}).corpus in CORPORA


def test_the_example_of_paper_names_experiments():
    (words,) = EXAMPLES["paper"]
    option, pattern = shlex.split(words)
    assert option == "--only"
    assert fnmatch.filter(hyperparameters.EXPERIMENTS, pattern)


@pytest.mark.parametrize("command", ["fetch", "grid"])
def test_help_shows_the_examples_as_they_are_typed(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    shown = capsys.readouterr().out
    for words in EXAMPLES[command]:
        assert f"  light-sernet-kd {command} {words}\n" in shown
    assert ("the file:" in shown) == (command == "grid")


def test_of_train_py_they_name_it(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"], program="train.py")
    assert f"  train.py {EXAMPLES['train'][0]}\n" in capsys.readouterr().out


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    pytest.importorskip("shtab")
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "light_sernet_kd", "completion", shell],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        (folder / shell).write_text(done.stdout, encoding="utf-8")
    return folder


# Without a PATH: nothing but the shell completes.
IN_BASH = """
source {script}
COMP_WORDS=({words} "{last}"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
_shtab_light_sernet_kd
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(not os.path.exists("/bin/bash"), reason="no bash here")
@pytest.mark.parametrize(
    ("words", "last", "expected"),
    [
        ("light-sernet-kd", "com", {"compare", "completion"}),
        ("light-sernet-kd train", "--label_", {"--label_smoothing"}),
        ("light-sernet-kd train --student", "light", {"light_sernet", "light_sernet_plus"}),
        ("light-sernet-kd train -dn", "KEM", {"KEMDy19", "KEMDy20"}),
        ("light-sernet-kd audit", "ES", {"ESD"}),
        ("light-sernet-kd completion", "f", {"fish"}),
    ],
)
def test_bash_completes_without_starting_the_program(words, last, expected, scripts):
    program = IN_BASH.format(script=scripts / "bash", words=words, last=last)
    done = subprocess.run(
        ["/bin/bash", "-c", program], env={"PATH": ""}, capture_output=True, text=True, check=True
    )
    assert {*done.stdout.split()} == expected, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_has_every_command_and_name(shell, scripts):
    text = (scripts / shell).read_text(encoding="utf-8")
    missing = [name for name in (*COMMANDS, *STUDENTS, *CORPORA, "label_smoothing") if name not in text]
    assert missing == []


def test_another_shell_is_refused(capsys):
    assert cli.main(["completion", "tcsh"]) == 2
    assert "unknown shell 'tcsh'." in capsys.readouterr().err
