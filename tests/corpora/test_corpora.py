"""Corpora: what a folder or a manifest says is what the utterances hold; what it says wrongly is refused."""

import gc
import hashlib
import math
import sys
import time
import types
import warnings
from collections import Counter
from pathlib import Path

import corpus_trees
import numpy as np
import pytest
from conftest import REPOSITORY

from light_sernet_kd import cli
from light_sernet_kd.cli.options import corpus_names
from light_sernet_kd.corpora import (
    CANONICAL_EMOTIONS,
    Corpus,
    Utterance,
    across,
    class_indices,
    demo,
    emodb,
    manifest,
    registry,
    shares_among,
    soft_labels,
)
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.corpora import CORPORA, CorpusSource
from light_sernet_kd.registries.lazy import Lazy

# EMO-DB


@pytest.fixture(scope="module")
def real(shared_data) -> Corpus:
    return registry.load("EMO-DB", shared_data)


def emo_db_tree(data: Path, *names: str) -> Path:
    """A folder in EMO-DB's format; returns its root."""
    folder = data / "EMO-DB" / "wav"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder.parent


def test_emo_db_has_the_published_counts(real):
    letters = Counter(utterance.path.name[5] for utterance in real.utterances)
    assert letters == {"W": 127, "L": 81, "N": 79, "F": 71, "A": 69, "T": 62, "E": 46}
    assert Counter(utterance.emotion for utterance in real.utterances) == {
        "anger": 127, "boredom": 81, "neutral": 79, "happiness": 71, "fear": 69, "sadness": 62, "disgust": 46,
    }  # fmt: skip
    assert real.classes == ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")


def test_emo_db_has_ten_speakers(real):
    assert real.speakers == ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    assert Counter(utterance.speaker for utterance in real.utterances) == {
        "03": 49, "08": 58, "09": 43, "10": 38, "11": 55, "12": 35, "13": 61, "14": 69, "15": 56, "16": 71,
    }  # fmt: skip


def test_emo_db_leaves_nothing_out_and_is_real(real):
    assert real.name == "EMO-DB"
    assert real.left_out == {}
    assert not real.synthetic


def test_the_recordings_of_emo_db_are_the_ones_its_checksums_name(real, shared_data):
    lines = (shared_data / "EMO-DB" / "SHA256SUMS").read_text().splitlines()
    sums = {Path(name.lstrip("*")).stem: digest for digest, name in (line.split() for line in lines)}
    for utterance in real.utterances[::50]:
        assert hashlib.sha256(utterance.path.read_bytes()).hexdigest() == sums[utterance.id]


def test_each_sentence_of_emo_db_has_its_transcript(real):
    by_code = {utterance.id[2:5]: utterance.transcript for utterance in real.utterances}
    assert by_code["a01"] == "Der Lappen liegt auf dem Eisschrank."
    assert by_code["a05"] == "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück."
    assert by_code["b10"] == "Die wird auf dem Platz sein, wo wir sie immer hinlegen."
    assert len(set(by_code.values())) == 10
    assert {code for code, text in by_code.items() if not text.isascii()} == {"a04", "a05", "b01"}
    assert all(utterance.transcript == by_code[utterance.id[2:5]] for utterance in real.utterances)


def test_the_name_of_a_recording_of_emo_db_tells_all(tmp_path):
    root = emo_db_tree(tmp_path, "16b10Lb.wav")
    assert emodb.utterances(root).utterances == (
        Utterance(
            id="16b10Lb",
            path=root / "wav" / "16b10Lb.wav",
            emotion="boredom",
            speaker="16",
            transcript="Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
            sex="female",
        ),
    )


def test_a_suffix_in_capitals_is_read_too(tmp_path):
    root = emo_db_tree(tmp_path, "03a01Fa.WAV", "08a01Na.wav")
    assert [utterance.id for utterance in emodb.utterances(root).utterances] == ["03a01Fa", "08a01Na"]


def test_hidden_files_and_files_that_are_no_recordings_are_passed_over(tmp_path):
    # A Mac leaves ._x.wav beside x.wav on disks of other systems.
    root = emo_db_tree(tmp_path, "._03a01Fa.wav", ".DS_Store", "03a01Fa.wav", "03a01Fa.lab", "readme.txt")
    assert [utterance.id for utterance in emodb.utterances(root).utterances] == ["03a01Fa"]


def test_one_recording_under_two_names_is_refused(tmp_path):
    root = emo_db_tree(tmp_path, "03a01Fa.wav", "03a01Fa.WAV")
    if len(list((root / "wav").iterdir())) < 2:
        pytest.skip("this file system does not tell capitals apart")
    with pytest.raises(UserError, match=r"03a01Fa\.WAV and .*03a01Fa\.wav are one recording: keep one"):
        emodb.utterances(root)


@pytest.mark.parametrize("made", ["nothing", "an empty wav folder", "no recording", "a file called wav"])
def test_where_there_are_no_recordings_the_error_says_where_they_were_looked_for(tmp_path, made):
    root = tmp_path / "EMO-DB"
    if made == "an empty wav folder":
        emo_db_tree(tmp_path)
    elif made == "no recording":
        emo_db_tree(tmp_path, "readme.txt", "._03a01Fa.wav")
    elif made == "a file called wav":
        root.mkdir()
        (root / "wav").write_text("")
    with pytest.raises(UserError) as caught:
        emodb.utterances(root)
    there = f" Found in {root}: the folder wav; expected wav/03a01Fa.wav …, 535 recordings."
    if made == "a file called wav":
        there = there.replace("the folder wav", "1 file such as wav")
    assert str(caught.value) == (
        f"no recordings in {root / 'wav'}.{there if made != 'nothing' else ''} "
        f"`light-sernet-kd fetch {root.name}` downloads the corpus or says where to get it; "
        "-dn demo needs none."
    )


@pytest.mark.parametrize(
    "name",
    [
        "03a01Xa.wav",  # no such emotion
        "04a01Fa.wav",  # no such speaker
        "03a03Fa.wav",  # no such sentence
        "03a01F.wav",  # no version
        "03a01Faa.wav",
        "x03a01Fa.wav",
        "03a01fa.wav",
        "03-01-06-01-02-01-12.wav",  # RAVDESS
    ],
)
def test_a_name_that_is_not_emo_dbs_is_refused_with_the_file_and_the_format(tmp_path, name):
    root = emo_db_tree(tmp_path, "08a01Fa.wav", name)
    with pytest.raises(UserError) as caught:
        emodb.utterances(root)
    message = str(caught.value)
    assert message.startswith(f"{root / 'wav' / name} is not named as EMO-DB names its recordings: expected")
    assert "(W L E A F T N)" in message
    assert "as in 03a01Fa.wav." in message


# The manifest


def written(folder: Path, text: str, *, name: str = "manifest.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def refusal(path: Path) -> str:
    """What is wrong with a manifest, without the remedy; of several things, the first."""
    with pytest.raises(UserError) as caught:
        manifest.utterances(path)
    first, *others = str(caught.value).splitlines()
    if others:
        assert others[-1] == "  Mend or remove them, or leave them out with --skip-bad."
        return others[0].strip()
    return first.removesuffix(" Mend it, or leave it out with --skip-bad.")


def test_a_manifest_of_three_columns(tmp_path):
    path = written(tmp_path, "path,emotion,speaker\nwav/b.flac,Anger,s2\nwav/a.wav,joy,s1\n")
    corpus = manifest.utterances(path)
    assert corpus == Corpus(
        tmp_path.name,
        (
            Utterance("wav/a", tmp_path / "wav/a.wav", "joy", "s1"),
            Utterance("wav/b", tmp_path / "wav/b.flac", "anger", "s2"),
        ),
    )
    assert corpus.classes == ("anger", "joy")


def test_a_manifest_with_every_column_in_any_order(tmp_path):
    path = written(
        tmp_path,
        "split,transcript,id,anger,neutral,emotion,session,speaker,path,sex\n"
        'train,"Ja, gut.",u1,0.75,0.25,anger,S1,anna,a.wav,F\n'
        ",,u2,,,neutral,,bob,b.wav,\n",
    )
    first, second = manifest.utterances(path).utterances
    assert first == Utterance(
        "u1", tmp_path / "a.wav", "anger", "anna", session="S1", transcript="Ja, gut.", split="train",
        soft_label={"anger": 0.75, "neutral": 0.25}, sex="female",
    )  # fmt: skip
    assert second == Utterance("u2", tmp_path / "b.wav", "neutral", "bob")


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t"), ("a.TSV", ",")]
)
def test_the_delimiter_is_taken_from_the_header(tmp_path, name, delimiter):
    lines = [["path", "emotion", "speaker", "transcript"], ["a.wav", "fear", "s1", '"x, y; z"']]
    path = written(tmp_path, "\n".join(delimiter.join(line) for line in lines), name=name)
    (only,) = manifest.utterances(path).utterances
    assert (only.emotion, only.speaker, only.transcript) == ("fear", "s1", "x, y; z")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_and_the_byte_order_mark_of_any_system_are_read(tmp_path, encoding, line_end):
    lines = ["path,emotion,speaker,transcript", "ä.wav,fear,Jürgen,x", "b.wav,anger,s2,y", ""]
    path = written(tmp_path, line_end.join(lines), encoding=encoding)
    first, second = sorted(manifest.utterances(path).utterances, key=lambda utterance: utterance.speaker)
    assert (first.path, first.speaker, first.transcript) == (tmp_path / "ä.wav", "Jürgen", "x")
    assert (second.emotion, second.transcript) == ("anger", "y")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_columns_of_a_manifest_are_those_it_is_read_by(tmp_path, delimiter):
    path = tmp_path / "list.csv"
    header = ["path", " emotion", "speaker", '"my session"', "session "]
    path.write_text("\ufeff" + delimiter.join(header) + '\na.wav,"', encoding="utf-8")
    assert manifest.columns(path) == ("path", "emotion", "speaker", "my session", "session")
    path.write_bytes(b"")
    assert manifest.columns(path) == ()
    path.write_bytes(b"path,\xff")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        manifest.columns(path)
    with pytest.raises(UserError, match="no manifest"):
        manifest.columns(tmp_path / "absent.csv")


def test_a_quoted_transcript_may_hold_line_breaks_quotes_and_delimiters(tmp_path):
    path = written(
        tmp_path, 'path,emotion,speaker,transcript\na.wav,fear,s1,"first,\n""second"""\nb.wav,fear,s2,x\n'
    )
    first, second = manifest.utterances(path).utterances
    assert first.transcript == 'first,\n"second"'
    assert second.transcript == "x"


def test_without_an_id_the_path_without_its_suffix_is_the_id(tmp_path):
    path = written(tmp_path, "path,emotion,speaker,id\nx/a.b.wav,fear,s1,\nx/c.wav,fear,s1,z\nd,fear,s1,\n")
    assert [utterance.id for utterance in manifest.utterances(path).utterances] == ["d", "x/a.b", "z"]


def test_spaces_around_cells_and_blank_lines_do_not_count(tmp_path):
    path = written(tmp_path, " path , emotion ,speaker\n\n a.wav , Fear , s1 \n\n")
    assert manifest.utterances(path).utterances == (Utterance("a", tmp_path / "a.wav", "fear", "s1"),)


def test_paths_are_relative_to_the_manifest_or_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists").mkdir()
    elsewhere = tmp_path / "elsewhere" / "b.wav"
    written(tmp_path / "lists", f"path,emotion,speaker\n../a.wav,fear,s1\n{elsewhere},fear,s2\n")
    by_speaker = {
        utterance.speaker: utterance
        for utterance in manifest.utterances(Path("lists/manifest.csv")).utterances
    }
    assert by_speaker["s1"].path == Path("lists/../a.wav")
    assert by_speaker["s1"].id == "../a"
    assert by_speaker["s2"].path == elsewhere


def test_utterances_are_sorted_by_id(tmp_path):
    path = written(
        tmp_path, "path,emotion,speaker,id\na.wav,fear,s1,u3\nb.wav,fear,s1,u1\nc.wav,fear,s1,u2\n"
    )
    assert [utterance.id for utterance in manifest.utterances(path).utterances] == ["u1", "u2", "u3"]


def test_only_columns_named_after_an_emotion_are_soft_labels(tmp_path):
    path = written(
        tmp_path,
        "path,emotion,speaker,age,notes,Surprise,contempt\n"
        "a.wav,Contempt,s1,34,3,0.5,0.5\n"
        "b.wav,fear,s2,41,loud,0,1\n",
    )
    first, second = manifest.utterances(path).utterances
    assert first.soft_label == {"surprise": 0.5, "contempt": 0.5}
    assert second.soft_label == {"surprise": 0, "contempt": 1}


@pytest.mark.parametrize("cell", ["nan", "inf", "-0.1", "half", "0;5"])
def test_a_share_that_is_no_share_is_refused(tmp_path, cell):
    path = written(tmp_path, f"path,emotion,speaker,fear\nb.wav,fear,s1,1\na.wav,fear,s1,{cell}\n")
    assert refusal(path) == (f"{path}, line 3: the share of fear must be a number from 0 on, found {cell}.")


@pytest.mark.parametrize(
    ("header", "missing"),
    [("path,emotion", "speaker"), ("where,what,speaker", "path, emotion"), ("Way,emotion,speaker", "path")],
)
def test_a_missing_column_is_named(tmp_path, header, missing):
    path = written(tmp_path, f"{header}\n")
    assert refusal(path) == (
        f"{path}: the header lacks {missing}; expected at least path,emotion,speaker, found {header}. "
        f"If a column has another name: --columns {','.join(f'{name}=NAME' for name in missing.split(', '))}."
    )


def test_an_empty_file_has_no_header(tmp_path):
    path = written(tmp_path, "")
    assert "expected at least path,emotion,speaker, found nothing." in refusal(path)


def test_a_header_alone_lists_nothing(tmp_path):
    path = written(tmp_path, "path,emotion,speaker\n\n")
    assert refusal(path) == f"{path} lists no recordings."


@pytest.mark.parametrize("header", ["path,emotion,speaker,id,id", "path,emotion,speaker,Fear,fear"])
def test_a_column_named_twice_is_refused(tmp_path, header):
    path = written(tmp_path, f"{header}\na.wav,fear,s1,1,2\n")
    assert refusal(path) == f"{path}: the header names {header.split(',')[-1]} twice."


@pytest.mark.parametrize("name", ["path", "emotion", "speaker"])
def test_an_empty_cell_is_refused_with_its_line(tmp_path, name):
    cells = {"path": "a.wav", "emotion": "fear", "speaker": "s1", name: "  "}
    path = written(tmp_path, "path,emotion,speaker\nb.wav,fear,s1\n" + ",".join(cells.values()) + "\n")
    assert refusal(path) == f"{path}, line 3: the {name} is empty."


@pytest.mark.parametrize("row", ["a.wav,fear", "a.wav,fear,s1,", "a.wav,fear,s1,Ja, gut"])
def test_a_row_with_more_or_fewer_cells_than_the_header_is_refused(tmp_path, row):
    path = written(tmp_path, f"path,emotion,speaker\nb.wav,fear,s1\n{row}\n")
    cells = row.count(",") + 1
    assert refusal(path) == (
        f"{path}, line 3: {cells} cells, but the header has 3. A cell that holds the delimiter needs quotes "
        "around it."
    )


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    path = written(tmp_path, 'path,emotion,speaker\na.wav,fear,"s\n1"\n\nb.wav,,s1\n')
    assert refusal(path) == f"{path}, line 5: the emotion is empty."


@pytest.mark.parametrize(
    "text",
    [
        'path,"emotion,speaker\n',
        'path,emotion,speaker\na.wav,"fear,s1\n',
        'path,emotion,speaker\n"a"b,fear,s1\n',
    ],
    ids=["open in the header", "open in a row", "closed too early"],
)
def test_broken_quotes_are_refused_with_the_file(tmp_path, text):
    path = written(tmp_path, text)
    assert refusal(path).startswith(f"{path}, line ")


def test_ids_that_repeat_are_named(tmp_path):
    path = written(
        tmp_path, "path,emotion,speaker\na.wav,fear,s1\na.flac,fear,s1\nb.wav,fear,s2\nb.wav,fear,s2\n"
    )
    assert refusal(path) == f"{path}: ids must be unique; repeated: a, b."


def test_a_hundred_thousand_rows_take_seconds_and_the_collector_is_back(tmp_path):
    rows = [f"wav/{n}.wav,fear,s{n % 50},u{n}" for n in range(100_000)]
    path = written(tmp_path, "\n".join(["path,emotion,speaker,id", *rows]))
    started = time.process_time()
    assert len(manifest.utterances(path).utterances) == 100_000
    assert time.process_time() - started < 5
    assert gc.isenabled()
    refusal(tmp_path / "absent.csv")
    assert gc.isenabled()


@pytest.mark.parametrize("cell", [".", "/"])
def test_a_path_without_a_file_name_is_refused(tmp_path, cell):
    path = written(tmp_path, f"path,emotion,speaker\n{cell},fear,s1\n")
    assert refusal(path) == f"{path}, line 2: the path {cell} names no file."


@pytest.mark.parametrize("encoding", ["latin-1", "cp949"])
def test_another_encoding_is_refused(tmp_path, encoding):
    text = "path,emotion,speaker\na.wav,fear,{}\n".format("화자" if encoding == "cp949" else "Jürgen")
    path = written(tmp_path, text, encoding=encoding)
    assert refusal(path).startswith(f"{path} is not UTF-8 text (")


def test_a_nul_byte_is_refused_with_its_line(tmp_path):
    path = written(tmp_path, "path,emotion,speaker\na.wav,fear,s1\nb\0.wav,fear,s1\n")
    assert refusal(path) == f"{path}, line 3: holds a NUL byte: save the table as UTF-8 text."


def test_a_manifest_that_is_not_there_or_a_folder_is_refused(tmp_path):
    assert refusal(tmp_path / "absent.csv") == f"no manifest {tmp_path / 'absent.csv'}."
    (tmp_path / "folder.csv").mkdir()
    assert refusal(tmp_path / "folder.csv") == f"cannot read {tmp_path / 'folder.csv'}: Is a directory."


# The registry


def test_a_typo_gets_the_nearest_corpus_and_the_manifests_form(tmp_path):
    with pytest.raises(UserError) as caught:
        registry.load("EMODB", tmp_path)
    assert str(caught.value) == (
        f"unknown corpus 'EMODB'. Did you mean EMO-DB? Valid: {', '.join(registry.CORPORA)}, "
        "path/to/manifest.csv."
    )


def test_case_is_forgiven_and_the_folder_has_the_corpus_own_name(tmp_path):
    emo_db_tree(tmp_path, "03a01Fa.wav")
    assert registry.load("emo-db", tmp_path).utterances[0].path == tmp_path / "EMO-DB/wav/03a01Fa.wav"


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "LIST.CSV"])
def test_a_path_that_ends_as_a_table_is_a_manifest_wherever_the_data_is(tmp_path, name):
    path = written(tmp_path, "path\temotion\tspeaker\na.wav\tfear\ts1\n", name=name)
    corpus = registry.load(str(path), tmp_path / "nowhere")
    assert corpus.name == path.stem
    assert corpus.utterances[0].path == tmp_path / "a.wav"


@pytest.mark.parametrize("part", ["impro", "script"])
def test_parts_that_a_corpus_does_not_have_are_refused(tmp_path, part):
    emo_db_tree(tmp_path, "03a01Fa.wav")
    path = str(written(tmp_path, "path,emotion,speaker\na.wav,fear,s1\n"))
    with pytest.raises(UserError, match=rf"^EMO-DB has no part '{part}'; it has all\.$"):
        registry.load("EMO-DB", tmp_path, audio_type=part)
    with pytest.raises(UserError, match=f"manifest.csv has no part '{part}'; it has all"):
        registry.load(path, tmp_path, audio_type=part)


def test_why_absent_is_the_refusal_in_words_and_none_where_the_corpus_is(tmp_path):
    assert registry.why_absent("EMO-DB", tmp_path).startswith(f"no recordings in {tmp_path / 'EMO-DB/wav'}")
    emo_db_tree(tmp_path, "03a01Fa.wav")
    assert registry.why_absent("EMO-DB", tmp_path) is None
    assert registry.why_absent("EMO-DB", tmp_path, audio_type="impro") == (
        "EMO-DB has no part 'impro'; it has all."
    )
    assert "unknown corpus 'IEMOCAB'" in registry.why_absent("IEMOCAB", tmp_path)


# Every corpus


def made_emo_db(data: Path, monkeypatch) -> None:
    # the third speaker before the first, so that the order is the parser's
    emo_db_tree(data, *(f"{speaker}a0{n}{letter}b.wav" for speaker in ("13", "08", "03") for n in (5, 1)
                        for letter in emodb.EMOTIONS))  # fmt: skip


def made_demo(data: Path, monkeypatch) -> None:
    monkeypatch.setattr(demo, "SPEAKERS", dict(list(demo.SPEAKERS.items())[:2]))
    monkeypatch.setattr(demo, "SENTENCES", dict(list(demo.SENTENCES.items())[:1]))


MADE = {
    "EMO-DB": made_emo_db,
    "demo": made_demo,
    **{
        name: lambda data, monkeypatch, name=name: corpus_trees.TREES[name](data / name)
        for name in corpus_trees.TREES
    },
}


RECORDED = [name for name in registry.CORPORA if name != "demo"]


@pytest.mark.parametrize("name", registry.CORPORA)
def test_a_corpus_keeps_what_every_corpus_promises(tmp_path, monkeypatch, name):
    MADE[name](tmp_path, monkeypatch)
    tree = corpus_trees.TREES.get(name, corpus_trees.Tree(lambda root: root))
    source = registry.CORPORA[name]
    corpus = registry.load(name, tmp_path)
    assert corpus.name == name
    assert registry.load(name, tmp_path) == corpus, "reading twice gives the same"
    ids = [utterance.id for utterance in corpus.utterances]
    assert len(ids) > 10
    assert ids == sorted(set(ids))
    assert set(corpus.classes) <= set(CANONICAL_EMOTIONS)
    assert corpus.classes == tuple(sorted(corpus.classes))
    for utterance in corpus.utterances:
        assert utterance.path.is_file()
        assert utterance.path.is_relative_to(tmp_path / name)
        assert utterance.speaker
        assert bool(utterance.transcript) == tree.transcripts
        assert (utterance.session is not None) == tree.dialogs
        assert (utterance.dialog is not None) == tree.dialogs
        assert (utterance.soft_label is not None) == tree.soft_labels
        if utterance.soft_label:
            assert sum(utterance.soft_label.values()) == pytest.approx(1)
            assert set(utterance.soft_label) <= set(corpus.classes)
    assert source.sessions == tree.dialogs
    assert bool(source.soft_labels) == tree.soft_labels
    assert len({utterance.path for utterance in corpus.utterances}) == len(ids)
    assert len(corpus.speakers) >= 2
    assert "all" in source.audio_types


def labelled(name: str, emotion: str, soft_label=None) -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), emotion, "s1", soft_label=soft_label)


def test_soft_labels_are_shares_over_the_classes():
    found = soft_labels(
        [
            labelled("a", "fear", {"fear": 3, "anger": 1}),  # votes do as well
            labelled("b", "fear", {"boredom": 0.5, "anger": 0.3, "fear": 0.2}),
            labelled("c", "anger", {"boredom": 1.0}),
            labelled("d", "fear"),
        ],
        ("anger", "fear"),
    )
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.6, 0.4], [1, 0], [0, 1]], rtol=1e-6)
    assert found.dtype == np.float32
    with pytest.raises(UserError, match=r"have no soft labels.*, CREMA-D \(.*\), KEMDy19") as caught:
        soft_labels([labelled("d", "fear")], ("anger", "fear"))
    assert "EMO-DB" not in str(caught.value)


def test_label_indices_are_places_in_the_classes():
    found = class_indices([labelled("a", "fear"), labelled("b", "anger")], ("anger", "fear"))
    assert found.tolist() == [1, 0]
    assert class_indices([], ("anger",)).shape == (0,)


@pytest.mark.parametrize("unit", [1e308, 1e300, 1.0, 1e-300, 5e-324])
def test_shares_in_any_unit_are_shares(unit):
    """Their sum may be beyond what a float holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        utterance = labelled("a", "anger", {"anger": unit, "fear": unit, "disgust": unit})
        found = soft_labels([utterance], ("anger", "disgust", "fear"))
        np.testing.assert_allclose(found, [[1 / 3] * 3], rtol=1e-6)
        assert shares_among({"x": unit, "y": unit, "z": unit}, ["a", "z"], {"x": "a", "y": "a"}) == {
            "a": pytest.approx(2 / 3),
            "z": pytest.approx(1 / 3),
        }


@pytest.mark.parametrize("share", [math.inf, math.nan, -0.5])
def test_a_share_that_is_none_is_one_error(share):
    with pytest.raises(UserError, match="the share of fear must be a number from 0 on"):
        soft_labels([labelled("a", "anger", {"anger": 1.0, "fear": share})], ("anger", "fear"))


def test_a_manifest_of_huge_shares_is_read_without_a_warning(tmp_path):
    table = tmp_path / "m.csv"
    table.write_text("path,emotion,speaker,anger,fear\na.wav,anger,s,1e308,1e308\nb.wav,fear,s,0,1e308\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = soft_labels(manifest.utterances(table).utterances, ("anger", "fear"))
    np.testing.assert_array_equal(found, [[0.5, 0.5], [0, 1]])


def test_across_corpora_soft_labels_are_of_the_emotions_that_both_have():
    votes = {"anger": 0.25, "fear": 0.25, "boredom": 0.5}
    train = Corpus("one", (labelled("a", "anger", votes), labelled("b", "boredom"), labelled("c", "fear")))
    test = Corpus("two", (labelled("a", "anger", {"calm": 1.0}), labelled("c", "fear")))
    found = {utterance.id: utterance.soft_label for utterance in across(train, test).utterances}
    assert found == {"one/a": {"anger": 0.5, "fear": 0.5}, "one/c": None, "two/a": None, "two/c": None}


SCRATCH = """
from light_sernet_kd.corpora import Origin, Published, Utterance
from light_sernet_kd.corpora.reading import Findings, recordings

ORIGIN = Origin("CC0 1.0", page="https://example.org", layout="<speaker>_<emotion>_<n>.wav")
PUBLISHED = Published(recordings=4)


def utterances(root, *, skip_bad=False):
    found = Findings("scratch", skip_bad)
    named = [(path, *path.stem.split("_")) for path in recordings(root)]
    return found.corpus([Utterance(path.stem, path, emotion, speaker) for path, speaker, emotion, _ in named])
"""


def test_a_corpus_is_one_file_and_one_line(tmp_path, monkeypatch, capsys):
    module = types.ModuleType("light_sernet_kd.corpora.scratch")
    exec(SCRATCH, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(CORPORA, "scratch", CorpusSource(Lazy("corpora.scratch:utterances")))
    for name in ("ann_happiness_1", "ann_fear_1", "bob_happiness_1"):
        corpus_trees.put(tmp_path / "scratch" / f"{name}.wav", corpus_trees.tone())
    corpus = registry.load("SCRATCH", tmp_path)
    assert (corpus.classes, corpus.speakers) == (("fear", "happiness"), ("ann", "bob"))
    assert corpus.notes == ("INCOMPLETE: found 3 of 4 recordings of scratch as it is published",)
    assert registry.default_protocol("scratch", tmp_path) == "loso"
    with pytest.raises(UserError, match=r"demo, scratch, path/to/manifest\.csv"):
        registry.load("none", tmp_path)
    assert cli.main(["prepare", "scratch", "--data", str(tmp_path)]) == 0
    assert "scratch: utterances per speaker and emotion" in capsys.readouterr().out
    assert cli.main(["fetch", "scratch", "--data", str(tmp_path / "empty")]) == 0
    assert "https://example.org" in capsys.readouterr().out


def test_every_corpus_has_a_row_in_the_data_folders_readme():
    rows = (REPOSITORY / "data" / "README.md").read_text(encoding="utf-8").splitlines()
    named = [row.split("`")[1] for row in rows if row.startswith("| `")]
    assert named[: len(registry.CORPORA)] == list(registry.CORPORA)


def test_the_command_line_names_every_corpus_without_reading_them():
    assert ", ".join(registry.CORPORA) == corpus_names()


@pytest.mark.parametrize("name", RECORDED)
def test_an_absent_corpus_is_refused_with_its_folder_and_where_to_read_on(tmp_path, name):
    for prepare in (lambda: None, (tmp_path / name).mkdir):
        prepare()
        with pytest.raises(UserError) as caught:
            registry.load(name, tmp_path)
        assert str(tmp_path / name) in str(caught.value)
        assert f"`light-sernet-kd fetch {name}`" in str(caught.value)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recording_that_a_mac_shadows_is_read_once(tmp_path, monkeypatch, name):
    MADE[name](tmp_path, monkeypatch)
    corpus = registry.load(name, tmp_path)
    for path in list((tmp_path / name).rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            path.with_name("._" + path.name).write_bytes(b"\0\5\x16\7")
    (tmp_path / name / ".Trashes").mkdir()
    assert registry.load(name, tmp_path) == corpus


@pytest.mark.parametrize("name", RECORDED)
def test_every_recording_is_used_or_counted(tmp_path, monkeypatch, name):
    MADE[name](tmp_path, monkeypatch)
    corpus = registry.load(name, tmp_path)
    recordings = [path for path in (tmp_path / name).rglob("*.wav") if not path.name.startswith(".")]
    assert len(corpus.utterances) + sum(corpus.left_out.values()) == len(recordings)
