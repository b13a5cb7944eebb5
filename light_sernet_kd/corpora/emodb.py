"""EMO-DB, the Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005)."""

import re
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import Corpus, Origin, Utterance, name_parts, repeated, wav_files

EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
SPEAKERS = {
    **dict.fromkeys(("03", "10", "11", "12", "15"), "male"),
    **dict.fromkeys(("08", "09", "13", "14", "16"), "female"),
}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
ORIGIN = Origin(
    licence="CC0 1.0 by audEERING's data card; cite Burkhardt et al., Interspeech 2005",
    page="http://emodb.bilderbar.info/docu/",
    layout="wav/03a01Fa.wav …, 535 recordings",
    archive="http://emodb.bilderbar.info/download/download.zip",
    content_hash="sha256:cca8be65dd0e048ffd0b873da4b7def7983078ade8da7279dd3f0b0496b713b9",
    steps="Unpack download.zip.",
)
_NAME = re.compile(rf"({'|'.join(sorted(SPEAKERS))})({'|'.join(SENTENCES)})([{''.join(EMOTIONS)}])[a-z]")
_EXPECTED = (
    f"speaker ({', '.join(sorted(SPEAKERS))}), sentence ({', '.join(SENTENCES)}), emotion letter "
    f"({' '.join(EMOTIONS)}) and a version letter, as in 03a01Fa.wav"
)


def utterances(root: Path) -> Corpus:
    """The recordings of `root/wav`; the file name tells speaker, sentence and emotion.

    Raises:
        UserError: no recordings, or a name that is not EMO-DB's.
    """
    folder = root / "wav"
    paths = wav_files(folder)
    if twice := repeated([path.stem for path in paths]):
        raise UserError(f"{folder} holds {', '.join(twice[:5])} as .wav and as .WAV: keep one of each.")
    found = []
    for path in paths:
        speaker, sentence, letter = name_parts(path, _NAME, "EMO-DB", _EXPECTED)
        text, sex = SENTENCES[sentence], SPEAKERS[speaker]
        found.append(Utterance(path.stem, path, EMOTIONS[letter], speaker, transcript=text, sex=sex))
    return Corpus("EMO-DB", tuple(found))
