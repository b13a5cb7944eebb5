"""KEMDy20, the Korean Emotional Multi-modal Dataset of 2020 (ETRI; Noh and Jeong): free conversation."""

import re
from pathlib import Path

from light_sernet_kd.corpora import kemdy
from light_sernet_kd.corpora.reading import Findings, folders_of, no_recordings_error, recordings
from light_sernet_kd.corpora.types import Corpus, Origin, Published, visible

_NAME = re.compile(r"(Sess(\d\d)_script\d\d)_(User\d{3}[FM])_\d{3}")

ORIGIN = Origin(
    licence="of ETRI, for research; applied for",
    page="https://nanum.etri.re.kr/share/kjnoh/KEMDy20",
    layout="wav/Session01/Sess01_script01_User001F_001.wav and .txt …, annotation/Sess01_eval.csv …",
    steps="Apply on that page; wav and annotation are enough.",
)


# 40 sessions of two; which speakers they are is not published in one place.
PUBLISHED = Published(sessions=tuple(f"{session:02}" for session in range(1, 41)))


def _listed(folder: Path) -> list[Path]:
    return recordings(folder, "wav/Session*/*")


def utterances(root: Path, *, skip_bad: bool = False, needs_emotions: bool = True) -> Corpus:
    """The segments of `root/wav`; ties between emotions are left out.

    A segment without a text, or with one that is not CP949, has no transcript.

    Args:
        skip_bad: leave out and count segments and rows that are wrong, rather than refuse.
        needs_emotions: leave ties out; else their emotion is `RATED`.

    Raises:
        UserError: no recordings; some in a wrong folder or without label, labels without recording, or
            tables that are cut off.
    """
    findings = Findings("KEMDy20", skip_bad)
    folders = folders_of(root, _listed, findings)
    if not folders:
        raise no_recordings_error(root, root, ORIGIN.layout, _listed)
    root, paths = next(iter(folders.items()))
    by_table: dict[Path, dict[str, kemdy.Segment]] = {
        table: {} for table in visible(root, "annotation/Sess??_eval.csv")
    }
    taken: dict[str, Path] = {}
    for path in paths:
        match = _NAME.fullmatch(path.stem)
        if match is None or path.parent.name != f"Session{match[2]}":
            findings.wrong(
                path,
                f"{path} is not where KEMDy20 has its recordings: expected "
                "wav/Session01/Sess01_script01_User001F_001.wav or the like.",
            )
            continue
        dialog, session, user = match.groups()
        table = root / "annotation" / f"Sess{session}_eval.csv"
        findings.put(taken, path.stem, path)
        segment = kemdy.Segment(taken[path.stem], user, session, dialog)
        by_table.setdefault(table, {})[path.stem] = segment
    return kemdy.corpus(by_table, "cp949", findings, needs_emotions=needs_emotions)
