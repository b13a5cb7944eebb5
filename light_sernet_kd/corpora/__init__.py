"""Speech-emotion corpora: where the recordings are, who speaks, and which emotion is meant."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CANONICAL_EMOTIONS = (
    "anger", "boredom", "calm", "disgust", "excitement", "fear",
    "frustration", "happiness", "neutral", "sadness", "surprise",
)  # fmt: skip


@dataclass(frozen=True)
class Utterance:
    """One labelled recording.

    Attributes:
        id: unique in the corpus; teacher files and predictions are joined by it.
        path: the audio file.
        emotion: a canonical English word (`CANONICAL_EMOTIONS`), or any word a manifest uses.
        speaker: who speaks; unique in the corpus.
        dialog: the conversation or scene that the recording is cut from.
        soft_label: share of annotators per emotion, where the corpus has it.
    """

    id: str
    path: Path
    emotion: str
    speaker: str
    session: str | None = None
    dialog: str | None = None
    transcript: str | None = None
    split: str | None = None
    soft_label: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Corpus:
    """The utterances of a corpus, sorted by id, and what its own rules left out.

    Attributes:
        left_out: reason → number of recordings, for the report.
        synthetic: the recordings are made, not recorded; every report says so.
    """

    name: str
    utterances: tuple[Utterance, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    synthetic: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The emotions that occur, in alphabetical order: the order of every logit column."""
        return tuple(sorted({utterance.emotion for utterance in self.utterances}))

    @property
    def speakers(self) -> tuple[str, ...]:
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))


def repeated(values: Sequence[str]) -> list[str]:
    """The values that occur more than once, in order."""
    return [value for value, count in Counter(values).items() if count > 1]
