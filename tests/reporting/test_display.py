"""What a run says on the terminal, and where there is none."""

import io
import logging

import pytest
from rich.console import Console

from light_sernet_kd.reporting.display import Display

EPOCH = "fold [a], student: epoch 1/2, loss 0.500, validation UA 75.0 %; run ends about 16:40\n"


@pytest.mark.parametrize(
    ("verbose", "said"),
    [
        (0, ""),
        (1, "fold [a], student ...\n" + EPOCH),
        (2, EPOCH),
    ],
)
def test_without_a_terminal_a_network_says_each_epoch(verbose, said):
    console = Console(file=io.StringIO())
    with Display(console, verbose=verbose).network("fold [a], student") as network:
        begun = console.file.getvalue()
        network.epoch(1, 2, {"loss": 0.5, "val_ua": 0.75}, "run ends about 16:40")
    assert console.file.getvalue() == said
    assert begun == ("fold [a], student ...\n" if verbose == 1 else "")


def test_without_a_console_lines_are_logged_and_nothing_is_printed(caplog, capsys):
    caplog.set_level(logging.DEBUG, "light_sernet_kd")
    for verbose in (0, 1):
        display = Display(verbose=verbose)
        display.say("  a line")
        display.say("the end", always=True)
        display.warn("one class is rare")
        with display.network("fold x"), display.counted("clips") as counted:
            counted(1, 2)
    said = [(each.levelname, each.getMessage()) for each in caplog.records]
    end, warning = ("INFO", "the end"), ("WARNING", "one class is rare")
    expected = [("DEBUG", "a line"), end, warning, ("INFO", "a line"), end, warning, ("INFO", "fold x ...")]
    assert said == expected
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_same_lines_of_a_command_are_printed():
    console = Console(file=io.StringIO())
    display = Display(console)
    display.say("  a line")
    display.warn("one class is rare")
    assert console.file.getvalue() == "  a line\n  Warning: one class is rare\n"
