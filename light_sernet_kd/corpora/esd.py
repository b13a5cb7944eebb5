"""ESD, the Emotional Speech Dataset (Zhou et al., ICASSP 2021): its ten speakers of English.

The Mandarin half, speakers 0001 to 0010, is left out and counted.
"""

import re
from collections import Counter
from pathlib import Path

from light_sernet_kd.corpora.reading import Findings, folders_of, no_recordings_error, tree
from light_sernet_kd.corpora.types import Corpus, Origin, Published, Utterance, read_text, visible
from light_sernet_kd.errors import UserError

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


PUBLISHED = Published(
    recordings=17_500,
    speakers=tuple(f"{speaker:04}" for speaker in range(11, 21)),
    emotions=dict.fromkeys(EMOTIONS.values(), 3500),
)


def _listed(root: Path) -> list[Path]:
    return [path for speaker in visible(root, "0[0-9][0-9][0-9]") for path in tree(speaker)]


def utterances(root: Path, *, skip_bad: bool = False) -> Corpus:
    """The recordings of `root/<speaker>/<Emotion>`, with or without the parts train, evaluation and test.

    `root/<speaker>/<speaker>.txt` gives the transcripts. Its encoding differs by speaker in the release.

    Args:
        skip_bad: leave out and count recordings and lines that are wrong, rather than refuse.

    Raises:
        UserError: no recordings; some in a wrong folder, some without their line or lines without their
            recording, or lines that are cut off or say another emotion than the folder.
    """
    findings = Findings("ESD", skip_bad)
    folders = folders_of(root, _listed, findings)
    if not folders:
        raise no_recordings_error(root, root, ORIGIN.layout, _listed)
    root, paths = next(iter(folders.items()))
    speakers: dict[str, dict[str, Path]] = {
        path.stem: {}
        for path in visible(root, "00[12]?/00[12]?.txt")
        if path.parent.name == path.stem > "0010"
    }
    left_out: Counter[str] = Counter()
    for path in paths:
        folders_above = path.relative_to(root).parts[:-1]
        match = _NAME.fullmatch(path.stem)
        if match is None or folders_above[0] != match[1]:
            expected = f"expected {root}/<speaker>/<Emotion>/<speaker>_<6 digits>.wav."
            findings.wrong(path, f"{path} is not ESD's: {expected}")
        elif match[1] <= "0010":
            left_out[MANDARIN] += 1
        elif (
            not 2 <= len(folders_above) <= 3
            or folders_above[1] not in EMOTIONS
            or (len(folders_above) == 3 and folders_above[2] not in PARTS)
        ):
            findings.wrong(
                path,
                f"{path} lies in a wrong folder: expected {root / match[1]}/, then {', '.join(EMOTIONS)}, "
                f"then nothing or {', '.join(PARTS)}.",
            )
        else:
            findings.put(speakers.setdefault(match[1], {}), path.stem, path)
    if not speakers and not findings.bad:
        raise UserError(f"no recordings of the English speakers 0011 to 0020 in {root} (see data/README.md).")
    utterances: list[Utterance] = []
    for speaker, recordings in speakers.items():
        with findings.of_labels(speaker, recordings):
            utterances += _of_speaker(root / speaker / f"{speaker}.txt", recordings, findings)
    return findings.corpus(utterances, left_out)


def _of_speaker(list_file: Path, recordings: dict[str, Path], findings: Findings) -> list[Utterance]:
    lines = _lines(list_file, findings)
    utterances = []
    for name in findings.pair(recordings, lines, list_file):
        path = recordings[name]
        folder = path.relative_to(list_file.parent).parts[0]
        transcript, word = lines[name]
        if word not in (None, folder):
            findings.wrong(name, f"{path} lies in the folder {folder}, but {list_file} says {word}.")
            continue
        part = path.parent.name if path.parent.name in PARTS else None
        speaker = list_file.stem
        sex = "male" if speaker in MEN else "female"
        utterance = Utterance(
            name, path, EMOTIONS[folder], speaker, transcript=transcript, split=part, sex=sex
        )
        utterances.append(utterance)
    return utterances


def _lines(path: Path, findings: Findings) -> dict[str, tuple[str, str | None]]:
    """Id → transcript and emotion word; None where a line of `IRREGULAR` lacks the word.

    Lines that are wrong are noted.
    """
    text = read_text(path, "utf-8-sig", "utf-16", "cp1252", "latin-1")
    words = {word.lower(): word for word in EMOTIONS}
    lines: dict[str, tuple[str, str | None]] = {}
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
            findings.wrong(
                name if _NAME.fullmatch(name) else where,
                f"{where}: expected id, text and emotion with tabs between them, found {line.strip()!r}. "
                "The line is cut off or damaged.",
            )
            continue
        else:
            name, transcript, last = fields
            word = words.get(last.lower())
            if word is None:
                reason = f"unknown emotion {last!r}; expected {', '.join(EMOTIONS)}."
                findings.wrong(name, f"{where}: {reason}")
                continue
        if name in lines:
            findings.wrong(name, f"{where}: {name} occurs twice.")
        lines[name] = (transcript, word)
    return {name: line for name, line in lines.items() if name not in findings.bad}
