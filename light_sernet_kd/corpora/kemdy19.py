"""KEMDy19, the Korean Emotional Multi-modal Dataset of 2019 (ETRI; Noh and Jeong): actors, in pairs."""

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
    by_table: dict[Path, dict[str, Path]] = {
        table: {} for table in visible(root, "annotation/Session??_[FM]_res.csv")
    }
    for path in wav_files(root, "wav/Session*/*/*"):
        match = _NAME.fullmatch(path.stem)
        if match is None or path.parts[-3:-1] != (f"Session{match[2]}", match[1]):
            raise UserError(
                f"{path} is not where KEMDy19 has its recordings: expected "
                "wav/Session01/Sess01_script01/Sess01_script01_F001.wav or the like."
            )
        table = root / "annotation" / f"Session{match[2]}_{match[3]}_res.csv"
        by_table.setdefault(table, {})[path.stem] = path
    found = []
    left_out: Counter[str] = Counter()
    for table, recordings in sorted(by_table.items()):
        session, talker = table.stem.removeprefix("Session").split("_")[:2]
        of_both = kemdy.labels(table)
        labels = {
            name: label for name, label in of_both.items() if name.rpartition("_")[2].startswith(talker)
        }
        check_pairs(recordings, labels, table)
        for name, path in recordings.items():
            emotion, soft_label = labels[name]
            if emotion is None:
                left_out[kemdy.TIE] += 1
                continue
            found.append(
                Utterance(
                    id=name,
                    path=path,
                    emotion=emotion,
                    speaker=f"Sess{session}{talker}",
                    session=session,
                    dialog=path.parent.name,
                    transcript=kemdy.transcript(path.with_suffix(".txt"), "utf-8-sig"),
                    soft_label=soft_label,
                )
            )
    return make_corpus("KEMDy19", found, left_out)
