"""Tables as people write them: read, or refused with the cause; never anything else."""

import random
import time
from pathlib import Path

import corpus_trees
import pytest
from corpus_trees import put, tone

from light_sernet_kd import cli
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.corpora import Corpus, manifest, registry
from light_sernet_kd.errors import UserError


def read(folder: Path, text: str | bytes, **chosen) -> Corpus:
    return manifest.utterances(put(folder / "list.csv", text), **chosen)


def refusal(folder: Path, text: str | bytes, **chosen) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, text, **chosen)
    return str(caught.value).removeprefix(f"{folder / 'list.csv'}")


# Columns

NEMO = "file_id,emotion,raw_text,normalized_text,speaker_id,gender\nA_1,surprised,Ty jesteś!,ty,ada,Female\n"


def test_the_table_of_nemo_is_read_as_it_is(tmp_path):
    put(tmp_path / "samples" / "A_1.wav")
    (only,) = read(tmp_path, NEMO).utterances
    assert (only.id, only.path) == ("A_1", tmp_path / "samples" / "A_1.wav")
    assert (only.speaker, only.emotion, only.transcript, only.sex) == (
        "ada",
        "surprised",
        "Ty jesteś!",
        "female",
    )


@pytest.mark.parametrize(
    "header",
    [
        "file,label,spk",
        "FileName,Emotion,Speaker",
        "wav,EMOTION,speaker_id",
        "audio,label,actor",
        "Path,emo,SPK",
    ],
)
def test_common_names_of_columns_are_known_in_any_case(tmp_path, header):
    (only,) = read(tmp_path, f"{header}\na.wav,fear,s1\n").utterances
    assert (only.path.name, only.emotion, only.speaker) == ("a.wav", "fear", "s1")


def test_columns_says_what_is_what(tmp_path):
    text = "which,what,who,words,kind\na.wav,fear,s1,Ja.,m\n"
    columns = ("path=which", "emotion=what", "speaker=WHO", "transcript = words", "sex=kind")
    (only,) = read(tmp_path, text, columns=columns).utterances
    assert (only.path.name, only.emotion, only.speaker) == ("a.wav", "fear", "s1")
    assert (only.transcript, only.sex) == ("Ja.", "male")
    # a column of its own name gives way to the one that was asked for
    (only,) = read(
        tmp_path, "path,file,emotion,speaker\na.wav,b.wav,fear,s1\n", columns=["path=file"]
    ).utterances
    assert only.path.name == "b.wav"
    (only,) = read(
        tmp_path, "file_id,emotion,speaker\na,fear,s1\n", columns=["id=file_id", "path=file_id"]
    ).utterances
    assert only.id == "a"


def test_what_may_be_two_columns_is_asked_for(tmp_path):
    assert refusal(tmp_path, "file,wav,emotion,speaker\na,b,fear,s\n") == (
        ": path may be the column file or wav: say which, such as --columns path=file."
    )
    # the column's own name leaves no doubt
    (only,) = read(tmp_path, "path,file,emotion,speaker\na.wav,b.wav,fear,s\n").utterances
    assert only.path.name == "a.wav"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["path=nowhere"], "there is no column nowhere for path; found path,emotion,speaker."),
        (["path"], "expected a column such as path=file_id, found 'path'."),
        (["pth=path"], "unknown role of a column 'pth'. Did you mean path?"),
        (["path=a", "path=b"], "--columns names two columns for path: a and b."),
    ],
)
def test_a_wrong_option_is_told(tmp_path, columns, told):
    assert told in refusal(tmp_path, "path,emotion,speaker\na.wav,fear,s\n", columns=columns)


def test_the_option_is_a_setting_of_every_command(tmp_path):
    parser = cli.make_parser()
    option = ["--columns", "path=file_id,speaker=speaker_id"]
    for command in (["prepare", "x"], ["audit", "x"], ["stress", "x"], ["benchmark", "x"]):
        assert parser.parse_args([*command, *option]).columns == ("path=file_id", "speaker=speaker_id")
    table = put(tmp_path / "t.csv", "file_id,emotion,who\n" + "".join(f"{n},fear,s{n}\n" for n in range(2)))
    parsed = parser.parse_args(["train", "-dn", str(table), "--columns", "speaker=who"])
    settings = settings_of(parsed, {})
    assert settings.as_dict()["columns"] == ["speaker=who"]
    assert settings.protocol == "two_speakers"
    assert len(registry.load(str(table), tmp_path, columns=settings.columns).utterances) == 2
    with pytest.raises(UserError, match="--columns says what the columns of a manifest are"):
        registry.load("EMO-DB", tmp_path, columns=settings.columns)


def test_the_second_table_has_the_columns_it_has(tmp_path):
    first = put(tmp_path / "a.csv", "f,emotion,speaker\na.wav,fear,s\nb.wav,joy,s\n")
    second = put(tmp_path / "b.csv", "path,emotion,speaker\na.wav,fear,s\nb.wav,joy,s\n")
    assert len(registry.load(str(first), tmp_path, test_on=str(second), columns=["path=f"]).utterances) == 4


# Paths


def test_a_name_without_a_suffix_finds_its_recording(tmp_path):
    for place in ("a.flac", "wav/b.wav"):
        put(tmp_path / place)
    text = "path,emotion,speaker\na,fear,s1\n"
    assert read(tmp_path, text).utterances[0].path == tmp_path / "a.flac"
    assert read(tmp_path, text.replace("a,", "b,")).utterances[0].path == tmp_path / "wav" / "b.wav"
    assert read(tmp_path, text.replace("a,", "c,")).utterances[0].path == tmp_path / "c"
    put(tmp_path / "a.mp3")
    assert refusal(tmp_path, text) == (
        ", line 2: the path a may be a.flac or a.mp3: name one with its suffix. Mend it, or leave it out "
        "with --skip-bad."
    )


def test_paths_of_windows_are_read_or_told(tmp_path):
    put(tmp_path / "wav" / "a.wav")
    (only,) = read(tmp_path, "path,emotion,speaker\nwav\\a.wav,fear,s1\n").utterances
    assert (only.id, only.path) == ("wav/a", tmp_path / "wav" / "a.wav")
    told = refusal(tmp_path, "path,emotion,speaker\nC:\\data\\a.wav,fear,s1\n")
    assert told.startswith(
        ", line 2: the path C:\\data\\a.wav is one of Windows: make it relative to the table."
    )


# Quotes, delimiters, encodings


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('path,emotion,speaker\na.wav,fear,s\nb.wav,"fear,s\nc.wav,fear,s\n', ", line 3: a cell opens a"),
        ('path,emotion,speaker\na.wav,fear,"s\nb.wav,"fear",s\n', ", line 2 to 3: a quote (\") stands"),
        ('path,emotion,speaker\na.wav,fear,s "x"\nb.wav,"x"y,s\n', ", line 3: a quote (\") stands inside"),
        (
            'path,emotion,speaker\na.wav,fear,s\nb.wav,"fear,s\nc.wav",fear,s\nd.wav,fear\n',
            ", line 5: 2 cells, but the header has 3.",
        ),
        (
            'path,emotion,speaker\nb.wav,"fear,s\nc.wav",s,fear\n',
            ", line 3: 4 cells, but the header has 3. A cell of it spans several lines: is its quote (\") cl",
        ),
        ("sep=x\npath,emotion,speaker\n", ", line 1: 'x' is no delimiter; expected sep=; or sep=,."),
    ],
    ids=["open", "open before another", "inside", "swallowed", "spans", "sep"],
)  # fmt: skip
def test_the_cause_is_told_with_its_line(tmp_path, text, told):
    assert told in refusal(tmp_path, text)


def test_a_quote_that_swallows_the_rest_of_a_long_table_is_told_with_its_first_line(tmp_path):
    rows = "".join(f"{n}.wav,fear,s\n" for n in range(20_000))
    told = refusal(tmp_path, f'path,emotion,speaker\na.wav,fear,"s\n{rows}')
    assert told == ', line 2: a cell opens a quote (") that is not closed.'


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
def test_excels_first_line_names_the_delimiter(tmp_path, delimiter):
    text = f"sep={delimiter}\r\n" + "\r\n".join(["path,emotion,speaker", "a.wav,,s"]).replace(",", delimiter)
    assert refusal(tmp_path, text).startswith(", line 3: the emotion is empty.")


def test_utf_16_is_read(tmp_path):
    text = "path,emotion,speaker\na.wav,fear,Jürgen\n"
    assert read(tmp_path, text.encode("utf-16")).speakers == ("Jürgen",)
    assert " is not UTF-16 text (" in refusal(tmp_path, text.encode("utf-16") + b"\n")


def test_decimal_commas_are_points_and_said(tmp_path):
    corpus = read(tmp_path, "path;emotion;speaker;fear;anger\na.wav;fear;s;0,75;,25\n")
    assert corpus.utterances[0].soft_label == {"fear": 0.75, "anger": 0.25}
    assert "decimal commas in the shares are read as points" in corpus.reported()
    assert "must be a number from 0 on, found 1,2,3." in refusal(
        tmp_path, "path;emotion;speaker;fear\na.wav;fear;s;1,2,3\n"
    )


def test_shares_of_more_values_than_a_chunk_has_rows_are_all_read(tmp_path):
    rows = "".join(f"{n}.wav,fear,s,{n / 50_000:.6f},note {n}\n" for n in range(40_000))
    corpus = read(tmp_path, f"path,emotion,speaker,fear,notes\n{rows}")
    assert len({each.soft_label["fear"] for each in corpus.utterances}) == 40_000


def test_a_pipe_or_a_device_is_no_table(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        with pytest.raises(UserError, match="not a regular file"):
            manifest.utterances(path)


def test_equal_rows_of_a_long_table_cost_little(tmp_path):
    rows = "".join(f"wav/{n}.wav,fear,s{n % 50},u{n:06},0.5,0.5\n" for n in range(50_000))
    started = time.process_time()
    corpus = read(tmp_path, f"path,emotion,speaker,id,fear,anger\n{rows}")
    assert time.process_time() - started < 5
    assert corpus.utterances[0].soft_label is corpus.utterances[1].soft_label
    assert corpus.utterances[7].path == tmp_path / "wav" / "7.wav"


# A campaign: whatever is done to a table or a label file, a corpus or one error comes of it

MANIFEST = (
    "path,emotion,speaker,id,session,transcript,split,sex,fear,anger\n"
    'a.wav,fear,anna,u1,1,"Ja, gut.",train,f,0.75,0.25\n'
    "b.flac,anger,ben,u2,1,Nein.,test,m,0.1,0.9\n"
    "sub/c.mp3,fear,cleo,u3,2,,train,,1,\n"
    'd.wav,neutral,dora,u4,2,"Er sagte ""so"".",train,F,,\n'
)
PIECES = [
    *('"', '""', ",", ";", "\t", "|", "\n", "\r", "\r\n", "\0", "\ufeff", "\\", "/", "..", "=", "sep=;\n"),
    *(
        "1e308",
        "nan",
        "-1",
        "0,5",
        "é",
        "e\u0301",
        "\u200b",
        "\u2028",
        " ",
        "화자",
        "\ud7a3",
        "unsure",
        "path",
    ),
]


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with one to four changes: bytes flipped, cut, repeated, or pieces put in."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at, upto = sorted(draw.randrange(len(changed) + 1) for _ in range(2))
        kind = draw.randrange(6)
        if kind == 0 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del changed[at : min(upto, at + 40)]
        elif kind == 2:
            changed[at:at] = changed[at : min(upto, at + 200)]
        elif kind == 3:
            del changed[at:]
        else:
            changed[at:at] = draw.choice(PIECES).encode()
    return bytes(changed)


def check(read_corpus, what: str) -> int:
    """1 if a corpus was read, 0 if one error in words came."""
    try:
        corpus, told = read_corpus(), ""
    except UserError as error:
        corpus, told = None, str(error)
    if corpus is None:
        assert told.strip(), what
        assert told.count("\n  ") <= 22, what
        return 0
    ids = [each.id for each in corpus.utterances]
    assert ids == sorted(set(ids)), what
    assert all(each.speaker and each.emotion and each.path.name for each in corpus.utterances), what
    corpus.reported()
    return 1


def campaign_of_manifests(folder: Path, seeds: range) -> int:
    path = folder / "list.csv"
    good = 0
    for seed in seeds:
        draw = random.Random(seed)
        encoding = draw.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"])
        path.write_bytes(mutated(MANIFEST.encode(encoding), draw))
        skip_bad = bool(seed % 2)
        good += check(lambda skip=skip_bad: registry.load(str(path), folder, skip_bad=skip), f"seed {seed}")
    return good


def test_a_damaged_manifest_is_a_corpus_or_an_error_and_nothing_else(tmp_path):
    good = campaign_of_manifests(tmp_path, range(400))
    assert 40 < good < 360


LABEL_FILES = {
    "IEMOCAP": "Session1/dialog/*/Ses01F_impro01.txt",
    "ESD": "0011/0011.txt",
    "CREMA-D": "processedResults/*.csv",
    "KEMDy19": "annotation/Session03_*.csv",
    "KEMDy20": "annotation/Sess01_eval.csv",
}


def campaign_of_labels(folder: Path, name: str, seeds: range) -> int:
    root = corpus_trees.TREES[name](folder / name)
    files = sorted(path for path in root.glob(LABEL_FILES[name]) if path.name[0] != ".")
    whole = {path: path.read_bytes() for path in files}
    good = 0
    source = registry.CORPORA[name]
    for seed in seeds:
        draw = random.Random(seed)
        path = draw.choice(files)
        path.write_bytes(mutated(whole[path], draw))
        skip_bad = bool(seed % 2)
        good += check(lambda skip=skip_bad: source.utterances(root, skip_bad=skip), f"{name}, seed {seed}")
        path.write_bytes(whole[path])
    return good


@pytest.mark.parametrize("name", LABEL_FILES)
def test_a_damaged_label_file_is_a_corpus_or_an_error_and_nothing_else(tmp_path, name):
    assert campaign_of_labels(tmp_path, name, range(60)) >= 15


@pytest.mark.every
def test_many_damaged_tables_are_corpora_or_errors_and_nothing_else(tmp_path):
    campaign_of_manifests(tmp_path, range(1000, 9000))
    for name in LABEL_FILES:
        campaign_of_labels(tmp_path, name, range(1000, 2000))


def test_a_manifests_recordings_are_read_whatever_their_suffix(tmp_path):
    put(tmp_path / "a.aiff", tone(kind="AIFF"))
    (only,) = read(tmp_path, "file,emotion,spk\na,fear,s\n").utterances
    assert only.path == tmp_path / "a.aiff"


@pytest.mark.parametrize("letter", ["a", "é"])
def test_a_name_longer_than_a_disk_takes_is_no_fault_of_the_table(tmp_path, letter):
    (only,) = read(tmp_path, f"path,emotion,speaker\n{letter * 300},fear,s\n").utterances
    assert only.path.name == letter * 300
