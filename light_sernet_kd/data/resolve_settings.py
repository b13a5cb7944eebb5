"""Settings as a command line, a grid's file, a program or a finished run gives them."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from light_sernet_kd import plugins
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.files import JsonError, read_json
from light_sernet_kd.registries.corpora import registered_name
from light_sernet_kd.registries.protocols import two_corpora_protocol


def settings_of_run(folder: Path, stored: Mapping[str, Any]) -> Settings:
    """The settings of a run from what its config.json has under `settings`.

    Raises:
        UserError: the run was made with a plug-in that is not loaded, or settings that cannot be.
    """
    with contextlib.suppress(OSError, JsonError):
        plugins.check_loaded(folder, read_json(folder / "config.json", dict).get("plugins"))
    return make_settings(**stored)


def resolve_settings(
    values: Mapping[str, Any],
    data: Path,
    *,
    protocol_of: Callable[[str, Path, Sequence[str]], str] | None = None,
) -> Settings:
    """`make_settings` of a corpus in any spelling, with the protocol that it runs on where none is named.

    Args:
        values: settings by their names.
        data: holds the corpora's folders.
        protocol_of: `(corpus, data, columns)` to a protocol; by default `default_protocol`, which reads the
            table of a manifest.

    Raises:
        UserError: as `make_settings`, or no such corpus.

    >>> settings = resolve_settings({"corpus": "tess", "epochs": 3}, Path("data"))
    >>> settings.corpus, settings.protocol
    ('TESS', 'two_speakers')
    """
    values = dict(values)
    for name in ("corpus", "test_on"):
        if isinstance(values.get(name), str | Path):
            values[name] = registered_name(str(values[name])) or str(values[name])
    has_protocol = "protocol" in values
    if not has_protocol and values.get("test_on") is not None:
        values["protocol"], has_protocol = two_corpora_protocol(), True
    settings = make_settings(**values)
    if has_protocol:
        return settings
    # After the checks, because it looks at the corpus; and in the settings, so that config.json has it.
    # Here, so that a mistake is told before NumPy is imported.
    from light_sernet_kd.corpora.registry import default_protocol

    protocol = (protocol_of or default_protocol)(settings.corpus, data, settings.columns)
    return dataclasses.replace(settings, protocol=protocol)
