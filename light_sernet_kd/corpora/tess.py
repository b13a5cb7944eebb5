"""TESS, the Toronto Emotional Speech Set (Pichora-Fuller and Dupuis 2010).

In the published set two files are AIFF despite their name and one is sampled at 96 kHz; they are read by
content.
"""

import re
from pathlib import Path

from light_sernet_kd.corpora.reading import Findings, no_recordings_error, tree
from light_sernet_kd.corpora.types import Corpus, Origin, Published, Utterance, name_parts

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


PUBLISHED = Published(recordings=2800, speakers=SPEAKERS, emotions=dict.fromkeys(EMOTIONS.values(), 400))


def utterances(root: Path, *, skip_bad: bool = False) -> Corpus:
    """The recordings in `root` and its folders; the file name tells speaker, word and emotion.

    Args:
        skip_bad: leave out and count what is misnamed, in a wrong folder or there twice, rather than refuse.

    Raises:
        UserError: no recordings, names that are not TESS's, recordings in the other speaker's folder or
            there twice.
    """
    findings = Findings("TESS", skip_bad)
    paths = tree(root)
    if not paths:
        raise no_recordings_error(root, root, ORIGIN.layout, lambda folder: list(folder.glob("[OY]AF_*")))
    utterances = []
    for path in paths:
        named = path.with_stem(MISNAMED.get(path.stem, path.stem))
        with findings.of(path):
            speaker, word, emotion = name_parts(named, _NAME, "TESS", _EXPECTED)
            folder = path.parent.name.partition("_")[0]
            if path.parent != root and folder in SPEAKERS and folder != speaker:
                reason = f"{path} is a recording of {speaker}, but lies in a folder of {folder}."
                findings.wrong(path, reason)
                continue
            text = f"Say the word {word.lower()}."
            utterances.append(
                Utterance(path.stem, path, EMOTIONS[emotion], speaker, transcript=text, sex="female")
            )
    if misnamed := sorted({each.id for each in utterances} & set(MISNAMED)):
        findings.notes.append(
            f"{misnamed[0]} is read as {MISNAMED[misnamed[0]]}: it is so named as published"
        )
    return findings.corpus(utterances)
