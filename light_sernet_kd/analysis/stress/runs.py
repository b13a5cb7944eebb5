"""The students of finished runs: of each fold its own, stressed on that fold's test recordings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from light_sernet_kd.analysis.stress.students import Student, of_folds, open_part
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.run_folder import Run, read_run
from light_sernet_kd.data.selection import Selection
from light_sernet_kd.errors import UserError

# From a run's folder to what the run works on, and per fold its files by precision.
Convert = Callable[[Path], tuple[Selection, Sequence[tuple[Fold, Mapping[str, Path]]]]]


@dataclass(frozen=True)
class StudentsOfRuns:
    """Runs on one corpus, to be stressed.

    Attributes:
        tested: what some fold tests, by id.
        students: of each folder, one per precision.
    """

    corpus: Corpus
    tested: tuple[Utterance, ...]
    students: dict[Path, list[Student]]


def read_runs(paths: Sequence[Path]) -> dict[Path, Run]:
    """The finished runs of the folders among these paths.

    Raises:
        UserError: a folder holds no finished run, or is named twice.
    """
    folders = [path for path in paths if path.is_dir()]
    runs = {path: read_run(path) for path in folders}
    if len({path.resolve() for path in folders}) < len(folders):
        raise UserError("a run is named twice: name each once.")
    return runs


def students_of_runs(runs: Mapping[Path, Run], convert: Convert, precisions: Sequence[str]) -> StudentsOfRuns:
    """Every run as one student per precision: the file of each fold, tested on that fold's test utterances.

    Args:
        convert: makes the files; called once per run.

    Raises:
        UserError: the runs are of different recordings.
    """
    names = [run.name for run in runs.values()]
    corpus: Corpus | None = None
    students: dict[Path, list[Student]] = {}
    tested: dict[str, Utterance] = {}
    for path, run in runs.items():
        selection, folds = convert(path)
        corpus = corpus or selection.corpus
        if selection.corpus.utterances != corpus.utterances:
            raise UserError(f"{path} is of other recordings than {next(iter(runs))}: stress them apart.")
        tests = [[selection.utterances[i] for i in fold.test] for fold, _ in folds]
        tested |= {each.id: each for fold in tests for each in fold}
        ids = [frozenset(each.id for each in fold) for fold in tests]
        students[path] = [
            of_folds(
                f"{run.name if names.count(run.name) == 1 else path} {precision}",
                [open_part(files[precision], test) for (_, files), test in zip(folds, ids, strict=True)],
                run.metrics["stamps"],
            )
            for precision in precisions
        ]
    if corpus is None:
        raise ValueError("no runs")
    return StudentsOfRuns(corpus, tuple(tested[name] for name in sorted(tested)), students)
