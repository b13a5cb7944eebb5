"""What a run says on the terminal, and where there is none."""

import io

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
