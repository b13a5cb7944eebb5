"""How well exported students do on degraded recordings: noise, overload, a line, a codec, a room, silence.

Files are run as a phone runs them, through `runner.Runner`. Every recording is degraded once per condition
and given to all of the students, so conditions and students are compared on the same sound.
"""

from light_sernet_kd.analysis.stress.answers import is_unheard
from light_sernet_kd.analysis.stress.choosing import RecordingSubset, conditions_of, limited, of_speakers
from light_sernet_kd.analysis.stress.noises import read_noises
from light_sernet_kd.analysis.stress.running import certify, stress
from light_sernet_kd.analysis.stress.students import Part, Student, of_folds, open_part, open_students
from light_sernet_kd.analysis.stress.subjects import (
    StressInputs,
    corpus_of,
    files_on,
    read_runs,
    runs_and_files,
)
from light_sernet_kd.analysis.stress.tables import footnotes, heads, show, show_certificates
from light_sernet_kd.analysis.stress.writing import as_json, page, write, write_certificates

__all__ = [
    "Part",
    "RecordingSubset",
    "StressInputs",
    "Student",
    "as_json",
    "certify",
    "conditions_of",
    "corpus_of",
    "files_on",
    "footnotes",
    "heads",
    "is_unheard",
    "limited",
    "of_folds",
    "of_speakers",
    "open_part",
    "open_students",
    "page",
    "read_noises",
    "read_runs",
    "runs_and_files",
    "show",
    "show_certificates",
    "stress",
    "write",
    "write_certificates",
]
