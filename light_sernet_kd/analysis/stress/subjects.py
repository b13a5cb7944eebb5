"""Who is stressed on what: exported files on a corpus, runs on what their folds test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from light_sernet_kd.analysis.stress.choosing import RecordingSubset
from light_sernet_kd.analysis.stress.students import Student, of_folds, open_part, open_students
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.run_folder import Run, read_run
from light_sernet_kd.data.selection import CorpusPart, Selection, named_folds
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.corpora import registered_name

# From a run's folder to what the run works on, and per fold its files by precision.
Convert = Callable[[Path], tuple[Selection, Sequence[tuple[Fold, Mapping[str, Path]]]]]


@dataclass(frozen=True)
class StressInputs:
    """Who is stressed on what, as `stress` takes it."""

    students: list[Student]
    corpus: Corpus
    tested: tuple[Utterance, ...]
    notes: list[str] = field(default_factory=list)


def files_on(
    part: CorpusPart,
    files: Sequence[Path],
    *,
    folds: Sequence[str] = (),
    protocol: str | None = None,
    drawn: RecordingSubset,
) -> StressInputs:
    """Exported files on a corpus, or on what some folds test of it.

    Raises:
        UserError: the corpus, a fold, a speaker or a file cannot be used.
    """
    notes = []
    if folds:
        chosen = named_folds(folds, files, part, protocol=protocol, seed=drawn.seed)
        corpus, tested = chosen.corpus, chosen.utterances
        notes.append(f"tested are the test recordings of {chosen.what}")
    else:
        corpus = part.load()
        tested = corpus.utterances
    tested = drawn.of(tested, corpus)
    students = open_students(files, corpus, tested=tested, origin=registered_name(part.corpus))
    return StressInputs(students, corpus, tested, notes)


def read_runs(paths: Sequence[Path]) -> dict[Path, Run]:
    """The finished runs of the folders among these paths.

    Raises:
        UserError: a folder holds no finished run, one of ratings alone, or is named twice.
    """
    folders = [path for path in paths if path.is_dir()]
    runs = {path: read_run(path) for path in folders}
    for run in runs.values():
        run.require_classes("stress")
    if len({path.resolve() for path in folders}) < len(folders):
        raise UserError("a run is named twice: name each once.")
    return runs


def corpus_of(run: Run) -> str:
    """The corpus that a run was tested on."""
    return run.settings["test_on"] or run.settings["corpus"]


def runs_and_files(
    runs: Mapping[Path, Run],
    models: Sequence[Path],
    *,
    convert: Convert,
    precisions: Sequence[str],
    drawn: RecordingSubset,
) -> StressInputs:
    """Runs, and exported files beside them, on what the runs' folds test.

    A run is one student per precision: the file of each fold, tested on that fold's test utterances.

    Args:
        models: the runs' folders and the files, in the order of the students.
        convert: makes the files of a run's folds; called once per run.

    Raises:
        UserError: the runs are of different recordings, or a file or speaker cannot be used.
    """
    selections, students = [], {}
    tested: dict[str, Utterance] = {}
    for path, run in runs.items():
        selection, folds = convert(path)
        selections.append(selection)
        if selection.corpus.utterances != selections[0].corpus.utterances:
            raise UserError(f"{path} is of other recordings than {next(iter(runs))}: stress them apart.")
        tests = [[selection.utterances[i] for i in fold.test] for fold, _ in folds]
        tested |= {each.id: each for fold in tests for each in fold}
        is_one = sum(other.name == run.name for other in runs.values()) == 1
        students[path] = [
            of_folds(
                f"{run.name if is_one else path} {precision}",
                [
                    open_part(files[precision], frozenset(each.id for each in fold))
                    for (_, files), fold in zip(folds, tests, strict=True)
                ],
                run.metrics["stamps"],
                path,
            )
            for precision in precisions
        ]
    corpus = selections[0].corpus
    kept = drawn.of([tested[name] for name in sorted(tested)], corpus)
    files = [path for path in models if path not in runs]
    opened = open_students(
        files, corpus, tested=kept, origin=registered_name(corpus_of(next(iter(runs.values()))))
    )
    students |= {path: [student] for path, student in zip(files, opened, strict=True)}
    return StressInputs([student for path in models for student in students[path]], corpus, kept)
