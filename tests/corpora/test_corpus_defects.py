"""Corpora as they really are: known slips are mended, one bad row stops nothing, and all of it is said."""

import os
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import corpus_trees
import numpy as np
import pytest
from corpus_trees import put, tone

from light_sernet_kd import audio, cli
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.config import make_settings
from light_sernet_kd.corpora import kemdy19, ravdess, registry, tess
from light_sernet_kd.corpora.reading import AUDIO_SUFFIXES, recordings_below
from light_sernet_kd.data import selection
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import path_on_disk

TREES = corpus_trees.TREES


def by_id(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances}


def refused(name: str, data: Path, **chosen) -> str:
    with pytest.raises(UserError) as caught:
        registry.load(name, data, **chosen)
    return str(caught.value)


# KEMDy19 as it is published


def test_a_row_of_kemdy19_that_repeats_the_others_id_is_the_talkers_own(tmp_path):
    corpus = kemdy19.utterances(corpus_trees.kemdy19(tmp_path))
    mended = by_id(corpus)
    # rows 1 and 2 of the session: neutral, happy
    assert (mended["Sess03_impro02_F001"].emotion, mended["Sess03_impro02_M001"].emotion) == (
        "neutral",
        "happiness",
    )
    table = tmp_path / "annotation" / "Session03_F_res.csv"
    told = f"{table}, line 3: Sess03_impro02_M001 occurs twice and is read as Sess03_impro02_F001"
    assert f"{told}, which is missing" in corpus.reported()


@pytest.mark.parametrize("talker", "FM")
def test_the_slip_is_mended_in_any_session_and_either_table_and_without_the_other(tmp_path, talker):
    root = corpus_trees.kemdy19(tmp_path)
    other = {"F": "M", "M": "F"}[talker]
    table = root / "annotation" / f"Session02_{talker}_res.csv"
    own, theirs = f"Sess02_script01_{talker}004", f"Sess02_script01_{other}004"
    put(table, table.read_text().replace(own, theirs))
    emotion = by_id(kemdy19.utterances(root))[own].emotion
    assert emotion == ("neutral", "sadness")[0] or emotion  # read from its own row, checked below
    expected = by_id(kemdy19.utterances(corpus_trees.kemdy19(tmp_path / "sound")))[own].emotion
    assert emotion == expected


def test_what_the_other_talkers_rows_hold_stops_no_one(tmp_path):
    root = corpus_trees.kemdy19(tmp_path)
    table = root / "annotation" / "Session01_F_res.csv"
    lines = table.read_text().splitlines()
    theirs = next(line for line in lines if "_M001" in line)
    put(table, "\n".join([*lines, theirs, theirs.replace(",happy,", ",?,")]) + "\n")
    assert len(kemdy19.utterances(root).utterances) == 60


def test_a_misnamed_text_of_kemdy19_is_found_and_said(tmp_path):
    corpus = kemdy19.utterances(corpus_trees.kemdy19(tmp_path))
    assert by_id(corpus)["Sess03_script04_M016"].transcript == "Sess03_script04_M016 안녕하세요."
    told = [note for note in corpus.reported() if note.endswith("which is misnamed")]
    assert len(told) == 1
    assert told[0].endswith("Sess03_script04_M015.txt, which is misnamed")


def test_a_text_of_no_recording_next_to_one_without_a_text_is_its(tmp_path):
    root = corpus_trees.kemdy19(tmp_path)
    folder = root / "wav/Session01/Sess01_script01"
    (folder / "Sess01_script01_F007.txt").rename(folder / "Sess01_script01_F008.txt")
    corpus = kemdy19.utterances(root)
    assert by_id(corpus)["Sess01_script01_F007"].transcript == "Sess01_script01_F007 안녕하세요."
    # with a text on either side nobody knows
    put(folder / "Sess01_script01_M003.txt", "")
    (folder / "Sess01_script01_M004.txt").unlink()
    assert by_id(kemdy19.utterances(root))["Sess01_script01_M004"].transcript is None


def test_the_known_misnamed_text_is_not_given_to_its_neighbour(tmp_path):
    root = corpus_trees.kemdy19(tmp_path)
    for talker in "FM":
        table = root / "annotation" / f"Session03_{talker}_res.csv"
        last = table.read_text().splitlines()[-1]
        put(table, table.read_text() + last.replace("M016", "M015") + "\n")
    put(root / "wav/Session03/Sess03_script04/Sess03_script04_M015.wav")
    found = by_id(kemdy19.utterances(root))
    assert found["Sess03_script04_M016"].transcript == "Sess03_script04_M016 안녕하세요."
    assert found["Sess03_script04_M015"].transcript is None


def test_of_overlaps_the_segments_talker_is_kept_and_a_reversed_tag_is_a_tag(tmp_path):
    corpus = kemdy19.utterances(corpus_trees.kemdy19(tmp_path))
    assert by_id(corpus)["Sess03_impro02_F001"].transcript == "그래 맞아 좋아"
    assert by_id(corpus)["Sess03_impro02_M001"].transcript == "아니 왜"
    assert any(note.startswith("1 transcripts hold words of two talkers") for note in corpus.notes)


# One bad row stops nothing


def spoil_iemocap(root: Path) -> set[str]:
    labels = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    put(labels, labels.read_text().replace("Ses01F_impro01_F000\tang", "Ses01F_impro01_F000\tjoy", 1))
    (root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F002.wav").unlink()
    put(root / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F099.wav")
    put(root / "Session2/sentences/wav/Ses02X/Ses02X_F000.wav")
    (root / "Session2/dialog/transcriptions/Ses02M_script01_1b.txt").unlink()
    return {"Ses01F_impro01_F000", "Ses01F_impro01_F002"}


def spoil_esd(root: Path) -> set[str]:
    lines = root / "0011" / "0011.txt"
    text = lines.read_text()
    put(
        lines,
        text.replace("number 2.\tHappy", "number 2. Happy").replace("number 3.\tNeutral", "number 3.\tJoy"),
    )
    put(root / "0012" / "Joy" / "0012_000099.wav")
    next((root / "0016").rglob("0016_000001.wav")).unlink()
    return {"0011_000002", "0011_000003", "0016_000001"}


def spoil_crema_d(root: Path) -> set[str]:
    table = root / "processedResults/tabulatedVotes.csv"
    put(table, table.read_text().replace('"100001",6', '"100001",many'))
    put(root / "AudioWAV" / "1001_DFA_JOY_XX.wav")
    return {"1002_DFA_ANG_XX"}


def spoil_kemdy19(root: Path) -> set[str]:
    for table in root.glob("annotation/Session01_?_res.csv"):
        text = table.read_text().replace("Sess01_impro01_F001,neutral", "Sess01_impro01_F001,calm")
        put(table, text.replace("Sess01_impro01_F002,happy", "Sess01_impro01_F002,"))
    (root / "wav/Session02/Sess02_impro01/Sess02_impro01_M003.wav").unlink()
    put(root / "wav/Session02/Sess02_impro01/Sess02_impro01_M099.wav")
    put(root / "wav/Session02/Sess02_impro01/Sess01_impro01_M098.wav")
    put(root / "wav/Session02/Sess02_impro01/Sess02_impro01_M004.txt", b"\xff\xfe\xfd")
    return {"Sess01_impro01_F001", "Sess01_impro01_F002", "Sess02_impro01_M003"}


def spoil_kemdy20(root: Path) -> set[str]:
    table = root / "annotation" / "Sess01_eval.csv"
    lines = table.read_text().splitlines()
    lines[3] = lines[3][: lines[3].index("User") + 12]  # cut off within the row
    put(table, "\n".join(lines) + "\n")
    (root / "annotation" / "Sess02_eval.csv").unlink()
    return {"Sess01_script01_User001F_002"} | {
        path.stem for path in (root / "wav" / "Session02").iterdir() if path.suffix == ".wav"
    }


def spoil_ravdess(root: Path) -> set[str]:
    put(root / "Actor_01" / "03-01-09-01-02-01-01.wav")
    (root / "Actor_01" / "03-01-06-01-02-01-01.wav").rename(root / "Actor_12" / "03-01-06-01-02-01-01.wav")
    shutil.copy(root / "Actor_12/03-01-01-01-02-01-12.wav", root / "Actor_12/03-01-01-01-02-01-12.flac")
    return {"03-01-06-01-02-01-01"}


def spoil_tess(root: Path) -> set[str]:
    put(root / "YAF_angry" / "YAF_bar_joyful.wav")
    (root / "OAF_sad" / "OAF_back_sad.wav").rename(root / "YAF_sad" / "OAF_back_sad.wav")
    put(root / "copy" / "OAF_angry" / "OAF_back_angry.wav")
    return {"OAF_back_sad"}


SPOILED = {
    "IEMOCAP": spoil_iemocap,
    "ESD": spoil_esd,
    "CREMA-D": spoil_crema_d,
    "KEMDy19": spoil_kemdy19,
    "KEMDy20": spoil_kemdy20,
    "RAVDESS": spoil_ravdess,
    "TESS": spoil_tess,
}


@pytest.mark.parametrize("name", SPOILED)
def test_skip_bad_loses_what_is_wrong_and_nothing_else_and_counts_it(tmp_path, name):
    root = TREES[name](tmp_path / name)
    sound = by_id(registry.load(name, tmp_path))
    lost = SPOILED[name](root)
    message = refused(name, tmp_path)
    assert "leave them out with --skip-bad." in message
    corpus = registry.load(name, tmp_path, skip_bad=True)
    assert set(sound) - set(by_id(corpus)) == lost & set(sound)
    assert set(by_id(corpus)) <= set(sound)
    assert all(each.emotion == sound[each.id].emotion for each in corpus.utterances)
    # Every one of them is said before, and listed after.
    assert message.count("\n  ") - 1 == min(len(corpus.skipped), 20)
    assert any(line.startswith("left out by --skip-bad: ") for line in corpus.reported())


def test_of_many_things_that_are_wrong_twenty_are_shown(tmp_path):
    for number in range(50):
        put(tmp_path / "TESS" / f"OAF_{number}.wav")
    lines = refused("TESS", tmp_path).splitlines()
    assert lines[0] == "50 rows, texts or recordings of TESS are wrong:"
    assert len(lines) == 1 + 20 + 2
    assert lines[-2:] == [
        "  and 30 more",
        "  Mend or remove them, or leave them out with --skip-bad.",
    ]
    assert refused("TESS", tmp_path, skip_bad=True).startswith("no recording of TESS is left: 50 rows")


def test_what_was_left_out_in_reading_ends_in_the_runs_list(tmp_path):
    table = tmp_path / "list.csv"
    rows = []
    for speaker in "abc":
        for emotion in ("fear", "joy"):
            put(tmp_path / f"{speaker}_{emotion}.wav", tone(level=0.1 + 0.1 * len(rows)))
            rows.append(f"{speaker}_{emotion}.wav,{emotion},{speaker}")
    put(table, "\n".join(["path,emotion,speaker", *rows, "x.wav,,c", "y.wav,fear", f"{rows[0]}"]) + "\n")
    settings = make_settings(corpus=str(table), skip_bad=True)
    found = selection.selected(settings, tmp_path)
    assert len(found.utterances) == 6
    assert [each["reason"] for each in found.skipped] == [
        f"{table}, line 8: the emotion is empty.",
        f"{table}, line 9: 2 cells, but the header has 3. A cell that holds the delimiter needs quotes "
        "around it.",
        f"{table}: a_fear is listed 2 times; the first is kept.",
    ]


def test_prepare_checks_and_converts_without_what_is_wrong(tmp_path, capsys):
    put(tmp_path / "a.wav", tone())
    table = put(tmp_path / "list.csv", "path,emotion,speaker\na.wav,fear,s\nb.wav,,s\n")
    assert cli.main(["prepare", str(table)]) == 2
    assert (
        "line 3: the emotion is empty. Mend it, or leave it out with --skip-bad." in capsys.readouterr().err
    )
    assert cli.main(["prepare", str(table), "--skip-bad"]) == 0
    assert "left out by --skip-bad: 1" in capsys.readouterr().out
    assert cli.main(["prepare", str(table), "--skip-bad", "--to", str(tmp_path / "out")]) == 0
    assert "line 3: the emotion is empty." in (tmp_path / "out" / "left_out.csv").read_text()


# Where the recordings lie

LEVEL = {"RAVDESS": "audio_speech_actors_01-24", "IEMOCAP": "IEMOCAP_full_release"}


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("levels", [1, 2])
def test_a_level_or_two_more_are_looked_through_and_said(tmp_path, name, levels):
    straight = registry.load(name, TREES[name](tmp_path / "straight" / name).parent)
    below = (tmp_path / "deep" / name).joinpath(*["more"] * (levels - 1), LEVEL.get(name, "release"))
    TREES[name](below)
    deep = registry.load(name, tmp_path / "deep")
    assert [each.id for each in deep.utterances] == [each.id for each in straight.utterances]
    if name != "TESS":  # which is read at any depth
        assert f"read from {below}, below the expected folder {tmp_path / 'deep' / name}" in deep.reported()


@pytest.mark.parametrize("name", TREES)
def test_links_to_folders_are_followed_and_circles_end(tmp_path, name):
    real = TREES[name](tmp_path / "elsewhere")
    root = tmp_path / "data" / name
    root.mkdir(parents=True)
    for each in real.iterdir():
        (root / each.name).symlink_to(each, target_is_directory=each.is_dir())
    (real / "circle").symlink_to(root, target_is_directory=True)
    linked = registry.CORPORA[name].utterances(root)
    assert [each.id for each in linked.utterances] == [
        each.id for each in registry.CORPORA[name].utterances(real).utterances
    ]
    assert not any("lie twice" in note for note in linked.notes)


def test_recordings_of_a_folder_are_those_behind_its_links_too(tmp_path):
    disk, folder = tmp_path / "disk", tmp_path / "folder"
    for name in ("a/one.wav", "a/b/two.flac", "a/.hidden/three.wav", "a/notes.txt", "a/.four.wav"):
        path = disk / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder.mkdir()
    (folder / "linked").symlink_to(disk, target_is_directory=True)
    (disk / "a" / "circle").symlink_to(folder, target_is_directory=True)
    assert recordings_below(folder) == ["linked/a/b/two.flac", "linked/a/one.wav"]


@pytest.mark.parametrize("name", ["RAVDESS", "IEMOCAP", "CREMA-D", "KEMDy19", "KEMDy20", "ESD"])
def test_a_corpus_that_lies_twice_is_read_once_and_said_with_its_count(tmp_path, name):
    root = TREES[name](tmp_path / name)
    count = len(registry.load(name, tmp_path).utterances)
    TREES[name](root / "copy")
    corpus = registry.load(name, tmp_path)
    assert len(corpus.utterances) == count
    (told,) = [line for line in corpus.reported() if "lie twice" in line]
    assert told.endswith(
        f"in {root} and in {root / 'copy'}: those in {root} are read. Remove one of the two folders"
    )
    assert int(told.split()[0]) >= count


def test_tess_twice_over_is_one_sentence_with_its_count(tmp_path):
    root = corpus_trees.tess(tmp_path / "TESS")
    corpus_trees.tess(root / "TESS")
    message = refused("TESS", tmp_path)
    assert message.startswith("15 recordings lie twice, e.g. ")
    assert "\n" not in message
    assert len(tess.utterances(root, skip_bad=True).utterances) == 15


def test_halves_of_ravdess_in_two_folders_are_one_corpus_and_other_halves_are_refused(tmp_path):
    for actor, folder in (("01", "one"), ("02", "two")):
        put(tmp_path / "RAVDESS" / folder / f"Actor_{actor}" / f"03-01-01-01-01-01-{actor}.wav")
    assert registry.load("RAVDESS", tmp_path).speakers == ("01", "02")
    put(tmp_path / "RAVDESS" / "two" / "Actor_01" / "03-01-01-01-01-01-01.wav")
    put(tmp_path / "RAVDESS" / "one" / "Actor_01" / "03-01-02-01-01-01-01.wav")
    message = refused("RAVDESS", tmp_path)
    assert "both hold recordings of RAVDESS (2 and 2, 1 of them in both)" in message


def test_recordings_side_by_side_are_read_where_their_names_tell_all(tmp_path):
    put(tmp_path / "RAVDESS" / "03-01-01-01-01-01-01.wav")
    put(tmp_path / "EMO-DB" / "03a01Fa.wav")
    put(tmp_path / "CREMA-D" / "1001_DFA_ANG_XX.wav")
    for name in ("RAVDESS", "EMO-DB", "CREMA-D"):
        assert len(registry.load(name, tmp_path).utterances) == 1


def test_a_folder_that_is_not_the_corpus_is_told_with_what_is_expected(tmp_path):
    put(tmp_path / "IEMOCAP" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav")
    put(tmp_path / "IEMOCAP" / "readme.txt")
    assert refused("IEMOCAP", tmp_path) == (
        f"no recordings in {tmp_path / 'IEMOCAP'}. Found in {tmp_path / 'IEMOCAP'}: the folder sentences and "
        "1 file such as readme.txt; expected Session1/sentences/wav/, Session1/dialog/EmoEvaluation/, "
        "Session1/dialog/transcriptions/ … Session5/. `light-sernet-kd fetch IEMOCAP` downloads the corpus "
        "or says where to get it; -dn demo needs none."
    )
    root = corpus_trees.ravdess(tmp_path / "mine")
    assert refused("RAVDESS", root) == (
        f"no recordings in {root / 'RAVDESS'}. {root} itself holds them: --data names the folder above it, "
        "in which the corpus's folder is called RAVDESS."
    )


# What is published


def test_what_a_corpus_lacks_of_what_is_published_is_said(tmp_path):
    corpus = registry.load("RAVDESS", corpus_trees.ravdess(tmp_path / "RAVDESS").parent)
    (line,) = [line for line in corpus.reported() if line.startswith("INCOMPLETE")]
    # 8 of each of two actors and one twin
    assert line.startswith(
        "INCOMPLETE: found 17 of 1,440 recordings, 2 of 24 speakers (not 02, 03, 04, 05, 06 "
    )
    iemocap = registry.load("IEMOCAP", corpus_trees.iemocap(tmp_path / "IEMOCAP").parent)
    (line,) = [line for line in iemocap.reported() if line.startswith("INCOMPLETE")]
    assert "found 28 of 10,039 recordings" in line  # with those that no majority names
    assert "2 of 5 sessions (not 3, 4, 5)" in line
    kemdy = registry.load("KEMDy19", corpus_trees.kemdy19(tmp_path / "KEMDy19").parent)
    (line,) = [line for line in kemdy.reported() if line.startswith("INCOMPLETE")]
    assert "3 of 20 sessions (not 04, 05, 06, 07, 08 and 12 more)" in line


@pytest.mark.parametrize(
    "name", [name for name, each in registry.CORPORA.items() if each.published.recordings]
)
def test_what_is_published_adds_up(name):
    published = registry.CORPORA[name].published
    left_out = 2507 + 3 if name == "IEMOCAP" else 0  # xxx and oth
    assert sum(published.emotions.values()) + left_out == published.recordings


def test_a_whole_corpus_says_nothing_and_more_than_is_published_is_said(tmp_path):
    for actor in range(1, 25):
        for number in range(60):
            emotion = "01" if number < 4 else f"{2 + (number - 4) // 8:02}"
            middle = f"{emotion}-{1 + number // 4 % 2:02}-{1 + number // 2 % 2:02}-{1 + number % 2:02}"
            put(tmp_path / f"Actor_{actor:02}" / f"03-01-{middle}-{actor:02}.wav")
    corpus = ravdess.utterances(tmp_path)
    assert registry.CORPORA["RAVDESS"].published.compared(corpus) == []
    put(tmp_path / "Actor_01" / "03-01-01-02-01-01-01.wav")
    (line,) = registry.CORPORA["RAVDESS"].published.compared(ravdess.utterances(tmp_path))
    assert line.startswith("MORE than is published: found 1,441 of 1,440 recordings")


def test_prepare_and_audit_say_that_a_corpus_is_incomplete(tmp_path, capsys):
    for speaker in ("03", "08", "09"):
        for number, letter in enumerate("WFN"):
            level = 0.05 * (int(speaker) + number)
            put(tmp_path / "EMO-DB" / "wav" / f"{speaker}a01{letter}a.wav", tone(level=level))
    told = "INCOMPLETE: found 9 of 535 recordings, 3 of 10 speakers (not 10, 11, 12, 13, 14 and 2 more)"
    cli.main(["prepare", "EMO-DB", "--data", str(tmp_path)])
    assert told in capsys.readouterr().out
    cli.main(["audit", "EMO-DB", "--data", str(tmp_path)])
    assert told in capsys.readouterr().out


# Suffixes


@pytest.mark.parametrize("name", TREES)
def test_recordings_of_any_suffix_are_read(tmp_path, name):
    root = TREES[name](tmp_path / name)
    ids = [each.id for each in registry.load(name, tmp_path).utterances]
    suffixes = [*sorted(AUDIO_SUFFIXES - {".mp4", ".mkv", ".mov", ".webm"}), ".FLAC"]
    for number, path in enumerate(sorted(root.rglob("*.wav"))):
        if not path.name.startswith("."):
            path.rename(path.with_suffix(suffixes[number % len(suffixes)]))
    assert [each.id for each in registry.load(name, tmp_path).utterances] == ids


@pytest.mark.parametrize("name", TREES)
def test_one_recording_in_two_formats_is_named(tmp_path, name):
    root = TREES[name](tmp_path / name)
    first = sorted(path for path in root.rglob("*.wav") if path.name[0] != "." and "0001_" not in path.name)[
        0
    ]
    shutil.copy(first, first.with_suffix(".flac"))
    assert refused(name, tmp_path).startswith(
        f"{first.with_suffix('.flac')} and {first} are one recording in two formats: keep one of them."
    )


def test_ravdess_as_it_lies_in_flac_is_whole(shared_data):
    if not (shared_data / "RAVDESS").is_dir():
        pytest.skip("no RAVDESS there")
    corpus = registry.load("RAVDESS", shared_data)
    assert (len(corpus.utterances), len(corpus.speakers)) == (1440, 24)
    assert Counter(each.emotion for each in corpus.utterances) == {
        **dict.fromkeys(("calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"), 192),
        "neutral": 96,
    }
    assert corpus.reported() == []
    assert len(audio.read(corpus.utterances[0].path)) > 16_000


def test_the_data_folder_may_be_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("LIGHT_SERNET_KD_DATA", "/some/where")
    parser = cli.make_parser()
    assert parser.parse_args(["prepare", "RAVDESS"]).data == Path("/some/where")
    assert parser.parse_args(["train", "-dn", "RAVDESS"]).data == Path("/some/where")


def test_a_quiet_clip_and_an_identical_pair_are_in_the_tree(tmp_path):
    found = by_id(ravdess.utterances(corpus_trees.ravdess(tmp_path)))
    quiet = audio.read(found["03-01-02-01-02-01-01"].path)
    assert 20 * np.log10(np.sqrt(np.mean(quiet**2))) < -50
    pair = [found[f"03-01-03-01-02-{repetition}-01"].path for repetition in ("01", "02")]
    assert audio.fingerprint(pair[0]) == audio.fingerprint(pair[1])


# Unicode

NFC, NFD = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))


def test_a_name_in_two_unicode_forms_is_one_speaker_one_emotion_one_split(tmp_path):
    text = "path,emotion,speaker,id,session,dialog,split\n"
    for number, name in enumerate((NFC, NFD)):
        text += f"{number}.wav,{name},{name},{name}{number},{name},{name},{name}\n"
    corpus = registry.load(str(put(tmp_path / "list.csv", text)), tmp_path)
    assert corpus.speakers == (NFC,)
    assert corpus.classes == (NFC.lower(),)
    for what in ("session", "dialog", "split"):
        assert {getattr(each, what) for each in corpus.utterances} == {NFC}
    assert [each.id for each in corpus.utterances] == [f"{NFC}0", f"{NFC}1"]
    told = "speaker names that differ in case, outer space or Unicode form are read as one: "
    assert any(line.startswith(told) for line in corpus.reported())


@pytest.mark.parametrize(("written", "there"), [(NFC, NFD), (NFD, NFC)])
def test_a_path_in_one_unicode_form_is_found_in_the_other(tmp_path, written, there):
    put(tmp_path / there / f"{written}.wav", tone())
    put(tmp_path / f"{there}.csv", f"path,emotion,speaker\n{written}/{there}.wav,fear,s\n")
    corpus = registry.load(str(tmp_path / f"{written}.csv"), tmp_path)
    (only,) = corpus.utterances
    assert len(audio.read(only.path)) == 8_000
    assert only.id == f"{NFC}/{NFC}"
    assert path_on_disk(tmp_path / written) == tmp_path / there
    assert path_on_disk(tmp_path / "é") == tmp_path / "é"
    put(tmp_path / there / "EMO-DB" / "wav" / "03a01Fa.wav")
    assert len(registry.load("EMO-DB", tmp_path / written).utterances) == 1


def test_options_and_teachers_name_things_in_either_form():
    from light_sernet_kd.corpora import tasks
    from light_sernet_kd.errors import choose
    from light_sernet_kd.teachers import Teacher, speakers_of_fold

    assert choose("speaker", NFD, [NFC, "b"]) == NFC
    assert choose("speaker", NFC.upper(), [NFD, "b"]) == NFD
    assert tasks.parse([NFD, f"{NFD}x={NFD}"]).kept == (NFC.lower(),)
    teacher = Teacher((NFD,), (NFD,), np.zeros((1, 1, 1)), (NFD,), {"train_speakers": {NFD: [NFD]}})
    assert (teacher.ids, teacher.classes, teacher.folds) == ((NFC,), (NFC,), (NFC,))
    assert speakers_of_fold(teacher, NFC) == {NFC}


def test_names_that_differ_in_case_or_spaces_only_stay_apart_and_are_said(tmp_path):
    rows = ["anna,s  1,d", "Anna,s 1,D", "bob,s 1,e", "bo\u200bb,s 2,e"]
    text = "path,emotion,speaker,session,dialog\n" + "".join(
        f"{number}.wav,fear,{row}\n" for number, row in enumerate(rows)
    )
    corpus = registry.load(str(put(tmp_path / "list.csv", text)), tmp_path)
    assert len(corpus.speakers) == 4
    told = " ".join(corpus.reported())
    assert "CHECK the speaker names 'Anna' and 'anna'; 'bob' and 'bo\\u200bb': they differ in case or" in told
    assert "CHECK the session names 's  1' and 's 1'" in told
    assert "CHECK the dialog names 'D' and 'd'" in told


def test_spellings_that_are_read_as_one_are_said(tmp_path):
    text = 'path,emotion,speaker\na.wav,Fear,s1\nb.wav,fear ," s1"\nc.wav,fear,s2\n'
    corpus = registry.load(str(put(tmp_path / "list.csv", text)), tmp_path)
    told = " ".join(corpus.reported())
    assert "'Fear' and 'fear' and 'fear ' as fear" in told
    assert "' s1' and 's1' as s1" in told


# The protocol that runs


def test_the_default_protocol_of_a_corpus_is_one_that_runs_on_it(tmp_path):
    assert registry.default_protocol("TESS", tmp_path) == "two_speakers"
    assert registry.default_protocol("ravdess", tmp_path) == "loso"
    for speakers, expected in ((1, "loso"), (2, "two_speakers"), (3, "loso")):
        text = "path,emotion,spk\n" + "".join(f"{n}.wav,fear,s{n % speakers}\n" for n in range(12))
        table = put(tmp_path / f"{speakers}.csv", text)
        assert registry.default_protocol(str(table), tmp_path) == expected
    assert registry.default_protocol(str(tmp_path / "absent.csv"), tmp_path) == "loso"


def test_the_chosen_protocol_is_in_the_settings(tmp_path):
    parser = cli.make_parser()

    def settings(*arguments: str, defaults=None):
        return settings_of(parser.parse_args(["train", "--data", str(tmp_path), *arguments]), defaults or {})

    assert settings("-dn", "TESS").as_dict()["protocol"] == "two_speakers"
    assert settings("-dn", "EMO-DB").protocol == "loso"
    assert settings("-dn", "TESS", "--protocol", "random").protocol == "random"
    assert settings("-dn", "TESS", defaults={"protocol": "published"}).protocol == "published"
    assert settings("-dn", "TESS", "--test-on", "EMO-DB").protocol == "cross_corpus"


def test_tess_runs_as_it_is_by_default(tmp_path, capsys):
    root = corpus_trees.tess(tmp_path / "TESS")
    for number, path in enumerate(sorted(root.rglob("*.wav"))):
        word = path.with_name(path.name.replace("back", "bar").replace("OA_bite", "OAF_bar"))
        for each in {path, word}:
            put(each, tone(level=0.01 * (1 + number) + 0.005 * (each is word)))
    found = selection.selected(make_settings(corpus="TESS", protocol="two_speakers"), tmp_path)
    assert [fold.name for fold in found.folds] == ["OAF", "YAF"]
    for fold in found.folds:
        assert found.speakers(fold.test) == [fold.name]
        assert found.speakers(fold.train) == found.speakers(fold.validation) != [fold.name]
    assert cli.main(["audit", "TESS", "--data", str(tmp_path)]) in (0, 1)
    assert capsys.readouterr().out.count("two_speakers: leave one of two speakers out") == 1
    with pytest.raises(UserError) as caught:
        selection.selected(make_settings(corpus="TESS"), tmp_path)
    for way in ("--protocol two_speakers", "--protocol split", "--test-on CORPUS"):
        assert way in str(caught.value)


# Two corpora, synonyms


def table_of(path: Path, *emotions: str) -> str:
    rows = [f"{path.stem}{n}.wav,{emotion},s{n % 3}" for n, emotion in enumerate(emotions)]
    return str(put(path, "\n".join(["path,emotion,speaker", *rows]) + "\n"))


def test_synonyms_of_one_corpus_are_offered_and_never_merged(tmp_path):
    name = table_of(tmp_path / "a.csv", "angry", "anger", "hap", "neu", "surprised")
    corpus = registry.load(name, tmp_path)
    assert corpus.classes == ("anger", "angry", "hap", "neu", "surprised")
    (told,) = [line for line in corpus.reported() if "--emotions" in line]
    assert "anger and angry: synonyms count as different emotions" in told
    option = told.split("--emotions ")[1]
    assert option == "angry=anger,hap=happiness,neu=neutral,surprised=surprise"
    merged = registry.load(name, tmp_path, emotions=tuple(option.split(",")))
    assert merged.classes == ("anger", "happiness", "neutral", "surprise")
    assert not any("--emotions" in line for line in merged.reported())


def test_synonyms_of_two_corpora_are_offered_in_the_error_and_in_the_note(tmp_path):
    short = table_of(tmp_path / "a.csv", "ang", "hap", "neu", "boredom")
    long = table_of(tmp_path / "b.csv", "anger", "happy", "neutral", "calm")
    message = refused(short, tmp_path, test_on=long)
    option = message.split("--emotions ")[-1]
    assert option == "ang=anger,hap=happiness,happy=happiness,neu=neutral"
    found = registry.load(short, tmp_path, test_on=long, emotions=tuple(option.split(",")))
    assert found.classes == ("anger", "happiness", "neutral")
    some = table_of(tmp_path / "c.csv", "anger", "happy", "neutral", "surprised")
    other = table_of(tmp_path / "d.csv", "anger", "neutral", "surprise")
    both = registry.load(some, tmp_path, test_on=other)
    assert both.classes == ("anger", "neutral")
    (told,) = [line for line in both.reported() if "--emotions" in line]
    assert told.endswith("--emotions anger,neutral,surprised=surprise")


def test_a_class_named_unsure_is_refused(tmp_path):
    name = table_of(tmp_path / "a.csv", "fear", "Unsure", "joy")
    assert refused(name, tmp_path).startswith("a has the class unsure, which is what an answer is called")
    assert registry.load(name, tmp_path, emotions=("fear", "joy")).classes == ("fear", "joy")


def test_expected_folders_are_not_walked_for_ever(tmp_path):
    root = corpus_trees.ravdess(tmp_path / "RAVDESS")
    for _ in range(3):
        os.symlink(root, root / f"again{_}")
    assert len(registry.load("RAVDESS", tmp_path).utterances) == 17
