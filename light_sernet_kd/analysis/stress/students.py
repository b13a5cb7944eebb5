"""The students that are stressed: exported files, or a file per fold of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data import training_list
from light_sernet_kd.errors import UserError
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.runner import Runner, RunnerError, require_classes, unsure_threshold

# What is added for a student that was trained on what it is stressed with.
KNOWN = (
    "; what the conditions cost is still of use. For honest scores stress the run's folder, where each "
    "fold's student is tested on speakers it does not know"
)


@dataclass(frozen=True)
class Part:
    """A file, and the ids of the utterances that it is tested on; None for all of the corpus."""

    runner: Runner
    ids: frozenset[str] | None = None


@dataclass(frozen=True)
class Student:
    """What is stressed: one file, or a file per fold of a run.

    Attributes:
        name: for tables; unlike the others'.
        parts: files of the same classes.
        trained: a sentence on whether it knows the recordings.
        trained_on: whether it was trained on any of the recordings that it is tested on; None where that
            was not checked.
        stamps: what breaks the rule that nobody tests who trained.
        folder: the run's, where it is a run.
    """

    name: str
    parts: tuple[Part, ...]
    trained: str
    trained_on: bool | None
    stamps: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return self.parts[0].runner.labels

    @property
    def precision(self) -> str:
        return self.parts[0].runner.precision

    @property
    def unsure_below(self) -> float:
        return unsure_threshold(self.parts[0].runner.card)

    def tests(self, utterance: Utterance) -> Iterator[int]:
        """The parts that are tested on an utterance: none of an emotion that they cannot answer."""
        for number, part in enumerate(self.parts):
            if utterance.emotion in self.labels and (part.ids is None or utterance.id in part.ids):
                yield number


def open_part(path: Path, ids: frozenset[str] | None = None) -> Part:
    """An exported audio-only file that gives classes.

    Raises:
        UserError: it is none.
    """
    try:
        runner = Runner(path)
    except RunnerError as error:
        raise UserError(str(error)) from None
    if runner.inputs != ("audio",):
        takes = "text" if runner.text is not None else "states of encoders"
        raise UserError(
            f"{path} takes {takes}{' beside audio' * ('audio' in runner.inputs)}: stress "
            "degrades audio, and takes audio-only students."
        )
    if runner.sample_rate != SAMPLE_RATE:
        raise UserError(f"{path} takes {runner.sample_rate} Hz; stress is made for {SAMPLE_RATE} Hz.")
    try:
        require_classes(runner.card, path, "stress", "name a file of classes")
    except RunnerError as error:
        raise UserError(str(error)) from None
    return Part(runner, ids)


def open_students(
    paths: Sequence[Path],
    corpus: Corpus,
    *,
    tested: Sequence[Utterance] | None = None,
    origin: str = "",
) -> list[Student]:
    """A student of each exported file, to be stressed on recordings of a corpus.

    Args:
        tested: the recordings; by default all of the corpus.
        origin: the corpus's own name where it is known by name; empty for a manifest.

    Raises:
        UserError: a file cannot be used, is named twice, or its list of training recordings is damaged.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a file is named twice: name each once.")
    names = [path.name for path in paths]
    parts = [open_part(path) for path in paths]
    students = []
    read: dict[Path, bytes | None] = {}
    for path, name, part in zip(paths, names, parts, strict=True):
        trained = training_list.read(path)
        answered = [
            each
            for each in (corpus.utterances if tested is None else tested)
            if trained is not None and each.emotion in part.runner.labels
        ]
        known = training_list.training_overlap(
            part.runner.card,
            trained,
            training_list.of_tested(answered, corpus=corpus.name, origin=origin, read=read),
        )
        words = known.words + KNOWN * (known.trained_on is True)
        shown = name if names.count(name) == 1 else str(path)
        students.append(Student(shown, (part,), words, known.trained_on))
    return students


def of_folds(
    name: str, parts: Sequence[Part], stamps: Sequence[str] = (), folder: Path | None = None
) -> Student:
    """A run as one student: the file of each fold, tested on that fold's test utterances."""
    trained = (
        f"{pluralise(len(parts), 'fold')}, each one's own student on that fold's test recordings, which it "
        "was not trained on"
    )
    return Student(name, tuple(parts), trained, False, tuple(stamps), folder)
