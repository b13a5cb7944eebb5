"""How many processor cores there are to use."""

import os


def core_count() -> int:
    """Cores that this process may use: a scheduler, a container or `taskset` may leave it less than all.

    >>> 1 <= core_count() <= (os.cpu_count() or 1)
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
