"""A stream with the settings of the command line, whose mistakes are named by their options."""

from collections.abc import Mapping
from typing import Any

from light_sernet_kd.device import whole
from light_sernet_kd.errors import UserError
from light_sernet_kd.runner import Runner, RunnerError, Stream

# The settings of a stream that have another name on the command line.
OPTIONS = {
    "hop_seconds": "--hop",
    "unsure_below": "--threshold",
    "silence_dbfs": "--silence",
    "steady_db": "--steady",
    "smoothing_seconds": "--smoothing",
}


def stream_of(runner: Runner, settings: Mapping[str, Any]) -> Stream:
    """A stream with settings of the command line, whose windows leave nothing out unless `--hop` says so.

    Raises:
        UserError: the student cannot be streamed, or a setting is out of range: by its option's name.
    """
    try:
        return whole.stream_of(runner, settings)
    except RunnerError as error:
        raise UserError(by_options(str(error))) from None


def by_options(message: str) -> str:
    """A message that calls settings by their options."""
    for name, option in OPTIONS.items():
        message = message.replace(name, option)
    return message


def gap_between_windows(runner: Runner, stream: Stream) -> str:
    """That a stream's windows leave sound out between them, in a sentence; empty where they do not."""
    if stream.hop_samples <= runner.samples:
        return ""
    return (
        f"the hop of {stream.hop_samples / runner.sample_rate:g} s is longer than a window of "
        f"{runner.samples / runner.sample_rate:g} s: the sound between windows is left out."
    )
