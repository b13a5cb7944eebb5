"""What frozen teachers say of a bank of augmented views of a fold's training utterances.

A folder holds, for each fold,

    FOLD.embedding.npy      float32 (views × training utterances, E), view after view; where a loss reads it
    FOLD.npz                logits (views, training utterances, classes), the training utterances, and what
                            decides the views as JSON; written last
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.arrays import ArrayError, Expected, open_mapped, read_arrays
from light_sernet_kd.data import array_cache
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.encoders.view_bank import BankRows, FoldViews
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import path_part, write_arrays
from light_sernet_kd.teachers.alignment import LARGEST_OUTPUT
from light_sernet_kd.teachers.ensemble import mean_logits
from light_sernet_kd.teachers.probe import FoldProbe

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class ViewAnswers:
    """What a fold's teacher says of each view of its training utterances.

    Attributes:
        utterances: the training utterances `(n,)`, ascending numbers.
        logits: `(views, n, classes)` float32.
        embedding: `(views, n, width)` float32; None where none is read.
    """

    utterances: np.ndarray
    logits: np.ndarray
    embedding: np.ndarray | None = None


@dataclass(frozen=True)
class ViewTask:
    """Views that a source of teachers is asked on, and where the answers go.

    Attributes:
        folds: the views of each fold that is asked, by its name.
        folder: gets files for each of them.
        facts: what decides the views, as JSON values: a file of others is refused.
        embeddings: whether embeddings are wanted too.
    """

    folds: Mapping[str, FoldViews]
    folder: Path
    facts: Mapping[str, Any]
    embeddings: bool = False

    def of_member(self, number: int) -> "ViewTask":
        """The same for a source of several, whose answers are no more than a step on the way."""
        return dataclasses.replace(self, folder=self.folder / f"source-{number + 1}")

    def write(self, fold: str, logits: np.ndarray, embedding: Iterator[np.ndarray], width: int) -> None:
        """Write what a fold's teacher says.

        Args:
            logits: `(views, n, classes)`.
            embedding: `(n, width)` of each view; read only where embeddings are wanted.

        Raises:
            UserError: a number is not finite, or too large to be learnt from.
        """
        views = self.folds[fold]
        if self.embeddings:
            rows = (_checked(each, view, views) for view, each in enumerate(embedding))
            shape = (logits.shape[0] * logits.shape[1], width)
            array_cache.write_blocks(_embedding_file(self.folder, fold), rows, shape, _FLOAT32)
        kept = [_checked(each, view, views) for view, each in enumerate(logits)]
        write_arrays(
            file_of(self.folder, fold),
            {
                "logits": np.stack(kept),
                "utterances": views.utterances.astype(np.int64),
                "facts": np.array(json.dumps(dict(self.facts), ensure_ascii=False)),
            },
        )

    def read(self, fold: str) -> ViewAnswers:
        """What `write` wrote of a fold. Raises as `read_answers`."""
        return read_answers(
            self.folder, fold, self.facts, self.folds[fold].utterances, embeddings=self.embeddings
        )


def _checked(rows: np.ndarray, view: int, views: FoldViews) -> np.ndarray:
    bad = ~(np.abs(rows) <= LARGEST_OUTPUT).all(axis=1)
    if bad.any():
        raise UserError(
            f"the teacher's outputs for view {view} of {views.names[int(bad.argmax())]} are not finite "
            f"numbers below {LARGEST_OUTPUT:g}: leave the recording out of the corpus, or ask for less "
            "(--augment)."
        )
    return np.asarray(rows, np.float32)


def file_of(folder: Path, fold: str) -> Path:
    """The file that says that a fold's answers are whole."""
    return folder / f"{path_part(fold)}.npz"


def _embedding_file(folder: Path, fold: str) -> Path:
    return folder / f"{path_part(fold)}.embedding.npy"


def remove_answers(folder: Path, fold: str) -> None:
    """Of a fold whose student is trained; the folder goes with the last."""
    for path in (file_of(folder, fold), _embedding_file(folder, fold)):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()


def read_answers(
    folder: Path, fold: str, facts: Mapping[str, Any], utterances: np.ndarray, *, embeddings: bool
) -> ViewAnswers:
    """What a fold's teacher says of the views that `facts` decide.

    Raises:
        FileNotFoundError: there is nothing of the fold.
        UserError: it is damaged, or of other views; says what differs.
    """
    path, views, count = file_of(folder, fold), facts["views"], len(utterances)
    again = f"remove {folder}, and the same command makes it anew."
    expected = {"logits": Expected(finite=True), "utterances": Expected(), "facts": Expected(kinds="U")}
    try:
        stored = read_arrays(path, expected=expected, sealed=True)
        known = json.loads(str(stored["facts"]))
        if differ := [name for name in facts if known.get(name) != facts[name]]:
            name = differ[0]
            raise UserError(
                f"{path} is of other views: its {name.replace('_', ' ')} is {known.get(name)}, not "
                f"{facts[name]}; {again}"
            )
        logits = stored["logits"]
        if logits.shape[:2] != (views, count) or not np.array_equal(stored["utterances"], utterances):
            raise UserError(f"{path} is of views of other utterances; {again}")
    except (ArrayError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); {again}") from None
    if not embeddings:
        return ViewAnswers(utterances, logits)
    try:
        rows = open_mapped(_embedding_file(folder, fold), shape=(views * count, None), dtype=_FLOAT32)
    except (ArrayError, FileNotFoundError) as error:
        raise UserError(f"{path} is not whole ({error}); {again}") from None
    return ViewAnswers(utterances, logits, rows.reshape(views, count, rows.shape[1]))


def view_answerer(
    encoder: Encoder, task: ViewTask, cache: Path, progress: Callable[[int, int], None] | None
) -> Callable[[str, FoldProbe], None]:
    """What asks a fold's probes about every view and writes what they say.

    The rows of all views are made first: while probes are fitted an encoder would have one thread.
    """
    banks = {
        fold: BankRows(encoder, views, cache=cache, progress=progress) for fold, views in task.folds.items()
    }

    def ask(fold: str, fitted: FoldProbe) -> None:
        if fold not in banks or fitted.training is None:
            return
        bank = banks[fold]
        views = range(bank.shape[0])
        said = [fitted.training(bank.rows(view)) for view in views]
        components = [each for _, each in said if each is not None]
        width = components[0].shape[1] if components else bank.shape[2]
        embedding: Iterable[np.ndarray] = components or (bank.rows(view) for view in views)
        task.write(fold, np.stack([logits for logits, _ in said]), iter(embedding), width)

    return ask


def write_mixture(
    task: ViewTask,
    members: Sequence[Mapping[str, float]],
    weights: Sequence[float],
    labels: np.ndarray | None,
) -> None:
    """Write what several sources say together, as `ensemble` has it, and remove what each said.

    Args:
        members: of each, fold → temperature.
        labels: class indices `(utterances,)` by which the sources are weighed; None where they are not.
    """
    for fold, views in task.folds.items():
        said = [task.of_member(number).read(fold) for number in range(len(members))]
        logits = [
            each.logits / np.float32(temperatures[fold])
            for each, temperatures in zip(said, members, strict=True)
        ]
        by_label = None
        if labels is not None:
            by_label = np.broadcast_to(labels[views.utterances], logits[0].shape[:2])
        embeddings = [each.embedding for each in said if each.embedding is not None]
        width = sum(each.shape[2] for each in embeddings)
        side_by_side = (np.concatenate(of_view, axis=1) for of_view in zip(*embeddings, strict=True))
        task.write(fold, mean_logits(np.stack(logits), weights, by_label), side_by_side, width)
    for number in range(len(members)):
        shutil.rmtree(task.of_member(number).folder, ignore_errors=True)
