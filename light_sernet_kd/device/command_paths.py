"""What commands are given: an exported file or a run's folder, recordings, folders and lists of them."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from light_sernet_kd.corpora.reading import AUDIO_SUFFIXES, recordings_below
from light_sernet_kd.device import shipped
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import open_regular
from light_sernet_kd.runner import RunnerError, card_of, gives_classes, require_enrolled

# The file of a run that answers where its folder is named: the small ones lose nothing that counts.
PREFERRED = ("int8", "dynamic", "float16", "float32")
STANDARD_INPUT = "-"
_TFLITE = b"TFL3"  # in a file's fifth to eighth byte
_NONE = "{} lists no recordings: expected a path per line."


def located(named: str | Path | None) -> Path:
    """The file or folder that is named; of the name of a student of the package, or of none, its folder.

    >>> located("my.tflite").name
    'my.tflite'
    """
    if named is None:
        return shipped.default().folder
    path = Path(named)
    student = None if path.exists() else shipped.of_name(str(named))
    return student.folder if student else path


def model_and_recordings(model: str | None, recordings: Sequence[str]) -> tuple[str | None, list[str]]:
    """What a command line names: a model if the first path is one, and recordings.

    Raises:
        UserError: the first path is neither.
    """
    if model is None or _is_model(model):
        return model, [*recordings]
    is_list = model == STANDARD_INPUT or model.startswith("@")
    if not (is_list or Path(model).exists() or Path(model).suffix.lower() in AUDIO_SUFFIXES):
        raise UserError(
            f"{model} is not there: name an exported .tflite file, the folder of a run, or a recording."
        )
    return None, [model, *recordings]


def _is_model(named: str) -> bool:
    path = located(named)
    if path.suffix.lower() == ".tflite":
        return True
    if path.is_dir():
        return any(path.glob("student_*.tflite")) or (path / "config.json").is_file()
    try:
        with open_regular(path) as file:
            return file.read(8)[4:] == _TFLITE
    except OSError:
        return False


def model_file(named: str | Path | None, *, enrolled: bool = False) -> Path:
    """The exported file that is named, or of a folder the int8 file, or else the next larger one.

    Args:
        named: a file, the folder of a run, or the name of a student of the package; None is its default.
        enrolled: the one that knows speakers.

    Raises:
        UserError: a folder without such a file; or one of a student without classes, which knows no speakers.
    """
    path = located(named)
    if not path.is_dir():
        return path
    file = preferred_file(path, enrolled=enrolled)
    if file is None:
        ending = "_enrolled" if enrolled else ""
        if enrolled and (other := preferred_file(path)):
            _require_classes(other)
        raise UserError(
            f"no student_*{ending}.tflite in {path}: name an exported file, or make them with "
            f"light-sernet-kd export {path}."
        )
    return file


def _require_classes(path: Path) -> None:
    """Raise a `UserError` where a file that knows no speakers is one of a student that never does."""
    try:
        if not gives_classes(card := card_of(path)):
            require_enrolled(card, path)
    except RunnerError as error:
        raise UserError(str(error)) from None


def preferred_file(folder: Path, *, enrolled: bool = False) -> Path | None:
    """The exported file of a folder that answers where the folder is named; None without one.

    >>> preferred_file(Path("no-run-here")) is None
    True
    """
    ending = "_enrolled" if enrolled else ""
    files = [folder / f"student_{precision}{ending}.tflite" for precision in PREFERRED]
    return next(filter(Path.is_file, files), None)


def recordings_of(named: Sequence[str]) -> list[str]:
    """The recordings that paths stand for, in order.

    A folder stands for the recordings in it and below it, `@FILE` for the paths in that file, and `-` for
    those on standard input, a line each. What is neither is a recording, there or not.

    Raises:
        UserError: a folder or a list without recordings, or a list that cannot be read.
    """
    return [path for each in named for path in _recordings_of(each)]


def _recordings_of(named: str) -> Iterable[str]:
    if named == STANDARD_INPUT:
        return _listed(sys.stdin, "standard input")
    path = Path(named)
    if named.startswith("@") and not path.exists():
        try:
            with open(named[1:], encoding="utf-8-sig") as lines:
                return [*_listed(lines, named[1:])]
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UserError(f"cannot read the list {named[1:]}: {why}.") from None
    if path.is_dir():
        return [str(path / name) for name in recordings_below(path)]
    return [named]


def recordings_from_stdin() -> Iterator[str]:
    """The recordings on standard input, each as soon as its line is written.

    Raises:
        UserError: it ends without any.
    """
    count = 0
    for line in sys.stdin:
        if path := line.strip():
            for recording in _recordings_of(path) if Path(path).is_dir() else [path]:
                count += 1
                yield recording
    if not count:
        raise UserError(_NONE.format("standard input"))


def _listed(lines: Iterable[str], where: str) -> Iterator[str]:
    paths = [path for line in lines if (path := line.strip())]
    if not paths:
        raise UserError(_NONE.format(where))
    for path in paths:
        yield from _recordings_of(path) if Path(path).is_dir() else [path]
