"""Any other corpus: a CSV or TSV table of its recordings."""

import contextlib
import gc
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from light_sernet_kd.config import corpus_name
from light_sernet_kd.corpora.names import joined_notes
from light_sernet_kd.corpora.reading import AUDIO_SUFFIXES, Findings
from light_sernet_kd.corpora.tables import ROWS, Lines, Table
from light_sernet_kd.corpora.types import CANONICAL_EMOTIONS, SEXES, Corpus, Published, Utterance, repeated
from light_sernet_kd.errors import UserError, choose, nfc
from light_sernet_kd.files import in_either_form

ORIGIN = None  # it is the user's
PUBLISHED = Published()

REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("id", "session", "dialog", "transcript", "split", "sex")
ROLES = REQUIRED + OPTIONAL
# What other tables call these columns; their own name wins.
COMMON_NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        *("file", "filename", "file_name", "filepath", "file_path", "file_id", "fname", "wav", "wav_file"),
        *("wav_path", "wavfile", "audio", "audio_file", "audio_path", "audiofile", "recording", "clip"),
    ),
    "emotion": ("label", "emotion_label", "emotions", "emo", "class", "category"),
    "speaker": (
        *("spk", "speaker_id", "speakerid", "spk_id", "spkid", "speaker_name", "actor", "actor_id"),
        *("talker", "client_id", "subject", "subject_id"),
    ),
    "session": ("session_id", "sessionid"),
    "dialog": ("dialogue", "dialog_id", "dialogue_id", "conversation", "conversation_id"),
    "transcript": ("transcription", "text", "raw_text", "sentence", "transcript_text"),
    "split": ("subset", "partition"),
    "sex": ("gender",),
}
# Where a table's recordings may lie, if not beside it.
_FOLDERS = ("", "wav", "wavs", "samples", "audio", "clips", "recordings")
_SUFFIXES = (".wav", ".flac", ".mp3", ".WAV", ".ogg")  # the others are looked at one by one


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


class _Meant(dict[str, str]):
    """Cell → what is meant by it; each spelling is looked at once, and equal cells become one object."""

    def __init__(self, meaning: Callable[[str], str]) -> None:
        self.meaning = meaning

    def __missing__(self, cell: str) -> str:
        meant = self[cell] = self.meaning(cell)
        return meant


class _Shares(dict[tuple[float | None, ...], dict[str, float] | None]):
    """Shares in the order of the emotions → the soft label of them; None where all are empty."""

    def __init__(self, emotions: Sequence[str]) -> None:
        self.emotions = emotions

    def __missing__(self, shares: tuple[float | None, ...]) -> dict[str, float] | None:
        pairs = zip(self.emotions, shares, strict=True)
        meant = self[shares] = {name: share for name, share in pairs if share is not None} or None
        return meant


def _name(cell: str) -> str:
    return nfc(cell.strip())


def _emotion(cell: str) -> str:
    return _name(cell).lower()


def _sex(cell: str) -> str:
    return SEXES.get(_emotion(cell), _emotion(cell))


# Of columns in which cells repeat.
_MEANINGS = {
    "emotion": _emotion,
    "sex": _sex,
    **dict.fromkeys(("speaker", "session", "dialog", "split"), _name),
}


@_collector_paused()
def utterances(path: Path, *, columns: Sequence[str] = (), skip_bad: bool = False) -> Corpus:
    """The recordings that a manifest lists.

    The header names `path`, `emotion`, `speaker` and, where known, `id`, `session`, `dialog`, `transcript`,
    `split` and `sex` (`f` and `m` are read as female and male), in any case, or as other tables call them
    (`COMMON_NAMES`). A column named after an emotion, one of `CANONICAL_EMOTIONS` or of the manifest's own,
    holds that emotion's share of the annotators (soft labels); any other is ignored. Paths are relative to
    the manifest, or to a folder such as wav/ or samples/ beside it; one without a suffix that names no file
    is that file's with the suffix of a recording. Without `id`, the path without its suffix is the id.
    Names are read in Unicode's form NFC.

    Args:
        columns: what is meant by which column, as `role=name`, such as `path=file_id`.
        skip_bad: leave out and count rows that are wrong, rather than refuse.

    Raises:
        UserError: names the manifest, the lines and what was expected.
    """
    table = Table(path)
    role_of = _roles(path, table.header, columns)
    if twice := repeated([_emotion(name) for name in table.header if name]):
        raise UserError(f"{path}: the header names {', '.join(twice)} twice.")
    findings = Findings(corpus_name(str(path)), skip_bad)
    cells, shares, ordinals = _columns(table, role_of, findings)
    if not ordinals and not findings.bad:
        raise UserError(f"{path} lists no recordings.")
    lines = Lines(table, ordinals)
    drop: set[int] = set()

    def wrong(row: int, told: str) -> None:
        drop.add(row)
        findings.wrong(f"{path}, line {lines[row]}", f"{path}, line {lines[row]}: {told}")

    for role in REQUIRED:
        if "" in cells[role]:
            for row, cell in enumerate(cells[role]):
                if not cell:
                    wrong(row, f"the {role} is empty.")
    named = _as_here(cells["path"], path.parent, table, wrong)
    ids = _ids(cells.get("id"), named)
    recordings = _located(named, path.parent, table, findings, wrong)
    soft_labels = _soft_labels(
        path, shares, {*CANONICAL_EMOTIONS, *cells["emotion"]}, len(ids), findings, wrong
    )
    utterances = _in_order(cells, ids, recordings, soft_labels, path.parent)
    if drop:
        dropped = {ids[row] for row in drop}
        kept = [each for row, each in enumerate(utterances) if row not in drop]
    else:
        dropped, kept = set(), utterances
    found = _by_id(kept, table, findings, lines, path, without=dropped)
    return findings.whole(found)


def _in_order(
    cells: Mapping[str, Sequence[str]],
    ids: Sequence[str],
    recordings: Sequence[str],
    soft_labels: Iterator[dict[str, float] | None],
    folder: Path,
) -> list[Utterance]:
    """The utterances in the order of the rows."""
    absent = itertools.repeat("")
    optional = (cells.get(role, absent) for role in ("session", "dialog", "transcript", "split", "sex"))
    # `/` joins them, and an absolute path takes the place of the folder
    beside = "" if folder == Path() else f"{folder}/"
    is_absolute = os.path.isabs
    everything = zip(
        ids, recordings, cells["emotion"], cells["speaker"], *optional, soft_labels, strict=False
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
            soft_label,
            sex or None,
        )
        for name, recording, emotion, speaker, session, dialog, transcript, split, sex, soft_label in (
            everything
        )
    ]


def _by_id(
    found: list[Utterance],
    table: "Table",
    findings: Findings,
    lines: "Lines",
    path: Path,
    *,
    without: set[str],
) -> tuple[Utterance, ...]:
    """The utterances sorted by id; ids that occur twice are noted as wrong, and the first is kept."""
    ids = [each.id for each in found]
    if all(map(str.__lt__, ids, itertools.islice(ids, 1, None))):
        return tuple(found)
    by_id: dict[str, Utterance] = {}
    twice: dict[str, int] = {}
    for each in found:
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
    meant = {role: _Meant(_MEANINGS[role]) for role in role_of if role in _MEANINGS}
    # of shares most cells repeat too
    shared = {at: _Meant(str.strip) for at in others}
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
            if len(known) > ROWS and all(_share(cell)[1] for cell in itertools.islice(known, 100)):
                # A column of texts: the first stands for all, should an emotion have its name.
                shares[at], shared[at] = [next(filter(None, known))], _Meant(str.strip)
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


# What the columns are called


def parsed(columns: Sequence[str]) -> dict[str, str]:
    """Role → name of its column, of `role=name`.

    Raises:
        UserError: no `role=name`, an unknown role, or a role twice.
    """
    found: dict[str, str] = {}
    for text in columns:
        role, equals, name = (part.strip() for part in text.partition("="))
        if not equals or not role or not name:
            raise UserError(f"expected a column such as path=file_id, found {text!r}.")
        role = choose("role of a column", role, ROLES)
        if found.setdefault(role, name) != name:
            raise UserError(f"--columns names two columns for {role}: {found[role]} and {name}.")
    return found


def _roles(path: Path, header: Sequence[str], columns: Sequence[str] = ()) -> dict[str, int]:
    """Role → place of its column in the header.

    Raises:
        UserError: a column that is needed or asked for is missing, or several may be meant.
    """
    places = {name.lower(): at for at, name in reversed(list(enumerate(header))) if name}
    asked = parsed(columns)
    found: dict[str, int] = {}
    for role in ROLES:
        if role in asked:
            name = nfc(asked[role]).lower()
            if name not in places:
                raise UserError(
                    f"{path}: there is no column {asked[role]} for {role}; "
                    f"found {','.join(header) or 'nothing'}."
                )
            found[role] = places[name]
        elif role in places:
            found[role] = places[role]
        elif several := [name for name in COMMON_NAMES.get(role, ()) if name in places]:
            free = [name for name in several if places[name] not in found.values()]
            if len(free) > 1:
                listed = " or ".join(header[places[name]] for name in free)
                raise UserError(
                    f"{path}: {role} may be the column {listed}: say which, such as "
                    f"--columns {role}={header[places[free[0]]]}."
                )
            if free:
                found[role] = places[free[0]]
    if missing := [role for role in REQUIRED if role not in found]:
        example = ",".join(f"{role}=NAME" for role in missing)
        raise UserError(
            f"{path}: the header lacks {', '.join(missing)}; expected at least {','.join(REQUIRED)}, "
            f"found {','.join(header) or 'nothing'}. If a column has another name: --columns {example}."
        )
    return found


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
    return frozenset(_roles(path, Table(path).header, columns))


def speakers_up_to(path: Path, most: int, columns: Sequence[str] = ()) -> int:
    """How many speakers a manifest names, counted up to `most`.

    Raises:
        UserError: as of `utterances`, of the table and its header.
    """
    table = Table(path)
    at = _roles(path, table.header, columns)["speaker"]
    found: set[str] = set()
    for chunk in table.chunks():
        found |= {_name(row[at]) for row in chunk if len(row) > at and row[at].strip()}
        if len(found) >= most:
            return most
    return len(found)


# What the cells mean


def _ids(cells: Sequence[str] | None, recordings: Sequence[str]) -> list[str]:
    """The ids; where there is none, the path without its suffix."""
    if cells is not None and "" not in cells:
        return list(cells)
    named = cells or itertools.repeat("")
    return [name or _without_suffix(cell) for name, cell in zip(named, recordings, strict=False)]


def _without_suffix(cell: str) -> str:
    if "//" in cell or "/." in cell or cell.startswith("./") or cell.endswith((".", "/")):
        try:
            return nfc(Path(cell).with_suffix("").as_posix())
        except ValueError:  # it names no file, which is said elsewhere
            return nfc(cell)
    return nfc(os.path.splitext(cell)[0])


def _as_here(cells: list[str], folder: Path, table: Table, wrong: Callable[[int, str], None]) -> list[str]:
    """The paths with the separators of this system."""
    for row, cell in enumerate(cells):
        if not cell.endswith(_SUFFIXES) and cell and not cell.strip("./\\"):
            wrong(row, f"the path {cell} names no file.")
    if "\\" not in table.text:
        return cells
    return [_of_windows(cell, folder, row, wrong) if "\\" in cell else cell for row, cell in enumerate(cells)]


def _located(
    cells: list[str],
    folder: Path,
    table: Table,
    findings: Findings,
    wrong: Callable[[int, str], None],
) -> list[str]:
    """The paths, relative to the folder or absolute, as the disk has them where it has them."""
    cells = list(cells)
    below = _below(cells[:20], folder)
    if below:
        findings.notes.append(f"paths are of files in {folder / below}")
        cells = [f"{below}/{cell}" if not cell.startswith("/") else cell for cell in cells]
    listings: dict[str, dict[str, list[str]]] = {}
    for row, cell in enumerate(cells):
        if cell.endswith(_SUFFIXES) or os.path.splitext(cell)[1].lower() in AUDIO_SUFFIXES:
            continue
        several = _with_suffix(cell, folder, listings)
        if len(several) > 1:
            wrong(row, f"the path {cell} may be {' or '.join(several)}: name one with its suffix.")
        elif several:
            cells[row] = several[0]
    if not table.text.isascii():
        for row, cell in enumerate(cells):
            if not cell.isascii():
                there = in_either_form(folder / cell)
                if there != folder / cell:
                    cells[row] = str(there) if cell.startswith("/") else os.path.relpath(there, folder)
    return cells


def _of_windows(cell: str, folder: Path, row: int, wrong: Callable[[int, str], None]) -> str:
    """A path with backslashes, as this system writes it."""
    if os.sep == "\\" or os.path.exists(folder / cell):
        return cell
    if re.match(r"[A-Za-z]:\\|\\\\", cell):
        wrong(row, f"the path {cell} is one of Windows: make it relative to the table.")
    return cell.replace("\\", "/")


def _below(cells: Sequence[str], folder: Path) -> str:
    """Which folder beside the table has most of these recordings; empty for the table's own."""
    counts = dict.fromkeys(_FOLDERS, 0)
    listings: dict[str, dict[str, list[str]]] = {}
    for below in _FOLDERS:
        if below and not (folder / below).is_dir():
            continue
        for cell in cells:
            if not cell or cell.startswith("/"):
                continue
            path = f"{below}/{cell}" if below else cell
            there = in_either_form(folder / path)
            try:
                counts[below] += there.is_file() or bool(_with_suffix(path, folder, listings))
            except (OSError, ValueError):
                continue
    return max(counts, key=lambda below: counts[below])


def _with_suffix(cell: str, folder: Path, listings: dict[str, dict[str, list[str]]]) -> list[str]:
    """The recordings that a path without a suffix may name; none where there is a file of that very name."""
    head, slash, last = cell.rpartition("/")
    if head not in listings:
        listing: dict[str, list[str]] = {}
        try:
            names = os.listdir(folder / head if head or not slash else "/")
        except (OSError, ValueError):
            names = []
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                listing.setdefault(nfc(stem), []).append(name)
        listings[head] = listing
    found = listings[head].get(nfc(last), [])
    return [f"{head}{slash}{name}" for name in sorted(found)]


def _soft_labels(
    path: Path,
    columns: Mapping[str, Sequence[str]],
    emotions: set[str],
    rows: int,
    findings: Findings,
    wrong: Callable[[int, str], None],
) -> Iterator[dict[str, float] | None]:
    """The shares of each row, of the columns named after an emotion; None where all cells are empty."""
    named = {name: column for name, column in columns.items() if _emotion(name) in emotions}
    if not named:
        return itertools.repeat(None)
    shares = []
    commas = False
    for name, column in named.items():
        if len(column) < rows:
            raise UserError(f"{path}: the share of {name} must be a number from 0 on, found {column[0]}.")
        values: dict[str, float | None] = {}
        bad: dict[str, str] = {}
        for cell in set(column):
            values[cell], told = _share(cell)
            commas |= "," in cell and not told
            if told:
                bad[cell] = told
        for row, cell in enumerate(column) if bad else ():
            if cell in bad:
                wrong(row, f"the share of {name} must be {bad[cell]}, found {cell}.")
        shares.append(map(values.__getitem__, column))
    if commas:
        findings.notes.append("decimal commas in the shares are read as points")
    # Equal shares are one dictionary: votes of a few annotators repeat.
    alike = _Shares([_emotion(name) for name in named])
    return map(alike.__getitem__, zip(*shares, strict=True))


def _share(cell: str) -> tuple[float | None, str]:
    """A share, None where the cell is empty; and what was expected, where it is no share."""
    if not cell:
        return None, ""
    # as written where the comma is the decimal point
    decimal = cell.replace(",", ".") if re.fullmatch(r"\d*,\d+", cell) else cell
    try:
        share = float(decimal)
    except ValueError:
        share = -1.0
    if not share >= 0 or share == float("inf"):
        return None, "a number from 0 on"
    return share, ""
