"""Corpora that anyone may download, downloaded; for the others, where to apply and where to put the files.

A download that is cut off leaves `NAME.zip.part` in the data folder, and the next one goes on from there. A
corpus appears under its name when all of it is unpacked and found to be what it should be, or not at all.
"""

import bz2
import copy
import errno
import hashlib
import itertools
import lzma
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from light_sernet_kd import __version__
from light_sernet_kd.arrays import lists_all
from light_sernet_kd.corpora import registry
from light_sernet_kd.corpora.types import Origin, visible
from light_sernet_kd.errors import UserError, first_line
from light_sernet_kd.files import make_public

Progress = Callable[[int, int | None], None]

_CHUNK_BYTES = 2**14  # of a chunk that breaks off, nothing is kept
# What an archive may unpack to: recordings shrink to a third, silence to more.
_UNPACKED_TIMES, _UNPACKED_BYTES = 20, 10**9
_LZMA_BYTES = 2**27
_NAME_BYTES, _PATH_LETTERS = 255, 1000  # file systems take no longer name and path
# A disk that is full or broken is no fault of the archive.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOMEM)
_METHODS = {
    zipfile.ZIP_STORED: "",
    zipfile.ZIP_DEFLATED: "",
    zipfile.ZIP_BZIP2: "",
    zipfile.ZIP_LZMA: "",
    9: "Deflate64",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
    99: "AES",
}
# Names that Windows keeps for devices, or takes for none.
_RESERVED = re.compile(
    r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?|.*[. ]|.*[<>:\"|?*\x00-\x1f\x7f].*", re.DOTALL
)
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


def recordings_digest(recordings: Iterable[Path]) -> str:
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
            with open(archive, "rb") as content, zipfile.ZipFile(content) as file:
                members = file.infolist()
                if not lists_all(file, content, archive.stat().st_size):
                    raise zipfile.BadZipFile("its list of members is not whole")
                _check_members(members, archive)
                _need_space(folder, sum(member.file_size for member in members))
                unbounded = [
                    member for member in members if member.compress_type in _UNBOUNDED and not member.is_dir()
                ]
                file.extractall(folder, [member for member in members if member not in unbounded])
                for member in unbounded:
                    _extract(file, member, folder)
        except _RefusedError as error:
            archive.unlink()
            raise UserError(
                f"the download of {name} was deleted; get the corpus from {origin.page} and put it into "
                f"{target}. {error}: nothing is unpacked."
            ) from None
        except UserError:
            raise
        except Exception as error:
            # A full disk, a folder that may not be written: of these the archive knows nothing.
            if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
                raise
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise
            # What a damaged archive raises depends on how it is packed and where it is damaged.
            archive.unlink()
            raise UserError(
                f"{archive} is damaged ({first_line(error, 200)}) and was deleted; the same command "
                "downloads it anew."
            ) from None
        if origin.content_hash:
            content_hash = f"sha256:{recordings_digest(visible(folder, '**/*.wav'))}"
            if content_hash != origin.content_hash:
                archive.unlink()
                raise UserError(
                    f"the recordings in {origin.archive} are not those of {name} as this program knows them "
                    f"(expected {origin.content_hash}, found {content_hash}). Nothing was kept."
                )
        make_public(folder)
        if target.is_dir():
            target.rmdir()  # it is empty
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _RefusedError(Exception):
    """An archive that is whole and must not, or cannot, be unpacked."""


def _check_members(members: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    """Refuses an archive before anything of it is unpacked.

    Raises:
        _RefusedError: it would unpack to too much, or a member would be written elsewhere, is no plain file
            or folder, has a name that not every file system takes, is locked or packed in an unknown way.
    """
    total, size = sum(member.file_size for member in members), archive.stat().st_size
    if total > (limit := max(_UNPACKED_BYTES, _UNPACKED_TIMES * size)):
        raise _RefusedError(
            f"{archive} unpacks to {total / 1e6:,.0f} MB from {size / 1e6:,.1f} MB; at most "
            f"{limit / 1e6:,.0f} MB are unpacked"
        )
    spelled: dict[str, str] = {}  # as a file system sees it that knows no case → as it is written
    files: dict[str, bool] = {}  # likewise → whether it is a file
    for member in members:
        path = _path_of(member, archive)
        is_file = not member.is_dir()
        for part in itertools.accumulate(path.parts, lambda parent, name: f"{parent}/{name}"):
            key = unicodedata.normalize("NFC", part).casefold()
            if (other := spelled.setdefault(key, part)) != part:
                raise _RefusedError(f"{archive} holds {other!r} and {part!r}, one name to some file systems")
            whole = part == path.as_posix()
            if files.get(key, False) or (whole and is_file and key in files):
                raise _RefusedError(f"{archive} holds {part!r} twice, or as a file and as a folder")
            files[key] = whole and is_file


# zipfile unpacks these into memory, as much as 4 kB of them may hold: gigabytes.
_UNBOUNDED = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def _extract(file: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Unpack one member of bzip2 or LZMA, a part at a time.

    Raises:
        zipfile.BadZipFile, OSError, lzma.LZMAError, EOFError: it is damaged.
    """
    packed = copy.copy(member)  # the bytes as they lie in the archive
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, member.compress_size
    packed.CRC = None  # type: ignore[assignment]  # that of the unpacked bytes is compared below
    target = folder / PurePosixPath(member.filename)
    target.parent.mkdir(parents=True, exist_ok=True)
    size = crc = 0
    with file.open(packed) as source, open(target, "wb") as out:
        unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor = bz2.BZ2Decompressor()
        part = b""
        if member.compress_type == zipfile.ZIP_LZMA:
            # Two bytes of version, two of the length of the properties, and these; elsewhere a size follows.
            properties = source.read(int.from_bytes(source.read(4)[2:], "little"))
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_BYTES)
            part = properties + b"\xff" * 8
        while size < member.file_size:
            if unpacker.needs_input and not part and not (part := source.read(_CHUNK_BYTES)):
                break
            unpacked = unpacker.decompress(part, min(_CHUNK_BYTES, member.file_size - size))
            part = b""
            size, crc = size + len(unpacked), zlib.crc32(unpacked, crc)
            out.write(unpacked)
    if size != member.file_size or crc != member.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {member.filename!r}")


def _path_of(member: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """Where a member would be written, below the folder."""
    # what the archive says, before ZipInfo mends it
    written = member.orig_filename.replace("\\", "/")
    path = PurePosixPath(written)
    kind = stat.S_IFMT(member.external_attr >> 16)
    name = member.orig_filename
    shown = f"{archive} holds {name if len(name) <= 80 else f'{name[:80]}…'!r}"
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise _RefusedError(f"{shown}, which leaves the folder")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _RefusedError(f"{shown}, which is a link or a device")
    if any(_RESERVED.fullmatch(part) for part in path.parts):
        raise _RefusedError(f"{shown}, a name that not every system can write")
    longest = max(len(part.encode(errors="surrogatepass")) for part in path.parts)
    if longest > _NAME_BYTES or len(written) > _PATH_LETTERS:
        count = longest if longest > _NAME_BYTES else len(written)
        raise _RefusedError(f"{shown}, a name of {count:,} bytes, which is too long")
    if member.flag_bits & 0x1:
        raise _RefusedError(f"{shown}, which is locked by a password")
    if method := _METHODS.get(member.compress_type, f"method {member.compress_type}"):
        raise _RefusedError(f"{shown}, which is packed by {method}, as 7-Zip can unpack it")
    return path


def _need_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(f"{folder} has {free / 1e6:,.0f} MB free, but {size / 1e6:,.0f} MB are needed.")
