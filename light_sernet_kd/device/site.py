"""The page's examples, and the page as a folder that any web server of files can serve."""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from light_sernet_kd.device import shipped
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import staging_folder

_NOTE = "An actor says one sentence three times. The package's student was trained on these: EMO-DB."
_MARK = "students.json"
_NEEDS = """\
This folder is a page that classifies speech inside the browser. It holds the model. Open index.html of it
by a web server of files: no program runs there, and no voice is sent to it.

- Try it here:  python -m http.server 8000 --bind 127.0.0.1   then open http://127.0.0.1:8000/
- Copy the whole folder to any place of a web site; it may have any name.
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

    Args:
        served: address → kind and content, as `serve.files` gives it.
        folder: new or empty, or one that this function wrote before.

    Raises:
        UserError: there is something else, or it may not be written.
    """
    is_site = (folder / _MARK).is_file() and (folder / "litert").is_dir()
    if folder.exists() and not (is_site or (folder.is_dir() and next(folder.iterdir(), None) is None)):
        raise UserError(f"{folder} holds other files: name a new folder with --out, or empty it.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with staging_folder(folder) as place:
            made = place / "new"
            for address, (_, content) in served.items():
                path = made / ("index.html" if address == "/" else address.removeprefix("/"))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_with_policy(content) if address == "/" else content)
            (made / "README.txt").write_text(_NEEDS, encoding="utf-8")
            if folder.exists():
                folder.rename(place / "old")
            made.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from None


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
