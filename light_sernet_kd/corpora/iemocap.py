"""IEMOCAP, the Interactive Emotional Dyadic Motion Capture database (Busso et al. 2008)."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from light_sernet_kd.config.dimensions import RATED
from light_sernet_kd.corpora.reading import Findings, folders_of, no_recordings_error, recordings
from light_sernet_kd.corpora.types import (
    SEXES,
    Corpus,
    Origin,
    Published,
    Utterance,
    read_text,
    visible,
    vote_shares,
)
from light_sernet_kd.errors import UserError

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
_LABEL = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]")
# Of the listeners' ratings. Means slightly beyond an end are published too, and are kept.
DIMENSION_RANGE = (1.0, 5.0)
_RATED = ("valence", "arousal", "dominance")  # in the order of a line; IEMOCAP says activation
_DIALOG = re.compile(r"Ses0([1-5])[FM]_(?:impro|script)\w+")
_TALKER = re.compile(r"_([FM])\d{3}")
_UTTERANCE = re.compile(r"Ses\d\d[FM]_\w+_[FM]\d{3}")
_TRANSCRIPT = re.compile(r"(\S+) \[[^\]]*\]:?\s*(.*)")

ORIGIN = Origin(
    licence="of the University of Southern California, for research; applied for",
    page="https://sail.usc.edu/iemocap/iemocap_release.htm",
    layout="Session1/sentences/wav/, Session1/dialog/EmoEvaluation/, Session1/dialog/transcriptions/ … "
    "Session5/",
    steps="Fill in the release form of that page; IEMOCAP_full_release is this folder.",
)


PUBLISHED = Published(
    recordings=10_039,
    speakers=tuple(f"Ses0{session}{sex}" for session in range(1, 6) for sex in "FM"),
    sessions=("1", "2", "3", "4", "5"),
    emotions={
        "neutral": 1708,
        "happiness": 595,
        "excitement": 1041,
        "anger": 1103,
        "sadness": 1084,
        "frustration": 1849,
        "surprise": 107,
        "fear": 40,
        "disgust": 2,
    },
    with_left_out=True,
)


class _Label(NamedTuple):
    """What a dialog's file says of an utterance."""

    code: str
    soft_label: dict[str, float] | None
    dimensions: dict[str, float]


def _listed(folder: Path) -> list[Path]:
    return recordings(folder, "Session*/sentences/wav/*/*")


def utterances(root: Path, *, skip_bad: bool = False, needs_emotions: bool = True) -> Corpus:
    """The utterances of `root/Session1` to `Session5` that a majority of annotators gave a named emotion.

    The talker is the letter of the last part of an id; the letter in the dialog's name is who wore the
    markers. The soft label is that of the evaluators (C-E…); what the actors said of themselves (C-F…, C-M…)
    is not in it. Excitement and happiness are apart here. An utterance whose transcript is missing has none.

    Args:
        skip_bad: leave out and count utterances and lines that are wrong, rather than refuse.
        needs_emotions: leave out utterances without a named emotion; else that of these is `RATED`.

    Raises:
        UserError: no recordings; a missing file of labels, lines that are cut off, unknown emotions,
            utterances without label or recording or in a wrong folder.
    """
    findings = Findings("IEMOCAP", skip_bad)
    folders = folders_of(root, _listed, findings)
    if not folders:
        raise no_recordings_error(root, root, ORIGIN.layout, _listed)
    root, paths = next(iter(folders.items()))
    dialogs: dict[tuple[str, str], dict[str, Path]] = {
        (path.parts[-4], path.stem): {} for path in visible(root, "Session*/dialog/EmoEvaluation/*.txt")
    }
    for path in paths:
        findings.put(dialogs.setdefault((path.parts[-5], path.parent.name), {}), path.stem, path)
    utterances: list[Utterance] = []
    left_out: Counter[str] | None = Counter() if needs_emotions else None
    for (session, dialog), wavs in sorted(dialogs.items()):
        match = _DIALOG.fullmatch(dialog)
        if match is None or session != f"Session{match[1]}":
            findings.wrong(
                f"{session}/{dialog}",
                f"{root / session} holds {dialog}, which is not one of its dialogs: expected names such as "
                f"Ses0{session[-1]}F_impro01.",
            )
            continue
        with findings.of_labels(f"{session}/{dialog}", wavs):
            utterances += _dialog(root / session / "dialog", dialog, wavs, findings, left_out)
    return replace(findings.corpus(utterances, left_out or {}), dimension_range=DIMENSION_RANGE)


def _dialog(
    folder: Path, dialog: str, wavs: dict[str, Path], findings: Findings, left_out: Counter[str] | None
) -> list[Utterance]:
    """The utterances of a dialog that have a named emotion; the others are counted in `left_out`.

    Without one the others are there too, and their emotion is `RATED`.
    """
    label_file = folder / "EmoEvaluation" / f"{dialog}.txt"
    labels = _labels(label_file, findings)
    try:
        transcripts, why = _transcripts(folder / "transcriptions" / f"{dialog}.txt"), ""
    except UserError as error:
        transcripts, why = {}, str(error)
    utterances = []
    for name in findings.pair(wavs, labels, label_file):
        path, talker = wavs[name], _TALKER.fullmatch(name.removeprefix(dialog))
        if talker is None:
            findings.wrong(name, f"{path} lies in a wrong folder: expected {dialog}_F000.wav or the like.")
            continue
        code, soft_label, dimensions = labels[name]
        if code in LEFT_OUT and left_out is not None:
            left_out[LEFT_OUT[code]] += 1
            continue
        if name not in transcripts:
            findings.untold[name] = why or f"{folder / 'transcriptions' / dialog}.txt does not have it."
        utterances.append(
            Utterance(
                id=name,
                path=path,
                emotion=EMOTIONS.get(code, RATED),
                speaker=f"{dialog[:5]}{talker[1]}",
                session=dialog[4],
                dialog=dialog,
                transcript=transcripts.get(name),
                soft_label=soft_label,
                sex=SEXES[talker[1].lower()],
                dimensions=dimensions,
            )
        )
    return utterances


def _labels(path: Path, findings: Findings) -> dict[str, _Label]:
    """Utterance → what is said of it; lines that are wrong are noted."""
    codes: dict[str, str] = {}
    dimensions: dict[str, dict[str, float]] = {}
    votes: dict[str, list[list[str | None]]] = {}
    name: str | None = ""  # None: a line on an utterance that is wrong itself
    for number, line in enumerate(read_text(path, "utf-8", "latin-1").split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.startswith("["):
            match = _LABEL.fullmatch(line.strip())
            if match is None:
                damaged = _UTTERANCE.search(line)
                findings.wrong(
                    damaged[0] if damaged else where,
                    f"{where}: expected [start - end], utterance, emotion and [valence, activation, "
                    f"dominance] with tabs between them, found {line.strip()!r}. It is cut off or damaged.",
                )
                name = None
                continue
            name, code, *ratings = match.groups()
            if code not in EMOTIONS and code not in LEFT_OUT:
                known = " ".join([*EMOTIONS, *LEFT_OUT])
                findings.wrong(name, f"{where}: unknown emotion {code!r}; expected {known}.")
                name = None
            elif name in codes:
                findings.wrong(name, f"{where}: {name} occurs twice.")
                name = None
            else:
                codes[name], votes[name] = code, []
                dimensions[name] = _ratings(ratings)
        elif line.startswith("C-E") and name is not None:
            _, *fields = line.split("\t")
            if not name or not fields:
                reason = f"an annotator's line that is cut off or out of place: {line!r}."
                findings.wrong(name or where, f"{where}: {reason}")
                continue
            words = [word.strip() for word in fields[0].split(";") if word.strip()]
            if unknown := [word for word in words if word.lower() not in WORDS]:
                reason = f"unknown emotion {unknown[0]!r}; expected {', '.join(WORDS)}."
                findings.wrong(name, f"{where}: {reason}")
                continue
            votes[name].append([WORDS[word.lower()] for word in words])
    return {
        name: _Label(codes[name], vote_shares(votes[name]), dimensions[name])
        for name in codes
        if name not in findings.bad
    }


def _ratings(texts: list[str]) -> dict[str, float]:
    """Dimension → the listeners' mean; without what is no number, such as 2.5.0."""
    ratings = {}
    for name, text in zip(_RATED, texts, strict=True):
        try:
            ratings[name] = float(text)
        except ValueError:
            continue
    return ratings


def _transcripts(path: Path) -> dict[str, str]:
    """Utterance → text; lines that belong to no utterance (`M: [LAUGHTER]`) are passed over."""
    matches = map(_TRANSCRIPT.fullmatch, read_text(path, "utf-8", "latin-1").split("\n"))
    return {match[1]: match[2].strip() for match in matches if match}
