"""What exported files cost on this machine, and how well they answer: size, work, time, memory, UA.

Nothing here needs TensorFlow. Times are those of one `invoke`, from inputs that are set to an output that can
be read: reading, resampling and tokenising are left out. Files take turns, so that whatever else the machine
does slows all of them alike; still, compare ratios and not the times of different days.
"""

from light_sernet_kd.analysis.benchmark.graph import Work, delegation, work
from light_sernet_kd.analysis.benchmark.measuring import checked_threads, files_of, measure
from light_sernet_kd.analysis.benchmark.memory import peak_memory
from light_sernet_kd.analysis.benchmark.scoring import Recordings, accuracy, folds_students, recordings_of
from light_sernet_kd.analysis.benchmark.tables import notes, show, table, write
from light_sernet_kd.analysis.benchmark.timing import (
    FEWEST_ROUNDS,
    WARM_UP,
    example,
    in_turn,
    latencies,
    open_file,
    summary,
)

__all__ = [
    "FEWEST_ROUNDS",
    "WARM_UP",
    "Recordings",
    "Work",
    "accuracy",
    "checked_threads",
    "delegation",
    "example",
    "files_of",
    "folds_students",
    "in_turn",
    "latencies",
    "measure",
    "notes",
    "open_file",
    "peak_memory",
    "recordings_of",
    "show",
    "summary",
    "table",
    "work",
    "write",
]
