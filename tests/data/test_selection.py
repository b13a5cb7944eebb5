"""What a run works on: recordings that can be read, labels, folds."""

import numpy as np
import pytest
import soundfile

from light_sernet_kd.config import make_settings
from light_sernet_kd.data.selection import representative, selected
from light_sernet_kd.errors import UserError


@pytest.fixture
def manifest(tmp_path):
    """Six recordings of three speakers, two emotions each."""
    lines = ["path,emotion,speaker"]
    for number, name in enumerate(("a1", "a2", "b1", "b2", "c1", "c2")):
        samples = np.random.default_rng(number).normal(0, 0.1, 4000)
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
        lines.append(f"{name}.wav,{('fear', 'anger')[number % 2]},{name[0]}")
    (tmp_path / "six.csv").write_text("\n".join(lines))
    return tmp_path / "six.csv"


def chosen(manifest, **settings):
    return selected(make_settings(corpus=str(manifest), **settings), manifest.parent)


def test_labels_are_the_classes_alphabetical_indices(manifest):
    found = chosen(manifest)
    assert found.classes == ("anger", "fear")
    assert found.labels.tolist() == [1, 0] * 3
    assert [fold.name for fold in found.folds] == ["a", "b", "c"]
    assert found.final_fold.train == tuple(range(6))
    assert found.speakers([4, 0, 1]) == ["a", "c"]


def test_only_the_folds_that_are_named_run(manifest):
    assert [fold.name for fold in chosen(manifest, folds=["c", "a"]).folds] == ["a", "c"]


def test_skip_bad_leaves_out_what_cannot_be_read_and_says_why(manifest):
    (manifest.parent / "b1.wav").write_text("no audio")
    (manifest.parent / "c1.wav").unlink()
    with pytest.raises(UserError, match="2 of 6 recordings cannot be used"):
        chosen(manifest)
    found = chosen(manifest, skip_bad=True)
    assert [utterance.id for utterance in found.utterances] == ["a1", "a2", "b2", "c2"]
    assert [row["id"] for row in found.skipped] == ["b1", "c1"]
    assert "is not audio" in found.skipped[0]["reason"]
    assert "no such recording" in found.skipped[1]["reason"]


def test_a_sound_corpus_loses_nothing_to_skip_bad(manifest):
    assert chosen(manifest, skip_bad=True).skipped == []


def test_one_emotion_is_too_few(manifest):
    manifest.write_text(manifest.read_text().replace("anger", "fear"))
    with pytest.raises(UserError, match="six has 1 emotion; at least 2 are needed"):
        chosen(manifest)


@pytest.mark.parametrize("name", ["unsure", "Unsure"])
def test_no_class_may_be_called_as_an_answer_that_is_none(manifest, name):
    """A stream's label is `unsure` where the sound says too little: nobody could tell the two apart."""
    manifest.write_text(manifest.read_text().replace("anger", name))
    with pytest.raises(UserError, match=r"unsure"):
        chosen(manifest)


def test_the_task_chooses_and_merges(manifest):
    found = chosen(manifest, emotions=["fear=sadness", "anger"])
    assert found.classes == ("anger", "sadness")
    assert found.corpus.merged == {"fear": "sadness"}


def test_two_corpora_share_their_emotions_and_no_name(manifest, tmp_path):
    other = tmp_path / "other.csv"
    for number, name in enumerate(("a1", "a2", "b1")):
        soundfile.write(tmp_path / f"o{name}.wav", np.random.default_rng(9 + number).random(4000), 16_000)
    other.write_text("path,emotion,speaker,id\noa1.wav,anger,a,a1\noa2.wav,fear,a,a2\nob1.wav,boredom,b,b1\n")
    found = chosen(manifest, test_on=str(other), protocol="cross_corpus")
    assert found.corpus.name == "six → other"
    (fold,) = found.folds
    sets = [{found.utterances[i].id for i in part} for part in (fold.train, fold.validation, fold.test)]
    assert sets == [
        {"six/b1", "six/b2", "six/c1", "six/c2"},
        {"six/a1", "six/a2"},
        {"other/a1", "other/a2"},
    ]
    # Nothing of the corpus that tests is in what the exported student learns from.
    assert {found.utterances[i].id.split("/")[0] for i in found.final_fold.train} == {"six"}
    assert found.corpus.left_out == {"other: boredom, which the other corpus lacks": 1}
    other.write_text("path,emotion,speaker\noa1.wav,boredom,a\n")
    with pytest.raises(UserError, match="at least two emotions must be in both"):
        chosen(manifest, test_on=str(other), protocol="cross_corpus")
    with pytest.raises(UserError, match="trains already: --test-on takes another corpus"):
        chosen(manifest, test_on=str(manifest), protocol="cross_corpus")


def counts(values, drawn):
    names, found = np.unique(np.asarray(values)[drawn], return_counts=True)
    return dict(zip(names.tolist(), found.tolist(), strict=True))


def test_a_representative_draw_of_emodb_is_even_over_classes_and_speakers(shared_data):
    found = selected(make_settings(corpus="EMO-DB"), shared_data)
    speakers = [utterance.speaker for utterance in found.utterances]
    for most in (10, 16, 64, 128):
        drawn = representative(found.labels, speakers, most)
        assert drawn == sorted(set(drawn))
        assert len(drawn) == most
        for values, kinds in ((found.labels, 7), (speakers, 10)):
            shares = counts(values, drawn)
            assert len(shares) == kinds
            assert max(shares.values()) - min(shares.values()) <= 1
    # nor is it always the same sentence
    sentences = {found.utterances[i].id[2:5] for i in representative(found.labels, speakers, 64)}
    assert len(sentences) == 10


def test_a_representative_draw_misses_no_class_and_no_speaker():
    # Speaker 0 says everything; the others say class 0 once each; class 3 was said once.
    labels = np.array([0] * 500 + [1] * 500 + [2] * 500 + [3] + [0] * 20)
    speakers = ["0"] * 1501 + [f"other {i}" for i in range(20)]
    drawn = representative(labels, speakers, 25)
    assert counts(speakers, drawn) == {"0": 5, **{f"other {i}": 1 for i in range(20)}}
    assert {*counts(labels, drawn)} == {0, 1, 2, 3}
    assert representative(labels, speakers, 25) == drawn
    assert representative(labels[:9], speakers[:9], 25) == [*range(9)]
    assert representative(labels, speakers, 2000) == [*range(1521)]


def test_what_is_new_goes_before_what_is_behind():
    """A corpus in which filling up shares alone would miss one: (class, speaker) → utterances."""
    cells = {
        **{(0, 2): 2, (0, 7): 3, (1, 0): 1, (1, 1): 7, (2, 0): 7, (2, 2): 7},
        **{(2, 3): 6, (2, 4): 2, (2, 7): 6, (2, 8): 1, (3, 0): 5, (3, 9): 6},
    }
    pairs = [cell for cell, count in cells.items() for _ in range(count)]
    labels, speakers = np.array([label for label, _ in pairs]), [str(speaker) for _, speaker in pairs]
    drawn = representative(labels, speakers, 4 + 8)
    assert len(counts(labels, drawn)) == 4
    assert len(counts(speakers, drawn)) == 8
