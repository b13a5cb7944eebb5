"""Unlabelled recordings that equal, or nearly equal, recordings that a student is tested or selected on."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data import training_list
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.signatures import Measured
from light_sernet_kd.data.training_list import TrainingList
from light_sernet_kd.data.unlabelled.surveys import CONTENT_BYTES, Survey

_NO_SPEAKERS = np.zeros(0, np.uint32)


def judging(folds: Sequence[Fold]) -> list[int]:
    """The utterances that test or validate in any fold, ascending."""
    return sorted({row for fold in folds for row in (*fold.test, *fold.validation)})


def leaking(
    survey: Survey,
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    measured: Measured,
) -> dict[str, str]:
    """Unlabelled recording → id of the test or validation utterance that it is, or sounds like.

    Whole recordings are compared: by their bytes and, up to `MOST_COMPARED_SECONDS`, by how they sound, as
    `training_list.shared` does it. Parts of a recording, other speeds and mixtures are not looked for.

    Args:
        measured: of the utterances, from `signatures.measure`.
    """
    rows = judging(folds)
    prints = [fingerprints[utterances[row].id] for row in rows]
    judges = training_list.rows_of(prints, measured.vectors[rows], measured.lengths[rows])
    # Also of a recording whose content is another's: that one may be longer, and not be found.
    candidates = np.unique(survey.clips_with_duplicates["recording"]).astype(np.int64)
    of_file = {bytes.fromhex(each)[:CONTENT_BYTES]: row for each, row in zip(prints, rows, strict=True)}
    leaks: dict[int, int] = {}
    for number in candidates.tolist():
        if (row := of_file.get(survey.files[number].tobytes())) is not None:
            leaks[number] = row
    alike = training_list.shared(_listed(judges), _listed(survey.sounds[candidates]))
    for number in candidates[alike].tolist():
        if number not in leaks:
            same = training_list.shared(_listed(survey.sounds[[number]]), _listed(judges))
            leaks[number] = rows[int(np.argmax(same))]
    return {survey.names[number]: utterances[row].id for number, row in sorted(leaks.items())}


def _listed(rows: NDArray) -> TrainingList:
    return TrainingList(rows, _NO_SPEAKERS)


def leaks_named(leaks: Mapping[str, str], most: int = 5) -> str:
    """What `leaking` found in words: how many, and the first names."""
    listed = ", ".join(f"{name} is {utterance}" for name, utterance in list(leaks.items())[:most])
    more = f" and {len(leaks) - most} more" if len(leaks) > most else ""
    what = "recordings test or validate" if len(leaks) > 1 else "recording tests or validates"
    return f"{len(leaks)} unlabelled {what} too: {listed}{more}"
