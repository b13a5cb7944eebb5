"""IEMOCAP, the Interactive Emotional Dyadic Motion Capture database (Busso et al. 2008)."""

import re
from collections import Counter
from pathlib import Path

from light_sernet_kd.config import UserError
from light_sernet_kd.corpora import (
    SEXES,
    Corpus,
    Origin,
    Utterance,
    check_pairs,
    make_corpus,
    read_text,
    visible,
    vote_shares,
    wav_files,
)

EMOTIONS = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excitement",
    "sad": "sadness",
    "neu": "neutral",
    "fru": "frustration",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
}
LEFT_OUT = {
    "xxx": "no majority among the annotators (xxx)",
    "oth": "an emotion that has no name here (oth)",
}
TASK = ("anger", "happiness", "neutral", "sadness", "excitement=happiness")
# What annotators' lines say; None has no name here.
WORDS: dict[str, str | None] = {
    "anger": "anger",
    "happiness": "happiness",
    "excited": "excitement",
    "sadness": "sadness",
    "neutral": "neutral",
    "neutral state": "neutral",
    "frustration": "frustration",
    "fear": "fear",
    "surprise": "surprise",
    "disgust": "disgust",
    "other": None,
}
# [start - end] <tab> utterance <tab> emotion <tab> [valence, activation, dominance]
_LABEL = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t\[[\d.]+, [\d.]+, [\d.]+\]")
_DIALOG = re.compile(r"Ses0([1-5])[FM]_(?:impro|script)\w+")
_TALKER = re.compile(r"_([FM])\d{3}")
_TRANSCRIPT = re.compile(r"(\S+) \[[^\]]*\]:?\s*(.*)")

ORIGIN = Origin(
    licence="of the University of Southern California, for research; applied for",
    page="https://sail.usc.edu/iemocap/iemocap_release.htm",
    layout="Session1/sentences/wav/, Session1/dialog/EmoEvaluation/, Session1/dialog/transcriptions/ … "
    "Session5/",
    steps="Fill in the release form of that page; IEMOCAP_full_release is this folder.",
)


def utterances(root: Path) -> Corpus:
    """The utterances of `root/Session1` to `Session5` that a majority of annotators gave a named emotion.

    The talker is the letter of the last part of an id; the letter in the dialog's name is who wore the
    markers. The soft label is that of the evaluators (C-E…); what the actors said of themselves (C-F…, C-M…)
    is not in it. Excitement and happiness are apart here.

    Raises:
        UserError: no recordings, a missing file, a line that is cut off, an unknown emotion, an utterance
            without label, transcript or recording, or in a wrong folder.
    """
    dialogs: dict[tuple[str, str], dict[str, Path]] = {
        (path.parts[-4], path.stem): {} for path in visible(root, "Session*/dialog/EmoEvaluation/*.txt")
    }
    for path in wav_files(root, "Session*/sentences/wav/*/*"):
        dialogs.setdefault((path.parts[-5], path.parent.name), {})[path.stem] = path
    found = []
    left_out: Counter[str] = Counter()
    for (session, dialog), recordings in sorted(dialogs.items()):
        match = _DIALOG.fullmatch(dialog)
        if match is None or session != f"Session{match[1]}":
            raise UserError(
                f"{root / session} holds {dialog}, which is not one of its dialogs: expected names such as "
                f"Ses0{session[-1]}F_impro01."
            )
        label_file = root / session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        transcript_file = root / session / "dialog" / "transcriptions" / f"{dialog}.txt"
        labels = _labels(label_file)
        check_pairs(recordings, labels, label_file)
        transcripts = _transcripts(transcript_file)
        for name, path in recordings.items():
            talker = _TALKER.fullmatch(name.removeprefix(dialog))
            if talker is None:
                raise UserError(f"{path} lies in a wrong folder: expected {dialog}_F000.wav or the like.")
            if name not in transcripts:
                raise UserError(f"{transcript_file} has no transcript of {name}. It is cut off or damaged.")
            code, soft_label = labels[name]
            if code in LEFT_OUT:
                left_out[LEFT_OUT[code]] += 1
                continue
            found.append(
                Utterance(
                    id=name,
                    path=path,
                    emotion=EMOTIONS[code],
                    speaker=f"Ses0{match[1]}{talker[1]}",
                    session=match[1],
                    dialog=dialog,
                    transcript=transcripts[name],
                    soft_label=soft_label,
                    sex=SEXES[talker[1].lower()],
                )
            )
    return make_corpus("IEMOCAP", found, left_out)


def _labels(path: Path) -> dict[str, tuple[str, dict[str, float] | None]]:
    """Utterance → emotion code and soft label."""
    codes: dict[str, str] = {}
    votes: dict[str, list[list[str | None]]] = {}
    name = ""
    for number, line in enumerate(read_text(path, "utf-8", "latin-1").split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.startswith("["):
            match = _LABEL.fullmatch(line.strip())
            if match is None:
                raise UserError(
                    f"{where}: expected [start - end], utterance, emotion and [valence, activation, "
                    f"dominance] with tabs between them, found {line.strip()!r}. It is cut off or damaged."
                )
            name, code = match.groups()
            if code not in EMOTIONS and code not in LEFT_OUT:
                raise UserError(
                    f"{where}: unknown emotion {code!r}; expected {' '.join([*EMOTIONS, *LEFT_OUT])}."
                )
            if name in codes:
                raise UserError(f"{where}: {name} occurs twice.")
            codes[name], votes[name] = code, []
        elif line.startswith("C-E"):
            _, *fields = line.split("\t")
            if not name or not fields:
                raise UserError(f"{where}: an annotator's line that is cut off or out of place: {line!r}.")
            words = [word.strip() for word in fields[0].split(";") if word.strip()]
            if unknown := [word for word in words if word.lower() not in WORDS]:
                raise UserError(f"{where}: unknown emotion {unknown[0]!r}; expected {', '.join(WORDS)}.")
            votes[name].append([WORDS[word.lower()] for word in words])
    return {name: (codes[name], vote_shares(votes[name])) for name in codes}


def _transcripts(path: Path) -> dict[str, str]:
    """Utterance → text; lines that belong to no utterance (`M: [LAUGHTER]`) are passed over."""
    matches = map(_TRANSCRIPT.fullmatch, read_text(path, "utf-8", "latin-1").split("\n"))
    return {match[1]: match[2].strip() for match in matches if match}
