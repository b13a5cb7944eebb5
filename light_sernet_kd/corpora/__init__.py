"""Speech-emotion corpora: where the recordings are, who speaks, and which emotion is meant."""

from light_sernet_kd.corpora.types import (
    CANONICAL_EMOTIONS,
    SEXES,
    Corpus,
    Origin,
    Published,
    Utterance,
    across,
    class_indices,
    name_key,
    own_name,
    read_text,
    repeated,
    same_names,
    shares_among,
    soft_labels,
    vote_shares,
)

__all__ = [
    "CANONICAL_EMOTIONS",
    "SEXES",
    "Corpus",
    "Origin",
    "Published",
    "Utterance",
    "across",
    "class_indices",
    "name_key",
    "own_name",
    "read_text",
    "repeated",
    "same_names",
    "shares_among",
    "soft_labels",
    "vote_shares",
]
