"""Corpora that anyone may download, downloaded; for the others, where to apply and where to put the files.

A download that is cut off leaves `NAME.zip.part` in the data folder, and the next one goes on from there. A
corpus appears under its name when all of it is unpacked and found to be what it should be, or not at all.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from light_sernet_kd import __version__
from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Origin, registry, visible
from light_sernet_kd.files import make_public

Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 2**14  # of a chunk that breaks off, nothing is kept
_TIMEOUT_SECONDS = 30


def fetch(
    name: str, data: Path, *, say: Callable[[str], None] = print, progress: Progress | None = None
) -> Path | None:
    """Put the corpus `name` into `data`, or say how to get it. What is there already is left alone.

    Args:
        say: takes a line for the user.
        progress: called with (bytes received, bytes in all or None) during the download.

    Returns:
        The corpus's folder where it was downloaded, else None.

    Raises:
        UserError: no such corpus, no connection, too little space, or a download that is not the corpus.
    """
    name, source, target = registry.find(name, data)
    if source.origin is None:
        say(f"{name} needs no download: it is made here at first use, or it is a table of yours.")
        return None
    if target.is_dir() and any(target.iterdir()):
        say(f"{target} holds files already and is left as it is. Check it: light-sernet-kd prepare {name}")
        return None
    if source.origin.archive is None:
        say(by_hand(name, target, source.origin))
        return None
    data.mkdir(parents=True, exist_ok=True)
    archive = _download(name, source.origin.archive, data, source.origin, progress)
    _unpack(name, archive, target, source.origin)
    archive.unlink()
    say(f"{name} is in {target}. Licence: {source.origin.licence}. See {source.origin.page}")
    return target


def by_hand(name: str, target: Path, origin: Origin) -> str:
    """Where to get a corpus, and where to put it."""
    return "\n".join(
        (
            f"{name} is not downloaded by this program. Licence: {origin.licence}.",
            f"  Get it from  {origin.page}",
            f"               {origin.steps}",
            f"  Put it into  {target}",
            f"  Expected     {origin.layout}",
            f"  Check it     light-sernet-kd prepare {name}",
        )
    )


def content_digest(recordings: Iterable[Path]) -> str:
    """SHA-256 over the sorted lines `file name, space, SHA-256 of the file`, in hexadecimal."""
    lines = []
    for path in recordings:
        with open(path, "rb") as file:
            lines.append(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def download(
    url: str,
    known_hash: str | None,
    target: Path,
    *,
    remedy: str,
    forbidden: str,
    progress: Progress | None = None,
) -> Path:
    """`target`, downloaded where it is not there already with that hash; a cut-off download is resumed.

    Args:
        known_hash: `sha256:…` or `md5:…`, in hexadecimal; None where the publisher names none.
        remedy: how else to get the file, as a sentence for the user.
        forbidden: what to say where the folder may not be written.
        progress: as for `fetch`.

    Raises:
        UserError: no connection, too little space, or what comes has another hash.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    part = target.with_name(f"{target.name}.part")

    def resume(url: str, output_file: str, _: object) -> None:
        _receive(url, part, progress)
        os.replace(part, output_file)

    try:
        pooch.retrieve(url, known_hash, fname=target.name, path=target.parent, downloader=resume)
    except requests.HTTPError as error:
        answer = f"{error.response.status_code} {error.response.reason}"
        raise UserError(f"{url} answers {answer}. {remedy}") from None
    except requests.RequestException:
        if part.exists() and part.stat().st_size:
            raise UserError(
                f"the download from {url} broke off; {part} keeps its {part.stat().st_size:,} bytes, and the "
                "same command goes on from there."
            ) from None
        raise UserError(f"{url} cannot be reached: check the connection and try again. {remedy}") from None
    except ValueError:  # pooch's, of a hash that does not match
        raise UserError(
            f"what {url} sent is not the archive that its publisher names (the hash is another). Nothing was "
            f"kept; try again. {remedy}"
        ) from None
    except PermissionError:  # pooch's has no errno, by which the command line knows it
        raise UserError(forbidden) from None
    return target


def _download(name: str, url: str, data: Path, origin: Origin, progress: Progress | None) -> Path:
    return download(
        url,
        origin.archive_hash,
        data / f"{name}.zip",
        remedy=f"Or get it from {origin.page} and put it into {data / name}.",
        forbidden=f"{data} may not be written: name another folder with --data.",
        progress=progress,
    )


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    """Download to `part`, going on from what is there; a connection that is cut is taken up again.

    Raises:
        requests.RequestException: the server refuses, or a connection brought nothing more.
    """
    import requests

    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _receive_once(url, part, before, progress):
                return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if not part.exists() or part.stat().st_size <= before:
                raise
        if part.exists() and part.stat().st_size == before:
            raise requests.ConnectionError("the server sends nothing more")


def _receive_once(url: str, part: Path, have: int, progress: Progress | None) -> bool:
    """One request for what is missing; whether all of the file is there now."""
    import requests

    # Compressed on the way, the bytes would not be those that Range counts.
    headers = {"User-Agent": f"light-sernet-kd/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        # "bytes 100-199/200", or "bytes */200" where there is nothing from there on
        match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
        goes_on = response.status_code == 206 and match is not None and match[1] == str(have)
        if have and response.status_code in (206, 416) and not goes_on:
            if match and int(match[2]) == have:
                return True
            part.unlink()  # it is longer than the file, or the server cannot go on: begin anew
            return False
        response.raise_for_status()
        if goes_on and match:
            total: int | None = int(match[2])
        else:
            have, total = 0, None
            if "Content-Length" in response.headers:
                total = int(response.headers["Content-Length"])
        _need_space(part.parent, (total or 0) - have)
        with open(part, "ab" if have else "wb") as file:
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(have, total)
    if total is not None and have > total:
        # not one that is taken up again: it would happen for ever
        raise requests.RequestException("more came than was announced")
    return total is None or have == total


def _unpack(name: str, archive: Path, target: Path, origin: Origin) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=target.parent))
    try:
        try:
            with zipfile.ZipFile(archive) as file:
                members = file.infolist()
                for member in members:
                    _check_member(member, archive)
                _need_space(folder, sum(member.file_size for member in members))
                file.extractall(folder)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            archive.unlink()
            raise UserError(
                f"{archive} is damaged ({error}) and was deleted; the same command downloads it anew."
            ) from None
        if origin.content_hash:
            found = f"sha256:{content_digest(visible(folder, '**/*.wav'))}"
            if found != origin.content_hash:
                archive.unlink()
                raise UserError(
                    f"the recordings in {origin.archive} are not those of {name} as this program knows them "
                    f"(expected {origin.content_hash}, found {found}). Nothing was kept."
                )
        make_public(folder)
        if target.is_dir():
            target.rmdir()  # it is empty
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_member(member: zipfile.ZipInfo, archive: Path) -> None:
    """Refuses an archive with a member that would be written elsewhere, or is no plain file or folder."""
    # what the archive says, before ZipInfo mends it
    path = PurePosixPath(member.orig_filename.replace("\\", "/"))
    kind = stat.S_IFMT(member.external_attr >> 16)
    shown = f"{archive} holds {member.orig_filename!r}"
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UserError(f"{shown}, which leaves the folder: nothing is unpacked.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"{shown}, which is a link or a device: nothing is unpacked.")


def _need_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(f"{folder} has {free / 1e6:,.0f} MB free, but {size / 1e6:,.0f} MB are needed.")
