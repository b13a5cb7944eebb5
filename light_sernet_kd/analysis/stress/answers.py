"""What students said, and what counts as unsure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import audio
from light_sernet_kd.analysis.stress.students import Student
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.runner import too_short, unheard


@dataclass
class Answers:
    """What one student said, row by row: a row is an utterance and a part that is tested on it.

    Attributes:
        utterances: of each row.
        probabilities: `(conditions, rows, classes)`.
        unheard: `(conditions, rows)`, whether a stream's gates would keep it from being classified.
    """

    student: Student
    utterances: list[Utterance]
    probabilities: NDArray[np.float32]
    unheard: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[np.int64]:
        place = {name: number for number, name in enumerate(self.student.labels)}
        return np.array([place[each.emotion] for each in self.utterances], np.int64)

    @classmethod
    def empty(cls, student: Student, tested: Sequence[Utterance], conditions: int) -> "Answers":
        """Room for the answers to these utterances, in their order."""
        rows = [each for each in tested for _ in student.tests(each)]
        shape = (conditions, len(rows))
        return cls(student, rows, np.zeros((*shape, len(student.labels)), np.float32), np.zeros(shape, bool))


def is_unheard(waveform: np.ndarray, *, samples: int) -> bool:
    """Whether the middle `samples` of a waveform are silence, no speech or too short.

    The rule is `runner.unheard`'s, of the clip without the zeros that pad a short recording.
    """
    clip = audio.fit(waveform, min(len(waveform), samples))
    return too_short(len(waveform), SAMPLE_RATE) or unheard(clip, SAMPLE_RATE) != ""
