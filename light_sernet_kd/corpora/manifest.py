"""Any other corpus: a CSV or TSV table of its recordings."""

import contextlib
import gc
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from light_sernet_kd.config import corpus_name
from light_sernet_kd.config.dimensions import RATED
from light_sernet_kd.corpora.names import joined_notes
from light_sernet_kd.corpora.reading import Findings
from light_sernet_kd.corpora.table_cells import (
    MEANINGS,
    Meant,
    emotion_of,
    name_of,
    ratings_of,
    share_of,
    soft_labels_of,
)
from light_sernet_kd.corpora.table_columns import RATINGS, REQUIRED, places_by_role
from light_sernet_kd.corpora.table_paths import ids_of, located, with_local_separators
from light_sernet_kd.corpora.tables import ROWS, Lines, Table
from light_sernet_kd.corpora.types import CANONICAL_EMOTIONS, Corpus, Published, Utterance, repeated
from light_sernet_kd.errors import UserError, nfc

ORIGIN = None  # it is the user's
PUBLISHED = Published()

_WITHOUT_EMOTION = tuple(role for role in REQUIRED if role != "emotion")


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    # A third of the time went into looking for cycles among rows, which have none.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def utterances(
    path: Path,
    *,
    columns: Sequence[str] = (),
    skip_bad: bool = False,
    dimensions: Sequence[str] = (),
    dimension_range: tuple[float, float] | None = None,
    needs_emotions: bool = True,
) -> Corpus:
    """The recordings that a manifest lists.

    The header names `path`, `emotion`, `speaker` and, where known, `id`, `session`, `dialog`, `transcript`,
    `split` and `sex` (`f` and `m` are read as female and male), in any case, or as other tables call them
    (`table_columns.COMMON_NAMES`). A column named after an emotion, one of `CANONICAL_EMOTIONS` or of the
    manifest's own, holds that emotion's share of the annotators (soft labels); any other is ignored. Paths
    are relative to the manifest, or to a folder such as wav/ or samples/ beside it; one without a suffix that
    names no file is that file's with the suffix of a recording. Without `id`, the path without its suffix is
    the id.
    Names are read in Unicode's form NFC.

    Args:
        columns: what is meant by which column, as `role=name`, such as `path=file_id`.
        skip_bad: leave out and count rows that are wrong, rather than refuse.
        dimensions: those whose columns are read, such as `arousal`; an empty cell is no rating. Others are
            ignored.
        dimension_range: the ends of their scale.
        needs_emotions: refuse a table, or a row, without an emotion; else it has the name `RATED`.

    Raises:
        UserError: names the manifest, the lines and what was expected; or a dimension's scale is not known.
    """
    table = Table(path)
    required = REQUIRED if needs_emotions else _WITHOUT_EMOTION
    places = places_by_role(path, table.header, columns, required=required)
    role_of = {role: at for role, at in places.items() if role not in RATINGS or role in dimensions}
    rated = [role for role in role_of if role in RATINGS]
    if rated and dimension_range is None:
        raise UserError(
            f"{path} has the column {table.header[role_of[rated[0]]]}, and nothing tells the ends of its "
            "scale: add --dimension_range LOW,HIGH, such as 1,5."
        )
    if twice := repeated([emotion_of(name) for name in table.header if name]):
        raise UserError(f"{path}: the header names {', '.join(twice)} twice.")
    findings = Findings(corpus_name(str(path)), skip_bad)
    cells, shares, ordinals = _columns(table, role_of, findings)
    if not ordinals and not findings.bad:
        raise UserError(f"{path} lists no recordings.")
    lines = Lines(table, ordinals)
    drop: set[int] = set()

    def wrong(row: int, sentence: str) -> None:
        drop.add(row)
        findings.wrong(f"{path}, line {lines[row]}", f"{path}, line {lines[row]}: {sentence}")

    if not needs_emotions:
        cells["emotion"] = [each or RATED for each in cells.get("emotion", [""] * len(ordinals))]
    for role in required:
        if "" in cells[role]:
            for row, cell in enumerate(cells[role]):
                if not cell:
                    wrong(row, f"the {role} is empty.")
    named = with_local_separators(cells["path"], path.parent, table, wrong)
    ids = ids_of(cells.get("id"), named)
    recordings = located(named, path.parent, table, findings, wrong)
    soft_labels = soft_labels_of(
        path, shares, {*CANONICAL_EMOTIONS, *cells["emotion"]}, len(ids), findings, wrong
    )
    ratings: Iterator[dict[str, float] | None] = itertools.repeat(None)
    if rated and dimension_range is not None:
        ratings = ratings_of({name: cells[name] for name in rated}, dimension_range, wrong)
    utterances = _in_order(cells, ids, recordings, (soft_labels, ratings), path.parent)
    if drop:
        utterances = [each for row, each in enumerate(utterances) if row not in drop]
    corpus = findings.whole(_by_id(utterances, findings, path))
    return replace(corpus, dimension_range=dimension_range) if rated else corpus


def columns(path: Path) -> tuple[str, ...]:
    """The names in a manifest's header.

    Raises:
        UserError: there is no such file, or it is not a table.
    """
    return Table(path).header


def roles(path: Path, columns: Sequence[str] = ()) -> frozenset[str]:
    """What a manifest's columns tell: those of `path`, `emotion`, `speaker`, `session` and so on that it has.

    Raises:
        UserError: as of `utterances`, of the header.
    """
    return frozenset(places_by_role(path, Table(path).header, columns, required=_WITHOUT_EMOTION))


def speakers_up_to(path: Path, most: int, columns: Sequence[str] = ()) -> int:
    """How many speakers a manifest names, counted up to `most`.

    Raises:
        UserError: as of `utterances`, of the table and its header.
    """
    table = Table(path)
    at = places_by_role(path, table.header, columns, required=_WITHOUT_EMOTION)["speaker"]
    speakers: set[str] = set()
    for chunk in table.chunks():
        speakers |= {name_of(row[at]) for row in chunk if len(row) > at and row[at].strip()}
        if len(speakers) >= most:
            return most
    return len(speakers)


def _in_order(
    cells: Mapping[str, Sequence[str]],
    ids: Sequence[str],
    recordings: Sequence[str],
    annotations: tuple[Iterator[dict[str, float] | None], Iterator[dict[str, float] | None]],
    folder: Path,
) -> list[Utterance]:
    """The utterances in the order of the rows; `annotations` are soft labels and ratings."""
    absent = itertools.repeat("")
    optional = (cells.get(role, absent) for role in ("session", "dialog", "transcript", "split", "sex"))
    # `/` joins them, and an absolute path takes the place of the folder
    beside = "" if folder == Path() else f"{folder}/"
    is_absolute = os.path.isabs
    everything = zip(
        ids, recordings, cells["emotion"], cells["speaker"], *optional, *annotations, strict=False
    )
    return [
        Utterance(
            name,
            recording if is_absolute(recording) else beside + recording,
            emotion,
            speaker,
            session or None,
            dialog or None,
            transcript or None,
            split or None,
            shares,
            sex or None,
            rating,
        )
        for name, recording, emotion, speaker, session, dialog, transcript, split, sex, shares, rating in (
            everything
        )
    ]


def _by_id(utterances: list[Utterance], findings: Findings, path: Path) -> tuple[Utterance, ...]:
    """The utterances sorted by id; ids that occur twice are noted as wrong, and the first is kept."""
    ids = [each.id for each in utterances]
    if all(map(str.__lt__, ids, itertools.islice(ids, 1, None))):
        return tuple(utterances)
    by_id: dict[str, Utterance] = {}
    twice: dict[str, int] = {}
    for each in utterances:
        if by_id.setdefault(each.id, each) is not each:
            twice[each.id] = twice.get(each.id, 1) + 1
    if twice and findings.skip_bad:
        for name, count in twice.items():
            findings.wrong(name, f"{path}: {name} is listed {count} times; the first is kept.")
    elif twice:
        listed = ", ".join(list(twice)[:5])
        findings.wrong("ids", f"{path}: ids must be unique; repeated: {listed}.")
    return tuple(by_id[name] for name in sorted(by_id))


def _columns(
    table: Table, role_of: Mapping[str, int], findings: Findings
) -> tuple[dict[str, list[str]], dict[str, list[str]], list[int]]:
    """Cells by role, cells of the other columns by name, and which row of the table each is of."""
    width = len(table.header)
    others = [at for at, name in enumerate(table.header) if name and at not in role_of.values()]
    meant = {role: Meant(MEANINGS[role]) for role in role_of if role in MEANINGS}
    # of shares most cells repeat too
    shared = {at: Meant(str.strip) for at in others}
    cells: dict[str, list[str]] = {role: [] for role in role_of}
    shares: dict[int, list[str]] = {at: [] for at in others}
    ordinals: list[int] = []
    done = 0
    ascii_only = table.text.isascii()
    for chunk in table.chunks():
        rows: Sequence[list[str]] = chunk
        if set(map(len, chunk)) == {width}:
            ordinals.extend(range(done, done + len(chunk)))
        else:
            rows = _of_width(chunk, done, width, table, findings, ordinals)
        done += len(chunk)
        if not rows:
            continue
        at_once = list(zip(*rows, strict=True))
        for role, at in role_of.items():
            column = at_once[at]
            if role in meant:
                cells[role].extend(map(meant[role].__getitem__, column))
            else:
                stripped = map(str.strip, column)
                # what a file is called on the disk is looked for in either form
                cells[role].extend(stripped if ascii_only or role == "path" else map(nfc, stripped))
        for at in others:
            known = shared[at]
            shares[at].extend(map(known.__getitem__, at_once[at]))
            if len(known) > ROWS and all(share_of(cell)[1] for cell in itertools.islice(known, 100)):
                # A column of texts: the first stands for all, should an emotion have its name.
                shares[at], shared[at] = [next(filter(None, known))], Meant(str.strip)
                others = [other for other in others if other != at]
    for role in ("speaker", "emotion", "session", "dialog"):
        if role in meant:
            findings.notes += joined_notes(role, meant[role], meant[role])
    return cells, {table.header[at]: column for at, column in shares.items()}, ordinals


def _of_width(
    chunk: Sequence[list[str]],
    done: int,
    width: int,
    table: Table,
    findings: Findings,
    ordinals: list[int],
) -> list[list[str]]:
    """The rows that have as many cells as the header; the others are noted as wrong, but for empty lines."""
    lines = Lines(table, ())
    kept = []
    for ordinal, row in enumerate(chunk, start=done):
        if len(row) == width:
            kept.append(row)
            ordinals.append(ordinal)
        elif row:
            where = f"{table.path}, line {lines.of(ordinal)}"
            spans = any("\n" in cell or "\r" in cell for cell in row)
            why = (
                'A cell of it spans several lines: is its quote (") closed?'
                if spans
                else "A cell that holds the delimiter needs quotes around it."
            )
            findings.wrong(where, f"{where}: {len(row)} cells, but the header has {width}. {why}")
    return kept
