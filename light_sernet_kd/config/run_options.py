"""Where a run reads and writes, and what it shows; none of it decides a score."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd.config import user_callbacks
from light_sernet_kd.config.fields import Range, setting
from light_sernet_kd.errors import UserError, install_line

CACHES = ("disk", "ram", "none")
PLACES = "places"
DATA_VARIABLE = "LIGHT_SERNET_KD_DATA"


def data_folder() -> str:
    """The folder of the corpora where none is named."""
    return os.environ.get(DATA_VARIABLE) or "data"


@dataclass(frozen=True)
class RunOptions:
    """Where a run reads and writes, and what it shows; none of it decides a score.

    Attributes:
        data: holds the corpora's folders.
        result: holds the runs' folders and the cache of features.
        memory_gb: larger arrays of recordings, and with `cache="ram"` of features, are kept in a file and
            mapped into memory; in GiB.
        callbacks: factories of Keras callbacks, or their names, as `config.user_callbacks` reads them.
        devices: how many share each batch of one network, on JAX; None leaves it to the kind of network.
        clips: what encodes unlabelled clips elsewhere, as `data.unlabelled.Clips` takes it; None for here.

    >>> RunOptions(memory_gb=0.5).memory_bytes
    536870912.0
    """

    data: Path = setting(
        Path("data"), "--data", group=PLACES, metavar="DIR", parse=Path, shows_default=False,
        help=f"folder of the corpora (default data, or the environment variable {DATA_VARIABLE})",
    )  # fmt: skip
    result: Path = setting(
        Path("result"), "--result", group=PLACES, metavar="DIR", parse=Path, help="where runs are stored"
    )
    run: str | None = setting(
        None, "--run", group=PLACES, metavar="NAME",
        help="name of the run's folder; by default made of the settings",
    )  # fmt: skip
    cache: str = setting(
        "disk", "-c", "--cache", group=PLACES, metavar="HOW", parse=str.lower, choices=CACHES,
        shows_default=False, help="features: disk (default), ram, none (computed for each batch)",
    )  # fmt: skip
    memory_gb: float = setting(
        1.0, "--memory_limit", group=PLACES, metavar="GB", range=Range(0),
        help="larger arrays are kept in files mapped into memory",
    )  # fmt: skip
    devices: int | None = setting(
        None, "--devices", group=PLACES, metavar="N", range=Range(0, above=True, text="at least 1"),
        help="with --engine jax, GPUs that share each batch of a network; by default 1, and of speech and "
        "text as many as its batch size is a multiple of",
    )  # fmt: skip
    verbose: int = setting(
        1, "-v", "--verbose", group=PLACES, metavar="N", shows_default=False,
        range=Range(0, 2, text="0, 1 or 2"),
        help="0 only the end, 1 a progress bar, or a line per epoch where no terminal is (default), 2 a line "
        "per epoch",
    )  # fmt: skip
    audio: bool = setting(
        True, "--audio", group=PLACES, shows_default=False,
        help="let report.html play its surest mistakes, which puts up to 20 recordings into it (default); "
        "--no-audio leaves them out",
    )  # fmt: skip
    callbacks: tuple[str | Callable[..., Any], ...] = setting(
        (), user_callbacks.OPTION, group=PLACES, metavar="MODULE:FACTORY", shows_default=False, repeats=True,
        example="['my.py:make']",
        help="Keras callbacks of your own for each network, such as my_callbacks:make or my.py:make "
        "(docs/runs.md); may be given several times",
    )  # fmt: skip
    tensorboard: bool = setting(
        False, "--tensorboard", group=PLACES, shows_default=False, help="write TensorBoard logs too"
    )

    clips: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        """Refuse at once what would only fail when TensorFlow is loaded and the corpus is read.

        Raises:
            UserError: what writes logs of TensorBoard is not installed, or no factory of callbacks can have
                such a name.
        """
        for each in self.callbacks:
            if isinstance(each, str):
                user_callbacks.check(each)
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise UserError(f"TensorBoard is not installed: {install_line('tensorboard')}")

    @property
    def memory_bytes(self) -> float:
        return self.memory_gb * 2**30
