"""RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song (Livingstone and Russo 2018).

Songs, which may lie beside the speech, are left out and counted.
"""

import re
from collections import Counter
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Corpus, Origin, Utterance, make_corpus, name_parts, wav_files

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


def utterances(root: Path) -> Corpus:
    """The speech in `root/Actor_NN`; the file name tells everything.

    Raises:
        UserError: no recordings, a name that is not RAVDESS's, or a recording in another actor's folder.
    """
    found = []
    left_out: Counter[str] = Counter()
    for path in wav_files(root, "Actor_*/*"):
        channel, emotion, statement, actor = name_parts(path, _NAME, "RAVDESS", _EXPECTED)
        if path.parent.name != f"Actor_{actor}":
            raise UserError(f"{path} is a recording of actor {actor}: move it to {root / f'Actor_{actor}'}.")
        if channel == "02":
            left_out[SONG] += 1
            continue
        # as published: odd numbers are men, even ones women
        text, sex = STATEMENTS[statement], "male" if int(actor) % 2 else "female"
        found.append(Utterance(path.stem, path, EMOTIONS[emotion], actor, transcript=text, sex=sex))
    return make_corpus("RAVDESS", found, left_out)
