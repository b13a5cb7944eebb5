"""What KEMDy19 and KEMDy20 (ETRI) have in common: tables of labels, and transcripts."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import SEXES, Corpus, Utterance, check_pairs, make_corpus, read_text, vote_shares
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
TIE = "a tie between emotions"
# Noise, breath, laughter and the like: n/ b/ l/ o/ u/ c/
_TAG = re.compile(r"(?<![A-Za-z])[A-Za-z]/")


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


def corpus(
    name: str,
    tables: Mapping[Path, Mapping[str, Segment]],
    encoding: str,
    *,
    own: Callable[[Path, str], bool] = lambda table, segment: True,
) -> Corpus:
    """The corpus of these segments; ties between emotions are left out.

    Args:
        tables: table of labels → its segments by id.
        encoding: of the transcripts, which lie beside the recordings.
        own: whether a segment that a table lists is read from this table.

    Raises:
        UserError: as of `labels` and `transcript`; a segment without label, or a label without its segment.
    """
    found = []
    left_out: Counter[str] = Counter()
    for table, segments in sorted(tables.items()):
        listed = {segment: label for segment, label in labels(table).items() if own(table, segment)}
        check_pairs({key: segment.path for key, segment in segments.items()}, listed, table)
        for key, segment in segments.items():
            emotion, soft_label = listed[key]
            if emotion is None:
                left_out[TIE] += 1
                continue
            text = transcript(segment.path.with_suffix(".txt"), encoding)
            # both corpora end a speaker's name with F or M
            facts = {**segment._asdict(), "sex": SEXES.get(segment.speaker[-1].lower())}
            found.append(Utterance(id=key, emotion=emotion, transcript=text, soft_label=soft_label, **facts))
    return make_corpus(name, found, left_out)


def labels(path: Path) -> dict[str, Label]:
    """Segment → label.

    Two header rows; the first names `Segment ID` and `Total Evaluation`, which stands over three columns
    (emotion, valence, arousal), and after it each evaluator, over three columns likewise.

    Raises:
        UserError: the header is another, a row is cut off, or an emotion is missing or unknown.
    """
    reader = csv.reader(io.StringIO(read_text(path, "utf-8-sig", "cp949"), newline=""))
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    header = rows[0][1] if rows else []
    if missing := [name for name in ("Segment ID", "Total Evaluation") if name not in header]:
        raise UserError(f"{path}: the first row lacks {' and '.join(missing)}.")
    segment, total = header.index("Segment ID"), header.index("Total Evaluation")
    evaluators = [column for column in range(total + 3, len(header), 3) if header[column]]
    if not evaluators:
        raise UserError(f"{path}: the first row names no evaluators after Total Evaluation.")
    found: dict[str, Label] = {}
    for line, row in rows[2:]:
        where = f"{path}, line {line}"
        if not any(row):
            continue
        if len(row) <= evaluators[-1] or not row[segment]:
            raise UserError(
                f"{where}: the row is cut off or damaged; expected a Segment ID and {len(header)} cells, "
                f"found {len(row)}."
            )
        emotions = _emotions(row[total], where)
        if not emotions:
            raise UserError(f"{where}: {row[segment]} has no emotion under Total Evaluation.")
        if row[segment] in found:
            raise UserError(f"{where}: {row[segment]} occurs twice.")
        votes = [_emotions(row[column], where) for column in evaluators]
        found[row[segment]] = Label(emotions[0] if len(emotions) == 1 else None, vote_shares(votes))
    return found


def _emotions(cell: str, where: str) -> list[str]:
    words = [word.strip().lower() for word in cell.split(";") if word.strip()]
    if unknown := [word for word in words if word not in EMOTIONS]:
        raise UserError(f"{where}: unknown emotion {unknown[0]!r}; expected {', '.join(EMOTIONS)}.")
    return [EMOTIONS[word] for word in words]


def transcript(path: Path, encoding: str) -> str:
    """What was said, without the tags for noises; empty where only noises were heard.

    Raises:
        UserError: the file is missing or in another encoding.
    """
    text = read_text(path, encoding)
    # Bytes of UTF-8 often pass for CP949, but hardly ever the other way round.
    if encoding == "cp949" and not text.isascii() and _is_utf8(path):
        raise UserError(
            f"{path} is UTF-8, not CP949 text. Copy it as the corpus has it, in its own encoding."
        )
    return " ".join(_TAG.sub(" ", text).split())


def _is_utf8(path: Path) -> bool:
    try:
        read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
