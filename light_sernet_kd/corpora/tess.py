"""TESS, the Toronto Emotional Speech Set (Pichora-Fuller and Dupuis 2010).

In the published set two files are AIFF despite their name and one is sampled at 96 kHz; they are read by
content.
"""

import re
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Corpus, Origin, Utterance, make_corpus, name_parts, wav_files

EMOTIONS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "surprise",
    "sad": "sadness",
}
SPEAKERS = ("OAF", "YAF")
MISNAMED = {"OA_bite_neutral": "OAF_bite_neutral"}  # as published
_NAME = re.compile(rf"({'|'.join(SPEAKERS)})_([A-Za-z]+)_({'|'.join(EMOTIONS)})")
_EXPECTED = (
    f"speaker ({' '.join(SPEAKERS)}), word and emotion ({' '.join(EMOTIONS)}), as in OAF_back_angry.wav"
)

ORIGIN = Origin(
    licence="CC BY-NC-ND 4.0",
    page="https://doi.org/10.5683/SP2/E8H2MF",
    layout="OAF_back_angry.wav … YAF_youth_sad.wav, in one folder or in one folder per speaker and emotion, "
    "2800 recordings",
    steps="Download the files from that page.",
)


def utterances(root: Path) -> Corpus:
    """The recordings in `root` and its folders; the file name tells speaker, word and emotion.

    Raises:
        UserError: no recordings, a name that is not TESS's, or a recording in the other speaker's folder.
    """
    found = []
    for path in wav_files(root, "**/*"):
        named = path.with_stem(MISNAMED.get(path.stem, path.stem))
        speaker, word, emotion = name_parts(named, _NAME, "TESS", _EXPECTED)
        folder = path.parent.name.partition("_")[0]
        if path.parent != root and folder in SPEAKERS and folder != speaker:
            raise UserError(f"{path} is a recording of {speaker}, but lies in a folder of {folder}.")
        found.append(
            Utterance(
                path.stem,
                path,
                EMOTIONS[emotion],
                speaker,
                transcript=f"Say the word {word.lower()}.",
                sex="female",
            )
        )
    return make_corpus("TESS", found)
