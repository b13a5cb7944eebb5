"""What a run works on: the utterances of a corpus, their classes, and the folds of a protocol."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd import audio
from light_sernet_kd.config import Settings
from light_sernet_kd.corpora import Corpus, Utterance, class_indices, dimension_values, soft_labels
from light_sernet_kd.corpora.ratings import Ratings
from light_sernet_kd.corpora.registry import find, load
from light_sernet_kd.data.protocols import ALL_SPEAKERS, Fold, make_folds, propose_folds, select
from light_sernet_kd.data.resolve_settings import resolve_settings, settings_of_run
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.evaluation.dimensions import FEWEST_RATINGS
from light_sernet_kd.files import JsonError, read_json
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.runner import RESERVED, is_reserved


@dataclass(frozen=True)
class Selection:
    """The part of a corpus that a run uses.

    Attributes:
        skipped: `{id, reason}` of each recording that `--skip-bad` left out.
        fingerprints: utterance id → hash of the recording's content.
        folds: those that run, in the protocol's order.
        dimension_names: of the ratings that are learned.
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
    dimension_names: tuple[str, ...] = ()

    @cached_property
    def labels(self) -> np.ndarray:
        """Class indices `(utterances,)` int32."""
        return class_indices(self.utterances, self.classes).astype(np.int32)

    @cached_property
    def soft_labels(self) -> np.ndarray:
        """Shares of the annotators `(utterances, classes)`, as `corpora.soft_labels` makes them."""
        return soft_labels(self.utterances, self.classes)

    @cached_property
    def dimensions(self) -> np.ndarray:
        """Ratings `(utterances, dimensions)`, as `corpora.dimension_values` makes them.

        Raises:
            UserError: in the training set of a fold nobody rated a dimension.
        """
        ends = self.corpus.dimension_range
        if ends is None:
            raise ValueError(f"{self.corpus.name} has no ratings")
        values = dimension_values(self.utterances, self.dimension_names, ends)
        for fold in self.folds:
            count = np.isfinite(values[list(fold.train)]).sum(axis=0)
            if (count < FEWEST_RATINGS).any():
                name = self.dimension_names[int(count.argmin())]
                raise UserError(
                    f"fold {fold.name} trains on {pluralise(int(count.min()), 'rating')} of {name}, and at "
                    f"least {FEWEST_RATINGS} are needed: leave out {name} of --dimensions, or such folds "
                    "(--folds)."
                )
        return values

    @cached_property
    def dimensions_digest(self) -> str:
        """SHA-256 of the ratings that are learned."""
        return hashlib.sha256(self.dimensions.tobytes()).hexdigest()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the recordings, their labels and their speakers."""
        digest = hashlib.sha256()
        for utterance in self.utterances:
            digest.update(f"{utterance.id} {utterance.emotion} {utterance.speaker} ".encode())
            digest.update(self.fingerprints[utterance.id].encode())
        return digest.hexdigest()

    @cached_property
    def fold_digests(self) -> dict[str, str]:
        """Fold → SHA-256 of which of the recordings train, validate and test in it.

        `digest` tells of the recordings alone: other columns of splits or sessions, or two corpora the other
        way round, make other folds of the same.
        """
        made = {}
        for fold in self.folds:
            digest = hashlib.sha256()
            for part in (fold.train, fold.validation, fold.test):
                digest.update(f"{len(part)} ".encode() + np.asarray(part, "<i8").tobytes())
            made[fold.name] = digest.hexdigest()
        return made

    @cached_property
    def soft_labels_digest(self) -> str:
        """SHA-256 of the annotators' shares."""
        digest = hashlib.sha256()
        for utterance in self.utterances:
            digest.update(repr(sorted((utterance.soft_label or {}).items())).encode())
        return digest.hexdigest()

    @property
    def final_fold(self) -> Fold:
        """Every utterance trains (but those of `tests_apart`): for the student that is exported."""
        apart = set(self.folds[0].test) if self.tests_apart else set()
        return Fold(ALL_SPEAKERS, tuple(i for i in range(len(self.utterances)) if i not in apart), (), ())

    @property
    def final_recordings(self) -> str:
        """What the exported student is trained on, in words."""
        return "all recordings but the test ones" if self.tests_apart else "all speakers"

    def speakers(self, indices: Sequence[int]) -> list[str]:
        return sorted({self.utterances[i].speaker for i in indices})


def changed_folds(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """The folds of both in which others train, validate or test, by `fold_digests`; older runs tell of none.

    >>> changed_folds({"03": "a", "08": "b"}, {"03": "a", "08": "c", "09": "d"})
    ['08']
    """
    return [name for name, digest in mine.items() if theirs.get(name, digest) != digest]


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
        ratings=Ratings(settings.dimensions, settings.scale, settings.dimensions_only),
    )


def of_speakers(utterances: tuple[Utterance, ...], names: Sequence[str]) -> tuple[Utterance, ...]:
    """The utterances of the speakers that `--speakers` names; all where it names none.

    Raises:
        UserError: nobody has such a name.
    """
    if not names:
        return utterances
    speakers = sorted({each.speaker for each in utterances})
    chosen = {choose("speaker", name, speakers) for name in names}
    return tuple(each for each in utterances if each.speaker in chosen)


def _usable(settings: Settings, corpus: Corpus) -> tuple[tuple[Utterance, ...], dict[str, str]]:
    """The utterances that a run works on; id → reason of those that `--skip-bad` leaves out."""
    utterances = of_speakers(corpus.utterances, settings.speakers)
    if not settings.skip_bad:
        return utterances, {}
    bad = dict(audio.find_bad(utterances))
    if settings.reads_text:
        bad |= {each.id: "no transcript" for each in utterances if each.transcript is None}
    return tuple(each for each in utterances if each.id not in bad), bad


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
    if len(classes) < 2 and not settings.dimensions_only:
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
        dimension_names=settings.dimensions,
    )


def own_settings(file: Path) -> Settings | None:
    """The settings of the run in whose folder a file lies; None where no run's config.json is beside it.

    Raises:
        UserError: it is damaged.
    """
    path = RunFolder(file.parent).config
    try:
        stored = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except JsonError as error:
        raise UserError(f"{path} {error.why}: copy the run's folder anew, or remove it.") from None
    settings = stored.get("settings") if isinstance(stored, dict) else None
    # Other programs have a config.json too.
    return settings_of_run(file.parent, settings) if isinstance(settings, dict) else None


@dataclass(frozen=True)
class CorpusPart:
    """Which recordings of a corpus are meant, for exported files to be scored on.

    Attributes:
        corpus: a name or the path of a manifest.
        data: holds the corpora's folders.
        audio_type: None is all, or the part of the run whose folds are named.
        emotions: none is the corpus's own, or those of that run.
        columns, skip_bad: as of `load`.
    """

    corpus: str
    data: Path
    audio_type: str | None = None
    emotions: Sequence[str] = ()
    columns: Sequence[str] = ()
    skip_bad: bool = False

    @property
    def place(self) -> Path:
        """The corpus's folder or manifest."""
        return find(self.corpus, self.data)[2].resolve()

    def load(self, *, test_on: str = "") -> Corpus:
        """The recordings; with a second corpus that tests, those of both."""
        return load(
            self.corpus,
            self.data,
            audio_type=self.audio_type or "all",
            emotions=self.emotions,
            test_on=test_on or None,
            columns=self.columns,
            skip_bad=self.skip_bad,
        )


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
    part: CorpusPart,
    *,
    protocol: str | None = None,
    seed: int = 0,
) -> NamedFolds:
    """What the folds of these names test of a corpus, for exported files to be scored on.

    The folds are those of the run that the files are of, where it is on this corpus: its protocol, seed,
    number of folds, part and emotions make them. Else they are those of `protocol` and `seed`.

    Args:
        part: keeps only these of the folds' test utterances; it does not change the folds.
        protocol: if not the run's; without a run the corpus's own, which is `loso` for most.
        seed: of files without a run.

    Raises:
        UserError: unknown names, or the files are of runs whose folds of these names differ.
    """
    if protocol:
        protocol = choose("protocol", protocol, PROTOCOLS)
    runs = _runs_of(files, part) or [(_without_run(part, seed), Path())]
    named = [_named_folds_of(settings, folds, part, protocol) for settings, _ in runs]
    for (_, file), each in zip(runs, named, strict=True):
        if each.utterances != named[0].utterances:
            raise UserError(
                f"{runs[0][1]} and {file} are of runs whose folds differ: {named[0].what} and {each.what} "
                "test other recordings. Score them apart."
            )
    return named[0]


def _runs_of(files: Sequence[Path], part: CorpusPart) -> list[tuple[Settings, Path]]:
    """The settings of the runs on a corpus that files are of, each with its first file.

    Files of one run, or of runs alike, have the same folds: such runs are there once.
    """
    runs: dict[tuple[Any, ...], tuple[Settings, Path]] = {}
    for file in files:
        run = own_settings(file)
        if run and run.test_on is None and find(run.corpus, part.data)[2].resolve() == part.place:
            makes = (run.protocol, run.seed, run.fold_count, run.audio_type, run.emotions, run.columns)
            leaves_out = (run.speakers, run.skip_bad, run.skip_bad and run.reads_text)
            runs.setdefault((*makes, *leaves_out), (run, file))
    return [*runs.values()]


def _without_run(part: CorpusPart, seed: int) -> Settings:
    """Settings whose folds files without a run are scored on."""
    values = {
        "corpus": part.corpus,
        "seed": seed,
        "audio_type": part.audio_type or "all",
        "emotions": tuple(part.emotions),
        "columns": tuple(part.columns),
        "skip_bad": part.skip_bad,
    }
    return resolve_settings(values, part.data)


def _named_folds_of(
    settings: Settings, folds: Sequence[str], part: CorpusPart, protocol: str | None
) -> NamedFolds:
    """The folds of these names that one run's settings make."""
    corpus = loaded(settings, part.data)
    utterances, _ = _usable(settings, corpus)
    name = protocol or settings.protocol
    proposed = propose_folds(name, utterances, seed=settings.seed, n_folds=settings.fold_count)
    chosen = select(proposed, folds)
    ids = {utterances[i].id for fold in chosen for i in fold.test}
    if part.audio_type or part.emotions:
        corpus = replace(
            part,
            audio_type=part.audio_type or settings.audio_type,
            emotions=part.emotions or settings.emotions,
            columns=settings.columns,
            skip_bad=settings.skip_bad,
        ).load()
    texts = {"seed": f", seed {settings.seed}", "fold_count": f" of {settings.fold_count}", None: ""}
    how = texts[PROTOCOLS[name].depends_on]
    listed = f"fold{'s' * (len(chosen) > 1)} {', '.join(fold.name for fold in chosen)} ({name}{how})"
    return NamedFolds(corpus, tuple(each for each in corpus.utterances if each.id in ids), listed)


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
