"""KEMDy19, the Korean Emotional Multi-modal Dataset of 2019 (ETRI; Noh and Jeong): actors, in pairs."""

import re
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Corpus, Origin, kemdy, visible, wav_files

_NAME = re.compile(r"(Sess(\d\d)_(?:impro|script)\d\d)_([FM])\d{3}")

ORIGIN = Origin(
    licence="of ETRI, for research; applied for",
    page="https://nanum.etri.re.kr/share/kjnoh/KEMDy19",
    layout="wav/Session01/Sess01_script01/Sess01_script01_F001.wav and .txt …, "
    "annotation/Session01_F_res.csv, annotation/Session01_M_res.csv …",
    steps="Apply on that page; wav and annotation are enough.",
)


def utterances(root: Path) -> Corpus:
    """The segments of `root/wav`; ties between emotions are left out.

    Both tables of a session list all its segments; each talker's own is read.

    Raises:
        UserError: no recordings, one in a wrong folder, one without label or transcript, a label without
            its recording, a table that is cut off, or a text that is not UTF-8.
    """
    by_table: dict[Path, dict[str, kemdy.Segment]] = {
        table: {} for table in visible(root, "annotation/Session??_[FM]_res.csv")
    }
    for path in wav_files(root, "wav/Session*/*/*"):
        match = _NAME.fullmatch(path.stem)
        if match is None or path.parts[-3:-1] != (f"Session{match[2]}", match[1]):
            raise UserError(
                f"{path} is not where KEMDy19 has its recordings: expected "
                "wav/Session01/Sess01_script01/Sess01_script01_F001.wav or the like."
            )
        dialog, session, talker = match.groups()
        table = root / "annotation" / f"Session{session}_{talker}_res.csv"
        segment = kemdy.Segment(path, f"Sess{session}{talker}", session, dialog)
        by_table.setdefault(table, {})[path.stem] = segment
    return kemdy.corpus("KEMDy19", by_table, "utf-8-sig", own=_is_its_talkers)


def _is_its_talkers(table: Path, segment: str) -> bool:
    """Whether the talker whose table this is says the segment: F of Session01_F_res, as in …_F001."""
    return segment.rpartition("_")[2].startswith(table.stem.split("_")[1])
