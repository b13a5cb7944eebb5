"""What the command line says on stderr, and what it imports late."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from light_sernet_kd.errors import UserError, is_installed, missing
from light_sernet_kd.registries.engines import ENGINES, EXPORTS

if TYPE_CHECKING:
    import logging

    from light_sernet_kd.reporting.display import Display


def complain(text: str) -> None:
    print(f"light-sernet-kd: {text}", file=sys.stderr)


def terminal(verbose: int = 1) -> "Display":
    """What a command that trains says, on stdout."""
    from rich.console import Console

    from light_sernet_kd.reporting.display import Display

    return Display(Console(), verbose=verbose)


def say_written(paths: Iterable[object]) -> None:
    print(f"written: {', '.join(map(str, paths))}", file=sys.stderr)


def heavy_imports(engine: str = EXPORTS) -> None:
    """Import the engine, without the lines it writes about itself, and make it Keras' backend.

    Raises:
        UserError: Keras is to compute with another, or it is not installed.
    """
    import importlib
    import logging

    from light_sernet_kd.runner import without_chatter

    backend, module = ENGINES[engine].backend, ENGINES[engine].module
    if not is_installed(module):
        raise missing(module, "this command")
    keras = sys.modules.get("keras")
    wanted = os.environ.get("KERAS_BACKEND") or backend
    for each in (wanted, keras.backend.backend() if keras else wanted):
        if each != backend:
            raise UserError(
                f"this command needs KERAS_BACKEND={backend}, found {each}: set it so or unset it."
            )
    os.environ["KERAS_BACKEND"] = backend  # which also wins over Keras' own file of settings
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Keras imports matplotlib, which complains where it may not write its cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    logging.getLogger("tensorflow").addFilter(_is_no_advice)
    with without_chatter():
        importlib.import_module(module)
        if module != "tensorflow" and is_installed("tensorflow"):
            # Keras imports it wherever it is installed, and it must not take the memory of another's GPU.
            tensorflow = importlib.import_module("tensorflow")
            tensorflow.config.set_visible_devices([], "GPU")


def _is_no_advice(record: "logging.LogRecord") -> bool:
    # Every fold has networks of its own: their graphs are traced anew, and no user can change that.
    return "triggered tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def download_bar() -> Iterator[Callable[[int, int | None], None]]:
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
