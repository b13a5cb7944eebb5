"""What the command `enroll` does: a speaker's profile, made of recordings that need no labels."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from light_sernet_kd import audio
from light_sernet_kd.device import answers, formats
from light_sernet_kd.device.command_paths import model_file, recordings_of
from light_sernet_kd.errors import UserError
from light_sernet_kd.runner import Profile, Runner, RunnerError, require_enrolled

_log = logging.getLogger("light_sernet_kd")


def enroll(
    model: str | Path | None,
    recordings: Sequence[str],
    profile: Path,
    *,
    add: bool = False,
    threads: int = 1,
    say: Callable[[str], None] = _log.info,
) -> int:
    """Write a speaker's profile; returns how many recordings could not be read, each told on stderr.

    A line is said for each recording that holds no speech, and one at the end. Recordings are read in blocks.

    Args:
        model: see `model_file`.
        recordings: paths, folders and lists, of one speaker.
        add: go on with the profile that is there, if one is.

    Raises:
        UserError: there is a profile and it is not to be gone on with; it is of another student, or damaged;
            the file knows no speakers; or no recording holds speech. No file is written then.
    """
    exists = profile.exists()
    if exists and not add:
        raise UserError(f"{profile} is there already: go on with it by --add, or name another --profile.")
    model = model_file(model, enrolled=True)
    runner = opened(model, profile if exists else None, threads=threads)
    try:
        require_enrolled(runner.card, model)
    except RunnerError as error:
        raise UserError(str(error)) from None
    known, failed, used = known_clips(runner), 0, 0
    for path in recordings_of(recordings):
        try:
            with answers.noted(path):
                why = runner.learn(audio.blocks(path, sample_rate=runner.sample_rate))
        except (audio.AudioError, RunnerError) as error:
            answers.failure(error)
            failed += 1
            continue
        used += not why
        if why:
            say(f"{path}: left out, {why}")
    if not used or runner.profile is None:
        raise UserError(f"no recording has speech to learn from: {profile} was not written.")
    save(runner.profile, profile)
    clips = runner.profile.clips
    new = f", {formats.number(clips - known)} of them new" if known else ""
    say(f"{profile}: {formats.clips(clips)} of the speaker{new}")
    return failed


def opened(
    model: str | Path | None, profile: Path | None, *, threads: int = 1, labels: Sequence[str] = ()
) -> Runner:
    """A runner that knows the speaker, if there is a profile.

    Args:
        model: see `model_file`.
        labels: of `Runner`.

    Raises:
        UserError: the file or the profile cannot be used.
    """
    if threads < 1:
        raise UserError(f"--threads must be at least 1, found {threads}.")
    try:
        file = model_file(model, enrolled=profile is not None)
        return Runner(file, threads=threads, profile=profile, labels=labels)
    except RunnerError as error:
        raise UserError(str(error)) from None


def save(profile: Profile, path: Path) -> None:
    """Write a profile whole.

    Raises:
        UserError: it cannot be written.
    """
    try:
        profile.save(path)
    except RunnerError as error:
        raise UserError(str(error)) from None


def known_clips(runner: Runner) -> float:
    """With how many recordings of the speaker a runner answers; 0 for an unknown one."""
    return runner.profile.clips if runner.profile else 0.0
