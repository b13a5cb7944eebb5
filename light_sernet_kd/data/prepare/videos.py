"""The sound of videos as WAV files."""

import os
from collections import Counter
from pathlib import Path

from light_sernet_kd import audio, files
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.data.prepare.wav import as_int16, check_rate, write_wav
from light_sernet_kd.errors import UserError, install_line

VIDEO_SUFFIXES = audio.PYAV_SUFFIXES


def audio_of_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    sample_rate: int = SAMPLE_RATE,
    overwrite: bool = False,
) -> list[Path]:
    """Write the first sound track of each video as a 16-bit mono WAV file.

    Recordings that need PyAV, such as M4A, are taken for videos too.

    Args:
        source: a video, or a folder searched with its subfolders for names ending in `VIDEO_SUFFIXES`.
        target: a folder; `source`'s subfolders are repeated in it.

    Returns:
        The WAV files, in the order of the videos' names.

    Raises:
        UserError: PyAV is missing, the rate is out of range, there is no video, two would get the same name,
            or a WAV exists already and `overwrite` is off: nothing is written. Or videos have no sound or
            cannot be decoded: names them all, and those that can be are written.
    """
    check_rate(sample_rate)
    try:
        import av  # noqa: F401
    except ImportError:
        raise UserError(f"reading videos needs PyAV: {install_line('media')}") from None
    source, target = Path(source), Path(target)
    if source.is_dir():
        videos = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith(".")
        )
        wavs = [target / video.relative_to(source).with_suffix(".wav") for video in videos]
    elif source.is_file():
        videos, wavs = [source], [target / f"{source.stem}.wav"]
    else:
        raise UserError(f"no such video or folder: {source}")
    if not videos:
        raise UserError(f"no video in {source}: expected {', '.join(VIDEO_SUFFIXES)}")
    if clash := [str(wav) for wav, count in Counter(wavs).items() if count > 1]:
        raise UserError(
            f"several videos would be written to {', '.join(clash)}: rename them or go one by one"
        )
    existing = [str(wav) for wav in wavs if wav.exists()]
    if existing and not overwrite:
        raise UserError(f"{existing[0]} exists already: name another folder or allow overwriting")
    problems = {}
    for video, wav in zip(videos, wavs, strict=True):
        try:
            _extract(video, wav, sample_rate=sample_rate)
        except audio.AudioError as error:
            problems[str(video)] = str(error)
    if problems:
        raise UserError(audio.listing(problems, len(videos)))
    return wavs


def _extract(video: Path, wav: Path, *, sample_rate: int) -> None:
    try:
        with files.atomic(wav) as temporary:
            # piece by piece, since a film does not fit into memory
            write_wav(temporary, map(as_int16, audio.blocks(video, sample_rate=sample_rate)), sample_rate)
    except audio.AudioError as error:
        problem = str(error).removeprefix(f"{video} ")
        if problem.startswith("is "):
            raise audio.AudioError(f"{video} cannot be decoded: it {problem}") from None
        raise
