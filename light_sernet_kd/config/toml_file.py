"""TOML files that a user writes."""

import tomllib
from pathlib import Path
from typing import Any

from light_sernet_kd.errors import UserError
from light_sernet_kd.files import read_text


def read_toml(path: Path, what: str, page: str = "docs/scale.md") -> dict[str, Any]:
    """The content of a user's TOML file.

    Args:
        what: the file is, such as `grid`, for messages.
        page: of the documents that shows one.

    Raises:
        UserError: no such file, or no TOML.
    """
    try:
        return tomllib.loads(read_text(path, encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"no file {path}: name a {what}, a .toml file ({page} shows one).") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: name the {what}'s .toml file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no TOML: it is not in UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is no TOML: {error}.") from None
