"""The page's examples, and the page as a folder that any web server of files can serve."""

import base64
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from light_sernet_kd import files
from light_sernet_kd.device import shipped
from light_sernet_kd.errors import UserError

_NOTE = "An actor says one sentence three times. The package's student was trained on these: EMO-DB."
# What `write` wrote, which the next call replaces.
_LIST = "page-files.json"
_NEEDS = """\
This folder is a page that classifies speech inside the browser. It holds the model. Open index.html of it
by a web server of files: no program runs there, and no voice is sent to it.

- Try it here:  python -m http.server 8000 --bind 127.0.0.1   then open http://127.0.0.1:8000/
- Copy the whole folder to any place of a web site; it may have any name.
- A new page in this folder replaces the files that page-files.json lists. Files of yours stay.
- The server has to send .js as text/javascript and .wasm as application/wasm, as most do.
- A microphone is given to pages of https:// and of 127.0.0.1 only. Files work everywhere.
- Browsers need WebAssembly with SIMD: Chrome and Edge 91, Firefox 89, Safari 16.4, or newer.
- Licences: LiteRT's web runtime in litert/ is under Apache 2.0. See the model's card for those of the model.
"""


def examples() -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the page says of its example recordings, those of the package, and their content by address.

    >>> described, content = examples()
    >>> [each["name"] for each in described["clips"]], [*content][0]
    (['anger', 'happiness', 'sadness'], 'examples/anger-03a02Wb.wav')
    """
    content = {f"examples/{path.name}": path.read_bytes() for path in shipped.examples()}
    # A file's name begins with the emotion that is played.
    clips = [{"name": Path(file).stem.partition("-")[0], "file": file} for file in content]
    return {"note": _NOTE, "clips": clips}, content


def policy(page: bytes) -> dict[str, str]:
    """The page's Content-Security-Policy: nothing but its own server is asked."""
    maps = re.findall(rb'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" for each in maps]
    return {
        "default-src": "'none'",
        "script-src": f"'self' 'wasm-unsafe-eval' {' '.join(hashes)}",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "media-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def write(served: Mapping[str, tuple[str, bytes]], folder: Path) -> None:
    """Write what the page's server serves as files; the folder appears whole or not at all.

    What this function wrote into the folder before is replaced. Whatever else is there stays, such as `.git`
    and `CNAME` of a site that is published.

    Args:
        served: address → kind and content, as `serve.files` gives it.
        folder: new or empty but for hidden files, or one that this function wrote before.

    Raises:
        UserError: there is something else, or it may not be written.
    """
    target = folder.resolve()  # a link to a folder stays a link
    try:
        files.restore(target)
        made = {
            "index.html" if address == "/" else address.removeprefix("/"): content
            for address, (_, content) in served.items()
        }
        made["index.html"] = _with_policy(made["index.html"])
        made["README.txt"] = _NEEDS.encode()
        made[_LIST] = json.dumps(sorted([*made, _LIST]), indent=0).encode()
        written = _written_before(target, folder, made)
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.staging_folder(target) as building:
            files.make_public(building)
            for name, content in made.items():
                path = building / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if target.exists():
                _carry_over(target, building, written)
            files.take_place(building, target)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from None


def _written_before(target: Path, folder: Path, made: Collection[str]) -> Collection[str]:
    """The names of what an earlier call wrote into `target`, which users call `folder`.

    Raises:
        UserError: it holds something else, or something of the user's that has a name of `made`.
    """
    if not target.exists():
        return ()
    has_list = (target / _LIST).is_file()
    # Pages were written without a list once.
    is_site = has_list or ((target / "students.json").is_file() and (target / "litert").is_dir())
    if not (is_site or (target.is_dir() and all(path.name.startswith(".") for path in target.iterdir()))):
        raise UserError(f"{folder} holds other files: name a new folder with --out, or empty it.")
    if not has_list:
        return made if is_site else ()
    written = files.read_json(target / _LIST, [str])
    for name in sorted({*made} - {*written}):
        if os.path.lexists(target / name):
            raise UserError(f"{folder / name} is not of an earlier page: move it away, or name a new folder.")
    return written


def _carry_over(former: Path, building: Path, written: Collection[str]) -> None:
    """Put what is in the folder `former`, but for the files named `written`, into `building` too."""
    names = {*written}
    folders = {parent.as_posix() for name in written for parent in PurePosixPath(name).parents}

    def goes(path: Path) -> bool:
        name = path.relative_to(former).as_posix()
        if path.is_dir() and not path.is_symlink():
            return name in folders and all(map(goes, path.iterdir()))
        return name in names

    def ignored(where: str, found: list[str]) -> list[str]:
        return [name for name in found if goes(Path(where) / name)]

    shutil.copytree(
        former, building, symlinks=True, ignore=ignored, copy_function=_linked, dirs_exist_ok=True
    )


def _linked(source: str, target: str) -> None:
    """The same file under another name, or a copy of it where that cannot be: a `.git` may be large."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target)


def _with_policy(page: bytes) -> bytes:
    """The page with the policy inside: whoever serves it may send none."""
    # Browsers take this one from a header alone.
    rules = {name: value for name, value in policy(page).items() if name != "frame-ancestors"}
    text = "; ".join(f"{name} {value}" for name, value in rules.items())
    meta = f'<meta http-equiv="Content-Security-Policy" content="{text}">'
    return page.replace(b'<meta charset="utf-8">', b'<meta charset="utf-8">\n    ' + meta.encode(), 1)


def of_model(card: Mapping[str, Any]) -> list[str]:
    """What to know of a model before its answers are believed, a sentence each."""
    synthetic = (
        "This model is synthetic: it was trained on made-up voices, to try things out. "
        "Its answers say nothing about people."
    )
    return [*([synthetic] if card.get("synthetic") else []), *card.get("stamps", [])]
