"""RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song (Livingstone and Russo 2018).

Songs, which may lie beside the speech, are left out and counted.
"""

import re
from collections import Counter
from pathlib import Path

from light_sernet_kd.corpora.reading import (
    VIDEO_SUFFIXES,
    Findings,
    folders_of,
    no_recordings_error,
    recordings,
)
from light_sernet_kd.corpora.types import Corpus, Origin, Published, Utterance, name_parts

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
SONG = "song, not speech (channel 02)"
VIDEO = "video (modality 01 or 02)"
# Modality 03 (audio), channel, emotion, intensity, statement, repetition, actor.
_NAME = re.compile(r"03-(01|02)-(0[1-8])-0[12]-(0[12])-0[12]-(0[1-9]|1\d|2[0-4])")
_EXPECTED = (
    f"modality 03, channel (01 02), emotion ({' '.join(EMOTIONS)}), intensity (01 02), statement (01 02), "
    "repetition (01 02) and actor (01 to 24), as in 03-01-06-01-02-01-12.wav"
)

ORIGIN = Origin(
    licence="CC BY-NC-SA 4.0",
    page="https://zenodo.org/records/1188976",
    layout="Actor_01/03-01-01-01-01-01-01.wav … Actor_24/, 1440 recordings",
    archive="https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
    archive_hash="md5:bc696df654c87fed845eb13823edef8a",  # as the Zenodo record states it
    steps="Unpack Audio_Speech_Actors_01-24.zip.",
)


PUBLISHED = Published(
    recordings=1440,
    speakers=tuple(f"{actor:02}" for actor in range(1, 25)),
    emotions={**dict.fromkeys(EMOTIONS.values(), 192), "neutral": 96},
)


def _listed(folder: Path) -> list[Path]:
    return recordings(folder, "Actor_*/*")


def _flat(folder: Path) -> list[Path]:
    return [path for path in recordings(folder) if _NAME.fullmatch(path.stem)]


def utterances(root: Path, *, skip_bad: bool = False) -> Corpus:
    """The speech in `root/Actor_NN`; the file name tells everything.

    Args:
        skip_bad: leave out and count what is misnamed or in a wrong folder, rather than refuse.

    Raises:
        UserError: no recordings, names that are not RAVDESS's, or recordings in another actor's folder.
    """
    findings = Findings("RAVDESS", skip_bad)
    folders = folders_of(root, _listed, findings, flat=_flat, several=True)
    if not folders:
        raise no_recordings_error(root, root, ORIGIN.layout, _listed)
    utterances = []
    left_out: Counter[str] = Counter()
    for path in [path for paths in folders.values() for path in paths]:
        if path.suffix.lower() in VIDEO_SUFFIXES and path.stem.startswith(("01-", "02-")):
            left_out[VIDEO] += 1
            continue
        with findings.of(path):
            channel, emotion, statement, actor = name_parts(path, _NAME, "RAVDESS", _EXPECTED)
            if path.parent.name.startswith("Actor_") and path.parent.name != f"Actor_{actor}":
                place = path.parent.with_name(f"Actor_{actor}")
                findings.wrong(path, f"{path} is a recording of actor {actor}: move it to {place}.")
                continue
            if channel == "02":
                left_out[SONG] += 1
                continue
            # as published: odd numbers are men, even ones women
            text, sex = STATEMENTS[statement], "male" if int(actor) % 2 else "female"
            utterances.append(Utterance(path.stem, path, EMOTIONS[emotion], actor, transcript=text, sex=sex))
    return findings.corpus(utterances, left_out)
