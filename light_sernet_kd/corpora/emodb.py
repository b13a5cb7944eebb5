"""EMO-DB, the Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005)."""

import re
from pathlib import Path

from light_sernet_kd.corpora.reading import Findings, folders_of, no_recordings_error, recordings
from light_sernet_kd.corpora.types import Corpus, Origin, Published, Utterance, name_parts

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
PUBLISHED = Published(
    recordings=535,
    speakers=tuple(sorted(SPEAKERS)),
    emotions={
        "anger": 127,
        "boredom": 81,
        "neutral": 79,
        "happiness": 71,
        "fear": 69,
        "sadness": 62,
        "disgust": 46,
    },
)
_NAME = re.compile(rf"({'|'.join(sorted(SPEAKERS))})({'|'.join(SENTENCES)})([{''.join(EMOTIONS)}])[a-z]")
_EXPECTED = (
    f"speaker ({', '.join(sorted(SPEAKERS))}), sentence ({', '.join(SENTENCES)}), emotion letter "
    f"({' '.join(EMOTIONS)}) and a version letter, as in 03a01Fa.wav"
)


def _listed(folder: Path) -> list[Path]:
    return recordings(folder / "wav")


def _flat(folder: Path) -> list[Path]:
    return [path for path in recordings(folder) if _NAME.fullmatch(path.stem)]


def utterances(root: Path, *, skip_bad: bool = False) -> Corpus:
    """The recordings of `root/wav`; the file name tells speaker, sentence and emotion.

    Args:
        skip_bad: leave out and count what is misnamed, rather than refuse.

    Raises:
        UserError: no recordings, or names that are not EMO-DB's.
    """
    findings = Findings("EMO-DB", skip_bad)
    folders = folders_of(root, _listed, findings, flat=_flat)
    if not folders:
        raise no_recordings_error(root / "wav", root, ORIGIN.layout, _listed)
    utterances = []
    for path in [path for paths in folders.values() for path in paths]:
        with findings.of(path):
            speaker, sentence, letter = name_parts(path, _NAME, "EMO-DB", _EXPECTED)
            text, sex = SENTENCES[sentence], SPEAKERS[speaker]
            utterances.append(Utterance(path.stem, path, EMOTIONS[letter], speaker, transcript=text, sex=sex))
    return findings.corpus(utterances)
