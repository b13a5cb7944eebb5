"""KEMDy19, the Korean Emotional Multi-modal Dataset of 2019 (ETRI; Noh and Jeong): actors, in pairs."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from light_sernet_kd.corpora import kemdy
from light_sernet_kd.corpora.reading import Findings, folders_of, no_recordings_error, recordings
from light_sernet_kd.corpora.types import Corpus, Origin, Published, visible

_NAME = re.compile(r"(Sess(\d\d)_(?:impro|script)\d\d)_([FM])\d{3}")

ORIGIN = Origin(
    licence="of ETRI, for research; applied for",
    page="https://nanum.etri.re.kr/share/kjnoh/KEMDy19",
    layout="wav/Session01/Sess01_script01/Sess01_script01_F001.wav and .txt …, "
    "annotation/Session01_F_res.csv, annotation/Session01_M_res.csv …",
    steps="Apply on that page; wav and annotation are enough.",
)


PUBLISHED = Published(
    speakers=tuple(f"Sess{session:02}{sex}" for session in range(1, 21) for sex in "FM"),
    sessions=tuple(f"{session:02}" for session in range(1, 21)),
)
# Segment → the name that its text has as published.
MISNAMED_TEXTS = {"Sess03_script04_M016": "Sess03_script04_M015"}


def _listed(folder: Path) -> list[Path]:
    return recordings(folder, "wav/Session*/*/*")


def utterances(root: Path, *, skip_bad: bool = False, needs_emotions: bool = True) -> Corpus:
    """The segments of `root/wav`; ties between emotions are left out.

    Both tables of a session list all its segments; each talker's own is read. As published, some rows of a
    talker's table name the other talker's segment of the same number a second time (`Sess03_impro02_M001`
    in Session03_F_res.csv): such a row is the talker's own segment, if that has a recording and no row. A
    segment without a text has no transcript.

    Args:
        skip_bad: leave out and count segments and rows that are wrong, rather than refuse.
        needs_emotions: leave ties out; else their emotion is `RATED`.

    Raises:
        UserError: no recordings; some in a wrong folder or without label, labels without recording, or
            tables that are cut off.
    """
    findings = Findings("KEMDy19", skip_bad)
    folders = folders_of(root, _listed, findings)
    if not folders:
        raise no_recordings_error(root, root, ORIGIN.layout, _listed)
    root, paths = next(iter(folders.items()))
    by_table: dict[Path, dict[str, kemdy.Segment]] = {
        table: {} for table in visible(root, "annotation/Session??_[FM]_res.csv")
    }
    taken: dict[str, Path] = {}
    for path in paths:
        match = _NAME.fullmatch(path.stem)
        if match is None or path.parts[-3:-1] != (f"Session{match[2]}", match[1]):
            findings.wrong(
                path,
                f"{path} is not where KEMDy19 has its recordings: expected "
                "wav/Session01/Sess01_script01/Sess01_script01_F001.wav or the like.",
            )
            continue
        dialog, session, talker = match.groups()
        table = root / "annotation" / f"Session{session}_{talker}_res.csv"
        findings.put(taken, path.stem, path)
        segment = kemdy.Segment(taken[path.stem], f"Sess{session}{talker}", session, dialog)
        by_table.setdefault(table, {})[path.stem] = segment
    return kemdy.corpus(
        by_table,
        "utf-8-sig",
        findings,
        is_own=_is_its_talkers,
        mended=_mended,
        misnamed_texts=MISNAMED_TEXTS,
        needs_emotions=needs_emotions,
    )


def _talker(table: Path) -> str:
    """F of Session01_F_res.csv."""
    return table.stem.split("_")[1]


def _is_its_talkers(table: Path, segment: str) -> bool:
    """Whether the talker whose table this is says the segment: F of Session01_F_res, as in …_F001."""
    return segment.rpartition("_")[2].startswith(_talker(table))


def _mended(table: Path, ids: Sequence[str], recorded: Collection[str]) -> dict[int, str]:
    """Row → the talker's own segment, where the row repeats the other talker's of the same number."""
    segment_by_row = {}
    other: list[str] | None = None
    for name, count in Counter(ids).items():
        head, _, last = name.rpartition("_")
        meant = f"{head}_{_talker(table)}{last[1:]}"
        if count < 2 or meant == name or meant not in recorded or meant in ids:
            continue
        rows = [row for row, listed in enumerate(ids) if listed == name]
        if other is None:
            other = _ids_of_the_other(table)
        # The other table lists the same segments in the same order; without it the later row is the slip.
        matches = [row for row in rows if row < len(other) and other[row] == meant]
        segment_by_row[matches[0] if len(matches) == 1 else rows[-1]] = meant
    return segment_by_row


def _ids_of_the_other(table: Path) -> list[str]:
    other = table.with_name(table.name.replace(f"_{_talker(table)}_", f"_{'FM'[_talker(table) == 'F']}_"))
    unheeded = Findings("KEMDy19")  # what is wrong there is noted when that table is read
    with unheeded.of(other):
        return [row.segment for row in kemdy.read_table(other, unheeded).rows]
    return []
