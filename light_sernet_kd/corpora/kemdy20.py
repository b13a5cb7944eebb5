"""KEMDy20, the Korean Emotional Multi-modal Dataset of 2020 (ETRI; Noh and Jeong): free conversation."""

import re
from collections import Counter
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import (
    Corpus,
    Origin,
    Utterance,
    check_pairs,
    kemdy,
    make_corpus,
    visible,
    wav_files,
)

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
    by_table: dict[Path, dict[str, Path]] = {
        table: {} for table in visible(root, "annotation/Sess??_eval.csv")
    }
    for path in wav_files(root, "wav/Session*/*"):
        match = _NAME.fullmatch(path.stem)
        if match is None or path.parent.name != f"Session{match[2]}":
            raise UserError(
                f"{path} is not where KEMDy20 has its recordings: expected "
                "wav/Session01/Sess01_script01_User001F_001.wav or the like."
            )
        by_table.setdefault(root / "annotation" / f"Sess{match[2]}_eval.csv", {})[path.stem] = path
    found = []
    left_out: Counter[str] = Counter()
    for table, recordings in sorted(by_table.items()):
        labels = kemdy.labels(table)
        check_pairs(recordings, labels, table)
        for name, path in recordings.items():
            emotion, soft_label = labels[name]
            if emotion is None:
                left_out[kemdy.TIE] += 1
                continue
            session, script, user, _ = name.split("_")
            found.append(
                Utterance(
                    id=name,
                    path=path,
                    emotion=emotion,
                    speaker=user,
                    session=session.removeprefix("Sess"),
                    dialog=f"{session}_{script}",
                    transcript=kemdy.transcript(path.with_suffix(".txt"), "cp949"),
                    soft_label=soft_label,
                )
            )
    return make_corpus("KEMDy20", found, left_out)
