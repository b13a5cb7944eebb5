"""What a run says: on the terminal of a command, else to the logger `light_sernet_kd`."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

_log = logging.getLogger("light_sernet_kd")


class Display:
    """Says what a run does: 0 only its end, 1 a progress bar per network, 2 a line per epoch.

    Where there is no terminal, 1 says a line where a network begins and one per epoch instead.

    Args:
        console: of a command. Without one nothing is printed: lines are logged, what `verbose` leaves out at
            the level DEBUG.
    """

    def __init__(self, console: Console | None = None, *, verbose: int = 1):
        self.logs = console is None
        self.console = console or Console(quiet=True)
        self.verbose = verbose

    def say(self, text: str, *, always: bool = False) -> None:
        shown = bool(self.verbose) or always
        if self.logs:
            _log.log(logging.INFO if shown else logging.DEBUG, "%s", text.strip())
        elif shown:
            # Text, because a path may look like rich's markup
            self.console.print(Text(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a line that begins with Warning, or log it at the level WARNING."""
        if self.logs:
            _log.warning("%s", text)
        else:
            self.say(f"  Warning: {text}")

    @property
    def draws_bars(self) -> bool:
        return self.verbose == 1 and not self.logs and self.console.is_terminal

    @contextlib.contextmanager
    def counted(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A context that draws a progress bar; it yields a function to call with (number done, total)."""
        if not self.draws_bars:
            yield lambda done, total: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def network(self, name: str) -> "_NetworkDisplay":
        """A context for the training of one network; its method `epoch` is to be called after each epoch."""
        return _NetworkDisplay(self, name)


class _NetworkDisplay:
    def __init__(self, display: Display, name: str):
        self.display, self.name = display, name
        self.bar: Progress | None = None

    def __enter__(self) -> "_NetworkDisplay":
        if self.display.draws_bars:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[scores]}"),
                console=self.display.console,
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=None, scores="")
        elif self.display.verbose == 1:
            self.display.say(f"{self.name} ...")
        return self

    def epoch(self, epoch: int, epochs: int, row: Mapping[str, float], ends: str = "") -> None:
        """Show the scores of an epoch.

        Args:
            epoch: its number, counted from 1, of `epochs`.
            row: its losses and scores, as the history holds them.
            ends: when the run ends, in words; empty where that is not known.
        """
        scores = f"loss {row['loss']:.3f}"
        if "val_ua" in row:
            scores += f", validation UA {100 * row['val_ua']:.1f} %"
        elif "val_ccc" in row:
            scores += f", validation CCC {row['val_ccc']:z.2f}"
        scores += f"; {ends}" if ends else ""
        if self.bar:
            self.bar.update(self.task, completed=epoch, total=epochs, scores=scores)
        elif self.display.verbose:
            self.display.say(f"{self.name}: epoch {epoch}/{epochs}, {scores}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
