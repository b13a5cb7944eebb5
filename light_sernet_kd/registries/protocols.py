"""How a corpus is split into training, validation and test sets (`--protocol`).

A new one is its function in `protocols` and an entry here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from light_sernet_kd.registries.lazy import Lazy

STAMP_EPOCH = "optimistic: the epoch was chosen on the test fold"
STAMP_SPEAKERS = "optimistic: test speakers are also in training"
STAMP_TWO_SPEAKERS = "the epoch was chosen on other recordings of the training speaker: there are only two"


@dataclass(frozen=True)
class Protocol:
    """A way to split a corpus.

    Attributes:
        folds: `(utterances, seed, n_folds)` to a list of `protocols.Fold`; most ignore the last two.
        stamps: what makes its scores optimistic; shown on every result.
        tests_on_validation: the test fold chooses the epoch, as the papers did.
        mixes_speakers: train and test share speakers, and so perhaps recordings.
        validates_on_training_speakers: training and validation share speakers; the test does not.
        tests_apart: the test recordings are another corpus, or a part that their corpus set apart: who trains
            under it is not trained on them, and neither is the student that is exported.
        takes_test_corpus: another corpus tests (`--test-on`).
        depends_on: the setting that decides the folds beside the corpus.
        title: what pictures and pages call it; empty is its key.

    >>> PROTOCOLS["loso"].stamps
    ()
    >>> PROTOCOLS["random"].mixes_speakers, PROTOCOLS["random"].depends_on
    (True, 'seed')
    """

    description: str
    folds: Callable[..., Any]
    stamps: tuple[str, ...] = ()
    tests_on_validation: bool = False
    mixes_speakers: bool = False
    validates_on_training_speakers: bool = False
    tests_apart: bool = False
    takes_test_corpus: bool = False
    depends_on: Literal["seed", "fold_count"] | None = None
    title: str = ""


PROTOCOLS: dict[str, Protocol] = {
    "loso": Protocol(
        "leave one speaker out: each speaker tests once, the next speaker validates and chooses the epoch, "
        "the rest train",
        Lazy("data.protocols:leave_one_speaker_out"),
        title="leave one speaker out",
    ),
    "session": Protocol(
        "leave one session out: each session tests once, the next session validates and chooses the epoch, "
        "the rest train",
        Lazy("data.protocols:leave_one_session_out"),
        title="leave one session out",
    ),
    "group_kfold": Protocol(
        "folds of whole speakers, alike in size: each fold tests once, the next fold validates and chooses "
        "the epoch, the rest train",
        Lazy("data.protocols:folds_of_speakers"),
        depends_on="fold_count",
        title="folds of speakers",
    ),
    "two_speakers": Protocol(
        "leave one of two speakers out: each speaker tests once, the other trains, and of the training "
        "speaker's sentences a tenth or a little more choose the epoch",
        Lazy("data.protocols:two_speakers"),
        stamps=(STAMP_TWO_SPEAKERS,),
        validates_on_training_speakers=True,
        title="leave one of two speakers out",
    ),
    "split": Protocol(
        "the corpus's own split; where it has no validation set, the first training speakers (of a single "
        "one some sentences), a tenth of the training recordings or a little more, choose the epoch",
        Lazy("data.protocols:by_split_column"),
        tests_apart=True,
        title="the corpus's split",
    ),
    "cross_corpus": Protocol(
        "train on one corpus, test on another, over the emotions that both have; the first training "
        "speakers (of a single one some sentences), a tenth of the recordings or a little more, choose the "
        "epoch",
        Lazy("data.protocols:by_split_column"),
        tests_apart=True,
        takes_test_corpus=True,
        title="another corpus",
    ),
    "published": Protocol(
        "folds as published: each session (where the corpus has none, each speaker) tests once, the rest "
        "train, the best epoch on the test fold counts",
        Lazy("data.protocols:folds_as_published"),
        stamps=(STAMP_EPOCH,),
        tests_on_validation=True,
        title="folds as published",
    ),
    "random": Protocol(
        "ten random 80/20 splits as published: speakers mixed, the best epoch on the test part counts",
        Lazy("data.protocols:random_splits"),
        stamps=(STAMP_SPEAKERS, STAMP_EPOCH),
        tests_on_validation=True,
        mixes_speakers=True,
        depends_on="seed",
        title="random splits as published",
    ),
    "split_mixed": Protocol(
        "the corpus's own split, in which speakers are on both sides",
        Lazy("data.protocols:by_split_column"),
        stamps=(STAMP_SPEAKERS,),
        mixes_speakers=True,
        tests_apart=True,
        title="the corpus's split with shared speakers",
    ),
}


def two_corpora_protocol() -> str:
    """The protocol that a corpus to test on means.

    >>> two_corpora_protocol()
    'cross_corpus'
    """
    return next(name for name, protocol in PROTOCOLS.items() if protocol.takes_test_corpus)
