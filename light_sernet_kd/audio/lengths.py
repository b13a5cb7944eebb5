"""How long recordings are, and how much of them the length of a student's input cuts away."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE

if TYPE_CHECKING:
    from light_sernet_kd.corpora import Utterance


@dataclass(frozen=True)
class Cut:
    """What an input length does to recordings: of a longer one the middle is heard, the rest is not.

    Attributes:
        input_seconds: the length.
        recordings: how many there are.
        longer: how many of them are longer than the input.
        seconds: of all recordings.
        cut_seconds: of the longer ones, what is not heard.
    """

    input_seconds: float
    recordings: int
    longer: int
    seconds: float
    cut_seconds: float

    @property
    def cut_share(self) -> float:
        """Share of all sound that is not heard."""
        return self.cut_seconds / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the attributes and `cut_share`."""
        return {**vars(self), "cut_share": self.cut_share}


def cut(seconds: Iterable[float], input_seconds: float) -> Cut:
    """What an input of this length does to recordings of these lengths."""
    seconds = list(seconds)
    # Half a sample of 16 kHz is no difference.
    surplus = [each - input_seconds for each in seconds if each - input_seconds > 0.5 / SAMPLE_RATE]
    return Cut(float(input_seconds), len(seconds), len(surplus), float(sum(seconds)), float(sum(surplus)))


def cut_of(utterances: "Sequence[Utterance]", input_seconds: float) -> Cut:
    """The same of a corpus's recordings; those that cannot be read are left out."""
    seconds = audio.in_order(_seconds, [utterance.path for utterance in utterances])
    return cut([each for each in seconds if each is not None], input_seconds)


def sentence(facts: dict[str, Any]) -> str:
    """`Cut.as_dict` in words, without a full stop."""
    of = f"{facts['recordings']:,} recordings are longer than {facts['input_seconds']:g} s"
    if not facts["longer"]:
        return f"none of {of}"
    return f"{facts['longer']:,} of {of}; that cuts away {100 * facts['cut_share']:.1f} % of all sound"


def _seconds(path) -> float | None:
    try:
        return audio.seconds_of(path)
    except audio.AudioError:
        return None
