"""Which answers of a finished run are explained."""

import difflib
from pathlib import Path

from light_sernet_kd.data.run_folder import Run, read_run
from light_sernet_kd.errors import UserError, nfc
from light_sernet_kd.evaluation import Predictions, surest_mistakes


def worst(predictions: Predictions, count: int) -> list[str]:
    """Ids of the `count` most confident mistakes, the most confident first; fewer where there are fewer."""
    rows = surest_mistakes(predictions, len(predictions.ids))
    return list(dict.fromkeys(predictions.ids[row] for row in rows))[:count]


def chosen(folder: Path, utterance: str | None = None, worst_count: int = 0) -> list[str]:
    """The ids to explain: `utterance`, or the run's `worst_count` most confident mistakes.

    Raises:
        UserError: no finished run there, it did not test the utterance, or it made no mistake.
    """
    predictions = run_with_classes(folder).predictions
    if utterance is not None:
        row_of(predictions, utterance, folder)
        return [utterance]
    mistakes = worst(predictions, worst_count)
    if not mistakes:
        raise UserError(f"{folder} made no mistake on its {len(predictions.ids)} test utterances.")
    return mistakes


def run_with_classes(folder: Path) -> Run:
    """The run of a folder.

    Raises:
        UserError: no such folder, no finished run in it, or one whose students give ratings alone.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: name a run's, such as result/demo.")
    run = read_run(folder)
    run.require_classes("explain")
    return run


def row_of(predictions: Predictions, utterance: str, folder: Path) -> int:
    """The row of an utterance among a run's predictions.

    Where several folds tested it, as those of random splits do, it is their surest mistake, or the first
    answer if all are right.

    Raises:
        UserError: the run did not test it; names what is spelt alike.
    """
    utterance = nfc(utterance)
    rows = [row for row, name in enumerate(predictions.ids) if name == utterance]
    if len(rows) > 1:
        mistakes = surest_mistakes(predictions, len(predictions.ids))
        return next((row for row in mistakes if row in rows), rows[0])
    if rows:
        return rows[0]
    lower = {name.lower(): name for name in reversed(predictions.ids)}
    near = difflib.get_close_matches(utterance.lower(), lower, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(lower[name] for name in near)}?" if near else "Its ids"
    more = "" if near else f" are like {predictions.ids[0]}; predictions.csv lists them."
    tested = f"{folder} tested no utterance {utterance!r} among its {len(predictions.ids)}."
    raise UserError(f"{tested} {hint}{more}")
