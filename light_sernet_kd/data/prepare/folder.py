"""A folder of results that is whole or absent, also where a process is killed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from light_sernet_kd import files
from light_sernet_kd.errors import UserError

MANIFEST, LEFT_OUT, WAV_FOLDER = "manifest.csv", "left_out.csv", "wav"


@contextlib.contextmanager
def whole_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder beside `target`; on success it takes that name, else it vanishes.

    Raises:
        UserError: `target` is a file, or holds something and may not or must not be replaced.
    """
    target = target.resolve()  # a link to a folder stays a link
    files.restore(target)
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file: name a folder to write to")
    held = set(os.listdir(target)) if target.is_dir() else set()
    if held and not overwrite:
        raise UserError(f"{target} is not empty: name another folder or allow overwriting")
    if held and not (MANIFEST in held and held <= {MANIFEST, LEFT_OUT, WAV_FOLDER}):
        raise UserError(f"{target} holds more than an earlier conversion: name another folder or empty it")
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            building = stack.enter_context(files.staging_folder(target))
        except OSError as error:
            raise UserError(f"cannot write to {target}: {error.strerror}") from None
        try:
            yield building
            files.make_public(building)
            files.take_place(building, target)
        except OSError as error:
            # what was being written is hidden, and gone by now
            raise OSError(error.errno, error.strerror, str(target)) from error
