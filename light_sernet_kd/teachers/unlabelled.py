"""What a teacher says of clips without labels: a file per fold that is mapped into memory.

Beside a teacher file `NAME`, the folder `NAME.unlabelled/` holds

    clips.npy       contents of the clips, 16 bytes each, ascending
    FOLD.npy        float32 (clips, classes): the logits of the fold's teacher
    FOLD.embedding.npy or embedding.npy     float32 (clips, E): its embeddings, or those that all folds share
    index.json      clips, their SHA-256, folds and classes; written last

The card in the teacher file has the hash of `index.json` under `unlabelled`: the two belong together.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from light_sernet_kd.arrays import HASHED_BYTES, ArrayError, open_mapped
from light_sernet_kd.data import array_cache
from light_sernet_kd.data.unlabelled import Clips
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import JsonError, path_part, read_json, sha256, write_json
from light_sernet_kd.teachers.alignment import LARGEST_OUTPUT
from light_sernet_kd.teachers.outputs import Teacher

CARD_KEY = "unlabelled"
# Clips whose outputs are computed or copied at once.
BLOCK = 1024
_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Answers:
    """What the teacher of a fold says of the clips.

    Attributes:
        logits: `(clips, classes)`, anything that can be indexed by an array of clips.
        embedding: `(clips, width)`, likewise; None where the teacher has none.
    """

    logits: Any
    embedding: Any = None


def blocks_of(clips: int) -> list[np.ndarray]:
    """The clips in blocks that are computed or copied at once."""
    return [np.arange(start, min(start + BLOCK, clips)) for start in range(0, clips, BLOCK)]


class Chosen:
    """Rows and columns of an array, gathered when they are asked for."""

    def __init__(self, values: Any, rows: np.ndarray, columns: Sequence[int] | None = None):
        self._values, self._rows, self._columns = values, rows, columns
        self.shape = (len(rows), values.shape[1] if columns is None else len(columns))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        rows = np.asarray(self._values[self._rows[indices]])
        return rows if self._columns is None else rows[:, self._columns]


class CombinedRows:
    """A sum or mean of several teachers' logits, or their embeddings side by side, as `ensemble` has them."""

    def __init__(self, parts: Sequence[Any], join: Callable[[list[np.ndarray]], np.ndarray]):
        self._parts, self._join = parts, join
        widths = [part.shape[1] for part in parts]
        self.shape = (len(parts[0]), sum(widths) if join is side_by_side else widths[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._join([np.asarray(part[indices]) for part in self._parts])


def mean(parts: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(parts, axis=0), np.float32)


def side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=1)


def combine_answers(members: Sequence[Answers], factors: Sequence[float] | None = None) -> Answers:
    """What a fold's teachers say together; one alone is that one.

    Args:
        factors: of each one's logits, which are summed; by default the mean is taken.
    """
    if len(members) == 1 and factors is None:
        return members[0]

    def weighted(parts: list[np.ndarray]) -> np.ndarray:
        return np.asarray(
            sum(factor * part for factor, part in zip(factors or (), parts, strict=True)), np.float32
        )

    embeddings = [each.embedding for each in members]
    joined = None if any(each is None for each in embeddings) else CombinedRows(embeddings, side_by_side)
    return Answers(CombinedRows([each.logits for each in members], weighted if factors else mean), joined)


def write(path: Path, blocks: Iterable[np.ndarray], clips: int, width: int) -> None:
    """Write float32 `(clips, width)`, a block after another; whole or absent.

    Raises:
        UserError: a number is not finite.
    """

    def finite() -> Iterator[np.ndarray]:
        for block in blocks:
            if not (np.abs(block) <= LARGEST_OUTPUT).all():
                raise UserError(
                    "the teacher's outputs of unlabelled clips are not finite numbers below "
                    f"{LARGEST_OUTPUT:g}: train it otherwise, or leave out --unlabelled."
                )
            yield block

    array_cache.write_blocks(path, finite(), (clips, width), _FLOAT32)


def read(path: Path, clips: int, width: int | None = None) -> np.ndarray:
    """What `write` wrote, mapped into memory.

    Raises:
        FileNotFoundError: there is no such file.
        ArrayError: it is damaged, or of other clips.
    """
    return open_mapped(path, shape=(clips, width), dtype=_FLOAT32)


def write_network_answers(
    path: Path, blocks: Iterable[tuple[np.ndarray, np.ndarray]], clips: int, widths: tuple[int, int]
) -> None:
    """Logits and embeddings of a network in one file, as it gives both at once."""
    write(path, (np.concatenate(both, axis=1) for both in blocks), clips, sum(widths))


def read_network_answers(path: Path, clips: int, classes: int) -> Answers:
    """What `write_network_answers` wrote."""
    both = read(path, clips)
    return Answers(both[:, :classes], both[:, classes:])


# In a folder, by the names of folds

SHARED = "embedding.npy"
_MEMBERS = "members"


def _array_files(folder: Path) -> list[Path]:
    """The `.npy` files in a folder, but for those that are being written."""
    return [path for path in folder.glob("*.npy") if not path.name.startswith(".")]


def file_of(folder: Path, fold: str) -> Path:
    return folder / f"{path_part(fold)}.npy"


def embedding_file_of(folder: Path, fold: str) -> Path:
    return folder / f"{path_part(fold)}.embedding.npy"


def read_of(folder: Path, fold: str, clips: int, classes: int) -> Answers:
    """What a fold's teacher says: its logits, and its embeddings or those that all folds share, if any.

    Raises:
        FileNotFoundError: there is nothing of the fold.
        ArrayError: it is damaged, or of other clips.
    """
    files = (embedding_file_of(folder, fold), folder / SHARED)
    embedding = next((path for path in files if path.exists()), None)
    return Answers(
        read(file_of(folder, fold), clips, classes), None if embedding is None else read(embedding, clips)
    )


@dataclass(frozen=True)
class UnlabelledTask:
    """Clips that a source of teachers answers, and where the answers go.

    Attributes:
        folder: gets a file for each fold, as `read_of` reads them.
        embeddings: whether embeddings are wanted too.
    """

    clips: Clips
    folder: Path
    embeddings: bool = True

    def write(self, fold: str, logits: Iterable[np.ndarray], classes: int) -> None:
        """Logits of all clips, a block after another, of a fold's teacher."""
        write(file_of(self.folder, fold), logits, len(self.clips), classes)

    def write_embeddings(self, values: Iterable[np.ndarray], width: int, fold: str | None = None) -> None:
        """Embeddings likewise; without a fold those that all folds share."""
        if self.embeddings:
            path = self.folder / SHARED if fold is None else embedding_file_of(self.folder, fold)
            write(path, values, len(self.clips), width)

    def of_member(self, number: int) -> "UnlabelledTask":
        """The same for a member of an ensemble, whose answers are joined to those of the others."""
        return dataclasses.replace(self, folder=self.folder / _MEMBERS / str(number))

    def clear(self) -> None:
        """Remove what another source, or a command that was killed, had written."""
        for path in _array_files(self.folder):
            path.unlink()
        self.remove_members()

    def remove_members(self) -> None:
        """What `of_member` had written; Windows removes no file that is mapped, and then they stay."""
        shutil.rmtree(self.folder / _MEMBERS, ignore_errors=True)


# Beside a teacher file


def folder_beside(teacher_file: Path) -> Path:
    """Where what a teacher file says of unlabelled clips lies."""
    return teacher_file.with_name(f"{teacher_file.name}.unlabelled")


def write_beside(
    teacher_file: Path,
    contents: np.ndarray,
    classes: Sequence[str],
    answers: Iterable[tuple[str, Answers]],
    *,
    shared: bool = False,
) -> dict[str, Any]:
    """Write the folder beside a teacher file; returns what belongs in the card of that file.

    Args:
        contents: of the clips, uint8 `(clips, 16)`, ascending.
        answers: of each fold, by its name.
        shared: whether all folds have the embeddings of the first.
    """
    folder, clips = folder_beside(teacher_file), len(contents)
    index = folder / "index.json"
    index.unlink(missing_ok=True)  # what it vouches for is about to change
    for path in _array_files(folder):
        with contextlib.suppress(PermissionError):  # Windows removes no mapped file; none is listed
            path.unlink()
    array_cache.write_blocks(folder / "clips.npy", [contents], contents.shape, np.dtype(np.uint8))
    files = {"clips.npy": sha256(folder / "clips.npy")}

    def put(name: str, values: Any) -> None:
        write(folder / name, (values[rows] for rows in blocks_of(clips)), clips, values.shape[1])
        files[name] = sha256(folder / name)

    folds: list[str] = []
    for fold, each in answers:
        put(file_of(folder, fold).name, each.logits)
        if each.embedding is not None and not (shared and folds):
            put(SHARED if shared else embedding_file_of(folder, fold).name, each.embedding)
        folds.append(fold)
    facts = {"clips": clips, "classes": list(classes), "folds": folds, "files": files}
    write_json(index, facts)
    return {"clips": clips, "sha256": sha256(index)}


_INDEX = {"clips": int, "classes": [str], "folds": [str], "files": {str: str}}


def read_beside(
    teacher_file: Path, teacher: Teacher, contents: np.ndarray, classes: Sequence[str], fold: str
) -> Answers:
    """What the teacher of a fold says of these clips, in the order of these classes.

    Args:
        contents: of the clips, uint8 `(clips, 16)`.

    Raises:
        UserError: the file was not written by `teach --unlabelled`, lacks a clip or the fold, or its folder
            is missing, damaged or of another file.
    """
    card, folder = teacher.card.get(CARD_KEY), folder_beside(teacher_file)
    if not isinstance(card, dict):
        raise UserError(
            f"{teacher_file} says nothing of unlabelled recordings: make it with `light-sernet-kd teach "
            "--unlabelled DIR`, or leave out --teacher."
        )
    try:
        if sha256(folder / "index.json") != card.get("sha256"):
            raise UserError(f"{folder} belongs to another teacher file than {teacher_file}: copy both.")
        index = read_json(folder / "index.json", _INDEX)
        listed = _Listed(folder, index["files"])
        known = listed.open("clips.npy", (index["clips"], contents.shape[1]), np.dtype(np.uint8))
        rows = _rows_of(contents, known)
        if len(missing := np.flatnonzero(rows < 0)):
            raise UserError(
                f"{teacher_file} lacks {len(missing):,} of {len(contents):,} unlabelled clips: make it with "
                "`light-sernet-kd teach` and the same --unlabelled and -id."
            )
        if fold not in index["folds"]:
            raise UserError(f"{teacher_file} says nothing of unlabelled recordings in fold {fold}.")
        logits = listed.open(file_of(folder, fold).name, (index["clips"], len(index["classes"])), _FLOAT32)
        columns = [index["classes"].index(name) for name in classes]
        embedding = None
        for name in (embedding_file_of(folder, fold).name, SHARED):
            if embedding is None and name in listed.files:
                embedding = Chosen(listed.open(name, (index["clips"], None), _FLOAT32), rows)
        return Answers(Chosen(logits, rows, columns), embedding)
    except (OSError, JsonError, ArrayError, ValueError) as error:
        raise UserError(
            f"{folder} is damaged or not whole ({error}): copy or make it anew with {teacher_file}."
        ) from None


@dataclass(frozen=True)
class _Listed:
    """The files beside a teacher file that its index lists: their SHA-256 by name."""

    folder: Path
    files: Mapping[str, str]

    def open(self, name: str, shape: tuple[int | None, ...], dtype: np.dtype) -> np.ndarray:
        """One of them, mapped into memory; of a file above `HASHED_BYTES` the content is not compared.

        Raises:
            FileNotFoundError: it is not there.
            ArrayError: it is not listed, is another file, or holds another array than is expected.
        """
        path = self.folder / name
        if name not in self.files:
            raise ArrayError(path, "is not in index.json")
        if path.stat().st_size <= HASHED_BYTES and sha256(path) != self.files[name]:
            raise ArrayError(path, "is not the file that index.json lists")
        return open_mapped(path, shape=shape, dtype=dtype, most_bytes=0)  # its hash is compared above


def _rows_of(wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each of the wanted contents is among the known ones, which ascend; -1 where it is not."""
    plain = np.dtype((np.void, wanted.shape[1]))
    ours = np.ascontiguousarray(wanted).view(plain)[:, 0]
    theirs = np.ascontiguousarray(known).view(plain)[:, 0]
    row_of = {content: row for row, content in enumerate(theirs.tolist())}
    return np.array([row_of.get(content, -1) for content in ours.tolist()], np.int64)
