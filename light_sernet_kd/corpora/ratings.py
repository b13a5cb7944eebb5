"""Which ratings of a corpus are meant: how aroused, pleasant and dominant a voice sounds to listeners."""

import dataclasses
from dataclasses import dataclass

from light_sernet_kd.config.dimensions import RATED
from light_sernet_kd.corpora.types import Corpus
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.corpora import CORPORA


@dataclass(frozen=True)
class Ratings:
    """Dimensions that are read of a corpus.

    Attributes:
        dimensions: names of `registries.dimensions`.
        ends: of the scale of a manifest, which tells none; None where no manifest is meant.
        replace_emotions: they take the place of the emotions.
    """

    dimensions: tuple[str, ...] = ()
    ends: tuple[float, float] | None = None
    replace_emotions: bool = False

    def check(self, corpus: Corpus) -> None:
        """Refuse a corpus without ratings of one of the dimensions.

        Raises:
            UserError: says which corpora do.
        """
        rated = set().union(*(each.dimensions or () for each in corpus.utterances))
        missing = [name for name in self.dimensions if name not in rated]
        if not missing:
            return
        having = [
            f"{name} ({', '.join(each.dimensions)})" for name, each in CORPORA.items() if each.dimensions
        ]
        raise UserError(
            f"{corpus.name} has no ratings of {' and '.join(missing)}. {', '.join(having)} and manifests "
            f"with a column such as {missing[0]} have them: leave out --dimensions, or choose another corpus."
        )

    def only(self, corpus: Corpus) -> Corpus:
        """The recordings that have a rating of one of the dimensions, all of the one class `RATED`."""
        rated = [each for each in corpus.utterances if {*(each.dimensions or ())} & {*self.dimensions}]
        left_out, count = dict(corpus.left_out), len(corpus.utterances) - len(rated)
        if count:
            left_out[f"no rating of {' or '.join(self.dimensions)}"] = count
        kept = tuple(dataclasses.replace(each, emotion=RATED, soft_label=None) for each in rated)
        return dataclasses.replace(corpus, utterances=kept, left_out=left_out)


NO_RATINGS = Ratings()
