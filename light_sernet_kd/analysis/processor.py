"""The processor of this machine."""

import platform
from pathlib import Path


def processor() -> tuple[str, set[str] | None]:
    """Its name, and the instructions that it has; None where the system does not list them."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return name, None
    # Each core has the same lines: the first core's count.
    facts = dict(reversed([[part.strip() for part in line.partition(":")[::2]] for line in lines]))
    flags = facts.get("flags") or facts.get("Features")
    return facts.get("model name", name), set(flags.split()) if flags else None
