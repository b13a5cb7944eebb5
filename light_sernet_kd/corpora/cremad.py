"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset (Cao et al. 2014)."""

import re
from pathlib import Path

from light_sernet_kd.corpora.reading import Findings, folders_of, no_recordings_error, recordings
from light_sernet_kd.corpora.tables import Table
from light_sernet_kd.corpora.types import Corpus, Origin, Published, Utterance, name_parts, read_text
from light_sernet_kd.errors import UserError

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
VOTES = {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness"}
# One file of the release, 1040_ITH_SAD_X.wav, has lost the last letter of its name.
_NAME = re.compile(rf"(1\d{{3}})_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_(LO|MD|HI|XX?)")
_EXPECTED = (
    f"speaker (1001 to 1091), sentence ({' '.join(SENTENCES)}), emotion ({' '.join(EMOTIONS)}) and level "
    "(LO MD HI XX), as in 1001_DFA_ANG_XX.wav"
)

ORIGIN = Origin(
    licence="ODbL 1.0",
    page="https://github.com/CheyneyComputerScience/CREMA-D",
    layout="AudioWAV/1001_DFA_ANG_XX.wav …, 7442 recordings; for soft labels "
    "processedResults/tabulatedVotes.csv",
    steps="Clone the repository with Git LFS (git lfs pull), which checks what it downloads; "
    "AudioWAV and processedResults are enough.",
)


PUBLISHED = Published(
    recordings=7442,
    speakers=tuple(str(speaker) for speaker in range(1001, 1092)),
    emotions={**dict.fromkeys(EMOTIONS.values(), 1271), "neutral": 1087},
)


def _listed(folder: Path) -> list[Path]:
    return recordings(folder / "AudioWAV")


def _flat(folder: Path) -> list[Path]:
    return [path for path in recordings(folder) if _NAME.fullmatch(path.stem)]


def utterances(root: Path, *, skip_bad: bool = False) -> Corpus:
    """The recordings of `root/AudioWAV`; the file name tells speaker, sentence and the emotion meant.

    Where `processedResults/tabulatedVotes.csv` lies beside them, the soft label is the share of listeners
    who, given the voice alone, heard an emotion; where `VideoDemographics.csv` does, it gives the sex.

    Args:
        skip_bad: leave out and count what is misnamed or without votes, rather than refuse.

    Raises:
        UserError: no recordings, names that are not CREMA-D's, or a table that is not the corpus's.
    """
    findings = Findings("CREMA-D", skip_bad)
    folders = folders_of(root, _listed, findings, flat=_flat)
    if not folders:
        raise no_recordings_error(root / "AudioWAV", root, ORIGIN.layout, _listed)
    folder, paths = next(iter(folders.items()))
    table = folder / "processedResults" / "tabulatedVotes.csv"
    votes = _votes(table, findings) if table.exists() else None
    actors = folder / "VideoDemographics.csv"
    sexes = _sexes(actors) if actors.exists() else {}
    utterances = []
    for path in paths:
        with findings.of(path):
            speaker, sentence, emotion, level = name_parts(path, _NAME, "CREMA-D", _EXPECTED)
            clip = f"{speaker}_{sentence}_{emotion}_{'XX' if level == 'X' else level}"
            if level == "X":
                findings.notes.append(f"{path.stem} is read as {clip}: it is so named as published")
            if votes is not None and clip not in votes:
                if clip not in findings.bad:
                    reason = f"{table} does not list {clip} among those on the voice alone."
                    findings.wrong(clip, f"{path} has no votes: {reason}")
                continue
            utterances.append(
                Utterance(
                    path.stem,
                    path,
                    EMOTIONS[emotion],
                    speaker,
                    transcript=SENTENCES[sentence],
                    soft_label=votes[clip] if votes is not None else None,
                    sex=sexes.get(speaker),
                )
            )
    return findings.corpus(utterances)


def _sexes(path: Path) -> dict[str, str]:
    """Speaker → sex, of the table of actors."""
    table = Table(path, read_text(path, "utf-8-sig"), delimiter=",", strict=False)
    if not {"ActorID", "Sex"} <= {*table.header}:
        raise UserError(f"{path} is not CREMA-D's table of actors: its header lacks ActorID or Sex.")
    rows = [dict(zip(table.header, cells, strict=False)) for _, cells in table.body()]
    return {row["ActorID"]: row["Sex"].lower() for row in rows if row.get("ActorID") and row.get("Sex")}


def _votes(path: Path, findings: Findings) -> dict[str, dict[str, float]]:
    """Clip → share of votes per emotion, from the rows on the voice alone.

    Each clip was shown three times: the row numbers of the voice alone begin with 1, of the face with 2 and
    of both with 3.
    """
    table = Table(path, read_text(path, "utf-8-sig"), delimiter=",", strict=False)
    if missing := [name for name in ("", *VOTES, "fileName") if name not in table.header]:
        raise UserError(
            f"{path} is not CREMA-D's table of votes: its header lacks {', '.join(map(repr, missing))}. "
            "If it is a Git LFS pointer, run git lfs pull."
        )
    shares: dict[str, dict[str, float]] = {}
    for line, cells in table.body():
        if not cells:
            continue
        row = dict(zip(table.header, cells, strict=False))  # a row that was cut off is short
        where = f"{path}, line {line}"
        row_number, clip = row.get("", ""), row.get("fileName", "")
        try:
            counts = {VOTES[letter]: int(row[letter]) for letter in VOTES}
        except (KeyError, ValueError):
            reason = f"cut off or damaged; expected whole numbers in {' '.join(VOTES)}."
            findings.wrong(clip or where, f"{where}: {reason}")
            continue
        if not clip or min(counts.values()) < 0 or not sum(counts.values()):
            reason = "cut off or damaged; expected the clip's name and at least one vote."
            findings.wrong(clip or where, f"{where}: {reason}")
            continue
        if row_number.startswith("1"):
            shares[clip] = {name: count / sum(counts.values()) for name, count in counts.items() if count}
    return shares
