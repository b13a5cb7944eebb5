"""What a run works on: the utterances of a corpus, their classes, and the folds of a protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.corpora import Corpus, Utterance, class_indices, soft_labels
from light_sernet_kd.corpora.registry import default_protocol, find, load
from light_sernet_kd.data.protocols import ALL_SPEAKERS, Fold, make_folds, propose_folds, select
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.files import JsonError, read_json
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.runner import RESERVED, is_reserved


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
        columns=settings.columns,
        skip_bad=settings.skip_bad,
    )


def _usable(settings: Settings, corpus: Corpus) -> tuple[tuple[Utterance, ...], dict[str, str]]:
    """The utterances that a run works on; id → reason of those that `--skip-bad` leaves out."""
    if not settings.skip_bad:
        return corpus.utterances, {}
    bad = dict(audio.find_bad(corpus.utterances))
    if settings.reads_text:
        bad |= {each.id: "no transcript" for each in corpus.utterances if each.transcript is None}
    return tuple(each for each in corpus.utterances if each.id not in bad), bad


def selected(settings: Settings, data: Path) -> Selection:
    """Load the corpus (or the two of a cross-corpus test), check every recording, make the folds.

    Raises:
        UserError: what the user can mend.
    """
    corpus = loaded(settings, data)
    utterances, bad = _usable(settings, corpus)
    left_out = {**corpus.skipped, **bad}
    skipped = [{"id": name, "reason": reason} for name, reason in sorted(left_out.items())]
    fingerprints = audio.fingerprints(utterances)
    classes = Corpus("", utterances).classes
    if len(classes) < 2:
        raise UserError(f"{corpus.name} has {len(classes)} emotion; at least 2 are needed.")
    if broken := [name for name in classes if name.splitlines() != [name]]:
        raise UserError(f"a class name must be one line, found {broken[0]!r}: rename it in the manifest.")
    if reserved := [name for name in classes if is_reserved(name)]:
        raise UserError(RESERVED.format(reserved[0]))
    folds = make_folds(
        settings.protocol, utterances, fingerprints, seed=settings.seed, n_folds=settings.fold_count
    )
    return Selection(
        corpus,
        utterances,
        skipped,
        fingerprints,
        classes,
        select(folds, settings.folds),
        tests_apart=PROTOCOLS[settings.protocol].tests_apart,
    )


def own_settings(file: Path) -> Settings | None:
    """The settings of the run in whose folder a file lies; None where no run's config.json is beside it.

    Raises:
        UserError: it is damaged.
    """
    path = file.parent / "config.json"
    try:
        stored = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except JsonError as error:
        raise UserError(f"{path} {error.why}: copy the run's folder anew, or remove it.") from None
    settings = stored.get("settings") if isinstance(stored, dict) else None
    # Other programs have a config.json too.
    return make_settings(**settings) if isinstance(settings, dict) else None


@dataclass(frozen=True)
class NamedFolds:
    """The test utterances of some folds.

    Attributes:
        what: the folds in words.
    """

    corpus: Corpus
    utterances: tuple[Utterance, ...]
    what: str


def named_folds(
    folds: Sequence[str],
    files: Sequence[Path],
    corpus: str,
    data: Path,
    *,
    protocol: str | None = None,
    seed: int = 0,
    audio_type: str | None = None,
    emotions: Sequence[str] = (),
    columns: Sequence[str] = (),
    skip_bad: bool = False,
) -> NamedFolds:
    """What the folds of these names test of a corpus, for exported files to be scored on.

    The folds are those of the run that the files are of, where it is on this corpus: its protocol, seed,
    number of folds, part and emotions make them. Else they are those of `protocol` and `seed`.

    Args:
        protocol: if not the run's; without a run the corpus's own, which is `loso` for most.
        seed: of files without a run.
        columns, skip_bad: as of `load`, where no run tells them.
        audio_type, emotions: of the utterances, if not the run's; which of them a fold tests stays as it is.

    Raises:
        UserError: unknown names, or the files are of runs whose folds of these names differ.
    """
    if protocol:
        protocol = choose("protocol", protocol, PROTOCOLS)
    place = find(corpus, data)[2].resolve()
    # Files of one run, or of runs alike, have the same folds.
    runs: dict[tuple[Any, ...], tuple[Settings, Path]] = {}
    for file in files:
        own = own_settings(file)
        if own and own.test_on is None and find(own.corpus, data)[2].resolve() == place:
            makes = (own.protocol, own.seed, own.fold_count, own.audio_type, own.emotions, own.columns)
            leaves_out = (own.skip_bad, own.skip_bad and own.reads_text)
            runs.setdefault((*makes, *leaves_out), (own, file))
    if not runs:
        part = audio_type or "all"
        plain = make_settings(
            corpus=corpus,
            seed=seed,
            audio_type=part,
            emotions=tuple(emotions),
            columns=tuple(columns),
            skip_bad=skip_bad,
            protocol=default_protocol(corpus, data, columns),
        )
        runs[()] = (plain, Path())
    found: list[NamedFolds] = []
    for own, file in runs.values():
        whole = loaded(own, data)
        utterances, _ = _usable(own, whole)
        name = protocol or own.protocol
        chosen = select(propose_folds(name, utterances, seed=own.seed, n_folds=own.fold_count), folds)
        ids = {utterances[i].id for fold in chosen for i in fold.test}
        if audio_type or emotions:
            part = audio_type or own.audio_type
            whole = load(
                corpus,
                data,
                audio_type=part,
                emotions=emotions or own.emotions,
                columns=own.columns,
                skip_bad=own.skip_bad,
            )
        texts = {"seed": f", seed {own.seed}", "fold_count": f" of {own.fold_count}", None: ""}
        how = texts[PROTOCOLS[name].depends_on]
        listed = f"fold{'s' * (len(chosen) > 1)} {', '.join(fold.name for fold in chosen)} ({name}{how})"
        tested = tuple(each for each in whole.utterances if each.id in ids)
        found.append(NamedFolds(whole, tested, listed))
        if tested != found[0].utterances:
            _, first = next(iter(runs.values()))
            raise UserError(
                f"{first} and {file} are of runs whose folds differ: {found[0].what} and {listed} test other "
                "recordings. Score them apart."
            )
    return found[0]


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
