"""Small trees in each corpus's own format, written from its documentation and not by the code under test."""

import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile


def put(path: Path, content: str | bytes = b"", *, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def tone(
    sample_rate: int = 16_000,
    *,
    level: float = 0.25,
    channels: int = 1,
    kind: str = "WAV",
    seconds: float = 0.5,
) -> bytes:
    """A recording of 440 Hz, as a file's content."""
    wave = level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * sample_rate)) / sample_rate)
    file = io.BytesIO()
    soundfile.write(file, np.stack([wave] * channels, axis=1), sample_rate, format=kind)
    return file.getvalue()


# IEMOCAP

WORD = {"ang": "Anger", "hap": "Happiness", "exc": "Excited", "sad": "Sadness", "neu": "Neutral",
        "fru": "Frustration", "fea": "Fear", "sur": "Surprise", "dis": "Disgust",
        "oth": "Other", "xxx": "Neutral; Anger"}  # fmt: skip


def iemocap_label(name: str, code: str, annotators: Sequence[str] | None = None) -> str:
    lines = [f"[6.2901 - 8.2357]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]"]
    for number, words in enumerate([WORD[code]] * 3 if annotators is None else annotators, start=2):
        lines.append(f"C-E{number}:\t{words};\t()")
    lines += [
        "C-F1:\tFear;\t(curious)",
        "A-E3:\tval 3; act 2; dom  2;\t()",
        "A-F1:\tval 3; act 2; dom  1;\t()",
    ]
    return "\n".join(lines) + "\n\n"


def iemocap_dialog(root: Path, dialog: str, utterances: Mapping[str, str]) -> None:
    """Writes a dialog; `utterances` maps the last part of an id (F000) to its emotion code."""
    session = root / f"Session{dialog[4]}"
    text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    lines = ["M: [LAUGHTER]"]
    for last, code in utterances.items():
        name = f"{dialog}_{last}"
        put(session / "sentences" / "wav" / dialog / f"{name}.wav")
        text += iemocap_label(name, code)
        lines.append(f"{name} [006.2901-008.2357]: Said in {name}.")
    put(session / "dialog" / "EmoEvaluation" / f"{dialog}.txt", text)
    put(session / "dialog" / "transcriptions" / f"{dialog}.txt", "\n".join(lines) + "\n")


def iemocap(root: Path) -> Path:
    every = dict(zip((f"{'FM'[n % 2]}{n:03}" for n in range(11)), WORD, strict=True))
    for session in (2, 1):
        iemocap_dialog(root, f"Ses0{session}F_impro01", every)
        iemocap_dialog(root, f"Ses0{session}M_script01_1b", {"F000": "exc", "M000": "hap", "M001": "sad"})
    # What a Mac leaves beside files on disks of other systems.
    put(root / "Session1/sentences/wav/Ses01F_impro01/._Ses01F_impro01_F000.wav", b"\0\5\x16\7")
    put(root / "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt", b"\0\5\x16\7")
    put(root / "Session1/dialog/transcriptions/._Ses01F_impro01.txt", b"\0\5\x16\7")
    put(root / "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt", "ignored")
    return root


# KEMDy19 and KEMDy20


def kemdy_table(rows: Iterable[tuple[str, str, Sequence[str]]], *, bio: bool) -> str:
    """A table of labels; rows are segment, total evaluation and the evaluators' words."""
    rows = list(rows)
    evaluators = max((len(words) for _, _, words in rows), default=10)
    times = ["WAV", ""] + (["ECG", "", "E4-EDA", "", "E4-TEMP", ""] if bio else [])
    first = ["Numb", *times, "Segment ID", "Total Evaluation", " ", " "]
    second = ["", *["start", "end"] * (len(times) // 2), "", "Emotion", "Valence", "Arousal"]
    for number in range(1, evaluators + 1):
        first += [f"Eval{number:02}F", "", ""]
        second += ["Emotion", "Valence", "Arousal"]
    lines = [first, second]
    for number, (segment, total, words) in enumerate(rows, start=1):
        # the times of some rows are blank
        cells = [str(number), *(["", ""] if number == 2 else ["1.5", "2.5"]) * (len(times) // 2), segment]
        cells += [total, "3.1", "3.2"]
        for word in words:
            cells += [word, "3", "3"]
        lines.append(cells)
    return "\n".join(map(",".join, lines)) + "\n"


KOREAN = ("neutral", "happy", "surprise", "angry", "sad", "disgust", "fear")


def kemdy_rows(segments: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    rows = []
    for number, segment in enumerate(segments):
        word = KOREAN[number % 7]
        rows.append((segment, word, [word] * 7 + ["neutral"] * 3))
    return rows


KEMDY19_TEXTS = {
    # two talkers at once, and a tag the other way round
    "Sess03_impro02_F001": "그래 (맞아+아니) 좋아\n",
    "Sess03_impro02_M001": "아니 /n 왜\n",
}


def kemdy19_as_published(root: Path) -> None:
    """Session 3 with the slips that it is published with: an id twice in the F table, a misnamed text."""
    segments = ["Sess03_impro02_F001", "Sess03_impro02_M001", "Sess03_script04_F014", "Sess03_script04_M016"]
    for segment in segments:
        wav = put(root / "wav" / "Session03" / segment.rpartition("_")[0] / f"{segment}.wav")
        text = wav.with_name("Sess03_script04_M015.txt" if segment.endswith("M016") else f"{segment}.txt")
        put(text, KEMDY19_TEXTS.get(segment, f"n/ {segment} 안녕하세요. b/\n"))
    table = kemdy_table(kemdy_rows(segments), bio=True)
    put(root / "annotation" / "Session03_M_res.csv", table)
    slip = table.replace("Sess03_impro02_F001", "Sess03_impro02_M001")
    put(root / "annotation" / "Session03_F_res.csv", slip)


def kemdy19(root: Path) -> Path:
    kemdy19_as_published(root)
    for session in ("02", "01"):
        segments = [
            f"Sess{session}_{scene}_{talker}{number:03}"
            for scene, talker, number in itertools.product(("impro01", "script01"), "FM", range(1, 8))
        ]
        for segment in segments:
            scene = segment.rpartition("_")[0]
            wav = put(root / "wav" / f"Session{session}" / scene / f"{segment}.wav")
            put(wav.with_suffix(".txt"), f"n/ {segment} 안녕하세요. b/\n")
        for talker in "FM":
            table = kemdy_table(kemdy_rows(segments), bio=True)
            put(root / "annotation" / f"Session{session}_{talker}_res.csv", table)
    return root


def kemdy20(root: Path) -> Path:
    for session, users in (("02", ("003F", "004M")), ("01", ("001F", "002M"))):
        segments = [
            f"Sess{session}_script0{scene}_User{user}_{number:03}"
            for scene, user, number in itertools.product((1, 2), users, range(1, 8))
        ]
        for segment in segments:
            wav = put(root / "wav" / f"Session{session}" / f"{segment}.wav")
            put(wav.with_suffix(".txt"), f"l/ {segment} 그래요.\n", encoding="cp949")
        table = kemdy_table(kemdy_rows(segments), bio=False)
        # as some tables spell it
        put(root / "annotation" / f"Sess{session}_eval.csv", table.replace("disgust", "disqust", 1))
    return root


# ESD

ESD_WORDS = ("Angry", "Happy", "Neutral", "Sad", "Surprise")


def esd(root: Path) -> Path:
    encodings = {"0011": "utf-8", "0012": "utf-16", "0016": "latin-1"}
    for speaker, encoding in encodings.items():
        lines = []
        for number, word in enumerate(ESD_WORDS * 2, start=1):
            name = f"{speaker}_{number:06}"
            part = ("", "train", "evaluation", "test")[number % 4] if speaker == "0011" else ""
            put(root / speaker / word / part / f"{name}.wav")
            lines.append(f"{name}\tIt was café number {number}.\t{word}")
        put(root / speaker / f"{speaker}.txt", "\r\n".join(lines) + "\r\n\r\n", encoding=encoding)
    put(root / "0001" / "Angry" / "0001_000351.wav")
    put(root / "0001" / "0001.txt", "0001_000351\t打远一看\t生气\n", encoding="gb2312")
    put(root / "ReadMe.txt", "")
    return root


# Corpora whose file names tell all


def ravdess(root: Path) -> Path:
    for actor, emotion in itertools.product(("12", "01"), range(1, 9)):
        for channel in ("01", "02") if emotion < 7 else ("01",):
            put(root / f"Actor_{actor}" / f"03-{channel}-{emotion:02}-01-02-01-{actor}.wav")
    # as published: some are stereo, some very quiet, two of one actor are one recording
    folder = root / "Actor_01"
    put(folder / "03-01-05-01-02-01-01.wav", tone(48_000, channels=2))
    put(folder / "03-01-02-01-02-01-01.wav", tone(48_000, level=10 ** (-55 / 20)))
    for repetition in ("01", "02"):
        put(folder / f"03-01-03-01-02-{repetition}-01.wav", tone(48_000))
    return root


CREMA_D_HEADER = '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"'


def crema_d(root: Path) -> Path:
    clips = [f"{speaker}_DFA_{emotion}_XX" for speaker in (1002, 1001)
             for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")]  # fmt: skip
    for clip in clips:
        put(root / "AudioWAV" / f"{clip}.wav")
    put(root / "AudioWAV" / "1040_ITH_SAD_X.wav")  # so named in the release
    lines = [CREMA_D_HEADER]
    for number, clip in enumerate([*clips, "1040_ITH_SAD_XX", "1006_TIE_NEU_XX"], start=1):
        lines.append(f'"{100000 + number}",6,2,0,0,2,0,"{clip}",10,0.6,"A"')
        lines.append(f'"{200000 + number}",0,0,0,0,9,0,"{clip}",9,1,"N"')
        lines.append(f'"{300000 + number}",0,0,0,0,0,8,"{clip}",8,1,"S"')
    put(root / "processedResults" / "tabulatedVotes.csv", "\n".join(lines) + "\n")
    return root


def tess(root: Path) -> Path:
    emotions = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
    for speaker, emotion in itertools.product(("YAF", "OAF"), emotions):
        folder = root / f"{speaker}_{'Pleasant_surprise' if emotion == 'ps' else emotion}"
        put(folder / f"{speaker}_back_{emotion}.wav")
    put(root / "OAF_neutral" / "OA_bite_neutral.wav")  # so named in the release
    put(root / "YAF_angry" / "YAF_back_angry.wav", tone(24_414, kind="AIFF"))  # AIFF despite its name
    put(root / "OAF_sad" / "OAF_back_sad.wav", tone(96_000))
    return root


@dataclass(frozen=True)
class Tree:
    """A corpus's tree, and what its documentation tells of every recording in it.

    Attributes:
        make: writes it into a folder, which is returned.
        sex: of a speaker, by name.
        transcripts, dialogs, soft_labels: whether each recording has one; with a dialog goes a session.
    """

    make: Callable[[Path], Path]
    sex: Callable[[str], str | None] = lambda speaker: None
    transcripts: bool = True
    dialogs: bool = False
    soft_labels: bool = False

    def __call__(self, root: Path) -> Path:
        return self.make(root)


def last_letter(speaker: str) -> str:
    return {"F": "female", "M": "male"}[speaker[-1]]


TREES = {
    "IEMOCAP": Tree(iemocap, last_letter, dialogs=True, soft_labels=True),
    "RAVDESS": Tree(ravdess, lambda speaker: ("female", "male")[int(speaker) % 2]),
    "CREMA-D": Tree(crema_d, soft_labels=True),  # its table of actors, which tells their sex, is not there
    "TESS": Tree(tess, lambda speaker: "female"),  # two women
    "ESD": Tree(esd, lambda speaker: "female" if 15 <= int(speaker) <= 19 else "male"),
    "KEMDy19": Tree(kemdy19, last_letter, dialogs=True, soft_labels=True),
    "KEMDy20": Tree(kemdy20, last_letter, dialogs=True, soft_labels=True),
}


def sound(path: Path, number: int) -> None:
    """Noise as the corpora have it: some at 48 kHz, some with two channels, one AIFF that is named .wav."""
    rate, channels = ((16_000, 1), (48_000, 1), (48_000, 2))[number % 3]
    samples = np.random.default_rng(number).normal(0, 0.1, (rate, channels))
    soundfile.write(path, samples, rate, format="AIFF" if number == 4 else "WAV", subtype="PCM_16")
