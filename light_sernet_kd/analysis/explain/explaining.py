"""Explain answers of a finished run."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from light_sernet_kd.analysis.explain.choosing import row_of, run_with_classes
from light_sernet_kd.analysis.explain.fold import Answer, tested_fold
from light_sernet_kd.analysis.explain.page import write_page
from light_sernet_kd.analysis.explain.source import Source
from light_sernet_kd.data.resolve_settings import settings_of_run
from light_sernet_kd.data.selection import loaded
from light_sernet_kd.files import path_part


def explain(folder: Path, utterance: str, *, data: Path, out: Path | None = None) -> Path:
    """Explain one answer of a finished run; returns the folder of its page and pictures.

    Args:
        folder: the run's, with config.json, predictions.csv, metrics.json and its folds' students.
        utterance: id of a recording that the run tested.
        data: holds the corpora's folders.
        out: gets a folder named after the utterance; by default `explain` in the run's folder.

    Raises:
        UserError: no finished run, an utterance it did not test, or recordings that are gone or changed.
    """
    return explained(folder, [utterance], data=data, out=out)[0]


def explained(folder: Path, utterances: Sequence[str], *, data: Path, out: Path | None = None) -> list[Path]:
    """As `explain`, of several utterances: each fold's student and features are read once."""
    run = run_with_classes(folder)
    rows = [row_of(run.predictions, name, folder) for name in utterances]
    settings = settings_of_run(folder, run.settings)
    corpus = loaded(settings, data)
    source = Source(folder, run, settings, corpus, data)
    into = [(out or folder / "explain") / path_part(name) for name in utterances]
    for fold in dict.fromkeys(run.predictions.folds[row] for row in rows):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
            tested = tested_fold(source, fold, Path(work))
            for row, path in zip(rows, into, strict=True):
                if run.predictions.folds[row] == fold:
                    write_page(Answer(tested, tested.rows.index(row)), path)
            del tested  # its features may be mapped from a file in `work`
    return into
