"""What a run works on: the utterances of a corpus, their classes, and the folds of a protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import Settings, UserError
from light_sernet_kd.corpora import Corpus, Utterance, class_indices, soft_labels
from light_sernet_kd.corpora.registry import load
from light_sernet_kd.protocols import ALL_SPEAKERS, Fold, make_folds, select


@dataclass(frozen=True)
class Selection:
    """The part of a corpus that a run uses.

    Attributes:
        skipped: `{id, reason}` of each recording that `--skip-bad` left out.
        fingerprints: utterance id → hash of the recording's content.
        folds: those that run, in the protocol's order.
        tests_apart: the test recordings are another corpus, or a part that its corpus set apart: the student
            that is exported is not trained on them either.
    """

    corpus: Corpus
    utterances: tuple[Utterance, ...]
    skipped: list[dict[str, str]]
    fingerprints: dict[str, str]
    classes: tuple[str, ...]
    folds: list[Fold]
    tests_apart: bool = False

    @cached_property
    def labels(self) -> np.ndarray:
        """Class indices `(utterances,)` int32."""
        return class_indices(self.utterances, self.classes).astype(np.int32)

    @cached_property
    def soft_labels(self) -> np.ndarray:
        """Shares of the annotators `(utterances, classes)`, as `corpora.soft_labels` makes them."""
        return soft_labels(self.utterances, self.classes)

    @property
    def final_fold(self) -> Fold:
        """Every utterance trains (but those of `tests_apart`): for the student that is exported."""
        apart = set(self.folds[0].test) if self.tests_apart else set()
        return Fold(ALL_SPEAKERS, tuple(i for i in range(len(self.utterances)) if i not in apart), (), ())

    def speakers(self, indices: Sequence[int]) -> list[str]:
        return sorted({self.utterances[i].speaker for i in indices})


def loaded(settings: Settings, data: Path) -> Corpus:
    """The corpus of a run, or the two of a cross-corpus test, with its task's emotions."""
    return load(
        settings.corpus,
        data,
        audio_type=settings.audio_type,
        emotions=settings.emotions,
        test_on=settings.test_on,
    )


def selected(settings: Settings, data: Path) -> Selection:
    """Load the corpus (or the two of a cross-corpus test), check every recording, make the folds.

    Raises:
        UserError: what the user can mend.
    """
    corpus = loaded(settings, data)
    utterances, skipped = corpus.utterances, []
    if settings.skip_bad:
        bad = dict(audio.find_bad(utterances))
        if settings.reads_text:
            bad |= {each.id: "no transcript" for each in utterances if each.transcript is None}
        utterances = tuple(utterance for utterance in utterances if utterance.id not in bad)
        skipped = [{"id": name, "reason": reason} for name, reason in sorted(bad.items())]
    fingerprints = audio.fingerprints(utterances)
    classes = Corpus("", utterances).classes
    if len(classes) < 2:
        raise UserError(f"{corpus.name} has {len(classes)} emotion; at least 2 are needed.")
    if broken := [name for name in classes if name.splitlines() != [name]]:
        raise UserError(f"a class name must be one line, found {broken[0]!r}: rename it in the manifest.")
    folds = make_folds(
        settings.protocol, utterances, fingerprints, seed=settings.seed, wished=settings.fold_count
    )
    return Selection(
        corpus,
        utterances,
        skipped,
        fingerprints,
        classes,
        select(folds, settings.folds),
        tests_apart=settings.protocol in ("split", "split_mixed", "cross_corpus"),
    )


def representative(labels: np.ndarray, speakers: Sequence[str], most: int) -> list[int]:
    """Utterances that stand for all: as even as can be over the classes and over the speakers.

    One after the other is taken: first what brings a class or a speaker that was not there yet, then the
    utterance whose class and speaker are furthest behind an even share. The draw is always the same.

    Args:
        labels: class indices `(utterances,)`.
        speakers: of each utterance.
        most: how many to draw; all, where there are fewer.

    Returns:
        Positions, ascending. None is missing where `most` is the number of classes and speakers together.
    """
    _, classes = np.unique(labels, return_inverse=True)
    _, voices = np.unique(np.asarray(speakers), return_inverse=True)
    by_class, by_voice = np.zeros(classes.max() + 1), np.zeros(voices.max() + 1)
    # Shuffled, or of each speaker it would always be the first sentence of the corpus.
    left = np.random.default_rng(0).permutation(len(classes))
    drawn: list[int] = []
    while len(drawn) < most and len(left):
        of_class, of_voice = by_class[classes[left]], by_voice[voices[left]]
        share = of_class * len(by_class) + of_voice * len(by_voice)
        taken = np.lexsort((share, (of_class > 0) & (of_voice > 0)))[0]
        drawn.append(int(left[taken]))
        by_class[classes[drawn[-1]]] += 1
        by_voice[voices[drawn[-1]]] += 1
        left = np.delete(left, taken)
    return sorted(drawn)
