"""What the report says of the students that came before the run's."""

from collections.abc import Mapping
from typing import Any

from light_sernet_kd.reporting.text import plain


def start_lines(facts: Mapping[str, Any] | None) -> list[str]:
    """Whose weights the student began with."""
    if not facts:
        return []
    synthetic = " (synthetic)" if facts["synthetic"] else ""
    layers = "all layers" if facts["classifier"] == "kept" else "all layers but the classifier"
    licence = f" Licence: {plain(facts['licence'])}." if facts["licence"] else ""
    return [
        f"- **Start:** {layers} of the run {plain(facts['run'])} on {plain(facts['corpus'])}{synthetic}, of "
        f"its student of {plain(facts['student'])}.{licence}"
    ]
