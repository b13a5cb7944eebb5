"""How many cores are counted, where a process may use fewer than its machine has."""

import os
import re

import pytest
from conftest import REPOSITORY

from light_sernet_kd.analysis.benchmark import checked_threads
from light_sernet_kd.config.cores import core_count
from light_sernet_kd.errors import UserError


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity of processes here")
def test_cores_that_a_process_may_not_use_do_not_count():
    allowed = os.sched_getaffinity(0)
    assert core_count() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert core_count() == 1
        assert checked_threads(None) == (1,)
        with pytest.raises(UserError, match=r"^2 threads cannot be measured"):
            checked_threads((2,))
    finally:
        os.sched_setaffinity(0, allowed)


def test_no_module_counts_cores_by_itself():
    package = REPOSITORY / "light_sernet_kd"
    counting = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"cpu_count\(|sched_getaffinity", path.read_text(encoding="utf-8"))
    }
    # The runner is one file that is copied to devices.
    assert counting == {"config/cores.py", "runner.py"}
