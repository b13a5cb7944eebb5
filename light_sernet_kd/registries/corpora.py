"""The corpora that are known by name, in the order in which they are listed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from light_sernet_kd.registries.lazy import Lazy

if TYPE_CHECKING:
    from light_sernet_kd.corpora import Origin, Published

# Parts of corpora of acted dialogues: all, improvised or read from a script.
DIALOGUE_PARTS = ("all", "impro", "script")


@dataclass(frozen=True)
class CorpusSource:
    """How to read a corpus, and what may be chosen in it.

    Attributes:
        utterances: its file's parser, `(root, *, skip_bad)` to a `Corpus`; beside it the file has `ORIGIN`
            and `PUBLISHED`, which a plug-in may leave out.
        audio_types: the parts that `-at` may choose from; all but `all` are looked for in the dialog's name.
        emotions: the corpus's usual task, as `--emotions` would give it; empty is all its emotions.
        sessions: whether its utterances name their session.
        soft_labels: what these are read from, below the corpus's folder; None where it has none.
        dimensions: those that listeners rated; of `registries.dimensions`.
        protocol: the one that is taken where none is named; it runs on the corpus as published.
    """

    utterances: Callable[..., Any]
    audio_types: tuple[str, ...] = ("all",)
    emotions: tuple[str, ...] = ()
    sessions: bool = False
    soft_labels: str | None = None
    dimensions: tuple[str, ...] = ()
    protocol: str = "loso"

    @property
    def origin(self) -> Origin | None:
        """Where it comes from; None for what is made here or written by the user."""
        return self._beside_parser("ORIGIN", None)

    @property
    def published(self) -> Published:
        """What the corpus holds as published."""
        return self._beside_parser("PUBLISHED", Lazy("corpora.types:Published"))

    def _beside_parser(self, name: str, default: Lazy | None) -> Any:
        if isinstance(self.utterances, Lazy):
            module = self.utterances.target.partition(":")[0]
            return Lazy(f"{module}:{name}").load()
        beside = vars(sys.modules[self.utterances.__module__])
        return beside[name] if name in beside else default and default()


CORPORA: dict[str, CorpusSource] = {
    "EMO-DB": CorpusSource(Lazy("corpora.emodb:utterances")),
    "IEMOCAP": CorpusSource(
        Lazy("corpora.iemocap:utterances"),
        audio_types=DIALOGUE_PARTS,
        emotions=("anger", "happiness", "neutral", "sadness", "excitement=happiness"),
        sessions=True,
        soft_labels="Session*/dialog/EmoEvaluation",
        dimensions=("arousal", "valence", "dominance"),
    ),
    "RAVDESS": CorpusSource(Lazy("corpora.ravdess:utterances")),
    "CREMA-D": CorpusSource(
        Lazy("corpora.cremad:utterances"), soft_labels="processedResults/tabulatedVotes.csv"
    ),
    "TESS": CorpusSource(Lazy("corpora.tess:utterances"), protocol="two_speakers"),
    "ESD": CorpusSource(Lazy("corpora.esd:utterances")),
    "KEMDy19": CorpusSource(
        Lazy("corpora.kemdy19:utterances"),
        audio_types=DIALOGUE_PARTS,
        sessions=True,
        soft_labels="annotation",
        dimensions=("arousal", "valence"),
    ),
    "KEMDy20": CorpusSource(
        Lazy("corpora.kemdy20:utterances"),
        sessions=True,
        soft_labels="annotation",
        dimensions=("arousal", "valence"),
    ),
    "demo": CorpusSource(Lazy("corpora.demo:utterances")),
}
# What is not known by name: a table that the user wrote.
MANIFEST = CorpusSource(Lazy("corpora.manifest:utterances"))


def registered_name(name: str) -> str:
    """The own spelling of a corpus that is known by name; empty for a manifest, whose speakers may be anyone.

    >>> registered_name("emo-db"), registered_name("calls.csv")
    ('EMO-DB', '')
    """
    return next((known for known in CORPORA if known.lower() == name.lower()), "")
