"""What KEMDy19 and KEMDy20 (ETRI) have in common: tables of labels, and transcripts."""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from light_sernet_kd.config.dimensions import RATED
from light_sernet_kd.corpora.reading import Findings
from light_sernet_kd.corpora.tables import Table
from light_sernet_kd.corpora.types import SEXES, Corpus, Utterance, read_text, vote_shares
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import read_bytes

EMOTIONS = {
    "neutral": "neutral",
    "happy": "happiness",
    "surprise": "surprise",
    "angry": "anger",
    "sad": "sadness",
    "disgust": "disgust",
    "disqust": "disgust",  # as some tables spell it
    "fear": "fear",
}
# Of the evaluators' ratings.
DIMENSION_RANGE = (1.0, 5.0)
TIE = "a tie between emotions"
# Noise, breath, laughter and the like: n/ b/ l/ o/ u/ c/; one is written the other way round, /n.
_TAG = re.compile(r"(?<![A-Za-z])(?:/?[A-Za-z]/|/[A-Za-z](?![A-Za-z]))")
# Two talkers at once: (what the one says+what the other says).
_OVERLAP = re.compile(r"\(([^()+]*)\+[^()]*\)")
# As ETRI's rules of transcription have it: (spelling)/(pronunciation).
_SPELLING = re.compile(r"\(([^()]*)\)/\([^()]*\)")
# (table, its segments' ids in order, ids of the recordings) → row → the id that is meant there
Mended = Callable[[Path, Sequence[str], Collection[str]], Mapping[int, str]]


class Segment(NamedTuple):
    """A recording, and what its name tells."""

    path: Path
    speaker: str
    session: str
    dialog: str


class Label(NamedTuple):
    """`emotion` is None where several tie."""

    emotion: str | None
    soft_label: dict[str, float] | None
    dimensions: dict[str, float] | None = None


class Row(NamedTuple):
    line: int
    segment: str
    cells: list[str]


class LabelTable(NamedTuple):
    """A table of labels: its rows, and where the total evaluation and the evaluators' emotions are."""

    rows: list[Row]
    total: int
    evaluators: list[int]


def corpus(
    tables: Mapping[Path, Mapping[str, Segment]],
    encoding: str,
    findings: Findings,
    *,
    is_own: Callable[[Path, str], bool] = lambda table, segment: True,
    mended: Mended = lambda table, ids, recordings: {},
    misnamed_texts: Mapping[str, str] | None = None,
    needs_emotions: bool = True,
) -> Corpus:
    """The corpus of these segments; ties between emotions are left out.

    Args:
        tables: table of labels → its segments by id.
        encoding: of the transcripts, which lie beside the recordings.
        is_own: whether a segment that a table lists is read from this table.
        mended: rows whose id is a known slip.
        misnamed_texts: segment → the name that its text has as published.
        needs_emotions: leave ties out; else their emotion is `RATED`.

    Raises:
        UserError: as of `labels`; segments without label, or labels without their segment.
    """
    utterances = []
    left_out: Counter[str] = Counter()
    texts = _Texts(encoding, misnamed_texts or {}, findings)
    for table, segments in sorted(tables.items()):
        with findings.of_labels(table, segments):
            listed = labels(table, findings, is_own=is_own, mended=mended, recordings=segments)
            for key in findings.pair({key: segments[key].path for key in segments}, listed, table):
                segment = segments[key]
                emotion, soft_label, dimensions = listed[key]
                if emotion is None and needs_emotions:
                    left_out[TIE] += 1
                    continue
                text = texts.of(key, segment.path)
                # both corpora end a speaker's name with F or M
                facts = {
                    **segment._asdict(),
                    "sex": SEXES.get(segment.speaker[-1].lower()),
                    "dimensions": dimensions,
                }
                utterances.append(
                    Utterance(
                        id=key, emotion=emotion or RATED, transcript=text, soft_label=soft_label, **facts
                    )
                )
    if texts.overlaps:
        findings.notes.append(
            f"{texts.overlaps:,} transcripts hold words of two talkers at once, as (a+b): the first talker's "
            "are kept"
        )
    return replace(findings.corpus(utterances, left_out), dimension_range=DIMENSION_RANGE)


def labels(
    path: Path,
    findings: Findings,
    *,
    is_own: Callable[[Path, str], bool] = lambda table, segment: True,
    mended: Mended = lambda table, ids, recordings: {},
    recordings: Collection[str] = (),
) -> dict[str, Label]:
    """Segment → label, of the rows that are read from this table; rows that are wrong are noted.

    Raises:
        UserError: the header is another.
    """
    rows, total, evaluators = read_table(path, findings)
    meant = mended(path, [row.segment for row in rows], recordings)
    label_by_segment: dict[str, Label] = {}
    for number, (line, listed, cells) in enumerate(rows):
        where = f"{path}, line {line}"
        segment = meant.get(number, listed)
        if segment != listed:
            findings.notes.append(
                f"{where}: {listed} occurs twice and is read as {segment}, which is missing"
            )
        if not is_own(path, segment):
            continue
        if len(cells) <= evaluators[-1]:
            reason = (
                f"the row is cut off or damaged; expected {evaluators[-1] + 3} cells, found {len(cells)}."
            )
            findings.wrong(segment, f"{where}: {reason}")
        elif segment in label_by_segment:
            findings.wrong(segment, f"{where}: {segment} occurs twice.")
        else:
            with findings.of(segment):
                emotions = _emotions(cells[total], where)
                if not emotions:
                    raise UserError(f"{where}: {segment} has no emotion under Total Evaluation.")
                votes = [_emotions(cells[column], where) for column in evaluators]
                label_by_segment[segment] = Label(
                    emotions[0] if len(emotions) == 1 else None,
                    vote_shares(votes),
                    _ratings(cells[total + 1], cells[total + 2], where, findings),
                )
    return {segment: label for segment, label in label_by_segment.items() if segment not in findings.bad}


def read_table(path: Path, findings: Findings) -> LabelTable:
    """A table of labels; a row without a segment is noted as wrong.

    Two header rows; the first names `Segment ID` and `Total Evaluation`, which stands over three columns
    (emotion, valence, arousal), and after it each evaluator, over three columns likewise.

    Raises:
        UserError: the header is another.
    """
    table = Table(path, read_text(path, "utf-8-sig", "cp949"), delimiter=",", strict=False)
    rows = [(line, [cell.strip() for cell in row]) for line, row in table.rows()]
    header = rows[0][1] if rows else []
    if missing := [name for name in ("Segment ID", "Total Evaluation") if name not in header]:
        raise UserError(f"{path}: the first row lacks {' and '.join(missing)}.")
    segment, total = header.index("Segment ID"), header.index("Total Evaluation")
    evaluators = [column for column in range(total + 3, len(header), 3) if header[column]]
    if not evaluators:
        raise UserError(f"{path}: the first row names no evaluators after Total Evaluation.")
    segment_rows = []
    for line, row in rows[2:]:
        if not any(row):
            continue
        if len(row) <= segment or not row[segment]:
            where = f"{path}, line {line}"
            findings.wrong(
                where,
                f"{where}: the row is cut off or damaged; expected a Segment ID and {len(header)} cells, "
                f"found {len(row)}.",
            )
            continue
        segment_rows.append(Row(line, row[segment], row))
    return LabelTable(segment_rows, total, evaluators)


def _ratings(valence: str, arousal: str, where: str, findings: Findings) -> dict[str, float] | None:
    """The evaluators' means; a blank cell rates nothing, and what is no number is noted."""
    ratings = {}
    for name, cell in (("arousal", arousal), ("valence", valence)):
        if not cell:
            continue
        try:
            rating = float(cell)
        except ValueError:
            rating = math.nan
        if not math.isfinite(rating):
            findings.notes.append(f"{where}: expected a number for {name}, found {cell!r}; it is left out")
            continue
        ratings[name] = rating
    return ratings or None


def _emotions(cell: str, where: str) -> list[str]:
    words = [word.strip().lower() for word in cell.split(";") if word.strip()]
    if unknown := [word for word in words if word not in EMOTIONS]:
        raise UserError(f"{where}: unknown emotion {unknown[0]!r}; expected {', '.join(EMOTIONS)}.")
    return [EMOTIONS[word] for word in words]


class _Texts:
    """The transcripts beside the recordings; why one is not there is noted.

    Attributes:
        overlaps: how many hold the words of two talkers at once.
    """

    def __init__(self, encoding: str, misnamed: Mapping[str, str], findings: Findings) -> None:
        self.encoding, self.misnamed, self.findings = encoding, misnamed, findings
        self.overlaps = 0
        self._taken = {name: segment for segment, name in misnamed.items()}
        self._unowned: dict[Path, dict[str, Path]] = {}

    def of(self, name: str, recording: Path) -> str | None:
        """What was said in a recording; None where no text can be read, which is noted."""
        path = recording.with_suffix(".txt")
        if not path.exists() and (other := self._under_another_name(name, path)):
            self.findings.notes.append(f"the transcript of {name} is {other}, which is misnamed")
            path = other
        elif (owner := self._taken.get(name)) and self._is_of(owner, path):
            self.findings.untold[name] = f"{path} is the text of {owner}."
            return None
        try:
            text = read(path, self.encoding)
        except UserError as error:
            self.findings.untold[name] = str(error)
            return None
        self.overlaps += bool(_OVERLAP.search(text))
        return transcript(text)

    def _under_another_name(self, name: str, path: Path) -> Path | None:
        """Its text as published under another name, or the text of no recording with a number next to its."""
        if name in self.misnamed:
            known = path.with_name(f"{self.misnamed[name]}.txt")
            return known if known.exists() else None
        folder = path.parent
        if folder not in self._unowned:
            stems = {each.stem for each in folder.iterdir() if each.suffix.lower() not in (".txt", "")}
            texts = {each.stem: each for each in folder.glob("*.txt") if not each.name.startswith(".")}
            self._unowned[folder] = {stem: text for stem, text in texts.items() if stem not in stems}
        head, number = name[:-3], name[-3:]
        beside = [f"{head}{int(number) + step:03}" for step in (-1, 1)] if number.isdecimal() else []
        unowned = self._unowned[folder]
        neighbours = [unowned[stem] for stem in beside if stem in unowned]
        return unowned.pop(neighbours[0].stem) if len(neighbours) == 1 else None

    def _is_of(self, owner: str, path: Path) -> bool:
        """Whether the owner of a misnamed text has a recording here, and no text under its own name."""
        beside = {each.suffix for each in path.parent.glob(f"{owner}.*")}
        return bool(beside) and ".txt" not in beside


def read(path: Path, encoding: str) -> str:
    """The text of a transcript's file, as it stands there.

    Raises:
        UserError: the file is missing or in another encoding.
    """
    text = read_text(path, encoding)
    # Bytes of UTF-8 often pass for CP949, but hardly ever the other way round.
    if encoding == "cp949" and not text.isascii() and _is_utf8(path):
        raise UserError(
            f"{path} is UTF-8, not CP949 text. Copy it as the corpus has it, in its own encoding."
        )
    return text


def transcript(text: str) -> str:
    """What the segment's talker said, without the tags for noises; empty where only noises were heard.

    Where two talk at once, `(a+b)`, the first words are taken for those of the segment's talker: the
    corpora's pages do not say whose come first, and a segment is named after the one who talks in it.
    """
    while (cleaned := _OVERLAP.sub(r"\1", _SPELLING.sub(r"\1", text))) != text:
        text = cleaned
    return " ".join(_TAG.sub(" ", text).split())


def _is_utf8(path: Path) -> bool:
    try:
        read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
