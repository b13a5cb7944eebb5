"""Sound from the microphone, window by window, shown as it comes."""

import contextlib
import json
import math
import queue
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from light_sernet_kd.device import answers, enroll, formats, stream_options
from light_sernet_kd.device.timeline import WITHOUT_SPEECH
from light_sernet_kd.errors import UserError, install_line
from light_sernet_kd.runner import (
    LEAST_DBFS,
    NOT_FINITE,
    SILENT,
    STEADY,
    UNSURE,
    Runner,
    Window,
)

LISTED = "`python -m sounddevice` lists the devices; choose one with --device."
_BLOCK_SECONDS = 0.05
# A device that was unplugged stops without a word.
_PATIENCE_SECONDS = 5.0
# More than any window takes; what comes in beyond it is dropped, and told.
_HELD_BLOCKS = 400
# Of sound, between two times that a profile which learns is written.
_SAVE_SECONDS = 60.0


def listen(
    runner: Runner,
    *,
    settings: Mapping[str, Any],
    console: Console,
    model: str | Path | None,
    device: int | str | None = None,
    seconds: float | None = None,
    as_json: bool = False,
    profile: Path | None = None,
) -> None:
    """Classify what a microphone hears until Ctrl-C, or for `seconds` of sound; then print a summary.

    Where there is no terminal, a line per change of the label, or per window of a file without classes; as
    JSON, a line per window, and the summary on stderr.

    Args:
        settings: of `Stream`.
        model: as the user named the runner's; None where he named none.
        device: number or part of the name; by default the system's.
        profile: where the runner's profile is kept, if the settings have it learn: every minute of sound and
            at the end.

    Raises:
        UserError: the student cannot be streamed, sounddevice or PortAudio is missing, there is no such
            device, or it refuses to record or stops; or the profile cannot be written.
    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(f"--seconds must be positive, found {seconds:g}.")
    stream = stream_options.stream_of(runner, settings)
    if gap := stream_options.gap_between_windows(runner, stream):
        answers.tell(gap)
    answers.tell_model(model, runner)
    label_shares, kept = _LabelShares(), _Kept(runner, profile)
    with contextlib.ExitStack() as stack:
        microphone = stack.enter_context(_Microphone(device, runner.sample_rate))
        show: Callable[[Window, Sequence[str]], None]
        show = _JsonLines(runner) if as_json else _Lines(console, runner, microphone.name)
        if not as_json and console.is_terminal:
            show = stack.enter_context(_LiveDisplay(console, runner, stream.silence_dbfs, microphone))
        ended_by: UserError | None = None
        # Ctrl-C is how this is meant to end; a device that goes away and a full disk end it too.
        try:
            left = None if seconds is None else round(seconds * runner.sample_rate)
            for block in microphone.blocks():
                block = block[:left]
                left = None if left is None else left - len(block)
                for window in stream.feed(block):
                    label_shares.add(window)
                    show(window, runner.labels)
                kept.save_each_minute(stream.received / runner.sample_rate)
                if left == 0:
                    break
        except KeyboardInterrupt:
            pass
        except UserError as error:
            ended_by = error
        for window in stream.finish():
            label_shares.add(window)
            show(window, runner.labels)
    try:
        kept.save()
    except UserError as error:
        ended_by = ended_by or error
    summary = Console(stderr=True) if as_json else console
    if ended_by is None or stream.received:
        summary.print(Text(label_shares.summary(stream.received / runner.sample_rate)), soft_wrap=True)
    for line in (kept.summary(), microphone.loss() if microphone.lost else ""):
        if line:
            summary.print(Text(line), soft_wrap=True)
    if ended_by is not None:
        raise ended_by


class _Kept:
    """The file of a profile that learns; nothing where there is none."""

    def __init__(self, runner: Runner, path: Path | None):
        self._runner, self._path = runner, path
        self._saved, self._due_seconds = runner.profile, _SAVE_SECONDS

    def save_each_minute(self, seconds: float) -> None:
        """Write it if a minute of sound has passed.

        Raises:
            UserError: it cannot be written.
        """
        if seconds >= self._due_seconds:
            self._due_seconds = seconds + _SAVE_SECONDS
            self.save()

    def save(self) -> None:
        """Write it if it has changed; raises as `save_each_minute`."""
        profile = self._runner.profile
        if self._path is not None and profile is not None and profile is not self._saved:
            enroll.save(profile, self._path)
            self._saved = profile

    def summary(self) -> str:
        clips = enroll.known_clips(self._runner)
        if self._path is not None:
            saved = self._saved.clips if self._saved else 0.0
            return f"{self._path}: {formats.clips(saved)} of the speaker."
        return f"Answered with {formats.clips(clips)} of the speaker." if clips else ""


class _Microphone:
    """An open input device as blocks `(n,)` at `sample_rate`.

    Attributes:
        name: the device's.
        lost: how often sound was lost, since it was not fetched in time.
    """

    def __init__(self, device: int | str | None, sample_rate: int):
        self._sounddevice = _sounddevice()
        self._queue: queue.Queue[np.ndarray] = queue.Queue(_HELD_BLOCKS)
        self.lost = 0
        try:
            device_facts = self._sounddevice.query_devices(device, "input")
        except (self._sounddevice.PortAudioError, ValueError) as error:
            which = "no input device here" if device is None else f"no input device {device}"
            raise UserError(f"{which} ({_reason(error)}). {_remedy(self._sounddevice)}") from None
        self.name, own_rate = device_facts["name"], int(device_facts["default_samplerate"])
        self._resampler, refusal = None, ""
        for rate in dict.fromkeys((sample_rate, own_rate)):
            try:
                self._input = self._sounddevice.InputStream(
                    samplerate=rate,
                    blocksize=round(_BLOCK_SECONDS * rate),
                    device=device,
                    channels=1,
                    dtype="float32",
                    callback=self._came,
                )
            except self._sounddevice.PortAudioError as error:
                refusal = refusal or _reason(error)
                continue
            if rate != sample_rate:
                self._resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
            return
        raise UserError(
            f"{self.name} records neither at {sample_rate} Hz nor at its own {own_rate} Hz ({refusal}). "
            f"{LISTED}"
        )

    def __enter__(self) -> "_Microphone":
        try:
            self._input.start()
        except self._sounddevice.PortAudioError as error:
            self._input.close()
            raise UserError(f"{self.name} does not record ({_reason(error)}). {LISTED}") from None
        return self

    def __exit__(self, *_) -> None:
        self._input.close()  # which also stops it

    def _came(self, samples, frames, when, status) -> None:
        # On PortAudio's thread, where nothing may wait.
        if status.input_overflow:
            self.lost += 1
        try:
            self._queue.put_nowait(samples[:, 0].copy())
        except queue.Full:
            self.lost += 1

    def blocks(self) -> Iterator[np.ndarray]:
        while True:
            try:
                block = self._queue.get(timeout=_PATIENCE_SECONDS)
            except queue.Empty:
                raise UserError(
                    f"{self.name} gave no sound for {_PATIENCE_SECONDS:g} s: is it plugged in and allowed?"
                ) from None
            yield block if self._resampler is None else self._resampler.resample_chunk(block)

    def loss(self) -> str:
        times = "once" if self.lost == 1 else f"{self.lost} times"
        return f"Sound was lost {times}: this machine was too slow. A longer --hop helps."


def _sounddevice():
    try:
        import sounddevice
    except ImportError:
        raise UserError(f"listening needs the package sounddevice: {install_line('listen')}") from None
    except OSError as error:  # from where it looks for PortAudio
        raise UserError(
            f"sounddevice needs the library PortAudio ({_reason(error)}): apt install libportaudio2, or "
            "reinstall sounddevice, whose wheels for macOS and Windows hold it."
        ) from None
    return sounddevice


def _reason(error: Exception) -> str:
    # Of several devices that fit, sounddevice writes a list.
    return " ".join(str(error).split()).rstrip(".")


def _remedy(sounddevice) -> str:
    if any(device["max_input_channels"] for device in sounddevice.query_devices()):
        return LISTED
    return "Connect a microphone, or classify a file: light-sernet-kd predict MODEL FILE --stream."


class _JsonLines:
    """A line per window; of a speaker who is known, with how many recordings, this window among them."""

    def __init__(self, runner: Runner):
        self._runner = runner

    def __call__(self, window: Window, labels) -> None:
        line = formats.window_dict(window, labels, formats.dimensions_of(self._runner))
        if self._runner.profile is not None:
            line["speaker_clips"] = self._runner.profile.clips
        print(json.dumps(line, ensure_ascii=False, allow_nan=False), flush=True)


class _LabelShares:
    """How much of the time had which label."""

    def __init__(self):
        self._windows: Counter[str] = Counter()

    def add(self, window: Window) -> None:
        self._windows[
            f"{UNSURE} ({window.why})" if window.why else formats.label_or_speech(window.label)
        ] += 1

    def summary(self, seconds: float) -> str:
        total = self._windows.total()
        shares = ", ".join(f"{name} {100 * n / total:.0f} %" for name, n in self._windows.most_common())
        windows = "1 window" if total == 1 else f"{total} windows"
        return f"Heard {formats.clock(seconds)} in {windows}" + (f": {shares}." if total else ".")


class _Lines:
    """A line where the label changes; without classes a line per window."""

    def __init__(self, console: Console, runner: Runner, name: str):
        self._console, self._before = console, ("", "")
        self._dimensions = formats.dimensions_of(runner)
        console.print(Text(f"Listening to {name}; Ctrl-C ends."), soft_wrap=True)

    def __call__(self, window: Window, labels) -> None:
        if (window.label, window.why) != self._before or not labels:
            self._before = window.label, window.why
            shares = dict(zip(labels, window.smoothed, strict=True))
            parts = [formats.label_or_speech(window.label)]
            if window.why or labels:
                parts.append(window.why or f"{100 * shares[window.label]:.0f} %")
            if window.why != NOT_FINITE:
                parts.append(formats.decibels(window.level))
            if self._dimensions and window.why not in WITHOUT_SPEECH:
                parts.append(formats.dimensions_line(window.smoothed_dimensions, self._dimensions))
            line = Text("  ".join([f"{formats.clock(window.end):>9}", *parts]))
            self._console.print(line, soft_wrap=True)


class _LiveDisplay:
    """The label, a bar per class and the level, drawn anew for each window."""

    def __init__(self, console: Console, runner: Runner, silence_dbfs: float, microphone: _Microphone):
        self._labels, self._silence, self._microphone = runner.labels, silence_dbfs, microphone
        self._dimensions = formats.dimensions_of(runner)
        seconds = runner.samples / runner.sample_rate
        waiting = f"Listening to {microphone.name}: the first window takes {seconds:g} s …"
        self._live = Live(Text(waiting), console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "_LiveDisplay":
        self._live.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._live.__exit__(*error)

    def __call__(self, window: Window, labels) -> None:
        self._live.update(self.drawn(window), refresh=True)

    def drawn(self, window: Window) -> Group:
        head = Text(f"{formats.clock(window.end)}  ")
        head.append(
            formats.label_or_speech(window.label).upper(), style="dim" if window.why else "bold green"
        )
        head.append(f"  {window.why}", style="dim")
        table = Table.grid(padding=(0, 2))
        for name, share in zip(self._labels, window.smoothed, strict=True):
            known = 0.0 if math.isnan(share) else float(share)
            style = "bold" if name == window.label else ""
            percent = "-" if math.isnan(share) else f"{100 * known:.0f} %"
            # A full bar has another colour of rich's own, unless told.
            color = "bright_black" if window.why in (SILENT, STEADY, NOT_FINITE) else "cyan"
            bar = ProgressBar(
                total=1.0, completed=known, width=40, complete_style=color, finished_style=color
            )
            table.add_row(Text(name, style=style), bar, Text(f"{percent:>5}", style=style))
        self._add_dimensions(table, window)
        level = LEAST_DBFS if math.isnan(window.level) else window.level
        # Below -80 dBFS there is nothing to see.
        bar = ProgressBar(total=80.0, completed=max(0.0, 80.0 + level), width=40, complete_style="yellow")
        # The default is far below what the bar shows.
        gate = f" (silent below {self._silence:.0f})" if self._silence > -80 else ""
        table.add_row(Text("level", style="dim"), bar, Text(f"{formats.decibels(window.level)}{gate}"))
        foot = Text(f"{self._microphone.name}; Ctrl-C ends", style="dim")
        if self._microphone.lost:
            foot.append(f"\n{self._microphone.loss()}", style="yellow")
        return Group(head, table, foot)

    def _add_dimensions(self, table: Table, window: Window) -> None:
        if self._dimensions is None:
            return
        (low, high), heard = self._dimensions.range, window.why not in WITHOUT_SPEECH
        for name, value in zip(self._dimensions.names, window.smoothed_dimensions, strict=True):
            known = min(max(float(value), low), high) - low if heard else 0.0
            color = "magenta"
            bar = ProgressBar(
                total=high - low, completed=known, width=40, complete_style=color, finished_style=color
            )
            text = formats.dimension_number(value, self._dimensions) if heard else "-"
            table.add_row(Text(name), bar, Text(f"{text:>5} of {low:g} to {high:g}"))
