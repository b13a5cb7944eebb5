"""ESD, the Emotional Speech Dataset (Zhou et al., ICASSP 2021): its ten speakers of English.

The Mandarin half, speakers 0001 to 0010, is left out and counted.
"""

import re
from collections import Counter
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import (
    Corpus,
    Origin,
    Utterance,
    check_pairs,
    make_corpus,
    read_text,
    visible,
    wav_files,
)

EMOTIONS = {
    "Angry": "anger",
    "Happy": "happiness",
    "Neutral": "neutral",
    "Sad": "sadness",
    "Surprise": "surprise",
}
PARTS = ("train", "evaluation", "test")
MEN = ("0011", "0012", "0013", "0014", "0020")  # as its ReadMe says; 0015 to 0019 are women
MANDARIN = "Mandarin (speakers 0001 to 0010)"
# Lines that lack a tab or the emotion as published.
IRREGULAR = frozenset(
    [
        "0012_001355",
        "0013_000431",
        "0013_000914",
        "0014_001590",
        "0015_000137",
        "0015_000138",
        "0015_000175",
        "0015_000187",
        "0015_000217",
        "0015_000668",
        "0015_000690",
        "0015_000875",
        "0015_001015",
        "0015_001531",
        "0015_001578",
    ]
)
_NAME = re.compile(r"(00(?:0[1-9]|1\d|20))_\d{6}")

ORIGIN = Origin(
    licence="for research; applied for with a signed form",
    page="https://github.com/HLTSingapore/Emotional-Speech-Data",
    layout="0011/0011.txt, 0011/Angry/0011_000351.wav … (or 0011/Angry/train/ …) to 0020",
    steps="Fill in the licence form of that page; the archive's folders 0011 to 0020 are enough.",
)


def utterances(root: Path) -> Corpus:
    """The recordings of `root/<speaker>/<Emotion>`, with or without the parts train, evaluation and test.

    `root/<speaker>/<speaker>.txt` gives the transcripts. Its encoding differs by speaker in the release.

    Raises:
        UserError: no recordings, one in a wrong folder, one without its line or a line without its
            recording, or a line that is cut off or says another emotion than the folder.
    """
    speakers: dict[str, dict[str, Path]] = {
        path.stem: {}
        for path in visible(root, "00[12]?/00[12]?.txt")
        if path.parent.name == path.stem > "0010"
    }
    left_out: Counter[str] = Counter()
    for path in wav_files(root, "0*/**/*"):
        folders = path.relative_to(root).parts[:-1]
        match = _NAME.fullmatch(path.stem)
        if match is None or folders[0] != match[1]:
            raise UserError(
                f"{path} is not ESD's: expected {root}/<speaker>/<Emotion>/<speaker>_<6 digits>.wav."
            )
        if match[1] <= "0010":
            left_out[MANDARIN] += 1
        elif (
            not 2 <= len(folders) <= 3
            or folders[1] not in EMOTIONS
            or (len(folders) == 3 and folders[2] not in PARTS)
        ):
            raise UserError(
                f"{path} lies in a wrong folder: expected {root / match[1]}/, then {', '.join(EMOTIONS)}, "
                f"then nothing or {', '.join(PARTS)}."
            )
        else:
            recordings = speakers.setdefault(match[1], {})
            if other := recordings.get(path.stem):
                raise UserError(f"{other} and {path} are one recording: keep one of them.")
            recordings[path.stem] = path
    if not speakers:
        raise UserError(f"no recordings of the English speakers 0011 to 0020 in {root} (see data/README.md).")
    found = []
    for speaker, recordings in speakers.items():
        list_file = root / speaker / f"{speaker}.txt"
        lines = _lines(list_file)
        check_pairs(recordings, lines, list_file)
        for name, path in recordings.items():
            folder = path.relative_to(root).parts[1]
            transcript, word = lines[name]
            if word not in (None, folder):
                raise UserError(f"{path} lies in the folder {folder}, but {list_file} says {word}.")
            part = path.parent.name if path.parent.name in PARTS else None
            found.append(
                Utterance(
                    name,
                    path,
                    EMOTIONS[folder],
                    speaker,
                    transcript=transcript,
                    split=part,
                    sex="male" if speaker in MEN else "female",
                )
            )
    return make_corpus("ESD", found, left_out)


def _lines(path: Path) -> dict[str, tuple[str, str | None]]:
    """Id → transcript and emotion word; None where a line of `IRREGULAR` lacks the word."""
    text = read_text(path, "utf-8-sig", "utf-16", "cp1252", "latin-1")
    words = {word.lower(): word for word in EMOTIONS}
    found: dict[str, tuple[str, str | None]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        fields = [field.strip() for field in line.split("\t")]
        if (name := line.split()[0]) in IRREGULAR:
            rest, _, last = line.strip().removeprefix(name).strip().rpartition("\t")
            if not rest:
                rest, _, last = last.rpartition(" ")
            word = words.get(last.strip().lower())
            transcript = rest.strip() if word else f"{rest} {last}".strip()
        elif len(fields) != 3 or not all(fields):
            raise UserError(
                f"{where}: expected id, text and emotion with tabs between them, found {line.strip()!r}. "
                "The line is cut off or damaged."
            )
        else:
            name, transcript, last = fields
            word = words.get(last.lower())
            if word is None:
                raise UserError(f"{where}: unknown emotion {last!r}; expected {', '.join(EMOTIONS)}.")
        if name in found:
            raise UserError(f"{where}: {name} occurs twice.")
        found[name] = (transcript, word)
    return found
