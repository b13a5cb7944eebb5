"""What a finished run was made of, so that its command, given again, can tell that nothing has changed.

To find that out as a run does, TensorFlow is imported, the recordings are read and the pictures are drawn. A
receipt lists the files that the run read and wrote, by size and time. Where any of them differs, or the
program, the settings or the plug-ins do, or where a run reads what no receipt lists, it is opened as ever.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd import plugins
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.corpora.registry import find, is_manifest
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.outcome import default_run_name
from light_sernet_kd.files import LOCK, JsonError, path_part, read_json, write_json
from light_sernet_kd.registries.losses import NO_TEACHER
from light_sernet_kd.registries.students import STUDENTS, is_multimodal
from light_sernet_kd.registries.teachers import TEACHER_SOURCES, teacher_members, teacher_source

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

_NAME = "receipt.json"
_PACKAGE = Path(__file__).resolve().parents[2]
_RECEIPT = {
    "made_by": str,
    "asked": dict,
    "corpus_sha256": str,
    "read": {str: (None, [int])},
    "beside": {str: (None, [int])},
    "written": {str: (None, [int])},
}
_CONFIG = {"settings": {"distillation": str}, "corpus_sha256": str}

# Size in bytes and time of the last change in nanoseconds; None of a file that is not there.
State = list[int] | None


def unchanged(settings: Settings, options: RunOptions) -> RunFolder | None:
    """The folder of a run that is finished and would come out the same; None where that is not sure."""
    folder = RunFolder(options.result / path_part(options.run or default_run_name(settings)))
    with contextlib.suppress(OSError, JsonError, UserError):
        receipt = read_json(folder.path / _NAME, _RECEIPT)
        same = (
            receipt["asked"] == _asked(settings, options)
            and receipt["written"] == _states(folder.path / name for name in receipt["written"])
            and receipt["made_by"] == program()
            and receipt["read"] == _states(_inputs(settings, options, folder, receipt["read"]))
            and receipt["beside"] == _states(_neighbours(settings, folder, receipt["corpus_sha256"]))
        )
        return folder if same else None
    return None


def write_receipt(run: "Experiment") -> None:
    """List what the run read and wrote, once all is written; nothing where it read more than files."""
    path = run.folder.path / _NAME
    path.unlink(missing_ok=True)
    settings, options, digest = run.settings, run.options, run.corpus_digest
    if not _reads_files_only(settings):
        return
    recordings = [str(each.path) for each in run.utterances]
    receipt = {
        "made_by": program(),
        "asked": _asked(settings, options),
        "corpus_sha256": digest,
        "read": _states(_inputs(settings, options, run.folder, recordings)),
        "beside": _states(_neighbours(settings, run.folder, digest)),
        "written": _states(_files(run.folder.path)),
    }
    write_json(path, receipt)


def _asked(settings: Settings, options: RunOptions) -> dict[str, Any]:
    """All that the user chose and that what is written depends on, as JSON has it."""
    entry = STUDENTS[settings.student]
    resolved = dataclasses.replace(
        settings,
        front_end=settings.front_end or entry.front_end,
        schedule=settings.schedule or entry.schedule,
    )
    chosen = resolved.as_dict()
    places = {"data": os.path.abspath(options.data), "audio": options.audio}
    return {**chosen, **places, "plugins": plugins.used(chosen)}


@cache
def program() -> str:
    """SHA-256 of this package's files."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        if path.suffix in (".py", ".css", ".js"):
            digest.update(f"{path.relative_to(_PACKAGE)} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _reads_files_only(settings: Settings) -> bool:
    """Whether all that the run read are the files of `_inputs`."""
    networks = (settings.student, settings.trained_teacher or settings.student)
    return (
        not any(map(is_multimodal, networks))
        and settings.start_from is None
        and not settings.unlabelled
        and not settings.skip_bad
        and all(entry in _SOURCES for entry, _ in _teachers(settings))
    )


_SOURCES = [TEACHER_SOURCES[name] for name in ("auto", "student", "file")]


def _teachers(settings: Settings) -> list[tuple[Any, str]]:
    """Sources of the teacher and their arguments."""
    if settings.teacher is None:
        return []
    members = [name for name, _ in teacher_members(settings.teacher)]
    return [teacher_source(name) for name in members or [settings.teacher]]


def _inputs(
    settings: Settings, options: RunOptions, folder: RunFolder, recordings: Iterable[str]
) -> Iterator[Path]:
    """The files that the run reads, there or not.

    Args:
        recordings: those of a manifest, and more that may be repeated.
    """
    yield folder.certificate
    for name in filter(None, (settings.corpus, settings.test_on)):
        corpus, _, place = find(name, options.data)
        if is_manifest(corpus):
            yield place
            yield from map(Path, recordings)
        else:
            yield from _files(place)
    for entry, argument in _teachers(settings):
        if entry is TEACHER_SOURCES["file"]:
            yield Path(argument)


def _neighbours(settings: Settings, folder: RunFolder, corpus_sha256: str) -> Iterator[Path]:
    """Of a run with a teacher, the finished runs beside it that may be its student alone."""
    if settings.teacher is None:
        return
    for path in sorted(folder.path.resolve().parent.glob("*/metrics.json")):
        with contextlib.suppress(OSError, JsonError):
            config = read_json(RunFolder(path.parent).config, _CONFIG)
            if config["settings"]["distillation"] == NO_TEACHER and config["corpus_sha256"] == corpus_sha256:
                yield path


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder but locks and receipts, also behind links, as corpora are read."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        if (real := os.path.realpath(place)) in seen:  # a link back to what was seen
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place) / name for name in sorted(names) if name not in (LOCK, _NAME))


def _states(paths: Iterable[Path]) -> dict[str, State]:
    """Absolute path → state."""
    return {os.path.abspath(path): _state(path) for path in paths}


def _state(path: Path) -> State:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
