"""What a command is given beside its arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from light_sernet_kd.config import Settings


@dataclass(frozen=True)
class Context:
    """What a command is given beside its arguments.

    Attributes:
        program: `light-sernet-kd` or `train.py`.
        command_line: as the user typed it.
        defaults: settings that a user edited, over those of `Settings`.
        settings: `Settings` with these, for `--help`.
        experiments: what `paper` runs: name → `settings`, and `published` UA and WA in per cent where known.
    """

    program: str = "light-sernet-kd"
    command_line: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    experiments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
