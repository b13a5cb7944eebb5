"""Which recordings and conditions students are stressed on."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.degradations import CLEAN, CONDITIONS


@dataclass(frozen=True)
class RecordingSubset:
    """Which of the recordings are tested.

    Attributes:
        speakers: only theirs; of all where none is named.
        limit: so many of each emotion at most; all where it is None.
        seed: of that draw, and of the folds of files without a run.
    """

    speakers: Sequence[str] = ()
    limit: int | None = None
    seed: int = 0

    def of(self, utterances: Sequence[Utterance], corpus: Corpus) -> tuple[Utterance, ...]:
        """Those of a corpus's utterances that are drawn."""
        tested = tuple(utterances)
        if self.speakers:
            tested = of_speakers(tested, self.speakers, corpus)
        return limited(tested, self.limit, seed=self.seed) if self.limit else tested


def of_speakers(
    utterances: Sequence[Utterance], names: Sequence[str], corpus: Corpus
) -> tuple[Utterance, ...]:
    """The utterances of these speakers of a corpus.

    Raises:
        UserError: a speaker whom the corpus does not have, or of whom no utterance is there.
    """
    speakers = {choose("speaker", name, corpus.speakers) for name in names}
    there = {each.speaker for each in utterances}
    if absent := sorted(speakers - there):
        raise UserError(
            f"no recording of {', '.join(absent)} is tested here: name some of {', '.join(sorted(there))}."
        )
    return tuple(each for each in utterances if each.speaker in speakers)


def limited(utterances: Sequence[Utterance], most: int, *, seed: int = 0) -> tuple[Utterance, ...]:
    """At most so many utterances of each emotion, drawn by the seed and evenly over the speakers."""
    kept: set[str] = set()
    for emotion in {each.emotion for each in utterances}:
        kept |= {each.id for each in spread([u for u in utterances if u.emotion == emotion], most, seed)}
    return tuple(each for each in utterances if each.id in kept)


def spread(utterances: Sequence[Utterance], most: int, seed: int) -> list[Utterance]:
    """At most so many utterances, of every speaker the first drawn before anyone's second."""
    # By id, so that who else is there does not change the draw.
    drawn = sorted(utterances, key=lambda each: zlib.crc32(f"{seed} {each.id}".encode()))
    seen: Counter[str] = Counter()
    turns = []
    for place, each in enumerate(drawn):
        turns.append((seen[each.speaker], place))
        seen[each.speaker] += 1
    return [drawn[place] for _, place in sorted(turns)[:most]]


def conditions_of(names: Sequence[str]) -> list[str]:
    """The conditions of these names or kinds, clean first; all that are so by default where none is named.

    Raises:
        UserError: an unknown name.
    """
    kinds = {condition.kind for condition in CONDITIONS.values()}
    wanted = {choose("condition", name, [*CONDITIONS, *sorted(kinds - {*CONDITIONS})]) for name in names}
    wanted |= {CLEAN}
    return [
        name
        for name, condition in CONDITIONS.items()
        if (condition.by_default if not names else name in wanted or condition.kind in wanted)
    ]
