"""Corpora in their own formats: what a tree says is read, and a wrong tree gets one clear sentence."""

import shutil
from collections import Counter
from pathlib import Path

import corpus_trees
import numpy as np
import pytest
from corpus_trees import iemocap_dialog, iemocap_label, kemdy_rows, kemdy_table, put

from light_sernet_kd import audio
from light_sernet_kd.corpora import (
    cremad,
    esd,
    iemocap,
    kemdy,
    kemdy19,
    kemdy20,
    ravdess,
    read_text,
    registry,
    tess,
    vote_shares,
)
from light_sernet_kd.corpora.reading import Findings
from light_sernet_kd.errors import UserError


def refusal(utterances, root: Path) -> str:
    """The first thing that is wrong with a corpus, without the remedy."""
    with pytest.raises(UserError) as caught:
        utterances(root)
    first, *others = str(caught.value).splitlines()
    if others:
        assert others[-1] == "  Mend or remove them, or leave them out with --skip-bad."
        return others[0].strip()
    assert first.endswith(".")
    return first.removesuffix(" Mend it, or leave it out with --skip-bad.")


def by_id(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances}


# What several share


def test_annotators_who_named_several_emotions_share_their_vote():
    shares = vote_shares([["anger", "neutral"], ["anger"], ["neutral", None], []])
    # anger 1/2 + 1, neutral 1/2 + 1/2; half a vote has no name
    assert shares == {"anger": pytest.approx(0.6), "neutral": pytest.approx(0.4)}
    assert vote_shares([[None], []]) is None


def test_text_is_read_in_the_first_encoding_that_fits(tmp_path):
    path = put(tmp_path / "a.txt", "café", encoding="utf-16")
    assert read_text(path, "utf-8-sig", "utf-16", "cp1252") == "café"
    put(path, "café", encoding="cp1252")
    assert read_text(path, "utf-8-sig", "utf-16", "cp1252") == "café"
    with pytest.raises(UserError, match=r"a\.txt is not UTF-8 text\."):
        read_text(path, "utf-8-sig")


def test_a_label_file_that_is_missing_or_a_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.txt is missing\. The corpus has it \(see data/README\.md\)"):
        read_text(tmp_path / "a.txt", "utf-8")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_text(tmp_path, "utf-8")


def test_recordings_and_labels_come_in_pairs():
    findings = Findings("made")
    labelled = findings.pair({"a": Path("a.wav"), "b": Path("b.wav")}, {"a": 1, "c": 2}, Path("labels"))
    assert labelled == ["a"]
    assert findings.bad == {
        "b": "b.wav has no label: labels does not list b.",
        "c": "labels lists c, but there is no recording c.wav.",
    }


@pytest.mark.parametrize("name", corpus_trees.TREES)
def test_the_sex_of_a_speaker_is_as_the_corpus_tells(tmp_path, name):
    tree = corpus_trees.TREES[name]
    utterances = registry.CORPORA[name].utterances(tree(tmp_path / name)).utterances
    assert all(each.sex == tree.sex(each.speaker) for each in utterances)


def test_crema_d_tells_the_sex_of_its_actors_in_a_table(tmp_path):
    root = corpus_trees.crema_d(tmp_path / "CREMA-D")
    table = root / "VideoDemographics.csv"
    table.write_text("ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,\n1002,21,Female,,\n")
    sexes = {each.speaker: each.sex for each in cremad.utterances(root).utterances}
    assert sexes == {"1001": "male", "1002": "female", "1040": None}
    table.write_text("Sex,Age,ActorID\nMale,51,1001\nMale\n")
    sexes = {each.speaker: each.sex for each in cremad.utterances(root).utterances}
    assert sexes == {"1001": "male", "1002": None, "1040": None}
    table.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="not CREMA-D's table of actors: its header lacks ActorID or Sex"):
        cremad.utterances(root)


# IEMOCAP


@pytest.fixture
def iemocap_root(tmp_path) -> Path:
    return corpus_trees.iemocap(tmp_path / "IEMOCAP")


def test_iemocap_keeps_every_named_emotion_apart_and_counts_the_others(iemocap_root):
    corpus = iemocap.utterances(iemocap_root)
    assert Counter(utterance.emotion for utterance in corpus.utterances) == {
        "anger": 2, "happiness": 4, "excitement": 4, "sadness": 4, "neutral": 2, "frustration": 2, "fear": 2,
        "surprise": 2, "disgust": 2,
    }  # fmt: skip
    assert corpus.left_out == {
        "no majority among the annotators (xxx)": 2,
        "an emotion that has no name here (oth)": 2,
    }


def test_the_talker_of_iemocap_is_in_the_last_part_of_the_id(iemocap_root):
    utterances = by_id(iemocap.utterances(iemocap_root))
    first = utterances["Ses01M_script01_1b_F000"]
    assert (first.speaker, first.session, first.dialog) == ("Ses01F", "1", "Ses01M_script01_1b")
    assert utterances["Ses02F_impro01_M001"].speaker == "Ses02M"
    assert first.transcript == "Said in Ses01M_script01_1b_F000."
    assert first.path == iemocap_root / f"Session1/sentences/wav/Ses01M_script01_1b/{first.id}.wav"
    assert {utterance.speaker for utterance in utterances.values()} == {
        "Ses01F", "Ses01M", "Ses02F", "Ses02M",
    }  # fmt: skip


def test_the_soft_label_of_iemocap_is_that_of_its_evaluators(tmp_path):
    root = tmp_path / "IEMOCAP"
    iemocap_dialog(root, "Ses03F_impro01", {"F000": "ang", "F001": "neu"})
    annotators = ["Anger;", "Neutral; Anger;", "Other;", "Excited"]
    put(root / "Session3/dialog/EmoEvaluation/Ses03F_impro01.txt",
        iemocap_label("Ses03F_impro01_F000", "ang", annotators)
        + iemocap_label("Ses03F_impro01_F001", "neu", []))  # fmt: skip
    first, second = iemocap.utterances(root).utterances
    # the actor's own C-F1 (fear) does not count, nor does Other: 1.5, 0.5 and 1 of 3 votes
    assert first.soft_label == {
        "anger": pytest.approx(0.5), "excitement": pytest.approx(1 / 3), "neutral": pytest.approx(1 / 6),
    }  # fmt: skip
    assert second.soft_label is None


def test_the_usual_task_of_iemocap_merges_soft_labels_too(tmp_path):
    root = tmp_path / "IEMOCAP"
    iemocap_dialog(root, "Ses03F_impro01", {"F000": "exc", "F001": "ang", "F002": "neu"})
    annotators = ["Excited;", "Happiness; Surprise;", "Frustration;", "Neutral state;"]
    put(root / "Session3/dialog/EmoEvaluation/Ses03F_impro01.txt",
        iemocap_label("Ses03F_impro01_F000", "exc", annotators)
        + iemocap_label("Ses03F_impro01_F001", "ang")
        + iemocap_label("Ses03F_impro01_F002", "neu"))  # fmt: skip
    happy, angry, _ = registry.load("IEMOCAP", tmp_path).utterances
    # surprise and frustration are not in the task: 1.5 and 1 of the 2.5 votes that remain
    assert happy.soft_label == {"happiness": pytest.approx(0.6), "neutral": pytest.approx(0.4)}
    assert (happy.emotion, angry.soft_label) == ("happiness", {"anger": 1.0})


def test_the_usual_task_of_iemocap_counts_excitement_as_happiness(iemocap_root):
    corpus = registry.load("IEMOCAP", iemocap_root.parent)
    assert Counter(utterance.emotion for utterance in corpus.utterances) == {
        "anger": 2, "happiness": 8, "neutral": 2, "sadness": 4,
    }  # fmt: skip
    assert corpus.merged == {"excitement": "happiness"}
    assert corpus.left_out == {
        "no majority among the annotators (xxx)": 2,
        "an emotion that has no name here (oth)": 2,
        "disgust, which is not in the task": 2,
        "fear, which is not in the task": 2,
        "frustration, which is not in the task": 2,
        "surprise, which is not in the task": 2,
    }


def test_improvised_iemocap_without_excitement(iemocap_root):
    four = ("anger", "happiness", "neutral", "sadness")
    corpus = registry.load("IEMOCAP", iemocap_root.parent, audio_type="impro", emotions=four)
    assert Counter(utterance.emotion for utterance in corpus.utterances) == dict.fromkeys(four, 2)
    assert all("impro" in utterance.dialog for utterance in corpus.utterances)
    assert corpus.left_out["not of the part impro"] == 6
    assert corpus.left_out["excitement, which is not in the task"] == 2
    assert corpus.merged == {}
    script = registry.load("IEMOCAP", iemocap_root.parent, audio_type="script")
    assert Counter(utterance.emotion for utterance in script.utterances) == {"happiness": 4, "sadness": 2}


def test_the_full_release_of_iemocap_has_the_published_counts(tmp_path):
    """A tree of the full release's size; which session an utterance of a class is in is drawn."""
    sessions = {1: 1085, 2: 1023, 3: 1151, 4: 1031, 5: 1241}
    improvised = {"neu": 1099, "hap": 284, "exc": 663, "ang": 289, "sad": 608}
    everything = {"neu": 1708, "hap": 595, "exc": 1041, "ang": 1103, "sad": 1084}
    others = {"fru": 1849, "sur": 107, "fea": 40, "dis": 2, "oth": 3, "xxx": 2507}
    pool = [(code, "impro") for code, count in improvised.items() for _ in range(count)]
    pool += [(code, "script") for code in everything for _ in range(everything[code] - improvised[code])]
    order = np.random.default_rng(0).permutation(len(pool))
    ends = np.cumsum(list(sessions.values()))
    for session, indices in zip(sessions, np.split(order, ends[:-1]), strict=True):
        chosen = [pool[index] for index in indices]
        if session == 5:
            chosen += [(code, "script") for code, count in others.items() for _ in range(count)]
        for scene in ("impro", "script"):
            codes = [code for code, where in chosen if where == scene]
            for start in range(0, len(codes), 500):
                names = {f"{'FM'[n % 2]}{n:03}": code for n, code in enumerate(codes[start : start + 500])}
                iemocap_dialog(tmp_path / "IEMOCAP", f"Ses0{session}F_{scene}{start // 500:02}", names)

    def counted(**chosen) -> Counter:
        corpus = registry.load("IEMOCAP", tmp_path, **chosen)
        assert len(corpus.utterances) + sum(corpus.left_out.values()) == 10_039
        return Counter(utterance.emotion for utterance in corpus.utterances)

    usual = registry.load("IEMOCAP", tmp_path)
    assert len(usual.utterances) == 5531
    assert Counter(utterance.session for utterance in usual.utterances) == {
        str(session): size for session, size in sessions.items()
    }
    assert counted() == {"neutral": 1708, "happiness": 1636, "anger": 1103, "sadness": 1084}
    assert counted(audio_type="impro").total() == 2943
    four = ("anger", "happiness", "neutral", "sadness")
    assert counted(audio_type="impro", emotions=four).total() == 2280
    assert counted(emotions=(*four, "excitement", "frustration")) == {
        "neutral": 1708, "happiness": 595, "excitement": 1041, "anger": 1103, "sadness": 1084,
        "frustration": 1849,
    }  # fmt: skip


LABELS = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
TRANSCRIPTS = "Session1/dialog/transcriptions/Ses01F_impro01.txt"
WAVS = "Session1/sentences/wav/Ses01F_impro01"


def test_a_missing_label_file_of_iemocap_is_named(iemocap_root):
    (iemocap_root / LABELS).unlink()
    assert refusal(iemocap.utterances, iemocap_root).startswith(f"{iemocap_root / LABELS} is missing.")


def test_a_missing_transcript_file_of_iemocap_stops_no_one_who_only_listens(iemocap_root):
    (iemocap_root / TRANSCRIPTS).unlink()
    corpus = iemocap.utterances(iemocap_root)
    untold = [each for each in corpus.utterances if each.transcript is None]
    assert {each.dialog for each in untold} == {"Ses01F_impro01"}
    (note,) = [note for note in corpus.notes if "transcript" in note]
    assert note.startswith("9 of 24 recordings have no transcript, e.g. Ses01F_impro01_F000: ")
    assert f"{iemocap_root / TRANSCRIPTS} is missing." in note


def test_a_label_line_of_iemocap_that_is_cut_off_is_named(iemocap_root):
    path = iemocap_root / LABELS
    text = path.read_text()
    for kept in ("[6.29", "- 8.2357]\tSes01F_impro01_F010", "\tdis\t[2.5000, 2.50"):
        end = (
            text.rindex(kept.split("\t")[0]) + len(kept)
            if "dis" not in kept
            else text.index(kept) + len(kept)
        )
        path.write_text(text[:end])
        message = refusal(iemocap.utterances, iemocap_root)
        assert message.startswith(f"{path}, line {text[:end].count(chr(10)) + 1}: expected [start - end]")
    path.write_text(text[: text.index("C-E3:") + 5])
    assert "an annotator's line that is cut off" in refusal(iemocap.utterances, iemocap_root)


@pytest.mark.parametrize("wrong", ["\tjoy\t", "\tANG\t"])
def test_an_unknown_emotion_of_iemocap_is_named_with_the_valid_ones(iemocap_root, wrong):
    path = iemocap_root / LABELS
    path.write_text(path.read_text().replace("\tang\t", wrong))
    assert refusal(iemocap.utterances, iemocap_root) == (
        f"{path}, line 3: unknown emotion {wrong.strip()!r}; "
        "expected ang hap exc sad neu fru fea sur dis xxx oth."
    )
    path.write_text(path.read_text().replace(wrong, "\tang\t").replace("\tAnger;", "\tWrath;"))
    assert "line 4: unknown emotion 'Wrath'; expected anger," in refusal(iemocap.utterances, iemocap_root)


def test_iemocaps_recordings_and_labels_come_in_pairs(iemocap_root):
    extra = put(iemocap_root / WAVS / "Ses01F_impro01_F099.wav")
    assert refusal(iemocap.utterances, iemocap_root) == (
        f"{extra} has no label: {iemocap_root / LABELS} does not list Ses01F_impro01_F099."
    )
    extra.unlink()
    (iemocap_root / WAVS / "Ses01F_impro01_F000.wav").unlink()
    assert refusal(iemocap.utterances, iemocap_root) == (
        f"{iemocap_root / LABELS} lists Ses01F_impro01_F000, "
        "but there is no recording Ses01F_impro01_F000.wav."
    )
    shutil.rmtree(iemocap_root / WAVS)
    assert f"{iemocap_root / LABELS} lists" in refusal(iemocap.utterances, iemocap_root)


def test_what_a_cut_transcript_file_of_iemocap_lacks_is_counted(iemocap_root):
    path = iemocap_root / TRANSCRIPTS
    path.write_text("\n".join(path.read_text().splitlines()[:5]))
    corpus = iemocap.utterances(iemocap_root)
    assert sum(each.transcript is None for each in corpus.utterances) == 5  # of 9 with a named emotion
    assert f"{path} does not have it." in " ".join(corpus.notes)


def test_a_dialog_in_the_wrong_session_or_an_utterance_in_the_wrong_dialog_is_named(iemocap_root):
    iemocap_dialog(iemocap_root, "Ses01F_impro02", {"F000": "ang"})
    put(iemocap_root / LABELS.replace("impro01", "impro03"), iemocap_label("Ses01F_impro02_F000", "ang"))
    put(iemocap_root / TRANSCRIPTS.replace("impro01", "impro03"), "Ses01F_impro02_F000 [0-1]: Yes.")
    path = put(iemocap_root / WAVS.replace("impro01", "impro03") / "Ses01F_impro02_F000.wav")
    assert refusal(iemocap.utterances, iemocap_root).startswith(f"{path} lies in a wrong folder")
    (iemocap_root / "Session1").rename(iemocap_root / "Session3")
    assert refusal(iemocap.utterances, iemocap_root).startswith(f"{iemocap_root / 'Session3'} holds Ses01F")


# RAVDESS


def test_ravdess_leaves_songs_out_and_tells_all_from_the_name(tmp_path):
    corpus = ravdess.utterances(corpus_trees.ravdess(tmp_path / "RAVDESS"))
    assert corpus.left_out == {"song, not speech (channel 02)": 12}
    calm = by_id(corpus)["03-01-02-01-02-01-12"]
    assert (calm.emotion, calm.speaker) == ("calm", "12")
    assert calm.transcript == "Dogs are sitting by the door."
    assert corpus.classes == (
        "anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise",
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["03-01-09-01-02-01-12", "02-01-06-01-02-01-12", "03-01-06-01-02-01-25", "x"]
)
def test_a_name_that_is_not_ravdess_s_is_refused(tmp_path, name):
    path = put(tmp_path / "Actor_12" / f"{name}.wav")
    message = refusal(ravdess.utterances, tmp_path)
    assert message.startswith(f"{path} is not named as RAVDESS")
    assert "emotion (01 02 03 04 05 06 07 08)" in message


def test_a_recording_in_another_actors_folder_is_refused(tmp_path):
    path = put(tmp_path / "Actor_11" / "03-01-06-01-02-01-12.wav")
    assert refusal(ravdess.utterances, tmp_path) == (
        f"{path} is a recording of actor 12: move it to {tmp_path / 'Actor_12'}."
    )


# CREMA-D


def test_the_soft_label_of_crema_d_is_that_of_the_voice_alone(tmp_path):
    corpus = cremad.utterances(corpus_trees.crema_d(tmp_path))
    utterances = by_id(corpus)
    angry = utterances["1001_DFA_ANG_XX"]
    assert (angry.emotion, angry.speaker, angry.transcript) == ("anger", "1001", "Don't forget a jacket.")
    assert angry.soft_label == {"anger": 0.6, "disgust": 0.2, "neutral": 0.2}
    # the release's one misnamed file finds its votes
    assert utterances["1040_ITH_SAD_X"].soft_label == {"anger": 0.6, "disgust": 0.2, "neutral": 0.2}


def test_a_code_of_crema_d_is_of_its_sentences_initials():
    assert len(set(cremad.SENTENCES.values())) == 12
    for code, sentence in cremad.SENTENCES.items():
        initials = iter(word[0].upper() for word in sentence.split())
        assert all(letter in initials for letter in code), sentence


def test_crema_d_without_its_table_has_no_soft_labels(tmp_path):
    (corpus_trees.crema_d(tmp_path) / "processedResults/tabulatedVotes.csv").unlink()
    assert {utterance.soft_label for utterance in cremad.utterances(tmp_path).utterances} == {None}


def test_a_wrong_table_of_votes_is_named(tmp_path):
    table = corpus_trees.crema_d(tmp_path) / "processedResults/tabulatedVotes.csv"
    text = table.read_text()
    put(table, text.replace('"100001",6', '"100001",many'))
    assert refusal(cremad.utterances, tmp_path).startswith(f"{table}, line 2: cut off or damaged")
    put(table, text[: text.rindex(",0,8") + 2])
    assert refusal(cremad.utterances, tmp_path).startswith(f"{table}, line {text.count(chr(10))}: cut off")
    put(table, text.replace("1001_DFA_ANG_XX", "1091_DFA_ANG_XX"))
    assert "1001_DFA_ANG_XX.wav has no votes: " in refusal(cremad.utterances, tmp_path)
    put(table, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert refusal(cremad.utterances, tmp_path).endswith("If it is a Git LFS pointer, run git lfs pull.")


@pytest.mark.parametrize("name", ["1001_DFA_JOY_XX", "1001_XXX_ANG_XX", "1001_DFA_ANG", "2001_DFA_ANG_XX"])
def test_a_name_that_is_not_crema_ds_is_refused(tmp_path, name):
    path = put(tmp_path / "AudioWAV" / f"{name}.wav")
    message = refusal(cremad.utterances, tmp_path)
    assert message.startswith(f"{path} is not named as CREMA-D")
    assert "(ANG DIS FEA HAP NEU SAD)" in message


# TESS


def test_tess_reads_one_folder_or_folders_and_its_misnamed_file(tmp_path):
    root = corpus_trees.tess(tmp_path / "TESS")
    corpus = tess.utterances(root)
    flat = tmp_path / "flat"
    for utterance in corpus.utterances:
        put(flat / utterance.path.name)
    assert [
        (utterance.id, utterance.emotion, utterance.speaker, utterance.transcript)
        for utterance in tess.utterances(flat).utterances
    ] == [
        (utterance.id, utterance.emotion, utterance.speaker, utterance.transcript)
        for utterance in corpus.utterances
    ]
    utterances = by_id(corpus)
    assert utterances["YAF_back_ps"].emotion == "surprise"
    assert utterances["YAF_back_ps"].transcript == "Say the word back."
    assert utterances["OA_bite_neutral"].speaker == "OAF"
    assert corpus.speakers == ("OAF", "YAF")


def test_tess_twice_over_or_in_a_wrong_folder_is_refused(tmp_path):
    root = corpus_trees.tess(tmp_path / "TESS")
    first, second = root / "OAF_angry/OAF_back_angry.wav", put(root / "data/OAF_angry/OAF_back_angry.wav")
    assert refusal(tess.utterances, root) == f"{first} and {second} are one recording: keep one of them."
    shutil.rmtree(root / "data")
    path = put(root / "YAF_angry" / "OAF_bar_angry.wav")
    assert refusal(tess.utterances, root) == f"{path} is a recording of OAF, but lies in a folder of YAF."
    path.rename(path.with_name("YAF_bar_joyful.wav"))
    assert "emotion (angry disgust fear happy neutral ps sad)" in refusal(tess.utterances, root)


def test_what_is_an_aiff_despite_its_name_or_stereo_is_read_by_content(tmp_path):
    """As in TESS (AIFF, 96 kHz) and RAVDESS (stereo)."""
    data = tmp_path / "data"
    corpus_trees.tess(data / "TESS")
    corpus_trees.ravdess(data / "RAVDESS")
    found = {utterance.id: utterance.path for name in ("TESS", "RAVDESS")
             for utterance in registry.load(name, data).utterances}  # fmt: skip
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000)
    for name in ("YAF_back_angry", "OAF_back_sad", "03-01-05-01-02-01-01"):
        waveform = audio.read(found[name])
        assert abs(len(waveform) - 8_000) <= 1
        np.testing.assert_allclose(waveform[2000:6000], expected[2000:6000], atol=2e-3)


# ESD


def test_esd_reads_its_encodings_with_or_without_parts_and_leaves_mandarin_out(tmp_path):
    corpus = esd.utterances(corpus_trees.esd(tmp_path))
    assert corpus.speakers == ("0011", "0012", "0016")
    assert corpus.left_out == {"Mandarin (speakers 0001 to 0010)": 1}
    assert {utterance.transcript for utterance in corpus.utterances} == {
        f"It was café number {number}." for number in range(1, 11)
    }
    utterances = by_id(corpus)
    assert utterances["0011_000002"].emotion == "happiness"
    assert [utterances[f"0011_{number:06}"].split for number in (4, 5, 6, 7)] == [
        None, "train", "evaluation", "test",
    ]  # fmt: skip
    assert utterances["0012_000005"].split is None


def test_the_lines_of_esd_that_are_irregular_as_published_are_read(tmp_path):
    lines = {
        "0015_000137": "0015_000137\tLet the glass globe be.",
        "0015_000138": "0015_000138 But one requires the explorer. Neutral",
        "0015_000175": "0015_000175 All this have we won.\tNeutral",
    }
    for name in lines:
        put(tmp_path / "0015" / "Neutral" / f"{name}.wav")
    put(tmp_path / "0015" / "0015.txt", "\n".join(lines.values()))
    assert [
        (utterance.transcript, utterance.emotion) for utterance in esd.utterances(tmp_path).utterances
    ] == [
        ("Let the glass globe be.", "neutral"),
        ("But one requires the explorer.", "neutral"),
        ("All this have we won.", "neutral"),
    ]


def test_a_wrong_tree_of_esd_is_named(tmp_path):
    root = corpus_trees.esd(tmp_path)
    lines = root / "0011" / "0011.txt"
    text = lines.read_text()
    put(lines, text.replace("\tHappy", "", 1))
    assert refusal(esd.utterances, root).startswith(
        f"{lines}, line 2: expected id, text and emotion with tabs"
    )
    put(lines, text.replace("\tHappy", "\tHappier", 1))
    assert refusal(esd.utterances, root) == (
        f"{lines}, line 2: unknown emotion 'Happier'; expected Angry, Happy, Neutral, Sad, Surprise."
    )
    put(lines, text.replace("\tHappy", "\tSad", 1))
    assert refusal(esd.utterances, root).endswith(f"lies in the folder Happy, but {lines} says Sad.")
    put(lines, text[: text.index("0011_000010")])
    assert "0011_000010.wav has no label: " in refusal(esd.utterances, root)
    put(lines, text + "0011_000099\tNo such clip.\tSad\n")
    assert refusal(esd.utterances, root).startswith(f"{lines} lists 0011_000099, but there is no recording")
    put(lines, text + text)
    assert refusal(esd.utterances, root) == f"{lines}, line 12: 0011_000001 occurs twice."
    lines.unlink()
    assert refusal(esd.utterances, root).startswith(f"{lines} is missing.")
    put(lines, text)
    shutil.rmtree(root / "0012" / "Sad")
    assert f"{root / '0012' / '0012.txt'} lists 0012_000004" in refusal(esd.utterances, root)
    for word in ("Angry", "Happy", "Neutral", "Surprise"):
        shutil.rmtree(root / "0012" / word)
    assert f"{root / '0012' / '0012.txt'} lists 0012_000001" in refusal(esd.utterances, root)


def test_a_recording_of_esd_in_a_wrong_folder_is_named(tmp_path):
    root = corpus_trees.esd(tmp_path)
    path = put(root / "0011" / "Joy" / "0011_000051.wav")
    assert refusal(esd.utterances, root).startswith(f"{path} lies in a wrong folder")
    path.unlink()
    path = put(root / "0012" / "Sad" / "0011_000051.wav")
    assert refusal(esd.utterances, root).startswith(f"{path} is not ESD's")
    path.unlink()
    put(root / "0012" / "Sad" / "test" / "0012_000004.wav")
    assert "are one recording: keep one of them." in refusal(esd.utterances, root)


def test_esd_without_english_says_so(tmp_path):
    put(tmp_path / "0001" / "Angry" / "0001_000351.wav")
    assert refusal(esd.utterances, tmp_path).startswith("no recordings of the English speakers 0011 to 0020")


# KEMDy19 and KEMDy20


def test_kemdy19_reads_the_talkers_own_table(tmp_path):
    root = corpus_trees.kemdy19(tmp_path)
    corpus = kemdy19.utterances(root)
    assert len(corpus.utterances) == 60
    assert corpus.speakers == ("Sess01F", "Sess01M", "Sess02F", "Sess02M", "Sess03F", "Sess03M")
    first = corpus.utterances[0]
    assert (first.id, first.session, first.dialog) == ("Sess01_impro01_F001", "01", "Sess01_impro01")
    assert first.transcript == "Sess01_impro01_F001 안녕하세요."
    assert first.emotion == "neutral"
    second = corpus.utterances[1]
    assert (second.emotion, second.soft_label) == ("happiness", {"happiness": 0.7, "neutral": 0.3})
    improvised = registry._part(corpus, "impro")
    assert len(improvised.utterances) == 30
    assert improvised.left_out == {"not of the part impro": 30}


def test_kemdy20_reads_cp949(tmp_path):
    corpus = kemdy20.utterances(corpus_trees.kemdy20(tmp_path))
    assert corpus.speakers == ("User001F", "User002M", "User003F", "User004M")
    first = corpus.utterances[0]
    assert (first.id, first.session, first.dialog) == (
        "Sess01_script01_User001F_001", "01", "Sess01_script01",
    )  # fmt: skip
    assert first.transcript == "Sess01_script01_User001F_001 그래요."


@pytest.mark.parametrize("name", ["KEMDy19", "KEMDy20"])
def test_ties_of_kemdy_are_left_out_and_its_typo_is_disgust(tmp_path, name):
    root = corpus_trees.TREES[name](tmp_path / name)
    for table in (root / "annotation").iterdir():
        text = table.read_text().replace(",surprise,3.1", ",neutral;happy,3.1")
        put(table, text.replace("disgust", "disqust").replace(",sad,3,3", ",sad;fear,3,3", 1))
    corpus = registry.load(name, tmp_path)
    # KEMDy19's third session has one of each of the first four words
    more = name == "KEMDy19"
    assert corpus.left_out == {"a tie between emotions": 8 + more}
    counts = Counter(utterance.emotion for utterance in corpus.utterances)
    assert counts == {
        **dict.fromkeys(("neutral", "happiness", "anger"), 8 + more),
        **dict.fromkeys(("sadness", "disgust", "fear"), 8),
    }
    sad = next(utterance for utterance in corpus.utterances if utterance.emotion == "sadness")
    assert sad.soft_label == {
        "fear": pytest.approx(0.05), "neutral": pytest.approx(0.3), "sadness": pytest.approx(0.65),
    }  # fmt: skip


def test_the_tags_of_kemdy_are_cleaned_away():
    assert kemdy.transcript("n/ b/아니 l/  왜u/ o/그래 TV c/\n") == "아니 왜 그래 TV"
    assert kemdy.transcript("아니 /n 왜/n and/or") == "아니 왜 and/or"
    # that nothing was said is known, unlike where there is no transcript
    assert kemdy.transcript("n/ b/\n") == ""


def test_of_two_talkers_at_once_the_first_ones_words_are_kept():
    assert kemdy.transcript("그래 (n/ 아니+왜 그래) 좋아 (+네) 1+1") == "그래 아니 좋아 1+1"
    assert kemdy.transcript("(컴퓨터)/(컴퓨타) (네)") == "컴퓨터 (네)"


def test_a_text_of_kemdy_in_another_encoding_or_missing_is_no_transcript_and_is_counted(tmp_path):
    root = corpus_trees.kemdy19(tmp_path / "19")
    path = root / "wav/Session01/Sess01_impro01/Sess01_impro01_F003.txt"
    put(path, "안녕하세요", encoding="cp949")
    corpus = kemdy19.utterances(root)
    assert [each.id for each in corpus.utterances if each.transcript is None] == ["Sess01_impro01_F003"]
    told = f"1 of {len(corpus.utterances)} recordings have no transcript, e.g. Sess01_impro01_F003: {path} is"
    assert any(note.startswith(told) for note in corpus.notes)
    root = corpus_trees.kemdy20(tmp_path / "20")
    path = root / "wav/Session01/Sess01_script01_User001F_003.txt"
    for text in ("안녕하세요", "그래", None):  # the second passes for CP949
        if text is None:
            path.unlink()
        else:
            put(path, text)
        corpus = kemdy20.utterances(root)
        assert [each.id for each in corpus.utterances if each.transcript is None] == [path.stem]
        assert any(f"{path} is " in note for note in corpus.notes)


def test_a_wrong_table_of_kemdy_is_named(tmp_path):
    segments = [f"Sess01_script01_User001F_{number:03}" for number in range(1, 4)]
    table = tmp_path / "Sess01_eval.csv"
    text = kemdy_table(kemdy_rows(segments), bio=False)

    def told(wrong: str) -> str:
        put(table, wrong)
        findings = Findings("made")
        with findings.of(table):
            kemdy.labels(table, findings)
        return next(iter(findings.bad.values()))

    assert len(kemdy.labels(put(table, text + ",,,,\n\n"), Findings("made"))) == 3
    assert told("") == f"{table}: the first row lacks Segment ID and Total Evaluation."
    assert told(text.replace("Total Evaluation", "Total")).endswith("lacks Total Evaluation.")
    assert told(text[:-20]).startswith(f"{table}, line 5: the row is cut off or damaged")
    assert told(text.replace("neutral,3.1", "calm,3.1")).startswith(
        f"{table}, line 3: unknown emotion 'calm'; expected neutral, happy, surprise, angry, sad, disgust,"
    )
    assert told(text.replace(",happy,3.1", ",,3.1")) == (
        f"{table}, line 4: {segments[1]} has no emotion under Total Evaluation."
    )
    assert told(text.replace(segments[2], segments[0])) == f"{table}, line 5: {segments[0]} occurs twice."
    assert told(text.replace(segments[2], "")).startswith(f"{table}, line 5: the row is cut off or damaged")
    without = "\n".join(line.split(",Eval01F")[0] for line in text.splitlines())
    assert told(without).endswith("names no evaluators after Total Evaluation.")


@pytest.mark.parametrize("name", ["KEMDy19", "KEMDy20"])
def test_kemdys_recordings_and_labels_come_in_pairs(tmp_path, name):
    root = corpus_trees.TREES[name](tmp_path / name)
    load = registry.CORPORA[name].utterances
    wavs = sorted((root / "wav").rglob("*.wav"))
    wavs[0].unlink()
    assert f"lists {wavs[0].stem}, but there is no recording" in refusal(load, root)
    shutil.rmtree(root / "wav" / "Session01")
    assert "but there is no recording Sess01" in refusal(load, root)
    tables = sorted((root / "annotation").iterdir())
    tables[-1].unlink()
    for table in tables[:-1]:
        if "01" in table.name:
            table.unlink()
    assert refusal(load, root).startswith(f"{tables[-1]} is missing.")


def test_a_recording_of_kemdy_in_a_wrong_folder_is_named(tmp_path):
    root = corpus_trees.kemdy19(tmp_path / "19")
    path = put(root / "wav/Session02/Sess02_impro01/Sess01_impro01_F001.wav")
    assert refusal(kemdy19.utterances, root).startswith(f"{path} is not where KEMDy19 has its recordings")
    root = corpus_trees.kemdy20(tmp_path / "20")
    path = put(root / "wav/Session02/Sess01_script01_User001F_001.wav")
    assert refusal(kemdy20.utterances, root).startswith(f"{path} is not where KEMDy20 has its recordings")
