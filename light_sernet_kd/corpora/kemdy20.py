"""KEMDy20, the Korean Emotional Multi-modal Dataset of 2020 (ETRI; Noh and Jeong): free conversation."""

import re
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Corpus, Origin, kemdy, visible, wav_files

_NAME = re.compile(r"(Sess(\d\d)_script\d\d)_(User\d{3}[FM])_\d{3}")

ORIGIN = Origin(
    licence="of ETRI, for research; applied for",
    page="https://nanum.etri.re.kr/share/kjnoh/KEMDy20",
    layout="wav/Session01/Sess01_script01_User001F_001.wav and .txt …, annotation/Sess01_eval.csv …",
    steps="Apply on that page; wav and annotation are enough.",
)


def utterances(root: Path) -> Corpus:
    """The segments of `root/wav`; ties between emotions are left out.

    Raises:
        UserError: no recordings, one in a wrong folder, one without label or transcript, a label without
            its recording, a table that is cut off, or a text that is not CP949.
    """
    by_table: dict[Path, dict[str, kemdy.Segment]] = {
        table: {} for table in visible(root, "annotation/Sess??_eval.csv")
    }
    for path in wav_files(root, "wav/Session*/*"):
        match = _NAME.fullmatch(path.stem)
        if match is None or path.parent.name != f"Session{match[2]}":
            raise UserError(
                f"{path} is not where KEMDy20 has its recordings: expected "
                "wav/Session01/Sess01_script01_User001F_001.wav or the like."
            )
        dialog, session, user = match.groups()
        table = root / "annotation" / f"Sess{session}_eval.csv"
        by_table.setdefault(table, {})[path.stem] = kemdy.Segment(path, user, session, dialog)
    return kemdy.corpus("KEMDy20", by_table, "cp949")
