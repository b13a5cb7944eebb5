"""Many questions answered in some processes, in order, and how far that is on stderr."""

import contextlib
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from light_sernet_kd.device import answers
from light_sernet_kd.errors import UserError

Asked = TypeVar("Asked")
Settings = TypeVar("Settings")
Answering = Callable[[Any], dict[str, Any]]
# An answer, and the lines that were told of it.
Answered = tuple[dict[str, Any], list[str]]

# Questions that each further process is given beforehand. It goes on with them while this one answers a
# long recording; more would hold more of a list that has no end.
_AHEAD = 8
_answering: Answering | None = None


def each(
    here: Answering,
    made: Callable[[Settings], Answering],
    settings: Settings,
    questions: Iterable[Asked],
    *,
    jobs: int,
) -> Iterator[tuple[Asked, dict[str, Any]]]:
    """Each question with its answer, in order.

    What is told of one (`answers.tell`) is told before it comes.

    Args:
        here: answers in this process, which is one of the jobs.
        made: makes what answers in another process, of `settings`; both are pickled.
        jobs: processes.

    Raises:
        UserError: a process ended without an answer, as for want of memory.
    """
    if jobs <= 1:
        for question in questions:
            yield question, here(question)
        return
    # A fork would share LiteRT's threads, which it does not survive.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs - 1, mp_context=context, initializer=_begin, initargs=(made, settings))
    waiting: deque[tuple[Asked, Future[Answered]]] = deque()
    try:
        for question in questions:
            elsewhere = sum(not future.done() for _, future in waiting)
            if elsewhere < _AHEAD * (jobs - 1):
                waiting.append((question, pool.submit(_answer, question)))
            else:
                waiting.append((question, _answered(here, question)))
            while waiting and (waiting[0][1].done() or len(waiting) > 2 * _AHEAD * jobs):
                yield _with_its_lines(*waiting.popleft())
        while waiting:
            # The others have what is left: take what they have not begun rather than wait for it.
            if waiting[0][1].done() or not _take_back(here, waiting):
                yield _with_its_lines(*waiting.popleft())
    except BrokenProcessPool:
        raise UserError("a process of --jobs ended without an answer: take fewer, or 1.") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _take_back(here: Answering, waiting: "deque[tuple[Any, Future[Answered]]]") -> bool:
    """Answer the last question that no process has begun; false where there is none."""
    for place in reversed(range(len(waiting))):
        question, future = waiting[place]
        if future.cancel():
            waiting[place] = question, _answered(here, question)
            return True
    return False


def _answered(here: Answering, question: Any) -> "Future[Answered]":
    future: Future[Answered] = Future()
    with answers.held() as lines:
        future.set_result((here(question), lines))
    return future


def _with_its_lines(question: Asked, future: "Future[Answered]") -> tuple[Asked, dict[str, Any]]:
    answer, lines = future.result()
    for line in lines:
        answers.tell(line)
    return question, answer


def _begin(made: Callable[[Settings], Answering], settings: Settings) -> None:
    global _answering
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    _answering = made(settings)


def _answer(question: Any) -> Answered:
    if _answering is None:
        raise RuntimeError("the process did not begin")
    with answers.held() as lines:
        answer = _answering(question)
    return answer, lines


@contextlib.contextmanager
def counted(total: int) -> Iterator[Callable[[], None]]:
    """Shows how many of `total` are done and when the rest will be; within, call what it gives for each.

    Nothing is shown of one, without a terminal, or where the answers themselves are seen to come.
    """
    if total < 2 or not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
